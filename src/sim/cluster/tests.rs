//! Releases from beginning to end in virtual time.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{Cluster, Options, USER};
use crate::sim::apiserver::ResourceKey;
use crate::sim::kubelet::Behaviours;
use crate::sim::load::Visitor;
use crate::sim::plugins::plugins;
use crate::sim::pods;

fn start() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn cluster(visitors: Vec<Visitor>) -> Cluster {
    Cluster::new(Options {
        start: start(),
        seed: 1,
        kubelet: Behaviours::default(),
        answers: pods::Behaviours::default(),
        visitors: (visitors, 100.0),
        plugins: plugins(),
    })
    .unwrap()
}

pub(super) fn deployment(image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "replicas": 10,
            "progressDeadlineSeconds": 600,
            "revisionHistoryLimit": 10,
            "strategy": {"type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": image,
                    "ports": [{"containerPort": 8080, "name": "http"}]}]},
            },
        },
    })
}

fn rollout(steps: &Value, routed: bool) -> Value {
    let mut canary = json!({"steps": steps});
    if routed {
        canary["trafficRoutings"] =
            json!([{"service": "web", "gateway": {"httpRouteName": "web"}}]);
    }
    json!({
        "apiVersion": "sluice.dev/v1beta1", "kind": "Rollout",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "workloadRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "strategy": {"canary": canary},
        },
    })
}

fn service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}]},
    })
}

fn route() -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"parentRefs": [{"name": "web"}], "hostnames": ["web.test"],
            "rules": [{"backendRefs": [{"name": "web", "port": 80}]}]},
    })
}

fn set_image(c: &Cluster, image: &str) {
    let key = ResourceKey::new("apps", "v1", "deployments");
    let body = json!({"spec": {"template": {"spec": {"containers": [{"name": "web", "image": image,
        "ports": [{"containerPort": 8080, "name": "http"}]}]}}}});
    c.server.patch_merge(USER, &key, "default", "web", body).unwrap();
}

fn status(c: &Cluster) -> Value {
    let key = ResourceKey::new("sluice.dev", "v1beta1", "rollouts");
    c.server.get(&key, "default", "web").unwrap()["status"].clone()
}

fn seconds(n: i64) -> SignedDuration {
    SignedDuration::from_secs(n)
}

#[tokio::test]
async fn a_good_version_goes_through_every_step_and_everything_is_as_before() {
    let mut c = cluster(Vec::new());
    c.server.create(USER, deployment("web:v1")).unwrap();
    let steps = json!([
        {"replicas": "20%", "pause": {"duration": 10}},
        {"replicas": "50%", "pause": {"duration": 10}},
        {"replicas": "100%"},
    ]);
    c.server.create(USER, rollout(&steps, false)).unwrap();
    c.run_for(seconds(5)).await;
    set_image(&c, "web:v2");
    c.run_for(seconds(60)).await;
    println!("{}", c.transcript);
    let s = status(&c);
    assert_eq!(s["phase"], "Healthy", "{}", serde_json::to_string_pretty(&s).unwrap());
    assert_eq!(s["lastRelease"]["decision"], "Promoted");
    assert!(c.violations.is_empty(), "{:?}", c.violations);
}

#[tokio::test]
async fn a_routed_release_moves_traffic_and_restores_service_and_route() {
    let mut c = cluster(vec![Visitor::plain("web.test")]);
    for object in [deployment("web:v1"), service(), route()] {
        c.server.create(USER, object).unwrap();
    }
    let steps = json!([
        {"replicas": "20%", "traffic": "20%", "pause": {"duration": 10}},
        {"replicas": "50%", "traffic": "50%", "pause": {"duration": 10}},
        {"replicas": "100%", "traffic": "100%"},
    ]);
    c.server.create(USER, rollout(&steps, true)).unwrap();
    c.run_for(seconds(5)).await;
    set_image(&c, "web:v2");
    c.run_for(seconds(60)).await;
    println!("{}", c.transcript);
    let s = status(&c);
    assert_eq!(s["phase"], "Healthy", "{}", serde_json::to_string_pretty(&s).unwrap());
    println!("{:?}", c.outcomes());
    assert_eq!(c.outcomes().failed_elsewhere, 0);
    assert!(c.violations.is_empty(), "{:?}", c.violations);
}
