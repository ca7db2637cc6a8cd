//! A whole cluster in virtual time: API server, controllers, nodes, gateway, traffic, metrics, and our own
//! engine on top, driven one at a time in a fixed order.
//!
//! Equal inputs give equal runs: nothing here is concurrent, the clock moves only when everything rests,
//! and every random number comes from the seed.

mod brain;
mod transcript;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::api::crds;
use crate::clock::{Clock, SimClock};
use crate::controller::engine::earliest;
use crate::rollout::invariants::Violation;
use crate::sim::apiserver::{ApiServer, Refusable, ResourceKey};
use crate::sim::controllers::Controllers;
use crate::sim::gateway;
use crate::sim::hooks::Script;
use crate::sim::kubelet::{Behaviours, Nodes};
use crate::sim::load::{Scraper, VirtualTraffic, Visitor};
use crate::sim::plugins;
use crate::sim::pods;
use crate::sim::promql::Tsdb;
use crate::sim::promql::api::SharedTsdb;

use brain::Brain;
pub use transcript::{Line, Transcript};

/// The account of the engine.
pub const ACCOUNT: &str = "system:serviceaccount:sluice-system:sluice";
/// A person at a keyboard.
pub const USER: &str = "user";
/// How often requests are sent, and pods are scraped unless [`Cluster::scrape_every`] says otherwise.
const TICK: SignedDuration = SignedDuration::from_secs(1);
/// The shipped admission policies.
const POLICIES: [&str; 2] = [
    include_str!("../../../charts/sluice/policies/deployment.yaml"),
    include_str!("../../../charts/sluice/policies/rollout.yaml"),
];
/// Those that speak to whoever types `kubectl apply`.
const LINT: [&str; 2] = [
    include_str!("../../../charts/sluice/lint/rollout.yaml"),
    include_str!("../../../charts/sluice/lint/template.yaml"),
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
}

/// A whole cluster in virtual time.
pub struct Cluster {
    /// The API server.
    pub server: ApiServer,
    /// The time.
    pub clock: Arc<SimClock>,
    /// The nodes, for behaviours that change.
    pub nodes: Nodes,
    /// The hooks, for answers that change and for what they heard.
    pub hooks: Arc<Script>,
    /// Our controllers: none while it is dead, two when one does not know that it no longer leads.
    brains: Vec<Brain>,
    controllers: Controllers,
    gateway: gateway::Controller,
    traffic: Option<VirtualTraffic>,
    scraper: Scraper,
    db: SharedTsdb,
    tick_at: Timestamp,
    scrape_every: SignedDuration,
    scrape_at: Timestamp,
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
        let server = furnished(options.start)?.twin(clock.clone(), plugins::plugins());
        let nodes = Nodes::new(server.clone(), 3, options.kubelet);
        let db: SharedTsdb = Arc::new(RwLock::new(Tsdb::new(3_600_000)));
        let (visitors, rate) = options.visitors;
        let traffic = (!visitors.is_empty())
            .then(|| VirtualTraffic::new(visitors, rate, options.answers, options.seed));
        let mut cluster = Self {
            controllers: Controllers::new(server.clone()).without_events(),
            gateway: gateway::Controller::new(server.clone(), "127.0.0.1"),
            nodes,
            hooks: Arc::default(),
            brains: Vec::new(),
            traffic,
            scraper: Scraper::default(),
            db,
            tick_at: options.start,
            scrape_every: TICK,
            scrape_at: options.start,
            fought: false,
            violations: Vec::new(),
            transcript: Transcript::new(options.start),
            clock,
            server,
        };
        cluster.hooks.pass(options.start);
        cluster.start_controller();
        Ok(cluster)
    }

    /// Starts a controller with an empty memory, as after a crash.
    pub fn start_controller(&mut self) {
        self.brains = vec![self.brain()];
    }

    fn brain(&self) -> Brain {
        let hooks = self.hooks.clone();
        Brain::start(&self.server, self.clock.clone(), self.db.clone(), hooks)
    }

    /// Scrapes the pods this often from now on: whole seconds.
    pub fn scrape_every(&mut self, span: SignedDuration) {
        self.scrape_every = span;
    }

    /// The controller dies: nothing of ours happens until it is started again.
    pub fn kill_controller(&mut self) {
        self.brains.clear();
    }

    /// While `blind`, the first controller's watches show nothing: it acts on what it saw before and on the
    /// answers to its own writes. What it has missed is shown when its watches are back.
    pub fn blind_controller(&mut self, blind: bool) {
        if let Some(brain) = self.brains.first_mut() {
            brain.blind = blind;
        }
    }

    /// The controller's watches cannot go on where they ended: it lists everything anew.
    pub fn drop_watches(&mut self) {
        for brain in &mut self.brains {
            brain.list(&self.server);
        }
    }

    /// A second controller that thinks it leads, as when a Lease was lost without a word; or none any more.
    pub fn second_controller(&mut self, on: bool) {
        self.brains.truncate(1);
        if on {
            self.brains.push(self.brain());
        }
    }

    /// The controller's own clock is off by so much.
    pub fn step_controllers_clock(&mut self, off_by: SignedDuration) {
        for brain in &mut self.brains {
            brain.step_clock(off_by);
        }
    }

    /// Series of a time before the cluster began, in place of all that were scraped. They are kept as
    /// long as `db` keeps them.
    pub fn begin_with(&mut self, db: Tsdb) {
        *self.db.write().unwrap_or_else(PoisonError::into_inner) = db;
    }

    /// The series, for exporters that are no pod of the cluster.
    #[must_use]
    pub fn db(&self) -> SharedTsdb {
        self.db.clone()
    }

    /// How many requests each pod that there is has answered, by namespace and name.
    #[must_use]
    pub fn answered(&self) -> BTreeMap<(String, String), u64> {
        self.traffic.as_ref().map(VirtualTraffic::answered).unwrap_or_default()
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
            self.act().await;
            self.record();
            if self.server.resource_version() == before && self.brains.iter().all(Brain::idle) {
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
        next = self.brains.iter().map(Brain::next_wake).fold(next, earliest);
        if self.traffic.is_some() {
            next = earliest(next, Some(self.tick_at));
        }
        earliest(next, self.hooks.next_end())
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
        if now < self.scrape_at {
            return;
        }
        self.scrape_at = now.saturating_add(self.scrape_every).unwrap_or(Timestamp::MAX);
        let pages = traffic.pages(&pods);
        let mut db = self.db.write().unwrap_or_else(PoisonError::into_inner);
        self.scraper.store(&mut db, &pages, now.as_millisecond());
    }

    fn wake(&mut self) {
        let now = self.clock.now();
        self.hooks.pass(now);
        for brain in &mut self.brains {
            brain.wake(now);
        }
    }

    /// Each controller takes in what has changed and looks at one object.
    async fn act(&mut self) {
        let now = self.clock.now();
        for brain in &mut self.brains {
            brain.observe(&self.server);
            let Some(outcome) = brain.reconcile_one().await else { continue };
            self.violations.extend(outcome.violations.into_iter().map(|v| (now, v)));
            if let Some(error) = outcome.error {
                self.transcript.say(now, "error", error.to_string());
            }
        }
    }

    fn record(&mut self) {
        for news in self.hooks.news() {
            self.transcript.say(self.clock.now(), "hook", news);
        }
        self.transcript.follow(&self.server);
    }
}

/// A server with what every cluster has, as it is at `start`. It is kept for the next cluster that begins
/// then: storing the definitions costs more than many a run.
fn furnished(start: Timestamp) -> Refusable<ApiServer> {
    static LAST: Mutex<Option<(Timestamp, ApiServer)>> = Mutex::new(None);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((at, server)) = last.as_ref()
        && *at == start
    {
        return Ok(server.clone());
    }
    let server = plugins::api_server(Arc::new(SimClock::at(start)));
    for object in base_objects() {
        server.create("admin", object)?;
    }
    *last = Some((start, server.clone()));
    Ok(server)
}

/// What every cluster has: our resources, the Gateway API and a Gateway. Made once in a process:
/// reading them costs more than a cluster does.
pub(in crate::sim) fn base_objects() -> Vec<Value> {
    static OBJECTS: OnceLock<Vec<Value>> = OnceLock::new();
    OBJECTS.get_or_init(make_base_objects).clone()
}

/// The policies that say what lint says: for a cluster that somebody talks to. In virtual time nobody
/// listens.
pub(in crate::sim) fn lint_objects() -> Vec<Value> {
    documents(&LINT)
}

/// The documents of some files, each a policy or its binding.
fn documents(files: &[&str]) -> Vec<Value> {
    let parts = files.iter().flat_map(|text| text.split("\n---"));
    let read = parts.filter_map(|part| serde_saphyr::from_str::<Value>(part).ok());
    read.filter(Value::is_object).collect()
}

fn make_base_objects() -> Vec<Value> {
    let mut out = crds::shipped().to_vec();
    out.extend(gateway::definitions());
    out.extend(documents(&POLICIES));
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
