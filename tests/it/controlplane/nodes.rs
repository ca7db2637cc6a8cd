//! `sim`'s nodes serve the pods of the real control plane.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use sluice::clock::SystemClock;
use sluice::sim::kubelet::{Behaviours, remote};

use super::harness::{self, Who};
use super::stage::{manifest, template};

/// Asks until `done` says so; whatever it sees last is in the panic.
async fn until(pods: &Api<Pod>, what: &str, done: impl Fn(&[Value]) -> bool) {
    let mut seen = Vec::new();
    for _ in 0..1200 {
        let list = pods.list(&ListParams::default()).await.expect("a list");
        seen = list.items.iter().map(|pod| serde_json::to_value(pod).expect("JSON")).collect();
        if done(&seen) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what}: never; last seen {seen:#?}");
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|own| own["type"] == "Ready" && own["status"] == "True")
}

fn waits_for(pod: &Value, reason: &str) -> bool {
    pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == reason
}

fn runs(pod: &Value, tag: &str) -> bool {
    pod["spec"]["containers"][0]["image"] == format!("web:{tag}")
}

#[tokio::test]
async fn the_nodes_of_sim_serve_the_pods_of_a_real_api_server() {
    const NAMESPACE: &str = "sim-nodes";
    let Some(plane) = harness::shared() else { return };
    let client = plane.client(Who::Admin);
    let namespace = json!({ "metadata": { "name": NAMESPACE } });
    Api::<Namespace>::all(client.clone())
        .create(&PostParams::default(), &serde_json::from_value(namespace).expect("a namespace"))
        .await
        .expect("the namespace is new");
    let behaviours = Behaviours::default().ready_after(SignedDuration::from_secs(1));
    let clock = Arc::new(SystemClock);
    let serving = remote::serve(client.clone(), clock, 2, Some(NAMESPACE), behaviours);
    let playing = async {
        let deployments: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
        let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
        let web = serde_json::from_value(manifest(3, "v1")).expect("a Deployment");
        deployments.create(&PostParams::default(), &web).await.expect("web is new");
        until(&pods, "three ready pods", |all| all.len() == 3 && all.iter().all(is_ready)).await;

        let list = pods.list(&ListParams::default()).await.expect("a list");
        let first = list.items[0].metadata.name.clone().expect("a name");
        pods.delete(&first, &DeleteParams::default()).await.expect("the pod is deleted");
        until(&pods, "a new pod for the deleted one", |all| {
            let is_gone = all.iter().all(|pod| pod["metadata"]["name"] != first.as_str());
            is_gone && all.len() == 3 && all.iter().all(is_ready)
        })
        .await;

        for (tag, reason) in [("v2-crash", "CrashLoopBackOff"), ("v3-pull-error", "ErrImagePull")] {
            let patch = Patch::Merge(template(tag));
            deployments.patch("web", &PatchParams::default(), &patch).await.expect("a patch");
            until(&pods, reason, |all| {
                all.iter().any(|pod| runs(pod, tag) && waits_for(pod, reason))
            })
            .await;
        }
    };
    tokio::select! {
        ended = serving => panic!("the nodes ended: {ended:?}"),
        () = playing => {}
    }
}
