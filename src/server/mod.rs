//! Health, metrics and alerts over HTTP.

mod alerts;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::telemetry::Metrics;

pub use alerts::{Alerts, none as no_alerts, router as alerts_router};

/// Serves `/healthz`, `/readyz`, `/metrics` and what `more` has until `stop` becomes true.
///
/// # Errors
/// The address is taken or not ours.
pub async fn serve(
    at: SocketAddr,
    metrics: Arc<Metrics>,
    more: Router,
    mut stop: watch::Receiver<bool>,
) -> std::io::Result<JoinHandle<()>> {
    let listener = TcpListener::bind(at).await?;
    let app = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(page))
        .with_state(metrics)
        .merge(more);
    Ok(tokio::spawn(async move {
        let end = async move {
            let _closed = stop.changed().await;
        };
        if let Err(error) = axum::serve(listener, app).with_graceful_shutdown(end).await {
            tracing::error!(error = %error, "the health and metrics server ended");
        }
    }))
}

/// A replica that waits for the Lease is ready too: it is what a rolling update waits for.
async fn ready(State(metrics): State<Arc<Metrics>>) -> (StatusCode, &'static str) {
    if metrics.leading.get() == 0 {
        return (StatusCode::OK, "waiting for the Lease\n");
    }
    if metrics.synced.get() == 0 {
        return (StatusCode::SERVICE_UNAVAILABLE, "lists are not complete\n");
    }
    (StatusCode::OK, "ok\n")
}

async fn page(State(metrics): State<Arc<Metrics>>) -> Vec<u8> {
    metrics.page()
}
