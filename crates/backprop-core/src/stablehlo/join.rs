//! Small data inputs as parts of one vector, so that they reach a device in one transfer.

use super::{Layout, Value, Writer};
use crate::{DType, Graph, Type, graph::Role};

/// Bytes of the largest input that is joined with others: up to here copying it costs less than a transfer of its own.
const SMALL: usize = 64 << 10;

/// Parts begin at multiples of so many elements.
const ALIGNMENT: usize = 16;

/// The vector of `u32` that takes the place of some of a graph's inputs; it is the last argument.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Joined {
    /// What it has the bits of, in order.
    pub parts: Vec<Part>,
    /// Its length; 0 if nothing is joined.
    pub elements: usize,
}

/// An input among those that are joined.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Part {
    /// Position among the graph's inputs.
    pub input: usize,
    /// Its first element in the vector.
    pub first: usize,
}

impl Joined {
    /// All small data inputs of four-byte elements that every device is given whole, if there are at least two.
    pub(crate) fn of(graph: &Graph, layout: &Layout) -> Joined {
        let types = graph.input_types();
        let small = |&i: &usize| {
            let (input, ty) = (&graph.inputs[i], &types[i]);
            let fits = ty.dtype.size() == 4 && (1..=SMALL).contains(&ty.bytes());
            input.role == Role::Data && fits && !layout.splits(graph, i)
        };
        let inputs: Vec<usize> = (0..types.len()).filter(small).collect();
        let mut joined = Joined::default();
        for input in if inputs.len() > 1 { inputs } else { Vec::new() } {
            joined.parts.push(Part { input, first: joined.elements });
            joined.elements += types[input].elements().next_multiple_of(ALIGNMENT);
        }
        joined
    }

    /// Whether an input of the graph is a part.
    pub fn has(&self, input: usize) -> bool {
        self.parts.iter().any(|part| part.input == input)
    }

    /// The vector's type.
    pub(super) fn ty(&self) -> Option<Type> {
        (self.elements > 0).then(|| Type::new(DType::U32, [self.elements]))
    }
}

impl Part {
    /// The input of that type, from the vector.
    pub(super) fn take(self, writer: &mut Writer, vector: &Value, ty: &Type) -> Value {
        let bounds = [("start_indices", self.first), ("limit_indices", self.first + ty.elements()), ("strides", 1)];
        let attributes = bounds.map(|(name, at)| Writer::numbers(name, [at]));
        let bits = Type::new(DType::U32, [ty.elements()]);
        let slice = writer.op("slice", &[vector], &attributes.join(", "), &bits);
        let bits = writer.reshape(&slice, &ty.shape);
        if ty.dtype == DType::U32 { bits } else { writer.op("bitcast_convert", &[&bits], "", ty) }
    }
}
