//! From a network in Rust to a model in use: configuration, training with a callback that stops it, the run's folder, predictions.

use backprop::{
    config::Config,
    core::{Isa, exec::native::Native},
    data::{Source, coding::RawInput},
    events::Event,
    model::Model,
    prelude::*,
    run::Run,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let network = Sequential::new().push(Flatten::new()).push(Linear::new(64)).push(Relu::new()).push(Linear::new(10));
    let mut config = Config::new(Source::Digits {}, network, CrossEntropy::new(), AdamW::new(3e-3));
    (config.train.epochs, config.train.batch_size, config.train.seed) = (30, 32, 7);
    // The same run as a file for `backprop train`, and back.
    let again = Config::parse("digits.toml", &config.to_toml()?, "".as_ref(), &[])?;
    assert_eq!(again.to_toml()?, config.to_toml()?);

    let place = tempfile::tempdir()?;
    let run = Run::create(&place.path().join("digits"), &config)?;
    let backend = Native::new(2, Isa::detect());
    let mut callback = |event: &Event| match event {
        Event::Epoch(epoch) => {
            let accuracy = epoch.validation.as_ref().map_or(0.0, |score| score.metric);
            println!("epoch {:>2}: validation accuracy {accuracy:.3}", epoch.epoch);
            if accuracy >= 0.97 { Flow::Stop } else { Flow::Continue }
        }
        _ => Flow::Continue,
    };
    match Trainer::new(config, &backend)?.train(Some(&run), &mut callback) {
        Err(TrainError::Stopped(stopped)) => println!("good enough after {} steps", stopped.step),
        other => drop(other?),
    }

    let model = Model::load(run.folder())?;
    // Grey values from 0 to 16: a stroke from top to bottom.
    let one: Vec<f32> = (0..64).map(|i| if matches!(i % 8, 3 | 4) { 16.0 } else { 0.0 }).collect();
    let predictions = model.predict(&RawInput::Numbers(&one))?;
    println!("a stroke is a {} ({:.0} %)", predictions.label(0), 100.0 * predictions.confidence(0));
    assert_eq!(predictions.label(0), "1");
    Ok(())
}
