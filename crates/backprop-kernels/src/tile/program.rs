use std::fmt;

use super::sparse::SparseRows;
use crate::DType;

/// The most iteration dimensions a program may have.
pub(crate) const MAX_RANK: usize = 16;

/// A value of a [`TileProgram`]: written once, by a load, a constant, an index or an operation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct Reg(pub(crate) u16);

/// Elementwise operation; StableHLO's semantics where it has the name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum OpCode {
    /// −x.
    Neg,
    /// |x|.
    Abs,
    /// −1, 0 or 1; keeps ±0 and NaN.
    Sign,
    /// Largest integer not above.
    Floor,
    /// Smallest integer not below.
    Ceil,
    /// Nearest integer, ties to even.
    RoundNearestEven,
    /// eˣ.
    Exp,
    /// eˣ − 1.
    Expm1,
    /// Natural logarithm.
    Log,
    /// ln(1 + x).
    Log1p,
    /// Square root.
    Sqrt,
    /// 1/√x.
    Rsqrt,
    /// Hyperbolic tangent.
    Tanh,
    /// 1/(1 + e⁻ˣ).
    Logistic,
    /// Error function.
    Erf,
    /// Sine.
    Sin,
    /// Cosine.
    Cos,
    /// Logical (`Bool`) or bitwise (integer) complement.
    Not,
    /// Whether neither infinite nor NaN; gives `Bool`.
    IsFinite,
    /// a + b.
    Add,
    /// a − b.
    Sub,
    /// a · b.
    Mul,
    /// a / b.
    Div,
    /// Remainder with the sign of the dividend.
    Rem,
    /// aᵇ.
    Pow,
    /// The larger; NaN propagates.
    Max,
    /// The smaller; NaN propagates.
    Min,
    /// Logical or bitwise and.
    And,
    /// Logical or bitwise or.
    Or,
    /// Logical or bitwise exclusive or.
    Xor,
    /// Left shift; 0 when the count is the width or more.
    Shl,
    /// Logical right shift; 0 when the count is the width or more.
    Shr,
    /// a = b; gives `Bool`.
    Eq,
    /// a ≠ b; gives `Bool`.
    Ne,
    /// a < b; gives `Bool`.
    Lt,
    /// a ≤ b; gives `Bool`.
    Le,
    /// a > b; gives `Bool`.
    Gt,
    /// a ≥ b; gives `Bool`.
    Ge,
    /// (`Bool`, a, b) → a where true, else b.
    Select,
    /// (low, x, high) → min(max(x, low), high).
    Clamp,
    /// To another element type. Float to integer truncates and saturates, NaN gives 0; to half precision rounds to nearest even.
    Convert(DType),
    /// (index `U64`, key 0, key 1, counter 1, counter 2, counter 3: `U32`) → word `index & 3` of Philox4x32-10 with that key and
    /// counter `(low 32 bits of index >> 2, counter 1, counter 2, counter 3)`, as `U32`.
    Philox,
}

impl OpCode {
    /// Every operation but the conversions.
    pub const ALL: [OpCode; 41] = [
        OpCode::Neg,
        OpCode::Abs,
        OpCode::Sign,
        OpCode::Floor,
        OpCode::Ceil,
        OpCode::RoundNearestEven,
        OpCode::Exp,
        OpCode::Expm1,
        OpCode::Log,
        OpCode::Log1p,
        OpCode::Sqrt,
        OpCode::Rsqrt,
        OpCode::Tanh,
        OpCode::Logistic,
        OpCode::Erf,
        OpCode::Sin,
        OpCode::Cos,
        OpCode::Not,
        OpCode::IsFinite,
        OpCode::Add,
        OpCode::Sub,
        OpCode::Mul,
        OpCode::Div,
        OpCode::Rem,
        OpCode::Pow,
        OpCode::Max,
        OpCode::Min,
        OpCode::And,
        OpCode::Or,
        OpCode::Xor,
        OpCode::Shl,
        OpCode::Shr,
        OpCode::Eq,
        OpCode::Ne,
        OpCode::Lt,
        OpCode::Le,
        OpCode::Gt,
        OpCode::Ge,
        OpCode::Select,
        OpCode::Clamp,
        OpCode::Philox,
    ];

    /// Number of operands.
    pub const fn arity(self) -> usize {
        use OpCode::*;
        match self {
            Neg | Abs | Sign | Floor | Ceil | RoundNearestEven | Exp | Expm1 | Log | Log1p | Sqrt | Rsqrt | Tanh | Logistic
            | Erf | Sin | Cos | Not | IsFinite | Convert(_) => 1,
            Add | Sub | Mul | Div | Rem | Pow | Max | Min | And | Or | Xor | Shl | Shr | Eq | Ne | Lt | Le | Gt | Ge => 2,
            Select | Clamp => 3,
            Philox => 6,
        }
    }

    /// Element type of the result for operands of type `of` (for `Select`, of its last two operands).
    pub const fn result(self, of: DType) -> DType {
        use OpCode::*;
        match self {
            IsFinite | Eq | Ne | Lt | Le | Gt | Ge => DType::Bool,
            Convert(to) => to,
            Philox => DType::U32,
            _ => of,
        }
    }

    /// Whether the operation exists for operands of type `of`.
    pub fn supports(self, of: DType) -> bool {
        super::ops::lookup(self, of, crate::Isa::Portable).is_some()
    }
}

/// What a [`TileProgram`]'s constructor rejects.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TileError {
    /// More iteration dimensions, values or operands than the machine holds.
    TooLarge,
    /// As many strides as iteration dimensions are needed.
    Rank {
        /// Number of iteration dimensions.
        expected: usize,
        /// Number of strides given.
        found: usize,
    },
    /// The register belongs to no value of this program.
    UnknownRegister(Reg),
    /// The operation does not exist for these operand types.
    Types(OpCode, Vec<DType>),
    /// No such iteration dimension.
    Dimension(usize),
    /// Not a type an index can have.
    IndexType(DType),
    /// A kernel of this program would have no result.
    NoResult,
}

impl fmt::Display for TileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TileError::TooLarge => write!(f, "too many dimensions, values or operands in one tile program"),
            TileError::Rank { expected, found } => {
                write!(f, "{found} strides for {expected} iteration dimensions")
            }
            TileError::UnknownRegister(reg) => write!(f, "register {} is not defined", reg.0),
            TileError::Types(op, types) => write!(f, "{op:?} does not exist for {types:?}"),
            TileError::Dimension(dim) => write!(f, "no iteration dimension {dim}"),
            TileError::IndexType(dtype) => write!(f, "an index cannot have type {dtype}"),
            TileError::NoResult => write!(f, "the tile program stores nothing"),
        }
    }
}

impl std::error::Error for TileError {}

/// How a value comes to be.
#[derive(Clone, Debug)]
pub(crate) enum Definition {
    /// `operands[operand][offset + Σ index·stride]`.
    Load { operand: usize, strides: Vec<isize>, offset: isize },
    /// The low bytes of `bits`, everywhere.
    Constant { bits: u64 },
    /// `Σ index·stride`, converted.
    Affine { strides: Vec<isize> },
    /// A table that is mostly zeros.
    Sparse(SparseRows),
    /// Provided by whoever runs the program: the tile of a product.
    Given,
    /// An operation on earlier values.
    Op { op: OpCode, sources: Vec<Reg> },
}

impl Definition {
    /// The values it is computed from; `None` if it is not computed.
    pub(crate) fn sources(&self) -> Option<&[Reg]> {
        match self {
            Definition::Op { sources, .. } => Some(sources),
            _ => None,
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Value {
    pub(crate) dtype: DType,
    pub(crate) definition: Definition,
}

#[derive(Clone, Debug)]
pub(crate) struct Store {
    pub(crate) operand: usize,
    pub(crate) strides: Vec<isize>,
    pub(crate) offset: isize,
    pub(crate) reg: Reg,
    /// Goes past the caches where that is possible.
    pub(crate) past: bool,
}

/// An elementwise computation over a row-major iteration space (last dimension innermost), in single-assignment form.
///
/// All strides and offsets are in elements of the accessed operand.
#[derive(Clone, Debug)]
pub struct TileProgram {
    pub(crate) dims: Vec<usize>,
    pub(crate) values: Vec<Value>,
    pub(crate) stores: Vec<Store>,
}

impl TileProgram {
    /// An empty program over that iteration space; no dimensions means one element.
    pub fn new(dims: &[usize]) -> Result<TileProgram, TileError> {
        if dims.len() > MAX_RANK {
            return Err(TileError::TooLarge);
        }
        Ok(TileProgram { dims: dims.to_vec(), values: Vec::new(), stores: Vec::new() })
    }

    /// The iteration space.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// Number of iteration points.
    pub fn elements(&self) -> usize {
        self.dims.iter().product()
    }

    /// Element type of a value, if the register belongs to this program.
    pub fn dtype(&self, reg: Reg) -> Option<DType> {
        self.values.get(usize::from(reg.0)).map(|value| value.dtype)
    }

    /// Row-major strides of the iteration space: those of an operand that has its shape.
    pub fn row_major(&self) -> Vec<isize> {
        let mut strides = vec![1; self.dims.len()];
        for d in (1..self.dims.len()).rev() {
            strides[d - 1] = strides[d] * self.dims[d] as isize;
        }
        strides
    }

    /// A value read from `operand`, one stride per iteration dimension (0 broadcasts), starting `offset` elements in.
    pub fn load(&mut self, operand: usize, dtype: DType, strides: &[isize], offset: isize) -> Result<Reg, TileError> {
        self.check_rank(strides)?;
        self.push(dtype, Definition::Load { operand, strides: strides.to_vec(), offset })
    }

    /// A table of rows of `width` elements in `F32` that is zeros but for the sums of `count` updates, read row-major over the iteration space.
    /// The operands are keys and sums as [`RowSums`](crate::movement::RowSums) leaves them.
    pub fn sparse_rows(&mut self, [keys, sums]: [usize; 2], count: usize, width: usize) -> Result<Reg, TileError> {
        let rows = SparseRows { keys, sums, count, width: width.max(1), strides: self.row_major() };
        self.push(DType::F32, Definition::Sparse(rows))
    }

    /// A constant, given as the bits of its type in the low bytes.
    pub fn constant(&mut self, dtype: DType, bits: u64) -> Result<Reg, TileError> {
        self.push(dtype, Definition::Constant { bits })
    }

    /// An `F32` constant.
    pub fn constant_f32(&mut self, value: f32) -> Result<Reg, TileError> {
        self.constant(DType::F32, u64::from(value.to_bits()))
    }

    /// The index along one iteration dimension, as an integer of at least 32 bits or `F32`, `F64`.
    pub fn iota(&mut self, dim: usize, dtype: DType) -> Result<Reg, TileError> {
        if dim >= self.dims.len() {
            return Err(TileError::Dimension(dim));
        }
        let mut strides = vec![0; self.dims.len()];
        strides[dim] = 1;
        self.affine(dtype, &strides)
    }

    /// The linear row-major index of the element, as an integer of at least 32 bits (wrapping) or `F32`, `F64`.
    pub fn index(&mut self, dtype: DType) -> Result<Reg, TileError> {
        let strides = self.row_major();
        self.affine(dtype, &strides)
    }

    /// A value provided from outside: the `F32` result tile under a [`TileEpilogue`](super::TileEpilogue).
    /// A second call gives the same value.
    pub fn given(&mut self) -> Result<Reg, TileError> {
        if let Some(reg) = self.given_register() {
            return Ok(reg);
        }
        self.push(DType::F32, Definition::Given)
    }

    /// The result of an operation on earlier values.
    pub fn op(&mut self, op: OpCode, sources: &[Reg]) -> Result<Reg, TileError> {
        let types = self.types(sources)?;
        let of = operand_type(op, &types).ok_or_else(|| TileError::Types(op, types.clone()))?;
        if !op.supports(of) {
            return Err(TileError::Types(op, types));
        }
        self.push(op.result(of), Definition::Op { op, sources: sources.to_vec() })
    }

    /// Writes a value to `operand`, one stride per iteration dimension. No two iteration points may write one element, and a
    /// program has at most one store to an operand.
    pub fn store(&mut self, operand: usize, strides: &[isize], offset: isize, reg: Reg) -> Result<(), TileError> {
        self.check_rank(strides)?;
        self.types(&[reg])?;
        self.stores.push(Store { operand, strides: strides.to_vec(), offset, reg, past: false });
        Ok(())
    }

    /// Lets what is stored to `operand` go to memory past the caches, where nobody will read it soon: its lines are not read before they
    /// are written, and evict nothing. A hint, which no bit depends on.
    pub fn store_past_caches(&mut self, operand: usize) {
        self.stores.iter_mut().filter(|store| store.operand == operand).for_each(|store| store.past = true);
    }

    /// The value provided from outside, if there is one.
    pub(crate) fn given_register(&self) -> Option<Reg> {
        let position = self.values.iter().position(|value| matches!(value.definition, Definition::Given))?;
        Some(Reg(position as u16))
    }

    /// The program without its stores.
    pub(crate) fn without_stores(&self) -> TileProgram {
        TileProgram { stores: Vec::new(), ..self.clone() }
    }

    /// `Σ index·stride` over the iteration dimensions, as an integer of at least 32 bits (wrapping) or `F32`, `F64`.
    pub fn affine(&mut self, dtype: DType, strides: &[isize]) -> Result<Reg, TileError> {
        self.check_rank(strides)?;
        let wide = matches!(dtype, DType::I32 | DType::U32 | DType::I64 | DType::U64 | DType::F32 | DType::F64);
        if !wide {
            return Err(TileError::IndexType(dtype));
        }
        self.push(dtype, Definition::Affine { strides: strides.to_vec() })
    }

    fn push(&mut self, dtype: DType, definition: Definition) -> Result<Reg, TileError> {
        let reg = Reg(u16::try_from(self.values.len()).map_err(|_| TileError::TooLarge)?);
        self.values.push(Value { dtype, definition });
        Ok(reg)
    }

    fn check_rank(&self, strides: &[isize]) -> Result<(), TileError> {
        if strides.len() == self.dims.len() {
            return Ok(());
        }
        Err(TileError::Rank { expected: self.dims.len(), found: strides.len() })
    }

    fn types(&self, regs: &[Reg]) -> Result<Vec<DType>, TileError> {
        regs.iter().map(|&reg| self.dtype(reg).ok_or(TileError::UnknownRegister(reg))).collect()
    }
}

/// The type an operation is looked up by, if the operand types fit it.
pub(crate) fn operand_type(op: OpCode, types: &[DType]) -> Option<DType> {
    if types.len() != op.arity() {
        return None;
    }
    match op {
        OpCode::Select => (types[0] == DType::Bool && types[1] == types[2]).then_some(types[1]),
        OpCode::Philox => (types[0] == DType::U64 && types[1..].iter().all(|&t| t == DType::U32)).then_some(DType::U32),
        _ => types.iter().all(|&t| t == types[0]).then_some(types[0]),
    }
}
