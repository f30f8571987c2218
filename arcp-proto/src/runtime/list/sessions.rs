//! Listing sessions, oldest first, for operators and auditors.

use alloc::string::ToString as _;
use alloc::vec::Vec;

use super::{DEFAULT_PAGE, ENTRY_BYTES, LARGEST_PAGE};
use crate::error::Violation;
use crate::id::{SessionId, WireId};
use crate::model::feature::Feature;
use crate::model::session::{SessionPage, SessionQuery, SessionSummary};
use crate::runtime::authority;
use crate::runtime::context::Context;
use crate::runtime::session::{Session, Sessions};
use crate::time::UtcMs;

/// A requested page of sessions.
#[derive(Debug)]
pub(in crate::runtime) struct SessionListing {
    request: WireId,
    after: Option<SessionId>,
    limit: usize,
}

impl SessionListing {
    /// The page that a session requests.
    ///
    /// # Errors
    ///
    /// If the session may not list, or the query is invalid.
    pub(in crate::runtime) fn new(
        ctx: &Context,
        session: &Session,
        request: WireId,
        query: &SessionQuery,
    ) -> Result<SessionListing, Violation> {
        if !session.view().features.has(Feature::Sessions) {
            return Err(Violation::invalid("listing sessions needs the feature `sessions`, which was not negotiated"));
        }
        authority::may_list_sessions(&ctx.config, session.principal())?;
        let limit = query.limit.unwrap_or(DEFAULT_PAGE);
        let within = (1..=LARGEST_PAGE).contains(&limit);
        let limit = usize::try_from(limit).ok().filter(|_| within);
        let limit = limit.ok_or_else(|| Violation::invalid("`limit` must be 1 to 1000"))?;
        let after = query.after.as_ref().map(|after| SessionId::parse(after.as_str()));
        let unknown = || Violation::invalid("`after` is not the id of a session");
        Ok(SessionListing { request, after: after.map(|after| after.ok_or_else(unknown)).transpose()?, limit })
    }

    /// Makes the page, as of now.
    pub(super) fn page(&self, ctx: &Context, sessions: &Sessions) -> SessionPage {
        let page_bytes = ctx.config.limits.frame.result_frame_bytes / 2;
        let (mut found, mut bytes) = (Vec::<SessionSummary>::new(), 0);
        let mut next = None;
        for (id, session) in sessions.after(self.after) {
            if found.len() == self.limit || bytes >= page_bytes {
                next = found.last().map(|last| last.session.clone());
                break;
            }
            let entry = summary(id, session);
            bytes += ENTRY_BYTES + entry.principal.len();
            found.push(entry);
        }
        SessionPage { request: Some(self.request.clone()), sessions: found, next }
    }
}

fn summary(id: SessionId, session: &Session) -> SessionSummary {
    SessionSummary {
        session: id.into(),
        principal: session.principal().to_string(),
        opened_at: Some(UtcMs(id.ulid().timestamp_ms())),
        connected: session.is_attached(),
        expires_at: session.expires_at(),
    }
}
