//! IDX files: the format of MNIST and its relatives.
//!
//! Four bytes `00 00 type rank`, then `rank` sizes as big-endian u32, then the values, row-major,
//! big-endian. The format is described at the end of the MNIST page by LeCun, Cortes and Burges.

use std::path::Path;
use std::sync::Arc;

use crate::on_disk::{self, ElementType, Records};
use crate::open::Input;
use crate::{Classes, Column, DataError, Dataset, InMemory, OnDisk, Stream, Values};

/// Contents of an IDX file.
#[derive(Clone, Debug, PartialEq)]
pub struct Idx {
    /// What the file is called in messages.
    pub name: String,
    /// Sizes; the first is the number of samples.
    pub sizes: Vec<usize>,
    /// The values. Signed bytes are widened to 16 bits; f64 is rounded to f32.
    pub values: Values,
}

/// Most classes that labels without names may have: more is taken for damage.
const MAX_CLASSES: usize = 1 << 20;

/// Reads an IDX file, gzipped or not.
///
/// # Errors
/// A file that cannot be read, is not IDX, is cut short or too long. Sizes are checked against the
/// length of the file before memory is taken.
pub fn read(path: &Path) -> Result<Idx, DataError> {
    decode(Input::file(path)?)
}

/// Decodes the bytes of an IDX file, gzipped or not; `name` stands in messages.
///
/// # Errors
/// As [`read`].
///
/// ```
/// use backprop_data::{Values, idx};
///
/// let file = idx::parse("labels", &[0, 0, 8, 1, 0, 0, 0, 3, 7, 0, 2])?;
/// assert_eq!((file.sizes, file.values), (vec![3], Values::U8(vec![7, 0, 2])));
/// # Ok::<(), backprop_data::DataError>(())
/// ```
pub fn parse(name: &str, bytes: &[u8]) -> Result<Idx, DataError> {
    decode(Input::bytes(name, bytes)?)
}

/// Joins images (or other inputs) and labels to a data set with the columns `image` and `label`.
///
/// Images without a channel axis get one: `[n, height, width]` has samples of shape
/// `[height, width, 1]`. Classes are numbered up to the largest label unless they are given.
///
/// # Errors
/// Different numbers of rows, labels that are not one whole number per row, or outside the classes.
pub fn dataset(name: &str, images: Idx, labels: Idx, classes: Option<Classes>) -> Result<InMemory, DataError> {
    let (column, classes) = paired(&images, &labels, classes)?;
    InMemory::new(name).with_column(column, images.values)?.with_column(Column::label("label", classes), labels.values)
}

/// The column of the images and the classes of the labels, if the two belong together.
fn paired(images: &Idx, labels: &Idx, classes: Option<Classes>) -> Result<(Column, Classes), DataError> {
    if labels.sizes.len() != 1 || matches!(labels.values, Values::F32(_)) {
        let found = match labels.values {
            Values::F32(_) => format!("real numbers of sizes {:?}", labels.sizes),
            _ => format!("sizes {:?}", labels.sizes),
        };
        let file = labels.name.clone();
        return Err(DataError::NotLabels { file, found });
    }
    if images.sizes[0] != labels.sizes[0] {
        return Err(DataError::RowsDiffer {
            first: images.name.clone(),
            first_rows: images.sizes[0],
            second: labels.name.clone(),
            second_rows: labels.sizes[0],
        });
    }
    let classes = match classes {
        Some(classes) => classes,
        None => count_classes(labels)?,
    };
    check_labels(labels, classes.count())?;
    let mut shape = images.sizes[1..].to_vec();
    if shape.len() == 2 {
        shape.push(1);
    }
    Ok((Column::input("image", &shape), classes))
}

/// The same data set, with the images left in their file where `stream` says so. A gzipped file cannot be read from the
/// middle; it is read into memory, or refused where streaming was asked for.
///
/// # Errors
/// As [`read`] and [`dataset`].
pub(crate) fn open(
    name: &str,
    images: &Path,
    labels: &Path,
    classes: Option<Classes>,
    stream: Stream,
) -> Result<Arc<dyn Dataset>, DataError> {
    let mut input = Input::file(images)?;
    let asked = stream.applies_to(input.bound);
    if !asked || (input.packed && stream.is_auto()) {
        return Ok(Arc::new(dataset(name, decode(input)?, read(labels)?, classes)?));
    }
    if input.packed {
        return Err(DataError::StreamPacked { file: input.name });
    }
    let (element, sizes) = header(&mut input)?;
    let (header_len, expected) = body_len(&input, element, &sizes)?;
    if input.bound != (header_len + expected) as u64 {
        return Err(length_error(&input, element, &sizes, format!("more than {expected}")));
    }
    let labels = read(labels)?;
    // Labels are few bytes: they are checked, and kept, in memory. One image of the right shape stands for all.
    let sample = expected / sizes[0];
    let stand_in = Idx { name: input.name.clone(), sizes: sizes.clone(), values: Values::U8(Vec::new()) };
    let (column, classes) = paired(&stand_in, &labels, classes)?;
    let codes: Vec<u8> =
        (0..labels.values.len()).flat_map(|i| (labels.values.integer(i).unwrap_or(0) as i32).to_le_bytes()).collect();
    let whole = on_disk::Element { ty: ElementType::I32, big_endian: false };
    let records = Records::in_file(images, header_len as u64, sample, sizes[0])?;
    let data = OnDisk::new(name)
        .with_column(column, Arc::new(records), on_disk::Element { ty: element.ty(), big_endian: true })?
        .with_column(Column::label("label", classes), Arc::new(Records::in_memory(&labels.name, codes, whole.size())), whole)?;
    Ok(Arc::new(data))
}

fn count_classes(labels: &Idx) -> Result<Classes, DataError> {
    let values = (0..labels.values.len()).filter_map(|i| labels.values.integer(i));
    let largest = values.max().unwrap_or(0);
    let count = usize::try_from(largest).unwrap_or(0).saturating_add(1);
    check_labels(labels, count.min(MAX_CLASSES))?;
    Ok(Classes::numbered(count))
}

/// The same check as that of a column, but the message names the file.
fn check_labels(labels: &Idx, count: usize) -> Result<(), DataError> {
    let values = (0..labels.values.len()).filter_map(|i| labels.values.integer(i));
    for (row, value) in values.enumerate() {
        if !usize::try_from(value).is_ok_and(|v| v < count) {
            return Err(DataError::OutOfRange { data: labels.name.clone(), what: "label", value, row, count });
        }
    }
    Ok(())
}

fn decode(mut input: Input) -> Result<Idx, DataError> {
    let (element, sizes) = header(&mut input)?;
    let bytes = body(&mut input, element, &sizes)?;
    let name = input.name;
    let values = element.values(bytes);
    Ok(Idx { name, sizes, values })
}

/// Element types of the format, by their code.
#[derive(Clone, Copy)]
enum Element {
    U8 = 0x08,
    I8 = 0x09,
    I16 = 0x0b,
    I32 = 0x0c,
    F32 = 0x0d,
    F64 = 0x0e,
}

impl Element {
    const ALL: [Element; 6] = [Element::U8, Element::I8, Element::I16, Element::I32, Element::F32, Element::F64];

    fn size(self) -> usize {
        match self {
            Element::U8 | Element::I8 => 1,
            Element::I16 => 2,
            Element::I32 | Element::F32 => 4,
            Element::F64 => 8,
        }
    }

    fn ty(self) -> ElementType {
        match self {
            Element::U8 => ElementType::U8,
            Element::I8 => ElementType::I8,
            Element::I16 => ElementType::I16,
            Element::I32 => ElementType::I32,
            Element::F32 => ElementType::F32,
            Element::F64 => ElementType::F64,
        }
    }

    fn values(self, bytes: Vec<u8>) -> Values {
        match self {
            Element::U8 => Values::U8(bytes),
            Element::I8 => Values::I16(big_endian(&bytes, |b| i8::from_be_bytes(b).into())),
            Element::I16 => Values::I16(big_endian(&bytes, i16::from_be_bytes)),
            Element::I32 => Values::I32(big_endian(&bytes, i32::from_be_bytes)),
            Element::F32 => Values::F32(big_endian(&bytes, f32::from_be_bytes)),
            Element::F64 => Values::F32(big_endian(&bytes, |b| f64::from_be_bytes(b) as f32)),
        }
    }
}

fn big_endian<const N: usize, T>(bytes: &[u8], convert: impl Fn([u8; N]) -> T) -> Vec<T> {
    let (elements, _) = bytes.as_chunks::<N>();
    elements.iter().map(|&e| convert(e)).collect()
}

/// Bytes before the sizes.
const MAGIC_LEN: usize = 4;

fn header(input: &mut Input) -> Result<(Element, Vec<usize>), DataError> {
    let magic = exactly(input, 0, MAGIC_LEN)?;
    let (code, rank) = (magic[2], usize::from(magic[3]));
    let element = Element::ALL.into_iter().find(|&e| e as u8 == code);
    let (Some(element), 0, 0, 1..) = (element, magic[0], magic[1], rank) else {
        return Err(DataError::IdxMagic {
            file: input.name.clone(),
            found: u32::from_be_bytes([magic[0], magic[1], magic[2], magic[3]]),
        });
    };
    let sizes = exactly(input, MAGIC_LEN, 4 * rank)?;
    let sizes = big_endian(&sizes, |b| u32::from_be_bytes(b) as usize);
    Ok((element, sizes))
}

/// The next `count` bytes of a header of which `before` bytes are read.
fn exactly(input: &mut Input, before: usize, count: usize) -> Result<Vec<u8>, DataError> {
    let bytes = input.take(count)?;
    if bytes.len() == count {
        return Ok(bytes);
    }
    Err(DataError::HeaderCut { file: input.name.clone(), expected: before + count, found: before + bytes.len() })
}

/// Bytes of the header and of the values, after checking that the file can hold them.
fn body_len(input: &Input, element: Element, sizes: &[usize]) -> Result<(usize, usize), DataError> {
    let needed = sizes.iter().try_fold(element.size(), |n, &size| n.checked_mul(size)).filter(|&n| n > 0 && n < usize::MAX);
    let Some(expected) = needed else {
        return Err(DataError::IdxSizes { file: input.name.clone(), offset: MAGIC_LEN, sizes: sizes.to_vec() });
    };
    let header = MAGIC_LEN + 4 * sizes.len();
    let bound = input.bound.saturating_sub(header as u64);
    if expected as u64 > bound {
        return Err(length_error(
            input,
            element,
            sizes,
            match input.packed {
                true => format!("room for {bound} at most (gzip)"),
                false => format!("{bound}"),
            },
        ));
    }
    Ok((header, expected))
}

fn length_error(input: &Input, element: Element, sizes: &[usize], found: String) -> DataError {
    DataError::IdxLength {
        file: input.name.clone(),
        sizes: sizes.to_vec(),
        element: element.size(),
        header: MAGIC_LEN + 4 * sizes.len(),
        expected: sizes.iter().fold(element.size(), |n, &size| n.saturating_mul(size)),
        found,
    }
}

fn body(input: &mut Input, element: Element, sizes: &[usize]) -> Result<Vec<u8>, DataError> {
    let (_, expected) = body_len(input, element, sizes)?;
    // One byte more than expected shows a file that is too long and makes gzip check its sum.
    let bytes = input.take(expected + 1)?;
    match bytes.len() {
        n if n == expected => Ok(bytes),
        n if n > expected => Err(length_error(input, element, sizes, format!("more than {expected}"))),
        n => Err(length_error(input, element, sizes, n.to_string())),
    }
}
