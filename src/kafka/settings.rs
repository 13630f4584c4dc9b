//! librdkafka's settings: which of them users cannot change, and how to check one before any client is built.

use rdkafka::{ClientConfig, error::KafkaError, types::RDKafkaConfRes};

/// The settings that the guarantees depend on. A configuration that sets one is rejected, with the reason or an
/// alternative.
pub const ENFORCED: [(&str, &str); 18] = [
    ("bootstrap.servers", "set kafka.brokers"),
    ("metadata.broker.list", "set kafka.brokers"),
    ("group.id", "set app.name"),
    ("group.instance.id", "set app.static_membership"),
    ("client.id", "it is app.name with app.instance"),
    ("transactional.id", "it is made of app.name, app.instance and the worker's number"),
    ("transaction.timeout.ms", "it goes with the deadlines of the worker"),
    ("message.timeout.ms", "it goes with the deadlines of the worker"),
    ("delivery.timeout.ms", "it goes with the deadlines of the worker"),
    ("enable.idempotence", "without it outputs could come twice"),
    ("enable.auto.commit", "positions are committed with the outputs"),
    ("enable.auto.offset.store", "positions are committed with the outputs"),
    ("auto.offset.reset", "a new group starts at the beginning of the topic"),
    ("isolation.level", "aborted input must not be seen"),
    ("statistics.interval.ms", "the lag and the stall watch depend on it"),
    ("acks", "outputs must be on all in-sync replicas"),
    ("request.required.acks", "outputs must be on all in-sync replicas"),
    ("partitioner", "a user's decisions must be where Java's clients would look for them"),
];

/// Further settings that override the user's. They are not rejected, because earlier versions accepted them.
pub(super) const OVERRIDDEN: [(&str, &str); 3] = [
    ("enable.partition.eof", "it tells where a partition ends"),
    ("delivery.report.only.error", "it goes with how deliveries are counted"),
    ("enable.gapless.guarantee", "outputs keep their order"),
];

/// Whether this program was built with TLS, SCRAM and OAUTHBEARER.
const HAS_TLS: bool = cfg!(feature = "tls");

/// What to do about a setting that only a program with TLS accepts; `None` if this is one, or the setting is not about that.
pub fn needs_tls(name: &str) -> Option<&'static str> {
    let is_about_tls =
        ["ssl.", "sasl.", "https.", "enable.ssl", "security.protocol"].iter().any(|it| name.starts_with(it));
    (is_about_tls && !HAS_TLS).then_some(
        "this program was built without TLS (--no-default-features), as for make demo: use a released one, or cargo build --release",
    )
}

/// What is wrong with a client setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingFault {
    /// There is no setting with this name.
    Unknown,
    /// The client rejects the value; its message may quote the value.
    Invalid(String),
}

/// Checks whether the client accepts a setting.
///
/// # Errors
/// [`SettingFault`]
pub fn check_setting(name: &str, value: &str) -> Result<(), SettingFault> {
    let mut config = ClientConfig::new();
    config.set(name, value);
    match config.create_native_config() {
        Ok(_) => Ok(()),
        Err(KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, ..)) => Err(SettingFault::Unknown),
        Err(KafkaError::ClientConfig(_, words, ..)) => Err(SettingFault::Invalid(words)),
        Err(error) => Err(SettingFault::Invalid(error.to_string())),
    }
}

/// Whether the client has a setting with this name.
pub fn is_setting(name: &str) -> bool {
    // An empty value may be rejected, but with another error than an unknown name.
    check_setting(name, "") != Err(SettingFault::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_names_are_told_from_invalid_values() {
        for name in ["sasl.password", "security.protocol", "fetch.min.bytes", "message.timeout.ms", "auto.offset.reset"]
        {
            assert!(is_setting(name), "{name}");
        }
        for name in ["sasl.pasword", "", "security_protocol", "nul\0inside"] {
            assert!(!is_setting(name) || name.contains('\0'), "{name:?}");
        }
        assert_eq!(check_setting("fetch.min.bytes", "7"), Ok(()));
        assert!(matches!(check_setting("fetch.min.bytes", "many"), Err(SettingFault::Invalid(_))));
        assert!(matches!(check_setting("client.rack", "a\0b"), Err(SettingFault::Invalid(_))));
    }
}
