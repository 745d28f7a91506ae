//! What the machine, or the container on it, lets a process have.

use std::{fs, num::NonZeroUsize, path::Path, thread};

/// Threads that run at once in this process at most: the machine's, less what the affinity of the process and the quota of its control
/// group withhold.
pub fn threads() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// Bytes of memory this process can have at most: the machine's, or the limit of its control group if that is lower. `None` where the
/// system does not say.
///
/// ```
/// assert!(backprop_data::machine::memory_limit().is_none_or(|bytes| bytes > 1 << 20));
/// ```
pub fn memory_limit() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let installed = fs::read_to_string("/proc/meminfo").ok().and_then(|text| installed(&text));
    group_files(&groups).iter().filter_map(|file| limit(Path::new(file))).chain(installed).min()
}

/// The most bytes of memory that this process has held at once so far. `None` where the system does not say.
///
/// ```
/// assert!(backprop_data::machine::peak_resident().is_none_or(|bytes| bytes > 1 << 16));
/// ```
pub fn peak_resident() -> Option<u64> {
    kibibytes(&fs::read_to_string("/proc/self/status").ok()?, "VmHWM:")
}

/// `MemTotal` of /proc/meminfo.
fn installed(meminfo: &str) -> Option<u64> {
    kibibytes(meminfo, "MemTotal:")
}

/// The bytes of a line that begins with `name`, in files of the system that count in KiB.
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|l| l.strip_prefix(name))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Files that may hold a limit: of version 2 and of version 1, of the process's own group and, as containers see it, at the root.
fn group_files(groups: &str) -> Vec<String> {
    let mut files = vec!["/sys/fs/cgroup/memory.max".to_string(), "/sys/fs/cgroup/memory/memory.limit_in_bytes".to_string()];
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        match (fields.next(), fields.next()) {
            (Some(""), Some(path)) => files.push(format!("/sys/fs/cgroup{path}/memory.max")),
            (Some(names), Some(path)) if names.split(',').any(|n| n == "memory") => {
                files.push(format!("/sys/fs/cgroup/memory{path}/memory.limit_in_bytes"));
            }
            _ => {}
        }
    }
    files
}

/// The number in a file; `max` stands for no limit.
fn limit(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_kibibytes() {
        assert_eq!(installed("Foo: 1 kB\nMemTotal:       24598904 kB\n"), Some(24_598_904 * 1024));
        assert_eq!(installed("nothing"), None);
    }

    #[test]
    fn groups_of_both_versions_are_looked_up() {
        let files = group_files("9:cpu,memory:/a\n8:pids:/b\n0::/c/d\n");
        assert!(files.contains(&"/sys/fs/cgroup/memory/a/memory.limit_in_bytes".into()));
        assert!(files.contains(&"/sys/fs/cgroup/c/d/memory.max".into()));
        assert_eq!(files.len(), 4);
    }
}
