//! Errors of the core: what was wrong, where, and what would be right.

use crate::graph::Type;
use std::{fmt, panic::Location};

/// Why a graph could not be built, compiled or run.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An operation was applied to operands that do not fit it.
    #[error("{0}")]
    Graph(Box<GraphError>),
    /// A graph in text form could not be read.
    #[error("graph text, line {line}: {message}")]
    Parse {
        /// 1-based line in the text.
        line: usize,
        /// What was wrong and what was expected.
        message: String,
    },
    /// A graph breaks a rule that every graph obeys; the message names the node.
    #[error("invalid graph: {0}")]
    Invalid(String),
    /// The values handed to a program do not fit its signature.
    #[error("{0}")]
    Run(String),
    /// An accelerator, or the plugin that drives it, could not do what it was asked.
    #[error("{0}")]
    Device(String),
}

/// The first misuse met while tracing: operation, operands, layer path and source line.
#[derive(Clone, Debug)]
pub struct GraphError {
    /// Layer path, empty at the top.
    pub path: String,
    /// Name of the operation.
    pub op: String,
    /// Types of the operands.
    pub operands: Vec<Type>,
    /// Where in the user's source it was called.
    pub location: Option<&'static Location<'static>>,
    /// What was wrong and what would be right.
    pub message: String,
}

impl fmt::Display for GraphError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "layer `{}`: ", self.path)?;
        }
        write!(f, "{}: {}", self.op, self.message)?;
        if !self.operands.is_empty() {
            let operands: Vec<String> = self.operands.iter().map(Type::to_string).collect();
            write!(f, " (operands: {})", operands.join(", "))?;
        }
        if let Some(at) = self.location {
            write!(f, "\n  at {}:{}:{}", at.file(), at.line(), at.column())?;
        }
        Ok(())
    }
}

impl From<GraphError> for Error {
    fn from(e: GraphError) -> Self {
        Error::Graph(Box::new(e))
    }
}
