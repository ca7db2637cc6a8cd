//! What the planner sees of a Deployment: plain data, made from the objects as the API server sends
//! them. Templates stay JSON, so that a field this program does not know is never lost.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{NEVER_READY_SECONDS, POD_TEMPLATE_HASH};
use crate::api::{FIELD_MANAGER, KnobFields};

/// A Deployment with its ReplicaSets and their pods.
#[derive(Clone, Debug, PartialEq)]
pub struct DeploymentView {
    /// Name.
    pub name: String,
    /// Uid, sent with every write.
    pub uid: String,
    /// ResourceVersion, sent with every write.
    pub resource_version: String,
    /// `metadata.generation`.
    pub generation: i64,
    /// The generation that the native controller has acted on.
    pub observed_generation: i64,
    /// `spec.replicas`.
    pub replicas: i32,
    /// The fields a release turns, as they are now.
    pub fields: KnobFields,
    /// `spec.template`.
    pub template: Value,
    /// [`template_hash`] of it.
    pub template_hash: String,
    /// The value of the `sluice.dev/wanted` annotation.
    pub wanted: Option<String>,
    /// The labels of `spec.selector`, if it has match labels.
    pub selector: BTreeMap<String, String>,
    /// The ReplicaSets it owns, oldest first.
    pub replica_sets: Vec<ReplicaSetView>,
    /// The object is on its way out.
    pub deleting: bool,
    /// Our entry of `metadata.managedFields`: its place and when it was written last.
    pub owned: Option<(usize, Timestamp)>,
}

/// A ReplicaSet with its pods.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplicaSetView {
    /// Name.
    pub name: String,
    /// Uid.
    pub uid: String,
    /// ResourceVersion.
    pub resource_version: String,
    /// The `pod-template-hash` label.
    pub hash: String,
    /// `deployment.kubernetes.io/revision`.
    pub revision: i64,
    /// `spec.replicas`.
    pub replicas: i32,
    /// `spec.minReadySeconds`.
    pub min_ready_seconds: i32,
    /// `status.replicas`.
    pub status_replicas: i32,
    /// `status.availableReplicas`.
    pub available: i32,
    /// `spec.template` without the hash label.
    pub template: Value,
    /// [`template_hash`] of it.
    pub template_hash: String,
    /// Its pods, by name. Pods that are being deleted are left out.
    pub pods: Vec<PodView>,
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodView {
    /// Name.
    pub name: String,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// Since when it is ready; absent when it is not.
    pub ready_since: Option<Timestamp>,
    /// Why a container does not run, for example `ErrImagePull`.
    pub problem: Option<String>,
}

/// Twelve hex digits that name a pod template: equal templates have equal hashes.
///
/// Not the native `pod-template-hash`, which depends on the API server's Go types; this one is ours,
/// survives an upgrade of either, and is only ever compared with itself.
#[must_use]
pub fn template_hash(template: &Value) -> String {
    let mut text = String::new();
    canonical(&normal_template(template), &mut text);
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().take(6).fold(String::new(), |s, b| s + &format!("{b:02x}"))
}

/// JSON with its keys in order, whatever order they came in.
fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<&String, &Value> = map.iter().collect();
            out.push('{');
            for (key, value) in sorted {
                out.push_str(key);
                out.push(':');
                canonical(value, out);
                out.push(',');
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for item in items {
                canonical(item, out);
                out.push(',');
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

/// The template without what only its ReplicaSet carries: the hash label and an empty timestamp.
#[must_use]
pub fn normal_template(template: &Value) -> Value {
    let mut out = template.clone();
    if let Some(meta) = out.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.remove("creationTimestamp");
        let emptied = meta.get_mut("labels").and_then(Value::as_object_mut).is_some_and(|labels| {
            labels.remove(POD_TEMPLATE_HASH);
            labels.is_empty()
        });
        if emptied {
            meta.remove("labels");
        }
    }
    out
}

/// The value of a number or percentage of `of`, rounded up or down as Kubernetes does.
#[must_use]
pub fn scaled(value: &IntOrString, of: i32, round_up: bool) -> i32 {
    match value {
        IntOrString::Int(i) => *i,
        IntOrString::String(s) => {
            let percent = s.trim_end_matches('%').parse::<i64>().unwrap_or(0);
            let product = percent * i64::from(of);
            let whole = if round_up { (product + 99).div_euclid(100) } else { product / 100 };
            i32::try_from(whole).unwrap_or(i32::MAX)
        }
    }
}

/// The user's own surge and disruption budget on `n` pods: `(maxSurge, maxUnavailable)`, never both 0.
#[must_use]
pub fn budget(fields: &KnobFields, n: i32) -> (i32, i32) {
    let default = IntOrString::String("25%".into());
    let surge = scaled(fields.max_surge.as_ref().unwrap_or(&default), n, true);
    let unavailable = scaled(fields.max_unavailable.as_ref().unwrap_or(&default), n, false);
    if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable.min(n)) }
}

impl DeploymentView {
    /// The ReplicaSet of the template that the Deployment has now.
    #[must_use]
    pub fn current(&self) -> Option<&ReplicaSetView> {
        self.replica_sets.iter().find(|rs| rs.template_hash == self.template_hash)
    }

    /// The ReplicaSet with this pod template hash.
    #[must_use]
    pub fn by_hash(&self, hash: &str) -> Option<&ReplicaSetView> {
        self.replica_sets.iter().find(|rs| rs.hash == hash)
    }

    /// ReplicaSets that want pods or still have some.
    pub fn active(&self) -> impl Iterator<Item = &ReplicaSetView> {
        self.replica_sets.iter().filter(|rs| rs.replicas > 0 || rs.status_replicas > 0)
    }

    /// What all ReplicaSets together want.
    #[must_use]
    pub fn total(&self) -> i32 {
        self.replica_sets.iter().map(|rs| rs.replicas).sum()
    }

    /// The native controller has acted on the newest spec.
    #[must_use]
    pub fn settled(&self) -> bool {
        self.observed_generation >= self.generation
    }

    /// New pods are kept from counting as available.
    #[must_use]
    pub fn under_knob(&self) -> bool {
        self.fields.min_ready_seconds == Some(NEVER_READY_SECONDS)
    }
}

impl ReplicaSetView {
    /// Pods that have been ready for `min_ready_seconds`, and when the next one will have been.
    ///
    /// Kubernetes stamps readiness in whole seconds, rounded down; a pod counts when the whole span has
    /// passed since that stamp, as in the ReplicaSet controller.
    #[must_use]
    pub fn available_after(
        &self,
        min_ready_seconds: i32,
        now: Timestamp,
    ) -> (i32, Option<Timestamp>) {
        let span = SignedDuration::from_secs(i64::from(min_ready_seconds));
        let mut count = 0;
        let mut next: Option<Timestamp> = None;
        for since in self.pods.iter().filter_map(|p| p.ready_since) {
            let at = since.saturating_add(span).unwrap_or(Timestamp::MAX);
            if min_ready_seconds == 0 || at <= now {
                count += 1;
            } else {
                next = Some(next.map_or(at, |n| n.min(at)));
            }
        }
        (count, next)
    }

    /// Pods that are ready now.
    #[must_use]
    pub fn ready(&self) -> i32 {
        i32::try_from(self.pods.iter().filter(|p| p.ready_since.is_some()).count())
            .unwrap_or(i32::MAX)
    }

    /// The first problem of a pod that is not ready.
    #[must_use]
    pub fn problem(&self) -> Option<&str> {
        self.pods.iter().find_map(|p| p.problem.as_deref())
    }
}

/// Our entry of an object's `managedFields`: its place and when it was written last.
pub(crate) fn owned(value: &Value) -> Option<(usize, Timestamp)> {
    let all = value.pointer("/metadata/managedFields")?.as_array()?;
    let index = all.iter().position(|m| {
        m.get("manager").and_then(Value::as_str) == Some(FIELD_MANAGER)
            && m.get("subresource").is_none()
    })?;
    let at = all.get(index)?.get("time").and_then(Value::as_str)?.parse().ok()?;
    Some((index, at))
}
