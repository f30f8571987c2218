//! Our client in the virtual world: it survives faults of the network.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test names what it expects, and anything else fails")]

use std::time::Duration;

use arcp_proto::client::{
    Client, ClientConfig, ClientEvent, ClientInput, ClientOutput, Handle, ResultData, SessionEnd,
};
use arcp_proto::entropy::Seeds;
use arcp_proto::error::{ApiMisuse, ErrorCode};
use arcp_proto::id::{JobId, WireId};
use arcp_proto::json::Json;
use arcp_proto::model::agent::AgentRef;
use arcp_proto::model::event::{JobError, JobEvent};
use arcp_proto::model::job::FinalStatus;
use arcp_proto::model::request::{Credential, ListQuery, Submit, Watch};
use arcp_proto::runtime::{AgentExit, Input};
use arcp_proto::secret::Secret;
use arcp_proto::time::{Now, Timestamp, UtcMs};
use arcp_proto::wire::Family;
use arcp_tests::world::{Options, World};
use serde_json::{Value, json};

const FAMILIES: [Family; 2] = [Family::Hello, Family::Open];

fn submit(agent: &str, input: &str) -> Submit {
    Submit { input: Some(Json::parse(input).expect("JSON")), ..Submit::new(AgentRef::parse(agent).expect("a name")) }
}

fn accepted(event: &ClientEvent) -> bool {
    matches!(event, ClientEvent::Accepted { .. })
}

fn ended(event: &ClientEvent) -> bool {
    matches!(event, ClientEvent::JobEnded { .. })
}

fn give(world: &mut World, client: usize, submit: Submit) -> WireId {
    let handle = world.command(client, |c| c.session().and_then(|mut s| s.submit(submit))).expect("accepted");
    let told = world.until(client, |event| matches!(event, ClientEvent::Submitted { handle: h, .. } if *h == handle));
    match told {
        ClientEvent::Submitted { accepted, .. } => accepted.job,
        other => panic!("{other:?}"),
    }
}

/// The values of the metrics a client was told of.
fn values(world: &World, client: usize) -> Vec<u64> {
    let value = |event: &ClientEvent| match event {
        ClientEvent::Job { event: JobEvent::Emitted { body, .. }, .. } => {
            body.members().ok()?.get("value")?.parse::<u64>().ok()
        }
        _ => None,
    };
    world.events(client).iter().filter_map(value).collect()
}

#[test]
fn nothing_can_be_submitted_before_the_session_is_accepted() {
    for family in FAMILIES {
        let mut world = World::of(family, 1);
        let client = world.add_client("a");
        assert_eq!(world.command(client, |c| c.session().err()), Some(ApiMisuse::NotAccepted));
        world.until(client, accepted);
        let job = give(&mut world, client, submit("echo", r#"{"n":1.50}"#));
        let end = world.until(client, ended);
        let ClientEvent::JobEnded { job: of, result, terminal, .. } = end else { panic!("an end") };
        assert_eq!((of, terminal.status), (job, FinalStatus::Success));
        assert_eq!(result, ResultData::Inline(Json::parse(r#"{"n":1.50}"#).expect("JSON")));
        world.finish();
    }
}

#[test]
fn a_connection_cut_anywhere_is_resumed_without_gap_or_duplicate() {
    for family in FAMILIES {
        for seed in 0..40 {
            let mut world = World::of(family, seed);
            let client = world.add_client("a");
            world.until(client, accepted);
            give(&mut world, client, submit("chatty", r#"{"count":80}"#));
            for _ in 0..3 {
                for _ in 0..world.below(150) {
                    world.step();
                }
                if let Some(conn) = world.conn_of(client) {
                    world.cut(conn);
                }
            }
            world.until(client, ended);
            assert_eq!(values(&world, client), (0..80).collect::<Vec<_>>(), "seed {seed}");
            assert_eq!(world.events(client).iter().filter(|e| ended(e)).count(), 1);
            world.finish();
        }
    }
}

#[test]
fn a_submit_without_an_answer_is_given_again_and_runs_once() {
    for family in FAMILIES {
        for seed in 0..30 {
            let mut world = World::of(family, seed);
            let client = world.add_client("a");
            world.until(client, accepted);
            let given = world.command(client, |c| c.session().and_then(|mut s| s.submit(submit("echo", "1"))));
            given.expect("a handle");
            for _ in 0..world.below(8) {
                world.step();
            }
            if let Some(conn) = world.conn_of(client) {
                world.cut(conn);
            }
            world.until(client, ended);
            let started = world.notices.iter().filter(|n| matches!(n, arcp_proto::runtime::Notice::JobAccepted { .. }));
            assert_eq!(started.count(), 1, "seed {seed}");
            world.finish();
        }
    }
}

#[test]
fn an_acceptance_that_comes_again_is_not_that_of_the_next_submit() {
    for family in FAMILIES {
        for seed in 0..60 {
            let mut world = World::of(family, seed);
            let client = world.add_client("a");
            world.until(client, accepted);
            let given = world.command(client, |c| c.session().and_then(|mut s| s.submit(submit("echo", "1"))));
            let first = given.expect("a handle");
            for _ in 0..world.below(8) {
                world.step();
            }
            if let Some(conn) = world.conn_of(client) {
                world.cut(conn);
            }
            // It may be accepted twice: as it was before the cut, and as it was given again.
            let taken = |world: &mut World, asked| {
                let told =
                    |event: &ClientEvent| matches!(event, ClientEvent::Submitted { handle, .. } if *handle == asked);
                let ClientEvent::Submitted { accepted, .. } = world.until(client, told) else {
                    panic!("an acceptance")
                };
                accepted
            };
            let first = taken(&mut world, first);
            let given = world.command(client, |c| c.session().and_then(|mut s| s.submit(submit("slow", "{}"))));
            let second = taken(&mut world, given.expect("a handle"));
            assert_ne!(first.job, second.job, "{family:?}, seed {seed}");
            assert!(second.agent.starts_with("slow"), "{family:?}, seed {seed}: {}", second.agent);
            let of_second =
                |event: &ClientEvent| matches!(event, ClientEvent::JobEnded { job, .. } if *job == second.job);
            world.until(client, of_second);
            assert_eq!(world.events(client).iter().filter(|e| ended(e)).count(), 2);
            world.finish();
        }
    }
}

#[test]
fn when_the_session_is_gone_its_jobs_are_brought_to_a_new_one() {
    for family in FAMILIES {
        let mut options = Options::new(4);
        options.config.timing.resume_window = Duration::from_secs(5);
        let mut world = World::new(options);
        world.family = family;
        let client = world.add_client("a");
        world.until(client, accepted);
        let job = give(&mut world, client, submit("slow", r#"{"ticks":300}"#));
        world.run_for(Duration::from_secs(2));
        world.unplug(client, true);
        let conn = world.conn_of(client).expect("connected");
        world.cut(conn);
        world.run_for(Duration::from_secs(8));
        world.unplug(client, false);
        world.until(client, ended);
        let currents: Vec<u64> = world
            .events(client)
            .iter()
            .filter_map(|event| match event {
                ClientEvent::Job { event: JobEvent::Emitted { body, .. }, .. } => {
                    body.members().ok()?.get("current")?.parse().ok()
                }
                _ => None,
            })
            .collect();
        assert_eq!(currents, (1..=300).collect::<Vec<_>>(), "from where it was left");
        let fresh = world.events(client).iter().filter(|e| matches!(e, ClientEvent::Accepted { resumed: false, .. }));
        assert_eq!(fresh.count(), 2);
        let again = world.events(client).iter().filter(|e| matches!(e, ClientEvent::Submitted { .. })).count();
        assert_eq!(again, 1, "{job} was not submitted as another job");
        world.finish();
    }
}

#[test]
fn what_is_no_longer_kept_when_a_client_comes_back_is_said_and_the_rest_follows() {
    for family in FAMILIES {
        let mut options = Options::new(14);
        options.config.timing.resume_window = Duration::from_secs(5);
        options.config.limits.history.kept_job_events = 64;
        let mut world = World::new(options);
        world.family = family;
        let client = world.add_client("a");
        world.until(client, accepted);
        give(&mut world, client, submit("slow", r#"{"ticks":600}"#));
        world.run_for(Duration::from_secs(2));
        world.unplug(client, true);
        let conn = world.conn_of(client).expect("connected");
        world.cut(conn);
        world.run_for(Duration::from_secs(30));
        world.unplug(client, false);
        world.until(client, ended);
        let mut expected = 1;
        for event in world.events(client) {
            match event {
                ClientEvent::Missed { events, .. } => expected += events,
                ClientEvent::Job { event: JobEvent::Emitted { body, .. }, .. } => {
                    let current: Option<u64> = body.members().ok().and_then(|body| body.get("current")?.parse().ok());
                    let Some(current) = current else { continue };
                    assert_eq!(expected, current, "{family:?}: what is missing is said");
                    expected = current + 1;
                }
                _ => {}
            }
        }
        let missed = world.events(client).iter().filter(|event| matches!(event, ClientEvent::Missed { .. })).count();
        assert_eq!((expected, missed), (601, 1), "{family:?}");
        world.finish();
    }
}

#[test]
fn what_is_refused_reaches_whoever_asked() {
    for family in FAMILIES {
        let mut world = World::of(family, 5);
        let client = world.add_client("a");
        world.until(client, accepted);
        let refused =
            |event: &ClientEvent, of| matches!(event, ClientEvent::Refused { handle: Some(h), .. } if *h == of);
        let nobody =
            world.command(client, |c| c.session().and_then(|mut s| s.submit(submit("nobody", "1")))).expect("given");
        let told = world.until(client, |event| refused(event, nobody));
        let ClientEvent::Refused { refusal, .. } = told else { panic!("a refusal") };
        assert_eq!(refusal.code, ErrorCode::AgentNotAvailable);
        let job = WireId::new("job_unknown").expect("an id");
        let watch = Watch { job: job.clone(), after: None, history: Some(true) };
        let watching = world.command(client, |c| c.session().and_then(|mut s| s.watch(watch))).expect("given");
        world.until(client, |event| refused(event, watching));
        let cancelling = world.command(client, |c| c.session().and_then(|mut s| s.cancel(job, None))).expect("given");
        world.until(client, |event| refused(event, cancelling));
        world.finish();
    }
}

#[test]
fn a_missing_number_is_noticed_and_brought() {
    let mut world = World::seeded(6);
    let client = world.add_client("a");
    world.until(client, accepted);
    let session = match world.events(client).iter().find(|e| accepted(e)) {
        Some(ClientEvent::Accepted { session, .. }) => session.clone(),
        _ => panic!("no session"),
    };
    give(&mut world, client, submit("waiter", "1"));
    world.settle();
    let frame = format!(
        r#"{{"arcp":"1.1","id":"msg_x","type":"job.event","session_id":"{session}","job_id":"job_x","event_seq":3,"payload":{{"kind":"log","ts":"2026-01-01T00:00:00Z","body":{{"level":"info","message":"m"}}}}}}"#
    );
    let now = world.now();
    world.command(client, |c: &mut Client| {
        c.handle(now, arcp_proto::client::ClientInput::Received { frame: frame.into_bytes() });
    });
    let told = world.until(client, |event| matches!(event, ClientEvent::Reconnecting { .. }));
    let ClientEvent::Reconnecting { why, .. } = told else { panic!("a reason") };
    assert!(why.contains("missing"), "{why}");
    world.until(client, |event| matches!(event, ClientEvent::Accepted { resumed: true, .. }));
    world.finish();
}

#[test]
fn pings_keep_an_idle_connection_alive() {
    for family in FAMILIES {
        let mut world = World::of(family, 7);
        let client = world.add_client("a");
        world.until(client, accepted);
        let now = world.now();
        let deadline = world.command(client, |c| c.next_deadline()).expect("a heartbeat is due");
        assert!((29..=30).contains(&deadline.0.since(now.mono).as_secs()));
        world.run_for(Duration::from_secs(300));
        let lost = world.events(client).iter().any(|e| matches!(e, ClientEvent::Reconnecting { .. }));
        assert!(!lost, "pings keep an idle connection alive on both sides");
        world.finish();
    }
}

#[test]
fn a_credential_that_is_not_accepted_ends_it_at_once() {
    for family in FAMILIES {
        let mut world = World::of(family, 8);
        let credential = Credential::Bearer(Secret::new("wrong".into()));
        let config = ClientConfig { family, ..ClientConfig::new("c", "1", credential) };
        let client = world.add_client_with(config);
        let told = world.until(client, |event| matches!(event, ClientEvent::Ended(_)));
        assert!(
            matches!(told, ClientEvent::Ended(SessionEnd::Denied(refusal)) if refusal.code == ErrorCode::Unauthenticated)
        );
        assert_eq!(world.command(client, |c| c.session().err()), Some(ApiMisuse::Ended));
        world.finish();
    }
}

#[test]
fn a_runtime_that_never_comes_back_is_given_up() {
    let mut world = World::seeded(9);
    let mut config = ClientConfig::new("c", "1", Credential::Bearer(Secret::new("tok-a".into())));
    config.give_up_after = Some(Duration::from_secs(20));
    let client = world.add_client_with(config);
    world.until(client, accepted);
    world.unplug(client, true);
    let conn = world.conn_of(client).expect("connected");
    world.cut(conn);
    let told = world.until(client, |event| matches!(event, ClientEvent::Ended(_)));
    assert!(matches!(told, ClientEvent::Ended(SessionEnd::Lost(_))));
    let seconds = world.now().mono.0 / 1_000_000;
    assert!((10..=20).contains(&seconds), "{seconds}");
    let pauses: Vec<u128> = world
        .events(client)
        .iter()
        .filter_map(|event| match event {
            ClientEvent::Reconnecting { after, .. } => Some(after.as_millis()),
            _ => None,
        })
        .collect();
    assert!(pauses.len() > 5 && pauses[0] <= 100 && pauses.iter().all(|ms| *ms <= 5000), "{pauses:?}");
}

#[test]
fn close_ends_the_session_and_no_job() {
    for family in FAMILIES {
        let mut world = World::of(family, 10);
        let client = world.add_client("a");
        world.until(client, accepted);
        give(&mut world, client, submit("slow", "{}"));
        world.command(client, |c| c.session().and_then(|mut s| s.close(None))).expect("given");
        let told = world.until(client, |event| matches!(event, ClientEvent::Ended(_)));
        assert_eq!(told, ClientEvent::Ended(SessionEnd::Closed));
        let other = world.add_client("a");
        world.until(other, accepted);
        world.command(other, |c| c.session().and_then(|mut s| s.list(ListQuery::default()))).expect("given");
        let page = world.until(other, |event| matches!(event, ClientEvent::Jobs { .. }));
        assert!(matches!(page, ClientEvent::Jobs { page, .. } if page.jobs.len() == 1));
        world.finish();
    }
}

#[test]
fn pieces_are_put_together_over_a_cut() {
    for family in FAMILIES {
        for seed in 0..10 {
            let mut world = World::of(family, seed);
            let client = world.add_client("a");
            world.until(client, accepted);
            give(&mut world, client, submit("chunker", r#"{"chunks":20,"bytes":500}"#));
            for _ in 0..world.below(60) {
                world.step();
            }
            if let Some(conn) = world.conn_of(client) {
                world.cut(conn);
            }
            let end = world.until(client, ended);
            let ClientEvent::JobEnded { result: ResultData::Streamed { bytes, text }, .. } = end else {
                panic!("{end:?}")
            };
            assert!(text && bytes.len() == 10_000);
            assert!(bytes.iter().enumerate().all(|(at, b)| *b == b'a' + (at % 26) as u8));
            world.finish();
        }
    }
}

#[test]
fn our_client_acknowledges_what_it_has_processed() {
    for family in FAMILIES {
        let mut world = World::of(family, 11);
        let client = world.add_client("a");
        world.until(client, accepted);
        give(&mut world, client, submit("chatty", r#"{"count":200}"#));
        world.until(client, ended);
        world.run_for(Duration::from_secs(3));
        // The acceptance has a number in the open family.
        let last = if family == Family::Open { 203 } else { 202 };
        let recording = world.finish();
        let acks: Vec<u64> = recording
            .lines()
            .filter(|line| line.contains("session.ack"))
            .filter_map(|line| {
                line.split("last_processed_seq").nth(1)?.split(|c: char| c.is_ascii_digit()).next().map(|_| line)
            })
            .filter_map(|line| {
                let rest = line.split("last_processed_seq").nth(1)?;
                rest.chars()
                    .skip_while(|c| !c.is_ascii_digit())
                    .take_while(char::is_ascii_digit)
                    .collect::<String>()
                    .parse()
                    .ok()
            })
            .collect();
        assert_eq!(acks.last(), Some(&last), "{acks:?}");
        assert!(acks.len() >= 3 && acks.windows(2).all(|pair| pair[0] < pair[1]));
    }
}

#[test]
fn commands_have_a_bound() {
    let mut world = World::seeded(12);
    let mut config = ClientConfig::new("c", "1", Credential::Bearer(Secret::new("tok-a".into())));
    config.limits.pending = 2;
    let client = world.add_client_with(config);
    world.until(client, accepted);
    let mut list = || world.command(client, |c| c.session().and_then(|mut s| s.list(ListQuery::default())));
    assert!(list().is_ok() && list().is_ok());
    assert_eq!(list().err(), Some(ApiMisuse::TooManyPending { limit: 2 }));
    world.finish();
}

#[test]
fn every_code_reaches_the_client_as_it_was_given() {
    let codes = [
        ErrorCode::InvalidRequest,
        ErrorCode::Unimplemented,
        ErrorCode::Unauthenticated,
        ErrorCode::PermissionDenied,
        ErrorCode::JobNotFound,
        ErrorCode::DuplicateKey,
        ErrorCode::AgentNotAvailable,
        ErrorCode::AgentVersionNotAvailable,
        ErrorCode::Cancelled,
        ErrorCode::Timeout,
        ErrorCode::ResumeWindowExpired,
        ErrorCode::HeartbeatLost,
        ErrorCode::LeaseExpired,
        ErrorCode::LeaseRevoked,
        ErrorCode::LeaseSubsetViolation,
        ErrorCode::BudgetExhausted,
        ErrorCode::BackpressureOverflow,
        ErrorCode::ResourceExhausted,
        ErrorCode::Aborted,
        ErrorCode::FailedPrecondition,
        ErrorCode::OutOfRange,
        ErrorCode::Unavailable,
        ErrorCode::Internal,
        ErrorCode::Other("MY_CODE".into()),
        ErrorCode::DataLoss,
        ErrorCode::Unknown,
    ];
    for family in FAMILIES {
        let mut world = World::of(family, 15);
        let client = world.add_client("a");
        world.until(client, accepted);
        for code in &codes {
            let job = give(&mut world, client, submit("stubborn", "1"));
            world.settle();
            let error = JobError::new(code.clone(), "why");
            let id = JobId::parse(job.as_str()).expect("a job");
            world.input(Input::AgentExited { job: id, exit: AgentExit::Failure(error) });
            let of_job = |event: &ClientEvent| matches!(event, ClientEvent::JobEnded { job: of, .. } if *of == job);
            let ClientEvent::JobEnded { terminal, .. } = world.until(client, of_job) else { panic!("an end") };
            let error = terminal.error.expect("an error");
            // In hello a code that nobody knows is one of the runtime's, with its name in the details.
            let word = format!("\"code\":\"{}\"", code.as_str());
            let is_named = family == Family::Hello
                && (&error.code, code) == (&ErrorCode::Internal, &ErrorCode::Other("MY_CODE".into()))
                && error.details.is_some_and(|json| json.as_str().contains(&word));
            assert!(error.code == *code || is_named, "{family:?}: {code:?} came as {:?}", error.code);
        }
        world.finish();
    }
}

/// A client of ours without a world: it is told what a test says.
struct Alone {
    client: Client,
    now: Now,
    sent: Vec<Value>,
    told: Vec<ClientEvent>,
}

impl Alone {
    /// It is to connect.
    fn begun(change: impl FnOnce(&mut ClientConfig)) -> Alone {
        let mut config = ClientConfig::new("c", "1", Credential::Bearer(Secret::new("tok-a".into())));
        change(&mut config);
        let now = Now { mono: Timestamp(1), utc: UtcMs(1_767_225_600_000) };
        let seeds = Seeds { public: [1; 32], secret: [2; 32] };
        let client = Client::new(config, seeds, now).expect("the configuration works");
        let mut alone = Alone { client, now, sent: Vec::new(), told: Vec::new() };
        alone.input(ClientInput::Tick);
        alone
    }

    /// With a session.
    fn connected(change: impl FnOnce(&mut ClientConfig)) -> Alone {
        let mut alone = Alone::begun(change);
        alone.welcome();
        assert!(alone.told.iter().any(accepted), "{:?}", alone.told);
        alone
    }

    /// Connects, and is let in.
    fn welcome(&mut self) {
        self.input(ClientInput::Connected);
        self.hear(json!({"type": "session.welcome", "payload": {
            "runtime": {"name": "r", "version": "1"}, "session_id": "sess_1", "accepted_at": "2026-01-01T00:00:00Z",
            "resume_token": "rtk_1", "resume_window_sec": 600, "heartbeat_interval_sec": 30,
            "capabilities": {"encodings": ["json"], "features": ["heartbeat", "ack", "progress"], "agents": []},
        }}));
    }

    /// Its connection breaks, and it is to connect again in so many milliseconds; `None`: it has given up.
    fn breaks(&mut self) -> Option<u128> {
        self.told.clear();
        self.input(ClientInput::Disconnected { why: "cut".into() });
        let pause = self.told.iter().find_map(|event| match event {
            ClientEvent::Reconnecting { after, .. } => Some(after.as_millis()),
            _ => None,
        });
        if pause.is_some() {
            self.wait();
        }
        pause
    }

    fn input(&mut self, input: ClientInput) {
        self.client.handle(self.now, input);
        while let Some(output) = self.client.poll_output() {
            match output {
                ClientOutput::Send { frame } => self.sent.push(serde_json::from_str(&frame).expect("JSON")),
                ClientOutput::Event(event) => self.told.push(event),
                ClientOutput::Connect | ClientOutput::Disconnect | ClientOutput::SendSidecar { .. } => {}
            }
        }
    }

    fn hear(&mut self, mut frame: Value) {
        frame["arcp"] = json!("1.1");
        frame["session_id"] = json!("sess_1");
        frame["id"] = json!(format!("msg_{}", self.told.len()));
        self.input(ClientInput::Received { frame: frame.to_string().into_bytes() });
    }

    /// Submits; gives the handle and the message's id.
    fn submit(&mut self, input: &str) -> (Handle, Value) {
        let handle = self.client.session().and_then(|mut s| s.submit(submit("echo", input))).expect("given");
        self.input(ClientInput::Tick);
        (handle, self.sent.last().expect("it is sent")["id"].clone())
    }

    fn accept(&mut self, request: &Value, job: &str, more: Value) {
        let mut payload = json!({
            "job_id": job, "agent": "echo", "lease": {}, "accepted_at": "2026-01-01T00:00:00Z",
            "trace_id": "4a6f1c0ee52efaa7f9b6bfe2708c5df0", "request_id": request,
        });
        for (name, value) in more.as_object().expect("an object") {
            payload[name] = value.clone();
        }
        self.hear(json!({"type": "job.accepted", "job_id": job, "payload": payload}));
    }

    /// Waits until something is due.
    fn wait(&mut self) {
        let (at, _) = self.client.next_deadline().expect("something is due");
        self.now.mono = self.now.mono.max(at);
        self.input(ClientInput::Tick);
    }
}

#[test]
fn acceptances_are_matched_by_the_request_they_name() {
    let mut alone = Alone::connected(|_| {});
    let (first, second) = (alone.submit("1"), alone.submit("2"));
    alone.accept(&second.1, "job_b", json!({}));
    alone.accept(&first.1, "job_a", json!({}));
    // One that comes again is nobody else's.
    let third = alone.submit("3");
    alone.accept(&first.1, "job_a", json!({}));
    alone.accept(&third.1, "job_c", json!({}));
    let taken: Vec<(Handle, String)> = (alone.told.iter())
        .filter_map(|event| match event {
            ClientEvent::Submitted { handle, accepted } => Some((*handle, accepted.job.as_str().to_string())),
            _ => None,
        })
        .collect();
    let expected = [(second.0, "job_b"), (first.0, "job_a"), (third.0, "job_c")];
    assert_eq!(taken, expected.map(|(handle, job)| (handle, job.to_string())));
}

#[test]
fn an_acceptance_is_read_whatever_credentials_it_brings() {
    let odd = json!([{"scheme": "what", "value": 7}, null, "text", {"id": "c", "scheme": "bearer", "value": "v"},
        {"id": "d", "scheme": "x-nobody-knows", "value": "w"}]);
    for credentials in [odd, json!({"a": 1}), json!(7), json!(null)] {
        let mut alone = Alone::connected(|_| {});
        let (_, id) = alone.submit("1");
        alone.accept(&id, "job_a", json!({"credentials": credentials}));
        let read = alone.told.iter().find_map(|event| match event {
            ClientEvent::Submitted { accepted, .. } => Some(&accepted.credentials),
            _ => None,
        });
        let ids = read.map(|read| read.iter().map(|credential| credential.id.as_str()).collect::<Vec<&str>>());
        assert_eq!(ids, Some(if credentials.is_array() { vec!["c", "d"] } else { Vec::new() }), "{:?}", alone.told);
    }
}

#[test]
fn a_silent_runtime_is_noticed_and_left() {
    let mut alone = Alone::connected(|_| {});
    let opened = alone.now.mono;
    let lost = |event: &ClientEvent| matches!(event, ClientEvent::Reconnecting { .. });
    while !alone.told.iter().any(lost) {
        assert!(alone.now.mono.since(opened).as_secs() < 61, "two heartbeats");
        alone.wait();
    }
    assert_eq!(alone.now.mono.since(opened).as_secs(), 60);
    assert_eq!(alone.sent.iter().filter(|frame| frame["type"] == "session.ping").count(), 1, "it was asked");
}

#[test]
fn a_client_that_was_held_hears_what_has_arrived_before_it_calls_the_runtime_silent() {
    let mut alone = Alone::connected(|_| {});
    alone.now.mono = alone.now.mono + Duration::from_secs(300);
    let payload = json!({"nonce": "n", "sent_at": "2026-01-01T00:00:00Z"});
    alone.hear(json!({"type": "session.ping", "payload": payload}));
    alone.input(ClientInput::Tick);
    let lost = |event: &ClientEvent| matches!(event, ClientEvent::Reconnecting { .. });
    assert!(!alone.told.iter().any(lost), "{:?}", alone.told);
    assert!(alone.sent.iter().any(|frame| frame["type"] == "session.pong"), "{:?}", alone.sent);
}

#[test]
fn events_that_come_before_their_acceptance_in_too_great_a_number_are_asked_for_again() {
    let mut alone = Alone::connected(|config| config.limits.early = 3);
    alone.submit("1");
    for seq in 1..=4 {
        let payload = json!({"kind": "log", "ts": "2026-01-01T00:00:00Z", "body": {"level": "info", "message": "m"}});
        alone.hear(json!({"type": "job.event", "job_id": "job_a", "event_seq": seq, "payload": payload}));
    }
    assert!(alone.told.iter().any(|event| matches!(event, ClientEvent::Reconnecting { .. })), "{:?}", alone.told);
    alone.wait();
    alone.input(ClientInput::Connected);
    let hello = alone.sent.iter().rfind(|frame| frame["type"] == "session.hello").expect("it comes back");
    assert_eq!(hello["payload"]["resume"]["last_event_seq"], 0, "{hello}");
}

#[test]
fn a_client_is_not_made_with_bounds_that_cannot_work() {
    let made = |change: fn(&mut ClientConfig)| {
        let mut config = ClientConfig::new("it", "1", Credential::Anonymous);
        change(&mut config);
        Client::new(config, Seeds { public: [1; 32], secret: [2; 32] }, Now::default()).is_ok()
    };
    assert!(made(|config| (config.limits.pending, config.limits.frame_bytes) = (1, 1024)));
    assert!(!made(|config| config.limits.pending = 0) && !made(|config| config.limits.frame_bytes = 1023));
}

#[test]
fn only_a_runtime_that_never_let_a_client_in_is_given_up_for_its_silence() {
    let mut known = Alone::connected(|_| {});
    assert!(known.breaks().is_some());
    for attempt in 0..6 {
        known.input(ClientInput::Connected);
        assert!(known.breaks().is_some(), "attempt {attempt}: it was let in before");
    }
    let mut unreached = Alone::begun(|_| {});
    for attempt in 0..6 {
        assert!(unreached.breaks().is_some(), "attempt {attempt}: nobody has heard the hello");
    }
    let tries = (0..6).take_while(|_| {
        unreached.input(ClientInput::Connected);
        unreached.breaks().is_some()
    });
    assert_eq!(tries.count(), 2, "the third that is closed without an answer is the last");
}

#[test]
fn pauses_begin_anew_once_a_session_was_open_for_five_seconds() {
    let mut alone = Alone::connected(|_| {});
    let pauses = [0, 4999, 0, 4999, 5000, 0].map(|open_ms| {
        alone.now.mono = alone.now.mono + Duration::from_millis(open_ms);
        let pause = alone.breaks().expect("it comes back");
        alone.welcome();
        pause
    });
    // Each pause doubles, less up to half of it.
    for (at, most) in [100, 200, 400, 800, 100, 200].into_iter().enumerate() {
        assert!((most / 2..=most).contains(&pauses[at]), "{pauses:?}");
    }
}

#[test]
fn a_cancel_that_the_end_of_its_job_has_answered_is_not_sent_again() {
    for over in [false, true] {
        let mut alone = Alone::connected(|_| {});
        let (_, id) = alone.submit("1");
        alone.accept(&id, "job_a", json!({}));
        let job = WireId::new("job_a").expect("an id");
        alone.client.session().and_then(|mut session| session.cancel(job, None)).expect("given");
        alone.input(ClientInput::Tick);
        if over {
            let payload = json!({"final_status": "success", "job_id": "job_a", "result": 1});
            alone.hear(json!({"type": "job.result", "job_id": "job_a", "event_seq": 1, "payload": payload}));
        }
        assert!(alone.breaks().is_some());
        alone.sent.clear();
        alone.welcome();
        alone.input(ClientInput::Tick);
        let again = alone.sent.iter().filter(|frame| frame["type"] == "job.cancel").count();
        assert_eq!(again, usize::from(!over), "{:?}", alone.sent);
    }
}
