//! `backprop inspect`.

use crate::{args::InspectOptions, device::Wanted, failure::Failure, output, train};
use backprop::{
    core::{
        Isa,
        exec::{native::Native, pjrt::program_text},
        pass,
    },
    train::{Inspection, LayerMemory, TrainError, Trainer},
};

pub(crate) fn run(options: &InspectOptions) -> Result<(), Failure> {
    let (config, _) = train::configuration(options.config.as_deref(), &options.set.set)?;
    let wanted = Wanted::for_training(&options.device, &config.train);
    if options.stablehlo {
        let native = Native::new(1, Isa::Portable);
        let trainer = Trainer::new(config, &native)?;
        let graph = trainer.graph(options.batch.unwrap_or(trainer.task().batch_size()))?;
        output::piece(&program_text(&graph, &wanted.program()).map_err(TrainError::from)?);
        return Ok(());
    }
    let (threads, backend) = (wanted.threads(), wanted.backend()?);
    let trainer = Trainer::new(config, &*backend)?;
    let rows = options.batch.unwrap_or(trainer.task().batch_size());
    if let Some(name) = &options.pass {
        return show_pass(&trainer, rows, name);
    }
    let inspection = trainer.inspect(rows, threads)?;
    if options.json {
        output::json(&inspection);
    } else {
        show(&inspection, threads);
    }
    Ok(())
}

/// Prints the training graph before and after each run of a pass.
fn show_pass(trainer: &Trainer<'_>, rows: usize, name: &str) -> Result<(), Failure> {
    let passes = pass::pipeline(|c| c.region == backprop::core::random::PHILOX);
    let mut known: Vec<&str> = passes.iter().map(|p| p.name()).collect();
    known.sort_unstable();
    known.dedup();
    if !known.contains(&name) {
        return Err(Failure::Arguments(format!("there is no pass `{name}`; the passes are {}", known.join(", "))));
    }
    let graph = trainer.graph(rows)?;
    let mut number = 0;
    pass::optimize(&graph, &passes, &mut |pass, before, after| {
        number += 1;
        if pass.name() == name {
            output::line(&format!("# before pass {number} ({name}): {} nodes\n{before}", before.nodes.len()));
            output::line(&format!("# after pass {number} ({name}): {} nodes\n{after}", after.nodes.len()));
        }
    });
    Ok(())
}

fn show(inspection: &Inspection, threads: usize) {
    let row = |path: &str, kind: &str, output: &str, numbers: [&str; 3]| {
        let [parameters, flops, memory] = numbers;
        output::line(&format!(
            "{:<30} {:<14} {:<19} {parameters:>11} {flops:>9} {memory:>11}",
            fitted(path, 30),
            fitted(kind, 14),
            fitted(output, 19)
        ));
    };
    row("layer", "kind", "output", ["parameters", "FLOP", "memory"]);
    let line = "─".repeat(99);
    output::line(&line);
    for LayerMemory { path, kind, output, parameters, flops, bytes } in &inspection.layers {
        let output = output.iter().map(ToString::to_string).collect::<Vec<_>>().join(" × ");
        row(path, kind, &output, [&output::grouped(*parameters as u64), &output::count(*flops), &output::bytes(*bytes)]);
    }
    output::line(&line);
    let memory: usize = inspection.layers.iter().map(|l| l.bytes).sum();
    row(
        "total",
        "",
        &format!("{} rows", inspection.batch_size),
        [&output::grouped(inspection.parameters as u64), &output::count(inspection.flops), &output::bytes(memory)],
    );
    output::line("");
    let exact = |name: &str, bytes: usize, why: &str| {
        output::line(&format!("{name:<11} {:>11}  {:>17} B  {why}", output::bytes(bytes), output::grouped(bytes as u64)));
    };
    exact("arena", inspection.arena_bytes, "every intermediate value of a training step");
    exact("state", inspection.state_bytes, "parameters, optimizer state, statistics");
    exact("constants", inspection.constant_bytes, "constants of the step");
    // Accelerators have none: the threads are the processor's.
    if inspection.scratch_bytes > 0 {
        exact("scratch", inspection.scratch_bytes, &format!("private memory of {threads} threads"));
    }
    exact("peak", inspection.peak_bytes, "what training needs beside data and program");
    output::line("");
    output::line(&format!(
        "data loaded in {:.2} s; a thread fills batches with {} rows/s, which is mostly {}",
        inspection.load_seconds,
        output::grouped(inspection.input_rows_per_second as u64),
        inspection.input_stage
    ));
    output::line(&format!(
        "{} nodes; traced in {:.0} ms, compiled in {:.0} ms",
        output::grouped(inspection.nodes as u64),
        inspection.trace_seconds * 1e3,
        inspection.compile_seconds * 1e3
    ));
}

/// A text cut in its middle to at most `width` characters.
fn fitted(text: &str, width: usize) -> String {
    let characters: Vec<char> = text.chars().collect();
    if characters.len() <= width {
        return text.into();
    }
    let tail = (width - 1) / 2;
    let head = width - 1 - tail;
    characters[..head].iter().chain(&['…']).chain(&characters[characters.len() - tail..]).collect()
}

#[cfg(test)]
mod tests {
    use super::fitted;

    #[test]
    fn long_paths_keep_both_ends() {
        assert_eq!(fitted("layers.0", 10), "layers.0");
        assert_eq!(fitted("layers.3.body.layers.0", 11), "layer…ers.0");
    }
}
