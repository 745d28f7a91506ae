use crate::DType;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, ops::Deref, str::FromStr};

/// Extents of the dimensions of a tensor, outermost first. Empty for a scalar.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug, Serialize, Deserialize)]
pub struct Shape(Vec<usize>);

impl Shape {
    /// Number of elements: the product of the extents, 1 for a scalar. Saturates; a graph refuses such tensors.
    pub fn elements(&self) -> usize {
        if self.0.contains(&0) { 0 } else { self.0.iter().fold(1, |n, &d| n.saturating_mul(d)) }
    }

    /// Row-major strides in elements.
    pub fn strides(&self) -> Vec<usize> {
        let mut strides = vec![1; self.0.len()];
        for i in (1..self.0.len()).rev() {
            strides[i - 1] = strides[i] * self.0[i];
        }
        strides
    }

    /// The shape without the given dimensions.
    pub fn without(&self, dims: &[usize]) -> Shape {
        self.0.iter().enumerate().filter(|(i, _)| !dims.contains(i)).map(|(_, &d)| d).collect()
    }

    /// All index vectors in row-major order.
    pub fn indices(&self) -> impl Iterator<Item = Vec<usize>> + '_ {
        (0..self.elements()).map(|linear| self.unravel(linear))
    }

    /// The index vector of a row-major position.
    pub fn unravel(&self, mut linear: usize) -> Vec<usize> {
        let mut index = vec![0; self.0.len()];
        for (i, &d) in self.0.iter().enumerate().rev() {
            index[i] = linear % d.max(1);
            linear /= d.max(1);
        }
        index
    }

    /// The row-major position of an index vector.
    pub fn ravel(&self, index: &[usize]) -> usize {
        index.iter().zip(&self.0).fold(0, |acc, (&i, &d)| acc * d + i)
    }
}

impl Deref for Shape {
    type Target = [usize];
    fn deref(&self) -> &[usize] {
        &self.0
    }
}

impl From<Vec<usize>> for Shape {
    fn from(v: Vec<usize>) -> Self {
        Shape(v)
    }
}
impl From<&[usize]> for Shape {
    fn from(v: &[usize]) -> Self {
        Shape(v.to_vec())
    }
}
impl From<&Shape> for Shape {
    fn from(v: &Shape) -> Self {
        v.clone()
    }
}
impl<const N: usize> From<[usize; N]> for Shape {
    fn from(v: [usize; N]) -> Self {
        Shape(v.to_vec())
    }
}
impl<const N: usize> From<&[usize; N]> for Shape {
    fn from(v: &[usize; N]) -> Self {
        Shape(v.to_vec())
    }
}
impl FromIterator<usize> for Shape {
    fn from_iter<I: IntoIterator<Item = usize>>(iter: I) -> Self {
        Shape(iter.into_iter().collect())
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dims: Vec<String> = self.0.iter().map(usize::to_string).collect();
        write!(f, "[{}]", dims.join(","))
    }
}

/// Element type and shape of a value. Written `f32[2,3]`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Type {
    /// Element type in memory.
    pub dtype: DType,
    /// Extents, outermost first.
    pub shape: Shape,
}

impl Type {
    /// A type from its parts.
    pub fn new(dtype: DType, shape: impl Into<Shape>) -> Type {
        Type { dtype, shape: shape.into() }
    }

    /// The type of a scalar.
    pub fn scalar(dtype: DType) -> Type {
        Type::new(dtype, [])
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.elements()
    }

    /// Size in bytes, without padding.
    pub fn bytes(&self) -> usize {
        self.elements().saturating_mul(self.dtype.size())
    }

    /// Refuses types that no memory can hold.
    pub(crate) fn check_size(&self) -> Result<(), String> {
        if self.bytes() <= isize::MAX as usize { Ok(()) } else { Err(format!("{self} is larger than any memory")) }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.dtype, self.shape)
    }
}

impl FromStr for Type {
    type Err = String;
    fn from_str(s: &str) -> Result<Type, String> {
        let wrong = || format!("`{s}` is not a type; expected something like f32[2,3]");
        let (name, rest) = s.split_once('[').ok_or_else(wrong)?;
        let dims = rest.strip_suffix(']').ok_or_else(wrong)?;
        let dtype = DType::from_name(name).ok_or_else(wrong)?;
        let shape = dims.split(',').filter(|d| !d.is_empty()).map(|d| d.trim().parse().map_err(|_| wrong()));
        Ok(Type { dtype, shape: Shape(shape.collect::<Result<_, _>>()?) })
    }
}

impl Serialize for Type {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for Type {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(de::Error::custom)
    }
}
