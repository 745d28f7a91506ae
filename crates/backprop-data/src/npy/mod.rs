//! NumPy's arrays: .npy files, and .npz archives of them.
//!
//! The format is described in NumPy's documentation, "numpy.lib.format": a magic string, a version, the length of a header, the
//! header (a Python dictionary), then the elements. Versions 1 to 3 differ in the length's width and the header's encoding.

mod files;
mod header;
mod write;

use std::io::{Cursor, Read, Seek};

use crate::on_disk::{Element, ElementType};
use crate::open::Input;
use crate::{DataError, Values};

pub use files::NpyFiles;
use header::Header;
pub(crate) use header::MAGIC;
pub use write::to_npz;

/// An array in memory, in C order.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Sizes; the first is the number of samples.
    pub sizes: Vec<usize>,
    /// The elements in the narrowest type that holds them; 64-bit numbers are rounded to 32 bits unless they are whole and fit.
    pub values: Values,
}

/// Decodes the bytes of a .npy file, gzipped or not; `name` stands in messages.
///
/// # Errors
/// Bytes that are not such a file, are cut short or too long, hold Python objects, text or complex numbers.
pub fn parse(name: &str, bytes: &[u8]) -> Result<Array, DataError> {
    let mut input = Input::bytes(name, bytes)?;
    let bound = input.bound;
    decode(name, bound, &mut |count| input.take(count))
}

/// Decodes an array out of the bytes of a .npz archive.
///
/// # Errors
/// As [`parse`]; a damaged archive, one that has no array of the name.
pub fn parse_npz(name: &str, bytes: &[u8], array: &str) -> Result<Array, DataError> {
    from_archive(name, Cursor::new(bytes), array)
}

fn error(file: &str, why: impl Into<String>) -> DataError {
    DataError::Npy { file: file.into(), why: why.into() }
}

/// Reads an array from an archive; what an entry can unpack to is bounded by what it says and by what deflate can make.
fn from_archive(file: &str, reader: impl Read + Seek, array: &str) -> Result<Array, DataError> {
    let damaged = |e: &dyn std::fmt::Display| {
        error(file, format!("not an archive of arrays, or a damaged one ({e}); write it with numpy.savez"))
    };
    let mut archive = zip::ZipArchive::new(reader).map_err(|e| damaged(&e))?;
    let entry = [format!("{array}.npy"), array.to_owned()].into_iter().find(|n| archive.index_for_name(n).is_some());
    let Some(entry) = entry else {
        let names: Vec<String> = archive.file_names().take(20).flatten().map(|n| n.trim_end_matches(".npy").to_owned()).collect();
        return Err(error(file, format!("has no array {array:?}; it has {}", names.join(", "))));
    };
    let mut entry = archive.by_name(&entry).map_err(|e| damaged(&e))?;
    let bound = entry.size();
    let name = format!("{file}, array {array}");
    decode(&name, bound, &mut |count| {
        let mut bytes = Vec::new();
        (&mut entry).take(count as u64).read_to_end(&mut bytes).map_err(|e| damaged(&e))?;
        Ok(bytes)
    })
}

/// Decodes an array from `take`, which gives the next bytes, of at most `bound` in all.
fn decode(name: &str, bound: u64, take: &mut dyn FnMut(usize) -> Result<Vec<u8>, DataError>) -> Result<Array, DataError> {
    let header = Header::read(name, take)?;
    let expected = header.body(name, bound)?;
    // One byte more than expected shows a file that goes on, and makes the archive check its sum.
    let bytes = take(expected.saturating_add(1))?;
    if bytes.len() != expected {
        let found = if bytes.len() > expected { format!("more than {expected}") } else { bytes.len().to_string() };
        return Err(header.length_error(name, expected, &found));
    }
    let Header { element, fortran, sizes, .. } = header;
    let bytes = if fortran && sizes.len() > 1 { c_order(&bytes, &sizes, element.size()) } else { bytes };
    Ok(Array { values: values(element, bytes), sizes })
}

/// Elements in row-major order from those in column-major order.
fn c_order(bytes: &[u8], sizes: &[usize], size: usize) -> Vec<u8> {
    // How far apart neighbours along each axis lie in column-major order.
    let strides: Vec<usize> = sizes.iter().scan(size, |step, &n| Some(std::mem::replace(step, *step * n))).collect();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = vec![0; sizes.len()];
    for _ in 0..bytes.len() / size {
        let start: usize = at.iter().zip(&strides).map(|(i, s)| i * s).sum();
        out.extend_from_slice(&bytes[start..start + size]);
        for axis in (0..sizes.len()).rev() {
            at[axis] += 1;
            if at[axis] < sizes[axis] {
                break;
            }
            at[axis] = 0;
        }
    }
    out
}

/// The elements in the narrowest type that holds them.
fn values(element: Element, bytes: Vec<u8>) -> Values {
    let count = bytes.len() / element.size();
    let whole = || {
        let mut out = vec![0; count];
        element.write_i32(&bytes, &mut out);
        out
    };
    let real = || {
        let mut out = vec![0.0; count];
        element.write_f32(&bytes, &mut out);
        Values::F32(out)
    };
    match element.ty {
        ElementType::U8 => Values::U8(bytes),
        ElementType::I8 | ElementType::I16 => Values::I16(whole().into_iter().map(|v| v as i16).collect()),
        ElementType::U16 | ElementType::I32 => Values::I32(whole()),
        ElementType::U32 | ElementType::I64 | ElementType::U64 => {
            let whole = whole();
            // What does not fit was clamped to the ends.
            if whole.iter().all(|&v| v != i32::MAX && v != i32::MIN) { Values::I32(whole) } else { real() }
        }
        ElementType::F16 | ElementType::F32 | ElementType::F64 => real(),
    }
}
