//! Reading records from CSV files, one after the other, with the place of each for messages.

use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use super::error::TableError;
use super::settings::Paths;
use super::sniff::Dialect;
use crate::DataError;
use crate::open::Input;

/// Where the text of a table comes from: it can be opened several times.
#[derive(Clone, Debug)]
pub(crate) enum Text<'a> {
    File(PathBuf),
    Bytes(&'a str, &'a [u8]),
}

impl Text<'_> {
    pub fn name(&self) -> String {
        match self {
            Text::File(path) => path.display().to_string(),
            Text::Bytes(name, _) => (*name).to_owned(),
        }
    }

    fn open(&self) -> Result<Input<'_>, DataError> {
        match self {
            Text::File(path) => Input::file(path),
            Text::Bytes(name, bytes) => Input::bytes(name, bytes),
        }
    }

    /// The first bytes, unpacked and without a byte order mark, and whether they are all there are.
    pub fn beginning(&self, count: usize) -> Result<(Vec<u8>, bool), DataError> {
        let mut input = self.open()?;
        let mut bytes = input.take(count + 1)?;
        let all = bytes.len() <= count;
        bytes.truncate(count);
        if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
            return Err(TableError::NotText { file: self.name(), line: 1, why: ", it begins as UTF-16 does" }.into());
        }
        if bytes.starts_with(BOM) {
            bytes.drain(..BOM.len());
        }
        if bytes.is_empty() {
            return Err(DataError::Empty { data: self.name() });
        }
        Ok((bytes, all))
    }
}

/// The byte order mark of UTF-8, which Excel writes.
const BOM: &[u8] = &[0xef, 0xbb, 0xbf];

/// Files of paths and patterns, those of a pattern in alphabetical order.
pub(crate) fn expand(base: &Path, paths: &Paths) -> Result<Vec<Text<'static>>, DataError> {
    let mut files = Vec::new();
    for path in paths.iter() {
        let path = base.join(path);
        let pattern = path.display().to_string();
        // A file whose name looks like a pattern is itself.
        if !pattern.contains(['*', '?', '[']) || path.exists() {
            files.push(path);
            continue;
        }
        let bad = |why: String| TableError::Pattern { pattern: pattern.clone(), why };
        let found = glob::glob(&pattern).map_err(|e| bad(e.msg.into()))?;
        let before = files.len();
        for file in found {
            files.push(file.map_err(|e| DataError::Io { file: e.path().display().to_string(), source: e.into() })?);
        }
        if files.len() == before {
            return Err(TableError::NoMatch { pattern }.into());
        }
    }
    if files.is_empty() {
        return Err(TableError::NoFiles.into());
    }
    Ok(files.into_iter().map(Text::File).collect())
}

/// The records of one text.
pub(crate) struct Records<'a> {
    csv: csv::Reader<Counted<'a>>,
    record: csv::StringRecord,
    raw: csv::ByteRecord,
    text: &'a Text<'a>,
    name: String,
    packed: bool,
    delimiter: u8,
    fields: Option<usize>,
}

/// Looks at the bytes that pass.
struct Counted<'a> {
    reader: Box<dyn Read + 'a>,
    /// Whether the number of quotes is odd: only then can a field be left open.
    odd: bool,
    /// Whether lines end as on Windows, by the first that ends.
    crlf: Option<bool>,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.reader.read(buffer)?;
        let bytes = &buffer[..count];
        self.odd ^= bytes.iter().filter(|b| **b == b'"').count() % 2 == 1;
        if self.crlf.is_none() {
            self.crlf = bytes.iter().position(|b| *b == b'\n').map(|at| at > 0 && bytes[at - 1] == b'\r');
        }
        Ok(count)
    }
}

impl<'a> Records<'a> {
    pub fn open(text: &'a Text<'a>, delimiter: u8) -> Result<Self, DataError> {
        let input = text.open()?;
        let (packed, name) = (input.packed, input.name.clone());
        let csv = csv::ReaderBuilder::new().has_headers(false).flexible(true).delimiter(delimiter).from_reader(Counted {
            reader: without_mark(input.into_reader(), &name)?,
            odd: false,
            crlf: None,
        });
        let (record, raw) = Default::default();
        Ok(Self { csv, record, raw, text, name, packed, delimiter, fields: None })
    }

    /// The next record; `None` at the end.
    pub fn next(&mut self) -> Result<Option<&csv::StringRecord>, DataError> {
        Ok(if self.advance()? { Some(&self.record) } else { None })
    }

    /// The record that was read last.
    pub fn record(&self) -> &csv::StringRecord {
        &self.record
    }

    /// Reads the next record, whose fields must be as many as the first has; `false` at the end.
    pub fn advance(&mut self) -> Result<bool, DataError> {
        let read = self.csv.read_byte_record(&mut self.raw);
        if !read.map_err(|e| self.unreadable(e))? {
            return if self.csv.get_ref().odd { self.check_closed().map(|()| false) } else { Ok(false) };
        }
        if self.raw.as_slice().contains(&0) {
            return Err(self.not_text(", it holds NUL bytes"));
        }
        let raw = std::mem::take(&mut self.raw);
        match csv::StringRecord::from_byte_record(raw) {
            Ok(record) => self.raw = std::mem::replace(&mut self.record, record).into_byte_record(),
            Err(e) => {
                self.raw = e.into_byte_record();
                return Err(self.not_text(""));
            }
        }
        let expected = *self.fields.get_or_insert(self.record.len());
        if self.record.len() != expected {
            return Err(self.ragged(expected));
        }
        Ok(true)
    }

    /// Line of the record that `advance` read last, from 1.
    pub fn line(&self) -> u64 {
        self.line_of(self.record.position())
    }

    fn line_of(&self, position: Option<&csv::Position>) -> u64 {
        let Some(position) = position else { return 1 };
        // The reader leaves the second half of a Windows line end to the next record.
        let left = self.csv.get_ref().crlf == Some(true) && position.record() > 0;
        position.line() + u64::from(left)
    }

    fn ragged(&mut self, expected: usize) -> DataError {
        let (line, found) = (self.line(), self.record.len());
        let several_lines = self.record.iter().any(|f| f.contains('\n'));
        if let Err(open) = self.check_closed() {
            return open;
        }
        let hint = match several_lines {
            true => "; a quote in it may be missing or too many: it reaches over several lines",
            false if found > expected => "; put fields that hold the delimiter in quotes, or give data.delimiter",
            false => "",
        };
        TableError::Ragged { file: self.name.clone(), line, found, expected, hint }.into()
    }

    /// An error if the last record read is the last of the text and ends inside quotes.
    fn check_closed(&self) -> Result<(), DataError> {
        let start = self.record.position().map_or(0, csv::Position::byte);
        let mut reader = without_mark(self.text.open()?.into_reader(), &self.name)?;
        let io = |source| DataError::Io { file: self.name.clone(), source };
        std::io::copy(&mut (&mut reader).take(start), &mut std::io::sink()).map_err(io)?;
        let mut tail = Vec::new();
        reader.take(TAIL).read_to_end(&mut tail).map_err(io)?;
        match (tail.len() as u64) < TAIL && ends_in_quotes(&tail, self.delimiter) {
            true => Err(TableError::OpenQuote { file: self.name.clone(), line: self.line() }.into()),
            false => Ok(()),
        }
    }

    fn not_text(&self, why: &'static str) -> DataError {
        let line = self.line_of(self.raw.position());
        TableError::NotText { file: self.name.clone(), line, why }.into()
    }

    fn unreadable(&self, error: csv::Error) -> DataError {
        let unpacked = usize::try_from(self.csv.position().byte()).unwrap_or(usize::MAX);
        let source = match error.into_kind() {
            csv::ErrorKind::Io(source) => source,
            other => std::io::Error::other(format!("{other:?}")),
        };
        match self.packed {
            true => DataError::Gzip { file: self.name.clone(), unpacked, source },
            false => DataError::Io { file: self.name.clone(), source },
        }
    }
}

/// A record that is looked through for an open quote; a longer one is ragged all the same.
const TAIL: u64 = 1 << 28;

fn without_mark<'a>(mut reader: Box<dyn Read + 'a>, name: &str) -> Result<Box<dyn Read + 'a>, DataError> {
    let mut start = Vec::with_capacity(BOM.len());
    let read = (&mut reader).take(BOM.len() as u64).read_to_end(&mut start);
    read.map_err(|source| DataError::Io { file: name.into(), source })?;
    if start == BOM {
        start.clear();
    }
    Ok(Box::new(Cursor::new(start).chain(reader)))
}

/// Whether a text that begins with a record ends inside a quoted field (RFC 4180: a quote opens at the beginning of a field only).
fn ends_in_quotes(text: &[u8], delimiter: u8) -> bool {
    let (mut quoted, mut at_start) = (false, true);
    for &byte in text {
        if quoted {
            // A doubled quote closes and opens again.
            quoted = byte != b'"';
            at_start = !quoted;
        } else {
            quoted = byte == b'"' && at_start;
            at_start = byte == delimiter || byte == b'\n' || byte == b'\r';
        }
    }
    quoted
}

/// Columns of a text as its first line names them: trimmed, made different, those without a name numbered.
pub(crate) fn header(first: &csv::StringRecord, dialect: &Dialect) -> Vec<String> {
    let mut names: Vec<String> = Vec::with_capacity(first.len());
    for (i, field) in first.iter().enumerate() {
        let name = match field.trim() {
            field if dialect.header && !field.is_empty() => field.to_owned(),
            _ => format!("column{}", i + 1),
        };
        let mut different = name.clone();
        let mut number = 0;
        while names.contains(&different) {
            number += 1;
            different = format!("{name}.{number}");
        }
        names.push(different);
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_quotes_are_told_from_quotes_within() {
        assert!(ends_in_quotes(b"1,\"abc\n2,3\n", b','));
        assert!(ends_in_quotes(b"1,\"a\"\"", b','));
        for closed in ["1,\"a\"\"b\"\n", "5\" pipe,2\n", "\"a\nb\",1", "", "a;\"b\""] {
            assert!(!ends_in_quotes(closed.as_bytes(), b','), "{closed}");
        }
    }

    #[test]
    fn names_become_different() {
        let dialect = Dialect { header: true, ..Dialect::default() };
        let first = csv::StringRecord::from(vec!["a", " a ", "", "a.1", "b"]);
        assert_eq!(header(&first, &dialect), ["a", "a.1", "column3", "a.1.1", "b"]);
    }
}
