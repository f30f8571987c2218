//! Checkpoints: what an agent can go on from when the runtime has ended under
//! it (RFC §10.2).

use alloc::string::ToString as _;
use alloc::vec::Vec;

use super::{JobState, cancelled};
use crate::error::ErrorCode;
use crate::id::{JobId, prefixed};
use crate::json::Object;
use crate::model::event::{EventKind, JobError, JobEvent, Terminal};
use crate::runtime::Runtime;
use crate::runtime::io::Record;
use crate::runtime::log::Waiter;

impl Runtime {
    /// Keeps what an agent can go on from. Whoever sees the event can rely on
    /// it: the state stands in the log before it.
    pub(crate) fn checkpoint(&mut self, id: JobId, state: Vec<u8>, label: Option<&str>) {
        if state.len() > self.ctx.config.limits.checkpoint_bytes {
            return self.fail_job(id, "the checkpoint is larger than this runtime allows");
        }
        let name = prefixed("chk_", self.ctx.entropy.ulid(self.ctx.now.utc));
        if self.can_restart(id) {
            self.ctx.append(Record::Checkpointed { job: id, state });
        }
        let mut body = Object::new();
        body.str("checkpoint_id", &name).opt_str("label", label);
        self.append_event(id, JobEvent::Said { kind: EventKind::Checkpoint, body: body.json() }, true);
    }

    fn can_restart(&self, id: JobId) -> bool {
        self.jobs.get(id).is_some_and(|job| self.ctx.config.restartable_agents.contains(job.agent.name()))
    }

    /// A job ran when the runtime before this one ended.
    pub(crate) fn take_up(&mut self, id: JobId) {
        let most = self.ctx.config.limits.restarts;
        let restartable = self.can_restart(id);
        let Some(job) = self.jobs.get_mut(id) else {
            return;
        };
        if job.state == JobState::Cancelling {
            let terminal = cancelled(ErrorCode::Cancelled, job.cancel_reason());
            return self.end_job(id, terminal);
        }
        if !restartable {
            let why = "the runtime was restarted while the job ran: submit it again with a new key";
            return self.end_job(id, Terminal::failure(JobError::new(ErrorCode::Internal, why)));
        }
        if job.restarts >= most {
            let why = alloc::format!("the runtime ended {} times while the job ran: it is not started again", most + 1);
            return self.end_job(id, Terminal::failure(JobError::new(ErrorCode::Internal, why)));
        }
        job.restarts += 1;
        job.state = JobState::Accepting;
        let pos = self.ctx.append(Record::JobRestarted { job: id });
        self.ctx.log.wait(pos, Waiter::Job(id));
    }
}

/// What is said of a job that was started again.
pub(crate) fn restarted() -> JobEvent {
    let mut body = Object::new();
    let why = "the runtime was restarted: the job goes on from its last checkpoint".to_string();
    body.str("phase", "restarted").str("message", &why);
    JobEvent::Said { kind: EventKind::Status, body: body.json() }
}
