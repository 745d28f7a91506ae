use backprop_core::{Type, op::Domain, reference::Array};

/// A small deterministic generator for tests: SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number
/// generators", OOPSLA 2014).
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// A generator whose draws are a function of the seed.
    pub fn new(seed: u64) -> Random {
        Random { state: seed }
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.state ^ (self.state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform between two bounds.
    pub fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * ((self.bits() >> 11) as f64 / (1u64 << 53) as f64)
    }

    /// Uniform below `n`; 0 if `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n.max(1) as u64) as usize
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        self.uniform(0.0, 1.0) < p
    }

    /// One of the given values.
    ///
    /// # Panics
    /// If there is none.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// A random order of the numbers below `n` (Fisher and Yates).
    pub fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        (1..n).rev().for_each(|i| order.swap(i, self.below(i + 1)));
        order
    }

    /// ±[0.5, 1.5]: a weight that neither vanishes nor dominates.
    pub fn weight(&mut self) -> f64 {
        let magnitude = self.uniform(0.5, 1.5);
        if self.chance(0.5) { magnitude } else { -magnitude }
    }

    /// A tensor of weights; see [`weight`](Self::weight).
    pub fn weights(&mut self, ty: &Type) -> Array {
        let values = (0..ty.elements()).map(|_| self.weight()).collect();
        Array::from_host(&Array::float(ty, values).to_host())
    }

    /// A tensor with values from a domain, exactly representable in its type.
    pub fn array(&mut self, ty: &Type, domain: &Domain) -> Array {
        let n = ty.elements();
        let values: Vec<f64> = match domain {
            Domain::Distinct(low, high) => {
                let step = (high - low) / n.max(1) as f64;
                self.permutation(n).into_iter().map(|i| low + step * (i as f64 + 0.5)).collect()
            }
            domain => (0..n).map(|_| self.value(domain)).collect(),
        };
        if ty.dtype.is_float() {
            Array::from_host(&Array::float(ty, values).to_host())
        } else {
            Array::int(ty, values.into_iter().map(|v| v as i128).collect())
        }
    }

    fn value(&mut self, domain: &Domain) -> f64 {
        match *domain {
            Domain::Uniform(low, high) | Domain::Distinct(low, high) => self.uniform(low, high),
            Domain::Integers(low, high) => low as f64 + self.below((high - low + 1).max(0) as usize) as f64,
            Domain::AwayFrom { low, high, offset, spacing, margin } => loop {
                let v = self.uniform(low, high);
                let kinks = (v - offset) / spacing;
                let to_kink = (kinks - kinks.round()).abs() * spacing;
                if to_kink >= margin {
                    return v;
                }
            },
        }
    }
}
