//! Opening files that may be gzipped.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use crate::DataError;

/// Bytes of a file or of memory, unpacked on the way if they are gzipped (told by the content, not
/// by the name), with a bound on how many there can be.
pub(crate) struct Input<'a> {
    /// What the input is called in messages.
    pub name: String,
    /// No more bytes than this can come: the length of the file, or what deflate can make of it.
    pub bound: u64,
    /// Whether the bytes come out of a gzip stream.
    pub packed: bool,
    read: usize,
    reader: Box<dyn Read + 'a>,
}

/// Deflate's best case: 258 bytes from 2 bits, so at most 1,032 times the packed size (RFC 1951).
const DEFLATE_LIMIT: u64 = 1032;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

impl Input<'static> {
    /// Opens a file.
    pub fn file(path: &Path) -> Result<Self, DataError> {
        let name = path.display().to_string();
        let open = || -> io::Result<(u64, File)> {
            let file = File::open(path)?;
            let info = file.metadata()?;
            if info.is_dir() {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            Ok((info.len(), file))
        };
        let (len, file) = open().map_err(|e| io_error(&name, e))?;
        Self::new(name, len, BufReader::new(file))
    }
}

impl<'a> Input<'a> {
    /// Reads from memory.
    pub fn bytes(name: &str, bytes: &'a [u8]) -> Result<Self, DataError> {
        Self::new(name.into(), bytes.len() as u64, bytes)
    }

    fn new(name: String, len: u64, mut reader: impl Read + 'a) -> Result<Self, DataError> {
        let mut start = Vec::with_capacity(GZIP_MAGIC.len());
        let magic = (&mut reader).take(GZIP_MAGIC.len() as u64).read_to_end(&mut start);
        magic.map_err(|e| io_error(&name, e))?;
        let packed = start == GZIP_MAGIC;
        let whole = io::Cursor::new(start).chain(reader);
        let (reader, bound): (Box<dyn Read + 'a>, u64) = match packed {
            true => (Box::new(MultiGzDecoder::new(whole)), len.saturating_mul(DEFLATE_LIMIT)),
            false => (Box::new(whole), len),
        };
        Ok(Self { name, bound, packed, read: 0, reader })
    }

    /// All bytes to the end.
    pub fn rest(&mut self) -> Result<Vec<u8>, DataError> {
        self.take(usize::MAX)
    }

    /// The bytes, to be read by another decoder.
    pub fn into_reader(self) -> Box<dyn Read + 'a> {
        self.reader
    }

    /// The next `count` bytes, fewer at the end. Memory grows with what comes, not with `count`:
    /// only a file that is not packed, whose length is known, gets its room at once.
    pub fn take(&mut self, count: usize) -> Result<Vec<u8>, DataError> {
        let room = if self.packed { 0 } else { self.bound };
        let mut bytes = Vec::with_capacity(count.min(usize::try_from(room).unwrap_or(0)));
        let result = (&mut self.reader).take(count as u64).read_to_end(&mut bytes);
        self.read += bytes.len();
        match result {
            Ok(_) => Ok(bytes),
            Err(source) if self.packed => Err(DataError::Gzip { file: self.name.clone(), unpacked: self.read, source }),
            Err(source) => Err(io_error(&self.name, source)),
        }
    }
}

/// All bytes of a file, as they are.
pub(crate) fn bytes(path: &Path) -> Result<Vec<u8>, DataError> {
    std::fs::read(path).map_err(|e| io_error(&path.display().to_string(), e))
}

fn io_error(name: &str, source: io::Error) -> DataError {
    let file = name.into();
    DataError::Io { file, source }
}
