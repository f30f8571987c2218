//! All feeds: the numbered frames of each session, found by session, by the tag of its message ids,
//! and by the jobs that its index refers to. Numbers are given in `numbering`, and released in
//! `release`.

use alloc::collections::BTreeSet;

use super::audience::Audience;
use super::feed::Feed;
use super::index_refs::IndexRefs;
use super::message_id::tag;
use crate::id::{ConnId, JobId, LogId, Principal, SessionId};
use crate::runtime::account::{Balance, HeldFor, Recount};
use crate::runtime::authority::Viewer;
use crate::runtime::context::Context;
use crate::runtime::job::{Jobs, prompts};
use crate::runtime::recent::Recent;
use crate::runtime::timers::Timer;
use crate::wire::View;

#[derive(Debug, Default)]
pub(in crate::runtime) struct Feeds {
    pub(super) by_session: Recent<SessionId, Feed>,
    /// Sessions by the tag that their message ids have in common.
    by_tag: BTreeSet<(u64, SessionId)>,
    pub(super) refs: IndexRefs,
    /// The number of runs in all indexes.
    pub(super) runs: usize,
}

/// Unacknowledged frames of each attached session whose client is expected to acknowledge.
pub(in crate::runtime) fn unacknowledged(feeds: &Feeds) -> impl Iterator<Item = u64> {
    let attached = feeds.by_session.values().filter(|feed| feed.conn.is_some() && feed.acknowledges());
    attached.map(Feed::unacknowledged)
}

impl Feeds {
    /// Adds a session, opened or restored, without numbers.
    pub(super) fn open(&mut self, id: SessionId, principal: Principal, view: View, account: &Balance) {
        self.by_tag.insert((tag(id.ulid()), id));
        self.by_session.insert(id, Feed::new(principal, view, account));
    }

    /// Removes a session that has ended, and releases its numbers.
    pub(super) fn close(&mut self, ctx: &mut Context, id: SessionId) {
        ctx.timers.clear(Timer::Arrived(id));
        if let Some(mut feed) = self.by_session.remove(&id) {
            self.by_tag.remove(&(tag(id.ulid()), id));
            let released = feed.index.release(u64::MAX);
            self.unreference(ctx, id, &released);
        }
    }

    pub(in crate::runtime) fn get(&self, id: SessionId) -> Option<&Feed> {
        self.by_session.get(&id)
    }

    /// The connection that a session is attached to.
    pub(in crate::runtime) fn conn(&self, id: SessionId) -> Option<ConnId> {
        self.by_session.get(&id)?.conn
    }

    /// The last number given in a session.
    pub(super) fn head(&self, id: SessionId) -> u64 {
        self.by_session.get(&id).map_or(0, Feed::head)
    }

    /// The feed of a session that is attached.
    pub(super) fn attached(&self, id: SessionId) -> Option<&Feed> {
        self.by_session.get(&id).filter(|feed| feed.conn.is_some())
    }

    /// Attaches a session to a connection; the frames after `last_seq` are its backlog.
    pub(in crate::runtime) fn attach(
        &mut self,
        ctx: &mut Context,
        jobs: &Jobs,
        id: SessionId,
        conn: ConnId,
        last_seq: u64,
    ) {
        if let Some(feed) = self.by_session.get_mut(&id) {
            feed.attach(conn, last_seq);
            self.release_expired(ctx, jobs, id);
        }
    }

    /// A session lost its connection.
    pub(super) fn detach(&mut self, ctx: &mut Context, id: SessionId) {
        ctx.timers.clear(Timer::Arrived(id));
        if let Some(feed) = self.by_session.get_mut(&id) {
            feed.conn = None;
        }
    }

    /// Adds a job that no index refers to.
    pub(super) fn add_job(&mut self, job: JobId) {
        self.refs.add_log(job.into());
    }

    /// Removes a job that is forgotten. Entries that refer to it are lost.
    pub(super) fn remove_job(&mut self, job: JobId) {
        self.refs.remove_log(job.into());
    }

    /// The number of runs in all indexes.
    pub(in crate::runtime) fn runs(&self) -> usize {
        self.runs
    }

    /// Bytes of events by which attached sessions are behind.
    pub(in crate::runtime) fn unsent_bytes(&self) -> usize {
        let attached = self.by_session.values().filter(|feed| feed.conn.is_some());
        attached.map(Feed::unsent_bytes).sum()
    }

    /// The session of the same principal whose message ids have this tag.
    pub(super) fn tagged(&self, own: SessionId, wanted: u64) -> Option<SessionId> {
        if tag(own.ulid()) == wanted {
            return Some(own);
        }
        let principal = &self.by_session.get(&own)?.principal;
        let least = SessionId::from_ulid(ulid::Ulid::nil());
        let mut tagged = self.by_tag.range((wanted, least)..).take_while(|(found, _)| *found == wanted);
        let of_principal = |id: &SessionId| self.by_session.get(id).is_some_and(|feed| feed.principal == *principal);
        tagged.find(|(_, id)| of_principal(id)).map(|(_, id)| *id)
    }

    /// Whether a payload of a log may be sent to several sessions.
    pub(super) fn is_shared(&self, log: LogId) -> bool {
        self.refs.count(log) > 1
    }

    /// Whether no index refers to a job.
    pub(in crate::runtime) fn is_unreferenced(&self, job: JobId) -> bool {
        self.refs.count(job.into()) == 0
    }

    /// The first event of a job that a session may still need.
    pub(in crate::runtime) fn first_needed(&self, jobs: &Jobs, job: JobId) -> u64 {
        let feeds = self.refs.sessions(job.into()).filter_map(|reader| self.by_session.get(&reader));
        // Open questions are also shown to sessions that come later.
        let asked = jobs.get(job).and_then(|job| prompts::open_events(job).next());
        feeds.filter_map(|feed| feed.index.first_event(job, jobs)).chain(asked).min().unwrap_or(u64::MAX)
    }

    /// The first event of a job that must stay in memory because an attached session, which paces
    /// the agent, was not sent it.
    pub(super) fn first_unsent(&self, jobs: &Jobs, job: JobId, audience: &Audience) -> u64 {
        let attached = audience.pacing_readers().filter_map(|reader| self.attached(reader));
        let unsent = attached.filter_map(|feed| feed.index.first_event_after(job, 0, feed.cursor, jobs));
        unsent.min().unwrap_or(u64::MAX)
    }

    /// Whether a session that owns an ended job is attached and was not sent all events that came
    /// while it was attached.
    pub(super) fn is_owed(&self, job: JobId, audience: &Audience) -> bool {
        let owners = self.refs.sessions(job.into()).filter(|reader| audience.owners.contains(reader));
        owners
            .filter_map(|owner| self.attached(owner))
            .any(|feed| feed.index.has_events_after(job, feed.sent_or_owed()))
    }

    /// Closes the stream of a job that a session watched, or was shown by a subscription.
    pub(super) fn close_stream(&mut self, id: SessionId, subscription: u32, job: JobId) {
        if let Some(feed) = self.by_session.get_mut(&id) {
            feed.streams.remove(&(subscription, job.into()));
        }
    }

    /// Closes all streams of a subscription that has ended.
    pub(super) fn close_streams_of(&mut self, id: SessionId, subscription: u32) {
        if let Some(feed) = self.by_session.get_mut(&id) {
            feed.streams.retain(|(of, _)| *of != subscription);
        }
    }
}

/// Notes whether the present connection of a session takes binary messages beside frames.
pub(in crate::runtime) fn go_beside(feeds: &mut Feeds, id: SessionId, beside: bool) {
    if let Some(feed) = feeds.by_session.get_mut(&id) {
        feed.beside = beside;
    }
}

/// Notes the roles by which a session sees jobs, which have changed.
pub(in crate::runtime) fn be_viewed_by(feeds: &mut Feeds, id: SessionId, viewer: Viewer<'_>) {
    if let Some(feed) = feeds.by_session.get_mut(&id) {
        feed.roles = viewer.roles.cloned();
    }
}

/// Counts the bytes of all indexes again.
pub(super) fn recount(feeds: &Feeds, recount: &mut Recount<'_>) {
    for feed in feeds.by_session.values() {
        recount.add(feed.account(), HeldFor::Numbers, feed.index.recount());
    }
}

#[cfg(test)]
mod tests {
    use ulid::Ulid;

    use super::*;
    use crate::entropy::Seeds;
    use crate::runtime::Config;
    use crate::runtime::effect::Effect;
    use crate::runtime::io::{LocalWord, Numbered, NumberedRun, Record};
    use crate::time::Now;
    use crate::wire::FrameRole;

    fn context() -> Context {
        Context::new(Config::new("t", "1"), &Seeds { public: [1; 32], secret: [2; 32] }, Now::default())
            .expect("it works")
    }

    fn feeds_of(ctx: &Context, session: SessionId) -> Feeds {
        let mut feeds = Feeds::default();
        let account = ctx.accounts.runtime().below();
        feeds.open(session, Principal::new("p").expect("a name"), View::before_handshake(false), &account);
        feeds
    }

    #[test]
    fn a_frame_of_no_event_is_recorded_with_its_number_and_points_to_no_job() {
        let (mut ctx, session) = (context(), SessionId::from_ulid(Ulid::from_parts(1, 1)));
        let mut feeds = feeds_of(&ctx, session);
        for subscription in 1..=3 {
            feeds.number_local(&mut ctx, session, LocalWord::Boundary { subscription });
        }
        let numbered =
            |record: &Record| if let Record::Numbered { run, .. } = record { Some(run.clone()) } else { None };
        let recorded: alloc::vec::Vec<Numbered> = ctx.log.open().iter().filter_map(numbered).collect();
        assert_eq!(recorded.iter().map(Numbered::seq).collect::<alloc::vec::Vec<u64>>(), [1, 2, 3]);
        let mut restored = feeds_of(&ctx, session);
        for numbered in recorded {
            restored.restore_numbers(&mut ctx, &Jobs::default(), session, numbered);
        }
        let said = |feeds: &Feeds, n| feeds.get(session).and_then(|feed| feed.index().local(n).cloned());
        assert!((0..3).all(|n| said(&feeds, n).is_some() && said(&feeds, n) == said(&restored, n)));
        feeds.close(&mut ctx, session);
        assert!(feeds.runs() == 0 && ctx.next_effect().is_none(), "no job waited for it");
    }

    #[test]
    fn what_holds_the_frames_of_a_session_that_is_away_goes_once_it_is_durable() {
        let (mut ctx, session) = (context(), SessionId::from_ulid(Ulid::from_parts(1, 1)));
        let mut feeds = feeds_of(&ctx, session);
        for subscription in 1..=100 {
            feeds.number_local(&mut ctx, session, LocalWord::Boundary { subscription });
            ctx.seal();
            ctx.log.persisted(ctx.log.last());
        }
        assert_eq!(feeds.get(session).map(|feed| feed.gates.len()), Some(1));
    }

    #[test]
    fn streams_that_a_subscription_was_shown_go_with_it_and_others_stay_open() {
        let (ctx, session) = (context(), SessionId::from_ulid(Ulid::from_parts(1, 1)));
        let mut feeds = feeds_of(&ctx, session);
        let log = LogId::Job(JobId::from_ulid(Ulid::nil()));
        let feed = feeds.by_session.get_mut(&session).expect("it was opened");
        feed.streams.extend([(0, log), (1, log), (2, log)]);
        feeds.close_streams_of(session, 1);
        let open =
            feeds.get(session).map(|feed| feed.streams.iter().map(|(of, _)| *of).collect::<alloc::vec::Vec<u32>>());
        assert_eq!(open.as_deref(), Some([0, 2].as_slice()));
    }

    #[test]
    fn a_frame_that_is_gone_is_let_go_if_all_before_it_were() {
        let (mut ctx, session) = (context(), SessionId::from_ulid(Ulid::from_parts(1, 1)));
        let mut feeds = feeds_of(&ctx, session);
        (1..=3).for_each(|subscription| feeds.number_local(&mut ctx, session, LocalWord::Boundary { subscription }));
        let mut floor_after = |gone| {
            feeds.release_gone(&mut ctx, session, gone);
            feeds.get(session).map(|feed| feed.index().floor())
        };
        assert_eq!([2, 1, 3, 2].map(&mut floor_after), [Some(0), Some(1), Some(1), Some(2)]);
    }

    #[test]
    fn the_store_is_told_of_released_numbers_many_at_once() {
        let (mut ctx, session) = (context(), SessionId::from_ulid(Ulid::from_parts(1, 1)));
        ctx.config.limits.delivery.index_runs_per_session = 16;
        let mut feeds = feeds_of(&ctx, session);
        let numbers = 16 + 256 * 2;
        (0..numbers)
            .for_each(|subscription| feeds.number_local(&mut ctx, session, LocalWord::Boundary { subscription }));
        let released = |record: &Record| if let Record::Released { upto, .. } = record { Some(*upto) } else { None };
        assert_eq!(ctx.log.open().iter().filter_map(released).collect::<alloc::vec::Vec<u64>>(), [256, 512]);
        assert_eq!((feeds.runs(), feeds.get(session).map(|feed| feed.index().floor())), (16, Some(512)));
    }

    #[test]
    fn numbers_that_were_taken_back_cost_a_restart_nothing_however_many_they_were() {
        const MANY: u64 = 1 << 40;
        let (mut ctx, jobs, session) = (context(), Jobs::default(), SessionId::from_ulid(Ulid::from_parts(1, 1)));
        let mut feeds = feeds_of(&ctx, session);
        let log = LogId::Job(JobId::from_ulid(Ulid::nil()));
        let run = |seq, count| {
            let (shown, role) = (None, FrameRole::Whole);
            Numbered::Events(NumberedRun { seq, count, log, event: 1, shown, role, request: 0, subscription: 0 })
        };
        feeds.restore_numbers(&mut ctx, &jobs, session, run(1, 5));
        feeds.restore_numbers(&mut ctx, &jobs, session, run(6, MANY));
        let head = |feeds: &Feeds| feeds.get(session).map(|feed| (feed.head(), feed.index().runs()));
        assert_eq!(head(&feeds), Some((MANY + 5, 2)));
        feeds.restore_numbers(&mut ctx, &jobs, session, Numbered::TakenBack { seq: 100, upto: MANY + 5 });
        assert_eq!(head(&feeds), Some((99, 2)), "the rest of a run stays");
        feeds.restore_numbers(&mut ctx, &jobs, session, run(100, MANY));
        // Numbers that are given again may be taken back again.
        feeds.restore_numbers(&mut ctx, &jobs, session, run(4, MANY));
        assert_eq!((head(&feeds), feeds.runs()), (Some((MANY + 3, 2)), 2));
        feeds.restore_numbers(&mut ctx, &jobs, session, Numbered::TakenBack { seq: 1, upto: MANY + 3 });
        assert_eq!((head(&feeds), feeds.runs()), (Some((0, 0)), 0));
    }

    #[test]
    fn a_job_is_let_go_with_the_last_number_that_points_to_it() {
        let (mut ctx, jobs) = (context(), Jobs::default());
        let (job, session) = (JobId::from_ulid(Ulid::nil()), SessionId::from_ulid(Ulid::from_parts(1, 1)));
        let mut feeds = feeds_of(&ctx, session);
        feeds.add_job(job);
        let (log, role, shown) = (LogId::Job(job), FrameRole::Whole, None);
        let run = NumberedRun { seq: 1, count: 3, log, event: 1, shown, role, request: 0, subscription: 0 };
        feeds.restore_numbers(&mut ctx, &jobs, session, Numbered::Events(run));
        assert_eq!((feeds.is_unreferenced(job), feeds.runs()), (false, 1));
        feeds.restore_released(&mut ctx, session, 2);
        assert!(!feeds.is_unreferenced(job) && ctx.next_effect().is_none());
        // A run that is restored after a release begins behind the released numbers.
        feeds.restore_numbers(&mut ctx, &jobs, session, Numbered::Events(run));
        let stand = [1, 2, 3].map(|seq| feeds.get(session).is_some_and(|feed| feed.entry(seq, &jobs).is_some()));
        assert_eq!((stand, feeds.runs()), ([false, false, true], 1));
        feeds.restore_released(&mut ctx, session, 3);
        assert_eq!((feeds.is_unreferenced(job), feeds.runs()), (true, 0));
        assert!(matches!(ctx.next_effect(), Some(Effect::Unreferenced(gone)) if gone == job));
    }
}
