//! The client and its devices.

use std::{
    process, ptr,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    thread,
    time::Duration,
};

use backprop_sys::pjrt::{
    Code, ElementType,
    raw::{self, named_value},
};

use crate::{
    buffer::Buffer,
    executable::Loaded,
    object::{Event, Fault, Object, Serve, at, fault, free, give, list},
};

/// Memory that every device says it has.
const LIMIT: i64 = 16 << 30;

/// What tests choose.
pub struct Behaviour {
    name: String,
    after: AtomicI64,
}

impl Behaviour {
    pub fn is(&self, name: &str) -> bool {
        self.name == name
    }

    /// Whether this behaviour is chosen and the calls that succeed are used up.
    pub fn strikes(&self, name: &str) -> bool {
        self.is(name) && self.after.fetch_sub(1, Ordering::SeqCst) <= 0
    }
}

pub fn exhausted(what: &str) -> Fault {
    Fault {
        code: Code::ResourceExhausted,
        message: format!("Out of memory while trying to {what} (of a device that is not there)"),
    }
}

/// A device, which is its own description, and its memory in bytes.
pub struct Device {
    id: i32,
    text: String,
    in_use: AtomicI64,
    peak: AtomicI64,
}

impl Object for Device {
    type Raw = raw::Device;
}

/// The description of a device is the device.
fn described<'a>(raw: *mut raw::DeviceDescription) -> &'a Device {
    at::<Device>(raw.cast())
}

impl Device {
    pub fn allocate(&self, bytes: i64) {
        let now = self.in_use.fetch_add(bytes, Ordering::SeqCst) + bytes;
        self.peak.fetch_max(now, Ordering::SeqCst);
    }
}

pub struct Client {
    pub behaviour: Arc<Behaviour>,
    pub devices: Arc<Vec<Device>>,
    pub handles: Vec<*mut raw::Device>,
}

impl Object for Client {
    type Raw = raw::Client;
}

/// Options of a client, read from the environment where they are not given.
fn options(given: &[raw::NamedValue]) -> (Behaviour, usize) {
    let environment = |name: &str| std::env::var(name).unwrap_or_default();
    let (mut name, mut after, mut devices) = (environment("FAKE_PJRT"), environment("FAKE_PJRT_AFTER").parse().unwrap_or(0), 1);
    for option in given {
        match (list(option.name, option.name_size), option.kind) {
            (b"fake", named_value::TEXT) => {
                // SAFETY: the kind says which member of the union is set.
                let text = list(unsafe { option.value.text }, option.value_size);
                name = String::from_utf8_lossy(text).into_owned();
            }
            // SAFETY: as above.
            (b"after", named_value::INT) => after = unsafe { option.value.int },
            // SAFETY: as above.
            (b"cpu_device_count", named_value::INT) => devices = unsafe { option.value.int }.clamp(1, 64) as usize,
            _ => {}
        }
    }
    (Behaviour { name, after: AtomicI64::new(after) }, devices)
}

impl Serve for raw::ClientCreate {
    fn serve(&mut self) -> Result<(), Fault> {
        let (behaviour, count) = options(list(self.create_options, self.num_options));
        match behaviour.name.as_str() {
            "nodevice" => return fault(Code::Unavailable, "No visible fake devices."),
            "abort" => process::abort(),
            "hang" => loop {
                thread::sleep(Duration::from_secs(3600));
            },
            _ => {}
        }
        let device = |id: usize| Device {
            id: id as i32,
            text: format!("FakeDevice(id={id})"),
            in_use: AtomicI64::new(0),
            peak: AtomicI64::new(0),
        };
        let devices: Arc<Vec<Device>> = Arc::new((0..count).map(device).collect());
        let handles = devices.iter().map(|d| ptr::from_ref(d).cast_mut().cast()).collect();
        self.client = give(Client { behaviour: Arc::new(behaviour), devices, handles });
        Ok(())
    }
}

impl Serve for raw::ClientDestroy {
    fn serve(&mut self) -> Result<(), Fault> {
        free::<Client>(self.client);
        Ok(())
    }
}

impl Serve for raw::ClientPlatformName {
    fn serve(&mut self) -> Result<(), Fault> {
        (self.platform_name, self.platform_name_size) = (b"fake".as_ptr(), 4);
        Ok(())
    }
}

impl Serve for raw::ClientPlatformVersion {
    fn serve(&mut self) -> Result<(), Fault> {
        (self.platform_version, self.platform_version_size) = (b"fake 1".as_ptr(), 6);
        Ok(())
    }
}

impl Serve for raw::ClientAddressableDevices {
    fn serve(&mut self) -> Result<(), Fault> {
        let handles = &at::<Client>(self.client).handles;
        (self.devices, self.num_devices) = (handles.as_ptr(), handles.len());
        Ok(())
    }
}

impl Serve for raw::DeviceGetDescription {
    fn serve(&mut self) -> Result<(), Fault> {
        self.description = self.device.cast();
        Ok(())
    }
}

impl Serve for raw::DeviceDescriptionId {
    fn serve(&mut self) -> Result<(), Fault> {
        self.id = described(self.description).id;
        Ok(())
    }
}

impl Serve for raw::DeviceDescriptionKind {
    fn serve(&mut self) -> Result<(), Fault> {
        (self.kind, self.kind_size) = (b"Fake Accelerator".as_ptr(), 16);
        Ok(())
    }
}

impl Serve for raw::DeviceDescriptionToString {
    fn serve(&mut self) -> Result<(), Fault> {
        let text = &described(self.description).text;
        (self.text, self.text_size) = (text.as_ptr(), text.len());
        Ok(())
    }
}

impl Serve for raw::DeviceMemoryStats {
    fn serve(&mut self) -> Result<(), Fault> {
        let device = at::<Device>(self.device);
        self.bytes_in_use = device.in_use.load(Ordering::SeqCst);
        (self.peak_bytes_in_use, self.peak_bytes_in_use_is_set) = (device.peak.load(Ordering::SeqCst), true);
        (self.bytes_limit, self.bytes_limit_is_set) = (LIMIT, true);
        Ok(())
    }
}

impl Serve for raw::ClientCompile {
    fn serve(&mut self) -> Result<(), Fault> {
        let client = at::<Client>(self.client);
        if client.behaviour.is("nocompile") {
            return fault(Code::InvalidArgument, "-:3:7: error: this program is refused on demand");
        }
        // SAFETY: the caller's program lives during the call.
        let program = unsafe { &*self.program };
        let text = String::from_utf8_lossy(list(program.code, program.code_size));
        let options = list(self.compile_options, self.compile_options_size);
        self.executable = give(Loaded::new(client, &text, options)?);
        Ok(())
    }
}

impl Serve for raw::BufferFromHostBuffer {
    fn serve(&mut self) -> Result<(), Fault> {
        let client = at::<Client>(self.client);
        if client.behaviour.strikes("exhausted-upload") {
            return Err(exhausted("allocate a buffer"));
        }
        let Some(element) = ElementType::from_number(self.element) else {
            return fault(Code::Unimplemented, format!("element type {}", self.element));
        };
        let dims = list(self.dims, self.num_dims);
        let bytes = element.size() * dims.iter().product::<i64>() as usize;
        let place = client.handles.iter().position(|d| *d == self.device).unwrap_or(0);
        let data = list(self.data.cast::<u8>(), bytes).to_vec();
        self.buffer = give(Buffer::new(&client.devices, place, element, dims.to_vec(), data));
        self.done_with_host_buffer = give(Event(None));
        Ok(())
    }
}
