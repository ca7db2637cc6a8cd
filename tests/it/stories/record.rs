//! Everything that happened to the objects of a namespace, in the order of the API server, and what
//! must hold of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use crate::checkers::Checker;
use crate::world::image_of;

/// After a scale event of the user's, pods have this many seconds before they are counted again; then
/// until the numbers are right for the first time.
const EXCUSE: i64 = 5;

/// One change of one object.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The API server's order over all objects.
    pub version: u64,
    /// When it was seen.
    pub at: Timestamp,
    /// Plural name of the resource.
    pub plural: String,
    /// It was deleted.
    pub gone: bool,
    /// As it is now.
    pub object: Arc<Value>,
}

/// The resources that are followed: group, version, plural.
pub const FOLLOWED: [(&str, &str, &str); 9] = [
    ("", "v1", "pods"),
    ("apps", "v1", "replicasets"),
    ("apps", "v1", "deployments"),
    ("", "v1", "services"),
    ("discovery.k8s.io", "v1", "endpointslices"),
    ("gateway.networking.k8s.io", "v1", "httproutes"),
    ("gateway.networking.k8s.io", "v1", "grpcroutes"),
    ("sluice.dev", "v1beta1", "rollouts"),
    ("sluice.dev", "v1beta1", "gates"),
];

/// Brings changes into the order of the API server.
pub fn in_order(mut changes: Vec<Seen>) -> Vec<Seen> {
    changes.sort_by_key(|change| change.version);
    changes
}

/// What was broken after `start`, when everything was at rest.
pub fn broken(changes: &[Seen], start: u64, deployment: &Value) -> Vec<String> {
    let threshold = "/spec/strategy/canary/failureThreshold";
    let all = |change: &Seen| {
        change.plural == "rollouts"
            && change.object.pointer(threshold).is_some_and(|share| share == "100%")
    };
    let mut checker = Checker::of_user(deployment, EXCUSE).tolerant(changes.iter().any(all));
    for change in changes {
        let Seen { plural, gone, object, at, .. } = change;
        if change.version <= start {
            checker.learn(plural, *gone, object, *at);
        } else {
            checker.see(plural, *gone, object, *at);
        }
    }
    checker.found
}

/// The sizes of one ReplicaSet, one after the other. What only lies on the way from one size to the
/// next is left out: how many writes the way took is a matter of when pods got ready. A size that was
/// there when the Rollout came to something (a step, its pods, a phase), and one at which it turned,
/// stays. Nothing is lost by that: [`broken`] looks at every change of both clusters by itself, so a size
/// on the way that is not allowed is found there, and this compares what the planner decided.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Sizes(Vec<(i64, bool)>);

impl Sizes {
    fn now(&mut self, size: i64) {
        if self.0.last().is_none_or(|(last, _)| *last != size) {
            self.0.push((size, false));
        }
    }

    fn mark(&mut self) {
        if let Some((_, marked)) = self.0.last_mut() {
            *marked = true;
        }
    }

    /// A ReplicaSet may begin with its first size or with none.
    fn coalesced(&self) -> Vec<i64> {
        let mut out: Vec<i64> = Vec::new();
        for (i, (size, marked)) in self.0.iter().enumerate() {
            let before = out.last().copied();
            let after = self.0.get(i + 1).map(|(next, _)| *next);
            let on_the_way = match (before, after) {
                (Some(before), Some(after)) => (before < *size) == (*size < after),
                _ => false,
            };
            if (*marked || !on_the_way) && before != Some(*size) {
                out.push(*size);
            }
        }
        if out.first() == Some(&0) && out.len() > 1 {
            out.remove(0);
        }
        out
    }
}

/// What a Rollout has come to; nothing while it lets go, and the native controller goes its own way.
fn mark_of(rollout: &Value) -> Option<String> {
    let status = &rollout["status"];
    let release = &status["release"];
    if release["stage"] == "LettingGo" || status["lastRelease"]["decision"] == "LetGo" {
        return None;
    }
    let looked_at = ["StepTrafficRouting", "StepMetricsAnalysis", "StepPaused", "StepReady"];
    let arrived = release["state"].as_str().is_some_and(|state| looked_at.contains(&state));
    let (id, stage, step) = (&release["id"], &release["stage"], &release["step"]);
    Some(format!("{} {id} {stage} {step} {arrived}", status["phase"]))
}

/// By image: the coalesced sizes of its ReplicaSet.
pub fn sequences(changes: &[Seen]) -> BTreeMap<String, Vec<i64>> {
    let mut all: BTreeMap<String, Sizes> = BTreeMap::new();
    let mut last: BTreeMap<String, String> = BTreeMap::new();
    for change in changes {
        match &*change.plural {
            "replicasets" => {
                let size = change.object["spec"]["replicas"].as_i64().unwrap_or(0);
                let size = if change.gone { 0 } else { size };
                all.entry(image_of(&change.object)).or_default().now(size);
            }
            "rollouts" => {
                let Some(mark) = mark_of(&change.object) else { continue };
                let name = change.object["metadata"]["name"].to_string();
                if last.insert(name, mark.clone()).as_ref() != Some(&mark) {
                    all.values_mut().for_each(Sizes::mark);
                }
            }
            _ => {}
        }
    }
    all.into_iter().map(|(image, sizes)| (image, sizes.coalesced())).collect()
}

#[test]
fn the_way_is_left_out_and_turns_and_marks_stay() {
    let mut sizes = Sizes::default();
    for size in [0, 1, 2] {
        sizes.now(size);
    }
    sizes.mark();
    for size in [3, 5, 4, 2, 7] {
        sizes.now(size);
    }
    assert_eq!(sizes.coalesced(), [2, 5, 2, 7]);
}
