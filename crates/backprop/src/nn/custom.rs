use backprop_core::{Tensor, Type, op::Composite};
use std::collections::BTreeMap;

/// What a custom derivative is formed from.
pub struct Saved<'b> {
    /// Operands of the forward function.
    pub inputs: Vec<Tensor<'b>>,
    /// Its results, residuals included.
    pub outputs: Vec<Tensor<'b>>,
    /// Cotangents of the results that are not residuals.
    pub cotangents: Vec<Tensor<'b>>,
}

/// A region with its own derivative that keeps intermediate values for it. Returns all results, residuals included. Without
/// residuals, [`custom_vjp`](backprop_core::op::custom_vjp) is the simpler one.
///
/// `forward` gives the results; the last `residuals` of them are only kept for the derivative: nothing else should be computed
/// from them, except behind [`stop_gradient`](Tensor::stop_gradient). `derivative` gives one cotangent per operand, `None` for
/// an operand without one. Both are made of ordinary operations, so the derivative can be differentiated again.
///
/// ```
/// use backprop::prelude::*;
///
/// // ln(1 + eˣ), with eˣ kept: the derivative is eˣ / (1 + eˣ).
/// fn softplus<'g>(x: Tensor<'g>) -> Tensor<'g> {
///     custom_vjp_with_residuals(
///         "softplus",
///         &[x],
///         1,
///         |x| vec![x[0].exp().log1p(), x[0].exp()],
///         |s| vec![Some(s.cotangents[0] * s.outputs[1] / (s.outputs[1] + 1.0))],
///     )[0]
/// }
/// let b = Builder::new();
/// let x = b.input("x", Role::Data, Type::new(DType::F32, [3]));
/// let dx = softplus(x).sum_all().grad(&[x])[0];
/// assert_eq!(dx.shape(), [3].into());
/// assert!(b.error().is_none());
/// ```
#[track_caller]
pub fn custom_vjp_with_residuals<'g, F, D>(
    region: &str,
    inputs: &[Tensor<'g>],
    residuals: usize,
    forward: F,
    derivative: D,
) -> Vec<Tensor<'g>>
where
    F: for<'b> FnOnce(&[Tensor<'b>]) -> Vec<Tensor<'b>>,
    D: for<'b> FnOnce(Saved<'b>) -> Vec<Option<Tensor<'b>>>,
{
    with_attributes(region, BTreeMap::new(), inputs, residuals, forward, derivative)
}

/// As [`custom_vjp_with_residuals`], with what a kernel must know beyond the operands' types.
#[track_caller]
pub(crate) fn with_attributes<'g, F, D>(
    region: &str,
    attributes: BTreeMap<String, String>,
    inputs: &[Tensor<'g>],
    residuals: usize,
    forward: F,
    derivative: D,
) -> Vec<Tensor<'g>>
where
    F: for<'b> FnOnce(&[Tensor<'b>]) -> Vec<Tensor<'b>>,
    D: for<'b> FnOnce(Saved<'b>) -> Vec<Option<Tensor<'b>>>,
{
    let Some(b) = inputs.first().map(|t| t.builder()) else { return Vec::new() };
    let types: Vec<Type> = inputs.iter().map(Tensor::ty).collect();
    let mut count = 0;
    let body = b.trace(&types, |_, x| {
        let outputs = forward(x);
        count = outputs.len();
        outputs
    });
    let results = body.output_types();
    let visible = results.len().saturating_sub(residuals);
    let arguments: Vec<Type> = types.iter().chain(&results).chain(&results[..visible]).cloned().collect();
    let mut differentiable = Vec::new();
    let region = if results.len() == count {
        let derivative = b.trace(&arguments, |_, args| {
            let (n, m) = (types.len(), types.len() + count);
            let saved = Saved { inputs: args[..n].to_vec(), outputs: args[n..m].to_vec(), cotangents: args[m..].to_vec() };
            let given = derivative(saved);
            differentiable = (0..given.len()).filter(|&i| given[i].is_some()).collect();
            given.into_iter().flatten().collect()
        });
        Composite { attributes, residuals, derivative: Some(derivative.into()), differentiable, ..Composite::new(region, body) }
    } else {
        Composite::new(region, body)
    };
    let mut outputs = b.apply(region, inputs);
    // After a tracing error there is one stand-in; callers may still index every result.
    outputs.resize(count.max(1), outputs[0]);
    outputs
}
