//! Agents that are added, changed or removed while a runtime runs.

use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;

use arcp_proto::runtime::Input;

use super::inbox::Mailbox;
use crate::agent::Inbox as _;
use crate::registry::{AgentSource, Registry};

/// The interval between two looks at the source of agents.
const LOOK: Duration = Duration::from_secs(1);

/// Checks each second whether agents have changed, until the driver is dropped.
pub(super) fn follow(mut source: Box<dyn AgentSource>, registry: Arc<RwLock<Registry>>, mailbox: Weak<Mailbox>) {
    loop {
        std::thread::sleep(LOOK);
        let Some(mailbox) = mailbox.upgrade() else {
            return;
        };
        if let Some(changed) = source.changed() {
            let (agents, restartable) = (changed.entries(), changed.restartable().clone());
            *registry.write().unwrap_or_else(PoisonError::into_inner) = changed;
            mailbox.put(Input::Agents { agents, restartable });
        }
    }
}
