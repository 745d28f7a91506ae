use std::sync::Arc;

use backprop_data::{BatchType, Classes, Column, Dataset, InMemory, Kind, Role, Scale, Subset, Values};

fn pets() -> InMemory {
    InMemory::new("pets")
        .with_column(Column::input("size", &[2]), vec![10_u8, 20, 30, 40, 50, 60])
        .unwrap()
        .with_column(Column::label("animal", Classes::named(["cat", "dog"])), vec![1_i32, 0, 1])
        .unwrap()
}

fn error<T>(result: Result<T, backprop_data::DataError>) -> String {
    result.map(|_| ()).unwrap_err().to_string()
}

#[test]
fn rows_come_in_the_order_asked_for() {
    let data = pets();
    let scale = Scale::new(vec![10.0, 0.0], vec![0.5, 1.0]).unwrap();
    let mut sizes = [0.0; 6];
    data.fill_f32(0, &[2, 0, 2], &scale, &mut sizes).unwrap();
    assert_eq!(sizes, [20.0, 60.0, 0.0, 20.0, 20.0, 60.0]);
    let mut animals = [9; 3];
    data.fill_i32(1, &[2, 1, 0], &mut animals).unwrap();
    assert_eq!(animals, [1, 0, 1]);
    let mut bytes = [0; 2];
    data.fill_i32(0, &[1], &mut bytes).unwrap();
    assert_eq!(bytes, [30, 40]);
    data.fill_f32(0, &[], &scale, &mut []).unwrap();
}

#[test]
fn columns_say_what_they_are() {
    let data = pets();
    let [size, animal] = data.columns() else {
        panic!("two columns");
    };
    assert_eq!((size.role, size.kind.batch_type()), (Role::Input, BatchType::F32));
    assert_eq!((animal.role, animal.kind.batch_type()), (Role::Target, BatchType::I32));
    let Kind::Class(classes) = &animal.kind else {
        panic!("classes");
    };
    assert_eq!((classes.count(), &*classes.name(1), &*classes.name(7)), (2, "dog", "7"));
    assert_eq!(data.column("animal").unwrap(), 1);
    assert_eq!(error(data.column("colour")), "pets has no column \"colour\"; it has size, animal");
}

#[test]
fn wrong_requests_are_errors() {
    let data = pets();
    let one = Scale::identity();
    let mut four = [0.0; 4];
    assert_eq!(
        error(data.fill_f32(0, &[1], &one, &mut four)),
        "pets, column size: the buffer holds 4 elements, the batch needs 2"
    );
    assert_eq!(error(data.fill_f32(0, &[1, 3], &one, &mut four)), "pets has 3 rows, row 3 was asked for");
    assert_eq!(error(data.fill_f32(2, &[1], &one, &mut four)), "pets has no column \"number 2\"; it has size, animal");
    let three = Scale::new(vec![0.0; 3], vec![1.0; 3]).unwrap();
    assert_eq!(
        error(data.fill_f32(0, &[0, 1], &three, &mut four)),
        "a scale with 3 shifts and 3 factors: the number must divide the elements of a sample"
    );
    let real = InMemory::new("real").with_column(Column::input("x", &[]), vec![0.5_f32]).unwrap();
    assert_eq!(error(real.fill_i32(0, &[0], &mut [0])), "real, column x: holds real numbers, whole numbers needed");
}

#[test]
fn columns_that_do_not_fit_are_errors() {
    let fresh = || InMemory::new("data");
    let input = |shape: &[usize]| Column::input("x", shape);
    assert_eq!(
        error(fresh().with_column(input(&[2]), vec![0_u8; 5])),
        "data, column x: 5 values do not fill whole samples of shape [2]"
    );
    for shape in [&[2, 0][..], &[usize::MAX, usize::MAX]] {
        let refused = error(fresh().with_column(input(shape), vec![0_u8; 4]));
        assert!(refused.contains("do not fill whole samples"), "{refused}");
    }
    assert_eq!(
        error(pets().with_column(input(&[]), vec![0_u8; 4])),
        "pets, column size has 3 rows, column x has 4; they must be equal"
    );
    let label = |values: Values| error(fresh().with_column(Column::label("y", Classes::numbered(2)), values));
    assert_eq!(label(vec![0_i32, 2].into()), "data: label 2 in row 1 is outside 0..2");
    assert_eq!(label(vec![-1_i32].into()), "data: label -1 in row 0 is outside 0..2");
    assert_eq!(label(vec![0.0_f32].into()), "data, column y: holds real numbers, whole numbers needed");
    let shared = || Arc::new(Values::U8(vec![0; 10]));
    assert!(fresh().with_windows(input(&[4]), shared(), 0, 3, 3).is_ok());
    assert!(fresh().with_windows(input(&[4]), shared(), 1, 3, 3).is_err());
    assert!(fresh().with_windows(input(&[4]), shared(), 0, usize::MAX, 3).is_err());
}

/// More rows than a subset translates at once, against the base asked directly.
#[test]
fn a_subset_reads_the_rows_it_names() {
    let values: Vec<i32> = (0..300).map(|i| i * i).collect();
    let base = InMemory::new("squares").with_column(Column::input("x", &[3]), values).unwrap();
    let base: Arc<dyn Dataset> = Arc::new(base);
    let names: Vec<u32> = (0..100).rev().collect();
    let subset = Subset::new(Arc::clone(&base), names).unwrap();
    let rows: Vec<usize> = (0..100).collect();
    let reversed: Vec<usize> = (0..100).rev().collect();
    let (mut whole, mut direct) = (vec![0; 300], vec![0; 300]);
    subset.fill_i32(0, &rows, &mut whole).unwrap();
    base.fill_i32(0, &reversed, &mut direct).unwrap();
    assert_eq!(whole, direct);
    let (mut whole, mut direct) = (vec![0.0; 300], vec![0.0; 300]);
    let scale = Scale::new(vec![1.0, 2.0, 3.0], vec![0.1, 0.2, 0.3]).unwrap();
    subset.fill_f32(0, &rows, &scale, &mut whole).unwrap();
    base.fill_f32(0, &reversed, &scale, &mut direct).unwrap();
    assert_eq!(whole, direct);
    assert_eq!(error(subset.fill_i32(0, &[100], &mut [0; 3])), "squares has 100 rows, row 100 was asked for");
    assert_eq!(error(Subset::new(base, vec![100])), "squares has 100 rows, row 100 was asked for");
}

/// Every path through the scaled copy (uniform, repeated, one per element) for every stored type.
#[test]
fn scaling_agrees_with_the_formula() {
    for (elements, n) in [(784, 1), (12, 3), (768, 3), (300, 100), (10, 5), (64, 64), (65, 65), (500, 250)] {
        let scale = Scale::new((0..n).map(|j| j as f32 * 0.37 - 1.0).collect(), (0..n).map(|j| 1.0 / (j as f32 + 0.7)).collect())
            .unwrap();
        let raw: Vec<u8> = (0..2 * elements).map(|i| (i * 37 % 251) as u8).collect();
        let kinds: [Values; 4] = [
            Values::U8(raw.clone()),
            Values::I16(raw.iter().map(|&v| v.into()).collect()),
            Values::I32(raw.iter().map(|&v| v.into()).collect()),
            Values::F32(raw.iter().map(|&v| v.into()).collect()),
        ];
        let expected: Vec<f32> = raw
            .iter()
            .enumerate()
            .map(|(i, &v)| (f32::from(v) - scale.shift()[i % elements % n]) * scale.factor()[i % elements % n])
            .collect();
        for values in kinds {
            let data = InMemory::new("data").with_column(Column::input("x", &[elements]), values).unwrap();
            let mut batch = vec![0.0; 2 * elements];
            data.fill_f32(0, &[0, 1], &scale, &mut batch).unwrap();
            assert_eq!(batch, expected, "{elements} elements, {n} factors");
        }
    }
}
