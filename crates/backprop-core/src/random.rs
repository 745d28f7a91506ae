//! Random numbers in the graph: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) spelled
//! in integer primitives, so that every backend draws the same bits.
//!
//! Element i of a draw is word i mod 4 of the block with counter (⌊i/4⌋, stream, step) under the run's seed. The stream
//! is a hash of the layer path and the ordinal of the call in it. Draws therefore do not depend on what else is in the graph, on
//! the batch's extent, or on the backend.

use crate::{Builder, DType, Shape, Tensor, Type, op::Composite};

/// Name of the composite that draws bits. Inputs: seed `u32[2]`, step `u32[]`, offset `u32[]`; attribute `stream` in hexadecimal.
pub const PHILOX: &str = "philox";

const ROUNDS: u32 = 10;
const MULTIPLIERS: [f64; 2] = [0xD251_1F53_u32 as f64, 0xCD9E_8D57_u32 as f64];
const WEYL: [f64; 2] = [0x9E37_79B9_u32 as f64, 0xBB67_AE85_u32 as f64];

/// What all draws of one step share.
#[derive(Clone, Copy, Debug)]
pub struct Randomness<'g> {
    /// The run's seed, `u32[2]`, low word first.
    pub seed: Tensor<'g>,
    /// The training step, `u32[]`.
    pub step: Tensor<'g>,
    /// Global index of the first element, or row, `u32[]`: nonzero where a batch is drawn in parts.
    pub offset: Tensor<'g>,
    /// If a batch is drawn in parts: the rows of this part. `offset` is then its first row, and element i of a draw, whose first
    /// dimension is the rows, is the element that the whole batch's draw has there.
    pub rows: Option<usize>,
}

/// FNV-1a, 64 bits: the stream of a named consumer of random numbers.
pub fn stream(path: &str, ordinal: u64) -> u64 {
    let bytes = path.bytes().chain([0]).chain(ordinal.to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Uniform random `u32` of a shape.
#[track_caller]
pub fn bits<'g>(random: Randomness<'g>, stream: u64, shape: impl Into<Shape>) -> Tensor<'g> {
    let b = random.seed.builder();
    let shape = shape.into();
    let per_row = random.rows.map(|rows| shape.elements() / rows.max(1));
    let offset = per_row.map_or(random.offset, |elements| random.offset * elements as f64);
    let inputs = [random.seed, random.step, offset];
    let types: Vec<Type> = inputs.iter().map(Tensor::ty).collect();
    let body = b.trace(&types, |b, v| vec![philox(b, v, stream, &shape)]);
    let mut region = Composite::new(PHILOX, body);
    region.attributes.insert("stream".into(), format!("{stream:016x}"));
    b.apply(region, &inputs)[0]
}

fn philox<'b>(b: &'b Builder, v: &[Tensor<'b>], stream: u64, shape: &Shape) -> Tensor<'b> {
    let n = Type::new(DType::U64, [shape.elements()]);
    let index = b.iota(n, 0) + v[2].convert(DType::U64);
    let like = |x: Tensor<'b>| x.broadcast_to([shape.elements()]);
    let word = |i: usize| like(v[0].slice_dim(0, i, i + 1));
    let constant = |x: u32| like(b.scalar(DType::U32, f64::from(x)));
    let mut counter =
        [index.shift_right(2.0).convert(DType::U32), constant(stream as u32), constant((stream >> 32) as u32), like(v[1])];
    let mut key = [word(0), word(1)];
    for round in 0..ROUNDS {
        if round > 0 {
            key = [key[0] + WEYL[0], key[1] + WEYL[1]];
        }
        let product = |x: Tensor<'b>, m: f64| {
            let wide = x.convert(DType::U64) * m;
            (wide.shift_right(32.0).convert(DType::U32), wide.convert(DType::U32))
        };
        let (high0, low0) = product(counter[0], MULTIPLIERS[0]);
        let (high1, low1) = product(counter[2], MULTIPLIERS[1]);
        counter = [high1 ^ counter[1] ^ key[0], low1, high0 ^ counter[3] ^ key[1], low0];
    }
    let lane = (index & 3.0).convert(DType::U32);
    let pick = (0..3).rev().fold(counter[3], |rest, i| lane.equal(i as f64).select(counter[i], rest));
    pick.reshape(shape)
}

/// Uniform in [0, 1): the upper 24 bits, exact in `f32`.
#[track_caller]
pub fn uniform<'g>(random: Randomness<'g>, stream: u64, shape: impl Into<Shape>) -> Tensor<'g> {
    bits(random, stream, shape).shift_right(8.0).convert(DType::F32) * (-24f64).exp2()
}

/// True with probability `p`, decided by comparing integers.
#[track_caller]
pub fn bernoulli<'g>(random: Randomness<'g>, stream: u64, p: f64, shape: impl Into<Shape>) -> Tensor<'g> {
    let threshold = (p.clamp(0.0, 1.0) * 2f64.powi(32)).round();
    let drawn = bits(random, stream, shape);
    if threshold >= 2f64.powi(32) { drawn.equal(drawn) } else { drawn.less(threshold) }
}
