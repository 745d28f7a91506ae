//! Values of options.

use super::raw::{self, NamedValueUnion, named_value};

/// The value of an option of a client, a topology or a compilation.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A whole number.
    Int(i64),
    /// Whole numbers.
    Ints(Vec<i64>),
    /// A number.
    Float(f32),
    /// Yes or no.
    Bool(bool),
}

/// Options as the C API wants them. They point into `options`.
pub(super) fn named(options: &[(&str, Value)]) -> Vec<raw::NamedValue> {
    options.iter().map(|(name, value)| one(name, value)).collect()
}

fn one(name: &str, value: &Value) -> raw::NamedValue {
    let (kind, value, value_size) = match value {
        Value::Text(text) => (named_value::TEXT, NamedValueUnion { text: text.as_ptr() }, text.len()),
        Value::Int(int) => (named_value::INT, NamedValueUnion { int: *int }, 1),
        Value::Ints(ints) => (named_value::INTS, NamedValueUnion { ints: ints.as_ptr() }, ints.len()),
        Value::Float(float) => (named_value::FLOAT, NamedValueUnion { float: *float }, 1),
        Value::Bool(bool) => (named_value::BOOL, NamedValueUnion { bool: *bool }, 1),
    };
    raw::NamedValue {
        struct_size: size_of::<raw::NamedValue>(),
        extension_start: std::ptr::null_mut(),
        name: name.as_ptr(),
        name_size: name.len(),
        kind,
        value,
        value_size,
    }
}
