//! The transforms of Winograd's algorithm for AVX-512 and AVX2: whole vectors of channels or features.

use std::arch::x86_64::*;

use super::transforms::{Outputs, Patches, Transforms, transforms};

pub(super) static AVX512: Transforms = Transforms {
    lanes: 16,
    input: input_avx512,
    weights: weights_avx512,
    output: output_avx512,
    gradient: gradient_avx512,
    window: window_avx512,
};

pub(super) static AVX2: Transforms = Transforms {
    lanes: 8,
    input: input_avx2,
    weights: weights_avx2,
    output: output_avx2,
    gradient: gradient_avx2,
    window: window_avx2,
};

// Macros, not functions: the compiler must not decide to call them.

macro_rules! load16 {
    ($from:expr) => {
        _mm512_loadu_ps($from)
    };
}
macro_rules! store16 {
    ($to:expr, $value:expr) => {
        _mm512_storeu_ps($to, $value)
    };
}
macro_rules! add16 {
    ($x:expr, $y:expr) => {
        _mm512_add_ps($x, $y)
    };
}
macro_rules! sub16 {
    ($x:expr, $y:expr) => {
        _mm512_sub_ps($x, $y)
    };
}
macro_rules! half16 {
    ($x:expr) => {
        _mm512_mul_ps($x, _mm512_set1_ps(0.5))
    };
}
macro_rules! load8 {
    ($from:expr) => {
        _mm256_loadu_ps($from)
    };
}
macro_rules! store8 {
    ($to:expr, $value:expr) => {
        _mm256_storeu_ps($to, $value)
    };
}
macro_rules! add8 {
    ($x:expr, $y:expr) => {
        _mm256_add_ps($x, $y)
    };
}
macro_rules! sub8 {
    ($x:expr, $y:expr) => {
        _mm256_sub_ps($x, $y)
    };
}
macro_rules! half8 {
    ($x:expr) => {
        _mm256_mul_ps($x, _mm256_set1_ps(0.5))
    };
}

transforms! {
    #[target_feature(enable = "avx512f")]
    input_avx512 weights_avx512 output_avx512 gradient_avx512 window_avx512 16 _mm512_setzero_ps(), load16 store16 add16 sub16 half16
}
transforms! {
    #[target_feature(enable = "avx2")]
    input_avx2 weights_avx2 output_avx2 gradient_avx2 window_avx2 8 _mm256_setzero_ps(), load8 store8 add8 sub8 half8
}
