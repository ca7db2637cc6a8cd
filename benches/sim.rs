//! A thousand releases of ten steps, 51 virtual minutes, in one cluster in virtual time; and one
//! release alone.
//!
//! One release begins every 60 ms of the first minute; each of its ten steps rests for five minutes.
#![allow(clippy::disallowed_methods, clippy::expect_used, reason = "a bench measures real time")]

#[path = "common/spread.rs"]
mod spread;

use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sluice::sim::apiserver::ResourceKey;
use sluice::sim::cluster::{Cluster, Options, USER};
use sluice::sim::kubelet::Behaviours;
use sluice::sim::pods;

fn main() {
    let size = |name: &str, default: usize| {
        std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default)
    };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let (alone, rounds) = (size("ALONE", 10), size("ROUNDS", 1));
    let mut spans = Vec::new();
    for _ in 0..alone {
        spans.push(runtime.block_on(releases(1)).1);
    }
    println!("1 release of 10 steps, 51 virtual minutes: {}", spread::of(&mut spans));
    let (mut set_up, mut run) = (Vec::new(), Vec::new());
    let count = size("RELEASES", 1_000);
    for _ in 0..rounds {
        let (before, took) = runtime.block_on(releases(count));
        set_up.push(before);
        run.push(took);
    }
    println!("{count} releases of 10 steps, 51 virtual minutes: {}", spread::of(&mut run));
    println!("    setting that cluster up: {}", spread::of(&mut set_up));
}

/// Sets a cluster of `count` workloads up and releases each; the times that the two took.
async fn releases(count: usize) -> (std::time::Duration, std::time::Duration) {
    let began = Instant::now();
    let start: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a timestamp");
    let mut cluster = Cluster::new(Options {
        start,
        seed: 1,
        kubelet: Behaviours::default(),
        answers: pods::Behaviours::default(),
        visitors: (Vec::new(), 0.0),
    })
    .expect("a cluster");
    for i in 0..count {
        let namespace = namespace(i);
        for object in objects(&namespace) {
            cluster.server.create(USER, object).expect("the object is new");
        }
        // A few at a time, so that no watcher loses sight of the changes.
        if i % 50 == 49 {
            cluster.run_for(SignedDuration::from_millis(20)).await;
        }
    }
    cluster.run_for(SignedDuration::from_secs(10)).await;
    let set_up = began.elapsed();
    let before = cluster.server.resource_version();
    let began = Instant::now();
    let key = ResourceKey::new("apps", "v1", "deployments");
    let image = json!({"spec": {"template": template("web:v2")}});
    for i in 0..count {
        cluster
            .server
            .patch_merge(USER, &key, &namespace(i), "web", image.clone())
            .expect("the patch is taken");
        cluster.run_for(SignedDuration::from_millis(60_000 / count as i64)).await;
    }
    cluster.run_for(SignedDuration::from_mins(50) + SignedDuration::from_secs(1)).await;
    let run = began.elapsed();
    check(&cluster, count);
    let writes = cluster.server.resource_version() - before;
    println!("    {} stored changes a release", writes / count as u64);
    (set_up, run)
}

/// What was measured must have happened.
fn check(cluster: &Cluster, count: usize) {
    assert!(!cluster.fought, "nobody came to rest");
    assert!(cluster.violations.is_empty(), "{:?}", cluster.violations);
    let key = ResourceKey::new("sluice.dev", "v1beta1", "rollouts");
    let done = (0..count).filter(|i| {
        let rollout = cluster.server.get(&key, &namespace(*i), "web").expect("the Rollout");
        rollout["status"]["phase"] == "Healthy"
            && rollout["status"]["lastRelease"]["decision"] == "Promoted"
    });
    assert_eq!(done.count(), count, "releases that are promoted");
}

fn namespace(i: usize) -> String {
    format!("team-{i:04}")
}

fn template(image: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "web", "image": image,
            "ports": [{"containerPort": 8080, "name": "http"}]}]},
    })
}

fn objects(namespace: &str) -> [Value; 3] {
    let steps: Vec<Value> = (1..=10)
        .map(|i| json!({"replicas": format!("{}%", i * 10), "pause": {"duration": 300}}))
        .collect();
    [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}),
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "namespace": namespace},
            "spec": {
                "replicas": 10,
                "selector": {"matchLabels": {"app": "web"}},
                "template": template("web:v1"),
                "strategy": {"type": "RollingUpdate",
                    "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            },
        }),
        json!({
            "apiVersion": "sluice.dev/v1beta1", "kind": "Rollout",
            "metadata": {"name": "web", "namespace": namespace},
            "spec": {
                "workloadRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
                "strategy": {"canary": {"steps": steps}},
            },
        }),
    ]
}
