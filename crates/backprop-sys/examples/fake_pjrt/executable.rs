//! Programs: their text, and what is read in it.

use std::sync::Arc;

use backprop_sys::pjrt::{
    Code, ElementType, raw,
    signature::{self, Signature},
};

use crate::{
    buffer::{Buffer, Memory},
    client::{Behaviour, Client, Device, exhausted},
    object::{Fault, Object, Serve, at, fault, free, give, list},
};

/// What a serialised program begins with; options and text follow.
const MAGIC: &[u8] = b"FAKE1";

/// What is known of a program, in the form the C API asks for.
struct Program {
    text: String,
    options: Vec<u8>,
    signature: Signature,
    /// For each result, the argument that `return` names.
    passed: Vec<Option<usize>>,
    types: Vec<i32>,
    dims: Vec<i64>,
    ranks: Vec<usize>,
}

impl Program {
    fn new(text: &str, options: &[u8]) -> Result<Program, Fault> {
        let Some(signature) = signature::main(text) else {
            return fault(Code::InvalidArgument, "-:1:1: error: no function main with a signature that can be read");
        };
        let results = &signature.results;
        Ok(Program {
            text: text.to_string(),
            options: options.to_vec(),
            passed: passed(text, signature.arguments.len(), results.len()),
            types: results.iter().map(|(element, _)| element.number()).collect(),
            dims: results.iter().flat_map(|(_, dims)| dims.iter().map(|d| *d as i64)).collect(),
            ranks: results.iter().map(|(_, dims)| dims.len()).collect(),
            signature,
        })
    }

    /// Devices in the options: replicas × partitions, the two bytes behind their tags.
    fn devices(&self) -> usize {
        match self.options.as_slice() {
            [0x1a, _, 0x20, replicas, 0x28, partitions, ..] => usize::from(*replicas) * usize::from(*partitions),
            _ => 1,
        }
    }
}

/// The arguments that the `return` of `main` names.
fn passed(text: &str, arguments: usize, results: usize) -> Vec<Option<usize>> {
    let body = text.split_once("@main").map_or("", |(_, body)| body);
    let name = |part: &str| part.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap_or_default().to_string();
    let names: Vec<String> = body.split('%').skip(1).take(arguments).map(name).collect();
    let own = |at: &usize| body[..*at].ends_with(char::is_whitespace) || body[..*at].ends_with("func.");
    let Some(at) = body.match_indices("return ").map(|(at, _)| at).find(own) else { return vec![None; results] };
    let operands = body[at..].split(':').next().unwrap_or_default().split('%').skip(1);
    let mut passed: Vec<Option<usize>> = operands.map(|part| names.iter().position(|n| *n == name(part))).collect();
    passed.resize(results, None);
    passed
}

/// An element of a result that nothing is known of.
fn made_up(element: ElementType) -> Vec<u8> {
    match element {
        ElementType::Bool => vec![1],
        ElementType::F16 => vec![0, 0x3c],
        ElementType::BF16 => vec![0x80, 0x3f],
        ElementType::F32 => 1_f32.to_le_bytes().to_vec(),
        ElementType::F64 => 1_f64.to_le_bytes().to_vec(),
        other => vec![0; other.size()],
    }
}

/// A program on its devices.
pub struct Loaded {
    program: Arc<Program>,
    behaviour: Arc<Behaviour>,
    devices: Arc<Vec<Device>>,
    handles: Vec<*mut raw::Device>,
}

/// A program by itself.
struct Compiled(Arc<Program>);

/// Bytes of a serialised program.
struct Serialized(Vec<u8>);

impl Object for Loaded {
    type Raw = raw::LoadedExecutable;
}

impl Object for Compiled {
    type Raw = raw::Executable;
}

impl Object for Serialized {
    type Raw = raw::SerializedExecutable;
}

impl Loaded {
    pub fn new(client: &Client, text: &str, options: &[u8]) -> Result<Loaded, Fault> {
        let program = Program::new(text, options)?;
        let Some(handles) = client.handles.get(..program.devices()) else {
            return fault(Code::InvalidArgument, format!("{} devices are not there", program.devices()));
        };
        let handles = handles.to_vec();
        let (behaviour, devices) = (client.behaviour.clone(), client.devices.clone());
        Ok(Loaded { program: Arc::new(program), behaviour, devices, handles })
    }

    /// The results on one device.
    fn run(&self, place: usize, arguments: &[*mut raw::Buffer]) -> Result<Vec<Buffer>, Fault> {
        let signature = &self.program.signature;
        if arguments.len() != signature.arguments.len() {
            return fault(Code::InvalidArgument, format!("{} arguments were given", arguments.len()));
        }
        for argument in arguments {
            let buffer = at::<Buffer>(*argument);
            if buffer.place != place {
                return fault(Code::InvalidArgument, format!("an argument is on device {}, not {place}", buffer.place));
            }
            // A failed argument fails the results, not the call.
            if buffer.failed.is_none() {
                buffer.with(|_| ())?;
            }
        }
        let failed = arguments.iter().find_map(|a| at::<Buffer>(*a).failed.clone());
        let failed = failed.or_else(|| self.behaviour.strikes("late").then(|| exhausted("compute a result")));
        let results = signature.results.iter().enumerate();
        results.map(|(i, (element, dims))| self.result(place, arguments, i, *element, dims, failed.clone())).collect()
    }

    fn result(
        &self,
        place: usize,
        arguments: &[*mut raw::Buffer],
        index: usize,
        element: ElementType,
        dims: &[usize],
        failed: Option<Fault>,
    ) -> Result<Buffer, Fault> {
        let donor = self.program.signature.aliases.iter().position(|alias| *alias == Some(index));
        let memory = if let Some(memory) = donor.and_then(|d| at::<Buffer>(arguments[d]).take()) {
            memory
        } else if let (Some(source), None) = (self.program.passed[index], &failed) {
            Memory::new(at::<Buffer>(arguments[source]).with(|memory| memory.bytes.clone())?)
        } else {
            Memory::new(made_up(element).repeat(dims.iter().product()))
        };
        let dims = dims.iter().map(|d| *d as i64).collect();
        let mut buffer = Buffer::of(&self.devices, place, element, dims, memory);
        buffer.failed = failed;
        Ok(buffer)
    }
}

impl Serve for raw::LoadedExecutableExecute {
    fn serve(&mut self) -> Result<(), Fault> {
        let loaded = at::<Loaded>(self.executable);
        if loaded.behaviour.strikes("exhausted") {
            return Err(exhausted("run a program"));
        }
        if self.num_devices != loaded.handles.len() {
            return fault(Code::InvalidArgument, format!("arguments for {} devices were given", self.num_devices));
        }
        let lists = list(self.argument_lists, self.num_devices).iter().enumerate();
        let results: Result<Vec<Vec<Buffer>>, Fault> =
            lists.map(|(place, arguments)| loaded.run(place, list(*arguments, self.num_args))).collect();
        // Nothing is given out unless all of it is.
        for (results, places) in results?.into_iter().zip(list(self.output_lists, self.num_devices)) {
            for (i, result) in results.into_iter().enumerate() {
                // SAFETY: the caller gives a place for every result on every device.
                unsafe { places.add(i).write(give(result)) };
            }
        }
        Ok(())
    }
}

impl Serve for raw::LoadedExecutableDestroy {
    fn serve(&mut self) -> Result<(), Fault> {
        free::<Loaded>(self.executable);
        Ok(())
    }
}

impl Serve for raw::LoadedExecutableGetExecutable {
    fn serve(&mut self) -> Result<(), Fault> {
        self.executable = give(Compiled(at::<Loaded>(self.loaded_executable).program.clone()));
        Ok(())
    }
}

impl Serve for raw::LoadedExecutableAddressableDevices {
    fn serve(&mut self) -> Result<(), Fault> {
        let handles = &at::<Loaded>(self.executable).handles;
        (self.devices, self.num_devices) = (handles.as_ptr(), handles.len());
        Ok(())
    }
}

impl Serve for raw::ExecutableDeserializeAndLoad {
    fn serve(&mut self) -> Result<(), Fault> {
        let bytes = list(self.serialized_executable, self.serialized_executable_size);
        let parts = bytes.strip_prefix(MAGIC).and_then(|rest| rest.split_first_chunk());
        let parts = parts.and_then(|(length, rest)| rest.split_at_checked(u16::from_le_bytes(*length).into()));
        let Some((options, text)) = parts else {
            return fault(Code::InvalidArgument, "these bytes are no program of the fake plugin");
        };
        self.loaded_executable = give(Loaded::new(at::<Client>(self.client), &String::from_utf8_lossy(text), options)?);
        Ok(())
    }
}

impl Serve for raw::ExecutableDestroy {
    fn serve(&mut self) -> Result<(), Fault> {
        free::<Compiled>(self.executable);
        Ok(())
    }
}

impl Serve for raw::ExecutableNumOutputs {
    fn serve(&mut self) -> Result<(), Fault> {
        self.num_outputs = at::<Compiled>(self.executable).0.types.len();
        Ok(())
    }
}

impl Serve for raw::ExecutableOutputElementTypes {
    fn serve(&mut self) -> Result<(), Fault> {
        let types = &at::<Compiled>(self.executable).0.types;
        (self.output_types, self.num_output_types) = (types.as_ptr(), types.len());
        Ok(())
    }
}

impl Serve for raw::ExecutableOutputDimensions {
    fn serve(&mut self) -> Result<(), Fault> {
        let program = &at::<Compiled>(self.executable).0;
        self.num_outputs = program.ranks.len();
        (self.dims, self.dim_sizes) = (program.dims.as_ptr(), program.ranks.as_ptr());
        Ok(())
    }
}

impl Serve for raw::ExecutableGetCompiledMemoryStats {
    fn serve(&mut self) -> Result<(), Fault> {
        let signature = &at::<Compiled>(self.executable).0.signature;
        let bytes = |(element, dims): &(ElementType, Vec<usize>)| (element.size() * dims.iter().product::<usize>()) as i64;
        let donated = signature.arguments.iter().zip(&signature.aliases).filter(|(_, alias)| alias.is_some());
        self.argument_size = signature.arguments.iter().map(bytes).sum();
        self.output_size = signature.results.iter().map(bytes).sum();
        self.alias_size = donated.map(|(argument, _)| bytes(argument)).sum();
        Ok(())
    }
}

unsafe extern "C" fn free_serialized(raw: *mut raw::SerializedExecutable) {
    free::<Serialized>(raw);
}

impl Serve for raw::ExecutableSerialize {
    fn serve(&mut self) -> Result<(), Fault> {
        let program = &at::<Compiled>(self.executable).0;
        let Ok(length) = u16::try_from(program.options.len()) else {
            return fault(Code::Unimplemented, "the options are too long for the fake plugin's format");
        };
        let bytes = [MAGIC, &length.to_le_bytes(), &program.options, program.text.as_bytes()].concat();
        self.serialized_executable = give(Serialized(bytes));
        let bytes = &at::<Serialized>(self.serialized_executable).0;
        (self.serialized_bytes, self.serialized_bytes_size) = (bytes.as_ptr(), bytes.len());
        self.serialized_executable_deleter = Some(free_serialized);
        Ok(())
    }
}
