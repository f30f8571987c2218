//! The store in a file, compared in the same run with the best that SQLite can do with the same rows; how fast history
//! is loaded, how long a restart takes, and whether the file grows without a bound.
//!
//! ```text
//! cargo bench -p arcp-tests --bench store
//! cargo bench -p arcp-tests --bench store -- ten-million
//! ```

#![allow(clippy::print_stdout, reason = "the report is what it is for")]
#![allow(clippy::wildcard_enum_match_arm, reason = "a driver of a benchmark needs few outputs")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arcp_host::sqlite::{Durability, SqliteStore};
use arcp_host::store::Store;
use arcp_proto::entropy::Seeds;
use arcp_proto::id::{ConnId, JobId, LogPos, Principal, SessionId};
use arcp_proto::json::Json;
use arcp_proto::model::agent::AgentRef;
use arcp_proto::model::event::{EventClass, EventKind, JobEvent, JobResult, Terminal};
use arcp_proto::model::request::Invocation;
use arcp_proto::runtime::{
    AgentCall, Batch, Config, EventRecord, Input, JobBounds, JobRecord, Numbered, NumberedRun, Output, Record, Runtime,
    Transport,
};
use arcp_proto::secret::Secret;
use arcp_proto::time::{Now, Timestamp, UtcMs};
use arcp_proto::wire::{Family, FrameRole, View};
use rusqlite::params;
use serde_json::json;
use ulid::Ulid;

const ROUNDS: usize = 5;
const GROUPS: [u64; 4] = [16, 64, 256, 1024];
const BODY: &str =
    r#"{"name":"tick","value":123456,"unit":"count","dims":{"host":"a-machine-somewhere","region":"eu"}}"#;

fn main() {
    let mut args = std::env::args();
    // The test runner asks every target for its list of tests.
    if args.any(|arg| arg == "--list") {
        return;
    }
    if std::env::args().any(|arg| arg == "ten-million") {
        return stay_flat();
    }
    compare_commits();
    compare_reads();
    restart();
}

/// A file that is deleted with the measurement.
struct File(PathBuf);

impl File {
    fn new(name: &str) -> File {
        File(Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}.db", std::process::id())))
    }

    fn open(&self) -> SqliteStore {
        SqliteStore::open(&self.0, Durability::Full).expect("it opens")
    }

    fn bytes(&self) -> u64 {
        ["", "-wal"].iter().filter_map(|part| std::fs::metadata(self.part(part)).ok()).map(|file| file.len()).sum()
    }

    fn part(&self, part: &str) -> String {
        format!("{}{part}", self.0.display())
    }
}

impl Drop for File {
    fn drop(&mut self) {
        for part in ["", "-wal", "-shm", "-lock"] {
            let _ = std::fs::remove_file(self.part(part));
        }
    }
}

fn job(n: u64) -> JobId {
    JobId::from_ulid(Ulid::from_parts(n, u128::from(n)))
}

fn session(n: u64) -> SessionId {
    SessionId::from_ulid(Ulid::from_parts(n, u128::from(n)))
}

fn tick(n: u64) -> EventRecord {
    let body = Json::parse(BODY).expect("JSON");
    let event = Arc::new(JobEvent::Emitted { kind: EventKind::Metric, body });
    EventRecord { n, at: UtcMs(1_790_000_000_000 + n), thoughts: 0, event }
}

/// An event and its number, as the core gives them to a store.
fn event_batch(at: u64, n: u64) -> Batch {
    let run = NumberedRun {
        seq: n,
        count: 1,
        log: job(1).into(),
        event: n,
        shown: None,
        role: FrameRole::Whole,
        request: 0,
        subscription: 0,
    };
    let records = vec![
        Record::Numbered { session: session(1), run: Numbered::Events(run) },
        Record::JobEvent { job: job(1), event: tick(n) },
    ];
    Batch { first: LogPos(at), records: records.into() }
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// Events per second into the store, and into two plain tables with the same rows; every commit is synced.
fn compare_commits() {
    println!("commits on the disk, events per second, median of {ROUNDS} rounds:");
    for group in GROUPS {
        let events = (group * 64).min(20_000);
        let (mut ours, mut bare) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let file = File::new("ours");
            let mut store = file.open();
            let groups: Vec<Vec<Batch>> = (0..events / group)
                .map(|b| (0..group).map(|k| event_batch(1 + 2 * (b * group + k), 1 + b * group + k)).collect())
                .collect();
            let begun = Instant::now();
            for group in &groups {
                store.commit(group).expect("committed");
            }
            ours.push(events as f64 / begun.elapsed().as_secs_f64());
            bare.push(events as f64 / bare_commits(events, group).as_secs_f64());
        }
        let (ours, bare) = (median(ours), median(bare));
        println!(
            "  groups of {group:<5} {ours:>9.0}   SQLite with the same rows {bare:>9.0}   {:.2} of it",
            ours / bare
        );
    }
}

/// The same rows, prepared before the clock runs.
fn bare_commits(events: u64, group: u64) -> Duration {
    let file = File::new("bare");
    let mut connection = rusqlite::Connection::open(&file.0).expect("it opens");
    connection.pragma_update(None, "journal_mode", "WAL").expect("set");
    connection.pragma_update(None, "synchronous", "FULL").expect("set");
    let tables = "CREATE TABLE events (pos INTEGER PRIMARY KEY, job BLOB, first INTEGER, last INTEGER, body BLOB);
                  CREATE INDEX events_job ON events (job, first);
                  CREATE TABLE numbers (pos INTEGER PRIMARY KEY, session BLOB, last INTEGER, body BLOB);
                  CREATE INDEX numbers_session ON numbers (session, last);
                  CREATE TABLE log (one INTEGER PRIMARY KEY, last INTEGER); INSERT INTO log VALUES (1, 0);";
    connection.execute_batch(tables).expect("made");
    let key = job(1).ulid().to_bytes();
    let rows: Vec<(u64, Vec<Vec<u8>>)> = (0..events / group)
        .map(|b| {
            let whole: Vec<u64> = (b * group + 1..=(b + 1) * group).collect();
            let part =
                |part: &[u64]| serde_json::to_vec(&part.iter().map(|n| tick(*n)).collect::<Vec<_>>()).expect("JSON");
            (b, whole.chunks(256).map(part).collect())
        })
        .collect();
    let begun = Instant::now();
    for (b, parts) in &rows {
        let transaction = connection.transaction().expect("begun");
        for (k, body) in parts.iter().enumerate() {
            let sql = "INSERT INTO events VALUES (?1, ?2, ?3, ?4, ?5)";
            let mut insert = transaction.prepare_cached(sql).expect("prepared");
            let first = (b * group + k as u64 * 256) as i64;
            insert.execute(params![first, key, first, first, body]).expect("put");
        }
        let numbers = format!("[{{\"seq\":{},\"count\":{group},\"job\":\"{}\"}}]", b * group, job(1)).into_bytes();
        let mut insert = transaction.prepare_cached("INSERT INTO numbers VALUES (?1, ?2, ?3, ?4)").expect("prepared");
        insert.execute(params![(b * group) as i64, key, (b * group) as i64, numbers]).expect("put");
        drop(insert);
        transaction.prepare_cached("UPDATE log SET last = ?1").expect("prepared").execute([*b as i64]).expect("put");
        transaction.commit().expect("committed");
    }
    begun.elapsed()
}

/// Events loaded per second, as the core requests them, and with one scan of the same rows that only reads their
/// bytes.
fn compare_reads() {
    const EVENTS: u64 = 200_000;
    let file = File::new("reads");
    let mut store = file.open();
    for b in 0..EVENTS / 256 {
        let group: Vec<Batch> = (0..256).map(|k| event_batch(1 + 2 * (b * 256 + k), 1 + b * 256 + k)).collect();
        store.commit(&group).expect("committed");
    }
    let count = EVENTS / 256 * 256;
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let mut history = store.history().expect("it opens").expect("it has one");
        let begun = Instant::now();
        let mut next = 1;
        while next <= count {
            next += history.events(job(1), next, next + 255, 1 << 20).expect("read").len() as u64;
        }
        ours.push(count as f64 / begun.elapsed().as_secs_f64());
        let reader = rusqlite::Connection::open(&file.0).expect("it opens");
        let begun = Instant::now();
        let mut rows = reader.prepare("SELECT body FROM events ORDER BY pos").expect("prepared");
        let mut rows = rows.query([]).expect("begun");
        let mut bytes = 0;
        while let Some(row) = rows.next().expect("read") {
            bytes += row.get_ref(0).expect("a body").as_blob().expect("bytes").iter().filter(|b| **b == b'{').count();
        }
        assert!(bytes > 0);
        bare.push(count as f64 / begun.elapsed().as_secs_f64());
    }
    let (ours, bare) = (median(ours), median(bare));
    println!(
        "history read back: {ours:.0} events per second; a bare scan of the rows: {bare:.0}; {:.2} of it",
        ours / bare
    );
}

/// The time from an empty process to a runtime that serves, with ended jobs and with jobs that were running.
fn restart() {
    const OVER: u64 = 100_000;
    const RUNNING: u64 = 1000;
    const EVENTS: u64 = 20;
    let file = File::new("restart");
    let mut store = SqliteStore::open(&file.0, Durability::Normal).expect("it opens");
    let mut at = 0;
    let mut group = Vec::new();
    let mut put = |store: &mut SqliteStore, record: Option<Record>| {
        let last = record.is_none();
        group.extend(record.map(|record| {
            at += 1;
            Batch { first: LogPos(at), records: vec![record].into() }
        }));
        if last || group.len() >= 4096 {
            store.commit(&group).expect("committed");
            group.clear();
        }
    };
    let now = UtcMs(1_790_000_000_000);
    // A principal may keep only so many ended jobs: there are ten.
    let principal = |n: u64| Principal::new(&format!("p{}", n % 10)).expect("a name");
    let view = View::before_handshake(false).negotiated(Default::default(), Default::default());
    assert_eq!(view.family, Family::Hello);
    let token = Secret::new("t".into()).digest();
    let opened = Record::SessionOpened {
        session: session(1),
        principal: principal(1),
        anonymous: false,
        scopes: Default::default(),
        roles: Default::default(),
        ceiling: None,
        view,
        token,
        extensions: vec![],
    };
    put(&mut store, Some(opened));
    for n in 1..=OVER + RUNNING {
        let accepted = JobRecord {
            job: job(n),
            principal: principal(n),
            session: session(1),
            agent: AgentRef::parse("slow").expect("a name"),
            input: Json::parse(r#"{"ms":1000}"#).expect("JSON"),
            lease: Json::empty_object(),
            trace: "4bf92f3577b34da6a3ce929d0e0e4736".into(),
            invocation: Invocation::default(),
            request: arcp_proto::id::WireId::new("r").expect("an id"),
            command: None,
            starts: true,
            id_is_of_principal: false,
            created_at: now,
            bounds: JobBounds::default(),
            key: None,
        };
        put(&mut store, Some(Record::JobAccepted(accepted.into())));
        for event in 1..=EVENTS {
            put(&mut store, Some(Record::JobEvent { job: job(n), event: tick(event) }));
        }
        if n <= OVER {
            let terminal = Terminal::success(Some(JobResult::Inline(Json::parse("{}").expect("JSON"))), None);
            let event = EventRecord { event: Arc::new(JobEvent::Ended(Box::new(terminal))), ..tick(EVENTS + 1) };
            put(&mut store, Some(Record::JobEvent { job: job(n), event }));
            let classes = vec![(EventClass::Metric, EVENTS as u32), (EventClass::Succeeded, 1)];
            put(&mut store, Some(Record::JobHistory { job: job(n), gone: 0, classes, bytes: 5000, started: None }));
        }
    }
    put(&mut store, None);
    drop(store);
    let mut times = Vec::new();
    for _ in 0..3 {
        let begun = Instant::now();
        let mut store = file.open();
        let (mut runtime, now) = (runtime(), Now { mono: Timestamp(1), utc: now });
        let mut records = 0;
        let last = store
            .load(&mut |at, record| {
                records += 1;
                runtime.handle(now, Input::Restore { at, record });
            })
            .expect("loaded");
        runtime.handle(now, Input::Restored { last });
        times.push(begun.elapsed().as_secs_f64());
        assert_eq!(runtime.stats().jobs as u64, OVER + RUNNING);
        println!(
            "restart with {OVER} jobs over and {RUNNING} that ran, {records} records: {:.2} s",
            times[times.len() - 1]
        );
    }
    println!("  {:.0} bytes on the disk", file.bytes());
}

fn runtime() -> Runtime {
    let mut config = Config::new("bench", "1").with_agent("slow", &[]);
    config.history = true;
    config.anonymous = true;
    config.timing.heartbeat = None;
    Runtime::new(
        config,
        Seeds { public: [1; 32], secret: [2; 32] },
        Now { mono: Timestamp(1), utc: UtcMs(1_790_000_000_000) },
    )
    .expect("it works")
}

/// A job that emits events for ever, for a client that reads and acknowledges.
fn stay_flat() {
    let file = File::new("flat");
    let mut steady = Steady {
        runtime: runtime(),
        store: file.open(),
        group: Vec::new(),
        now: 1,
        credit: 0,
        job: None,
        said: 0,
        seq: 0,
    };
    steady.store.load(&mut |_, _| {}).expect("it is new");
    let conn = ConnId(1);
    steady.input(Input::Opened { conn, transport: Transport::WebSocket, address: None, binding: None, peer: None });
    steady.input(Input::Credit { conn, bytes: u32::MAX, frames: u32::MAX });
    let hello = json!({"id": "1", "type": "session.hello", "payload": {"auth": {"scheme": "none"}, "capabilities": {"features": ["ack"]}}});
    steady.receive(&hello);
    steady.receive(&json!({"id": "2", "type": "job.submit", "payload": {"agent": "slow"}}));
    let begun = Instant::now();
    for million in 1..=10_u64 {
        while steady.said < million * 1_000_000 {
            steady.talk();
        }
        println!(
            "{million:>3} million events: {:>7} KiB, {:>4.0} s",
            file.bytes() >> 10,
            begun.elapsed().as_secs_f64()
        );
    }
}

/// A runtime with its store and its only agent and client, in one thread.
struct Steady {
    runtime: Runtime,
    store: SqliteStore,
    group: Vec<Batch>,
    now: u64,
    credit: u32,
    job: Option<JobId>,
    said: u64,
    seq: u64,
}

impl Steady {
    fn receive(&mut self, frame: &serde_json::Value) {
        self.input(Input::Received { conn: ConnId(1), frame: frame.to_string().into_bytes() });
    }

    fn talk(&mut self) {
        let job = self.job.expect("it runs");
        while self.credit > 0 {
            self.credit -= 1;
            self.said += 1;
            let call = AgentCall::Emit { kind: "metric".into(), body: Json::parse(BODY).expect("JSON") };
            self.handle(Input::Agent { job, call });
        }
        self.settle();
        if self.said.is_multiple_of(1024) {
            self.receive(&json!({"id": format!("a{}", self.said), "type": "session.ack", "payload": {"last_processed_seq": self.seq}}));
        }
    }

    fn input(&mut self, input: Input) {
        self.handle(input);
        self.settle();
    }

    fn handle(&mut self, input: Input) {
        self.now += 3;
        let now = Now { mono: Timestamp(self.now), utc: UtcMs(1_790_000_000_000 + self.now / 1000) };
        self.runtime.handle(now, input);
    }

    fn settle(&mut self) {
        loop {
            while let Some(output) = self.runtime.poll_output() {
                self.perform(output);
            }
            let Some(up_to) = self.group.last().map(Batch::last) else {
                return;
            };
            self.store.commit(&self.group).expect("committed");
            self.group.clear();
            self.handle(Input::Persisted { up_to });
        }
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Persist(batch) => self.group.push(batch),
            Output::StartAgent { job, spec } => (self.job, self.credit) = (Some(job), spec.credit),
            Output::AgentCredit { calls, .. } => self.credit += calls,
            Output::AgentReply { .. } | Output::InterruptAgent { .. } | Output::AgentStream { .. } => {}
            Output::Send { conn, frame } => {
                let seq = frame.split("\"event_seq\":").nth(1).and_then(|rest| rest.split([',', '}']).next());
                self.seq = seq.and_then(|seq| seq.parse().ok()).unwrap_or(self.seq);
                let bytes = u32::try_from(frame.len()).unwrap_or(0);
                self.handle(Input::Credit { conn, bytes, frames: 1 });
            }
            _ => {}
        }
    }
}
