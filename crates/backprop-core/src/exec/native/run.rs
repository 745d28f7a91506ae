//! Running compiled code.

use super::{
    assemble::{ARENA, SLOTS},
    code::{Code, ScanCode, Step},
};
use backprop_kernels::pool::{Phase, Pool, Work};
use std::{cell::UnsafeCell, mem, ops::Range, ptr, time::Instant};

/// Private memory of the threads: one piece each.
#[derive(Clone, Copy)]
pub(crate) struct Scratch {
    pub address: *mut u8,
    /// Bytes from one thread's piece to the next one's.
    pub stride: usize,
}

impl Scratch {
    fn of(self, worker: usize) -> *mut u8 {
        self.address.wrapping_add(worker * self.stride)
    }
}

/// How far code has run.
pub(crate) struct Frame {
    code: *mut Code,
    /// The next step.
    step: usize,
    /// Of a loop's body: which round this is, in the order of time.
    round: usize,
}

// SAFETY: between runs there are no frames; during a run whichever thread goes on uses them, one at a time.
unsafe impl Send for Frame {}
// SAFETY: as above.
unsafe impl Sync for Frame {}

/// Code that runs: the steps, those of loops included, as phases of tasks.
struct Running {
    /// The code and, from the outermost to the innermost, the loops it is in.
    frames: Vec<Frame>,
    /// The code whose tasks are the present phase, and which launches they belong to.
    code: *const Code,
    launches: Range<usize>,
}

struct Runner {
    running: UnsafeCell<Running>,
    scratch: Scratch,
}

// SAFETY: `Work::next` is never called while anything else of the work runs, so it has everything to itself; tasks only read what it
// left, and each worker uses only its own piece of the scratch.
unsafe impl Sync for Runner {}

impl Code {
    /// Runs all steps. All bases but the arena are set.
    ///
    /// # Safety
    /// Every base is valid for the values placed there: inputs for reads, outputs and replaced state for writes, and overlaps no
    /// other base; `arena` has [`Code::arena`] bytes; `scratch` has a piece of [`Code::scratch`] bytes for every thread of the
    /// pool; the processor has the instruction set the code was compiled for.
    pub(crate) unsafe fn run(&mut self, arena: *mut u8, pool: &Pool, scratch: Scratch) {
        let start = self.clocks.is_some().then(Instant::now);
        self.resolve(arena);
        // Nothing is allocated: the list keeps its room from run to run.
        let mut frames = mem::take(&mut self.frames);
        frames.clear();
        frames.push(Frame { code: self, step: 0, round: 0 });
        let running = Running { frames, code: ptr::null(), launches: 0..0 };
        let runner = Runner { running: UnsafeCell::new(running), scratch };
        pool.drive(&runner);
        self.frames = runner.running.into_inner().frames;
        if let (Some(clocks), Some(start)) = (&mut self.clocks, start) {
            clocks.ran_since(start);
        }
    }
}

impl Work for Runner {
    fn next(&self) -> Option<Phase> {
        // SAFETY: nothing else of this work runs now.
        let running = unsafe { &mut *self.running.get() };
        loop {
            let frame = running.frames.last_mut()?;
            // SAFETY: the code is borrowed for the whole run, and only the innermost frame's is used at a time.
            let code = unsafe { &mut *frame.code };
            let Some(step) = code.steps.get(frame.step) else {
                running.round_is_over();
                continue;
            };
            frame.step += 1;
            match step {
                Step::Tasks { phase, launches } => {
                    running.launches = launches.clone();
                    running.code = code;
                    return Some(*phase);
                }
                Step::Scan(scan, operands) => {
                    let (addresses, scan) = (&code.addresses.0[operands.start..=operands.end], &mut code.scans[*scan]);
                    // SAFETY: the plan gives values that are alive at the same time disjoint places, and the workspace has the size
                    // the loop asked for.
                    running.frames.extend(unsafe { scan.begin(addresses) });
                }
                Step::Poison(dead) => {
                    for &(offset, bytes) in dead {
                        // SAFETY: the stretch lies in the arena, and no later step reads what is in it.
                        unsafe { code.bases.0[ARENA].add(offset).write_bytes(0xff, bytes) };
                    }
                }
            }
        }
    }

    fn task(&self, task: usize, worker: usize) {
        // SAFETY: while a task runs nothing of this is changed.
        let running = unsafe { &*self.running.get() };
        // SAFETY: as above; the code is borrowed for the whole run.
        let code = unsafe { &*running.code };
        let launches = &code.launches[running.launches.clone()];
        let launch = match launches {
            [only] => only,
            _ => &launches[launches.partition_point(|l| l.first_task <= task) - 1],
        };
        let call = &code.calls[launch.call];
        let operands = &code.addresses.0[call.operands.clone()];
        let workspace = code.addresses.0[call.operands.end];
        let scratch = self.scratch.of(worker);
        // SAFETY: operands and workspace are as planned; the pool runs every task once, and stages are steps that follow each
        // other; no two tasks that run at the same time have the same worker.
        let run = || unsafe { call.kernel.run(launch.stage, task - launch.first_task, operands, workspace, scratch) };
        match &code.clocks {
            None => run(),
            Some(clocks) => clocks.time(launch.call, run),
        }
    }
}

impl Running {
    /// Begins the next round of the innermost loop, or leaves it.
    fn round_is_over(&mut self) {
        let Some(Frame { round, .. }) = self.frames.pop() else { return };
        let Some(outer) = self.frames.last() else { return };
        // SAFETY: as in `next`.
        let code = unsafe { &mut *outer.code };
        if let Some(Step::Scan(scan, operands)) = code.steps.get(outer.step - 1) {
            let (addresses, scan) = (&code.addresses.0[operands.start..=operands.end], &mut code.scans[*scan]);
            self.frames.extend(scan.round(round + 1, addresses));
        }
    }
}

impl ScanCode {
    /// The first round of the loop, if there is one. `addresses` are those of the scan's operands, its results and the workspace.
    ///
    /// # Safety
    /// As [`Code::run`], for the operands and results.
    unsafe fn begin(&mut self, addresses: &[*mut u8]) -> Option<Frame> {
        let results = &addresses[self.input_bytes.len()..];
        for k in 0..if self.length == 0 { self.carried } else { 0 } {
            // SAFETY: a carried value has one type; result and operand are different values.
            unsafe { ptr::copy_nonoverlapping(addresses[self.constants + k], results[k], self.output_bytes[k]) };
        }
        self.round(0, addresses)
    }

    /// A round of the loop, if there are so many: gives the body its places. Inputs and outputs of the body are different ones, because
    /// carried values alternate between two buffers; its arena is the start of the workspace.
    fn round(&mut self, i: usize, addresses: &[*mut u8]) -> Option<Frame> {
        if i >= self.length {
            return None;
        }
        let inputs = self.input_bytes.len();
        let (operands, rest) = addresses.split_at(inputs);
        let (results, workspace) = (&rest[..self.output_bytes.len()], rest[self.output_bytes.len()]);
        let fixed = self.constants + self.carried;
        let t = if self.reverse { self.length - 1 - i } else { i };
        for (k, &operand) in operands.iter().enumerate() {
            self.body.bases.0[SLOTS + k] = match k.checked_sub(self.constants) {
                Some(c) if k < fixed && i > 0 => workspace.wrapping_add(self.buffers[c][(i - 1) % 2]),
                _ if k < fixed => operand,
                _ => operand.wrapping_add(t * self.input_bytes[k]),
            };
        }
        for (k, &result) in results.iter().enumerate() {
            self.body.bases.0[SLOTS + inputs + k] = if k >= self.carried {
                result.wrapping_add(t * self.output_bytes[k])
            } else if i + 1 == self.length {
                result
            } else {
                workspace.wrapping_add(self.buffers[k][i % 2])
            };
        }
        self.body.resolve(workspace);
        Some(Frame { code: &mut self.body, step: 0, round: i })
    }
}
