//! The section `[serve]` as written in the configuration.

use crate::{
    config_error::ConfigError,
    event::KeyType,
    privacy::consent::{ConsentSpec, Rules},
    secret::Secret,
};
use bytesize::ByteSize;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    net::{Ipv6Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

/// `[serve]`: how bidders are answered.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServeSpec {
    /// Address and port.
    #[schemars(with = "String")]
    pub address: SocketAddr,
    /// The bearer token that clients need, if any. Give it in the environment or in a file rather than here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// A file with the token, in place of `token`. It may have several, each on a line of its own: all of them hold. SIGHUP makes the
    /// process read it again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// The threads that answer, 1 to 256; by default one for each processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// The most connections, 1 to 100000. More are told to come back later (429).
    pub connections_max: usize,
    /// The most requests with a body at a time, 1 to 100000. More are told to come back later (429).
    pub requests_max: usize,
    /// The longest body of a request, 1 KiB to 16 MiB.
    #[schemars(with = "String")]
    pub body_max: ByteSize,
    /// The most users of one request, 1 to 100000.
    pub batch_max: usize,
    /// The length from which on an answer about several users leaves out those that remain (`left_out`), 1 KiB to 64 MiB.
    #[schemars(with = "String")]
    pub answer_max: ByteSize,
    /// How long the body of a request may take to arrive, 10 ms to 1 min.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub body_timeout: Duration,
    /// How long answers may wait for a client to take 64 KiB more of them, or all, 100 ms to 1 min. Then the connection is cut.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub write_timeout: Duration,
    /// How long a connection may be silent between two requests, and how long the head of one may take, 1 s to 1 h.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub idle_timeout: Duration,
    /// The process is not ready if it has not known for this long that it has read everything, 1 s to 1 day. It answers
    /// all the same.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub stale_max: Duration,
    /// How long a process that is to stop answers on, while load balancers notice that it is not ready; up to 10 min.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub drain: Duration,
    /// Which partitions of the decisions this process reads: `all`, or `assigned`, its part of those that the processes of an
    /// application share. With `assigned`, a request for a user of another one gets its address.
    pub partitions: ServePartitions,
    /// With `assigned`: where bidders reach this process, as `http://HOST:PORT` or `https://HOST:PORT`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advertise: Option<String>,
    /// A file with what was read of the decisions, which shortens a restart. It may be deleted at any time. Without it, a start
    /// reads the topic from its start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<PathBuf>,
    /// How often the file is written anew, 1 s to 1 h. An erased user stays in it for at most this long.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub snapshot_interval: Duration,
    /// Who provides the segments in bid requests. Without it, bid requests are not enriched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<ServeProviderSpec>,
    /// The port for gRPC, where hosts of agents ask. Without it, there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc: Option<ServeGrpcSpec>,
    /// TLS, for HTTP and gRPC. Without it, the ports speak plain text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<ServeTlsSpec>,
    /// How bid requests name users, in the order in which they are tried.
    pub identity: Vec<IdentitySpec>,
    /// An older place for `[consent]`, for bid requests alone. This is the last version that reads it: move it to
    /// `[consent]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consent: Option<ConsentSpec>,
}

impl Default for ServeSpec {
    fn default() -> Self {
        let identity = |from, key_type| IdentitySpec { from, source: None, key_type };
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 9470)),
            token: None,
            token_file: None,
            threads: None,
            connections_max: 1_024,
            requests_max: 256,
            body_max: ByteSize::kib(256),
            batch_max: 1_000,
            answer_max: ByteSize::mib(4),
            body_timeout: Duration::from_secs(1),
            write_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_mins(1),
            stale_max: Duration::from_mins(1),
            drain: Duration::from_secs(5),
            partitions: ServePartitions::All,
            advertise: None,
            snapshot: None,
            snapshot_interval: Duration::from_mins(5),
            provider: None,
            grpc: None,
            tls: None,
            identity: vec![
                identity(IdentityField::Buyeruid, AgentType::Person),
                identity(IdentityField::UserId, AgentType::Device),
                identity(IdentityField::Ifa, AgentType::App),
            ],
            consent: None,
        }
    }
}

/// `serve.partitions`: which partitions of the decisions a process reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ServePartitions {
    /// All of them: each process answers for every user.
    #[default]
    All,
    /// Those that the group of these processes gives to it.
    Assigned,
}

/// `[serve.provider]`: the provider of the segments in a bid request. At least one of them is needed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServeProviderSpec {
    /// Its id, as the exchange knows it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Its name, by convention a domain.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
}

/// `[serve.grpc]`: the port for gRPC. Its limits are those of `[serve]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServeGrpcSpec {
    /// Address and port.
    #[schemars(with = "String")]
    pub address: SocketAddr,
}

impl Default for ServeGrpcSpec {
    fn default() -> Self {
        Self { address: SocketAddr::from(([127, 0, 0, 1], 9471)) }
    }
}

/// `[serve.tls]`: TLS from files in PEM format. SIGHUP makes the process read them again.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServeTlsSpec {
    /// The certificate of this process, and those of the authorities between it and a root.
    pub certificate: PathBuf,
    /// The private key of the certificate.
    pub key: PathBuf,
    /// The authorities whose certificates clients need. Without it, clients need none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<PathBuf>,
}

/// `[[serve.identity]]`: one way in which bid requests name a user.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IdentitySpec {
    /// Where the id is.
    pub from: IdentityField,
    /// For `user.eids`: the `source` of the id, such as `shop.example`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// What the id identifies: which of your events' users it is.
    pub key_type: AgentType,
}

/// A place in a bid request that names a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum IdentityField {
    /// The buyer's own id.
    #[serde(rename = "user.buyeruid")]
    Buyeruid,
    /// The exchange's id.
    #[serde(rename = "user.id")]
    UserId,
    /// Ids of others.
    #[serde(rename = "user.eids")]
    Eids,
    /// The device's id for advertising.
    #[serde(rename = "device.ifa")]
    Ifa,
}

/// What an id identifies, as in events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AgentType {
    /// A person (`atype` 3): the users of `user_id`.
    Person,
    /// A browser or a device (`atype` 1): the users of `anonymous_id`.
    Device,
    /// An app (`atype` 2).
    App,
}

impl AgentType {
    pub(super) fn key_type(self) -> KeyType {
        match self {
            Self::Person => KeyType::Person,
            Self::Device => KeyType::Device,
            Self::App => KeyType::App,
        }
    }
}

/// What is wrong with a token, and the next step.
pub const TOKEN_FAULT: &str = "a token needs at least 16 ASCII characters and no spaces";
const TOKEN_HINT: &str = "for instance the output of openssl rand -hex 16";

/// Whether this is a token.
pub fn is_token(text: &str) -> bool {
    text.len() >= 16 && text.bytes().all(|letter| letter.is_ascii_graphic())
}

/// The longest address of a process: it travels in the name of a client.
const ORIGIN_BYTES_MAX: usize = 200;

/// Whether this is an address that bidders can be sent to: a scheme, a host and perhaps a port, and nothing else.
pub fn is_origin(text: &str) -> bool {
    let Some(authority) = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")) else { return false };
    let is_plain = |letter: u8| letter.is_ascii_alphanumeric() || b".-_:[]".contains(&letter);
    let has_host = text.parse::<hyper::Uri>().is_ok_and(|it| it.host().is_some_and(|host| !host.is_empty()));
    text.len() <= ORIGIN_BYTES_MAX && authority.bytes().all(is_plain) && has_host
}

/// The address as bidders are sent to it. An IPv6 address gets the brackets that it needs before a port, because Kubernetes tells
/// a pod its address without them.
pub fn origin_of(text: &str) -> String {
    let bracketed = || {
        let (scheme, authority) = text.split_once("://")?;
        let (host, port) = authority.rsplit_once(':')?;
        let host: Ipv6Addr = host.parse().ok()?;
        Some(format!("{scheme}://[{host}]:{port}"))
    };
    bracketed().unwrap_or_else(|| text.to_owned())
}

impl ServeSpec {
    /// Adds all errors of the section. `has_consent`: the configuration has a section `[consent]`.
    pub fn check(&self, has_consent: bool, errors: &mut Vec<ConfigError>) {
        self.check_bounds(errors);
        self.check_token(errors);
        self.check_share(errors);
        if let Some(provider) = &self.provider
            && provider.id.is_empty()
            && provider.name.is_empty()
        {
            errors.push(
                ConfigError::new("serve.provider", "an OpenRTB Data object names its provider")
                    .hint("for instance serve.provider = { name = \"shop.example\" }"),
            );
        }
        let reads_requests = [("serve.provider", self.provider.is_some()), ("serve.grpc", self.grpc.is_some())];
        let is_declared = has_consent || self.consent.is_some();
        for (key, _) in reads_requests.iter().filter(|(_, is_set)| *is_set && !is_declared) {
            errors.push(
                ConfigError::new(*key, "it is not declared what a bid request's consent signals permit").hint(
                    "add [consent] with enabled = true, your vendor_id and without_law, or with enabled = false if somebody \
                     else has checked them",
                ),
            );
        }
        if self.grpc.as_ref().is_some_and(|grpc| grpc.address == self.address && grpc.address.port() != 0) {
            errors.push(
                ConfigError::new("serve.grpc.address", "HTTP has this address: serve.address")
                    .hint("set another port for one of the two"),
            );
        }
        if self.identity.is_empty() {
            errors.push(
                ConfigError::new("serve.identity", "no bid request would name a user")
                    .hint("leave it out for the default: user.buyeruid, user.id, device.ifa"),
            );
        }
        for (index, identity) in self.identity.iter().enumerate() {
            let key = format!("serve.identity[{index}].source");
            let has_source = identity.source.as_deref().is_some_and(|source| !source.is_empty());
            match (identity.from, has_source) {
                (IdentityField::Eids, false) => errors.push(
                    ConfigError::new(key, "ids of user.eids have a source")
                        .hint("for instance source = \"shop.example\""),
                ),
                (IdentityField::Eids, true) => {}
                (_, true) => errors.push(
                    ConfigError::new(key, "only ids of user.eids have a source")
                        .hint("set from = \"user.eids\", or remove it"),
                ),
                _ => {}
            }
        }
        drop(self.rules(errors));
    }

    /// The rules of consent; `None` if it is not checked. Adds all errors.
    pub fn rules(&self, errors: &mut Vec<ConfigError>) -> Option<Rules> {
        let mut of_consent = Vec::new();
        let rules = self.consent.as_ref().and_then(|consent| consent.compile(&mut of_consent));
        errors.extend(of_consent.into_iter().map(|error| ConfigError { key: format!("serve.{}", error.key), ..error }));
        rules
    }

    fn check_token(&self, errors: &mut Vec<ConfigError>) {
        if self.token.as_ref().is_some_and(|token| !is_token(token.reveal())) {
            errors.push(ConfigError::new("serve.token", TOKEN_FAULT).hint(TOKEN_HINT));
        }
        if self.token.is_some() && self.token_file.is_some() {
            errors.push(
                ConfigError::new("serve.token_file", "there is a token already: serve.token")
                    .hint("remove one of the two"),
            );
        }
    }

    fn check_share(&self, errors: &mut Vec<ConfigError>) {
        const HINT: &str = "for instance \"http://10.0.0.5:9470\": scheme, host and port, without a path";
        match &self.advertise {
            Some(address) if !is_origin(&origin_of(address)) => {
                errors.push(
                    ConfigError::new(
                        "serve.advertise",
                        format!("{address:?} is no address that bidders can be sent to"),
                    )
                    .hint(HINT),
                );
            }
            None if self.partitions == ServePartitions::Assigned => {
                let message = "the processes share the partitions, so bidders have to learn where each of them is";
                errors.push(ConfigError::new("serve.advertise", message).hint(HINT));
            }
            _ => {}
        }
    }

    fn check_bounds(&self, errors: &mut Vec<ConfigError>) {
        const SECOND: Duration = Duration::from_secs(1);
        let shown = crate::duration::display;
        for (key, value, least, most) in [
            ("body_timeout", self.body_timeout, Duration::from_millis(10), Duration::from_mins(1)),
            ("write_timeout", self.write_timeout, Duration::from_millis(100), Duration::from_mins(1)),
            ("idle_timeout", self.idle_timeout, SECOND, Duration::from_hours(1)),
            ("stale_max", self.stale_max, SECOND, Duration::from_hours(24)),
            ("drain", self.drain, Duration::ZERO, Duration::from_mins(10)),
            ("snapshot_interval", self.snapshot_interval, SECOND, Duration::from_hours(1)),
        ] {
            if !(least..=most).contains(&value) {
                let message = format!("{} is not between {} and {}", shown(value), shown(least), shown(most));
                errors.push(ConfigError::new(format!("serve.{key}"), message).hint("leave it out for the default"));
            }
        }
        for (key, value, most) in [
            ("threads", self.threads.unwrap_or(1), 256),
            ("connections_max", self.connections_max, 100_000),
            ("requests_max", self.requests_max, 100_000),
            ("batch_max", self.batch_max, 100_000),
        ] {
            if !(1..=most).contains(&value) {
                let message = format!("{value} is not between 1 and {most}");
                errors.push(ConfigError::new(format!("serve.{key}"), message).hint("leave it out for the default"));
            }
        }
        for (key, value, most) in
            [("body_max", self.body_max, ByteSize::mib(16)), ("answer_max", self.answer_max, ByteSize::mib(64))]
        {
            if !(ByteSize::kib(1)..=most).contains(&value) {
                let message = format!("{value} is not between 1 KiB and {most}");
                errors.push(ConfigError::new(format!("serve.{key}"), message).hint("leave it out for the default"));
            }
        }
    }
}
