//! What jobs ask people, as commands show it.

use arcp_host::stderr::visible;
use arcp_proto::id::WireId;
use arcp_proto::json::{Json, Members};
use arcp_proto::model::event::EventKind;
use arcp_proto::time::UtcMs;
use arcp_proto::trust::TrustLevel;

/// What is asked for.
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

    /// As it is written.
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
    /// What is asked for.
    pub kind: Kind,
    body: Json,
}

/// One option of a choice.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
pub struct Choice {
    /// What the answer says.
    pub id: String,
    /// What a person reads.
    #[serde(default)]
    label: Option<String>,
}

impl Choice {
    /// For a person.
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

    /// All that was said of it.
    pub fn members(&self) -> Members<'_> {
        self.body.members().unwrap_or_default()
    }

    fn text(&self, name: &str) -> String {
        self.members().get_str(name).unwrap_or_default()
    }

    /// Its id, for an answer.
    pub fn prompt(&self) -> Option<WireId> {
        WireId::new(&self.id)
    }

    /// What counts if nobody answers, if anything does.
    pub fn default_answer(&self) -> Option<Json> {
        Json::parse(self.members().get("default")?).ok()
    }

    /// Until when it can be answered.
    pub fn expires_at(&self) -> Option<UtcMs> {
        UtcMs::parse(&self.text("expires_at"))
    }

    /// What an answer must fit, if that is anything.
    pub fn schema(&self) -> Option<Json> {
        let members = self.members();
        let schema = members.get("response_schema").filter(|schema| !matches!(*schema, "{}" | "true"))?;
        Json::parse(schema).ok()
    }

    /// What there is to choose from.
    pub fn options(&self) -> Vec<Choice> {
        let options = self.members().get("options").and_then(|raw| Json::parse(raw).ok());
        options.and_then(|options| options.decode().ok()).unwrap_or_default()
    }

    /// What is asked, for a person. It steers no terminal.
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

    /// Whether more is asked for of what the job may spend.
    fn is_of_budget(&self) -> bool {
        self.text("operation") == "cost.budget"
    }

    /// Why the agent asks, if it says so. It steers no terminal.
    pub fn reason(&self) -> Option<String> {
        self.members().get_str("reason").map(|why| visible(&why))
    }

    /// For how long what is asked for would be granted. Only the time that was
    /// asked for bounds it.
    pub fn granted_for(&self) -> String {
        match self.members().get("requested_lease_seconds") {
            Some(seconds) => format!("for {seconds} s"),
            None => "until the job ends".to_string(),
        }
    }

    /// What is asked, and what an answer must be, in one line.
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

/// That a question is not open any more.
#[derive(Clone, Debug)]
pub struct Closed {
    /// The question.
    pub id: String,
    /// `answered`, `expired` or `withdrawn`.
    pub reason: String,
    /// The same, for a person.
    pub message: String,
    /// Who answered, if somebody did.
    pub by: Option<String>,
}

impl Closed {
    /// What an event says of a question that was open, if it says that.
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
