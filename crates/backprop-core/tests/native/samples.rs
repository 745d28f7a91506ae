//! Every primitive, every type it accepts.

use crate::common::{Random, distance, lowered, native, reference, run, tensor};
use backprop_core::{Builder, DType, Type, graph::Role, op::Op};

fn check(float: DType, tolerance: f64) -> usize {
    let native = native();
    let mut checked = 0;
    for (i, sample) in Op::all_samples().iter().enumerate() {
        let Some((graph, values)) = lowered(sample, float) else { continue };
        for backend in [native.clone(), native.unfused()] {
            let given = run(&backend, &graph, &values);
            for (g, wanted) in given.iter().zip(reference(&graph, &values)) {
                let d = distance(g, &wanted, 0.1);
                assert!(d <= tolerance, "sample {i}, {:?} of {:?}: {d:e}\n{g:?}\n{wanted:?}", sample.op, graph.input_types());
            }
        }
        checked += 1;
    }
    checked
}

#[test]
fn every_sample_in_f64() {
    assert_eq!(check(DType::F64, 1e-12), Op::all_samples().len());
}

#[test]
fn every_sample_in_f32() {
    assert!(check(DType::F32, 4e-6) > 500);
}

#[test]
fn every_sample_in_half_precision() {
    assert!(check(DType::F16, 4e-3) > 500);
    assert!(check(DType::BF16, 3e-2) > 500);
}

#[test]
fn every_sample_that_takes_integers_or_bool() {
    for dtype in [DType::I32, DType::I64, DType::U32, DType::U64, DType::U8] {
        // Truncation makes values of a continuous domain exact integers.
        assert!(check(dtype, 0.0) > 100, "{dtype}");
    }
    assert!(check(DType::Bool, 0.0) > 50);
}

#[test]
fn every_conversion() {
    let native = native();
    let mut random = Random(3);
    for from in DType::ALL {
        let domain = backprop_core::op::Domain::Uniform(0.0, 100.0);
        let values = [tensor(&mut random, &Type::new(from, [37]), &domain)];
        let b = Builder::new();
        let x = b.input("x", Role::Data, values[0].ty().clone());
        DType::ALL.iter().for_each(|to| b.output(to.name(), Role::Data, x.convert(*to)));
        let graph = b.finish().unwrap();
        let given = run(&native, &graph, &values);
        for (g, wanted) in given.iter().zip(reference(&graph, &values)) {
            assert_eq!(distance(g, &wanted, 1.0), 0.0, "{from}: {g:?} {wanted:?}");
        }
    }
}
