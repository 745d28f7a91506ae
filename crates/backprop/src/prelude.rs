//! What most programs need: `use backprop::prelude::*`.

pub use crate::{
    init::Init,
    loss::{
        BceWithLogits, ClassWeights, CrossEntropy, Focal, Huber, KlDiv, L1, LogCosh, Loss, LossSpec, Mse, Nll, PoissonNll,
        Quantile, SmoothL1, Weighted,
    },
    metrics::{
        Accuracy, ConfusionMatrix, F1, MeanAbsoluteError, MeanAbsolutePercentageError, MeanSquaredError, Metric, MetricSpec,
        Perplexity, Precision, R2, Recall, RocAuc, RootMeanSquaredError, TopK,
    },
    nn::{
        AdaptiveAvgPool1d, AdaptiveAvgPool2d, AdaptiveMaxPool2d, Add, AnyLayer, AvgPool1d, AvgPool2d, AvgPool3d, BatchNorm, Celu,
        Checkpoint, ColumnsEmbedding, Concat, Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d,
        DepthwiseConv2d, Dropout, Elu, Embedding, FeedForwardActivation, Flatten, FlattenOrder, Gelu, GlobalAvgPool,
        GlobalMaxPool, Glu, GroupNorm, Gru, Hardsigmoid, Hardswish, Hardtanh, InstanceNorm, Layer, LayerNorm, LayerSpec,
        LeakyRelu, Linear, LogSoftmax, Lstm, MaxPool1d, MaxPool2d, MaxPool3d, Mish, Mode, MultiHeadAttention, Multiply,
        Nonlinearity, PRelu, Padding, Permute, PositionalEmbedding, Relu, Relu6, Repeat, Reshape, Residual, RmsNorm, Rnn, Scope,
        Select, Selu, Sequential, Sigmoid, Silu, SinusoidalPositions, Softmax, Softplus, Softsign, SpatialDropout2d, StateKind,
        StateSpec, Tanh, TransformerBlock, Upsample, ZeroPad2d, checkpoint, custom_vjp_with_residuals, functional, layer_table,
    },
    optim::{
        Adadelta, Adagrad, Adam, AdamW, Adamax, GradientDescent, Lion, NAdam, Optimizer, OptimizerSpec, RAdam, RmsProp, Sgd,
    },
    schedule::{Cosine, OneCycle, Rates, Schedule},
    step::{BatchSpec, Group, Groups, ParameterGroup, Step, StepTrace, TracedGraph, TracedStep, trace_step},
    train::{Flow, Stop, StopReason, Stopped, TrainError, Trainer},
};
pub use backprop_core::{Builder, DType, Error, Graph, HostTensor, Shape, Tensor, Type, graph::Role, op::custom_vjp};
