//! The scenarios again, on the real control plane: the same files, the controller as a process of its
//! own, real time. Where the outcome differs from `sim`'s, `sim` is wrong.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use serde_json::{Value, json};
use sluice::apply::Http;
use sluice::clock::SystemClock;
use sluice::sim::apiserver::ResourceKey;
use sluice::sim::gateway::{Surroundings, parents_status};
use sluice::sim::kubelet::{Behaviours, remote};
use sluice::sim::scenario::{Deed, Expect, Objects, Scenario};
use tokio::time::{Instant, sleep, sleep_until};

use crate::controlplane::harness::{ControlPlane, Who, shared};

/// Stories that run on `sim` alone, each with the reason.
const SIM_ALONE: [(&str, &str); 12] = [
    ("routed_errors_are_rolled_back", "its verdict needs scraped requests"),
    ("routed_good_is_promoted", "its verdict needs scraped requests"),
    ("routed_user_edits_the_route_in_between", "its verdict needs scraped requests"),
    ("ab_matches_then_no_traffic_then_a_weight", "not yet played there"),
    ("hold_errors_wait_for_a_person", "not yet played there"),
    ("isolate_errors_keep_the_pods_without_traffic", "not yet played there"),
    ("plain_aborted_at_zero_replicas", "not yet played there"),
    ("plain_paused_by_hand_while_it_moves", "not yet played there"),
    ("plain_scaled_to_one_and_back", "not yet played there"),
    ("plain_stable_again_after_a_rejected_template", "not yet played there"),
    ("plain_users_own_pause_survives_a_rollback", "not yet played there"),
    ("routed_workload_deleted_then_the_rollout", "not yet played there"),
];
/// A real cluster may be this much later than the story says.
const PATIENCE: Duration = Duration::from_secs(60);

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios")
}

fn manifests(path: &Path, namespace: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    let mut all: Vec<Value> =
        text.split("\n---").map(|part| serde_saphyr::from_str::<Value>(part).unwrap()).collect();
    for object in &mut all {
        object["metadata"]["namespace"] = json!(namespace);
        // Without requests there is nothing to judge: the step waits for time instead.
        if object["kind"] == "Rollout" {
            let steps = object["spec"]["strategy"]["canary"]["steps"].as_array_mut().unwrap();
            for step in steps {
                if step.as_object_mut().unwrap().remove("analysis").is_some() {
                    step["pause"] = json!({"duration": 12});
                }
            }
        }
    }
    all
}

struct Stage {
    client: kube::Client,
    namespace: String,
    kubeconfig: PathBuf,
    controller: Option<Child>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Stage {
    fn kill(&mut self) {
        if let Some(mut child) = self.controller.take() {
            let _gone = child.kill();
            let _status = child.wait();
        }
    }

    fn start(&mut self) {
        let log = std::env::temp_dir().join(format!("sluice-story-{}.log", self.namespace));
        let log = std::fs::File::options().create(true).append(true).open(log).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_sluice"))
            .args(["controller", "--no-lease", "--listen", "127.0.0.1:0", "-n", &self.namespace])
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.controller = Some(child);
    }

    fn path(&self, key: &ResourceKey, name: &str) -> String {
        let root = if key.group.is_empty() {
            format!("/api/{}", key.version)
        } else {
            format!("/apis/{}/{}", key.group, key.version)
        };
        let tail = if name.is_empty() { String::new() } else { format!("/{name}") };
        format!("{root}/namespaces/{}/{}{tail}", self.namespace, key.plural)
    }

    async fn objects(&self) -> Objects {
        let mut out = Objects::default();
        for (kind, key) in Objects::kinds().unwrap() {
            let list = Http::get(self.path(&key, "")).send(&self.client).await.unwrap();
            for object in list["items"].as_array().unwrap() {
                out.add(kind, object.clone());
            }
        }
        out
    }

    async fn expect(&self, expect: &Expect) -> Result<(), String> {
        let end = Instant::now() + PATIENCE;
        loop {
            let found = expect.check(&self.objects().await);
            if found.is_ok() || Instant::now() >= end {
                return found;
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    async fn create(&self, manifests: &[Value]) -> Result<(), String> {
        for object in manifests {
            let version = object["apiVersion"].as_str().unwrap();
            let kind = object["kind"].as_str().unwrap().to_lowercase();
            let (group, version) = version.split_once('/').unwrap_or(("", version));
            let key = ResourceKey::new(group, version, &format!("{kind}s"));
            let sent = Http::post(self.path(&key, ""), object.clone()).send(&self.client).await;
            sent.map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    async fn perform(&mut self, deed: Deed) -> Result<(), String> {
        match deed {
            Deed::Controller(true) => self.start(),
            Deed::Controller(false) => self.kill(),
            Deed::Expect(expect) => return self.expect(&expect).await,
            Deed::Delete { key, name } => {
                let gone = Http::delete(self.path(&key, &name), json!({})).send(&self.client).await;
                gone.map_err(|e| e.to_string())?;
            }
            Deed::Patch { key, name, subresource, body } => {
                let mut at = self.path(&key, &name);
                if let Some(sub) = subresource {
                    at = format!("{at}/{sub}");
                }
                let done = Http::merge(at, body).send(&self.client).await;
                done.map_err(|e| e.to_string())?;
            }
        }
        Ok(())
    }
}

fn said(route: &Value, parent: &Value) -> Value {
    let around =
        Surroundings { gateways: &[parent], exists: &|_| true, now: jiff::Timestamp::UNIX_EPOCH };
    parents_status(route, &around)
}

/// Writes what a gateway would say of the routes of a namespace.
async fn gateway(client: kube::Client, namespace: String) {
    let parent = json!({
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {"gatewayClassName": "sim",
            "listeners": [{"name": "http", "protocol": "HTTP", "port": 80}]},
    });
    let at = format!("/apis/gateway.networking.k8s.io/v1/namespaces/{namespace}/httproutes");
    loop {
        let list = Http::get(at.clone()).send(&client).await.unwrap_or_default();
        for route in list["items"].as_array().cloned().unwrap_or_default() {
            let status = said(&route, &parent);
            if route["status"] != status {
                let name = route["metadata"]["name"].as_str().unwrap();
                let body = json!({"status": status});
                let _raced = Http::merge(format!("{at}/{name}/status"), body).send(&client).await;
            }
        }
        sleep(Duration::from_millis(100)).await;
    }
}

async fn play(plane: &'static ControlPlane, name: String) -> Result<(), String> {
    let file = folder().join(format!("{name}.scenario"));
    let scenario = Scenario::parse(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let namespace = name.replace('_', "-");
    let client = plane.client(Who::User);
    let made = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
    Http::post("/api/v1/namespaces", made).send(&client).await.map_err(|e| e.to_string())?;
    let mut behaviours = Behaviours::default().ready_after(scenario.ready_after);
    for (image, behaviour) in &scenario.ready {
        behaviours.set(image, *behaviour);
    }
    let (nodes, ns) = (plane.client(Who::Admin), namespace.clone());
    let kubelets = tokio::spawn(async move {
        let clock = Arc::new(SystemClock);
        remote::serve(nodes, clock, 3, Some(&ns), behaviours).await
    });
    let gateway = tokio::spawn(gateway(plane.client(Who::Admin), namespace.clone()));
    let mut stage = Stage {
        client,
        namespace: namespace.clone(),
        kubeconfig: plane.kubeconfig(Who::Sluice),
        controller: None,
    };
    stage.start();
    let world = format!("{}.yaml", name.split('_').next().unwrap());
    let manifests = manifests(&folder().join(world), &namespace);
    stage.create(&manifests).await?;
    let ready = Expect::Phase("web".into(), "Healthy".into());
    stage.expect(&ready).await.map_err(|e| format!("it never became Healthy: {e}"))?;
    let start = Instant::now();
    let at = |span: SignedDuration| start + Duration::try_from(span).unwrap_or_default();
    let mut bad = String::new();
    // What is awaited may come late on a busy machine: the rest of the story waits with it.
    let mut late = Duration::ZERO;
    for line in &scenario.lines {
        sleep_until(at(line.at) + late).await;
        let began = Instant::now();
        let objects = stage.objects().await;
        let deed = line.act.decide(&objects, &manifests)?;
        if let Err(found) = stage.perform(deed).await {
            writeln!(bad, "line {}: {}: {found}", line.number, line.text).unwrap();
        }
        late += began.elapsed();
    }
    if let Some(until) = scenario.until {
        sleep_until(at(until) + late).await;
    }
    for (number, text, expect) in &scenario.expects {
        if matches!(expect, Expect::NoFailuresElsewhere) {
            continue;
        }
        if let Err(found) = stage.expect(expect).await {
            writeln!(bad, "line {number}: {text}: {found}").unwrap();
        }
    }
    kubelets.abort();
    gateway.abort();
    if bad.is_empty() {
        return Ok(());
    }
    let rollouts = ResourceKey::new("sluice.dev", "v1beta1", "rollouts");
    let status = Http::get(stage.path(&rollouts, "web")).send(&stage.client).await;
    let status = status.map(|r| r["status"].to_string()).unwrap_or_default();
    Err(format!("{bad}{status}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_scenario_ends_the_same_on_the_real_control_plane() {
    let Some(plane) = shared() else { return };
    let only = std::env::var("STORY").ok();
    let mut names: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "scenario"))
        .map(|p| p.file_stem().unwrap().to_string_lossy().into_owned())
        .filter(|n| only.as_ref().is_none_or(|o| n.contains(o.as_str())))
        .collect();
    names.sort();
    let total = names.len();
    names.retain(|n| !SIM_ALONE.iter().any(|(alone, _)| alone == n));
    let played = names.len();
    let mut bad = String::new();
    // A few at a time: each has a controller and kubelets of its own.
    let mut waiting = names.into_iter();
    let mut tasks = tokio::task::JoinSet::new();
    loop {
        while tasks.len() < 5
            && let Some(name) = waiting.next()
        {
            tasks.spawn(async move { (name.clone(), play(plane, name).await) });
        }
        let Some(done) = tasks.join_next().await else { break };
        let (name, result) = done.unwrap();
        println!("{} {name}", if result.is_ok() { "ok  " } else { "BAD " });
        if let Err(text) = result {
            writeln!(bad, "== {name}\n{text}").unwrap();
        }
    }
    println!("{played} of {total} stories played on the real control plane");
    for (name, reason) in SIM_ALONE {
        println!("on sim alone: {name}: {reason}");
    }
    assert!(bad.is_empty(), "{bad}");
}
