//! What the ReplicaSet controller decides in one sync: which pods to create or delete, and the
//! counts in the status. Start at [`sync`].
//!
//! As in Kubernetes 1.36 the status counts the pods that were there before this sync's own
//! creations and deletions; the next sync counts those. No expectations are needed, because the
//! driver never decides on a stale store.

mod order;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::claim::{claim, is_owned};
use super::object::{self, Outcome, Write, at, condition, count, int, text};

/// At most so many pods are created or deleted in one sync.
const BURST: usize = 500;

/// A `minReadySeconds` from here on means never: no one waits for it.
const NEVER_SECONDS: i64 = 2_147_483_646;

/// What a sync needs to know beyond the ReplicaSet and its pods.
pub struct Surroundings<'a> {
    /// The pods of all ReplicaSets with the same owner; asked only when some must go.
    pub siblings: &'a dyn Fn() -> Vec<Arc<Value>>,
    /// The time.
    pub now: Timestamp,
}

/// Decides one sync. `pods` are those that the ReplicaSet owns and those without an owner in its
/// namespace.
pub fn sync(set: &Arc<Value>, pods: &[Arc<Value>], around: &Surroundings<'_>) -> Outcome {
    let mut out = Outcome::default();
    let active = claim(set, pods.iter().filter(|pod| is_active(pod)), &mut out);
    let wanted = int(set, &["spec", "replicas"]).unwrap_or(1);
    let wanted = usize::try_from(wanted).unwrap_or_default();
    if !object::is_deleting(set) {
        if active.len() < wanted {
            let missing = (wanted - active.len()).min(BURST);
            let pods = std::iter::repeat_with(|| new_pod(set)).take(missing);
            out.writes.extend(pods.map(Write::Create));
        } else {
            let excess = (active.len() - wanted).min(BURST);
            let chosen = order::first_to_go(&active, excess, around);
            out.writes.extend(chosen.into_iter().map(Write::Delete));
        }
    }
    let terminating = pods.iter().filter(|pod| is_owned(pod, set) && is_terminating(pod)).count();
    let min_ready = count(set, &["spec", "minReadySeconds"]);
    let status = counted(set, &active, terminating, around.now);
    if min_ready > 0 && min_ready < NEVER_SECONDS {
        out.wake = next_available(&active, min_ready, around.now);
    }
    let is_observed = object::generation(set) == count(set, &["status", "observedGeneration"]);
    if !is_observed || !object::same(&status, &set["status"]) {
        let mut changed = (**set).clone();
        changed["status"] = status;
        out.writes.push(Write::UpdateStatus(Arc::new(changed)));
    }
    out
}

pub(super) fn has_ended(pod: &Value) -> bool {
    matches!(text(pod, &["status", "phase"]), "Succeeded" | "Failed")
}

fn is_active(pod: &Value) -> bool {
    !has_ended(pod) && !object::is_deleting(pod)
}

fn is_terminating(pod: &Value) -> bool {
    !has_ended(pod) && object::is_deleting(pod)
}

/// Whether the pod's `Ready` condition is true.
pub(crate) fn is_ready(pod: &Value) -> bool {
    condition(pod, "Ready").is_some_and(|ready| text(ready, &["status"]) == "True")
}

/// Since when the pod is ready.
fn ready_since(pod: &Value) -> Option<Timestamp> {
    let ready = condition(pod, "Ready")?;
    if text(ready, &["status"]) != "True" {
        return None;
    }
    object::time(ready, &["lastTransitionTime"])
}

fn available_at(pod: &Value, min_ready: i64) -> Option<Timestamp> {
    ready_since(pod)?.checked_add(SignedDuration::from_secs(min_ready)).ok()
}

fn next_available(active: &[Arc<Value>], min_ready: i64, now: Timestamp) -> Option<Timestamp> {
    active.iter().filter_map(|pod| available_at(pod, min_ready)).filter(|at| *at > now).min()
}

fn counted(set: &Value, active: &[Arc<Value>], terminating: usize, now: Timestamp) -> Value {
    let min_ready = count(set, &["spec", "minReadySeconds"]);
    let labels = at(set, &["spec", "template", "metadata", "labels"]).and_then(Value::as_object);
    let (mut labelled, mut ready, mut available) = (0, 0, 0);
    for pod in active {
        let has_all = |wanted| object::contains(&pod["metadata"]["labels"], wanted);
        labelled += i64::from(labels.is_none_or(has_all));
        if is_ready(pod) {
            ready += 1;
            let since = available_at(pod, min_ready);
            available += i64::from(min_ready == 0 || since.is_some_and(|since| since <= now));
        }
    }
    let mut status = Map::new();
    status.insert("replicas".to_owned(), active.len().into());
    let counts = [
        ("fullyLabeledReplicas", labelled),
        ("readyReplicas", ready),
        ("availableReplicas", available),
        ("observedGeneration", object::generation(set)),
    ];
    for (field, number) in counts.into_iter().filter(|(_, number)| *number != 0) {
        status.insert(field.to_owned(), number.into());
    }
    status.insert("terminatingReplicas".to_owned(), terminating.into());
    Value::Object(status)
}

/// A pod stamped from the template; the API server names it.
fn new_pod(set: &Value) -> Value {
    let template = &set["spec"]["template"];
    let mut metadata = json!({
        "generateName": format!("{}-", object::name(set)),
        "namespace": object::namespace(set),
        "ownerReferences": [object::controlled_by(set)],
    });
    for field in ["labels", "annotations", "finalizers"] {
        if let Some(value) = at(template, &["metadata", field]) {
            object::set(&mut metadata, &[field], value.clone());
        }
    }
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"] })
}
