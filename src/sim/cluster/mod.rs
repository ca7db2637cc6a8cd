//! A whole cluster in virtual time: API server, controllers, nodes, gateway, traffic, metrics, and our own
//! engine on top, driven one at a time in a fixed order.
//!
//! Equal inputs give equal runs: nothing here is concurrent, the clock moves only when everything rests,
//! and every random number comes from the seed.

mod metrics;
mod transcript;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::api::crds;
use crate::apply::Leading;
use crate::clock::{Clock, SimClock};
use crate::controller::Engine;
use crate::controller::engine::earliest;
use crate::observe::{Key, Kind};
use crate::rollout::invariants::Violation;
use crate::sim::apiserver::{ApiServer, ChangeKind, Plugins, Refusable, ResourceKey};
use crate::sim::controllers::Controllers;
use crate::sim::gateway;
use crate::sim::kubelet::{Behaviours, Nodes};
use crate::sim::load::{Scraper, VirtualTraffic, Visitor};
use crate::sim::pods;
use crate::sim::promql::Tsdb;
use crate::sim::promql::api::SharedTsdb;

pub use metrics::Metrics;
pub use transcript::{Line, Transcript};

/// The account of the engine.
pub const ACCOUNT: &str = "system:serviceaccount:sluice-system:sluice";
/// A person at a keyboard.
pub const USER: &str = "user";
/// How often requests are sent and pods are scraped.
const TICK: SignedDuration = SignedDuration::from_secs(1);
/// The shipped admission policies.
const POLICIES: [&str; 2] = [
    include_str!("../../../charts/sluice/policies/deployment.yaml"),
    include_str!("../../../charts/sluice/policies/rollout.yaml"),
];
/// Rounds of everybody's work at one instant before it is called a fight.
const ROUNDS_MAX: usize = 2_000;

/// What a cluster is made of.
pub struct Options {
    /// When it begins.
    pub start: Timestamp,
    /// The seed of every random number.
    pub seed: u64,
    /// How containers start.
    pub kubelet: Behaviours,
    /// How containers answer.
    pub answers: pods::Behaviours,
    /// Who asks, and how often in a second. Nobody: no data plane is simulated.
    pub visitors: (Vec<Visitor>, f64),
    /// Plug points of the API server: policies and schemas.
    pub plugins: Plugins,
}

/// A whole cluster in virtual time.
pub struct Cluster {
    /// The API server.
    pub server: ApiServer,
    /// The time.
    pub clock: Arc<SimClock>,
    /// The nodes, for behaviours that change.
    pub nodes: Nodes,
    /// The engine; `None` while the controller is dead.
    engine: Option<Arc<Engine>>,
    controllers: Controllers,
    gateway: gateway::Controller,
    traffic: Option<VirtualTraffic>,
    scraper: Scraper,
    db: SharedTsdb,
    seen: u64,
    dirty: BTreeSet<Key>,
    wakes: BTreeMap<Key, Timestamp>,
    tick_at: Timestamp,
    leading: Leading,
    blind: bool,
    /// Two of them wrote against each other without end: the run is over.
    pub fought: bool,
    /// Broken invariants, each with its time.
    pub violations: Vec<(Timestamp, Violation)>,
    /// What happened.
    pub transcript: Transcript,
}

impl Cluster {
    /// A cluster with our custom resources, a namespace `default` and a Gateway `web`.
    ///
    /// # Errors
    /// The API server refused one of the objects that every cluster has.
    pub fn new(options: Options) -> Refusable<Self> {
        let clock = Arc::new(SimClock::at(options.start));
        let server = ApiServer::with_plugins(clock.clone() as Arc<dyn Clock>, options.plugins);
        for object in base_objects() {
            server.create("admin", object)?;
        }
        let nodes = Nodes::new(server.clone(), 3, options.kubelet);
        let db: SharedTsdb = Arc::new(RwLock::new(Tsdb::new(3_600_000)));
        let (visitors, rate) = options.visitors;
        let traffic = (!visitors.is_empty())
            .then(|| VirtualTraffic::new(visitors, rate, options.answers, options.seed));
        let mut cluster = Self {
            controllers: Controllers::new(server.clone()).without_events(),
            gateway: gateway::Controller::new(server.clone(), "127.0.0.1"),
            nodes,
            engine: None,
            traffic,
            scraper: Scraper::default(),
            db,
            seen: 0,
            dirty: BTreeSet::new(),
            wakes: BTreeMap::new(),
            tick_at: options.start,
            leading: Leading::assume(),
            blind: false,
            fought: false,
            violations: Vec::new(),
            transcript: Transcript::new(options.start),
            clock,
            server,
        };
        cluster.start_controller();
        Ok(cluster)
    }

    /// Starts a controller with an empty memory, as after a crash.
    pub fn start_controller(&mut self) {
        let client = self.server.client(ACCOUNT);
        let source = Metrics { db: self.db.clone(), clock: self.clock.clone() };
        let engine = Engine::new(
            client,
            self.clock.clone() as Arc<dyn Clock>,
            Arc::new(source),
            ACCOUNT,
            "sim-0",
        );
        self.dirty.clear();
        self.wakes.clear();
        self.seen = 0;
        for kind in Kind::ALL {
            let (group, version, _, plural) = kind.names();
            let key = ResourceKey::new(group, version, plural);
            for object in self.server.list(&key, None) {
                self.dirty.extend(engine.see(kind, &object));
            }
        }
        self.seen = self.server.resource_version();
        self.dirty.extend(engine.world().all_keys());
        self.engine = Some(Arc::new(engine));
    }

    /// The controller dies: nothing of ours happens until it is started again.
    pub fn kill_controller(&mut self) {
        self.engine = None;
        self.dirty.clear();
        self.wakes.clear();
    }

    /// While `blind`, the controller's watches show nothing: it acts on what it saw before and on the
    /// answers to its own writes. What it has missed is shown when its watches are back.
    pub fn blind_controller(&mut self, blind: bool) {
        self.blind = blind;
    }

    /// How the requests ended so far.
    #[must_use]
    pub fn outcomes(&self) -> crate::sim::load::Outcomes {
        self.traffic.as_ref().map(|t| t.outcomes().clone()).unwrap_or_default()
    }

    /// Everybody works until nobody has anything left to do at this instant.
    pub async fn settle(&mut self) {
        for _ in 0..ROUNDS_MAX {
            let before = self.server.resource_version();
            self.controllers.settle();
            self.nodes.run_once();
            let _refused = self.gateway.sync();
            self.observe();
            self.reconcile_one().await;
            self.record();
            if self.server.resource_version() == before && self.dirty.is_empty() {
                return;
            }
        }
        self.transcript.say(self.clock.now(), "fight", "nobody comes to rest".into());
        self.fought = true;
    }

    /// Lets time pass until `to`.
    pub async fn run_until(&mut self, to: Timestamp) {
        self.settle().await;
        while self.clock.now() < to && !self.fought {
            let next = self.next_instant().map_or(to, |at| at.min(to));
            let now = self.clock.now();
            self.clock.advance_to(
                next.max(now.saturating_add(SignedDuration::from_millis(1)).unwrap_or(to)),
            );
            self.tick();
            self.wake();
            self.settle().await;
        }
    }

    /// Lets `span` pass.
    pub async fn run_for(&mut self, span: SignedDuration) {
        let to = self.clock.now().saturating_add(span).unwrap_or(Timestamp::MAX);
        self.run_until(to).await;
    }

    /// Lets time pass until `done` says so, at most `span`; true when it did.
    pub async fn run_while(
        &mut self,
        span: SignedDuration,
        mut done: impl FnMut(&ApiServer) -> bool,
    ) -> bool {
        let end = self.clock.now().saturating_add(span).unwrap_or(Timestamp::MAX);
        self.settle().await;
        while !done(&self.server) {
            let now = self.clock.now();
            if now >= end || self.fought {
                return false;
            }
            let next = self.next_instant().unwrap_or(end).min(end);
            self.run_until(
                next.max(now.saturating_add(SignedDuration::from_millis(1)).unwrap_or(end)),
            )
            .await;
        }
        true
    }

    fn next_instant(&self) -> Option<Timestamp> {
        let mut next = earliest(self.controllers.next_wake(), self.nodes.next_wake());
        next = earliest(next, self.wakes.values().min().copied());
        if self.traffic.is_some() {
            next = earliest(next, Some(self.tick_at));
        }
        next
    }

    /// Sends the requests of the past second and scrapes the pods.
    fn tick(&mut self) {
        let now = self.clock.now();
        let Some(traffic) = &mut self.traffic else { return };
        if now < self.tick_at {
            return;
        }
        self.tick_at = now.saturating_add(TICK).unwrap_or(Timestamp::MAX);
        let pods = self.server.list(&ResourceKey::new("", "v1", "pods"), None);
        traffic.tick(&self.gateway.view(), &pods, TICK.as_secs_f64());
        let pages = traffic.pages(&pods);
        let mut db = self.db.write().unwrap_or_else(PoisonError::into_inner);
        self.scraper.store(&mut db, &pages, now.as_millisecond());
    }

    fn wake(&mut self) {
        let now = self.clock.now();
        let due: Vec<Key> =
            self.wakes.iter().filter(|(_, at)| **at <= now).map(|(k, _)| k.clone()).collect();
        for key in due {
            self.wakes.remove(&key);
            self.dirty.insert(key);
        }
    }

    /// Feeds the world what has changed.
    fn observe(&mut self) {
        if self.blind {
            return;
        }
        let Some(engine) = self.engine.clone() else { return };
        for change in self.server.changes_since(self.seen) {
            self.seen = change.rv;
            let Some(kind) = kind_of(&change.resource) else { continue };
            let keys = match change.kind {
                ChangeKind::Deleted => engine.world().delete(kind, &change.object),
                _ => engine.see(kind, &change.object),
            };
            self.dirty.extend(keys);
        }
    }

    async fn reconcile_one(&mut self) {
        let Some(engine) = self.engine.clone() else { return };
        let Some(key) = self.dirty.pop_first() else { return };
        self.wakes.remove(&key);
        let outcome = engine.reconcile(&key, &self.leading).await;
        let now = self.clock.now();
        self.violations.extend(outcome.violations.into_iter().map(|v| (now, v)));
        if let Some(error) = outcome.error {
            self.transcript.say(now, "error", error.to_string());
        }
        self.dirty.extend(outcome.touched);
        if let Some(at) = outcome.wake {
            self.wakes.insert(key, at);
        }
    }

    fn record(&mut self) {
        self.transcript.follow(&self.server);
    }
}

/// The watched kind of a resource.
fn kind_of(resource: &ResourceKey) -> Option<Kind> {
    Kind::ALL.into_iter().find(|kind| {
        let (group, _, _, plural) = kind.names();
        resource.group == group && resource.plural == plural
    })
}

/// What every cluster has: our resources, the Gateway API and a Gateway.
pub(in crate::sim) fn base_objects() -> Vec<Value> {
    let mut out = Vec::new();
    for crd in crds::all() {
        out.push(serde_json::to_value(crd).unwrap_or_default());
    }
    out.extend(gateway::definitions());
    for text in POLICIES {
        // One document each: a policy, its binding.
        for part in text.split("\n---") {
            if let Ok(object) = serde_saphyr::from_str::<Value>(part)
                && object.is_object()
            {
                out.push(object);
            }
        }
    }
    out.push(json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "GatewayClass",
        "metadata": {"name": "sim"},
        "spec": {"controllerName": gateway::CONTROLLER},
    }));
    out.push(json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "gatewayClassName": "sim",
            "listeners": [{"name": "http", "protocol": "HTTP", "port": 80}],
        },
    }));
    out
}
