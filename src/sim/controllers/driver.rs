//! The driver: follows the API server, syncs what changed, writes what was decided.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::object::{self, Outcome, Write, stamp, text};
use super::replicaset::Surroundings;
use super::store::{Key, Kind, Store};
use super::{deployment, endpoints, replicaset};
use crate::sim::alarms::Alarms;
use crate::sim::apiserver::{ApiServer, Call, Refusable, ResourceKey, Verb};

/// The account that the controllers write as.
const USER: &str = "system:kube-controller-manager";

/// So often a Deployment is synced in one pass before its ReplicaSets get their turn: it reads its
/// own writes sooner than the pods follow.
const DEPLOYMENT_ROUNDS: usize = 16;

/// So many passes without rest are taken for two controllers that fight.
const MOST_PASSES: usize = 10_000;

/// The first delay after a refused write, doubled with each one up to the last.
const FIRST_RETRY: SignedDuration = SignedDuration::from_millis(5);
const MOST_DOUBLINGS: u32 = 17;

/// All controllers of one API server.
pub struct Controllers {
    server: ApiServer,
    store: Store,
    seen: u64,
    /// Changes that are our own last word on an object: no reason to sync it again.
    own: BTreeMap<u64, Key>,
    dirty: BTreeSet<Key>,
    wakes: Alarms<Key>,
    refusals: BTreeMap<Key, u32>,
    has_events: bool,
    events: u64,
}

impl Controllers {
    /// Controllers that have seen nothing yet.
    #[must_use]
    pub fn new(server: ApiServer) -> Self {
        Self {
            server,
            store: Store::default(),
            seen: 0,
            own: BTreeMap::new(),
            dirty: BTreeSet::new(),
            wakes: Alarms::default(),
            refusals: BTreeMap::new(),
            has_events: true,
            events: 0,
        }
    }

    /// Writes no Events: for long simulations that nobody reads them in.
    #[must_use]
    pub fn without_events(mut self) -> Self {
        self.has_events = false;
        self
    }

    /// One pass: what changed or is due is synced, Deployments first and until they rest, then
    /// each ReplicaSet and each Service once. True if anything was written.
    pub fn run_once(&mut self) -> bool {
        self.observe();
        self.wake_due();
        let mut has_written = false;
        for (kind, rounds) in
            [(Kind::Deployment, DEPLOYMENT_ROUNDS), (Kind::ReplicaSet, 1), (Kind::Service, 1)]
        {
            for _ in 0..rounds {
                let keys = self.take_dirty(kind);
                if keys.is_empty() {
                    break;
                }
                for key in keys {
                    has_written |= self.sync(&key);
                }
                self.observe();
            }
        }
        has_written || !self.dirty.is_empty()
    }

    /// Passes until nothing is written any more; false if that did not come to an end.
    pub fn settle(&mut self) -> bool {
        (0..MOST_PASSES).any(|_| !self.run_once())
    }

    /// When to run again though nothing changed: a pod becomes available, a deadline passes, a
    /// refused write is tried again.
    #[must_use]
    pub fn next_wake(&self) -> Option<Timestamp> {
        self.wakes.earliest()
    }

    fn observe(&mut self) {
        let changes = self.server.changes_since(self.seen);
        let Some(first) = changes.first() else { return };
        if first.rv != self.seen + 1 {
            self.store = Store::default();
        }
        for change in &changes {
            let own = self.own.remove(&change.rv);
            let touched = self.store.take(change).into_iter();
            self.dirty.extend(touched.filter(|key| Some(key) != own.as_ref()));
            self.seen = self.seen.max(change.rv);
        }
        self.own.clear();
    }

    fn wake_due(&mut self) {
        let now = self.server.now();
        self.dirty.extend(self.wakes.take_due(now));
    }

    fn take_dirty(&mut self, kind: Kind) -> Vec<Key> {
        let keys: Vec<Key> = self.dirty.iter().filter(|key| key.kind == kind).cloned().collect();
        self.dirty.retain(|key| key.kind != kind);
        keys
    }

    /// One sync of one object; true if anything was written.
    fn sync(&mut self, key: &Key) -> bool {
        self.wakes.clear(key);
        let Some(object) = self.store.get(key).cloned() else {
            self.refusals.remove(key);
            return false;
        };
        let outcome = self.decide(key.kind, &object);
        if let Some(wake) = outcome.wake {
            self.wakes.set(key, wake);
        }
        if outcome.again {
            self.dirty.insert(key.clone());
        }
        let has_written = !outcome.writes.is_empty();
        match self.write(key, outcome.writes) {
            Ok(()) => {
                self.refusals.remove(key);
            }
            Err(refusal) => {
                if refusal.is_exists && key.kind == Kind::Deployment {
                    self.count_collision(&object);
                }
                self.retry(key);
            }
        }
        has_written
    }

    fn decide(&self, kind: Kind, object: &Arc<Value>) -> Outcome {
        let now = self.server.now();
        let namespace = object::namespace(object);
        match kind {
            Kind::Deployment => {
                let sets = self.store.candidates(Kind::ReplicaSet, object);
                let has_pods = |uid: &str| {
                    let pods = self.store.owned(Kind::Pod, namespace, uid);
                    pods.iter().any(|pod| !replicaset::has_ended(pod))
                };
                deployment::sync(object, &sets, &has_pods, now)
            }
            Kind::ReplicaSet => {
                let pods = self.store.candidates(Kind::Pod, object);
                let siblings = || self.siblings(object);
                replicaset::sync(object, &pods, &Surroundings { siblings: &siblings, now })
            }
            Kind::Service => {
                let (pods, slices) = (self.store.selected(object), self.store.slices(object));
                endpoints::sync(object, &pods, &slices)
            }
            Kind::Pod | Kind::Slice => Outcome::default(),
        }
    }

    fn siblings(&self, set: &Value) -> Vec<Arc<Value>> {
        let namespace = object::namespace(set);
        let owner = object::controller_of(set).map_or("", |owner| text(owner, &["uid"]));
        let sets = match owner {
            "" => vec![Arc::new(set.clone())],
            uid => self.store.owned(Kind::ReplicaSet, namespace, uid),
        };
        let pods = |set: &Arc<Value>| self.store.owned(Kind::Pod, namespace, object::uid(set));
        sets.iter().flat_map(pods).collect()
    }

    /// Performs the writes in order, up to the first that is refused.
    fn write(&mut self, key: &Key, writes: Vec<Write>) -> Result<(), Refusal> {
        let mut latest = BTreeMap::new();
        for write in writes {
            let is_last_word = match key.kind {
                Kind::ReplicaSet => matches!(write, Write::UpdateStatus(_)),
                kind => kind == Kind::Service,
            };
            let written = match write {
                Write::Create(object) => {
                    self.server.send(USER, Verb::Create, None, object).map(Some)
                }
                Write::Update(object) => {
                    let object = build_on(&latest, object);
                    self.server.send(USER, Verb::Update, None, object).map(Some)
                }
                Write::UpdateStatus(object) => {
                    let object = build_on(&latest, object);
                    self.server.send(USER, Verb::Update, Some("status"), object).map(Some)
                }
                Write::Delete(object) => self.delete(&object).map(|()| None),
                Write::Event { about, warning, reason, message } => {
                    self.tell(&about, warning, reason, &message);
                    Ok(None)
                }
            };
            let written = written
                .map_err(|status| Refusal { is_exists: status.reason == "AlreadyExists" })?;
            if let Some(written) = written {
                let version = written["metadata"]["resourceVersion"].clone();
                let number = version.as_str().and_then(|version| version.parse().ok());
                if let Some(number) = number.filter(|_| is_last_word) {
                    self.own.insert(number, key.clone());
                }
                latest.insert(object::uid(&written).to_owned(), version);
            }
        }
        Ok(())
    }

    fn delete(&self, object: &Value) -> Refusable<()> {
        let (version, kind) = (text(object, &["apiVersion"]), text(object, &["kind"]));
        let Some(resource) = self.server.resource_of(version, kind) else { return Ok(()) };
        let call = Call::new(USER, Verb::Delete, &resource)
            .namespace(object::namespace(object))
            .name(object::name(object))
            .body(json!({ "preconditions": { "uid": object::uid(object) } }));
        match self.server.handle(call) {
            Err(status) if !status.is_not_found() => Err(status),
            _ => Ok(()),
        }
    }

    /// An Event that is refused is lost.
    fn tell(&mut self, about: &Value, warning: bool, reason: &str, message: &str) {
        if !self.has_events {
            return;
        }
        self.events += 1;
        let now = stamp(self.server.now());
        let event = json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": format!("{}.{:016x}", object::name(about), self.events),
                "namespace": object::namespace(about),
            },
            "involvedObject": {
                "apiVersion": text(about, &["apiVersion"]),
                "kind": text(about, &["kind"]),
                "namespace": object::namespace(about),
                "name": object::name(about),
                "uid": object::uid(about),
            },
            "type": if warning { "Warning" } else { "Normal" },
            "reason": reason,
            "message": message,
            "source": { "component": "deployment-controller" },
            "count": 1,
            "firstTimestamp": now,
            "lastTimestamp": now,
        });
        let _lost = self.server.create(USER, event);
    }

    /// A foreign ReplicaSet has the name: the next hash is salted with one more collision.
    fn count_collision(&self, deployment: &Value) {
        let count = object::count(deployment, &["status", "collisionCount"]) + 1;
        let (namespace, name) = (object::namespace(deployment), object::name(deployment));
        let patch = json!({ "status": { "collisionCount": count } });
        let resource = ResourceKey::DEPLOYMENTS;
        let _retried = self.server.patch_status(USER, &resource, namespace, name, patch);
    }

    fn retry(&mut self, key: &Key) {
        let count = self.refusals.entry(key.clone()).or_default();
        let delay = FIRST_RETRY * 2_i32.pow((*count).min(MOST_DOUBLINGS));
        *count += 1;
        if let Ok(at) = self.server.now().checked_add(delay) {
            self.wakes.set(key, at);
        }
    }
}

struct Refusal {
    is_exists: bool,
}

/// The object with the resourceVersion that an earlier write of the same sync left.
fn build_on(latest: &BTreeMap<String, Value>, object: Arc<Value>) -> Value {
    let mut object = Arc::unwrap_or_clone(object);
    if let Some(version) = latest.get(object::uid(&object)) {
        object::set(&mut object, &["metadata", "resourceVersion"], version.clone());
    }
    object
}
