//! Jobs that go to another runtime (RFC §14).

use alloc::string::String;
use core::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use crate::error::ErrorCode;
use crate::id::{IdempotencyKey, JobId};
use crate::json::{Json, Object};
use crate::lease::Constraints;
use crate::model::agent::AgentRef;
use crate::model::request::{Invocation, Submit};

/// Another runtime that jobs may be handed over to, as its operator has named it here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receiver {
    /// Where it is: told to whoever is told where a job has gone.
    pub url: String,
    /// The fingerprint of its key, `sha256:` and lower-case hexadecimal digits, if it is
    /// known by that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
}

/// A job that another runtime is asked to take. Nothing in it is a secret of this
/// runtime: what the job was issued here stays here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandoffOrder {
    /// The job as it is known here.
    pub job: JobId,
    /// What the receiver is called here.
    pub to: String,
    /// Where it is, and by what it is known: nobody else may be asked.
    pub receiver: Receiver,
    /// The agent, as it was resolved here.
    pub agent: AgentRef,
    /// Its input.
    pub input: Json,
    /// What the job may do and still spend; `{}` if it has no lease.
    pub lease: Json,
    /// When that ends, and what ends with a budget.
    #[serde(default, skip_serializing_if = "Constraints::is_none")]
    pub constraints: Constraints,
    /// What is left of its time limit, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_runtime: Option<NonZeroU32>,
    /// Its trace.
    pub trace: String,
    /// What the open family says of it besides.
    pub invocation: Invocation,
}

impl HandoffOrder {
    /// The key that the receiver gets with it: the same however often it is asked, and
    /// no other job's. So it takes the job once.
    ///
    /// # Panics
    ///
    /// Never: it is as long as a key may be.
    pub fn key(&self) -> IdempotencyKey {
        key(self.job)
    }

    /// What the receiver is asked, the same each time.
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

/// By which every receiver knows a job of this runtime.
pub(crate) fn key(job: JobId) -> IdempotencyKey {
    IdempotencyKey::new(&alloc::format!("arcp-handoff:{job}")).expect("it is as long as a key may be")
}

/// What became of a job that a receiver was asked to take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HandoffAnswer {
    /// It has it.
    Taken {
        /// What it is known by there.
        job: String,
    },
    /// It has answered that it does not take it.
    Refused {
        /// The code of its answer.
        code: ErrorCode,
        /// Why, in its words.
        message: String,
    },
    /// It was not asked: it was not reached, or is not who it should be, or lets nobody
    /// in.
    NotAsked {
        /// Why, as a code.
        code: ErrorCode,
        /// Why, for a person; without secrets.
        message: String,
    },
    /// It was asked, and did not answer: perhaps it has it.
    Unknown {
        /// Why, for a person; without secrets.
        message: String,
    },
}

/// Where a job is that was handed over to another runtime.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destination {
    /// What that runtime is called here.
    pub runtime: String,
    /// Where it is.
    pub url: String,
    /// What the job is known by there.
    pub job: String,
}

impl Destination {
    /// As the details of the end of the job here.
    pub fn to_json(&self) -> Json {
        let mut out = Object::new();
        self.write(&mut out);
        out.json()
    }

    /// Adds it to details.
    pub(crate) fn write(&self, details: &mut Object) {
        let Destination { runtime, url, job } = self;
        details.object("handed_over", |to| {
            to.str("runtime", runtime).str("url", url).str("job_id", job);
        });
    }

    /// Reads it from such details.
    pub fn of_details(details: &Json) -> Option<Destination> {
        let members = details.members().ok()?;
        let to = Json::parse(members.get("handed_over")?).ok()?;
        let to = to.members().ok()?;
        let text = |name: &str| to.get_str(name);
        Some(Destination { runtime: text("runtime")?, url: text("url")?, job: text("job_id")? })
    }

    /// Bytes it holds, roughly.
    pub(crate) fn bytes(&self) -> usize {
        let Destination { runtime, url, job } = self;
        size_of::<Self>() + runtime.len() + url.len() + job.len()
    }
}
