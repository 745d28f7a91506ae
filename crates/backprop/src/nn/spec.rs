use super::*;
use serde::{Deserialize, Deserializer, Serialize, de};
use std::{any::Any, sync::Arc};

macro_rules! layers {
    ($($variant:ident($name:literal)),* $(,)?) => {
        /// Any layer: one of the library's, told apart by `type` in TOML, or one of the user's.
        #[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
        #[serde(tag = "type", rename_all = "snake_case")]
        #[expect(missing_docs, reason = "a layer is documented at its type, which the schema then quotes")]
        pub enum AnyLayer {
            $(#[serde(rename = $name)] $variant($variant),)*
            /// A layer defined outside the library; it has no form in TOML.
            #[serde(skip)]
            Custom(Arc<dyn Layer>),
        }

        $(impl From<$variant> for AnyLayer {
            fn from(layer: $variant) -> AnyLayer {
                AnyLayer::$variant(layer)
            }
        })*

        impl AnyLayer {
            /// Names of the layers that can stand as `type` in TOML.
            pub const TYPES: &[&str] = &[$($name),*];

            /// Wraps a layer. The library's own keep their form in TOML.
            pub fn new<L: Layer>(layer: L) -> AnyLayer {
                $(if let Some(known) = (&layer as &dyn Any).downcast_ref::<$variant>() {
                    return AnyLayer::$variant(known.clone());
                })*
                match (&layer as &dyn Any).downcast_ref::<AnyLayer>() {
                    Some(any) => any.clone(),
                    None => AnyLayer::Custom(Arc::new(layer)),
                }
            }

            fn get(&self) -> &dyn Layer {
                match self {
                    $(AnyLayer::$variant(layer) => layer,)*
                    AnyLayer::Custom(layer) => &**layer,
                }
            }
        }
    };
}

layers! {
    Linear("linear"),
    Conv1d("conv1d"),
    Conv2d("conv2d"),
    Conv3d("conv3d"),
    ConvTranspose1d("conv_transpose1d"),
    ConvTranspose2d("conv_transpose2d"),
    ConvTranspose3d("conv_transpose3d"),
    DepthwiseConv2d("depthwise_conv2d"),
    MaxPool1d("max_pool1d"),
    MaxPool2d("max_pool2d"),
    MaxPool3d("max_pool3d"),
    AvgPool1d("avg_pool1d"),
    AvgPool2d("avg_pool2d"),
    AvgPool3d("avg_pool3d"),
    AdaptiveAvgPool1d("adaptive_avg_pool1d"),
    AdaptiveAvgPool2d("adaptive_avg_pool2d"),
    AdaptiveMaxPool2d("adaptive_max_pool2d"),
    GlobalAvgPool("global_avg_pool"),
    GlobalMaxPool("global_max_pool"),
    BatchNorm("batch_norm"),
    LayerNorm("layer_norm"),
    GroupNorm("group_norm"),
    InstanceNorm("instance_norm"),
    RmsNorm("rms_norm"),
    Dropout("dropout"),
    SpatialDropout2d("spatial_dropout2d"),
    Embedding("embedding"),
    ColumnsEmbedding("columns_embedding"),
    Flatten("flatten"),
    Reshape("reshape"),
    Permute("permute"),
    Select("select"),
    ZeroPad2d("zero_pad2d"),
    Upsample("upsample"),
    Rnn("rnn"),
    Gru("gru"),
    Lstm("lstm"),
    MultiHeadAttention("multi_head_attention"),
    TransformerBlock("transformer_block"),
    PositionalEmbedding("positional_embedding"),
    SinusoidalPositions("sinusoidal_positions"),
    Sequential("sequential"),
    Residual("residual"),
    Concat("concat"),
    Add("add"),
    Multiply("multiply"),
    Repeat("repeat"),
    Checkpoint("checkpoint"),
    Relu("relu"),
    Sigmoid("sigmoid"),
    Tanh("tanh"),
    Gelu("gelu"),
    Softmax("softmax"),
    LogSoftmax("log_softmax"),
    Glu("glu"),
    LeakyRelu("leaky_relu"),
    PRelu("prelu"),
    Elu("elu"),
    Celu("celu"),
    Selu("selu"),
    Silu("silu"),
    Mish("mish"),
    Softplus("softplus"),
    Softsign("softsign"),
    Hardtanh("hardtanh"),
    Relu6("relu6"),
    Hardsigmoid("hardsigmoid"),
    Hardswish("hardswish"),
}

impl Layer for AnyLayer {
    fn forward<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        self.get().forward(cx, x)
    }

    fn kind(&self) -> String {
        self.get().kind()
    }
}

impl Layer for Box<dyn Layer> {
    fn forward<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        (**self).forward(cx, x)
    }

    fn kind(&self) -> String {
        (**self).kind()
    }
}

/// A layer in a list, with a name of its own instead of its number if it has one.
#[derive(Clone, Debug, Serialize, schemars::JsonSchema)]
pub struct LayerSpec {
    /// Takes the place of the number in parameter names: `layers.NAME.weight`. No dots.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The layer.
    #[serde(flatten)]
    pub layer: AnyLayer,
}

impl<L: Into<AnyLayer>> From<L> for LayerSpec {
    fn from(layer: L) -> LayerSpec {
        LayerSpec { name: None, layer: layer.into() }
    }
}

/// By hand: serde cannot flatten into types that refuse unknown keys.
impl<'de> Deserialize<'de> for LayerSpec {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<LayerSpec, D::Error> {
        let mut table = serde_json::Map::deserialize(d)?;
        let name = match table.remove("name") {
            Some(serde_json::Value::String(name)) if !name.is_empty() && !name.contains(['.', '/']) => Some(name),
            Some(other) => return Err(de::Error::custom(format!("`name` must be a word without dots or slashes, got {other}"))),
            None => None,
        };
        let layer = serde_json::from_value(table.into()).map_err(de::Error::custom)?;
        Ok(LayerSpec { name, layer })
    }
}
