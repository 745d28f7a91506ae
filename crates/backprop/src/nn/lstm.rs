use super::{Dropout, Layer, Scope};
use crate::init::{Init, bound_of_fan_in};
use backprop_core::{
    Tensor, Type,
    op::{ScanSpec, composite, scan},
};
use serde::{Deserialize, Serialize};

/// Long short-term memory over `[N, T, F]`, from zero states: every hidden state `[N, T, H]`, or the last `[N, H]`.
/// Parameters of layer k: `weight_ih_lk` `[4H, in]`, `weight_hh_lk` `[4H, H]`, `bias_ih_lk`, `bias_hh_lk` `[4H]`, gates in the order
/// input, forget, cell, output. Hochreiter and Schmidhuber, "Long Short-Term Memory"; gates as PyTorch defines them.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lstm {
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
    /// Whether only the last time step's hidden state is returned.
    #[serde(default)]
    pub last_step: bool,
}

/// Hidden states of every step `[N, T, H]`, and hidden and cell state of every layer after the last step.
pub struct LstmOutput<'g> {
    /// Hidden states of the last layer, `[N, T, H]`.
    pub sequence: Tensor<'g>,
    /// Last hidden state of each layer, `[N, H]`.
    pub hidden: Vec<Tensor<'g>>,
    /// Last cell state of each layer, `[N, H]`.
    pub cell: Vec<Tensor<'g>>,
}

impl Lstm {
    /// One layer with biases that returns every hidden state.
    pub fn new(hidden_size: usize) -> Lstm {
        Lstm { hidden_size, num_layers: 1, bias: true, dropout: 0.0, last_step: false }
    }

    /// Layers on top of each other.
    pub fn num_layers(mut self, num_layers: usize) -> Lstm {
        self.num_layers = num_layers;
        self
    }

    /// With or without biases.
    pub fn bias(mut self, bias: bool) -> Lstm {
        self.bias = bias;
        self
    }

    /// Probability of dropping elements between layers while training.
    pub fn dropout(mut self, p: f64) -> Lstm {
        self.dropout = p;
        self
    }

    /// Whether only the last time step's hidden state is returned.
    pub fn last_step(mut self, last_step: bool) -> Lstm {
        self.last_step = last_step;
        self
    }

    /// Traces the layer from given states: hidden and cell `[N, H]` for each layer, zeros where there is none.
    pub fn forward_from<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>, states: &[(Tensor<'g>, Tensor<'g>)]) -> LstmOutput<'g> {
        let mut output = LstmOutput { sequence: x, hidden: Vec::new(), cell: Vec::new() };
        if self.hidden_size == 0 || self.num_layers == 0 || x.rank() != 3 || x.dtype() != cx.dtype() {
            let message = "needs positive hidden_size and num_layers, and a floating-point input [N, T, F]";
            output.sequence = cx.builder().fail("lstm", &[x.ty()], message.into());
            (output.hidden, output.cell) = (vec![output.sequence], vec![output.sequence]);
            return output;
        }
        let zeros = cx.builder().zeros(Type::new(x.dtype(), [x.dim(0), self.hidden_size]));
        for k in 0..self.num_layers {
            if k > 0 && self.dropout != 0.0 {
                output.sequence = Dropout::new(self.dropout).forward(cx, output.sequence);
            }
            let (hidden, cell) = states.get(k).copied().unwrap_or((zeros, zeros));
            let parameters = self.parameters(cx, k, output.sequence.dim(-1));
            let [sequence, hidden, cell] = sequence(output.sequence, hidden, cell, &parameters);
            output.sequence = sequence;
            output.hidden.push(hidden);
            output.cell.push(cell);
        }
        output
    }

    fn parameters<'g>(&self, cx: &mut Scope<'g>, k: usize, features: usize) -> Vec<Tensor<'g>> {
        let (h, init) = (self.hidden_size, Init::uniform(bound_of_fan_in(self.hidden_size)));
        let mut parameters = vec![
            cx.param(&format!("weight_ih_l{k}"), [4 * h, features], &init),
            cx.param(&format!("weight_hh_l{k}"), [4 * h, h], &init),
        ];
        if self.bias {
            parameters.push(cx.param(&format!("bias_ih_l{k}"), [4 * h], &init));
            parameters.push(cx.param(&format!("bias_hh_l{k}"), [4 * h], &init));
        }
        parameters
    }
}

impl Layer for Lstm {
    fn forward<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let output = self.forward_from(cx, x, &[]);
        match output.hidden.last() {
            Some(&hidden) if self.last_step => hidden,
            _ => output.sequence,
        }
    }
}

/// One layer over the whole sequence: the input's products for all time steps at once, then the recurrence.
/// Results: hidden states `[N, T, H]`, last hidden state, last cell state.
#[track_caller]
fn sequence<'g>(x: Tensor<'g>, hidden: Tensor<'g>, cell: Tensor<'g>, parameters: &[Tensor<'g>]) -> [Tensor<'g>; 3] {
    let operands = [&[x, hidden, cell], parameters].concat();
    let (length, h) = (x.dim(1), hidden.dim(-1));
    let outputs = composite(x.builder(), "lstm_sequence", &operands, |b, o| {
        let projected = o[0].transpose(&[1, 0, 2]).linear(o[3]);
        let projected = if o.len() > 5 { projected + (o[5] + o[6]) } else { projected };
        let step = ScanSpec { length, reverse: false };
        let (last, stacked) = scan(b, step, &[o[4]], &[o[1], o[2]], &[projected], |constants, carried, slices| {
            let gates = slices[0] + carried[0].linear(constants[0]);
            let gate = |k: usize| gates.slice_dim(1, k * h, (k + 1) * h);
            let cell = gate(1).logistic() * carried[1] + gate(0).logistic() * gate(2).tanh();
            let hidden = gate(3).logistic() * cell.tanh();
            (vec![hidden, cell], vec![hidden])
        });
        vec![stacked[0].transpose(&[1, 0, 2]), last[0], last[1]]
    });
    let at = |i: usize| outputs.get(i).copied().unwrap_or(x);
    [at(0), at(1), at(2)]
}
