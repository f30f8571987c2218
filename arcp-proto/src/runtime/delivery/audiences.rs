//! Audiences: which sessions watch a job, own it and have requested it. Every pair of a session and
//! a job is kept in both directions, and removed with either.

use alloc::collections::BTreeSet;

use super::audience::Audience;
use super::requests::weight;
use crate::id::{JobId, LogPos, SessionId, WireId};
use crate::runtime::account::{Balance, Charge, HeldFor, Recount};
use crate::runtime::context::Context;
use crate::runtime::expected::Expected as _;
use crate::runtime::io::{AboutJob, Record};
use crate::runtime::job::Jobs;
use crate::runtime::recent::Recent;
use crate::runtime::rising::Rising;

/// Bytes of a pair of session and job, approximately.
const ENTRY: usize = 96;

#[derive(Debug, Default)]
pub(in crate::runtime) struct Audiences {
    by_job: Recent<JobId, Audience>,
    by_session: Recent<SessionId, SessionJobs>,
}

/// The jobs of one session.
#[derive(Debug)]
struct SessionJobs {
    /// Whether its frames name the request that they answer.
    correlates: bool,
    /// Jobs whose new events it gets.
    watched: BTreeSet<JobId>,
    /// Jobs that were submitted in it, or found there by their key.
    owned: Rising<JobId, ()>,
    /// Jobs whose audience holds requests of it, or its last record of joining or
    /// leaving.
    requested: BTreeSet<JobId>,
    /// Bytes of those requests.
    request_bytes: usize,
    /// The charge for all of this.
    charge: Charge,
}

/// How a session comes to a job, as it is recorded.
#[derive(Debug, Default)]
pub(in crate::runtime) struct Joining {
    /// Whether it becomes an owner of the job.
    pub(in crate::runtime) owner: bool,
    /// The request for it, if that is new and its frames name requests.
    pub(in crate::runtime) request: Option<WireId>,
    /// Which of its requests for the job its frames answer; 0 for none.
    pub(in crate::runtime) number: u32,
}

impl SessionJobs {
    /// Bytes it holds if its requests have this many, approximately.
    fn weight(&self, requests: usize) -> usize {
        (self.watched.len() + self.owned.len() + self.requested.len()) * ENTRY + requests
    }

    /// Updates the charge after a change.
    fn weigh(&mut self) {
        self.charge.set(self.weight(self.request_bytes));
    }
}

impl Audiences {
    /// Adds a session without jobs. `correlates`: its frames name the request that they answer.
    pub(super) fn open_session(&mut self, session: SessionId, correlates: bool, account: &Balance) {
        let (watched, owned, requested) = Default::default();
        let charge = account.charge(HeldFor::Watches, 0);
        let jobs = SessionJobs { correlates, watched, owned, requested, request_bytes: 0, charge };
        self.by_session.insert(session, jobs);
    }

    /// Counts again what sessions watch, own and have requested.
    pub(super) fn recount(&self, recount: &mut Recount<'_>) {
        for (id, of_session) in self.by_session.iter() {
            let audiences = of_session.requested.iter().filter_map(|job| self.by_job.get(job));
            let requests = audiences.map(|audience| audience.requests.weight(*id)).sum();
            recount.add(of_session.charge.balance(), HeldFor::Watches, of_session.weight(requests));
        }
    }

    /// Removes a session that has ended.
    pub(super) fn close_session(&mut self, session: SessionId) {
        let Some(of_session) = self.by_session.remove(&session).expected("a session has its jobs") else {
            return;
        };
        let SessionJobs { watched, owned, requested, .. } = *of_session;
        for job in &requested {
            if let Some(audience) = self.by_job.get_mut(job) {
                audience.requests.forget(session);
                audience.joins.remove(&session);
            }
        }
        for job in &watched {
            if let Some(audience) = self.by_job.get_mut(job) {
                audience.watchers.retain(|watcher| *watcher != session);
            }
        }
        for job in owned.keys() {
            if let Some(audience) = self.by_job.get_mut(job) {
                audience.owners.remove(&session);
            }
        }
    }

    /// Adds a job without sessions.
    pub(super) fn add_job(&mut self, job: JobId) {
        self.by_job.insert(job, Audience::default());
    }

    /// Ends all watches of a job that has ended.
    pub(super) fn end_job(&mut self, job: JobId) {
        let Some(audience) = self.by_job.get_mut(&job).expected("a job has an audience") else {
            return;
        };
        for watcher in core::mem::take(&mut audience.watchers) {
            if let Some(session) = self.by_session.get_mut(&watcher) {
                session.watched.remove(&job);
                session.weigh();
            }
        }
    }

    /// Removes a job that is forgotten.
    pub(super) fn remove_job(&mut self, job: JobId) {
        self.end_job(job);
        let Some(audience) = self.by_job.remove(&job).expected("a job has an audience") else {
            return;
        };
        for id in audience.requests.sessions().chain(audience.joins.keys().copied()) {
            if let Some(session) = self.by_session.get_mut(&id)
                && session.requested.remove(&job)
            {
                session.request_bytes -= audience.requests.weight(id);
                session.weigh();
            }
        }
        for owner in &audience.owners {
            if let Some(owner) = self.by_session.get_mut(owner) {
                owner.owned.remove(&job);
                owner.weigh();
            }
        }
    }

    pub(in crate::runtime) fn get(&self, job: JobId) -> Option<&Audience> {
        self.by_job.get(&job)
    }

    /// Whether a session may cancel a job.
    pub(in crate::runtime) fn owns(&self, session: SessionId, job: JobId) -> bool {
        self.by_job.get(&job).is_some_and(|audience| audience.owners.contains(&session))
    }

    /// What a local frame of a session says of a job.
    pub(super) fn about(&self, jobs: &Jobs, session: SessionId, job: JobId) -> Option<AboutJob> {
        let trace = jobs.get(job)?.spec().trace.clone();
        Some(AboutJob { job, trace, own: self.owns(session, job) })
    }

    /// Jobs whose new events a session gets.
    pub(in crate::runtime) fn watched(&self, session: SessionId) -> impl Iterator<Item = JobId> {
        self.by_session.get(&session).into_iter().flat_map(|session| &session.watched).copied()
    }

    /// The number of those jobs.
    pub(super) fn watches(&self, session: SessionId) -> usize {
        self.by_session.get(&session).map_or(0, |session| session.watched.len())
    }

    /// Jobs that a session submitted, or whose submit it retried by key.
    pub(in crate::runtime) fn owned(&self, session: SessionId) -> impl Iterator<Item = JobId> {
        self.by_session.get(&session).into_iter().flat_map(|session| session.owned.keys()).copied()
    }

    /// Whether a session gets new events of a job.
    pub(in crate::runtime) fn is_watched_by(&self, session: SessionId, job: JobId) -> bool {
        self.by_session.get(&session).is_some_and(|session| session.watched.contains(&job))
    }

    /// Makes a session get new events of a job; true if it did not.
    pub(in crate::runtime) fn join(&mut self, session: SessionId, job: JobId) -> bool {
        let (Some(of_session), Some(audience)) = (self.by_session.get_mut(&session), self.by_job.get_mut(&job)) else {
            return false;
        };
        let joins = of_session.watched.insert(job);
        of_session.weigh();
        if joins {
            audience.watchers.push(session);
        }
        joins
    }

    /// Makes a session get no more events of a job.
    pub(super) fn leave(&mut self, session: SessionId, job: JobId) {
        if let Some(audience) = self.by_job.get_mut(&job) {
            audience.watchers.retain(|watcher| *watcher != session);
        }
        if let Some(session) = self.by_session.get_mut(&session) {
            session.watched.remove(&job);
            session.weigh();
        }
    }

    /// Lets a session cancel a job; true if it could not.
    pub(in crate::runtime) fn own(&mut self, session: SessionId, job: JobId) -> bool {
        let (Some(of_session), Some(audience)) = (self.by_session.get_mut(&session), self.by_job.get_mut(&job)) else {
            return false;
        };
        of_session.owned.insert(job, ());
        of_session.weigh();
        audience.owners.insert(session)
    }

    /// Makes this session the only one that may cancel a job.
    pub(super) fn own_alone(&mut self, session: SessionId, job: JobId) {
        let Some(audience) = self.by_job.get_mut(&job) else {
            return; // The job was forgotten.
        };
        for other in audience.owners.iter().filter(|owner| **owner != session) {
            if let Some(other) = self.by_session.get_mut(other) {
                other.owned.remove(&job);
                other.weigh();
            }
        }
        audience.owners.retain(|owner| *owner == session);
    }

    /// Notes the request by which a session got access to a job, if its frames name requests;
    /// returns the number of the request, or 0.
    pub(in crate::runtime) fn note_request(&mut self, session: SessionId, job: JobId, request: &WireId) -> u32 {
        let of_session = self.by_session.get_mut(&session).filter(|session| session.correlates);
        let (Some(of_session), Some(audience)) = (of_session, self.by_job.get_mut(&job)) else {
            return 0;
        };
        of_session.requested.insert(job);
        let before = audience.requests.count();
        let number = audience.requests.add(session, request);
        of_session.request_bytes += if audience.requests.count() > before { weight(request) } else { 0 };
        of_session.weigh();
        number
    }

    /// Restores the request that frames of a job answer since an earlier run: a new one, or one
    /// that is known.
    pub(in crate::runtime) fn restore_request(
        &mut self,
        session: SessionId,
        job: JobId,
        number: u32,
        request: Option<WireId>,
    ) {
        let (Some(of_session), Some(audience)) = (
            self.by_session.get_mut(&session).expected("both were looked up"),
            self.by_job.get_mut(&job).expected("both were looked up"),
        ) else {
            return;
        };
        match request {
            Some(request) => {
                of_session.requested.insert(job);
                of_session.request_bytes += weight(&request);
                let replaced = audience.requests.restore(session, number, request);
                of_session.request_bytes -= replaced.as_ref().map_or(0, weight);
                of_session.weigh();
            }
            None => audience.requests.follow(session, number),
        }
    }

    /// Records that a session, which is shown a job already, may cancel it from here on.
    pub(in crate::runtime) fn note_owner(&mut self, ctx: &mut Context, session: SessionId, job: JobId) {
        let number = self.by_job.get(&job).map_or(0, |audience| audience.requests.latest(session));
        self.note_joined(ctx, session, job, Joining { owner: true, number, request: None });
    }

    /// Records that a session watches a job from here on, and by which request. Called before the
    /// history is numbered. `owner`: it may cancel the job from here on.
    pub(in crate::runtime) fn note_watch(
        &mut self,
        ctx: &mut Context,
        session: SessionId,
        job: JobId,
        request: &WireId,
        owner: bool,
    ) {
        let most = ctx.config.limits.job.requests_per_job;
        let requests = self.by_job.get(&job).map(Audience::requests);
        let is_new = requests.is_some_and(|requests| requests.number_of(session, request).is_none());
        // Beyond the bound frames name the request before.
        let joining = if is_new && requests.is_some_and(|requests| requests.count() < most) {
            let number = self.note_request(session, job, request);
            Joining { owner, request: (number > 0).then(|| request.clone()), number }
        } else {
            Joining { owner, number: requests.map_or(0, |requests| requests.latest(session)), request: None }
        };
        self.note_joined(ctx, session, job, joining);
    }

    /// Records that a session gets the events of a job from now on. Of the records of a session's
    /// joining and leaving that have no other content the store keeps only the last, however often
    /// it does so.
    pub(in crate::runtime) fn note_joined(
        &mut self,
        ctx: &mut Context,
        session: SessionId,
        job: JobId,
        joining: Joining,
    ) {
        let Joining { owner, request, number } = joining;
        let undoes = self.take_join(session, job);
        let says_more = owner || request.is_some();
        let at = ctx.append(Record::Joined { job, session, owner, request, number, undoes });
        if !says_more {
            self.replace_join(session, job, at);
        }
    }

    /// Records that a session gets no more events of a job.
    pub(in crate::runtime) fn note_left(&mut self, ctx: &mut Context, session: SessionId, job: JobId) {
        let undoes = self.take_join(session, job);
        let at = ctx.append(Record::Left { job, session, undoes });
        self.replace_join(session, job, at);
    }

    /// The next record of a session's joining or leaving will replace the one at `at`.
    pub(in crate::runtime) fn replace_join(&mut self, session: SessionId, job: JobId, at: LogPos) {
        if let (Some(of_session), Some(audience)) = (self.by_session.get_mut(&session), self.by_job.get_mut(&job)) {
            audience.joins.insert(session, at);
            of_session.requested.insert(job);
            of_session.weigh();
        }
    }

    /// The position of the record that the next one replaces; 0 if there is none.
    fn take_join(&mut self, session: SessionId, job: JobId) -> LogPos {
        self.by_job.get_mut(&job).and_then(|audience| audience.joins.remove(&session)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use ulid::Ulid;

    use super::*;
    use crate::runtime::account::Accounts;
    use crate::runtime::delivery::Requests;

    fn session(n: u64) -> SessionId {
        SessionId::from_ulid(Ulid::from_parts(n, 0))
    }

    fn job(n: u64) -> JobId {
        JobId::from_ulid(Ulid::from_parts(n, 0))
    }

    /// Two sessions, of which only the first names requests, and two jobs.
    fn audiences() -> Audiences {
        let mut audiences = Audiences::default();
        let accounts = Accounts::new();
        audiences.open_session(session(1), true, accounts.runtime());
        audiences.open_session(session(2), false, accounts.runtime());
        audiences.add_job(job(1));
        audiences.add_job(job(2));
        audiences
    }

    #[test]
    fn a_pair_of_session_and_job_is_let_go_with_either() {
        let request = WireId::new("r").expect("an id");
        let joined = |audiences: &mut Audiences| {
            assert!(audiences.join(session(1), job(1)) && audiences.own(session(1), job(1)));
            assert_eq!(audiences.note_request(session(1), job(1), &request), 1);
            audiences.replace_join(session(1), job(1), LogPos(1));
        };
        let mut closed = audiences();
        joined(&mut closed);
        closed.close_session(session(1));
        let audience = closed.get(job(1)).expect("the job is there");
        assert!(audience.watchers.is_empty() && audience.owners.is_empty() && audience.joins.is_empty());
        assert_eq!(audience.requests.count(), 0);
        let mut removed = audiences();
        joined(&mut removed);
        removed.remove_job(job(1));
        let SessionJobs { watched, owned, requested, .. } = &removed.by_session[&session(1)];
        assert!(watched.is_empty() && owned.is_empty() && requested.is_empty());
    }

    #[test]
    fn who_ends_up_in_an_audience_twice_is_in_it_once() {
        let mut audiences = audiences();
        assert_eq!([audiences.join(session(1), job(1)), audiences.join(session(1), job(1))], [true, false]);
        assert_eq!(audiences.get(job(1)).expect("the job is there").watchers(), [session(1)]);
        audiences.leave(session(1), job(1));
        assert!(audiences.get(job(1)).expect("the job is there").watchers().is_empty());
    }

    #[test]
    fn a_job_that_ends_is_still_owned_and_no_longer_watched() {
        let mut audiences = audiences();
        audiences.join(session(2), job(1));
        audiences.own(session(2), job(1));
        audiences.end_job(job(1));
        assert_eq!((audiences.watches(session(2)), audiences.owns(session(2), job(1))), (0, true));
    }

    #[test]
    fn requests_are_noted_for_whom_they_are_named_to() {
        let (mut audiences, request) = (audiences(), WireId::new("r").expect("an id"));
        assert_eq!([1, 2].map(|n| audiences.note_request(session(n), job(1), &request)), [1, 0]);
        assert_eq!(audiences.get(job(1)).map(Audience::requests).map(Requests::count), Some(1));
    }
}
