//! Layers, losses, optimizers, schedules and whole networks against values recorded from PyTorch.

mod gradients;
mod initialisers;
mod layers;
mod losses;
mod networks;
mod optimizers;
mod store;
mod transformer;
