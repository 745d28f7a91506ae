//! Every primitive, every type it accepts.

use crate::common::{Random, distance, lowered, reference, tensor};
use backprop_check::{execute, plugin};
use backprop_core::{
    Builder, DType, Graph, HostTensor, Type,
    exec::pjrt::Pjrt,
    graph::Role,
    op::{Domain, Op},
};

/// Samples compiled as one program: a plugin takes longer for a hundred small programs than for one large.
const TOGETHER: usize = 60;

/// Graphs side by side in one.
fn join(graphs: &[(Graph, Vec<HostTensor>)]) -> (Graph, Vec<HostTensor>) {
    let b = Builder::new();
    let mut values = Vec::new();
    for (n, (graph, given)) in graphs.iter().enumerate() {
        let types = graph.input_types().into_iter().enumerate();
        let inputs: Vec<_> = types.map(|(i, ty)| b.input(format!("{n}.{i}"), Role::Data, ty)).collect();
        for (i, output) in b.inline(graph, &inputs).into_iter().enumerate() {
            b.output(format!("{n}.{i}"), Role::Data, output);
        }
        values.extend_from_slice(given);
    }
    (b.finish().unwrap(), values)
}

/// Compares all samples in a type with the oracle; `None` without a plugin.
fn check(test: &str, float: DType, tolerance: f64) -> Option<usize> {
    let pjrt = plugin(test)?;
    let samples: Vec<_> = Op::all_samples().iter().filter_map(|s| Some((s.clone(), lowered(s, float)?))).collect();
    let mut wrong = Vec::new();
    for group in samples.chunks(TOGETHER) {
        let graphs: Vec<_> = group.iter().map(|(_, lowered)| lowered.clone()).collect();
        let (graph, values) = join(&graphs);
        let given = execute(&pjrt, &graph, &values).unwrap_or_else(|e| panic!("{}", blame(&pjrt, &graphs, &e)));
        let mut given = given.iter();
        for (sample, (graph, values)) in group {
            for wanted in reference(graph, values) {
                let g = given.next().unwrap();
                let d = distance(g, &wanted, 0.1);
                if d > tolerance {
                    wrong.push(format!("{:?} of {:?}: {d:e}\n{values:?}\n{g:?}\n{wanted:?}", sample.op, graph.input_types()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} samples in {float} are wrong:\n{}", wrong.len(), wrong.join("\n\n"));
    Some(samples.len())
}

/// The samples that do not compile alone.
fn blame(pjrt: &Pjrt, graphs: &[(Graph, Vec<HostTensor>)], error: &backprop_core::Error) -> String {
    let alone = |(graph, values): &(Graph, Vec<HostTensor>)| execute(pjrt, graph, values).err().map(|e| format!("{e}\n{graph}"));
    let guilty: Vec<String> = graphs.iter().filter_map(alone).collect();
    format!("{error}\nalone:\n{}", guilty.join("\n\n"))
}

#[test]
fn every_sample_in_f64() {
    let checked = check("every_sample_in_f64", DType::F64, 1e-12);
    assert!(checked.is_none_or(|n| n == Op::all_samples().len()));
}

#[test]
fn every_sample_in_f32() {
    assert!(check("every_sample_in_f32", DType::F32, 1e-5).is_none_or(|n| n > 500));
}

#[test]
fn every_sample_in_half_precision() {
    assert!(check("every_sample_in_half_precision", DType::F16, 4e-3).is_none_or(|n| n > 500));
    assert!(check("every_sample_in_half_precision", DType::BF16, 3e-2).is_none_or(|n| n > 500));
}

#[test]
fn every_sample_that_takes_integers_or_bool() {
    for dtype in [DType::I32, DType::I64, DType::U32, DType::U64, DType::U8] {
        // Truncation makes values of a continuous domain exact integers.
        assert!(check("every_sample_that_takes_integers_or_bool", dtype, 0.0).is_none_or(|n| n > 100), "{dtype}");
    }
    assert!(check("every_sample_that_takes_integers_or_bool", DType::Bool, 0.0).is_none_or(|n| n > 50));
}

#[test]
fn every_conversion() {
    let Some(pjrt) = plugin("every_conversion") else { return };
    let mut random = Random(3);
    for from in DType::ALL {
        let b = Builder::new();
        let values = [tensor(&mut random, &Type::new(from, [37]), &Domain::Uniform(0.0, 100.0))];
        let x = b.input("x", Role::Data, values[0].ty().clone());
        DType::ALL.iter().for_each(|to| b.output(to.name(), Role::Data, x.convert(*to)));
        let graph = b.finish().unwrap();
        let given = execute(&pjrt, &graph, &values).unwrap();
        for (g, wanted) in given.iter().zip(reference(&graph, &values)) {
            assert_eq!(distance(g, &wanted, 1.0), 0.0, "{from}: {g:?} {wanted:?}");
        }
    }
}
