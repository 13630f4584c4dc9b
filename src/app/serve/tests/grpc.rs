//! The port for gRPC, asked by a client that knows HTTP/2 and nothing of our messages' code.

use super::{LIMITS, Limits, Server};
use crate::{
    app::serve::owners::Owners,
    proto::{
        iab::{
            mutation::{RtbRequest, RtbResponse},
            openrtb::{BidRequest, bid_request::User},
        },
        v1,
    },
    serve::Store,
    status::RolePhase,
};
use h2::client::SendRequest;
use hyper::{HeaderMap, Request, body::Bytes, header::AUTHORIZATION};
use prost::Message;
use std::time::{Duration, Instant};
use tokio::{net::TcpStream, runtime::Runtime};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

const MUTATIONS: &str = "/com.iabtechlab.bidstream.mutation.services.v1.RTBExtensionPoint/GetMutations";
const HEALTH: &str = "/grpc.health.v1.Health/Check";
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
const OLDER_REFLECTION: &str = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";

/// The code and message of a call's end, its head, and the message of the answer.
struct Answer {
    code: u8,
    why: String,
    head: HeaderMap,
    message: Vec<u8>,
}

/// A connection to the port.
struct Client {
    runtime: Runtime,
    send: SendRequest<Bytes>,
    /// A further header of each call.
    header: Option<(&'static str, &'static str)>,
}

impl Client {
    fn connect(server: &Server) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let send = runtime.block_on(async {
            let stream = TcpStream::connect(server.grpc).await.unwrap();
            let (send, connection) = h2::client::handshake(stream).await.unwrap();
            // The connection ends with the runtime.
            drop(tokio::spawn(connection));
            send
        });
        Self { runtime, send, header: None }
    }

    /// Sends these bytes as a call, and reads the answer. `ends`: whether the request is complete.
    fn send(&self, path: &str, token: Option<&str>, bytes: Vec<u8>, ends: bool) -> Result<Answer, h2::Error> {
        let mut request = Request::post(format!("http://localhost{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some((name, value)) = self.header {
            request = request.header(name, value);
        }
        self.runtime.block_on(async {
            let mut send = self.send.clone().ready().await?;
            let (response, mut body) = send.send_request(request.body(()).unwrap(), false)?;
            body.send_data(bytes.into(), ends)?;
            let (head, mut body) = response.await?.into_parts();
            let mut message = Vec::new();
            while let Some(part) = body.data().await {
                let part = part?;
                body.flow_control().release_capacity(part.len())?;
                message.extend_from_slice(&part);
            }
            let trailers = body.trailers().await?.unwrap_or_default();
            let end = |name| trailers.get(name).or(head.headers.get(name)).and_then(|it| it.to_str().ok());
            let code = end("grpc-status").expect("a status").parse().unwrap();
            let why = end("grpc-message").unwrap_or_default().replace("%20", " ");
            Ok(Answer { code, why, head: head.headers, message: message.split_off(message.len().min(5)) })
        })
    }

    fn call(&self, path: &str, message: &impl Message) -> Answer {
        self.send(path, None, frame(&message.encode_to_vec()), true).unwrap()
    }

    fn health(&self, service: &str) -> i32 {
        let answer = self.call(HEALTH, &HealthCheckRequest { service: service.to_owned() });
        HealthCheckResponse::decode(&answer.message[..]).unwrap().status
    }
}

/// A message as gRPC sends it.
fn frame(message: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend_from_slice(&(message.len() as u32).to_be_bytes());
    bytes.extend_from_slice(message);
    bytes
}

fn about(user: &str, tmax: Option<i32>) -> RtbRequest {
    let user = User { buyeruid: user.to_owned(), ..User::default() };
    let bid_request = Some(BidRequest { user: Some(user), ..BidRequest::default() });
    RtbRequest { id: "r1".to_owned(), tmax, bid_request, ..RtbRequest::default() }
}

fn response(answer: &Answer) -> (RtbResponse, &str) {
    assert_eq!(answer.code, 0, "{}", answer.why);
    let outcome = answer.head["aimpoint-outcome"].to_str().unwrap();
    (RtbResponse::decode(&answer.message[..]).unwrap(), outcome)
}

fn server_with_ann(limits: Limits, token: Option<&str>) -> Server {
    let server = Server::with(limits, token, true);
    let segment = v1::Segment { id: "603".to_owned(), ..v1::Segment::default() };
    server.keep("ann", &v1::Decision { segments: vec![segment], ..super::decision("ann", super::HOUR) });
    server
}

#[test]
fn changes_are_proposed_within_the_time_of_the_host() {
    let server = server_with_ann(LIMITS, None);
    let client = Client::connect(&server);
    for tmax in [None, Some(0), Some(-5), Some(1_000)] {
        let answer = client.call(MUTATIONS, &about("ann", tmax));
        let (proposed, outcome) = response(&answer);
        assert_eq!((proposed.mutations.len(), outcome), (1, "enriched"), "{tmax:?}");
        assert_eq!(proposed.mutations[0].path, "/user/data/segment");
    }
    let answer = client.call(MUTATIONS, &about("eve", Some(1_000)));
    assert_eq!(response(&answer).1, "unknown");

    // The rest of the request comes when the host's time is over.
    let whole = frame(&about("ann", Some(20)).encode_to_vec());
    let late = client.runtime.block_on(async {
        let request = Request::post(format!("http://localhost{MUTATIONS}")).header("content-type", "application/grpc");
        let mut send = client.send.clone().ready().await.unwrap();
        let (response, mut body) = send.send_request(request.body(()).unwrap(), false).unwrap();
        body.send_data(whole[..7].to_vec().into(), false).unwrap();
        tokio::time::sleep(Duration::from_millis(60)).await;
        body.send_data(whole[7..].to_vec().into(), true).unwrap();
        let (head, mut body) = response.await.unwrap().into_parts();
        (head.headers, body.data().await.unwrap().unwrap())
    });
    assert_eq!(late.0["aimpoint-outcome"], "late");
    let response = RtbResponse::decode(&late.1[5..]).unwrap();
    assert_eq!((response.id.as_str(), response.mutations.len()), ("r1", 0));
}

#[test]
fn a_refused_request_says_why() {
    let server = server_with_ann(LIMITS, None);
    let mut request = about("ann", None);
    let regs = crate::proto::iab::openrtb::bid_request::Regs { gdpr: Some(true), ..Default::default() };
    request.bid_request.as_mut().unwrap().regs = Some(regs);
    let answer = Client::connect(&server).call(MUTATIONS, &request);
    let (proposed, outcome) = response(&answer);
    assert_eq!((proposed.mutations.len(), outcome), (0, "refused"));
    assert_ne!(answer.head["aimpoint-reason"], "");
}

#[test]
fn a_host_learns_who_answers_for_a_user_of_another_process() {
    let owners = Owners::new("http://own:1");
    owners.set([("shop-serve-b@http://other:1".to_owned(), vec![1])]);
    let server = Server::of(Store::of_some(|_, _| 1), LIMITS, None, true, None, Some(owners));
    let answer = Client::connect(&server).call(MUTATIONS, &about("bob", None));
    let (proposed, outcome) = response(&answer);
    assert_eq!((proposed.mutations.len(), outcome), (0, "elsewhere"));
    let told = ["aimpoint-partition", "aimpoint-owner"].map(|name| answer.head[name].to_str().unwrap());
    assert_eq!(told, ["1", "http://other:1"]);
}

#[test]
fn health_follows_readiness_and_needs_no_token() {
    let server = Server::start(Some("0123456789abcdef"), true);
    let client = Client::connect(&server);
    let point = "com.iabtechlab.bidstream.mutation.services.v1.RTBExtensionPoint";
    // 1 is SERVING, 2 is NOT_SERVING.
    assert_eq!((client.health(""), client.health(point)), (2, 2));
    server.status.set(RolePhase::Ready("serving"));
    let deadline = Instant::now() + Duration::from_secs(10);
    while client.health("") != 1 || client.health(point) != 1 {
        assert!(Instant::now() < deadline, "health does not follow");
    }
    let nobody = client.call(HEALTH, &HealthCheckRequest { service: "nobody".to_owned() });
    assert_eq!(nobody.code, 5, "NOT_FOUND");

    for path in [MUTATIONS, REFLECTION, OLDER_REFLECTION] {
        let bytes = frame(&about("ann", None).encode_to_vec());
        for token in [None, Some("0123456789abcdeF")] {
            let refused = client.send(path, token, bytes.clone(), true).unwrap();
            assert_eq!(refused.code, 16, "UNAUTHENTICATED: {}", refused.why);
            assert!(refused.why.contains("serve.token"), "{}", refused.why);
        }
    }
    let bytes = frame(&about("ann", None).encode_to_vec());
    assert_eq!(client.send(MUTATIONS, Some("0123456789abcdef"), bytes, true).unwrap().code, 0);
}

#[test]
fn reflection_has_the_service_and_its_messages() {
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, ServerReflectionResponse, server_reflection_request::MessageRequest,
        server_reflection_response::MessageResponse,
    };
    let server = Server::start(None, true);
    let client = Client::connect(&server);
    // Both versions have the same messages.
    let ask_at = |path: &str, what: MessageRequest| {
        let request = ServerReflectionRequest { host: String::new(), message_request: Some(what) };
        let answer = client.call(path, &request);
        ServerReflectionResponse::decode(&answer.message[..]).unwrap().message_response.unwrap()
    };
    let ask = |what| ask_at(REFLECTION, what);
    let MessageResponse::ListServicesResponse(list) = ask(MessageRequest::ListServices(String::new())) else {
        panic!("no list")
    };
    let mut names: Vec<_> = list.service.iter().map(|it| it.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "com.iabtechlab.bidstream.mutation.services.v1.RTBExtensionPoint",
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
        ]
    );
    let symbol = "com.iabtechlab.openrtb.v2.BidRequest".to_owned();
    let MessageResponse::FileDescriptorResponse(files) = ask(MessageRequest::FileContainingSymbol(symbol)) else {
        panic!("no file")
    };
    assert!(!files.file_descriptor_proto.is_empty());
    let older = ask_at(OLDER_REFLECTION, MessageRequest::ListServices(String::new()));
    let MessageResponse::ListServicesResponse(older) = older else { panic!("no list for older tools") };
    assert!(older.service.iter().any(|it| it.name == names[0]), "{older:?}");
}

#[test]
fn bad_requests_have_a_status_that_says_what_to_do() {
    let server = server_with_ann(LIMITS, None);
    let client = Client::connect(&server);
    let long = "x".repeat(LIMITS.body_bytes);
    let mut compressed = frame(&about("ann", None).encode_to_vec());
    compressed[0] = 1;
    for (path, bytes, code, why) in [
        (MUTATIONS, frame(b"\xff\xff\xff"), 3, "not the message of this method"),
        (MUTATIONS, frame(&about(&long, None).encode_to_vec()), 8, "serve.body_max"),
        (MUTATIONS, compressed, 3, "not the message of this method"),
        ("/a.b.C/D", frame(b""), 12, "use com.iabtechlab"),
        (MUTATIONS.strip_suffix("GetMutations").unwrap(), frame(b""), 12, ""),
    ] {
        let answer = client.send(path, None, bytes, true).unwrap();
        assert_eq!(answer.code, code, "{path}: {}", answer.why);
        assert!(answer.why.contains(why), "{path}: {}", answer.why);
    }
    // The connection is still good.
    assert_eq!(response(&client.call(MUTATIONS, &about("ann", None))).1, "enriched");
    let with_encoding = Client { header: Some(("grpc-encoding", "gzip")), ..client };
    let mut compressed = frame(b"");
    compressed[0] = 1;
    let answer = with_encoding.send(MUTATIONS, None, compressed, true).unwrap();
    assert_eq!(answer.code, 12, "{}", answer.why);
}

#[test]
fn the_timeout_of_a_call_counts_like_that_of_the_host() {
    let server = server_with_ann(LIMITS, None);
    let mut client = Client::connect(&server);
    for (timeout, outcome) in
        [("0n", "late"), ("1n", "late"), ("1H", "enriched"), ("99999999S", "enriched"), ("soon", "enriched")]
    {
        client.header = Some(("grpc-timeout", timeout));
        for tmax in [None, Some(60_000)] {
            assert_eq!(response(&client.call(MUTATIONS, &about("ann", tmax))).1, outcome, "{timeout}");
        }
    }
}

#[test]
fn slow_requests_end_and_those_above_the_limit_are_told_at_once() {
    let limits = Limits { body: Duration::from_millis(700), ..LIMITS };
    let server = server_with_ann(limits, None);
    std::thread::scope(|scope| {
        let slow: Vec<_> = (0..limits.requests)
            .map(|_| {
                scope.spawn(|| {
                    let client = Client::connect(&server);
                    client.send(MUTATIONS, None, frame(b"1234")[..6].to_vec(), false).unwrap()
                })
            })
            .collect();
        let deadline = Instant::now() + Duration::from_secs(10);
        while server.shared.figures.bodies() < limits.requests {
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        }
        let client = Client::connect(&server);
        let begun = Instant::now();
        let full = client.call(MUTATIONS, &about("ann", None));
        assert_eq!((full.code, begun.elapsed() < limits.body), (8, true), "{}", full.why);
        assert_eq!(client.health(""), 2, "health needs no place");
        for it in slow {
            let answer = it.join().unwrap();
            assert!(answer.code == 4 && answer.why.contains("serve.body_timeout"), "{}", answer.why);
        }
        let deadline = Instant::now() + Duration::from_secs(10);
        while client.call(MUTATIONS, &about("ann", None)).code != 0 {
            assert!(Instant::now() < deadline, "the places are not free again");
        }
    });
}

#[test]
fn connections_have_a_limit_and_quiet_ones_end() {
    let limits = Limits { connections: 2, idle: Duration::from_millis(300), ..LIMITS };
    let server = server_with_ann(limits, None);
    let open = [Client::connect(&server), Client::connect(&server)];
    let deadline = Instant::now() + Duration::from_secs(10);
    while server.shared.figures.connections() < 2 {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
    let full = Client::connect(&server).call(MUTATIONS, &about("ann", None));
    assert!(full.code == 8 && full.why.contains("try again"), "{}", full.why);
    // One that is used stays, the other one ends, though its client says nothing any more.
    let deadline = Instant::now() + Duration::from_secs(20);
    while server.shared.figures.connections() > 1 {
        assert!(Instant::now() < deadline, "the quiet connection stays");
        assert_eq!(response(&open[0].call(MUTATIONS, &about("ann", None))).1, "enriched");
        std::thread::sleep(limits.idle / 10);
    }
    assert_eq!(response(&open[0].call(MUTATIONS, &about("ann", None))).1, "enriched");
    assert!(open[1].send(MUTATIONS, None, frame(b""), true).is_err());
}

#[test]
fn a_client_that_leaves_no_room_for_its_answers_loses_its_connection() {
    let server = server_with_ann(Limits { write: Duration::from_millis(300), ..LIMITS }, None);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ended = runtime.block_on(async {
        let stream = TcpStream::connect(server.grpc).await.unwrap();
        let builder = h2::client::Builder::new().initial_window_size(0).handshake::<_, Bytes>(stream);
        let (send, connection) = builder.await.unwrap();
        let running = tokio::spawn(connection);
        // It goes on asking.
        drop(tokio::spawn(async move {
            let whole = frame(&about("ann", None).encode_to_vec());
            let mut answers = Vec::new();
            while let Ok(mut ready) = send.clone().ready().await {
                let request = Request::post(format!("http://localhost{MUTATIONS}")).header("te", "trailers");
                let request = request.header("content-type", "application/grpc").body(()).unwrap();
                let Ok((answer, mut body)) = ready.send_request(request, false) else { return };
                body.send_data(whole.clone().into(), true).unwrap_or_default();
                answers.push(answer);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }));
        tokio::time::timeout(Duration::from_secs(20), running).await
    });
    assert!(ended.is_ok(), "the connection stays");
}

#[test]
fn stopping_ends_connections_with_the_answer_that_they_are_at() {
    let server = server_with_ann(LIMITS, None);
    let client = Client::connect(&server);
    let whole = frame(&about("ann", None).encode_to_vec());
    let message = client.runtime.block_on(async {
        let request = Request::post(format!("http://localhost{MUTATIONS}")).header("content-type", "application/grpc");
        let mut send = client.send.clone().ready().await.unwrap();
        let (response, mut body) = send.send_request(request.body(()).unwrap(), false).unwrap();
        body.send_data(whole[..7].to_vec().into(), false).unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        server.stop.send_replace(true);
        tokio::time::sleep(Duration::from_millis(100)).await;
        body.send_data(whole[7..].to_vec().into(), true).unwrap();
        response.await.unwrap().into_body().data().await.unwrap().unwrap()
    });
    assert_eq!(RtbResponse::decode(&message[5..]).unwrap().mutations.len(), 1);
}
