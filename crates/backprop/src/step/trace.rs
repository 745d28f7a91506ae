use super::{CLEAR, EMA, FINITE, Groups, HYPER, random_inputs};
use crate::{
    init::Init,
    nn::{Mode, Scope, StateKind, StateSpec},
    optim::{Hyper, Slot},
};
use backprop_core::{Builder, DType, Error, Graph, HostTensor, Tensor, Type, graph::Role, op::Reducer};

/// PyTorch adds this to the norm before it divides the limit by it.
const CLIP_EPS: f64 = 1e-6;

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
    /// Whether no earlier step changed nothing, where steps run ahead.
    clear: Option<Tensor<'g>>,
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

    /// Makes a step that may be started before the results of earlier ones are known: after one that changed nothing, because
    /// something was not finite, the later ones change nothing either, until the state [`CLEAR`] is set again.
    pub fn run_ahead(&mut self) {
        self.clear = Some(self.builder().input(CLEAR, Role::State, Type::scalar(DType::Bool)));
    }

    /// Differentiates a scalar loss with respect to the parameters traced so far that `belongs` accepts, and updates them by
    /// the group's rule. The next values take effect after the step, all or none: nothing changes if any loss or gradient
    /// norm of the step is not finite.
    #[track_caller]
    pub fn update(&mut self, group: &str, loss: Tensor<'g>, belongs: impl Fn(&StateSpec) -> bool) -> Option<Update<'g>> {
        self.update_groups(loss, |spec| belongs(spec).then_some(group))
    }

    /// As [`update`](Self::update) for several groups at once: `group_of` gives the name of a parameter's group, `None` where it
    /// stays as it is. The loss is differentiated once, and all gradients together have one norm, to which each group's limit is
    /// compared.
    #[track_caller]
    pub fn update_groups<'n>(
        &mut self,
        loss: Tensor<'g>,
        group_of: impl Fn(&StateSpec) -> Option<&'n str>,
    ) -> Option<Update<'g>> {
        let members = self.members(group_of)?;
        Some(self.update_members(loss, &members))
    }

    #[track_caller]
    pub(super) fn update_members(&mut self, loss: Tensor<'g>, members: &[Member<'g>]) -> Update<'g> {
        let values: Vec<Tensor<'g>> = members.iter().map(|m| m.value).collect();
        let gradients = loss.grad(&values);
        self.apply(loss, members, gradients)
    }

    /// The parameters traced so far that belong to a group.
    #[track_caller]
    pub(super) fn members<'n>(&self, group_of: impl Fn(&StateSpec) -> Option<&'n str>) -> Option<Vec<Member<'g>>> {
        let mut members = Vec::new();
        for (spec, value) in self.scope.parameters() {
            let Some(name) = group_of(&spec) else { continue };
            let Some(group) = self.groups.0.iter().position(|g| g.name == name) else {
                let names: Vec<&str> = self.groups.0.iter().map(|g| g.name.as_str()).collect();
                self.builder().fail("update", &[], format!("there is no group `{name}`; there are {names:?}"));
                return None;
            };
            members.push(Member { spec, value, group });
        }
        Some(members)
    }

    /// Updates parameters by gradients of a loss.
    pub(super) fn apply(&mut self, loss: Tensor<'g>, members: &[Member<'g>], gradients: Vec<Tensor<'g>>) -> Update<'g> {
        let b = self.builder();
        // Formed in f64 the sum of f32 squares cannot overflow: it is finite exactly if every square is.
        let square = |g: &Tensor<'g>| (*g * *g).reduce_in(DType::F64, Reducer::Sum, &(0..g.rank()).collect::<Vec<_>>());
        let total = gradients.iter().map(square).reduce(|a, b| a + b).unwrap_or_else(|| b.scalar(DType::F64, 0.0));
        let norm = total.sqrt().convert(loss.dtype());
        let finite = total.is_finite() & loss.is_finite();
        let rules: Vec<Rule<'g>> = (0..self.groups.0.len()).map(|at| self.rule(at, loss, norm)).collect();
        for (member, gradient) in members.iter().zip(gradients) {
            self.update_one(&rules[member.group], member, gradient);
        }
        self.finite = Some(self.finite.map_or(finite, |f| f & finite));
        Update { norm, finite }
    }

    /// How a group's parameters are updated where the gradients have a norm.
    fn rule(&self, at: usize, loss: Tensor<'g>, norm: Tensor<'g>) -> Rule<'g> {
        let (hyper, group) = (self.hyper_of(at, loss.dtype()), &self.groups.0[at]);
        let scale = group.clip_norm.map(|_| (hyper.get("clip_norm", loss) / (norm + CLIP_EPS)).minimum(1.0));
        let largest = group.clip_value.map(|_| hyper.get("clip_value", loss));
        Rule { at, hyper, scale, largest }
    }

    fn update_one(&mut self, rule: &Rule<'g>, member: &Member<'g>, gradient: Tensor<'g>) {
        let (b, spec) = (self.builder(), &member.spec);
        let _layer = b.scope(&spec.layer);
        let group = &self.groups.0[rule.at];
        let gradient = rule.scale.map_or(gradient, |s| gradient * s);
        let gradient = rule.largest.map_or(gradient, |limit| gradient.maximum(-limit).minimum(limit));
        let kept: Vec<StateSpec> = group.optimizer.slots().iter().map(|slot| slot_spec(slot, spec)).collect();
        let slots: Vec<Tensor<'g>> = kept.iter().map(|s| b.input(s.name.clone(), Role::State, s.ty.clone())).collect();
        let (next, next_slots) = group.optimizer.update(&rule.hyper, member.value, gradient, &slots);
        self.changes.push((spec.name.clone(), member.value, next));
        for ((spec, old), new) in kept.iter().zip(slots).zip(next_slots) {
            self.changes.push((spec.name.clone(), old, new));
        }
        self.slots.extend(kept);
        if group.ema.is_some() {
            self.average(&rule.hyper, spec, next);
        }
    }

    /// Moves the average of a parameter or statistic on to its next value.
    fn average(&mut self, hyper: &Hyper<'g>, spec: &StateSpec, next: Tensor<'g>) {
        let average = StateSpec { name: format!("{EMA}{}", spec.name), kind: StateKind::Optimizer, ..spec.clone() };
        let old = self.builder().input(average.name.clone(), Role::State, average.ty.clone());
        let new = old * hyper.get("ema_kept", next) + next * hyper.get("ema_entering", next);
        self.changes.push((average.name.clone(), old, new));
        self.slots.push(average);
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
    fn finish(mut self) -> Vec<StateSpec> {
        let b = self.builder();
        let statistics = self.scope.updates();
        // Statistics belong to no group: they are averaged as the parameters of the first group that is.
        if let Some(at) = self.groups.0.iter().position(|g| g.ema.is_some()) {
            let hyper = self.hyper_of(at, self.scope.dtype());
            statistics.iter().for_each(|(spec, _, new)| self.average(&hyper, spec, *new));
        }
        let statistics = statistics.into_iter().map(|(spec, old, new)| (spec.name, old, new));
        let finite = self.finite.map(|finite| self.clear.map_or(finite, |clear| finite & clear));
        for (name, old, new) in self.changes.into_iter().chain(statistics) {
            b.output(name, Role::State, finite.map_or(new, |f| f.select(new, old)));
        }
        if let Some(finite) = finite {
            b.output(FINITE, Role::Data, finite.convert(DType::F32));
            self.clear.iter().for_each(|_| b.output(CLEAR, Role::State, finite));
        }
        self.scope.specs().into_iter().chain(self.slots).collect()
    }
}

/// A parameter that is updated.
pub(super) struct Member<'g> {
    spec: StateSpec,
    pub(super) value: Tensor<'g>,
    /// Position of its group.
    group: usize,
}

impl Member<'_> {
    pub(super) fn name(&self) -> &str {
        &self.spec.name
    }
}

/// How the parameters of one group are updated.
struct Rule<'g> {
    /// Position of the group.
    at: usize,
    hyper: Hyper<'g>,
    /// Factor on the gradient that brings it to the largest norm.
    scale: Option<Tensor<'g>>,
    /// Largest magnitude of the gradient's elements.
    largest: Option<Tensor<'g>>,
}

/// The optimizer state of a parameter: `optimizer/SLOT/PARAMETER`.
fn slot_spec(slot: &Slot, parameter: &StateSpec) -> StateSpec {
    StateSpec {
        name: format!("optimizer/{}/{}", slot.name, parameter.name),
        init: if slot.init == 0.0 { Init::Zeros } else { Init::Constant { value: slot.init } },
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
        let mut trace = StepTrace { scope, groups, hyper, changes: Vec::new(), slots: Vec::new(), finite: None, clear: None };
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
    let first = |s: &StateSpec| {
        // An average begins as what it is of.
        let name = s.name.strip_prefix(EMA).unwrap_or(&s.name);
        Ok((s.name.clone(), s.init.sample(name, seed, &s.ty).map_err(Error::Run)?))
    };
    specs.iter().map(first).collect()
}
