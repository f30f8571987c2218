//! The line in which schedules wait for the host to find their times.

use alloc::collections::BTreeMap;

use super::{Account, LogPos};

/// Accounts in turn, each with its schedules: an account with many schedules delays only its own.
#[derive(Debug, Default)]
pub(super) struct Line {
    turns: BTreeMap<u64, Account>,
    queues: BTreeMap<Account, Queue>,
    last: u64,
}

#[derive(Debug)]
struct Queue {
    turn: u64,
    /// By the number that each got when it entered the line.
    schedules: BTreeMap<u64, LogPos>,
}

impl Line {
    /// A schedule enters the line. Returns its number.
    pub(super) fn enter(&mut self, account: &Account, at: LogPos) -> u64 {
        self.last += 1;
        let number = self.last;
        let queue = self.queues.entry(account.clone()).or_insert_with(|| {
            self.turns.insert(number, account.clone());
            Queue { turn: number, schedules: BTreeMap::new() }
        });
        queue.schedules.insert(number, at);
        number
    }

    /// A schedule leaves the line.
    pub(super) fn leave(&mut self, account: &Account, number: u64) {
        let Some(queue) = self.queues.get_mut(account) else {
            return; // The schedule was not in line.
        };
        queue.schedules.remove(&number);
        if queue.schedules.is_empty() {
            self.turns.remove(&queue.turn);
            self.queues.remove(account);
        }
    }

    /// The next schedule, of the first account in turn that may have one. That account's next turn comes after all
    /// others.
    pub(super) fn next(&mut self, may: impl Fn(&Account) -> bool) -> Option<LogPos> {
        let (turn, account) = self.turns.iter().find(|(_, account)| may(account))?;
        let (turn, account) = (*turn, account.clone());
        let queue = self.queues.get_mut(&account)?;
        let (_, at) = queue.schedules.pop_first()?;
        self.turns.remove(&turn);
        if queue.schedules.is_empty() {
            self.queues.remove(&account);
        } else {
            self.last += 1;
            queue.turn = self.last;
            self.turns.insert(self.last, account);
        }
        Some(at)
    }
}
