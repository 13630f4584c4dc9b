//! What serve takes from the configuration.

use super::{body::Limits, tls::Tls};
use crate::{
    app::{Instance, Setup},
    config::ConfigLoadError,
    config_error::ConfigError,
    secret::Secret,
    serve::{Enricher, Mutator, ServeSpec, TOKEN_FAULT, is_token},
    source::TailSettings,
};
use std::time::Duration;

/// The settings of the loop that reads.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) app: String,
    pub(super) tail: TailSettings,
    pub(super) stale_max: Duration,
}

impl Settings {
    pub(super) fn of(setup: &Setup, instance: &Instance) -> Self {
        let config = &setup.config;
        let id = format!("{}-serve-{}", config.app.name, instance.name);
        let client = [vec![("client.id".to_owned(), id)], config.kafka.consumer_settings()].concat();
        Self {
            app: config.app.name.clone(),
            tail: TailSettings {
                brokers: config.kafka.brokers.clone(),
                // Names of applications contain no @, so nobody else has this one. It is never joined.
                group: format!("{}-@serve", config.app.name),
                topic: config.topics.decisions.clone(),
                client,
            },
            stale_max: config.serve().stale_max,
        }
    }
}

/// The token of the configuration or its file.
pub(super) fn token(setup: &Setup) -> Result<Option<Secret>, ConfigLoadError> {
    let spec = setup.config.serve();
    let Some(path) = &spec.token_file else { return Ok(spec.token) };
    let fault = |message: String, hint: &str| {
        let error = ConfigError::new("serve.token_file", message).hint(hint);
        ConfigLoadError::Invalid(setup.document.explain(&[error]))
    };
    let token = Secret::read(path).map_err(|error| {
        fault(format!("read {}: {error}", path.display()), "the file has the token and nothing else")
    })?;
    if is_token(token.reveal()) {
        Ok(Some(token))
    } else {
        Err(fault(TOKEN_FAULT.to_owned(), "write one into the file"))
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
        body: spec.body_timeout,
        idle: spec.idle_timeout,
    }
}
