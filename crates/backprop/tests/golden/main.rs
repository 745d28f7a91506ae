//! Layers, losses, optimizers, schedules and whole networks against values recorded from PyTorch.

mod layers;
mod losses;
mod networks;
mod optimizers;
mod store;
mod transformer;
