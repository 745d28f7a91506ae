//! What one field of a table says.

use super::date::{self, DateOrder};

/// Words that stand for a missing value: those of pandas, and what other programs write.
const MISSING: [&str; 11] = ["na", "n/a", "<na>", "nan", "-nan", "null", "#n/a", "?", "-", "--", "."];

/// Words of numbers without an end, which no network can read.
const INFINITE: [&str; 6] = ["inf", "+inf", "-inf", "infinity", "+infinity", "-infinity"];

/// How fields are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cells {
    /// Whether a comma stands before the decimals.
    pub decimal_comma: bool,
    /// Further words for a missing value.
    pub missing: Vec<String>,
}

impl Cells {
    /// The field without white space around it; `None` if it says that the value is missing.
    pub fn value<'c>(&self, field: &'c str) -> Option<&'c str> {
        let field = field.trim();
        // `None` as Python writes it; in lower case it is a word that people use.
        let usual = field.is_empty()
            || field == "None"
            || (field.len() <= 9 && MISSING.iter().chain(&INFINITE).any(|w| w.eq_ignore_ascii_case(field)));
        (!usual && !self.missing.iter().any(|w| w == field)).then_some(field)
    }

    /// A finite number. Groups of three digits may be set apart by the other of point and comma.
    pub fn number(&self, value: &str) -> Option<f64> {
        let (decimal, group) = if self.decimal_comma { (',', '.') } else { ('.', ',') };
        let plain = |text: &str| {
            let known = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'+' | b'e' | b'E'));
            if known { text.parse::<f64>().ok().filter(|n| n.is_finite()) } else { None }
        };
        if !self.decimal_comma && !value.contains(group) {
            return plain(value);
        }
        let whole = value.split(decimal).next().unwrap_or("");
        if whole.contains(group) && !grouped(whole, group) {
            return None;
        }
        let (whole, rest) = value.split_at(whole.len());
        plain(&format!("{}{}", whole.replace(group, ""), rest.replacen(decimal, ".", 1)))
    }
}

/// Whether digits stand in groups of three, as in `1,234,567`.
fn grouped(whole: &str, group: char) -> bool {
    let mut groups = whole.trim_start_matches(['-', '+']).split(group);
    let first = groups.next().unwrap_or("");
    (1..=3).contains(&first.len()) && groups.all(|g| g.len() == 3 && g.bytes().all(|b| b.is_ascii_digit()))
}

/// Yes or no.
pub(crate) fn boolean(value: &str) -> Option<bool> {
    let is = |words: &[&str]| words.iter().any(|w| w.eq_ignore_ascii_case(value));
    match () {
        () if is(&["true", "yes", "y", "t", "on"]) => Some(true),
        () if is(&["false", "no", "n", "f", "off"]) => Some(false),
        () => None,
    }
}

/// Seconds since 1970 of a date.
pub(crate) fn date(value: &str, order: DateOrder) -> Option<f64> {
    date::parse(value, order)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_points_commas_and_groups() {
        let point = Cells::default();
        assert_eq!(point.number("1.5"), Some(1.5));
        assert_eq!(point.number("-1,234,567.25"), Some(-1_234_567.25));
        assert_eq!(point.number("+2e-3"), Some(0.002));
        for text in ["1,5", "12,34,567", "1.2.3", "", "e", "inf", "nan", "1e999", "0x10", "five", "1,2345"] {
            assert_eq!(point.number(text), None, "{text}");
        }
        let comma = Cells { decimal_comma: true, ..Cells::default() };
        assert_eq!(comma.number("1,5"), Some(1.5));
        assert_eq!(comma.number("1.234,5"), Some(1234.5));
        assert_eq!(comma.number("7"), Some(7.0));
        assert_eq!(comma.number("1,2,3"), None);
    }

    #[test]
    fn words_for_what_is_missing() {
        let cells = Cells { missing: vec!["-999".into()], ..Cells::default() };
        for text in ["", "  ", "NA", "n/a", "NaN", "null", "NULL", "?", "None", "-999", "-inf", "."] {
            assert_eq!(cells.value(text), None, "{text}");
        }
        for text in ["none", "0", "Nah", "-1"] {
            assert_eq!(cells.value(text), Some(text));
        }
    }
}
