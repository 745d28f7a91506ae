//! Training steps sample by sample: as many kernels as possible are linked, and no bit changes.

use backprop::prelude::*;
use backprop_check::{check_plan, compare::same_bits, execute, random_inputs};
use backprop_core::exec::native::{Link, Native, Options};
use backprop_kernels::Isa;

/// Compares a step whose kernels are linked with one of single kernels; there must be at least so many links in it, and so many
/// weight gradients of values that are made again, each before the data gradient.
fn check(name: &str, model: impl Layer + 'static, x: Type, y: Type, [least, sums]: [usize; 2]) {
    let step = Step::new(model, Mse::new(), Sgd::new(0.1).momentum(0.9)).clip_norm(1.0);
    let graph = step.trace(&BatchSpec { x, y }).unwrap_or_else(|e| panic!("{name}: {e}")).train;
    let mut inputs = random_inputs(7, &graph);
    for values in inputs.iter_mut().filter_map(HostTensor::as_mut_slice::<f32>) {
        values.iter_mut().for_each(|v| *v *= 0.1);
    }
    let run = |native: &Native| execute(native, &graph, &inputs).unwrap_or_else(|e| panic!("{name}: {e}"));
    let expected = run(&Native::new(1, Isa::detect()).unfused());
    // A step that is not finite changes nothing, and so would show nothing.
    let all_finite = |tensor: &HostTensor| tensor.to_f64().iter().all(|v| v.is_finite());
    for (output, values) in graph.outputs.iter().zip(&expected) {
        assert!(all_finite(values), "{name}: `{}` is not finite", output.name);
    }
    for (isa, threads) in Isa::available().iter().flat_map(|&isa| [(isa, 1), (isa, 3)]) {
        let native =
            Native::new(threads, isa).with(Options { link: Link::All, share_all: true, poison: true, ..Options::default() });
        let program = native.build(&graph).unwrap_or_else(|e| panic!("{name}: {e}"));
        check_plan(&program).unwrap_or_else(|e| panic!("{name}: {e}"));
        let links: usize = program.kernels().iter().map(|kernel| kernel.name.matches(" > ").count()).sum();
        println!("{name}: {links} links within {} kernels", program.kernels().len());
        assert!(links >= least, "{name}: {links} links");
        let (again, gradients) = ("subtract+multiply+add+compare+select > ", " > convolution > convolution");
        let by_sample = program.kernels().iter().filter(|kernel| kernel.name.contains(again) && kernel.name.contains(gradients));
        assert!(by_sample.clone().count() >= sums, "{name}: {} weight gradients by sample", by_sample.count());
        for ((output, expected), got) in graph.outputs.iter().zip(&expected).zip(&run(&native)) {
            // Portable kernels need not round as vectors do.
            if isa != Isa::Portable {
                assert_eq!(same_bits(expected, got), Ok(()), "{name} ({isa}, {threads} threads), `{}`", output.name);
            }
        }
    }
}

fn normalised(conv: Conv2d) -> Sequential {
    Sequential::new().push(conv.bias(false)).push(BatchNorm::new()).push(Relu::new())
}

/// Depthwise and pointwise convolutions, with and without strides, and a residual connection.
#[test]
fn separable_convolutions() {
    let depthwise =
        |channels: usize, stride: usize| normalised(Conv2d::new(channels, 3).groups(channels).stride(stride).padding(1));
    let body = Sequential::new().push(depthwise(24, 1)).push(normalised(Conv2d::new(24, 1)));
    let model = Sequential::new()
        .push(normalised(Conv2d::new(24, 3).stride(2).padding(1)))
        .push(Residual::new(body))
        .push(depthwise(24, 2))
        .push(normalised(Conv2d::new(40, 1)))
        .push(normalised(Conv2d::new(20, 3).padding(1)))
        .push(GlobalAvgPool::new())
        .push(Flatten::new())
        .push(Linear::new(5));
    check("separable", model, Type::new(DType::F32, [4, 21, 19, 3]), Type::new(DType::F32, [4, 5]), [24, 0]);
}

/// Weight gradients that are summed sample by sample, of values that are made again.
#[test]
fn sums_by_sample() {
    let conv = |channels: usize, size: usize| normalised(Conv2d::new(channels, size).padding(size / 2));
    let model = Sequential::new()
        .push(conv(64, 3))
        .push(normalised(Conv2d::new(64, 3).groups(64).padding(1)))
        .push(conv(72, 1))
        .push(normalised(Conv2d::new(72, 3).groups(72).padding(1)))
        .push(conv(56, 1))
        .push(GlobalAvgPool::new())
        .push(Flatten::new())
        .push(Linear::new(5));
    check("by sample", model, Type::new(DType::F32, [4, 16, 16, 3]), Type::new(DType::F32, [4, 5]), [36, 4]);
}

/// Wide enough that sums within a sample come before those over samples; a pool is linked to its neighbours.
#[test]
fn wide_convolutions() {
    let model = Sequential::new()
        .push(normalised(Conv2d::new(33, 3)))
        .push(Conv2d::new(17, 3).stride(2))
        .push(Tanh::new())
        .push(MaxPool2d::new(2))
        .push(Flatten::new())
        .push(Linear::new(3));
    check("wide", model, Type::new(DType::F32, [3, 34, 30, 2]), Type::new(DType::F32, [3, 3]), [10, 0]);
}

#[test]
fn attention() {
    let layer = TransformerBlock::new(4).dim_feedforward(96).dropout(0.0);
    let model = Sequential::new().push(Linear::new(48)).push(layer).push(LayerNorm::new()).push(Linear::new(7));
    check("attention", model, Type::new(DType::F32, [5, 27, 12]), Type::new(DType::F32, [5, 27, 7]), [36, 0]);
}
