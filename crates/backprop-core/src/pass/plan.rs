//! Offsets for every intermediate value in one arena, from lifetimes.
//!
//! Blocks whose lifetimes share a phase must not overlap. Finding the smallest arena is NP-hard (it is two-dimensional packing with
//! one coordinate fixed); placing blocks one after the other at the lowest offset that is free for their whole life is within a
//! few per cent of the largest live set for a good order, and several orders are tried.

/// Every offset and size is a multiple of this many bytes: a cache line, so that no two blocks share one.
pub const ALIGNMENT: usize = 64;

/// A stretch of memory needed from one phase to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Block {
    /// Size in bytes.
    pub bytes: usize,
    /// Phase that writes it.
    pub first: usize,
    /// Last phase that uses it.
    pub last: usize,
}

/// Where blocks lie.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Placement {
    /// Offset of each block.
    pub offsets: Vec<usize>,
    /// Bytes of the arena.
    pub arena: usize,
    /// The largest sum of sizes (rounded up to [`ALIGNMENT`]) of blocks alive in one phase: no placement can be smaller.
    pub live: usize,
}

/// Orders beyond the basic ones that are tried while the arena is above the largest live set.
const PERTURBATIONS: u64 = 24;
/// Pairs of blocks compared at most in all perturbed orders together.
const EFFORT: usize = 1 << 25;

fn size(block: &Block) -> usize {
    block.bytes.next_multiple_of(ALIGNMENT)
}

/// Places blocks; a pure function of them.
pub fn place(blocks: &[Block]) -> Placement {
    let phases = live(blocks);
    let live = phases.iter().copied().max().unwrap_or(0);
    let fullest = |b: &Block| phases[b.first..=b.last].iter().copied().max().unwrap_or(0);
    let pressure: Vec<usize> = blocks.iter().map(fullest).collect();
    let life = |b: &Block| b.last - b.first + 1;
    let by_key = |key: &dyn Fn(usize, &Block) -> (u128, usize)| {
        let mut order: Vec<usize> = (0..blocks.len()).collect();
        order.sort_by_key(|&i| (std::cmp::Reverse(key(i, &blocks[i]).0), key(i, &blocks[i]).1, i));
        order
    };
    let area = |b: &Block| size(b) as u128 * life(b) as u128;
    let mut orders = vec![
        by_key(&|_, b| (size(b) as u128, b.first)),
        // What is alive when memory is fullest first.
        by_key(&|i, b| ((pressure[i] as u128) << 64 | size(b) as u128, b.first)),
        by_key(&|_, b| (area(b), b.first)),
        by_key(&|_, b| (0, b.first)),
        by_key(&|_, b| (life(b) as u128, b.first)),
        by_key(&|_, b| (0, usize::MAX - b.last)),
    ];
    let tries = PERTURBATIONS.min((EFFORT / (blocks.len() * blocks.len()).max(1)) as u64);
    for seed in 0..tries {
        // Sizes and areas shaken by up to a third.
        let shake = |i: usize| u128::from(mix(seed << 32 | i as u64) % 1024 + 2048);
        orders.push(by_key(&|i, b| (if seed % 2 == 0 { size(b) as u128 } else { area(b) } * shake(i), b.first)));
    }
    let mut best: Option<(Vec<usize>, usize)> = None;
    for order in orders {
        let placed = place_in_order(blocks, &order);
        if best.as_ref().is_none_or(|b| placed.1 < b.1) {
            best = Some(placed);
        }
        if best.as_ref().is_some_and(|b| b.1 == live) {
            break;
        }
    }
    let (offsets, arena) = best.unwrap_or_default();
    Placement { offsets, arena, live }
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood, 2014).
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Bytes alive in each phase, up to the last that anything is alive in.
pub(super) fn live(blocks: &[Block]) -> Vec<usize> {
    let phases = blocks.iter().map(|b| b.last + 2).max().unwrap_or(0);
    let mut change = vec![0isize; phases];
    for block in blocks {
        change[block.first] += size(block) as isize;
        change[block.last + 1] -= size(block) as isize;
    }
    let alive = change.iter().scan(0, |sum, c| {
        *sum += c;
        Some(*sum as usize)
    });
    alive.collect()
}

/// Lowest free offset for each block in turn; the offsets and the arena's size.
fn place_in_order(blocks: &[Block], order: &[usize]) -> (Vec<usize>, usize) {
    let mut offsets = vec![0; blocks.len()];
    // Sorted by offset.
    let mut placed: Vec<usize> = Vec::with_capacity(blocks.len());
    let mut arena = 0;
    for &i in order {
        let block = &blocks[i];
        if block.bytes == 0 {
            continue;
        }
        let mut at = 0;
        for &other in &placed {
            let o = &blocks[other];
            if o.first > block.last || block.first > o.last {
                continue;
            }
            if at + size(block) <= offsets[other] {
                break;
            }
            at = at.max(offsets[other] + size(o));
        }
        offsets[i] = at;
        arena = arena.max(at + size(block));
        let position = placed.partition_point(|&p| offsets[p] <= at);
        placed.insert(position, i);
    }
    (offsets, arena)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random_blocks(seed: u64, n: usize) -> Vec<Block> {
        let draw = |i: usize, k: u64| mix(seed * 1000 + k * 100_000_007 + i as u64) as usize;
        let block = |i| Block { bytes: draw(i, 0) % 5000, first: draw(i, 1) % 40, last: draw(i, 1) % 40 + draw(i, 2) % 12 };
        (0..n).map(block).collect()
    }

    #[test]
    fn blocks_that_live_together_do_not_overlap() {
        for seed in 0..40 {
            let blocks = random_blocks(seed, 60);
            let placement = place(&blocks);
            for (i, a) in blocks.iter().enumerate() {
                assert_eq!(placement.offsets[i] % ALIGNMENT, 0);
                assert!(placement.offsets[i] + size(a) <= placement.arena || a.bytes == 0);
                for (j, b) in blocks.iter().enumerate().skip(i + 1) {
                    let (x, y) = (placement.offsets[i], placement.offsets[j]);
                    let together = a.first <= b.last && b.first <= a.last;
                    assert!(!together || x + a.bytes <= y || y + b.bytes <= x || a.bytes * b.bytes == 0);
                }
            }
        }
    }

    #[test]
    fn the_arena_is_near_the_largest_live_set() {
        let ratios = (0..40).map(|seed| {
            let placement = place(&random_blocks(seed, 60));
            placement.arena as f64 / placement.live as f64
        });
        assert!(ratios.fold(0.0, f64::max) <= 1.15);
    }

    #[test]
    fn nothing_needs_nothing() {
        assert_eq!(place(&[]), Placement::default());
        assert_eq!(place(&[Block { bytes: 0, first: 3, last: 4 }]).arena, 0);
    }
}
