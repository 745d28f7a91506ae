//! Texts as sequences of characters.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::open::Input;
use crate::{Column, DataError, InMemory, Kind, Role, Values};

/// The characters a model knows, in the order of their code points; a token is a position in it.
///
/// ```
/// use backprop_data::text::Vocabulary;
///
/// let vocabulary = Vocabulary::of("hello");
/// assert_eq!(vocabulary.characters(), ['e', 'h', 'l', 'o']);
/// assert_eq!(vocabulary.encode("hole")?, [1, 3, 2, 0]);
/// assert_eq!(vocabulary.decode(&[1, 0, 2, 2, 3]), "hello");
/// # Ok::<(), backprop_data::DataError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Vocabulary {
    characters: Vec<char>,
}

impl From<String> for Vocabulary {
    fn from(text: String) -> Self {
        Self::of(&text)
    }
}

impl From<Vocabulary> for String {
    fn from(vocabulary: Vocabulary) -> Self {
        vocabulary.characters.into_iter().collect()
    }
}

impl Vocabulary {
    /// The different characters of a text.
    pub fn of(text: &str) -> Self {
        let characters: BTreeSet<char> = text.chars().collect();
        let characters = characters.into_iter().collect();
        Self { characters }
    }

    /// Number of characters.
    pub fn len(&self) -> usize {
        self.characters.len()
    }

    /// Whether there are no characters.
    pub fn is_empty(&self) -> bool {
        self.characters.is_empty()
    }

    /// The characters, sorted.
    pub fn characters(&self) -> &[char] {
        &self.characters
    }

    /// The token of each character of `text`.
    ///
    /// # Errors
    /// A character that is not in the vocabulary.
    pub fn encode(&self, text: &str) -> Result<Vec<i32>, DataError> {
        let tokens = text.chars().enumerate().map(|(position, character)| {
            let token = self.characters.binary_search(&character);
            token.map(|t| t as i32).map_err(|_| DataError::UnknownCharacter { character, position, size: self.len() })
        });
        tokens.collect()
    }

    /// The characters of `tokens`; one outside the vocabulary becomes U+FFFD, the replacement
    /// character.
    pub fn decode(&self, tokens: &[i32]) -> String {
        let character = |&token: &i32| {
            let found = usize::try_from(token).ok();
            let found = found.and_then(|t| self.characters.get(t));
            found.copied().unwrap_or(char::REPLACEMENT_CHARACTER)
        };
        tokens.iter().map(character).collect()
    }
}

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
    for (what, value) in [("sequence", sequence), ("stride", stride)] {
        if value == 0 {
            return Err(DataError::Zero { what });
        }
    }
    let characters = text.chars().count();
    let needed = sequence.saturating_add(1);
    if characters < needed {
        return Err(DataError::TextShort { data: name.into(), characters, sequence, needed });
    }
    let vocabulary = Arc::new(Vocabulary::of(text));
    let tokens = narrowest(vocabulary.encode(text)?, vocabulary.len());
    let rows = (characters - needed) / stride + 1;
    let column =
        |name: &str, role| Column { name: name.into(), role, kind: Kind::Token(Arc::clone(&vocabulary)), shape: vec![sequence] };
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
