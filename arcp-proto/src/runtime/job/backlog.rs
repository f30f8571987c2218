//! Calls of agents that the core processes later, as they are held. `turns` processes them.

use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;

use super::deferred::exit_bytes;
use crate::id::{CallId, JobId};
use crate::runtime::account::Balance;
use crate::runtime::io::{AgentCall, AgentExit};

/// The most that one turn processes of an agent: consecutive calls, up to this many, until their bytes reach this
/// bound.
const TURN_CALLS: usize = 16;
const TURN_BYTES: u64 = 64 << 10;

/// Jobs with a backlog, in turn by account.
#[derive(Debug, Default)]
pub(in crate::runtime) struct Backlogs(pub(super) VecDeque<Line>);

/// Jobs of one account, in turn.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) account: Balance,
    pub(super) jobs: VecDeque<JobId>,
}

/// The calls of one agent that are processed later, and its end.
#[derive(Debug, Default)]
pub(in crate::runtime) struct Backlog {
    said: VecDeque<Said>,
    /// The number of these calls, and their bytes of credit.
    calls: u32,
    bytes: u64,
}

/// One item of a backlog.
#[derive(Debug)]
pub(in crate::runtime) enum Said {
    /// Consecutive calls; a single one, if the agent waits for its answer.
    Calls(Option<CallId>, Vec<AgentCall>),
    /// How the agent has ended.
    Exit(AgentExit),
}

impl Backlogs {
    /// Whether no job has a backlog.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn has(&self, account: &Balance) -> bool {
        self.0.iter().any(|line| line.account.is(account))
    }

    pub(super) fn put(&mut self, account: &Balance, job: JobId) {
        match self.0.iter_mut().find(|line| line.account.is(account)) {
            Some(line) => line.jobs.push_back(job),
            None => self.0.push_back(Line { account: account.clone(), jobs: [job].into() }),
        }
    }

    pub(super) fn remove(&mut self, job: JobId) {
        self.0.iter_mut().for_each(|line| line.jobs.retain(|waiting| *waiting != job));
        self.0.retain(|line| !line.jobs.is_empty());
    }
}

impl Backlog {
    /// Approximate bytes that it holds.
    pub(super) fn weight(&self) -> usize {
        let exit = |said: &Said| if let Said::Exit(exit) = said { exit_bytes(exit) } else { 0 };
        size_of::<Backlog>()
            + self.said.iter().map(|said| size_of::<Said>() + exit(said)).sum::<usize>()
            + self.calls as usize * size_of::<AgentCall>()
            + usize::try_from(self.bytes).unwrap_or(usize::MAX)
    }

    /// The calls in the backlog.
    pub(super) fn calls(&self) -> impl Iterator<Item = &AgentCall> {
        self.said.iter().flat_map(|said| if let Said::Calls(_, calls) = said { calls.as_slice() } else { &[] })
    }

    /// What they cost: calls and bytes.
    pub(super) fn cost(&self) -> (u32, u64) {
        (self.calls, self.bytes)
    }

    /// Adds a call of the agent.
    pub(super) fn add(&mut self, asked: Option<CallId>, call: AgentCall) {
        (self.calls, self.bytes) = (self.calls.saturating_add(1), self.bytes.saturating_add(call.bytes()));
        let has_room = |calls: &[AgentCall]| {
            calls.len() < TURN_CALLS && calls.iter().map(AgentCall::bytes).sum::<u64>() < TURN_BYTES
        };
        match self.said.back_mut() {
            Some(Said::Calls(None, calls)) if asked.is_none() && has_room(calls) => calls.push(call),
            Some(_) | None => self.said.push_back(Said::Calls(asked, vec![call])),
        }
    }

    /// Takes the ids of the calls that were to be answered, which are not answered any longer.
    pub(super) fn take_asked(&mut self) -> Vec<CallId> {
        let asked = |said: &mut Said| {
            let Said::Calls(asked, calls) = said else { return None };
            asked.take().inspect(|_| calls.iter_mut().for_each(AgentCall::wait_for_no_answer))
        };
        self.said.iter_mut().filter_map(asked).collect()
    }

    /// The agent is gone: its calls are not answered.
    pub(super) fn end(&mut self, exit: AgentExit) {
        self.take_asked();
        self.said.push_back(Said::Exit(exit));
    }

    /// The next item, and whether more follow.
    pub(super) fn pop(&mut self) -> Option<(Said, bool)> {
        let said = self.said.pop_front()?;
        if let Said::Calls(_, calls) = &said {
            let bytes: u64 = calls.iter().map(AgentCall::bytes).sum();
            let count = u32::try_from(calls.len()).unwrap_or(u32::MAX);
            (self.calls, self.bytes) = (self.calls.saturating_sub(count), self.bytes.saturating_sub(bytes));
        }
        Some((said, !self.said.is_empty()))
    }

    pub(super) fn into_said(self) -> VecDeque<Said> {
        self.said
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Principal;
    use crate::json::Json;
    use crate::model::event::EventKind;
    use crate::runtime::account::Accounts;

    fn job(n: u128) -> JobId {
        JobId::from_ulid(ulid::Ulid::from_parts(1, n))
    }

    /// A call of this many bytes.
    fn call(bytes: u64) -> AgentCall {
        let text = "x".repeat(usize::try_from(bytes).expect("few") - 2);
        AgentCall::Emit { kind: EventKind::Log, body: Json::string(&text) }
    }

    #[test]
    fn who_is_taken_out_of_line_holds_up_nobody_of_its_account() {
        let mut accounts = Accounts::new();
        let [one, other] = ["p", "q"].map(|name| accounts.of(&Principal::new(name).expect("a name").account()));
        let mut backlogs = Backlogs::default();
        [(&one, 1), (&other, 2), (&one, 3)].into_iter().for_each(|(account, n)| backlogs.put(account, job(n)));
        let jobs = |backlogs: &Backlogs| backlogs.0.iter().map(|line| line.jobs.clone()).collect::<Vec<_>>();
        assert_eq!(jobs(&backlogs), [vec![job(1), job(3)], vec![job(2)]]);
        backlogs.remove(job(1));
        assert_eq!(jobs(&backlogs), [[job(3)], [job(2)]]);
        assert!(backlogs.has(&one) && backlogs.has(&other));
        backlogs.remove(job(3));
        assert_eq!((backlogs.has(&one), backlogs.has(&other), backlogs.is_empty()), (false, true, false));
        backlogs.remove(job(2));
        assert!(backlogs.is_empty());
    }

    #[test]
    fn so_many_calls_and_bytes_are_heard_in_a_turn_and_one_that_asks_alone() {
        let turns = |said: Vec<(Option<CallId>, u64)>| {
            let mut backlog = Backlog::default();
            let cost = (u32::try_from(said.len()).expect("few"), said.iter().map(|(_, bytes)| bytes).sum());
            said.into_iter().for_each(|(asked, bytes)| backlog.add(asked, call(bytes)));
            assert_eq!(backlog.cost(), cost);
            let mut turns = Vec::new();
            while let Some((said, more)) = backlog.pop() {
                let Said::Calls(_, calls) = said else { panic!("{said:?}") };
                turns.push(calls.len());
                assert_eq!(more, backlog.calls().next().is_some());
            }
            assert_eq!(backlog.cost(), (0, 0));
            turns
        };
        let (asks, half) = (Some(CallId(1)), TURN_BYTES / 2);
        assert_eq!(turns(vec![(None, 2); TURN_CALLS + 1]), [TURN_CALLS, 1]);
        assert_eq!(turns(vec![(None, half); 5]), [2, 2, 1]);
        assert_eq!(turns(vec![(None, half), (None, half - 1), (None, 1 << 20), (None, 2)]), [3, 1]);
        assert_eq!(turns(vec![(None, 2), (asks, 2), (None, 2), (None, 2), (asks, 2), (asks, 2)]), [1, 1, 2, 1, 1]);
    }
}
