//! The product's own movement, decision by decision, against a Deployment controller.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use kube::api::{Api, ListParams, PostParams};
use serde_json::{Value, json};
use sluice::api::{FIELD_MANAGER, GATE_NAME, GateEntry, KnobFields, Rollout, RolloutStatus};
use sluice::apply::{Http, Operator, Target, run};
use sluice::observe::{Kind, Version, World};
use sluice::rollout::{Action, Disowned, Plan, Urgency};
use sluice::workload::knob::{Aim, move_to};
use sluice::workload::{DeploymentView, Motion};

use super::harness::Who;
use super::stage::{Place, Stage, on_both_servers};
use super::trace::{Write, held};

on_both_servers!(
    it_gets_to_every_size_within_the_users_budget,
    it_goes_back_from_the_knob_and_from_the_rest,
    it_goes_back_to_none,
    a_pause_after_each_write_of_the_way_back_takes_no_pod_that_serves,
    what_somebody_else_has_taken_out_of_managed_fields_is_gone,
    an_entry_that_another_rollout_has_written_stays,
);

/// More decisions than any movement here needs.
const MANY: usize = 120;

async fn view(stage: &Stage) -> DeploymentView {
    let mut world = World::new();
    let web = serde_json::to_value(stage.web().await).expect("JSON");
    world.apply(Kind::Deployment, &web);
    let everything = ListParams::default();
    for set in stage.replica_sets().list(&everything).await.expect("a list").items {
        world.apply(Kind::ReplicaSet, &serde_json::to_value(set).expect("JSON"));
    }
    for pod in stage.pods().list(&everything).await.expect("a list").items {
        world.apply(Kind::Pod, &serde_json::to_value(pod).expect("JSON"));
    }
    world.deployment_view("web", &stage.namespace).expect("web is seen")
}

fn user() -> KnobFields {
    serde_json::from_value(json!({"progressDeadlineSeconds": 600, "type": "RollingUpdate",
        "maxSurge": "25%", "maxUnavailable": "25%"}))
    .expect("the user's fields")
}

async fn carry_out(stage: &Stage, view: &DeploymentView, write: sluice::workload::Write) {
    let action = Action::Workload {
        uid: view.uid.clone(),
        resource_version: view.resource_version.clone(),
        name: view.name.clone(),
        write,
    };
    act(stage, "web", action).await;
}

/// Carries out one action for a Rollout of this name.
async fn act(stage: &Stage, name: &str, action: Action) {
    let rollout: Rollout = serde_json::from_value(json!({"apiVersion": "sluice.dev/v1beta1",
        "kind": "Rollout", "metadata": {"name": name, "namespace": stage.namespace},
        "spec": {"workloadRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "strategy": {"canary": {"steps": []}}}}))
    .expect("a Rollout");
    let now: Timestamp = "2026-06-01T12:00:00Z".parse().expect("a time");
    let gate = stage.gates().get(GATE_NAME).await.ok().map(|gate| Version {
        uid: gate.metadata.uid.unwrap_or_default(),
        resource_version: gate.metadata.resource_version.unwrap_or_default(),
    });
    let target = Target { rollout: &rollout, account: "sluice", instance: "it", now, gate };
    let plan = Plan {
        status: RolloutStatus::default(),
        urgency: Urgency::None,
        actions: vec![action.clone()],
        calls: Vec::new(),
        wake: None,
        waiting: None,
    };
    run(&stage.client(Who::Sluice), &Operator::acting(), &target, &plan, |_| ())
        .await
        .unwrap_or_else(|error| panic!("{action:?}: {error}"));
}

/// Moves to `new` pods of the new version and returns the fewest that were ready meanwhile.
async fn move_to_size(stage: &Stage, new: i32, stable: &str) -> usize {
    let user = user();
    let now: Timestamp = "2026-06-01T12:00:00Z".parse().expect("a time");
    stage.least_ready();
    for _ in 0..MANY {
        stage.settle().await;
        let view = view(stage).await;
        let ends = new == view.replicas;
        let aim = Aim { new_pods: new, exact: true, user: &user, stable, tolerated: 0, ends };
        match move_to(&view, aim, now) {
            Motion::Arrived => {
                let is = stage.rest().await.sizes;
                let size = |tag: &str| is.get(tag).copied().unwrap_or_default();
                assert_eq!((size("v2"), size("v1")), (new, view.replicas - new));
                return stage.least_ready();
            }
            Motion::Act(write) => carry_out(stage, &view, write).await,
            Motion::Wait { .. } => {}
        }
    }
    panic!("{new} new pods are not reached in {MANY} decisions: {:?}", stage.rest().await);
}

async fn rest(stage: &Stage) {
    let view = view(stage).await;
    let write = sluice::workload::deployment::rest(&view, &user(), false);
    carry_out(stage, &view, write.expect("it does not rest yet")).await;
    stage.settle().await;
}

/// Ten pods, gated and held, and the pod template hash of the stable version.
async fn begun(place: Place, namespace: &str) -> Option<(Stage, String)> {
    begun_with(place, namespace, json!({})).await
}

/// The same, with `spec` merged over the user's own.
async fn begun_with(place: Place, namespace: &str, spec: Value) -> Option<(Stage, String)> {
    let stage = place.stage(namespace).await?;
    stage.deploy(10, spec).await;
    let stable = stage.set("v1").await.labels()["pod-template-hash"].clone();
    stage.gated(json!({"release": "r1"})).await;
    let Write::Spec(spec) = held("v2") else { unreachable!("held writes a spec") };
    stage.spec(Who::User, spec).await;
    stage.settle().await;
    Some((stage, stable))
}

async fn it_gets_to_every_size_within_the_users_budget(place: Place) {
    let Some((stage, stable)) = begun(place, "move-up").await else { return };
    for new in [1, 3, 5, 9, 10] {
        let least = move_to_size(&stage, new, &stable).await;
        assert!(least >= 8, "{least} ready on the way to {new}; 25 % of 10 may be missing");
        rest(&stage).await;
    }
}

async fn it_goes_back_from_the_knob_and_from_the_rest(place: Place) {
    let Some((stage, stable)) = begun(place, "move-back").await else { return };
    for (up, back) in [(4, 3), (6, 4), (9, 8), (10, 5)] {
        for rests in [false, true] {
            move_to_size(&stage, up, &stable).await;
            if rests {
                rest(&stage).await;
            }
            let least = move_to_size(&stage, back, &stable).await;
            assert_eq!(least, 10, "{up} back to {back}: an old pod is ready before a new one goes");
        }
    }
}

async fn it_goes_back_to_none(place: Place) {
    let Some((stage, stable)) = begun(place, "move-none").await else { return };
    move_to_size(&stage, 3, &stable).await;
    let least = move_to_size(&stage, 0, &stable).await;
    assert_eq!(least, 9, "the last one goes before its successor is ready");
    move_to_size(&stage, 3, &stable).await;
}

/// No new pod gets ready, all ten old ones are needed, and the surge of two is in use.
async fn a_pause_after_each_write_of_the_way_back_takes_no_pod_that_serves(place: Place) {
    let own = json!({"maxSurge": 2, "maxUnavailable": 0});
    let spec = json!({"strategy": {"type": "RollingUpdate", "rollingUpdate": own}});
    let Some((stage, stable)) = begun_with(place, "move-back-paused", spec).await else { return };
    let user = KnobFields {
        max_surge: Some(IntOrString::Int(2)),
        max_unavailable: Some(IntOrString::Int(0)),
        ..user()
    };
    let now: Timestamp = "2026-06-01T12:00:00Z".parse().expect("a time");
    for (new, pauses, at) in [(4, false, 2), (1, true, 1)] {
        let aim = Aim {
            new_pods: new,
            exact: true,
            user: &user,
            stable: &stable,
            tolerated: 0,
            ends: false,
        };
        stage.least_ready();
        for decisions in 0.. {
            assert!(decisions < MANY, "it writes without end");
            stage.settle_but(|tag| tag == "v2").await;
            let view = view(&stage).await;
            // There, it would go on where somebody pauses again and again.
            if view.current().is_some_and(|rs| rs.replicas == new) {
                break;
            }
            let Motion::Act(write) = move_to(&view, aim, now) else { break };
            carry_out(&stage, &view, write).await;
            if pauses {
                stage.spec(Who::User, json!({"paused": true})).await;
            }
        }
        assert_eq!(stage.rest().await.sizes["v2"], at);
        assert_eq!(stage.least_ready(), 10, "on the way to {new}");
    }
}

/// A controller and an uninstall may both take our entry out: who comes second is answered with 422.
async fn what_somebody_else_has_taken_out_of_managed_fields_is_gone(place: Place) {
    let Some(stage) = place.stage("disowned-twice").await else { return };
    let service = json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "web", "namespace": stage.namespace},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}});
    let as_user = PostParams { field_manager: Some("user".to_owned()), ..PostParams::default() };
    let services: Api<Service> = Api::namespaced(stage.client(Who::User), &stage.namespace);
    let service = serde_json::from_value(service).expect("a Service");
    services.create(&as_user, &service).await.expect("it is made");
    let client = stage.client(Who::Sluice);
    let at = format!("/api/v1/namespaces/{}/services/web", stage.namespace);
    let pinned = json!({"spec": {"selector": {"pod-template-hash": "v1"}}});
    let written = Http::merge(at.clone(), pinned).send(&client).await.expect("it is pinned");
    let managers = |object: &Value| -> Vec<String> {
        let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
        entries.filter_map(|entry| entry["manager"].as_str().map(str::to_owned)).collect()
    };
    let index = managers(&written).iter().position(|name| name == FIELD_MANAGER);
    let text = |field: &str| written["metadata"][field].as_str().unwrap_or_default().to_owned();
    let action = Action::Disown {
        kind: Disowned::Service,
        uid: text("uid"),
        resource_version: text("resourceVersion"),
        name: "web".to_owned(),
        index: index.expect("our entry"),
    };
    act(&stage, "web", action.clone()).await;
    act(&stage, "web", action).await;
    let left = Http::get(at).send(&client).await.expect("the Service");
    assert_eq!(managers(&left), ["user"]);
}

async fn an_entry_that_another_rollout_has_written_stays(place: Place) {
    let Some(stage) = place.stage("entry-of-another").await else { return };
    let entry = |rollout: &str| {
        let entry = GateEntry { rollout: Some(rollout.to_owned()), ..GateEntry::default() };
        Action::Gate { workload: "other".to_owned(), entry: Some(Box::new(entry)) }
    };
    let gone = || Action::Gate { workload: "other".to_owned(), entry: None };
    let holder = async || {
        let gate = stage.gates().get(GATE_NAME).await.expect("the Gate");
        gate.spec.deployments.get("other").and_then(|entry| entry.rollout.clone())
    };
    act(&stage, "second", entry("second")).await;
    act(&stage, "first", gone()).await;
    assert_eq!(holder().await.as_deref(), Some("second"), "it was written in between");
    act(&stage, "second", gone()).await;
    assert_eq!(holder().await, None);
    act(&stage, "second", gone()).await;
}
