//! Questions, permissions and interrupts of a job, as they are recorded: one record has all of
//! them.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::json::Json;
use crate::model::prompt::Question;
use crate::time::UtcMs;
use crate::trust::TrustLevel;

/// The questions, permissions and interrupts of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptPrompts {
    /// How many questions there have been.
    pub last: u32,
    /// The open questions, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub open: Vec<OpenPrompt>,
    /// The latest closed questions, in the order in which they were closed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub closed: Vec<ClosedPrompt>,
    /// Permissions that people have granted the job besides its lease.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<GrantRecord>,
    /// How many interrupts there have been.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub interrupted: u32,
    /// The interrupts from which its agent has not gone on, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interrupts: Vec<OpenInterrupt>,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// An interrupt from which the agent has not gone on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenInterrupt {
    /// Its number in the job, from 1.
    pub number: u32,
    /// The text; may be empty.
    pub prompt: String,
    /// The principal that interrupts.
    pub by: String,
}

/// An open question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenPrompt {
    /// Its number in the job, from 1.
    pub number: u32,
    /// The number of the event that asks it.
    pub event: u64,
    /// The question.
    pub question: Question,
    /// Until when it can be answered.
    pub expires_at: UtcMs,
}

/// A closed question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosedPrompt {
    /// Its number in the job.
    pub number: u32,
    /// The number of the event that asked it.
    pub event: u64,
    /// A digest of the question, by which an equal one is recognised.
    pub question: [u8; 32],
    /// The answer, or why there is none.
    pub closing: Closing,
    /// When it was closed, in UTC milliseconds.
    pub at: UtcMs,
}

/// How a question was closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Closing {
    /// It was answered.
    Answered {
        /// The principal that answered; `default` if the question's default was taken.
        by: String,
        /// The answer, kept while an agent that is started again may ask for it: until the next
        /// checkpoint.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        answer: Option<AnswerRecord>,
    },
    /// Nobody answered in time.
    Expired,
    /// The job was told to stop, or has ended.
    Withdrawn,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AnswerRecord {
    /// A value, the id of an option, or the permission granted.
    Value(Json),
    /// The permission was denied, with the reason if one was given.
    Denied(Option<String>),
}

/// A permission that people granted a job besides its lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantRecord {
    /// The number of the question that asked for it.
    pub number: u32,
    /// The operation that it permits.
    pub operation: String,
    /// The targets, as a pattern.
    pub resource: String,
    /// Until when it holds; `None`: until the job ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<UtcMs>,
    /// Its name, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub permission: String,
    /// Whether it may be used only once.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub once: bool,
    /// The trust level that it gives the job, if that is higher than the job's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elevates: Option<TrustLevel>,
    /// A digest of what its one use was for, until the agent has reported that use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_on: Option<[u8; 32]>,
    /// Why it has ended, if it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<GrantEnd>,
}

/// Why a permission has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GrantEnd {
    /// It has expired.
    Expired,
    /// It was revoked.
    Revoked,
    /// It could be used once, and was used.
    Used,
}

impl KeptPrompts {
    /// Bytes it holds, approximately.
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
    /// Bytes it holds, approximately.
    fn bytes(&self) -> usize {
        size_of::<OpenInterrupt>() + self.prompt.len() + self.by.len()
    }
}
