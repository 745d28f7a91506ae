//! The static graph: nodes with lists of typed outputs, the builder that traces it, and the symbolic tensor handle.

mod builder;
mod node;
mod tensor;
mod text;
mod types;
mod verify;

pub use builder::{Builder, ScopeGuard};
pub use node::{Graph, Input, Node, NodeId, Origin, Output, Role, ValueId, subgraph};
pub use tensor::{Operand, Tensor};
pub use types::{Shape, Type};
pub use verify::verify;
