//! Training steps one by one, on batches that go round, at constant rates: what a measurement of the step needs of training.

use super::{
    Part, TrainError, Trainer,
    feed::{Batch, Pass},
    find, is_weight,
    loader::Loader,
    program::Runtime,
};
use crate::{
    bench::product_flops,
    checkpoint::Tensors,
    nn::{Mode, StateKind},
    schedule::{Clock, Rates},
    step::BatchSpec,
};
use backprop_core::{
    HostTensor, Type,
    exec::{Memory, Profile, Store},
    pass, random,
};
use std::sync::Arc;

/// A trainer that makes steps on the same batches over and over.
pub(crate) struct Stepwise<'b> {
    trainer: Trainer<'b>,
    batches: Vec<Batch>,
    rates: Vec<Rates>,
    hyper: HostTensor,
    seed: HostTensor,
    step: HostTensor,
    /// Steps that were started.
    started: u64,
}

/// What a step came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    pub(crate) loss: f64,
    /// Whether the update was made.
    pub(crate) finite: bool,
}

impl<'b> Stepwise<'b> {
    /// Steps on the first full batches of training.
    pub(crate) fn on_first_batches(trainer: Trainer<'b>, count: usize) -> Result<Stepwise<'b>, TrainError> {
        let (feed, seed) = (trainer.task.feed(), trainer.config.train.seed);
        let (mut batches, mut rows, mut epoch) = (Vec::new(), Vec::new(), 0);
        while batches.len() < count {
            let pass = Pass { part: Part::Train, shuffled: Some((seed, epoch)), position: 0 };
            let mut order = feed.batches(pass)?;
            while batches.len() < count && order.next_into(&mut rows) {
                if rows.len() == feed.batch_size {
                    let mut batch = Batch::new(feed, rows.len());
                    feed.fill(pass, &rows, &mut batch)?;
                    batches.push(batch);
                }
            }
            epoch += 1;
        }
        Stepwise::of(trainer, batches)
    }

    /// Steps on batches of inputs and targets of the types that the task has, all of as many rows.
    pub(crate) fn on_batches(trainer: Trainer<'b>, batches: Vec<[HostTensor; 2]>) -> Result<Stepwise<'b>, TrainError> {
        Stepwise::of(trainer, batches.into_iter().map(|[x, y]| Batch::of(x, y)).collect())
    }

    fn of(mut trainer: Trainer<'b>, batches: Vec<Batch>) -> Result<Stepwise<'b>, TrainError> {
        // The batches are all that is read: the memory of the data is given back.
        trainer.task.forget_rows();
        trainer.loader = Loader::new(Arc::clone(trainer.task.feed()), 0);
        let groups = trainer.step.groups();
        let (rates, hyper) = (groups.rates(Clock::new(0, 1)), groups.hyper(0, 1));
        let (seed, step) = (trainer.seed()?, HostTensor::scalar(0_u32));
        Ok(Stepwise { trainer, batches, rates, hyper, seed, step, started: 0 })
    }

    /// Inputs and targets of the batches.
    pub(crate) fn batches(&self) -> impl Iterator<Item = [&HostTensor; 2]> {
        self.batches.iter().map(|batch| [&batch.x, &batch.y])
    }

    /// Rows of each batch.
    pub(crate) fn rows(&self) -> usize {
        self.batches.first().map_or(0, |batch| batch.rows)
    }

    /// Types of inputs and targets of a batch.
    pub(crate) fn batch_types(&self) -> [Type; 2] {
        let BatchSpec { x, y } = self.trainer.task.batch_spec(self.rows());
        [x, y]
    }

    /// Replaces the first values of parameters and statistics.
    pub(crate) fn take_weights(&mut self, weights: Tensors, what: &str) -> Result<(), TrainError> {
        self.trainer.put(weights, is_weight, what)
    }

    /// Back to the first values of everything and the first batch.
    pub(crate) fn reset(&mut self) -> Result<(), TrainError> {
        self.trainer.store = Store::new();
        self.started = 0;
        self.trainer.initialise()
    }

    /// Parameters and statistics as they are now.
    pub(crate) fn weights(&mut self) -> Result<Vec<(&str, &HostTensor)>, TrainError> {
        self.trainer.initialise()?;
        let names = self.trainer.specs.iter().filter(|s| is_weight(s)).map(|s| s.name.as_str());
        Ok(names.filter_map(|name| Some((name, self.trainer.store.get(name)?))).collect())
    }

    /// Compiles the step and gives what lives between steps its first values; seconds that tracing and compiling took, and what the
    /// program needs.
    pub(crate) fn compile(&mut self) -> Result<(f64, Memory), TrainError> {
        let rows = self.rows();
        self.trainer.compile(Mode::Train, rows)?;
        self.trainer.initialise()?;
        Ok((self.trainer.compile_seconds, find(&mut self.trainer.training, rows)?.memory()))
    }

    /// Where the time of the steps since the last call went, if the backend measures that.
    pub(crate) fn profile(&mut self) -> Result<Option<Profile>, TrainError> {
        let rows = self.rows();
        Ok(find(&mut self.trainer.training, rows)?.profile())
    }

    /// Floating-point operations of a step, as it is after the passes that every backend runs, and those among them of products and
    /// convolutions. What only counts, compares or draws is not among them.
    pub(crate) fn flops(&self) -> Result<[u64; 2], TrainError> {
        let graph = self.trainer.graph(self.rows())?;
        let graph = pass::optimize(&graph, &pass::pipeline(|c| c.region == random::PHILOX), &mut |_, _, _| ());
        let real = graph.nodes.iter().filter(|node| node.outputs.iter().any(|ty| ty.dtype.is_float()));
        let flops = real.map(|node| {
            let inputs: Vec<Type> = node.inputs.iter().map(|&v| graph.ty(v).clone()).collect();
            node.op.cost(&inputs, &node.outputs).flops
        });
        Ok([flops.sum(), product_flops(&graph)])
    }

    /// Number of trained values.
    pub(crate) fn parameters(&self) -> usize {
        let parameters = self.trainer.specs.iter().filter(|s| s.kind == StateKind::Parameter);
        parameters.map(|s| s.ty.elements()).sum()
    }

    /// Bytes of parameters, optimizer state and statistics.
    pub(crate) fn state_bytes(&self) -> usize {
        self.trainer.state_bytes()
    }

    /// How many steps may be under way at once.
    pub(crate) fn depth(&self) -> usize {
        self.trainer.backend.depth()
    }

    /// Starts a step on the next batch.
    pub(crate) fn start(&mut self) -> Result<(), TrainError> {
        let Trainer { step, training, store, .. } = &mut self.trainer;
        let Some(batch) = self.batches.get((self.started % self.batches.len().max(1) as u64) as usize) else { return Ok(()) };
        step.groups().write_hyper(&self.rates, self.started, &mut self.hyper);
        if let Some([slot]) = self.step.as_mut_slice::<u32>() {
            // The random streams count steps in 32 bits.
            *slot = self.started as u32;
        }
        let runtime = Runtime { hyper: &self.hyper, seed: &self.seed, step: &self.step };
        find(training, batch.rows)?.start(store, batch, runtime)?;
        self.started += 1;
        Ok(())
    }

    /// Waits for the oldest step that was started.
    pub(crate) fn finish(&mut self) -> Result<Outcome, TrainError> {
        let rows = self.rows();
        let measured = find(&mut self.trainer.training, rows)?.finish()?;
        Ok(Outcome { loss: measured.loss_sum / measured.weight, finite: measured.finite })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Config, prelude::*};
    use backprop_core::{Isa, exec::native::Native};
    use backprop_data::{Parts, Source, synthetic};

    #[test]
    fn the_data_are_not_kept_beside_the_batches() {
        let data: Arc<dyn backprop_data::Dataset> = Arc::new(synthetic::clusters(40, 3, 4, 1).unwrap());
        let held = Arc::downgrade(&data);
        let network = Sequential::new().push(Linear::new(4));
        let mut config = Config::new(Source::Digits {}, network, CrossEntropy::new(), Sgd::new(0.1));
        config.train.batch_size = 8;
        let backend = Native::new(1, Isa::detect());
        let trainer = Trainer::with_parts(config, Parts::shuffled(data), &backend).unwrap();
        let mut steps = Stepwise::on_first_batches(trainer, 2).unwrap();
        assert!(held.upgrade().is_none());
        steps.compile().unwrap();
        steps.start().unwrap();
        assert!(steps.finish().unwrap().finite);
    }
}
