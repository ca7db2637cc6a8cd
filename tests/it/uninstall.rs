//! `sluice uninstall` in the middle of a release, while a controller lives that nobody stops: on the
//! cluster in the binary, and on a real control plane of its own.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use serde_json::{Value, json};
use sluice::apply::Http;
use sluice::clock::SystemClock;
use sluice::sim::apiserver::ResourceKey;
use sluice::sim::kubelet::{Behaviours, remote};
use tokio::time::{Instant, sleep};

use crate::controlplane::harness::{Who, own};
use crate::proxy::{Asked, Fate, Proxy};
use crate::stories::ground::Controller;
use crate::world::{
    Shape, WEB, deployments, empty_cluster, gates, image_of, is_ready, rollouts, routes, seconds,
    services, written,
};

/// What does not happen in this time does not happen.
const PATIENCE: Duration = Duration::from_secs(60);

fn shape(routed: bool) -> Shape {
    let mut first = json!({"replicas": "50%", "pause": {}});
    if routed {
        first["traffic"] = json!("20%");
    }
    Shape {
        replicas: 4,
        max_surge: json!("25%"),
        max_unavailable: json!(1),
        routed,
        steps: json!([first, {"replicas": "100%"}]),
        ready_after: seconds(0),
    }
}

fn path(key: &ResourceKey, name: &str) -> String {
    let root = if key.group.is_empty() { "/api" } else { "/apis" };
    let tail = if name.is_empty() { String::new() } else { format!("/{name}") };
    format!("{root}/{}/namespaces/default/{}{tail}", key.api_version(), key.plural)
}

async fn get(user: &Client, key: &ResourceKey, name: &str) -> Value {
    Http::get(path(key, name)).send(user).await.unwrap_or_default()
}

async fn until(user: &Client, what: &str, key: &ResourceKey, test: impl Fn(&Value) -> bool) {
    let end = Instant::now() + PATIENCE;
    loop {
        let object = get(user, key, WEB).await;
        if test(&object) {
            return;
        }
        assert!(Instant::now() < end, "{what}: {object}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// Ready pods, by image.
async fn ready(user: &Client, image: &str) -> usize {
    let list = Http::get("/api/v1/namespaces/default/pods").send(user).await.unwrap();
    let of = |pod: &&Value| {
        pod["spec"]["containers"][0]["image"] == image
            && pod["metadata"]["deletionTimestamp"].is_null()
            && is_ready(pod)
    };
    list["items"].as_array().unwrap().iter().filter(of).count()
}

/// Everything of the user's, as it was created, and a Rollout.
async fn create(user: &Client, routed: bool) -> Vec<(ResourceKey, Value)> {
    let shape = shape(routed);
    let mut created = Vec::new();
    let mut manifests = vec![(deployments(), shape.deployment("web:v1"))];
    if routed {
        manifests.extend([(services(), Shape::service()), (routes(), Shape::route())]);
    }
    for (key, object) in manifests {
        let answer = Http::post(path(&key, ""), object).send(user).await.unwrap();
        created.push((key, written(answer)));
    }
    Http::post(path(&rollouts(), ""), shape.rollout()).send(user).await.unwrap();
    created
}

async fn story(cluster: &str, user: &Client, kubeconfig: &Path, account: &Path, routed: bool) {
    let created = create(user, routed).await;
    let _controller = Controller::start(account, "default", &[]);
    until(user, "Healthy", &rollouts(), |r| r["status"]["phase"] == "Healthy").await;
    let body = json!({"spec": {"template": {"spec": {"containers": Shape::containers("web:v2")}}}});
    Http::merge(path(&deployments(), WEB), body).send(user).await.unwrap();
    let waits = |r: &Value| r["status"]["release"]["state"] == "StepPaused";
    until(user, "the first step", &rollouts(), waits).await;
    until(user, "its rest", &deployments(), |d| d["spec"]["paused"] == true).await;

    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_sluice"))
        .args(["uninstall", "--kubeconfig"])
        .arg(kubeconfig)
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{cluster}: {said} {complaint}");
    assert!(said.contains("Rollout default/web: its workload is let go"), "{said}");

    // Nobody goes on, nobody goes back: not the controller either, which still lives.
    sleep(Duration::from_secs(3)).await;
    assert_eq!((ready(user, "web:v1").await, ready(user, "web:v2").await), (2, 2), "{said}");
    for (key, wanted) in &created {
        let found = written(get(user, key, WEB).await);
        if *key != deployments() {
            assert_eq!(&found, wanted, "{cluster}");
            continue;
        }
        // It never runs ahead, and surges not while it has two versions: both are said.
        let mut held = wanted.clone();
        held["spec"]["template"] = found["spec"]["template"].clone();
        held["spec"]["paused"] = json!(true);
        held["spec"]["strategy"]["rollingUpdate"]["maxSurge"] = json!(0);
        assert_eq!(image_of(&found), "web:v2");
        assert_eq!(found, held, "{cluster}");
        assert!(said.contains("kubectl rollout resume"), "{said}");
        assert!(said.contains("maxSurge 25%"), "{said}");
    }
    for kind in
        ["customresourcedefinitions", "mutatingadmissionpolicies", "validatingadmissionpolicies"]
    {
        let group = if kind.starts_with("custom") {
            "apiextensions.k8s.io"
        } else {
            "admissionregistration.k8s.io"
        };
        let list = Http::get(format!("/apis/{group}/v1/{kind}")).send(user).await.unwrap();
        let ours = list["items"].as_array().unwrap().iter().filter(|object| {
            object["metadata"]["name"].as_str().is_some_and(|name| name.contains("sluice"))
        });
        assert_eq!(ours.count(), 0, "{kind} of ours on {cluster}");
    }
    let canary = get(user, &services(), "web-canary").await;
    assert!(canary.is_null(), "{canary}");

    // The user goes on without us, as it was said.
    let body =
        json!({"spec": {"paused": false, "strategy": {"rollingUpdate": {"maxSurge": "25%"}}}});
    Http::merge(path(&deployments(), WEB), body).send(user).await.unwrap();
    let end = Instant::now() + PATIENCE;
    while ready(user, "web:v2").await < 4 {
        assert!(Instant::now() < end, "the native controller does not go on");
        sleep(Duration::from_millis(50)).await;
    }
    println!("1 stories played with an uninstall in mid-release on {cluster}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_uninstall_in_mid_release_restores_everything_and_runs_nothing_ahead() {
    let live = empty_cluster().await;
    let folder = tempfile::tempdir().unwrap();
    let (kubeconfig, account) = (folder.path().join("user"), folder.path().join("account"));
    std::fs::write(&kubeconfig, live.kubeconfig()).unwrap();
    std::fs::write(&account, live.account_kubeconfig()).unwrap();
    let user = live.client().await.unwrap();
    story("the cluster in the binary", &user, &kubeconfig, &account, true).await;
}

/// A definition that was just created or changed answers with 503 for a moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_uninstall_outlives_a_server_that_is_busy_at_each_first_request() {
    let live = empty_cluster().await;
    let folder = tempfile::tempdir().unwrap();
    let account = folder.path().join("account");
    std::fs::write(&account, live.account_kubeconfig()).unwrap();
    let user = live.client().await.unwrap();
    let mut asked = BTreeSet::new();
    let busy = move |request: &Asked| {
        let first = asked.insert((request.method.to_string(), request.path.clone()));
        let tried = first && request.path.contains("sluice.dev");
        if tried { Fate::Refuse(503) } else { Fate::Pass }
    };
    let proxy = Proxy::start(user.clone(), busy).await;
    let kubeconfig = proxy.kubeconfig(folder.path());
    story("a cluster that is busy", &user, &kubeconfig, &account, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_uninstall_in_mid_release_on_a_real_control_plane() {
    let Some(plane) = own() else { return };
    let kubelet = plane.client(Who::Admin);
    let kubelet = tokio::spawn(async move {
        let clock = Arc::new(SystemClock);
        remote::serve(kubelet, clock, 3, None, Behaviours::default()).await
    });
    let user = plane.client(Who::User);
    let (kubeconfig, account) = (plane.kubeconfig(Who::User), plane.kubeconfig(Who::Sluice));
    story("the real control plane", &user, &kubeconfig, &account, false).await;
    kubelet.abort();
}

async fn let_go(kubeconfig: &Path) -> std::process::Output {
    tokio::process::Command::new(env!("CARGO_BIN_EXE_sluice"))
        .args(["let-go", WEB, "--namespace", "default", "--kubeconfig"])
        .arg(kubeconfig)
        .output()
        .await
        .unwrap()
}

/// A person who may not see the routes must not take the canary Service away that they send to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_list_the_routes_lets_go_of_nothing_that_they_carry() {
    let live = empty_cluster().await;
    let folder = tempfile::tempdir().unwrap();
    let account = folder.path().join("account");
    std::fs::write(&account, live.account_kubeconfig()).unwrap();
    let user = live.client().await.unwrap();
    create(&user, true).await;
    let controller = Controller::start(&account, "default", &[]);
    until(&user, "Healthy", &rollouts(), |r| r["status"]["phase"] == "Healthy").await;
    let body = json!({"spec": {"template": {"spec": {"containers": Shape::containers("web:v2")}}}});
    Http::merge(path(&deployments(), WEB), body).send(&user).await.unwrap();
    let waits = |r: &Value| r["status"]["release"]["state"] == "StepPaused";
    until(&user, "the first step", &rollouts(), waits).await;
    drop(controller);
    let objects = async || {
        let mut all = Vec::new();
        for (key, name) in
            [(routes(), WEB), (services(), "web-canary"), (deployments(), WEB), (gates(), "sluice")]
        {
            all.push(get(&user, &key, name).await["spec"].clone());
        }
        all
    };
    let before = objects().await;
    assert!(before[0].to_string().contains("web-canary"), "{}", before[0]);
    for code in [403, 404] {
        let refused = move |request: &Asked| {
            let list = !request.writes() && request.path.ends_with("/httproutes");
            if list { Fate::Refuse(code) } else { Fate::Pass }
        };
        let proxy = Proxy::start(user.clone(), refused).await;
        let kubeconfig = proxy.kubeconfig(folder.path());
        let output = let_go(&kubeconfig).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{code}: {said}");
        assert!(said.contains("httproutes.gateway.networking.k8s.io"), "{code}: {said}");
        assert_eq!(objects().await, before, "{code}: nothing was written");
    }
    let kubeconfig = folder.path().join("user");
    std::fs::write(&kubeconfig, live.kubeconfig()).unwrap();
    let output = let_go(&kubeconfig).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}: {}", get(&user, &rollouts(), WEB).await);
    let spec = get(&user, &routes(), WEB).await["spec"].to_string();
    assert!(!spec.contains("web-canary"), "{spec}");
}
