//! The line of those for whom the host is to do something, of which it does so much at once.

use alloc::collections::BTreeMap;

use crate::principal::Account;

/// Accounts in turn, each with those that are its own: whoever has many waits for itself.
#[derive(Debug)]
pub(super) struct Line<T> {
    turns: BTreeMap<u64, Account>,
    queues: BTreeMap<Account, Queue<T>>,
    last: u64,
}

#[derive(Debug)]
struct Queue<T> {
    turn: u64,
    /// Each by the number under which it came.
    waiting: BTreeMap<u64, T>,
}

impl<T> Default for Line<T> {
    fn default() -> Line<T> {
        Line { turns: BTreeMap::new(), queues: BTreeMap::new(), last: 0 }
    }
}

impl<T> Line<T> {
    /// One waits from now on; gives its number.
    pub(super) fn enter(&mut self, account: &Account, new: T) -> u64 {
        self.last += 1;
        let number = self.last;
        let queue = self.queues.entry(account.clone()).or_insert_with(|| {
            self.turns.insert(number, account.clone());
            Queue { turn: number, waiting: BTreeMap::new() }
        });
        queue.waiting.insert(number, new);
        number
    }

    /// One waits no more.
    pub(super) fn leave(&mut self, account: &Account, number: u64) {
        let Some(queue) = self.queues.get_mut(account) else {
            return; // The schedule was not in line.
        };
        queue.waiting.remove(&number);
        if queue.waiting.is_empty() {
            self.turns.remove(&queue.turn);
            self.queues.remove(account);
        }
    }

    /// The next one, of the account whose turn came first among those that may have one;
    /// that account has its next turn after everybody else's.
    pub(super) fn next(&mut self, may: impl Fn(&Account) -> bool) -> Option<T> {
        let (turn, account) = self.turns.iter().find(|(_, account)| may(account))?;
        let (turn, account) = (*turn, account.clone());
        let queue = self.queues.get_mut(&account)?;
        let (_, next) = queue.waiting.pop_first()?;
        self.turns.remove(&turn);
        if queue.waiting.is_empty() {
            self.queues.remove(&account);
        } else {
            self.last += 1;
            queue.turn = self.last;
            self.turns.insert(self.last, account);
        }
        Some(next)
    }
}
