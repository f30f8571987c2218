//! Requests that only the open family has.

use alloc::string::String;
use core::time::Duration;

use super::commands::Origin;
use super::{Handle, Session};
use crate::error::ApiMisuse;
use crate::id::WireId;
use crate::model::request::{Cancel, Command, Extension, Invocation, Request, SessionRequest, Submit, Target};

/// The longest deadline of a cancel.
const LONGEST_DEADLINE: Duration = Duration::from_secs(600);

/// An accepted session of the open family: a [`Session`] with the requests that hello does not
/// have.
///
/// A session that is not accepted takes no commands, in either family:
///
/// ```compile_fail,E0599
/// # use arcp_proto::model::{agent::AgentRef, request::{Invocation, Submit}};
/// fn too_early(client: &mut arcp_proto::client::Client, agent: AgentRef) {
///     client.submit_as(Submit::new(agent), Invocation::default());
/// }
/// ```
///
/// and the requests of this family do not exist in the other:
///
/// ```compile_fail,E0599
/// # use arcp_proto::client::Session;
/// fn in_hello(mut session: Session<'_>) {
///     session.echo(None);
/// }
/// ```
///
/// ```
/// # use arcp_proto::client::Session;
/// fn in_open(session: Session<'_>) {
///     if let Ok(mut open) = session.into_open() {
///         let _ = open.echo(Some("are you there".into()));
///         let _ = open.session().list(Default::default());
///     }
/// }
/// ```
#[derive(Debug)]
pub struct OpenSession<'a> {
    session: Session<'a>,
}

impl<'a> Session<'a> {
    /// This session with the requests of the open family.
    ///
    /// # Errors
    ///
    /// The session itself, if it is of the hello family.
    pub fn into_open(self) -> Result<OpenSession<'a>, Session<'a>> {
        if self.client.config.family.has_open_requests() { Ok(OpenSession { session: self }) } else { Err(self) }
    }
}

impl<'a> OpenSession<'a> {
    /// The requests that both families have.
    pub fn session(&mut self) -> &mut Session<'a> {
        &mut self.session
    }

    /// Submits a job with a priority, a span and members of extensions
    /// (RFC §6.1).
    ///
    /// # Errors
    ///
    /// As [`Session::submit`]; `Argument` if the extensions are not an object.
    pub fn submit_as(&mut self, submit: Submit, invocation: Invocation) -> Result<Handle, ApiMisuse> {
        if invocation.extensions.as_ref().is_some_and(|extensions| !extensions.is_object()) {
            return Err(ApiMisuse::Argument("extensions are a JSON object"));
        }
        self.session.invoke(submit, invocation)
    }

    /// Cancels a job with a cancel grace (RFC §10.4) of at most ten minutes.
    ///
    /// # Errors
    ///
    /// `TooManyPending`, or `Argument` for a longer grace.
    pub fn cancel_within(
        &mut self,
        job: WireId,
        reason: Option<String>,
        deadline: Duration,
    ) -> Result<Handle, ApiMisuse> {
        if deadline > LONGEST_DEADLINE {
            return Err(ApiMisuse::Argument("a cancel's deadline is at most ten minutes"));
        }
        self.session.client.give(
            Command::Cancel(Cancel { target: Target::Job(job), reason, deadline: Some(deadline) }),
            Origin::Application,
        )
    }

    /// Cancels every job of this session, then the session itself.
    ///
    /// # Errors
    ///
    /// `TooManyPending`.
    pub fn cancel_all(&mut self, reason: Option<String>) -> Result<Handle, ApiMisuse> {
        let Some(me) = &self.session.client.identity else {
            return Err(ApiMisuse::NotAccepted);
        };
        let target = Target::Session(me.session.clone());
        self.session.client.give(Command::Cancel(Cancel { target, reason, deadline: None }), Origin::Application)
    }

    /// Requests an echo (RFC §6.2). `ClientEvent::Echoed` follows.
    ///
    /// # Errors
    ///
    /// `TooManyPending`.
    pub fn echo(&mut self, nonce: Option<String>) -> Result<Handle, ApiMisuse> {
        self.session.client.give(SessionRequest::Echo { nonce }, Origin::Application)
    }

    /// Sends a message of an extension. The only possible answer is that the runtime does not know
    /// it.
    pub fn send(&mut self, message: Extension) {
        self.session.client.send(&Request::Session(SessionRequest::Extension(message)));
    }
}
