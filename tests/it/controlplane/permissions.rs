//! An install on the real API server: it is accepted as it is, and its account may do what the
//! controller does and no more, as the API server's own authorizer says.

use std::process::Command;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use kube::Client;
use kube::api::{Api, PostParams};
use serde_json::json;

use super::harness::{self, Who};

const NAMESPACE: &str = "it-install";

/// Whether the installed account may do something: verb, group, resource, subresource, namespace.
async fn may(client: &Client, what: [&str; 5]) -> bool {
    let [verb, group, resource, subresource, namespace] = what;
    let review: SubjectAccessReview = serde_json::from_value(json!({
        "spec": {
            "user": format!("system:serviceaccount:{NAMESPACE}:sluice"),
            "groups": ["system:serviceaccounts", "system:authenticated"],
            "resourceAttributes": {"verb": verb, "group": group, "resource": resource,
                "subresource": subresource, "namespace": namespace, "name": "sluice"},
        },
    }))
    .expect("a review");
    let api: Api<SubjectAccessReview> = Api::all(client.clone());
    let answer = api.create(&PostParams::default(), &review).await.expect("the authorizer answers");
    answer.status.expect("an answer").allowed
}

#[tokio::test]
async fn the_installed_account_may_do_its_work_and_no_more() {
    let Some(plane) = harness::shared() else { return };
    let config = plane.kubeconfig(Who::Admin);
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.args(["install", "--namespace", NAMESPACE, "--kubeconfig"]).arg(config);
    let output = command.output().expect("sluice runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let client = plane.client(Who::Admin);
    let ours = "sluice.dev";
    for allowed in [
        ["patch", "apps", "deployments", "", "shop"],
        ["patch", "apps", "replicasets", "", "shop"],
        ["update", ours, "rollouts", "status", "shop"],
        ["update", ours, "analysisruns", "status", "shop"],
        ["create", ours, "gates", "", "shop"],
        ["update", "gateway.networking.k8s.io", "httproutes", "", "shop"],
        ["create", "events.k8s.io", "events", "", "shop"],
        ["create", "authentication.k8s.io", "selfsubjectreviews", "", ""],
        ["patch", "coordination.k8s.io", "leases", "", NAMESPACE],
    ] {
        assert!(may(&client, allowed).await, "{allowed:?} is refused");
    }
    for refused in [
        ["delete", "apps", "deployments", "", "shop"],
        ["get", "", "secrets", "", "shop"],
        ["create", "", "pods", "", "shop"],
        ["update", "admissionregistration.k8s.io", "mutatingadmissionpolicies", "", ""],
        ["patch", "coordination.k8s.io", "leases", "", "kube-system"],
        ["update", "rbac.authorization.k8s.io", "clusterroles", "", ""],
    ] {
        assert!(!may(&client, refused).await, "{refused:?} is allowed");
    }
    let api: Api<Deployment> = Api::namespaced(client, NAMESPACE);
    api.delete("sluice", &Default::default()).await.expect("no image is pulled for ever");
}
