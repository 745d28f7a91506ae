//! Records of a fixed size, in memory or in a file, and data sets that are read from files as they are needed.
//!
//! Reading is positional and takes `&self`: several threads read one file at once, nothing is mapped into memory, and a row is
//! the same bits wherever it lies.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::dataset::{checked_elements, no_row};
use crate::{Column, DataError, Dataset, Kind, Scale};

/// Whether data stay in files and are read as they are needed: `true`, `false`, or `"auto"`, which is `true` for data that would
/// take more than a quarter of the memory this process can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(untagged)]
pub enum Stream {
    /// As said.
    Set(bool),
    /// By the size of the data.
    Auto(AutoStream),
}

/// The word `auto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AutoStream {
    /// By the size of the data.
    Auto,
}

impl Default for Stream {
    fn default() -> Self {
        Stream::Auto(AutoStream::Auto)
    }
}

impl Stream {
    /// Whether data of `bytes` bytes stay in a file.
    pub fn applies_to(self, bytes: u64) -> bool {
        match self {
            Stream::Set(set) => set,
            Stream::Auto(_) => crate::machine::memory_limit().is_some_and(|limit| bytes > limit / 4),
        }
    }

    pub(crate) fn is_auto(&self) -> bool {
        matches!(self, Stream::Auto(_))
    }
}

/// Records of a fixed size.
pub struct Records {
    /// The file, or what was read from it, in messages.
    name: String,
    place: Place,
    size: usize,
    rows: usize,
}

enum Place {
    Memory(Vec<u8>),
    /// The first record begins at a byte of the file.
    File(File, u64),
}

impl Records {
    /// Records of `size` bytes in a file, the first at byte `offset`.
    ///
    /// # Errors
    /// A file that cannot be opened or is too short for `rows` records.
    pub fn in_file(path: &Path, offset: u64, size: usize, rows: usize) -> Result<Self, DataError> {
        let name = path.display().to_string();
        let open = || -> io::Result<(File, u64)> {
            let file = File::open(path)?;
            let length = file.metadata()?.len();
            Ok((file, length))
        };
        let (file, length) = open().map_err(|source| DataError::Io { file: name.clone(), source })?;
        let needed = (size as u64).saturating_mul(rows as u64).saturating_add(offset);
        if needed > length {
            return Err(DataError::RecordsCut { file: name, rows, size, needed, found: length });
        }
        Ok(Self { name, place: Place::File(file, offset), size, rows })
    }

    /// Records of `size` bytes in memory.
    pub(crate) fn in_memory(name: &str, bytes: Vec<u8>, size: usize) -> Self {
        let rows = bytes.len() / size.max(1);
        Self { name: name.into(), place: Place::Memory(bytes), size, rows }
    }

    /// Number of records.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes per record.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Whether the records are read from a file.
    pub fn is_on_disk(&self) -> bool {
        matches!(self.place, Place::File(..))
    }

    /// Bytes of record `row` from byte `from` of it on, as many as `buffer` has; they lie in the buffer or in memory.
    ///
    /// # Errors
    /// No such record, bytes beyond its end, or what reading the file gave.
    pub fn read<'a>(&'a self, row: usize, from: usize, buffer: &'a mut [u8]) -> Result<&'a [u8], DataError> {
        if row >= self.rows || from.saturating_add(buffer.len()) > self.size {
            return Err(no_row(&self.name, row, self.rows));
        }
        match &self.place {
            Place::Memory(bytes) => {
                let start = row * self.size + from;
                Ok(&bytes[start..start + buffer.len()])
            }
            Place::File(file, offset) => {
                let start = offset + (row as u64) * (self.size as u64) + from as u64;
                file.read_exact_at(buffer, start).map_err(|source| DataError::Io { file: self.name.clone(), source })?;
                Ok(buffer)
            }
        }
    }
}

/// Where records go while they are made.
pub struct RecordWriter {
    name: String,
    to: To,
    size: usize,
    rows: usize,
    folder: PathBuf,
}

enum To {
    Memory(Vec<u8>),
    File(BufWriter<File>),
}

impl RecordWriter {
    /// Records of `size` bytes that stay in memory.
    pub fn in_memory(name: &str, size: usize) -> Self {
        Self { name: name.into(), to: To::Memory(Vec::new()), size, rows: 0, folder: PathBuf::new() }
    }

    /// Records of `size` bytes in a file without a name in `folder` (without one, the system's folder for temporary files). The
    /// system removes it when the process ends, however it ends.
    ///
    /// # Errors
    /// A folder in which no file can be made.
    pub fn in_folder(name: &str, size: usize, folder: Option<&Path>) -> Result<Self, DataError> {
        let folder = folder.map_or_else(std::env::temp_dir, Path::to_path_buf);
        let file = tempfile::tempfile_in(&folder).map_err(|source| spill_error(&folder, source))?;
        Ok(Self { name: name.into(), to: To::File(BufWriter::with_capacity(1 << 18, file)), size, rows: 0, folder })
    }

    /// Adds a record.
    ///
    /// # Errors
    /// A disk that is full.
    pub fn push(&mut self, record: &[u8]) -> Result<(), DataError> {
        match &mut self.to {
            To::Memory(bytes) => bytes.extend_from_slice(record),
            To::File(file) => file.write_all(record).map_err(|source| spill_error(&self.folder, source))?,
        }
        self.rows += 1;
        Ok(())
    }

    /// The records, to be read.
    ///
    /// # Errors
    /// A disk that is full.
    pub fn finish(self) -> Result<Records, DataError> {
        let place = match self.to {
            To::Memory(bytes) => Place::Memory(bytes),
            To::File(file) => {
                let file = file.into_inner().map_err(|e| spill_error(&self.folder, e.into_error()))?;
                Place::File(file, 0)
            }
        };
        Ok(Records { name: self.name, place, size: self.size, rows: self.rows })
    }
}

fn spill_error(folder: &Path, source: io::Error) -> DataError {
    DataError::Spill { folder: folder.display().to_string(), source }
}

/// How a number lies in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element {
    /// Its type.
    pub ty: ElementType,
    /// Whether its first byte is the most significant one.
    pub big_endian: bool,
}

/// Types of numbers in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElementType {
    /// Bytes.
    U8,
    /// Signed bytes.
    I8,
    /// 16-bit whole numbers.
    I16,
    /// 16-bit whole numbers from 0.
    U16,
    /// 32-bit whole numbers.
    I32,
    /// 32-bit whole numbers from 0.
    U32,
    /// 64-bit whole numbers.
    I64,
    /// 64-bit whole numbers from 0.
    U64,
    /// 16-bit real numbers.
    F16,
    /// 32-bit real numbers.
    F32,
    /// 64-bit real numbers, rounded to 32 bits when they are read.
    F64,
}

impl Element {
    /// Bytes of one number.
    pub fn size(self) -> usize {
        match self.ty {
            ElementType::U8 | ElementType::I8 => 1,
            ElementType::I16 | ElementType::U16 | ElementType::F16 => 2,
            ElementType::I32 | ElementType::U32 | ElementType::F32 => 4,
            ElementType::I64 | ElementType::U64 | ElementType::F64 => 8,
        }
    }

    /// Whether the numbers are whole.
    pub fn is_whole(self) -> bool {
        !matches!(self.ty, ElementType::F16 | ElementType::F32 | ElementType::F64)
    }

    pub(crate) fn write_f32(self, bytes: &[u8], out: &mut [f32]) {
        match self.ty {
            ElementType::U8 => self.each(bytes, out, |[b]: [u8; 1]| f32::from(b)),
            ElementType::I8 => self.each(bytes, out, |b| f32::from(i8::from_le_bytes(b))),
            ElementType::I16 => self.each(bytes, out, |b| f32::from(i16::from_le_bytes(b))),
            ElementType::U16 => self.each(bytes, out, |b| f32::from(u16::from_le_bytes(b))),
            ElementType::U32 => self.each(bytes, out, |b| u32::from_le_bytes(b) as f32),
            ElementType::U64 => self.each(bytes, out, |b| u64::from_le_bytes(b) as f32),
            ElementType::F16 => self.each(bytes, out, |b| half::f16::from_le_bytes(b).to_f32()),
            ElementType::I32 => self.each(bytes, out, |b| i32::from_le_bytes(b) as f32),
            ElementType::I64 => self.each(bytes, out, |b| i64::from_le_bytes(b) as f32),
            ElementType::F32 => self.each(bytes, out, f32::from_le_bytes),
            ElementType::F64 => self.each(bytes, out, |b| f64::from_le_bytes(b) as f32),
        }
    }

    /// Whole numbers; those beyond 32 bits become the nearest that 32 bits have, which no class or token has as its number.
    pub(crate) fn write_i32(self, bytes: &[u8], out: &mut [i32]) {
        let nearest = |b: [u8; 8]| i64::from_le_bytes(b).clamp(i32::MIN.into(), i32::MAX.into()) as i32;
        match self.ty {
            ElementType::U8 => self.each(bytes, out, |[b]: [u8; 1]| i32::from(b)),
            ElementType::I8 => self.each(bytes, out, |b| i32::from(i8::from_le_bytes(b))),
            ElementType::I16 => self.each(bytes, out, |b| i32::from(i16::from_le_bytes(b))),
            ElementType::U16 => self.each(bytes, out, |b| i32::from(u16::from_le_bytes(b))),
            ElementType::U32 => self.each(bytes, out, |b| i32::try_from(u32::from_le_bytes(b)).unwrap_or(i32::MAX)),
            ElementType::U64 => self.each(bytes, out, |b| i32::try_from(u64::from_le_bytes(b)).unwrap_or(i32::MAX)),
            ElementType::I32 => self.each(bytes, out, i32::from_le_bytes),
            ElementType::I64 => self.each(bytes, out, nearest),
            ElementType::F16 | ElementType::F32 | ElementType::F64 => {}
        }
    }

    /// Converts from little-endian bytes, after turning them round where the file is big-endian.
    fn each<const N: usize, T>(self, bytes: &[u8], out: &mut [T], convert: impl Fn([u8; N]) -> T) {
        let (elements, _) = bytes.as_chunks::<N>();
        for (to, &element) in out.iter_mut().zip(elements) {
            let mut element = element;
            if self.big_endian {
                element.reverse();
            }
            *to = convert(element);
        }
    }
}

/// Bytes read at once, on the stack.
pub(crate) const BLOCK: usize = 4096;

/// A data set whose columns are read from files of records when a batch is filled: data larger than memory. The order of rows
/// and the bits of a batch are those of the same data in memory.
#[derive(Clone)]
pub struct OnDisk {
    name: String,
    rows: usize,
    columns: Vec<Column>,
    stored: Vec<(Arc<Records>, Element)>,
}

impl OnDisk {
    /// A data set without columns, called `name` in messages.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), rows: 0, columns: Vec::new(), stored: Vec::new() }
    }

    /// Adds a column whose samples are whole records. Class labels and tokens are checked when they are read.
    ///
    /// # Errors
    /// Records that are not one sample each, another number of rows than the columns before, labels of real numbers.
    pub fn with_column(mut self, column: Column, records: Arc<Records>, element: Element) -> Result<Self, DataError> {
        let elements = column.elements();
        if elements == 0 || elements.saturating_mul(element.size()) != records.size {
            let values = records.size / element.size();
            return Err(DataError::Shape { data: self.name, column: column.name, values, shape: column.shape });
        }
        if column.kind != Kind::Number && !element.is_whole() {
            let (found, needed) = ("real numbers", "whole numbers");
            return Err(DataError::KindDiffers { data: self.name, column: column.name, found, needed });
        }
        if let Some(first) = self.columns.first()
            && records.rows != self.rows
        {
            return Err(DataError::RowsDiffer {
                first: format!("{}, column {}", self.name, first.name),
                first_rows: self.rows,
                second: format!("column {}", column.name),
                second_rows: records.rows,
            });
        }
        self.rows = records.rows;
        self.columns.push(column);
        self.stored.push((records, element));
        Ok(self)
    }

    /// Reads each row's sample in blocks.
    fn each_row<T>(
        &self,
        column: usize,
        rows: &[usize],
        out: &mut [T],
        convert: impl Fn(Element, &[u8], &mut [T]),
    ) -> Result<(), DataError> {
        let elements = checked_elements(self, column, rows.len(), out.len())?;
        let (records, element) = &self.stored[column];
        let per_block = BLOCK / element.size();
        let mut block = [0; BLOCK];
        for (&row, sample) in rows.iter().zip(out.chunks_mut(elements)) {
            for (i, part) in sample.chunks_mut(per_block).enumerate() {
                let from = i * per_block * element.size();
                let bytes = records.read(row, from, &mut block[..part.len() * element.size()])?;
                convert(*element, bytes, part);
            }
        }
        Ok(())
    }
}

impl Dataset for OnDisk {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> usize {
        self.rows
    }

    fn columns(&self) -> &[Column] {
        &self.columns
    }

    fn fill_f32(&self, column: usize, rows: &[usize], scale: &Scale, out: &mut [f32]) -> Result<(), DataError> {
        self.each_row(column, rows, out, Element::write_f32)?;
        let elements = self.columns[column].elements();
        out.chunks_exact_mut(elements).try_for_each(|sample| scale.apply(sample))
    }

    fn fill_i32(&self, column: usize, rows: &[usize], out: &mut [i32]) -> Result<(), DataError> {
        let elements = checked_elements(self, column, rows.len(), out.len())?;
        let info = &self.columns[column];
        if !self.stored[column].1.is_whole() {
            let (found, needed) = ("real numbers", "whole numbers");
            return Err(DataError::KindDiffers { data: self.name.clone(), column: info.name.clone(), found, needed });
        }
        self.each_row(column, rows, out, Element::write_i32)?;
        let (what, count) = match &info.kind {
            Kind::Number => return Ok(()),
            Kind::Class(classes) => ("label", classes.count()),
            Kind::Token(vocabulary) => ("token", vocabulary.len()),
        };
        match out.iter().position(|&v| !usize::try_from(v).is_ok_and(|v| v < count)) {
            None => Ok(()),
            Some(i) => {
                Err(DataError::OutOfRange { data: self.name.clone(), what, value: out[i].into(), row: rows[i / elements], count })
            }
        }
    }
}
