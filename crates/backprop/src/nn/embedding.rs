use super::{Layer, Scope};
use crate::init::Init;
use backprop_core::Tensor;
use serde::{Deserialize, Serialize};

/// Rows of a table by index: integers `[..]` to `[.., embedding_dim]`. Parameter `weight` `[num_embeddings, embedding_dim]`.
/// An index outside the table takes the nearest row.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Embedding {
    /// Number of rows.
    pub num_embeddings: usize,
    /// Extent of a row.
    pub embedding_dim: usize,
    /// First values; PyTorch's standard normal unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<Init>,
}

impl Embedding {
    /// A table of rows.
    pub fn new(num_embeddings: usize, embedding_dim: usize) -> Embedding {
        Embedding { num_embeddings, embedding_dim, init: None }
    }

    /// First values of the table.
    pub fn init(mut self, init: Init) -> Embedding {
        self.init = Some(init);
        self
    }
}

impl Layer for Embedding {
    fn forward<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let b = cx.builder();
        if self.num_embeddings == 0 || self.embedding_dim == 0 {
            return b.fail("embedding", &[x.ty()], "num_embeddings and embedding_dim must be positive".into());
        }
        if !x.dtype().is_int() {
            return b.fail("embedding", &[x.ty()], "needs integer indices; give it tokens, not floating-point features".into());
        }
        let init = self.init.clone().unwrap_or(Init::Normal { mean: 0.0, std: 1.0 });
        cx.param("weight", [self.num_embeddings, self.embedding_dim], &init).rows(x)
    }
}
