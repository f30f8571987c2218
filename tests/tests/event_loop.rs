//! The user-written loop of `arcp-blocking/examples/event_loop.rs`, with real peers.

use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};

use arcp_host::store::{Store, StoreError};
use arcp_proto::runtime::{Batch, Config, Notice, Record};
use arcp_tests::server::{PATIENCE, Running, expect, send, session_with};
use serde_json::json;

#[allow(dead_code, reason = "its main is not run here")]
#[path = "../../arcp-blocking/examples/event_loop.rs"]
mod event_loop;

use event_loop::EventLoop;

/// Starts the loop on a thread that ends with the test.
fn start(store: Box<dyn Store>, change: impl FnOnce(&mut Config)) -> (SocketAddr, Receiver<Notice>) {
    let (sender, notices) = channel();
    let host = Running::host(store, &[], change).observed_by(move |notice| drop(sender.send(notice.clone())));
    let mut server = EventLoop::bind(SocketAddr::from(([127, 0, 0, 1], 0)), host).expect("a port");
    let address = server.address().expect("an address");
    std::thread::spawn(move || while server.turn().is_ok() {});
    (address, notices)
}

/// A store that waits to be told before it takes a job.
struct Held(Receiver<()>);

impl Store for Held {
    fn commit(&mut self, batches: &[Batch]) -> Result<(), StoreError> {
        if batches.iter().flat_map(|batch| batch.records.iter()).any(|record| matches!(record, Record::JobAccepted(_)))
        {
            self.0.recv().map_err(|gone| StoreError::Unavailable(gone.to_string()))?;
        }
        Ok(())
    }
}

#[test]
fn a_loop_of_ones_own_runs_agents_of_every_kind() {
    let (address, _notices) = start(Box::<arcp_host::store::MemoryStore>::default(), |_| {});
    let (mut socket, _) = session_with(address, "tok-a");
    send(&mut socket, "1", "job.submit", json!({"agent": "chatty", "input": {"count": 2000}}));
    assert_eq!(expect(&mut socket, "job.result")["payload"]["result"]["emitted"], 2000);
    send(&mut socket, "2", "job.submit", json!({"agent": "echo", "input": 2}));
    assert_eq!(expect(&mut socket, "job.result")["payload"]["result"], 2);
}

#[test]
fn a_loop_of_ones_own_reads_no_more_than_it_is_asked_for() {
    const JOBS: u64 = 20;
    let (go, held): (Sender<()>, Receiver<()>) = channel();
    let (address, notices) = start(Box::new(Held(held)), |config| config.limits.connection.replies_per_connection = 2);
    let (mut socket, _) = session_with(address, "tok-a");
    let (mut other, _) = session_with(address, "tok-a");
    for n in 0..JOBS {
        send(&mut socket, &n.to_string(), "job.submit", json!({"agent": "echo", "input": n}));
    }
    // Once the second of these is answered, everything before it could be read.
    for nonce in ["a", "b"] {
        send(&mut other, nonce, "session.ping", json!({"nonce": nonce}));
        expect(&mut other, "session.pong");
    }
    let accepted = notices.try_iter().filter(|notice| matches!(notice, Notice::JobAccepted { .. })).count();
    assert!(accepted <= 2, "{accepted} were read");
    (0..JOBS).for_each(|_| go.send(()).expect("the store waits"));
    for n in 0..JOBS {
        assert_eq!(expect(&mut socket, "job.result")["payload"]["result"], n, "none was lost");
    }
    assert!(notices.recv_timeout(PATIENCE).is_ok());
}
