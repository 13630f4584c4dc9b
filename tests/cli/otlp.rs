//! A running process sends metrics and traces to a collector, and propagates the trace of a record's producer.

use crate::process::{Running, TOPICS};
use aimpoint::source::Reader;
use opentelemetry_proto::tonic::{
    collector::{metrics::v1::ExportMetricsServiceRequest, trace::v1::ExportTraceServiceRequest},
    metrics::v1::metric::Data,
    trace::v1::Span,
};
use prost::Message;
use rdkafka::{
    ClientConfig,
    message::{Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer},
};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    time::Duration,
};

const SENDER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// The first line of a request, and its body.
type Request = (String, Vec<u8>);

/// A collector that keeps all requests.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Request>>>);

impl Collector {
    /// Starts listening, and returns the address.
    fn start() -> (Self, String) {
        let it = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let kept = it.clone();
        std::thread::spawn(move || listener.incoming().for_each(|stream| kept.take(stream.unwrap())));
        (it, format!("http://{address}"))
    }

    /// Handles one request; the client then opens another connection.
    fn take(&self, mut stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let (mut first, mut length, mut line) = (String::new(), 0, String::new());
        reader.read_line(&mut first).unwrap();
        while reader.read_line(&mut line).unwrap() > 2 {
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            line.clear();
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
        self.0.lock().unwrap().push((first.trim().to_owned(), body));
    }

    fn bodies(&self, request: &str) -> Vec<Vec<u8>> {
        let kept = self.0.lock().unwrap();
        kept.iter().filter(|(first, _)| first == request).map(|(_, body)| body.clone()).collect()
    }

    fn spans(&self) -> Vec<Span> {
        let decode = |body: Vec<u8>| ExportTraceServiceRequest::decode(body.as_slice()).unwrap();
        let requests = self.bodies("POST /v1/traces HTTP/1.1").into_iter().map(decode);
        let scopes = requests.flat_map(|it| it.resource_spans).flat_map(|it| it.scope_spans);
        scopes.flat_map(|it| it.spans).collect()
    }

    /// The newest value of a counter, summed over its labels, or the newest count of a histogram.
    fn metric(&self, name: &str) -> Option<f64> {
        let body = self.bodies("POST /v1/metrics HTTP/1.1").pop()?;
        let request = ExportMetricsServiceRequest::decode(body.as_slice()).unwrap();
        let scopes = request.resource_metrics.into_iter().flat_map(|it| it.scope_metrics);
        match scopes.flat_map(|it| it.metrics).find(|it| it.name == name)?.data? {
            Data::Sum(sum) => Some(
                sum.data_points
                    .iter()
                    .map(|it| match it.value {
                        Some(opentelemetry_proto::tonic::metrics::v1::number_data_point::Value::AsDouble(it)) => it,
                        _ => f64::NAN,
                    })
                    .sum(),
            ),
            Data::Histogram(it) => Some(it.data_points.iter().map(|it| it.count as f64).sum()),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_collector_gets_metrics_and_traces_and_consumers_get_the_producer_s_trace() {
    let (collector, endpoint) = Collector::start();
    let config =
        format!("[otlp]\nendpoint = {endpoint:?}\ninterval = \"1s\"\ntrace_one_of = 1\n[engine]\nworkers = 1\n");
    let mut it = Running::start(&config);
    it.wait_until_ready();

    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", it.brokers()).create().unwrap();
    for number in 0..20 {
        let event = format!(
            r#"{{"event_id":"e{number}","event_type":"view","user_id":"u","occurred_at":{}}}"#,
            1_700_000_000_000_u64 + number
        );
        let headers = OwnedHeaders::new().insert(Header { key: "traceparent", value: Some(SENDER) });
        producer.send(BaseRecord::to(TOPICS[0]).key("u").payload(&event).headers(headers)).map_err(|it| it.0).unwrap();
    }
    producer.flush(Duration::from_secs(10)).unwrap();

    let span = it.wait_for("a trace", |_| collector.spans().into_iter().find(|it| it.name == "process clickstream"));
    assert_eq!(span.links.len(), 1, "{span:?}");
    assert_eq!(span.links[0].span_id, [0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]);
    assert!(span.end_time_unix_nano > span.start_time_unix_nano, "{span:?}");
    assert!(collector.spans().iter().any(|it| it.name == "commit" && it.parent_span_id == span.span_id));
    it.wait_for("the figures", |_| (collector.metric("aimpoint_events_total") == Some(20.0)).then_some(()));
    // Two histograms: since the event and since the append.
    it.wait_for("the latencies", |_| {
        (collector.metric("aimpoint_decision_latency_seconds") == Some(40.0)).then_some(())
    });

    let reader = Reader::open(&it.brokers(), &[], &["decisions"]).unwrap();
    let mut parents = Vec::new();
    it.wait_for("the decisions", |_| {
        reader
            .poll(Duration::from_millis(100), |_, _, headers| {
                let parent = headers.iter().find(|(name, _)| *name == "traceparent").map(|(_, value)| value.to_vec());
                parents.push(parent.unwrap_or_default());
            })
            .unwrap();
        (parents.len() == 20).then_some(())
    });
    assert!(parents.iter().all(|it| it == SENDER.as_bytes()), "{parents:?}");

    // Metrics since the last export are sent before the process ends.
    let before = collector.bodies("POST /v1/metrics HTTP/1.1").len();
    it.signal("-TERM");
    assert_eq!(it.end(), Some(0));
    assert!(collector.bodies("POST /v1/metrics HTTP/1.1").len() > before);
}

#[test]
fn an_unreachable_collector_is_logged_once_and_delays_nothing() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut it =
        Running::start(&format!("[otlp]\nendpoint = \"http://{gone}\"\ninterval = \"1s\"\n[engine]\nworkers = 1\n"));
    it.wait_for("the requests that fail", |it| {
        let metrics = it.ask("GET", "/metrics", "").1;
        let failed =
            metrics.lines().find_map(|it| it.strip_prefix("aimpoint_collector_requests_total{outcome=\"failed\"} "))?;
        (failed.parse::<u64>().unwrap() >= 2).then_some(())
    });
    it.wait_until_ready();
    it.signal("-TERM");
    assert_eq!(it.end(), Some(0));
    assert_eq!(it.log().matches("does not accept metrics and traces").count(), 1, "{}", it.log());
}
