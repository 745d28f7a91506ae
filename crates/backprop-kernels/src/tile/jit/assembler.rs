//! Machine instructions as bytes: VEX (AVX2) and EVEX (AVX-512) of the Intel 64 manual, volume 2, chapter 2.

/// A general-purpose register by its number.
pub(super) type Gpr = u8;
pub(super) const RAX: Gpr = 0;
pub(super) const RCX: Gpr = 1;
pub(super) const RDX: Gpr = 2;
pub(super) const RDI: Gpr = 7;
pub(super) const R8: Gpr = 8;
pub(super) const R9: Gpr = 9;

/// The mask register of the lanes that are there.
pub(super) const LANES: u8 = 1;

/// An instruction on vectors.
#[derive(Clone, Copy)]
pub(super) struct Op {
    /// Table of the code: 1 (0F), 2 (0F 38) or 3 (0F 3A).
    map: u8,
    /// Prefix: 0 none, 1 (66), 2 (F3) or 3 (F2).
    prefix: u8,
    byte: u8,
}

/// Declares instructions by table, prefix and byte.
macro_rules! ops {
    ($($name:ident = $map:literal $prefix:literal $byte:literal;)*) => {
        $(pub(super) const $name: Op = Op { map: $map, prefix: $prefix, byte: $byte };)*
    };
}
ops! {
    MOVUPS_LOAD = 1 0 0x10;
    MOVUPS_STORE = 1 0 0x11;
    MOVNTPS = 1 0 0x2b;
    MOVAPS = 1 0 0x28;
    SQRTPS = 1 0 0x51;
    ANDPS = 1 0 0x54;
    ORPS = 1 0 0x56;
    XORPS = 1 0 0x57;
    ADDPS = 1 0 0x58;
    MULPS = 1 0 0x59;
    CVTDQ2PS = 1 0 0x5b;
    SUBPS = 1 0 0x5c;
    MINPS = 1 0 0x5d;
    DIVPS = 1 0 0x5e;
    MAXPS = 1 0 0x5f;
    CMPPS = 1 0 0xc2;
    SHIFT_BY = 1 1 0x72;
    PSUBD = 1 1 0xfa;
    PADDD = 1 1 0xfe;
    BROADCASTSS = 2 1 0x18;
    PTESTMD = 2 1 0x27;
    MASKMOVPS_LOAD = 2 1 0x2c;
    MASKMOVPS_STORE = 2 1 0x2e;
    PMOVZXBD = 2 1 0x31;
    PMOVDB = 2 2 0x31;
    BLENDMPS = 2 1 0x65;
    FMADD213PS = 2 1 0xa8;
    FMADD231PS = 2 1 0xb8;
    ROUNDPS = 3 1 0x08;
    BLENDVPS = 3 1 0x4a;
    KANDW = 1 0 0x41;
    KORW = 1 0 0x45;
    KXORW = 1 0 0x47;
}

/// The last operand of an instruction.
#[derive(Clone, Copy)]
pub(super) enum Place {
    Register(u8),
    /// `[base + rax·scale]`, scale as a power of two.
    Stream {
        base: Gpr,
        scale: u8,
    },
    /// `[base + displacement]`: with AVX-512 one element for all lanes.
    Scalar {
        base: Gpr,
        displacement: i32,
    },
}

/// What a mask register does to the lanes that are not in it.
#[derive(Clone, Copy, Default)]
pub(super) struct Masking {
    register: u8,
    zero: bool,
}

impl Masking {
    /// Zeros in the other lanes.
    pub(super) fn zero(register: u8) -> Masking {
        Masking { register, zero: true }
    }

    /// The other lanes are left alone, or blended.
    pub(super) fn merge(register: u8) -> Masking {
        Masking { register, zero: false }
    }
}

/// Bytes in the making.
pub(super) struct Assembler {
    pub(super) bytes: Vec<u8>,
    /// AVX-512 and not AVX2.
    pub(super) wide: bool,
}

impl Assembler {
    /// `op target, first, last`; `first` is 0 where there are two operands.
    pub(super) fn vector(&mut self, op: Op, target: u8, first: u8, last: Place) {
        self.masked(op, target, first, last, Masking::default());
    }

    /// The same with an immediate byte.
    pub(super) fn vector_by(&mut self, op: Op, target: u8, first: u8, last: Place, immediate: u8) {
        self.vector(op, target, first, last);
        self.bytes.push(immediate);
    }

    /// The same under a mask; only with AVX-512.
    pub(super) fn masked(&mut self, op: Op, target: u8, first: u8, last: Place, masking: Masking) {
        match self.wide {
            true => self.evex(op, target, first, last, masking),
            false => self.vex(op, target, first, last, 1),
        }
        self.operand(target, last);
    }

    /// `prefetcht0 [base + 4·rax + displacement]`.
    pub(super) fn prefetch(&mut self, base: Gpr, displacement: i32) {
        self.bytes.extend([0x40 | base >> 3, 0x0f, 0x18, 0x8c, 2 << 6 | RAX << 3 | base & 7]);
        self.bytes.extend(displacement.to_le_bytes());
    }

    /// A load of a whole vector from `[base + displacement]` in AVX2.
    pub(super) fn vector_at(&mut self, op: Op, target: u8, base: Gpr, displacement: i32) {
        let place = Place::Scalar { base, displacement };
        self.vex(op, target, 0, place, 1);
        self.operand(target, place);
    }

    /// `op target, first, last` on mask registers.
    pub(super) fn mask(&mut self, op: Op, target: u8, first: u8, last: u8) {
        self.vex(op, target, first, Place::Register(last), 1);
        self.operand(target, Place::Register(last));
    }

    /// Sets a mask register to the low bits of eax.
    pub(super) fn mask_from_eax(&mut self, target: u8) {
        self.bytes.extend([0xc5, 0xf8, 0x92, 0xc0 | target << 3]);
    }

    fn vex(&mut self, op: Op, target: u8, first: u8, last: Place, length: u8) {
        let [x, b] = high_bits(last);
        self.bytes.push(0xc4);
        self.bytes.push(not(target >> 3) << 7 | not(x) << 6 | not(b) << 5 | op.map);
        self.bytes.push((!first & 15) << 3 | length << 2 | op.prefix);
        self.bytes.push(op.byte);
    }

    fn evex(&mut self, op: Op, target: u8, first: u8, last: Place, masking: Masking) {
        let [x, b] = high_bits(last);
        let broadcast = u8::from(matches!(last, Place::Scalar { .. }) && op.byte != BROADCASTSS.byte);
        self.bytes.push(0x62);
        self.bytes.push(not(target >> 3) << 7 | not(x) << 6 | not(b) << 5 | not(target >> 4) << 4 | op.map);
        self.bytes.push((!first & 15) << 3 | 1 << 2 | op.prefix);
        self.bytes.push(u8::from(masking.zero) << 7 | 2 << 5 | broadcast << 4 | not(first >> 4) << 3 | masking.register);
        self.bytes.push(op.byte);
    }

    /// The bytes that name the last operand.
    fn operand(&mut self, target: u8, last: Place) {
        let reg = (target & 7) << 3;
        match last {
            Place::Register(register) => self.bytes.push(0xc0 | reg | register & 7),
            Place::Stream { base, scale } => self.bytes.extend([0x44 | reg, scale << 6 | RAX << 3 | base & 7, 0]),
            Place::Scalar { base, displacement } => {
                self.bytes.push(0x80 | reg | base & 7);
                if base & 7 == 4 {
                    self.bytes.push(0x24);
                }
                self.bytes.extend(displacement.to_le_bytes());
            }
        }
    }

    /// `mov target, [base + displacement]`; the base is none that needs a byte of its own.
    pub(super) fn load(&mut self, target: Gpr, base: Gpr, displacement: u8) {
        self.bytes.extend([0x48 | target >> 3 << 2 | base >> 3, 0x8b, 0x40 | (target & 7) << 3 | base & 7, displacement]);
    }

    /// `add target, [base + displacement]`, likewise.
    pub(super) fn add(&mut self, target: Gpr, base: Gpr, displacement: u8) {
        self.bytes.extend([0x48 | target >> 3 << 2 | base >> 3, 0x03, 0x40 | (target & 7) << 3 | base & 7, displacement]);
    }

    /// `add rax, count`.
    pub(super) fn advance(&mut self, count: u8) {
        self.bytes.extend([0x48, 0x83, 0xc0, count]);
    }

    /// `xor eax, eax`.
    pub(super) fn restart(&mut self) {
        self.bytes.extend([0x31, 0xc0]);
    }

    /// `cmp rax, [rdi + displacement]`.
    pub(super) fn compare(&mut self, displacement: u8) {
        self.bytes.extend([0x48, 0x3b, 0x47, displacement]);
    }

    /// `dec qword [rdi + displacement]`.
    pub(super) fn count_down(&mut self, displacement: u8) {
        self.bytes.extend([0x48, 0xff, 0x4f, displacement]);
    }

    /// `stmxcsr [rdi + displacement]`.
    pub(super) fn keep_control(&mut self, displacement: u8) {
        self.bytes.extend([0x0f, 0xae, 0x5f, displacement]);
    }

    /// `ldmxcsr [rdi + displacement]`.
    pub(super) fn set_control(&mut self, displacement: u8) {
        self.bytes.extend([0x0f, 0xae, 0x57, displacement]);
    }

    pub(super) fn push(&mut self, register: Gpr) {
        self.bytes.extend([0x40 | register >> 3, 0x50 | register & 7]);
    }

    pub(super) fn pop(&mut self, register: Gpr) {
        self.bytes.extend([0x40 | register >> 3, 0x58 | register & 7]);
    }

    /// `vzeroupper; ret`.
    pub(super) fn leave(&mut self) {
        self.bytes.extend([0xc5, 0xf8, 0x77, 0xc3]);
    }

    /// A jump under a condition; [`land`](Self::land) says later where to.
    pub(super) fn jump(&mut self, condition: Condition) -> usize {
        self.bytes.extend([0x0f, 0x80 | condition as u8, 0, 0, 0, 0]);
        self.bytes.len()
    }

    /// Lets a jump forward end here.
    pub(super) fn land(&mut self, jump: usize) {
        let distance = (self.bytes.len() - jump) as i32;
        self.bytes[jump - 4..jump].copy_from_slice(&distance.to_le_bytes());
    }

    /// A jump back to a position.
    pub(super) fn jump_back(&mut self, condition: Condition, to: usize) {
        let end = self.jump(condition);
        let distance = to as i32 - end as i32;
        self.bytes[end - 4..end].copy_from_slice(&distance.to_le_bytes());
    }
}

/// When a jump is taken.
#[derive(Clone, Copy)]
pub(super) enum Condition {
    Below = 2,
    NotBelow = 3,
    NotZero = 5,
}

/// The lowest bit inverted, as prefixes have it.
fn not(bit: u8) -> u8 {
    !bit & 1
}

/// Bits 4 and 3 of a register's number, or those of the index's and the base's.
fn high_bits(place: Place) -> [u8; 2] {
    match place {
        Place::Register(register) => [register >> 4, register >> 3],
        Place::Stream { base, .. } | Place::Scalar { base, .. } => [0, base >> 3],
    }
}
