//! Steps under way: on a device that computes on its own, steps are started before the results of earlier ones are known.
//!
//! What a step is given must not depend on when results come. The one thing that does is the number of updates, which does not count
//! steps that were not finite. After such a step those under way change nothing (see [`StepTrace::run_ahead`]): they are forgotten, and
//! training goes on from the batch after it. So the run is the one that waits for every step.
//!
//! [`StepTrace::run_ahead`]: crate::step::StepTrace::run_ahead

use super::{Part, TrainError, Trainer, feed::Pass, find, program::Runtime, session::Session};
use crate::{events::Step, step::CLEAR};
use backprop_core::{DType, HostTensor, Type};
use std::time::Instant;

/// A step that was started.
#[derive(Clone, Copy)]
pub(super) struct Started {
    rows: usize,
    learning_rate: f64,
}

/// A step that was done.
pub(super) struct Done {
    pub(super) step: Step,
    pub(super) finite: bool,
}

impl Trainer<'_> {
    /// Whether no step is under way: progress and state say the same.
    pub(super) fn is_settled(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Starts as many steps as may be under way and waits for the oldest; `None` at the end of the epoch. A step that cannot be started is
    /// an error in its turn, after those before it.
    pub(super) fn train_step(&mut self, session: &mut Session<'_>) -> Result<Option<Done>, TrainError> {
        while session.failed.is_none() && self.under_way.len() < self.backend.depth() {
            let started = self.progress.step + self.under_way.len() as u64;
            if !self.is_settled() && self.must_settle(session, started) {
                break;
            }
            match self.start_step(session, started) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => session.failed = Some(error),
            }
        }
        match session.failed.take_if(|_| self.is_settled()) {
            Some(error) => Err(error),
            None => self.finish_step(session),
        }
    }

    /// Starts a step, the `step`th from 0, on the next batch; whether there is one.
    fn start_step(&mut self, session: &mut Session<'_>, step: u64) -> Result<bool, TrainError> {
        let rates = self.step.groups().rates(self.clock(step));
        let Some(batch) = self.loader.next()? else { return Ok(false) };
        // What counts updates, such as Adam's bias correction, must not count steps that changed nothing.
        self.step.groups().write_hyper(&rates, step - self.progress.nonfinite.0, &mut session.hyper);
        if let Some([slot]) = session.step.as_mut_slice::<u32>() {
            // The random streams count steps in 32 bits.
            *slot = step as u32;
        }
        let runtime = Runtime { hyper: &session.hyper, seed: &session.seed, step: &session.step };
        find(&mut self.training, batch.rows)?.start(&mut self.store, batch, runtime)?;
        self.under_way.push_back(Started { rows: batch.rows, learning_rate: rates.first().map_or(0.0, |r| r.learning_rate) });
        Ok(true)
    }

    fn finish_step(&mut self, session: &mut Session<'_>) -> Result<Option<Done>, TrainError> {
        let Some(Started { rows, learning_rate }) = self.under_way.pop_front() else { return Ok(None) };
        let total_steps = self.total_steps();
        let clock = Instant::now();
        let measured = find(&mut self.training, rows)?.finish()?;
        self.progress.take_in(self.loader.take_intake(), self.backend.depth() > 1, clock.elapsed());
        self.progress.step += 1;
        self.progress.position += rows;
        self.progress.sums.add(&measured, rows);
        let step = Step {
            step: self.progress.step,
            epoch: self.progress.epoch + 1,
            loss: measured.loss_sum / measured.weight,
            gradient_norm: measured.norm,
            learning_rate,
            metric: self.scoring.main(&self.progress.sums),
            epoch_loss: self.progress.sums.loss(),
            rows,
            total_steps,
        };
        let finite = measured.finite;
        if !finite && self.backend.depth() > 1 {
            session.failed = None;
            self.forget()?;
        }
        Ok(Some(Done { step, finite }))
    }

    /// Forgets the steps under way, which change nothing because the last one was not finite, and goes back to the batch after it.
    fn forget(&mut self) -> Result<(), TrainError> {
        while let Some(started) = self.under_way.pop_front() {
            find(&mut self.training, started.rows)?.finish()?;
        }
        self.clear();
        let shuffled = Some((self.config.train.seed, self.progress.epoch));
        self.loader.begin(Pass { part: Part::Train, shuffled, position: self.progress.position })
    }

    /// Lets steps that run ahead change something again.
    pub(super) fn clear(&mut self) {
        let mut clear = HostTensor::zeros(Type::scalar(DType::Bool));
        clear.bytes_mut().fill(1);
        self.store.insert(CLEAR, clear);
    }
}
