//! Workloads W1, W2, W5, W6 and W7 in candle, on the processor, as its own layers compute them. It has no batch norm that trains on its
//! batch's statistics here, and no LSTM with a derivative of its own.

use candle_core::{D, Device, Tensor, Var};
use candle_nn::{AdamW, Optimizer, ParamsAdamW, loss, ops};
use peer::{Job, Result, Step};
use std::cell::RefCell;

const CPU: Device = Device::Cpu;
const EPS: f32 = 1e-5;

/// Parameters as they are read from the job.
#[derive(Default)]
struct Parameters(RefCell<Vec<Var>>);

impl Parameters {
    fn read(&self, job: &Job, name: &str) -> Result<Var> {
        let (sizes, values) = job.weight(name)?;
        let var = Var::from_vec(values, sizes, &CPU)?;
        self.0.borrow_mut().push(var.clone());
        Ok(var)
    }

    /// Weight and bias under one prefix; the bias is not there for every layer.
    fn pair(&self, job: &Job, prefix: &str) -> Result<Pair> {
        Ok(Pair { weight: self.read(job, &format!("{prefix}weight"))?, bias: self.read(job, &format!("{prefix}bias")).ok() })
    }
}

/// A weight with its bias.
struct Pair {
    weight: Var,
    bias: Option<Var>,
}

impl Pair {
    /// The product with each row of the last axis.
    fn linear(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let weight = self.weight.t()?;
        let y = match *x.dims() {
            [batch, tokens, features] => x.reshape((batch * tokens, features))?.matmul(&weight)?.reshape((batch, tokens, ()))?,
            _ => x.matmul(&weight)?,
        };
        match &self.bias {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    }

    fn convolution(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let y = x.conv2d(&self.weight, 0, 1, 1, 1)?;
        match &self.bias {
            Some(bias) => y.broadcast_add(&bias.reshape((1, (), 1, 1))?),
            None => Ok(y),
        }
    }

    fn norm(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let bias = self.bias.as_ref().ok_or_else(|| candle_core::Error::Msg("a norm has a bias".into()))?;
        ops::layer_norm_slow(x, &self.weight, bias, EPS)
    }
}

/// The loss of the batch as a function of the parameters that it holds.
type Loss = Box<dyn Fn() -> candle_core::Result<Tensor>>;

/// One block of the transformer.
struct Block {
    norm1: Pair,
    projection: Pair,
    output: Pair,
    norm2: Pair,
    up: Pair,
    down: Pair,
}

impl Block {
    fn read(parameters: &Parameters, job: &Job, prefix: &str) -> Result<Block> {
        let pair = |name: &str| parameters.pair(job, &format!("{prefix}{name}."));
        let attention = format!("{prefix}self_attn.");
        let projection = Pair {
            weight: parameters.read(job, &format!("{attention}in_proj_weight"))?,
            bias: Some(parameters.read(job, &format!("{attention}in_proj_bias"))?),
        };
        let output = parameters.pair(job, &format!("{attention}out_proj."))?;
        Ok(Block {
            norm1: pair("norm1")?,
            projection,
            output,
            norm2: pair("norm2")?,
            up: pair("linear1")?,
            down: pair("linear2")?,
        })
    }

    fn forward(&self, x: &Tensor, mask: &Tensor) -> candle_core::Result<Tensor> {
        let (batch, tokens, width) = x.dims3()?;
        let heads = 4;
        let size = width / heads;
        let projected = self.projection.linear(&self.norm1.norm(x)?)?;
        let projected = projected.reshape((batch, tokens, 3, heads, size))?.permute((2, 0, 3, 1, 4))?;
        let part = |i: usize| projected.narrow(0, i, 1)?.squeeze(0)?.contiguous();
        let scores = (part(0)?.matmul(&part(1)?.t()?)? / (size as f64).sqrt())?.broadcast_add(mask)?;
        let mixed = ops::softmax(&scores, D::Minus1)?.matmul(&part(2)?)?.transpose(1, 2)?.reshape((batch, tokens, width))?;
        let x = (x + self.output.linear(&mixed)?)?;
        let inner = self.up.linear(&self.norm2.norm(&x)?)?.gelu_erf()?;
        &x + self.down.linear(&inner)?
    }
}

fn transformer(parameters: &Parameters, job: &Job) -> Result<Loss> {
    let (embedding, positions) = (parameters.read(job, "layers.0.weight")?, parameters.read(job, "layers.1.weight")?);
    let blocks: Result<Vec<Block>> =
        (0..4).map(|i| Block::read(parameters, job, &format!("layers.2.layers.{i}.layers.0."))).collect();
    let (blocks, norm, head) = (blocks?, parameters.pair(job, "layers.3.")?, parameters.pair(job, "layers.4.")?);
    let &[batch, tokens] = &job.x.0[..] else { return Err("x has two axes".into()) };
    let (x, y) = (Tensor::new(job.tokens()?, &CPU)?, Tensor::new(job.classes()?, &CPU)?);
    let hidden = |i: usize| if i % tokens > i / tokens { f32::NEG_INFINITY } else { 0.0 };
    let mask = Tensor::from_vec((0..tokens * tokens).map(hidden).collect(), (1, 1, tokens, tokens), &CPU)?;
    Ok(Box::new(move || {
        let mut h = embedding.embedding(&x)?.reshape((batch, tokens, ()))?.broadcast_add(&positions)?;
        for block in &blocks {
            h = block.forward(&h, &mask)?;
        }
        loss::cross_entropy(&head.linear(&norm.norm(&h)?)?.reshape((batch * tokens, ()))?, &y)
    }))
}

/// Linear layers with an activation after each, the last too if the inputs are the targets.
fn perceptron(
    parameters: &Parameters,
    job: &Job,
    numbers: &[usize],
    activation: fn(&Tensor) -> candle_core::Result<Tensor>,
) -> Result<Loss> {
    let layers: Result<Vec<Pair>> = numbers.iter().map(|n| parameters.pair(job, &format!("layers.{n}."))).collect();
    let (layers, (sizes, values)) = (layers?, job.reals()?);
    let columns: usize = sizes[1..].iter().product();
    let x = Tensor::from_vec(values, (sizes[0], columns), &CPU)?;
    let classes = job.classes().ok().map(|classes| Tensor::new(classes, &CPU)).transpose()?;
    Ok(Box::new(move || {
        let mut h = x.clone();
        for (i, layer) in layers.iter().enumerate() {
            h = layer.linear(&h)?;
            if i + 1 < layers.len() || classes.is_none() {
                h = activation(&h)?;
            }
        }
        match &classes {
            Some(classes) => loss::cross_entropy(&h, classes),
            None => loss::mse(&h, &x),
        }
    }))
}

fn images(parameters: &Parameters, job: &Job) -> Result<Loss> {
    let pair = |n: usize| parameters.pair(job, &format!("layers.{n}."));
    let (conv1, conv2, linear1, linear2) = (pair(0)?, pair(2)?, pair(6)?, pair(8)?);
    let (sizes, values) = job.reals()?;
    let (x, y) = (Tensor::from_vec(values, sizes, &CPU)?, Tensor::new(job.classes()?, &CPU)?);
    Ok(Box::new(move || {
        let h = conv1.convolution(&x)?.relu()?;
        let h = conv2.convolution(&h)?.relu()?.max_pool2d(2)?.flatten_from(1)?;
        loss::cross_entropy(&linear2.linear(&linear1.linear(&h)?.relu()?)?, &y)
    }))
}

/// Stochastic gradient descent with momentum, 0 for none.
fn descent(vars: Vec<Var>, rate: f64, momentum: f64, loss: Loss) -> Result<Step> {
    let velocities: candle_core::Result<Vec<Tensor>> = vars.iter().map(|var| var.zeros_like()).collect();
    let mut velocities = velocities?;
    Ok(Box::new(move || {
        let loss = loss()?;
        let gradients = loss.backward()?;
        for (var, velocity) in vars.iter().zip(&mut velocities) {
            let Some(gradient) = gradients.get(var) else { continue };
            let direction = if momentum > 0.0 { ((&*velocity * momentum)? + gradient)?.detach() } else { gradient.clone() };
            var.set(&(var.as_tensor() - (&direction * rate)?)?)?;
            *velocity = direction;
        }
        Ok(loss.to_scalar()?)
    }))
}

fn adam(vars: Vec<Var>, decay: f64, loss: Loss) -> Result<Step> {
    let mut optimizer = AdamW::new(vars, ParamsAdamW { lr: 1e-4, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: decay })?;
    Ok(Box::new(move || {
        let loss = loss()?;
        optimizer.backward_step(&loss)?;
        Ok(loss.to_scalar()?)
    }))
}

fn build(job: &Job) -> Result<Step> {
    let parameters = Parameters::default();
    let loss = match job.workload.as_str() {
        "w1" => perceptron(&parameters, job, &[0, 2, 4], Tensor::relu)?,
        "w2" => images(&parameters, job)?,
        "w5" => transformer(&parameters, job)?,
        "w6" => perceptron(&parameters, job, &[0, 2], Tensor::tanh)?,
        "w7" => perceptron(&parameters, job, &[1, 3, 5, 7], ops::sigmoid)?,
        other => return Err(format!("there is no {other} in candle").into()),
    };
    let vars = parameters.0.into_inner();
    match job.workload.as_str() {
        "w2" => descent(vars, 0.01, 0.9, loss),
        "w6" => descent(vars, 0.05, 0.0, loss),
        "w5" => adam(vars, 0.01, loss),
        _ => adam(vars, 0.0, loss),
    }
}

fn main() {
    peer::serve("candle", "0.11", &build);
}
