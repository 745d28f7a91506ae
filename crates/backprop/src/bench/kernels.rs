//! Single kernels on the shapes of training steps, as the executor runs them.

use super::{product_flops, rows};
use crate::nn::functional::gelu;
use backprop_core::{
    Builder, DType, Error, Graph, HostTensor, Tensor, Type,
    exec::{
        Program, Store,
        native::{Native, NativeProgram},
    },
    grad::vjp,
    graph::Role,
    op::{ConvDims, Convolution},
    pass,
};
use std::time::{Duration, Instant};

/// m, n, k of products: squares, and those of training steps.
const PRODUCTS: [[usize; 3]; 25] = [
    [16, 4, 16],
    [64, 64, 64],
    [128, 128, 128],
    [256, 256, 256],
    [512, 512, 512],
    [1024, 1024, 1024],
    [2048, 2048, 2048],
    [128, 512, 784],
    [128, 256, 512],
    [128, 10, 256],
    [784, 512, 128],
    [32, 1024, 256],
    [32, 256, 1024],
    [1024, 256, 32],
    [2048, 256, 256],
    [2048, 1024, 256],
    [2048, 256, 1024],
    [2048, 768, 256],
    [256, 256, 2048],
    [256, 1024, 2048],
    [1024, 256, 2048],
    [64, 128, 9216],
    [9216, 128, 64],
    [1, 1024, 1024],
    [1024, 1, 1024],
];

/// Layers: batch, height and width, channels, features, window, stride, padding, groups.
const LAYERS: [[usize; 8]; 14] = [
    [64, 28, 1, 32, 3, 1, 0, 1],
    [64, 26, 32, 64, 3, 1, 0, 1],
    [32, 32, 3, 64, 3, 1, 1, 1],
    [32, 32, 64, 64, 3, 1, 1, 1],
    [32, 32, 64, 128, 3, 2, 1, 1],
    [32, 16, 128, 128, 3, 1, 1, 1],
    [32, 8, 256, 256, 3, 1, 1, 1],
    [32, 4, 512, 512, 3, 1, 1, 1],
    [32, 16, 64, 128, 1, 1, 0, 1],
    [32, 32, 64, 128, 1, 2, 0, 1],
    [32, 32, 32, 32, 3, 1, 1, 32],
    [32, 32, 64, 64, 3, 2, 1, 64],
    [32, 16, 128, 128, 3, 1, 1, 128],
    [32, 8, 256, 256, 3, 1, 1, 256],
];

/// Elements of what streams through memory, and of what stays in a cache.
const STREAMS: [[usize; 2]; 2] = [[4096, 4096], [256, 256]];

/// Runs before any is timed.
const WARM_UP: usize = 3;

/// Runs that take less are timed together: the clock takes a part of a tenth of a microsecond.
const SHORTEST: Duration = Duration::from_micros(20);

/// One kernel on one shape.
pub struct KernelCase {
    /// `product`, `convolution`, `depthwise`, `copy`, `reduction`, `elementwise`, `softmax`, `cross-entropy`, `layer-norm` or `embedding`.
    pub group: &'static str,
    /// Sizes, for people.
    pub shape: String,
    /// Which of the operations on that shape.
    pub form: &'static str,
    graph: Graph,
    /// Bytes that must be moved, where that is not all of the operands and the result.
    moved: Option<usize>,
}

/// How fast a kernel is.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct KernelSpeed {
    /// Seconds of the fastest run.
    pub seconds: f64,
    /// Floating-point operations of its products.
    pub flops: u64,
    /// Bytes of the operands that it reads and of the results.
    pub bytes: usize,
    /// Kernels that it became.
    pub kernels: usize,
}

impl KernelCase {
    fn new(
        group: &'static str,
        shape: String,
        form: &'static str,
        inputs: &[&[usize]],
        result: impl for<'g> Fn(&[Tensor<'g>]) -> Tensor<'g>,
    ) -> Result<KernelCase, Error> {
        let inputs = inputs.iter().map(|shape| Type::new(DType::F32, shape.to_vec())).collect();
        KernelCase::of(group, shape, form, inputs, |x| vec![result(x)])
    }

    /// Of inputs of any type, with several results.
    pub(super) fn of(
        group: &'static str,
        shape: String,
        form: &'static str,
        inputs: Vec<Type>,
        results: impl for<'g> Fn(&[Tensor<'g>]) -> Vec<Tensor<'g>>,
    ) -> Result<KernelCase, Error> {
        let b = Builder::new();
        let input = |(i, ty): (usize, Type)| b.input(format!("x{i}"), Role::Data, ty);
        let tensors: Vec<Tensor<'_>> = inputs.into_iter().enumerate().map(input).collect();
        for (i, result) in results(&tensors).into_iter().enumerate() {
            b.output(format!("y{i}"), Role::Data, result);
        }
        // What only a derivative needs of the forward pass is no part of the kernel.
        let graph = pass::optimize(&b.finish()?, &pass::pipeline(|_| false), &mut |_, _, _| ());
        Ok(KernelCase { group, shape, form, graph, moved: None })
    }

    /// With so many bytes that must be moved.
    pub(super) fn moving(self, bytes: usize) -> KernelCase {
        KernelCase { moved: Some(bytes), ..self }
    }

    /// Runs for about so long, and at least a few times.
    ///
    /// # Errors
    /// If there is no kernel for it.
    pub fn measure(&self, backend: &Native, time: Duration) -> Result<KernelSpeed, Error> {
        let mut program = backend.build(&self.graph)?;
        let inputs = operands(&self.graph)?;
        let kernels = program.kernels().len();
        let mut run = Run { store: Store::new(), outputs: program.signature().output_buffers() };
        let warm = run.times(&mut program, &inputs, WARM_UP)? / WARM_UP as f64;
        let together = (SHORTEST.as_secs_f64() / warm.max(1e-9)).ceil().max(1.0) as usize;
        let (clock, mut seconds) = (Instant::now(), f64::MAX);
        while clock.elapsed() < time || seconds == f64::MAX {
            seconds = seconds.min(run.times(&mut program, &inputs, together)? / together as f64);
        }
        let read: usize =
            self.graph.input_types().iter().zip(used(&self.graph)).filter(|(_, used)| *used).map(|(ty, _)| ty.bytes()).sum();
        let written: usize = self.graph.output_types().iter().map(Type::bytes).sum();
        let bytes = self.moved.unwrap_or(read + written);
        Ok(KernelSpeed { seconds, flops: product_flops(&self.graph), bytes, kernels })
    }
}

/// What a program runs with.
struct Run {
    store: Store,
    outputs: Vec<HostTensor>,
}

impl Run {
    /// Seconds of so many runs.
    fn times(&mut self, program: &mut NativeProgram, inputs: &[HostTensor], count: usize) -> Result<f64, Error> {
        let inputs: Vec<&HostTensor> = inputs.iter().collect();
        let clock = Instant::now();
        for _ in 0..count {
            program.run(&mut self.store, &inputs, &mut self.outputs)?;
        }
        Ok(clock.elapsed().as_secs_f64())
    }
}

/// Which inputs anything reads.
fn used(graph: &Graph) -> Vec<bool> {
    let counts = graph.use_counts();
    graph.inputs.iter().map(|input| counts.get(input.node.index()).is_some_and(|n| *n > 0)).collect()
}

/// Numbers between -1 and 1 for every input, small whole ones where it wants such.
fn operands(graph: &Graph) -> Result<Vec<HostTensor>, Error> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    let tensor = |ty: &Type| {
        if ty.dtype == DType::I32 {
            let values: Vec<i32> = (0..ty.elements()).map(|_| ((next() + 1.0) * (rows::CODES / 2) as f32) as i32).collect();
            return HostTensor::new(ty.shape.clone(), &values).map_err(Error::Invalid);
        }
        let values: Vec<f32> = (0..ty.elements()).map(|_| next()).collect();
        HostTensor::new(ty.shape.clone(), &values).map_err(Error::Invalid)
    };
    graph.input_types().iter().map(tensor).collect()
}

/// All kernels that are measured, or those of one group.
///
/// # Errors
/// None that a user can cause.
pub fn kernel_cases(group: Option<&str>) -> Result<Vec<KernelCase>, Error> {
    let mut cases = Vec::new();
    products(&mut cases)?;
    convolutions(&mut cases)?;
    streams(&mut cases)?;
    rows::cases(&mut cases)?;
    cases.retain(|case| group.is_none_or(|group| group == case.group));
    Ok(cases)
}

fn products(cases: &mut Vec<KernelCase>) -> Result<(), Error> {
    for [m, n, k] in PRODUCTS {
        let shape = || format!("{m} {n} {k}");
        cases.push(KernelCase::new("product", shape(), "AB", &[&[m, k], &[k, n]], |x| x[0].matmul(x[1]))?);
        cases.push(KernelCase::new("product", shape(), "AB'", &[&[m, k], &[n, k]], |x| x[0].matmul(x[1].t()))?);
        cases.push(KernelCase::new("product", shape(), "A'B", &[&[k, m], &[k, n]], |x| x[0].t().matmul(x[1]))?);
    }
    // Scores of attention.
    let heads: &[usize] = &[64, 128, 64];
    cases.push(KernelCase::new("product", "64 of 128 128 64".into(), "AB'", &[heads, heads], |x| {
        x[0].matmul(x[1].transpose(&[0, 2, 1]))
    })?);
    Ok(())
}

fn convolutions(cases: &mut Vec<KernelCase>) -> Result<(), Error> {
    for [batch, size, channels, features, window, stride, padding, groups] in LAYERS {
        let mut convolution = Convolution::new(ConvDims::channels_last(2), DType::F32);
        convolution.stride = vec![stride; 2];
        convolution.padding = vec![(padding as isize, padding as isize); 2];
        convolution.feature_groups = groups;
        let after = (size + 2 * padding - window) / stride + 1;
        let image: &[usize] = &[batch, size, size, channels];
        let kernel: &[usize] = &[features, channels / groups, window, window];
        let result: &[usize] = &[batch, after, after, features];
        let group = if groups == 1 { "convolution" } else { "depthwise" };
        let shape = || {
            let stride = if stride > 1 { format!(" stride {stride}") } else { String::new() };
            format!("{batch}×{size}×{size}×{channels} to {features}, {window}×{window}{stride}")
        };
        let inputs = &[image, kernel, result];
        cases.push(KernelCase::new(group, shape(), "forward", inputs, |x| x[0].convolution(x[1], convolution.clone()))?);
        for (form, wrt) in [("of input", 0), ("of kernel", 1)] {
            cases.push(KernelCase::new(group, shape(), form, inputs, |x| {
                vjp(&[x[0].convolution(x[1], convolution.clone())], &[x[2]], &[x[wrt]])[0]
            })?);
        }
    }
    Ok(())
}

fn streams(cases: &mut Vec<KernelCase>) -> Result<(), Error> {
    for size in STREAMS {
        let [rows, columns] = size;
        let shape = || format!("{rows} × {columns}");
        let one: &[&[usize]] = &[&size];
        let half: &[usize] = &[rows / 2, columns];
        cases.push(KernelCase::new("copy", shape(), "in order", &[half, half], |x| x[0].concatenate(&[x[1]], 0))?);
        cases.push(KernelCase::new("copy", shape(), "transposed", one, |x| x[0].t())?);
        cases.push(KernelCase::new("reduction", shape(), "of rows", one, |x| x[0].sum(&[1]))?);
        cases.push(KernelCase::new("reduction", shape(), "of columns", one, |x| x[0].sum(&[0]))?);
        cases.push(KernelCase::new("reduction", shape(), "of all", one, |x| x[0].sum_all())?);
        cases.push(KernelCase::new("reduction", shape(), "of squares", one, |x| (x[0] * x[0]).sum_all())?);
        cases.push(KernelCase::new("elementwise", shape(), "x + y", &[&size, &size], |x| x[0] + x[1])?);
        cases.push(KernelCase::new("elementwise", shape(), "relu(x + b)", &[&size, &[columns]], |x| {
            (x[0] + x[1].broadcast_to(x[0].shape())).relu()
        })?);
        cases.push(KernelCase::new("elementwise", shape(), "tanh", one, |x| x[0].tanh())?);
        cases.push(KernelCase::new("elementwise", shape(), "gelu", one, |x| gelu(x[0]))?);
        cases.push(KernelCase::new("elementwise", shape(), "of gelu", &[&size, &size], |x| {
            vjp(&[gelu(x[0])], &[x[1]], &[x[0]])[0]
        })?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use backprop_core::Isa;

    #[test]
    fn every_kernel_is_known_by_its_work() {
        let cases = kernel_cases(None).unwrap();
        let find = |group: &str, form: &str| cases.iter().find(|c| c.group == group && c.form == form).unwrap();
        assert_eq!(product_flops(&find("product", "A'B").graph), 2 * 16 * 4 * 16);
        // Gradients do without the forward pass; that of the input counts taps beyond the border, too.
        let layer = 2 * 64 * 26 * 26 * 32 * 9;
        let flops = |form: &str| product_flops(&find("convolution", form).graph);
        assert_eq!([flops("forward"), flops("of kernel")], [layer; 2]);
        assert_eq!(flops("of input"), layer / (26 * 26) * (28 * 28));
        let names: Vec<String> = cases.iter().map(|c| format!("{} {} {}", c.group, c.shape, c.form)).collect();
        let mut different = names.clone();
        different.sort();
        different.dedup();
        assert_eq!(different.len(), names.len());
    }

    #[test]
    fn a_kernel_of_every_group_runs() {
        let backend = Native::new(2, Isa::detect());
        for group in [
            "product",
            "convolution",
            "depthwise",
            "copy",
            "reduction",
            "elementwise",
            "softmax",
            "cross-entropy",
            "layer-norm",
            "embedding",
        ] {
            let cases = kernel_cases(Some(group)).unwrap();
            let small = cases.iter().min_by_key(|case| case.graph.input_types().iter().map(Type::bytes).sum::<usize>()).unwrap();
            let speed = small.measure(&backend, Duration::ZERO).unwrap();
            assert!(speed.seconds > 0.0 && speed.bytes > 0 && speed.kernels > 0, "{group}: {speed:?}");
        }
    }
}
