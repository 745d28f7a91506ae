//! The native executor.

/// The arena and the threads' scratch memory; grown to what the largest program needs, then reused.
#[derive(Default)]
pub struct Workspace {}
