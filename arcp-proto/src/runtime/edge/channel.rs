//! The transport under a connection: the credit to write to it, whether it is read, and why it
//! closes.

use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use crate::id::{ConnId, Principal, SessionId};
use crate::model::reply::Refusal;
use crate::runtime::context::Context;
use crate::runtime::io::{CloseReason, Notice, Output};
use crate::runtime::timers::Timer;
use crate::wire::View;
use crate::wire::profile::RefusalForm;

/// Characters of a refusal's reason in a notice.
const REASON_CHARACTERS: usize = 256;

#[derive(Debug)]
pub(in crate::runtime) struct Channel {
    id: ConnId,
    credit_bytes: i64,
    credit_frames: u32,
    paused: bool,
    /// The reason for which it closes once everything was sent to its peer.
    leaving: Option<CloseReason>,
}

impl Channel {
    /// A channel without credit.
    pub(in crate::runtime) fn new(id: ConnId) -> Channel {
        Channel { id, credit_bytes: 0, credit_frames: 0, paused: false, leaving: None }
    }

    pub(in crate::runtime) fn id(&self) -> ConnId {
        self.id
    }

    /// Adds write credit.
    pub(in crate::runtime) fn on_credit(&mut self, ctx: &mut Context, bytes: u32, frames: u32) {
        let could_write = self.has_credit();
        self.grant(i64::from(bytes), frames);
        if could_write && !self.paused && self.leaving.is_none() {
            return; // Whatever there was is written.
        }
        // However little it was: the peer reads.
        ctx.timers.clear(Timer::Stalled(self.id));
        ctx.ready(self.id);
    }

    pub(super) fn grant(&mut self, bytes: i64, frames: u32) {
        self.credit_bytes = self.credit_bytes.saturating_add(bytes);
        self.credit_frames = self.credit_frames.saturating_add(frames);
    }

    /// The bytes and frames that may be written to it.
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

    /// Sends the binary message that the frame before announced. Both count as one frame.
    pub(in crate::runtime) fn send_sidecar(&mut self, ctx: &mut Context, message: Vec<u8>) {
        self.credit_bytes -= i64::try_from(message.len()).unwrap_or(i64::MAX);
        ctx.output(Output::SendSidecar { conn: self.id, message });
    }

    pub(in crate::runtime) fn is_paused(&self) -> bool {
        self.paused
    }

    /// Starts or stops reading it; returns whether it was paused.
    pub(in crate::runtime) fn read(&mut self, ctx: &mut Context, may_be_read: bool) -> bool {
        let was_paused = core::mem::replace(&mut self.paused, !may_be_read);
        if was_paused && may_be_read {
            ctx.output(Output::ResumeRead { conn: self.id });
        } else if !was_paused && !may_be_read {
            ctx.output(Output::PauseRead { conn: self.id });
        }
        was_paused
    }

    /// Closes it once its peer was sent everything so far.
    pub(in crate::runtime) fn leave(&mut self, ctx: &mut Context, reason: CloseReason) {
        self.leaving = Some(reason);
        ctx.ready(self.id);
    }

    pub(in crate::runtime) fn leaving(&self) -> Option<CloseReason> {
        self.leaving
    }

    /// Sets the time after which a peer that reads nothing is closed, if frames wait for it or it
    /// is to close.
    pub(in crate::runtime) fn bound_stall(&self, ctx: &mut Context, waits: bool) {
        let stalled = waits && !self.has_credit();
        if (self.leaving.is_some() || stalled) && !ctx.timers.is_set(Timer::Stalled(self.id)) {
            ctx.timers.set(Timer::Stalled(self.id), ctx.now.mono + ctx.config.timing.slow_reader_grace);
        }
    }

    /// Tells the operator of a refusal, and returns whether its peer is told.
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
