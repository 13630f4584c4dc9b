//! The role `serve` as an agent, asked by a host that is written in Python and has its own description of the messages.

use crate::program::{Program, now_ms, wait_for};
use aimpoint::proto::v1;
use prost::Message;
use rdkafka::{
    ClientConfig,
    producer::{BaseProducer, BaseRecord, Producer},
};
use serde_json::{Value, json};
use std::{
    io::Write,
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

const CONFIG: &str = r#"
[app]
name = "shop"

[serve]
threads = 1
token = "0123456789abcdef"

[serve.grpc]

[consent]
enabled = true
vendor_id = 7
without_law = ["emit"]

[decision]
seat = "s1"
"#;

const PATIENCE: Duration = Duration::from_mins(1);

/// Asks as a host, and returns what `agent.py` found.
fn ask(address: &str, requests: &Value) -> Value {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join(".tools/grpc/bin/python");
    assert!(python.is_file(), "{} is absent: run make tools, which fetches it", python.display());
    let mut command = Command::new(python);
    command.arg(root.join("tests/kafka/agent.py")).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = command.spawn().unwrap();
    let task = json!({ "address": address, "token": "0123456789abcdef", "requests": requests });
    running.stdin.take().unwrap().write_all(task.to_string().as_bytes()).unwrap();
    let output = running.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A decision with two segments and a campaign.
fn decide(program: &Program, user: &str) {
    let now = now_ms() * 1_000;
    let segment = |id: &str| v1::Segment { id: id.to_owned(), segtax: 4, ..v1::Segment::default() };
    let offer = v1::CampaignOffer {
        id: "shoes".to_owned(),
        bid_micros: 3_000_000,
        shaded_micros: 2_100_000,
        currency: "USD".to_owned(),
        deals: vec!["deal-1".to_owned(), "deal-2".to_owned()],
        ..v1::CampaignOffer::default()
    };
    let it = v1::Decision {
        decision_id: format!("shop:clickstream-0-{now}"),
        user_key: user.to_owned(),
        decided_at: now,
        expires_at: now + 600_000_000,
        key_type: v1::KeyType::Person.into(),
        segments: vec![segment("603"), segment("604")],
        model: Some(v1::Model { version: "7".to_owned(), ..v1::Model::default() }),
        campaigns: vec![offer],
        ..v1::Decision::default()
    };
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", &program.kafka.brokers).create().unwrap();
    producer.send(BaseRecord::to("decisions").key(user).payload(&it.encode_to_vec())).unwrap();
    producer.flush(PATIENCE).unwrap();
}

#[test]
fn a_host_in_another_language_gets_changes_that_it_understands() {
    let program = Program::start(1, CONFIG);
    program.create("decisions", 1, &[]);
    decide(&program, "ann");
    let port = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (http, grpc) = (format!("127.0.0.1:{}", port()), format!("127.0.0.1:{}", port()));
    let set = format!("serve.grpc.address={grpc}");
    let arguments = ["--address", &http, "--admin", "127.0.0.1:0", "--set", &set];
    let _server = program.spawn_as("serve", "serve-a", &arguments);
    wait_for("the process to answer", PATIENCE, || std::net::TcpStream::connect(&grpc).is_ok());
    wait_for("health to say so", PATIENCE, || ask(&grpc, &json!([]))["health"] == "SERVING");

    let about = |user: &str| {
        json!({
            "id": "auction-1", "imp": [{ "id": "1", "bidfloor": 0.5, "secure": true,
                "pmp": { "private_auction": true, "deals": [{ "id": "deal-1", "bidfloor": 2.5, "at": 1 }] } }], "tmax": 120, "cur": ["USD", "EUR"],
            "user": { "buyeruid": user, "yob": 1990, "data": [{ "id": "x", "segment": [{ "id": "1" }] }] },
            "device": { "ua": "☃", "geo": { "lat": 35.6, "country": "JPN" }, "devicetype": 4 },
        })
    };
    let bids = json!({ "id": "auction-1", "seatbid": [
        { "seat": "s1", "bid": [{ "id": "b1", "impid": "1", "price": 3.0, "cid": "shoes", "adomain": ["shop.example"] },
                                { "id": "b2", "impid": "1", "price": 2.0, "cid": "shoes" }] },
        { "seat": "s2", "bid": [{ "id": "b3", "impid": "1", "price": 9.0, "cid": "shoes" }] },
    ] });
    let all = json!(["ACTIVATE_SEGMENTS", "ACTIVATE_DEALS", "BID_SHADE"]);
    let mut in_law = about("ann");
    in_law["regs"] = json!({ "gdpr": true, "gpp_sid": [2, -1] });
    let found = ask(
        &grpc,
        &json!([
            { "id": "r1", "tmax": 5_000, "lifecycle": "LIFECYCLE_DSP_BID_RESPONSE", "originator": { "type": 2, "id": "ssp" },
              "bid_request": about("ann"), "bid_response": bids, "applicable_intents": all },
            { "id": "r2", "tmax": 5_000, "lifecycle": "LIFECYCLE_PUBLISHER_BID_REQUEST", "bid_request": about("ann"),
              "bid_response": bids, "applicable_intents": ["ACTIVATE_SEGMENTS"] },
            { "id": "r3", "tmax": 5_000, "bid_request": about("ann"), "applicable_intents": ["ADD_METRICS"] },
            { "id": "r4", "tmax": 5_000, "bid_request": in_law, "applicable_intents": all },
            { "id": "r5", "tmax": 5_000, "bid_request": about("eve") },
        ]),
    );
    let activate = json!({
        "intent": "ACTIVATE_SEGMENTS", "op": "OPERATION_ADD", "path": "/user/data/segment", "ids": { "id": ["603", "604"] },
    });
    let deals = json!({
        "intent": "ACTIVATE_DEALS", "op": "OPERATION_ADD", "path": "/imp/1", "ids": { "id": ["deal-2"] },
    });
    let shade = json!({
        "intent": "BID_SHADE", "op": "OPERATION_REPLACE", "path": "/seatbid/s1/bid/b1", "adjust_bid": { "price": 2.1 },
    });
    let (scored, plain) = (json!({ "api_version": "1.0", "model_version": "7" }), json!({ "api_version": "1.0" }));
    for (index, (outcome, mutations)) in [
        ("enriched", json!([activate, deals, shade])),
        ("enriched", json!([activate])),
        ("not_asked", Value::Null),
        ("refused", Value::Null),
        ("unknown", Value::Null),
    ]
    .into_iter()
    .enumerate()
    {
        let got = &found["answers"][index];
        assert_eq!(got["outcome"], outcome, "{got}\n{}", program.logs());
        assert_eq!(got["answer"]["id"], format!("r{}", index + 1));
        assert_eq!(got["answer"]["mutations"], mutations, "{got}");
        assert_eq!(got["answer"]["metadata"], if mutations.is_null() { &plain } else { &scored }.clone(), "{got}");
        assert_eq!(got["reason"].is_null(), outcome != "refused", "{got}");
    }
    assert_eq!(found["without_token"], "UNAUTHENTICATED");
}
