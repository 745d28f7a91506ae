//! Named regions with a body in primitives, optionally with their own derivative.

use super::{Cost, Derivative, Primitive, Sample, Vjp};
use crate::{
    Builder, Tensor, Type,
    graph::{Graph, Output, Role},
    reference::{Array, evaluate},
    stablehlo::{self, Value, Writer},
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};

/// A named region. A backend that has a kernel for the name may use it; any other inlines the body.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Composite {
    /// Name a backend may know, such as `softmax`.
    pub region: String,
    /// Attributes a kernel needs beyond the operand types.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
    /// Definition in primitives.
    #[serde(skip)]
    pub body: Arc<Graph>,
    /// How many of the last outputs are residuals: kept for the derivative, not meant for users.
    pub residuals: usize,
    /// The derivative as a graph over (inputs, outputs, cotangents of the outputs that are not residuals), giving one
    /// cotangent per input in `differentiable`. Without one the body is differentiated.
    #[serde(skip)]
    pub derivative: Option<Arc<Graph>>,
    /// Inputs the derivative gives cotangents for.
    pub differentiable: Vec<usize>,
    /// Whether the backward pass computes the body again instead of keeping its intermediate values.
    pub recompute: bool,
}

impl Composite {
    /// A region without a derivative of its own.
    pub fn new(region: impl Into<String>, body: Graph) -> Composite {
        Composite {
            region: region.into(),
            attributes: BTreeMap::new(),
            body: Arc::new(body),
            residuals: 0,
            derivative: None,
            differentiable: Vec::new(),
            recompute: false,
        }
    }
}

/// Traces `f` as a region named `region` and applies it. Returns all outputs.
#[track_caller]
pub fn composite<'g, F>(b: &'g Builder, region: &str, inputs: &[Tensor<'g>], f: F) -> Vec<Tensor<'g>>
where
    F: for<'b> FnOnce(&'b Builder, &[Tensor<'b>]) -> Vec<Tensor<'b>>,
{
    let types: Vec<Type> = inputs.iter().map(Tensor::ty).collect();
    b.apply(Composite::new(region, b.trace(&types, f)), inputs)
}

/// Applies `f` with a derivative of the user's own: `derivative(inputs, outputs, cotangents)` gives one cotangent per
/// floating-point input, in order.
///
/// ```
/// use backprop_core::{Builder, DType, Type, graph::Role, op::custom_vjp};
/// let b = Builder::new();
/// let x = b.input("x", Role::Data, Type::scalar(DType::F32));
/// // A straight-through estimator: rounds, but differentiates as the identity.
/// let y = custom_vjp(&b, "straight_through", &[x], |_, x| vec![x[0].round_nearest_even()], |_, _, _, ct| vec![ct[0]]);
/// b.output("dx", Role::Data, y[0].grad(&[x])[0]);
/// assert!(b.finish().is_ok());
/// ```
#[track_caller]
pub fn custom_vjp<'g, F, D>(b: &'g Builder, region: &str, inputs: &[Tensor<'g>], f: F, derivative: D) -> Vec<Tensor<'g>>
where
    F: for<'b> FnOnce(&'b Builder, &[Tensor<'b>]) -> Vec<Tensor<'b>>,
    D: for<'b> FnOnce(&'b Builder, &[Tensor<'b>], &[Tensor<'b>], &[Tensor<'b>]) -> Vec<Tensor<'b>>,
{
    let types: Vec<Type> = inputs.iter().map(Tensor::ty).collect();
    let body = b.trace(&types, f);
    let results = body.output_types();
    let (n, m) = (types.len(), results.len());
    let rule = b.trace(&[&types[..], &results, &results].concat(), |b, v| derivative(b, &v[..n], &v[n..n + m], &v[n + m..]));
    let region = Composite {
        derivative: Some(rule.into()),
        differentiable: (0..n).filter(|&i| types[i].dtype.is_float()).collect(),
        ..Composite::new(region, body)
    };
    b.apply(region, inputs)
}

/// Applies `f` without keeping its intermediate values: the backward pass computes them again.
#[track_caller]
pub fn checkpoint<'g, F>(b: &'g Builder, region: &str, inputs: &[Tensor<'g>], f: F) -> Vec<Tensor<'g>>
where
    F: for<'b> FnOnce(&'b Builder, &[Tensor<'b>]) -> Vec<Tensor<'b>>,
{
    let types: Vec<Type> = inputs.iter().map(Tensor::ty).collect();
    b.apply(Composite { recompute: true, ..Composite::new(region, b.trace(&types, f)) }, inputs)
}

impl Primitive for Composite {
    fn name(&self) -> &'static str {
        "composite"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, String> {
        let expected = self.body.input_types();
        if expected != inputs {
            return Err(format!("`{}` was traced for other operand types", self.region));
        }
        let outputs = self.body.output_types();
        if self.residuals > outputs.len() {
            return Err(format!("`{}` has fewer outputs than residuals", self.region));
        }
        if let Some(derivative) = &self.derivative {
            let cotangents = &outputs[..outputs.len() - self.residuals];
            let wanted = [inputs, &outputs, cotangents].concat();
            let given: Vec<Type> = self.differentiable.iter().filter_map(|&i| inputs.get(i).cloned()).collect();
            if derivative.input_types() != wanted || derivative.output_types() != given {
                return Err(format!(
                    "the derivative of `{}` must map (inputs, outputs, cotangents) to one cotangent per differentiable input",
                    self.region
                ));
            }
        }
        Ok(outputs)
    }

    fn reference(&self, inputs: &[&Array], _: &[Type]) -> Vec<Array> {
        let inputs: Vec<Array> = inputs.iter().map(|&a| a.clone()).collect();
        evaluate(&self.body, &inputs)
    }

    fn vjp<'g>(&self, cx: &Vjp<'g>) -> Derivative<'g> {
        let Some(derivative) = &self.derivative else { return Derivative::Rule(self.body_vjp(cx, &cx.cotangents)) };
        let visible = cx.outputs.len() - self.residuals;
        let mut arguments = [&cx.inputs[..], &cx.outputs].concat();
        arguments.extend((0..visible).map(|i| cx.cotangent(i)));
        let region = Composite {
            attributes: self.attributes.clone(),
            ..Composite::new(format!("{}_grad", self.region), (**derivative).clone())
        };
        let given = arguments[0].builder().apply(region, &arguments);
        let mut result = vec![None; cx.inputs.len()];
        self.differentiable.iter().zip(given).for_each(|(&i, g)| result[i] = Some(g));
        // Second order reaches the residuals too; they are ordinary functions of the inputs.
        if cx.cotangents[visible..].iter().any(Option::is_some) {
            let only_residuals: Vec<_> = cx.cotangents.iter().enumerate().map(|(i, ct)| ct.filter(|_| i >= visible)).collect();
            for (sum, more) in result.iter_mut().zip(self.body_vjp(cx, &only_residuals)) {
                *sum = match (*sum, more) {
                    (Some(a), Some(b)) => Some(a + b),
                    (a, b) => a.or(b),
                };
            }
        }
        Derivative::Rule(result)
    }

    fn cost(&self, inputs: &[Type], outputs: &[Type]) -> Cost {
        Cost { flops: graph_flops(&self.body), bytes: Cost::traffic(inputs, outputs) }
    }

    fn stablehlo(&self, w: &mut Writer, inputs: &[Value], _: &[Type]) -> Vec<Value> {
        stablehlo::body(w, &self.body, inputs)
    }

    fn samples() -> Vec<Sample> {
        let b = Builder::new();
        let region = |shape: &[usize]| {
            let ty = Type::new(crate::DType::F64, shape);
            let body = b.trace(&[ty.clone(), ty], |_, x| vec![(x[0] * x[1]).tanh(), x[0] + x[1].exp()]);
            Sample::f64(Composite::new("sample", body), &[shape, shape], super::Domain::Uniform(0.3, 1.2))
        };
        [&[][..], &[3], &[2, 3], &[0], &[1], &[5, 1], &[3, 2, 2], &[17]].map(region).into()
    }
}

impl Composite {
    /// Differentiates the body: inlined again, and merged with the first copy by CSE unless it is to be recomputed.
    fn body_vjp<'g>(&self, cx: &Vjp<'g>, cotangents: &[Option<Tensor<'g>>]) -> Vec<Option<Tensor<'g>>> {
        let Some(b) = cx.inputs.first().map(|t| t.builder()) else { return Vec::new() };
        let present: Vec<Tensor<'g>> = cotangents.iter().flatten().copied().collect();
        let mut arguments = [&cx.inputs[..], &present].concat();
        if self.recompute {
            // The cotangents go through the barrier too, so that recomputation starts only when it is needed.
            arguments = b.apply(super::Barrier {}, &arguments);
        }
        // Traced apart: here one operand may depend on another or be the same tensor, in the body they are independent.
        let inner = Builder::new();
        let _scope = inner.scope(&b.path());
        let xs: Vec<Tensor> = arguments.iter().enumerate().map(|(i, t)| inner.input(i.to_string(), Role::Data, t.ty())).collect();
        let (xs, cts) = xs.split_at(cx.inputs.len());
        let outputs = inner.inline(&self.body, xs);
        let ys: Vec<Tensor> = outputs.iter().zip(cotangents).filter_map(|(&y, ct)| ct.map(|_| y)).collect();
        let gradients = crate::grad::vjp_partial(&inner, &ys, cts, xs, &cx.wanted);
        if let Some(error) = inner.error() {
            b.fail_with(error);
            return vec![None; cx.inputs.len()];
        }
        let mut graph = inner.with_graph(Graph::clone);
        for (i, gradient) in gradients.iter().flatten().enumerate() {
            graph.outputs.push(Output { name: i.to_string(), role: Role::Data, value: gradient.id() });
        }
        let mut given = b.inline(&graph, &arguments).into_iter();
        gradients.iter().map(|g| g.and_then(|_| given.next())).collect()
    }
}

/// Floating-point operations of all nodes of a graph.
pub fn graph_flops(graph: &Graph) -> u64 {
    let node = |n: &crate::graph::Node| {
        let inputs: Vec<Type> = n.inputs.iter().map(|&v| graph.ty(v).clone()).collect();
        n.op.cost(&inputs, &n.outputs).flops
    };
    graph.nodes.iter().map(node).sum()
}
