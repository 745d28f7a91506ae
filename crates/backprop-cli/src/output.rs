//! Printing that survives a reader who leaves: `backprop train | head` trains to its end.

use serde::Serialize;
use std::io::{self, Write};

/// A line on standard output.
pub(crate) fn line(text: &str) {
    // What cannot be printed is lost, and nothing else: the run folder has it all.
    let _ = writeln!(io::stdout().lock(), "{text}");
}

/// A piece of a line on standard output, shown at once; says whether anybody still reads.
pub(crate) fn piece(text: &str) -> bool {
    let mut out = io::stdout().lock();
    write!(out, "{text}").and_then(|()| out.flush()).is_ok()
}

/// A line on standard error.
pub(crate) fn error_line(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// One JSON object on a line of standard output.
pub(crate) fn json(value: &impl Serialize) {
    if let Ok(text) = serde_json::to_string(value) {
        line(&text);
    }
}

/// A number with separators: `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Bytes in a unit a person reads: `3.25 MiB`.
pub(crate) fn bytes(number: usize) -> String {
    scaled(number as f64, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB"])
}

/// A count in a unit a person reads: `3.25 M`.
pub(crate) fn count(number: u64) -> String {
    scaled(number as f64, 1000.0, &["", "k", "M", "G", "T"])
}

fn scaled(mut number: f64, base: f64, units: &[&str]) -> String {
    let mut unit = 0;
    while number >= base && unit + 1 < units.len() {
        number /= base;
        unit += 1;
    }
    let digits = if unit == 0 { 0 } else { 2 };
    format!("{number:.digits$} {}", units[unit]).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!([grouped(7), grouped(1234), grouped(1_234_567)], ["7", "1,234", "1,234,567"]);
        assert_eq!([bytes(12), bytes(1536), bytes(5 << 30)], ["12 B", "1.50 KiB", "5.00 GiB"]);
        assert_eq!([count(999), count(1_230_000)], ["999", "1.23 M"]);
    }
}
