//! How many bytes `Limits` promise. Whatever is held has an owner, and each may
//! hold so much:
//!
//! * the runtime: events in memory, places of frames, payloads kept for several readers, events
//!   read ahead, inputs that wait, one frame more than that, records that are not
//!   durable up to where a peer is closed for them, what waits for peers and hosts,
//!   submits whose inputs are being checked, what agents say, and end with, while their children wait, or until it is their turn,
//!   bytes of artifacts on their way, schedules, workflows, and the tables of runs, keys, artifacts, departures and ended sessions, full;
//! * a connection: the answer that goes beyond a bound;
//! * a session: remembered commands, subscriptions;
//! * a job: its lease, its checkpoint, the requests for it, and class and time of
//!   each event that is kept.
//!
//! Of connections, sessions and jobs as many count as there are, and no more than
//! their bounds. The sum counts twice: tables and queues that grow hold room.

use arcp_proto::limits::Limits;

/// See the module.
const ROOM: u64 = 2;
/// What is held before anybody came.
const RUNTIME: u64 = 32 << 10;
/// What a connection, session or job holds besides what has a bound of its own.
const CONNECTION: u64 = 2 << 10;
const SESSION: u64 = 2 << 10;
const JOB: u64 = 2 << 10;
/// A remembered command with what it came to, a subscription, a request of a job,
/// a key, an ended session.
const SEEN: u64 = 512;
const SUBSCRIPTION: u64 = 512;
const REQUEST: u64 = 128;
const KEY: u64 = 256;
/// A token of a job.
const TOKEN: u64 = 128;
const ENDED_SESSION: u64 = 256;
/// Who has sent wrong credentials, and a credential that was right.
const SOURCE: u64 = 768;
/// That a job is to go to another runtime, without its lease.
const DEPARTURE: u64 = 512;
/// What is known of an artifact.
const ARTIFACT: u64 = 2 << 10;
/// Class and time of an event.
const EVENT: u64 = 6;
/// A filter that is compiled holds so many times its text.
const COMPILED: u64 = 4;
/// The place of a frame that was written out.
const FRAME_BUFFER: u64 = 1 << 10;
/// A connection is closed at so many times of what may be not durable.
const LOG_FLOOD: u64 = 4;

/// What so many connections, sessions and jobs may hold.
pub fn promised(limits: &Limits, connections: usize, sessions: usize, jobs: usize) -> u64 {
    let of = |count: usize, each: u64| count as u64 * each;
    let shared = limits.history.log_bytes
        + limits.delivery.rendered_bytes
        + limits.delivery.ahead_bytes
        + limits.job.waiting_input_bytes
        + limits.connection.waiting_bytes
        // What goes beyond a bound is one input.
        + limits.frame.frame_bytes;
    let shared = of(shared, 1)
        + of(limits.history.undurable_bytes, LOG_FLOOD)
        + of(limits.frame.frame_buffers, FRAME_BUFFER)
        + of(limits.job.input_checks, of(limits.frame.frame_bytes, 1))
        // What agents say while a child waits for the host, or much of their principal's for the store.
        + of(limits.job.running_jobs, limits.delivery.agent_credit_bytes as u64)
        // How they have ended meanwhile.
        + of(limits.job.running_jobs, limits.frame.result_bytes)
        + of(limits.delivery.index_bytes, 1)
        + of(limits.job.keys, KEY)
        + of(limits.artifact.artifacts + limits.artifact.artifact_uploads, ARTIFACT)
        + of(limits.family.departing_jobs, DEPARTURE + limits.job.lease_bytes as u64)
        + of(limits.artifact.artifact_operations, of(limits.artifact.artifact_bytes, 1))
        + of(limits.schedule.all_schedule_bytes, 1)
        + of(limits.workflow.all_workflow_bytes, 1)
        + of(limits.workflow.step_checks, limits.job.checked_input_bytes as u64)
        + of(limits.artifact.all_checkpoint_bytes, 1)
        + of(limits.schedule.schedule_plans, 2 * limits.schedule.schedule_bytes as u64)
        + of(limits.connection.wrong_credential_sources, SOURCE)
        + of(limits.session.ended_sessions, ENDED_SESSION);
    let session = SESSION
        + of(limits.session.seen_ids_per_session, SEEN)
        + of(limits.session.subscriptions_per_session, SUBSCRIPTION + of(limits.session.filter_bytes, COMPILED));
    let job = JOB
        + of(limits.job.lease_bytes, 1)
        + of(limits.job.checkpoint_bytes, 1)
        + of(limits.job.requests_per_job, REQUEST)
        + of(limits.credential.tokens_per_job + 1, TOKEN)
        + of(limits.prompt.open_streams_per_job, of(limits.prompt.stream_input_bytes, 1))
        + of(limits.history.kept_job_events, EVENT);
    let owned = of(connections, CONNECTION)
        + of(sessions.min(limits.session.sessions), session)
        + of(jobs.min(limits.job.jobs), job);
    RUNTIME + ROOM * (shared + owned)
}
