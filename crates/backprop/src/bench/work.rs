use backprop_core::{Graph, Type, op::Op};

/// Floating-point operations of the products and convolutions of a graph, by their definition.
pub(crate) fn product_flops(graph: &Graph) -> u64 {
    let of_node = |node: &backprop_core::graph::Node| match &node.op {
        Op::DotGeneral(_) | Op::Convolution(_) => {
            let inputs: Vec<Type> = node.inputs.iter().map(|&value| graph.ty(value).clone()).collect();
            node.op.cost(&inputs, &node.outputs).flops
        }
        Op::Scan(scan) => scan.length as u64 * product_flops(&scan.body),
        Op::Composite(composite) => product_flops(&composite.body),
        _ => 0,
    };
    graph.nodes.iter().map(of_node).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use backprop_core::{
        Builder, DType,
        graph::Role,
        op::{ScanSpec, scan},
    };

    #[test]
    fn loops_count_every_round() {
        let b = Builder::new();
        let input = |name: &str, shape: [usize; 2]| b.input(name, Role::Data, Type::new(DType::F32, shape));
        let (x, w) = (input("x", [2, 3]), input("w", [3, 3]));
        let spec = ScanSpec { length: 5, reverse: false };
        let (last, _) = scan(&b, spec, &[w], &[x], &[], |fixed, carried, _| (vec![carried[0].matmul(fixed[0]).tanh()], vec![]));
        b.output("y", Role::Data, last[0].matmul(w) + last[0]);
        assert_eq!(product_flops(&b.finish().unwrap()), 6 * 2 * 2 * 3 * 3);
    }
}
