//! The trace that this command is part of ([W3C trace context](https://www.w3.org/TR/trace-context/)). The program
//! that starts the command passes it in `TRACEPARENT`, as a runtime does for the programs that it starts.

use arcp_blocking::Client;
use arcp_proto::model::feature::Feature;
use arcp_proto::model::request::{Invocation, Submit};

/// The value of `TRACEPARENT`.
pub struct Caller {
    whole: String,
}

impl Caller {
    /// The trace in the environment of this command, if there is one.
    pub fn of_environment() -> Option<Caller> {
        Caller::read(&std::env::var("TRACEPARENT").ok()?)
    }

    /// Parses a value. An invalid one is ignored, as W3C asks.
    fn read(text: &str) -> Option<Caller> {
        let parts: Vec<&str> = text.trim().split('-').collect();
        let is_hex = |part: &str| part.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c));
        let is_some = |part: &str| part.bytes().any(|c| c != b'0');
        let [version, trace, span, flags] = parts[..] else {
            return None;
        };
        let lengths = (version.len(), trace.len(), span.len(), flags.len()) == (2, 32, 16, 2);
        let sound = lengths && parts.iter().all(|part| is_hex(part)) && is_some(trace) && is_some(span);
        (sound && version != "ff").then(|| Caller { whole: text.trim().to_string() })
    }

    /// Makes a job part of the trace. Runtimes other than ours take only the trace id.
    pub fn continued(&self, client: &Client, submit: &mut Submit, invocation: &mut Invocation) {
        let part = |at| self.whole.split('-').nth(at).map(str::to_string);
        let takes_whole = client.open().is_none() && client.welcome().features.has(Feature::ListDetails);
        submit.trace = if takes_whole { Some(self.whole.clone()) } else { part(1) };
        invocation.span = part(2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_whole_or_none() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert!(Caller::read(good).is_some() && Caller::read(&format!(" {good}\n")).is_some());
        let zeros = ["0".repeat(32), "0".repeat(16)];
        let none = good.replace("4bf92f3577b34da6a3ce929d0e0e4736", &zeros[0]);
        let no_span = good.replace("00f067aa0ba902b7", &zeros[1]);
        for wrong in ["", "00", &good.to_uppercase(), &good[1..], &none, &no_span, &format!("{good}-x"), "ff-a-b-c"] {
            assert!(Caller::read(wrong).is_none(), "{wrong}");
        }
    }
}
