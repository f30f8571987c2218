//! The sample agents: they match their documentation, and what `asker` asks.

use std::collections::{BTreeMap, BTreeSet};

use arcp_blocking::{Client, ClientError, Job};
use arcp_host::registry::Registry;
use arcp_host::samples;
use arcp_proto::client::{ClientConfig, ResultData};
use arcp_proto::error::ErrorCode;
use arcp_proto::id::WireId;
use arcp_proto::json::Json;
use arcp_proto::model::event::{EventKind, JobEvent};
use arcp_proto::model::prompt::PromptAnswer;
use arcp_proto::model::request::{Answering, Credential};
use arcp_proto::secret::Secret;
use arcp_proto::wire::Family;
use arcp_tests::server::{Running, submit};
use serde_json::Value;

const PAGE: &str = include_str!("../../docs/samples.md");
/// The agents of the reference that all SDKs share.
const REFERENCE: [&str; 20] = [
    "artist",
    "asker",
    "chatty",
    "chunker",
    "counter",
    "creds",
    "delegator",
    "echo",
    "failer",
    "gate",
    "guard",
    "listener",
    "models",
    "opengate",
    "permitter",
    "rotator",
    "slow",
    "spender",
    "stepper",
    "streamer",
];

#[test]
fn the_samples_are_those_of_the_page_and_of_the_reference() {
    let mut registry = Registry::default();
    samples::add_to(&mut registry);
    let entries = registry.entries();
    let hosted: BTreeSet<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    let rows = PAGE.lines().filter_map(|line| line.strip_prefix("| `"));
    let listed: Vec<&str> = rows.filter_map(|row| row.split('`').next()).collect();
    assert_eq!(listed.iter().copied().collect::<BTreeSet<_>>(), hosted);
    assert_eq!(listed.len(), hosted.len(), "each has one row");
    assert_eq!(hosted, BTreeSet::from(REFERENCE));
}

#[test]
fn each_member_of_an_input_that_the_page_shows_is_one_that_the_sample_reads() {
    let source = include_str!("../../arcp-host/src/samples.rs");
    for row in PAGE.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.split(" | ").collect();
        let Some(input) = cells[1].strip_prefix('`').and_then(|cell| cell.strip_suffix('`')) else {
            assert!(matches!(cells[1], "any JSON" | "none"), "{row}");
            continue;
        };
        let agent = cells[0].split('`').nth(1).expect("a name").replace("open", "");
        let (first, rest) = agent.split_at(1);
        let declared = format!("struct {}{rest} {{", first.to_uppercase());
        let fields = source.split_once(&declared).and_then(|(_, rest)| rest.split_once("\n}")).expect("its input").0;
        let shown: BTreeMap<String, Value> = serde_json::from_str(input).expect("JSON");
        for name in shown.keys() {
            assert!(fields.contains(&format!("    {name}: ")), "{agent}: {name}");
        }
    }
}

fn client(server: &Running, family: Family) -> Client {
    let config =
        ClientConfig { family, ..ClientConfig::new("it", "1", Credential::Bearer(Secret::new("tok-a".into()))) };
    Client::connect(server.url().parse().expect("a URL"), config).expect("a session")
}

/// The next question that the job asks, with what it is.
fn asked(job: &Job) -> (EventKind, Json, WireId) {
    let question = job.events().find_map(|event| match event {
        JobEvent::Emitted { kind: kind @ (EventKind::InputRequest | EventKind::ChoiceRequest), body } => {
            let id = body.members().ok()?.get_str("prompt_id")?;
            Some((kind, body, WireId::new(&id)?))
        }
        JobEvent::Emitted { .. } | JobEvent::Started | JobEvent::Chunk(_) | JobEvent::Ended(_) => None,
    });
    question.expect("it asks")
}

/// Its result, or the code that it failed with.
fn end(job: &Job) -> String {
    let end = job.wait().expect("it ends");
    match (&end.result, &end.terminal.error) {
        (ResultData::Inline(result), None) => result.to_string(),
        (_, Some(error)) => format!("{}: {}", error.code, error.message),
        (other, None) => panic!("{other:?}"),
    }
}

#[test]
fn asker_ends_with_what_people_answer_in_both_families() {
    let server = Running::start(&[], |_| {});
    for family in [Family::Hello, Family::Open] {
        let client = client(&server, family);
        let run = |input: &str| client.submit(submit("asker", input)).expect("it is accepted");
        let answer = |prompt: &WireId, answer| client.answer(Answering { prompt: prompt.clone(), answer });

        let job = run(r#"{"prompt":"How many?","schema":{"type":"integer","minimum":1}}"#);
        let (kind, body, prompt) = asked(&job);
        assert_eq!(kind, EventKind::InputRequest, "{family:?}");
        let shown: BTreeMap<String, Value> = body.decode().expect("an object");
        assert_eq!((&shown["prompt"], &shown["response_schema"]["minimum"]), (&"How many?".into(), &1.into()));
        let Err(ClientError::Refused(refusal)) = answer(&prompt, PromptAnswer::Value(Json::parse("0").expect("JSON")))
        else {
            panic!("{family:?}: it does not fit")
        };
        assert_eq!(refusal.code, ErrorCode::InvalidRequest);
        answer(&prompt, PromptAnswer::Value(Json::parse("7").expect("JSON"))).expect("it counts");
        assert_eq!(end(&job), "7", "{family:?}");

        let job = run(r#"{"prompt":"Which?","choices":["red",{"id":"b","label":"Blue"}]}"#);
        let (kind, body, prompt) = asked(&job);
        assert_eq!(kind, EventKind::ChoiceRequest, "{family:?}");
        assert!(body.as_str().contains(r#"[{"id":"red","label":"red"},{"id":"b","label":"Blue"}]"#), "{body}");
        answer(&prompt, PromptAnswer::Choice("b".to_string())).expect("it counts");
        assert_eq!(end(&job), r#""b""#, "{family:?}");

        // Nobody answers.
        assert_eq!(end(&run(r#"{"default":{"n":1},"expires_ms":50}"#)), r#"{"n":1}"#, "{family:?}");
        assert_eq!(end(&run(r#"{"choices":["x","y"],"default":"y","expires_ms":50}"#)), r#""y""#, "{family:?}");
        let late = end(&run(r#"{"expires_ms":50}"#));
        assert!(late.starts_with(&ErrorCode::Timeout.to_string()), "{family:?}: {late}");
    }
}

#[test]
fn asker_refuses_what_nobody_can_be_asked() {
    let server = Running::start(&[], |_| {});
    let client = server.client();
    for (input, why) in [
        (r#"{"expires_ms":86400001}"#, "`expires_ms` is 86400001: at most"),
        (r#"{"choices":["a"],"schema":{}}"#, "a choice has no schema"),
        (r#"{"choices":["a"],"default":1}"#, "`default` of a choice"),
        (r#"{"choices":["a"],"default":"b"}"#, "the default is none of the options"),
        (r#"{"choices":[]}"#, "1 to 64 options"),
        (r#"{"choices":[1]}"#, "the input does not fit"),
        (r#"{"prompt":""}"#, "a question has a text"),
        (r#"{"schema":7}"#, "`response_schema`"),
        (r#"{"schema":{"type":"integer"},"default":"x"}"#, ""),
    ] {
        let job = client.submit(submit("asker", input)).expect("it is accepted");
        let error = job.wait().expect("it ends").terminal.error.clone().expect("it fails");
        assert_eq!(error.code, ErrorCode::InvalidRequest, "{input}: {}", error.message);
        assert!(error.message.contains(why), "{input}: {}", error.message);
    }
}
