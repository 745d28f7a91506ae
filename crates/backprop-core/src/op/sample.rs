use super::Op;
use crate::{DType, Type};

/// Values a sample operand is drawn from.
#[derive(Clone, Debug, PartialEq)]
pub enum Domain {
    /// Uniform between two bounds.
    Uniform(f64, f64),
    /// Uniform, but at least a margin away from equally spaced kinks or jumps.
    AwayFrom {
        /// Lower bound.
        low: f64,
        /// Upper bound.
        high: f64,
        /// Where one of the kinks lies.
        offset: f64,
        /// Distance between kinks.
        spacing: f64,
        /// Least distance to a kink.
        margin: f64,
    },
    /// A random permutation of equally spaced values in an interval: no ties.
    Distinct(f64, f64),
    /// Uniform integers, bounds included.
    Integers(i64, i64),
}

/// One application of a primitive to operands of given types and domains.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The primitive with its attributes.
    pub op: Op,
    /// Operands: type and values. Floating-point operands are f64 here; a checker may lower them to other types.
    pub inputs: Vec<(Type, Domain)>,
}

impl Sample {
    /// A sample with f64 operands of the given shapes, all from one domain.
    pub fn f64(op: impl Into<Op>, shapes: &[&[usize]], domain: Domain) -> Sample {
        let inputs = shapes.iter().map(|&s| (Type::new(DType::F64, s), domain.clone())).collect();
        Sample { op: op.into(), inputs }
    }

    /// A sample with operands spelled out.
    pub fn new(op: impl Into<Op>, inputs: Vec<(Type, Domain)>) -> Sample {
        Sample { op: op.into(), inputs }
    }
}
