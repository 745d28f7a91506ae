//! Running compiled code.

use super::{
    assemble::SLOTS,
    code::{Code, ScanCode, Step},
};
use backprop_kernels::pool::Pool;
use std::{ops::Range, time::Instant};

/// Private memory of the threads: one piece each.
#[derive(Clone, Copy)]
pub(crate) struct Scratch {
    pub address: *mut u8,
    /// Bytes from one thread's piece to the next one's.
    pub stride: usize,
}

// SAFETY: each worker uses only its own piece.
unsafe impl Sync for Scratch {}

impl Scratch {
    fn of(self, worker: usize) -> *mut u8 {
        self.address.wrapping_add(worker * self.stride)
    }
}

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
        for s in 0..self.steps.len() {
            match &self.steps[s] {
                // SAFETY: the plan gives values that are alive at the same time disjoint places.
                Step::Tasks { tasks, launches } => unsafe { self.tasks(*tasks, launches.clone(), pool, scratch) },
                Step::Scan(scan, operands) => {
                    let addresses = &self.addresses.0[operands.start..=operands.end];
                    // SAFETY: as above; the workspace has the size the loop asked for.
                    unsafe { self.scans[*scan].run(addresses, pool, scratch) };
                }
                Step::Poison(dead) => {
                    for &(offset, bytes) in dead {
                        // SAFETY: the stretch lies in the arena, and no later step reads what is in it.
                        unsafe { arena.add(offset).write_bytes(0xff, bytes) };
                    }
                }
            }
        }
        if let (Some(clocks), Some(start)) = (&mut self.clocks, start) {
            clocks.ran_since(start);
        }
    }

    /// # Safety
    /// As [`run`](Self::run); the addresses are resolved.
    unsafe fn tasks(&self, tasks: usize, launches: Range<usize>, pool: &Pool, scratch: Scratch) {
        let launches = &self.launches[launches];
        let addresses = &self.addresses;
        let calls = &self.calls;
        pool.run(tasks, &|task, worker| {
            let launch = launches[launches.partition_point(|l| l.first_task <= task) - 1];
            let call = &calls[launch.call];
            let operands = &addresses.0[call.operands.clone()];
            let workspace = addresses.0[call.operands.end];
            // SAFETY: operands and workspace are as planned; the pool runs every task once, and stages are steps that follow each
            // other; no two tasks that run at the same time have the same worker.
            let run =
                || unsafe { call.kernel.run(launch.stage, task - launch.first_task, operands, workspace, scratch.of(worker)) };
            match &self.clocks {
                None => run(),
                Some(clocks) => clocks.time(launch.call, run),
            }
        });
    }
}

impl ScanCode {
    /// Runs the loop. `addresses` are those of the scan's operands, its results and the workspace.
    ///
    /// # Safety
    /// As [`Code::run`], for the operands and results.
    unsafe fn run(&mut self, addresses: &[*mut u8], pool: &Pool, scratch: Scratch) {
        let inputs = self.input_bytes.len();
        let (operands, rest) = addresses.split_at(inputs);
        let (results, workspace) = (&rest[..self.output_bytes.len()], rest[self.output_bytes.len()]);
        let fixed = self.constants + self.carried;
        if self.length == 0 {
            for k in 0..self.carried {
                // SAFETY: a carried value has one type; result and operand are different values.
                unsafe {
                    std::ptr::copy_nonoverlapping(operands[self.constants + k], results[k], self.output_bytes[k]);
                }
            }
        }
        for i in 0..self.length {
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
            // SAFETY: inputs and outputs of the body are different places: carried values alternate between two buffers. The body's
            // arena is the start of the workspace.
            unsafe { self.body.run(workspace, pool, scratch) };
        }
    }
}
