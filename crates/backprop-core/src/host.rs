//! Tensors in host memory: constants, inputs, results.

use crate::{DType, Shape, Type, exec::native::in_large_pages};
use bytemuck::{AnyBitPattern, NoUninit, Pod, Zeroable};
use std::{fmt, sync::Arc};

/// One cache line; what tensors in host memory are made of, so that every element type and vector load is aligned.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(C, align(64))]
pub struct Line([u8; 64]);

/// A dense row-major tensor in host memory, aligned to 64 bytes.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct HostTensor {
    ty: Type,
    lines: Vec<Line>,
}

/// A tensor that is part of a graph: shared, immutable.
pub type Literal = Arc<HostTensor>;

/// Rust types that are elements of tensors.
pub trait Element: NoUninit + AnyBitPattern + PartialEq + fmt::Debug + Send + Sync {
    /// The element type this is in memory.
    const DTYPE: DType;
}

macro_rules! elements {
    ($($t:ty => $d:ident),*) => { $(impl Element for $t { const DTYPE: DType = DType::$d; })* };
}
elements!(f32 => F32, f64 => F64, i32 => I32, i64 => I64, u32 => U32, u64 => U64, u8 => U8, half::f16 => F16, half::bf16 => BF16);

/// An `f32` that a half precision rounds as it would the given number: inexact ones are rounded to odd (Boldo and Melquiond, "Emulation of
/// FMA and correctly rounded sums: proved algorithms using rounding to odd", 2008). What `half` makes of an `f64` leaves out its low 32
/// bits, so that some numbers look halfway that are above. The kernels have a function of their own, which the oracle judges by this one.
pub(crate) fn to_odd(v: f64) -> f32 {
    let near = v as f32;
    let exact = f64::from(near);
    if exact == v || !near.is_finite() || near.to_bits() & 1 == 1 {
        return near;
    }
    let bits = near.to_bits();
    f32::from_bits(if exact.abs() > v.abs() { bits - 1 } else { bits + 1 })
}

impl HostTensor {
    /// All zeros (false).
    pub fn zeros(ty: Type) -> HostTensor {
        let mut lines = Vec::with_capacity(ty.bytes().div_ceil(64));
        // Updates go through every page of the parameters and of the optimizer's state in each step.
        in_large_pages(lines.spare_capacity_mut());
        lines.resize(ty.bytes().div_ceil(64), Line([0; 64]));
        HostTensor { ty, lines }
    }

    /// From elements in row-major order.
    ///
    /// # Errors
    /// If the number of elements is not the shape's.
    pub fn new<T: Element>(shape: impl Into<Shape>, elements: &[T]) -> Result<HostTensor, String> {
        let ty = Type::new(T::DTYPE, shape);
        if ty.elements() != elements.len() {
            return Err(format!("{ty} has {} elements, got {}", ty.elements(), elements.len()));
        }
        let mut tensor = HostTensor::zeros(ty);
        tensor.bytes_mut().copy_from_slice(bytemuck::cast_slice(elements));
        Ok(tensor)
    }

    /// A scalar.
    pub fn scalar<T: Element>(value: T) -> HostTensor {
        let mut tensor = HostTensor::zeros(Type::scalar(T::DTYPE));
        tensor.bytes_mut().copy_from_slice(bytemuck::bytes_of(&value));
        tensor
    }

    /// From little-endian bytes in row-major order.
    ///
    /// # Errors
    /// If the number of bytes is not the type's.
    pub fn from_bytes(ty: Type, bytes: &[u8]) -> Result<HostTensor, String> {
        if ty.bytes() != bytes.len() {
            return Err(format!("{ty} has {} bytes, got {}", ty.bytes(), bytes.len()));
        }
        let mut tensor = HostTensor::zeros(ty);
        tensor.bytes_mut().copy_from_slice(bytes);
        Ok(tensor)
    }

    /// From f64 values, rounded to `dtype`; nonzero is true.
    ///
    /// # Errors
    /// If the number of values is not the shape's.
    pub fn from_f64(dtype: DType, shape: impl Into<Shape>, values: &[f64]) -> Result<HostTensor, String> {
        let shape = shape.into();
        macro_rules! cast {
            ($t:ty) => {
                HostTensor::new(shape, &values.iter().map(|&v| v as $t).collect::<Vec<_>>())
            };
        }
        match dtype {
            DType::Bool => {
                let bytes: Vec<u8> = values.iter().map(|&v| u8::from(v != 0.0)).collect();
                HostTensor::from_bytes(Type::new(dtype, shape), &bytes)
            }
            DType::U8 => cast!(u8),
            DType::I32 => cast!(i32),
            DType::I64 => cast!(i64),
            DType::U32 => cast!(u32),
            DType::U64 => cast!(u64),
            DType::F16 => HostTensor::new(shape, &values.iter().map(|&v| half::f16::from_f32(to_odd(v))).collect::<Vec<_>>()),
            DType::BF16 => HostTensor::new(shape, &values.iter().map(|&v| half::bf16::from_f32(to_odd(v))).collect::<Vec<_>>()),
            DType::F32 => cast!(f32),
            DType::F64 => cast!(f64),
        }
    }

    /// Element type and shape.
    pub fn ty(&self) -> &Type {
        &self.ty
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.ty.dtype
    }

    /// Shape.
    pub fn shape(&self) -> &Shape {
        &self.ty.shape
    }

    /// The elements' bytes, little-endian, row-major.
    pub fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.lines)[..self.ty.bytes()]
    }

    /// The elements' bytes, for writing. Every byte of a `bool` tensor must stay 0 or 1.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let n = self.ty.bytes();
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..n]
    }

    /// The elements, if they are of type `T`.
    pub fn as_slice<T: Element>(&self) -> Option<&[T]> {
        (T::DTYPE == self.ty.dtype).then(|| bytemuck::cast_slice(self.bytes()))
    }

    /// The elements for writing, if they are of type `T`.
    pub fn as_mut_slice<T: Element>(&mut self) -> Option<&mut [T]> {
        (T::DTYPE == self.ty.dtype).then(|| bytemuck::cast_slice_mut(self.bytes_mut()))
    }

    /// The elements converted to f64 (exact but for large 64-bit integers).
    pub fn to_f64(&self) -> Vec<f64> {
        macro_rules! cast {
            ($t:ty) => {
                bytemuck::cast_slice::<u8, $t>(self.bytes()).iter().map(|&v| v as f64).collect()
            };
        }
        match self.ty.dtype {
            DType::Bool | DType::U8 => cast!(u8),
            DType::I32 => cast!(i32),
            DType::I64 => cast!(i64),
            DType::U32 => cast!(u32),
            DType::U64 => cast!(u64),
            DType::F16 => bytemuck::cast_slice::<u8, half::f16>(self.bytes()).iter().map(|v| v.to_f64()).collect(),
            DType::BF16 => bytemuck::cast_slice::<u8, half::bf16>(self.bytes()).iter().map(|v| v.to_f64()).collect(),
            DType::F32 => cast!(f32),
            DType::F64 => cast!(f64),
        }
    }

    /// The same elements under another shape with as many elements.
    ///
    /// # Errors
    /// If the numbers of elements differ.
    pub fn reshaped(mut self, shape: impl Into<Shape>) -> Result<HostTensor, String> {
        let shape = shape.into();
        if shape.elements() != self.ty.elements() {
            return Err(format!("{} cannot be reshaped to {shape}", self.ty));
        }
        self.ty.shape = shape;
        Ok(self)
    }
}

impl fmt::Debug for HostTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head: Vec<f64> = self.to_f64().into_iter().take(8).collect();
        write!(f, "{} {head:?}{}", self.ty, if self.ty.elements() > 8 { "…" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_the_nearest() {
        let converted = |dtype, v: f64| HostTensor::from_f64(dtype, [1], &[v]).map(|t| t.to_f64());
        // (type, the spacing above 1): above halfway by an f32, and by less than one; halfway; below.
        for (dtype, step) in [(DType::BF16, 2f64.powi(-7)), (DType::F16, 2f64.powi(-10))] {
            let half = 1.0 + step / 2.0;
            for (v, expected) in [
                (half + 2f64.powi(-23), 1.0 + step),
                (half + 2f64.powi(-40), 1.0 + step),
                (half, 1.0),
                (half + step, 1.0 + 2.0 * step),
                (half - 2f64.powi(-40), 1.0),
            ] {
                for sign in [1.0, -1.0] {
                    assert_eq!(converted(dtype, sign * v), Ok(vec![sign * expected]), "{dtype} of {v:e}");
                    assert_eq!(crate::reference::round_to(dtype, sign * v), sign * expected, "{dtype} of {v:e}");
                }
            }
            assert_eq!(converted(dtype, f64::INFINITY), Ok(vec![f64::INFINITY]));
            assert_eq!(converted(dtype, 1e300), Ok(vec![f64::INFINITY]));
            assert_eq!(converted(dtype, -0.0).map(|v| v[0].to_bits()), Ok((-0.0f64).to_bits()));
        }
    }
}
