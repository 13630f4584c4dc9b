//! Metrics and traces to an OpenTelemetry collector, if `[otlp]` names one: OTLP over HTTP in Protobuf.
//!
//! Guarantees: the figures are those of `/metrics`; counters and histograms are cumulative since the start of the
//! process. A traced transaction is one trace: `process TOPIC` with the two children `fill` and `commit`, linked to the
//! traces of the records' senders. Exporting runs on its own thread: a slow or absent collector costs the workers
//! nothing, traces that it misses are dropped, and the log says once that it is gone and once that it is back. Limits:
//! one request at a time, of at most three seconds. No TLS, because a collector runs next to the process and speaks TLS
//! to the outside.

use super::admin::AdminState;
use crate::{
    metrics::{self, Family, Kind, Sample, Samples, Unit, Value},
    status::{Stage, Trace, TraceParent},
};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use opentelemetry_proto::tonic::{
    collector::{metrics::v1::ExportMetricsServiceRequest, trace::v1::ExportTraceServiceRequest},
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
    metrics::v1::{
        AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric as Sent, NumberDataPoint, ResourceMetrics,
        ScopeMetrics, Sum, metric::Data, number_data_point,
    },
    resource::v1::Resource,
    trace::v1::{
        ResourceSpans, ScopeSpans, Span,
        span::{Link, SpanKind},
    },
};
use prost::Message;
use std::{
    hash::{BuildHasher, RandomState},
    io,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// How long a request may take, including its answer.
const DEADLINE: Duration = Duration::from_secs(3);

/// How often traces are collected from the workers. In between, each worker keeps a bounded number.
const TRACE_INTERVAL: Duration = Duration::from_secs(1);

/// The destination, the interval, and the identity of the sender.
#[derive(Clone, Debug)]
pub struct OtlpSettings {
    /// The collector: `http://host:port`, to which `/v1/metrics` and `/v1/traces` are added.
    pub endpoint: String,
    /// How often metrics are sent.
    pub interval: Duration,
    /// The application, as `service.name`.
    pub service: String,
    /// The process, as `service.instance.id`.
    pub instance: String,
    /// The input topic.
    pub topic: String,
    /// The consumer group.
    pub group: String,
}

/// The exporting thread.
#[derive(Debug)]
pub struct Otlp {
    /// Dropped to stop the thread.
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Otlp {
    /// Starts sending the metrics and traces of the process.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(settings: OtlpSettings, state: Arc<AdminState>) -> io::Result<Self> {
        let (stop, stopped) = crossbeam_channel::bounded(0);
        let exporter = Exporter::new(settings, state);
        let thread = std::thread::Builder::new().name("otlp".to_owned()).spawn(move || exporter.run(&stopped))?;
        Ok(Self { stop, thread })
    }

    /// Sends the rest and stops, which takes at most two requests.
    pub fn finish(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("the thread that sends metrics and traces panicked: this is a bug");
        }
    }
}

struct Exporter {
    settings: OtlpSettings,
    state: Arc<AdminState>,
    agent: ureq::Agent,
    /// The start of the cumulative figures, in nanoseconds since 1970.
    began: u64,
    ids: Ids,
    /// Whether the last request failed.
    is_failing: bool,
}

impl Exporter {
    fn new(settings: OtlpSettings, state: Arc<AdminState>) -> Self {
        let config = ureq::Agent::config_builder().timeout_global(Some(DEADLINE)).proxy(None).max_redirects(0).build();
        Self { settings, state, agent: config.into(), began: now(), ids: Ids::default(), is_failing: false }
    }

    fn run(mut self, stopped: &Receiver<()>) {
        let mut sent_at = Instant::now();
        loop {
            let is_last = stopped.recv_timeout(TRACE_INTERVAL) != Err(RecvTimeoutError::Timeout);
            let traces = self.state.take_traces();
            if !traces.is_empty() {
                let request = self.traces(&traces);
                self.send("traces", &request);
            }
            if is_last || sent_at.elapsed() >= self.settings.interval {
                sent_at = Instant::now();
                let request = self.metrics(&self.state.figures(), now());
                self.send("metrics", &request);
            }
            if is_last {
                return;
            }
        }
    }

    fn send(&mut self, what: &str, request: &impl Message) {
        let url = format!("{}/v1/{what}", self.settings.endpoint.trim_end_matches('/'));
        let outcome = self
            .agent
            .post(&url)
            .header("content-type", "application/x-protobuf")
            .send(request.encode_to_vec().as_slice())
            .map(drop);
        metrics::sent_to_collector(outcome.is_ok());
        match &outcome {
            Ok(()) if self.is_failing => tracing::info!(url, "the collector accepts metrics and traces again"),
            Err(error) if !self.is_failing => tracing::warn!(
                url,
                %error,
                "the collector at otlp.endpoint does not accept metrics and traces; retrying without further messages"
            ),
            Ok(()) | Err(_) => {}
        }
        self.is_failing = outcome.is_err();
    }

    fn resource(&self) -> Resource {
        let attributes = [
            ("service.name", self.settings.service.as_str()),
            ("service.instance.id", &self.settings.instance),
            ("service.version", env!("CARGO_PKG_VERSION")),
        ];
        Resource { attributes: attributes.map(|(key, value)| text(key, value)).to_vec(), ..Resource::default() }
    }

    fn metrics(&self, figures: &[Samples], now: u64) -> ExportMetricsServiceRequest {
        let metrics = figures.iter().map(|it| metric(it, self.began, now)).collect();
        let scope = ScopeMetrics { scope: Some(scope()), metrics, ..ScopeMetrics::default() };
        let resource = Some(self.resource());
        let all = ResourceMetrics { resource, scope_metrics: vec![scope], ..ResourceMetrics::default() };
        ExportMetricsServiceRequest { resource_metrics: vec![all] }
    }

    fn traces(&mut self, traces: &[Trace]) -> ExportTraceServiceRequest {
        let spans = traces.iter().flat_map(|trace| self.spans(trace)).collect();
        let scope = ScopeSpans { scope: Some(scope()), spans, ..ScopeSpans::default() };
        let all =
            ResourceSpans { resource: Some(self.resource()), scope_spans: vec![scope], ..ResourceSpans::default() };
        ExportTraceServiceRequest { resource_spans: vec![all] }
    }

    /// A transaction and its two children.
    fn spans(&mut self, trace: &Trace) -> [Span; 3] {
        let visible = u64::try_from(trace.visible_at.0).unwrap_or_default() * 1_000;
        let [opened, committing] =
            [trace.open, trace.commit].map(|time| visible.saturating_sub(time.as_nanos() as u64));
        let trace_id = [self.ids.next(), self.ids.next()].concat();
        let root = self.ids.next().to_vec();
        let mut part = |name: &str, start, end| Span {
            trace_id: trace_id.clone(),
            span_id: self.ids.next().to_vec(),
            parent_span_id: root.clone(),
            name: name.to_owned(),
            kind: SpanKind::Internal as i32,
            start_time_unix_nano: start,
            end_time_unix_nano: end,
            ..Span::default()
        };
        let parts = [part("fill", opened, committing), part("commit", committing, visible)];
        let mut attributes = vec![
            text("messaging.system", "kafka"),
            text("messaging.operation.name", "process"),
            text("messaging.operation.type", "process"),
            text("messaging.destination.name", &self.settings.topic),
            text("messaging.consumer.group.name", &self.settings.group),
            integer("messaging.batch.message_count", trace.events),
            integer("aimpoint.decisions", trace.decisions),
            integer("aimpoint.dead_letters", trace.dead_letters),
        ];
        attributes.extend(Stage::ALL.iter().zip(trace.stages).map(|(stage, time)| {
            attribute(
                &format!("aimpoint.stage.{}.seconds", stage.as_str()),
                any_value::Value::DoubleValue(time.as_secs_f64()),
            )
        }));
        let link = |it: TraceParent| Link { trace_id: it.trace.to_vec(), span_id: it.span.to_vec(), ..Link::default() };
        let [fill, commit] = parts;
        let whole = Span {
            trace_id,
            span_id: root,
            name: format!("process {}", self.settings.topic),
            kind: SpanKind::Consumer as i32,
            start_time_unix_nano: opened,
            end_time_unix_nano: visible,
            attributes,
            links: trace.links.iter().filter_map(|text| TraceParent::parse(text)).map(link).collect(),
            ..Span::default()
        };
        [whole, fill, commit]
    }
}

/// Ids that are unique across processes: hashes of a counter, with a key that lives as long as the process.
#[derive(Debug, Default)]
struct Ids(RandomState, u64);

impl Ids {
    fn next(&mut self) -> [u8; 8] {
        self.1 += 1;
        self.0.hash_one(self.1).to_be_bytes()
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "aimpoint".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    }
}

fn attribute(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, any_value::Value::StringValue(value.to_owned()))
}

fn integer(key: &str, value: u64) -> KeyValue {
    attribute(key, any_value::Value::IntValue(value as i64))
}

/// Converts a family with its samples; counters and histograms are cumulative since `began`.
fn metric(Samples { family, samples }: &Samples, began: u64, now: u64) -> Sent {
    let numbers = || -> Vec<NumberDataPoint> {
        let point = |sample: &Sample| match sample.value {
            Value::Number(number) => Some(NumberDataPoint {
                attributes: attributes(family, sample),
                start_time_unix_nano: if family.kind == Kind::Gauge { 0 } else { began },
                time_unix_nano: now,
                value: Some(number_data_point::Value::AsDouble(number)),
                ..NumberDataPoint::default()
            }),
            Value::Distribution(_) => None,
        };
        samples.iter().filter_map(point).collect()
    };
    let histograms = || -> Vec<HistogramDataPoint> {
        let point = |sample: &Sample| match &sample.value {
            Value::Distribution(it) => Some(HistogramDataPoint {
                attributes: attributes(family, sample),
                start_time_unix_nano: began,
                time_unix_nano: now,
                count: it.count(),
                sum: Some(it.sum()),
                bucket_counts: it.counts().to_vec(),
                explicit_bounds: it.bounds().to_vec(),
                ..HistogramDataPoint::default()
            }),
            Value::Number(_) => None,
        };
        samples.iter().filter_map(point).collect()
    };
    let aggregation_temporality = AggregationTemporality::Cumulative as i32;
    let data = match family.kind {
        Kind::Gauge => Data::Gauge(Gauge { data_points: numbers() }),
        Kind::Counter => Data::Sum(Sum { data_points: numbers(), aggregation_temporality, is_monotonic: true }),
        Kind::Histogram => Data::Histogram(Histogram { data_points: histograms(), aggregation_temporality }),
    };
    let unit = match family.unit {
        Unit::Seconds => "s",
        Unit::Bytes => "By",
        Unit::Count => "1",
    };
    Sent {
        name: family.name.to_owned(),
        description: family.help.to_owned(),
        unit: unit.to_owned(),
        data: Some(data),
        ..Sent::default()
    }
}

fn attributes(family: &Family, sample: &Sample) -> Vec<KeyValue> {
    family.labels.iter().zip(&sample.labels).map(|(name, value)| text(name, value)).collect()
}

#[cfg(test)]
mod tests;
