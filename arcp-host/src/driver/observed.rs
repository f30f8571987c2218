//! What is told and counted of what happens, and who is given messages of extensions.

use arcp_proto::id::SessionId;
use arcp_proto::model::request::Extension;
use arcp_proto::runtime::{Notice, Runtime};
use arcp_proto::time::Timestamp;

use super::{ExtensionTaker, Observer};
#[cfg(feature = "websocket")]
use crate::clock;
use crate::metrics::Metrics;
use crate::spans::Spans;

/// Who is told, and what is counted.
pub(super) struct Observed {
    pub(super) metrics: Metrics,
    pub(super) spans: Spans,
    observer: Option<Observer>,
    extensions: Option<ExtensionTaker>,
    /// Since when something is durable that sockets were not given yet.
    durable_since: Option<Timestamp>,
}

impl Observed {
    /// Nothing has happened yet.
    pub(super) fn new(
        metrics: Metrics,
        spans: Spans,
        observer: Option<Observer>,
        extensions: Option<ExtensionTaker>,
    ) -> Observed {
        Observed { metrics, spans, observer, extensions, durable_since: None }
    }

    /// Something happened.
    pub(super) fn notice(&mut self, notice: &Notice, runtime: &Runtime) {
        self.metrics.observe(notice, runtime);
        if let Some(observer) = &mut self.observer {
            observer(notice);
        }
    }

    /// A client sent a message of an extension.
    pub(super) fn take_extension(&mut self, session: SessionId, message: Extension) {
        if let Some(take) = &mut self.extensions {
            take(session, message);
        }
    }

    /// A group is durable since then.
    pub(super) fn durable(&mut self, since: Timestamp) {
        self.durable_since.get_or_insert(since);
    }

    /// Every socket was given what there is for it.
    #[cfg(feature = "websocket")]
    pub(super) fn fanned_out(&mut self) {
        if let Some(since) = self.durable_since.take() {
            self.metrics.fanned_out(clock::monotonic().since(since));
        }
    }
}
