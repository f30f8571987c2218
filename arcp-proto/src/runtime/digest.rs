//! What survives a restart and can be observed from outside: a restarted runtime must have the
//! same.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use sha2::{Digest as _, Sha256};

use super::artifact::Artifacts;
use super::audit::Trail;
use super::delivery::{Delivery, EventEntry, IndexEntry};
use super::expected::Expected as _;
use super::job::{End, Job, JobSpec, JobState, Jobs, checkpoint, delegation, lease, prompts, streams};
use super::schedule::Schedules;
use super::session::{Executed, Outcome, Session, Sessions, is_left};
use super::workflow::Workflows;
use crate::id::{JobId, LogPos, SessionId, WireId};

/// What a [`Runtime`](super::Runtime) shows of the log up to a position. Two runtimes have the same
/// digest if one handled the inputs itself and the other was given the records of the first, before
/// [`Restored`](super::Input::Restored).
///
/// It leaves out what may be lost with the process: connections, most acknowledgements, what was
/// sent and how fast, timers, cursors of listings, and ids of messages that made nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    /// The last position of the log.
    pub at: LogPos,
    facts: BTreeMap<String, String>,
    /// What may be dropped early: a restarted runtime may have more.
    held: BTreeMap<String, String>,
}

impl Digest {
    /// The digest of these parts at a position of the log.
    pub(super) fn new(at: LogPos, trail: &Trail, sessions: &Sessions, jobs: &Jobs, delivery: &Delivery) -> Digest {
        let (mut digest, parts) = (Digest { at, ..Digest::default() }, Parts { sessions, jobs, delivery });
        digest.fact("audit".to_string(), format!("{:?}", trail.span()));
        // A session that is being taken from its client has ended in the log.
        for (id, session) in sessions.all().filter(|(_, session)| session.is_recorded()) {
            parts.digest_session(&mut digest, id, session);
        }
        for (id, job) in jobs.table().of_all(None) {
            parts.digest_job(&mut digest, id, job);
        }
        for (principal, message, executed) in sessions.seen_of_principals() {
            parts.digest_seen(&mut digest, &principal.to_string(), (message, executed));
        }
        let provisioned: BTreeSet<JobId> = jobs.credentials.jobs().collect();
        digest.fact("credentials".to_string(), format!("{provisioned:?}"));
        for (key, claim) in jobs.keys().claims() {
            digest.held(format!("key {}", hex(key)), format!("{claim:?}"));
        }
        digest
    }

    /// Adds artifacts, schedules and workflows.
    pub(super) fn with_kept(mut self, artifacts: &Artifacts, schedules: &Schedules, workflows: &Workflows) -> Digest {
        for artifact in artifacts.all() {
            self.fact(format!("artifact {} {}", artifact.principal, artifact.id), format!("{artifact:?}"));
        }
        for (record, state) in schedules.all() {
            self.fact(format!("schedule {} {}", record.principal, record.id), format!("{record:?} {state:?}"));
        }
        for (job, steps) in workflows.all() {
            self.fact(format!("{job} steps"), steps);
        }
        self
    }

    /// The differences of a restored runtime from this one, from whose records it was restored.
    /// There are none unless something was lost or made up.
    pub fn differences(&self, restored: &Digest) -> Vec<String> {
        let mut differences = Vec::new();
        let names = self.facts.keys().chain(restored.facts.keys().filter(|name| !self.facts.contains_key(*name)));
        for name in names {
            let (lived, restored) = (self.facts.get(name), restored.facts.get(name));
            if lived != restored {
                differences.push(format!("{name}: lived {lived:?}, restored {restored:?}"));
            }
        }
        for (name, lived) in &self.held {
            let restored = restored.held.get(name);
            if restored != Some(lived) {
                differences.push(format!("{name}: lived {lived:?}, restored {restored:?}"));
            }
        }
        differences
    }

    fn fact(&mut self, name: String, value: String) {
        self.facts.insert(name, value);
    }

    fn held(&mut self, name: String, value: String) {
        self.held.insert(name, value);
    }
}

/// The parts that most of the digest is made of.
#[derive(Clone, Copy)]
struct Parts<'a> {
    sessions: &'a Sessions,
    jobs: &'a Jobs,
    delivery: &'a Delivery,
}

impl Parts<'_> {
    fn digest_session(&self, digest: &mut Digest, id: SessionId, session: &Session) {
        let (principal, view, extensions) = (session.principal(), session.view(), session.extensions().names());
        let Some(feed) = self.delivery.feeds.get(id).expected("a session has a feed") else { return };
        let watched: BTreeSet<JobId> = self.delivery.audiences.watched(id).collect();
        // The digest of a token is a secret too.
        let token = hex(&Sha256::digest(session.token().0));
        let head = feed.head();
        let (scopes, ceiling) = session.allowance().opened_with();
        let roles = session.allowance().roles_opened_with();
        let left = is_left(session);
        let shown = format!(
            "{principal} {scopes:?} {roles:?} {ceiling:?} {view:?} {extensions:?} {watched:?} {token} {head} {left}"
        );
        digest.fact(format!("{id}"), shown);
        digest.fact(format!("{id} subscriptions"), self.delivery.subscriptions.shown(id));
        for seq in feed.index().floor() + 1..=head {
            let shown = match feed.index().at(seq, self.jobs) {
                // Once an event is gone, the numbers of its run may show less.
                Some(IndexEntry::Event(entry)) if self.is_gone(entry) => continue,
                Some(IndexEntry::Event(entry)) => {
                    let audience = entry.log.job().and_then(|job| self.delivery.audiences.get(job));
                    let request = audience.and_then(|audience| audience.requests().get(id, entry.request));
                    format!("{entry:?} {request:?}")
                }
                Some(IndexEntry::Local { n }) => format!("{:?}", feed.index().local(n)),
                None => continue,
            };
            digest.held(format!("{id} {seq}"), shown);
        }
        for (_, message, executed) in session.seen().all() {
            self.digest_seen(digest, &id.to_string(), (message, executed));
        }
    }

    /// Whether a job exists and its event was deleted.
    fn is_gone(&self, entry: EventEntry) -> bool {
        entry.log.job().and_then(|job| self.jobs.get(job)).is_some_and(|job| !job.keeps(entry.n))
    }

    fn digest_job(&self, digest: &mut Digest, id: JobId, job: &Job) {
        let JobSpec { principal, agent, lease, trace, created_at, bounds, key, .. } = job.spec();
        let (submitter, accepted_at) = (job.sessions, job.accepted_at());
        let key = key.as_ref().map(|key| hex(&key.digest));
        let made = format!(
            "{principal} {agent} {} {trace} {created_at} {bounds:?} {key:?} {submitter:?} {accepted_at:?} {:?} {:?}",
            lease.as_str(),
            job.spec().invocation.priority,
            job.spec().invocation.span,
        );
        digest.fact(format!("{id}"), made);
        digest.fact(format!("{id} budget"), format!("{:?} {:?}", lease::budget_left(job), lease::budget_raised(job)));
        digest.fact(format!("{id} children"), format!("{:?}", delegation::children(job)));
        if let Some(by) = &job.spec().given_by {
            digest.fact(format!("{id} given by"), by.to_string());
        }
        if let Some(departure) = self.jobs.departures.shown(id) {
            digest.fact(format!("{id} departure"), departure);
        }
        if let Some(prompts) = prompts::kept(job).filter(|prompts| prompts.last > 0 || prompts.interrupted > 0) {
            digest.fact(format!("{id} prompts"), format!("{prompts:?}"));
        }
        for (stream, chunks) in streams::shown(job) {
            digest.fact(format!("{id} {stream}"), "open".to_string());
            if let Some(chunks) = chunks {
                digest.held(format!("{id} {stream}"), chunks.to_string());
            }
        }
        for issued in self.jobs.tokens.of(id) {
            // The digest of a token is a secret too.
            let token = hex(&Sha256::digest(issued.digest.0));
            digest.fact(format!("{id} token {token}"), issued.after.to_string());
        }
        for kept in checkpoint::all(job) {
            digest.fact(format!("{id} {}", kept.id.as_str()), format!("{kept:?} {:?}", checkpoint::is_whole(job)));
        }
        let (started_at, restarts) = job.starts();
        let goes_on = match job.state() {
            JobState::Accepting | JobState::Queued if started_at.is_none() => "waits".to_string(),
            JobState::Accepting | JobState::Queued | JobState::Running => {
                format!("runs since {started_at:?}, started again {restarts}")
            }
            JobState::Cancelling(reason) => format!("is being cancelled: {reason:?}"),
            JobState::Ended(End { status, at, .. }) => format!("is over since {at:?}: {status:?}"),
        };
        digest.fact(format!("{id} state"), goes_on);
        let (first, count, classes) = (job.history().first(), job.count(), job.history().runs());
        digest.fact(format!("{id} history"), format!("{first} to {count}: {classes:?}"));
        let known = |session: &&SessionId| self.sessions.get(**session).is_some_and(|s| !s.is_evicted());
        let Some(audience) = self.delivery.audiences.get(id).expected("a job has an audience") else { return };
        let owners: BTreeSet<&SessionId> = audience.owners().iter().filter(known).collect();
        let watchers: BTreeSet<&SessionId> = audience.watchers().iter().filter(known).collect();
        digest.fact(format!("{id} sessions"), format!("owned by {owners:?}, watched by {watchers:?}"));
    }

    /// Adds the id of a message, if it made a job that still exists.
    fn digest_seen(&self, digest: &mut Digest, whose: &str, (message, (command, came_to)): (&WireId, &Executed)) {
        let Outcome::Accepted(job) = came_to else { return };
        // The job of a key, or of a child's id, may have been found by other messages too.
        let made_it = |job: &Job| job.spec().key.is_none() && job.spec().parent().is_none();
        if self.jobs.get(*job).is_some_and(made_it) {
            digest.held(format!("{whose} {message}"), format!("{} {job}", hex(command)));
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
