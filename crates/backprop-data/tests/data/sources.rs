use std::fs;
use std::path::Path;

use backprop_data::{DataError, Dataset, IdxFiles, Kind, Normalise, Parts, Scale, Source, synthetic};

use crate::{gzip, idx_file};

fn load(source: &str, base: &Path) -> Result<Parts, String> {
    let source: Source = toml::from_str(source).map_err(|e| e.message().to_string())?;
    let folder = format!("{}/", base.display());
    source.parts(base).map_err(|e| e.to_string().replace(&folder, ""))
}

fn class_counts(data: &dyn Dataset) -> Vec<usize> {
    let label = data.column("label").unwrap();
    let rows: Vec<usize> = (0..data.len()).collect();
    let mut labels = vec![0; rows.len()];
    data.fill_i32(label, &rows, &mut labels).unwrap();
    let mut counts = vec![0; 10];
    for l in labels {
        counts[l as usize] += 1;
    }
    counts
}

#[test]
fn fashion_is_balanced_and_named() {
    let parts = load("source = 'fashion'", Path::new(".")).unwrap();
    let parts = parts.with_validation(0.1, 3).unwrap();
    assert_eq!(class_counts(&*parts.train), [270; 10]);
    assert_eq!(class_counts(&*parts.validation.unwrap()), [30; 10]);
    assert_eq!(class_counts(&*parts.test.unwrap()), [100; 10]);
    let Kind::Class(classes) = &parts.train.columns()[1].kind else {
        panic!("classes");
    };
    assert_eq!(classes.name(9), "Ankle boot");
}

/// Mean and deviation of the subset, computed from the files outside this crate.
#[test]
fn fashion_is_normalised_by_its_own_statistics() {
    let train = backprop_data::fashion().unwrap().train;
    let scale = Scale::fit(&*train, 0, Normalise::Global).unwrap();
    assert!((scale.shift()[0] - 73.015_854).abs() < 1e-4, "{scale:?}");
    assert!((1.0 / scale.factor()[0] - 90.232_39).abs() < 1e-4, "{scale:?}");
}

#[test]
fn digits_are_split_in_proportion_and_always_alike() {
    let parts = load("source = 'digits'", Path::new(".")).unwrap();
    let test = parts.test.unwrap();
    assert_eq!((parts.train.len(), test.len()), (1438, 359));
    assert!(class_counts(&*test).iter().all(|n| (34..=37).contains(n)));
    let mut row = [0; 64];
    test.fill_i32(0, &[0], &mut row).unwrap();
    assert!(row.iter().all(|v| (0..=16).contains(v)) && row.iter().any(|&v| v > 8));
    let again = backprop_data::digits().unwrap().test.unwrap();
    let mut same = [0; 64];
    again.fill_i32(0, &[0], &mut same).unwrap();
    assert_eq!(row, same);
}

#[test]
fn columns_are_known_when_the_rows_are_gone() {
    let parts = backprop_data::digits().unwrap();
    let gone = parts.without_rows();
    assert_eq!(gone.train.columns(), parts.train.columns());
    assert!(gone.train.is_empty() && gone.validation.is_none() && gone.test.is_none());
    for column in 0..gone.train.columns().len() {
        assert!(gone.train.fill_f32(column, &[], &Scale::identity(), &mut []).is_ok());
        let mut row = vec![0.0; gone.train.columns()[column].elements()];
        assert!(matches!(gone.train.fill_f32(column, &[0], &Scale::identity(), &mut row), Err(DataError::NoRow { .. })));
    }
}

#[test]
fn shakespeare_is_split_from_the_end() {
    let text = backprop_data::shakespeare().unwrap();
    assert_eq!(text.len(), 277_225);
    assert!(text.starts_with("Hamlet\n") && text.is_ascii() && !text.contains(['*', '_', '\\', '#']));
    let parts = load("source = 'shakespeare'\nsequence = 100", Path::new(".")).unwrap();
    assert_eq!((parts.train.len(), parts.test.unwrap().len()), (2495, 277));
    let Kind::Token(vocabulary) = &parts.train.columns()[0].kind else {
        panic!("tokens");
    };
    assert_eq!(vocabulary.len(), 65);
    let dense = load("source = 'shakespeare'\nsequence = 100\nstride = 50", Path::new(".")).unwrap();
    assert_eq!(dense.train.len() + dense.test.unwrap().len() + 1, 5543);
}

/// Writes training and test files of `n` and `m` 2×2 images.
fn write_idx(folder: &Path, n: u32, m: u32) {
    for (name, n) in [("a", n), ("b", m)] {
        let images: Vec<u8> = (0..4 * n).map(|i| i as u8).collect();
        let labels: Vec<u8> = (0..n).map(|i| (i % 3) as u8).collect();
        fs::write(folder.join(format!("{name}.images")), idx_file(8, &[n, 2, 2], &images)).unwrap();
        fs::write(folder.join(format!("{name}.labels")), gzip(&idx_file(8, &[n], &labels))).unwrap();
    }
}

#[test]
fn idx_files_are_read_from_the_configurations_folder() {
    let folder = tempfile::tempdir().unwrap();
    write_idx(folder.path(), 30, 6);
    let train = "source = 'idx'\nimages = 'a.images'\nlabels = 'a.labels'\n";
    let parts = load(train, folder.path()).unwrap();
    assert_eq!((parts.train.len(), parts.test.unwrap().len()), (24, 6));
    let both = format!("{train}test_images = 'b.images'\ntest_labels = 'b.labels'\nclasses = ['x', 'y', 'z']");
    let parts = load(&both, folder.path()).unwrap();
    assert_eq!((parts.train.len(), parts.test.unwrap().len()), (30, 6));
    assert_eq!(parts.train.columns()[0].shape, [2, 2, 1]);

    let error = |text: &str| load(text, folder.path()).map(|_| ()).unwrap_err();
    let half = format!("{train}test_images = 'b.images'");
    assert_eq!(error(&half), "test_images is given without test_labels; give both or neither");
    let few = both.replace(", 'z'", "");
    assert_eq!(error(&few), "a.labels: label 2 in row 2 is outside 0..2");
    let missing = train.replace("a.images", "c.images");
    assert!(error(&missing).starts_with("cannot read c.images: "));
    let other = idx_file(8, &[6, 2, 3], &[0; 36]);
    fs::write(folder.path().join("b.images"), other).unwrap();
    assert_eq!(error(&both), "a.images has samples of shape [2, 2, 1], b.images of [2, 3, 1]; they must be equal");
}

#[test]
fn a_text_is_split_without_shared_targets() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("t.txt"), "abcdefghij".repeat(20)).unwrap();
    let parts = load("source = 'text'\npath = 't.txt'\nsequence = 10\nstride = 5", folder.path()).unwrap();
    let test = parts.test.unwrap();
    // 200 characters: 38 windows, 1 left out, a tenth of the other 37 for the test.
    assert_eq!((parts.train.len(), test.len()), (33, 4));
}

#[test]
fn configurations_are_checked_and_survive_storage() {
    let error = |text: &str| load(text, Path::new(".")).map(|_| ()).unwrap_err();
    assert!(error("source = 'mnist'").contains("unknown variant `mnist`"));
    assert!(error("path = 'x'").contains("source"));
    assert!(error("source = 'idx'\nimages = 'x'").contains("labels"));
    for stray in ["source = 'fashion'", "source = 'idx'\nimages = 'x'\nlabels = 'y'"] {
        assert!(error(&format!("{stray}\nshuffle = 1")).contains("unknown field `shuffle`"), "{stray}");
    }
    let source = Source::Idx(IdxFiles {
        images: "images".into(),
        labels: "labels".into(),
        test_images: None,
        test_labels: None,
        test: 0.25,
        classes: vec!["a".into()],
        stream: Default::default(),
    });
    let text = toml::to_string(&source).unwrap();
    assert_eq!(toml::from_str::<Source>(&text).unwrap(), source);
}

#[test]
fn synthetic_data_follow_their_settings() {
    let source = "source = 'clusters'\nrows = 100\nfeatures = 3\nclasses = 4";
    let parts = load(source, Path::new(".")).unwrap();
    assert_eq!((parts.train.len(), parts.test.unwrap().len()), (80, 20));

    let law = synthetic::linear(500, 2, 0.0, 1).unwrap();
    let rows: Vec<usize> = (0..500).collect();
    let (mut x, mut y) = (vec![0.0; 1000], vec![0.0; 500]);
    law.fill_f32(0, &rows, &Scale::identity(), &mut x).unwrap();
    law.fill_f32(1, &rows, &Scale::identity(), &mut y).unwrap();
    // Two rows give the weights, all others must obey them.
    let (a, b, c, d) = (x[0], x[1], x[2], x[3]);
    let (p, q) = (y[0] - 1.0, y[1] - 1.0);
    let (w0, w1) = ((p * d - q * b) / (a * d - b * c), (a * q - c * p) / (a * d - b * c));
    for (x, y) in x.chunks(2).zip(&y) {
        assert!((w0 * x[0] + w1 * x[1] + 1.0 - y).abs() < 1e-4);
    }
    let mean = x.iter().sum::<f32>() / 1000.0;
    let variance = x.iter().map(|v| v * v).sum::<f32>() / 1000.0;
    assert!(mean.abs() < 0.15 && (variance - 1.0).abs() < 0.15, "{mean} {variance}");
    for empty in [synthetic::linear(0, 2, 0.0, 1), synthetic::clusters(9, 2, 0, 1)] {
        assert!(empty.map(|_| ()).unwrap_err().to_string().ends_with("is 0; it must be at least 1"));
    }
}
