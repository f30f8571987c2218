//! Credentials that a job is provisioned with, for what its lease names (1.1 §9.8).

use alloc::boxed::Box;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::error::ParseError;
use crate::id::{JobId, Principal};
use crate::json::{Json, Object};
use crate::lease::{Lease, Namespace};
use crate::model::agent::AgentRef;
use crate::secret::Secret;
use crate::time::UtcMs;

/// Bytes of a value: a shorter one could be guessed, and stands in other text by
/// chance.
const VALUE: core::ops::RangeInclusive<usize> = 8..=4096;
/// Most bytes of any other member.
const MEMBER: usize = 1024;

/// A credential that was issued for one job. Only the session that submitted the job,
/// or came to it by its key, is shown it, and its agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvisionedCredential {
    /// What it is known by where it was issued.
    pub id: String,
    /// How it is presented; `bearer`, or one that nobody here knows.
    pub scheme: String,
    /// What is presented.
    pub value: Secret,
    /// Where it counts.
    pub endpoint: String,
    /// The API that is spoken there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// What it may be used for; `None`: what the order said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub constraints: Option<Json>,
}

impl ProvisionedCredential {
    /// Checks what a provisioner gives.
    ///
    /// # Errors
    ///
    /// If a member is empty or too long, or the value is not 8 to 4,096 visible ASCII
    /// characters without quotes and backslashes.
    pub fn validate(&self) -> Result<(), ParseError> {
        check_value(&self.value)?;
        let ProvisionedCredential { id, scheme, endpoint, profile, .. } = self;
        let fits = |text: &String| (1..=MEMBER).contains(&text.len());
        let constraints = self.constraints.as_ref().map_or(0, |json| json.as_str().len());
        let all_fit = [id, scheme, endpoint].into_iter().chain(profile).all(fits);
        match all_fit && constraints <= MEMBER {
            true => Ok(()),
            false => Err(ParseError::new("a credential whose members have 1 to 1,024 bytes")),
        }
    }

    /// Bytes it holds, roughly.
    pub(crate) fn bytes(&self) -> usize {
        let ProvisionedCredential { id, scheme, value, endpoint, profile, constraints } = self;
        let profile = profile.as_ref().map_or(0, String::len);
        let constraints = constraints.as_ref().map_or(0, |json| json.as_str().len());
        size_of::<Self>() + id.len() + scheme.len() + value.expose().len() + endpoint.len() + profile + constraints
    }

    /// As it is shown to its owner, value and all.
    pub(crate) fn shown(&self) -> String {
        let mut out = Object::new();
        out.str("id", &self.id)
            .str("scheme", &self.scheme)
            .str("value", self.value.expose())
            .str("endpoint", &self.endpoint)
            .opt_str("profile", self.profile.as_deref())
            .opt_json("constraints", self.constraints.as_ref());
        out.done()
    }
}

/// Whether a value may be one of a credential.
///
/// # Errors
///
/// If it is not 8 to 4,096 visible ASCII characters without quotes and backslashes.
pub fn check_value(value: &Secret) -> Result<(), ParseError> {
    let may_stand = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
    match VALUE.contains(&value.expose().len()) && value.expose().bytes().all(may_stand) {
        true => Ok(()),
        false => Err(ParseError::new("a value of 8 to 4,096 visible ASCII characters without quotes and backslashes")),
    }
}

/// What a job is to have credentials for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialOrder {
    /// The job. What is issued for it is revoked by it.
    pub job: JobId,
    /// On whose behalf: never somebody whom nobody vouches for.
    pub principal: Principal,
    /// The agent, resolved.
    pub agent: AgentRef,
    /// The lease that is granted, with its `model.use` and `cost.budget`.
    pub lease: Json,
    /// When the lease ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<UtcMs>,
    /// The credential that is to have another value; `None`: the job has none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renews: Option<Box<Renewal>>,
}

/// A credential that goes on with another value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renewal {
    /// The credential.
    pub id: String,
    /// The value that it has. It counts until it is revoked by itself.
    pub current: Secret,
    /// The value that it is to have; `None`: whatever is issued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Secret>,
}

impl CredentialOrder {
    /// The patterns of the models that may be used.
    pub fn models(&self) -> Vec<String> {
        let lease = Lease::parse(&self.lease).unwrap_or_default();
        let of_models = lease.grants().filter(|(namespace, _)| **namespace == Namespace::ModelUse);
        of_models.flat_map(|(_, patterns)| patterns.iter().map(|pattern| pattern.as_str().to_string())).collect()
    }

    /// What may be spent, such as `USD:5`.
    pub fn budget(&self) -> Vec<String> {
        let lease = Lease::parse(&self.lease).unwrap_or_default();
        lease.budget().iter().map(|(currency, amount)| alloc::format!("{}:{amount}", currency.as_str())).collect()
    }

    /// What a credential may be used for, in the words of 1.1 §9.8.
    pub fn constraints(&self) -> Json {
        let quoted = |list: Vec<String>| list.into_iter().map(|text| serde_json::Value::from(text).to_string());
        let mut out = Object::new();
        out.array("model.use", quoted(self.models()));
        let budget = self.budget();
        if !budget.is_empty() {
            out.array("cost.budget", quoted(budget));
        }
        if let Some(at) = self.expires_at {
            out.display("expires_at", at);
        }
        out.json()
    }

    /// Bytes it holds, roughly.
    pub(crate) fn bytes(&self) -> usize {
        let renewal = |renewal: &Renewal| {
            let value = renewal.value.as_ref().map_or(0, |value| value.expose().len());
            size_of::<Renewal>() + renewal.id.len() + renewal.current.expose().len() + value
        };
        let renews = self.renews.as_deref().map_or(0, renewal);
        size_of::<Self>() + self.lease.as_str().len() + self.agent.name().len() + renews
    }
}

/// What a provisioner has issued.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Issuance {
    /// These.
    Issued(Vec<ProvisionedCredential>),
    /// It did not issue them, or nobody knows whether it did.
    Failed {
        /// Why, for whoever submitted the job; without secrets.
        reason: String,
        /// Whether the upstream has nothing left to spend.
        #[serde(default, skip_serializing_if = "core::ops::Not::not")]
        is_exhausted: bool,
    },
    /// It is at too much already, and has not begun: nothing was issued. Who waits may ask again.
    Busy,
}

/// What is to be revoked of what was issued for a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Revocation {
    /// All of it, known or not.
    All,
    /// These credentials, by their ids.
    Some(Vec<String>),
    /// A value that a credential had before it was rotated.
    Value {
        /// The credential, which goes on with another value.
        id: String,
        /// The value that does not count any more.
        value: Secret,
    },
}
