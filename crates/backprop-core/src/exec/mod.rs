//! Backends: what compiles a graph into a program and runs it.

use crate::{Error, Graph, HostTensor, Type};

pub mod native;
pub mod pjrt;
mod profile;
mod store;

pub use profile::{KernelTime, Profile};
pub use store::Store;

/// Compiles graphs for one kind of device.
pub trait Backend: Send + Sync {
    /// For people: `cpu (avx512, 2 threads)`.
    fn describe(&self) -> String;

    /// Bytes of the memory that state, inputs and intermediate values must fit in, where it is not the machine's.
    fn memory_limit(&self) -> Option<u64> {
        None
    }

    /// How many runs are worth having under way at once; more than one if programs are [pipelined](Program::pipelined).
    fn depth(&self) -> usize {
        1
    }

    /// Compiles a graph.
    ///
    /// # Errors
    /// If the graph is not valid or uses something the backend lacks.
    fn compile(&self, graph: &Graph) -> Result<Box<dyn Program>, Error>;
}

/// A compiled graph.
pub trait Program: Send {
    /// Name and type of the state inputs the program reads, and of those it replaces.
    fn signature(&self) -> &Signature;

    /// What the program needs, known before it runs.
    fn memory(&self) -> Memory;

    /// Runs once. `inputs` are the graph's data inputs in order; `outputs` its data outputs in order, overwritten (see
    /// [`Signature::outputs`] for their types). State is read from and replaced in the store.
    ///
    /// # Errors
    /// If state is missing or a type does not fit; nothing is changed then.
    fn run(&mut self, store: &mut Store, inputs: &[&HostTensor], outputs: &mut [HostTensor]) -> Result<(), Error>;

    /// Where the time of the runs since the last call went, if the backend was asked to measure it.
    fn profile(&mut self) -> Option<Profile> {
        None
    }

    /// The same program as one whose runs overlap with what the caller does, if it is.
    fn pipelined(&mut self) -> Option<&mut dyn Pipelined> {
        None
    }
}

/// A program that computes on its own while its caller goes on: several runs can be under way, one after the other.
pub trait Pipelined {
    /// Begins a run. Its inputs are the caller's again when this returns; the store has its results in the order of starts.
    ///
    /// # Errors
    /// As [`Program::run`].
    fn start(&mut self, store: &mut Store, inputs: &[&HostTensor]) -> Result<(), Error>;

    /// Waits for the oldest run that was started, and gives its data outputs.
    ///
    /// # Errors
    /// If the run failed, or none was started.
    fn finish(&mut self, outputs: &mut [HostTensor]) -> Result<(), Error>;
}

/// Names and types of what goes in and out of a program.
#[derive(Clone, Debug, Default)]
pub struct Signature {
    /// State read.
    pub state: Vec<(String, Type)>,
    /// Names of the state tensors that are replaced.
    pub updates: Vec<String>,
    /// Data inputs, in order.
    pub inputs: Vec<(String, Type)>,
    /// Data outputs, in order.
    pub outputs: Vec<(String, Type)>,
}

impl Signature {
    /// The signature of a graph.
    pub fn of(graph: &Graph) -> Signature {
        use crate::graph::Role;
        let mut signature = Signature::default();
        for (input, ty) in graph.inputs.iter().zip(graph.input_types()) {
            let list = if input.role == Role::State { &mut signature.state } else { &mut signature.inputs };
            list.push((input.name.clone(), ty));
        }
        for (output, ty) in graph.outputs.iter().zip(graph.output_types()) {
            match output.role {
                Role::State => signature.updates.push(output.name.clone()),
                Role::Data => signature.outputs.push((output.name.clone(), ty)),
            }
        }
        signature
    }

    /// Checks what a run is given beside the store.
    fn check(&self, inputs: &[&HostTensor], outputs: &[HostTensor]) -> Result<(), Error> {
        self.check_inputs(inputs)?;
        count("outputs", self.outputs.len(), outputs.len())?;
        for ((name, ty), given) in self.outputs.iter().zip(outputs) {
            expect("output", name, ty, given.ty())?;
        }
        Ok(())
    }

    fn check_inputs(&self, inputs: &[&HostTensor]) -> Result<(), Error> {
        count("inputs", self.inputs.len(), inputs.len())?;
        let mut pairs = self.inputs.iter().zip(inputs);
        pairs.try_for_each(|((name, ty), given)| expect("input", name, ty, given.ty()))
    }

    /// Zeroed tensors to receive the data outputs.
    pub fn output_buffers(&self) -> Vec<HostTensor> {
        self.outputs.iter().map(|(_, ty)| HostTensor::zeros(ty.clone())).collect()
    }
}

/// Bytes a program needs beside its state, inputs and outputs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Memory {
    /// The arena that holds every intermediate value: exact.
    pub arena: usize,
    /// The largest sum of sizes of values alive at once: what no plan can go below.
    pub live: usize,
    /// Private memory of one thread.
    pub scratch: usize,
    /// Constants of the graph.
    pub constants: usize,
}

fn count(what: &str, expected: usize, found: usize) -> Result<(), Error> {
    if expected == found { Ok(()) } else { Err(Error::Run(format!("the program takes {expected} {what}, got {found}"))) }
}

fn expect(what: &str, name: &str, ty: &Type, given: &Type) -> Result<(), Error> {
    if given == ty { Ok(()) } else { Err(Error::Run(format!("{what} `{name}` must be {ty}, got {given}"))) }
}
