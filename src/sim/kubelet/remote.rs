//! The same nodes for a real API server: a scheduler and kubelets that run no container.
//!
//! Needed beside it: a controller manager without `nodelifecycle` and `taint-eviction-controller`,
//! since these nodes renew no Lease.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, Stream, StreamExt};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions,
};
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::{Value, json};

use super::nodes::counting_addresses;
use super::{Behaviours, Place, PodWrite, next, node};
use crate::clock::Clock;
use crate::sim::controllers::object::{self, text};

/// A refused write is tried again after this.
const RETRY: SignedDuration = SignedDuration::from_millis(200);

/// Without anything due, nothing is looked at for this long.
const IDLE: Duration = Duration::from_secs(3600);

/// Why the nodes could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// A node could not be created or made ready.
    #[error("node {name:?} cannot be set up; is the account allowed to write nodes?")]
    Node {
        /// The node's name.
        name: String,
        /// What the API server said.
        #[source]
        source: Box<kube::Error>,
    },
}

type Key = (String, String);

/// What is known of the pods, and what is to be done with them.
struct Kubelets {
    client: kube::Client,
    clock: Arc<dyn Clock>,
    behaviours: Behaviours,
    nodes: Vec<String>,
    addresses: Box<dyn FnMut(&Value) -> IpAddr + Send>,
    pods: BTreeMap<Key, Value>,
    dirty: BTreeSet<Key>,
    busy: BTreeSet<Key>,
    wakes: BTreeMap<Key, Timestamp>,
}

/// Creates the nodes `node-1` to `node-COUNT` and serves the pods of one namespace, or of all; ends
/// only with an error or when it is dropped.
///
/// # Errors
/// A node cannot be created or made ready.
pub async fn serve(
    client: kube::Client,
    clock: Arc<dyn Clock>,
    count: usize,
    namespace: Option<&str>,
    behaviours: Behaviours,
) -> Result<(), RemoteError> {
    let nodes: Vec<String> = (1..=count).map(|number| format!("node-{number}")).collect();
    for name in &nodes {
        set_up(&client, name, clock.now())
            .await
            .map_err(|source| RemoteError::Node { name: name.clone(), source: Box::new(source) })?;
    }
    let kind = ApiResource::erase::<Pod>(&());
    let pods: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &kind),
        None => Api::all_with(client.clone(), &kind),
    };
    let events = watcher(pods, watcher::Config::default()).default_backoff();
    let kubelets = Kubelets {
        client,
        clock,
        behaviours,
        nodes,
        addresses: Box::new(counting_addresses()),
        pods: BTreeMap::new(),
        dirty: BTreeSet::new(),
        busy: BTreeSet::new(),
        wakes: BTreeMap::new(),
    };
    kubelets.run(events).await;
    Ok(())
}

/// A node without the taint that admission puts on a new one.
async fn set_up(client: &kube::Client, name: &str, now: Timestamp) -> kube::Result<()> {
    let all: Api<DynamicObject> = Api::all_with(client.clone(), &ApiResource::erase::<Node>(&()));
    let wanted = node(name, now);
    let new = serde_json::from_value(wanted.clone()).map_err(kube::Error::SerdeError)?;
    match all.create(&PostParams::default(), &new).await {
        Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {}
        created => drop(created?),
    }
    let params = PatchParams::default();
    let bare = json!({ "spec": { "taints": null } });
    all.patch(name, &params, &Patch::Merge(bare)).await?;
    let status = json!({ "status": wanted["status"] });
    all.patch_status(name, &params, &Patch::Merge(status)).await?;
    Ok(())
}

impl Kubelets {
    async fn run(
        mut self,
        events: impl Stream<Item = watcher::Result<watcher::Event<DynamicObject>>>,
    ) {
        let mut events = pin!(events.fuse());
        let mut writes = FuturesUnordered::new();
        loop {
            for (key, pod, node, write) in self.decide() {
                let client = self.client.clone();
                let writing = async move { write_pod(&client, &pod, &node, write).await };
                writes.push(writing.map(move |result| (key, result)).boxed());
            }
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok(event)) => self.take(event),
                    // The stream begins again by itself after a while.
                    Some(Err(error)) => tracing::warn!(%error, "the watch on pods broke"),
                    None => return,
                },
                Some((key, result)) = writes.next() => self.written(key, result),
                () = tokio::time::sleep(self.pause()) => {}
            }
        }
    }

    fn take(&mut self, event: watcher::Event<DynamicObject>) {
        match event {
            watcher::Event::Init => self.pods.clear(),
            watcher::Event::InitDone => {}
            watcher::Event::Apply(pod) | watcher::Event::InitApply(pod) => {
                let Ok(pod) = serde_json::to_value(pod) else { return };
                let key = key_of(&pod);
                self.pods.insert(key.clone(), pod);
                self.dirty.insert(key);
            }
            watcher::Event::Delete(pod) => {
                let key = (pod.metadata.namespace, pod.metadata.name);
                let key = (key.0.unwrap_or_default(), key.1.unwrap_or_default());
                self.pods.remove(&key);
                self.wakes.remove(&key);
            }
        }
    }

    /// What is to be written now. A pod that is being written waits for the answer.
    fn decide(&mut self) -> Vec<(Key, Value, String, PodWrite)> {
        let now = self.clock.now();
        let due = self.wakes.iter().filter(|(_, at)| **at <= now).map(|(key, _)| key.clone());
        self.dirty.extend(due.collect::<Vec<_>>());
        let ready = self.dirty.difference(&self.busy).cloned().collect::<Vec<_>>();
        let mut load: BTreeMap<String, usize> =
            self.nodes.iter().map(|name| (name.clone(), 0)).collect();
        for pod in self.pods.values() {
            if let Some(count) = load.get_mut(text(pod, &["spec", "nodeName"])) {
                *count += 1;
            }
        }
        let mut writes = Vec::new();
        for key in ready {
            self.dirty.remove(&key);
            self.wakes.remove(&key);
            let Some(pod) = self.pods.get(&key) else { continue };
            let least = load.iter_mut().min_by_key(|(_, count)| **count);
            let Some((node, count)) = least else { continue };
            let address = (self.addresses)(pod);
            let place = Place { node, address, behaviours: &self.behaviours };
            let next = next(pod, &place, now);
            if let Some(wake) = next.wake {
                self.wakes.insert(key.clone(), wake);
            }
            if let Some(write) = next.write {
                *count += usize::from(write == PodWrite::Bind);
                self.busy.insert(key.clone());
                writes.push((key, pod.clone(), node.clone(), write));
            }
        }
        writes
    }

    /// A write that was taken shows up in the watch; one that was refused is tried again.
    fn written(&mut self, key: Key, result: kube::Result<()>) {
        self.busy.remove(&key);
        if let Err(error) = result {
            tracing::debug!(%error, namespace = key.0, pod = key.1, "a pod's write was refused");
            if let Ok(at) = self.clock.now().checked_add(RETRY) {
                self.wakes.insert(key, at);
            }
        }
    }

    fn pause(&self) -> Duration {
        let next = self.wakes.iter().filter(|(key, _)| !self.busy.contains(*key));
        let next = next.map(|(_, at)| *at).min();
        let span = next.map(|at| at.duration_since(self.clock.now()));
        let span = span.map(|span| Duration::try_from(span).unwrap_or_default());
        span.unwrap_or(IDLE)
    }
}

fn key_of(pod: &Value) -> Key {
    (object::namespace(pod).to_owned(), object::name(pod).to_owned())
}

async fn write_pod(
    client: &kube::Client,
    pod: &Value,
    node: &str,
    write: PodWrite,
) -> kube::Result<()> {
    let (namespace, name) = (object::namespace(pod), object::name(pod));
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let uid = object::uid(pod).to_owned();
    match write {
        PodWrite::Bind => {
            let binding = json!({
                "apiVersion": "v1",
                "kind": "Binding",
                "metadata": { "name": name, "uid": uid },
                "target": { "apiVersion": "v1", "kind": "Node", "name": node },
            });
            let url = format!("/api/v1/namespaces/{namespace}/pods/{name}/binding");
            let request = http::Request::post(url)
                .header("content-type", "application/json")
                .body(binding.to_string().into_bytes())
                .map_err(kube::Error::HttpError)?;
            client.request::<Value>(request).await.map(drop)
        }
        PodWrite::Status(status) => {
            let patch = json!({ "metadata": { "uid": uid }, "status": status });
            pods.patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
        }
        PodWrite::Delete => {
            let preconditions = Preconditions { uid: Some(uid), resource_version: None };
            let params =
                DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
            pods.delete(name, &params.grace_period(0)).await.map(drop)
        }
    }
}
