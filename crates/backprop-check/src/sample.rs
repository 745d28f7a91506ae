//! The samples that every primitive brings along, with values, in several surroundings.

use crate::Random;
use backprop_core::{
    Builder, Tensor, Type,
    graph::Role,
    op::{Binary, Derivative, Domain, Op, Sample, Vjp},
    reference::Array,
};

/// How a sample's operands come about and what else reads them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Surroundings {
    /// Operands are inputs.
    Plain,
    /// Operands of two dimensions or more are transposed inputs.
    Transposed,
    /// The first dimension of an operand is broadcast.
    Broadcast,
    /// Something else reads the operands too, so that cotangents must be added up.
    FanOut,
    /// Later operands depend on the first.
    Linked,
    /// Operands of one type and domain are one tensor.
    Shared,
}

impl Surroundings {
    /// All of them.
    pub const ALL: [Surroundings; 6] = [
        Surroundings::Plain,
        Surroundings::Transposed,
        Surroundings::Broadcast,
        Surroundings::FanOut,
        Surroundings::Linked,
        Surroundings::Shared,
    ];
}

/// A sample with values.
#[derive(Clone, Debug)]
pub struct Case {
    /// The primitive and what its operands are drawn from.
    pub sample: Sample,
    /// What surrounds it.
    pub surroundings: Surroundings,
    /// Inputs of the traced function.
    pub inputs: Vec<Array>,
    /// Constant parts of operands whose varying part is broadcast; see [`Case::new`].
    offsets: Vec<Option<Array>>,
}

/// Whether values of the domain may be shared or repeated without creating ties or reaching kinks.
fn is_smooth(domain: &Domain) -> bool {
    matches!(domain, Domain::Uniform(..))
}

fn is_float(ty: &Type) -> bool {
    ty.dtype.is_float()
}

impl Case {
    /// Draws values; `None` if the surroundings do not differ from plain ones for this sample.
    ///
    /// Where a broadcast would repeat values that must be distinct, only a zero that is added to them is broadcast.
    pub fn new(sample: &Sample, surroundings: Surroundings, seed: u64) -> Option<Case> {
        let mut random = Random::new(seed);
        let mut case = Case { sample: sample.clone(), surroundings, inputs: Vec::new(), offsets: Vec::new() };
        for (ty, domain) in &sample.inputs {
            let mut offset = None;
            let input = match surroundings {
                Surroundings::Transposed if is_float(ty) => random.array(&reversed(ty), domain),
                Surroundings::Broadcast if can_broadcast(ty) && is_smooth(domain) => random.array(&single(ty), domain),
                Surroundings::Broadcast if can_broadcast(ty) => {
                    offset = Some(random.array(ty, domain));
                    Array::zeros(&single(ty))
                }
                _ => random.array(ty, domain),
            };
            case.inputs.push(input);
            case.offsets.push(offset);
        }
        case.differs().then_some(case)
    }

    fn differs(&self) -> bool {
        let operands = &self.sample.inputs;
        match self.surroundings {
            Surroundings::Plain | Surroundings::FanOut => true,
            Surroundings::Transposed => operands.iter().any(|(ty, _)| is_float(ty) && ty.shape.len() > 1),
            Surroundings::Broadcast => operands.iter().any(|(ty, _)| can_broadcast(ty)),
            Surroundings::Linked => {
                let floats = operands.iter().filter(|(ty, _)| is_float(ty)).count();
                floats > 1 && operands.first().is_some_and(|(ty, _)| is_float(ty) && ty.elements() > 0)
            }
            Surroundings::Shared => (1..operands.len()).any(|i| self.twin(i).is_some()),
        }
    }

    /// The first operand that operand `i` may be one tensor with.
    fn twin(&self, i: usize) -> Option<usize> {
        let operands = &self.sample.inputs;
        (0..i).find(|&j| operands[j] == operands[i] && is_smooth(&operands[i].1) && is_float(&operands[i].0))
    }

    /// Traces the operands, the primitive, and what else reads the operands.
    pub fn trace<'g>(&self, b: &'g Builder, inputs: &[Tensor<'g>]) -> Vec<Tensor<'g>> {
        let operands = self.operands(b, inputs);
        let mut outputs = b.apply(self.sample.op.clone(), &operands);
        if self.surroundings == Surroundings::FanOut {
            // Traced after the primitive, so that differentiation meets these readers first.
            outputs.extend(operands.iter().filter(|t| t.dtype().is_float()).map(|&t| t * 0.3));
        }
        outputs
    }

    fn operands<'g>(&self, b: &'g Builder, inputs: &[Tensor<'g>]) -> Vec<Tensor<'g>> {
        let mut operands: Vec<Tensor<'g>> = Vec::new();
        for (i, &x) in inputs.iter().enumerate() {
            let ty = &self.sample.inputs[i].0;
            let first = operands.first().copied().unwrap_or(x);
            operands.push(match self.surroundings {
                Surroundings::Transposed if is_float(ty) => x.transpose(&(0..ty.shape.len()).rev().collect::<Vec<_>>()),
                Surroundings::Broadcast => {
                    let repeated = x.broadcast_to(&ty.shape);
                    self.offsets[i].as_ref().map_or(repeated, |offset| repeated + b.constant(offset.to_host()))
                }
                Surroundings::Linked if i > 0 && is_float(ty) => {
                    // Small enough to keep the distances to kinks.
                    let mean = first.sum_all() * (0.01 / first.shape().elements() as f64);
                    x + mean.convert(ty.dtype)
                }
                Surroundings::Shared => self.twin(i).map_or(x, |j| operands[j]),
                _ => x,
            });
        }
        operands
    }
}

fn reversed(ty: &Type) -> Type {
    Type { dtype: ty.dtype, shape: ty.shape.iter().rev().copied().collect() }
}

fn can_broadcast(ty: &Type) -> bool {
    is_float(ty) && !ty.shape.is_empty()
}

/// The type with extent 1 in the first dimension.
fn single(ty: &Type) -> Type {
    let mut shape = ty.shape.to_vec();
    shape[0] = 1;
    Type::new(ty.dtype, shape)
}

/// What a primitive's derivative rule says at a sample.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Rule {
    /// Cotangents of operands.
    Differentiable,
    /// Zero, with the reason.
    Zero(&'static str),
    /// An error, with the reason.
    Undefined(&'static str),
    /// Nothing floating point goes in and comes out.
    Discrete,
}

/// Asks for the derivative rule of a sample.
pub fn rule(sample: &Sample) -> Rule {
    let b = Builder::new();
    let input = |(i, (ty, _)): (usize, &(Type, Domain))| b.input(i.to_string(), Role::Data, ty.clone());
    let inputs: Vec<Tensor> = sample.inputs.iter().enumerate().map(input).collect();
    let outputs = b.apply(sample.op.clone(), &inputs);
    let float = |t: &Tensor| t.dtype().is_float();
    let cx = Vjp {
        node: outputs[0].id().node,
        wanted: inputs.iter().map(float).collect(),
        cotangents: outputs.iter().map(|&y| float(&y).then(|| b.zeros(y.ty()))).collect(),
        outputs: outputs.clone(),
        inputs: inputs.clone(),
    };
    match sample.op.vjp(&cx) {
        Derivative::Zero(why) => Rule::Zero(why),
        Derivative::Undefined(why) => Rule::Undefined(why),
        Derivative::Rule(_) if inputs.iter().any(float) && outputs.iter().any(float) => Rule::Differentiable,
        Derivative::Rule(_) => Rule::Discrete,
    }
}

/// Whether every element of every derivative of a primitive is bounded away from zero by its sample domain: elementwise
/// functions without a choice between operands.
pub fn is_dense(op: &Op) -> bool {
    match op {
        Op::Unary(_) => true,
        Op::Binary(op) => !matches!(op, Binary::Max | Binary::Min),
        _ => false,
    }
}
