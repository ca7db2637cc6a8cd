//! The controllers' cache of the API server: the objects they decide on, and who owns what.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::endpoints::SERVICE_NAME;
use super::object::{self, text};
use crate::sim::apiserver::{Change, ChangeKind};

/// The kinds that are followed, in the order in which they are synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Deployment,
    ReplicaSet,
    Service,
    Pod,
    Slice,
}

impl Kind {
    fn of(change: &Change) -> Option<Self> {
        match (change.resource.group.as_ref(), change.resource.plural.as_ref()) {
            ("apps", "deployments") => Some(Self::Deployment),
            ("apps", "replicasets") => Some(Self::ReplicaSet),
            ("", "services") => Some(Self::Service),
            ("", "pods") => Some(Self::Pod),
            ("discovery.k8s.io", "endpointslices") => Some(Self::Slice),
            _ => None,
        }
    }
}

/// One object's place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) kind: Kind,
    pub(super) namespace: String,
    pub(super) name: String,
}

impl Key {
    pub(super) fn new(kind: Kind, namespace: &str, name: &str) -> Self {
        Self { kind, namespace: namespace.to_owned(), name: name.to_owned() }
    }

    fn of(kind: Kind, object: &Value) -> Self {
        Self::new(kind, object::namespace(object), object::name(object))
    }
}

/// A kind, a namespace, and in it a label or an owner's uid.
type Place = (Kind, String, String);

/// The cache.
#[derive(Debug, Default)]
pub(super) struct Store {
    objects: BTreeMap<Key, Arc<Value>>,
    /// By the uid of the controlling owner; empty for those without one.
    owned: BTreeMap<Place, BTreeSet<String>>,
    /// Pods and slices by each label, Services by one pair of their selector.
    labelled: BTreeMap<Place, BTreeSet<String>>,
}

impl Store {
    pub(super) fn get(&self, key: &Key) -> Option<&Arc<Value>> {
        self.objects.get(key)
    }

    /// Takes a change in; returns the keys of all whose decisions it may touch.
    pub(super) fn take(&mut self, change: &Change) -> Vec<Key> {
        let Some(kind) = Kind::of(change) else { return Vec::new() };
        let key = Key::of(kind, &change.object);
        let now = (change.kind != ChangeKind::Deleted).then_some(&change.object);
        let before = match now {
            Some(object) => self.objects.insert(key.clone(), Arc::clone(object)),
            None => self.objects.remove(&key),
        };
        let before = before.as_ref();
        self.index(kind, before, now);
        let mut touched = Vec::new();
        for object in [before, now].into_iter().flatten() {
            self.touched(kind, &key, object, &mut touched);
        }
        if kind == Kind::Pod && !is_same_endpoint(before, now) {
            for object in [before, now].into_iter().flatten() {
                touched.extend(self.services_of(object));
            }
        }
        touched
    }

    fn touched(&self, kind: Kind, key: &Key, object: &Value, touched: &mut Vec<Key>) {
        let owner = match kind {
            Kind::Deployment | Kind::Service => return touched.push(key.clone()),
            Kind::ReplicaSet => {
                touched.push(key.clone());
                Kind::Deployment
            }
            Kind::Pod => Kind::ReplicaSet,
            Kind::Slice => {
                let service = text(object, &["metadata", "labels", SERVICE_NAME]);
                return touched.push(Key::new(Kind::Service, &key.namespace, service));
            }
        };
        match object::controller_of(object) {
            Some(reference) => {
                touched.push(Key::new(owner, &key.namespace, text(reference, &["name"])));
            }
            None => touched.extend(self.adopters(owner, object)),
        }
    }

    /// Those that could adopt an object without an owner.
    fn adopters(&self, kind: Kind, object: &Value) -> Vec<Key> {
        let namespace = object::namespace(object);
        let labels = &object["metadata"]["labels"];
        let first = Key::new(kind, namespace, "");
        self.objects
            .range(first..)
            .take_while(|(key, _)| key.kind == kind && key.namespace == namespace)
            .filter(|(_, owner)| object::selects(&owner["spec"]["selector"], labels))
            .map(|(key, _)| key.clone())
            .collect()
    }

    fn index(&mut self, kind: Kind, before: Option<&Arc<Value>>, now: Option<&Arc<Value>>) {
        let owner = |object: &Value| {
            let owner = object::controller_of(object).map_or("", |own| text(own, &["uid"]));
            vec![owner.to_owned()]
        };
        let pairs = |object: &Value| match kind {
            Kind::Service => pairs(&object["spec"]["selector"]).take(1).collect(),
            _ => pairs(&object["metadata"]["labels"]).collect(),
        };
        if matches!(kind, Kind::ReplicaSet | Kind::Pod) {
            reindex(&mut self.owned, kind, before, now, owner);
        }
        if matches!(kind, Kind::Service | Kind::Pod | Kind::Slice) {
            reindex(&mut self.labelled, kind, before, now, pairs);
        }
    }

    fn found(&self, index: &BTreeMap<Place, BTreeSet<String>>, place: &Place) -> Vec<Arc<Value>> {
        let names = index.get(place).into_iter().flatten();
        let key = |name: &String| Key::new(place.0, &place.1, name);
        names.filter_map(|name| self.objects.get(&key(name))).cloned().collect()
    }

    /// What the owner controls, by name.
    pub(super) fn owned(&self, kind: Kind, namespace: &str, uid: &str) -> Vec<Arc<Value>> {
        self.found(&self.owned, &(kind, namespace.to_owned(), uid.to_owned()))
    }

    /// What the owner controls and what nobody does.
    pub(super) fn candidates(&self, kind: Kind, owner: &Value) -> Vec<Arc<Value>> {
        let namespace = object::namespace(owner);
        let mut all = self.owned(kind, namespace, object::uid(owner));
        all.extend(self.owned(kind, namespace, ""));
        all
    }

    /// The pods that a Service's selector matches, by name.
    pub(super) fn selected(&self, service: &Value) -> Vec<Arc<Value>> {
        let Some(selector) = service["spec"]["selector"].as_object() else { return Vec::new() };
        let namespace = object::namespace(service);
        let places = pairs(&service["spec"]["selector"])
            .map(|pair| (Kind::Pod, namespace.to_owned(), pair))
            .min_by_key(|place| self.labelled.get(place).map_or(0, BTreeSet::len));
        let Some(place) = places else { return Vec::new() };
        let mut pods = self.found(&self.labelled, &place);
        pods.retain(|pod| object::contains(&pod["metadata"]["labels"], selector));
        pods
    }

    /// The slices of a Service.
    pub(super) fn slices(&self, service: &Value) -> Vec<Arc<Value>> {
        let pair = format!("{SERVICE_NAME}={}", object::name(service));
        self.found(&self.labelled, &(Kind::Slice, object::namespace(service).to_owned(), pair))
    }

    fn services_of(&self, pod: &Value) -> Vec<Key> {
        let labels = &pod["metadata"]["labels"];
        let namespace = object::namespace(pod);
        let candidates = pairs(labels).flat_map(|pair| {
            let place = (Kind::Service, namespace.to_owned(), pair);
            self.labelled.get(&place).into_iter().flatten()
        });
        candidates
            .map(|name| Key::new(Kind::Service, namespace, name))
            .filter(|key| {
                let service = self.objects.get(key);
                let selector = service.and_then(|own| own["spec"]["selector"].as_object());
                selector.is_some_and(|selector| object::contains(labels, selector))
            })
            .collect()
    }
}

/// The pairs of a map of texts, as `key=value`.
fn pairs(map: &Value) -> impl Iterator<Item = String> {
    let all = map.as_object().into_iter().flatten();
    all.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
}

fn reindex(
    index: &mut BTreeMap<Place, BTreeSet<String>>,
    kind: Kind,
    before: Option<&Arc<Value>>,
    now: Option<&Arc<Value>>,
    terms: impl Fn(&Value) -> Vec<String>,
) {
    let own = |object: Option<&Arc<Value>>| object.map(|own| terms(own)).unwrap_or_default();
    let (old, new) = (own(before), own(now));
    if old == new {
        return;
    }
    let Some(any) = now.or(before) else { return };
    let (namespace, name) = (object::namespace(any), object::name(any));
    for term in old {
        let place = (kind, namespace.to_owned(), term);
        if let Some(names) = index.get_mut(&place) {
            names.remove(name);
            if names.is_empty() {
                index.remove(&place);
            }
        }
    }
    for term in new {
        let names = index.entry((kind, namespace.to_owned(), term)).or_default();
        names.insert(name.to_owned());
    }
}

/// Whether the two states of a pod make the same endpoint.
fn is_same_endpoint(before: Option<&Arc<Value>>, now: Option<&Arc<Value>>) -> bool {
    let facts = |pod: &Value| {
        let phase = text(pod, &["status", "phase"]);
        let has_ended = matches!(phase, "Succeeded" | "Failed");
        let is_ready = super::replicaset::is_ready(pod);
        (is_ready, object::is_deleting(pod), has_ended)
    };
    match (before, now) {
        (Some(before), Some(now)) => {
            facts(before) == facts(now)
                && before["status"]["podIP"] == now["status"]["podIP"]
                && before["metadata"]["labels"] == now["metadata"]["labels"]
        }
        (Some(pod), None) | (None, Some(pod)) => text(pod, &["status", "podIP"]).is_empty(),
        (None, None) => true,
    }
}
