//! Which element of a window is the largest, per channel, and what is done there.

use crate::ahead::prefetch;
use crate::simd::per_isa;
use crate::{DType, Isa};
use std::marker::PhantomData;

/// Channels that are dealt with at a time, at most.
const MOST: usize = 16;

/// An element type with a maximum to select by.
trait Real: Copy + PartialOrd + std::ops::Add<Output = Self> + Default + 'static {}
impl Real for f32 {}
impl Real for f64 {}

/// Windows side by side over rows of channels.
#[derive(Clone, Copy)]
pub(crate) struct Windows<'p> {
    /// Where the rows under the first window lie, in rows.
    pub positions: &'p [usize],
    pub count: usize,
    /// Rows from one window to the next.
    pub step: usize,
    /// Bytes from one row of the input to the next, which are those from one window's values to the next one's.
    pub row: usize,
    /// Rows to what windows further on are the first to meet, and is fetched meanwhile.
    pub ahead: usize,
    pub channels: usize,
}

impl Windows<'_> {
    /// `L` channels of the row at a position, under some window.
    ///
    /// # Safety
    /// `input` is the first of these channels in row 0, and the row lies in the input.
    #[inline(always)]
    pub unsafe fn load<T: Copy, const L: usize>(&self, input: *const T, window: usize, position: usize) -> [T; L] {
        let at = input.wrapping_byte_add((position + window * self.step) * self.row).cast::<[T; L]>();
        if L == MOST {
            prefetch(at.wrapping_byte_add(self.ahead * self.row));
        }
        // SAFETY: promised by the caller.
        unsafe { at.read_unaligned() }
    }
}

/// What is done with adjacent channels.
pub(crate) trait Channels {
    /// Does it with `L` channels from `first` on.
    ///
    /// # Safety
    /// As whoever made it promises.
    unsafe fn lanes<const L: usize>(&self, first: usize);
}

/// Does something with all channels, so many as a vector holds at a time, then fewer.
///
/// # Safety
/// As for each of its [`lanes`](Channels::lanes).
#[inline(always)]
pub(crate) unsafe fn each_channel(channels: usize, what: &impl Channels) {
    // SAFETY: promised by the caller.
    unsafe {
        let mut at = 0;
        // No closure: it would not have the instructions of the function this is inlined into.
        while channels - at >= MOST {
            what.lanes::<MOST>(at);
            at += MOST;
        }
        if channels & 8 != 0 {
            what.lanes::<8>(at);
            at += 8;
        }
        if channels & 4 != 0 {
            what.lanes::<4>(at);
            at += 4;
        }
        if channels & 2 != 0 {
            what.lanes::<2>(at);
            at += 2;
        }
        if channels & 1 != 0 {
            what.lanes::<1>(at);
        }
    }
}

/// `(windows, input, (output, bytes from one of its rows to the next), values)`: the value of each window and channel goes to the row
/// under it that is the first largest there.
type ScatterFn = unsafe fn(Windows<'_>, *const u8, (*mut u8, usize), *const u8);
/// `(windows, input, second, output)`: for each window and channel what the second operand has in the row that is the first largest
/// of the input; 0 if there is no row.
type GatherFn = unsafe fn(Windows<'_>, *const u8, *const u8, *mut u8);

/// The loops of one element type and instruction set.
#[derive(Clone, Copy)]
pub(super) struct Selecting {
    /// Writes the value, and zero to the window's other rows.
    pub place: ScatterFn,
    /// Adds the value and leaves the others as they are.
    pub add: ScatterFn,
    pub gather: GatherFn,
}

impl Selecting {
    /// `None` but for `F32` and `F64`.
    pub fn of(dtype: DType, isa: Isa) -> Option<Selecting> {
        fn loops<T: Real>(isa: Isa) -> Selecting {
            Selecting { place: scatter::<T, Place>(isa), add: scatter::<T, Add>(isa), gather: gather::<T>(isa) }
        }
        match dtype {
            DType::F32 => Some(loops::<f32>(isa)),
            DType::F64 => Some(loops::<f64>(isa)),
            _ => None,
        }
    }
}

/// The number of the row under a window whose value is largest, per channel: the first of them, or the first NaN.
///
/// # Safety
/// As [`Windows::load`], for every row of the window.
#[inline(always)]
unsafe fn choose<T: Real, const L: usize>(windows: Windows<'_>, input: *const T, window: usize) -> [u32; L] {
    let mut which = [0u32; L];
    let Some((&first, others)) = windows.positions.split_first() else { return which };
    // SAFETY: promised by the caller.
    let mut best = unsafe { windows.load::<T, L>(input, window, first) };
    for (number, &position) in (1..).zip(others) {
        // SAFETY: promised by the caller.
        let values = unsafe { windows.load::<T, L>(input, window, position) };
        for ((best, which), x) in best.iter_mut().zip(&mut which).zip(values) {
            // A NaN is the only value that differs from itself.
            #[allow(clippy::eq_op, reason = "the test for NaN of a generic float")]
            let replaces = (*best == *best) & ((x > *best) | (x != x));
            *best = if replaces { x } else { *best };
            *which = if replaces { number } else { *which };
        }
    }
    which
}

/// What happens to the rows under a window.
trait Manner: 'static {
    /// Whether they begin as zero, rather than as what they hold.
    const FRESH: bool;
}
struct Place;
struct Add;
impl Manner for Place {
    const FRESH: bool = true;
}
impl Manner for Add {
    const FRESH: bool = false;
}

struct Scatter<'p, T, M> {
    windows: Windows<'p>,
    input: *const T,
    target: *mut T,
    /// Bytes from one row of the target to the next.
    row: usize,
    values: *const T,
    manner: PhantomData<M>,
}

impl<T: Real, M: Manner> Channels for Scatter<'_, T, M> {
    #[inline(always)]
    unsafe fn lanes<const L: usize>(&self, first: usize) {
        let windows = self.windows;
        for window in 0..windows.count {
            // SAFETY: as documented at `ScatterFn`; the rows of a window are different ones.
            unsafe {
                let which = choose::<T, L>(windows, self.input.add(first), window);
                let values = self.values.add(first).byte_add(window * windows.row).cast::<[T; L]>().read_unaligned();
                for (number, &position) in (0..).zip(windows.positions) {
                    let row = self.target.wrapping_add(first).wrapping_byte_add((position + window * windows.step) * self.row);
                    let row = row.cast::<[T; L]>();
                    let mut to = if M::FRESH { [T::default(); L] } else { row.read_unaligned() };
                    for ((to, which), x) in to.iter_mut().zip(which).zip(values) {
                        *to = if which == number { *to + x } else { *to };
                    }
                    row.write_unaligned(to);
                }
            }
        }
    }
}

/// # Safety
/// As documented at [`ScatterFn`].
#[inline(always)]
unsafe fn scatter_body<T: Real, M: Manner, const FMA: bool>(
    windows: Windows<'_>,
    input: *const u8,
    (target, row): (*mut u8, usize),
    values: *const u8,
) {
    let (input, target, values) = (input.cast(), target.cast(), values.cast());
    let scatter: Scatter<'_, T, M> = Scatter { windows, input, target, row, values, manner: PhantomData };
    // SAFETY: promised by the caller.
    unsafe { each_channel(windows.channels, &scatter) };
}

struct Gather<'p, T> {
    windows: Windows<'p>,
    input: *const T,
    second: *const T,
    output: *mut T,
}

impl<T: Real> Channels for Gather<'_, T> {
    #[inline(always)]
    unsafe fn lanes<const L: usize>(&self, first: usize) {
        let windows = self.windows;
        for window in 0..windows.count {
            // SAFETY: as documented at `GatherFn`.
            unsafe {
                let which = choose::<T, L>(windows, self.input.add(first), window);
                let output = self.output.add(first).byte_add(window * windows.row);
                for (lane, which) in which.into_iter().enumerate() {
                    let chosen = windows.positions.get(which as usize);
                    let [x] = chosen.map_or([T::default()], |&at| windows.load(self.second.add(first + lane), window, at));
                    output.add(lane).write_unaligned(x);
                }
            }
        }
    }
}

/// # Safety
/// As documented at [`GatherFn`].
#[inline(always)]
unsafe fn gather_body<T: Real, const FMA: bool>(windows: Windows<'_>, input: *const u8, second: *const u8, output: *mut u8) {
    let gather: Gather<'_, T> = Gather { windows, input: input.cast(), second: second.cast(), output: output.cast() };
    // SAFETY: promised by the caller.
    unsafe { each_channel(windows.channels, &gather) };
}

per_isa! {
    fn scatter[T: Real, M: Manner](windows: Windows<'_>, input: *const u8, target: (*mut u8, usize), values: *const u8) = scatter_body
}
per_isa! { fn gather[T: Real](windows: Windows<'_>, input: *const u8, second: *const u8, output: *mut u8) = gather_body }
