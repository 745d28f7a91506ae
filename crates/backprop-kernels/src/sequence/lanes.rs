//! Values of a group of hidden units.

use super::GROUP;

/// One value of each unit of a group.
pub(super) type Lanes = [f32; GROUP];

/// Nothing.
pub(super) const ZERO: Lanes = [0.0; GROUP];

/// Values of `count` units, zero beyond.
///
/// # Safety
/// `from` is valid for them.
#[inline(always)]
pub(super) unsafe fn load(from: *const f32, count: usize) -> Lanes {
    // SAFETY: as the caller vouches.
    unsafe {
        if count == GROUP {
            return from.cast::<Lanes>().read_unaligned();
        }
        let mut lanes = ZERO;
        for (j, lane) in lanes.iter_mut().enumerate().take(count) {
            *lane = *from.add(j);
        }
        lanes
    }
}

/// Stores the values of `count` units.
///
/// # Safety
/// `to` is valid for them.
#[inline(always)]
pub(super) unsafe fn store(lanes: &Lanes, to: *mut f32, count: usize) {
    // SAFETY: as the caller vouches.
    unsafe {
        if count == GROUP {
            return to.cast::<Lanes>().write_unaligned(*lanes);
        }
        for (j, lane) in lanes.iter().enumerate().take(count) {
            *to.add(j) = *lane;
        }
    }
}
