//! The least a kubelet and a scheduler must do: bind a pod, run it, end it when it is deleted.
//!
//! Pods run but are not ready until a test says so, one at a time ([`super::stage`]): what the
//! Deployment controller does next then depends on nothing but what it sees.

use std::collections::BTreeSet;
use std::pin::pin;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

/// Serves the pods of one namespace until it is dropped with its runtime.
pub async fn run(client: Client, namespace: String) {
    let api: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let mut bound = BTreeSet::new();
    let stream =
        watcher(api.clone(), watcher::Config::default()).default_backoff().touched_objects();
    let mut stream = pin!(stream);
    while let Some(event) = stream.next().await {
        // A watch that breaks is begun again by the stream itself.
        let Ok(pod) = event else { continue };
        let uid = pod.uid().unwrap_or_default();
        if pod.metadata.deletion_timestamp.is_some() {
            end(&api, &pod, uid).await;
        } else if bound.insert(uid) {
            begin(&client, &namespace, &api, &pod).await;
        }
    }
}

async fn end(api: &Api<Pod>, pod: &Pod, uid: String) {
    let preconditions = Preconditions { uid: Some(uid), resource_version: None };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    // Somebody else may have been quicker.
    let _ = api.delete(&pod.name_any(), &params.grace_period(0)).await;
}

async fn begin(client: &Client, namespace: &str, api: &Api<Pod>, pod: &Pod) {
    let name = pod.name_any();
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
        "target": {"apiVersion": "v1", "kind": "Node", "name": "node-1"}});
    let request =
        http::Request::post(format!("/api/v1/namespaces/{namespace}/pods/{name}/binding"))
            .header("content-type", "application/json")
            .body(binding.to_string().into_bytes())
            .expect("a request");
    // A pod that was deleted meanwhile needs no node.
    if client.request::<Value>(request).await.is_ok() {
        let _ = set_ready(api, pod, false).await;
    }
}

/// Writes the status of a running pod.
pub async fn set_ready(api: &Api<Pod>, pod: &Pod, ready: bool) -> kube::Result<Pod> {
    let word = if ready { "True" } else { "False" };
    // Any moment in the past: readiness is counted from here.
    let since = "2026-01-01T00:00:00Z";
    let condition = |kind: &str, status: &str| json!({"type": kind, "status": status, "lastTransitionTime": since});
    let containers: Vec<Value> = pod
        .spec
        .iter()
        .flat_map(|spec| &spec.containers)
        .map(|container| {
            json!({"name": container.name, "image": container.image, "imageID": container.image,
                "ready": ready, "started": true, "restartCount": 0,
                "state": {"running": {"startedAt": since}}})
        })
        .collect();
    let status = json!({"status": {
        "phase": "Running", "podIP": "10.1.0.1", "podIPs": [{"ip": "10.1.0.1"}],
        "startTime": since,
        "conditions": [condition("PodScheduled", "True"), condition("Initialized", "True"),
            condition("ContainersReady", word), condition("Ready", word)],
        "containerStatuses": containers}});
    api.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(status)).await
}
