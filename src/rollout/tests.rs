//! Behaviour of whole plans on hand-made snapshots.

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
    status(s).request = Some(Request { verb, by: Some("ann".into()), release: None });
}

fn plan_of(s: &Snapshot) -> Plan {
    let made = plan(s, NOW);
    assert_eq!(check(s, &made), [], "{made:#?}");
    made
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
        (Stage::Suspended, "0 replicas"),
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
    let request = Request { verb: RequestVerb::Abort, by: None, release: Some("r0".into()) };
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
    let spec = GateSpec { account: None, deployments: [("web".to_owned(), entry)].into() };
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

#[test]
fn a_pod_that_gets_ready_costs_no_status_write() {
    let mut s = released(Stage::Stepping, StepState::StepUpgrade, 2, 8);
    let view = s.workload.as_mut().unwrap();
    view.replica_sets = vec![set("v1", 8, 8), set("v2", 2, 0)];
    let first = plan_of(&s);
    let entry = first.actions.iter().find_map(|a| match a {
        Action::Gate { entry: Some(entry), .. } => Some((**entry).clone()),
        _ => None,
    });
    let deployments = [("web".to_owned(), entry.unwrap())].into();
    s.gate = Some(GateView { spec: GateSpec { account: Some("sluice".into()), deployments } });
    s.rollout.status = Some(first.status);
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
