//! Lengths of time as people write them.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

/// A length of time: `90s`, `30m`, `2h`, `1d`, or a sum such as `1h30m`. In TOML a string.
///
/// ```
/// use backprop::config::Time;
///
/// let time: Time = "1h30m".parse()?;
/// assert_eq!(time.duration().as_secs(), 5400);
/// assert_eq!(time.to_string(), "1h30m");
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Time(Duration);

const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3600), ('m', 60), ('s', 1)];

/// What a time looks like.
const EXPECTED: &str = "a time above 0 such as \"90s\", \"30m\", \"2h\" or \"1h30m\"";

impl Time {
    /// The length.
    pub fn duration(self) -> Duration {
        self.0
    }
}

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Time, String> {
        let wrong = || format!("expected {EXPECTED}, found \"{text}\"");
        let (mut seconds, mut rest) = (0_u64, text.trim());
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
            let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
            let unit = rest[digits..].chars().next().and_then(|c| UNITS.iter().find(|u| u.0 == c)).ok_or_else(wrong)?.1;
            seconds = number.checked_mul(unit).and_then(|s| seconds.checked_add(s)).ok_or_else(wrong)?;
            rest = &rest[digits + 1..];
        }
        if seconds == 0 { Err(wrong()) } else { Ok(Time(Duration::from_secs(seconds))) }
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_secs();
        for (unit, seconds) in UNITS {
            if rest >= seconds {
                write!(f, "{}{unit}", rest / seconds)?;
                rest %= seconds;
            }
        }
        Ok(())
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Time, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Time;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(EXPECTED)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Time, E> {
                text.parse().map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        d.deserialize_str(Visitor)
    }
}

impl JsonSchema for Time {
    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^([0-9]+[dhms])+$",
            "description": "A length of time: `90s`, `30m`, `2h`, `1d`, or a sum such as `1h30m`.",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_and_write() {
        for (text, seconds) in [("90s", 90), ("30m", 1800), ("2h", 7200), ("1d", 86_400), ("1h30m", 5400), (" 1m1s ", 61)] {
            let time: Time = text.parse().unwrap();
            assert_eq!(time.duration().as_secs(), seconds, "{text}");
            assert_eq!(time.to_string().parse::<Time>().unwrap(), time);
        }
        assert_eq!("90s".parse::<Time>().unwrap().to_string(), "1m30s");
        for bad in ["", "0s", "5", "h", "1.5h", "-1h", "1w", "2 h", "99999999999999999999s", "9999999999999999999d", "1é"] {
            assert!(bad.parse::<Time>().unwrap_err().contains("such as"), "{bad}");
        }
    }
}
