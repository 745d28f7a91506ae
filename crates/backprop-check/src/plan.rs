use backprop_core::exec::{
    Program,
    native::{NativeProgram, Planned},
};

/// What a block of memory occupies is a multiple of a cache line.
const LINE: usize = 64;

/// What replaying a plan measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PlanReport {
    /// The end of the highest block: the arena.
    pub arena: usize,
    /// High-water mark of the memory in use.
    pub live: usize,
}

impl PlanReport {
    /// Size of the arena relative to the largest live set; 1 for an empty one.
    pub fn ratio(&self) -> f64 {
        if self.live == 0 { 1.0 } else { self.arena as f64 / self.live as f64 }
    }
}

/// Replays a program's phases with its own account of memory: blocks are allocated where a kernel first writes them and freed
/// after their last use, both as the kernels' operands say, not as the plan does.
///
/// # Errors
/// What is wrong: two live blocks overlap; a kernel reads what was not written or is freed, or works on a block that another
/// kernel of the phase writes; a lifetime is longer than needed; the program reports other sizes than were measured.
pub fn check_plan(program: &NativeProgram) -> Result<PlanReport, String> {
    let plan = program.plan();
    let lives = lifetimes(program, plan.len())?;
    let phases = program.phases().len();
    let (mut live, mut arena) = (0, 0);
    for phase in 0..phases {
        let mut alive: Vec<&Planned> = Vec::new();
        for (block, life) in plan.iter().zip(&lives) {
            // Blocks no kernel names are the workspace of one kernel.
            let (first, last) = life.unwrap_or((block.first, block.first));
            if (first, last) != (block.first, block.last) {
                return Err(format!("{block:?} is used in phases {first} to {last}"));
            }
            if (first..=last).contains(&phase) && block.bytes > 0 {
                alive.push(block);
            }
        }
        alive.sort_by_key(|block| block.offset);
        if let Some(pair) = alive.windows(2).find(|pair| end(pair[0]) > pair[1].offset) {
            return Err(format!("in phase {phase}, {:?} and {:?} overlap", pair[0], pair[1]));
        }
        if let Some(block) = alive.iter().find(|block| block.offset % LINE != 0) {
            return Err(format!("{block:?} shares a cache line"));
        }
        live = live.max(alive.iter().map(|block| end(block) - block.offset).sum());
        arena = alive.iter().map(|block| end(block)).fold(arena, usize::max);
    }
    let memory = program.memory();
    if (memory.arena, memory.live) == (arena, live) {
        Ok(PlanReport { arena, live })
    } else {
        Err(format!("the program reports {memory:?}, but needs an arena of {arena} bytes of which {live} live at once"))
    }
}

fn end(block: &Planned) -> usize {
    block.offset + block.bytes.next_multiple_of(LINE)
}

/// First write and last use of every block a kernel names.
fn lifetimes(program: &NativeProgram, blocks: usize) -> Result<Vec<Option<(usize, usize)>>, String> {
    let mut lives: Vec<Option<(usize, usize)>> = vec![None; blocks];
    let mut runs = vec![0; program.kernels().len()];
    for (number, phase) in program.phases().iter().enumerate() {
        let mut writer = vec![None; blocks];
        for &k in &phase.kernels {
            runs[k] += 1;
            for &block in &program.kernels()[k].writes {
                if writer[block].replace(k).is_some_and(|other| other != k) {
                    return Err(format!("two kernels of phase {number} write block {block}"));
                }
            }
        }
        for &k in &phase.kernels {
            let kernel = &program.kernels()[k];
            for &block in &kernel.reads {
                let written = lives[block].is_some_and(|(first, _)| first < number);
                if !written || writer[block].is_some_and(|other| other != k) {
                    return Err(format!("{} of phase {number} reads block {block}, which is not there then", kernel.name));
                }
            }
        }
        let used = phase.kernels.iter().flat_map(|&k| program.kernels()[k].reads.iter().chain(&program.kernels()[k].writes));
        for &block in used {
            lives[block] = Some((lives[block].map_or(number, |life| life.0), number));
        }
    }
    match runs.iter().position(|&n| n != 1) {
        Some(k) => Err(format!("{} runs {} times", program.kernels()[k].name, runs[k])),
        None => Ok(lives),
    }
}
