//! What belongs to one Rollout.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::objects::Kind;
use super::world::World;
use crate::analysis::Observed;
use crate::api::routing::GatewayRef;
use crate::api::{AnalysisRun, Rollout};
use crate::rollout::{GateView, Proof, Snapshot, is_needed};
use crate::spec::{RouteKind, RouteRef};
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
        let mut names = BTreeSet::new();
        for routing in canary.map(|c| c.traffic_routings.as_slice()).unwrap_or_default() {
            names.extend([routing.service.clone(), format!("{}-canary", routing.service)]);
            let Some(gateway) = &routing.gateway else { continue };
            for route in routes_of(gateway) {
                if let Some(object) = self.routes.get(&in_ns(&route)) {
                    routes.insert(route, object.clone());
                }
            }
        }
        // What the release has changed is restored though the Rollout names it no more.
        let (noted_services, noted_routes) = noted(&rollout);
        let refusal = self.unread(noted_routes.iter().map(|key| kind_of(key)));
        names.extend(noted_services);
        for name in names {
            if let Some(object) = self.services.get(&in_ns(&name)) {
                services.insert(name.clone(), object.clone());
            }
            let ready = self.endpoints.get(&in_ns(&name));
            endpoints.insert(name, ready.map_or(0, |slices| slices.values().sum()));
        }
        for name in noted_routes {
            if let Some(object) = self.routes.get(&in_ns(&name)) {
                routes.insert(name, object.clone());
            }
        }
        let splits = if routes.is_empty() { BTreeMap::new() } else { self.splits(namespace, name) };
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
            // What a process knows of its calls is not seen in the cluster: the engine adds it.
            hooks: std::collections::BTreeMap::new(),
            calibration: self.calibrations.get(&in_ns(name)).cloned(),
            rival: self.rival(&rollout, namespace, name),
            refusal,
            runs: self.runs_of(namespace, name),
            workload: view,
            gate,
            services,
            endpoints,
            routes,
            splits,
            templates,
            rollout,
        })
    }

    /// What is seen of the release that a run looks at; nothing of one that is over.
    #[must_use]
    pub fn observed(&self, run: &AnalysisRun) -> Observed {
        let namespace = run.metadata.namespace.as_deref().unwrap_or_default();
        let of = |name: &str| (namespace.to_owned(), name.to_owned());
        let Some(release) = &run.spec.release else { return Observed::default() };
        let Some(rollout) = self.rollouts.get(&of(&release.rollout)) else {
            return Observed::default();
        };
        let uid = self.deployments.get(&of(&rollout.spec.workload_ref.name)).map(|d| &d.meta.uid);
        let sets = uid.and_then(|uid| self.replica_sets.get(uid)).into_iter().flatten();
        let pods = sets.filter_map(|(_, set)| self.pods.get(&set.meta.uid)).flatten();
        let created = pods.filter_map(|(name, pod)| Some((name.clone(), pod.created?))).collect();
        let status = rollout.status.as_ref();
        let current = status.and_then(|s| s.release.as_ref()).is_some_and(|r| r.id == release.id);
        let traffic = status.and_then(|s| s.traffic.as_ref()).filter(|_| current);
        let text = traffic.and_then(|traffic| traffic.observed.as_deref()?.strip_suffix('%'));
        let weight = text.and_then(|text| text.parse::<f64>().ok()).map(|percent| percent / 100.0);
        Observed { created, weight }
    }

    /// Whether the release under way may go on with the evidence of this run.
    #[must_use]
    pub fn is_needed(&self, run: &AnalysisRun) -> bool {
        let namespace = run.metadata.namespace.as_deref().unwrap_or_default();
        let Some(own) = &run.spec.release else { return false };
        let of = (namespace.to_owned(), own.rollout.clone());
        let status = self.rollouts.get(&of).and_then(|rollout| rollout.status.as_ref());
        let Some(release) = status.and_then(|status| status.release.as_ref()) else { return false };
        let names = self.runs_of.get(&of).into_iter().flatten();
        let all = names.filter_map(|name| self.runs.get(&(namespace.to_owned(), name.clone())));
        is_needed(release, run, all)
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
                tried: None,
            };
        }
        match self.proofs.get(workload) {
            Some((under, proof)) if *under == self.policy => proof.clone(),
            _ => Proof::Unknown,
        }
    }

    /// The canary Services that the releases of other Rollouts give traffic.
    fn splits(&self, namespace: &str, name: &str) -> BTreeMap<String, String> {
        let from = (namespace.to_owned(), String::new());
        let all = self.rollouts.range(from..).take_while(|((ns, _), _)| ns == namespace);
        let others = all.filter(|((_, other), _)| other != name);
        others
            .flat_map(|((_, other), rollout)| {
                let canaries = names(&notes_of(rollout), "canaries");
                canaries.into_iter().map(|canary| (canary, other.clone()))
            })
            .collect()
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

    /// The other Rollout that has the workload: the one that releases it now, else an older one; of two
    /// of the same age the one whose name comes first. One that is disabled or goes has it only until its
    /// release is over.
    fn rival(&self, rollout: &Rollout, namespace: &str, name: &str) -> Option<String> {
        let releases = |r: &Rollout| r.status.as_ref().is_some_and(|s| s.release.is_some());
        let goes = |r: &Rollout| r.spec.disabled || r.metadata.deletion_timestamp.is_some();
        let rank = |r: &Rollout, name: &str| {
            let age = r.metadata.creation_timestamp.as_ref().map(|t| t.0);
            (!releases(r), age, name.to_owned())
        };
        let mine = rank(rollout, name);
        let from = (namespace.to_owned(), String::new());
        self.rollouts
            .range(from..)
            .take_while(|((ns, _), _)| ns == namespace)
            .filter(|((_, n), r)| {
                n != name
                    && r.spec.workload_ref.name == rollout.spec.workload_ref.name
                    && r.spec.workload_ref.kind == rollout.spec.workload_ref.kind
                    && (releases(r) || !goes(r))
                    && rank(r, n) < mine
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

/// The keys of the routes that a Rollout names, valid or not.
fn routes_of(gateway: &GatewayRef) -> impl Iterator<Item = String> + '_ {
    let http = gateway.http_route_name.iter().chain(&gateway.http_route_names);
    let http = http.map(|name| (RouteKind::Http, name));
    let grpc = gateway.grpc_route_names.iter().map(|name| (RouteKind::Grpc, name));
    http.chain(grpc).map(|(kind, name)| RouteRef { kind, name: name.clone() }.key())
}

/// The kind of the route under this key.
fn kind_of(key: &str) -> Kind {
    let grpc = RouteRef { kind: RouteKind::Grpc, name: String::new() }.key();
    if key.starts_with(&grpc) { Kind::GrpcRoute } else { Kind::HttpRoute }
}

/// The Services and routes that the release under way has changed.
fn noted(rollout: &Rollout) -> (Vec<String>, Vec<String>) {
    let notes = notes_of(rollout);
    let routes = notes.get("routes").and_then(Value::as_object).cloned().unwrap_or_default();
    let split = routes.values().filter_map(|note| note.get("service")?.as_str());
    let mut services = names(&notes, "pinned");
    services.extend(names(&notes, "canaries"));
    services.extend(split.map(str::to_owned));
    (services, routes.keys().cloned().collect())
}

/// What the release under way has noted of Services and routes.
fn notes_of(rollout: &Rollout) -> Value {
    let release = rollout.status.as_ref().and_then(|s| s.release.as_ref());
    let text = release.and_then(|r| r.traffic_notes.as_deref()).unwrap_or_default();
    serde_json::from_str(text).unwrap_or_default()
}

fn names(notes: &Value, key: &str) -> Vec<String> {
    let list = notes.get(key).and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}
