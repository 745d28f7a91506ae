//! Batches ahead of the step: threads of their own read and decode what comes next while the step computes.
//!
//! Which rows are in which batch is a function of the pass alone, so the number of threads changes nothing but time. Buffers go round
//! in a ring: after the first turn nothing is allocated.

use super::{
    TrainError,
    feed::{Batch, Feed, Pass},
};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Batches that each thread may be ahead.
const AHEAD: usize = 2;

/// Gives the batches of one pass after the other.
pub(super) struct Loader {
    feed: Arc<Feed>,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// The batch that was given last.
    current: Option<Batch>,
    /// Batches that go round, where no thread fills them.
    spare: Vec<Batch>,
    rows: Vec<usize>,
    /// The pass, and the number of its next batch.
    pass: Option<(Pass, usize)>,
    intake: Intake,
}

/// Times of the batches that were given.
#[derive(Clone, Copy, Default)]
pub(super) struct Intake {
    /// Spent in [`Loader::next`].
    pub(super) waited: Duration,
    /// Spent on filling them, by stages.
    pub(super) reading: Duration,
    pub(super) augmenting: Duration,
}

struct Shared {
    state: Mutex<State>,
    /// There is room, another pass, or an end.
    wanted: Condvar,
    /// A batch is filled.
    filled: Condvar,
}

struct State {
    /// The pass, and its number: a batch of an earlier one is of no use.
    pass: Option<Pass>,
    turn: u64,
    /// Number of batches of the pass.
    batches: usize,
    /// The next batch that nobody fills yet, and the next to be given.
    next: usize,
    given: usize,
    slots: Vec<Slot>,
    closed: bool,
}

/// What is between the threads and the step for the batches whose number leaves the same remainder.
#[derive(Default)]
struct Slot {
    filled: Option<(usize, Result<Batch, TrainError>)>,
    spare: Vec<Batch>,
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Loader {
    /// A loader with `threads` threads; with none, batches are filled when they are asked for.
    pub(super) fn new(feed: Arc<Feed>, threads: usize) -> Loader {
        let slots = (0..threads * AHEAD).map(|_| Slot::default()).collect();
        let state = State { pass: None, turn: 0, batches: 0, next: 0, given: 0, slots, closed: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), wanted: Condvar::new(), filled: Condvar::new() });
        let spawn = |i: usize| {
            let (feed, shared) = (Arc::clone(&feed), Arc::clone(&shared));
            thread::Builder::new().name(format!("loader {i}")).spawn(move || work(&feed, &shared))
        };
        // A thread that the system refuses is done without; with none at all, batches are filled by the caller.
        let threads = (0..threads).map_while(|i| spawn(i).ok()).collect();
        let (current, spare, rows, intake) = (None, Vec::new(), Vec::new(), Intake::default());
        Loader { feed, shared, threads, current, spare, rows, pass: None, intake }
    }

    /// Begins a pass.
    pub(super) fn begin(&mut self, pass: Pass) -> Result<(), TrainError> {
        let batches = self.feed.batches(pass)?.remaining();
        self.pass = Some((pass, 0));
        if self.threads.is_empty() {
            return Ok(());
        }
        let mut state = locked(&self.shared.state);
        (state.pass, state.turn, state.batches, state.next, state.given) = (Some(pass), state.turn + 1, batches, 0, 0);
        for slot in &mut state.slots {
            if let Some((_, Ok(batch))) = slot.filled.take() {
                slot.spare.push(batch);
            }
        }
        drop(state);
        self.shared.wanted.notify_all();
        Ok(())
    }

    /// The next batch of the pass, `None` after the last.
    ///
    /// # Errors
    /// What reading the data gave.
    pub(super) fn next(&mut self) -> Result<Option<&Batch>, TrainError> {
        let clock = Instant::now();
        let result = if self.threads.is_empty() { self.fill_next() } else { self.wait_for_next() };
        self.intake.waited += clock.elapsed();
        match result {
            Ok(true) => {
                if let Some(batch) = &self.current {
                    self.intake.reading += batch.reading;
                    self.intake.augmenting += batch.augmenting;
                }
                Ok(self.current.as_ref())
            }
            Ok(false) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Times of the batches that were given since this was last asked.
    pub(super) fn take_intake(&mut self) -> Intake {
        std::mem::take(&mut self.intake)
    }

    /// Number of threads that fill batches ahead.
    pub(super) fn threads(&self) -> usize {
        self.threads.len()
    }

    fn fill_next(&mut self) -> Result<bool, TrainError> {
        let Some((pass, number)) = self.pass else { return Ok(false) };
        self.spare.extend(self.current.take());
        if !rows_of(&self.feed, pass, number, &mut self.rows)? {
            return Ok(false);
        }
        let mut batch = take_or_make(&mut self.spare, &self.feed, self.rows.len());
        let filled = self.feed.fill(pass, &self.rows, &mut batch);
        self.current = Some(batch);
        self.pass = Some((pass, number + 1));
        filled.map(|()| true)
    }

    fn wait_for_next(&mut self) -> Result<bool, TrainError> {
        let mut state = locked(&self.shared.state);
        let ring = state.slots.len();
        if let Some(batch) = self.current.take() {
            let last = (state.given + ring - 1) % ring;
            state.slots[last].spare.push(batch);
        }
        let number = state.given;
        if number >= state.batches {
            return Ok(false);
        }
        let batch = loop {
            match state.slots[number % ring].filled.take() {
                Some((n, batch)) if n == number => break batch,
                _ => state = self.shared.filled.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        };
        state.given += 1;
        drop(state);
        self.shared.wanted.notify_one();
        self.current = Some(batch?);
        Ok(true)
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        locked(&self.shared.state).closed = true;
        self.shared.wanted.notify_all();
        for thread in self.threads.drain(..) {
            // A thread of the loader catches its panics; there is nothing to learn from its end.
            let _ = thread.join();
        }
    }
}

/// What a thread of the loader does.
fn work(feed: &Feed, shared: &Shared) {
    let mut rows = Vec::new();
    let mut state = locked(&shared.state);
    loop {
        if state.closed {
            return;
        }
        let ring = state.slots.len();
        let room = state.next < state.batches && state.next < state.given + ring;
        let Some(pass) = state.pass.filter(|_| room) else {
            state = shared.wanted.wait(state).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        let (number, turn) = (state.next, state.turn);
        state.next += 1;
        let mut spare = std::mem::take(&mut state.slots[number % ring].spare);
        drop(state);
        let filled = catch_unwind(AssertUnwindSafe(|| filled(feed, pass, number, &mut rows, &mut spare)));
        let filled = filled.unwrap_or(Err(TrainError::Loader));
        state = locked(&shared.state);
        let current = state.turn == turn;
        let slot = &mut state.slots[number % ring];
        // The vector that has room already goes back, so that returning a batch to it allocates nothing.
        let returned = std::mem::replace(&mut slot.spare, std::mem::take(&mut spare));
        slot.spare.extend(returned);
        match filled {
            result if current => slot.filled = Some((number, result)),
            Ok(batch) => slot.spare.push(batch),
            Err(_) => {}
        }
        shared.filled.notify_one();
    }
}

/// Batch `number` of a pass.
fn filled(feed: &Feed, pass: Pass, number: usize, rows: &mut Vec<usize>, spare: &mut Vec<Batch>) -> Result<Batch, TrainError> {
    rows_of(feed, pass, number, rows)?;
    let mut batch = take_or_make(spare, feed, rows.len());
    feed.fill(pass, rows, &mut batch)?;
    Ok(batch)
}

/// The rows of batch `number` of a pass; whether there is such a batch.
fn rows_of(feed: &Feed, pass: Pass, number: usize, rows: &mut Vec<usize>) -> Result<bool, TrainError> {
    let position = pass.position.saturating_add(number.saturating_mul(feed.batch_size));
    Ok(feed.batches(Pass { position, ..pass })?.next_into(rows))
}

fn take_or_make(spare: &mut Vec<Batch>, feed: &Feed, rows: usize) -> Batch {
    match spare.iter().position(|b| b.rows == rows) {
        Some(i) => spare.swap_remove(i),
        None => Batch::new(feed, rows),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::Part;
    use backprop_data::{Augment, Column, DataError, Dataset, Flip, Parts, Scale, synthetic};

    /// Points that take their time, and one of which cannot be read.
    struct Slow(backprop_data::InMemory, Option<usize>);

    impl Dataset for Slow {
        fn name(&self) -> &str {
            self.0.name()
        }
        fn len(&self) -> usize {
            self.0.len()
        }
        fn columns(&self) -> &[Column] {
            self.0.columns()
        }
        fn fill_f32(&self, column: usize, rows: &[usize], scale: &Scale, out: &mut [f32]) -> Result<(), DataError> {
            thread::sleep(Duration::from_micros(50 * (rows[0] % 7) as u64));
            match self.1.filter(|bad| rows.contains(bad)) {
                Some(row) => Err(DataError::NoRow { data: "slow".into(), row, rows: 0 }),
                None => self.0.fill_f32(column, rows, scale, out),
            }
        }
        fn fill_i32(&self, column: usize, rows: &[usize], out: &mut [i32]) -> Result<(), DataError> {
            self.0.fill_i32(column, rows, out)
        }
    }

    fn feed(bad: Option<usize>) -> Arc<Feed> {
        let points = synthetic::clusters(103, 3, 4, 1).unwrap();
        let parts = Parts::shuffled(Arc::new(Slow(points, bad)));
        let identity = Scale::identity;
        let (scale, target_scale, target_shape) = (identity(), identity(), vec![]);
        Arc::new(Feed { parts, input: 0, target: 1, scale, target_scale, target_shape, batch_size: 10, augment: None })
    }

    fn pass(epoch: u64, position: usize) -> Pass {
        Pass { part: Part::Train, shuffled: Some((5, epoch)), position }
    }

    /// Points and labels of all batches of a pass, up to `most`.
    fn batches(loader: &mut Loader, pass: Pass, most: usize) -> Vec<(Vec<f32>, Vec<i32>)> {
        loader.begin(pass).unwrap();
        let mut all = Vec::new();
        while all.len() < most
            && let Some(batch) = loader.next().unwrap()
        {
            all.push((batch.x.as_slice::<f32>().unwrap().to_vec(), batch.y.as_slice::<i32>().unwrap().to_vec()));
        }
        all
    }

    #[test]
    fn any_number_of_threads_gives_the_same_batches() {
        let feed = feed(None);
        let mut plain = Loader::new(Arc::clone(&feed), 0);
        let expected: Vec<_> = (0..3).map(|epoch| batches(&mut plain, pass(epoch, 0), usize::MAX)).collect();
        assert_eq!(expected[0].len(), 11);
        assert_ne!(expected[0], expected[1]);
        for threads in [1, 2, 5] {
            let mut loader = Loader::new(Arc::clone(&feed), threads);
            for (epoch, expected) in expected.iter().enumerate() {
                assert_eq!(batches(&mut loader, pass(epoch as u64, 0), usize::MAX), *expected);
                // A pass that is given up, and one that goes on where another stopped.
                assert_eq!(batches(&mut loader, pass(epoch as u64, 0), 2), expected[..2]);
                assert_eq!(batches(&mut loader, pass(epoch as u64, 30), usize::MAX), expected[3..]);
            }
        }
    }

    /// Images that are changed at random are the same for any number of threads and from any position, other ones in every epoch,
    /// and as they are where nothing is shuffled. An autoencoder restores what it is shown.
    #[test]
    fn changed_images_depend_on_seed_epoch_and_row_alone() {
        let augment = Augment { crop: 2, flip: Some(Flip::Horizontal), brightness: Some(0.3), ..Augment::default() };
        let feed = |augment, target: usize| {
            let images = synthetic::images(35, [8, 6, 3], 4, 1).unwrap();
            let parts = Parts::shuffled(Arc::new(images));
            let scale = Scale::new(vec![1.0, 2.0, 3.0], vec![0.5; 3]).unwrap();
            let (target_scale, target_shape) = (scale.clone(), parts.train.columns()[target].shape.clone());
            Arc::new(Feed { parts, input: 0, target, scale, target_scale, target_shape, batch_size: 10, augment })
        };
        let changed = feed(Some(augment.clone()), 1);
        let mut plain = Loader::new(Arc::clone(&changed), 0);
        let expected: Vec<_> = (0..2).map(|epoch| batches(&mut plain, pass(epoch, 0), usize::MAX)).collect();
        let as_they_are = batches(&mut Loader::new(feed(None, 1), 0), pass(0, 0), usize::MAX);
        assert!(expected[0] != as_they_are && expected[0] != expected[1]);
        assert!(expected[0].iter().map(|b| &b.1).eq(as_they_are.iter().map(|b| &b.1)), "labels change with the images");
        for threads in [1, 3] {
            let mut loader = Loader::new(Arc::clone(&changed), threads);
            for (epoch, expected) in expected.iter().enumerate() {
                assert_eq!(batches(&mut loader, pass(epoch as u64, 20), usize::MAX), expected[2..]);
            }
        }
        let sequential = Pass { shuffled: None, ..pass(0, 0) };
        let (mut with, mut without) = (Loader::new(changed, 0), Loader::new(feed(None, 1), 0));
        assert_eq!(batches(&mut with, sequential, 4), batches(&mut without, sequential, 4));
        let mut autoencoder = Loader::new(feed(Some(augment), 0), 0);
        autoencoder.begin(pass(0, 0)).unwrap();
        let batch = autoencoder.next().unwrap().unwrap();
        assert_eq!(batch.x.as_slice::<f32>(), batch.y.as_slice::<f32>());
        assert_eq!(batch.x.as_slice::<f32>().unwrap(), expected[0][0].0);
    }

    #[test]
    fn rows_that_cannot_be_read_are_an_error_in_their_turn() {
        for threads in [0, 3] {
            let mut loader = Loader::new(feed(Some(42)), threads);
            loader.begin(Pass { shuffled: None, ..pass(0, 0) }).unwrap();
            for _ in 0..4 {
                assert!(loader.next().unwrap().is_some());
            }
            assert!(loader.next().map(|_| ()).unwrap_err().to_string().contains("42"));
        }
    }
}
