//! Products that run together as one kernel.

use super::driver::{Driver, Memory};
use crate::Kernel;

/// A product in three phases: pack what several blocks share, compute blocks, combine the parts of a split sum.
pub(crate) trait Phased: Send + Sync {
    /// Tasks of a phase.
    fn tasks(&self, phase: usize) -> usize;

    /// Whether packing depends on operand 1 alone, and nothing else is written to the workspace.
    fn shares(&self) -> bool {
        false
    }

    /// As [`Kernel::sum_parts`], of phase 1.
    fn sum_parts(&self) -> usize {
        1
    }

    /// As [`Kernel::workspace`].
    fn workspace(&self) -> usize;

    /// As [`Kernel::scratch`].
    fn scratch(&self) -> usize;

    /// # Safety
    /// As [`Kernel::run`].
    unsafe fn run(&self, phase: usize, task: usize, memory: Memory<'_>);
}

impl Phased for Driver {
    fn tasks(&self, phase: usize) -> usize {
        self.tasks(phase)
    }

    fn shares(&self) -> bool {
        self.shares()
    }

    fn workspace(&self) -> usize {
        self.workspace()
    }

    fn scratch(&self) -> usize {
        self.scratch()
    }

    unsafe fn run(&self, phase: usize, task: usize, memory: Memory<'_>) {
        // SAFETY: as the caller vouches.
        unsafe { self.run(phase, task, memory) }
    }
}

/// Independent products with the same operands: their stages and tasks are merged.
pub(crate) struct Parts {
    parts: Vec<Part>,
    /// The phases that have tasks; at least one.
    phases: Vec<usize>,
}

struct Part {
    driver: Box<dyn Phased>,
    /// Where its part of the workspace starts, in bytes.
    workspace: usize,
}

impl Parts {
    pub fn new(drivers: Vec<Box<dyn Phased>>) -> Parts {
        let mut workspace = 0;
        let mut parts = Vec::new();
        for driver in drivers {
            let size = driver.workspace();
            parts.push(Part { driver, workspace });
            workspace += size;
        }
        let used = |phase: usize| parts.iter().any(|p| p.driver.tasks(phase) > 0);
        let phases = (0..3).filter(|&phase| phase == 1 || used(phase)).collect();
        Parts { parts, phases }
    }
}

impl Kernel for Parts {
    fn stages(&self) -> usize {
        self.phases.len()
    }

    fn tasks(&self, stage: usize) -> usize {
        self.parts.iter().map(|p| p.driver.tasks(self.phases[stage])).sum()
    }

    fn shared_stages(&self) -> usize {
        let shares = |p: &Part| p.driver.workspace() == 0 || p.driver.shares();
        usize::from(self.phases == [0, 1] && self.parts.iter().all(shares))
    }

    fn sum_parts(&self) -> usize {
        match &self.parts[..] {
            [part] if self.phases == [1, 2] => part.driver.sum_parts(),
            _ => 1,
        }
    }

    fn workspace(&self) -> usize {
        self.parts.last().map_or(0, |p| p.workspace + p.driver.workspace())
    }

    fn scratch(&self) -> usize {
        self.parts.iter().map(|p| p.driver.scratch()).max().unwrap_or(0)
    }

    unsafe fn run(&self, stage: usize, mut task: usize, operands: &[*mut u8], workspace: *mut u8, scratch: *mut u8) {
        let phase = self.phases[stage];
        for part in &self.parts {
            let tasks = part.driver.tasks(phase);
            if task < tasks {
                let workspace = workspace.wrapping_add(part.workspace);
                // SAFETY: as the caller vouches; each part has its own piece of the workspace.
                return unsafe { part.driver.run(phase, task, Memory { operands, workspace, scratch }) };
            }
            task -= tasks;
        }
    }
}
