//! The header of a .npy file.

use super::error;
use crate::DataError;
use crate::on_disk::{Element, ElementType};

/// How every .npy file begins.
pub(crate) const MAGIC: [u8; 6] = *b"\x93NUMPY";

/// Longest header that is read. NumPy's own limit is 10,000 bytes.
const MAX_HEADER: usize = 1 << 16;

/// What the header says.
pub(super) struct Header {
    pub element: Element,
    /// Whether the first axis is the fastest.
    pub fortran: bool,
    pub sizes: Vec<usize>,
    /// Bytes before the elements.
    pub length: usize,
}

/// Element types by NumPy's kind and size.
const TYPES: [(&str, ElementType); 12] = [
    ("b1", ElementType::U8),
    ("u1", ElementType::U8),
    ("i1", ElementType::I8),
    ("u2", ElementType::U16),
    ("i2", ElementType::I16),
    ("u4", ElementType::U32),
    ("i4", ElementType::I32),
    ("u8", ElementType::U64),
    ("i8", ElementType::I64),
    ("f2", ElementType::F16),
    ("f4", ElementType::F32),
    ("f8", ElementType::F64),
];

impl Header {
    pub fn read(name: &str, take: &mut dyn FnMut(usize) -> Result<Vec<u8>, DataError>) -> Result<Self, DataError> {
        let mut exactly = |count| {
            let bytes = take(count)?;
            if bytes.len() == count { Ok(bytes) } else { Err(error(name, "the file ends within its header; it is cut short")) }
        };
        let start = take_start(name, &mut exactly)?;
        let width = if start[6] == 1 { 2 } else { 4 };
        let length = exactly(width)?.iter().rev().fold(0_usize, |n, &b| n << 8 | usize::from(b));
        if length > MAX_HEADER {
            return Err(error(name, format!("a header of {length} bytes, longer than any; the file is damaged")));
        }
        let text = exactly(length)?;
        let text = String::from_utf8_lossy(&text);
        let (element, fortran, sizes) = parse(name, &text)?;
        Ok(Self { element, fortran, sizes, length: start.len() + width + length })
    }

    /// Bytes of the elements, after checking that `bound` bytes can hold them.
    pub fn body(&self, name: &str, bound: u64) -> Result<usize, DataError> {
        let bytes = self.sizes.iter().try_fold(self.element.size(), |n, &size| n.checked_mul(size));
        match bytes {
            Some(0) => Err(DataError::Empty { data: name.into() }),
            Some(bytes) if (bytes as u64).saturating_add(self.length as u64) <= bound => Ok(bytes),
            _ => {
                let found = bound.saturating_sub(self.length as u64);
                Err(self.length_error(name, bytes.unwrap_or(usize::MAX), &found.to_string()))
            }
        }
    }

    pub fn length_error(&self, name: &str, expected: usize, found: &str) -> DataError {
        let why = format!(
            "sizes {:?} of {}-byte elements need {expected} bytes after the header; there are {found}; write the file again",
            self.sizes,
            self.element.size()
        );
        error(name, why)
    }
}

/// Magic and version.
fn take_start(name: &str, exactly: &mut dyn FnMut(usize) -> Result<Vec<u8>, DataError>) -> Result<Vec<u8>, DataError> {
    let start = exactly(8)?;
    if start[..6] != MAGIC {
        let why = format!("not a .npy file: it begins with {}; write arrays with numpy.save", start[..6].escape_ascii());
        return Err(error(name, why));
    }
    if !(1..=3).contains(&start[6]) {
        return Err(error(name, format!("version {} of the .npy format; versions 1 to 3 are read", start[6])));
    }
    Ok(start)
}

/// Reads the dictionary: `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`.
fn parse(name: &str, text: &str) -> Result<(Element, bool, Vec<usize>), DataError> {
    let damaged = || error(name, format!("the header {:?} is not one that NumPy writes", text.trim_end()));
    let value = |key: &str| {
        let (_, rest) = text.split_once(key)?;
        let (between, value) = rest.split_once(':')?;
        between.trim().is_empty().then(|| value.trim_start())
    };
    let either = |key: &str| value(&format!("'{key}'")).or_else(|| value(&format!("\"{key}\"")));
    let descr = either("descr").ok_or_else(damaged)?;
    let fortran = match either("fortran_order").ok_or_else(damaged)? {
        v if v.starts_with("True") => true,
        v if v.starts_with("False") => false,
        _ => return Err(damaged()),
    };
    let shape = either("shape").and_then(|v| v.strip_prefix('(')?.split_once(')')).ok_or_else(damaged)?.0;
    let sizes = shape.split(',').map(str::trim).filter(|s| !s.is_empty());
    let sizes: Vec<usize> = sizes.map(str::parse).collect::<Result<_, _>>().map_err(|_| damaged())?;
    Ok((element(name, descr)?, fortran, sizes))
}

/// The element type that `descr` begins with.
fn element(name: &str, descr: &str) -> Result<Element, DataError> {
    if descr.starts_with('[') {
        return Err(error(name, "holds records of several fields; save each field as an array of numbers"));
    }
    let quote = descr.chars().next().filter(|c| matches!(c, '\'' | '"'));
    let inner = quote.and_then(|q| descr[1..].split_once(q)).map_or("", |(inner, _)| inner);
    let (order, kind) = inner.split_at_checked(1).unwrap_or_default();
    let found = TYPES.iter().find(|(code, _)| *code == kind);
    match (order, found) {
        ("<" | ">" | "|" | "=", Some(&(_, ty))) => Ok(Element { ty, big_endian: order == ">" }),
        _ => {
            let what = match kind.chars().next() {
                Some('O') => "Python objects; convert it with array.astype(numpy.float32)".into(),
                Some('U' | 'S') => "text; save numbers, classes as whole numbers from 0".into(),
                Some('c') => "complex numbers; save real and imaginary parts as two values".into(),
                _ => format!("elements of type {inner:?}; whole numbers, booleans and f2, f4, f8 are read"),
            };
            Err(error(name, format!("holds {what}")))
        }
    }
}
