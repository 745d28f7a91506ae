//! The plugin's table of functions, and the one way to call it.

use std::{
    ffi::c_void,
    mem,
    path::{Path, PathBuf},
    ptr,
};

use super::{
    error::{Code, Error},
    raw::{self, Function},
};

/// Zero bytes that follow every structure of arguments. A plugin refuses structures shorter than those it knows and takes
/// zeros for "not set", so that fields which a later version appends need no change here.
const SPARE: usize = 8;

#[repr(C)]
#[derive(Clone, Copy)]
struct Padded<F> {
    fields: F,
    spare: [u64; SPARE],
}

/// The table of a plugin that is never unloaded.
pub(super) struct Table {
    api: *const raw::Api,
    path: PathBuf,
    length: u64,
}

// SAFETY: the table is constant after GetPjrtApi returned it, and PJRT's functions may be called from any thread.
unsafe impl Send for Table {}
// SAFETY: as above.
unsafe impl Sync for Table {}

impl Table {
    /// # Safety
    ///
    /// `api` is what a plugin's `GetPjrtApi` returned, not null, and the plugin is never unloaded.
    pub(super) unsafe fn new(api: *const raw::Api, path: PathBuf, length: u64) -> Table {
        Table { api, path, length }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the plugin's file: two builds that call themselves the same are rarely as long.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Major and minor number of the plugin's version.
    pub(super) fn version(&self) -> (i32, i32) {
        // SAFETY: `new` demands a valid table; its head is in every version at this place.
        unsafe { ((*self.api).version.major, (*self.api).version.minor) }
    }

    /// Fails if the plugin does not have a function.
    pub(super) fn require<F: Function>(&self) -> Result<(), Error> {
        self.entry::<F>().map(|_| ()).ok_or_else(|| self.missing::<F>())
    }

    /// The address of a function, if the table reaches as far and has it.
    fn entry<F: Function>(&self) -> Option<*const c_void> {
        let offset = raw::API_HEAD + F::SLOT * size_of::<*const c_void>();
        // SAFETY: `struct_size` is the first field of every version of the table.
        let reach = unsafe { (*self.api).struct_size };
        if offset + size_of::<*const c_void>() > reach {
            return None;
        }
        // SAFETY: the table reaches over this entry, as just checked.
        let entry = unsafe { self.api.cast::<u8>().add(offset).cast::<*const c_void>().read() };
        (!entry.is_null()).then_some(entry)
    }

    /// Calls a function with arguments that `fill` sets, and gives them back with what the plugin wrote into them.
    ///
    /// # Safety
    ///
    /// The arguments are those that the header asks for; what they point to lives during the call, and longer where the
    /// header says so.
    pub(super) unsafe fn call<F: Function>(&self, fill: impl FnOnce(&mut F)) -> Result<F, Error> {
        let entry = self.entry::<F>().ok_or_else(|| self.missing::<F>())?;
        // SAFETY: non-null and, by the header, of this type.
        let entry: raw::Entry<F> = unsafe { mem::transmute(entry) };
        let mut arguments = padded::<F>(fill);
        // SAFETY: the structure is as long as it says; the rest is the caller's promise.
        let error = unsafe { entry(&mut arguments.fields) };
        if error.is_null() { Ok(arguments.fields) } else { Err(self.error::<F>(error)) }
    }

    /// Calls a function that frees something. Nobody could act on a failure: it is ignored.
    ///
    /// # Safety
    ///
    /// As for [`Table::call`]; the thing is not used any more.
    pub(super) unsafe fn free<F: Function>(&self, fill: impl FnOnce(&mut F)) {
        // SAFETY: the caller's promise.
        let _ = unsafe { self.call::<F>(fill) };
    }

    fn missing<F: Function>(&self) -> Error {
        let (major, minor) = self.version();
        Error::Missing { path: self.path.clone(), major, minor, function: F::NAME, what: F::WHAT }
    }

    /// Copies an error of the plugin, and frees it.
    fn error<F: Function>(&self, error: *mut raw::Error) -> Error {
        let (code, message) = self.describe(error).unwrap_or((Code::Unknown, "the plugin does not say why".into()));
        // SAFETY: the error is ours and not used after this; PJRT_Error_Destroy returns nothing.
        unsafe { self.call_void::<raw::ErrorDestroy>(|a| a.error = error) };
        Error::Plugin { path: self.path.clone(), what: F::WHAT, code, message }
    }

    fn describe(&self, error: *mut raw::Error) -> Option<(Code, String)> {
        // SAFETY: the error is alive; PJRT_Error_Message returns nothing.
        let text = unsafe { self.call_void::<raw::ErrorMessage>(|a| a.error = error) }?;
        // SAFETY: the plugin's message lives as long as its error.
        let message = unsafe { self.text(text.message, text.message_size) };
        let entry = self.entry::<raw::ErrorGetCode>()?;
        // SAFETY: non-null and, by the header, of this type.
        let entry: raw::Entry<raw::ErrorGetCode> = unsafe { mem::transmute(entry) };
        let mut arguments = padded::<raw::ErrorGetCode>(|a| a.error = error);
        // SAFETY: the error is alive. An error about an error is not followed any further.
        let nested = unsafe { entry(&mut arguments.fields) };
        if !nested.is_null() {
            // SAFETY: the nested error is ours and not used after this.
            unsafe { self.call_void::<raw::ErrorDestroy>(|a| a.error = nested) };
            return Some((Code::Unknown, message));
        }
        Some((Code::from_number(arguments.fields.code), message.trim_end().to_string()))
    }

    /// # Safety
    ///
    /// As for [`Table::call`]; the function is one of the two that return nothing.
    unsafe fn call_void<F: Function>(&self, fill: impl FnOnce(&mut F)) -> Option<F> {
        let entry = self.entry::<F>()?;
        // SAFETY: non-null and, by the header, of this type.
        let entry: unsafe extern "C" fn(*mut F) = unsafe { mem::transmute(entry) };
        let mut arguments = padded::<F>(fill);
        // SAFETY: the caller's promise.
        unsafe { entry(&mut arguments.fields) };
        Some(arguments.fields)
    }

    /// Copies a text of the plugin; what is not UTF-8 is replaced.
    ///
    /// # Safety
    ///
    /// `size` bytes can be read at `text`, or `text` is null.
    pub(super) unsafe fn text(&self, text: *const u8, size: usize) -> String {
        // SAFETY: the caller's promise.
        String::from_utf8_lossy(unsafe { slice(text, size) }).into_owned()
    }
}

/// Zero-filled arguments with their size, filled.
fn padded<F: Function>(fill: impl FnOnce(&mut F)) -> Padded<F> {
    // SAFETY: `Function` promises that all zeros are valid; so are they for numbers.
    let mut arguments: Padded<F> = unsafe { mem::zeroed() };
    arguments.fields.set_size(size_of::<Padded<F>>());
    fill(&mut arguments.fields);
    arguments
}

/// A slice from a plugin; null is the empty one.
///
/// # Safety
///
/// `count` values can be read at `start` as long as the slice is used, or `start` is null.
pub(super) unsafe fn slice<'a, T>(start: *const T, count: usize) -> &'a [T] {
    if start.is_null() || count == 0 {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(start, count) }
}

/// A pointer for the C side: null for an empty slice.
pub(super) fn pointer<T>(slice: &[T]) -> *const T {
    if slice.is_empty() { ptr::null() } else { slice.as_ptr() }
}
