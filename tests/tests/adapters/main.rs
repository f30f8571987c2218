//! Whatever a peer does, it sees the same over every adapter: each scenario is
//! played against each, and what came back is compared, connection by
//! connection, once ids, tokens and times are out of it.

use std::sync::mpsc::channel;

use arcp_host::agent::{AgentError, AsyncContext, Level, Outcome};
use arcp_host::registry::Registry;
use arcp_host::samples;
use arcp_host::sqlite::{Durability, SqliteStore};
use arcp_host::store::MemoryStore;
use arcp_proto::client::{ClientConfig, ResultData};
use arcp_proto::id::Principal;
use arcp_proto::json::Json;
use arcp_proto::model::event::{EventKind, JobEvent};
use arcp_proto::model::request::Credential;
use arcp_proto::runtime::{ChunkData, Notice};
use arcp_proto::secret::Secret;
use arcp_tests::kept::Folder;
use arcp_tests::raw::hello_payload;
use arcp_tests::server::{PATIENCE, Running, connect_to, submit, websocket_to};
use serde_json::{Value, json};

mod calls;
mod carried;
mod our_client;
mod peer;
mod quic_sidecars;
mod sidecars;
mod site;
mod sockets;
mod transcript;

#[allow(dead_code, reason = "its main is not run here")]
#[path = "../../../arcp-blocking/examples/event_loop.rs"]
mod event_loop;

use our_client::OurClient;
use peer::Peer;
use site::Adapter::{Blocking, Tokio};
use site::{Adapter, LISTEN, Over, Site, Way, runtime};
use transcript::{Normal, Transcript, same_over};

/// Says the kinds of things that agents say, waiting for each without a thread.
async fn reporter(job: AsyncContext, input: Json) -> Result<Outcome, AgentError> {
    job.log(Level::Info, "begun", None).await?;
    for n in 1..=3 {
        job.progress(n, Some(3), Some("steps")).await?;
    }
    job.emit_durably(&EventKind::from("x-vendor.report"), &Json::parse(r#"{"n":1}"#)?).await?;
    job.chunk(ChunkData::Text(format!("in pieces: {}", input.as_str())), true).await?;
    job.chunk(ChunkData::Text("the end".to_string()), false).await?;
    Ok(Outcome::Streamed { summary: Some("reported".to_string()) })
}

/// Waits to be told to stop, and then goes on waiting.
async fn stubborn(job: AsyncContext, _: Json) -> Result<Outcome, AgentError> {
    job.status("waiting", None).await?;
    job.stopped().await;
    job.status("not stopping", None).await?;
    std::future::pending().await
}

async fn panicking(_: AsyncContext, _: Json) -> Result<Outcome, AgentError> {
    panic!("as it was written to")
}

fn registry() -> Registry {
    let mut registry = Registry::default();
    samples::add_to(&mut registry);
    registry.add_async("reporter", None, reporter);
    registry.add_async("stubborn", None, stubborn);
    registry.add_async("panicking", None, panicking);
    registry
}

const PORTS: &[Way] = &[Way(Blocking, Over::WebSocket), Way(Tokio, Over::WebSocket)];
const SECURED: &[Way] = &[Way(Blocking, Over::Tls), Way(Tokio, Over::Tls)];
const SOCKETS: &[Way] = &[Way(Blocking, Over::Unix), Way(Tokio, Over::Unix)];
/// What carries several sessions, or one of a connection, as streams.
const CARRIED: &[Way] = &[Way(Tokio, Over::H2c), Way(Tokio, Over::H2), Way(Tokio, Over::Quic)];
/// One peer each.
const STDIO: &[Way] = &[Way(Blocking, Over::Stdio), Way(Tokio, Over::Stdio)];
/// Where a frame is a line.
const LINES: &[Way] = &[SOCKETS[0], SOCKETS[1], CARRIED[0], CARRIED[1], CARRIED[2]];
const EVENT_LOOP: Way = Way(Adapter::EventLoop, Over::WebSocket);
const ALL: &[Way] = &[
    PORTS[0], PORTS[1], EVENT_LOOP, SECURED[0], SECURED[1], SOCKETS[0], SOCKETS[1], CARRIED[0], CARRIED[1], CARRIED[2],
];
/// For what one peer sees alone.
const EVERY: &[Way] = &[
    PORTS[0], PORTS[1], EVENT_LOOP, SECURED[0], SECURED[1], SOCKETS[0], SOCKETS[1], CARRIED[0], CARRIED[1], CARRIED[2],
    STDIO[0], STDIO[1],
];

#[test]
fn a_job_of_every_kind_of_agent_is_told_alike() {
    same_over(EVERY, |adapter| {
        let site = Site::start(adapter, |_| {});
        let mut peer = site.session();
        for (id, agent, input) in [
            ("1", "echo@1.0.0", json!({"n": 1.5})),
            ("2", "chatty", json!({"count": 300})),
            ("3", "chunker", json!({})),
            ("4", "reporter", json!({"of": "today"})),
        ] {
            peer.say(id, "job.submit", json!({"agent": agent, "input": input}));
            peer.until("job.result");
        }
        for (id, agent) in [("5", "failer"), ("6", "panicking")] {
            peer.say(id, "job.submit", json!({"agent": agent, "input": {}}));
            peer.until("job.error");
        }
        peer.say("7", "session.list_jobs", json!({}));
        peer.until("session.jobs");
        vec![peer.seen]
    });
}

#[test]
fn what_is_refused_is_refused_alike() {
    same_over(EVERY, |adapter| {
        let (elsewhere, site) = (Site::start(adapter, |_| {}), Site::start(adapter, |_| {}));
        let mut stranger = elsewhere.peer();
        stranger.say("h", "session.hello", hello_payload("not a token"));
        let mut peer = site.session();
        peer.say("1", "job.submit", json!({"agent": "nobody"}));
        peer.until("session.error");
        peer.say("2", "job.cancel", json!({"job_id": "job_01ARZ3NDEKTSV4RRFFQ69G5FAV"}));
        peer.until("session.error");
        peer.say_text("{");
        peer.until("session.error");
        peer.say("3", "session.close", json!({}));
        vec![stranger.until_closed(), peer.until_closed()]
    });
}

#[test]
fn a_message_that_is_too_long_ends_a_websocket_and_is_passed_over_on_lines() {
    let play = |adapter| {
        let start = || Site::start(adapter, |config| config.limits.frame.frame_bytes = 64 << 10);
        let (elsewhere, site) = (start(), start());
        let mut stranger = elsewhere.peer();
        stranger.say_text(&"x".repeat(65 << 10));
        let mut peer = site.session();
        peer.say_text(&"x".repeat(65 << 10));
        peer.until("session.error");
        if !matches!(adapter.1, Over::WebSocket | Over::Tls) {
            peer.say("1", "session.ping", json!({}));
            peer.until("session.pong");
            peer.say("2", "session.close", json!({}));
        }
        vec![stranger.until_closed(), peer.until_closed()]
    };
    same_over(PORTS, play);
    same_over(SECURED, play);
    same_over(LINES, play);
    same_over(&[LINES[0], STDIO[0], STDIO[1]], play);
}

#[test]
fn requests_that_become_no_websocket_are_answered_alike() {
    use std::io::{Read as _, Write as _};
    same_over(PORTS, |adapter| {
        let site = Site::start(adapter, |_| {});
        let heads = [
            "GET /healthz HTTP/1.1\r\nHost: localhost",
            "GET /stats HTTP/1.1\r\nHost: localhost",
            "GET /arcp HTTP/1.1\r\nHost: localhost",
            "GET /arcp HTTP/1.1\r\nHost: evil.example",
            "GET /elsewhere HTTP/1.1\r\nHost: localhost",
            "POST /arcp HTTP/1.1\r\nHost: localhost",
            "nonsense",
        ];
        let ask = |head: &str| {
            let mut socket = connect_to(site.address());
            socket.write_all(format!("{head}\r\n\r\n").as_bytes()).expect("written");
            let mut answer = String::new();
            socket.read_to_string(&mut answer).expect("an answer and an end");
            vec![json!(answer)]
        };
        heads.into_iter().map(ask).collect()
    });
}

#[test]
fn a_cancel_stops_agents_of_every_kind_alike() {
    same_over(EVERY, |adapter| {
        let site = Site::start(adapter, |_| {});
        let mut peer = site.session();
        for agent in ["gate", "stubborn"] {
            peer.say(agent, "job.submit", json!({"agent": agent, "input": {}}));
            let job = peer.until("job.accepted")["payload"]["job_id"].clone();
            peer.until_phase("waiting");
            peer.say(&format!("c-{agent}"), "job.cancel", json!({"job_id": job}));
            peer.until("job.error");
            peer.say(&format!("l-{agent}"), "session.list_jobs", json!({}));
            peer.until("session.jobs");
        }
        vec![peer.seen]
    });
}

/// Tells that it was dropped.
struct Told(std::sync::mpsc::Sender<()>);

impl Drop for Told {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

#[test]
fn an_async_agent_that_does_not_stop_is_dropped_where_it_waits() {
    for adapter in EVERY {
        let (sender, dropped) = channel();
        let mut registry = Registry::default();
        registry.add_async("held", None, move |job: AsyncContext, _: Json| {
            let held = Told(sender.clone());
            async move {
                job.status("waiting", None).await?;
                let _held = held;
                std::future::pending().await
            }
        });
        let site = Site::with(*adapter, registry, Box::<MemoryStore>::default(), |_| {});
        let mut peer = site.session();
        peer.say("1", "job.submit", json!({"agent": "held"}));
        let job = peer.until("job.accepted")["payload"]["job_id"].clone();
        peer.until_phase("waiting");
        assert!(dropped.try_recv().is_err(), "{adapter:?}: it was not told to stop");
        peer.say("2", "job.cancel", json!({"job_id": job}));
        let end = peer.until("job.error");
        assert_eq!(end["payload"]["final_status"], "cancelled", "{adapter:?}");
        dropped.recv_timeout(PATIENCE).expect("it is dropped after its grace");
    }
}

#[test]
fn a_session_that_was_cut_comes_back_alike() {
    same_over(ALL, |adapter| {
        let site = Site::start(adapter, |_| {});
        let mut peer = site.session();
        let token = peer.seen[0]["payload"]["resume_token"].clone();
        peer.say("1", "job.submit", json!({"agent": "chatty", "input": {"count": 50}}));
        peer.until("job.result");
        let seen = peer.cut();
        let mut back = site.peer();
        let mut hello = hello_payload("tok-a");
        hello["resume"] = json!({"resume_token": token, "last_event_seq": 20});
        back.say("h", "session.hello", hello);
        back.until("job.result");
        vec![seen, back.seen]
    });
}

#[test]
fn a_flood_of_requests_is_answered_in_order_and_nobody_else_waits() {
    const REQUESTS: usize = 2000;
    same_over(ALL, |adapter| {
        let site = Site::start(adapter, |_| {});
        let (mut flood, mut other) = (site.session(), site.session());
        let (mut writer, encode) = flood.writer();
        let frames: Vec<u8> = (0..REQUESTS).flat_map(|n| encode(&ping(n))).collect();
        // It reads nothing while it asks.
        let asking = std::thread::spawn(move || writer.write_all(&frames));
        other.say("1", "job.submit", json!({"agent": "echo", "input": 1}));
        other.until("job.result");
        (0..REQUESTS).for_each(|_| drop(flood.until("session.pong")));
        asking.join().expect("no panic").expect("everything was read");
        vec![flood.seen, other.seen]
    });
}

fn ping(n: usize) -> String {
    json!({"id": format!("p{n}"), "type": "session.ping", "payload": {"nonce": n.to_string()}}).to_string()
}

#[test]
fn who_reads_nothing_is_closed_and_can_come_back_alike() {
    same_over(ALL, |adapter| {
        let site = Site::start(adapter, |config| config.timing.slow_reader_grace = PATIENCE / 10);
        let mut slow = site.session();
        let token = slow.seen[0]["payload"]["resume_token"].clone();
        slow.say("1", "job.submit", json!({"agent": "chatty", "input": {"count": 60, "kind": "log", "pad": 500_000}}));
        site.wait_for(|notice| matches!(notice, Notice::SessionDetached { .. }));
        let mut back = site.peer();
        let mut hello = hello_payload("tok-a");
        hello["resume"] = json!({"resume_token": token, "last_event_seq": 0});
        back.say("h", "session.hello", hello);
        back.until("job.result");
        // Where the other was cut off depends on the system's buffers.
        let kinds = |frame: &Value| json!({"type": frame["type"], "seq": frame["event_seq"]});
        vec![back.seen.iter().map(kinds).collect()]
    });
}

#[test]
fn every_call_of_our_clients_comes_to_the_same_on_every_server() {
    let mut told = Vec::new();
    for client in [Blocking, Tokio] {
        same_over(ALL, |server| {
            let seen = every_call(client, &Site::start(server, |_| {}));
            told.push(Normal::of(seen.clone()));
            seen
        });
    }
    for (at, seen) in told.iter().enumerate() {
        assert_eq!(seen, &told[0], "pair {at} of client and server");
    }
}

fn every_call(adapter: Adapter, site: &Site) -> Transcript {
    let (client, other) = (OurClient::connect(adapter, site, None), OurClient::connect(adapter, site, None));
    let agents = client.welcome().agents.iter().map(|agent| json!(agent.name)).collect();
    let reported = client.submit("reporter", r#"{"of":1}"#).expect("it is accepted").rest();
    let nobody = client.submit("nobody", "{}").err();
    let nothing = client.steer(&"str_01M7VD85KQ9SZXPW6NX4X2SFJ9_1".parse().expect("an id")).err();
    let refused: Vec<Value> = [nobody, nothing].iter().flatten().map(|error| json!(error.to_string())).collect();
    assert_eq!(refused.len(), 2, "{refused:?}");

    let mut cancelled = client.submit("gate", "{}").expect("it is accepted");
    let first = cancelled.until_it_waits();
    let mut watched = other.watch(cancelled.id()).expect("it is shown");
    let also = watched.until_it_waits();
    other.cancel(cancelled.id()).expect("it is taken");
    let (cancelled, watched) = (cancelled.rest(), watched.rest());
    let listed = other.list().expect("a page").jobs.into_iter().map(|job| json!(format!("{:?}", job.status))).collect();

    let mut cut = client.submit("gate", r#"{"key":"cut"}"#).expect("it is accepted");
    let mut over_a_cut = cut.until_it_waits();
    client.cut();
    over_a_cut.push(cut.next().expect("the session comes back"));
    let opened = other.submit("opengate", r#"{"key":"cut"}"#).expect("it is accepted").rest();
    over_a_cut.extend(cut.rest());

    let claim = client.leave();
    let back = OurClient::connect(adapter, site, claim);
    let resumed = vec![json!(back.welcome().resumed)];
    back.close();
    other.close();
    vec![agents, reported, refused, first, also, cancelled, watched, listed, opened, over_a_cut, resumed]
}

#[test]
fn a_peer_in_memory_is_served_line_by_line_until_it_leaves() {
    runtime().block_on(async {
        let host = Running::host_of(Box::<MemoryStore>::default(), registry(), |_| {});
        let (near, far) = tokio::io::duplex(64);
        let serving = tokio::spawn(arcp_tokio_adapter::serve(host, Some(Principal::new("a").expect("a name")), far));
        let near = std::sync::Mutex::new(Some(near));
        let connect = move || {
            let stream = near.lock().expect("no panic").take();
            async move { stream.ok_or_else(|| std::io::Error::other("there was one pipe")) }
        };
        let config = ClientConfig::new("test", "1", Credential::Anonymous);
        let client = arcp_tokio_adapter::Client::connect_by(connect, config).await.expect("a session");
        let mut job = client.submit(submit("chatty", r#"{"count":500}"#)).await.expect("it is accepted");
        let mut metrics = 0;
        while let Some(event) = job.next_event().await {
            metrics += usize::from(matches!(event, JobEvent::Emitted { kind: EventKind::Metric, .. }));
        }
        assert_eq!(metrics, 500);
        let end = job.wait().await.expect("it ended");
        assert_eq!(end.result, ResultData::Inline(Json::parse(r#"{"emitted":500}"#).expect("JSON")));
        client.close().await;
        serving.await.expect("no panic").expect("it ends in order");
    });
}

#[test]
fn a_restart_on_the_same_store_is_seen_alike() {
    same_over(EVERY, |adapter| {
        let folder = Folder::new(&format!("adapters-{adapter:?}"));
        let open = || Box::new(SqliteStore::open(&folder.0.join("jobs.db"), Durability::Full).expect("a store"));
        let site = Site::start_on(adapter, open(), |_| {});
        let mut before = site.session();
        let token = before.seen[0]["payload"]["resume_token"].clone();
        before.say("1", "job.submit", json!({"agent": "chatty", "input": {"count": 20}}));
        before.until("job.result");
        before.say("2", "job.submit", json!({"agent": "gate"}));
        before.until_phase("waiting");
        let before = before.leave();
        if adapter.1 == Over::Stdio {
            // It ends with its peer.
            site.join();
        } else {
            site.wait_for(|notice| matches!(notice, Notice::SessionDetached { .. }));
            site.handle().shutdown();
            assert_eq!(site.join(), 1, "one job was cut");
        }
        let site = Site::start_on(adapter, open(), |_| {});
        let mut after = site.peer();
        let mut hello = hello_payload("tok-a");
        hello["resume"] = json!({"resume_token": token, "last_event_seq": 5});
        after.say("h", "session.hello", hello);
        after.until("job.error");
        vec![before, after.seen]
    });
}

#[test]
fn a_drain_and_a_shutdown_end_alike() {
    same_over(ALL, |adapter| {
        let site = Site::start(adapter, |_| {});
        let mut peer = site.session();
        peer.say("1", "job.submit", json!({"agent": "gate"}));
        let job = peer.until("job.accepted")["payload"]["job_id"].clone();
        peer.until_phase("waiting");
        site.handle().drain();
        // The drain is noticed in the turn of the next answer.
        peer.say("2", "session.ping", json!({}));
        peer.until("session.pong");
        peer.say("3", "job.submit", json!({"agent": "echo"}));
        peer.until("session.error");
        peer.say("4", "job.cancel", json!({"job_id": job}));
        let drained = peer.until_closed();
        assert_eq!(site.join(), 0);

        let site = Site::start(adapter, |_| {});
        let mut peer = site.session();
        peer.say("1", "job.submit", json!({"agent": "gate"}));
        peer.until_phase("waiting");
        site.handle().shutdown();
        let shut = peer.until_closed();
        assert_eq!(site.join(), 1, "one job was cut");
        vec![drained, shut]
    });
}

#[allow(dead_code, reason = "its main is not run here")]
#[path = "../../../arcp-tokio-adapter/examples/axum.rs"]
mod axum_example;

#[test]
fn an_axum_application_mounts_a_runtime_beside_its_pages() {
    let (started, bound) = channel();
    std::thread::spawn(move || {
        runtime().block_on(async move {
            let (router, server) = axum_example::application(Secret::new("tok-a".into())).await.expect("it starts");
            tokio::spawn(server.run());
            let listener = tokio::net::TcpListener::bind(LISTEN).await.expect("a port");
            started.send(listener.local_addr().expect("an address")).expect("awaited");
            axum::serve(listener, router).await.expect("it serves");
        });
    });
    let address = bound.recv().expect("it starts");
    let ask = |head: &str| {
        use std::io::{Read as _, Write as _};
        let mut socket = connect_to(address);
        socket.write_all(format!("{head}\r\nConnection: close\r\n\r\n").as_bytes()).expect("written");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("an answer and an end");
        answer
    };
    assert!(ask("GET / HTTP/1.1\r\nHost: localhost").ends_with("a page"));
    assert!(ask("GET /arcp HTTP/1.1\r\nHost: evil.example").starts_with("HTTP/1.1 421"));
    assert!(ask("GET /arcp HTTP/1.1\r\nHost: localhost").starts_with("HTTP/1.1 426"));
    let mut peer = Peer::by_websocket(websocket_to(address));
    peer.say("h", "session.hello", hello_payload("tok-a"));
    peer.until("session.welcome");
    peer.say("1", "job.submit", json!({"agent": "echo", "input": [1, 2]}));
    assert_eq!(peer.until("job.result")["payload"]["result"], json!([1, 2]));
}
