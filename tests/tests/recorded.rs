//! Every frame that a published SDK was recorded to write can be read.

use std::path::PathBuf;

use arcp_proto::json::{Json, Members};
use arcp_proto::model::event::JobEvent;
use arcp_proto::model::request::{Command, HandshakeRequest, Request, SessionRequest, Submit};
use arcp_proto::time::UtcMs;
use arcp_proto::wire::raw::{
    Header, RequestToSend, RuntimeFrame, ingest, read_request, read_runtime_frame, write_request,
};
use arcp_proto::wire::{Family, Profile};

/// Calls back with file, line, direction and text of every recorded frame.
fn each(peer: &str, mut visit: impl FnMut(&str, &str, &str)) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("recorded").join(peer);
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("recorded").map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    for file in files {
        let name = file.file_name().expect("a name").to_string_lossy().into_owned();
        for (n, line) in std::fs::read_to_string(&file).expect("text").lines().enumerate() {
            // As text: some frames hold what no tree of values can.
            let entry = Members::parse(line).expect("JSON lines");
            if let (Some(direction), Some(message)) = (entry.get_str("dir"), entry.get("msg"))
                && message.starts_with('{')
            {
                visit(&format!("{name}:{}", n + 1), &direction, message);
            }
        }
    }
}

#[test]
fn every_frame_of_the_python_runtime_is_read() {
    let (mut frames, mut events, mut unknown, mut odd, mut poison) = (0, 0, Vec::new(), Vec::new(), Vec::new());
    each("python-1.1.3", |place, direction, text| {
        // There the recorder was the server, and sent nonsense on purpose.
        if direction != "r2c" || place.starts_with("30-") || place.starts_with("31-") {
            return;
        }
        let text = match ingest(text.as_bytes(), 16 << 20, 240) {
            Ok(text) => text,
            Err(violation) => return poison.push(format!("{place} {violation}")),
        };
        let header = Header::read(text).expect(place);
        match read_runtime_frame(Family::Hello, &header, UtcMs(0)) {
            Ok(RuntimeFrame::Unknown | RuntimeFrame::Counted | RuntimeFrame::Heartbeat { .. }) => {
                unknown.push(header.kind.into_owned())
            }
            Ok(RuntimeFrame::Event { event, .. }) => {
                events += 1;
                if let JobEvent::Emitted { kind, body } = event
                    && kind.normalise(&body).is_err()
                {
                    odd.push(format!("{place} {}", kind.as_str()));
                }
            }
            Ok(RuntimeFrame::Reply { .. } | RuntimeFrame::Echo { .. } | RuntimeFrame::Goodbye { .. }) => {}
            Err(violation) => panic!("{place}: {violation}: {text}"),
        }
        frames += 1;
    });
    assert!(frames > 400 && events > 200, "{frames} frames, {events} events");
    assert_eq!(unknown, Vec::<String>::new());
    // It echoed half a character, for which our client gives a connection up.
    assert_eq!(poison.len(), 1, "{poison:?}");
    // An infinite value written as null, a level nobody knows, a kind without
    // `x-vendor.`: they are shown as they came.
    let expected = [
        "12-budget.jsonl:39 metric",
        "12-budget.jsonl:40 metric",
        "24-agent-misbehaviour.jsonl:12 log",
        "24-agent-misbehaviour.jsonl:70 totally-unknown",
    ];
    assert_eq!(odd, expected);
}

#[test]
fn every_frame_of_the_python_client_is_read_and_recognised() {
    let (mut frames, mut hellos) = (0, 0);
    each("python-1.1.3", |place, direction, text| {
        // The raw recordings hold frames that were wrong on purpose.
        if direction != "c2r" || place.starts_with(|c: char| c.is_ascii_digit()) {
            return;
        }
        let header = Header::read(text).expect(place);
        let known = !header.kind.contains("unknown") && !header.kind.contains("nonsense");
        match read_request(Family::Hello, &header) {
            Ok(received) => {
                if let Request::Handshake(HandshakeRequest::Open(_)) = received.request {
                    hellos += 1;
                    assert_eq!(received.profile, Profile::Python113, "{place}");
                }
            }
            Err(violation) => assert!(!known, "{place}: {violation}: {text}"),
        }
        frames += 1;
    });
    assert!(frames > 100 && hellos > 20, "{frames} frames, {hellos} hellos");
}

#[test]
fn every_frame_of_the_rust_runtime_is_read() {
    let (mut frames, mut events, mut numbered) = (0, 0, 0);
    each("rust-2.0.0", |place, direction, text| {
        if direction != "r2c" {
            return;
        }
        let header = match Header::read(text) {
            Ok(header) => header,
            // It repeats an id of half a kilobyte that it was sent.
            Err(unreadable) => {
                assert!(unreadable.violation.message.contains("`correlation_id`"), "{place}: {unreadable:?}");
                return;
            }
        };
        match read_runtime_frame(Family::Open, &header, UtcMs(0)) {
            Ok(RuntimeFrame::Unknown) => panic!("{place}: unknown: {text}"),
            Ok(RuntimeFrame::Event { job, event, .. }) => {
                events += 1;
                assert!(text.contains(job.as_str()));
                if let JobEvent::Emitted { kind, body } = event {
                    assert!(kind.normalise(&body).is_ok(), "{place}: {body:?}");
                }
            }
            // Numbered, and of surfaces that come later.
            Ok(RuntimeFrame::Counted) => {
                numbered += 1;
                assert!(header.kind.starts_with("subscribe.") || header.kind.starts_with("artifact."), "{place}");
            }
            Ok(RuntimeFrame::Reply { .. }) => {}
            Ok(other) => panic!("{place}: {other:?}"),
            Err(violation) => panic!("{place}: {violation}: {text}"),
        }
        frames += 1;
    });
    assert!(frames > 600 && events > 250 && numbered > 20, "{frames} frames, {events} events, {numbered} others");
}

#[test]
fn every_request_of_a_rust_client_is_read_and_comes_back_the_same() {
    let (mut read, mut refused, mut openings) = (0, 0, 0);
    each("rust-2.0.0", |place, direction, text| {
        // Some frames were wrong on purpose, and are refused one way or the other.
        let (true, Ok(header)) = (direction == "c2r", Header::read(text)) else {
            return;
        };
        let Ok(received) = read_request(Family::Open, &header) else {
            refused += 1;
            return;
        };
        read += 1;
        if let Request::Handshake(HandshakeRequest::Open(open)) = &received.request
            && open.required_unknown.is_none()
        {
            openings += 1;
        }
        let (id, at) = (ulid::Ulid::nil(), UtcMs(0));
        let to_send =
            RequestToSend { id, session: received.session.as_ref(), at, request: &received.request, sidecars: false };
        let Some(written) = write_request(Family::Open, &to_send) else {
            assert!(
                matches!(received.request, Request::Session(SessionRequest::Ignored)),
                "{place}: {:?}",
                received.request
            );
            return;
        };
        let header = Header::read(&written).expect(place);
        let again = read_request(Family::Open, &header).expect(place);
        match (&received.request, &again.request) {
            // An opening says that it is ours, and in seconds of our own.
            (Request::Handshake(HandshakeRequest::Open(before)), Request::Handshake(HandshakeRequest::Open(after))) => {
                assert_eq!((&before.client, &before.credential), (&after.client, &after.credential), "{place}");
            }
            // No arguments are written as none at all.
            (Request::Command(Command::Submit(before, how)), Request::Command(Command::Submit(after, how_again))) => {
                let input = before.input.clone().or_else(|| Some(Json::empty_object()));
                assert_eq!((&Submit { input, ..before.clone() }, how), (after, how_again), "{place}");
            }
            (before, after) => assert_eq!(before, after, "{place}"),
        }
    });
    assert!(read > 300 && openings > 100 && refused > 25, "{read} read, {openings} openings, {refused} refused");
}

#[test]
fn every_published_client_has_its_name_on_a_command_line() {
    for profile in Profile::PUBLISHED {
        assert_eq!(profile.as_str().parse(), Ok(profile));
    }
}
