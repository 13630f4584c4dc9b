//! Ways in, and refusals.

use super::{Listener, Secured, told};
use std::thread;

/// How many commands run at a time.
const AT_ONCE: usize = 6;

type Settings = Vec<(&'static str, String)>;

fn tls(secured: &Secured, authority: &str, own: Option<&str>) -> Settings {
    let mut settings = vec![("security.protocol", "SSL".to_owned()), ("ssl.ca.location", secured.file(authority))];
    if let Some(own) = own {
        settings.push(("ssl.certificate.location", secured.file(&format!("{own}.pem"))));
        settings.push(("ssl.key.location", secured.file(&format!("{own}.key"))));
    }
    settings
}

fn password(secured: &Secured, mechanism: &str, user: &str, password: &str) -> Settings {
    vec![
        ("security.protocol", "SASL_SSL".to_owned()),
        ("ssl.ca.location", secured.file("authority.pem")),
        ("sasl.mechanism", mechanism.to_owned()),
        ("sasl.username", user.to_owned()),
        ("sasl.password", password.to_owned()),
    ]
}

fn token(secured: &Secured, path: &str) -> Settings {
    vec![
        ("security.protocol", "SASL_SSL".to_owned()),
        ("ssl.ca.location", secured.file("authority.pem")),
        ("sasl.mechanism", "OAUTHBEARER".to_owned()),
        ("sasl.oauthbearer.method", "oidc".to_owned()),
        ("sasl.oauthbearer.client.id", "aimpoint".to_owned()),
        ("sasl.oauthbearer.client.secret", "hush-hush-hush".to_owned()),
        ("sasl.oauthbearer.token.endpoint.url", secured.tokens.url(path)),
    ]
}

/// Runs a command for each case, some at a time.
fn each<T: Sync>(cases: &[T], run: impl Fn(&T) + Sync) {
    for some in cases.chunks(AT_ONCE) {
        thread::scope(|scope| {
            for case in some {
                scope.spawn(|| run(case));
            }
        });
    }
}

pub(super) fn clients_of_each_kind_are_let_in(secured: &Secured) {
    let cases = [
        ("TLS", Listener::Tls, tls(secured, "authority.pem", None)),
        ("mutual TLS", Listener::Mutual, tls(secured, "authority.pem", Some("client"))),
        ("PLAIN", Listener::Password, password(secured, "PLAIN", "plain", "plain-secret")),
        ("SCRAM", Listener::Password, password(secured, "SCRAM-SHA-512", "scram", "scram-secret")),
        ("OAUTHBEARER", Listener::Token, token(secured, "good")),
    ];
    each(&cases, |(what, listener, settings)| {
        let (code, said) = told(&mut secured.command(*listener, settings, &["topics"]));
        assert!(code == 0 && said.contains("clickstream"), "{what}: {code}\n{said}");
    });
}

pub(super) fn each_refusal_is_told_with_its_cause_and_the_next_step(secured: &Secured) {
    let own = || "authority.pem";
    let trust = "set \"ssl.ca.location\"";
    let cases: Vec<(&str, Listener, Settings, &str, &str)> = vec![
        (
            "another authority",
            Listener::Tls,
            tls(secured, "other.pem", None),
            "an authority that this program does not trust",
            trust,
        ),
        (
            "another name",
            Listener::Named,
            tls(secured, own(), None),
            "is not for this name but for kafka.example",
            "advertised.listeners",
        ),
        ("expired", Listener::Old, tls(secured, own(), None), "has expired", "certificate renewed"),
        (
            "no certificate",
            Listener::Mutual,
            tls(secured, own(), None),
            "requires a certificate of its clients",
            "set \"ssl.certificate.location\"",
        ),
        (
            "a stranger's certificate",
            Listener::Mutual,
            tls(secured, own(), Some("stranger")),
            "requires a certificate of its clients",
            "authority in the broker's truststore",
        ),
        ("no TLS at TLS", Listener::Tls, Vec::new(), "as a listener with TLS does", "\"security.protocol\""),
        (
            "TLS at no TLS",
            Listener::Plain,
            tls(secured, own(), None),
            "as a listener without TLS does",
            "the brokers' TLS listener",
        ),
        (
            "no SASL at SASL",
            Listener::Password,
            tls(secured, own(), None),
            "as a listener with SASL does",
            "\"sasl.mechanism\"",
        ),
        (
            "SASL at no SASL",
            Listener::Tls,
            password(secured, "PLAIN", "plain", "plain-secret"),
            "has no SASL on this listener",
            "the brokers' SASL listener",
        ),
        (
            "another mechanism",
            Listener::Password,
            password(secured, "SCRAM-SHA-256", "scram", "scram-secret"),
            "the SASL mechanism SCRAM-SHA-256, but PLAIN, SCRAM-SHA-512",
            "set \"sasl.mechanism\"",
        ),
        (
            "PLAIN with a wrong password",
            Listener::Password,
            password(secured, "PLAIN", "plain", "wrong-secret"),
            "refuses the user name or the password",
            "\"sasl.username\" and \"sasl.password\"",
        ),
        (
            "SCRAM with a wrong password",
            Listener::Password,
            password(secured, "SCRAM-SHA-512", "scram", "wrong-secret"),
            "refuses the user name or the password",
            "\"sasl.username\" and \"sasl.password\"",
        ),
        (
            "SCRAM with an unknown name",
            Listener::Password,
            password(secured, "SCRAM-SHA-512", "stranger", "scram-secret"),
            "refuses the user name or the password",
            "\"sasl.username\" and \"sasl.password\"",
        ),
        (
            "an expired token",
            Listener::Token,
            token(secured, "expired"),
            "had expired when it came",
            "compare the clock",
        ),
        (
            "a stranger's token",
            Listener::Token,
            token(secured, "stranger"),
            "refuses the token",
            "its issuer, its audience and its keys",
        ),
        (
            "no token",
            Listener::Token,
            token(secured, "refused"),
            "issues no token",
            "\"sasl.oauthbearer.client.secret\"",
        ),
    ];
    each(&cases, |(what, listener, settings, cause, next)| {
        let (code, said) = told(&mut secured.command(*listener, settings, &["topics"]));
        let error = said.lines().rev().find(|line| line.contains("reach a broker at")).unwrap_or_default();
        assert!(error.contains(cause) && error.contains(next), "{what}: {code}\n{said}");
        assert_eq!(code, 69, "{what}\n{said}");
        for secret in ["wrong-secret", "scram-secret", "plain-secret", "hush-hush-hush"] {
            assert!(!said.contains(secret), "{what} shows a secret:\n{said}");
        }
    });
}
