//! Field ownership: a user's plain `kubectl apply --server-side` never meets a conflict of our making.

use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use sluice::api::FIELD_MANAGER;

use super::harness::Who;
use super::stage::{NEVER_AVAILABLE, Place, Stage, manifest, on_both_servers};

on_both_servers!(
    without_the_policy_a_write_of_ours_makes_the_users_apply_conflict,
    under_the_gate_our_own_writes_leave_no_entry_at_all,
    a_field_that_the_policy_sets_has_no_owner,
    the_deployment_controllers_own_writes_pass_the_policy
);

fn managers(web: &Deployment) -> Vec<&str> {
    web.managed_fields().iter().filter_map(|entry| entry.manager.as_deref()).collect()
}

/// The fields that any entry but the ReplicaSet controller's owns, as one text.
fn owned(web: &Deployment) -> String {
    serde_json::to_string(web.managed_fields()).expect("managed fields are JSON")
}

async fn apply(stage: &Stage, spec: Value) -> kube::Result<Deployment> {
    let mut object = manifest(2, "v1");
    json_patch::merge(&mut object["spec"], &spec);
    let params = PatchParams::apply("kubectl");
    stage.deployments(Who::User).patch("web", &params, &Patch::Apply(object)).await
}

async fn without_the_policy_a_write_of_ours_makes_the_users_apply_conflict(place: Place) {
    let Some(stage) = place.stage("owner-conflict").await else { return };
    apply(&stage, json!({})).await.expect("web is new");
    let knob = json!({"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}});
    let web = stage.spec(Who::Sluice, knob).await;
    assert!(managers(&web).contains(&FIELD_MANAGER));
    let error = apply(&stage, json!({})).await.expect_err("two managers, two values");
    assert!(error.to_string().contains("conflicts with \"sluice\""), "{error}");

    let index = managers(&web).iter().position(|one| *one == FIELD_MANAGER).expect("ours");
    let drop: json_patch::Patch = serde_json::from_value(json!([
        {"op": "test", "path": format!("/metadata/managedFields/{index}/manager"),
            "value": FIELD_MANAGER},
        {"op": "remove", "path": format!("/metadata/managedFields/{index}")},
    ]))
    .expect("a JSON patch");
    let params = PatchParams::default();
    let web = stage
        .deployments(Who::Sluice)
        .patch("web", &params, &Patch::Json::<()>(drop))
        .await
        .expect("the entry is dropped");
    assert!(!managers(&web).contains(&FIELD_MANAGER));
    apply(&stage, json!({})).await.expect("no conflict any more");
}

async fn under_the_gate_our_own_writes_leave_no_entry_at_all(place: Place) {
    let Some(stage) = place.stage("owner-none").await else { return };
    apply(&stage, json!({})).await.expect("web is new");
    stage.settle().await;
    stage.gated(json!({"release": "r1"})).await;
    let knob = json!({"minReadySeconds": NEVER_AVAILABLE, "progressDeadlineSeconds": 2147483647,
        "strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}});
    for _ in 0..2 {
        let web = stage.spec(Who::Sluice, knob.clone()).await;
        assert_eq!(web.spec.as_ref().and_then(|spec| spec.min_ready_seconds), Some(2147483646));
        assert!(!managers(&web).contains(&FIELD_MANAGER), "{}", owned(&web));
    }
    let web = apply(&stage, json!({"replicas": 3})).await.expect("no conflict");
    assert_eq!(web.spec.as_ref().and_then(|spec| spec.min_ready_seconds), Some(2147483646));
    assert!(managers(&web).contains(&"kubectl"));
}

async fn a_field_that_the_policy_sets_has_no_owner(place: Place) {
    let Some(stage) = place.stage("owner-policy").await else { return };
    apply(&stage, json!({})).await.expect("web is new");
    stage.settle().await;
    stage.gated(json!({"rollout": "web"})).await;
    let web = stage.image(Who::User, "v2").await;
    assert_eq!(web.spec.as_ref().and_then(|spec| spec.paused), Some(true));
    assert!(!owned(&web).contains("f:paused"), "{}", owned(&web));
}

async fn the_deployment_controllers_own_writes_pass_the_policy(place: Place) {
    let Some(stage) = place.stage("owner-native").await else { return };
    stage.deploy(2, json!({})).await;
    stage.gated(json!({"rollout": "web"})).await;
    stage.image(Who::User, "v2").await;
    stage.gated(json!({"release": "r1"})).await;
    let knob = json!({"paused": false, "minReadySeconds": NEVER_AVAILABLE,
        "progressDeadlineSeconds": 2147483647,
        "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}});
    stage.spec(Who::Sluice, knob).await;
    stage.settle().await;
    let web = stage.web().await;
    let revision = web.annotations().get("deployment.kubernetes.io/revision");
    assert_eq!(revision.map(String::as_str), Some("2"), "written by UpdateStatus");
    assert_eq!(web.status.and_then(|status| status.updated_replicas), Some(1));
}
