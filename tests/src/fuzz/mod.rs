//! The targets of the fuzzers, one function each: they take bytes, and panic if an invariant does not hold. `fuzz/`
//! calls them with a fuzzer's bytes, and `tests/corpora.rs` with inputs that fuzzers have found.

mod bytes;
mod client;
mod frames;
mod leases;
mod lines;
mod records;
mod runtime;
mod times;

/// The function of a target.
pub type Body = fn(&[u8]);

/// All targets, by name.
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
/// If there is no such target, or an invariant does not hold.
pub fn run(target: &str, data: &[u8]) {
    let (_, body) = TARGETS.iter().find(|(name, _)| *name == target).expect("a target of this name");
    body(data);
}
