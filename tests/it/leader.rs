//! Several controllers and one Lease, definitions that come later, and the end of a process.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kube::config::{Config, Kubeconfig};
use serde_json::{Value, json};
use sluice::apply::Http;
use sluice::sim::apiserver::ResourceKey;
use sluice::sim::live::Live;
use tokio::time::{Instant, sleep};

use crate::proxy::{Fate, Proxy};
use crate::world::{Shape, WEB, deployments, empty_cluster, rollouts, routes, seconds, services};

/// What does not happen in this time does not happen.
const PATIENCE: Duration = Duration::from_secs(90);
/// What a kubelet gives a process between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(30);
const HOME: &str = "sluice-system";

/// A cluster without a controller.
struct Stage {
    live: Live,
    user: kube::Client,
    account: kube::Client,
    folder: tempfile::TempDir,
}

impl Stage {
    async fn new() -> Self {
        let live = empty_cluster().await;
        let config = Kubeconfig::from_yaml(&live.account_kubeconfig()).unwrap();
        let config = Config::from_custom_kubeconfig(config, &Default::default()).await.unwrap();
        let account = kube::Client::try_from(config).unwrap();
        let user = live.client().await.unwrap();
        let named = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": HOME}});
        Http::post("/api/v1/namespaces", named).send(&user).await.unwrap();
        Self { live, user, account, folder: tempfile::tempdir().unwrap() }
    }

    async fn create(&self, key: &ResourceKey, mut object: Value) {
        let is_cluster_wide = object["metadata"]["namespace"].is_null();
        if !is_cluster_wide {
            object["metadata"]["namespace"] = json!("default");
        }
        let scope = if is_cluster_wide { "" } else { "namespaces/default/" };
        let root = if key.group.is_empty() { "api" } else { "apis" };
        let at = format!("/{root}/{}/{scope}{}", key.api_version(), key.plural);
        Http::post(at, object).send(&self.user).await.unwrap();
    }

    async fn patch(&self, path: &str, body: Value) {
        Http::merge(path, body).send(&self.user).await.unwrap();
    }

    /// A workload of two pods whose release waits at its first step.
    async fn workload(&self, routed: bool) {
        let shape = Shape {
            replicas: 2,
            max_surge: json!(1),
            max_unavailable: json!(0),
            routed,
            steps: if routed {
                json!([{"replicas": "50%", "traffic": "20%", "pause": {}}, {"replicas": "100%"}])
            } else {
                json!([{"replicas": "50%", "pause": {}}, {"replicas": "100%"}])
            },
            ready_after: seconds(0),
        };
        self.create(&deployments(), shape.deployment("web:v1")).await;
        if routed {
            self.create(&services(), Shape::service()).await;
            self.create(&routes(), Shape::route()).await;
        }
        self.create(&rollouts(), shape.rollout()).await;
    }

    async fn image(&self, image: &str) {
        let body =
            json!({"spec": {"template": {"spec": {"containers": Shape::containers(image)}}}});
        self.patch("/apis/apps/v1/namespaces/default/deployments/web", body).await;
    }

    async fn ask(&self, verb: &str) {
        let body = json!({"status": {"request": {"verb": verb}}});
        self.patch("/apis/sluice.dev/v1beta1/namespaces/default/rollouts/web/status", body).await;
    }

    fn rollout(&self) -> Value {
        let found = self.live.server().get(&rollouts(), "default", WEB);
        found.map(|object| (*object).clone()).unwrap_or_default()
    }

    /// Waits for a status.
    async fn until(&self, what: &str, test: impl Fn(&Value) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !test(&self.rollout()["status"]) {
            assert!(Instant::now() < end, "{what}: {}", self.rollout());
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn until_it_waits(&self) {
        self.until("the first step", |s| s["release"]["state"] == "StepPaused").await;
    }

    async fn until_promoted(&self) {
        self.until("promoted", |s| s["lastRelease"]["decision"] == "Promoted").await;
    }

    /// Who has the Lease.
    fn lease(&self) -> Value {
        let key = ResourceKey::new("coordination.k8s.io", "v1", "leases");
        let found = self.live.server().get(&key, HOME, "sluice");
        found.map(|lease| lease["spec"].clone()).unwrap_or_default()
    }

    fn is_led_by(&self, name: &str) -> bool {
        let holder = self.lease()["holderIdentity"].as_str().unwrap_or_default().to_owned();
        holder.starts_with(&format!("{name}-"))
    }

    async fn until_led_by(&self, name: &str) {
        let end = Instant::now() + PATIENCE;
        while !self.is_led_by(name) {
            assert!(Instant::now() < end, "{name} does not lead: {}", self.lease());
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A controller process behind a proxy of its own.
struct Replica {
    child: Child,
    mood: Arc<Mutex<Fate>>,
    /// What it has written, but for the question who it is.
    written: Arc<Mutex<Vec<String>>>,
    listen: SocketAddr,
    log: PathBuf,
    _proxy: Proxy,
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

impl Replica {
    async fn start(stage: &Stage, name: &str, mood: Fate) -> Self {
        Self::with_list(stage, name, mood, None).await
    }

    /// Its lists of one kind are refused with this code while its mood is not to pass everything.
    async fn with_list(stage: &Stage, name: &str, mood: Fate, only: Option<&'static str>) -> Self {
        let mood = Arc::new(Mutex::new(mood));
        let written = Arc::<Mutex<Vec<String>>>::default();
        let (rule, book) = (mood.clone(), written.clone());
        let proxy = Proxy::start(stage.account.clone(), move |asked| {
            if asked.writes() && !asked.path.ends_with("/selfsubjectreviews") {
                book.lock().unwrap().push(format!("{} {}", asked.method, asked.path));
            }
            let meant = only.is_none_or(|plural| !asked.writes() && asked.path.ends_with(plural));
            if meant { rule.lock().unwrap().clone() } else { Fate::Pass }
        })
        .await;
        let kubeconfig = proxy.kubeconfig(stage.folder.path());
        let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let log = stage.folder.path().join(format!("{name}.log"));
        let child = spawn(name, &kubeconfig, listen, &log);
        Self { child, mood, written, listen, log, _proxy: proxy }
    }

    fn be(&self, mood: Fate) {
        *self.mood.lock().unwrap() = mood;
    }

    async fn until_ready(&self, words: &str) {
        let end = Instant::now() + PATIENCE;
        let url = format!("http://{}/readyz", self.listen);
        loop {
            let said = match reqwest::get(&url).await {
                Ok(answer) => answer.text().await.unwrap(),
                Err(error) => error.to_string(),
            };
            if said.trim() == words {
                return;
            }
            assert!(Instant::now() < end, "{said}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// SIGTERM, as a kubelet sends it.
    fn terminate(&self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    }

    /// How it ended; it must, within a time.
    async fn ended(&mut self, within: Duration) -> ExitStatus {
        let end = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            let log = || std::fs::read_to_string(&self.log).unwrap();
            assert!(Instant::now() < end, "it goes on for {within:?}: {}", log());
            sleep(Duration::from_millis(20)).await;
        }
    }
}

fn spawn(name: &str, kubeconfig: &Path, listen: SocketAddr, log: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_sluice"))
        .args(["controller", "-n", "default", "--listen", &listen.to_string(), "--kubeconfig"])
        .arg(kubeconfig)
        .env("HOSTNAME", name)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(log).unwrap())
        .spawn()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_controller_writes_and_another_takes_over_when_it_is_killed_or_ends() {
    let stage = Stage::new().await;
    let mut first = Replica::start(&stage, "first", Fate::Pass).await;
    stage.until_led_by("first").await;
    let mut second = Replica::start(&stage, "second", Fate::Pass).await;
    second.until_ready("waiting for the Lease").await;
    stage.workload(false).await;
    stage.until("Healthy", |s| s["phase"] == "Healthy").await;
    stage.image("web:v2").await;
    stage.until_it_waits().await;
    assert!(!first.written.lock().unwrap().is_empty());
    assert_eq!(*second.written.lock().unwrap(), Vec::<String>::new(), "the follower");

    // Killed: the Lease runs out, and the release goes on where it was.
    first.child.kill().unwrap();
    first.ended(PATIENCE).await;
    stage.ask("Approve").await;
    stage.until_led_by("second").await;
    assert_eq!(stage.lease()["leaseTransitions"], 1);
    stage.until_promoted().await;

    // Ended by SIGTERM: the Lease is given up, so that nobody waits for it to run out.
    let mut third = Replica::start(&stage, "third", Fate::Pass).await;
    third.until_ready("waiting for the Lease").await;
    let since = stage.live.server().resource_version();
    second.terminate();
    assert!(second.ended(GRACE).await.success());
    stage.until_led_by("third").await;
    let given_up = stage.live.server().changes_since(since).into_iter().any(|change| {
        change.object["kind"] == "Lease" && change.object["spec"]["holderIdentity"] == ""
    });
    assert!(given_up, "the Lease was left to run out");
    stage.image("web:v3").await;
    stage.until_it_waits().await;
    third.terminate();
    assert!(third.ended(GRACE).await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_ends_in_time_though_its_server_hangs() {
    let stage = Stage::new().await;
    let mut leader = Replica::start(&stage, "leader", Fate::Pass).await;
    leader.until_ready("ok").await;
    let mut follower = Replica::start(&stage, "follower", Fate::Pass).await;
    follower.until_ready("waiting for the Lease").await;
    let mut nobody = Replica::start(&stage, "nobody", Fate::Hang).await;
    nobody.until_ready("waiting for the Lease").await;
    stage.workload(false).await;
    stage.until("Healthy", |s| s["phase"] == "Healthy").await;
    leader.be(Fate::Hang);
    follower.be(Fate::Hang);
    // A write is under way, and without an answer.
    stage.image("web:v2").await;
    sleep(Duration::from_millis(500)).await;
    for replica in [&leader, &follower, &nobody] {
        replica.terminate();
    }
    for replica in [&mut leader, &mut follower, &mut nobody] {
        let status = replica.ended(GRACE).await;
        assert!(status.success(), "{status}: {}", std::fs::read_to_string(&replica.log).unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_cannot_renew_its_lease_stops_before_another_may_begin() {
    let stage = Stage::new().await;
    let mut leader = Replica::start(&stage, "leader", Fate::Pass).await;
    leader.until_ready("ok").await;
    let _follower = Replica::start(&stage, "follower", Fate::Pass).await;
    leader.be(Fate::Hang);
    let status = leader.ended(PATIENCE).await;
    assert_eq!(status.code(), Some(1), "it must be restarted");
    let said = std::fs::read_to_string(&leader.log).unwrap();
    assert!(said.contains("the Lease was lost"), "{said}");
    assert!(stage.is_led_by("leader"), "it went on after the Lease was somebody else's");
    stage.until_led_by("follower").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn definitions_that_come_after_the_start_are_picked_up() {
    let stage = Stage::new().await;
    let crds = ResourceKey::new("apiextensions.k8s.io", "v1", "customresourcedefinitions");
    let server = stage.live.server();
    let definitions: Vec<Value> = server
        .list(&crds, None)
        .iter()
        .map(|found| {
            let mut object = (**found).clone();
            object["metadata"] = json!({"name": object["metadata"]["name"]});
            object.as_object_mut().unwrap().remove("status");
            object
        })
        .collect();
    for object in &definitions {
        let name = object["metadata"]["name"].as_str().unwrap();
        let at = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}");
        Http::delete(at, json!({})).send(&stage.user).await.unwrap();
    }
    let controller = Replica::start(&stage, "late", Fate::Pass).await;
    controller.until_ready("ok").await;
    for object in definitions {
        stage.create(&crds, object).await;
    }
    let gateway = ResourceKey::new("gateway.networking.k8s.io", "v1", "gateways");
    let object = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"gatewayClassName": "sim",
            "listeners": [{"name": "http", "protocol": "HTTP", "port": 80}]},
    });
    stage.create(&gateway, object).await;
    let class = ResourceKey::new("gateway.networking.k8s.io", "v1", "gatewayclasses");
    let object = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass",
        "metadata": {"name": "sim"},
        "spec": {"controllerName": sluice::sim::gateway::CONTROLLER},
    });
    stage.create(&class, object).await;
    stage.workload(true).await;
    stage.until("Healthy", |s| s["phase"] == "Healthy").await;
    stage.image("web:v2").await;
    stage.until("traffic", |s| s["traffic"]["observed"] == "20%").await;
    stage.until_it_waits().await;
    stage.ask("PromoteFull").await;
    stage.until_promoted().await;
}

/// What may not be listed may be there all the same: gates are not removed, workloads not deleted, routes
/// not gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_that_may_not_list_a_kind_decides_nothing_until_it_may() {
    let stage = Stage::new().await;
    let mut first = Replica::start(&stage, "first", Fate::Pass).await;
    first.until_ready("ok").await;
    stage.workload(true).await;
    stage.until("Healthy", |s| s["phase"] == "Healthy").await;
    stage.image("web:v2").await;
    stage.until("traffic", |s| s["traffic"]["observed"] == "20%").await;
    stage.until_it_waits().await;
    first.terminate();
    assert!(first.ended(GRACE).await.success());
    let said = |s: &Value| {
        let mut all = s["conditions"].as_array().into_iter().flatten();
        all.find(|c| c["type"] == "Refused").cloned()
    };
    for plural in ["/gates", "/deployments", "/httproutes", "/services", "/replicasets"] {
        let name = &plural[1..];
        let before = stage.rollout()["status"]["release"].clone();
        let mut replica = Replica::with_list(&stage, name, Fate::Refuse(403), Some(plural)).await;
        stage
            .until(plural, |s| {
                let message = said(s).map(|c| c["message"].to_string()).unwrap_or_default();
                message.contains(&format!("may not list {name}"))
            })
            .await;
        sleep(Duration::from_secs(1)).await;
        assert_eq!(stage.rollout()["status"]["release"], before, "{plural}");
        let writes = replica.written.lock().unwrap().clone();
        let others = writes.iter().filter(|line| {
            !["/rollouts/web/status", "/events", "/leases", "/leases/sluice"]
                .iter()
                .any(|end| line.ends_with(end))
        });
        assert_eq!(others.collect::<Vec<_>>(), Vec::<&String>::new(), "{plural}");
        let log = std::fs::read_to_string(&replica.log).unwrap();
        assert!(log.contains(&format!("may not list {name}")), "{log}");
        let readyz = reqwest::get(format!("http://{}/readyz", replica.listen)).await.unwrap();
        assert_eq!(readyz.status(), 503, "{plural}");
        replica.be(Fate::Pass);
        replica.until_ready("ok").await;
        stage.until("it is said no more", |s| said(s).is_none()).await;
        assert_eq!(stage.rollout()["status"]["release"]["stage"], before["stage"], "{plural}");
        replica.terminate();
        assert!(replica.ended(GRACE).await.success());
    }
    let last = Replica::start(&stage, "last", Fate::Pass).await;
    last.until_ready("ok").await;
    stage.ask("PromoteFull").await;
    stage.until_promoted().await;
}
