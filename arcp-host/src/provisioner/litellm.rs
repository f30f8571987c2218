//! Virtual keys of a LiteLLM proxy, one for each job.
//!
//! A key is named after its job: `arcp-JOB-a`, and `-b` once it was renewed, in turn. So a key is
//! found again even if nothing was remembered. It is valid for the models that the proxy lists and
//! the lease grants, within the budget, and no longer than the lease.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use arcp_proto::id::JobId;
use arcp_proto::json::{Json, Object};
use arcp_proto::lease::{Lease, Namespace, Target};
use arcp_proto::model::credential::{CredentialOrder, ProvisionedCredential, Renewal, Revocation};
use arcp_proto::secret::Secret;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use ureq::http::{Response, Uri};
use ureq::{Agent, Body};

use super::{ProvisionError, Provisioner};
use crate::agent::upstream::is_exhausted;
use crate::auth::{CredentialFileError, read_private};
use crate::client::Trust;
use crate::https;

/// How long an answer may take, from the look-up of the host name to the last byte.
const ANSWER: Duration = Duration::from_secs(10);
/// The largest answer, in bytes: a long list of models.
const ANSWER_BYTES: u64 = 4 << 20;
/// Names that stand for several models.
const ALL_OF_SOMETHING: [&str; 3] = ["all-proxy-models", "all-team-models", "no-default-models"];

/// Reads the master key of a proxy: the first line of a file that nobody else can read.
///
/// # Errors
///
/// If the file does not exist, or others may read it.
pub fn read_master_key(path: &Path) -> Result<Secret, CredentialFileError> {
    let text = Secret::new(read_private(path)?);
    Ok(Secret::new(text.expose().lines().next().unwrap_or_default().trim().to_string()))
}

/// A LiteLLM proxy that issues keys.
pub struct LiteLlm {
    /// The base address, without a path.
    base: String,
    master_key: Secret,
    agent: Agent,
    /// The keys of jobs; the index is that of the name.
    keys: Mutex<BTreeMap<JobId, [Key; 2]>>,
}

/// The state of the key with one of a job's two names.
#[derive(Clone, Default, PartialEq)]
enum Key {
    #[default]
    Free,
    /// The key may or may not have been issued: the answer was lost.
    Unknown,
    Issued(Secret),
}

/// Why a proxy cannot be used, before any request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LiteLlmError {
    /// The address is not valid.
    #[error("`{0}` is no address of a LiteLLM proxy: expected https://HOST[:PORT], or http:// of this machine")]
    Address(String),
    /// The master key cannot be sent.
    #[error("the master key is empty, or has characters that no header may have")]
    MasterKey,
    /// There are no authorities to check the proxy's certificate.
    #[error("nobody could vouch for the LiteLLM proxy: {0}")]
    Trust(String),
}

impl LiteLlm {
    /// The proxy at this address, with its master key. An `https://` address is checked by the
    /// authorities of `trust`; without TLS the proxy must be on this machine.
    ///
    /// # Errors
    ///
    /// If the address, the key or the authorities cannot be used.
    pub fn new(url: &str, master_key: Secret, trust: &Trust) -> Result<LiteLlm, LiteLlmError> {
        let base = url.trim_end_matches('/').to_string();
        let is_secure = is_secure(&base).ok_or_else(|| LiteLlmError::Address(without_user(url)))?;
        let key = master_key.expose();
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(LiteLlmError::MasterKey);
        }
        let agent = https::agent(ANSWER, is_secure.then_some(trust));
        let agent = agent.map_err(|error| LiteLlmError::Trust(error.to_string()))?;
        Ok(LiteLlm { base, master_key, agent, keys: Mutex::default() })
    }

    /// The lock may be poisoned by a panic elsewhere, but each entry is whole.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<JobId, [Key; 2]>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, job: JobId, at: usize, key: Key) {
        self.lock().entry(job).or_default()[at] = key;
    }

    /// Issues a key of a job, with the name at this index.
    fn generate(
        &self,
        order: &CredentialOrder,
        at: usize,
        (value, budget): (Option<&Secret>, Option<String>),
    ) -> Result<ProvisionedCredential, ProvisionError> {
        let models = self.models(order)?;
        let mut body = Object::new();
        body.str("key_alias", &alias(order.job, at)).str("key_type", "llm_api");
        body.array("models", models.iter().map(|model| serde_json::Value::from(model.as_str()).to_string()));
        body.opt_str("key", value.map(Secret::expose)).opt_str("duration", duration(order)?.as_deref());
        if let Some(budget) = budget {
            body.raw("max_budget", &budget);
        }
        body.object("metadata", |metadata| {
            metadata.display("arcp_job", order.job).display("arcp_agent", &order.agent);
            metadata.str("arcp_order", &alias(order.job, at));
        });
        self.note(order.job, at, Key::Unknown);
        #[derive(Deserialize)]
        struct Generated {
            key: Secret,
        }
        let Generated { key } = self.post("key/generate", &body.done())?.of_success()?;
        self.note(order.job, at, Key::Issued(key.clone()));
        Ok(ProvisionedCredential {
            id: id_of(order.job),
            scheme: "bearer".to_string(),
            value: key,
            endpoint: format!("{}/v1", self.base),
            profile: Some("openai".to_string()),
            constraints: Some(order.constraints()),
        })
    }

    /// The models that the proxy lists and the lease grants. It is never a pattern, which would
    /// have another meaning there, and never empty, which would mean all models.
    fn models(&self, order: &CredentialOrder) -> Result<Vec<String>, ProvisionError> {
        #[derive(Deserialize)]
        struct Model {
            id: String,
        }
        let listed: Listed<Model> = self.get("v1/models")?.of_success()?;
        let lease = Lease::parse(&order.lease).map_err(|why| ProvisionError::new(why.message.into_owned()))?;
        let is_granted = |model: &String| {
            let target = Target::new(&Namespace::ModelUse, model).ok();
            let is_one = !model.contains('*') && !ALL_OF_SOMETHING.contains(&model.as_str());
            is_one && target.is_some_and(|target| lease.permits(&Namespace::ModelUse, &target).is_some())
        };
        let models: Vec<String> = listed.data.into_iter().map(|model| model.id).filter(is_granted).collect();
        match models.is_empty() {
            true => Err(ProvisionError::new("the proxy has no model that the lease grants".to_string())),
            false => Ok(models),
        }
    }

    /// The remaining budget of a key, as the proxy counts it.
    fn left(&self, value: &Secret) -> Result<Option<f64>, ProvisionError> {
        #[derive(Deserialize)]
        struct Known {
            info: Info,
        }
        #[derive(Deserialize)]
        struct Info {
            #[serde(default)]
            spend: f64,
            max_budget: Option<f64>,
        }
        let Known { info } = self.get(&format!("key/info?key={}", hash(value)))?.of_success()?;
        Ok(info.max_budget.map(|most| most - info.spend))
    }

    /// Deletes the keys of a job with these names, and checks that none is left.
    fn delete(&self, job: JobId, places: &[usize]) -> Result<(), ProvisionError> {
        let names = places.iter().map(|at| alias(job, *at));
        let mut body = Object::new();
        body.array("key_aliases", names.clone().map(|name| format!("\"{name}\"")));
        // Some versions refuse to delete keys that do not exist, so the list decides.
        let deleted = self.post("key/delete", &body.done())?;
        let refused = deleted.of_success::<Deleted>().err();
        for name in names {
            #[derive(Deserialize)]
            struct Keys {
                keys: Vec<serde_json::Value>,
            }
            let Keys { keys } =
                self.get(&format!("key/list?return_full_object=true&key_alias={name}"))?.of_success()?;
            let is_another = |key: &serde_json::Value| key["key_alias"].is_string() && key["key_alias"] != *name;
            if !keys.iter().all(is_another) {
                return Err(refused.unwrap_or_else(|| ProvisionError::new("it has the key still".to_string())));
            }
            if let Some(refused) = refused.clone().filter(|_| !keys.is_empty()) {
                return Err(refused);
            }
        }
        for at in places {
            self.note(job, *at, Key::Free);
        }
        Ok(())
    }

    /// Deletes one key by its value.
    fn delete_value(&self, job: JobId, value: &Secret) -> Result<(), ProvisionError> {
        let hash = hash(value);
        let deleted = self.post("key/delete", &format!("{{\"keys\":[\"{hash}\"]}}"))?.of_success::<Deleted>();
        if let Err(refused) = deleted {
            // The key may already be deleted.
            let info = self.get(&format!("key/info?key={hash}"))?;
            if info.status != 404 || serde_json::from_str::<serde_json::Value>(info.text.expose()).is_err() {
                return Err(refused);
            }
        }
        if let Some(keys) = self.lock().get_mut(&job) {
            keys.iter_mut().filter(|key| **key == Key::Issued(value.clone())).for_each(|key| *key = Key::Free);
        }
        Ok(())
    }

    fn get(&self, path: &str) -> Result<Answer, ProvisionError> {
        let request = self.agent.get(format!("{}/{path}", self.base));
        Answer::read(path, request.header("authorization", self.bearer()).call())
    }

    fn post(&self, path: &str, body: &str) -> Result<Answer, ProvisionError> {
        let request = self.agent.post(format!("{}/{path}", self.base)).header("authorization", self.bearer());
        Answer::read(path, request.header("content-type", "application/json").send(body))
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.master_key.expose())
    }
}

impl Provisioner for LiteLlm {
    fn issue(&self, order: &CredentialOrder) -> Result<Vec<ProvisionedCredential>, ProvisionError> {
        let budget = budget(order)?;
        self.generate(order, 0, (None, budget)).map(|issued| vec![issued])
    }

    fn renew(&self, order: &CredentialOrder, renewal: &Renewal) -> Result<ProvisionedCredential, ProvisionError> {
        let keys = self.lock().get(&order.job).cloned().unwrap_or_default();
        let current = keys.iter().position(|key| *key == Key::Issued(renewal.current.clone()));
        let other =
            1 - current.ok_or_else(|| ProvisionError::new("this run of it did not issue the key".to_string()))?;
        if keys[other] != Key::Free {
            self.delete(order.job, &[other])?;
        }
        // The costs that were reported to the runtime may be lower than those that the proxy has
        // counted.
        let left = self.left(&renewal.current)?;
        if left.is_some_and(|left| left <= 0.0) {
            return Err(ProvisionError::exhausted("nothing is left of the key's budget"));
        }
        let budget = match (budget(order)?, left) {
            (Some(budget), Some(left)) if budget.parse::<f64>().is_ok_and(|budget| left < budget) => {
                Some(left.to_string())
            }
            (budget, _) => budget,
        };
        self.generate(order, other, (renewal.value.as_ref(), budget))
    }

    fn revoke(&self, job: JobId, what: &Revocation) -> Result<(), ProvisionError> {
        match what {
            Revocation::Value { value, .. } => self.delete_value(job, value),
            Revocation::Some(ids) if !ids.contains(&id_of(job)) => Ok(()),
            Revocation::Some(_) | Revocation::All => {
                self.delete(job, &[0, 1])?;
                self.lock().remove(&job);
                Ok(())
            }
        }
    }
}

impl fmt::Debug for LiteLlm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiteLlm").field("base", &self.base).finish_non_exhaustive()
    }
}

/// The answer of the proxy. It may contain key values, so its text is shown to nobody.
struct Answer {
    path: String,
    status: u16,
    text: Secret,
}

#[derive(Deserialize)]
struct Listed<T> {
    data: Vec<T>,
}

/// The answer about a deletion has only this member.
#[derive(Deserialize)]
struct Deleted {
    #[serde(rename = "deleted_keys")]
    _keys: Vec<serde::de::IgnoredAny>,
}

impl Answer {
    fn read(path: &str, answered: Result<Response<Body>, ureq::Error>) -> Result<Answer, ProvisionError> {
        // The query may contain the hash of a key.
        let path = path.split('?').next().unwrap_or_default().to_string();
        let silent =
            |error: ureq::Error| ProvisionError::new(format!("the proxy does not answer {path}: {}", why(&error)));
        let mut answer = answered.map_err(silent)?;
        let read = answer.body_mut().with_config().limit(ANSWER_BYTES).read_to_string();
        let text = Secret::new(read.map_err(silent)?);
        Ok(Answer { status: answer.status().as_u16(), text, path })
    }

    fn of_success<T: DeserializeOwned>(&self) -> Result<T, ProvisionError> {
        if !(200..300).contains(&self.status) {
            let body = Json::parse(self.text.expose()).ok();
            if is_exhausted(Some(self.status), body.as_ref()) {
                return Err(ProvisionError::exhausted("nothing is left of the budget at the proxy"));
            }
            return Err(ProvisionError::new(format!("the proxy answered {} to {}", self.status, self.path)));
        }
        // The parser's message may quote the answer.
        let nonsense = |_| ProvisionError::new(format!("the proxy's answer to {} makes no sense", self.path));
        serde_json::from_str(self.text.expose()).map_err(nonsense)
    }
}

#[allow(clippy::wildcard_enum_match_arm, reason = "the library's errors may grow")]
fn why(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Timeout(_) => format!("nothing came within {ANSWER:?}"),
        ureq::Error::Io(error) => error.to_string(),
        ureq::Error::BodyExceedsLimit(_) => format!("it has more than {ANSWER_BYTES} bytes"),
        _ => "what it says is no HTTP".to_string(),
    }
}

/// Whether an address uses TLS; `None` if it cannot be used.
fn is_secure(base: &str) -> Option<bool> {
    let url: Uri = base.parse().ok()?;
    let host = url.host().filter(|host| !host.is_empty())?.trim_matches(['[', ']']);
    let is_plain = url.query().is_none() && !url.authority()?.as_str().contains('@');
    let is_own = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    match url.scheme_str() {
        Some("https") if is_plain => Some(true),
        Some("http") if is_plain && is_own => Some(false),
        _ => None,
    }
}

/// An address without its user, for messages.
fn without_user(url: &str) -> String {
    match url.rsplit_once('@') {
        Some((_, host)) => format!("...@{host}"),
        None => url.to_string(),
    }
}

/// The name of a key.
fn alias(job: JobId, at: usize) -> String {
    format!("arcp-{job}-{}", if at == 0 { 'a' } else { 'b' })
}

/// The id of a job's only credential.
fn id_of(job: JobId) -> String {
    format!("litellm-{job}")
}

/// The hash by which the proxy identifies a key, so that its value is not in any address.
fn hash(value: &Secret) -> String {
    value.digest().0.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The seconds until the lease ends.
fn duration(order: &CredentialOrder) -> Result<Option<String>, ProvisionError> {
    let Some(end) = order.expires_at else {
        return Ok(None);
    };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let left = Duration::from_millis(end.0).saturating_sub(now).as_secs();
    match left {
        0 => Err(ProvisionError::new("the lease is about to end".to_string())),
        left => Ok(Some(format!("{left}s"))),
    }
}

/// The budget in US dollars, as a JSON number.
fn budget(order: &CredentialOrder) -> Result<Option<String>, ProvisionError> {
    let lease = Lease::parse(&order.lease).unwrap_or_default();
    let mut dollars = None;
    for (currency, amount) in lease.budget().iter() {
        if !currency.as_str().eq_ignore_ascii_case("usd") {
            let why = format!("the proxy counts USD only, and the budget is one of {currency}");
            return Err(ProvisionError::new(why));
        }
        if amount.is_used_up() {
            return Err(ProvisionError::exhausted("nothing is left of the budget"));
        }
        dollars = Some(amount.to_string());
    }
    Ok(dollars)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_who_asks_there() {
        for (url, shown) in [
            ("https://me:secret@models/v1", "...@models/v1"),
            ("https://me:sec@ret@models", "...@models"),
            ("ftp://models", "ftp://models"),
        ] {
            assert_eq!(without_user(url), shown);
        }
    }
}
