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

/// The widest a table may be, in characters.
const WIDTH: usize = 100;

/// Columns of equal width, numbers to the right; cells are cut so that a line fits.
pub(crate) fn aligned(rows: &[Vec<String>]) -> Vec<String> {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let mut widths: Vec<usize> = (0..count).map(width).collect();
    while widths.iter().sum::<usize>() + 2 * count > WIDTH {
        // The widest column gives way until it is no wider than a short word.
        match widths.iter_mut().max() {
            Some(widest) if *widest > 8 => *widest -= 1,
            _ => break,
        }
    }
    let number = |cell: &str| cell.trim_end_matches(" %").parse::<f64>().is_ok();
    let numeric: Vec<bool> =
        (0..count).map(|c| rows.len() > 1 && rows[1..].iter().all(|r| r.get(c).is_none_or(|cell| number(cell)))).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().enumerate().map(|(c, cell)| {
            let cell = cut(cell, widths[c]);
            let width = widths[c];
            if numeric[c] { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().chars().take(WIDTH).collect()
    };
    rows.iter().map(line).collect()
}

/// Whether a table fits without a cell being cut.
pub(crate) fn fits(rows: &[Vec<String>]) -> bool {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    (0..count).map(width).sum::<usize>() + 2 * count <= WIDTH
}

/// A text in lines that fit beside so many columns, broken between words; a word that fits no line has one of its own.
pub(crate) fn wrapped(text: &str, indent: usize) -> Vec<String> {
    let mut lines: Vec<String> = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() || indent + line.chars().count() + 1 + word.chars().count() <= WIDTH => {
                line.push_str(if line.is_empty() { "" } else { " " });
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

fn cut(cell: &str, width: usize) -> String {
    if cell.chars().count() <= width {
        return cell.to_owned();
    }
    cell.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// A measured number: four decimals, or as many digits where it is large or small.
pub(crate) fn figure(value: f64) -> String {
    match value.abs() {
        size if size >= 1000.0 => format!("{value:.1}"),
        size if size != 0.0 && size < 0.001 => format!("{value:.2e}"),
        _ => format!("{value:.4}"),
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
    fn tables_fit_and_numbers_stand_to_the_right() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let long = "a".repeat(150);
        let lines = aligned(&[row(["sample", "price", "kind"]), row([&long, "9.5", "x"]), row(["b", "10.5", "y"])]);
        assert!(lines.iter().all(|l| l.chars().count() <= WIDTH), "{lines:?}");
        assert!(lines[1].contains("…    9.5  x") && lines[2].ends_with("10.5  y"), "{lines:?}");
    }

    #[test]
    fn texts_break_between_words() {
        let long = "x".repeat(120);
        let text = format!("{} {long} end", "word ".repeat(40));
        let lines = wrapped(&text, 6);
        assert_eq!(lines.join(" "), text.split_whitespace().collect::<Vec<_>>().join(" "));
        assert!(lines.iter().all(|l| l.chars().count() <= WIDTH - 6 || *l == long), "{lines:?}");
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!([grouped(7), grouped(1234), grouped(1_234_567)], ["7", "1,234", "1,234,567"]);
        assert_eq!([bytes(12), bytes(1536), bytes(5 << 30)], ["12 B", "1.50 KiB", "5.00 GiB"]);
        assert_eq!([count(999), count(1_230_000)], ["999", "1.23 M"]);
    }
}
