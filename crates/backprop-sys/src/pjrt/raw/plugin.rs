//! Errors, plugins and events.

use std::ffi::c_int;

use super::{Error, Event, NamedValue, functions};

functions! {
    0 PJRT_Error_Destroy "freeing an error" ErrorDestroy { error: *mut Error }
    1 PJRT_Error_Message "reading an error" ErrorMessage { error: *const Error, message: *const u8, message_size: usize }
    2 PJRT_Error_GetCode "reading an error" ErrorGetCode { error: *const Error, code: c_int }
    3 PJRT_Plugin_Initialize "initialising the plugin" PluginInitialize {}
    4 PJRT_Plugin_Attributes "reading the plugin's attributes" PluginAttributes {
        attributes: *const NamedValue, num_attributes: usize,
    }
    5 PJRT_Event_Destroy "freeing an event" EventDestroy { event: *mut Event }
    6 PJRT_Event_IsReady "asking whether a computation has finished" EventIsReady { event: *mut Event, is_ready: bool }
    8 PJRT_Event_Await "waiting for a computation or a transfer" EventAwait { event: *mut Event }
}
