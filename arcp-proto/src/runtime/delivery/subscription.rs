//! Subscriptions: a session is shown, by filter, what happens in the jobs that
//! its principal may see, whoever submitted them (RFC §13).

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use ulid::Ulid;

use super::frame::event_of_copy;
use super::index::{tag, tag_and_number};
use super::{Delivery, Feed};
use crate::error::{BoundOf, ErrorCode, Violation};
use crate::id::{JobId, LogPos, Principal, SessionId, SubscriptionId, WireId};
use crate::model::event::{EventClass, EventClasses};
use crate::model::request::{Filter, Priority, Since, Subscribe};
use crate::principal::Account;
use crate::runtime::authority;
use crate::runtime::context::Context;
use crate::runtime::io::Record;
use crate::runtime::job::{Job, Jobs};
use crate::time::UtcMs;
use crate::wire::{self, FrameRole};

/// The subscriptions of one session, by number.
#[derive(Debug, Default)]
pub(in crate::runtime) struct Subscriptions {
    open: BTreeMap<u32, Subscription>,
    last: u32,
}

#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) filter: Compiled,
    /// Where its record stands.
    at: LogPos,
    /// Jobs of which a stream was opened to it and not closed.
    pub(super) streams: BTreeSet<JobId>,
    /// Jobs that go on and are shown to it.
    pub(super) shown: BTreeSet<JobId>,
}

/// A filter whose every condition is looked up, not searched.
#[derive(Debug)]
pub(super) struct Compiled {
    sessions: Option<BTreeSet<SessionId>>,
    traces: Option<BTreeSet<String>>,
    jobs: Option<BTreeSet<JobId>>,
    streams: Option<BTreeSet<JobId>>,
    types: Option<u32>,
    min_priority: Priority,
    classes: EventClasses,
}

impl Subscriptions {
    pub(super) fn get(&self, number: u32) -> Option<&Subscription> {
        self.open.get(&number)
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Subscription> {
        self.open.get_mut(&number)
    }

    pub(super) fn count(&self) -> usize {
        self.open.len()
    }

    fn put(&mut self, number: u32, subscription: Subscription) {
        self.last = self.last.max(number);
        self.open.insert(number, subscription);
    }

    /// What makes two of them the same, as text.
    pub(in crate::runtime) fn shown(&self) -> String {
        let open: Vec<(&u32, &Compiled)> = self.open.iter().map(|(number, open)| (number, &open.filter)).collect();
        alloc::format!("{open:?} of {}", self.last)
    }

    /// Their numbers.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> {
        self.open.keys().copied()
    }
}

impl Compiled {
    fn new(filter: &Filter) -> Compiled {
        #[cfg(test)]
        tests::COMPILED.with(|compiled| compiled.set(compiled.get() + 1));
        fn set<T: Ord>(list: &[String], read: impl Fn(&String) -> Option<T>) -> Option<BTreeSet<T>> {
            // Ids that are none of ours match nothing; they do not widen it.
            (!list.is_empty()).then(|| list.iter().filter_map(read).collect())
        }
        let mut compiled = Compiled {
            sessions: set(&filter.sessions, |id| SessionId::parse(id)),
            traces: set(&filter.traces, |trace| Some(trace.clone())),
            jobs: set(&filter.jobs, |id| JobId::parse(id)),
            streams: set(&filter.streams, |id| JobId::parse(&alloc::format!("job_{}", id.strip_prefix("str_")?))),
            types: (!filter.types.is_empty()).then(|| wire::observed_types(&filter.types)),
            min_priority: filter.min_priority.unwrap_or(Priority::Low),
            classes: EventClasses::default(),
        };
        let shown = EventClass::ALL.into_iter().filter(|class| compiled.shows(Some(*class), FrameRole::Whole));
        compiled.classes = shown.collect();
        compiled
    }

    /// Whether the filter lets anything of a job through.
    fn covers(&self, id: JobId, job: &Job) -> bool {
        #[cfg(test)]
        tests::LOOKED_AT.with(|looked_at| looked_at.set(looked_at.get() + 1));
        self.sessions.as_ref().is_none_or(|sessions| sessions.contains(&job.submitter()))
            && self.traces.as_ref().is_none_or(|traces| traces.contains(&job.spec().trace))
            && self.jobs.as_ref().is_none_or(|jobs| jobs.contains(&id))
            && self.streams.as_ref().is_none_or(|streams| streams.contains(&id))
    }

    /// The classes of events that it lets through whole, of a job that it covers.
    pub(super) fn classes(&self) -> EventClasses {
        self.classes
    }

    /// Whether it lets one frame of an event through, or with `None` the
    /// acceptance, of a job that it covers.
    pub(super) fn shows(&self, class: Option<EventClass>, part: FrameRole) -> bool {
        let (kind, priority) = wire::observed_type(class, part);
        let of_stream = part == FrameRole::StreamOpen
            || part == FrameRole::StreamClose
            || part == FrameRole::Whole && class == Some(EventClass::Thought);
        self.types.is_none_or(|types| types & kind != 0)
            && priority >= self.min_priority
            && (self.streams.is_none() || of_stream)
    }
}

/// The name of a subscription: it follows from its place, so that frames of
/// one that is over still have it.
pub(in crate::runtime) fn id_of(session: SessionId, number: u32) -> SubscriptionId {
    let session = session.ulid();
    let random = u128::from(tag(session)) << 40 | u128::from(number);
    SubscriptionId::from_ulid(Ulid::from_parts(session.timestamp_ms(), random))
}

/// Where the history that a subscription asks for begins.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Beginning,
    After { at: UtcMs, job: JobId, event: u64 },
}

/// A subscription that was noted, and the history that it is shown.
#[derive(Debug)]
pub(in crate::runtime) struct NewSubscription {
    number: u32,
    filter: Compiled,
    at: LogPos,
    /// The jobs whose history it is, each with the first event.
    past: Vec<(JobId, u64)>,
    /// Whether the end of the history is marked.
    bounded: bool,
}

impl Delivery {
    /// Notes a subscription; gives its id. It is [begun](Self::begin_subscription)
    /// once its client was told.
    ///
    /// # Errors
    ///
    /// If there are too many, or what it asks for is gone or too much.
    pub(in crate::runtime) fn subscribe(
        &self,
        ctx: &mut Context,
        jobs: &Jobs,
        session: SessionId,
        subscribe: &Subscribe,
        (request, command): (&WireId, [u8; 32]),
    ) -> Result<(SubscriptionId, NewSubscription), Violation> {
        let most = ctx.config.limits.subscriptions_per_session;
        let feed = self.feeds.get(&session).ok_or_else(|| Violation::invalid("the session is gone"))?;
        if feed.subscriptions.count() >= most {
            let full = alloc::format!("this session has {most} subscriptions: end one first");
            return Err(Violation::exhausted("subscriptions_per_session", BoundOf::Session, most as u64, full));
        }
        let principal = feed.principal.clone();
        let most = ctx.config.limits.subscriptions_per_principal;
        if self.subscriptions_of(&principal) >= most {
            let (of, full) =
                (principal.account().bound_of(), "your sessions have too many subscriptions: end one first");
            return Err(Violation::exhausted("subscriptions_per_principal", of, most as u64, full));
        }
        let number = feed.subscriptions.last + 1;
        let filter = Compiled::new(&subscribe.filter);
        let past = self.past(ctx, jobs, session, &filter, subscribe.since.as_ref())?;
        let record =
            Record::Subscribed { session, number, filter: subscribe.filter.clone(), request: request.clone(), command };
        let at = ctx.append(record);
        let bounded = subscribe.since.is_some();
        Ok((id_of(session, number), NewSubscription { number, filter, at, past, bounded }))
    }

    /// Numbers the history that a subscription is shown, and what comes.
    pub(in crate::runtime) fn begin_subscription(
        &mut self,
        ctx: &mut Context,
        jobs: &Jobs,
        session: SessionId,
        new: NewSubscription,
    ) {
        let NewSubscription { number, filter, at, past, bounded } = new;
        let first = self.feeds.get(&session).map_or(0, Feed::head) + 1;
        self.add_subscription(ctx, jobs, session, number, filter, at);
        for (job, from) in past {
            let last = jobs.get(job).map_or(0, Job::count);
            self.number(ctx, jobs, session, job, from..=last, number);
        }
        if let Some(feed) = self.feeds.get_mut(&session).filter(|feed| feed.index.head() >= first) {
            feed.begin_to_catch_up(first);
        }
        self.gate(ctx, session, first);
        if bounded {
            self.number_local(ctx, session, JobId::from_ulid(Ulid::nil()), FrameRole::Boundary, number);
        }
    }

    /// Every job that the filter covers, each with the first event after the cut.
    fn past(
        &self,
        ctx: &Context,
        jobs: &Jobs,
        session: SessionId,
        filter: &Compiled,
        since: Option<&Since>,
    ) -> Result<Vec<(JobId, u64)>, Violation> {
        let unknown = || Violation::invalid("the session is gone");
        let principal = &self.feeds.get(&session).ok_or_else(unknown)?.principal;
        let cut = match since {
            None => return Ok(Vec::new()),
            Some(Since::Beginning) => Cut::Beginning,
            Some(Since::Message(message)) => self.cut_at(ctx, jobs, session, message)?,
        };
        let visible = authority::visible_jobs(&ctx.config, jobs, principal, None);
        let covered = visible.filter(|(id, job)| !job.is_expired() && filter.covers(*id, job));
        let mut events = 0;
        let mut past = Vec::new();
        for (id, job) in covered {
            let from = first_after(cut, id, job)?;
            events += (job.count() + 1).saturating_sub(from);
            past.push((id, from));
        }
        let most = ctx.config.limits.backfill_events;
        if events > most {
            let large =
                alloc::format!("more than {most} events of the past: ask for fewer jobs, or after a later message");
            return Err(Violation::exhausted("backfill_events", BoundOf::Request, most, large));
        }
        Ok(past)
    }

    /// The event behind a message that a client of a session's principal was
    /// sent.
    fn cut_at(&self, ctx: &Context, jobs: &Jobs, own: SessionId, message: &WireId) -> Result<Cut, Violation> {
        let unknown = || Violation::new(ErrorCode::JobNotFound, "`after_message_id`: no such message is known here");
        let ulid = message.as_str().strip_prefix("msg_").and_then(|text| Ulid::from_string(text).ok());
        let ulid = ulid.ok_or_else(unknown)?;
        let (message_tag, number) = tag_and_number(ulid);
        let at = UtcMs(ulid.timestamp_ms());
        if let Some(session) = self.session_tagged(own, message_tag) {
            let index = &self.feeds.get(&session).ok_or_else(unknown)?.index;
            let given = (1..=index.head()).contains(&number);
            let entry = index.at(number, jobs).ok_or_else(|| if given { trimmed() } else { unknown() })?;
            let event = match entry.part {
                FrameRole::Whole => entry.event,
                // The event itself comes after these.
                FrameRole::StreamOpen | FrameRole::StreamClose => entry.event - 1,
                // Of no event: it comes after those that were numbered before it.
                FrameRole::Boundary | FrameRole::LagWarning | FrameRole::Detached => {
                    index.event_at_or_before(entry.job, number, jobs)
                }
            };
            return Ok(Cut::After { at, job: entry.job, event });
        }
        let principal = &self.feeds.get(&own).ok_or_else(unknown)?.principal;
        let mut visible = authority::visible_jobs(&ctx.config, jobs, principal, None);
        let (job, _) = visible.find(|(id, _)| tag(id.ulid()) == message_tag).ok_or_else(unknown)?;
        Ok(Cut::After { at, job, event: event_of_copy(number) })
    }

    /// The session of the same principal whose messages bear this tag.
    pub(super) fn session_tagged(&self, own: SessionId, wanted: u64) -> Option<SessionId> {
        if tag(own.ulid()) == wanted {
            return Some(own);
        }
        let principal = &self.feeds.get(&own)?.principal;
        self.tagged(wanted).find(|id| self.feeds.get(id).is_some_and(|feed| feed.principal == *principal))
    }

    /// Takes a subscription: what happens in jobs from now on is shown to it.
    fn add_subscription(
        &mut self,
        ctx: &Context,
        jobs: &Jobs,
        id: SessionId,
        number: u32,
        filter: Compiled,
        at: LogPos,
    ) {
        let Some(feed) = self.feeds.get_mut(&id) else {
            return;
        };
        let visible = authority::visible_jobs(&ctx.config, jobs, &feed.principal, None);
        let goes_on = visible.filter(|(job_id, job)| !job.is_terminal() && filter.covers(*job_id, job));
        let shown: BTreeSet<JobId> = goes_on.map(|(id, _)| id).collect();
        for job in &shown {
            if let Some(audience) = self.audiences.get_mut(job) {
                audience.subscribers.push((id, number));
            }
        }
        self.subscribed.entry(feed.principal.account()).or_default().insert(id);
        feed.subscriptions.put(number, Subscription { filter, at, streams: BTreeSet::new(), shown });
    }

    /// Whoever subscribed to jobs like a new one, or a restored one that goes on,
    /// is shown it.
    pub(in crate::runtime) fn show_to_subscribers(&mut self, ctx: &Context, jobs: &Jobs, id: JobId) {
        let Some(job) = jobs.get(id) else {
            return;
        };
        let mut subscribers = Vec::new();
        for principal in authority::may_see(&ctx.config, job) {
            for session in self.subscribed_by(principal) {
                let feed = self.feeds.get(&session).map(|feed| &feed.subscriptions);
                let covering = feed.into_iter().flat_map(|all| &all.open).filter(|(_, s)| s.filter.covers(id, job));
                subscribers.extend(covering.map(|(number, _)| (session, *number)));
            }
        }
        for (session, number) in &subscribers {
            let subscription = self.feeds.get_mut(session).and_then(|feed| feed.subscriptions.get_mut(*number));
            if let Some(subscription) = subscription {
                subscription.shown.insert(id);
            }
        }
        if let Some(audience) = self.audiences.get_mut(&id) {
            audience.subscribers = subscribers;
        }
    }

    /// Sessions of a principal that have subscriptions.
    fn subscribed_by(&self, principal: &Principal) -> Vec<SessionId> {
        let of_account = self.subscribed_of(principal);
        of_account.filter(|(_, feed)| feed.principal == *principal).map(|(id, _)| id).collect()
    }

    /// How many subscriptions there are of a principal and of whoever shares
    /// its bounds.
    fn subscriptions_of(&self, principal: &Principal) -> usize {
        self.subscribed_of(principal).map(|(_, feed)| feed.subscriptions.count()).sum()
    }

    fn subscribed_of(&self, principal: &Principal) -> impl Iterator<Item = (SessionId, &Feed)> {
        let sessions = self.subscribed.get(&principal.account()).into_iter().flatten();
        sessions.filter_map(|id| Some((*id, self.feeds.get(id)?)))
    }

    /// The number of a session's subscription of this name.
    pub(in crate::runtime) fn subscription_named(&self, session: SessionId, named: &WireId) -> Option<u32> {
        let asked = SubscriptionId::parse(named.as_str())?;
        self.feeds.get(&session)?.subscriptions.numbers().find(|number| asked == id_of(session, *number))
    }

    /// Ends a subscription: it is shown nothing more. Its client is told once
    /// what was numbered for it is sent.
    pub(in crate::runtime) fn unsubscribe(&mut self, ctx: &mut Context, session: SessionId, number: u32) {
        let open = self.feeds.get(&session).map(|feed| &feed.subscriptions);
        let last = open.map_or(0, |subscriptions| subscriptions.last);
        let undoes = open.and_then(|subscriptions| subscriptions.get(number)).map_or(LogPos(0), |closed| closed.at);
        self.forget_subscription(session, number);
        ctx.append(Record::Unsubscribed { session, number, undoes, last });
    }

    /// A subscription is shown nothing more.
    pub(super) fn forget_subscription(&mut self, id: SessionId, number: u32) {
        let Some(feed) = self.feeds.get_mut(&id) else {
            return;
        };
        let gone = feed.subscriptions.open.remove(&number);
        for job in gone.iter().flat_map(|gone| &gone.shown) {
            if let Some(audience) = self.audiences.get_mut(job) {
                audience.subscribers.retain(|subscriber| *subscriber != (id, number));
            }
        }
        let (account, none_left) = (feed.principal.account(), feed.subscriptions.open.is_empty());
        if none_left {
            self.forget_subscriber(&account, id);
        }
    }

    fn forget_subscriber(&mut self, account: &Account, id: SessionId) {
        if let Some(sessions) = self.subscribed.get_mut(account) {
            sessions.remove(&id);
            if sessions.is_empty() {
                self.subscribed.remove(account);
            }
        }
    }

    /// A session is over, and its subscriptions with it.
    pub(super) fn forget_subscriptions(&mut self, id: SessionId, feed: &Feed) {
        for job in feed.subscriptions.open.values().flat_map(|subscription| &subscription.shown) {
            if let Some(audience) = self.audiences.get_mut(job) {
                audience.subscribers.retain(|(session, _)| *session != id);
            }
        }
        self.forget_subscriber(&feed.principal.account(), id);
    }

    /// Takes over a subscription of an earlier run. What it is shown is found
    /// out once, when all that are left are known.
    pub(in crate::runtime) fn restore_subscription(&mut self, id: SessionId, number: u32, filter: &Filter, at: LogPos) {
        if let Some(feed) = self.feeds.get_mut(&id) {
            let filter = Compiled::new(filter);
            let restored = Subscription { filter, at, streams: BTreeSet::new(), shown: BTreeSet::new() };
            feed.subscriptions.put(number, restored);
            self.subscribed.entry(feed.principal.account()).or_default().insert(id);
        }
    }

    /// Takes over that a subscription of an earlier run was over in it.
    pub(in crate::runtime) fn restore_unsubscribed(&mut self, id: SessionId, number: u32, last: u32) {
        self.forget_subscription(id, number);
        if let Some(feed) = self.feeds.get_mut(&id) {
            feed.subscriptions.last = feed.subscriptions.last.max(last);
        }
    }
}

/// The first event of a job that comes after a cut: by time, and within a
/// millisecond by job.
fn first_after(cut: Cut, id: JobId, job: &Job) -> Result<u64, Violation> {
    // The acceptance comes with the first event.
    let beginning = if job.history().first() == 1 { 0 } else { job.history().first() };
    let Cut::After { at, job: cut_job, event } = cut else {
        return Ok(beginning);
    };
    let later = |when: UtcMs| (when, id) > (at, cut_job);
    let from = if id == cut_job {
        event + 1
    } else if later(job.spec().created_at) {
        0
    } else {
        return first_later(job, later);
    };
    // What was let go of came after the message, or with the acceptance.
    if from.max(1) < job.history().first() { Err(trimmed()) } else { Ok(from) }
}

/// The first event after the cut, of a job that was accepted before it.
fn first_later(job: &Job, later: impl Fn(UtcMs) -> bool) -> Result<u64, Violation> {
    if job.end().is_some_and(|end| !later(end.at)) {
        return Ok(job.count() + 1);
    }
    job.history().first_where(later).ok_or_else(trimmed)
}

fn trimmed() -> Violation {
    let why = "`after_message_id`: too long ago to tell what came later in every job: subscribe from the beginning";
    Violation::new(ErrorCode::ResumeWindowExpired, why)
}

#[cfg(test)]
#[allow(clippy::wildcard_enum_match_arm, reason = "what is not looked at is not done")]
mod tests {
    use core::cell::Cell;

    use super::*;
    use crate::entropy::Seeds;
    use crate::id::ConnId;
    use crate::json::Json;
    use crate::runtime::{AgentCall, Config, Input, Output, Runtime, Transport};
    use crate::time::{Now, Timestamp};
    use alloc::string::ToString as _;

    std::thread_local! {
        /// Filters compiled on this thread.
        pub(super) static COMPILED: Cell<u32> = const { Cell::new(0) };
        /// Jobs held against a filter on this thread.
        pub(super) static LOOKED_AT: Cell<u32> = const { Cell::new(0) };
    }

    /// Takes an input and does what follows; gives the frames.
    fn given(runtime: &mut Runtime, input: Input) -> Vec<String> {
        let mut frames = Vec::new();
        runtime.handle(Now::default(), input);
        while let Some(output) = runtime.poll_output() {
            match output {
                Output::Persist(batch) => runtime.handle(Now::default(), Input::Persisted { up_to: batch.last() }),
                Output::Send { frame, .. } => frames.push(frame),
                _ => {}
            }
        }
        frames
    }

    const CONN: ConnId = ConnId(1);

    fn say(runtime: &mut Runtime, frame: &str) -> Vec<String> {
        given(runtime, Input::Received { conn: CONN, frame: frame.as_bytes().to_vec() })
    }

    fn empty() -> Runtime {
        let mut config = Config::new("test", "1").with_agent("it", &[]);
        config.anonymous = true;
        let seeds = Seeds { public: [1; 32], secret: [2; 32] };
        Runtime::new(config, seeds, Now::default()).expect("it works")
    }

    /// A runtime with one session, subscribed to metrics.
    fn subscribed() -> Runtime {
        let mut runtime = empty();
        given(&mut runtime, Input::Opened { conn: CONN, transport: Transport::WebSocket, address: None, peer: None });
        given(&mut runtime, Input::Credit { conn: CONN, bytes: u32::MAX, frames: u32::MAX });
        let open = r#"{"id":"1","type":"session.open","payload":{"auth":{"scheme":"none"},"capabilities":{"anonymous":true}}}"#;
        say(&mut runtime, open);
        say(&mut runtime, r#"{"id":"2","type":"subscribe","payload":{"filter":{"types":["metric"]}}}"#);
        runtime
    }

    /// Starts one more job.
    fn invoke(runtime: &mut Runtime, n: u32) -> JobId {
        let invoke = alloc::format!(r#"{{"id":"i{n}","type":"tool.invoke","payload":{{"tool":"it"}}}}"#);
        say(runtime, &invoke);
        runtime.jobs.table().ids().last().expect("it was accepted")
    }

    fn subscribers(runtime: &Runtime, job: JobId) -> usize {
        runtime.delivery.audience(job).map_or(0, crate::runtime::delivery::Audience::subscribed)
    }

    #[test]
    fn b76_a_filter_is_compiled_once_and_not_for_each_job_or_event() {
        let mut runtime = subscribed();
        let mut shown = 0;
        for n in 0..3 {
            let job = invoke(&mut runtime, n);
            for _ in 0..10 {
                let body = Json::parse(r#"{"name":"tick","value":1}"#).expect("JSON");
                let call = AgentCall::Emit { kind: "metric".into(), body };
                let frames = given(&mut runtime, Input::Agent { job, call });
                shown += frames.iter().filter(|frame| frame.contains("subscribe.event")).count();
            }
        }
        assert_eq!((shown, COMPILED.with(Cell::get)), (30, 1));
    }

    #[test]
    fn a_subscription_or_session_that_is_over_is_held_by_no_job() {
        for closing in [true, false] {
            let mut runtime = subscribed();
            let job = invoke(&mut runtime, 1);
            assert_eq!(subscribers(&runtime, job), 1);
            let session = runtime.sessions.ids().next().expect("there is one");
            if closing {
                given(&mut runtime, Input::Closed { conn: CONN });
                let window_over = Timestamp(3_600_000_000_000);
                runtime.handle(Now { mono: window_over, utc: UtcMs(3_600_000) }, Input::Tick);
            } else {
                let unsubscribe = alloc::format!(
                    r#"{{"id":"3","type":"unsubscribe","payload":{{"subscription_id":"{}"}}}}"#,
                    id_of(session, 1)
                );
                say(&mut runtime, &unsubscribe);
            }
            assert_eq!((subscribers(&runtime, job), runtime.sessions.len()), (0, usize::from(!closing)));
        }
    }

    #[test]
    fn a_restart_holds_each_job_against_each_filter_once_however_often_clients_subscribed() {
        const JOBS: u32 = 40;
        let mut runtime = subscribed();
        let mut records = Vec::new();
        for n in 0..JOBS {
            let invoke = alloc::format!(r#"{{"id":"i{n}","type":"tool.invoke","payload":{{"tool":"it"}}}}"#);
            keep(&mut runtime, &mut records, &invoke);
        }
        let session = runtime.sessions.ids().next().expect("there is one");
        for n in 2..50 {
            let subscribe = alloc::format!(r#"{{"id":"s{n}","type":"subscribe","payload":{{"filter":{{}}}}}}"#);
            keep(&mut runtime, &mut records, &subscribe);
            let id = id_of(session, n);
            let unsubscribe =
                alloc::format!(r#"{{"id":"u{n}","type":"unsubscribe","payload":{{"subscription_id":"{id}"}}}}"#);
            keep(&mut runtime, &mut records, &unsubscribe);
        }
        let made = runtime.sessions.get(session).expect("it is open");
        let opened = Record::SessionOpened {
            session,
            principal: made.principal().clone(),
            anonymous: made.principal().is_anonymous(),
            view: *made.view(),
            token: *made.token(),
            extensions: Vec::new(),
        };
        let filter = Filter { types: alloc::vec!["metric".to_string()], ..Filter::default() };
        let request = WireId::new("2").expect("an id");
        let first = Record::Subscribed { session, number: 1, filter, request, command: [0; 32] };
        let mut again = empty();
        LOOKED_AT.with(|looked_at| looked_at.set(0));
        for (at, record) in (1..).map(LogPos).zip([opened, first].into_iter().chain(records)) {
            given(&mut again, Input::Restore { at, record });
        }
        given(&mut again, Input::Restored { last: LogPos(1000) });
        assert_eq!(LOOKED_AT.with(Cell::get), JOBS, "one filter is left");
    }

    /// Takes a frame, and keeps what is to be kept.
    fn keep(runtime: &mut Runtime, records: &mut Vec<Record>, frame: &str) {
        runtime.handle(Now::default(), Input::Received { conn: CONN, frame: frame.as_bytes().to_vec() });
        while let Some(output) = runtime.poll_output() {
            if let Output::Persist(batch) = output {
                runtime.handle(Now::default(), Input::Persisted { up_to: batch.last() });
                records.extend(batch.records);
            }
        }
    }
}
