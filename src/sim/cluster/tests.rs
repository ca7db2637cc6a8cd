//! Releases from beginning to end in virtual time.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{Cluster, Options, USER};
use crate::sim::apiserver::{Call, ResourceKey, Verb};
use crate::sim::kubelet::Behaviours;
use crate::sim::load::Visitor;
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

#[tokio::test(flavor = "current_thread")]
async fn a_template_says_of_itself_what_lint_says_of_it() {
    let mut cluster = cluster(Vec::new());
    cluster.start_controller();
    let template = |name: &str, spec: Value| {
        json!({"apiVersion": "sluice.dev/v1beta1", "kind": "AnalysisTemplate",
            "metadata": {"name": name, "namespace": "default"}, "spec": spec})
    };
    let metric = |query: &str, success: &str| {
        json!({"metrics": [{"name": "m", "successCondition": success,
            "provider": {"prometheus": {"query": query}}}]})
    };
    let named = |names: &[&str]| {
        let names: Vec<Value> = names.iter().map(|name| json!({"templateName": name})).collect();
        json!({"templates": names})
    };
    let objects = [
        template("good", metric("sum(up)", "result[0] > 0")),
        template("odd", metric("sum(rate(x{a=\"b\"}[10s]))", "result[0] > -1 || result[0] < 1")),
        template("bad", metric("sum(rate(x[1m])", "result[0] > 0")),
        template("typed", metric("scalar(up)", "result[0] > 0")),
    ];
    for object in &objects {
        cluster.server.create(USER, object.clone()).unwrap();
    }
    for (name, names) in [("a", &["none", "b"][..]), ("b", &["a"][..])] {
        cluster.server.create(USER, template(name, named(names))).unwrap();
    }
    cluster.run_for(SignedDuration::from_secs(1)).await;
    let key = ResourceKey::new("sluice.dev", "v1beta1", "analysistemplates");
    let accepted = |cluster: &Cluster, name: &str| {
        let found = cluster.server.get(&key, "default", name).unwrap();
        let condition = found["status"]["conditions"][0].clone();
        assert_eq!(condition["type"], "Accepted", "{name}: {found}");
        let text = |field: &str| condition[field].as_str().unwrap().to_owned();
        [text("status"), text("reason"), text("message")]
    };
    let shown =
        [("good", "True", "Clean"), ("odd", "True", "Warnings"), ("bad", "False", "Errors")];
    for (name, status, reason) in shown.into_iter().chain([("typed", "False", "Errors")]) {
        let [found, why, message] = accepted(&cluster, name);
        let object = objects.iter().find(|object| object["metadata"]["name"] == name).unwrap();
        assert_eq!([found.as_str(), &why, &message], [status, reason, &lint_of(object)], "{name}");
    }
    // A circle is seen from both sides; what is not there yet is no finding.
    let circle = "leads back to this template; each is taken once; take one of the references out";
    for (name, at) in [("a", 1), ("b", 0)] {
        let [.., message] = accepted(&cluster, name);
        assert_eq!(message, format!("spec.templates[{at}].templateName: {circle}"), "{name}");
    }
    let mut open = template("b", named(&["good"]));
    let stored = cluster.server.get(&key, "default", "b").unwrap();
    open["metadata"]["resourceVersion"] = stored["metadata"]["resourceVersion"].clone();
    let put = Call::new(USER, Verb::Update, &key).namespace("default").name("b").body(open);
    cluster.server.call(put).unwrap();
    cluster.run_for(SignedDuration::from_secs(1)).await;
    assert_eq!(accepted(&cluster, "a"), ["True", "Clean", ""], "the circle is open");
    let version = cluster.server.resource_version();
    cluster.run_for(SignedDuration::from_mins(1)).await;
    assert_eq!(cluster.server.resource_version(), version, "what was said is not said again");
}

/// What `sluice lint` prints of an object, one finding a line.
fn lint_of(object: &Value) -> String {
    let spec = serde_json::from_value(object["spec"].clone()).unwrap();
    let findings = crate::analysis::lint_template(&spec);
    let lines: Vec<String> = findings.iter().map(|finding| finding.sentence()).collect();
    lines.join("\n")
}
