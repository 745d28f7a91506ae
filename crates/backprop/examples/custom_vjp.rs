//! An operation with a derivative of one's own: rounding to a grid, whose true derivative is 0 nearly everywhere, passes gradients
//! through as if it were not there (Bengio et al., "Estimating or propagating gradients through stochastic neurons", 2013).

use backprop::{
    core::{
        Isa,
        exec::{Backend, Store, native::Native},
    },
    prelude::*,
};

/// The nearest multiple of 1/4; differentiates as the identity within [-1, 1] and as 0 beyond.
fn quantised(x: Tensor<'_>) -> Tensor<'_> {
    custom_vjp(
        x.builder(),
        "quantised",
        &[x],
        |_, x| vec![(x[0] * 4.0).round_nearest_even() * 0.25],
        |_, x, _, cotangents| vec![x[0].abs().less_equal(1.0).select(cotangents[0], cotangents[0] * 0.0)],
    )[0]
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let b = Builder::new();
    let x = b.input("x", Role::Data, Type::new(DType::F32, [4]));
    let y = quantised(x);
    b.output("y", Role::Data, y);
    b.output("dx", Role::Data, (y * y).sum_all().grad(&[x])[0]);

    let mut program = Native::new(1, Isa::detect()).compile(&b.finish()?)?;
    let mut outputs = program.signature().output_buffers();
    program.run(&mut Store::new(), &[&HostTensor::new([4], &[0.1_f32, 0.4, -0.7, 1.6])?], &mut outputs)?;
    println!("y  = {:?}\ndx = {:?}", outputs[0].to_f64(), outputs[1].to_f64());
    assert_eq!(outputs[0].to_f64(), [0.0, 0.5, -0.75, 1.5]);
    // d(y²)/dx is 2y where the derivative passes.
    assert_eq!(outputs[1].to_f64(), [0.0, 1.0, -1.5, 0.0]);
    Ok(())
}
