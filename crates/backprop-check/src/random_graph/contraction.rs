use super::{Generator, Value};
use backprop_core::{
    DType, Type,
    op::{
        ArgReduce, ConvDims, Convolution, DotGeneral, Reduce, ReduceWindow, Reducer, SelectAndGather, SelectAndScatter, Window,
    },
};

impl<'g> Generator<'g> {
    /// A product over one or two dimensions with zero or one batch dimension, in random positions.
    pub(super) fn dot(&mut self) {
        let x = self.pick_float();
        let rank = x.ty.shape.len();
        let order = self.random.permutation(rank);
        let batch = usize::from(rank > 2 && self.random.chance(0.5));
        let contracted = (1 + self.random.below(2)).min(rank - batch.min(rank));
        let (lhs_batch, rest) = order.split_at(batch.min(rank));
        let lhs_contracting = rest[..contracted].to_vec();
        // The right operand has the shared dimensions and perhaps one of its own, in random order.
        let shared: Vec<usize> = lhs_batch.iter().chain(&lhs_contracting).map(|&d| x.ty.shape[d]).collect();
        let own: Vec<usize> = if self.random.chance(0.8) { vec![*self.random.pick(&[1, 3, 5, 16, 40])] } else { Vec::new() };
        let all = [&shared[..], &own[..]].concat();
        let places = self.random.permutation(all.len());
        let mut shape = vec![0; all.len()];
        places.iter().zip(&all).for_each(|(&p, &d)| shape[p] = d);
        let free: usize = rest[contracted..].iter().map(|&d| x.ty.shape[d]).product();
        let kept: usize = lhs_batch.iter().map(|&d| x.ty.shape[d]).product();
        if !self.fits(&shape) || !self.fits(&[free, kept, own.first().copied().unwrap_or(1)]) {
            return;
        }
        let y = self.like(&Type::new(x.ty.dtype, shape), false);
        let depth: usize = lhs_contracting.iter().map(|&d| x.ty.shape[d]).product();
        let op = DotGeneral {
            lhs_batch: lhs_batch.to_vec(),
            rhs_batch: places[..batch.min(rank)].to_vec(),
            rhs_contracting: places[batch.min(rank)..shared.len()].to_vec(),
            lhs_contracting,
            accumulate: x.ty.dtype,
        };
        let product = x.tensor.dot_general(y.tensor, op) * (1.0 / depth.max(1) as f64);
        self.add(product, false);
    }

    /// A convolution of one or two dimensions with random stride, padding, dilations and groups.
    pub(super) fn convolution(&mut self) {
        let spatial = 1 + self.random.below(2);
        let groups = *self.random.pick(&[1, 1, 2, 3]);
        let (features, outputs) = (groups * (1 + self.random.below(3)), groups * (1 + self.random.below(3)));
        let mut lhs = vec![1 + self.random.below(2)];
        lhs.extend((0..spatial).map(|_| 1 + self.random.below(6)));
        lhs.push(features);
        let mut rhs = vec![outputs, features / groups];
        rhs.extend((0..spatial).map(|_| 1 + self.random.below(3)));
        let mut each = |of: &[usize]| (0..spatial).map(|_| *self.random.pick(of)).collect::<Vec<_>>();
        let (stride, lhs_dilation, rhs_dilation) = (each(&[1, 1, 2]), each(&[1, 1, 1, 2]), each(&[1, 1, 2]));
        let padding = each(&[0, 1, 2]).into_iter().zip(each(&[0, 1, 2])).map(|(a, b)| (a as isize, b as isize)).collect();
        let op = Convolution {
            stride,
            padding,
            lhs_dilation,
            rhs_dilation,
            feature_groups: groups,
            ..Convolution::new(ConvDims::channels_last(spatial), self.float)
        };
        let x = self.like(&Type::new(self.float, lhs), false);
        let kernel = self.like(&Type::new(self.float, rhs.clone()), false);
        let taps: usize = rhs[1..].iter().product();
        let result = x.tensor.convolution(kernel.tensor, op);
        if result.shape().elements() <= 8 * self.options.elements {
            self.add(result * (1.0 / taps as f64), false);
        }
    }

    pub(super) fn reduction(&mut self) {
        match self.random.below(4) {
            0 => self.arg_reduce(),
            1 => {
                let x = self.pick_exact();
                let reducer = *self.random.pick(&[Reducer::Max, Reducer::Min]);
                self.reduce(&x, reducer);
            }
            2 => {
                if let Some(x) = self.pick(|v| v.ty.dtype.is_int()) {
                    let reducer = *self.random.pick(&[Reducer::Sum, Reducer::Max, Reducer::Min]);
                    self.reduce(&x, reducer);
                }
            }
            _ => {
                let x = self.pick_float();
                self.reduce(&x, Reducer::Sum);
            }
        }
    }

    fn reduce(&mut self, x: &Value<'g>, reducer: Reducer) {
        let dims: Vec<usize> = (0..x.ty.shape.len()).filter(|_| self.random.chance(0.6)).collect();
        let count: usize = dims.iter().map(|&d| x.ty.shape[d]).product();
        // The maximum of nothing is infinite.
        if count == 0 && reducer != Reducer::Sum {
            return;
        }
        let sums_floats = reducer == Reducer::Sum && x.ty.dtype.is_float();
        let wide = sums_floats && x.ty.dtype == DType::F32 && self.random.chance(0.3);
        let accumulate = if wide { DType::F64 } else { x.ty.dtype };
        let outputs = self.b.apply(Reduce { reducer, dims, accumulate }, &[x.tensor]);
        let result = if sums_floats { outputs[0] * (1.0 / count.max(1) as f64) } else { outputs[0] };
        self.add(result, !sums_floats && x.exact);
        if wide {
            let narrowed = result.convert(x.ty.dtype);
            self.add(narrowed, false);
        }
    }

    fn arg_reduce(&mut self) {
        let x = self.pick_exact();
        let rank = x.ty.shape.len();
        if rank == 0 {
            return;
        }
        let dim = self.random.below(rank);
        if x.ty.shape[dim] > 0 {
            let reducer = *self.random.pick(&[Reducer::Max, Reducer::Min]);
            self.apply(ArgReduce { reducer, dim }, &[x.tensor], true);
        }
    }

    /// Pooling and the selections that are its derivatives.
    pub(super) fn window(&mut self) {
        let select = self.random.chance(0.6);
        let x = if select { self.pick_exact() } else { self.pick_float() };
        let Some(window) = self.random_window(&x, select) else { return };
        let taps: usize = window.size.iter().product();
        if !select {
            let sums = x.tensor.reduce_window(Reducer::Sum, window) * (1.0 / taps as f64);
            self.add(sums, false);
            return;
        }
        let reducer = *self.random.pick(&[Reducer::Max, Reducer::Min]);
        match self.random.below(3) {
            0 => {
                let values = self.like(&x.ty, false);
                self.apply(SelectAndGather { select: reducer, window }, &[x.tensor, values.tensor], values.exact);
            }
            1 => {
                let Ok(result) = window.result(&x.ty.shape) else { return };
                let source = self.like(&Type::new(x.ty.dtype, result), false);
                let scattered = self.b.apply(SelectAndScatter { select: reducer, window }, &[x.tensor, source.tensor]);
                self.add(scattered[0] * (1.0 / taps as f64), false);
            }
            _ => _ = self.apply(ReduceWindow { reducer, window }, &[x.tensor], true),
        }
    }

    /// A window that fits; if `filled`, every position holds at least one element.
    fn random_window(&mut self, x: &Value<'g>, filled: bool) -> Option<Window> {
        let shape = &x.ty.shape;
        let size: Vec<usize> = shape.iter().map(|&d| 1 + self.random.below(d.min(3))).collect();
        let mut window = Window::new(size);
        for d in 0..shape.len() {
            window.stride[d] = 1 + self.random.below(3);
            let edge = self.random.below(window.size[d]) as isize;
            window.padding[d] = (edge, self.random.below(window.size[d]) as isize);
            if !filled && self.random.chance(0.2) {
                window.base_dilation[d] = 2;
            }
        }
        let result = window.result(shape).ok()?;
        (self.fits(&result) && !shape.contains(&0)).then_some(window)
    }
}
