//! From straight-line code to a function in machine instructions: registers are given out on the way, none is ever saved to memory.

use super::assembler::*;
use super::code::{Binary, Code, Id, Inst, Logic, Relation, Unary};

/// What a compiled function is called with. The order is that of the instructions.
#[repr(C)]
pub(super) struct Frame {
    /// Rows still to go; not zero at first.
    pub(super) rows: usize,
    /// Elements of a row.
    pub(super) length: usize,
    /// Those of them in whole vectors.
    pub(super) whole: usize,
    /// Address of each stream's first row.
    pub(super) addresses: *const *const u8,
    /// Bytes from row to row of each stream.
    pub(super) strides: *const isize,
    /// Slots of 64 bytes, each with one element in all lanes: those that are filled before each task, and the constants.
    pub(super) slots: *const u8,
    pub(super) constants: *const u8,
    /// The lanes of the last, partial vector: bits for AVX-512, whole elements for AVX2.
    pub(super) lanes: [u32; 8],
    /// What the function sets MXCSR, the word that controls arithmetic, to, and where it keeps what it was meanwhile.
    pub(super) control: u32,
    pub(super) control_before: u32,
}

const ROWS: u8 = 0;
const LENGTH: u8 = 8;
const WHOLE: u8 = 16;
const ADDRESSES: u8 = 24;
const STRIDES: u8 = 32;
const SLOTS: u8 = 40;
const CONSTANTS: u8 = 48;
const LANES_AT: u8 = 56;
const CONTROL: u8 = 88;
const CONTROL_BEFORE: u8 = 92;

/// MXCSR: no exception traps, rounding to nearest, and results that would be denormal become zero (bit 15). Some processors take a
/// hundred cycles for each of those, and tiny gradients have as many as there are parameters.
pub(super) const FLUSH: u32 = 0x9f80;

/// Bytes from what is loaded to what is asked for meanwhile. So many lines are on their way to a core that memory is as fast as for loops
/// without arithmetic; those that wait for a load in the reorder buffer are a third of that.
const AHEAD: i32 = 8 << 10;

/// Bytes of a slot of the pool.
pub(in crate::tile) const SLOT: usize = 64;

/// Registers that hold the streams' addresses.
const STREAMS: [Gpr; 11] = [RCX, RDX, 6, 10, 11, 3, 5, 12, 13, 14, 15];
/// The most streams of a function.
pub(in crate::tile) const MAX_STREAMS: usize = STREAMS.len();
/// Registers that belong to the caller.
const SAVED: [Gpr; 6] = [3, 5, 12, 13, 14, 15];

/// Where the registers of an instruction set end, and the first mask register that is free.
const WIDE_VECTORS: u8 = 32;
const NARROW_VECTORS: u8 = 15;
const MASKS: std::ops::Range<u8> = 2..8;
/// The register of the last vector's lanes in AVX2.
const NARROW_LANES: u8 = 15;

/// The elements of a stream.
#[derive(Clone, Copy)]
pub(in crate::tile) struct Elements {
    /// They are single bytes.
    pub(in crate::tile) flags: bool,
    /// Every row has the same.
    pub(in crate::tile) same: bool,
    /// They are stored past the caches, where each row begins with a cache line. Only with AVX-512.
    pub(in crate::tile) past: bool,
}

/// The instructions of a function of a [`Frame`] in the calling convention of System V; `None` if the code needs more registers than
/// there are.
pub(super) fn emit(code: &Code, streams: &[Elements], wide: bool) -> Option<Vec<u8>> {
    if streams.len() > MAX_STREAMS || (!wide && streams.iter().any(|stream| stream.flags)) {
        return None;
    }
    let mut asm = Assembler { bytes: Vec::new(), wide };
    SAVED.iter().for_each(|&r| asm.push(r));
    asm.keep_control(CONTROL_BEFORE);
    asm.set_control(CONTROL);
    asm.load(R8, RDI, SLOTS);
    asm.load(R9, RDI, CONSTANTS);
    if wide {
        asm.load(RAX, RDI, LANES_AT);
        asm.mask_from_eax(LANES);
    } else {
        asm.vector_at(MOVUPS_LOAD, NARROW_LANES, RDI, i32::from(LANES_AT));
    }
    asm.load(RAX, RDI, ADDRESSES);
    (0..streams.len()).for_each(|s| asm.load(STREAMS[s], RAX, 8 * s as u8));
    let row = asm.bytes.len();
    asm.restart();
    asm.compare(WHOLE);
    let no_whole = asm.jump(Condition::NotBelow);
    let next = asm.bytes.len();
    body(&mut asm, code, streams, false)?;
    asm.advance(if wide { 16 } else { 8 });
    asm.compare(WHOLE);
    asm.jump_back(Condition::Below, next);
    asm.land(no_whole);
    asm.compare(LENGTH);
    let no_part = asm.jump(Condition::NotBelow);
    body(&mut asm, code, streams, true)?;
    asm.land(no_part);
    asm.load(RAX, RDI, STRIDES);
    (0..streams.len()).for_each(|s| asm.add(STREAMS[s], RAX, 8 * s as u8));
    asm.count_down(ROWS);
    asm.jump_back(Condition::NotZero, row);
    asm.set_control(CONTROL_BEFORE);
    SAVED.iter().rev().for_each(|&r| asm.pop(r));
    asm.leave();
    Some(asm.bytes)
}

/// One vector: all of it, or the lanes that are there.
fn body(asm: &mut Assembler, code: &Code, streams: &[Elements], part: bool) -> Option<()> {
    let memory = |inst: &Inst| matches!(inst, Inst::Load { .. } | Inst::LoadFlags { .. });
    let last_load = code.insts.iter().rposition(memory).unwrap_or(0);
    // What is stored may overwrite what is still to be loaded: stores follow the last load.
    let stored_at = |id: Id| id.max(last_load);
    let mut last_use: Vec<usize> = (0..code.insts.len()).collect();
    for (at, inst) in code.insts.iter().enumerate() {
        inst.sources().for_each(|id| last_use[id] = at);
    }
    for &(id, _) in &code.stores {
        last_use[id] = last_use[id].max(stored_at(id));
    }
    let vectors = if asm.wide { WIDE_VECTORS } else { NARROW_VECTORS };
    let mut body = Body {
        asm,
        code,
        streams,
        part,
        last_use,
        place: vec![0; code.insts.len()],
        vectors: (0..vectors).rev().collect(),
        masks: MASKS.rev().collect(),
        now: 0,
    };
    for at in 0..code.insts.len() {
        body.now = at;
        body.inst(code.insts[at])?;
        for &(id, stream) in code.stores.iter().filter(|(id, _)| stored_at(*id) == at) {
            body.store(id, stream)?;
        }
        body.release(at);
    }
    Some(())
}

/// The state of one pass over the code.
struct Body<'a> {
    asm: &'a mut Assembler,
    code: &'a Code,
    streams: &'a [Elements],
    part: bool,
    /// The last instruction or store that needs a value.
    last_use: Vec<usize>,
    /// Register of each value that has one.
    place: Vec<u8>,
    /// Free registers.
    vectors: Vec<u8>,
    masks: Vec<u8>,
    now: usize,
}

impl Body<'_> {
    /// Frees the registers of what is needed no longer.
    fn release(&mut self, at: usize) {
        for id in 0..=at {
            if self.last_use[id] == at && !self.code.insts[id].is_scalar() {
                let register = self.place[id];
                self.pool_of(self.code.insts[id].is_mask()).push(register);
            }
        }
    }

    /// The free registers that masks or vectors are in: AVX2 has no others for masks.
    fn pool_of(&mut self, mask: bool) -> &mut Vec<u8> {
        if mask && self.asm.wide { &mut self.masks } else { &mut self.vectors }
    }

    /// A register for the present value.
    fn target(&mut self) -> Option<u8> {
        let register = self.pool_of(self.code.insts[self.now].is_mask()).pop()?;
        self.place[self.now] = register;
        Some(register)
    }

    /// A register for the length of `f`.
    fn borrow<T>(&mut self, f: impl FnOnce(&mut Self, u8) -> Option<T>) -> Option<T> {
        let register = self.vectors.pop()?;
        let result = f(self, register);
        self.vectors.push(register);
        result
    }

    /// Where a value is: a register, or memory if it is one element for all lanes.
    fn operand(&self, id: Id) -> Place {
        match self.code.insts[id] {
            Inst::OfPool { slot } => self.slot(slot),
            Inst::OfRow { stream } => Place::Scalar { base: STREAMS[stream], displacement: 0 },
            _ => Place::Register(self.place[id]),
        }
    }

    /// Where a slot of the pool is.
    fn slot(&self, slot: usize) -> Place {
        match slot.checked_sub(self.code.slots) {
            Some(constant) => Place::Scalar { base: R9, displacement: (constant * SLOT) as i32 },
            None => Place::Scalar { base: R8, displacement: (slot * SLOT) as i32 },
        }
    }

    /// Whether a value can be no last operand: AVX2 reads whole vectors, and a row has but one element.
    fn is_lone(&self, id: Id) -> bool {
        !self.asm.wide && matches!(self.code.insts[id], Inst::OfRow { .. })
    }

    /// Hands a value to `f` in a register.
    fn in_register<T>(&mut self, id: Id, f: impl FnOnce(&mut Self, u8) -> Option<T>) -> Option<T> {
        match self.operand(id) {
            Place::Register(register) => f(self, register),
            place => self.borrow(|body, register| {
                body.asm.vector(BROADCASTSS, register, 0, place);
                f(body, register)
            }),
        }
    }

    /// Hands a value to `f` as a last operand.
    fn as_last<T>(&mut self, id: Id, f: impl FnOnce(&mut Self, Place) -> Option<T>) -> Option<T> {
        if self.is_lone(id) {
            return self.in_register(id, |body, register| f(body, Place::Register(register)));
        }
        let place = self.operand(id);
        f(self, place)
    }

    fn inst(&mut self, inst: Inst) -> Option<()> {
        match inst {
            Inst::Load { stream } => self.load(stream),
            Inst::LoadFlags { stream } => self.load_flags(stream),
            Inst::OfRow { .. } | Inst::OfPool { .. } => Some(()),
            Inst::MaskOfPool { slot } => self.mask_of_pool(slot),
            Inst::Unary(op, a) => self.unary(op, a),
            Inst::Binary(op, a, b) => self.binary(op, a, b),
            Inst::Madd(a, b, c) => self.madd(a, b, c),
            Inst::Compare(relation, a, b) => self.compare(relation, a, b),
            Inst::Logic(op, a, b) => self.logic(op, a, b),
            Inst::Select(mask, yes, no) => self.select(mask, yes, no),
        }
    }

    fn load(&mut self, stream: usize) -> Option<()> {
        let (target, place) = (self.target()?, Place::Stream { base: STREAMS[stream], scale: 2 });
        if !self.part && self.asm.wide && !self.streams[stream].same {
            // A vector is a cache line.
            self.asm.prefetch(STREAMS[stream], AHEAD);
        }
        match (self.part, self.asm.wide) {
            (false, _) => self.asm.vector(MOVUPS_LOAD, target, 0, place),
            (true, true) => self.asm.masked(MOVUPS_LOAD, target, 0, place, Masking::zero(LANES)),
            (true, false) => self.asm.vector(MASKMOVPS_LOAD, target, NARROW_LANES, place),
        }
        Some(())
    }

    fn load_flags(&mut self, stream: usize) -> Option<()> {
        let (target, place) = (self.target()?, Place::Stream { base: STREAMS[stream], scale: 0 });
        let masking = if self.part { Masking::zero(LANES) } else { Masking::default() };
        self.borrow(|body, wide| {
            body.asm.masked(PMOVZXBD, wide, 0, place, masking);
            body.asm.vector(PTESTMD, target, wide, Place::Register(wide));
            Some(())
        })
    }

    fn mask_of_pool(&mut self, slot: usize) -> Option<()> {
        let (target, place) = (self.target()?, self.slot(slot));
        if !self.asm.wide {
            self.asm.vector(BROADCASTSS, target, 0, place);
            return Some(());
        }
        self.borrow(|body, wide| {
            body.asm.vector(BROADCASTSS, wide, 0, place);
            body.asm.vector(PTESTMD, target, wide, Place::Register(wide));
            Some(())
        })
    }

    fn unary(&mut self, op: Unary, a: Id) -> Option<()> {
        let target = self.target()?;
        match op {
            Unary::Sqrt | Unary::BitsToNumber => self.as_last(a, |body, place| {
                body.asm.vector(if op == Unary::Sqrt { SQRTPS } else { CVTDQ2PS }, target, 0, place);
                Some(())
            }),
            Unary::Round(mode) => self.as_last(a, |body, place| {
                // Bit 3: without a note of inexact results.
                body.asm.vector_by(ROUNDPS, target, 0, place, mode | 8);
                Some(())
            }),
            // The instruction's extension stands where the others have their target.
            Unary::Shl(count) => self.shift(6, target, a, count),
            Unary::Sar(count) => self.shift(4, target, a, count),
        }
    }

    fn shift(&mut self, extension: u8, target: u8, a: Id, count: u8) -> Option<()> {
        self.in_register(a, |body, register| {
            body.asm.vector_by(SHIFT_BY, extension, target, Place::Register(register), count);
            Some(())
        })
    }

    fn binary(&mut self, op: Binary, a: Id, b: Id) -> Option<()> {
        let (code, commutes) = match op {
            Binary::Add => (ADDPS, true),
            Binary::Sub => (SUBPS, false),
            Binary::Mul => (MULPS, true),
            Binary::Div => (DIVPS, false),
            Binary::IfLess => (MINPS, false),
            Binary::IfGreater => (MAXPS, false),
            Binary::And => (ANDPS, true),
            Binary::Or => (ORPS, true),
            Binary::Xor => (XORPS, true),
            Binary::AddBits => (PADDD, true),
            Binary::SubBits => (PSUBD, false),
        };
        let (a, b) = if commutes && self.code.insts[a].is_scalar() { (b, a) } else { (a, b) };
        let target = self.target()?;
        self.in_register(a, |body, first| {
            body.as_last(b, |body, last| {
                body.asm.vector(code, target, first, last);
                Some(())
            })
        })
    }

    /// A register for the present value that has a copy of another one: that one's own, if it is needed no longer.
    fn target_from(&mut self, id: Id) -> Option<u8> {
        if self.last_use[id] == self.now && !self.code.insts[id].is_scalar() {
            self.last_use[id] = usize::MAX;
            self.place[self.now] = self.place[id];
            return Some(self.place[id]);
        }
        let target = self.target()?;
        match self.operand(id) {
            Place::Register(register) => self.asm.vector(MOVAPS, target, 0, Place::Register(register)),
            place => self.asm.vector(BROADCASTSS, target, 0, place),
        }
        Some(target)
    }

    /// The target of a multiply-add is one of its operands.
    fn madd(&mut self, a: Id, b: Id, c: Id) -> Option<()> {
        let (a, b) = if self.code.insts[a].is_scalar() { (b, a) } else { (a, b) };
        let scalar = |body: &Self, id: Id| body.code.insts[id].is_scalar();
        if scalar(self, b) || !scalar(self, c) {
            // target = c; target += a·b.
            let target = self.target_from(c)?;
            return self.in_register(a, |body, first| {
                body.as_last(b, |body, last| {
                    body.asm.vector(FMADD231PS, target, first, last);
                    Some(())
                })
            });
        }
        // target = a; target = b·target + c.
        let target = self.target_from(a)?;
        self.in_register(b, |body, first| {
            body.as_last(c, |body, last| {
                body.asm.vector(FMADD213PS, target, first, last);
                Some(())
            })
        })
    }

    fn compare(&mut self, relation: Relation, a: Id, b: Id) -> Option<()> {
        // Predicates of the Intel 64 manual's table 3-1 of CMPPD, and those with the operands exchanged.
        let (straight, exchanged) = match relation {
            Relation::Equal => (0, 0),
            Relation::Less => (1, 14),
            Relation::LessEqual => (2, 13),
            Relation::Unordered => (3, 3),
            Relation::NotEqual => (4, 4),
        };
        let (a, b, predicate) = if self.code.insts[a].is_scalar() { (b, a, exchanged) } else { (a, b, straight) };
        let target = self.target()?;
        self.in_register(a, |body, first| {
            body.as_last(b, |body, last| {
                body.asm.vector_by(CMPPS, target, first, last, predicate);
                Some(())
            })
        })
    }

    fn logic(&mut self, op: Logic, a: Id, b: Id) -> Option<()> {
        let (target, first, last) = (self.target()?, self.place[a], self.place[b]);
        let (of_masks, of_vectors) = match op {
            Logic::And => (KANDW, ANDPS),
            Logic::Or => (KORW, ORPS),
            Logic::Xor => (KXORW, XORPS),
        };
        match self.asm.wide {
            true => self.asm.mask(of_masks, target, first, last),
            false => self.asm.vector(of_vectors, target, first, Place::Register(last)),
        }
        Some(())
    }

    fn select(&mut self, mask: Id, yes: Id, no: Id) -> Option<()> {
        let (target, mask) = (self.target()?, self.place[mask]);
        if self.code.known_bits(no) == Some(0) {
            return self.in_register(yes, |body, yes| {
                match body.asm.wide {
                    true => body.asm.masked(MOVAPS, target, 0, Place::Register(yes), Masking::zero(mask)),
                    false => body.asm.vector(ANDPS, target, mask, Place::Register(yes)),
                }
                Some(())
            });
        }
        self.in_register(no, |body, no| {
            body.as_last(yes, |body, yes| {
                match body.asm.wide {
                    true => body.asm.masked(BLENDMPS, target, no, yes, Masking::merge(mask)),
                    false => body.asm.vector_by(BLENDVPS, target, no, yes, mask << 4),
                }
                Some(())
            })
        })
    }

    fn store(&mut self, id: Id, stream: usize) -> Option<()> {
        let base = STREAMS[stream];
        if self.code.insts[id].is_mask() {
            return self.store_flags(self.place[id], Place::Stream { base, scale: 0 });
        }
        let place = Place::Stream { base, scale: 2 };
        self.in_register(id, |body, register| {
            match (body.part, body.asm.wide) {
                (false, true) if body.streams[stream].past => body.asm.vector(MOVNTPS, register, 0, place),
                (false, _) => body.asm.vector(MOVUPS_STORE, register, 0, place),
                (true, true) => body.asm.masked(MOVUPS_STORE, register, 0, place, Masking::merge(LANES)),
                (true, false) => body.asm.vector(MASKMOVPS_STORE, register, NARROW_LANES, place),
            }
            Some(())
        })
    }

    /// Bytes of 1 where the mask is set, else of 0.
    fn store_flags(&mut self, mask: u8, place: Place) -> Option<()> {
        let one = self.code.constants.iter().position(|&bits| bits == 1)?;
        let one = self.slot(self.code.slots + one);
        let masking = if self.part { Masking::merge(LANES) } else { Masking::default() };
        self.borrow(|body, register| {
            body.asm.masked(BROADCASTSS, register, 0, one, Masking::zero(mask));
            body.asm.masked(PMOVDB, register, 0, place, masking);
            Some(())
        })
    }
}
