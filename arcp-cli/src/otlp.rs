//! `arcp serve --otlp`: sends the spans of a runtime to a collector by
//! [OTLP](https://opentelemetry.io/docs/specs/otlp/) over HTTP, as protobuf.
//!
//! `arcp_host::spans` gives spans their ids and times, so that these stay the same over restarts; the tracer of an SDK
//! would assign ids of its own. The subscriber holds open spans. Ended spans wait in a bounded [`Queue`] for the
//! thread that sends them, and no other thread waits for that one.

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

/// How long the end of the program waits for spans that are not sent yet.
const AT_EXIT: Duration = Duration::from_secs(3);

/// Sends spans until the program ends.
pub struct Exporter {
    queue: Arc<Queue>,
    shown: String,
}

/// Checks the settings for sending spans, if there are any.
pub fn check(args: &Serve) -> Result<(), Failure> {
    Settings::of(args).map(drop)
}

/// Starts to send the spans of this process, if the options say so.
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
    /// Logs where spans are sent.
    pub fn tell(&self) {
        log(format_args!("arcp: spans are sent to {}", self.shown));
    }

    /// Sends the remaining spans, for three seconds at most.
    pub fn finish(self) {
        let left = self.queue.close(AT_EXIT);
        if left > 0 {
            log(format_args!("arcp: {left} spans were not sent: their collector has not taken them in time"));
        }
    }
}
