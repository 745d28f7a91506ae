//! Derivatives of composites and scans whose bodies the samples do not show.

use backprop_check::{GradientCheck, GradientReport, Random};
use backprop_core::{
    Builder, DType, Tensor, Type,
    op::{Composite, Domain, Reducer, ScanSpec, checkpoint, composite, custom_vjp, scan},
    reference::Array,
};

fn draw(shapes: &[&[usize]]) -> Vec<Array> {
    let mut random = Random::new(11);
    shapes.iter().map(|&s| random.array(&Type::new(DType::F64, s), &Domain::Uniform(0.2, 0.9))).collect()
}

fn check<F>(shapes: &[&[usize]], f: F) -> GradientReport
where
    F: for<'g> Fn(&'g Builder, &[Tensor<'g>]) -> Vec<Tensor<'g>>,
{
    let report = GradientCheck::default().run(&draw(shapes), f).unwrap_or_else(|e| panic!("{e}"));
    let detects = |d: &Vec<f64>| d.is_empty() || d.iter().any(|d| d.abs() >= 0.05);
    assert!(report.derivatives.iter().all(detects), "an input has no derivative to speak of: {:?}", report.derivatives);
    report
}

const FORWARD: ScanSpec = ScanSpec { length: 4, reverse: false };
const REVERSE: ScanSpec = ScanSpec { length: 4, reverse: true };

#[test]
fn a_composite_of_dependent_and_repeated_operands() {
    check(&[&[3], &[3]], |b, x| {
        let y = x[0].tanh() * x[1];
        composite(b, "region", &[x[0], y, y, x[0]], |_, v| vec![v[0] * v[1] + (v[2] * v[3]).exp()])
    });
}

#[test]
fn a_checkpoint_of_dependent_operands() {
    check(&[&[3], &[3]], |b, x| {
        let y = x[0].tanh() * x[1];
        checkpoint(b, "region", &[x[0], y, x[0]], |_, v| vec![(v[0] * v[1]).exp() * v[2], v[1].sin()])
    });
}

#[test]
fn nested_composites() {
    check(&[&[2, 3]], |b, x| {
        let outer = checkpoint(b, "outer", x, |b, v| {
            let inner = composite(b, "inner", &[v[0], v[0] * 2.0], |_, u| vec![(u[0] * u[1]).sin(), u[1].exp()]);
            vec![inner[0] * inner[1]]
        });
        vec![outer[0] * x[0]]
    });
}

#[test]
fn a_derivative_of_ones_own() {
    let report = check(&[&[2, 3], &[2, 3]], |b, x| {
        custom_vjp(b, "product", x, |_, v| vec![v[0] * v[1]], |_, v, _, ct| vec![ct[0] * v[1], ct[0] * v[0]])
    });
    assert!(report.second > 0.0, "the derivative itself is differentiated");
}

#[test]
fn a_wrong_derivative_of_ones_own_is_noticed() {
    let result = GradientCheck::default()
        .run(&draw(&[&[5]]), |b, x| custom_vjp(b, "square", x, |_, v| vec![v[0] * v[0]], |_, v, _, ct| vec![ct[0] * v[0]]));
    assert!(result.is_err());
}

#[test]
fn residuals_of_a_composite() {
    check(&[&[2, 5]], |b, x| {
        let ty = x[0].ty();
        let body = b.trace(std::slice::from_ref(&ty), |_, v| {
            let e = v[0].exp();
            let total = e.sum(&[1]).reshape([2, 1]);
            vec![e / total, total.log()]
        });
        let results = body.output_types();
        // Softmax by its saved logarithm of the sum: p = exp(x − lse); the cotangent of x is p (ct − Σ p ct).
        let rule = b.trace(&[ty.clone(), ty.clone(), results[1].clone(), ty], |_, v| {
            let p = (v[0] - v[2]).exp();
            vec![p * (v[3] - (p * v[3]).sum(&[1]).reshape([2, 1]))]
        });
        let region =
            Composite { residuals: 1, derivative: Some(rule.into()), differentiable: vec![0], ..Composite::new("softmax", body) };
        vec![b.apply(region, x)[0]]
    });
}

#[test]
fn a_scan_of_elementwise_constants() {
    for spec in [FORWARD, REVERSE] {
        check(&[&[3], &[], &[2, 3], &[4, 2, 3]], |b, x| {
            let (last, ys) = scan(b, spec, &x[..2], &x[2..3], &x[3..], |c, h, s| {
                let next = (h[0] * c[0] + s[0]).tanh() + c[1];
                (vec![next], vec![next * s[0] + c[0]])
            });
            vec![last[0], ys[0]]
        });
    }
}

#[test]
fn a_scan_with_several_states_that_exchange() {
    check(&[&[2], &[2], &[4, 2]], |b, x| {
        let (last, ys) = scan(b, REVERSE, &[], &x[..2], &x[2..], |_, h, s| (vec![h[1] * s[0], h[0].sin()], vec![h[0]]));
        vec![last[0], last[1], ys[0]]
    });
}

#[test]
fn a_scan_whose_final_state_nobody_reads() {
    check(&[&[3, 3], &[2, 3], &[4, 2, 3]], |b, x| {
        scan(b, FORWARD, &x[..1], &x[1..2], &x[2..], |c, h, s| {
            let next = h[0].matmul(c[0]).tanh() * s[0];
            (vec![next], vec![next])
        })
        .1
    });
}

#[test]
fn a_scan_of_slices_only_and_of_states_only() {
    check(&[&[4, 3]], |b, x| scan(b, FORWARD, &[], &[], x, |_, _, s| (vec![], vec![s[0].exp(), s[0]])).1);
    check(&[&[3]], |b, x| scan(b, FORWARD, &[], x, &[], |_, h, _| (vec![h[0].sin()], vec![])).0);
    check(&[&[3], &[3]], |b, x| {
        let (last, ys) = scan(b, FORWARD, &x[..1], &x[1..], &[], |c, h, _| (vec![h[0] * c[0]], vec![c[0]]));
        vec![last[0], ys[0]]
    });
}

#[test]
fn a_scan_with_indices_and_a_counter() {
    check(&[&[5, 3], &[3]], |b, x| {
        let start = b.scalar(DType::I32, 0.0);
        let indices = b.iota(Type::new(DType::I32, [4]), 0);
        let (last, ys) = scan(b, FORWARD, &x[..1], &[x[1], start], &[indices], |c, h, s| {
            let row = c[0].rows(s[0]) * c[0].rows(h[1]);
            (vec![h[0] * row, h[1] + 1.0], vec![h[0] + row, h[1].convert(DType::F64)])
        });
        vec![last[0], ys[0], ys[1]]
    });
}

#[test]
fn a_scan_with_transposed_weights_and_batches() {
    check(&[&[2, 3, 3], &[2, 4, 3], &[4, 2, 4, 3]], |b, x| {
        let (last, ys) = scan(b, FORWARD, &x[..1], &x[1..2], &x[2..], |c, h, s| {
            let next = (h[0].matmul(c[0].t()) + s[0].matmul(c[0])) * 0.3;
            (vec![next], vec![next.max(&[2])])
        });
        vec![last[0], ys[0]]
    });
}

#[test]
fn a_scan_in_a_scan() {
    check(&[&[2], &[2], &[4, 3, 2]], |b, x| {
        let (last, ys) = scan(b, FORWARD, &x[..1], &x[1..2], &x[2..], |c, h, s| {
            let inner = ScanSpec { length: 3, reverse: true };
            let (last, ys) = scan(h[0].builder(), inner, &c[..1], h, &s[..1], |c, h, s| {
                let next = (h[0] * c[0] + s[0]).sin();
                (vec![next], vec![next * c[0]])
            });
            (last, vec![ys[0].reduce(Reducer::Sum, &[0])])
        });
        vec![last[0], ys[0]]
    });
}

#[test]
fn a_scan_whose_body_is_checkpointed() {
    check(&[&[3, 3], &[2, 3], &[4, 2, 3]], |b, x| {
        let (last, ys) = scan(b, FORWARD, &x[..1], &x[1..2], &x[2..], |c, h, s| {
            let next = checkpoint(h[0].builder(), "cell", &[c[0], h[0], s[0]], |_, v| vec![(v[1].linear(v[0]) * v[2]).tanh()]);
            (vec![next[0]], vec![next[0] * s[0]])
        });
        vec![last[0], ys[0]]
    });
}

#[test]
fn a_scan_of_dependent_operands() {
    check(&[&[3], &[4, 3]], |b, x| {
        let start = x[0] * x[1].sum(&[0]);
        let (last, ys) = scan(b, FORWARD, &[x[0], start], &[start], &[x[1], x[1]], |c, h, s| {
            let next = (h[0] * c[0] + s[0] * c[1]) * 0.5;
            (vec![next], vec![next * s[1]])
        });
        vec![last[0], ys[0] * x[1]]
    });
}
