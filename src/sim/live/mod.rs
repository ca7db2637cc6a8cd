//! A whole cluster in real time: the API over HTTP, pods that are HTTP servers, a gateway, scraping,
//! a query API, and the controller as it is, which sees a Kubernetes API and a Prometheus address.
//!
//! The virtual-time twin is [`cluster`](super::cluster). Everything listens on loopback and ends when
//! the [`Live`] is dropped. Refused: any other address, any other system than Linux.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, SystemClock};
use crate::controller::engine::earliest;
use crate::controller::{Engine, Settings, run};
use crate::providers::{Catalog, Pool, PoolError, ProviderError, Server};
use crate::sim::apiserver::{ApiServer, ApiStatus, Tokens, kubeconfig};
use crate::sim::cluster::{ACCOUNT, base_objects, lint_objects};
use crate::sim::controllers::Controllers;
use crate::sim::kubelet::{Behaviours, Nodes, settle};
use crate::sim::load::{DataPlane, PlaneOptions};
use crate::sim::plugins::plugins;
use crate::sim::pods;
use crate::telemetry::Metrics;

/// The person who owns the cluster.
pub const ADMIN: &str = "admin";
/// Without anything due, controllers and nodes look again after this.
const IDLE: Duration = Duration::from_secs(60);

/// What a live cluster is made of.
pub struct Options {
    /// Decides the split, errors and response times.
    pub seed: u64,
    /// How many nodes there are.
    pub nodes: usize,
    /// How containers start and stop.
    pub kubelet: Behaviours,
    /// How containers answer.
    pub answers: pods::Behaviours,
    /// Between two scrapes.
    pub scrape_every: SignedDuration,
}

/// Why a live cluster could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// No port of 127.0.0.1 could be had.
    #[error("cannot listen on 127.0.0.1: allow this process to open loopback ports")]
    Listen(#[source] io::Error),
    /// The API server refused an object that every cluster has.
    #[error("the cluster's own objects were refused: {0}")]
    Refused(Box<ApiStatus>),
    /// No client could be made of a kubeconfig.
    #[error("no client for the cluster: {0}")]
    Client(String),
    /// No metric client.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The query API's address cannot be used.
    #[error(transparent)]
    Prometheus(#[from] ProviderError),
    /// The controller's own metrics clash.
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
}

/// A running cluster. Stops when it is dropped.
pub struct Live {
    server: ApiServer,
    plane: DataPlane,
    address: SocketAddr,
    token: String,
    account_token: String,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
    controller: Option<watch::Sender<bool>>,
}

impl Live {
    /// Starts everything. Needs a process-wide TLS provider, as every client does.
    ///
    /// # Errors
    /// No loopback port, or a defect of ours.
    pub async fn start(options: Options) -> Result<Self, LiveError> {
        let mut live = Self::without_controller(options).await?;
        let account = client(&live.account_kubeconfig()).await?;
        let prometheus = live.plane.prometheus();
        live.controller = Some(start_controller(account, live.clock.clone(), prometheus)?);
        Ok(live)
    }

    /// Starts everything but our own controller, which runs as a process of its own with
    /// [`Live::account_kubeconfig`]. Needs a process-wide TLS provider, as every client does.
    ///
    /// # Errors
    /// No loopback port, or a defect of ours.
    pub async fn without_controller(options: Options) -> Result<Self, LiveError> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let server = ApiServer::with_plugins(clock.clone(), plugins());
        for object in base_objects().into_iter().chain(lint_objects()) {
            server.create(ADMIN, object).map_err(LiveError::Refused)?;
        }
        let stop = CancellationToken::new();
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = TcpListener::bind(loopback).await.map_err(LiveError::Listen)?;
        let address = listener.local_addr().map_err(LiveError::Listen)?;
        let (token, account_token) = (random_token()?, random_token()?);
        let tokens = Tokens::from([
            (token.clone(), ADMIN.to_owned()),
            (account_token.clone(), ACCOUNT.to_owned()),
        ]);
        let shutdown = stop.clone().cancelled_owned();
        tokio::spawn(server.clone().serve(listener, tokens, shutdown));

        let plane = PlaneOptions {
            visitors: Vec::new(),
            behaviours: options.answers,
            scrape_every: options.scrape_every,
            seed: options.seed,
            ..PlaneOptions::new("", 0.0)
        };
        let plane = DataPlane::start(server.clone(), clock.clone(), plane, loopback, loopback)
            .await
            .map_err(LiveError::Listen)?;
        let nodes = Nodes::new(server.clone(), options.nodes, options.kubelet)
            .with_addresses(plane.addresses());
        tokio::spawn(drive(server.clone(), nodes, stop.clone()));

        Ok(Self { server, plane, address, token, account_token, clock, stop, controller: None })
    }

    /// A kubeconfig of the controller's account.
    #[must_use]
    pub fn account_kubeconfig(&self) -> String {
        kubeconfig(self.address, &self.account_token)
    }

    /// The API server, for what no client can do.
    #[must_use]
    pub fn server(&self) -> &ApiServer {
        &self.server
    }

    /// A kubeconfig of the cluster's owner.
    #[must_use]
    pub fn kubeconfig(&self) -> String {
        kubeconfig(self.address, &self.token)
    }

    /// A client of the cluster's owner, over HTTP.
    ///
    /// # Errors
    /// A defect of ours.
    pub async fn client(&self) -> Result<kube::Client, LiveError> {
        client(&self.kubeconfig()).await
    }

    /// Where the gateway listens.
    #[must_use]
    pub fn gateway(&self) -> SocketAddr {
        self.plane.gateway()
    }

    /// Where the query API listens.
    #[must_use]
    pub fn prometheus(&self) -> SocketAddr {
        self.plane.prometheus()
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.controller = None;
        self.stop.cancel();
    }
}

/// A token that nobody else on this machine can guess.
fn random_token() -> Result<String, LiveError> {
    let mut bytes = [0_u8; 16];
    let source = rustls::crypto::ring::default_provider().secure_random;
    source.fill(&mut bytes).map_err(|_| LiveError::Client("no random numbers".to_owned()))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

async fn client(kubeconfig: &str) -> Result<kube::Client, LiveError> {
    let wrong = |e: &dyn std::fmt::Display| LiveError::Client(e.to_string());
    let file = Kubeconfig::from_yaml(kubeconfig).map_err(|e| wrong(&e))?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
    kube::Client::try_from(config.map_err(|e| wrong(&e))?).map_err(|e| wrong(&e))
}

/// The controller as `sluice controller` runs it, without a Lease: there is no other one.
fn start_controller(
    client: kube::Client,
    clock: Arc<dyn Clock>,
    prometheus: SocketAddr,
) -> Result<watch::Sender<bool>, LiveError> {
    let default = Some(Server::at(&format!("http://{prometheus}"))?);
    let catalog = Catalog { default, ..Catalog::default() };
    let pool = Pool::in_cluster(catalog, client.clone(), "sluice-system")?;
    let identity = "live-0".to_owned();
    let engine = Arc::new(Engine::new(client, clock.clone(), Arc::new(pool), ACCOUNT, &*identity));
    let settings = Settings { namespace: None, lease: None, identity, pages: None };
    let metrics = Arc::new(Metrics::new()?);
    let (stop_now, stop) = watch::channel(false);
    tokio::spawn(async move {
        if let Err(error) = run(engine, clock, settings, metrics, stop).await {
            tracing::error!(%error, "the controller ended");
        }
    });
    Ok(stop_now)
}

/// Workload controllers and nodes: woken by every change and by the clock.
async fn drive(server: ApiServer, mut nodes: Nodes, stop: CancellationToken) {
    let mut controllers = Controllers::new(server.clone());
    let mut notify = server.notify();
    loop {
        notify.mark_unchanged();
        if !settle(&mut controllers, &mut nodes) {
            tracing::error!("controllers and nodes do not come to rest");
        }
        let due = earliest(controllers.next_wake(), nodes.next_wake());
        let pause = due.map_or(IDLE, |at| {
            Duration::try_from(at.duration_since(server.now())).unwrap_or_default()
        });
        tokio::select! {
            changed = notify.changed() => if changed.is_err() { return },
            // A millisecond at least: a refused write that is due at once must not spin.
            () = tokio::time::sleep(pause.clamp(Duration::from_millis(1), IDLE)) => {}
            () = stop.cancelled() => return,
        }
    }
}
