//! What stands in a recording for values of credentials.

use alloc::collections::VecDeque;
use alloc::string::String;

use crate::model::credential::{Issuance, check_value};
use crate::runtime::Input;
use crate::secret::Secret;

/// Values that are looked for: the latest ones.
const KNOWN: usize = 1024;

/// The values of credentials that a runtime was given, and what is written instead.
#[derive(Default)]
pub(super) struct Redaction {
    known: VecDeque<(String, String)>,
    given: u64,
}

impl core::fmt::Debug for Redaction {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Redaction").field("given", &self.given).finish_non_exhaustive()
    }
}

impl Redaction {
    /// Looks for the values that an input brings from now on. Gives what is recorded
    /// instead of it, if it has values that cannot be used: they are refused as an empty
    /// one is.
    pub(super) fn learn(&mut self, input: &Input) -> Option<Input> {
        let Input::CredentialsIssued { op, issuance: Issuance::Issued(issued) } = input else {
            return None;
        };
        let mut recorded = issued.clone();
        for credential in &mut recorded {
            match check_value(&credential.value) {
                Ok(()) => self.add(credential.value.expose()),
                Err(_) => credential.value = Secret::new(String::new()),
            }
        }
        let is_usable = recorded == *issued;
        (!is_usable).then_some(Input::CredentialsIssued { op: *op, issuance: Issuance::Issued(recorded) })
    }

    fn add(&mut self, value: &str) {
        if self.known.iter().any(|(known, _)| known == value) {
            return;
        }
        if self.known.len() == KNOWN {
            self.known.pop_front();
        }
        self.given += 1;
        // As long as the value, and like no other: what is counted in bytes stays the same.
        let number = alloc::format!("~{}", self.given);
        let kept = number.len().min(value.len());
        let instead = alloc::format!("{}{}", "*".repeat(value.len() - kept), &number[number.len() - kept..]);
        self.known.push_back((value.into(), instead));
    }

    /// A line without those values. None of their characters is escaped in JSON, so
    /// that they stand there as they are, however deep.
    pub(super) fn redacted(&self, line: String) -> String {
        self.known.iter().fold(line, |line, (value, instead)| match line.contains(value.as_str()) {
            true => line.replace(value.as_str(), instead),
            false => line,
        })
    }
}
