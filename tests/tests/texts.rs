//! Values with a text form can be read from it: text, value, text. Other texts are refused, with what was expected.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use arcp_proto::error::{ErrorCode, ParseError};
use arcp_proto::id::{IdempotencyKey, Issuer, JobId, Principal, SessionId, SubscriptionId, WireId};
use arcp_proto::json::{Json, JsonError};
use arcp_proto::model::agent::AgentRef;
use arcp_proto::model::event::EventKind;
use arcp_proto::model::feature::Feature;
use arcp_proto::model::job::JobStatus;
use arcp_proto::time::UtcMs;
use arcp_proto::wire::{Compat, Family, Profile};

/// The text of each value that a text is read as.
fn round_trips<T>(texts: impl IntoIterator<Item = impl AsRef<str>>) -> Vec<T>
where
    T: FromStr<Err: Debug> + Display + Debug,
{
    let read = |text: &str| {
        let value: T = text.parse().expect("it is read");
        assert_eq!(value.to_string(), text, "{value:?}");
        value
    };
    texts.into_iter().map(|text| read(text.as_ref())).collect()
}

fn refused<T>(text: &str) -> String
where
    T: FromStr<Err = ParseError> + Debug,
{
    text.parse::<T>().expect_err("it is none").to_string()
}

#[test]
fn every_text_form_is_read_as_the_value_that_gives_it() {
    const ULID: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
    round_trips::<WireId>(["m", "msg_1", &"x".repeat(256)]);
    round_trips::<IdempotencyKey>(["k", &"x".repeat(256)]);
    round_trips::<SessionId>([format!("sess_{ULID}")]);
    round_trips::<JobId>([format!("job_{ULID}")]);
    round_trips::<SubscriptionId>([format!("sub_{ULID}")]);
    round_trips::<Principal>(["alice", "anonymous-coward", "https://login.example#alice", "team#a#b"]);
    round_trips::<Issuer>(["https://login.example", "team"]);
    round_trips::<AgentRef>(["echo", "echo@2.0.0", "a-b_c.d@1+x"]);
    round_trips::<UtcMs>(["1970-01-01T00:00:00.000Z", "2023-11-14T22:13:20.123Z", "9999-12-31T23:59:59.999Z"]);
    round_trips::<Json>(["null", r#"{"b": 1.50, "a": null}"#]);
    round_trips::<Compat>(["auto", "off", "python-1.1.3"]);
    assert_eq!(round_trips::<Family>(["hello", "open"]), [Family::Hello, Family::Open]);
    assert_eq!(round_trips::<JobStatus>(JobStatus::ALL.map(JobStatus::as_str)), JobStatus::ALL);
    assert_eq!(round_trips::<Feature>(Feature::ALL.map(Feature::as_str)), Feature::ALL);
    assert_eq!(round_trips::<Profile>(Profile::PUBLISHED.map(Profile::as_str)), Profile::PUBLISHED);
    assert_eq!(round_trips::<EventKind>(EventKind::NAMED.iter().map(EventKind::as_str)), EventKind::NAMED);
    let codes = round_trips::<ErrorCode>(["INVALID_REQUEST", "JOB_NOT_FOUND", "DATA_LOSS", "MADE_UP"]);
    assert_eq!(codes[3], ErrorCode::Other("MADE_UP".into()));
}

#[test]
fn a_text_that_is_none_is_refused_with_what_was_expected() {
    assert_eq!(refused::<WireId>(""), "expected an id of 1 to 256 bytes");
    assert_eq!(refused::<JobId>("sess_01ARZ3NDEKTSV4RRFFQ69G5FAV"), "expected an id of the form job_<ULID>");
    assert_eq!(
        refused::<Principal>(""),
        "expected a name of 1 to 256 bytes, or an issuer, `#` and its subject; not that of an anonymous session"
    );
    assert_eq!(refused::<Issuer>("a#b"), "expected an issuer of 1 to 256 bytes, without `#` and control characters");
    let expected = "expected an RFC 3339 time with an offset, of the years 1970 to 9999";
    assert_eq!(refused::<UtcMs>("yesterday"), expected);
    assert_eq!(
        refused::<JobStatus>("completed"),
        "expected pending, running, blocked, paused, success, error, cancelled or timed_out"
    );
    assert_eq!(refused::<Feature>("Ack"), "expected the name of a feature, such as `list_jobs`");
    assert_eq!(refused::<Profile>("nobody"), "expected the name of a profile, such as `python-1.1.3`");
    assert_eq!(refused::<Compat>("on"), refused::<Profile>("on"));
    assert_eq!(refused::<Family>("Hello"), "expected hello or open");
    assert_eq!("{".parse::<Json>(), Err(JsonError::Syntax { at: 1 }));
    assert!("no spaces".parse::<AgentRef>().is_err());
}
