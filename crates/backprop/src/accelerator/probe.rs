//! Looking at a plugin in a process of its own.

use super::{Platform, Unusable};
use backprop_sys::pjrt::{self, Plugin, Value};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    env,
    ffi::OsString,
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

/// How long a plugin may take to answer by default.
const LIMIT: Duration = Duration::from_secs(30);

/// The environment variable with the seconds that a plugin may take.
pub const SECONDS_VARIABLE: &str = "BACKPROP_PROBE_SECONDS";

/// How often the child process is looked after.
const PAUSE: Duration = Duration::from_millis(5);

/// How long to wait for a process that was killed, and for the rest of what one wrote that has ended: another may hold its pipes.
const REST: Duration = Duration::from_millis(500);

/// So many bytes at least are kept of what a plugin writes.
const KEPT: usize = 1 << 20;

/// What a plugin says of itself.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Version of the C API: major, minor.
    pub api: (i32, i32),
    /// Its own name: `cuda`, `rocm`, `tpu`, `cpu`.
    pub platform: String,
    /// Versions of what it is made of, in its own words.
    pub platform_version: String,
    /// Its devices.
    pub devices: Vec<ChipReport>,
}

/// One device of a plugin.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ChipReport {
    /// Its number.
    pub id: i32,
    /// Its model: `NVIDIA H100 80GB HBM3`.
    pub kind: String,
    /// Memory that a program can have on it, where the plugin says.
    pub memory_bytes: Option<u64>,
}

/// What a child process answers.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Answer {
    Works(Report),
    Fails { error: String },
}

/// Loads plugins and asks them what they are; each once.
pub struct Prober {
    command: Vec<OsString>,
    limit: Duration,
    answers: Mutex<HashMap<PathBuf, Result<Report, Unusable>>>,
}

impl Prober {
    /// Loads plugins into this process. A damaged one can end or stop it.
    pub fn in_process() -> Prober {
        Prober::command([])
    }

    /// Starts a command for each plugin, with the plugin's path as one more argument; it prints [`probe_line`] of that path.
    pub fn command(command: impl IntoIterator<Item = OsString>) -> Prober {
        Prober { command: command.into_iter().collect(), limit: LIMIT, answers: Mutex::default() }
    }

    /// How long the command may take; 30 seconds by default.
    pub fn limit(self, limit: Duration) -> Prober {
        Prober { limit, ..self }
    }

    /// As long as the environment variable [`SECONDS_VARIABLE`] says, if it is set.
    ///
    /// # Errors
    /// A variable that is no whole number of 1 or more.
    pub fn limit_of_environment(self) -> Result<Prober, Unusable> {
        let Some(value) = env::var_os(SECONDS_VARIABLE) else { return Ok(self) };
        match value.to_str().and_then(|text| text.trim().parse().ok()).filter(|seconds| *seconds > 0) {
            Some(seconds) => Ok(self.limit(Duration::from_secs(seconds))),
            None => Err(Unusable::BadSeconds { value: value.display().to_string() }),
        }
    }

    /// What the plugin says of itself.
    pub(super) fn probe(&self, path: &Path) -> Result<Report, Unusable> {
        let known = self.answers.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned();
        known.unwrap_or_else(|| {
            let answer = self.ask(path);
            self.answers.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned(), answer.clone());
            answer
        })
    }

    fn ask(&self, path: &Path) -> Result<Report, Unusable> {
        let answer = match self.command.split_first() {
            None => look(path),
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(path);
                run(command, path, self.limit)?
            }
        };
        match answer {
            Answer::Works(report) => Ok(report),
            Answer::Fails { error } => Err(Unusable::Refused { path: path.to_owned(), message: error }),
        }
    }
}

/// Loads a plugin into this process and asks it what it is: one line of JSON, `{"api":[0,116],"platform":…,"platform_version":…,
/// "devices":[{"id":…,"kind":…,"memory_bytes":…}]}` or `{"error":…}`. For the command of [`Prober::command`].
pub fn probe_line(path: &Path) -> String {
    serde_json::to_string(&look(path)).unwrap_or_default()
}

/// Runs the command to its end, or to that of its time.
fn run(mut command: Command, path: &Path, limit: Duration) -> Result<Answer, Unusable> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let fails = |why: std::io::Error| Unusable::NoProbe { path: path.to_owned(), why: why.to_string() };
    let started = Instant::now();
    let mut child = command.spawn().map_err(fails)?;
    let (out, err) = (collect(child.stdout.take()), collect(child.stderr.take()));
    let ended = wait(&mut child, started, limit).map_err(fails)?;
    let said = out.recv_timeout(REST).unwrap_or_default();
    // Plugins write to standard output too. What answered counts, however its process ended.
    if let Some(answer) = said.lines().rev().find_map(|line| serde_json::from_str(line).ok()) {
        return Ok(answer);
    }
    let path = path.to_owned();
    Err(match ended {
        None => Unusable::Hung { path, seconds: limit.as_secs() },
        Some(status) => {
            let errors = err.recv_timeout(REST).unwrap_or_default();
            Unusable::Crashed { path, how: ending(status), said: last_words(&errors) }
        }
    })
}

/// Reads a pipe to its end, beside, and gives the last it brought.
fn collect(mut pipe: Option<impl Read + Send + 'static>) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let (mut kept, mut piece) = (Vec::new(), [0; 1 << 13]);
        // What was read before an error counts too.
        while let Some(count) = pipe.as_mut().and_then(|p| p.read(&mut piece).ok()).filter(|count| *count > 0) {
            kept.extend_from_slice(&piece[..count]);
            if kept.len() > 2 * KEPT {
                kept.drain(..kept.len() - KEPT);
            }
        }
        // Nobody waits any more where the time was over.
        let _ = sender.send(String::from_utf8_lossy(&kept).into_owned());
    });
    receiver
}

/// How the process ended; `None` if its time was over, and then it was killed.
fn wait(child: &mut Child, started: Instant, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if started.elapsed() >= limit {
            child.kill()?;
            // A process that waits inside of a driver may not end; its parent does not wait with it.
            while child.try_wait()?.is_none() && started.elapsed() < limit + REST {
                thread::sleep(PAUSE);
            }
            return Ok(None);
        }
        thread::sleep(PAUSE);
    }
}

fn ending(status: ExitStatus) -> String {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return format!("signal {signal}");
    }
    status.code().map_or("no exit code".into(), |code| format!("exit code {code}"))
}

/// The last line that a process wrote before it ended, traces of its calls aside.
fn last_words(errors: &str) -> String {
    let trace = |line: &&str| line.is_empty() || line.starts_with(['@', '*']);
    errors.lines().map(str::trim).rev().find(|line| !trace(line)).map_or(String::new(), sentence)
}

/// Longest message of a plugin that is passed on, in characters.
const LONGEST: usize = 200;

/// The first sentence of a message. Plugins append traces of their calls.
fn sentence(message: &str) -> String {
    let line = message.trim().lines().next().unwrap_or_default();
    let end = line.find(". ").map_or(line.len(), |i| i);
    let sentence = line[..end].trim_end_matches('.');
    if sentence.chars().count() <= LONGEST {
        return sentence.to_owned();
    }
    sentence.chars().take(LONGEST - 1).chain(['…']).collect()
}

/// Loads a plugin here and asks it.
fn look(path: &Path) -> Answer {
    match report(path) {
        Ok(report) => Answer::Works(report),
        Err(error) => Answer::Fails { error: short(error) },
    }
}

fn report(path: &Path) -> Result<Report, pjrt::Error> {
    let plugin = Plugin::load(path)?;
    let client = plugin.client(&options(path))?;
    let chip = |device: &pjrt::Device| ChipReport {
        id: device.id,
        kind: device.kind.clone(),
        memory_bytes: device.memory().and_then(|memory| memory.limit),
    };
    Ok(Report {
        api: plugin.version(),
        platform: client.platform().to_owned(),
        platform_version: client.platform_version().to_owned(),
        devices: client.devices().iter().map(chip).collect(),
    })
}

/// Options for looking only: plugins for GPUs would take three quarters of each device's memory at once.
fn options(path: &Path) -> Vec<(&'static str, Value)> {
    match Platform::of_file(path) {
        Some(Platform::Cuda | Platform::Rocm) => {
            vec![("preallocate", Value::Bool(false)), ("memory_fraction", Value::Float(1.0))]
        }
        Some(Platform::Tpu) | None => Vec::new(),
    }
}

/// An error with the plugin's own words cut to their first sentence.
fn short(error: pjrt::Error) -> String {
    match error {
        pjrt::Error::Plugin { path, what, code, message } => {
            pjrt::Error::Plugin { path, what, code, message: sentence(&message) }.to_string()
        }
        other => other.to_string(),
    }
}
