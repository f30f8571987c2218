//! The transport under a connection: what may be written to it, whether it is
//! read, and why it ends.

use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use crate::id::{ConnId, Principal, SessionId};
use crate::model::reply::Refusal;
use crate::runtime::context::Context;
use crate::runtime::io::{CloseReason, Notice, Output};
use crate::runtime::timers::Timer;
use crate::wire::View;
use crate::wire::profile::RefusalForm;

/// What an operator is told of why something was refused, in characters.
const REASON_CHARACTERS: usize = 256;

#[derive(Debug)]
pub(in crate::runtime) struct Channel {
    id: ConnId,
    credit_bytes: i64,
    credit_frames: u32,
    paused: bool,
    /// Why it ends once everything it is owed was said.
    leaving: Option<CloseReason>,
}

impl Channel {
    /// One that nothing may be written to yet.
    pub(in crate::runtime) fn new(id: ConnId) -> Channel {
        Channel { id, credit_bytes: 0, credit_frames: 0, paused: false, leaving: None }
    }

    pub(in crate::runtime) fn id(&self) -> ConnId {
        self.id
    }

    /// Its writer can take more.
    pub(in crate::runtime) fn on_credit(&mut self, ctx: &mut Context, bytes: u32, frames: u32) {
        self.grant(i64::from(bytes), frames);
        // However little it was: the peer reads.
        ctx.timers.clear(Timer::Stalled(self.id));
        ctx.ready(self.id);
    }

    pub(super) fn grant(&mut self, bytes: i64, frames: u32) {
        self.credit_bytes = self.credit_bytes.saturating_add(bytes);
        self.credit_frames = self.credit_frames.saturating_add(frames);
    }

    /// Bytes and frames that may be written to it.
    pub(super) fn credit(&self) -> (i64, u32) {
        (self.credit_bytes, self.credit_frames)
    }

    pub(in crate::runtime) fn has_credit(&self) -> bool {
        self.credit_bytes > 0 && self.credit_frames > 0
    }

    pub(in crate::runtime) fn send(&mut self, ctx: &mut Context, frame: String) {
        self.credit_bytes -= i64::try_from(frame.len()).unwrap_or(i64::MAX);
        self.credit_frames = self.credit_frames.saturating_sub(1);
        ctx.output(Output::Send { conn: self.id, frame });
    }

    /// Sends the bytes that the frame before has announced: it is one frame with them.
    pub(in crate::runtime) fn send_sidecar(&mut self, ctx: &mut Context, message: Vec<u8>) {
        self.credit_bytes -= i64::try_from(message.len()).unwrap_or(i64::MAX);
        ctx.output(Output::SendSidecar { conn: self.id, message });
    }

    pub(in crate::runtime) fn is_paused(&self) -> bool {
        self.paused
    }

    /// Reads from it from now on, or not; gives whether it was paused.
    pub(in crate::runtime) fn read(&mut self, ctx: &mut Context, may_be_read: bool) -> bool {
        let was_paused = core::mem::replace(&mut self.paused, !may_be_read);
        if was_paused && may_be_read {
            ctx.output(Output::ResumeRead { conn: self.id });
        } else if !was_paused && !may_be_read {
            ctx.output(Output::PauseRead { conn: self.id });
        }
        was_paused
    }

    /// It ends once its peer was told everything so far.
    pub(in crate::runtime) fn leave(&mut self, ctx: &mut Context, reason: CloseReason) {
        self.leaving = Some(reason);
        ctx.ready(self.id);
    }

    pub(in crate::runtime) fn leaving(&self) -> Option<CloseReason> {
        self.leaving
    }

    /// A peer that reads nothing is given up after a while, if something waits
    /// for it or it is to go.
    pub(in crate::runtime) fn bound_stall(&self, ctx: &mut Context, waits: bool) {
        let stalled = waits && !self.has_credit();
        if (self.leaving.is_some() || stalled) && !ctx.timers.is_set(Timer::Stalled(self.id)) {
            ctx.timers.set(Timer::Stalled(self.id), ctx.now.mono + ctx.config.timing.slow_reader_grace);
        }
    }

    /// Whether its peer is told of a refusal; an operator is.
    pub(in crate::runtime) fn is_told(
        &self,
        ctx: &mut Context,
        view: View,
        (principal, session): (Option<&Principal>, Option<SessionId>),
        refusal: &Refusal,
    ) -> bool {
        let told = view.profile.refusal_form(refusal.kind) != RefusalForm::Silent;
        ctx.observe(Notice::Refused {
            conn: self.id,
            principal: principal.cloned(),
            session,
            job: refusal.job.clone(),
            code: refusal.code.as_str().to_string(),
            reason: refusal.message.chars().take(REASON_CHARACTERS).collect(),
            told,
        });
        told
    }
}
