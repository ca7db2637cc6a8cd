//! Objects as the planner needs them, read from what the API server sends. What is not needed is not
//! kept: ten thousand pods are a name, an owner and a time each.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::api::{KnobFields, WANTED_ANNOTATION};
use crate::workload::view::{normal_template, owned, template_hash};
use crate::workload::{POD_TEMPLATE_HASH, PodView};

/// The kinds that are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `sluice.dev` Rollout.
    Rollout,
    /// `sluice.dev` Gate.
    Gate,
    /// `sluice.dev` AnalysisRun.
    AnalysisRun,
    /// `sluice.dev` AnalysisTemplate.
    AnalysisTemplate,
    /// `sluice.dev` ClusterAnalysisTemplate.
    ClusterAnalysisTemplate,
    /// `sluice.dev` MetricProvider.
    MetricProvider,
    /// `sluice.dev` ClusterMetricProvider.
    ClusterMetricProvider,
    /// `apps` Deployment.
    Deployment,
    /// `apps` ReplicaSet.
    ReplicaSet,
    /// Pod.
    Pod,
    /// Service.
    Service,
    /// `discovery.k8s.io` EndpointSlice.
    EndpointSlice,
    /// `gateway.networking.k8s.io` HTTPRoute.
    HttpRoute,
    /// `gateway.networking.k8s.io` GRPCRoute.
    GrpcRoute,
    /// `admissionregistration.k8s.io` MutatingAdmissionPolicy.
    Policy,
    /// `admissionregistration.k8s.io` MutatingAdmissionPolicyBinding.
    PolicyBinding,
}

impl Kind {
    /// Every kind, in the order in which watches start.
    pub const ALL: [Self; 16] = [
        Self::Rollout,
        Self::Gate,
        Self::AnalysisRun,
        Self::AnalysisTemplate,
        Self::ClusterAnalysisTemplate,
        Self::MetricProvider,
        Self::ClusterMetricProvider,
        Self::Deployment,
        Self::ReplicaSet,
        Self::Pod,
        Self::Service,
        Self::EndpointSlice,
        Self::HttpRoute,
        Self::GrpcRoute,
        Self::Policy,
        Self::PolicyBinding,
    ];

    /// Group, version, kind and plural.
    #[must_use]
    pub fn names(self) -> (&'static str, &'static str, &'static str, &'static str) {
        const OURS: &str = crate::api::GROUP;
        const V1BETA1: &str = crate::api::VERSION;
        const ADMISSION: &str = "admissionregistration.k8s.io";
        const GATEWAY: &str = "gateway.networking.k8s.io";
        match self {
            Self::Rollout => (OURS, V1BETA1, "Rollout", "rollouts"),
            Self::Gate => (OURS, V1BETA1, "Gate", "gates"),
            Self::AnalysisRun => (OURS, V1BETA1, "AnalysisRun", "analysisruns"),
            Self::AnalysisTemplate => (OURS, V1BETA1, "AnalysisTemplate", "analysistemplates"),
            Self::ClusterAnalysisTemplate => {
                (OURS, V1BETA1, "ClusterAnalysisTemplate", "clusteranalysistemplates")
            }
            Self::MetricProvider => (OURS, V1BETA1, "MetricProvider", "metricproviders"),
            Self::ClusterMetricProvider => {
                (OURS, V1BETA1, "ClusterMetricProvider", "clustermetricproviders")
            }
            Self::Deployment => ("apps", "v1", "Deployment", "deployments"),
            Self::ReplicaSet => ("apps", "v1", "ReplicaSet", "replicasets"),
            Self::Pod => ("", "v1", "Pod", "pods"),
            Self::Service => ("", "v1", "Service", "services"),
            Self::EndpointSlice => ("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices"),
            Self::HttpRoute => (GATEWAY, "v1", "HTTPRoute", "httproutes"),
            Self::GrpcRoute => (GATEWAY, "v1", "GRPCRoute", "grpcroutes"),
            Self::Policy => {
                (ADMISSION, "v1", "MutatingAdmissionPolicy", "mutatingadmissionpolicies")
            }
            Self::PolicyBinding => (
                ADMISSION,
                "v1",
                "MutatingAdmissionPolicyBinding",
                "mutatingadmissionpolicybindings",
            ),
        }
    }

    /// True for kinds without a namespace.
    #[must_use]
    pub fn cluster_scoped(self) -> bool {
        matches!(
            self,
            Self::ClusterAnalysisTemplate
                | Self::ClusterMetricProvider
                | Self::Policy
                | Self::PolicyBinding
        )
    }
}

/// An object's identity and age.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Object {
    /// Namespace; empty for cluster-scoped kinds.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Uid.
    pub uid: String,
    /// `metadata.resourceVersion` as a number; 0 when it is none. Kubernetes 1.35 and later promise that
    /// these are ordered within a resource; every server before did the same.
    pub version: u64,
    /// The controlling owner's uid.
    pub owner: Option<String>,
}

impl Object {
    /// Reads the metadata of an object.
    #[must_use]
    pub fn of(value: &Value) -> Self {
        let text = |path: &str| {
            value.pointer(path).and_then(Value::as_str).map(str::to_owned).unwrap_or_default()
        };
        let owners = value.pointer("/metadata/ownerReferences").and_then(Value::as_array);
        let owner = owners.and_then(|all| {
            let mine = all.iter().find(|o| o.get("controller") == Some(&Value::Bool(true)))?;
            mine.get("uid")?.as_str().map(str::to_owned)
        });
        Self {
            namespace: text("/metadata/namespace"),
            name: text("/metadata/name"),
            uid: text("/metadata/uid"),
            version: text("/metadata/resourceVersion").parse().unwrap_or(0),
            owner,
        }
    }
}

/// Which object, and how old: a write that carries both is refused when somebody else wrote in between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Uid.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub resource_version: String,
}

impl Version {
    /// Reads it from an object.
    #[must_use]
    pub fn of(value: &Value) -> Self {
        Self {
            uid: text(value, "/metadata/uid").unwrap_or_default(),
            resource_version: text(value, "/metadata/resourceVersion").unwrap_or_default(),
        }
    }
}

/// Whether this is an object's last form: it is being deleted, and nobody holds it back any more. Pods are
/// left alone, which live on for their grace.
pub(crate) fn is_over(kind: Kind, value: &Value) -> bool {
    let held = value.pointer("/metadata/finalizers").and_then(Value::as_array);
    kind != Kind::Pod
        && value.pointer("/metadata/deletionTimestamp").is_some()
        && held.is_none_or(Vec::is_empty)
}

/// What the gate is made of: the versions of the shipped policy and binding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GatePolicy {
    /// ResourceVersion of the policy, if it exists.
    pub policy: Option<u64>,
    /// ResourceVersion of its binding, if it exists.
    pub binding: Option<u64>,
}

/// A Deployment without its ReplicaSets.
#[derive(Clone, Debug)]
pub(crate) struct DeploymentObject {
    pub(crate) meta: Object,
    pub(crate) resource_version: String,
    pub(crate) generation: i64,
    pub(crate) observed_generation: i64,
    pub(crate) replicas: i32,
    pub(crate) fields: KnobFields,
    pub(crate) template: Value,
    pub(crate) template_hash: String,
    pub(crate) wanted: Option<String>,
    pub(crate) selector: BTreeMap<String, String>,
    pub(crate) deleting: bool,
    pub(crate) owned: Option<(usize, Timestamp)>,
}

/// A ReplicaSet without its pods.
#[derive(Clone, Debug)]
pub(crate) struct ReplicaSetObject {
    pub(crate) meta: Object,
    pub(crate) generation: i64,
    pub(crate) resource_version: String,
    pub(crate) hash: String,
    pub(crate) revision: i64,
    pub(crate) replicas: i32,
    pub(crate) min_ready_seconds: i32,
    pub(crate) status_replicas: i32,
    pub(crate) available: i32,
    pub(crate) template: Value,
    pub(crate) template_hash: String,
    pub(crate) created: String,
}

fn number(value: &Value, path: &str) -> Option<i32> {
    value.pointer(path).and_then(Value::as_i64).and_then(|n| i32::try_from(n).ok())
}

fn long(value: &Value, path: &str) -> i64 {
    value.pointer(path).and_then(Value::as_i64).unwrap_or(0)
}

fn text(value: &Value, path: &str) -> Option<String> {
    value.pointer(path).and_then(Value::as_str).map(str::to_owned)
}

fn read<T: for<'de> Deserialize<'de>>(value: &Value, path: &str) -> Option<T> {
    value.pointer(path).and_then(|v| T::deserialize(v).ok())
}

/// A pod template and which object of which generation it was read from.
struct Template {
    uid: String,
    generation: i64,
    json: Value,
    hash: String,
}

impl Template {
    /// What was read before.
    fn known(of: Object, generation: i64, json: Value, hash: String) -> Self {
        Self { uid: of.uid, generation, json, hash }
    }

    /// The template of an object. An unchanged generation cannot have changed it: copying and hashing it is
    /// most of what a status write of a workload would cost.
    fn of(value: &Value, generation: i64, known: Option<Self>, read: fn(&Value) -> Value) -> Self {
        let uid = text(value, "/metadata/uid").unwrap_or_default();
        let same = |k: &Self| generation != 0 && generation == k.generation && uid == k.uid;
        known.filter(same).unwrap_or_else(|| {
            let json = value.pointer("/spec/template").map(read).unwrap_or_default();
            Self { hash: template_hash(&json), uid, generation, json }
        })
    }
}

impl DeploymentObject {
    /// Reads a Deployment; what an unchanged generation cannot have changed is taken from `before`.
    pub(crate) fn of(value: &Value, before: Option<Self>) -> Self {
        let generation = long(value, "/metadata/generation");
        let known =
            before.map(|b| Template::known(b.meta, b.generation, b.template, b.template_hash));
        let Template { json: template, hash: template_hash, .. } =
            Template::of(value, generation, known, Value::clone);
        let wanted = value.pointer("/metadata/annotations").and_then(|a| a.get(WANTED_ANNOTATION));
        Self {
            meta: Object::of(value),
            resource_version: text(value, "/metadata/resourceVersion").unwrap_or_default(),
            generation,
            observed_generation: long(value, "/status/observedGeneration"),
            replicas: number(value, "/spec/replicas").unwrap_or(1),
            fields: KnobFields {
                min_ready_seconds: number(value, "/spec/minReadySeconds").filter(|s| *s != 0),
                progress_deadline_seconds: number(value, "/spec/progressDeadlineSeconds"),
                type_: text(value, "/spec/strategy/type"),
                max_surge: read(value, "/spec/strategy/rollingUpdate/maxSurge"),
                max_unavailable: read(value, "/spec/strategy/rollingUpdate/maxUnavailable"),
                paused: value.pointer("/spec/paused") == Some(&Value::Bool(true)),
            },
            template_hash,
            template,
            wanted: wanted.and_then(Value::as_str).map(str::to_owned),
            selector: read(value, "/spec/selector/matchLabels").unwrap_or_default(),
            deleting: value.pointer("/metadata/deletionTimestamp").is_some(),
            owned: owned(value),
        }
    }
}

impl ReplicaSetObject {
    /// Reads a ReplicaSet; what an unchanged generation cannot have changed is taken from `before`.
    pub(crate) fn of(value: &Value, before: Option<Self>) -> Self {
        let labels = value.pointer("/metadata/labels");
        let hash = labels.and_then(|l| l.get(POD_TEMPLATE_HASH)).and_then(Value::as_str);
        let annotations = value.pointer("/metadata/annotations");
        let revision = annotations
            .and_then(|a| a.get("deployment.kubernetes.io/revision"))
            .and_then(Value::as_str)
            .and_then(|r| r.parse().ok());
        let generation = long(value, "/metadata/generation");
        let known =
            before.map(|b| Template::known(b.meta, b.generation, b.template, b.template_hash));
        let Template { json: template, hash: template_hash, .. } =
            Template::of(value, generation, known, normal_template);
        Self {
            meta: Object::of(value),
            resource_version: text(value, "/metadata/resourceVersion").unwrap_or_default(),
            hash: hash.unwrap_or_default().to_owned(),
            revision: revision.unwrap_or(0),
            replicas: number(value, "/spec/replicas").unwrap_or(1),
            min_ready_seconds: number(value, "/spec/minReadySeconds").unwrap_or(0),
            status_replicas: number(value, "/status/replicas").unwrap_or(0),
            available: number(value, "/status/availableReplicas").unwrap_or(0),
            generation,
            template_hash,
            template,
            created: text(value, "/metadata/creationTimestamp").unwrap_or_default(),
        }
    }
}

/// The pod, or `None` when it is on its way out.
pub(crate) fn pod_view(value: &Value) -> Option<PodView> {
    let over = matches!(
        value.pointer("/status/phase").and_then(Value::as_str),
        Some("Succeeded" | "Failed")
    );
    if over || value.pointer("/metadata/deletionTimestamp").is_some() {
        return None;
    }
    let conditions = value.pointer("/status/conditions").and_then(Value::as_array);
    let ready = conditions.and_then(|all| {
        all.iter().find(|c| {
            c.get("type").is_some_and(|t| t == "Ready")
                && c.get("status").is_some_and(|s| s == "True")
        })
    });
    let since = ready.map(|c| {
        let at = c.get("lastTransitionTime").and_then(Value::as_str);
        at.and_then(|t| t.parse::<Timestamp>().ok()).unwrap_or(Timestamp::UNIX_EPOCH)
    });
    let statuses = value.pointer("/status/containerStatuses").and_then(Value::as_array);
    let problem = statuses.and_then(|all| {
        all.iter().find_map(|s| {
            let reason = s.pointer("/state/waiting/reason")?.as_str()?;
            (!matches!(reason, "ContainerCreating" | "PodInitializing")).then(|| reason.to_owned())
        })
    });
    Some(PodView {
        name: text(value, "/metadata/name").unwrap_or_default(),
        created: text(value, "/metadata/creationTimestamp").and_then(|at| at.parse().ok()),
        ready_since: since,
        problem,
    })
}

/// How many ready endpoints a slice has.
pub(crate) fn ready_endpoints(value: &Value) -> i32 {
    let Some(all) = value.get("endpoints").and_then(Value::as_array) else { return 0 };
    let ready = |e: &&Value| e.pointer("/conditions/ready") != Some(&Value::Bool(false));
    i32::try_from(all.iter().filter(ready).count()).unwrap_or(i32::MAX)
}
