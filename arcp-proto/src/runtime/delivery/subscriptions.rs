//! All subscriptions: which sessions are shown which jobs by filter, whichever session submitted
//! them (RFC §13). Kept by session, by job and by account.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use super::backfill::Backfill;
use super::feed::Feed;
use super::feeds::Feeds;
use super::filter::EventFilter;
use super::subscription::{NewSubscription, SessionSubscriptions, Subscription, id_of};
use crate::error::{BoundOf, Violation};
use crate::id::{JobId, LogPos, Principal, SessionId, SubscriptionId, WireId};
use crate::model::request::{Filter, Subscribe};
use crate::principal::Account;
use crate::runtime::account::{HeldFor, Recount};
use crate::runtime::authority;
use crate::runtime::context::Context;
use crate::runtime::expected::Expected as _;
use crate::runtime::io::Record;
use crate::runtime::job::{Job, Jobs};

#[derive(Debug, Default)]
pub(in crate::runtime) struct Subscriptions {
    /// The subscriptions of every session that ever had one.
    by_session: BTreeMap<SessionId, SessionSubscriptions>,
    /// The subscriptions that are shown each unfinished job.
    by_job: BTreeMap<JobId, Vec<(SessionId, u32)>>,
    /// The sessions of each account that have subscriptions.
    by_account: BTreeMap<Account, BTreeSet<SessionId>>,
    #[cfg(test)]
    work: tests::Work,
}

impl Subscriptions {
    /// Records a subscription; returns its id. It [begins](Self::begin) after its client was told.
    ///
    /// # Errors
    ///
    /// If there are too many, or its history is deleted or too long.
    pub(in crate::runtime) fn subscribe(
        &self,
        ctx: &mut Context,
        (jobs, feeds): (&Jobs, &Feeds),
        session: SessionId,
        subscribe: &Subscribe,
        (request, command): (&WireId, [u8; 32]),
    ) -> Result<(SubscriptionId, NewSubscription), Violation> {
        let principal = &feeds.get(session).ok_or_else(|| Violation::invalid("the session is gone"))?.principal;
        let most = ctx.config.limits.session.subscriptions_per_session;
        if self.numbers(session).count() >= most {
            let full = alloc::format!("this session has {most} subscriptions: end one first");
            return Err(Violation::exhausted("subscriptions_per_session", BoundOf::Session, most as u64, full));
        }
        let most = ctx.config.limits.session.subscriptions_per_principal;
        if self.count_of(principal) >= most {
            let (of, full) =
                (principal.account().bound_of(), "your sessions have too many subscriptions: end one first");
            return Err(Violation::exhausted("subscriptions_per_principal", of, most as u64, full));
        }
        let most = ctx.config.limits.session.filter_bytes;
        if subscribe.filter.bytes() > most {
            let long = alloc::format!("the lists of `filter` may have at most {most} bytes");
            return Err(Violation::exhausted("filter_bytes", BoundOf::Request, most as u64, long));
        }
        let number = self.by_session.get(&session).map_or(0, |own| own.last) + 1;
        let filter = self.compile(&subscribe.filter);
        let backfill = Backfill::new(ctx, jobs, feeds, session, &filter, subscribe.since.as_ref())?;
        let record =
            Record::Subscribed { session, number, filter: subscribe.filter.clone(), request: request.clone(), command };
        let at = ctx.append(record);
        Ok((id_of(session, number), NewSubscription { number, filter, at, backfill }))
    }

    /// Begins a subscription: it is shown what happens in jobs from now on.
    pub(super) fn begin(
        &mut self,
        ctx: &mut Context,
        jobs: &Jobs,
        (id, feed): (SessionId, &Feed),
        number: u32,
        (filter, at): (EventFilter, LogPos),
    ) {
        let visible = authority::visible_jobs(&ctx.config, jobs, feed.viewer());
        let goes_on = visible.filter(|(job_id, job)| !job.is_terminal() && self.covers(&filter, *job_id, job));
        let shown: BTreeSet<JobId> = goes_on.map(|(id, _)| id).collect();
        for job in &shown {
            self.by_job.entry(*job).or_default().push((id, number));
        }
        self.put(ctx, (id, &feed.principal), number, (filter, at, shown));
    }

    /// The only place where filters are compiled: once for each subscription.
    fn compile(&self, filter: &Filter) -> EventFilter {
        #[cfg(test)]
        self.work.compiled.set(self.work.compiled.get() + 1);
        EventFilter::new(filter)
    }

    /// Whether a filter may let events of a job through.
    fn covers(&self, filter: &EventFilter, id: JobId, job: &Job) -> bool {
        #[cfg(test)]
        self.work.compared.set(self.work.compared.get() + 1);
        filter.covers(id, job)
    }

    fn put(
        &mut self,
        ctx: &mut Context,
        (id, principal): (SessionId, &Principal),
        number: u32,
        (filter, at, shown): (EventFilter, LogPos, BTreeSet<JobId>),
    ) {
        let account = principal.account();
        let charge = ctx.accounts.of(&account).charge(HeldFor::Filters, filter.weight());
        self.by_account.entry(account).or_default().insert(id);
        self.of_session(id, principal).put(number, Subscription { filter, at, shown, _charge: charge });
    }

    /// Counts the bytes of all filters again.
    pub(super) fn recount(&self, recount: &mut Recount<'_>) {
        for own in self.by_session.values() {
            let bytes = own.open.values().map(|open| open.filter.weight()).sum();
            recount.add_for(&own.principal.account(), HeldFor::Filters, bytes);
        }
    }

    fn of_session(&mut self, id: SessionId, principal: &Principal) -> &mut SessionSubscriptions {
        self.by_session.entry(id).or_insert_with(|| SessionSubscriptions::new(principal.clone()))
    }

    /// The filter of a subscription, unless it has ended.
    pub(super) fn filter(&self, session: SessionId, number: u32) -> Option<&EventFilter> {
        Some(&self.by_session.get(&session)?.open.get(&number)?.filter)
    }

    /// The subscriptions that are shown a job.
    pub(super) fn of_job(&self, job: JobId) -> &[(SessionId, u32)] {
        self.by_job.get(&job).map_or(&[], Vec::as_slice)
    }

    /// The numbers of a session's subscriptions.
    pub(super) fn numbers(&self, session: SessionId) -> impl Iterator<Item = u32> {
        self.by_session.get(&session).into_iter().flat_map(|own| own.open.keys()).copied()
    }

    /// The number of a session's subscription with this id.
    pub(in crate::runtime) fn named(&self, session: SessionId, named: &WireId) -> Option<u32> {
        let asked = SubscriptionId::parse(named.as_str())?;
        self.numbers(session).find(|number| asked == id_of(session, *number))
    }

    /// A text that is the same for two sessions if their subscriptions are.
    pub(in crate::runtime) fn shown(&self, session: SessionId) -> String {
        let own = self.by_session.get(&session);
        let open = own.into_iter().flat_map(|own| &own.open);
        let open: Vec<(&u32, &EventFilter)> = open.map(|(number, open)| (number, &open.filter)).collect();
        alloc::format!("{open:?} of {}", own.map_or(0, |own| own.last))
    }

    /// Shows a new job, or a restored unfinished one, to the subscriptions whose filters cover it.
    pub(in crate::runtime) fn show(&mut self, ctx: &Context, (jobs, feeds): (&Jobs, &Feeds), id: JobId) {
        let Some(job) = jobs.get(id).expected("who is shown was just accepted or restored") else {
            return;
        };
        let mut shown_to = Vec::new();
        if ctx.config.authority.policy.is_some() {
            for (session, own) in &self.by_session {
                let sees = |feed: &Feed| authority::sees(&ctx.config, feed.viewer(), job);
                if feeds.get(*session).is_some_and(sees) {
                    shown_to.extend(self.covering_of((*session, own), id, job));
                }
            }
        } else {
            for principal in authority::see_always(&ctx.config, job) {
                let own = self.subscribed(principal).filter(|(_, own)| own.principal == *principal);
                shown_to.extend(own.flat_map(|own| self.covering_of(own, id, job)));
            }
        }
        for (session, number) in &shown_to {
            let own = self.by_session.get_mut(session);
            if let Some(subscription) = own.and_then(|own| own.open.get_mut(number)) {
                subscription.shown.insert(id);
            }
        }
        if !shown_to.is_empty() {
            self.by_job.insert(id, shown_to);
        }
    }

    /// Subscriptions of a session that cover a job.
    fn covering_of(
        &self,
        (session, own): (SessionId, &SessionSubscriptions),
        id: JobId,
        job: &Job,
    ) -> Vec<(SessionId, u32)> {
        let covering = own.open.iter().filter(|(_, open)| self.covers(&open.filter, id, job));
        covering.map(|(number, _)| (session, *number)).collect()
    }

    /// The unfinished jobs that the subscriptions of a session are shown.
    pub(super) fn shown_to(&self, session: SessionId) -> impl Iterator<Item = JobId> {
        let open = self.by_session.get(&session).into_iter().flat_map(|own| own.open.values());
        open.flat_map(|open| open.shown.iter().copied())
    }

    /// The number of subscriptions of a principal and of those that share its account.
    fn count_of(&self, principal: &Principal) -> usize {
        self.subscribed(principal).map(|(_, own)| own.open.len()).sum()
    }

    /// The sessions of that account that have subscriptions.
    fn subscribed(&self, principal: &Principal) -> impl Iterator<Item = (SessionId, &SessionSubscriptions)> {
        let sessions = self.by_account.get(&principal.account()).into_iter().flatten();
        sessions.filter_map(|id| Some((*id, self.by_session.get(id)?)))
    }

    /// Records the end of a subscription, and removes it.
    pub(super) fn unsubscribe(&mut self, ctx: &mut Context, session: SessionId, number: u32) {
        let own = self.by_session.get(&session);
        let last = own.map_or(0, |own| own.last);
        let undoes = own.and_then(|own| own.open.get(&number)).map_or(LogPos(0), |closed| closed.at);
        self.forget(session, number);
        ctx.append(Record::Unsubscribed { session, number, undoes, last });
    }

    /// Removes a subscription.
    pub(super) fn forget(&mut self, id: SessionId, number: u32) {
        let Some(own) = self.by_session.get_mut(&id) else {
            return; // The session has no subscriptions.
        };
        let gone = own.open.remove(&number);
        let none_left = own.open.is_empty().then(|| own.principal.account());
        for job in gone.iter().flat_map(|gone| &gone.shown) {
            self.hide(*job, |subscription| *subscription == (id, number));
        }
        if let Some(account) = none_left {
            self.forget_subscriber(&account, id);
        }
    }

    /// Stops showing a job to these subscriptions.
    fn hide(&mut self, job: JobId, whom: impl Fn(&(SessionId, u32)) -> bool) {
        if let Some(shown_to) = self.by_job.get_mut(&job) {
            shown_to.retain(|subscription| !whom(subscription));
            if shown_to.is_empty() {
                self.by_job.remove(&job);
            }
        }
    }

    fn forget_subscriber(&mut self, account: &Account, id: SessionId) {
        if let Some(sessions) = self.by_account.get_mut(account) {
            sessions.remove(&id);
            if sessions.is_empty() {
                self.by_account.remove(account);
            }
        }
    }

    /// Removes the subscriptions of a session that has ended.
    pub(super) fn close_session(&mut self, id: SessionId) {
        let Some(own) = self.by_session.remove(&id) else {
            return; // The session never had subscriptions.
        };
        for job in own.open.values().flat_map(|subscription| &subscription.shown) {
            self.hide(*job, |(session, _)| *session == id);
        }
        self.forget_subscriber(&own.principal.account(), id);
    }

    /// Stops showing a job that has ended.
    pub(super) fn end_job(&mut self, job: JobId) {
        for (session, number) in self.by_job.remove(&job).unwrap_or_default() {
            let own = self.by_session.get_mut(&session);
            if let Some(subscription) = own.and_then(|own| own.open.get_mut(&number)) {
                subscription.shown.remove(&job);
            }
        }
    }

    /// Restores a subscription of an earlier run. Its jobs are added once all jobs are restored.
    pub(super) fn restore(
        &mut self,
        ctx: &mut Context,
        (id, principal): (SessionId, &Principal),
        number: u32,
        filter: &Filter,
        at: LogPos,
    ) {
        let filter = self.compile(filter);
        self.put(ctx, (id, principal), number, (filter, at, BTreeSet::new()));
    }

    /// Restores that an earlier run ended a subscription, and the last number given.
    pub(super) fn restore_unsubscribed(&mut self, (id, principal): (SessionId, &Principal), number: u32, last: u32) {
        self.forget(id, number);
        let own = self.of_session(id, principal);
        own.last = own.last.max(last);
    }
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
    use crate::time::{Now, Timestamp, UtcMs};
    use alloc::string::ToString as _;

    /// Counts of the work that subscriptions cause.
    #[derive(Debug, Default)]
    pub(super) struct Work {
        /// Filters compiled.
        pub(super) compiled: Cell<u32>,
        /// Jobs compared with a filter.
        pub(super) compared: Cell<u32>,
    }

    /// Handles an input and persists what follows; returns the frames.
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
        given(
            &mut runtime,
            Input::Opened { conn: CONN, transport: Transport::WebSocket, address: None, binding: None, peer: None },
        );
        given(&mut runtime, Input::Credit { conn: CONN, bytes: u32::MAX, frames: u32::MAX });
        let open = r#"{"id":"1","type":"session.open","payload":{"auth":{"scheme":"none"},"capabilities":{"anonymous":true}}}"#;
        say(&mut runtime, open);
        say(&mut runtime, r#"{"id":"2","type":"subscribe","payload":{"filter":{"types":["metric"]}}}"#);
        runtime
    }

    /// Submits another job.
    fn invoke(runtime: &mut Runtime, n: u32) -> JobId {
        let invoke = alloc::format!(r#"{{"id":"i{n}","type":"tool.invoke","payload":{{"tool":"it"}}}}"#);
        say(runtime, &invoke);
        runtime.jobs.table().ids().last().expect("it was accepted")
    }

    fn subscribers(runtime: &Runtime, job: JobId) -> usize {
        runtime.delivery.subscriptions.of_job(job).len()
    }

    #[test]
    fn a_filter_is_compiled_once_and_not_for_each_job_or_event() {
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
        assert_eq!((shown, runtime.delivery.subscriptions.work.compiled.get()), (30, 1));
    }

    #[test]
    fn a_job_that_is_forgotten_is_held_by_no_subscription() {
        let mut runtime = subscribed();
        let [job, other] = [1, 2].map(|n| invoke(&mut runtime, n));
        let shown = |runtime: &Runtime| {
            let own = runtime.delivery.subscriptions.by_session.values().next().expect("one session");
            own.open.values().map(|subscription| subscription.shown.len()).sum::<usize>()
        };
        assert_eq!((subscribers(&runtime, job), shown(&runtime)), (1, 2));
        runtime.delivery.subscriptions.end_job(job);
        assert_eq!([job, other].map(|job| subscribers(&runtime, job)), [0, 1]);
        assert_eq!(shown(&runtime), 1);
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
            scopes: made.allowance().opened_with().0.clone(),
            roles: crate::policy::Roles::default(),
            ceiling: None,
            view: *made.view(),
            token: *made.token(),
            extensions: Vec::new(),
        };
        let filter = Filter { types: alloc::vec!["metric".to_string()], ..Filter::default() };
        let request = WireId::new("2").expect("an id");
        let first = Record::Subscribed { session, number: 1, filter, request, command: [0; 32] };
        let mut again = empty();
        for (at, record) in (1..).map(LogPos).zip([opened, first].into_iter().chain(records)) {
            given(&mut again, Input::Restore { at, record });
        }
        given(&mut again, Input::Restored { last: LogPos(1000) });
        assert_eq!(again.delivery.subscriptions.work.compared.get(), JOBS, "one filter is left");
    }

    /// Handles a frame, and collects the records.
    fn keep(runtime: &mut Runtime, records: &mut Vec<Record>, frame: &str) {
        runtime.handle(Now::default(), Input::Received { conn: CONN, frame: frame.as_bytes().to_vec() });
        while let Some(output) = runtime.poll_output() {
            if let Output::Persist(batch) = output {
                runtime.handle(Now::default(), Input::Persisted { up_to: batch.last() });
                records.extend(batch.records.iter().cloned());
            }
        }
    }
}
