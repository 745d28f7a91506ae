//! A compiled program on the devices of a plugin.

use super::{
    Pjrt, device_error, element,
    pack::{Packed, Place},
};
use crate::{
    DType, Error, Graph, HostTensor, Type,
    exec::{Memory, Pipelined, Program, Signature, Store},
    graph::Role,
    stablehlo::{Joined, Layout},
};
use backprop_sys::pjrt::{Buffer, ElementType, Executable, Pending};
use std::collections::VecDeque;

/// A tensor in the memory of every device of a backend.
pub struct Resident {
    device: u64,
    buffers: Vec<Buffer>,
}

impl Resident {
    /// Which backend's devices have it.
    pub(in crate::exec) fn device(&self) -> u64 {
        self.device
    }

    /// Copies it to host memory.
    pub(in crate::exec) fn read(&self, into: &mut HostTensor) -> Result<(), Error> {
        self.buffers.first().map_or(Ok(()), |b| b.read(into.bytes_mut())).map_err(device_error)
    }
}

/// Where an argument comes from.
#[derive(Clone, Copy)]
enum Argument {
    /// Entry of the signature's state, and whether the run writes over it.
    State(usize, bool),
    /// Entry of the data inputs, and whether its rows are split over the devices.
    Data(usize, bool),
    /// The vector of those that are joined.
    Joined,
}

/// The small data inputs of a run, one after the other.
struct Vector {
    /// Which they are, and where each begins, in bytes.
    parts: Vec<(usize, usize)>,
    value: HostTensor,
}

/// Where a result goes.
#[derive(Clone, Copy)]
enum Goal {
    /// Entry of the signature's state.
    State(usize),
    /// Data output of the packed graph.
    Data,
}

/// A data output that is being copied to host memory, from a buffer that lives as long as that takes.
struct Coming {
    copy: Pending<Vec<u8>>,
    _buffer: Buffer,
}

impl Coming {
    fn of(buffer: Buffer) -> Result<Coming, Error> {
        let copy = buffer.start_read(vec![0; buffer.bytes()]).map_err(device_error)?;
        Ok(Coming { copy, _buffer: buffer })
    }
}

/// A graph compiled by a plugin.
pub struct PjrtProgram {
    backend: Pjrt,
    signature: Signature,
    executable: Executable,
    arguments: Vec<Argument>,
    goals: Vec<Goal>,
    places: Vec<Place>,
    /// Positions in the store of the signature's state, as found last time.
    state: Vec<usize>,
    vector: Vector,
    /// Data outputs of the runs that were started and not finished, on their way home.
    pending: VecDeque<Vec<Coming>>,
}

impl PjrtProgram {
    pub(super) fn new(
        backend: &Pjrt,
        graph: &Graph,
        packed: Packed,
        layout: &Layout,
        executable: Executable,
    ) -> Result<PjrtProgram, Error> {
        let signature = Signature::of(graph);
        let (arguments, vector) = arguments(&packed.graph, &signature, layout);
        let place = |name: &str| signature.state.iter().position(|(n, _)| n == name);
        let goal = |o: &crate::graph::Output| match o.role {
            Role::State => place(&o.name).map_or(Goal::Data, Goal::State),
            Role::Data => Goal::Data,
        };
        let goals: Vec<Goal> = packed.graph.outputs.iter().map(goal).collect();
        check_outputs(&packed.graph.output_types(), &executable)?;
        Ok(PjrtProgram {
            backend: backend.clone(),
            state: vec![usize::MAX; signature.state.len()],
            vector,
            signature,
            executable,
            arguments,
            goals,
            places: packed.places,
            pending: VecDeque::new(),
        })
    }

    /// A tensor in every device's memory.
    fn upload(&self, value: &HostTensor, split: bool) -> Result<Vec<Buffer>, Error> {
        let devices = self.backend.options.devices;
        let mut dims = value.shape().to_vec();
        let mut part = value.bytes().len();
        if split {
            dims[0] /= devices;
            part /= devices;
        }
        let upload = |device: usize| {
            let first = if split { device * part } else { 0 };
            let bytes = &value.bytes()[first..first + part];
            self.backend.client.upload(device, element(value.dtype()), &dims, bytes).map_err(device_error)
        };
        (0..devices).map(upload).collect()
    }

    /// Brings the state to the devices, where it is not there yet.
    fn settle(&mut self, store: &mut Store) -> Result<(), Error> {
        store.find(&self.signature.state, &mut self.state)?;
        for &position in &self.state {
            store.on_device(position, self.backend.id, |value| {
                Ok(Resident { device: self.backend.id, buffers: self.upload(value, false)? })
            })?;
        }
        Ok(())
    }

    /// Sends the data inputs to the devices, in the order of the arguments.
    fn send(&mut self, inputs: &[&HostTensor]) -> Result<Vec<Vec<Buffer>>, Error> {
        let bytes = self.vector.value.bytes_mut();
        for &(input, first) in &self.vector.parts {
            let part = inputs[input].bytes();
            bytes[first..first + part.len()].copy_from_slice(part);
        }
        let send = |argument: &Argument| match *argument {
            Argument::State(..) => None,
            Argument::Data(i, split) => Some(self.upload(inputs[i], split)),
            Argument::Joined => Some(self.upload(&self.vector.value, false)),
        };
        self.arguments.iter().filter_map(send).collect()
    }

    /// Hands the program to the devices; gives the results of each device.
    fn execute(&self, store: &Store, data: &[Vec<Buffer>]) -> Result<Vec<Vec<Buffer>>, Error> {
        let mut data = data.iter();
        let buffers = |argument: &Argument| match *argument {
            Argument::State(i, _) => store.resident(self.state[i]).map_or(&[][..], |r| &r.buffers),
            Argument::Data(..) | Argument::Joined => data.next().map_or(&[][..], |sent| sent),
        };
        let buffers: Vec<&[Buffer]> = self.arguments.iter().map(buffers).collect();
        let on = |device: usize| buffers.iter().filter_map(|b| b.get(device)).collect();
        let arguments: Vec<Vec<&Buffer>> = (0..self.backend.options.devices).map(on).collect();
        self.executable.execute(&arguments).map_err(device_error)
    }

    /// Puts new state into the store; gives the data outputs, of the first device.
    fn distribute(&self, store: &mut Store, results: Vec<Vec<Buffer>>) -> Vec<Buffer> {
        let mut by_device: Vec<_> = results.into_iter().map(Vec::into_iter).collect();
        let mut data = Vec::new();
        for goal in &self.goals {
            let mut buffers: Vec<Buffer> = by_device.iter_mut().filter_map(Iterator::next).collect();
            match *goal {
                Goal::State(i) => store.replace(self.state[i], Resident { device: self.backend.id, buffers }),
                Goal::Data if !buffers.is_empty() => data.push(buffers.swap_remove(0)),
                Goal::Data => {}
            }
        }
        data
    }

    /// Waits for the data outputs of a run and puts them where they belong.
    fn receive(&self, coming: Vec<Coming>, outputs: &mut [HostTensor]) -> Result<(), Error> {
        let arrived = coming.into_iter().map(|c| c.copy.wait().map_err(device_error)).collect::<Result<Vec<_>, _>>()?;
        for (output, place) in outputs.iter_mut().zip(&self.places) {
            let (bytes, from) = match *place {
                Place::Alone(at) => (arrived.get(at), 0),
                Place::Packed(first) => (arrived.last(), 4 * first),
            };
            let size = output.bytes().len();
            let bytes = bytes.and_then(|b| b.get(from..from + size));
            let missing = || Error::Device("the plugin gives fewer results than the program has".into());
            output.bytes_mut().copy_from_slice(bytes.ok_or_else(missing)?);
        }
        Ok(())
    }
}

/// What the program is given, in order.
fn arguments(graph: &Graph, signature: &Signature, layout: &Layout) -> (Vec<Argument>, Vector) {
    let Joined { parts, elements } = &layout.joined;
    let value = HostTensor::zeros(Type::new(DType::U32, [*elements]));
    let mut vector = Vector { parts: Vec::new(), value };
    let (mut states, mut data, mut arguments) = (0.., 0.., Vec::new());
    for (i, input) in graph.inputs.iter().enumerate() {
        let part = parts.iter().find(|part| part.input == i);
        match (input.role, part) {
            (Role::State, _) => {
                let written = signature.updates.contains(&input.name);
                arguments.push(Argument::State(states.next().unwrap_or_default(), written));
            }
            (Role::Data, None) => arguments.push(Argument::Data(data.next().unwrap_or_default(), layout.splits(graph, i))),
            (Role::Data, Some(part)) => {
                let bytes = part.first * DType::U32.size();
                vector.parts.push((data.next().unwrap_or_default(), bytes));
            }
        }
    }
    if !parts.is_empty() {
        arguments.push(Argument::Joined);
    }
    (arguments, vector)
}

/// The plugin must give what the graph gives: it would not notice elements of another type.
fn check_outputs(expected: &[Type], executable: &Executable) -> Result<(), Error> {
    let found = executable.outputs();
    let fits = |(ty, (e, dims)): (&Type, &(ElementType, Vec<usize>))| element(ty.dtype) == *e && ty.shape[..] == dims[..];
    if expected.len() == found.len() && expected.iter().zip(found).all(fits) {
        return Ok(());
    }
    Err(Error::Device(format!("the plugin compiled a program with other results: {found:?}, where {expected:?} were asked for")))
}

impl Program for PjrtProgram {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn memory(&self) -> Memory {
        let known = self.executable.memory().map(|m| (m.temporary as usize, m.code as usize));
        let (arena, constants) = known.unwrap_or_default();
        Memory { arena, live: arena, scratch: 0, constants }
    }

    fn run(&mut self, store: &mut Store, inputs: &[&HostTensor], outputs: &mut [HostTensor]) -> Result<(), Error> {
        self.signature.check(inputs, outputs)?;
        self.pending.clear();
        self.start(store, inputs)?;
        self.finish(outputs)
    }

    fn pipelined(&mut self) -> Option<&mut dyn Pipelined> {
        Some(self)
    }
}

impl Pipelined for PjrtProgram {
    fn start(&mut self, store: &mut Store, inputs: &[&HostTensor]) -> Result<(), Error> {
        self.signature.check_inputs(inputs)?;
        self.settle(store)?;
        let data = self.send(inputs)?;
        let results = self.execute(store, &data);
        let written = self.arguments.iter().filter_map(|a| match *a {
            Argument::State(i, true) => Some(self.state[i]),
            _ => None,
        });
        // Their memory was given away, whatever came of it.
        written.for_each(|position| drop(store.take(position)));
        let data = self.distribute(store, results?);
        // Under way as soon as the step is done, not when somebody asks.
        self.pending.push_back(data.into_iter().map(Coming::of).collect::<Result<_, _>>()?);
        Ok(())
    }

    fn finish(&mut self, outputs: &mut [HostTensor]) -> Result<(), Error> {
        let coming = self.pending.pop_front().ok_or_else(|| Error::Run("no run was started".into()))?;
        self.receive(coming, outputs)
    }
}
