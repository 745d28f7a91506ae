//! Texts as sequences of characters, bytes or words.

mod files;
mod labelled;
mod vocabulary;
mod words;

use std::path::Path;
use std::sync::Arc;

use crate::open::Input;
use crate::{Column, DataError, InMemory, Kind, Role, Values};

pub use files::TextFiles;
pub use labelled::LabelledText;
pub use vocabulary::{PAD, UNKNOWN, Unit, Vocabulary};

/// Reads a text in UTF-8, gzipped or not. A byte order mark is dropped, and CR LF becomes LF.
///
/// # Errors
/// A file that cannot be read, is damaged, empty, or not UTF-8.
pub fn read(path: &Path) -> Result<String, DataError> {
    decode(Input::file(path)?)
}

pub(crate) fn decode(mut input: Input) -> Result<String, DataError> {
    let bytes = input.rest()?;
    let file = input.name;
    let text =
        String::from_utf8(bytes).map_err(|e| DataError::NotUtf8 { file: file.clone(), offset: e.utf8_error().valid_up_to() })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    if text.is_empty() {
        return Err(DataError::Empty { data: file });
    }
    Ok(text.replace("\r\n", "\n"))
}

/// The numbers of a text, separated by commas, semicolons or white space; `name` stands in messages.
///
/// # Errors
/// Damaged gzip data, a text that is empty or not UTF-8, a word that is not a number.
pub(crate) fn numbers(name: &str, bytes: &[u8]) -> Result<Vec<f32>, DataError> {
    let text = decode(Input::bytes(name, bytes)?)?;
    let mut numbers = Vec::new();
    for (i, line) in text.lines().enumerate() {
        for word in line.split([',', ';', ' ', '\t']).filter(|w| !w.is_empty()) {
            let not_number = |_| DataError::NotNumber { data: name.into(), line: i + 1, found: word.into() };
            numbers.push(word.parse().map_err(not_number)?);
        }
    }
    Ok(numbers)
}

/// Windows over a text, for learning to predict each next character.
///
/// Row `i` has the columns `input` and `target`, both of shape `[sequence]`: the characters from
/// `i · stride` on, and the same moved on by one. The vocabulary is that of the whole text, so that
/// no later part of it holds an unknown character.
///
/// # Errors
/// A sequence or stride of 0; a text shorter than one window of `sequence + 1` characters.
///
/// ```
/// use backprop_data::{Dataset, text};
///
/// let data = text::dataset("greeting", "hello hello", 4, 4)?;
/// let mut tokens = [0; 4];
/// data.fill_i32(data.column("target")?, &[0], &mut tokens)?;
/// let backprop_data::Kind::Token(vocabulary) = &data.columns()[0].kind else { unreachable!() };
/// assert_eq!((data.len(), vocabulary.decode(&tokens).as_str()), (2, "ello"));
/// # Ok::<(), backprop_data::DataError>(())
/// ```
pub fn dataset(name: &str, text: &str, sequence: usize, stride: usize) -> Result<InMemory, DataError> {
    let vocabulary = Arc::new(Vocabulary::of(text));
    let tokens = vocabulary.encode(text)?;
    windows(name, &vocabulary, tokens, sequence, stride)
}

/// Windows over the tokens of a text, with the columns of [`dataset`].
fn windows(
    name: &str,
    vocabulary: &Arc<Vocabulary>,
    tokens: Vec<i32>,
    sequence: usize,
    stride: usize,
) -> Result<InMemory, DataError> {
    for (what, value) in [("sequence", sequence), ("stride", stride)] {
        if value == 0 {
            return Err(DataError::Zero { what });
        }
    }
    let (found, unit) = (tokens.len(), vocabulary.unit().plural());
    let needed = sequence.saturating_add(1);
    if found < needed {
        return Err(DataError::TextShort { data: name.into(), found, unit, sequence, needed });
    }
    let tokens = narrowest(tokens, vocabulary.len());
    let rows = (found - needed) / stride + 1;
    let column =
        |name: &str, role| Column { name: name.into(), role, kind: Kind::Token(Arc::clone(vocabulary)), shape: vec![sequence] };
    let (input, target) = (column("input", Role::Input), column("target", Role::Target));
    InMemory::new(name).with_windows(input, Arc::clone(&tokens), 0, stride, rows)?.with_windows(target, tokens, 1, stride, rows)
}

/// Tokens `0..size` in the narrowest type that holds them.
fn narrowest(tokens: Vec<i32>, size: usize) -> Arc<Values> {
    Arc::new(match size {
        0..=0x100 => Values::U8(tokens.into_iter().map(|t| t as u8).collect()),
        0x101..=0x8000 => Values::I16(tokens.into_iter().map(|t| t as i16).collect()),
        _ => Values::I32(tokens),
    })
}
