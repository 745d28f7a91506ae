use backprop_core::exec::pjrt::{Pjrt, PjrtOptions, Plugin};
use std::{
    fs::File,
    io::Write,
    path::Path,
    sync::{Mutex, OnceLock, PoisonError},
};

/// Names the plugin that tests compile with.
pub const PLUGIN: &str = "BACKPROP_PJRT_PLUGIN";

/// The backend of the plugin that [`PLUGIN`] names, opened once in a process. Without one a line says that the test of this name is
/// skipped, past what catches the output of tests that pass.
///
/// # Panics
/// If the plugin cannot be used: whoever names one wants the tests to run.
pub fn plugin(test: &str) -> Option<Pjrt> {
    plugin_on(test, 1)
}

/// As [`plugin`], with several devices.
///
/// # Panics
/// As [`plugin`].
pub fn plugin_on(test: &str, devices: usize) -> Option<Pjrt> {
    static PLUGINS: OnceLock<Option<Plugin>> = OnceLock::new();
    static ONE: OnceLock<Option<Pjrt>> = OnceLock::new();
    let loaded = PLUGINS.get_or_init(|| {
        let path = std::env::var_os(PLUGIN)?;
        Some(Plugin::load(Path::new(&path)).unwrap_or_else(|e| panic!("{PLUGIN}: {e}")))
    });
    let open = |devices| {
        let options = PjrtOptions { devices, ..PjrtOptions::default() };
        let opened = |plugin: &Plugin| Pjrt::open(plugin, options).unwrap_or_else(|e| panic!("{PLUGIN}: {e}"));
        loaded.as_ref().map(opened)
    };
    let opened = if devices == 1 { ONE.get_or_init(|| open(1)).clone() } else { open(devices) };
    if opened.is_none() {
        static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());
        let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
        if !said.iter().any(|name| name == test) {
            said.push(test.into());
            report_skipped(test);
        }
    }
    opened
}

/// Names the file to which the names of skipped tests are added, so that CI can count them.
const SKIPPED: &str = "BACKPROP_TEST_SKIPPED";

/// Says that a test is skipped for want of a plugin, past what catches the output of tests that pass. One that cannot say so passes all
/// the same.
pub fn report_skipped(test: &str) {
    let _ = writeln!(std::io::stderr(), "\nskipped: no plugin: {test}");
    let file = std::env::var_os(SKIPPED).and_then(|path| File::options().append(true).open(path).ok());
    let _ = file.map(|mut file| writeln!(file, "skipped: no plugin: {test}"));
}
