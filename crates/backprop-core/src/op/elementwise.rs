//! Elementwise primitives: one row each in [`UNARY`](Unary::rows) and [`BINARY`](Binary::rows), and the few that need more.

use super::{Cost, Derivative, Domain, Primitive, Sample, Vjp, arity, same_dtype};
use crate::{
    DType, Tensor, Type,
    reference::{Array, Elements},
    stablehlo::{Value, Writer},
};
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// Element types an elementwise primitive accepts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Accepts {
    /// Floating point only.
    Float,
    /// Floating point and integers.
    Number,
    /// Integers and bool.
    Bits,
    /// Integers only.
    Int,
    /// Everything.
    Any,
}

impl Accepts {
    /// Whether an element type is accepted.
    pub fn accepts(self, d: DType) -> bool {
        match self {
            Accepts::Float => d.is_float(),
            Accepts::Number => d != DType::Bool,
            Accepts::Bits => !d.is_float(),
            Accepts::Int => d.is_int(),
            Accepts::Any => true,
        }
    }

    fn check(self, d: DType) -> Result<(), String> {
        let wanted = match self {
            _ if self.accepts(d) => return Ok(()),
            Accepts::Float => "floating-point",
            Accepts::Number => "floating-point or integer",
            Accepts::Bits => "integer or bool",
            Accepts::Int => "integer",
            Accepts::Any => "any",
        };
        Err(format!("is defined for {wanted} operands, got {d}; convert the operand"))
    }
}

/// Derivative of a unary function: (x, y, cotangent of y) to cotangent of x.
pub type UnaryVjp = for<'g> fn(Tensor<'g>, Tensor<'g>, Tensor<'g>) -> Tensor<'g>;

/// Everything about one unary elementwise primitive.
pub struct UnaryRow {
    /// The variant.
    pub op: Unary,
    /// Name in the text form.
    pub name: &'static str,
    /// Element types.
    pub accepts: Accepts,
    /// Floating-point operations per element, for cost estimates.
    pub flops: u64,
    /// Definition on floating-point values.
    pub float: fn(f64) -> f64,
    /// Definition on integers, before wrapping.
    pub int: fn(i128) -> i128,
    /// Derivative, or why it is zero.
    pub vjp: Result<UnaryVjp, &'static str>,
    /// Where the derivative is at least 0.05 and no kink is near.
    pub domain: Domain,
}

macro_rules! unary_rows {
    ($($(#[$doc:meta])* $variant:ident $name:literal $accepts:ident $flops:literal, $float:expr, $int:expr, $vjp:expr, $domain:expr;)*) => {
        /// An elementwise function of one operand.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Unary { $($(#[$doc])* $variant,)* }

        static UNARY: &[UnaryRow] = &[$(UnaryRow {
            op: Unary::$variant, name: $name, accepts: Accepts::$accepts, flops: $flops,
            float: $float, int: $int, vjp: $vjp, domain: $domain,
        },)*];
    };
}

const NO_INT: fn(i128) -> i128 = |x| x;
const NO_FLOAT: fn(f64) -> f64 = |x| x;
const KINK: Domain = Domain::AwayFrom { low: -2.0, high: 2.0, offset: 0.0, spacing: 4.0, margin: 0.1 };
const JUMPS: Domain = Domain::AwayFrom { low: -3.0, high: 3.0, offset: 0.0, spacing: 0.5, margin: 0.05 };

unary_rows! {
    /// −x.
    Neg "negate" Number 1, |x| -x, |x| -x, Ok(|_, _, g| -g), Domain::Uniform(-2.0, 2.0);
    /// |x|; derivative 0 at 0.
    Abs "abs" Number 1, f64::abs, i128::abs, Ok(|x, _, g| g * x.sign()), KINK;
    /// −1, 0 or 1; NaN for NaN, and ±0 keeps its sign.
    Sign "sign" Number 1, |x| if x > 0.0 { 1.0 } else if x < 0.0 { -1.0 } else { x }, i128::signum, Err("piecewise constant"), KINK;
    /// Largest integer not above x.
    Floor "floor" Float 1, f64::floor, NO_INT, Err("piecewise constant"), JUMPS;
    /// Smallest integer not below x.
    Ceil "ceil" Float 1, f64::ceil, NO_INT, Err("piecewise constant"), JUMPS;
    /// Nearest integer, ties to even.
    RoundNearestEven "round_nearest_even" Float 1, f64::round_ties_even, NO_INT, Err("piecewise constant"), JUMPS;
    /// eˣ.
    Exp "exponential" Float 10, f64::exp, NO_INT, Ok(|_, y, g| g * y), Domain::Uniform(-2.0, 2.0);
    /// eˣ − 1, accurate near 0.
    Expm1 "exponential_minus_one" Float 15, f64::exp_m1, NO_INT, Ok(|_, y, g| g * (y + 1.0)), Domain::Uniform(-2.0, 2.0);
    /// Natural logarithm.
    Log "log" Float 10, f64::ln, NO_INT, Ok(|x, _, g| g / x), Domain::Uniform(0.2, 4.0);
    /// ln(1 + x), accurate near 0.
    Log1p "log_plus_one" Float 15, f64::ln_1p, NO_INT, Ok(|x, _, g| g / (x + 1.0)), Domain::Uniform(-0.7, 4.0);
    /// Square root.
    Sqrt "sqrt" Float 4, f64::sqrt, NO_INT, Ok(|_, y, g| g * 0.5 / y), Domain::Uniform(0.2, 4.0);
    /// 1/√x.
    Rsqrt "rsqrt" Float 4, |x| 1.0 / x.sqrt(), NO_INT, Ok(|x, y, g| g * -0.5 * y / x), Domain::Uniform(0.3, 3.0);
    /// Hyperbolic tangent.
    Tanh "tanh" Float 15, f64::tanh, NO_INT, Ok(|_, y, g| g * (1.0 - y * y)), Domain::Uniform(-2.0, 2.0);
    /// 1/(1 + e⁻ˣ).
    Logistic "logistic" Float 12, |x| if x >= 0.0 { 1.0 / (1.0 + (-x).exp()) } else { x.exp() / (1.0 + x.exp()) }, NO_INT,
        Ok(|_, y, g| g * (y * (1.0 - y))), Domain::Uniform(-2.5, 2.5);
    /// Error function.
    Erf "erf" Float 15, libm::erf, NO_INT, Ok(|x, _, g| g * (-(x * x)).exp() * (2.0 / PI.sqrt())), Domain::Uniform(-1.6, 1.6);
    /// Sine.
    Sin "sine" Float 15, f64::sin, NO_INT, Ok(|x, _, g| g * x.cos()), Domain::Uniform(-1.4, 1.4);
    /// Cosine.
    Cos "cosine" Float 15, f64::cos, NO_INT, Ok(|x, _, g| -g * x.sin()), Domain::Uniform(0.1, 3.0);
    /// Bitwise complement; logical not for bool.
    Not "not" Bits 1, NO_FLOAT, |x| !x, Err("discrete"), Domain::Integers(0, 1);
    /// Whether x is neither infinite nor NaN; a bool.
    IsFinite "is_finite" Float 1, |x| f64::from(u8::from(x.is_finite())), NO_INT, Err("discrete"), Domain::Uniform(-2.0, 2.0);
}

impl Unary {
    /// Every unary primitive.
    pub fn rows() -> &'static [UnaryRow] {
        UNARY
    }

    /// The row of this primitive.
    pub fn row(self) -> &'static UnaryRow {
        &UNARY[self as usize]
    }
}

/// Shapes elementwise samples come in: empty, single, odd, several dimensions.
pub(super) const SHAPES: &[&[usize]] = &[&[], &[0], &[1], &[7], &[2, 3], &[3, 0], &[1, 5, 1], &[3, 5, 2], &[17]];

impl Primitive for Unary {
    fn name(&self) -> &'static str {
        self.row().name
    }
    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, String> {
        arity(inputs, 1)?;
        self.row().accepts.check(inputs[0].dtype)?;
        let dtype = if *self == Unary::IsFinite { DType::Bool } else { inputs[0].dtype };
        Ok(vec![Type::new(dtype, &inputs[0].shape)])
    }
    fn reference(&self, inputs: &[&Array], outputs: &[Type]) -> Vec<Array> {
        let (row, ty) = (self.row(), &outputs[0]);
        vec![match &inputs[0].elements {
            Elements::Float(v) if ty.dtype == DType::Bool => Array::int(ty, v.iter().map(|&x| (row.float)(x) as i128).collect()),
            Elements::Float(v) => Array::float(ty, v.iter().map(|&x| (row.float)(x)).collect()),
            Elements::Int(v) if ty.dtype == DType::Bool => Array::int(ty, v.iter().map(|&x| 1 - x).collect()),
            Elements::Int(v) => Array::int(ty, v.iter().map(|&x| (row.int)(x)).collect()),
        }]
    }
    fn vjp<'g>(&self, cx: &Vjp<'g>) -> Derivative<'g> {
        match self.row().vjp {
            Ok(rule) => Derivative::Rule(vec![Some(rule(cx.inputs[0], cx.outputs[0], cx.ct()))]),
            Err(why) => Derivative::Zero(why),
        }
    }
    fn cost(&self, inputs: &[Type], outputs: &[Type]) -> Cost {
        let flops = self.row().flops * outputs[0].elements() as u64;
        Cost { flops, bytes: Cost::traffic(inputs, outputs) }
    }
    fn stablehlo(&self, w: &mut Writer, inputs: &[Value], outputs: &[Type]) -> Vec<Value> {
        let (x, ty) = (&inputs[0], &outputs[0]);
        let unsigned = matches!(ty.dtype, DType::U8 | DType::U32 | DType::U64);
        vec![match self {
            Unary::Erf => w.op("chlo.erf", &[x], "", ty),
            // StableHLO knows absolute values and signs of signed numbers only.
            Unary::Abs if unsigned => x.clone(),
            Unary::Sign if unsigned => {
                let one = w.integer(ty.dtype, 1);
                let ones = w.spread(&one, &ty.shape);
                w.binary("minimum", x, &ones)
            }
            _ => w.op(self.row().name, &[x], "", ty),
        }]
    }
    fn samples() -> Vec<Sample> {
        let sample = |row: &UnaryRow, shape: &[usize]| match row.accepts {
            Accepts::Bits => Sample::new(row.op, vec![(Type::new(DType::Bool, shape), row.domain.clone())]),
            _ => Sample::f64(row.op, &[shape], row.domain.clone()),
        };
        UNARY.iter().flat_map(|row| SHAPES.iter().map(move |s| sample(row, s))).collect()
    }
}

/// Derivative of a binary function: (a, b, y, cotangent of y) to cotangents of a and b.
pub type BinaryVjp = for<'g> fn(Tensor<'g>, Tensor<'g>, Tensor<'g>, Tensor<'g>) -> (Tensor<'g>, Tensor<'g>);

/// Everything about one binary elementwise primitive.
pub struct BinaryRow {
    /// The variant.
    pub op: Binary,
    /// Name in the text form.
    pub name: &'static str,
    /// Element types.
    pub accepts: Accepts,
    /// Floating-point operations per element.
    pub flops: u64,
    /// Definition on floating-point values.
    pub float: fn(f64, f64) -> f64,
    /// Definition on integers of a width in bits, before wrapping.
    pub int: fn(i128, i128, u32) -> i128,
    /// Derivative, or why there is none.
    pub vjp: Result<BinaryVjp, &'static str>,
    /// Sample values of a and of b.
    pub domains: (Domain, Domain),
}

macro_rules! binary_rows {
    ($($(#[$doc:meta])* $variant:ident $name:literal $accepts:ident $flops:literal, $float:expr, $int:expr, $vjp:expr, $a:expr, $b:expr;)*) => {
        /// An elementwise function of two operands of one type.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Binary { $($(#[$doc])* $variant,)* }

        static BINARY: &[BinaryRow] = &[$(BinaryRow {
            op: Binary::$variant, name: $name, accepts: Accepts::$accepts, flops: $flops,
            float: $float, int: $int, vjp: $vjp, domains: ($a, $b),
        },)*];
    };
}

const NO_FLOATS: fn(f64, f64) -> f64 = |a, _| a;
const NO_INTS: fn(i128, i128, u32) -> i128 = |a, _, _| a;
const WIDE: Domain = Domain::Uniform(-2.0, 2.0);
/// Two operands from these never tie.
const EVEN: Domain = Domain::AwayFrom { low: -2.0, high: 2.0, offset: 0.0, spacing: 0.5, margin: 0.2 };
const ODD: Domain = Domain::AwayFrom { low: -2.0, high: 2.0, offset: 0.25, spacing: 0.5, margin: 0.2 };
const SMALL: Domain = Domain::Integers(0, 7);

/// Share of the cotangent an operand of max/min gets: all of it when it alone is the extremum, half at a tie.
fn extremum_vjp<'g>(a: Tensor<'g>, b: Tensor<'g>, y: Tensor<'g>, g: Tensor<'g>) -> (Tensor<'g>, Tensor<'g>) {
    let zero = g.builder().zeros(g.ty());
    let shared = a.equal(b).select(g * 0.5, g);
    (a.equal(y).select(shared, zero), b.equal(y).select(shared, zero))
}

binary_rows! {
    /// a + b.
    Add "add" Number 1, |a, b| a + b, |a, b, _| a + b, Ok(|_, _, _, g| (g, g)), WIDE, WIDE;
    /// a − b.
    Sub "subtract" Number 1, |a, b| a - b, |a, b, _| a - b, Ok(|_, _, _, g| (g, -g)), WIDE, WIDE;
    /// a · b.
    Mul "multiply" Number 1, |a, b| a * b, |a, b, _| a.wrapping_mul(b), Ok(|a, b, _, g| (g * b, g * a)),
        Domain::Uniform(0.3, 2.0), Domain::Uniform(-2.0, -0.3);
    /// a / b; integers truncate towards zero, and division by zero gives all ones.
    Div "divide" Number 4, |a, b| a / b, |a, b, _| if b == 0 { -1 } else { a / b }, Ok(|_, b, y, g| (g / b, -g * y / b)),
        Domain::Uniform(0.5, 2.0), Domain::Uniform(0.5, 2.0);
    /// Remainder with the sign of a; a itself for an integer b of zero.
    Rem "remainder" Number 8, |a, b| a % b, |a, b, _| if b == 0 { a } else { a % b },
        Ok(|a, b, y, g| (g, -g * ((a - y) / b).round_nearest_even())), Domain::Uniform(3.3, 3.6), Domain::Uniform(0.94, 1.0);
    /// aᵇ as IEEE `pow`; the derivative in b is for a > 0.
    Pow "power" Float 30, f64::powf, NO_INTS,
        Ok(|a, b, y, g| (g * b * a.pow(b - 1.0), g * y * a.log())), Domain::Uniform(0.4, 0.8), Domain::Uniform(0.5, 2.5);
    /// Larger of a and b; NaN if either is; equal shares of the cotangent at ties.
    Max "maximum" Any 1, |a, b| if a.is_nan() || b.is_nan() { f64::NAN } else if a > b { a } else { b }, |a, b, _| a.max(b),
        Ok(extremum_vjp), EVEN, ODD;
    /// Smaller of a and b; NaN if either is; equal shares of the cotangent at ties.
    Min "minimum" Any 1, |a, b| if a.is_nan() || b.is_nan() { f64::NAN } else if a < b { a } else { b }, |a, b, _| a.min(b),
        Ok(extremum_vjp), EVEN, ODD;
    /// Bitwise and; logical for bool.
    And "and" Bits 1, NO_FLOATS, |a, b, _| a & b, Err("discrete"), SMALL, SMALL;
    /// Bitwise or; logical for bool.
    Or "or" Bits 1, NO_FLOATS, |a, b, _| a | b, Err("discrete"), SMALL, SMALL;
    /// Bitwise exclusive or; logical for bool.
    Xor "xor" Bits 1, NO_FLOATS, |a, b, _| a ^ b, Err("discrete"), SMALL, SMALL;
    /// Shift towards the high bits; zero from the width on.
    ShiftLeft "shift_left" Int 1, NO_FLOATS, |a, b, w| if (0..i128::from(w)).contains(&b) { a << b } else { 0 }, Err("discrete"), SMALL, SMALL;
    /// Shift towards the low bits, filling with zeros; zero from the width on.
    ShiftRightLogical "shift_right_logical" Int 1, NO_FLOATS,
        |a, b, w| if (0..i128::from(w)).contains(&b) { (a & ((1 << w) - 1)) >> b } else { 0 }, Err("discrete"), SMALL, SMALL;
}

impl Binary {
    /// Every binary primitive.
    pub fn rows() -> &'static [BinaryRow] {
        BINARY
    }

    /// The row of this primitive.
    pub fn row(self) -> &'static BinaryRow {
        &BINARY[self as usize]
    }
}

fn same_types(inputs: &[Type]) -> Result<(), String> {
    same_dtype(inputs[0].dtype, inputs[1].dtype)?;
    if inputs[0].shape == inputs[1].shape {
        return Ok(());
    }
    Err(format!("operands must have one shape, got {} and {}; broadcast one of them", inputs[0].shape, inputs[1].shape))
}

impl Primitive for Binary {
    fn name(&self) -> &'static str {
        self.row().name
    }
    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, String> {
        arity(inputs, 2)?;
        same_types(inputs)?;
        self.row().accepts.check(inputs[0].dtype)?;
        Ok(vec![inputs[0].clone()])
    }
    fn reference(&self, inputs: &[&Array], outputs: &[Type]) -> Vec<Array> {
        let (row, ty) = (self.row(), &outputs[0]);
        let width = 8 * ty.dtype.size() as u32;
        vec![match (&inputs[0].elements, &inputs[1].elements) {
            (Elements::Float(a), Elements::Float(b)) => {
                Array::float(ty, a.iter().zip(b).map(|(&a, &b)| (row.float)(a, b)).collect())
            }
            _ => {
                let (a, b) = (inputs[0].to_int(), inputs[1].to_int());
                Array::int(ty, a.iter().zip(&b).map(|(&a, &b)| (row.int)(a, b, width)).collect())
            }
        }]
    }
    fn vjp<'g>(&self, cx: &Vjp<'g>) -> Derivative<'g> {
        match self.row().vjp {
            Ok(rule) => {
                let (a, b) = rule(cx.inputs[0], cx.inputs[1], cx.outputs[0], cx.ct());
                Derivative::Rule(vec![Some(a), Some(b)])
            }
            Err(why) => Derivative::Zero(why),
        }
    }
    fn cost(&self, inputs: &[Type], outputs: &[Type]) -> Cost {
        let flops = self.row().flops * outputs[0].elements() as u64;
        Cost { flops, bytes: Cost::traffic(inputs, outputs) }
    }
    fn stablehlo(&self, w: &mut Writer, inputs: &[Value], _: &[Type]) -> Vec<Value> {
        let (a, b, dtype) = (&inputs[0], &inputs[1], inputs[0].ty.dtype);
        let plain = |w: &mut Writer, b: &Value| w.binary(self.row().name, a, b);
        if dtype.is_float() || !matches!(self, Binary::Div | Binary::Rem) {
            return vec![plain(w, b)];
        }
        // What StableHLO leaves open, and XLA decides in one way here and in another there.
        let [zero, one, ones] = [0, 1, -1].map(|n| {
            let scalar = w.integer(dtype, n);
            w.spread(&scalar, &b.ty.shape)
        });
        let by_zero = w.compare("EQ", b, &zero);
        let divisor = w.select(&by_zero, &one, b);
        let usual = plain(w, &divisor);
        vec![w.select(&by_zero, if *self == Binary::Div { &ones } else { a }, &usual)]
    }
    fn samples() -> Vec<Sample> {
        let sample = |row: &BinaryRow, shape: &[usize]| {
            let dtype = if matches!(row.accepts, Accepts::Bits | Accepts::Int) { DType::U32 } else { DType::F64 };
            let operand = |domain: &Domain| (Type::new(dtype, shape), domain.clone());
            Sample::new(row.op, vec![operand(&row.domains.0), operand(&row.domains.1)])
        };
        BINARY.iter().flat_map(|row| SHAPES.iter().map(move |s| sample(row, s))).collect()
    }
}

/// An elementwise comparison; the result is bool. Comparisons with NaN are false, but for `Ne`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compare {
    /// a = b.
    Eq,
    /// a ≠ b.
    Ne,
    /// a < b.
    Lt,
    /// a ≤ b.
    Le,
    /// a > b.
    Gt,
    /// a ≥ b.
    Ge,
}

impl Compare {
    /// Every comparison.
    pub const ALL: [Compare; 6] = [Compare::Eq, Compare::Ne, Compare::Lt, Compare::Le, Compare::Gt, Compare::Ge];

    fn holds<T: PartialOrd>(self, a: T, b: T) -> bool {
        match self {
            Compare::Eq => a == b,
            Compare::Ne => a != b,
            Compare::Lt => a < b,
            Compare::Le => a <= b,
            Compare::Gt => a > b,
            Compare::Ge => a >= b,
        }
    }
}

impl Primitive for Compare {
    fn name(&self) -> &'static str {
        "compare"
    }
    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, String> {
        arity(inputs, 2)?;
        same_types(inputs)?;
        Ok(vec![Type::new(DType::Bool, &inputs[0].shape)])
    }
    fn reference(&self, inputs: &[&Array], outputs: &[Type]) -> Vec<Array> {
        let bits = match (&inputs[0].elements, &inputs[1].elements) {
            (Elements::Float(a), Elements::Float(b)) => a.iter().zip(b).map(|(a, b)| self.holds(a, b).into()).collect(),
            _ => inputs[0].to_int().iter().zip(&inputs[1].to_int()).map(|(a, b)| self.holds(a, b).into()).collect(),
        };
        vec![Array::int(&outputs[0], bits)]
    }
    fn vjp<'g>(&self, _: &Vjp<'g>) -> Derivative<'g> {
        Derivative::Zero("a comparison is piecewise constant")
    }
    fn stablehlo(&self, w: &mut Writer, inputs: &[Value], _: &[Type]) -> Vec<Value> {
        let direction = match self {
            Compare::Eq => "EQ",
            Compare::Ne => "NE",
            Compare::Lt => "LT",
            Compare::Le => "LE",
            Compare::Gt => "GT",
            Compare::Ge => "GE",
        };
        vec![w.compare(direction, &inputs[0], &inputs[1])]
    }
    fn samples() -> Vec<Sample> {
        let sample =
            |c: Compare, s: &[usize]| Sample::new(c, vec![(Type::new(DType::F64, s), EVEN), (Type::new(DType::F64, s), ODD)]);
        Compare::ALL.iter().flat_map(|&c| SHAPES.iter().map(move |s| sample(c, s))).collect()
    }
}

/// `select(p, a, b)`: a where p is true, b elsewhere. p is bool, of the operands' shape or a scalar.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Select {}

impl Primitive for Select {
    fn name(&self) -> &'static str {
        "select"
    }
    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, String> {
        arity(inputs, 3)?;
        same_types(&inputs[1..])?;
        let p = &inputs[0];
        if p.dtype != DType::Bool || !(p.shape.is_empty() || p.shape == inputs[1].shape) {
            return Err(format!("the condition must be bool{} or bool[], got {p}", inputs[1].shape));
        }
        Ok(vec![inputs[1].clone()])
    }
    fn reference(&self, inputs: &[&Array], outputs: &[Type]) -> Vec<Array> {
        let p = inputs[0].to_int();
        let mut result = inputs[2].clone();
        for i in 0..outputs[0].elements() {
            if p[if p.len() == 1 { 0 } else { i }] != 0 {
                result.copy_element(i, inputs[1], i);
            }
        }
        vec![result]
    }
    fn vjp<'g>(&self, cx: &Vjp<'g>) -> Derivative<'g> {
        let (p, g) = (cx.inputs[0], cx.ct());
        let zero = g.builder().zeros(g.ty());
        Derivative::Rule(vec![None, Some(p.select(g, zero)), Some(p.select(zero, g))])
    }
    fn stablehlo(&self, w: &mut Writer, inputs: &[Value], _: &[Type]) -> Vec<Value> {
        vec![w.select(&inputs[0], &inputs[1], &inputs[2])]
    }
    fn samples() -> Vec<Sample> {
        let sample = |p: &[usize], s: &[usize]| {
            let value = (Type::new(DType::F64, s), WIDE);
            Sample::new(Select {}, vec![(Type::new(DType::Bool, p), Domain::Integers(0, 1)), value.clone(), value])
        };
        SHAPES.iter().map(|s| sample(s, s)).chain([sample(&[], &[2, 3])]).collect()
    }
}

/// `clamp(low, x, high)` = min(max(x, low), high); bounds of x's shape or scalars. At a bound the cotangent goes to the bound, so that x
/// gets none, as in PyTorch; NaN stays.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Clamp {}

impl Primitive for Clamp {
    fn name(&self) -> &'static str {
        "clamp"
    }
    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, String> {
        arity(inputs, 3)?;
        for bound in [&inputs[0], &inputs[2]] {
            same_dtype(bound.dtype, inputs[1].dtype)?;
            if !bound.shape.is_empty() && bound.shape != inputs[1].shape {
                return Err(format!("a bound must be a scalar or of shape {}, got {bound}", inputs[1].shape));
            }
        }
        Ok(vec![inputs[1].clone()])
    }
    fn reference(&self, inputs: &[&Array], outputs: &[Type]) -> Vec<Array> {
        let mut result = inputs[1].clone();
        for i in 0..outputs[0].elements() {
            let [low, high] = [inputs[0], inputs[2]].map(|b| (b, if b.ty.shape.is_empty() { 0 } else { i }));
            if result.at(i) < low.0.at(low.1) {
                result.copy_element(i, low.0, low.1);
            }
            if result.at(i) > high.0.at(high.1) {
                result.copy_element(i, high.0, high.1);
            }
        }
        vec![result]
    }
    fn vjp<'g>(&self, cx: &Vjp<'g>) -> Derivative<'g> {
        let (x, g) = (cx.inputs[1], cx.ct());
        let zero = g.builder().zeros(g.ty());
        let [low, high] = [cx.inputs[0], cx.inputs[2]].map(|b| b.broadcast_to(x.shape()));
        let above = low.maximum(x).greater_equal(high);
        let below = above.logical_not() & x.less_equal(low);
        let fit = |bound: Tensor<'g>, ct: Tensor<'g>| if bound.shape().is_empty() { ct.sum_all() } else { ct };
        let to_low = fit(cx.inputs[0], below.select(g, zero));
        let to_high = fit(cx.inputs[2], above.select(g, zero));
        Derivative::Rule(vec![Some(to_low), Some((above | below).select(zero, g)), Some(to_high)])
    }
    fn stablehlo(&self, w: &mut Writer, inputs: &[Value], outputs: &[Type]) -> Vec<Value> {
        let shape = &outputs[0].shape;
        let mut full = |bound: &Value| if bound.ty.shape == *shape { bound.clone() } else { w.spread(bound, shape) };
        let (low, high) = (full(&inputs[0]), full(&inputs[2]));
        vec![w.op("clamp", &[&low, &inputs[1], &high], "", &outputs[0])]
    }
    fn samples() -> Vec<Sample> {
        let sample = |b: &[usize], s: &[usize]| {
            let bound = |low, high| (Type::new(DType::F64, b), Domain::Uniform(low, high));
            let x = Domain::AwayFrom { low: -2.0, high: 2.0, offset: 0.0, spacing: 0.8, margin: 0.15 };
            Sample::new(Clamp {}, vec![bound(-0.85, -0.75), (Type::new(DType::F64, s), x), bound(0.75, 0.85)])
        };
        SHAPES.iter().map(|s| sample(s, s)).chain([sample(&[], &[2, 3]), sample(&[], &[9])]).collect()
    }
}
