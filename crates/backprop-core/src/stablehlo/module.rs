//! A whole graph as a module with the function `main`.

use super::{Joined, Precision, Value, Writer, strings, writer::tensor};
use crate::{
    Graph,
    graph::{Role, ValueId},
    op::Op,
};

/// How a program lies on devices.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// Devices that share the work; 0 and 1 mean one.
    pub devices: usize,
    /// Names of the data inputs whose first dimension, the rows of a batch, is split over the devices where it can be.
    pub split: Vec<String>,
    /// Inputs that are parts of one argument.
    pub joined: Joined,
}

impl Layout {
    /// Whether an input of a graph is split, and not given whole to every device.
    pub fn splits(&self, graph: &Graph, input: usize) -> bool {
        let input = &graph.inputs[input];
        let rows = graph.node(input.node).outputs[0].shape.first().copied().unwrap_or(0);
        self.devices > 1
            && input.role == Role::Data
            && self.split.contains(&input.name)
            && rows > 0
            && rows.is_multiple_of(self.devices)
    }

    /// The sharding of a value with `rank` dimensions in Shardy's notation; nothing for one device.
    fn sharding(&self, rank: usize, split: bool) -> Option<String> {
        let dims = (0..rank).map(|d| if d == 0 && split { "{\"rows\"}" } else { "{}" });
        (self.devices > 1).then(|| format!("sdy.sharding = #sdy.sharding<@mesh, [{}]>", strings(dims)))
    }
}

/// The graph as a StableHLO module. Arguments and results of `main` are the graph's inputs and outputs, in order; inputs that are joined
/// are one argument, the last. A state output takes over the memory of the state input of its name. Composites are replaced by their bodies.
pub fn module(graph: &Graph, precision: Precision, layout: &Layout) -> String {
    let mut writer = Writer::new(precision);
    let (types, joined) = (graph.input_types(), &layout.joined);
    let alone: Vec<usize> = (0..types.len()).filter(|&i| !joined.has(i)).collect();
    let mut arguments: Vec<Value> = alone.iter().map(|&i| writer.fresh(&types[i])).collect();
    let mut notes: Vec<_> = alone.iter().map(|&i| (aliased(graph, i), layout.splits(graph, i))).collect();
    let mut inputs: Vec<Option<Value>> = vec![None; types.len()];
    alone.iter().zip(&arguments).for_each(|(&i, argument)| inputs[i] = Some(argument.clone()));
    if let Some(ty) = joined.ty() {
        let vector = writer.fresh(&ty);
        for part in &joined.parts {
            inputs[part.input] = Some(part.take(&mut writer, &vector, &types[part.input]));
        }
        arguments.push(vector);
        notes.push((None, false));
    }
    let inputs: Vec<Value> = inputs.into_iter().flatten().collect();
    let results = body(&mut writer, graph, &inputs);
    writer.line(&format!(
        "\"func.return\"({}) : ({}) -> ()",
        strings(results.iter().map(|v| &v.name)),
        strings(results.iter().map(|v| tensor(&v.ty)))
    ));
    let declared = arguments.iter().zip(notes).map(|(a, (alias, split))| {
        let notes = [alias, layout.sharding(a.ty.shape.len(), split)];
        annotated(&format!("{}: {}", a.name, tensor(&a.ty)), &notes)
    });
    let given = results.iter().map(|r| annotated(&tensor(&r.ty), &[layout.sharding(r.ty.shape.len(), false)]));
    let (declared, given) = (strings(declared), strings(given));
    let mesh = if layout.devices > 1 { format!("  sdy.mesh @mesh = <[\"rows\"={}]>\n", layout.devices) } else { String::new() };
    format!("module @backprop {{\n{mesh}  func.func public @main({declared}) -> ({given}) {{\n{}  }}\n}}\n", writer.text)
}

fn annotated(what: &str, notes: &[Option<String>]) -> String {
    let notes: Vec<&String> = notes.iter().flatten().collect();
    if notes.is_empty() { what.into() } else { format!("{what} {{{}}}", strings(notes)) }
}

/// The note that the state output of an input's name is written over it.
fn aliased(graph: &Graph, input: usize) -> Option<String> {
    let input = graph.inputs.get(input).filter(|i| i.role == Role::State)?;
    let output = graph.outputs.iter().position(|o| o.role == Role::State && o.name == input.name)?;
    Some(format!("tf.aliasing_output = {output} : i32"))
}

/// Writes the nodes of a graph whose inputs have the values `arguments`; gives the values of its outputs.
pub(crate) fn body(writer: &mut Writer, graph: &Graph, arguments: &[Value]) -> Vec<Value> {
    let mut values: Vec<Vec<Value>> = Vec::with_capacity(graph.nodes.len());
    let find = |values: &[Vec<Value>], v: ValueId| values[v.node.index()][v.output as usize].clone();
    for (id, node) in graph.iter() {
        let argument = || graph.inputs.iter().position(|i| i.node == id).and_then(|i| arguments.get(i));
        let given = if let Op::Input(_) = node.op { argument() } else { None };
        let results = given.map(|value| vec![value.clone()]).unwrap_or_else(|| {
            let operands: Vec<Value> = node.inputs.iter().map(|&v| find(&values, v)).collect();
            node.op.stablehlo(writer, &operands, &node.outputs)
        });
        values.push(results);
    }
    graph.outputs.iter().map(|o| find(&values, o.value)).collect()
}
