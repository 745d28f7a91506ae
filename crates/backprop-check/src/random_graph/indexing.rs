use super::{Generator, Value};
use backprop_core::{
    DType, Tensor, Type,
    op::{DynamicSlice, DynamicUpdateSlice, Gather, ScatterAdd},
};

impl<'g> Generator<'g> {
    pub(super) fn indexing(&mut self) {
        let float = self.float;
        let Some(x) = self.pick(|v| v.ty.dtype == float && !v.ty.shape.is_empty() && v.ty.elements() > 0) else { return };
        match self.random.below(3) {
            0 => self.dynamic(&x),
            1 => self.rows(&x),
            _ => self.windows(&x),
        }
    }

    /// One integer scalar per dimension, sometimes out of range.
    fn starts(&mut self, rank: usize) -> Vec<Tensor<'g>> {
        let dtype = *self.random.pick(&[DType::I32, DType::U32, DType::I64]);
        (0..rank).map(|_| self.like(&Type::scalar(dtype), true).tensor).collect()
    }

    fn dynamic(&mut self, x: &Value<'g>) {
        let starts = self.starts(x.ty.shape.len());
        let sizes: Vec<usize> = x.ty.shape.iter().map(|&d| 1 + self.random.below(d)).collect();
        let part = self.apply(DynamicSlice { sizes }, &[&[x.tensor], &starts[..]].concat(), x.exact);
        let update = self.like(&part.ty(), false);
        let elsewhere = self.starts(x.ty.shape.len());
        let operands = [&[x.tensor, update.tensor], &elsewhere[..]].concat();
        self.apply(DynamicUpdateSlice {}, &operands, x.exact && update.exact);
    }

    /// Embedding look-up and its transpose.
    fn rows(&mut self, x: &Value<'g>) {
        let n = 1 + self.random.below(5);
        let dtype = *self.random.pick(&[DType::I32, DType::U8, DType::I64]);
        let indices = self.like(&Type::new(dtype, [n, 1]), true).tensor;
        let gather = Gather::rows(&x.ty.shape, 1);
        let scatter = ScatterAdd {
            update_window_dims: gather.offset_dims.clone(),
            inserted_window_dims: gather.collapsed_dims.clone(),
            scatter_dims: gather.start_index_map.clone(),
        };
        let read = self.apply(gather, &[x.tensor, indices], x.exact);
        let updates = read.tanh() * (0.5 / n as f64);
        self.apply(scatter, &[x.tensor, indices, updates], false);
    }

    /// Windows in the last dimension at index vectors of one component.
    fn windows(&mut self, x: &Value<'g>) {
        let last = x.ty.shape.len() - 1;
        let n = 1 + self.random.below(4);
        let mut slice_sizes = x.ty.shape.to_vec();
        slice_sizes[last] = 1 + self.random.below(slice_sizes[last]);
        if !self.fits(&[&slice_sizes[..], &[n]].concat()) {
            return;
        }
        let indices = self.like(&Type::new(DType::I32, [n, 1]), true).tensor;
        let gather = Gather {
            offset_dims: (1..slice_sizes.len() + 1).collect(),
            collapsed_dims: Vec::new(),
            start_index_map: vec![last],
            slice_sizes,
        };
        self.apply(gather, &[x.tensor, indices], x.exact);
    }
}
