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

/// The length of a value in bytes. A shorter one could be guessed, and could occur in other text by
/// chance.
const VALUE: core::ops::RangeInclusive<usize> = 8..=4096;
/// The longest other member, in bytes.
const MEMBER: usize = 1024;

/// A credential that was issued for one job. It is shown only to the agent of the job, to the
/// session that submitted it, and to sessions that resubmitted it by key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvisionedCredential {
    /// Its id at the issuer.
    pub id: String,
    /// The scheme in which it is presented: `bearer`, or one that this crate does not know.
    pub scheme: String,
    /// The secret that is presented.
    pub value: Secret,
    /// The endpoint that accepts it.
    pub endpoint: String,
    /// The API of that endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// What it may be used for; `None`: as the order says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub constraints: Option<Json>,
}

impl ProvisionedCredential {
    /// Checks a credential from a provisioner.
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

    /// Bytes that it holds, approximately.
    pub(crate) fn bytes(&self) -> usize {
        let ProvisionedCredential { id, scheme, value, endpoint, profile, constraints } = self;
        let profile = profile.as_ref().map_or(0, String::len);
        let constraints = constraints.as_ref().map_or(0, |json| json.as_str().len());
        size_of::<Self>() + id.len() + scheme.len() + value.expose().len() + endpoint.len() + profile + constraints
    }

    /// The object that its owner is shown, including the value.
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

/// Checks the form of a credential's value.
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

/// An order to issue credentials for a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialOrder {
    /// The job. Credentials are revoked by its id.
    pub job: JobId,
    /// The principal of the job; never an anonymous one.
    pub principal: Principal,
    /// The agent, resolved.
    pub agent: AgentRef,
    /// The granted lease, with its `model.use` and `cost.budget`.
    pub lease: Json,
    /// The time at which the lease ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<UtcMs>,
    /// The credential to renew; `None`: the job has none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renews: Option<Box<Renewal>>,
}

/// A credential that gets another value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renewal {
    /// The credential.
    pub id: String,
    /// Its present value. It stays valid until it is revoked separately.
    pub current: Secret,
    /// Its new value; `None`: the issuer chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Secret>,
}

impl CredentialOrder {
    /// The patterns of the models that the job may use.
    pub fn models(&self) -> Vec<String> {
        let lease = Lease::parse(&self.lease).unwrap_or_default();
        let of_models = lease.grants().filter(|(namespace, _)| **namespace == Namespace::ModelUse);
        of_models.flat_map(|(_, patterns)| patterns.iter().map(|pattern| pattern.as_str().to_string())).collect()
    }

    /// What the job may spend, such as `USD:5`.
    pub fn budget(&self) -> Vec<String> {
        let lease = Lease::parse(&self.lease).unwrap_or_default();
        lease.budget().iter().map(|(currency, amount)| alloc::format!("{}:{amount}", currency.as_str())).collect()
    }

    /// What a credential may be used for, in the form of 1.1 §9.8.
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

    /// Bytes that it holds, approximately.
    pub(crate) fn bytes(&self) -> usize {
        let renewal = |renewal: &Renewal| {
            let value = renewal.value.as_ref().map_or(0, |value| value.expose().len());
            size_of::<Renewal>() + renewal.id.len() + renewal.current.expose().len() + value
        };
        let renews = self.renews.as_deref().map_or(0, renewal);
        size_of::<Self>() + self.lease.as_str().len() + self.agent.name().len() + renews
    }
}

/// The answer of a provisioner to an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Issuance {
    /// It issued these credentials.
    Issued(Vec<ProvisionedCredential>),
    /// It issued none, or it is not known whether it did.
    Failed {
        /// Why, for the submitter of the job; without secrets.
        reason: String,
        /// Whether the upstream's budget is exhausted.
        #[serde(default, skip_serializing_if = "core::ops::Not::not")]
        is_exhausted: bool,
    },
    /// The host has too many requests and has not begun this one: nothing was issued. The asker may
    /// retry.
    Busy,
}

/// Which credentials of a job to revoke.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Revocation {
    /// All credentials, whether or not their ids are known.
    All,
    /// These credentials, by their ids.
    Some(Vec<String>),
    /// A value that a credential had before its renewal.
    Value {
        /// The credential, which keeps its new value.
        id: String,
        /// The value to revoke.
        value: Secret,
    },
}
