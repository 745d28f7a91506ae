use super::{Layer, Scope};
use crate::init::Init;
use backprop_core::{DType, Tensor};
use serde::{Deserialize, Serialize};

/// Rows of a table by index: `[..]` to `[.., embedding_dim]`. Parameter `weight` `[num_embeddings, embedding_dim]`.
/// Indices are integers, or floating-point numbers, which are rounded (tables hold codes and measurements in one tensor); what is not
/// finite gives NaN. An index outside the table takes the nearest row. For sequences of different lengths, filled up with a code of
/// their own: `padding_idx` makes that row zeros, and `mask` lets the layers that follow leave those positions out
/// ([`Scope::padding_mask`]).
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
    /// Index whose row reads as zeros and gets no gradient: what fills short sequences.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub padding_idx: Option<usize>,
    /// Whether recurrent layers, attention and global pools that follow leave out the positions with `padding_idx`. Needs codes `[N, T]`.
    #[serde(default)]
    pub mask: bool,
}

impl Embedding {
    /// A table of rows.
    pub fn new(num_embeddings: usize, embedding_dim: usize) -> Embedding {
        Embedding { num_embeddings, embedding_dim, init: None, padding_idx: None, mask: false }
    }

    /// Index whose row reads as zeros and gets no gradient.
    pub fn padding_idx(mut self, index: usize) -> Embedding {
        self.padding_idx = Some(index);
        self
    }

    /// Whether layers that follow leave out the positions with `padding_idx`.
    pub fn mask(mut self, mask: bool) -> Embedding {
        self.mask = mask;
        self
    }

    /// What is wrong with the options of padding for an input.
    fn check_padding(&self, x: Tensor<'_>) -> Result<(), String> {
        match self.padding_idx {
            Some(index) if index >= self.num_embeddings => {
                Err(format!("padding_idx = {index} is no row of {} num_embeddings", self.num_embeddings))
            }
            None if self.mask => Err("mask = true needs a padding_idx: which code is padding".into()),
            _ if self.mask && x.rank() != 2 => Err("mask = true needs codes [N, T]".into()),
            _ => Ok(()),
        }
    }

    /// Which codes are padding, rounded and limited to the table as for reading it.
    fn padding<'g>(&self, x: Tensor<'g>, index: usize) -> Tensor<'g> {
        let codes = if x.dtype().is_int() { x } else { x.round_nearest_even() };
        codes.clamp(codes.like(0.0), codes.like((self.num_embeddings - 1) as f64)).equal(index as f64)
    }

    /// First values of the table.
    pub fn init(mut self, init: Init) -> Embedding {
        self.init = Some(init);
        self
    }
}

impl Layer for Embedding {
    fn forward<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        if self.num_embeddings == 0 || self.embedding_dim == 0 || x.dtype() == DType::Bool {
            let message = "num_embeddings and embedding_dim must be positive, and indices must be numbers";
            return cx.builder().fail("embedding", &[x.ty()], message.into());
        }
        if let Err(message) = self.check_padding(x) {
            return cx.builder().fail("embedding", &[x.ty()], message);
        }
        let table = cx.param("weight", [self.num_embeddings, self.embedding_dim], &first_values(self.init.as_ref()));
        let rows = look_up(table, x);
        let Some(index) = self.padding_idx else { return rows };
        let padding = self.padding(x, index);
        if self.mask {
            cx.set_padding_mask(Some(padding));
        }
        let spread: Vec<usize> = (0..x.rank()).collect();
        padding.broadcast_in_dim(rows.shape(), &spread).select(cx.builder().zeros(rows.ty()), rows)
    }
}

/// PyTorch's standard normal unless given.
fn first_values(init: Option<&Init>) -> Init {
    init.cloned().unwrap_or(Init::Normal { mean: 0.0, std: 1.0 })
}

/// Rows of a table `[rows, width]` by codes `[..]`, integers or not.
fn look_up<'g>(table: Tensor<'g>, codes: Tensor<'g>) -> Tensor<'g> {
    if codes.dtype().is_int() {
        return table.rows(codes);
    }
    let rows = table.rows(codes.round_nearest_even().convert(DType::I32));
    // A missing code would become 0, a valid one: let it be seen instead.
    let missing = (codes.convert(table.dtype()) * 0.0).stop_gradient();
    let spread: Vec<usize> = (0..codes.rank()).collect();
    rows + missing.broadcast_in_dim(rows.shape(), &spread)
}

/// Extents of the rows of several tables: one number for all, or a list.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(untagged, expecting = "expected a whole number, or a list of them, one for each column")]
pub enum Widths {
    /// The same for every table.
    All(usize),
    /// One per table.
    Each(Vec<usize>),
}

impl From<usize> for Widths {
    fn from(n: usize) -> Widths {
        Widths::All(n)
    }
}

impl<const N: usize> From<[usize; N]> for Widths {
    fn from(each: [usize; N]) -> Widths {
        Widths::Each(each.into())
    }
}

impl From<Vec<usize>> for Widths {
    fn from(each: Vec<usize>) -> Widths {
        Widths::Each(each)
    }
}

/// A table of rows for each column of codes, the rows side by side: `[.., C]` to `[.., Σ embedding_dim]`. Parameters
/// `columns.0.weight` `[num_embeddings, embedding_dim]`, …. Codes are as those of `embedding`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ColumnsEmbedding {
    /// Number of rows of each column's table: how many codes it has.
    pub num_embeddings: Vec<usize>,
    /// Extent of a row: one number for all columns, or one for each.
    pub embedding_dim: Widths,
    /// First values; PyTorch's standard normal unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<Init>,
}

impl ColumnsEmbedding {
    /// A table per column, by their numbers of rows and the rows' extents.
    pub fn new(num_embeddings: impl Into<Vec<usize>>, embedding_dim: impl Into<Widths>) -> ColumnsEmbedding {
        ColumnsEmbedding { num_embeddings: num_embeddings.into(), embedding_dim: embedding_dim.into(), init: None }
    }

    /// First values of the tables.
    pub fn init(mut self, init: Init) -> ColumnsEmbedding {
        self.init = Some(init);
        self
    }

    /// The extent of each table's rows, or what is wrong with the layer for an input.
    fn widths(&self, x: Tensor<'_>) -> Result<Vec<usize>, String> {
        let columns = self.num_embeddings.len();
        let widths = match &self.embedding_dim {
            Widths::All(n) => vec![*n; columns],
            Widths::Each(each) => each.clone(),
        };
        if widths.len() != columns {
            return Err(format!("num_embeddings names {columns} columns, embedding_dim {}", widths.len()));
        }
        if columns == 0 || widths.contains(&0) || self.num_embeddings.contains(&0) {
            return Err("needs at least one column, and positive num_embeddings and embedding_dim".into());
        }
        if x.rank() == 0 || x.dim(-1) != columns || x.dtype() == DType::Bool {
            return Err(format!("needs codes [.., {columns}], one for each of num_embeddings; choose columns with `select`"));
        }
        Ok(widths)
    }
}

impl Layer for ColumnsEmbedding {
    fn forward<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let widths = match self.widths(x) {
            Ok(widths) => widths,
            Err(message) => return cx.builder().fail("columns_embedding", &[x.ty()], message),
        };
        let (shape, last) = (x.shape(), x.rank() - 1);
        let column = |i: usize| x.slice_dim(last, i, i + 1).reshape(&shape[..last]);
        let init = first_values(self.init.as_ref());
        let mut parts = widths.iter().zip(&self.num_embeddings).enumerate().map(|(i, (&width, &rows))| {
            cx.child(&format!("columns.{i}"), |cx| look_up(cx.param("weight", [rows, width], &init), column(i)))
        });
        match parts.next() {
            Some(first) => first.concatenate(&parts.collect::<Vec<_>>(), last),
            None => x,
        }
    }
}
