//! Requests that wait for the host: a value is checked, credentials are issued for a job, bytes are
//! stored or read. Meanwhile the connection is not read, and frames that the driver hands over all
//! the same wait behind the request. So requests keep their order, and the core never waits.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use super::Connections;
use crate::error::{BoundOf, ErrorCode, Violation};
use crate::id::{ConnId, OpId, Principal, PromptId};
use crate::json::Json;
use crate::model::agent::AgentRef;
use crate::model::artifact::BlobDigest;
use crate::model::schedule::{Plan, Rule};
use crate::runtime::account::{Balance, Charge, HeldFor, Holding};
use crate::runtime::asker::Ordered;
use crate::runtime::context::Context;
use crate::runtime::expected::Expected as _;
use crate::runtime::io::{CloseReason, InputFault, LONGEST_CHECK, Output};
use crate::runtime::timers::Timer;

/// How many frames may be held for one connection, whose driver hands over what it had read before
/// it was told to pause; and their bytes, as a multiple of the longest frame.
const HELD: (usize, usize) = (1024, 4);

/// How long a request waits for the bytes of an artifact to be stored or read.
const LONGEST_BLOB: Duration = Duration::from_secs(10);

/// What a checked value must fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::runtime) enum Checked {
    /// It is the input of this agent.
    Input(AgentRef),
    /// It answers this question, which has a schema.
    Answer(PromptId, Json),
}

/// What the host did with the bytes of an artifact.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::runtime) enum Blob {
    /// It has stored them.
    Stored,
    /// It has read them.
    Read(Vec<u8>),
}

/// Leaves the bytes out.
impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Blob::Stored => f.write_str("Stored"),
            Blob::Read(bytes) => write!(f, "Read({} bytes)", bytes.len()),
        }
    }
}

/// What a request waits for.
#[derive(Debug)]
pub(super) enum Awaited {
    /// The check of a value in the request.
    Value(Checked),
    /// Credentials for the job of the request.
    Credentials(Ordered),
    /// Bytes of an artifact to be stored or read; then what the host did.
    Blob(BlobDigest, Option<Blob>),
    /// The times of this rule; then these.
    Plan(Rule, Option<Plan>),
    /// Earlier answers to be written, because its own answer is large.
    Room,
}

/// The state of what a connection's next request waits for.
#[derive(Debug, Default)]
pub(super) enum Check {
    /// It waits for nothing.
    #[default]
    None,
    /// The host is busy. `held` has the request itself, and the frames after it.
    Waiting { op: OpId, of: Awaited, held: VecDeque<(Held, Charge)> },
    /// The host has answered: fine, or the reason of the refusal.
    Judged(Awaited, Result<(), Violation>),
}

/// A check that the host has not answered. It stays even if its connection gave up waiting.
#[derive(Debug)]
pub(super) struct Running {
    conn: ConnId,
    principal: Principal,
}

/// A frame that arrived while a connection waited.
#[derive(Debug)]
pub(in crate::runtime) enum Held {
    /// A frame, and its binary message.
    Frame(Vec<u8>, Option<Vec<u8>>),
    Binary(Vec<u8>),
    TooLong,
}

impl Held {
    fn bytes(&self) -> usize {
        match self {
            Held::Frame(frame, sidecar) => frame.len() + sidecar.as_ref().map_or(0, Vec::len),
            Held::Binary(message) => message.len(),
            Held::TooLong => 0,
        }
    }
}

impl Check {
    pub(super) fn is_waiting(&self) -> bool {
        matches!(self, Check::Waiting { .. })
    }

    /// After a request was handled: keeps it if its value is being checked, charged to this
    /// account.
    pub(super) fn keep(&mut self, (frame, sidecar): (&[u8], Option<&[u8]>), account: &Balance) {
        match self {
            Check::Waiting { held, .. } if held.is_empty() => {
                let kept = Held::Frame(frame.to_vec(), sidecar.map(<[u8]>::to_vec));
                let charge = account.charge(HeldFor::Frames, kept.bytes());
                held.push_back((kept, charge));
            }
            Check::Waiting { .. } | Check::None => {}
            // The verdict for this request does not hold for the next one.
            Check::Judged(..) => *self = Check::None,
        }
    }

    /// The verdict on a value; `None`: it was not checked yet for this purpose. The agent may be
    /// another one than at the check.
    pub(super) fn take_verdict(&mut self, of: &Checked) -> Option<Result<(), Violation>> {
        match core::mem::take(self) {
            Check::Judged(Awaited::Value(checked), verdict) => (checked == *of).then_some(verdict),
            other @ (Check::None
            | Check::Waiting { .. }
            | Check::Judged(
                Awaited::Credentials(_) | Awaited::Blob(..) | Awaited::Plan(..) | Awaited::Room,
                _,
            )) => {
                *self = other;
                None
            }
        }
    }

    /// What the host did with these bytes; `None`: it was not asked.
    pub(super) fn take_blob(&mut self, of: BlobDigest) -> Option<Result<Blob, Violation>> {
        match core::mem::take(self) {
            Check::Judged(Awaited::Blob(digest, done), verdict) if digest == of => match verdict {
                Ok(()) => done.map(Ok),
                Err(violation) => Some(Err(violation)),
            },
            other @ (Check::None | Check::Waiting { .. } | Check::Judged(..)) => {
                *self = other;
                None
            }
        }
    }

    /// The times of this rule; `None`: the host was not asked.
    pub(super) fn take_plan(&mut self, of: &Rule) -> Option<Result<Plan, Violation>> {
        match core::mem::take(self) {
            Check::Judged(Awaited::Plan(rule, found), verdict) if rule == *of => match verdict {
                Ok(()) => found.map(Ok),
                Err(violation) => Some(Err(violation)),
            },
            other @ (Check::None | Check::Waiting { .. } | Check::Judged(..)) => {
                *self = other;
                None
            }
        }
    }

    /// The outcome of issuing credentials for the job of the submit, if the submit waited for it.
    pub(super) fn take_issued(&mut self) -> Option<(Ordered, Result<(), Violation>)> {
        match core::mem::take(self) {
            Check::Judged(Awaited::Credentials(ordered), verdict) => Some((ordered, verdict)),
            other @ (Check::None
            | Check::Waiting { .. }
            | Check::Judged(Awaited::Value(_) | Awaited::Blob(..) | Awaited::Plan(..) | Awaited::Room, _)) => {
                *self = other;
                None
            }
        }
    }

    /// Whether it waits for credentials.
    pub(super) fn awaits_credentials(&self) -> bool {
        matches!(self, Check::Waiting { of: Awaited::Credentials(_), .. })
    }

    /// The refusal if this takes too long.
    fn overdue(&self) -> &'static str {
        match self {
            Check::Waiting { of: Awaited::Credentials(_), .. } => {
                "the credentials of the job were not issued in time: submit it again"
            }
            Check::Waiting { of: Awaited::Blob(..), .. } => {
                "the bytes of the artifact were not stored or read in time: send it again"
            }
            Check::Waiting { of: Awaited::Plan(..), .. } => {
                "the times of the schedule were not found in time: send it again"
            }
            Check::Waiting { of: Awaited::Value(_) | Awaited::Room, .. } | Check::None | Check::Judged(..) => {
                "it was not checked in time: send it again"
            }
        }
    }

    /// Whether it waits for earlier answers to be written.
    fn awaits_room(&self) -> bool {
        matches!(self, Check::Waiting { of: Awaited::Room, .. })
    }

    /// Whether it waits for this operation.
    fn waits_for(&self, wanted: OpId) -> bool {
        matches!(self, Check::Waiting { op, .. } if *op == wanted)
    }

    /// Bytes of the held frames, counted again.
    pub(super) fn recount(&self) -> usize {
        match self {
            Check::Waiting { held, .. } => held.iter().map(|(held, _)| held.bytes()).sum(),
            Check::None | Check::Judged(..) => 0,
        }
    }
}

impl Connections {
    /// Has a value checked. The request is handled again once the host has answered.
    ///
    /// # Errors
    ///
    /// If the value is too large to check, or too many are being checked.
    pub(in crate::runtime) fn begin_check(
        &mut self,
        ctx: &mut Context,
        (id, principal): (ConnId, &Principal),
        of: Checked,
        value: &Json,
    ) -> Result<(), Violation> {
        let limits = &ctx.config.limits;
        let most = limits.job.checked_input_bytes;
        if value.as_str().len() > most {
            let message = match &of {
                Checked::Input(agent) => {
                    alloc::format!("the input of `{}` may have at most {most} bytes", agent.name())
                }
                Checked::Answer(prompt, _) => alloc::format!("the answer to {prompt} may have at most {most} bytes"),
            };
            return Err(Violation::exhausted("checked_input_bytes", BoundOf::Request, most as u64, message));
        }
        let account = principal.account();
        let own = self.checking.values().filter(|running| running.principal.account() == account).count();
        let checks = Holding { own, all: self.checking.len(), total: limits.job.input_checks };
        let what = "inputs that are being checked";
        checks.admit(1, limits.job.principal_share, account.bound_of(), "input_checks", what)?;
        let op = ctx.next_op();
        if let Some(conn) = self.by_id.get_mut(&id) {
            ctx.output(of.asked(op, value.clone()));
            conn.check = Check::Waiting { op, of: Awaited::Value(of), held: VecDeque::new() };
            self.checking.insert(op, Running { conn: id, principal: principal.clone() });
            ctx.timers.set(Timer::InputCheck(id), ctx.now.mono + LONGEST_CHECK);
            ctx.ready(id);
        }
        Ok(())
    }

    /// Holds a frame of a connection that waits.
    pub(super) fn hold(&mut self, ctx: &mut Context, id: ConnId, said: Held) {
        let Some(conn) = self.by_id.get_mut(&id).expected("it waits for a check") else {
            return;
        };
        let account = conn.answers.account();
        let Check::Waiting { held, .. } = &mut conn.check else {
            debug_assert!(false, "{id:?} waits for a check");
            return;
        };
        let charge = account.charge(HeldFor::Frames, said.bytes());
        held.push_back((said, charge));
        let bytes = account.bytes(HeldFor::Frames);
        if held.len() > HELD.0 || bytes > ctx.config.limits.frame.frame_bytes.saturating_mul(HELD.1) {
            self.leave(ctx, id, CloseReason::Flood);
        }
    }

    /// The host has checked an input. Returns the connection and its frames, which are to be
    /// handled again.
    pub(in crate::runtime) fn on_input_checked(
        &mut self,
        ctx: &mut Context,
        op: OpId,
        fault: Option<InputFault>,
    ) -> Option<(ConnId, VecDeque<Held>)> {
        let id = self.checking.remove(&op)?.conn;
        // Its request was refused by now, or the connection is gone.
        let conn = self.by_id.get(&id).filter(|conn| conn.check.waits_for(op))?;
        let Check::Waiting { of: Awaited::Value(of), .. } = &conn.check else { return None };
        let what = of.misfit();
        self.judge_input(ctx, id, fault.as_ref().map_or(Ok(()), |fault| Err(fault.violation(what))))
    }

    /// The host took too long.
    pub(in crate::runtime) fn on_check_overdue(
        &mut self,
        ctx: &mut Context,
        id: ConnId,
    ) -> Option<(ConnId, VecDeque<Held>)> {
        let message = self.by_id.get(&id).map_or("", |conn| conn.check.overdue());
        self.judge_input(ctx, id, Err(Violation::new(ErrorCode::Unavailable, message)))
    }

    fn judge_input(
        &mut self,
        ctx: &mut Context,
        id: ConnId,
        verdict: Result<(), Violation>,
    ) -> Option<(ConnId, VecDeque<Held>)> {
        let conn = self.by_id.get_mut(&id)?;
        let Check::Waiting { of, held, .. } = core::mem::take(&mut conn.check) else {
            debug_assert!(false, "who is judged waits");
            return None;
        };
        conn.check = Check::Judged(of, verdict);
        ctx.timers.clear(Timer::InputCheck(id));
        ctx.ready(id);
        Some((id, held.into_iter().map(|(held, _)| held).collect()))
    }
}

/// Waits until credentials are issued for the job of a submit, which is then handled again.
pub(in crate::runtime) fn await_credentials(
    connections: &mut Connections,
    ctx: &mut Context,
    id: ConnId,
    op: OpId,
    ordered: Ordered,
) {
    if let Some(conn) = connections.by_id.get_mut(&id).expected("whose submit is heard is there") {
        conn.check = Check::Waiting { op, of: Awaited::Credentials(ordered), held: VecDeque::new() };
        ctx.timers.set(Timer::InputCheck(id), ctx.now.mono + ctx.config.timing.provision_timeout);
        ctx.ready(id);
    }
}

/// Credentials were issued, or were not. Returns the connection that waits for them, and its
/// frames, which are to be handled again.
pub(in crate::runtime) fn on_credentials(
    connections: &mut Connections,
    ctx: &mut Context,
    id: ConnId,
    op: OpId,
    verdict: Result<(), Violation>,
) -> Option<(ConnId, VecDeque<Held>)> {
    // Its request was refused by now, or the connection is gone.
    connections.by_id.get(&id).filter(|conn| conn.check.waits_for(op))?;
    connections.judge_input(ctx, id, verdict)
}

/// Waits until bytes of an artifact are stored or read. Then the request is handled again.
pub(in crate::runtime) fn await_blob(
    connections: &mut Connections,
    ctx: &mut Context,
    id: ConnId,
    op: OpId,
    digest: BlobDigest,
) {
    if let Some(conn) = connections.by_id.get_mut(&id).expected("whose request is heard is there") {
        conn.check = Check::Waiting { op, of: Awaited::Blob(digest, None), held: VecDeque::new() };
        ctx.timers.set(Timer::InputCheck(id), ctx.now.mono + LONGEST_BLOB);
        ctx.ready(id);
    }
}

/// Bytes were stored or read, or were not. Returns the connection that waits for that, and its
/// frames, which are to be handled again.
pub(in crate::runtime) fn on_blob(
    connections: &mut Connections,
    ctx: &mut Context,
    id: ConnId,
    op: OpId,
    came: Result<Blob, Violation>,
) -> Option<(ConnId, VecDeque<Held>)> {
    // Its request was refused by now, or the connection is gone.
    let conn = connections.by_id.get_mut(&id).filter(|conn| conn.check.waits_for(op))?;
    let Check::Waiting { of: Awaited::Blob(_, done), .. } = &mut conn.check else { return None };
    let verdict = came.map(|blob| *done = Some(blob));
    connections.judge_input(ctx, id, verdict)
}

/// Waits until the times of a rule are found. Then the request is handled again.
pub(in crate::runtime) fn await_plan(
    connections: &mut Connections,
    ctx: &mut Context,
    id: ConnId,
    op: OpId,
    rule: Rule,
) {
    if let Some(conn) = connections.by_id.get_mut(&id).expected("whose request is heard is there") {
        conn.check = Check::Waiting { op, of: Awaited::Plan(rule, None), held: VecDeque::new() };
        ctx.timers.set(Timer::InputCheck(id), ctx.now.mono + LONGEST_BLOB);
        ctx.ready(id);
    }
}

/// The times of a rule were found, or were not. Returns the connection that waits for them, and its
/// frames, which are to be handled again.
pub(in crate::runtime) fn on_plan(
    connections: &mut Connections,
    ctx: &mut Context,
    id: ConnId,
    op: OpId,
    came: Result<Plan, Violation>,
) -> Option<(ConnId, VecDeque<Held>)> {
    // Its request was refused by now, or the connection is gone.
    let conn = connections.by_id.get_mut(&id).filter(|conn| conn.check.waits_for(op))?;
    let Check::Waiting { of: Awaited::Plan(_, found), .. } = &mut conn.check else { return None };
    let verdict = came.map(|plan| *found = Some(plan));
    connections.judge_input(ctx, id, verdict)
}

/// Makes a request whose answer is large wait until earlier answers are written. A peer that does
/// not read those is closed as stalled.
pub(in crate::runtime) fn await_room(connections: &mut Connections, ctx: &mut Context, id: ConnId) {
    if let Some(conn) = connections.by_id.get_mut(&id).expected("whose request is heard is there") {
        conn.check = Check::Waiting { op: ctx.next_op(), of: Awaited::Room, held: VecDeque::new() };
        ctx.ready(id);
    }
}

/// Answers may have been written. Returns a connection whose request waited for that, and its
/// frames, which are to be handled again.
pub(in crate::runtime) fn on_room(
    connections: &mut Connections,
    ctx: &mut Context,
    id: ConnId,
) -> Option<(ConnId, VecDeque<Held>)> {
    connections.by_id.get(&id).filter(|conn| conn.check.awaits_room() && !conn.is_behind(ctx))?;
    connections.judge_input(ctx, id, Ok(()))
}

impl Checked {
    /// The refusal of a value that does not fit.
    fn misfit(&self) -> &'static str {
        match self {
            Checked::Input(_) => "the input does not fit the agent",
            Checked::Answer(..) => "the answer does not fit the question",
        }
    }

    /// The request to the host.
    fn asked(&self, op: OpId, value: Json) -> Output {
        match self {
            Checked::Input(agent) => Output::CheckInput { op, agent: agent.clone(), input: value },
            Checked::Answer(_, schema) => Output::CheckValue { op, schema: schema.clone(), value: Some(value) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_of_a_connection_weighs_as_much_as_it_has_bytes() {
        let frame = |text, beside| Held::Frame(alloc::vec![0; text], Some(alloc::vec![0; beside])).bytes();
        assert_eq!([frame(0, 0), frame(7, 0), frame(7, 5)], [0, 7, 12]);
        assert_eq!(
            [Held::Frame(alloc::vec![0; 7], None), Held::Binary(alloc::vec![0; 3])].map(|held| held.bytes()),
            [7, 3]
        );
    }
}
