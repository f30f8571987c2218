//! What was sent before, once more: the frames of this session, or of an
//! earlier one of the same principal, after a message its client names
//! (RFC §19). Of an earlier one it is everything up to the present: what
//! happened while its client was away was never sent.

use alloc::collections::VecDeque;
use alloc::string::ToString as _;

use ulid::Ulid;

use super::Runtime;
use super::answers::Content;
use super::index::tag_and_number;
use super::log::Waiter;
use super::read::Found;
use crate::error::{ErrorCode, Violation};
use crate::id::{ConnId, SessionId, WireId};
use crate::model::reply::{Concern, Refusal, Reply};
use crate::model::request::Replay as Asked;

/// A replay that a connection is in the middle of.
#[derive(Debug)]
pub(super) struct Replay {
    /// Whose frames.
    of: SessionId,
    /// Frames that come first, out of their turn.
    before: VecDeque<u64>,
    next: u64,
    upto: u64,
    /// Whether no message was named: what is gone for good is passed over.
    all: bool,
    count: u64,
    request: WireId,
}

impl Runtime {
    pub(super) fn on_replay(
        &mut self,
        conn: ConnId,
        session: SessionId,
        named: Option<&WireId>,
        id: WireId,
        asked: &Asked,
    ) {
        match self.replay(conn, session, named, &id, asked) {
            Ok(replay) => self.answer(conn, Content::Replay(replay)),
            Err(violation) => self.refuse(conn, Refusal::of(Concern::Frame, violation, Some(id))),
        }
    }

    fn replay(
        &self,
        conn: ConnId,
        own: SessionId,
        named: Option<&WireId>,
        request: &WireId,
        asked: &Asked,
    ) -> Result<Replay, Violation> {
        let lost = || Violation::new(ErrorCode::ResumeWindowExpired, "what followed this message is no longer kept");
        if self.conns.get(&conn).is_some_and(|conn| conn.replay.is_some() || conn.answers.has_replay()) {
            return Err(Violation::invalid("a replay is under way: wait for its end"));
        }
        let own_session = self.sessions.get(own).ok_or_else(lost)?;
        let (of, after) = match &asked.after {
            Some(after) => {
                let ulid = after.as_str().strip_prefix("msg_").and_then(|text| Ulid::from_string(text).ok());
                let (tag, seq) = ulid.map(tag_and_number).ok_or_else(lost)?;
                (self.session_tagged(&own_session.principal, own, tag).ok_or_else(lost)?, Some(seq))
            }
            None => (named.map_or(Some(own), |named| SessionId::parse(named.as_str())).ok_or_else(lost)?, None),
        };
        let session = self.sessions.get(of).filter(|of| of.principal == own_session.principal).ok_or_else(lost)?;
        let seq = after.unwrap_or_else(|| session.index.floor());
        let is_named = named.is_none_or(|named| named.as_str() == own.to_string() || named.as_str() == of.to_string());
        // Whoever reads frames of another session must be able to.
        let is_read = session.view == own_session.view;
        if !is_named || !is_read || seq > session.sent || seq < session.index.floor() {
            return Err(lost());
        }
        let upto = if of == own { session.cursor } else { session.index.head() };
        let before =
            if asked.open_streams { session.index.openings(seq, &session.streams) } else { Default::default() };
        let (before, all) = (before.into(), after.is_none());
        Ok(Replay { of, before, next: seq + 1, upto, all, count: 0, request: request.clone() })
    }

    /// Sends the next frame of a replay; false if there is none that can be
    /// sent now.
    pub(super) fn pump_replay(&mut self, conn: ConnId) -> bool {
        let Some((reader, replay)) =
            self.conns.get(&conn).and_then(|conn| Some((conn.session()?, conn.replay.as_ref()?)))
        else {
            return false;
        };
        let of = replay.of;
        let Some(seq) = replay.before.front().copied().or((replay.next <= replay.upto).then_some(replay.next)) else {
            let detail = alloc::format!("resume complete: {} events", replay.count);
            let request = Some(replay.request.clone());
            if let Some(conn) = self.conns.get_mut(&conn) {
                conn.replay = None;
            }
            self.send_reply(conn, &Reply::Done { detail, request });
            return true;
        };
        let place = self.sessions.get(of).and_then(|session| session.index.at(seq, &self.jobs));
        match place.map(|place| (place, self.find_event(reader, place))) {
            Some((place, Found::Held(pos))) => {
                let gate = self.number_gate(of, seq).unwrap_or(pos);
                if !self.ctx.log.is_durable(gate) {
                    self.ctx.log.wait(gate, Waiter::Conn(conn));
                    return false;
                }
                if let Some(session) = self.sessions.get_mut(of) {
                    session.sent = session.sent.max(seq);
                }
                let frame = self.frame_of(of, reader, seq, place);
                if let Some(replay) = self.conns.get_mut(&conn).and_then(|conn| conn.replay.as_mut()) {
                    if replay.before.pop_front().is_none() {
                        replay.next += 1;
                    }
                    replay.count += 1;
                }
                if let Some(frame) = frame {
                    self.send_frame(conn, frame);
                }
                true
            }
            Some((place, Found::InStore)) => {
                self.read_back(reader, place);
                false
            }
            Some((_, Found::Gone)) | None if self.pass_over(conn) => true,
            Some((_, Found::Gone)) | None => {
                let replay = self.conns.get_mut(&conn).and_then(|conn| conn.replay.take());
                let lost = "what follows is no longer kept";
                let lost = Violation::new(ErrorCode::ResumeWindowExpired, lost);
                let lost = Refusal::of(Concern::Frame, lost, replay.map(|replay| replay.request));
                self.send_reply(conn, &Reply::Refused(lost));
                true
            }
        }
    }

    /// Goes on after a frame that is gone for good, where that is wanted.
    fn pass_over(&mut self, conn: ConnId) -> bool {
        let Some(replay) = self.conns.get_mut(&conn).and_then(|conn| conn.replay.as_mut()).filter(|replay| replay.all)
        else {
            return false;
        };
        if replay.before.pop_front().is_some() {
            return true;
        }
        let (of, gone) = (replay.of, replay.next);
        replay.next += 1;
        // Nobody looks through it a second time.
        if let Some(session) = self.sessions.get_mut(of).filter(|session| session.index.floor() + 1 == gone) {
            let released = session.index.release(gone);
            self.unreference(of, &released);
        }
        true
    }
}
