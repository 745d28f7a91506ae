//! Which element of a window is the largest, per channel, and values placed there.

use crate::simd::per_isa;
use crate::{DType, Isa};

/// Channels that are compared in registers.
const LANES: usize = 16;

/// An element type with a maximum to select by.
trait Real: Copy + PartialOrd + std::ops::Add<Output = Self> + Default + 'static {}
impl Real for f32 {}
impl Real for f64 {}

/// Channels of the rows at some positions, `row` bytes apart.
#[derive(Clone, Copy)]
pub(super) struct Rows<'p> {
    pub positions: &'p [usize],
    pub row: usize,
    pub channels: usize,
}

/// `(selected, input, rows)`: per channel, the number of the row whose value is largest: the first of them, or the first NaN. There is
/// a row.
type ChooseFn = unsafe fn(*mut u32, *const u8, Rows<'_>);
/// `(output, rows, selected, values)`: writes zero to every channel of every row, plus the channel's value in the row it selected.
type PlaceFn = unsafe fn(*mut u8, Rows<'_>, *const u32, *const u8);

/// The loops of one element type and instruction set.
#[derive(Clone, Copy)]
pub(super) struct Selecting {
    pub choose: ChooseFn,
    pub place: PlaceFn,
    /// As `place`, but adds the value and leaves the others as they are.
    pub add: PlaceFn,
}

impl Selecting {
    /// `None` but for `F32` and `F64`.
    pub fn of(dtype: DType, isa: Isa) -> Option<Selecting> {
        fn loops<T: Real>(isa: Isa) -> Selecting {
            Selecting { choose: choose::<T>(isa), place: place::<T>(isa), add: add::<T>(isa) }
        }
        match dtype {
            DType::F32 => Some(loops::<f32>(isa)),
            DType::F64 => Some(loops::<f64>(isa)),
            _ => None,
        }
    }
}

/// # Safety
/// As documented at [`ChooseFn`], for `L` channels from the addresses on.
#[inline(always)]
unsafe fn choose_lanes<T: Real, const L: usize>(selected: *mut u32, input: *const T, rows: Rows<'_>) {
    // SAFETY: promised by the caller.
    let load = |position: usize| unsafe { input.byte_add(position * rows.row).cast::<[T; L]>().read_unaligned() };
    let Some((&first, others)) = rows.positions.split_first() else { return };
    let (mut best, mut which) = (load(first), [0u32; L]);
    for (number, &position) in (1..).zip(others) {
        let values = load(position);
        for ((best, which), x) in best.iter_mut().zip(&mut which).zip(values) {
            // A NaN is the only value that differs from itself.
            #[allow(clippy::eq_op, reason = "the test for NaN of a generic float")]
            let replaces = (*best == *best) & ((x > *best) | (x != x));
            *best = if replaces { x } else { *best };
            *which = if replaces { number } else { *which };
        }
    }
    // SAFETY: promised by the caller.
    unsafe { selected.cast::<[u32; L]>().write_unaligned(which) };
}

/// # Safety
/// As documented at [`ChooseFn`].
#[inline(always)]
unsafe fn choose_body<T: Real, const FMA: bool>(selected: *mut u32, input: *const u8, rows: Rows<'_>) {
    let (input, whole) = (input.cast::<T>(), rows.channels / LANES * LANES);
    for channel in (0..whole).step_by(LANES) {
        // SAFETY: promised by the caller.
        unsafe { choose_lanes::<T, LANES>(selected.add(channel), input.add(channel), rows) };
    }
    for channel in whole..rows.channels {
        // SAFETY: promised by the caller.
        unsafe { choose_lanes::<T, 1>(selected.add(channel), input.add(channel), rows) };
    }
}

/// Hands (target, whether it is selected, value) of every channel of every row to a function.
///
/// # Safety
/// As documented at [`PlaceFn`].
#[inline(always)]
unsafe fn each<T: Real>(output: *mut u8, rows: Rows<'_>, selected: *const u32, values: *const u8, set: impl Fn(&mut T, bool, T)) {
    // SAFETY: promised by the caller.
    let (selected, values) = unsafe {
        (std::slice::from_raw_parts(selected, rows.channels), std::slice::from_raw_parts(values.cast::<T>(), rows.channels))
    };
    for (number, &position) in (0..).zip(rows.positions) {
        let row = output.wrapping_add(position * rows.row).cast::<T>();
        // SAFETY: promised by the caller; the rows of a window are different ones.
        let row = unsafe { std::slice::from_raw_parts_mut(row, rows.channels) };
        for ((target, &selected), &x) in row.iter_mut().zip(selected).zip(values) {
            set(target, selected == number, x);
        }
    }
}

/// # Safety
/// As documented at [`PlaceFn`].
#[inline(always)]
unsafe fn place_body<T: Real, const FMA: bool>(output: *mut u8, rows: Rows<'_>, selected: *const u32, values: *const u8) {
    // SAFETY: promised by the caller.
    unsafe {
        each(output, rows, selected, values, |target: &mut T, here, x| {
            *target = if here { T::default() + x } else { T::default() }
        })
    };
}

/// # Safety
/// As documented at [`Selecting::add`].
#[inline(always)]
unsafe fn add_body<T: Real, const FMA: bool>(output: *mut u8, rows: Rows<'_>, selected: *const u32, values: *const u8) {
    // SAFETY: promised by the caller.
    unsafe { each(output, rows, selected, values, |target: &mut T, here, x| *target = if here { *target + x } else { *target }) };
}

per_isa! { fn choose[T: Real](selected: *mut u32, input: *const u8, rows: Rows<'_>) = choose_body }
per_isa! { fn place[T: Real](output: *mut u8, rows: Rows<'_>, selected: *const u32, values: *const u8) = place_body }
per_isa! { fn add[T: Real](output: *mut u8, rows: Rows<'_>, selected: *const u32, values: *const u8) = add_body }
