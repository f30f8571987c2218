//! Tests of answers with all their members: our client must read what was written.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use ulid::Ulid;

use super::*;
use crate::error::{ErrorCode, Violation};
use crate::json::Json;
use crate::lease::{Budget, Constraints};
use crate::model::agent::AgentEntry;
use crate::model::credential::ProvisionedCredential;
use crate::model::event::{JobEvent, Terminal};
use crate::model::job::{FinalStatus, JobStatus, JobSummary, JobWaits};
use crate::model::reply::{
    Accepted, Challenge, CommandReply, HandshakeReply, JobPage, Opened, Refusal, RefusedKind, RuntimeInfo,
    SessionReply, Watching,
};
use crate::model::request::{ClientInfo, Extension, Target};
use crate::model::session::{SessionPage, SessionSummary};
use crate::secret::Secret;
use crate::time::UtcMs;
use crate::trust::TrustLevel;

const AT: UtcMs = UtcMs(1_767_225_600_000);
const LATER: UtcMs = UtcMs(1_767_225_661_001);
const BOTH: [Family; 2] = [Family::Hello, Family::Open];

fn id(text: &str) -> WireId {
    WireId::new(text).expect("an id")
}

fn json(text: &str) -> Json {
    Json::parse(text).expect("JSON")
}

fn budget(text: &str) -> Budget {
    Budget::parse([text]).expect("a budget")
}

fn request() -> Option<WireId> {
    Some(id("m"))
}

/// What our client reads of a written reply, if the family has a message for it.
fn read(family: Family, said: &Reply) -> Option<(RuntimeFrame, String)> {
    let stamp = Stamp { id: Ulid::from_parts(AT.0, 1), session: None, seq: None };
    let view = View { family, features: Features::new(&Feature::ALL), ..View::before_handshake(false) };
    let text = write_reply(&view, stamp, said)?;
    let frame = read_runtime_frame(family, &Header::read(&text).expect("a frame"), AT);
    Some((frame.unwrap_or_else(|why| panic!("{family:?} {text}: {why}")), text))
}

/// Checks that a reply is read as it was written, in these families. Hello does not always name the
/// answered request.
fn same(families: &[Family], said: impl Fn(Option<WireId>) -> Reply) {
    for family in BOTH {
        match read(family, &said(request())) {
            Some((RuntimeFrame::Reply { reply, .. }, text)) if families.contains(&family) => {
                let names_none = family == Family::Hello && reply.request().is_none();
                assert_eq!(reply, said(request().filter(|_| !names_none)), "{family:?} {text}");
            }
            Some((frame, text)) => assert!(!families.contains(&family), "{family:?} {text}: {frame:?}"),
            None => assert!(!families.contains(&family), "{family:?} has no word for {:?}", said(None)),
        }
    }
}

fn accepted() -> Accepted {
    let [id_, scheme, endpoint] = ["cred_1", "bearer", "https://models.test/v1"].map(String::from);
    let credential = ProvisionedCredential {
        id: id_,
        scheme,
        value: Secret::new("sk-secret".into()),
        endpoint,
        profile: Some("generic".into()),
        constraints: Some(json(r#"{"model.use":["gpt-*"]}"#)),
    };
    Accepted {
        request: request(),
        job: id("job_1"),
        agent: "echo@1".into(),
        lease: json(r#"{"fs.read":["/srv/**"]}"#),
        constraints: Constraints { expires_at: Some(LATER), budget_is_hard: true },
        budget: budget("USD:1.5"),
        trace: Some("4bf92f3577b34da6a3ce929d0e0e4736".into()),
        accepted_at: AT,
        parent: Some(id("job_p")),
        delegate_id: Some(id("del_1")),
        credentials: Vec::from([credential]),
    }
}

fn summary() -> JobSummary {
    JobSummary {
        job: id("job_1"),
        agent: "echo@1".into(),
        status: Some(JobStatus::Running),
        lease: json(r#"{"fs.read":["/srv/**"]}"#),
        constraints: Constraints { expires_at: Some(LATER), budget_is_hard: true },
        budget: budget("USD:1.5"),
        raised: budget("USD:0.5"),
        parent: Some(id("job_p")),
        created_at: Some(AT),
        trace: Some("4bf92f3577b34da6a3ce929d0e0e4736".into()),
        last_event: 7,
        ended_at: Some(LATER),
        owner: Some("alice".into()),
        trust: Some(TrustLevel::Untrusted),
        waits: JobWaits { place: Some(3), what: Vec::from(["slot".into(), "people".into()]) },
    }
}

#[test]
fn answers_about_jobs_are_read_as_they_were_said() {
    same(&BOTH, |request| Reply::Command(CommandReply::Accepted(Accepted { request, ..accepted() })));
    for (status, replayed) in [(JobStatus::Running, true), (JobStatus::Ended(FinalStatus::Success), false)] {
        same(&BOTH, |request| {
            let Accepted { job, agent, lease, constraints, budget, trace, parent, .. } = accepted();
            let (status, from) = (Some(status), 7);
            Reply::Command(CommandReply::Watching(Watching {
                request,
                job,
                status,
                agent,
                lease,
                constraints,
                budget,
                parent,
                trace,
                from,
                replayed,
            }))
        });
    }
    for (jobs, next) in [(Vec::from([summary()]), Some("c2")), (Vec::new(), None)] {
        same(&BOTH, |request| {
            let (jobs, next) = (jobs.clone(), next.map(String::from));
            Reply::Session(SessionReply::Jobs(JobPage { request, jobs, next }))
        });
    }
    for (family, reason, deadline_ms) in [(Family::Hello, Some("why"), 0), (Family::Open, None, 5000)] {
        same(&[family], |request| {
            let (target, reason) = (Target::Job(id("job_1")), reason.map(String::from));
            Reply::Command(CommandReply::CancelTaken { target, reason, deadline_ms, request })
        });
    }
}

#[test]
fn answers_about_sessions_are_read_as_they_were_said() {
    let (nonce, subscription) = (|| String::from("n1"), || id("sub_1"));
    let session = SessionSummary {
        session: id("sess_1"),
        principal: "alice".into(),
        opened_at: Some(AT),
        connected: true,
        expires_at: Some(LATER),
    };
    let away = SessionSummary { connected: false, expires_at: None, ..session.clone() };
    let sessions = Vec::from([session, away]);
    let of_session = |families: &[Family], said: &dyn Fn(Option<WireId>) -> SessionReply| {
        same(families, |request| Reply::Session(said(request)));
    };
    of_session(&BOTH, &|request| {
        SessionReply::Sessions(SessionPage { request, sessions: sessions.clone(), next: Some(id("s2")) })
    });
    of_session(&BOTH, &|request| SessionReply::Closed { reason: None, request });
    of_session(&BOTH, &|_| SessionReply::Evicted { code: ErrorCode::PermissionDenied, reason: "maintenance".into() });
    of_session(&BOTH, &|request| SessionReply::Done { detail: "resolved".into(), request });
    of_session(&BOTH, &|_| SessionReply::Ping { nonce: nonce(), at: AT });
    of_session(&BOTH, &|request| SessionReply::Pong { nonce: nonce(), at: AT, request });
    of_session(&[Family::Open], &|request| SessionReply::Echo { nonce: Some(nonce()), request });
    of_session(&[Family::Open], &|_| SessionReply::Refresh { deadline: LATER, deadline_ms: 61_001 });
    of_session(&[Family::Open], &|_| {
        let (kind, payload) = ("arcpx.test.note.v1".into(), json(r#"{"a":[1.50]}"#));
        SessionReply::Extension(Extension { kind, payload, optional: true })
    });
    same(&[Family::Open], |request| {
        let (nonce, scheme, expires_at) = (nonce(), "jwt".into(), LATER);
        Reply::Handshake(HandshakeReply::Challenge(Challenge { nonce, scheme, expires_at, request }))
    });
    same(&[Family::Open], |request| Reply::Command(CommandReply::Subscribed { subscription: subscription(), request }));
    same(&[Family::Open], |request| {
        let (code, reason) = (ErrorCode::ResourceExhausted, "slow".into());
        Reply::Command(CommandReply::Unsubscribed { subscription: subscription(), code, reason, request })
    });
}

#[test]
fn a_session_that_opens_is_read_as_it_was_said() {
    let agent = AgentEntry {
        name: "echo".into(),
        versions: Vec::from(["1".into(), "2".into()]),
        default: Some("2".into()),
        concurrency: core::num::NonZeroU32::new(3),
        description: Some("It echoes.".into()),
        input_schema: Some(json(r#"{"type":"object"}"#)),
        ..AgentEntry::default()
    };
    let opened = Opened {
        session: id("sess_1"),
        resume_token: Secret::new("tok".into()),
        resume_window_s: 600,
        heartbeat_s: Some(30),
        job_heartbeat_s: None,
        features: Features::new(&Feature::ALL),
        agents: Vec::from([agent]),
        runtime: RuntimeInfo {
            program: ClientInfo { name: "arcp".into(), version: "1.2".into() },
            fingerprint: Some("sha256:0b".into()),
            artifact_retention: None,
        },
        accepted_at: AT,
        expires_at: Some(LATER),
        extensions: Vec::from(["arcpx.test".into()]),
        anonymous: true,
        capabilities: Json::empty_object(),
        replay: None,
        request: request(),
    };
    for family in BOTH {
        let said = Reply::Handshake(HandshakeReply::Opened(Box::new(opened.clone())));
        let (frame, text) = read(family, &said).expect("both have it");
        let RuntimeFrame::Reply { reply: Reply::Handshake(HandshakeReply::Opened(read)), .. } = frame else {
            panic!("{text}: {frame:?}");
        };
        let expected = match family {
            Family::Hello => {
                Opened { expires_at: None, extensions: Vec::new(), anonymous: false, replay: None, ..opened.clone() }
            }
            Family::Open => {
                assert_eq!(read.extensions[0], "arcpx.test", "{text}");
                Opened { extensions: read.extensions.clone(), ..opened.clone() }
            }
        };
        assert!(read.features.has(Feature::Checkpoints), "{text}");
        let Opened { capabilities, features, request, .. } = (*read).clone();
        assert_eq!(*read, Opened { capabilities, features, request, ..expected }, "{text}");
    }
}

#[test]
fn a_refusal_is_read_with_its_code_and_all_that_it_is_about() {
    for family in BOTH {
        for kind in [
            RefusedKind::Session,
            RefusedKind::Frame,
            RefusedKind::Proof,
            RefusedKind::Submit,
            RefusedKind::Cancel,
            RefusedKind::Job,
            RefusedKind::Watch,
            RefusedKind::Listing,
        ] {
            for code in [ErrorCode::PermissionDenied, ErrorCode::ResourceExhausted, ErrorCode::JobNotFound] {
                let why =
                    Violation { details: Some(json(r#"{"bound":"jobs","limit":3}"#)), ..Violation::new(code, "no") };
                let refusal = Refusal { retryable: true, job: Some(id("job_1")), ..Refusal::new(kind, why, request()) };
                let (frame, text) = read(family, &Reply::Refused(refusal.clone())).expect("both refuse");
                let RuntimeFrame::Reply { reply: Reply::Refused(read), .. } = frame else {
                    panic!("{text}: {frame:?}");
                };
                assert_eq!(
                    (&read.code, &read.message, &read.request),
                    (&refusal.code, &refusal.message, &refusal.request),
                    "{text}"
                );
            }
        }
    }
}

/// What our client reads of a frame of another runtime.
fn heard(family: Family, kind: &str, envelope: &str, payload: &str) -> RuntimeFrame {
    let text = alloc::format!(r#"{{"arcp":"1.1","id":"m1","type":"{kind}"{envelope},"payload":{payload}}}"#);
    let header = Header::read(&text).expect("a frame");
    read_runtime_frame(family, &header, AT).unwrap_or_else(|why| panic!("{text}: {why}"))
}

fn reply(family: Family, kind: &str, envelope: &str, payload: &str) -> Reply {
    let frame = heard(family, kind, envelope, payload);
    let RuntimeFrame::Reply { reply, .. } = frame else { panic!("{kind} {payload}: {frame:?}") };
    reply
}

fn refused(family: Family, kind: &str, payload: &str) -> Refusal {
    let reply = reply(family, kind, "", payload);
    let Reply::Refused(refusal) = reply else { panic!("{kind} {payload}: {reply:?}") };
    refusal
}

fn end(family: Family, kind: &str, payload: &str) -> Terminal {
    let frame = heard(family, kind, r#","job_id":"job_1","event_seq":3"#, payload);
    let RuntimeFrame::Event { event: JobEvent::Ended(terminal), .. } = frame else { panic!("{kind}: {frame:?}") };
    *terminal
}

fn said(family: Family, kind: &str, envelope: &str, payload: &str) -> String {
    let envelope = alloc::format!(r#","job_id":"job_1","event_seq":3{envelope}"#);
    let frame = heard(family, kind, &envelope, payload);
    let RuntimeFrame::Event { event: JobEvent::Emitted { kind, body }, seq: Some(3), .. } = frame else {
        panic!("{kind} {payload}: {frame:?}");
    };
    alloc::format!("{} {}", kind.as_str(), body.as_str())
}

#[test]
fn a_frame_that_nobody_knows_counts_if_it_has_a_number() {
    let job = r#","job_id":"job_1""#;
    let numbered = alloc::format!(r#"{job},"event_seq":3"#);
    assert_eq!(heard(Family::Open, "job.mystery", &numbered, "{}"), RuntimeFrame::Counted);
    assert_eq!(heard(Family::Open, "job.mystery", job, "{}"), RuntimeFrame::Unknown);
    assert_eq!(heard(Family::Hello, "job.mystery", job, "{}"), RuntimeFrame::Unknown);
    assert_eq!(
        heard(Family::Open, "stream.open", r#","job_id":"job_1","stream_id":"str_1""#, "{}"),
        RuntimeFrame::Counted
    );
    assert_eq!(heard(Family::Open, "job.started", "", "{}"), RuntimeFrame::Counted, "it is of no job");
    let other = heard(Family::Open, "stream.open", r#","job_id":"job_1","stream_id":"str_1_2""#, "{}");
    assert!(matches!(other, RuntimeFrame::Event { .. }), "{other:?}");
    let refusal = reply(Family::Open, "job.failed", r#","correlation_id":"m""#, r#"{"code":"ABORTED","message":"no"}"#);
    assert!(matches!(&refusal, Reply::Refused(why) if why.kind == RefusedKind::Submit), "{refusal:?}");
}

#[test]
fn whether_there_is_a_past_is_read_of_a_flag_and_of_a_number() {
    for (said, replayed) in [("true", true), ("false", false), ("3", true), ("1", true), ("0", false), ("null", false)]
    {
        let payload = alloc::format!(r#"{{"job_id":"job_1","replayed":{said}}}"#);
        let reply = reply(Family::Hello, "job.subscribed", "", &payload);
        assert!(matches!(&reply, Reply::Command(CommandReply::Watching(it)) if it.replayed == replayed), "{reply:?}");
    }
}

#[test]
fn an_error_is_read_nested_or_flat_with_what_it_says_beside() {
    let detail = Some(json(r#"{"detail":"d"}"#));
    for (payload, code, message, retryable, details) in [
        (r#"{"code":"TIMEOUT","message":"m"}"#, ErrorCode::Timeout, "m", ErrorCode::Timeout.retryable(), None),
        (r#"{"error":{"code":"TIMEOUT","message":"m","retryable":false}}"#, ErrorCode::Timeout, "m", false, None),
        (r#"{"error":{"code":"TIMEOUT"},"details":{"a":1}}"#, ErrorCode::Timeout, "", true, Some(json(r#"{"a":1}"#))),
        (r#"{"error":"no","code":"CANCELLED","message":"m","retryable":true}"#, ErrorCode::Cancelled, "m", true, None),
        (
            r#"{"code":"CANCELLED","message":"m","retryable":true,"detail":"d"}"#,
            ErrorCode::Cancelled,
            "m",
            true,
            detail,
        ),
        (r#"{"code":"CANCELLED","message":"m","retryable":true,"details":[1]}"#, ErrorCode::Cancelled, "m", true, None),
        (r#"{"retryable":true}"#, ErrorCode::Internal, "", true, None),
    ] {
        for (family, kind) in [(Family::Hello, "session.error"), (Family::Open, "nack")] {
            let read = refused(family, kind, payload);
            assert_eq!((&read.code, read.retryable, &read.details), (&code, retryable, &details), "{payload}");
            let expected = if message.is_empty() { "the runtime gave no message" } else { message };
            assert_eq!(read.message, expected, "{payload}");
        }
    }
    for (payload, code) in [
        (r#"{"reason":"not_found"}"#, ErrorCode::JobNotFound),
        (r#"{"reason":"already_terminal"}"#, ErrorCode::FailedPrecondition),
        (r#"{"reason":"not yours"}"#, ErrorCode::PermissionDenied),
        (r#"{"reason":"not_found","code":"ABORTED"}"#, ErrorCode::Aborted),
    ] {
        let read = refused(Family::Open, "cancel.refused", payload);
        assert_eq!((read.kind, read.code), (RefusedKind::Cancel, code), "{payload}");
    }
}

#[test]
fn an_end_is_read_by_its_status_or_its_code() {
    let status = |family, kind, payload| {
        let terminal = end(family, kind, payload);
        (terminal.status, terminal.error.map(|error| error.code))
    };
    let hello = |kind, payload| status(Family::Hello, kind, payload);
    assert_eq!(hello("job.result", r#"{"result":1}"#), (FinalStatus::Success, None));
    assert_eq!(hello("job.result", r#"{"final_status":"success"}"#), (FinalStatus::Success, None));
    for (kind, payload, expected, code) in [
        ("job.error", r#"{"final_status":"success","code":"ABORTED"}"#, FinalStatus::Error, ErrorCode::Aborted),
        ("job.error", "{}", FinalStatus::Error, ErrorCode::Internal),
        ("job.error", r#"{"final_status":"cancelled"}"#, FinalStatus::Cancelled, ErrorCode::Cancelled),
        ("job.error", r#"{"final_status":"timed_out"}"#, FinalStatus::TimedOut, ErrorCode::Timeout),
        ("job.error", r#"{"code":"CANCELLED"}"#, FinalStatus::Cancelled, ErrorCode::Cancelled),
        ("job.error", r#"{"code":"TIMEOUT"}"#, FinalStatus::TimedOut, ErrorCode::Timeout),
        ("job.result", r#"{"final_status":"error","code":"ABORTED"}"#, FinalStatus::Error, ErrorCode::Aborted),
    ] {
        assert_eq!(hello(kind, payload), (expected, Some(code)), "{kind} {payload}");
    }
    let open = |kind, payload| status(Family::Open, kind, payload);
    assert_eq!(open("job.completed", r#"{"value":1}"#), (FinalStatus::Success, None));
    assert_eq!(open("job.cancelled", r#"{"code":"ABORTED"}"#), (FinalStatus::Cancelled, Some(ErrorCode::Aborted)));
    assert_eq!(open("job.cancelled", r#"{"code":"X"}"#), (FinalStatus::Cancelled, Some(ErrorCode::Cancelled)));
    let failed = r#"{"code":"INTERNAL","message":"m","details":{"code":"LEASE_EXPIRED"}}"#;
    assert_eq!(open("job.failed", failed), (FinalStatus::Error, Some(ErrorCode::LeaseExpired)));
    let cancelled = end(Family::Open, "job.cancelled", r#"{"reason":"why","details":{"a":1}}"#).error.expect("why");
    assert_eq!((cancelled.message.as_str(), cancelled.details), ("why", Some(json(r#"{"a":1}"#))));
}

#[test]
fn events_of_other_runtimes_are_read_as_ours() {
    let open = |kind: &str, payload: &str| said(Family::Open, kind, "", payload);
    assert_eq!(
        open("job.progress", r#"{"percent":40,"message":"m"}"#),
        r#"progress {"current":40,"total":100,"message":"m"}"#
    );
    assert_eq!(open("job.progress", "{}"), r#"progress {"current":0,"total":100}"#);
    assert_eq!(open("job.progress", r#"{"current":1,"total":3}"#), r#"progress {"current":1,"total":3}"#);
    let artifact = r#"{"artifact_id":"a","byte_size":4,"content_type":"a/b"}"#;
    for given in [r#"{"artifact_id":"a","size":4,"media_type":"a/b"}"#, artifact] {
        assert_eq!(open("artifact.ref", given), alloc::format!("artifact.ref {artifact}"));
        assert_eq!(
            open("artifact.ref", &alloc::format!(r#"{{"artifact":{given}}}"#)),
            alloc::format!("artifact.ref {artifact}")
        );
    }
    assert_eq!(open("event.emit", r#"{"name":"x-vendor.a","data":{"b":1}}"#), r#"x-vendor.a {"b":1}"#);
    assert_eq!(
        open("event.emit", r#"{"name":"x-vendor.a","attributes":{"b":1},"data":{"c":1}}"#),
        r#"x-vendor.a {"b":1}"#
    );
    assert_eq!(open("event.emit", r#"{"name":"x-vendor.a","data":7}"#), "x-vendor.a {}");
    let chunk = |payload| said(Family::Open, "stream.chunk", r#","stream_id":"str_1_2""#, payload);
    assert_eq!(chunk(r#"{"content":"t"}"#), r#"stream.chunk {"stream_id":"str_1_2","data":"t"}"#);
    assert_eq!(chunk(r#"{"stream_id":"s","content":"t","data":"t"}"#), r#"stream.chunk {"stream_id":"s","data":"t"}"#);
    let thought = r#"{"role":"assistant_thought","content":"hm","redacted":true}"#;
    assert_eq!(chunk(thought), r#"thought {"text":"hm","redacted":true}"#);
    assert_eq!(chunk(r#"{"role":"assistant_thought","data":"hm","redacted":false}"#), r#"thought {"text":"hm"}"#);
}

#[test]
fn a_welcome_of_another_runtime_is_read_as_far_as_it_goes() {
    let welcomed = |heartbeat: &str, agents: &str| {
        let payload = alloc::format!(
            r#"{{"session_id":"s","heartbeat_interval_sec":{heartbeat},"capabilities":{{"features":["ack","x"],"agents":{agents}}}}}"#
        );
        let reply = reply(Family::Hello, "session.welcome", "", &payload);
        let Reply::Handshake(HandshakeReply::Opened(opened)) = reply else { panic!("{reply:?}") };
        opened
    };
    for (said, seconds) in
        [("30", Some(30)), ("0.5", Some(1)), ("1.9", Some(1)), ("0", None), ("-1", None), ("\"a\"", None)]
    {
        assert_eq!(welcomed(said, "[]").heartbeat_s, seconds, "{said}");
    }
    let opened = welcomed("30", r#"["echo",{"name":"slow","versions":["1","2"],"default":"2"},{"versions":["1"]},7]"#);
    let agents: Vec<_> = opened
        .agents
        .iter()
        .map(|agent| (agent.name.as_str(), agent.versions.len(), agent.default.as_deref()))
        .collect();
    assert_eq!(agents, [("echo", 0, None), ("slow", 2, Some("2"))]);
    assert_eq!((opened.features, opened.accepted_at), (Features::new(&[Feature::Ack]), AT));
    let payload = r#"{"session_id":"s","capabilities":{"anonymous":true,"heartbeat_interval_seconds":2},"replayed_from":7,"replayed":true}"#;
    let reply = reply(Family::Open, "session.resumed", r#","correlation_id":"m""#, payload);
    let Reply::Handshake(HandshakeReply::Opened(opened)) = reply else { panic!("{reply:?}") };
    assert_eq!((opened.replay, opened.anonymous, opened.job_heartbeat_s), (Some((7, true)), true, Some(2)));
    assert!(opened.features.has(Feature::Heartbeat) && opened.request == Some(id("m")), "{opened:?}");
}
