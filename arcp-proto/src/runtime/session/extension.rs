//! Messages of extensions: they go to the host, which says when it has taken them.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;

use super::Sessions;
use crate::error::{ErrorCode, Violation};
use crate::id::SessionId;
use crate::model::request::Extension;
use crate::runtime::account::{Charge, HeldFor};
use crate::runtime::context::Context;
use crate::runtime::io::Output;

/// The extensions that a session speaks.
#[derive(Debug)]
pub(in crate::runtime) struct Extensions {
    /// Namespaces negotiated with the client.
    names: Vec<String>,
    /// Bytes of each message that the host has not taken.
    untaken: VecDeque<Charge>,
}

impl Extensions {
    pub(super) fn new(names: Vec<String>) -> Extensions {
        Extensions { names, untaken: VecDeque::new() }
    }

    /// Namespaces negotiated with the client.
    pub(in crate::runtime) fn names(&self) -> &[String] {
        &self.names
    }

    /// Bytes of messages that the host has not taken.
    pub(in crate::runtime) fn untaken_bytes(&self) -> usize {
        self.untaken.iter().map(Charge::bytes).sum()
    }
}

impl Sessions {
    /// Gives a message to the host, if its extension was negotiated.
    ///
    /// # Errors
    ///
    /// If it was not, and the message is not optional.
    pub(in crate::runtime) fn give_extension(
        &mut self,
        ctx: &mut Context,
        session: SessionId,
        message: Extension,
    ) -> Result<(), Violation> {
        let spoken = self.by_id.get_mut(&session).filter(|session| message.is_of(&session.extensions.names));
        if let Some(spoken) = spoken {
            // The type counts as well, and no message counts as nothing.
            let bytes = message.payload.as_str().len() + message.kind.len() + 1;
            spoken.extensions.untaken.push_back(spoken.account.charge(HeldFor::Extensions, bytes));
            ctx.output(Output::Extension { session, message });
        } else if !message.optional {
            let kind: String = message.kind.chars().take(64).collect();
            let why = alloc::format!("`{kind}` belongs to an extension that was not negotiated");
            return Err(Violation::new(ErrorCode::Unimplemented, why));
        }
        Ok(())
    }

    /// The host has taken the oldest message of a session.
    pub(in crate::runtime) fn take_extension(&mut self, id: SessionId) {
        if let Some(session) = self.by_id.get_mut(&id) {
            session.extensions.untaken.pop_front();
        }
    }
}
