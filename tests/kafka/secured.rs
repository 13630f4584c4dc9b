//! A broker with an authorizer and every kind of listener: TLS, mutual TLS, passwords and tokens.
//!
//! One broker serves all cases, because each start takes 10 s. Cases that do not touch each other run side by side.

mod certificates;
mod namesakes;
mod rights;
mod tokens;
mod transport;

use crate::{
    broker::{Kafka, script},
    program::Program,
};
use certificates::Certificates;
use std::{
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
};
use tokens::TokenService;

/// The listeners beside the plain one, in the order of their ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listener {
    /// TLS; clients have no certificate.
    Tls,
    /// TLS; clients need a certificate.
    Mutual,
    /// TLS with a certificate for another name.
    Named,
    /// TLS with a certificate that has expired.
    Old,
    /// SASL PLAIN and SCRAM over TLS.
    Password,
    /// SASL OAUTHBEARER over TLS.
    Token,
    /// Neither TLS nor SASL.
    Plain,
}

/// Their protocols for the script, in the order of their ports.
const LISTENERS: &str = "TLS:SSL MUTUAL:SSL NAMED:SSL OLD:SSL PASSWORD:SASL_SSL TOKEN:SASL_SSL";

/// The users of SASL PLAIN. Their passwords are their names with `-secret`.
const USERS: [&str; 15] = [
    "plain",
    "shop",
    "shop-control",
    "shop-serve",
    "shop-erase",
    "shop-subject",
    "shop-profile",
    "shop-why",
    "shop-doctor",
    "shop-topics",
    "nobody",
    "groupless",
    "idless",
    "mute",
    "stateless",
];

/// The broker, and what its clients need.
struct Secured {
    program: Program,
    certificates: Certificates,
    tokens: TokenService,
}

impl Secured {
    fn start() -> Self {
        let certificates = Certificates::new();
        let tokens = TokenService::start();
        let file = |name: &str| certificates.path(name).display().to_string();
        let keys = file("keys.json");
        std::fs::write(&keys, tokens.keys()).unwrap();
        let users: Vec<String> = USERS.iter().map(|user| format!("user_{user}=\"{user}-secret\"")).collect();
        let users = users.join(" ");
        let security = "org.apache.kafka.common.security";
        let settings = [
            "ssl.keystore.type=PEM".to_owned(),
            format!("ssl.keystore.location={}", file("good.store")),
            "ssl.truststore.type=PEM".to_owned(),
            format!("ssl.truststore.location={}", file("authority.pem")),
            "listener.name.mutual.ssl.client.auth=required".to_owned(),
            "listener.name.named.ssl.keystore.type=PEM".to_owned(),
            format!("listener.name.named.ssl.keystore.location={}", file("named.store")),
            "listener.name.old.ssl.keystore.type=PEM".to_owned(),
            format!("listener.name.old.ssl.keystore.location={}", file("old.store")),
            "listener.name.password.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512".to_owned(),
            format!(
                "listener.name.password.plain.sasl.jaas.config={security}.plain.PlainLoginModule required {users};"
            ),
            format!(
                "listener.name.password.scram-sha-512.sasl.jaas.config={security}.scram.ScramLoginModule required;"
            ),
            "listener.name.token.sasl.enabled.mechanisms=OAUTHBEARER".to_owned(),
            format!(
                "listener.name.token.oauthbearer.sasl.jaas.config={security}.oauthbearer.OAuthBearerLoginModule required;"
            ),
            format!(
                "listener.name.token.oauthbearer.sasl.server.callback.handler.class={security}.oauthbearer.\
                 OAuthBearerValidatorCallbackHandler"
            ),
            format!("sasl.oauthbearer.jwks.endpoint.url=file:{keys}"),
            format!("sasl.oauthbearer.expected.audience={}", tokens::AUDIENCE),
            format!("sasl.oauthbearer.expected.issuer={}", tokens::ISSUER),
            "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer".to_owned(),
            // Those whose way in is the case, and the test itself.
            "super.users=User:ANONYMOUS;User:CN=client;User:scram;User:plain;User:token".to_owned(),
        ];
        let kafka = Kafka::start_by(1, |start| {
            start
                .env("KAFKA_SETTINGS", settings.join("\n"))
                .env("KAFKA_LISTENERS", LISTENERS)
                .env("KAFKA_FORMAT", "--add-scram SCRAM-SHA-512=[name=scram,password=scram-secret]")
                .env(
                    "KAFKA_JAVA",
                    format!("-Dauthorizer.level=debug -Dorg.apache.kafka.sasl.oauthbearer.allowed.urls=file:{keys}"),
                );
        });
        Self { program: Program::on(kafka, rights::CONFIG), certificates, tokens }
    }

    fn address(&self, listener: Listener) -> String {
        let (host, port) = self.program.kafka.brokers.rsplit_once(':').unwrap();
        let port: u16 = port.parse().unwrap();
        match listener {
            Listener::Plain => format!("{host}:{port}"),
            other => format!("{host}:{}", port + 16 + other as u16),
        }
    }

    fn file(&self, name: &str) -> String {
        self.certificates.path(name).display().to_string()
    }

    /// A command of the program at this listener, with these settings of its clients.
    fn command(&self, listener: Listener, settings: &[(&str, String)], arguments: &[&str]) -> Command {
        let mut command = self.program.command(arguments);
        command.args(["--set", &format!("kafka.brokers={}", self.address(listener))]);
        for (name, value) in settings {
            command.args(["--set", &format!("kafka.client.{name}={value}")]);
        }
        command
    }

    /// The settings of a user of SASL PLAIN.
    fn plain(&self, user: &str) -> Vec<(&'static str, String)> {
        vec![
            ("security.protocol", "SASL_SSL".to_owned()),
            ("ssl.ca.location", self.file("authority.pem")),
            ("sasl.mechanism", "PLAIN".to_owned()),
            ("sasl.username", user.to_owned()),
            ("sasl.password", format!("{user}-secret")),
        ]
    }

    /// What the authorizer has said.
    fn verdicts(&self) -> String {
        std::fs::read_to_string(self.program.kafka.log(0)).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.program.folder.path().join(name)
    }
}

/// Runs commands of `kafka-acls.sh`, as `aimpoint topics --acls` prints them, in one process.
fn grant(commands: &[String]) {
    let acls = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kafka/broker/Acls.java");
    let mut tool = script();
    tool.args(["tool", acls]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut tool = tool.spawn().unwrap();
    let words = commands.iter().filter_map(|line| line.strip_prefix("kafka-acls.sh "));
    let words: Vec<&str> = words.map(|line| line.split(" # ").next().unwrap_or(line)).collect();
    tool.stdin.take().unwrap().write_all(words.join("\n").as_bytes()).unwrap();
    let output = tool.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The exit code of a command and what it said.
fn told(command: &mut Command) -> (i32, String) {
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (output.status.code().unwrap_or(-1), said)
}

#[test]
fn every_way_in_works_every_refusal_has_its_cause_and_every_right_is_needed() {
    let secured = Secured::start();
    rights::grant_all(&secured);
    thread::scope(|scope| {
        scope.spawn(|| rights::the_rights_of_each_role_are_enough_and_all_used(&secured));
        scope.spawn(|| namesakes::a_live_namesake_is_refused_and_a_dead_one_is_replaced(&secured));
        scope.spawn(|| {
            transport::clients_of_each_kind_are_let_in(&secured);
            transport::each_refusal_is_told_with_its_cause_and_the_next_step(&secured);
        });
    });
    rights::a_missing_right_is_named_and_ends_the_process(&secured);
}
