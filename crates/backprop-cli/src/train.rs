//! `backprop train`.

use crate::{args::TrainOptions, device::Wanted, failure::Failure, signals::Signals, view};
use backprop::{
    config::Config,
    run::Run,
    train::{StopReason, TrainError, Trainer},
};
use std::path::Path;

/// What is trained when no configuration is given.
const DEFAULT: (&str, &str) = ("cnn-fashion", include_str!("../../../models/cnn-fashion.toml"));

/// The configuration in a file, or the default one; and the name of the model.
pub(crate) fn configuration(file: Option<&Path>, overrides: &[String]) -> Result<(Config, String), Failure> {
    match file {
        Some(file) => {
            let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            Ok((Config::load(file, overrides)?, name))
        }
        None => {
            let name = format!("{}.toml (built in)", DEFAULT.0);
            Ok((Config::parse(&name, DEFAULT.1, Path::new(""), overrides)?, DEFAULT.0.into()))
        }
    }
}

pub(crate) fn run(options: &TrainOptions) -> Result<(), Failure> {
    let signals = Signals::watch()?;
    let (existing, config, name) = match &options.resume {
        Some(folder) => {
            let (run, config) = Run::open_with(folder, &options.set.set)?;
            (Some(run), config, String::new())
        }
        None => {
            let mut overrides = options.set.set.clone();
            overrides.extend(options.seed.map(|seed| format!("train.seed={seed}")));
            let (config, name) = configuration(options.config.as_deref(), &overrides)?;
            (None, config, name)
        }
    };
    let wanted = Wanted::for_training(&options.device, &config.train);
    let backend = wanted.backend()?;
    let mut trainer = Trainer::new(config, &*backend)?;
    if let Some(time) = options.max_time {
        trainer.limit_time(time);
    }
    let run = match existing {
        Some(run) => {
            trainer.resume(&run)?;
            if !options.set.set.is_empty() {
                run.keep(trainer.config())?;
            }
            signals.ask(trainer.stop_handle());
            run
        }
        None => {
            // The folder is made only now: a network that fits neither its data nor the machine leaves none behind.
            trainer.prepare()?;
            signals.ask(trainer.stop_handle());
            match &options.out {
                Some(folder) => Run::create(folder, trainer.config())?,
                None => Run::create_next(Path::new("runs"), &name, trainer.config())?,
            }
        }
    };
    let mut view = view::choose(options.json);
    match trainer.train(Some(&run), &mut |event| view.show(event)) {
        Err(TrainError::Stopped(stopped)) => {
            let signal = if stopped.reason == StopReason::Asked { signals.received() } else { None };
            Err(Failure::Stopped { stopped, signal })
        }
        result => result.map(drop).map_err(Failure::from),
    }
}
