//! How many megabytes (10^6 bytes) of a binary result come in a second beside their frames,
//! and in base64, in turn on the same server.
//!
//! ```text
//! cargo bench -p arcp-tests --bench sidecars
//! ```

#![allow(clippy::print_stdout, reason = "the report is what it is for")]

use std::time::{Duration, Instant};

use arcp_blocking::{Client, Target};
use arcp_proto::client::{ClientConfig, ResultData};
use arcp_proto::model::feature::Feature;
use arcp_proto::model::request::Credential;
use arcp_proto::secret::Secret;
use arcp_tests::server::{Running, submit};

const PIECE: u64 = 256 << 10;
const ROUNDS: usize = 5;

fn main() {
    // Fewer where somebody only looks whether it runs.
    let pieces = if std::env::args().any(|arg| arg == "--bench") { 400 } else { 8 };
    let server = Running::start(&[], |_| {});
    let mut best = [Duration::MAX; 2];
    for _ in 0..ROUNDS {
        for (best, beside) in best.iter_mut().zip([true, false]) {
            *best = took(&server, beside, pieces).min(*best);
        }
    }
    let rates = best.map(|span| (pieces * PIECE) as f64 / 1e6 / span.as_secs_f64());
    let [beside, base64] = rates;
    println!("beside frames {beside:.0} MB/s, in base64 {base64:.0} MB/s, ratio {:.2}", beside / base64);
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
