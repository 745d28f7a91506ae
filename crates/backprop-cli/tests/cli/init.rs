//! From data that nobody prepared to a model in use: `init`, `train`, `eval`, `predict`.

use super::Workplace;
use std::{fmt::Write, fs, path::Path};

/// Goes all the way: the epochs are few, the configuration is as `init` wrote it.
fn all_the_way(place: &Workplace, data: &str, options: &[&str], raw: &str) -> String {
    let mut arguments = vec!["init", data, "--out", "model.toml"];
    arguments.extend(options);
    let said = place.succeed(&arguments);
    assert!(said.lines().all(|line| line.chars().count() <= 100), "{said}");
    assert!(said.contains("found\n") && said.contains("chosen\n") && said.contains("backprop train model.toml"), "{said}");
    place.succeed(&["train", "model.toml", "--out", "run", "--set", "train.epochs=2"]);
    place.succeed(&["eval", "run"]);
    if raw.is_empty() {
        let prompt = said.trim_end().rsplit_once(' ').unwrap().1;
        place.succeed(&["generate", "run", "--length", "5", "--prompt", prompt]);
    } else {
        let predictions = place.succeed(&["predict", "run", raw, "--format", "csv"]);
        assert!(predictions.lines().count() > 1, "{predictions}");
    }
    place.text("model.toml")
}

/// Refused with exit code 2 and one sentence that says these words.
fn refused(place: &Workplace, arguments: &[&str], words: &[&str]) {
    let output = place.run(arguments);
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {message}");
    assert_eq!(message.trim().lines().count(), 1, "{message}");
    assert!(words.iter().all(|word| message.contains(word)), "{arguments:?}: {message}");
    assert!(!place.path("model.toml").exists());
}

/// Numbers that look random and are not.
fn draw(i: usize) -> usize {
    i * 7919 % 1013
}

#[test]
fn a_table_from_windows_with_a_rare_class_and_a_constant_column() {
    let place = Workplace::new();
    let mut csv = String::from("\u{feff}Größe;Gewicht;Land;Art\r\n");
    for i in 0..120 {
        let class = if i % 40 == 7 { "Uhu" } else { ["Amsel", "Kauz"][i % 2] };
        write!(csv, "{},5;{};DE;{class}\r\n", draw(i) % 50, if i == 9 { String::new() } else { (draw(i) % 90).to_string() })
            .unwrap();
    }
    place.write("Vögel 2024.csv", csv);
    let toml = all_the_way(&place, "Vögel 2024.csv", &[], "Vögel 2024.csv");
    assert!(toml.contains("type = \"cross_entropy\"") && toml.contains("weight = ["), "{toml}");
    assert!(toml.contains("# Rare classes count more"), "{toml}");
}

#[test]
fn a_table_with_dates_missing_values_and_many_categories() {
    let place = Workplace::new();
    let mut csv = String::from("day,shop,price,stock\n");
    for i in 0..400 {
        let stock = if i % 17 == 0 { "NA".into() } else { (draw(i) % 30).to_string() };
        let day = 1 + i % 28;
        writeln!(csv, "2023-{:02}-{day:02},shop {},{},{stock}", 1 + i / 40, draw(i) % 60, 1 + draw(i)).unwrap();
    }
    place.write("sales.csv", csv);
    let toml = all_the_way(&place, "sales.csv", &["--target", "price"], "sales.csv");
    for part in ["split_by = \"day\"", "columns_embedding", "normalize_target = \"log\"", "type = \"mse\""] {
        assert!(toml.contains(part), "{part}: {toml}");
    }
}

#[test]
fn a_series_with_a_time_for_every_row() {
    let place = Workplace::new();
    let mut csv = String::from("hour,wind,temperature\n");
    for i in 0..240 {
        let (day, hour) = (1 + i / 24, i % 24);
        writeln!(csv, "2024-03-{day:02} {hour:02}:00,{},{}", draw(i) % 9, 10 + (hour as i32 - 12).abs()).unwrap();
    }
    place.write("weather.csv", csv);
    let toml = all_the_way(&place, "weather.csv", &[], "weather.csv");
    assert!(toml.contains("source = \"series\"") && toml.contains("time = \"hour\""), "{toml}");
}

#[test]
fn five_rows_without_a_header() {
    let place = Workplace::new();
    place.write("few.csv", "1,2,yes\n2,1,no\n3,5,yes\n4,4,no\n5,0,yes\n");
    let toml = all_the_way(&place, "few.csv", &["--task", "classification"], "few.csv");
    assert!(toml.contains("validation = 0.0") && toml.contains("keep_best = false"), "{toml}");
}

/// Copies an image of the tests of backprop-data.
fn image(place: &Workplace, to: &str, from: &str) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../backprop-data/tests/data/images").join(from);
    fs::create_dir_all(place.path(to).parent().unwrap()).unwrap();
    place.write(to, fs::read(from).unwrap());
}

/// A PNG image of one pixel.
const PIXEL: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x02\0\0\0\x90wS\xde\0\0\0\x0cIDATx\x9cc\xf8\x7f\x80\x01\0\x04\x81\x01\xc0w\xd9\x03\x1d\0\0\0\0IEND\xaeB`\x82";

fn photos(place: &Workplace, folder: &str) {
    let kinds = [("cat", ["cmyk.jpg", "baseline.jpg", "turned.jpg"]), ("dog", ["grey.png", "rgba.png", "palette.png"])];
    for (class, files) in kinds {
        for (i, file) in files.iter().enumerate() {
            image(place, &format!("{folder}/{class}/{i}.{}", &file[file.len() - 3..]), file);
        }
    }
}

#[test]
fn a_folder_of_a_few_photos_of_every_kind_and_a_pixel() {
    let place = Workplace::new();
    photos(&place, "my photos");
    place.write("my photos/dog/pixel.png", PIXEL);
    place.write("my photos/notes.txt", "not an image");
    let toml = all_the_way(&place, "my photos", &[], "my photos/cat");
    assert!(toml.contains("image_size = ") && toml.contains("normalize = \"channel\""), "{toml}");
}

#[test]
fn a_folder_of_single_pixels() {
    let place = Workplace::new();
    for i in 0..8 {
        let class = ["a", "b"][i % 2];
        fs::create_dir_all(place.path(&format!("pixels/{class}"))).unwrap();
        place.write(&format!("pixels/{class}/{i}.png"), PIXEL);
    }
    let toml = all_the_way(&place, "pixels", &[], "pixels/a");
    assert!(!toml.contains("conv2d"), "{toml}");
}

#[test]
fn a_folder_with_parts_of_its_own() {
    let place = Workplace::new();
    photos(&place, "set/train");
    photos(&place, "set/test");
    all_the_way(&place, "set", &[], "set/test");
}

#[test]
fn texts_of_several_kinds() {
    let windows = format!("\u{feff}{}", "A line of text, and one more.\r\n".repeat(200));
    let short = "to be or not to be that is the question ".repeat(4);
    let foreign = "Größe, año, 日本語 – «да»\n".repeat(90);
    for (name, text) in [("windows.txt", windows), ("short.txt", short), ("no ending", foreign)] {
        let place = Workplace::new();
        place.write(name, text);
        let toml = all_the_way(&place, name, &[], "");
        assert!(toml.contains("type = \"lstm\""), "{toml}");
    }
}

#[test]
fn what_cannot_work_is_told_in_one_sentence() {
    let place = Workplace::new();
    place.write("empty.txt", "");
    place.write("same.txt", "a".repeat(500));
    place.write("empty.csv", "");
    place.write("one.csv", "x\n1\n2\n3\n");
    place.write("header.csv", "a,b\n");
    place.write("nothing.csv", "a,b\n1,yes\n1,no\n1,yes\n");
    place.write("image.png", PIXEL);
    place.write("program", b"\x7fELF\0\0\0\0");
    place.write("flat.csv", "a,b\n1,2\n2,3\n3,5\n4,1\n5,9\n");
    for folder in ["empty", "single/only", "loose"] {
        fs::create_dir_all(place.path(folder)).unwrap();
    }
    place.write("single/only/1.png", PIXEL);
    place.write("loose/1.png", PIXEL);
    let init = |data: &str, words: &[&str]| refused(&place, &["init", data, "--out", "model.toml"], words);
    init("empty.txt", &["empty.txt"]);
    init("same.txt", &["one character"]);
    init("empty.csv", &["empty.csv"]);
    init("one.csv", &["one.csv"]);
    init("header.csv", &["header.csv"]);
    init("nothing.csv", &["nothing.csv"]);
    init("image.png", &["is one image", "sub-folder"]);
    init("program", &["no kind that this program knows", "CSV"]);
    init("missing.csv", &["missing.csv"]);
    init("empty", &["no PNG or JPEG"]);
    init("single", &["one class only"]);
    init("loose", &["without labels"]);
    refused(&place, &["init", "flat.csv", "--target", "c", "--out", "model.toml"], &["c", "a, b"]);
}

#[test]
fn nothing_is_overwritten_without_force() {
    let place = Workplace::new();
    place.write("points.csv", "a,b\n1,2\n2,3\n3,5\n4,1\n5,9\n");
    place.write("points.toml", "mine");
    let output = place.run(&["init", "points.csv"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("--force"));
    assert_eq!(place.text("points.toml"), "mine");
    place.succeed(&["init", "points.csv", "--force"]);
    assert!(place.text("points.toml").contains("path = \"points.csv\""));
}
