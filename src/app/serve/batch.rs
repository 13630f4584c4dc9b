//! The answer about several users: `POST /v1/decisions:batch`.
//!
//! Guarantees: other requests of the thread are answered in between, after each [`TURN_USERS`] users or [`TURN_BYTES`] bytes. An
//! answer that has reached `serve.answer_max` leaves out the users that remain (`left_out`), for whom the client asks again; at
//! least the first one is answered.

use super::{
    negotiate::Form,
    routes::{Answer, Answerer, TEXT, reply, text},
};
use crate::{json_place::JsonPlace, metrics, serve::Lookup};
use hyper::StatusCode;
use serde::Deserialize;

/// After how many users, and bytes of decisions, others have their turn: a tenth of a millisecond or so.
const TURN_USERS: usize = 16;
const TURN_BYTES: usize = 16 << 10;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch {
    users: Vec<String>,
}

impl Answerer {
    /// Answers about several users. `accept`: the forms that the client takes.
    pub(super) async fn batch(&self, accept: Option<&str>, body: &str) -> Answer {
        if !Form::takes_json(accept) {
            return text(StatusCode::NOT_ACCEPTABLE, "the decisions of several users are application/json\n");
        }
        let batch: Batch = match serde_json::from_str(body) {
            Ok(batch) => batch,
            Err(error) => {
                metrics::serve_turned_away("bad_request");
                let why = format!("{}: expected {{\"users\":[\"…\"]}}\n", JsonPlace::from(&error));
                return reply(StatusCode::BAD_REQUEST, TEXT, why.into_bytes());
            }
        };
        let limits = &self.shared.limits;
        let max = limits.batch;
        if batch.users.len() > max {
            metrics::serve_turned_away("too_large");
            let why = format!("a request has at most {max} users (serve.batch_max)\n");
            return reply(StatusCode::PAYLOAD_TOO_LARGE, TEXT, why.into_bytes());
        }
        let mut out = b"{\"decisions\":[".to_vec();
        let mut turn = (0, 0);
        for (index, user) in batch.users.iter().enumerate() {
            if index > 0 {
                out.push(b',');
                if index - turn.0 >= TURN_USERS || out.len() - turn.1 >= TURN_BYTES {
                    turn = (index, out.len());
                    tokio::task::yield_now().await;
                }
            }
            if out.len() >= limits.answer_bytes && index > 0 {
                out.extend_from_slice(b"{\"status\":\"left_out\",\"decision\":null}");
            } else {
                self.write(user, &mut out);
            }
        }
        out.extend_from_slice(b"]}");
        reply(StatusCode::OK, Form::Json.content_type(), out)
    }

    fn write(&self, user: &str, out: &mut Vec<u8>) {
        let found = self.look_up(user, |decision| decision.json());
        let (status, decision) = match &found {
            Lookup::Found(decision) => ("found", decision.as_slice()),
            Lookup::Expired => ("expired", &b"null"[..]),
            Lookup::Unknown => ("unknown", &b"null"[..]),
            Lookup::Elsewhere(_) => ("elsewhere", &b"null"[..]),
        };
        out.extend_from_slice(b"{\"status\":\"");
        out.extend_from_slice(status.as_bytes());
        out.extend_from_slice(b"\",\"decision\":");
        out.extend_from_slice(decision);
        if let Lookup::Elsewhere(partition) = found {
            // An address has nothing that JSON would escape.
            let owner = self.shared.owner(partition).map_or("null".to_owned(), |owner| format!("\"{owner}\""));
            out.extend_from_slice(format!(",\"partition\":{partition},\"owner\":{owner}").as_bytes());
        }
        out.push(b'}');
    }
}
