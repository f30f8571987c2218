//! Jobs that are handed off to another runtime (RFC §14).

use alloc::string::String;
use core::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use crate::error::ErrorCode;
use crate::id::{IdempotencyKey, JobId};
use crate::json::{Json, Object};
use crate::lease::Constraints;
use crate::model::agent::AgentRef;
use crate::model::request::{Invocation, Submit};

/// Another runtime to which jobs may be handed off, as the operator has configured it here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receiver {
    /// Its URL: also shown to clients, so that they can find the job.
    pub url: String,
    /// The fingerprint by which it is identified, if one is configured: `sha256:` and lower-case
    /// hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
}

/// A job that another runtime is asked to take. It contains no secrets of this runtime: credentials
/// that the job was issued here stay here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandoffOrder {
    /// The id of the job here.
    pub job: JobId,
    /// The name of the receiver here.
    pub to: String,
    /// Its URL and fingerprint: no other runtime may be asked.
    pub receiver: Receiver,
    /// The agent, as it was resolved here.
    pub agent: AgentRef,
    /// Its input.
    pub input: Json,
    /// The lease of the job, with the rest of its budget; `{}` if it has none.
    pub lease: Json,
    /// When the lease ends, and whether the job ends with its budget.
    #[serde(default, skip_serializing_if = "Constraints::is_none")]
    pub constraints: Constraints,
    /// The rest of its time limit, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_runtime: Option<NonZeroU32>,
    /// Its trace.
    pub trace: String,
    /// The members that only the open family has.
    pub invocation: Invocation,
}

impl HandoffOrder {
    /// The idempotency key of the request: the same for every attempt, and different for every job.
    /// So the receiver takes the job at most once.
    ///
    /// # Panics
    ///
    /// Never: it is as long as a key may be.
    pub fn key(&self) -> IdempotencyKey {
        key(self.job)
    }

    /// The submit that the receiver gets, the same for every attempt.
    pub fn submit(&self) -> Submit {
        let asked = |json: &Json| Some(json.clone()).filter(|json| !json.is_empty_object());
        Submit {
            input: Some(self.input.clone()),
            lease_request: asked(&self.lease),
            lease_constraints: asked(&self.constraints.to_json()),
            key: Some(self.key()),
            max_runtime: self.max_runtime,
            trace: Some(self.trace.clone()),
            ..Submit::new(self.agent.clone())
        }
    }
}

/// The key by which receivers identify a job of this runtime.
pub(crate) fn key(job: JobId) -> IdempotencyKey {
    IdempotencyKey::new(&alloc::format!("arcp-handoff:{job}")).expect("it is as long as a key may be")
}

/// The outcome of asking a receiver to take a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HandoffAnswer {
    /// The receiver has the job.
    Taken {
        /// The id of the job there.
        job: String,
    },
    /// The receiver answered that it does not take the job.
    Refused {
        /// The code of the answer.
        code: ErrorCode,
        /// The message of the answer.
        message: String,
    },
    /// The receiver was not asked: it could not be reached, did not prove its identity, or admitted
    /// no session.
    NotAsked {
        /// Why, as an error code.
        code: ErrorCode,
        /// Why, for a person; without secrets.
        message: String,
    },
    /// The receiver was asked and did not answer: it may or may not have the job.
    Unknown {
        /// Why, for a person; without secrets.
        message: String,
    },
}

/// Where a job is that was handed off to another runtime.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destination {
    /// The name of that runtime here.
    pub runtime: String,
    /// Its URL.
    pub url: String,
    /// The id of the job there.
    pub job: String,
}

impl Destination {
    /// The destination as error details of the job's end here.
    pub fn to_json(&self) -> Json {
        let mut out = Object::new();
        self.write(&mut out);
        out.json()
    }

    /// Adds the destination to error details.
    pub(crate) fn write(&self, details: &mut Object) {
        let Destination { runtime, url, job } = self;
        details.object("handed_over", |to| {
            to.str("runtime", runtime).str("url", url).str("job_id", job);
        });
    }

    /// Reads the destination from such details.
    pub fn of_details(details: &Json) -> Option<Destination> {
        let members = details.members().ok()?;
        let to = Json::parse(members.get("handed_over")?).ok()?;
        let to = to.members().ok()?;
        let text = |name: &str| to.get_str(name);
        Some(Destination { runtime: text("runtime")?, url: text("url")?, job: text("job_id")? })
    }

    /// Bytes that it holds, approximately.
    pub(crate) fn bytes(&self) -> usize {
        let Destination { runtime, url, job } = self;
        size_of::<Self>() + runtime.len() + url.len() + job.len()
    }
}
