use serde::{Deserialize, Serialize};

/// Height and width: one number for both, or `[height, width]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(untagged, expecting = "expected a whole number, or two as [height, width]")]
pub enum Pair {
    /// The same for both.
    Both(usize),
    /// Height, width.
    Each([usize; 2]),
}

impl Pair {
    /// As `[height, width]`.
    pub fn get(self) -> [usize; 2] {
        match self {
            Pair::Both(n) => [n, n],
            Pair::Each(pair) => pair,
        }
    }

    pub(super) const fn one() -> Pair {
        Pair::Both(1)
    }
}

impl Default for Pair {
    fn default() -> Pair {
        Pair::Both(0)
    }
}

impl From<usize> for Pair {
    fn from(n: usize) -> Pair {
        Pair::Both(n)
    }
}
impl From<[usize; 2]> for Pair {
    fn from(pair: [usize; 2]) -> Pair {
        Pair::Each(pair)
    }
}

/// Zeros around an image: a number, `[height, width]`, `"same"` or `"valid"`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(untagged, expecting = "expected a whole number, two as [height, width], \"same\" or \"valid\"")]
pub enum Padding {
    /// Zeros on each side.
    Size(Pair),
    /// By name.
    Named(NamedPadding),
}

/// Padding by name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NamedPadding {
    /// As much as keeps the extent; needs stride 1. Where it is odd, the larger half stands after the image.
    Same,
    /// None.
    Valid,
}

impl Padding {
    /// As much as keeps the extent.
    pub const SAME: Padding = Padding::Named(NamedPadding::Same);

    /// Before and after, for height and width, under a window of the given extent (dilation included).
    pub(super) fn resolve(self, window: [usize; 2]) -> Vec<(isize, isize)> {
        let each = |axis: usize| match self {
            Padding::Size(pair) => (pair.get()[axis] as isize, pair.get()[axis] as isize),
            Padding::Named(NamedPadding::Valid) => (0, 0),
            Padding::Named(NamedPadding::Same) => {
                let total = window[axis] as isize - 1;
                (total / 2, total - total / 2)
            }
        };
        vec![each(0), each(1)]
    }
}

impl Default for Padding {
    fn default() -> Padding {
        Padding::Size(Pair::Both(0))
    }
}

impl<T: Into<Pair>> From<T> for Padding {
    fn from(size: T) -> Padding {
        Padding::Size(size.into())
    }
}
