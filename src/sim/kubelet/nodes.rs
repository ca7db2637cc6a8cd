//! The nodes of the in-memory cluster: a scheduler and kubelets, one pass at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Behaviour, Behaviours, Place, PodWrite, next, node};
use crate::sim::alarms::Alarms;
use crate::sim::apiserver::{ApiServer, Call, Change, ChangeKind, Refusable, ResourceKey, Verb};
use crate::sim::controllers::Controllers;
use crate::sim::controllers::object::{self, text};

/// The account that kubelets and the scheduler write as.
const USER: &str = "system:nodes";

/// So many writes follow at once on one pod; more would mean that it never rests.
const MOST_WRITES: usize = 8;

/// So many rounds of controllers and nodes without rest are taken for a fight.
const MOST_ROUNDS: usize = 10_000;

type Key = (String, String);

/// Gives a pod its address; asked once for each pod.
pub type Addresses = Box<dyn FnMut(&Value) -> IpAddr + Send>;

/// All nodes of one API server.
pub struct Nodes {
    server: ApiServer,
    behaviours: Behaviours,
    addresses: Addresses,
    /// How many pods each node has.
    load: BTreeMap<String, usize>,
    pods: BTreeMap<Key, Arc<Value>>,
    seen: u64,
    dirty: BTreeSet<Key>,
    wakes: Alarms<Key>,
}

impl Nodes {
    /// Nodes `node-1` to `node-COUNT`, created on the server if they are not there.
    #[must_use]
    pub fn new(server: ApiServer, count: usize, behaviours: Behaviours) -> Self {
        let names: Vec<String> = (1..=count).map(|number| format!("node-{number}")).collect();
        for name in &names {
            let _there_already = server.create(USER, node(name, server.now()));
        }
        Self {
            server,
            behaviours,
            addresses: Box::new(counting_addresses()),
            load: names.into_iter().map(|name| (name, 0)).collect(),
            pods: BTreeMap::new(),
            seen: 0,
            dirty: BTreeSet::new(),
            wakes: Alarms::default(),
        }
    }

    /// Takes the pods' addresses from here, so that somebody can listen on them.
    #[must_use]
    pub fn with_addresses(mut self, addresses: Addresses) -> Self {
        self.addresses = addresses;
        self
    }

    /// Changes the behaviour of an image, also in the pods that run it.
    pub fn set_behaviour(&mut self, image: &str, behaviour: Behaviour) {
        self.behaviours.set(image, behaviour);
        self.dirty.extend(self.pods.keys().cloned());
    }

    /// One pass over the pods that changed or are due. True if anything was written.
    pub fn run_once(&mut self) -> bool {
        self.observe();
        let now = self.server.now();
        self.dirty.extend(self.wakes.take_due(now));
        let mut has_written = false;
        for key in std::mem::take(&mut self.dirty) {
            self.wakes.clear(&key);
            has_written |= self.run_pod(&key, now);
        }
        has_written
    }

    /// When to run again though nothing changed.
    #[must_use]
    pub fn next_wake(&self) -> Option<Timestamp> {
        self.wakes.earliest()
    }

    fn observe(&mut self) {
        let changes = self.server.changes_since(self.seen);
        let Some(first) = changes.first() else { return };
        if first.rv != self.seen + 1 {
            self.pods.clear();
            self.load.values_mut().for_each(|count| *count = 0);
        }
        for change in &changes {
            self.seen = self.seen.max(change.rv);
            if change.resource == ResourceKey::PODS {
                self.take(change);
            }
        }
    }

    fn take(&mut self, change: &Change) {
        let pod = &change.object;
        let key = (object::namespace(pod).to_owned(), object::name(pod).to_owned());
        let before = match change.kind {
            ChangeKind::Deleted => self.pods.remove(&key),
            ChangeKind::Added | ChangeKind::Modified => {
                self.pods.insert(key.clone(), Arc::clone(pod))
            }
        };
        if let Some(count) = before.and_then(|pod| self.load.get_mut(node_of(&pod))) {
            *count = count.saturating_sub(1);
        }
        if change.kind == ChangeKind::Deleted {
            self.wakes.clear(&key);
            return;
        }
        if let Some(count) = self.load.get_mut(node_of(pod)) {
            *count += 1;
        }
        self.dirty.insert(key);
    }

    fn run_pod(&mut self, key: &Key, now: Timestamp) -> bool {
        let mut has_written = false;
        for _ in 0..MOST_WRITES {
            let Some(pod) = self.pods.get(key).cloned() else { break };
            let node = self.load.iter().min_by_key(|(_, count)| **count);
            let Some(node) = node.map(|(name, _)| name.clone()) else { break };
            let is_new = text(&pod, &["status", "podIP"]).is_empty();
            let is_bound = !node_of(&pod).is_empty();
            let address = match is_new && is_bound && !object::is_deleting(&pod) {
                true => (self.addresses)(&pod),
                false => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            };
            let place = Place { node: &node, address, behaviours: &self.behaviours };
            let next = next(&pod, &place, now);
            let Some(write) = next.write else {
                if let Some(wake) = next.wake {
                    self.wakes.set(key, wake);
                }
                break;
            };
            if self.write(&pod, &node, write).is_err() {
                self.wakes.set(key, now);
                break;
            }
            has_written = true;
            self.observe();
        }
        self.dirty.remove(key);
        has_written
    }

    fn write(&self, pod: &Value, node: &str, write: PodWrite) -> Refusable<()> {
        let call = |verb| {
            Call::new(USER, verb, &ResourceKey::PODS)
                .namespace(object::namespace(pod))
                .name(object::name(pod))
        };
        let call = match write {
            PodWrite::Bind => call(Verb::Create)
                .subresource("binding")
                .body(json!({ "target": { "kind": "Node", "name": node } })),
            PodWrite::Status(status) => {
                let mut changed = pod.clone();
                object::set(&mut changed, &["status"], status);
                call(Verb::Update).subresource("status").body(changed)
            }
            PodWrite::Delete => call(Verb::Delete).body(json!({
                "gracePeriodSeconds": 0,
                "preconditions": { "uid": object::uid(pod) },
            })),
        };
        self.server.handle(call).map(|_| ())
    }
}

fn node_of(pod: &Value) -> &str {
    text(pod, &["spec", "nodeName"])
}

/// Addresses from 10.128.0.0/9, one after the other.
pub(super) fn counting_addresses() -> impl FnMut(&Value) -> IpAddr + Send {
    let mut count = 0_u32;
    move |_| {
        count += 1;
        IpAddr::V4(Ipv4Addr::from(0x0a80_0000 | (count & 0x007f_ffff)))
    }
}

/// Runs controllers and nodes in turn until neither writes any more; false if that did not come to
/// an end. Time does not pass meanwhile.
pub fn settle(controllers: &mut Controllers, nodes: &mut Nodes) -> bool {
    (0..MOST_ROUNDS).any(|_| {
        let has_written = controllers.run_once();
        !nodes.run_once() && !has_written
    })
}
