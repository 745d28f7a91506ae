use super::{ModelError, Output};
use crate::step::TracedGraph;
use backprop_core::{
    DType, Error, HostTensor, Type,
    exec::{Backend, Program, Store},
};
use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, PoisonError},
};

/// Rows of the largest batch. Batches are powers of two: few programs serve any number of rows.
const LARGEST_BATCH: usize = 256;

/// Weights and compiled programs; each caller takes a worker and gives it back.
pub(super) struct Workers {
    backend: Arc<dyn Backend>,
    weights: Vec<(String, HostTensor)>,
    idle: Mutex<Vec<Worker>>,
}

/// What one caller at a time computes with.
#[derive(Default)]
struct Worker {
    store: Store,
    programs: Programs,
}

/// Programs by the type of their input and what they give.
type Programs = HashMap<(Type, Output), Compiled>;

/// A program for one batch with its buffers.
struct Compiled {
    program: Box<dyn Program>,
    x: HostTensor,
    outputs: Vec<HostTensor>,
}

/// How a graph for an input is made.
type Trace<'t> = &'t dyn Fn(&Type) -> Result<TracedGraph, ModelError>;

impl Workers {
    pub(super) fn new(backend: Arc<dyn Backend>, weights: Vec<(String, HostTensor)>) -> Workers {
        Workers { backend, weights, idle: Mutex::default() }
    }

    /// The same weights on another backend.
    pub(super) fn on(self, backend: Arc<dyn Backend>) -> Workers {
        Workers::new(backend, self.weights)
    }

    pub(super) fn weight(&self, name: &str) -> Option<&HostTensor> {
        self.weights.iter().find(|(n, _)| n == name).map(|(_, tensor)| tensor)
    }

    /// What a program gives for all rows of `x`, batch by batch.
    pub(super) fn run(&self, x: &HostTensor, output: Output, trace: Trace<'_>) -> Result<HostTensor, ModelError> {
        let mut worker = self.take();
        let result = self.run_on(&mut worker, x, output, trace);
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(worker);
        result
    }

    fn take(&self) -> Worker {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.unwrap_or_else(|| {
            let mut worker = Worker::default();
            self.weights.iter().for_each(|(name, tensor)| worker.store.insert(name.clone(), tensor.clone()));
            worker
        })
    }

    fn run_on(&self, worker: &mut Worker, x: &HostTensor, output: Output, trace: Trace<'_>) -> Result<HostTensor, ModelError> {
        let (rows, sample) = match x.shape().split_first() {
            Some((&rows, sample)) if rows > 0 => (rows, sample.to_vec()),
            _ => return Err(ModelError::Use(format!("there is nothing to predict: the input is {}", x.ty()))),
        };
        let row_bytes = x.bytes().len() / rows;
        let (mut result, mut row_shape) = (Vec::new(), Vec::new());
        let mut done = 0;
        while done < rows {
            let batch = (rows - done).next_power_of_two().min(LARGEST_BATCH);
            let taken = batch.min(rows - done);
            let ty = Type::new(x.dtype(), [&[batch], &sample[..]].concat());
            let compiled = self.compiled(&mut worker.programs, ty, output, trace)?;
            let (own, padding) = compiled.x.bytes_mut().split_at_mut(taken * row_bytes);
            own.copy_from_slice(&x.bytes()[done * row_bytes..(done + taken) * row_bytes]);
            padding.fill(0);
            compiled.program.run(&mut worker.store, &[&compiled.x], &mut compiled.outputs)?;
            let given = &compiled.outputs[0];
            row_shape = given.shape()[1..].to_vec();
            result.extend_from_slice(&given.bytes()[..given.bytes().len() / batch * taken]);
            done += taken;
        }
        let ty = Type::new(DType::F32, [&[rows], &row_shape[..]].concat());
        Ok(HostTensor::from_bytes(ty, &result).map_err(Error::Run)?)
    }

    /// The program for an input, compiled when it is first needed.
    fn compiled<'w>(
        &self,
        programs: &'w mut Programs,
        ty: Type,
        output: Output,
        trace: Trace<'_>,
    ) -> Result<&'w mut Compiled, ModelError> {
        match programs.entry((ty, output)) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => {
                let ty = entry.key().0.clone();
                let program = self.backend.compile(&trace(&ty)?.graph)?;
                let outputs = program.signature().output_buffers();
                Ok(entry.insert(Compiled { program, x: HostTensor::zeros(ty), outputs }))
            }
        }
    }
}
