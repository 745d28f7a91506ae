use std::fs;
use std::sync::Arc;

use backprop_data::text::{self, Vocabulary};
use backprop_data::{Dataset, Kind};
use proptest::prelude::*;

use crate::gzip;

fn window(data: &dyn Dataset, column: &str, row: usize) -> String {
    let column = data.column(column).unwrap();
    let Kind::Token(vocabulary) = &data.columns()[column].kind else {
        panic!("a text has tokens");
    };
    let mut tokens = vec![0; data.columns()[column].elements()];
    data.fill_i32(column, &[row], &mut tokens).unwrap();
    Arc::clone(vocabulary).decode(&tokens)
}

fn read(bytes: &[u8]) -> Result<String, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text.txt");
    fs::write(&path, bytes).unwrap();
    let folder = format!("{}/", folder.path().display());
    text::read(&path).map_err(|e| e.to_string().replace(&folder, ""))
}

#[test]
fn the_target_is_the_input_moved_by_one() {
    let data = text::dataset("text", "abcdefghij", 3, 2).unwrap();
    assert_eq!(data.len(), 4);
    assert_eq!((window(&data, "input", 3), window(&data, "target", 3)), ("ghi".into(), "hij".into()));
}

#[test]
fn the_shortest_text_has_one_window() {
    assert_eq!(text::dataset("text", "abcd", 3, 100).unwrap().len(), 1);
    let error = |sequence, stride| text::dataset("text", "abcd", sequence, stride).map(|_| ()).unwrap_err().to_string();
    assert_eq!(error(4, 1), "text: 4 characters, a sequence of 4 needs at least 5; take a shorter sequence or a longer text");
    assert_eq!(error(0, 1), "sequence is 0; it must be at least 1");
    assert_eq!(error(1, 0), "stride is 0; it must be at least 1");
    assert!(error(usize::MAX, 1).contains("needs at least"));
}

#[test]
fn vocabularies_of_every_size_keep_their_tokens() {
    for size in [2, 256, 257, 32_768, 32_769] {
        let characters: String = ('\u{100}'..).take(size).collect();
        let data = text::dataset("text", &characters, size - 1, 1).unwrap();
        assert_eq!(window(&data, "target", 0), characters.chars().skip(1).collect::<String>());
    }
}

#[test]
fn a_vocabulary_is_sorted_stored_as_text_and_knows_its_limits() {
    let vocabulary = Vocabulary::of("zebra é\n");
    assert!(vocabulary.characters().is_sorted());
    let json = serde_json::to_string(&vocabulary).unwrap();
    assert_eq!(json, "\"\\n aberzé\"");
    assert_eq!(serde_json::from_str::<Vocabulary>(&json).unwrap(), vocabulary);
    assert_eq!(
        vocabulary.encode("bar!").unwrap_err().to_string(),
        "character '!' at position 3 is not in the vocabulary of 8 characters"
    );
    assert_eq!(vocabulary.decode(&[0, -1, 8]), "\n\u{fffd}\u{fffd}");
}

#[test]
fn files_are_cleaned_and_checked() {
    assert_eq!(read("\u{feff}one\r\ntwo\r".as_bytes()).unwrap(), "one\ntwo\r");
    assert_eq!(read(&gzip("packed".as_bytes())).unwrap(), "packed");
    assert_eq!(read(b"").unwrap_err(), "text.txt is empty");
    assert_eq!(read("\u{feff}".as_bytes()).unwrap_err(), "text.txt is empty");
    assert_eq!(read(b"na\xefve").unwrap_err(), "text.txt: byte 2 is not UTF-8; save the text as UTF-8");
    let packed = gzip(&b"some text that is longer".repeat(9));
    assert!(read(&packed[..packed.len() - 4]).unwrap_err().contains("gzip data is damaged"));
}

proptest! {
    #[test]
    fn decoding_undoes_encoding(text in "\\PC{0,60}") {
        let vocabulary = Vocabulary::of(&text);
        let tokens = vocabulary.encode(&text).unwrap();
        prop_assert_eq!(vocabulary.decode(&tokens), text);
    }

    #[test]
    fn windows_reach_as_far_as_the_text(len in 2_usize..60, sequence in 1_usize..9, stride in 1_usize..12) {
        prop_assume!(len > sequence);
        let characters: Vec<char> = ('\u{100}'..).take(len).collect();
        let text: String = characters.iter().collect();
        let data = text::dataset("text", &text, sequence, stride).unwrap();
        for row in 0..data.len() {
            let start = row * stride;
            let piece = |from: usize| characters[from..from + sequence].iter().collect::<String>();
            prop_assert_eq!(window(&data, "input", row), piece(start));
            prop_assert_eq!(window(&data, "target", row), piece(start + 1));
        }
        prop_assert!(data.len() * stride + sequence + 1 > len, "another window would fit");
    }
}
