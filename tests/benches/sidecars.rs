//! The speed of a binary result in megabytes (10^6 bytes) per second, as sidecars and in base64, in turn on the same
//! server.
//!
//! ```text
//! cargo bench -p arcp-tests --bench sidecars                # the report
//! cargo bench -p arcp-tests --bench sidecars -- --write     # and its part of BENCHMARKS.md
//! ```

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the report is what it is for")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use arcp_blocking::{Client, Target};
use arcp_proto::client::{ClientConfig, ResultData};
use arcp_proto::model::feature::Feature;
use arcp_proto::model::request::Credential;
use arcp_proto::secret::Secret;
use arcp_tests::server::{Running, submit};

const PIECE: u64 = 256 << 10;
const ROUNDS: usize = 5;
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../BENCHMARKS.md");
/// The heading of this part of the page. It is the last part: the other bench keeps everything from its beginning on.
const HEADING: &str = "## Bytes beside their frames\n";

fn main() -> ExitCode {
    let has = |name: &str| std::env::args().any(|arg| arg == name);
    let (is_measured, writes) = (has("--bench"), has("--write"));
    if writes && (!is_measured || cfg!(debug_assertions)) {
        eprintln!("--write is for `cargo bench`: anything else measures nothing");
        return ExitCode::from(2);
    }
    // Fewer in a trial that only checks that the bench runs.
    let pieces = if is_measured { 400 } else { 8 };
    let server = Running::start(&[], |_| {});
    let mut spans = [const { Vec::new() }; 2];
    for _ in 0..ROUNDS {
        for (spans, beside) in spans.iter_mut().zip([true, false]) {
            spans.push(took(&server, beside, pieces));
        }
    }
    let rates = spans.map(|mut spans: Vec<Duration>| {
        spans.sort();
        [ROUNDS / 2, ROUNDS - 1, 0].map(|at| (pieces * PIECE) as f64 / 1e6 / spans[at].as_secs_f64())
    });
    let part = part(rates);
    print!("{part}");
    match writes.then(|| write(&part)) {
        Some(Err(error)) => {
            eprintln!("{PAGE}: {error}");
            ExitCode::FAILURE
        }
        Some(Ok(())) | None => ExitCode::SUCCESS,
    }
}

/// The part of the page with the median, the least and the greatest of both, in MB/s.
fn part([beside, base64]: [[f64; 3]; 2]) -> String {
    let cells = |[median, least, most]: [f64; 3]| format!("{median:.0} ({least:.0} to {most:.0})");
    format!(
        "{HEADING}\nWritten by `cargo bench -p arcp-tests --bench sidecars -- --write`: a binary result in pieces of 256 KiB, \
         of the sample\n`chunker` to our blocking client in the same process, over loopback WebSocket in the family hello, \
         store in memory; the median\nof {ROUNDS}, with the least and the most.\n\n\
         | how the bytes go | MB/s | times base64 |\n|---|---|---|\n\
         | beside their frames | {} | {:.2} |\n| in base64 | {} | |\n",
        cells(beside),
        beside[0] / base64[0],
        cells(base64)
    )
}

/// Replaces this part of the page.
fn write(part: &str) -> std::io::Result<()> {
    let page = std::fs::read_to_string(PAGE)?;
    let others = page.split_once(HEADING).map_or(page.as_str(), |(others, _)| others);
    std::fs::write(PAGE, format!("{}\n\n{part}", others.trim_end()))
}

/// How long one result takes.
fn took(server: &Running, beside: bool, pieces: u64) -> Duration {
    let mut config = ClientConfig::new("bench", "1", Credential::Bearer(Secret::new("tok-a".into())));
    if !beside {
        config.features = config.features.without(Feature::Sidecars);
    }
    let target: Target = format!("ws://{}/arcp", server.address).parse().expect("a target");
    let client = Client::connect(target, config).expect("a session");
    assert_eq!(client.welcome().features.has(Feature::Sidecars), beside);
    let input = format!(r#"{{"chunks":{pieces},"bytes":{PIECE},"encoding":"base64"}}"#);
    let begun = Instant::now();
    let job = client.submit(submit("chunker", &input)).expect("it is accepted");
    let end = job.wait().expect("it ends");
    let span = begun.elapsed();
    let ResultData::Streamed { bytes, .. } = &end.result else { panic!("{:?}", end.result) };
    assert_eq!(bytes.len() as u64, pieces * PIECE);
    span
}
