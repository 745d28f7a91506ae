use super::{Layer, Scope};
use backprop_core::Tensor;
use serde::{Deserialize, Serialize};

/// Order of the elements of a flattened sample.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FlattenOrder {
    /// Images and volumes (four dimensions and more) in PyTorch's order, so that a linear layer's imported weight fits; sequences, which
    /// PyTorch too keeps as `[N, T, F]` around its recurrent layers, as they lie.
    #[default]
    Auto,
    /// Channel, then space: PyTorch's order, also after a convolution of sequences.
    ChannelsFirst,
    /// Space, then channel: as the input lies in memory.
    ChannelsLast,
}

/// All dimensions but the first as one: `[N, ..]` to `[N, F]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Flatten {
    /// Order of the elements.
    #[serde(default)]
    pub order: FlattenOrder,
}

impl Flatten {
    /// Images and volumes in PyTorch's order, sequences as they lie.
    pub fn new() -> Flatten {
        Flatten::default()
    }

    /// Order of the elements.
    pub fn order(mut self, order: FlattenOrder) -> Flatten {
        self.order = order;
        self
    }
}

impl Layer for Flatten {
    fn forward<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let shape = x.shape();
        let Some((&batch, rest)) = shape.split_first() else {
            return cx.builder().fail("flatten", &[x.ty()], "needs a batch dimension".into());
        };
        let last = shape.len() - 1;
        let channels_first = match self.order {
            FlattenOrder::Auto => last >= 3,
            FlattenOrder::ChannelsFirst => last >= 2,
            FlattenOrder::ChannelsLast => false,
        };
        let order: Vec<usize> = [0, last].into_iter().chain(1..last).collect();
        let ordered = if channels_first { x.transpose(&order) } else { x };
        ordered.reshape([batch, rest.iter().product()])
    }
}
