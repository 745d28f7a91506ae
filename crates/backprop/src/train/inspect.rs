use super::{TrainError, Trainer, located};
use crate::events::Stage;
use crate::nn::{LayerRow, Sequential, StateKind, layer_table};
use backprop_core::{DType, exec::Memory};
use serde::Serialize;
use std::time::Instant;

/// What a network is and needs, known before anything runs.
#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    /// The layers in order; containers stand before their children.
    pub layers: Vec<LayerMemory>,
    /// Rows per step.
    pub batch_size: usize,
    /// Number of trained values.
    pub parameters: usize,
    /// Floating-point operations of the forward pass over one batch.
    pub flops: u64,
    /// Nodes of the training graph.
    pub nodes: usize,
    /// Bytes of the arena: every intermediate value of a training step. Exact.
    pub arena_bytes: usize,
    /// The largest sum of intermediate values alive at once, in bytes: what no plan can go below.
    pub live_bytes: usize,
    /// Bytes of parameters, optimizer state and statistics.
    pub state_bytes: usize,
    /// Bytes of constants.
    pub constant_bytes: usize,
    /// Bytes of private memory, of all threads together.
    pub scratch_bytes: usize,
    /// Arena, state, constants and scratch: what training needs beside the data and the program itself.
    pub peak_bytes: usize,
    /// Time to load the data, decoding and measuring scales included, in seconds.
    pub load_seconds: f64,
    /// Rows per second that one thread fills batches with, measured on the first of training.
    pub input_rows_per_second: f64,
    /// What most of that time goes to.
    pub input_stage: Stage,
    /// Time to trace and differentiate the training step, in seconds.
    pub trace_seconds: f64,
    /// Time to compile it, in seconds.
    pub compile_seconds: f64,
}

/// One layer.
#[derive(Clone, Debug, Serialize)]
pub struct LayerMemory {
    /// Path, such as `layers.3.body.layers.0`.
    pub path: String,
    /// Kind, such as `Conv2d`.
    pub kind: String,
    /// Shape of its result.
    pub output: Vec<usize>,
    /// Number of its own parameters.
    pub parameters: usize,
    /// Floating-point operations of its own forward pass over one batch.
    pub flops: u64,
    /// Bytes of its result and its own parameters.
    pub bytes: usize,
}

impl LayerMemory {
    fn of(row: LayerRow) -> LayerMemory {
        LayerMemory {
            bytes: row.output.bytes() + row.parameters * DType::F32.size(),
            output: row.output.shape.to_vec(),
            path: row.path,
            kind: row.kind,
            parameters: row.parameters,
            flops: row.flops,
        }
    }
}

impl Trainer<'_> {
    /// Traces, plans and compiles a training step on batches of `rows` rows, without running it, for `threads` threads. Some batches are
    /// filled to see how long that takes.
    ///
    /// # Errors
    /// If the network does not fit such a batch, or data cannot be read.
    pub fn inspect(&self, rows: usize, threads: usize) -> Result<Inspection, TrainError> {
        let clock = Instant::now();
        let spec = self.task.batch_spec(rows);
        let graph = self.graph(rows)?;
        let traced = clock.elapsed();
        let program = self.backend.compile(&graph)?;
        let compiled = clock.elapsed() - traced;
        let Memory { arena, live, scratch, constants } = program.memory();
        let model = Sequential::from(self.config.layers.clone());
        let table = layer_table(&model, DType::F32, spec.x).map_err(|e| located(&self.config, e))?;
        let state = self.state_bytes();
        let (input_rows_per_second, input_stage) = self.fill_rate()?;
        Ok(Inspection {
            batch_size: rows,
            parameters: self.specs.iter().filter(|s| s.kind == StateKind::Parameter).map(|s| s.ty.elements()).sum(),
            flops: table.iter().map(|row| row.flops).sum(),
            layers: table.into_iter().map(LayerMemory::of).collect(),
            nodes: graph.nodes.len(),
            arena_bytes: arena,
            live_bytes: live,
            state_bytes: state,
            constant_bytes: constants,
            scratch_bytes: scratch * threads,
            peak_bytes: arena + state + constants + scratch * threads,
            load_seconds: self.load_seconds,
            input_rows_per_second,
            input_stage,
            trace_seconds: traced.as_secs_f64(),
            compile_seconds: compiled.as_secs_f64(),
        })
    }
}
