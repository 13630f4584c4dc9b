//! What is wrong between a client and its brokers, in words with a next step.
//!
//! Guarantees: pure, except for the one note of the newest trouble of this process. librdkafka reports a failed connection only to
//! its log and its error callback, while the call that waits for it fails with no more than a timeout; the note brings both
//! together. Limits: the texts are those of librdkafka 2.12 and Kafka 4; others are passed on as they are.

use rdkafka::error::RDKafkaErrorCode;
use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// What is wrong with a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The broker's certificate could not be verified; `certificate` says why.
    Certificate {
        /// Host and port.
        broker: String,
    },
    /// The broker refuses the client's certificate, or misses it.
    ClientCertificate {
        /// Host and port.
        broker: String,
    },
    /// A client without TLS at a port with TLS.
    NeedsTls {
        /// Host and port.
        broker: String,
    },
    /// A client with TLS at a port without it.
    NoTls {
        /// Host and port.
        broker: String,
    },
    /// A client without SASL at a port that requires it.
    NeedsSasl {
        /// Host and port.
        broker: String,
    },
    /// A client with SASL at a port without it.
    NoSasl {
        /// Host and port.
        broker: String,
    },
    /// The broker does not have the SASL mechanism.
    Mechanism {
        /// Host and port.
        broker: String,
        /// The client's mechanism.
        asked: String,
        /// Those of the broker.
        known: String,
    },
    /// The broker refuses the name or the password.
    Password {
        /// Host and port.
        broker: String,
    },
    /// The broker refuses the token.
    TokenRefused {
        /// Host and port.
        broker: String,
    },
    /// The token had expired when it came.
    TokenExpired,
    /// The token service issues none.
    NoToken {
        /// Its words.
        answer: String,
    },
    /// A broker's name cannot be resolved.
    UnknownHost {
        /// Host and port.
        broker: String,
    },
    /// Nothing listens there.
    NobodyThere {
        /// Host and port.
        broker: String,
    },
}

impl Trouble {
    /// The trouble that a message of the client tells; `None` if it tells none, or nothing that has a better wording.
    pub fn of(message: &str) -> Option<Self> {
        let has = |part: &str| message.contains(part);
        let broker = || broker(message).unwrap_or("a broker").to_owned();
        if let Some((_, answer)) = message.split_once("Failed to acquire SASL OAUTHBEARER token: ") {
            return Some(match answer {
                expired if expired.contains("unexpired token") => Self::TokenExpired,
                answer => Self::NoToken { answer: answer.trim().to_owned() },
            });
        }
        if let Some((_, answer)) = message.split_once("Failed to retrieve OIDC token from ") {
            return Some(Self::NoToken { answer: answer.trim().to_owned() });
        }
        if has("certificate verify failed") {
            return Some(Self::Certificate { broker: broker() });
        }
        if has("alert bad certificate")
            || has("alert unsupported certificate")
            || has("alert certificate")
            || has("alert unknown ca")
        {
            return Some(Self::ClientCertificate { broker: broker() });
        }
        if let Some((_, rest)) = message.split_once(": SASL ")
            && let Some((asked, rest)) = rest.split_once(" mechanism handshake failed: ")
        {
            let known = rest.split_once("supported mechanisms: ").map_or("", |(_, known)| known);
            let known = known.split_once(" (after ").map_or(known, |(known, _)| known).trim();
            // The connection was lost meanwhile.
            if rest.contains("Local: ") || known == "(n/a)" {
                return None;
            }
            return Some(if known.is_empty() {
                Self::NoSasl { broker: broker() }
            } else {
                Self::Mechanism { broker: broker(), asked: asked.to_owned(), known: known.replace(',', ", ") }
            });
        }
        if has("SASL authentication error") || has("Authentication failed") {
            let is_token = has("invalid_token") || has("OAUTHBEARER") || has("\"status\"");
            return Some(if is_token {
                Self::TokenRefused { broker: broker() }
            } else {
                Self::Password { broker: broker() }
            });
        }
        let is_tls = has("ssl://");
        let is_over = has("Disconnected") || has("closed by peer");
        if has("PLAINTEXT broker listener") || has("wrong version number") {
            return Some(Self::NoTls { broker: broker() });
        }
        if is_over && is_tls && has("in state SSL_HANDSHAKE") {
            return Some(Self::NoTls { broker: broker() });
        }
        if is_over && !is_tls && (has("in state APIVERSION_QUERY") || has("connecting to a SSL listener")) {
            return Some(Self::NeedsTls { broker: broker() });
        }
        // A connection that was in use ends like this as well.
        let took = message.split_once("(after ").and_then(|(_, rest)| rest.split_once("ms")?.0.parse::<u64>().ok());
        if is_over && !has("sasl_") && has("in state UP") && took.is_some_and(|ms| ms < 1_000) {
            return Some(Self::NeedsSasl { broker: broker() });
        }
        if has("Failed to resolve") {
            return Some(Self::UnknownHost { broker: broker() });
        }
        if has("Connection refused") {
            return Some(Self::NobodyThere { broker: broker() });
        }
        None
    }

    /// Whether waiting does not help: a person has to change something. What may as well be a restart of a broker is not.
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Certificate { .. }
            | Self::ClientCertificate { .. }
            | Self::NoSasl { .. }
            | Self::Mechanism { .. }
            | Self::Password { .. }
            | Self::TokenRefused { .. }
            | Self::TokenExpired => true,
            Self::NeedsTls { .. }
            | Self::NoTls { .. }
            | Self::NeedsSasl { .. }
            | Self::NoToken { .. }
            | Self::UnknownHost { .. }
            | Self::NobodyThere { .. } => false,
        }
    }

    /// Whether the message leaves no doubt about the cause. A restart of a broker looks like the others for a moment.
    pub(super) fn is_certain(&self) -> bool {
        !matches!(self, Self::NeedsTls { .. } | Self::NoTls { .. } | Self::NeedsSasl { .. } | Self::NobodyThere { .. })
    }

    /// What to do about it. `has_certificate`: the client is configured with a certificate of its own.
    pub fn next_step(&self, has_certificate: bool) -> &'static str {
        match self {
            Self::Certificate { .. } => {
                "set \"ssl.ca.location\" in [kafka.client] to the file with the authority of the brokers' certificates"
            }
            Self::ClientCertificate { .. } if has_certificate => {
                "have the certificate issued by an authority in the broker's truststore, and check when it ends"
            }
            Self::ClientCertificate { .. } => {
                "set \"ssl.certificate.location\" and \"ssl.key.location\" in [kafka.client]"
            }
            Self::NeedsTls { .. } => {
                "set \"security.protocol\" in [kafka.client] to \"SSL\" or \"SASL_SSL\", or name a listener without TLS in kafka.brokers"
            }
            Self::NoTls { .. } => {
                "name the brokers' TLS listener in kafka.brokers, or set \"security.protocol\" in [kafka.client] to \"PLAINTEXT\" or \
                 \"SASL_PLAINTEXT\""
            }
            Self::NeedsSasl { .. } => {
                "set \"security.protocol\" in [kafka.client] to \"SASL_SSL\", and \"sasl.mechanism\" to that of the brokers"
            }
            Self::NoSasl { .. } => {
                "name the brokers' SASL listener in kafka.brokers, or set \"security.protocol\" in [kafka.client] to \"SSL\" or \
                 \"PLAINTEXT\""
            }
            Self::Mechanism { .. } => "set \"sasl.mechanism\" in [kafka.client] to one of them",
            Self::Password { .. } => "correct \"sasl.username\" and \"sasl.password\" in [kafka.client]",
            Self::TokenRefused { .. } => {
                "check that the token service is the one that the broker trusts: its issuer, its audience and its keys"
            }
            Self::TokenExpired => {
                "compare the clock of this machine with that of the token service, and check how long its tokens last"
            }
            Self::NoToken { .. } => {
                "check \"sasl.oauthbearer.token.endpoint.url\", \"sasl.oauthbearer.client.id\" and \"sasl.oauthbearer.client.secret\" \
                 in [kafka.client]"
            }
            Self::UnknownHost { .. } => "correct kafka.brokers, or the name service of this machine",
            Self::NobodyThere { .. } => "check kafka.brokers, and that the broker runs",
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate { broker } => write!(f, "the certificate of {broker} cannot be verified"),
            Self::ClientCertificate { broker } => {
                write!(f, "{broker} requires a certificate of its clients, and accepts none from this one")
            }
            Self::NeedsTls { broker } => {
                write!(f, "{broker} closes the connection at the first request, as a listener with TLS does")
            }
            Self::NoTls { broker } => {
                write!(f, "{broker} closes the connection at the start of TLS, as a listener without TLS does")
            }
            Self::NeedsSasl { broker } => {
                write!(f, "{broker} closes the connection at the first request, as a listener with SASL does")
            }
            Self::NoSasl { broker } => write!(f, "{broker} has no SASL on this listener"),
            Self::Mechanism { broker, asked, known } => {
                write!(f, "{broker} does not have the SASL mechanism {asked}, but {known}")
            }
            Self::Password { broker } => write!(f, "{broker} refuses the user name or the password"),
            Self::TokenRefused { broker } => write!(f, "{broker} refuses the token"),
            Self::TokenExpired => f.write_str("the token for the brokers had expired when it came"),
            Self::NoToken { answer } => write!(f, "the token service issues no token: {answer}"),
            Self::UnknownHost { broker } => write!(f, "the host of {broker} is unknown"),
            Self::NobodyThere { broker } => write!(f, "nobody listens at {broker}"),
        }
    }
}

/// The broker that a message is about: host and port before `/bootstrap` or the broker's number.
fn broker(message: &str) -> Option<&str> {
    let end = message.find("/bootstrap").or_else(|| {
        let numbered = message.match_indices('/').find(|(at, _)| {
            let before = message[..*at].bytes().next_back();
            let after = message[at + 1..].bytes().next();
            before.is_some_and(|byte| byte.is_ascii_digit()) && after.is_some_and(|byte| byte.is_ascii_digit())
        });
        numbered.map(|(at, _)| at)
    })?;
    let start = message[..end].rfind(|letter: char| letter == '/' || letter.is_whitespace()).map_or(0, |at| at + 1);
    let found = message[start..end].trim_start_matches("[thrd:");
    found.contains(':').then_some(found)
}

/// For how long a guess does not replace what is known.
const MEMORY: Duration = Duration::from_secs(10);

/// The newest trouble of this process, and when it was noted.
static NEWEST: Mutex<Option<(Instant, Trouble)>> = Mutex::new(None);

/// Notes the trouble that a message of a client tells, if any.
pub(super) fn note(message: &str) -> Option<Trouble> {
    let trouble = Trouble::of(message)?;
    let mut newest = NEWEST.lock().unwrap_or_else(PoisonError::into_inner);
    // A guess does not replace what is known.
    let is_surer =
        |(at, known): &(Instant, Trouble)| known.is_certain() && !trouble.is_certain() && at.elapsed() < MEMORY;
    if !newest.as_ref().is_some_and(is_surer) {
        *newest = Some((Instant::now(), trouble.clone()));
    }
    Some(trouble)
}

/// The newest trouble since this time.
pub(super) fn since(start: Instant) -> Option<Trouble> {
    let newest = NEWEST.lock().unwrap_or_else(PoisonError::into_inner);
    newest.as_ref().filter(|(at, _)| *at >= start).map(|(_, trouble)| trouble.clone())
}

/// The right that is missing according to an error code, with the next step. `resource` is what it was refused on, if known.
pub(crate) fn missing_right(code: RDKafkaErrorCode, operation: &str, resource: Option<&str>) -> Option<String> {
    let (operation, kind) = match code {
        RDKafkaErrorCode::TopicAuthorizationFailed => (operation, "topic"),
        RDKafkaErrorCode::GroupAuthorizationFailed => ("Read", "consumer group"),
        RDKafkaErrorCode::TransactionalIdAuthorizationFailed => ("Write", "transactional id"),
        RDKafkaErrorCode::ClusterAuthorizationFailed => (operation, "cluster"),
        _ => return None,
    };
    let resource = resource.map(|name| format!(" {name:?}")).unwrap_or_default();
    Some(format!(
        "the brokers do not grant this user {operation} on the {kind}{resource}; aimpoint topics --acls prints the commands that do"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What librdkafka 2.12.1 logs about Kafka 4.2.
    const SAID: [(&str, &str, &str); 19] = [
        (
            "[thrd:ssl://127.0.0.1:26928/bootstrap]: ssl://127.0.0.1:26928/bootstrap: SSL handshake failed: error:0A000086:SSL \
             routines::certificate verify failed: broker certificate could not be verified (after 98ms in state SSL_HANDSHAKE)",
            "the certificate of 127.0.0.1:26928 cannot be verified",
            "ssl.ca.location",
        ),
        (
            "[thrd:ssl://127.0.0.1:26929/bootstrap]: ssl://127.0.0.1:26929/bootstrap: Receive failed: error:0A000412:SSL \
             routines::sslv3 alert bad certificate: SSL alert number 42 (after 9ms in state APIVERSION_QUERY)",
            "127.0.0.1:26929 requires a certificate of its clients",
            "ssl.certificate.location",
        ),
        (
            "ssl://kafka-1:9093/1: Receive failed: error:0A00045C:SSL routines::tlsv13 alert certificate required: SSL alert \
             number 116 (after 9ms in state APIVERSION_QUERY)",
            "kafka-1:9093 requires a certificate of its clients",
            "ssl.certificate.location",
        ),
        (
            "[thrd:127.0.0.1:26928/bootstrap]: 127.0.0.1:26928/bootstrap: Disconnected: connection closed by peer: receive 0 after \
             POLLIN (after 2ms in state APIVERSION_QUERY)",
            "as a listener with TLS does",
            "\"SSL\" or \"SASL_SSL\"",
        ),
        (
            "[thrd:sasl_plaintext://127.0.0.1:26932/bootstrap]: sasl_plaintext://127.0.0.1:26932/bootstrap: Disconnected: \
             connection closed by peer: receive 0 after POLLIN (after 2ms in state APIVERSION_QUERY)",
            "127.0.0.1:26932 closes the connection at the first request, as a listener with TLS does",
            "\"SASL_SSL\"",
        ),
        (
            "ssl://127.0.0.1:26912/bootstrap: SSL handshake failed: Disconnected: SSL connection closed by peer: connecting to a \
             PLAINTEXT broker listener? (after 1ms in state SSL_HANDSHAKE)",
            "as a listener without TLS does",
            "\"PLAINTEXT\"",
        ),
        (
            "ssl://127.0.0.1:26912/bootstrap: Disconnected: SSL connection closed by peer (after 1ms in state SSL_HANDSHAKE)",
            "as a listener without TLS does",
            "kafka.brokers",
        ),
        (
            "sasl_ssl://127.0.0.1:26928/bootstrap: SASL PLAIN mechanism handshake failed: Broker: Request not valid in current \
             SASL state: broker's supported mechanisms:  (after 1ms in state AUTH_HANDSHAKE)",
            "127.0.0.1:26928 has no SASL on this listener",
            "kafka.brokers",
        ),
        (
            "ssl://127.0.0.1:26932/bootstrap: Disconnected: SSL connection closed by peer (after 3ms in state UP)",
            "as a listener with SASL does",
            "sasl.mechanism",
        ),
        (
            "sasl_ssl://127.0.0.1:26932/bootstrap: SASL SCRAM-SHA-256 mechanism handshake failed: Broker: Unsupported SASL \
             mechanism: broker's supported mechanisms: PLAIN,SCRAM-SHA-512 (after 301ms in state AUTH_HANDSHAKE)",
            "127.0.0.1:26932 does not have the SASL mechanism SCRAM-SHA-256, but PLAIN, SCRAM-SHA-512",
            "sasl.mechanism",
        ),
        (
            "sasl_ssl://127.0.0.1:26932/bootstrap: SASL authentication error: Authentication failed: Invalid username or password \
             (after 311ms in state AUTH_REQ, 1 identical error(s) suppressed)",
            "127.0.0.1:26932 refuses the user name or the password",
            "sasl.password",
        ),
        (
            "sasl_ssl://127.0.0.1:26932/bootstrap: SASL authentication error: Authentication failed during authentication due to \
             invalid credentials with SASL mechanism SCRAM-SHA-512 (after 330ms in state AUTH_REQ)",
            "127.0.0.1:26932 refuses the user name or the password",
            "sasl.username",
        ),
        (
            "sasl_ssl://127.0.0.1:26933/bootstrap: SASL authentication error: {\"status\":\"invalid_token\"} (after 304ms in state \
             AUTH_REQ)",
            "127.0.0.1:26933 refuses the token",
            "issuer",
        ),
        (
            "Failed to acquire SASL OAUTHBEARER token: Must supply an unexpired token: now=1796055798776ms, exp=1796055698000ms",
            "the token for the brokers had expired when it came",
            "clock",
        ),
        (
            "Failed to acquire SASL OAUTHBEARER token: {\"error\": \"invalid_client\"}",
            "the token service issues no token: {\"error\": \"invalid_client\"}",
            "sasl.oauthbearer.client.secret",
        ),
        (
            "Failed to retrieve OIDC token from \"http://127.0.0.1:1/token\": Could not connect to server (-1)",
            "the token service issues no token: \"http://127.0.0.1:1/token\": Could not connect to server (-1)",
            "sasl.oauthbearer.token.endpoint.url",
        ),
        (
            "nowhere.invalid:9092/bootstrap: Failed to resolve 'nowhere.invalid:9092': Name or service not known (after 2ms in \
             state CONNECT)",
            "the host of nowhere.invalid:9092 is unknown",
            "kafka.brokers",
        ),
        (
            "[thrd:127.0.0.1:1/bootstrap]: 127.0.0.1:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection refused (after \
             0ms in state CONNECT)",
            "nobody listens at 127.0.0.1:1",
            "kafka.brokers",
        ),
        (
            "[thrd:[::1]:9092/bootstrap]: [::1]:9092/7: Connect to ipv6#[::1]:9092 failed: Connection refused",
            "nobody listens at [::1]:9092",
            "kafka.brokers",
        ),
    ];

    #[test]
    fn each_cause_has_words_of_its_own_and_a_next_step() {
        for (said, told, next) in SAID {
            let trouble = Trouble::of(said).unwrap_or_else(|| panic!("{said}"));
            assert!(trouble.to_string().contains(told), "{said}\n{trouble}");
            assert!(trouble.next_step(false).contains(next), "{said}\n{}", trouble.next_step(false));
        }
        let refused = Trouble::ClientCertificate { broker: String::new() };
        assert!(refused.next_step(true).contains("truststore"), "{}", refused.next_step(true));
    }

    #[test]
    fn what_is_no_trouble_is_passed_over() {
        for said in [
            "",
            "1/1 brokers are down",
            "[thrd:main]: Topic shop-policy [0]: offset reset",
            "127.0.0.1:26928/1: ApiVersionRequest failed: Local: Timed out",
            "sasl_ssl://kafka:9092/1: SASL PLAIN mechanism handshake failed: Local: Broker transport failure: broker's supported \
             mechanisms: (n/a) (after 9ms in state AUTH_HANDSHAKE)",
            "sasl_ssl://127.0.0.1:26932/1: Disconnected: SSL connection closed by peer (after 300123ms in state UP)",
        ] {
            assert_eq!(Trouble::of(said), None, "{said}");
        }
    }

    #[test]
    fn a_guess_does_not_hide_what_is_known_and_only_new_trouble_counts() {
        let start = Instant::now();
        note(SAID[10].0);
        note(SAID[8].0);
        let password = Trouble::Password { broker: "127.0.0.1:26932".to_owned() };
        assert_eq!(since(start), Some(password.clone()));
        assert!(password.is_lasting());
        assert_eq!(since(Instant::now()), None);
    }

    #[test]
    fn a_missing_right_is_named_with_the_command_that_grants_it() {
        let told = missing_right(RDKafkaErrorCode::TopicAuthorizationFailed, "Write", Some("decisions")).unwrap();
        for part in ["Write on the topic \"decisions\"", "aimpoint topics --acls"] {
            assert!(told.contains(part), "{told}");
        }
        let told = missing_right(RDKafkaErrorCode::GroupAuthorizationFailed, "Write", None).unwrap();
        assert!(told.contains("Read on the consumer group;"), "{told}");
        assert_eq!(missing_right(RDKafkaErrorCode::RequestTimedOut, "Write", None), None);
    }
}
