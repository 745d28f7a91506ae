//! Which positions of a sequence are padding.

use super::Scope;
use backprop_core::{DType, Tensor, Type};

/// The type of a mask over the positions of `[N, T, ..]`.
pub(super) fn mask_type(x: Tensor<'_>) -> Type {
    Type::new(DType::Bool, [x.dim(0), x.dim(1)])
}

impl<'g> Scope<'g> {
    /// Which positions of the sequences being worked on are padding: bool `[N, T]`, true where a position is padding, as PyTorch's
    /// `key_padding_mask`; `None` where all count. An `embedding` with `mask = true` sets it from its codes; recurrent layers, attention
    /// and global pools leave those positions out. Layers that work on each position alone need not.
    pub fn padding_mask(&self) -> Option<Tensor<'g>> {
        self.padding
    }

    /// Sets which positions are padding for the layers that follow; `None` after the sequence is gone. From lengths:
    /// [`functional::padding_mask`](super::functional::padding_mask).
    pub fn set_padding_mask(&mut self, mask: Option<Tensor<'g>>) {
        self.padding = mask;
    }

    /// Which positions of `x` `[N, T, ..]` are no padding, if any are known to be, or what is wrong with the mask.
    pub(super) fn keep_mask(&self, x: Tensor<'g>) -> Result<Option<Tensor<'g>>, String> {
        match self.padding {
            Some(mask) if mask.ty() != mask_type(x) => Err(format!(
                "the padding mask is {}, but the sequences need {}; a layer between the embedding with `mask` and this one changed \
                 their length",
                mask.ty(),
                mask_type(x)
            )),
            mask => Ok(mask.map(Tensor::logical_not)),
        }
    }

    /// As [`keep_mask`](Self::keep_mask) for a pool: inputs with several dimensions of space are no sequences.
    pub(super) fn keep_in_pool(&self, x: Tensor<'g>) -> Result<Option<Tensor<'g>>, String> {
        if x.rank() == 3 { self.keep_mask(x) } else { Ok(None) }
    }
}
