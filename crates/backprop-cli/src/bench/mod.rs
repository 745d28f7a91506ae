//! `backprop bench`.

mod ceilings;
mod kernels;
mod profile;
mod serve;

use crate::{
    args::{BenchCommand, BenchExportOptions, BenchStepOptions, PrecisionName},
    device::Wanted,
    failure::Failure,
    output, train,
};
use backprop::{
    bench::{self, BenchOptions, Length, StepBench, StepFacts, Times, WARM_UP},
    core::exec::native::Native,
    machine,
};
use serde::Serialize;
use std::time::Duration;

pub(crate) fn run(command: &BenchCommand) -> Result<(), Failure> {
    match command {
        BenchCommand::Step(options) if options.serve => serve::run(&options.device),
        BenchCommand::Step(options) => step(options),
        BenchCommand::Export(options) => export(options),
        BenchCommand::Kernels(options) => kernels::run(options),
        BenchCommand::Machine(options) => ceilings::machine(options),
    }
}

/// What this program is called among those it is compared with.
const ENGINE: &str = "backprop";

/// First steps whose losses are compared with those of other programs, before anything is timed.
const COMPARED: usize = 10;

/// What was measured.
#[derive(Serialize)]
struct Report<'r> {
    engine: &'static str,
    model: &'r str,
    device: &'r str,
    precision: PrecisionName,
    #[serde(flatten)]
    facts: &'r StepFacts,
    loss_first: f64,
    /// The tenth step's, before its update: nine updates have been made.
    loss_step10: f64,
    #[serde(flatten)]
    figures: Figures,
    gflop_per_s: f64,
    /// Of the processor; an accelerator's are not measured.
    #[serde(flatten)]
    peaks: Option<ceilings::Peaks>,
    /// Time that products and convolutions would take at the peak, of the time of the step.
    #[serde(skip_serializing_if = "Option::is_none")]
    share_of_peak: Option<f64>,
    nonfinite_steps: u64,
    peak_resident_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<profile::Figures<'r>>,
}

/// Times in milliseconds.
#[derive(Serialize)]
struct Figures {
    steps: u64,
    step_ms_median: f64,
    step_ms_min: f64,
    step_ms_p10: f64,
    step_ms_p90: f64,
}

impl Figures {
    fn of(times: &Times) -> Figures {
        let [step_ms_median, step_ms_min, step_ms_p10, step_ms_p90] = [0.5, 0.0, 0.1, 0.9].map(|share| times.quantile(share));
        Figures { steps: times.steps(), step_ms_median, step_ms_min, step_ms_p10, step_ms_p90 }
    }
}

fn step(options: &BenchStepOptions) -> Result<(), Failure> {
    let (config, model) = train::configuration(options.config.as_deref(), &options.set.set)?;
    let wanted = Wanted::for_training(&options.device, &config.train).measured(options.profile);
    let backend = wanted.backend()?;
    let mut bench = StepBench::new(config, &*backend, &begin_from(options))?;
    let losses = bench.losses(COMPARED)?;
    bench.warm_up(WARM_UP)?;
    let length = options.steps.map_or(Length::Time(Duration::from_secs_f64(options.seconds)), |n| Length::Steps(n as u64));
    let figures = Figures::of(&bench.measure(length)?);
    let profile = if options.profile { bench.profile(length)? } else { None };
    let facts = bench.facts();
    // Before the machine is measured, which takes memory too.
    let peak_resident_bytes = machine::peak_resident();
    let peaks = wanted.processor()?.map(|(isa, threads)| ceilings::Peaks::measure(isa, threads));
    let report = Report {
        engine: ENGINE,
        model: &model,
        device: &backend.describe(),
        precision: wanted.precision(),
        gflop_per_s: facts.gflop_per_step / (figures.step_ms_median / 1e3),
        facts,
        loss_first: losses[0],
        loss_step10: losses[COMPARED - 1],
        share_of_peak: peaks.map(|peaks| peaks.share(facts.gflop_of_products, figures.step_ms_median)),
        peaks,
        figures,
        nonfinite_steps: bench.nonfinite_steps(),
        peak_resident_bytes,
        profile: profile.as_ref().map(profile::Figures::of),
    };
    if options.json {
        output::json(&report);
    } else {
        show(&report).iter().for_each(|line| output::line(line));
    }
    Ok(())
}

fn begin_from(options: &BenchStepOptions) -> BenchOptions {
    let BenchStepOptions { batch, weights, data, no_dropout, .. } = options;
    BenchOptions { batch: *batch, weights: weights.clone(), data: data.clone(), no_dropout: *no_dropout }
}

/// The lines for people.
fn show(report: &Report<'_>) -> Vec<String> {
    let Report { facts, figures, .. } = report;
    let ms = output::figure;
    let mut lines =
        vec![format!("{}: {} rows, {} parameters", report.model, facts.batch, output::grouped(facts.parameters as u64))];
    let mut line = |name: &str, text: String| lines.push(format!("  {name:<9} {text}"));
    let precision = if report.precision == PrecisionName::Tf32 { ", precision tf32" } else { "" };
    line("device", format!("{}{precision}", report.device));
    line("step", format!("{} ms median of {} steps", ms(figures.step_ms_median), output::grouped(figures.steps)));
    line(
        "",
        format!("{} ms min, {} ms p10, {} ms p90", ms(figures.step_ms_min), ms(figures.step_ms_p10), ms(figures.step_ms_p90)),
    );
    line("work", format!("{} GFLOP per step, {} GFLOP/s", ms(facts.gflop_per_step), ms(report.gflop_per_s)));
    if let (Some(peaks), Some(share)) = (&report.peaks, report.share_of_peak) {
        let products = ms(facts.gflop_of_products);
        line("", format!("{products} GFLOP in products and convolutions: {:.1} % of the peak", 100.0 * share));
        peaks.show().into_iter().zip(["peak", ""]).for_each(|(text, name)| line(name, text));
    }
    line("loss", format!("{:.6} of the first step, {:.6} of the tenth", report.loss_first, report.loss_step10));
    let [planned, arena, state] =
        [facts.arena_bytes + facts.state_bytes, facts.arena_bytes, facts.state_bytes].map(output::bytes);
    let resident = report.peak_resident_bytes.map(|bytes| format!(", {} resident at most", output::bytes(bytes as usize)));
    line("memory", format!("{planned} planned ({arena} arena, {state} state){}", resident.unwrap_or_default()));
    line("compile", format!("{} s", ms(facts.compile_s)));
    if report.nonfinite_steps > 0 {
        line("warning", format!("{} steps were not finite and changed nothing", output::grouped(report.nonfinite_steps)));
    }
    if let Some(profile) = &report.profile {
        lines.push(String::new());
        lines.push("Where the time of a step goes, of all threads together; rates are those of one thread:".into());
        lines.extend(profile.show());
    }
    lines
}

fn export(options: &BenchExportOptions) -> Result<(), Failure> {
    let (config, _) = train::configuration(options.config.as_deref(), &options.set.set)?;
    let backend = Native::default();
    let written = bench::export(config, &backend, &options.out, options.batches)?;
    let [x, y] = &written.batch;
    output::line(&format!("{}: {} tensors", written.weights.display(), written.tensors));
    output::line(&format!("{}: {} batches of x {x} and y {y}", written.data.display(), options.batches));
    Ok(())
}
