//! Makes spans of OTLP from those of `tracing`.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arcp_host::spans::TARGET;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::frames::{AnyValue, Attribute, Event, Link, Span, SpanKind, Status, StatusCode, Value};
use super::queue::Queue;

/// The longest text of an attribute, in bytes.
const TEXT_BYTES: usize = 256;
/// The most events of a span.
const EVENTS: usize = 32;

/// Makes a span of OTLP when one of `tracing` ends.
pub struct SpanLayer {
    queue: Arc<Queue>,
}

/// A span that has not ended.
struct Open {
    span: Span,
    sampled: bool,
    /// Another process reports the end of this span, so it is not sent from here.
    unfinished: bool,
}

impl SpanLayer {
    /// Ended spans are put into this queue.
    pub fn new(queue: Arc<Queue>) -> SpanLayer {
        SpanLayer { queue }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for SpanLayer {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        metadata.target() == TARGET
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::INFO)
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let name = attributes.metadata().name().to_string();
        let span = Span { name, kind: SpanKind::Internal.into(), start_time_unix_nano: now(), ..Span::default() };
        let mut open = Open { span, sampled: true, unfinished: false };
        attributes.record(&mut open);
        let parent = attributes.parent().and_then(|parent| context.span(parent));
        if let Some(above) =
            parent.as_ref().map(|parent| parent.extensions()).as_ref().and_then(|all| all.get::<Open>())
            && open.span.trace_id.is_empty()
        {
            open.span.trace_id.clone_from(&above.span.trace_id);
            open.span.parent_span_id.clone_from(&above.span.span_id);
            open.sampled = above.sampled;
        }
        if open.span.trace_id.is_empty() {
            open.span.trace_id = random(16);
        }
        if open.span.span_id.is_empty() {
            open.span.span_id = random(8);
        }
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(open);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(open) = span.extensions_mut().get_mut::<Open>()
        {
            values.record(open);
        }
    }

    fn on_event(&self, event: &tracing::Event<'_>, context: Context<'_, S>) {
        if let Some(span) = event.parent().and_then(|parent| context.span(parent))
            && let Some(Open { span, .. }) = span.extensions_mut().get_mut::<Open>()
        {
            if span.events.len() >= EVENTS {
                span.dropped_events_count += 1;
                return;
            }
            let mut named = Named::default();
            event.record(&mut named);
            span.events.push(Event { time_unix_nano: now(), name: named.0 });
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let open = context.span(&id).and_then(|span| span.extensions_mut().remove::<Open>());
        let Some(Open { mut span, sampled: true, unfinished: false }) = open else {
            return;
        };
        span.end_time_unix_nano = now().max(span.start_time_unix_nano);
        let of_stranger = span.name == "arcp.authenticate";
        self.queue.add(span, of_stranger);
    }
}

impl Open {
    fn text(&mut self, name: &str, text: &str) {
        let span = &mut self.span;
        match name {
            "trace_id" => span.trace_id = hex(text, 16),
            "span_id" => span.span_id = hex(text, 8),
            "parent_span_id" => span.parent_span_id = hex(text, 8),
            "link_trace_id" => link(span).trace_id = hex(text, 16),
            "link_span_id" => link(span).span_id = hex(text, 8),
            "otel.name" => span.name = text.to_string(),
            "otel.kind" => span.kind = kind(text).into(),
            "otel.status_code" => {
                let code = if text == "ERROR" { StatusCode::Error } else { StatusCode::Ok };
                span.status = Some(Status { code: code.into() });
            }
            _ => {
                let text = text[..text.floor_char_boundary(TEXT_BYTES)].to_string();
                self.attribute(name, Value::Text(text));
            }
        }
    }

    fn attribute(&mut self, name: &str, value: Value) {
        match self.span.attributes.iter_mut().find(|attribute| attribute.key == name) {
            Some(said) => said.value = Some(AnyValue { value: Some(value) }),
            None => self.span.attributes.push(Attribute::new(name, value)),
        }
    }
}

impl Visit for Open {
    fn record_str(&mut self, field: &Field, text: &str) {
        self.text(field.name(), text);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        match field.name() {
            "sampled" => self.sampled = value,
            "unfinished" => self.unfinished = value,
            name => self.attribute(name, Value::Bool(value)),
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "started_at_ms" => self.span.start_time_unix_nano = value.saturating_mul(1_000_000),
            name => self.attribute(name, Value::Int(i64::try_from(value).unwrap_or(i64::MAX))),
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.attribute(field.name(), Value::Int(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.text(field.name(), &format!("{value:?}"));
    }
}

/// Visits an event and keeps its message.
#[derive(Default)]
struct Named(String);

impl Visit for Named {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

fn link(span: &mut Span) -> &mut Link {
    if span.links.is_empty() {
        span.links.push(Link::default());
    }
    &mut span.links[0]
}

fn kind(text: &str) -> SpanKind {
    match text {
        "server" => SpanKind::Server,
        "client" => SpanKind::Client,
        _ => SpanKind::Internal,
    }
}

/// The last bytes of a number in hex.
fn hex(text: &str, bytes: usize) -> Vec<u8> {
    let number = u128::from_str_radix(text, 16).unwrap_or(0).to_be_bytes();
    number[number.len() - bytes..].to_vec()
}

fn random(bytes: usize) -> Vec<u8> {
    // An id of 0 is invalid.
    let number = (arcp_host::entropy::number().unwrap_or(0) | 1).to_be_bytes();
    number[number.len() - bytes..].to_vec()
}

/// The time in nanoseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
