//! What the backprop training engine binds of foreign libraries: the C API of PJRT, loaded at run time.
//!
//! Nothing is linked: a machine without an accelerator's software needs nothing, and a plugin installed later is found by the
//! same program. This crate knows no graph; it compiles text and moves bytes.

pub mod pjrt;
