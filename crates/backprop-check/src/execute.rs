use backprop_core::{
    Error, Graph, HostTensor,
    exec::{Backend, Store},
    graph::Role,
};

/// Runs a graph once on a backend. `values` are those of all inputs in order, state and data; returned are all outputs in order,
/// state as it is after the run.
///
/// # Errors
/// As compiling and running.
pub fn execute(backend: &dyn Backend, graph: &Graph, values: &[HostTensor]) -> Result<Vec<HostTensor>, Error> {
    let mut program = backend.compile(graph)?;
    let (mut store, mut data) = (Store::new(), Vec::new());
    for (input, value) in graph.inputs.iter().zip(values) {
        match input.role {
            Role::State => store.insert(&input.name, value.clone()),
            Role::Data => data.push(value),
        }
    }
    let mut buffers = program.signature().output_buffers();
    program.run(&mut store, &data, &mut buffers)?;
    store.fetch()?;
    let mut buffers = buffers.into_iter();
    let mut results = Vec::new();
    for output in &graph.outputs {
        results.extend(match output.role {
            Role::State => store.get(&output.name).cloned(),
            Role::Data => buffers.next(),
        });
    }
    Ok(results)
}
