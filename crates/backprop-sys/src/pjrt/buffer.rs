//! Buffers: tensors on a device.

use std::{fmt, ptr};

use super::{
    client::Client,
    element::ElementType,
    error::Error,
    event::Event,
    executable::{element, unsigned},
    raw,
    table::{pointer, slice},
};

/// A tensor on a device, there or still being computed. Dropping it frees its memory when nothing that is enqueued needs it.
pub struct Buffer {
    raw: *mut raw::Buffer,
    client: Client,
    element: ElementType,
    dims: Vec<usize>,
}

// SAFETY: PJRT's buffers may be used from any thread, by many at a time.
unsafe impl Send for Buffer {}
// SAFETY: as above.
unsafe impl Sync for Buffer {}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: nobody else has it; its client is alive.
        unsafe { self.client.plugin().table().free::<raw::BufferDestroy>(|a| a.buffer = self.raw) };
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({})", self.element.tensor(&self.dims))
    }
}

impl Buffer {
    /// # Safety
    ///
    /// `raw` is a buffer of this client and type that nobody else destroys.
    pub(super) unsafe fn new(client: &Client, raw: *mut raw::Buffer, element: ElementType, dims: Vec<usize>) -> Buffer {
        Buffer { raw, client: client.clone(), element, dims }
    }

    /// The same with the type that the plugin says.
    pub(super) fn with_own_type(mut self) -> Result<Buffer, Error> {
        let table = self.client.plugin().table();
        // SAFETY: the buffer is alive; its dimensions live as long and are copied.
        unsafe {
            let kind = table.call::<raw::BufferElementType>(|a| a.buffer = self.raw)?;
            let shape = table.call::<raw::BufferDimensions>(|a| a.buffer = self.raw)?;
            self.element = element(kind.element, "a result of the program")?;
            self.dims = unsigned(slice(shape.dims, shape.num_dims))?;
        }
        Ok(self)
    }

    /// The type of its elements.
    pub fn element(&self) -> ElementType {
        self.element
    }

    /// Its dimensions.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// Bytes of its elements, row-major and dense.
    pub fn bytes(&self) -> usize {
        self.element.bytes(&self.dims).unwrap_or(usize::MAX)
    }

    /// Waits for it and copies it, row-major and dense.
    pub fn read(&self, into: &mut [u8]) -> Result<(), Error> {
        self.check_size(into.len())?;
        // SAFETY: `into` is borrowed until the event has happened.
        unsafe { self.copy(into) }?.wait()
    }

    /// Begins to copy it into memory that [`Pending::wait`] gives back.
    pub fn start_read<B: AsMut<[u8]> + Send + 'static>(&self, into: B) -> Result<Pending<B>, Error> {
        // Boxed, so that bytes inside of `B` itself do not move with it.
        let mut into = Box::new(into);
        self.check_size((*into).as_mut().len())?;
        let into = Box::into_raw(into);
        // SAFETY: the memory is ours, and nobody touches or frees it before the event has happened.
        let started = unsafe { self.copy((*into).as_mut()) };
        match started {
            Ok(event) => Ok(Pending { event, into, _client: self.client.clone() }),
            Err(error) => {
                // SAFETY: from `Box::into_raw`; no copy has begun.
                drop(unsafe { Box::from_raw(into) });
                Err(error)
            }
        }
    }

    /// Waits until it is computed, and says whether that failed.
    pub fn wait(&self) -> Result<(), Error> {
        // SAFETY: the buffer is alive; the event is new and ours.
        let event = unsafe {
            let ready = self.client.plugin().table().call::<raw::BufferReadyEvent>(|a| a.buffer = self.raw)?;
            Event::new(ready.event, self.client.plugin())
        };
        event.wait()
    }

    /// Its address on the device: shows whether a result took the memory of a donated argument.
    pub fn address(&self) -> Result<usize, Error> {
        // SAFETY: the buffer is alive; the address is a number to us.
        unsafe { self.client.plugin().table().call::<raw::BufferUnsafePointer>(|a| a.buffer = self.raw) }.map(|a| a.pointer)
    }

    fn check_size(&self, given: usize) -> Result<(), Error> {
        let wanted = self.bytes();
        if wanted == given {
            return Ok(());
        }
        let what = self.element.tensor(&self.dims);
        Err(Error::Invalid(format!("a {what} has {wanted} bytes; memory for {given} was given to read it into")))
    }

    /// Enqueues the copy, with an explicit layout: some devices keep tensors in another order.
    ///
    /// # Safety
    ///
    /// `into` has as many bytes as the tensor, and is neither read nor freed before the event has happened.
    unsafe fn copy(&self, into: &mut [u8]) -> Result<Event, Error> {
        let order: Vec<i64> = (0..self.dims.len() as i64).rev().collect();
        let mut layout = row_major(&order);
        // SAFETY: layout and order live during the call; the rest is the caller's promise.
        let started = unsafe {
            self.client.plugin().table().call::<raw::BufferToHostBuffer>(|a| {
                a.buffer = self.raw;
                a.host_layout = &mut layout;
                a.destination = into.as_mut_ptr().cast();
                a.destination_size = into.len();
            })
        }?;
        // SAFETY: the event is new and ours.
        Ok(unsafe { Event::new(started.event, self.client.plugin()) })
    }

    pub(super) fn raw(&self) -> *mut raw::Buffer {
        self.raw
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }
}

/// The layout with the last dimension innermost. It points into `order`.
fn row_major(order: &[i64]) -> raw::MemoryLayout {
    let tiled = raw::MemoryLayoutTiled {
        struct_size: size_of::<raw::MemoryLayoutTiled>(),
        extension_start: ptr::null_mut(),
        minor_to_major: pointer(order),
        minor_to_major_size: order.len(),
        tile_dims: ptr::null(),
        tile_dim_sizes: ptr::null(),
        num_tiles: 0,
    };
    raw::MemoryLayout {
        struct_size: size_of::<raw::MemoryLayout>(),
        extension_start: ptr::null_mut(),
        tiled,
        kind: raw::LAYOUT_TILED,
    }
}

/// A copy from the device that may still be under way. Dropping it waits for the end.
pub struct Pending<B> {
    event: Event,
    /// From `Box::into_raw`, or null: a reference would claim that nobody else writes there.
    into: *mut B,
    _client: Client,
}

// SAFETY: the memory is owned, and may be sent as `B` may.
unsafe impl<B: Send> Send for Pending<B> {}
// SAFETY: nothing of `B` can be reached through a shared reference.
unsafe impl<B: Send> Sync for Pending<B> {}

impl<B> Pending<B> {
    /// Waits for the copy and gives back the memory with the tensor in it.
    pub fn wait(mut self) -> Result<B, Error> {
        self.event.wait()?;
        // SAFETY: from `Box::into_raw`; the copy has ended, and null keeps `drop` away.
        Ok(*unsafe { Box::from_raw(std::mem::replace(&mut self.into, ptr::null_mut())) })
    }

    /// Whether [`Pending::wait`] would return at once.
    pub fn is_ready(&self) -> Result<bool, Error> {
        self.event.is_ready()
    }
}

impl<B> Drop for Pending<B> {
    fn drop(&mut self) {
        if self.into.is_null() {
            return;
        }
        // A failure is nobody's any more; what counts is that nobody writes into the memory after it is freed.
        let _ = self.event.wait();
        // SAFETY: from `Box::into_raw`, not taken; the copy has ended.
        drop(unsafe { Box::from_raw(self.into) });
    }
}
