//! The thread pool: a persistent team, a cheap barrier, asleep when idle.
//!
//! Tasks are claimed from one atomic counter, so a run is finished when its *tasks* are finished: nobody ever waits for a
//! particular thread to wake up or to get its core back before it has claimed something.

use std::any::Any;
use std::cell::UnsafeCell;
use std::hint::spin_loop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

/// Turns of `spin_loop` before a waiting thread starts to yield: 10 to 40 µs, the length of a task.
const SPINS: usize = 1_000;
/// Turns of `yield_now` after that before it sleeps; each is a system call, so this bounds what an idle team costs.
const YIELDS: usize = 20;

/// A task: called with (task, worker).
type Body<'a> = dyn Fn(usize, usize) + Sync + 'a;

/// A persistent team of threads that runs numbered tasks.
///
/// The calling thread is worker 0; `threads - 1` more are spawned once and sleep when there is nothing to do.
#[derive(Debug)]
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

/// Two counters on separate cache lines: claims by all threads must not slow completions.
#[repr(align(128))]
#[derive(Debug, Default)]
struct Line<T>(T);

/// The run in progress; written only by the thread that holds `busy`, while `unclaimed` is not positive.
struct Job {
    body: *const Body<'static>,
    tasks: usize,
}

struct Shared {
    /// Tasks nobody has claimed yet; zero or negative when there is nothing to do.
    unclaimed: Line<AtomicIsize>,
    /// Tasks that are not finished.
    unfinished: Line<AtomicUsize>,
    /// Held by the one caller whose run the team works on.
    busy: Line<AtomicBool>,
    sleepers: AtomicUsize,
    caller_sleeps: AtomicBool,
    shutdown: AtomicBool,
    job: UnsafeCell<Job>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    gate: Mutex<()>,
    work: Condvar,
    done: Condvar,
}

// SAFETY: `job` is the only field that is not already Sync. It is written by the holder of `busy` before the release store
// of `unclaimed`, and read only by a thread that has claimed a task of it, which keeps the run open until that task is done.
unsafe impl Sync for Shared {}
// SAFETY: the raw pointer in `job` is dereferenced only as described above, on whichever thread claimed a task.
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
    fn has_work(&self) -> bool {
        self.unclaimed.0.load(Ordering::Relaxed) > 0
    }

    /// Claims and runs tasks until none is left.
    fn help(&self, worker: usize) {
        let mut finished = 0;
        while self.has_work() {
            let left = self.unclaimed.0.fetch_sub(1, Ordering::AcqRel);
            if left <= 0 {
                break;
            }
            // SAFETY: the claim above synchronises with the store that published the job, and the caller cannot return
            // (nor publish another job) before `unfinished`, which counts this task, reaches zero.
            let (body, task) = unsafe {
                let job = &*self.job.get();
                (&*job.body, job.tasks - left as usize)
            };
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| body(task, worker))) {
                locked(&self.panic).get_or_insert(payload);
            }
            finished += 1;
        }
        if finished > 0 && self.unfinished.0.fetch_sub(finished, Ordering::SeqCst) == finished {
            self.wake_caller();
        }
    }

    fn wake_caller(&self) {
        if self.caller_sleeps.load(Ordering::SeqCst) {
            drop(locked(&self.gate));
            self.done.notify_all();
        }
    }

    /// Makes a job visible and wakes as many sleepers as it has tasks for.
    fn publish(&self, body: &Body<'_>, tasks: usize) {
        // SAFETY: only the lifetime of the reference is erased; the caller of `publish` waits until every task is done.
        let body: *const Body<'static> = unsafe { std::mem::transmute::<&Body<'_>, &'static Body<'static>>(body) };
        self.unfinished.0.store(tasks, Ordering::Relaxed);
        // SAFETY: this thread holds `busy` and no task is unclaimed, so nobody reads the job now.
        unsafe { *self.job.get() = Job { body, tasks } };
        self.unclaimed.0.store(tasks as isize, Ordering::SeqCst);
        let sleepers = self.sleepers.load(Ordering::SeqCst);
        if sleepers > 0 {
            drop(locked(&self.gate));
            for _ in 0..sleepers.min(tasks - 1) {
                self.work.notify_one();
            }
        }
    }

    /// Waits until every task of the current job is finished.
    fn wait(&self) {
        let finished = || self.unfinished.0.load(Ordering::SeqCst) == 0;
        if spin_until(finished) {
            return;
        }
        self.caller_sleeps.store(true, Ordering::SeqCst);
        let mut gate = locked(&self.gate);
        while !finished() {
            gate = self.done.wait(gate).unwrap_or_else(PoisonError::into_inner);
        }
        drop(gate);
        self.caller_sleeps.store(false, Ordering::SeqCst);
    }

    fn work_until_shutdown(&self, worker: usize) {
        let wanted = || self.has_work() || self.shutdown.load(Ordering::Relaxed);
        while !self.shutdown.load(Ordering::Acquire) {
            self.help(worker);
            if spin_until(wanted) {
                continue;
            }
            let mut gate = locked(&self.gate);
            self.sleepers.fetch_add(1, Ordering::SeqCst);
            while self.unclaimed.0.load(Ordering::SeqCst) <= 0 && !self.shutdown.load(Ordering::SeqCst) {
                gate = self.work.wait(gate).unwrap_or_else(PoisonError::into_inner);
            }
            self.sleepers.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// Waits a bounded time for `ready`; says whether it came true.
fn spin_until(ready: impl Fn() -> bool) -> bool {
    for turn in 0..SPINS + YIELDS {
        if ready() {
            return true;
        }
        if turn < SPINS { spin_loop() } else { thread::yield_now() }
    }
    false
}

impl Pool {
    /// A team of `threads` workers (at least one), the calling thread included.
    ///
    /// Where the system refuses a thread the team is smaller; [`threads`](Self::threads) says how large it is.
    pub fn new(threads: usize) -> Pool {
        let shared = Arc::new(Shared {
            unclaimed: Line::default(),
            unfinished: Line::default(),
            busy: Line::default(),
            sleepers: AtomicUsize::new(0),
            caller_sleeps: AtomicBool::new(false),
            shutdown: AtomicBool::new(false),
            job: UnsafeCell::new(Job { body: std::ptr::null::<fn(usize, usize)>() as *const Body<'static>, tasks: 0 }),
            panic: Mutex::new(None),
            gate: Mutex::new(()),
            work: Condvar::new(),
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

    /// Runs `body(task, worker)` for every task in `0..tasks` and returns when all are done.
    ///
    /// Tasks are handed out dynamically, in ascending order. `worker` is below [`threads`](Self::threads) and no two tasks
    /// of *one run* execute at the same time with the same worker. While the team is busy with another caller's run
    /// (or when called from inside a task) the tasks run one after the other on this thread as worker 0.
    ///
    /// # Panics
    /// With the payload of the first task that panicked, after all tasks have finished.
    pub fn run(&self, tasks: usize, body: &(dyn Fn(usize, usize) + Sync)) {
        let shared = &*self.shared;
        if tasks <= 1 || self.workers.is_empty() || shared.busy.0.swap(true, Ordering::Acquire) {
            for task in 0..tasks {
                body(task, 0);
            }
            return;
        }
        shared.publish(body, tasks);
        shared.help(0);
        shared.wait();
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
        self.shared.work.notify_all();
        for worker in self.workers.drain(..) {
            // A worker catches every panic of a task, so joining cannot fail for a reason anybody could act on.
            let _ = worker.join();
        }
    }
}
