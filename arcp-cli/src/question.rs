//! Questions that jobs ask people, for the commands that show them.

use arcp_host::stderr::visible;
use arcp_proto::id::WireId;
use arcp_proto::json::{Json, Members};
use arcp_proto::model::event::EventKind;
use arcp_proto::time::UtcMs;
use arcp_proto::trust::TrustLevel;

/// What kind of answer a question asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A value.
    Input,
    /// One of several options.
    Choice,
    /// A permission.
    Permission,
}

impl Kind {
    const ALL: [(Kind, EventKind); 3] = [
        (Kind::Input, EventKind::InputRequest),
        (Kind::Choice, EventKind::ChoiceRequest),
        (Kind::Permission, EventKind::PermissionRequest),
    ];

    /// The kind of question that an event asks, if it asks one.
    pub fn of(event: &EventKind) -> Option<Kind> {
        Kind::ALL.iter().find(|(_, asks)| asks == event).map(|(kind, _)| *kind)
    }

    /// The name of this kind.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Input => "input",
            Kind::Choice => "choice",
            Kind::Permission => "permission",
        }
    }
}

/// A question that a job asks people.
#[derive(Clone, Debug)]
pub struct Question {
    /// Its id.
    pub id: String,
    /// What kind of answer it asks for.
    pub kind: Kind,
    body: Json,
}

/// One option of a choice.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
pub struct Choice {
    /// The id that an answer names.
    pub id: String,
    /// The text for people.
    #[serde(default)]
    label: Option<String>,
}

impl Choice {
    /// The option as people read it.
    pub fn shown(&self) -> String {
        match &self.label {
            Some(label) if *label != self.id => format!("{} ({label})", self.id),
            Some(_) | None => self.id.clone(),
        }
    }
}

impl Question {
    /// The question that an event asks, if it asks one.
    pub fn of(event: &EventKind, body: &Json) -> Option<Question> {
        let kind = Kind::of(event)?;
        let id = body.members().ok()?.get_str("prompt_id")?;
        Some(Question { id, kind, body: body.clone() })
    }

    /// The members of the event.
    pub fn members(&self) -> Members<'_> {
        self.body.members().unwrap_or_default()
    }

    fn text(&self, name: &str) -> String {
        self.members().get_str(name).unwrap_or_default()
    }

    /// The id for an answer.
    pub fn prompt(&self) -> Option<WireId> {
        WireId::new(&self.id)
    }

    /// The answer that is used if nobody answers, if there is one.
    pub fn default_answer(&self) -> Option<Json> {
        Json::parse(self.members().get("default")?).ok()
    }

    /// The time after which it cannot be answered.
    pub fn expires_at(&self) -> Option<UtcMs> {
        UtcMs::parse(&self.text("expires_at"))
    }

    /// The schema of an answer, if it restricts anything.
    pub fn schema(&self) -> Option<Json> {
        let members = self.members();
        let schema = members.get("response_schema").filter(|schema| !matches!(*schema, "{}" | "true"))?;
        Json::parse(schema).ok()
    }

    /// The options of a choice.
    pub fn options(&self) -> Vec<Choice> {
        let options = self.members().get("options").and_then(|raw| Json::parse(raw).ok());
        options.and_then(|options| options.decode().ok()).unwrap_or_default()
    }

    /// The question as text, without control characters.
    pub fn asks(&self) -> String {
        visible(&match self.kind {
            Kind::Input | Kind::Choice => self.text("prompt"),
            Kind::Permission if self.is_of_budget() => format!("{} more to spend", self.text("resource")),
            Kind::Permission => {
                let level = TrustLevel::of_permission(&self.text("permission")).ok().flatten();
                let level = level.map(|level| format!(" as {level}")).unwrap_or_default();
                format!("{} on {}{level}", self.text("operation"), self.text("resource"))
            }
        })
    }

    /// Whether the agent asks for a larger budget.
    fn is_of_budget(&self) -> bool {
        self.text("operation") == "cost.budget"
    }

    /// The reason that the agent gives, without control characters.
    pub fn reason(&self) -> Option<String> {
        self.members().get_str("reason").map(|why| visible(&why))
    }

    /// How long the permission would last. Only a requested time bounds it.
    pub fn granted_for(&self) -> String {
        match self.members().get("requested_lease_seconds") {
            Some(seconds) => format!("for {seconds} s"),
            None => "until the job ends".to_string(),
        }
    }

    /// The question and the form of its answer, in one line.
    pub fn line(&self) -> String {
        let mut line = self.asks();
        if let Some(reason) = self.reason().filter(|_| self.kind == Kind::Permission) {
            line += &format!(": {reason}");
        }
        let options: Vec<String> = self.options().iter().map(Choice::shown).collect();
        if !options.is_empty() {
            line += &format!(" [{}]", options.join(", "));
        }
        if let Some(schema) = self.schema() {
            line += &format!(" {schema}");
        }
        if let Some(default) = self.default_answer() {
            line += &format!(" [default: {default}]");
        }
        line
    }
}

/// The end of a question: it is not open any more.
#[derive(Clone, Debug)]
pub struct Closed {
    /// The question.
    pub id: String,
    /// `answered`, `expired` or `withdrawn`.
    pub reason: String,
    /// The reason as text.
    pub message: String,
    /// The principal that answered, if one did.
    pub by: Option<String>,
}

impl Closed {
    /// The end of a question that an event reports, if it does.
    pub fn of(event: &EventKind, body: &Json) -> Option<Closed> {
        if *event != EventKind::PromptClosed {
            return None;
        }
        let members = body.members().ok()?;
        let text = |name: &str| members.get_str(name).unwrap_or_default();
        let (reason, message) = (text("reason"), text("message"));
        Some(Closed { id: members.get_str("prompt_id")?, reason, message, by: members.get_str("responded_by") })
    }
}
