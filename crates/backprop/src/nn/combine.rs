use super::{Layer, LayerSpec, Scope, Sequential, take::sample_dim};
use backprop_core::Tensor;
use serde::{Deserialize, Serialize};

/// A layer list as one layer: `layers.0`, `layers.1`, … under the path `name`.
fn part<'g>(cx: &mut Scope<'g>, name: &str, layers: &[LayerSpec], x: Tensor<'g>) -> Tensor<'g> {
    cx.child(name, |cx| Sequential::from(layers.to_vec()).forward(cx, x))
}

fn branches<'g>(cx: &mut Scope<'g>, branches: &[Vec<LayerSpec>], x: Tensor<'g>) -> Vec<Tensor<'g>> {
    branches.iter().enumerate().map(|(i, layers)| part(cx, &format!("branches.{i}"), layers, x)).collect()
}

macro_rules! side_by_side {
    ($($(#[$doc:meta])* $layer:ident { $($(#[$attribute:meta])* $option:ident: $ty:ty = $default:expr),* })*) => { $(
        $(#[$doc])*
        #[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $layer {
            /// The branches: each a list of layers; an empty one is the identity.
            pub branches: Vec<Vec<LayerSpec>>,
            $($(#[$attribute])* pub $option: $ty,)*
        }

        impl $layer {
            /// Without branches; give it some with [`branch`](Self::branch).
            pub fn new() -> $layer {
                $layer { branches: Vec::new(), $($option: $default),* }
            }

            /// One more branch.
            pub fn branch(mut self, layers: Sequential) -> $layer {
                self.branches.push(layers.layers);
                self
            }
        }

        impl Default for $layer {
            fn default() -> $layer {
                $layer::new()
            }
        }
    )* };
}

side_by_side! {
    /// Branches on the same input, their results joined along a dimension. Children are named `branches.0.layers.0`, ….
    Concat {
        /// Dimension joined along; negative counts from the end. Not the batch's.
        #[serde(default = "super::spec_last")]
        dim: isize = -1
    }
    /// Branches on the same input, their results added. Children are named `branches.0.layers.0`, ….
    Add {}
    /// Branches on the same input, their results multiplied elementwise: gates. Children are named `branches.0.layers.0`, ….
    Multiply {}
}

impl Concat {
    /// Dimension joined along; negative counts from the end.
    pub fn dim(mut self, dim: isize) -> Concat {
        self.dim = dim;
        self
    }
}

impl Layer for Concat {
    fn forward<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let results = branches(cx, &self.branches, x);
        let Some((&first, rest)) = results.split_first() else { return no_branches(cx, "concat", x) };
        match sample_dim(first, self.dim) {
            Ok(dim) => first.concatenate(rest, dim),
            Err(message) => cx.builder().fail("concat", &[first.ty()], message),
        }
    }
}

impl Layer for Add {
    fn forward<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        combine(cx, "add", &self.branches, x, |a, b| a + b)
    }
}

impl Layer for Multiply {
    fn forward<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        combine(cx, "multiply", &self.branches, x, |a, b| a * b)
    }
}

fn no_branches<'g>(cx: &Scope<'g>, layer: &str, x: Tensor<'g>) -> Tensor<'g> {
    cx.builder().fail(layer, &[x.ty()], "needs at least one branch".into())
}

/// The branches' results, combined elementwise from the first to the last. Their shapes must be equal.
fn combine<'g>(
    cx: &mut Scope<'g>,
    layer: &str,
    lists: &[Vec<LayerSpec>],
    x: Tensor<'g>,
    with: fn(Tensor<'g>, Tensor<'g>) -> Tensor<'g>,
) -> Tensor<'g> {
    let results = branches(cx, lists, x);
    let Some((&first, rest)) = results.split_first() else { return no_branches(cx, layer, x) };
    if let Some(other) = rest.iter().find(|r| r.ty() != first.ty()) {
        let message = "every branch must give the same shape; give one of them a layer that maps one to the other";
        return cx.builder().fail(layer, &[first.ty(), other.ty()], message.into());
    }
    rest.iter().fold(first, |sum, &r| with(sum, r))
}

/// A body several times in a row, each with parameters of its own. Children are named `layers.0.layers.0`, …: first the repetition,
/// then the layer of the body.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Repeat {
    /// How often the body is applied.
    pub times: usize,
    /// The layers of the body in order.
    pub body: Vec<LayerSpec>,
}

/// More layers than this are a mistake: tracing them alone would take minutes.
const MOST_LAYERS: usize = 100_000;

impl Repeat {
    /// A body a number of times.
    pub fn new(times: usize, body: Sequential) -> Repeat {
        Repeat { times, body: body.layers }
    }
}

impl Layer for Repeat {
    fn forward<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        if self.times == 0 || self.body.is_empty() {
            let message = "times must be positive, and the body must have a layer";
            return cx.builder().fail("repeat", &[x.ty()], message.into());
        }
        let mut y = x;
        for i in 0..self.times {
            if cx.rows().len() > MOST_LAYERS {
                let message = format!("the network has more than {MOST_LAYERS} layers; repeat less often");
                return cx.builder().fail("repeat", &[x.ty()], message);
            }
            if cx.builder().error().is_some() {
                break;
            }
            y = part(cx, &format!("layers.{i}"), &self.body, y);
        }
        y
    }
}
