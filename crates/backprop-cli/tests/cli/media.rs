//! Images, arrays and texts as people have them: what is odd works, what cannot work is told in one sentence.

use super::{Workplace, bad_input::refuses, last_json, metrics};
use std::{fs, path::Path};

/// A configuration that reads `data`.
fn model(data: &str, layers: &str) -> String {
    format!(
        "[data]\n{data}\n{layers}\n[loss]\ntype = \"cross_entropy\"\n[optimizer]\ntype = \"adam\"\n[train]\nepochs = 2\nbatch_size = 4\n"
    )
}

const LINEAR: &str = "[[layers]]\ntype = \"flatten\"\n[[layers]]\ntype = \"linear\"\nout_features = 3";

/// Writes images of the tests of backprop-data to places of their own.
fn images(files: &[(&str, &str)]) -> Workplace {
    let place = Workplace::new();
    for (to, from) in files {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../backprop-data/tests/data/images").join(from);
        fs::create_dir_all(place.path(to).parent().unwrap()).unwrap();
        place.write(to, fs::read(from).unwrap());
    }
    place
}

const PHOTOS: [(&str, &str); 12] = [
    ("photos/bird/1.png", "rgb.png"),
    ("photos/bird/2.png", "rgba.png"),
    ("photos/bird/3.png", "palette.png"),
    ("photos/bird/4.png", "turned.png"),
    ("photos/cat/1.jpg", "baseline.jpg"),
    ("photos/cat/2.jpg", "progressive.jpg"),
    ("photos/cat/3.jpg", "cmyk.jpg"),
    ("photos/cat/4.jpg", "subsampled.jpg"),
    ("photos/dog/1.png", "grey.png"),
    ("photos/dog/2.png", "grey-16.png"),
    ("photos/dog/3.png", "grey-alpha.png"),
    ("photos/dog/4.png", "bit.png"),
];

/// A PNG image of one pixel.
const PIXEL: [u8; 69] = *b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x02\0\0\0\x90wS\xde\0\0\0\x0cIDATx\x9cc\xf8\x7f\x80\x01\0\x04\x81\x01\xc0w\xd9\x03\x1d\0\0\0\0IEND\xaeB`\x82";

const FOLDER: &str = "source = \"folder\"\npath = \"photos\"\nimage_size = 8\ntest = 0.25";
const CHANGES: &str = "[data.augment]\nflip = \"horizontal\"\ncrop = 1\nrotate = 10\nbrightness = 0.2";

#[test]
fn images_of_every_kind_are_trained_on_with_changes() {
    let place = images(&PHOTOS);
    place.write("photos/dog/5.png", PIXEL);
    place.write("photos/notes.txt", "not an image");
    place.write("model.toml", model(&format!("{FOLDER}\n{CHANGES}"), LINEAR));
    place.succeed(&["train", "model.toml", "--out", "run"]);
    place.succeed(&["eval", "run"]);
}

/// The bits do not depend on who fills the batches, nor on where the images lie. That they are the same after a stop is in `stopping`.
#[test]
fn changed_images_have_the_same_bits_on_any_thread() {
    let place = images(&PHOTOS);
    place.write("model.toml", model(&format!("{FOLDER}\nvalidation = 0.0\n{CHANGES}"), LINEAR));
    let train = |out: &str, settings: &[&str]| {
        let mut arguments = vec!["train", "model.toml", "--out", out, "--set", "train.epochs=5"];
        settings.iter().for_each(|s| arguments.extend(["--set", s]));
        place.succeed(&arguments);
    };
    train("whole", &["train.loader_threads=0", "train.checkpoint_every_steps=1"]);
    train("ahead", &["train.loader_threads=3", "data.stream=true"]);
    assert!(place.read("whole/weights.safetensors") == place.read("ahead/weights.safetensors"));
    train("plain", &["train.loader_threads=0", "data.augment.rotate=0.0"]);
    assert!(place.read("whole/weights.safetensors") != place.read("plain/weights.safetensors"), "nothing was changed");
    assert_eq!(metrics(&place, "whole"), metrics(&place, "ahead"));
}

#[test]
fn folders_that_are_refused() {
    let place = images(&PHOTOS);
    place.write("model.toml", model(FOLDER, LINEAR));
    let train = ["train", "model.toml"];
    let spoil = |file: &str, bytes: &[u8], name: &str| {
        let kept = place.read(file);
        place.write(file, bytes);
        refuses(name, &place, &train);
        place.write(file, kept);
    };
    let (png, jpeg) = (place.read("photos/bird/1.png"), place.read("photos/cat/1.jpg"));
    spoil("photos/bird/1.png", &png[..png.len() - 20], "truncated_png");
    spoil("photos/cat/1.jpg", &jpeg[..jpeg.len() - 20], "truncated_jpeg");
    spoil("photos/dog/1.png", b"just some words", "text_called_png");
    spoil("photos/dog/1.png", b"", "empty_png");
    let mut huge = PIXEL;
    huge[16..24].copy_from_slice(&[0, 0x10, 0, 0, 0, 0x10, 0, 0]);
    // The checksum of the header with these sizes.
    huge[29..33].copy_from_slice(&HUGE_CHECKSUM.to_be_bytes());
    spoil("photos/dog/1.png", &huge, "huge_png");
    fs::create_dir(place.path("photos/fish")).unwrap();
    refuses("class_without_images", &place, &train);
    fs::remove_dir(place.path("photos/fish")).unwrap();
    let refuses_data = |name: &str, from: &str, to: &str| {
        place.write("other.toml", model(&FOLDER.replace(from, to), LINEAR));
        refuses(name, &place, &["train", "other.toml"]);
    };
    refuses_data("image_size_zero", "image_size = 8", "image_size = 0");
    refuses_data("image_size_sides_zero", "image_size = 8", "image_size = [8, 0]");
    refuses_data("images_of_different_sizes", "image_size = 8", "");
    refuses_data("two_channels", "image_size = 8", "image_size = 8\nchannels = 2");
    refuses_data("folder_without_classes", "photos", "photos/cat");
    fs::create_dir(place.path("alone")).unwrap();
    fs::rename(place.path("photos/cat"), place.path("alone/cat")).unwrap();
    refuses_data("folder_of_one_class", "photos", "alone");
    fs::rename(place.path("alone/cat"), place.path("photos/cat")).unwrap();
    refuses_data("no_such_folder", "photos", "pictures");
    fs::create_dir(place.path("empty")).unwrap();
    refuses_data("empty_folder", "photos", "empty");
    place.write("labels.csv", "file,label\nbird/1,bird\nbird/9,bird\n");
    refuses_data("label_without_image", "image_size = 8", "image_size = 8\nlabels = \"labels.csv\"");
    place.write("labels.csv", "file,breed\nbird/1,bird\ncat/1.jpg,\n");
    refuses_data("image_without_label", "image_size = 8", "image_size = 8\nlabels = \"labels.csv\"");
    let changes = |more: &str| format!("{FOLDER}\n[data.augment]\n{more}");
    place.write("other.toml", model(&changes("rotate = 720"), LINEAR));
    refuses("augment_out_of_range", &place, &["train", "other.toml"]);
    place.write("other.toml", model(&changes("flop = \"horizontal\""), LINEAR));
    refuses("augment_unknown_key", &place, &["train", "other.toml"]);
    place.write(
        "other.toml",
        model("source = \"clusters\"\nrows = 40\nfeatures = 4\nclasses = 3\n[data.augment]\ncrop = 2", LINEAR),
    );
    refuses("augment_without_images", &place, &["train", "other.toml"]);
}

/// CRC-32 of the chunk `IHDR` of an image of 1,048,576 × 1,048,576 pixels.
const HUGE_CHECKSUM: u32 = 0xc44a_3792;

/// A .npy file of version 1.
fn npy(descr: &str, shape: &str, body: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape}), }}\n");
    [&b"\x93NUMPY\x01\x00"[..], &(header.len() as u16).to_le_bytes(), header.as_bytes(), body].concat()
}

#[test]
fn arrays_are_trained_on_or_refused() {
    let place = Workplace::new();
    place.write("x.npy", npy("|u1", "8, 2", &[7, 1, 3, 9, 2, 8, 1, 1, 7, 1, 3, 9, 2, 8, 1, 1]));
    place.write("y.npy", npy("|u1", "8,", &[0, 1, 2, 0, 0, 1, 2, 0]));
    place.write("model.toml", model("source = \"npy\"\ninputs = \"x.npy\"\ntargets = \"y.npy\"\nvalidation = 0.0", LINEAR));
    let train = ["train", "model.toml", "--out", "run"];
    place.succeed(&train);
    assert!(last_json(&place.text("run/metrics.jsonl")).is_object());
    let train = ["train", "model.toml", "--out", "refused"];
    place.write("y.npy", npy("|u1", "7,", &[0, 1, 2, 0, 0, 1, 2]));
    refuses("npy_rows_differ", &place, &train);
    place.write("x.npy", npy("<f4", "8, 2", &[0; 63]));
    refuses("npy_truncated", &place, &train);
    place.write("x.npy", npy("|O", "8, 2", &[0; 64]));
    refuses("npy_of_objects", &place, &train);
    place.write("x.npy", "1,2,3\n4,5,6\n");
    refuses("npy_wrong_magic", &place, &train);
    place.write(
        "a.npz",
        fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../backprop-data/tests/data/arrays/arrays.npz")).unwrap(),
    );
    place.write("model.toml", model("source = \"npy\"\npath = \"a.npz\"\ninputs_name = \"x\"\ntargets_name = \"y\"", LINEAR));
    refuses("npz_without_array", &place, &train);
    place.write("a.npz", "no archive");
    refuses("npz_damaged", &place, &train);
}

const EMBEDDED: &str = "[[layers]]\ntype = \"embedding\"\nnum_embeddings = 257\nembedding_dim = 4\n[[layers]]\ntype = \"linear\"\nout_features = 257";

#[test]
fn texts_of_bytes_characters_and_words() {
    let place = Workplace::new();
    fs::create_dir_all(place.path("books/more")).unwrap();
    place.write("books/1.txt", "To be, or not to be: that is the question.\r\n".repeat(4));
    place.write("books/more/2.txt", "Whether 'tis nobler in the mind to suffer".repeat(4));
    place.write("books/picture.png", [0xff; 9]);
    for unit in ["byte", "char", "word"] {
        let data = format!("source = \"text\"\npath = \"books\"\nunit = \"{unit}\"\nsequence = 6");
        place.write("model.toml", model(&data, EMBEDDED));
        place.succeed(&["train", "model.toml", "--out", unit]);
    }
    let data = "source = \"text\"\npath = [\"books/*.txt\", \"books/more/2.txt\"]\nsequence = 6";
    place.write("model.toml", model(data, EMBEDDED));
    place.succeed(&["train", "model.toml", "--out", "patterns"]);
    let refuses_text = |name: &str, more: &str, text: &[u8]| {
        place.write("notes.txt", text);
        place.write("other.toml", model(&format!("source = \"text\"\npath = \"notes.txt\"\n{more}"), EMBEDDED));
        refuses(name, &place, &["train", "other.toml"]);
    };
    refuses_text("text_empty", "", b"");
    refuses_text("text_shorter_than_a_window", "unit = \"word\"", b"Only four words here");
    refuses_text("text_of_few_windows", "sequence = 8", b"Too short for a test part.");
    refuses_text("text_not_utf8_characters", "unit = \"char\"", b"na\xefve");
    refuses_text("text_unknown_unit", "unit = \"letter\"", b"text");
    fs::create_dir(place.path("none")).unwrap();
    place.write("other.toml", model("source = \"text\"\npath = \"none\"", EMBEDDED));
    refuses("folder_without_texts", &place, &["train", "other.toml"]);
}

#[test]
fn texts_with_labels() {
    let place = Workplace::new();
    let rows: String = (0..20).map(|i| if i % 3 == 0 { "\"good, really\",yes\n" } else { "bad,no\n" }).collect();
    place.write("reviews.csv", format!("text,label\n{rows}"));
    let layers = "[[layers]]\ntype = \"embedding\"\nnum_embeddings = 40\nembedding_dim = 4\n[[layers]]\ntype = \"flatten\"\n[[layers]]\ntype = \"linear\"\nout_features = 2";
    let data = "source = \"labelled-text\"\nsequence = 5\npath = ";
    place.write("model.toml", model(&format!("{data}\"reviews.csv\""), layers));
    place.succeed(&["train", "model.toml", "--out", "csv"]);
    for (folder, text) in [("good", "I liked it"), ("bad", "I did not")] {
        fs::create_dir_all(place.path(&format!("reviews/{folder}"))).unwrap();
        (0..8).for_each(|i| place.write(&format!("reviews/{folder}/{i}.txt"), text));
    }
    place.write("model.toml", model(&format!("{data}\"reviews\"\nunit = \"char\"\npad = \"start\""), layers));
    place.succeed(&["train", "model.toml", "--out", "folder"]);
    let refuses_file = |name: &str, more: &str, text: &str| {
        place.write("other.csv", text);
        place.write("other.toml", model(&format!("{data}\"other.csv\"\n{more}"), layers));
        refuses(name, &place, &["train", "other.toml"]);
    };
    refuses_file("labelled_text_of_one_class", "", "text,label\ngood,yes\nfine,yes\n");
    refuses_file("labelled_text_without_label", "", "text,label\ngood,yes\nbad,\n");
    refuses_file("labelled_text_without_column", "text_column = \"review\"", "text,label\ngood,yes\nbad,no\n");
}
