//! The edge: the part that handles peers until their principals are known. Frames, the choice of
//! the family, challenges, credentials.

mod arrivals;
mod channel;
mod evidence;
mod handshake;
mod judging;
mod wrong_credentials;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::fmt;

pub(super) use arrivals::{Arrivals, Arrived, NewConnection, late, too_long};
pub(super) use channel::Channel;
pub(super) use evidence::{Evidence, not_judged, wrong_proof};
pub(super) use handshake::{Opening, Wish};
pub(super) use wrong_credentials::Source;

use super::config::Config;
use super::context::Context;
use super::io::{CloseReason, Credit, Deadline, HandOver, Input, Output, Transport};
use super::timers::Timer;
use crate::entropy::Seeds;
use crate::error::ConfigError;
use crate::id::ConnId;
use crate::time::Now;

/// An edge stands in front of several runtimes in one process. It handles peers until their
/// principals are known, then hands them over, each with the frame that opened it.
///
/// A single [`Runtime`](super::Runtime) needs no edge: it does the same inside. Where there are
/// several runtimes, such as one for each group of principals, a connection is opened at the edge,
/// which gets all its inputs until it gives [`EdgeOutput::HandOver`]. The driver chooses a runtime
/// by [`HandOver::principal`], and gives it [`Input::HandedOver`] and all later inputs of that
/// connection.
///
/// # Contract
///
/// That of a runtime: `handle` takes an input and never fails, `poll_output` gives outputs in one
/// total order, `next_deadline` says when to call again. Ids of operations are the edge's own: an
/// `Authenticate` of the edge is answered at the edge.
///
/// ```
/// use arcp_proto::entropy::Seeds;
/// use arcp_proto::id::{ConnId, Principal};
/// use arcp_proto::runtime::{Config, Edge, EdgeOutput, Input, Output, Runtime, Transport, Verdict};
/// use arcp_proto::time::Now;
///
/// let (config, now) = (Config::new("doc", "1"), Now::default());
/// let seeds = |n| Seeds { public: [n; 32], secret: [n + 1; 32] };
/// let mut edge = Edge::new(config.clone(), seeds(1), now)?;
/// let mut runtimes = [Runtime::new(config.clone(), seeds(3), now)?, Runtime::new(config, seeds(5), now)?];
///
/// let conn = ConnId(1);
/// let opened =
///     Input::Opened { conn, transport: Transport::WebSocket, address: None, binding: None, peer: None };
/// edge.handle(now, opened);
/// edge.handle(now, Input::Credit { conn, bytes: 65_536, frames: 64 });
/// let hello = br#"{"id":"1","type":"session.hello","payload":{"auth":{"scheme":"bearer","token":"t"}}}"#;
/// edge.handle(now, Input::Received { conn, frame: hello.to_vec() });
/// while let Some(output) = edge.poll_output() {
///     match output {
///         EdgeOutput::Perform(Output::Authenticate { op, .. }) => {
///             let verdict = Principal::new("alice").map(Verdict::from);
///             edge.handle(now, Input::Authenticated { op, verdict });
///         }
///         EdgeOutput::Perform(_) => {}
///         EdgeOutput::HandOver(handed) => {
///             let alice = handed.principal().expect("somebody vouches for it").to_string();
///             runtimes[alice.len() % 2].handle(now, Input::HandedOver(handed));
///         }
///     }
/// }
/// assert_eq!(runtimes[1].stats().sessions, 1);
/// # Ok::<(), arcp_proto::error::ConfigError>(())
/// ```
pub struct Edge {
    ctx: Context,
    arrivals: Arrivals,
    /// The opening frames of the peers, by connection.
    frames: BTreeMap<ConnId, Vec<u8>>,
    outputs: VecDeque<EdgeOutput>,
}

/// Leaves frames out: they may hold credentials.
impl fmt::Debug for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Edge").field("arrivals", &self.arrivals).finish_non_exhaustive()
    }
}

/// Something for the driver to do, in the order given.
#[derive(Clone, Debug, PartialEq)]
pub enum EdgeOutput {
    /// As for a runtime: [`Output::Send`], [`Output::Close`], [`Output::Authenticate`] or
    /// [`Output::Observe`].
    Perform(Output),
    /// Hand a connection, whose peer is known, to a runtime. The edge has forgotten it.
    HandOver(Box<HandOver>),
}

impl Edge {
    /// An edge without connections, with the configuration of the runtimes
    /// behind it.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the configuration cannot work.
    pub fn new(config: Config, seeds: Seeds, now: Now) -> Result<Edge, ConfigError> {
        let mut config = config;
        // Only a runtime, which has a store, keeps an audit trail.
        config.limits.audit.audit_entries = 0;
        Ok(Edge {
            ctx: Context::new(config, &seeds, now)?,
            arrivals: Arrivals::default(),
            frames: BTreeMap::new(),
            outputs: VecDeque::new(),
        })
    }

    /// Takes one input: about a connection that was not handed over, the answer to an
    /// `Authenticate` of the edge, or time. Others change nothing.
    pub fn handle(&mut self, now: Now, input: Input) {
        self.ctx.advance(now, &input);
        self.fire_timers();
        match input {
            Input::Opened { conn, transport, address, binding, peer } => {
                let opened = NewConnection { conn, transport, address, binding, peer };
                self.arrivals.on_opened(&mut self.ctx, opened, 0);
            }
            Input::Received { conn, frame } | Input::ReceivedBinary { conn, message: frame } => {
                self.on_received(conn, frame);
            }
            Input::TooLong { conn } => self.arrivals.on_too_long(&mut self.ctx, conn),
            Input::Credit { conn, bytes, frames } => self.arrivals.on_credit(&mut self.ctx, conn, bytes, frames),
            Input::Closed { conn } => {
                self.arrivals.forget(&mut self.ctx, conn);
                self.frames.remove(&conn);
            }
            Input::Authenticated { op, verdict } => {
                if let Some(conn) = self.arrivals.judging_mut().conn(op) {
                    let arrived = self.arrivals.on_judged(&mut self.ctx, conn, op, verdict);
                    self.hand_over(arrived);
                }
            }
            Input::NotJudged { op } => {
                if let Some(conn) = self.arrivals.judging_mut().conn(op) {
                    self.arrivals.on_not_judged(&mut self.ctx, conn, op);
                }
            }
            Input::JudgedElsewhere { address, credential, counts } => {
                self.arrivals.judging_mut().note(&self.ctx, &[Source::of(address)], credential, counts);
            }
            Input::Reseed(seeds) => self.ctx.entropy.reseed(&seeds),
            Input::Tick
            | Input::HandedOver(_)
            | Input::Persisted { .. }
            | Input::PersistFailed { .. }
            | Input::Agent { .. }
            | Input::AgentSays { .. }
            | Input::AgentAsked { .. }
            | Input::AgentExited { .. }
            | Input::Loaded { .. }
            | Input::BlobStored { .. }
            | Input::BlobRead { .. }
            | Input::SchedulePlanned { .. }
            | Input::ExtensionTaken { .. }
            | Input::SendExtension { .. }
            | Input::Operator(_)
            | Input::InputChecked { .. }
            | Input::CredentialsIssued { .. }
            | Input::HandedOff { .. }
            | Input::CredentialsRevoked { .. }
            | Input::Agents { .. }
            | Input::Restore { .. }
            | Input::Restored { .. } => {}
        }
        while let Some(conn) = self.ctx.next_ready() {
            self.arrivals.pump(&mut self.ctx, conn);
        }
        self.perform();
    }

    /// The next output; `None` if there is none left.
    #[must_use]
    pub fn poll_output(&mut self) -> Option<EdgeOutput> {
        self.outputs.pop_front()
    }

    /// When to call [`handle`](Self::handle) again at the latest, and why.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Deadline> {
        self.ctx.next_deadline()
    }

    /// The number of its connections.
    pub fn connections(&self) -> usize {
        self.arrivals.len()
    }

    fn on_received(&mut self, conn: ConnId, frame: Vec<u8>) {
        let is_first = self.arrivals.is_fresh(conn);
        let arrived = self.arrivals.on_received(&mut self.ctx, conn, &frame);
        if is_first {
            self.frames.insert(conn, frame);
        }
        self.hand_over(arrived);
    }

    fn hand_over(&mut self, arrived: Option<Arrived>) {
        let Some(Arrived { opening, view, channel, evidence }) = arrived else {
            return; // The peer was refused, or has not proved its principal yet.
        };
        let conn = channel.id();
        let Some(frame) = self.frames.remove(&conn) else {
            debug_assert!(false, "{conn:?} opened with a frame");
            return;
        };
        self.ctx.timers.clear(Timer::Handshake(conn));
        self.ctx.timers.clear(Timer::Stalled(conn));
        let (bytes, frames) = channel.credit();
        let Evidence { peer, outvoted: _, address, binding, scheme: _, nonce, failures } = evidence;
        let handed = HandOver {
            conn,
            transport: match (view.lines, view.beside) {
                (false, _) => Transport::WebSocket,
                (true, false) => Transport::Lines,
                (true, true) => Transport::LinesBeside,
            },
            address,
            peer: peer.map(|peer| *peer),
            binding,
            frame,
            request: opening.request,
            verdict: opening.verdict,
            nonce,
            failures,
            credit: Credit { bytes, frames },
        };
        self.perform();
        self.outputs.push_back(EdgeOutput::HandOver(Box::new(handed)));
    }

    fn fire_timers(&mut self) {
        while let Some(timer) = self.ctx.pop_due() {
            match timer {
                Timer::Handshake(conn) => self.arrivals.on_handshake_timeout(&mut self.ctx, conn),
                Timer::Stalled(conn) => self.arrivals.leave(&mut self.ctx, conn, CloseReason::SlowReader),
                Timer::Heartbeat(_)
                | Timer::InputCheck(_)
                | Timer::Hold(_)
                | Timer::EndMissed(_)
                | Timer::LeaseExpiry(_)
                | Timer::Prompt(_)
                | Timer::ResumeWindow(_)
                | Timer::SessionLease(_)
                | Timer::Pace(_)
                | Timer::StreamPace(_)
                | Timer::JobHeartbeat(_)
                | Timer::AgentSilence(_)
                | Timer::MaxRuntime(_)
                | Timer::CancelGrace(_)
                | Timer::Retention(_)
                | Timer::Purge(_)
                | Timer::Arrived(_)
                | Timer::KeyExpiry
                | Timer::Artifacts
                | Timer::Schedules
                | Timer::Workflow(_)
                | Timer::Backlog
                | Timer::Checkpoint(_)
                | Timer::Audit
                | Timer::Read(_)
                | Timer::RevocationGrace(_)
                | Timer::RevokeAgain(_)
                | Timer::Renewal(_)
                | Timer::Delegation(_)
                | Timer::Provision(_)
                | Timer::Departure(_)
                | Timer::Sidecar(_)
                | Timer::StoreRetry => debug_assert!(false, "{timer:?} is a runtime's"),
            }
        }
    }

    /// Moves the outputs of arrivals to its own, and drops the frames of connections that are
    /// closed.
    fn perform(&mut self) {
        while let Some(output) = self.ctx.poll_output() {
            if let Output::Close { conn, .. } = &output {
                self.frames.remove(conn);
            }
            self.outputs.push_back(EdgeOutput::Perform(output));
        }
    }
}
