//! The counts and the readiness of a runtime over HTTP, with their page of the documentation and the dashboard.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test names what it expects, and anything else fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use arcp_blocking::ServerConfig;
use arcp_host::sqlite::{Durability, SqliteStore};
use arcp_host::store::{MemoryStore, Store};
use arcp_proto::id::Principal;
use arcp_proto::runtime::Config;
use arcp_proto::secret::Secret;
use arcp_tests::kept::Folder;
use arcp_tests::server::{Running, expect, send};
use arcp_tests::store::Faulty;
use arcp_tests::until::until;
use prometheus_parse::{Scrape, Value as Sample};
use serde_json::{Value, json};

const PLAIN: &str = "GET /metrics HTTP/1.1\r\nHost: localhost";
const SCRAPE: &str = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\
                      Accept: application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3";

/// The page as a scraper reads it.
struct Page {
    /// The kind of each family, by its name.
    families: BTreeMap<String, String>,
    samples: Vec<prometheus_parse::Sample>,
}

impl Page {
    fn of(server: &Running) -> Page {
        let answer = server.http(SCRAPE);
        let (head, text) = answer.split_once("\r\n\r\n").expect("a whole answer");
        assert!(head.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(
            head.contains("Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"),
            "{head}"
        );
        assert!(text.ends_with("\n# EOF\n"), "{text}");
        Page::read(text)
    }

    fn read(text: &str) -> Page {
        let kinds = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
        let families: BTreeMap<String, String> = kinds.map(|(name, kind)| (name.into(), kind.into())).collect();
        let lines = text.lines().filter(|line| !line.starts_with('#')).map(|line| Ok(line.to_string()));
        let samples = Scrape::parse(lines).expect("a page that a scraper reads").samples;
        assert_eq!(samples.len(), text.lines().filter(|line| !line.starts_with('#')).count(), "each line is a sample");
        let page = Page { families, samples };
        for sample in &page.samples {
            assert!(page.family(&sample.metric).is_some(), "{} is of no family", sample.metric);
        }
        page
    }

    /// The family that a sample is of.
    fn family(&self, sample: &str) -> Option<&str> {
        let of = |kind: &str, suffixes: &[&str]| {
            suffixes.iter().find_map(|suffix| {
                let (name, _) = self.families.get_key_value(sample.strip_suffix(suffix)?)?;
                (self.families[name] == kind).then_some(name.as_str())
            })
        };
        of("gauge", &[""])
            .or_else(|| of("counter", &["_total"]))
            .or_else(|| of("histogram", &["_bucket", "_sum", "_count"]))
    }

    /// The sum of the samples with these labels.
    fn value(&self, metric: &str, labels: &[(&str, &str)]) -> f64 {
        let is_meant = |sample: &&prometheus_parse::Sample| {
            sample.metric == metric && labels.iter().all(|(name, value)| sample.labels.get(name) == Some(value))
        };
        let values = self.samples.iter().filter(is_meant).map(|sample| match &sample.value {
            Sample::Counter(value) | Sample::Gauge(value) | Sample::Untyped(value) => *value,
            other => panic!("{metric}: {other:?}"),
        });
        values.sum()
    }
}

fn serve(config: impl FnOnce(&mut Config), store: Box<dyn Store>) -> Running {
    Running::start_on(store, &[], config)
}

fn in_memory(change: impl FnOnce(&mut ServerConfig)) -> Running {
    let host = Running::host(Box::<MemoryStore>::default(), &[], |config| {
        config.operators.extend(Principal::new("a"));
    });
    Running::serve_as(host, change)
}

fn status(answer: &str) -> &str {
    answer.get(9..12).unwrap_or(answer)
}

/// A session that is resumed, jobs that end in different ways, and refusals.
fn make_busy(server: &Running) {
    let (mut socket, welcome) = server.session("tok-a");
    for (id, agent) in [("1", "echo"), ("2", "failer"), ("3", "chatty")] {
        send(&mut socket, id, "job.submit", json!({"agent": agent, "input": {"count": 20}}));
    }
    let ends = ["job.result", "job.error", "job.result"];
    let mut left = ends.len();
    while left > 0 {
        let kind = arcp_tests::server::next(&mut socket).expect("it goes on")["type"].clone();
        left -= usize::from(ends.iter().any(|end| kind == *end));
    }
    send(&mut socket, "4", "job.submit", json!({"agent": "of-a-peer", "input": {}}));
    expect(&mut socket, "session.error");
    send(&mut socket, "5", "job.submit", json!({"agent": "echo", "lease_request": {"tool.call": ["a.*"]}}));
    expect(&mut socket, "job.result");
    drop(socket);
    let resume = |token: &Value| {
        let mut socket = server.websocket();
        let claim = json!({"client": {"name": "t", "version": "1"}, "auth": {"scheme": "bearer", "token": "tok-a"},
            "resume_token": token, "last_event_seq": 0});
        send(&mut socket, "1", "session.hello", claim);
        socket
    };
    expect(&mut resume(&welcome["payload"]["resume_token"]), "session.welcome");
    expect(&mut resume(&json!("rtk_of-a-peer")), "session.error");
}

#[test]
fn what_happens_is_counted_by_agent_code_and_outcome() {
    let folder = Folder::new("metrics");
    let store = SqliteStore::open(&folder.0.join("jobs.db"), Durability::Full).expect("it opens");
    let server = serve(|_| {}, Box::new(store));
    make_busy(&server);
    // What nobody waits for may be committed still.
    let groups = |page: &Page, metric| page.value(&format!("arcp_store_{metric}_count"), &[]);
    let page = until("each group is counted once, and so is what it took", || {
        let page = Page::of(&server);
        let counted = ["group_batches", "sync_seconds", "group_records"].map(|metric| groups(&page, metric));
        (counted == [counted[0]; 3]).then_some(page)
    });
    for (metric, labels, expected) in [
        ("arcp_jobs_accepted_total", vec![("agent", "echo")], 2.0),
        ("arcp_jobs_accepted_total", vec![], 4.0),
        ("arcp_jobs_ended_total", vec![("agent", "echo"), ("status", "success")], 2.0),
        ("arcp_jobs_ended_total", vec![("agent", "failer"), ("status", "error")], 1.0),
        ("arcp_refusals_total", vec![("code", "AGENT_NOT_AVAILABLE")], 1.0),
        ("arcp_resumes_total", vec![("outcome", "resumed")], 1.0),
        ("arcp_resumes_total", vec![("outcome", "refused")], 1.0),
        ("arcp_decisions_total", vec![("act", "submit"), ("outcome", "done")], 1.0),
        ("arcp_decisions_total", vec![("act", "resume"), ("outcome", "refused")], 1.0),
        ("arcp_sessions_opened_total", vec![], 1.0),
        ("arcp_sessions", vec![], 1.0),
        ("arcp_jobs", vec![], 0.0),
        ("arcp_store_failures_total", vec![], 0.0),
    ] {
        assert_eq!(page.value(metric, &labels), expected, "{metric} {labels:?}");
    }
    let groups = groups(&page, "group_batches");
    assert!(groups > 0.0);
    assert!(page.value("arcp_append_seconds_count", &[]) >= groups, "whoever was committed together waited alone");
    for metric in ["arcp_fan_out_seconds_count", "arcp_received_bytes_total", "arcp_sent_bytes_total"] {
        assert!(page.value(metric, &[]) > 0.0, "{metric}");
    }
    assert!(page.value("arcp_events_total", &[]) > 20.0);
}

#[test]
fn what_a_peer_chooses_is_in_no_label() {
    let server = serve(|_| {}, Box::<MemoryStore>::default());
    make_busy(&server);
    let page = Page::of(&server);
    let hosted: BTreeSet<&str> = ["echo", "failer", "chatty"].into();
    let mut words = BTreeSet::new();
    for sample in &page.samples {
        let labels: BTreeMap<&String, &String> = sample.labels.iter().collect();
        for (name, value) in labels {
            match name.as_str() {
                "agent" => assert!(hosted.contains(value.as_str()), "{sample:?}"),
                "le" => assert!(value.parse::<f64>().is_ok(), "{sample:?}"),
                "code" | "status" | "outcome" | "act" | "state" | "what" => {
                    words.insert(value.clone());
                }
                other => panic!("the label {other} is not bounded: {sample:?}"),
            }
        }
    }
    let is_word = |word: &String| word.chars().all(|c| c.is_ascii_alphabetic() || c == '_');
    assert!(words.iter().all(is_word), "{words:?}");
}

#[test]
fn what_is_counted_is_shown_on_this_machine_or_to_who_has_a_token() {
    let server = in_memory(|_| {});
    let bearer = |token: &str| format!("{SCRAPE}\r\nAuthorization: Bearer {token}");
    let passed_on = format!("{SCRAPE}\r\nX-Forwarded-For: 203.0.113.7");
    assert_eq!(status(&server.http(SCRAPE)), "200");
    assert_eq!(status(&server.http(&passed_on)), "401", "a proxy is on this machine, who asks is not");
    assert_eq!(status(&server.http(&format!("{passed_on}\r\nAuthorization: Bearer tok-a"))), "200", "an operator");
    assert_eq!(status(&server.http(&bearer("tok-b"))), "403", "a wrong token is not passed over");
    let server = in_memory(|config| config.metrics_token = Some(Secret::new("scraper".into())));
    assert_eq!(status(&server.http(SCRAPE)), "401");
    assert_eq!(status(&server.http(&bearer("scrape"))), "403");
    assert_eq!(status(&server.http(&bearer("scraper"))), "200");
    assert_eq!(status(&server.http(&bearer("tok-a"))), "200", "an operator");
    let stats = "GET /stats HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer scraper";
    assert_eq!(status(&server.http(stats)), "403", "it is good for nothing else");
}

#[test]
fn a_runtime_is_ready_while_its_store_works_and_until_it_drains() {
    let (store, faults) = Faulty::new(Box::<MemoryStore>::default());
    let server = serve(|config| config.limits.connection.replies_per_connection = 2, Box::new(store));
    let ready = || server.http("GET /readyz HTTP/1.1\r\nHost: localhost");
    let (mut socket, _) = server.session("tok-a");
    assert!(status(&ready()) == "200" && ready().ends_with("ready\n"), "{}", ready());
    faults.fail(true);
    send(&mut socket, "1", "job.submit", json!({"agent": "chatty", "input": {"count": 500}}));
    while status(&ready()) != "503" {}
    assert!(ready().ends_with("the store is failing\n"), "{}", ready());
    assert_eq!(Page::of(&server).value("arcp_store_failed", &[]), 1.0);
    faults.fail(false);
    expect(&mut socket, "job.result");
    assert_eq!(status(&ready()), "200");
    let page = Page::of(&server);
    assert!(page.value("arcp_reading_paused_seconds_total", &[]) > 0.0, "its answer waited for the store");
    assert!(page.value("arcp_store_failures_total", &[]) > 0.0);
    // Somebody to wait for.
    send(&mut socket, "2", "job.submit", json!({"agent": "gate", "input": {"key": "k"}}));
    expect(&mut socket, "job.accepted");
    while Page::of(&server).value("arcp_agents", &[("state", "running")]) != 1.0 {}
    assert_eq!(Page::of(&server).value("arcp_jobs", &[("agent", "gate"), ("status", "running")]), 1.0);
    server.drain();
    while status(&ready()) != "503" {}
    assert!(ready().ends_with("about to end\n"), "{}", ready());
    assert_eq!(status(&server.http("GET /healthz HTTP/1.1\r\nHost: localhost")), "200", "it still does its work");
    assert_eq!(Page::of(&server).value("arcp_draining", &[]), 1.0);
    send(&mut socket, "3", "job.submit", json!({"agent": "opengate", "input": {"key": "k"}}));
    drop(socket);
}

#[test]
fn an_agent_that_waits_for_credit_is_counted() {
    let (store, faults) = Faulty::new(Box::<MemoryStore>::default());
    let server = serve(|_| {}, Box::new(store));
    let (mut socket, _) = server.session("tok-a");
    send(&mut socket, "1", "job.submit", json!({"agent": "chatty", "input": {"count": 10_000_000, "delay_ms": 1}}));
    expect(&mut socket, "job.event");
    let events = || Page::of(&server).value("arcp_events_total", &[]);
    // An agent that says nothing for long has perhaps not had the processor.
    until("it has waited", || {
        faults.fail(true);
        while Page::of(&server).value("arcp_store_failed", &[]) != 1.0 {}
        // It goes on until its credit is used up.
        let mut before = (0.0, 0);
        let said = until("that it says no more", || {
            let now = events();
            before = if now > before.0 { (now, 0) } else { (now, before.1 + 1) };
            (before.1 == 50).then_some(now)
        });
        faults.fail(false);
        until("it goes on", || (events() > said).then_some(()));
        (Page::of(&server).value("arcp_agents_waited_seconds_total", &[]) > 0.0).then_some(())
    });
}

fn repository(path: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// The names of samples or families in a text.
fn named(text: &str) -> BTreeSet<String> {
    let is_of_name = |c: char| c.is_ascii_lowercase() || c == '_';
    let at = text.match_indices("arcp_").filter(|(at, _)| !text[..*at].ends_with(is_of_name));
    at.map(|(at, _)| text[at..].chars().take_while(|c| is_of_name(*c)).collect()).collect()
}

#[test]
fn the_dashboard_shows_every_metric_and_no_other() {
    let server = serve(|_| {}, Box::<MemoryStore>::default());
    make_busy(&server);
    let page = Page::of(&server);
    let dashboard: Value = serde_json::from_str(&repository("packaging/grafana/arcp.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().expect("targets"));
    let samples: BTreeSet<&str> = page.samples.iter().map(|sample| sample.metric.as_str()).collect();
    // Without a job that goes on there is no sample of it.
    let is_there = |name: &String| samples.contains(name.as_str()) || page.families.contains_key(name);
    let mut shown = BTreeSet::from(["arcp_jobs".to_string()]);
    for target in targets {
        let expression = target["expr"].as_str().expect("an expression");
        let metrics = named(expression);
        assert!(!metrics.is_empty(), "{expression}");
        for metric in metrics {
            assert!(is_there(&metric) || metric == "arcp_jobs", "{metric} of `{expression}` does not exist");
            shown.extend(page.family(&metric).map(str::to_string));
        }
    }
    let all: BTreeSet<String> = page.families.keys().cloned().chain(["arcp_jobs".to_string()]).collect();
    assert_eq!(shown, all, "left: on the dashboard, right: what there is");
}

#[test]
fn the_documentation_names_every_metric_and_no_other() {
    let server = serve(|_| {}, Box::<MemoryStore>::default());
    make_busy(&server);
    let page = Page::of(&server);
    let docs = repository("docs/operating.md");
    let table =
        docs.split("## Metrics").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("its part of the page");
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `"));
    let documented: BTreeSet<String> = rows.flat_map(|row| named(row.split('`').next().unwrap_or_default())).collect();
    let series =
        page.families.iter().map(|(name, kind)| if kind == "counter" { format!("{name}_total") } else { name.clone() });
    let all: BTreeSet<String> = series.chain(["arcp_jobs".to_string()]).collect();
    assert_eq!(documented, all, "left: in the documentation, right: what there is");
}

#[test]
fn who_reads_no_open_metrics_is_given_the_same_counts_as_prometheus_text() {
    let server = in_memory(|_| {});
    make_busy(&server);
    let open = Page::of(&server);
    let answer = server.http(PLAIN);
    let (head, text) = answer.split_once("\r\n\r\n").expect("a whole answer");
    assert!(head.contains("Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{head}");
    assert!(!text.contains("# EOF") && !text.contains("# UNIT"), "{text}");
    let lines = text.lines().map(|line| Ok(line.to_string()));
    let samples = Scrape::parse(lines).expect("a page that a scraper reads").samples;
    let names =
        |samples: &[prometheus_parse::Sample]| samples.iter().map(|one| one.metric.clone()).collect::<BTreeSet<_>>();
    let (open, plain) = (names(&open.samples), names(&samples));
    assert!(open.iter().all(|name| plain.iter().any(|plain| name.starts_with(plain.as_str()))), "{open:?} {plain:?}");
    // The kind of a counter is found by the name of its sample here.
    let submitted = samples.iter().find(|sample| sample.metric == "arcp_sessions_opened_total").expect("it is counted");
    assert!(matches!(submitted.value, Sample::Counter(_)), "{submitted:?}");
}
