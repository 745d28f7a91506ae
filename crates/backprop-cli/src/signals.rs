//! Signals that ask the program to stop: Ctrl-C, the end of a spot machine or a container, the end of the terminal.
//!
//! Before training begins a signal ends the program at once: nothing is lost. From then on the first one lets training finish its
//! step and write a checkpoint; a Ctrl-C after that ends the program at once, with the last checkpoint whole as ever. A second
//! SIGTERM changes nothing: schedulers send it to a process and again to its group.

use crate::{failure::Failure, output};
use backprop::train::Stop;
use std::sync::{Arc, Mutex, PoisonError};

/// A signal that stops training.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Signal {
    Hangup,
    Interrupt,
    Terminate,
}

impl Signal {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Signal::Hangup => "SIGHUP",
            Signal::Interrupt => "SIGINT",
            Signal::Terminate => "SIGTERM",
        }
    }

    fn number(self) -> u8 {
        match self {
            Signal::Hangup => 1,
            Signal::Interrupt => 2,
            Signal::Terminate => 15,
        }
    }

    /// What shells say of a process that a signal ended.
    pub(crate) fn exit_code(self) -> u8 {
        128 + self.number()
    }
}

#[derive(Default)]
struct State {
    training: Option<Stop>,
    received: Option<Signal>,
}

/// Watches for signals.
#[derive(Clone, Default)]
pub(crate) struct Signals(Arc<Mutex<State>>);

impl Signals {
    /// Begins to watch, on a thread of its own. Signals that were ignored when the program started (`nohup`) stay so.
    pub(crate) fn watch() -> Result<Signals, Failure> {
        let signals = Signals::default();
        unix::watch(signals.clone()).map_err(|e| Failure::Arguments(format!("cannot watch for signals: {e}")))?;
        Ok(signals)
    }

    /// From now on signals ask this training to stop.
    pub(crate) fn ask(&self, training: Stop) {
        self.state().training = Some(training);
    }

    /// The first signal that came.
    pub(crate) fn received(&self) -> Option<Signal> {
        self.state().received
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a signal does.
    #[cfg_attr(not(unix), expect(dead_code, reason = "no signals"))]
    fn on(&self, signal: Signal) {
        let mut state = self.state();
        match (&state.training, state.received) {
            (None, _) => {
                output::error_line(&format!("stopped by {} before training began; nothing was changed", signal.name()));
                std::process::exit(signal.exit_code().into());
            }
            (Some(_), Some(_)) if signal == Signal::Interrupt => {
                output::error_line("ended at once; the last checkpoint is whole");
                std::process::exit(signal.exit_code().into());
            }
            (Some(_), Some(_)) => {}
            (Some(stop), None) => {
                stop.ask();
                state.received = Some(signal);
                output::error_line(&format!("{}: stopping after this step; Ctrl-C ends at once", signal.name()));
            }
        }
    }
}

#[cfg(unix)]
mod unix {
    use super::{Signal, Signals};
    use std::{fs, io, thread};

    const ALL: [Signal; 3] = [Signal::Hangup, Signal::Interrupt, Signal::Terminate];

    pub(super) fn watch(signals: Signals) -> io::Result<()> {
        let ignored = fs::read_to_string("/proc/self/status").map_or(0, |status| ignored(&status));
        let watched = ALL.iter().map(|s| s.number()).filter(|n| ignored & 1 << (n - 1) == 0);
        let mut incoming = signal_hook::iterator::Signals::new(watched.map(i32::from))?;
        thread::Builder::new().name("signals".into()).spawn(move || {
            for number in incoming.forever() {
                if let Some(signal) = ALL.iter().find(|s| i32::from(s.number()) == number) {
                    signals.on(*signal);
                }
            }
        })?;
        Ok(())
    }

    /// The mask of ignored signals in /proc/self/status: bit n − 1 for signal n.
    fn ignored(status: &str) -> u64 {
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
    }

    #[cfg(test)]
    mod tests {
        #[test]
        fn the_mask_is_read() {
            assert_eq!(super::ignored("SigBlk:\t0\nSigIgn:\t0000000000001001\n"), 0x1001);
            assert_eq!(super::ignored(""), 0);
        }
    }
}

#[cfg(not(unix))]
mod unix {
    /// Other systems end the program as they do; the last checkpoint is whole.
    pub(super) fn watch(_: super::Signals) -> std::io::Result<()> {
        Ok(())
    }
}
