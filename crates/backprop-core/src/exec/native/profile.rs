//! Where the time of a run goes, kernel by kernel.

use super::code::Code;
use crate::exec::{KernelTime, Profile};
use std::{
    mem,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// Clocks of compiled code.
pub(crate) struct Clocks {
    /// Nanoseconds that threads spent in each call.
    calls: Vec<AtomicU64>,
    /// Runs so far, and how long they took.
    runs: u64,
    elapsed: Duration,
}

impl Clocks {
    pub fn new(calls: usize) -> Clocks {
        Clocks { calls: (0..calls).map(|_| AtomicU64::new(0)).collect(), runs: 0, elapsed: Duration::ZERO }
    }

    /// Adds the time that `work` takes to that of a call.
    pub fn time(&self, call: usize, work: impl FnOnce()) {
        let clock = Instant::now();
        work();
        self.calls[call].fetch_add(clock.elapsed().as_nanos() as u64, Ordering::Relaxed);
    }

    /// Counts a run that began then.
    pub fn ran_since(&mut self, start: Instant) {
        self.runs += 1;
        self.elapsed += start.elapsed();
    }
}

impl Code {
    /// Starts to measure, this code and that of its loops.
    pub(crate) fn measure(&mut self) {
        self.clocks = Some(Clocks::new(self.calls.len()));
        self.scans.iter_mut().for_each(|scan| scan.body.measure());
    }

    /// What was measured since the last call, if anything is.
    pub(crate) fn take_profile(&mut self, threads: usize) -> Option<Profile> {
        let clocks = self.clocks.as_mut()?;
        let (runs, elapsed) = (mem::take(&mut clocks.runs), mem::take(&mut clocks.elapsed));
        let mut kernels = Vec::new();
        self.take_times(1, &mut kernels);
        Some(Profile { runs, threads, elapsed, kernels })
    }

    fn take_times(&mut self, calls_per_run: u64, into: &mut Vec<KernelTime>) {
        let clocks = self.clocks.iter().flat_map(|clocks| &clocks.calls);
        for (call, nanoseconds) in self.calls.iter().zip(clocks) {
            let info = &self.kernels[call.info];
            into.push(KernelTime {
                name: info.name.clone(),
                path: info.path.clone(),
                flops: info.flops,
                bytes: info.bytes,
                calls_per_run,
                time: Duration::from_nanos(nanoseconds.swap(0, Ordering::Relaxed)),
            });
        }
        for scan in &mut self.scans {
            scan.body.take_times(calls_per_run * scan.length as u64, into);
        }
    }
}
