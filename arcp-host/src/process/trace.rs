//! The trace context that programs are given.

use arcp_proto::id::JobId;

/// The W3C `traceparent` of what an agent does: in the trace of its job, below the span
/// of the job, whose number is of the job's id and so the same over restarts. `None`
/// where the trace is not one of W3C: clients of the open family call theirs as they
/// like.
pub(super) fn parent(job: JobId, trace: &str) -> Option<String> {
    let is_w3c = trace.len() == 32
        && trace.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c))
        && trace.bytes().any(|c| c != b'0');
    is_w3c.then(|| format!("00-{trace}-{:016x}-01", span(job)))
}

/// The number of a job's span; a span is never 0.
fn span(job: JobId) -> u64 {
    let low = job.ulid().0 & u128::from(u64::MAX);
    u64::try_from(low).unwrap_or(0).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trace_is_continued_under_the_span_of_the_job_if_it_is_one_of_w3c() {
        let job = JobId::from_ulid(ulid::Ulid(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10));
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let expected = "00-4bf92f3577b34da6a3ce929d0e0e4736-090a0b0c0d0e0f10-01";
        assert_eq!(parent(job, trace).as_deref(), Some(expected));
        for other in ["", "order 17", &trace.to_uppercase(), &"0".repeat(32), &trace[1..]] {
            assert_eq!(parent(job, other), None, "{other}");
        }
        let empty = JobId::from_ulid(ulid::Ulid(7 << 64));
        assert!(parent(empty, trace).expect("a parent").contains("-0000000000000001-"));
    }
}
