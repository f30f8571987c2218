//! A feed: what one session is sent. Every numbered frame is in its index, and sending moves the
//! cursor.
//!
//! ```text
//! floor ≤ received ≤ sent,  cursor ≤ head
//!   │         │        │       │        └ the last number given
//!   │         │        │       └ sent on the present connection
//!   │         │        └ ever sent
//!   │         └ its client certainly has it
//!   └ released
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
    /// The roles by which the policy may show it the jobs of others.
    pub(super) roles: Option<Roles>,
    pub(super) view: View,
    /// The connection that its frames are sent on.
    pub(super) conn: Option<ConnId>,
    /// Whether that connection takes binary messages beside frames.
    pub(super) beside: bool,
    pub(super) index: Index,
    /// Numbers given to earlier events, with the positions of their records: frames from each
    /// number on wait until its position is durable.
    pub(super) gates: VecDeque<(u64, LogPos)>,
    /// The last number sent on the present connection.
    pub(super) cursor: u64,
    /// The last number ever sent.
    pub(super) sent: u64,
    pub(super) receipts: Receipts,
    pub(super) catch_up: CatchUp,
    /// Logs whose stream was opened to the client and not closed, by subscription; 0 for a watch of
    /// the job.
    pub(super) streams: BTreeSet<(u32, LogId)>,
    /// The charge for its index.
    charge: Charge,
}

/// What the client of a feed has received, as far as that is known.
#[derive(Debug, Default)]
pub(super) struct Receipts {
    /// The last number it has acknowledged.
    pub(super) acked: u64,
    /// The last number that it certainly has: it acknowledged it, or the connection on which it was
    /// sent a resume window ago is still open.
    pub(super) received: u64,
    /// The last number sent when that wait began.
    pub(super) in_flight: u64,
    /// Numbers up to this one are released in the log.
    pub(super) released: u64,
    /// Whether it was told that it acknowledges too little.
    pub(super) warned: bool,
}

/// The backlog of a session, and how far it is behind otherwise. The backlog is what it is sent
/// because it resumed, or requested history. The backlog does not count as being behind.
#[derive(Debug, Default)]
pub(super) struct CatchUp {
    /// Numbers up to this one are the backlog, except for those up to `from`.
    upto: u64,
    /// Numbers up to this one were given live, before the backlog was.
    from: u64,
    /// Bytes of events numbered since then and not sent, approximately.
    unsent_bytes: usize,
    /// Whether it was told that it reads too slowly.
    pub(super) warned: bool,
}

impl Feed {
    /// The principal of the session.
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

    /// The session as a viewer of jobs.
    pub(super) fn viewer(&self) -> Viewer<'_> {
        Viewer { principal: &self.principal, roles: self.roles.as_ref() }
    }

    /// The account of the session.
    pub(super) fn account(&self) -> &Balance {
        self.charge.balance()
    }

    /// Updates the charge after a change of the index.
    pub(super) fn weigh(&mut self) {
        self.charge.set(self.index.weight());
    }

    /// The last number given.
    pub(in crate::runtime) fn head(&self) -> u64 {
        self.index.head()
    }

    /// The cursor and the head.
    pub(in crate::runtime) fn position(&self) -> Position {
        Position { cursor: self.cursor, head: self.head() }
    }

    /// Whether its client can resume after a number.
    ///
    /// # Errors
    ///
    /// If the number was never sent, or later events are deleted.
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

    /// The entry of a number.
    pub(super) fn entry(&self, seq: u64, jobs: &Jobs) -> Option<IndexEntry> {
        self.index.at(seq, jobs)
    }

    /// Whether a client that resumed it would get no numbered frame, as all are acknowledged.
    pub(super) fn has_nothing_left(&self) -> bool {
        self.index.floor() == self.index.head()
    }

    /// The numbers up to `upto` of the frames that opened streams which are still open for a watch
    /// of their jobs.
    pub(super) fn openings(&self, upto: u64) -> Vec<u64> {
        self.index.openings(upto, |job| self.streams.contains(&(0, job.into())))
    }

    /// Numbered frames by which it is behind.
    pub(super) fn lag(&self) -> u64 {
        self.index.head() - self.cursor
    }

    /// Those of them that are no backlog.
    pub(super) fn behind(&self) -> u64 {
        self.index.head() - self.cursor.max(self.catch_up.upto)
    }

    /// Those frames that its client has not acknowledged, without the backlog.
    pub(super) fn unacknowledged(&self) -> u64 {
        self.index.head() - self.receipts.acked.max(self.catch_up.upto)
    }

    /// Whether its client is expected to acknowledge.
    pub(super) fn acknowledges(&self) -> bool {
        self.view.features.has(Feature::Ack) && self.view.profile.acknowledges()
    }

    /// Bytes of events that were numbered after the backlog and not sent.
    pub(in crate::runtime) fn unsent_bytes(&self) -> usize {
        self.catch_up.unsent_bytes
    }

    /// Notes that an event of this many bytes was numbered.
    pub(super) fn owe_bytes(&mut self, bytes: usize) {
        self.catch_up.unsent_bytes += bytes;
    }

    /// The last number that was sent, or is backlog.
    pub(super) fn sent_or_owed(&self) -> u64 {
        self.cursor.max(self.catch_up.upto)
    }

    /// Attaches it to a connection. The frames after `last_seq` become the backlog.
    pub(super) fn attach(&mut self, conn: ConnId, last_seq: u64) {
        self.conn = Some(conn);
        (self.cursor, self.receipts.received) = (last_seq, last_seq);
        (self.catch_up.from, self.catch_up.upto) = (self.cursor, self.index.head());
        self.catch_up.unsent_bytes = 0;
    }

    /// Makes the numbers from `first` on the backlog. Frames before it that were not sent still
    /// count as being behind.
    pub(super) fn begin_to_catch_up(&mut self, first: u64) {
        if self.cursor >= self.catch_up.upto {
            self.catch_up.from = first.saturating_sub(1);
        }
        self.catch_up.upto = self.index.head();
    }

    /// Notes that the next number was sent, whose event has this many bytes.
    pub(super) fn pass(&mut self, seq: u64, bytes: usize) {
        self.cursor = seq;
        self.sent = self.sent.max(seq);
        let counted = if self.is_counted(seq) { bytes } else { 0 };
        let left = self.catch_up.unsent_bytes.saturating_sub(counted);
        // Estimates may leave a rest, which is dropped.
        self.catch_up.unsent_bytes = if self.lag() == 0 { 0 } else { left };
    }

    /// Adjusts to unsent numbers that were taken back.
    pub(super) fn renumber(&mut self, jobs: &Jobs, moved: impl Fn(u64) -> u64) {
        (self.catch_up.upto, self.catch_up.from) = (moved(self.catch_up.upto), moved(self.catch_up.from));
        self.catch_up.unsent_bytes = self.weigh_unsent(jobs);
    }

    /// The bytes of events that were numbered after the backlog and not sent, as far as they are in
    /// memory.
    fn weigh_unsent(&self, jobs: &Jobs) -> usize {
        let (CatchUp { from, upto, .. }, head) = (&self.catch_up, self.index.head());
        // The backlog may be very long, so it is skipped.
        let (before, since) = (self.cursor + 1..=(*from).min(head), self.cursor.max(*from).max(*upto) + 1..=head);
        let entries = before.chain(since).filter_map(|seq| self.index.at(seq, jobs));
        entries.map(|entry| entry.weight(jobs)).sum()
    }

    /// Whether a number is not in the backlog.
    fn is_counted(&self, seq: u64) -> bool {
        seq > self.catch_up.upto || seq <= self.catch_up.from
    }

    /// After a restart: all numbers of the earlier run count as sent. Streams of jobs that the
    /// session is not shown any more are removed.
    pub(super) fn restored(&mut self, is_shown: impl Fn(u32, LogId) -> bool) {
        self.streams.retain(|(subscription, log)| is_shown(*subscription, *log));
        self.cursor = self.index.head();
        self.sent = self.cursor;
    }

    /// The position that must be durable before this number is sent, if it is not.
    pub(super) fn gate(&mut self, seq: u64, log: &Log) -> Option<LogPos> {
        while let Some((_, pos)) = self.gates.front().copied().filter(|(first, _)| *first <= seq) {
            if !log.is_durable(pos) {
                return Some(pos);
            }
            self.gates.pop_front();
        }
        None
    }

    /// Whether the terminal of a job has a number that was not sent yet, so that the session needs
    /// no other number for it.
    pub(super) fn is_owed_the_end(&self, id: JobId, job: &Job) -> bool {
        job.is_terminal() && self.index.holds_last_after(id, job.count(), self.cursor)
    }

    /// Notes that its client has acknowledged numbers up to this one. Returns an entry for each run
    /// of the index that was released.
    pub(super) fn acknowledge(&mut self, seq: u64, lag: u64) -> Released {
        let upto = seq.min(self.sent);
        self.receipts.acked = self.receipts.acked.max(upto);
        self.receipts.received = self.receipts.received.max(upto);
        self.receipts.warned &= self.unacknowledged() > lag / 2;
        self.index.release(upto)
    }
}
