use crate::{Random, central_difference};
use backprop_core::{
    Builder, Error, Graph, Shape, Tensor,
    grad::{jvp, vjp},
    graph::Role,
    reference::{Array, Elements, evaluate},
};
use std::fmt;

/// Compares derivatives with central differences of the f64 oracle.
///
/// The function is reduced to a scalar with fixed random weights in ±[0.5, 1.5] on every floating-point output. Checked are, for
/// every element of every floating-point input: the gradient of that scalar; the gradient of ⟨gradient, v⟩ for a random v (second
/// order); and, for every element of every output, the Jacobian–vector product along v.
///
/// The relative error is |got − expected| / max(|got|, |expected|, floor) with floor = max(10⁻³ · the largest expected magnitude in
/// that tensor, 10⁻⁶ · Σ|weight · output|): below it, an element is small beside its neighbours, or beside the rounding of the
/// sum that is differenced (10⁻¹⁶ · Σ over steps of 10⁻³), and its own digits carry no information.
///
/// A function of one's own, here with a derivative written by hand:
/// ```
/// use backprop_check::{GradientCheck, Random};
/// use backprop_core::{DType, Type, op::{Domain, custom_vjp}};
///
/// let x = Random::new(1).array(&Type::new(DType::F64, [2, 3]), &Domain::Uniform(-1.0, 1.0));
/// let softplus = GradientCheck::default().run(&[x], |b, x| {
///     custom_vjp(
///         b,
///         "softplus",
///         x,
///         |_, x| vec![x[0].exp().log1p()],
///         |_, x, _, ct| vec![ct[0] * x[0].logistic()],
///     )
/// });
/// assert!(softplus.unwrap().worst() < 1e-6);
/// ```
#[derive(Clone, Debug)]
pub struct GradientCheck {
    /// Largest relative error of gradients and Jacobian–vector products.
    pub first: f64,
    /// Largest relative error of second derivatives; `None` leaves them unchecked.
    pub second: Option<f64>,
    /// Seed of weights and directions.
    pub seed: u64,
}

impl Default for GradientCheck {
    /// 10⁻⁶ for first, 10⁻⁴ for second derivatives.
    fn default() -> Self {
        GradientCheck { first: 1e-6, second: Some(1e-4), seed: 0x5EED }
    }
}

/// What a passed check measured.
#[derive(Clone, Debug, Default)]
pub struct GradientReport {
    /// Largest relative error of the gradient.
    pub gradient: f64,
    /// Largest relative error of Jacobian–vector products.
    pub jvp: f64,
    /// Largest relative error of second derivatives.
    pub second: f64,
    /// Gradient of the weighted sum by central differences, per input; empty for inputs that are not floating point.
    pub derivatives: Vec<Vec<f64>>,
}

impl GradientReport {
    /// Largest relative error of first derivatives.
    pub fn worst(&self) -> f64 {
        self.gradient.max(self.jvp)
    }

    /// Largest magnitude of a first derivative: a check at points where it vanishes detects nothing.
    pub fn largest_derivative(&self) -> f64 {
        self.derivatives.iter().flatten().fold(0.0, |m, d| m.max(d.abs()))
    }
}

/// Which derivative was wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// The gradient of the weighted sum.
    Gradient,
    /// The Jacobian–vector product.
    Jvp,
    /// The gradient of ⟨gradient, v⟩.
    Second,
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Order::Gradient => "gradient of input",
            Order::Jvp => "Jacobian–vector product of output",
            Order::Second => "second derivative of input",
        })
    }
}

/// Why a check failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CheckError {
    /// The function or its derivative could not be traced.
    #[error(transparent)]
    Graph(#[from] Error),
    /// A derivative differs from central differences.
    #[error(
        "{order} {tensor} at {index:?}: expected {expected:e} by central differences, got {got:e} (relative error {relative:.1e})"
    )]
    Mismatch {
        /// Which derivative.
        order: Order,
        /// Position of the input or output among all of them.
        tensor: usize,
        /// Element.
        index: Vec<usize>,
        /// By central differences.
        expected: f64,
        /// By the derivative rules.
        got: f64,
        /// Error relative to the larger magnitude or the floor.
        relative: f64,
    },
}

impl GradientCheck {
    /// Checks the derivatives of `f` at `inputs` with respect to every floating-point input.
    ///
    /// # Errors
    /// The first error of tracing, or the worst mismatch of the first order of derivatives that has one.
    pub fn run<F>(&self, inputs: &[Array], f: F) -> Result<GradientReport, CheckError>
    where
        F: for<'g> Fn(&'g Builder, &[Tensor<'g>]) -> Vec<Tensor<'g>>,
    {
        let problem = Problem::new(self.seed, inputs, &f)?;
        let mut report = GradientReport::default();
        let gradient = problem.trace(&f, |p, ys, xs| p.gradient(ys, xs))?;
        report.derivatives = problem.gradient_by_differences(&problem.function, &problem.weights);
        let scale = problem.scale(&problem.function, &problem.weights);
        let got = problem.per_input(evaluate(&gradient, inputs));
        let shapes: Vec<Shape> = inputs.iter().map(|x| x.ty.shape.clone()).collect();
        report.gradient = compare(Order::Gradient, &shapes, &report.derivatives, &got, scale, self.first)?;

        let product = problem.trace(&f, |p, ys, xs| jvp(ys, &p.wanted(xs), &p.constants(xs, &p.directions)))?;
        let (expected, got) = (problem.directional_differences(), evaluate(&product, inputs));
        let results: Vec<Shape> = got.iter().map(|y| y.ty.shape.clone()).collect();
        report.jvp = compare(Order::Jvp, &results, &expected, &float_values(&got), problem.largest_output(), self.first)?;

        if let Some(tolerance) = self.second {
            let second = problem.trace(&f, |p, ys, xs| {
                let gradients = p.gradient(ys, xs);
                vjp(&gradients, &p.constants(xs, &p.directions), &p.wanted(xs))
            })?;
            let expected = problem.gradient_by_differences(&gradient, &problem.directions);
            let scale = problem.scale(&gradient, &problem.directions);
            let got = problem.per_input(evaluate(&second, inputs));
            report.second = compare(Order::Second, &shapes, &expected, &got, scale, tolerance)?;
        }
        Ok(report)
    }
}

/// One function at one point, with its weights and directions.
struct Problem<'a> {
    inputs: &'a [Array],
    /// The function's floating-point outputs.
    function: Graph,
    /// Per floating-point output.
    weights: Vec<Array>,
    /// Per floating-point input.
    directions: Vec<Array>,
}

impl<'a> Problem<'a> {
    fn new<F>(seed: u64, inputs: &'a [Array], f: &F) -> Result<Self, CheckError>
    where
        F: for<'g> Fn(&'g Builder, &[Tensor<'g>]) -> Vec<Tensor<'g>>,
    {
        let mut problem = Problem { inputs, function: Graph::default(), weights: Vec::new(), directions: Vec::new() };
        problem.function = problem.trace(f, |_, ys, _| ys.to_vec())?;
        let mut random = Random::new(seed);
        problem.weights = problem.function.output_types().iter().map(|ty| random.weights(ty)).collect();
        let float = inputs.iter().filter(|x| x.ty.dtype.is_float());
        problem.directions = float.map(|x| random.weights(&x.ty)).collect();
        Ok(problem)
    }

    /// The graph of what `derive` makes of (floating-point outputs, inputs).
    fn trace<F, D>(&self, f: &F, derive: D) -> Result<Graph, CheckError>
    where
        F: for<'g> Fn(&'g Builder, &[Tensor<'g>]) -> Vec<Tensor<'g>>,
        D: for<'g> FnOnce(&Self, &[Tensor<'g>], &[Tensor<'g>]) -> Vec<Tensor<'g>>,
    {
        let b = Builder::new();
        let input = |(i, x): (usize, &Array)| b.input(format!("x{i}"), Role::Data, x.ty.clone());
        let xs: Vec<Tensor> = self.inputs.iter().enumerate().map(input).collect();
        let ys: Vec<Tensor> = f(&b, &xs).into_iter().filter(|y| y.dtype().is_float()).collect();
        let results = if b.error().is_none() { derive(self, &ys, &xs) } else { Vec::new() };
        for (i, &result) in results.iter().enumerate() {
            b.output(format!("y{i}"), Role::Data, result);
        }
        Ok(b.finish()?)
    }

    /// The inputs that are differentiated with respect to.
    fn wanted<'g>(&self, xs: &[Tensor<'g>]) -> Vec<Tensor<'g>> {
        xs.iter().copied().filter(|x| x.dtype().is_float()).collect()
    }

    fn constants<'g>(&self, like: &[Tensor<'g>], values: &[Array]) -> Vec<Tensor<'g>> {
        let b = like.first().map(Tensor::builder);
        values.iter().filter_map(|v| Some(b?.constant(v.to_host()))).collect()
    }

    fn gradient<'g>(&self, ys: &[Tensor<'g>], xs: &[Tensor<'g>]) -> Vec<Tensor<'g>> {
        vjp(ys, &self.constants(xs, &self.weights), &self.wanted(xs))
    }

    /// Gradient of Σ weights · outputs of a graph over the same inputs.
    fn gradient_by_differences(&self, graph: &Graph, weights: &[Array]) -> Vec<Vec<f64>> {
        let mut at = self.inputs.to_vec();
        let mut gradients = Vec::new();
        for i in 0..self.inputs.len() {
            let Elements::Float(values) = &self.inputs[i].elements else {
                gradients.push(Vec::new());
                continue;
            };
            let element = |(j, &value): (usize, &f64)| {
                let difference = central_difference(|h| {
                    set(&mut at[i], j, value + h);
                    outputs(graph, &at)
                });
                set(&mut at[i], j, value);
                weighted(&difference, weights)
            };
            gradients.push(values.iter().enumerate().map(element).collect());
        }
        gradients
    }

    /// Derivatives of every output along the directions.
    fn directional_differences(&self) -> Vec<Vec<f64>> {
        let mut flat = central_difference(|h| {
            let mut directions = self.directions.iter();
            let moved = self.inputs.iter().map(|x| match &x.elements {
                Elements::Float(values) => {
                    let direction = directions.next().map(Array::to_f64).unwrap_or_default();
                    Array::float(&x.ty, values.iter().zip(direction).map(|(x, v)| x + h * v).collect())
                }
                Elements::Int(_) => x.clone(),
            });
            outputs(&self.function, &moved.collect::<Vec<_>>())
        });
        let sizes = self.function.output_types().into_iter().map(|ty| ty.elements());
        sizes.map(|n| flat.drain(..n).collect()).collect()
    }

    /// Σ |weights · outputs|.
    fn scale(&self, graph: &Graph, weights: &[Array]) -> f64 {
        let magnitudes: Vec<f64> = outputs(graph, self.inputs).iter().map(|y| y.abs()).collect();
        let weights: Vec<Array> =
            weights.iter().map(|w| Array::float(&w.ty, w.to_f64().iter().map(|w| w.abs()).collect())).collect();
        weighted(&magnitudes, &weights)
    }

    fn largest_output(&self) -> f64 {
        outputs(&self.function, self.inputs).iter().fold(0.0, |m, y| m.max(y.abs()))
    }

    /// One list per input from one array per floating-point input.
    fn per_input(&self, arrays: Vec<Array>) -> Vec<Vec<f64>> {
        let mut arrays = arrays.into_iter();
        let list = |x: &Array| match x.ty.dtype.is_float() {
            true => arrays.next().map(|a| a.to_f64()).unwrap_or_default(),
            false => Vec::new(),
        };
        self.inputs.iter().map(list).collect()
    }
}

fn set(array: &mut Array, position: usize, value: f64) {
    if let Elements::Float(values) = &mut array.elements {
        values[position] = value;
    }
}

/// All output elements in one list.
fn outputs(graph: &Graph, inputs: &[Array]) -> Vec<f64> {
    evaluate(graph, inputs).iter().flat_map(Array::to_f64).collect()
}

fn float_values(arrays: &[Array]) -> Vec<Vec<f64>> {
    arrays.iter().map(Array::to_f64).collect()
}

fn weighted(values: &[f64], weights: &[Array]) -> f64 {
    values.iter().zip(weights.iter().flat_map(Array::to_f64)).map(|(y, w)| y * w).sum()
}

/// Magnitude below which an element's own digits carry no information, relative to the largest of its tensor.
const SMALL: f64 = 1e-3;
/// The same, relative to the sum that is differenced.
const RESOLUTION: f64 = 1e-6;

/// The worst relative error, or the mismatch if it is above the tolerance.
fn compare(
    order: Order,
    shapes: &[Shape],
    expected: &[Vec<f64>],
    got: &[Vec<f64>],
    scale: f64,
    tolerance: f64,
) -> Result<f64, CheckError> {
    let mut worst = 0.0;
    let mut mismatch = None;
    for (tensor, (expected, got)) in expected.iter().zip(got).enumerate() {
        let largest = expected.iter().fold(0.0, |m: f64, e| m.max(e.abs()));
        let floor = (SMALL * largest).max(RESOLUTION * scale).max(f64::MIN_POSITIVE);
        for (i, (&expected, &got)) in expected.iter().zip(got).enumerate() {
            let relative = (got - expected).abs() / got.abs().max(expected.abs()).max(floor);
            // A NaN is worse than anything.
            if relative > worst || relative.is_nan() {
                worst = if relative.is_nan() { f64::INFINITY } else { relative };
                let index = shapes[tensor].unravel(i);
                mismatch = Some(CheckError::Mismatch { order, tensor, index, expected, got, relative });
            }
        }
    }
    mismatch.filter(|_| worst > tolerance).map_or(Ok(worst), Err)
}
