//! Random valid graphs over all primitives, for properties that every pass and backend must keep.
//!
//! Values stay within a few units, and primitives that jump (comparisons, rounding, selections) are applied only to values every
//! backend computes exactly, so that a backend's rounding never decides a branch.

mod contraction;
mod elementwise;
mod indexing;
mod movement;
mod region;

use crate::Random;
use backprop_core::{
    Builder, DType, Graph, HostTensor, Shape, Tensor, Type,
    graph::Role,
    op::{Domain, Op},
    reference::Array,
};

/// What [`random_graph`] makes.
#[derive(Clone, Debug)]
pub struct GraphOptions {
    /// Steps of the generator; each adds one primitive and sometimes its helpers.
    pub steps: usize,
    /// How deep scans and composites nest.
    pub depth: usize,
    /// Largest number of elements of a generated value.
    pub elements: usize,
    /// Whether gradients of a scalar are appended.
    pub gradients: bool,
}

impl Default for GraphOptions {
    /// Twelve steps, regions within regions, 200 elements, gradients.
    fn default() -> Self {
        GraphOptions { steps: 12, depth: 2, elements: 200, gradients: true }
    }
}

/// A valid graph, a function of the seed. Inputs and outputs may be data or state.
///
/// # Panics
/// If the generator made something that is not valid: a defect of the generator or of type inference.
pub fn random_graph(seed: u64, options: &GraphOptions) -> Graph {
    let b = Builder::new();
    let mut random = Random::new(seed);
    let float = if random.chance(0.8) { DType::F32 } else { DType::F64 };
    let mut generator = Generator::new(&b, random, options.clone(), float);
    generator.top = true;
    generator.seed_pool();
    generator.steps(options.steps);
    if options.gradients {
        generator.gradients();
    }
    generator.outputs();
    drop(generator);
    b.finish().unwrap_or_else(|e| panic!("random graph {seed} is not valid: {e}"))
}

/// How many random graphs a test runs: 500, enough to reach every primitive in many surroundings, or the number in the environment
/// variable `BACKPROP_RANDOM_GRAPHS`.
pub fn graph_count() -> u64 {
    std::env::var("BACKPROP_RANDOM_GRAPHS").ok().and_then(|n| n.parse().ok()).unwrap_or(500)
}

/// So many random graphs with their seeds, small ones first, so that the first to fail is a small one. Every fourth has values
/// of more elements than kernels process at a time.
pub fn random_graphs(count: u64) -> impl Iterator<Item = (u64, Graph)> {
    (0..count).map(|seed| {
        let steps = 1 + (seed / 25) as usize;
        let large = GraphOptions { elements: 6000, steps: 1 + steps / 2, ..GraphOptions::default() };
        let options = if seed % 4 == 3 { large } else { GraphOptions { steps, ..GraphOptions::default() } };
        (seed, random_graph(seed, &options))
    })
}

/// Values for the inputs of a graph.
pub fn random_inputs(seed: u64, graph: &Graph) -> Vec<HostTensor> {
    let mut random = Random::new(seed ^ 0xDA7A);
    let domain = |dtype: DType| match dtype {
        DType::Bool => Domain::Integers(0, 1),
        DType::I32 | DType::I64 => Domain::Integers(-4, 9),
        d if d.is_float() => Domain::Uniform(-1.5, 1.5),
        _ => Domain::Integers(0, 9),
    };
    graph.input_types().iter().map(|ty| random.array(ty, &domain(ty.dtype)).to_host()).collect()
}

/// As [`random_inputs`], with zeros of both signs, infinities, NaN, subnormal numbers and some whose products and differences are, among
/// the floating-point values: what passes must treat exactly, but what no tolerance can compare.
pub fn special_inputs(seed: u64, graph: &Graph) -> Vec<HostTensor> {
    const SPECIAL: [f64; 12] =
        [0.0, -0.0, 1.0, -1.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 1e-40, -1e-20, 2e-20, 1.3e-38, 1.5e-38];
    let mut random = Random::new(seed ^ 0x5BEC);
    let mut replace = |tensor: HostTensor| {
        let dtype = tensor.dtype();
        let sometimes = |v: f64| if random.chance(0.3) { *random.pick(&SPECIAL) } else { v };
        let values: Vec<f64> = tensor.to_f64().into_iter().map(sometimes).collect();
        HostTensor::from_f64(dtype, tensor.shape(), &values).unwrap_or(tensor)
    };
    let tensors = random_inputs(seed, graph).into_iter();
    tensors.map(|t| if t.dtype().is_float() { replace(t) } else { t }).collect()
}

/// A value that later steps may use.
#[derive(Clone)]
struct Value<'g> {
    tensor: Tensor<'g>,
    ty: Type,
    /// Whether every backend computes exactly these bits.
    exact: bool,
}

struct Generator<'g> {
    b: &'g Builder,
    random: Random,
    options: GraphOptions,
    /// The floating-point type most values have.
    float: DType,
    pool: Vec<Value<'g>>,
    /// Whether inputs may be added: not in the bodies of regions.
    top: bool,
    /// Inputs added so far: name, role, handle.
    inputs: Vec<(String, Role, Tensor<'g>)>,
}

const INTEGERS: [DType; 5] = [DType::I32, DType::I64, DType::U32, DType::U64, DType::U8];

impl<'g> Generator<'g> {
    fn new(b: &'g Builder, random: Random, options: GraphOptions, float: DType) -> Self {
        Generator { b, random, options, float, pool: Vec::new(), top: false, inputs: Vec::new() }
    }

    fn seed_pool(&mut self) {
        for _ in 0..3 {
            let ty = Type::new(self.float, self.shape());
            self.fresh(&ty);
        }
        let integer = Type::new(*self.random.pick(&INTEGERS), self.shape());
        self.fresh(&integer);
    }

    fn steps(&mut self, steps: usize) {
        for _ in 0..steps {
            match self.random.below(22) {
                0..4 => self.unary(),
                4..8 => self.binary(),
                8 => self.choice(),
                9 => self.integers(),
                10..13 => self.movement(),
                13 => self.indexing(),
                14 => self.dot(),
                15 => self.convolution(),
                16 => self.reduction(),
                17 => self.window(),
                18 | 19 => self.identity(),
                _ if self.options.depth > 0 => self.region(),
                _ => self.movement(),
            }
        }
    }

    /// Ranks up to 4; extents often odd, sometimes 1, rarely 0.
    fn shape(&mut self) -> Shape {
        let rank = *self.random.pick(&[0, 1, 1, 2, 2, 2, 3, 4]);
        let mut shape: Vec<usize> = (0..rank).map(|_| self.extent()).collect();
        while shape.iter().product::<usize>() > self.options.elements {
            shape.pop();
        }
        shape.into()
    }

    fn extent(&mut self) -> usize {
        const EXTENTS: [usize; 15] = [1, 1, 2, 3, 3, 4, 5, 7, 8, 17, 33, 61, 128, 300, 1031];
        let known = if self.options.elements > 1000 { EXTENTS.len() } else { 11 };
        if self.random.chance(0.02) { 0 } else { *self.random.pick(&EXTENTS[..known]) }
    }

    fn fits(&self, shape: &[usize]) -> bool {
        shape.iter().product::<usize>() <= self.options.elements
    }

    fn add(&mut self, tensor: Tensor<'g>, exact: bool) -> Tensor<'g> {
        let ty = tensor.ty();
        let exact = exact || !ty.dtype.is_float();
        self.pool.push(Value { tensor, ty, exact });
        tensor
    }

    fn apply(&mut self, op: impl Into<Op>, inputs: &[Tensor<'g>], exact: bool) -> Tensor<'g> {
        let outputs = self.b.apply(op, inputs);
        outputs.iter().for_each(|&t| _ = self.add(t, exact));
        outputs[0]
    }

    /// A value that fulfils a condition, of those made lately rather than of those made early.
    fn pick(&mut self, condition: impl Fn(&Value<'g>) -> bool) -> Option<Value<'g>> {
        let fitting: Vec<usize> = (0..self.pool.len()).filter(|&i| condition(&self.pool[i])).collect();
        let (n, from) = (fitting.len(), fitting.len() / 3);
        let at = if self.random.chance(0.5) { from + self.random.below(n - from) } else { self.random.below(n) };
        fitting.get(at).map(|&i| self.pool[i].clone())
    }

    /// A floating-point value of the main type.
    fn pick_float(&mut self) -> Value<'g> {
        let float = self.float;
        match self.pick(|v| v.ty.dtype == float) {
            Some(value) => value,
            None => {
                let ty = Type::new(float, self.shape());
                self.fresh(&ty)
            }
        }
    }

    /// A floating-point value every backend computes exactly.
    fn pick_exact(&mut self) -> Value<'g> {
        let float = self.float;
        match self.pick(|v| v.ty.dtype == float && v.exact) {
            Some(value) => value,
            None => {
                let ty = Type::new(float, self.shape());
                self.fresh(&ty)
            }
        }
    }

    /// A value of a type, old or new.
    fn like(&mut self, ty: &Type, exact: bool) -> Value<'g> {
        let found = if self.random.chance(0.8) { self.pick(|v| v.ty == *ty && (v.exact || !exact)) } else { None };
        found.unwrap_or_else(|| self.fresh(ty))
    }

    /// A new input, or a constant where there can be no more inputs.
    fn fresh(&mut self, ty: &Type) -> Value<'g> {
        let tensor = if self.top && self.inputs.len() < 12 && self.random.chance(0.8) {
            let (role, prefix) = if self.random.chance(0.4) { (Role::State, "state") } else { (Role::Data, "data") };
            let name = format!("{prefix}{}", self.inputs.len());
            let tensor = self.b.input(&name, role, ty.clone());
            self.inputs.push((name, role, tensor));
            tensor
        } else {
            self.constant(ty)
        };
        self.add(tensor, true);
        Value { tensor, ty: ty.clone(), exact: true }
    }

    /// One value everywhere; those that a simplification might look for.
    fn uniform(&mut self, ty: &Type) -> Tensor<'g> {
        let value = *self.random.pick(&[0.0, 1.0, -0.0, -1.0, 0.5, 2.0]);
        self.b.full(ty.clone(), if ty.dtype.is_float() { value } else { value.trunc() })
    }

    fn constant(&mut self, ty: &Type) -> Tensor<'g> {
        let domain = if ty.dtype.is_float() { Domain::Uniform(-1.5, 1.5) } else { Domain::Integers(0, 1) };
        if self.random.chance(0.4) {
            return self.uniform(ty);
        }
        let array: Array = self.random.array(ty, &domain);
        self.b.constant(array.to_host())
    }

    /// Some data outputs, a new value for some states; the last value is always read.
    fn outputs(&mut self) {
        for (name, role, old) in self.inputs.clone() {
            if role == Role::State && self.random.chance(0.5) {
                let new = self.like(&old.ty(), false).tensor;
                self.b.output(name, Role::State, new);
            }
        }
        let last = self.pool.len().saturating_sub(1);
        for i in 0..self.pool.len() {
            if i == last || self.random.chance(0.5) {
                self.b.output(format!("value{i}"), Role::Data, self.pool[i].tensor);
            }
        }
    }

    /// Gradients of a scalar made of some values, with respect to some inputs.
    fn gradients(&mut self) {
        let float = self.float;
        let inputs: Vec<Tensor<'g>> = self.inputs.iter().map(|i| i.2).filter(|t| t.dtype() == float).collect();
        let terms: Vec<Value<'g>> = self.pool.iter().filter(|v| v.ty.dtype == float && v.ty.elements() > 0).cloned().collect();
        let mut loss = self.b.scalar(float, 0.0);
        for term in terms.iter().rev().take(4) {
            let all: Vec<usize> = (0..term.ty.shape.len()).collect();
            loss = loss + (term.tensor * 0.5).tanh().mean(&all);
        }
        for gradient in loss.grad(&inputs) {
            self.add(gradient, false);
        }
    }
}
