use backprop_data::{Batches, Order, Remainder};
use proptest::prelude::*;

fn all(order: Order) -> Vec<usize> {
    (0..order.len()).map(|i| order.index(i)).collect()
}

fn batches(order: Order, size: usize, remainder: Remainder, from: usize) -> Vec<Vec<usize>> {
    let mut batches = Batches::new(order, size, remainder).unwrap().starting_at(from);
    let mut rows = Vec::new();
    let mut out = Vec::new();
    assert_eq!(batches.remaining(), {
        let mut copy = batches.clone();
        std::iter::from_fn(|| copy.next_into(&mut rows).then_some(())).count()
    });
    while batches.next_into(&mut rows) {
        out.push(rows.clone());
    }
    assert!(rows.is_empty());
    out
}

/// Fixed: checkpoints rely on these values. They were computed by a second implementation, in
/// Python, of what the documentation of `Order` says.
#[test]
fn the_values_are_a_contract() {
    assert_eq!(all(Order::new(42, 0, 10)), [7, 3, 9, 5, 0, 4, 1, 2, 6, 8]);
    assert_eq!(all(Order::new(42, 1, 10)), [4, 2, 0, 7, 8, 5, 3, 1, 6, 9]);
    let order = Order::new(u64::MAX, 7, 1 << 40);
    assert_eq!([order.index(0), order.index(123_456_789_012)], [193_805_347_203, 962_390_254_181]);
}

#[test]
fn every_short_length_is_a_permutation() {
    for len in 0..300 {
        let mut rows = all(Order::new(5, len as u64, len));
        rows.sort_unstable();
        assert!(rows.into_iter().eq(0..len), "length {len}");
    }
}

#[test]
fn sequential_is_the_identity() {
    assert_eq!(all(Order::sequential(4)), [0, 1, 2, 3]);
}

/// Over many epochs each row must come to each position about equally often, also next to each
/// other. The bound is the chi-square quantile at 1 − 1e-6.
#[test]
fn epochs_look_independent() {
    const EPOCHS: usize = 20_000;
    for (len, bound) in [(3, 30.0), (5, 61.0), (10, 178.0)] {
        let mut position = vec![0.0; len * len];
        let mut follows = vec![0.0; len * len];
        for epoch in 0..EPOCHS {
            let rows = all(Order::new(1, epoch as u64, len));
            for (i, &row) in rows.iter().enumerate() {
                position[i * len + row] += 1.0;
            }
            for pair in rows.windows(2) {
                follows[pair[0] * len + pair[1]] += 1.0;
            }
        }
        let chi_square = |counts: &[f64], expected: f64| -> f64 {
            let present = counts.iter().filter(|&&c| c > 0.0);
            present.map(|c| (c - expected).powi(2) / expected).sum()
        };
        let seen = follows.iter().filter(|&&c| c > 0.0).count();
        assert_eq!(seen, len * (len - 1));
        let expected = EPOCHS as f64 / len as f64;
        assert!(chi_square(&position, expected) < bound, "{len} rows: positions");
        assert!(chi_square(&follows, expected) < bound, "{len} rows: successors");
    }
}

#[test]
fn all_orders_of_three_rows_occur_equally_often() {
    let mut counts = std::collections::BTreeMap::new();
    for seed in 0..6000 {
        *counts.entry(all(Order::new(seed, 0, 3))).or_insert(0) += 1;
    }
    assert_eq!(counts.len(), 6);
    assert!(counts.values().all(|c| (850..1150).contains(c)), "{counts:?}");
}

#[test]
fn a_batch_size_of_zero_is_an_error() {
    let error = Batches::new(Order::sequential(3), 0, Remainder::Keep).unwrap_err();
    assert_eq!(error.to_string(), "the batch size is 0; it must be at least 1");
}

#[test]
fn a_position_behind_the_end_gives_nothing() {
    assert!(batches(Order::sequential(3), 2, Remainder::Keep, 9).is_empty());
}

proptest! {
    #[test]
    fn batches_join_to_the_order_from_any_position(
        seed: u64, epoch: u64, len in 0_usize..500, size in 1_usize..70, from in 0_usize..500,
    ) {
        let order = Order::new(seed, epoch, len);
        let from = from.min(len);
        let rows = all(order);
        let kept = batches(order, size, Remainder::Keep, from);
        prop_assert_eq!(&kept.concat(), &rows[from..]);
        let dropped = batches(order, size, Remainder::Drop, from);
        prop_assert!(dropped.iter().all(|b| b.len() == size));
        prop_assert_eq!(dropped.len(), (len - from) / size);
        prop_assert_eq!(&kept[..dropped.len()], &dropped[..]);
    }

    #[test]
    fn seeds_and_epochs_give_different_orders(seed: u64, epoch in 0_u64..1_000_000) {
        let order = all(Order::new(seed, epoch, 64));
        prop_assert_ne!(&order, &all(Order::new(seed, epoch + 1, 64)));
        prop_assert_ne!(&order, &all(Order::new(seed.wrapping_add(1), epoch, 64)));
    }
}
