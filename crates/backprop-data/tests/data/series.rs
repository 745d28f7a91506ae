//! Windows of time series.

use std::fmt::Write as _;
use std::fs;

use backprop_data::coding::{Coding, InputCoding, RawInput, SampleValues, TargetCoding};
use backprop_data::series::Steps;
use backprop_data::{Dataset, LoadError, LoadOptions, Loaded, NormaliseTarget, Scale, SeriesFiles};

fn load_with(text: &str, set: impl Fn(&mut SeriesFiles), options: impl Fn(&mut LoadOptions)) -> Result<Loaded, LoadError> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("s.csv"), text).unwrap();
    let mut files = SeriesFiles::new("s.csv", 4);
    set(&mut files);
    let mut with = LoadOptions::new(folder.path());
    options(&mut with);
    files.load(&with)
}

/// `rows` hours of two columns, the second ten times the first.
fn hours(rows: usize) -> String {
    let mut text = String::from("time,a,b\n");
    for i in 0..rows {
        writeln!(text, "2020-01-{:02} {:02}:00,{i},{}", 1 + i / 24, i % 24, i * 10).unwrap();
    }
    text
}

fn rows(data: &dyn Dataset, column: usize, scale: &Scale) -> Vec<Vec<f32>> {
    let elements = data.columns()[column].elements();
    let row = |i| {
        let mut out = vec![0.0; elements];
        data.fill_f32(column, &[i], scale, &mut out).unwrap();
        out
    };
    (0..data.len()).map(row).collect()
}

fn by_hour(files: &mut SeriesFiles) {
    files.time = Some("time".into());
}

#[test]
fn windows_are_followed_by_their_targets() {
    let three = |f: &mut SeriesFiles| {
        by_hour(f);
        f.horizon = 3;
    };
    let plain = |o: &mut LoadOptions| o.normalize = backprop_data::Normalise::None;
    let loaded = load_with(&hours(100), three, plain).unwrap();
    let (train, test) = (&loaded.parts.train, loaded.parts.test.as_ref().unwrap());
    let inputs = rows(train.as_ref(), 0, &loaded.scale);
    assert_eq!(inputs[1], [1.0, 10.0, 2.0, 20.0, 3.0, 30.0, 4.0, 40.0]);
    assert_eq!(rows(train.as_ref(), 1, &Scale::identity())[1], [50.0, 60.0, 70.0]);
    // 72 rows for training, 8 for validation, 20 for the test: no window reaches over.
    assert_eq!((train.len(), loaded.parts.validation.as_ref().unwrap().len(), test.len()), (66, 2, 14));
    assert_eq!(rows(train.as_ref(), 1, &Scale::identity())[65], [690.0, 700.0, 710.0]);
    assert_eq!(rows(test.as_ref(), 0, &loaded.scale)[0][0], 80.0);
    let TargetCoding::Number { names, scale, .. } = &loaded.coding.target else { panic!() };
    assert_eq!((names, scale.shift()), (&["b+1", "b+2", "b+3"].map(String::from).to_vec(), &[355.0][..]));
    assert!(
        loaded.findings.iter().any(|f| f == "repeating the last value on the test part: MAE 20.0000, RMSE 21.6025"),
        "{:?}",
        loaded.findings
    );
    let last = load_with(
        &hours(100),
        |f| {
            three(f);
            f.steps = Steps::Last;
            f.stride = 5;
        },
        |o| o.target = Some("b,a"),
    )
    .unwrap();
    assert_eq!(rows(last.parts.train.as_ref(), 1, &Scale::identity())[1], [110.0, 11.0]);
}

#[test]
fn the_last_window_gives_the_forecast_with_the_bits_of_training() {
    let set = |f: &mut SeriesFiles| {
        by_hour(f);
        f.calendar = true;
        f.test = 0.0;
    };
    let text = hours(60);
    let loaded = load_with(&text, set, |o| o.validation = 0.0).unwrap();
    let stored = serde_json::to_string(&loaded.coding).unwrap();
    let coding: Coding = serde_json::from_str(&stored).unwrap();
    assert_eq!(coding, loaded.coding);
    // All rows but the last: its window is the last that training has.
    let but_last = &text[..text.trim_end().rfind('\n').unwrap()];
    let samples = coding.input.encode(&RawInput::Bytes("s", but_last.as_bytes())).unwrap();
    assert_eq!((samples.shape.as_slice(), samples.rows()), (&[4, 8][..], 1));
    let SampleValues::F32(values) = samples.values else { panic!() };
    let trained = rows(loaded.parts.train.as_ref(), 0, &loaded.scale);
    assert_eq!(&values, trained.last().unwrap());
    let short = coding.input.encode(&RawInput::Bytes("s", hours(3).as_bytes())).unwrap_err().to_string();
    assert_eq!(short, "s: 3 rows, the model reads windows of 4; hand over more of the past");
}

#[test]
fn windows_never_cross_a_group_and_groups_may_be_interleaved() {
    let mut text = String::from("t,who,x\n");
    for i in 0..40 {
        writeln!(text, "{i},a,{i}\n{i},b,{}", 1000 + i).unwrap();
    }
    let set = |f: &mut SeriesFiles| {
        f.time = Some("t".into());
        f.group = Some("who".into());
    };
    let plain = |o: &mut LoadOptions| {
        o.normalize = backprop_data::Normalise::None;
        o.validation = 0.2;
    };
    let loaded = load_with(&text, set, plain).unwrap();
    let windows = rows(loaded.parts.train.as_ref(), 0, &loaded.scale);
    // 26 of the 40 rows of each series are for training.
    assert_eq!(windows.len(), 2 * (26 - 4));
    assert!(windows.iter().all(|w| w.windows(2).all(|pair| pair[1] == pair[0] + 1.0)));
    let InputCoding::Series(coding) = &loaded.coding.input else { panic!() };
    let samples = coding.encode(&RawInput::Bytes("s", text.as_bytes())).unwrap();
    assert_eq!(samples.names, ["s, series a", "s, series b"]);
}

#[test]
fn missing_values_are_filled_and_missing_targets_left_out() {
    let text = hours(60).replace(",30,300", ",?,?").replace(",5,50", ",,50");
    let loaded = load_with(&text, by_hour, |o| {
        o.normalize = backprop_data::Normalise::None;
        o.target = Some("b");
    })
    .unwrap();
    let said = loaded.findings.join("\n");
    assert!(said.contains("3 missing values are replaced by the one before"), "{said}");
    assert!(said.contains("1 windows are left out because their target is missing"), "{said}");
    let windows = rows(loaded.parts.train.as_ref(), 0, &loaded.scale);
    assert_eq!(windows[4][..4], [4.0, 40.0, 4.0, 50.0]);
    assert!(rows(loaded.parts.train.as_ref(), 1, &Scale::identity()).iter().all(|t| t[0].is_finite()));
}

#[test]
fn order_and_gaps_of_time_are_looked_at() {
    let text = hours(60);
    let mut lines: Vec<&str> = text.lines().collect();
    lines.swap(10, 20);
    let swapped = lines.join("\n");
    let error = load_with(&swapped, by_hour, |_| {}).err().unwrap().to_string();
    assert!(error.contains("line 12: the time in the column \"time\" lies before that of line 11; sort the file"), "{error}");
    let sort = |f: &mut SeriesFiles| {
        by_hour(f);
        f.sort = true;
    };
    let sorted = load_with(&swapped, sort, |_| {}).unwrap();
    let plain = load_with(&text, by_hour, |_| {}).unwrap();
    assert_eq!(rows(sorted.parts.train.as_ref(), 0, &sorted.scale), rows(plain.parts.train.as_ref(), 0, &plain.scale));
    lines.swap(10, 20);
    lines.drain(30..34);
    let gap = load_with(&lines.join("\n"), by_hour, |_| {}).unwrap();
    assert!(gap.findings.iter().any(|f| f.starts_with("1 gaps in time, the widest of 5 usual steps")), "{:?}", gap.findings);
    let twice = format!("{text}{}\n", lines.last().unwrap());
    let error = load_with(&twice, by_hour, |_| {}).err().unwrap().to_string();
    assert!(error.contains("line 62: the time in the column \"time\" is that of line 61"), "{error}");
}

#[test]
fn windows_must_fit_into_every_part() {
    let error = load_with(&hours(20), by_hour, |_| {}).err().unwrap();
    assert_eq!(error.key, "window");
    assert!(error.to_string().contains("no window of 4 rows and 1 ahead fits into the validation part of 20 rows"), "{error}");
    let log = load_with(&hours(60), by_hour, |o| o.normalize_target = NormaliseTarget::Log).err().unwrap();
    assert_eq!(log.key, "normalize_target");
}
