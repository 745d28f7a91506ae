//! The transforms of Winograd's algorithm F(2 × 2, 3 × 3): a patch of 4 × 4 inputs and a window of 3 × 3 weights become 16 numbers
//! each, whose products become 2 × 2 outputs.
//!
//! A transform is sums, differences and halves of vectors of channels or features: no width changes a bit.

use std::ops::Range;

use super::patches::{InputDim, ZEROS};
use crate::Isa;
use crate::gemm::KC;

/// Numbers that a patch and a window become.
pub(super) const PLANES: usize = 16;

/// Patches side by side, two columns apart, whose numbers become rows of planes.
pub(super) struct Patches {
    pub count: usize,
    /// The four rows of the input from the first column of the first patch on, and the distance of columns in each.
    pub rows: [*const f32; 4],
    pub steps: [isize; 4],
    /// The columns that exist; others are zeros.
    pub columns: Range<usize>,
    pub to: *mut f32,
    /// Distance of the planes, and of the rows of patches in them.
    pub plane: usize,
    pub step: usize,
}

impl Patches {
    /// Patches from a place on; what lies outside reads zeros. They go nowhere yet.
    pub fn of(dims: &[InputDim; 2], place: [usize; 2], count: usize, from: *const f32) -> Patches {
        let [outer, inner] = dims;
        let (y, x) = (outer.origin + 2 * place[0] as isize, inner.origin + 2 * place[1] as isize);
        // A negative position is huge as an unsigned number.
        let exists = |row: usize| ((y + row as isize) as usize) < outer.extent;
        let row = |row: usize| from.wrapping_offset((y + row as isize) * outer.stride + x * inner.stride);
        Patches {
            count,
            rows: std::array::from_fn(|i| if exists(i) { row(i) } else { ZEROS.as_ptr() }),
            steps: std::array::from_fn(|i| if exists(i) { inner.stride } else { 0 }),
            columns: (-x).max(0) as usize..(inner.extent as isize - x).max(0) as usize,
            to: std::ptr::null_mut(),
            plane: 0,
            step: 0,
        }
    }

    /// Lays the channels of a single patch, `channel` apart, side by side.
    ///
    /// # Safety
    /// The columns that exist are valid for so many channels, at most [`KC`], and `to` for 16 times as many.
    pub unsafe fn gather(&mut self, channel: isize, channels: usize, to: *mut f32) {
        for row in 0..4 {
            let to = to.wrapping_add(4 * row * KC);
            if self.rows[row] == ZEROS.as_ptr() {
                continue;
            }
            for column in self.columns.start..self.columns.end.min(4) {
                for c in 0..channels {
                    // SAFETY: as the caller vouches.
                    unsafe { *to.add(column * KC + c) = *self.element(row, column, 0).offset(c as isize * channel) };
                }
            }
            (self.rows[row], self.steps[row]) = (to, KC as isize);
        }
    }

    /// The channel of a column in a row.
    #[inline(always)]
    pub fn element(&self, row: usize, column: usize, channel: usize) -> *const f32 {
        self.rows[row].wrapping_offset(column as isize * self.steps[row]).wrapping_add(channel)
    }
}

/// Rows of planes that become outputs side by side.
pub(super) struct Outputs {
    pub count: usize,
    pub from: *const f32,
    /// Distance of the planes, and of the rows of patches in them.
    pub plane: usize,
    pub step: usize,
    pub to: *mut f32,
    /// Distance of the columns of the output, and of its rows.
    pub col: isize,
    pub row: isize,
    /// Columns that exist, and rows: one or two.
    pub cols: usize,
    pub rows: usize,
}

/// The same channels of all patches: of 4 × 4 inputs, or of 2 × 2 gradients in the first two rows.
type InputFn = unsafe fn(&Patches, Range<usize>);
/// `(window, to, plane, features)`: the rows of a window, row-major, likewise.
type WeightsFn = unsafe fn(&[*const f32; 9], *mut f32, usize, Range<usize>);
/// The same features of all outputs.
type OutputFn = unsafe fn(&Outputs, Range<usize>);

/// `(planes, plane, to, row, features)`: a row of each plane as the rows of a window so far apart, row-major.
type WindowFn = unsafe fn(*const f32, usize, *mut f32, usize, Range<usize>);

/// The transforms of one instruction set; they take whole vectors.
pub(super) struct Transforms {
    /// Elements of a vector.
    pub lanes: usize,
    pub input: InputFn,
    pub weights: WeightsFn,
    pub output: OutputFn,
    /// Derivatives of `output` and `weights`.
    pub gradient: InputFn,
    pub window: WindowFn,
}

impl Transforms {
    pub fn of(isa: Isa) -> &'static Transforms {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => &super::winograd_x86::AVX512,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => &super::winograd_x86::AVX2,
            _ => &SINGLE,
        }
    }

    /// The whole vectors of so many elements, and the rest.
    fn parts(&self, count: usize) -> [Range<usize>; 2] {
        let whole = count / self.lanes * self.lanes;
        [0..whole, whole..count]
    }

    /// # Safety
    /// Every column that exists is valid for `channels` elements, and so is every plane; the processor has the instructions.
    pub unsafe fn input(&self, patches: &Patches, channels: usize) {
        let [whole, rest] = self.parts(channels);
        // SAFETY: as the caller vouches.
        unsafe {
            (self.input)(patches, whole);
            (SINGLE.input)(patches, rest);
        }
    }

    /// # Safety
    /// Every row of the window is valid for `features` elements, and so is every plane; the processor has the instructions.
    pub unsafe fn weights(&self, window: &[*const f32; 9], to: *mut f32, plane: usize, features: usize) {
        let [whole, rest] = self.parts(features);
        // SAFETY: as the caller vouches.
        unsafe {
            (self.weights)(window, to, plane, whole);
            (SINGLE.weights)(window, to, plane, rest);
        }
    }

    /// # Safety
    /// Every plane and every output that exists is valid for `features` elements; the processor has the instructions.
    pub unsafe fn output(&self, outputs: &Outputs, features: usize) {
        let [whole, rest] = self.parts(features);
        // SAFETY: as the caller vouches.
        unsafe {
            (self.output)(outputs, whole);
            (SINGLE.output)(outputs, rest);
        }
    }

    /// # Safety
    /// As [`input`](Self::input), for the first two rows.
    pub unsafe fn gradient(&self, patches: &Patches, channels: usize) {
        let [whole, rest] = self.parts(channels);
        // SAFETY: as the caller vouches.
        unsafe {
            (self.gradient)(patches, whole);
            (SINGLE.gradient)(patches, rest);
        }
    }

    /// # Safety
    /// Every plane is valid for `features` elements, and so are nine rows from `to` on; the processor has the instructions.
    pub unsafe fn window(&self, planes: *const f32, plane: usize, to: *mut f32, features: usize) {
        let [whole, rest] = self.parts(features);
        // SAFETY: as the caller vouches.
        unsafe {
            (self.window)(planes, plane, to, features, whole);
            (SINGLE.window)(planes, plane, to, features, rest);
        }
    }
}

static SINGLE: Transforms = Transforms {
    lanes: 1,
    input: input_single,
    weights: weights_single,
    output: output_single,
    gradient: gradient_single,
    window: window_single,
};

/// Declares the transforms of one vector type.
macro_rules! transforms {
    (
        $(#[$features:meta])?
        $input:ident $weights:ident $output:ident $gradient:ident $window:ident $width:literal $zero:expr,
        $load:ident $store:ident $add:ident $sub:ident $half:ident
    ) => {
        /// # Safety
        /// As [`Transforms::input`](super::transforms::Transforms::input), for whole vectors.
        $(#[$features])?
        unsafe fn $input(p: &Patches, channels: std::ops::Range<usize>) {
            for c in channels.step_by($width) {
                let mut before = [[$zero; 4]; 2];
                // Neighbours share two columns.
                for pair in 0..=p.count {
                    let mut columns = [[$zero; 4]; 2];
                    for (k, column) in columns.iter_mut().enumerate() {
                        let at = 2 * pair + k;
                        if p.columns.contains(&at) {
                            // SAFETY: as the caller vouches.
                            unsafe {
                                let (a, b) = ($load!(p.element(0, at, c)), $load!(p.element(1, at, c)));
                                let (d, e) = ($load!(p.element(2, at, c)), $load!(p.element(3, at, c)));
                                *column = [$sub!(a, d), $add!(b, d), $sub!(d, b), $sub!(b, e)];
                            }
                        }
                    }
                    if pair > 0 {
                        let mut to = p.to.wrapping_add((pair - 1) * p.step + c);
                        for i in 0..4 {
                            let (a, b, d, e) = (before[0][i], before[1][i], columns[0][i], columns[1][i]);
                            // SAFETY: as the caller vouches.
                            unsafe {
                                $store!(to, $sub!(a, d));
                                $store!(to.add(p.plane), $add!(b, d));
                                $store!(to.add(2 * p.plane), $sub!(d, b));
                                $store!(to.add(3 * p.plane), $sub!(b, e));
                            }
                            to = to.wrapping_add(4 * p.plane);
                        }
                    }
                    before = columns;
                }
            }
        }

        /// # Safety
        /// As [`Transforms::weights`](super::transforms::Transforms::weights), for whole vectors.
        $(#[$features])?
        unsafe fn $weights(window: &[*const f32; 9], to: *mut f32, plane: usize, features: std::ops::Range<usize>) {
            for f in features.step_by($width) {
                // SAFETY: as the caller vouches.
                unsafe {
                    let mut t = [[$load!(window[0].add(f)); 3]; 4];
                    for j in 0..3 {
                        let (a, b, d) = ($load!(window[j].add(f)), $load!(window[3 + j].add(f)), $load!(window[6 + j].add(f)));
                        let ends = $add!(a, d);
                        t[0][j] = a;
                        t[1][j] = $half!($add!(ends, b));
                        t[2][j] = $half!($sub!(ends, b));
                        t[3][j] = d;
                    }
                    for (i, [a, b, d]) in t.into_iter().enumerate() {
                        let (to, ends) = (to.add(4 * i * plane + f), $add!(a, d));
                        $store!(to, a);
                        $store!(to.add(plane), $half!($add!(ends, b)));
                        $store!(to.add(2 * plane), $half!($sub!(ends, b)));
                        $store!(to.add(3 * plane), d);
                    }
                }
            }
        }

        /// # Safety
        /// As [`Transforms::output`](super::transforms::Transforms::output), for whole vectors.
        $(#[$features])?
        unsafe fn $output(o: &Outputs, features: std::ops::Range<usize>) {
            for f in features.step_by($width) {
                for number in 0..o.count {
                    let from = o.from.wrapping_add(number * o.step + f);
                    let mut rows = [[$zero; 4]; 2];
                    for j in 0..4 {
                        // SAFETY: as the caller vouches.
                        unsafe {
                            let from = from.add(j * o.plane);
                            let (a, b) = ($load!(from), $load!(from.add(4 * o.plane)));
                            let (d, e) = ($load!(from.add(8 * o.plane)), $load!(from.add(12 * o.plane)));
                            rows[0][j] = $add!($add!(a, b), d);
                            rows[1][j] = $sub!($sub!(b, d), e);
                        }
                    }
                    let mut to = o.to.wrapping_offset(2 * number as isize * o.col).wrapping_add(f);
                    for [a, b, d, e] in rows.into_iter().take(o.rows) {
                        // SAFETY: as the caller vouches.
                        unsafe {
                            $store!(to, $add!($add!(a, b), d));
                            if 2 * number + 1 < o.cols {
                                $store!(to.offset(o.col), $sub!($sub!(b, d), e));
                            }
                        }
                        to = to.wrapping_offset(o.row);
                    }
                }
            }
        }

        /// # Safety
        /// As [`Transforms::gradient`](super::transforms::Transforms::gradient), for whole vectors.
        $(#[$features])?
        unsafe fn $gradient(p: &Patches, channels: std::ops::Range<usize>) {
            for c in channels.step_by($width) {
                for number in 0..p.count {
                    let mut columns = [[$zero; 4]; 2];
                    for (k, column) in columns.iter_mut().enumerate() {
                        let at = 2 * number + k;
                        if p.columns.contains(&at) {
                            // SAFETY: as the caller vouches.
                            unsafe {
                                let (a, b) = ($load!(p.element(0, at, c)), $load!(p.element(1, at, c)));
                                *column = [a, $add!(a, b), $sub!(a, b), $sub!($zero, b)];
                            }
                        }
                    }
                    let mut to = p.to.wrapping_add(number * p.step + c);
                    for i in 0..4 {
                        let (a, b) = (columns[0][i], columns[1][i]);
                        // SAFETY: as the caller vouches.
                        unsafe {
                            $store!(to, a);
                            $store!(to.add(p.plane), $add!(a, b));
                            $store!(to.add(2 * p.plane), $sub!(a, b));
                            $store!(to.add(3 * p.plane), $sub!($zero, b));
                        }
                        to = to.wrapping_add(4 * p.plane);
                    }
                }
            }
        }

        /// # Safety
        /// As [`Transforms::window`](super::transforms::Transforms::window), for whole vectors.
        $(#[$features])?
        unsafe fn $window(planes: *const f32, plane: usize, to: *mut f32, row: usize, features: std::ops::Range<usize>) {
            for f in features.step_by($width) {
                let mut t = [[$zero; 4]; 3];
                for j in 0..4 {
                    // SAFETY: as the caller vouches.
                    unsafe {
                        let from = planes.add(j * plane + f);
                        let (b, d) = ($load!(from.add(4 * plane)), $load!(from.add(8 * plane)));
                        let both = $half!($add!(b, d));
                        t[0][j] = $add!($load!(from), both);
                        t[1][j] = $half!($sub!(b, d));
                        t[2][j] = $add!(both, $load!(from.add(12 * plane)));
                    }
                }
                for (i, [a, b, d, e]) in t.into_iter().enumerate() {
                    let both = $half!($add!(b, d));
                    // SAFETY: as the caller vouches.
                    unsafe {
                        let to = to.add(3 * i * row + f);
                        $store!(to, $add!(a, both));
                        $store!(to.add(row), $half!($sub!(b, d)));
                        $store!(to.add(2 * row), $add!(both, e));
                    }
                }
            }
        }
    };
}
pub(super) use transforms;

macro_rules! load1 {
    ($from:expr) => {
        *$from
    };
}
macro_rules! store1 {
    ($to:expr, $value:expr) => {
        *$to = $value
    };
}
macro_rules! add1 {
    ($x:expr, $y:expr) => {
        $x + $y
    };
}
macro_rules! sub1 {
    ($x:expr, $y:expr) => {
        $x - $y
    };
}
macro_rules! half1 {
    ($x:expr) => {
        0.5 * $x
    };
}
transforms! { input_single weights_single output_single gradient_single window_single 1 0f32, load1 store1 add1 sub1 half1 }
