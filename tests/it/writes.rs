//! What a release writes: every write is a change of a decision, and none is made for a single pod.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use sluice::sim::apiserver::Fault;
use sluice::sim::cluster::{ACCOUNT, USER};

use crate::world::{Shape, WEB, get, rollouts, seconds, set_image};

const STEPS: usize = 5;

/// What the controller writes in a release of five steps without a pause, in order.
async fn writes(routed: bool) -> Vec<String> {
    let step = |i: usize| {
        let share = format!("{}%", i * 100 / STEPS);
        let mut step = json!({"replicas": share, "pause": {"duration": 0}});
        if routed {
            step["traffic"] = json!(share);
        }
        step
    };
    let shape = Shape {
        replicas: 10,
        max_surge: json!("25%"),
        max_unavailable: json!("25%"),
        routed,
        steps: Value::Array((1..=STEPS).map(step).collect()),
        ready_after: seconds(0),
    };
    let mut cluster = shape.cluster(1, "web:v1").await;
    cluster.server.create(USER, shape.rollout()).unwrap();
    cluster.run_for(seconds(10)).await;
    let book = Arc::<Mutex<Vec<String>>>::default();
    let lines = book.clone();
    cluster.server.faults().set(Box::new(move |request| {
        let is_ours = request.user == ACCOUNT && request.writes();
        if is_ours && request.resource != "events" {
            let sub = request.subresource.as_deref().map(|s| format!("/{s}")).unwrap_or_default();
            let line = format!("{} {}{sub}", request.verb, request.resource);
            lines.lock().unwrap().push(line);
        }
        Fault::Pass
    }));
    set_image(&cluster.server, "web:v2");
    cluster.run_for(seconds(30)).await;
    let status = get(&cluster.server, &rollouts(), WEB)["status"].clone();
    assert_eq!(status["lastRelease"]["decision"], "Promoted", "{status}");
    book.lock().unwrap().clone()
}

fn by_kind(all: &[String]) -> BTreeMap<&str, usize> {
    let mut out = BTreeMap::new();
    for line in all {
        *out.entry(line.as_str()).or_default() += 1;
    }
    out
}

/// What there is once: the Gate's entry, the finalizer and the last status; with a route the pin, the
/// canary Service, the notes of both, the route restored and ours taken out of `managedFields`. A step has
/// two writes for its pods (surge first), of which the very last gives the user's fields back, one for the
/// status and one for the route.
#[tokio::test]
async fn a_release_writes_for_each_step_and_not_for_each_pod() {
    for (routed, once, each) in [(false, 5, 3), (true, 14, 4)] {
        let all = writes(routed).await;
        let kinds = by_kind(&all);
        let right = once + each * STEPS;
        assert_eq!(all.len(), right, "routed: {routed}: {kinds:#?}");
    }
}
