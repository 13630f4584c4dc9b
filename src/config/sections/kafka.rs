//! The section `[kafka]`: the brokers, and settings that are passed to librdkafka.

use crate::{
    config_error::ConfigError,
    expression::nearest,
    kafka::{ENFORCED, SettingFault, check_setting, is_setting, needs_tls},
    secret,
};
use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, Visitor, value::MapAccessDeserializer},
};
use std::{collections::BTreeMap, fmt, net::Ipv6Addr};

/// Common settings, for the hint at an unknown name.
const USUAL: [&str; 30] = [
    "security.protocol",
    "sasl.mechanism",
    "sasl.mechanisms",
    "sasl.username",
    "sasl.password",
    "sasl.kerberos.service.name",
    "sasl.kerberos.principal",
    "sasl.kerberos.keytab",
    "sasl.kerberos.kinit.cmd",
    "sasl.oauthbearer.config",
    "sasl.oauthbearer.client.id",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.token.endpoint.url",
    "ssl.ca.location",
    "ssl.ca.pem",
    "ssl.certificate.location",
    "ssl.certificate.pem",
    "ssl.key.location",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.endpoint.identification.algorithm",
    "client.rack",
    "session.timeout.ms",
    "heartbeat.interval.ms",
    "fetch.min.bytes",
    "linger.ms",
    "compression.type",
    "message.max.bytes",
    "socket.timeout.ms",
    "socket.keepalive.enable",
];

/// `[kafka]`: the brokers and librdkafka's own settings.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KafkaSpec {
    /// Host and port of some of the brokers, separated by commas.
    pub brokers: String,
    /// librdkafka's settings for consumers and producers.
    pub client: ClientSettings,
    /// librdkafka's settings for consumers only.
    pub consumer: ClientSettings,
    /// librdkafka's settings for producers only.
    pub producer: ClientSettings,
}

impl Default for KafkaSpec {
    fn default() -> Self {
        Self {
            brokers: "localhost:9092".to_owned(),
            client: ClientSettings::default(),
            consumer: ClientSettings::default(),
            producer: ClientSettings::default(),
        }
    }
}

/// Settings of librdkafka by name. Values that may be secrets are masked when shown: those with a secret's name, and those with an
/// unknown name, which may be a misspelt password.
#[derive(Clone, Default, PartialEq)]
pub struct ClientSettings(BTreeMap<String, String>);

impl ClientSettings {
    /// Whether the value of a setting of this name may be shown.
    pub fn shows(name: &str) -> bool {
        !secret::is_secret_name(name) && is_setting(name)
    }

    /// Names and values as passed to the client.
    pub fn reveal(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Names and values for display.
    pub fn shown(&self) -> impl Iterator<Item = (&str, &str)> {
        self.reveal().map(|(name, value)| (name, if Self::shows(name) { value } else { secret::STARS }))
    }

    /// Whether any of them is masked.
    pub fn holds_secrets(&self) -> bool {
        self.0.keys().any(|name| !Self::shows(name))
    }
}

impl fmt::Debug for ClientSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.shown()).finish()
    }
}

impl Serialize for ClientSettings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.shown())
    }
}

impl JsonSchema for ClientSettings {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ClientSettings".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        #[derive(JsonSchema)]
        #[expect(dead_code, reason = "only its schema is used")]
        #[schemars(untagged)]
        enum Value {
            Text(String),
            Int(i64),
            Float(f64),
            Bool(bool),
        }
        BTreeMap::<String, Value>::json_schema(generator)
    }
}

impl<'de> Deserialize<'de> for ClientSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// A value, or a nested table: a dotted name may be written with or without quotes.
        enum Part {
            Value(String),
            Below(BTreeMap<String, Part>),
        }

        impl<'de> Deserialize<'de> for Part {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(Any)
            }
        }

        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Part;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, a number, or true or false")
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Part, E> {
                Ok(Part::Value(value.to_owned()))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Part, E> {
                Ok(Part::Value(value.to_string()))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Part, E> {
                Ok(Part::Value(value.to_string()))
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Part, E> {
                Ok(Part::Value(value.to_string()))
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Part, E> {
                Ok(Part::Value(value.to_string()))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, _: A) -> Result<Part, A::Error> {
                Err(de::Error::custom("a setting cannot be a list; write a string with commas"))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, members: A) -> Result<Part, A::Error> {
                BTreeMap::deserialize(MapAccessDeserializer::new(members)).map(Part::Below)
            }
        }

        fn flatten(prefix: &str, parts: BTreeMap<String, Part>, into: &mut BTreeMap<String, String>) {
            for (name, part) in parts {
                let name = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
                match part {
                    Part::Value(value) => {
                        if secret::is_secret_name(&name) {
                            secret::remember(&value);
                        }
                        into.insert(name, value);
                    }
                    Part::Below(parts) => flatten(&name, parts, into),
                }
            }
        }

        let mut settings = BTreeMap::new();
        flatten("", BTreeMap::deserialize(deserializer)?, &mut settings);
        Ok(Self(settings))
    }
}

impl KafkaSpec {
    /// The settings of a consumer.
    pub fn consumer_settings(&self) -> Vec<(String, String)> {
        settings([&self.client, &self.consumer])
    }

    /// The settings of a producer.
    pub fn producer_settings(&self) -> Vec<(String, String)> {
        settings([&self.client, &self.producer])
    }

    /// The settings of every client.
    pub fn client_settings(&self) -> Vec<(String, String)> {
        settings([&self.client])
    }

    pub(in crate::config) fn check(&self, errors: &mut Vec<ConfigError>) {
        if self.brokers.trim().is_empty() {
            errors.push(
                ConfigError::new("kafka.brokers", "no broker is given")
                    .hint("for instance brokers = \"kafka-1:9092,kafka-2:9092\""),
            );
        }
        if self.brokers.contains('@') {
            errors.push(
                ConfigError::new("kafka.brokers", "a broker address must not contain a user or password")
                    .hint("set \"sasl.username\" and \"sasl.password\" in [kafka.client]"),
            );
        }
        let wrong = self.brokers.split(',').map(str::trim).find(|broker| !broker.is_empty() && !is_broker(broker));
        if let Some(broker) = wrong.filter(|_| !self.brokers.contains('@')) {
            errors.push(
                ConfigError::new("kafka.brokers", format!("{broker:?} is not host:port"))
                    .hint("separate brokers with commas, for instance kafka-1:9092,kafka-2:9092"),
            );
        }
        for (section, settings) in
            [("client", &self.client), ("consumer", &self.consumer), ("producer", &self.producer)]
        {
            for (name, value) in settings.reveal() {
                let key = format!("kafka.{section}.{name}");
                // A name with a `=` in it has broken quotes, and the rest may be a value.
                let shown =
                    name.split(|letter: char| letter == '=' || letter.is_whitespace()).next().unwrap_or_default();
                if let Some((_, instead)) = ENFORCED.iter().find(|(enforced, _)| *enforced == name) {
                    errors.push(
                        ConfigError::new(key, format!("{name:?} cannot be set, because the guarantees depend on it"))
                            .hint(*instead),
                    );
                    continue;
                }
                match check_setting(name, value) {
                    Ok(()) => {}
                    Err(SettingFault::Unknown) => {
                        let error = ConfigError::new(key, format!("librdkafka has no setting {shown:?}"));
                        errors.push(match nearest(name, USUAL.into_iter()) {
                            Some(near) => error.hint(format!("did you mean {near:?}?")),
                            None => error.hint(
                                "see librdkafka's CONFIGURATION.md; its names differ from those of the Java client",
                            ),
                        });
                    }
                    // The message may quote part of the value, so it is not shown for a secret.
                    Err(SettingFault::Invalid(words)) => {
                        let error = if ClientSettings::shows(name) {
                            ConfigError::new(key, format!("librdkafka does not accept it: {words}"))
                        } else {
                            ConfigError::new(key, "librdkafka does not accept this value")
                        };
                        errors.push(match needs_tls(name) {
                            Some(next) => error.hint(next),
                            None => error,
                        });
                    }
                }
            }
        }
    }
}

fn settings<const N: usize>(maps: [&ClientSettings; N]) -> Vec<(String, String)> {
    maps.into_iter().flat_map(ClientSettings::reveal).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Whether this is a broker's address: a host with an optional port and protocol.
fn is_broker(text: &str) -> bool {
    let address = match text.split_once("://") {
        Some((protocol, address)) => {
            if !protocol.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_') {
                return false;
            }
            address
        }
        None => text,
    };
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    let is_in_brackets = |host: &str| {
        host.strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .is_some_and(|host| host.parse::<Ipv6Addr>().is_ok())
    };
    let is_host = |host: &str| {
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        // A bare number is a port without its host.
        let is_name = host.bytes().all(letter) && !host.bytes().all(|byte| byte.is_ascii_digit());
        is_name || is_in_brackets(host)
    };
    match address.rsplit_once(':') {
        Some((host, port)) if !is_in_brackets(address) => is_host(host) && is_port(port),
        _ => is_host(address),
    }
}
