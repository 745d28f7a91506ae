use super::{Generator, Value};
use crate::Random;
use backprop_core::{
    Builder, DType, Shape, Tensor, Type,
    op::{Barrier, ScanSpec, checkpoint, composite, custom_vjp, scan},
    random::{Randomness, uniform},
};

/// What the body of a region is generated from.
struct Inner {
    random: Random,
    options: super::GraphOptions,
    float: DType,
    exact: Vec<bool>,
}

impl Inner {
    /// A generator in a body whose inputs are the pool, after some steps.
    fn generate<'b>(self, b: &'b Builder, inputs: &[Tensor<'b>]) -> Generator<'b> {
        let mut inner = Generator::new(b, self.random, self.options, self.float);
        for (&input, exact) in inputs.iter().zip(self.exact) {
            inner.add(input, exact);
        }
        let steps = inner.options.steps;
        inner.steps(steps);
        inner
    }
}

impl<'g> Generator<'g> {
    pub(super) fn region(&mut self) {
        match self.random.below(8) {
            0..3 => self.scan(),
            3..5 => self.composite(),
            5 => self.custom(),
            6 => self.draw(),
            _ => {
                let values = self.operands(2);
                let exact = values.iter().all(|v| v.exact);
                let tensors: Vec<Tensor<'g>> = values.iter().map(|v| v.tensor).collect();
                self.apply(Barrier {}, &tensors, exact);
            }
        }
    }

    fn operands(&mut self, n: usize) -> Vec<Value<'g>> {
        (0..n).filter_map(|_| self.pick(|_| true)).collect()
    }

    fn inner(&mut self, exact: Vec<bool>) -> Inner {
        let mut options = self.options.clone();
        options.depth -= 1;
        options.steps = 1 + self.random.below(5);
        Inner { random: Random::new(self.random.bits()), options, float: self.float, exact }
    }

    fn composite(&mut self) {
        let count = 1 + self.random.below(3);
        let values = self.operands(count);
        let tensors: Vec<Tensor<'g>> = values.iter().map(|v| v.tensor).collect();
        let inner = self.inner(values.iter().map(|v| v.exact).collect());
        let outputs = if self.random.chance(0.3) {
            checkpoint(self.b, "checkpoint", &tensors, move |b, x| inner.generate(b, x).results())
        } else {
            composite(self.b, "region", &tensors, move |b, x| inner.generate(b, x).results())
        };
        outputs.into_iter().for_each(|t| _ = self.add(t, false));
    }

    /// A region with a derivative of its own; a wrong one, as any graph will do here.
    fn custom(&mut self) {
        let x = self.pick_float();
        let outputs = custom_vjp(
            self.b,
            "custom",
            &[x.tensor],
            |_, x| vec![x[0].tanh(), x[0] * 0.5],
            |_, x, y, ct| vec![ct[0] * (y[0] * 0.5 + x[0].tanh()) + ct[1]],
        );
        outputs.into_iter().for_each(|t| _ = self.add(t, false));
    }

    /// Random numbers of a stream of their own.
    fn draw(&mut self) {
        let word = |g: &mut Self, shape: &[usize]| g.like(&Type::new(DType::U32, shape), true).tensor;
        let random = Randomness { seed: word(self, &[2]), step: word(self, &[]), offset: word(self, &[]), rows: None };
        let (stream, shape): (u64, Shape) = (self.random.bits(), self.shape());
        let drawn = uniform(random, stream, shape).convert(self.float);
        self.add(drawn, true);
    }

    fn scan(&mut self) {
        let length = *self.random.pick(&[0, 1, 2, 3, 5]);
        let count = self.random.below(3);
        let constants = self.operands(count);
        let count = 1 + self.random.below(2);
        let carried = self.operands(count);
        let mut stacked = Vec::new();
        for _ in 0..self.random.below(3) {
            let slice = self.shape();
            let shape: Shape = std::iter::once(length).chain(slice.iter().copied()).collect();
            if self.fits(&shape) {
                stacked.push(self.like(&Type::new(self.float, shape), false));
            }
        }
        // What is carried changes by rounding, and so does what depends on it.
        let exact = |v: &Value<'g>| v.exact;
        let flags =
            constants.iter().map(exact).chain(carried.iter().map(|v| !v.ty.dtype.is_float())).chain(stacked.iter().map(exact));
        let inner = self.inner(flags.collect());
        let spec = ScanSpec { length, reverse: self.random.chance(0.5) };
        let tensors = |values: &[Value<'g>]| values.iter().map(|v| v.tensor).collect::<Vec<_>>();
        let (last, stacks) = scan(self.b, spec, &tensors(&constants), &tensors(&carried), &tensors(&stacked), move |c, h, x| {
            inner.iteration(c, h, x)
        });
        for t in last.into_iter().chain(stacks) {
            if t.shape().elements() <= 8 * self.options.elements {
                self.add(t, false);
            }
        }
    }

    /// A few of the values, the last among them.
    fn results(&mut self) -> Vec<Tensor<'g>> {
        let n = 1 + self.random.below(2);
        let mut results: Vec<Tensor<'g>> = self.pool.iter().rev().take(1).map(|v| v.tensor).collect();
        for _ in 0..n {
            results.extend(self.pick(|_| true).map(|v| v.tensor));
        }
        results
    }
}

impl Inner {
    fn iteration<'b>(self, c: &[Tensor<'b>], h: &[Tensor<'b>], x: &[Tensor<'b>]) -> (Vec<Tensor<'b>>, Vec<Tensor<'b>>) {
        let mut inner = self.generate(h[0].builder(), &[c, h, x].concat());
        let mut next = Vec::new();
        for &old in h {
            let new = inner.like(&old.ty(), false).tensor;
            // A contraction, so that long loops stay bounded.
            next.push(if old.dtype().is_float() { (old * 0.5 + new * 0.5).tanh() } else { new });
        }
        let stacks = inner.results();
        (next, stacks)
    }
}
