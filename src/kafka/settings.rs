//! What librdkafka says of a setting before any client is made of it.

use rdkafka::{ClientConfig, error::KafkaError, types::RDKafkaConfRes};

/// What is wrong with one of the client's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingFault {
    /// The client knows no setting of this name.
    Unknown,
    /// It does not take the value; with its words, which may quote the value.
    Invalid(String),
}

/// Asks the client whether it takes a setting.
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

/// Whether the client has a setting of this name.
pub fn is_setting(name: &str) -> bool {
    // What is no value of it is refused in other words than a name that nobody knows.
    check_setting(name, "") != Err(SettingFault::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_values() {
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
