//! First and second derivatives of recurrent layers, attention, transformer blocks and positions in f64, against central differences of
//! the oracle.

use crate::gradients::{SPREAD, check, check_faults};
use backprop::prelude::*;

const SEQUENCES: &[&[usize]] = &[&[1, 1, 1], &[2, 3, 2], &[1, 5, 3], &[3, 2, 1], &[2, 1, 4], &[0, 3, 2], &[1, 7, 1], &[4, 2, 2]];
/// An even number of features, more than two positions for most.
const EVEN: &[&[usize]] = &[&[1, 2, 2], &[2, 3, 2], &[1, 5, 4], &[3, 2, 2], &[2, 4, 4], &[0, 3, 2], &[1, 7, 2], &[4, 2, 2]];

/// A layer of sequences the second half of which (rounded up, but not the first position) is padding in every second one, and all of the
/// fifth.
#[derive(Debug)]
struct Padded<L>(L);

impl<L: Layer> Layer for Padded<L> {
    fn forward<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let (n, t) = (x.dim(0), x.dim(1) as i32);
        let length = |i: usize| {
            if i == 4 {
                0
            } else if i % 2 == 1 {
                t.min(1.max(t / 2))
            } else {
                t
            }
        };
        let lengths = HostTensor::new([n], &(0..n).map(length).collect::<Vec<i32>>()).unwrap();
        let mask = functional::padding_mask(cx.builder().constant(lengths), x.dim(1));
        cx.set_padding_mask(Some(mask));
        self.0.forward(cx, x)
    }
}

#[test]
fn recurrent_layers() {
    check(Rnn::new(2), &SPREAD, SEQUENCES);
    check(Rnn::new(2).bidirectional(true).last_step(true), &SPREAD, SEQUENCES);
    check(Gru::new(2), &SPREAD, SEQUENCES);
    check(Gru::new(2).bias(false).bidirectional(true), &SPREAD, SEQUENCES);
    check(Lstm::new(2).bidirectional(true), &SPREAD, SEQUENCES);
}

#[test]
fn padded_recurrent_layers() {
    let shapes: &[&[usize]] = &[&[2, 1, 1], &[2, 3, 2], &[3, 5, 1], &[3, 2, 1], &[2, 4, 2], &[0, 3, 2], &[5, 2, 1], &[4, 2, 2]];
    check(Padded(Rnn::new(2).bidirectional(true)), &SPREAD, shapes);
    check(Padded(Gru::new(2).last_step(true)), &SPREAD, shapes);
    check(Padded(Lstm::new(2).bidirectional(true)), &SPREAD, shapes);
}

#[test]
fn attention() {
    check(MultiHeadAttention::new(1), &SPREAD, SEQUENCES);
    check(MultiHeadAttention::new(2).causal(true), &SPREAD, EVEN);
    check(Padded(MultiHeadAttention::new(2).bias(false)), &SPREAD, &[EVEN, &[&[5, 2, 2]]].concat());
    check(MultiHeadAttention::new(2).dropout(0.2), &SPREAD, EVEN);
}

#[test]
fn blocks_and_positions() {
    let block = || TransformerBlock::new(1).dim_feedforward(3).dropout(0.0).activation(FeedForwardActivation::Gelu);
    let shapes: &[&[usize]] = &[&[1, 2, 3], &[2, 3, 3], &[1, 5, 4], &[3, 2, 3], &[2, 1, 4], &[0, 3, 3], &[1, 4, 3], &[2, 2, 5]];
    check(block().norm_first(true).causal(true), &SPREAD, shapes);
    check(PositionalEmbedding::new(7), &SPREAD, SEQUENCES);
    check(SinusoidalPositions::new(), &SPREAD, SEQUENCES);
}

#[test]
fn pools_of_padded_sequences() {
    check(Padded(GlobalAvgPool::new()), &SPREAD, SEQUENCES);
    check(Padded(GlobalMaxPool::new()), &crate::gradients::DISTINCT, SEQUENCES);
}

#[test]
fn wrong_derivatives_are_noticed() {
    let cases: [(&str, Box<dyn Layer>, &[usize]); 4] = [
        ("composite", Box::new(Rnn::new(2)), &[2, 3, 2]),
        ("composite", Box::new(Gru::new(2).bidirectional(true)), &[2, 3, 2]),
        ("composite", Box::new(Padded(Gru::new(2))), &[2, 3, 2]),
        ("composite", Box::new(MultiHeadAttention::new(2)), &[2, 3, 4]),
    ];
    cases.iter().for_each(|(op, layer, shape)| check_faults(op, &**layer, shape));
}
