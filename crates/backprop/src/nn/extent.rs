use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::borrow::Cow;

/// Largest extent, step or padding a layer takes: far above any use, and small enough that no sum of them overflows.
const LARGEST: usize = 1 << 24;

/// A number per spatial dimension: one for all, or a list of `N` (time; height and width; depth, height and width).
#[derive(Clone, Copy, Debug)]
pub enum Extent<const N: usize> {
    /// The same for every dimension.
    All(usize),
    /// One per dimension.
    Each([usize; N]),
}

impl<const N: usize> Extent<N> {
    /// The number of each dimension.
    pub fn get(self) -> [usize; N] {
        match self {
            Extent::All(n) => [n; N],
            Extent::Each(each) => each,
        }
    }

    pub(super) const fn zero() -> Extent<N> {
        Extent::All(0)
    }

    pub(super) const fn one() -> Extent<N> {
        Extent::All(1)
    }

    /// What is wrong with the number called `name`, if it must lie between `least` and the largest we take.
    pub(super) fn complaint(self, name: &str, least: usize) -> Option<String> {
        let wrong = self.get().into_iter().find(|n| !(least..=LARGEST).contains(n))?;
        Some(format!("{name} must be from {least} to {LARGEST}, got {wrong}"))
    }
}

impl<const N: usize> PartialEq for Extent<N> {
    fn eq(&self, other: &Extent<N>) -> bool {
        self.get() == other.get()
    }
}

impl<const N: usize> Eq for Extent<N> {}

impl<const N: usize> From<usize> for Extent<N> {
    fn from(n: usize) -> Extent<N> {
        Extent::All(n)
    }
}

impl<const N: usize> From<[usize; N]> for Extent<N> {
    fn from(each: [usize; N]) -> Extent<N> {
        Extent::Each(each)
    }
}

impl<const N: usize> Serialize for Extent<N> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Extent::All(n) => n.serialize(s),
            Extent::Each(each) => each.as_slice().serialize(s),
        }
    }
}

/// By hand: serde reads arrays of given lengths only.
impl<'de, const N: usize> Deserialize<'de> for Extent<N> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Extent<N>, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected a whole number, or a list with one for each dimension")]
        enum Written {
            All(usize),
            Each(Vec<usize>),
        }
        match Written::deserialize(d)? {
            Written::All(n) => Ok(Extent::All(n)),
            Written::Each(list) => {
                let wrong = |list: Vec<usize>| {
                    let (names, length) = (dimensions(N), list.len());
                    de::Error::custom(format!("expected a whole number, or a list {names}, found a list of {length}"))
                };
                <[usize; N]>::try_from(list).map(Extent::Each).map_err(wrong)
            }
        }
    }
}

impl<const N: usize> JsonSchema for Extent<N> {
    fn schema_name() -> Cow<'static, str> {
        format!("Extent{N}").into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let number = json_schema!({ "type": "integer", "minimum": 0 });
        json_schema!({
            "description": format!("One whole number for every dimension, or a list {}.", dimensions(N)),
            "anyOf": [number, { "type": "array", "items": number, "minItems": N, "maxItems": N }]
        })
    }
}

/// What `n` spatial dimensions are called.
pub(super) fn dimensions(n: usize) -> String {
    match n {
        1 => "[length]".into(),
        2 => "[height, width]".into(),
        3 => "[depth, height, width]".into(),
        n => format!("of {n}"),
    }
}

/// Extents as people write them: 3×5.
pub(super) fn by(extents: &[usize]) -> String {
    extents.iter().map(usize::to_string).collect::<Vec<_>>().join("×")
}

/// The form of a layer's input with `n` spatial dimensions, for messages.
pub(super) fn spatial_input(n: usize) -> String {
    let inner = dimensions(n);
    format!("[N, {}, channels]", inner.trim_matches(['[', ']']))
}

/// Zeros around an image: a number, one per dimension as a list, `"same"` or `"valid"`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Padding{N}")]
#[serde(untagged, expecting = "expected a whole number, a list with one for each dimension, \"same\" or \"valid\"")]
pub enum Padding<const N: usize> {
    /// Zeros on each side.
    Size(Extent<N>),
    /// By name.
    Named(NamedPadding),
}

/// Padding by name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NamedPadding {
    /// As much as keeps the extent; needs stride 1. Where it is odd, the larger half stands after the image.
    Same,
    /// None.
    Valid,
}

impl Padding<2> {
    /// As much as keeps the extent, in any number of dimensions.
    pub const SAME: NamedPadding = NamedPadding::Same;
}

impl<const N: usize> Padding<N> {
    /// Before and after, for each dimension, under a window of the given extents (dilation included).
    pub(super) fn resolve(self, window: [usize; N]) -> Vec<(isize, isize)> {
        let each = |axis: usize| match self {
            Padding::Size(size) => (size.get()[axis] as isize, size.get()[axis] as isize),
            Padding::Named(NamedPadding::Valid) => (0, 0),
            Padding::Named(NamedPadding::Same) => {
                let total = window[axis] as isize - 1;
                (total / 2, total - total / 2)
            }
        };
        (0..N).map(each).collect()
    }

    /// What is wrong with the numbers, if anything.
    pub(super) fn complaint(self) -> Option<String> {
        if let Padding::Size(size) = self { size.complaint("padding", 0) } else { None }
    }
}

impl<const N: usize> Default for Padding<N> {
    fn default() -> Padding<N> {
        Padding::Size(Extent::zero())
    }
}

impl<const N: usize> From<NamedPadding> for Padding<N> {
    fn from(name: NamedPadding) -> Padding<N> {
        Padding::Named(name)
    }
}

impl<const N: usize, T: Into<Extent<N>>> From<T> for Padding<N> {
    fn from(size: T) -> Padding<N> {
        Padding::Size(size.into())
    }
}
