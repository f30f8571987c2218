//! Interrupts, with the same messages in both families: hello peers use them with
//! `x-vendor.arcp.open_surfaces`.

use alloc::string::String;

use serde::Deserialize;

use crate::error::Violation;
use crate::id::WireId;
use crate::json::{Object, Text};
use crate::model::request::{Interrupt, Target};
use crate::wire::envelope::{Header, payload};

#[derive(Deserialize)]
struct Said<'a> {
    #[serde(borrow, default)]
    target: Option<Text<'a>>,
    #[serde(borrow, default)]
    target_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    prompt: Option<Text<'a>>,
}

pub(super) fn read_interrupt(header: &Header<'_>) -> Result<Interrupt, Violation> {
    let said: Said<'_> = payload("interrupt", header.payload)?;
    let id = said.target_id.and_then(|Text(id)| WireId::new(&id)).or_else(|| header.job.clone());
    let id = id.ok_or_else(|| Violation::invalid("`interrupt`: `target_id` is missing"))?;
    let target = match said.target.as_ref().map_or("job", |Text(target)| target.as_ref()) {
        "job" => Target::Job(id),
        "stream" => Target::Stream(id),
        "session" => Target::Session(id),
        _ => return Err(Violation::invalid("`interrupt`: `target` must be job, stream or session")),
    };
    Ok(Interrupt { target, prompt: said.prompt.map_or_else(String::new, |Text(prompt)| prompt.into()) })
}

/// The type and payload of an interrupt.
pub(in crate::wire) fn write_interrupt(interrupt: &Interrupt) -> (&'static str, String) {
    let target = match interrupt.target {
        Target::Job(_) => "job",
        Target::Stream(_) => "stream",
        Target::Session(_) => "session",
    };
    let mut payload = Object::new();
    payload.str("target", target).str("target_id", interrupt.target.id().as_str()).str("prompt", &interrupt.prompt);
    ("interrupt", payload.done())
}
