use super::index::{Batch, Indices};
use super::row_major;
use crate::{DType, Kernel};

/// Dimension numbers of a scatter, StableHLO's names and meaning.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ScatterSpec {
    /// Shape of the operand and the output.
    pub operand: Vec<usize>,
    /// Shape of the indices.
    pub indices: Vec<usize>,
    /// Shape of the updates.
    pub updates: Vec<usize>,
    /// Dimensions of the updates that run over a window, ascending.
    pub update_window_dims: Vec<usize>,
    /// Dimensions of the operand in which a window has one element that the updates leave out.
    pub inserted_window_dims: Vec<usize>,
    /// The operand dimension each component of an index vector points into.
    pub scatter_dims_to_operand_dims: Vec<usize>,
    /// Dimension of the indices that holds the vectors; equal to their rank if every index is a vector of one.
    pub index_vector_dim: usize,
}

impl ScatterSpec {
    /// Row accumulation, the derivative of row lookup: `output[indices[i…]] += updates[i…]` for `rows` × `width`.
    pub fn rows(rows: usize, width: usize, indices: &[usize]) -> ScatterSpec {
        ScatterSpec {
            operand: vec![rows, width],
            indices: indices.to_vec(),
            updates: [indices, &[width]].concat(),
            update_window_dims: vec![indices.len()],
            inserted_window_dims: vec![0],
            scatter_dims_to_operand_dims: vec![0],
            index_vector_dim: indices.len(),
        }
    }

    /// Extent of a window along every operand dimension, if the dimension numbers fit the shapes.
    fn window(&self) -> Option<Vec<usize>> {
        let rank = self.operand.len();
        let vector = self.indices.get(self.index_vector_dim).copied().unwrap_or(1);
        let batch_rank = self.indices.len() - usize::from(self.index_vector_dim < self.indices.len());
        let fits = self.index_vector_dim <= self.indices.len()
            && vector == self.scatter_dims_to_operand_dims.len()
            && self.scatter_dims_to_operand_dims.iter().chain(&self.inserted_window_dims).all(|&d| d < rank)
            && self.update_window_dims.iter().all(|&d| d < self.updates.len())
            && self.update_window_dims.len() + self.inserted_window_dims.len() == rank
            && self.update_window_dims.len() + batch_rank == self.updates.len();
        if !fits {
            return None;
        }
        let mut sizes = self.update_window_dims.iter().map(|&d| self.updates[d]);
        (0..rank).map(|d| if self.inserted_window_dims.contains(&d) { Some(1) } else { sizes.next() }).collect()
    }
}

/// Adds windows of updates to the operand at positions found at run time. A window that does not fit is dropped whole.
///
/// Operands: operand, indices, updates, output, all row-major; the output may be exactly the operand and overlaps no other.
/// Additions to one element happen in row-major order of the updates' batch positions, for any number of threads.
pub struct ScatterAdd {
    batch: Batch,
    /// (operand stride, largest start) per component of an index vector.
    components: Vec<(isize, i64)>,
    /// (size, operand stride, update stride) per window dimension; the longest, which tasks divide, is last.
    window: Vec<(usize, isize, isize)>,
    /// Parts of the window's last dimension.
    columns: usize,
    /// Ranges of destinations.
    ranges: usize,
    elements: usize,
    fits: bool,
    index: DType,
    size: usize,
    add: AddFn,
}

/// `(target, target stride, update, update stride, n)`.
type AddFn = unsafe fn(*mut u8, isize, *const u8, isize, usize);

/// Elements a task copies.
const COPIED: usize = 65_536;
/// Elements a task adds, and columns it adds at least.
const ADDED: usize = 16_384;
const COLUMNS: usize = 64;
/// The most tasks that read all indices.
const READERS: usize = 64;

impl ScatterAdd {
    /// Plans a scatter-add. `None` if a dimension number does not fit the shapes, the index type is no integer or elements of
    /// that type cannot be added.
    pub fn new(spec: &ScatterSpec, dtype: DType, index: DType) -> Option<ScatterAdd> {
        let sizes = spec.window()?;
        let add = addition(dtype)?;
        Indices::supports(index).then_some(())?;
        let (to, from) = (row_major(&spec.operand), row_major(&spec.updates));
        let kept = (0..sizes.len()).filter(|d| !spec.inserted_window_dims.contains(d));
        let mut window: Vec<(usize, isize, isize)> =
            kept.zip(&spec.update_window_dims).map(|(d, &u)| (sizes[d], to[d], from[u])).collect();
        window.sort_by_key(|dim| dim.0);
        let others: Vec<isize> =
            (0..spec.updates.len()).filter(|d| !spec.update_window_dims.contains(d)).map(|d| from[d]).collect();
        let batch = Batch::new(&spec.indices, spec.index_vector_dim, &others);
        let largest = |&d: &usize| (to[d], spec.operand[d] as i64 - sizes[d] as i64);
        let components = spec.scatter_dims_to_operand_dims.iter().map(largest).collect();
        let fits = sizes.iter().zip(&spec.operand).all(|(window, size)| window <= size);
        // Windows of different starts share no element only if every scattered dimension has extent 1 in them.
        let apart = spec.scatter_dims_to_operand_dims.iter().all(|d| spec.inserted_window_dims.contains(d));
        let readers = (spec.updates.iter().product::<usize>() / ADDED).clamp(1, READERS);
        let width = window.last().map_or(1, |dim| dim.0);
        let columns = if apart { readers.min(width / COLUMNS).max(1) } else { 1 };
        let ranges = if apart { (readers / columns).max(1) } else { 1 };
        let elements = spec.operand.iter().product();
        Some(ScatterAdd { batch, components, window, columns, ranges, elements, fits, index, size: dtype.size(), add })
    }

    /// Operand offset of the window at a batch position, if it fits.
    ///
    /// # Safety
    /// The indices hold the position.
    #[inline]
    unsafe fn start(&self, indices: Indices, at: usize) -> Option<isize> {
        let mut start = 0;
        for (c, &(stride, largest)) in self.components.iter().enumerate() {
            // SAFETY: promised by the caller.
            let index = unsafe { indices.at(at + c * self.batch.component) };
            if index < 0 || index > largest {
                return None;
            }
            start += index as isize * stride;
        }
        Some(start)
    }

    /// # Safety
    /// As [`Kernel::run`].
    unsafe fn add_task(&self, task: usize, operands: &[*mut u8]) {
        let (range, column) = (task / self.columns, task % self.columns);
        let destinations = (range * self.elements / self.ranges) as isize..((range + 1) * self.elements / self.ranges) as isize;
        let indices = Indices { dtype: self.index, address: operands[1] };
        let (outer, (width, to, from)) = match self.window.split_last() {
            Some((&last, outer)) => (outer, last),
            None => (&[][..], (1, 0, 0)),
        };
        let (first, last) = (column * width / self.columns, (column + 1) * width / self.columns);
        for position in 0..self.batch.len() {
            let (at, update) = self.batch.offsets(position);
            // SAFETY: the window fits the operand; other tasks have other columns or other destinations.
            unsafe {
                let Some(start) = self.start(indices, at).filter(|start| destinations.contains(start)) else { continue };
                let target = operands[3].offset((start + first as isize * to) * self.size as isize);
                let source = operands[2].offset((update + first as isize * from) * self.size as isize);
                self.add_window(outer, target, source, (last - first, to, from));
            }
        }
    }

    /// # Safety
    /// The window's elements lie in both operands.
    unsafe fn add_window(&self, outer: &[(usize, isize, isize)], target: *mut u8, source: *const u8, row: (usize, isize, isize)) {
        let bytes = self.size as isize;
        match outer.split_first() {
            // SAFETY: promised by the caller.
            None => unsafe { (self.add)(target, row.1, source, row.2, row.0) },
            Some((&(size, to, from), inner)) => {
                for i in 0..size as isize {
                    // SAFETY: promised by the caller.
                    unsafe { self.add_window(inner, target.offset(i * to * bytes), source.offset(i * from * bytes), row) };
                }
            }
        }
    }
}

fn addition(dtype: DType) -> Option<AddFn> {
    Some(match dtype {
        DType::F32 => add_row::<f32>,
        DType::F64 => add_row::<f64>,
        DType::U8 => add_row::<u8>,
        DType::I32 => add_row::<i32>,
        DType::I64 => add_row::<i64>,
        DType::U32 => add_row::<u32>,
        DType::U64 => add_row::<u64>,
        _ => return None,
    })
}

trait Addend: Copy {
    fn plus(self, other: Self) -> Self;
}
macro_rules! addends {
    ($($t:ty: $a:ident, $b:ident => $e:expr;)*) => {
        $(impl Addend for $t {
            #[inline(always)]
            fn plus(self, other: Self) -> Self { let ($a, $b) = (self, other); $e }
        })*
    };
}
addends! {
    f32: a, b => a + b;
    f64: a, b => a + b;
    u8: a, b => a.wrapping_add(b);
    i32: a, b => a.wrapping_add(b);
    i64: a, b => a.wrapping_add(b);
    u32: a, b => a.wrapping_add(b);
    u64: a, b => a.wrapping_add(b);
}

/// # Safety
/// `n` elements at both strides are valid.
unsafe fn add_row<T: Addend>(target: *mut u8, to: isize, source: *const u8, from: isize, n: usize) {
    let (target, source) = (target.cast::<T>(), source.cast::<T>());
    // SAFETY: promised by the caller; the updates overlap nothing.
    unsafe {
        if to == 1 && from == 1 {
            let (target, source) = (std::slice::from_raw_parts_mut(target, n), std::slice::from_raw_parts(source, n));
            for (t, &s) in target.iter_mut().zip(source) {
                *t = t.plus(s);
            }
            return;
        }
        for i in 0..n as isize {
            let t = target.offset(i * to);
            *t = (*t).plus(*source.offset(i * from));
        }
    }
}

impl Kernel for ScatterAdd {
    fn stages(&self) -> usize {
        2
    }

    fn tasks(&self, stage: usize) -> usize {
        match stage {
            0 => self.elements.div_ceil(COPIED),
            _ if !self.fits || self.elements == 0 => 0,
            _ => self.columns * self.ranges,
        }
    }

    unsafe fn run(&self, stage: usize, task: usize, operands: &[*mut u8], _workspace: *mut u8, _scratch: *mut u8) {
        if stage > 0 {
            // SAFETY: the caller's promise.
            unsafe { self.add_task(task, operands) };
        } else if operands[0] != operands[3] {
            let (from, to) = (task * COPIED * self.size, ((task + 1) * COPIED).min(self.elements) * self.size);
            // SAFETY: the range lies in both operands, which are distinct.
            unsafe { std::ptr::copy_nonoverlapping(operands[0].add(from), operands[3].add(from), to - from) };
        }
    }
}
