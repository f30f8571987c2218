//! The thread that sends spans.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arcp_host::log_line::{Level, Line};
use arcp_host::server_log;
use arcp_host::spans::SpanCounts;
use prost::Message as _;

use super::frames::{
    Attribute, ExportRequest, ExportResponse, Resource, ResourceSpans, Scope, ScopeSpans, Span, Value,
};
use super::queue::Queue;
use super::settings::Settings;

/// How long spans are retried while the collector says that it is busy.
const TRIED_FOR: Duration = Duration::from_secs(60);
/// The pause before the first retry, doubled for each further one up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// The time between two log lines about a collector that does not take spans.
const BETWEEN_LINES: Duration = Duration::from_secs(60);

/// Sends the spans of a queue until it is closed.
pub struct Sender {
    settings: Settings,
    queue: Arc<Queue>,
    counts: SpanCounts,
    resource: Resource,
    /// When the failure of the collector was logged last; `None` if it does not fail.
    told: Option<Instant>,
}

/// The answer of a collector.
enum Receipt {
    /// The collector took the spans, except for `rejected` of them.
    Taken { rejected: u64 },
    /// It may take them later.
    Later(String),
    /// It will never take them.
    Refused(String),
}

impl Sender {
    /// Sends the spans of this queue, and counts those that are taken and those that are not.
    pub fn new(settings: Settings, queue: Arc<Queue>, counts: SpanCounts) -> Sender {
        let attributes = settings.resource.iter().map(|(key, value)| Attribute::new(key, Value::Text(value.clone())));
        let resource = Resource { attributes: attributes.collect() };
        Sender { settings, queue, counts, resource, told: None }
    }

    /// Sends until the queue is closed and empty.
    pub fn run(mut self) {
        while let Some(spans) = self.queue.take() {
            let several = spans.len() as u64;
            let taken = self.send(several, &self.encoded(spans));
            // When the queue is closed, the spans that it does not wait for are counted there.
            if self.queue.done() {
                self.counts.exported(taken);
                self.counts.dropped(several - taken);
            }
        }
    }

    fn encoded(&self, spans: Vec<Span>) -> Vec<u8> {
        let scope = Scope { name: "arcp".to_string(), version: env!("CARGO_PKG_VERSION").to_string() };
        let scope_spans = vec![ScopeSpans { scope: Some(scope), spans }];
        let resource_spans = vec![ResourceSpans { resource: Some(self.resource.clone()), scope_spans }];
        ExportRequest { resource_spans }.encode_to_vec()
    }

    /// Sends a batch, with retries where these may help. Returns how many spans were taken.
    fn send(&mut self, several: u64, body: &[u8]) -> u64 {
        let (begun, mut pause) = (Instant::now(), FIRST_PAUSE);
        loop {
            let why = match self.post(body) {
                Receipt::Taken { rejected } => {
                    if self.told.take().is_some() {
                        self.tell(Level::Warn, "spans are taken again".to_string());
                    }
                    return several.saturating_sub(rejected);
                }
                Receipt::Later(why) => {
                    self.tell_failure(&why);
                    let is_over = begun.elapsed() >= TRIED_FOR || self.queue.wait_for_close(pause);
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    if !is_over {
                        continue;
                    }
                    why
                }
                Receipt::Refused(why) => why,
            };
            self.tell_failure(&why);
            return 0;
        }
    }

    fn post(&self, body: &[u8]) -> Receipt {
        let Settings { agent, url, headers, .. } = &self.settings;
        let mut request = agent.post(url).header("content-type", "application/x-protobuf");
        for (name, value) in headers {
            request = request.header(name, value.expose());
        }
        let mut answer = match request.send(body) {
            Ok(answer) => answer,
            Err(error) => return Receipt::Later(error.to_string()),
        };
        match answer.status().as_u16() {
            200..=299 => {
                let said = answer.body_mut().with_config().limit(64 << 10).read_to_vec().unwrap_or_default();
                let said = ExportResponse::decode(&said[..]).unwrap_or_default();
                let rejected = said.partial_success.map_or(0, |partial| partial.rejected_spans);
                Receipt::Taken { rejected: u64::try_from(rejected).unwrap_or(0) }
            }
            status @ (429 | 502..=504) => Receipt::Later(format!("it answers {status}")),
            status => Receipt::Refused(format!("it answers {status}")),
        }
    }

    /// Logs a failure the first time, and then once a minute.
    fn tell_failure(&mut self, why: &str) {
        if self.told.is_some_and(|told| told.elapsed() < BETWEEN_LINES) {
            return;
        }
        self.told = Some(Instant::now());
        self.tell(Level::Warn, format!("spans are not taken: {why}; what finds no room meanwhile is dropped"));
    }

    fn tell(&self, level: Level, what: String) {
        server_log::add(&Line::new(level, "runtime", format!("arcp: {}: {what}", self.settings.shown)));
    }
}
