//! Whether training is limited by its input: steps that wait for batches, what the filling of batches goes to, and what helps.

use super::{
    Part, TrainError, Trainer,
    feed::{Batch, Pass},
    loader::Intake,
    progress::Progress,
};
use crate::{
    config::Config,
    events::{Epoch, Input, InputBound, Stage},
};
use backprop_data::Source;
use std::time::{Duration, Instant};

/// Share of the time from which on waiting is told.
const NOTABLE: f64 = 0.1;

/// Seconds a step from which on waiting is told: handing batches from thread to thread takes about as long.
const WORTH: f64 = 50e-6;

/// Seconds and batches for which a measurement of filling goes on at most.
const MEASURED: (f64, usize) = (0.1, 64);

impl Progress {
    /// Adds the times of batches, of which the last was used by a step that was `finishing` for so long. A device that computes `ahead`
    /// of its results and was still busy when they were asked for did not wait for a batch.
    pub(super) fn take_in(&mut self, intake: Intake, ahead: bool, finishing: Duration) {
        if !ahead || finishing * 10 < intake.waited {
            self.data_seconds += intake.waited.as_secs_f64();
        }
        self.input.reading_seconds += intake.reading.as_secs_f64();
        self.input.augmenting_seconds += intake.augmenting.as_secs_f64();
    }
}

/// Sums over epochs.
#[derive(Clone, Copy, Default)]
struct Times {
    training: f64,
    waited: f64,
    rows: f64,
    input: Input,
}

impl Times {
    fn of(epochs: &[Epoch]) -> Times {
        let mut all = Times::default();
        for epoch in epochs {
            all.training += epoch.training_seconds;
            all.waited += epoch.data_seconds;
            all.rows += epoch.rows_per_second * epoch.seconds;
            all.input.threads = epoch.input.threads;
            all.input.reading_seconds += epoch.input.reading_seconds;
            all.input.augmenting_seconds += epoch.input.augmenting_seconds;
        }
        all
    }

    /// Share of the time in which steps waited, if it is notable.
    fn waiting(&self, steps: f64) -> Option<f64> {
        let share = (self.waited / self.training).min(1.0);
        (share > NOTABLE && self.waited > WORTH * steps).then_some(share)
    }

    fn stage(&self) -> Stage {
        if self.input.augmenting_seconds > self.input.reading_seconds { Stage::Augmenting } else { Stage::Reading }
    }

    /// Rows per second of the input and of the steps.
    fn rates(&self) -> [f64; 2] {
        let filling = (self.input.reading_seconds + self.input.augmenting_seconds) / self.input.threads.max(1) as f64;
        [filling, self.training - self.waited].map(|seconds| self.rows / seconds.max(1e-9))
    }
}

impl Trainer<'_> {
    /// Rows per second that one thread fills, measured on the first batches of training, and what most of that time goes to.
    pub(super) fn fill_rate(&self) -> Result<(f64, Stage), TrainError> {
        let feed = self.task.feed();
        let pass = Pass { part: Part::Train, shuffled: Some((self.config.train.seed, 0)), position: 0 };
        let (mut batches, mut rows, mut times) = (feed.batches(pass)?, Vec::new(), Times::default());
        let (clock, (seconds, most)) = (Instant::now(), MEASURED);
        let mut batch = Batch::new(feed, feed.batch_size);
        for number in 0..most {
            if clock.elapsed().as_secs_f64() > seconds && number > 1 || !batches.next_into(&mut rows) {
                break;
            }
            if rows.len() != batch.rows {
                batch = Batch::new(feed, rows.len());
            }
            feed.fill(pass, &rows, &mut batch)?;
            // The first batch pays for memory that is new.
            if number == 0 && batches.remaining() > 0 {
                continue;
            }
            times.rows += rows.len() as f64;
            times.input.reading_seconds += batch.reading.as_secs_f64();
            times.input.augmenting_seconds += batch.augmenting.as_secs_f64();
        }
        Ok((times.rates()[0], times.stage()))
    }

    /// Whether the steps of these epochs waited for their batches for a notable share of the time.
    pub(super) fn input_bound(&self, epochs: &[Epoch]) -> Option<InputBound> {
        let times = Times::of(epochs);
        let waiting = times.waiting(times.rows / self.task.batch_size().max(1) as f64)?;
        let (stage, [input, step]) = (times.stage(), times.rates());
        let in_memory = self.task.feed().part(Part::Train).is_none_or(|data| data.in_memory());
        let helps = remedies(&self.config, stage, in_memory, times.input.threads, step / input);
        let threads = match times.input.threads {
            0 => "the thread of the steps".into(),
            1 => "1 thread".into(),
            n => format!("{n} threads"),
        };
        let message = format!(
            "input-bound: steps waited {:.0} % of the time for their batches; {threads} filled {input:.0} rows/s, mostly {stage}, where \
             the steps alone would take {step:.0} rows/s; what helps: {}",
            100.0 * waiting,
            helps.join(", ")
        );
        Some(InputBound { waiting, stage, input_rows_per_second: input, step_rows_per_second: step, message })
    }
}

/// What speeds the input up, the simplest first. Steps take `behind` times the rows that `threads` threads fill.
fn remedies(config: &Config, stage: Stage, in_memory: bool, threads: usize, behind: f64) -> Vec<String> {
    let mut helps = Vec::new();
    let cores = crate::machine::threads();
    if threads < cores {
        let wanted = (threads.max(1) as f64 * behind).ceil() as usize;
        helps.push(format!("more threads (train.loader_threads = {})", wanted.clamp(threads + 1, cores)));
    }
    let source = &config.data.source;
    let images = matches!(source, Source::Folder(_));
    match stage {
        Stage::Augmenting => helps.push("fewer changes in data.augment".into()),
        Stage::Reading if in_memory => {}
        Stage::Reading if images || matches!(source, Source::Idx(_) | Source::Npy(_)) => {
            helps.push("data in memory (data.stream = false)".into());
        }
        Stage::Reading => helps.push("a data set that keeps its rows in memory".into()),
    }
    if images {
        helps.push("smaller images (data.image_size)".into());
    }
    if helps.is_empty() {
        helps.push("a processor with more cores".into());
    }
    helps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{loss::Mse, nn::Sequential, optim::Sgd};

    fn config(data: &str) -> Config {
        let source: Source = toml::from_str(data).unwrap();
        Config::new(source, Sequential::new(), Mse::new(), Sgd::new(0.1))
    }

    fn epoch(waited: f64, reading: f64, augmenting: f64) -> Epoch {
        let input = Input { threads: 2, reading_seconds: reading, augmenting_seconds: augmenting };
        // 1,000 rows in 10 s of training and 2 s of validation.
        let (seconds, training_seconds, rows_per_second) = (12.0, 10.0, 1000.0 / 12.0);
        Epoch { seconds, training_seconds, rows_per_second, data_seconds: waited, input, ..Epoch::default() }
    }

    #[test]
    fn notable_is_more_than_a_tenth_and_more_than_handing_over() {
        let waiting = |waited, steps| Times::of(&[epoch(waited, 1.0, 0.0)]).waiting(steps);
        assert_eq!((waiting(0.99, 10.0), waiting(1.25, 10.0), waiting(30.0, 10.0)), (None, Some(0.125), Some(1.0)));
        // 40 µs and 60 µs a step.
        assert_eq!((waiting(4.0, 100_000.0), waiting(6.0, 100_000.0)), (None, Some(0.6)));
        assert_eq!(Times::of(&[]).waiting(1.0), None);
        // Of two epochs together.
        assert_eq!(Times::of(&[epoch(0.0, 1.0, 0.0), epoch(4.0, 1.0, 0.0)]).waiting(10.0), Some(0.2));
    }

    #[test]
    fn stage_and_rates_are_those_of_all_threads() {
        let times = Times::of(&[epoch(5.0, 4.0, 6.0), epoch(5.0, 4.0, 6.0)]);
        assert_eq!(times.stage(), Stage::Augmenting);
        // Two threads fill 2,000 rows in 20 s of their time together; steps take 10 s beside waiting.
        let [input, step] = times.rates();
        assert!((input - 200.0).abs() < 1e-9 && (step - 200.0).abs() < 1e-9, "{input} {step}");
        assert_eq!(Times::of(&[epoch(5.0, 6.0, 4.0)]).stage(), Stage::Reading);
    }

    #[test]
    fn a_busy_device_did_not_wait() {
        let intake = Intake { waited: Duration::from_secs(1), ..Intake::default() };
        let counted = |ahead, finishing| {
            let mut progress = Progress::default();
            progress.take_in(intake, ahead, Duration::from_millis(finishing));
            progress.data_seconds
        };
        assert_eq!([counted(false, 5000), counted(true, 5000), counted(true, 50)], [1.0, 0.0, 1.0]);
    }

    #[test]
    fn what_helps_depends_on_the_stage_and_the_source() {
        let folder = config("source = 'folder'\npath = 'x'");
        let cores = crate::machine::threads();
        let all = remedies(&folder, Stage::Reading, false, cores, 9.0);
        assert_eq!(all, ["data in memory (data.stream = false)", "smaller images (data.image_size)"]);
        let all = remedies(&folder, Stage::Augmenting, false, cores, 9.0);
        assert_eq!(all, ["fewer changes in data.augment", "smaller images (data.image_size)"]);
        assert_eq!(remedies(&config("source = 'digits'"), Stage::Reading, true, cores, 9.0), ["a processor with more cores"]);
        let all = remedies(&config("source = 'digits'"), Stage::Reading, true, 0, 1e9);
        assert_eq!(all, [format!("more threads (train.loader_threads = {cores})")]);
    }
}
