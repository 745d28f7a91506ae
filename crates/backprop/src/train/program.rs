use super::{TrainError, feed::Batch};
use crate::{metrics, step};
use backprop_core::{
    Graph, HostTensor,
    exec::{Backend, Memory, Profile, Program, Store},
};

/// A compiled step for one batch size with the buffers of its results: running it allocates nothing on this side.
pub(super) struct Compiled {
    program: Box<dyn Program>,
    inputs: Vec<Source>,
    outputs: Vec<HostTensor>,
    slots: Slots,
    /// Positions of the outputs that are sums of metrics.
    metric_slots: Vec<usize>,
    /// Their elements after the last run.
    metrics: Vec<f64>,
}

/// What a data input is fed from.
#[derive(Clone, Copy)]
enum Source {
    Hyper,
    Seed,
    Step,
    X,
    Y,
}

/// Positions of the data outputs; `None` where the graph has none.
#[derive(Clone, Copy, Default)]
struct Slots {
    loss_sum: Option<usize>,
    weight: Option<usize>,
    norm: Option<usize>,
    finite: Option<usize>,
}

/// What a training step is given beside its batch.
pub(super) struct Runtime<'r> {
    pub(super) hyper: &'r HostTensor,
    pub(super) seed: &'r HostTensor,
    pub(super) step: &'r HostTensor,
}

/// What one run of a program measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measured<'m> {
    pub(super) loss_sum: f64,
    pub(super) weight: f64,
    /// The sums of all metrics.
    pub(super) metrics: &'m [f64],
    pub(super) norm: f64,
    pub(super) finite: bool,
}

/// What the data inputs are given.
fn given<'t>(inputs: &[Source], batch: &'t Batch, runtime: Option<Runtime<'t>>) -> [&'t HostTensor; MOST_INPUTS] {
    let mut given = [&batch.x; MOST_INPUTS];
    for (slot, source) in given.iter_mut().zip(inputs) {
        *slot = match (source, &runtime) {
            (Source::Hyper, Some(r)) => r.hyper,
            (Source::Seed, Some(r)) => r.seed,
            (Source::Step, Some(r)) => r.step,
            (Source::Y, _) => &batch.y,
            _ => &batch.x,
        };
    }
    given
}

/// The most data inputs a step has: hyper, seed, step, x, y.
const MOST_INPUTS: usize = 5;

impl Compiled {
    pub(super) fn new(backend: &dyn Backend, graph: &Graph) -> Result<Compiled, TrainError> {
        let program = backend.compile(graph)?;
        let signature = program.signature();
        let source = |name: &str| match name {
            step::HYPER => Ok(Source::Hyper),
            step::SEED => Ok(Source::Seed),
            step::STEP => Ok(Source::Step),
            "x" => Ok(Source::X),
            "y" => Ok(Source::Y),
            other => {
                Err(backprop_core::Error::Invalid(format!("the step has a data input `{other}` that training does not know")))
            }
        };
        let inputs = signature.inputs.iter().map(|(name, _)| source(name)).collect::<Result<Vec<_>, _>>()?;
        let place = |wanted: &dyn Fn(&str) -> bool| signature.outputs.iter().position(|(name, _)| wanted(name));
        let slots = Slots {
            loss_sum: place(&|name| name == "loss_sum"),
            weight: place(&|name| name == "loss_weight"),
            norm: place(&|name| name == "grad_norm"),
            finite: place(&|name| name == step::FINITE),
        };
        let of_metrics = signature.outputs.iter().enumerate().filter(|(_, (name, _))| name.starts_with(metrics::OUTPUT));
        let (metric_slots, sizes): (Vec<usize>, Vec<usize>) = of_metrics.map(|(i, (_, ty))| (i, ty.elements())).unzip();
        let (outputs, metrics) = (signature.output_buffers(), vec![0.0; sizes.iter().sum()]);
        Ok(Compiled { program, inputs, outputs, slots, metric_slots, metrics })
    }

    pub(super) fn memory(&self) -> Memory {
        self.program.memory()
    }

    /// Where the time of the runs since the last call went, if that is measured.
    pub(super) fn profile(&mut self) -> Option<Profile> {
        self.program.profile()
    }

    /// Runs the program on a batch. `runtime` is needed by training programs only.
    pub(super) fn run(
        &mut self,
        store: &mut Store,
        batch: &Batch,
        runtime: Option<Runtime<'_>>,
    ) -> Result<Measured<'_>, TrainError> {
        let given = given(&self.inputs, batch, runtime);
        self.program.run(store, &given[..self.inputs.len()], &mut self.outputs)?;
        Ok(self.measured())
    }

    /// Begins a run, whose results [`finish`](Self::finish) gives in their turn. A program that does not compute on its own is run
    /// here, so that one run can be under way.
    pub(super) fn start(&mut self, store: &mut Store, batch: &Batch, runtime: Runtime<'_>) -> Result<(), TrainError> {
        let given = given(&self.inputs, batch, Some(runtime));
        let given = &given[..self.inputs.len()];
        match self.program.pipelined() {
            Some(program) => program.start(store, given)?,
            None => self.program.run(store, given, &mut self.outputs)?,
        }
        Ok(())
    }

    /// Waits for the oldest run that was started.
    pub(super) fn finish(&mut self) -> Result<Measured<'_>, TrainError> {
        if let Some(program) = self.program.pipelined() {
            program.finish(&mut self.outputs)?;
        }
        Ok(self.measured())
    }

    fn measured(&mut self) -> Measured<'_> {
        let mut rest = &mut self.metrics[..];
        for output in self.metric_slots.iter().map(|&i| &self.outputs[i]) {
            let (own, others) = rest.split_at_mut(output.ty().elements());
            rest = others;
            if let Some(sums) = output.as_slice::<f32>() {
                own.iter_mut().zip(sums).for_each(|(to, from)| *to = f64::from(*from));
            } else if let Some(sums) = output.as_slice::<f64>() {
                own.copy_from_slice(sums);
            }
        }
        let read = |slot: Option<usize>| {
            let values = slot.and_then(|i| self.outputs[i].as_slice::<f32>());
            values.and_then(|v| v.first()).map_or(0.0, |v| f64::from(*v))
        };
        let (loss_sum, weight) = (read(self.slots.loss_sum), read(self.slots.weight));
        let finite = self.slots.finite.is_none() || read(self.slots.finite) != 0.0;
        Measured { loss_sum, weight, metrics: &self.metrics, norm: read(self.slots.norm), finite }
    }
}
