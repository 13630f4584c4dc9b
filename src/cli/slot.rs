//! The place that a process has among those of one application on one machine: its transactional ids are made of it.
//!
//! Guarantees: no two processes of one application on one machine have the same place at a time, so they do not shut each
//! other out; a process that ends leaves its place at once, however it ends, and the next one to start takes the lowest that
//! is free: so one that is restarted has the ids that it had before. A place is the right to a name that the system keeps for
//! as long as the process lives: an abstract Unix socket. Limits: containers do not see each other's places, and are told
//! apart by their host names; on systems other than Linux there is one place alone.

use crate::{config::Config, fault::Fault};
use sha2::{Digest, Sha256};

/// The most processes of one application on one machine.
const PLACES_MAX: usize = 1_024;

/// Names of hosts that many machines have.
const COMMON_HOSTS: [&str; 6] = ["", "0", "localhost", "localhost.localdomain", "localhost4", "(none)"];

/// The place of this process, for as long as it is kept.
#[derive(Debug)]
pub(super) struct Place {
    /// What tells this process from the group's others.
    pub(super) instance: String,
    #[cfg(target_os = "linux")]
    _name: std::os::unix::net::UnixListener,
}

impl Place {
    /// Takes the first place that is free.
    ///
    /// # Errors
    /// When all are taken.
    pub(super) fn take(config: &Config) -> anyhow::Result<Self> {
        let (app, instance) = (&config.app.name, config.app.instance());
        for number in 0..PLACES_MAX {
            let instance = name(&instance, number);
            if let Some(place) = Self::at(app, &instance)? {
                if number > 0 {
                    tracing::info!(
                        instance,
                        "other processes of this application run on this machine: this one has a name of its own"
                    );
                }
                return Ok(place);
            }
        }
        anyhow::bail!(
            "{PLACES_MAX} processes of {app} run on this machine as {instance:?}; give this one an app.instance of its own"
        )
    }

    #[cfg(target_os = "linux")]
    fn at(app: &str, instance: &str) -> std::io::Result<Option<Self>> {
        use std::os::{linux::net::SocketAddrExt, unix::net};
        // The name of a socket has at most 107 bytes.
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

    /// What the worker of this number is called: its client id and, where membership is static, its instance id.
    pub(super) fn worker(&self, config: &Config, number: usize) -> String {
        format!("{}-{}-{number}", config.app.name, self.instance)
    }

    /// The transactional id of the worker of this number: stable for as long as the place is, and unlike any other's. No name
    /// has an @, so that of an application and that of an instance cannot be read in two ways.
    pub(super) fn transactional(&self, config: &Config, number: usize) -> String {
        format!("{}-@{}-{number}", config.app.name, self.instance)
    }
}

/// The instance of a place: its own for the first one, so that its name does not change where there is one process alone.
fn name(instance: &str, number: usize) -> String {
    if number == 0 { instance.to_owned() } else { format!("{instance}.p{number}") }
}

/// What is wrong with the name of a process that other machines may have as well. Brokers of this machine alone have no clients
/// elsewhere.
pub(super) fn check(config: &Config) -> Option<Fault> {
    let is_local = |broker: &str| {
        let host = broker.trim().rsplit_once(':').map_or(broker, |(host, _)| host);
        let host = host.rsplit_once("://").map_or(host, |(_, host)| host).trim_matches(['[', ']']);
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    };
    let instance = config.app.instance();
    let is_common = config.app.instance.is_none() && COMMON_HOSTS.contains(&instance.as_str());
    (is_common && !config.kafka.brokers.split(',').all(is_local)).then(|| {
        Fault::new("app.instance", format!("this machine is called {instance:?}, as many others are"))
            .hint("processes of one name shut each other out: set app.instance to a name that no other process has")
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
    fn processes_of_one_application_on_one_machine_have_different_ids_and_a_restart_has_its_own_again() {
        let name = format!("slot-test-{}", std::process::id());
        let config = config(&name, Some("host"), "localhost:9092");
        let first = Place::take(&config).unwrap();
        let second = Place::take(&config).unwrap();
        let other = Place::take(&self::config(&format!("{name}-other"), Some("host"), "localhost:9092")).unwrap();
        assert_eq!((first.instance.as_str(), second.instance.as_str()), ("host", "host.p1"));
        assert_eq!(other.instance, "host", "another application has its own places");
        assert_eq!(second.worker(&config, 3), format!("{name}-host.p1-3"));
        assert_eq!(second.transactional(&config, 3), format!("{name}-@host.p1-3"));
        drop(first);
        assert_eq!(Place::take(&config).unwrap().instance, "host");
    }

    #[test]
    fn a_name_that_other_machines_may_have_is_refused_where_brokers_are_elsewhere() {
        for (instance, brokers, is_sound) in [
            (Some("localhost"), "kafka:9092", true),
            (Some("a"), "kafka:9092", true),
            (None, "localhost:9092,127.0.0.1:9093,[::1]:9094", true),
        ] {
            assert_eq!(check(&config("app", instance, brokers)).is_none(), is_sound, "{instance:?} {brokers}");
        }
        let unnamed = config("app", None, "localhost:9092,kafka:9092");
        assert_eq!(check(&unnamed).is_some(), COMMON_HOSTS.contains(&unnamed.app.instance().as_str()));
    }
}
