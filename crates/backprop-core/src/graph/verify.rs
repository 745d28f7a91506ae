//! The rules every graph obeys; run after tracing and, in tests, after every pass.

use super::{Graph, NodeId, Role, ValueId};
use crate::{Error, op::Op};
use std::collections::HashSet;

/// Checks operands, inferred types, names and state outputs.
///
/// # Errors
/// [`Error::Invalid`] names the first node or output that breaks a rule.
pub fn verify(graph: &Graph) -> Result<(), Error> {
    for (id, node) in graph.iter() {
        for &v in &node.inputs {
            known(graph, v, Some(id)).map_err(|e| Error::Invalid(format!("node %{} ({}): {e}", id.0, node.op.name())))?;
        }
        let types: Vec<_> = node.inputs.iter().map(|&v| graph.ty(v).clone()).collect();
        let inferred = node.op.infer(&types);
        if inferred.as_ref() != Ok(&node.outputs) {
            let message = inferred.err().unwrap_or("its output types are not those inferred from its operands".into());
            return Err(Error::Invalid(format!("node %{} ({}): {message}", id.0, node.op.name())));
        }
        for body in node.op.regions() {
            verify(body)?;
        }
    }
    inputs(graph)?;
    outputs(graph)
}

fn known(graph: &Graph, v: ValueId, before: Option<NodeId>) -> Result<(), String> {
    let in_order = before.is_none_or(|b| v.node < b);
    let exists = graph.nodes.get(v.node.index()).is_some_and(|n| (v.output as usize) < n.outputs.len());
    if in_order && exists { Ok(()) } else { Err(format!("operand %{}.{} is not defined before it", v.node.0, v.output)) }
}

fn inputs(graph: &Graph) -> Result<(), Error> {
    let mut names = HashSet::new();
    for input in &graph.inputs {
        if !matches!(graph.nodes.get(input.node.index()).map(|n| &n.op), Some(Op::Input(_))) {
            return Err(Error::Invalid(format!("input `{}` does not point to an input node", input.name)));
        }
        if !names.insert(&input.name) {
            return Err(Error::Invalid(format!("two inputs are named `{}`", input.name)));
        }
    }
    Ok(())
}

fn outputs(graph: &Graph) -> Result<(), Error> {
    let mut names = HashSet::new();
    for output in &graph.outputs {
        known(graph, output.value, None).map_err(|e| Error::Invalid(format!("output `{}`: {e}", output.name)))?;
        if !names.insert(&output.name) {
            return Err(Error::Invalid(format!("two outputs are named `{}`", output.name)));
        }
        if output.role == Role::State {
            let input = graph.inputs.iter().find(|i| i.role == Role::State && i.name == output.name);
            let Some(input) = input else {
                return Err(Error::Invalid(format!("state output `{}` has no state input of that name", output.name)));
            };
            let (old, new) = (&graph.node(input.node).outputs[0], graph.ty(output.value));
            if old != new {
                return Err(Error::Invalid(format!("state `{}` is {old} but its new value is {new}", output.name)));
            }
        }
    }
    Ok(())
}
