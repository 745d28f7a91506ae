//! `backprop bench kernels`.

use super::ceilings::Peaks;
use crate::{args::BenchKernelsOptions, failure::Failure, output};
use backprop::{
    bench::{KernelCase, KernelSpeed, kernel_cases},
    core::exec::native::Native,
    train::TrainError,
};
use serde::Serialize;
use std::time::Duration;

/// One kernel on one shape, measured.
#[derive(Serialize)]
struct Line<'c> {
    group: &'static str,
    shape: &'c str,
    form: &'static str,
    isa: &'static str,
    threads: usize,
    microseconds: f64,
    gflop_per_s: f64,
    gb_per_s: f64,
    /// Of the peak of multiply-adds for products and convolutions, of the speed of copies in memory for others.
    share: f64,
    kernels: usize,
}

impl Line<'_> {
    fn of<'c>(case: &'c KernelCase, speed: &KernelSpeed, backend: &Native, peaks: &Peaks) -> Line<'c> {
        let per_second = |amount: f64| amount / speed.seconds / 1e9;
        let (gflop_per_s, gb_per_s) = (per_second(speed.flops as f64), per_second(speed.bytes as f64));
        let share = if speed.flops > 0 {
            peaks.share(speed.flops as f64 / 1e9, speed.seconds * 1e3)
        } else {
            gb_per_s / peaks.copy_gb_per_s
        };
        Line {
            group: case.group,
            shape: &case.shape,
            form: case.form,
            isa: backend.isa().name(),
            threads: backend.threads(),
            microseconds: speed.seconds * 1e6,
            gflop_per_s,
            gb_per_s,
            share,
            kernels: speed.kernels,
        }
    }

    fn show(&self) -> String {
        let rate = if self.gflop_per_s > 0.0 {
            format!("{:>8.1} GFLOP/s", self.gflop_per_s)
        } else {
            format!("{:>8.1} GB/s   ", self.gb_per_s)
        };
        let Line { group, shape, form, microseconds, share, .. } = self;
        format!("{group:<13} {shape:<33} {form:<12} {microseconds:>9.2} µs {rate} {:>6.1} %", 100.0 * share)
    }
}

pub(super) fn run(options: &BenchKernelsOptions) -> Result<(), Failure> {
    let (isa, threads) = options.processor.resolve()?;
    let backend = Native::new(threads, isa);
    let cases = kernel_cases(options.group.map(|group| group.name())).map_err(TrainError::from)?;
    let peaks = Peaks::measure(isa, threads);
    if !options.json {
        output::line(&format!("cpu ({isa}, {threads} threads): {}", peaks.show().join("; ")));
    }
    for case in &cases {
        let speed = case.measure(&backend, Duration::from_secs_f64(options.seconds)).map_err(TrainError::from)?;
        let line = Line::of(case, &speed, &backend, &peaks);
        if options.json {
            output::json(&line);
        } else {
            output::line(&line.show());
        }
    }
    Ok(())
}
