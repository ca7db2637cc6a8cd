//! `sluice controller`.

use std::io::IsTerminal as _;
use std::sync::{Arc, OnceLock};

use anyhow::{Context, anyhow, bail};
use tokio::sync::watch;

use super::args;
use crate::clock::{Clock, SystemClock};
use crate::controller::{Engine, Pages, Settings, run};
use crate::providers::{Catalog, Pool, Server};
use crate::server;
use crate::telemetry::Metrics;

/// Runs until SIGTERM or SIGINT, or until the Lease is lost.
///
/// # Errors
/// No cluster, a taken port, a lost Lease.
pub async fn controller(args: args::Controller) -> anyhow::Result<u8> {
    log(args.log_json);
    let default = server_of(args.prometheus.as_deref())?;
    if default.is_none() && args.poll_alerts.as_ref().is_some_and(String::is_empty) {
        bail!(
            "--poll-alerts: there is no server to ask: add --prometheus, or name a \
             ClusterMetricProvider: --poll-alerts=NAME"
        );
    }
    let metrics = Arc::new(Metrics::new()?);
    let (stop_now, stop) = watch::channel(false);
    let alerts = Arc::new(OnceLock::new());
    let more = match &args.alerts_secret {
        Some(_) => server::alerts_router(alerts.clone()),
        None => server::no_alerts(),
    };
    let served = server::serve(args.listen, metrics.clone(), more, stop.clone())
        .await
        .with_context(|| format!("--listen {}: choose a free port", args.listen))?;
    let client = args.cluster.connect_for_long().await?;
    if let Some(secret) = &args.alerts_secret {
        let _first = alerts.set(server::Alerts {
            client: client.clone(),
            own: args.lease_namespace.clone(),
            secret: secret.clone(),
            namespace: args.cluster.namespace.clone(),
        });
    }
    tokio::spawn(async move {
        signal().await;
        tracing::info!("the end was asked for");
        let _nobody = stop_now.send(true);
    });
    let Some(account) = account(&client, stop.clone()).await else { return Ok(0) };
    let catalog = Catalog { default, ..Catalog::default() };
    let pool = Pool::in_cluster(catalog, client.clone(), &args.lease_namespace)?;
    let pages = args.poll_alerts.map(|name| {
        let provider = Some(name).filter(|name| !name.is_empty());
        Pages { pool: pool.clone(), provider }
    });
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let identity = std::env::var("HOSTNAME").unwrap_or_else(|_| "sluice".into());
    let identity = format!("{identity}-{}", std::process::id());
    let engine = Arc::new(Engine::new(client, clock.clone(), Arc::new(pool), account, &identity));
    let settings = Settings {
        namespace: args.cluster.namespace.clone(),
        lease: (!args.no_lease).then(|| args.lease_namespace.clone()),
        identity,
        pages,
    };
    let ended = run(engine, clock, settings, metrics, stop).await;
    served.abort();
    ended?;
    Ok(0)
}

/// The server of `--prometheus`.
///
/// # Errors
/// It is no address.
pub(super) fn server_of(prometheus: Option<&str>) -> anyhow::Result<Option<Server>> {
    prometheus
        .map(|address| Server::at(address).map_err(|e| anyhow!("--prometheus: {e}")))
        .transpose()
}

/// Who we are, asked until the API server answers; `None` when the end was asked for first.
async fn account(client: &kube::Client, mut stop: watch::Receiver<bool>) -> Option<String> {
    let mut pause = std::time::Duration::from_millis(500);
    loop {
        let answer = tokio::select! {
            answer = super::let_go::who_am_i(client) => answer,
            _ = stop.changed() => return None,
        };
        match answer {
            Ok(name) => {
                tracing::info!(account = name, "the API server answers");
                return Some(name);
            }
            Err(error) => {
                let remedy = super::client::remedy(&error).unwrap_or("it is asked again");
                tracing::warn!(error = %format!("{error:#}"), remedy, "no answer yet");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = stop.changed() => return None,
        }
        pause = (pause * 2).min(std::time::Duration::from_secs(30));
    }
}

fn log(json: bool) {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,kube_runtime=warn,kube_client=warn"));
    let base = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // A file has no use for colours.
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let _already = if json { base.json().try_init() } else { base.compact().try_init() };
}

async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}
