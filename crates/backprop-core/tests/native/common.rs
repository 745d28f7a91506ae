use backprop_core::{
    Builder, DType, Graph, HostTensor, Type,
    exec::{
        Program, Store,
        native::{Native, Options},
    },
    graph::Role,
    op::{Domain, Op, Sample},
    reference::{Array, evaluate},
};
use backprop_kernels::Isa;

/// SplitMix64: the same values on every machine.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    pub fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

pub fn draw(random: &mut Random, domain: &Domain, n: usize) -> Vec<f64> {
    match *domain {
        Domain::Uniform(low, high) => (0..n).map(|_| random.uniform(low, high)).collect(),
        Domain::Integers(low, high) => (0..n).map(|_| random.uniform(low as f64, high as f64 + 1.0).floor()).collect(),
        Domain::AwayFrom { low, high, spacing, margin, offset } => {
            let far = |x: &f64| (x - offset - ((x - offset) / spacing).round() * spacing).abs() >= margin;
            (0..n).map(|_| std::iter::repeat_with(|| random.uniform(low, high)).find(far).unwrap()).collect()
        }
        Domain::Distinct(low, high) => {
            let mut values: Vec<f64> = (0..n).map(|i| low + (high - low) * (i as f64 + 0.5) / n as f64).collect();
            (1..n).for_each(|i| values.swap(i, random.below(i + 1)));
            values
        }
    }
}

pub fn tensor(random: &mut Random, ty: &Type, domain: &Domain) -> HostTensor {
    HostTensor::from_f64(ty.dtype, ty.shape.clone(), &draw(random, domain, ty.elements())).unwrap()
}

/// Values for all inputs of a graph, in order.
pub fn inputs(graph: &Graph, seed: u64) -> Vec<HostTensor> {
    let mut random = Random(seed);
    let draw = |ty: Type| match ty.dtype {
        d if d.is_float() => tensor(&mut random, &ty, &Domain::Uniform(-1.0, 1.0)),
        DType::Bool => tensor(&mut random, &ty, &Domain::Integers(0, 1)),
        _ => tensor(&mut random, &ty, &Domain::Integers(0, 6)),
    };
    graph.input_types().into_iter().map(draw).collect()
}

pub fn reference(graph: &Graph, inputs: &[HostTensor]) -> Vec<Array> {
    evaluate(graph, &inputs.iter().map(Array::from_host).collect::<Vec<_>>())
}

/// A store and the data inputs of a graph, from values for all its inputs.
pub fn split<'a>(graph: &Graph, values: &'a [HostTensor]) -> (Store, Vec<&'a HostTensor>) {
    let (mut store, mut data) = (Store::new(), Vec::new());
    for (input, value) in graph.inputs.iter().zip(values) {
        match input.role {
            Role::State => store.insert(&input.name, value.clone()),
            Role::Data => data.push(value),
        }
    }
    (store, data)
}

/// Runs a graph once; all its outputs in order, state as it is afterwards.
pub fn run(native: &Native, graph: &Graph, values: &[HostTensor]) -> Vec<HostTensor> {
    let mut program = native.build(graph).unwrap_or_else(|e| panic!("{e}"));
    let (mut store, data) = split(graph, values);
    let mut outputs = program.signature().output_buffers();
    program.run(&mut store, &data, &mut outputs).unwrap();
    let mut outputs = outputs.into_iter();
    let output = |o: &backprop_core::graph::Output| match o.role {
        Role::State => store.get(&o.name).unwrap().clone(),
        Role::Data => outputs.next().unwrap(),
    };
    graph.outputs.iter().map(output).collect()
}

/// Two threads, the best instruction set, working memory poisoned.
pub fn native() -> Native {
    Native::new(2, Isa::detect()).with(Options { poison: true, ..Options::default() })
}

/// Largest difference from the oracle, relative to the largest magnitude (at least `floor`).
pub fn distance(given: &HostTensor, wanted: &Array, floor: f64) -> f64 {
    assert_eq!(*given.ty(), wanted.ty);
    let (a, b) = (given.to_f64(), wanted.to_f64());
    let scale = b.iter().filter(|x| x.is_finite()).fold(floor, |m, x| m.max(x.abs()));
    let apart = |(a, b): (&f64, &f64)| if a == b || a.is_nan() && b.is_nan() { 0.0 } else { (a - b).abs() / scale };
    a.iter().zip(&b).map(apart).fold(0.0, |m, d| if d.is_nan() { f64::INFINITY } else { m.max(d) })
}

/// Asserts that two runs gave the same bits.
pub fn assert_same(what: &str, graph: &Graph, a: &[HostTensor], b: &[HostTensor]) {
    for ((output, a), b) in graph.outputs.iter().zip(a).zip(b) {
        assert!(a.bytes() == b.bytes(), "{what}: `{}` differs: {a:?} and {b:?}", output.name);
    }
}

/// The sample as a graph with its operands of another floating-point type, if it accepts that.
pub fn lowered(sample: &Sample, float: DType) -> Option<(Graph, Vec<HostTensor>)> {
    let lower = |d: DType| if d == DType::F64 { float } else { d };
    let op = match sample.op.clone() {
        Op::DotGeneral(mut d) => {
            d.accumulate = lower(d.accumulate);
            d.into()
        }
        Op::Convolution(mut c) => {
            c.accumulate = lower(c.accumulate);
            c.into()
        }
        Op::Reduce(mut r) => {
            r.accumulate = lower(r.accumulate);
            r.into()
        }
        op => op,
    };
    let types: Vec<Type> = sample.inputs.iter().map(|(ty, _)| Type { dtype: lower(ty.dtype), ..ty.clone() }).collect();
    op.infer(&types).ok()?;
    let b = Builder::new();
    let operands: Vec<_> = types.iter().enumerate().map(|(i, ty)| b.input(i.to_string(), Role::Data, ty.clone())).collect();
    for (i, output) in b.apply(op, &operands).into_iter().enumerate() {
        b.output(i.to_string(), Role::Data, output);
    }
    let mut random = Random(7);
    let values = types.iter().zip(&sample.inputs).map(|(ty, (_, domain))| tensor(&mut random, ty, domain)).collect();
    Some((b.finish().unwrap(), values))
}
