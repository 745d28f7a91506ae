use super::{Layer, Linear, Scope, functional};
use crate::init::Init;
use backprop_core::{Tensor, random};
use serde::{Deserialize, Serialize};

/// Attention of every position of `[N, T, E]` to all positions, in several heads: softmax(Q·Kᵀ/√d)·V of each, joined and projected.
/// Parameters `in_proj_weight` `[3E, E]` (queries, keys, values), `in_proj_bias` `[3E]`, `out_proj.weight` `[E, E]`, `out_proj.bias`
/// `[E]`. Positions of the [padding mask](Scope::padding_mask) are not attended to. Vaswani et al., "Attention Is All You Need";
/// PyTorch's `nn.MultiheadAttention` with `batch_first`.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MultiHeadAttention {
    /// Number of heads; divides the extent of the features.
    pub num_heads: usize,
    /// Whether there are biases.
    #[serde(default = "super::spec_true")]
    pub bias: bool,
    /// Whether a position attends only to itself and those before it.
    #[serde(default)]
    pub causal: bool,
    /// Probability of dropping an attention weight while training.
    #[serde(default)]
    pub dropout: f64,
}

impl MultiHeadAttention {
    /// Attention in both directions, with biases.
    pub fn new(num_heads: usize) -> MultiHeadAttention {
        MultiHeadAttention { num_heads, bias: true, causal: false, dropout: 0.0 }
    }

    /// With or without biases.
    pub fn bias(mut self, bias: bool) -> MultiHeadAttention {
        self.bias = bias;
        self
    }

    /// Whether a position attends only to itself and those before it.
    pub fn causal(mut self, causal: bool) -> MultiHeadAttention {
        self.causal = causal;
        self
    }

    /// Probability of dropping an attention weight while training.
    pub fn dropout(mut self, p: f64) -> MultiHeadAttention {
        self.dropout = p;
        self
    }

    /// Attention of queries `[N, T, E]` to keys and values `[N, S, E]` (cross-attention where they are another sequence): `[N, T, E]`.
    /// `key_padding_mask` `[N, S]` is true where a key is padding. A query that may attend to nothing mixes no value: zeros before the
    /// last projection.
    pub fn attend<'g>(
        &self,
        cx: &mut Scope<'g>,
        queries: Tensor<'g>,
        keys: Tensor<'g>,
        values: Tensor<'g>,
        key_padding_mask: Option<Tensor<'g>>,
    ) -> Tensor<'g> {
        if let Err(message) = self.check(cx, [queries, keys, values], key_padding_mask) {
            return cx.builder().fail("multi_head_attention", &[queries.ty(), keys.ty(), values.ty()], message);
        }
        let (n, e) = (queries.dim(0), queries.dim(2));
        let weight = cx.param("in_proj_weight", [3 * e, e], &Init::GlorotUniform);
        let bias = self.bias.then(|| cx.param("in_proj_bias", [3 * e], &Init::Zeros));
        let head = e / self.num_heads;
        let project = |x: Tensor<'g>, part: usize| {
            let y = x.linear(weight.slice_dim(0, part * e, (part + 1) * e));
            let y = bias.map_or(y, |bias| y + bias.slice_dim(0, part * e, (part + 1) * e));
            y.reshape([n, x.dim(1), self.num_heads, head]).transpose(&[0, 2, 1, 3])
        };
        let [q, k, v] = [project(queries, 0), project(keys, 1), project(values, 2)];
        let mask = key_padding_mask.map(|padding| padding.logical_not().reshape([n, 1, 1, keys.dim(1)]));
        let kept = self.kept_weights(cx, [n, self.num_heads, queries.dim(1), keys.dim(1)]);
        let mixed = functional::attention(q, k, v, mask, kept, self.causal);
        let mixed = mixed.transpose(&[0, 2, 1, 3]).reshape(queries.shape());
        let uniform = Init::uniform(crate::init::bound_of_fan_in(e));
        cx.call("out_proj", &Linear::new(e).bias(self.bias).init(uniform), mixed)
    }

    /// What attention weights are multiplied by while dropping: 0 or 1/(1 − p).
    fn kept_weights<'g>(&self, cx: &mut Scope<'g>, shape: [usize; 4]) -> Option<Tensor<'g>> {
        if !cx.train() || self.dropout == 0.0 {
            return None;
        }
        let (randomness, stream) = cx.random()?;
        let keep = random::bernoulli(randomness, stream, 1.0 - self.dropout, shape);
        Some(keep.convert(cx.dtype()) * (1.0 / (1.0 - self.dropout)))
    }

    fn check<'g>(&self, cx: &Scope<'g>, operands: [Tensor<'g>; 3], padding: Option<Tensor<'g>>) -> Result<(), String> {
        let [queries, keys, values] = operands;
        if operands.iter().any(|x| x.rank() != 3 || x.dtype() != cx.dtype()) {
            return Err("needs floating-point sequences [N, T, E]".into());
        }
        let (n, e) = (queries.dim(0), queries.dim(2));
        if self.num_heads == 0 || e == 0 || !e.is_multiple_of(self.num_heads) {
            return Err(format!("the {e} features of a position must be a positive multiple of num_heads = {}", self.num_heads));
        }
        if keys.ty() != values.ty() || keys.dim(0) != n || keys.dim(2) != e {
            return Err(format!("keys and values must be [{n}, S, {e}], as many sequences and features as the queries have"));
        }
        if self.causal && keys.dim(1) != queries.dim(1) {
            return Err("causal attention needs as many keys as queries".into());
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(format!("dropout must be a probability in [0, 1), got {}", self.dropout));
        }
        match padding {
            Some(mask) if mask.ty() != super::mask::mask_type(keys) => {
                Err(format!("key_padding_mask must be {}, got {}", super::mask::mask_type(keys), mask.ty()))
            }
            _ => Ok(()),
        }
    }
}

impl Layer for MultiHeadAttention {
    fn forward<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let padding = cx.padding_mask();
        self.attend(cx, x, x, x, padding)
    }
}
