//! What is to be done with one vector of elements: straight-line code in single-assignment form, written by hand or noted down
//! from the elementary functions.

use crate::math::Number;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::{Add, Div, Mul, Neg, Sub};

/// A value of [`Code`]: one vector of 32-bit elements, or one bit for each (a mask).
pub(in crate::tile) type Id = usize;

/// Operations on two vectors.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(in crate::tile) enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    /// The first where it is less, else the second.
    IfLess,
    /// The first where it is greater, else the second.
    IfGreater,
    And,
    Or,
    Xor,
    /// Sum of the bits as integers.
    AddBits,
    /// Difference of the bits as integers.
    SubBits,
}

/// Operations on one vector.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(in crate::tile) enum Unary {
    Sqrt,
    /// Bits as a signed integer, as a number.
    BitsToNumber,
    /// To the nearest integer (0, ties to even), down (1) or up (2).
    Round(u8),
    Shl(u8),
    /// Arithmetic shift to the right.
    Sar(u8),
}

/// Comparisons; none but `NotEqual` and `Unordered` holds where an operand is NaN.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(in crate::tile) enum Relation {
    Equal,
    Less,
    LessEqual,
    Unordered,
    NotEqual,
}

/// Operations on two masks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(in crate::tile) enum Logic {
    And,
    Or,
    Xor,
}

/// How a value comes to be.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(in crate::tile) enum Inst {
    /// The next vector of a stream.
    Load {
        stream: usize,
    },
    /// The next flags of a stream, as a mask.
    LoadFlags {
        stream: usize,
    },
    /// The one element a stream has for a row.
    OfRow {
        stream: usize,
    },
    /// The one element a slot of the pool has.
    OfPool {
        slot: usize,
    },
    /// A slot of the pool whose bits are all 1 or all 0, as a mask.
    MaskOfPool {
        slot: usize,
    },
    Unary(Unary, Id),
    Binary(Binary, Id, Id),
    /// a·b + c, rounded once.
    Madd(Id, Id, Id),
    Compare(Relation, Id, Id),
    Logic(Logic, Id, Id),
    Select(Id, Id, Id),
}

impl Inst {
    /// Whether the value is a mask.
    pub(in crate::tile) fn is_mask(self) -> bool {
        matches!(self, Inst::LoadFlags { .. } | Inst::MaskOfPool { .. } | Inst::Compare(..) | Inst::Logic(..))
    }

    /// Whether the value is one element for all lanes, read from memory wherever it is used.
    pub(in crate::tile) fn is_scalar(self) -> bool {
        matches!(self, Inst::OfRow { .. } | Inst::OfPool { .. })
    }

    /// The values it is computed from.
    pub(in crate::tile) fn sources(self) -> impl Iterator<Item = Id> {
        let list = match self {
            Inst::Unary(_, a) => [Some(a), None, None],
            Inst::Binary(_, a, b) | Inst::Compare(_, a, b) | Inst::Logic(_, a, b) => [Some(a), Some(b), None],
            Inst::Madd(a, b, c) | Inst::Select(a, b, c) => [Some(a), Some(b), Some(c)],
            _ => [None; 3],
        };
        list.into_iter().flatten()
    }
}

/// Straight-line code, its constants, and the values it hands out.
#[derive(Default)]
pub(in crate::tile) struct Code {
    pub(in crate::tile) insts: Vec<Inst>,
    known: HashMap<Inst, Id>,
    /// Slots of the pool that are filled before each task: its first ones.
    pub(in crate::tile) slots: usize,
    /// Bits of the constants, in the slots behind them.
    pub(in crate::tile) constants: Vec<u32>,
    /// Value and stream of each store.
    pub(in crate::tile) stores: Vec<(Id, usize)>,
}

impl Code {
    /// No code yet; so many slots of the pool are filled before each task.
    pub(in crate::tile) fn new(slots: usize) -> Code {
        Code { slots, ..Code::default() }
    }

    /// Notes an instruction; the same one again is the same value.
    pub(in crate::tile) fn push(&mut self, inst: Inst) -> Id {
        if let Some(&id) = self.known.get(&inst) {
            return id;
        }
        self.insts.push(inst);
        self.known.insert(inst, self.insts.len() - 1);
        self.insts.len() - 1
    }

    /// The constant an instruction gives, if it is one.
    pub(in crate::tile) fn known_bits(&self, id: Id) -> Option<u32> {
        match self.insts[id] {
            Inst::OfPool { slot } => self.constants.get(slot.checked_sub(self.slots)?).copied(),
            _ => None,
        }
    }

    /// A constant of these bits.
    pub(in crate::tile) fn constant(&mut self, bits: u32) -> Id {
        let slot = self.slot(bits);
        self.push(Inst::OfPool { slot })
    }

    /// A mask of these bits, all of them 1 or all 0.
    pub(in crate::tile) fn mask(&mut self, bits: u32) -> Id {
        let slot = self.slot(bits);
        self.push(Inst::MaskOfPool { slot })
    }

    /// The slot that has these bits.
    pub(in crate::tile) fn slot(&mut self, bits: u32) -> usize {
        let at = self.constants.iter().position(|&c| c == bits).unwrap_or_else(|| {
            self.constants.push(bits);
            self.constants.len() - 1
        });
        self.slots + at
    }
}

/// A value being noted down: the notation of [`Number`].
#[derive(Clone, Copy)]
pub(in crate::tile) struct Noted<'a> {
    pub(in crate::tile) code: &'a RefCell<Code>,
    pub(in crate::tile) id: Id,
}

/// The outcome of a comparison, noted down.
#[derive(Clone, Copy)]
pub(in crate::tile) struct NotedTruth(pub(in crate::tile) Id);

impl<'a> Noted<'a> {
    fn note(self, inst: Inst) -> Noted<'a> {
        Noted { id: self.code.borrow_mut().push(inst), ..self }
    }

    fn with(self, op: Binary, other: Self) -> Noted<'a> {
        self.note(Inst::Binary(op, self.id, other.id))
    }

    fn bits(self, bits: u32) -> Noted<'a> {
        Noted { id: self.code.borrow_mut().constant(bits), ..self }
    }

    fn compare(self, relation: Relation, other: Self) -> NotedTruth {
        NotedTruth(self.note(Inst::Compare(relation, self.id, other.id)).id)
    }

    pub(in crate::tile) fn unary(self, op: Unary) -> Noted<'a> {
        self.note(Inst::Unary(op, self.id))
    }
}

macro_rules! operators {
    ($($name:ident $method:ident;)*) => { $(
        impl $name for Noted<'_> {
            type Output = Self;
            fn $method(self, other: Self) -> Self {
                self.with(Binary::$name, other)
            }
        }
    )* };
}
operators! {
    Add add;
    Sub sub;
    Mul mul;
    Div div;
}

impl Neg for Noted<'_> {
    type Output = Self;
    fn neg(self) -> Self {
        self.with(Binary::Xor, self.bits(1 << 31))
    }
}

impl Number for Noted<'_> {
    type Truth = NotedTruth;

    fn constant(self, value: f32) -> Self {
        self.bits(value.to_bits())
    }
    fn madd(self, b: Self, c: Self) -> Self {
        self.note(Inst::Madd(self.id, b.id, c.id))
    }
    fn abs(self) -> Self {
        self.with(Binary::And, self.bits(!(1 << 31)))
    }
    fn copysign(self, sign: Self) -> Self {
        self.abs().bits_or(sign.with(Binary::And, self.bits(1 << 31)))
    }
    fn if_less(self, other: Self) -> Self {
        self.with(Binary::IfLess, other)
    }
    fn if_greater(self, other: Self) -> Self {
        self.with(Binary::IfGreater, other)
    }
    fn bits_and(self, other: Self) -> Self {
        self.with(Binary::And, other)
    }
    fn bits_or(self, other: Self) -> Self {
        self.with(Binary::Or, other)
    }
    fn bits_add(self, other: Self) -> Self {
        self.with(Binary::AddBits, other)
    }
    fn bits_sub(self, other: Self) -> Self {
        self.with(Binary::SubBits, other)
    }
    fn bits_shl(self, count: u8) -> Self {
        self.unary(Unary::Shl(count))
    }
    fn bits_sar(self, count: u8) -> Self {
        self.unary(Unary::Sar(count))
    }
    fn bits_to_number(self) -> Self {
        self.unary(Unary::BitsToNumber)
    }
    fn less(self, other: Self) -> NotedTruth {
        self.compare(Relation::Less, other)
    }
    fn equal(self, other: Self) -> NotedTruth {
        self.compare(Relation::Equal, other)
    }
    fn unordered(self, other: Self) -> NotedTruth {
        self.compare(Relation::Unordered, other)
    }
    fn choose(truth: NotedTruth, yes: Self, no: Self) -> Self {
        yes.note(Inst::Select(truth.0, yes.id, no.id))
    }
}
