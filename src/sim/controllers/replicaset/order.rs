//! Which pods go first when a ReplicaSet has too many.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use super::super::object::{self, annotation, count, items, text};
use super::{Surroundings, is_active, is_ready, ready_since};

const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// The first `excess` pods in the order of deletion: unassigned, pending, not ready, cheap, on a
/// crowded node, ready for a short time, often restarted, young; times count by their logarithm,
/// and the uid decides among equals.
///
/// Upstream lets the uid decide as soon as two ready times differ within one logarithm; here
/// restarts and age come before it, because a sort needs a total order.
pub(super) fn first_to_go(
    active: &[Arc<Value>],
    excess: usize,
    around: &Surroundings<'_>,
) -> Vec<Arc<Value>> {
    if excess == 0 || excess >= active.len() {
        return active.iter().take(excess).cloned().collect();
    }
    let siblings = (around.siblings)();
    let mut on_node: BTreeMap<&str, usize> = BTreeMap::new();
    for pod in siblings.iter().filter(|pod| is_active(pod)) {
        *on_node.entry(node(pod)).or_default() += 1;
    }
    let mut ranked: Vec<_> = active
        .iter()
        .map(|pod| {
            let crowd = on_node.get(node(pod)).copied().unwrap_or_default();
            (rank(pod, crowd, around.now), pod)
        })
        .collect();
    ranked.sort_by(|one, other| one.0.cmp(&other.0));
    ranked.into_iter().take(excess).map(|(_, pod)| Arc::clone(pod)).collect()
}

fn node(pod: &Value) -> &str {
    text(pod, &["spec", "nodeName"])
}

type Rank<'a> = (bool, u8, bool, i64, Reverse<usize>, i32, Reverse<i64>, i32, &'a str);

fn rank(pod: &Value, crowd: usize, now: Timestamp) -> Rank<'_> {
    let phase = match text(pod, &["status", "phase"]) {
        "Running" => 2,
        "Unknown" => 1,
        _ => 0,
    };
    let cost = annotation(pod, DELETION_COST).and_then(|cost| cost.parse().ok()).unwrap_or(0);
    let containers = items(pod, &["status", "containerStatuses"]);
    let restarts = containers.iter().map(|own| count(own, &["restartCount"])).max().unwrap_or(0);
    (
        !node(pod).is_empty(),
        phase,
        is_ready(pod),
        cost,
        Reverse(crowd),
        ready_since(pod).map_or(0, |since| magnitude(since, now)),
        Reverse(restarts),
        object::time(pod, &["metadata", "creationTimestamp"]).map_or(0, |at| magnitude(at, now)),
        object::uid(pod),
    )
}

/// The binary logarithm of the nanoseconds since then; -1 when it is not in the past.
fn magnitude(then: Timestamp, now: Timestamp) -> i32 {
    let nanoseconds = now.duration_since(then).as_nanos();
    u128::try_from(nanoseconds)
        .ok()
        .and_then(u128::checked_ilog2)
        .and_then(|log| i32::try_from(log).ok())
        .unwrap_or(-1)
}
