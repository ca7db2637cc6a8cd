//! Asks a Prometheus which alerts fire, for clusters where no Alertmanager posts them. Only the replica that
//! holds the Lease asks, and only while a release that names alerts is under way.

use std::sync::Arc;
use std::time::Duration;

use super::engine::Engine;
use crate::alerts;
use crate::analysis::NamedProvider;
use crate::api::Rollout;
use crate::apply;
use crate::providers::{MetricSource, Pool, ProviderId};
use crate::telemetry::Metrics;

/// Between two looks: a rule of Prometheus is evaluated every 15 s to 1 min.
const EVERY: Duration = Duration::from_secs(15);

/// Who is asked for alerts.
#[derive(Clone)]
pub struct Pages {
    /// Asks it.
    pub pool: Pool,
    /// A ClusterMetricProvider; `None`: the controller's default server.
    pub provider: Option<String>,
}

/// Asks again and again. Never ends.
pub(super) async fn follow(engine: Arc<Engine>, pages: Pages, metrics: Arc<Metrics>) {
    loop {
        tokio::time::sleep(EVERY).await;
        let open = open(&engine);
        if open.is_empty() {
            continue;
        }
        let result = match look(&engine, &pages, open).await {
            Ok(()) => "ok",
            Err(error) => {
                tracing::warn!(error, "firing alerts were not asked for: they stop nothing now");
                "failed"
            }
        };
        metrics.alert_polls.with_label_values(&[result]).inc();
    }
}

/// The Rollouts whose release an alert could stop.
fn open(engine: &Engine) -> Vec<Rollout> {
    let world = engine.world();
    let named = world.rollouts.values().filter(|rollout| !rollout.spec.alerts.is_empty());
    let under_way = named.filter(|r| r.status.as_ref().is_some_and(|s| s.release.is_some()));
    under_way.cloned().collect()
}

async fn look(engine: &Engine, pages: &Pages, open: Vec<Rollout>) -> Result<(), String> {
    let named = pages.provider.as_ref();
    let named = named.map(|name| NamedProvider { name: name.clone(), cluster: true });
    if let Some(named) = &named {
        let spec = engine.world().provider(None, &named.name).cloned();
        pages.pool.learn(&ProviderId::of(named, ""), spec.as_ref());
    }
    let body = pages.pool.firing(named).await.map_err(|error| error.to_string())?;
    let notice = alerts::read_prometheus(&body).map_err(|error| error.to_string())?;
    // One that cannot be written keeps the alert from no other.
    let mut refused = Ok(());
    for rollout in open {
        let asked = |rollout: &Rollout| alerts::request(rollout, &notice);
        if let Err(error) = apply::wish(engine.client(), rollout, asked).await {
            refused = Err(error.advice());
        }
    }
    refused
}
