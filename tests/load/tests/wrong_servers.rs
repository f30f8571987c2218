//! The generator gives no figures for a server that misbehaves.

use std::net::SocketAddr;

use arcp_load::canned::{Canned, Wrong};
use arcp_load::client::Clients;
use arcp_load::fault::Fault;
use arcp_load::frames::Family;
use arcp_load::session::{Manner, Task};

fn canned(wrong: Option<Wrong>) -> SocketAddr {
    let mut server = Canned::bind().expect("a port");
    if let Some(wrong) = wrong {
        server = server.that(wrong);
    }
    let address = server.address();
    std::thread::spawn(move || server.run());
    address
}

fn manner(family: Family) -> Manner {
    Manner { family, token: "any", ticker: "chatty" }
}

/// The faults that these jobs lead to, in both families.
fn faults(wrong: Wrong, task: Task) -> [Fault; 2] {
    let address = canned(Some(wrong));
    Family::ALL.map(|family| {
        let mut clients = Clients::open(address, manner(family), 1).expect("a session");
        clients.jobs(task, 3, 2).expect_err("it is noticed")
    })
}

#[test]
fn a_right_server_is_counted() {
    let address = canned(None);
    for family in Family::ALL {
        let mut clients = Clients::open(address, manner(family), 20).expect("sessions");
        clients.job(Task::Events(10_000)).expect("events");
        clients.job(Task::Pieces(20, 256 << 10)).expect("pieces");
        clients.jobs(Task::Echo, 1000, 1).expect("round trips");
        clients.jobs(Task::Echo, 1000, 8).expect("round trips at once");
        Clients::handshakes(address, manner(family), 100, 16).expect("handshakes");
    }
}

#[test]
fn a_server_that_waits_for_the_disk_says_the_same() {
    let file = std::env::temp_dir().join(format!("arcp-load-{}", std::process::id()));
    let server = Canned::bind().expect("a port").synced(std::fs::File::create(&file).expect("a file"));
    let address = server.address();
    std::thread::spawn(move || server.run());
    let mut clients = Clients::open(address, manner(Family::Hello), 1).expect("a session");
    clients.jobs(Task::Echo, 10, 2).expect("round trips");
    let written = std::fs::read(&file).expect("what it said");
    std::fs::remove_file(&file).expect("removed");
    let ends = written.windows(10).filter(|text| text == b"job.result").count();
    assert_eq!(ends, 10);
}

#[test]
fn a_missing_event_is_noticed() {
    for fault in faults(Wrong::EventMissing, Task::Events(5)) {
        assert!(matches!(fault, Fault::Gap { expected, came } if came == expected + 1), "{fault}");
    }
    for fault in faults(Wrong::EventForgotten, Task::Events(5)) {
        assert!(matches!(&fault, Fault::Wrong(what) if what.contains("says 3 where 2 is next")), "{fault}");
    }
}

#[test]
fn an_event_that_comes_twice_is_noticed() {
    for fault in faults(Wrong::EventTwice, Task::Events(5)) {
        assert!(matches!(&fault, Fault::Wrong(what) if what.contains("says 2 where 3 is next")), "{fault}");
    }
}

#[test]
fn an_end_before_the_last_event_is_noticed() {
    for task in [Task::Events(5), Task::Pieces(5, 100)] {
        for fault in faults(Wrong::EndsEarly, task) {
            assert!(matches!(&fault, Fault::Wrong(what) if what.contains("ended after 4")), "{fault}");
        }
    }
}

#[test]
fn a_piece_that_is_cut_is_noticed() {
    for fault in faults(Wrong::PieceCut, Task::Pieces(5, 100)) {
        assert!(matches!(&fault, Fault::Wrong(what) if what.contains("piece 0 of 99 bytes")), "{fault}");
    }
}

#[test]
fn the_result_of_another_job_is_noticed() {
    for fault in faults(Wrong::ResultOfAnother, Task::Echo) {
        assert!(matches!(&fault, Fault::Wrong(what) if what.contains("ended after 0")), "{fault}");
    }
}

#[test]
fn an_end_that_comes_twice_is_noticed() {
    for fault in faults(Wrong::EndsTwice, Task::Echo) {
        assert!(matches!(&fault, Fault::Wrong(what) if what.contains("which does not run")), "{fault}");
    }
}

#[test]
fn an_acceptance_of_another_request_is_noticed() {
    for fault in faults(Wrong::AcceptsAnother, Task::Echo) {
        assert!(matches!(&fault, Fault::Wrong(what) if what.contains("waits for none")), "{fault}");
    }
}

#[test]
fn a_refusal_is_no_round_trip() {
    for fault in faults(Wrong::Refuses, Task::Echo) {
        assert!(matches!(&fault, Fault::Refused(what) if what == "RESOURCE_EXHAUSTED: not \"now\""), "{fault}");
    }
}

#[test]
fn half_a_frame_is_noticed() {
    for fault in faults(Wrong::HalfAFrame, Task::Echo) {
        assert!(matches!(fault, Fault::Unread(_)), "{fault}");
    }
}

#[test]
fn a_closed_connection_is_noticed() {
    for fault in faults(Wrong::Closes, Task::Echo) {
        assert!(matches!(fault, Fault::Closed | Fault::Io(_)), "{fault}");
    }
}
