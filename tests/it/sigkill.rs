//! The controller as a process of its own, killed with SIGKILL before and after each of its writes: on the
//! cluster in the binary in real time, and on the real control plane.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use sluice::apply::Http;
use sluice::sim::kubelet::Behaviours;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::controlplane::harness::{Who, shared};
use crate::proxy::{Asked, Fate as Answer, Proxy};
use crate::stories::ground::{Controller, Ground, Plot};
use crate::world::{
    Shape, WEB, deployments, empty_cluster, ready_since, rollouts, routes, seconds, services,
    written,
};

/// A release that does not end in this time is stuck.
const PATIENCE: Duration = Duration::from_secs(120);
/// Controllers at the same time.
const TOGETHER: usize = 6;

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

/// By namespace.
type Fates = Arc<Mutex<BTreeMap<String, Fate>>>;

fn judge(fates: &Fates, asked: &Asked) -> Answer {
    let mut fates = fates.lock().unwrap();
    let Some(fate) = asked.namespace().and_then(|namespace| fates.get_mut(namespace)) else {
        return Answer::Pass;
    };
    if fate.dead {
        return Answer::Hang;
    }
    if !asked.writes() {
        return Answer::Pass;
    }
    fate.writes += 1;
    if fate.writes != fate.write || fate.killed {
        return Answer::Pass;
    }
    fate.dead = true;
    if fate.done { Answer::LoseAnswer } else { Answer::Hang }
}

/// A release and its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Story {
    /// Pods alone.
    Plain,
    /// With an HTTPRoute.
    Routed,
    /// The same, aborted at its first step.
    Back,
}

impl Story {
    fn shape(self) -> Shape {
        let first = match self {
            Self::Plain => json!({"replicas": "50%", "pause": {"duration": 1}}),
            Self::Routed => {
                json!({"replicas": "50%", "traffic": "20%", "pause": {"duration": 1}})
            }
            Self::Back => json!({"replicas": "50%", "traffic": "20%", "pause": {}}),
        };
        Shape {
            replicas: 2,
            max_surge: json!(1),
            max_unavailable: json!(0),
            routed: self != Self::Plain,
            steps: json!([first, {"replicas": "100%"}]),
            ready_after: seconds(0),
        }
    }

    /// The decision, and the image that everything runs in the end.
    fn end(self) -> (&'static str, &'static str) {
        match self {
            Self::Plain | Self::Routed => ("Promoted", "web:v2"),
            Self::Back => ("RolledBack", "web:v1"),
        }
    }
}

/// The user's objects as they were created: plural, object.
type Created = Vec<(String, Value)>;

/// Where the releases are played.
struct Scene {
    ground: Arc<Ground>,
    fates: Fates,
    /// Points to the proxy that asks the fates.
    kubeconfig: PathBuf,
    /// Nobody else starts pods.
    kubelets: bool,
    _proxy: Proxy,
    _folder: tempfile::TempDir,
}

impl Scene {
    async fn new(mut ground: Ground, account: kube::Client, kubelets: bool) -> Arc<Self> {
        let fates = Fates::default();
        let rule = fates.clone();
        let proxy = Proxy::start(account, move |asked| judge(&rule, asked)).await;
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = proxy.kubeconfig(folder.path());
        ground.account.clone_from(&kubeconfig);
        let ground = Arc::new(ground);
        Arc::new(Self { ground, fates, kubeconfig, kubelets, _proxy: proxy, _folder: folder })
    }

    fn fate(&self, namespace: &str) -> Fate {
        self.fates.lock().unwrap()[namespace]
    }

    /// One release in a namespace of its own; its number of writes, or what is wrong.
    async fn release(self: Arc<Self>, story: Story, fate: Fate) -> Result<usize, String> {
        let when = if fate.done { "after" } else { "before" };
        let namespace = format!("sigkill-{story:?}-{}-{when}", fate.write).to_lowercase();
        let shape = story.shape();
        let mut plot = Plot::new(self.ground.clone(), &namespace).await;
        if self.kubelets {
            plot.kubelets(Behaviours::default());
        }
        let at = |mut object: Value| {
            object["metadata"]["namespace"] = json!(namespace);
            object
        };
        let user = &self.ground.user;
        let mut manifests = vec![(deployments(), shape.deployment("web:v1"))];
        if shape.routed {
            plot.gateway(!self.kubelets).await;
            manifests.extend([(services(), Shape::service()), (routes(), Shape::route())]);
        }
        let mut created = Created::new();
        for (key, object) in manifests {
            let post = Http::post(plot.path(&key, ""), at(object));
            created.push((key.plural.to_string(), post.send(user).await.unwrap()));
        }
        self.fates.lock().unwrap().insert(namespace.clone(), fate);
        let book = &self.ground.book;
        let (mut asked, mut aborted, mut rollout_there) = (false, false, false);
        let end = Instant::now() + PATIENCE;
        plot.controller = Some(Controller::start(&self.kubeconfig, &namespace, &[]));
        while Instant::now() < end {
            sleep(Duration::from_millis(20)).await;
            self.bury(&mut plot).await;
            let rollout = book.get(&namespace, "rollouts", WEB);
            let deployment = book.get(&namespace, "deployments", WEB);
            if !rollout_there && deployment["status"]["readyReplicas"] == 2 {
                let object = at(shape.rollout());
                Http::post(plot.path(&rollouts(), ""), object).send(user).await.unwrap();
                rollout_there = true;
            } else if !asked && rollout["status"]["phase"] == "Healthy" {
                let body = json!({"spec": {"template": {
                    "spec": {"containers": Shape::containers("web:v2")}}}});
                let path = plot.path(&deployments(), WEB);
                Http::merge(path, body).send(user).await.unwrap();
                asked = true;
            } else if story == Story::Back
                && !aborted
                && rollout["status"]["release"]["state"] == "StepPaused"
            {
                let path = format!("{}/status", plot.path(&rollouts(), WEB));
                let body = json!({"status": {"request": {"verb": "Abort"}}});
                Http::merge(path, body).send(user).await.unwrap();
                aborted = true;
            }
            let over = !rollout["status"]["lastRelease"].is_null()
                && rollout["metadata"]["finalizers"].is_null();
            if over && let Some(found) = self.ended(story, &namespace, &created) {
                return found.map(|()| self.fate(&namespace).writes);
            }
        }
        let status = book.get(&namespace, "rollouts", WEB)["status"].clone();
        Err(format!("{story:?} {:?}: stuck: {status}", self.fate(&namespace)))
    }

    /// A controller whose time has come dies, and another one starts.
    async fn bury(&self, plot: &mut Plot) {
        if self.fate(&plot.namespace).dead {
            plot.controller = None;
            // What the API server was told before the end has been done by now.
            sleep(Duration::from_millis(200)).await;
            let mut fates = self.fates.lock().unwrap();
            let fate = fates.get_mut(&plot.namespace).unwrap();
            fate.dead = false;
            fate.killed = true;
        }
        if plot.controller.is_none() {
            plot.controller = Some(Controller::start(&self.kubeconfig, &plot.namespace, &[]));
        }
    }

    /// Nothing until everything is in place and the Gate's entry names no release; then what is wrong.
    fn ended(
        &self,
        story: Story,
        namespace: &str,
        created: &Created,
    ) -> Option<Result<(), String>> {
        let book = &self.ground.book;
        let (fate, now) = (self.fate(namespace), book.now(namespace));
        let of = |wanted: &'static str| now.iter().filter(move |(plural, _)| plural == wanted);
        let (decision, image) = story.end();
        let at = "/spec/template/spec/containers/0/image";
        let pods: Vec<_> = of("pods")
            .map(|(_, pod)| pod)
            .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
            .collect();
        let is_right = |pod: &&Arc<Value>| {
            ready_since(pod).is_some() && pod["spec"]["containers"][0]["image"] == image
        };
        if pods.len() != 2 || !pods.iter().all(is_right) {
            return None;
        }
        let rollout = book.get(namespace, "rollouts", WEB);
        let found = &rollout["status"]["lastRelease"]["decision"];
        if found != decision {
            return Some(Err(format!("{story:?} {fate:?}: {found}")));
        }
        let entry = book.get(namespace, "gates", "sluice")["spec"]["deployments"][WEB].clone();
        if !entry["release"].is_null() || !entry["originals"].is_null() {
            return None;
        }
        if of("services").count()
            != created.iter().filter(|(plural, _)| plural == "services").count()
        {
            return None;
        }
        for (plural, object) in created {
            let mut wanted = written(object.clone());
            if let Some(stands) = wanted.pointer_mut(at) {
                *stands = json!(image);
            }
            let found = written((*book.get(namespace, plural, WEB)).clone());
            if found != wanted {
                let text = format!("it is {found}\nand should be {wanted}");
                return Some(Err(format!("{story:?} {fate:?}: {text}")));
            }
        }
        if fate.write > 0 && !fate.killed && fate.writes >= fate.write {
            return Some(Err(format!("{story:?} {fate:?}: it was not killed")));
        }
        Some(Ok(()))
    }

    /// The release undisturbed, and with a death before and after each of its writes; with `half` of
    /// them before every other write and after the others.
    async fn play(self: Arc<Self>, cluster: &str, story: Story, half: bool) {
        let began = Instant::now();
        let play = |write, done| {
            let fate = Fate { write, done, ..Fate::default() };
            self.clone().release(story, fate)
        };
        let writes = play(0, false).await.unwrap();
        assert!(writes > 8, "only {writes} writes");
        let all = (1..=writes).flat_map(|write| [(write, false), (write, true)]);
        let mut left: Vec<(usize, bool)> =
            all.filter(|(write, done)| !half || (write % 2 == 0) == *done).collect();
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
        println!(
            "{runs} stories played with SIGKILL at each of {writes} writes of {story:?} on {cluster}, \
             {} of them wrong, {} s",
            bad.len(),
            began.elapsed().as_secs()
        );
        assert!(bad.is_empty(), "{}", bad.join("\n"));
    }
}

async fn on_the_cluster_in_the_binary(story: Story) {
    let live = empty_cluster().await;
    let folder = tempfile::tempdir().unwrap();
    let (ground, account) = Ground::live(&live, folder.path()).await;
    let scene = Scene::new(ground, account, false).await;
    scene.play("the cluster in the binary", story, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_survives_sigkill_at_each_write_of_the_controller() {
    on_the_cluster_in_the_binary(Story::Plain).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_routed_release_survives_sigkill_at_each_write() {
    on_the_cluster_in_the_binary(Story::Routed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollback_survives_sigkill_at_each_write() {
    on_the_cluster_in_the_binary(Story::Back).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn releases_survive_sigkill_at_each_write_on_the_real_control_plane() {
    let Some(plane) = shared() else { return };
    let ground = Ground::real(plane).await;
    let scene = Scene::new(ground, plane.client(Who::Sluice), true).await;
    scene.clone().play("the real control plane", Story::Plain, false).await;
    // Each in one of the two ways, or with `KILL=both` in both as on the cluster in the binary.
    let half = std::env::var("KILL").map_or(true, |ways| ways != "both");
    scene.clone().play("the real control plane", Story::Routed, half).await;
    scene.play("the real control plane", Story::Back, half).await;
}
