//! `backprop bench step --serve`: windows of steps on request, so that several programs can be measured in turns.
//!
//! One request a line on standard input, one answer a line on standard output, all JSON:
//!
//! ```text
//! {"model": "models/cnn-fashion.toml", "weights": "w.safetensors", "data": "d.npz", "precision": "highest", "dropout": false}
//!     {"engine": "backprop", "model": …, "device": …, "precision": …, "compile_s": …, "step_ms": …, …}
//! {"losses": 10}
//!     {"losses": […]}
//! {"window": 0.5, "steps": 100}
//!     {"step_ms": […], "steps": 100}
//! ```
//!
//! Of the first, which loads and compiles a configuration, only `model` is needed; there are also `set` (a list of `KEY=VALUE`), `batch`
//! and `warm_up` (the least steps before `step_ms` is estimated). `losses` begins anew from the first weights. A window is as many groups
//! of `steps` steps as begin within its seconds; the answer has the mean of each group. What cannot be done is answered by
//! `{"error": "…"}`. The device is the command line's. The process ends with its input.

use super::ENGINE;
use crate::{
    args::{DeviceOptions, PrecisionName},
    device::Wanted,
    failure::Failure,
    output, train,
};
use backprop::{
    bench::{BenchOptions, Length, StepBench, StepFacts, WARM_UP},
    config::Config,
    core::exec::Backend,
    machine,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::{
    io::{self, BufRead},
    num::NonZeroU64,
    path::PathBuf,
    time::Duration,
};

#[derive(Deserialize)]
#[serde(untagged)]
enum Request {
    Prepare(Prepare),
    Losses(Losses),
    Window(Window),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Prepare {
    model: PathBuf,
    #[serde(default)]
    set: Vec<String>,
    #[serde(default)]
    batch: Option<usize>,
    #[serde(default)]
    weights: Option<PathBuf>,
    #[serde(default)]
    data: Option<PathBuf>,
    #[serde(default = "yes")]
    dropout: bool,
    #[serde(default)]
    precision: Option<PrecisionName>,
    #[serde(default)]
    warm_up: Option<usize>,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Losses {
    losses: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Window {
    /// Seconds.
    window: f64,
    #[serde(default = "one")]
    steps: NonZeroU64,
}

fn one() -> NonZeroU64 {
    NonZeroU64::MIN
}

#[derive(Serialize)]
struct Ready<'r> {
    engine: &'static str,
    model: &'r str,
    device: &'r str,
    precision: PrecisionName,
    #[serde(flatten)]
    facts: &'r StepFacts,
    step_ms: f64,
    peak_resident_bytes: Option<u64>,
}

/// A backend, with what it was opened for.
struct Opened {
    precision: PrecisionName,
    threads: usize,
    backend: Box<dyn Backend>,
}

/// Answers requests until the end of the input.
pub(super) fn run(device: &DeviceOptions) -> Result<(), Failure> {
    let (mut request, mut opened) = (next(), None);
    while let Some(asked) = request {
        request = match asked {
            Request::Prepare(prepare) => prepared(device, &prepare, &mut opened).unwrap_or_else(|failure| {
                refuse(&failure.text(false));
                next()
            }),
            Request::Losses(_) | Request::Window(_) => {
                refuse("no model is prepared; ask for {\"model\": FILE} first");
                next()
            }
        };
    }
    Ok(())
}

/// Prepares a step and measures it; gives the request for another. A device that is open stays open: to look for it and start it takes
/// longer than most models take to compile.
fn prepared(options: &DeviceOptions, prepare: &Prepare, opened: &mut Option<Opened>) -> Result<Option<Request>, Failure> {
    let options = DeviceOptions { precision: prepare.precision.or(options.precision), ..options.clone() };
    let (config, model) = train::configuration(Some(&prepare.model), &prepare.set)?;
    let wanted = Wanted::for_use(&options, &config.train);
    let (precision, threads) = (wanted.precision(), wanted.threads());
    let kept = opened.take_if(|o| o.precision == precision && o.threads == threads);
    // One that does not fit gives its memory back before another takes any.
    drop(opened.take());
    let open = || Ok::<_, Failure>(Opened { precision, threads, backend: wanted.backend()? });
    let opened = opened.insert(kept.map_or_else(open, Ok)?);
    serve(config, &model, prepare, opened)
}

/// The next request that can be read; `None` at the end of the input.
fn next() -> Option<Request> {
    for line in io::stdin().lock().lines() {
        let line = line.ok()?;
        match serde_json::from_str(&line) {
            Ok(request) => return Some(request),
            Err(_) => refuse(
                "this is no request; there are {\"model\": FILE, …}, {\"losses\": N} and {\"window\": SECONDS, \"steps\": N}",
            ),
        }
    }
    None
}

/// Says what is ready, and answers what is asked of it.
fn serve(config: Config, model: &str, prepare: &Prepare, opened: &Opened) -> Result<Option<Request>, Failure> {
    let Prepare { batch, weights, data, dropout, .. } = prepare;
    let begin_from = BenchOptions { batch: *batch, weights: weights.clone(), data: data.clone(), no_dropout: !dropout };
    let mut bench = StepBench::new(config, &*opened.backend, &begin_from)?;
    let step = bench.warm_up(prepare.warm_up.unwrap_or(WARM_UP))?;
    output::json(&Ready {
        engine: ENGINE,
        model,
        device: &opened.backend.describe(),
        precision: opened.precision,
        facts: bench.facts(),
        step_ms: step.as_secs_f64() * 1e3,
        peak_resident_bytes: machine::peak_resident(),
    });
    loop {
        match next() {
            Some(Request::Losses(Losses { losses })) => output::json(&json!({ "losses": bench.losses(losses)? })),
            Some(Request::Window(Window { window, steps })) => {
                let time = Duration::try_from_secs_f64(window).unwrap_or_default();
                let times = bench.measure_together(Length::Time(time), steps.get())?;
                output::json(&json!({ "step_ms": times.step_ms(), "steps": steps }));
            }
            other => return Ok(other),
        }
    }
}

fn refuse(error: &str) {
    output::json(&json!({ "error": error }));
}
