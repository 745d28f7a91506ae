//! Kernels that run one after the other on a part of their data, part by part, so that what one makes the next finds in a cache.

use crate::{Kernel, gemm::round64};

/// A kernel for one part of the data.
pub struct Member {
    /// Planned for a part. Its operands are as its constructor documents them.
    pub kernel: Box<dyn Kernel>,
    /// For each operand: which of the chain's it is, and the bytes from one part to the next.
    pub operands: Vec<(usize, isize)>,
}

/// Kernels that run one after the other on each of several independent parts.
///
/// Operands are numbered as the members say. An operand may be written by one member and read by later ones, where what is read for a
/// part was written for the same part.
pub struct Chain {
    members: Vec<Link>,
    parts: usize,
    /// Tasks that prepare what all parts share.
    shared_tasks: usize,
    /// Bytes of what all parts share.
    workspace: usize,
    /// Bytes of the most operands of a member, of the largest scratch, of the largest workspace that is not shared.
    scratch: [usize; 3],
}

struct Link {
    member: Member,
    /// Where its part of the workspace starts, if all parts share it; then its first stage is run once.
    shared: Option<usize>,
}

impl Link {
    fn shared_tasks(&self) -> usize {
        if self.shared.is_some() { self.member.kernel.tasks(0) } else { 0 }
    }
}

impl Chain {
    /// Plans a chain of members, first to last.
    pub fn new(members: Vec<Member>, parts: usize) -> Chain {
        let mut workspace = 0;
        let mut scratch = [0; 3];
        let mut link = |member: Member| {
            let kernel = &member.kernel;
            let same = member.operands.get(1).is_some_and(|&(_, step)| step == 0);
            let shared = (same && kernel.shared_stages() == 1).then_some(workspace);
            let private = if shared.is_some() { 0 } else { kernel.workspace() };
            workspace += if shared.is_some() { round64(kernel.workspace()) } else { 0 };
            let sizes = [size_of::<*mut u8>() * member.operands.len(), kernel.scratch(), private];
            scratch = std::array::from_fn(|i| round64(sizes[i]).max(scratch[i]));
            Link { member, shared }
        };
        let members: Vec<Link> = members.into_iter().map(&mut link).collect();
        let shared_tasks = members.iter().map(Link::shared_tasks).sum();
        Chain { members, parts, shared_tasks, workspace, scratch }
    }

    /// Addresses of a member's operands for a part, in scratch.
    ///
    /// # Safety
    /// As [`Kernel::run`].
    unsafe fn operands<'a>(&self, member: &Member, part: usize, operands: &[*mut u8], scratch: *mut u8) -> &'a [*mut u8] {
        // SAFETY: the scratch begins with room for the addresses of any member's operands.
        let own = unsafe { std::slice::from_raw_parts_mut(scratch.cast::<*mut u8>(), member.operands.len()) };
        for (address, &(operand, step)) in own.iter_mut().zip(&member.operands) {
            *address = operands[operand].wrapping_offset(part as isize * step);
        }
        own
    }

    /// One of the tasks that prepare what all parts share.
    ///
    /// # Safety
    /// As [`Kernel::run`].
    unsafe fn prepare(&self, mut task: usize, operands: &[*mut u8], workspace: *mut u8, scratch: *mut u8) {
        for link in &self.members {
            let (tasks, Some(start)) = (link.shared_tasks(), link.shared) else { continue };
            if task < tasks {
                // SAFETY: as the caller vouches; the stage depends on an operand that is the same for all parts.
                return unsafe {
                    let operands = self.operands(&link.member, 0, operands, scratch);
                    link.member.kernel.run(0, task, operands, workspace.add(start), scratch.add(self.scratch[0]))
                };
            }
            task -= tasks;
        }
    }

    /// All members for one part.
    ///
    /// # Safety
    /// As [`Kernel::run`].
    unsafe fn part(&self, part: usize, operands: &[*mut u8], workspace: *mut u8, scratch: *mut u8) {
        for Link { member, shared } in &self.members {
            // SAFETY: as the caller vouches; a workspace that is not shared lies behind the scratch.
            unsafe {
                let operands = self.operands(member, part, operands, scratch);
                let own = scratch.add(self.scratch[0]);
                let workspace = shared.map_or(own.add(self.scratch[1]), |start| workspace.add(start));
                for stage in usize::from(shared.is_some())..member.kernel.stages() {
                    for task in 0..member.kernel.tasks(stage) {
                        member.kernel.run(stage, task, operands, workspace, own);
                    }
                }
            }
        }
    }
}

impl Kernel for Chain {
    fn stages(&self) -> usize {
        1 + usize::from(self.shared_tasks > 0)
    }

    fn tasks(&self, stage: usize) -> usize {
        if stage + 1 < self.stages() { self.shared_tasks } else { self.parts }
    }

    fn workspace(&self) -> usize {
        self.workspace
    }

    fn scratch(&self) -> usize {
        self.scratch.iter().sum()
    }

    unsafe fn run(&self, stage: usize, task: usize, operands: &[*mut u8], workspace: *mut u8, scratch: *mut u8) {
        // SAFETY: as the caller vouches.
        unsafe {
            if stage + 1 < self.stages() {
                self.prepare(task, operands, workspace, scratch);
            } else {
                self.part(task, operands, workspace, scratch);
            }
        }
    }
}
