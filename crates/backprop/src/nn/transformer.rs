use super::{Dropout, Layer, LayerNorm, Linear, MultiHeadAttention, Scope, functional};
use backprop_core::Tensor;
use serde::{Deserialize, Serialize};

/// What stands between the two linear layers of a [`TransformerBlock`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FeedForwardActivation {
    /// max(x, 0).
    #[default]
    Relu,
    /// x·Φ(x).
    Gelu,
}

/// Attention and two linear layers, each with a shortcut around it and a layer norm: `[N, T, E]` to `[N, T, E]`. Children are named as in
/// PyTorch's `nn.TransformerEncoderLayer`: `self_attn`, `linear1`, `linear2`, `norm1`, `norm2`; its defaults, too. Vaswani et al.,
/// "Attention Is All You Need"; with `norm_first` Xiong et al., "On Layer Normalization in the Transformer Architecture". Stacks are
/// made with `repeat`; with `causal` it is a block of a decoder-only network.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TransformerBlock {
    /// Number of heads; divides the extent of the features.
    pub num_heads: usize,
    /// Extent between the two linear layers.
    #[serde(default = "default_dim_feedforward")]
    pub dim_feedforward: usize,
    /// Probability of dropping elements while training: attention weights, and what is added to each shortcut.
    #[serde(default = "default_dropout")]
    pub dropout: f64,
    /// What stands between the two linear layers.
    #[serde(default)]
    pub activation: FeedForwardActivation,
    /// Whether the norms stand before attention and linear layers, instead of after the sums.
    #[serde(default)]
    pub norm_first: bool,
    /// Whether a position attends only to itself and those before it.
    #[serde(default)]
    pub causal: bool,
}

fn default_dim_feedforward() -> usize {
    2048
}

fn default_dropout() -> f64 {
    0.1
}

impl TransformerBlock {
    /// A block with PyTorch's defaults.
    pub fn new(num_heads: usize) -> TransformerBlock {
        TransformerBlock {
            num_heads,
            dim_feedforward: default_dim_feedforward(),
            dropout: default_dropout(),
            activation: FeedForwardActivation::Relu,
            norm_first: false,
            causal: false,
        }
    }

    /// Extent between the two linear layers.
    pub fn dim_feedforward(mut self, extent: usize) -> TransformerBlock {
        self.dim_feedforward = extent;
        self
    }

    /// Probability of dropping elements while training.
    pub fn dropout(mut self, p: f64) -> TransformerBlock {
        self.dropout = p;
        self
    }

    /// What stands between the two linear layers.
    pub fn activation(mut self, activation: FeedForwardActivation) -> TransformerBlock {
        self.activation = activation;
        self
    }

    /// Whether the norms stand before attention and linear layers.
    pub fn norm_first(mut self, norm_first: bool) -> TransformerBlock {
        self.norm_first = norm_first;
        self
    }

    /// Whether a position attends only to itself and those before it.
    pub fn causal(mut self, causal: bool) -> TransformerBlock {
        self.causal = causal;
        self
    }

    fn attention<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let layer = MultiHeadAttention::new(self.num_heads).causal(self.causal).dropout(self.dropout);
        let y = cx.call("self_attn", &layer, x);
        Dropout::new(self.dropout).forward(cx, y)
    }

    fn feed_forward<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let drop = Dropout::new(self.dropout);
        let inner = cx.call("linear1", &Linear::new(self.dim_feedforward), x);
        let inner = match self.activation {
            FeedForwardActivation::Relu => inner.relu(),
            FeedForwardActivation::Gelu => functional::gelu(inner),
        };
        let inner = drop.forward(cx, inner);
        let outer = cx.call("linear2", &Linear::new(x.dim(-1)), inner);
        drop.forward(cx, outer)
    }
}

impl Layer for TransformerBlock {
    fn forward<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        if self.dim_feedforward == 0 || x.rank() != 3 || x.dtype() != cx.dtype() {
            let message = "needs a positive dim_feedforward and floating-point sequences [N, T, E]";
            return cx.builder().fail("transformer_block", &[x.ty()], message.into());
        }
        let norm = LayerNorm::new();
        if self.norm_first {
            let normed = cx.call("norm1", &norm, x);
            let x = x + self.attention(cx, normed);
            let normed = cx.call("norm2", &norm, x);
            x + self.feed_forward(cx, normed)
        } else {
            let sum = x + self.attention(cx, x);
            let x = cx.call("norm1", &norm, sum);
            let sum = x + self.feed_forward(cx, x);
            cx.call("norm2", &norm, sum)
        }
    }
}
