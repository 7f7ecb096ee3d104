//! `sockeye diff`, as a script uses it: files in, exit code out.

use std::path::Path;
use std::process::{Command, Output};

fn sockeye(args: &[&str], folder: &Path) -> std::io::Result<Output> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sockeye"));
    command.args(args).arg("--no-config").env_remove("NO_COLOR").current_dir(folder).output()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn snapshots_of_this_host_compare() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.json", "b.json"] {
        let told = sockeye(&["--json"], folder.path()).unwrap();
        assert!(told.status.success(), "{}", text(&told.stderr));
        std::fs::write(folder.path().join(name), told.stdout).unwrap();
    }
    let told = sockeye(&["diff", "a.json", "b.json", "--json"], folder.path()).unwrap();
    assert_eq!(told.status.code(), Some(0), "{}", text(&told.stderr));
    let object: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(
        (object["schema"].as_str(), object["of"].as_str()),
        (Some("sockeye.diff/1"), Some("snapshot"))
    );
    let ids: Vec<_> =
        object["figures"].as_array().unwrap().iter().filter_map(|row| row["id"].as_str()).collect();
    // Every place of a snapshot that is looked at is there.
    let known = ["sockets", "established", "close_wait", "time_wait", "closes_per_second", "held", "usable"];
    assert_eq!(ids, known);
    let same = sockeye(&["diff", "a.json", "a.json", "--fail-on", "sockets"], folder.path()).unwrap();
    assert_eq!(same.status.code(), Some(0), "{}", text(&same.stdout));
}

#[test]
fn exit_codes_tell_a_change_from_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let bars = |count: [u32; 2]| {
        format!(
            r#"{{"schema":"sockeye.lifetimes/1","bars":[{{"from_ms":100,"to_ms":200,"count":{}}},{{"from_ms":1000,"to_ms":2000,"count":{}}}]}}"#,
            count[0], count[1]
        )
    };
    std::fs::write(folder.path().join("long.json"), bars([100, 900])).unwrap();
    std::fs::write(folder.path().join("short.json"), bars([900, 100])).unwrap();
    let code = |args: &[&str]| {
        let told = sockeye(args, folder.path()).unwrap();
        (told.status.code(), text(&told.stdout), text(&told.stderr))
    };
    let (shorter, told, _) = code(&["diff", "long.json", "short.json", "--fail-on", "lifetimes"]);
    assert_eq!(shorter, Some(1), "{told}");
    assert!(told.contains("connections live shorter") && told.contains("FAILED"), "{told}");
    assert_eq!(code(&["diff", "long.json", "short.json"]).0, Some(0), "told, but not asked to fail");
    assert_eq!(code(&["diff", "short.json", "long.json", "--fail-on", "lifetimes"]).0, Some(0));
    let (missing, _, said) = code(&["diff", "long.json", "none.json"]);
    assert_eq!(missing, Some(2));
    assert!(said.contains("cannot read none.json"), "{said}");
    let (untold, _, said) = code(&["diff", "long.json", "short.json", "--fail-on", "opens=10%"]);
    assert_eq!(untold, Some(2));
    assert!(said.contains("does not tell it"), "{said}");
    assert_eq!(code(&["diff", "long.json", "short.json", "--fail-on", "nonsense"]).0, Some(2));
}

#[test]
fn a_file_without_an_end_or_with_a_hostile_name_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let told = sockeye(&["diff", "/dev/zero", "/dev/zero"], folder.path()).unwrap();
    assert_eq!(told.status.code(), Some(2));
    assert!(text(&told.stderr).contains("more than 256 MiB"), "{}", text(&told.stderr));
    let told = sockeye(&["diff", "\x1b[31mred", "x"], folder.path()).unwrap();
    assert_eq!(told.status.code(), Some(2));
    assert!(!text(&told.stderr).contains('\x1b'), "{:?}", text(&told.stderr));
}
