//! `backprop bench step --profile`: where the time of a step goes.

use crate::output;
use backprop::core::exec::{KernelTime, Profile};
use serde::Serialize;
use std::{cmp::Reverse, time::Duration};

/// Kernels that are listed one by one for people.
const LISTED: usize = 25;

/// A profile in figures per step.
#[derive(Serialize)]
pub(super) struct Figures<'p> {
    steps: u64,
    /// Time of all threads: in kernels, and without any.
    thread_ms: f64,
    waiting_ms: f64,
    /// By time, the longest first.
    kernels: Vec<Kernel<'p>>,
}

#[derive(Serialize)]
struct Kernel<'p> {
    name: &'p str,
    layer: &'p str,
    calls: u64,
    /// In all threads.
    ms: f64,
    /// Of the time of all threads.
    share: f64,
    gflop_per_s: f64,
    gb_per_s: f64,
}

impl Figures<'_> {
    pub(super) fn of(profile: &Profile) -> Figures<'_> {
        let per_step = |time: Duration| time.as_secs_f64() * 1e3 / profile.runs.max(1) as f64;
        let thread_ms = per_step(profile.elapsed) * profile.threads as f64;
        let kernel = |kernel: &'_ KernelTime| {
            let ms = per_step(kernel.time);
            // A kernel too short for the clock has no rate.
            let rate = |amount: f64| if ms > 0.0 { amount * kernel.calls_per_run as f64 / ms / 1e6 } else { 0.0 };
            (ms, ms / thread_ms.max(f64::MIN_POSITIVE), rate(kernel.flops as f64), rate(kernel.bytes as f64))
        };
        let mut kernels: Vec<Kernel<'_>> = Vec::with_capacity(profile.kernels.len());
        for time in &profile.kernels {
            let (ms, share, gflop_per_s, gb_per_s) = kernel(time);
            let (name, layer, calls) = (time.name.as_str(), time.path.as_str(), time.calls_per_run);
            kernels.push(Kernel { name, layer, calls, ms, share, gflop_per_s, gb_per_s });
        }
        kernels.sort_by_key(|k| Reverse((k.ms * 1e6) as u64));
        Figures { steps: profile.runs, thread_ms, waiting_ms: per_step(profile.waiting()), kernels }
    }

    /// The lines for people.
    pub(super) fn show(&self) -> Vec<String> {
        let cells =
            |name: &str, layer: &str, rest: [String; 5]| [name.to_owned(), layer.to_owned()].into_iter().chain(rest).collect();
        let heads = ["calls", "ms", "share", "GFLOP/s", "GB/s"].map(String::from);
        let mut rows: Vec<Vec<String>> = vec![cells("kernel", "layer", heads)];
        let share = |ms: f64| format!("{:.1} %", 100.0 * ms / self.thread_ms.max(f64::MIN_POSITIVE));
        for k in self.kernels.iter().take(LISTED) {
            let figures = [k.calls.to_string(), output::figure(k.ms), share(k.ms), rate(k.gflop_per_s), rate(k.gb_per_s)];
            rows.push(cells(k.name, k.layer, figures));
        }
        let mut sum = |name: &str, ms: f64| {
            let none = String::new;
            rows.push(cells(name, "", [none(), output::figure(ms), share(ms), none(), none()]));
        };
        let rest = self.kernels.get(LISTED..).unwrap_or_default();
        if !rest.is_empty() {
            sum(&format!("{} others", rest.len()), rest.iter().map(|k| k.ms).sum());
        }
        sum("no kernel", self.waiting_ms);
        sum("all threads", self.thread_ms);
        output::aligned(&rows)
    }
}

/// A rate without digits that say nothing.
fn rate(value: f64) -> String {
    format!("{value:.1}")
}
