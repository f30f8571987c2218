//! Unanswered commands: each is sent once on every connection until its answer arrives.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::io::Handle;
use crate::error::ApiMisuse;
use crate::id::WireId;
use crate::model::request::{Command, Request, SessionRequest};
use crate::model::upload::ArtifactWish;

#[derive(Debug, Default)]
pub(super) struct Commands {
    pending: BTreeMap<Handle, Pending>,
    last_handle: u64,
}

/// An unanswered command.
#[derive(Debug)]
pub(super) struct Pending {
    /// The message id, the same for every attempt.
    pub(super) id: ulid::Ulid,
    pub(super) request: Request,
    /// Whether it was sent on the present connection.
    sent: bool,
    pub(super) origin: Origin,
}

/// The origin of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Application,
    /// The application: a submit with a key that it chose, and may have used before.
    ApplicationWithKey,
    /// The client itself.
    Client,
    /// The client itself: it asks whether a job that was handed over is shown to its session.
    Handoff,
}

impl Pending {
    /// Whether the application expects its answer.
    pub(super) fn is_asked(&self) -> bool {
        match self.origin {
            Origin::Application | Origin::ApplicationWithKey => true,
            Origin::Client | Origin::Handoff => false,
        }
    }
}

impl Commands {
    /// Adds a command, which is not sent yet.
    ///
    /// # Errors
    ///
    /// `TooManyPending`, if `limit` commands are unanswered.
    pub(super) fn add(
        &mut self,
        id: ulid::Ulid,
        request: Request,
        origin: Origin,
        limit: usize,
    ) -> Result<Handle, ApiMisuse> {
        if self.pending.len() >= limit {
            return Err(ApiMisuse::TooManyPending { limit });
        }
        self.last_handle += 1;
        let handle = Handle(self.last_handle);
        self.pending.insert(handle, Pending { id, request, sent: false, origin });
        Ok(handle)
    }

    pub(super) fn clear(&mut self) {
        self.pending.clear();
    }

    /// On a new connection every command is sent again.
    pub(super) fn send_again(&mut self) {
        for pending in self.pending.values_mut() {
            pending.sent = false;
        }
    }

    /// Takes the commands that were not sent on this connection, and marks them as sent.
    pub(super) fn take_unsent(&mut self) -> Vec<(ulid::Ulid, Request)> {
        let unsent = self.pending.values_mut().filter_map(|pending| {
            let sent = core::mem::replace(&mut pending.sent, true);
            (!sent).then(|| (pending.id, pending.request.clone()))
        });
        unsent.collect()
    }

    /// Takes the command that was answered: the named one, or else the oldest that matches.
    pub(super) fn answered(
        &mut self,
        named: Option<Handle>,
        kind: impl Fn(&Request) -> bool,
    ) -> Option<(Handle, Pending)> {
        let handle = named.or_else(|| {
            let oldest = self.pending.iter().find(|(_, pending)| pending.sent && kind(&pending.request));
            oldest.map(|(handle, _)| *handle)
        })?;
        Some((handle, self.pending.remove(&handle)?))
    }

    /// The command that an answer names, or whose id it has: some runtimes answer under the id of
    /// the request.
    pub(super) fn request_of(&self, request: Option<&WireId>, id: &WireId) -> Option<Handle> {
        self.named(request).or_else(|| self.named(Some(id)))
    }

    /// The command with this message id.
    pub(super) fn named(&self, request: Option<&WireId>) -> Option<Handle> {
        let id = request?.message_ulid()?;
        let found = self.pending.iter().find(|(_, pending)| pending.id == id);
        found.map(|(handle, _)| *handle)
    }

    /// Takes a command whose answer says only that it is done: the one that the answer names, or
    /// else the oldest answer to a question, interrupt or stream request.
    pub(super) fn take_done(&mut self, request: Option<&WireId>) -> Option<(Handle, Pending)> {
        let is_answer = |request: &Request| {
            matches!(request, Request::Command(Command::Answer(_) | Command::Interrupt(_) | Command::Stream(_)))
        };
        let is_done = |request: &Request| {
            let done = matches!(
                request,
                Request::Command(
                    Command::Evict(_)
                        | Command::HandOver(_)
                        | Command::ReleaseArtifact { .. }
                        | Command::ChangeSchedule(_)
                ) | Request::Session(
                    SessionRequest::AboutArtifacts(ArtifactWish::Abandon(_)) | SessionRequest::AwaitPrompt
                )
            );
            done || is_answer(request)
        };
        let named = self.named(request);
        let is_other = |handle| self.pending.get(&handle).is_none_or(|pending| !is_done(&pending.request));
        if request.is_some() && named.is_none_or(is_other) {
            return None;
        }
        self.answered(named, is_answer)
    }

    /// Takes the largest command that was sent, with its size.
    pub(super) fn take_largest(&mut self, size: impl Fn(&Pending) -> usize) -> Option<(usize, Handle, Pending)> {
        let sent = self.pending.iter().filter(|(_, pending)| pending.sent);
        let (bytes, handle) = sent.map(|(handle, pending)| (size(pending), *handle)).max_by_key(|(bytes, _)| *bytes)?;
        Some((bytes, handle, self.pending.remove(&handle)?))
    }

    /// Takes every cancel, with the id of its target.
    pub(super) fn take_cancels(&mut self) -> Vec<(Handle, WireId)> {
        let is_cancel =
            |_: &Handle, pending: &mut Pending| matches!(pending.request, Request::Command(Command::Cancel(_)));
        let taken = self.pending.extract_if(.., is_cancel).filter_map(|(handle, pending)| match pending.request {
            Request::Command(Command::Cancel(cancel)) => Some((handle, cancel.target.id().clone())),
            Request::Handshake(_) | Request::Session(_) | Request::Command(_) => None,
        });
        taken.collect()
    }

    /// Drops the cancels of a job that has ended: some runtimes answer a cancel by the end alone.
    pub(super) fn drop_cancels_of(&mut self, job: &WireId) {
        self.pending
            .retain(|_, pending| !matches!(&pending.request, Request::Command(Command::Cancel(cancel)) if cancel.target.id() == job));
    }

    /// The number of unanswered submits of the application: each may add a job.
    pub(super) fn submits(&self) -> usize {
        self.pending.values().filter(|pending| pending.is_asked() && is_submit(&pending.request)).count()
    }

    /// Whether a submit is unanswered.
    pub(super) fn awaits_acceptance(&self) -> bool {
        self.pending.values().any(|pending| is_submit(&pending.request))
    }

    /// Whether the client has asked if this job is shown to its session, and has no answer.
    pub(super) fn is_taking(&self, job: &WireId) -> bool {
        let takes = |pending: &Pending| pending.origin == Origin::Handoff && pending.request.job() == Some(job);
        self.pending.values().any(takes)
    }

    /// Whether that holds for any job.
    pub(super) fn is_taking_any(&self) -> bool {
        self.pending.values().any(|pending| pending.origin == Origin::Handoff)
    }

    /// Whether the session is being closed.
    pub(super) fn is_closing(&self) -> bool {
        self.pending.values().any(|pending| matches!(pending.request, Request::Session(SessionRequest::Close { .. })))
    }
}

fn is_submit(request: &Request) -> bool {
    matches!(request, Request::Command(Command::Submit(..) | Command::RestoreCheckpoint(_)))
}
