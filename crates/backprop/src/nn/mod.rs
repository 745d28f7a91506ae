//! Layers: plain structs with builder methods and serde, so that the Rust value and the TOML table are one definition.
//!
//! A layer asks its [`Scope`] for parameters by name while it is traced; their sizes follow from the input. Names and logical
//! layouts are PyTorch's. Images are channel-last (`[N, H, W, C]`), sequences `[N, T, F]`.

mod activation;
mod activation_options;
mod arrange;
mod attention;
mod checkpoint;
mod combine;
mod container;
mod conv;
mod conv_transpose;
mod custom;
mod dropout;
mod embedding;
mod extent;
mod flatten;
pub mod functional;
mod functional_attention;
mod linear;
mod mask;
mod norm;
mod norm_group;
mod pool;
mod pool_whole;
mod position;
mod recurrent;
mod scope;
mod spec;
mod table;
mod take;
mod transformer;
mod upsample;

pub use activation::{
    Gelu, GeluApproximation, Glu, Hardsigmoid, Hardswish, LogSoftmax, Mish, Relu, Relu6, Selu, Sigmoid, Silu, Softmax, Softsign,
    Tanh,
};
pub use activation_options::{Celu, Elu, Hardtanh, LeakyRelu, PRelu, Softplus};
pub use arrange::{Edges, Permute, Reshape, ZeroPad2d};
pub use attention::MultiHeadAttention;
pub use checkpoint::{Checkpoint, checkpoint};
pub use combine::{Add, Concat, Multiply, Repeat};
pub use container::{Residual, Sequential};
pub use conv::{Conv, Conv1d, Conv2d, Conv3d, DepthwiseConv2d};
pub use conv_transpose::{ConvTranspose, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d};
pub use custom::{Saved, custom_vjp_with_residuals};
pub use dropout::{Dropout, SpatialDropout2d};
pub use embedding::{ColumnsEmbedding, Embedding, Widths};
pub use extent::{Extent, NamedPadding, Padding};
pub use flatten::{Flatten, FlattenOrder};
pub use linear::Linear;
pub(crate) use norm::normalise;
pub use norm::{BatchNorm, LayerNorm};
pub use norm_group::{GroupNorm, InstanceNorm, RmsNorm};
pub use pool::{AvgPool, AvgPool1d, AvgPool2d, AvgPool3d, MaxPool, MaxPool1d, MaxPool2d, MaxPool3d};
pub use pool_whole::{AdaptiveAvgPool1d, AdaptiveAvgPool2d, AdaptiveMaxPool2d, GlobalAvgPool, GlobalMaxPool};
pub use position::{PositionalEmbedding, SinusoidalPositions};
pub use recurrent::{Gru, Lstm, LstmOutput, Nonlinearity, RecurrentOutput, Rnn};
pub(crate) use scope::ScopeRecord;
pub use scope::{Mode, Scope, StateKind, StateSpec};
pub use spec::{AnyLayer, LayerSpec};
pub use table::{LayerRow, layer_table};
pub use take::Select;
pub use transformer::{FeedForwardActivation, TransformerBlock};
pub use upsample::{Upsample, UpsampleMode};

use backprop_core::Tensor;
use std::{any::Any, fmt::Debug};

/// A differentiable function with named parameters.
///
/// ```
/// use backprop::prelude::*;
///
/// /// y = scale ⊙ x.
/// #[derive(Debug)]
/// struct Scale;
///
/// impl Layer for Scale {
///     fn forward<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
///         let features = x.dim(-1);
///         x * cx.param("scale", [features], &Init::Ones)
///     }
/// }
///
/// let model = Sequential::new().push(Linear::new(8)).push(Scale);
/// let b = Builder::new();
/// let x = b.input("x", Role::Data, Type::new(DType::F32, [4, 3]));
/// let mut cx = Scope::new(&b, DType::F32, Mode::Train);
/// let y = model.forward(&mut cx, x);
/// assert_eq!(y.shape(), [4, 8].into());
/// assert_eq!(cx.specs()[2].name, "layers.1.scale");
/// ```
pub trait Layer: Debug + Send + Sync + Any {
    /// Traces the layer for an input. Misuse is reported through the graph's builder, never by a panic.
    fn forward<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g>;

    /// What the layer is called in tables: the name of its type unless it says otherwise.
    fn kind(&self) -> String {
        let name = std::any::type_name::<Self>();
        name.rsplit("::").next().unwrap_or(name).to_owned()
    }
}

const fn spec_true() -> bool {
    true
}

const fn spec_one() -> usize {
    1
}

const fn spec_last() -> isize {
    -1
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_sequence;
#[cfg(test)]
mod tests_spatial;
