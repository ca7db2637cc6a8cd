//! A release of five steps without a pause, 10 pods that are ready at once, on the real control plane,
//! with `sluice controller` as its own process: from the image's patch to `Healthy` and `Promoted`.
//!
//! Then the same with an HTTPRoute's weight at each step, and what was written for a step. First of all what
//! a bare script needs for the same moves without a Rollout, which is what this machine allows.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    dead_code,
    reason = "a bench measures real time, panics when it cannot, and shares the tests' harness"
)]

#[path = "common/bare.rs"]
mod bare;
#[path = "../tests/it/controlplane/harness.rs"]
mod harness;
#[path = "common/spread.rs"]
mod spread;

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::discovery::ApiResource;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt, core::GroupVersionKind};
use serde_json::{Value, json};
use sluice::clock::SystemClock;
use sluice::sim::kubelet::{Behaviours, remote};

use harness::{ControlPlane, Who};

const STEPS: i32 = 5;

fn main() {
    let Some(plane) = harness::shared() else { return };
    let rounds = std::env::var("ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(15);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let kubelet = plane.client(Who::Admin);
        tokio::spawn(async move {
            let clock = Arc::new(SystemClock);
            let ended = remote::serve(kubelet, clock, 1, None, Behaviours::default()).await;
            panic!("the kubelet ended: {ended:?}");
        });
        tokio::spawn(router(plane.client(Who::Admin)));
        bare::Script::open(plane).await.measure(rounds).await;
        let controller = Controller::start(plane);
        for routed in [false, true] {
            Stage::open(plane, routed).await.measure(&controller, rounds).await;
        }
    });
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/footprint.sh");
    let ended = Command::new(script)
        .arg(env!("CARGO_BIN_EXE_sluice"))
        .env("KUBECONFIG", plane.kubeconfig(Who::Sluice))
        .status()
        .expect("bash runs the script");
    assert!(ended.success(), "{ended}");
}

/// The controller's process; it ends with this value.
struct Controller {
    child: Child,
    listen: SocketAddr,
}

impl Drop for Controller {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

impl Controller {
    fn start(plane: &ControlPlane) -> Self {
        let listen = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
        let log = std::env::var_os("LOG").map_or_else(Stdio::null, |path| {
            Stdio::from(std::fs::File::create(path).expect("a file for the log"))
        });
        let child = Command::new(env!("CARGO_BIN_EXE_sluice"))
            .args(["controller", "--no-lease", "--listen", &listen.to_string(), "--kubeconfig"])
            .arg(plane.kubeconfig(Who::Sluice))
            .stderr(log)
            .spawn()
            .expect("the controller starts");
        Self { child, listen }
    }

    /// What it has written so far, by action.
    async fn writes(&self) -> BTreeMap<String, i64> {
        let url = format!("http://{}/metrics", self.listen);
        let page = reqwest::get(url).await.expect("the metrics").text().await.expect("a text");
        labelled(&page, "sluice_writes_total{", &["action"])
    }
}

/// The samples of a metric, by the values of some labels.
fn labelled(page: &str, metric: &str, labels: &[&str]) -> BTreeMap<String, i64> {
    let mut out = BTreeMap::new();
    for line in page.lines().filter(|line| line.starts_with(metric)) {
        let value = |label: &str| {
            let from = line.find(&format!("{label}=\""))? + label.len() + 2;
            line.get(from..)?.split('"').next()
        };
        let key: Vec<&str> = labels.iter().map(|l| value(l).unwrap_or_default()).collect();
        let count = line.rsplit(' ').next().and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0);
        *out.entry(key.join(" ").trim().to_owned()).or_insert(0) += count as i64;
    }
    out
}

fn less(after: &BTreeMap<String, i64>, before: &BTreeMap<String, i64>) -> BTreeMap<String, i64> {
    let change = |(key, n): (&String, &i64)| (key.clone(), n - before.get(key).unwrap_or(&0));
    after.iter().map(change).filter(|(_, n)| *n != 0).collect()
}

fn dynamic(client: &Client, namespace: &str, group: &str, kind: &str) -> Api<DynamicObject> {
    let version = if group == "sluice.dev" { "v1beta1" } else { "v1" };
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    Api::namespaced_with(client.clone(), namespace, &resource)
}

/// Makes a namespace with these objects.
async fn furnish(client: &Client, namespace: &str, objects: Vec<Value>) {
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
    let all: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(client.clone());
    let made = serde_json::from_value(object).expect("a namespace");
    all.create(&PostParams::default(), &made).await.expect("the namespace is new");
    for object in objects {
        let kind = object["kind"].as_str().expect("a kind").to_owned();
        let group = object["apiVersion"].as_str().and_then(|v| v.split_once('/'));
        let api = dynamic(client, namespace, group.map_or("", |g| g.0), &kind);
        let made = serde_json::from_value(object).expect("an object");
        api.create(&PostParams::default(), &made).await.expect("the object is new");
    }
}

/// A workload with its Rollout in a namespace of its own.
struct Stage {
    client: Client,
    namespace: String,
    routed: bool,
}

impl Stage {
    async fn open(plane: &ControlPlane, routed: bool) -> Self {
        let namespace = if routed { "bench-routed" } else { "bench" }.to_owned();
        let stage = Self { client: plane.client(Who::Admin), namespace, routed };
        furnish(&stage.client, &stage.namespace, objects(routed)).await;
        stage
    }

    async fn measure(&self, controller: &Controller, rounds: usize) {
        self.wait("the workload is ready", |_, s| {
            s["phase"] == "Healthy" && s["ready"] == "10/10" && s["gate"]["state"] != "Unknown"
        })
        .await;
        // A first release warms both servers up and proves that the gate is in force.
        self.release(0).await;
        let (mut spans, mut writes, mut served) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        for round in 1..=rounds {
            // Rests until the last writes are done: the spaced ones and the cleaning of old objects.
            tokio::time::sleep(Duration::from_secs(3)).await;
            let (before, page) = (controller.writes().await, self.served().await);
            spans.push(self.release(round).await);
            let added = less(&controller.writes().await, &before);
            add(&mut writes, added);
            add(&mut served, less(&self.served().await, &page));
        }
        let what = if self.routed { ", a weight at each" } else { "" };
        println!("release of {STEPS} steps, 10 pods{what}: {}", spread::of(&mut spans));
        let events = writes.remove("event").unwrap_or(0);
        let all: i64 = writes.values().sum();
        let per_step = |n: i64| n as f64 / (rounds as f64 * f64::from(STEPS));
        println!(
            "    the controller's writes: {:.2} a step without Events, {:.2} Events",
            per_step(all),
            per_step(events)
        );
        let mean = |map: &BTreeMap<String, i64>| {
            let words = map.iter().map(|(k, n)| format!("{k} {:.1}", *n as f64 / rounds as f64));
            words.collect::<Vec<_>>().join(", ")
        };
        println!("    by action, a release: {}", mean(&writes));
        println!("    by the API server's own count, everybody: {}", mean(&served));
    }

    /// Brings a new image and waits until it is promoted.
    async fn release(&self, round: usize) -> Duration {
        let api = dynamic(&self.client, &self.namespace, "apps", "Deployment");
        let was = self.wait("the Rollout is there", |_, _| true).await["lastRelease"]["id"].clone();
        let waiting = self.wait("the release is promoted", move |_, s| {
            s["phase"] == "Healthy"
                && s["lastRelease"]["id"] != was
                && s["lastRelease"]["decision"] == "Promoted"
        });
        let mut waiting = pin!(waiting);
        // The watch is open before the clock starts.
        let open = tokio::time::timeout(Duration::from_millis(500), &mut waiting).await;
        assert!(open.is_err(), "promoted before it began");
        let image = format!("web:{}-{round}", self.namespace);
        let patch = json!({"spec": {"template": {"spec":
            {"containers": [{"name": "web", "image": image}]}}}});
        let began = Instant::now();
        api.patch("web", &PatchParams::default(), &Patch::Strategic(patch))
            .await
            .expect("the patch is taken");
        waiting.await;
        began.elapsed()
    }

    /// Follows the Rollout until `test` is true of its status; returns that.
    async fn wait(&self, what: &str, test: impl Fn(&Value, &Value) -> bool) -> Value {
        let api = dynamic(&self.client, &self.namespace, "sluice.dev", "Rollout");
        let config = watcher::Config::default().fields("metadata.name=web");
        let mut stream = pin!(watcher(api, config).default_backoff().touched_objects());
        let until = tokio::time::Instant::now() + Duration::from_secs(60);
        let mut last = Value::Null;
        loop {
            let next = tokio::time::timeout_at(until, stream.next()).await;
            let Ok(Some(next)) = next else { panic!("{what}: not after a minute: {last:#}") };
            let Ok(object) = next else { continue };
            let status = object.data.get("status").cloned().unwrap_or_default();
            if test(&object.data, &status) {
                return status;
            }
            last = status;
        }
    }

    /// Writes that the API server has served, by verb and resource.
    async fn served(&self) -> BTreeMap<String, i64> {
        let request = http::Request::get("/metrics").body(Vec::new()).expect("a request");
        let page = self.client.request_text(request).await.expect("the API server's metrics");
        let mut all =
            labelled(&page, "apiserver_request_total{", &["verb", "resource", "subresource"]);
        let ours = ["rollouts", "gates", "deployments", "replicasets", "services", "httproutes"];
        let writing = ["POST", "PUT", "PATCH", "APPLY", "DELETE"];
        all.retain(|key, _| {
            let mut words = key.split(' ');
            words.next().is_some_and(|verb| writing.contains(&verb))
                && words.next().is_some_and(|resource| ours.contains(&resource))
        });
        all
    }
}

fn add(sum: &mut BTreeMap<String, i64>, more: BTreeMap<String, i64>) {
    for (key, n) in more {
        *sum.entry(key).or_insert(0) += n;
    }
}

/// A router that accepts every HTTPRoute as soon as it sees it.
async fn router(client: Client) {
    let gvk = GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", "HTTPRoute");
    let resource = ApiResource::from_gvk(&gvk);
    let all: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let stream = watcher(all, watcher::Config::default()).default_backoff().touched_objects();
    let mut stream = pin!(stream);
    while let Some(event) = stream.next().await {
        let Ok(route) = event else { continue };
        let generation = route.metadata.generation.unwrap_or(0);
        let said = &route.data["status"]["parents"][0]["conditions"][0]["observedGeneration"];
        if said.as_i64() == Some(generation) {
            continue;
        }
        let condition = |kind: &str| {
            json!({"type": kind, "status": "True", "reason": kind, "message": "",
                "observedGeneration": generation, "lastTransitionTime": "2026-01-01T00:00:00Z"})
        };
        let status = json!({"status": {"parents": [{
            "parentRef": route.data["spec"]["parentRefs"][0],
            "controllerName": "bench.sluice.dev/router",
            "conditions": [condition("Accepted"), condition("ResolvedRefs")]}]}});
        let namespace = route.namespace().unwrap_or_default();
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &resource);
        let name = route.name_any();
        let _next_event =
            api.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await;
    }
}

fn objects(routed: bool) -> Vec<Value> {
    let steps: Vec<Value> = (1..=STEPS)
        .map(|i| {
            let share = format!("{}%", i * 100 / STEPS);
            let mut step = json!({"replicas": share, "pause": {"duration": 0}});
            if routed {
                step["traffic"] = json!(share);
            }
            step
        })
        .collect();
    let mut canary = json!({"steps": steps});
    let mut out = Vec::new();
    if routed {
        canary["trafficRoutings"] =
            json!([{"service": "web", "gateway": {"httpRouteName": "web"}}]);
        out.push(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}}));
        out.push(json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": {"name": "web"},
            "spec": {"parentRefs": [{"name": "web"}],
                "rules": [{"backendRefs": [{"name": "web", "port": 80}]}]}}));
    }
    out.push(deployment());
    out.push(
        json!({"apiVersion": "sluice.dev/v1beta1", "kind": "Rollout", "metadata": {"name": "web"},
        "spec": {"workloadRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "strategy": {"canary": canary}}}),
    );
    out
}

fn deployment() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": 10, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}},
                "spec": {"terminationGracePeriodSeconds": 0, "containers":
                    [{"name": "web", "image": "web:v0"}]}}}})
}
