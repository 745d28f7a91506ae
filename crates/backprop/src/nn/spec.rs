use super::*;
use serde::{Deserialize, Deserializer, Serialize, de};
use std::{any::Any, sync::Arc};

macro_rules! layers {
    ($($variant:ident($name:literal)),* $(,)?) => {
        /// Any layer: one of the library's, told apart by `type` in TOML, or one of the user's.
        #[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
        #[serde(tag = "type", rename_all = "snake_case")]
        pub enum AnyLayer {
            $(#[doc = concat!("[`", stringify!($variant), "`]")] #[serde(rename = $name)] $variant($variant),)*
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
    Conv2d("conv2d"),
    MaxPool2d("max_pool2d"),
    AvgPool2d("avg_pool2d"),
    GlobalAvgPool("global_avg_pool"),
    BatchNorm("batch_norm"),
    LayerNorm("layer_norm"),
    Dropout("dropout"),
    Embedding("embedding"),
    Flatten("flatten"),
    Lstm("lstm"),
    Sequential("sequential"),
    Residual("residual"),
    Checkpoint("checkpoint"),
    Relu("relu"),
    Sigmoid("sigmoid"),
    Tanh("tanh"),
    Gelu("gelu"),
    Softmax("softmax"),
    LogSoftmax("log_softmax"),
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
