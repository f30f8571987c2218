//! Schedules, with the same messages in both families except for the job: hello peers use them with
//! `x-vendor.arcp.scheduled_jobs`.

use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::str::FromStr;
use core::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::{ParseError, Violation};
use crate::id::WireId;
use crate::json::{Members, Object, Text};
use crate::model::reply::{CommandReply, Reply, SessionReply};
use crate::model::request::{Command, Invocation, Request, SessionRequest, Submit};
use crate::model::schedule::{
    NewSchedule, Rule, ScheduleChange, SchedulePage, ScheduleQuery, ScheduleSummary, Scheduled, ScheduledJob, Times,
    When,
};
use crate::time::UtcMs;
use crate::wire::envelope::{Header, payload};

/// The type of a request for a schedule.
pub(in crate::wire) const KIND: &str = "job.schedule";
const LIST: &str = "x-vendor.arcp.schedules.list";
const PAUSE: &str = "x-vendor.arcp.schedules.pause";
const RESUME: &str = "x-vendor.arcp.schedules.resume";
/// The answer to a listing.
const PAGE: &str = "x-vendor.arcp.schedules";
/// Members that the RFC does not have.
const MISSED: &str = "x-vendor.arcp.missed";
const OVERLAP: &str = "x-vendor.arcp.overlap";
const NEXT: &str = "x-vendor.arcp.next_at";

#[derive(Deserialize)]
struct Wish<'a> {
    #[serde(borrow)]
    job: Job<'a>,
    #[serde(borrow)]
    when: Moment<'a>,
    #[serde(borrow, default)]
    schedule_id: Option<Text<'a>>,
    #[serde(borrow, default, rename = "x-vendor.arcp.missed")]
    missed: Option<Text<'a>>,
    #[serde(borrow, default, rename = "x-vendor.arcp.overlap")]
    overlap: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Job<'a> {
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
    #[serde(borrow)]
    payload: &'a RawValue,
}

#[derive(Deserialize)]
struct Moment<'a> {
    #[serde(borrow, default)]
    at: Option<Text<'a>>,
    #[serde(borrow, default)]
    every: Option<Text<'a>>,
    #[serde(default)]
    after: Option<u64>,
}

/// Reads a request for a schedule; `of`: the type of the message that submits a job, and its
/// reader.
pub(in crate::wire) fn read_schedule(
    header: &Header<'_>,
    of: &str,
    read: impl FnOnce(&Header<'_>) -> Result<(Submit, Invocation), Violation>,
) -> Result<NewSchedule, Violation> {
    let Wish { job, when, schedule_id, missed, overlap } = payload(KIND, header.payload)?;
    if job.kind.0 != of {
        return Err(Violation::invalid(alloc::format!("`{KIND}`: `job`: `type` must be `{of}`")));
    }
    let (submit, invocation) = read(&Header {
        id: header.id.clone(),
        kind: of.into(),
        session: None,
        job: None,
        trace: header.trace.clone(),
        span: header.span.clone(),
        stream: None,
        priority: header.priority.clone(),
        key: None,
        correlation: None,
        seq: None,
        timestamp: None,
        payload: job.payload.get(),
        extensions: header.extensions,
        sidecar: None,
    })?;
    if submit.key.is_some() || submit.parent.is_some() {
        let why = "`job`: it has no key and no parent of its own: each time has its own key";
        return Err(Violation::invalid(alloc::format!("`{KIND}`: {why}")));
    }
    // An idempotency key serves as the id of the schedule.
    let named = schedule_id.or_else(|| header.key.as_ref().map(|key| Text(key.clone())));
    let Submit { agent, input, lease_request, lease_constraints, max_runtime, trace, .. } = submit;
    Ok(NewSchedule {
        id: named.map(|named| id(KIND, &named)).transpose()?,
        job: ScheduledJob { agent, input, lease_request, lease_constraints, max_runtime, trace, invocation },
        when: read_when(when)?,
        missed: word(MISSED, missed)?.unwrap_or_default(),
        overlap: word(OVERLAP, overlap)?.unwrap_or_default(),
    })
}

fn read_when(when: Moment<'_>) -> Result<When, Violation> {
    let wrong = |name: &str, why: ParseError| Violation::invalid(alloc::format!("`{KIND}`: `{name}`: {why}"));
    match when {
        Moment { at: Some(Text(at)), every: None, after: None } => {
            at.parse().map(When::At).map_err(|why| wrong("at", why))
        }
        Moment { at: None, every: Some(Text(rule)), after: None } => {
            rule.parse::<Rule>().map(When::Every).map_err(|why| wrong("every", why))
        }
        Moment { at: None, every: None, after: Some(seconds) } => Ok(When::After(Duration::from_secs(seconds))),
        _ => {
            let why = "`when` has one of `at`, a time, `every`, a recurrence rule, and `after`, seconds";
            Err(Violation::invalid(alloc::format!("`{KIND}`: {why}")))
        }
    }
}

fn word<T: FromStr<Err = ParseError>>(name: &str, word: Option<Text<'_>>) -> Result<Option<T>, Violation> {
    let read = |Text(word): Text<'_>| {
        word.parse().map_err(|why| Violation::invalid(alloc::format!("`{KIND}`: `{name}`: {why}")))
    };
    word.map(read).transpose()
}

fn id(kind: &str, Text(id): &Text<'_>) -> Result<WireId, Violation> {
    let most = WireId::MAX;
    WireId::new(id).ok_or_else(|| Violation::invalid(alloc::format!("`{kind}`: `schedule_id` has 1 to {most} bytes")))
}

#[derive(Deserialize)]
struct Asked<'a> {
    #[serde(borrow, default)]
    schedule_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    after: Option<Text<'a>>,
    #[serde(default)]
    limit: Option<u64>,
    #[serde(default)]
    everybody: bool,
}

/// Reads another request about schedules; `None` for any other message.
pub(super) fn read_request(header: &Header<'_>) -> Result<Option<Request>, Violation> {
    let kind = header.kind.as_ref();
    if !matches!(kind, LIST | PAUSE | RESUME) {
        return Ok(None);
    }
    let asked: Asked<'_> = payload(kind, header.payload)?;
    if kind == LIST {
        let after = asked.after.map(|Text(after)| {
            WireId::new(&after)
                .ok_or_else(|| Violation::invalid(alloc::format!("`{kind}`: `after` is not what a page ends with")))
        });
        let query = ScheduleQuery { after: after.transpose()?, everybody: asked.everybody, limit: asked.limit };
        return Ok(Some(SessionRequest::ListSchedules(query).into()));
    }
    let missing = || Violation::invalid(alloc::format!("`{kind}`: `schedule_id` is missing"));
    let id = id(kind, &asked.schedule_id.ok_or_else(missing)?)?;
    Ok(Some(Command::ChangeSchedule(ScheduleChange { id, paused: kind == PAUSE }).into()))
}

/// The type and payload of a request for a schedule; `job`: type and payload of the submit of its
/// job.
pub(in crate::wire) fn write_schedule(wish: &NewSchedule, job: (&str, &str)) -> (&'static str, String) {
    let mut payload = Object::new();
    payload.object("job", |nested| {
        nested.str("type", job.0).raw("payload", job.1);
    });
    payload.object("when", |when| {
        match &wish.when {
            When::At(at) => when.display("at", at),
            When::After(span) => when.u64("after", span.as_secs()),
            When::Every(rule) => when.str("every", rule.as_str()),
        };
    });
    payload.opt_str("schedule_id", wish.id.as_ref().map(WireId::as_str));
    payload.str(MISSED, wish.missed.as_str()).str(OVERLAP, wish.overlap.as_str());
    (KIND, payload.done())
}

/// The type and payload of a query.
pub(in crate::wire) fn write_query(query: &ScheduleQuery) -> (&'static str, String) {
    let mut payload = Object::new();
    payload.opt_str("after", query.after.as_ref().map(WireId::as_str));
    if let Some(limit) = query.limit {
        payload.u64("limit", limit);
    }
    if query.everybody {
        payload.bool("everybody", true);
    }
    (LIST, payload.done())
}

/// The type and payload of a request to pause or resume a schedule.
pub(in crate::wire) fn write_change(change: &ScheduleChange) -> (&'static str, String) {
    let mut payload = Object::new();
    payload.str("schedule_id", change.id.as_str());
    (if change.paused { PAUSE } else { RESUME }, payload.done())
}

/// The type and payload of the acceptance of a schedule.
pub(in crate::wire) fn write_scheduled(scheduled: &Scheduled) -> (&'static str, String) {
    let mut payload = Object::new();
    payload.str("schedule_id", scheduled.id.as_str()).str("detail", "scheduled").str("note", "scheduled");
    if let Some(next) = scheduled.next {
        payload.display(NEXT, next);
    }
    ("ack", payload.done())
}

/// The type and payload of a page.
pub(in crate::wire) fn write_page(page: &SchedulePage) -> (&'static str, String) {
    let mut payload = Object::new();
    payload.opt_str("request_id", page.request.as_ref().map(WireId::as_str));
    let entries: Vec<String> = page.schedules.iter().map(write_summary).collect();
    payload.array("schedules", entries).opt_str("next_after", page.next.as_ref().map(WireId::as_str));
    (PAGE, payload.done())
}

fn write_summary(schedule: &ScheduleSummary) -> String {
    let ScheduleSummary { id, principal, agent, times, missed, overlap, created_at, paused, next, .. } = schedule;
    let mut entry = Object::new();
    entry.str("schedule_id", id.as_str()).str("principal", principal).str("agent", agent);
    entry.object("when", |when| {
        match times {
            Some(Times::At(at)) => when.display("at", at),
            Some(Times::Every(rule)) => when.str("every", rule.as_str()),
            None => when,
        };
    });
    entry.str("missed", missed.as_str()).str("overlap", overlap.as_str());
    let mut time = |name: &'static str, at: Option<UtcMs>| {
        if let Some(at) = at {
            entry.display(name, at);
        }
    };
    time("created_at", *created_at);
    time("last_at", schedule.last_at);
    entry.opt_str("last_job_id", schedule.last_job.as_ref().map(WireId::as_str));
    entry.opt_str("last_refused", schedule.last_refused.as_deref()).opt_str("paused", paused.as_deref());
    entry.array("next", next.iter().map(|at| alloc::format!("\"{at}\"")));
    entry.u64("queued", schedule.queued).u64("fired", schedule.fired).u64("skipped", schedule.skipped);
    entry.done()
}

/// Reads the answer to a request about schedules; `None` for any other message.
pub(in crate::wire) fn read_reply(
    header: &Header<'_>,
    members: &Members<'_>,
    request: Option<WireId>,
) -> Result<Option<Reply>, Violation> {
    let text = |members: &Members<'_>, name: &str| members.get_str(name).map(|text| text.to_string());
    let id_of = |members: &Members<'_>, name: &str| text(members, name).and_then(|id| WireId::new(&id));
    match header.kind.as_ref() {
        "ack" => Ok(id_of(members, "schedule_id").map(|id| {
            let next = text(members, NEXT).and_then(|at| UtcMs::parse(&at));
            Reply::Command(CommandReply::Scheduled(Scheduled { id, next, request }))
        })),
        PAGE => {
            let rows: Vec<&RawValue> = match members.get("schedules") {
                Some(raw) => payload(PAGE, raw)?,
                None => Vec::new(),
            };
            let rows = rows.into_iter().filter_map(|row| read_summary(&Members::parse(row.get()).ok()?));
            let page = SchedulePage { request, schedules: rows.collect(), next: id_of(members, "next_after") };
            Ok(Some(Reply::Session(SessionReply::Schedules(page))))
        }
        _ => Ok(None),
    }
}

fn read_summary(row: &Members<'_>) -> Option<ScheduleSummary> {
    let text = |name: &str| row.get_str(name).map(|text| text.to_string());
    let time = |name: &str| text(name).and_then(|at| UtcMs::parse(&at));
    let count = |name: &str| row.get(name).and_then(|raw| raw.parse().ok()).unwrap_or_default();
    let when = row.get("when").and_then(|raw| Members::parse(raw).ok()).unwrap_or_default();
    let at = when.get_str("at").and_then(|at| UtcMs::parse(&at)).map(Times::At);
    let next: Vec<String> = row.get("next").and_then(|raw| serde_json::from_str(raw).ok()).unwrap_or_default();
    Some(ScheduleSummary {
        id: WireId::new(&text("schedule_id")?)?,
        principal: text("principal").unwrap_or_default(),
        agent: text("agent").unwrap_or_default(),
        times: at.or_else(|| when.get_str("every")?.parse().ok().map(Times::Every)),
        missed: text("missed").and_then(|word| word.parse().ok()).unwrap_or_default(),
        overlap: text("overlap").and_then(|word| word.parse().ok()).unwrap_or_default(),
        created_at: time("created_at"),
        paused: text("paused"),
        next: next.iter().filter_map(|at| UtcMs::parse(at)).collect(),
        queued: count("queued"),
        fired: count("fired"),
        skipped: count("skipped"),
        last_at: time("last_at"),
        last_job: text("last_job_id").and_then(|id| WireId::new(&id)),
        last_refused: text("last_refused"),
    })
}
