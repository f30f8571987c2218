//! The places of jobs and sessions in traces of [W3C](https://www.w3.org/TR/trace-context/).
//!
//! The number of a span that outlives a process is derived from the id of its job or session. So it
//! is the same after a restart, without being stored.

use std::fmt::{self, Display};

use arcp_proto::id::{JobId, SessionId};
use sha2::{Digest as _, Sha256};

/// A span and its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SpanContext {
    pub(crate) trace: u128,
    pub(crate) span: u64,
}

/// The trace context that the caller of a job gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// The trace id, if it is one of W3C.
    pub(crate) trace: Option<u128>,
    /// The span in which the job was requested.
    pub(crate) span: Option<u64>,
    /// Whether the trace may be recorded.
    pub(crate) sampled: bool,
}

impl Caller {
    /// The trace of a job, with the span and flag that its caller gave. Clients of the open family
    /// may use any text as a trace; a text that is a whole traceparent is parsed as one.
    pub(crate) fn of(trace: &str, span: Option<&str>, unsampled: bool) -> Caller {
        let said = |span: Option<&str>| span.and_then(|span| number(span, 16)).and_then(|span| span.try_into().ok());
        let mut parts = trace.split('-');
        if let (Some("00"), Some(id), Some(parent), Some(flags), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        {
            let sampled = !unsampled && u8::from_str_radix(flags, 16).is_ok_and(|flags| flags & 1 == 1);
            return Caller { trace: number(id, 32), span: said(Some(parent)), sampled };
        }
        Caller { trace: number(trace, 32), span: said(span), sampled: !unsampled }
    }

    /// The `traceparent` for requests that a job makes, below the job's span. `None` if the trace
    /// id is not one of W3C.
    pub(crate) fn traceparent(self, job: JobId) -> Option<String> {
        let SpanContext { trace, span } = SpanContext { trace: self.trace?, span: low(job.ulid().0) };
        Some(format!("00-{trace:032x}-{span:016x}-{:02x}", u8::from(self.sampled)))
    }
}

impl SpanContext {
    /// The span of a session, in a trace of its own.
    pub(crate) fn of_session(session: SessionId) -> SpanContext {
        let id = session.ulid().0;
        SpanContext { trace: id.max(1), span: low(id) }
    }

    /// The span of a job. A trace id that is not one of W3C is hashed, so that the same text always
    /// gives the same trace.
    pub(crate) fn of_job(job: JobId, trace: &str, caller: Caller) -> SpanContext {
        let trace = caller.trace.unwrap_or_else(|| {
            let digest = Sha256::digest(trace.as_bytes());
            digest[..16].iter().fold(0, |all, byte| (all << 8) | u128::from(*byte)).max(1)
        });
        SpanContext { trace, span: low(job.ulid().0) }
    }

    /// The span of a delegation, in the trace of the parent job.
    pub(crate) fn of_delegation(self, child: JobId) -> SpanContext {
        SpanContext { span: (!low(child.ulid().0)).max(1), ..self }
    }

    /// The trace id in its text form.
    pub(crate) fn trace(self) -> impl Display {
        Hex { digits: 32, number: self.trace }
    }

    /// The span id in its text form.
    pub(crate) fn span(self) -> impl Display {
        Hex { digits: 16, number: u128::from(self.span) }
    }
}

/// A number in lower-case hex.
struct Hex {
    digits: usize,
    number: u128,
}

impl Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:0width$x}", self.number, width = self.digits)
    }
}

/// Parses a number of so many lower-case hex digits; 0 is invalid.
fn number(text: &str, digits: usize) -> Option<u128> {
    let is_hex = text.len() == digits && text.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c));
    is_hex.then(|| u128::from_str_radix(text, 16).ok())?.filter(|number| *number > 0)
}

/// The number of a span, which is never 0.
fn low(id: u128) -> u64 {
    u64::try_from(id & u128::from(u64::MAX)).unwrap_or(0).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    fn parent(job: JobId, trace: &str) -> Option<String> {
        Caller::of(trace, None, false).traceparent(job)
    }

    #[test]
    fn the_trace_is_continued_under_the_span_of_the_job_if_it_is_one_of_w3c() {
        let job = JobId::from_ulid(ulid::Ulid(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10));
        let expected = "00-4bf92f3577b34da6a3ce929d0e0e4736-090a0b0c0d0e0f10-01";
        assert_eq!(parent(job, TRACE).as_deref(), Some(expected));
        for other in ["", "order 17", &TRACE.to_uppercase(), &"0".repeat(32), &TRACE[1..]] {
            assert_eq!(parent(job, other), None, "{other}");
        }
        let empty = JobId::from_ulid(ulid::Ulid(7 << 64));
        assert!(parent(empty, TRACE).expect("a parent").contains("-0000000000000001-"));
        let whole = format!("00-{TRACE}-00f067aa0ba902b7-00");
        assert_eq!(parent(job, &whole).as_deref(), Some(expected.replace("-01", "-00").as_str()), "not recorded");
    }

    #[test]
    fn a_caller_says_its_span_beside_its_trace_or_in_it() {
        let span = Some(0x00f0_67aa_0ba9_02b7);
        let all = Caller { trace: Some(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736), span, sampled: true };
        assert_eq!(Caller::of(TRACE, Some("00f067aa0ba902b7"), false), all);
        assert_eq!(Caller::of(&format!("00-{TRACE}-00f067aa0ba902b7-01"), None, false), all);
        assert_eq!(Caller::of(TRACE, Some("s1"), true), Caller { span: None, sampled: false, ..all });
        assert_eq!(Caller::of("order 17", None, false), Caller { trace: None, span: None, sampled: true });
    }

    #[test]
    fn a_trace_of_free_text_is_one_trace_for_all_its_jobs() {
        let [one, other] = [1, 2].map(|id| JobId::from_ulid(ulid::Ulid(id)));
        let of = |job, text| SpanContext::of_job(job, text, Caller::of(text, None, false));
        assert_eq!(of(one, "order 17").trace, of(other, "order 17").trace);
        assert_ne!(of(one, "order 17").trace, of(one, "order 18").trace);
        assert_ne!(of(one, "order 17").span, of(other, "order 17").span);
    }
}
