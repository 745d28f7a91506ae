//! What most programs need: `use backprop::prelude::*`.

pub use crate::{
    init::Init,
    loss::{BceWithLogits, CrossEntropy, Loss, LossSpec, Mse, Weighted},
    metrics::{Accuracy, MeanSquaredError, Metric, MetricSpec},
    nn::{
        AnyLayer, AvgPool2d, BatchNorm, Checkpoint, Conv2d, Dropout, Embedding, Flatten, FlattenOrder, Gelu, GlobalAvgPool,
        Layer, LayerNorm, LayerSpec, Linear, LogSoftmax, Lstm, MaxPool2d, Mode, Padding, Relu, Residual, Scope, Sequential,
        Sigmoid, Softmax, StateKind, StateSpec, Tanh, checkpoint, custom_vjp_with_residuals, functional, layer_table,
    },
    optim::{Adam, AdamW, GradientDescent, Optimizer, OptimizerSpec, Sgd},
    schedule::{Cosine, OneCycle, Rates, Schedule},
    step::{BatchSpec, Group, Groups, Step, StepTrace, TracedGraph, TracedStep, trace_step},
    train::{Flow, Stop, StopReason, Stopped, TrainError, Trainer},
};
pub use backprop_core::{Builder, DType, Error, Graph, HostTensor, Shape, Tensor, Type, graph::Role, op::custom_vjp};
