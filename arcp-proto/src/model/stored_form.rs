//! Detects event bodies that are already in the stored form: these are kept as they are, and not
//! parsed and written anew.

use super::event::{EventKind, SHOWN_AS};
use crate::json::Json;

/// Bodies with more members are parsed and written anew.
const MOST: usize = 16;

/// The name of a member, and a check of its value.
type Need = (&'static str, fn(&str) -> bool);

/// The conditions under which a body of a kind is in the stored form.
struct Form {
    /// Members that must be present.
    needs: &'static [Need],
    /// Members that must be absent, because normalising renames or changes them.
    changed: &'static [&'static str],
}

/// Whether [`EventKind::normalise`] would return the same text. False means only “perhaps not”.
pub(super) fn is_stored_form(kind: &EventKind, body: &Json) -> bool {
    let Some(Form { needs, changed }) = form(kind) else {
        return false;
    };
    let (mut entries, mut names, mut found) = (body.entries(), [""; MOST], 0);
    for (at, (name, value)) in entries.by_ref().enumerate() {
        if at == MOST || names[..at].contains(&name) {
            return false;
        }
        names[at] = name;
        match needs.iter().find(|(needed, _)| *needed == name) {
            Some((_, holds)) if holds(value) => found += 1,
            None if !changed.contains(&name) => {}
            Some(_) | None => return false,
        }
    }
    entries.is_plain() && found == needs.len() && (*kind != EventKind::Progress || is_progress(body))
}

fn form(kind: &EventKind) -> Option<Form> {
    Some(match kind {
        EventKind::Log => Form { needs: &[("message", is_text), ("level", is_level)], changed: &["fields"] },
        EventKind::Thought => Form { needs: &[("text", is_text)], changed: &[] },
        EventKind::ToolCall => Form {
            needs: &[("tool", is_text), ("call_id", is_text), ("args", is_object)],
            changed: &["tool_call_id", "name", "arguments"],
        },
        EventKind::ToolResult => Form { needs: &[("call_id", is_text)], changed: &["tool_call_id", "output", "error"] },
        EventKind::Status => Form { needs: &[("phase", is_text)], changed: &[] },
        EventKind::Metric => {
            Form { needs: &[("name", is_text), ("value", is_number)], changed: &["dims", "attributes"] }
        }
        EventKind::Artifact => Form { needs: &[("uri", is_text)], changed: &["size_bytes", "media_type"] },
        EventKind::Checkpoint => Form { needs: &[("checkpoint_id", is_text)], changed: &[] },
        EventKind::Delegate => Form { needs: &[], changed: &[] },
        EventKind::Progress => Form { needs: &[("current", is_number)], changed: &[] },
        EventKind::Vendor(name) if name.starts_with("x-vendor.") && name.len() <= 256 => {
            (!SHOWN_AS.contains(&&**name)).then_some(Form { needs: &[], changed: &[] })?
        }
        EventKind::InputRequest
        | EventKind::ChoiceRequest
        | EventKind::PermissionRequest
        | EventKind::PromptClosed
        | EventKind::LeaseGranted
        | EventKind::LeaseExtended
        | EventKind::LeaseRevoked
        | EventKind::StreamOpen
        | EventKind::StreamChunk
        | EventKind::StreamClose
        | EventKind::StreamError
        | EventKind::StoredArtifact
        | EventKind::WorkflowComplete
        | EventKind::Vendor(_) => return None,
    })
}

/// Whether 0 <= `current` <= `total`.
fn is_progress(body: &Json) -> bool {
    let number = |name: &str| body.member(name).and_then(|value| value.parse::<f64>().ok());
    let total = match body.member("total") {
        None | Some("null") => Some(f64::INFINITY),
        Some(_) => number("total"),
    };
    number("current").zip(total).is_some_and(|(current, total)| (0.0..=total).contains(&current))
}

fn is_text(value: &str) -> bool {
    value.starts_with('"')
}

fn is_object(value: &str) -> bool {
    value.starts_with('{')
}

/// Whether a JSON value is a number, by its first character.
fn is_number(value: &str) -> bool {
    value.starts_with(|first: char| first == '-' || first.is_ascii_digit())
}

fn is_level(value: &str) -> bool {
    matches!(value, "\"trace\"" | "\"debug\"" | "\"info\"" | "\"warn\"" | "\"error\"" | "\"critical\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bodies, and whether they are in the stored form.
    const BODIES: [(&str, &str, bool); 32] = [
        ("log", r#"{"level":"warn","message":"m"}"#, true),
        ("log", r#"{"message":"m","level":"info","x":{"a":[1]}}"#, true),
        ("log", r#"{"level":"WARN","message":"m"}"#, false),
        ("log", r#"{"message":"m"}"#, false),
        ("log", r#"{"level":"info","message":"m","fields":{}}"#, false),
        ("thought", r#"{"text":"a \"b\" {c}"}"#, true),
        ("thought", r#"{ "text":"a"}"#, false),
        ("thought", r#"{"text":"a" }"#, false),
        ("tool_call", r#"{"tool":"t","call_id":"c","args":{"a":1}}"#, true),
        ("tool_call", r#"{"tool":"t","call_id":"c"}"#, false),
        ("tool_call", r#"{"tool":"t","call_id":"c","args":null}"#, false),
        ("tool_call", r#"{"tool":"t","tool_call_id":"c","args":{}}"#, false),
        ("tool_result", r#"{"call_id":"c","result":{"a":1}}"#, true),
        ("tool_result", r#"{"call_id":"c","error":null}"#, false),
        ("tool_result", r#"{"call_id":"c","error":{"code":"X"}}"#, false),
        ("tool_result", r#"{"call_id":"c","output":1}"#, false),
        ("status", r#"{"phase":"p","message":"m"}"#, true),
        ("status", r#"{"phase":"p","a":1 }"#, false),
        ("metric", r#"{"name":"n","value":-1.50,"dimensions":{"a":"b"}}"#, true),
        ("metric", r#"{"name":"n","value":1,"attributes":{"a":"b"}}"#, false),
        ("metric", r#"{"name":"n","value":1,"dims":{"a":"b"},"dimensions":{"a":"b"}}"#, false),
        ("artifact_ref", r#"{"uri":"u","byte_size":1}"#, true),
        ("artifact_ref", r#"{"uri":"u","size_bytes":1}"#, false),
        ("delegate", r#"{"anything":1}"#, true),
        ("x-vendor.arcp.checkpoint", r#"{"checkpoint_id":"c"}"#, true),
        ("x-vendor.acme.thing", r#"{"\u0061":1}"#, false),
        ("x-vendor.acme.thing", r#"{"a":1,"b":"é"}"#, true),
        ("x-vendor.acme.thing", r#"{}"#, true),
        ("progress", r#"{"current":1}"#, true),
        ("progress", r#"{"current":1,"total":null}"#, true),
        ("progress", r#"{"current":0.5,"total":0.5,"units":"u"}"#, true),
        (
            "status",
            r#"{"phase":"p","a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"i":1,"j":1,"k":1,"l":1,"m":1,"n":1,"o":1,"q":1}"#,
            false,
        ),
    ];

    #[test]
    fn what_is_kept_as_it_is_would_be_written_the_same() {
        for (kind, text, kept) in BODIES {
            let (kind, body) = (EventKind::from(kind), Json::parse(text).expect("JSON"));
            assert_eq!(is_stored_form(&kind, &body), kept, "{kind} {text}");
            let rewritten = super::super::event::rewritten(&kind, &body).expect("it fits");
            assert!(!kept || rewritten.as_str() == text, "{kind} {text}: {rewritten}");
            assert_eq!(kind.normalise(&body).expect("it fits"), rewritten, "{kind} {text}");
        }
    }

    #[test]
    fn what_does_not_fit_its_kind_is_not_kept() {
        for (kind, text) in [
            ("log", r#"{"level":"info","message":1}"#),
            ("thought", r#"{"text":"a","text":"b"}"#),
            ("metric", r#"{"name":"n","value":"1"}"#),
            ("metric", r#"{"name":"n","value":null}"#),
            ("progress", r#"{"current":-1}"#),
            ("progress", r#"{"current":2,"total":1}"#),
            ("progress", r#"{"current":2,"total":"3"}"#),
            ("status", "[]"),
            ("status", "1"),
            ("x-vendor.arcp.stream", "{}"),
            ("x-vendor.arcp.request", "{}"),
            ("nonsense", "{}"),
            ("stream.open", "{}"),
        ] {
            let (kind, body) = (EventKind::from(kind), Json::parse(text).expect("JSON"));
            assert!(!is_stored_form(&kind, &body) && kind.normalise(&body).is_err(), "{kind} {text}");
        }
    }
}
