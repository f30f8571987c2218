//! Peers that want a runtime to hold as much as it can be made to, each in its
//! own way: they press on whatever a bound says, and go on when told to stop.

use std::time::Duration;

use arcp_proto::id::{ConnId, JobId};
use arcp_proto::json::Json;
use arcp_proto::limits::Limits;
use arcp_proto::runtime::{AgentCall, AgentExit, Input};
use arcp_tests::raw::{Raw, hello_payload, open_payload};
use arcp_tests::world::{Options, World};
use serde_json::{Value, json};

/// Bounds that a few thousand inputs reach.
fn tight(limits: &mut Limits) {
    limits.artifact = Limits::small().artifact;
    limits.artifact.all_checkpoint_bytes = 32 << 10;
    limits.schedule = Limits::small().schedule;
    limits.workflow = Limits::small().workflow;
    limits.workflow.all_workflow_bytes = 16 << 10;
    limits.workflow.step_checks = 1;
    limits.job.checked_input_bytes = 4 << 10;
    limits.prompt.open_streams_per_job = 2;
    limits.prompt.stream_input_bytes = 1 << 10;
    limits.frame.frame_bytes = 16 << 10;
    limits.frame.handshake_frame_bytes = 4 << 10;
    limits.frame.result_frame_bytes = 4 << 10;
    limits.frame.event_body_bytes = 4 << 10;
    limits.frame.result_bytes = 8 << 10;
    limits.frame.frame_buffers = 4;
    limits.connection.handshaking_connections = 16;
    limits.session.sessions_per_principal = 8;
    limits.session.sessions = 16;
    limits.job.jobs_per_principal = 16;
    limits.job.jobs = 32;
    limits.job.ended_jobs_per_principal = 8;
    limits.job.running_jobs = 8;
    limits.job.waiting_input_bytes_per_principal = 32 << 10;
    limits.job.waiting_input_bytes = 64 << 10;
    limits.job.lease_bytes = 512;
    limits.session.watches_per_session = 8;
    limits.session.subscriptions_per_session = 4;
    limits.connection.replies_per_connection = 8;
    limits.connection.reply_bytes_per_connection = 1 << 10;
    limits.connection.waiting_bytes = 128 << 10;
    limits.history.undurable_bytes = 16 << 10;
    limits.history.agent_undurable_bytes = 4 << 10;
    limits.session.extension_bytes = 4 << 10;
    limits.session.filter_bytes = 1 << 10;
    limits.job.input_checks = 1;
    limits.session.seen_ids_per_session = 16;
    limits.job.requests_per_job = 16;
    limits.job.keys_per_principal = 32;
    limits.job.keys = 64;
    limits.history.job_events = 64;
    limits.history.job_event_bytes = 16 << 10;
    limits.history.log_bytes = 64 << 10;
    limits.history.kept_job_events = 512;
    limits.history.kept_job_bytes = 64 << 10;
    limits.job.checkpoint_bytes = 4 << 10;
    limits.delivery.load_bytes = 4 << 10;
    limits.delivery.load_events = 16;
    limits.delivery.ahead_bytes = 16 << 10;
    limits.delivery.rendered_bytes = 16 << 10;
    limits.delivery.loads_per_session = 2;
    limits.delivery.index_runs_per_session = 64;
    limits.delivery.index_bytes = 64 << 10;
    limits.history.unfinished_bytes = 256 << 10;
    limits.delivery.agent_credit = 8;
    limits.delivery.agent_credit_bytes = 8 << 10;
    limits.delivery.pace_events = 16;
    limits.delivery.pace_bytes = 16 << 10;
    limits.session.ended_sessions = 16;
    limits.connection.wrong_credential_sources = 16;
}

/// Answers that wait are not what stops a peer.
fn many_answers(limits: &mut Limits) {
    tight(limits);
    limits.connection.replies_per_connection = 1000;
    limits.connection.reply_bytes_per_connection = 64 << 10;
}

/// What happens in a world.
type Play = fn(&mut World);
/// The bounds of a world.
type Bounds = fn(&mut Limits);

/// Every world: its name, its bounds, and what happens in it.
pub const ALL: [(&str, Bounds, Play); 11] = [
    ("changes while the store fails", many_answers, changes_while_the_store_fails),
    ("questions of who reads nothing", tight, questions_of_who_reads_nothing),
    ("jobs that wait and jobs that end", tight, jobs_that_wait_and_jobs_that_end),
    ("agents that talk to nobody", tight, agents_that_talk_to_nobody),
    ("results while the store fails", tight, results_while_the_store_fails),
    ("watchers of long histories", tight, watchers_of_long_histories),
    ("sessions that are left", tight, sessions_that_are_left),
    ("connections that say nothing", tight, connections_that_say_nothing),
    ("subscriptions that come and go", tight, subscriptions_that_come_and_go),
    ("commands that are remembered", tight, commands_that_are_remembered),
    ("extensions and checkpoints", tight, extensions_and_checkpoints),
];

/// Plays one; gives what went in and came out.
pub fn played(bound: Bounds, play: Play) -> Vec<String> {
    let mut options = Options::new(1);
    options.config.extensions = vec!["arcpx.test".into()];
    bound(&mut options.config.limits);
    let mut world = World::new(options);
    play(&mut world);
    world.recordings()
}

/// Says something at once, whether it may or not.
fn say(world: &mut World, conn: ConnId, id: &str, kind: &str, payload: &Value) {
    let frame = json!({"arcp": "1.1", "id": id, "type": kind, "payload": payload});
    world.input(Input::Received { conn, frame: frame.to_string().into_bytes() });
}

fn changes_while_the_store_fails(world: &mut World) {
    let (mut raw, _) = Raw::hello(world, "tok-a");
    let job = raw.submit(world, json!({"agent": "waiter"}))["job_id"].clone();
    world.settle();
    world.store.broken = true;
    for n in 0..7000 {
        let kind = ["job.unsubscribe", "job.subscribe"][n % 2];
        say(world, raw.conn, &format!("n{n}"), kind, &json!({"job_id": job}));
    }
    world.store.mend();
    world.settle();
}

fn questions_of_who_reads_nothing(world: &mut World) {
    let (mut raw, _) = Raw::hello(world, "tok-a");
    for n in 0..6 {
        raw.submit(world, json!({"agent": "waiter", "lease_request": {"tool.call": [format!("{n}").repeat(300)]}}));
    }
    for kind in ["session.list_jobs", "session.ping", "job.cancel"] {
        let (quiet, _) = Raw::hello(world, "tok-a");
        world.stall(quiet.conn, true);
        for n in 0..2000 {
            say(
                world,
                quiet.conn,
                &format!("{kind}{n}"),
                kind,
                &json!({"job_id": "job_none", "nonce": "n".repeat(500)}),
            );
        }
    }
}

fn jobs_that_wait_and_jobs_that_end(world: &mut World) {
    let (raw, _) = Raw::hello(world, "tok-a");
    for agent in ["waiter", "echo"] {
        for n in 0..400 {
            let input = "x".repeat(4000);
            let key = format!("{agent}-{n}");
            let submit = json!({"agent": agent, "input": input, "idempotency_key": key});
            say(world, raw.conn, &key, "job.submit", &submit);
            if n % 8 == 0 {
                world.settle();
            }
        }
    }
}

fn agents_that_talk_to_nobody(world: &mut World) {
    let (mut raw, _) = Raw::hello(world, "tok-a");
    for agent in ["chatty", "chatty", "thinker", "chunker"] {
        raw.submit(world, json!({"agent": agent, "input": {"count": 600, "chunks": 60, "bytes": 2000}}));
    }
    world.stall(raw.conn, true);
    world.settle();
    world.cut(raw.conn);
    world.settle();
    world.crash();
    world.settle();
}

fn results_while_the_store_fails(world: &mut World) {
    let (bodies, results) = (world.limits().frame.event_body_bytes / 2, world.limits().frame.result_bytes as usize - 2);
    // One of each principal, whatever its share.
    let started = (0..world.limits().job.running_jobs).map(|n| {
        let (mut raw, _) = Raw::hello(world, &format!("tok-{n}"));
        let id = raw.submit(world, json!({"agent": "waiter"}))["job_id"].clone();
        (raw, JobId::parse(id.as_str().expect("an id")).expect("ours"))
    });
    let (raws, jobs): (Vec<Raw>, Vec<JobId>) = started.unzip();
    world.settle();
    world.store.broken = true;
    let body = Json::parse(&json!({"level": "info", "message": "x".repeat(bodies)}).to_string()).expect("JSON");
    for job in &jobs {
        let call = || AgentCall::Emit { kind: "log".into(), body: body.clone() };
        world.input(Input::AgentSays { job: *job, calls: (0..3).map(|_| call()).collect() });
    }
    for (n, job) in jobs.into_iter().enumerate() {
        world.stop_script(job);
        let bytes = if n == 0 { 8 * results } else { results };
        let (result, summary) = (Some(Json::string(&"r".repeat(bytes))), Some("s".repeat(bytes)));
        world.input(Input::AgentExited { job, exit: AgentExit::Success { result, summary } });
    }
    for n in 0..32 {
        say(world, raws[0].conn, &format!("p{n}"), "session.ping", &json!({"nonce": "n"}));
    }
    world.run_for(Duration::from_secs(5));
    world.store.mend();
    world.settle();
}

fn watchers_of_long_histories(world: &mut World) {
    let (mut raw, _) = Raw::hello(world, "tok-a");
    let talk = json!({"agent": "chatty", "input": {"count": 500}});
    let jobs: Vec<Value> = (0..4).map(|_| raw.submit(world, talk.clone())["job_id"].clone()).collect();
    world.settle();
    let watchers: Vec<Raw> = (0..6).map(|_| Raw::hello(world, "tok-a").0).collect();
    for (n, watcher) in watchers.iter().enumerate() {
        world.stall(watcher.conn, n % 2 == 0);
        for round in 0..20 {
            let asked = json!({"job_id": jobs[(n + round) % jobs.len()], "history": true});
            say(world, watcher.conn, &format!("w{round}"), "job.subscribe", &asked);
            say(world, watcher.conn, &format!("u{round}"), "job.unsubscribe", &asked);
            world.settle();
        }
    }
}

fn sessions_that_are_left(world: &mut World) {
    for n in 0..150 {
        let mut raw = Raw::connect(world);
        let (kind, payload) =
            [("session.hello", hello_payload("tok-a")), ("session.open", open_payload("tok-a"))][n % 2].clone();
        raw.send(world, kind, payload);
        world.settle();
        let (kind, payload) =
            [("job.submit", json!({"agent": "waiter"})), ("tool.invoke", json!({"tool": "waiter"}))][n % 2].clone();
        raw.send(world, kind, payload);
        world.settle();
        world.cut(raw.conn);
    }
}

fn connections_that_say_nothing(world: &mut World) {
    for n in 0..300 {
        let raw = Raw::connect(world);
        if n % 2 == 0 {
            let proof = json!({"auth": {"scheme": "bearer", "token": "t".repeat(3000)}});
            say(world, raw.conn, "h", "session.hello", &proof);
        }
    }
    world.settle();
}

fn subscriptions_that_come_and_go(world: &mut World) {
    let (mut raw, _) = Raw::open(world, "tok-a");
    raw.invoke(world, json!({"tool": "chatty", "arguments": {"count": 300}}));
    world.settle();
    for n in 0..400 {
        let since = if n % 2 == 0 { json!({}) } else { Value::Null };
        let filter = json!({"types": ["metric", "job.completed", "x".repeat(200)]});
        raw.send(world, "subscribe", json!({"filter": filter, "since": since}));
        world.settle();
        let told = raw.take(world);
        let id = told.iter().find_map(|frame| frame["payload"]["subscription_id"].as_str());
        if let Some(id) = id.filter(|_| n % 8 > 0) {
            raw.send(world, "unsubscribe", json!({"subscription_id": id}));
        }
    }
}

fn commands_that_are_remembered(world: &mut World) {
    let (mut raw, _) = Raw::hello(world, "tok-a");
    let job = raw.submit(world, json!({"agent": "deaf"}))["job_id"].clone();
    for n in 0..300 {
        let (long, id) = (format!("{n:03}").repeat(300), format!("{n:03}").repeat(60));
        let lease = json!({"tool.call": [&long[..400]]});
        say(world, raw.conn, &id, "job.submit", &json!({"agent": "echo", "lease_request": lease}));
        say(world, raw.conn, &format!("c{n}"), "job.cancel", &json!({"job_id": job, "reason": long.repeat(3)}));
        if n % 4 == 0 {
            world.run_for(std::time::Duration::from_millis(50));
        }
    }
    let (raw, _) = Raw::open(world, "tok-a");
    for n in 0..100 {
        let traces: Vec<String> = (0..10).map(|k| format!("{n} {k} ").repeat(12)).collect();
        say(world, raw.conn, &format!("s{n}"), "subscribe", &json!({"filter": {"trace_id": traces}}));
        world.run_for(std::time::Duration::from_millis(50));
    }
}

fn extensions_and_checkpoints(world: &mut World) {
    let mut payload = open_payload("tok-a");
    payload["capabilities"]["extensions"] = json!(["arcpx.test"]);
    let (mut raw, _) = Raw::open_with(world, payload);
    for _ in 0..12 {
        raw.send(world, "tool.invoke", json!({"tool": "hoarder", "arguments": {"bytes": 4000}}));
        raw.send(world, "tool.invoke", json!({"tool": "stepper", "arguments": {"steps": 20}}));
        world.settle();
    }
    world.takes_no_extensions = true;
    for n in 0..500 {
        say(world, raw.conn, &format!("x{n}"), "arcpx.test.note.v1", &json!({"text": "x".repeat(1000)}));
    }
    world.settle();
}
