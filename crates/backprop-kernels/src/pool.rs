//! The thread pool: a persistent team, a cheap barrier, asleep when idle.
//!
//! Work comes in phases of independent tasks. Each thread first claims tasks of its own share, the same part of every phase, so that it finds
//! in its core's caches what it made there, and then those of the others. The thread that finishes the last task of a phase makes the
//! next one ready: nobody ever waits for a particular thread to wake up or to get its core back before it has claimed something,
//! the caller's included.

use std::any::Any;
use std::cell::UnsafeCell;
use std::hint::spin_loop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Turns of `spin_loop` before a waiting thread sleeps: 40 to 160 µs, a few tasks. It does not yield before that: where a core is
/// shared, Linux lets a thread that yields wait for all others' time slices, but one that wakes up go first.
const SPINS: usize = 4_000;
/// After so long a thread offers its core to others before it claims another task. Where a core is shared the system takes it away
/// after a few milliseconds anyway; taken within a task, all would wait until it comes back.
const SLICE: Duration = Duration::from_micros(1_400);

/// Shares at most: of more threads, neighbours have one together, because to publish a phase costs a cache line for each.
const MAX_SHARES: usize = 8;

/// Independent tasks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Phase {
    /// How many.
    pub tasks: usize,
    /// Whether all of them take less time than sharing them would: one thread runs them.
    pub short: bool,
}

/// Phases of independent tasks.
pub trait Work: Sync {
    /// Makes the next phase ready, `None` at the end. Called when the tasks of the phase before are finished, and never while
    /// anything else of this work runs.
    fn next(&self) -> Option<Phase>;

    /// Runs a task of the phase.
    fn task(&self, task: usize, worker: usize);
}

/// One phase.
struct Single<'a> {
    tasks: usize,
    given: AtomicBool,
    body: &'a (dyn Fn(usize, usize) + Sync),
}

impl Work for Single<'_> {
    fn next(&self) -> Option<Phase> {
        (!self.given.swap(true, Ordering::Relaxed)).then_some(Phase { tasks: self.tasks, short: false })
    }

    fn task(&self, task: usize, worker: usize) {
        (self.body)(task, worker);
    }
}

/// What a new team does.
static NOTHING: Single<'static> = Single { tasks: 0, given: AtomicBool::new(true), body: &|_, _| {} };

/// A persistent team of threads that runs numbered tasks.
///
/// The calling thread is worker 0; `threads - 1` more are spawned once and sleep when there is nothing to do.
#[derive(Debug)]
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

/// A counter on cache lines of its own: claims by one thread must not slow those of others, nor completions.
#[repr(align(128))]
#[derive(Debug, Default)]
struct Line<T>(T);

struct Shared {
    /// The number of the present phase.
    phase: Line<AtomicU64>,
    /// For each share the number of a phase, in the upper half, and how many tasks of it nobody has claimed.
    shares: Vec<Line<AtomicU64>>,
    threads: usize,
    /// Tasks of the phase that are not finished.
    unfinished: Line<AtomicUsize>,
    /// Tasks of the phase.
    tasks: AtomicUsize,
    /// Held by the one caller whose work the team does.
    busy: Line<AtomicBool>,
    /// Whether the work is done.
    over: AtomicBool,
    sleepers: AtomicUsize,
    caller_sleeps: AtomicBool,
    shutdown: AtomicBool,
    /// What is being done; written only by the thread that holds `busy`, while no task is unclaimed.
    work: UnsafeCell<*const (dyn Work + 'static)>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    panicked: AtomicBool,
    gate: Mutex<()>,
    wanted: Condvar,
    done: Condvar,
}

// SAFETY: `work` is the only field that is not already Sync. It is written by the holder of `busy` before the release stores of
// `shares`, and read only by a thread that has claimed a task or finished the last one, which keeps the work from ending.
unsafe impl Sync for Shared {}
// SAFETY: the raw pointer in `work` is dereferenced only as described above, by whichever thread.
unsafe impl Send for Shared {}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("sleepers", &self.sleepers).finish_non_exhaustive()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Whether another phase than that was published.
    fn is_after(&self, phase: u64, order: Ordering) -> bool {
        self.phase.0.load(order) != phase
    }

    /// The first task of a share, or the end of the one before it.
    fn start_of(&self, share: usize, tasks: usize) -> usize {
        share * tasks / self.shares.len()
    }

    /// A task that nobody else will run: of the worker's own share, or else of the next ones.
    fn claim(&self, worker: usize) -> Option<usize> {
        let shares = self.shares.len();
        let own = worker * shares / self.threads;
        (own..shares).chain(0..own).find_map(|share| self.claim_of(share))
    }

    fn claim_of(&self, share: usize) -> Option<usize> {
        let counter = &self.shares[share].0;
        let mut seen = counter.load(Ordering::Relaxed);
        loop {
            let left = seen as u32 as usize;
            if left == 0 {
                return None;
            }
            match counter.compare_exchange_weak(seen, seen - 1, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Some(self.start_of(share + 1, self.tasks.load(Ordering::Relaxed)) - left),
                Err(now) => seen = now,
            }
        }
    }

    /// The work, for a thread that keeps it from ending.
    ///
    /// # Safety
    /// The caller holds a task that is not finished, or has finished the last of a phase and has not begun the next.
    unsafe fn work(&self) -> &dyn Work {
        // SAFETY: the pointer was written before the phase was published, and whoever lent it waits for the end of the work.
        unsafe { &**self.work.get() }
    }

    /// Claims and runs tasks until none is left. Gives the phase that had none.
    fn help(&self, worker: usize, slice: &mut Slice) -> u64 {
        loop {
            // Read before the shares: they are those of this phase, or of a later one.
            let phase = self.phase.0.load(Ordering::Acquire);
            let Some(task) = self.claim(worker) else { return phase };
            // SAFETY: the task is claimed, and not finished before the call returns.
            self.guarded(|| unsafe { self.work() }.task(task, worker));
            if self.unfinished.0.fetch_sub(1, Ordering::AcqRel) == 1 {
                self.advance(worker);
            }
            slice.offer();
        }
    }

    /// Keeps a panic for the caller of the work.
    fn guarded<R>(&self, run: impl FnOnce() -> R) -> Option<R> {
        let payload = match catch_unwind(AssertUnwindSafe(run)) {
            Ok(result) => return Some(result),
            Err(payload) => payload,
        };
        locked(&self.panic).get_or_insert(payload);
        self.panicked.store(true, Ordering::Relaxed);
        None
    }

    /// Begins the next phase that is worth a team, or ends the work. Others are run on the spot.
    fn advance(&self, worker: usize) {
        // SAFETY: the tasks so far are finished, and this thread alone goes on.
        let work = unsafe { self.work() };
        let phase = || loop {
            let Phase { tasks, short } = work.next()?;
            if tasks > 1 && !short {
                return Some(tasks);
            }
            (0..tasks).for_each(|task| work.task(task, worker));
        };
        if !self.panicked.load(Ordering::Relaxed)
            && let Some(tasks) = self.guarded(phase).flatten()
        {
            return self.publish(tasks);
        }
        self.over.store(true, Ordering::SeqCst);
        self.wake_caller();
    }

    fn wake_caller(&self) {
        if self.caller_sleeps.load(Ordering::SeqCst) {
            drop(locked(&self.gate));
            self.done.notify_all();
        }
    }

    /// Makes a phase visible and wakes as many sleepers as it has tasks for.
    fn publish(&self, tasks: usize) {
        self.tasks.store(tasks, Ordering::Relaxed);
        self.unfinished.0.store(tasks, Ordering::Relaxed);
        let phase = self.phase.0.load(Ordering::Relaxed).wrapping_add(1);
        for (share, counter) in self.shares.iter().enumerate() {
            let own = self.start_of(share + 1, tasks) - self.start_of(share, tasks);
            if own > 0 {
                counter.0.store(phase << 32 | own as u64, Ordering::Release);
            }
        }
        self.phase.0.store(phase, Ordering::SeqCst);
        self.wake_caller();
        let sleepers = self.sleepers.load(Ordering::SeqCst);
        if sleepers > 0 {
            drop(locked(&self.gate));
            for _ in 0..sleepers.min(tasks - 1) {
                self.wanted.notify_one();
            }
        }
    }

    /// Takes part until the work is done.
    fn help_until_over(&self) {
        let mut slice = Slice::default();
        while !self.over.load(Ordering::Acquire) {
            let empty = self.help(0, &mut slice);
            if spin_until(|| self.is_after(empty, Ordering::Relaxed) || self.over.load(Ordering::Acquire)) {
                continue;
            }
            self.caller_sleeps.store(true, Ordering::SeqCst);
            let mut gate = locked(&self.gate);
            while !self.is_after(empty, Ordering::SeqCst) && !self.over.load(Ordering::SeqCst) {
                gate = self.done.wait(gate).unwrap_or_else(PoisonError::into_inner);
            }
            drop(gate);
            self.caller_sleeps.store(false, Ordering::SeqCst);
            slice = Slice::default();
        }
    }

    fn work_until_shutdown(&self, worker: usize) {
        let mut slice = Slice::default();
        while !self.shutdown.load(Ordering::Acquire) {
            let empty = self.help(worker, &mut slice);
            if spin_until(|| self.is_after(empty, Ordering::Relaxed) || self.shutdown.load(Ordering::Relaxed)) {
                continue;
            }
            let mut gate = locked(&self.gate);
            self.sleepers.fetch_add(1, Ordering::SeqCst);
            while !self.is_after(empty, Ordering::SeqCst) && !self.shutdown.load(Ordering::SeqCst) {
                gate = self.wanted.wait(gate).unwrap_or_else(PoisonError::into_inner);
            }
            self.sleepers.fetch_sub(1, Ordering::SeqCst);
            slice = Slice::default();
        }
    }
}

/// How long a thread has had its core.
#[derive(Default)]
struct Slice {
    since: Option<Instant>,
}

impl Slice {
    /// Offers the core to others from time to time.
    fn offer(&mut self) {
        let now = Instant::now();
        if now - *self.since.get_or_insert(now) >= SLICE {
            thread::yield_now();
            self.since = None;
        }
    }
}

/// Waits a bounded time for `ready`; says whether it came true.
fn spin_until(ready: impl Fn() -> bool) -> bool {
    (0..SPINS).any(|_| {
        spin_loop();
        ready()
    })
}

impl Pool {
    /// A team of `threads` workers (at least one), the calling thread included.
    ///
    /// Where the system refuses a thread the team is smaller; [`threads`](Self::threads) says how large it is.
    pub fn new(threads: usize) -> Pool {
        let shared = Arc::new(Shared {
            phase: Line::default(),
            shares: (0..threads.clamp(1, MAX_SHARES)).map(|_| Line::default()).collect(),
            threads: threads.max(1),
            unfinished: Line::default(),
            tasks: AtomicUsize::new(0),
            busy: Line::default(),
            over: AtomicBool::new(true),
            sleepers: AtomicUsize::new(0),
            caller_sleeps: AtomicBool::new(false),
            shutdown: AtomicBool::new(false),
            work: UnsafeCell::new(&raw const NOTHING),
            panic: Mutex::new(None),
            panicked: AtomicBool::new(false),
            gate: Mutex::new(()),
            wanted: Condvar::new(),
            done: Condvar::new(),
        });
        let mut workers = Vec::new();
        for worker in 1..threads.max(1) {
            let team = Arc::clone(&shared);
            let spawned =
                thread::Builder::new().name(format!("backprop-{worker}")).spawn(move || team.work_until_shutdown(worker));
            match spawned {
                Ok(handle) => workers.push(handle),
                Err(_) => break,
            }
        }
        Pool { shared, workers }
    }

    /// Number of workers, the calling thread included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `body(task, worker)` for every task in `0..tasks` and returns when all are done: [`drive`](Self::drive) with one phase.
    ///
    /// # Panics
    /// As [`drive`](Self::drive).
    pub fn run(&self, tasks: usize, body: &(dyn Fn(usize, usize) + Sync)) {
        self.drive(&Single { tasks, given: AtomicBool::new(false), body });
    }

    /// Does work, phase by phase, and returns when it is done.
    ///
    /// Tasks are handed out dynamically, in ascending order within each worker's share. `worker` is below [`threads`](Self::threads) and no two tasks
    /// of *one work* execute at the same time with the same worker. While the team is busy with another caller's work
    /// (or when called from inside a task) the tasks run one after the other on this thread as worker 0.
    ///
    /// # Panics
    /// With the payload of the first task that panicked, after all tasks of its phase have finished. No later phase begins.
    pub fn drive(&self, work: &dyn Work) {
        let shared = &*self.shared;
        if self.workers.is_empty() || shared.busy.0.swap(true, Ordering::Acquire) {
            while let Some(Phase { tasks, .. }) = work.next() {
                (0..tasks).for_each(|task| work.task(task, 0));
            }
            return;
        }
        // SAFETY: only the lifetime is erased; this function does not return before the work is over, after which nobody uses it.
        let work: *const (dyn Work + 'static) = unsafe { std::mem::transmute::<&dyn Work, &'static (dyn Work + 'static)>(work) };
        // SAFETY: this thread holds `busy` and no task is unclaimed, so nobody reads the work now.
        unsafe { *shared.work.get() = work };
        shared.panicked.store(false, Ordering::Relaxed);
        shared.over.store(false, Ordering::Relaxed);
        shared.advance(0);
        shared.help_until_over();
        let panic = locked(&shared.panic).take();
        shared.busy.0.store(false, Ordering::Release);
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.shutdown.store(true, Ordering::SeqCst);
        drop(locked(&self.shared.gate));
        self.shared.wanted.notify_all();
        for worker in self.workers.drain(..) {
            // A worker catches every panic of a task, so joining cannot fail for a reason anybody could act on.
            let _ = worker.join();
        }
    }
}
