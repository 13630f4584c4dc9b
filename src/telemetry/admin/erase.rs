//! `POST /erase`: asks to erase one user. The body is the user's id; `?key_type=device` or `app` gives its type.

use super::{
    AdminState,
    routes::{Answer, TEXT, answer},
    server::BODY_DEADLINE,
};
use crate::event::KeyType;
use http_body_util::{BodyExt, Limited};
use hyper::{Method, Request, StatusCode, body::Incoming};
use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

/// The longest id; events with longer ones are rejected.
const ID_BYTES_MAX: usize = 1_024;

/// How long a client waits: less than the limit of its connection.
const WAIT: Duration = Duration::from_secs(7);

/// Why nothing was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EraseFault {
    /// Whether no user can have the id.
    pub is_id_unfit: bool,
    /// What has failed, for people.
    pub why: String,
}

/// Asks to erase the user with this type and id: returns in how many partitions, or what has failed.
pub type Erase = dyn Fn(KeyType, &str) -> Result<usize, EraseFault> + Send + Sync;

impl AdminState {
    /// Sets how to ask for an erasure.
    pub fn set_erase(&self, erase: Arc<Erase>) {
        *self.erase.lock().unwrap_or_else(PoisonError::into_inner) = Some(erase);
    }

    /// Asks to erase the user whose id is the body.
    pub(super) async fn answer_erase(&self, request: Request<Incoming>) -> Answer {
        if self.token.is_none() {
            return answer(
                StatusCode::FORBIDDEN,
                TEXT,
                "an erasure needs a token: set admin.token (AIMPOINT__ADMIN__TOKEN) and send Authorization: Bearer \
                 <admin.token>; or use: aimpoint erase --user ID\n",
            );
        }
        if request.method() != Method::POST {
            return answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, "use POST\n");
        }
        let Some(key_type) = key_type(request.uri().query()) else {
            return answer(StatusCode::BAD_REQUEST, TEXT, "key_type is person, device or app\n");
        };
        let body = Limited::new(request.into_body(), ID_BYTES_MAX).collect();
        let body = match tokio::time::timeout(BODY_DEADLINE, body).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(_)) => return answer(StatusCode::PAYLOAD_TOO_LARGE, TEXT, "an id has 1,024 bytes at most\n"),
            Err(_) => return answer(StatusCode::REQUEST_TIMEOUT, TEXT, "the body did not arrive within 2 s\n"),
        };
        let id = std::str::from_utf8(&body).unwrap_or_default();
        if id.trim().is_empty() {
            return answer(StatusCode::BAD_REQUEST, TEXT, "send the user's id as the body, in UTF-8\n");
        }
        let erase = self.erase.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(erase) = erase else {
            return answer(
                StatusCode::SERVICE_UNAVAILABLE,
                TEXT,
                "this process cannot ask for erasures, or not yet: wait until the workers of `aimpoint run` have started\n",
            );
        };
        let id = id.to_owned();
        match tokio::time::timeout(WAIT, tokio::task::spawn_blocking(move || erase(key_type, &id))).await {
            Ok(Ok(Ok(partitions))) => answer(
                StatusCode::ACCEPTED,
                TEXT,
                format!("asked in {partitions} partitions: workers erase the user with their next commit\n"),
            ),
            Ok(Ok(Err(fault))) => fault.answer(),
            Ok(Err(_)) => answer(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "a bug: see the log\n"),
            Err(_) => answer(
                StatusCode::GATEWAY_TIMEOUT,
                TEXT,
                "the broker has not accepted the request yet: ask again, which does no harm\n",
            ),
        }
    }
}

impl EraseFault {
    fn answer(&self) -> Answer {
        let status = if self.is_id_unfit { StatusCode::BAD_REQUEST } else { StatusCode::BAD_GATEWAY };
        answer(status, TEXT, format!("not asked: {}\n", self.why.trim_end()))
    }
}

/// The type of the id by the query; `None` if it names no type.
fn key_type(query: Option<&str>) -> Option<KeyType> {
    match query.unwrap_or_default() {
        "" => Some(KeyType::Person),
        query => query.strip_prefix("key_type=").and_then(KeyType::named),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_no_user_can_have_is_the_client_s_fault_and_the_rest_is_not() {
        for (is_id_unfit, status) in [(true, 400), (false, 502)] {
            let fault = EraseFault { is_id_unfit, why: "expected an e-mail address".to_owned() };
            assert_eq!(fault.answer().status().as_u16(), status);
        }
    }

    #[test]
    fn the_type_of_an_id_is_a_person_unless_the_query_says_otherwise() {
        assert_eq!(key_type(None), Some(KeyType::Person));
        assert_eq!(key_type(Some("key_type=device")), Some(KeyType::Device));
        assert_eq!((key_type(Some("key_type=cat")), key_type(Some("x=1"))), (None, None));
    }
}
