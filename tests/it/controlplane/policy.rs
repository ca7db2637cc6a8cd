//! The gate and the hold: the shipped policy on the real API server, line by line of its table.

use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use sluice::api::{GATE_NAME, KnobFields, WANTED_ANNOTATION};

use super::harness::Who;
use super::stage::{
    NEVER_AVAILABLE, NO_DEADLINE, Place, Stage, manifest, on_both_servers, template,
};

on_both_servers!(
    a_deployment_without_an_entry_is_untouched,
    an_idle_gated_deployment_scales_pauses_and_resumes_as_asked,
    a_new_template_of_a_gated_deployment_waits_and_nobody_else_lets_it_in,
    the_gate_holds_the_controllers_own_template_too,
    nobody_else_turns_the_knob_while_a_release_moves_and_the_wish_is_noted,
    a_new_template_during_a_release_pauses_and_gets_the_users_own_min_ready_seconds,
    anybody_may_pause_a_release_and_nobody_else_may_resume_it,
    a_dry_run_by_the_controllers_own_account_is_held_as_anybody_elses,
    everybody_is_free_at_once_when_the_gate_is_deleted
);

/// What the hold is about, as JSON.
fn knob(web: &Deployment) -> Value {
    let spec = serde_json::to_value(web.spec.as_ref()).expect("a spec is JSON");
    json!({
        "min": spec.get("minReadySeconds").cloned().unwrap_or(json!(0)),
        "deadline": spec["progressDeadlineSeconds"],
        "type": spec["strategy"]["type"],
        "surge": spec["strategy"]["rollingUpdate"]["maxSurge"],
        "unavailable": spec["strategy"]["rollingUpdate"]["maxUnavailable"],
    })
}

fn paused(web: &Deployment) -> bool {
    web.spec.as_ref().and_then(|spec| spec.paused) == Some(true)
}

fn wanted(web: &Deployment) -> KnobFields {
    let text = web.annotations().get(WANTED_ANNOTATION).expect("the hold notes what was wanted");
    assert!(text.starts_with(r#"{"release":"r1","#), "{text}");
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn the_knob() -> Value {
    json!({"min": NEVER_AVAILABLE, "deadline": NO_DEADLINE, "type": "RollingUpdate",
        "surge": 1, "unavailable": 2})
}

/// A release under way: gated and held, `web:v2` let in, the knob at two of ten.
async fn moving(place: Place, namespace: &str) -> Option<Stage> {
    let stage = place.stage(namespace).await?;
    stage.deploy(10, json!({"minReadySeconds": 1})).await;
    stage.gated(json!({"rollout": "web"})).await;
    stage.image(Who::User, "v2").await;
    stage
        .gated(json!({"release": "r1", "minReadySeconds": 1, "originals": {"minReadySeconds": 1,
            "progressDeadlineSeconds": 600, "type": "RollingUpdate", "maxSurge": "25%",
            "maxUnavailable": "25%"}}))
        .await;
    let web = stage
        .spec(
            Who::Sluice,
            json!({"paused": false, "minReadySeconds": NEVER_AVAILABLE,
            "progressDeadlineSeconds": NO_DEADLINE,
            "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 2}}}),
        )
        .await;
    assert_eq!((knob(&web), paused(&web)), (the_knob(), false), "our own write is as written");
    Some(stage)
}

/// The manifest that a GitOps tool applies again and again.
fn manifest_of_the_user(tag: &str) -> Value {
    let mut object = manifest(10, tag);
    let spec = json!({"minReadySeconds": 5, "paused": false, "progressDeadlineSeconds": 600});
    json_patch::merge(&mut object["spec"], &spec);
    object
}

async fn a_deployment_without_an_entry_is_untouched(place: Place) {
    let Some(stage) = place.stage("gate-no-entry").await else { return };
    stage.deploy(1, json!({})).await;
    stage.gated(json!({"rollout": "web"})).await;
    stage.entry(Value::Null).await;
    while stage.proven(false).await {
        tokio::task::yield_now().await;
    }
    let web = stage.image(Who::User, "v2").await;
    assert!(!paused(&web));
}

async fn an_idle_gated_deployment_scales_pauses_and_resumes_as_asked(place: Place) {
    let Some(stage) = place.stage("gate-idle").await else { return };
    stage.deploy(2, json!({})).await;
    stage.gated(json!({"rollout": "web"})).await;
    let web = stage.spec(Who::User, json!({"replicas": 3})).await;
    assert_eq!(web.spec.as_ref().and_then(|spec| spec.replicas), Some(3));
    stage.settle().await;
    assert!(paused(&stage.spec(Who::User, json!({"paused": true})).await));
    stage.settle().await;
    assert!(!paused(&stage.spec(Who::User, json!({"paused": false})).await));
}

async fn a_new_template_of_a_gated_deployment_waits_and_nobody_else_lets_it_in(place: Place) {
    let Some(stage) = place.stage("gate-template").await else { return };
    stage.deploy(2, json!({})).await;
    stage.gated(json!({"rollout": "web"})).await;
    assert!(paused(&stage.image(Who::User, "v2").await));
    let at_once = stage.spec(Who::User, json!({"paused": false})).await;
    assert!(paused(&at_once), "a resume right behind the template");
    stage.settle().await;
    assert!(paused(&stage.spec(Who::User, json!({"paused": null})).await), "a later resume");
    stage.entry(json!({"pausedByUser": true})).await;
    let noted = stage.spec(Who::User, json!({"paused": false})).await;
    assert!(paused(&noted), "a pause of the user's is no way in for a template that waits");
    stage.settle().await;
    assert_eq!(stage.sizes().await, [("v1".to_owned(), 2)].into());
    assert!(!paused(&stage.spec(Who::Sluice, json!({"paused": false})).await));
}

async fn the_gate_holds_the_controllers_own_template_too(place: Place) {
    let Some(stage) = place.stage("gate-own-template").await else { return };
    stage.deploy(1, json!({})).await;
    stage.gated(json!({"rollout": "web"})).await;
    let mut patch = template("v2");
    patch["spec"]["paused"] = json!(false);
    assert!(paused(&stage.patch(Who::Sluice, patch).await));
}

async fn nobody_else_turns_the_knob_while_a_release_moves_and_the_wish_is_noted(place: Place) {
    let Some(stage) = moving(place, "hold-knob").await else { return };

    let params = PatchParams::apply("argocd").force();
    let applied = stage
        .deployments(Who::User)
        .patch("web", &params, &Patch::Apply(manifest_of_the_user("v2")))
        .await
        .expect("a server-side apply is taken");
    assert_eq!((knob(&applied), paused(&applied)), (the_knob(), false));
    assert_eq!(
        serde_json::to_value(wanted(&applied)).unwrap(),
        json!({"minReadySeconds": 5, "progressDeadlineSeconds": 600, "type": "RollingUpdate",
            "maxSurge": "25%", "maxUnavailable": "25%"})
    );

    let merged = stage.patch(Who::User, manifest_of_the_user("v2")).await;
    assert_eq!(knob(&merged), the_knob(), "a client-side apply");

    let patch = json!({"strategy": {"type": "Recreate", "rollingUpdate": null}, "replicas": 8});
    let recreate = stage.spec(Who::User, patch).await;
    assert_eq!(knob(&recreate), the_knob());
    assert_eq!(recreate.spec.as_ref().and_then(|spec| spec.replicas), Some(8), "scaling passes");
    assert_eq!(
        serde_json::to_value(wanted(&recreate)).unwrap(),
        json!({"minReadySeconds": NEVER_AVAILABLE, "progressDeadlineSeconds": NO_DEADLINE,
            "type": "Recreate"})
    );

    let patch = json!({"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "100%"}}});
    let everything = stage.spec(Who::User, patch).await;
    assert_eq!(knob(&everything), the_knob());
    assert_eq!(
        serde_json::to_value(wanted(&everything)).unwrap()["maxSurge"],
        json!(0),
        "numbers stay numbers"
    );
}

async fn a_new_template_during_a_release_pauses_and_gets_the_users_own_min_ready_seconds(
    place: Place,
) {
    let Some(stage) = moving(place, "hold-template").await else { return };
    let mut patch = template("v3");
    patch["spec"]["minReadySeconds"] = json!(7);
    patch["spec"]["strategy"] = json!({"rollingUpdate": {"maxSurge": "50%"}});
    let web = stage.patch(Who::User, patch).await;
    assert!(paused(&web));
    let mut expected = the_knob();
    expected["min"] = json!(1);
    assert_eq!(knob(&web), expected);
    assert_eq!(
        serde_json::to_value(wanted(&web)).unwrap(),
        json!({"minReadySeconds": 7, "progressDeadlineSeconds": NO_DEADLINE,
            "type": "RollingUpdate", "maxSurge": "50%", "maxUnavailable": 2})
    );
}

async fn anybody_may_pause_a_release_and_nobody_else_may_resume_it(place: Place) {
    let Some(stage) = moving(place, "hold-pause").await else { return };
    assert!(paused(&stage.spec(Who::User, json!({"paused": true})).await));
    assert!(paused(&stage.spec(Who::User, json!({"paused": false})).await));
    assert!(!paused(&stage.spec(Who::Sluice, json!({"paused": false})).await));
}

async fn a_dry_run_by_the_controllers_own_account_is_held_as_anybody_elses(place: Place) {
    let Some(stage) = moving(place, "hold-dry-run").await else { return };
    assert!(stage.proven(true).await);
    stage.entry(json!({"release": null})).await;
    assert!(!stage.proven(true).await, "without a release the surge is anybody's");
    assert!(stage.proven(false).await, "the template is not");
}

async fn everybody_is_free_at_once_when_the_gate_is_deleted(place: Place) {
    let Some(stage) = moving(place, "hold-deleted").await else { return };
    stage.gates().delete(GATE_NAME, &DeleteParams::default()).await.expect("the Gate goes");
    // A parameter that has gone is out of force within a watch event.
    let free = json!({"strategy": {"rollingUpdate": {"maxSurge": 3}}});
    for _ in 0..200 {
        let web = stage.spec(Who::User, free.clone()).await;
        if knob(&web)["surge"] == json!(3) {
            assert!(!paused(&stage.image(Who::User, "v3").await));
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("still held two seconds after the Gate was deleted");
}
