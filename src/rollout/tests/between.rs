//! Versions in between, and what a workload that was let go gets back.

use super::*;
use crate::api::LetGo;
use crate::workload::NEVER_READY_SECONDS;

/// A set whose pods are kept from counting as available.
fn marked(version: &str, replicas: i32, ready: i32) -> ReplicaSetView {
    ReplicaSetView {
        min_ready_seconds: NEVER_READY_SECONDS,
        available: 0,
        ..set(version, replicas, ready)
    }
}

/// A release that goes back to two pods of v2, under the knob.
fn going_back(sets: Vec<ReplicaSetView>) -> Snapshot {
    let mut s = released(Stage::Stepping, StepState::StepUpgrade, 4, 6);
    let view = view_of(&mut s);
    view.replica_sets = sets;
    view.fields = KnobFields {
        min_ready_seconds: Some(NEVER_READY_SECONDS),
        progress_deadline_seconds: Some(crate::workload::NEVER_LATE_SECONDS),
        max_surge: Some(IntOrString::Int(0)),
        max_unavailable: Some(IntOrString::String("20%".into())),
        ..user()
    };
    let release = release(&mut s);
    release.backward = true;
    release.originals.max_surge = Some(IntOrString::Int(1));
    release.originals.max_unavailable = Some(IntOrString::Int(0));
    s
}

#[test]
fn of_too_many_pods_one_in_between_that_is_not_ready_goes_before_a_new_one_that_is() {
    let mut s = going_back(vec![set("v1", 5, 5), marked("v3", 2, 1), marked("v2", 4, 4)]);
    view_of(&mut s).fields = KnobFields {
        paused: true,
        max_surge: Some(IntOrString::Int(1)),
        ..release(&mut s).originals.clone()
    };
    view_of(&mut s).fields.max_unavailable = Some(IntOrString::Int(1));
    let made = plan_of(&s);
    let Some(Write::Scale { replica_set, from: 2, to: 1, .. }) = written(&made) else {
        panic!("{made:#?}");
    };
    assert_eq!(replica_set, "web-v3");
    let s = going_back(vec![set("v1", 6, 6), marked("v3", 1, 1), marked("v2", 4, 4)]);
    let made = plan_of(&s);
    let Some(Write::Scale { replica_set, from: 4, to: 3, .. }) = written(&made) else {
        panic!("{made:#?}");
    };
    assert_eq!(replica_set, "web-v2");
}

/// The pods that are ready are just those that the budget asks for: who pauses must find the surge that keeps
/// them.
#[test]
fn a_pod_that_is_not_ready_goes_at_rest_where_the_budget_needs_what_is_too_many() {
    let s = going_back(vec![set("v1", 7, 7), marked("v2", 4, 3)]);
    let Some(Write::Deployment(patch)) = written(&plan_of(&s)).cloned() else { panic!() };
    assert_eq!((patch.paused, patch.max_surge), (Some(true), Some(IntOrString::Int(1))));
    let s = going_back(vec![set("v1", 7, 7), marked("v2", 4, 4)]);
    assert!(matches!(written(&plan_of(&s)), Some(Write::Scale { from: 4, to: 3, .. })));
}

#[test]
fn a_way_back_is_late_only_when_no_old_pod_gets_ready_any_more() {
    let ago = |seconds| NOW - jiff::SignedDuration::from_secs(seconds);
    let mut old = set("v1", 7, 6);
    let mut s = going_back(vec![old.clone(), marked("v2", 4, 4)]);
    release(&mut s).since = Some(crate::api::Time(ago(900)));
    let stage = plan_of(&s).status.release.map(|r| r.stage);
    assert_eq!(stage, Some(Stage::RollingBack), "for 15 minutes nothing");
    old.pods[0].ready_since = Some(ago(60));
    view_of(&mut s).replica_sets = vec![old, marked("v2", 4, 4)];
    let made = plan_of(&s);
    let Some(Write::Deployment(patch)) = written(&made) else { panic!("{made:#?}") };
    assert_eq!(patch.max_surge, Some(IntOrString::Int(1)), "no pod may go before it is ready");
    view_of(&mut s).fields.max_surge = Some(IntOrString::Int(1));
    let made = plan_of(&s);
    assert!(waiting(&made).contains("6 of 7 stable pods"), "{}", waiting(&made));
}

/// A release that is set aside while its stable version comes back, and somebody applied v2 again.
fn applied_again(sets: Vec<ReplicaSetView>) -> Snapshot {
    let mut s = released(Stage::Suspended, StepState::BeforeStepUpgrade, 0, 0);
    view_of(&mut s).replica_sets = sets;
    release(&mut s).suspended_template = Some(template("v2").to_string());
    s
}

fn put_back(made: &Plan) -> Option<&Value> {
    match written(made) {
        Some(Write::Deployment(patch)) => patch.template.as_ref(),
        _ => None,
    }
}

#[test]
fn a_template_applied_again_while_the_stable_version_comes_back_waits_for_it() {
    let s = applied_again(vec![set("v1", 1, 0), set("v3", 9, 9), set("v2", 0, 0)]);
    let made = plan_of(&s);
    assert_eq!(put_back(&made), Some(&template("v1")), "{made:#?}");
    assert_eq!(made.status.release.as_ref().map(|r| r.stage), Some(Stage::Suspended));
    assert_eq!(events(&made), [""; 0], "a GitOps tool applies it every few seconds");
    let s = applied_again(vec![set("v1", 10, 10), set("v3", 0, 0), set("v2", 0, 0)]);
    let made = plan_of(&s);
    assert_eq!(made.status.release.as_ref().map(|r| r.stage), Some(Stage::Stepping));
}

#[test]
fn a_template_applied_again_does_not_take_the_only_pod() {
    let mut s = applied_again(vec![set("v1", 1, 1), set("v2", 0, 0)]);
    view_of(&mut s).replicas = 1;
    release(&mut s).shared = true;
    let made = plan_of(&s);
    assert_eq!(put_back(&made), Some(&template("v1")), "{made:#?}");
}

#[test]
fn old_pods_count_again_before_the_stable_version_comes_back() {
    let mut s = applied_again(Vec::new());
    let sets = vec![set("v1", 1, 0), marked("v3", 3, 3), set("v2", 1, 0)];
    s.workload = Some(workload("v1", sets));
    view_of(&mut s).fields.paused = true;
    let made = plan_of(&s);
    let Some(Write::MinReady { replica_set, seconds: 0, .. }) = written(&made) else {
        panic!("{made:#?}");
    };
    assert_eq!(replica_set, "web-v3");
}

/// Stable pods were just scaled from 8 to 5 of 10 and their ReplicaSet still counts 8: the native controller,
/// let in now, would take 5 new pods where the budget of 2 allows 2.
#[test]
fn pods_that_were_just_scaled_away_are_counted_no_more_before_the_stable_version_comes_back() {
    let mut s = released(Stage::RollingBack, StepState::StepUpgrade, 5, 5);
    let view = view_of(&mut s);
    view.template = view.replica_sets[0].template.clone();
    view.template_hash.clone_from(&view.replica_sets[0].template_hash);
    view.fields.paused = true;
    let counted = ReplicaSetView { status_replicas: 8, available: 8, ..set("v1", 5, 5) };
    view.replica_sets[0] = counted;
    let made = plan_of(&s);
    assert_eq!(written(&made), None, "{made:#?}");
    view_of(&mut s).replica_sets[0] = set("v1", 5, 5);
    let made = plan_of(&s);
    let Some(Write::Deployment(patch)) = written(&made) else { panic!("{made:#?}") };
    assert_eq!(patch.paused, Some(false));
}

/// A release in its rest that is being let go.
fn let_go() -> Snapshot {
    let mut s = released(Stage::Stepping, StepState::StepPaused, 2, 8);
    view_of(&mut s).fields.max_surge = Some(IntOrString::Int(0));
    s.rollout.spec.disabled = true;
    s
}

fn noted(made: &Plan) -> Option<Option<&LetGo>> {
    made.actions.iter().find_map(|a| match a {
        Action::LetGo { left, .. } => Some(left.as_deref()),
        _ => None,
    })
}

/// The Gate remembers the user's surge of 2.
fn with_note(s: &mut Snapshot) {
    let left = LetGo {
        rollout: Some("web".into()),
        workload: Some("u".into()),
        max_surge: Some(IntOrString::Int(2)),
        max_unavailable: Some(IntOrString::Int(2)),
        surge: None,
    };
    let let_go = [("web".to_owned(), left)].into();
    s.gate = Some(GateView { spec: GateSpec { let_go, ..GateSpec::default() } });
}

#[test]
fn the_users_surge_is_noted_before_a_workload_is_let_go_without_it() {
    let made = plan_of(&let_go());
    let note = noted(&made).flatten().and_then(|left| left.max_surge.clone());
    assert_eq!(note, Some(IntOrString::Int(2)), "{made:#?}");
    let mut s = let_go();
    with_note(&mut s);
    assert_eq!(noted(&plan_of(&s)), None, "once is enough");
}

#[test]
fn a_workload_that_was_let_go_gets_its_surge_back_with_its_last_other_replica_set() {
    let mut s = let_go();
    with_note(&mut s);
    status(&mut s).release = None;
    assert_eq!(written(&plan_of(&s)), None, "two live");
    view_of(&mut s).replica_sets = vec![set("v1", 0, 0), set("v2", 10, 10)];
    view_of(&mut s).fields.paused = false;
    let made = plan_of(&s);
    let Some(Write::Deployment(patch)) = written(&made) else { panic!("{made:#?}") };
    assert_eq!((&patch.max_surge, patch.paused), (&Some(IntOrString::Int(2)), None));
    view_of(&mut s).fields.max_surge = Some(IntOrString::Int(2));
    let made = plan_of(&s);
    assert_eq!((noted(&made), written(&made)), (Some(None), None), "{made:#?}");
}

#[test]
fn a_release_that_takes_a_workload_up_again_knows_the_users_surge() {
    let mut s = let_go();
    with_note(&mut s);
    s.rollout.spec.disabled = false;
    status(&mut s).release = None;
    status(&mut s).canary_status = Some(crate::api::status::CanaryStatus {
        stable_revision: Some("v1".into()),
        ..Default::default()
    });
    let made = plan_of(&s);
    let originals = made.status.release.as_ref().map(|r| r.originals.max_surge.clone());
    assert_eq!(originals, Some(Some(IntOrString::Int(2))), "{made:#?}");
    assert_eq!(noted(&made), Some(None), "the release has it now");
}

#[test]
fn another_workload_of_the_same_name_gets_nobodys_surge() {
    let mut s = let_go();
    with_note(&mut s);
    status(&mut s).release = None;
    view_of(&mut s).uid = "another".into();
    view_of(&mut s).replica_sets = vec![set("v2", 10, 10)];
    let made = plan_of(&s);
    assert_eq!((noted(&made), written(&made)), (Some(None), None), "{made:#?}");
}

#[test]
fn a_workload_let_go_with_every_pod_new_is_not_left_paused() {
    let mut s = let_go();
    view_of(&mut s).replica_sets = vec![set("v1", 0, 0), set("v2", 10, 10)];
    let made = plan_of(&s);
    let Some(Write::Deployment(patch)) = written(&made) else { panic!("{made:#?}") };
    assert_eq!((patch.paused, &patch.max_surge), (Some(false), &Some(IntOrString::Int(2))));
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

#[test]
fn a_version_that_comes_on_the_way_back_is_on_the_way_back_while_a_pod_is_too_many() {
    for (old, back) in [(7, true), (6, false)] {
        let mut s = going_back(vec![set("v1", old, old), marked("v2", 4, 4)]);
        let view = view_of(&mut s);
        view.template = template("v3");
        view.template_hash = template_hash(&template("v3"));
        let made = plan_of(&s);
        assert!(events(&made).contains(&"NextVersion"), "{made:#?}");
        assert_eq!(made.status.release.unwrap().backward, back);
    }
}
