//! What a team builds without serve: a small service that gets the user's decision from Redis and puts the segments into
//! the bid request. It checks no consent and no end of memberships, counts nothing, and bounds nothing.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use prost::Message;
use redis::{AsyncCommands, AsyncConnectionConfig, aio::MultiplexedConnection};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;

/// The parts of `aimpoint.v1.Decision` that it needs.
#[derive(Clone, PartialEq, Message)]
struct Decision {
    #[prost(int64, tag = "7")]
    expires_at: i64,
    #[prost(message, repeated, tag = "9")]
    segments: Vec<Segment>,
}

#[derive(Clone, PartialEq, Message)]
struct Segment {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(uint32, tag = "3")]
    segtax: u32,
}

/// Serves until it is killed.
pub fn run(address: &str, redis: &str, threads: usize) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    runtime.block_on(async {
        // One connection, on which requests that come together are sent together.
        let client = redis::Client::open(format!("redis://{redis}/"))?;
        // By default it gives up after half a second, which ends the client's connection and with it the turn.
        let patient = AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(10)));
        let redis = client.get_multiplexed_async_connection_with_config(&patient).await?;
        let listener = TcpListener::bind(address).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let redis = redis.clone();
            tokio::spawn(async move {
                let service = service_fn(|request| answer(request, redis.clone()));
                http1::Builder::new().serve_connection(TokioIo::new(stream), service).await
            });
        }
    })
}

async fn answer(request: Request<Incoming>, redis: MultiplexedConnection) -> anyhow::Result<Response<Full<Bytes>>> {
    let body = request.into_body().collect().await?.to_bytes();
    Ok(Response::new(Full::new(enriched(&body, redis).await?)))
}

async fn enriched(body: &[u8], mut redis: MultiplexedConnection) -> anyhow::Result<Bytes> {
    let mut request: Value = serde_json::from_slice(body)?;
    let Some(user) = request["user"]["buyeruid"].as_str() else { return Ok(Bytes::copy_from_slice(body)) };
    let found: Option<Vec<u8>> = redis.get(user).await?;
    let Some(decision) = found.map(|it| Decision::decode(&*it)).transpose()? else {
        return Ok(Bytes::copy_from_slice(body));
    };
    if decision.expires_at > SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros() as i64 {
        let segments: Vec<Value> = decision.segments.iter().map(|it| json!({ "id": it.id, "name": it.name })).collect();
        let data = json!({ "name": "shop.example", "segment": segments, "ext": { "segtax": 4 } });
        match &mut request["user"]["data"] {
            Value::Array(list) => list.push(data),
            other => *other = json!([data]),
        }
    }
    Ok(serde_json::to_vec(&request)?.into())
}
