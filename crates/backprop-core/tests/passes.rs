//! Every pass as text: the graph before, the graph after.

use backprop_core::{
    Builder, DType, Graph, Type,
    graph::{Role, verify},
    op::{Op, ScanSpec, composite, scan},
    pass::{Cse, Dce, Hoist, Inline, MergeScans, Pass, Simplify},
    reference::{Array, evaluate},
};

fn f32s(shape: &[usize]) -> Type {
    Type::new(DType::F32, shape)
}

fn run(pass: impl Pass, graph: &Graph) -> Graph {
    let after = pass.run(graph);
    verify(&after).unwrap_or_else(|e| panic!("{e}\n{after}"));
    let inputs: Vec<Array> =
        graph.input_types().iter().map(|ty| Array::from_fn(ty, |i| 0.1 + 0.2 * i.iter().sum::<usize>() as f64)).collect();
    assert_eq!(evaluate(graph, &inputs), evaluate(&after, &inputs), "{} changed values", pass.name());
    after
}

fn count(graph: &Graph, name: &str) -> usize {
    graph.nodes.iter().filter(|n| n.op.name() == name).count()
}

#[test]
fn cse_merges_equal_operations_but_not_through_barriers() {
    let b = Builder::new();
    let x = b.input("x", Role::Data, f32s(&[3]));
    let hold = || b.apply(backprop_core::op::Barrier {}, &[x])[0];
    b.output("y", Role::Data, x.exp() + x.exp() + hold().exp() + hold().exp());
    let graph = b.finish().unwrap();
    assert_eq!(count(&run(Cse, &graph), "exponential"), 3);
}

#[test]
fn simplify_removes_exact_identities_only() {
    let b = Builder::new();
    let x = b.input("x", Role::Data, f32s(&[2, 3]));
    // A denormal number times 1 is zero, once.
    b.output("of input", Role::Data, -(-(x * 1.0 / 1.0 - 0.0)));
    b.output("of result", Role::Data, -(-(x.exp().reshape([6]) * 1.0 / 1.0 - 0.0)));
    let wide = b.input("wide", Role::Data, Type::new(DType::F64, [2]));
    b.output("of wider", Role::Data, -(-(wide * 1.0 / 1.0 - 0.0)));
    b.output("kept", Role::Data, x + 0.0);
    b.output("view", Role::Data, x.reshape([6]).reshape([3, 2]).transpose(&[1, 0]).transpose(&[1, 0]));
    let after = run(Dce, &run(Simplify, &b.finish().unwrap()));
    assert_eq!((count(&after, "add"), count(&after, "multiply"), count(&after, "negate")), (1, 1, 0));
    assert_eq!((count(&after, "divide"), count(&after, "subtract")), (0, 0));
    assert_eq!((count(&after, "reshape"), count(&after, "transpose")), (2, 0));
}

#[test]
fn dce_trims_scans() {
    let b = Builder::new();
    let x = b.input("x", Role::Data, f32s(&[4, 2]));
    let unused = b.input("unused", Role::Data, f32s(&[4, 2]));
    let init = b.zeros(f32s(&[2]));
    let (last, _) = scan(&b, ScanSpec { length: 4, reverse: false }, &[], &[init], &[x, unused], |_, c, s| {
        (vec![c[0] + s[0]], vec![c[0].exp(), s[1]])
    });
    b.output("last", Role::Data, last[0]);
    let after = run(Dce, &b.finish().unwrap());
    let trimmed = after.nodes.iter().find_map(|n| match &n.op {
        Op::Scan(s) => Some((n.inputs.len(), n.outputs.len(), count(&s.body, "exponential"))),
        _ => None,
    });
    assert_eq!(trimmed, Some((2, 1, 0)));
}

#[test]
fn hoist_moves_input_products_and_invariants_out() {
    let b = Builder::new();
    let x = b.input("x", Role::Data, f32s(&[5, 2, 3]));
    let w = b.input("w", Role::State, f32s(&[4, 3]));
    let u = b.input("u", Role::State, f32s(&[4, 4]));
    let init = b.zeros(f32s(&[2, 4]));
    let (last, _) = scan(&b, ScanSpec { length: 5, reverse: false }, &[w, u], &[init], &[x], |c, h, s| {
        (vec![(s[0].linear(c[0].tanh()) + h[0].linear(c[1])).tanh()], vec![])
    });
    b.output("last", Role::Data, last[0]);
    let after = run(Dce, &run(Hoist, &b.finish().unwrap()));
    assert_eq!((count(&after, "dot_general"), count(&after, "tanh")), (1, 1), "{after}");
    let body = after.nodes.iter().find_map(|n| n.op.regions().first().map(|r| (*r).clone())).unwrap();
    assert_eq!((count(&body, "dot_general"), count(&body, "tanh")), (1, 1), "{after}");
}

#[test]
fn inline_replaces_nested_composites() {
    let b = Builder::new();
    let x = b.input("x", Role::Data, f32s(&[3]));
    let y = composite(&b, "outer", &[x], |b, v| {
        let inner = composite(b, "inner", &[v[0]], |_, v| vec![v[0].exp(), v[0]]);
        vec![inner[0] * inner[1]]
    });
    b.output("y", Role::Data, y[0]);
    let graph = b.finish().unwrap();
    let after = run(Inline { keep: |_| false }, &graph);
    assert_eq!((count(&after, "composite"), count(&after, "exponential")), (0, 1));
    assert_eq!(count(&run(Inline { keep: |c| c.region == "outer" }, &graph), "composite"), 1);
}

#[test]
fn text_form_round_trips() {
    let b = Builder::new();
    let layer = b.scope("layers.0");
    let x = b.input("x \"quoted\", odd", Role::Data, f32s(&[5, 2]));
    let w = b.input("w", Role::State, f32s(&[2, 2]));
    let init = b.zeros(f32s(&[2]));
    let (last, all) = scan(&b, ScanSpec { length: 5, reverse: true }, &[w], &[init], &[x], |c, h, s| {
        let next = (h[0].reshape([1, 2]).matmul(c[0]).reshape([2]) + s[0]).tanh();
        (vec![next], vec![next])
    });
    let (value, index) = all[0].arg_max(1);
    let total = last[0].sum_all() + value.sum_all() + index.convert(DType::F32).sum_all();
    b.output("w", Role::State, w - total.grad(&[w])[0] * 0.5);
    b.output("total", Role::Data, total);
    drop(layer);
    let graph = b.finish().unwrap();
    let text = graph.to_string();
    let parsed: Graph = text.parse().unwrap_or_else(|e| panic!("{e}\n{text}"));
    assert_eq!(graph, parsed);
    assert_eq!(text, parsed.to_string());
}

#[test]
fn scans_that_carry_the_same_run_once() {
    let b = Builder::new();
    let x = b.input("x", Role::Data, f32s(&[4, 2]));
    let w = b.input("w", Role::State, f32s(&[2]));
    let y = composite(&b, "recurrence", &[x, w], |b, v| {
        let init = b.zeros(f32s(&[2]));
        let spec = ScanSpec { length: 4, reverse: false };
        let (last, all) = scan(b, spec, &[v[1]], &[init], &[v[0]], |c, h, s| {
            let next = (h[0] * c[0] + s[0]).tanh();
            (vec![next], vec![next * next])
        });
        vec![last[0].sum_all() + all[0].sum_all()]
    });
    b.output("y", Role::Data, y[0]);
    b.output("dw", Role::Data, y[0].grad(&[w])[0]);
    let inlined = run(Cse, &run(Inline { keep: |_| false }, &b.finish().unwrap()));
    assert_eq!(count(&inlined, "scan"), 3);
    assert_eq!(count(&run(MergeScans, &inlined), "scan"), 2);
}

#[test]
fn scans_that_carry_other_values_stay_apart() {
    let b = Builder::new();
    let x = b.input("x", Role::Data, f32s(&[4, 2]));
    let init = b.zeros(f32s(&[2]));
    let spec = ScanSpec { length: 4, reverse: false };
    let (sum, _) = scan(&b, spec, &[], &[init], &[x], |_, c, s| (vec![c[0] + s[0]], vec![s[0]]));
    let (alternating, _) = scan(&b, spec, &[], &[init], &[x], |_, c, s| (vec![s[0] - c[0]], vec![s[0]]));
    let backwards = ScanSpec { reverse: true, ..spec };
    let (reversed, _) = scan(&b, backwards, &[], &[init], &[x], |_, c, s| (vec![s[0] - c[0]], vec![s[0]]));
    b.output("y", Role::Data, sum[0] + alternating[0] * 3.0 + reversed[0] * 5.0);
    let graph = run(Cse, &b.finish().unwrap());
    assert_eq!(count(&run(MergeScans, &graph), "scan"), 3);
}
