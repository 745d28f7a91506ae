use super::{Generator, INTEGERS, Value};
use backprop_core::{
    DType, Tensor, Type,
    op::{Binary, Compare, Unary},
};

impl<'g> Generator<'g> {
    pub(super) fn unary(&mut self) {
        const SMOOTH: [Unary; 9] =
            [Unary::Neg, Unary::Tanh, Unary::Logistic, Unary::Erf, Unary::Sin, Unary::Cos, Unary::Expm1, Unary::Exp, Unary::Neg];
        const POSITIVE: [Unary; 4] = [Unary::Log, Unary::Log1p, Unary::Sqrt, Unary::Rsqrt];
        const EXACT: [Unary; 7] =
            [Unary::Abs, Unary::Sign, Unary::Floor, Unary::Ceil, Unary::RoundNearestEven, Unary::Neg, Unary::IsFinite];
        match self.random.below(4) {
            0 | 1 => {
                let (op, x) = (*self.random.pick(&SMOOTH), self.pick_float());
                let grows = matches!(op, Unary::Exp | Unary::Expm1);
                let x = if grows { self.bounded(&x) } else { x };
                self.apply(op, &[x.tensor], op == Unary::Neg && x.exact);
            }
            2 => {
                let (op, x) = (*self.random.pick(&POSITIVE), self.pick_float());
                let positive = x.tensor * x.tensor + 0.5;
                self.apply(op, &[positive], false);
            }
            _ => {
                let (op, x) = (*self.random.pick(&EXACT), self.pick_exact());
                self.apply(op, &[x.tensor], true);
            }
        }
    }

    /// The value within ±1.
    fn bounded(&mut self, x: &Value<'g>) -> Value<'g> {
        let tensor = x.tensor.tanh();
        Value { tensor, ty: x.ty.clone(), exact: false }
    }

    pub(super) fn binary(&mut self) {
        let op = *self.random.pick(&[
            Binary::Add,
            Binary::Sub,
            Binary::Mul,
            Binary::Mul,
            Binary::Div,
            Binary::Pow,
            Binary::Max,
            Binary::Min,
        ]);
        let exact = matches!(op, Binary::Max | Binary::Min);
        let a = if exact { self.pick_exact() } else { self.pick_float() };
        let b = self.partner(&a, exact);
        let (x, y) = match op {
            Binary::Div => (a.tensor, b.tensor * b.tensor + 0.5),
            Binary::Pow => (a.tensor * a.tensor + 0.5, b.tensor.tanh()),
            Binary::Mul => (self.bounded(&a).tensor, b.tensor),
            Binary::Add | Binary::Sub => (a.tensor * 0.5, b.tensor),
            _ => (a.tensor, b.tensor),
        };
        let result = x.binary(op, y);
        self.add(result, exact);
    }

    /// Arithmetic that does nothing to ordinary numbers: with 0, 1 or itself, or undone at once.
    pub(super) fn identity(&mut self) {
        let x = if self.random.chance(0.7) { self.pick_exact() } else { self.pick_float() };
        for _ in 0..3 {
            let constant = self.uniform(&x.ty);
            let result = match self.random.below(8) {
                0 => x.tensor + constant,
                1 => constant + x.tensor,
                2 => x.tensor - constant,
                3 => x.tensor * constant,
                4 => constant * x.tensor,
                5 => x.tensor / 1.0,
                6 => -(-x.tensor),
                _ => x.tensor.binary(Binary::Sub, x.tensor),
            };
            self.add(result, false);
        }
    }

    /// A value of the same shape, or one that broadcasts to it.
    fn partner(&mut self, a: &Value<'g>, exact: bool) -> Value<'g> {
        if self.random.chance(0.3) && !a.ty.shape.is_empty() {
            let from = self.random.below(a.ty.shape.len() + 1);
            let mut shape = a.ty.shape[from..].to_vec();
            if !shape.is_empty() && self.random.chance(0.5) {
                let at = self.random.below(shape.len());
                shape[at] = 1;
            }
            return self.like(&Type::new(a.ty.dtype, shape), exact);
        }
        self.like(&a.ty, exact)
    }

    /// Comparison, selection, limitation, conversion.
    pub(super) fn choice(&mut self) {
        let a = self.pick_exact();
        match self.random.below(4) {
            0 | 1 => {
                let b = self.like(&a.ty, true);
                let comparison = *self.random.pick(&Compare::ALL);
                let condition = a.tensor.compare(comparison, b.tensor);
                self.add(condition, true);
                let (x, y) = (self.like(&a.ty, false), self.like(&a.ty, false));
                let chosen = condition.select(x.tensor, y.tensor);
                self.add(chosen, x.exact && y.exact);
            }
            2 => {
                let limited = a.tensor.clamp(a.tensor.like(-0.7), a.tensor.like(0.9));
                self.add(limited, true);
            }
            _ => self.conversion(&a),
        }
    }

    fn conversion(&mut self, a: &Value<'g>) {
        let narrow = [DType::I32, DType::U8, DType::Bool, DType::F16, DType::BF16, DType::I64];
        let to = *self.random.pick(&narrow);
        let converted = a.tensor.convert(to);
        self.add(converted, true);
        if self.random.chance(0.7) {
            let back = converted.convert(self.float);
            self.add(back, true);
        }
    }

    /// Arithmetic, logic and shifts of integers and bool.
    pub(super) fn integers(&mut self) {
        let a = match self.pick(|v| !v.ty.dtype.is_float()) {
            Some(value) => value,
            None => {
                let ty = Type::new(*self.random.pick(&INTEGERS), self.shape());
                self.fresh(&ty)
            }
        };
        let fitting: Vec<_> = Binary::rows().iter().filter(|row| row.accepts.accepts(a.ty.dtype)).map(|row| row.op).collect();
        let op = *self.random.pick(&fitting);
        let b = self.like(&a.ty, true);
        let result = self.apply(op, &[a.tensor, b.tensor], true);
        let back: Tensor<'g> = match self.random.below(4) {
            0 if a.ty.dtype != DType::Bool => result.less_equal(b.tensor),
            1 => result.logical_not(),
            // Small enough for any floating-point type to hold.
            2 if a.ty.dtype.is_int() => (result % 7.0).convert(self.float) * 0.25,
            _ => return,
        };
        self.add(back, true);
    }
}
