//! The gRPC port: the Agentic RTB Framework's `RTBExtensionPoint`, health and reflection.
//!
//! | service | what it is for |
//! |---|---|
//! | `com.iabtechlab.bidstream.mutation.services.v1.RTBExtensionPoint` | changes to a bid request ([`Mutator`]) |
//! | `grpc.health.v1.Health` | serving when the process is ready; needs no token |
//! | `grpc.reflection.v1.ServerReflection`, and `v1alpha` for older tools | the descriptors of the services |
//!
//! Guarantees: an answer that would come after the host's `tmax`, or its header `grpc-timeout`, is empty. Both run from the head
//! of the request, so the time on the network is the host's. What is above a limit is told at once: `RESOURCE_EXHAUSTED`.

mod connection;

pub(super) use connection::{serve, turn_away};

use super::{follow::now, routes::Shared};
use crate::{
    metrics,
    proto::iab::{
        DESCRIPTORS,
        mutation::{RtbRequest, RtbResponse},
        service::rtb_extension_point_server::{RtbExtensionPoint, RtbExtensionPointServer, SERVICE_NAME},
    },
    serve::{Enrichment, Mutator, empty_response},
};
use hyper::{Request, body::Incoming};
use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::watch;
use tonic::{
    Code, Status,
    body::Body,
    codegen::Service,
    metadata::{Ascii, MetadataValue},
};
use tonic_health::{ServingStatus, server::HealthReporter};

pub(super) type GrpcAnswer = hyper::Response<Body>;
type Answering = Pin<Box<dyn Future<Output = GrpcAnswer> + Send>>;
/// A service of tonic, whatever its type.
type Route = Box<dyn Fn(Request<Incoming>) -> Answering + Send + Sync>;

/// The longest request to the services of gRPC itself, which are a few names.
const OTHER_BYTES_MAX: usize = 4 << 10;
/// How often the health service learns whether the process is ready.
const HEALTH_INTERVAL: Duration = Duration::from_millis(100);

/// When the head of a request was there.
#[derive(Clone, Copy)]
struct Begun(Instant);

/// Answers the requests of one thread.
pub(super) struct GrpcAnswerer {
    shared: Arc<Shared>,
    mutations: Route,
    health: Route,
    reflection: Route,
    older_reflection: Route,
    reporter: HealthReporter,
}

impl GrpcAnswerer {
    /// An answerer that proposes changes.
    ///
    /// # Errors
    /// If the descriptors cannot be read.
    pub(super) fn new(shared: Arc<Shared>, mutator: Mutator) -> Result<Self, tonic_reflection::server::Error> {
        let point = Point { shared: Arc::clone(&shared), mutator: mutator.into() };
        let point = RtbExtensionPointServer::new(point).max_decoding_message_size(shared.limits.body_bytes);
        let (reporter, health) = tonic_health::server::health_reporter();
        let describe = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let (reflection, older_reflection) = (describe().build_v1()?, describe().build_v1alpha()?);
        Ok(Self {
            shared,
            mutations: route(point),
            health: route(health.max_decoding_message_size(OTHER_BYTES_MAX)),
            reflection: route(reflection.max_decoding_message_size(OTHER_BYTES_MAX)),
            older_reflection: route(older_reflection.max_decoding_message_size(OTHER_BYTES_MAX)),
            reporter,
        })
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Tells the health service whether the process is ready.
    pub(super) async fn tell_health(&self) {
        let is_ready = self.shared.admin.why_not_ready().is_empty();
        let status = if is_ready { ServingStatus::Serving } else { ServingStatus::NotServing };
        for service in ["", SERVICE_NAME] {
            self.reporter.set_service_status(service, status).await;
        }
    }

    /// Keeps telling it until the process is to stop.
    pub(super) async fn follow_health(self: Arc<Self>, stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            tokio::time::sleep(HEALTH_INTERVAL).await;
            self.tell_health().await;
        }
    }

    /// Answers a request.
    async fn answer(&self, mut request: Request<Incoming>) -> GrpcAnswer {
        let begun = Instant::now();
        request.extensions_mut().insert(Begun(begun));
        let answer = self.route(request).await;
        self.shared.figures.times.record(begun.elapsed());
        answer
    }

    async fn route(&self, request: Request<Incoming>) -> GrpcAnswer {
        let service = request.uri().path().split('/').nth(1).unwrap_or_default();
        if service == tonic_health::pb::health_server::SERVICE_NAME {
            return self.in_time((self.health)(request)).await;
        }
        if !self.shared.is_permitted(request.headers()) {
            metrics::serve_turned_away("token");
            let why = "this needs the token as metadata: authorization: Bearer <serve.token>";
            return Status::unauthenticated(why).into_http();
        }
        match service {
            SERVICE_NAME => {
                let Some(_place) = self.shared.figures.begin_body(self.shared.limits.requests) else {
                    metrics::serve_turned_away("requests");
                    return too_many();
                };
                self.in_time((self.mutations)(request)).await
            }
            tonic_reflection::pb::v1::server_reflection_server::SERVICE_NAME => {
                self.in_time((self.reflection)(request)).await
            }
            tonic_reflection::pb::v1alpha::server_reflection_server::SERVICE_NAME => {
                self.in_time((self.older_reflection)(request)).await
            }
            _ => Status::unimplemented(format!("this service is not here; use {SERVICE_NAME}")).into_http(),
        }
    }

    /// Waits for an answer as long as a body may take, and says what is wrong with a request that has none.
    async fn in_time(&self, answering: Answering) -> GrpcAnswer {
        let limits = &self.shared.limits;
        let Ok(answer) = tokio::time::timeout(limits.body, answering).await else {
            metrics::serve_turned_away("slow");
            let time = crate::duration::display(limits.body);
            let why = format!("the request did not arrive within {time} (serve.body_timeout)");
            return Status::deadline_exceeded(why).into_http();
        };
        match answer.extensions().get().map(Status::code) {
            // What tonic says of a message above the limit, and of one that is none.
            Some(Code::OutOfRange) => {
                metrics::serve_turned_away("too_large");
                let why = format!("a request has at most {} bytes (serve.body_max)", limits.body_bytes);
                Status::resource_exhausted(why).into_http()
            }
            Some(Code::Internal) => {
                metrics::serve_turned_away("bad_request");
                Status::invalid_argument("the request is not the message of this method").into_http()
            }
            _ => answer,
        }
    }
}

/// The answer to more than there is a place for.
fn too_many() -> GrpcAnswer {
    Status::resource_exhausted("too many at once; try again in a moment").into_http()
}

fn route<S>(service: S) -> Route
where
    S: Service<Request<Incoming>, Response = GrpcAnswer, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    Box::new(move |request| {
        // A service of tonic is always ready.
        let answering = service.clone().call(request);
        Box::pin(async move {
            match answering.await {
                Ok(answer) => answer,
                Err(never) => match never {},
            }
        })
    })
}

/// The time in a header `grpc-timeout`: up to eight digits and a unit. `None` if it is none.
fn timeout(header: &str) -> Option<Duration> {
    let (digits, unit) = header.split_at_checked(header.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let count = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3_600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

/// The extension point of the framework.
struct Point {
    shared: Arc<Shared>,
    /// Only this thread uses it, so nobody waits.
    mutator: Mutex<Mutator>,
}

impl Point {
    fn propose(&self, request: &RtbRequest, begun: Instant, timeout: Option<Duration>) -> (RtbResponse, Enrichment) {
        // A host that names no time waits for the answer.
        let tmax = request.tmax.and_then(|ms| u64::try_from(ms).ok()).filter(|ms| *ms > 0).map(Duration::from_millis);
        let time = tmax.into_iter().chain(timeout).min();
        let is_late = || time.is_some_and(|time| begun.elapsed() >= time);
        if !is_late() {
            let mut mutator = self.mutator.lock().unwrap_or_else(PoisonError::into_inner);
            let proposed = mutator.propose(&self.shared.store, request, now());
            drop(mutator);
            if !is_late() {
                return proposed;
            }
        }
        (empty_response(&request.id), Enrichment::Late)
    }
}

#[tonic::async_trait]
impl RtbExtensionPoint for Point {
    async fn get_mutations(&self, request: tonic::Request<RtbRequest>) -> Result<tonic::Response<RtbResponse>, Status> {
        let begun = request.extensions().get::<Begun>().map_or_else(Instant::now, |begun| begun.0);
        let timeout = request.metadata().get("grpc-timeout").and_then(|value| timeout(value.to_str().ok()?));
        let (response, outcome) = self.propose(request.get_ref(), begun, timeout);
        let figures = &self.shared.figures;
        figures.enriched(Some(outcome));
        for mutation in &response.mutations {
            figures.proposed(mutation.intent().as_str_name());
        }
        let mut answer = tonic::Response::new(response);
        let value = |text: &'static str| MetadataValue::<Ascii>::from_static(text);
        answer.metadata_mut().insert(super::routes::OUTCOME, value(outcome.as_str()));
        if let Enrichment::Refused(reason) = outcome {
            answer.metadata_mut().insert(super::routes::REASON, value(reason));
        }
        if let Enrichment::Elsewhere(partition) = outcome {
            answer.metadata_mut().insert(super::routes::PARTITION, MetadataValue::from(partition));
            let owner = self.shared.owner(partition).and_then(|owner| MetadataValue::<Ascii>::try_from(&*owner).ok());
            owner.and_then(|owner| answer.metadata_mut().insert(super::routes::OWNER, owner));
        }
        Ok(answer)
    }
}
