//! Options of a compilation, encoded as XLA's `CompileOptionsProto`.

use super::{error::Error, value::Value};

/// Most devices one program may run on here. A number beyond it is a mistake that a plugin would answer by aborting.
const DEVICES: usize = 4096;

/// Numbers of the fields of `CompileOptionsProto`.
mod field {
    pub const BUILD_OPTIONS: u64 = 3;
    pub const OVERRIDES: u64 = 7;
}

/// Numbers of the fields of `ExecutableBuildOptionsProto`.
mod build {
    pub const REPLICAS: u64 = 4;
    pub const PARTITIONS: u64 = 5;
    pub const SPMD: u64 = 6;
    pub const SHARDY: u64 = 19;
}

/// How a program is compiled.
#[derive(Debug, Clone, PartialEq)]
pub struct CompileOptions {
    /// Copies of the program, each with its own arguments, on a device each.
    pub replicas: usize,
    /// Devices over which one copy is partitioned, as the program's shardings say.
    pub partitions: usize,
    /// Whether the shardings are those of Shardy (`sdy.mesh`) rather than GSPMD's.
    pub shardy: bool,
    /// XLA's debug options by name, such as `xla_gpu_deterministic_ops`.
    pub options: Vec<(String, Value)>,
}

impl Default for CompileOptions {
    /// One device, nothing else.
    fn default() -> CompileOptions {
        CompileOptions { replicas: 1, partitions: 1, shardy: false, options: Vec::new() }
    }
}

impl CompileOptions {
    /// The bytes. Refuses what would make a plugin abort the process.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        for (what, count) in [("replicas", self.replicas), ("partitions", self.partitions)] {
            if count == 0 || count > DEVICES {
                return Err(Error::Invalid(format!("a program cannot run on {count} {what}; 1 to {DEVICES} are possible")));
            }
        }
        let mut build = Message::default();
        build.number(build::REPLICAS, self.replicas as u64);
        build.number(build::PARTITIONS, self.partitions as u64);
        if self.partitions > 1 {
            build.number(build::SPMD, 1);
        }
        if self.shardy {
            build.number(build::SHARDY, 1);
        }
        let mut whole = Message::default();
        whole.bytes(field::BUILD_OPTIONS, &build.0);
        for (name, value) in &self.options {
            whole.bytes(field::OVERRIDES, &entry(name, value)?);
        }
        Ok(whole.0)
    }
}

/// An entry of `map<string, OptionOverrideProto>`: key 1, value 2.
fn entry(name: &str, value: &Value) -> Result<Vec<u8>, Error> {
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Err(Error::Invalid(format!(
            "`{name}` is not the name of an option of XLA; they are like `xla_gpu_deterministic_ops`"
        )));
    }
    let mut inner = Message::default();
    match value {
        Value::Text(text) => inner.bytes(1, text.as_bytes()),
        Value::Bool(bool) => inner.number(2, u64::from(*bool)),
        Value::Int(int) => inner.number(3, int.cast_unsigned()),
        Value::Float(float) => inner.double(4, f64::from(*float)),
        Value::Ints(_) => return Err(Error::Invalid(format!("the option `{name}` of XLA takes one value, not a list"))),
    }
    let mut entry = Message::default();
    entry.bytes(1, name.as_bytes());
    entry.bytes(2, &inner.0);
    Ok(entry.0)
}

/// A message in the wire format of protocol buffers.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn number(&mut self, field: u64, value: u64) {
        self.varint(field << 3);
        self.varint(value);
    }

    fn double(&mut self, field: u64, value: f64) {
        self.varint((field << 3) | 1);
        self.0.extend(value.to_le_bytes());
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.varint((field << 3) | 2);
        self.varint(bytes.len() as u64);
        self.0.extend(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(replicas: usize, partitions: usize, shardy: bool) -> Vec<u8> {
        CompileOptions { replicas, partitions, shardy, options: Vec::new() }.encode().unwrap()
    }

    #[test]
    fn bytes_are_those_that_plugins_take() {
        assert_eq!(with(1, 1, false), [0x1a, 4, 0x20, 1, 0x28, 1]);
        assert_eq!(with(2, 1, false), [0x1a, 4, 0x20, 2, 0x28, 1]);
        assert_eq!(with(1, 2, false), [0x1a, 6, 0x20, 1, 0x28, 2, 0x30, 1]);
        assert_eq!(with(1, 2, true), [0x1a, 9, 0x20, 1, 0x28, 2, 0x30, 1, 0x98, 1, 1]);
        assert_eq!(with(300, 1, false)[..5], [0x1a, 5, 0x20, 0xac, 2]);
    }

    #[test]
    fn options_of_xla_are_a_map() {
        let options = vec![("a".to_string(), Value::Bool(true)), ("b".to_string(), Value::Text("x".into()))];
        let bytes = CompileOptions { options, ..CompileOptions::default() }.encode().unwrap();
        assert_eq!(bytes[6..], [0x3a, 7, 0x0a, 1, b'a', 0x12, 2, 0x10, 1, 0x3a, 8, 0x0a, 1, b'b', 0x12, 3, 0x0a, 1, b'x']);
        let int = entry("c", &Value::Int(-1)).unwrap();
        assert_eq!(int[3..], [0x12, 11, 0x18, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1]);
        let float = entry("d", &Value::Float(0.5)).unwrap();
        assert_eq!(float[3..], [0x12, 9, 0x21, 0, 0, 0, 0, 0, 0, 0xe0, 0x3f]);
    }

    #[test]
    fn what_would_abort_a_plugin_is_refused() {
        for (replicas, partitions) in [(0, 1), (1, 0), (5000, 1)] {
            let options = CompileOptions { replicas, partitions, ..CompileOptions::default() };
            assert!(matches!(options.encode(), Err(Error::Invalid(_))));
        }
        assert!(entry("--xla", &Value::Bool(true)).is_err());
        assert!(entry("xla", &Value::Ints(vec![1])).is_err());
    }
}
