//! What serve takes from the configuration.

use super::{body::Limits, tls::Tls, tokens::Tokens};
use crate::{
    app::{Instance, Setup},
    config::ConfigLoadError,
    serve::{Enricher, Mutator, Position, ServePartitions, ServeSpec, origin_of},
    source::{SourceError, Tail, TailSettings},
};
use std::{collections::BTreeMap, path::PathBuf, time::Duration};

/// The settings of the loop that reads.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) app: String,
    pub(super) tail: TailSettings,
    pub(super) stale_max: Duration,
    /// The file of snapshots, and how often it is written.
    pub(super) snapshot: Option<(PathBuf, Duration)>,
    /// How this process shares the partitions with others, if it does.
    pub(super) share: Option<ShareSettings>,
}

/// The settings of a member of the group.
#[derive(Clone, Debug)]
pub(super) struct ShareSettings {
    pub(super) tail: TailSettings,
    /// The name of the client.
    pub(super) name: String,
    /// Where bidders reach this process.
    pub(super) address: String,
}

impl Settings {
    /// Opens the topic: all partitions, each at the end of a snapshot or at its start, or none of them if the group says which.
    pub(super) fn open(&self, known: &BTreeMap<i32, Position>) -> Result<Tail, SourceError> {
        if self.share.is_some() {
            return Tail::open_idle(&self.tail);
        }
        Tail::open(&self.tail, |partition, ends| known.get(&partition).map_or(ends.low, |position| position.next))
    }

    pub(super) fn of(setup: &Setup, instance: &Instance) -> Self {
        let config = &setup.config;
        let id = format!("{}-serve-{}", config.app.name, instance.name);
        let tail = |client: Vec<(String, String)>| TailSettings {
            brokers: config.kafka.brokers.clone(),
            group: config.serve_group(),
            topic: config.topics.decisions.clone(),
            client,
        };
        let spec = config.serve();
        let snapshot = spec.snapshot.map(|path| (path, spec.snapshot_interval));
        let is_shared = spec.partitions == ServePartitions::Assigned;
        let share = spec.advertise.filter(|_| is_shared).map(|address| ShareSettings {
            // The user's settings for consumers are about workers, such as the protocol of their group.
            tail: tail(config.kafka.client_settings()),
            name: id.clone(),
            address: origin_of(&address),
        });
        let client = [vec![("client.id".to_owned(), id)], config.kafka.consumer_settings()].concat();
        Self { app: config.app.name.clone(), tail: tail(client), stale_max: spec.stale_max, snapshot, share }
    }
}

/// The tokens of the configuration or its file; `None` without any.
pub(super) fn tokens(setup: &Setup) -> Result<Option<Tokens>, ConfigLoadError> {
    let spec = setup.config.serve();
    match &spec.token_file {
        None => Ok(spec.token.as_ref().map(Tokens::of)),
        Some(path) => {
            Tokens::read(path).map(Some).map_err(|error| ConfigLoadError::Invalid(setup.document.explain(&[error])))
        }
    }
}

/// The settings of TLS; `None` without it.
pub(super) fn tls(setup: &Setup, spec: &ServeSpec) -> Result<Option<Tls>, ConfigLoadError> {
    let read = spec.tls.clone().map(Tls::read).transpose();
    read.map_err(|error| ConfigLoadError::Invalid(setup.document.explain(&[error])))
}

/// What enriches bid requests; `None` without a provider.
pub(super) fn enricher(setup: &Setup, spec: &ServeSpec) -> Option<Enricher> {
    let provider = spec.provider.as_ref()?;
    // The configuration was checked, so there are no errors.
    let rules = spec.rules(&mut Vec::new());
    Some(Enricher::new(provider, spec.identity.clone(), setup.config.users(), rules))
}

/// What proposes changes to bid requests; `None` without a port for gRPC.
pub(super) fn mutator(setup: &Setup, spec: &ServeSpec) -> Option<Mutator> {
    spec.grpc.as_ref()?;
    let rules = spec.rules(&mut Vec::new());
    let seat = &setup.config.pipeline.decision.seat;
    Some(Mutator::new(seat, spec.identity.clone(), setup.config.users(), rules))
}

/// What bounds requests.
pub(super) fn limits(spec: &ServeSpec) -> Limits {
    Limits {
        connections: spec.connections_max,
        requests: spec.requests_max,
        body_bytes: spec.body_max.as_u64() as usize,
        batch: spec.batch_max,
        answer_bytes: spec.answer_max.as_u64() as usize,
        body: spec.body_timeout,
        write: spec.write_timeout,
        idle: spec.idle_timeout,
    }
}
