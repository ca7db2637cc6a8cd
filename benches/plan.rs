//! `rollout::plan` on one Rollout of 10 steps whose Deployment has 1,000 pods.
#![allow(clippy::disallowed_methods, clippy::expect_used, reason = "a bench measures real time")]

#[path = "common/spread.rs"]
mod spread;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};
use sluice::api::{GateSpec, KnobFields, Rollout};
use sluice::rollout::{Action, GateView, Proof, Snapshot, plan};
use sluice::workload::view::template_hash;
use sluice::workload::{DeploymentView, PodView, ReplicaSetView};

const PODS: i32 = 1_000;
const LOOKS: usize = 5_000;

fn main() {
    let now: Timestamp = "2026-01-01T00:10:00Z".parse().expect("a timestamp");
    for (name, step, new) in [("between releases", None, 0), ("in a step", Some(4), 500)] {
        let snapshot = under_way(step, new, now);
        let mut spans = Vec::with_capacity(LOOKS);
        for _ in 0..LOOKS {
            let began = Instant::now();
            black_box(plan(black_box(&snapshot), now));
            spans.push(began.elapsed());
        }
        let made = plan(&snapshot, now);
        let waiting = made.waiting.map_or_else(|| "nothing".to_owned(), |w| w.what);
        println!("plan, 10 steps, {PODS} pods, {name}: {}", spread::of(&mut spans));
        println!("    it waits for {waiting}; actions: {}", made.actions.len());
    }
    clone(now);
}

/// What a snapshot of this size costs to copy, for comparison.
fn clone(now: Timestamp) {
    let snapshot = under_way(Some(4), 500, now);
    let mut spans: Vec<Duration> = (0..LOOKS)
        .map(|_| {
            let began = Instant::now();
            black_box(snapshot.clone());
            began.elapsed()
        })
        .collect();
    println!("a copy of the snapshot, for comparison: {}", spread::of(&mut spans));
}

/// The snapshot in the given step, with `new` of the pods on the new version and ready.
fn under_way(step: Option<i32>, new: i32, now: Timestamp) -> Snapshot {
    let mut snapshot = Snapshot {
        rollout: rollout(),
        account: "sluice".into(),
        workload: Some(workload("v1", 0, now)),
        gate: None,
        proof: Proof::Held { at: now },
        services: BTreeMap::new(),
        endpoints: BTreeMap::new(),
        routes: BTreeMap::new(),
        splits: BTreeMap::new(),
        runs: BTreeMap::new(),
        templates: BTreeMap::new(),
        hooks: BTreeMap::new(),
        calibration: None,
        rival: None,
        refusal: None,
    };
    settle(&mut snapshot, now);
    if let Some(step) = step {
        snapshot.workload = Some(workload("v2", new, now));
        (0..4).for_each(|_| settle(&mut snapshot, now));
        let release = snapshot.rollout.status.as_mut().and_then(|s| s.release.as_mut());
        let release = release.expect("a new template starts a release");
        release.step = step;
        release.frozen_step = None;
        (0..4).for_each(|_| settle(&mut snapshot, now));
    }
    snapshot
}

/// The status and the gate as the engine itself leaves them.
fn settle(snapshot: &mut Snapshot, now: Timestamp) {
    let made = plan(snapshot, now);
    snapshot.rollout.status = Some(made.status);
    let entry = made.actions.into_iter().find_map(|action| match action {
        Action::Gate { entry, .. } => entry,
        _ => None,
    });
    if let Some(entry) = entry {
        let deployments = [("web".to_owned(), *entry)].into();
        let account = Some(snapshot.account.clone());
        let spec = GateSpec { account, deployments, ..GateSpec::default() };
        snapshot.gate = Some(GateView { spec });
    }
}

/// The Deployment with the template of `tag`; another than `v1` is held.
fn workload(tag: &str, new: i32, now: Timestamp) -> DeploymentView {
    let (old_template, new_template, shown) = (template("v1"), template("v2"), template(tag));
    DeploymentView {
        name: "web".into(),
        uid: "6f2f4f0e-0000-4000-8000-000000000001".into(),
        resource_version: "1000".into(),
        generation: 7,
        observed_generation: 7,
        replicas: PODS,
        fields: KnobFields {
            progress_deadline_seconds: Some(600),
            type_: Some("RollingUpdate".into()),
            paused: tag != "v1",
            ..KnobFields::default()
        },
        template_hash: template_hash(&shown),
        template: shown,
        wanted: None,
        selector: BTreeMap::from([("app".into(), "web".into())]),
        replica_sets: vec![
            replica_set("v1", &old_template, PODS - new, now),
            replica_set("v2", &new_template, new, now),
        ],
        deleting: false,
        owned: None,
    }
}

fn rollout() -> Rollout {
    let steps: Vec<Value> = (1..=10)
        .map(|i| json!({"replicas": format!("{}%", i * 10), "pause": {"duration": 300}}))
        .collect();
    serde_json::from_value(json!({
        "apiVersion": "sluice.dev/v1beta1", "kind": "Rollout",
        "metadata": {"name": "web", "namespace": "default", "uid": "r", "resourceVersion": "1"},
        "spec": {
            "workloadRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "strategy": {"canary": {"steps": steps}},
        },
    }))
    .expect("a Rollout")
}

fn template(tag: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "web", "image": format!("web:{tag}"),
            "ports": [{"containerPort": 8080, "name": "http"}],
            "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}}}]},
    })
}

fn replica_set(hash: &str, template: &Value, size: i32, now: Timestamp) -> ReplicaSetView {
    ReplicaSetView {
        name: format!("web-{hash}"),
        uid: format!("uid-{hash}"),
        resource_version: "900".into(),
        hash: hash.into(),
        revision: 1,
        replicas: size,
        min_ready_seconds: 0,
        status_replicas: size,
        available: size,
        template: template.clone(),
        template_hash: template_hash(template),
        pods: (0..size)
            .map(|i| PodView {
                name: format!("web-{hash}-{i:05}"),
                created: Some(now),
                ready_since: Some(now),
                problem: None,
            })
            .collect(),
    }
}
