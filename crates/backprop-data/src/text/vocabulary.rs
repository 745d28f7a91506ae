//! The tokens a model knows.

use std::collections::{BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use super::words;
use crate::DataError;

/// The token that fills up samples, in a vocabulary that has one.
pub const PAD: i32 = 0;

/// The token of what is not in the vocabulary, where there is a [`PAD`].
pub const UNKNOWN: i32 = 1;

/// How [`PAD`] and [`UNKNOWN`] are written.
const SPECIAL: [&str; 2] = ["<pad>", "<unk>"];

/// What a token of a text is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// A character (a Unicode code point).
    #[default]
    Char,
    /// A byte of the text as it is stored: any file, any language, 256 tokens.
    Byte,
    /// A word, a mark or a line break.
    Word,
}

impl Unit {
    /// Many of them, in messages.
    pub fn plural(self) -> &'static str {
        match self {
            Unit::Char => "characters",
            Unit::Byte => "bytes",
            Unit::Word => "words",
        }
    }
}

/// The tokens a model knows: characters in the order of their code points, bytes, or words by how often they occur; a token is a
/// position in it.
///
/// Words, and texts that are filled up to one length, have two tokens before all others: [`PAD`] (0) and [`UNKNOWN`] (1; bytes,
/// which are all known, have the first only).
///
/// ```
/// use backprop_data::text::Vocabulary;
///
/// let vocabulary = Vocabulary::of("hello");
/// assert_eq!(vocabulary.characters(), ['e', 'h', 'l', 'o']);
/// assert_eq!(vocabulary.encode("hole")?, [1, 3, 2, 0]);
/// assert_eq!(vocabulary.decode(&[1, 0, 2, 2, 3]), "hello");
///
/// let words = Vocabulary::words(["the cat and the dog"], 10, 1, false);
/// assert_eq!(words.encode("the dog ran")?, [2, 5, 1]);
/// assert_eq!(words.decode(&[2, 5]), "the dog");
/// # Ok::<(), backprop_data::DataError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct Vocabulary {
    unit: Unit,
    padded: bool,
    lowercase: bool,
    characters: Vec<char>,
    words: Vec<String>,
    tokens: HashMap<String, i32>,
}

/// The stored form: characters without padding are a text, as in the first version.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Stored {
    Characters(String),
    Table(Table),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    unit: Unit,
    #[serde(default)]
    padded: bool,
    #[serde(default)]
    lowercase: bool,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    characters: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    words: Vec<String>,
}

impl From<Stored> for Vocabulary {
    fn from(stored: Stored) -> Self {
        match stored {
            Stored::Characters(text) => Self::of(&text),
            Stored::Table(Table { unit, padded, lowercase, characters, words }) => {
                let characters: BTreeSet<char> = characters.chars().collect();
                let characters = characters.into_iter().collect();
                Self::new(unit, padded || unit == Unit::Word, lowercase, characters, words)
            }
        }
    }
}

impl From<Vocabulary> for Stored {
    fn from(v: Vocabulary) -> Self {
        let characters = v.characters.into_iter().collect();
        match v.unit {
            Unit::Char if !v.padded && !v.lowercase => Stored::Characters(characters),
            unit => Stored::Table(Table { unit, padded: v.padded, lowercase: v.lowercase, characters, words: v.words }),
        }
    }
}

impl Vocabulary {
    fn new(unit: Unit, padded: bool, lowercase: bool, characters: Vec<char>, words: Vec<String>) -> Self {
        let tokens = words.iter().enumerate().map(|(i, w)| (w.clone(), i as i32 + UNKNOWN + 1)).collect();
        Self { unit, padded, lowercase, characters, words, tokens }
    }

    /// The different characters of a text.
    pub fn of(text: &str) -> Self {
        Self::characters_of([text], false, false)
    }

    /// The different characters of texts, in small letters if asked for; `padded` with [`PAD`] and [`UNKNOWN`].
    pub fn characters_of<'a>(texts: impl IntoIterator<Item = &'a str>, padded: bool, lowercase: bool) -> Self {
        let mut all = BTreeSet::new();
        for text in texts {
            match lowercase {
                true => all.extend(text.to_lowercase().chars()),
                false => all.extend(text.chars()),
            }
        }
        Self::new(Unit::Char, padded, lowercase, all.into_iter().collect(), Vec::new())
    }

    /// The 256 bytes, after [`PAD`] if `padded`.
    pub fn bytes(padded: bool, lowercase: bool) -> Self {
        Self::new(Unit::Byte, padded, lowercase, Vec::new(), Vec::new())
    }

    /// The `most` most frequent words of texts that occur at least `least` times, after [`PAD`] and [`UNKNOWN`]; words that are as
    /// frequent are in alphabetical order.
    pub fn words<'a>(texts: impl IntoIterator<Item = &'a str>, most: usize, least: usize, lowercase: bool) -> Self {
        let mut counts: HashMap<String, usize> = HashMap::new();
        for text in texts {
            words::split(&cased(text, lowercase), |word| match counts.get_mut(word) {
                Some(count) => *count += 1,
                None => drop(counts.insert(word.to_owned(), 1)),
            });
        }
        let mut counts: Vec<(String, usize)> = counts.into_iter().filter(|(_, n)| *n >= least).collect();
        counts.sort_by(|(a, n), (b, m)| m.cmp(n).then_with(|| a.cmp(b)));
        counts.truncate(most);
        Self::new(Unit::Word, true, lowercase, Vec::new(), counts.into_iter().map(|(word, _)| word).collect())
    }

    /// What a token is.
    pub fn unit(&self) -> Unit {
        self.unit
    }

    /// The token that fills up samples, if there is one: [`PAD`]. An embedding leaves it out by `padding_idx`.
    pub fn pad(&self) -> Option<i32> {
        self.padded.then_some(PAD)
    }

    /// Number of tokens, the special ones included.
    pub fn len(&self) -> usize {
        self.special() + if self.unit == Unit::Byte { 256 } else { self.characters.len() + self.words.len() }
    }

    /// Tokens before the first character, byte or word.
    fn special(&self) -> usize {
        match (self.padded, self.unit) {
            (false, _) => 0,
            (true, Unit::Byte) => 1,
            (true, _) => 2,
        }
    }

    /// Whether there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The characters, sorted; none where tokens are bytes or words.
    pub fn characters(&self) -> &[char] {
        &self.characters
    }

    /// The tokens of `text`.
    ///
    /// # Errors
    /// A character that is not in a vocabulary without [`UNKNOWN`].
    pub fn encode(&self, text: &str) -> Result<Vec<i32>, DataError> {
        let text = cased(text, self.lowercase);
        let special = self.special() as i32;
        match self.unit {
            Unit::Byte => Ok(self.encode_bytes(text.as_bytes())),
            Unit::Word => {
                let mut tokens = Vec::new();
                words::split(&text, |word| tokens.push(self.tokens.get(word).copied().unwrap_or(UNKNOWN)));
                Ok(tokens)
            }
            Unit::Char => {
                let token = |(position, character): (usize, char)| match self.characters.binary_search(&character) {
                    Ok(token) => Ok(token as i32 + special),
                    Err(_) if self.padded => Ok(UNKNOWN),
                    Err(_) => Err(DataError::UnknownCharacter { character, position, size: self.len() }),
                };
                text.chars().enumerate().map(token).collect()
            }
        }
    }

    /// The tokens of bytes, of a vocabulary of bytes.
    pub(crate) fn encode_bytes(&self, bytes: &[u8]) -> Vec<i32> {
        let special = self.special() as i32;
        bytes.iter().map(|&b| i32::from(b) + special).collect()
    }

    /// The text of `tokens`. Padding gives nothing; what is outside the vocabulary, and bytes that are not UTF-8, become U+FFFD,
    /// the replacement character; words are joined by spaces where one writes them.
    pub fn decode(&self, tokens: &[i32]) -> String {
        let place = |&token: &i32| usize::try_from(token).ok().and_then(|t| t.checked_sub(self.special()));
        let kept = tokens.iter().filter(|&&t| self.pad() != Some(t));
        match self.unit {
            Unit::Byte => {
                let bytes: Vec<u8> = kept.map(|t| place(t).and_then(|t| u8::try_from(t).ok()).unwrap_or(b'?')).collect();
                String::from_utf8_lossy(&bytes).into_owned()
            }
            Unit::Char => {
                let character = |t| place(t).and_then(|t| self.characters.get(t)).copied();
                kept.map(|t| character(t).unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
            }
            Unit::Word => {
                let word = |t| place(t).and_then(|t| self.words.get(t)).map_or(SPECIAL[UNKNOWN as usize], String::as_str);
                words::join(kept.map(word))
            }
        }
    }
}

fn cased(text: &str, lowercase: bool) -> std::borrow::Cow<'_, str> {
    if lowercase { text.to_lowercase().into() } else { text.into() }
}
