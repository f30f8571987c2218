//! What a job has asked people and what they have interrupted it with, as it is kept:
//! whole, so that one record says all of it.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::json::Json;
use crate::model::prompt::Question;
use crate::time::UtcMs;
use crate::trust::TrustLevel;

/// What a job has asked people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptPrompts {
    /// How many there were.
    pub last: u32,
    /// Those that are open, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub open: Vec<OpenPrompt>,
    /// The latest of those that are not, in the order in which they were closed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub closed: Vec<ClosedPrompt>,
    /// What people have granted the job besides its lease.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<GrantRecord>,
    /// How often people have interrupted it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub interrupted: u32,
    /// The interrupts from which its agent has not gone on, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interrupts: Vec<OpenInterrupt>,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// What people say to an agent while it runs, and it has not gone on from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenInterrupt {
    /// Its number in the job, from 1.
    pub number: u32,
    /// What they say; may be empty.
    pub prompt: String,
    /// The principal that does.
    pub by: String,
}

/// A question that is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenPrompt {
    /// Its number in the job, from 1.
    pub number: u32,
    /// The number of the event that asked it.
    pub event: u64,
    /// It.
    pub question: Question,
    /// Until when it can be answered.
    pub expires_at: UtcMs,
}

/// A question that was open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosedPrompt {
    /// Its number in the job.
    pub number: u32,
    /// The number of the event that asked it.
    pub event: u64,
    /// What makes another question the same.
    pub question: [u8; 32],
    /// Who answered it, or why nobody did.
    pub closing: Closing,
    /// When.
    pub at: UtcMs,
}

/// How a question came to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Closing {
    /// It was answered.
    Answered {
        /// The principal that did; `default` for what the question said counts.
        by: String,
        /// The answer, as long as an agent that is started again may ask for it:
        /// until its next checkpoint.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        answer: Option<AnswerRecord>,
    },
    /// Nobody answered in time.
    Expired,
    /// Its job was told to stop, or is over.
    Withdrawn,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AnswerRecord {
    /// A value, the id of an option, or what was granted.
    Value(Json),
    /// The permission was denied, for a reason if one was given.
    Denied(Option<String>),
}

/// What people have granted a job besides its lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantRecord {
    /// The number of the question that asked for it.
    pub number: u32,
    /// What may be done.
    pub operation: String,
    /// To what: a pattern.
    pub resource: String,
    /// Until when; `None`: until the job ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<UtcMs>,
    /// Its name, for a person.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub permission: String,
    /// Whether it may be used once only.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub once: bool,
    /// The trust level that the job has for it, if that is more than it has else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elevates: Option<TrustLevel>,
    /// A digest of what it was used on for once, until the agent has reported that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_on: Option<[u8; 32]>,
    /// Why it does not hold any more, if that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<GrantEnd>,
}

/// Why a permission does not hold any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GrantEnd {
    /// Its time is over.
    Expired,
    /// It was taken back.
    Revoked,
    /// It was to be used once, and was.
    Used,
}

impl KeptPrompts {
    /// Bytes it holds, roughly.
    pub(crate) fn bytes(&self) -> usize {
        const FIXED: usize = 128;
        let open = self.open.iter().map(|open| FIXED + open.question.bytes());
        let closed = self.closed.iter().map(|closed| {
            FIXED
                + match &closed.closing {
                    Closing::Answered { by, answer } => by.len() + answer.as_ref().map_or(0, AnswerRecord::bytes),
                    Closing::Expired | Closing::Withdrawn => 0,
                }
        });
        let texts = |grant: &GrantRecord| grant.operation.len() + grant.resource.len() + grant.permission.len();
        let grants = self.grants.iter().map(|grant| size_of::<GrantRecord>() + texts(grant));
        let interrupts = self.interrupts.iter().map(OpenInterrupt::bytes);
        open.chain(closed).chain(grants).chain(interrupts).sum()
    }
}

impl AnswerRecord {
    fn bytes(&self) -> usize {
        match self {
            AnswerRecord::Value(value) => value.as_str().len(),
            AnswerRecord::Denied(why) => why.as_ref().map_or(0, String::len),
        }
    }
}

impl OpenInterrupt {
    /// Bytes it holds, roughly.
    fn bytes(&self) -> usize {
        size_of::<OpenInterrupt>() + self.prompt.len() + self.by.len()
    }
}
