//! Errors of an upstream that an agent called: a model proxy, an API with a key of its own.
//!
//! Upstreams report an exhausted budget with many codes and several statuses. Clients of a runtime
//! see one code for all of them, `BUDGET_EXHAUSTED` (1.1 §9.6).

use arcp_proto::error::ErrorCode;
use arcp_proto::json::{Json, Members, Object};
use arcp_proto::model::event::JobError;

use super::AgentError;

/// The values for an exhausted budget in the `code` or `type` of an error: of LiteLLM, of OpenAI
/// and compatible APIs, and of another runtime.
const EXHAUSTED: [&str; 6] = [
    "budget_exceeded",
    "insufficient_quota",
    "billing_hard_limit_reached",
    "insufficient_credits",
    "payment_required",
    "budget_exhausted",
];
const PAYMENT_REQUIRED: u16 = 402;
const TOO_MANY: u16 = 429;

impl AgentError {
    /// The error of a job whose upstream answered over HTTP with this status and body:
    /// `BUDGET_EXHAUSTED` if its budget is spent, `RESOURCE_EXHAUSTED` if it limits the rate,
    /// `INTERNAL_ERROR` otherwise. The body is not quoted: it may contain keys.
    ///
    /// ```
    /// use arcp_host::agent::AgentError;
    /// use arcp_proto::error::ErrorCode;
    ///
    /// let body = r#"{"error": {"message": "Budget has been exceeded!", "type": "budget_exceeded", "code": "400"}}"#;
    /// assert_eq!(AgentError::of_upstream(400, body).0.code, ErrorCode::BudgetExhausted);
    /// assert_eq!(AgentError::of_upstream(429, "slow down").0.code, ErrorCode::ResourceExhausted);
    /// assert_eq!(AgentError::of_upstream(500, "").0.code, ErrorCode::Internal);
    /// ```
    #[must_use]
    pub fn of_upstream(status: u16, body: &str) -> AgentError {
        let json = Json::parse(body).ok().filter(Json::is_object);
        AgentError(of_answer(Some(status), json.as_ref()))
    }
}

/// The error for such an answer.
pub(crate) fn of_answer(status: Option<u16>, body: Option<&Json>) -> JobError {
    let (code, message) = if is_exhausted(status, body) {
        (ErrorCode::BudgetExhausted, "the budget of the upstream is used up".to_string())
    } else if status == Some(TOO_MANY) {
        (ErrorCode::ResourceExhausted, "the upstream is asked too often".to_string())
    } else {
        let status = status.map_or("an error".to_string(), |status| status.to_string());
        (ErrorCode::Internal, format!("the upstream answered {status}"))
    };
    let mut details = Object::new();
    details.bool("upstream", true);
    if let Some(status) = status {
        details.u64("upstream_status", u64::from(status));
    }
    JobError { details: Some(details.json()), ..JobError::new(code, message) }
}

/// Whether an upstream says that its budget is spent.
pub(crate) fn is_exhausted(status: Option<u16>, body: Option<&Json>) -> bool {
    status == Some(PAYMENT_REQUIRED) || body.and_then(|body| body.members().ok()).is_some_and(|body| says_so(&body))
}

/// As [`is_exhausted`], for a text that quotes an answer, as programs do: `429: {"error": ...}`.
pub(crate) fn quotes_exhaustion(text: &str) -> bool {
    let quoted = text.find('{').and_then(|at| Json::parse(text[at..].trim_end()).ok());
    is_exhausted(None, quoted.as_ref())
}

/// Looks in the answer and in its `error`.
fn says_so(answer: &Members<'_>) -> bool {
    let is_named = |members: &Members<'_>| {
        let mut words = ["code", "type"].into_iter().filter_map(|name| members.get_str(name));
        words.any(|word| EXHAUSTED.iter().any(|exhausted| word.eq_ignore_ascii_case(exhausted)))
    };
    let inner = answer.get("error").and_then(|error| Members::parse(error).ok());
    is_named(answer) || inner.is_some_and(|error| is_named(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_says_that_nothing_is_left_to_spend_is_understood_and_nothing_else_is_that() {
        for (status, body, code) in [
            (400, r#"{"error":{"type":"budget_exceeded","code":"400"}}"#, ErrorCode::BudgetExhausted),
            (429, r#"{"error":{"type":"budget_exceeded","code":429}}"#, ErrorCode::BudgetExhausted),
            (429, r#"{"error":{"code":"insufficient_quota"}}"#, ErrorCode::BudgetExhausted),
            (402, "", ErrorCode::BudgetExhausted),
            (400, r#"{"code":"BUDGET_EXHAUSTED"}"#, ErrorCode::BudgetExhausted),
            (429, r#"{"error":{"type":"rate_limit_error"}}"#, ErrorCode::ResourceExhausted),
            (400, r#"{"error":{"message":"budget_exceeded"}}"#, ErrorCode::Internal),
            (400, r#"{"error":"budget_exceeded"}"#, ErrorCode::Internal),
            (400, r#"["budget_exceeded"]"#, ErrorCode::Internal),
            (500, "<html>", ErrorCode::Internal),
        ] {
            let AgentError(error) = AgentError::of_upstream(status, body);
            assert_eq!(error.code, code, "{status} {body}");
            assert_eq!(error.retryable, code.retryable());
            assert!(!error.message.contains("exceeded"), "nothing is quoted: {}", error.message);
        }
    }
}
