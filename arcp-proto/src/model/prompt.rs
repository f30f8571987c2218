//! Questions to people (RFC §12, §15.4).

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use crate::error::Violation;
use crate::id::PromptId;
use crate::json::{Json, Object};
use crate::lease::{Budget, Lease};
use crate::model::event::EventKind;
use crate::time::UtcMs;
use crate::trust::TrustLevel;

/// A question of an agent to people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    /// Asks for a value (RFC §12.1).
    Input {
        /// The question, for a person.
        prompt: String,
        /// A JSON Schema of draft 2020-12 that the answer must fit. An empty one accepts every
        /// answer.
        #[serde(default = "Json::empty_object")]
        schema: Json,
        /// The answer if there is none in time.
        #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "crate::json::present")]
        default: Option<Json>,
    },
    /// Asks for one of several options (RFC §12.2).
    Choice {
        /// The question, for a person.
        prompt: String,
        /// The options: 1 to 64, with distinct ids.
        options: Vec<Choice>,
        /// The id of the option that is taken if there is no answer in time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        default: Option<String>,
    },
    /// Asks for a permission that the lease of the job does not grant (RFC §15.4).
    Permission(PermissionRequest),
}

/// One option of a choice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// The id, which the answer names; not empty.
    pub id: String,
    /// The text, for a person.
    pub label: String,
}

/// A permission that a job lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PermissionRequest {
    /// Its name, for a person; `trust.elevate.<level>` asks for a trust level too.
    pub permission: String,
    /// The target of the operation: a pattern of a lease. For `cost.budget`, the amounts to be
    /// added, such as `USD:5` or `USD:5,EUR:2`.
    pub resource: String,
    /// The operation: a [`Namespace`](crate::lease::Namespace), or `cost.budget` for a larger
    /// budget, which does not expire.
    pub operation: String,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How long it is needed, in seconds; `None`: until the job ends. An elevation must have a
    /// number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_seconds: Option<u32>,
}

/// An answer of a client to a question, or a later change of what it granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PromptAnswer {
    /// A value.
    Value(Json),
    /// The id of an option.
    Choice(String),
    /// The permission, or a part of the requested one.
    Grant {
        /// The longest time in seconds; `None`: the requested time.
        lease_seconds: Option<u32>,
        /// A pattern within the requested one; `None`: the requested one.
        resource: Option<String>,
        /// Whether it may be used only once.
        once: bool,
    },
    /// Extends a granted permission.
    Extend {
        /// The extension in seconds.
        seconds: NonZeroU32,
        /// Whether it is counted from the present end of the permission, and not from the time of
        /// the answer.
        from_end: bool,
    },
    /// Revokes a granted permission.
    Revoke {
        /// Why.
        reason: Option<String>,
    },
    /// Denies the permission.
    Deny {
        /// Why.
        reason: Option<String>,
    },
}

/// The operation of a permission that adds to a budget.
const BUDGET: &str = "cost.budget";
/// The most options of one choice.
const OPTIONS: usize = 64;
/// The most levels of a schema.
const SCHEMA_DEPTH: usize = 32;

impl Question {
    /// A question for a larger budget, such as `USD:5` or `USD:5,EUR:2`, in currencies in which the
    /// job is bounded (1.1 §9.6). The granted amounts, perhaps smaller, stay until the job ends.
    ///
    /// ```
    /// use arcp_proto::model::prompt::Question;
    /// let question = Question::budget("USD:5", Some("40 pages are left"));
    /// assert_eq!(question.text(), "cost.budget");
    /// ```
    pub fn budget(amounts: &str, reason: Option<&str>) -> Question {
        Question::Permission(PermissionRequest {
            permission: BUDGET.to_string(),
            resource: amounts.to_string(),
            operation: BUDGET.to_string(),
            reason: reason.map(ToString::to_string),
            lease_seconds: None,
        })
    }

    /// The kind of the event that shows it, which is also the type of its message.
    pub fn kind(&self) -> EventKind {
        match self {
            Question::Input { .. } => EventKind::InputRequest,
            Question::Choice { .. } => EventKind::ChoiceRequest,
            Question::Permission(_) => EventKind::PermissionRequest,
        }
    }

    /// The question, for a person.
    pub fn text(&self) -> &str {
        match self {
            Question::Input { prompt, .. } | Question::Choice { prompt, .. } => prompt,
            Question::Permission(asked) => &asked.permission,
        }
    }

    /// Bytes of its texts, approximately.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Question::Input { prompt, schema, default } => {
                prompt.len() + schema.as_str().len() + default.as_ref().map_or(0, |default| default.as_str().len())
            }
            Question::Choice { prompt, options, .. } => {
                prompt.len() + options.iter().map(|option| option.id.len() + option.label.len() + 24).sum::<usize>()
            }
            Question::Permission(PermissionRequest { permission, resource, operation, reason, .. }) => {
                permission.len() + resource.len() + operation.len() + reason.as_ref().map_or(0, String::len)
            }
        }
    }

    /// The schema that the answer must fit; `None` if every answer fits.
    pub(crate) fn schema(&self) -> Option<&Json> {
        match self {
            Question::Input { schema, .. } => {
                let fits_everything = matches!(schema.as_str(), "true" | "{}" | "null");
                Some(schema).filter(|_| !fits_everything)
            }
            Question::Choice { .. } | Question::Permission(_) => None,
        }
    }

    /// The value of the default answer.
    pub(crate) fn default_value(&self) -> Option<Json> {
        match self {
            Question::Input { default, .. } => default.clone(),
            Question::Choice { default, .. } => default.as_deref().map(Json::string),
            Question::Permission(_) => None,
        }
    }

    /// Checks the question except its schema, which only a host can check.
    ///
    /// # Errors
    ///
    /// `INVALID_REQUEST` with what is wrong.
    pub(crate) fn check(&self) -> Result<(), Violation> {
        if self.text().is_empty() {
            return Err(Violation::invalid("a question has a text"));
        }
        match self {
            Question::Input { schema, default, .. } => {
                // The event that shows it is one level deeper.
                const DEPTH: usize = Json::MAX_DEPTH - 1;
                let is_deep = |json: &Json| crate::json::check(json.as_str(), DEPTH).is_err();
                if default.as_ref().is_some_and(is_deep) {
                    return Err(Violation::invalid(alloc::format!("`default` is nested deeper than {DEPTH} levels")));
                }
                let may_be = schema.is_object() || matches!(schema.as_str(), "true" | "null");
                if !may_be || crate::json::check(schema.as_str(), SCHEMA_DEPTH).is_err() {
                    let why = alloc::format!("`response_schema` is an object of at most {SCHEMA_DEPTH} levels");
                    return Err(Violation::invalid(why));
                }
                Ok(())
            }
            Question::Choice { options, default, .. } => {
                let ids: BTreeSet<&str> = options.iter().map(|option| option.id.as_str()).collect();
                if !(1..=OPTIONS).contains(&options.len()) || ids.len() < options.len() || ids.contains("") {
                    let why = alloc::format!("a choice has 1 to {OPTIONS} options, each with an id of its own");
                    return Err(Violation::invalid(why));
                }
                match default.as_deref().filter(|default| !ids.contains(default)) {
                    Some(_) => Err(Violation::invalid("the default is none of the options")),
                    None => Ok(()),
                }
            }
            Question::Permission(asked) => asked.grant().map(drop),
        }
    }

    /// The body of the event that shows it, which is also the payload of its message.
    pub(crate) fn body(&self, id: PromptId, expires_at: UtcMs) -> Json {
        let mut body = Object::new();
        body.display("prompt_id", id);
        self.write(&mut body);
        body.display("expires_at", expires_at);
        body.json()
    }

    /// A digest that is equal for equal questions.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        let mut body = Object::new();
        body.str("kind", self.kind().as_str());
        self.write(&mut body);
        body.json().fingerprint()
    }

    fn write(&self, body: &mut Object) {
        match self {
            Question::Input { prompt, schema, default } => {
                let schema = if schema.as_str() == "null" { "{}" } else { schema.as_str() };
                body.str("prompt", prompt).raw("response_schema", schema).opt_json("default", default.as_ref());
            }
            Question::Choice { prompt, options, default } => {
                let options = options.iter().map(|option| {
                    let mut shown = Object::new();
                    shown.str("id", &option.id).str("label", &option.label);
                    shown.done()
                });
                body.str("prompt", prompt).array("options", options).opt_str("default", default.as_deref());
            }
            Question::Permission(asked) => {
                body.str("permission", &asked.permission).str("resource", &asked.resource);
                body.str("operation", &asked.operation).opt_str("reason", asked.reason.as_deref());
                if let Some(seconds) = asked.lease_seconds {
                    body.u64("requested_lease_seconds", u64::from(seconds));
                }
            }
        }
    }
}

impl PermissionRequest {
    /// The lease that it requests.
    ///
    /// # Errors
    ///
    /// `INVALID_REQUEST` if no lease can express it.
    pub(crate) fn grant(&self) -> Result<Lease, Violation> {
        let elevates = TrustLevel::of_permission(&self.permission)?.is_some();
        if elevates && self.lease_seconds.is_none() {
            return Err(Violation::invalid("an elevation is for a time: `requested_lease_seconds` says how long"));
        }
        if self.operation == BUDGET && (elevates || self.lease_seconds.is_some()) {
            let why = "what is added to a budget is no elevation, and has no end: leave `requested_lease_seconds` out";
            return Err(Violation::invalid(why));
        }
        granted(&self.operation, &self.resource)
    }

    /// The amounts that it requests for the budget of its job, if it requests a budget.
    pub fn budget(&self) -> Option<Budget> {
        let lease = (self.operation == BUDGET).then(|| granted(&self.operation, &self.resource))?;
        lease.ok().map(|lease| lease.budget().clone())
    }
}

impl PermissionRequest {
    /// The trust level that it requests, if it requests one.
    pub fn elevates(&self) -> Option<TrustLevel> {
        TrustLevel::of_permission(&self.permission).ok().flatten()
    }
}

/// The lease that grants one operation on a pattern, or amounts of a budget.
///
/// # Errors
///
/// `INVALID_REQUEST` if no lease can express it.
pub(crate) fn granted(operation: &str, resource: &str) -> Result<Lease, Violation> {
    let mut lease = Object::new();
    match operation {
        BUDGET => {
            lease.array(operation, resource.split(',').map(|text| Json::string(text.trim()).as_str().to_string()))
        }
        _ => lease.array(operation, [Json::string(resource).as_str()]),
    };
    let lease = Lease::parse(&lease.json())?;
    match lease.budget().used_up() {
        Some(currency) => Err(Violation::invalid(alloc::format!("`{BUDGET}`: nothing of {currency} is asked for"))),
        None => Ok(lease),
    }
}
