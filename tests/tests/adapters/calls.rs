//! Every other call of our clients, in both families: what a call comes to depends neither on the adapter of the client, nor on
//! that of the server, nor on what carries the bytes.

use std::fmt::Debug;
use std::time::Duration;

use arcp_blocking::ClientError;
use arcp_host::agent::{AgentError, Context, Outcome, StreamInput};
use arcp_host::registry::{Registry, Terms};
use arcp_host::store::MemoryStore;
use arcp_proto::id::{Principal, WireId};
use arcp_proto::json::Json;
use arcp_proto::model::artifact::{ArtifactTerms, BlobDigest, PutArtifact};
use arcp_proto::model::checkpoint::{CreateCheckpoint, RestoreCheckpoint};
use arcp_proto::model::job_token::ExchangeToken;
use arcp_proto::model::prompt::PromptAnswer;
use arcp_proto::model::request::{Answering, Extension, Invocation, ListQuery, Priority, Watch};
use arcp_proto::model::schedule::{NewSchedule, ScheduleChange, ScheduleQuery, ScheduledJob, When};
use arcp_proto::model::session::{Eviction, SessionQuery};
use arcp_proto::model::stream::{StreamKind, StreamRequest, StreamSaid, StreamTerms};
use arcp_proto::model::upload::{ArtifactPart, ArtifactQuery, ByteRange, ListedArtifact};
use arcp_proto::runtime::Config;
use arcp_proto::wire::Family;
use arcp_tests::server::{PATIENCE, submit};
use serde_json::{Value, json};

use crate::our_client::{OurClient, OurJob};
use crate::site::Adapter::{Blocking, Tokio};
use crate::site::Site;
use crate::transcript::{Normal, same_over};
use crate::{ALL, PORTS, STDIO, registry};

const BYTES: &[u8] = b"the bytes of an artifact in two parts";

/// The same call of either client.
macro_rules! call {
    ($client:expr, $it:ident of $adapter:ident => $call:expr) => {
        match $client {
            OurClient::Blocking($it) => {
                #[allow(unused_imports, reason = "most calls are of the client")]
                use arcp_blocking as $adapter;
                $call
            }
            OurClient::Tokio(runtime, $it) => {
                #[allow(unused_imports, reason = "most calls are of the client")]
                use arcp_tokio_adapter as $adapter;
                runtime.block_on($call)
            }
        }
    };
    ($client:expr, $it:ident => $call:expr) => {
        call!($client, $it of adapter => $call)
    };
}

/// The same, for a call that follows a job.
macro_rules! follow {
    ($client:expr, $it:ident of $adapter:ident => $call:expr) => {
        match $client {
            OurClient::Blocking($it) => {
                #[allow(unused_imports, reason = "most calls are of the client")]
                use arcp_blocking as $adapter;
                $call.map(OurJob::Blocking)
            }
            OurClient::Tokio(runtime, $it) => {
                #[allow(unused_imports, reason = "most calls are of the client")]
                use arcp_tokio_adapter as $adapter;
                runtime.block_on($call).map(|job| OurJob::Tokio(runtime, job))
            }
        }
    };
}

fn all_there_is(config: &mut Config) {
    config.timing.artifact_retention = Some(PATIENCE * 20);
    config.timing.schedules = true;
    config.authority.workflows = true;
    config.extensions = vec!["arcpx.acme".into()];
    config.operators.extend(Principal::new("a"));
}

/// Says what it hears, and how much that was.
fn hearer(job: &Context) -> Result<Outcome, AgentError> {
    job.status("waiting", None)?;
    let Some(mut input) = StreamInput::within(job, PATIENCE)? else {
        return Err(AgentError::failed("nobody says anything"));
    };
    let mut heard = Vec::new();
    while let Some(said) = input.next_chunk()? {
        heard.push(String::from_utf8_lossy(&said).into_owned());
    }
    Outcome::of(&heard)
}

fn agents() -> Registry {
    let mut registry = registry();
    registry.add("hearer", None, hearer);
    registry.set_terms("hearer", Terms { takes_input: true, ..Terms::default() });
    registry
}

#[test]
fn requests_of_our_clients_come_to_the_same_on_every_server_in_both_families() {
    for family in [Family::Hello, Family::Open] {
        let mut told = Vec::new();
        for client in [Blocking, Tokio] {
            same_over(ALL, |server| {
                let site = Site::with(server, agents(), Box::<MemoryStore>::default(), all_there_is);
                let connect = || OurClient::connect_as(client, &site, None, family);
                let (one, other) = (connect(), connect());
                let mut seen = vec![
                    watches(&one, &other),
                    artifacts(&one),
                    schedules(&one),
                    workflows(&one),
                    checkpoints(&one, &other),
                    people(&one),
                    streams(&one),
                ];
                if family == Family::Open {
                    seen.push(only_open(&one, &site));
                }
                seen.push(sessions(&one, other));
                one.close();
                told.push(Normal::of(seen.clone()));
                seen
            });
        }
        for (at, seen) in told.iter().enumerate() {
            assert_eq!(seen, &told[0], "pair {at} of client and server");
        }
    }
}

#[test]
fn a_client_alone_on_stdin_and_stdout_has_what_every_other_one_has_in_both_families() {
    for family in [Family::Hello, Family::Open] {
        for client in [Blocking, Tokio] {
            same_over(&[PORTS[0], STDIO[0], STDIO[1]], |server| {
                let site = Site::with(server, agents(), Box::<MemoryStore>::default(), all_there_is);
                let one = OurClient::connect_as(client, &site, None, family);
                let seen = vec![artifacts(&one), schedules(&one), workflows(&one), people(&one), streams(&one)];
                one.close();
                seen
            });
        }
    }
}

/// What a call came to: what it gave is shown, or why it was refused.
fn came_to<T: Debug>(result: Result<T, ClientError>) -> Value {
    match result {
        Ok(given) => json!(format!("{given:?}")),
        Err(error) => json!({"refused": error.to_string()}),
    }
}

/// Without their numbers in the session, in which a job that was cancelled said more or less before.
fn unnumbered(updates: Vec<Value>) -> impl Iterator<Item = Value> {
    updates.into_iter().map(|update| Value::Array(update.as_array().into_iter().flatten().skip(1).cloned().collect()))
}

/// What is listed of jobs, who may no longer watch one, and who may for its token.
fn watches(client: &OurClient, other: &OurClient) -> Vec<Value> {
    let mut job = client.submit("gate", r#"{"key":"watched"}"#).expect("it is accepted");
    job.until("waiting");
    let id = job.id();
    let mut watched =
        follow!(other, it of _adapter => it.watch(Watch { job: id.clone(), after: None, history: Some(true) }))
            .expect("it is shown");
    watched.until("waiting");
    let mut seen = vec![
        came_to(call!(other, it => it.unwatch(id.clone()))),
        came_to(call!(other, it => it.unwatch(id.clone()))),
        came_to(
            call!(client, it => it.list(ListQuery { limit: Some(0), ..ListQuery::default() }))
                .map(|page| page.jobs.len()),
        ),
    ];
    let issued = call!(client, it of adapter => adapter::JobTokens::of(it).issue(id.clone())).expect("a token");
    let wish = ExchangeToken { token: issued.token, after: Some(0) };
    let rest = follow!(other, it of adapter => adapter::JobTokens::of(it).exchange(wish.clone())).expect("it is shown");
    client.submit("opengate", r#"{"key":"watched"}"#).expect("it is accepted").rest();
    seen.push(json!(rest.id() == id));
    seen.extend(rest.rest());
    seen.extend(unnumbered(job.rest()));
    seen
}

/// Artifacts in one piece, in parts and in ranges.
fn artifacts(client: &OurClient) -> Vec<Value> {
    let put = PutArtifact {
        id: WireId::new("art_whole"),
        ..PutArtifact::new("a/b".parse().expect("a type"), BYTES.to_vec())
    };
    let whole = client.put(put).id;
    let (digest, size) = (BlobDigest::of(BYTES), BYTES.len() as u64);
    let part = |at: usize, data: &[u8]| ArtifactPart { digest, size, offset: at as u64, data: data.to_vec() };
    let send =
        |part: ArtifactPart| came_to(call!(client, it of adapter => adapter::artifacts::send_part(it, part.clone())));
    let mut seen = vec![send(part(0, &BYTES[..9])), send(part(20, b"not there yet"))];
    seen.push(came_to(call!(client, it of adapter => adapter::artifacts::abandon(it, digest))));
    seen.extend([send(part(0, &BYTES[..9])), send(part(9, &BYTES[9..]))]);
    let terms = ArtifactTerms {
        id: WireId::new("art_parts"),
        ..ArtifactTerms::new("a/c".parse().expect("a type"), size, digest)
    };
    let kept =
        call!(client, it of adapter => adapter::artifacts::keep_parts(it, terms.clone())).expect("it is kept").id;
    let range = ByteRange { offset: 4, length: 5 };
    let some =
        call!(client, it of adapter => adapter::artifacts::fetch_range(it, kept.clone(), range)).expect("it is there");
    seen.push(json!(String::from_utf8_lossy(&some.data)));
    let list = || {
        let listed = call!(client, it of adapter => adapter::artifacts::list(it, ArtifactQuery::default()));
        let name = |listed: ListedArtifact| json!([listed.artifact.id.as_str(), listed.artifact.size]);
        Value::Array(listed.expect("a page").artifacts.into_iter().map(name).collect())
    };
    seen.push(list());
    seen.extend([whole, kept].map(|id| came_to(call!(client, it => it.release_artifact(id.clone())))));
    seen.push(list());
    seen.push(came_to(call!(client, it => it.fetch_artifact("art_whole".parse().expect("an id")))));
    seen
}

fn schedules(client: &OurClient) -> Vec<Value> {
    let id: WireId = "mornings".parse().expect("an id");
    let wish = |agent: &str| NewSchedule {
        id: Some(id.clone()),
        ..NewSchedule::new(ScheduledJob::new(agent.parse().expect("an agent")), When::After(Duration::from_secs(9000)))
    };
    let list = || {
        let listed = call!(client, it => it.schedules(ScheduleQuery::default())).expect("a page").schedules;
        json!(
            listed.iter().map(|one| json!([one.id.as_str(), one.fired, one.paused.is_some()])).collect::<Vec<Value>>()
        )
    };
    let change = |paused| came_to(call!(client, it => it.change_schedule(ScheduleChange { id: id.clone(), paused })));
    let mut seen = vec![came_to(call!(client, it => it.schedule(wish("nobody"))).map(|_| ()))];
    seen.push(came_to(call!(client, it => it.schedule(wish("echo"))).map(|scheduled| scheduled.id)));
    seen.extend([list(), change(true), list(), change(false)]);
    let end = || came_to(call!(client, it => it.end_schedule(id.clone(), Some("enough".into()))));
    seen.extend([end(), list(), end()]);
    seen
}

fn workflows(client: &OurClient) -> Vec<Value> {
    let steps = r#"[{"id":"one","tool":"echo","arguments":{"n":1}},
        {"id":"two","tool":"echo","needs":["one"],"arguments":{"$from":"/steps/one/result"}}]"#;
    let steps = Json::parse(steps).expect("JSON");
    let job = follow!(client, it of _adapter => it.start_workflow(&steps, None)).expect("it is accepted");
    let seen = unnumbered(job.rest());
    let wrong = Json::parse(r#"[{"id":"two","tool":"echo","needs":["one"]}]"#).expect("JSON");
    let refused = follow!(client, it of _adapter => it.start_workflow(&wrong, None)).err();
    // Which step says something first when both have ended is no matter of the adapter: how it ends is.
    seen.last().into_iter().chain(refused.map(|error| json!(error.to_string()))).collect()
}

fn checkpoints(client: &OurClient, other: &OurClient) -> Vec<Value> {
    let mut job = client.submit("stepper", r#"{"steps":2,"step_ms":60000}"#).expect("it is accepted");
    job.next().expect("it begins");
    let id = job.id();
    let wish = CreateCheckpoint { job: id.clone(), label: Some("as asked".into()) };
    let made = call!(client, it => it.checkpoints().create(wish.clone())).expect("it is made");
    let listed = call!(client, it => it.checkpoints().list(id.clone())).expect("a list").checkpoints;
    other.cancel(id).expect("it is taken");
    job.rest();
    let wish = RestoreCheckpoint { checkpoint: made.id.clone(), key: None };
    let mut restored = follow!(client, it of _adapter => it.checkpoints().restore(wish.clone())).expect("it begins");
    restored.next().expect("it begins");
    client.cancel(restored.id()).expect("it is taken");
    restored.rest();
    vec![json!(made.label), json!(made.size), json!(listed.len()), json!(listed.contains(&made))]
}

/// An interrupt, what its agent asks then, and the answer.
fn people(client: &OurClient) -> Vec<Value> {
    let mut job = client.submit("listener", r#"{"ms":60000}"#).expect("it is accepted");
    job.next().expect("it begins");
    let interrupt = |prompt: &str| came_to(call!(client, it => it.interrupt(job.id(), prompt.to_string())));
    let mut seen = vec![interrupt("left or right?")];
    let asked = job.until("prompt_id").pop().expect("it asks").to_string();
    let id = asked.split('"').map(|word| word.trim_end_matches('\\')).find(|word| word.starts_with("prm_"));
    let prompt: WireId = id.expect("a question has an id").parse().expect("an id");
    let answer = |answer| came_to(call!(client, it => it.answer(Answering { prompt: prompt.clone(), answer })));
    let left = || PromptAnswer::Value(Json::string("left"));
    seen.push(answer(left()));
    // When it was answered is said too.
    let again = answer(left()).to_string();
    seen.push(json!(again.split_once(" at ").map(|(why, _)| why)));
    client.cancel(job.id()).expect("it is taken");
    job.rest();
    seen
}

/// A stream to the agent of a job.
fn streams(client: &OurClient) -> Vec<Value> {
    let mut job = client.submit("hearer", "{}").expect("it is accepted");
    job.until("waiting");
    let (id, stream): (WireId, WireId) = (job.id(), "words".parse().expect("an id"));
    let say = |says| {
        let request = StreamRequest { job: id.clone(), stream: stream.clone(), says };
        came_to(call!(client, it => it.say_in_stream(request.clone())))
    };
    let mut seen = vec![
        say(StreamSaid::chunk(0, b"too early", None)),
        say(StreamSaid::Open(StreamTerms::new(StreamKind::Text))),
        say(StreamSaid::chunk(0, b"one", Some("one"))),
        say(StreamSaid::chunk(1, b"two", None)),
        say(StreamSaid::Close { reason: None }),
    ];
    seen.extend(unnumbered(job.rest()));
    seen
}

/// What only the open family has.
fn only_open(client: &OurClient, site: &Site) -> Vec<Value> {
    let invocation = Invocation { priority: Priority::High, ..Invocation::default() };
    let wish = || (submit("stubborn", "{}"), invocation.clone());
    let job = follow!(client, it of _adapter => it.open().expect("the open family").submit_as(wish().0, wish().1));
    let mut job = job.expect("it is accepted");
    job.until("waiting");
    let span = Duration::from_millis(1);
    let cancelled = call!(client, it => it.open().expect("the open family").cancel_within(job.id(), None, span));
    // Whether it says something before it is made to stop is a matter of a millisecond.
    let mut seen: Vec<Value> = [came_to(cancelled)].into_iter().chain(unnumbered(job.rest()).last()).collect();
    seen.push(came_to(call!(client, it => it.open().expect("the open family").echo(Some("n".into())))));
    let said = Extension { kind: "arcpx.acme.note".into(), payload: Json::empty_object(), optional: false };
    seen.push(came_to(call!(client, it => it.open().expect("the open family").send(said.clone()))));
    site.answer_extension(&said);
    seen.push(json!(client.next_extension().map(|told| told.kind)));
    seen
}

/// What is listed of sessions, and one that is taken from its client.
fn sessions(client: &OurClient, other: OurClient) -> Vec<Value> {
    let page = call!(client, it => it.sessions(SessionQuery::default())).expect("a page");
    let mut seen =
        vec![json!(page.sessions.iter().map(|one| json!([one.principal, one.connected])).collect::<Vec<Value>>())];
    let eviction = Eviction { session: other.welcome().session.clone(), reason: Some("as it was asked".into()) };
    seen.push(came_to(call!(client, it => it.evict(eviction.clone()))));
    seen.push(came_to(call!(client, it => it.evict(eviction.clone()))));
    seen.push(json!(other.submit("echo", "{}").is_err()));
    other.close();
    seen
}
