//! Every request to a client is answered, and every follower of a job is told of all its events, whatever happens to
//! the connection.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test names what it expects, and anything else fails")]

use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use arcp_host::client::{Answer, ClientError, ClientLoop, Command, DialError, Follower, JobUpdate, Transport, Welcome};
use arcp_host::framing::Framing;
use arcp_proto::client::{ClientConfig, SessionEnd};
use arcp_proto::id::WireId;
use arcp_proto::json::Json;
use arcp_proto::model::prompt::PromptAnswer;
use arcp_proto::model::reply::Watching;
use arcp_proto::model::request::{Answering, Credential, Extension, ListQuery, Watch};
use arcp_proto::secret::Secret;
use arcp_tests::server::submit;
use arcp_tests::until::until;
use serde_json::{Value, json};

/// Keeps what is written, and counts the rest.
#[derive(Default)]
struct Line {
    written: Vec<u8>,
    dialled: usize,
    hung_up: usize,
}

impl Transport for Line {
    fn dial(&mut self) {
        self.dialled += 1;
    }

    fn flush(&mut self, framing: &mut Framing) {
        self.written.append(framing.output());
    }

    fn hang_up(&mut self, _: Framing) {
        self.hung_up += 1;
    }
}

struct Client {
    calls: ClientLoop,
    line: Line,
    ready: Receiver<Result<Welcome, ClientError>>,
    /// Jobs that were handed over, or why none comes any more.
    taken: Receiver<Result<WireId, SessionEnd>>,
}

fn client(change: impl FnOnce(&mut ClientConfig)) -> Client {
    let ((tell, ready), (take, taken)) = (channel(), channel());
    let mut config = ClientConfig::new("c", "1", Credential::Bearer(Secret::new("t".into())));
    config.longest_pause = Duration::from_millis(5);
    change(&mut config);
    let ready_now = Box::new(move |welcome| drop(tell.send(welcome)));
    let taker = Box::new(move |came: Result<Watching, SessionEnd>| -> Option<Follower> {
        let _ = take.send(came.map(|watching| watching.job));
        None
    });
    let mut calls = ClientLoop::new(config, ready_now, |_| {}, taker).expect("it works");
    let mut line = Line::default();
    calls.tick(&mut line);
    assert_eq!(line.dialled, 1);
    Client { calls, line, ready, taken }
}

impl Client {
    /// One with a session.
    fn open(change: impl FnOnce(&mut ClientConfig)) -> Client {
        let mut client = client(change);
        client.connect();
        client.welcome();
        client.ready.try_recv().expect("it is ready").expect("it works");
        client
    }

    fn connect(&mut self) {
        self.calls.connected(Framing::lines(4096), &mut self.line);
    }

    fn welcome(&mut self) {
        let all = ["subscribe", "list_jobs", "result_chunk", "job_tokens", "handoff", "heartbeat", "ack"];
        let welcome = json!({"capabilities": {"features": all}, "resume_token": "again", "resume_window_sec": 600});
        self.hear("session.welcome", &welcome);
    }

    fn hear(&mut self, kind: &str, payload: &Value) {
        let frame = json!({"arcp": "1.1", "id": "m", "type": kind, "session_id": "s", "payload": payload});
        self.calls.received(format!("{frame}\n").as_bytes(), &mut self.line);
    }

    fn give(&mut self, command: Command) {
        self.calls.command(command, &mut self.line);
    }

    fn lose(&mut self) {
        self.calls.lost("it rains".into(), &mut self.line);
    }

    /// Waits until it connects once more.
    fn redial(&mut self) {
        let before = self.line.dialled;
        until("it tries again", || {
            self.calls.tick(&mut self.line);
            (self.line.dialled > before).then_some(())
        });
    }

    /// The last frame that was sent.
    fn last(&self) -> Value {
        let line = self.line.written.trim_ascii_end().rsplit(|byte| *byte == b'\n').next().expect("a frame");
        serde_json::from_slice(line).expect("JSON")
    }

    /// A job that runs; what is told of it.
    fn job(&mut self, name: &str) -> Receiver<JobUpdate> {
        let (follow, updates) = channel();
        let follower = Box::new(move |update| drop(follow.send(update)));
        let (answer, answered) = answer();
        self.give(Command::Submit(submit("echo", "{}"), None, follower, answer));
        let accepted = json!({"job_id": name, "request_id": self.last()["id"], "agent": "echo"});
        self.hear("job.accepted", &accepted);
        answered.try_recv().expect("an answer").expect("accepted");
        updates
    }
}

/// Why a command has failed, once it has.
type Failing = Box<dyn Fn() -> Option<ClientError>>;
type Said<T> = Receiver<Result<T, ClientError>>;

fn answer<T: 'static + Send>() -> (Answer<T>, Said<T>) {
    let (tell, told) = channel();
    (Box::new(move |result| drop(tell.send(result))), told)
}

fn id(name: &str) -> WireId {
    WireId::new(name).expect("an id")
}

/// What is said of each of these commands, once something is.
fn commands(client: &mut Client) -> Vec<(&'static str, Failing)> {
    fn failing<T: 'static>(said: Said<T>) -> Failing {
        Box::new(move || said.try_recv().ok().and_then(Result::err))
    }
    let follower = || -> Follower { Box::new(|_| {}) };
    let mut all = Vec::new();
    macro_rules! give {
        ($name:literal, $($command:tt)*) => {{
            let (answer, said) = answer();
            let make = $($command)*;
            client.give(make(answer));
            all.push(($name, failing(said)));
        }};
    }
    give!("submit", |answer| Command::Submit(submit("echo", "{}"), None, follower(), answer));
    give!("watch", |answer| Command::Watch(Watch { job: id("job_1"), after: None, history: None }, follower(), answer));
    give!("list", |answer| Command::List(ListQuery::default(), answer));
    give!("cancel", |answer| Command::Cancel(id("job_1"), None, None, answer));
    give!("answer", |answer| {
        Command::Answer(Answering { prompt: id("p"), answer: PromptAnswer::Value(json_of("{}")) }, answer)
    });
    give!("await", |answer| Command::AwaitPrompt(answer));
    give!("interrupt", |answer| Command::Interrupt(id("job_1"), "go".into(), answer));
    give!("token", |answer| Command::IssueToken(id("job_1"), answer));
    give!("fetch", |answer| Command::FetchArtifact(id("art_1"), None, answer));
    give!("release", |answer| Command::ReleaseArtifact(id("art_1"), answer));
    give!("checkpoints", |answer| Command::Checkpoints(id("job_1"), answer));
    give!("echo", |answer| Command::Echo(None, answer));
    all
}

fn json_of(text: &str) -> Json {
    Json::parse(text).expect("JSON")
}

#[test]
fn before_there_is_a_session_nothing_can_be_asked() {
    let mut client = client(|_| {});
    for (name, said) in commands(&mut client) {
        assert!(matches!(said(), Some(ClientError::Misuse(_))), "{name}");
    }
}

#[test]
fn whoever_waits_for_an_answer_is_told_that_none_comes() {
    let mut client = Client::open(|config| config.give_up_after = Some(Duration::ZERO));
    let waiting = commands(&mut client);
    let updates = client.job("job_1");
    client.lose();
    assert!(client.calls.is_over());
    let mut waited = 0;
    for (name, said) in waiting {
        match said() {
            Some(ClientError::Ended(SessionEnd::Lost(why))) => {
                assert_eq!(why, "it rains", "{name}");
                waited += 1;
            }
            // What hello has no request for is refused at once.
            Some(ClientError::Misuse(_)) => {}
            other => panic!("{name}: {other:?}"),
        }
    }
    assert!(waited >= 4, "{waited}");
    assert!(matches!(updates.try_recv(), Ok(JobUpdate::Lost(SessionEnd::Lost(why))) if why == "it rains"));
    assert_eq!(client.taken.try_recv().expect("it is told"), Err(SessionEnd::Lost("it rains".into())));
    assert_eq!(client.line.hung_up, 1);
}

#[test]
fn a_lost_connection_is_told_to_whoever_follows_and_so_is_what_the_runtime_said_before() {
    let mut client = Client::open(|_| {});
    let updates = client.job("job_1");
    client.hear("session.error", &json!({"code": "INTERNAL_ERROR", "message": "the disk is full"}));
    client.lose();
    let Ok(JobUpdate::Reconnecting { attempt: 1, after, why }) = updates.try_recv() else { panic!("it was told") };
    assert_eq!(why, "it rains: the disk is full");
    assert!(client.calls.next_wait().is_some_and(|wait| wait <= after + Duration::from_millis(1)));
    client.lose();
    assert!(updates.try_recv().is_err(), "there is nothing to lose");
    assert!(client.calls.framing().is_none());
    client.redial();
    client.connect();
    assert_eq!(client.last()["payload"]["resume"]["resume_token"], "again", "{}", client.last());
    client.welcome();
    assert!(matches!(updates.try_recv(), Ok(JobUpdate::Reconnected { resumed: true })));
    client.lose();
    let Ok(JobUpdate::Reconnecting { why, .. }) = updates.try_recv() else { panic!("it was told") };
    assert_eq!(why, "it rains", "that was said before");
}

#[test]
fn a_frame_that_is_too_long_ends_the_connection_and_one_that_comes_without_one_is_nobody_s() {
    let mut client = Client::open(|_| {});
    let updates = client.job("job_1");
    client.calls.received(format!("{}\n", "x".repeat(5000)).as_bytes(), &mut client.line);
    let Ok(JobUpdate::Reconnecting { why, .. }) = updates.try_recv() else { panic!("it was told") };
    assert_eq!((why.as_str(), client.line.hung_up), ("the server sent a message that is too long", 1));
    client.hear("job.event", &json!({"job_id": "job_1", "kind": "status", "body": {"phase": "p"}}));
    assert!(updates.try_recv().is_err());
}

#[test]
fn a_job_is_followed_until_nobody_wants_that_or_it_is_shown_no_more() {
    let said = json!({"job_id": "job_1", "kind": "status", "body": {"phase": "p"}});
    let mut client = Client::open(|_| {});
    let (first, second) = (client.job("job_1"), client.job("job_2"));
    client.hear("job.event", &said);
    assert!(matches!(first.try_recv(), Ok(JobUpdate::Event { .. })) && second.try_recv().is_err());
    client.give(Command::Unwatch(id("job_1")));
    client.hear("job.event", &said);
    assert!(first.try_recv().is_err());
    client.hear("session.error", &json!({"code": "JOB_NOT_FOUND", "message": "no", "job_id": "job_2"}));
    match second.try_recv() {
        Ok(JobUpdate::Gone(refusal)) => assert_eq!(refusal.message, "no"),
        other => panic!("{other:?}"),
    }
    assert!(second.try_recv().is_err());
}

#[test]
fn the_end_of_a_job_is_the_answer_to_whoever_has_cancelled_it_and_to_nobody_else() {
    let mut client = Client::open(|_| {});
    let updates = client.job("job_1");
    let ((cancel, cancelled), (other, waits)) = (answer(), answer());
    client.give(Command::Cancel(id("job_1"), None, None, cancel));
    client.give(Command::Cancel(id("job_2"), None, None, other));
    let end = json!({"job_id": "job_1", "code": "CANCELLED", "message": "m", "final_status": "cancelled"});
    let frame = json!({
        "arcp": "1.1", "id": "m", "type": "job.error", "session_id": "s", "job_id": "job_1", "event_seq": 1,
        "payload": end,
    });
    client.calls.received(format!("{frame}\n").as_bytes(), &mut client.line);
    let told: Vec<JobUpdate> = updates.try_iter().collect();
    assert!(matches!(told.last(), Some(JobUpdate::Ended { .. })), "{told:?}");
    assert!(matches!(cancelled.try_recv(), Ok(Ok(()))) && waits.try_recv().is_err());
}

#[test]
fn whoever_leaves_has_the_claim_to_its_session_and_whoever_closes_says_so() {
    let mut leaves = Client::open(|_| {});
    assert!(!leaves.calls.is_over() && leaves.calls.framing().is_some());
    let claim = leaves.calls.leave().expect("a claim");
    assert_eq!((claim.token.expose(), claim.session), ("again", Some(id("s"))));
    assert!(leaves.calls.is_over());
    leaves.calls.hang_up(&mut leaves.line);
    assert_eq!(leaves.line.hung_up, 1);
    leaves.calls.hang_up(&mut leaves.line);
    assert_eq!(leaves.line.hung_up, 1);

    let mut closes = Client::open(|_| {});
    closes.calls.close(&mut closes.line);
    assert_eq!(closes.last()["type"], "session.close", "{}", closes.last());
    assert!(!closes.calls.is_over(), "until it is answered");

    let mut early = client(|_| {});
    early.calls.close(&mut early.line);
    assert!(early.calls.is_over());
    assert!(early.calls.leave().is_none());
}

#[test]
fn a_server_that_is_not_to_be_trusted_is_asked_once_before_there_is_a_session_and_again_after() {
    let said = |why: DialError| {
        let mut client = client(|_| {});
        client.calls.connect_failed(why, &mut client.line);
        (client.calls.is_over(), client.ready.try_recv().ok().map(|said| said.expect_err("refused").to_string()))
    };
    assert_eq!(said(DialError::Untrusted("who?".into())), (true, Some("who?".into())));
    assert_eq!(said(DialError::NotTaken("what?".into())), (true, Some("what?".into())));
    assert_eq!(said(DialError::NotServed("how?".into())), (true, Some("how?".into())));
    assert_eq!(said(DialError::Failed("where?".into())), (false, None));
    for why in [DialError::Untrusted, DialError::NotTaken, DialError::NotServed, DialError::Failed] {
        let mut client = Client::open(|_| {});
        let updates = client.job("job_1");
        client.lose();
        assert!(matches!(updates.try_recv(), Ok(JobUpdate::Reconnecting { attempt: 1, .. })));
        client.redial();
        client.calls.connect_failed(why("no".into()), &mut client.line);
        assert!(!client.calls.is_over());
        assert!(matches!(updates.try_recv(), Ok(JobUpdate::Reconnecting { attempt: 2, .. })));
    }
}

#[test]
fn what_one_family_has_alone_is_refused_in_the_other() {
    let mut client = Client::open(|_| {});
    let (send, sent) = answer();
    let message = Extension { kind: "x-vendor.a.b".into(), payload: json_of("{}"), optional: true };
    client.give(Command::Send(message, send));
    assert!(matches!(sent.try_recv(), Ok(Err(ClientError::Misuse(_)))));
}
