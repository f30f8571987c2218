//! The stream of Claude Code: `system`, `assistant`, `user` and `result` messages.

use arcp_proto::error::ErrorCode;
use arcp_proto::json::{Json, Members};
use arcp_proto::model::event::JobError;

use super::{Heard, Reader, elements};
use crate::agent::upstream::quotes_exhaustion;

/// The tool with which it keeps its to-do list.
const TO_DO: &str = "TodoWrite";

pub(super) struct Claude;

impl Reader for Claude {
    fn read(&mut self, line: &Json) -> Option<Vec<Heard>> {
        let line = line.members().ok()?;
        match line.get_str("type")?.as_str() {
            "system" if line.get_str("subtype").as_deref() == Some("init") => {
                Some(vec![Heard::status("started", line.get_str("model").as_deref())])
            }
            "assistant" | "user" => {
                let message = Members::parse(line.get("message")?).ok()?;
                Some(blocks(message.get("content")?))
            }
            "result" => Some(outcome(&line)),
            // Parts of messages that also come whole.
            "stream_event" => Some(Vec::new()),
            _ => None,
        }
    }
}

/// The blocks of a message. A message that is plain text repeats the prompt, and has none.
fn blocks(content: &str) -> Vec<Heard> {
    elements(content)
        .into_iter()
        .filter_map(|block| Members::parse(block).ok())
        .flat_map(|block| heard(&block))
        .collect()
}

fn heard(block: &Members<'_>) -> Vec<Heard> {
    let text = |name| block.get_str(name).filter(|text| !text.is_empty());
    let heard = match block.get_str("type").as_deref() {
        Some("text") => text("text").map(|text| Heard::thought(&text)),
        Some("thinking") => text("thinking").map(|text| Heard::thought(&text)),
        Some("tool_use") => tool_use(block),
        Some("tool_result") => tool_result(block),
        _ => None,
    };
    let to_do = block.get("input").filter(|_| block.get_str("name").as_deref() == Some(TO_DO)).and_then(to_do);
    heard.into_iter().chain(to_do).collect()
}

fn tool_use(block: &Members<'_>) -> Option<Heard> {
    Some(Heard::tool_call(&block.get_str("name")?, &block.get_str("id")?, block.get("input")))
}

fn tool_result(block: &Members<'_>) -> Option<Heard> {
    let content = block.get("content").unwrap_or("null");
    let failed = (block.get("is_error") == Some("true")).then(|| text_of(content));
    Some(Heard::tool_result(&block.get_str("tool_use_id")?, failed.as_deref().map_or(Ok(content), Err)))
}

fn to_do(input: &str) -> Option<Heard> {
    let todos = elements(Members::parse(input).ok()?.get("todos")?);
    let is_done =
        |item: &&&str| Members::parse(item).is_ok_and(|item| item.get_str("status").as_deref() == Some("completed"));
    Some(Heard::to_do(todos.iter().filter(is_done).count(), todos.len()))
}

/// The text of a tool result, which is a string or a list of blocks.
fn text_of(content: &str) -> String {
    if let Ok(text) = serde_json::from_str::<String>(content) {
        return text;
    }
    let texts = elements(content).into_iter().filter_map(|block| Members::parse(block).ok()?.get_str("text"));
    let text = texts.collect::<Vec<_>>().join("\n");
    if text.is_empty() { content.to_string() } else { text }
}

fn outcome(line: &Members<'_>) -> Vec<Heard> {
    let usage = line.get("usage").and_then(|usage| Members::parse(usage).ok()).unwrap_or_default();
    let numbers = [
        ("cost.usd", line.get("total_cost_usd"), "USD"),
        ("turns", line.get("num_turns"), "count"),
        ("tokens.input", usage.get("input_tokens"), "tokens"),
        ("tokens.input.cached", usage.get("cache_read_input_tokens"), "tokens"),
        ("tokens.output", usage.get("output_tokens"), "tokens"),
    ];
    let numbers = numbers.into_iter().filter_map(|(name, number, unit)| Heard::metric(name, number?, unit));
    numbers.chain([end(line)]).collect()
}

fn end(line: &Members<'_>) -> Heard {
    let subtype = line.get_str("subtype").unwrap_or_default();
    let given = line.get("structured_output").filter(|json| *json != "null").or_else(|| line.get("result"));
    if line.get("is_error") != Some("true") && subtype == "success" {
        return Heard::Result(given.and_then(|text| Json::parse(text).ok()).unwrap_or_else(Json::null));
    }
    let errors: Vec<String> = line.get("errors").and_then(|raw| serde_json::from_str(raw).ok()).unwrap_or_default();
    let said = given.filter(|json| *json != "null").map(text_of).filter(|text| !text.is_empty());
    let why = said.or_else(|| (!errors.is_empty()).then(|| errors.join("; ")));
    let why = why.unwrap_or_else(|| "it gave no reason".to_string());
    let is_exhausted = subtype == "error_max_budget_usd" || quotes_exhaustion(&why);
    let code = if is_exhausted { ErrorCode::BudgetExhausted } else { ErrorCode::Internal };
    Heard::Failed(JobError::new(code, format!("the agent ended with `{subtype}`: {why}")))
}
