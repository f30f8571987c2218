//! Published clients that one set of frames cannot satisfy.
//!
//! A profile is chosen from the opening message. It changes what is written,
//! never what happens. All of them live here.

use serde::{Deserialize, Serialize};
use ulid::Ulid;

use crate::model::feature::{Feature, Features};
use crate::model::reply::Concern;
use crate::model::request::ClientInfo;
use crate::wire::Family;

/// A published client that needs special care.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Profile {
    /// None: the tables of the protocol as they stand.
    #[default]
    Plain,
    /// PyPI `agentruntimecontrolprotocol` 1.1.3.
    Python113,
    /// The TypeScript SDK, version 2.
    TypeScript2,
    /// The Go SDK, version 1.1.
    Go11,
    /// An open client that reads the codes of 1.1, as ours does.
    Native,
    /// The crate `arcp` 2.0.0.
    Rust200,
    /// The Swift SDK, version 1.
    Swift1,
}

/// Whether profiles are chosen, and which.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Compat {
    /// From the opening message.
    #[default]
    Auto,
    /// Never.
    Off,
    /// Always this one.
    Always(Profile),
}

/// How a profile wants to be told of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalForm {
    /// An error of the session, with the request's id.
    SessionError,
    /// The end of a job that never was.
    JobError,
    /// Not at all: it would fail everything it has in flight.
    Silent,
}

/// What an opening message shows of its sender.
#[derive(Clone, Copy, Debug)]
pub struct Fingerprint<'a> {
    /// The envelope's id.
    pub id: &'a str,
    /// Whether `capabilities.agents` is there.
    pub offers_agents: bool,
    /// The envelope's `timestamp`, as JSON.
    pub timestamp: Option<&'a str>,
    /// Whether it offers a feature of ours.
    pub ours: bool,
}

/// What the opening of an open client shows of it.
#[derive(Clone, Copy, Debug)]
pub struct OpenFingerprint<'a, N> {
    /// The envelope's id.
    pub id: &'a str,
    /// The envelope's `timestamp`, as JSON.
    pub timestamp: Option<&'a str>,
    /// Whether it states a priority.
    pub prioritised: bool,
    /// The capabilities it names.
    pub names: N,
    /// Whether it reads the codes of 1.1.
    pub types: bool,
}

impl Profile {
    /// Every profile with its name on a command line.
    pub const NAMED: [(&'static str, Profile); 5] = [
        ("python-1.1.3", Profile::Python113),
        ("typescript-2", Profile::TypeScript2),
        ("go-1.1", Profile::Go11),
        ("rust-2.0.0", Profile::Rust200),
        ("swift-1", Profile::Swift1),
    ];

    /// The profile of this name.
    pub fn named(name: &str) -> Option<Profile> {
        Self::NAMED.into_iter().find(|(known, _)| *known == name).map(|(_, profile)| profile)
    }

    /// Recognises a hello client.
    pub fn of_hello(seen: Fingerprint<'_>) -> Profile {
        if seen.ours {
            Profile::Plain
        } else if is_ulid(seen.id) && seen.offers_agents {
            Profile::Python113
        } else if seen.id.strip_prefix("msg_").is_some_and(is_ulid) && !seen.offers_agents && seen.timestamp.is_none() {
            Profile::TypeScript2
        } else if is_uuid_v7(seen.id) {
            Profile::Go11
        } else {
            Profile::Plain
        }
    }

    /// Recognises an open client.
    pub fn of_open<'a>(seen: OpenFingerprint<'_, impl IntoIterator<Item = &'a str>>) -> Profile {
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
        // It writes what its clock gives: nine digits, fewer if they are 0.
        let precise = seen
            .timestamp
            .and_then(|text| text.split('.').nth(1))
            .is_some_and(|fraction| fraction.bytes().take_while(u8::is_ascii_digit).count() > 3);
        if seen.types {
            Profile::Native
        } else if seen.id.starts_with("msg_")
            && precise
            && seen.names.into_iter().all(|name| KNOWN_TO_RUST_200.contains(&name))
        {
            Profile::Rust200
        } else if is_ulid(seen.id) && seen.prioritised {
            Profile::Swift1
        } else {
            Profile::Plain
        }
    }

    /// What this client reads without having a word to offer it.
    pub fn implied(self) -> Features {
        match self {
            Profile::Rust200 | Profile::Swift1 => Features::of(&[Feature::ResultChunk]),
            Profile::Plain | Profile::Python113 | Profile::TypeScript2 | Profile::Go11 | Profile::Native => {
                Features::default()
            }
        }
    }

    /// Whether it reads messages of this type; those that it does not read
    /// are written as events of that name.
    pub fn reads(self, kind: &str) -> bool {
        self != Profile::Rust200 || !matches!(kind, "job.status" | "job.checkpoint" | "agent.delegate")
    }

    /// Whether it reads the answer to a close.
    pub fn reads_closed(self) -> bool {
        self != Profile::Rust200
    }

    /// How this client is told of a refusal.
    pub fn refusal_form(self, concern: Concern) -> RefusalForm {
        match (self, concern) {
            // Any session error fails all its open handles, so only what it
            // waits for is answered.
            (Profile::Python113, Concern::Cancel | Concern::Job) => RefusalForm::Silent,
            (Profile::TypeScript2, Concern::Submit | Concern::Cancel | Concern::Job | Concern::Watch) => {
                RefusalForm::JobError
            }
            (
                Profile::Plain
                | Profile::Python113
                | Profile::TypeScript2
                | Profile::Go11
                | Profile::Native
                | Profile::Rust200
                | Profile::Swift1,
                Concern::Session
                | Concern::Frame
                | Concern::Proof
                | Concern::Submit
                | Concern::Cancel
                | Concern::Job
                | Concern::Watch
                | Concern::Listing,
            ) => RefusalForm::SessionError,
        }
    }

    /// Cancelled and timed-out jobs end as `job.result`: its model of
    /// `job.error` knows no other status than "error".
    pub fn ends_as_result(self) -> bool {
        self == Profile::Python113
    }

    /// Whether it says what it has processed where it has agreed to: two
    /// published clients agree and never do.
    pub fn acknowledges(self) -> bool {
        !matches!(self, Profile::Python113 | Profile::Rust200)
    }

    /// Progress numbers must be whole.
    pub fn whole_progress(self) -> bool {
        matches!(self, Profile::Python113 | Profile::Go11)
    }

    /// Inline results are read from `output`.
    pub fn result_as_output(self) -> bool {
        self == Profile::Go11
    }

    /// Milliseconds to hold the numbered stream after a watch began: its
    /// reader drops what arrives before its caller has woken up.
    pub fn hold_after_watching_ms(self) -> u64 {
        if self == Profile::Python113 { 20 } else { 0 }
    }

    /// `from_event_seq` of a watch counts in the submitter's session.
    pub fn counts_in_submitter(self) -> bool {
        matches!(self, Profile::Python113 | Profile::TypeScript2)
    }

    /// The largest frame of a result, where it is smaller than usual: this
    /// client reads pipes in lines of 64 KiB.
    pub fn result_frame_bytes(self, lines: bool) -> Option<usize> {
        (self == Profile::Python113 && lines).then_some(48 << 10)
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
        }
    }
}

/// A published runtime that our client has to read with care.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerProfile {
    /// None: the tables of the protocol as they stand.
    #[default]
    Plain,
    /// PyPI `agentruntimecontrolprotocol` 1.1.3.
    Python113,
    /// The crate `arcp` 2.0.0.
    Rust200,
}

impl ServerProfile {
    /// Recognises a runtime by the id of its welcome or by its name.
    pub fn of(family: Family, id: &str, runtime: &ClientInfo) -> ServerProfile {
        match family {
            Family::Hello => ServerProfile::of_welcome(id),
            Family::Open if runtime.name == "arcp-rs" && runtime.version == "2.0.0" => ServerProfile::Rust200,
            Family::Open => ServerProfile::Plain,
        }
    }

    /// Recognises a hello runtime by the id of its welcome.
    fn of_welcome(id: &str) -> ServerProfile {
        if is_ulid(id) { ServerProfile::Python113 } else { ServerProfile::Plain }
    }

    /// Whether numbers go on over watches and connections. One that starts
    /// again cannot be checked for gaps.
    pub fn numbers_on(self) -> bool {
        self == ServerProfile::Plain
    }

    /// Whether sessions and jobs outlive the connection.
    pub fn outlives_connections(self) -> bool {
        self != ServerProfile::Rust200
    }

    /// Whether a cancel is acknowledged, not only followed by an end.
    pub fn acknowledges_cancels(self) -> bool {
        self != ServerProfile::Python113
    }
}

fn is_ulid(text: &str) -> bool {
    text.len() == ulid::ULID_LEN && Ulid::from_string(text).is_ok()
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

    #[test]
    fn published_clients_are_recognised() {
        let seen = |id, offers_agents| Fingerprint { id, offers_agents, timestamp: None, ours: false };
        let ulid = "01M7VD85KQ9SZXPW6NX4X2SFJ9";
        assert_eq!(Profile::of_hello(seen(ulid, true)), Profile::Python113);
        assert_eq!(Profile::of_hello(seen(ulid, false)), Profile::Plain);
        assert_eq!(Profile::of_hello(seen("msg_01M7VD85KQ9SZXPW6NX4X2SFJ9", false)), Profile::TypeScript2);
        assert_eq!(Profile::of_hello(seen("018f3a2b-1c2d-7e3f-8a4b-5c6d7e8f9a0b", false)), Profile::Go11);
        assert_eq!(Profile::of_hello(seen("m1", false)), Profile::Plain);
        let ours = Fingerprint { ours: true, ..seen(ulid, true) };
        assert_eq!(Profile::of_hello(ours), Profile::Plain);
    }
}
