//! Joins the small outputs of a graph into one, so that they come back from a device in one transfer.

use crate::{
    DType, Graph, Type,
    graph::{Node, NodeId, Origin, Output, Role, ValueId},
    op::{Concatenate, Op, Reshape},
};

/// Elements of the largest output that is joined with others.
const SMALL: usize = 1024;

/// Where a data output of a graph is found among those of the packed one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// This one of the data outputs.
    Alone(usize),
    /// Elements, from this one, of the packed vector, which is the last data output.
    Packed(usize),
}

/// A graph whose small `f32` data outputs are joined.
pub(super) struct Packed {
    pub graph: Graph,
    /// By data output of the original, in order.
    pub places: Vec<Place>,
}

fn is_small(ty: &Type) -> bool {
    ty.dtype == DType::F32 && (1..=SMALL).contains(&ty.elements())
}

/// The graph with its small outputs joined, if there are at least two.
pub(super) fn pack(graph: &Graph) -> Packed {
    let small = |o: &Output| o.role == Role::Data && is_small(graph.ty(o.value));
    let mut packed = Packed { graph: graph.clone(), places: Vec::new() };
    let join = graph.outputs.iter().filter(|o| small(o)).count() >= 2;
    packed.graph.outputs.retain(|o| !(join && small(o)));
    let (mut alone, mut elements, mut parts) = (0.., 0, Vec::new());
    for output in &graph.outputs {
        if join && small(output) {
            let ty = graph.ty(output.value);
            packed.places.push(Place::Packed(elements));
            elements += ty.elements();
            parts.push(flat(&mut packed.graph, output.value, ty.elements()));
        } else if output.role == Role::Data {
            packed.places.push(Place::Alone(alone.next().unwrap_or_default()));
        }
    }
    if join {
        let value = push(&mut packed.graph, Concatenate { dim: 0 }.into(), parts, Type::new(DType::F32, [elements]));
        packed.graph.outputs.push(Output { name: "packed".into(), role: Role::Data, value });
    }
    packed
}

fn flat(graph: &mut Graph, value: ValueId, elements: usize) -> ValueId {
    let ty = Type::new(DType::F32, [elements]);
    push(graph, Reshape { shape: ty.shape.clone() }.into(), vec![value], ty)
}

fn push(graph: &mut Graph, op: Op, inputs: Vec<ValueId>, ty: Type) -> ValueId {
    graph.nodes.push(Node { op, inputs, outputs: vec![ty], origin: Origin::default() });
    ValueId { node: NodeId(graph.nodes.len() as u32 - 1), output: 0 }
}
