//! Metrics and traces to an OpenTelemetry collector: OTLP over HTTP in Protobuf, where `[otlp]` names one.
//!
//! Guarantees: the figures are those of `/metrics`, read out of its own text, so the two cannot differ; counters and histograms
//! are cumulative from the start of the process. A traced transaction is one trace: `process TOPIC` with the two parts
//! `fill` and `commit`, linked to the traces of those who sent its records. All of it happens on a thread of its own: a collector
//! that is slow or gone costs the workers nothing, what it misses of traces is dropped, and the log says once that it is
//! gone and once that it is back. Limits: one request at a time, of at most three seconds. Left out: TLS, because a collector
//! stands beside the process, and speaks it to the outside.

use super::{
    admin::Board,
    exposition::{Sample, samples},
    metrics::{self, ALL, Kind, Metric},
};
use crate::status::{Stage, Trace, TraceParent};
use ::metrics::Unit;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use opentelemetry_proto::tonic::{
    collector::{metrics::v1::ExportMetricsServiceRequest, trace::v1::ExportTraceServiceRequest},
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
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

/// How long a request may take, its answer included.
const DEADLINE: Duration = Duration::from_secs(3);

/// How often it is looked for traces. Between two looks a worker keeps a bounded number.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What is sent where.
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
    /// The topic that is read.
    pub topic: String,
    /// The consumer group.
    pub group: String,
}

/// The thread that sends.
#[derive(Debug)]
pub struct Otlp {
    /// Dropped to end it.
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Otlp {
    /// Begins to send what the board shows.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(settings: OtlpSettings, board: Arc<Board>) -> io::Result<Self> {
        let (stop, stopped) = crossbeam_channel::bounded(0);
        let exporter = Exporter::new(settings, board);
        let thread = std::thread::Builder::new().name("otlp".to_owned()).spawn(move || exporter.run(&stopped))?;
        Ok(Self { stop, thread })
    }

    /// Sends what is left and ends, which takes two requests at most.
    pub fn finish(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("the thread that sends metrics and traces broke off: this is a bug");
        }
    }
}

struct Exporter {
    settings: OtlpSettings,
    board: Arc<Board>,
    agent: ureq::Agent,
    /// When the process began, in nanoseconds since 1970: where cumulative figures begin.
    began: u64,
    ids: Ids,
    /// Whether the last request failed.
    is_failing: bool,
}

impl Exporter {
    fn new(settings: OtlpSettings, board: Arc<Board>) -> Self {
        let config = ureq::Agent::config_builder().timeout_global(Some(DEADLINE)).proxy(None).max_redirects(0).build();
        Self { settings, board, agent: config.into(), began: now(), ids: Ids::default(), is_failing: false }
    }

    fn run(mut self, stopped: &Receiver<()>) {
        let mut sent_at = Instant::now();
        loop {
            let is_last = stopped.recv_timeout(LOOK_INTERVAL) != Err(RecvTimeoutError::Timeout);
            let traces = self.board.take_traces();
            if !traces.is_empty() {
                let request = self.traces(&traces);
                self.send("traces", &request);
            }
            if is_last || sent_at.elapsed() >= self.settings.interval {
                sent_at = Instant::now();
                let request = self.metrics(&self.board.exposition(), now());
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
            Ok(()) if self.is_failing => tracing::info!(url, "the collector takes metrics and traces again"),
            Err(error) if !self.is_failing => tracing::warn!(
                url,
                %error,
                "the collector of otlp.endpoint does not take metrics and traces; trying again, and saying no more until it does"
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

    fn metrics(&self, exposition: &str, now: u64) -> ExportMetricsServiceRequest {
        let metrics = read(exposition, self.began, now);
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

    /// A transaction, and its two parts.
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
            whole("messaging.batch.message_count", trace.events),
            whole("aimpoint.decisions", trace.decisions),
            whole("aimpoint.dead_letters", trace.dead_letters),
        ];
        attributes.extend(Stage::ALL.iter().zip(trace.stages).map(|(stage, time)| {
            attribute(&format!("aimpoint.stage.{}.seconds", stage.as_str()), Value::DoubleValue(time.as_secs_f64()))
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

/// Ids that no other process makes: a hash of their number, whose key lives as long as the process.
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

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.to_owned()))
}

fn whole(key: &str, value: u64) -> KeyValue {
    attribute(key, Value::IntValue(value as i64))
}

/// Every declared metric that stands in Prometheus' text, with what it counts since `began`.
fn read(exposition: &str, began: u64, now: u64) -> Vec<Sent> {
    ALL.iter().filter_map(|metric| one(metric, exposition, began, now)).collect()
}

fn one(metric: &Metric, exposition: &str, began: u64, now: u64) -> Option<Sent> {
    let points = || -> Vec<NumberDataPoint> {
        let point = |(labels, figure): Sample| NumberDataPoint {
            attributes: attributes(&labels),
            start_time_unix_nano: if metric.kind == Kind::Gauge { 0 } else { began },
            time_unix_nano: now,
            value: Some(number_data_point::Value::AsDouble(figure)),
            ..NumberDataPoint::default()
        };
        samples(exposition, metric.name).map(point).collect()
    };
    let cumulative = AggregationTemporality::Cumulative as i32;
    let (is_empty, data) = match metric.kind {
        Kind::Gauge => {
            let data_points = points();
            (data_points.is_empty(), Data::Gauge(Gauge { data_points }))
        }
        Kind::Counter => {
            let data_points = points();
            let sum = Sum { data_points, aggregation_temporality: cumulative, is_monotonic: true };
            (sum.data_points.is_empty(), Data::Sum(sum))
        }
        Kind::Histogram => {
            let parts =
                ["_bucket", "_sum"].map(|part| samples(exposition, &format!("{}{part}", metric.name)).collect());
            let data_points = histograms(parts, began, now);
            let histogram = Histogram { data_points, aggregation_temporality: cumulative };
            (histogram.data_points.is_empty(), Data::Histogram(histogram))
        }
    };
    let unit = match metric.unit {
        Unit::Seconds => "s",
        Unit::Bytes => "By",
        _ => "1",
    };
    (!is_empty).then(|| Sent {
        name: metric.name.to_owned(),
        description: metric.help.to_owned(),
        unit: unit.to_owned(),
        data: Some(data),
        ..Sent::default()
    })
}

/// The histograms of a metric, one for each set of labels beside the bound. Prometheus' buckets hold all below their
/// bound, OTLP's only what the one before does not.
fn histograms([buckets, sums]: [Vec<Sample>; 2], began: u64, now: u64) -> Vec<HistogramDataPoint> {
    let point = |(labels, sum): Sample| {
        let own = buckets.iter().filter(|(of, _)| of.iter().filter(|(name, _)| name != "le").eq(&labels));
        let (mut explicit_bounds, mut bucket_counts, mut count) = (Vec::new(), Vec::new(), 0);
        for (of, below) in own {
            let bound = of.iter().find(|(name, _)| name == "le").and_then(|(_, bound)| bound.parse::<f64>().ok());
            explicit_bounds.extend(bound.filter(|bound| bound.is_finite()));
            bucket_counts.push(*below as u64 - count);
            count = *below as u64;
        }
        HistogramDataPoint {
            attributes: attributes(&labels),
            start_time_unix_nano: began,
            time_unix_nano: now,
            count,
            sum: Some(sum),
            bucket_counts,
            explicit_bounds,
            ..HistogramDataPoint::default()
        }
    };
    sums.into_iter().map(point).collect()
}

fn attributes(labels: &[(String, String)]) -> Vec<KeyValue> {
    labels.iter().map(|(name, value)| text(name, value)).collect()
}

#[cfg(test)]
mod tests;
