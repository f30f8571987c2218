//! Messages that both families write alike.

mod requests;
mod written;

pub(super) use requests::{
    Auth, Resume, bounded, concern, credential, job_of, key, max_runtime, nonce, object, present, read_request, reason,
};
pub(super) use written::{
    Words, chunk_members, quoted, shown_agent, write_agent, write_claim, write_reply, write_request,
};
