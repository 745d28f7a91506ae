//! How a table is written: found by looking at its beginning.

use serde::{Deserialize, Serialize};

use super::cell::{self, Cells};
use super::date::DateOrder;
use super::error::TableError;
use super::read::Text;
use super::settings::{CsvFormat, Decimal};
use crate::DataError;

/// How a table is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dialect {
    /// What stands between fields.
    pub delimiter: char,
    /// Whether the first line names the columns.
    pub header: bool,
    /// Whether a comma stands before the decimals of a number.
    pub decimal_comma: bool,
    /// Words for a missing value, beside the usual ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

impl Default for Dialect {
    fn default() -> Self {
        Self { delimiter: ',', header: true, decimal_comma: false, missing: Vec::new() }
    }
}

/// Bytes looked at.
const BEGINNING: usize = 1 << 16;

/// Delimiters that are looked for. One that fits every line wins over those after it: commas stand in numbers and texts, too.
const CANDIDATES: [char; 4] = ['\t', ';', '|', ','];

impl Dialect {
    /// Finds what `format` leaves open.
    pub(crate) fn find(text: &Text<'_>, format: &CsvFormat) -> Result<Self, DataError> {
        let (bytes, all) = text.beginning(BEGINNING)?;
        let delimiter = match format.delimiter {
            Some(c) if !c.is_ascii() || matches!(c, '"' | '\n' | '\r' | '\0') => {
                return Err(TableError::Delimiter { delimiter: c }.into());
            }
            Some(given) => given,
            None => delimiter(&bytes, all),
        };
        let records = records(&bytes, all, delimiter);
        let decimal_comma = match format.decimal {
            Some(decimal) => decimal == Decimal::Comma,
            None => delimiter != ',' && commas_outnumber_points(&records),
        };
        let mut found = Self { delimiter, header: true, decimal_comma, missing: format.missing.clone() };
        found.header = format.header.unwrap_or_else(|| has_header(&records, &found.cells()));
        Ok(found)
    }

    pub(crate) fn cells(&self) -> Cells {
        Cells { decimal_comma: self.decimal_comma, missing: self.missing.clone() }
    }
}

/// Records of the beginning, without the last, which may be cut.
fn records(bytes: &[u8], all: bool, delimiter: char) -> Vec<Vec<String>> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).delimiter(delimiter as u8).from_reader(bytes);
    let lossy = |r: csv::ByteRecord| r.iter().map(|f| String::from_utf8_lossy(f).into_owned()).collect();
    let mut records: Vec<Vec<String>> = reader.byte_records().filter_map(Result::ok).map(lossy).collect();
    if !all && records.len() > 1 {
        records.pop();
    }
    records
}

fn delimiter(bytes: &[u8], all: bool) -> char {
    let mut best = (0.0, ',');
    for candidate in CANDIDATES {
        let records = records(bytes, all, candidate);
        let first = records.first().map_or(0, Vec::len);
        if first < 2 {
            continue;
        }
        let same = records.iter().filter(|r| r.len() == first).count() as f64 / records.len() as f64;
        // A file of one line fits any delimiter: there, more fields say more.
        let fit = if records.len() == 1 { first as f64 } else { same };
        if fit > best.0 {
            best = (fit, candidate);
        }
    }
    best.1
}

/// Whether more fields are numbers such as `1,5` than numbers such as `1.5`.
fn commas_outnumber_points(records: &[Vec<String>]) -> bool {
    let written_with = |field: &str, decimal: char| {
        let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
        let (whole, rest) = field.trim().trim_start_matches(['-', '+']).split_once(decimal).unwrap_or_default();
        digits(&whole.replace('.', "")) && digits(rest)
    };
    let count = |decimal| records.iter().flatten().filter(|f| written_with(f, decimal)).count();
    count(',') > count('.')
}

/// The first line names the columns if none of its fields is a number or a date, and, where all columns hold words, if none of its
/// words occurs again in its column.
fn has_header(records: &[Vec<String>], cells: &Cells) -> bool {
    let Some((first, rest)) = records.split_first() else { return true };
    let is_value = |field: &String| {
        let Some(value) = cells.value(field) else { return !field.trim().is_empty() };
        cells.number(value).is_some() || DateOrder::ALL.iter().any(|o| cell::date(value, *o).is_some())
    };
    if first.iter().any(is_value) {
        return false;
    }
    let values_below = rest.iter().flatten().any(is_value);
    values_below || !first.iter().enumerate().any(|(i, name)| rest.iter().any(|r| r.get(i) == Some(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(text: &str) -> (char, bool, bool) {
        let d = Dialect::find(&Text::Bytes("t", text.as_bytes()), &CsvFormat::default()).unwrap();
        (d.delimiter, d.header, d.decimal_comma)
    }

    #[test]
    fn dialects_are_found() {
        assert_eq!(find("a,b\n1,2\n"), (',', true, false));
        assert_eq!(find("a;b\r\n1,5;2,5\r\n2,25;x\r\n"), (';', true, true));
        assert_eq!(find("1,5;2,5\n1,7;3,5\n"), (';', false, true));
        assert_eq!(find("a\tb\n1.5\t\"x,y\"\n"), ('\t', true, false));
        assert_eq!(find("a|b\nx|y\n"), ('|', true, false));
        assert_eq!(find("yes,red\nno,red\nyes,blue\n"), (',', false, false));
        assert_eq!(find("\u{feff}price\n1\n2\n"), (',', true, false));
        assert_eq!(find("text,n\n\"one; two\",1\n\"three; four; five\",2\n"), (',', true, false));
        assert_eq!(find(",a\n0,x\n1,y\n"), (',', true, false));
    }
}
