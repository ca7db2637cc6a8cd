//! Stories with real command lines, on the cluster in the binary over HTTP and on the real control plane:
//! the way out without a controller, and a GitOps tool that applies its manifest every two seconds.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sluice::apply::Http;
use sluice::sim::kubelet::Behaviours;
use sluice::sim::live::Live;
use sluice::sim::scenario::{Deed, Objects};
use tokio::time::{Instant, sleep};

use super::ground::{Ground, Plot};
use super::record::{broken, in_order, sequences};
use super::script::Cluster as _;
use super::wishes::Wishes;
use crate::controlplane::harness::shared;
use crate::world::{
    Shape, WEB, deployments, empty_cluster, gates, image_of, is_ready, seconds, written,
};

/// What does not happen in this time does not happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where a story is played.
struct Place {
    name: &'static str,
    ground: Arc<Ground>,
    kubelets: bool,
    _live: Option<(Live, tempfile::TempDir)>,
}

/// Both clusters; the real one only where it can be had.
async fn places() -> Vec<Place> {
    let live = empty_cluster().await;
    let folder = tempfile::tempdir().unwrap();
    let (ground, _) = Ground::live(&live, folder.path()).await;
    let ground = Arc::new(ground);
    let mut places =
        vec![Place { name: "sim", ground, kubelets: false, _live: Some((live, folder)) }];
    if let Some(plane) = shared() {
        let ground = Arc::new(Ground::real(plane).await);
        places.push(Place { name: "the real one", ground, kubelets: true, _live: None });
    }
    places
}

impl Place {
    async fn plot(&self, namespace: &str) -> Plot {
        let mut plot = Plot::new(self.ground.clone(), namespace).await;
        if self.kubelets {
            plot.kubelets(Behaviours::default());
        }
        plot
    }
}

/// Waits until the objects of a plot are so.
pub async fn until(plot: &Plot, what: &str, test: impl Fn(&Objects) -> bool) {
    let end = Instant::now() + PATIENCE;
    while !test(&plot.objects()) {
        let objects = plot.objects();
        assert!(
            Instant::now() < end,
            "{} in {}: {what}: {:?} {:?}",
            plot.namespace,
            plot.ground.kubeconfig.display(),
            objects.get("deployment", WEB).map(|d| &d["spec"]),
            objects.get("rollout", WEB).map(|r| &r["status"]),
        );
        sleep(Duration::from_millis(50)).await;
    }
}

/// Ready pods of an image.
fn ready(objects: &Objects, image: &str) -> usize {
    let of = |pod: &&Value| {
        pod["spec"]["containers"][0]["image"] == image
            && pod["metadata"]["deletionTimestamp"].is_null()
            && is_ready(pod)
    };
    objects.all("pod").filter(of).count()
}

fn pods_of(objects: &Objects, image: &str) -> usize {
    objects.all("pod").filter(|pod| pod["spec"]["containers"][0]["image"] == image).count()
}

/// A release of `web:v2` that waits at its first step, with two of four pods; then the controller dies.
struct Held {
    plot: Plot,
    wishes: Wishes,
}

impl Held {
    async fn new(place: &Place, namespace: &str) -> Self {
        let shape = Shape {
            replicas: 4,
            max_surge: json!("25%"),
            max_unavailable: json!(1),
            routed: false,
            steps: json!([{"replicas": "50%", "pause": {}}, {"replicas": "100%"}]),
            ready_after: seconds(0),
        };
        let mut plot = place.plot(namespace).await;
        let mut wishes = Wishes::default();
        for mut object in [shape.deployment("web:v1"), shape.rollout()] {
            object["metadata"].as_object_mut().unwrap().remove("namespace");
            let answer = plot.create(&object).await.unwrap();
            wishes.created(&super::script::resource_of(&object).plural, &answer);
        }
        plot.start();
        until(&plot, "Healthy", |o| {
            o.get("rollout", WEB).is_some_and(|r| r["status"]["phase"] == "Healthy")
        })
        .await;
        let mut held = Self { plot, wishes };
        held.image("web:v2").await;
        until(&held.plot, "the first step", |o| {
            let rollout = o.get("rollout", WEB).cloned().unwrap_or_default();
            let waits = rollout["status"]["release"]["state"] == "StepPaused";
            let rests = o.get("deployment", WEB).is_some_and(|d| d["spec"]["paused"] == true);
            waits && rests && ready(o, "web:v2") == 2 && ready(o, "web:v1") == 2
        })
        .await;
        held.plot.controller = None;
        held
    }

    async fn patch(&mut self, body: Value) {
        let (key, name) = (deployments(), WEB.to_owned());
        let deed = Deed::Patch { key, name, subresource: None, body };
        self.wishes.done(&deed, &self.plot.objects());
        self.plot.perform(&deed).await.unwrap();
    }

    async fn image(&mut self, image: &str) {
        let containers = Shape::containers(image);
        self.patch(json!({"spec": {"template": {"spec": {"containers": containers}}}})).await;
    }

    /// Nobody starts a pod, whatever is asked for.
    async fn nothing_moves(&mut self) {
        self.image("web:v3").await;
        self.patch(json!({"spec": {"paused": false, "minReadySeconds": 0}})).await;
        // As long as it takes: a native controller that is free starts pods in milliseconds.
        sleep(Duration::from_secs(3)).await;
        let objects = self.plot.objects();
        let found = ["web:v1", "web:v2", "web:v3"].map(|image| pods_of(&objects, image));
        assert_eq!(found, [2, 2, 0], "pods while the controller is dead");
    }

    async fn everything_is_as_its_user_wrote_it(&self) {
        let plot = &self.plot;
        let end = Instant::now() + PATIENCE;
        while let Some(text) = self.wishes.unfulfilled(&plot.objects()) {
            assert!(Instant::now() < end, "{}: {text}", plot.namespace);
            sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_controller_dead_nothing_moves_until_sluice_lets_go() {
    for place in places().await {
        let mut held = Held::new(&place, "dead-let-go").await;
        held.nothing_moves().await;
        let output = Command::new(env!("CARGO_BIN_EXE_sluice"))
            .args(["let-go", WEB, "-n", &held.plot.namespace, "--kubeconfig"])
            .arg(&place.ground.kubeconfig)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{}: {said} {complaint}", place.name);
        assert!(said.contains("let go"), "{said}");
        held.everything_is_as_its_user_wrote_it().await;
        // What somebody wants now is done by the native controller alone.
        held.patch(json!({"spec": {"paused": false}})).await;
        until(&held.plot, "everything new", |o| {
            ready(o, "web:v3") == 4 && pods_of(o, "web:v1") + pods_of(o, "web:v2") == 0
        })
        .await;
        println!("1 stories played by hand on {}: let-go", place.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_controller_dead_deleting_the_gate_lets_go_at_once() {
    for place in places().await {
        let mut held = Held::new(&place, "dead-gate").await;
        held.nothing_moves().await;
        let gate = held.plot.path(&gates(), "sluice");
        Http::delete(gate, json!({})).send(&place.ground.user).await.unwrap();
        // Free at once: also of the hold, which kept fields as they were.
        let strategy = json!({"rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 1}});
        let free = json!({"spec": {"paused": false, "strategy": strategy}});
        let end = Instant::now() + PATIENCE;
        held.patch(free.clone()).await;
        // The API server's admission hears of the deletion by a watch of its own.
        while held.plot.objects().get("deployment", WEB).unwrap()["spec"]["paused"] == true {
            assert!(Instant::now() < end, "{}: held without a Gate", place.name);
            sleep(Duration::from_millis(500)).await;
            held.patch(free.clone()).await;
        }
        until(&held.plot, "everything new", |o| {
            ready(o, "web:v3") == 4 && pods_of(o, "web:v1") + pods_of(o, "web:v2") == 0
        })
        .await;
        // A controller that comes back takes that for a decision.
        held.plot.start();
        until(&held.plot, "Released", |o| {
            let rollout = o.get("rollout", WEB).cloned().unwrap_or_default();
            let all = rollout["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let released = all.iter().any(|c| c["type"] == "Released" && c["status"] == "True");
            released && rollout["status"]["release"].is_null()
        })
        .await;
        let images = image_of(held.plot.objects().get("deployment", WEB).unwrap());
        assert_eq!(images, "web:v3");
        println!("1 stories played by hand on {}: the Gate is deleted", place.name);
    }
}

/// Where the real kubectl is: `KUBECTL_137`, then `PATH`.
fn kubectl() -> Option<String> {
    let named = std::env::var("KUBECTL_137").ok().into_iter();
    let found = named.chain(["kubectl".to_owned()]).find(|program| {
        let version = Command::new(program).args(["version", "--client"]).output();
        version.is_ok_and(|output| output.status.success())
    });
    if found.is_none() {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "kubectl is missing");
        println!("SKIP: kubectl is missing");
    }
    found
}

/// Applies a folder with the real kubectl.
async fn apply(program: &str, place: &Place, namespace: &str, text: &str, mode: &str) {
    let mut command = tokio::process::Command::new(program);
    command.env("KUBECONFIG", &place.ground.kubeconfig);
    command.args(["--namespace", namespace, "apply", "-f", "-"]).args(mode.split(' '));
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut input, text.as_bytes()).await.unwrap();
    drop(input);
    let output = child.wait_with_output().await.unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{mode} on {}: {complaint}", place.name);
}

fn manifests(image: &str) -> String {
    let shape = Shape {
        replicas: 10,
        max_surge: json!("25%"),
        max_unavailable: json!("25%"),
        routed: false,
        steps: json!([
            {"replicas": "20%", "pause": {"duration": 5}},
            {"replicas": "50%", "pause": {"duration": 5}},
            {"replicas": "100%"},
        ]),
        ready_after: seconds(0),
    };
    let mut text = Vec::new();
    for mut object in [shape.deployment(image), shape.rollout()] {
        object["metadata"].as_object_mut().unwrap().remove("namespace");
        text.push(object.to_string());
    }
    text.join("\n")
}

async fn gitops(place: &Place, program: &str, mode: &str, namespace: &str) {
    let mut plot = place.plot(namespace).await;
    plot.start();
    apply(program, place, namespace, &manifests("web:v1"), mode).await;
    until(&plot, "Healthy", |o| {
        let healthy = o.get("rollout", WEB).is_some_and(|r| r["status"]["phase"] == "Healthy");
        healthy && ready(o, "web:v1") == 10
    })
    .await;
    let before = plot.objects().get("deployment", WEB).cloned().unwrap();
    let first = plot.changes().iter().map(|change| change.version).max().unwrap_or(0);
    let mut rounds = 0;
    let end = Instant::now() + PATIENCE;
    let wanted = written(before.clone()).to_string().replace("web:v1", "web:v2");
    let wanted: Value = serde_json::from_str(&wanted).unwrap();
    loop {
        apply(program, place, namespace, &manifests("web:v2"), mode).await;
        rounds += 1;
        let objects = plot.objects();
        let rollout = objects.get("rollout", WEB).cloned().unwrap_or_default();
        let over = rollout["status"]["lastRelease"]["decision"] == "Promoted";
        let found = written(objects.get("deployment", WEB).cloned().unwrap());
        if over && found == wanted {
            break;
        }
        assert!(Instant::now() < end, "{mode}: it is {found}\nand should be {wanted}\n{rollout}");
        sleep(Duration::from_secs(2)).await;
    }
    assert!(rounds > 4, "applied {rounds} times only");
    let changes = in_order(plot.changes());
    let found = broken(&changes, first, &before);
    assert!(found.is_empty(), "{mode}: {found:?}");
    let sizes = sequences(&changes);
    assert_eq!(sizes["web:v1"], [10, 8, 5, 0], "{mode}: {sizes:?}");
    assert_eq!(sizes["web:v2"], [2, 5, 10], "{mode}: {sizes:?}");
    // A rest of Sluice in managedFields would be the next conflict.
    let now = plot.objects().get("deployment", WEB).cloned().unwrap();
    let managers = now["metadata"]["managedFields"].to_string();
    assert!(!managers.contains("\"manager\":\"sluice\""), "{managers}");
    println!("1 stories played by hand on {}: GitOps {mode}, {rounds} rounds", place.name);
}

/// A routed workload as its user keeps it in a repository; without the route where the tool is told to
/// leave that alone.
fn routed(image: &str, weights: bool) -> String {
    let shape = Shape {
        replicas: 4,
        max_surge: json!("25%"),
        max_unavailable: json!("25%"),
        routed: true,
        steps: json!([
            {"replicas": "25%", "traffic": "20%", "pause": {"duration": 20}},
            {"replicas": "50%", "traffic": "50%", "pause": {"duration": 3}},
            {"replicas": "100%"},
        ]),
        ready_after: seconds(0),
    };
    let mut all = vec![shape.deployment(image), shape.rollout(), Shape::service()];
    all.extend(weights.then(Shape::route));
    let mut text = Vec::new();
    for mut object in all {
        object["metadata"].as_object_mut().unwrap().remove("namespace");
        text.push(object.to_string());
    }
    text.join("\n")
}

/// The user's three objects, without what no user wrote.
fn own(plot: &Plot) -> [Value; 3] {
    let objects = plot.objects();
    ["deployment", "service", "httproute"].map(|kind| {
        let found = objects.get(kind, WEB).cloned().unwrap_or_default();
        let mut found = written(found);
        // The last applied manifest stands in it as text.
        found["metadata"]["annotations"] = Value::Null;
        found
    })
}

/// What was restored has no field of ours: another rule meets no conflict.
async fn is_its_users_again(place: &Place, program: &str, plot: &Plot) {
    let is_ours = |kind: &str| {
        let object = plot.objects().get(kind, WEB).cloned().unwrap_or_default();
        object["metadata"]["managedFields"].to_string().contains("\"manager\":\"sluice\"")
    };
    let end = Instant::now() + PATIENCE;
    while is_ours("service") || is_ours("httproute") || is_ours("deployment") {
        assert!(Instant::now() < end, "fields of the user's are still ours on {}", place.name);
        sleep(Duration::from_millis(50)).await;
    }
    let other = routed("web:v2", true).replace(r#""port":80"#, r#""port":81"#);
    apply(program, place, &plot.namespace, &other, "--server-side=true").await;
}

async fn gitops_with_a_route(place: &Place, program: &str, mode: &str, namespace: &str) {
    let mut plot = place.plot(namespace).await;
    plot.gateway(!place.kubelets).await;
    plot.start();
    apply(program, place, namespace, &routed("web:v1", true), mode).await;
    until(&plot, "Healthy", |o| {
        let healthy = o.get("rollout", WEB).is_some_and(|r| r["status"]["phase"] == "Healthy");
        healthy && ready(o, "web:v1") == 4
    })
    .await;
    let before = own(&plot);
    let condition = |objects: &Objects, name: &str| {
        let rollout = objects.get("rollout", WEB).cloned().unwrap_or_default();
        let all = rollout["status"]["conditions"].as_array().cloned().unwrap_or_default();
        all.iter().any(|c| c["type"] == name && c["status"] == "True")
    };
    // The tool resets the weights again and again: the release says so, and holds.
    let end = Instant::now() + PATIENCE;
    let mut rounds = 0;
    while !(condition(&plot.objects(), "RouteContended") && condition(&plot.objects(), "Stalled")) {
        apply(program, place, namespace, &routed("web:v2", true), mode).await;
        rounds += 1;
        let rollout = plot.objects().get("rollout", WEB).cloned();
        assert!(Instant::now() < end, "{mode}: it does not hold: {rollout:?}");
        sleep(Duration::from_secs(2)).await;
    }
    apply(program, place, namespace, &routed("web:v2", true), mode).await;
    sleep(Duration::from_secs(2)).await;
    let objects = plot.objects();
    assert_eq!((ready(&objects, "web:v1"), ready(&objects, "web:v2")), (3, 1), "{mode}");
    // The tool is told to leave the route alone, and a person goes on.
    let request = json!({"status": {"request": {"verb": "Retry"}}});
    let path = format!("{}/status", plot.path(&crate::world::rollouts(), WEB));
    Http::merge(path, request).send(&place.ground.user).await.unwrap();
    let mut wanted = before;
    wanted[0]["spec"]["template"]["spec"]["containers"][0]["image"] = json!("web:v2");
    let end = Instant::now() + PATIENCE;
    loop {
        apply(program, place, namespace, &routed("web:v2", false), mode).await;
        let objects = plot.objects();
        let rollout = objects.get("rollout", WEB).cloned().unwrap_or_default();
        let over = rollout["status"]["lastRelease"]["decision"] == "Promoted";
        let found = own(&plot);
        if over && found == wanted && objects.all("service").count() == 1 {
            break;
        }
        assert!(Instant::now() < end, "{mode}: {found:#?}\nshould be {wanted:#?}\n{rollout}");
        sleep(Duration::from_secs(2)).await;
    }
    assert!(
        !condition(&plot.objects(), "RouteContended"),
        "{mode}: said of a release that is over"
    );
    if mode.contains("true") {
        is_its_users_again(place, program, &plot).await;
    }
    println!(
        "1 stories played by hand on {}: GitOps with a route {mode}, {rounds} resets",
        place.name
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gitops_tool_that_resets_weights_makes_the_release_hold() {
    let Some(program) = kubectl() else { return };
    for place in places().await {
        let client_side =
            gitops_with_a_route(&place, &program, "--server-side=false", "gitops-route-client");
        let mode = "--server-side=true --force-conflicts";
        let server_side = gitops_with_a_route(&place, &program, mode, "gitops-route-server");
        tokio::join!(client_side, server_side);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gitops_tool_changes_nothing_that_it_should_not() {
    let Some(program) = kubectl() else { return };
    for place in places().await {
        let client_side = gitops(&place, &program, "--server-side=false", "gitops-client");
        let server_side = gitops(&place, &program, "--server-side=true", "gitops-server");
        tokio::join!(client_side, server_side);
    }
}
