//! Replays: frames of this session, or of an earlier one of the same principal, are sent again from
//! a message that the client names (RFC §19). Of an earlier session all frames up to the present
//! are included: those that came while its client was away were never sent.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::ToString as _;

use super::Delivery;
use super::feeds::Feeds;
use super::history_pool::Found;
use super::message_id::tag_and_number;
use crate::error::{ErrorCode, Violation};
use crate::id::{ConnId, SessionId, WireId};
use crate::model::reply::{Refusal, RefusedKind, Reply, SessionReply};
use crate::model::request::Replay as ReplayRequest;
use crate::runtime::context::Context;
use crate::runtime::job::{Jobs, checkpoint};
use crate::runtime::log::Waiter;
use crate::wire::sidecar::Written;

/// A replay that a connection has begun.
#[derive(Debug)]
pub(in crate::runtime) struct Replay {
    /// The session whose frames are sent.
    of: SessionId,
    /// Numbers that come first, out of order.
    before: VecDeque<u64>,
    next: u64,
    upto: u64,
    /// Whether the client named no message: then deleted frames are passed over.
    all: bool,
    count: u64,
    request: WireId,
}

/// The next step of a replay.
#[derive(Debug)]
pub(in crate::runtime) enum ReplayStep {
    /// A frame; `None` stands for one that the session cannot be shown.
    Frame(Option<Written>),
    /// No frame at present; the connection is woken once there is one.
    Nothing,
    /// The end, with its reply.
    Done(Box<Reply>),
}

impl Replay {
    /// The replay that a client requests.
    ///
    /// # Errors
    ///
    /// If frames after the message that it names are deleted.
    pub(in crate::runtime) fn new(
        (feeds, jobs): (&Feeds, &Jobs),
        own: SessionId,
        named: Option<&WireId>,
        request: &WireId,
        asked: &ReplayRequest,
    ) -> Result<Replay, Violation> {
        let lost = || Violation::new(ErrorCode::ResumeWindowExpired, "what followed this message is no longer kept");
        let own_feed = feeds.get(own).ok_or_else(lost)?;
        let (of, after) = match &asked.after {
            Some(after) => {
                let (tag, seq) = after.message_ulid().map(tag_and_number).ok_or_else(lost)?;
                (feeds.tagged(own, tag).ok_or_else(lost)?, Some(seq))
            }
            None => (named.map_or(Some(own), |named| SessionId::parse(named.as_str())).ok_or_else(lost)?, None),
        };
        let feed = feeds.get(of).filter(|feed| feed.principal == own_feed.principal).ok_or_else(lost)?;
        // Checkpoints of this session and of the named one can be referred to.
        let at = asked.checkpoint.as_ref().map(|id| checkpoint::named(id).ok_or_else(lost)).transpose()?;
        let at = at.map(|(job, event)| feed.index.number_after(feed.index.floor(), job, event, jobs).ok_or_else(lost));
        let after = at.transpose()?.max(after);
        let seq = after.unwrap_or_else(|| feed.index.floor());
        let is_named = named.is_none_or(|named| named.as_str() == own.to_string() || named.as_str() == of.to_string());
        // The two sessions must have equal views, or the client could not read the frames.
        let is_read = feed.view == own_feed.view;
        if !is_named || !is_read || seq > feed.sent || seq < feed.index.floor() {
            return Err(lost());
        }
        let upto = if of == own { feed.cursor } else { feed.index.head() };
        let before = if asked.open_streams { feed.openings(seq) } else { Default::default() };
        let (before, all) = (before.into(), after.is_none());
        Ok(Replay { of, before, next: seq + 1, upto, all, count: 0, request: request.clone() })
    }

    fn next(&self) -> Option<u64> {
        self.before.front().copied().or((self.next <= self.upto).then_some(self.next))
    }

    fn advance(&mut self) {
        if self.before.pop_front().is_none() {
            self.next += 1;
        }
    }
}

impl Delivery {
    /// Takes the next frame of a replay, if it can be sent now.
    pub(in crate::runtime) fn next_replayed(
        &mut self,
        ctx: &mut Context,
        jobs: &Jobs,
        conn: ConnId,
        reader: SessionId,
        replay: &mut Replay,
    ) -> ReplayStep {
        let of = replay.of;
        let Some(seq) = replay.next() else {
            let detail = alloc::format!("resume complete: {} events", replay.count);
            return ReplayStep::Done(
                Reply::Session(SessionReply::Done { detail, request: Some(replay.request.clone()) }).into(),
            );
        };
        let entry = self.feeds.get(of).and_then(|feed| feed.entry(seq, jobs));
        let found = entry.map_or(Found::Gone, |entry| self.history.find(ctx, jobs, reader, entry));
        let (entry, pos) = match (entry, found) {
            (Some(entry), Found::Held(pos)) => (entry, pos),
            (_, Found::InStore(job, n)) => {
                if let Some(feed) = self.feeds.get(reader) {
                    self.history.ask(ctx, jobs, (reader, feed.account()), job, n);
                }
                return ReplayStep::Nothing;
            }
            (None, Found::Held(_)) | (_, Found::Gone) => return self.pass_over(ctx, replay),
        };
        if let Some(feed) = self.feeds.by_session.get_mut(&of) {
            let gate = feed.gate(seq, &ctx.log).unwrap_or(pos);
            if !ctx.log.is_durable(gate) {
                ctx.log.wait(gate, Waiter::Conn(conn));
                return ReplayStep::Nothing;
            }
            feed.sent = feed.sent.max(seq);
        }
        replay.advance();
        replay.count += 1;
        ReplayStep::Frame(self.frames(ctx, jobs).frame_of(of, reader, seq, entry))
    }

    /// Passes over a deleted frame, unless the client named a message.
    fn pass_over(&mut self, ctx: &mut Context, replay: &mut Replay) -> ReplayStep {
        if !replay.all {
            let lost = Violation::new(ErrorCode::ResumeWindowExpired, "what follows is no longer kept");
            let lost = Refusal::new(RefusedKind::Frame, lost, Some(replay.request.clone()));
            return ReplayStep::Done(Reply::Refused(lost).into());
        }
        if replay.before.pop_front().is_none() {
            let gone = replay.next;
            replay.next += 1;
            self.feeds.release_gone(ctx, replay.of, gone);
        }
        ReplayStep::Frame(None)
    }
}
