use std::fs;
use std::path::{Path, PathBuf};

use backprop_data::coding::{InputCoding, RawInput, SampleValues};
use backprop_data::{Dataset, Fit, Frame, Kind, LoadOptions, Loaded, Scale, Source};
use proptest::prelude::*;
use tempfile::TempDir;

fn image(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/images").join(name);
    fs::read(path).unwrap()
}

/// Writes files, copies of the images of this folder, and reads the source described by `settings`.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let place = tempfile::tempdir().unwrap();
    for (to, from) in files {
        let path = place.path().join(to);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, if from.contains('.') { image(from) } else { from.as_bytes().to_vec() }).unwrap();
    }
    place
}

fn load(place: &TempDir, settings: &str, change: impl Fn(&mut LoadOptions)) -> Result<Loaded, String> {
    let source: Source = toml::from_str(&format!("source = 'folder'\npath = '.'\n{settings}")).unwrap();
    let mut options = LoadOptions { validation: 0.0, ..LoadOptions::new(place.path()) };
    change(&mut options);
    source.load(&options).map_err(|e| e.to_string().replace(&place.path().display().to_string(), "DIR"))
}

fn images(data: &dyn Dataset) -> Vec<f32> {
    let rows: Vec<usize> = (0..data.len()).collect();
    let mut out = vec![0.0; rows.len() * data.columns()[0].elements()];
    data.fill_f32(0, &rows, &Scale::identity(), &mut out).unwrap();
    out
}

fn labels(data: &dyn Dataset) -> Vec<i32> {
    let rows: Vec<usize> = (0..data.len()).collect();
    let mut out = vec![0; rows.len()];
    data.fill_i32(1, &rows, &mut out).unwrap();
    out
}

/// `expected.txt` is what Pillow makes of the images.
#[test]
fn images_of_every_kind_are_decoded_as_pillow_does() {
    let expected = String::from_utf8(image("expected.txt")).unwrap();
    assert_eq!(expected.lines().count(), 16);
    for line in expected.lines() {
        let mut words = line.split(' ');
        let name = words.next().unwrap();
        let numbers: Vec<usize> = words.map(|w| w.parse().unwrap()).collect();
        let (&[height, width, channels], values) = numbers.split_first_chunk::<3>().unwrap();
        let frame = Frame::new([height, width], channels, Fit::Crop).unwrap();
        let decoded = frame.decode(name, &image(name)).unwrap();
        let tolerance = match name {
            // The colours of half the resolution are interpolated in ways of their own.
            "subsampled.jpg" => 12,
            _ if name.ends_with(".jpg") => 2,
            _ => 0,
        };
        let off = decoded.iter().zip(values).map(|(&a, &b)| usize::from(a).abs_diff(b)).max().unwrap();
        assert!(decoded.len() == values.len() && off <= tolerance, "{name}: off by {off}");
    }
}

const CLASSES: [(&str, &str); 8] = [
    ("dog/1.png", "rgb.png"),
    ("dog/more/2.JPG", "baseline.jpg"),
    ("cat/1.png", "palette.png"),
    ("cat/2.jpeg", "cmyk.jpg"),
    ("cat/.hidden.png", "text"),
    ("cat/notes.txt", "text"),
    ("README", "text"),
    ("beside.png", "grey.png"),
];

#[test]
fn a_folder_per_class() {
    let place = folder(&CLASSES);
    let loaded = load(&place, "test = 0.0", |_| ()).unwrap();
    let data = loaded.parts.train.as_ref();
    assert_eq!((data.len(), &data.columns()[0].shape[..]), (4, &[6, 9, 3][..]));
    assert_eq!(labels(data), [0, 0, 1, 1]);
    let Kind::Class(classes) = &data.columns()[1].kind else { panic!() };
    assert_eq!((classes.name(0), classes.name(1)), ("cat".into(), "dog".into()));
    assert_eq!(
        loaded.findings,
        [
            "4 images of 6×9 pixels in colour in 2 classes: cat 2, dog 2",
            "2 files are not PNG or JPEG images and left out: without ending 1, .txt 1",
            "1 image lies beside the folders of the classes and left out",
        ]
    );
}

#[test]
fn folders_of_parts() {
    let files = [
        ("train/a/1.png", "grey.png"),
        ("train/b/1.png", "grey-16.png"),
        ("val/b/1.png", "bit.png"),
        ("Test/a/1.jpg", "grey.jpg"),
        ("Test/b/1.png", "grey.png"),
    ];
    let place = folder(&files);
    let loaded = load(&place, "", |o| o.validation = 0.5).unwrap();
    let parts = loaded.parts;
    let (validation, test) = (parts.validation.unwrap(), parts.test.unwrap());
    assert_eq!(
        (labels(parts.train.as_ref()), labels(validation.as_ref()), labels(test.as_ref())),
        (vec![0, 1], vec![1], vec![0, 1])
    );
    assert_eq!(test.columns()[0].shape, [6, 9, 1]);
    let place = folder(&[&files[..], &[("val/c/1.png", "bit.png")]].concat());
    let said = load(&place, "", |_| ()).err().unwrap();
    assert!(said.contains("class \"c\" is not in the training part"), "{said}");
}

#[test]
fn a_file_of_labels() {
    let place = folder(&[("all/1.png", "rgb.png"), ("all/2.png", "rgba.png"), ("all/3.jpg", "grey.jpg")]);
    let csv = |text: &str| fs::write(place.path().join("labels.csv"), text).unwrap();
    let settings = "labels = 'labels.csv'\ntest = 0.0";
    csv("\u{feff}file;breed\r\nall/2;pug\r\nall/1.png;\"b;c\"\r\nall/3;pug\r\n");
    let loaded = load(&place, settings, |_| ()).unwrap();
    assert_eq!(labels(loaded.parts.train.as_ref()), [1, 0, 1]);
    csv("age,file\n1.5,all/1.png\n-2,all/3\n");
    let settings = format!("{settings}\nfile_column = 'file'\nlabel_column = 'age'");
    let loaded = load(&place, &settings, |_| ()).unwrap();
    let mut ages = [0.0; 2];
    loaded.parts.train.fill_f32(1, &[0, 1], &Scale::identity(), &mut ages).unwrap();
    assert_eq!(ages, [1.5, -2.0]);
    csv("age,file\n1.5,all/1.png\n-2,all/7.png\n");
    let said = load(&place, &settings, |_| ()).err().unwrap();
    assert_eq!(said, "DIR/labels.csv, line 3: there is no file all/7.png in DIR/.; correct the name or remove the line");
}

#[test]
fn images_without_labels_are_their_own_target() {
    let place = folder(&[("1.png", "rgb.png"), ("2.png", "rgba.png")]);
    let loaded = load(&place, "test = 0.0\nimage_size = 4", |o| (o.target, o.validation) = (Some("image"), 0.5)).unwrap();
    assert_eq!((loaded.input, loaded.target, loaded.parts.train.len()), (0, 0, 1));
    let said = load(&place, "", |_| ()).err().unwrap();
    assert!(said.contains("data.target = \"image\" for an autoencoder"), "{said}");
}

#[test]
fn images_in_a_temporary_file_have_the_same_bits() {
    let place = folder(&CLASSES);
    let kept = |stream: &str| {
        let loaded = load(&place, &format!("image_size = [5, 7]\ntest = 0.5\nstream = {stream}"), |_| ()).unwrap();
        let (train, test) = (loaded.parts.train, loaded.parts.test.unwrap());
        assert_eq!(train.in_memory(), stream == "false");
        (images(&*train), images(&*test), labels(&*train), labels(&*test), loaded.scale, loaded.coding)
    };
    assert!(kept("true") == kept("false"));
}

#[test]
fn prediction_sees_the_bits_that_training_saw() {
    let place = folder(&CLASSES);
    let loaded = load(&place, "image_size = 5\nfit = 'pad'\ntest = 0.0", |_| ()).unwrap();
    let data = loaded.parts.train.as_ref();
    let mut batch = vec![0.0; data.len() * 75];
    data.fill_f32(0, &[0, 1, 2, 3], &loaded.scale, &mut batch).unwrap();
    let stored = serde_json::to_string(&loaded.coding).unwrap();
    let coding: backprop_data::coding::Coding = serde_json::from_str(&stored).unwrap();
    let paths: Vec<PathBuf> = ["cat", "dog"].iter().map(|c| place.path().join(c)).collect();
    let samples = coding.input.encode(&RawInput::Files(&paths)).unwrap();
    assert!(matches!(coding.input, InputCoding::Image(_)) && samples.rows() == 4 && samples.shape == [5, 5, 3]);
    assert!(samples.values == SampleValues::F32(batch));
}

#[test]
fn a_damaged_stored_frame_is_refused() {
    let frame = r#"{"height":0,"width":5,"channels":3,"fit":"crop"}"#;
    assert!(serde_json::from_str::<Frame>(frame).unwrap_err().to_string().contains("image_size"));
}

/// The header of an image of 2³⁰ × 2³⁰ pixels: refused without taking memory.
#[test]
fn absurd_sizes_are_refused() {
    let frame = Frame::new([4, 4], 3, Fit::Crop).unwrap();
    let mut png = image("rgb.png");
    for (size, said) in [(1_u32 << 30, "declares"), (9_999, "cannot hold")] {
        png[16..20].copy_from_slice(&size.to_be_bytes());
        png[20..24].copy_from_slice(&size.to_be_bytes());
        let checksum = crc32(&png[12..29]);
        png[29..33].copy_from_slice(&checksum.to_be_bytes());
        let found = frame.decode("big.png", &png).unwrap_err().to_string();
        assert!(found.contains(said), "{found}");
    }
}

/// The checksum of PNG chunks, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, &b| (0..8).fold(crc ^ u32::from(b), step))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// Any damage gives an image of the right size or a message, never a panic.
    #[test]
    fn damaged_images_never_panic(
        which in 0..16_usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let names = image("expected.txt");
        let name = std::str::from_utf8(&names).unwrap().lines().nth(which).unwrap().split(' ').next().unwrap();
        let mut bytes = image(name);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        match Frame::new([3, 4], 3, Fit::Pad).unwrap().decode("damaged", &bytes) {
            Ok(pixels) => prop_assert_eq!(pixels.len(), 36),
            Err(error) => prop_assert!(error.to_string().starts_with("damaged")),
        }
    }
}
