//! Routes what one part says to those that it concerns.

use super::Runtime;
use super::delivery::{Next, ReplayStep};
use super::effect::Effect;
use super::io::CloseReason;
use crate::id::{ConnId, JobId};
use crate::model::event::EventClass;

impl Runtime {
    /// Carries what parts have said to the others, until nobody says anything.
    pub(super) fn carry(&mut self) {
        while let Some(effect) = self.ctx.next_effect() {
            match effect {
                Effect::Appended { job, n, class, grown } => self.on_appended(job, n, class, grown),
                Effect::CreditOwed(job) => self.return_credit(job),
                Effect::Unreferenced(job) => self.forget_if_done(job),
                Effect::Answer { conn, reply } => self.answer(conn, reply),
                Effect::Renumbered { conn, withdrawn } => {
                    if let Some(conn) = self.conns.get_mut(&conn) {
                        conn.answers.renumber(&withdrawn);
                    }
                }
                Effect::Leave { conn, reason } => self.leave(conn, reason),
                Effect::Dismiss { conn, refusal, reason } => self.dismiss(conn, refusal, reason),
            }
        }
    }

    /// An event is numbered for everyone who is shown its job, and perhaps
    /// others make room for it.
    fn on_appended(&mut self, id: JobId, n: u64, class: EventClass, grown: bool) {
        self.delivery.number_for_all(&mut self.ctx, &self.jobs, id, n);
        self.bound_events(id);
        if grown {
            self.on_history_grown(id);
        }
        if !class.is_end() {
            self.delivery.check_lag(&mut self.ctx, id);
        }
    }

    /// Sends the next numbered frame up to `up_to`; false if there is none that
    /// may be seen.
    pub(super) fn send_next_event(&mut self, conn: ConnId, up_to: u64) -> bool {
        let Some(session) = self.conns.get(&conn).and_then(super::conn::Conn::session) else {
            return false;
        };
        match self.delivery.next(&mut self.ctx, &self.jobs, session, conn, up_to) {
            Next::Frame(frame) => {
                if let Some(frame) = frame {
                    self.send_frame(conn, frame);
                }
                true
            }
            Next::Nothing => false,
            Next::Lost => {
                self.leave(conn, CloseReason::HistoryLost);
                false
            }
        }
    }

    /// Sends the next frame of a replay; false if there is none that can be
    /// sent now.
    pub(super) fn pump_replay(&mut self, conn: ConnId) -> bool {
        let Some(attached) = self.conns.get_mut(&conn) else {
            return false;
        };
        let (Some(reader), Some(mut replay)) = (attached.session(), attached.replay.take()) else {
            return false;
        };
        let step = self.delivery.next_replayed(&mut self.ctx, &self.jobs, conn, reader, &mut replay);
        if let ReplayStep::Done(reply) = step {
            self.send_reply(conn, &reply);
            return true;
        }
        if let Some(attached) = self.conns.get_mut(&conn) {
            attached.replay = Some(replay);
        }
        match step {
            ReplayStep::Frame(Some(frame)) => self.send_frame(conn, frame),
            ReplayStep::Frame(None) => {}
            ReplayStep::Nothing | ReplayStep::Done(_) => return false,
        }
        true
    }
}
