//! The cost of the core: time and allocations per event, with and without other sessions and jobs; an envelope read
//! and written.
//!
//! ```text
//! cargo bench -p arcp-tests --bench core
//! ```

#[allow(dead_code, reason = "what is counted beside others is not timed")]
#[path = "../../arcp-proto/benches/paths/mod.rs"]
mod paths;

use arcp_proto::json::Json;
use arcp_proto::lease::{Lease, Namespace, Target};
use arcp_proto::wire::Family;
use divan::{AllocProfiler, Bencher, black_box};
use globset::{GlobBuilder, GlobSet};
use paths::{Envelope, SUBMIT, Stage};

#[global_allocator]
static ALLOC: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

#[divan::bench(args = [0, 100, 10_000], sample_count = 200, sample_size = 500)]
fn event_with_idle_sessions(bencher: Bencher, idle: u64) {
    let mut stage = Stage::new(idle, Family::Hello);
    let before = stage.sent;
    bencher.bench_local(|| stage.event());
    assert!(stage.sent > before, "events were sent");
}

/// One job from submit to end, after others that have ended: at 40,000 the bound on these was reached long ago.
#[divan::bench(args = [0, 10_000, 40_000], sample_count = 50, sample_size = 20)]
fn job_after_ended_jobs(bencher: Bencher, before: u64) {
    let mut stage = Stage::new(0, Family::Hello);
    (0..before).for_each(|_| stage.job());
    bencher.bench_local(|| stage.job());
}

#[divan::bench]
fn ping(bencher: Bencher) {
    let mut stage = Stage::new(0, Family::Hello);
    bencher.bench_local(|| stage.ping());
}

#[divan::bench]
fn decode_header() -> bool {
    paths::decode_header()
}

#[divan::bench]
fn decode_submit() -> bool {
    paths::decode_submit()
}

#[divan::bench(args = [Family::Hello, Family::Open])]
fn encode_event(bencher: Bencher, family: Family) {
    let envelope = Envelope::new(family);
    bencher.bench_local(|| envelope.encode());
}

/// The baseline of decoding: the same text as a tree of values.
#[divan::bench]
fn baseline_decode_value() -> serde_json::Value {
    serde_json::from_str(black_box(SUBMIT)).expect("fine")
}

/// So many patterns of files, and a target that the last of them matches.
fn patterns(count: usize) -> (Vec<String>, &'static str) {
    let all = (1..=count).rev().map(|n| format!("/srv/project-{n}/**/*.rs"));
    (all.collect(), "/srv/project-1/src/runtime/job/lease.rs")
}

fn lease(namespace: &Namespace, patterns: &[String]) -> Lease {
    let list = serde_json::json!({ namespace.as_str(): patterns });
    Lease::parse(&Json::parse(&list.to_string()).expect("JSON")).expect("a lease")
}

/// Whether an operation with this target text is allowed, by the last of so many patterns.
#[divan::bench(args = [1, 100, 1000])]
fn authorize_by_the_last_pattern(bencher: Bencher, count: usize) {
    let (patterns, path) = patterns(count);
    let lease = lease(&Namespace::FsRead, &patterns);
    let may = || {
        let target = Target::new(&Namespace::FsRead, black_box(path)).expect("a path");
        lease.permits(&Namespace::FsRead, &target).is_some()
    };
    assert!(may());
    bencher.bench_local(may);
}

/// The baseline of that: a set of globs, which matches all of them at once and checks nothing else of a path.
#[divan::bench(args = [1, 100, 1000])]
fn baseline_authorize_globset(bencher: Bencher, count: usize) {
    let (patterns, path) = patterns(count);
    let mut set = GlobSet::builder();
    for pattern in &patterns {
        set.add(GlobBuilder::new(pattern).literal_separator(true).build().expect("a glob"));
    }
    let set = set.build().expect("a set");
    assert!(set.is_match(path));
    bencher.bench_local(|| set.is_match(black_box(path)));
}

/// Whether a lease is within another one, with so many wildcards after a `*`: from some number on, the comparison is
/// given up, at the same cost.
#[divan::bench(args = [1, 5, 9, 13, 100], sample_count = 20, sample_size = 1)]
fn containment_of_hostile_patterns(bencher: Bencher, wildcards: usize) {
    let behind = "?".repeat(wildcards);
    let parent = lease(&Namespace::ToolCall, &[format!("*a{behind}"), format!("*b{behind}"), "*".into()]);
    let child = lease(&Namespace::ToolCall, &["?*".into()]);
    bencher.bench_local(|| black_box(&parent).covers(black_box(&child)).is_ok());
}
