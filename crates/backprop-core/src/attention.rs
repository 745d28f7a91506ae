//! Scaled dot-product attention as regions that a backend may have kernels for.
//!
//! [`REGION`] maps queries `[.., T, d]`, keys `[.., S, d]`, values `[.., S, e]` and, if it is masked, a bool mask `[.., T, S]` to
//! softmax(Q·Kᵀ·scale)·V `[.., T, e]` and the residual `[.., T]`: the logarithm of each row's sum of exponentials, 0 for a row in which no
//! key takes part, whose result is 0. [`GRADIENT`] maps (inputs, outputs, cotangent of the result) to the cotangents of queries,
//! keys and values. Attributes of both are [`Attention`].

use crate::op::Composite;
use std::collections::BTreeMap;

/// Name of the region.
pub const REGION: &str = "scaled_dot_product_attention";
/// Name of its derivative.
pub const GRADIENT: &str = "scaled_dot_product_attention_grad";

/// What a kernel must know beyond the operands' types.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Attention {
    /// Whether there is a mask, true where a key takes part.
    pub masked: bool,
    /// Whether query t attends to keys 0 to t only.
    pub causal: bool,
    /// What Q·Kᵀ is multiplied by.
    pub scale: f64,
}

impl Attention {
    /// As attributes of a region.
    pub fn attributes(&self) -> BTreeMap<String, String> {
        let Attention { masked, causal, scale } = self;
        [("masked", masked.to_string()), ("causal", causal.to_string()), ("scale", scale.to_string())]
            .map(|(name, value)| (name.to_owned(), value))
            .into()
    }

    /// What a composite says, if it is one of the two regions.
    pub(crate) fn of(composite: &Composite) -> Option<Attention> {
        if ![REGION, GRADIENT].contains(&composite.region.as_str()) {
            return None;
        }
        let attribute = |name: &str| composite.attributes.get(name);
        let scale = attribute("scale")?.parse().ok().filter(|scale| *scale > 0.0)?;
        Some(Attention { masked: attribute("masked")?.parse().ok()?, causal: attribute("causal")?.parse().ok()?, scale })
    }
}
