//! The paths of the serving port.
//!
//! | path | answer |
//! |---|---|
//! | `GET /v1/decisions/{user}` | the user's decision: 200, 304, 404 (unknown), 410 (expired) or 307 (another process has it) |
//! | `POST /v1/decisions:batch` | the decisions of several users, in their order |
//! | `POST /openrtb2/enrich` | the bid request, with the segments of its user |
//! | `GET /livez`, `GET /readyz` | 200, or 503 and the reasons |
//! | `GET /metrics` | Prometheus' text format |
//!
//! With a token, everything but the probes needs it. Users are not listed anywhere.

use super::{
    body::{self, BodyFault, Limits},
    figures::{Figures, Place},
    follow::now,
    negotiate::{Form, has_tag},
    owners::Owners,
    tls::Tls,
    tokens::Tokens,
};
use crate::{
    event::UserKeys,
    metrics,
    serve::{Enricher, Enrichment, Lookup, Store, StoredDecision},
    telemetry::admin::AdminState,
};
use http_body_util::Full;
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{self, HeaderValue},
};
use percent_encoding::percent_decode_str;
use std::{
    borrow::Cow,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

pub(super) type Answer = Response<Full<Bytes>>;

/// What became of a bid request.
pub(super) const OUTCOME: &str = "aimpoint-outcome";
/// Why its signals forbid enrichment.
pub(super) const REASON: &str = "aimpoint-reason";
/// The partition of a user for whom another process answers.
pub(super) const PARTITION: &str = "aimpoint-partition";
/// Where that process is, if it is known.
pub(super) const OWNER: &str = "aimpoint-owner";

pub(super) const TEXT: &str = "text/plain; charset=utf-8";
const USERS: &str = "/v1/decisions/";
const BATCH: &str = "/v1/decisions:batch";
const ENRICH: &str = "/openrtb2/enrich";

/// What all threads share.
pub(super) struct Shared {
    /// How users are named in the store.
    pub(super) users: UserKeys,
    pub(super) store: Arc<Store>,
    pub(super) figures: Arc<Figures>,
    pub(super) admin: Arc<AdminState>,
    pub(super) limits: Limits,
    /// `None` if nobody needs one.
    pub(super) tokens: Option<Tokens>,
    pub(super) tls: Option<Tls>,
    /// Who answers for the partitions of others; `None` if each process has all of them.
    pub(super) owners: Option<Arc<Owners>>,
}

impl Shared {
    /// Where the process is that answers for a partition of others.
    pub(super) fn owner(&self, partition: i32) -> Option<Arc<str>> {
        self.owners.as_ref().and_then(|owners| owners.of(partition))
    }

    /// Whether a request with this head has one of the tokens, if there are any.
    pub(super) fn is_permitted(&self, head: &HeaderMap) -> bool {
        let Some(tokens) = &self.tokens else { return true };
        let given = head.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = given.and_then(|value| value.split_once(' '));
        token.is_some_and(|(scheme, token)| {
            scheme.eq_ignore_ascii_case("bearer") && tokens.has(token.trim_start_matches(' '))
        })
    }
}

/// Answers the requests of one thread.
pub(super) struct Answerer {
    pub(super) shared: Arc<Shared>,
    /// Only this thread uses it, so nobody waits.
    pub(super) enricher: Option<Mutex<Enricher>>,
}

impl Answerer {
    /// Answers a request.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Answer {
        let begun = Instant::now();
        let answer = self.route(request).await;
        self.shared.figures.times.record(begun.elapsed());
        answer
    }

    async fn route(&self, request: Request<Incoming>) -> Answer {
        let is_get = matches!(*request.method(), Method::GET | Method::HEAD);
        match (request.uri().path(), is_get) {
            ("/livez", true) => return self.livez(),
            ("/readyz", true) => return self.readyz(),
            _ if !self.shared.is_permitted(request.headers()) => {
                metrics::serve_turned_away("token");
                let why = "this needs the token: Authorization: Bearer <serve.token>\n";
                let mut answer = text(StatusCode::UNAUTHORIZED, why);
                answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
                return answer;
            }
            _ => {}
        }
        let path = request.uri().path();
        let is_post = *request.method() == Method::POST;
        match path {
            BATCH if is_post => {
                let accept = joined(request.headers(), header::ACCEPT).map(Cow::into_owned);
                match self.body(request).await {
                    Ok((_place, body)) => self.batch(accept.as_deref(), &body).await,
                    Err(answer) => answer,
                }
            }
            ENRICH if is_post => match self.body(request).await {
                Ok((_place, body)) => self.enrich(&body),
                Err(answer) => answer,
            },
            BATCH | ENRICH => method("use POST\n", "POST"),
            "/metrics" if is_get => reply(
                StatusCode::OK,
                "text/plain; version=0.0.4; charset=utf-8",
                self.shared.admin.prometheus().into_bytes(),
            ),
            _ if path.strip_prefix(USERS).is_some_and(|user| !user.is_empty()) => {
                if is_get {
                    self.decision(&request)
                } else {
                    method("use GET\n", "GET, HEAD")
                }
            }
            "/livez" | "/readyz" | "/metrics" => method("use GET\n", "GET, HEAD"),
            _ => text(StatusCode::NOT_FOUND, "not found; users are at /v1/decisions/{user}\n"),
        }
    }

    fn livez(&self) -> Answer {
        if self.shared.admin.is_alive() {
            text(StatusCode::OK, "alive\n")
        } else {
            text(StatusCode::SERVICE_UNAVAILABLE, "the loop that reads decisions is blocked\n")
        }
    }

    fn readyz(&self) -> Answer {
        let reasons = self.shared.admin.why_not_ready();
        if reasons.is_empty() {
            text(StatusCode::OK, "ready\n")
        } else {
            reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, (reasons.join("\n") + "\n").into_bytes())
        }
    }

    /// Reads the body of a request, if there is a place, which is then taken.
    ///
    /// # Errors
    /// The answer to a request without a body that can be read.
    async fn body(&self, request: Request<Incoming>) -> Result<(Place<'_>, String), Answer> {
        let Shared { figures, limits, .. } = &*self.shared;
        let Some(place) = figures.begin_body(limits.requests) else {
            metrics::serve_turned_away("requests");
            return Err(too_many());
        };
        let (reason, status, why) = match body::read(request, limits).await {
            Ok(body) => match String::from_utf8(body.into()) {
                Ok(body) => return Ok((place, body)),
                Err(error) => {
                    let at = error.utf8_error().valid_up_to();
                    let why = format!("the body is no UTF-8 from byte {at} on\n");
                    ("bad_request", StatusCode::BAD_REQUEST, why)
                }
            },
            Err(BodyFault::TooLarge) => {
                let why = format!("a body has at most {} bytes (serve.body_max)\n", limits.body_bytes);
                ("too_large", StatusCode::PAYLOAD_TOO_LARGE, why)
            }
            Err(BodyFault::Slow) => {
                let time = crate::duration::display(limits.body);
                let why = format!("the body did not arrive within {time} (serve.body_timeout)\n");
                ("slow", StatusCode::REQUEST_TIMEOUT, why)
            }
            Err(BodyFault::Broken) => ("bad_request", StatusCode::BAD_REQUEST, "the body is broken\n".to_owned()),
            Err(BodyFault::Encoded) => {
                let why = "send the body without Content-Encoding\n".to_owned();
                ("bad_request", StatusCode::UNSUPPORTED_MEDIA_TYPE, why)
            }
        };
        metrics::serve_turned_away(reason);
        let mut answer = reply(status, TEXT, why.into_bytes());
        // The rest of the body is not read.
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        Err(answer)
    }

    fn decision(&self, request: &Request<Incoming>) -> Answer {
        let header = |name| joined(request.headers(), name);
        let Some(form) = Form::of(header(header::ACCEPT).as_deref()) else {
            return text(StatusCode::NOT_ACCEPTABLE, "a decision is application/json or application/x-protobuf\n");
        };
        let user = request.uri().path().strip_prefix(USERS).unwrap_or_default();
        let Ok(user) = percent_decode_str(user).decode_utf8() else {
            metrics::serve_turned_away("bad_request");
            return text(StatusCode::BAD_REQUEST, "the user's key is no UTF-8\n");
        };
        let known = header(header::IF_NONE_MATCH);
        let found = self.look_up(&user, |decision| {
            let tag = tag(&decision, form);
            let is_known = known.as_deref().is_some_and(|known| has_tag(known, &tag));
            let body = if is_known {
                None
            } else {
                Some(match form {
                    Form::Json => decision.json(),
                    Form::Protobuf => decision.protobuf(),
                })
            };
            (tag, body)
        });
        let (tag, body) = match found {
            Lookup::Found(found) => found,
            Lookup::Expired => return text(StatusCode::GONE, "the user's last decision has expired\n"),
            Lookup::Unknown => return text(StatusCode::NOT_FOUND, "there is no decision about this user\n"),
            Lookup::Elsewhere(partition) => return self.elsewhere(partition, request.uri().path()),
        };
        let mut answer = match body {
            Some(body) => reply(StatusCode::OK, form.content_type(), body),
            None => {
                let mut answer = Response::new(Full::default());
                *answer.status_mut() = StatusCode::NOT_MODIFIED;
                answer
            }
        };
        let headers = answer.headers_mut();
        // A tag has only hexadecimal digits and a letter.
        if let Ok(tag) = HeaderValue::try_from(tag) {
            headers.insert(header::ETAG, tag);
        }
        headers.insert(header::VARY, HeaderValue::from_static("accept"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
        answer
    }

    /// The answer about a user of another process: where to ask.
    fn elsewhere(&self, partition: i32, path: &str) -> Answer {
        let place = |owner: &str| HeaderValue::try_from(format!("{owner}{path}")).ok();
        let mut answer = match self.shared.owner(partition).and_then(|owner| place(&owner)) {
            Some(place) => {
                let mut answer = text(
                    StatusCode::TEMPORARY_REDIRECT,
                    "another process answers for this user: see the header location\n",
                );
                answer.headers_mut().insert(header::LOCATION, place);
                answer
            }
            None => {
                metrics::serve_turned_away("no_owner");
                let why = "no process has read this user's partition yet; try again in a moment\n";
                let mut answer = text(StatusCode::SERVICE_UNAVAILABLE, why);
                answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
                answer
            }
        };
        answer.headers_mut().insert(PARTITION, HeaderValue::from(partition));
        answer
    }

    pub(super) fn look_up<T>(&self, user: &str, take: impl FnOnce(StoredDecision<'_>) -> T) -> Lookup<T> {
        let (users, store, mut take) = (&self.shared.users, &self.shared.store, Some(take));
        let mut look_up = |users: &UserKeys| {
            let take = |it: StoredDecision<'_>| take.take().map(|take| take(it));
            match store.look_up(&users.sought_by_key(user), now(), take) {
                Lookup::Found(Some(found)) => Lookup::Found(found),
                Lookup::Expired => Lookup::Expired,
                Lookup::Found(None) | Lookup::Unknown => Lookup::Unknown,
                Lookup::Elsewhere(partition) => Lookup::Elsewhere(partition),
            }
        };
        let mut found = look_up(users);
        // While the key of pseudonyms changes, a user who has not moved yet has the former name.
        if let (Lookup::Unknown, Some(previous)) = (&found, users.previous())
            && let former @ (Lookup::Found(_) | Lookup::Expired) = look_up(&previous)
        {
            // The owner of the former name would send back who asks there.
            found = former;
        }
        self.shared.figures.looked_up(&found);
        found
    }

    fn enrich(&self, body: &str) -> Answer {
        let Some(enricher) = &self.enricher else {
            return text(StatusCode::NOT_FOUND, "bid requests are not enriched here; set serve.provider\n");
        };
        let mut out = Vec::with_capacity(body.len() + 512);
        let mut enricher = enricher.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = enricher.enrich(&self.shared.store, body, now(), &mut out);
        drop(enricher);
        self.shared.figures.enriched(outcome.as_ref().ok().copied());
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => return reply(StatusCode::BAD_REQUEST, TEXT, format!("{error}\n").into_bytes()),
        };
        let mut answer = reply(StatusCode::OK, Form::Json.content_type(), out);
        let headers = answer.headers_mut();
        headers.insert(OUTCOME, HeaderValue::from_static(outcome.as_str()));
        if let Enrichment::Refused(reason) = outcome {
            headers.insert(REASON, HeaderValue::from_static(reason));
        }
        if let Enrichment::Elsewhere(partition) = outcome {
            headers.insert(PARTITION, HeaderValue::from(partition));
            let owner = self.shared.owner(partition).and_then(|owner| HeaderValue::try_from(&*owner).ok());
            owner.and_then(|owner| headers.insert(OWNER, owner));
        }
        answer
    }
}

/// The values of a header that is a list, which may be on several lines. `None` without it; a value that is no text is left out.
fn joined(head: &HeaderMap, name: header::HeaderName) -> Option<Cow<'_, str>> {
    let mut values = head.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let first = values.next()?;
    Some(values.fold(Cow::Borrowed(first), |all, value| Cow::Owned(format!("{all},{value}"))))
}

/// The tag of a decision in a form, in quotes.
fn tag(decision: &StoredDecision<'_>, form: Form) -> String {
    let form = if form == Form::Json { 'j' } else { 'p' };
    format!("\"{:016x}{form}\"", decision.tag())
}

/// The answer to more than there is a place for.
pub(super) fn too_many() -> Answer {
    let mut answer = text(StatusCode::TOO_MANY_REQUESTS, "too many at once; try again in a moment\n");
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    answer
}

fn method(why: &'static str, allow: &'static str) -> Answer {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, why);
    answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
    answer
}

pub(super) fn text(status: StatusCode, body: &'static str) -> Answer {
    reply(status, TEXT, body.as_bytes().to_vec())
}

pub(super) fn reply(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Answer {
    let mut answer = Response::new(Full::from(Bytes::from(body)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}
