//! Discovery in made-up file systems, and probes that end badly.

use super::*;
use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};
use tempfile::TempDir;

/// A file system.
struct Tree {
    folder: TempDir,
}

impl Tree {
    fn of(files: &[&str]) -> Tree {
        let tree = Tree { folder: tempfile::tempdir().unwrap() };
        files.iter().for_each(|file| tree.write(file, ""));
        tree
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// The host whose variables name folders of the tree.
    fn host(&self, variables: &[(&'static str, &str)]) -> Host {
        Host::new(self.folder.path(), variables.iter().map(|(name, folder)| (*name, self.path(folder).into_os_string())))
    }

    fn found(&self, host: &Host, platform: Platform) -> Vec<String> {
        let relative = |c: Candidate| c.path.strip_prefix(self.folder.path()).unwrap().display().to_string();
        host.candidates(platform).unwrap().into_iter().map(relative).collect()
    }
}

const CUDA13: &str = "site-packages/jax_plugins/xla_cuda13/xla_cuda_plugin.so";
const CUDA12: &str = "site-packages/jax_plugins/xla_cuda12/xla_cuda_plugin.so";

#[test]
fn plugins_are_found_in_the_documented_order() {
    let files = [
        format!("venv/lib/python3.11/{CUDA12}"),
        format!("venv/lib/python3.11/{CUDA13}"),
        format!("conda/lib/python3.12/{CUDA13}"),
        format!("home/.local/lib/python3.9/{CUDA13}"),
        format!("home/.local/lib/python3.10/{CUDA13}"),
        "usr/lib/python3/dist-packages/jax_plugins/xla_cuda9/xla_cuda_plugin.so".into(),
        format!("usr/local/lib/python3.11/{CUDA12}"),
        "usr/local/lib/python3.11/dist-packages/jax_plugins/xla_cuda12/xla_cuda_plugin.so".into(),
        format!("opt/python/lib/python3.13/{CUDA13}"),
        "opt/python/bin/python3".into(),
    ];
    let tree = Tree::of(&files.iter().map(String::as_str).collect::<Vec<_>>());
    let variables = [("VIRTUAL_ENV", "venv"), ("CONDA_PREFIX", "conda"), ("HOME", "home"), ("PATH", "opt/python/bin")];
    let found = tree.found(&tree.host(&variables), Platform::Cuda);
    let order = [1, 0, 2, 4, 3, 5, 6, 7, 8].map(|i: usize| files[i].clone());
    assert_eq!(found, order);
    assert!(tree.found(&tree.host(&variables), Platform::Rocm).is_empty());
    // Nothing is found twice, whatever leads to it.
    let twice = [("VIRTUAL_ENV", "venv"), ("CONDA_PREFIX", "venv")];
    assert_eq!(tree.found(&tree.host(&twice), Platform::Cuda)[..2], order[..2]);
    assert_eq!(tree.found(&tree.host(&twice), Platform::Cuda).len(), 5);
}

/// The environment that a link to `python3` is in, and the installation that it leads to.
#[cfg(unix)]
#[test]
fn the_python_on_the_path_is_followed() {
    let tree = Tree::of(&[
        "venv/lib/python3.11/site-packages/libtpu/libtpu.so",
        "real/lib/python3.11/site-packages/libtpu/libtpu.so",
        "real/bin/python3.11",
    ]);
    fs::create_dir_all(tree.path("venv/bin")).unwrap();
    std::os::unix::fs::symlink(tree.path("real/bin/python3.11"), tree.path("venv/bin/python3")).unwrap();
    let found = tree.found(&tree.host(&[("PATH", "venv/bin")]), Platform::Tpu);
    assert_eq!(found.len(), 2);
    assert!(found[0].starts_with("venv/"), "{found:?}");
}

#[test]
fn packages_and_versions_are_told() {
    let site = "venv/lib/python3.11/site-packages";
    let tree = Tree::of(&[
        &format!("{site}/jax_plugins/xla_rocm7/xla_rocm_plugin.so"),
        &format!("{site}/jax_rocm7_pjrt-0.12.0.dist-info/METADATA"),
        &format!("{site}/jax_rocm7_plugin-0.11.0.dist-info/METADATA"),
        &format!("{site}/libtpu/libtpu.so"),
        &format!("{site}/libtpu-0.0.52.dist-info/METADATA"),
        &format!("{site}/{}", CUDA13.trim_start_matches("site-packages/")),
    ]);
    let host = tree.host(&[("VIRTUAL_ENV", "venv")]);
    let first = |platform| host.candidates(platform).unwrap().remove(0);
    assert_eq!(first(Platform::Rocm).package.as_deref(), Some("jax-rocm7-pjrt 0.12.0"));
    assert_eq!(first(Platform::Rocm).major(), Some(7));
    assert_eq!(first(Platform::Tpu).package.as_deref(), Some("libtpu 0.0.52"));
    assert_eq!(first(Platform::Cuda).package, None);
    let named = Candidate::named(first(Platform::Rocm).path, None);
    assert_eq!(named.package.as_deref(), Some("jax-rocm7-pjrt 0.12.0"));
}

#[test]
fn variables_come_before_what_is_found() {
    let tree = Tree::of(&["venv/lib/python3.11/site-packages/libtpu/libtpu.so"]);
    let host = |value: &str| {
        let variables = [("VIRTUAL_ENV", tree.path("venv").into_os_string()), (PLUGIN_VARIABLE, OsString::from(value))];
        Host::new(tree.folder.path(), variables)
    };
    let named = |value: &str, platform| host(value).named_plugin(platform);
    let path = |text: &str| Ok(Some(PathBuf::from(text)));
    assert_eq!(named("/a/xla_cuda_plugin.so", Some(Platform::Cuda)), path("/a/xla_cuda_plugin.so"));
    assert_eq!(named("/a/xla_cuda_plugin.so", None), Ok(None));
    // The name of the file counts, not that of a folder.
    assert_eq!(named("/cuda/mine.so", None), path("/cuda/mine.so"));
    assert_eq!(named("/cuda/mine.so", Some(Platform::Cuda)), Ok(None));
    assert_eq!(named("cuda=/a; rocm=/b;", Some(Platform::Rocm)), path("/b"));
    assert_eq!(named("cuda=/a;pjrt=/c", None), path("/c"));
    assert_eq!(named("cuda=/a", Some(Platform::Tpu)), Ok(None));
    for bad in ["gpu=/a", "cuda=", "cuda=/a;/b"] {
        assert_eq!(named(bad, Some(Platform::Cuda)), Err(Unusable::BadVariable { value: bad.into() }));
    }
    assert_eq!(host("tpu=/t.so").candidates(Platform::Tpu).unwrap(), [Candidate::named("/t.so".into(), Some(Platform::Tpu))]);
    assert_eq!(tree.found(&host(""), Platform::Tpu).len(), 1);
    let standard = Host::new("/", [("TPU_LIBRARY_PATH", OsString::from("/lib/libtpu.so"))]);
    assert_eq!(standard.candidates(Platform::Tpu).unwrap()[0].path, Path::new("/lib/libtpu.so"));
}

#[test]
fn names_are_read_and_written() {
    for name in ["cpu", "cuda", "rocm", "tpu", "pjrt", "pjrt:/a b/c.so"] {
        assert_eq!(name.parse::<DeviceName>().unwrap().to_string(), name);
    }
    for bad in ["gpu", "CUDA", "cuda:0", "", "/a.so", "pjrt:"] {
        assert!(bad.parse::<DeviceName>().unwrap_err().contains("pjrt:/path/plugin.so"), "{bad}");
    }
}

/// A prober whose command is a line for the shell.
fn shell(line: &str) -> Prober {
    Prober::command(["sh", "-c", line, "probe"].map(OsString::from)).limit(Duration::from_secs(60))
}

const WORKS: &str = r#"echo noise; echo '{"api":[0,115],"platform":"CUDA","platform_version":"13","devices":[{"id":0,"kind":"H100",
    "memory_bytes":5}]}' | tr -d '\n'; echo"#;

/// The result for CUDA where there is a driver of a version.
fn with_driver(version: &str, prober: Prober) -> Result<Usable, Unusable> {
    let tree = Tree::of(&["dev/nvidiactl", &format!("venv/lib/python3.11/{CUDA13}"), &format!("venv/lib/python3.11/{CUDA12}")]);
    tree.write("proc/driver/nvidia/version", &format!("NVRM version: NVIDIA UNIX x86_64 Kernel Module  {version}  Wed\n"));
    let mut result = Finder::on(tree.host(&[("VIRTUAL_ENV", "venv")]), prober).find(&DeviceName::Platform(Platform::Cuda));
    // What is at fault, without the folder that is another one each time.
    if let Err(Unusable::Refused { path, .. } | Unusable::OldDriver { path, .. }) = &mut result {
        *path = path.strip_prefix(tree.folder.path()).unwrap().into();
    }
    result
}

#[cfg(unix)]
#[test]
fn the_driver_explains_a_plugin_that_fails() {
    let refuses = r#"echo '{"error":"no visible GPU"}'"#;
    let path = PathBuf::from(format!("venv/lib/python3.11/{CUDA13}"));
    let new = with_driver("580.65.06", shell(refuses)).unwrap_err();
    assert_eq!(new, Unusable::Refused { path: path.clone(), message: "no visible GPU".into() });
    let old = with_driver("535.104.05", shell(refuses)).unwrap_err();
    assert_eq!(old, Unusable::OldDriver { path, version: "535.104.05".into(), cuda: 13, needed: 580 });
    assert!(old.to_string().contains("jax-cuda12-plugin"), "{old}");
    // Where the plugin works, the driver does; and the plugin for CUDA 12 is taken where that for 13 fails.
    assert!(with_driver("535.104.05", shell(WORKS)).is_ok());
    let only12 = format!("case \"$1\" in *cuda12*) {WORKS};; *) {refuses};; esac");
    assert_eq!(with_driver("535.104.05", shell(&only12)).unwrap().candidate.major(), Some(12));
}

#[test]
fn what_is_missing_is_named_with_its_remedy() {
    let why = |files: &[&str], platform| {
        let tree = Tree::of(files);
        let finder = Finder::on(tree.host(&[("VIRTUAL_ENV", "venv")]), Prober::in_process());
        finder.find(&DeviceName::Platform(platform)).unwrap_err().to_string()
    };
    for (platform, device, command) in [
        (Platform::Cuda, "/dev/nvidiactl", "pip install 'jax-cuda13-plugin[with-cuda]'"),
        (Platform::Rocm, "/dev/kfd", "pip install jax-rocm7-pjrt"),
        (Platform::Tpu, "/dev/vfio/0", "pip install libtpu"),
    ] {
        let neither = why(&[], platform);
        assert!(neither.contains(device) && neither.ends_with(command), "{neither}");
        let plugin = why(&[device.trim_start_matches('/')], platform);
        assert!(!plugin.contains("/dev/") && plugin.ends_with(command), "{plugin}");
    }
    let driver = why(&[&format!("venv/lib/python3.11/{CUDA13}")], Platform::Cuda);
    assert!(driver.contains("/dev/nvidiactl") && driver.contains("--gpus all") && !driver.contains("pip"), "{driver}");
    // The control node of vfio is there without any device.
    assert!(why(&["dev/vfio/vfio"], Platform::Tpu).contains("no TPU"));
}

#[cfg(unix)]
#[test]
fn probes_end_in_a_report_or_in_a_reason() {
    let tree = Tree::of(&["plugin.so"]);
    let path = tree.path("plugin.so");
    let find = |prober: Prober| Finder::on(Host::new("/", []), prober).find(&DeviceName::Plugin(Some(path.clone())));
    let usable = find(shell(WORKS)).unwrap();
    assert_eq!((usable.report.api, usable.report.devices[0].memory_bytes), ((0, 115), Some(5)));
    // What answered works, however its process ends.
    assert!(find(shell(&format!("{WORKS}; kill -SEGV $$"))).is_ok());
    assert_eq!(
        find(shell("kill -SEGV $$")).unwrap_err(),
        Unusable::Crashed { path: path.clone(), how: "signal 11".into(), said: String::new() }
    );
    let fatal = "echo 'F0000 x.cc:1] Check failed: a == b. More.' >&2; echo '*** Check failure stack trace: ***' >&2; echo '    @ 0x1' >&2";
    assert_eq!(
        find(shell(&format!("{fatal}; exit 3"))).unwrap_err(),
        Unusable::Crashed { path: path.clone(), how: "exit code 3".into(), said: "F0000 x.cc:1] Check failed: a == b".into() }
    );
    assert_eq!(
        find(shell("sleep 100").limit(Duration::from_secs(1))).unwrap_err(),
        Unusable::Hung { path: path.clone(), seconds: 1 }
    );
    let nothing = WORKS.replace("tr -d '\\n'", "tr -d '\\n' | sed 's/\\[{.*}\\]/[]/'");
    assert_eq!(find(shell(&nothing)).unwrap_err(), Unusable::NoDevices { path: path.clone() });
    // A megabyte on both pipes stops nobody.
    let talks = "head -c 3000000 /dev/zero | tr '\\0' x; head -c 3000000 /dev/zero >&2; echo";
    assert!(find(shell(&format!("{talks} >&2; {WORKS}"))).is_ok());
    let absent = Prober::command(["/no/such/program".into()]);
    assert!(matches!(find(absent).unwrap_err(), Unusable::NoProbe { .. }));
    let gone = Finder::on(Host::new("/", []), Prober::in_process()).find(&"pjrt:/no/such.so".parse().unwrap()).unwrap_err();
    assert_eq!(gone.to_string(), "/no/such.so: there is no such file; the path of a PJRT plugin is wanted");
}

#[cfg(unix)]
#[test]
fn a_plugin_for_something_else_is_refused() {
    let tree = Tree::of(&["mine.so", "dev/kfd"]);
    let variable = OsString::from(format!("rocm={}", tree.path("mine.so").display()));
    let finder = Finder::on(Host::new(tree.folder.path(), [(PLUGIN_VARIABLE, variable)]), shell(WORKS));
    let why = finder.find(&DeviceName::Platform(Platform::Rocm)).unwrap_err();
    assert_eq!(why, Unusable::OtherPlatform { path: tree.path("mine.so"), wanted: Platform::Rocm, found: "CUDA".into() });
    let survey = finder.survey();
    assert_eq!(survey.iter().map(|f| f.device.to_string()).collect::<Vec<_>>(), ["cuda", "rocm", "tpu"]);
    let plain = Host::new(tree.folder.path(), [(PLUGIN_VARIABLE, tree.path("mine.so").into_os_string())]);
    let survey = Finder::on(plain, shell(WORKS)).survey();
    assert_eq!(survey[3].device, DeviceName::Plugin(None));
    assert!(survey[3].result.is_ok());
}

/// A plugin that hangs does not hold the devices for ever.
#[cfg(target_os = "linux")]
#[test]
fn a_probe_that_hangs_is_ended() {
    let tree = Tree::of(&["plugin.so"]);
    let device = DeviceName::Plugin(Some(tree.path("plugin.so")));
    let hangs = shell("echo $$ > \"$1\"; exec sleep 100").limit(Duration::from_secs(3));
    assert!(matches!(Finder::on(Host::new("/", []), hangs).find(&device), Err(Unusable::Hung { .. })));
    let process = fs::read_to_string(tree.path("plugin.so")).unwrap();
    assert!(!Path::new("/proc").join(process.trim()).exists(), "process {process} is still there");
}

/// A plugin of which the name says what it is for, and there is none of that.
#[cfg(unix)]
#[test]
fn a_missing_driver_explains_a_named_plugin_too() {
    let tree = Tree::of(&["libtpu.so"]);
    let device = DeviceName::Plugin(Some(tree.path("libtpu.so")));
    let find = || Finder::on(tree.host(&[]), shell("sleep 100").limit(Duration::from_secs(1))).find(&device);
    assert!(matches!(find(), Err(Unusable::NoDriver { platform: Platform::Tpu, .. })));
    tree.write("dev/vfio/0", "");
    assert!(matches!(find(), Err(Unusable::Hung { .. })));
}

/// Each plugin is loaded once.
#[cfg(unix)]
#[test]
fn answers_are_kept() {
    let tree = Tree::of(&["plugin.so"]);
    let device = DeviceName::Plugin(Some(tree.path("plugin.so")));
    let finder = Finder::on(Host::new("/", []), shell(&format!("echo x >> \"$1\"; {WORKS}")));
    finder.find(&device).unwrap();
    finder.find(&device).unwrap();
    assert_eq!(fs::read_to_string(tree.path("plugin.so")).unwrap(), "x\n");
}
