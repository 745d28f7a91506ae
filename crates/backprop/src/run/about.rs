//! `run.json`: the format of a run folder, and who made it when.

use super::{RunError, line};
use crate::files;
use serde::{Deserialize, Serialize};
use std::{
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

const FILE: &str = "run.json";

/// Version of the format of run folders. Folders of every earlier version open too; a later one is refused, since its files may mean
/// something else.
pub const FORMAT: u32 = 1;

/// `run.json`. A folder without it is of the time before formats had versions, and opens as format 1.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct About {
    /// Version of the format of the folder.
    pub format: u32,
    /// The program that made it, with its version.
    pub program: String,
    /// When it was made, as in `2026-11-24T17:30:00Z`.
    pub made: String,
}

impl About {
    /// A folder that is made now.
    pub(super) fn now() -> About {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        About { format: FORMAT, program: concat!("backprop ", env!("CARGO_PKG_VERSION")).into(), made: utc(since) }
    }

    pub(super) fn write(&self, folder: &Path) -> Result<(), files::FileError> {
        files::write_synced(&folder.join(FILE), &line(self))
    }

    /// Reads the file of a folder, if there is one. Other keys than these are of a later version and not needed.
    pub(super) fn read(folder: &Path) -> Result<Option<About>, RunError> {
        let file = folder.join(FILE);
        if !file.exists() {
            return Ok(None);
        }
        let damaged = |what: String| RunError::Damaged { file: file.clone(), what };
        let about: About = serde_json::from_slice(&files::read(&file)?).map_err(|e| damaged(e.to_string()))?;
        match about.format {
            0 => Err(damaged("there is no format 0".into())),
            1..=FORMAT => Ok(Some(about)),
            found => Err(RunError::Newer { folder: folder.into(), found, program: about.program }),
        }
    }
}

/// A time since 1970 as in RFC 3339, in UTC. The date by Howard Hinnant's `civil_from_days`.
fn utc(since: Duration) -> String {
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Days since 1 March of year 0; years begin in March, so that a leap day is the last.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 { (year, month + 3) } else { (year + 1, month - 9) };
    let year = year + era * 400;
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        let cases = [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_767_225_599, "2025-12-31T23:59:59Z"),
            (1_790_294_401, "2026-09-25T00:00:01Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ];
        for (seconds, text) in cases {
            assert_eq!(utc(Duration::from_secs(seconds)), text);
        }
    }
}
