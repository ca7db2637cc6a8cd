//! What belongs to one Rollout.

use std::collections::BTreeMap;

use serde_json::Value;

use super::world::World;
use crate::api::{AnalysisRun, Rollout};
use crate::rollout::{GateView, Proof, Snapshot};
use crate::workload::{DeploymentView, ReplicaSetView};

impl World {
    /// Everything that a plan for this Rollout depends on; `None` when it does not exist.
    #[must_use]
    pub fn snapshot(&self, namespace: &str, name: &str, account: &str) -> Option<Snapshot> {
        let rollout = self.rollouts.get(&(namespace.to_owned(), name.to_owned()))?.clone();
        let in_ns = |n: &str| (namespace.to_owned(), n.to_owned());
        let workload = in_ns(&rollout.spec.workload_ref.name);
        let is_deployment = rollout.spec.workload_ref.kind == "Deployment";
        let view = is_deployment.then(|| self.deployment_view(&workload.1, namespace)).flatten();
        let canary = rollout.spec.strategy.canary.as_ref();
        let mut services = BTreeMap::new();
        let mut endpoints = BTreeMap::new();
        let mut routes = BTreeMap::new();
        for routing in canary.map(|c| c.traffic_routings.as_slice()).unwrap_or_default() {
            for service in [routing.service.clone(), format!("{}-canary", routing.service)] {
                if let Some(object) = self.services.get(&in_ns(&service)) {
                    services.insert(service.clone(), object.clone());
                }
                let ready = self.endpoints.get(&in_ns(&service));
                let ready = ready.map_or(0, |slices| slices.values().sum());
                endpoints.insert(service, ready);
            }
            let Some(gateway) = &routing.gateway else { continue };
            for route in gateway.http_route_name.iter().chain(&gateway.http_route_names) {
                if let Some(object) = self.routes.get(&in_ns(route)) {
                    routes.insert(route.clone(), object.clone());
                }
            }
        }
        // What the release has changed is restored though the Rollout names it no more.
        let (noted_services, noted_routes) = noted(&rollout);
        for name in noted_services {
            if let Some(object) = self.services.get(&in_ns(&name)) {
                services.insert(name, object.clone());
            }
        }
        for name in noted_routes {
            if let Some(object) = self.routes.get(&in_ns(&name)) {
                routes.insert(name, object.clone());
            }
        }
        let mut templates = BTreeMap::new();
        for ((_, name), spec) in
            self.templates.range(in_ns("")..).take_while(|(k, _)| k.0 == namespace)
        {
            templates.insert((false, name.clone()), spec.clone());
        }
        for (name, spec) in &self.cluster_templates {
            templates.insert((true, name.clone()), spec.clone());
        }
        let gate = self.gates.get(namespace).map(|g| GateView { spec: g.spec.clone() });
        Some(Snapshot {
            account: account.to_owned(),
            proof: self.proof(&workload),
            rival: self.rival(&rollout, namespace, name),
            runs: self.runs_of(namespace, name),
            workload: view,
            gate,
            services,
            endpoints,
            routes,
            templates,
            rollout,
        })
    }

    /// The account that the namespace's Gate names.
    #[must_use]
    pub fn gate_account(&self, namespace: &str) -> Option<String> {
        self.gates.get(namespace)?.spec.account.clone()
    }

    /// What is known of the gate of a workload: a proof holds for the policy it was made under.
    fn proof(&self, workload: &(String, String)) -> Proof {
        if self.policy.policy.is_none() || self.policy.binding.is_none() {
            return Proof::NotHeld {
                reason: "the admission policy of Sluice is not installed or not served".into(),
            };
        }
        match self.proofs.get(workload) {
            Some((under, proof)) if *under == self.policy => proof.clone(),
            _ => Proof::Unknown,
        }
    }

    fn runs_of(&self, namespace: &str, name: &str) -> BTreeMap<String, AnalysisRun> {
        let of = (namespace.to_owned(), name.to_owned());
        let names = self.runs_of.get(&of).into_iter().flatten();
        names
            .filter_map(|n| {
                let run = self.runs.get(&(namespace.to_owned(), n.clone()))?;
                Some((n.clone(), run.clone()))
            })
            .collect()
    }

    /// An older Rollout for the same workload; of two of the same age the one whose name comes first.
    fn rival(&self, rollout: &Rollout, namespace: &str, name: &str) -> Option<String> {
        let age = |r: &Rollout| r.metadata.creation_timestamp.as_ref().map(|t| t.0);
        let mine = (age(rollout), name);
        let from = (namespace.to_owned(), String::new());
        self.rollouts
            .range(from..)
            .take_while(|((ns, _), _)| ns == namespace)
            .filter(|((_, n), r)| {
                n != name
                    && r.spec.workload_ref.name == rollout.spec.workload_ref.name
                    && r.spec.workload_ref.kind == rollout.spec.workload_ref.kind
                    && !r.spec.disabled
                    && (age(r), n.as_str()) < mine
            })
            .map(|((_, n), _)| n.clone())
            .next()
    }

    /// The Deployment with its ReplicaSets and pods.
    #[must_use]
    pub fn deployment_view(&self, name: &str, namespace: &str) -> Option<DeploymentView> {
        let d = self.deployments.get(&(namespace.to_owned(), name.to_owned()))?;
        let empty = BTreeMap::new();
        let sets = self.replica_sets.get(&d.meta.uid).unwrap_or(&empty);
        let mut sets: Vec<_> = sets.values().collect();
        sets.sort_by(|a, b| {
            (&a.created, a.revision, &a.meta.name).cmp(&(&b.created, b.revision, &b.meta.name))
        });
        let replica_sets = sets
            .into_iter()
            .map(|rs| ReplicaSetView {
                name: rs.meta.name.clone(),
                uid: rs.meta.uid.clone(),
                resource_version: rs.resource_version.clone(),
                hash: rs.hash.clone(),
                revision: rs.revision,
                replicas: rs.replicas,
                min_ready_seconds: rs.min_ready_seconds,
                status_replicas: rs.status_replicas,
                available: rs.available,
                template: rs.template.clone(),
                template_hash: rs.template_hash.clone(),
                pods: self
                    .pods
                    .get(&rs.meta.uid)
                    .map(|p| p.values().cloned().collect())
                    .unwrap_or_default(),
            })
            .collect();
        Some(DeploymentView {
            name: name.to_owned(),
            uid: d.meta.uid.clone(),
            resource_version: d.resource_version.clone(),
            generation: d.generation,
            observed_generation: d.observed_generation,
            replicas: d.replicas,
            fields: d.fields.clone(),
            template: d.template.clone(),
            template_hash: d.template_hash.clone(),
            wanted: d.wanted.clone(),
            selector: d.selector.clone(),
            replica_sets,
            deleting: d.deleting,
            owned: d.owned,
        })
    }
}

/// The Services and routes that the release under way has changed.
fn noted(rollout: &Rollout) -> (Vec<String>, Vec<String>) {
    let release = rollout.status.as_ref().and_then(|s| s.release.as_ref());
    let text = release.and_then(|r| r.traffic_notes.as_deref()).unwrap_or_default();
    let notes: Value = serde_json::from_str(text).unwrap_or_default();
    let list = |key: &str| notes.get(key).and_then(Value::as_array).into_iter().flatten();
    let services = list("pinned").chain(list("canaries")).filter_map(Value::as_str);
    let routes = notes.get("routes").and_then(Value::as_object);
    let routes = routes.map(|r| r.keys().cloned().collect()).unwrap_or_default();
    (services.map(str::to_owned).collect(), routes)
}
