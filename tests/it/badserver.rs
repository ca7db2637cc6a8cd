//! An API server that refuses, fails or is silent: the controller loses nothing and goes on when the
//! server is well again; the command line says what to do. And ports and files that cannot be had.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use sluice::apply::Http;
use sluice::sim::live::Live;
use tokio::time::{Instant, sleep};

use crate::proxy::{Fate, Proxy};
use crate::stories::ground::{Controller, Ground, Plot};
use crate::world::{Shape, WEB, deployments, empty_cluster, rollouts, seconds, written};

/// A release that does not end in this time is stuck.
const PATIENCE: Duration = Duration::from_secs(120);

/// A cluster in this process behind a server that can be made bad.
struct Sick {
    live: Live,
    ground: Arc<Ground>,
    mood: Arc<Mutex<Fate>>,
    kubeconfig: PathBuf,
    _proxy: Proxy,
    _folder: tempfile::TempDir,
}

impl Sick {
    async fn new() -> Self {
        let live = empty_cluster().await;
        let folder = tempfile::tempdir().unwrap();
        let (ground, account) = Ground::live(&live, folder.path()).await;
        let mood = Arc::new(Mutex::new(Fate::Pass));
        let rule = mood.clone();
        let proxy = Proxy::start(account, move |_| rule.lock().unwrap().clone()).await;
        let kubeconfig = proxy.kubeconfig(folder.path());
        let ground = Arc::new(ground);
        Self { live, ground, mood, kubeconfig, _proxy: proxy, _folder: folder }
    }

    fn be(&self, mood: Fate) {
        *self.mood.lock().unwrap() = mood;
    }
}

async fn sluice(args: &[&str], kubeconfig: Option<&Path>) -> Output {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.args(args).kill_on_drop(true);
    if let Some(path) = kubeconfig {
        command.arg("--kubeconfig").arg(path);
    }
    let ended = tokio::time::timeout(PATIENCE, command.output()).await;
    ended.unwrap_or_else(|_| panic!("{args:?} hangs")).unwrap()
}

fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_controller_outlives_a_server_that_refuses_fails_and_hangs() {
    let sick = Sick::new().await;
    let shape = Shape {
        replicas: 4,
        max_surge: json!(1),
        max_unavailable: json!(0),
        routed: false,
        steps: json!([
            {"replicas": "25%", "pause": {"duration": 4}},
            {"replicas": "50%", "pause": {"duration": 4}},
            {"replicas": "75%", "pause": {"duration": 4}},
            {"replicas": "100%"},
        ]),
        ready_after: seconds(0),
    };
    let plot = Plot::new(sick.ground.clone(), "bad").await;
    let user = &sick.ground.user;
    let place = |mut object: serde_json::Value| {
        object["metadata"]["namespace"] = json!("bad");
        object
    };
    let created = place(shape.deployment("web:v1"));
    let created = Http::post(plot.path(&deployments(), ""), created).send(user).await.unwrap();
    // It does not even get to know who it is at first.
    sick.be(Fate::Refuse(401));
    let _process = Controller::start(&sick.kubeconfig, "bad", &[]);
    sleep(Duration::from_secs(2)).await;
    sick.be(Fate::Pass);
    let mut rollout = place(shape.rollout());
    // A deadline goes on while nobody can write.
    rollout["spec"]["progressDeadlineSeconds"] = json!(300);
    Http::post(plot.path(&rollouts(), ""), rollout).send(user).await.unwrap();
    let end = Instant::now() + PATIENCE;
    let rollout = || sick.ground.book.get("bad", "rollouts", WEB);
    let late = || assert!(Instant::now() < end, "it is stuck: {}", rollout()["status"]);
    while rollout()["status"]["phase"] != "Healthy" {
        late();
        sleep(Duration::from_millis(50)).await;
    }
    let containers = Shape::containers("web:v2");
    let body = json!({"spec": {"template": {"spec": {"containers": containers}}}});
    Http::merge(plot.path(&deployments(), WEB), body).send(user).await.unwrap();
    let moods = [401, 403, 429, 500].map(Fate::Refuse).into_iter().chain([Fate::Hang]);
    for mood in moods {
        sick.be(mood);
        sleep(Duration::from_millis(2_500)).await;
        sick.be(Fate::Pass);
        sleep(Duration::from_millis(500)).await;
    }
    while rollout()["status"]["lastRelease"].is_null()
        || !rollout()["metadata"]["finalizers"].is_null()
    {
        late();
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(rollout()["status"]["lastRelease"]["decision"], "Promoted");
    let mut wanted = written(created);
    wanted["spec"]["template"]["spec"]["containers"][0]["image"] = json!("web:v2");
    let found = sick.ground.book.get("bad", "deployments", WEB);
    assert_eq!(written((*found).clone()), wanted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_says_what_to_do_about_a_bad_server() {
    let sick = Sick::new().await;
    let says = [
        (Fate::Refuse(401), "log in again"),
        (Fate::Refuse(403), "lacks the permission"),
        (Fate::Refuse(429), "try again in a minute"),
        (Fate::Refuse(500), "a problem of its own"),
        (Fate::Hang, "does not answer"),
    ];
    for (mood, words) in says {
        sick.be(mood.clone());
        for line in ["get", "status web", "install", "approve web", "let-go web", "plan web"] {
            let mut args: Vec<&str> = line.split(' ').collect();
            args.extend(["--request-timeout", "2s"]);
            let output = sluice(&args, Some(&sick.kubeconfig)).await;
            let said = complaint(&output);
            let code = if line.starts_with("status") { 4 } else { 1 };
            assert_eq!(output.status.code(), Some(code), "{line} at {mood:?}: {said}");
            assert!(!said.contains("Status {"), "no debug output: {said}");
            assert!(said.starts_with("error: ") && said.contains(words), "{line} {mood:?}: {said}");
        }
        sick.be(Fate::Pass);
    }
    assert!(sick.live.server().resource_version() > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_not_there_is_said_with_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    // Bound and closed again: nobody listens.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let text = sluice::sim::apiserver::kubeconfig(address, "secret");
    let path = folder.path().join("kubeconfig");
    std::fs::write(&path, text).unwrap();
    let output = sluice(&["get"], Some(&path)).await;
    let said = complaint(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("does not answer"), "{said}");
    let output = sluice(&["get"], Some(&folder.path().join("none"))).await;
    let said = complaint(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("--kubeconfig") && said.contains("none"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_taken_port_is_said_with_a_remedy() {
    let sick = Sick::new().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = sluice(&["controller", "--listen", &address], Some(&sick.kubeconfig)).await;
    let said = complaint(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&address) && said.contains("choose a free port"), "{said}");
}

#[test]
fn a_file_that_cannot_be_written_or_read_is_said_with_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    // A file where a folder should be: nobody can write below it, not even root.
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let below = file.join("kubeconfig");
    let run =
        |args: &[&str]| Command::new(env!("CARGO_BIN_EXE_sluice")).args(args).output().unwrap();
    let output = run(&["demo", "--kubeconfig-out", below.to_str().unwrap()]);
    let said = complaint(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(below.to_str().unwrap()) && said.contains("--kubeconfig-out"), "{said}");
    for args in [["lint", below.to_str().unwrap()], ["lint", "none.yaml"]] {
        let output = run(&args);
        let said = complaint(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(args[1]), "{said}");
    }
}

#[test]
fn flags_that_cannot_work_are_said_before_any_server_is_asked() {
    let run = |line: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
        let output =
            command.args(line.split(' ')).args(["--kubeconfig", "/none"]).output().unwrap();
        (output.status.code(), complaint(&output))
    };
    let (code, said) = run("controller --no-lease --listen 127.0.0.1:0 --poll-alerts");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("--poll-alerts: there is no server to ask"), "{said}");
    let (code, said) = run("controller --no-lease --listen 127.0.0.1:0 --prometheus foo");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("--prometheus"), "{said}");
}

#[test]
fn a_kubeconfig_that_cannot_be_used_is_said_once_with_its_path_and_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broken");
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
        command.arg("get").args(args).env("KUBECONFIG", &path);
        complaint(&command.output().unwrap())
    };
    std::fs::write(&path, "clusters: [unclosed-thing\n").unwrap();
    let at = path.to_str().unwrap();
    for args in [&["--kubeconfig", at][..], &[], &["--context", "nope"]] {
        let said = run(args);
        assert!(said.contains(at), "{args:?}: {said}");
        assert_eq!(said.matches("unclosed-thing").count(), 1, "{args:?}: {said}");
    }
    let address = "127.0.0.1:1".parse().unwrap();
    std::fs::write(&path, sluice::sim::apiserver::kubeconfig(address, "secret")).unwrap();
    let said = run(&["--context", "nope"]);
    assert!(said.contains("has no context nope: kubectl config get-contexts"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_page_in_place_of_the_api_server_is_called_one() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let page = || async { axum::response::Html("<html>log in</html>") };
    let app = axum::Router::new().fallback(page);
    tokio::spawn(async move { axum::serve(listener, app).await });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubeconfig");
    std::fs::write(&path, sluice::sim::apiserver::kubeconfig(address, "secret")).unwrap();
    let said = complaint(&sluice(&["get"], Some(&path)).await);
    assert!(said.contains("login page"), "{said}");
}
