//! The program a store runs: checks what it is given, then runs the code.

use super::{
    assemble::SLOTS,
    code::{Code, KernelInfo, Phase},
    run::Scratch,
};
use crate::{
    Error, Graph, HostTensor,
    exec::{Memory, Profile, Program, Signature, Store},
    graph::Role,
    pass::plan::ALIGNMENT,
};
use backprop_kernels::pool::Pool;
use std::sync::Arc;

/// A stretch of the arena in the plan.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Planned {
    /// The kernel that first writes it.
    pub name: String,
    /// First byte.
    pub offset: usize,
    /// Size in bytes.
    pub bytes: usize,
    /// Phase that first writes it.
    pub first: usize,
    /// Last phase that uses it.
    pub last: usize,
}

/// Where an input of the graph comes from.
#[derive(Clone, Copy)]
enum Source {
    /// Entry of the signature's state.
    State(usize),
    /// Entry of the data inputs.
    Data(usize),
}

/// A graph compiled by the native backend.
pub struct NativeProgram {
    signature: Signature,
    sources: Vec<Source>,
    code: Code,
    pool: Arc<Pool>,
    poison: bool,
    /// Positions in the store of the signature's state, as found last time.
    state: Vec<usize>,
    /// Which of the state is replaced.
    written: Vec<bool>,
}

impl NativeProgram {
    pub(super) fn new(signature: Signature, graph: &Graph, code: Code, pool: Arc<Pool>, poison: bool) -> NativeProgram {
        let (mut states, mut data) = (0.., 0..);
        let source = |input: &crate::graph::Input| match input.role {
            Role::State => Source::State(states.next().unwrap_or_default()),
            Role::Data => Source::Data(data.next().unwrap_or_default()),
        };
        let sources = graph.inputs.iter().map(source).collect();
        let state = vec![usize::MAX; signature.state.len()];
        let written = signature.state.iter().map(|(name, _)| signature.updates.contains(name)).collect();
        NativeProgram { signature, sources, code, pool, poison, state, written }
    }

    /// What the program does, phase by phase.
    pub fn phases(&self) -> &[Phase] {
        &self.code.phases
    }

    /// All kernels.
    pub fn kernels(&self) -> &[KernelInfo] {
        &self.code.kernels
    }

    /// Where every intermediate value lies and when.
    pub fn plan(&self) -> Vec<Planned> {
        let planned = |(block, &offset): (&super::code::Block, &usize)| Planned {
            name: block.name.clone(),
            offset,
            bytes: block.life.bytes,
            first: block.life.first,
            last: block.life.last,
        };
        self.code.blocks.iter().zip(&self.code.offsets).map(planned).collect()
    }

    fn scratch_stride(&self) -> usize {
        self.code.scratch.next_multiple_of(ALIGNMENT)
    }
}

impl Program for NativeProgram {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn memory(&self) -> Memory {
        Memory {
            arena: self.code.arena,
            live: self.code.live,
            scratch: self.scratch_stride(),
            constants: self.code.constant_bytes(),
        }
    }

    fn profile(&mut self) -> Option<Profile> {
        self.code.take_profile(self.pool.threads())
    }

    fn run(&mut self, store: &mut Store, inputs: &[&HostTensor], outputs: &mut [HostTensor]) -> Result<(), Error> {
        self.signature.check(inputs, outputs)?;
        store.find(&self.signature.state, &mut self.state)?;
        for (&position, &written) in self.state.iter().zip(&self.written) {
            store.host(position, written)?;
        }
        let stride = self.scratch_stride();
        store.workspace.reserve(self.code.arena, stride * self.pool.threads());
        if self.poison {
            store.workspace.poison();
        }
        for (slot, source) in self.sources.iter().enumerate() {
            self.code.bases.0[SLOTS + slot] = match *source {
                Source::State(s) => store.host(self.state[s], self.written[s])?.bytes_mut().as_mut_ptr(),
                // Kernels only read what their operands list as inputs.
                Source::Data(d) => inputs[d].bytes().as_ptr().cast_mut(),
            };
        }
        for (position, output) in outputs.iter_mut().enumerate() {
            self.code.bases.0[SLOTS + self.sources.len() + position] = output.bytes_mut().as_mut_ptr();
        }
        let (arena, address) = store.workspace.addresses();
        // SAFETY: types were checked, so every base has the size the code was compiled for; state and outputs are borrowed
        // exclusively, inputs shared; names of state are unique, so no two bases are one tensor; arena and scratch were reserved;
        // the backend takes no instruction set that the processor lacks.
        unsafe { self.code.run(arena, &self.pool, Scratch { address, stride }) };
        Ok(())
    }
}
