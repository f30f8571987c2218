//! What a job has asked people, which of it is open, and what people have granted.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::time::Duration;

use super::heartbeat::phase;
use super::{Job, Wait};
use crate::error::{ErrorCode, Violation};
use crate::id::{CallId, LogPos, OpId};
use crate::json::Object;
use crate::model::event::JobError;
use crate::model::prompt::Question;
use crate::runtime::context::Context;
use crate::runtime::io::{AgentReply, Record};
use crate::runtime::timers::Timer;
use crate::runtime::{AnswerRecord, Closing, KeptPrompts, OpenPrompt};
use crate::time::{Timestamp, UtcMs};

/// The prompts of a job.
#[derive(Debug, Default)]
pub(super) struct Prompts {
    pub(super) kept: KeptPrompts,
    /// Deadline of each open prompt, by its number. It is monotonic time, so that changes of the clock do not move
    /// it.
    pub(super) due: BTreeMap<u32, Timestamp>,
    /// The calls that wait for answers, by the number of the prompt.
    pub(super) waiting: BTreeMap<u32, CallId>,
    /// Questions that the host is checking.
    pub(super) checking: Vec<Checking>,
    /// Prompts that were closed before the agent was started again, and whose answers it has not been given since.
    pub(super) earlier: BTreeSet<u32>,
    /// Interrupts that the agent was not told of yet, with their log positions.
    pub(super) untold: Vec<(u32, LogPos)>,
    /// Permissions that were extended since the last record of all prompts: the number of the prompt, and the new
    /// end.
    pub(super) prolonged: Vec<(u32, UtcMs)>,
}

/// A question that the host is checking.
#[derive(Debug)]
pub(super) struct Checking {
    pub(super) op: OpId,
    /// The deadline of the check.
    pub(super) until: Timestamp,
    /// The call and its question; `None` if nothing waits for the check.
    pub(super) asked: Option<(CallId, Asked)>,
}

/// A question that is not open yet.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) question: Question,
    pub(super) timeout: Duration,
}

impl Prompts {
    /// The prompts of an earlier run. No call waits for an answer yet.
    pub(super) fn restored(kept: KeptPrompts) -> Prompts {
        let earlier = kept.closed.iter().map(|closed| closed.number).collect();
        let untold = kept.interrupts.iter().map(|open| (open.number, LogPos(0))).collect();
        Prompts { kept, earlier, untold, ..Prompts::default() }
    }

    /// Approximate bytes that they hold.
    pub(super) fn weight(&self) -> usize {
        let checking = self.checking.iter().map(|checking| {
            size_of::<Checking>() + checking.asked.as_ref().map_or(0, |(_, asked)| asked.question.bytes())
        });
        size_of::<Prompts>() + self.kept.bytes() + size_of_val(self.prolonged.as_slice()) + checking.sum::<usize>()
    }

    /// Whether a call waits for an answer.
    pub(super) fn has_call(&self, id: CallId) -> bool {
        let checking = self.checking.iter().filter_map(|checking| checking.asked.as_ref());
        self.waiting.values().chain(checking.map(|(call, _)| call)).any(|call| *call == id)
    }

    /// A checkpoint was made: an agent that is started again from it has had every answer so far.
    pub(super) fn forget_answers(&mut self) {
        for closed in &mut self.kept.closed {
            if let Closing::Answered { answer, .. } = &mut closed.closing {
                *answer = None;
            }
        }
    }

    /// The answer that an earlier run of the agent was given to the same question.
    pub(super) fn take_earlier(&mut self, question: [u8; 32]) -> Option<AgentReply> {
        let earlier = &mut self.earlier;
        self.kept.closed.iter().find_map(|closed| {
            let Closing::Answered { by, answer: Some(answer) } = &closed.closing else {
                return None;
            };
            let taken = closed.question == question && earlier.remove(&closed.number);
            taken.then(|| answered(answer, by, closed.at))
        })
    }

    /// The first open prompt with the same question that no call waits for. It is from an earlier run.
    pub(super) fn unattended(&self, question: &Question) -> Option<u32> {
        let same = |open: &&OpenPrompt| open.question == *question && !self.waiting.contains_key(&open.number);
        self.kept.open.iter().find(same).map(|open| open.number)
    }

    /// The job is told to stop, or is over: drops its interrupts. Returns whether there were any.
    pub(super) fn withdraw_interrupts(&mut self) -> bool {
        self.untold.clear();
        !core::mem::take(&mut self.kept.interrupts).is_empty()
    }

    pub(super) fn open(&self, number: u32) -> Option<&OpenPrompt> {
        self.kept.open.iter().find(|open| open.number == number)
    }

    /// Why a prompt cannot be answered.
    pub(super) fn why_closed(&self, number: u32) -> Violation {
        let gone = |why: String| Violation::new(ErrorCode::FailedPrecondition, why);
        let Some(closed) = self.kept.closed.iter().find(|closed| closed.number == number) else {
            return match number <= self.kept.last && number > 0 {
                true => gone("this question is not open any more".to_string()),
                false => unknown(),
            };
        };
        let at = closed.at;
        match &closed.closing {
            Closing::Answered { by, .. } => {
                let mut details = Object::new();
                details.str("responded_by", by).display("responded_at", at);
                let first = gone(alloc::format!("this question was answered already, by {by} at {at}"));
                first.with_details(details.json())
            }
            Closing::Expired => gone(alloc::format!("this question could be answered until {at}")),
            Closing::Withdrawn => {
                gone(alloc::format!("nobody waits for an answer since {at}: the job was told to stop, or is over"))
            }
        }
    }
}

/// Everything that is kept of the prompts of a job, if it has asked anything.
pub(in crate::runtime) fn kept(job: &Job) -> Option<&KeptPrompts> {
    job.prompts.as_deref().map(|prompts| &prompts.kept)
}

/// Mutable access to the same.
pub(super) fn kept_mut(job: &mut Job) -> &mut KeptPrompts {
    &mut job.prompts.get_or_insert_default().kept
}

/// Records all prompts and permissions of a job.
pub(super) fn keep(job: &mut Job, ctx: &mut Context) {
    if let Some(prompts) = &mut job.prompts {
        prompts.prolonged.clear();
        ctx.append(Record::Prompted { job: job.id, prompts: Box::new(prompts.kept.clone()) });
    }
}

/// Records that a permission is extended, with all that were since the last record of all prompts.
pub(super) fn keep_prolonged(job: &mut Job, ctx: &mut Context, number: u32, until: UtcMs) {
    if let Some(prompts) = &mut job.prompts {
        prompts.prolonged.retain(|(other, _)| *other != number);
        prompts.prolonged.push((number, until));
        ctx.append(Record::GrantsProlonged { job: job.id, until: prompts.prolonged.clone() });
    }
}

/// Unblocks the job if it waits for no people, and shows that unless the job is to stop.
pub(super) fn unblock(job: &mut Job, ctx: &mut Context) {
    let was_blocked = job.run.is_blocked();
    let prompts = job.prompts.as_deref();
    let asks = prompts.is_some_and(|prompts| !prompts.waiting.is_empty());
    let is_interrupted = prompts.is_some_and(|prompts| !prompts.kept.interrupts.is_empty());
    if !asks && job.run.waits.remove(&Wait::Prompt) {
        job.run.last_call = ctx.now.mono;
    }
    if !is_interrupted {
        job.run.waits.remove(&Wait::Interrupt);
    }
    if was_blocked && !job.run.is_blocked() && !job.state.is_cancelling() {
        job.run.silence_at = job.append(ctx, phase("running", None), false);
    }
}

/// Sets the timer for the next deadline of a prompt, a check or a permission.
pub(super) fn plan(job: &Job, ctx: &mut Context) {
    let Some(prompts) = job.prompts.as_deref() else {
        return; // The job has no prompts.
    };
    let waits = |checking: &&Checking| checking.asked.is_some();
    let checks = prompts.checking.iter().filter(waits).map(|checking| checking.until);
    let longest = Duration::from_secs(u64::from(u32::MAX));
    let grants = ends(&prompts.kept).map(|until| ctx.moment(until, longest));
    match prompts.due.values().copied().chain(checks).chain(grants).min() {
        Some(at) => ctx.timers.set(Timer::Prompt(job.id), at.max(ctx.soonest())),
        None => ctx.timers.clear(Timer::Prompt(job.id)),
    }
}

/// The ends of the permissions that are held.
fn ends(kept: &KeptPrompts) -> impl Iterator<Item = UtcMs> {
    kept.grants.iter().filter(|grant| grant.ended.is_none()).filter_map(|grant| grant.until)
}

/// The events of open questions, in order.
pub(in crate::runtime) fn open_events(job: &Job) -> impl Iterator<Item = u64> {
    kept(job).into_iter().flat_map(|kept| &kept.open).map(|open| open.event)
}

/// The number of the prompt that an event opened.
pub(in crate::runtime) fn number_of(job: &Job, event: u64) -> Option<u32> {
    let kept = kept(job)?;
    let open = kept.open.iter().map(|open| (open.event, open.number));
    let mut all = open.chain(kept.closed.iter().map(|closed| (closed.event, closed.number)));
    all.find(|(of, _)| *of == event).map(|(_, number)| number)
}

/// Whether people have granted the job anything.
pub(super) fn has_grants(job: &Job) -> bool {
    kept(job).is_some_and(|kept| !kept.grants.is_empty())
}

/// An answer, as the agent gets it.
pub(super) fn answered(answer: &AnswerRecord, by: &str, at: UtcMs) -> AgentReply {
    match answer {
        AnswerRecord::Value(value) => AgentReply::Answered { value: value.clone(), by: by.to_string(), at },
        AnswerRecord::Denied(reason) => {
            let why = reason.as_deref().map(|why| alloc::format!(": {why}")).unwrap_or_default();
            let denied = alloc::format!("{by} denied the permission{why}");
            AgentReply::Refused(JobError::new(ErrorCode::PermissionDenied, denied))
        }
    }
}

/// The refusal for a question that is not known.
pub(in crate::runtime) fn unknown() -> Violation {
    Violation::new(ErrorCode::JobNotFound, "no such question is known here")
}
