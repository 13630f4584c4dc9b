//! The slot of a process among the processes of one application on one machine. Its transactional ids are derived from it.
//!
//! Guarantees: no two processes of an application on one machine hold the same slot at a time, so they do not fence each other.
//! A slot is freed as soon as its process ends, however it ends. A starting process takes the lowest free slot, so a restarted one
//! gets its previous ids. A slot is held by binding an abstract Unix socket. Limits: containers do not see each other's slots and
//! are distinguished by their host names; on systems other than Linux there is only one slot.

use crate::{config::Config, fault::Fault};
use sha2::{Digest, Sha256};

/// The most processes of one application on one machine.
const PLACES_MAX: usize = 1_024;

/// Host names that many machines share.
const COMMON_HOSTS: [&str; 6] = ["", "0", "localhost", "localhost.localdomain", "localhost4", "(none)"];

/// The slot of this process, held until dropped.
#[derive(Debug)]
pub(super) struct Place {
    /// Identifies this process within the group.
    pub(super) instance: String,
    #[cfg(target_os = "linux")]
    _name: std::os::unix::net::UnixListener,
}

impl Place {
    /// Takes the first free slot.
    ///
    /// # Errors
    /// All slots are taken.
    pub(super) fn take(config: &Config) -> anyhow::Result<Self> {
        let (app, instance) = (&config.app.name, config.app.instance());
        for number in 0..PLACES_MAX {
            let instance = name(&instance, number);
            if let Some(place) = Self::at(app, &instance)? {
                if number > 0 {
                    tracing::info!(
                        instance,
                        "other processes of this application run on this machine: this one uses its own instance name"
                    );
                }
                return Ok(place);
            }
        }
        anyhow::bail!(
            "{PLACES_MAX} processes of {app} run on this machine as {instance:?}; set another app.instance for this one"
        )
    }

    #[cfg(target_os = "linux")]
    fn at(app: &str, instance: &str) -> std::io::Result<Option<Self>> {
        use std::os::{linux::net::SocketAddrExt, unix::net};
        // A socket name has at most 107 bytes.
        let digest = format!("{:x}", Sha256::digest(format!("{app}\n{instance}")));
        let address = net::SocketAddr::from_abstract_name(format!("aimpoint/{}", &digest[..32]))?;
        match net::UnixListener::bind_addr(&address) {
            Ok(name) => Ok(Some(Self { instance: instance.to_owned(), _name: name })),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Ok(None),
            Err(error) => Err(error),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn at(_: &str, instance: &str) -> std::io::Result<Option<Self>> {
        Ok(Some(Self { instance: instance.to_owned() }))
    }

    /// The client id of a worker and, with static membership, its group instance id.
    pub(super) fn worker(&self, config: &Config, number: usize) -> String {
        format!("{}-{}-{number}", config.app.name, self.instance)
    }

    /// The transactional id of a worker: unique, and stable as long as the slot is. Names contain no @, so application and
    /// instance cannot be confused.
    pub(super) fn transactional(&self, config: &Config, number: usize) -> String {
        format!("{}-@{}-{number}", config.app.name, self.instance)
    }
}

/// The instance name of a slot. The first slot has the plain name, so a single process keeps it.
fn name(instance: &str, number: usize) -> String {
    if number == 0 { instance.to_owned() } else { format!("{instance}.p{number}") }
}

/// Rejects an instance name that other machines may have as well, unless all brokers are local and so have no remote clients.
pub(super) fn check(config: &Config) -> Option<Fault> {
    let is_local = |broker: &str| {
        let host = broker.trim().rsplit_once(':').map_or(broker, |(host, _)| host);
        let host = host.rsplit_once("://").map_or(host, |(_, host)| host).trim_matches(['[', ']']);
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    };
    let instance = config.app.instance();
    let is_common = config.app.instance.is_none() && COMMON_HOSTS.contains(&instance.as_str());
    (is_common && !config.kafka.brokers.split(',').all(is_local)).then(|| {
        Fault::new("app.instance", format!("the host name of this machine is {instance:?}, which is not unique"))
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
    fn processes_on_one_machine_have_different_ids_and_a_restarted_one_gets_its_own_again() {
        let name = format!("slot-test-{}", std::process::id());
        let config = config(&name, Some("host"), "localhost:9092");
        let first = Place::take(&config).unwrap();
        let second = Place::take(&config).unwrap();
        let other = Place::take(&self::config(&format!("{name}-other"), Some("host"), "localhost:9092")).unwrap();
        assert_eq!((first.instance.as_str(), second.instance.as_str()), ("host", "host.p1"));
        assert_eq!(other.instance, "host", "another application has its own slots");
        assert_eq!(second.worker(&config, 3), format!("{name}-host.p1-3"));
        assert_eq!(second.transactional(&config, 3), format!("{name}-@host.p1-3"));
        drop(first);
        assert_eq!(Place::take(&config).unwrap().instance, "host");
    }

    #[test]
    fn a_name_that_other_machines_may_have_is_refused_with_remote_brokers() {
        for (instance, brokers, is_valid) in [
            (Some("localhost"), "kafka:9092", true),
            (Some("a"), "kafka:9092", true),
            (None, "localhost:9092,127.0.0.1:9093,[::1]:9094", true),
        ] {
            assert_eq!(check(&config("app", instance, brokers)).is_none(), is_valid, "{instance:?} {brokers}");
        }
        let unnamed = config("app", None, "localhost:9092,kafka:9092");
        assert_eq!(check(&unnamed).is_some(), COMMON_HOSTS.contains(&unnamed.app.instance().as_str()));
    }
}
