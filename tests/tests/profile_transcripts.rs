//! The frames that each published client gets in one and the same scene; for all but the first, only the differences.
//! `ARCP_BLESS=1` writes them anew.

use std::fmt::Write as _;

use arcp_proto::id::JobId;
use arcp_proto::json::Json;
use arcp_proto::runtime::{AgentCall, Input};
use arcp_proto::wire::{Compat, Profile};
use arcp_tests::raw::{Raw, hello_payload, open_payload};
use arcp_tests::scene::golden;
use arcp_tests::world::World;
use serde_json::{Value, json};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const NOBODYS_JOB: &str = "job_01ARZ3NDEKTSV4RRFFQ69G5FAV";

/// A client that says things, and what it heard of each.
struct Listener {
    world: World,
    raw: Raw,
    shown: usize,
    named: Vec<String>,
    heard: Vec<(String, Vec<String>)>,
}

impl Listener {
    fn new(profile: Profile) -> Listener {
        let mut world = World::configured(11, |config| config.compat = Compat::Always(profile));
        let raw = Raw::connect(&mut world);
        Listener { world, raw, shown: 0, named: Vec::new(), heard: Vec::new() }
    }

    /// Another connection goes on.
    fn connect(&mut self) {
        (self.raw, self.shown) = (Raw::connect(&mut self.world), 0);
    }

    fn say(&mut self, kind: &str, payload: Value) {
        let mut said = json!({"type": kind, "payload": payload});
        self.name(&mut said);
        self.raw.send_with(&mut self.world, kind, payload, json!({"trace_id": TRACE}));
        self.hear(said);
    }

    /// The agent of a job says something.
    fn emit(&mut self, job: &Value, kind: &str, body: Value) {
        let mut said = json!({"emits": kind, "body": body});
        self.name(&mut said);
        let job = JobId::parse(job.as_str().expect("an id")).expect("ours");
        let body = Json::parse(&body.to_string()).expect("JSON");
        self.world.input(Input::Agent { job, call: AgentCall::Emit { kind: kind.into(), body } });
        self.hear(said);
    }

    fn hear(&mut self, said: Value) {
        self.world.settle();
        let frames = self.world.frames_of(self.raw.conn)[self.shown..].to_vec();
        self.shown += frames.len();
        let mut frames: Vec<Value> = frames.iter().map(|text| serde_json::from_str(text).expect("JSON")).collect();
        frames.iter_mut().for_each(|frame| self.name(frame));
        let closed = self.world.close_reason(self.raw.conn).map(|reason| format!("closed: {reason:?}"));
        let heard = frames.iter().map(Value::to_string).chain(closed).collect();
        self.heard.push((said.to_string(), heard));
    }

    /// Ids are counted as they come, and times left out: both are drawn anew
    /// for every client.
    fn name(&mut self, value: &mut Value) {
        match value {
            Value::String(text) if text.starts_with("2026-") => *text = "then".into(),
            Value::String(text) if text.len() >= 26 && text.is_ascii() => {
                let (prefix, id) = text.split_at(text.len() - 26);
                if id.starts_with("01") && id.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit()) {
                    let at = self.named.iter().position(|named| named == id).unwrap_or(self.named.len());
                    if at == self.named.len() {
                        self.named.push(id.into());
                    }
                    *text = format!("{prefix}{at}");
                }
            }
            Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
            Value::Array(items) => items.iter_mut().for_each(|item| self.name(item)),
            Value::Object(members) => members.values_mut().for_each(|member| self.name(member)),
        }
    }

    /// The last job that anything was said of.
    fn last_job(&self) -> Value {
        let frames = self.world.frames_of(self.raw.conn).iter().rev();
        let job = |text: &String| {
            let frame: Value = serde_json::from_str(text).ok()?;
            frame.get("job_id").or_else(|| frame["payload"].get("job_id")).cloned()
        };
        frames.filter_map(job).next().expect("a job")
    }
}

fn hello_scene(on: &mut Listener) {
    on.say("session.hello", hello_payload("tok-a"));
    on.say("session.ping", json!({"nonce": "n"}));
    on.say("job.submit", json!({"agent": "echo", "input": [1.5], "idempotency_key": "k"}));
    on.say("job.submit", json!({"agent": "echo", "input": [2], "idempotency_key": "k"}));
    on.say("job.submit", json!({"agent": "kinds"}));
    on.say("job.submit", json!({"agent": "slow", "input": {"ticks": 2}}));
    on.say("job.submit", json!({"agent": "chunker", "input": {"chunks": 2, "bytes": 4}}));
    on.say("job.submit", json!({"agent": "failer"}));
    on.say("job.submit", json!({"agent": "waiter", "max_runtime_sec": 1}));
    on.say("job.submit", json!({"agent": "nobody"}));
    on.say("job.submit", json!({"agent": 5}));
    on.say("job.submit", json!({"agent": "waiter"}));
    let job = on.last_job();
    on.emit(&job, "progress", json!({"current": 0.5, "total": 1.5, "units": "files", "message": "half of one"}));
    on.say("job.cancel", json!({"job_id": job, "reason": "enough"}));
    on.say("job.cancel", json!({"job_id": job}));
    on.say("job.cancel", json!({"job_id": NOBODYS_JOB}));
    on.say("session.list_jobs", json!({"limit": 2}));
    on.say("session.list_jobs", json!({"limit": 0}));
    on.say("session.list_jobs", json!({"cursor": "nowhere"}));
    on.say("job.subscribe", json!({"job_id": NOBODYS_JOB}));
    on.say("job.unsubscribe", json!({"job_id": NOBODYS_JOB}));
    on.say("session.ack", json!({"last_processed_seq": 100_000}));
    on.say("job.dance", json!({}));
    on.connect();
    on.say("session.hello", hello_payload("tok-a"));
    on.say("job.subscribe", json!({"job_id": job, "history": true}));
    on.say("job.subscribe", json!({"job_id": job, "from_event_seq": 0}));
    on.say("session.close", json!({"reason": "done"}));
    on.connect();
    on.say("session.hello", hello_payload("wrong"));
    on.connect();
    on.say("job.submit", json!({"agent": "echo"}));
}

fn open_scene(on: &mut Listener) {
    let mut bare = open_payload("");
    bare["auth"] = json!({"scheme": "bearer"});
    on.say("session.open", bare);
    on.say("session.authenticate", json!({"response": "tok-a"}));
    on.say("ping", json!({"nonce": "n"}));
    for (tool, arguments) in [
        ("echo", json!({"n": [1.5]})),
        ("kinds", json!({})),
        ("slow", json!({"ticks": 2})),
        ("chunker", json!({"chunks": 2, "bytes": 4})),
        ("failer", json!({})),
        ("thinker", json!({"count": 1})),
        ("nobody", json!({})),
    ] {
        on.say("tool.invoke", json!({"tool": tool, "arguments": arguments}));
    }
    on.say("tool.invoke", json!({"tool": 5}));
    on.say("tool.invoke", json!({"tool": "waiter", "arguments": {}}));
    let job = on.last_job();
    on.emit(&job, "progress", json!({"current": 0.5, "total": 1.5, "units": "files", "message": "half of one"}));
    on.say("interrupt", json!({"target": "job", "target_id": job}));
    on.say("cancel", json!({"target": "job", "target_id": job, "reason": "enough", "deadline_ms": 1000}));
    on.say("cancel", json!({"target": "job", "target_id": job}));
    on.say("cancel", json!({"target": "job", "target_id": NOBODYS_JOB}));
    on.say("session.list_jobs", json!({"limit": 2}));
    on.say("job.list", json!({"limit": 2}));
    on.say("session.list_jobs", json!({"cursor": "nowhere"}));
    on.say("job.subscribe", json!({"job_id": NOBODYS_JOB}));
    on.say("artifact.put", json!({"media_type": "text/plain", "data": "aGk="}));
    on.say("subscribe", json!({"filter": {"types": ["metric", "log"]}, "since": {}}));
    on.connect();
    on.say("session.open", open_payload("tok-a"));
    on.say("job.subscribe", json!({"job_id": job, "history": true}));
    on.say("session.close", json!({"reason": "done"}));
    on.connect();
    on.say("session.open", open_payload("wrong"));
}

fn transcript(profiles: &[Profile], scene: fn(&mut Listener)) -> String {
    let (mut text, mut plain) = (String::new(), Vec::new());
    for (n, profile) in profiles.iter().enumerate() {
        let mut listener = Listener::new(*profile);
        scene(&mut listener);
        writeln!(text, "# {profile:?}").expect("a string");
        let differs =
            |at: usize, heard: &(String, Vec<String>)| plain.get(at).is_none_or(|(_, plain)| *plain != heard.1);
        for (_, (said, heard)) in listener.heard.iter().enumerate().filter(|(at, heard)| differs(*at, heard)) {
            writeln!(text, "> {said}").expect("a string");
            heard.iter().for_each(|frame| writeln!(text, "< {frame}").expect("a string"));
        }
        if n == 0 {
            plain = listener.heard;
        }
        listener.world.finish();
    }
    text
}

#[test]
fn every_published_hello_client_hears_what_it_reads() {
    let profiles = [
        Profile::Plain,
        Profile::Python113,
        Profile::TypeScript2,
        Profile::Go11,
        Profile::JavaFSharp,
        Profile::Ruby1,
        Profile::CSharp1,
        Profile::Php2,
    ];
    golden("profiles-hello.txt", &transcript(&profiles, hello_scene));
}

#[test]
fn every_published_open_client_hears_what_it_reads() {
    let profiles = [Profile::Plain, Profile::Native, Profile::Rust200, Profile::Swift1];
    golden("profiles-open.txt", &transcript(&profiles, open_scene));
}
