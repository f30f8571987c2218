//! Every released layout of a store and format of a recording can be read. The files were written by the first version
//! with the format, and are never changed: `ARCP_BLESS=1` writes only missing ones.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test looks at the outputs that it is about")]

use std::fs;
use std::path::{Path, PathBuf};

use arcp_host::sqlite::{Durability, SqliteStore};
use arcp_host::store::Store;
use arcp_proto::entropy::Seeds;
use arcp_proto::id::{ConnId, Principal};
use arcp_proto::record::{self, ReplayError};
use arcp_proto::runtime::{Config, Input, Output, Runtime, Transport};
use arcp_proto::time::{Now, Timestamp, UtcMs};
use arcp_tests::kept::{Folder, batch_of};
use arcp_tests::raw::{Raw, hello_payload};
use arcp_tests::world::World;
use serde_json::{Value, json};

fn released() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("released")
}

/// The released files whose names begin so, oldest first.
fn released_as(prefix: &str) -> Vec<PathBuf> {
    let names = fs::read_dir(released()).expect("the folder").map(|entry| entry.expect("an entry").path());
    let mut found: Vec<PathBuf> =
        names.filter(|path| path.file_stem().is_some_and(|stem| stem.to_string_lossy().starts_with(prefix))).collect();
    found.sort();
    assert!(!found.is_empty(), "there is one at least");
    found
}

/// Jobs of several kinds that ran and one that runs, for sessions of both
/// families; gives the world, and what its first client resumes with.
fn lived() -> (World, Value) {
    let mut world = World::seeded(77);
    let (mut hello, welcome) = Raw::hello(&mut world, "tok-a");
    let (mut open, _) = Raw::open(&mut world, "tok-a");
    for agent in ["echo", "failer", "kinds", "thinker", "chunker"] {
        let job = hello.submit(&mut world, json!({"agent": agent, "idempotency_key": agent}))["job_id"].clone();
        open.send(&mut world, "job.subscribe", json!({"job_id": job, "history": true}));
        hello.until_end(&mut world);
    }
    open.send(&mut world, "subscribe", json!({"filter": {"types": ["metric"]}}));
    hello.submit(&mut world, json!({"agent": "stepper", "input": {"steps": 200}}));
    world.run_for(std::time::Duration::from_secs(2));
    (world, welcome)
}

#[test]
fn a_store_of_every_released_layout_is_read() {
    write_missing();
    for expected in released_as("store-").into_iter().filter(|path| path.extension().is_some_and(|e| e == "json")) {
        let expected: Value = serde_json::from_str(&fs::read_to_string(&expected).expect("it is there")).expect("JSON");
        let name = expected["file"].as_str().expect("a name");
        let folder = Folder::new(name);
        let copy = folder.0.join(name);
        fs::copy(released().join(name), &copy).expect("a copy");
        let mut store = SqliteStore::open(&copy, Durability::Full).expect("it opens");
        assert_eq!(shown(&mut store, &expected["resume"]), expected["shown"], "{name}");
    }
}

#[test]
fn a_recording_of_every_released_format_is_read() {
    write_missing();
    for path in released_as("recording-") {
        let text = fs::read_to_string(&path).expect("it is there");
        is_read(&path, &text);
        // An older version may have been told less.
        let (head, inputs) = text.split_once('\n').expect("lines");
        let mut older: Value = serde_json::from_str(head).expect("JSON");
        older["config"].as_object_mut().expect("an object").remove("operators");
        is_read(&path, &format!("{older}\n{inputs}"));
    }
}

/// A later version may do otherwise than what is recorded; it can tell where.
fn is_read(path: &Path, text: &str) {
    match record::replay(text) {
        Ok(replayed) => assert!(replayed.inputs > 100),
        Err(ReplayError::Different { .. }) => {}
        Err(error @ (ReplayError::Unreadable { .. } | ReplayError::CutShort { .. } | ReplayError::Config(_))) => {
            panic!("{path:?}: {error}")
        }
    }
}

/// What a client that resumes with this is shown of a store: the welcome's
/// features, every frame's type and number, and the jobs that it lists.
fn shown(store: &mut dyn Store, resume: &Value) -> Value {
    let mut config = Config::new("released", "1").with_agent("stepper", &["1.0.0"]);
    config.history = true;
    let now = Now { mono: Timestamp(0), utc: UtcMs(1_767_225_700_000) };
    let seeds = Seeds { public: [1; 32], secret: [2; 32] };
    let mut runtime = Runtime::new(config, seeds, now).expect("the configuration works");
    let mut history = store.history().expect("it is read").expect("it gives events back");
    let mut records = Vec::new();
    let last = store.load(&mut |at, record| records.push((at, record))).expect("it is read");
    let restored = records.into_iter().map(|(at, record)| Input::Restore { at, record });
    let conn = ConnId(1);
    let mut hello = hello_payload("tok-a");
    hello["resume"] = resume.clone();
    let frames = [("session.hello", hello), ("session.list_jobs", json!({}))].map(|(kind, payload)| {
        let frame = json!({"id": kind, "type": kind, "payload": payload}).to_string().into_bytes();
        Input::Received { conn, frame }
    });
    let inputs = restored
        .chain([
            Input::Restored { last },
            Input::Opened {
                conn,
                transport: Transport::WebSocket,
                address: None,
                binding: None,
                peer: Principal::new("a").map(Into::into),
            },
            Input::Credit { conn, bytes: 1 << 24, frames: 10_000 },
        ])
        .chain(frames);
    let mut sent = Vec::new();
    for input in inputs {
        runtime.handle(now, input);
        while let Some(output) = runtime.poll_output() {
            match output {
                Output::Persist(batch) => runtime.handle(now, Input::Persisted { up_to: batch.last() }),
                Output::Load { op, job, from, to, bytes } => {
                    let events = history.events(job, from, to, bytes).ok();
                    runtime.handle(now, Input::Loaded { op, events });
                }
                Output::Send { frame, .. } => sent.push(serde_json::from_str::<Value>(&frame).expect("JSON")),
                _ => {}
            }
        }
    }
    let jobs = sent.iter().find(|frame| frame["type"] == "session.jobs").map(|frame| frame["payload"]["jobs"].clone());
    let numbered: Vec<Value> =
        sent.iter().map(|frame| json!([frame["event_seq"], frame["type"], frame["id"]])).collect();
    let numbered: Vec<Value> = numbered.into_iter().filter(|frame| frame[0].is_u64()).collect();
    json!({"features": sent[0]["payload"]["capabilities"]["features"], "numbered": numbered, "jobs": jobs})
}

/// Writes the files of this version's formats, if they are not there.
fn write_missing() {
    if std::env::var_os("ARCP_BLESS").is_none() {
        return;
    }
    let (world, welcome) = lived();
    let file = "store-5.db";
    if !released().join(file).exists() {
        let mut store = SqliteStore::open(&released().join(file), Durability::Full).expect("it opens");
        store.commit(&[batch_of(&world.store.records(false))]).expect("it is kept");
        let resume = json!({
            "session_id": welcome["payload"]["session_id"],
            "resume_token": welcome["payload"]["resume_token"],
            "last_event_seq": 0,
        });
        let shown = shown(&mut store, &resume);
        let text = json!({"file": file, "resume": resume, "shown": shown});
        fs::write(released().join("store-5.json"), format!("{text:#}\n")).expect("written");
    }
    let recording = released().join(format!("recording-{}.jsonl", record::FORMAT));
    if !recording.exists() {
        fs::write(recording, world.finish()).expect("written");
    }
}
