//! Published clients that need frames of their own.
//!
//! A profile is chosen by the opening message. It changes what is written, never what happens. All
//! profiles are here.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};
use ulid::Ulid;

use crate::error::ParseError;
use crate::model::feature::{Feature, Features};
use crate::model::reply::RefusedKind;
use crate::model::request::ClientInfo;
use crate::wire::Family;

/// A published client that needs frames of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Profile {
    /// No such client: frames follow the protocol.
    #[default]
    Plain,
    /// PyPI `agentruntimecontrolprotocol` 1.1.3.
    Python113,
    /// The TypeScript SDK, version 2.
    TypeScript2,
    /// The Go SDK, version 1.1.
    Go11,
    /// An open client that reads the error codes of 1.1, as ours does.
    Native,
    /// The crate `arcp` 2.0.0.
    Rust200,
    /// The Swift SDK, version 1.
    Swift1,
    /// The Java or the F# SDK, whose openings look alike.
    JavaFSharp,
    /// The Ruby SDK, version 1.
    Ruby1,
    /// The C# SDK, version 1.
    CSharp1,
    /// The PHP SDK, version 2.
    Php2,
}

/// Whether a profile is chosen, and which.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Compat {
    /// By the opening message.
    #[default]
    Auto,
    /// None is chosen.
    Off,
    /// This one is always used.
    Always(Profile),
}

impl FromStr for Profile {
    type Err = ParseError;

    fn from_str(name: &str) -> Result<Profile, ParseError> {
        let known = Profile::PUBLISHED.into_iter().chain([Profile::Plain, Profile::Native]);
        let named = known.into_iter().find(|profile| profile.as_str() == name);
        named.ok_or(ParseError::new("the name of a profile, such as `python-1.1.3`"))
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Reads `auto`, `off`, or the name of a [`Profile`].
impl FromStr for Compat {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Compat, ParseError> {
        match text {
            "auto" => Ok(Compat::Auto),
            "off" => Ok(Compat::Off),
            name => name.parse().map(Compat::Always),
        }
    }
}

impl fmt::Display for Compat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Compat::Auto => f.write_str("auto"),
            Compat::Off => f.write_str("off"),
            Compat::Always(profile) => profile.fmt(f),
        }
    }
}

/// The form in which a profile reads a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RefusalForm {
    /// An error of the session, with the id of the request.
    SessionError,
    /// The end of a job that never existed, with a job id of its own.
    JobError,
    /// The end of a job without a job id in the envelope.
    JoblessError,
    /// The end of the job that the request names.
    NamedJobError,
    /// A `nack`.
    Nack,
    /// An empty page of a listing.
    EmptyPage,
    /// None: any refusal would fail all requests of this client.
    Silent,
}

/// The one of two published names of a member that an open client reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OneName {
    /// The name in the RFC and the Rust crate.
    Rfc,
    /// The name in the Swift SDK.
    Swift,
}

/// Traits of a hello client in its opening message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fingerprint<'a> {
    /// The envelope's id.
    pub id: &'a str,
    /// Whether `capabilities.agents` is present.
    pub offers_agents: bool,
    /// Whether the payload has `client_name` and not `client`.
    pub names_itself_flat: bool,
    /// The envelope's `timestamp`, as JSON.
    pub timestamp: Option<&'a str>,
    /// Whether it offers a feature that is an extension of ours.
    pub ours: bool,
}

/// Traits of an open client in its opening message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OpenFingerprint<'a, N> {
    /// The envelope's id.
    pub id: &'a str,
    /// The envelope's `timestamp`, as JSON.
    pub timestamp: Option<&'a str>,
    /// Whether it has a priority.
    pub prioritised: bool,
    /// The names of its capabilities.
    pub names: N,
    /// Whether it reads the error codes of 1.1.
    pub types: bool,
}

impl Profile {
    /// Every published client that needs frames of its own.
    pub const PUBLISHED: [Profile; 9] = [
        Profile::Python113,
        Profile::TypeScript2,
        Profile::Go11,
        Profile::Rust200,
        Profile::Swift1,
        Profile::JavaFSharp,
        Profile::Ruby1,
        Profile::CSharp1,
        Profile::Php2,
    ];

    /// The name, as on a command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Profile::Plain => "plain",
            Profile::Python113 => "python-1.1.3",
            Profile::TypeScript2 => "typescript-2",
            Profile::Go11 => "go-1.1",
            Profile::Native => "native",
            Profile::Rust200 => "rust-2.0.0",
            Profile::Swift1 => "swift-1",
            Profile::JavaFSharp => "java-fsharp",
            Profile::Ruby1 => "ruby-1",
            Profile::CSharp1 => "csharp-1",
            Profile::Php2 => "php-2",
        }
    }

    /// Recognises a hello client.
    pub(crate) fn from_hello(seen: Fingerprint<'_>) -> Profile {
        if seen.ours {
            Profile::Plain
        } else if seen.names_itself_flat {
            // Ruby is told before Go: both use UUIDs as message ids.
            Profile::Ruby1
        } else if is_ulid(seen.id) {
            if seen.offers_agents { Profile::Python113 } else { Profile::JavaFSharp }
        } else if seen.id.strip_prefix("msg_").is_some_and(is_ulid) {
            match seen.timestamp {
                None => Profile::TypeScript2,
                Some(at) if at.ends_with("+00:00\"") => Profile::CSharp1,
                Some(at) if at.ends_with("Z\"") && fraction_digits(at) == 6 => Profile::Php2,
                Some(_) => Profile::Plain,
            }
        } else if is_uuid_v7(seen.id) {
            Profile::Go11
        } else {
            Profile::Plain
        }
    }

    /// Recognises an open client.
    pub(crate) fn from_open<'a>(seen: OpenFingerprint<'_, impl IntoIterator<Item = &'a str> + Clone>) -> Profile {
        const KNOWN_TO_RUST_200: [&str; 17] = [
            "streaming",
            "durable_jobs",
            "checkpoints",
            "binary_streams",
            "agent_handoff",
            "model_use",
            "provisioned_credentials",
            "artifacts",
            "subscriptions",
            "scheduled_jobs",
            "interrupt",
            "anonymous",
            "heartbeat_recovery",
            "binary_encoding",
            "extensions",
            "artifact_retention",
            "agents",
        ];
        // Kotlin has lower-case ULIDs, so its clients match neither.
        let has_id = seen.id.strip_prefix("msg_").is_some_and(is_ulid);
        let digits = seen.timestamp.map_or(0, fraction_digits);
        let offers = |name| seen.names.clone().into_iter().any(|offered| offered == name);
        if seen.types {
            Profile::Native
        } else if !has_id {
            Profile::Plain
        } else if digits > 3 && seen.names.clone().into_iter().all(|name| KNOWN_TO_RUST_200.contains(&name)) {
            // It writes all digits of its clock: nine, or fewer if the last ones are 0.
            Profile::Rust200
        } else if digits == 3 && seen.prioritised && offers("heartbeat_interval_seconds") && offers("binary_encoding") {
            Profile::Swift1
        } else {
            Profile::Plain
        }
    }

    /// Features that this client has, but has no name to offer.
    pub(crate) fn implied(self) -> Features {
        match self {
            Profile::Rust200 => Features::new(&[Feature::ResultChunk]),
            Profile::Swift1 => Features::new(&[Feature::ResultChunk, Feature::LeaseExpiresAt]),
            Profile::Plain
            | Profile::Python113
            | Profile::TypeScript2
            | Profile::Go11
            | Profile::Native
            | Profile::JavaFSharp
            | Profile::Ruby1
            | Profile::CSharp1
            | Profile::Php2 => Features::default(),
        }
    }

    /// Whether it reads messages of this type. Messages that it does not read are written as events
    /// with that name.
    pub(crate) fn reads(self, kind: &str) -> bool {
        // It drops its connection at an unknown type, so this list has only the types that it
        // knows.
        self != Profile::Rust200
            || matches!(
                kind,
                "job.started"
                    | "job.progress"
                    | "job.result_chunk"
                    | "job.completed"
                    | "job.failed"
                    | "job.cancelled"
                    | "log"
                    | "metric"
                    | "event.emit"
                    | "stream.open"
                    | "stream.chunk"
                    | "stream.close"
                    | "stream.error"
                    | "artifact.ref"
            )
    }

    /// Whether it reads the answer to a close.
    pub(crate) fn reads_closed(self) -> bool {
        self != Profile::Rust200
    }

    /// The form in which this client reads a refusal.
    pub(crate) fn refusal_form(self, kind: RefusedKind) -> RefusalForm {
        use RefusalForm as Form;
        match self {
            Profile::Plain | Profile::Go11 | Profile::Native | Profile::Rust200 | Profile::Swift1 => Form::SessionError,
            // Any session error fails all its open handles, so it gets only the refusals that it
            // waits for.
            Profile::Python113 => match kind {
                RefusedKind::Cancel | RefusedKind::Job => Form::Silent,
                RefusedKind::Session
                | RefusedKind::Frame
                | RefusedKind::Proof
                | RefusedKind::Submit
                | RefusedKind::Watch
                | RefusedKind::Listing => Form::SessionError,
            },
            // The same holds here; besides, it takes the first end of an unknown job for the answer
            // to its oldest submit.
            Profile::TypeScript2 => match kind {
                RefusedKind::Submit => Form::JobError,
                RefusedKind::Cancel | RefusedKind::Job | RefusedKind::Watch | RefusedKind::Frame => Form::JoblessError,
                RefusedKind::Listing => Form::EmptyPage,
                RefusedKind::Session | RefusedKind::Proof => Form::SessionError,
            },
            Profile::JavaFSharp => Form::JoblessError,
            Profile::Ruby1 => match kind {
                RefusedKind::Watch => Form::NamedJobError,
                RefusedKind::Session
                | RefusedKind::Frame
                | RefusedKind::Proof
                | RefusedKind::Submit
                | RefusedKind::Cancel
                | RefusedKind::Job
                | RefusedKind::Listing => Form::SessionError,
            },
            // As for Python; it waits for submits and listings.
            Profile::CSharp1 => match kind {
                RefusedKind::Session | RefusedKind::Proof | RefusedKind::Submit => Form::SessionError,
                RefusedKind::Listing => Form::EmptyPage,
                RefusedKind::Cancel | RefusedKind::Job | RefusedKind::Watch | RefusedKind::Frame => Form::Silent,
            },
            Profile::Php2 => match kind {
                RefusedKind::Session | RefusedKind::Proof => Form::SessionError,
                RefusedKind::Submit => Form::JobError,
                RefusedKind::Cancel
                | RefusedKind::Job
                | RefusedKind::Watch
                | RefusedKind::Listing
                | RefusedKind::Frame => Form::Nack,
            },
        }
    }

    /// Whether answers carry the id of the request as their own.
    pub(crate) fn answers_under_request_id(self) -> bool {
        self == Profile::JavaFSharp
    }

    /// Whether answers name the request as `reply_to` in the payload.
    pub(crate) fn wants_reply_to(self) -> bool {
        self == Profile::Ruby1
    }

    /// Whether an acceptance may include the lease: this client expects an id in it.
    pub(crate) fn reads_accepted_lease(self) -> bool {
        self != Profile::Ruby1
    }

    /// Whether amounts are texts such as `USD:5`; other clients read numbers.
    pub(crate) fn reads_budgets_as_text(self) -> bool {
        self == Profile::Python113
    }

    /// Whether `null` marks the end of a listing.
    pub(crate) fn reads_null_cursor(self) -> bool {
        self != Profile::JavaFSharp
    }

    /// Whether a page size outside the range is adjusted, and not refused.
    pub(crate) fn clamps_page_size(self) -> bool {
        self == Profile::TypeScript2
    }

    /// Whether every envelope has a `timestamp`.
    pub(crate) fn wants_timestamps(self) -> bool {
        self == Profile::Php2
    }

    /// Whether answers and the end of a job name the request as `correlation_id`. An acceptance
    /// does not: this client takes any frame that names the request for the end.
    pub(crate) fn correlates_ends(self) -> bool {
        self == Profile::Php2
    }

    /// Whether events of jobs that it only watches come inside `subscribe.event`.
    pub(crate) fn wraps_watched(self) -> bool {
        self == Profile::Php2
    }

    /// The name of a member that it reads, if there are two and the choice is known.
    pub(crate) fn reads_one_name(self) -> Option<OneName> {
        match self {
            Profile::Rust200 => Some(OneName::Rfc),
            Profile::Swift1 => Some(OneName::Swift),
            Profile::Plain
            | Profile::Python113
            | Profile::TypeScript2
            | Profile::Go11
            | Profile::Native
            | Profile::JavaFSharp
            | Profile::Ruby1
            | Profile::CSharp1
            | Profile::Php2 => None,
        }
    }

    /// Whether a refused invocation is answered with `tool.error`, for which this client waits.
    pub(crate) fn invocation_ends_as_tool_error(self) -> bool {
        self == Profile::Swift1
    }

    /// The largest WebSocket frame that this client reads, in bytes. Longer messages are sent to it
    /// in fragments.
    pub(crate) fn fragment_bytes(self) -> Option<usize> {
        (self == Profile::Swift1).then_some(8000)
    }

    /// Whether cancelled and timed-out jobs end as `job.result`: the `job.error` of this client
    /// knows no other status than "error".
    pub(crate) fn ends_as_result(self) -> bool {
        self == Profile::Python113
    }

    /// Whether it sends acknowledgements if they were negotiated: two published clients negotiate
    /// them and never do.
    pub(crate) fn acknowledges(self) -> bool {
        !matches!(self, Profile::Python113 | Profile::Rust200)
    }

    /// Whether progress numbers must be integers.
    pub(crate) fn whole_progress(self) -> bool {
        matches!(self, Profile::Python113 | Profile::Go11 | Profile::CSharp1)
    }

    /// Whether inline results are read from `output`.
    pub(crate) fn result_as_output(self) -> bool {
        self == Profile::Go11
    }

    /// How long to hold the numbered stream after a watch began, in milliseconds: this client drops
    /// frames that arrive before its caller has woken up.
    pub(crate) fn hold_after_watching_ms(self) -> u64 {
        if self == Profile::Python113 { 20 } else { 0 }
    }

    /// Whether `from_event_seq` of a watch counts in the submitter's session.
    pub(crate) fn counts_in_submitter(self) -> bool {
        matches!(self, Profile::Python113 | Profile::TypeScript2 | Profile::Go11 | Profile::JavaFSharp)
    }

    /// The largest frame with a result, if this client has a bound: one reads lines of up to 64 KiB
    /// from pipes, one messages of up to 1 MiB.
    pub(crate) fn result_frame_bytes(self, lines: bool) -> Option<usize> {
        match self {
            Profile::Python113 if lines => Some(48 << 10),
            Profile::Go11 => Some(1 << 20),
            Profile::Plain
            | Profile::Python113
            | Profile::TypeScript2
            | Profile::Native
            | Profile::Rust200
            | Profile::Swift1
            | Profile::JavaFSharp
            | Profile::Ruby1
            | Profile::CSharp1
            | Profile::Php2 => None,
        }
    }

    pub(crate) fn index(self) -> u8 {
        match self {
            Profile::Plain => 0,
            Profile::Python113 => 1,
            Profile::TypeScript2 => 2,
            Profile::Go11 => 3,
            Profile::Native => 4,
            Profile::Rust200 => 5,
            Profile::Swift1 => 6,
            Profile::JavaFSharp => 7,
            Profile::Ruby1 => 8,
            Profile::CSharp1 => 9,
            Profile::Php2 => 10,
        }
    }
}

/// A published runtime whose frames our client must read in a special way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ServerProfile {
    /// No such runtime: frames follow the protocol.
    #[default]
    Plain,
    /// PyPI `agentruntimecontrolprotocol` 1.1.3.
    Python113,
    /// The crate `arcp` 2.0.0.
    Rust200,
    /// Go 1.1: adjacent frames may be swapped, and jobs are forgotten when they end.
    Go11,
}

impl ServerProfile {
    /// Recognises a runtime by the id of its welcome, or by its name.
    pub(crate) fn new(family: Family, id: &str, runtime: &ClientInfo) -> ServerProfile {
        match family {
            Family::Hello => ServerProfile::from_welcome(id),
            Family::Open if runtime.name == "arcp-rs" && runtime.version == "2.0.0" => ServerProfile::Rust200,
            Family::Open => ServerProfile::Plain,
        }
    }

    /// Recognises a hello runtime by the id of its welcome.
    fn from_welcome(id: &str) -> ServerProfile {
        if is_ulid(id) {
            ServerProfile::Python113
        } else if is_uuid_v7(id) {
            ServerProfile::Go11
        } else {
            ServerProfile::Plain
        }
    }

    /// Whether sequence numbers continue over watches and connections. Otherwise gaps cannot be
    /// detected.
    pub(crate) fn numbers_on(self) -> bool {
        self == ServerProfile::Plain
    }

    /// Whether a submit with a used key is answered with the events of the first one, and not only
    /// with its acceptance.
    pub(crate) fn replays_used_keys(self) -> bool {
        self != ServerProfile::Go11
    }

    /// Whether sessions and jobs outlive the connection.
    pub(crate) fn outlives_connections(self) -> bool {
        self != ServerProfile::Rust200
    }

    /// Whether a cancel is acknowledged before the end of the job.
    pub(crate) fn acknowledges_cancels(self) -> bool {
        self != ServerProfile::Python113
    }
}

/// Upper-case ULIDs only: lower-case ones are written by other clients.
fn is_ulid(text: &str) -> bool {
    text.len() == ulid::ULID_LEN
        && !text.bytes().any(|byte| byte.is_ascii_lowercase())
        && Ulid::from_string(text).is_ok()
}

/// The number of digits after the point of a time.
fn fraction_digits(time: &str) -> usize {
    let fraction = time.split('.').nth(1).unwrap_or_default();
    fraction.bytes().take_while(u8::is_ascii_digit).count()
}

fn is_uuid_v7(text: &str) -> bool {
    let b = text.as_bytes();
    b.len() == 36
        && b.iter().enumerate().all(|(at, c)| match at {
            8 | 13 | 18 | 23 => *c == b'-',
            14 => *c == b'7',
            _ => c.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ULID: &str = "01M7VD85KQ9SZXPW6NX4X2SFJ9";

    #[test]
    fn published_hello_clients_are_recognised() {
        let plain =
            Fingerprint { id: "m1", offers_agents: false, names_itself_flat: false, timestamp: None, ours: false };
        let bare = Fingerprint { id: ULID, ..plain };
        let id = alloc::format!("msg_{ULID}");
        let prefixed = Fingerprint { id: &id, ..plain };
        let uuid = Fingerprint { id: "018f3a2b-1c2d-7e3f-8a4b-5c6d7e8f9a0b", ..plain };
        let at = |timestamp| Fingerprint { timestamp: Some(timestamp), ..prefixed };
        for (seen, profile) in [
            (plain, Profile::Plain),
            (Fingerprint { offers_agents: true, ..bare }, Profile::Python113),
            (bare, Profile::JavaFSharp),
            (prefixed, Profile::TypeScript2),
            (Fingerprint { offers_agents: true, ..prefixed }, Profile::TypeScript2),
            (at("\"2026-11-21T10:00:00.1234567+00:00\""), Profile::CSharp1),
            (at("\"2026-11-21T10:00:00.123456Z\""), Profile::Php2),
            (at("\"2026-11-21T10:00:00.123Z\""), Profile::Plain),
            (uuid, Profile::Go11),
            (Fingerprint { id: "018f3a2b-1c2d-4e3f-8a4b-5c6d7e8f9a0b", ..plain }, Profile::Plain),
            (Fingerprint { names_itself_flat: true, ..uuid }, Profile::Ruby1),
            (Fingerprint { ours: true, offers_agents: true, ..bare }, Profile::Plain),
        ] {
            assert_eq!(Profile::from_hello(seen), profile, "{seen:?}");
        }
    }

    #[test]
    fn published_open_clients_are_recognised() {
        let (upper, lower) = (alloc::format!("msg_{ULID}"), alloc::format!("msg_{}", ULID.to_ascii_lowercase()));
        let rust = |id, timestamp, name| {
            Profile::from_open(OpenFingerprint { id, timestamp, prioritised: false, names: [name], types: false })
        };
        let (nanos, millis) = (Some("\"2026-11-21T10:00:00.123456789Z\""), Some("\"2026-11-21T10:00:00.123Z\""));
        assert_eq!(rust(&upper, nanos, "streaming"), Profile::Rust200);
        assert_eq!(rust(&lower, nanos, "streaming"), Profile::Plain, "Kotlin is not taken for Rust");
        assert_eq!(rust(&upper, millis, "streaming"), Profile::Plain);
        assert_eq!(rust(&upper, nanos, "of_our_own"), Profile::Plain);
        let swift = |id, timestamp, prioritised, encoding| {
            let names = ["heartbeat_interval_seconds", encoding];
            Profile::from_open(OpenFingerprint { id, timestamp: Some(timestamp), prioritised, names, types: false })
        };
        let at = "\"2026-11-21T10:00:00.000Z\"";
        assert_eq!(swift(upper.as_str(), at, true, "binary_encoding"), Profile::Swift1);
        for other in [
            swift(lower.as_str(), at, true, "binary_encoding"),
            swift(ULID, at, true, "binary_encoding"),
            swift(upper.as_str(), at, false, "binary_encoding"),
            swift(upper.as_str(), at, true, "artifacts"),
            swift(upper.as_str(), "\"2026-11-21T10:00:00Z\"", true, "binary_encoding"),
        ] {
            assert_eq!(other, Profile::Plain);
        }
    }

    #[test]
    fn published_runtimes_are_recognised() {
        let named = |name: &str, version: &str| ClientInfo { name: name.into(), version: version.into() };
        let rust = named("arcp-rs", "2.0.0");
        for (family, id, runtime, profile) in [
            (Family::Open, "m1", &rust, ServerProfile::Rust200),
            (Family::Open, "m1", &named("arcp-rs", "2.0.1"), ServerProfile::Plain),
            (Family::Open, "m1", &named("another", "2.0.0"), ServerProfile::Plain),
            (Family::Hello, "m1", &rust, ServerProfile::Plain),
            (Family::Hello, ULID, &rust, ServerProfile::Python113),
            (Family::Hello, "018f3a2b-1c2d-7e3f-8a4b-5c6d7e8f9a0b", &rust, ServerProfile::Go11),
        ] {
            assert_eq!(ServerProfile::new(family, id, runtime), profile, "{family} {id} {runtime:?}");
        }
    }
}
