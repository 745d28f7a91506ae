//! A training engine for neural networks: layers, losses, optimizers, training, checkpoints
