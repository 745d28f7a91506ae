//! Tables in CSV files.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use backprop_data::coding::{InputCoding, RawInput, SampleValues, TableCoding, TargetCoding, Truth};
use backprop_data::table::{Categories, ColumnType, CsvFiles, Holds, TableTask};
use backprop_data::{Dataset, Kind, LoadError, LoadOptions, Loaded, NormaliseTarget, Scale, Stream};

fn load_with(
    text: impl AsRef<[u8]>,
    set: impl Fn(&mut CsvFiles),
    options: impl Fn(&mut LoadOptions),
) -> Result<Loaded, LoadError> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("t.csv"), text).unwrap();
    load_in(folder.path(), set, options)
}

fn load_in(folder: &Path, set: impl Fn(&mut CsvFiles), options: impl Fn(&mut LoadOptions)) -> Result<Loaded, LoadError> {
    let mut files = CsvFiles::new("t.csv");
    set(&mut files);
    let mut with = LoadOptions::new(folder);
    options(&mut with);
    files.load(&with)
}

fn load(text: impl AsRef<[u8]>) -> Loaded {
    load_with(text, |_| {}, |_| {}).unwrap_or_else(|e| panic!("{}: {e}", e.key))
}

fn coding(loaded: &Loaded) -> &TableCoding {
    let InputCoding::Table(coding) = &loaded.coding.input else { panic!("no table") };
    coding
}

/// All values of a column of a part.
fn numbers(data: &dyn Dataset, column: usize, scale: &Scale) -> Vec<f32> {
    let rows: Vec<usize> = (0..data.len()).collect();
    let mut out = vec![0.0; rows.len() * data.columns()[column].elements()];
    data.fill_f32(column, &rows, scale, &mut out).unwrap();
    out
}

fn labels(data: &dyn Dataset) -> Vec<i32> {
    let rows: Vec<usize> = (0..data.len()).collect();
    let mut out = vec![0; rows.len()];
    data.fill_i32(1, &rows, &mut out).unwrap();
    out
}

/// 60 rows with columns of many kinds.
fn people() -> String {
    let mut text = String::from("id,age,town,member,joined,note,size,income\n");
    for i in 0..60 {
        let town = ["Ulm", "Bonn", "Kiel"][i % 3];
        let age = if i % 10 == 9 { "NA".into() } else { (20 + i * 7 % 40).to_string() };
        let member = ["yes", "no"][i % 2];
        let (month, day) = (1 + i % 12, 1 + i % 28);
        writeln!(text, "{i},{age},{town},{member},2013-{month:02}-{day:02},note number {i} here,7,{}", 1000.5 + i as f64)
            .unwrap();
    }
    text
}

#[test]
fn columns_become_numbers_by_their_type() {
    let loaded = load(people());
    let names = coding(&loaded).names();
    assert_eq!(
        names,
        [
            "age",
            "age.missing",
            "town=Bonn",
            "town=Kiel",
            "town=Ulm",
            "member",
            "joined",
            "joined.year_sin",
            "joined.year_cos",
            "joined.week_sin",
            "joined.week_cos"
        ]
    );
    let said = loaded.findings.join("\n");
    for part in [
        "\"id\" is left out",
        "\"note\" is left out",
        "\"size\" is left out: it is the same in every row",
        "\"income\" is a quantity",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let data = &loaded.parts.train;
    assert_eq!(
        (data.len(), loaded.parts.validation.as_ref().unwrap().len(), loaded.parts.test.as_ref().unwrap().len()),
        (43, 5, 12)
    );
    // Scaled by the training part alone: mean 0 and deviation 1 there.
    let values = numbers(data.as_ref(), 0, &loaded.scale);
    let ages: Vec<f64> = values.chunks(11).map(|row| f64::from(row[0])).collect();
    assert!((ages.iter().sum::<f64>()).abs() < 1e-4);
    let present: Vec<f64> = values.chunks(11).filter(|row| row[1] == 0.0).map(|row| f64::from(row[0])).collect();
    let variance = present.iter().map(|a| a * a).sum::<f64>() / present.len() as f64;
    assert!((variance - 1.0).abs() < 1e-4, "{variance}");
    // A missing age is the mean, and said to be missing.
    assert!(values.chunks(11).any(|row| row[1] == 1.0) && values.chunks(11).all(|row| row[1] == 0.0 || row[0].abs() < 1e-4));
    assert!(values.chunks(11).all(|row| row[2] + row[3] + row[4] == 1.0));
    let targets = numbers(data.as_ref(), 1, &loaded.target_scale);
    assert!((targets.iter().sum::<f32>() / 43.0).abs() < 1e-4);
}

#[test]
fn statistics_come_from_the_training_part_alone() {
    let mut text = String::from("part,x,c,y\n");
    for i in 0..20 {
        writeln!(text, "train,{i},a,{}", i * 2).unwrap();
    }
    for _ in 0..5 {
        text.push_str("validation,1000000,b,5\ntest,-7000000,,6\n");
    }
    let loaded = load_with(&text, |f| f.split_column = Some("part".into()), |o| o.validation = 0.5).unwrap();
    assert_eq!(coding(&loaded).names(), ["x", "c=a"]);
    let train = numbers(loaded.parts.train.as_ref(), 0, &loaded.scale);
    assert_eq!(train.len(), 40);
    assert!((train.iter().step_by(2).sum::<f32>()).abs() < 1e-5);
    let validation = numbers(loaded.parts.validation.unwrap().as_ref(), 0, &loaded.scale);
    // A category that training has not seen is none of those it has.
    assert_eq!((validation.len(), validation[1]), (10, 0.0));
    assert_eq!(loaded.target_scale.shift(), [19.0]);
}

#[test]
fn prediction_sees_the_bits_of_training() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("t.csv"), people()).unwrap();
    let loaded = load_in(folder.path(), |f| f.test = 0.0, |o| o.validation = 0.0).unwrap();
    // The coding goes through its stored form, as a model does.
    let stored = serde_json::to_string(&loaded.coding).unwrap();
    let restored: backprop_data::coding::Coding = serde_json::from_str(&stored).unwrap();
    assert_eq!(restored, loaded.coding);
    // The same table with its columns the other way round, separated by tabs, with a further column.
    let turned: String = people()
        .lines()
        .map(|l| {
            let mut fields: Vec<&str> = l.split(',').collect();
            fields.reverse();
            format!("extra\t{}\r\n", fields.join("\t"))
        })
        .collect();
    let samples = restored.input.encode(&RawInput::Bytes("turned", turned.as_bytes())).unwrap();
    let SampleValues::F32(values) = &samples.values else { panic!() };
    let trained = numbers(loaded.parts.train.as_ref(), 0, &loaded.scale);
    assert_eq!(values.iter().map(|v| v.to_bits()).collect::<Vec<_>>(), trained.iter().map(|v| v.to_bits()).collect::<Vec<_>>());
    assert_eq!((samples.rows(), samples.names[0].as_str()), (60, "turned:2"));
    let Some(Truth::Numbers { outputs: 1, values }) = samples.truth else { panic!("no truth") };
    assert_eq!(values[1], 1001.5);
    // Without the target; with a column missing.
    let without: String = people().lines().map(|l| format!("{}\n", l.rsplit_once(',').unwrap().0)).collect();
    assert_eq!(restored.input.encode(&RawInput::Bytes("w", without.as_bytes())).unwrap().truth, None);
    let error = restored.input.encode(&RawInput::Bytes("w", b"age,town\n1,Ulm\n")).unwrap_err().to_string();
    assert_eq!(error, "w has no column \"member\"; it has age, town");
}

#[test]
fn streamed_rows_are_those_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("t.csv"), people()).unwrap();
    for target in ["income", "town", "age,income"] {
        let both = [false, true]
            .map(|stream| load_in(folder.path(), |f| f.stream = Stream::Set(stream), |o| o.target = Some(target)).unwrap());
        assert!(both[0].parts.train.in_memory() && !both[1].parts.train.in_memory());
        assert_eq!(both[0].coding, both[1].coding);
        let parts =
            |l: &Loaded| [Some(l.parts.train.clone()), l.parts.validation.clone(), l.parts.test.clone()].map(Option::unwrap);
        for (memory, disk) in parts(&both[0]).iter().zip(&parts(&both[1])) {
            assert_eq!(numbers(memory.as_ref(), 0, &both[0].scale), numbers(disk.as_ref(), 0, &both[1].scale));
            match memory.columns()[1].kind {
                Kind::Number => {
                    let scale = &both[0].target_scale;
                    assert_eq!(numbers(memory.as_ref(), 1, scale), numbers(disk.as_ref(), 1, scale));
                }
                _ => assert_eq!(labels(memory.as_ref()), labels(disk.as_ref())),
            }
        }
    }
}

#[test]
fn odd_files_are_read() {
    let rows = |from: usize| (from..from + 30).map(|i| format!("{},5;x{};{},25\r\n", i, i % 3, i * 3)).collect::<String>();
    let excel = format!("\u{feff}Länge;Art;Preis\r\n{}", rows(0));
    let loaded = load(&excel);
    assert_eq!(coding(&loaded).names(), ["Länge", "Art=x0", "Art=x1", "Art=x2"]);
    assert!(
        loaded.findings[0].ends_with("30 rows, 3 columns separated by ';', decimals after a comma"),
        "{}",
        loaded.findings[0]
    );
    let values = numbers(loaded.parts.train.as_ref(), 1, &Scale::identity());
    assert!(values.iter().all(|v| v.fract() == 0.25));
    // Without a header; quoted fields with delimiters and lines in them.
    let loaded = load(rows(0));
    assert_eq!(coding(&loaded).names()[0], "column1");
    let quoted: String = (0..30).map(|i| format!("\"{i}\",\"a, \"\"b\"\"\nc{}\",{}\n", i % 2, i * i)).collect();
    let loaded = load(format!("x,w,y\n{quoted}"));
    assert_eq!(coding(&loaded).names(), ["x", "w=a, \"b\"\nc0", "w=a, \"b\"\nc1"]);
    // Doubled and empty names, a column of nothing, one that is constant.
    let plain: String = (0..30).map(|i| format!("{i},{},,1,,{}\n", i % 7, i * i)).collect();
    let loaded = load(format!("a,a,,one,void,y\n{plain}"));
    assert_eq!(coding(&loaded).names(), ["a", "a.1"]);
    assert!(loaded.findings.iter().any(|f| f.contains("\"void\" is left out: it is missing in every row")));
}

#[test]
fn gzipped_files_and_patterns_are_one_table() {
    use std::io::Write as _;
    let folder = tempfile::tempdir().unwrap();
    let half = |range: std::ops::Range<usize>| range.map(|i| format!("{i},{}\n", i * 2)).collect::<String>();
    fs::write(folder.path().join("t.csv"), format!("x,y\n{}", half(0..40))).unwrap();
    fs::write(folder.path().join("part-1.csv"), format!("x,y\n{}", half(0..20))).unwrap();
    // The columns of the second stand the other way round.
    let second: String = (20..40).map(|i| format!("{},{i}\n", i * 2)).collect();
    let file = fs::File::create(folder.path().join("part-2.csv")).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(file, flate2::Compression::default());
    gzip.write_all(format!("y,x\n{second}").as_bytes()).unwrap();
    gzip.finish().unwrap();
    let whole = load_in(folder.path(), |_| {}, |_| {}).unwrap();
    let parts = load_in(folder.path(), |f| f.path = "part-*.csv".into(), |_| {}).unwrap();
    assert_eq!(whole.coding, parts.coding);
    assert_eq!(numbers(whole.parts.train.as_ref(), 0, &whole.scale), numbers(parts.parts.train.as_ref(), 0, &parts.scale));
    let tested = load_in(folder.path(), |f| f.test_path = Some("part-1.csv".into()), |_| {}).unwrap();
    assert_eq!((tested.parts.train.len(), tested.parts.test.unwrap().len()), (36, 20));
}

#[test]
fn targets_are_classes_or_quantities() {
    let classes = |loaded: &Loaded| match &loaded.coding.target {
        TargetCoding::Class { classes, .. } => classes.clone(),
        _ => Vec::new(),
    };
    let with = |column: &dyn Fn(usize) -> String| {
        let rows: String = (0..100).map(|i| format!("{},{}\n", i * 37 % 11, column(i))).collect();
        format!("x,y\n{rows}")
    };
    assert_eq!(classes(&load(with(&|i| ["no", "yes"][i % 2].into()))), ["no", "yes"]);
    assert_eq!(classes(&load(with(&|i| (i % 12).to_string()))), (0..12).map(|i| i.to_string()).collect::<Vec<_>>());
    assert!(classes(&load(with(&|i| (i % 12 * 10).to_string()))).is_empty());
    assert!(classes(&load(with(&|i| (i as f64 / 7.0).to_string()))).is_empty());
    let regression = load_with(with(&|i| (i % 5).to_string()), |f| f.task = TableTask::Regression, |_| {}).unwrap();
    assert!(classes(&regression).is_empty());
    let classification = load_with(with(&|i| (i % 4 * 10).to_string()), |f| f.task = TableTask::Classification, |_| {}).unwrap();
    assert_eq!(classes(&classification), ["0", "10", "20", "30"]);
    // A class with three rows keeps its share of training, and one with a single row is told of.
    let rare = load(with(&|i| {
        if i < 3 {
            "rare"
        } else if i == 3 {
            "single"
        } else {
            "common"
        }
        .into()
    }));
    assert_eq!(classes(&rare), ["common", "rare", "single"]);
    assert!(labels(rare.parts.train.as_ref()).contains(&2));
    assert!(rare.findings.iter().any(|f| f.contains("single")), "{:?}", rare.findings);
}

#[test]
fn rows_without_a_target_are_left_out_and_counted() {
    let rows: String = (0..40).map(|i| format!("{i},{}\n", if i % 4 == 0 { "?".into() } else { i.to_string() })).collect();
    let loaded = load_with(format!("x,y\n{rows}"), |f| f.test = 0.0, |o| o.validation = 0.0).unwrap();
    assert_eq!(loaded.parts.train.len(), 30);
    assert!(loaded.findings.iter().any(|f| f == "10 rows are left out because the target is missing"), "{:?}", loaded.findings);
}

#[test]
fn logarithms_are_stored_and_undone() {
    let rows: String = (1..40).map(|i| format!("{i},{}\n", i * i)).collect();
    let log = |o: &mut LoadOptions| {
        o.normalize_target = NormaliseTarget::Log;
        o.validation = 0.0;
    };
    let loaded = load_with(format!("x,y\n{rows}"), |f| f.test = 0.0, log).unwrap();
    let mut seen = numbers(loaded.parts.train.as_ref(), 1, &loaded.target_scale);
    loaded.coding.target.decode(&mut seen);
    for (i, v) in seen.iter().enumerate() {
        let exact = ((i + 1) * (i + 1)) as f32;
        assert!((v - exact).abs() < 1e-4 * exact, "{v} {exact}");
    }
    let error = load_with(format!("x,y\n{rows}7,-2\n"), |_| {}, log).err().unwrap();
    assert!(error.to_string().contains("line 41, column") || error.to_string().contains("line 41: the target"), "{error}");
}

#[test]
fn codes_stand_first_and_zero_is_unknown() {
    let rows: String = (0..60).map(|i| format!("{},{i}.5,u{},i{},{}\n", i % 2, i % 5, i % 7, i % 9)).collect();
    let text = format!("b,x,user,item,rating\n{rows}");
    let codes = |f: &mut CsvFiles| {
        f.categories = Categories::Codes;
        f.task = TableTask::Regression;
        f.types.insert("b".into(), ColumnType::OneHot);
    };
    let loaded = load_with(&text, codes, |_| {}).unwrap();
    let coding = coding(&loaded);
    assert_eq!((coding.names(), coding.codes()), (["user", "item", "b=0", "b=1", "x"].map(String::from).to_vec(), vec![6, 8]));
    let new = coding.encode(&RawInput::Bytes("n", b"item,user,x,b\ni3,u9,0.5,1\n")).unwrap();
    let SampleValues::F32(values) = new.values else { panic!() };
    assert_eq!(values[..4], [0.0, 4.0, 0.0, 1.0]);
}

#[test]
fn the_latest_rows_are_the_test_part() {
    let rows: String = (0..50).rev().map(|i| format!("{:02}.{:02}.2020,{i},{i}\n", 1 + i % 25, 1 + i / 25)).collect();
    let loaded = load_with(
        format!("when,x,y\n{rows}"),
        |f| f.split_by = Some("when".into()),
        |o| o.normalize_target = NormaliseTarget::None,
    )
    .unwrap();
    let targets = |d: &dyn Dataset| numbers(d, 1, &Scale::identity());
    let mut test = targets(loaded.parts.test.unwrap().as_ref());
    test.sort_by(f32::total_cmp);
    assert_eq!(test, (40..50).map(|v| v as f32).collect::<Vec<_>>());
    let mut validation = targets(loaded.parts.validation.unwrap().as_ref());
    validation.sort_by(f32::total_cmp);
    assert_eq!(validation, [36.0, 37.0, 38.0, 39.0]);
}

#[test]
fn rare_categories_share_a_number() {
    let rows: String = (0..400).map(|i| format!("z{},{i}\n", if i < 200 { i % 20 } else { i % 100 })).collect();
    let text = format!("zip,y\n{rows}");
    let loaded = load(&text);
    let coding_of = coding(&loaded);
    assert_eq!(coding_of.width(), 64);
    assert_eq!(coding_of.names().last().unwrap(), "zip.other");
    assert!(loaded.findings.iter().any(|f| f.contains("the 63 most frequent are told apart")), "{:?}", loaded.findings);
    let all = load_with(&text, |f| f.categories = Categories::OneHot, |_| {}).unwrap();
    assert!(coding(&all).width() > 64);
}

#[test]
fn an_autoencoder_reads_its_target() {
    let rows: String = (0..40).map(|i| format!("{i},{}\n", i * 2)).collect();
    let loaded = load_with(format!("x,y\n{rows}"), |_| {}, |o| o.target = Some("input")).unwrap();
    assert_eq!((loaded.input, loaded.target, &loaded.coding.target), (0, 0, &TargetCoding::Input));
    assert_eq!(coding(&loaded).names(), ["x", "y"]);
}

#[test]
fn profiles_say_what_columns_hold() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("t.csv"), people()).unwrap();
    let profile = CsvFiles::new("t.csv").profile(&LoadOptions::new(folder.path())).unwrap();
    let holds: Vec<Holds> = profile.columns.iter().map(|c| c.holds).collect();
    use Holds::{Boolean, Category, Constant, Date, Identifier, Number, Text};
    assert_eq!(holds, [Identifier, Number, Category, Boolean, Date, Text, Constant, Number]);
    assert_eq!((profile.rows, profile.target, profile.columns[1].missing, profile.columns[2].distinct), (60, 7, 6, 3));
    assert!(profile.classes.is_none());
}

/// Bytes that mean something in a CSV file, and some that do not.
fn bytes_of_csv() -> impl proptest::strategy::Strategy<Value = Vec<(usize, u8)>> {
    use proptest::prelude::*;
    let byte = prop_oneof![proptest::sample::select(b"\",;\t|\r\n.-0 \0NaN\xff\xef\xbb\xbf".to_vec()), any::<u8>()];
    proptest::collection::vec((0_usize..4000, byte), 0..12)
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 200, ..Default::default() })]

    #[test]
    fn mutated_files_give_an_error_or_data(changes in bytes_of_csv(), cut in 0_usize..4000, codes: bool) {
        let mut bytes = people().into_bytes();
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        bytes.truncate(cut.max(1));
        let set = |f: &mut CsvFiles| if codes { f.categories = Categories::Codes };
        if let Ok(loaded) = load_with(&bytes, set, |_| {}) {
            let values = numbers(loaded.parts.train.as_ref(), 0, &loaded.scale);
            proptest::prop_assert!(values.iter().all(|v| v.is_finite()));
            // What could be trained on can be predicted from, up to rows that training leaves out.
            proptest::prop_assert!(loaded.coding.input.encode(&RawInput::Bytes("again", &bytes)).is_ok());
        }
        // The coding of the whole file meets the damaged one.
        let _ = load(people()).coding.input.encode(&RawInput::Bytes("other", &bytes));
    }
}
