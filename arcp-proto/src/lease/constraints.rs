//! Constraints of a lease: when it ends, and what happens when a budget is exhausted (1.1 §9.5).

use alloc::string::String;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::Violation;
use crate::json::{Json, Object};
use crate::time::UtcMs;

/// The member with which a submitter requests that the job ends with its budget: an extension of
/// ours.
const BUDGET_HARD: &str = "x-vendor.arcp.budget_hard";

/// Bounds of a lease besides its patterns, fixed when its job is accepted.
///
/// ```
/// use arcp_proto::{json::Json, lease::Constraints, time::UtcMs};
/// let asked = Json::parse(r#"{"expires_in_s":60}"#).unwrap();
/// assert_eq!(Constraints::parse(&asked, UtcMs(1000))?.expires_at, Some(UtcMs(61_000)));
/// let past = Json::parse(r#"{"expires_at":"1970-01-01T00:00:00Z"}"#).unwrap();
/// assert!(Constraints::parse(&past, UtcMs(1000)).is_err());
/// # Ok::<(), arcp_proto::error::Violation>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Constraints {
    /// When the lease ends, and with it the job; `None`: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<UtcMs>,
    /// Whether the job ends as soon as a budget is exhausted, because its agent cannot ask for
    /// permission.
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    pub budget_is_hard: bool,
}

impl Constraints {
    /// Reads `lease_constraints`: `expires_at`, in RFC 3339 and UTC, or `expires_in_s`, whole
    /// seconds from now. With both, the earlier one counts. Nothing is later than the year 9999.
    ///
    /// # Errors
    ///
    /// `INVALID_REQUEST` that names the member: one that is invalid, has passed already, or would
    /// not be enforced.
    pub fn parse(json: &Json, now: UtcMs) -> Result<Constraints, Violation> {
        let invalid = |why: String| Violation::invalid(alloc::format!("`lease_constraints`: {why}"));
        let members = json.members().map_err(|error| invalid(alloc::format!("{error}")))?;
        let mut read = Constraints::default();
        for (name, value) in members.0.iter().filter(|(_, value)| *value != "null") {
            match name.as_ref() {
                "expires_at" => {
                    let at = utc(value).ok_or_else(|| {
                        invalid("`expires_at` must be an RFC 3339 time in UTC, such as 2030-01-31T12:00:00Z".into())
                    })?;
                    if at <= now {
                        return Err(invalid(alloc::format!("`expires_at` is {at}, which has passed: it is {now}")));
                    }
                    read.end_by(at);
                }
                "expires_in_s" => {
                    let seconds = value.parse::<u64>().ok().filter(|seconds| *seconds > 0);
                    let seconds =
                        seconds.ok_or_else(|| invalid("`expires_in_s` must be whole seconds, 1 or more".into()))?;
                    read.end_by(now.plus(Duration::from_secs(seconds)).min(UtcMs::MAX));
                }
                BUDGET_HARD => {
                    read.budget_is_hard = serde_json::from_str(value)
                        .map_err(|_| invalid(alloc::format!("`{BUDGET_HARD}` must be true or false")))?;
                }
                other => {
                    let shown: String = other.chars().take(64).collect();
                    return Err(invalid(alloc::format!("`{shown}` is not known here, and nobody would enforce it")));
                }
            }
        }
        Ok(read)
    }

    /// The constraints that a runtime reports as granted, as far as they can be read.
    pub fn read_granted(json: &Json) -> Constraints {
        let members = json.members().unwrap_or_default();
        Constraints {
            expires_at: members.get_str("expires_at").and_then(|text| UtcMs::parse(&text)),
            budget_is_hard: members.get(BUDGET_HARD) == Some("true"),
        }
    }

    /// Ends the lease at this time, if it does not end earlier.
    pub fn end_by(&mut self, at: UtcMs) {
        self.expires_at = Some(self.expires_at.map_or(at, |set| set.min(at)));
    }

    /// Whether the lease has ended.
    pub fn is_over(&self, now: UtcMs) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }

    /// Whether there are no constraints.
    pub fn is_none(&self) -> bool {
        *self == Constraints::default()
    }

    /// The constraints as they are shown: with the time, also if seconds were requested.
    pub fn to_json(&self) -> Json {
        let mut out = Object::new();
        if let Some(at) = self.expires_at {
            out.display("expires_at", at);
        }
        if self.budget_is_hard {
            out.bool(BUDGET_HARD, true);
        }
        out.json()
    }
}

/// A time as in 1.1 §9.5: with `Z`, and no other offset.
fn utc(value: &str) -> Option<UtcMs> {
    let text: String = serde_json::from_str(value).ok()?;
    UtcMs::parse(&text).filter(|_| text.ends_with('Z'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_of_a_lease_are_the_earliest_end_and_what_was_said_of_its_budget() {
        let read = |text: &str, now| Constraints::parse(&Json::parse(text).expect("JSON"), UtcMs(now));
        let ends = |text: &str| read(text, 1000).expect("bounds").expires_at;
        assert_eq!(ends(r#"{"expires_at":"1970-01-01T00:00:09Z","expires_in_s":5}"#), Some(UtcMs(6000)));
        assert_eq!(ends(r#"{"expires_in_s":60,"expires_at":"1970-01-01T00:00:09Z"}"#), Some(UtcMs(9000)));
        assert_eq!(ends(r#"{"expires_in_s":null,"expires_at":null}"#), None);
        assert!(read(r#"{"expires_at":"1970-01-01T00:00:09Z"}"#, 9000).is_err(), "the moment is over");
        let bounds = read(r#"{"expires_at":"1970-01-01T00:00:09Z"}"#, 8999).expect("a millisecond is left");
        assert_eq!([8999, 9000, 9001].map(|now| bounds.is_over(UtcMs(now))), [false, true, true]);
        assert!(read("[]", 0).is_err() && read(r#"{"x-vendor.arcp.budget_hard":1}"#, 0).is_err());

        for text in ["{}", r#"{"expires_in_s":5}"#, r#"{"x-vendor.arcp.budget_hard":true}"#] {
            let bounds = read(text, 1000).expect("bounds");
            assert_eq!(Constraints::read_granted(&bounds.to_json()), bounds, "{text}");
            assert_eq!(bounds.is_none(), text == "{}");
        }
        assert!(!read(r#"{"x-vendor.arcp.budget_hard":false}"#, 0).expect("bounds").budget_is_hard);
    }
}
