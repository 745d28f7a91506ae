//! Buffers: bytes in host memory.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use backprop_sys::pjrt::{Code, ElementType, raw};

use crate::{
    client::Device,
    object::{Event, Fault, Object, Serve, at, fault, free, give},
};

/// A tensor, until its bytes are donated. `failed` is what its computation ended with.
pub struct Buffer {
    devices: Arc<Vec<Device>>,
    pub place: usize,
    pub element: ElementType,
    pub dims: Vec<i64>,
    data: Mutex<Option<Memory>>,
    pub failed: Option<Fault>,
}

/// Bytes with their address on a device that does not exist.
pub struct Memory {
    pub address: u64,
    pub bytes: Vec<u8>,
}

impl Memory {
    pub fn new(bytes: Vec<u8>) -> Memory {
        static NEXT: AtomicU64 = AtomicU64::new(0x1000);
        let address = NEXT.fetch_add(bytes.len().max(1).next_multiple_of(64) as u64, Ordering::SeqCst);
        Memory { address, bytes }
    }
}

impl Object for Buffer {
    type Raw = raw::Buffer;
}

impl Buffer {
    pub fn new(devices: &Arc<Vec<Device>>, place: usize, element: ElementType, dims: Vec<i64>, bytes: Vec<u8>) -> Buffer {
        Buffer::of(devices, place, element, dims, Memory::new(bytes))
    }

    pub fn of(devices: &Arc<Vec<Device>>, place: usize, element: ElementType, dims: Vec<i64>, memory: Memory) -> Buffer {
        devices[place].allocate(memory.bytes.len() as i64);
        Buffer { devices: devices.clone(), place, element, dims, data: Mutex::new(Some(memory)), failed: None }
    }

    /// Takes the memory away: the buffer is donated, or freed.
    pub fn take(&self) -> Option<Memory> {
        let memory = self.data.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        self.devices[self.place].allocate(-(memory.bytes.len() as i64));
        Some(memory)
    }

    /// Looks at the memory of a buffer that is neither donated nor failed.
    pub fn with<T>(&self, look: impl FnOnce(&Memory) -> T) -> Result<T, Fault> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        match &*self.data.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(memory) => Ok(look(memory)),
            None => fault(Code::InvalidArgument, "Buffer has been deleted or donated."),
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.take();
    }
}

impl Serve for raw::BufferDestroy {
    fn serve(&mut self) -> Result<(), Fault> {
        free::<Buffer>(self.buffer);
        Ok(())
    }
}

impl Serve for raw::BufferElementType {
    fn serve(&mut self) -> Result<(), Fault> {
        self.element = at::<Buffer>(self.buffer).element.number();
        Ok(())
    }
}

impl Serve for raw::BufferDimensions {
    fn serve(&mut self) -> Result<(), Fault> {
        let dims = &at::<Buffer>(self.buffer).dims;
        (self.dims, self.num_dims) = (dims.as_ptr(), dims.len());
        Ok(())
    }
}

impl Serve for raw::BufferReadyEvent {
    fn serve(&mut self) -> Result<(), Fault> {
        self.event = give(Event(at::<Buffer>(self.buffer).failed.clone()));
        Ok(())
    }
}

impl Serve for raw::BufferUnsafePointer {
    fn serve(&mut self) -> Result<(), Fault> {
        self.pointer = at::<Buffer>(self.buffer).with(|memory| memory.address as usize)?;
        Ok(())
    }
}

impl Serve for raw::BufferToHostBuffer {
    fn serve(&mut self) -> Result<(), Fault> {
        let buffer = at::<Buffer>(self.buffer);
        if self.host_layout.is_null() {
            return fault(Code::InvalidArgument, "no layout was asked for: this device keeps tensors in another order");
        }
        if let Some(failed) = &buffer.failed {
            self.event = give(Event(Some(failed.clone())));
            return Ok(());
        }
        let size = self.destination_size;
        let copied = buffer.with(|memory| {
            if size < memory.bytes.len() {
                return fault(Code::InvalidArgument, format!("{} bytes do not fit into {size}", memory.bytes.len()));
            }
            // SAFETY: the caller gives `size` bytes to write to, and there are not more here.
            unsafe { self.destination.cast::<u8>().copy_from_nonoverlapping(memory.bytes.as_ptr(), memory.bytes.len()) };
            Ok(())
        })?;
        copied?;
        self.event = give(Event(None));
        Ok(())
    }
}
