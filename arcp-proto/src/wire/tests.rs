//! Tests that every kind of event, request and reply is written and read in both families. One that
//! is added and not handled somewhere fails here.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::iter::successors;
use core::num::NonZeroU32;
use core::time::Duration;

use ulid::Ulid;

use super::raw::{render_event, write_event};
use super::*;
use crate::error::{ErrorCode, Violation};
use crate::id::{IdempotencyKey, JobId, Principal, SessionId};
use crate::json::Json;
use crate::lease::{Budget, Constraints};
use crate::model::agent::AgentRef;
use crate::model::artifact::{ArtifactRef, ArtifactTerms, BlobDigest, PutArtifact};
use crate::model::checkpoint::{CheckpointList, CheckpointRef, CreateCheckpoint, RestoreCheckpoint};
use crate::model::credential::ProvisionedCredential;
use crate::model::event::{EventKind, JobEvent, JobResult, Terminal};
use crate::model::job_token::{ExchangeToken, IssuedToken, JobToken};
use crate::model::prompt::PromptAnswer;
use crate::model::reply::{
    Accepted, Challenge, CommandReply, FetchedArtifact, HandshakeReply, JobPage, Refusal, RefusedKind, SessionReply,
    Subject, Watching,
};
use crate::model::request::{
    Answering, Command, Extension, Filter, HandOver, Interrupt, Invocation, ListQuery, Priority, Replay, Request,
    SessionRequest, Submit, Subscribe, Target, Watch,
};
use crate::model::schedule::{
    Missed, NewSchedule, Overlap, ScheduleChange, SchedulePage, ScheduleQuery, ScheduleSummary, Scheduled,
    ScheduledJob, Times, When,
};
use crate::model::session::{Eviction, SessionPage, SessionQuery};
use crate::model::stream::{StreamKind, StreamRequest, StreamSaid, StreamTerms};
use crate::model::upload::{
    ArtifactAnswer, ArtifactPage, ArtifactPart, ArtifactQuery, ArtifactWish, ByteRange, ListedArtifact,
};
use crate::secret::Secret;
use crate::time::UtcMs;

const AT: UtcMs = UtcMs(1_767_225_600_000);

/// A stored body of this kind.
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
        EventKind::StoredArtifact => {
            let body = r#"{"artifact_id":"art_1","uri":"arcp://a/1","content_type":"a/b","byte_size":4,"sha256":"ab","expires_at":"2026-01-01T00:00:00.000Z"}"#;
            return Json::parse(body).expect("JSON");
        }
        // The runtime emits these, not agents.
        EventKind::WorkflowComplete => return Json::parse(r#"{"status":"success","steps":{}}"#).expect("JSON"),
        EventKind::InputRequest
        | EventKind::ChoiceRequest
        | EventKind::PermissionRequest
        | EventKind::PromptClosed
        | EventKind::LeaseGranted
        | EventKind::LeaseExtended
        | EventKind::LeaseRevoked => return Json::parse(r#"{"prompt_id":"prm_1"}"#).expect("JSON"),
        EventKind::StreamOpen => return Json::parse(r#"{"stream_id":"str_1","kind":"text"}"#).expect("JSON"),
        EventKind::StreamChunk => {
            return Json::parse(r#"{"stream_id":"str_1","sequence":0,"data":"t","role":"r"}"#).expect("JSON");
        }
        EventKind::StreamClose => return Json::parse(r#"{"stream_id":"str_1","final_sequence":0}"#).expect("JSON"),
        EventKind::StreamError => {
            return Json::parse(r#"{"stream_id":"str_1","code":"CANCELLED","message":"m"}"#).expect("JSON");
        }
    };
    kind.normalise(&Json::parse(text).expect("JSON")).expect("a body of its kind")
}

fn kinds() -> impl Iterator<Item = EventKind> {
    EventKind::NAMED.into_iter().chain([EventKind::from("x-vendor.test.note")])
}

/// An event as it is written for a peer with this view.
fn written(view: &View, event: &JobEvent) -> String {
    let id = Ulid::from_parts(AT.0, 1);
    let job = JobId::from_ulid(id);
    let role = FrameRole::Whole;
    let payload = render_event(view, &EventSnapshot { job, at: AT, thoughts: 0, event }, role);
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
        role,
        payload: &payload,
    };
    write_event(view, &frame)
}

#[test]
fn every_kind_of_event_is_read_as_it_was_written() {
    let profiles = || [Profile::Plain].into_iter().chain(Profile::PUBLISHED);
    let families = [(Family::Hello, false), (Family::Hello, true), (Family::Open, true)];
    let views = families.into_iter().flat_map(|(family, surfaces)| {
        let features = if surfaces { Features::new(&[Feature::OpenSurfaces]) } else { Features::default() };
        profiles().map(move |profile| View { family, profile, features, ..View::before_handshake(false) })
    });
    for view in views {
        for kind in kinds() {
            let said = body(&kind);
            let text = written(&view, &JobEvent::Emitted { kind: kind.clone(), body: said.clone() });
            let header = Header::read(&text).expect("a frame");
            let read = read_runtime_frame(view.family, &header, UtcMs(7)).expect("a frame that makes sense");
            let RuntimeFrame::Event { event: JobEvent::Emitted { kind: read, body }, at, .. } = read else {
                panic!("{kind:?} is lost: {text}");
            };
            assert_eq!(at, Some(AT), "{text}");
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

fn stream(says: StreamSaid) -> Command {
    let id = |text| WireId::new(text).expect("an id");
    Command::Stream(StreamRequest { job: id("job_1"), stream: id("mine"), says }.into())
}

/// The session request after this one. The match makes the compiler require that a new variant is
/// added here.
fn session_request_after(before: Option<&SessionRequest>) -> Option<SessionRequest> {
    let nonce = || String::from("n");
    let id = |text| WireId::new(text).expect("an id");
    Some(match before {
        None => SessionRequest::Close { reason: Some("r".into()), answered: true },
        Some(SessionRequest::Close { .. }) => SessionRequest::Ping { nonce: nonce() },
        Some(SessionRequest::Ping { .. }) => SessionRequest::Pong { nonce: nonce() },
        Some(SessionRequest::Pong { .. }) => SessionRequest::Echo { nonce: Some(nonce()) },
        Some(SessionRequest::Echo { .. }) => SessionRequest::Echoed { nonce: Some(nonce()) },
        Some(SessionRequest::Echoed { .. }) => SessionRequest::Ack { seq: 7 },
        Some(SessionRequest::Ack { .. }) => SessionRequest::List(ListQuery::default()),
        Some(SessionRequest::List(_)) => {
            SessionRequest::ListSessions(SessionQuery { after: Some(id("sess_0")), limit: Some(7) })
        }
        Some(SessionRequest::ListSessions(_)) => {
            SessionRequest::ListSchedules(ScheduleQuery { after: Some(id("s")), everybody: true, limit: Some(7) })
        }
        Some(SessionRequest::ListSchedules(_)) => SessionRequest::ListCheckpoints { job: id("job_1") },
        Some(SessionRequest::ListCheckpoints { .. }) => SessionRequest::AwaitPrompt,
        Some(SessionRequest::AwaitPrompt) => fetch_of(None),
        Some(SessionRequest::AboutArtifacts(ArtifactWish::Fetch { range: None, .. })) => {
            fetch_of(Some(ByteRange { offset: 3, length: 5 }))
        }
        Some(SessionRequest::AboutArtifacts(ArtifactWish::Fetch { range: Some(_), .. })) => {
            let (digest, data) = (BlobDigest::of(b"abc"), b"c".to_vec());
            SessionRequest::AboutArtifacts(ArtifactWish::Part(ArtifactPart { digest, size: 3, offset: 2, data }))
        }
        Some(SessionRequest::AboutArtifacts(ArtifactWish::Part(_))) => {
            SessionRequest::AboutArtifacts(ArtifactWish::Abandon(BlobDigest::of(b"abc")))
        }
        Some(SessionRequest::AboutArtifacts(ArtifactWish::Abandon(_))) => {
            let query = ArtifactQuery { after: Some(id("art_0")), job: Some(id("job_1")), limit: Some(7) };
            SessionRequest::AboutArtifacts(ArtifactWish::List(query))
        }
        Some(SessionRequest::AboutArtifacts(ArtifactWish::List(_))) => {
            SessionRequest::Replay(Replay { after: Some(id("m")), checkpoint: Some(id("chk_1")), open_streams: true })
        }
        Some(SessionRequest::Replay(_)) => {
            SessionRequest::Pace { stream: id("str_1"), every: Some(Duration::from_millis(500)) }
        }
        Some(SessionRequest::Pace { .. }) => SessionRequest::Extension(Extension {
            kind: "arcpx.test.note".into(),
            payload: Json::empty_object(),
            optional: true,
        }),
        Some(SessionRequest::Extension(_)) => SessionRequest::Ignored,
        Some(SessionRequest::Ignored) => return None,
    })
}

fn fetch_of(range: Option<ByteRange>) -> SessionRequest {
    SessionRequest::AboutArtifacts(ArtifactWish::Fetch { id: WireId::new("art_1").expect("an id"), range })
}

/// The command after this one; likewise.
fn command_after(before: Option<&Command>) -> Option<Command> {
    let id = |text| WireId::new(text).expect("an id");
    let answer = |prompt, answer| Command::Answer(Answering { prompt: id(prompt), answer });
    let lease = "lease_01ARZ3NDEKTSV4RRFFQ69G5FAV_1";
    Some(match before {
        None => {
            let submit = Submit::new(AgentRef::parse("echo").expect("a name"));
            Command::Submit(Submit { input: Some(Json::empty_object()), ..submit }, Invocation::default())
        }
        Some(Command::Submit(..)) => Command::cancel(id("job_1"), Some("r".into())),
        Some(Command::Cancel(_)) => Command::Watch(Watch { job: id("job_1"), after: Some(3), history: Some(true) }),
        Some(Command::Watch(_)) => Command::Unwatch { job: id("job_1") },
        Some(Command::Unwatch { .. }) => Command::Subscribe(Subscribe { filter: a_filter(), since: None }),
        Some(Command::Subscribe(_)) => Command::Unsubscribe { subscription: id("sub_1") },
        Some(Command::Unsubscribe { .. }) => {
            answer("prm_01ARZ3NDEKTSV4RRFFQ69G5FAV_1", PromptAnswer::Value(Json::null()))
        }
        Some(Command::Answer(Answering { answer: said, .. })) => match said {
            PromptAnswer::Value(_) => answer("msg_1", PromptAnswer::Choice("c".into())),
            PromptAnswer::Choice(_) => answer(
                "msg_1",
                PromptAnswer::Grant { lease_seconds: Some(60), resource: Some("/a".into()), once: true },
            ),
            PromptAnswer::Grant { .. } => answer("msg_1", PromptAnswer::Deny { reason: Some("r".into()) }),
            PromptAnswer::Deny { .. } => {
                answer(lease, PromptAnswer::Extend { seconds: NonZeroU32::MIN, from_end: true })
            }
            PromptAnswer::Extend { .. } => answer(lease, PromptAnswer::Revoke { reason: Some("r".into()) }),
            PromptAnswer::Revoke { .. } => Command::Evict(Eviction { session: id("sess_2"), reason: Some("r".into()) }),
        },
        Some(Command::Evict(_)) => {
            Command::Interrupt(Interrupt { target: Target::Job(id("job_1")), prompt: "why?".into() })
        }
        Some(Command::Interrupt(_)) => stream(StreamSaid::Open(StreamTerms::new(StreamKind::Binary))),
        Some(Command::Stream(request)) if matches!(request.says, StreamSaid::Open(_)) => {
            stream(StreamSaid::chunk(0, b"ab", None))
        }
        Some(Command::Stream(request)) if matches!(request.says, StreamSaid::Chunk { .. }) => {
            stream(StreamSaid::Close { reason: Some("r".into()) })
        }
        Some(Command::Stream(request)) if matches!(request.says, StreamSaid::Close { .. }) => {
            stream(StreamSaid::Fail { code: ErrorCode::Cancelled, message: "m".into() })
        }
        Some(Command::Stream(_)) => Command::HandOver(HandOver {
            job: id("job_1"),
            to: Principal::new("bob"),
            session: Some(id("sess_2")),
            runtime: Some("wss://elsewhere/arcp".into()),
            fingerprint: Some("sha256:0b".into()),
            reason: Some("r".into()),
        }),
        Some(Command::HandOver(_)) => Command::PutArtifact(PutArtifact {
            id: Some(id("art_1")),
            size: Some(3),
            digest: Some(BlobDigest::of(b"abc")),
            retain: Some(Duration::from_secs(60)),
            ..PutArtifact::new("text/plain".parse().expect("a type"), b"abc".to_vec())
        }),
        Some(Command::PutArtifact(_)) => Command::KeepParts(ArtifactTerms {
            id: Some(id("art_1")),
            retain: Some(Duration::from_secs(60)),
            ..ArtifactTerms::new("text/plain".parse().expect("a type"), 3, BlobDigest::of(b"abc"))
        }),
        Some(Command::KeepParts(_)) => Command::ReleaseArtifact { id: id("art_1") },
        Some(Command::ReleaseArtifact { .. }) => schedule_of(When::After(Duration::from_secs(60))),
        Some(Command::Schedule(wish)) => match wish.when {
            When::After(_) => schedule_of(When::At(AT)),
            When::At(_) => schedule_of(When::Every("DTSTART:20260101T000000Z\nRRULE:FREQ=DAILY".parse().expect("one"))),
            When::Every(_) => Command::ChangeSchedule(ScheduleChange { id: id("s"), paused: true }),
        },
        Some(Command::ChangeSchedule(_)) => {
            Command::CreateCheckpoint(CreateCheckpoint { job: id("job_1"), label: Some("l".into()) })
        }
        Some(Command::CreateCheckpoint(_)) => {
            Command::RestoreCheckpoint(RestoreCheckpoint { checkpoint: id("chk_1"), key: IdempotencyKey::new("k") })
        }
        Some(Command::RestoreCheckpoint(_)) => Command::IssueToken { job: id("job_1") },
        Some(Command::IssueToken { .. }) => Command::ExchangeToken(ExchangeToken { token: a_token(), after: Some(3) }),
        Some(Command::ExchangeToken(_)) => return None,
    })
}

fn schedule_of(when: When) -> Command {
    let mut job = ScheduledJob::new(AgentRef::parse("echo").expect("a name"));
    job.input = Some(Json::string("hi"));
    let (missed, overlap) = (Missed::All, Overlap::Queue);
    Command::Schedule(NewSchedule { id: WireId::new("s"), missed, overlap, ..NewSchedule::new(job, when) }.into())
}

fn a_token() -> JobToken {
    JobToken::new(JobId::from_ulid(Ulid::from_parts(AT.0, 1)), [7; 32])
}

fn a_filter() -> Filter {
    let list = |id: &str| alloc::vec![String::from(id)];
    Filter {
        sessions: list("sess_1"),
        traces: list("t"),
        types: list("log"),
        min_priority: Some(Priority::High),
        ..Filter::default()
    }
}

fn a_checkpoint() -> CheckpointRef {
    let id = |text: &str| WireId::new(text).expect("an id");
    let (label, created_at) = (Some("l".into()), Some(AT));
    CheckpointRef { id: id("chk_1"), job: id("job_1"), label, created_at, size: 3, asked_for: true }
}

fn a_schedule() -> ScheduleSummary {
    let id = |text: &str| WireId::new(text).expect("an id");
    ScheduleSummary {
        id: id("s"),
        principal: "alice".into(),
        agent: "echo".into(),
        times: Some(Times::Every("DTSTART:20260101T000000Z\nRRULE:FREQ=DAILY".parse().expect("one"))),
        missed: Missed::All,
        overlap: Overlap::Allow,
        created_at: Some(AT),
        paused: Some("why".into()),
        next: alloc::vec![AT],
        queued: 1,
        fired: 2,
        skipped: 3,
        last_at: Some(AT),
        last_job: Some(id("job_1")),
        last_refused: Some("no".into()),
    }
}

#[test]
fn every_request_is_read_as_it_was_written() {
    let of_sessions = successors(session_request_after(None), |before| session_request_after(Some(before)));
    let commands = successors(command_after(None), |before| command_after(Some(before)));
    let session = WireId::new("sess_1").expect("an id");
    for request in of_sessions.map(Request::from).chain(commands.map(Request::from)) {
        let to_send = RequestToSend {
            id: Ulid::from_parts(AT.0, 1),
            session: Some(&session),
            at: AT,
            request: &request,
            sidecars: false,
        };
        let families = [Family::Hello, Family::Open];
        let written: Vec<_> = families.map(|family| (family, write_request(family, &to_send))).into();
        for (family, text) in written.iter().filter_map(|(family, text)| Some((*family, text.as_ref()?))) {
            let header = Header::read(text).expect("a frame");
            assert_eq!((header.session.as_ref(), header.job.as_ref()), (Some(&session), request.job()), "{text}");
            let mut read =
                read_request(family, &header).unwrap_or_else(|why| panic!("{family:?} refuses {text}: {why}")).request;
            if let Request::Command(Command::Cancel(cancel)) = &mut read {
                // The open family has a default grace.
                cancel.deadline = None;
            }
            assert_eq!(read, request, "{family:?}: {text}");
        }
        let unwritten = matches!(request, Request::Session(SessionRequest::Ignored));
        assert_eq!(written.iter().all(|(_, text)| text.is_none()), unwritten, "no family has a word for {request:?}");
    }
}

/// The subject of the refusal of a request, in whatever form the client reads it.
fn refused_as(request: &Request) -> RefusedKind {
    match request {
        Request::Handshake(_) => RefusedKind::Session,
        Request::Session(request) => match request {
            SessionRequest::List(_) => RefusedKind::Listing,
            SessionRequest::Close { .. }
            | SessionRequest::Ping { .. }
            | SessionRequest::Pong { .. }
            | SessionRequest::Echo { .. }
            | SessionRequest::Echoed { .. }
            | SessionRequest::Ack { .. }
            | SessionRequest::ListSessions(_)
            | SessionRequest::ListSchedules(_)
            | SessionRequest::AboutArtifacts(_)
            | SessionRequest::ListCheckpoints { .. }
            | SessionRequest::AwaitPrompt
            | SessionRequest::Replay(_)
            | SessionRequest::Pace { .. }
            | SessionRequest::Extension(_)
            | SessionRequest::Ignored => RefusedKind::Frame,
        },
        Request::Command(command) => match command {
            Command::Submit(..) | Command::RestoreCheckpoint(_) => RefusedKind::Submit,
            Command::Cancel(_) => RefusedKind::Cancel,
            Command::Watch(_) | Command::ExchangeToken(_) => RefusedKind::Watch,
            Command::Unwatch { .. } => RefusedKind::Job,
            Command::Subscribe(_)
            | Command::Unsubscribe { .. }
            | Command::Answer(_)
            | Command::Evict(_)
            | Command::HandOver(_)
            | Command::PutArtifact(_)
            | Command::KeepParts(_)
            | Command::ReleaseArtifact { .. }
            | Command::Schedule(_)
            | Command::ChangeSchedule(_)
            | Command::Stream(_)
            | Command::CreateCheckpoint(_)
            | Command::IssueToken { .. }
            | Command::Interrupt(_) => RefusedKind::Frame,
        },
    }
}

#[test]
fn a_request_that_cannot_be_read_is_refused_as_one_that_can() {
    let of_sessions = successors(session_request_after(None), |before| session_request_after(Some(before)));
    let commands = successors(command_after(None), |before| command_after(Some(before)));
    for request in of_sessions.map(Request::from).chain(commands.map(Request::from)) {
        let to_send =
            RequestToSend { id: Ulid::from_parts(AT.0, 1), session: None, at: AT, request: &request, sidecars: false };
        for text in [Family::Hello, Family::Open].into_iter().filter_map(|family| write_request(family, &to_send)) {
            let header = Header::read(&text).expect("a frame");
            assert_eq!(Subject::from_header(&header).kind, refused_as(&request), "{text}");
        }
    }
}

fn credential() -> ProvisionedCredential {
    let [id, scheme, endpoint] = ["cred_1", "bearer", "https://models.test/v1"].map(String::from);
    let (profile, constraints) = (Some("generic".into()), Some(Json::empty_object()));
    ProvisionedCredential { id, scheme, value: Secret::new("sk-secret".into()), endpoint, profile, constraints }
}

fn artifact() -> ArtifactRef {
    ArtifactRef {
        id: WireId::new("art_1").expect("an id"),
        session: SessionId::from_ulid(Ulid::from_parts(AT.0, 2)),
        media_type: "text/plain".parse().expect("a type"),
        size: 3,
        digest: BlobDigest::of(b"abc"),
        expires_at: AT,
    }
}

#[test]
fn what_is_said_of_an_artifact_is_read_as_it_was_written() {
    let stamp = Stamp { id: Ulid::from_parts(AT.0, 1), session: None, seq: None };
    let (data, request) = (b"abc".to_vec(), None);
    for said in [
        Reply::Command(CommandReply::Artifact { artifact: artifact(), request: request.clone() }),
        Reply::Session(SessionReply::Artifact(FetchedArtifact { artifact: artifact(), data, offset: 0, request })),
    ] {
        for family in [Family::Hello, Family::Open] {
            let view = View { family, ..View::before_handshake(false) };
            let text = write_reply(&view, stamp, &said).expect("a frame");
            let read = read_runtime_frame(family, &Header::read(&text).expect("a frame"), AT).expect("it makes sense");
            let RuntimeFrame::Reply { reply, .. } = read else { panic!("{read:?}") };
            assert_eq!(reply, said, "{text}");
        }
    }
}

/// The reply after this one; likewise.
fn reply_after(before: Option<&Reply>) -> Option<Reply> {
    let id = |text| WireId::new(text).expect("an id");
    let (job, request, text) = (id("job_1"), Some(id("m")), || String::from("t"));
    let lease = Json::empty_object();
    Some(match before {
        None => {
            let why = Violation::invalid("why");
            Reply::Refused(Refusal::new(RefusedKind::Submit, why, request))
        }
        Some(Reply::Refused(_)) => Reply::Handshake(HandshakeReply::Challenge(Challenge {
            nonce: text(),
            scheme: text(),
            expires_at: AT,
            request,
        })),
        Some(Reply::Handshake(HandshakeReply::Challenge(_))) => {
            Reply::Session(SessionReply::Closed { reason: None, request })
        }
        Some(Reply::Session(SessionReply::Closed { .. })) => {
            Reply::Session(SessionReply::Refresh { deadline: AT, deadline_ms: 1 })
        }
        Some(Reply::Session(SessionReply::Refresh { .. })) => {
            Reply::Session(SessionReply::Evicted { code: ErrorCode::Aborted, reason: text() })
        }
        Some(Reply::Session(SessionReply::Evicted { .. })) => {
            Reply::Session(SessionReply::Ping { nonce: text(), at: AT })
        }
        Some(Reply::Session(SessionReply::Ping { .. })) => {
            Reply::Session(SessionReply::Pong { nonce: text(), at: AT, request })
        }
        Some(Reply::Session(SessionReply::Pong { .. })) => Reply::Session(SessionReply::Echo { nonce: None, request }),
        Some(Reply::Session(SessionReply::Echo { .. })) => {
            Reply::Session(SessionReply::Done { detail: text(), request })
        }
        Some(Reply::Session(SessionReply::Done { .. })) => {
            Reply::Session(SessionReply::Jobs(JobPage { request, jobs: Vec::new(), next: None }))
        }
        Some(Reply::Session(SessionReply::Jobs(_))) => {
            Reply::Session(SessionReply::Sessions(SessionPage { request, sessions: Vec::new(), next: None }))
        }
        Some(Reply::Session(SessionReply::Sessions(_))) => Reply::Command(CommandReply::Accepted(Accepted {
            request,
            job,
            agent: text(),
            lease,
            constraints: Constraints { expires_at: Some(AT), budget_is_hard: true },
            budget: Budget::parse(["USD:1.50"]).expect("a budget"),
            trace: None,
            accepted_at: AT,
            parent: WireId::new("job_p"),
            delegate_id: WireId::new("del_1"),
            credentials: Vec::from([credential()]),
        })),
        Some(Reply::Command(CommandReply::Accepted(_))) => Reply::Command(CommandReply::CancelTaken {
            target: Target::Job(job),
            reason: None,
            deadline_ms: 1,
            request,
        }),
        Some(Reply::Command(CommandReply::CancelTaken { .. })) => Reply::Command(CommandReply::Watching(Watching {
            request,
            job,
            status: None,
            agent: text(),
            lease,
            constraints: Constraints { expires_at: Some(AT), budget_is_hard: true },
            budget: Budget::parse(["USD:1.50"]).expect("a budget"),
            parent: None,
            trace: None,
            from: 0,
            replayed: false,
        })),
        Some(Reply::Command(CommandReply::Watching(_))) => Reply::Session(SessionReply::Extension(Extension {
            kind: String::from("arcpx.test.note.v1"),
            payload: Json::empty_object(),
            optional: true,
        })),
        Some(Reply::Session(SessionReply::Extension(_))) => {
            Reply::Command(CommandReply::Artifact { artifact: artifact(), request })
        }
        Some(Reply::Command(CommandReply::Artifact { .. })) => {
            let data = b"abc".to_vec();
            Reply::Session(SessionReply::Artifact(FetchedArtifact { artifact: artifact(), data, offset: 0, request }))
        }
        Some(Reply::Session(SessionReply::Artifact(_))) => {
            let (digest, size, received) = (BlobDigest::of(b"abc"), 3, 2);
            Reply::Session(SessionReply::OfArtifacts(ArtifactAnswer::Received { digest, size, received, request }))
        }
        Some(Reply::Session(SessionReply::OfArtifacts(ArtifactAnswer::Received { .. }))) => {
            let job = Some(JobId::from_ulid(Ulid::from_parts(AT.0, 1)));
            let artifacts = alloc::vec![ListedArtifact { artifact: artifact(), job }];
            let page = ArtifactPage { request, artifacts, next: Some(id("art_1")) };
            Reply::Session(SessionReply::OfArtifacts(ArtifactAnswer::Page(page)))
        }
        Some(Reply::Session(SessionReply::OfArtifacts(ArtifactAnswer::Page(_)))) => {
            Reply::Command(CommandReply::Scheduled(Scheduled { id: id("s"), next: Some(AT), request }))
        }
        Some(Reply::Command(CommandReply::Scheduled(_))) => {
            let (schedules, next) = (alloc::vec![a_schedule()], Some(id("s")));
            Reply::Session(SessionReply::Schedules(SchedulePage { request, schedules, next }))
        }
        Some(Reply::Session(SessionReply::Schedules(_))) => {
            Reply::Command(CommandReply::Checkpoint { checkpoint: a_checkpoint(), request })
        }
        Some(Reply::Command(CommandReply::Checkpoint { .. })) => {
            let checkpoints = alloc::vec![a_checkpoint()];
            Reply::Session(SessionReply::Checkpoints(CheckpointList { request, job: id("job_1"), checkpoints }))
        }
        Some(Reply::Session(SessionReply::Checkpoints(_))) => {
            Reply::Command(CommandReply::Token(IssuedToken { token: a_token(), after: 3, request }))
        }
        // Openings, heartbeats of jobs, and subscriptions, which our client does not request, have
        // tests of their own.
        Some(
            Reply::Session(SessionReply::JobHeartbeat(_))
            | Reply::Handshake(HandshakeReply::Opened(_))
            | Reply::Command(
                CommandReply::Token(_) | CommandReply::Subscribed { .. } | CommandReply::Unsubscribed { .. },
            ),
        ) => return None,
    })
}

#[test]
fn every_answer_is_read_by_our_client() {
    let stamp = Stamp { id: Ulid::from_parts(AT.0, 1), session: None, seq: None };
    for reply in successors(reply_after(None), |before| reply_after(Some(before))) {
        for family in [Family::Hello, Family::Open] {
            let view = View { family, ..View::before_handshake(false) };
            let Some(text) = write_reply(&view, stamp, &reply) else { continue };
            let header = Header::read(&text).expect("a frame");
            let read = read_runtime_frame(family, &header, AT).expect("a frame that makes sense");
            assert!(matches!(read, RuntimeFrame::Reply { .. }), "{family:?}: nobody reads {text}: {read:?}");
        }
    }
}

#[test]
fn strict_readers_find_no_job_id_that_is_none_in_an_envelope() {
    let request = Request::from(Command::cancel(WireId::new("mine").expect("an id"), None));
    let to_send =
        RequestToSend { id: Ulid::from_parts(AT.0, 1), session: None, at: AT, request: &request, sidecars: false };
    let text = write_request(Family::Open, &to_send).expect("a frame");
    assert_eq!(Header::read(&text).expect("a frame").job, None, "{text}");
}

#[test]
fn a_frame_that_cannot_be_read_is_refused_as_what_it_asks_for() {
    for (kind, refused) in [
        ("job.submit", RefusedKind::Submit),
        ("tool.invoke", RefusedKind::Submit),
        ("job.cancel", RefusedKind::Cancel),
        ("cancel", RefusedKind::Cancel),
        ("job.subscribe", RefusedKind::Watch),
        ("job.unsubscribe", RefusedKind::Job),
        ("session.list_jobs", RefusedKind::Listing),
        ("session.authenticate", RefusedKind::Proof),
        ("session.ping", RefusedKind::Frame),
    ] {
        let text = alloc::format!(r#"{{"id":"m","type":"{kind}","job_id":"job_1","payload":5}}"#);
        let subject = Subject::from_refused(text.as_bytes());
        assert_eq!((subject.kind, subject.job), (refused, WireId::new("job_1")), "{text}");
    }
}

#[test]
fn a_job_is_handed_to_a_principal_by_name_alone_unless_more_is_said_of_the_target() {
    let target = |change: fn(&mut HandOver)| {
        let id = |text| WireId::new(text).expect("an id");
        let (job, to) = (id("job_1"), Principal::new("bob"));
        let mut wish = HandOver { job, to, session: None, runtime: None, fingerprint: None, reason: None };
        change(&mut wish);
        let request = Request::from(Command::HandOver(wish));
        let to_send =
            RequestToSend { id: Ulid::from_parts(AT.0, 1), session: None, at: AT, request: &request, sidecars: false };
        let text = write_request(Family::Open, &to_send).expect("a frame");
        let payload = crate::json::Members::parse(Header::read(&text).expect("a frame").payload).expect("an object");
        String::from(payload.get("target").expect("a target"))
    };
    assert_eq!(target(|_| {}), r#""bob""#);
    assert_eq!(target(|wish| wish.runtime = Some("wss://r".into())), r#"{"principal":"bob","runtime":"wss://r"}"#);
    assert_eq!(target(|wish| wish.to = None), "{}");
}

#[test]
fn a_refusal_that_cannot_be_placed_is_about_the_session() {
    let (request, job) = (WireId::new("m").expect("an id"), WireId::new("job_1").expect("an id"));
    let stamp = Stamp { id: Ulid::from_parts(AT.0, 1), session: None, seq: None };
    let told = |profile, kind, request: Option<&WireId>, job: Option<&WireId>| {
        let refusal = Refusal::new(kind, Violation::invalid("why"), request.cloned());
        let view = View { profile, ..View::before_handshake(false) };
        let text =
            write_reply(&view, stamp, &Reply::Refused(Refusal { job: job.cloned(), ..refusal })).expect("a frame");
        let header = Header::read(&text).expect("a frame");
        let payload = crate::json::Members::parse(header.payload).expect("an object");
        (String::from(header.kind.as_ref()), header.job.clone(), payload.get_str("request_id"))
    };
    let error = |kind: &str, job: Option<&WireId>, request: Option<&WireId>| {
        (String::from(kind), job.cloned(), request.map(|request| String::from(request.as_str())))
    };
    let (request, job) = (Some(&request), Some(&job));
    for (profile, kind, asked, named, expected) in [
        (Profile::JavaFSharp, RefusedKind::Watch, request, job, error("job.error", None, request)),
        (Profile::JavaFSharp, RefusedKind::Watch, None, job, error("session.error", job, None)),
        (Profile::Ruby1, RefusedKind::Watch, request, job, error("job.error", job, request)),
        (Profile::Ruby1, RefusedKind::Watch, None, job, error("job.error", job, None)),
        (Profile::Ruby1, RefusedKind::Watch, request, None, error("session.error", None, request)),
        (Profile::Ruby1, RefusedKind::Listing, request, None, error("session.error", None, request)),
        (Profile::Php2, RefusedKind::Watch, request, None, error("nack", None, request)),
    ] {
        assert_eq!(told(profile, kind, asked, named), expected, "{profile}: {kind:?}");
    }
    let (kind, fresh, asked) = told(Profile::TypeScript2, RefusedKind::Submit, None, None);
    assert!(kind == "job.error" && fresh.is_some() && asked.is_none(), "the end of a job that never was");
}

#[test]
fn a_result_in_pieces_is_named_to_who_reads_pieces_and_written_out_for_others() {
    let whole = Json::parse("[1]").expect("JSON");
    let result = JobResult::Streamed { result_id: "res_1".into(), size: Some(3), inline: Some(whole) };
    let event = JobEvent::Ended(Box::new(Terminal::success(Some(result), None)));
    for (features, named, inline) in
        [(Features::new(&[Feature::ResultChunk]), Some("res_1"), None), (Features::default(), None, Some("[1]"))]
    {
        let text = written(&View { features, ..View::before_handshake(false) }, &event);
        let header = Header::read(&text).expect("a frame");
        let payload = crate::json::Members::parse(header.payload).expect("an object");
        assert_eq!((payload.get_str("result_id").as_deref(), payload.get("result")), (named, inline), "{text}");
    }
}

#[test]
fn a_result_that_is_an_artifact_is_read_as_it_was_written_and_shown_to_who_knows_none() {
    let stored = shared::read_reference(
        &crate::json::Members::parse(
            r#"{"artifact_id":"art_1","uri":"arcp://session/sess_01ARZ3NDEKTSV4RRFFQ69G5FAV/artifact/art_1","media_type":"a/b",
                "size":3,"sha256":"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
                "expires_at":"2026-01-01T00:00:00Z"}"#,
        )
        .expect("an object"),
    );
    let stored = stored.expect("all of it");
    let ended = |result| JobEvent::Ended(Box::new(Terminal::success(Some(result), None)));
    let event = ended(JobResult::Stored(Box::new(stored.clone())));
    for family in [Family::Hello, Family::Open] {
        let text = written(&View { family, ..View::before_handshake(false) }, &event);
        let read = |text: &str| {
            let frame = read_runtime_frame(family, &Header::read(text).expect("a frame"), AT).expect("readable");
            let RuntimeFrame::Event { event, .. } = frame else { panic!("{frame:?}") };
            event
        };
        assert_eq!(read(&text), event, "{text}");
        let header = Header::read(&text).expect("a frame");
        let payload = crate::json::Members::parse(header.payload).expect("an object");
        let shown = payload.get("result");
        assert_eq!(shown, (family == Family::Hello).then(|| stored.as_result()).as_ref().map(Json::as_str), "{text}");
        // A reference that is not to an artifact of ours is shown unchanged.
        let odd = text.replace("\"size\":3,", "");
        let JobEvent::Ended(terminal) = read(&odd) else { panic!("{odd}") };
        let Some(JobResult::Inline(result)) = terminal.result else { panic!("{odd}") };
        assert!(result.as_str().contains("art_1"), "{result}");
    }
    // An invocation that is answered at once ends in the same way (RFC §6.3).
    let said = alloc::format!(
        r#"{{"id":"m","type":"tool.result","job_id":"job_1","payload":{{"result_ref":{}}}}}"#,
        stored.to_json()
    );
    let frame = read_runtime_frame(Family::Open, &Header::read(&said).expect("a frame"), AT);
    let Ok(RuntimeFrame::Event { event: JobEvent::Ended(terminal), .. }) = frame else { panic!("{frame:?}") };
    assert!(matches!(terminal.result, Some(JobResult::Stored(_))), "{terminal:?}");
}

#[test]
fn a_value_stands_under_both_published_names_up_to_a_size() {
    let view = View { family: Family::Open, ..View::before_handshake(false) };
    for (bytes, both) in [(shared::WRITTEN_TWICE, true), (shared::WRITTEN_TWICE + 1, false)] {
        let value = alloc::format!("\"{}\"", "x".repeat(bytes - 2));
        let result = JobResult::Inline(Json::parse(&value).expect("JSON"));
        let text = written(&view, &JobEvent::Ended(Box::new(Terminal::success(Some(result), None))));
        assert_eq!(text.matches(&value).count(), if both { 2 } else { 1 }, "{bytes} bytes");
    }
}

#[test]
fn views_that_render_events_differently_have_different_keys() {
    let profiles = || [Profile::Plain, Profile::Native].into_iter().chain(Profile::PUBLISHED);
    let mut keys = Vec::new();
    for (family, profile) in
        [Family::Hello, Family::Open].into_iter().flat_map(|family| profiles().map(move |p| (family, p)))
    {
        for offered in [
            &[][..],
            &[Feature::AgentVersions],
            &[Feature::ResultChunk],
            &[Feature::AgentVersions, Feature::ResultChunk],
            &[Feature::Sidecars],
        ] {
            let view = View { family, profile, features: Features::new(offered), ..View::before_handshake(false) };
            assert_eq!(view.render_key(), View { lines: true, ..view }.render_key());
            keys.push(view.render_key());
        }
    }
    let all = keys.len();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), all, "two views share what is rendered for one of them");
}

#[test]
fn a_type_that_a_filter_names_twice_is_asked_for() {
    let (log, metric) = (String::from("log"), String::from("metric"));
    let once = observed_types(&[log.clone(), metric.clone()]);
    assert_eq!(observed_types(&[log.clone(), metric, log]), once);
}

#[test]
fn lines_have_a_bound_and_may_end_as_on_windows() {
    let mut lines = Lines::new(3);
    lines.push(b"abc\nabc\r\nabcd\nab");
    let line = |bytes: &[u8]| Some(Line::Frame(bytes.to_vec()));
    for expected in [line(b"abc"), line(b"abc"), Some(Line::TooLong), None] {
        assert_eq!(lines.next_line(), expected);
    }
    lines.push(b"cd");
    assert_eq!(lines.next_line(), None, "the last byte may be that of the line end");
    lines.push(b"e");
    assert_eq!((lines.next_line(), lines.next_line()), (Some(Line::TooLong), None));
    lines.push(b"f\nabc\n");
    assert_eq!((lines.next_line(), lines.next_line()), (line(b"abc"), None));
}
