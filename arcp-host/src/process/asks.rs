//! Questions of a program to people: it prints a line, and reads a line on its stdin once somebody
//! has answered.

use std::time::Duration;

use arcp_proto::json::{Json, Members};
use arcp_proto::model::prompt::{Choice, PermissionRequest, Question};
use arcp_proto::runtime::AgentCall;

/// The kinds of lines that are questions.
pub(super) const KINDS: [&str; 3] = ["ask", "choose", "ask_permission"];

/// The call in a line of one of these kinds.
///
/// # Errors
///
/// The reason why the line is invalid.
pub(super) fn call(kind: &str, body: Option<&Json>) -> Result<AgentCall, String> {
    let read: fn(&Members<'_>) -> Result<Question, String> = match kind {
        "ask" => input,
        "choose" => choice,
        _ => permission,
    };
    let empty = Json::empty_object();
    let members = body.unwrap_or(&empty).members().unwrap_or_default();
    let question = Box::new(read(&members)?);
    let timeout_ms = match members.get("timeout_s") {
        None | Some("null") => None,
        Some(raw) => {
            let seconds = raw.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
            let span = seconds.ok_or("`timeout_s` must be a number of seconds, 0 or more")?;
            Some(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
        }
    };
    Ok(AgentCall::Ask { question, timeout_ms })
}

fn text(members: &Members<'_>, name: &str) -> Result<String, String> {
    members.get_str(name).ok_or_else(|| format!("`{name}` must be a text"))
}

fn input(members: &Members<'_>) -> Result<Question, String> {
    let json = |name: &str| members.get(name).and_then(|raw| Json::parse(raw).ok());
    let schema = json("response_schema").unwrap_or_else(Json::empty_object);
    Ok(Question::Input { prompt: text(members, "prompt")?, schema, default: json("default") })
}

/// An option is a string, or an object with an id and a label.
fn choice(members: &Members<'_>) -> Result<Question, String> {
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Named {
        Short(String),
        Whole { id: String, label: Option<String> },
    }
    let raw = members.get("options").unwrap_or("[]");
    let wrong = |_| "`options` must be a list of texts, or of objects with `id` and `label`".to_string();
    let options: Vec<Named> = serde_json::from_str(raw).map_err(wrong)?;
    let default = match members.get("default") {
        None | Some("null") => None,
        Some(_) => Some(text(members, "default")?),
    };
    let options = options.into_iter().map(|named| match named {
        Named::Short(id) => Choice { label: id.clone(), id },
        Named::Whole { id, label } => Choice { label: label.unwrap_or_else(|| id.clone()), id },
    });
    Ok(Question::Choice { prompt: text(members, "prompt")?, options: options.collect(), default })
}

fn permission(members: &Members<'_>) -> Result<Question, String> {
    let operation = text(members, "operation")?;
    // Ignoring a bad value would request a permission without an end.
    let lease_seconds = match members.get("lease_seconds") {
        None | Some("null") => None,
        Some(raw) => Some(raw.parse().map_err(|_| "`lease_seconds` must be a whole number of seconds, 0 or more")?),
    };
    Ok(Question::Permission(PermissionRequest {
        permission: members.get_str("permission").unwrap_or_else(|| operation.clone()),
        resource: text(members, "resource")?,
        operation,
        reason: members.get_str("reason"),
        lease_seconds,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_bounds_a_permission_or_answers_a_choice_is_read_or_refused() {
        let asked = |kind: &str, body: &str| call(kind, Some(&Json::parse(body).expect("JSON")));
        for (kind, body, member) in [
            ("ask_permission", r#"{"operation":"fs.read","resource":"/a","lease_seconds":60.5}"#, "lease_seconds"),
            ("ask_permission", r#"{"operation":"fs.read","resource":"/a","lease_seconds":-1}"#, "lease_seconds"),
            ("ask_permission", r#"{"operation":"fs.read","resource":"/a","lease_seconds":"60"}"#, "lease_seconds"),
            ("choose", r#"{"prompt":"which?","options":["1"],"default":1}"#, "default"),
        ] {
            let why = asked(kind, body).expect_err(body);
            assert!(why.contains(member), "{why}");
        }
        let body = r#"{"operation":"fs.read","resource":"/a","lease_seconds":60}"#;
        let Ok(AgentCall::Ask { question, .. }) = asked("ask_permission", body) else { panic!("{body}") };
        assert!(matches!(*question, Question::Permission(PermissionRequest { lease_seconds: Some(60), .. })));
    }
}
