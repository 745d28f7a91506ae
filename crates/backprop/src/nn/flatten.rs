use super::{Layer, Scope};
use backprop_core::Tensor;
use serde::{Deserialize, Serialize};

/// Order of the elements of a flattened image.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FlattenOrder {
    /// Channel, height, width: PyTorch's, so that a linear layer's imported weight fits.
    #[default]
    ChannelsFirst,
    /// Height, width, channel: as the image lies in memory.
    ChannelsLast,
}

/// All dimensions but the first as one: `[N, ..]` to `[N, F]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Flatten {
    /// Order of the elements of images (inputs of four dimensions); others keep theirs.
    #[serde(default)]
    pub order: FlattenOrder,
}

impl Flatten {
    /// Images in PyTorch's order.
    pub fn new() -> Flatten {
        Flatten::default()
    }

    /// Order of the elements of images.
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
        let image = shape.len() == 4 && self.order == FlattenOrder::ChannelsFirst;
        let ordered = if image { x.transpose(&[0, 3, 1, 2]) } else { x };
        ordered.reshape([batch, rest.iter().product()])
    }
}
