use std::collections::BTreeSet;
use std::sync::Arc;

use backprop_data::{Classes, Column, Dataset, InMemory, Parts, split};
use proptest::prelude::*;

/// Rows that know their number, with a label each.
fn labelled(labels: Vec<i32>, classes: usize) -> Arc<dyn Dataset> {
    let numbers: Vec<i32> = (0..labels.len() as i32).collect();
    let data = InMemory::new("data")
        .with_column(Column::input("number", &[]), numbers)
        .and_then(|d| d.with_column(Column::label("label", Classes::numbered(classes)), labels));
    Arc::new(data.unwrap())
}

fn column(data: &dyn Dataset, column: usize) -> Vec<i32> {
    let rows: Vec<usize> = (0..data.len()).collect();
    let mut out = vec![0; rows.len()];
    data.fill_i32(column, &rows, &mut out).unwrap();
    out
}

fn of_class(data: &dyn Dataset, class: i32) -> usize {
    column(data, 1).into_iter().filter(|&l| l == class).count()
}

#[test]
fn classes_are_split_in_proportion() {
    let labels = (0..1000).map(|i| if i % 10 == 0 { 1 } else { 0 }).collect();
    let (rest, part) = split::random(labelled(labels, 2), 0.2, 7).unwrap();
    assert_eq!((of_class(&*part, 0), of_class(&*part, 1)), (180, 20));
    assert_eq!((of_class(&*rest, 0), of_class(&*rest, 1)), (720, 80));
}

#[test]
fn the_last_row_of_a_class_stays_in_training() {
    let (rest, part) = split::random(labelled(vec![0, 1, 0], 2), 0.5, 7).unwrap();
    assert_eq!((of_class(&*rest, 1), of_class(&*part, 0)), (1, 1));
}

#[test]
fn classes_of_one_row_each_cannot_be_split() {
    let split = split::random(labelled((0..9).collect(), 9), 0.3, 7);
    assert!(split.is_err());
}

/// Shares of 1.4 and 1.8 rows: of three rows, the class with 1.8 gets two.
#[test]
fn the_largest_remainder_gets_the_odd_row() {
    let labels = (0..16).map(|i| (i >= 7).into()).collect();
    let (_, part) = split::random(labelled(labels, 2), 0.2, 7).unwrap();
    assert_eq!((of_class(&*part, 0), of_class(&*part, 1)), (1, 2));
}

#[test]
fn the_seed_alone_decides() {
    let data = || labelled(vec![0; 100], 1);
    let numbers = |seed| column(&*split::random(data(), 0.3, seed).unwrap().1, 0);
    assert_eq!(numbers(1), numbers(1));
    assert_ne!(numbers(1), numbers(2));
}

#[test]
fn the_tail_is_the_end_and_leaves_a_gap() {
    let (rest, part) = split::tail(labelled(vec![0; 22], 1), 0.1, 2).unwrap();
    assert_eq!(column(&*rest, 0), (0..18).collect::<Vec<_>>());
    assert_eq!(column(&*part, 0), [20, 21]);
}

#[test]
fn impossible_shares_are_errors() {
    let error = |share, rows| {
        let split = split::random(labelled(vec![0; rows], 1), share, 0);
        split.map(|_| ()).unwrap_err().to_string()
    };
    for share in [1.0, -0.1, f64::NAN, f64::INFINITY] {
        assert_eq!(error(share, 9), format!("a share of {share} of the data: must be at least 0 and below 1"));
    }
    for (share, rows) in [(0.01, 9), (0.99, 9), (0.5, 1), (0.5, 0)] {
        assert_eq!(
            error(share, rows),
            format!("data: a share of {share} of {rows} rows leaves one part empty; take another share or more data")
        );
    }
    assert!(split::tail(labelled(vec![0; 3], 1), 0.5, 5).is_err());
}

#[test]
fn parts_nest_and_a_share_of_zero_takes_nothing() {
    let whole = Parts::shuffled(labelled(vec![0; 100], 1));
    let same = whole.clone().with_validation(0.0, 1).unwrap();
    assert!(same.validation.is_none() && same.train.len() == 100);
    let parts = whole.with_test(0.2, split::TEST_SEED).unwrap().with_validation(0.25, 9).unwrap();
    let (validation, test) = (parts.validation.unwrap(), parts.test.unwrap());
    assert_eq!((parts.train.len(), validation.len(), test.len()), (60, 20, 20));
    let all: BTreeSet<i32> = [&parts.train, &validation, &test].iter().flat_map(|d| column(d.as_ref(), 0)).collect();
    assert_eq!(all.len(), 100);
}

proptest! {
    #[test]
    fn every_row_goes_to_one_part_and_the_size_is_the_share(
        labels in prop::collection::vec(0_i32..4, 2..200), share in 0.05_f64..0.95, seed: u64,
    ) {
        let len = labels.len();
        let Ok((rest, part)) = split::random(labelled(labels.clone(), 4), share, seed) else {
            return Ok(());
        };
        let (rest_rows, part_rows) = (column(&*rest, 0), column(&*part, 0));
        prop_assert!(rest_rows.is_sorted() && part_rows.is_sorted());
        let mut all = [rest_rows, part_rows].concat();
        all.sort_unstable();
        prop_assert!(all.into_iter().eq(0..len as i32));
        for class in 0..4 {
            let of_part = of_class(&*part, class) as f64;
            let exact = share * (of_part + of_class(&*rest, class) as f64);
            prop_assert!((of_part - exact).abs() < 1.0 + 1e-9);
        }
    }
}
