//! The spans of a runtime, as a subscriber of `tracing` gets them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arcp_host::agent::{AgentError, Context, Outcome};
use arcp_host::driver::{Driver, Host, Sockets, WriteWindow};
use arcp_host::registry::Registry;
use arcp_host::samples;
use arcp_host::spans::{TARGET, TOOLS_PER_JOB};
use arcp_host::store::{MemoryStore, Store};
use arcp_proto::id::{ConnId, JobId, Principal};
use arcp_proto::json::Json;
use arcp_proto::model::event::EventKind;
use arcp_proto::runtime::{CloseReason, Config, Input, Transport};
use arcp_tests::server::PATIENCE;
use arcp_tests::store::Faulty;
use serde_json::{Value, json};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing_subscriber::layer::{Context as Around, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, registry};

/// What was said of spans.
#[derive(Clone, Default)]
struct Watch(Arc<Mutex<Watched>>);

#[derive(Default)]
struct Watched {
    open: BTreeMap<u64, BTreeMap<String, String>>,
    ended: Vec<BTreeMap<String, String>>,
    /// The most tools that were open at once.
    most_tools: usize,
}

impl Watch {
    fn open(&self) -> usize {
        self.0.lock().expect("no panic").open.len()
    }

    fn most_tools(&self) -> usize {
        self.0.lock().expect("no panic").most_tools
    }

    /// Those that have ended of this name, as far as they are somebody's to tell.
    fn ended(&self, name: &str) -> Vec<BTreeMap<String, String>> {
        let all = self.0.lock().expect("no panic");
        all.ended.iter().filter(|span| span["name"] == name && !span.contains_key("unfinished")).cloned().collect()
    }
}

impl<S: tracing::Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Watch {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, _: Around<'_, S>) {
        assert_eq!(attributes.metadata().target(), TARGET);
        let mut said = Said(BTreeMap::from([("name".to_string(), attributes.metadata().name().to_string())]));
        attributes.record(&mut said);
        if let Some(name) = said.0.remove("otel.name") {
            said.0.insert("name".to_string(), name);
        }
        let mut all = self.0.lock().expect("no panic");
        all.open.insert(id.into_u64(), said.0);
        let tools = all.open.values().filter(|span| span["name"] == "arcp.tool").count();
        all.most_tools = all.most_tools.max(tools);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Around<'_, S>) {
        let mut said = Said::default();
        values.record(&mut said);
        self.0.lock().expect("no panic").open.get_mut(&id.into_u64()).expect("it is open").extend(said.0);
    }

    fn on_close(&self, id: Id, _: Around<'_, S>) {
        let mut all = self.0.lock().expect("no panic");
        let span = all.open.remove(&id.into_u64()).expect("it was open");
        all.ended.push(span);
    }
}

#[derive(Default)]
struct Said(BTreeMap<String, String>);

impl Visit for Said {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_string(), value.to_string());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.insert(field.name().to_string(), format!("{value:?}"));
    }
}

/// A loop with one peer.
struct Loop {
    driver: Driver,
    peer: Peer,
    said: u64,
}

#[derive(Default)]
struct Peer {
    frames: Vec<Value>,
    window: WriteWindow,
}

impl Sockets for Peer {
    fn send(&mut self, _: ConnId, frame: &str) {
        self.window.queued(frame);
        self.frames.push(serde_json::from_str(frame).expect("JSON"));
    }

    fn send_sidecar(&mut self, _: ConnId, message: Vec<u8>) {
        self.window.queued_message(&message);
    }

    fn close(&mut self, _: ConnId, _: CloseReason) {}

    fn pause_reading(&mut self, _: ConnId) {}

    fn resume_reading(&mut self, _: ConnId) {}
}

impl Peer {
    fn count(&self, kind: &str) -> usize {
        self.frames.iter().filter(|frame| frame["type"] == kind).count()
    }
}

const CONN: ConnId = ConnId(1);

impl Loop {
    /// A runtime with the samples and one agent more.
    fn start(store: Option<Box<dyn Store>>) -> Loop {
        let mut registry = Registry::default();
        samples::add_to(&mut registry);
        registry.add("tools", None, tools);
        let this = std::thread::current();
        let mut config = Config::new("test", "1");
        config.timing.resume_window = Duration::from_secs(1);
        let mut host = Host::new(config, registry);
        if let Some(store) = store {
            host = host.with_store(store);
        }
        let driver = Driver::new(host, move || this.unpark()).expect("it starts");
        Loop { driver, peer: Peer::default(), said: 0 }
    }

    fn open_session(&mut self) {
        let owner = Principal::new("owner").map(Into::into);
        let transport = Transport::WebSocket;
        let opened = Input::Opened { conn: CONN, transport, address: None, binding: None, peer: owner };
        self.driver.handle(opened, &mut self.peer).expect("the store works");
        self.driver.handle(WriteWindow::opening_credit(CONN), &mut self.peer).expect("the store works");
        self.say("session.hello", json!({"capabilities": {"encodings": ["json"], "features": ["subscribe"]}}));
        self.until(|looped| looped.peer.count("session.welcome") == 1);
    }

    fn say(&mut self, kind: &str, payload: Value) {
        self.say_in(None, kind, payload);
    }

    /// The same, in a trace.
    fn say_in(&mut self, trace: Option<&str>, kind: &str, payload: Value) {
        self.said += 1;
        let mut frame = json!({"arcp": "1.1", "id": self.said.to_string(), "type": kind, "payload": payload});
        if let Some(trace) = trace {
            frame["trace_id"] = json!(trace);
        }
        let frame = frame.to_string();
        let received = Input::Received { conn: CONN, frame: frame.into() };
        self.driver.handle(received, &mut self.peer).expect("the store works");
    }

    fn submit(&mut self, agent: &str, input: Value) {
        self.say(
            "job.submit",
            json!({"agent": agent, "input": input, "lease_request": {"agent.delegate": ["*"], "tool.call": ["**"]}}),
        );
    }

    fn until(&mut self, done: impl Fn(&Loop) -> bool) {
        let begun = Instant::now();
        while !done(self) {
            assert!(begun.elapsed() < PATIENCE, "after {:?}", self.peer.frames.last());
            std::thread::park_timeout(self.driver.next_wait().unwrap_or(PATIENCE).min(PATIENCE));
            self.driver.take_inbox(&mut self.peer).expect("the store works");
            self.driver.tick(true, &mut self.peer).expect("the store works");
            if let Some(credit) = self.peer.window.all_written(CONN) {
                self.driver.handle(credit, &mut self.peer).expect("the store works");
            }
        }
    }

    fn ends(&self) -> usize {
        self.peer.count("job.result") + self.peer.count("job.error")
    }
}

/// Calls more tools than are shown at once, and has no result of any.
fn tools(job: &Context) -> Result<Outcome, AgentError> {
    for n in 0..3 * TOOLS_PER_JOB {
        let body = Json::from_value(&json!({"call_id": n.to_string(), "tool": "grep", "args": {}}))?;
        job.emit(&EventKind::ToolCall, &body)?;
    }
    Ok(Outcome::Json(Json::null()))
}

/// Runs this under a subscriber of its own.
fn watched(run: impl FnOnce(&Watch)) -> Watch {
    let watch = Watch::default();
    tracing::subscriber::with_default(registry().with(watch.clone()), || run(&watch));
    watch
}

#[test]
fn every_span_ends_with_what_it_is_about() {
    let watch = watched(|watch| {
        let mut looped = Loop::start(None);
        looped.open_session();
        let jobs = ["echo", "failer", "delegator", "slow"];
        for agent in jobs {
            looped.submit(agent, json!({}));
        }
        looped.until(|looped| looped.peer.count("job.accepted") >= jobs.len());
        looped.until(|looped| looped.ends() >= jobs.len() - 1);
        let accepted = looped.peer.frames.iter().filter(|frame| frame["type"] == "job.accepted");
        let slow = accepted.map(|frame| &frame["payload"]).find(|payload| payload["agent"] == "slow");
        let slow = slow.expect("accepted")["job_id"].clone();
        looped.say("job.cancel", json!({"job_id": slow}));
        looped.until(|looped| looped.ends() >= jobs.len());
        assert_eq!(watch.open(), 1, "the session");
        looped.driver.handle(Input::Closed { conn: CONN }, &mut looped.peer).expect("the store works");
        assert_eq!(watch.open(), 1, "it can be resumed");
        looped.until(|looped| looped.driver.stats().sessions == 0 && looped.driver.running_agents() == 0);
        assert_eq!(watch.open(), 0);
    });
    let statuses: BTreeSet<String> = watch.ended("arcp.job").iter().map(|span| span["arcp.status"].clone()).collect();
    assert_eq!(statuses, ["cancelled", "error", "success"].map(str::to_string).into());
    assert_eq!(watch.ended("arcp.session").len(), 1);
}

#[test]
fn tools_without_results_do_not_add_up() {
    let watch = watched(|watch| {
        let mut looped = Loop::start(None);
        looped.open_session();
        looped.submit("tools", json!({}));
        looped.until(|looped| looped.ends() == 1);
        assert_eq!(watch.open(), 1, "the session");
    });
    assert_eq!(watch.most_tools(), TOOLS_PER_JOB);
    assert_eq!(watch.ended("arcp.tool").len(), 3 * TOOLS_PER_JOB);
}

#[test]
fn what_a_store_is_given_twice_is_one_span() {
    let (store, faults) = Faulty::new(Box::<MemoryStore>::default());
    let watch = watched(|_| {
        let mut looped = Loop::start(Some(Box::new(store)));
        looped.open_session();
        faults.fail(true);
        looped.submit("echo", json!(1));
        looped.until(|looped| looped.driver.stats().store_failed);
        faults.fail(false);
        looped.until(|looped| looped.ends() == 1);
    });
    assert_eq!(watch.ended("arcp.job").len(), 1);
}

#[test]
fn what_a_job_has_done_stands_below_the_span_that_asked_for_it_if_that_is_of_its_trace() {
    let traces = ["4bf92f3577b34da6a3ce929d0e0e4736", "5bf92f3577b34da6a3ce929d0e0e4736"];
    let caller = |trace: &str, span: u64| format!("00-{trace}-{span:016x}-01");
    let mut own = String::new();
    let watch = watched(|_| {
        let mut looped = Loop::start(None);
        looped.open_session();
        let lease = json!({"agent.delegate": ["*"]});
        let slow = json!({"agent": "slow", "input": {"ms": 3_600_000, "tick_ms": 3_600_000}, "lease_request": lease});
        looped.say_in(Some(&caller(traces[0], 1)), "job.submit", slow);
        looped.until(|looped| looped.peer.count("job.accepted") == 1);
        let accepted = looped.peer.frames.iter().find(|frame| frame["type"] == "job.accepted").expect("it is");
        let job = accepted["payload"]["job_id"].clone();
        let id = job.as_str().and_then(JobId::parse).expect("an id").ulid().0;
        own = format!("{:016x}", id & u128::from(u64::MAX));
        for (n, (trace, span)) in [(traces[0], 2), (traces[1], 2), (traces[0], 1)].into_iter().enumerate() {
            let below = json!({"agent": "echo", "input": 1, "parent_job_id": job});
            looped.say_in(Some(&caller(trace, span)), "job.submit", below);
            looped.until(|looped| looped.ends() == n + 1);
        }
    });
    let above = |name: &str| -> Vec<String> {
        watch
            .ended(name)
            .iter()
            .filter(|span| span["arcp.agent"] != "slow")
            .map(|span| span["parent_span_id"].clone())
            .collect()
    };
    assert_eq!(above("arcp.delegate"), [format!("{:016x}", 2), own.clone(), own]);
    let jobs = watch.ended("arcp.job");
    let echoes: Vec<_> = jobs.iter().filter(|span| span["arcp.agent"].starts_with("echo")).collect();
    assert_eq!(echoes.len(), 3);
    assert_eq!((&*echoes[1]["parent_span_id"], &*echoes[1]["link_trace_id"]), ("0000000000000002", traces[0]));
    for echo in [&echoes[0], &echoes[2]] {
        assert_ne!(echo["parent_span_id"], "0000000000000002", "that of the delegation");
        assert_eq!(echo["trace_id"], traces[0]);
    }
}
