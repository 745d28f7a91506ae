//! The loop over epochs and steps, with what it leaves in the run folder.

use super::{
    Flow, Part, Reply, StopReason, Stopped, TrainError, Trainer, feed::Pass, is_weight, pipeline::Done, progress::Best, weight,
};
use crate::{
    checkpoint::Tensors,
    events::{EarlyStopped, Epoch, Event, Input, Score, Started, Summary},
    nn::{Mode, StateKind},
    run::{Metrics, Run},
    schedule::Clock,
    step::CLEAR,
};
use backprop_core::HostTensor;
use std::time::Instant;

/// Who hears what happens.
type Report<'r> = &'r mut dyn FnMut(&Event);

/// What one session of a run needs beside the trainer.
pub(super) struct Session<'s> {
    run: Option<(&'s Run, Metrics)>,
    /// Since when time is not yet accounted for.
    mark: Instant,
    /// Time and step of the last checkpoint.
    saved: (Instant, u64),
    /// Whether it was said that the input limits training.
    told_bound: bool,
    /// Why no further step could be started, where those before it are still under way.
    pub(super) failed: Option<TrainError>,
    pub(super) hyper: HostTensor,
    pub(super) seed: HostTensor,
    pub(super) step: HostTensor,
}

impl<'s> Session<'s> {
    fn new(trainer: &Trainer<'_>, run: Option<&'s Run>) -> Result<Session<'s>, TrainError> {
        let metrics = |run: &'s Run| Ok::<_, TrainError>((run, run.metrics(trainer.progress.metrics_bytes)?));
        // From the beginning, so that whatever weights there will be can be used.
        run.map_or(Ok(()), |run| run.keep_coding(trainer.task.coding()))?;
        let now = Instant::now();
        Ok(Session {
            run: run.map(metrics).transpose()?,
            mark: now,
            saved: (now, trainer.progress.step),
            told_bound: false,
            failed: None,
            hyper: trainer.step.groups().hyper(0, 1),
            seed: trainer.seed()?,
            step: HostTensor::scalar(0_u32),
        })
    }

    /// Seconds since the last call.
    fn lap(&mut self) -> f64 {
        let now = Instant::now();
        (now - std::mem::replace(&mut self.mark, now)).as_secs_f64()
    }
}

impl Trainer<'_> {
    /// Trains to the last epoch, from the beginning or from where [`resume`](Trainer::resume) left it, and measures the weights that
    /// are kept. Afterwards the store holds those weights.
    ///
    /// `callback` hears what happens. It may return nothing, or a [`Flow`] or `ControlFlow` to stop training.
    ///
    /// # Errors
    /// Too many steps in a row that are not finite; a run folder that cannot be written; data that cannot be read.
    /// [`TrainError::Stopped`] if training was asked to [stop](Trainer::stop_handle) or its time is over: the run has a checkpoint,
    /// and calling this again goes on.
    pub fn train<R: Reply>(
        &mut self,
        run: Option<&Run>,
        callback: &mut (impl FnMut(&Event) -> R + ?Sized),
    ) -> Result<Summary, TrainError> {
        let stop = self.stop.clone();
        let result = self.session(run, &mut |event| {
            if callback(event).flow() == Flow::Stop {
                stop.ask();
            }
        });
        self.stop.clear();
        if let Err(TrainError::Stopped(stopped)) = result {
            // The next session may take as long as this one.
            self.begun = Instant::now();
            let stopped = Stopped { run: run.map(|r| r.folder().into()), ..stopped };
            callback(&Event::Stopped(stopped.clone()));
            return Err(TrainError::Stopped(stopped));
        }
        result
    }

    fn session(&mut self, run: Option<&Run>, report: Report<'_>) -> Result<Summary, TrainError> {
        self.prepare()?;
        report(&Event::Started(self.started(run)));
        for message in std::mem::take(&mut self.warnings) {
            report(&Event::Warning { message });
        }
        let mut session = Session::new(self, run)?;
        let trained = self.epochs(&mut session, report);
        // However it ends, the store has its tensors at home.
        let fetched = self.store.fetch();
        if let Err(TrainError::Stopped(_)) = trained {
            self.checkpoint(&mut session, report)?;
        }
        trained?;
        fetched?;
        let summary = self.finish(&mut session, report)?;
        report(&Event::Finished(summary.clone()));
        Ok(summary)
    }

    /// Does what can fail before training begins: compiles every step and gives the tensors that live between steps their first
    /// values. [`train`](Trainer::train) does it too.
    ///
    /// # Errors
    /// A network that does not fit its data, or the memory of the machine.
    pub fn prepare(&mut self) -> Result<(), TrainError> {
        self.compile_all()?;
        self.initialise()
    }

    /// Compiles the steps for full batches and for what remains at the end of each part.
    fn compile_all(&mut self) -> Result<(), TrainError> {
        self.compile_for(Part::Train, Mode::Train)?;
        self.compile_for(Part::Validation, Mode::Evaluate)?;
        self.compile_for(Part::Test, Mode::Evaluate)
    }

    fn started(&self, run: Option<&Run>) -> Started {
        let programs = || self.training.iter().chain(&self.evaluation).map(|(_, c)| c.memory());
        let parameters = self.specs.iter().filter(|s| s.kind == StateKind::Parameter);
        Started {
            run: run.map(|r| r.folder().into()),
            device: self.backend.describe(),
            parameters: parameters.map(|s| s.ty.elements()).sum(),
            train_rows: self.task.rows(Part::Train),
            validation_rows: self.task.rows(Part::Validation),
            test_rows: self.task.rows(Part::Test),
            batch_size: self.task.batch_size(),
            steps_per_epoch: self.steps_per_epoch(),
            epochs: self.config.train.epochs,
            step: self.progress.step,
            arena_bytes: programs().map(|m| m.arena).max().unwrap_or(0),
            state_bytes: self.store.bytes(),
            scratch_bytes: programs().map(|m| m.scratch).max().unwrap_or(0),
            load_seconds: self.load_seconds,
            compile_seconds: self.compile_seconds,
            metric: self.scoring.name().into(),
            findings: self.task.findings().to_vec(),
        }
    }

    fn steps_per_epoch(&self) -> u64 {
        self.task.rows(Part::Train).div_ceil(self.task.batch_size()) as u64
    }

    pub(super) fn total_steps(&self) -> u64 {
        self.steps_per_epoch() * self.config.train.epochs
    }

    /// What the schedules look at, at a step from 0.
    pub(super) fn clock(&self, step: u64) -> Clock {
        let reductions = self.progress.plateau.reductions;
        Clock { reductions, ..Clock::new(step, self.total_steps()).steps_per_epoch(self.steps_per_epoch()) }
    }

    fn epochs(&mut self, session: &mut Session<'_>, report: Report<'_>) -> Result<(), TrainError> {
        while self.progress.epoch < self.config.train.epochs {
            if let Some(stopped) = self.early_stopped() {
                report(&Event::EarlyStopped(stopped));
                break;
            }
            self.stop_if_asked()?;
            self.epoch(session, report)?;
        }
        Ok(())
    }

    /// Where training ended before its last epoch because validation did not improve, if it did.
    fn early_stopped(&self) -> Option<EarlyStopped> {
        let (patience, epoch, epochs) = (self.config.train.early_stopping?, self.progress.epoch, self.config.train.epochs);
        let best_epoch = self.progress.best.as_ref().map_or(0, |b| b.epoch);
        let ended = epoch < epochs && self.progress.patience.bad_epochs >= patience;
        ended.then_some(EarlyStopped { epoch, epochs, patience, best_epoch })
    }

    /// Shows the validation to what waits for it to improve.
    fn watch(&mut self, score: &Score) {
        let train = &self.config.train;
        let (value, higher) = self.scoring.watched(score, train.early_stopping_monitor);
        self.progress.patience.observe(value, higher, train.early_stopping_min_delta);
        if let Some(plateau) = self.config.schedule.plateau() {
            let (value, higher) = self.scoring.watched(score, plateau.monitor);
            plateau.observe(&mut self.progress.plateau, value, higher);
        }
    }

    /// An error that ends the session if somebody asked for it.
    pub(super) fn stop_if_asked(&self) -> Result<(), TrainError> {
        if self.stop.is_asked() { Err(self.stopped(StopReason::Asked)) } else { Ok(()) }
    }

    /// The same, also if its time is over. Looked at after a step only, so that every session makes progress.
    fn stop_after_step(&self) -> Result<(), TrainError> {
        self.stop_if_asked()?;
        if self.time_is_over() { Err(self.stopped(StopReason::Time)) } else { Ok(()) }
    }

    fn time_is_over(&self) -> bool {
        self.max_time.is_some_and(|limit| self.begun.elapsed() >= limit.duration())
    }

    fn stopped(&self, reason: StopReason) -> TrainError {
        let (step, epoch, epochs) = (self.progress.step, self.progress.epoch, self.config.train.epochs);
        TrainError::Stopped(Stopped { reason, step, epoch, epochs, run: None })
    }

    fn epoch(&mut self, session: &mut Session<'_>, report: Report<'_>) -> Result<(), TrainError> {
        let (train, progress) = (&self.config.train, &self.progress);
        let shuffled = Some((train.seed, progress.epoch));
        self.loader.begin(Pass { part: Part::Train, shuffled, position: progress.position })?;
        while let Some(done) = self.train_step(session)? {
            self.after_step(&done, report)?;
            if self.is_settled() {
                self.stop_after_step()?;
                self.checkpoint_if_due(session, report)?;
            }
        }
        self.account(session);
        let training_seconds = self.progress.seconds.1;
        let validation = self.evaluate(Part::Validation)?;
        self.account(session);
        let epoch = self.close_epoch(validation, training_seconds)?;
        if let Some((_, metrics)) = &mut session.run {
            metrics.append(&epoch)?;
            self.progress.metrics_bytes = metrics.bytes();
        }
        let bound = epoch.input_bound.as_ref().map(|bound| bound.message.clone());
        report(&Event::Epoch(epoch));
        // Once is enough for a person; at the end it is said again.
        if let Some(message) = bound.filter(|_| !std::mem::replace(&mut session.told_bound, true)) {
            report(&Event::Warning { message });
        }
        Ok(())
    }

    /// Reports a step; stops training if too many in a row changed nothing.
    fn after_step(&mut self, done: &Done, report: Report<'_>) -> Result<(), TrainError> {
        let (all, consecutive) = &mut self.progress.nonfinite;
        if done.finite {
            *consecutive = 0;
        } else {
            (*all, *consecutive) = (*all + 1, *consecutive + 1);
            report(&Event::NonFinite { step: done.step.step, loss: done.step.loss, consecutive: *consecutive });
        }
        report(&Event::Step(done.step));
        if *consecutive >= self.config.train.max_nonfinite_steps {
            return Err(TrainError::Diverged { step: done.step.step, consecutive: *consecutive, loss: done.step.loss });
        }
        Ok(())
    }

    /// Moves on to the next epoch, keeping the weights if they are the best so far.
    fn close_epoch(&mut self, validation: Option<Score>, training_seconds: f64) -> Result<Epoch, TrainError> {
        let (number, seconds) = (self.progress.epoch + 1, self.progress.seconds.1);
        let best = match (&validation, &self.progress.best) {
            (Some(score), Some(best)) => self.scoring.better(score, &best.score),
            (score, _) => score.is_some(),
        };
        if let Some(score) = validation.clone().filter(|_| best) {
            self.progress.best = Some(Best { epoch: number, score });
            if self.config.train.keep_best {
                self.keep()?;
            }
        }
        let last_step = self.progress.step.saturating_sub(1);
        let mut epoch = Epoch {
            epoch: number,
            step: self.progress.step,
            train: self.scoring.score(&self.progress.sums),
            validation,
            learning_rate: self.step.groups().rates(self.clock(last_step)).first().map_or(0.0, |r| r.learning_rate),
            best,
            seconds,
            data_seconds: std::mem::take(&mut self.progress.data_seconds),
            training_seconds,
            rows_per_second: self.progress.sums.rows as f64 / seconds.max(1e-9),
            input: Input { threads: self.loader.threads(), ..std::mem::take(&mut self.progress.input) },
            input_bound: None,
        };
        epoch.input_bound = self.input_bound(std::slice::from_ref(&epoch));
        if let Some(score) = &epoch.validation {
            self.watch(score);
        }
        self.progress.sums.reset(self.scoring.sums);
        self.progress.history.push(epoch.clone());
        self.progress.epoch = number;
        self.progress.position = 0;
        self.progress.seconds.1 = 0.0;
        Ok(epoch)
    }

    /// Copies the current weights to where the best are kept.
    fn keep(&mut self) -> Result<(), TrainError> {
        self.store.fetch()?;
        match &mut self.best {
            Some(best) => {
                for (name, kept) in best {
                    if let Some(now) = weight(&self.store, name) {
                        kept.bytes_mut().copy_from_slice(now.bytes());
                    }
                }
            }
            None => self.best = Some(self.weights().map(|(name, t)| (name.into(), t.clone())).collect()),
        }
        Ok(())
    }

    fn account(&mut self, session: &mut Session<'_>) {
        let seconds = session.lap();
        self.progress.seconds.0 += seconds;
        self.progress.seconds.1 += seconds;
    }

    fn checkpoint_if_due(&mut self, session: &mut Session<'_>, report: Report<'_>) -> Result<(), TrainError> {
        if self.checkpoint_is_due(session, self.progress.step) { self.checkpoint(session, report) } else { Ok(()) }
    }

    /// Whether there is to be a checkpoint after so many steps.
    fn checkpoint_is_due(&self, session: &Session<'_>, steps: u64) -> bool {
        let (train, (time, step)) = (&self.config.train, session.saved);
        let by_steps = train.checkpoint_every_steps.is_some_and(|n| steps - step >= n);
        by_steps || time.elapsed().as_secs_f64() >= train.checkpoint_every_seconds
    }

    /// Whether no step may be started before those under way are done.
    pub(super) fn must_settle(&self, session: &Session<'_>, started: u64) -> bool {
        self.stop.is_asked() || self.time_is_over() || self.checkpoint_is_due(session, started)
    }

    fn checkpoint(&mut self, session: &mut Session<'_>, report: Report<'_>) -> Result<(), TrainError> {
        self.store.fetch()?;
        self.account(session);
        let Some((run, metrics)) = &session.run else { return Ok(()) };
        let clock = Instant::now();
        // Lines that the checkpoint counts must be on the disk before it is.
        metrics.sync()?;
        let state = self.store.iter().filter(|(name, _)| *name != CLEAR);
        let path = run.checkpoints().save(self.progress.step, &self.progress, state, self.best.as_deref())?;
        run.draw(&self.progress.history, self.scoring.name())?;
        session.saved = (Instant::now(), self.progress.step);
        report(&Event::Checkpoint { step: self.progress.step, path, seconds: clock.elapsed().as_secs_f64() });
        Ok(())
    }

    fn finish(&mut self, session: &mut Session<'_>, report: Report<'_>) -> Result<Summary, TrainError> {
        self.checkpoint(session, report)?;
        let last = self.progress.history.last().and_then(|e| e.validation.clone());
        let (mut epoch, mut validation) = (self.progress.epoch, last);
        if let (Some(best), Some(weights)) = (self.progress.best.clone(), self.best.clone()) {
            (epoch, validation) = (best.epoch, Some(best.score));
            self.put(weights, is_weight, "the best weights")?;
        } else if self.config.train.ema.is_some() {
            let averages = self.weights().map(|(name, t)| (name.into(), t.clone())).collect();
            self.put(averages, is_weight, "the averaged weights")?;
        }
        let test = self.evaluate(Part::Test)?;
        self.account(session);
        let mut summary = Summary {
            scores: Default::default(),
            metric: self.scoring.name().into(),
            epoch,
            steps: self.progress.step,
            nonfinite_steps: self.progress.nonfinite.0,
            early_stopped: self.early_stopped().is_some(),
            wall_s: self.progress.seconds.0,
            data_s: self.progress.history.iter().map(|epoch| epoch.data_seconds).sum(),
            input_bound: self.input_bound(&self.progress.history),
        };
        for (part, score) in [("validation", validation), ("test", test)] {
            score.iter().for_each(|score| summary.add(part, score));
        }
        if let Some((run, _)) = &session.run {
            let weights: Tensors = self.weights().map(|(name, t)| (name.into(), t.clone())).collect();
            run.finish(&weights, &self.progress.history, &summary)?;
        }
        Ok(summary)
    }
}
