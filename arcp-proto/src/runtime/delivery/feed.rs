//! A feed: what one session is shown. Every numbered frame stands in its index,
//! and sending moves the cursor.
//!
//! ```text
//! floor ≤ received ≤ sent,  cursor ≤ head
//!   │         │        │       │        └ the last number given
//!   │         │        │       └ sent on the present connection
//!   │         │        └ ever sent
//!   │         └ its client has it for sure
//!   └ no longer held
//! ```

use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;

use super::index::{Index, IndexEntry, Released};
use crate::error::{ErrorCode, Violation};
use crate::id::{ConnId, JobId, LogId, LogPos, Principal};
use crate::model::feature::Feature;
use crate::policy::Roles;
use crate::runtime::account::{Balance, Charge, HeldFor};
use crate::runtime::authority::Viewer;
use crate::runtime::effect::Position;
use crate::runtime::job::{Job, Jobs};
use crate::runtime::log::Log;
use crate::wire::View;

#[derive(Debug)]
pub(in crate::runtime) struct Feed {
    pub(super) principal: Principal,
    /// By which policy may show it the jobs of others.
    pub(super) roles: Option<Roles>,
    pub(super) view: View,
    /// Where its frames go.
    pub(super) conn: Option<ConnId>,
    /// Whether bytes can go beside them.
    pub(super) beside: bool,
    pub(super) index: Index,
    /// Numbers given to what was there before, and where they stand in the
    /// log: from each on, frames wait for it.
    pub(super) gates: VecDeque<(u64, LogPos)>,
    /// The last number sent on the present connection.
    pub(super) cursor: u64,
    /// The last number ever sent.
    pub(super) sent: u64,
    pub(super) receipts: Receipts,
    pub(super) catch_up: CatchUp,
    /// Logs whose stream was opened to it and not closed, by subscription: with
    /// 0 as to whoever watches the job.
    pub(super) streams: BTreeSet<(u32, LogId)>,
    /// The bytes of its index.
    charge: Charge,
}

/// What the client of a feed is known to have.
#[derive(Debug, Default)]
pub(super) struct Receipts {
    /// The last number it has acknowledged.
    pub(super) acked: u64,
    /// The last number it has for sure: it said so, or the connection on which
    /// it was sent long ago is still there.
    pub(super) received: u64,
    /// The last number sent when the wait for that began.
    pub(super) in_flight: u64,
    /// Numbers up to here are released in the log.
    pub(super) released: u64,
    /// Whether it was told that it acknowledges too little.
    pub(super) warned: bool,
}

/// The backlog of a reader, and how far it is behind besides. A backlog is what
/// it is owed because it resumed, or asked for history: that is not held
/// against it.
#[derive(Debug, Default)]
pub(super) struct CatchUp {
    /// Numbers up to here are the backlog, but for those up to `from`.
    upto: u64,
    /// Numbers up to here were given live, before the backlog was.
    from: u64,
    /// Bytes of events numbered since then and not sent, roughly.
    unsent_bytes: usize,
    /// Whether it was told that it reads too slowly.
    pub(super) warned: bool,
}

impl Feed {
    /// Whose it is.
    pub(super) fn principal(&self) -> &Principal {
        &self.principal
    }

    pub(super) fn new(principal: Principal, view: View, account: &Balance) -> Feed {
        Feed {
            principal,
            roles: None,
            view,
            conn: None,
            beside: false,
            index: Index::default(),
            gates: VecDeque::new(),
            cursor: 0,
            sent: 0,
            receipts: Receipts::default(),
            catch_up: CatchUp::default(),
            streams: BTreeSet::new(),
            charge: account.charge(HeldFor::Numbers, 0),
        }
    }

    /// Who looks at jobs by it.
    pub(super) fn viewer(&self) -> Viewer<'_> {
        Viewer { principal: &self.principal, roles: self.roles.as_ref() }
    }

    /// The account of the session.
    pub(super) fn account(&self) -> &Balance {
        self.charge.balance()
    }

    /// Its index has changed.
    pub(super) fn weigh(&mut self) {
        self.charge.set(self.index.weight());
    }

    /// The last number given.
    pub(in crate::runtime) fn head(&self) -> u64 {
        self.index.head()
    }

    /// How far it is.
    pub(in crate::runtime) fn position(&self) -> Position {
        Position { cursor: self.cursor, head: self.head() }
    }

    /// Whether its client can go on after a number.
    ///
    /// # Errors
    ///
    /// Why not: what was never sent, or is no longer held.
    pub(in crate::runtime) fn check_resume(&self, last_seq: u64, jobs: &Jobs) -> Result<(), Violation> {
        let expired = |why| Err(Violation::new(ErrorCode::ResumeWindowExpired, why));
        if last_seq > self.sent {
            let sent = self.sent;
            return expired(alloc::format!("nothing after {sent} was ever sent, `last_event_seq` is {last_seq}"));
        }
        match self.index.first_lost(last_seq, jobs) {
            Some(lost) => expired(alloc::format!(
                "not all events after {last_seq} are still held: number {lost} is the first that is not"
            )),
            None => Ok(()),
        }
    }

    pub(in crate::runtime) fn index(&self) -> &Index {
        &self.index
    }

    /// What stands behind a number.
    pub(super) fn entry(&self, seq: u64, jobs: &Jobs) -> Option<IndexEntry> {
        self.index.at(seq, jobs)
    }

    /// Whether a client that resumed it would get nothing of what was numbered: all
    /// of it is acknowledged.
    pub(super) fn has_nothing_left(&self) -> bool {
        self.index.floor() == self.index.head()
    }

    /// The numbers up to `upto` of what opened the streams that are open to
    /// whoever watches their jobs.
    pub(super) fn openings(&self, upto: u64) -> Vec<u64> {
        self.index.openings(upto, |job| self.streams.contains(&(0, job.into())))
    }

    /// Numbered frames its reader is behind.
    pub(super) fn lag(&self) -> u64 {
        self.index.head() - self.cursor
    }

    /// Those of them that came since it began to catch up.
    pub(super) fn behind(&self) -> u64 {
        self.index.head() - self.cursor.max(self.catch_up.upto)
    }

    /// Such frames that its client has not acknowledged.
    pub(super) fn unacknowledged(&self) -> u64 {
        self.index.head() - self.receipts.acked.max(self.catch_up.upto)
    }

    /// Whether its client is expected to acknowledge.
    pub(super) fn acknowledges(&self) -> bool {
        self.view.features.has(Feature::Ack) && self.view.profile.acknowledges()
    }

    /// Bytes of events numbered since it began to catch up and not sent.
    pub(in crate::runtime) fn unsent_bytes(&self) -> usize {
        self.catch_up.unsent_bytes
    }

    /// An event of so many bytes was numbered.
    pub(super) fn owe_bytes(&mut self, bytes: usize) {
        self.catch_up.unsent_bytes += bytes;
    }

    /// The last number that is sent, or of the backlog.
    pub(super) fn sent_or_owed(&self) -> u64 {
        self.cursor.max(self.catch_up.upto)
    }

    /// Frames after `last_seq` are owed to a connection: they are the backlog.
    pub(super) fn attach(&mut self, conn: ConnId, last_seq: u64) {
        self.conn = Some(conn);
        (self.cursor, self.receipts.received) = (last_seq, last_seq);
        (self.catch_up.from, self.catch_up.upto) = (self.cursor, self.index.head());
        self.catch_up.unsent_bytes = 0;
    }

    /// What was numbered from `first` on is the backlog; what was before it is
    /// still owed.
    pub(super) fn begin_to_catch_up(&mut self, first: u64) {
        if self.cursor >= self.catch_up.upto {
            self.catch_up.from = first.saturating_sub(1);
        }
        self.catch_up.upto = self.index.head();
    }

    /// The next number is sent; what stands behind it has so many bytes.
    pub(super) fn pass(&mut self, seq: u64, bytes: usize) {
        self.cursor = seq;
        self.sent = self.sent.max(seq);
        let counted = if self.is_counted(seq) { bytes } else { 0 };
        let left = self.catch_up.unsent_bytes.saturating_sub(counted);
        // Nothing is left of what could not be weighed exactly.
        self.catch_up.unsent_bytes = if self.lag() == 0 { 0 } else { left };
    }

    /// Numbers that were not sent were taken back.
    pub(super) fn renumber(&mut self, jobs: &Jobs, moved: impl Fn(u64) -> u64) {
        (self.catch_up.upto, self.catch_up.from) = (moved(self.catch_up.upto), moved(self.catch_up.from));
        self.catch_up.unsent_bytes = self.weigh_unsent(jobs);
    }

    /// The bytes of what was numbered since it began to catch up and is not sent,
    /// as far as it is held.
    fn weigh_unsent(&self, jobs: &Jobs) -> usize {
        let (CatchUp { from, upto, .. }, head) = (&self.catch_up, self.index.head());
        // The backlog may be very long, and none of it is looked at.
        let (before, since) = (self.cursor + 1..=(*from).min(head), self.cursor.max(*from).max(*upto) + 1..=head);
        let entries = before.chain(since).filter_map(|seq| self.index.at(seq, jobs));
        entries.map(|entry| entry.weight(jobs)).sum()
    }

    /// Whether a number is none of the backlog.
    fn is_counted(&self, seq: u64) -> bool {
        seq > self.catch_up.upto || seq <= self.catch_up.from
    }

    /// Everything that was numbered in an earlier run counts as sent. Streams of
    /// which it is shown no more are nobody's.
    pub(super) fn restored(&mut self, is_shown: impl Fn(u32, LogId) -> bool) {
        self.streams.retain(|(subscription, log)| is_shown(*subscription, *log));
        self.cursor = self.index.head();
        self.sent = self.cursor;
    }

    /// Where the number of a frame stands in the log, if that is not durable.
    pub(super) fn gate(&mut self, seq: u64, log: &Log) -> Option<LogPos> {
        while let Some((_, pos)) = self.gates.front().copied().filter(|(first, _)| *first <= seq) {
            if !log.is_durable(pos) {
                return Some(pos);
            }
            self.gates.pop_front();
        }
        None
    }

    /// Whether the end of a job has a number here that is not sent yet: whoever
    /// still gets the end gets nothing twice.
    pub(super) fn is_owed_the_end(&self, id: JobId, job: &Job) -> bool {
        job.is_terminal() && self.index.holds_last_after(id, job.count(), self.cursor)
    }

    /// Its client has acknowledged numbers up to this one; gives one entry for
    /// each run of the index that went.
    pub(super) fn acknowledge(&mut self, seq: u64, lag: u64) -> Released {
        let upto = seq.min(self.sent);
        self.receipts.acked = self.receipts.acked.max(upto);
        self.receipts.received = self.receipts.received.max(upto);
        self.receipts.warned &= self.unacknowledged() > lag / 2;
        self.index.release(upto)
    }
}
