//! Tokens of jobs, with the same messages in both families: hello peers use them with
//! `x-vendor.arcp.job_tokens`.

use alloc::string::String;

use serde::Deserialize;

use super::requests::job_of;
use crate::error::Violation;
use crate::id::WireId;
use crate::json::{Members, Object, Text};
use crate::model::job_token::{ExchangeToken, IssuedToken, JobToken};
use crate::model::reply::{CommandReply, Reply};
use crate::model::request::{Command, Request};
use crate::wire::envelope::{Header, payload};

const ISSUE: &str = "x-vendor.arcp.job_token.issue";
/// The exchange of a token. Its answer is that of a watch.
pub(super) const EXCHANGE: &str = "x-vendor.arcp.job_token.exchange";
/// The answer to a request for a token.
const ISSUED: &str = "x-vendor.arcp.job_token";

#[derive(Deserialize)]
struct Exchange<'a> {
    #[serde(borrow, default)]
    token: Option<Text<'a>>,
    #[serde(default)]
    from_event_seq: Option<u64>,
}

/// Reads a request about tokens of jobs; `None` for any other message.
pub(super) fn read_request(header: &Header<'_>) -> Result<Option<Request>, Violation> {
    match header.kind.as_ref() {
        ISSUE => Ok(Some(Command::IssueToken { job: job_of(header, ISSUE)? }.into())),
        EXCHANGE => {
            let asked: Exchange<'_> = payload(EXCHANGE, header.payload)?;
            let token = asked.token.and_then(|Text(text)| JobToken::parse(&text)).ok_or_else(|| {
                Violation::invalid(alloc::format!("`{EXCHANGE}`: `token` is missing, or no token of a job"))
            })?;
            Ok(Some(Command::ExchangeToken(ExchangeToken { token, after: asked.from_event_seq }).into()))
        }
        _ => Ok(None),
    }
}

/// The type and payload of a request for a token.
pub(in crate::wire) fn write_issue(job: &WireId) -> (&'static str, String) {
    let mut payload = Object::new();
    payload.str("job_id", job.as_str());
    (ISSUE, payload.done())
}

/// The type and payload of the exchange of a token.
pub(in crate::wire) fn write_exchange(wish: &ExchangeToken) -> (&'static str, String) {
    let mut payload = Object::new();
    payload.str("token", wish.token.secret().expose());
    if let Some(after) = wish.after {
        payload.u64("from_event_seq", after);
    }
    (EXCHANGE, payload.done())
}

/// The type and payload of an issued token.
pub(in crate::wire) fn write_issued(issued: &IssuedToken) -> (&'static str, String) {
    let IssuedToken { token, after, request } = issued;
    let mut payload = Object::new();
    payload
        .opt_str("request_id", request.as_ref().map(WireId::as_str))
        .str("job_id", token.job().as_str())
        .str("token", token.secret().expose())
        .u64("from_event_seq", *after);
    (ISSUED, payload.done())
}

/// Reads the answer to a request for a token; `None` for any other message.
pub(in crate::wire) fn read_reply(
    header: &Header<'_>,
    members: &Members<'_>,
    request: Option<WireId>,
) -> Result<Option<Reply>, Violation> {
    if header.kind != ISSUED {
        return Ok(None);
    }
    let token = members.get_str("token").and_then(|text| JobToken::parse(&text));
    let token = token.ok_or_else(|| Violation::invalid(alloc::format!("`{ISSUED}` has no token of a job")))?;
    let after = members.get("from_event_seq").and_then(|raw| raw.parse().ok()).unwrap_or_default();
    Ok(Some(Reply::Command(CommandReply::Token(IssuedToken { token, after, request }))))
}
