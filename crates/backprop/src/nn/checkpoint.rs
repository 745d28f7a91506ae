use super::{AnyLayer, Layer, LayerSpec, Scope, StateKind, StateSpec};
use crate::nn::scope::ScopeRecord;
use backprop_core::{Builder, Tensor, Type, op, random::Randomness};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// A layer whose intermediate values are computed again in the backward pass instead of being kept. Names of parameters and every
/// value are those of the layer alone. Chen et al., "Training Deep Nets with Sublinear Memory Cost".
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// The layer.
    pub layer: Box<LayerSpec>,
}

/// Wraps a layer so that the backward pass computes its intermediate values again.
pub fn checkpoint(layer: impl Layer) -> Checkpoint {
    Checkpoint { layer: Box::new(LayerSpec { name: None, layer: AnyLayer::new(layer) }) }
}

/// What a first trace of a layer finds out: everything its region takes and gives beside the input and the result.
struct Interface {
    specs: Vec<StateSpec>,
    /// Full names of the statistics that change.
    updates: Vec<String>,
}

impl Layer for Checkpoint {
    fn forward<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let layer = &self.layer.layer;
        let interface = discover(layer, cx, x.ty());
        let random: Vec<Tensor<'g>> = cx.randomness().iter().flat_map(|r| [r.seed, r.step, r.offset]).collect();
        let state: Vec<Tensor<'g>> = interface.specs.iter().map(|spec| cx.adopt(spec)).collect();
        let padding: Vec<Tensor<'g>> = cx.padding_mask().into_iter().collect();
        let operands = [&[x], &random[..], &state, &padding].concat();
        let mut record = None;
        let outputs = op::checkpoint(cx.builder(), "checkpoint", &operands, |b, inputs| {
            let (outputs, inner) = trace_body(layer, cx, b, inputs, random.len(), &interface);
            record = Some(inner);
            outputs
        });
        if let Some(record) = record {
            cx.absorb(record);
        }
        for (name, &value) in interface.updates.iter().zip(&outputs[1..]) {
            cx.set_adopted(name, value);
        }
        outputs[0]
    }
}

fn trace_body<'b>(
    layer: &AnyLayer,
    outer: &Scope<'_>,
    b: &'b Builder,
    inputs: &[Tensor<'b>],
    random: usize,
    interface: &Interface,
) -> (Vec<Tensor<'b>>, ScopeRecord) {
    let names = interface.specs.iter().map(|s| s.name.clone());
    let (state, padding) = inputs[1 + random..].split_at(interface.specs.len());
    let bound: HashMap<String, Tensor<'b>> = names.zip(state.iter().copied()).collect();
    let mut scope = Scope::body(outer, b).with_values(bound);
    scope.set_padding_mask(padding.first().copied());
    if let [seed, step, offset] = inputs[1..1 + random] {
        scope = scope.with_randomness(Randomness { seed, step, offset, rows: outer.randomness().and_then(|r| r.rows) });
    }
    let mut y = layer.forward(&mut scope, inputs[0]);
    if padding.is_empty() && scope.padding_mask().is_some() {
        // Known only within the region: the layers that follow would silently do without.
        y = b.fail("checkpoint", &[y.ty()], "an embedding with `mask` must stand before the checkpoint, not within".into());
    }
    let updates: HashMap<String, Tensor<'b>> = scope.updates().into_iter().map(|(s, _, new)| (s.name, new)).collect();
    let mut outputs = vec![y];
    outputs.extend(interface.updates.iter().filter_map(|name| updates.get(name)));
    (outputs, scope.into_record())
}

/// Traces the layer into a graph that is thrown away.
fn discover(layer: &AnyLayer, cx: &Scope<'_>, x: Type) -> Interface {
    let b = Builder::new();
    let input = b.input("checkpoint input", backprop_core::graph::Role::Data, x);
    let mut scope = Scope::body(cx, &b);
    if cx.randomness().is_some() {
        scope = scope.with_randomness(crate::step::random_inputs(&b));
    }
    let padding = cx.padding_mask().map(|mask| b.input("checkpoint padding", backprop_core::graph::Role::Data, mask.ty()));
    scope.set_padding_mask(padding);
    layer.forward(&mut scope, input);
    let updates = scope.updates().into_iter().map(|(spec, ..)| spec.name).collect();
    let mut specs = scope.specs();
    specs.sort_by_key(|s| s.kind == StateKind::Statistic);
    Interface { specs, updates }
}
