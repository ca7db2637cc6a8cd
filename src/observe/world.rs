//! The index of everything that was seen.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::gone::Gone;
use super::objects::{
    DeploymentObject, GatePolicy, Kind, Object, ReplicaSetObject, Version, is_over, pod_view,
    ready_endpoints,
};
use super::templates::TemplateHead;
use super::unlisted::Unlisted;
use crate::api::{
    AnalysisRun, AnalysisTemplateSpec, ClusterMetricProvider, Gate, GateSpec, MetricProvider,
    MetricProviderSpec, Rollout,
};
use crate::rollout::{CalibrationView, Proof};
use crate::spec::{RouteKind, RouteRef};
use crate::workload::PodView;
use crate::workload::view::owned;

/// A namespace and a name.
pub type Name = (String, String);

/// What is worked on: a Rollout, an AnalysisRun, a template or a call of a hook.
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
    /// A call of a hook.
    Hook {
        /// Namespace of its Rollout.
        namespace: String,
        /// Name of its Rollout.
        name: String,
        /// The decision that it asks for.
        id: String,
    },
    /// An AnalysisTemplate, or with an empty namespace a ClusterAnalysisTemplate.
    Template {
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
    },
    /// The calibration of a Rollout.
    Calibration {
        /// The Rollout's namespace.
        namespace: String,
        /// The Rollout's name.
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
    /// By namespace and name; the namespace of a ClusterAnalysisTemplate is empty.
    pub(super) heads: BTreeMap<Name, TemplateHead>,
    pub(crate) providers: BTreeMap<Name, MetricProvider>,
    pub(crate) cluster_providers: BTreeMap<String, ClusterMetricProvider>,
    provider_changes: BTreeMap<Name, u64>,
    changes: u64,
    pub(crate) deployments: BTreeMap<Name, DeploymentObject>,
    deployment_names: BTreeMap<String, Name>,
    pub(crate) replica_sets: BTreeMap<String, BTreeMap<String, ReplicaSetObject>>,
    replica_set_owner: BTreeMap<String, String>,
    pub(crate) pods: BTreeMap<String, BTreeMap<String, PodView>>,
    pod_owner: BTreeMap<Name, String>,
    pub(crate) services: BTreeMap<Name, Value>,
    slices: BTreeMap<Name, (String, i32)>,
    pub(crate) endpoints: BTreeMap<Name, BTreeMap<String, i32>>,
    /// By namespace and [`crate::spec::RouteRef::key`].
    pub(crate) routes: BTreeMap<Name, Value>,
    pub(crate) policy: GatePolicy,
    pub(crate) proofs: BTreeMap<Name, (GatePolicy, Proof)>,
    pub(crate) calibrations: BTreeMap<Name, CalibrationView>,
    by_workload: BTreeMap<Name, BTreeSet<String>>,
    /// Objects that could not be read: kind, name and why. They are held as they were.
    pub unreadable: BTreeMap<(Kind, Name), String>,
    pub(super) unlisted: BTreeMap<Kind, Unlisted>,
    gone: Gone,
}

/// Without who wrote which field, which is half of a small object and kept by the API server where a
/// write leaves it out; with it while an entry of ours is there, which is to go.
fn lean(value: &Value) -> Value {
    let mut object = value.clone();
    if owned(value).is_some() {
        return object;
    }
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    object
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
    /// than the one that is held, or than the end of it.
    pub fn apply(&mut self, kind: Kind, value: &Value) -> Vec<Key> {
        if is_over(kind, value) {
            return self.delete(kind, value);
        }
        let meta = Object::of(value);
        if self.gone.covers(&meta) {
            return Vec::new();
        }
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
        self.gone.bury(kind, &meta);
        if self.versions.get(&(kind, id.clone())).is_none_or(|(_, uid)| *uid != meta.uid) {
            return Vec::new();
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
        if self.unlisted.remove(&kind).is_some() && self.blind().is_none() {
            // What waited for it is looked at.
            keys.extend(self.all_keys());
        }
        keys
    }

    /// The namespace's Gate as it is known.
    #[must_use]
    pub fn gate_at(&self, namespace: &str) -> Option<Version> {
        let meta = &self.gates.get(namespace)?.metadata;
        let (uid, version) = (meta.uid.clone(), meta.resource_version.clone());
        Some(Version { uid: uid?, resource_version: version? })
    }

    /// Notes what a dry run said of a workload's gate.
    pub fn proven(&mut self, workload: Name, mut proof: Proof) -> Vec<Key> {
        let known = self.proofs.get(&workload).filter(|(under, _)| *under == self.policy);
        match (&mut proof, known.map(|(_, known)| known)) {
            // A dry run that is refused again, perhaps in other words, is no news.
            (Proof::Refused { .. }, Some(Proof::Refused { .. })) => return Vec::new(),
            (
                Proof::NotHeld { tried: Some((first, _)), .. },
                Some(Proof::NotHeld { tried: Some((before, _)), .. }),
            ) => *first = *before,
            _ => {}
        }
        self.proofs.insert(workload.clone(), (self.policy.clone(), proof));
        self.releasers(&workload)
    }

    /// Notes what is known of a Rollout's calibration.
    pub fn calibrated(&mut self, rollout: Name, view: CalibrationView) -> Vec<Key> {
        let key = Key::rollout(&rollout.0, &rollout.1);
        let news = self.calibrations.get(&rollout) != Some(&view);
        self.calibrations.insert(rollout, view);
        news.then_some(key).into_iter().collect()
    }

    /// Every Rollout, every run and template, and every Rollout that a Gate names though it is gone.
    #[must_use]
    pub fn all_keys(&self) -> Vec<Key> {
        let mut keys: BTreeSet<Key> =
            self.rollouts.keys().map(|(ns, n)| Key::rollout(ns, n)).collect();
        for (ns, gate) in &self.gates {
            keys.extend(named(&gate.spec).map(|(_, rollout)| Key::rollout(ns, rollout)));
        }
        for (namespace, name) in self.runs.keys() {
            keys.insert(Key::Run { namespace: namespace.clone(), name: name.clone() });
        }
        keys.extend(self.all_templates());
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
            Kind::AnalysisTemplate | Kind::ClusterAnalysisTemplate => {
                self.take_template(kind, id, meta, value)
            }
            Kind::MetricProvider => {
                if let Some(provider) = self.read(kind, &id, value) {
                    self.providers.insert(id.clone(), provider);
                }
                self.provider_changed(&id)
            }
            Kind::ClusterMetricProvider => {
                if let Some(provider) = self.read(kind, &id, value) {
                    self.cluster_providers.insert(id.1.clone(), provider);
                }
                self.provider_changed(&id)
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
                self.services.insert(id.clone(), lean(value));
                self.with_traffic(&id.0)
            }
            Kind::EndpointSlice => self.take_slice(id, value),
            Kind::HttpRoute | Kind::GrpcRoute => {
                self.routes.insert(route_key(kind, &id), lean(value));
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
            Kind::AnalysisTemplate | Kind::ClusterAnalysisTemplate => self.drop_template(id),
            Kind::MetricProvider => {
                self.providers.remove(id);
                self.provider_changed(id)
            }
            Kind::ClusterMetricProvider => {
                self.cluster_providers.remove(&id.1);
                self.provider_changed(id)
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
            Kind::HttpRoute | Kind::GrpcRoute => {
                self.routes.remove(&route_key(kind, id));
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

    pub(super) fn cannot_read(&mut self, kind: Kind, id: Name, e: &serde_json::Error) -> Vec<Key> {
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
        // Another Rollout of this workload may wait for this one.
        keys.extend(self.releasers(&workload));
        if let Some(old) = before.filter(|old| *old != workload.1) {
            let old = (id.0.clone(), old);
            if let Some(names) = self.by_workload.get_mut(&old) {
                names.remove(&id.1);
            }
            keys.extend(self.releasers(&old));
        }
        self.by_workload.entry(workload).or_default().insert(id.1.clone());
        self.rollouts.insert(id, rollout);
        keys
    }

    fn drop_rollout(&mut self, id: &Name) -> Vec<Key> {
        let mut keys = vec![Key::rollout(&id.0, &id.1)];
        self.calibrations.remove(id);
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

    /// The Rollouts of a workload, and those that are gone and whose word on it is left in the Gate.
    fn releasers(&self, workload: &Name) -> Vec<Key> {
        let names = self.by_workload.get(workload);
        let mut keys: Vec<Key> =
            names.into_iter().flatten().map(|n| Key::rollout(&workload.0, n)).collect();
        let spec = self.gates.get(&workload.0).map(|gate| &gate.spec);
        let left = spec.into_iter().flat_map(named).filter(|(of, _)| **of == workload.1);
        for (_, name) in left {
            let key = Key::rollout(&workload.0, name);
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        keys
    }

    fn of_deployment(&self, uid: &str) -> Vec<Key> {
        self.deployment_names.get(uid).map(|id| self.releasers(id)).unwrap_or_default()
    }

    fn of_replica_set(&self, uid: &str) -> Vec<Key> {
        let owner = self.replica_set_owner.get(uid);
        owner.map(|owner| self.of_deployment(owner)).unwrap_or_default()
    }

    pub(super) fn in_namespace(&self, namespace: &str) -> Vec<Key> {
        let from = (namespace.to_owned(), String::new());
        let all = self.rollouts.range(from..).take_while(|((ns, _), _)| ns == namespace);
        let mut keys: BTreeSet<Key> = all.map(|((ns, n), _)| Key::rollout(ns, n)).collect();
        if let Some(gate) = self.gates.get(namespace) {
            keys.extend(named(&gate.spec).map(|(_, n)| Key::rollout(namespace, n)));
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

    /// Notes that a provider changed; its namespace is empty for a ClusterMetricProvider. Returns the
    /// runs under way that might name it.
    fn provider_changed(&mut self, id: &Name) -> Vec<Key> {
        self.changes += 1;
        self.provider_changes.insert(id.clone(), self.changes);
        let from = (id.0.clone(), String::new());
        let all = self.runs.range(from..).take_while(|((ns, _), _)| id.0.is_empty() || *ns == id.0);
        let open = all.filter(|(_, run)| {
            run.status.as_ref().is_none_or(|status| status.completed_at.is_none())
        });
        open.map(|((ns, n), _)| Key::Run { namespace: ns.clone(), name: n.clone() }).collect()
    }

    /// The MetricProvider of that name in `namespace`, or the ClusterMetricProvider.
    #[must_use]
    pub fn provider(&self, namespace: Option<&str>, name: &str) -> Option<&MetricProviderSpec> {
        match namespace {
            Some(ns) => self.providers.get(&(ns.to_owned(), name.to_owned())).map(|p| &p.spec),
            None => self.cluster_providers.get(name).map(|p| &p.spec.0),
        }
    }

    /// How many changes of providers were seen, and which of them was this provider's last.
    #[must_use]
    pub fn provider_changes(&self, namespace: Option<&str>, name: &str) -> (u64, u64) {
        let id = (namespace.unwrap_or_default().to_owned(), name.to_owned());
        (self.changes, self.provider_changes.get(&id).copied().unwrap_or_default())
    }

    pub(super) fn everybody(&self) -> Vec<Key> {
        self.rollouts.keys().map(|(ns, n)| Key::rollout(ns, n)).collect()
    }
}

/// The workloads that a Gate speaks of, each with a Rollout.
fn named(gate: &GateSpec) -> impl Iterator<Item = (&String, &String)> {
    let gated = gate.deployments.iter().map(|(workload, entry)| (workload, &entry.rollout));
    let left = gate.let_go.iter().map(|(workload, left)| (workload, &left.rollout));
    gated.chain(left).filter_map(|(workload, rollout)| Some((workload, rollout.as_ref()?)))
}

fn route_key(kind: Kind, (namespace, name): &Name) -> Name {
    let kind = if kind == Kind::GrpcRoute { RouteKind::Grpc } else { RouteKind::Http };
    (namespace.clone(), RouteRef { kind, name: name.clone() }.key())
}
