//! The name of a process within its application, which its transactional ids contain.
//!
//! Guarantees: no two processes of an application on one machine have the same name at a time, so they do not fence
//! each other. A process releases its name when it ends, however it ends, and a new process claims the first free name.
//! So a restarted process has the same ids as before. The name is held by an abstract Unix socket, which lives as long
//! as the process. Limits: containers do not see each other's sockets and are distinguished by their host names; on
//! systems other than Linux all processes have the same name.

use crate::{config::Config, config_error::ConfigError};
use sha2::{Digest, Sha256};

/// The most processes of one application on one machine.
const PROCESSES_MAX: usize = 1_024;

/// Host names that many machines share.
const COMMON_HOSTS: [&str; 6] = ["", "0", "localhost", "localhost.localdomain", "localhost4", "(none)"];

/// The name of this process. Dropping it releases the name.
#[derive(Debug)]
pub(crate) struct Instance {
    /// Unique among the processes of the application.
    pub(crate) name: String,
    #[cfg(target_os = "linux")]
    _socket: std::os::unix::net::UnixListener,
}

impl Instance {
    /// Claims the first free name.
    ///
    /// # Errors
    /// All names are taken.
    pub(crate) fn claim(config: &Config) -> anyhow::Result<Self> {
        let (app, instance) = (&config.app.name, config.app.instance());
        for number in 0..PROCESSES_MAX {
            let name = numbered(&instance, number);
            if let Some(claimed) = Self::named(app, &name)? {
                if number > 0 && config.app.instance.is_some() {
                    tracing::warn!(
                        instance = name,
                        "another process on this machine has the same app.instance: this one takes another name, so that the two do \
                         not fence each other; if you meant to start one, stop the other"
                    );
                } else if number > 0 {
                    tracing::info!(
                        instance = name,
                        "other processes of this application run on this machine: this one has a name of its own"
                    );
                }
                return Ok(claimed);
            }
        }
        anyhow::bail!(
            "{PROCESSES_MAX} processes of {app} run on this machine as {instance:?}; give this one an app.instance of its own"
        )
    }

    #[cfg(target_os = "linux")]
    fn named(app: &str, name: &str) -> std::io::Result<Option<Self>> {
        use std::os::{linux::net::SocketAddrExt, unix::net};
        // A socket name has at most 107 bytes.
        let digest = format!("{:x}", Sha256::digest(format!("{app}\n{name}")));
        let address = net::SocketAddr::from_abstract_name(format!("aimpoint/{}", &digest[..32]))?;
        match net::UnixListener::bind_addr(&address) {
            Ok(socket) => Ok(Some(Self { name: name.to_owned(), _socket: socket })),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Ok(None),
            Err(error) => Err(error),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn named(_: &str, name: &str) -> std::io::Result<Option<Self>> {
        Ok(Some(Self { name: name.to_owned() }))
    }

    /// The name of a worker: its client id and, with static membership, its `group.instance.id`.
    pub(crate) fn worker(&self, config: &Config, number: usize) -> String {
        format!("{}-{}-{number}", config.app.name, self.name)
    }

    /// The transactional id of a worker. It is unique: names contain no @, so it is clear where the application's name ends.
    pub(crate) fn transactional(&self, config: &Config, number: usize) -> String {
        format!("{}-@{}-{number}", config.app.name, self.name)
    }
}

/// The name of a process: that of the instance for the first one, so that a single process keeps it.
fn numbered(instance: &str, number: usize) -> String {
    if number == 0 { instance.to_owned() } else { format!("{instance}.p{number}") }
}

/// An error if other machines are likely to have the same name. Brokers on this machine have no clients elsewhere.
pub(crate) fn check_name(config: &Config) -> Option<ConfigError> {
    let is_local = |broker: &str| {
        let host = broker.trim().rsplit_once(':').map_or(broker, |(host, _)| host);
        let host = host.rsplit_once("://").map_or(host, |(_, host)| host).trim_matches(['[', ']']);
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    };
    let instance = config.app.instance();
    let is_common = config.app.instance.is_none() && COMMON_HOSTS.contains(&instance.as_str());
    (is_common && !config.kafka.brokers.split(',').all(is_local)).then(|| {
        ConfigError::new("app.instance", format!("this machine is called {instance:?}, as many others are"))
            .hint("processes with the same name fence each other: set app.instance to a unique name")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(name: &str, instance: Option<&str>, brokers: &str) -> Config {
        let mut config = Config::default();
        config.app.name = name.to_owned();
        config.app.instance = instance.map(str::to_owned);
        config.kafka.brokers = brokers.to_owned();
        config
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn processes_on_one_machine_have_different_ids_and_a_restart_has_the_same_one() {
        let name = format!("slot-test-{}", std::process::id());
        let config = config(&name, Some("host"), "localhost:9092");
        let first = Instance::claim(&config).unwrap();
        let second = Instance::claim(&config).unwrap();
        let other = Instance::claim(&self::config(&format!("{name}-other"), Some("host"), "localhost:9092")).unwrap();
        assert_eq!((first.name.as_str(), second.name.as_str()), ("host", "host.p1"));
        assert_eq!(other.name, "host", "another application has its own names");
        assert_eq!(second.worker(&config, 3), format!("{name}-host.p1-3"));
        assert_eq!(second.transactional(&config, 3), format!("{name}-@host.p1-3"));
        drop(first);
        assert_eq!(Instance::claim(&config).unwrap().name, "host");
    }

    #[test]
    fn a_common_name_is_refused_if_brokers_are_remote() {
        for (instance, brokers, is_sound) in [
            (Some("localhost"), "kafka:9092", true),
            (Some("a"), "kafka:9092", true),
            (None, "localhost:9092,127.0.0.1:9093,[::1]:9094", true),
        ] {
            assert_eq!(check_name(&config("app", instance, brokers)).is_none(), is_sound, "{instance:?} {brokers}");
        }
        let unnamed = config("app", None, "localhost:9092,kafka:9092");
        assert_eq!(check_name(&unnamed).is_some(), COMMON_HOSTS.contains(&unnamed.app.instance().as_str()));
    }
}
