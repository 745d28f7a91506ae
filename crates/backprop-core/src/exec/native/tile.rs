//! Elementwise nodes as a program of the tile machine.

use super::{
    ir::{Access, Def, Elementwise, Lowered, NodeOp, Val},
    view::View,
};
use crate::{
    DType, Error,
    op::{Binary, Compare, Unary},
    pass::fuse::{Group, Kind},
};
use backprop_kernels::{OpCode, Reg, TileError, TileProgram};
use std::collections::HashMap;

/// A tile program with the values its operands stand for.
pub(crate) struct Emitted {
    pub program: TileProgram,
    /// Operands read, numbered from the first operand on.
    pub loads: Vec<Val>,
    /// Operands written, numbered after those read.
    pub stores: Vec<Val>,
    /// For each operand read, whether it is read only at the element being computed.
    pub in_step: Vec<bool>,
    /// Values by node output.
    pub registers: HashMap<Val, Reg>,
}

pub(crate) struct Emitter<'a> {
    graph: &'a Lowered,
    dims: &'a [usize],
    first_operand: usize,
    program: TileProgram,
    loads: Vec<Val>,
    in_step: Vec<bool>,
    loaded: HashMap<(Val, View), Reg>,
    registers: HashMap<Val, Reg>,
}

impl From<TileError> for Error {
    fn from(e: TileError) -> Self {
        Error::Invalid(format!("no tile program: {e}"))
    }
}

/// The elementwise nodes of a group. Operands of the program count from `first_operand`; the values in `stored` are written, some `past`
/// the caches.
pub(crate) fn emit(
    graph: &Lowered,
    group: &Group,
    first_operand: usize,
    stored: &[Val],
    past: &[bool],
) -> Result<Emitted, Error> {
    let mut emitter = Emitter {
        graph,
        dims: &group.dims,
        first_operand,
        program: TileProgram::new(&group.dims)?,
        loads: Vec::new(),
        in_step: Vec::new(),
        loaded: HashMap::new(),
        registers: HashMap::new(),
    };
    if let Kind::Tiled(tiled) = group.kind {
        let given = emitter.program.given()?;
        emitter.registers.insert(graph.nodes[tiled].outputs[0], given);
    }
    for &n in &group.nodes {
        if let NodeOp::Elementwise(op) = graph.nodes[n].op {
            let reg = emitter.node(n, op)?;
            emitter.registers.insert(graph.nodes[n].outputs[0], reg);
        }
    }
    if let Kind::Reduce(reduce) = group.kind {
        let operand = &graph.nodes[reduce].inputs[0];
        let reg = emitter.read(operand)?;
        emitter.registers.insert(graph.nodes[reduce].outputs[0], reg);
    }
    let strides = emitter.program.row_major();
    let first_store = first_operand + emitter.loads.len();
    for (i, value) in stored.iter().enumerate() {
        emitter.program.store(first_store + i, &strides, 0, emitter.registers[value])?;
        if past[*value] {
            emitter.program.store_past_caches(first_store + i);
        }
    }
    let Emitter { program, loads, in_step, registers, .. } = emitter;
    Ok(Emitted { program, loads, stores: stored.to_vec(), in_step, registers })
}

impl Emitter<'_> {
    /// The register of an operand: made in this program, or loaded.
    fn read(&mut self, access: &Access) -> Result<Reg, Error> {
        match self.registers.get(&access.value) {
            Some(&reg) => Ok(reg),
            None => self.load(access),
        }
    }

    fn load(&mut self, access: &Access) -> Result<Reg, Error> {
        let unreadable = || Error::Invalid(format!("{:?} cannot be read as {:?}", access.view, self.dims));
        let view = access.view.reshape(self.dims).ok_or_else(unreadable)?;
        let key = (access.value, view);
        if let Some(&reg) = self.loaded.get(&key) {
            return Ok(reg);
        }
        let view = &key.1;
        let value = &self.graph.values[access.value];
        let dtype = value.ty.dtype;
        let reg = match value.def {
            Def::Scalar(bits) => self.program.constant(dtype, bits)?,
            Def::Iota => self.count(dtype, view)?,
            _ => {
                let operand = self.operand(access.value, view);
                self.program.load(operand, dtype, &view.strides, view.offset)?
            }
        };
        self.loaded.insert(key, reg);
        Ok(reg)
    }

    fn operand(&mut self, value: Val, view: &View) -> usize {
        let whole = view.elements() == self.graph.values[value].ty.elements();
        self.operand_in_step(value, view.offset == 0 && view.is_dense() && whole)
    }

    /// The operand of a value; whether it is read only at the element being computed.
    fn operand_in_step(&mut self, value: Val, in_step: bool) -> usize {
        let position = self.loads.iter().position(|&v| v == value).unwrap_or_else(|| {
            self.loads.push(value);
            self.in_step.push(true);
            self.loads.len() - 1
        });
        self.in_step[position] &= in_step;
        self.first_operand + position
    }

    fn sparse_rows(&mut self, inputs: &[Access]) -> Result<Reg, Error> {
        let sums = &self.graph.values[inputs[1].value].ty.shape;
        let operands = [0, 1].map(|i| self.operand_in_step(inputs[i].value, false));
        Ok(self.program.sparse_rows(operands, sums[0], sums[1])?)
    }

    /// Elements of 0, 1, 2, … read through a view.
    fn count(&mut self, dtype: DType, view: &View) -> Result<Reg, Error> {
        let wide = match dtype {
            DType::F16 | DType::BF16 => DType::F32,
            DType::U8 => DType::U32,
            wide => wide,
        };
        let mut reg = self.program.affine(wide, &view.strides)?;
        if view.offset != 0 {
            let bits = match wide {
                DType::F32 => u64::from((view.offset as f32).to_bits()),
                DType::F64 => (view.offset as f64).to_bits(),
                _ => view.offset as u64,
            };
            let offset = self.program.constant(wide, bits)?;
            reg = self.program.op(OpCode::Add, &[reg, offset])?;
        }
        self.convert(reg, dtype)
    }

    fn convert(&mut self, reg: Reg, to: DType) -> Result<Reg, Error> {
        if self.program.dtype(reg) == Some(to) { Ok(reg) } else { Ok(self.program.op(OpCode::Convert(to), &[reg])?) }
    }

    fn node(&mut self, node: usize, op: Elementwise) -> Result<Reg, Error> {
        let inputs = &self.graph.nodes[node].inputs;
        match op {
            Elementwise::Philox(stream) => return self.philox(inputs, stream),
            Elementwise::SparseRows => return self.sparse_rows(inputs),
            _ => {}
        }
        let sources = inputs.iter().map(|access| self.read(access)).collect::<Result<Vec<Reg>, Error>>()?;
        match op {
            Elementwise::Copy => Ok(sources[0]),
            Elementwise::Unary(u) => self.apply(unary(u), &sources),
            Elementwise::Binary(b) => self.apply(binary(b), &sources),
            Elementwise::Compare(c) => self.apply(compare(c), &sources),
            Elementwise::Select => self.apply(OpCode::Select, &sources),
            Elementwise::Clamp => self.apply(OpCode::Clamp, &sources),
            Elementwise::Convert(to) => self.convert(sources[0], to),
            Elementwise::Philox(_) | Elementwise::SparseRows => Err(TileError::NoResult.into()),
        }
    }

    /// An operation; where it does not exist for the operands' type, in the next type in which it is exact or rounds once more.
    fn apply(&mut self, op: OpCode, sources: &[Reg]) -> Result<Reg, Error> {
        let dtype = sources.last().and_then(|&r| self.program.dtype(r)).unwrap_or(DType::F32);
        let wide = match dtype {
            _ if op.supports(dtype) => return Ok(self.program.op(op, sources)?),
            DType::F16 | DType::BF16 => DType::F32,
            DType::Bool => DType::U8,
            _ => return Err(TileError::Types(op, vec![dtype]).into()),
        };
        let mut widened = Vec::with_capacity(sources.len());
        for &reg in sources {
            let is_value = self.program.dtype(reg) == Some(dtype);
            widened.push(if is_value { self.convert(reg, wide)? } else { reg });
        }
        let result = self.program.op(op, &widened)?;
        if op.result(wide) == wide { self.convert(result, dtype) } else { Ok(result) }
    }

    fn philox(&mut self, inputs: &[Access], stream: u64) -> Result<Reg, Error> {
        let scalar = |access: &Access, element: usize| Access {
            value: access.value,
            view: View {
                shape: Vec::new(),
                strides: Vec::new(),
                offset: access.view.offset + element as isize * access.view.strides.first().copied().unwrap_or(0),
            },
        };
        let uniform = |s: &mut Self, access: Access| {
            let view = access.view.broadcast(s.dims, &[]);
            s.load(&Access { value: access.value, view })
        };
        let key = [uniform(self, scalar(&inputs[0], 0))?, uniform(self, scalar(&inputs[0], 1))?];
        let step = uniform(self, scalar(&inputs[1], 0))?;
        let offset = uniform(self, scalar(&inputs[2], 0))?;
        let offset = self.program.op(OpCode::Convert(DType::U64), &[offset])?;
        let index = self.program.index(DType::U64)?;
        let index = self.program.op(OpCode::Add, &[index, offset])?;
        let low = self.program.constant(DType::U32, stream & 0xffff_ffff)?;
        let high = self.program.constant(DType::U32, stream >> 32)?;
        Ok(self.program.op(OpCode::Philox, &[index, key[0], key[1], low, high, step])?)
    }
}

fn unary(op: Unary) -> OpCode {
    match op {
        Unary::Neg => OpCode::Neg,
        Unary::Abs => OpCode::Abs,
        Unary::Sign => OpCode::Sign,
        Unary::Floor => OpCode::Floor,
        Unary::Ceil => OpCode::Ceil,
        Unary::RoundNearestEven => OpCode::RoundNearestEven,
        Unary::Exp => OpCode::Exp,
        Unary::Expm1 => OpCode::Expm1,
        Unary::Log => OpCode::Log,
        Unary::Log1p => OpCode::Log1p,
        Unary::Sqrt => OpCode::Sqrt,
        Unary::Rsqrt => OpCode::Rsqrt,
        Unary::Tanh => OpCode::Tanh,
        Unary::Logistic => OpCode::Logistic,
        Unary::Erf => OpCode::Erf,
        Unary::Sin => OpCode::Sin,
        Unary::Cos => OpCode::Cos,
        Unary::Not => OpCode::Not,
        Unary::IsFinite => OpCode::IsFinite,
    }
}

fn binary(op: Binary) -> OpCode {
    match op {
        Binary::Add => OpCode::Add,
        Binary::Sub => OpCode::Sub,
        Binary::Mul => OpCode::Mul,
        Binary::Div => OpCode::Div,
        Binary::Rem => OpCode::Rem,
        Binary::Pow => OpCode::Pow,
        Binary::Max => OpCode::Max,
        Binary::Min => OpCode::Min,
        Binary::And => OpCode::And,
        Binary::Or => OpCode::Or,
        Binary::Xor => OpCode::Xor,
        Binary::ShiftLeft => OpCode::Shl,
        Binary::ShiftRightLogical => OpCode::Shr,
    }
}

fn compare(op: Compare) -> OpCode {
    match op {
        Compare::Eq => OpCode::Eq,
        Compare::Ne => OpCode::Ne,
        Compare::Lt => OpCode::Lt,
        Compare::Le => OpCode::Le,
        Compare::Gt => OpCode::Gt,
        Compare::Ge => OpCode::Ge,
    }
}
