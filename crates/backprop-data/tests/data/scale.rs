use backprop_data::{Classes, Column, InMemory, Normalise, Scale, Values};

fn data(shape: &[usize], values: impl Into<Values>) -> InMemory {
    InMemory::new("data").with_column(Column::input("x", shape), values).unwrap()
}

fn fit(data: &InMemory, how: Normalise) -> Scale {
    Scale::fit(data, 0, how).unwrap()
}

fn error(data: &InMemory) -> String {
    Scale::fit(data, 0, Normalise::Global).unwrap_err().to_string()
}

#[test]
fn each_way_to_normalise_groups_the_values_as_it_says() {
    // Two samples of shape [2, 2]: (1, 10), (3, 10); (5, 10), (7, 30).
    let x = data(&[2, 2], vec![1_u8, 10, 3, 10, 5, 10, 7, 30]);
    assert_eq!(fit(&x, Normalise::None), Scale::identity());
    let range = fit(&x, Normalise::Range);
    assert_eq!((range.shift(), range.factor()), (&[1.0][..], &[1.0 / 29.0][..]));
    let global = fit(&x, Normalise::Global);
    let variance: f32 = [1, 10, 3, 10, 5, 10, 7, 30].iter().map(|v| (*v as f32 - 9.5).powi(2)).sum::<f32>() / 8.0;
    assert_eq!(global.shift(), [9.5]);
    assert!((global.factor()[0] - 1.0 / variance.sqrt()).abs() < 1e-7);
    let channel = fit(&x, Normalise::Channel);
    assert_eq!(channel.shift(), [4.0, 15.0]);
    assert_eq!(channel.factor(), [5.0_f64, 75.0].map(|v| v.sqrt().recip() as f32));
    let feature = fit(&x, Normalise::Feature);
    assert_eq!(feature.shift(), [3.0, 10.0, 5.0, 20.0]);
    assert_eq!(feature.factor(), [0.5, 1.0, 0.5, 0.1]);
}

#[test]
fn a_scalar_column_is_normalised_in_every_way() {
    let x = data(&[], vec![1.0_f32, 3.0]);
    for how in [Normalise::Global, Normalise::Channel, Normalise::Feature] {
        assert_eq!(fit(&x, how), Scale::new(vec![2.0], vec![1.0]).unwrap());
    }
}

#[test]
fn a_constant_column_becomes_zero() {
    let x = data(&[2], [0.1_f32, 1e30].repeat(1001));
    for how in [Normalise::Feature, Normalise::Channel] {
        let scale = fit(&x, how);
        assert_eq!(scale.factor(), [1.0, 1.0]);
        let mut sample = [0.1, 1e30];
        scale.apply(&mut sample).unwrap();
        assert_eq!(sample, [0.0, 0.0]);
    }
    assert_eq!(fit(&data(&[], vec![7_u8; 3]), Normalise::Range).factor(), [1.0]);
}

/// The mean lies between two neighbouring f32 numbers.
#[test]
fn a_large_mean_does_not_cost_the_deviation() {
    let values: Vec<f32> = (0..1000).map(|i| 1e6 + (i % 2) as f32 * 0.0625).collect();
    let scale = fit(&data(&[], values), Normalise::Global);
    assert!((scale.factor()[0] - 32.0).abs() < 1e-4, "{scale:?}");
}

#[test]
fn what_cannot_be_normalised_is_an_error() {
    assert_eq!(error(&data(&[], Vec::<f32>::new())), "data is empty");
    assert_eq!(
        error(&data(&[2], vec![1.0, 2.0, 3.0, f32::NAN])),
        "data, column x, row 1: the value NaN is not finite; remove or replace it"
    );
    let labels = InMemory::new("data").with_column(Column::label("y", Classes::numbered(2)), vec![0_u8, 1]);
    assert_eq!(error(&labels.unwrap()), "data, column y: holds class labels, numbers needed");
}

#[test]
fn a_scale_survives_storage_and_refuses_nonsense() {
    let scale = Scale::new(vec![0.1, -3.7e-12], vec![1.0 / 3.0, 1e30]).unwrap();
    let json = serde_json::to_string(&scale).unwrap();
    assert_eq!(serde_json::from_str::<Scale>(&json).unwrap(), scale);
    let text = toml::to_string(&scale).unwrap();
    assert_eq!(toml::from_str::<Scale>(&text).unwrap(), scale);
    for bad in [
        r#"{"shift": [], "factor": []}"#,
        r#"{"shift": [1], "factor": [1, 2]}"#,
        r#"{"shift": [1], "factor": [1e99]}"#,
        r#"{"shift": [1]}"#,
        r#"{"shift": [1], "factor": [1], "more": 1}"#,
    ] {
        assert!(serde_json::from_str::<Scale>(bad).is_err(), "{bad}");
    }
    assert!(Scale::from_mean_std(&[0.0], &[0.0]).is_err());
    assert!(scale.apply(&mut [0.0; 3]).is_err());
}
