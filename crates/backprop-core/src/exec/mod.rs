//! Backends: what compiles a graph into a program and runs it.

use crate::{Error, Graph, HostTensor, Type};
use std::collections::HashMap;

pub mod native;

/// Compiles graphs for one kind of device.
pub trait Backend: Send + Sync {
    /// For people: `cpu (avx512, 2 threads)`.
    fn describe(&self) -> String;

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

/// The tensors that live between runs (parameters, optimizer state, statistics) and the memory programs work in.
///
/// Training, evaluation and remainder programs share one store and with it one arena.
#[derive(Default)]
pub struct Store {
    names: HashMap<String, usize>,
    tensors: Vec<(String, HostTensor)>,
    workspace: native::Workspace,
}

impl Store {
    /// An empty store.
    pub fn new() -> Store {
        Store::default()
    }

    /// Adds or replaces a tensor.
    pub fn insert(&mut self, name: impl Into<String>, value: HostTensor) {
        let name = name.into();
        match self.names.get(&name) {
            Some(&i) => self.tensors[i].1 = value,
            None => {
                self.names.insert(name.clone(), self.tensors.len());
                self.tensors.push((name, value));
            }
        }
    }

    /// A tensor by name.
    pub fn get(&self, name: &str) -> Option<&HostTensor> {
        self.names.get(name).map(|&i| &self.tensors[i].1)
    }

    /// A tensor by name, for writing.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut HostTensor> {
        self.names.get(name).map(|&i| &mut self.tensors[i].1)
    }

    /// Exchanges two tensors; nothing happens if one of them is not there.
    pub fn swap(&mut self, a: &str, b: &str) {
        let (Some(&a), Some(&b)) = (self.names.get(a), self.names.get(b)) else { return };
        if let Ok([a, b]) = self.tensors.get_disjoint_mut([a, b]) {
            std::mem::swap(&mut a.1, &mut b.1);
        }
    }

    /// All tensors in the order they were added.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &HostTensor)> {
        self.tensors.iter().map(|(name, t)| (name.as_str(), t))
    }

    /// Bytes of all tensors.
    pub fn bytes(&self) -> usize {
        self.tensors.iter().map(|(_, t)| t.ty().bytes()).sum()
    }
}
