//! Whatever a peer does, it sees the same over every adapter: each scenario is
//! played against each, and what came back is compared, connection by
//! connection, once ids, tokens and times are out of it.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use arcp_blocking::{ClientError, Host, HostError, JobUpdate, Server, ServerConfig, ServerHandle, Stopped, Target};
use arcp_host::agent::{AgentError, AsyncContext, Level, Outcome};
use arcp_host::client::Welcome;
use arcp_host::registry::Registry;
use arcp_host::samples;
use arcp_host::sqlite::{Durability, SqliteStore};
use arcp_host::store::{MemoryStore, Store};
use arcp_proto::client::{ClientConfig, ResultData};
use arcp_proto::id::{Principal, WireId};
use arcp_proto::json::Json;
use arcp_proto::model::event::{EventKind, JobEvent};
use arcp_proto::model::reply::JobPage;
use arcp_proto::model::request::{Credential, ListQuery, ResumeClaim, Watch};
use arcp_proto::runtime::{ChunkData, Config, Notice};
use arcp_proto::secret::Secret;
use arcp_tests::kept::Folder;
use arcp_tests::raw::hello_payload;
use arcp_tests::server::{PATIENCE, Running, connect_to, send, submit, websocket_to};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tungstenite::{Message, WebSocket};

#[allow(dead_code, reason = "its main is not run here")]
#[path = "../../arcp-blocking/examples/event_loop.rs"]
mod event_loop;

use event_loop::EventLoop;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Adapter {
    Blocking,
    Tokio,
    /// The example of a loop of one's own: it has no HTTP, no reasons for a
    /// close, and no end.
    EventLoop,
}

use Adapter::{Blocking, Tokio};

/// A server over an adapter; it stops with the value.
struct Site {
    address: SocketAddr,
    notices: Receiver<Notice>,
    handle: Option<ServerHandle>,
    thread: Option<JoinHandle<Result<Stopped, HostError>>>,
}

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

impl Site {
    fn start(adapter: Adapter, change: fn(&mut Config)) -> Site {
        Site::start_on(adapter, Box::<MemoryStore>::default(), change)
    }

    fn start_on(adapter: Adapter, store: Box<dyn Store>, change: fn(&mut Config)) -> Site {
        Site::with(adapter, registry(), store, change)
    }

    fn with(adapter: Adapter, registry: Registry, store: Box<dyn Store>, change: fn(&mut Config)) -> Site {
        let (sender, notices) = channel();
        let host = Running::host_of(store, registry, |config| {
            config.timing.heartbeat = None;
            config.timing.cancel_grace = Duration::from_millis(100);
            change(config);
        });
        let host = host.observed_by(move |notice| drop(sender.send(notice.clone())));
        let (address, handle, thread) = match adapter {
            Blocking => serve_blocking(host),
            Tokio => serve_tokio(host),
            Adapter::EventLoop => serve_event_loop(host),
        };
        Site { address, notices, handle, thread }
    }

    /// A peer that has said nothing yet.
    fn peer(&self) -> Peer {
        Peer { socket: websocket_to(self.address), seen: Vec::new() }
    }

    /// A peer with a session.
    fn session(&self) -> Peer {
        let mut peer = self.peer();
        send(&mut peer.socket, "h", "session.hello", hello_payload("tok-a"));
        peer.until("session.welcome");
        peer
    }

    fn handle(&self) -> &ServerHandle {
        self.handle.as_ref().expect("it can be told to stop")
    }

    /// Waits for it to end by itself; gives how many jobs were cut.
    fn join(mut self) -> usize {
        let thread = self.thread.take().expect("it ends");
        thread.join().expect("no panic").expect("no error").cut.len()
    }

    fn wait_for(&self, found: impl Fn(&Notice) -> bool) {
        while !found(&self.notices.recv_timeout(PATIENCE).expect("it happens")) {}
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(handle) = &self.handle {
            handle.shutdown();
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

type Started = (SocketAddr, Option<ServerHandle>, Option<JoinHandle<Result<Stopped, HostError>>>);

const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

fn serve_blocking(host: Host) -> Started {
    let server = Server::bind(&ServerConfig::new(LISTEN), host).expect("a port");
    let (address, handle) = (server.address(), server.handle());
    (address, Some(handle), Some(std::thread::spawn(move || server.run())))
}

fn serve_tokio(host: Host) -> Started {
    let (started, bound) = channel();
    let serve = async move {
        let server = arcp_tokio_adapter::Server::bind(&ServerConfig::new(LISTEN), host).await.expect("a port");
        started.send((server.address().expect("an address"), server.handle())).expect("awaited");
        server.run().await
    };
    let thread = std::thread::spawn(move || runtime().block_on(serve));
    let (address, handle) = bound.recv().expect("it starts");
    (address, Some(handle), Some(thread))
}

fn serve_event_loop(host: Host) -> Started {
    let mut server = EventLoop::bind(LISTEN, host).expect("a port");
    let address = server.address().expect("an address");
    std::thread::spawn(move || while server.turn().is_ok() {});
    (address, None, None)
}

/// A connection, and everything that came on it.
struct Peer {
    socket: WebSocket<TcpStream>,
    seen: Vec<Value>,
}

impl Peer {
    fn say(&mut self, id: &str, kind: &str, payload: Value) {
        send(&mut self.socket, id, kind, payload);
    }

    /// Reads up to a message of a type.
    fn until(&mut self, kind: &str) -> Value {
        loop {
            match self.socket.read().unwrap_or_else(|error| panic!("no {kind}: {error}, after {:?}", self.seen)) {
                Message::Text(text) => {
                    let frame: Value = serde_json::from_str(&text).expect("JSON");
                    self.seen.push(frame.clone());
                    if frame["type"] == kind {
                        return frame;
                    }
                }
                Message::Close(why) => panic!("closed before a {kind}: {why:?}, after {:?}", self.seen),
                Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }

    /// Reads up to where an agent says that its job stands.
    fn until_phase(&mut self, phase: &str) {
        while self.until("job.event")["payload"]["body"]["phase"] != phase {}
    }

    /// Reads up to the end; how the connection was closed counts as seen.
    fn until_closed(mut self) -> Vec<Value> {
        loop {
            match self.socket.read().expect("an end in time") {
                Message::Text(text) => self.seen.push(serde_json::from_str(&text).expect("JSON")),
                Message::Close(why) => {
                    let (code, reason) =
                        why.map_or((0, String::new()), |why| (why.code.into(), why.reason.to_string()));
                    self.seen.push(json!({"closed with": code, "reason": reason}));
                    return self.seen;
                }
                Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }
}

/// What its connections saw.
type Transcript = Vec<Vec<Value>>;

/// Takes out what differs from run to run. The same id becomes the same word.
#[derive(Default)]
struct Normal(BTreeMap<String, String>);

impl Normal {
    fn of(transcript: Transcript) -> Transcript {
        let mut normal = Normal::default();
        let mut all = transcript;
        all.iter_mut().flatten().for_each(|value| normal.value(value));
        all
    }

    fn value(&mut self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.text(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.value(item)),
            Value::Object(members) => {
                for (name, member) in members.iter_mut() {
                    if name.ends_with("_at") || name.ends_with("_ms") || name == "ts" {
                        *member = json!("a time");
                    } else {
                        self.value(member);
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// Ids and tokens are words of sixteen characters and more with a digit in them.
    fn text(&mut self, text: &str) -> String {
        // Not an id, which may have those letters there too.
        let bytes = text.as_bytes();
        let is_time = bytes.len() >= 20 && bytes[4] == b'-' && bytes[10] == b'T' && text.ends_with('Z');
        if is_time {
            return "a time".to_string();
        }
        let minted = |word: &&str| word.len() >= 16 && word.bytes().any(|byte| byte.is_ascii_digit());
        let mut normal = text.to_string();
        for word in text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-').filter(minted) {
            let next = format!("id {}", self.0.len() + 1);
            let named = self.0.entry(word.to_string()).or_insert(next);
            normal = normal.replace(word, named);
        }
        normal
    }
}

/// Plays a scenario against each adapter and compares.
fn same_over(adapters: &[Adapter], mut play: impl FnMut(Adapter) -> Transcript) {
    let mut first: Option<(Adapter, Transcript)> = None;
    for adapter in adapters {
        let transcript = Normal::of(play(*adapter));
        assert!(transcript.iter().all(|seen| !seen.is_empty()), "{adapter:?}: nothing was seen");
        match &first {
            None => first = Some((*adapter, transcript)),
            Some((other, expected)) => {
                for (connection, (expected, seen)) in expected.iter().zip(&transcript).enumerate() {
                    for (at, (expected, seen)) in expected.iter().zip(seen).enumerate() {
                        assert_eq!(seen, expected, "frame {at} of connection {connection}, {adapter:?} and {other:?}");
                    }
                }
                assert_eq!(&transcript, expected, "{adapter:?} and {other:?}");
            }
        }
    }
}

const ALL: &[Adapter] = &[Blocking, Tokio, Adapter::EventLoop];
const SERVERS: &[Adapter] = &[Blocking, Tokio];

#[test]
fn a_job_of_every_kind_of_agent_is_told_alike() {
    same_over(ALL, |adapter| {
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
    same_over(SERVERS, |adapter| {
        let site = Site::start(adapter, |config| config.limits.frame.frame_bytes = 64 << 10);
        let mut stranger = site.peer();
        stranger.say("h", "session.hello", hello_payload("not a token"));
        let mut peer = site.session();
        peer.say("1", "job.submit", json!({"agent": "nobody"}));
        peer.until("session.error");
        peer.say("2", "job.cancel", json!({"job_id": "job_01ARZ3NDEKTSV4RRFFQ69G5FAV"}));
        peer.until("session.error");
        peer.socket.send(Message::text("{")).expect("sent");
        peer.until("session.error");
        let _ = peer.socket.send(Message::text("x".repeat(65 << 10)));
        vec![stranger.until_closed(), peer.until_closed()]
    });
}

#[test]
fn requests_that_become_no_websocket_are_answered_alike() {
    use std::io::{Read as _, Write as _};
    same_over(SERVERS, |adapter| {
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
            let mut socket = connect_to(site.address);
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
    same_over(ALL, |adapter| {
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
    for adapter in ALL {
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
        // In the middle of a message.
        std::io::Write::write_all(peer.socket.get_mut(), &[0x81, 0xfe]).expect("written");
        drop(peer.socket);
        let mut back = site.peer();
        let mut hello = hello_payload("tok-a");
        hello["resume"] = json!({"resume_token": token, "last_event_seq": 20});
        back.say("h", "session.hello", hello);
        back.until("job.result");
        vec![peer.seen, back.seen]
    });
}

#[test]
fn a_flood_of_requests_is_answered_in_order_and_nobody_else_waits() {
    const REQUESTS: usize = 2000;
    same_over(ALL, |adapter| {
        let site = Site::start(adapter, |_| {});
        let (mut flood, mut other) = (site.session(), site.session());
        let mut writer = flood.socket.get_ref().try_clone().expect("a second handle");
        let frames: Vec<u8> = (0..REQUESTS).flat_map(ping).collect();
        // It reads nothing while it asks.
        let asking = std::thread::spawn(move || std::io::Write::write_all(&mut writer, &frames));
        other.say("1", "job.submit", json!({"agent": "echo", "input": 1}));
        other.until("job.result");
        (0..REQUESTS).for_each(|_| drop(flood.until("session.pong")));
        asking.join().expect("no panic").expect("everything was read");
        vec![flood.seen, other.seen]
    });
}

/// A `session.ping` as a client writes it.
fn ping(n: usize) -> Vec<u8> {
    let text = json!({"id": format!("p{n}"), "type": "session.ping", "payload": {"nonce": n.to_string()}}).to_string();
    let length = u8::try_from(text.len()).expect("it is short");
    assert!(length < 126, "it has a short header");
    [&[0x81, 0x80 | length, 0, 0, 0, 0][..], text.as_bytes()].concat()
}

#[test]
fn who_reads_nothing_is_closed_and_can_come_back_alike() {
    same_over(SERVERS, |adapter| {
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

/// Our client over an adapter.
enum OurClient {
    Blocking(arcp_blocking::Client),
    Tokio(Runtime, arcp_tokio_adapter::Client),
}

/// A job that one of them follows.
enum OurJob<'a> {
    Blocking(arcp_blocking::Job),
    Tokio(&'a Runtime, arcp_tokio_adapter::Job),
}

impl OurClient {
    fn connect(adapter: Adapter, site: &Site, resume: Option<ResumeClaim>) -> OurClient {
        let target: Target = format!("ws://{}/arcp", site.address).parse().expect("a URL");
        let mut config = ClientConfig::new("test", "1", Credential::Bearer(Secret::new("tok-a".into())));
        config.resume = resume;
        match adapter {
            Blocking => OurClient::Blocking(arcp_blocking::Client::connect(target, config).expect("a session")),
            Tokio => {
                let runtime = runtime();
                let client = runtime.block_on(arcp_tokio_adapter::Client::connect(target, config));
                OurClient::Tokio(runtime, client.expect("a session"))
            }
            Adapter::EventLoop => unreachable!("it has no client"),
        }
    }

    fn welcome(&self) -> &Welcome {
        match self {
            OurClient::Blocking(client) => client.welcome(),
            OurClient::Tokio(_, client) => client.welcome(),
        }
    }

    fn submit(&self, agent: &str, input: &str) -> Result<OurJob<'_>, ClientError> {
        let submit = submit(agent, input);
        Ok(match self {
            OurClient::Blocking(client) => OurJob::Blocking(client.submit(submit)?),
            OurClient::Tokio(runtime, client) => OurJob::Tokio(runtime, runtime.block_on(client.submit(submit))?),
        })
    }

    fn watch(&self, job: WireId) -> Result<OurJob<'_>, ClientError> {
        let watch = Watch { job, after: None, history: Some(true) };
        Ok(match self {
            OurClient::Blocking(client) => OurJob::Blocking(client.watch(watch)?),
            OurClient::Tokio(runtime, client) => OurJob::Tokio(runtime, runtime.block_on(client.watch(watch))?),
        })
    }

    fn list(&self) -> Result<JobPage, ClientError> {
        match self {
            OurClient::Blocking(client) => client.list(ListQuery::default()),
            OurClient::Tokio(runtime, client) => runtime.block_on(client.list(ListQuery::default())),
        }
    }

    fn cancel(&self, job: WireId) -> Result<(), ClientError> {
        match self {
            OurClient::Blocking(client) => client.cancel(job, None),
            OurClient::Tokio(runtime, client) => runtime.block_on(client.cancel(job, None)),
        }
    }

    fn cut(&self) {
        match self {
            OurClient::Blocking(client) => client.break_connection(),
            OurClient::Tokio(runtime, client) => runtime.block_on(client.break_connection()),
        }
        .expect("it goes on");
    }

    fn leave(self) -> Option<ResumeClaim> {
        match self {
            OurClient::Blocking(client) => client.leave(),
            OurClient::Tokio(runtime, client) => runtime.block_on(client.leave()),
        }
    }

    fn close(self) {
        match self {
            OurClient::Blocking(client) => drop(client),
            OurClient::Tokio(runtime, client) => runtime.block_on(client.close()),
        }
    }
}

impl OurJob<'_> {
    fn id(&self) -> WireId {
        match self {
            OurJob::Blocking(job) => job.id.clone(),
            OurJob::Tokio(_, job) => job.id.clone(),
        }
    }

    /// The next update that is the same each time: how often and how long it takes
    /// to connect again is not.
    fn next(&mut self) -> Option<Value> {
        loop {
            let update = match self {
                OurJob::Blocking(job) => job.next_update()?,
                OurJob::Tokio(runtime, job) => runtime.block_on(job.next_update())?,
            };
            match update {
                JobUpdate::Event { seq, event, .. } => return Some(json!([seq, format!("{event:?}")])),
                JobUpdate::Ended { seq, terminal, result } => {
                    return Some(json!([seq, format!("{terminal:?}"), format!("{result:?}")]));
                }
                JobUpdate::Reconnecting { .. } => {}
                JobUpdate::Reconnected { resumed } => return Some(json!({"resumed": resumed})),
                JobUpdate::Missed { events } => return Some(json!({"missed": events})),
                JobUpdate::Gone(refusal) => return Some(json!(format!("{refusal:?}"))),
                JobUpdate::Lost(end) => return Some(json!(format!("{end:?}"))),
            }
        }
    }

    /// Up to where a `gate` says that it waits.
    fn until_it_waits(&mut self) -> Vec<Value> {
        let mut seen = Vec::new();
        while !seen.last().is_some_and(|update: &Value| update.to_string().contains("waiting")) {
            seen.push(self.next().expect("it waits"));
        }
        seen
    }

    fn rest(mut self) -> Vec<Value> {
        std::iter::from_fn(|| self.next()).collect()
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

#[test]
fn every_call_of_our_clients_comes_to_the_same_on_every_server() {
    let mut told = Vec::new();
    for client in SERVERS {
        same_over(SERVERS, |server| {
            let seen = every_call(*client, &Site::start(server, |_| {}));
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
    let refused = client.submit("nobody", "{}").err().map(|error| json!(error.to_string()));

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
    let refused = refused.into_iter().collect();
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
    same_over(SERVERS, |adapter| {
        let folder = Folder::new(&format!("adapters-{adapter:?}"));
        let open = || Box::new(SqliteStore::open(&folder.0.join("jobs.db"), Durability::Full).expect("a store"));
        let site = Site::start_on(adapter, open(), |_| {});
        let mut before = site.session();
        let token = before.seen[0]["payload"]["resume_token"].clone();
        before.say("1", "job.submit", json!({"agent": "chatty", "input": {"count": 20}}));
        before.until("job.result");
        before.say("2", "job.submit", json!({"agent": "gate"}));
        before.until_phase("waiting");
        drop(before.socket);
        site.wait_for(|notice| matches!(notice, Notice::SessionDetached { .. }));
        site.handle().shutdown();
        assert_eq!(site.join(), 1, "one job was cut");
        let site = Site::start_on(adapter, open(), |_| {});
        let mut after = site.peer();
        let mut hello = hello_payload("tok-a");
        hello["resume"] = json!({"resume_token": token, "last_event_seq": 5});
        after.say("h", "session.hello", hello);
        after.until("job.error");
        vec![before.seen, after.seen]
    });
}

#[test]
fn a_drain_and_a_shutdown_end_alike() {
    same_over(SERVERS, |adapter| {
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
#[path = "../../arcp-tokio-adapter/examples/axum.rs"]
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
    let mut peer = Peer { socket: websocket_to(address), seen: Vec::new() };
    peer.say("h", "session.hello", hello_payload("tok-a"));
    peer.until("session.welcome");
    peer.say("1", "job.submit", json!({"agent": "echo", "input": [1, 2]}));
    assert_eq!(peer.until("job.result")["payload"]["result"], json!([1, 2]));
}
