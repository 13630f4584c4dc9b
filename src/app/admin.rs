//! The external interfaces of a process: the admin server, and the export to a collector.

use super::{Instance, Setup};
use crate::{
    config::Config,
    logging::Logs,
    metrics,
    secret::Secret,
    status::{Progress, RoleStatus},
    telemetry::{
        admin::{self, AdminState},
        otlp::{Otlp, OtlpSettings},
    },
};
use anyhow::Context;
use std::{net::SocketAddr, sync::Arc};

impl Setup {
    /// Starts sending metrics and traces to the collector, if one is configured.
    pub(super) fn start_otlp(
        &self,
        instance: &Instance,
        state: &Arc<AdminState>,
        workers: &[Progress],
    ) -> anyhow::Result<Option<Otlp>> {
        let Some(endpoint) = self.config.otlp.endpoint.clone() else { return Ok(None) };
        for worker in workers {
            worker.view().trace_one_of(self.config.otlp.trace_one_of);
        }
        let settings = OtlpSettings {
            endpoint,
            interval: self.config.otlp.interval,
            service: self.config.app.name.clone(),
            instance: instance.name.clone(),
            topic: self.config.topics.clickstream.clone(),
            group: self.config.group().to_owned(),
        };
        Otlp::start(settings, Arc::clone(state)).context("start the thread that sends metrics and traces").map(Some)
    }
}

/// Serves health, metrics and the live page; returns the address. `role`: that of a process without workers.
pub(crate) fn serve_admin(
    config: &Config,
    instance: &Instance,
    logs: Option<Arc<Logs>>,
    role: Option<RoleStatus>,
) -> anyhow::Result<(Arc<AdminState>, SocketAddr)> {
    metrics::start(&config.app.name, config.group());
    let title = format!("{}, {}", config.app.name, instance.name);
    let state = Arc::new(AdminState::new(title, config.shown(), config.admin.token.as_ref().map(Secret::reveal), logs));
    // Before the first request, so that nobody gets the page of the workers.
    if let Some(role) = role {
        state.set_role(role);
    }
    let at = admin::serve(config.admin.address, Arc::clone(&state)).with_context(|| {
        let address = config.admin.address.unwrap_or(admin::DEFAULT_ADDRESS);
        format!("serve health, metrics and the page at {address}; set another admin.address")
    })?;
    if config.admin.token.is_none() && !at.ip().is_loopback() {
        tracing::warn!(
            address = %at,
            "anyone who reaches this address can read the metrics, the configuration and the page: set admin.token, or keep others away"
        );
    }
    tracing::info!(address = %at, token = config.admin.token.is_some(), "serving health, metrics and the live page");
    Ok((state, at))
}
