use super::{Dropout, Layer, Scope};
use crate::init::{Init, bound_of_fan_in};
use backprop_core::{
    Tensor, Type,
    sequence::{Direction, SequenceCell, sequence},
};
use serde::{Deserialize, Serialize};

/// What a recurrent unit makes of its sum with the state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Nonlinearity {
    /// Hyperbolic tangent.
    #[default]
    Tanh,
    /// max(x, 0).
    Relu,
}

macro_rules! recurrent {
    ($($(#[$doc:meta])* $layer:ident { $($(#[$attribute:meta])* $option:ident: $ty:ty = $default:expr),* })*) => { $(
        $(#[$doc])*
        ///
        /// From zero states, or others by `forward_from`: every hidden state `[N, T, H]`, or the last `[N, H]`. With a
        /// [padding mask](Scope::padding_mask) the steps of padding change no state and give zeros, so that each sequence gets what it
        /// gets alone. Both directions stand side by side, `[N, T, 2H]`; the last step is then the forward direction's last and the
        /// backward direction's first, each of them the state after a whole sequence. Parameters of the backward direction
        /// end in `_reverse`.
        #[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $layer {
            /// Extent of the hidden state.
            pub hidden_size: usize,
            /// Layers on top of each other.
            #[serde(default = "super::spec_one")]
            pub num_layers: usize,
            /// Whether there are biases.
            #[serde(default = "super::spec_true")]
            pub bias: bool,
            /// Probability of dropping elements between layers while training.
            #[serde(default)]
            pub dropout: f64,
            /// Whether a second recurrence runs from the last step to the first.
            #[serde(default)]
            pub bidirectional: bool,
            /// Whether only the last time step's hidden state is returned.
            #[serde(default)]
            pub last_step: bool,
            $($(#[$attribute])* #[serde(default)] pub $option: $ty,)*
        }

        impl $layer {
            /// One layer with biases that returns every hidden state.
            pub fn new(hidden_size: usize) -> $layer {
                $layer {
                    hidden_size, num_layers: 1, bias: true, dropout: 0.0, bidirectional: false, last_step: false, $($option: $default),*
                }
            }

            /// Layers on top of each other.
            pub fn num_layers(mut self, num_layers: usize) -> $layer {
                self.num_layers = num_layers;
                self
            }

            /// With or without biases.
            pub fn bias(mut self, bias: bool) -> $layer {
                self.bias = bias;
                self
            }

            /// Probability of dropping elements between layers while training.
            pub fn dropout(mut self, p: f64) -> $layer {
                self.dropout = p;
                self
            }

            /// Whether a second recurrence runs from the last step to the first.
            pub fn bidirectional(mut self, bidirectional: bool) -> $layer {
                self.bidirectional = bidirectional;
                self
            }

            /// Whether only the last time step's hidden state is returned.
            pub fn last_step(mut self, last_step: bool) -> $layer {
                self.last_step = last_step;
                self
            }

            $($(#[$attribute])*
            pub fn $option(mut self, $option: $ty) -> $layer {
                self.$option = $option;
                self
            })*

            fn stack(&self, cell: Cell) -> Stack {
                Stack {
                    cell,
                    hidden: self.hidden_size,
                    layers: self.num_layers,
                    bias: self.bias,
                    dropout: self.dropout,
                    directions: 1 + usize::from(self.bidirectional),
                }
            }
        }

        impl Layer for $layer {
            fn forward<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
                let output = self.forward_from(cx, x, &[]);
                let directions = 1 + usize::from(self.bidirectional);
                match output.hidden[output.hidden.len().saturating_sub(directions)..] {
                    [forward] if self.last_step => forward,
                    [forward, backward] if self.last_step => forward.concatenate(&[backward], 1),
                    _ => output.sequence,
                }
            }
        }
    )* };
}

recurrent! {
    /// Recurrent units over `[N, T, F]`: h' = tanh(W·x + U·h + b). Parameters of layer k: `weight_ih_lk` `[H, in]`, `weight_hh_lk` `[H, H]`,
    /// `bias_ih_lk`, `bias_hh_lk` `[H]`. Elman, "Finding Structure in Time".
    Rnn {
        /// What a unit makes of its sum with the state.
        nonlinearity: Nonlinearity = Nonlinearity::Tanh
    }
    /// Gated recurrent units over `[N, T, F]`. Parameters of layer k: `weight_ih_lk` `[3H, in]`, `weight_hh_lk` `[3H, H]`, `bias_ih_lk`,
    /// `bias_hh_lk` `[3H]`, in the order reset, update, new; the reset gate multiplies U·h + `bias_hh`, as in PyTorch. Cho et al.,
    /// "Learning Phrase Representations using RNN Encoder–Decoder".
    Gru {}
    /// Long short-term memory over `[N, T, F]`. Parameters of layer k: `weight_ih_lk` `[4H, in]`, `weight_hh_lk` `[4H, H]`, `bias_ih_lk`,
    /// `bias_hh_lk` `[4H]`, gates in the order input, forget, cell, output. Hochreiter and Schmidhuber, "Long Short-Term Memory";
    /// gates as PyTorch defines them.
    Lstm {}
}

impl Rnn {
    /// Traces the layer from given hidden states `[N, H]`: one for each layer and direction (forward first), zeros where there is none.
    pub fn forward_from<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>, states: &[Tensor<'g>]) -> RecurrentOutput<'g> {
        let cell = Cell::Rnn(self.nonlinearity);
        self.stack(cell).run(cx, x, &states.iter().map(|&h| vec![h]).collect::<Vec<_>>()).into()
    }
}

impl Gru {
    /// Traces the layer from given hidden states `[N, H]`: one for each layer and direction (forward first), zeros where there is none.
    pub fn forward_from<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>, states: &[Tensor<'g>]) -> RecurrentOutput<'g> {
        self.stack(Cell::Gru).run(cx, x, &states.iter().map(|&h| vec![h]).collect::<Vec<_>>()).into()
    }
}

impl Lstm {
    /// Traces the layer from given states: hidden and cell `[N, H]` for each layer and direction (forward first), zeros where there is
    /// none.
    pub fn forward_from<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>, states: &[(Tensor<'g>, Tensor<'g>)]) -> LstmOutput<'g> {
        let run = self.stack(Cell::Lstm).run(cx, x, &states.iter().map(|&(h, c)| vec![h, c]).collect::<Vec<_>>());
        let state = |i: usize| run.states.iter().map(|s| s[i]).collect();
        LstmOutput { sequence: run.sequence, hidden: state(0), cell: state(1) }
    }
}

/// What [`Rnn`] and [`Gru`] give.
pub struct RecurrentOutput<'g> {
    /// Hidden states of the last layer, `[N, T, H]`, or `[N, T, 2H]` of both directions.
    pub sequence: Tensor<'g>,
    /// Hidden state of each layer and direction after its last step, `[N, H]`.
    pub hidden: Vec<Tensor<'g>>,
}

impl<'g> From<Run<'g>> for RecurrentOutput<'g> {
    fn from(run: Run<'g>) -> RecurrentOutput<'g> {
        RecurrentOutput { sequence: run.sequence, hidden: run.states.iter().map(|s| s[0]).collect() }
    }
}

/// What [`Lstm`] gives.
pub struct LstmOutput<'g> {
    /// Hidden states of the last layer, `[N, T, H]`, or `[N, T, 2H]` of both directions.
    pub sequence: Tensor<'g>,
    /// Hidden state of each layer and direction after its last step, `[N, H]`.
    pub hidden: Vec<Tensor<'g>>,
    /// Cell state of each layer and direction after its last step, `[N, H]`.
    pub cell: Vec<Tensor<'g>>,
}

/// The function of one time step.
#[derive(Clone, Copy)]
enum Cell {
    Rnn(Nonlinearity),
    Gru,
    Lstm,
}

impl Cell {
    fn name(self) -> &'static str {
        match self {
            Cell::Rnn(_) => "rnn",
            Cell::Gru => "gru",
            Cell::Lstm => "lstm",
        }
    }

    fn kind(self) -> SequenceCell {
        match self {
            Cell::Rnn(Nonlinearity::Tanh) => SequenceCell::Tanh,
            Cell::Rnn(Nonlinearity::Relu) => SequenceCell::Relu,
            Cell::Gru => SequenceCell::Gru,
            Cell::Lstm => SequenceCell::Lstm,
        }
    }
}

/// Layers of one kind of cell on top of each other.
struct Stack {
    cell: Cell,
    hidden: usize,
    layers: usize,
    bias: bool,
    dropout: f64,
    directions: usize,
}

/// The last layer's sequence, and the states of each layer and direction after its last step.
struct Run<'g> {
    sequence: Tensor<'g>,
    states: Vec<Vec<Tensor<'g>>>,
}

impl Stack {
    fn run<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>, first: &[Vec<Tensor<'g>>]) -> Run<'g> {
        let keep = match self.check(cx, x, first).and_then(|()| cx.keep_mask(x)) {
            Ok(keep) => keep,
            Err(message) => {
                let stand_in = cx.builder().fail(self.cell.name(), &[x.ty()], message);
                return Run { sequence: stand_in, states: vec![vec![stand_in; 2]] };
            }
        };
        // Whatever stands in the padding, its products with weights and cotangents must be 0.
        let mut sequence = keep.map_or(x, |keep| keep_positions(keep, x));
        let zeros = vec![cx.builder().zeros(Type::new(x.dtype(), [x.dim(0), self.hidden])); self.cell.kind().states()];
        let mut states = Vec::new();
        for layer in 0..self.layers {
            if layer > 0 && self.dropout != 0.0 {
                sequence = Dropout::new(self.dropout).forward(cx, sequence);
            }
            let mut directions = Vec::new();
            for reverse in [false, true].into_iter().take(self.directions) {
                let parameters = self.parameters(cx, layer, reverse, sequence.dim(-1));
                let first = first.get(states.len() + directions.len()).unwrap_or(&zeros);
                directions.push(self.direction(sequence, first, &parameters));
            }
            let (hidden, last) = self.sequence(&directions, keep);
            sequence = hidden;
            states.extend(last);
        }
        Run { sequence, states }
    }

    /// What is wrong with the options, the input or the first states.
    fn check<'g>(&self, cx: &Scope<'g>, x: Tensor<'g>, first: &[Vec<Tensor<'g>>]) -> Result<(), String> {
        if self.hidden == 0 || self.layers == 0 || x.rank() != 3 || x.dtype() != cx.dtype() {
            return Err("needs positive hidden_size and num_layers, and a floating-point input [N, T, F]".into());
        }
        let (count, wanted) = (self.layers * self.directions, Type::new(x.dtype(), [x.dim(0), self.hidden]));
        if first.len() > count {
            return Err(format!(
                "takes at most {count} states, one for each layer and direction, but {} were given",
                first.len()
            ));
        }
        match first.iter().flatten().find(|state| state.ty() != wanted) {
            Some(other) => Err(format!("each first state must be {wanted}, got {}", other.ty())),
            None => Ok(()),
        }
    }

    fn parameters<'g>(&self, cx: &mut Scope<'g>, layer: usize, reverse: bool, features: usize) -> Vec<Tensor<'g>> {
        let (h, init) = (self.hidden, Init::uniform(bound_of_fan_in(self.hidden)));
        let (rows, end) = (self.cell.kind().gates().saturating_mul(h), if reverse { "_reverse" } else { "" });
        let mut parameters = vec![
            cx.param(&format!("weight_ih_l{layer}{end}"), [rows, features], &init),
            cx.param(&format!("weight_hh_l{layer}{end}"), [rows, h], &init),
        ];
        if self.bias {
            parameters.push(cx.param(&format!("bias_ih_l{layer}{end}"), [rows], &init));
            parameters.push(cx.param(&format!("bias_hh_l{layer}{end}"), [rows], &init));
        }
        parameters
    }

    /// What a layer's recurrence in one direction begins with: the input's products for all time steps at once.
    #[track_caller]
    fn direction<'g>(&self, x: Tensor<'g>, first: &[Tensor<'g>], parameters: &[Tensor<'g>]) -> Direction<'g> {
        let mut input = x.transpose(&[1, 0, 2]).linear(parameters[0]);
        let mut bias = None;
        match (parameters.get(2), parameters.get(3)) {
            (Some(&of_input), Some(&recurrent)) if matches!(self.cell, Cell::Gru) => {
                input = input + of_input;
                bias = Some(recurrent);
            }
            (Some(&of_input), Some(&recurrent)) => input = input + (of_input + recurrent),
            _ => {}
        }
        Direction { input, weight: parameters[1], first: first.to_vec(), bias }
    }

    /// One layer over the whole sequence. Hidden states `[N, T, H]`, and each direction's states after its last step.
    #[track_caller]
    fn sequence<'g>(&self, directions: &[Direction<'g>], keep: Option<Tensor<'g>>) -> (Tensor<'g>, Vec<Vec<Tensor<'g>>>) {
        let states = sequence(self.cell.kind(), directions, keep.map(Tensor::t));
        let hidden: Vec<Tensor> = states.iter().map(|states| states[0]).collect();
        let hidden = if let [forward, backward] = hidden[..] { forward.concatenate(&[backward], 2) } else { hidden[0] };
        let hidden = keep.map_or(hidden, |keep| keep_positions(keep.t(), hidden));
        let last = |(d, states): (usize, &Vec<Tensor<'g>>)| {
            let length = directions[d].input.dim(0);
            let Some(end) = length.checked_sub(1) else { return directions[d].first.clone() };
            let at = if d == 0 { end } else { 0 };
            states.iter().map(|s| s.slice_dim(0, at, at + 1).reshape([s.dim(1), s.dim(2)])).collect()
        };
        let last = states.iter().enumerate().map(last).collect();
        (hidden.transpose(&[1, 0, 2]), last)
    }
}

/// `[N, T, F]` with zeros where `keep` `[N, T]` is false, or both in the order of time.
pub(super) fn keep_positions<'g>(keep: Tensor<'g>, x: Tensor<'g>) -> Tensor<'g> {
    keep.broadcast_in_dim(x.shape(), &[0, 1]).select(x, x.builder().zeros(x.ty()))
}
