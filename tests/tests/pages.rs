//! The pages in `docs` match the program: every frame that they show is one that the runtime writes.

use std::collections::BTreeSet;
use std::time::Duration;

use arcp_proto::model::event::EventKind;
use arcp_tests::raw::Raw;
use arcp_tests::world::World;
use serde_json::{Map, Value, json};

const EVENTS: &str = include_str!("../../docs/events.md");
const MOMENT: &str = "2026-01-01T00:00:00.000Z";

/// Jobs that show each kind of event and of end: what is submitted, and
/// whether it is cancelled.
fn jobs() -> Vec<(&'static str, Value, Option<u64>, bool)> {
    vec![
        ("kinds", json!({}), None, false),
        ("delegator", json!({}), None, false),
        ("slow", json!({"ticks": 2}), None, false),
        ("chunker", json!({"chunks": 2, "bytes": 4}), None, false),
        ("artist", json!({"bytes": 4}), None, false),
        ("artist", json!({"bytes": 4, "as_result": true}), None, false),
        ("stepper", json!({"steps": 1}), None, false),
        ("failer", json!({}), None, false),
        ("waiter", json!({}), None, true),
        ("waiter", json!({}), Some(1), false),
    ]
}

fn world() -> World {
    World::configured(1, |config| {
        *config = config.clone().with_agent("delegator", &[]).with_agent("artist", &[]);
        config.timing.artifact_retention = Some(Duration::from_secs(3600));
    })
}

/// The frame with what is new each time replaced.
fn shown(value: &Value) -> Value {
    match value {
        Value::String(text) => json!(shown_text(text)),
        Value::Array(items) => items.iter().map(shown).collect(),
        Value::Object(members) => members.iter().map(|(name, value)| (name.clone(), shown(value))).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

fn shown_text(text: &str) -> String {
    if text.len() == MOMENT.len() && text.ends_with('Z') && text.as_bytes()[10] == b'T' {
        return MOMENT.to_string();
    }
    if text.starts_with("arcp://session/") {
        return "arcp://session/sess_01/artifact/art_01".to_string();
    }
    match text.split_once('_') {
        Some((kind @ ("job" | "res" | "art"), id)) if id.len() == 26 => format!("{kind}_01"),
        // That of its job, and the number of the event that tells of it.
        Some(("chk", id)) if id.find('_') == Some(26) => "chk_01".to_string(),
        _ => text.to_string(),
    }
}

fn type_and_payload(frame: &Value) -> String {
    let members: Map<String, Value> =
        ["type", "payload"].into_iter().map(|name| (name.to_string(), shown(&frame[name]))).collect();
    Value::Object(members).to_string()
}

fn written_in_hello() -> BTreeSet<String> {
    let mut written = BTreeSet::new();
    for (agent, input, limit, cancel) in jobs() {
        let mut world = world();
        let (mut raw, _) = Raw::hello(&mut world, "tok-alice");
        let mut submit = json!({"agent": agent, "input": input});
        if let Some(limit) = limit {
            submit["max_runtime_sec"] = json!(limit);
        }
        let accepted = raw.submit(&mut world, submit);
        if cancel {
            raw.send(&mut world, "job.cancel", json!({"job_id": accepted["job_id"], "reason": "enough"}));
        }
        written.extend(raw.until_end(&mut world).iter().map(type_and_payload));
        world.finish();
    }
    written
}

fn written_in_open() -> BTreeSet<String> {
    let mut written = BTreeSet::new();
    for (agent, input, limit, cancel) in jobs() {
        let mut world = world();
        let (mut raw, _) = Raw::open(&mut world, "tok-alice");
        let mut invoke = json!({"tool": agent, "arguments": input});
        if let Some(limit) = limit {
            invoke["max_runtime_sec"] = json!(limit);
        }
        let accepted = raw.invoke(&mut world, invoke);
        if cancel {
            raw.send(&mut world, "cancel", json!({"target_id": accepted["job_id"], "reason": "enough"}));
        }
        written.extend(raw.until_end(&mut world).iter().map(type_and_payload));
        world.finish();
    }
    written
}

#[test]
fn every_frame_on_the_page_of_events_is_written_so() {
    let (hello, open) = (written_in_hello(), written_in_open());
    let mut checked = 0;
    for line in EVENTS.lines().filter(|line| line.contains("| `{\"type\"")) {
        let (family, frame) = line.trim_matches('|').split_once('|').expect("two cells");
        let frame = frame.trim().trim_matches('`');
        let written = if family.trim().starts_with("hello") { &hello } else { &open };
        let kind = frame.split('"').nth(3).expect("a type");
        let near: Vec<&String> = written.iter().filter(|own| own.contains(&format!("\"type\":\"{kind}\""))).collect();
        assert!(written.contains(frame), "nobody writes\n{frame}\nbut\n{near:#?}");
        checked += 1;
    }
    assert!(checked > 30, "only {checked} frames were found on the page");
}

#[test]
fn every_kind_of_event_has_its_part_of_the_page() {
    for kind in EventKind::NAMED {
        let heading = format!("## {}\n", kind.as_str());
        assert!(EVENTS.contains(&heading), "docs/events.md has no `{}`", heading.trim());
    }
}

#[test]
fn every_request_and_every_reply_says_which_section_it_is_of() {
    let sources =
        [include_str!("../../arcp-proto/src/model/request.rs"), include_str!("../../arcp-proto/src/model/reply.rs")];
    let kinds = ["HandshakeRequest", "SessionRequest", "Command", "HandshakeReply", "SessionReply", "CommandReply"];
    let mut checked = 0;
    for kind in kinds {
        let declared = format!("pub enum {kind} {{\n");
        let source = sources.iter().find(|source| source.contains(&declared)).expect(kind);
        let body = source.split(&declared).nth(1).and_then(|rest| rest.split("\n}\n").next()).expect(kind);
        let mut said = String::new();
        for line in body.lines().filter(|line| line.starts_with("    ") && !line.starts_with("     ")) {
            match line.trim().strip_prefix("///") {
                Some(doc) => said.push_str(doc),
                None if line.trim().starts_with(|c: char| c.is_ascii_uppercase()) => {
                    assert!(said.contains('§'), "{kind}: `{}` cites no section: {said}", line.trim());
                    said.clear();
                    checked += 1;
                }
                None => {}
            }
        }
    }
    assert!(checked > 25, "only {checked} variants were found");
}

#[test]
fn every_library_and_the_program_can_be_published_and_the_gate_tries() {
    let gate = include_str!("../../.ci/run");
    let tried = gate.lines().find(|line| line.starts_with("cargo publish --dry-run")).expect("a step of the gate");
    for (name, manifest) in [
        ("arcp-proto", include_str!("../../arcp-proto/Cargo.toml")),
        ("arcp-host", include_str!("../../arcp-host/Cargo.toml")),
        ("arcp-blocking", include_str!("../../arcp-blocking/Cargo.toml")),
        ("arcp-cli", include_str!("../../arcp-cli/Cargo.toml")),
    ] {
        assert!(!manifest.contains("publish = false"), "{name} is kept from being published");
        assert!(tried.contains(&format!(" -p {name}")), "the gate does not try to publish {name}");
    }
}
