//! Asking for what the next chunk reads while this one is computed.
//!
//! Rows or terms of operands that are read in place lie apart, where the hardware does not see them coming. What was packed before, it
//! sees at the second line of each page: too late where the third-level cache is slow. A register tile has time for two cache lines a
//! term; together the tiles of a block ask for all of the next.

use super::{Driver, Memory, Mode, Unit};
use crate::ahead::LINE;
use crate::gemm::micro::Lane;
use crate::isa::is_intel;

/// Elements of an operand that the second-level cache still has when the next block reads them.
const KEPT: usize = 1 << 17;

/// The lanes that are still to be asked for, of both operands.
pub(super) struct Lanes([Group; 2]);

/// Lanes, each so many elements after the one before.
struct Group {
    first: Lane,
    count: usize,
    apart: usize,
}

impl Lanes {
    /// What the next tile asks for.
    pub fn take(&mut self) -> Lane {
        self.0.iter_mut().find_map(Group::take).unwrap_or(Lane::NONE)
    }
}

impl Group {
    const NONE: Group = Group { first: Lane::NONE, count: 0, apart: 0 };

    /// All lines of so many rows and terms from an address, of which either must be adjacent.
    fn of(at: *const f32, strides: (isize, isize), rows: usize, terms: usize) -> Group {
        let (step, steps, adjacent) = match strides {
            (1, term) => (term, terms, rows),
            (row, 1) => (row, rows, terms),
            _ => return Group::NONE,
        };
        let skew = at as usize % LINE / size_of::<f32>();
        Group { first: Lane { at, step, steps }, count: (skew + adjacent).div_ceil(Lane::WIDTH), apart: Lane::WIDTH }
    }

    /// All lines of so many elements for each of so many terms, without gaps.
    fn packed(at: *const f32, elements: usize, terms: usize) -> Group {
        let first = Lane { at, step: Lane::WIDTH as isize, steps: terms };
        Group { first, count: elements.div_ceil(Lane::WIDTH), apart: Lane::WIDTH * terms }
    }

    fn take(&mut self) -> Option<Lane> {
        self.count = self.count.checked_sub(1)?;
        let lane = self.first;
        self.first.at = lane.at.wrapping_add(self.apart);
        Some(lane)
    }
}

impl Driver {
    /// What comes after a chunk of a unit: another chunk of it, or the first of the unit that this thread most likely goes on with.
    pub(super) fn ahead(&self, number: usize, chunk: Option<usize>, memory: Memory<'_>) -> Lanes {
        let number = number + usize::from(chunk.is_none());
        if number == self.units {
            return Lanes([Group::NONE, Group::NONE]);
        }
        let unit = self.unit(number);
        let chunk = chunk.unwrap_or(self.chunks_of(unit.split).0);
        Lanes([true, false].map(|is_a| self.lanes(is_a, unit, chunk, memory)))
    }

    /// What a unit reads of a chunk of an operand, unless the unit before has just read the same.
    fn lanes(&self, is_a: bool, unit: Unit, chunk: usize, memory: Memory<'_>) -> Group {
        let Unit { batch, row_block, col_block, .. } = unit;
        let (again_a, again_b) = if self.rows_first {
            (col_block > 0, self.col_blocks == 1 && row_block > 0)
        } else {
            (self.row_blocks == 1 && col_block > 0, row_block > 0)
        };
        let (side, at, again) = if is_a { (&self.a, row_block, again_a) } else { (&self.b, col_block, again_b) };
        let (_, count, padded) = self.extent(is_a, at);
        let kept = again && count * self.x.k.div_ceil(self.splits) <= KEPT;
        match (side.mode, side.source.strides()) {
            (Mode::Direct | Mode::Private, Some(strides)) if !kept => {
                Group::of(self.direct(is_a, strides, batch, at, chunk, memory), strides, count, self.chunk(chunk).1)
            }
            (Mode::Shared, _) if !kept && is_intel() => {
                Group::packed(self.shared_panels(is_a, memory.workspace, batch, at, chunk), padded, self.chunk(chunk).1)
            }
            _ => Group::NONE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// The cache lines that a group asks for.
    fn asked(mut group: Group) -> BTreeSet<usize> {
        let mut lines = BTreeSet::new();
        while let Some(lane) = group.take() {
            for step in 0..lane.steps as isize {
                let at = lane.at.wrapping_offset(step * lane.step);
                lines.extend([at, at.wrapping_add(Lane::WIDTH / 2)].map(|at| at as usize / LINE));
            }
        }
        lines
    }

    #[test]
    fn every_line_of_an_operand_is_asked_for() {
        let data = vec![0f32; 400 * 400];
        for (rows, terms, first) in [(1, 1, 0), (13, 256, 5), (64, 100, 26), (33, 7, 15), (0, 9, 3), (9, 0, 3)] {
            for strides in [(1, 400), (400, 1)] {
                let at = data.as_ptr().wrapping_add(first);
                let asked = asked(Group::of(at, strides, rows, terms));
                for row in 0..rows as isize {
                    for term in 0..terms as isize {
                        let line = at.wrapping_offset(row * strides.0 + term * strides.1) as usize / LINE;
                        assert!(asked.contains(&line), "{rows} {terms} {first} {strides:?}: row {row} term {term}");
                    }
                }
            }
        }
        assert!(asked(Group::of(data.as_ptr(), (20, 2), 10, 10)).is_empty());
    }

    #[test]
    fn every_line_of_a_packed_operand_is_asked_for() {
        let data = vec![0f32; 400 * 400];
        for (elements, terms) in [(1, 1), (14, 256), (112, 100), (256, 7)] {
            let asked = asked(Group::packed(data.as_ptr(), elements, terms));
            for i in (0..elements * terms).step_by(LINE / size_of::<f32>()) {
                assert!(asked.contains(&(data.as_ptr().wrapping_add(i) as usize / LINE)), "{elements} {terms}: element {i}");
            }
        }
    }
}
