//! Initialisers: PyTorch's defaults and Keras's, drawn on the host.
//!
//! Every parameter draws from its own stream of Philox4x32-10, keyed by its name and the run's seed: adding a layer, or another order
//! of layers, changes no other parameter.

use backprop_core::{HostTensor, Type, random};
use backprop_kernels::{math, philox::philox4x32};
use serde::{Deserialize, Serialize};
use std::f32::consts::TAU;

/// Standard deviation of a unit normal cut off at ±2: √(1 − 4·φ(2)/(2·Φ(2) − 1)).
const TRUNCATED_STD: f64 = 0.879_625_661_034_239_8;

/// First values of a parameter. In TOML a word (`"he_normal"`) or a table (`{ normal = { std = 0.02 } }`).
///
/// Fans are those of PyTorch's layouts: of `[out, in, field…]` the fan-in is in·field and the fan-out out·field.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Init {
    /// 0.
    Zeros,
    /// 1.
    Ones,
    /// One value everywhere.
    Constant {
        /// The value.
        value: f64,
    },
    /// Uniform in [low, high).
    Uniform {
        /// Lower bound.
        low: f64,
        /// Upper bound.
        high: f64,
    },
    /// Normal.
    Normal {
        /// Mean.
        #[serde(default)]
        mean: f64,
        /// Standard deviation.
        std: f64,
    },
    /// Normal, drawn again beyond two standard deviations (of the normal before it is cut).
    TruncatedNormal {
        /// Mean.
        #[serde(default)]
        mean: f64,
        /// Standard deviation before the cut.
        std: f64,
    },
    /// Uniform within ±√(6/(fan-in + fan-out)): Glorot and Bengio; PyTorch's `xavier_uniform`.
    #[serde(alias = "xavier_uniform")]
    GlorotUniform,
    /// Truncated normal of variance 2/(fan-in + fan-out), as in Keras.
    GlorotNormal,
    /// Normal of variance 2/(fan-in + fan-out), as in PyTorch.
    XavierNormal,
    /// Uniform within ±√(6/fan-in): He et al.; PyTorch's `kaiming_uniform` with gain √2.
    #[serde(alias = "kaiming_uniform")]
    HeUniform,
    /// Truncated normal of variance 2/fan-in, as in Keras.
    HeNormal,
    /// Normal of variance 2/fan-in, as in PyTorch.
    KaimingNormal,
    /// Uniform within ±√(3/fan-in): LeCun et al.
    LecunUniform,
    /// Truncated normal of variance 1/fan-in, as in Keras.
    LecunNormal,
    /// Orthonormal rows of the matrix `[out, rest]` (columns, where there are fewer) times a gain: Saxe et al.
    Orthogonal {
        /// Factor on the orthonormal matrix.
        gain: f64,
    },
}

/// 1/√fan-in: PyTorch's default bound, which is `kaiming_uniform` with a = √5.
pub(crate) fn bound_of_fan_in(fan_in: usize) -> f64 {
    1.0 / (fan_in.max(1) as f64).sqrt()
}

/// (fan-in, fan-out) of a parameter in PyTorch's layout.
fn fans(shape: &[usize]) -> (f64, f64) {
    match shape {
        [] => (1.0, 1.0),
        [n] => (*n as f64, *n as f64),
        [out, input, field @ ..] => {
            let field = field.iter().product::<usize>() as f64;
            (*input as f64 * field, *out as f64 * field)
        }
    }
}

impl Init {
    /// Uniform within ±bound.
    pub fn uniform(bound: f64) -> Init {
        Init::Uniform { low: -bound, high: bound }
    }

    /// First values of the parameter `name`, for the run's seed.
    ///
    /// # Errors
    /// If a number of the initialiser is not finite or the type is not floating point.
    pub fn sample(&self, name: &str, seed: u64, ty: &Type) -> Result<HostTensor, String> {
        self.validate().map_err(|e| format!("initialiser of `{name}`: {e}"))?;
        if !ty.dtype.is_float() {
            return Err(format!("`{name}` is {ty}; only floating-point tensors are initialised"));
        }
        let draws = Draws::new(name, seed);
        let (fan_in, fan_out) = fans(&ty.shape);
        let mean_fan = (fan_in + fan_out) / 2.0;
        let n = ty.elements();
        let values = match *self {
            Init::Zeros => vec![0.0; n],
            Init::Ones => vec![1.0; n],
            Init::Constant { value } => vec![value; n],
            Init::Uniform { low, high } => draws.uniform(n, low, high),
            Init::Normal { mean, std } => draws.normal(n, mean, std),
            Init::TruncatedNormal { mean, std } => draws.truncated(n, mean, std),
            Init::GlorotUniform => draws.symmetric(n, (3.0 / mean_fan).sqrt()),
            Init::HeUniform => draws.symmetric(n, (6.0 / fan_in).sqrt()),
            Init::LecunUniform => draws.symmetric(n, (3.0 / fan_in).sqrt()),
            Init::GlorotNormal => draws.truncated(n, 0.0, (1.0 / mean_fan).sqrt() / TRUNCATED_STD),
            Init::HeNormal => draws.truncated(n, 0.0, (2.0 / fan_in).sqrt() / TRUNCATED_STD),
            Init::LecunNormal => draws.truncated(n, 0.0, (1.0 / fan_in).sqrt() / TRUNCATED_STD),
            Init::XavierNormal => draws.normal(n, 0.0, (1.0 / mean_fan).sqrt()),
            Init::KaimingNormal => draws.normal(n, 0.0, (2.0 / fan_in).sqrt()),
            Init::Orthogonal { gain } => orthogonal(&draws, &ty.shape, gain),
        };
        HostTensor::from_f64(ty.dtype, ty.shape.clone(), &values)
    }

    /// Checks the initialiser's numbers.
    ///
    /// # Errors
    /// A sentence saying which number is wrong.
    pub fn validate(&self) -> Result<(), String> {
        let numbers = match *self {
            Init::Constant { value } => vec![value],
            Init::Uniform { low, high } if low > high => return Err(format!("low = {low} is above high = {high}")),
            Init::Uniform { low, high } => vec![low, high],
            Init::Normal { std, .. } | Init::TruncatedNormal { std, .. } if std < 0.0 => {
                return Err(format!("std must not be negative, got {std}"));
            }
            Init::Normal { mean, std } | Init::TruncatedNormal { mean, std } => vec![mean, std],
            Init::Orthogonal { gain } => vec![gain],
            _ => Vec::new(),
        };
        match numbers.iter().find(|n| !n.is_finite()) {
            Some(n) => Err(format!("numbers must be finite, got {n}")),
            None => Ok(()),
        }
    }
}

/// The random numbers of one parameter: block (index, attempt) of its stream.
struct Draws {
    key: [u32; 2],
    stream: u64,
}

impl Draws {
    fn new(name: &str, seed: u64) -> Draws {
        Draws { key: [seed as u32, (seed >> 32) as u32], stream: random::stream(&format!("init/{name}"), 0) }
    }

    fn block(&self, index: usize, attempt: u32) -> [u32; 4] {
        philox4x32(self.key, [index as u32, self.stream as u32, (self.stream >> 32) as u32, attempt])
    }

    fn uniform(&self, n: usize, low: f64, high: f64) -> Vec<f64> {
        (0..n).map(|i| low + (high - low) * f64::from(self.block(i, 0)[0]) / 2f64.powi(32)).collect()
    }

    fn symmetric(&self, n: usize, bound: f64) -> Vec<f64> {
        self.uniform(n, -bound, bound)
    }

    /// Box and Muller's transform. Logarithm and cosine are the library's own, so that every machine draws the same.
    fn unit_normal(&self, index: usize, attempt: u32) -> f64 {
        let words = self.block(index, attempt);
        // In (0, 1]: the logarithm of 0 would be infinite.
        let radius = ((words[0] >> 8) as f32 + 1.0) / 16_777_216.0;
        let angle = TAU * ((words[1] >> 8) as f32 / 16_777_216.0);
        f64::from((-2.0 * math::log::<false>(radius)).sqrt() * math::cos::<false>(angle))
    }

    fn normal(&self, n: usize, mean: f64, std: f64) -> Vec<f64> {
        (0..n).map(|i| mean + std * self.unit_normal(i, 0)).collect()
    }

    fn truncated(&self, n: usize, mean: f64, std: f64) -> Vec<f64> {
        let inside = |i| (0..).map(|attempt| self.unit_normal(i, attempt)).find(|x| x.abs() <= 2.0).unwrap_or(0.0);
        (0..n).map(|i| mean + std * inside(i)).collect()
    }
}

/// Gram and Schmidt's process on a normal matrix, twice for orthogonality to working precision.
fn orthogonal(draws: &Draws, shape: &[usize], gain: f64) -> Vec<f64> {
    let n: usize = shape.iter().product();
    let rows = shape.first().copied().unwrap_or(1).max(1);
    let columns = n / rows;
    let (count, length) = (rows.min(columns), rows.max(columns));
    let normal = draws.normal(n, 0.0, 1.0);
    let mut basis: Vec<Vec<f64>> = Vec::with_capacity(count);
    for v in normal.chunks(length.max(1)).take(count) {
        let mut v = v.to_vec();
        for _ in 0..2 {
            for u in &basis {
                let along: f64 = u.iter().zip(&v).map(|(a, b)| a * b).sum();
                v.iter_mut().zip(u).for_each(|(x, u)| *x -= along * u);
            }
        }
        let norm = v.iter().map(|x| x * x).sum::<f64>().sqrt();
        v.iter_mut().for_each(|x| *x /= norm);
        basis.push(v);
    }
    let at = |row: usize, column: usize| if rows <= columns { basis[row][column] } else { basis[column][row] };
    (0..n).map(|i| gain * at(i / columns, i % columns)).collect()
}
