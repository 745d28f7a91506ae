//! Dates: reading them, and what a network is told of them.

use std::f64::consts::TAU;

use serde::{Deserialize, Serialize};

/// In which order a date with numbers only is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DateOrder {
    /// `2013-07-30`.
    YearFirst,
    /// `30.07.2013`.
    DayFirst,
    /// `07/30/2013`.
    MonthFirst,
}

impl DateOrder {
    /// The orders, the likeliest first where a column allows several.
    pub const ALL: [DateOrder; 3] = [DateOrder::YearFirst, DateOrder::DayFirst, DateOrder::MonthFirst];
}

/// Seconds of a day.
pub(crate) const DAY: f64 = 86_400.0;

/// Seconds since 1970-01-01 00:00 (UTC where the text gives an offset) of texts such as `2013-07-30`, `2013-07-30T12:05:00Z`,
/// `30.07.2013 12:05`, `2013-07` (its first day).
pub(crate) fn parse(text: &str, order: DateOrder) -> Option<f64> {
    let (date, time) = match text.find(['T', ' ']) {
        Some(at) => (&text[..at], Some(text[at + 1..].trim())),
        None => (text, None),
    };
    let separator = date.chars().find(|c| !c.is_ascii_digit()).filter(|c| matches!(c, '-' | '/' | '.'))?;
    let parts: Vec<&str> = date.split(separator).collect();
    let number = |text: &str, lengths: std::ops::RangeInclusive<usize>| {
        let digits = lengths.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        if digits { text.parse::<i64>().ok() } else { None }
    };
    let (year, month, day) = match (order, parts.as_slice()) {
        (DateOrder::YearFirst, [y, m]) if separator != '.' => (y, m, &"1"),
        (DateOrder::YearFirst, [y, m, d]) => (y, m, d),
        (DateOrder::DayFirst, [d, m, y]) => (y, m, d),
        (DateOrder::MonthFirst, [m, d, y]) => (y, m, d),
        _ => return None,
    };
    let (year, month, day) = (number(year, 4..=4)?, number(month, 1..=2)?, number(day, 1..=2)?);
    if !(1..=12).contains(&month) || day < 1 || day > days_of_month(year, month) {
        return None;
    }
    let seconds = time.map_or(Some(0.0), clock)?;
    Some(days_since_1970(year, month, day) as f64 * DAY + seconds)
}

/// Seconds since midnight of `12:05`, `12:05:09.5`, `12:05:09Z`, `12:05+02:00`: less the offset.
fn clock(text: &str) -> Option<f64> {
    let (text, offset) = match text.find(['Z', '+', '-']) {
        Some(at) if &text[at..] == "Z" => (&text[..at], 0.0),
        Some(at) => {
            let digits: String = text[at + 1..].chars().filter(|c| *c != ':').collect();
            if digits.len() != 4 || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            let minutes = digits[..2].parse::<f64>().ok()? * 60.0 + digits[2..].parse::<f64>().ok()?;
            (&text[..at], if text.as_bytes()[at] == b'-' { -60.0 * minutes } else { 60.0 * minutes })
        }
        None => (text, 0.0),
    };
    let mut parts = text.trim().split(':');
    let mut part = |below: f64, needed: bool| match parts.next() {
        Some(p) if p.bytes().all(|b| b.is_ascii_digit() || b == b'.') => p.parse::<f64>().ok().filter(|v| *v < below),
        None if !needed => Some(0.0),
        _ => None,
    };
    let seconds = part(25.0, true)? * 3600.0 + part(60.0, true)? * 60.0 + part(61.0, false)?;
    parts.next().is_none().then_some(seconds - offset)
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of_month(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 of a date of the Gregorian calendar: eras of 400 years, years that begin in March (H. Hinnant,
/// "chrono-Compatible Low-Level Date Algorithms").
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Mean days of a year.
const YEAR: f64 = 365.2425;

/// Sine and cosine of the place in the year, in the week, and, with `clock`, in the day, of seconds since 1970.
pub(crate) fn cycles(seconds: f64, clock: bool, out: &mut Vec<f32>) {
    let days = seconds / DAY;
    let places = [days / YEAR, days / 7.0, days];
    for place in &places[..cycle_count(clock) / 2] {
        let (sin, cos) = (place.rem_euclid(1.0) * TAU).sin_cos();
        out.extend([sin as f32, cos as f32]);
    }
}

/// How many numbers [`cycles`] gives.
pub(crate) fn cycle_count(clock: bool) -> usize {
    if clock { 6 } else { 4 }
}

/// Names of what [`cycles`] gives for a column.
pub(crate) fn cycle_names(column: &str, clock: bool) -> impl Iterator<Item = String> {
    let cycles = ["year", "week", "day"];
    let column = column.to_owned();
    cycles.into_iter().take(cycle_count(clock) / 2).flat_map(move |c| [format!("{column}.{c}_sin"), format!("{column}.{c}_cos")])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_all_orders() {
        let noon = 1_375_185_600.0 + 4.0 * 3600.0;
        for (text, order) in [
            ("2013-07-30 16:00", DateOrder::YearFirst),
            ("2013/7/30T16:00:00.0", DateOrder::YearFirst),
            ("2013-07-30T18:00:00+02:00", DateOrder::YearFirst),
            ("2013-07-30T16:00:00Z", DateOrder::YearFirst),
            ("30.07.2013 16:00", DateOrder::DayFirst),
            ("07/30/2013 16:00", DateOrder::MonthFirst),
        ] {
            assert_eq!(parse(text, order), Some(noon), "{text}");
        }
        assert_eq!(parse("1970-01-01", DateOrder::YearFirst), Some(0.0));
        assert_eq!(parse("1969-12-31", DateOrder::YearFirst), Some(-DAY));
        assert_eq!(parse("2000-03", DateOrder::YearFirst), Some(11_017.0 * DAY));
    }

    #[test]
    fn what_is_no_date() {
        for text in
            ["2013-02-29", "2013-13-01", "2013", "13-07-30", "2013.07", "a-b-c", "2013-07-30 25:61", "2013-07-30 noon", ""]
        {
            assert_eq!(parse(text, DateOrder::YearFirst), None, "{text}");
        }
        assert_eq!(parse("30.07.2013", DateOrder::MonthFirst), None);
        assert_eq!(parse("2013-07-30 12:00é", DateOrder::YearFirst), None);
    }

    #[test]
    fn cycles_return_after_a_week() {
        let (mut one, mut other) = (Vec::new(), Vec::new());
        cycles(0.0, true, &mut one);
        cycles(7.0 * DAY, true, &mut other);
        assert_eq!(one.len(), cycle_names("t", true).count());
        assert_eq!(one[2..], other[2..]);
        assert_ne!(one[..2], other[..2]);
    }
}
