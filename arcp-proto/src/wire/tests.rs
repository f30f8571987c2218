//! Every kind of event, through both families: a kind that is added and
//! forgotten somewhere fails here.

use alloc::vec::Vec;

use ulid::Ulid;

use super::*;
use crate::json::Json;
use crate::model::event::EventKind;

const AT: UtcMs = UtcMs(1_767_225_600_000);

/// A body of this kind, as it is stored.
fn body(kind: &EventKind) -> Json {
    let text = match kind {
        EventKind::Log => r#"{"level":"info","message":"m"}"#,
        EventKind::Thought => r#"{"text":"t"}"#,
        EventKind::ToolCall => r#"{"tool":"grep","call_id":"c","args":{}}"#,
        EventKind::ToolResult => r#"{"call_id":"c","result":1}"#,
        EventKind::Status => r#"{"phase":"p"}"#,
        EventKind::Metric => r#"{"name":"m","value":1.50,"unit":"s"}"#,
        EventKind::Artifact => r#"{"uri":"arcp://a/1","byte_size":4}"#,
        EventKind::Delegate => r#"{"child_job_id":"job_c","agent":"a"}"#,
        EventKind::Progress => r#"{"current":1,"total":3}"#,
        EventKind::Checkpoint => r#"{"checkpoint_id":"chk_1","label":"l"}"#,
        EventKind::Vendor(_) => r#"{"n":1}"#,
    };
    kind.normalise(&Json::parse(text).expect("JSON")).expect("a body of its kind")
}

fn kinds() -> impl Iterator<Item = EventKind> {
    EventKind::NAMED.into_iter().chain([EventKind::of("x-vendor.test.note")])
}

/// One event as a peer with this view gets it.
fn written(view: &View, event: &JobEvent) -> String {
    let id = Ulid::from_parts(AT.0, 1);
    let job = JobId::from_ulid(id);
    let part = FrameRole::Whole;
    let payload = render_event(view, &EventSnapshot { job, at: AT, thoughts: 0, event }, part);
    let frame = EventFrame {
        id,
        session: SessionId::from_ulid(id),
        seq: Some(1),
        job,
        trace: "",
        span: None,
        request: None,
        own: true,
        event,
        part,
        payload: &payload,
    };
    write_event(view, &frame)
}

#[test]
fn every_kind_of_event_is_read_as_it_was_written() {
    let profiles = || [Profile::Plain].into_iter().chain(Profile::NAMED.map(|(_, profile)| profile));
    let views = [Family::Hello, Family::Open]
        .into_iter()
        .flat_map(|family| profiles().map(move |profile| View { family, profile, ..View::before_handshake(false) }));
    for view in views {
        for kind in kinds() {
            let said = body(&kind);
            let text = written(&view, &JobEvent::Emitted { kind: kind.clone(), body: said.clone() });
            let header = Header::read(&text).expect("a frame");
            let read = read_incoming(view.family, &header, AT).expect("a frame that makes sense");
            let Incoming::Event { event: JobEvent::Emitted { kind: read, body }, .. } = read else {
                panic!("{kind:?} is lost: {text}");
            };
            assert_eq!(read, kind, "{text}");
            let (said, read) = (said.members().expect("members"), body.members().expect("members"));
            for (name, value) in &said.0 {
                assert_eq!(read.get(name), Some(*value), "{kind:?}: `{name}` is lost: {text}");
            }
        }
    }
}

#[test]
fn every_kind_of_event_has_a_class_of_its_own() {
    let classes: Vec<EventClass> = kinds().map(|kind| JobEvent::Emitted { body: body(&kind), kind }.class()).collect();
    for (at, class) in classes.iter().enumerate() {
        assert!(!classes[..at].contains(class), "{class:?} is the class of two kinds");
    }
}
