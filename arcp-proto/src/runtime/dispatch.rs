//! Routes what one part says to those that it concerns.

mod commands;
mod connections;
mod jobs;
mod requests;
mod restore;
mod sessions;
mod submit;

use super::Runtime;
use super::connection::Conn;
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
                Effect::JobEnded(job) => self.on_job_ended(job),
                Effect::Launch(job) => self.launch(job),
                Effect::CreditOwed(job) => self.return_credit(job),
                Effect::Unreferenced(job) => self.forget_if_done(job),
                Effect::Answer { conn, reply, at } => self.connections.answer(&mut self.ctx, conn, reply.into(), at),
                Effect::Renumbered { conn, withdrawn } => {
                    if let Some(conn) = self.connections.get_mut(conn) {
                        conn.renumber(&withdrawn);
                    }
                }
                Effect::Leave { conn, reason } => self.leave(conn, reason),
                Effect::Dismiss { conn, refusal, reason } => self.dismiss(conn, refusal, reason),
                Effect::Evicted { session, at_once } => {
                    self.delivery.show_nothing_more(&mut self.ctx, session);
                    if at_once {
                        self.on_evicted(session);
                    }
                }
                Effect::SessionOver(session) => self.delivery.close(&mut self.ctx, session),
                Effect::Detached { session, alive } => self.detach(session, alive),
            }
        }
    }

    /// An event is numbered for everyone who is shown its job, and perhaps
    /// others make room for it.
    fn on_appended(&mut self, id: JobId, n: u64, class: EventClass, grown: bool) {
        self.delivery.number_for_all(&mut self.ctx, &self.jobs, id, n);
        self.bound_events(id, n);
        if grown {
            let needed = self.delivery.first_needed(&self.jobs, id);
            self.jobs.table_mut().on_grown(&mut self.ctx, id, needed);
        }
        if !class.is_end() {
            self.delivery.check_lag(&mut self.ctx, id);
        }
    }

    /// Sends the next numbered frame up to `up_to`; false if there is none that
    /// may be seen.
    pub(super) fn send_next_event(&mut self, conn: ConnId, up_to: u64) -> bool {
        let attached = self.connections.get(conn).filter(|conn| conn.takes_numbered());
        let Some(session) = attached.and_then(Conn::session) else {
            return false;
        };
        match self.delivery.next(&mut self.ctx, &self.jobs, session, conn, up_to) {
            Next::Frame(frame) => {
                if let Some(frame) = frame {
                    self.connections.send_frame(&mut self.ctx, conn, frame);
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
        let attached = self.connections.get_mut(conn).and_then(|conn| Some((conn.session()?, conn.take_replay()?)));
        let Some((reader, mut replay)) = attached else {
            return false;
        };
        let step = self.delivery.next_replayed(&mut self.ctx, &self.jobs, conn, reader, &mut replay);
        if let ReplayStep::Done(reply) = step {
            self.connections.send_reply(&mut self.ctx, conn, &reply);
            return true;
        }
        if let Some(conn) = self.connections.get_mut(conn) {
            conn.go_on_replaying(replay);
        }
        match step {
            ReplayStep::Frame(Some(frame)) => self.connections.send_frame(&mut self.ctx, conn, frame),
            ReplayStep::Frame(None) => {}
            ReplayStep::Nothing | ReplayStep::Done(_) => return false,
        }
        true
    }
}
