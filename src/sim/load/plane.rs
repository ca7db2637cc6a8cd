//! The whole data plane: gateway, pods, load, scraper and queries; with sockets, or in virtual
//! time.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::generator::{Load, Outcomes, Visitor};
use super::scraper::{Scraper, scrape_regularly};
use super::virtual_time::VirtualTraffic;
use crate::clock::Clock;
use crate::sim::apiserver::{ApiServer, ApiStatus, ResourceKey};
use crate::sim::gateway::{Controller, Gateway, Seen};
use crate::sim::kubelet::Addresses;
use crate::sim::pods::{Behaviours, PodServers};
use crate::sim::promql::api::{self, SharedTsdb};
use crate::sim::promql::{Engine, Tsdb};

/// What a data plane does.
#[derive(Debug, Clone)]
pub struct PlaneOptions {
    /// The mix of requests.
    pub visitors: Vec<Visitor>,
    /// Requests per second.
    pub per_second: f64,
    /// How the pods of each image answer.
    pub behaviours: Behaviours,
    /// Between two scrapes.
    pub scrape_every: SignedDuration,
    /// How long samples are kept.
    pub retention: SignedDuration,
    /// Decides the order of visitors, the split, errors and response times.
    pub seed: u64,
}

impl PlaneOptions {
    /// Requests for `/` on `host`, scrapes each 5 s, samples kept for 2 h.
    #[must_use]
    pub fn new(host: &str, per_second: f64) -> Self {
        Self {
            visitors: vec![Visitor::plain(host)],
            per_second,
            behaviours: Behaviours::default(),
            scrape_every: SignedDuration::from_secs(5),
            retention: SignedDuration::from_hours(2),
            seed: 1,
        }
    }

    fn store(&self) -> SharedTsdb {
        Arc::new(RwLock::new(Tsdb::new(millis(self.retention))))
    }
}

fn millis(duration: SignedDuration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4).max(1)
}

/// The data plane with real sockets on loopback. Stops when it is dropped.
pub struct DataPlane {
    gateway: Arc<Gateway>,
    gateway_address: SocketAddr,
    prometheus_address: SocketAddr,
    pods: Arc<PodServers>,
    load: Arc<Load>,
    per_second: f64,
    db: SharedTsdb,
    stop: CancellationToken,
}

impl DataPlane {
    /// Starts everything but the load: the gateway on `gateway` and the query API on `prometheus`
    /// (port 0 takes a free one). Give [`Self::addresses`] to the nodes.
    ///
    /// # Errors
    /// An address that cannot be listened on.
    pub async fn start(
        server: ApiServer,
        clock: Arc<dyn Clock>,
        options: PlaneOptions,
        gateway: SocketAddr,
        prometheus: SocketAddr,
    ) -> io::Result<Self> {
        let db = options.store();
        let stop = CancellationToken::new();
        let gateway_listener = TcpListener::bind(gateway).await?;
        let prometheus_listener = TcpListener::bind(prometheus).await?;
        let gateway_address = gateway_listener.local_addr()?;
        let prometheus_address = prometheus_listener.local_addr()?;

        let gateway = Gateway::new(options.seed);
        let control = gateway.clone().control(server.clone(), gateway_address, stop.clone());
        tokio::spawn(control);
        tokio::spawn(gateway.clone().serve(gateway_listener, stop.clone()));

        let runtime = tokio::runtime::Handle::current();
        let pods = PodServers::new(options.behaviours, options.seed.wrapping_add(1), runtime);
        tokio::spawn(pods.clone().control(server.clone(), stop.clone()));

        let interval = Duration::from_millis(millis(options.scrape_every).unsigned_abs());
        tokio::spawn(scrape_regularly(server, db.clone(), clock.clone(), interval, stop.clone()));
        let queries = api::router(Engine::default(), db.clone(), clock);
        let stopped = stop.clone();
        tokio::spawn(async move {
            let serving = axum::serve(prometheus_listener, queries);
            let graceful = serving.with_graceful_shutdown(stopped.cancelled_owned());
            if let Err(error) = graceful.await {
                tracing::warn!(%error, "the query API stopped");
            }
        });
        let load = Load::new(options.visitors, options.seed.wrapping_add(2));
        let per_second = options.per_second;
        Ok(Self { gateway, gateway_address, prometheus_address, pods, load, per_second, db, stop })
    }

    /// Starts the load.
    pub fn start_load(&self) {
        let load = self.load.clone();
        tokio::spawn(load.run(self.gateway_address, self.per_second, self.stop.clone()));
    }

    /// Where the gateway listens.
    #[must_use]
    pub fn gateway(&self) -> SocketAddr {
        self.gateway_address
    }

    /// Where the query API listens.
    #[must_use]
    pub fn prometheus(&self) -> SocketAddr {
        self.prometheus_address
    }

    /// The nodes' hook: opens a pod's sockets before the pod is reported ready. A pod that cannot
    /// be opened gets 127.0.0.1, where nothing of it listens: its requests fail, which is the
    /// truth.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        let pods = self.pods.clone();
        Box::new(move |pod| match pods.open(pod) {
            Ok(address) => address,
            Err(error) => {
                tracing::error!(%error, "a pod cannot serve");
                IpAddr::V4(Ipv4Addr::LOCALHOST)
            }
        })
    }

    /// How the load's requests ended so far.
    #[must_use]
    pub fn outcomes(&self) -> Outcomes {
        self.load.outcomes()
    }

    /// What the gateway counted so far.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.gateway.seen()
    }

    /// The series.
    #[must_use]
    pub fn db(&self) -> SharedTsdb {
        self.db.clone()
    }
}

impl Drop for DataPlane {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The data plane in virtual time: no sockets, no threads, the same numbers for the same seed.
pub struct VirtualPlane {
    server: ApiServer,
    controller: Controller,
    traffic: VirtualTraffic,
    scraper: Scraper,
    db: SharedTsdb,
    scrape_every_ms: i64,
    now_ms: i64,
    next_scrape_ms: i64,
}

impl VirtualPlane {
    /// A data plane that begins at the server's time.
    #[must_use]
    pub fn new(server: ApiServer, options: PlaneOptions) -> Self {
        let now_ms = server.now().as_millisecond();
        let db = options.store();
        let PlaneOptions { visitors, per_second, behaviours, scrape_every, retention: _, seed } =
            options;
        Self {
            controller: Controller::new(server.clone(), "127.0.0.1"),
            traffic: VirtualTraffic::new(visitors, per_second, behaviours, seed),
            scraper: Scraper::default(),
            server,
            db,
            scrape_every_ms: millis(scrape_every),
            now_ms,
            next_scrape_ms: now_ms,
        }
    }

    /// The gateway catches up with the server; true if it wrote a status. Call it until it does
    /// not.
    ///
    /// # Errors
    /// A status that the server refused.
    pub fn sync(&mut self) -> Result<bool, Box<ApiStatus>> {
        self.controller.sync()
    }

    /// Requests and scrapes up to `now`, with the routes as of the last [`Self::sync`].
    pub fn advance(&mut self, now: Timestamp) {
        let now_ms = now.as_millisecond();
        let view = self.controller.view();
        let pods = self.server.list(&ResourceKey::PODS, None);
        while self.now_ms < now_ms || self.next_scrape_ms <= now_ms {
            let to_ms = now_ms.min(self.next_scrape_ms).max(self.now_ms);
            let seconds = (to_ms - self.now_ms) as f64 / 1000.0;
            self.traffic.tick(&view, &pods, seconds);
            self.now_ms = to_ms;
            if to_ms >= self.next_scrape_ms {
                let mut db = self.db.write().unwrap_or_else(PoisonError::into_inner);
                self.scraper.store(&mut db, &self.traffic.pages(&pods), to_ms);
                self.next_scrape_ms += self.scrape_every_ms;
            }
        }
    }

    /// When the next scrape is due.
    #[must_use]
    pub fn next_wake(&self) -> Timestamp {
        Timestamp::from_millisecond(self.next_scrape_ms).unwrap_or(Timestamp::MAX)
    }

    /// How the requests ended so far.
    #[must_use]
    pub fn outcomes(&self) -> &Outcomes {
        self.traffic.outcomes()
    }

    /// Changes the rate of requests from now on.
    pub fn set_rate(&mut self, per_second: f64) {
        self.traffic.set_rate(per_second);
    }

    /// The series.
    #[must_use]
    pub fn db(&self) -> SharedTsdb {
        self.db.clone()
    }
}
