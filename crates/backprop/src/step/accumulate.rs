//! Gradient accumulation: a batch is taken in parts, one after the other, whose sums are added and divided once.
//!
//! A part is a batch of its own for everything that looks across rows: batch norm normalises within it, and its running statistics
//! are moved on by every part. Random draws are those of the whole batch, where rows are their first dimension.

use super::{Step, StepTrace, Update, random_inputs, standard::Measured};
use crate::nn::{Scope, ScopeRecord, StateSpec};
use backprop_core::{
    Builder, DType, Tensor, Type,
    graph::Role,
    op::{Barrier, ScanSpec, scan},
    random::Randomness,
};
use std::collections::HashMap;

/// What a first trace of a part finds out.
struct Interface {
    /// Parameters and statistics.
    specs: Vec<StateSpec>,
    /// Positions of the statistics that change.
    changed: Vec<usize>,
    /// Types of the loss's sum and weight and of the sums of metrics.
    sums: Vec<Type>,
}

/// How a batch is taken in parts.
struct Accumulation<'s> {
    step: &'s Step,
    interface: Interface,
    /// Positions of the parameters that gradients are taken of.
    wanted: Vec<usize>,
    /// What the first part left. Each part begins as if there were none before it, so that all draw from the same streams.
    traced: Option<Traced>,
}

/// One part, or several: gradients of the loss's sum, then the sums; and the statistics after it.
struct Taken<'b> {
    sums: Vec<Tensor<'b>>,
    statistics: Vec<Tensor<'b>>,
}

impl<'b> Taken<'b> {
    /// The sums of both, and the statistics as the later one left them.
    fn plus(self, later: Taken<'b>) -> Taken<'b> {
        let sums = self.sums.iter().zip(&later.sums).map(|(sum, more)| *sum + *more).collect();
        Taken { sums, statistics: later.statistics }
    }
}

/// Traces the step on a batch in at most `parts` parts, of equal rows but for the last.
pub(super) fn trace<'g>(step: &Step, t: &mut StepTrace<'g>, [x, y]: [Tensor<'g>; 2], parts: usize) -> Option<Update<'g>> {
    let each = x.dim(0).div_ceil(parts).max(1);
    let interface = discover(step, &t.scope, [x, y].map(|batch| rows_of(batch, each)));
    let state: Vec<Tensor<'g>> = interface.specs.iter().map(|spec| t.scope.adopt(spec)).collect();
    step.check_groups(&t.scope);
    let members = step.members(t)?;
    let position = |name: &str| interface.specs.iter().position(|s| s.name == name);
    let wanted = members.iter().filter_map(|m| position(m.name())).collect();
    let mut accumulation = Accumulation { step, interface, wanted, traced: None };
    let taken = accumulation.batch(&t.scope, &state, [x, y], each)?;
    for (&at, &value) in accumulation.interface.changed.iter().zip(&taken.statistics) {
        t.scope.set_adopted(&accumulation.interface.specs[at].name, value);
    }
    let (gradients, sums) = taken.sums.split_at(members.len());
    let (record, names) = accumulation.traced?;
    t.scope.absorb(record);
    let measured = Measured::from_sums(sums, names)?;
    step.give(t, &measured);
    let gradients = gradients.iter().map(|g| *g / measured.loss.weight).collect();
    Some(t.apply(measured.loss.mean(), &members, gradients))
}

impl Accumulation<'_> {
    /// The parts of equal rows in a loop, then the rest.
    fn batch<'g>(&mut self, scope: &Scope<'g>, state: &[Tensor<'g>], [x, y]: [Tensor<'g>; 2], each: usize) -> Option<Taken<'g>> {
        let (rows, whole) = (x.dim(0), x.dim(0) / each);
        let mut taken: Option<Taken<'g>> = None;
        if whole > 1 {
            taken = Some(self.parts(scope, state, [x, y], whole, each)?);
        }
        let mut at = if whole > 1 { whole * each } else { 0 };
        while at < rows {
            let end = rows.min(at + each);
            let part = [x, y].map(|batch| batch.slice_dim(0, at, end));
            let first = scope.builder().scalar(DType::U32, at as f64);
            let random = scope.randomness().map(|r| Randomness { offset: first, rows: Some(end - at), ..r });
            let (next, traced) = self.part(scope, &self.with_statistics(state, taken.as_ref()), random, part);
            self.traced.get_or_insert(traced);
            taken = Some(match taken {
                Some(before) => before.plus(next),
                None => next,
            });
            at = end;
        }
        taken
    }

    /// Several parts of `each` rows in one loop.
    fn parts<'g>(
        &mut self,
        scope: &Scope<'g>,
        state: &[Tensor<'g>],
        batch: [Tensor<'g>; 2],
        length: usize,
        each: usize,
    ) -> Option<Taken<'g>> {
        let b = scope.builder();
        let random = scope.randomness()?;
        let changes = |i: &usize| self.interface.changed.contains(i);
        let fixed = (0..state.len()).filter(|i| !changes(i)).map(|i| state[i]);
        let constants: Vec<Tensor<'g>> = [random.seed, random.step].into_iter().chain(fixed).collect();
        let gradients = self.wanted.iter().map(|&i| &self.interface.specs[i].ty);
        let zeros = gradients.chain(&self.interface.sums).map(|ty| b.zeros(ty.clone()));
        let mut init: Vec<Tensor<'g>> = zeros.collect();
        let count = init.len();
        init.extend(self.interface.changed.iter().map(|&i| state[i]));
        let stacked = |batch: Tensor<'g>| {
            let shape: Vec<usize> = [length, each].into_iter().chain(batch.shape().iter().skip(1).copied()).collect();
            batch.slice_dim(0, 0, length * each).reshape(shape)
        };
        let first_rows = b.iota(Type::new(DType::U32, [length]), 0) * each as f64;
        let xs = [stacked(batch[0]), stacked(batch[1]), first_rows];
        let mut record = None;
        let (last, _) = scan(b, ScanSpec { length, reverse: false }, &constants, &init, &xs, |constants, carried, slices| {
            let (mut fixed, mut moving) = (constants[2..].iter(), carried[count..].iter());
            let value = |i: usize| if changes(&i) { moving.next() } else { fixed.next() };
            let state: Vec<Tensor<'_>> = (0..self.interface.specs.len()).filter_map(value).copied().collect();
            let random = Randomness { seed: constants[0], step: constants[1], offset: slices[2], rows: Some(each) };
            let (part, inner) = self.part(scope, &state, Some(random), [slices[0], slices[1]]);
            record = Some(inner);
            let sums = carried[..count].iter().zip(&part.sums).map(|(sum, more)| *sum + *more);
            (sums.chain(part.statistics.iter().copied()).collect(), Vec::new())
        });
        self.traced = record;
        let (sums, statistics) = last.split_at(count.min(last.len()));
        Some(Taken { sums: sums.to_vec(), statistics: statistics.to_vec() })
    }

    /// The state with the statistics as the parts so far left them.
    fn with_statistics<'g>(&self, state: &[Tensor<'g>], taken: Option<&Taken<'g>>) -> Vec<Tensor<'g>> {
        let mut state = state.to_vec();
        for (&at, &value) in self.interface.changed.iter().zip(taken.iter().flat_map(|t| &t.statistics)) {
            state[at] = value;
        }
        state
    }

    /// Traces one part in the graph that its operands are of.
    fn part<'b>(
        &self,
        outer: &Scope<'_>,
        state: &[Tensor<'b>],
        random: Option<Randomness<'b>>,
        [x, y]: [Tensor<'b>; 2],
    ) -> (Taken<'b>, Traced) {
        let (b, specs) = (x.builder(), &self.interface.specs);
        let bound: HashMap<String, Tensor<'b>> = specs.iter().map(|s| s.name.clone()).zip(state.iter().copied()).collect();
        let mut scope = Scope::body(outer, b).with_values(bound);
        if let Some(random) = random {
            scope = scope.with_randomness(random);
        }
        // The barrier keeps products with the input in the loop: of the whole batch at once their result would be as large as
        // without parts.
        let x = b.apply(Barrier {}, &[x])[0];
        let measured = self.step.measure(&mut scope, x, y);
        let wanted: Vec<Tensor<'b>> = self.wanted.iter().filter_map(|&i| state.get(i)).copied().collect();
        let mut sums = measured.loss.sum.grad(&wanted);
        sums.extend(measured.sums());
        let updates: HashMap<String, Tensor<'b>> = scope.updates().into_iter().map(|(s, _, new)| (s.name, new)).collect();
        let statistics = self.interface.changed.iter().filter_map(|&i| updates.get(&specs[i].name)).copied().collect();
        (Taken { sums, statistics }, (scope.into_record(), measured.names()))
    }
}

/// What the trace of a part leaves: draws and table rows, and the names of the sums of metrics.
type Traced = (ScopeRecord, Vec<String>);

/// The type of the first `rows` rows of a batch.
fn rows_of(batch: Tensor<'_>, rows: usize) -> Type {
    Type { dtype: batch.dtype(), shape: std::iter::once(rows).chain(batch.shape().iter().skip(1).copied()).collect() }
}

/// Traces a part into a graph that is thrown away.
fn discover(step: &Step, outer: &Scope<'_>, [x, y]: [Type; 2]) -> Interface {
    let b = Builder::new();
    let mut scope = Scope::body(outer, &b).with_randomness(random_inputs(&b));
    let (x, y) = (b.input("x", Role::Data, x), b.input("y", Role::Data, y));
    let measured = step.measure(&mut scope, x, y);
    let (specs, updates) = (scope.specs(), scope.updates());
    let changed = (0..specs.len()).filter(|&i| updates.iter().any(|(s, ..)| s.name == specs[i].name)).collect();
    Interface { specs, changed, sums: measured.sums().iter().map(Tensor::ty).collect() }
}
