use super::*;
use backprop_core::{
    Builder, DType, HostTensor, Type,
    graph::Role,
    reference::{self, Array},
};

/// The sums of a metric over rows of outputs and targets, in f64 by the oracle.
fn sums(metric: &dyn Metric, output: (&[usize], &[f64]), target: (&[usize], &[f64])) -> Vec<f64> {
    let b = Builder::new();
    let float = output.1.len() == target.1.len();
    let types = [Type::new(DType::F64, output.0), Type::new(if float { DType::F64 } else { DType::I32 }, target.0)];
    let [o, t] =
        ["output", "target"].iter().zip(&types).map(|(n, ty)| b.input(*n, Role::Data, ty.clone())).collect::<Vec<_>>()[..]
    else {
        unreachable!()
    };
    metric.forward(o, t).into_iter().enumerate().for_each(|(i, sum)| b.output(i.to_string(), Role::Data, sum));
    let graph = b.finish().unwrap();
    let given = [(types[0].dtype, output), (types[1].dtype, target)];
    let array = |(d, (s, v)): &(DType, (&[usize], &[f64]))| Array::from_host(&HostTensor::from_f64(*d, *s, v).unwrap());
    let results = reference::evaluate(&graph, &given.iter().map(array).collect::<Vec<_>>());
    results.iter().flat_map(Array::to_f64).collect()
}

fn value(metric: &dyn Metric, output: (&[usize], &[f64]), target: (&[usize], &[f64])) -> f64 {
    metric.value(&sums(metric, output, target))
}

fn close(a: f64, b: f64) {
    assert!((a - b).abs() <= 1e-12 * b.abs().max(1.0), "{a} is not {b}");
}

#[test]
fn numbers_have_their_formulas() {
    let (y, p) = ([3.0, -0.5, 2.0, 7.0], [2.5, 0.0, 2.0, 8.0]);
    let of = |metric: &dyn Metric| value(metric, (&[4, 1], &p), (&[4, 1], &y));
    close(of(&MeanSquaredError {}), 0.375);
    close(of(&RootMeanSquaredError {}), 0.375_f64.sqrt());
    close(of(&MeanAbsoluteError {}), 0.5);
    // The example of scikit-learn's documentation: 0.948….
    close(of(&R2 {}), 1.0 - 1.5 / 29.1875);
    close(of(&MeanAbsolutePercentageError {}), (0.5 / 3.0 + 1.0 + 0.0 + 1.0 / 7.0) / 4.0);
    // Of two outputs the mean: the second is its mean throughout.
    let both = value(&R2 {}, (&[2, 2], &[1.0, 3.0, 3.0, 3.0]), (&[2, 2], &[1.0, 2.0, 3.0, 4.0]));
    close(both, 0.5);
}

const LOGITS: [f64; 12] = [2.0, 1.0, 0.0, 0.5, 0.5, 0.1, -1.0, 0.0, 3.0, 1.0, 2.0, 0.0];

fn classes(metric: &dyn Metric, targets: [f64; 4]) -> f64 {
    value(metric, (&[4, 3], &LOGITS), (&[4], &targets))
}

#[test]
fn classes_have_their_formulas() {
    // Predicted 0 0 2 1, the second by being the first of two equals.
    let targets = [0.0, 1.0, 2.0, 0.0];
    close(classes(&Accuracy::default(), targets), 0.5);
    close(classes(&TopK::new(1), targets), 0.5);
    close(classes(&TopK::new(2), targets), 1.0);
    let with = |average| Precision { average, ..Precision::default() };
    close(classes(&with(Average::Macro), targets), (0.5 + 0.0 + 1.0) / 3.0);
    close(classes(&with(Average::Micro), targets), 0.5);
    close(classes(&with(Average::Weighted), targets), (2.0 * 0.5 + 0.0 + 1.0) / 4.0);
    close(classes(&Recall::default(), targets), (0.5 + 0.0 + 1.0) / 3.0);
    close(classes(&F1::default(), targets), (0.5 + 0.0 + 1.0) / 3.0);
    let table = ConfusionMatrix::default();
    let table = table.confusion(&sums(&table, (&[4, 3], &LOGITS), (&[4], &targets))).unwrap();
    assert_eq!(table, [[1, 1, 0], [1, 0, 0], [0, 0, 1]]);
    let entropy = |row: usize, class: usize| {
        let logits = &LOGITS[3 * row..3 * row + 3];
        logits.iter().map(|l| l.exp()).sum::<f64>().ln() - logits[class]
    };
    let mean = (entropy(0, 0) + entropy(1, 1) + entropy(2, 2) + entropy(3, 0)) / 4.0;
    close(classes(&Perplexity::default(), targets), mean.exp());
}

#[test]
fn ignored_positions_do_not_count() {
    let targets = [0.0, -100.0, 2.0, -100.0];
    for metric in [&Accuracy::default() as &dyn Metric, &TopK::new(1), &F1::default(), &Recall::default(), &Precision::default()]
    {
        close(classes(metric, targets), 1.0);
    }
}

/// Against the area formed pair by pair, within what the bins allow.
#[test]
fn areas_are_those_of_all_pairs() {
    let logit = |i: usize| ((i * 37 % 101) as f64 - 50.0) / 12.0;
    let rows = 200;
    let outputs: Vec<f64> = (0..rows).flat_map(|i| [0.0, logit(i)]).collect();
    let targets: Vec<f64> = (0..rows).map(|i| f64::from(u8::from(logit(i) + ((i * 53 % 17) as f64 - 8.0) / 3.0 > 0.0))).collect();
    let found = value(&RocAuc::default(), (&[rows, 2], &outputs), (&[rows], &targets));
    let (mut pairs, mut ahead) = (0.0, 0.0);
    for i in (0..rows).filter(|&i| targets[i] == 1.0) {
        for j in (0..rows).filter(|&j| targets[j] == 0.0) {
            pairs += 1.0;
            ahead += match logit(i).total_cmp(&logit(j)) {
                std::cmp::Ordering::Greater => 1.0,
                std::cmp::Ordering::Equal => 0.5,
                std::cmp::Ordering::Less => 0.0,
            };
        }
    }
    assert!(ahead / pairs > 0.7 && ahead / pairs < 0.95, "{}", ahead / pairs);
    assert!((found - ahead / pairs).abs() < 0.01, "{found} is not {}", ahead / pairs);
}

/// A network that gives no numbers any more is never right.
#[test]
fn what_is_not_a_number_is_no_hit() {
    let nan = [f64::NAN; 3];
    assert_eq!(value(&TopK::new(2), (&[1, 3], &nan), (&[1], &[1.0])), 0.0);
    // An infinite logit elsewhere does not matter.
    assert_eq!(value(&TopK::new(1), (&[1, 3], &[f64::NEG_INFINITY, 1.0, 0.0]), (&[1], &[1.0])), 1.0);
}

/// Where the target does not vary there is nothing to explain: not a large number that rounding made.
#[test]
fn r2_of_a_constant_target_is_not_defined() {
    for i in 0..500 {
        let constant = f64::from(0.1_f32 + i as f32 * 0.37);
        let (y, p) = ([constant; 7], [constant + 0.5; 7]);
        let found = value(&R2 {}, (&[7, 1], &p), (&[7, 1], &y));
        assert!(found.is_nan(), "{constant}: {found}");
    }
}

/// The sums of parts, the last one smaller, are those of the whole.
#[test]
fn sums_of_parts_give_the_value_of_the_whole() {
    let (y, p): (Vec<f64>, Vec<f64>) = (0..7).map(|i| (f64::from(i * i % 5) - 1.5, f64::from(i) * 0.3)).unzip();
    let targets: Vec<f64> = (0..4).map(|i| f64::from(i % 3)).collect();
    let check = |metric: &dyn Metric, (output, width): (&[f64], usize), target: &[f64], numbers: bool, cut: usize| {
        let part = |from: usize, to: usize| {
            let shape: &[usize] = if numbers { &[to - from, 1] } else { &[to - from] };
            sums(metric, (&[to - from, width], &output[from * width..to * width]), (shape, &target[from..to]))
        };
        let rows = target.len();
        let added: Vec<f64> = part(0, cut).iter().zip(part(cut, rows)).map(|(a, b)| a + b).collect();
        let (whole, parts) = (metric.value(&part(0, rows)), metric.value(&added));
        assert!((whole - parts).abs() < 1e-12 || whole.is_nan() && parts.is_nan(), "{metric:?}: {whole} and {parts}");
    };
    let numbers: [&dyn Metric; 4] = [&RootMeanSquaredError {}, &MeanAbsoluteError {}, &MeanAbsolutePercentageError {}, &R2 {}];
    numbers.iter().for_each(|metric| check(*metric, (&p, 1), &y, true, 5));
    let classes: [&dyn Metric; 6] =
        [&TopK::new(2), &Precision::default(), &Recall::default(), &F1::default(), &RocAuc::default(), &Perplexity::default()];
    classes.iter().for_each(|metric| check(*metric, (&LOGITS, 3), &targets, false, 3));
}
