//! What can go wrong, in sentences for people.

use std::{fmt, path::PathBuf};

use super::plugin::MINOR_LOWEST;

/// Why a plugin, or something asked of it, did not work.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be a plugin for this machine; nothing of it was run.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what would be right.
        reason: String,
    },
    /// The plugin is linked with a shared library that is not on this machine.
    #[error(
        "{}: the plugin needs the shared library `{library}`, which the system's loader does not find; \
         install it, or name its folder in LD_LIBRARY_PATH", path.display()
    )]
    SharedLibrary {
        /// The plugin.
        path: PathBuf,
        /// The file name of the library that is missing.
        library: String,
    },
    /// The system's loader refused the file.
    #[error("{}: the system's loader refuses this plugin: {reason}", path.display())]
    Open {
        /// The plugin.
        path: PathBuf,
        /// What the loader said.
        reason: String,
    },
    /// A shared library, but not a plugin.
    #[error(
        "{}: this shared library is not a PJRT plugin: it has no function `GetPjrtApi`; \
         a plugin's name is like `xla_cuda_plugin.so` or `libtpu.so`", path.display()
    )]
    NotAPlugin {
        /// The library.
        path: PathBuf,
    },
    /// A version of the C API that is not supported.
    #[error(
        "{}: this plugin speaks version {major}.{minor} of the PJRT C API; versions 0.{MINOR_LOWEST} and later are supported; \
         install {} plugin", path.display(), if *major == 0 { "a newer" } else { "an older" }
    )]
    Version {
        /// The plugin.
        path: PathBuf,
        /// The major number of its version.
        major: i32,
        /// The minor number of its version.
        minor: i32,
    },
    /// The plugin leaves out a function that is needed.
    #[error(
        "{}: this plugin (PJRT C API {major}.{minor}) does not have the function `{function}`, needed for {what}",
        path.display()
    )]
    Missing {
        /// The plugin.
        path: PathBuf,
        /// The major number of its version.
        major: i32,
        /// The minor number of its version.
        minor: i32,
        /// The function's name in the C header.
        function: &'static str,
        /// What it is for.
        what: &'static str,
    },
    /// The plugin reports an error.
    #[error("{}: {what} failed ({code}): {message}", path.display())]
    Plugin {
        /// The plugin.
        path: PathBuf,
        /// What it was doing.
        what: &'static str,
        /// The kind of error, to be matched.
        code: Code,
        /// What the plugin says.
        message: String,
    },
    /// Refused before the plugin saw it.
    #[error("{0}")]
    Invalid(String),
}

impl Error {
    /// The plugin's code, if the error is the plugin's.
    pub fn code(&self) -> Option<Code> {
        if let Error::Plugin { code, .. } = self { Some(*code) } else { None }
    }

    /// Whether the memory of the device, or of the host, was not enough.
    pub fn is_out_of_memory(&self) -> bool {
        self.code() == Some(Code::ResourceExhausted)
    }
}

/// `PJRT_Error_Code`: the kinds of errors a plugin reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Code {
    /// The operation was cancelled.
    Cancelled,
    /// No kind is known, or one that this version does not know.
    Unknown,
    /// Something given to the plugin is wrong: mostly the program.
    InvalidArgument,
    /// Not ready in time.
    DeadlineExceeded,
    /// Something is not there.
    NotFound,
    /// Something is there already.
    AlreadyExists,
    /// Not allowed.
    PermissionDenied,
    /// Out of memory, mostly the device's.
    ResourceExhausted,
    /// The state does not permit it.
    FailedPrecondition,
    /// Given up.
    Aborted,
    /// An index or a number is out of its range.
    OutOfRange,
    /// The plugin cannot do that.
    Unimplemented,
    /// A mistake inside the plugin.
    Internal,
    /// The device is not there, or not now.
    Unavailable,
    /// Data is lost.
    DataLoss,
    /// The caller is not known.
    Unauthenticated,
}

/// Numbers, kinds and names, in the order of the header.
const CODES: [(i32, Code, &str); 16] = [
    (1, Code::Cancelled, "CANCELLED"),
    (2, Code::Unknown, "UNKNOWN"),
    (3, Code::InvalidArgument, "INVALID_ARGUMENT"),
    (4, Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
    (5, Code::NotFound, "NOT_FOUND"),
    (6, Code::AlreadyExists, "ALREADY_EXISTS"),
    (7, Code::PermissionDenied, "PERMISSION_DENIED"),
    (8, Code::ResourceExhausted, "RESOURCE_EXHAUSTED"),
    (9, Code::FailedPrecondition, "FAILED_PRECONDITION"),
    (10, Code::Aborted, "ABORTED"),
    (11, Code::OutOfRange, "OUT_OF_RANGE"),
    (12, Code::Unimplemented, "UNIMPLEMENTED"),
    (13, Code::Internal, "INTERNAL"),
    (14, Code::Unavailable, "UNAVAILABLE"),
    (15, Code::DataLoss, "DATA_LOSS"),
    (16, Code::Unauthenticated, "UNAUTHENTICATED"),
];

impl Code {
    /// The kind of a number of the header; a number that is not known is [`Code::Unknown`].
    pub fn from_number(number: i32) -> Code {
        CODES.iter().find(|(n, ..)| *n == number).map_or(Code::Unknown, |(_, code, _)| *code)
    }

    /// The number in the header.
    pub fn number(self) -> i32 {
        CODES.iter().find(|(_, code, _)| *code == self).map_or(2, |(n, ..)| *n)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(CODES.iter().find(|(_, code, _)| code == self).map_or("UNKNOWN", |(.., name)| name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_header() {
        assert_eq!(Code::from_number(8), Code::ResourceExhausted);
        assert_eq!(Code::from_number(99), Code::Unknown);
        for (number, code, name) in CODES {
            assert_eq!((code.number(), code.to_string().as_str()), (number, name));
        }
    }
}
