//! The controller as a process of its own, killed with SIGKILL before and after each of its writes. The
//! cluster is in memory and in real time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use sluice::sim::apiserver::{ApiServer, Fault, RequestInfo, ResourceKey};
use sluice::sim::cluster::{ACCOUNT, USER};
use sluice::sim::kubelet::Behaviours;
use sluice::sim::live::{Live, Options};
use sluice::sim::pods;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::world::{Shape, WEB, deployments, rollouts, seconds};

/// A release that does not end in this time is stuck.
const PATIENCE: Duration = Duration::from_secs(120);
/// Controllers at the same time.
const TOGETHER: usize = 4;

/// Where a controller dies.
#[derive(Debug, Clone, Copy, Default)]
struct Fate {
    /// At which write, from 1; 0 is never.
    write: usize,
    /// After it is done.
    done: bool,
    /// Writes so far.
    writes: usize,
    /// It is being killed: nothing it sends arrives.
    dead: bool,
    /// It was killed.
    killed: bool,
}

type Fates = Arc<Mutex<BTreeMap<String, Fate>>>;

fn judge(fates: &Fates, request: &RequestInfo) -> Fault {
    let mut fates = fates.lock().unwrap();
    let namespace = request.namespace.as_deref().unwrap_or_default();
    let Some(fate) = fates.get_mut(namespace).filter(|_| request.user == ACCOUNT) else {
        return Fault::Pass;
    };
    if fate.dead {
        return Fault::Disconnect { done: false };
    }
    if !request.writes() {
        return Fault::Pass;
    }
    fate.writes += 1;
    if fate.writes != fate.write || fate.killed {
        return Fault::Pass;
    }
    fate.dead = true;
    Fault::Disconnect { done: fate.done }
}

struct Process(Child);

impl Process {
    fn start(kubeconfig: &Path, namespace: &str) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_sluice"))
            .args(["controller", "--no-lease", "--listen", "127.0.0.1:0", "-n", namespace])
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Process {
    /// SIGKILL.
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _status = self.0.wait();
    }
}

/// One release in a namespace of its own; its number of writes, or what is wrong.
async fn release(
    server: ApiServer,
    fates: Fates,
    kubeconfig: PathBuf,
    fate: Fate,
) -> Result<usize, String> {
    let namespace = format!("at-{}-{}", fate.write, if fate.done { "after" } else { "before" });
    let shape = Shape {
        replicas: 2,
        max_surge: json!(1),
        max_unavailable: json!(0),
        routed: false,
        steps: json!([{"replicas": "50%", "pause": {"duration": 1}}, {"replicas": "100%"}]),
        ready_after: seconds(0),
    };
    let named = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
    server.create("admin", named).unwrap();
    let at = |mut object: Value| {
        object["metadata"]["namespace"] = json!(namespace);
        object
    };
    server.create(USER, at(shape.deployment("web:v1"))).unwrap();
    fates.lock().unwrap().insert(namespace.clone(), fate);
    let get = |key: ResourceKey| server.get(&key, &namespace, WEB).unwrap_or_default();
    let ready = |n: i64| get(deployments())["status"]["readyReplicas"] == n;
    let mut process = Some(Process::start(&kubeconfig, &namespace));
    let mut asked = None;
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        sleep(Duration::from_millis(20)).await;
        if fates.lock().unwrap()[&namespace].dead {
            process = None;
            let mut fates = fates.lock().unwrap();
            let fate = fates.get_mut(&namespace).unwrap();
            fate.dead = false;
            fate.killed = true;
        }
        if process.is_none() {
            process = Some(Process::start(&kubeconfig, &namespace));
        }
        let rollout = get(rollouts());
        if asked.is_none() && ready(2) && rollout.is_null() {
            server.create(USER, at(shape.rollout())).unwrap();
        } else if asked.is_none() && rollout["status"]["phase"] == "Healthy" {
            let body = json!({"spec": {"template": {
                "spec": {"containers": Shape::containers("web:v2")}}}});
            server.patch_merge(USER, &deployments(), &namespace, WEB, body).unwrap();
            asked = Some(Instant::now());
        }
        let over = !rollout["status"]["lastRelease"].is_null()
            && rollout["metadata"]["finalizers"].is_null();
        if over && !get(deployments()).is_null() {
            return ended(&rollout, &get(deployments()), &fates.lock().unwrap()[&namespace]);
        }
    }
    Err(format!("{fate:?}: stuck: {}", get(rollouts())["status"]))
}

fn ended(rollout: &Value, deployment: &Value, fate: &Fate) -> Result<usize, String> {
    let decision = &rollout["status"]["lastRelease"]["decision"];
    let spec = &deployment["spec"];
    let restored = spec["strategy"]["rollingUpdate"] == json!({"maxSurge": 1, "maxUnavailable": 0})
        && spec["minReadySeconds"].as_i64().unwrap_or(0) == 0
        && spec["paused"] != true
        && spec["progressDeadlineSeconds"] == 600;
    if decision != "Promoted" || !restored {
        return Err(format!("{fate:?}: {decision}, {spec}"));
    }
    if fate.write > 0 && !fate.killed && fate.writes >= fate.write {
        return Err(format!("{fate:?}: it was not killed"));
    }
    Ok(fate.writes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_survives_sigkill_at_each_write_of_the_controller() {
    let _already = rustls::crypto::ring::default_provider().install_default();
    let live = Live::without_controller(Options {
        seed: 1,
        nodes: 2,
        kubelet: Behaviours::default(),
        answers: pods::Behaviours::default(),
        scrape_every: seconds(60),
    })
    .await
    .unwrap();
    let fates = Fates::default();
    let rule = fates.clone();
    live.server().faults().set(Box::new(move |request| judge(&rule, request)));
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    std::fs::write(&kubeconfig, live.account_kubeconfig()).unwrap();
    let play = |write, done| {
        let fate = Fate { write, done, ..Fate::default() };
        release(live.server().clone(), fates.clone(), kubeconfig.clone(), fate)
    };
    let writes = play(0, false).await.unwrap();
    assert!(writes > 8, "only {writes} writes");
    let mut left: Vec<(usize, bool)> =
        (1..=writes).flat_map(|write| [(write, false), (write, true)]).collect();
    let runs = left.len();
    let mut playing = JoinSet::new();
    let mut bad = Vec::new();
    loop {
        while playing.len() < TOGETHER
            && let Some((write, done)) = left.pop()
        {
            playing.spawn(play(write, done));
        }
        let Some(ended) = playing.join_next().await else { break };
        bad.extend(ended.unwrap().err());
    }
    println!("{writes} writes, {runs} times SIGKILL, {} of them wrong", bad.len());
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}
