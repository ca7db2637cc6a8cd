//! The index of everything that was seen.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::objects::{
    DeploymentObject, GatePolicy, Kind, Object, ReplicaSetObject, pod_view, ready_endpoints,
};
use crate::api::{
    AnalysisRun, AnalysisTemplateSpec, ClusterMetricProvider, Gate, MetricProvider, Rollout,
};
use crate::rollout::Proof;
use crate::workload::PodView;

/// A namespace and a name.
pub type Name = (String, String);

/// What is planned for: a Rollout or an AnalysisRun.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// A Rollout.
    Rollout {
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
    },
    /// An AnalysisRun.
    Run {
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
    },
}

impl Key {
    pub(crate) fn rollout(namespace: &str, name: &str) -> Self {
        Self::Rollout { namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

/// Everything that was seen.
#[derive(Default, Debug)]
pub struct World {
    versions: BTreeMap<(Kind, Name), (u64, String)>,
    pub(crate) rollouts: BTreeMap<Name, Rollout>,
    pub(crate) gates: BTreeMap<String, Gate>,
    pub(crate) runs: BTreeMap<Name, AnalysisRun>,
    pub(crate) runs_of: BTreeMap<Name, BTreeSet<String>>,
    pub(crate) templates: BTreeMap<Name, AnalysisTemplateSpec>,
    pub(crate) cluster_templates: BTreeMap<String, AnalysisTemplateSpec>,
    pub(crate) providers: BTreeMap<Name, MetricProvider>,
    pub(crate) cluster_providers: BTreeMap<String, ClusterMetricProvider>,
    pub(crate) deployments: BTreeMap<Name, DeploymentObject>,
    deployment_names: BTreeMap<String, Name>,
    pub(crate) replica_sets: BTreeMap<String, BTreeMap<String, ReplicaSetObject>>,
    replica_set_owner: BTreeMap<String, String>,
    pub(crate) pods: BTreeMap<String, BTreeMap<String, PodView>>,
    pod_owner: BTreeMap<Name, String>,
    pub(crate) services: BTreeMap<Name, Value>,
    slices: BTreeMap<Name, (String, i32)>,
    pub(crate) endpoints: BTreeMap<Name, BTreeMap<String, i32>>,
    pub(crate) routes: BTreeMap<Name, Value>,
    pub(crate) policy: GatePolicy,
    pub(crate) proofs: BTreeMap<Name, (GatePolicy, Proof)>,
    by_workload: BTreeMap<Name, BTreeSet<String>>,
    /// Objects that could not be read: kind, name and why. They are held as they were.
    pub unreadable: BTreeMap<(Kind, Name), String>,
}

/// The name of the shipped policy and of its binding.
pub const POLICY_NAME: &str = "sluice-deployment";

impl World {
    /// An empty world.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes an object in. Returns what has to be planned again; nothing for an object that is not newer
    /// than the one that is held.
    pub fn apply(&mut self, kind: Kind, value: &Value) -> Vec<Key> {
        let meta = Object::of(value);
        let id = (meta.namespace.clone(), meta.name.clone());
        if let Some((held, uid)) = self.versions.get(&(kind, id.clone()))
            && *uid == meta.uid
            && meta.version <= *held
            && meta.version != 0
        {
            return Vec::new();
        }
        self.versions.insert((kind, id.clone()), (meta.version, meta.uid.clone()));
        self.take(kind, id, &meta, value)
    }

    /// Forgets an object. A name that was taken again by another object in between is left alone.
    pub fn delete(&mut self, kind: Kind, value: &Value) -> Vec<Key> {
        let meta = Object::of(value);
        let id = (meta.namespace.clone(), meta.name.clone());
        match self.versions.get(&(kind, id.clone())) {
            Some((held, uid)) if *uid == meta.uid && *held <= meta.version.max(*held) => {}
            _ => return Vec::new(),
        }
        self.versions.remove(&(kind, id.clone()));
        self.drop_object(kind, &id, &meta)
    }

    /// Forgets every object of `kind` that is not in `names`: after a fresh list.
    pub fn retain(&mut self, kind: Kind, names: &BTreeSet<Name>) -> Vec<Key> {
        let gone: Vec<(Name, String)> = self
            .versions
            .iter()
            .filter(|((k, id), _)| *k == kind && !names.contains(id))
            .map(|((_, id), (_, uid))| (id.clone(), uid.clone()))
            .collect();
        let mut keys = Vec::new();
        for (id, uid) in gone {
            self.versions.remove(&(kind, id.clone()));
            let meta =
                Object { namespace: id.0.clone(), name: id.1.clone(), uid, ..Object::default() };
            keys.extend(self.drop_object(kind, &id, &meta));
        }
        keys
    }

    /// Notes what a dry run said of a workload's gate.
    pub fn proven(&mut self, workload: Name, proof: Proof) -> Vec<Key> {
        self.proofs.insert(workload.clone(), (self.policy.clone(), proof));
        self.releasers(&workload)
    }

    /// Every Rollout, and every Rollout that a Gate names though it is gone.
    #[must_use]
    pub fn all_keys(&self) -> Vec<Key> {
        let mut keys: BTreeSet<Key> =
            self.rollouts.keys().map(|(ns, n)| Key::rollout(ns, n)).collect();
        for (ns, gate) in &self.gates {
            for entry in gate.spec.deployments.values() {
                if let Some(rollout) = &entry.rollout {
                    keys.insert(Key::rollout(ns, rollout));
                }
            }
        }
        for (namespace, name) in self.runs.keys() {
            keys.insert(Key::Run { namespace: namespace.clone(), name: name.clone() });
        }
        keys.into_iter().collect()
    }

    fn take(&mut self, kind: Kind, id: Name, meta: &Object, value: &Value) -> Vec<Key> {
        match kind {
            Kind::Rollout => self.take_rollout(id, value),
            Kind::Gate => match self.read::<Gate>(kind, &id, value) {
                Some(gate) if id.1 == crate::api::GATE_NAME => {
                    self.gates.insert(id.0.clone(), gate);
                    self.in_namespace(&id.0)
                }
                _ => Vec::new(),
            },
            Kind::AnalysisRun => self.take_run(id, value),
            Kind::AnalysisTemplate => match read_spec(value) {
                Ok(spec) => {
                    self.templates.insert(id.clone(), spec);
                    self.in_namespace(&id.0)
                }
                Err(e) => self.cannot_read(kind, id, &e),
            },
            Kind::ClusterAnalysisTemplate => match read_spec(value) {
                Ok(spec) => {
                    self.cluster_templates.insert(id.1, spec);
                    self.everybody()
                }
                Err(e) => self.cannot_read(kind, id, &e),
            },
            Kind::MetricProvider => {
                if let Some(provider) = self.read(kind, &id, value) {
                    self.providers.insert(id.clone(), provider);
                }
                self.runs_in(&id.0)
            }
            Kind::ClusterMetricProvider => {
                if let Some(provider) = self.read(kind, &id, value) {
                    self.cluster_providers.insert(id.1, provider);
                }
                Vec::new()
            }
            Kind::Deployment => {
                self.deployment_names.insert(meta.uid.clone(), id.clone());
                let before = self.deployments.remove(&id);
                self.deployments.insert(id.clone(), DeploymentObject::of(value, before));
                self.releasers(&id)
            }
            Kind::ReplicaSet => self.take_replica_set(meta, value),
            Kind::Pod => self.take_pod(id, meta, value),
            Kind::Service => {
                self.services.insert(id.clone(), value.clone());
                self.with_traffic(&id.0)
            }
            Kind::EndpointSlice => self.take_slice(id, value),
            Kind::HttpRoute => {
                self.routes.insert(id.clone(), value.clone());
                self.with_traffic(&id.0)
            }
            Kind::Policy | Kind::PolicyBinding => self.take_policy(kind, &id, Some(meta.version)),
        }
    }

    fn drop_object(&mut self, kind: Kind, id: &Name, meta: &Object) -> Vec<Key> {
        self.unreadable.remove(&(kind, id.clone()));
        match kind {
            Kind::Rollout => self.drop_rollout(id),
            Kind::Gate => {
                self.gates.remove(&id.0);
                self.in_namespace(&id.0)
            }
            Kind::AnalysisRun => {
                let keys = self.owners_of_run(id);
                if let Some(run) = self.runs.remove(id)
                    && let Some(release) = &run.spec.release
                {
                    let of = (id.0.clone(), release.rollout.clone());
                    if let Some(names) = self.runs_of.get_mut(&of) {
                        names.remove(&id.1);
                    }
                }
                keys
            }
            Kind::AnalysisTemplate => {
                self.templates.remove(id);
                self.in_namespace(&id.0)
            }
            Kind::ClusterAnalysisTemplate => {
                self.cluster_templates.remove(&id.1);
                self.everybody()
            }
            Kind::MetricProvider => {
                self.providers.remove(id);
                self.runs_in(&id.0)
            }
            Kind::ClusterMetricProvider => {
                self.cluster_providers.remove(&id.1);
                Vec::new()
            }
            Kind::Deployment => {
                self.deployments.remove(id);
                self.deployment_names.remove(&meta.uid);
                self.proofs.remove(id);
                self.releasers(id)
            }
            Kind::ReplicaSet => {
                let owner = self.replica_set_owner.remove(&meta.uid).unwrap_or_default();
                if let Some(sets) = self.replica_sets.get_mut(&owner) {
                    sets.remove(&meta.uid);
                }
                self.pods.remove(&meta.uid);
                self.of_deployment(&owner)
            }
            Kind::Pod => {
                let owner = self.pod_owner.remove(id).unwrap_or_default();
                if let Some(pods) = self.pods.get_mut(&owner) {
                    pods.remove(&id.1);
                }
                self.of_replica_set(&owner)
            }
            Kind::Service => {
                self.services.remove(id);
                self.with_traffic(&id.0)
            }
            Kind::EndpointSlice => {
                let Some((service, _)) = self.slices.remove(id) else { return Vec::new() };
                if let Some(slices) = self.endpoints.get_mut(&(id.0.clone(), service)) {
                    slices.remove(&id.1);
                }
                self.with_traffic(&id.0)
            }
            Kind::HttpRoute => {
                self.routes.remove(id);
                self.with_traffic(&id.0)
            }
            Kind::Policy | Kind::PolicyBinding => self.take_policy(kind, id, None),
        }
    }

    fn read<T: serde::de::DeserializeOwned>(
        &mut self,
        kind: Kind,
        id: &Name,
        value: &Value,
    ) -> Option<T> {
        match T::deserialize(value) {
            Ok(read) => {
                self.unreadable.remove(&(kind, id.clone()));
                Some(read)
            }
            Err(e) => {
                self.unreadable.insert((kind, id.clone()), e.to_string());
                None
            }
        }
    }

    fn cannot_read(&mut self, kind: Kind, id: Name, e: &serde_json::Error) -> Vec<Key> {
        self.unreadable.insert((kind, id), e.to_string());
        Vec::new()
    }

    fn take_rollout(&mut self, id: Name, value: &Value) -> Vec<Key> {
        let Some(rollout) = self.read::<Rollout>(Kind::Rollout, &id, value) else {
            return Vec::new();
        };
        let before = self.rollouts.get(&id).map(|r| r.spec.workload_ref.name.clone());
        let workload = (id.0.clone(), rollout.spec.workload_ref.name.clone());
        let mut keys = vec![Key::rollout(&id.0, &id.1)];
        if let Some(old) = before.filter(|old| *old != workload.1) {
            let old = (id.0.clone(), old);
            if let Some(names) = self.by_workload.get_mut(&old) {
                names.remove(&id.1);
            }
            keys.extend(self.releasers(&old));
        }
        let first = self.by_workload.entry(workload.clone()).or_default().insert(id.1.clone());
        if first {
            keys.extend(self.releasers(&workload));
        }
        self.rollouts.insert(id, rollout);
        keys
    }

    fn drop_rollout(&mut self, id: &Name) -> Vec<Key> {
        let mut keys = vec![Key::rollout(&id.0, &id.1)];
        if let Some(rollout) = self.rollouts.remove(id) {
            let workload = (id.0.clone(), rollout.spec.workload_ref.name);
            if let Some(names) = self.by_workload.get_mut(&workload) {
                names.remove(&id.1);
            }
            keys.extend(self.releasers(&workload));
        }
        keys
    }

    fn take_run(&mut self, id: Name, value: &Value) -> Vec<Key> {
        let Some(run) = self.read::<AnalysisRun>(Kind::AnalysisRun, &id, value) else {
            return Vec::new();
        };
        if let Some(release) = &run.spec.release {
            let of = (id.0.clone(), release.rollout.clone());
            self.runs_of.entry(of).or_default().insert(id.1.clone());
        }
        self.runs.insert(id.clone(), run);
        let mut keys = self.owners_of_run(&id);
        keys.push(Key::Run { namespace: id.0, name: id.1 });
        keys
    }

    fn owners_of_run(&self, id: &Name) -> Vec<Key> {
        let run = self.runs.get(id);
        let release = run.and_then(|r| r.spec.release.as_ref());
        release.map(|r| Key::rollout(&id.0, &r.rollout)).into_iter().collect()
    }

    fn take_replica_set(&mut self, meta: &Object, value: &Value) -> Vec<Key> {
        let Some(owner) = meta.owner.clone() else { return Vec::new() };
        self.replica_set_owner.insert(meta.uid.clone(), owner.clone());
        let sets = self.replica_sets.entry(owner.clone()).or_default();
        let before = sets.remove(&meta.uid);
        sets.insert(meta.uid.clone(), ReplicaSetObject::of(value, before));
        self.of_deployment(&owner)
    }

    fn take_pod(&mut self, id: Name, meta: &Object, value: &Value) -> Vec<Key> {
        let Some(owner) = meta.owner.clone() else { return Vec::new() };
        let pods = self.pods.entry(owner.clone()).or_default();
        let changed = match pod_view(value) {
            Some(view) => pods.insert(id.1.clone(), view.clone()) != Some(view),
            None => pods.remove(&id.1).is_some(),
        };
        self.pod_owner.insert(id, owner.clone());
        if changed { self.of_replica_set(&owner) } else { Vec::new() }
    }

    fn take_slice(&mut self, id: Name, value: &Value) -> Vec<Key> {
        let labels = value.pointer("/metadata/labels");
        let service = labels.and_then(|l| l.get("kubernetes.io/service-name"));
        let Some(service) = service.and_then(Value::as_str) else { return Vec::new() };
        let ready = ready_endpoints(value);
        let old = self.slices.insert(id.clone(), (service.to_owned(), ready));
        let slices = self.endpoints.entry((id.0.clone(), service.to_owned())).or_default();
        slices.insert(id.1, ready);
        let same = old.is_some_and(|(s, r)| s == service && r == ready);
        if same { Vec::new() } else { self.with_traffic(&id.0) }
    }

    fn take_policy(&mut self, kind: Kind, id: &Name, version: Option<u64>) -> Vec<Key> {
        if id.1 != POLICY_NAME {
            return Vec::new();
        }
        let held =
            if kind == Kind::Policy { &mut self.policy.policy } else { &mut self.policy.binding };
        if *held == version {
            return Vec::new();
        }
        *held = version;
        self.everybody()
    }

    /// The Rollouts of a workload.
    fn releasers(&self, workload: &Name) -> Vec<Key> {
        let names = self.by_workload.get(workload);
        names.into_iter().flatten().map(|n| Key::rollout(&workload.0, n)).collect()
    }

    fn of_deployment(&self, uid: &str) -> Vec<Key> {
        self.deployment_names.get(uid).map(|id| self.releasers(id)).unwrap_or_default()
    }

    fn of_replica_set(&self, uid: &str) -> Vec<Key> {
        let owner = self.replica_set_owner.get(uid);
        owner.map(|owner| self.of_deployment(owner)).unwrap_or_default()
    }

    fn in_namespace(&self, namespace: &str) -> Vec<Key> {
        let from = (namespace.to_owned(), String::new());
        let all = self.rollouts.range(from..).take_while(|((ns, _), _)| ns == namespace);
        let mut keys: BTreeSet<Key> = all.map(|((ns, n), _)| Key::rollout(ns, n)).collect();
        if let Some(gate) = self.gates.get(namespace) {
            let named = gate.spec.deployments.values().filter_map(|e| e.rollout.as_ref());
            keys.extend(named.map(|n| Key::rollout(namespace, n)));
        }
        keys.into_iter().collect()
    }

    /// The Rollouts of a namespace that route traffic.
    fn with_traffic(&self, namespace: &str) -> Vec<Key> {
        let from = (namespace.to_owned(), String::new());
        let all = self.rollouts.range(from..).take_while(|((ns, _), _)| ns == namespace);
        let routed = all.filter(|(_, r)| {
            r.spec.strategy.canary.as_ref().is_some_and(|c| !c.traffic_routings.is_empty())
        });
        routed.map(|((ns, n), _)| Key::rollout(ns, n)).collect()
    }

    fn runs_in(&self, namespace: &str) -> Vec<Key> {
        let from = (namespace.to_owned(), String::new());
        let all = self.runs.range(from..).take_while(|((ns, _), _)| ns == namespace);
        all.map(|((ns, n), _)| Key::Run { namespace: ns.clone(), name: n.clone() }).collect()
    }

    fn everybody(&self) -> Vec<Key> {
        self.rollouts.keys().map(|(ns, n)| Key::rollout(ns, n)).collect()
    }
}

fn read_spec(value: &Value) -> Result<AnalysisTemplateSpec, serde_json::Error> {
    serde_json::from_value(value.get("spec").cloned().unwrap_or_default())
}
