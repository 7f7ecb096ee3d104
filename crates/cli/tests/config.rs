//! The config file as the program finds it: where it looks, what wins, what it says of a wrong one.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// What a call printed, with this folder for config files: exit code, stdout, stderr.
fn sockeye(folder: &Path, arguments: &str) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_sockeye"))
        .args(arguments.split_whitespace())
        .env_remove("SOCKEYE_CONFIG")
        .env("XDG_CONFIG_HOME", folder)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_users_file_is_found_and_can_be_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let is_json = |arguments: &str| {
        let (code, out, err) = sockeye(folder.path(), arguments);
        assert_eq!((code, err.as_str()), (Some(0), ""), "{arguments}: {out}");
        out.starts_with('{')
    };
    // Without a file, and without its folder.
    assert!(!is_json("") && !is_json("snapshot"));
    let home = folder.path().join("sockeye");
    fs::create_dir(&home).unwrap();
    fs::write(home.join("config.toml"), "[snapshot]\njson = true\n").unwrap();
    assert!(is_json("") && is_json("snapshot") && is_json("--top 1"));
    assert!(!is_json("--no-config") && !is_json("snapshot --no-config") && !is_json("--no-config snapshot"));
    // What is typed wins, also over what excludes it.
    assert!(!is_json("-o table"));
    let other = folder.path().join("other.toml");
    fs::write(&other, "[defaults]\ntop = 3\n").unwrap();
    assert!(!is_json(&format!("--config {}", other.display())));
    assert!(!is_json(&format!("snapshot --config={}", other.display())));
}

#[test]
fn a_wrong_file_is_an_error_of_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("sockeye");
    fs::create_dir(&home).unwrap();
    let path = home.join("config.toml");
    fs::write(&path, "[defaults]\ncolor = 'never'\n\n[snapshot]\nsrot = 'live'\n").unwrap();
    // Of every command, also of those that have nothing to do with that section.
    for command in ["", "ports"] {
        let (code, out, err) = sockeye(folder.path(), command);
        let said = format!(
            "sockeye: {}:5: no option of [snapshot] is called srot; the nearest is sort\n",
            path.display()
        );
        assert_eq!((code, out.as_str(), err), (Some(2), "", said));
    }
    // Help is there in any case.
    assert_eq!(sockeye(folder.path(), "--help").0, Some(0));
    assert_eq!(sockeye(folder.path(), "--no-config").0, Some(0));
}

#[test]
fn what_is_no_file_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("sockeye");
    fs::create_dir(&home).unwrap();
    let path = home.join("config.toml");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let (code, out, err) = sockeye(folder.path(), "");
    let said = format!("sockeye: cannot read the config file {}: it is a pipe\n", path.display());
    assert_eq!((code, out.as_str(), err), (Some(2), "", said));
    // What is linked to nothing says nothing.
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/dev/null", &path).unwrap();
    let (code, _, err) = sockeye(folder.path(), "--version");
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let (code, _, err) = sockeye(folder.path(), "");
    assert_eq!((code, err.as_str()), (Some(0), ""));
    // What has no end is read to a bound.
    let (code, _, err) = sockeye(folder.path(), "--config /dev/zero");
    assert!(code == Some(2) && err.contains("/dev/zero"), "{err}");
}
