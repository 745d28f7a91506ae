//! Trained models in use: the same bits from training's data, after saving and loading, in any batch, on any number of threads.

use backprop::{
    config::Config,
    core::{Isa, exec::native::Native},
    data::{
        BatchType, Scale,
        coding::{RawInput, TargetCoding},
    },
    model::{Generate, Model, ModelError, Outcome, Predictions},
    run::Run,
    train::{Part, Trainer},
};
use std::{fs, path::Path, sync::Arc, thread};

const CLASSES: &str = r#"
data = { source = "clusters", rows = 300, features = 6, classes = 3 }
layers = [
    { type = "linear", out_features = 33 }, { type = "batch_norm" }, { type = "gelu" },
    { type = "dropout", p = 0.2 }, { type = "layer_norm" }, { type = "linear", out_features = 3 },
]
loss = { type = "cross_entropy" }
optimizer = { type = "adamw", learning_rate = 0.02 }
train = { epochs = 3, batch_size = 24 }
"#;

const TEXT: &str = r#"
data = { source = "shakespeare", sequence = 16, stride = 400 }
layers = [
    { type = "embedding", num_embeddings = 65, embedding_dim = 8 }, { type = "lstm", hidden_size = 12 },
    { type = "linear", out_features = 65 },
]
loss = { type = "cross_entropy" }
optimizer = { type = "adam", learning_rate = 0.01 }
train = { epochs = 1, batch_size = 32 }
"#;

/// Trains in a folder of its own.
fn trained(text: &str) -> (tempfile::TempDir, Run, Config) {
    let place = tempfile::tempdir().unwrap();
    let config = Config::parse("test", text, Path::new(""), &[]).unwrap_or_else(|e| panic!("{e}"));
    let run = Run::create(&place.path().join("run"), &config).unwrap();
    let backend = Native::new(2, Isa::detect());
    Trainer::new(config.clone(), &backend).unwrap().train(Some(&run), &mut |_| {}).unwrap();
    (place, run, config)
}

fn points(rows: usize) -> Vec<f32> {
    (0..rows * 6).map(|i| ((i * 37 % 101) as f32 - 50.0) / 20.0).collect()
}

fn bits(predictions: &Predictions) -> Vec<u32> {
    (0..predictions.len()).flat_map(|row| predictions.row(row).iter().map(|v| v.to_bits())).collect()
}

#[test]
fn a_row_has_the_same_bits_in_every_batch() {
    let (_place, run, _) = trained(CLASSES);
    let model = Model::load(run.folder()).unwrap();
    let values = points(300);
    let all = model.predict(&RawInput::Numbers(&values)).unwrap();
    assert_eq!(all.len(), 300);
    for (row, sample) in values.chunks(6).enumerate().step_by(17) {
        let alone = model.predict(&RawInput::Numbers(sample)).unwrap();
        let same = alone.row(0).iter().map(|v| v.to_bits()).eq(all.row(row).iter().map(|v| v.to_bits()));
        assert!(same, "row {row} alone: {:?}, among 300: {:?}", alone.row(0), all.row(row));
    }
    for rows in [2, 3, 5, 31, 257] {
        let some = model.predict(&RawInput::Numbers(&values[..rows * 6])).unwrap();
        assert_eq!(bits(&some), bits(&all)[..rows * 3], "{rows} rows");
    }
    let total: f32 = all.row(0).iter().sum();
    assert!((total - 1.0).abs() < 1e-6, "probabilities sum to {total}");
}

#[test]
fn eight_threads_predict_at_once() {
    let (_place, run, _) = trained(CLASSES);
    let values = points(100);
    let alone = bits(&Model::load(run.folder()).unwrap().predict(&RawInput::Numbers(&values)).unwrap());
    let shared = Model::load(run.folder()).unwrap().on(Arc::new(Native::new(3, Isa::detect())));
    thread::scope(|scope| {
        for thread in 0..8 {
            let (shared, alone, values) = (&shared, &alone, &values);
            scope.spawn(move || {
                for turn in 0..10 {
                    let (first, rows) = ((thread * 7 + turn) % 50, 1 + (thread + turn) % 50);
                    let part = shared.predict(&RawInput::Numbers(&values[first * 6..(first + rows) * 6])).unwrap();
                    assert_eq!(bits(&part), alone[first * 3..(first + rows) * 3], "thread {thread}, turn {turn}");
                }
            });
        }
    });
}

/// A model in use sees what training saw: its accuracy over the test part is the one that evaluation measures.
#[test]
fn predictions_are_those_of_evaluation() {
    let (_place, run, config) = trained(CLASSES);
    let backend = Native::new(1, Isa::detect());
    let mut trainer = Trainer::new(config.clone(), &backend).unwrap();
    trainer.load_weights(&run).unwrap();
    let score = trainer.evaluate(Part::Test).unwrap().unwrap();

    let parts = config.data.source.parts(Path::new("")).unwrap();
    let test = parts.test.unwrap();
    let rows: Vec<usize> = (0..test.len()).collect();
    let (mut values, mut labels) = (vec![0.0; rows.len() * 6], vec![0; rows.len()]);
    assert_eq!(test.columns()[0].kind.batch_type(), BatchType::F32);
    test.fill_f32(0, &rows, &Scale::identity(), &mut values).unwrap();
    test.fill_i32(1, &rows, &mut labels).unwrap();
    let predictions = Model::load(run.folder()).unwrap().predict(&RawInput::Numbers(&values)).unwrap();
    let hits = labels.iter().enumerate().filter(|(row, label)| predictions.label(*row) == label.to_string()).count();
    assert!(score.metric > 0.8, "{score:?}");
    assert_eq!(hits as f64 / rows.len() as f64, score.metric);
}

/// The weights in memory at the end of training and those that were written and read again.
#[test]
fn saving_and_loading_changes_no_bit() {
    let place = tempfile::tempdir().unwrap();
    let config = Config::parse("test", CLASSES, Path::new(""), &[]).unwrap();
    let (run, backend) = (Run::create(&place.path().join("run"), &config).unwrap(), Native::new(2, Isa::detect()));
    let mut trainer = Trainer::new(config, &backend).unwrap();
    trainer.train(Some(&run), &mut |_| {}).unwrap();
    let in_memory = trainer.model().unwrap();
    let values = points(33);
    let [before, after] =
        [in_memory, Model::load(run.folder()).unwrap()].map(|m| bits(&m.predict(&RawInput::Numbers(&values)).unwrap()));
    assert_eq!(before, after);
}

/// Without the file that later programs write, the data say how raw input is read.
#[test]
fn runs_without_a_stored_coding_and_interrupted_runs_can_be_used() {
    let (_place, run, _) = trained(CLASSES);
    let values = points(4);
    let whole = bits(&Model::load(run.folder()).unwrap().predict(&RawInput::Numbers(&values)).unwrap());
    fs::remove_file(run.folder().join("preprocessing.json")).unwrap();
    assert_eq!(bits(&Model::load(run.folder()).unwrap().predict(&RawInput::Numbers(&values)).unwrap()), whole);
    fs::remove_file(run.weights_file()).unwrap();
    // The last checkpoint has the same best weights.
    assert_eq!(bits(&Model::load(run.folder()).unwrap().predict(&RawInput::Numbers(&values)).unwrap()), whole);
    fs::remove_dir_all(run.folder().join("checkpoints")).unwrap();
    assert!(Model::load(run.folder()).is_err());
}

#[test]
fn text_goes_on_the_same_for_the_same_seed() {
    let (_place, run, _) = trained(TEXT);
    let model = Model::load(run.folder()).unwrap();
    let text = |options: Generate| {
        let mut text = String::new();
        let mut hear = |piece: &str| {
            text.push_str(piece);
            true
        };
        model.generate("To be, or not to be, that", &options, &mut hear).unwrap();
        text
    };
    let options = Generate { length: 40, seed: 3, ..Generate::default() };
    assert_eq!(text(options).chars().count(), 40);
    assert_eq!(text(options), text(options));
    assert_ne!(text(options), text(Generate { seed: 4, ..options }));
    // The likeliest token is that of the distribution that predict gives for the same text.
    let greedy = text(Generate { length: 1, temperature: 0.0, ..options });
    let next = model.predict(&RawInput::Texts(&[" or not to be, that"[3..].to_owned()])).unwrap();
    assert_eq!(greedy, next.label(0));
    let Outcome::Classes { classes, .. } = &next.outcome else { panic!("{:?}", next.outcome) };
    assert!(matches!(&model.coding().target, TargetCoding::Token { .. }) && classes.len() == 65);
}

#[test]
fn misuse_is_said() {
    let (_place, run, _) = trained(CLASSES);
    let model = Model::load(run.folder()).unwrap();
    let said = |result: Result<Predictions, ModelError>| result.unwrap_err().to_string();
    assert!(said(model.predict(&RawInput::Numbers(&[1.0; 7]))).contains("7"));
    assert!(said(model.predict(&RawInput::Numbers(&[]))).contains("nothing to predict"));
    assert!(said(model.predict(&RawInput::Texts(&["a".into()]))).contains("text"));
    let generated = model.generate("a", &Generate::default(), &mut |_| true);
    assert!(generated.unwrap_err().to_string().contains("use predict"));
}
