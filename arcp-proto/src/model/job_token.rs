//! Tokens of jobs: with one, any session of the job's principal is shown the rest of the job, in
//! either family. An extension of ours (RFC §21).

use alloc::string::String;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::id::{JobId, WireId};
use crate::secret::Secret;

const PREFIX: &str = "jtk_";
/// Characters of its secret: 256 bits in base64url.
const SECRET: usize = 43;

/// A token of a job: the id of the job and a secret of 256 bits. It is never printed.
///
/// ```
/// use arcp_proto::model::job_token::JobToken;
/// let text = format!("jtk_01ARZ3NDEKTSV4RRFFQ69G5FAV_{}", "x".repeat(43));
/// let token = JobToken::parse(&text).unwrap();
/// assert_eq!(token.job().as_str(), "job_01ARZ3NDEKTSV4RRFFQ69G5FAV");
/// assert!(!format!("{token:?}").contains("xxx"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobToken {
    job: WireId,
    text: Secret,
}

impl JobToken {
    /// Parses a token; `None` if no runtime issues such a text.
    pub fn parse(text: &str) -> Option<JobToken> {
        let (job, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if secret.len() != SECRET || !secret.bytes().all(is_base64) {
            return None;
        }
        let job = JobId::parse(&alloc::format!("job_{job}"))?.into();
        Some(JobToken { job, text: Secret::new(text.into()) })
    }

    /// The token of a job with this secret.
    pub(crate) fn new(job: JobId, secret: [u8; 32]) -> JobToken {
        let mut text = String::from(PREFIX);
        text.push_str(&alloc::format!("{}", job.ulid()));
        text.push('_');
        URL_SAFE_NO_PAD.encode_string(secret, &mut text);
        JobToken { job: job.into(), text: Secret::new(text) }
    }

    /// The job.
    pub fn job(&self) -> &WireId {
        &self.job
    }

    /// The whole token, which the caller must keep secret.
    pub fn secret(&self) -> &Secret {
        &self.text
    }
}

/// The answer to a request for a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedToken {
    /// The token.
    pub token: JobToken,
    /// The job's own number of its last event when the token was issued: later events are shown for
    /// it, unless another number is requested.
    pub after: u64,
    /// The request it answers.
    pub request: Option<WireId>,
}

/// A request for the rest of a job, by its token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExchangeToken {
    /// The token.
    pub token: JobToken,
    /// Only events with a higher number in the job's own numbering are wanted; the end is shown in
    /// any case. `None`: those later than the token.
    pub after: Option<u64>,
}
