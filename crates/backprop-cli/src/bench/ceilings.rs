//! `backprop bench machine`, and what steps and kernels are measured by.

use crate::{args::BenchMachineOptions, failure::Failure, output};
use backprop::{bench::Ceilings, core::Isa};
use serde::Serialize;

/// The most this machine does in a second, in thousands of millions, and how fast its threads meet.
#[derive(Clone, Copy, Serialize)]
pub(super) struct Peaks {
    peak_gflop_per_s: f64,
    peak_gflop_per_s_of_one: f64,
    read_gb_per_s: f64,
    pub(super) copy_gb_per_s: f64,
    meeting_us: f64,
}

impl Peaks {
    pub(super) fn measure(isa: Isa, threads: usize) -> Peaks {
        let Ceilings { flops_of_one, flops, read, copy, meeting } = Ceilings::measure(isa, threads);
        Peaks {
            peak_gflop_per_s: flops / 1e9,
            peak_gflop_per_s_of_one: flops_of_one / 1e9,
            read_gb_per_s: read / 1e9,
            copy_gb_per_s: copy / 1e9,
            meeting_us: meeting * 1e6,
        }
    }

    /// The share of the peak that so many operations in so many milliseconds are.
    pub(super) fn share(&self, gflop: f64, ms: f64) -> f64 {
        gflop / (ms / 1e3) / self.peak_gflop_per_s
    }

    /// For people.
    pub(super) fn show(&self) -> [String; 2] {
        let whole = |rate: f64| format!("{rate:.0}");
        let [all, one] = [self.peak_gflop_per_s, self.peak_gflop_per_s_of_one].map(whole);
        let [read, copy] = [self.read_gb_per_s, self.copy_gb_per_s].map(|rate| format!("{rate:.1}"));
        [
            format!("{all} GFLOP/s in f32 at most, {one} of one thread alone"),
            format!("memory gives {read} GB/s, copies {copy} GB/s read and written; threads meet in {:.2} µs", self.meeting_us),
        ]
    }
}

#[derive(Serialize)]
struct Report {
    isa: &'static str,
    threads: usize,
    #[serde(flatten)]
    peaks: Peaks,
}

pub(super) fn machine(options: &BenchMachineOptions) -> Result<(), Failure> {
    let (isa, threads) = options.processor.resolve()?;
    let peaks = Peaks::measure(isa, threads);
    if options.json {
        output::json(&Report { isa: isa.name(), threads, peaks });
        return Ok(());
    }
    output::line(&format!("cpu ({isa}, {threads} threads)"));
    peaks.show().iter().for_each(|line| output::line(&format!("  {line}")));
    Ok(())
}
