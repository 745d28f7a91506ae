use std::fs;
use std::sync::Arc;

use backprop_data::coding::{RawInput, SampleValues};
use backprop_data::text::{self, Vocabulary};
use backprop_data::{Dataset, Kind, LoadOptions, Loaded, Source};
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

fn load(place: &tempfile::TempDir, settings: &str, validation: f64) -> Loaded {
    let source: Source = toml::from_str(settings).unwrap();
    source.load(&LoadOptions { validation, ..LoadOptions::new(place.path()) }).unwrap()
}

fn tokens(data: &dyn Dataset, column: usize) -> Vec<i32> {
    let rows: Vec<usize> = (0..data.len()).collect();
    let mut out = vec![0; rows.len() * data.columns()[column].elements()];
    data.fill_i32(column, &rows, &mut out).unwrap();
    out
}

fn vocabulary(data: &dyn Dataset) -> Arc<Vocabulary> {
    let Kind::Token(vocabulary) = &data.columns()[0].kind else { panic!("a text has tokens") };
    Arc::clone(vocabulary)
}

#[test]
fn stored_vocabularies_of_every_unit_are_read_again() {
    let made = [
        Vocabulary::of("old"),
        Vocabulary::characters_of(["Abc"], true, true),
        Vocabulary::bytes(false, false),
        Vocabulary::bytes(true, false),
        Vocabulary::words(["one two two"], 9, 1, true),
    ];
    for (vocabulary, (size, tokens)) in
        made.iter().zip([(3, [1, 0]), (5, [3, 2]), (256, [98, 97]), (257, [99, 98]), (4, [1, -1])])
    {
        let json = serde_json::to_string(vocabulary).unwrap();
        assert_eq!(serde_json::from_str::<Vocabulary>(&json).unwrap(), *vocabulary, "{json}");
        assert_eq!(vocabulary.len(), size, "{json}");
        let text = if size == 3 { "ld" } else { "ba" };
        let encoded = vocabulary.encode(text).unwrap();
        assert!(tokens.starts_with(&encoded), "{json}: {encoded:?}");
        if size != 4 {
            assert_eq!(vocabulary.decode(&encoded), text);
        }
    }
    // Written by the first version.
    assert_eq!(serde_json::from_str::<Vocabulary>("\" abc\"").unwrap(), Vocabulary::of("abc "));
    assert_eq!(made[4].decode(&[0, 2, 1, 99]), "two <unk> <unk>");
}

/// The test and the validation part are at the end: their words are unknown.
#[test]
fn the_vocabulary_of_words_is_that_of_the_training_part() {
    let place = tempfile::tempdir().unwrap();
    let text = format!("{}{}{}", "a b ".repeat(40), "c ".repeat(10), "d ".repeat(10));
    fs::write(place.path().join("text.txt"), text).unwrap();
    let settings = "source = 'text'\npath = 'text.txt'\nunit = 'word'\nsequence = 2\ntest = 0.1";
    let loaded = load(&place, settings, 0.12);
    let [train, validation] = [&loaded.parts.train, loaded.parts.validation.as_ref().unwrap()];
    assert_eq!((vocabulary(&**train).len(), vocabulary(&**train).decode(&[2, 3])), (4, "a b".into()));
    assert!(tokens(&**train, 1).iter().all(|&t| t > 1) && tokens(&**validation, 1)[1..].iter().all(|&t| t == 1));
    assert!(tokens(&**loaded.parts.test.as_ref().unwrap(), 1).iter().all(|&t| t == 1));
    let few = load(&place, &format!("{settings}\nmax_words = 1"), 0.12);
    assert_eq!(tokens(&*few.parts.train, 0)[..2], [2, 1]);
}

#[test]
fn bytes_need_no_utf8() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("a.txt"), b"\xff\x00\r\n").unwrap();
    fs::write(place.path().join("b.txt"), b"b").unwrap();
    let loaded = load(&place, "source = 'text'\npath = '.'\nunit = 'byte'\nsequence = 4\ntest = 0.0", 0.0);
    assert_eq!(tokens(&*loaded.parts.train, 0), [255, 0, 13, 10]);
    assert_eq!(tokens(&*loaded.parts.train, 1), [0, 13, 10, 98]);
}

/// Texts are cut at their end or filled up by token 0, the same in training and in prediction, from files of every kind.
#[test]
fn labelled_texts_are_filled_up_to_one_length() {
    let place = tempfile::tempdir().unwrap();
    let csv = "label;text\nno;Bad, bad\nyes;so good\nno;bad\nyes;GOOD and more than three words\n";
    fs::write(place.path().join("texts.csv"), csv).unwrap();
    for (pad, expected) in [("end", [2, 4, 2, 7, 3, 0, 2, 0, 0, 3, 5, 6]), ("start", [2, 4, 2, 0, 7, 3, 0, 0, 2, 3, 5, 6])] {
        let settings =
            format!("source = 'labelled-text'\npath = 'texts.csv'\nsequence = 3\nmax_words = 6\ntest = 0.0\npad = '{pad}'");
        let loaded = load(&place, &settings, 0.0);
        let data = loaded.parts.train.as_ref();
        assert_eq!((tokens(data, 0), tokens(data, 1)), (expected.to_vec(), vec![0, 1, 0, 1]));
        assert_eq!((vocabulary(data).pad(), vocabulary(data).len()), (Some(text::PAD), 8));
        let stored = serde_json::to_string(&loaded.coding).unwrap();
        let coding: backprop_data::coding::Coding = serde_json::from_str(&stored).unwrap();
        let samples = coding.input.encode(&RawInput::Bytes("more.csv", csv.as_bytes())).unwrap();
        assert_eq!((samples.rows(), samples.values), (4, SampleValues::I32(expected.to_vec())));
        let texts = ["Bad, bad".to_owned(), "so good".to_owned()];
        let samples = coding.input.encode(&RawInput::Texts(&texts)).unwrap();
        assert_eq!((samples.shape, samples.values), (vec![3], SampleValues::I32(expected[..6].to_vec())));
    }
}

/// A word of a text that is not trained on is unknown, whichever rows the seed picks.
#[test]
fn the_vocabulary_of_labelled_texts_is_that_of_the_training_part() {
    let place = tempfile::tempdir().unwrap();
    let rows: String = (0..30).map(|i| format!("word{i},{}\n", i % 2)).collect();
    fs::write(place.path().join("texts.csv"), format!("text,label\n{rows}")).unwrap();
    let loaded = load(&place, "source = 'labelled-text'\npath = 'texts.csv'\nsequence = 1", 0.25);
    let parts = loaded.parts;
    assert_eq!((parts.train.len(), vocabulary(&*parts.train).len()), (18, 20));
    assert!(tokens(&*parts.train, 0).iter().all(|&t| t > 1));
    for part in [parts.validation.unwrap(), parts.test.unwrap()] {
        assert!(part.len() == 6 && tokens(&*part, 0).iter().all(|&t| t == text::UNKNOWN));
    }
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
