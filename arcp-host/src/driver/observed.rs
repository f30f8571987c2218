//! Notices, metrics and spans, and the messages of extensions.

use arcp_proto::id::SessionId;
use arcp_proto::model::request::Extension;
use arcp_proto::runtime::{Notice, Runtime};
use arcp_proto::time::Timestamp;

use super::{ExtensionTaker, Observer};
#[cfg(feature = "websocket")]
use crate::clock;
use crate::metrics::Metrics;
use crate::spans::Spans;

/// Who is told of notices, and what is counted.
pub(super) struct Observed {
    pub(super) metrics: Metrics,
    pub(super) spans: Spans,
    observer: Option<Observer>,
    extensions: Option<ExtensionTaker>,
    /// The time since which something is durable whose frames were not yet given to sockets.
    durable_since: Option<Timestamp>,
}

impl Observed {
    pub(super) fn new(
        metrics: Metrics,
        spans: Spans,
        observer: Option<Observer>,
        extensions: Option<ExtensionTaker>,
    ) -> Observed {
        Observed { metrics, spans, observer, extensions, durable_since: None }
    }

    /// Reports a notice.
    pub(super) fn notice(&mut self, notice: &Notice, runtime: &Runtime) {
        self.metrics.observe(notice, runtime);
        if let Some(observer) = &mut self.observer {
            observer(notice);
        }
    }

    /// Hands over a message of an extension that a client sent.
    pub(super) fn take_extension(&mut self, session: SessionId, message: Extension) {
        if let Some(take) = &mut self.extensions {
            take(session, message);
        }
    }

    /// A group became durable at this time.
    pub(super) fn durable(&mut self, since: Timestamp) {
        self.durable_since.get_or_insert(since);
    }

    /// All outputs were given to the sockets.
    #[cfg(feature = "websocket")]
    pub(super) fn fanned_out(&mut self) {
        if let Some(since) = self.durable_since.take() {
            self.metrics.fanned_out(clock::monotonic().since(since));
        }
    }
}
