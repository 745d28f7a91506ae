use super::{Layer, Scope};
use crate::init::Init;
use backprop_core::{HostTensor, Tensor};
use serde::{Deserialize, Serialize};

/// Adds a learned vector to each position: `[N, T, E]` to the same, T at most `max_len`. Parameter `weight` `[max_len, E]`, at first normal
/// with standard deviation 0.02 as in Radford et al., "Language Models are Unsupervised Multitask Learners".
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PositionalEmbedding {
    /// Number of positions there are vectors for.
    pub max_len: usize,
    /// First values of the vectors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<Init>,
}

impl PositionalEmbedding {
    /// Vectors for a number of positions.
    pub fn new(max_len: usize) -> PositionalEmbedding {
        PositionalEmbedding { max_len, init: None }
    }

    /// First values of the vectors.
    pub fn init(mut self, init: Init) -> PositionalEmbedding {
        self.init = Some(init);
        self
    }
}

impl Layer for PositionalEmbedding {
    fn forward<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        if x.rank() != 3 || x.dtype() != cx.dtype() || x.dim(1) > self.max_len {
            let message = format!("needs floating-point sequences [N, T, E] of at most max_len = {} positions", self.max_len);
            return cx.builder().fail("positional_embedding", &[x.ty()], message);
        }
        let init = self.init.clone().unwrap_or(Init::Normal { mean: 0.0, std: 0.02 });
        let weight = cx.param("weight", [self.max_len, x.dim(2)], &init);
        x + weight.slice_dim(0, 0, x.dim(1))
    }
}

/// Adds sine and cosine waves of the position to `[N, T, E]`: feature 2i gets sin(t/10000^(2i/E)), feature 2i + 1 the cosine. No
/// parameters. Vaswani et al., "Attention Is All You Need", section 3.5.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SinusoidalPositions {}

impl SinusoidalPositions {
    /// The layer.
    pub fn new() -> SinusoidalPositions {
        SinusoidalPositions {}
    }
}

/// More waves than this are larger than what a graph should hold as a constant.
const MOST_WAVES: usize = 1 << 26;

impl Layer for SinusoidalPositions {
    fn forward<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let fail = |message: &str| cx.builder().fail("sinusoidal_positions", &[x.ty()], message.into());
        if x.rank() != 3 || x.dtype() != cx.dtype() {
            return fail("needs floating-point sequences [N, T, E]");
        }
        let (length, features) = (x.dim(1), x.dim(2));
        if length.saturating_mul(features) > MOST_WAVES {
            return fail("needs sequences of at most 2^26 numbers each");
        }
        let wave = |t: usize, f: usize| {
            let angle = t as f64 / 10_000_f64.powf((f - f % 2) as f64 / features as f64);
            if f.is_multiple_of(2) { angle.sin() } else { angle.cos() }
        };
        let waves: Vec<f64> = (0..length).flat_map(|t| (0..features).map(move |f| wave(t, f))).collect();
        match HostTensor::from_f64(x.dtype(), [length, features], &waves) {
            Ok(waves) => x + cx.builder().constant(waves),
            Err(message) => fail(&message),
        }
    }
}
