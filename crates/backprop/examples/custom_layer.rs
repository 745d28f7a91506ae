//! A layer of one's own, in a network with the library's: a gate that learns how much of each feature gets through.

use backprop::{
    config::Config,
    core::{Isa, exec::native::Native},
    data::Source,
    prelude::*,
};

/// `x · σ(weight)`, one weight for each feature. Its parameter is called `layers.N.weight`.
#[derive(Clone, Debug)]
struct Gate;

impl Layer for Gate {
    fn forward<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let features = x.dim(-1);
        let weight = cx.param("weight", [features], &Init::Zeros);
        x * weight.logistic().broadcast_to(x.shape())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let network = Sequential::new().push(Gate).push(Linear::new(16)).push(Relu::new()).push(Linear::new(3));
    let source = Source::Clusters { rows: 600, features: 8, classes: 3, seed: 1, test: 0.2 };
    let config = Config::new(source, network, CrossEntropy::new(), Adam::new(0.01));

    let backend = Native::new(2, Isa::detect());
    let mut trainer = Trainer::new(config, &backend)?;
    let summary = trainer.train(None, &mut |_event| {})?;
    let gate = trainer.store().get("layers.0.weight").map(HostTensor::to_f64).unwrap_or_default();
    println!("gates: {gate:.2?}");
    println!("test accuracy {:.3}", summary.scores["test_accuracy"]);
    assert!(summary.scores["test_accuracy"] > 0.9 && gate.iter().any(|w| w.abs() > 0.01));
    Ok(())
}
