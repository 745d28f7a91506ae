//! Writing archives of arrays, as `numpy.savez` does.

use std::io::{Cursor, Write};

use zip::{CompressionMethod, ZipWriter, result::ZipResult, write::SimpleFileOptions};

use super::{Array, MAGIC, error};
use crate::{DataError, Values};

/// What the elements of a .npy file begin at a multiple of, so that they can be mapped into memory.
const ALIGNMENT: usize = 64;

/// A .npz archive of named arrays, not compressed; `name` stands in messages. [`parse_npz`](super::parse_npz) reads it back.
///
/// ```
/// use backprop_data::{Values, npy::{Array, parse_npz, to_npz}};
///
/// let array = Array { sizes: vec![2, 2], values: Values::F32(vec![1.0, -2.5, 0.0, 4.0]) };
/// let bytes = to_npz("a.npz", &[("x", &array)])?;
/// assert_eq!(parse_npz("a.npz", &bytes, "x")?, array);
/// # Ok::<(), backprop_data::DataError>(())
/// ```
///
/// # Errors
/// What an archive cannot hold, such as two arrays of one name.
pub fn to_npz(name: &str, arrays: &[(&str, &Array)]) -> Result<Vec<u8>, DataError> {
    archive(arrays).map_err(|e| error(name, format!("cannot be made ({e}); give each array a name of its own")))
}

fn archive(arrays: &[(&str, &Array)]) -> ZipResult<Vec<u8>> {
    let mut out = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, array) in arrays {
        let (code, bytes) = elements(&array.values);
        let large = bytes.len() >= u32::MAX as usize / 2;
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored).large_file(large);
        out.start_file(format!("{name}.npy"), options)?;
        out.write_all(&header(code, &array.sizes))?;
        out.write_all(&bytes)?;
    }
    Ok(out.finish()?.into_inner())
}

/// Everything before the elements, in version 1 of the format.
fn header(code: &str, sizes: &[usize]) -> Vec<u8> {
    let sizes: String = sizes.iter().map(|n| format!("{n}, ")).collect();
    let mut text = format!("{{'descr': '{code}', 'fortran_order': False, 'shape': ({}), }}", sizes.trim_end());
    // Magic, version and length are ten bytes; the header ends with a line break.
    let length = (10 + text.len() + 1).next_multiple_of(ALIGNMENT) - 10;
    text.push_str(&" ".repeat(length - 1 - text.len()));
    text.push('\n');
    [&MAGIC[..], &[1, 0], &(length as u16).to_le_bytes(), text.as_bytes()].concat()
}

/// NumPy's name of the element type, and the elements, the low byte first.
fn elements(values: &Values) -> (&'static str, Vec<u8>) {
    match values {
        Values::U8(v) => ("|u1", v.clone()),
        Values::I16(v) => ("<i2", v.iter().flat_map(|e| e.to_le_bytes()).collect()),
        Values::I32(v) => ("<i4", v.iter().flat_map(|e| e.to_le_bytes()).collect()),
        Values::F32(v) => ("<f4", v.iter().flat_map(|e| e.to_le_bytes()).collect()),
    }
}
