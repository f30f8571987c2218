//! Every frame that a published SDK was seen to write can be read.

use std::path::PathBuf;

use arcp_proto::model::event::JobEvent;
use arcp_proto::model::request::Request;
use arcp_proto::time::UtcMs;
use arcp_proto::wire::envelope::Header;
use arcp_proto::wire::hello::{Incoming, read_incoming};
use arcp_proto::wire::{Family, Profile, frame, read_request};
use serde_json::Value;

/// Calls back with file, line, direction and text of every recorded frame.
fn each(mut visit: impl FnMut(&str, &str, &str)) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("recorded/python-1.1.3");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("recorded").map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    for file in files {
        let name = file.file_name().expect("a name").to_string_lossy().into_owned();
        for (n, line) in std::fs::read_to_string(&file).expect("text").lines().enumerate() {
            let entry: Value = serde_json::from_str(line).expect("JSON lines");
            if let (Some(direction), Some(message)) = (entry["dir"].as_str(), entry["msg"].as_object()) {
                let text = serde_json::to_string(message).expect("JSON");
                visit(&format!("{name}:{}", n + 1), direction, &text);
            }
        }
    }
}

#[test]
fn every_frame_of_the_python_runtime_is_read() {
    let (mut frames, mut events, mut unknown, mut odd) = (0, 0, Vec::new(), Vec::new());
    each(|place, direction, text| {
        if direction != "r2c" {
            return;
        }
        let text = frame::ingest(text.as_bytes(), 16 << 20, 240).expect(place);
        let header = Header::read(text).expect(place);
        match read_incoming(&header, UtcMs(0)) {
            Ok(Incoming::Unknown) => unknown.push(header.kind.into_owned()),
            Ok(Incoming::Event { event, .. }) => {
                events += 1;
                if let JobEvent::Said { kind, body } = event
                    && kind.normalise(&body).is_err()
                {
                    odd.push(format!("{place} {}", kind.name()));
                }
            }
            Ok(Incoming::Reply { .. } | Incoming::Goodbye { .. }) => {}
            Err(violation) => panic!("{place}: {violation}: {text}"),
        }
        frames += 1;
    });
    assert!(frames > 400 && events > 200, "{frames} frames, {events} events");
    assert_eq!(unknown, Vec::<String>::new());
    // An infinite value was written as null: it is shown as it came.
    assert_eq!(odd, ["12-budget.jsonl:39 metric", "12-budget.jsonl:40 metric"]);
}

#[test]
fn every_frame_of_the_python_client_is_read_and_recognised() {
    let (mut frames, mut hellos) = (0, 0);
    each(|place, direction, text| {
        // The raw recordings hold frames that were wrong on purpose.
        if direction != "c2r" || place.starts_with(|c: char| c.is_ascii_digit()) {
            return;
        }
        let header = Header::read(text).expect(place);
        let known = !header.kind.contains("unknown") && !header.kind.contains("nonsense");
        match read_request(Family::Hello, &header) {
            Ok(inbound) => {
                if let Request::Open(_) = inbound.request {
                    hellos += 1;
                    assert_eq!(inbound.profile, Profile::Python113, "{place}");
                }
            }
            Err(violation) => assert!(!known, "{place}: {violation}: {text}"),
        }
        frames += 1;
    });
    assert!(frames > 100 && hellos > 20, "{frames} frames, {hellos} hellos");
}
