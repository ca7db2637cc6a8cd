//! The ways out: back, let go, disabled, deleted.

use super::*;

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
