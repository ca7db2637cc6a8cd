//! The open-loop load generator.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::sync::Semaphore;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// One kind of request in the mix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visitor {
    /// How many of the requests are of this kind, relative to the other kinds.
    pub weight: u32,
    /// The virtual host.
    pub host: String,
    /// The path with its query string.
    pub path: String,
    /// Headers, cookies included.
    pub headers: Vec<(String, String)>,
}

impl Visitor {
    /// A request for `/` on `host` without headers.
    #[must_use]
    pub fn plain(host: &str) -> Self {
        Self { weight: 1, host: host.to_owned(), path: "/".to_owned(), headers: Vec::new() }
    }
}

/// How the requests ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// Requests that ended in any way.
    pub total: u64,
    /// By the version that answered: all answers.
    pub answered: BTreeMap<String, u64>,
    /// By the version that answered: those with 5xx.
    pub failed: BTreeMap<String, u64>,
    /// Failed without an answer of any version: refused by the gateway, or not connected.
    pub failed_elsewhere: u64,
}

impl Outcomes {
    pub(super) fn answer(&mut self, version: &str, failed: bool) {
        self.total += 1;
        *self.answered.entry(version.to_owned()).or_default() += 1;
        if failed {
            *self.failed.entry(version.to_owned()).or_default() += 1;
        }
    }

    pub(super) fn elsewhere(&mut self) {
        self.total += 1;
        self.failed_elsewhere += 1;
    }
}

/// Picks visitors by weight.
#[derive(Debug, Clone)]
pub(super) struct Mix {
    visitors: Vec<Visitor>,
    rng: SmallRng,
}

impl Mix {
    pub(super) fn new(visitors: Vec<Visitor>, seed: u64) -> Self {
        Self { visitors, rng: SmallRng::seed_from_u64(seed) }
    }

    pub(super) fn next(&mut self) -> Option<(usize, &Visitor)> {
        let total: u64 = self.visitors.iter().map(|v| u64::from(v.weight)).sum();
        if total == 0 {
            return None;
        }
        let mut left = self.rng.random_range(0..total);
        self.visitors.iter().enumerate().find(|(_, visitor)| {
            let weight = u64::from(visitor.weight);
            let hit = left < weight;
            left = left.saturating_sub(weight);
            hit
        })
    }
}

/// A generator of real requests.
pub struct Load {
    mix: Mutex<Mix>,
    outcomes: Mutex<Outcomes>,
    client: Client<HttpConnector, Empty<Bytes>>,
    under_way: Arc<Semaphore>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Load {
    /// A generator of these visitors; `seed` decides their order.
    #[must_use]
    pub fn new(visitors: Vec<Visitor>, seed: u64) -> Arc<Self> {
        Self::bounded(visitors, seed, Semaphore::MAX_PERMITS)
    }

    /// As [`Self::new`], with at most so many requests of [`Self::run`] under way: what would be more
    /// is never sent. It keeps a machine that cannot follow from drowning in connections.
    #[must_use]
    pub fn bounded(visitors: Vec<Visitor>, seed: u64, at_most: usize) -> Arc<Self> {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Arc::new(Self {
            mix: Mutex::new(Mix::new(visitors, seed)),
            outcomes: Mutex::default(),
            client: Client::builder(TokioExecutor::new()).build(connector),
            under_way: Arc::new(Semaphore::new(at_most)),
        })
    }

    /// What has ended so far.
    #[must_use]
    pub fn outcomes(&self) -> Outcomes {
        lock(&self.outcomes).clone()
    }

    /// Sends `per_second` requests each second to `gateway` until `stop`, without waiting for
    /// answers: a slow server does not make the load smaller.
    pub async fn run(
        self: Arc<Self>,
        gateway: SocketAddr,
        per_second: f64,
        stop: CancellationToken,
    ) {
        if !(per_second > 0.0 && per_second.is_finite()) {
            return;
        }
        // One tick per request, but at most 1,000 ticks a second: the rest come in bursts.
        let ticks_per_second = per_second.min(1_000.0);
        let mut tick = tokio::time::interval(Duration::from_secs_f64(1.0 / ticks_per_second));
        tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut owed = 0.0;
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = stop.cancelled() => return,
            }
            owed += per_second / ticks_per_second;
            while owed >= 1.0 {
                owed -= 1.0;
                let Ok(permit) = self.under_way.clone().try_acquire_owned() else { continue };
                let sent = self.clone().send(gateway);
                tokio::spawn(async move {
                    sent.await;
                    drop(permit);
                });
            }
        }
    }

    /// Sends one request and counts how it ended.
    pub async fn send(self: Arc<Self>, gateway: SocketAddr) {
        let Some(request) = lock(&self.mix).next().map(|(_, visitor)| request(gateway, visitor))
        else {
            return;
        };
        let answered = match self.client.request(request).await {
            Ok(answer) => {
                let (head, body) = answer.into_parts();
                body.collect().await.is_ok().then_some(head)
            }
            Err(_) => None,
        };
        let mut outcomes = lock(&self.outcomes);
        let version =
            answered.as_ref().and_then(|head| head.headers.get("x-version")?.to_str().ok());
        match (&answered, version) {
            (Some(head), Some(version)) => {
                outcomes.answer(version, head.status.is_server_error());
            }
            _ => outcomes.elsewhere(),
        }
    }
}

fn request(gateway: SocketAddr, visitor: &Visitor) -> http::Request<Empty<Bytes>> {
    let mut request = http::Request::new(Empty::new());
    *request.uri_mut() = format!("http://{gateway}{}", visitor.path).parse().unwrap_or_default();
    if let Ok(host) = visitor.host.parse() {
        request.headers_mut().insert(HOST, host);
    }
    for (name, value) in &visitor.headers {
        let name = name.parse::<http::HeaderName>();
        if let (Ok(name), Ok(value)) = (name, value.parse::<http::HeaderValue>()) {
            request.headers_mut().append(name, value);
        }
    }
    request
}
