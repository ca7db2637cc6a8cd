use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Surroundings, sync};
use crate::sim::controllers::object::{Outcome, Write, name};

fn now() -> Timestamp {
    "2026-01-01T01:00:00Z".parse().unwrap()
}

fn set(replicas: i64, min_ready: i64) -> Arc<Value> {
    Arc::new(json!({
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": { "name": "web", "namespace": "default", "uid": "rs", "generation": 3 },
        "spec": {
            "replicas": replicas,
            "minReadySeconds": min_ready,
            "selector": { "matchLabels": { "app": "web" } },
            "template": {
                "metadata": { "labels": { "app": "web", "tier": "front" } },
                "spec": { "containers": [{ "name": "web", "image": "web:v1" }] },
            },
        },
        "status": {},
    }))
}

/// A ready pod on `node-1`, with the given fields over it.
fn pod(name: &str, over: Value) -> Arc<Value> {
    let mut pod = json!({
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": name,
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": { "app": "web", "tier": "front" },
            "ownerReferences": [{ "kind": "ReplicaSet", "uid": "rs", "controller": true }],
        },
        "spec": { "nodeName": "node-1" },
        "status": ready_since("2026-01-01T00:10:00Z"),
    });
    json_patch::merge(&mut pod, &over);
    Arc::new(pod)
}

fn ready_since(time: &str) -> Value {
    json!({
        "phase": "Running",
        "conditions": [{ "type": "Ready", "status": "True", "lastTransitionTime": time }],
    })
}

fn decide(set: &Arc<Value>, pods: &[Arc<Value>]) -> Outcome {
    sync(set, pods, &Surroundings { siblings: &|| pods.to_vec(), now: now() })
}

fn deleted(outcome: &Outcome) -> Vec<&str> {
    let deleted = outcome.writes.iter().filter_map(|write| match write {
        Write::Delete(pod) => Some(name(pod)),
        _ => None,
    });
    deleted.collect()
}

fn status(outcome: &Outcome) -> &Value {
    let found = outcome.writes.iter().find_map(|write| match write {
        Write::UpdateStatus(set) => Some(&set["status"]),
        _ => None,
    });
    found.expect("the status is written")
}

#[test]
fn of_two_pods_the_one_that_is_worth_less_goes() {
    let keep = || pod("z-keep", json!({}));
    let table = [
        ("unassigned", json!({ "spec": { "nodeName": "" } })),
        ("pending", json!({ "status": { "phase": "Pending" } })),
        (
            "not ready",
            json!({ "status": { "conditions": [{ "type": "Ready", "status": "False" }] } }),
        ),
        (
            "cheap",
            json!({ "metadata": {
                "annotations": { "controller.kubernetes.io/pod-deletion-cost": "-1" },
            } }),
        ),
        ("ready for a shorter time", json!({ "status": ready_since("2026-01-01T00:59:00Z") })),
        ("restarted", json!({ "status": { "containerStatuses": [{ "restartCount": 1 }] } })),
        ("younger", json!({ "metadata": { "creationTimestamp": "2026-01-01T00:50:00Z" } })),
        ("of a lower uid among equals", json!({})),
    ];
    for (what, over) in table {
        let pods = [keep(), pod("a-go", over)];
        assert_eq!(deleted(&decide(&set(1, 0), &pods)), ["a-go"], "{what}");
    }
}

#[test]
fn a_pod_on_the_fuller_node_goes_first() {
    let alone = pod("a-alone", json!({ "spec": { "nodeName": "node-2" } }));
    let pods = [alone, pod("b", json!({})), pod("c", json!({}))];
    assert_eq!(deleted(&decide(&set(2, 0), &pods)), ["b"]);
}

#[test]
fn what_is_decided_first_outweighs_all_that_follows() {
    let pending = pod("z", json!({ "status": { "phase": "Pending" } }));
    let cost = json!({ "controller.kubernetes.io/pod-deletion-cost": "-100" });
    let cheap = pod("a", json!({ "metadata": { "annotations": cost } }));
    assert_eq!(deleted(&decide(&set(1, 0), &[cheap, pending])), ["z"]);
}

#[test]
fn missing_pods_are_stamped_from_the_template() {
    let outcome = decide(&set(3, 0), &[pod("one", json!({}))]);
    let created: Vec<&Value> = outcome
        .writes
        .iter()
        .filter_map(|write| match write {
            Write::Create(pod) => Some(pod),
            _ => None,
        })
        .collect();
    assert_eq!(created.len(), 2);
    let metadata = &created[0]["metadata"];
    assert_eq!(metadata["generateName"], "web-");
    assert_eq!(metadata["labels"], json!({ "app": "web", "tier": "front" }));
    assert_eq!(metadata["ownerReferences"][0]["uid"], "rs");
    assert_eq!(created[0]["spec"]["containers"][0]["image"], "web:v1");
    assert_eq!(status(&outcome)["replicas"], 1, "the new ones are counted the next time");
}

#[test]
fn the_status_counts_what_is_active_labelled_ready_and_available() {
    let pods = [
        pod("long-ready", json!({})),
        pod("just-ready", json!({ "status": ready_since("2026-01-01T00:59:50Z") })),
        pod("pending", json!({ "status": { "phase": "Pending", "conditions": null } })),
        pod("half-labelled", json!({ "metadata": { "labels": { "tier": null } } })),
        pod("leaving", json!({ "metadata": { "deletionTimestamp": "2026-01-01T01:00:30Z" } })),
        pod("failed", json!({ "status": { "phase": "Failed" } })),
    ];
    let outcome = decide(&set(4, 30), &pods);
    assert_eq!(
        *status(&outcome),
        json!({
            "replicas": 4,
            "fullyLabeledReplicas": 3,
            "readyReplicas": 3,
            "availableReplicas": 2,
            "terminatingReplicas": 1,
            "observedGeneration": 3,
        })
    );
    assert_eq!(outcome.wake, Some("2026-01-01T01:00:20Z".parse().unwrap()));
}

#[test]
fn min_ready_seconds_of_the_knob_wake_nobody() {
    let outcome = decide(&set(1, 2_147_483_646), &[pod("one", json!({}))]);
    assert_eq!(outcome.wake, None);
    assert_eq!(status(&outcome).get("availableReplicas"), None);
}

#[test]
fn a_status_that_is_right_is_not_written() {
    let pods = [pod("one", json!({}))];
    let mut known = (*set(1, 0)).clone();
    known["status"] = status(&decide(&set(1, 0), &pods)).clone();
    assert_eq!(decide(&Arc::new(known), &pods), Outcome::default());
}

#[test]
fn an_orphan_that_matches_is_adopted_and_an_own_pod_that_does_not_is_let_go() {
    let orphan = pod("orphan", json!({ "metadata": { "ownerReferences": null } }));
    let stranger = pod("stranger", json!({ "metadata": { "labels": { "app": "other" } } }));
    let outcome = decide(&set(1, 0), &[orphan, stranger]);
    let owners: Vec<(&str, usize)> = outcome
        .writes
        .iter()
        .filter_map(|write| match write {
            Write::Update(pod) => {
                Some((name(pod), pod["metadata"]["ownerReferences"].as_array().unwrap().len()))
            }
            _ => None,
        })
        .collect();
    assert_eq!(owners, [("orphan", 1), ("stranger", 0)]);
    assert_eq!(status(&outcome)["replicas"], 1);
    assert!(deleted(&outcome).is_empty());
}
