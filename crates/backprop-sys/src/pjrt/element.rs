//! Types of elements.

use std::fmt;

/// The type of a buffer's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ElementType {
    /// One byte, 0 or 1; `i1` in a program's text.
    Bool,
    /// Unsigned, 8 bits.
    U8,
    /// Signed, 32 bits.
    I32,
    /// Signed, 64 bits.
    I64,
    /// Unsigned, 32 bits.
    U32,
    /// Unsigned, 64 bits.
    U64,
    /// IEEE half precision.
    F16,
    /// The upper half of an `f32`.
    BF16,
    /// IEEE single precision.
    F32,
    /// IEEE double precision.
    F64,
}

/// Types, numbers of `PJRT_Buffer_Type`, names in a program's text, bytes.
const ELEMENTS: [(ElementType, i32, &str, usize); 10] = [
    (ElementType::Bool, 1, "i1", 1),
    (ElementType::U8, 6, "ui8", 1),
    (ElementType::I32, 4, "i32", 4),
    (ElementType::I64, 5, "i64", 8),
    (ElementType::U32, 8, "ui32", 4),
    (ElementType::U64, 9, "ui64", 8),
    (ElementType::F16, 10, "f16", 2),
    (ElementType::BF16, 13, "bf16", 2),
    (ElementType::F32, 11, "f32", 4),
    (ElementType::F64, 12, "f64", 8),
];

impl ElementType {
    fn row(self) -> (ElementType, i32, &'static str, usize) {
        ELEMENTS[self as usize]
    }

    /// Bytes of one element.
    pub fn size(self) -> usize {
        self.row().3
    }

    /// The name in a program's text: `f32`, `i1`, `ui8`.
    pub fn name(self) -> &'static str {
        self.row().2
    }

    /// The number in the C header.
    pub fn number(self) -> i32 {
        self.row().1
    }

    /// The type of a number of the C header, if it is one of ours.
    pub fn from_number(number: i32) -> Option<ElementType> {
        ELEMENTS.iter().find(|(_, n, ..)| *n == number).map(|(element, ..)| *element)
    }

    /// The type of a name in a program's text, if it is one of ours.
    pub fn from_name(name: &str) -> Option<ElementType> {
        ELEMENTS.iter().find(|(_, _, n, _)| *n == name).map(|(element, ..)| *element)
    }

    /// Bytes of a tensor, if they can be counted.
    pub(super) fn bytes(self, dims: &[usize]) -> Option<usize> {
        dims.iter().try_fold(self.size(), |bytes, d| bytes.checked_mul(*d))
    }

    /// `tensor<2x3xf32>`, as a program writes it.
    pub(super) fn tensor(self, dims: &[usize]) -> String {
        let dims: String = dims.iter().map(|d| format!("{d}x")).collect();
        format!("tensor<{dims}{}>", self.name())
    }
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_in_the_order_of_the_types() {
        for (i, (element, number, name, _)) in ELEMENTS.into_iter().enumerate() {
            assert_eq!(element as usize, i);
            assert_eq!(ElementType::from_number(number), Some(element));
            assert_eq!(ElementType::from_name(name), Some(element));
        }
        assert_eq!(ElementType::F32.tensor(&[2, 3]), "tensor<2x3xf32>");
        assert_eq!(ElementType::F64.bytes(&[usize::MAX]), None);
    }
}
