//! Losses that read targets as counts or probabilities: they see them as they are, and metrics and predictions are of the same kind.

use backprop::{
    config::{Config, ConfigError},
    core::{Isa, exec::native::Native},
    data::coding::RawInput,
    train::{TrainError, Trainer},
};
use std::fs;

/// A table of 200 rows whose target is a function of the first column, which goes from 0 to 1.
fn table(target: impl Fn(f64) -> f64) -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    let row = |i: usize| {
        let x = (i * 37 % 200) as f64 / 199.0;
        format!("{x:.4},{:.4}\n", target(x))
    };
    let rows: String = (0..200).map(row).collect();
    fs::write(place.path().join("table.csv"), format!("x,y\n{rows}")).unwrap();
    place
}

fn config(place: &tempfile::TempDir, loss: &str, data: &str) -> Result<Config, ConfigError> {
    let text = format!(
        "[data]\nsource = \"csv\"\npath = \"table.csv\"\ntask = \"regression\"\n{data}\n[[layers]]\ntype = \"linear\"\nout_features = 8\n\
         [[layers]]\ntype = \"tanh\"\n[[layers]]\ntype = \"linear\"\nout_features = 1\n[loss]\ntype = \"{loss}\"\n\
         [optimizer]\ntype = \"adam\"\nlearning_rate = 0.03\n[train]\nepochs = 60\nbatch_size = 16\n"
    );
    Config::parse("model.toml", &text, place.path(), &[])
}

/// Mean absolute error on the test part, and predictions at x = 0 and x = 1.
fn trained(loss: &str, target: impl Fn(f64) -> f64) -> (f64, [f32; 2]) {
    let place = table(target);
    let backend = Native::new(1, Isa::detect());
    let mut trainer = Trainer::new(config(&place, loss, "").unwrap(), &backend).unwrap();
    let summary = trainer.train(None, &mut |_| {}).unwrap();
    let said = trainer.model().unwrap().predict(&RawInput::Bytes("request", b"x\n0\n1\n")).unwrap();
    (summary.scores["test_mae"], [said.row(0)[0], said.row(1)[0]])
}

#[test]
fn counts_are_not_scaled() {
    let (mae, [low, high]) = trained("poisson_nll", |x| (0.2 + 9.0 * x).round());
    assert!(mae < 0.5, "counts from 0 to 9 are missed by {mae}");
    assert!((0.0..1.5).contains(&low) && (7.5..10.5).contains(&high), "{low} {high}");
}

#[test]
fn probabilities_are_compared_with_probabilities() {
    let (mae, [low, high]) = trained("bce_with_logits", |x| 0.1 + 0.8 * x);
    assert!(mae < 0.05, "probabilities are missed by {mae}");
    assert!((low - 0.1).abs() < 0.06 && (high - 0.9).abs() < 0.06, "{low} {high}");
}

#[test]
fn scaling_such_targets_is_refused() {
    let place = table(|x| x);
    let backend = Native::new(1, Isa::detect());
    for loss in ["poisson_nll", "bce_with_logits", "kl_div"] {
        for how in ["standard", "log"] {
            let config = config(&place, loss, &format!("normalize_target = \"{how}\"")).unwrap();
            match Trainer::new(config, &backend).map(drop) {
                Err(TrainError::Config(error)) => assert!(error.to_string().contains("normalize_target"), "{error}"),
                other => panic!("{loss} with {how}: {other:?}"),
            }
        }
        let plain = config(&place, loss, "normalize_target = \"none\"").unwrap();
        Trainer::new(plain, &backend).unwrap_or_else(|e| panic!("{loss}: {e}"));
    }
    let squares = config(&place, "mse", "normalize_target = \"standard\"").unwrap();
    Trainer::new(squares, &backend).unwrap();
}
