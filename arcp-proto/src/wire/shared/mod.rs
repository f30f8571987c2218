//! Messages that are the same in both families.

mod artifacts;
mod checkpoints;
mod delegates;
mod handoff;
mod interrupt;
mod job_tokens;
mod prompts;
mod requests;
mod schedules;
mod sessions;
mod streams;
mod surfaces;
mod terms;
mod uploads;
mod workflows;
mod written;

/// The largest value that is written under two names for different clients, in bytes. Larger ones
/// would double their frame.
pub(super) const WRITTEN_TWICE: usize = 64 << 10;

pub(super) use artifacts::{
    read_members as read_reference, read_reply as read_artifact, write_fetched, write_put, write_ref, write_release,
    write_retention,
};
pub(super) use checkpoints::{
    read_reply as read_checkpoint_reply, write_create as write_create_checkpoint, write_list as write_checkpoints,
    write_made as write_checkpoint, write_query as write_checkpoint_query, write_restore as write_restore_checkpoint,
};
pub(super) use delegates::write_delegate;
pub(super) use handoff::write_hand_over;
pub(super) use interrupt::write_interrupt;
pub(super) use job_tokens::{
    read_reply as read_token_reply, write_exchange as write_exchange_token, write_issue as write_issue_token,
    write_issued as write_token,
};
pub(super) use prompts::{correlates, write_answer, write_await as write_await_prompt};
pub(super) use requests::{
    Auth, Resume, bounded, credential, delegate_id, job_of, key, max_runtime, nonce, object, parent, present,
    read_request, reason, refused_kind,
};
pub(super) use schedules::{
    KIND as SCHEDULE, read_reply as read_schedule_reply, read_schedule, write_change as write_schedule_change,
    write_page as write_schedules, write_query as write_schedule_query, write_schedule, write_scheduled,
};
pub(super) use sessions::{
    PAGE as SESSIONS, write_eviction, write_page as write_sessions, write_query as write_session_query,
};
pub(super) use streams::{stream_data, stream_of, write_stream};
pub(super) use surfaces::{read_surface, write_cancel, write_cancel_taken, write_pace, write_replay};
pub(super) use terms::{Terms, free_text, submit_on};
pub(super) use uploads::{
    PART, read_reply as read_of_artifacts, write_answer as write_of_artifacts, write_keep, write_wish,
};
pub(super) use workflows::write_workflow;
pub(super) use written::{
    DETAILS, Words, chunk_members, quoted, shown_agent, write_ack, write_agent, write_claim, write_closed,
    write_credentials, write_jobs, write_lease_bounds, write_list_jobs, write_ping, write_pong, write_resume,
    write_unwatch, write_watch, write_watching,
};
