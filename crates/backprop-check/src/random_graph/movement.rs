use super::{Generator, Value};
use backprop_core::{
    Type,
    op::{Concatenate, Iota, Pad, Slice, StopGradient},
};

impl<'g> Generator<'g> {
    pub(super) fn movement(&mut self) {
        let Some(x) = self.pick(|_| true) else { return };
        match self.random.below(10) {
            0 | 1 => self.transpose(&x),
            2 => self.reshape(&x),
            3 => self.broadcast(&x),
            4 => self.slice(&x),
            5 => self.pad(&x),
            6 => self.concatenate(&x),
            7 => {
                let dims: Vec<usize> = (0..x.ty.shape.len()).filter(|_| self.random.chance(0.5)).collect();
                let reversed = x.tensor.reverse(&dims);
                self.add(reversed, x.exact);
            }
            8 if !x.ty.shape.is_empty() && x.ty.dtype != backprop_core::DType::Bool => {
                let dim = self.random.below(x.ty.shape.len());
                self.apply(Iota { ty: x.ty.clone(), dim }, &[], true);
            }
            _ => _ = self.apply(StopGradient {}, &[x.tensor], x.exact),
        }
    }

    fn transpose(&mut self, x: &Value<'g>) {
        let permutation = self.random.permutation(x.ty.shape.len());
        let transposed = x.tensor.transpose(&permutation);
        self.add(transposed, x.exact);
    }

    fn reshape(&mut self, x: &Value<'g>) {
        let mut shape = x.ty.shape.to_vec();
        match self.random.below(3) {
            0 => shape = vec![x.ty.elements()],
            1 => {
                let at = self.random.below(shape.len() + 1);
                shape.insert(at, 1);
            }
            _ if shape.len() > 1 => {
                let at = self.random.below(shape.len() - 1);
                let merged = shape.remove(at);
                shape[at] *= merged;
            }
            _ => shape.push(1),
        }
        let reshaped = x.tensor.reshape(shape);
        self.add(reshaped, x.exact);
    }

    fn broadcast(&mut self, x: &Value<'g>) {
        let mut shape = x.ty.shape.to_vec();
        let mut dims: Vec<usize> = (0..shape.len()).collect();
        for extent in shape.iter_mut().filter(|d| **d == 1) {
            *extent = *self.random.pick(&[1, 2, 3]);
        }
        let at = self.random.below(shape.len() + 1);
        shape.insert(at, *self.random.pick(&[1, 2, 3]));
        dims.iter_mut().filter(|d| **d >= at).for_each(|d| *d += 1);
        if self.fits(&shape) && shape.len() <= 5 {
            let repeated = x.tensor.broadcast_in_dim(shape, &dims);
            self.add(repeated, x.exact);
        }
    }

    fn slice(&mut self, x: &Value<'g>) {
        let mut op = Slice { start: Vec::new(), limit: Vec::new(), stride: Vec::new() };
        for &extent in x.ty.shape.iter() {
            let start = self.random.below(extent);
            op.start.push(start);
            op.limit.push(start + self.random.below(extent - start + 1).max(usize::from(extent > 0)));
            op.stride.push(*self.random.pick(&[1, 1, 2, 3]));
        }
        self.apply(op, &[x.tensor], x.exact);
    }

    fn pad(&mut self, x: &Value<'g>) {
        let mut op = Pad { low: Vec::new(), high: Vec::new(), interior: Vec::new() };
        let mut result = Vec::new();
        for &extent in x.ty.shape.iter() {
            let interior = *self.random.pick(&[0, 0, 1, 2]);
            let spread = if extent == 0 { 0 } else { (extent - 1) * (interior + 1) + 1 };
            let edge = *self.random.pick(&[0, 0, 1, 2, -1]);
            let high = *self.random.pick(&[0, 1, 3, -1]);
            let total = spread as isize + edge + high;
            let (edge, high) = if total < 0 { (0, 0) } else { (edge, high) };
            result.push((spread as isize + edge + high) as usize);
            op.low.push(edge);
            op.high.push(high);
            op.interior.push(interior);
        }
        let value = self.like(&Type::new(x.ty.dtype, []), false);
        if self.fits(&result) {
            self.apply(op, &[x.tensor, value.tensor], x.exact && value.exact);
        }
    }

    fn concatenate(&mut self, x: &Value<'g>) {
        if x.ty.shape.is_empty() || x.ty.elements() * 2 > self.options.elements {
            return;
        }
        let dim = self.random.below(x.ty.shape.len());
        let mut other = x.ty.shape.to_vec();
        other[dim] = *self.random.pick(&[0, 1, 2, other[dim]]);
        let y = self.like(&Type::new(x.ty.dtype, other), false);
        self.apply(Concatenate { dim }, &[x.tensor, y.tensor], x.exact && y.exact);
    }
}
