//! The transforms of Winograd's algorithm F(2 × 2, 3 × 3): a patch of 4 × 4 inputs and a window of 3 × 3 weights become 16 numbers
//! each, whose products become 2 × 2 outputs.
//!
//! A transform is sums, differences and halves of vectors of channels or features: no width changes a bit.

use std::ops::Range;

use crate::Isa;

/// Numbers that a patch and a window become.
pub(super) const PLANES: usize = 16;

/// `(patch, to, plane, channels)`: the rows of a patch, row-major, as the same channels of planes so far apart.
type InputFn = unsafe fn(&[*const f32; PLANES], *mut f32, usize, Range<usize>);
/// `(window, to, plane, features)`: the rows of a window, row-major, likewise.
type WeightsFn = unsafe fn(&[*const f32; 9], *mut f32, usize, Range<usize>);
/// `(planes, plane, to, features)`: 2 × 2 rows of outputs, row-major; those that are null do not exist.
type OutputFn = unsafe fn(*const f32, usize, &[*mut f32; 4], Range<usize>);

/// The transforms of one instruction set; they take whole vectors.
pub(super) struct Transforms {
    /// Elements of a vector.
    pub lanes: usize,
    pub input: InputFn,
    pub weights: WeightsFn,
    pub output: OutputFn,
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
    /// Every row of the patch is valid for `channels` elements, and so is every plane; the processor has the instructions.
    pub unsafe fn input(&self, patch: &[*const f32; PLANES], to: *mut f32, plane: usize, channels: usize) {
        let [whole, rest] = self.parts(channels);
        // SAFETY: as the caller vouches.
        unsafe {
            (self.input)(patch, to, plane, whole);
            (SINGLE.input)(patch, to, plane, rest);
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
    /// Every plane is valid for `features` elements, and so is every row that is not null; the processor has the instructions.
    pub unsafe fn output(&self, planes: *const f32, plane: usize, to: &[*mut f32; 4], features: usize) {
        let [whole, rest] = self.parts(features);
        // SAFETY: as the caller vouches.
        unsafe {
            (self.output)(planes, plane, to, whole);
            (SINGLE.output)(planes, plane, to, rest);
        }
    }
}

static SINGLE: Transforms = Transforms { lanes: 1, input: input_single, weights: weights_single, output: output_single };

/// Declares the transforms of one vector type.
macro_rules! transforms {
    (
        $(#[$features:meta])? $input:ident $weights:ident $output:ident $width:literal,
        $load:ident $store:ident $add:ident $sub:ident $half:ident
    ) => {
        /// # Safety
        /// As [`Transforms::input`](super::transforms::Transforms::input), for whole vectors.
        $(#[$features])?
        unsafe fn $input(patch: &[*const f32; 16], to: *mut f32, plane: usize, channels: std::ops::Range<usize>) {
            for c in channels.step_by($width) {
                // SAFETY: as the caller vouches.
                unsafe {
                    let mut t = [[$load!(patch[0].add(c)); 4]; 4];
                    for j in 0..4 {
                        let (a, b) = ($load!(patch[j].add(c)), $load!(patch[4 + j].add(c)));
                        let (d, e) = ($load!(patch[8 + j].add(c)), $load!(patch[12 + j].add(c)));
                        t[0][j] = $sub!(a, d);
                        t[1][j] = $add!(b, d);
                        t[2][j] = $sub!(d, b);
                        t[3][j] = $sub!(b, e);
                    }
                    for (i, [a, b, d, e]) in t.into_iter().enumerate() {
                        let to = to.add(4 * i * plane + c);
                        $store!(to, $sub!(a, d));
                        $store!(to.add(plane), $add!(b, d));
                        $store!(to.add(2 * plane), $sub!(d, b));
                        $store!(to.add(3 * plane), $sub!(b, e));
                    }
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
        unsafe fn $output(planes: *const f32, plane: usize, to: &[*mut f32; 4], features: std::ops::Range<usize>) {
            for f in features.step_by($width) {
                // SAFETY: as the caller vouches.
                unsafe {
                    let mut t = [[$load!(planes.add(f)); 4]; 2];
                    for j in 0..4 {
                        let from = planes.add(j * plane + f);
                        let (a, b) = ($load!(from), $load!(from.add(4 * plane)));
                        let (d, e) = ($load!(from.add(8 * plane)), $load!(from.add(12 * plane)));
                        t[0][j] = $add!($add!(a, b), d);
                        t[1][j] = $sub!($sub!(b, d), e);
                    }
                    for (to, [a, b, d, e]) in to.chunks_exact(2).zip(t) {
                        if !to[0].is_null() {
                            $store!(to[0].add(f), $add!($add!(a, b), d));
                        }
                        if !to[1].is_null() {
                            $store!(to[1].add(f), $sub!($sub!(b, d), e));
                        }
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
transforms! { input_single weights_single output_single 1, load1 store1 add1 sub1 half1 }
