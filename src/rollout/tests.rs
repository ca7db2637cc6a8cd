//! Behaviour of whole plans on hand-made snapshots.

mod lines;

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serde_json::{Value, json};

use super::invariants::check;
use super::{Action, GateView, Plan, Proof, Snapshot, Urgency, plan};
use crate::api::status::{
    Phase, Rejected, ReleaseStatus, Request, RequestVerb, RolloutStatus, STATUS_SCHEMA, Stage,
    StepState,
};
use crate::api::{FINALIZER, GateEntry, GateSpec, KnobFields, Rollout};
use crate::workload::view::template_hash;
use crate::workload::{DeploymentView, PodView, ReplicaSetView, Write};

const NOW: Timestamp = Timestamp::constant(1_767_225_600, 0);

fn template(version: &str) -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {"image": version}})
}

fn user() -> KnobFields {
    KnobFields {
        progress_deadline_seconds: Some(600),
        type_: Some("RollingUpdate".into()),
        max_surge: Some(IntOrString::Int(2)),
        max_unavailable: Some(IntOrString::Int(2)),
        ..KnobFields::default()
    }
}

/// A ReplicaSet of which `ready` pods are ready.
fn set(version: &str, replicas: i32, ready: i32) -> ReplicaSetView {
    let pod = |i: i32| PodView {
        name: format!("{version}-{i}"),
        created: None,
        ready_since: (i < ready).then_some(Timestamp::UNIX_EPOCH),
        problem: None,
    };
    ReplicaSetView {
        name: format!("web-{version}"),
        uid: version.into(),
        resource_version: "1".into(),
        hash: version.into(),
        revision: 1,
        replicas,
        min_ready_seconds: 0,
        status_replicas: replicas,
        available: ready,
        template: template(version),
        template_hash: template_hash(&template(version)),
        pods: (0..replicas).map(pod).collect(),
    }
}

/// A Deployment of ten whose template is `version`.
fn workload(version: &str, sets: Vec<ReplicaSetView>) -> DeploymentView {
    DeploymentView {
        name: "web".into(),
        uid: "u".into(),
        resource_version: "7".into(),
        generation: 2,
        observed_generation: 2,
        replicas: 10,
        fields: user(),
        template: template(version),
        template_hash: template_hash(&template(version)),
        wanted: None,
        selector: [("app".to_owned(), "web".to_owned())].into(),
        replica_sets: sets,
        deleting: false,
        owned: None,
    }
}

fn rollout(extra: &Value) -> Rollout {
    let mut object = json!({
        "apiVersion": "sluice.dev/v1beta1",
        "kind": "Rollout",
        "metadata": {"name": "web", "namespace": "default", "uid": "r", "generation": 3},
        "spec": {
            "workloadRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "strategy": {"canary": {"steps": [
                {"replicas": "20%", "pause": {}},
                {"replicas": "50%", "pause": {}},
                {"replicas": "100%"},
            ]}},
        },
    });
    for (key, value) in extra.as_object().unwrap() {
        object["spec"][key] = value.clone();
    }
    serde_json::from_value(object).unwrap()
}

fn snapshot(workload: Option<DeploymentView>) -> Snapshot {
    Snapshot {
        rollout: rollout(&json!({})),
        account: "sluice".into(),
        workload,
        gate: None,
        proof: Proof::Held { at: NOW },
        services: BTreeMap::new(),
        endpoints: BTreeMap::new(),
        routes: BTreeMap::new(),
        runs: BTreeMap::new(),
        templates: BTreeMap::new(),
        hooks: BTreeMap::new(),
        calibration: None,
        rival: None,
    }
}

/// All ten pods of v1, v2 held by the gate.
fn held() -> Snapshot {
    let mut view = workload("v2", vec![set("v1", 10, 10)]);
    view.fields.paused = true;
    snapshot(Some(view))
}

/// A release from v1 to v2 at `stage`, seen with these sizes.
fn released(stage: Stage, state: StepState, new: i32, old: i32) -> Snapshot {
    let mut s = held();
    let mut view = workload("v2", vec![set("v1", old, old), set("v2", new, new)]);
    view.fields.paused = true;
    s.workload = Some(view);
    s.rollout.metadata.finalizers = Some(vec![FINALIZER.into()]);
    s.rollout.status = Some(RolloutStatus {
        schema: Some(STATUS_SCHEMA),
        phase: Some(Phase::Progressing),
        release: Some(ReleaseStatus {
            id: "r1".into(),
            template_hash: template_hash(&template("v2")),
            stable: "v1".into(),
            stage,
            state,
            originals: user(),
            attempt: 1,
            ..ReleaseStatus::default()
        }),
        ..RolloutStatus::default()
    });
    s
}

fn status(s: &mut Snapshot) -> &mut RolloutStatus {
    s.rollout.status.get_or_insert_default()
}

fn release(s: &mut Snapshot) -> &mut ReleaseStatus {
    status(s).release.get_or_insert_default()
}

fn ask(s: &mut Snapshot, verb: RequestVerb) {
    status(s).request = Some(Request { verb, by: Some("ann".into()), ..Request::default() });
}

fn plan_of(s: &Snapshot) -> Plan {
    let made = plan(s, NOW);
    assert_eq!(check(s, &made), [], "{made:#?}");
    made
}

/// What the plan wrote about itself is there: its status and the Gate's entry.
fn follow(s: &mut Snapshot, made: Plan) {
    for action in made.actions {
        if let Action::Gate { workload, entry } = action {
            let deployments = entry.map(|e| (workload, *e)).into_iter().collect();
            let account = Some("sluice".into());
            s.gate =
                Some(GateView { spec: GateSpec { account, deployments, ..GateSpec::default() } });
        }
    }
    s.rollout.status = Some(made.status);
}

fn events(plan: &Plan) -> Vec<&'static str> {
    let notes = plan.actions.iter().filter_map(|a| match a {
        Action::Event(note) => Some(note.reason),
        _ => None,
    });
    notes.collect()
}

fn waiting(plan: &Plan) -> &str {
    plan.waiting.as_ref().map_or("", |w| w.what.as_str())
}

fn place(plan: &Plan, which: impl Fn(&Action) -> bool) -> usize {
    plan.actions.iter().position(which).unwrap_or_else(|| panic!("not planned: {plan:#?}"))
}

#[test]
fn a_new_template_starts_a_release_entry_before_status_before_the_first_move() {
    let made = plan_of(&held());
    let names_it = |a: &Action| match a {
        Action::Gate { entry: Some(e), .. } => e.release.is_some() && e.originals.is_some(),
        _ => false,
    };
    let entry = place(&made, names_it);
    let finalizer = place(&made, |a| *a == Action::Finalizer(true));
    let status = place(&made, |a| *a == Action::Status);
    let write = place(&made, |a| matches!(a, Action::Workload { .. }));
    assert!(entry < status && finalizer < status && status < write, "{made:#?}");
    assert!(events(&made).contains(&"ReleaseStarted"));
    assert_eq!(made.urgency, Urgency::Now);
}

#[test]
fn nothing_new_is_healthy_and_gated_and_moves_nothing() {
    let made = plan_of(&snapshot(Some(workload("v1", vec![set("v1", 10, 10)]))));
    assert_eq!(made.status.phase, Some(Phase::Healthy));
    assert!(!made.actions.iter().any(|a| matches!(a, Action::Workload { .. })));
    let entry =
        |a: &Action| matches!(a, Action::Gate { entry: Some(e), .. } if e.release.is_none());
    place(&made, entry);
    assert_eq!(made.waiting, None);
}

#[test]
fn a_status_of_a_newer_version_is_not_written_over() {
    let mut s = released(Stage::Stepping, StepState::StepPaused, 2, 8);
    status(&mut s).schema = Some(STATUS_SCHEMA + 1);
    let made = plan_of(&s);
    assert_eq!(made.actions, [], "what it remembers would be lost");
    assert_eq!(made.urgency, Urgency::None);
    assert!(waiting(&made).contains("newer Sluice"), "{}", waiting(&made));
}

#[test]
fn a_rollout_deleted_after_its_workload_first_puts_services_right() {
    let mut s = released(Stage::Stepping, StepState::StepPaused, 2, 8);
    s.workload = None;
    s.rollout.metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(NOW));
    let service = |selector: Value| {
        json!({"metadata": {"name": "web", "uid": "s", "resourceVersion": "1"},
               "spec": {"selector": selector, "ports": [{"port": 80}]}})
    };
    let pinned = service(json!({"app": "web", "pod-template-hash": "v1"}));
    s.services.insert("web".into(), pinned);
    release(&mut s).traffic_notes =
        Some(r#"{"routes":{},"pinned":["web"],"canaries":[]}"#.to_owned());
    let made = plan_of(&s);
    place(&made, |a| matches!(a, Action::PutService(_)));
    assert!(!made.actions.contains(&Action::Finalizer(false)), "{made:#?}");
    s.rollout.status = Some(made.status);
    s.services.insert("web".into(), service(json!({"app": "web"})));
    let made = plan_of(&s);
    assert!(made.actions.contains(&Action::Finalizer(false)), "{made:#?}");
    assert_eq!(made.status.release, None);
}

#[test]
fn a_rollback_without_its_stable_replica_set_says_what_to_do() {
    let mut s = released(Stage::RollingBack, StepState::StepPaused, 10, 0);
    s.workload = Some(workload("v2", vec![set("v2", 10, 10)]));
    let made = plan_of(&s);
    assert!(waiting(&made).contains("v1 is gone"), "{}", waiting(&made));
    assert!(!made.actions.iter().any(|a| matches!(a, Action::Workload { .. })));
}

#[test]
fn a_lost_share_is_brought_back_by_the_stable_template() {
    let s = released(Stage::Stepping, StepState::StepPaused, 10, 0);
    let made = plan_of(&s);
    assert_eq!(made.status.release.as_ref().map(|r| r.stage), Some(Stage::Suspended));
    let put = |a: &Action| match a {
        Action::Workload { write: Write::Deployment(patch), .. } => patch.template.is_some(),
        _ => false,
    };
    place(&made, put);
    assert!(waiting(&made).contains("no stable pod"), "{}", waiting(&made));
}

#[test]
fn a_single_pod_that_is_new_is_what_its_step_wants() {
    let mut s = released(Stage::Stepping, StepState::StepPaused, 1, 0);
    s.workload.as_mut().unwrap().replicas = 1;
    let made = plan_of(&s);
    assert_eq!(made.status.release.as_ref().map(|r| r.stage), Some(Stage::Stepping));
    assert!(waiting(&made).contains("approval"), "{}", waiting(&made));
}

#[test]
fn a_release_that_is_scaled_to_one_pod_gives_it_to_the_stable_version_and_waits() {
    let mut s = released(Stage::Stepping, StepState::StepPaused, 1, 0);
    view_of(&mut s).replicas = 1;
    release(&mut s).shared = true;
    let made = plan_of(&s);
    assert_eq!(made.status.release.as_ref().map(|r| r.stage), Some(Stage::Suspended));
    follow(&mut s, made);
    let mut view = workload("v1", vec![set("v1", 1, 1), set("v2", 0, 0)]);
    view.replicas = 1;
    s.workload = Some(view);
    let made = plan_of(&s);
    assert_eq!(written(&made), None, "{made:#?}");
    assert!(waiting(&made).contains("single replica"), "{}", waiting(&made));
    let template_again =
        |made: &Plan| matches!(written(made), Some(Write::Deployment(p)) if p.template.is_some());
    follow(&mut s, made);
    let mut more = s.clone();
    view_of(&mut more).replicas = 10;
    view_of(&mut more).replica_sets = vec![set("v1", 10, 10), set("v2", 0, 0)];
    assert!(template_again(&plan_of(&more)), "with more it goes on");
    ask(&mut s, RequestVerb::Retry);
    assert!(template_again(&plan_of(&s)), "or when a person says so");
}

#[test]
fn an_approval_that_nobody_waits_for_is_refused_with_a_word() {
    let mut s = released(Stage::Stepping, StepState::StepUpgrade, 1, 9);
    ask(&mut s, RequestVerb::Approve);
    let made = plan_of(&s);
    assert!(events(&made).contains(&"NothingToApprove"));
    assert_eq!(made.status.request, None);
    assert!(made.actions.contains(&Action::Status), "the wish is taken away");
}

#[test]
fn abort_rolls_back_and_remembers_the_template() {
    for stage in [Stage::Stepping, Stage::Isolated, Stage::Finalising, Stage::Suspended] {
        let mut s = released(stage, StepState::StepPaused, 2, 8);
        ask(&mut s, RequestVerb::Abort);
        let made = plan_of(&s);
        let rejected = made.status.rejected.as_ref().map(|r| r.template_hash.clone());
        assert_eq!(rejected, Some(template_hash(&template("v2"))), "{stage:?}");
        assert!(events(&made).contains(&"RollingBack"), "{stage:?}");
    }
}

#[test]
fn a_request_on_the_way_out_is_dropped_with_the_reason() {
    for (stage, why) in [
        (Stage::RollingBack, "on its way back"),
        (Stage::LettingGo, "being let go"),
        (Stage::Suspended, "waits for replicas"),
    ] {
        let mut s = released(stage, StepState::StepPaused, 2, 8);
        ask(&mut s, RequestVerb::Skip);
        let made = plan_of(&s);
        let told = made.actions.iter().any(|a| {
            matches!(a, Action::Event(n) if n.reason == "RequestDropped" && n.note.contains(why))
        });
        assert!(told, "{stage:?}: {made:#?}");
    }
}

#[test]
fn a_request_for_another_release_is_dropped() {
    let mut s = released(Stage::Stepping, StepState::StepPaused, 2, 8);
    let request =
        Request { verb: RequestVerb::Abort, release: Some("r0".into()), ..Request::default() };
    status(&mut s).request = Some(request);
    let made = plan_of(&s);
    assert!(events(&made).contains(&"RequestDropped"));
    assert_eq!(made.status.rejected, None);
}

#[test]
fn the_users_own_pause_comes_back_once_every_pod_is_stable() {
    let mut s = released(Stage::RollingBack, StepState::StepPaused, 0, 10);
    s.workload = Some(workload("v1", vec![set("v1", 10, 10)]));
    release(&mut s).originals.paused = true;
    let made = plan_of(&s);
    let Some(Action::Workload { write: Write::Deployment(patch), .. }) =
        made.actions.iter().find(|a| matches!(a, Action::Workload { .. }))
    else {
        panic!("{made:#?}");
    };
    assert_eq!(patch.paused, Some(true));
    s.workload.as_mut().unwrap().fields.paused = true;
    let made = plan_of(&s);
    assert_eq!(made.status.release, None, "it is over, and nothing is written again");
    assert!(!made.actions.iter().any(|a| matches!(a, Action::Workload { .. })));
}

#[test]
fn a_template_that_failed_is_held_until_retry() {
    let mut s = held();
    status(&mut s).rejected = Some(Rejected {
        template_hash: template_hash(&template("v2")),
        reason: "errors".into(),
        at: None,
    });
    let made = plan_of(&s);
    assert_eq!(made.status.phase, Some(Phase::Failed));
    assert!(waiting(&made).contains("errors"), "{}", waiting(&made));
    ask(&mut s, RequestVerb::Retry);
    let made = plan_of(&s);
    assert!(events(&made).contains(&"ReleaseStarted"));
}

#[test]
fn a_gate_that_somebody_takes_away_means_let_go() {
    let mut s = held();
    s.rollout.status = Some(plan_of(&s).status);
    let made = plan_of(&s);
    assert!(events(&made).contains(&"LettingGo"), "{made:#?}");
    assert!(waiting(&made).contains("edit the Rollout"), "{}", waiting(&made));
    let gated = made.actions.iter().any(|a| matches!(a, Action::Gate { entry: Some(_), .. }));
    assert!(!gated, "it is not gated again");
}

#[test]
fn a_disabled_rollout_leaves_no_entry() {
    let mut s = snapshot(Some(workload("v1", vec![set("v1", 10, 10)])));
    s.rollout.spec.disabled = true;
    let entry = GateEntry { rollout: Some("web".into()), ..GateEntry::default() };
    let spec = GateSpec { deployments: [("web".to_owned(), entry)].into(), ..GateSpec::default() };
    s.gate = Some(GateView { spec });
    let made = plan_of(&s);
    place(&made, |a| matches!(a, Action::Gate { entry: None, .. }));
    assert_eq!(made.status.phase, Some(Phase::Disabled));
}

#[test]
fn what_cannot_be_released_says_why() {
    let mut recreate = held();
    recreate.workload.as_mut().unwrap().fields.type_ = Some("Recreate".into());
    let mut rival = held();
    rival.rival = Some("older".into());
    let mut invalid = held();
    invalid.rollout = rollout(&json!({"strategy": {"canary": {"steps": [{"replicas": "0%"}]}}}));
    for (s, words) in [
        (recreate, "RollingUpdate"),
        (rival, "older"),
        (invalid, "steps[0].replicas"),
        (snapshot(None), "create it"),
    ] {
        let made = plan_of(&s);
        assert!(waiting(&made).contains(words), "{words}: {}", waiting(&made));
        assert!(!made.actions.iter().any(|a| matches!(a, Action::Workload { .. })));
    }
}

fn deleted(s: &mut Snapshot) {
    s.rollout.metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(NOW));
}

fn written(plan: &Plan) -> Option<&Write> {
    plan.actions.iter().find_map(|a| match a {
        Action::Workload { write, .. } => Some(write),
        _ => None,
    })
}

#[test]
fn the_deadline_counts_to_the_last_pod_and_a_person_may_give_it_more_time() {
    let mut s = released(Stage::Finalising, StepState::Completed, 10, 2);
    s.rollout.spec.on_failure = Some(crate::api::rollout::OnFailure::Pause);
    let view = s.workload.as_mut().unwrap();
    view.replica_sets = vec![set("v1", 2, 2), set("v2", 8, 0)];
    view.fields.paused = false;
    let long_ago = NOW.saturating_sub(jiff::SignedDuration::from_secs(601)).unwrap();
    release(&mut s).since = Some(crate::api::Time(long_ago));
    let made = plan_of(&s);
    assert!(events(&made).contains(&"ProgressDeadlineExceeded"), "{made:#?}");
    assert!(waiting(&made).contains("0 new pods are ready"), "{}", waiting(&made));
    follow(&mut s, made);
    assert!(waiting(&plan_of(&s)).contains("approve"), "it holds, and says so again");
    ask(&mut s, RequestVerb::Approve);
    let made = plan_of(&s);
    let after = made.status.release.as_ref().unwrap();
    assert_eq!((after.stage, after.held.as_ref()), (Stage::Finalising, None));
    assert!(matches!(written(&made), Some(Write::Deployment(_))), "{made:#?}");
}

#[test]
fn a_pause_before_the_end_does_not_make_pods_ready() {
    let mut s = released(Stage::Finalising, StepState::Completed, 10, 0);
    release(&mut s).since = Some(crate::api::Time(NOW));
    view_of(&mut s).replica_sets = vec![set("v1", 0, 0), set("v2", 10, 4)];
    let made = plan_of(&s);
    assert!(waiting(&made).contains("4 of 10"), "{}", waiting(&made));
    assert_eq!(written(&made), None);
    view_of(&mut s).replica_sets = vec![set("v1", 0, 0), set("v2", 10, 10)];
    let Some(Write::Deployment(patch)) = written(&plan_of(&s)).cloned() else { panic!() };
    assert_eq!(patch.paused, Some(false), "the fields are given back");
}

#[test]
fn a_step_that_is_smaller_than_the_one_before_says_that_it_goes_back() {
    let mut s = released(Stage::Stepping, StepState::BeforeStepUpgrade, 5, 5);
    s.rollout = Rollout {
        spec: rollout(&json!({"strategy": {"canary": {"steps": [
            {"replicas": "50%"}, {"replicas": 1}, {"replicas": "100%"}]}}}))
        .spec,
        ..s.rollout
    };
    release(&mut s).step = 1;
    let made = plan_of(&s);
    assert!(made.status.release.unwrap().backward);
}

#[test]
fn old_pods_count_again_before_the_native_controller_chooses_among_their_sets() {
    let never = crate::workload::NEVER_READY_SECONDS;
    let mut s = released(Stage::RollingBack, StepState::StepUpgrade, 0, 0);
    let mut middle = set("v2", 3, 3);
    (middle.min_ready_seconds, middle.available) = (never, 0);
    let broken = set("v3", 1, 0);
    s.workload = Some(workload("v1", vec![set("v1", 6, 6), middle.clone(), broken.clone()]));
    s.workload.as_mut().unwrap().fields.paused = true;
    let made = plan_of(&s);
    let Some(Write::MinReady { replica_set, seconds: 0, .. }) = written(&made) else {
        panic!("{made:#?}");
    };
    assert_eq!(replica_set, "web-v2");
    middle.min_ready_seconds = 0;
    let view = s.workload.as_mut().unwrap();
    view.replica_sets = vec![set("v1", 6, 6), middle.clone(), broken.clone()];
    assert_eq!(written(&plan_of(&s)), None, "not before it is seen");
    middle.available = 3;
    view_of(&mut s).replica_sets = vec![set("v1", 6, 6), middle, broken];
    assert!(matches!(written(&plan_of(&s)), Some(Write::Deployment(_))));
}

fn view_of(s: &mut Snapshot) -> &mut DeploymentView {
    s.workload.as_mut().unwrap()
}

#[test]
fn pods_that_a_scale_event_adds_to_a_step_come_before_the_traffic_that_waits_for_them() {
    let mut s = released(Stage::Stepping, StepState::StepTrafficRouting, 1, 9);
    let canary = json!({
        "trafficRoutings": [{"service": "web", "gateway": {"httpRouteName": "web"}}],
        "steps": [{"replicas": "20%", "traffic": "20%"}, {"replicas": "100%"}],
    });
    s.rollout.spec = rollout(&json!({"strategy": {"canary": canary}})).spec;
    let made = plan_of(&s);
    let state = made.status.release.as_ref().map(|r| r.state);
    assert_eq!(state, Some(StepState::StepUpgrade), "one of two is there");
    assert!(matches!(written(&made), Some(Write::Deployment(_))), "{made:#?}");
}

#[test]
fn a_version_in_between_that_never_got_ready_goes_before_one_that_did() {
    let mut s = released(Stage::Stepping, StepState::BeforeStepUpgrade, 0, 0);
    let sets = vec![set("v1", 5, 5), set("v3", 4, 4), set("v4", 1, 0), set("v2", 0, 0)];
    view_of(&mut s).replica_sets = sets;
    let made = plan_of(&s);
    let Some(Write::Scale { replica_set, to: 0, desired: 10, .. }) = written(&made) else {
        panic!("{made:#?}");
    };
    assert_eq!(replica_set, "web-v4");
}

/// The stable Service, pinned by the release, which the notes say.
fn pinned(s: &mut Snapshot) {
    let service = json!({"metadata": {"name": "web", "uid": "s", "resourceVersion": "1"},
        "spec": {"selector": {"app": "web", "pod-template-hash": "v1"}, "ports": [{"port": 80}]}});
    s.services.insert("web".into(), service);
    release(s).traffic_notes = Some(r#"{"routes":{},"pinned":["web"],"canaries":[]}"#.to_owned());
}

fn opened(plan: &Plan) -> bool {
    plan.actions.iter().any(|a| {
        matches!(a, Action::PutService(s)
            if s.pointer("/spec/selector/pod-template-hash").is_none())
    })
}

#[test]
fn a_pause_leaves_no_service_without_an_endpoint() {
    for paused in [true, false] {
        let mut s = released(Stage::Stepping, StepState::StepPaused, 1, 0);
        view_of(&mut s).replicas = 1;
        s.rollout.spec.strategy.paused = paused;
        release(&mut s).held = (!paused).then(|| "the analysis cannot tell".into());
        pinned(&mut s);
        let made = plan_of(&s);
        assert!(opened(&made), "scaling took the last stable pod away: {made:#?}");
    }
}

#[test]
fn a_pause_does_not_keep_a_version_that_scaling_gave_every_pod() {
    let mut s = released(Stage::Stepping, StepState::StepPaused, 10, 0);
    s.rollout.spec.strategy.paused = true;
    let made = plan_of(&s);
    assert_eq!(made.status.release.map(|r| r.stage), Some(Stage::Suspended));
}

#[test]
fn a_rollback_on_delete_that_cannot_be_ends_as_a_hold() {
    let mut s = released(Stage::Stepping, StepState::StepPaused, 10, 0);
    s.workload = Some(workload("v2", vec![set("v2", 10, 10)]));
    s.rollout.spec.on_delete = Some(crate::api::rollout::OnDelete::Rollback);
    deleted(&mut s);
    let made = plan_of(&s);
    assert!(events(&made).contains(&"RollbackImpossible"), "{made:#?}");
    let mut told = 0;
    follow(&mut s, made);
    for _ in 0..3 {
        let made = plan_of(&s);
        told += events(&made).iter().filter(|e| **e == "RollbackImpossible").count();
        view_of(&mut s).fields.paused = true;
        follow(&mut s, made);
    }
    assert_eq!(told, 0, "said once");
    assert_eq!(status(&mut s).release, None);
    assert!(plan_of(&s).actions.contains(&Action::Finalizer(false)));
}

#[test]
fn a_spec_that_cannot_be_read_stops_a_release_but_not_its_way_back() {
    let bad = rollout(&json!({"strategy": {"canary": {"steps": [{"replicas": "0%"}]}}})).spec;
    let mut s = released(Stage::RollingBack, StepState::StepPaused, 2, 8);
    s.rollout.spec = bad.clone();
    let made = plan_of(&s);
    let Some(Write::Deployment(patch)) = written(&made) else { panic!("{made:#?}") };
    assert!(patch.template.is_some(), "the stable template is put back");
    let said = made.status.conditions.iter().find(|c| c.type_ == "InvalidSpec").unwrap();
    assert!(said.message.contains("needs no plan"), "{}", said.message);
    for verb in [None, Some(RequestVerb::Abort)] {
        let mut s = released(Stage::Stepping, StepState::StepPaused, 2, 8);
        s.rollout.spec = bad.clone();
        if let Some(verb) = verb {
            ask(&mut s, verb);
        } else {
            view_of(&mut s).template = template("v1");
            view_of(&mut s).template_hash = template_hash(&template("v1"));
        }
        let made = plan_of(&s);
        assert!(events(&made).contains(&"RollingBack"), "{verb:?}: {made:#?}");
    }
    let mut s = released(Stage::Stepping, StepState::StepReady, 2, 8);
    s.rollout.spec = bad;
    let made = plan_of(&s);
    assert!(waiting(&made).contains("steps[0].replicas"), "{}", waiting(&made));
    assert_eq!(made.status.release.map(|r| r.step), Some(0), "no step is taken");
}

#[test]
fn a_next_version_that_has_too_many_pods_already_goes_back_to_its_step() {
    let mut s = released(Stage::Stepping, StepState::StepPaused, 2, 4);
    let view = view_of(&mut s);
    view.replica_sets = vec![set("v1", 4, 4), set("v3", 4, 4), set("v2", 2, 2)];
    view.template = template("v3");
    view.template_hash = template_hash(&template("v3"));
    let made = plan_of(&s);
    assert!(events(&made).contains(&"NextVersion"), "{made:#?}");
    assert!(made.status.release.unwrap().backward);
}

#[test]
fn a_pod_that_gets_ready_costs_no_status_write() {
    let mut s = released(Stage::Stepping, StepState::StepUpgrade, 2, 8);
    let view = s.workload.as_mut().unwrap();
    view.replica_sets = vec![set("v1", 8, 8), set("v2", 2, 0)];
    let first = plan_of(&s);
    follow(&mut s, first);
    let view = s.workload.as_mut().unwrap();
    view.replica_sets = vec![set("v1", 8, 8), set("v2", 2, 1)];
    let made = plan_of(&s);
    assert_eq!(made.urgency, Urgency::Soon);
    assert!(!made.actions.contains(&Action::Status));
}

fn stage() -> impl Strategy<Value = Stage> {
    prop::sample::select(vec![
        Stage::Stepping,
        Stage::Finalising,
        Stage::RollingBack,
        Stage::LettingGo,
        Stage::Isolated,
        Stage::Suspended,
    ])
}

fn state() -> impl Strategy<Value = StepState> {
    prop::sample::select(vec![
        StepState::BeforeStepUpgrade,
        StepState::StepUpgrade,
        StepState::StepTrafficRouting,
        StepState::StepMetricsAnalysis,
        StepState::StepPaused,
        StepState::StepReady,
        StepState::Completed,
    ])
}

fn verb() -> impl Strategy<Value = Option<RequestVerb>> {
    prop::option::of(prop::sample::select(vec![
        RequestVerb::Approve,
        RequestVerb::PromoteFull,
        RequestVerb::Abort,
        RequestVerb::Retry,
        RequestVerb::Skip,
        RequestVerb::Restart,
        RequestVerb::Pause,
        RequestVerb::Isolate,
    ]))
}

prop_compose! {
    /// A release in any stage, met by a workload that looks in any way.
    fn any_snapshot()(
        (stage, state, verb) in (stage(), state(), verb()),
        (new, old, middle) in (0..12_i32, 0..12_i32, 0..4_i32),
        (n, step) in (0..12_i32, -1..5_i32),
        ready in 0..12_i32,
        version in prop::sample::select(vec!["v1", "v2", "v3"]),
        flags in prop::array::uniform8(any::<bool>()),
    ) -> Snapshot {
        let [paused, knob, disabled, deleting, gone, frozen, user_paused, no_stable] = flags;
        let mut s = released(stage, state, new, old);
        let mut sets = vec![set("v1", old, old), set("v3", middle, middle), set("v2", new, ready.min(new))];
        if no_stable {
            sets.remove(0);
        }
        let mut view = workload(version, sets);
        view.replicas = n;
        view.fields.paused = paused;
        if knob {
            view.fields.min_ready_seconds = Some(crate::workload::NEVER_READY_SECONDS);
        }
        s.workload = (!gone).then_some(view);
        s.rollout.spec.disabled = disabled;
        s.rollout.spec.strategy.paused = frozen;
        if deleting {
            s.rollout.metadata.deletion_timestamp =
                Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(NOW));
        }
        let r = release(&mut s);
        r.step = step;
        r.originals.paused = user_paused;
        if stage == Stage::Suspended {
            r.suspended_template = Some(template("v2").to_string());
        }
        if let Some(verb) = verb {
            ask(&mut s, verb);
        }
        s
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        rng_seed: RngSeed::Fixed(5),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_snapshot_has_one_plan_that_breaks_no_invariant(s in any_snapshot()) {
        let made = plan(&s, NOW);
        let found = check(&s, &made);
        prop_assert!(found.is_empty(), "{:?} {:#?}", found, made);
        let again = plan(&s, NOW);
        prop_assert_eq!(format!("{made:?}"), format!("{again:?}"));
        let text = serde_json::to_string(&made.status).unwrap();
        let back: RolloutStatus = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(back, made.status);
    }
}

mod between;
mod exhaustive;
mod hooks;
mod isolate;
mod watch;
mod windows;
