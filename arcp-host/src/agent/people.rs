//! Questions of agents to people.

use std::time::Duration;

use arcp_proto::id::CallId;
use arcp_proto::json::Json;
use arcp_proto::lease::Budget;
use arcp_proto::model::prompt::{Choice, Question};
use arcp_proto::runtime::{AgentCall, AgentReply};
use arcp_proto::time::UtcMs;

use super::replies::answered;
use super::task::AsyncContext;
use super::{CallError, Context, Stopped};

/// The answer of people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// The answer: a value that fits the question, or the id of an option as JSON.
    pub value: Json,
    /// The principal that answered; `default` if nobody answered in time.
    pub by: String,
    /// The time of the answer.
    pub at: UtcMs,
}

impl Answered {
    /// The amounts that people have added to the budgets of the job, if the agent
    /// [asked for more](Question::budget). They may be less than requested.
    pub fn added(&self) -> Budget {
        let amounts = self.value.members().ok().and_then(|granted| granted.get_str("resource")).unwrap_or_default();
        Budget::parse(amounts.split(',').map(str::trim)).unwrap_or_default()
    }
}

impl Context {
    /// Asks people a question and waits for the first answer. The job is blocked until then, and
    /// its time limit goes on. A granted permission is then allowed by
    /// [`authorize`](Self::authorize). `within` is the time for an answer; `None`:
    /// [`Timing::prompt_timeout`](arcp_proto::runtime::Timing::prompt_timeout).
    ///
    /// ```no_run
    /// use arcp_host::agent::{Answered, CallError, Context};
    /// use arcp_proto::json::Json;
    /// use arcp_proto::model::prompt::Question;
    ///
    /// fn how_many(job: &Context) -> Result<Json, CallError> {
    ///     let schema = Json::parse(r#"{"type": "integer", "minimum": 1}"#).expect("JSON");
    ///     let asked = Question::Input { prompt: "How many?".to_string(), schema, default: None };
    ///     job.ask_people(asked, None).map(|Answered { value, .. }| value)
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`CallError::Refused`] with `TIMEOUT` if nobody answers in time and there is no default,
    /// with `INVALID_REQUEST` if the question is invalid, such as one with an invalid schema, or
    /// with `PERMISSION_DENIED`; [`CallError::Stopped`] as soon as the job is told to stop.
    pub fn ask_people(&self, question: Question, within: Option<Duration>) -> Result<Answered, CallError> {
        answered(self.ask(asks(question, within))?)
    }

    /// Has people choose one of several options, each an id and a text. Returns the id.
    ///
    /// # Errors
    ///
    /// As [`ask_people`](Self::ask_people).
    pub fn choose(&self, prompt: &str, options: &[(&str, &str)]) -> Result<String, CallError> {
        self.ask_people(choice(prompt, options), None).map(chosen)
    }
}

impl AsyncContext {
    /// Asks people: see [`Context::ask_people`].
    ///
    /// # Errors
    ///
    /// As [`Context::ask_people`].
    pub async fn ask_people(&self, question: Question, within: Option<Duration>) -> Result<Answered, CallError> {
        answered(self.ask(asks(question, within)).await?)
    }

    /// Has people choose: see [`Context::choose`].
    ///
    /// # Errors
    ///
    /// As [`Context::choose`].
    pub async fn choose(&self, prompt: &str, options: &[(&str, &str)]) -> Result<String, CallError> {
        self.ask_people(choice(prompt, options), None).await.map(chosen)
    }
}

/// Asks without waiting for the answer.
pub(crate) fn ask_later(job: &Context, call: AgentCall) -> Result<CallId, Stopped> {
    let mut state = job.link.spend(&call)?;
    Ok(super::begin(job, &mut state, call, None))
}

/// The answer to such a call; `None` if there is none yet.
pub(crate) fn reply_to(job: &Context, call: CallId) -> Option<Result<AgentReply, Stopped>> {
    job.link.state().reply(call)
}

fn asks(question: Question, within: Option<Duration>) -> AgentCall {
    let timeout_ms = within.map(|within| u64::try_from(within.as_millis()).unwrap_or(u64::MAX));
    AgentCall::Ask { question: Box::new(question), timeout_ms }
}

fn choice(prompt: &str, options: &[(&str, &str)]) -> Question {
    let options = options.iter().map(|(id, label)| Choice { id: (*id).to_string(), label: (*label).to_string() });
    Question::Choice { prompt: prompt.to_string(), options: options.collect(), default: None }
}

/// The id of an option is always a string.
fn chosen(answered: Answered) -> String {
    answered.value.decode().unwrap_or_default()
}
