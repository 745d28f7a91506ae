//! Kernels that run one after the other on a part of their data, part by part, so that what one makes the next finds in a cache.

use crate::{Kernel, gemm::round64};

/// Where a member's operand is.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// In that one of the chain's operands, the parts so many bytes apart.
    Operand(usize, isize),
    /// So many bytes into what a thread keeps of its part: no other part sees it. The member takes its parts to be so many bytes apart.
    Part(isize, isize),
}

/// A kernel for one part of the data, or one that sums over all parts.
pub struct Member {
    /// Planned for a part. Its operands are as its constructor documents them.
    pub kernel: Box<dyn Kernel>,
    /// Where each of them is.
    pub operands: Vec<Place>,
    /// It was planned for all data and [has as many parts](Kernel::sum_parts); its results are there when all parts are done.
    pub sums: bool,
}

/// Kernels that run one after the other on each of several independent parts.
///
/// Operands are numbered as the members say. An operand may be written by one member and read by later ones, where what is read for a
/// part was written for the same part. What only members of the chain read is kept of one part at a time.
pub struct Chain {
    members: Vec<Link>,
    parts: usize,
    /// Tasks that prepare what all parts share.
    shared_tasks: usize,
    /// Bytes of what all parts share.
    workspace: usize,
    /// Bytes of the most operands of a member, of the largest scratch, of the largest workspace that is not shared, and of what is
    /// kept of a part.
    scratch: [usize; 4],
}

struct Link {
    member: Member,
    /// Where its part of the workspace starts, if all parts share it; then its first stage is run once, or it sums over the parts.
    shared: Option<usize>,
}

impl Link {
    /// Tasks that prepare what all parts share.
    fn shared_tasks(&self) -> usize {
        if self.shared.is_some() && !self.member.sums { self.member.kernel.tasks(0) } else { 0 }
    }

    /// Tasks that add the parts of its sums, in a stage after the first.
    fn last_tasks(&self, stage: usize) -> usize {
        if self.member.sums && stage < self.member.kernel.stages() { self.member.kernel.tasks(stage) } else { 0 }
    }
}

impl Chain {
    /// Plans a chain of members, first to last, that keep so many bytes of a part.
    pub fn new(members: Vec<Member>, parts: usize, kept: usize) -> Chain {
        let mut workspace = 0;
        let mut scratch = [0; 4];
        let mut link = |member: Member| {
            let kernel = &member.kernel;
            let same = matches!(member.operands.get(1), Some(Place::Operand(_, 0)));
            let shared = (member.sums || same && kernel.shared_stages() == 1).then_some(workspace);
            let private = if shared.is_some() { 0 } else { kernel.workspace() };
            workspace += if shared.is_some() { round64(kernel.workspace()) } else { 0 };
            let sizes = [size_of::<*mut u8>() * member.operands.len(), kernel.scratch(), private, kept];
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
        let kept = scratch.wrapping_add(self.scratch[..3].iter().sum());
        for (address, &place) in own.iter_mut().zip(&member.operands) {
            *address = match place {
                Place::Operand(operand, step) => operands[operand].wrapping_offset(part as isize * step),
                Place::Part(offset, step) => kept.wrapping_offset(offset - part as isize * step),
            };
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
                if member.sums {
                    let tasks = member.kernel.tasks(0) / self.parts;
                    (part * tasks..(part + 1) * tasks).for_each(|task| member.kernel.run(0, task, operands, workspace, own));
                    continue;
                }
                for stage in usize::from(shared.is_some())..member.kernel.stages() {
                    for task in 0..member.kernel.tasks(stage) {
                        member.kernel.run(stage, task, operands, workspace, own);
                    }
                }
            }
        }
    }
}

impl Chain {
    /// Stages before that of the parts.
    fn shared_stages(&self) -> usize {
        usize::from(self.shared_tasks > 0)
    }

    /// One of the tasks that add the parts of sums.
    ///
    /// # Safety
    /// As [`Kernel::run`].
    unsafe fn finish(&self, stage: usize, mut task: usize, operands: &[*mut u8], workspace: *mut u8, scratch: *mut u8) {
        for link in &self.members {
            let (tasks, Some(start)) = (link.last_tasks(stage), link.shared) else { continue };
            if task < tasks {
                // SAFETY: as the caller vouches; all parts of the sums are in the workspace.
                return unsafe {
                    let operands = self.operands(&link.member, 0, operands, scratch);
                    link.member.kernel.run(stage, task, operands, workspace.add(start), scratch.add(self.scratch[0]))
                };
            }
            task -= tasks;
        }
    }
}

impl Kernel for Chain {
    fn stages(&self) -> usize {
        let sums = self.members.iter().filter(|link| link.member.sums);
        self.shared_stages() + sums.map(|link| link.member.kernel.stages()).max().unwrap_or(1)
    }

    fn tasks(&self, stage: usize) -> usize {
        match stage.checked_sub(self.shared_stages()) {
            None => self.shared_tasks,
            Some(0) => self.parts,
            Some(stage) => self.members.iter().map(|link| link.last_tasks(stage)).sum(),
        }
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
            match stage.checked_sub(self.shared_stages()) {
                None => self.prepare(task, operands, workspace, scratch),
                Some(0) => self.part(task, operands, workspace, scratch),
                Some(stage) => self.finish(stage, task, operands, workspace, scratch),
            }
        }
    }
}
