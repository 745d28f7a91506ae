use std::ops::Range;

use crate::tile::MAX_RANK;

/// A window sliding over a padded, dilated tensor: StableHLO's `reduce_window` attributes, one entry per dimension.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct WindowSpec {
    /// Shape of the input.
    pub input: Vec<usize>,
    /// Extent of the window.
    pub window: Vec<usize>,
    /// Step between windows.
    pub strides: Vec<usize>,
    /// Distance between neighbouring input elements; 1 is dense.
    pub base_dilation: Vec<usize>,
    /// Distance between neighbouring window elements; 1 is dense.
    pub window_dilation: Vec<usize>,
    /// Padding before the first and after the last element; negative removes.
    pub padding: Vec<[isize; 2]>,
}

impl WindowSpec {
    /// A dense window without padding that moves by its own extent.
    pub fn tiling(input: &[usize], window: &[usize]) -> WindowSpec {
        WindowSpec {
            input: input.to_vec(),
            window: window.to_vec(),
            strides: window.to_vec(),
            base_dilation: vec![1; input.len()],
            window_dilation: vec![1; input.len()],
            padding: vec![[0, 0]; input.len()],
        }
    }

    /// Shape of the output; `None` if the entries do not fit the input's rank or one that must be positive is 0.
    pub fn output(&self) -> Option<Vec<usize>> {
        let rank = self.input.len();
        let lists = [&self.window, &self.strides, &self.base_dilation, &self.window_dilation];
        let fits = lists.iter().all(|list| list.len() == rank && !list.contains(&0)) && self.padding.len() == rank;
        (fits && rank <= MAX_RANK).then(|| (0..rank).map(|d| self.extent(d)).collect())
    }

    fn extent(&self, d: usize) -> usize {
        let spread = |size: usize, step: usize| if size == 0 { 0 } else { ((size - 1) * step + 1) as isize };
        let padded = spread(self.input[d], self.base_dilation[d]) + self.padding[d][0] + self.padding[d][1];
        let window = spread(self.window[d], self.window_dilation[d]);
        if padded < window { 0 } else { ((padded - window) / self.strides[d] as isize) as usize + 1 }
    }
}

/// One dimension of a sliding window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    pub(super) input: usize,
    pub(super) output: usize,
    window: usize,
    stride: usize,
    base_dilation: usize,
    window_dilation: usize,
    low: isize,
    /// Input elements, in channel vectors, from one index to the next.
    step: usize,
}

impl Axis {
    /// The input index under element `k` of window `o`, if it is not padding.
    #[inline]
    fn source(&self, o: usize, k: usize) -> Option<usize> {
        let position = (o * self.stride + k * self.window_dilation) as isize - self.low;
        let position = usize::try_from(position).ok()?;
        if self.base_dilation == 1 {
            return (position < self.input).then_some(position);
        }
        let index = position / self.base_dilation;
        (position % self.base_dilation == 0 && index < self.input).then_some(index)
    }

    /// Whether windows are dense and meet no padding.
    fn is_whole(&self) -> bool {
        (self.base_dilation, self.window_dilation, self.low) == (1, 1, 0) && (self.output == 0 || self.end() <= self.input)
    }

    /// Where the last window ends, of dense ones that start with the first element.
    fn end(&self) -> usize {
        (self.output.max(1) - 1) * self.stride + self.window
    }

    /// How many windows from one on, along this dimension, lie over as many elements, all as far from their window's start.
    fn alike(&self, o: usize) -> usize {
        let (first, reach) = ((o * self.stride) as isize - self.low, (self.window - 1) * self.window_dilation);
        // What a window starts with at most, if its last element shall be in the input.
        let last = self.input as isize - 1 - reach as isize;
        if self.base_dilation != 1 || first < 0 || first > last {
            return 1;
        }
        (self.output - o).min((last - first) as usize / self.stride + 1)
    }

    /// Whether windows are the input's elements themselves.
    fn is_trivial(&self) -> bool {
        self.window == 1 && self.stride == 1 && self.base_dilation == 1 && self.low == 0 && self.input == self.output
    }
}

/// The dimensions of a window problem: batch (trivial, leading), windowed, channels (trivial, trailing).
#[derive(Clone, Debug)]
pub(super) struct Geometry {
    pub(super) batch: usize,
    pub(super) axes: Vec<Axis>,
    pub(super) channels: usize,
    /// Where the elements of a window lie from its first one on, if no window meets padding or holes.
    whole: Option<Vec<usize>>,
}

impl Geometry {
    pub(super) fn new(spec: &WindowSpec) -> Option<Geometry> {
        let output = spec.output()?;
        let mut axes: Vec<Axis> = (0..output.len())
            .map(|d| Axis {
                input: spec.input[d],
                output: output[d],
                window: spec.window[d],
                stride: spec.strides[d],
                base_dilation: spec.base_dilation[d],
                window_dilation: spec.window_dilation[d],
                low: spec.padding[d][0],
                step: 1,
            })
            .collect();
        let mut channels = 1;
        while let Some(axis) = axes.pop_if(|axis| axis.is_trivial()) {
            channels *= axis.input;
        }
        let leading = axes.iter().take_while(|axis| axis.is_trivial()).count();
        let batch = axes.drain(..leading).map(|axis| axis.input).product();
        let mut step = 1;
        for axis in axes.iter_mut().rev() {
            axis.step = step;
            step *= axis.input;
        }
        let whole = axes.iter().all(Axis::is_whole).then(|| offsets(&axes));
        Some(Geometry { batch, axes, channels, whole })
    }

    /// Windows per batch entry.
    pub(super) fn windows(&self) -> usize {
        self.axes.iter().map(|axis| axis.output).product()
    }

    /// Input positions per batch entry.
    pub(super) fn positions(&self) -> usize {
        self.axes.iter().map(|axis| axis.input).product()
    }

    /// Elements of a window.
    pub(super) fn window(&self) -> usize {
        self.axes.iter().map(|axis| axis.window).product()
    }

    /// Lists the input positions under a window, in row-major order of the window; `list` has room for a whole window.
    #[inline]
    fn under<'l>(&self, window: usize, list: &'l mut [usize]) -> &'l [usize] {
        let mut index = [0; MAX_RANK];
        let mut rest = window;
        for (i, axis) in index[..self.axes.len()].iter_mut().zip(&self.axes).rev() {
            *i = rest % axis.output;
            rest /= axis.output;
        }
        if let Some(whole) = &self.whole {
            let first: usize = index.iter().zip(&self.axes).map(|(i, axis)| i * axis.stride * axis.step).sum();
            list.iter_mut().zip(whole).for_each(|(to, offset)| *to = first + offset);
            return list;
        }
        let mut count = 0;
        visit(&self.axes, &index, 0, &mut |position| {
            list[count] = position;
            count += 1;
        });
        &list[..count]
    }

    /// Hands the windows of a range to a function: the number of the first of those side by side that are alike, the positions under
    /// it, how many they are, and the positions from one to the next. `list` has room for a whole window.
    #[inline]
    pub(super) fn each(&self, windows: Range<usize>, list: &mut [usize], mut f: impl FnMut(usize, &[usize], usize, usize)) {
        let (output, step) = self.axes.last().map_or((1, 0), |axis| (axis.output, axis.stride * axis.step));
        let mut window = windows.start;
        while window < windows.end {
            let count = self.axes.last().map_or(1, |axis| axis.alike(window % output)).min(windows.end - window);
            f(window, self.under(window, list), count, step);
            window += count;
        }
    }

    /// Positions from a window to the next one along the outermost dimension.
    pub(super) fn ahead(&self) -> usize {
        self.axes.first().map_or(0, |axis| axis.stride * axis.step)
    }

    /// How far the outermost dimension goes from one window to the next, if no two windows share an element.
    pub(super) fn disjoint(&self) -> Option<usize> {
        let apart = |axis: &Axis| axis.output <= 1 || axis.stride >= axis.window;
        let outermost = self.axes.first()?;
        (self.whole.is_some() && self.axes.iter().all(apart)).then_some(outermost.stride)
    }

    /// Whether every element lies in a window.
    pub(super) fn covers(&self) -> bool {
        self.whole.is_some() && self.axes.iter().all(|a| a.stride <= a.window && a.output > 0 && a.end() == a.input)
    }
}

/// Offsets of the elements of a dense window, row-major.
fn offsets(axes: &[Axis]) -> Vec<usize> {
    axes.iter().fold(vec![0], |outer, axis| {
        let along = |first: usize| (0..axis.window).map(move |k| first + k * axis.step);
        outer.into_iter().flat_map(along).collect()
    })
}

/// Scratch memory as a list of so many positions.
///
/// # Safety
/// `scratch` has room for them, and nothing else uses it while the list is in use.
pub(super) unsafe fn room<'s>(scratch: *mut u8, positions: usize) -> &'s mut [usize] {
    let list: *mut usize = scratch.cast();
    // SAFETY: as the caller vouches; any bits are a number, and these are zeros.
    unsafe {
        list.write_bytes(0, positions);
        std::slice::from_raw_parts_mut(list, positions)
    }
}

fn visit(axes: &[Axis], index: &[usize], base: usize, f: &mut impl FnMut(usize)) {
    let Some((axis, inner)) = axes.split_first() else { return f(base) };
    for k in 0..axis.window {
        if let Some(i) = axis.source(index[0], k) {
            visit(inner, &index[1..], base + i * axis.step, f);
        }
    }
}
