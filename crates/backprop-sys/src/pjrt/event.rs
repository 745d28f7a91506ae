//! Events: something that the plugin finishes later.

use super::{error::Error, plugin::Plugin, raw};

/// An event that is destroyed once. Null stands for "finished already".
pub(super) struct Event {
    raw: *mut raw::Event,
    plugin: Plugin,
}

// SAFETY: events may be awaited, asked and destroyed on any thread.
unsafe impl Send for Event {}
// SAFETY: as above.
unsafe impl Sync for Event {}

impl Event {
    /// # Safety
    ///
    /// `raw` is an event of this plugin that nobody else destroys, or null.
    pub(super) unsafe fn new(raw: *mut raw::Event, plugin: &Plugin) -> Event {
        Event { raw, plugin: plugin.clone() }
    }

    /// Waits until it has happened, and says whether that failed.
    pub(super) fn wait(&self) -> Result<(), Error> {
        if self.raw.is_null() {
            return Ok(());
        }
        // SAFETY: the event is alive until it is dropped.
        unsafe { self.plugin.table().call::<raw::EventAwait>(|a| a.event = self.raw) }.map(|_| ())
    }

    /// Whether it has happened.
    pub(super) fn is_ready(&self) -> Result<bool, Error> {
        if self.raw.is_null() {
            return Ok(true);
        }
        // SAFETY: the event is alive until it is dropped.
        unsafe { self.plugin.table().call::<raw::EventIsReady>(|a| a.event = self.raw) }.map(|a| a.is_ready)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        if !self.raw.is_null() {
            // SAFETY: nobody else has this event.
            unsafe { self.plugin.table().free::<raw::EventDestroy>(|a| a.event = self.raw) };
        }
    }
}
