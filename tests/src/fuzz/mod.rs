//! What fuzzers run, one function for each target: bytes in, a panic where
//! something that must hold does not. `fuzz/` gives them a fuzzer's bytes,
//! `tests/corpora.rs` what fuzzers have found so far.

mod bytes;
mod client;
mod frames;
mod leases;
mod lines;
mod records;
mod runtime;
mod times;

/// What a target runs.
pub type Body = fn(&[u8]);

/// What every target is called, and runs.
pub const TARGETS: [(&str, Body); 12] = [
    ("budgets", leases::budgets),
    ("chunks", client::chunks),
    ("client_bytes", client::client_bytes),
    ("containment", leases::containment),
    ("frames", frames::frames),
    ("leases", leases::leases),
    ("lines", lines::lines),
    ("matches", leases::matches),
    ("records", records::records),
    ("runtime_bytes", runtime::runtime_bytes),
    ("runtime_world", runtime::runtime_world),
    ("times", times::times),
];

/// Runs the target of this name.
///
/// # Panics
///
/// If there is none, or something that must hold does not.
pub fn run(target: &str, data: &[u8]) {
    let (_, body) = TARGETS.iter().find(|(name, _)| *name == target).expect("a target of this name");
    body(data);
}
