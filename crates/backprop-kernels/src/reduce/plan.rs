use super::fold::{
    Fold, LANES, Loops, MaxF32, MaxF64, MaxInt, MinF32, MinF64, MinInt, SquaresF32Wide, SumF32, SumF32Wide, SumF64, SumInt, lanes,
};
use super::level::{COLUMNS, Level, levels};
use crate::tile::ops::Flag;
use crate::tile::{Definition, Interval, OpCode, Reg, TileError, TileProgram};
use crate::{DType, Isa, Kernel};

/// What a reduction computes. Without any element: 0, and for the extremes −∞ or +∞ (integers: their bounds).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Reduction {
    /// Sum; integers wrap.
    Sum,
    /// Maximum; NaN propagates, +0 above −0; for `Bool` the logical or.
    Max,
    /// Minimum; NaN propagates, −0 below +0; for `Bool` the logical and.
    Min,
}

/// Nanoseconds of work a task should have.
const TASK: f64 = 15_000.0;
/// Results a task rounds to the result's type.
const ROUNDED: usize = 1 << 16;
/// Estimated nanoseconds per reduced element, besides making it.
const FOLD: f64 = 0.1;

/// A reduction of a tile program's result over any of its iteration dimensions.
///
/// Operands are those of the program's loads, and `output`: the kept dimensions in row-major order, of the result's type. The
/// output overlaps no other operand.
pub struct Reduce {
    source: Interval,
    levels: Vec<Level>,
    /// Units per task of each level.
    group: Vec<usize>,
    first: Loops,
    again: Loops,
    /// Bytes of an element that is reduced, and of a sum.
    value_size: usize,
    sum_size: usize,
    /// Whether sums and results differ in type.
    rounds: bool,
    output: usize,
}

impl Reduce {
    /// Plans the reduction of `result` over the dimensions where `reduced` holds, accumulating in type `accumulate`: the
    /// result's own type, or `F64` for a sum of `F32`. The program's stores are ignored.
    pub fn new(
        program: &TileProgram,
        result: Reg,
        reduced: &[bool],
        reduction: Reduction,
        accumulate: DType,
        output: usize,
        isa: Isa,
    ) -> Result<Reduce, TileError> {
        if reduced.len() != program.dims().len() {
            return Err(TileError::Rank { expected: program.dims().len(), found: reduced.len() });
        }
        let dtype = program.dtype(result).ok_or(TileError::UnknownRegister(result))?;
        let unsupported = || TileError::Types(reduction.opcode(), vec![dtype, accumulate]);
        let (mut first, again) = loops(reduction, dtype, accumulate, isa).ok_or_else(unsupported)?;
        let (mut result, mut value_size) = (result, dtype.size());
        if let Some((narrow, wide)) = widened(program, result, isa).filter(|_| reduction == Reduction::Sum) {
            (result, first, value_size) = (narrow, wide, DType::F32.size());
        }
        let levels = levels(program.dims(), reduced);
        let source = Interval::new(&program.without_stores(), result, levels.first().map_or(1, Level::aligned), isa)?;
        let costs = std::iter::once(source.cost() + FOLD).chain(std::iter::repeat(FOLD));
        let per_task = |(level, cost): (&Level, f64)| ((TASK / (cost * level.unit_elements() as f64)) as usize).clamp(1, 1 << 20);
        let group = levels.iter().zip(costs).map(per_task).collect();
        Ok(Reduce {
            source,
            levels,
            group,
            first,
            again,
            value_size,
            sum_size: accumulate.size(),
            rounds: dtype != accumulate,
            output,
        })
    }

    /// Plans the reduction of operand 0, strided, into operand 1.
    pub fn of_operand(
        dims: &[usize],
        strides: &[isize],
        dtype: DType,
        reduced: &[bool],
        reduction: Reduction,
        accumulate: DType,
        isa: Isa,
    ) -> Result<Reduce, TileError> {
        let mut program = TileProgram::new(dims)?;
        let value = program.load(0, dtype, strides, 0)?;
        Reduce::new(&program, value, reduced, reduction, accumulate, 1, isa)
    }

    /// Byte offset in the workspace of a level's results.
    fn partials(&self, level: usize) -> usize {
        self.levels[..level].iter().map(|l| (l.results() * self.sum_size).next_multiple_of(64)).sum()
    }

    fn results(&self) -> usize {
        self.levels.last().map_or(0, Level::results)
    }

    /// Where a level's results go.
    ///
    /// # Safety
    /// As [`Kernel::run`].
    unsafe fn target(&self, level: usize, operands: &[*mut u8], workspace: *mut u8) -> *mut u8 {
        if level + 1 == self.levels.len() && !self.rounds {
            return operands[self.output];
        }
        // SAFETY: the workspace holds the results of every level.
        unsafe { workspace.add(self.partials(level)) }
    }

    /// Bytes of the sums a task keeps.
    fn sums(&self) -> usize {
        LANES.max(COLUMNS) * self.sum_size
    }
}

/// Where `F32` values are converted to `F64` only to be summed: those values, or what they are the squares of, and the loops that convert
/// in registers.
fn widened(program: &TileProgram, value: Reg, isa: Isa) -> Option<(Reg, Loops)> {
    let operation = |reg: Reg| match &program.values[usize::from(reg.0)].definition {
        Definition::Op { op, sources } => Some((*op, sources)),
        _ => None,
    };
    let (OpCode::Convert(DType::F64), sources) = operation(value)? else { return None };
    let narrow = *sources.first().filter(|&&source| program.dtype(source) == Some(DType::F32))?;
    match operation(narrow) {
        Some((OpCode::Mul, factors)) if factors[0] == factors[1] => Some((factors[0], Loops::of::<SquaresF32Wide>(isa))),
        _ => Some((narrow, Loops::of::<SumF32Wide>(isa))),
    }
}

impl Reduction {
    fn opcode(self) -> OpCode {
        match self {
            Reduction::Sum => OpCode::Add,
            Reduction::Max => OpCode::Max,
            Reduction::Min => OpCode::Min,
        }
    }
}

fn pair<F: Fold>(isa: Isa) -> Option<(Loops, Loops)> {
    Some((Loops::of::<F>(isa), Loops::of::<F::Again>(isa)))
}

/// The loops that reduce values of one type in that type.
pub(crate) fn same_type_loops(reduction: Reduction, dtype: DType, isa: Isa) -> Option<Loops> {
    loops(reduction, dtype, dtype, isa).map(|(first, _)| first)
}

fn loops(reduction: Reduction, dtype: DType, accumulate: DType, isa: Isa) -> Option<(Loops, Loops)> {
    if (reduction, dtype, accumulate) == (Reduction::Sum, DType::F32, DType::F64) {
        // Levels hand on f64; only the last one's result is rounded.
        return pair::<SumF32Wide>(isa);
    }
    if dtype != accumulate {
        return None;
    }
    use Reduction::{Max, Min, Sum};
    match (reduction, dtype) {
        (Sum, DType::F32) => pair::<SumF32>(isa),
        (Max, DType::F32) => pair::<MaxF32>(isa),
        (Min, DType::F32) => pair::<MinF32>(isa),
        (Sum, DType::F64) => pair::<SumF64>(isa),
        (Max, DType::F64) => pair::<MaxF64>(isa),
        (Min, DType::F64) => pair::<MinF64>(isa),
        (Max, DType::Bool) => pair::<MaxInt<Flag>>(isa),
        (Min, DType::Bool) => pair::<MinInt<Flag>>(isa),
        (_, DType::U8) => integer_u8(reduction, isa),
        (Sum, DType::I32) => pair::<SumInt<i32>>(isa),
        (Max, DType::I32) => pair::<MaxInt<i32>>(isa),
        (Min, DType::I32) => pair::<MinInt<i32>>(isa),
        (Sum, DType::I64) => pair::<SumInt<i64>>(isa),
        (Max, DType::I64) => pair::<MaxInt<i64>>(isa),
        (Min, DType::I64) => pair::<MinInt<i64>>(isa),
        (Sum, DType::U32) => pair::<SumInt<u32>>(isa),
        (Max, DType::U32) => pair::<MaxInt<u32>>(isa),
        (Min, DType::U32) => pair::<MinInt<u32>>(isa),
        (Sum, DType::U64) => pair::<SumInt<u64>>(isa),
        (Max, DType::U64) => pair::<MaxInt<u64>>(isa),
        (Min, DType::U64) => pair::<MinInt<u64>>(isa),
        _ => None,
    }
}

fn integer_u8(reduction: Reduction, isa: Isa) -> Option<(Loops, Loops)> {
    match reduction {
        Reduction::Sum => pair::<SumInt<u8>>(isa),
        Reduction::Max => pair::<MaxInt<u8>>(isa),
        Reduction::Min => pair::<MinInt<u8>>(isa),
    }
}

/// One task's view of a level.
struct Task<'a> {
    level: Level,
    loops: &'a Loops,
    /// Where the results go: sums of this level.
    results: *mut u8,
    /// The sums a unit collects.
    sums: *mut u8,
    sum_size: usize,
    value_size: usize,
}

impl Task<'_> {
    /// Runs units `first .. last`; `each(start, len, consume)` makes elements of the level's input.
    ///
    /// # Safety
    /// As [`Kernel::run`].
    unsafe fn run(&self, first: usize, last: usize, each: impl Fn(usize, usize, bool, &mut dyn FnMut(*const u8, usize))) {
        let level = &self.level;
        if level.inner == 1 && level.chunks() == 1 && level.reduced > 0 {
            // Whole runs that follow each other: one interval, so that short ones share a tile.
            let (start, len) = (first * level.reduced, (last - first) * level.reduced);
            let mut at = start;
            // SAFETY: the caller's promise.
            each(start, len, true, &mut |values, n| unsafe {
                self.whole_runs(at, values, n);
                at += n;
            });
            return;
        }
        for unit in first..last {
            // SAFETY: the caller's promise.
            unsafe { self.unit(unit, unit == first, &each) };
        }
    }

    /// Reduces elements `at .. at + n` of consecutive runs, keeping the sums of an unfinished run.
    ///
    /// # Safety
    /// As [`Kernel::run`].
    unsafe fn whole_runs(&self, at: usize, values: *const u8, n: usize) {
        let length = self.level.reduced;
        let count = lanes(length);
        let mut done = 0;
        while done < n {
            let (run, position) = ((at + done) / length, (at + done) % length);
            let rest = n - done;
            // SAFETY: the caller's promise; runs and positions follow from the linear index.
            unsafe {
                let values = values.add(done * self.value_size);
                let result = self.results.add(run * self.sum_size);
                if position == 0 && rest >= length {
                    (self.loops.rows)(result, values, rest / length, length);
                    done += rest / length * length;
                    continue;
                }
                if position == 0 {
                    (self.loops.clear)(self.sums, count);
                }
                let taken = rest.min(length - position);
                (self.loops.spread)(self.sums, count, position % count, values, taken);
                if position + taken == length {
                    (self.loops.gather)(self.sums, count);
                    std::ptr::copy_nonoverlapping(self.sums, result, self.sum_size);
                }
                done += taken;
            }
        }
    }

    /// # Safety
    /// As [`Kernel::run`].
    unsafe fn unit(&self, unit: usize, first: bool, each: &impl Fn(usize, usize, bool, &mut dyn FnMut(*const u8, usize))) {
        let level = &self.level;
        let (row, block) = (unit / level.column_blocks(), unit % level.column_blocks());
        let (outer, chunk) = (row / level.chunks(), row % level.chunks());
        let (from, to) = (chunk * level.chunk, ((chunk + 1) * level.chunk).min(level.reduced));
        let column = block * COLUMNS;
        let width = COLUMNS.min(level.inner - column);
        let start = (outer * level.reduced + from) * level.inner + column;
        // SAFETY: the caller's promise; the unit's part of the results is its own.
        unsafe {
            let result = self.results.add((row * level.inner + column) * self.sum_size);
            if level.inner == 1 {
                let count = lanes(level.reduced.min(level.chunk));
                (self.loops.clear)(self.sums, count);
                let mut at = 0;
                each(start, to - from, first, &mut |values, n| {
                    (self.loops.spread)(self.sums, count, at % count, values, n);
                    at += n;
                });
                (self.loops.gather)(self.sums, count);
                std::ptr::copy_nonoverlapping(self.sums, result, self.sum_size);
                return;
            }
            (self.loops.clear)(result, width);
            let mut column = 0;
            let mut join = |values: *const u8, n: usize| {
                let mut done = 0;
                while done < n {
                    let (rest, values) = (n - done, values.add(done * self.value_size));
                    let rows = if column == 0 { rest / width } else { 0 };
                    let taken = if rows > 0 { rows * width } else { rest.min(width - column) };
                    if rows > 0 {
                        (self.loops.stack)(result, values, rows, width);
                    } else {
                        (self.loops.columns)(result.add(column * self.sum_size), values, taken);
                    }
                    column = (column + taken) % width;
                    done += taken;
                }
            };
            if width == level.inner {
                each(start, (to - from) * width, first, &mut join);
            } else {
                for r in 0..to - from {
                    each(start + r * level.inner, width, first && r == 0, &mut join);
                }
            }
        }
    }
}

impl Kernel for Reduce {
    fn stages(&self) -> usize {
        // Sums of another type than the result's are rounded by a stage of their own.
        self.levels.len() + usize::from(self.rounds)
    }

    fn tasks(&self, stage: usize) -> usize {
        self.levels.get(stage).map_or(self.results().div_ceil(ROUNDED), |level| level.units().div_ceil(self.group[stage]))
    }

    fn workspace(&self) -> usize {
        self.partials(self.levels.len() - usize::from(!self.rounds))
    }

    fn scratch(&self) -> usize {
        self.source.scratch().next_multiple_of(64) + self.sums()
    }

    unsafe fn run(&self, stage: usize, task: usize, operands: &[*mut u8], workspace: *mut u8, scratch: *mut u8) {
        let Some(&level) = self.levels.get(stage) else {
            let (from, to) = (task * ROUNDED, ((task + 1) * ROUNDED).min(self.results()));
            // SAFETY: the last level's results are as many as the output's elements.
            unsafe {
                let sums = workspace.add(self.partials(stage - 1) + from * self.sum_size);
                (self.first.finish)(operands[self.output].add(from * self.value_size), sums, to - from);
            }
            return;
        };
        let (first, last) = (task * self.group[stage], ((task + 1) * self.group[stage]).min(level.units()));
        // SAFETY: the workspace holds every level's results; the sums lie behind the source's scratch.
        unsafe {
            let task = Task {
                level,
                loops: if stage == 0 { &self.first } else { &self.again },
                results: self.target(stage, operands, workspace),
                sums: scratch.add(self.source.scratch().next_multiple_of(64)),
                sum_size: self.sum_size,
                value_size: if stage == 0 { self.value_size } else { self.sum_size },
            };
            if stage == 0 {
                task.run(first, last, |start, len, first, consume| {
                    self.source.each(start, len, first, operands, scratch, consume);
                });
            } else {
                let input = workspace.add(self.partials(stage - 1)).cast_const();
                task.run(first, last, |start, len, _, consume| consume(input.add(start * self.sum_size), len));
            }
        }
    }
}
