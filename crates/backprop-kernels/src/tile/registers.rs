//! Assigns tile buffers to values: by liveness, so that few buffers stay in the first-level cache.

use super::program::TileProgram;

/// The order of evaluation and where each value lives.
pub(crate) struct Allocation {
    /// Values in order of evaluation: loads stand directly before their first use, unused values not at all.
    pub(crate) order: Vec<usize>,
    /// Buffer of each value that is evaluated.
    pub(crate) buffer: Vec<Option<usize>>,
    /// Element size of each buffer in bytes.
    pub(crate) sizes: Vec<usize>,
}

impl Allocation {
    /// Bytes of all buffers of that many elements, each rounded up to a cache line.
    pub(crate) fn bytes(&self, elements: usize) -> usize {
        self.sizes.iter().map(|size| (size * elements).next_multiple_of(64)).sum()
    }
}

/// Allocates buffers. `invariant` values are computed once and keep theirs; `results` (stored or handed out) live to the end.
pub(crate) fn allocate(program: &TileProgram, invariant: &[bool], results: &[usize]) -> Allocation {
    let order = evaluation_order(program, results);
    let last_use = last_uses(program, &order, results);
    let mut allocation = Allocation { order, buffer: vec![None; program.values.len()], sizes: Vec::new() };
    let mut free: Vec<usize> = Vec::new();
    for &value in allocation.order.iter().filter(|&&value| invariant[value]) {
        allocation.sizes.push(program.values[value].dtype.size());
        allocation.buffer[value] = Some(allocation.sizes.len() - 1);
    }
    for position in 0..allocation.order.len() {
        let value = allocation.order[position];
        if !invariant[value] {
            let size = program.values[value].dtype.size();
            let reused = free.iter().rposition(|&buffer| allocation.sizes[buffer] == size).map(|i| free.remove(i));
            allocation.buffer[value] = Some(reused.unwrap_or_else(|| {
                allocation.sizes.push(size);
                allocation.sizes.len() - 1
            }));
        }
        // Freed only after the destination has its own: a loop never writes the buffer it reads.
        let mut dead: Vec<usize> = operands(program, value).into_iter().chain([value]).collect();
        dead.sort_unstable();
        dead.dedup();
        dead.retain(|&v| last_use[v] == position && !invariant[v]);
        free.extend(dead.into_iter().filter_map(|v| allocation.buffer[v]));
    }
    allocation
}

pub(crate) fn operands(program: &TileProgram, value: usize) -> Vec<usize> {
    let sources = program.values[value].definition.sources().unwrap_or_default();
    sources.iter().map(|reg| usize::from(reg.0)).collect()
}

fn evaluation_order(program: &TileProgram, results: &[usize]) -> Vec<usize> {
    let mut needed = vec![false; program.values.len()];
    for &result in results {
        needed[result] = true;
    }
    for value in (0..program.values.len()).rev() {
        if needed[value] {
            operands(program, value).into_iter().for_each(|v| needed[v] = true);
        }
    }
    let is_op = |v: usize| program.values[v].definition.sources().is_some();
    let (mut order, mut done) = (Vec::new(), vec![false; program.values.len()]);
    for value in (0..program.values.len()).filter(|&v| needed[v] && is_op(v)) {
        for v in operands(program, value).into_iter().chain([value]) {
            if !done[v] {
                done[v] = true;
                order.push(v);
            }
        }
    }
    order.extend((0..program.values.len()).filter(|&v| needed[v] && !done[v]));
    order
}

/// Position in the order after which a value is no longer read.
fn last_uses(program: &TileProgram, order: &[usize], results: &[usize]) -> Vec<usize> {
    let mut last = vec![0; program.values.len()];
    for (position, &value) in order.iter().enumerate() {
        last[value] = position;
        operands(program, value).into_iter().for_each(|v| last[v] = position);
    }
    for &result in results {
        last[result] = order.len();
    }
    last
}
