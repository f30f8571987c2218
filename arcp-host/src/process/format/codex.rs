//! The stream of the Codex CLI: a thread, its turns and their items.

use std::collections::BTreeSet;

use arcp_proto::error::ErrorCode;
use arcp_proto::json::{Json, Members, Object};
use arcp_proto::model::event::JobError;

use super::{Heard, Reader, elements};
use crate::agent::upstream::quotes_exhaustion;

/// The most calls that are remembered. A call beyond is shown again when it ends.
const CALLS: usize = 1024;

#[derive(Default)]
pub(super) struct Codex {
    /// Items that have not ended and whose call was shown.
    called: BTreeSet<String>,
}

impl Reader for Codex {
    fn read(&mut self, line: &Json) -> Option<Vec<Heard>> {
        let line = line.members().ok()?;
        let item = || Members::parse(line.get("item")?).ok();
        match line.get_str("type")?.as_str() {
            "thread.started" => Some(vec![Heard::status("started", line.get_str("thread_id").as_deref())]),
            "turn.started" => Some(vec![Heard::status("working", None)]),
            "turn.completed" => Some(usage(&line)),
            "turn.failed" => Some(vec![failed(&message_of(line.get("error")?))]),
            "error" => {
                let message = line.get_str("message")?;
                Some(vec![Heard::log("error", &message), failed(&message)])
            }
            "item.started" => self.started(&item()?),
            "item.updated" => updated(&item()?),
            "item.completed" => self.completed(&item()?),
            _ => None,
        }
    }
}

impl Codex {
    fn started(&mut self, item: &Members<'_>) -> Option<Vec<Heard>> {
        if let Some(progress) = to_do(item) {
            return Some(vec![progress]);
        }
        let call = call(item)?;
        if self.called.len() < CALLS {
            self.called.insert(item.get_str("id")?);
        }
        Some(vec![call])
    }

    fn completed(&mut self, item: &Members<'_>) -> Option<Vec<Heard>> {
        let text = item.get_str("text");
        match item.get_str("type")?.as_str() {
            "agent_message" => {
                let text = text?;
                return Some(vec![Heard::thought(&text), Heard::Result(Json::string(&text))]);
            }
            "reasoning" | "plan" => return Some(vec![Heard::thought(&text?)]),
            "error" => return Some(vec![Heard::log("warn", &item.get_str("message")?)]),
            _ => {}
        }
        if let Some(progress) = to_do(item) {
            return Some(vec![progress]);
        }
        let id = item.get_str("id")?;
        let call = call(item)?;
        let shown = self.called.remove(&id);
        Some((!shown).then_some(call).into_iter().chain([result(&id, item)]).collect())
    }
}

/// Only to-do lists are shown while they change.
fn updated(item: &Members<'_>) -> Option<Vec<Heard>> {
    to_do(item).map(|progress| vec![progress])
}

fn to_do(item: &Members<'_>) -> Option<Heard> {
    let items = elements(item.get("items").filter(|_| item.get_str("type").as_deref() == Some("todo_list"))?);
    let is_done = |item: &&&str| Members::parse(item).is_ok_and(|item| item.get("completed") == Some("true"));
    Some(Heard::to_do(items.iter().filter(is_done).count(), items.len()))
}

/// The tool call of an item.
fn call(item: &Members<'_>) -> Option<Heard> {
    let kind = item.get_str("type")?;
    let tool = match kind.as_str() {
        "command_execution" => "shell".to_string(),
        "mcp_tool_call" => format!("{}.{}", item.get_str("server")?, item.get_str("tool")?),
        "collab_tool_call" => item.get_str("tool")?,
        "file_change" | "web_search" => kind.clone(),
        _ => return None,
    };
    let mut args = Object::new();
    for name in ["command", "query", "changes", "prompt"] {
        if let Some(value) = item.get(name).filter(|value| *value != "null") {
            args.raw(name, value);
        }
    }
    let args = args.done();
    let given = item.get("arguments").unwrap_or(&args);
    Some(Heard::tool_call(&tool, &item.get_str("id")?, Some(given)))
}

/// The result of a tool.
fn result(id: &str, item: &Members<'_>) -> Heard {
    let status = item.get_str("status");
    if matches!(status.as_deref(), Some("failed" | "declined")) {
        let exit = item.get("exit_code").filter(|code| *code != "null").map(|code| format!("exit code {code}"));
        let error = item.get("error").filter(|error| *error != "null").map(message_of);
        let output = item.get_str("aggregated_output").filter(|output| !output.is_empty());
        let said: Vec<String> = [error, exit, output].into_iter().flatten().collect();
        let message = if said.is_empty() { status.unwrap_or_default() } else { said.join(": ") };
        return Heard::tool_result(id, Err(&message));
    }
    let mut result = Object::new();
    for (member, name) in [("exit_code", "exit_code"), ("aggregated_output", "output"), ("changes", "changes")] {
        if let Some(value) = item.get(member).filter(|value| *value != "null") {
            result.raw(name, value);
        }
    }
    let result = result.done();
    Heard::tool_result(id, Ok(item.get("result").filter(|given| *given != "null").unwrap_or(&result)))
}

fn usage(line: &Members<'_>) -> Vec<Heard> {
    let usage = line.get("usage").and_then(|usage| Members::parse(usage).ok()).unwrap_or_default();
    let numbers = [
        ("tokens.input", usage.get("input_tokens")),
        ("tokens.input.cached", usage.get("cached_input_tokens")),
        ("tokens.output", usage.get("output_tokens")),
    ];
    numbers.into_iter().filter_map(|(name, number)| Heard::metric(name, number?, "tokens")).collect()
}

fn message_of(error: &str) -> String {
    let said = Members::parse(error).ok().and_then(|error| error.get_str("message"));
    said.unwrap_or_else(|| error.to_string())
}

fn failed(message: &str) -> Heard {
    let code = if quotes_exhaustion(message) { ErrorCode::BudgetExhausted } else { ErrorCode::Internal };
    Heard::Failed(JobError::new(code, format!("the agent failed: {message}")))
}
