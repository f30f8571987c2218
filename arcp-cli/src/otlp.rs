//! `arcp serve --otlp`: the spans of a runtime, sent to whoever collects them by
//! [OTLP](https://opentelemetry.io/docs/specs/otlp/) over HTTP, as protobuf.
//!
//! Their numbers and times are said by `arcp_host::spans`, so that they are the same over
//! restarts: the tracer of an SDK would give them numbers of its own. What is open is held
//! by the subscriber; what has ended waits in a [`Queue`] of bounded size for the thread
//! that sends it, and nobody waits for that one.

mod frames;
mod layer;
mod queue;
mod sender;
mod settings;

use std::sync::Arc;
use std::time::Duration;

use arcp_host::server_log::log;
use arcp_host::spans::SpanCounts;
use tracing_subscriber::layer::SubscriberExt as _;

use self::layer::SpanLayer;
use self::queue::Queue;
use self::sender::Sender;
use self::settings::Settings;
use crate::args::Serve;
use crate::exit::{Exit, Failure};

/// How long the end of the program waits for what is not sent yet.
const AT_EXIT: Duration = Duration::from_secs(3);

/// Sends spans until the program ends.
pub struct Exporter {
    queue: Arc<Queue>,
    shown: String,
}

/// Says whether spans could be sent where that was asked for.
pub fn check(args: &Serve) -> Result<(), Failure> {
    Settings::of(args).map(drop)
}

/// Has the spans of this process sent, if that was asked for.
pub fn start(args: &Serve, counts: &SpanCounts) -> Result<Option<Exporter>, Failure> {
    let Some(settings) = Settings::of(args)? else {
        return Ok(None);
    };
    let queue = Arc::new(Queue::new(counts.clone()));
    let subscriber = tracing_subscriber::registry().with(SpanLayer::new(queue.clone()));
    let taken = |error| Failure::new(Exit::Failed, format!("--otlp: {error}"));
    tracing::subscriber::set_global_default(subscriber).map_err(taken)?;
    let shown = settings.shown.clone();
    let sender = Sender::new(settings, queue.clone(), counts.clone());
    std::thread::Builder::new().name("otlp".to_string()).spawn(move || sender.run())?;
    Ok(Some(Exporter { queue, shown }))
}

impl Exporter {
    /// Says where they go.
    pub fn tell(&self) {
        log(format_args!("arcp: spans are sent to {}", self.shown));
    }

    /// Sends what is there, but waits for that no longer than three seconds.
    pub fn finish(self) {
        let left = self.queue.close(AT_EXIT);
        if left > 0 {
            log(format_args!("arcp: {left} spans were not sent: their collector has not taken them in time"));
        }
    }
}
