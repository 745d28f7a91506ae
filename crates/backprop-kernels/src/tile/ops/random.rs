use crate::philox::philox4x32;
use crate::simd::per_isa;

/// Blocks of four words computed together: a multiple of every vector width.
const BLOCKS: usize = 16;

/// Operands of the `Philox` operation.
struct Operands<'a> {
    index: &'a [u64],
    key: [&'a [u32]; 2],
    counter: [&'a [u32]; 3],
}

/// # Safety
/// `src` lists the six operands of `n` elements.
#[inline(always)]
unsafe fn operands<'a>(n: usize, src: *const *const u8) -> Operands<'a> {
    // SAFETY: promised by the caller.
    unsafe {
        let word = |i: usize| std::slice::from_raw_parts((*src.add(i)).cast::<u32>(), n);
        Operands {
            index: std::slice::from_raw_parts((*src).cast::<u64>(), n),
            key: [word(1), word(2)],
            counter: [word(3), word(4), word(5)],
        }
    }
}

/// One block per element, of which one word is used.
#[inline(always)]
fn each<const FMA: bool>(d: &mut [u32], o: &Operands<'_>) {
    for i in 0..d.len().min(o.index.len()) {
        let counter = [(o.index[i] >> 2) as u32, o.counter[0][i], o.counter[1][i], o.counter[2][i]];
        let words = philox4x32([o.key[0][i], o.key[1][i]], counter);
        let low = if o.index[i] & 1 == 0 { words[0] } else { words[1] };
        let high = if o.index[i] & 1 == 0 { words[2] } else { words[3] };
        d[i] = if o.index[i] & 2 == 0 { low } else { high };
    }
}

/// Consecutive blocks from `first` on, words interleaved.
#[inline(always)]
fn run(key: [u32; 2], first: u32, counter: [u32; 3]) -> [u32; 4 * BLOCKS] {
    let mut blocks = [[0; 4]; BLOCKS];
    for (b, block) in blocks.iter_mut().enumerate() {
        *block = philox4x32(key, [first.wrapping_add(b as u32), counter[0], counter[1], counter[2]]);
    }
    let mut result = [0; 4 * BLOCKS];
    for (words, block) in result.chunks_exact_mut(4).zip(&blocks) {
        words.copy_from_slice(block);
    }
    result
}

/// # Safety
/// As [`OpFn`](super::OpFn) for the `Philox` operation.
#[inline(always)]
unsafe fn general_body<const FMA: bool>(n: usize, dst: *mut u8, src: *const *const u8) {
    // SAFETY: promised by the caller.
    let (d, o) = unsafe { (std::slice::from_raw_parts_mut(dst.cast::<u32>(), n), operands(n, src)) };
    each::<FMA>(d, &o);
}

/// # Safety
/// As [`OpFn`](super::OpFn) for the `Philox` operation with key and counter the same in all elements.
#[inline(always)]
unsafe fn uniform_body<const FMA: bool>(n: usize, dst: *mut u8, src: *const *const u8) {
    // SAFETY: promised by the caller.
    let (d, o) = unsafe { (std::slice::from_raw_parts_mut(dst.cast::<u32>(), n), operands(n, src)) };
    let mut gaps = 0;
    for (i, &index) in o.index.iter().enumerate() {
        gaps |= index.wrapping_sub(i as u64) ^ o.index[0];
    }
    if gaps != 0 {
        return each::<FMA>(d, &o);
    }
    let Some(&start) = o.index.first() else {
        return;
    };
    let key = [o.key[0][0], o.key[1][0]];
    let counter = [o.counter[0][0], o.counter[1][0], o.counter[2][0]];
    let (mut block, mut skip, mut rest) = ((start >> 2) as u32, (start & 3) as usize, d);
    while !rest.is_empty() {
        let words = run(key, block, counter);
        let count = rest.len().min(words.len() - skip);
        let (head, tail) = rest.split_at_mut(count);
        head.copy_from_slice(&words[skip..skip + count]);
        (block, skip, rest) = (block.wrapping_add(BLOCKS as u32), 0, tail);
    }
}

per_isa! {
    /// The loop for arbitrary operands.
    pub(crate) fn philox_general[](n: usize, dst: *mut u8, src: *const *const u8) = general_body
}
per_isa! {
    /// The loop for keys and counters that are the same in all elements: a quarter of the work where indices are consecutive.
    pub(crate) fn philox_uniform[](n: usize, dst: *mut u8, src: *const *const u8) = uniform_body
}
