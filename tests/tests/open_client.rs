//! What our client can do only with a runtime of the open family.

use std::time::Duration;

use arcp_proto::client::{Client, ClientConfig, ClientEvent, ClientInput, ClientOutput, SessionEnd};
use arcp_proto::entropy::Seeds;
use arcp_proto::error::{ApiMisuse, ErrorCode};
use arcp_proto::id::SessionId;
use arcp_proto::json::Json;
use arcp_proto::model::agent::AgentRef;
use arcp_proto::model::feature::{Feature, Features};
use arcp_proto::model::job::FinalStatus;
use arcp_proto::model::request::{Credential, Extension, Invocation, Priority, Submit};
use arcp_proto::runtime::{Input, Notice};
use arcp_proto::secret::Secret;
use arcp_proto::time::Now;
use arcp_proto::wire::Family;
use arcp_tests::raw::{Raw, open_payload};
use arcp_tests::world::World;
use serde_json::{Value, json};

fn accepted(event: &ClientEvent) -> bool {
    matches!(event, ClientEvent::Accepted { .. })
}

fn ended(event: &ClientEvent) -> bool {
    matches!(event, ClientEvent::JobEnded { .. })
}

fn over(event: &ClientEvent) -> bool {
    matches!(event, ClientEvent::Ended(_))
}

fn connected(world: &mut World) -> usize {
    let client = world.add_client("a");
    world.until(client, accepted);
    client
}

fn submit(agent: &str) -> Submit {
    Submit::new(AgentRef::parse(agent).expect("a name"))
}

#[test]
fn an_invocation_reaches_the_agent_with_its_extensions() {
    let mut world = World::of(Family::Open, 1);
    let client = connected(&mut world);
    let extensions = Json::parse(r#"{"arcpx.test.note.v1":{"n":1.50,"unknown":[null]}}"#).expect("JSON");
    let invocation = Invocation {
        priority: Priority::High,
        span: Some("s1".into()),
        extensions: Some(extensions.clone()),
        ..Invocation::default()
    };
    let given = world.command(client, |c| {
        let mut open = c.session().expect("accepted").into_open().expect("the open family");
        let no_object = Invocation { extensions: Some(Json::null()), ..Invocation::default() };
        assert!(matches!(open.submit_as(submit("echo"), no_object), Err(ApiMisuse::Argument(_))));
        open.submit_as(submit("echo"), invocation)
    });
    given.expect("a handle");
    world.until(client, ended);
    assert_eq!(world.started.len(), 1);
    assert_eq!(world.started[0].extensions, extensions, "to the byte");
    world.finish();
}

#[test]
fn a_hello_session_has_nothing_of_the_open_family() {
    let mut world = World::seeded(2);
    let client = connected(&mut world);
    assert!(world.command(client, |c| c.session().expect("accepted").into_open().is_err()));
    world.finish();
}

#[test]
fn a_cancel_has_a_deadline_and_may_take_the_whole_session() {
    let mut world = World::of(Family::Open, 3);
    let client = connected(&mut world);
    world.command(client, |c| c.session().and_then(|mut s| s.submit(submit("stubborn")))).expect("given");
    let told = world.until(client, |event| matches!(event, ClientEvent::Submitted { .. }));
    let ClientEvent::Submitted { accepted, .. } = told else { panic!("an acceptance") };
    world.run_for(Duration::from_secs(1));
    let too_long = Duration::from_secs(601);
    let refused = world.command(client, |c| {
        let mut open = c.session().expect("accepted").into_open().expect("the open family");
        open.cancel_within(accepted.job.clone(), None, too_long)
    });
    assert!(matches!(refused, Err(ApiMisuse::Argument(_))));
    world
        .command(client, |c| {
            let mut open = c.session().expect("accepted").into_open().expect("the open family");
            open.cancel_within(accepted.job.clone(), Some("now".into()), Duration::from_millis(300))
        })
        .expect("given");
    let end = world.until(client, ended);
    let ClientEvent::JobEnded { terminal, .. } = end else { panic!("an end") };
    assert_eq!(terminal.status, FinalStatus::Cancelled);
    assert_eq!(terminal.error.map(|error| error.code), Some(ErrorCode::Aborted));
    assert_eq!(terminal.reason.as_deref(), Some("now"));

    world.command(client, |c| c.session().and_then(|mut s| s.submit(submit("waiter")))).expect("given");
    world.run_for(Duration::from_secs(1));
    world
        .command(client, |c| c.session().expect("accepted").into_open().expect("open").cancel_all(None))
        .expect("given");
    let end = world.until(client, over);
    assert_eq!(end, ClientEvent::Ended(SessionEnd::Goodbye("cancelled".into())));
    world.settle();
    assert_eq!(world.runtime().stats().unfinished_jobs, 0);
    world.finish();
}

#[test]
fn an_echo_comes_back_and_an_extension_arrives() {
    let mut world = World::configured(4, |config| config.extensions = vec!["arcpx.test".into()]);
    world.family = Family::Open;
    let mut config = ClientConfig::new("c", "1", Credential::Bearer(Secret::new("tok-a".into())));
    config.family = Family::Open;
    config.extensions = vec!["arcpx.test".into()];
    let client = world.add_client_with(config);
    world.until(client, accepted);
    let payload = Json::parse(r#"{"n":1.50}"#).expect("JSON");
    let message = Extension { kind: "arcpx.test.note.v1".into(), payload: payload.clone(), optional: false };
    let echo = world.command(client, |c| {
        let mut open = c.session().expect("accepted").into_open().expect("the open family");
        open.send(message);
        open.echo(Some("n1".into()))
    });
    let echo = echo.expect("given");
    let told = world.until(client, |event| matches!(event, ClientEvent::Echoed { .. }));
    assert_eq!(told, ClientEvent::Echoed { handle: echo, nonce: Some("n1".into()) });
    assert_eq!(world.extensions[0].payload, payload);
    world.finish();
}

#[test]
fn an_application_sends_a_message_of_an_extension_to_a_client_that_agreed_to_it() {
    let mut world = World::configured(5, |config| config.extensions = vec!["arcpx.test".into()]);
    world.family = Family::Open;
    let mut config = ClientConfig::new("c", "1", Credential::Bearer(Secret::new("tok-a".into())));
    config.family = Family::Open;
    config.extensions = vec!["arcpx.test".into()];
    let client = world.add_client_with(config);
    let ClientEvent::Accepted { session, .. } = world.until(client, accepted) else { panic!("another event") };
    let session: SessionId = session.as_str().parse().expect("a session's id");
    let payload = Json::parse(r#"{"n":1.50,"x":null}"#).expect("JSON");
    let note = |optional| Extension { kind: "arcpx.test.note.v1".into(), payload: payload.clone(), optional };
    for optional in [false, true] {
        world.input(Input::SendExtension { session, message: note(optional) });
        world.until(client, |event| *event == ClientEvent::Extension(note(optional)));
    }
    // One that the client did not agree to stays here, and so does one for nobody.
    let dropped = |kind: &str| Notice::ExtensionDropped { session, kind: kind.into() };
    let foreign = Extension { kind: "arcpx.other.v1".into(), ..note(true) };
    world.input(Input::SendExtension { session, message: foreign });
    assert_eq!(world.notices.last(), Some(&dropped("arcpx.other.v1")));
    world.unplug(client, true);
    let conn = world.conn_of(client).expect("connected");
    world.input(Input::Closed { conn });
    world.input(Input::SendExtension { session, message: note(false) });
    assert_eq!(world.notices.last(), Some(&dropped("arcpx.test.note.v1")));
    world.finish();
}

#[test]
fn no_message_of_an_extension_is_sent_in_hello() {
    let mut world = World::configured(6, |config| config.extensions = vec!["arcpx.test".into()]);
    let (mut raw, welcome) = Raw::hello(&mut world, "tok-a");
    let session = welcome["payload"]["session_id"].as_str().expect("an id").parse().expect("a session's id");
    let message = Extension { kind: "arcpx.test.v1".into(), payload: Json::empty_object(), optional: true };
    world.input(Input::SendExtension { session, message });
    assert_eq!(world.notices.last(), Some(&Notice::ExtensionDropped { session, kind: "arcpx.test.v1".into() }));
    assert_eq!(raw.settle(&mut world), Vec::<serde_json::Value>::new());
    world.finish();
}

#[test]
fn a_client_that_reads_nothing_is_sent_no_more_messages_than_its_connection_may_hold() {
    let mut world = World::configured(7, |config| {
        config.extensions = vec!["arcpx.test".into()];
        config.limits.connection.replies_per_connection = 8;
    });
    let mut payload = open_payload("tok-a");
    payload["capabilities"]["extensions"] = serde_json::json!(["arcpx.test"]);
    let (mut raw, accepted) = Raw::open_with(&mut world, payload);
    let session = accepted["payload"]["session_id"].as_str().expect("an id").parse().expect("a session's id");
    world.stall(raw.conn, true);
    let dropped =
        |world: &World| world.notices.iter().filter(|notice| matches!(notice, Notice::ExtensionDropped { .. })).count();
    let mut sent = 0;
    while dropped(&world) == 0 {
        let message = Extension { kind: "arcpx.test.v1".into(), payload: Json::empty_object(), optional: false };
        world.input(Input::SendExtension { session, message });
        sent += 1;
        assert!(sent < 10_000, "nothing holds them back");
    }
    assert!(!raw.is_closed(&world), "it is not the client's fault");
    world.stall(raw.conn, false);
    let received = raw.settle(&mut world).iter().filter(|frame| frame["type"] == "arcpx.test.v1").count();
    assert_eq!(received, sent - 1);
    world.finish();
}

#[test]
fn capabilities_that_nobody_here_knows_are_kept() {
    let mut world = World::of(Family::Open, 7);
    let client = world.add_client("a");
    let accepted = r#"{"arcp":"1.1","id":"msg_1","type":"session.accepted","payload":{"session_id":"sess_1","runtime":{"kind":"r","version":"9"},"capabilities":{"future":{"n":1.50},"result_chunk":true}}}"#;
    // The runtime's own answer is kept back: one of another runtime comes.
    while world.conn_of(client).is_none_or(|conn| world.frames_of(conn).is_empty()) {
        assert!(world.step());
    }
    let now = world.now();
    let input = arcp_proto::client::ClientInput::Received { frame: accepted.as_bytes().to_vec() };
    world.command(client, |c| c.handle(now, input));
    let told = world.until(client, self::accepted);
    let ClientEvent::Accepted { capabilities, features, .. } = told else { panic!("accepted") };
    assert_eq!(capabilities.as_str(), r#"{"future":{"n":1.50},"result_chunk":true}"#);
    assert!(features.has(arcp_proto::model::feature::Feature::ResultChunk));
}

#[test]
fn our_client_refreshes_its_session_by_itself() {
    let mut world = World::configured(5, |config| config.timing.session_lease = Some(Duration::from_secs(60)));
    world.family = Family::Open;
    let client = connected(&mut world);
    world.run_for(Duration::from_secs(600));
    assert!(!world.events(client).iter().any(over));
    assert_eq!(world.events(client).iter().filter(|event| accepted(event)).count(), 1);
    world.finish();
}

#[test]
fn a_client_without_a_proof_is_not_let_in() {
    let mut world = World::of(Family::Open, 6);
    let mut config = ClientConfig::new("c", "1", Credential::Bearer(Secret::new(String::new())));
    config.family = Family::Open;
    let client = world.add_client_with(config);
    let told = world.until(client, over);
    assert!(matches!(told, ClientEvent::Ended(SessionEnd::Denied(r)) if r.code == ErrorCode::Unauthenticated));
    world.finish();
}

/// Everything that a client does now.
fn drained(client: &mut Client) -> Vec<ClientOutput> {
    std::iter::from_fn(|| client.poll_output()).collect()
}

/// A runtime accepts a session with these capabilities; gives what is agreed on then.
fn opened(client: &mut Client, now: Now, kind: &str, capabilities: Value) -> Option<(Features, bool)> {
    let payload = json!({
        "session_id": "s", "resume_token": "r", "resume_window_sec": 600, "capabilities": capabilities,
        "runtime": {"kind": "k", "version": "1"},
    });
    let frame = json!({"arcp": "1.1", "id": "m", "type": kind, "session_id": "s", "payload": payload}).to_string();
    client.handle(now, ClientInput::Received { frame: frame.into() });
    drained(client).into_iter().find_map(|output| {
        let ClientOutput::Event(ClientEvent::Accepted { features, resumed, .. }) = output else { return None };
        Some((features, resumed))
    })
}

#[test]
fn a_session_that_comes_back_has_what_was_agreed_on_when_it_was_opened() {
    let mut config = ClientConfig::new("c", "1", Credential::Bearer(Secret::new("t".into())));
    config.family = Family::Open;
    let (seeds, mut now) = (Seeds { public: [1; 32], secret: [2; 32] }, Now::default());
    let mut client = Client::new(config, seeds, now).expect("it works");
    client.handle(now, ClientInput::Tick);
    client.handle(now, ClientInput::Connected);
    drained(&mut client);
    let all = json!({"result_chunk": true, "artifacts": true, "checkpoints": true});
    let (first, resumed) = opened(&mut client, now, "session.accepted", all).expect("it is open");
    assert!(!resumed && first.has(Feature::ResultChunk));
    client.handle(now, ClientInput::Disconnected { why: "it rains".into() });
    let (at, _) = client.next_deadline().expect("it tries again");
    now.mono = at;
    client.handle(now, ClientInput::Tick);
    client.handle(now, ClientInput::Connected);
    drained(&mut client);
    assert_eq!(opened(&mut client, now, "session.accepted", json!({})), None, "it asks for its own");
    let back = opened(&mut client, now, "session.resumed", json!({})).expect("it is open");
    assert_eq!(back, (first, true));
}
