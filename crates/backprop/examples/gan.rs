//! A training loop by hand with two players (Goodfellow et al., "Generative adversarial nets", 2014): a generator learns to make points
//! on a ring, a discriminator to tell them from real ones. Both are updated in one step, each by its own loss and optimizer.

use backprop::{
    core::{
        Isa,
        exec::{Backend, Store, native::Native},
        random,
    },
    nn::Mode,
    prelude::*,
    step::initial_state,
};

const BATCH: usize = 128;
const STEPS: u64 = 4000;

fn network(outputs: usize) -> Sequential {
    let hidden = |s: Sequential| s.push(Linear::new(32)).push(LeakyRelu::new());
    hidden(hidden(Sequential::new())).push(Linear::new(outputs))
}

/// Mean binary cross-entropy of scores against one answer for all.
fn judge<'g>(scores: Tensor<'g>, answer: f64) -> Tensor<'g> {
    BceWithLogits::new().forward(scores, scores.stop_gradient() * 0.0 + answer).mean()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let adam = || Adam::new(1e-3).betas(0.5, 0.9);
    let groups = Groups(vec![Group::new("generator", adam()), Group::new("discriminator", adam())]);
    let traced = trace_step(&groups, DType::F32, Mode::Train, |t| {
        let real = t.input("real", Type::new(DType::F32, [BATCH, 2]));
        let Some(randomness) = t.scope.randomness() else { return };
        let noise = random::uniform(randomness, 0, [BATCH, 2]) * 2.0 - 1.0;
        let made = t.scope.call("generator", &network(2), noise);
        let both = t.scope.call("discriminator", &network(1), real.concatenate(&[made], 0));
        let (of_real, of_made) = (both.slice_dim(0, 0, BATCH), both.slice_dim(0, BATCH, 2 * BATCH));
        t.update("generator", judge(of_made, 1.0), |p| p.name.starts_with("generator."));
        // Steep discriminators make the players chase each other: their slope at real points costs (the penalty R1 of Mescheder et al.,
        // "Which training methods for GANs do actually converge?", 2018). It is a gradient in a loss, differentiated once more.
        let slope = of_real.sum_all().grad(&[real])[0];
        let penalty = (slope * slope).sum_all() * (0.5 / BATCH as f64);
        let told_apart = judge(of_real, 1.0) + judge(of_made, 0.0) + penalty;
        t.update("discriminator", told_apart, |p| p.name.starts_with("discriminator."));
        t.output("made", made);
    })?;

    let mut program = Native::new(2, Isa::detect()).compile(&traced.graph)?;
    let mut store = Store::new();
    initial_state(&traced.state, 3)?.into_iter().for_each(|(name, value)| store.insert(name, value));
    let seed = HostTensor::new([2], &[3_u32, 0])?;
    let mut outputs = program.signature().output_buffers();
    let made = program.signature().outputs.iter().position(|(name, _)| name == "made").unwrap_or(0);
    for step in 0..STEPS {
        // Real points: on the ring of radius 1, other ones in every step.
        let angle = |i: usize| (step as usize * BATCH + i) as f32 * 2.399_963;
        let real: Vec<f32> = (0..BATCH).flat_map(|i| [angle(i).cos(), angle(i).sin()]).collect();
        let inputs = [&groups.hyper(step, STEPS), &seed, &HostTensor::scalar(step as u32), &HostTensor::new([BATCH, 2], &real)?];
        program.run(&mut store, &inputs, &mut outputs)?;
    }

    let points = outputs[made].to_f64();
    let radii: Vec<f64> = points.chunks(2).map(|p| p[0].hypot(p[1])).collect();
    let mean = radii.iter().sum::<f64>() / radii.len() as f64;
    let off = radii.iter().map(|r| (r - 1.0).abs()).sum::<f64>() / radii.len() as f64;
    let quarters = points.chunks(2).map(|p| usize::from(p[0] > 0.0) * 2 + usize::from(p[1] > 0.0));
    let mut counts = [0; 4];
    quarters.for_each(|q| counts[q] += 1);
    println!("radius {mean:.3}, off the ring by {off:.3} on average; points in the four quarters: {counts:?}");
    assert!(off < 0.2, "the generator did not find the ring");
    assert!(counts.iter().all(|n| *n > BATCH / 16), "a part of the ring is missing");
    Ok(())
}
