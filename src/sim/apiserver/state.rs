//! What the server remembers: objects, the last changes, counters. Every method runs under the
//! server's lock, so there is no concurrency in here.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use serde_json::{Value, json};

use super::{
    ResourceKey,
    fields::{meta, meta_mut, text},
    kinds::{Kind, Kinds},
    view,
};

/// Changes that are kept for watches; older ones are answered with 410 Gone.
pub const HISTORY: usize = 20_000;

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It was created.
    Added,
    /// It was changed.
    Modified,
    /// It is gone.
    Deleted,
}

/// One change of one object.
#[derive(Debug, Clone)]
pub struct Change {
    /// The cluster-wide resourceVersion of this change.
    pub rv: u64,
    /// What happened.
    pub kind: ChangeKind,
    /// The resource, in its stored version.
    pub resource: ResourceKey,
    /// The object after the change; for a deletion its last state.
    pub object: Arc<Value>,
    /// The object before the change, so that a watch with a selector can tell what left it.
    pub previous: Option<Arc<Value>>,
}

type Collection = BTreeMap<(String, String), Arc<Value>>;

/// The whole state of a server.
#[derive(Clone)]
pub struct State {
    pub(super) kinds: Kinds,
    collections: BTreeMap<(String, String), Collection>,
    history: VecDeque<Change>,
    /// Changes up to this one are no longer in the history.
    compacted: u64,
    pub(super) rv: u64,
    ids: u64,
    addresses: u64,
    /// Where the objects that name an owner are, by the owner's uid.
    owned: BTreeMap<String, BTreeSet<Place>>,
    uids: BTreeSet<String>,
}

/// Store (group and plural), namespace, name.
type Place = ((String, String), (String, String));

impl State {
    pub(super) fn new() -> Self {
        Self {
            kinds: Kinds::built_in(),
            collections: BTreeMap::new(),
            history: VecDeque::new(),
            compacted: 0,
            rv: 0,
            ids: 0,
            addresses: 0,
            owned: BTreeMap::new(),
            uids: BTreeSet::new(),
        }
    }

    /// A uid that no other object of this server has; the same in every run.
    pub(super) fn next_uid(&mut self) -> String {
        self.ids += 1;
        let mixed = mix(self.ids);
        format!("{:08x}-{:04x}-4000-8000-{:012x}", mixed >> 32, mixed & 0xffff, self.ids)
    }

    /// Five letters for `generateName`, from the alphabet that Kubernetes uses.
    pub(super) fn next_suffix(&mut self) -> String {
        const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
        self.ids += 1;
        let mut bits = mix(self.ids);
        let mut letter = || {
            let index = usize::try_from(bits % 27).unwrap_or_default();
            bits /= 27;
            ALPHABET.get(index).copied().map_or('b', char::from)
        };
        (0..5).map(|_| letter()).collect()
    }

    /// A number for a cluster IP.
    pub(super) fn next_address(&mut self) -> u64 {
        self.addresses += 1;
        self.addresses
    }

    /// True if an object of that uid is stored.
    pub(super) fn has_uid(&self, uid: &str) -> bool {
        self.uids.contains(uid)
    }

    /// The objects that name an owner.
    pub(super) fn owned_by(&self, uid: &str) -> Vec<(Arc<Kind>, Arc<Value>)> {
        let places = self.owned.get(uid).into_iter().flatten();
        places
            .filter_map(|(store, key)| {
                let object = self.collections.get(store)?.get(key)?;
                Some((self.kinds.of_store(store)?.clone(), object.clone()))
            })
            .collect()
    }

    /// Everything in a namespace.
    pub(super) fn in_namespace(&self, namespace: &str) -> Vec<(Arc<Kind>, Arc<Value>)> {
        let stores: Vec<(String, String)> = self.collections.keys().cloned().collect();
        let all = stores.iter().filter_map(|store| self.kinds.of_store(store));
        all.filter(|kind| kind.namespaced)
            .flat_map(|kind| {
                let objects = self.stored_all(kind, Some(namespace));
                objects.map(|object| (kind.clone(), object.clone())).collect::<Vec<_>>()
            })
            .collect()
    }

    /// Everything that is stored under a group and plural.
    pub(super) fn of_store(&self, group: &str, plural: &str) -> Vec<(Arc<Kind>, Arc<Value>)> {
        let store = (group.to_owned(), plural.to_owned());
        let Some(kind) = self.kinds.of_store(&store) else { return Vec::new() };
        let objects = self.stored_all(kind, None);
        objects.map(|object| (kind.clone(), object.clone())).collect()
    }

    fn index(&mut self, place: &Place, previous: Option<&Value>, object: Option<&Value>) {
        if let (Some(before), Some(after)) = (previous, object)
            && ["uid", "ownerReferences"]
                .into_iter()
                .all(|name| before["metadata"][name] == after["metadata"][name])
        {
            return;
        }
        let owners = |object: &Value| -> Vec<String> {
            let references = object["metadata"]["ownerReferences"].as_array();
            references.into_iter().flatten().map(|r| text(&r["uid"]).to_owned()).collect()
        };
        if let Some(previous) = previous {
            self.uids.remove(meta(previous, "uid"));
            for uid in owners(previous) {
                if let Some(places) = self.owned.get_mut(&uid) {
                    places.remove(place);
                    if places.is_empty() {
                        self.owned.remove(&uid);
                    }
                }
            }
        }
        if let Some(object) = object {
            self.uids.insert(meta(object, "uid").to_owned());
            for uid in owners(object) {
                self.owned.entry(uid).or_default().insert(place.clone());
            }
        }
    }

    /// The stored object, in its stored version.
    pub(super) fn stored(&self, kind: &Kind, namespace: &str, name: &str) -> Option<&Arc<Value>> {
        let key = (namespace.to_owned(), name.to_owned());
        self.collections.get(&kind.store)?.get(&key)
    }

    /// All stored objects of a kind, in one namespace or in all.
    pub(super) fn stored_all<'a>(
        &'a self,
        kind: &Kind,
        namespace: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Arc<Value>> {
        let collection = self.collections.get(&kind.store);
        let from = (namespace.unwrap_or_default().to_owned(), String::new());
        collection
            .into_iter()
            .flat_map(move |c| c.range(from.clone()..))
            .take_while(move |((ns, _), _)| namespace.is_none_or(|wanted| wanted == ns))
            .map(|(_, object)| object)
    }

    pub(super) fn get(&self, key: &ResourceKey, ns: &str, name: &str) -> Option<Arc<Value>> {
        let kind = self.kinds.get(key)?;
        self.stored(kind, ns, name).map(|object| view::of(kind, object))
    }

    pub(super) fn list(&self, key: &ResourceKey, namespace: Option<&str>) -> Vec<Arc<Value>> {
        let Some(kind) = self.kinds.get(key) else { return Vec::new() };
        self.stored_all(kind, namespace).map(|object| view::of(kind, object)).collect()
    }

    /// Stores an object (in its stored version) under a new resourceVersion.
    pub(super) fn put(&mut self, kind: &Kind, mut object: Value) -> Arc<Value> {
        self.rv += 1;
        meta_mut(&mut object).insert("resourceVersion".into(), json!(self.rv.to_string()));
        let object = Arc::new(object);
        let key = (meta(&object, "namespace").to_owned(), meta(&object, "name").to_owned());
        let collection = self.collections.entry(kind.store.clone()).or_default();
        let previous = collection.insert(key.clone(), object.clone());
        let place = (kind.store.clone(), key);
        self.index(&place, previous.as_deref(), Some(&object));
        if kind.is("apiextensions.k8s.io", "customresourcedefinitions") {
            self.kinds.define(&object);
        }
        let what = if previous.is_some() { ChangeKind::Modified } else { ChangeKind::Added };
        self.record(kind, what, object.clone(), previous);
        object
    }

    /// Removes an object; the last state that watches see carries a new resourceVersion.
    pub(super) fn remove(&mut self, kind: &Kind, ns: &str, name: &str) -> Option<Arc<Value>> {
        let key = (ns.to_owned(), name.to_owned());
        let previous = self.collections.get_mut(&kind.store)?.remove(&key)?;
        let place = (kind.store.clone(), key);
        self.index(&place, Some(&previous), None);
        if kind.is("apiextensions.k8s.io", "customresourcedefinitions") {
            self.kinds.forget(&previous);
        }
        self.rv += 1;
        let mut last = Value::clone(&previous);
        meta_mut(&mut last).insert("resourceVersion".into(), json!(self.rv.to_string()));
        let last = Arc::new(last);
        self.record(kind, ChangeKind::Deleted, last.clone(), Some(previous));
        Some(last)
    }

    fn record(
        &mut self,
        kind: &Kind,
        what: ChangeKind,
        object: Arc<Value>,
        previous: Option<Arc<Value>>,
    ) {
        let resource = kind.stored.clone();
        self.history.push_back(Change { rv: self.rv, kind: what, resource, object, previous });
        while self.history.len() > HISTORY {
            self.compacted = self.history.pop_front().map_or(self.compacted, |change| change.rv);
        }
    }

    /// The changes after `rv`; `None` when some of them are no longer remembered.
    pub(super) fn since(&self, rv: u64) -> Option<impl Iterator<Item = &Change>> {
        // Who is up to date asks most often.
        let from = match rv >= self.rv {
            true => self.history.len(),
            false => self.history.partition_point(|change| change.rv <= rv),
        };
        (rv >= self.compacted).then(|| self.history.range(from..))
    }

    /// The oldest version from which a watch may start.
    pub(super) fn oldest(&self) -> u64 {
        self.compacted
    }

    /// Forgets all changes, as compaction does.
    pub(super) fn compact(&mut self) {
        self.history.clear();
        self.compacted = self.rv;
    }

    /// Every object as an addition: what `since` falls back to after a compaction.
    pub(super) fn everything(&self) -> Vec<Change> {
        let kinds: BTreeMap<&(String, String), &Arc<Kind>> =
            self.kinds.iter().map(|kind| (&kind.store, kind)).collect();
        let all = self.collections.iter().flat_map(|(store, collection)| {
            let version = kinds.get(store).map(|kind| kind.storage_version.as_str());
            let version = version.and_then(|v| v.rsplit('/').next()).unwrap_or("v1");
            let resource = ResourceKey::new(&store.0, version, &store.1);
            collection.values().map(move |object| Change {
                rv: meta(object, "resourceVersion").parse().unwrap_or_default(),
                kind: ChangeKind::Added,
                resource: resource.clone(),
                object: object.clone(),
                previous: None,
            })
        });
        let mut all: Vec<Change> = all.collect();
        all.sort_by_key(|change| change.rv);
        all
    }
}

/// SplitMix64: spreads consecutive counters over all bits.
fn mix(counter: u64) -> u64 {
    let mut z = counter.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
