//! The fuzz targets over their committed corpora, as an ordinary test.

#[path = "../../fuzz/targets/mod.rs"]
mod targets;

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

fn corpora() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus")
}

#[test]
fn every_committed_input_holds() {
    for (name, run) in targets::TARGETS {
        let mut inputs = 0;
        for input in fs::read_dir(corpora().join(name)).expect("a corpus for every target") {
            let path = input.expect("a readable corpus").path();
            let bytes = fs::read(&path).expect("a readable input");
            assert!(catch_unwind(|| run(&bytes)).is_ok(), "{}", path.display());
            inputs += 1;
        }
        assert!(inputs > 0, "{name} has an empty corpus");
        run(&[]);
    }
}

#[test]
fn every_corpus_has_a_target() {
    let directories: BTreeSet<String> = fs::read_dir(corpora())
        .expect("fuzz/corpus")
        .map(|d| d.expect("a readable directory").file_name().to_string_lossy().into_owned())
        .collect();
    let targets: BTreeSet<String> = targets::TARGETS.iter().map(|t| t.0.to_owned()).collect();
    assert_eq!(directories, targets);
}
