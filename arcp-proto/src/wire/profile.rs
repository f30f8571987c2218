//! Published clients that one set of frames cannot satisfy.
//!
//! A profile is chosen from the opening message. It changes what is written,
//! never what happens. All of them live here.

use serde::{Deserialize, Serialize};
use ulid::Ulid;

use crate::model::reply::Concern;

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
    /// Whether the envelope has a `timestamp`.
    pub timestamped: bool,
    /// Whether it offers a feature of ours.
    pub ours: bool,
}

impl Profile {
    /// Every profile with its name on a command line.
    pub const NAMED: [(&'static str, Profile); 3] =
        [("python-1.1.3", Profile::Python113), ("typescript-2", Profile::TypeScript2), ("go-1.1", Profile::Go11)];

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
        } else if seen.id.strip_prefix("msg_").is_some_and(is_ulid) && !seen.offers_agents && !seen.timestamped {
            Profile::TypeScript2
        } else if is_uuid_v7(seen.id) {
            Profile::Go11
        } else {
            Profile::Plain
        }
    }

    /// How this client is told of a refusal.
    pub fn refusal_form(self, concern: Concern) -> RefusalForm {
        match (self, concern) {
            // Any session error fails all its open handles, so only what it
            // waits for is answered.
            (Profile::Python113, Concern::Job) => RefusalForm::Silent,
            (Profile::TypeScript2, Concern::Submit | Concern::Job | Concern::Watch) => RefusalForm::JobError,
            (
                Profile::Plain | Profile::Python113 | Profile::TypeScript2 | Profile::Go11,
                Concern::Session | Concern::Frame | Concern::Submit | Concern::Job | Concern::Watch | Concern::Listing,
            ) => RefusalForm::SessionError,
        }
    }

    /// Cancelled and timed-out jobs end as `job.result`: its model of
    /// `job.error` knows no other status than "error".
    pub fn ends_as_result(self) -> bool {
        self == Profile::Python113
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
}

impl ServerProfile {
    /// Recognises a hello runtime by the id of its welcome.
    pub fn of_welcome(id: &str) -> ServerProfile {
        if is_ulid(id) { ServerProfile::Python113 } else { ServerProfile::Plain }
    }

    /// Whether numbers go on over watches and connections. One that starts
    /// again cannot be checked for gaps.
    pub fn numbers_on(self) -> bool {
        self == ServerProfile::Plain
    }

    /// Whether a cancel is acknowledged, not only followed by an end.
    pub fn acknowledges_cancels(self) -> bool {
        self == ServerProfile::Plain
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
        let seen = |id, offers_agents| Fingerprint { id, offers_agents, timestamped: false, ours: false };
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
