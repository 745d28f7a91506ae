//! Everything that can be wrong with data, said so that a person can mend it.

use std::io;

/// What is wrong with a data source, a split, a batch or a normalisation.
///
/// Each message names the file or data set, what was found, what was expected and, where there is
/// one, the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The operating system could not open or read a file.
    #[error("cannot read {file}: {source}; check the path and its permissions")]
    Io {
        /// The file.
        file: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// Data that would not fit into memory.
    #[error("{data} would take {bytes} bytes, more than the {limit} that this process can have; make it smaller")]
    TooLarge {
        /// The data.
        data: String,
        /// Bytes they would take.
        bytes: u64,
        /// Bytes that this process can have.
        limit: u64,
    },
    /// Data that are in the memory of another program.
    #[error(
        "these data are brought by the Rust program that trains on them (Trainer::with_parts); run that program, or name a source \
         that has them in files"
    )]
    OfAProgram,
    /// A gzip stream ends early or its checksum does not fit.
    #[error(
        "{file}: the gzip data is damaged or cut short after {unpacked} unpacked bytes ({source}); \
         get the file again"
    )]
    Gzip {
        /// The file.
        file: String,
        /// How many bytes came out before the damage.
        unpacked: usize,
        /// What the decoder said.
        source: io::Error,
    },
    /// A file ends before its header does.
    #[error("{file}: the file ends at byte {found}, its header needs {expected} bytes; it is cut short")]
    HeaderCut {
        /// The file.
        file: String,
        /// Bytes the header needs.
        expected: usize,
        /// Bytes that are there.
        found: usize,
    },
    /// A file does not begin as an IDX file does.
    #[error(
        "{file}: not an IDX file: it begins with {found:#010x}; an IDX file begins with 0x0000TTRR, \
         TT = element type (08, 09, 0b, 0c, 0d, 0e), RR = number of dimensions \
         (images of bytes: 0x00000803, labels: 0x00000801)"
    )]
    IdxMagic {
        /// The file.
        file: String,
        /// The first four bytes, big-endian.
        found: u32,
    },
    /// An IDX dimension is zero or the sizes multiply to more than memory can address.
    #[error("{file}: the header at byte {offset} gives the sizes {sizes:?}, which no data set has")]
    IdxSizes {
        /// The file.
        file: String,
        /// Byte offset of the sizes.
        offset: usize,
        /// The sizes.
        sizes: Vec<usize>,
    },
    /// A file holds more or fewer data than its header says.
    #[error(
        "{file}: sizes {sizes:?} of {element}-byte elements need {expected} bytes after the header \
         of {header} bytes; the file has {found}; get the file again"
    )]
    IdxLength {
        /// The file.
        file: String,
        /// Sizes in the header.
        sizes: Vec<usize>,
        /// Bytes per element.
        element: usize,
        /// Length of the header in bytes.
        header: usize,
        /// Bytes of data that the sizes need.
        expected: usize,
        /// What the file has: a count, or a bound for a compressed file.
        found: String,
    },
    /// Labels must be one whole number per sample.
    #[error("{file}: labels must be one whole number per sample, found {found}; are images and labels exchanged?")]
    NotLabels {
        /// The file.
        file: String,
        /// Sizes and element type found.
        found: String,
    },
    /// Two files or columns of one data set have different numbers of rows.
    #[error("{first} has {first_rows} rows, {second} has {second_rows}; they must be equal")]
    RowsDiffer {
        /// File or column.
        first: String,
        /// Its rows.
        first_rows: usize,
        /// The other file or column.
        second: String,
        /// Its rows.
        second_rows: usize,
    },
    /// Training and test part have different sample shapes.
    #[error("{first} has samples of shape {first_shape:?}, {second} of {second_shape:?}; they must be equal")]
    ShapesDiffer {
        /// File.
        first: String,
        /// Its shape per sample.
        first_shape: Vec<usize>,
        /// The other file.
        second: String,
        /// Its shape per sample.
        second_shape: Vec<usize>,
    },
    /// A class label or a token lies outside its range.
    #[error("{data}: {what} {value} in row {row} is outside 0..{count}")]
    OutOfRange {
        /// File or data set.
        data: String,
        /// "label" or "token".
        what: &'static str,
        /// The value found.
        value: i64,
        /// The row, counted from 0.
        row: usize,
        /// Number of classes or tokens.
        count: usize,
    },
    /// The values do not fill whole samples of the shape, or the shape has no elements.
    #[error("{data}, column {column}: {values} values do not fill whole samples of shape {shape:?}")]
    Shape {
        /// Data set.
        data: String,
        /// Column.
        column: String,
        /// Number of values.
        values: usize,
        /// Shape per sample.
        shape: Vec<usize>,
    },
    /// A column has another kind of values than the operation needs.
    #[error("{data}, column {column}: holds {found}, {needed} needed")]
    KindDiffers {
        /// Data set.
        data: String,
        /// Column.
        column: String,
        /// What it holds.
        found: &'static str,
        /// What is needed.
        needed: &'static str,
    },
    /// There is no such column.
    #[error("{data} has no column {column:?}; it has {known}")]
    NoColumn {
        /// Data set.
        data: String,
        /// The name or number asked for.
        column: String,
        /// The names there are.
        known: String,
    },
    /// A row number is not below the number of rows.
    #[error("{data} has {rows} rows, row {row} was asked for")]
    NoRow {
        /// Data set.
        data: String,
        /// The row asked for.
        row: usize,
        /// Number of rows.
        rows: usize,
    },
    /// Row numbers of a selection have 32 bits.
    #[error("{data} has {rows} rows; at most 4,294,967,296 can be selected from")]
    TooManyRows {
        /// Data set.
        data: String,
        /// Number of rows.
        rows: usize,
    },
    /// A batch buffer has the wrong length.
    #[error("{data}, column {column}: the buffer holds {found} elements, the batch needs {expected}")]
    Buffer {
        /// Data set.
        data: String,
        /// Column.
        column: String,
        /// Elements that the rows need.
        expected: usize,
        /// Elements of the buffer.
        found: usize,
    },
    /// The data set or file holds nothing.
    #[error("{data} is empty")]
    Empty {
        /// File or data set.
        data: String,
    },
    /// A share is not a number between 0 and 1.
    #[error("a share of {share} of the data: must be at least 0 and below 1")]
    Share {
        /// The share.
        share: f64,
    },
    /// A split would leave one of its parts without rows.
    #[error("{data}: a share of {share} of {rows} rows leaves one part empty; take another share or more data")]
    SplitEmpty {
        /// Data set.
        data: String,
        /// The share.
        share: f64,
        /// Rows to split.
        rows: usize,
    },
    /// The batch size is zero.
    #[error("the batch size is 0; it must be at least 1")]
    BatchSize,
    /// A number cannot be normalised because it is infinite or not a number.
    #[error("{data}, column {column}, row {row}: the value {value} is not finite; remove or replace it")]
    NotFinite {
        /// Data set.
        data: String,
        /// Column.
        column: String,
        /// Row, counted from 0.
        row: usize,
        /// The value.
        value: f32,
    },
    /// A stored or given scale is not usable.
    #[error("a scale with {shift} shifts and {factor} factors: {why}")]
    Scale {
        /// Number of shifts.
        shift: usize,
        /// Number of factors.
        factor: usize,
        /// What is wrong.
        why: &'static str,
    },
    /// A text is not UTF-8.
    #[error("{file}: byte {offset} is not UTF-8; save the text as UTF-8")]
    NotUtf8 {
        /// The file.
        file: String,
        /// Offset of the first bad byte.
        offset: usize,
    },
    /// A text has fewer tokens than one window needs.
    #[error(
        "{data}: {found} {unit}, a sequence of {sequence} needs at least {needed}; \
         take a shorter sequence or a longer text"
    )]
    TextShort {
        /// File or data set.
        data: String,
        /// Tokens there are.
        found: usize,
        /// What they are: characters, bytes, words.
        unit: &'static str,
        /// Length of a sequence.
        sequence: usize,
        /// Tokens needed.
        needed: usize,
    },
    /// A sequence length or a stride is zero.
    #[error("{what} is 0; it must be at least 1")]
    Zero {
        /// Which setting.
        what: &'static str,
    },
    /// A character is not in the vocabulary that the data had.
    #[error("character {character:?} at position {position} is not in the vocabulary of {size} characters")]
    UnknownCharacter {
        /// The character.
        character: char,
        /// Its position, counted in characters from 0.
        position: usize,
        /// Size of the vocabulary.
        size: usize,
    },
    /// One of two files that belong together is not given.
    #[error("{given} is given without {missing}; give both or neither")]
    Incomplete {
        /// The setting given.
        given: &'static str,
        /// The setting missing.
        missing: &'static str,
    },
    /// A source has no column for a use.
    #[error("{data} has no column for the {what}; name one with data.{what}")]
    NoColumnFor {
        /// Data set.
        data: String,
        /// `input` or `target`.
        what: &'static str,
    },
    /// The logarithm of targets is taken of the columns of tables only.
    #[error("{data}: normalize_target = \"log\" is for the columns of tables and series")]
    LogTarget {
        /// Data set.
        data: String,
    },
    /// Prediction was handed another kind of input than the model reads.
    #[error("this model reads {needed}, {found} was given")]
    RawKind {
        /// What the model reads.
        needed: &'static str,
        /// What was given.
        found: &'static str,
    },
    /// Texts that are predicted together have different lengths, or one is empty.
    #[error("{data}: the text has {found} tokens, {expected} are needed: texts predicted together have one length of at least 1")]
    TextLength {
        /// Which text.
        data: String,
        /// Its tokens.
        found: usize,
        /// Tokens of the first text.
        expected: usize,
    },
    /// A file is shorter than the records it should hold.
    #[error("{file}: {rows} records of {size} bytes need a file of {needed} bytes; it has {found}; get the file again")]
    RecordsCut {
        /// The file.
        file: String,
        /// Records.
        rows: usize,
        /// Bytes per record.
        size: usize,
        /// Bytes needed, with the header.
        needed: u64,
        /// Bytes there are.
        found: u64,
    },
    /// A gzipped file cannot be streamed.
    #[error("{file}: a gzipped file cannot be streamed; unpack it, or take data.stream = false to read it into memory")]
    StreamPacked {
        /// The file.
        file: String,
    },
    /// Data that are streamed could not be written to a temporary file.
    #[error("cannot write a temporary file in {folder}: {source}; free some space or name another folder with data.spill")]
    Spill {
        /// The folder.
        folder: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// A line should hold numbers.
    #[error("{data}, line {line}: {found:?} is not a number; give numbers separated by commas or spaces, or an IDX file")]
    NotNumber {
        /// File.
        data: String,
        /// Line, from 1.
        line: usize,
        /// What stands there.
        found: String,
    },
    /// An image cannot be read.
    #[error("{file}: {why}")]
    Image {
        /// The file.
        file: String,
        /// What is wrong, and the remedy.
        why: String,
    },
    /// A file or archive of NumPy arrays cannot be read.
    #[error("{file}: {why}")]
    Npy {
        /// The file, and the array in it.
        file: String,
        /// What is wrong, and the remedy.
        why: String,
    },
    /// A folder does not hold what it should.
    #[error("{folder} {why}")]
    Folder {
        /// The folder.
        folder: String,
        /// What is wrong, and the remedy.
        why: String,
    },
    /// A CSV file of labels does not fit.
    #[error("{file}, line {line}: {why}")]
    Labels {
        /// The file.
        file: String,
        /// Line, from 1.
        line: u64,
        /// What is wrong, and the remedy.
        why: String,
    },
    /// A setting of an image source is out of range.
    #[error("{setting} {why}")]
    ImageSetting {
        /// The setting.
        setting: &'static str,
        /// What is wrong.
        why: String,
    },
    /// A setting of `data.augment` is out of range or does not fit the images.
    #[error("augment.{key} {why}")]
    Augment {
        /// The setting.
        key: &'static str,
        /// What is wrong.
        why: String,
    },
    /// Only images can be changed as images are.
    #[error("augment is for images of shape [height, width, channels], the input has shape {shape:?}; remove the table")]
    NoImages {
        /// Shape of a sample.
        shape: Vec<usize>,
    },
    /// A table cannot be read or used as asked: see [`TableError`](crate::table::TableError).
    #[error(transparent)]
    Table(Box<crate::table::TableError>),
}
