//! The host's driver in a loop with a peer in memory: a runtime whose store fails, and what is recorded of it.

use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arcp_blocking::{Server, ServerConfig, stdio};
use arcp_host::agent::{Context, Outcome};
use arcp_host::auth::Authenticator;
use arcp_host::clock::Clock;
use arcp_host::driver::{Driver, Fenced, Host, HostError, Sockets, WriteWindow};
use arcp_host::registry::Registry;
use arcp_host::samples;
use arcp_host::store::{History, MemoryStore, Store, StoreError};
use arcp_proto::id::{ConnId, JobId, LogPos, Principal};
use arcp_proto::model::request::Credential;
use arcp_proto::record;
use arcp_proto::runtime::{
    Batch, CloseReason, Config, EventRecord, Input, Notice, Operator, Record, Transport, Verdict,
};
use arcp_tests::server::{PATIENCE, Running, send, session_with};
use arcp_tests::store::VirtualStore;
use serde_json::{Value, json};

/// A loop with one peer, which speaks on the connection that it opened last.
struct Loop {
    driver: Driver,
    peer: Peer,
    conn: ConnId,
    said: u64,
}

/// What the peer gets; it reads at once.
#[derive(Default)]
struct Peer {
    frames: Vec<Value>,
    window: WriteWindow,
    closed: bool,
}

impl Sockets for Peer {
    fn send(&mut self, _: ConnId, frame: &str) {
        self.window.queued(frame);
        self.frames.push(serde_json::from_str(frame).expect("JSON"));
    }

    fn send_sidecar(&mut self, _: ConnId, message: Vec<u8>) {
        self.window.queued_message(&message);
    }

    fn close(&mut self, _: ConnId, _: CloseReason) {
        self.closed = true;
    }

    fn pause_reading(&mut self, _: ConnId) {}

    fn resume_reading(&mut self, _: ConnId) {}
}

impl Peer {
    fn has(&self, kind: &str) -> bool {
        self.count(kind) > 0
    }

    fn count(&self, kind: &str) -> usize {
        self.frames.iter().filter(|frame| frame["type"] == kind).count()
    }
}

impl Loop {
    /// A runtime with the samples, and a peer with a session.
    fn start(store: impl Store + 'static, change: impl FnOnce(Host) -> Host) -> Loop {
        let mut registry = Registry::default();
        samples::add_to(&mut registry);
        let this = std::thread::current();
        let host = change(Host::new(Config::new("test", "1"), registry).with_store(Box::new(store)));
        let driver = Driver::new(host, move || this.unpark()).expect("it starts");
        let mut looped = Loop { driver, peer: Peer::default(), conn: ConnId(0), said: 0 };
        looped.open_session();
        looped
    }

    fn open_session(&mut self) {
        let conn = ConnId(self.conn.0 + 1);
        self.conn = conn;
        let owner = Principal::new("owner").map(Into::into);
        let opened = Input::Opened { conn, transport: Transport::WebSocket, address: None, binding: None, peer: owner };
        self.driver.handle(opened, &mut self.peer).expect("the store works");
        self.driver.handle(WriteWindow::opening_credit(conn), &mut self.peer).expect("the store works");
        let capabilities = json!({"encodings": ["json"], "features": ["subscribe", "x-vendor.arcp.scheduled_jobs"]});
        self.say("session.hello", json!({"capabilities": capabilities})).expect("the store works");
        self.until(|peer| peer.count("session.welcome") as u64 == conn.0).expect("the store works");
    }

    /// A peer comes that brings a token.
    fn prove(&mut self, token: &str) {
        let conn = ConnId(self.conn.0 + 1);
        self.conn = conn;
        let opened = Input::Opened { conn, transport: Transport::WebSocket, address: None, binding: None, peer: None };
        self.driver.handle(opened, &mut self.peer).expect("the store works");
        self.driver.handle(WriteWindow::opening_credit(conn), &mut self.peer).expect("the store works");
        let hello = json!({"auth": {"scheme": "bearer", "token": token}, "capabilities": {"encodings": ["json"]}});
        self.say("session.hello", hello).expect("the store works");
    }

    fn say(&mut self, kind: &str, payload: Value) -> Result<(), Fenced> {
        self.said += 1;
        let frame = json!({"arcp": "1.1", "id": self.said.to_string(), "type": kind, "payload": payload}).to_string();
        self.driver.handle(Input::Received { conn: self.conn, frame: frame.into() }, &mut self.peer)
    }

    fn submit(&mut self, agent: &str, input: Value) -> Result<(), Fenced> {
        self.say("job.submit", json!({"agent": agent, "input": input}))
    }

    /// Turns until the peer has got something.
    fn until(&mut self, done: impl Fn(&Peer) -> bool) -> Result<(), Fenced> {
        self.turn_until(|looped| done(&looped.peer))
    }

    fn turn_until(&mut self, done: impl Fn(&Loop) -> bool) -> Result<(), Fenced> {
        let begun = Instant::now();
        while !done(self) {
            assert!(begun.elapsed() < PATIENCE, "after {:?}", self.peer.frames.last());
            std::thread::park_timeout(self.driver.next_wait().unwrap_or(PATIENCE).min(PATIENCE));
            self.driver.take_inbox(&mut self.peer)?;
            self.driver.tick(true, &mut self.peer)?;
            if let Some(credit) = self.peer.window.all_written(self.conn) {
                self.driver.handle(credit, &mut self.peer)?;
            }
        }
        Ok(())
    }
}

/// A store in memory whose commits and reads fail while something is set.
#[derive(Clone, Default)]
struct Failing {
    inner: Arc<Mutex<VirtualStore>>,
    fault: Arc<Mutex<Fault>>,
    instant: bool,
}

/// Both under one lock: a commit in flight counts as before `set` or as after it.
#[derive(Default)]
struct Fault {
    error: Option<StoreError>,
    asked: u32,
}

impl Failing {
    fn set(&self, error: Option<StoreError>) {
        *self.fault.lock().expect("no panic") = Fault { error, asked: 0 };
    }

    /// Commits and reads since `set`.
    fn asked(&self) -> u32 {
        self.fault.lock().expect("no panic").asked
    }

    fn check(&self) -> Result<(), StoreError> {
        let mut fault = self.fault.lock().expect("no panic");
        fault.asked += 1;
        fault.error.clone().map_or(Ok(()), Err)
    }
}

impl Store for Failing {
    fn load(&mut self, each: &mut dyn FnMut(LogPos, Record)) -> Result<LogPos, StoreError> {
        self.inner.lock().expect("no panic").load(each)
    }

    fn commit(&mut self, batches: &[Batch]) -> Result<(), StoreError> {
        self.check()?;
        self.inner.lock().expect("no panic").commit(batches)
    }

    fn history(&mut self) -> Result<Option<Box<dyn History>>, StoreError> {
        Ok(Some(Box::new(self.clone())))
    }

    fn is_instant(&self) -> bool {
        self.instant
    }
}

impl History for Failing {
    fn another(&mut self) -> Result<Box<dyn History>, StoreError> {
        Ok(Box::new(self.clone()))
    }

    fn events(&mut self, job: JobId, from: u64, to: u64, bytes: usize) -> Result<Vec<EventRecord>, StoreError> {
        self.check()?;
        self.inner.lock().expect("no panic").events(job, from, to, bytes)
    }
}

#[test]
fn a_runtime_whose_store_is_somebody_elses_ends_and_shows_nothing_more() {
    for instant in [true, false] {
        let (stopped, was_stopped): (Sender<()>, Receiver<()>) = channel();
        let store = Failing { instant, ..Failing::default() };
        let mut looped = Loop::start(store.clone(), |mut host| {
            host.registry.add("patient", None, move |job: &Context| {
                let slept = job.sleep(20 * PATIENCE);
                let _ = stopped.send(());
                slept?;
                Ok(Outcome::Empty)
            });
            host
        });
        looped.submit("patient", json!(1)).expect("the store works");
        // Its `status running` is durable before the fault: it may be shown, so it is awaited.
        looped.until(|peer| peer.has("job.event")).expect("the store works");
        looped.turn_until(|looped| looped.driver.running_agents() == 1).expect("the store works");
        store.set(Some(StoreError::Fenced("node 2 has it since epoch 7".into())));
        let shown = looped.peer.frames.len();
        let ended = looped.submit("echo", json!(2)).and_then(|()| looped.until(|_| false));
        assert_eq!(ended, Err(Fenced("node 2 has it since epoch 7".into())), "instant: {instant}");
        assert_eq!(store.asked(), 1, "it is not asked again");
        // From now on nothing is done, whatever comes.
        assert_eq!(looped.say("session.ping", json!({"nonce": "n"})), ended);
        assert_eq!(looped.driver.take_inbox(&mut looped.peer), ended);
        assert_eq!(looped.driver.tick(true, &mut looped.peer), ended);
        assert_eq!(looped.peer.frames[shown..], [] as [Value; 0], "instant: {instant}");
        assert!(!looped.peer.closed, "no goodbye");
        was_stopped.recv_timeout(PATIENCE).expect("agents are told to stop");
    }
}

#[test]
fn a_time_of_a_schedule_that_comes_while_its_runtime_is_fenced_has_one_job_at_the_successor() {
    for has_fired in [false, true] {
        let (store, ran) = (Failing::default(), Arc::new(AtomicUsize::new(0)));
        let start = |store: &Failing| {
            let ran = ran.clone();
            Loop::start(store.clone(), move |mut host| {
                host.config.timing.schedules = true;
                host.registry.add("once", None, move |_: &Context| {
                    ran.fetch_add(1, Ordering::SeqCst);
                    Ok(Outcome::Empty)
                });
                host
            })
        };
        let fired = || {
            let records = store.inner.lock().expect("no panic").records(false);
            let is_firing = |record: &Record| matches!(record, Record::JobAccepted(job) if job.bounds.firing.is_some());
            records.iter().filter(|(_, record)| is_firing(record)).count()
        };
        let mut first = start(&store);
        let job = json!({"type": "job.submit", "payload": {"agent": "once"}});
        let wish = json!({"job": job, "when": {"after": 1}, "schedule_id": "s"});
        first.say("job.schedule", wish).expect("the store works");
        first.until(|peer| peer.has("ack")).expect("the store works");
        if has_fired {
            first.turn_until(|_| fired() == 1).expect("the store works");
        }
        store.set(Some(StoreError::Fenced("node 2 has it".into())));
        if has_fired {
            let _ = first.submit("echo", json!(1));
        }
        // Otherwise it is told when the time has come, and its job is to be written down.
        assert_eq!(first.until(|_| false), Err(Fenced("node 2 has it".into())), "has fired: {has_fired}");
        assert_eq!(fired(), usize::from(has_fired));
        assert!(has_fired || ran.load(Ordering::SeqCst) == 0, "what is not durable is not begun");

        let mut second = start(&Failing { inner: store.inner.clone(), ..Failing::default() });
        if !has_fired {
            second.turn_until(|_| ran.load(Ordering::SeqCst) == 1).expect("the store works");
        }
        second.submit("echo", json!(1)).expect("the store works");
        second.until(|peer| peer.has("job.result")).expect("the store works");
        assert_eq!(fired(), 1, "has fired: {has_fired}");
        assert!(ran.load(Ordering::SeqCst) <= 1, "its agent ran once at most");
    }
}

#[test]
fn a_server_whose_store_is_somebody_elses_drops_its_connections_as_they_are() {
    let store = Failing::default();
    let host = Running::host(Box::new(store.clone()), &[], |_| {});
    let server = Server::bind(&ServerConfig::new(([127, 0, 0, 1], 0).into()), host).expect("a port");
    let address = server.address();
    let serving = std::thread::spawn(move || server.run());
    let (mut socket, _) = session_with(address, "tok-a");
    let (mut idle, _) = session_with(address, "tok-b");
    store.set(Some(StoreError::Fenced("node 2 has it".into())));
    send(&mut socket, "1", "job.submit", json!({"agent": "echo"}));
    for socket in [&mut socket, &mut idle] {
        let last = socket.read();
        assert!(last.is_err(), "neither a message nor a goodbye: {last:?}");
    }
    let ended = serving.join().expect("no panic");
    assert!(matches!(&ended, Err(HostError::Fenced(Fenced(why))) if why == "node 2 has it"), "{ended:?}");
}

/// What is written to a pipe.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Written {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("no panic").clone()).expect("text")
    }
}

/// A pipe that takes one write, and then no other until it is told to.
struct Stuck {
    written: Written,
    writes: u32,
    is_stuck: Sender<()>,
    go: Receiver<()>,
    /// Tells by its end that nobody writes any more.
    _gone: Sender<()>,
}

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writes += 1;
        if self.writes == 2 {
            self.is_stuck.send(()).expect("the test listens");
            let _ = self.go.recv();
        }
        self.written.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_server_on_pipes_whose_store_is_somebody_elses_writes_nothing_more() {
    let store = Failing::default();
    let host = Running::host(Box::new(store.clone()), &[], |_| {});
    let ((is_stuck, stuck), (let_go, go), (gone, ended)) = (channel(), channel(), channel());
    let written = Written::default();
    let out = Stuck { written: written.clone(), writes: 0, is_stuck, go, _gone: gone };
    let (read, mut write) = io::pipe().expect("a pipe");
    let serving = std::thread::spawn(move || stdio::serve(host, Principal::new("owner"), read, out));
    let mut say = |id: u32, kind: &str, payload: Value| {
        let frame = json!({"arcp": "1.1", "id": id.to_string(), "type": kind, "payload": payload});
        writeln!(write, "{frame}").expect("written");
    };
    say(1, "session.hello", json!({}));
    while !written.text().contains("session.welcome") {
        std::thread::yield_now();
    }
    say(2, "session.ping", json!({"nonce": "being written"}));
    stuck.recv_timeout(PATIENCE).expect("it is written");
    say(3, "session.ping", json!({"nonce": "waits behind it"}));
    store.set(Some(StoreError::Fenced("node 2 has it".into())));
    say(4, "job.submit", json!({"agent": "echo"}));
    let outcome = serving.join().expect("no panic");
    assert!(matches!(&outcome, Err(HostError::Fenced(_))), "{outcome:?}");
    drop(let_go);
    assert!(ended.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Disconnected), "the writer ends");
    let text = written.text();
    assert!(text.contains("session.welcome") && !text.contains("waits behind it"), "{text}");
}

#[test]
fn agents_of_a_server_on_pipes_end_although_its_peer_reads_nothing() {
    let mut host = Running::host(Box::new(Failing::default()), &[], |_| {});
    let (stopped, was_stopped): (Sender<()>, Receiver<()>) = channel();
    host.registry.add("patient", None, move |job: &Context| {
        let slept = job.sleep(20 * PATIENCE);
        let _ = stopped.send(());
        slept?;
        Ok(Outcome::Empty)
    });
    let ((is_stuck, stuck), (let_go, go), (gone, _ended)) = (channel(), channel(), channel());
    let out = Stuck { written: Written::default(), writes: 1, is_stuck, go, _gone: gone };
    let (read, mut write) = io::pipe().expect("a pipe");
    let serving = std::thread::spawn(move || stdio::serve(host, Principal::new("owner"), read, out));
    for (id, kind, payload) in [("1", "session.hello", json!({})), ("2", "job.submit", json!({"agent": "patient"}))] {
        writeln!(write, "{}", json!({"arcp": "1.1", "id": id, "type": kind, "payload": payload})).expect("written");
    }
    stuck.recv_timeout(PATIENCE).expect("the first answer is being written");
    drop(write);
    was_stopped.recv_timeout(PATIENCE).expect("the agent is told to stop");
    drop(let_go);
    serving.join().expect("no panic").expect("it ends in order");
}

#[test]
fn a_store_that_stays_unavailable_is_said_after_a_few_tries_and_work_goes_on_once_it_is_back() {
    let (sender, notices) = channel();
    let store = Failing::default();
    let mut looped =
        Loop::start(store.clone(), |host| host.observed_by(move |notice| drop(sender.send(notice.clone()))));
    store.set(Some(StoreError::Unavailable("no room".into())));
    looped.submit("echo", json!(1)).expect("not fenced");
    let failed = |looped: &Loop| looped.driver.stats().store_failed;
    looped.turn_until(failed).expect("not fenced");
    assert_eq!(store.asked(), 4, "before anybody is told");
    assert_eq!(looped.driver.store_error(), Some(&StoreError::Unavailable("no room".into())));
    assert!(!looped.peer.has("job.accepted"));
    store.set(None);
    looped.until(|peer| peer.has("job.result")).expect("not fenced");
    assert_eq!(looped.driver.store_error(), None);
    let notices: Vec<Notice> = notices.try_iter().collect();
    assert!(notices.contains(&Notice::StoreFailed) && notices.contains(&Notice::StoreRecovered), "{notices:?}");
}

#[test]
fn a_store_that_is_damaged_says_where_and_is_not_asked_again_at_once() {
    let store = Failing::default();
    let mut looped = Loop::start(store.clone(), |host| host);
    let damage = StoreError::Corrupt("table event, job 7, events 3 to 9".into());
    store.set(Some(damage.clone()));
    looped.submit("echo", json!(1)).expect("not fenced");
    looped.turn_until(|looped| looped.driver.stats().store_failed).expect("not fenced");
    assert_eq!(store.asked(), 1);
    assert_eq!(looped.driver.store_error(), Some(&damage));
    // What needs no store goes on.
    looped.say("session.ping", json!({"nonce": "n"})).expect("not fenced");
    looped.until(|peer| peer.has("session.pong")).expect("not fenced");
    // Nobody else's word says that the store works.
    looped.driver.inbox().put(Input::Operator(Operator::Fingerprint { fingerprint: None }));
    looped.driver.take_inbox(&mut looped.peer).expect("not fenced");
    assert_eq!(looped.driver.store_error(), Some(&damage));
}

/// Events that are no longer in memory are asked for.
fn read_back(store: &Failing, fault: StoreError) -> (Loop, Result<(), Fenced>) {
    let mut looped = Loop::start(store.clone(), |mut host| {
        (host.config.limits.history.job_events, host.config.limits.delivery.ack_lag) = (16, u64::MAX);
        host
    });
    looped.submit("chatty", json!({"count": 300})).expect("the store works");
    looped.until(|peer| peer.has("job.result")).expect("the store works");
    let job = looped.peer.frames.iter().find(|frame| frame["type"] == "job.accepted").expect("it was accepted");
    let job = job["payload"]["job_id"].clone();
    looped.open_session();
    store.set(Some(fault));
    let asked = looped.say("job.subscribe", json!({"job_id": job, "history": true}));
    let read = |looped: &Loop| looped.driver.store_error().is_some();
    let outcome = asked.and_then(|()| looped.turn_until(read));
    (looped, outcome)
}

#[test]
fn damage_that_is_met_when_events_are_read_back_is_said_with_where_it_is() {
    let damage = StoreError::Corrupt("job 7, events 3 to 9".into());
    let (looped, outcome) = read_back(&Failing::default(), damage.clone());
    assert_eq!(outcome, Ok(()));
    assert_eq!(looped.driver.store_error(), Some(&damage));
}

#[test]
fn a_read_of_a_store_that_is_somebody_elses_ends_the_runtime() {
    let fenced = StoreError::Fenced("node 2 has it".into());
    let (_, outcome) = read_back(&Failing::default(), fenced);
    assert_eq!(outcome, Err(Fenced("node 2 has it".into())));
}

#[test]
fn what_a_driver_records_replays_equal() {
    let tape = Written::default();
    let recorded = tape.clone();
    let mut looped = Loop::start(Failing::default(), |host| host.recorded_to(recorded));
    looped.submit("chatty", json!({"count": 200})).expect("the store works");
    looped.submit("echo", json!(1)).expect("the store works");
    looped.until(|peer| peer.count("job.result") == 2).expect("the store works");
    let sent = looped.peer.frames.len();
    drop(looped);
    let replayed = record::replay(&tape.text()).expect("it comes out as recorded");
    assert!(replayed.outputs > sent && replayed.inputs > 10, "{replayed:?}");
}

#[test]
fn a_driver_may_move_to_another_thread() {
    fn is_send<T: Send>() {}
    is_send::<Driver>();
}

#[test]
fn what_is_put_into_the_inbox_is_recorded_as_of_when_it_was() {
    let tape = Written::default();
    let recorded = tape.clone();
    let mut looped = Loop::start(Failing::default(), |host| host.recorded_to(recorded));
    looped.driver.inbox().put(Input::Operator(Operator::Drain));
    let mut clock = Clock::new();
    let put = clock.now().mono;
    // The loop is held.
    while clock.now().mono == put {}
    looped.driver.take_inbox(&mut looped.peer).expect("the store works");
    drop(looped);
    let text = tape.text();
    let line = text.lines().find(|line| line.contains("Drain")).expect("it was taken");
    let line: Value = serde_json::from_str(line).expect("JSON");
    let at = line["at"]["mono"].as_u64().expect("a time");
    assert!(at <= put.0, "put by {put:?}, recorded as of {at}");
}

#[test]
fn who_speaks_while_the_loop_is_held_is_not_silent_and_who_does_not_is() {
    let mut looped = Loop::start(Failing::default(), |mut host| {
        host.config.timing.handshake_timeout = Duration::from_millis(50);
        host
    });
    let open = |conn| Input::Opened { conn, transport: Transport::WebSocket, address: None, binding: None, peer: None };
    for conn in 2.. {
        looped.driver.handle(open(ConnId(conn)), &mut looped.peer).expect("the store works");
        let wait = looped.driver.next_wait().expect("it has to speak in time");
        let began = Instant::now();
        // The loop is held between looking what there is and its tick.
        while began.elapsed() <= wait {
            std::thread::park_timeout(wait);
        }
        looped.driver.tick(true, &mut looped.peer).expect("the store works");
        if wait.is_zero() {
            // This machine was too slow: it was late before the loop waited.
            looped.peer.closed = false;
            continue;
        }
        assert!(!looped.peer.closed, "it may have spoken meanwhile");
        break;
    }
    // It has not: that is seen in the next turn.
    let began = Instant::now();
    while !looped.peer.closed {
        assert!(began.elapsed() < PATIENCE, "it stays");
        looped.driver.next_wait();
        looped.driver.tick(true, &mut looped.peer).expect("the store works");
    }
}

#[test]
fn a_deadline_is_put_off_while_more_has_arrived_but_not_for_ever() {
    let mut looped = Loop::start(Failing::default(), |mut host| {
        host.config.timing.handshake_timeout = Duration::from_millis(1);
        host
    });
    // This one says nothing.
    let silent =
        Input::Opened { conn: ConnId(2), transport: Transport::WebSocket, address: None, binding: None, peer: None };
    looped.driver.handle(silent, &mut looped.peer).expect("the store works");
    while looped.driver.next_wait() != Some(Duration::ZERO) {
        std::thread::park_timeout(looped.driver.next_wait().expect("it has to speak in time"));
    }
    let mut ticks = 0;
    while !looped.peer.closed {
        ticks += 1;
        looped.driver.tick(false, &mut looped.peer).expect("the store works");
        assert!(ticks < 1000, "for ever");
    }
    assert_eq!(ticks, 65);
}

/// Panics over every credential but one.
struct Panicking;

impl Authenticator for Panicking {
    fn verify(&self, credential: &Credential) -> Option<Verdict> {
        let Credential::Bearer(token) = credential else { panic!("it takes tokens") };
        assert_eq!(token.expose(), "good", "it knows no other");
        Principal::new("alice").map(Verdict::from)
    }
}

#[test]
fn a_credential_whose_judge_panics_is_not_accepted_and_holds_nothing() {
    let mut looped = Loop::start(MemoryStore::default(), |host| {
        let mut host = host.with_authenticator(Panicking);
        host.config.limits.connection.handshaking_connections = 2;
        host
    });
    for (token, answer) in [("bad", "session.error"); 3].into_iter().chain([("good", "session.welcome")]) {
        looped.peer = Peer::default();
        looped.prove(token);
        looped.until(|peer| !peer.frames.is_empty()).expect("the store works");
        assert_eq!(looped.peer.frames[0]["type"], answer);
        if answer == "session.error" {
            // Who could not be judged may come again.
            let payload = &looped.peer.frames[0]["payload"];
            assert_eq!(
                (&payload["code"], &payload["retryable"]),
                (&json!("INTERNAL_ERROR"), &json!(true)),
                "{payload}"
            );
        }
    }
}

/// Says when it begins with a credential, and takes it once a gate is open.
struct Gated {
    begun: Mutex<Sender<()>>,
    gate: Mutex<Receiver<()>>,
}

impl Authenticator for Gated {
    fn verify(&self, _: &Credential) -> Option<Verdict> {
        let _ = self.begun.lock().expect("no panic").send(());
        let _ = self.gate.lock().expect("no panic").recv();
        Principal::new("alice").map(Verdict::from)
    }
}

#[test]
fn so_many_credentials_are_judged_at_once_so_many_wait_and_the_next_one_is_not_judged() {
    let ((begun, begins), (open, gate)) = (channel(), channel());
    let mut looped = Loop::start(MemoryStore::default(), |host| {
        let mut host = host.with_authenticator(Gated { begun: Mutex::new(begun), gate: Mutex::new(gate) });
        host.config.limits.connection.judgements = 1;
        host.config.limits.connection.waiting_judgements = 1;
        host
    });
    looped.peer = Peer::default();
    looped.prove("first");
    begins.recv_timeout(PATIENCE).expect("it is judged");
    looped.prove("second");
    looped.prove("third");
    looped.until(|peer| !peer.frames.is_empty()).expect("the store works");
    assert_eq!(looped.peer.frames[0]["type"], "session.error");
    assert_eq!(looped.peer.frames[0]["payload"]["code"], "INTERNAL_ERROR");
    drop(open);
    looped.until(|peer| peer.count("session.welcome") == 2).expect("the store works");
    assert_eq!(looped.peer.frames.len(), 3, "one was refused");
}
