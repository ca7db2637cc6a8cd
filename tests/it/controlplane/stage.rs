//! One namespace with one Deployment, `web`, and what a scenario does there.
//!
//! Every size of every ReplicaSet is recorded, in the order in which the API server saw it. Between
//! two steps of a scenario the stage is [`Stage::settle`]d: pods become ready one at a time, and each
//! time everything has come to rest before the next, so that the record depends on no race.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::TryStreamExt;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use sluice::api::{FIELD_MANAGER, GATE_NAME, Gate};
use sluice::clock::{Clock, SystemClock};
use sluice::sim::controllers::Controllers;
use sluice::sim::plugins;

use super::harness::{self, Who};
use super::kubelet;
use super::trace::Rest;

/// The largest value that the API server accepts below the deadline's maximum.
pub const NEVER_AVAILABLE: i64 = 2_147_483_646;
/// The Deployment never counts as stuck.
pub const NO_DEADLINE: i64 = 2_147_483_647;

/// Where a test runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// etcd, kube-apiserver and kube-controller-manager.
    Real,
    /// The in-memory server and controllers.
    Memory,
}

impl Place {
    /// A stage there; `None` where there is no real control plane.
    pub async fn stage(self, namespace: &str) -> Option<Stage> {
        match self {
            Place::Real => Stage::on_the_real_one(namespace).await,
            Place::Memory => Some(Stage::in_memory(namespace).await),
        }
    }
}

/// Each of these tests runs on the real server and on the in-memory one.
macro_rules! on_both_servers {
    ($($test:ident),* $(,)?) => {
        mod real {
            $(#[tokio::test]
            async fn $test() {
                super::$test(crate::controlplane::stage::Place::Real).await;
            })*
        }
        mod in_memory {
            $(#[tokio::test]
            async fn $test() {
                super::$test(crate::controlplane::stage::Place::Memory).await;
            })*
        }
    };
}
pub(super) use on_both_servers;

/// A namespace, the people in it and what happened there.
pub struct Stage {
    clients: BTreeMap<&'static str, Client>,
    /// The namespace.
    pub namespace: String,
    record: Arc<Mutex<Vec<(String, i32)>>>,
    ready: Arc<Mutex<Ready>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Stage {
    /// A stage on the real control plane; `None` where there is none.
    pub async fn on_the_real_one(namespace: &str) -> Option<Self> {
        let plane = harness::shared()?;
        let clients = [Who::Admin, Who::User, Who::Sluice]
            .map(|who| (who.name(), plane.client(who)))
            .into_iter()
            .collect();
        Some(Self::open(clients, namespace).await)
    }

    /// A stage on an in-memory server of its own.
    pub async fn in_memory(namespace: &str) -> Self {
        let server = plugins::api_server(Arc::new(SystemClock));
        let clients: BTreeMap<_, _> = [Who::Admin, Who::User, Who::Sluice]
            .map(|who| (who.name(), server.client(who.name())))
            .into_iter()
            .collect();
        harness::furnish(&clients["admin"]).await;
        let mut controllers = Controllers::new(server.clone());
        let mut news = server.notify();
        let task = tokio::spawn(async move {
            loop {
                assert!(controllers.settle(), "the controllers fight");
                // A refused write is tried again without anything else having changed.
                let wait = tokio::time::sleep(Duration::from_millis(20));
                tokio::select! {
                    () = wait => {}
                    changed = news.changed() => if changed.is_err() { return },
                }
            }
        });
        let mut stage = Self::open(clients, namespace).await;
        stage.tasks.push(task);
        stage
    }

    /// A stage on whatever the clients speak to.
    async fn open(clients: BTreeMap<&'static str, Client>, namespace: &str) -> Self {
        let admin = clients["admin"].clone();
        let object = json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": namespace}});
        Api::<Namespace>::all(admin.clone())
            .create(&PostParams::default(), &serde_json::from_value(object).expect("a namespace"))
            .await
            .expect("the namespace is new");
        let record = Arc::new(Mutex::new(Vec::new()));
        let ready = Arc::new(Mutex::new(Ready::default()));
        let tasks = vec![
            tokio::spawn(kubelet::run(admin.clone(), namespace.to_owned())),
            tokio::spawn(recorder(admin.clone(), namespace.to_owned(), Arc::clone(&record))),
            tokio::spawn(counter(admin, namespace.to_owned(), Arc::clone(&ready))),
        ];
        Self { clients, namespace: namespace.to_owned(), record, ready, tasks }
    }

    /// The client of `who`.
    pub fn client(&self, who: Who) -> Client {
        self.clients[who.name()].clone()
    }

    /// The Deployments, as `who` sees them.
    pub fn deployments(&self, who: Who) -> Api<Deployment> {
        Api::namespaced(self.client(who), &self.namespace)
    }

    /// The ReplicaSets, as the controller sees them.
    pub fn replica_sets(&self) -> Api<ReplicaSet> {
        Api::namespaced(self.client(Who::Sluice), &self.namespace)
    }

    /// The pods, as the harness sees them.
    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client(Who::Admin), &self.namespace)
    }

    /// The Gates, as the controller sees them.
    pub fn gates(&self) -> Api<Gate> {
        Api::namespaced(self.client(Who::Sluice), &self.namespace)
    }

    /// Creates `web` with the image `web:v1` and the user's own strategy, 25 % and 25 %, and waits
    /// until all its pods are ready. `spec` is merged over it.
    pub async fn deploy(&self, replicas: i32, spec: Value) -> Deployment {
        let mut object = manifest(replicas, "v1");
        json_patch::merge(&mut object["spec"], &spec);
        self.deployments(Who::User)
            .create(&PostParams::default(), &serde_json::from_value(object).expect("a Deployment"))
            .await
            .expect("web is new");
        self.settle().await;
        self.web().await
    }

    /// The Deployment as it is.
    pub async fn web(&self) -> Deployment {
        self.deployments(Who::Admin).get("web").await.expect("web is there")
    }

    /// A merge patch of the Deployment.
    pub async fn patch(&self, who: Who, patch: Value) -> Deployment {
        let params = PatchParams {
            field_manager: (who == Who::Sluice).then(|| FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        self.deployments(who)
            .patch("web", &params, &Patch::Merge(patch))
            .await
            .expect("the patch is taken")
    }

    /// A merge patch of the Deployment's spec.
    pub async fn spec(&self, who: Who, spec: Value) -> Deployment {
        self.patch(who, json!({"spec": spec})).await
    }

    /// Changes the image.
    pub async fn image(&self, who: Who, tag: &str) -> Deployment {
        self.patch(who, template(tag)).await
    }

    /// Writes the entry of `web` into the namespace's Gate; `null` takes it out.
    pub async fn entry(&self, entry: Value) {
        let gate = json!({"apiVersion": "sluice.dev/v1beta1", "kind": "Gate",
            "metadata": {"name": GATE_NAME}, "spec": {"account": Who::Sluice.name()}});
        if self.gates().get_opt(GATE_NAME).await.expect("the Gate is readable").is_none() {
            let object = serde_json::from_value(gate).expect("a Gate");
            self.gates().create(&PostParams::default(), &object).await.expect("the Gate is new");
        }
        let patch = Patch::Merge(json!({"spec": {"deployments": {"web": entry}}}));
        self.gates()
            .patch(GATE_NAME, &PatchParams::default(), &patch)
            .await
            .expect("the entry is taken");
    }

    /// Gates `web`, and waits until a dry run proves it. A released entry proves the hold too.
    pub async fn gated(&self, entry: Value) {
        let released = entry.get("release").is_some();
        self.entry(entry).await;
        for _ in 0..600 {
            if self.proven(released).await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the gate is not in force after 30 seconds");
    }

    /// The controller's own proof: a dry run with a new template, open, with a foreign surge.
    pub async fn proven(&self, released: bool) -> bool {
        let before = self.web().await;
        let mut patch = template("proof");
        patch["spec"]["paused"] = json!(false);
        patch["spec"]["strategy"] = json!({"rollingUpdate": {"maxSurge": "77%"}});
        let params = PatchParams { dry_run: true, ..PatchParams::default() };
        let after = self
            .deployments(Who::Sluice)
            .patch("web", &params, &Patch::Merge(patch))
            .await
            .expect("a dry run is taken");
        let surge = |web: &Deployment| {
            let strategy = web.spec.clone().and_then(|spec| spec.strategy);
            strategy.and_then(|one| one.rolling_update).and_then(|one| one.max_surge)
        };
        let paused = after.spec.as_ref().and_then(|spec| spec.paused) == Some(true);
        paused && (!released || surge(&after) == surge(&before))
    }

    /// Writes a ReplicaSet's size by its `/scale`.
    pub async fn scale_set(&self, tag: &str, replicas: i32) {
        let name = self.set(tag).await.name_any();
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        self.replica_sets()
            .patch_scale(&name, &PatchParams::default(), &patch)
            .await
            .expect("the scale is taken");
    }

    /// A merge patch of a ReplicaSet.
    pub async fn patch_set(&self, tag: &str, body: Value) {
        let name = self.set(tag).await.name_any();
        let patch = Patch::Merge(body);
        self.replica_sets()
            .patch(&name, &PatchParams::default(), &patch)
            .await
            .expect("the patch is taken");
    }

    /// One ready pod with this tag is not any more.
    pub async fn unready(&self, tag: &str) {
        let pods = self.pods().list(&ListParams::default()).await.expect("a list");
        let pod = pods.items.iter().find(|pod| pod_tag(pod) == tag && is_ready(pod));
        let pod = pod.unwrap_or_else(|| panic!("no ready pod of {tag}"));
        kubelet::set_ready(&self.pods(), pod, false).await.expect("the status is taken");
    }

    /// Where the Deployment has come to rest.
    pub async fn rest(&self) -> Rest {
        let all = self.replica_sets().list(&ListParams::default()).await.expect("a list");
        let available = |set: &ReplicaSet| {
            let status = set.status.as_ref();
            status.and_then(|status| status.available_replicas).unwrap_or_default()
        };
        let status = self.web().await.status.unwrap_or_default();
        let progressing = status.conditions.iter().flatten().find(|one| one.type_ == "Progressing");
        Rest {
            sizes: self.sizes().await,
            available: all.items.iter().map(|set| (tag_of(set), available(set))).collect(),
            unavailable: status.unavailable_replicas.unwrap_or_default(),
            updated: status.updated_replicas.unwrap_or_default(),
            progressing: progressing.and_then(|one| one.reason.clone()),
        }
    }

    /// The ReplicaSet whose image has this tag.
    pub async fn set(&self, tag: &str) -> ReplicaSet {
        let all = self.replica_sets().list(&ListParams::default()).await.expect("a list");
        let found = all.items.into_iter().find(|set| tag_of(set) == tag);
        found.unwrap_or_else(|| panic!("no ReplicaSet with the image web:{tag}"))
    }

    /// Spec sizes by tag, without the empty ones.
    pub async fn sizes(&self) -> BTreeMap<String, i32> {
        let all = self.replica_sets().list(&ListParams::default()).await.expect("a list");
        let sizes = all.items.iter().map(|set| (tag_of(set), size(set)));
        sizes.filter(|(_, replicas)| *replicas > 0).collect()
    }

    /// What has been recorded since the last call.
    pub fn recorded(&self) -> Vec<(String, i32)> {
        std::mem::take(&mut *self.record.lock().expect("no one panics with the record"))
    }

    /// The fewest pods that were ready at any moment since the last call.
    pub fn least_ready(&self) -> usize {
        let mut ready = self.ready.lock().expect("no one panics with the count");
        let now = ready.names.len();
        std::mem::replace(&mut ready.least, now)
    }

    /// Waits until a new ReplicaSet is younger than all that are there. Creation times have whole seconds,
    /// and the Deployment controller takes those of one second by name, which is by hash, not by age.
    pub async fn older_sets_are_older(&self) {
        let sets = self.replica_sets().list(&ListParams::default()).await.expect("a list");
        let created = sets.items.iter().filter_map(ResourceExt::creation_timestamp);
        let Some(last) = created.map(|time| time.0).max() else { return };
        let younger = last + Duration::from_secs(1);
        let left = younger.duration_since(SystemClock.now());
        tokio::time::sleep(left.try_into().unwrap_or_default()).await;
    }

    /// Pods become ready, one at a time where that matters, until all are and nothing moves any more.
    /// Returns what was recorded meanwhile.
    pub async fn settle(&self) -> Vec<(String, i32)> {
        self.settle_but(|_| false).await
    }

    /// The same, but pods with a tag that `broken` names never get ready.
    pub async fn settle_but(&self, broken: impl Fn(&str) -> bool) -> Vec<(String, i32)> {
        loop {
            let pods = self.quiet().await;
            let mut waiting: Vec<&Pod> =
                pods.iter().filter(|pod| !is_ready(pod) && !broken(&pod_tag(pod))).collect();
            if waiting.is_empty() {
                return self.recorded();
            }
            waiting.sort_by_key(|pod| pod_tag(pod));
            // Under the knob and at rest no size depends on who is ready.
            let spec = self.web().await.spec.unwrap_or_default();
            let still = spec.paused == Some(true)
                || spec.min_ready_seconds.is_some_and(|seconds| seconds > FOR_EVER)
                || pods.len() == waiting.len();
            waiting.truncate(if still { usize::MAX } else { 1 });
            for pod in waiting {
                // A pod that has just gone makes the next round.
                let _ = kubelet::set_ready(&self.pods(), pod, true).await;
            }
        }
    }

    /// Waits until controllers and kubelet have nothing left to do, and returns the pods.
    pub async fn quiet(&self) -> Vec<Pod> {
        let mut before = String::new();
        let mut same = 0;
        for _ in 0..1_200 {
            let web = self.web().await;
            let sets = self.replica_sets().list(&ListParams::default()).await.expect("a list");
            let pods = self.pods().list(&ListParams::default()).await.expect("a list");
            let versions = sets.items.iter().map(ResourceExt::resource_version);
            let versions = versions.chain(pods.items.iter().map(ResourceExt::resource_version));
            let print = format!("{:?} {:?}", web.resource_version(), versions.collect::<Vec<_>>());
            let done = observed(&web, &sets.items)
                && sets.items.iter().all(|set| is_done(set, &pods.items))
                && pods.items.iter().all(|pod| pod.status.as_ref().is_some_and(has_run));
            same = if done && print == before { same + 1 } else { 0 };
            if same == QUIET_ROUNDS {
                return pods.items;
            }
            before = print;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("nothing came to rest in 30 seconds: {:?}", self.sizes().await);
    }
}

/// Which pods are ready, and how few were.
#[derive(Default)]
struct Ready {
    names: BTreeSet<String>,
    least: usize,
}

/// Rounds of 20 ms without a write, once every status agrees with what it is the status of.
const QUIET_ROUNDS: u32 = 3;

/// Nobody waits that many seconds for a pod to count as available.
const FOR_EVER: i32 = 1_000_000;

fn has_run(status: &k8s_openapi::api::core::v1::PodStatus) -> bool {
    status.phase.as_deref() == Some("Running")
}

/// The Deployment's status is the sum of its ReplicaSets': the last thing that a sync writes.
fn observed(web: &Deployment, sets: &[ReplicaSet]) -> bool {
    let status = web.status.clone().unwrap_or_default();
    let sum = |of: fn(&ReplicaSetStatus) -> Option<i32>| -> i32 {
        sets.iter().filter_map(|set| set.status.as_ref().and_then(of)).sum()
    };
    status.observed_generation == web.metadata.generation
        && status.replicas.unwrap_or_default() == sum(|set| Some(set.replicas))
        && status.ready_replicas.unwrap_or_default() == sum(|set| set.ready_replicas)
        && status.available_replicas.unwrap_or_default() == sum(|set| set.available_replicas)
}

/// The ReplicaSet has as many pods as it wants and its status counts them right.
fn is_done(set: &ReplicaSet, pods: &[Pod]) -> bool {
    let status = set.status.clone().unwrap_or_default();
    let owned: Vec<&Pod> = pods.iter().filter(|pod| pod_tag(pod) == tag_of(set)).collect();
    let count = |number: usize| i32::try_from(number).expect("few pods");
    let ready = count(owned.iter().filter(|pod| is_ready(pod)).count());
    // Pods here became ready long ago, so that only a huge wait makes a difference.
    let wait = set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or_default();
    let available = if wait > FOR_EVER { 0 } else { ready };
    status.observed_generation == set.metadata.generation
        && count(owned.len()) == size(set)
        && status.replicas == size(set)
        && status.ready_replicas.unwrap_or_default() == ready
        && status.available_replicas.unwrap_or_default() == available
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|one| one.type_ == "Ready" && one.status == "True")
}

fn size(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or_default()
}

fn tag_of(set: &ReplicaSet) -> String {
    let template = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
    tag(template.and_then(|template| template.spec.as_ref()))
}

fn pod_tag(pod: &Pod) -> String {
    tag(pod.spec.as_ref())
}

fn tag(spec: Option<&k8s_openapi::api::core::v1::PodSpec>) -> String {
    let image = spec.and_then(|spec| spec.containers.first()).and_then(|one| one.image.as_deref());
    image.and_then(|image| image.rsplit(':').next()).unwrap_or_default().to_owned()
}

/// The merge patch that sets the image.
pub fn template(tag: &str) -> Value {
    json!({"spec": {"template": {"spec": {"containers":
        [{"name": "web", "image": format!("web:{tag}")}]}}}})
}

/// The user's whole manifest of `web`.
pub fn manifest(replicas: i32, tag: &str) -> Value {
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            "template": {"metadata": {"labels": {"app": "web"}},
                "spec": {"terminationGracePeriodSeconds": 0}},
        },
    });
    json_patch::merge(&mut object, &template(tag));
    object
}

async fn recorder(client: Client, namespace: String, record: Arc<Mutex<Vec<(String, i32)>>>) {
    let api: Api<ReplicaSet> = Api::namespaced(client, &namespace);
    let mut last: BTreeMap<String, i32> = BTreeMap::new();
    let mut version = "0".to_owned();
    loop {
        // A watch ends after some minutes and goes on where it ended.
        let Ok(stream) = api.watch(&WatchParams::default(), &version).await else { continue };
        let mut stream = pin!(stream);
        while let Ok(Some(event)) = stream.try_next().await {
            let (WatchEvent::Added(set) | WatchEvent::Modified(set)) = event else { continue };
            version = set.resource_version().unwrap_or(version);
            let (tag, replicas) = (tag_of(&set), size(&set));
            if last.insert(tag.clone(), replicas) != Some(replicas) {
                record.lock().expect("no one panics with the record").push((tag, replicas));
            }
        }
    }
}

async fn counter(client: Client, namespace: String, ready: Arc<Mutex<Ready>>) {
    let api: Api<Pod> = Api::namespaced(client, &namespace);
    let mut version = "0".to_owned();
    loop {
        let Ok(stream) = api.watch(&WatchParams::default(), &version).await else { continue };
        let mut stream = pin!(stream);
        while let Ok(Some(event)) = stream.try_next().await {
            let (pod, gone) = match event {
                WatchEvent::Added(pod) | WatchEvent::Modified(pod) => (pod, false),
                WatchEvent::Deleted(pod) => (pod, true),
                _ => continue,
            };
            version = pod.resource_version().unwrap_or(version);
            let gone = gone || pod.metadata.deletion_timestamp.is_some();
            let mut ready = ready.lock().expect("no one panics with the count");
            if is_ready(&pod) && !gone {
                ready.names.insert(pod.name_any());
            } else {
                ready.names.remove(&pod.name_any());
            }
            ready.least = ready.least.min(ready.names.len());
        }
    }
}
