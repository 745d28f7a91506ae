//! f32 results of the native executor against f64: elementwise functions in units in the last place, products by their bound.

use backprop_check::{Random, compare::ulp_error, execute};
use backprop_core::{
    Builder, DType, HostTensor, Tensor, Type,
    exec::native::Native,
    graph::Role,
    op::{Binary, Domain, Unary},
};
use backprop_kernels::Isa;

/// Units in the last place an elementwise function may be off.
const ULPS: f64 = 4.0;
const VALUES: usize = 4096;

fn backends() -> Vec<Native> {
    Isa::available().iter().map(|&isa| Native::new(1, isa)).collect()
}

/// Runs a function of f32 vectors.
fn run(native: &Native, inputs: &[Vec<f32>], f: impl for<'g> Fn(&'g Builder, &[Tensor<'g>]) -> Tensor<'g>) -> HostTensor {
    let b = Builder::new();
    let vector = |v: &Vec<f32>| HostTensor::new([v.len()], v).unwrap();
    let values: Vec<HostTensor> = inputs.iter().map(vector).collect();
    let xs: Vec<Tensor> = values.iter().enumerate().map(|(i, x)| b.input(i.to_string(), Role::Data, x.ty().clone())).collect();
    b.output("y", Role::Data, f(&b, &xs));
    execute(native, &b.finish().unwrap(), &values).unwrap().remove(0)
}

/// Magnitudes spread evenly over the exponents from 2^low to 2^high, of both signs, and the special values.
fn spread(random: &mut Random, low: f64, high: f64) -> Vec<f32> {
    let special = [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1.0, -1.0, f32::MIN_POSITIVE];
    let drawn = |_| {
        let magnitude = random.uniform(low, high).exp2() as f32;
        if random.chance(0.5) { magnitude } else { -magnitude }
    };
    special.into_iter().chain((special.len()..VALUES).map(drawn)).collect()
}

fn assert_within(name: &str, native: &Native, inputs: &[Vec<f32>], got: &HostTensor, exact: impl Fn(usize) -> f64) {
    for (i, &y) in got.as_slice::<f32>().unwrap().iter().enumerate() {
        let at: Vec<f32> = inputs.iter().map(|x| x[i]).collect();
        // A zero stands for what would be denormal.
        let zero = y == 0.0 && exact(i).abs() < f64::from(f32::MIN_POSITIVE);
        let error = if zero { 0.0 } else { ulp_error(y, exact(i)) };
        assert!(error <= ULPS, "{name}({at:?}) on {}: {y:e}, exactly {:e}: {error} ulp", native.isa(), exact(i));
    }
}

#[test]
fn functions_of_one_operand_stay_within_four_ulp() {
    let mut random = Random::new(1);
    for row in Unary::rows().iter().filter(|row| row.accepts.accepts(DType::F32) && row.op != Unary::IsFinite) {
        // Sines of large arguments are specified up to 10⁴.
        let high = if matches!(row.op, Unary::Sin | Unary::Cos) { 13.2 } else { 126.0 };
        let inputs = [spread(&mut random, -30.0, high)];
        let exponents = if high > 100.0 { Some(spread(&mut random, -10.0, 7.0)) } else { None };
        for inputs in std::iter::once(inputs).chain(exponents.map(|x| [x])) {
            for native in backends() {
                let y = run(&native, &inputs, |b, x| b.apply(row.op, x)[0]);
                assert_within(row.name, &native, &inputs, &y, |i| (row.float)(f64::from(inputs[0][i])));
            }
        }
    }
}

#[test]
fn functions_of_two_operands_stay_within_four_ulp() {
    let mut random = Random::new(2);
    for row in Binary::rows().iter().filter(|row| row.accepts.accepts(DType::F32)) {
        let inputs = match row.op {
            // Powers are specified for exponents up to 8, and the remainder of a quotient that f32 can count.
            Binary::Pow => {
                let exponents = (0..VALUES).map(|_| random.uniform(-8.0, 8.0) as f32).collect();
                let bases = spread(&mut random, -12.0, 12.0);
                [bases.into_iter().map(f32::abs).collect(), exponents]
            }
            Binary::Rem => [spread(&mut random, 0.0, 20.0), spread(&mut random, 0.0, 3.0)],
            _ => [spread(&mut random, -40.0, 40.0), spread(&mut random, -40.0, 40.0)],
        };
        for native in backends() {
            let y = run(&native, &inputs, |b, x| b.apply(row.op, x)[0]);
            assert_within(row.name, &native, &inputs, &y, |i| (row.float)(f64::from(inputs[0][i]), f64::from(inputs[1][i])));
        }
    }
}

/// |error| ≤ 2·k·ε·Σ|a·b| for every element of a product.
#[test]
fn products_keep_their_bound() {
    let mut random = Random::new(3);
    for (m, k, n) in [(1, 1, 1), (3, 0, 2), (5, 7, 3), (17, 300, 33), (64, 1000, 5), (2, 4097, 1)] {
        let [a, b] = [(m, k), (k, n)].map(|(r, c)| random.array(&Type::new(DType::F32, [r, c]), &Domain::Uniform(-1.0, 1.0)));
        let (x, y) = (a.to_f64(), b.to_f64());
        for native in backends() {
            let builder = Builder::new();
            let [lhs, rhs] = [("a", &a), ("b", &b)].map(|(name, t)| builder.input(name, Role::Data, t.ty.clone()));
            builder.output("y", Role::Data, lhs.matmul(rhs));
            let graph = builder.finish().unwrap();
            let got = execute(&native, &graph, &[a.to_host(), b.to_host()]).unwrap().remove(0).to_f64();
            for (i, got) in got.iter().enumerate() {
                let terms = || (0..k).map(|j| x[i / n * k + j] * y[j * n + i % n]);
                let bound = 2.0 * k as f64 * f64::from(f32::EPSILON) * terms().map(f64::abs).sum::<f64>();
                let error = (got - terms().sum::<f64>()).abs();
                assert!(error <= bound, "[{m},{k}]·[{k},{n}] on {}: {error:e} > {bound:e}", native.isa());
            }
        }
    }
}
