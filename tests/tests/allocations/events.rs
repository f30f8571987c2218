//! What an event allocates on its way from its agent's call to the bytes that are about to
//! be written to its submitter.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use allocation_counter::measure;
use arcp_host::agent::{AgentError, Context, Outcome};
use arcp_host::driver::{Driver, Host, Sockets, WriteWindow};
use arcp_host::framing::Framing;
use arcp_host::registry::Registry;
use arcp_proto::id::{ConnId, Principal};
use arcp_proto::json::Json;
use arcp_proto::runtime::{CloseReason, Config, Input, Transport};
use arcp_proto::wire::Family;

const CONN: ConnId = ConnId(1);
/// Events that are said at once: fewer than an agent may say ahead.
const EVENTS: u64 = 200;
/// Allocations that each may cost: its body, and its place among those of its job.
const EACH: u64 = 2;
/// Those of tables that grow, and of what is done once for what is said in a millisecond:
/// on a slow machine that is little.
const BESIDES: u64 = EVENTS / 4;
/// Rounds of which the cheapest counts, so that a machine that does something else besides
/// measures the same.
const ROUNDS: usize = 30;

/// A client in memory.
struct Peer {
    framing: Framing,
    window: WriteWindow,
    frames: u64,
}

impl Sockets for Peer {
    fn send(&mut self, _: ConnId, frame: &str) {
        self.window.queued(frame);
        self.framing.write(frame);
        self.frames += 1;
    }

    fn send_sidecar(&mut self, _: ConnId, _: Vec<u8>) {}
    fn close(&mut self, _: ConnId, reason: CloseReason) {
        panic!("closed: {reason:?}");
    }
    fn pause_reading(&mut self, _: ConnId) {}
    fn resume_reading(&mut self, _: ConnId) {}
}

impl Peer {
    /// Takes what was written, and says so.
    fn read(&mut self, driver: &mut Driver) {
        self.framing.output().clear();
        if let Some(credit) = self.window.all_written(CONN) {
            driver.handle(credit, self).expect("it lives");
        }
    }
}

/// An agent that says so many events whenever it is told to, and tells what they cost.
fn agent(go: Receiver<()>, cost: Sender<u64>) -> impl Fn(&Context) -> Result<Outcome, AgentError> + Send + Sync {
    let ends = Mutex::new((go, cost));
    move |job| {
        let (go, cost) = &*ends.lock().expect("nobody panicked");
        let value = Json::parse("1234.5")?;
        while go.recv().is_ok() {
            let said =
                measure(|| (0..EVENTS).for_each(|_| job.metric("tick", &value, Some("count")).expect("it goes on")));
            let _ = cost.send(said.count_total);
        }
        Ok(Outcome::Empty)
    }
}

fn allocations(family: Family) -> (u64, u64) {
    let ((go, told), (tell, cost)) = (channel(), channel());
    let mut registry = Registry::default();
    registry.add("it", None, agent(told, tell));
    let host = Host::new(Config::new("test", "1"), registry);
    let mut driver = Driver::new(host, || ()).expect("it starts");
    let mut peer = Peer { framing: Framing::websocket_server(1 << 20), window: WriteWindow::default(), frames: 0 };
    let owner = Principal::new("owner").map(Into::into);
    let opened =
        Input::Opened { conn: CONN, transport: Transport::WebSocket, address: None, binding: None, peer: owner };
    driver.handle(opened, &mut peer).expect("it lives");
    driver.handle(Input::Credit { conn: CONN, bytes: 1 << 30, frames: 1 << 20 }, &mut peer).expect("it lives");
    let frames: [&[u8]; 2] = match family {
        Family::Hello => {
            [br#"{"id":"1","type":"session.hello"}"#, br#"{"id":"2","type":"job.submit","payload":{"agent":"it"}}"#]
        }
        Family::Open => [
            br#"{"id":"1","type":"session.open","payload":{"capabilities":{"anonymous":true}}}"#,
            br#"{"id":"2","type":"tool.invoke","payload":{"tool":"it"}}"#,
        ],
    };
    for frame in frames {
        driver.handle(Input::Received { conn: CONN, frame: frame.to_vec() }, &mut peer).expect("it lives");
    }
    // The first rounds fill what is used again.
    let mut least = (u64::MAX, u64::MAX);
    for _ in 0..ROUNDS {
        go.send(()).expect("the agent runs");
        let said = cost.recv().expect("it has said all of them");
        let before = peer.frames;
        let shown = measure(|| while peer.frames < before + EVENTS && driver.take_inbox(&mut peer).is_ok() {});
        peer.read(&mut driver);
        least = (said.min(least.0), shown.count_total.min(least.1));
    }
    drop(go);
    least
}

#[test]
fn an_event_costs_two_allocations_beside_what_is_done_once_for_its_millisecond() {
    for family in [Family::Hello, Family::Open] {
        let (said, shown) = allocations(family);
        assert!(said <= EVENTS + BESIDES / 10, "{family:?}: {said} by its agent");
        assert!(said + shown <= EACH * EVENTS + BESIDES, "{family:?}: {said} by its agent, {shown} by the loop");
        eprintln!("{family:?}: {said} by its agent, {shown} by the loop, of {EVENTS} events");
    }
}
