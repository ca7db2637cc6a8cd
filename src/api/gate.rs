//! `Gate`: what is gated and held in a namespace. The admission policies' parameter.
//!
//! One object per namespace, named `sluice`, written by the controller alone. Whoever deletes it,
//! or takes an entry out, lets go of the workload at once, with or without a controller alive.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// What is gated and held in this namespace.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "sluice.dev",
    version = "v1beta1",
    kind = "Gate",
    plural = "gates",
    namespaced,
    derive = "PartialEq",
    category = "sluice",
    validation = Rule::new("self.metadata.name == 'sluice'")
        .message("a namespace has one Gate, named sluice; the controller writes it")
)]
#[serde(rename_all = "camelCase")]
pub struct GateSpec {
    /// The user name of the controller, as the API server knows it. Only this account moves what is
    /// held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub account: Option<String>,
    /// Deployments, by name. An entry means gated; an entry with a release means held.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub deployments: BTreeMap<String, GateEntry>,
    /// Deployments that were let go in mid-release, by name: while two of their ReplicaSets live they stay
    /// at `maxSurge` 0. Nothing here gates or holds.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub let_go: BTreeMap<String, LetGo>,
}

/// What a Deployment that was let go gets back when one ReplicaSet of it is left, or when a release takes
/// it up again.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct LetGo {
    /// The Rollout that let it go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<String>,
    /// Uid of the Deployment: another one of the same name is another user's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
    /// The user's own `spec.strategy.rollingUpdate.maxSurge`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_surge: Option<IntOrString>,
    /// The user's own `spec.strategy.rollingUpdate.maxUnavailable`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<IntOrString>,
    /// What `maxSurge` was left with: the pods that were too many. Absent for 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub surge: Option<i32>,
}

/// What is known of one gated workload.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct GateEntry {
    /// The Rollout that gates the workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<String>,
    /// The release under way. While it is set, nobody but `account` moves the workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// True: a person paused the workload while it was idle, and the pause is theirs to lift.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_by_user: Option<bool>,
    /// The user's own `minReadySeconds`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_ready_seconds: Option<i32>,
    /// The user's fields as they were before the release, to be restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub originals: Option<KnobFields>,
}

/// The fields of a Deployment that a release turns. An absent field was absent on the object.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct KnobFields {
    /// `spec.minReadySeconds`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_ready_seconds: Option<i32>,
    /// `spec.progressDeadlineSeconds`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress_deadline_seconds: Option<i32>,
    /// `spec.strategy.type`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<String>,
    /// `spec.strategy.rollingUpdate.maxSurge`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_surge: Option<IntOrString>,
    /// `spec.strategy.rollingUpdate.maxUnavailable`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<IntOrString>,
    /// `spec.paused`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
}
