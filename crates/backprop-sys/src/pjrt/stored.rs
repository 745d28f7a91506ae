//! Serialised executables, wrapped: plugins do not look whether the bytes are theirs, and a damaged one kills the process.
//!
//! ```text
//! backprop PJRT executable 1        what it is, and the version of this form
//! 1c291ca3                          CRC-32 of everything behind this line
//! plugin 0.115, 63012345 bytes      the version of the C API and the length of the plugin's file
//! platform cuda
//! device NVIDIA H100 80GB HBM3
//! options 1a0420012801              CompileOptionsProto, in hexadecimal
//! arguments tensor<2x3xf32> …       types of the arguments, `?` if they are not known
//!                                   an empty line, then the plugin's bytes
//! ```

use std::fmt::Write;

use super::{error::Error, executable::TensorType, plugin::Plugin, signature};

const FIRST_LINE: &str = "backprop PJRT executable 1\n";

/// Bytes of the line with the checksum.
const CHECKSUM_LINE: usize = 9;

/// What an executable was compiled by, and for. Another one does not load it.
pub(super) struct Origin(String);

impl Origin {
    pub(super) fn new(plugin: &Plugin, platform: &str, device: &str, options: &[u8]) -> Origin {
        let (major, minor) = plugin.version();
        let mut text = format!("plugin {major}.{minor}, {} bytes\n", plugin.table().length());
        for (name, value) in [("platform", platform), ("device", device)] {
            text += &format!("{name} {}\n", value.replace('\n', " "));
        }
        text += "options ";
        options.iter().for_each(|byte| {
            let _ = write!(text, "{byte:02x}");
        });
        Origin(text + "\n")
    }

    /// Wraps a plugin's bytes.
    pub(super) fn wrap(&self, arguments: Option<&[TensorType]>, bytes: &[u8]) -> Vec<u8> {
        let types: Vec<String> = arguments.unwrap_or_default().iter().map(|(element, dims)| element.tensor(dims)).collect();
        let types = if arguments.is_some() { types.join(" ") } else { "?".into() };
        let rest = [self.0.as_bytes(), b"arguments ", types.as_bytes(), b"\n\n", bytes].concat();
        let checksum = format!("{:08x}\n", crc32fast::hash(&rest));
        [FIRST_LINE.as_bytes(), checksum.as_bytes(), &rest].concat()
    }

    /// The types of the arguments and the plugin's bytes, if they are whole and of this origin.
    pub(super) fn unwrap<'a>(&self, stored: &'a [u8]) -> Result<(Option<Vec<TensorType>>, &'a [u8]), Error> {
        let invalid = |reason: &str| Error::Invalid(format!("{reason}; compile the program anew"));
        let Some((checksum, rest)) = stored.strip_prefix(FIRST_LINE.as_bytes()).and_then(|r| r.split_at_checked(CHECKSUM_LINE))
        else {
            return Err(invalid("this is no serialised executable, or one of another version of backprop"));
        };
        if format!("{:08x}\n", crc32fast::hash(rest)).as_bytes() != checksum {
            return Err(invalid("this serialised executable is damaged: its checksum is wrong"));
        }
        let Some(rest) = rest.strip_prefix(self.0.as_bytes()).and_then(|r| r.strip_prefix(b"arguments ")) else {
            return Err(invalid(&self.difference(rest)));
        };
        let end = rest.windows(2).position(|pair| pair == b"\n\n");
        let Some((types, bytes)) = end.and_then(|end| Some((str::from_utf8(&rest[..end]).ok()?, &rest[end + 2..]))) else {
            return Err(invalid("this serialised executable has no bytes of a plugin"));
        };
        Ok((types.split_whitespace().map(signature::tensor).collect(), bytes))
    }

    /// The first line that is not as it should be.
    fn difference(&self, rest: &[u8]) -> String {
        let theirs = rest.split(|byte| *byte == b'\n').map(String::from_utf8_lossy);
        match theirs.zip(self.0.lines()).find(|(theirs, ours)| theirs != ours) {
            Some((theirs, ours)) => format!("this serialised executable is for `{theirs}`; here is `{ours}`"),
            None => "this serialised executable is of another form".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pjrt::ElementType;

    fn origin(device: &str) -> Origin {
        Origin(format!("plugin 0.1, 9 bytes\nplatform p\ndevice {device}\noptions 1a\n"))
    }

    #[test]
    fn what_is_wrapped_is_unwrapped() {
        let types = vec![(ElementType::F32, vec![2, 3]), (ElementType::Bool, vec![])];
        for arguments in [None, Some(Vec::new()), Some(types)] {
            let stored = origin("d").wrap(arguments.as_deref(), b"\n\nbytes");
            assert_eq!(origin("d").unwrap(&stored).unwrap(), (arguments, &b"\n\nbytes"[..]));
        }
    }

    #[test]
    fn damage_and_another_origin_are_noticed() {
        let stored = origin("d").wrap(Some(&[(ElementType::F32, vec![2])]), b"bytes");
        for at in 0..stored.len() {
            assert!(origin("d").unwrap(&stored[..at]).is_err(), "cut at {at}");
            let mut flipped = stored.clone();
            flipped[at] ^= 1;
            assert!(origin("d").unwrap(&flipped).is_err(), "flipped at {at}");
        }
        let error = origin("e").unwrap(&stored).unwrap_err().to_string();
        assert!(error.contains("is for `device d`; here is `device e`"), "{error}");
    }
}
