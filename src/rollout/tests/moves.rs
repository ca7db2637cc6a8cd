//! Pods of a step: lost, too many, too few, late.

use super::*;
use crate::api::status::CanaryStatus;
use crate::workload::NEVER_READY_SECONDS;

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

/// The last step under the knob, surged: every new pod is ready, two old ones are left.
fn last_step(canary: Value) -> Snapshot {
    let mut s = released(Stage::Stepping, StepState::StepUpgrade, 10, 2);
    release(&mut s).step = 2;
    s.rollout.spec = rollout(&json!({"strategy": {"canary": canary}})).spec;
    let view = view_of(&mut s);
    view.fields.paused = false;
    view.fields.min_ready_seconds = Some(NEVER_READY_SECONDS);
    s
}

/// The `minReadySeconds` that the plan leaves the Deployment with.
fn min_ready_after(s: &Snapshot) -> Option<i32> {
    let made = plan_of(s);
    let Some(Write::Deployment(patch)) = written(&made) else { panic!("{made:#?}") };
    assert_eq!(made.status.release.as_ref().map(|r| r.stage), Some(Stage::Stepping));
    patch.min_ready_seconds.unwrap_or(view_of(&mut s.clone()).fields.min_ready_seconds)
}

#[test]
fn the_user_gets_his_fields_back_with_the_last_old_pods_where_nothing_comes_after_them() {
    let last = |last: Value| json!([{"replicas": 2}, {"replicas": 5}, last]);
    let all = json!({"replicas": "100%"});
    for pause in [json!({}), json!({"pause": {"duration": 0}})] {
        let mut step = all.clone();
        step.as_object_mut().unwrap().extend(pause.as_object().unwrap().clone());
        let mut s = last_step(json!({"steps": last(step)}));
        assert_eq!(min_ready_after(&s), user().min_ready_seconds);
        // And once they are gone the release is over in one status.
        let view = view_of(&mut s);
        view.fields.min_ready_seconds = user().min_ready_seconds;
        view.replica_sets = vec![set("v1", 0, 0), set("v2", 10, 10)];
        let made = plan_of(&s);
        assert_eq!(events(&made), ["StepPodsReady", "StepCompleted", "Promoted"]);
        assert_eq!(made.actions.iter().filter(|a| **a == Action::Status).count(), 1);
    }
    let mut waits = vec![
        json!({"steps": last(json!({"replicas": "100%", "pause": {}}))}),
        json!({"steps": last(json!({"replicas": "100%", "pause": {"duration": 60}}))}),
        json!({"steps": last(json!({"replicas": 10}))}),
        json!({"steps": last(json!({"replicas": "100%",
            "analysis": {"templates": [{"templateName": "t"}]}}))}),
    ];
    let hook = json!([{"name": "h", "at": "BeforePromotion", "url": "http://h.test"}]);
    waits.push(json!({"steps": last(all), "hooks": hook}));
    for canary in waits {
        let s = last_step(canary.clone());
        assert_eq!(min_ready_after(&s), Some(NEVER_READY_SECONDS), "{canary}");
    }
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

/// One pod is too many on the way back: the step that is jumped to takes it, whichever it is.
#[test]
fn a_jump_forward_on_the_way_back_is_still_on_the_way_back() {
    let mut s = released(Stage::Stepping, StepState::StepUpgrade, 7, 4);
    release(&mut s).backward = true;
    let asked = CanaryStatus { next_step_index: Some(3), ..CanaryStatus::default() };
    status(&mut s).canary_status = Some(asked);
    let made = plan_of(&s);
    assert!(events(&made).contains(&"Jumped"), "{made:#?}");
    assert!(made.status.release.unwrap().backward);
}

#[test]
fn a_step_that_is_jumped_to_on_the_way_back_gets_no_more_pods_than_it_wants() {
    let mut s = released(Stage::Stepping, StepState::StepUpgrade, 7, 3);
    s.rollout.spec = rollout(&json!({"strategy": {"canary": {"steps": [
        {"replicas": "20%"}, {"replicas": "40%"}, {"replicas": "50%"}, {"replicas": "100%"}]}}}))
    .spec;
    release(&mut s).backward = true;
    let asked = CanaryStatus { next_step_index: Some(3), ..CanaryStatus::default() };
    status(&mut s).canary_status = Some(asked);
    let made = plan_of(&s);
    assert!(waiting(&made).contains("move to 5 new"), "{made:#?}");
}

fn seconds(n: i64) -> Timestamp {
    NOW + jiff::SignedDuration::from_secs(n)
}

/// Two of ten pods were added under the knob an hour ago; `ready` of them are ready.
fn added_long_ago(stage: Stage, ready: i32) -> Snapshot {
    let mut s = released(stage, StepState::StepUpgrade, 2, 10);
    let view = view_of(&mut s);
    view.replica_sets = vec![set("v1", 10, 10), set("v2", 2, ready)];
    view.fields.paused = false;
    view.fields.min_ready_seconds = Some(NEVER_READY_SECONDS);
    view.fields.max_unavailable = Some(IntOrString::Int(0));
    release(&mut s).since = Some(crate::api::Time(seconds(-3600)));
    s
}

#[test]
fn pods_that_are_asked_for_late_have_their_time_from_then() {
    for stage in [Stage::Stepping, Stage::Finalising] {
        let made = plan_of(&added_long_ago(stage, 2));
        let release = made.status.release.as_ref().unwrap();
        assert_eq!(release.stage, stage, "both are ready: {made:#?}");
        assert_eq!(release.since, Some(crate::api::Time(NOW)));
        assert!(matches!(written(&made), Some(Write::Deployment(_))), "{made:#?}");
        let made = plan_of(&added_long_ago(stage, 1));
        assert!(events(&made).contains(&"RollingBack"), "one never got ready: {made:#?}");
    }
}

#[test]
fn time_in_which_nothing_may_move_is_no_time_in_which_pods_are_late() {
    let pause = |s: &mut Snapshot, on| s.rollout.spec.strategy.paused = on;
    let hold = |s: &mut Snapshot, on: bool| {
        if on {
            release(s).held = Some("background: no data".into());
        } else {
            ask(s, RequestVerb::Approve);
        }
    };
    let spoil = |s: &mut Snapshot, on: bool| {
        let replicas = if on { "0%" } else { "20%" };
        let steps = json!([{"replicas": replicas}, {"replicas": "100%"}]);
        s.rollout.spec.strategy.canary = serde_json::from_value(json!({"steps": steps})).unwrap();
    };
    type Stop<'a> = &'a dyn Fn(&mut Snapshot, bool);
    for stage in [Stage::Stepping, Stage::Finalising] {
        for stop in [&pause as Stop<'_>, &hold, &spoil] {
            let mut s = added_long_ago(stage, 0);
            release(&mut s).since = Some(crate::api::Time(NOW));
            stop(&mut s, true);
            let made = plan(&s, seconds(60));
            follow(&mut s, made);
            let made = plan(&s, seconds(5_000));
            assert!(!events(&made).contains(&"RollingBack"), "{made:#?}");
            assert!(made.urgency != Urgency::Now, "it only stands: {made:#?}");
            follow(&mut s, made);
            stop(&mut s, false);
            let made = plan(&s, seconds(5_001));
            assert!(!events(&made).contains(&"RollingBack"), "{made:#?}");
            follow(&mut s, made);
            let made = plan(&s, seconds(5_600));
            assert!(!events(&made).contains(&"RollingBack"), "{made:#?}");
            let made = plan(&s, seconds(5_601));
            assert!(events(&made).contains(&"RollingBack"), "they have had it: {made:#?}");
        }
    }
}
