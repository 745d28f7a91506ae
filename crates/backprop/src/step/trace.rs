use super::{FINITE, HYPER, random_inputs};
use crate::{
    init::Init,
    nn::{Mode, Scope, StateKind, StateSpec},
    optim::{Hyper, Optimizer},
    schedule::{Rates, Schedule},
};
use backprop_core::{Builder, DType, Error, Graph, HostTensor, Tensor, Type, graph::Role, op::Reducer};
use std::sync::Arc;

/// PyTorch adds this to the norm before it divides the limit by it.
const CLIP_EPS: f64 = 1e-6;

/// Parameters updated together: by which optimizer, under which schedule, clipped to which norm.
#[derive(Clone, Debug)]
pub struct Group {
    /// Name the step's closure updates it by; empty for the only one.
    pub name: String,
    /// The update rule.
    pub optimizer: Arc<dyn Optimizer>,
    /// The learning rate by step.
    pub schedule: Schedule,
    /// Largest global norm of the gradient.
    pub clip_norm: Option<f64>,
}

impl Group {
    /// A group at a constant rate without clipping.
    pub fn new(name: impl Into<String>, optimizer: impl Optimizer + 'static) -> Group {
        Group { name: name.into(), optimizer: Arc::new(optimizer), schedule: Schedule::default(), clip_norm: None }
    }

    /// The learning rate by step.
    pub fn schedule(mut self, schedule: Schedule) -> Group {
        self.schedule = schedule;
        self
    }

    /// Largest global norm of the gradient.
    pub fn clip_norm(mut self, limit: f64) -> Group {
        self.clip_norm = Some(limit);
        self
    }

    fn entries(&self, rates: Rates, step: u64) -> Vec<(&'static str, f64)> {
        let mut entries = self.optimizer.entries(rates, step);
        entries.extend(self.clip_norm.map(|limit| ("clip_norm", limit)));
        entries
    }
}

/// The groups of a step. They fix the layout of the runtime vector [`HYPER`]: group after group, entry after entry.
#[derive(Clone, Debug, Default)]
pub struct Groups(pub Vec<Group>);

impl Groups {
    /// Length of the runtime vector.
    pub fn len(&self) -> usize {
        self.names().len()
    }

    /// Whether there are no runtime numbers.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Group and name of every entry of the runtime vector.
    pub fn names(&self) -> Vec<(String, &'static str)> {
        let any = Rates { learning_rate: 0.0, momentum: None };
        let of = |g: &Group| g.entries(any, 0).into_iter().map(|(name, _)| (g.name.clone(), name)).collect::<Vec<_>>();
        self.0.iter().flat_map(of).collect()
    }

    /// The rates of each group at a step (from 0) of `total_steps`.
    pub fn rates(&self, step: u64, total_steps: u64) -> Vec<Rates> {
        self.0.iter().map(|g| g.schedule.rates(g.optimizer.learning_rate(), step, total_steps)).collect()
    }

    /// The runtime vector of a step (from 0) of `total_steps`: a pure function, so that a resumed run goes on as it would have.
    pub fn hyper(&self, step: u64, total_steps: u64) -> HostTensor {
        self.hyper_at(&self.rates(step, total_steps), step)
    }

    /// The runtime vector for given rates, one for each group: for tests of the learning rate.
    pub fn hyper_at(&self, rates: &[Rates], step: u64) -> HostTensor {
        let mut vector = HostTensor::zeros(Type::new(DType::F32, [self.len()]));
        self.write_hyper(rates, step, &mut vector);
        vector
    }

    /// As [`hyper_at`](Self::hyper_at), into a vector that an earlier step had.
    pub fn write_hyper(&self, rates: &[Rates], step: u64, vector: &mut HostTensor) {
        let Some(slots) = vector.as_mut_slice::<f32>() else { return };
        let values = self.0.iter().zip(rates).flat_map(|(g, &r)| g.entries(r, step)).map(|(_, value)| value as f32);
        slots.iter_mut().zip(values).for_each(|(slot, value)| *slot = value);
    }

    /// Checks every group's numbers.
    ///
    /// # Errors
    /// A sentence saying which number is wrong.
    pub fn validate(&self) -> Result<(), String> {
        for group in &self.0 {
            group.optimizer.validate()?;
            group.schedule.validate()?;
            if let Some(limit) = group.clip_norm.filter(|l| !l.is_finite() || *l <= 0.0) {
                return Err(format!("clip_norm must be a positive number, got {limit}"));
            }
        }
        Ok(())
    }
}

/// A step while it is traced: the scope for layers, inputs, outputs, updates.
pub struct StepTrace<'g> {
    /// What layers are traced in.
    pub scope: Scope<'g>,
    groups: &'g Groups,
    hyper: Option<Tensor<'g>>,
    /// Name, value before, value after.
    changes: Vec<(String, Tensor<'g>, Tensor<'g>)>,
    slots: Vec<StateSpec>,
    finite: Option<Tensor<'g>>,
}

/// What is known of an update.
#[derive(Clone, Copy, Debug)]
pub struct Update<'g> {
    /// Global norm of the gradient before clipping.
    pub norm: Tensor<'g>,
    /// Whether loss and gradient are finite (bool).
    pub finite: Tensor<'g>,
}

impl<'g> StepTrace<'g> {
    /// The graph being traced.
    pub fn builder(&self) -> &'g Builder {
        self.scope.builder()
    }

    /// A data input.
    #[track_caller]
    pub fn input(&self, name: &str, ty: Type) -> Tensor<'g> {
        self.builder().input(name, Role::Data, ty)
    }

    /// A data output.
    #[track_caller]
    pub fn output(&self, name: impl Into<String>, value: Tensor<'g>) {
        self.builder().output(name, Role::Data, value);
    }

    /// Differentiates a scalar loss with respect to the parameters traced so far that `belongs` accepts, and updates them by
    /// the group's rule. The next values take effect after the step, all or none: nothing changes if any loss or gradient
    /// norm of the step is not finite.
    #[track_caller]
    pub fn update(&mut self, group: &str, loss: Tensor<'g>, belongs: impl Fn(&StateSpec) -> bool) -> Option<Update<'g>> {
        let b = self.builder();
        let Some(at) = self.groups.0.iter().position(|g| g.name == group) else {
            let names: Vec<&str> = self.groups.0.iter().map(|g| g.name.as_str()).collect();
            b.fail("update", &[], format!("there is no group `{group}`; there are {names:?}"));
            return None;
        };
        let parameters: Vec<_> = self.scope.parameters().into_iter().filter(|(spec, _)| belongs(spec)).collect();
        let values: Vec<Tensor<'g>> = parameters.iter().map(|(_, value)| *value).collect();
        let gradients = loss.grad(&values);
        let hyper = self.hyper_of(at, loss.dtype());
        // Formed in f64 the sum of f32 squares cannot overflow: it is finite exactly if every square is.
        let square = |g: &Tensor<'g>| (*g * *g).reduce_in(DType::F64, Reducer::Sum, &(0..g.rank()).collect::<Vec<_>>());
        let total = gradients.iter().map(square).reduce(|a, b| a + b).unwrap_or_else(|| b.scalar(DType::F64, 0.0));
        let norm = total.sqrt().convert(loss.dtype());
        let finite = total.is_finite() & loss.is_finite();
        let scale = self.groups.0[at].clip_norm.map(|_| (hyper.get("clip_norm", loss) / (norm + CLIP_EPS)).minimum(1.0));
        for ((spec, parameter), gradient) in parameters.iter().zip(gradients) {
            let gradient = scale.map_or(gradient, |s| gradient * s);
            self.update_one(at, &hyper, spec, *parameter, gradient);
        }
        self.finite = Some(self.finite.map_or(finite, |f| f & finite));
        Some(Update { norm, finite })
    }

    fn update_one(&mut self, at: usize, hyper: &Hyper<'g>, spec: &StateSpec, parameter: Tensor<'g>, gradient: Tensor<'g>) {
        let b = self.builder();
        let _layer = b.scope(&spec.layer);
        let optimizer = self.groups.0[at].optimizer.clone();
        let kept: Vec<StateSpec> = optimizer.slots().iter().map(|slot| slot_spec(slot, spec)).collect();
        let slots: Vec<Tensor<'g>> = kept.iter().map(|s| b.input(s.name.clone(), Role::State, s.ty.clone())).collect();
        let (next, next_slots) = optimizer.update(hyper, parameter, gradient, &slots);
        self.changes.push((spec.name.clone(), parameter, next));
        for ((spec, old), new) in kept.iter().zip(slots).zip(next_slots) {
            self.changes.push((spec.name.clone(), old, new));
        }
        self.slots.extend(kept);
    }

    /// The runtime numbers of a group as scalars.
    fn hyper_of(&self, at: usize, dtype: DType) -> Hyper<'g> {
        let Some(vector) = self.hyper else { return Hyper { entries: Vec::new() } };
        let mut position = Groups(self.groups.0[..at].to_vec()).len();
        let names = Groups(vec![self.groups.0[at].clone()]).names();
        let mut entry = |(_, name): (String, &'static str)| {
            position += 1;
            (name, vector.slice_dim(0, position - 1, position).reshape([]).convert(dtype))
        };
        Hyper { entries: names.into_iter().map(&mut entry).collect() }
    }

    /// Adds the state outputs, all behind one condition, and the output [`FINITE`].
    fn finish(self) -> Vec<StateSpec> {
        let b = self.builder();
        let statistics = self.scope.updates().into_iter().map(|(spec, old, new)| (spec.name, old, new));
        for (name, old, new) in self.changes.into_iter().chain(statistics) {
            b.output(name, Role::State, self.finite.map_or(new, |f| f.select(new, old)));
        }
        if let Some(finite) = self.finite {
            b.output(FINITE, Role::Data, finite.convert(DType::F32));
        }
        self.scope.specs().into_iter().chain(self.slots).collect()
    }
}

/// The optimizer state of a parameter: `optimizer/SLOT/PARAMETER`.
fn slot_spec(slot: &str, parameter: &StateSpec) -> StateSpec {
    StateSpec {
        name: format!("optimizer/{slot}/{}", parameter.name),
        init: Init::Zeros,
        kind: StateKind::Optimizer,
        ..parameter.clone()
    }
}

/// A step's graph and the state it reads.
#[derive(Clone, Debug)]
pub struct TracedGraph {
    /// The graph. Data inputs of a training graph start with [`HYPER`], [`SEED`](super::SEED), [`STEP`](super::STEP).
    pub graph: Graph,
    /// Parameters and statistics in the order they were asked for, then the optimizers' state.
    pub state: Vec<StateSpec>,
}

/// Traces a step as a closure over any losses, parameter subsets and optimizers.
///
/// In [`Mode::Train`] the graph's first data inputs are the runtime vector (if there are groups), the seed and the step.
///
/// ```
/// use backprop::prelude::*;
///
/// // Two players: the generator's weights follow one loss, the discriminator's another.
/// let groups = Groups(vec![Group::new("generator", Adam::new(1e-3)), Group::new("discriminator", Sgd::new(1e-2))]);
/// let traced = trace_step(&groups, DType::F32, Mode::Train, |t| {
///     let noise = t.input("noise", Type::new(DType::F32, [8, 2]));
///     let made = t.scope.call("generator", &Linear::new(3), noise);
///     let judged = t.scope.call("discriminator", &Linear::new(1), made);
///     let (for_generator, for_discriminator) = (judged.mean(&[0, 1]), -judged.mean(&[0, 1]));
///     t.update("generator", for_generator, |p| p.layer == "generator");
///     t.update("discriminator", for_discriminator, |p| p.layer == "discriminator");
///     t.output("judged", for_generator);
/// })?;
/// assert_eq!(traced.graph.outputs.iter().filter(|o| o.name.starts_with("optimizer/m/")).count(), 2);
/// # Ok::<(), backprop::Error>(())
/// ```
///
/// # Errors
/// The first misuse met while tracing.
pub fn trace_step<F>(groups: &Groups, dtype: DType, mode: Mode, f: F) -> Result<TracedGraph, Error>
where
    F: for<'g> FnOnce(&mut StepTrace<'g>),
{
    let b = Builder::new();
    let state = {
        let mut scope = Scope::new(&b, dtype, mode);
        let mut hyper = None;
        if mode == Mode::Train {
            hyper = (!groups.is_empty()).then(|| b.input(HYPER, Role::Data, Type::new(DType::F32, [groups.len()])));
            scope = scope.with_randomness(random_inputs(&b));
        }
        let mut trace = StepTrace { scope, groups, hyper, changes: Vec::new(), slots: Vec::new(), finite: None };
        f(&mut trace);
        trace.finish()
    };
    Ok(TracedGraph { graph: b.finish()?, state })
}

/// First values of state tensors, in order.
///
/// # Errors
/// If an initialiser does not fit.
pub fn initial_state(specs: &[StateSpec], seed: u64) -> Result<Vec<(String, HostTensor)>, Error> {
    let first = |s: &StateSpec| Ok((s.name.clone(), s.init.sample(&s.name, seed, &s.ty).map_err(Error::Run)?));
    specs.iter().map(first).collect()
}
