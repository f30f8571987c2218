//! The exact words of messages to people, logs and followers of jobs; and the servers to which a client sends its
//! credential.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test names what it expects, and anything else fails")]

use std::fmt::Display;
use std::io;
use std::time::Duration;

use arcp_host::client::{ClientError, DialError, JobUpdate, Last, Security, Target, bracketed, is_loopback};
use arcp_host::log_line::{EVENTS, Filter, Level, Line, LogFormat, PART_BYTES};
use arcp_host::stderr::visible;
use arcp_host::tls::KnownRuntimes;
use arcp_proto::client::{ResultData, SessionEnd};
use arcp_proto::error::{ErrorCode, Violation};
use arcp_proto::model::event::{JobEvent, Terminal};
use arcp_proto::model::reply::{Refusal, RefusedKind};
use arcp_proto::model::request::Credential;
use arcp_proto::secret::Secret;
use arcp_tests::kept::Folder;

fn target(text: &str) -> Target {
    text.parse().expect("a target")
}

#[test]
fn a_secret_goes_nowhere_in_the_clear_but_to_this_machine() {
    let bearer = Credential::Bearer(Secret::new("t".into()));
    let other = Credential::Other { scheme: "oauth2".into(), token: Secret::new("t".into()) };
    for (place, exposed, tls, protocol) in [
        ("ws://example.com/a", true, false, None),
        ("ws://localhost:1/a", false, false, None),
        ("ws://LocalHost:1/a", false, false, None),
        ("ws://127.0.0.2:1", false, false, None),
        ("ws://[::1]:1", false, false, None),
        ("ws://[::ffff:127.0.0.1]:1", false, false, None),
        ("ws://10.0.0.1", true, false, None),
        ("ws://localhost.example", true, false, None),
        ("wss://example.com", false, true, None),
        ("h2c://example.com", true, false, None),
        ("h2://example.com", false, true, Some("h2")),
        ("quic://example.com", false, true, Some("arcp/1.1")),
        ("unix:/a", false, false, None),
        ("exec:true", false, false, None),
    ] {
        let place = target(place);
        let protocol = protocol.map(str::as_bytes);
        assert_eq!((place.is_exposed(), place.has_tls(), place.protocol()), (exposed, tls, protocol), "{place}");
        for secret in [&bearer, &other] {
            assert_eq!(Security::default().allows(&place, secret).is_err(), exposed, "{place}");
            assert!(Security { insecure: true, ..Security::default() }.allows(&place, secret).is_ok());
        }
        assert!(Security::default().allows(&place, &Credential::Anonymous).is_ok());
    }
    assert_eq!(target("ws://a:1/b").with_host("::1").to_string(), "ws://[::1]:1/b");
    assert_eq!(target("unix:/a").with_host("b"), target("unix:/a"));
    assert_eq!((bracketed("a").as_str(), bracketed("::1").as_str()), ("a", "[::1]"));
    assert!(is_loopback("::1") && !is_loopback("[::1]") && !is_loopback(""));
}

#[test]
fn what_keeps_a_client_from_a_server_is_told_with_the_server() {
    let place = target("wss://example.com:1/a");
    let why = |error: io::Error| DialError::new(&place, &error);
    let tls = |error: rustls::Error| why(io::Error::other(error));
    let failed = why(io::Error::new(io::ErrorKind::ConnectionRefused, "refused"));
    assert_eq!(failed, DialError::Failed("wss://example.com:1/a: refused".into()));
    let elsewhere = why(io::Error::new(io::ErrorKind::Unsupported, "another path"));
    assert_eq!(elsewhere, DialError::NotServed("wss://example.com:1/a: another path".into()));
    match tls(rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer)) {
        DialError::Untrusted(why) => {
            assert_eq!(why, "wss://example.com:1/a: its certificate was issued by nobody who is trusted here");
        }
        other => panic!("{other:?}"),
    }
    for (error, said) in [
        (rustls::CertificateError::BadSignature, "its certificate was issued by nobody who is trusted here"),
        (rustls::CertificateError::NotValidForName, "its certificate is for another name: "),
        (rustls::CertificateError::Expired, "its certificate cannot be trusted: "),
    ] {
        let why = tls(rustls::Error::InvalidCertificate(error));
        assert!(matches!(&why, DialError::Untrusted(why) if why.contains(said)), "{why:?}");
    }
    let cleartext = tls(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType));
    assert!(
        matches!(&cleartext, DialError::Untrusted(why) if why.ends_with("does not speak TLS there: ws:// is without"))
    );
    for (alert, said) in [
        (rustls::AlertDescription::UnknownCA, "it knows no authority that issued it"),
        (rustls::AlertDescription::DecryptError, "it knows no authority that issued it"),
        (rustls::AlertDescription::CertificateExpired, "it is not valid now"),
        (rustls::AlertDescription::CertificateRevoked, "it was revoked"),
        (rustls::AlertDescription::BadCertificate, "it does not count there for clients"),
        (rustls::AlertDescription::CertificateUnknown, "it does not count there for clients"),
        (rustls::AlertDescription::CertificateRequired, "it does not count there for clients"),
        (rustls::AlertDescription::AccessDenied, "it does not count there for clients"),
        (rustls::AlertDescription::UnsupportedCertificate, "it does not count there for clients"),
    ] {
        let why = tls(rustls::Error::AlertReceived(alert));
        let expected = format!("does not take the certificate that was shown to it: {said} ({alert:?})");
        assert!(matches!(&why, DialError::NotTaken(why) if why.ends_with(&expected)), "{why:?}");
    }
    assert!(matches!(tls(rustls::Error::AlertReceived(rustls::AlertDescription::InternalError)), DialError::Failed(_)));
    assert!(matches!(tls(rustls::Error::General("no".into())), DialError::Failed(_)));
}

#[test]
fn runtimes_are_known_by_the_names_in_a_file_until_they_are_forgotten() {
    let folder = Folder::new("known-runtimes");
    let file = folder.0.join("known");
    let known = KnownRuntimes::at(&file);
    assert_eq!(known.fingerprint("a:1").expect("it is not there"), None);
    assert!(!known.forget("a:1").expect("it is not there"));
    std::fs::write(&file, "# a comment\na:1 sha256:1 # one\n\nb:2  sha256:2\nc:3\n").expect("written");
    for (name, fingerprint) in [("a:1", Some("sha256:1")), ("b:2", Some("sha256:2")), ("c:3", None), ("#", None)] {
        assert_eq!(known.fingerprint(name).expect("it can be read").as_deref(), fingerprint, "{name}");
    }
    assert!(known.forget("a:1").expect("it can be changed"));
    assert!(!known.forget("a:1").expect("it can be read"));
    let left = std::fs::read_to_string(&file).expect("it is there");
    assert_eq!(left, "# a comment\n\nb:2  sha256:2\nc:3\n");
    assert!(KnownRuntimes::at(&folder.0).fingerprint("a:1").is_err(), "a folder is no file");
    for (place, name) in [
        ("wss://Example.com/a", Some("example.com:443")),
        ("wss://[2001:DB8::1]:7", Some("[2001:DB8::1]:7")),
        ("quic://b", Some("b:443")),
        ("ws://b", None),
        ("unix:/a", None),
        ("exec:true", None),
    ] {
        assert_eq!(KnownRuntimes::name_of(&target(place)).as_deref(), name, "{place}");
    }
}

fn terminal() -> Terminal {
    Terminal::success(None, None)
}

#[test]
fn of_what_becomes_of_a_job_events_go_on_and_three_things_are_the_last() {
    let event = |update: JobUpdate| update.into_event().expect("it goes on").is_some();
    assert!(event(JobUpdate::Event { seq: 1, at: None, event: JobEvent::Started }));
    assert!(!event(JobUpdate::Reconnecting { attempt: 1, after: Duration::ZERO, why: String::new() }));
    assert!(!event(JobUpdate::Reconnected { resumed: true }) && !event(JobUpdate::Missed { events: 3 }));
    let last = |update: JobUpdate| update.into_event().expect_err("it is the last");
    let ended = last(JobUpdate::Ended { seq: 1, terminal: terminal(), result: ResultData::None });
    assert!(matches!(ended, Last::Ended(_)) && ended.end().is_ok());
    let refusal = Refusal::new(RefusedKind::Session, Violation::new(ErrorCode::JobNotFound, "no such job"), None);
    let gone = last(JobUpdate::Gone(Box::new(refusal)));
    assert!(matches!(&gone, Last::Gone(_)));
    assert!(matches!(gone.end(), Err(ClientError::Refused(refusal)) if refusal.message == "no such job"));
    let lost = last(JobUpdate::Lost(SessionEnd::Closed));
    assert!(matches!(lost.end(), Err(ClientError::Ended(SessionEnd::Closed))));
}

#[test]
fn a_line_of_a_log_is_shown_if_its_event_or_else_its_level_is() {
    let filter = |text: &str| text.parse::<Filter>().expect("a filter");
    let levels = [Level::Error, Level::Warn, Level::Info, Level::Debug];
    assert_eq!(levels.map(Level::as_str), ["error", "warn", "info", "debug"]);
    for (text, job, store) in [
        ("off", 0, 0),
        ("error", 1, 1),
        ("warn", 2, 2),
        ("info", 3, 3),
        ("debug", 4, 4),
        ("job=debug", 4, 3),
        ("warn, job = off", 0, 2),
        ("job=error,warn,job=debug", 4, 2),
    ] {
        let filter = filter(text);
        let shown = |event| levels.iter().filter(|level| filter.shows(**level, event)).count();
        assert_eq!((shown("job"), shown("store")), (job, store), "{text}");
        assert_eq!(Line::new(Level::Debug, "job", "m").passes(&filter), job == 4, "{text}");
    }
    assert_eq!(Filter::default(), filter("info"));
    for event in EVENTS {
        assert!(filter(&format!("{event}=off")).shows(Level::Info, "other"), "{event}");
    }
    for (text, said) in [
        ("", "`` is no level"),
        ("job=", "`` is no level"),
        ("jobs=info", "`jobs` is no event: expected one of runtime, refused,"),
    ] {
        let why = text.parse::<Filter>().expect_err("it is none");
        assert!(why.starts_with(said), "{why}");
    }
}

#[test]
fn a_line_of_a_log_quotes_what_could_be_taken_for_more() {
    let with = |value: &str| {
        let none: Option<&dyn Display> = None;
        let line = Line::new(Level::Warn, "job", "m").with("a", Some(&value)).with("b", none).with("c", Some(&7));
        (line.shown(LogFormat::Text), line.shown(LogFormat::Json))
    };
    for (value, shown) in
        [("v", "v"), ("", "\"\""), ("a b", "\"a b\""), ("a\"b", "\"a\\\"b\""), ("a)", "\"a)\""), ("a\nb", "a\\nb")]
    {
        let (text, json) = with(value);
        assert_eq!(text, format!("arcp: m (a={shown} c=7)"));
        let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        let expected = visible(value);
        assert_eq!(json, serde_json::json!({"level": "warn", "event": "job", "message": "m", "a": expected, "c": "7"}));
    }
    let plain = Line::new(Level::Info, "runtime", "arcp: it begins");
    assert_eq!(plain.shown(LogFormat::Text), "arcp: it begins");
    assert!(plain.shown(LogFormat::Json).contains("\"message\":\"it begins\""));
    let long = Line::new(Level::Info, "runtime", "x".repeat(PART_BYTES + 1)).shown(LogFormat::Text);
    assert_eq!(long.len(), PART_BYTES);
}

#[test]
fn nothing_that_is_shown_steers_a_terminal_or_turns_what_follows() {
    for (text, shown) in [
        ("a é 語", "a é 語"),
        ("a\tb\r\n", "a\\tb\\r\\n"),
        ("\u{0}\u{7f}\u{9b}", "\\u{0}\\u{7f}\\u{9b}"),
        ("\u{61c}\u{200e}\u{200f}", "\\u{61c}\\u{200e}\\u{200f}"),
        ("\u{202a}\u{202e}", "\\u{202a}\\u{202e}"),
        ("\u{2066}\u{2069}", "\\u{2066}\\u{2069}"),
        ("\u{200d}\u{2029}\u{202f}\u{2065}\u{206a}", "\u{200d}\u{2029}\u{202f}\u{2065}\u{206a}"),
    ] {
        assert_eq!(visible(text), shown);
    }
}
