//! A loss of one's own and a training loop by hand: a line through points of which some are far off.

use backprop::{
    core::{
        Isa,
        exec::{Backend, Store, native::Native},
    },
    prelude::*,
};

/// Cauchy's loss ln(1 + e²): a point counts the less the further off it is.
#[derive(Clone, Debug)]
struct Cauchy;

impl Loss for Cauchy {
    fn forward<'g>(&self, output: Tensor<'g>, target: Tensor<'g>) -> Weighted<'g> {
        let error = output - target;
        // A sum and the weight it stands for: only the step divides, so that parts of a batch add up.
        Weighted { sum: (error * error).log1p().sum_all(), weight: output.like(output.shape().elements() as f64) }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    const ROWS: usize = 64;
    let x: Vec<f32> = (0..ROWS).map(|i| i as f32 / ROWS as f32 - 0.5).collect();
    // y = 3x + 1, but every eighth point is wrong.
    let y: Vec<f32> = x.iter().enumerate().map(|(i, x)| if i % 8 == 0 { 40.0 } else { 3.0 * x + 1.0 }).collect();
    let (x, y) = (HostTensor::new([ROWS, 1], &x)?, HostTensor::new([ROWS, 1], &y)?);

    let step = Step::new(Linear::new(1), Cauchy, Adam::new(0.05));
    let traced = step.trace(&BatchSpec { x: x.ty().clone(), y: y.ty().clone() })?;
    let mut program = Native::new(1, Isa::detect()).compile(&traced.train)?;
    let mut store = Store::new();
    traced.initial_state(1)?.into_iter().for_each(|(name, value)| store.insert(name, value));

    let steps = 400;
    let seed = HostTensor::new([2], &[1_u32, 0])?;
    let mut outputs = program.signature().output_buffers();
    for i in 0..steps {
        let hyper = step.groups().hyper(i, steps);
        program.run(&mut store, &[&hyper, &seed, &HostTensor::scalar(i as u32), &x, &y], &mut outputs)?;
    }
    let of = |name: &str| store.get(name).map_or(f64::NAN, |t| t.to_f64()[0]);
    println!("y = {:.3} x + {:.3}", of("weight"), of("bias"));
    assert!((of("weight") - 3.0).abs() < 0.1 && (of("bias") - 1.0).abs() < 0.1);
    Ok(())
}
