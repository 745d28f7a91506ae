//! Layers, losses, optimizers, schedules and whole networks against values recorded from PyTorch.

mod gradients;
mod gradients_sequence;
mod gradients_spatial;
mod initialisers;
mod layers;
mod layers_sequence;
mod layers_spatial;
mod losses;
mod networks;
mod optimizers;
mod store;
mod transformer;
