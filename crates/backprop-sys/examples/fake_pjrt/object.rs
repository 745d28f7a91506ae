//! Objects behind handles, errors, events, and how a function of the table is served.

use std::{
    ptr,
    sync::atomic::{AtomicI64, Ordering},
};

use backprop_sys::pjrt::{
    Code,
    raw::{self, Function},
};

static LIVE: AtomicI64 = AtomicI64::new(0);

pub fn live() -> i64 {
    LIVE.load(Ordering::SeqCst)
}

/// The type behind a handle of the C API.
pub trait Object: Sized {
    type Raw;
}

/// Gives an object out.
pub fn give<T: Object>(object: T) -> *mut T::Raw {
    LIVE.fetch_add(1, Ordering::SeqCst);
    Box::into_raw(Box::new(object)).cast()
}

/// Frees an object that was given out.
pub fn free<T: Object>(raw: *mut T::Raw) {
    if !raw.is_null() {
        LIVE.fetch_sub(1, Ordering::SeqCst);
        // SAFETY: the caller of the API gives back what `give` gave out, once.
        drop(unsafe { Box::from_raw(raw.cast::<T>()) });
    }
}

/// The object behind a handle.
pub fn at<'a, T: Object>(raw: *const T::Raw) -> &'a T {
    // SAFETY: the caller of the API passes a handle that `give` gave out and that is not freed.
    unsafe { &*raw.cast::<T>() }
}

/// Values that a caller of the API points to.
pub fn list<'a, T>(start: *const T, count: usize) -> &'a [T] {
    if start.is_null() || count == 0 {
        return &[];
    }
    // SAFETY: the caller of the API promises `count` values.
    unsafe { std::slice::from_raw_parts(start, count) }
}

/// What a function of the table does.
pub trait Serve: Function {
    fn serve(&mut self) -> Result<(), Fault>;
}

/// An error of this plugin.
#[derive(Clone)]
pub struct Fault {
    pub code: Code,
    pub message: String,
}

impl Object for Fault {
    type Raw = raw::Error;
}

pub fn fault<T>(code: Code, message: impl Into<String>) -> Result<T, Fault> {
    Err(Fault { code, message: message.into() })
}

/// The C form of a function.
pub unsafe extern "C" fn entry<F: Serve>(arguments: *mut F) -> *mut raw::Error {
    // SAFETY: the first field of every structure is its size.
    let size = unsafe { arguments.cast::<usize>().read() };
    let served = if size < size_of::<F>() {
        fault(Code::InvalidArgument, format!("Unexpected {}_Args size: expected {}, got {size}", F::NAME, size_of::<F>()))
    } else {
        // SAFETY: the structure is as long as it should be, and nobody else uses it during the call.
        unsafe { &mut *arguments }.serve()
    };
    served.map_or_else(give, |()| ptr::null_mut())
}

/// The C form of a function that returns nothing.
pub unsafe extern "C" fn entry_void<F: Serve>(arguments: *mut F) {
    // SAFETY: the caller's promise, as above.
    let error = unsafe { entry(arguments) };
    free::<Fault>(error);
}

impl Serve for raw::ErrorDestroy {
    fn serve(&mut self) -> Result<(), Fault> {
        free::<Fault>(self.error);
        Ok(())
    }
}

impl Serve for raw::ErrorMessage {
    fn serve(&mut self) -> Result<(), Fault> {
        let message = &at::<Fault>(self.error).message;
        (self.message, self.message_size) = (message.as_ptr(), message.len());
        Ok(())
    }
}

impl Serve for raw::ErrorGetCode {
    fn serve(&mut self) -> Result<(), Fault> {
        self.code = at::<Fault>(self.error).code.number();
        Ok(())
    }
}

impl Serve for raw::PluginInitialize {
    fn serve(&mut self) -> Result<(), Fault> {
        static INITIALISED: AtomicI64 = AtomicI64::new(0);
        if INITIALISED.fetch_add(1, Ordering::SeqCst) > 0 {
            return fault(Code::AlreadyExists, "this plugin was initialised twice");
        }
        Ok(())
    }
}

impl Serve for raw::PluginAttributes {
    fn serve(&mut self) -> Result<(), Fault> {
        (self.attributes, self.num_attributes) = (ptr::null(), 0);
        Ok(())
    }
}

/// Something that has happened, or failed.
pub struct Event(pub Option<Fault>);

impl Object for Event {
    type Raw = raw::Event;
}

impl Serve for raw::EventDestroy {
    fn serve(&mut self) -> Result<(), Fault> {
        free::<Event>(self.event);
        Ok(())
    }
}

impl Serve for raw::EventIsReady {
    fn serve(&mut self) -> Result<(), Fault> {
        self.is_ready = true;
        Ok(())
    }
}

impl Serve for raw::EventAwait {
    fn serve(&mut self) -> Result<(), Fault> {
        at::<Event>(self.event).0.clone().map_or(Ok(()), Err)
    }
}
