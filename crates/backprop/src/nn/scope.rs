use super::{Layer, LayerRow};
use crate::init::Init;
use backprop_core::{
    Builder, DType, Shape, Tensor, Type,
    graph::Role,
    random::{self, Randomness},
};
use std::collections::HashMap;

/// Whether a graph trains (dropout drops, batch norm uses the batch's statistics) or evaluates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Training step.
    Train,
    /// Evaluation or prediction.
    Evaluate,
}

/// What a named tensor that lives between steps is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StateKind {
    /// Changed by an optimizer.
    Parameter,
    /// Changed by the layer itself, such as a running mean.
    Statistic,
    /// Kept by an optimizer for a parameter.
    Optimizer,
}

/// A named tensor that lives between steps: what it is, and what it is at first.
#[derive(Clone, PartialEq, Debug)]
pub struct StateSpec {
    /// Full name, such as `layers.0.weight`.
    pub name: String,
    /// Path of the layer that asked for it, such as `layers.0`.
    pub layer: String,
    /// Element type and shape.
    pub ty: Type,
    /// First value.
    pub init: Init,
    /// Who changes it.
    pub kind: StateKind,
}

struct Entry<'g> {
    spec: StateSpec,
    value: Tensor<'g>,
    update: Option<Tensor<'g>>,
}

/// What layers see while they are traced: parameters and statistics by name, the mode, random numbers, the path.
pub struct Scope<'g> {
    builder: &'g Builder,
    dtype: DType,
    mode: Mode,
    randomness: Option<Randomness<'g>>,
    path: String,
    entries: Vec<Entry<'g>>,
    index: HashMap<String, usize>,
    /// Number of draws so far, by layer path.
    draws: HashMap<String, u64>,
    rows: Vec<LayerRow>,
    /// State that is given instead of being an input, by full name.
    bound: HashMap<String, Tensor<'g>>,
    /// Which positions are padding.
    pub(super) padding: Option<Tensor<'g>>,
}

impl<'g> Scope<'g> {
    /// A scope whose parameters become state inputs of `builder`, with element type `dtype` (`f32`, or `f64` for checks).
    pub fn new(builder: &'g Builder, dtype: DType, mode: Mode) -> Scope<'g> {
        Scope {
            builder,
            dtype,
            mode,
            randomness: None,
            path: String::new(),
            entries: Vec::new(),
            index: HashMap::new(),
            draws: HashMap::new(),
            rows: Vec::new(),
            bound: HashMap::new(),
            padding: None,
        }
    }

    /// Where random numbers come from; needed by dropout while training.
    pub fn with_randomness(mut self, randomness: Randomness<'g>) -> Scope<'g> {
        self.randomness = Some(randomness);
        self
    }

    /// Tensors that stand for parameters and statistics of these full names, instead of state inputs: weights that are computed, or
    /// shared with another part of the graph.
    pub fn with_values(mut self, values: HashMap<String, Tensor<'g>>) -> Scope<'g> {
        self.bound = values;
        self
    }

    /// A scope for the body of a region of `outer`: same path, mode and draws.
    pub(crate) fn body(outer: &Scope<'_>, builder: &'g Builder) -> Scope<'g> {
        let mut scope = Scope::new(builder, outer.dtype, outer.mode);
        scope.path.clone_from(&outer.path);
        scope.draws.clone_from(&outer.draws);
        scope
    }

    /// Takes over the draws and table rows of a region's body.
    pub(crate) fn absorb(&mut self, body: ScopeRecord) {
        self.draws = body.draws;
        self.rows.extend(body.rows);
    }

    /// What remains of a scope once its graph is gone.
    pub(crate) fn into_record(self) -> ScopeRecord {
        ScopeRecord { draws: self.draws, rows: self.rows }
    }

    /// The graph being traced.
    pub fn builder(&self) -> &'g Builder {
        self.builder
    }

    /// Element type of parameters.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Training or evaluation.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether the graph trains.
    pub fn train(&self) -> bool {
        self.mode == Mode::Train
    }

    /// Path of the layer being traced, empty at the top.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Source of random numbers, if the graph has one.
    pub fn randomness(&self) -> Option<Randomness<'g>> {
        self.randomness
    }

    /// Traces a part under the path `name` within the current one.
    pub fn child<R>(&mut self, name: &str, f: impl FnOnce(&mut Scope<'g>) -> R) -> R {
        let outer = self.path.len();
        if outer > 0 && !name.is_empty() {
            self.path.push('.');
        }
        self.path.push_str(name);
        let _guard = self.builder.scope(name);
        let result = f(self);
        self.path.truncate(outer);
        result
    }

    /// Traces a layer as the child `name` and notes it for the [layer table](super::layer_table).
    pub fn call(&mut self, name: &str, layer: &dyn Layer, x: Tensor<'g>) -> Tensor<'g> {
        self.child(name, |cx| {
            let row = cx.rows.len();
            cx.rows.push(LayerRow::new(cx.path.clone(), layer.kind(), x.ty()));
            let y = layer.forward(cx, x);
            cx.rows[row].output = y.ty();
            y
        })
    }

    /// The parameter `name` of the current layer. Asking twice for one name gives one parameter.
    #[track_caller]
    pub fn param(&mut self, name: &str, shape: impl Into<Shape>, init: &Init) -> Tensor<'g> {
        self.entry(name, shape.into(), init, StateKind::Parameter)
    }

    /// The statistic `name` of the current layer: read here, replaced by [`set_state`](Self::set_state).
    #[track_caller]
    pub fn state(&mut self, name: &str, shape: impl Into<Shape>, init: &Init) -> Tensor<'g> {
        self.entry(name, shape.into(), init, StateKind::Statistic)
    }

    /// Gives the statistic `name` of the current layer its value for the next step. No gradient flows through it.
    #[track_caller]
    pub fn set_state(&mut self, name: &str, value: Tensor<'g>) {
        let full = self.full_name(name);
        match self.index.get(&full).copied().filter(|&i| self.entries[i].spec.kind == StateKind::Statistic) {
            Some(i) => self.entries[i].update = Some(value.stop_gradient()),
            None => {
                let message = format!("`{full}` is not a statistic; ask for it with state() first");
                self.builder.fail("set_state", &[value.ty()], message);
            }
        }
    }

    /// Integers below 2³² drawn for the current layer: the source, and the stream of this call. Streams are keyed by layer path
    /// and ordinal of the call in it, so draws do not depend on what else is in the model.
    #[track_caller]
    pub fn random(&mut self) -> Option<(Randomness<'g>, u64)> {
        let Some(randomness) = self.randomness else {
            let message = "the graph has no random numbers; give the scope a source with with_randomness()";
            self.builder.fail("random", &[], message.into());
            return None;
        };
        let ordinal = self.draws.entry(self.path.clone()).or_default();
        let stream = random::stream(&self.path, *ordinal);
        *ordinal += 1;
        Some((randomness, stream))
    }

    /// Parameters and statistics in the order they were first asked for.
    pub fn specs(&self) -> Vec<StateSpec> {
        self.entries.iter().map(|e| e.spec.clone()).collect()
    }

    /// Parameters with their tensors, in the order they were first asked for.
    pub fn parameters(&self) -> Vec<(StateSpec, Tensor<'g>)> {
        let parameters = self.entries.iter().filter(|e| e.spec.kind == StateKind::Parameter);
        parameters.map(|e| (e.spec.clone(), e.value)).collect()
    }

    /// Statistics that changed: specification, value before, value after.
    pub fn updates(&self) -> Vec<(StateSpec, Tensor<'g>, Tensor<'g>)> {
        self.entries.iter().filter_map(|e| Some((e.spec.clone(), e.value, e.update?))).collect()
    }

    /// The tensor of a parameter or statistic by its full name.
    pub fn get(&self, full_name: &str) -> Option<Tensor<'g>> {
        self.index.get(full_name).map(|&i| self.entries[i].value)
    }

    /// Layers traced so far.
    pub fn rows(&self) -> &[LayerRow] {
        &self.rows
    }

    /// As [`param`](Self::param) or [`state`](Self::state) for a specification with its full name.
    #[track_caller]
    pub(crate) fn adopt(&mut self, spec: &StateSpec) -> Tensor<'g> {
        match self.index.get(&spec.name) {
            Some(&i) => self.entries[i].update.unwrap_or(self.entries[i].value),
            None => self.insert(spec.clone()),
        }
    }

    /// As [`set_state`](Self::set_state) by full name.
    pub(crate) fn set_adopted(&mut self, full_name: &str, value: Tensor<'g>) {
        if let Some(&i) = self.index.get(full_name) {
            self.entries[i].update = Some(value.stop_gradient());
        }
    }

    #[track_caller]
    fn entry(&mut self, name: &str, shape: Shape, init: &Init, kind: StateKind) -> Tensor<'g> {
        let full = self.full_name(name);
        let ty = Type::new(self.dtype, shape);
        if let Some(&i) = self.index.get(&full) {
            let entry = &self.entries[i];
            if entry.spec.ty == ty && entry.spec.kind == kind {
                return entry.update.unwrap_or(entry.value);
            }
            let message = format!("`{full}` is {} already, and is asked for as {ty}", entry.spec.ty);
            return self.builder.fail("param", &[ty], message);
        }
        self.insert(StateSpec { name: full, layer: self.path.clone(), ty, init: init.clone(), kind })
    }

    #[track_caller]
    fn insert(&mut self, spec: StateSpec) -> Tensor<'g> {
        let value = match self.bound.get(&spec.name) {
            Some(value) if value.ty() == spec.ty => *value,
            Some(value) => {
                let message = format!("`{}` must be {}, but another tensor was given for it", spec.name, spec.ty);
                self.builder.fail("param", &[value.ty()], message)
            }
            None => self.builder.input(spec.name.clone(), Role::State, spec.ty.clone()),
        };
        self.index.insert(spec.name.clone(), self.entries.len());
        self.entries.push(Entry { spec, value, update: None });
        value
    }

    fn full_name(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }
}

/// Draws and table rows of a scope.
pub(crate) struct ScopeRecord {
    draws: HashMap<String, u64>,
    rows: Vec<LayerRow>,
}
