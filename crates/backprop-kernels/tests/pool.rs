//! The thread pool: every task once, panics reach the caller, callers may collide.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use backprop_kernels::pool::{Phase, Pool, Work};

fn counts(tasks: usize) -> Vec<AtomicUsize> {
    (0..tasks).map(|_| AtomicUsize::new(0)).collect()
}

fn run_and_check(pool: &Pool, tasks: usize) {
    let seen = counts(tasks);
    pool.run(tasks, &|task, worker| {
        assert!(worker < pool.threads());
        seen[task].fetch_add(1, Ordering::Relaxed);
    });
    assert!(seen.iter().all(|c| c.load(Ordering::Relaxed) == 1));
}

#[test]
fn every_task_runs_once_for_any_team() {
    for threads in [0, 1, 2, 3, 8] {
        let pool = Pool::new(threads);
        assert_eq!(pool.threads(), threads.max(1));
        for run in 0..2_000 {
            run_and_check(&pool, run % 37);
        }
    }
}

#[test]
fn ten_thousand_runs_with_sleeps_between_some() {
    let pool = Pool::new(4);
    let total = AtomicUsize::new(0);
    for run in 0..10_000 {
        if run % 1_000 == 0 {
            thread::sleep(Duration::from_millis(3));
        }
        pool.run(5, &|_, _| {
            total.fetch_add(1, Ordering::Relaxed);
        });
    }
    assert_eq!(total.into_inner(), 50_000);
}

/// Of tasks that wait until all have begun every worker has one: that of its own share, or of the share that it has with its neighbour. While
/// a phase is published a worker that still looks for tasks of the one before may come upon another's first.
#[test]
fn workers_begin_with_their_own_share() {
    const ROUNDS: usize = 200;
    for (threads, together) in [(2, 1), (3, 1), (8, 1), (16, 2)] {
        let (pool, begun, own) = (Pool::new(threads), Barrier::new(threads), AtomicUsize::new(0));
        for _ in 0..ROUNDS {
            pool.run(threads, &|task, worker| {
                begun.wait();
                own.fetch_add(usize::from(task / together == worker / together), Ordering::Relaxed);
            });
        }
        let own = own.into_inner();
        assert!(own > threads * ROUNDS * 3 / 4, "{own} of {} with {threads} threads", threads * ROUNDS);
    }
}

#[test]
fn nested_and_concurrent_runs_finish() {
    let pool = Pool::new(3);
    let total = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..300 {
                    pool.run(7, &|_, _| {
                        pool.run(3, &|_, worker| {
                            assert_eq!(worker, 0, "a nested run has the thread to itself");
                            total.fetch_add(1, Ordering::Relaxed);
                        });
                    });
                }
            });
        }
    });
    assert_eq!(total.into_inner(), 3 * 300 * 7 * 3);
}

#[test]
fn no_two_tasks_of_a_run_share_a_worker_at_once() {
    let pool = Pool::new(4);
    let inside = counts(pool.threads());
    for _ in 0..500 {
        pool.run(16, &|_, worker| {
            assert_eq!(inside[worker].fetch_add(1, Ordering::SeqCst), 0);
            thread::yield_now();
            inside[worker].fetch_sub(1, Ordering::SeqCst);
        });
    }
}

#[test]
fn a_panic_reaches_the_caller_after_all_tasks_and_the_team_lives_on() {
    for threads in [2, 4] {
        let pool = Pool::new(threads);
        for _ in 0..50 {
            let ran = AtomicUsize::new(0);
            let result = catch_unwind(AssertUnwindSafe(|| {
                pool.run(20, &|task, _| {
                    ran.fetch_add(1, Ordering::Relaxed);
                    if task == 11 {
                        // Unlike `panic!` this does not print.
                        std::panic::resume_unwind(Box::new("task 11"));
                    }
                });
            }));
            assert_eq!(result.unwrap_err().downcast_ref::<&str>(), Some(&"task 11"));
            assert_eq!(ran.into_inner(), 20);
            run_and_check(&pool, 20);
        }
    }
}

#[test]
fn a_slow_task_does_not_end_the_run_early() {
    let pool = Pool::new(3);
    let done = AtomicUsize::new(0);
    for run in 1..=5 {
        pool.run(3, &|task, _| {
            thread::sleep(Duration::from_millis(2 * task as u64));
            done.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(done.load(Ordering::Relaxed), 3 * run);
    }
}

/// Phases of given sizes, which checks that each begins when the one before is finished and that nothing else runs meanwhile.
struct Phases {
    sizes: Vec<usize>,
    /// The phase, counted from 1.
    phase: AtomicUsize,
    finished: AtomicUsize,
    within_next: AtomicBool,
    panics_in: Option<usize>,
}

impl Phases {
    fn new(sizes: &[usize]) -> Phases {
        let [phase, finished] = [0, 0].map(AtomicUsize::new);
        Phases { sizes: sizes.to_vec(), phase, finished, within_next: AtomicBool::new(false), panics_in: None }
    }

    fn done(&self) -> usize {
        self.finished.load(Ordering::SeqCst)
    }
}

impl Work for Phases {
    fn next(&self) -> Option<Phase> {
        assert!(!self.within_next.swap(true, Ordering::SeqCst));
        let phase = self.phase.fetch_add(1, Ordering::SeqCst);
        assert_eq!(self.done(), self.sizes[..phase].iter().sum::<usize>());
        thread::yield_now();
        self.within_next.store(false, Ordering::SeqCst);
        self.sizes.get(phase).map(|&tasks| Phase { tasks, short: phase % 3 == 1 })
    }

    fn task(&self, task: usize, _: usize) {
        let phase = self.phase.load(Ordering::SeqCst) - 1;
        assert!(task < self.sizes[phase] && !self.within_next.load(Ordering::SeqCst));
        if self.panics_in == Some(phase) {
            std::panic::resume_unwind(Box::new("phase"));
        }
        self.finished.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn phases_follow_each_other_whoever_begins_them() {
    for threads in [1, 2, 3, 8] {
        let pool = Pool::new(threads);
        for run in 0..400 {
            let sizes: Vec<usize> = (0..run % 9).map(|i| (i * 7 + run) % 6).collect();
            let work = Phases::new(&sizes);
            pool.drive(&work);
            assert_eq!(work.done(), sizes.iter().sum::<usize>());
            if run % 100 == 0 {
                thread::sleep(Duration::from_millis(3));
            }
        }
    }
}

#[test]
fn no_phase_begins_after_a_panic() {
    let pool = Pool::new(3);
    for phase in 0..3 {
        let work = Phases { panics_in: Some(phase), ..Phases::new(&[2, 1, 5, 4]) };
        let result = catch_unwind(AssertUnwindSafe(|| pool.drive(&work)));
        assert_eq!(result.unwrap_err().downcast_ref::<&str>(), Some(&"phase"));
        assert_eq!(work.phase.load(Ordering::SeqCst), phase + 1);
        run_and_check(&pool, 20);
    }
}
