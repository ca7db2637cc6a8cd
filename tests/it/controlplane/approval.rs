//! Who approved: the API server writes it into the Rollout's status.

use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use sluice::api::Rollout;

use super::harness::Who;
use super::stage::{Place, Stage, on_both_servers};

on_both_servers!(
    a_step_that_somebody_sets_ready_says_who,
    a_request_says_who_asked,
    nobody_claims_an_approval_that_was_not_given,
    the_controllers_own_status_is_as_written
);

async fn waiting(place: Place, namespace: &str) -> Option<Stage> {
    let stage = place.stage(namespace).await?;
    let rollout = json!({"apiVersion": "sluice.dev/v1beta1", "kind": "Rollout",
        "metadata": {"name": "web"}, "spec": {
            "workloadRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "strategy": {"canary": {"steps": [{"replicas": 1, "pause": {}}]}}}});
    rollouts(&stage, Who::User)
        .create(&PostParams::default(), &serde_json::from_value(rollout).expect("a Rollout"))
        .await
        .expect("the Rollout is new");
    // The parameter: without a Gate nobody is told apart.
    stage.deploy(1, json!({})).await;
    stage.gated(json!({"rollout": "web"})).await;
    let status = json!({"phase": "Progressing",
        "canaryStatus": {"currentStepIndex": 1, "currentStepState": "StepPaused"}});
    write(&stage, Who::Sluice, status).await;
    Some(stage)
}

fn rollouts(stage: &Stage, who: Who) -> Api<Rollout> {
    Api::namespaced(stage.client(who), &stage.namespace)
}

async fn write(stage: &Stage, who: Who, status: Value) -> Value {
    let patch = Patch::Merge(json!({"status": status}));
    let rollout = rollouts(stage, who)
        .patch_status("web", &PatchParams::default(), &patch)
        .await
        .expect("the status is taken");
    serde_json::to_value(rollout.status).expect("a status is JSON")
}

async fn a_step_that_somebody_sets_ready_says_who(place: Place) {
    let Some(stage) = waiting(place, "approve-step").await else { return };
    let ready =
        json!({"canaryStatus": {"currentStepState": "StepReady"}, "approvedBy": "the king"});
    let status = write(&stage, Who::User, ready).await;
    assert_eq!(status["approvedBy"], json!("user"), "whatever the client claims");
    assert_eq!(status["canaryStatus"]["currentStepState"], json!("StepReady"));
    let status = write(&stage, Who::User, json!({"approvedBy": "the king"})).await;
    assert_eq!(status["approvedBy"], json!("user"), "nor later");
}

async fn a_request_says_who_asked(place: Place) {
    let Some(stage) = waiting(place, "approve-request").await else { return };
    let request = json!({"request": {"verb": "Abort", "by": "the king", "release": "r1"}});
    let status = write(&stage, Who::User, request).await;
    assert_eq!(status["request"], json!({"verb": "Abort", "by": "user", "release": "r1"}));
    assert_eq!(status["approvedBy"], json!("user"));
    let status = write(&stage, Who::Admin, json!({"request": {"by": "the king"}})).await;
    assert_eq!(status["request"]["by"], json!("user"), "the same request stays the first one's");
    let status = write(&stage, Who::Admin, json!({"request": {"verb": "Retry"}})).await;
    assert_eq!(status["request"]["by"], json!("admin"));
}

async fn nobody_claims_an_approval_that_was_not_given(place: Place) {
    let Some(stage) = waiting(place, "approve-claim").await else { return };
    let status = write(&stage, Who::User, json!({"approvedBy": "the king"})).await;
    assert_eq!(status.get("approvedBy"), None);
}

async fn the_controllers_own_status_is_as_written(place: Place) {
    let Some(stage) = waiting(place, "approve-own").await else { return };
    let status = json!({"canaryStatus": {"currentStepState": "StepReady"}, "approvedBy": "user"});
    assert_eq!(write(&stage, Who::Sluice, status).await["approvedBy"], json!("user"));
    let status = json!({"canaryStatus": {"currentStepState": "StepReady"}, "approvedBy": null});
    assert_eq!(write(&stage, Who::Sluice, status).await.get("approvedBy"), None);
}
