//! Every primitive's derivative rule against central differences, and proof that the comparison notices wrong rules.

use backprop_check::{
    CheckError, GradientCheck, GradientReport,
    compare::close,
    execute,
    sample::{Case, Rule, Surroundings, is_dense, rule},
};
use backprop_core::{
    Builder, DType, HostTensor, Tensor, Type,
    exec::native::Native,
    grad::{Fault, FaultKind, vjp, with_fault},
    graph::Role,
    op::{Op, Sample},
    reference::{Array, Elements, evaluate},
};
use backprop_kernels::Isa;
use std::collections::{BTreeMap, BTreeSet};

/// Primitives whose derivative is zero wherever it exists, for all operand types or for some.
const ZERO: &[&str] = &[
    "and",
    "ceil",
    "compare",
    "convert",
    "floor",
    "is_finite",
    "not",
    "or",
    "round_nearest_even",
    "shift_left",
    "shift_right_logical",
    "sign",
    "stop_gradient",
    "xor",
];

/// Primitives with samples that have nothing to differentiate: no operands, or integers.
const DISCRETE: &[&str] = &["concatenate", "constant", "iota"];

/// Operands whose derivative is zero: they only select.
const SELECTORS: &[(&str, usize)] = &[("select_and_gather", 0), ("select_and_scatter", 0)];

/// A smaller derivative does not show that a rule is right.
const LEAST: f64 = 0.05;

fn check(case: &Case, checker: &GradientCheck) -> Result<GradientReport, CheckError> {
    checker.run(&case.inputs, |b, x| case.trace(b, x))
}

fn first_order() -> GradientCheck {
    GradientCheck { second: None, ..GradientCheck::default() }
}

fn seed(i: usize) -> u64 {
    0xC0FFEE + i as u64
}

/// Samples whose central differences are meant to agree with their rule.
fn comparable() -> impl Iterator<Item = (usize, Sample)> {
    Op::all_samples().into_iter().enumerate().filter(|(_, s)| !matches!(s.op, Op::StopGradient(_)))
}

fn differentiable() -> impl Iterator<Item = (usize, Sample)> {
    comparable().filter(|(_, s)| rule(s) == Rule::Differentiable)
}

fn types(sample: &Sample) -> Vec<String> {
    sample.inputs.iter().map(|(ty, _)| ty.to_string()).collect()
}

fn check_all(surroundings: Surroundings) {
    let mut worst: BTreeMap<&str, [f64; 3]> = BTreeMap::new();
    let mut failures = Vec::new();
    for (i, sample) in comparable() {
        let Some(case) = Case::new(&sample, surroundings, seed(i)) else { continue };
        match check(&case, &GradientCheck::default()) {
            Ok(report) => {
                let entry = worst.entry(sample.op.name()).or_default();
                let errors = [report.gradient, report.jvp, report.second];
                entry.iter_mut().zip(errors).for_each(|(w, e)| *w = w.max(e));
            }
            Err(error) => failures.push(format!("{:?} of {:?}: {error}", sample.op, types(&sample))),
        }
    }
    for (name, [gradient, jvp, second]) in worst {
        println!("{surroundings:?} {name}: gradient {gradient:.1e}, jvp {jvp:.1e}, second order {second:.1e}");
    }
    assert!(failures.is_empty(), "{} samples:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn operands_are_inputs() {
    check_all(Surroundings::Plain);
}

#[test]
fn operands_are_transposed() {
    check_all(Surroundings::Transposed);
}

#[test]
fn operands_are_broadcast() {
    check_all(Surroundings::Broadcast);
}

#[test]
fn operands_have_other_readers() {
    check_all(Surroundings::FanOut);
}

#[test]
fn operands_depend_on_each_other() {
    check_all(Surroundings::Linked);
}

#[test]
fn operands_are_one_tensor() {
    check_all(Surroundings::Shared);
}

/// A rule that silently became zero, or a primitive that lost its rule, changes one of these lists.
#[test]
fn zero_rules_are_known() {
    let (mut zero, mut discrete) = (BTreeSet::new(), BTreeSet::new());
    for sample in Op::all_samples() {
        match rule(&sample) {
            Rule::Zero(_) => zero.insert(sample.op.name()),
            Rule::Discrete => discrete.insert(sample.op.name()),
            Rule::Differentiable => false,
            Rule::Undefined(why) => panic!("a sample of {} has no derivative: {why}", sample.op.name()),
        };
    }
    assert_eq!(zero.into_iter().collect::<Vec<_>>(), ZERO);
    assert_eq!(discrete.into_iter().collect::<Vec<_>>(), DISCRETE);
}

fn notices(case: &Case, kind: FaultKind) -> bool {
    let fault = Fault { op: case.sample.op.name().into(), kind };
    matches!(with_fault(fault, || check(case, &first_order())), Err(CheckError::Mismatch { .. }))
}

/// Each rule scaled by 1.01, dropped, or overwriting what other readers contribute must fail, at every sample that has a
/// derivative worth the name.
#[test]
fn wrong_rules_are_noticed() {
    let (mut names, mut tested) = (BTreeSet::new(), BTreeSet::new());
    let mut missed = Vec::new();
    for (i, sample) in differentiable() {
        names.insert(sample.op.name());
        let Some(case) = Case::new(&sample, Surroundings::FanOut, seed(i)) else { continue };
        let plain = Case::new(&sample, Surroundings::Plain, seed(i)).and_then(|c| check(&c, &first_order()).ok());
        if plain.is_none_or(|report| report.largest_derivative() < LEAST) {
            continue;
        }
        tested.insert(sample.op.name());
        for kind in [FaultKind::Scale, FaultKind::Drop, FaultKind::Overwrite] {
            if !notices(&case, kind) {
                missed.push(format!("{kind:?} {:?} {:?}", sample.op, types(&sample)));
            }
        }
    }
    assert_eq!(names, tested, "primitives without a sample whose derivative reaches {LEAST}");
    assert!(missed.is_empty(), "not noticed:\n{}", missed.join("\n"));
}

#[test]
fn derivatives_at_samples_are_not_small() {
    let mut largest: BTreeMap<(&str, usize), f64> = BTreeMap::new();
    let mut dense = Vec::new();
    for (i, sample) in differentiable() {
        let Some(case) = Case::new(&sample, Surroundings::Plain, seed(i)) else { continue };
        let report = check(&case, &first_order()).unwrap_or_default();
        for (operand, derivatives) in report.derivatives.iter().enumerate() {
            if !sample.inputs[operand].0.dtype.is_float() {
                continue;
            }
            let entry = largest.entry((sample.op.name(), operand)).or_default();
            *entry = derivatives.iter().fold(*entry, |m, d| m.max(d.abs()));
            // The weights are at least one half.
            let least = derivatives.iter().fold(f64::INFINITY, |m, d| m.min(d.abs()));
            if is_dense(&sample.op) && least < LEAST / 2.0 {
                dense.push((sample.op.name(), operand, least));
            }
        }
    }
    let small: Vec<_> = largest.iter().filter(|(_, d)| **d < LEAST).map(|(at, _)| *at).collect();
    assert_eq!(small, SELECTORS);
    assert!(dense.is_empty(), "{dense:?}");
}

#[test]
fn samples_cover_shapes() {
    let mut shapes: BTreeMap<&str, BTreeSet<Vec<Vec<usize>>>> = BTreeMap::new();
    for (_, sample) in differentiable() {
        let of_operands = sample.inputs.iter().map(|(ty, _)| ty.shape.to_vec()).collect();
        shapes.entry(sample.op.name()).or_default().insert(of_operands);
    }
    let mut missing = Vec::new();
    for (name, shapes) in &shapes {
        let any = |f: &dyn Fn(&[usize]) -> bool| shapes.iter().flatten().any(|s| f(s));
        let present = [
            ("eight shapes", shapes.len() >= 8),
            ("an empty operand", any(&|s| s.contains(&0))),
            ("one element", any(&|s| s.iter().all(|&d| d == 1))),
            ("an odd extent", any(&|s| s.iter().any(|d| d % 2 == 1 && *d > 1))),
        ];
        missing.extend(present.iter().filter(|(_, present)| !present).map(|(what, _)| format!("{name} lacks {what}")));
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

/// The oracle's results have the inferred types, and a graph of the sample is valid.
#[test]
fn inference_agrees_with_the_oracle() {
    for (i, sample) in Op::all_samples().into_iter().enumerate() {
        let Some(case) = Case::new(&sample, Surroundings::Plain, seed(i)) else { continue };
        let b = Builder::new();
        let inputs: Vec<Tensor> =
            case.inputs.iter().enumerate().map(|(i, x)| b.input(i.to_string(), Role::Data, x.ty.clone())).collect();
        let outputs = case.trace(&b, &inputs);
        outputs.iter().enumerate().for_each(|(i, &y)| b.output(i.to_string(), Role::Data, y));
        let graph = b.finish().unwrap_or_else(|e| panic!("{:?}: {e}", sample.op));
        let inferred = sample.op.infer(&case.inputs.iter().map(|x| x.ty.clone()).collect::<Vec<Type>>());
        for (array, ty) in evaluate(&graph, &case.inputs).iter().zip(inferred.unwrap()) {
            assert_eq!(array.ty, ty, "{:?}", sample.op);
            assert!(is_well_formed(array), "{:?} gives {array:?}", sample.op);
        }
    }
}

fn is_well_formed(array: &Array) -> bool {
    let n = array.ty.elements();
    match &array.elements {
        Elements::Float(v) => array.ty.dtype.is_float() && v.len() == n,
        Elements::Int(v) => !array.ty.dtype.is_float() && v.len() == n,
    }
}

#[test]
fn stop_gradient_ends_differentiation() {
    let b = Builder::new();
    let ty = Type::new(DType::F64, [3]);
    let x = b.input("x", Role::Data, ty.clone());
    let y = (x.stop_gradient() * x).sum_all();
    b.output("dx", Role::Data, y.grad(&[x])[0]);
    let graph = b.finish().unwrap();
    let at = Array::float(&ty, vec![1.0, -2.0, 3.0]);
    assert_eq!(evaluate(&graph, std::slice::from_ref(&at))[0], at);
}

/// The primitives that derivatives are made of, in the shapes they have there, give the same values natively.
#[test]
fn gradients_of_samples_agree_natively() {
    let native = Native::new(1, Isa::detect());
    for (i, sample) in differentiable() {
        let Some(case) = Case::new(&sample, Surroundings::Plain, seed(i)) else { continue };
        let b = Builder::new();
        let xs: Vec<Tensor> =
            case.inputs.iter().enumerate().map(|(i, x)| b.input(i.to_string(), Role::Data, x.ty.clone())).collect();
        let float = |t: &&Tensor| t.dtype().is_float();
        let outputs = case.trace(&b, &xs);
        let ys: Vec<Tensor> = outputs.iter().filter(float).copied().collect();
        let cotangents: Vec<Tensor> = ys.iter().map(|y| y.sin() + 1.5).collect();
        let wanted: Vec<Tensor> = xs.iter().filter(float).copied().collect();
        for (i, gradient) in vjp(&ys, &cotangents, &wanted).into_iter().enumerate() {
            b.output(i.to_string(), Role::Data, gradient);
        }
        let graph = b.finish().unwrap();
        let tensors: Vec<HostTensor> = case.inputs.iter().map(Array::to_host).collect();
        let got = execute(&native, &graph, &tensors).unwrap_or_else(|e| panic!("{:?}: {e}", sample.op));
        for (expected, got) in evaluate(&graph, &case.inputs).iter().zip(&got) {
            let tolerance = if expected.ty.dtype == DType::F64 { 1e-12 } else { 1e-6 };
            close(&expected.to_host(), got, tolerance).unwrap_or_else(|e| panic!("{:?} of {:?}: {e}", sample.op, types(&sample)));
        }
    }
}
