//! Replays what fuzzers have found. Each file of a corpus is an input that once reached new code or broke something.

#![allow(clippy::print_stderr, reason = "a test that fails shows the input that broke it")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use arcp_tests::fuzz::{TARGETS, run};

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect()
}

fn replay(target: &str) {
    let folder = fuzz().join("corpus").join(target);
    let files = names(&folder);
    assert!(files.len() >= 3, "{target}: only {} inputs", files.len());
    for file in files {
        // Shown when it breaks.
        eprintln!("{target}/{file}");
        run(target, &fs::read(folder.join(&file)).expect("an input"));
    }
}

#[test]
fn every_target_has_a_fuzzer_and_a_corpus() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_string()).collect();
    assert_eq!(names(&fuzz().join("corpus")), targets);
    let fuzzers = names(&fuzz().join("fuzz_targets"));
    assert_eq!(fuzzers, targets.iter().map(|name| format!("{name}.rs")).collect());
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).expect("the manifest");
    for name in targets {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is in no [[bin]]");
        let fuzzer = fs::read_to_string(fuzz().join("fuzz_targets").join(format!("{name}.rs"))).expect("a fuzzer");
        assert!(fuzzer.contains(&format!("run(\"{name}\", data)")), "{name}.rs runs something else");
    }
}

#[test]
fn frames_that_fuzzers_found_are_written_as_they_were_read() {
    replay("frames");
}

#[test]
fn lines_times_and_records_that_fuzzers_found_break_nothing() {
    ["lines", "times", "records"].into_iter().for_each(replay);
}

#[test]
fn leases_that_fuzzers_found_mean_what_they_say() {
    ["leases", "matches", "containment", "budgets"].into_iter().for_each(replay);
}

#[test]
fn pieces_and_frames_that_fuzzers_found_do_not_break_the_client() {
    ["chunks", "client_bytes"].into_iter().for_each(replay);
}

#[test]
fn frames_that_fuzzers_found_do_not_break_the_runtime() {
    replay("runtime_bytes");
}

#[test]
fn scenarios_that_fuzzers_found_hold_every_invariant_and_come_to_rest() {
    replay("runtime_world");
}
