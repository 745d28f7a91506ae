//! One stage of a reduction: [outer, reduced, inner] → [outer, chunks, inner].

/// Elements of a chunk of a run without inner elements.
const RUN: usize = 16_384;
/// Runs of rows up to this length are not cut.
const UNCUT_ROWS: usize = 256;
/// The most columns a task sums at once: their sums stay in the first-level cache.
pub(super) const COLUMNS: usize = 1024;

/// Shape of a stage.
#[derive(Clone, Copy, Debug)]
pub(super) struct Level {
    pub(super) outer: usize,
    pub(super) reduced: usize,
    pub(super) inner: usize,
    /// Reduced length of a chunk.
    pub(super) chunk: usize,
}

impl Level {
    pub(super) fn new(outer: usize, reduced: usize, inner: usize) -> Level {
        let chunk = match inner {
            1 => RUN,
            _ if reduced <= UNCUT_ROWS => UNCUT_ROWS,
            _ => (RUN / inner).clamp(32, 4096),
        };
        Level { outer, reduced, inner, chunk }
    }

    pub(super) fn chunks(&self) -> usize {
        self.reduced.div_ceil(self.chunk).max(1)
    }

    /// Elements of the stage's result.
    pub(super) fn results(&self) -> usize {
        self.outer * self.chunks() * self.inner
    }

    pub(super) fn column_blocks(&self) -> usize {
        self.inner.div_ceil(COLUMNS)
    }

    /// Independent pieces of work: (outer, chunk, column block), numbered row-major.
    pub(super) fn units(&self) -> usize {
        self.outer * self.chunks() * self.column_blocks()
    }

    /// What every stretch of the input that is asked for starts and ends at a multiple of: whole runs, or whole rows of columns.
    pub(super) fn aligned(&self) -> usize {
        match (self.inner, self.chunks(), self.column_blocks()) {
            (1, 1, _) => self.reduced.max(1),
            (1, ..) => 1,
            (_, _, 1) => self.inner,
            _ => 1,
        }
    }

    /// Elements of the largest piece.
    pub(super) fn unit_elements(&self) -> usize {
        self.chunk.min(self.reduced) * self.inner.min(COLUMNS)
    }
}

/// The stages that reduce those dimensions of a shape, innermost run first.
pub(super) fn levels(dims: &[usize], reduced: &[bool]) -> Vec<Level> {
    let mut runs: Vec<(usize, bool)> = Vec::new();
    for (&size, &flag) in dims.iter().zip(reduced).filter(|&(&size, _)| size != 1) {
        match runs.last_mut() {
            Some((length, kind)) if *kind == flag => *length *= size,
            _ => runs.push((size, flag)),
        }
    }
    let mut levels = Vec::new();
    while let Some(at) = runs.iter().rposition(|&(_, flag)| flag) {
        let outer = runs[..at].iter().map(|run| run.0).product();
        let inner = runs[at + 1..].iter().map(|run| run.0).product();
        let mut level = Level::new(outer, runs[at].0, inner);
        levels.push(level);
        while level.chunks() > 1 {
            level = Level::new(outer, level.chunks(), inner);
            levels.push(level);
        }
        runs.remove(at);
    }
    if levels.is_empty() {
        levels.push(Level::new(1, 1, dims.iter().product()));
    }
    levels
}
