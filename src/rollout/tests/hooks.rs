//! Hooks: when they are asked, what their answers do, and that no decision is sent twice by itself.

use jiff::SignedDuration;

use super::*;
use crate::api::Time;
use crate::api::rollout::OnInconclusive;
use crate::api::status::{HookState, HookStatus};
use crate::rollout::{HookAnswer, HookCall, HookCalled, HookSeen};

fn with_hooks(mut s: Snapshot, hooks: &Value) -> Snapshot {
    let canary = s.rollout.spec.strategy.canary.as_mut().unwrap();
    canary.hooks = serde_json::from_value(hooks.clone()).unwrap();
    s
}

fn hook(name: &str, at: &str, more: Value) -> Value {
    let mut hook = json!({"name": name, "at": at, "url": "http://gate"});
    for (key, value) in more.as_object().unwrap() {
        hook[key] = value.clone();
    }
    hook
}

fn stepping(state: StepState, step: i32, new: i32, old: i32) -> Snapshot {
    let mut s = released(Stage::Stepping, state, new, old);
    release(&mut s).step = step;
    release(&mut s).since = Some(Time(NOW));
    s
}

fn after(s: &Snapshot, seconds: i64) -> Plan {
    let made = plan(s, NOW + SignedDuration::from_secs(seconds));
    assert_eq!(check(s, &made), [], "{made:#?}");
    made
}

/// The plan was carried out: its calls are under way.
fn carry_out(s: &mut Snapshot, made: Plan) {
    for call in &made.calls {
        let seen = HookSeen { number: call.number, state: HookCalled::UnderWay };
        s.hooks.insert(call.id.clone(), seen);
    }
    follow(s, made);
}

fn answer(s: &mut Snapshot, call: &HookCall, answer: HookAnswer) {
    let seen = HookSeen { number: call.number, state: HookCalled::Answered(answer) };
    s.hooks.insert(call.id.clone(), seen);
}

fn ok() -> HookAnswer {
    HookAnswer::Ok { message: String::new() }
}

fn error() -> HookAnswer {
    HookAnswer::Error { message: "no quota".into() }
}

fn processing() -> HookAnswer {
    HookAnswer::Processing { message: "half way".into(), again: None }
}

fn one(made: &Plan) -> HookCall {
    let [call] = made.calls.as_slice() else { panic!("{:?}", made.calls) };
    call.clone()
}

fn entry(made: &Plan) -> HookStatus {
    let [entry] = made.status.hooks.as_slice() else { panic!("{:?}", made.status.hooks) };
    entry.clone()
}

/// Asked before the first step, with this answer taken in.
fn asked(more: Value, given: HookAnswer) -> (Snapshot, Plan) {
    let mut s = with_hooks(held(), &json!([hook("smoke", "BeforeStep", more)]));
    let made = plan_of(&s);
    let call = one(&made);
    carry_out(&mut s, made);
    answer(&mut s, &call, given);
    let made = plan_of(&s);
    (s, made)
}

fn moves(plan: &Plan) -> bool {
    plan.actions.iter().any(|a| match a {
        Action::Workload { write: Write::Deployment(patch), .. } => patch.paused == Some(false),
        Action::Workload { .. } => true,
        _ => false,
    })
}

#[test]
fn a_call_is_in_the_status_before_it_is_made_and_nothing_moves_meanwhile() {
    let s = with_hooks(held(), &json!([hook("smoke", "BeforeRollout", json!({}))]));
    let made = plan_of(&s);
    let (call, entry) = (one(&made), entry(&made));
    assert_eq!((entry.state, entry.calls, call.number), (HookState::Calling, 1, 1));
    assert_eq!(entry.id, call.id);
    assert_eq!(made.urgency, Urgency::Now, "the status is written first");
    assert!(!moves(&made), "{made:#?}");
    assert_eq!(waiting(&made), "the hook smoke (BeforeRollout), to answer");
}

#[test]
fn the_body_says_what_the_decision_is_about_and_flaggers_fields_too() {
    let more = json!({"metadata": {"suite": "fast"}});
    let mut s = with_hooks(
        stepping(StepState::StepReady, 0, 2, 8),
        &json!([hook("smoke", "AfterStep", more)]),
    );
    status(&mut s).verdicts = serde_json::from_value(json!([
        {"run": "web-r1-s1-1", "scope": "1", "phase": "Successful", "message": "errors 0.1%"},
    ]))
    .unwrap();
    let body = one(&plan_of(&s)).body;
    for (pointer, expected) in [
        ("/name", json!("web")),
        ("/namespace", json!("default")),
        ("/phase", json!("Progressing")),
        ("/checksum", json!(template_hash(&template("v2")))),
        ("/metadata/suite", json!("fast")),
        ("/hook", json!("smoke")),
        ("/at", json!("AfterStep")),
        ("/call", json!(1)),
        ("/release", json!("r1")),
        ("/step/index", json!(1)),
        ("/step/of", json!(3)),
        ("/step/pods", json!(2)),
        ("/batch/pods", json!(2)),
        ("/batch/replicas", json!(10)),
        ("/revision/stable", json!("v1")),
        ("/revision/canary", json!("v2")),
        ("/verdicts/0/phase", json!("Successful")),
        ("/workload/kind", json!("Deployment")),
    ] {
        assert_eq!(body.pointer(pointer), Some(&expected), "{pointer}: {body:#}");
    }
}

#[test]
fn each_moment_asks_its_own_hooks_in_order_and_once() {
    let all = json!([
        hook("a", "AfterStep", json!({})),
        hook("b", "BeforeStep", json!({})),
        hook("c", "BeforeRollout", json!({})),
        hook("d", "BeforePromotion", json!({})),
        hook("e", "BeforeStep", json!({})),
    ]);
    for (state, step, new, old, expected) in [
        (StepState::BeforeStepUpgrade, 0, 0, 10, vec!["c", "b", "e"]),
        (StepState::BeforeStepUpgrade, 1, 2, 8, vec!["b", "e"]),
        (StepState::StepPaused, 0, 2, 8, vec![]),
        (StepState::StepReady, 0, 2, 8, vec!["a", "b", "e"]),
        (StepState::Completed, 2, 10, 0, vec!["d"]),
    ] {
        let mut s = with_hooks(stepping(state, step, new, old), &all);
        let mut names = Vec::new();
        for _ in 0..5 {
            let made = plan_of(&s);
            let calls = made.calls.clone();
            names.extend(calls.iter().map(|c| c.name.clone()));
            carry_out(&mut s, made);
            for call in &calls {
                answer(&mut s, call, ok());
            }
        }
        assert_eq!(names, expected, "{state:?} {step}");
    }
}

#[test]
fn ok_lets_the_release_go_on() {
    let (_, made) = asked(json!({}), ok());
    assert_eq!(entry(&made).state, HookState::Ok);
    assert!(events(&made).contains(&"HookPassed"));
    assert!(moves(&made), "{made:#?}");
    assert_eq!(made.status.release.unwrap().hook, None);
}

#[test]
fn processing_is_asked_again_with_the_same_identity_until_its_deadline() {
    let (mut s, made) = asked(json!({"deadline": "25s"}), processing());
    assert_eq!(entry(&made).state, HookState::Processing);
    assert!(waiting(&made).ends_with("which is still at it: half way"), "{}", waiting(&made));
    assert_eq!(made.wake, Some(NOW + SignedDuration::from_secs(10)));
    assert!(made.calls.is_empty() && !moves(&made));
    let id = entry(&made).id;
    carry_out(&mut s, made);
    assert!(after(&s, 9).calls.is_empty());
    for seconds in [10, 20] {
        let made = after(&s, seconds);
        let call = one(&made);
        assert_eq!((call.id.clone(), call.number), (id.clone(), entry(&made).calls));
        carry_out(&mut s, made);
        answer(&mut s, &call, processing());
        let made = after(&s, seconds);
        carry_out(&mut s, made);
    }
    let made = after(&s, 30);
    assert!(made.calls.is_empty(), "{made:#?}");
    assert_eq!(entry(&made).state, HookState::Error);
    assert_eq!(made.status.release.as_ref().map(|r| r.stage), Some(Stage::RollingBack));
    let why = made.status.release.unwrap().cause.unwrap();
    assert!(why.contains("no OK within 25s: half way"), "{why}");
}

#[test]
fn a_hook_that_wants_to_be_asked_after_its_deadline_is_over_at_its_deadline() {
    let later = HookAnswer::Processing {
        message: "full".into(),
        again: Some(SignedDuration::from_mins(60)),
    };
    let (mut s, made) = asked(json!({"deadline": "25s"}), later);
    assert_eq!(made.wake, Some(NOW + SignedDuration::from_secs(25)));
    carry_out(&mut s, made);
    assert_eq!(entry(&after(&s, 24)).state, HookState::Processing);
    assert_eq!(entry(&after(&s, 25)).state, HookState::Error);
}

#[test]
fn an_error_is_what_on_failure_says() {
    let (_, made) = asked(json!({}), error());
    let release = made.status.release.as_ref().unwrap();
    assert_eq!(release.stage, Stage::RollingBack);
    assert_eq!(release.cause.as_deref(), Some("step 1: the hook smoke (BeforeStep): no quota"));
    assert!(events(&made).contains(&"HookFailed"));
}

#[test]
fn under_on_failure_pause_a_person_goes_on_without_the_hook_or_tries_again() {
    let failed = || {
        let mut s = with_hooks(held(), &json!([hook("smoke", "BeforeStep", json!({}))]));
        s.rollout.spec.on_failure = Some(crate::api::rollout::OnFailure::Pause);
        let made = plan_of(&s);
        let call = one(&made);
        carry_out(&mut s, made);
        answer(&mut s, &call, error());
        let made = plan_of(&s);
        assert!(waiting(&made).contains("no quota: kubectl sluice approve"), "{}", waiting(&made));
        carry_out(&mut s, made);
        (s, call)
    };
    let (mut s, _) = failed();
    ask(&mut s, RequestVerb::Approve);
    let made = plan_of(&s);
    assert_eq!(entry(&made).state, HookState::Overruled);
    assert!(moves(&made) && made.calls.is_empty(), "the step begins: {made:#?}");
    let (mut s, first) = failed();
    ask(&mut s, RequestVerb::Retry);
    let made = plan_of(&s);
    assert_ne!(one(&made).id, first.id, "a new decision");
}

#[test]
fn a_person_need_not_wait_for_a_slow_hook() {
    for given in [None, Some(processing())] {
        let mut s = with_hooks(held(), &json!([hook("smoke", "BeforeStep", json!({}))]));
        let made = plan_of(&s);
        let call = one(&made);
        carry_out(&mut s, made);
        if let Some(given) = given {
            answer(&mut s, &call, given);
        }
        ask(&mut s, RequestVerb::Approve);
        let made = plan_of(&s);
        assert!(moves(&made), "{made:#?}");
        assert_eq!(entry(&made).state, HookState::Overruled);
    }
}

#[test]
fn retries_call_again_after_a_pause_and_then_the_policy_counts() {
    let (mut s, made) = asked(json!({"retries": 1}), error());
    assert_eq!(entry(&made).state, HookState::Retrying);
    assert!(waiting(&made).ends_with("to be asked again: no quota"), "{}", waiting(&made));
    let id = entry(&made).id;
    carry_out(&mut s, made);
    let made = after(&s, 1);
    let call = one(&made);
    assert_eq!((&call.id, call.number), (&id, 2));
    carry_out(&mut s, made);
    answer(&mut s, &call, error());
    let made = after(&s, 1);
    assert_eq!(entry(&made).state, HookState::Error);
    assert_eq!(made.status.release.map(|r| r.stage), Some(Stage::RollingBack));
}

#[test]
fn an_ignored_hook_is_reported_and_passed_over() {
    let (_, made) = asked(json!({"failurePolicy": "Ignore"}), error());
    assert_eq!(entry(&made).state, HookState::Ignored);
    assert!(events(&made).contains(&"HookIgnored"));
    assert!(moves(&made), "{made:#?}");
}

/// A process that died with a call under way: the next one knows nothing of it.
fn lost(more: Value) -> Snapshot {
    let mut s = with_hooks(held(), &json!([hook("smoke", "BeforeStep", more)]));
    let made = plan_of(&s);
    follow(&mut s, made);
    s
}

#[test]
fn a_call_whose_answer_was_lost_is_not_made_twice_and_the_release_holds() {
    let s = lost(json!({}));
    let made = plan_of(&s);
    assert_eq!(made.calls, []);
    assert_eq!(entry(&made).state, HookState::Unknown);
    assert!(events(&made).contains(&"HookUnknown"));
    assert!(!moves(&made), "{made:#?}");
    let expected = "step 1: the hook smoke (BeforeStep): the controller stopped before the answer \
                    came: kubectl sluice approve, retry or abort";
    assert_eq!(waiting(&made), expected);
    assert_eq!(made.status.release.map(|r| r.stage), Some(Stage::Stepping));
}

#[test]
fn a_lost_answer_is_passed_over_or_goes_back_where_the_user_said_so() {
    let mut s = lost(json!({}));
    s.rollout.spec.on_inconclusive = Some(OnInconclusive::Continue);
    let made = plan_of(&s);
    assert!(moves(&made) && made.calls.is_empty(), "{made:#?}");
    assert_eq!(entry(&made).state, HookState::Ignored);
    let mut s = lost(json!({}));
    s.rollout.spec.on_inconclusive = Some(OnInconclusive::Rollback);
    assert_eq!(plan_of(&s).status.release.map(|r| r.stage), Some(Stage::RollingBack));
    let made = plan_of(&lost(json!({"failurePolicy": "Ignore"})));
    assert!(moves(&made) && made.calls.is_empty(), "{made:#?}");
}

#[test]
fn what_may_be_called_twice_is_called_again_after_a_crash() {
    let mut s = lost(json!({"retries": 1}));
    let made = plan_of(&s);
    assert_eq!(entry(&made).state, HookState::Retrying);
    follow(&mut s, made);
    assert_eq!(one(&after(&s, 1)).number, 2);
    // One that answered Processing has asked for it.
    let mut s = lost(json!({}));
    status(&mut s).hooks[0].processing = true;
    let made = plan_of(&s);
    assert_eq!(made.wake, Some(NOW));
    follow(&mut s, made);
    assert_eq!(one(&plan_of(&s)).number, 2);
}

#[test]
fn a_call_that_was_surely_not_made_is_made() {
    let mut s = lost(json!({}));
    let id = status(&mut s).hooks[0].id.clone();
    s.hooks.insert(id.clone(), HookSeen { number: 1, state: HookCalled::Unsent });
    let made = plan_of(&s);
    assert_eq!((one(&made).id, one(&made).number), (id, 1));
}

#[test]
fn a_rollback_is_told_and_never_waits() {
    let mut s = with_hooks(
        stepping(StepState::StepPaused, 0, 2, 8),
        &json!([hook("tell", "OnRollback", json!({}))]),
    );
    ask(&mut s, RequestVerb::Abort);
    let made = plan_of(&s);
    assert_eq!(one(&made).body["reason"], json!("aborted by ann"));
    place(&made, |a| matches!(a, Action::Workload { .. }));
    carry_out(&mut s, made);
    // Nor does a slow hook that was asked before hold it.
    let mut s = with_hooks(held(), &json!([hook("smoke", "BeforeStep", json!({}))]));
    let made = plan_of(&s);
    carry_out(&mut s, made);
    ask(&mut s, RequestVerb::Abort);
    let made = plan_of(&s);
    assert_eq!(made.status.release.as_ref().map(|r| r.stage), Some(Stage::RollingBack));
    assert_eq!(made.status.release.unwrap().hook, None);
}

#[test]
fn what_the_release_left_behind_is_asked_no_more() {
    let (mut s, made) = asked(json!({}), processing());
    carry_out(&mut s, made);
    ask(&mut s, RequestVerb::Abort);
    let made = plan_of(&s);
    carry_out(&mut s, made);
    let made = after(&s, 60);
    assert_eq!((made.calls, made.status.hooks), (vec![], vec![]));
}

#[test]
fn the_end_is_told_with_its_decision_and_tried_again_after_the_release_is_over() {
    let mut s = with_hooks(
        released(Stage::RollingBack, StepState::StepPaused, 0, 10),
        &json!([hook("tell", "AfterRollout", json!({"retries": 1}))]),
    );
    let view = s.workload.as_mut().unwrap();
    *view = workload("v1", vec![set("v1", 10, 10)]);
    release(&mut s).cause = Some("errors".into());
    let made = plan_of(&s);
    let call = one(&made);
    assert_eq!(made.status.release, None);
    let said = (&call.body["decision"], &call.body["reason"], &call.body["phase"]);
    assert_eq!(said, (&json!("RolledBack"), &json!("errors"), &json!("Failed")));
    carry_out(&mut s, made);
    answer(&mut s, &call, error());
    let made = plan_of(&s);
    carry_out(&mut s, made);
    let made = after(&s, 1);
    let call = one(&made);
    carry_out(&mut s, made);
    answer(&mut s, &call, error());
    let made = after(&s, 1);
    assert_eq!(entry(&made).state, HookState::Ignored, "there is nothing left to hold");
}

#[test]
fn every_event_is_told_once_and_kept_nowhere() {
    let s = with_hooks(held(), &json!([hook("log", "Event", json!({}))]));
    let made = plan_of(&s);
    let told: Vec<_> = made.calls.iter().map(|c| c.body["event"]["reason"].clone()).collect();
    assert_eq!(told, events(&made));
    assert!(!told.is_empty());
    assert_eq!(made.status.hooks, []);
    let body = &made.calls[0].body;
    assert_eq!(body["metadata"]["eventType"], json!("Normal"));
    assert_eq!(body["metadata"]["eventMessage"], body["event"]["note"]);
}

#[test]
fn a_step_has_hooks_of_its_own_as_they_were_when_it_began() {
    let mut s = stepping(StepState::StepReady, 0, 2, 8);
    let canary = s.rollout.spec.strategy.canary.as_mut().unwrap();
    let hooks = json!([hook("own", "AfterStep", json!({}))]);
    canary.steps[0].hooks = serde_json::from_value(hooks).unwrap();
    let frozen = canary.steps[0].clone();
    release(&mut s).frozen_step = Some(frozen);
    s.rollout.spec.strategy.canary.as_mut().unwrap().steps[0].hooks.clear();
    let made = plan_of(&s);
    let call = one(&made);
    assert_eq!(call.name, "own");
    carry_out(&mut s, made);
    answer(&mut s, &call, ok());
    assert_eq!(plan_of(&s).status.release.map(|r| r.step), Some(1));
}

#[test]
fn the_status_keeps_the_newest_decisions_only() {
    let mut s = with_hooks(
        stepping(StepState::StepPaused, 1, 5, 5),
        &json!([hook("smoke", "BeforeStep", json!({}))]),
    );
    let old = |i: i32| HookStatus {
        name: "smoke".into(),
        id: format!("{i}"),
        release: "r1".into(),
        attempt: 0,
        step: Some(1),
        state: HookState::Ok,
        ..HookStatus::default()
    };
    status(&mut s).hooks = (0..40).map(old).collect();
    let made = plan_of(&s);
    let ids: Vec<_> = made.status.hooks.iter().map(|e| e.id.as_str()).collect();
    assert_eq!((ids.len(), ids.first(), ids.last()), (16, Some(&"24"), Some(&"39")));
}
