use super::{AnyLayer, Layer, LayerSpec, Scope};
use backprop_core::Tensor;
use serde::{Deserialize, Serialize};

/// Layers one after the other. Children are named `layers.0`, `layers.1`, … or `layers.NAME`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sequential {
    /// The layers in order.
    pub layers: Vec<LayerSpec>,
}

impl Sequential {
    /// No layers: the identity.
    pub fn new() -> Sequential {
        Sequential::default()
    }

    /// Appends a layer: one of the library's or any [`Layer`], boxed or not.
    pub fn push(mut self, layer: impl Layer) -> Sequential {
        self.layers.push(LayerSpec { name: None, layer: AnyLayer::new(layer) });
        self
    }

    /// Appends a layer under a name of its own.
    pub fn push_named(mut self, name: impl Into<String>, layer: impl Layer) -> Sequential {
        self.layers.push(LayerSpec { name: Some(name.into()), layer: AnyLayer::new(layer) });
        self
    }
}

impl From<Vec<LayerSpec>> for Sequential {
    fn from(layers: Vec<LayerSpec>) -> Sequential {
        Sequential { layers }
    }
}

impl From<Sequential> for Vec<LayerSpec> {
    fn from(network: Sequential) -> Vec<LayerSpec> {
        network.layers
    }
}

impl Layer for Sequential {
    fn forward<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        self.layers.iter().enumerate().fold(x, |x, (i, spec)| {
            let name = spec.name.clone().unwrap_or_else(|| i.to_string());
            cx.call(&format!("layers.{name}"), &spec.layer, x)
        })
    }
}

/// `body(x) + shortcut(x)`. Children are named `body.layers.0`, … and `shortcut.layers.0`, ….
#[derive(Clone, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Residual {
    /// The layers of the body in order.
    pub body: Vec<LayerSpec>,
    /// The layers of the shortcut in order; none is the identity.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shortcut: Vec<LayerSpec>,
}

impl Residual {
    /// A body with the identity as shortcut.
    pub fn new(body: Sequential) -> Residual {
        Residual { body: body.layers, shortcut: Vec::new() }
    }

    /// Layers in the shortcut, where body and input differ in shape.
    pub fn shortcut(mut self, shortcut: Sequential) -> Residual {
        self.shortcut = shortcut.layers;
        self
    }
}

impl Layer for Residual {
    fn forward<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let part = |cx: &mut Scope<'g>, name: &str, layers: &[LayerSpec]| {
            cx.child(name, |cx| Sequential::from(layers.to_vec()).forward(cx, x))
        };
        let body = part(cx, "body", &self.body);
        let shortcut = part(cx, "shortcut", &self.shortcut);
        if body.ty() != shortcut.ty() {
            let message = "body and shortcut must give the same shape; give the shortcut a layer that maps one to the other";
            return cx.builder().fail("residual", &[body.ty(), shortcut.ty()], message.into());
        }
        body + shortcut
    }
}
