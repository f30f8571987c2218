//! Every bound of the runtime, in one place, with its default and what
//! happens when it is reached.

mod artifact;
mod family;
mod schedule;
mod streams;
mod workflow;

use core::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use crate::error::ConfigError;
use crate::lease::Fuel;
use crate::principal::Account;

pub use self::artifact::ArtifactLimits;
pub use self::family::FamilyLimits;
pub use self::schedule::ScheduleLimits;
pub use self::streams::StreamLimits;
pub use self::workflow::WorkflowLimits;

/// The bounds of a [`crate::runtime::Runtime`].
///
/// Each field says what it bounds, its default in parentheses, and what happens beyond it.
///
/// ```
/// use arcp_proto::limits::Limits;
/// assert!(Limits::default().validate().is_ok());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
// A recording from before a bound was added has a default for it. It holds all bounds in one object.
#[serde(default)]
pub struct Limits {
    /// Sizes of frames, events and results.
    #[serde(flatten)]
    pub frame: FrameLimits,
    /// Connections, and the data that waits for their peers or has partly arrived.
    #[serde(flatten)]
    pub connection: ConnectionLimits,
    /// Connections that carry several sessions as streams.
    #[serde(flatten)]
    pub stream: StreamLimits,
    /// Sessions, and what each may hold.
    #[serde(flatten)]
    pub session: SessionLimits,
    /// Jobs, their inputs, keys and restarts.
    #[serde(flatten)]
    pub job: JobLimits,
    /// Questions to people, interrupts and streams of jobs.
    #[serde(flatten)]
    pub prompt: PromptLimits,
    /// How far agents may be ahead of the store and of readers.
    #[serde(flatten)]
    pub delivery: DeliveryLimits,
    /// Events held in memory and kept in the store.
    #[serde(flatten)]
    pub history: HistoryLimits,
    /// Children of jobs, and jobs that are handed over.
    #[serde(flatten)]
    pub family: FamilyLimits,
    /// The audit trail.
    #[serde(flatten)]
    pub audit: AuditLimits,
    /// Credentials issued for jobs.
    #[serde(flatten)]
    pub credential: CredentialLimits,
    /// Proofs that leases are within others.
    #[serde(flatten)]
    pub lease: LeaseLimits,
    /// Artifacts and checkpoints.
    #[serde(flatten)]
    pub artifact: ArtifactLimits,
    /// Schedules.
    #[serde(flatten)]
    pub schedule: ScheduleLimits,
    /// Workflows.
    #[serde(flatten)]
    pub workflow: WorkflowLimits,
}

/// Sizes of frames, events and results.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FrameLimits {
    /// Largest inbound frame in bytes (4 MiB). Larger: an error; a WebSocket is closed with 1009.
    pub frame_bytes: usize,
    /// Largest frame before a session is open (64 KiB), so that unknown peers cannot make
    /// the runtime hold more. Larger: an error, then closed.
    pub handshake_frame_bytes: usize,
    /// Largest frame of a streamed result, as written (1 MiB): published
    /// clients refuse larger ones. Results are split to fit.
    pub result_frame_bytes: usize,
    /// Deepest JSON nesting accepted (120, which is also the maximum). Deeper: an error.
    pub json_depth: usize,
    /// Largest event body in bytes (900 KiB). Larger: a warning takes the place of
    /// the event; an agent that waits for the reply is refused; a checkpoint whose label is
    /// that long fails its agent.
    pub event_body_bytes: usize,
    /// Largest streamed result in bytes (256 MiB). Larger: the job fails.
    pub result_bytes: u64,
    /// Bytes of a binary message beside a frame (4 MiB). More: refused. Counts for [`ConnectionLimits::waiting_bytes`].
    pub sidecar_bytes: usize,
    /// Seconds for which a frame waits for its binary message (10). Longer: refused.
    pub sidecar_seconds: u64,
    /// Buffers of written frames, each of at most 1 KiB, that are kept for reuse (512: as many
    /// frames as a driver's window lets a connection have in flight). More are freed.
    pub frame_buffers: usize,
}

impl Default for FrameLimits {
    fn default() -> FrameLimits {
        FrameLimits {
            frame_bytes: 4 << 20,
            handshake_frame_bytes: 64 << 10,
            result_frame_bytes: 1 << 20,
            json_depth: 120,
            event_body_bytes: 900 << 10,
            result_bytes: 256 << 20,
            sidecar_bytes: 4 << 20,
            sidecar_seconds: 10,
            frame_buffers: 512,
        }
    }
}

/// Connections, and the data that waits for their peers or has partly arrived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConnectionLimits {
    /// Connections that have not finished their handshake (4,096). More: an
    /// adapter that knows addresses closes the one that was silent for longest in
    /// the network that has the most; otherwise the newest is closed.
    pub handshaking_connections: usize,
    /// Such connections from one network (an IPv4 address or a /64 of IPv6) or one
    /// user of a Unix socket (1,024). More: the one of them that was silent for longest
    /// is closed. Also the number of credentials from one network or user that are judged at once,
    /// those of peers that have left included. More: refused.
    pub handshaking_connections_per_network: usize,
    /// Wrong credentials within a minute from one network or user of a Unix
    /// socket, and wrong proofs in open sessions of one principal (30). More: refused unjudged, with
    /// the time to try again, except for credentials that were right before.
    pub wrong_credentials: usize,
    /// Networks, users and principals whose wrong credentials are remembered, and right credentials
    /// that are remembered (4,096 each). More: those that are due to be forgotten first are forgotten.
    pub wrong_credential_sources: usize,
    /// Credentials that the host has another party judge at once, such as an identity
    /// provider, each on a thread (64). More wait; networks take turns.
    pub judgements: usize,
    /// Credentials that wait for that (4,096). More: not judged, as if the other party did not answer.
    pub waiting_judgements: usize,
    /// Unfinished TLS handshakes (1,024); each holds up to 64 KiB. More: in the network that has
    /// the most, the connection whose handshake began first is closed.
    pub tls_handshakes: usize,
    /// Unfinished TLS handshakes of one network (256). More: the one of them that began
    /// first is closed.
    pub tls_handshakes_per_network: usize,
    /// Bytes of answers to WebSocket pings that one connection has not read
    /// (4 KiB). More: only the newest ping is answered, and if that answer cannot be
    /// written for `slow_reader_grace` the connection is closed.
    pub pong_bytes_per_connection: usize,
    /// Such bytes of all connections (4 MiB). More: each connection holds only one such answer.
    pub pong_bytes: usize,
    /// Bytes of partly received messages, of all connections (256
    /// MiB). More: in the network, or for the user of a Unix socket, that has sent most of
    /// them, the connection whose message began first is closed.
    pub partial_bytes: usize,
    /// Answers that wait for one connection (64). At half of it the connection
    /// is not read; at sixteen times of it the connection is closed.
    pub replies_per_connection: usize,
    /// Bytes of answers that wait for one connection (1 MiB). As above.
    pub reply_bytes_per_connection: usize,
    /// Bytes that wait for peers and hosts (1 GiB): answers, messages of extensions that
    /// the host has not taken, and frames behind an input that is checked. Each account may
    /// hold its `principal_share`. At that
    /// none of its connections is read; at twice of it those that still send are closed.
    pub waiting_bytes: usize,
    /// Entries read for one listing (10,000). Beyond: a short page with a cursor.
    pub list_scan: usize,
}

impl Default for ConnectionLimits {
    fn default() -> ConnectionLimits {
        ConnectionLimits {
            handshaking_connections: 4096,
            handshaking_connections_per_network: 1024,
            wrong_credentials: 30,
            wrong_credential_sources: 4096,
            judgements: 64,
            waiting_judgements: 4096,
            tls_handshakes: 1024,
            tls_handshakes_per_network: 256,
            pong_bytes_per_connection: 4 << 10,
            pong_bytes: 4 << 20,
            partial_bytes: 256 << 20,
            replies_per_connection: 64,
            reply_bytes_per_connection: 1 << 20,
            waiting_bytes: 1 << 30,
            list_scan: 10_000,
        }
    }
}

/// Sessions, and what each may hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionLimits {
    /// Sessions of one principal, attached or resumable (16,384). More: its oldest session ends
    /// that has no connection and no frames left to send; if there is none, the new one is refused.
    pub sessions_per_principal: usize,
    /// Anonymous sessions of one network, an IPv4 address or a /64 of IPv6 (1,024). As above. The
    /// other bounds of a principal hold for all of them together.
    pub anonymous_sessions_per_network: usize,
    /// Anonymous sessions of all networks (4,096). As above, whichever network the
    /// oldest belongs to.
    pub anonymous_sessions: usize,
    /// All sessions (65,536). As above: the oldest of the same principal, or else the oldest
    /// anonymous one.
    pub sessions: usize,
    /// Submits per second of one principal, or of one network without a credential, and
    /// the same number in a burst, over all its sessions (no bound). More: refused, with the
    /// time to try again. A repeated submit with the same key is not counted. A submit for which
    /// credentials are issued is counted whether or not it is accepted.
    pub submits_per_second: Option<NonZeroU32>,
    /// Percent of `sessions`, `jobs`, `unfinished_bytes`, `running_jobs`,
    /// `waiting_input_bytes`, `index_bytes` and `keys` that only principals with a credential may
    /// use (25). For anonymous sessions these bounds are lower by as much.
    pub reserve: u8,
    /// Ended sessions that are remembered, so that a late resume is told why it fails (16,384).
    /// More: the oldest are forgotten.
    pub ended_sessions: usize,
    /// Bytes of a session's messages of extensions that the host has
    /// not taken (4 MiB). At it the session's connection is not read.
    pub extension_bytes: usize,
    /// Commands whose ids and outcomes are remembered (256): per session, or,
    /// where ids belong to the principal, per principal, or per network without a
    /// credential. More: the oldest are forgotten.
    pub seen_ids_per_session: usize,
    /// Bytes of all such commands of one principal, or of one network without a credential (32
    /// MiB). More: the oldest of the session that adds one are forgotten, except its last one.
    pub seen_bytes_per_principal: usize,
    /// Jobs watched by one session (1,024). More: refused.
    pub watches_per_session: usize,
    /// Subscriptions of one session (16). More: refused.
    pub subscriptions_per_session: usize,
    /// Subscriptions of one principal, or of one network without a
    /// credential (256): each is sent every event of its jobs. More: refused.
    pub subscriptions_per_principal: usize,
    /// Bytes of the lists in one filter (16 KiB). More: refused.
    pub filter_bytes: usize,
    /// Events of history that one subscription may request (262,144). More: refused.
    pub backfill_events: u64,
}

impl Default for SessionLimits {
    fn default() -> SessionLimits {
        SessionLimits {
            sessions_per_principal: 16_384,
            anonymous_sessions_per_network: 1024,
            anonymous_sessions: 4096,
            sessions: 65_536,
            submits_per_second: None,
            reserve: 25,
            ended_sessions: 16_384,
            extension_bytes: 4 << 20,
            seen_ids_per_session: 256,
            seen_bytes_per_principal: 32 << 20,
            watches_per_session: 1024,
            subscriptions_per_session: 16,
            subscriptions_per_principal: 256,
            filter_bytes: 16 << 10,
            backfill_events: 262_144,
        }
    }
}

/// Jobs, their inputs, keys and restarts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobLimits {
    /// Unfinished jobs of one principal (4,096). More: refused.
    pub jobs_per_principal: usize,
    /// All jobs, ended ones included (131,072). More: an ended job is
    /// forgotten, the first that ended of the same principal, or else of the account whose ended jobs
    /// hold most; if no job has ended, refused.
    pub jobs: usize,
    /// Bytes of input and extensions of one principal's jobs that have not started (256 MiB).
    /// More: refused.
    pub waiting_input_bytes_per_principal: usize,
    /// Bytes of input and extensions of all jobs that have not started (1 GiB). More: refused.
    pub waiting_input_bytes: usize,
    /// Largest input of an agent whose inputs are checked, in bytes (1 MiB). Larger: refused.
    pub checked_input_bytes: usize,
    /// Inputs and answers that are checked at once (64), and as many questions and inputs of
    /// children. Each account may have its `principal_share`. More: refused.
    pub input_checks: usize,
    /// Largest lease request in bytes (8 KiB), as every listing shows it. Larger: refused.
    pub lease_bytes: usize,
    /// Ended jobs of one principal that are kept for listings (16,384). More: the
    /// oldest are forgotten early.
    pub ended_jobs_per_principal: usize,
    /// Agents that run at once (256). Children count without the agents that wait for them,
    /// other jobs with those. More: jobs wait; principals take turns.
    pub running_jobs: usize,
    /// Percent of what the others leave of `running_jobs`, `jobs`, `unfinished_bytes`,
    /// `waiting_input_bytes`, `waiting_bytes`, `undurable_bytes`, `index_bytes` and other bounds
    /// that one account may hold, but at least one (25; with 100 the first account may take
    /// everything). More: what that bound says, for this account alone.
    pub principal_share: u32,
    /// Requests through which sessions have access to one job (1,024). More: refused,
    /// except for repeated messages.
    pub requests_per_job: usize,
    /// Idempotency keys held for one principal (524,288). More: a submit with a new key is refused.
    pub keys_per_principal: usize,
    /// Idempotency keys held for all principals (1,048,576). As above.
    pub keys: usize,
    /// Bytes of one checkpoint (1 MiB). Larger: the job fails.
    pub checkpoint_bytes: usize,
    /// How often a job is started again after the runtime ended (3). More: the job
    /// fails, as it may be what ends the runtime.
    pub restarts: u32,
}

impl Default for JobLimits {
    fn default() -> JobLimits {
        JobLimits {
            jobs_per_principal: 4096,
            jobs: 131_072,
            waiting_input_bytes_per_principal: 256 << 20,
            waiting_input_bytes: 1 << 30,
            checked_input_bytes: 1 << 20,
            input_checks: 64,
            lease_bytes: 8 << 10,
            ended_jobs_per_principal: 16_384,
            running_jobs: 256,
            principal_share: 25,
            requests_per_job: 1024,
            keys_per_principal: 524_288,
            keys: 1_048_576,
            checkpoint_bytes: 1 << 20,
            restarts: 3,
        }
    }
}

/// Credentials issued for jobs, and job tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CredentialLimits {
    /// Jobs that have credentials, await some, or had some whose revocation is not confirmed
    /// (4,096); each account may have its `principal_share`. More: refused.
    pub jobs_with_credentials: usize,
    /// Credentials of one job (8). More: revoked at once. Also the number of values that its agent
    /// chose and that were not issued, which are masked all the same. More: it may choose no other value.
    pub credentials_per_job: usize,
    /// Valid tokens of one job (4). More: the first of them becomes invalid.
    pub tokens_per_job: usize,
}

impl Default for CredentialLimits {
    fn default() -> CredentialLimits {
        CredentialLimits { jobs_with_credentials: 4096, credentials_per_job: 8, tokens_per_job: 4 }
    }
}

/// Proofs that leases and permissions are within others and within ceilings,
/// measured in units of [`Fuel`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LeaseLimits {
    /// Units for one request (1,048,576: about 2.5 ms of a core). More: refused, with the
    /// pattern that took too much.
    pub proof_units: u32,
    /// Units per second for one principal, or one network without a credential
    /// (16,777,216: about 40 ms of a core), with a quarter of that in a burst. More: a request
    /// that needs a proof is refused, with the time to try again.
    pub proof_units_per_second: NonZeroU32,
}

impl Default for LeaseLimits {
    fn default() -> LeaseLimits {
        let per_second = NonZeroU32::MIN.saturating_add((1 << 24) - 1);
        LeaseLimits { proof_units: Fuel::USUAL, proof_units_per_second: per_second }
    }
}

/// Questions to people, interrupts and streams of jobs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PromptLimits {
    /// Unanswered questions of one job (16). More: the agent that asks is refused. As many answered
    /// or expired questions are remembered, and as many permissions held.
    pub open_prompts_per_job: usize,
    /// Bytes of one question with its schema, options and default (16 KiB). Larger:
    /// the agent that asks is refused.
    pub question_bytes: usize,
    /// Bytes of one answer (64 KiB). Larger: refused.
    pub answer_bytes: usize,
    /// Interrupts of one job from which its agent has not gone on (4). More: refused.
    pub open_interrupts_per_job: usize,
    /// Bytes of the text of one interrupt (4 KiB). More: refused.
    pub interrupt_bytes: usize,
    /// Open streams of one job (16). More: refused, or dropped with a warning.
    pub open_streams_per_job: usize,
    /// Bytes of one stream to an agent that it has not taken (64 KiB). More: a chunk is refused.
    pub stream_input_bytes: usize,
}

impl Default for PromptLimits {
    fn default() -> PromptLimits {
        PromptLimits {
            open_prompts_per_job: 16,
            question_bytes: 16 << 10,
            answer_bytes: 64 << 10,
            open_interrupts_per_job: 4,
            interrupt_bytes: 4 << 10,
            open_streams_per_job: 16,
            stream_input_bytes: 64 << 10,
        }
    }
}

/// The audit trail: records of decisions about authority.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuditLimits {
    /// Entries of the audit trail (65,536; 0: none is written). More: the oldest goes, of the principal
    /// that has most, or the network without a credential.
    pub audit_entries: usize,
    /// Principals, and networks without a credential, whose refusals are counted at once
    /// (256). More: the refusals of others are counted together, without a principal.
    pub audited_refusals: usize,
}

impl Default for AuditLimits {
    fn default() -> AuditLimits {
        AuditLimits { audit_entries: 65_536, audited_refusals: 256 }
    }
}

/// How far agents may be ahead of the store and of readers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeliveryLimits {
    /// Numbered frames by which a connected session may be behind on jobs that it watches
    /// or is subscribed to (131,072). At half of it the session is told; at all of it
    /// it is detached from them, with a reason.
    pub watch_lag: u64,
    /// Numbered frames by which a client that acknowledges may be behind with its acknowledgements
    /// (1,000). More: it is told once.
    pub ack_lag: u64,
    /// Events that an agent may emit ahead of the store and its submitter (256), which is how many
    /// can share the cost of one commit. Beyond: its call waits.
    pub agent_credit: u32,
    /// Bytes of calls that an agent may make ahead of the store and its submitter
    /// (1 MiB), but at least one call. Beyond: its call waits.
    pub agent_credit_bytes: usize,
    /// Calls of one agent that wait for a reply (64). Beyond: another one is
    /// not done, and its reply says so.
    pub open_calls_per_job: usize,
    /// Prices of one job that are reserved and not settled (64). More: the agent
    /// that asks is refused.
    pub reservations_per_job: usize,
    /// Numbered frames by which an attached submitter may be behind before its agents
    /// are paced (1,024).
    pub pace_events: u64,
    /// Bytes of events, appended while a submitter was attached, that it was
    /// not sent, before its agents are paced (2 MiB). They stay in memory.
    pub pace_bytes: usize,
    /// Events read back from the store at once (256).
    pub load_events: u64,
    /// Bytes of events read back at once (1 MiB), but at least one event.
    pub load_bytes: usize,
    /// Jobs of which one session holds events read back (8). More: those of
    /// another job are dropped.
    pub loads_per_session: usize,
    /// Bytes read back and not sent yet, of all sessions (64 MiB). More: sessions that
    /// cannot be sent frames drop theirs, and read them again later.
    pub ahead_bytes: usize,
    /// Bytes of payloads kept, besides their events, because several sessions are sent them (64
    /// MiB). More: the oldest are dropped, and written again for sessions that still need them.
    pub rendered_bytes: usize,
    /// Runs in one session's index (1,048,576); a run is events of one job in a row. More: the
    /// oldest are dropped; a session that still needs them gets `RESUME_WINDOW_EXPIRED`.
    pub index_runs_per_session: usize,
    /// Bytes of all indexes (1 GiB), about a hundred for each run; each account may hold its
    /// `principal_share`. As above, for the index that grows.
    pub index_bytes: usize,
}

impl Default for DeliveryLimits {
    fn default() -> DeliveryLimits {
        DeliveryLimits {
            watch_lag: 131_072,
            ack_lag: 1000,
            agent_credit: 256,
            agent_credit_bytes: 1 << 20,
            open_calls_per_job: 64,
            reservations_per_job: 64,
            pace_events: 1024,
            pace_bytes: 2 << 20,
            load_events: 256,
            load_bytes: 1 << 20,
            loads_per_session: 8,
            ahead_bytes: 64 << 20,
            rendered_bytes: 64 << 20,
            index_runs_per_session: 1 << 20,
            index_bytes: 1 << 30,
        }
    }
}

/// Events held in memory and kept in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HistoryLimits {
    /// Events of one job held in memory (65,536). More: the oldest are dropped; a store gives them
    /// back. Without one, a session that still needs them gets `RESUME_WINDOW_EXPIRED`, except an
    /// attached submitter, for which its agents wait. Events that are not durable stay in any case:
    /// at most as many as the agent may emit ahead of the store (`agent_credit`).
    pub job_events: usize,
    /// Bytes of events of one job held in memory (64 MiB). As above.
    pub job_event_bytes: usize,
    /// Bytes of events of all jobs held in memory (1 GiB). As above. Events of
    /// ended jobs go first: of the account that holds most, those of the job that ended first.
    pub log_bytes: usize,
    /// Events of one job kept in the store (1,048,576). More: the oldest are deleted, about a
    /// thousandth of the bound at once. A session that still needs them gets
    /// `RESUME_WINDOW_EXPIRED`; a watcher that was not sent them yet is detached from the job.
    pub kept_job_events: usize,
    /// Bytes of events of one job kept in the store (1 GiB). As above.
    pub kept_job_bytes: usize,
    /// Bytes of events of all jobs kept in the store (8 GiB). As above. Events of ended jobs go
    /// first: of the account that keeps most, those of the job that ended first. When a job ends,
    /// such jobs are forgotten early, as far as their events and inputs need the room.
    pub kept_bytes: u64,
    /// Bytes of all unfinished jobs, besides their inputs and the bodies of their events (1 GiB):
    /// requests, questions, and six bytes for each event. Each account may hold its
    /// `principal_share`. More: a submit, a delegation or a question is refused.
    pub unfinished_bytes: usize,
    /// Bytes that all ended jobs hold in memory, besides the bodies of their events (256 MiB).
    /// More: of the account that holds most, the jobs that ended first are forgotten early.
    pub ended_bytes: usize,
    /// Bytes of records that are not durable (64 MiB). At it no connection is read; at four times
    /// of it connections that still send are closed. Each account may cause its `principal_share`;
    /// at that none of its own connections is read.
    pub undurable_bytes: usize,
    /// Bytes of records that one account has caused and that are not durable (2 MiB): other accounts' records wait
    /// behind them, however many jobs it runs. At it calls of its agents wait, in turn; heartbeats do not.
    pub agent_undurable_bytes: usize,
}

impl Default for HistoryLimits {
    fn default() -> HistoryLimits {
        HistoryLimits {
            job_events: 65_536,
            job_event_bytes: 64 << 20,
            log_bytes: 1 << 30,
            kept_job_events: 1 << 20,
            kept_job_bytes: 1 << 30,
            kept_bytes: 8 << 30,
            unfinished_bytes: 1 << 30,
            ended_bytes: 256 << 20,
            undurable_bytes: 64 << 20,
            agent_undurable_bytes: 2 << 20,
        }
    }
}

impl Limits {
    /// Bounds for a device: a few peers, a few agents at once, and a few
    /// megabytes in total, however its peers behave. Frames have at most
    /// 64 KiB, results 1 MiB; the store keeps at most 16 MiB of events.
    ///
    /// ```
    /// use arcp_proto::{limits::Limits, runtime::Config};
    /// let mut config = Config::new("thermostat", "1.0.0");
    /// config.limits = Limits::small();
    /// config.limits.job.running_jobs = 2;
    /// assert!(config.validate().is_ok());
    /// ```
    pub fn small() -> Limits {
        Limits {
            frame: FrameLimits {
                frame_bytes: 64 << 10,
                handshake_frame_bytes: 8 << 10,
                result_frame_bytes: 16 << 10,
                json_depth: 32,
                event_body_bytes: 16 << 10,
                result_bytes: 128 << 10,
                sidecar_bytes: 16 << 10,
                sidecar_seconds: 10,
                frame_buffers: 16,
            },
            connection: ConnectionLimits {
                handshaking_connections: 8,
                handshaking_connections_per_network: 8,
                wrong_credentials: 30,
                wrong_credential_sources: 64,
                judgements: 2,
                waiting_judgements: 8,
                tls_handshakes: 4,
                tls_handshakes_per_network: 4,
                pong_bytes_per_connection: 1 << 10,
                pong_bytes: 8 << 10,
                partial_bytes: 256 << 10,
                replies_per_connection: 16,
                reply_bytes_per_connection: 4 << 10,
                waiting_bytes: 512 << 10,
                list_scan: 1000,
            },
            stream: StreamLimits::small(),
            session: SessionLimits {
                sessions_per_principal: 8,
                anonymous_sessions_per_network: 4,
                anonymous_sessions: 4,
                sessions: 16,
                ended_sessions: 64,
                extension_bytes: 8 << 10,
                seen_ids_per_session: 16,
                seen_bytes_per_principal: 32 << 10,
                watches_per_session: 16,
                subscriptions_per_session: 2,
                subscriptions_per_principal: 4,
                filter_bytes: 1 << 10,
                backfill_events: 2048,
                ..SessionLimits::default()
            },
            job: JobLimits {
                jobs_per_principal: 16,
                jobs: 32,
                waiting_input_bytes_per_principal: 64 << 10,
                waiting_input_bytes: 128 << 10,
                checked_input_bytes: 16 << 10,
                input_checks: 2,
                lease_bytes: 1 << 10,
                ended_jobs_per_principal: 16,
                running_jobs: 4,
                requests_per_job: 32,
                keys_per_principal: 128,
                keys: 256,
                checkpoint_bytes: 16 << 10,
                ..JobLimits::default()
            },
            lease: LeaseLimits { proof_units: 1 << 17, ..LeaseLimits::default() },
            delivery: DeliveryLimits {
                watch_lag: 1024,
                ack_lag: 256,
                agent_credit: 32,
                agent_credit_bytes: 32 << 10,
                pace_events: 128,
                pace_bytes: 64 << 10,
                load_events: 32,
                load_bytes: 32 << 10,
                loads_per_session: 2,
                ahead_bytes: 64 << 10,
                rendered_bytes: 64 << 10,
                index_runs_per_session: 512,
                index_bytes: 512 << 10,
                ..DeliveryLimits::default()
            },
            credential: CredentialLimits { jobs_with_credentials: 4, credentials_per_job: 2, tokens_per_job: 2 },
            family: FamilyLimits::small(),
            audit: AuditLimits { audit_entries: 1024, audited_refusals: 16 },
            artifact: ArtifactLimits::small(),
            schedule: ScheduleLimits {
                schedules_per_principal: 8,
                schedules: 32,
                schedule_bytes: 4 << 10,
                all_schedule_bytes: 128 << 10,
                missed_firings: 4,
                queued_firings: 4,
                schedule_plans: 2,
            },
            workflow: WorkflowLimits::small(),
            prompt: PromptLimits {
                open_prompts_per_job: 4,
                question_bytes: 4 << 10,
                answer_bytes: 4 << 10,
                open_interrupts_per_job: 2,
                interrupt_bytes: 1 << 10,
                open_streams_per_job: 4,
                stream_input_bytes: 4 << 10,
            },
            history: HistoryLimits {
                job_events: 256,
                job_event_bytes: 64 << 10,
                log_bytes: 256 << 10,
                kept_job_events: 2048,
                kept_job_bytes: 1 << 20,
                kept_bytes: 16 << 20,
                undurable_bytes: 128 << 10,
                agent_undurable_bytes: 64 << 10,
                unfinished_bytes: 512 << 10,
                ..HistoryLimits::default()
            },
        }
    }

    /// The share of a bound that an account may use: an anonymous one cannot use the reserve.
    pub(crate) fn total_for(&self, account: &Account, bound: usize) -> usize {
        if account.is_anonymous() { self.without_reserve(bound) } else { bound }
    }

    /// A bound without the reserve; at least one.
    pub(crate) fn without_reserve(&self, bound: usize) -> usize {
        let kept = (bound as u128 * u128::from(self.session.reserve)).div_ceil(100) as usize;
        bound.saturating_sub(kept).max(1)
    }

    /// Checks that every bound is within its range.
    ///
    /// # Errors
    ///
    /// The first bound that is not.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let at_least = |name, value: u64, min: u64, expected| {
            (value >= min).then_some(()).ok_or(ConfigError::Limit { name, value, expected })
        };
        at_least("frame_bytes", self.frame.frame_bytes as u64, 1024, "1024 or more")?;
        at_least("handshake_frame_bytes", self.frame.handshake_frame_bytes as u64, 1024, "1024 or more")?;
        at_least("result_frame_bytes", self.frame.result_frame_bytes as u64, 4096, "4096 or more")?;
        at_least("json_depth", self.frame.json_depth as u64, 8, "8 to 120")?;
        if self.frame.json_depth > crate::json::Json::MAX_DEPTH {
            let value = self.frame.json_depth as u64;
            return Err(ConfigError::Limit { name: "json_depth", value, expected: "8 to 120" });
        }
        at_least("handshaking_connections", self.connection.handshaking_connections as u64, 1, "1 or more")?;
        let of_network = self.connection.handshaking_connections_per_network as u64;
        at_least("handshaking_connections_per_network", of_network, 1, "1 or more")?;
        at_least("wrong_credentials", self.connection.wrong_credentials as u64, 1, "1 or more")?;
        at_least("judgements", self.connection.judgements as u64, 1, "1 or more")?;
        at_least("tls_handshakes", self.connection.tls_handshakes as u64, 1, "1 or more")?;
        let of_network = self.connection.tls_handshakes_per_network as u64;
        at_least("tls_handshakes_per_network", of_network, 1, "1 or more")?;
        self.stream.validate()?;
        if self.session.reserve > 90 {
            let value = u64::from(self.session.reserve);
            return Err(ConfigError::Limit { name: "reserve", value, expected: "0 to 90" });
        }
        at_least("jobs", self.job.jobs as u64, 1, "1 or more")?;
        at_least("running_jobs", self.job.running_jobs as u64, 1, "1 or more")?;
        at_least("principal_share", u64::from(self.job.principal_share), 1, "1 to 100")?;
        if self.job.principal_share > 100 {
            let value = u64::from(self.job.principal_share);
            return Err(ConfigError::Limit { name: "principal_share", value, expected: "1 to 100" });
        }
        at_least("replies_per_connection", self.connection.replies_per_connection as u64, 2, "2 or more")?;
        at_least(
            "reply_bytes_per_connection",
            self.connection.reply_bytes_per_connection as u64,
            1024,
            "1024 or more",
        )?;
        at_least("undurable_bytes", self.history.undurable_bytes as u64, 1024, "1024 or more")?;
        at_least("agent_undurable_bytes", self.history.agent_undurable_bytes as u64, 1, "1 or more")?;
        at_least("extension_bytes", self.session.extension_bytes as u64, 1, "1 or more")?;
        at_least("watch_lag", self.delivery.watch_lag, 16, "16 or more")?;
        at_least("requests_per_job", self.job.requests_per_job as u64, 1, "1 or more")?;
        at_least("agent_credit", u64::from(self.delivery.agent_credit), 1, "1 or more")?;
        at_least("agent_credit_bytes", self.delivery.agent_credit_bytes as u64, 1, "1 or more")?;
        at_least("open_calls_per_job", self.delivery.open_calls_per_job as u64, 1, "1 or more")?;
        at_least("stream_input_bytes", self.prompt.stream_input_bytes as u64, 1, "1 or more")?;
        at_least("open_prompts_per_job", self.prompt.open_prompts_per_job as u64, 1, "1 or more")?;
        at_least("job_events", self.history.job_events as u64, 16, "16 or more")?;
        at_least("schedule_plans", self.schedule.schedule_plans as u64, 1, "1 or more")?;
        at_least("concurrent_steps", self.workflow.concurrent_steps as u64, 1, "1 or more")?;
        at_least("load_events", self.delivery.load_events, 1, "1 or more")?;
        at_least("loads_per_session", self.delivery.loads_per_session as u64, 1, "1 or more")?;
        at_least("index_runs_per_session", self.delivery.index_runs_per_session as u64, 16, "16 or more")?;
        at_least("index_bytes", self.delivery.index_bytes as u64, 4096, "4096 or more")?;
        at_least("list_scan", self.connection.list_scan as u64, 1, "1 or more")
    }
}
