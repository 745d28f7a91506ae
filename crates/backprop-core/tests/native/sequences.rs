//! Sequences of recurrent layers: values and gradients against the oracle, the kernels' bits against those of the definition.

use crate::common::{assert_same, distance, inputs, native, reference, run};
use backprop_core::{
    Builder, DType, Graph, HostTensor, Tensor, Type,
    exec::native::{Native, Options},
    graph::Role,
    sequence::{Direction, SequenceCell, sequence},
};
use backprop_kernels::Isa;

/// A sequence to test.
#[derive(Clone, Copy, Debug)]
struct Case {
    cell: SequenceCell,
    /// Time steps, rows, hidden units.
    shape: [usize; 3],
    directions: usize,
    bias: bool,
    keep: bool,
    /// Whether the loss depends on cell states too.
    cells: bool,
    dtype: DType,
}

const CELLS: [SequenceCell; 4] = [SequenceCell::Tanh, SequenceCell::Relu, SequenceCell::Gru, SequenceCell::Lstm];

impl Case {
    /// All states, and the gradients of their sum with random weights.
    fn graph(&self, gradients: bool) -> Graph {
        let b = Builder::new();
        let [length, batch, hidden] = self.shape;
        let gates = self.cell.gates() * hidden;
        let input = |name: String, shape: &[usize]| b.input(name, Role::Data, Type::new(self.dtype, shape));
        let keep = self.keep.then(|| b.input("keep", Role::Data, Type::new(DType::Bool, [length, batch])));
        let direction = |d: usize| Direction {
            input: input(format!("input{d}"), &[length, batch, gates]),
            weight: input(format!("weight{d}"), &[gates, hidden]) * 0.3,
            first: (0..self.cell.states()).map(|k| input(format!("first{d}{k}"), &[batch, hidden])).collect(),
            bias: (self.bias && self.cell == SequenceCell::Gru).then(|| input(format!("bias{d}"), &[gates])),
        };
        let directions: Vec<Direction> = (0..self.directions).map(direction).collect();
        let states = sequence(self.cell, &directions, keep);
        let mut loss = b.zeros(Type::new(self.dtype, [0usize; 0]));
        for (d, states) in states.iter().enumerate() {
            let used = if self.cells { states.len() } else { 1 };
            for (k, state) in states.iter().enumerate().take(used) {
                loss = loss + (*state * input(format!("pull{d}{k}"), &[length, batch, hidden])).sum_all();
                b.output(format!("state{d}{k}"), Role::Data, *state);
            }
        }
        if gradients {
            let operands = directions.iter().flat_map(|d| [&[d.input, d.weight][..], &d.first, d.bias.as_slice()].concat());
            let operands: Vec<Tensor> = operands.collect();
            for (i, gradient) in loss.grad(&operands).into_iter().enumerate() {
                b.output(format!("gradient{i}"), Role::Data, gradient);
            }
        }
        b.finish().unwrap()
    }

    fn check(&self) {
        for gradients in [false, true] {
            let graph = self.graph(gradients);
            let values = inputs(&graph, 11);
            let given = run(&native(), &graph, &values);
            let tolerance = if self.dtype == DType::F64 { 1e-12 } else { 2e-5 };
            for ((output, given), wanted) in graph.outputs.iter().zip(&given).zip(reference(&graph, &values)) {
                let d = distance(given, &wanted, 1e-3);
                assert!(d < tolerance, "{self:?}, `{}`: {d:e}", output.name);
            }
            self.check_bits(&graph, &values, &given);
        }
    }

    /// On any number of threads and any vectors; and those of the definition, where no sum is formed in parts.
    fn check_bits(&self, graph: &Graph, values: &[HostTensor], given: &[HostTensor]) {
        for threads in [1, 3, 8] {
            assert_same(&format!("{self:?}"), graph, given, &run(&Native::new(threads, Isa::detect()), graph, values));
        }
        for &isa in Isa::available() {
            let kernel = run(&Native::new(1, isa), graph, values);
            let definition = run(&Native::new(1, isa).with(Options { optimize: false, ..Options::default() }), graph, values);
            assert_same(&format!("{self:?}, definition on {isa}"), graph, &kernel, &definition);
            if isa != Isa::Portable {
                assert_same(&format!("{self:?}, {isa}"), graph, given, &kernel);
            }
        }
    }
}

/// Every cell, with each of its options, on shapes in turn.
fn cases(dtype: DType, shapes: &[[usize; 3]]) -> Vec<Case> {
    let mut cases = Vec::new();
    for (s, &shape) in shapes.iter().enumerate() {
        for (c, cell) in CELLS.into_iter().enumerate() {
            let turn = s + c;
            let case = Case {
                cell,
                shape,
                directions: 1 + turn % 2,
                bias: turn % 3 != 0,
                keep: turn / 2 % 2 == 1,
                cells: turn / 3 % 2 == 1,
                dtype,
            };
            cases.extend([case, Case { keep: !case.keep, directions: 3 - case.directions, cells: !case.cells, ..case }]);
        }
    }
    cases
}

#[test]
fn kernels_agree_with_the_oracle() {
    let shapes = [[4, 1, 1], [5, 3, 7], [6, 2, 16], [4, 5, 33], [7, 14, 20], [4, 33, 48], [5, 16, 70], [4, 90, 5]];
    cases(DType::F32, &shapes).iter().for_each(Case::check);
}

/// Sums of more than one chunk, several rows of blocks, and gates whose rows would be 4 KiB apart.
#[test]
fn deep_kernels_agree_with_the_oracle() {
    let shapes = [[4, 4, 300], [4, 100, 260], [4, 3, 256]];
    let cells = [SequenceCell::Gru, SequenceCell::Lstm];
    cases(DType::F32, &shapes).iter().filter(|case| cells.contains(&case.cell)).for_each(Case::check);
}

#[test]
fn what_has_no_kernel_agrees_with_the_oracle() {
    let shapes = [[1, 3, 5], [2, 1, 4], [3, 2, 3], [0, 2, 3], [4, 0, 3], [5, 2, 0]];
    cases(DType::F32, &shapes).iter().for_each(Case::check);
    cases(DType::F64, &[[6, 3, 5], [1, 1, 1]]).iter().for_each(Case::check);
}

#[test]
fn a_layer_is_a_kernel_forward_and_one_backward() {
    let case = |cell| Case { cell, shape: [9, 3, 20], directions: 2, bias: true, keep: true, cells: false, dtype: DType::F32 };
    for (cell, name) in CELLS.into_iter().zip(["rnn", "rnn", "gru", "lstm"]) {
        let program = native().build(&case(cell).graph(true)).unwrap();
        let count = |name: String| program.kernels().iter().filter(|kernel| kernel.name == name).count();
        assert_eq!((count(format!("{name}_sequence")), count(format!("{name}_sequence_backward"))), (1, 1), "{cell:?}");
        assert_eq!(count("scan".into()), 0);
    }
}

/// What only the backward pass needs takes no memory where there is none.
#[test]
fn nothing_is_saved_for_no_derivative() {
    let case = Case {
        cell: SequenceCell::Lstm,
        shape: [50, 4, 64],
        directions: 1,
        bias: false,
        keep: false,
        cells: false,
        dtype: DType::F32,
    };
    let bytes = |gradients| {
        let program = native().build(&case.graph(gradients)).unwrap();
        program.kernels().iter().find(|kernel| kernel.name == "lstm_sequence").unwrap().bytes
    };
    assert_eq!(bytes(true) - bytes(false), 50 * 4 * 5 * 64 * 4);
}

/// Second derivatives go through the derivative's definition.
#[test]
fn derivatives_of_derivatives_agree_with_the_oracle() {
    for cell in CELLS {
        for keep in [false, true] {
            let case = Case { cell, shape: [5, 3, 4], directions: 2, bias: true, keep, cells: true, dtype: DType::F64 };
            let b = Builder::new();
            let first = case.graph(true);
            let operands: Vec<Tensor> = first
                .inputs
                .iter()
                .zip(first.input_types())
                .map(|(input, ty)| b.input(input.name.clone(), Role::Data, ty))
                .collect();
            let gradients = b.inline(&first, &operands);
            let squares = gradients.iter().map(|g| (*g * *g).sum_all()).reduce(|a, b| a + b).unwrap();
            let floats: Vec<Tensor> = operands.into_iter().filter(|t| t.dtype() == DType::F64).collect();
            for (i, gradient) in squares.grad(&floats).into_iter().enumerate() {
                b.output(i.to_string(), Role::Data, gradient);
            }
            let graph = b.finish().unwrap();
            let values = inputs(&graph, 3);
            let given = run(&native(), &graph, &values);
            for ((output, given), wanted) in graph.outputs.iter().zip(&given).zip(reference(&graph, &values)) {
                let d = distance(given, &wanted, 1e-3);
                assert!(d < 1e-11, "{case:?}, `{}`: {d:e}", output.name);
            }
        }
    }
}
