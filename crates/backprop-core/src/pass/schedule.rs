//! The order in which kernels run, and which of them run together.

use super::plan::{self, Block};
use std::{cmp::Reverse, collections::BinaryHeap};

/// A kernel as the scheduler sees it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Job {
    /// Values read, each once.
    pub reads: Vec<usize>,
    /// Values made.
    pub writes: Vec<usize>,
    /// Jobs that must run before, makers of what is read included.
    pub after: Vec<usize>,
    /// Bytes needed only while it runs.
    pub workspace: usize,
    /// Position in the program the user traced.
    pub rank: usize,
    /// Tasks of its largest stage.
    pub tasks: usize,
    /// Runs in a phase of its own.
    pub alone: bool,
}

/// An order that respects all dependencies with a low peak of live bytes; `bytes[v]` is a value's size, 0 if not in the arena.
///
/// # Panics
/// If jobs wait for each other in a circle.
pub(crate) fn order(jobs: &[Job], bytes: &[usize]) -> Vec<usize> {
    let traced = in_traced_order(jobs);
    assert_eq!(traced.len(), jobs.len(), "kernels wait for each other");
    let greedy = freeing_most(jobs, bytes);
    if peak(jobs, bytes, &greedy) < peak(jobs, bytes, &traced) { greedy } else { traced }
}

fn successors(jobs: &[Job]) -> (Vec<Vec<usize>>, Vec<usize>) {
    let mut successors = vec![Vec::new(); jobs.len()];
    for (j, job) in jobs.iter().enumerate() {
        job.after.iter().for_each(|&a| successors[a].push(j));
    }
    (successors, jobs.iter().map(|j| j.after.len()).collect())
}

fn in_traced_order(jobs: &[Job]) -> Vec<usize> {
    let (successors, mut missing) = successors(jobs);
    let mut ready: BinaryHeap<Reverse<(usize, usize)>> =
        (0..jobs.len()).filter(|&j| missing[j] == 0).map(|j| Reverse((jobs[j].rank, j))).collect();
    let mut order = Vec::with_capacity(jobs.len());
    while let Some(Reverse((_, job))) = ready.pop() {
        order.push(job);
        for &s in &successors[job] {
            missing[s] -= 1;
            if missing[s] == 0 {
                ready.push(Reverse((jobs[s].rank, s)));
            }
        }
    }
    order
}

/// Jobs that read each value.
fn readers(jobs: &[Job], values: usize) -> Vec<Vec<usize>> {
    let mut readers = vec![Vec::new(); values];
    for (j, job) in jobs.iter().enumerate() {
        job.reads.iter().for_each(|&v| readers[v].push(j));
    }
    readers
}

/// Takes, of the jobs that can run, the one after which the fewest bytes are live.
fn freeing_most(jobs: &[Job], bytes: &[usize]) -> Vec<usize> {
    let (successors, mut missing) = successors(jobs);
    let readers = readers(jobs, bytes.len());
    let mut uses: Vec<usize> = readers.iter().map(Vec::len).collect();
    let growth = |j: usize, uses: &[usize]| {
        let made: usize = jobs[j].writes.iter().map(|&v| bytes[v]).sum();
        let freed: usize = jobs[j].reads.iter().filter(|&&v| uses[v] == 1).map(|&v| bytes[v]).sum();
        Reverse((made as isize - freed as isize, jobs[j].rank, j))
    };
    let mut ready: BinaryHeap<_> = (0..jobs.len()).filter(|&j| missing[j] == 0).map(|j| growth(j, &uses)).collect();
    let mut order = Vec::with_capacity(jobs.len());
    let mut done = vec![false; jobs.len()];
    while let Some(Reverse((_, _, job))) = ready.pop() {
        if std::mem::replace(&mut done[job], true) {
            continue;
        }
        order.push(job);
        for &v in &jobs[job].reads {
            uses[v] -= 1;
            if uses[v] == 1 {
                // Its last reader now frees it: growth only falls, so the older entry comes later and is skipped.
                let last = readers[v].iter().filter(|&&r| !done[r] && missing[r] == 0);
                ready.extend(last.map(|&r| growth(r, &uses)));
            }
        }
        for &s in &successors[job] {
            missing[s] -= 1;
            if missing[s] == 0 {
                ready.push(growth(s, &uses));
            }
        }
    }
    order
}

fn peak(jobs: &[Job], bytes: &[usize], order: &[usize]) -> usize {
    let mut uses: Vec<usize> = readers(jobs, bytes.len()).iter().map(Vec::len).collect();
    let (mut live, mut peak) = (0, 0);
    for &j in order {
        let job = &jobs[j];
        live += job.writes.iter().map(|&v| bytes[v]).sum::<usize>();
        peak = peak.max(live + job.workspace);
        live -= job.writes.iter().filter(|&&v| uses[v] == 0).map(|&v| bytes[v]).sum::<usize>();
        for &v in &job.reads {
            uses[v] -= 1;
            live -= if uses[v] == 0 { bytes[v] } else { 0 };
        }
    }
    peak
}

/// Enough tasks to keep 64 cores busy: what has more gains nothing from company.
const FULL: usize = 64;

/// Splits an order into phases whose jobs run at the same time: neighbours that do not depend on each other, as long as one more
/// job still helps to fill the cores.
pub(crate) fn phases(jobs: &[Job], order: &[usize]) -> Vec<Vec<usize>> {
    let mut phases: Vec<Vec<usize>> = Vec::new();
    let mut phase_of = vec![usize::MAX; jobs.len()];
    let mut open = false;
    let mut tasks = 0;
    for &j in order {
        let job = &jobs[j];
        let current = phases.len().wrapping_sub(1);
        let free = job.after.iter().all(|&a| phase_of[a] != current);
        let joins = open && !job.alone && free && (tasks < FULL || job.tasks < FULL);
        if !joins {
            phases.push(Vec::new());
            (open, tasks) = (!job.alone, 0);
        }
        let last = phases.len() - 1;
        phases[last].push(j);
        phase_of[j] = last;
        tasks += job.tasks;
    }
    phases
}

/// Splits the phases with most live bytes where their kernels need memory only while they run, as long as that helps: one after the
/// other they have it in turns.
pub(crate) fn relieve(jobs: &[Job], bytes: &[usize], mut phases: Vec<Vec<usize>>) -> Vec<Vec<usize>> {
    let mut live = live(jobs, bytes, &phases);
    while let Some(most) = (0..phases.len()).max_by_key(|&p| live[p]) {
        let (working, others): (Vec<usize>, Vec<usize>) = phases[most].iter().copied().partition(|&j| jobs[j].workspace > 0);
        if working.len() < 2 {
            break;
        }
        let (first, rest) = working.split_at(working.len() - 1);
        let apart = [[&others, first].concat(), rest.to_vec()];
        let split = [&phases[..most], &apart[..], &phases[most + 1..]].concat();
        let relieved = self::live(jobs, bytes, &split);
        if relieved.iter().max() >= live.iter().max() {
            break;
        }
        (phases, live) = (split, relieved);
    }
    phases
}

/// Bytes that are live in each phase.
fn live(jobs: &[Job], bytes: &[usize], phases: &[Vec<usize>]) -> Vec<usize> {
    let mut values: Vec<Option<Block>> = vec![None; bytes.len()];
    let mut working = Vec::new();
    for (p, phase) in phases.iter().enumerate() {
        for job in phase.iter().map(|&j| &jobs[j]) {
            let here = |bytes: usize| Block { bytes, first: p, last: p };
            working.push(here(job.workspace));
            job.writes.iter().for_each(|&v| values[v] = Some(here(bytes[v])));
            for &v in &job.reads {
                values[v] = values[v].map(|block| Block { last: p, ..block });
            }
        }
    }
    working.extend(values.into_iter().flatten());
    let mut live = plan::live(&working);
    live.resize(phases.len(), 0);
    live
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(reads: &[usize], writes: &[usize], after: &[usize], rank: usize) -> Job {
        Job { reads: reads.to_vec(), writes: writes.to_vec(), after: after.to_vec(), rank, tasks: 1, ..Job::default() }
    }

    #[test]
    fn large_values_are_used_up_before_others_are_made() {
        // Two chains of a large value and its small summary, traced side by side.
        let jobs = [
            job(&[], &[0], &[], 0),
            job(&[], &[1], &[], 1),
            job(&[0], &[2], &[0], 2),
            job(&[1], &[3], &[1], 3),
            job(&[2, 3], &[4], &[2, 3], 4),
        ];
        let bytes = [100, 100, 1, 1, 1];
        let best = order(&jobs, &bytes);
        assert_eq!(peak(&jobs, &bytes, &best), 102);
        assert_eq!(peak(&jobs, &bytes, &[0, 1, 2, 3, 4]), 201);
    }

    #[test]
    fn kernels_that_need_memory_only_while_they_run_have_it_in_turns() {
        let working = |job: Job, workspace: usize| Job { workspace, ..job };
        let jobs = [
            job(&[], &[0], &[], 0),
            working(job(&[0], &[1], &[0], 1), 50 * 64),
            working(job(&[0], &[2], &[0], 2), 60 * 64),
            job(&[0], &[3], &[0], 3),
            job(&[1, 2, 3], &[4], &[1, 2, 3], 4),
        ];
        let together = vec![vec![0], vec![1, 2, 3], vec![4]];
        // The small values stay until the end.
        let bytes = [100, 1, 1, 1, 1].map(|lines| lines * 64);
        assert_eq!(live(&jobs, &bytes, &together), [100, 213, 4].map(|lines| lines * 64));
        let relieved = relieve(&jobs, &bytes, together.clone());
        assert_eq!(relieved, [vec![0], vec![3, 1], vec![2], vec![4]]);
        assert_eq!(live(&jobs, &bytes, &relieved), [100, 152, 163, 4].map(|lines| lines * 64));
        // Where another phase needs more, they stay together.
        assert_eq!(relieve(&jobs, &[100, 1, 1, 1, 300].map(|lines| lines * 64), together.clone()), together);
    }

    #[test]
    fn jobs_of_a_phase_are_independent() {
        let jobs = [job(&[], &[0], &[], 0), job(&[], &[1], &[], 1), job(&[0], &[2], &[0], 2), job(&[1], &[3], &[1], 3)];
        assert_eq!(phases(&jobs, &[0, 1, 2, 3]), [vec![0, 1], vec![2, 3]]);
        assert_eq!(phases(&jobs, &[0, 2, 1, 3]), [vec![0], vec![2, 1], vec![3]]);
    }
}
