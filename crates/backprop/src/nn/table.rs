use super::{Layer, Mode, Scope, StateKind};
use backprop_core::{Builder, DType, Error, Graph, Type, graph::Role, op::Op};
use std::collections::HashMap;

/// One line of a model's table.
#[derive(Clone, PartialEq, Debug)]
pub struct LayerRow {
    /// Path, such as `layers.3.body.layers.0`.
    pub path: String,
    /// Kind of layer, such as `Conv2d`.
    pub kind: String,
    /// Type of the input.
    pub input: Type,
    /// Type of the result.
    pub output: Type,
    /// Number of elements of the layer's own parameters, children's not included.
    pub parameters: usize,
    /// Floating-point operations of the layer's own forward pass, children's not included; a fused multiply-add is two.
    pub flops: u64,
}

impl LayerRow {
    pub(super) fn new(path: String, kind: String, input: Type) -> LayerRow {
        LayerRow { path, kind, output: input.clone(), input, parameters: 0, flops: 0 }
    }
}

/// The layers of a model in the order they are applied, for an input of the given type. Containers stand before their
/// children; sums over all rows are the model's totals.
///
/// # Errors
/// If the model does not fit the input.
pub fn layer_table(model: &dyn Layer, dtype: DType, input: Type) -> Result<Vec<LayerRow>, Error> {
    let b = Builder::new();
    let x = b.input("x", Role::Data, input);
    let mut cx = Scope::new(&b, dtype, Mode::Evaluate);
    let y = model.forward(&mut cx, x);
    b.output("y", Role::Data, y);
    let (mut rows, specs) = (cx.rows().to_vec(), cx.specs());
    drop(cx);
    let graph = b.finish()?;
    let mut flops = HashMap::new();
    add_flops(&graph, &mut flops);
    for row in &mut rows {
        let own = specs.iter().filter(|s| s.kind == StateKind::Parameter && s.layer == row.path);
        row.parameters = own.map(|s| s.ty.elements()).sum();
        // Removed, so that a layer applied twice counts its work once.
        row.flops = flops.remove(&row.path).unwrap_or(0);
    }
    Ok(rows)
}

/// Adds the work of every node to the layer it was made in; regions are looked into.
fn add_flops(graph: &Graph, flops: &mut HashMap<String, u64>) {
    for (_, node) in graph.iter() {
        if let Op::Composite(region) = &node.op {
            add_flops(&region.body, flops);
            continue;
        }
        let inputs: Vec<Type> = node.inputs.iter().map(|&v| graph.ty(v).clone()).collect();
        *flops.entry(node.origin.path.to_string()).or_default() += node.op.cost(&inputs, &node.outputs).flops;
    }
}
