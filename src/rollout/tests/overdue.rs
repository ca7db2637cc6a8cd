//! A step that lasts longer than it may.

use jiff::SignedDuration;

use super::*;
use crate::api::Time;
use crate::api::rollout::OnInconclusive;

/// Step 1 with its two pods and a timeout of 10 minutes, which began now.
fn step(state: StepState, policy: OnInconclusive, fields: &Value) -> Snapshot {
    let mut s = released(Stage::Stepping, state, 2, 8);
    let mut first = json!({"replicas": "20%", "timeout": "10m"});
    for (name, value) in fields.as_object().unwrap() {
        first[name] = value.clone();
    }
    let steps = json!([first, {"replicas": "50%", "pause": {}}, {"replicas": "100%"}]);
    s.rollout.spec = rollout(&json!({"strategy": {"canary": {"steps": steps}}})).spec;
    s.rollout.spec.on_inconclusive = Some(policy);
    release(&mut s).step_since = Some(Time(NOW));
    // It rests.
    view_of(&mut s).fields.max_surge = Some(IntOrString::Int(0));
    s
}

fn at(s: &Snapshot, seconds: i64) -> Plan {
    let made = plan(s, NOW + SignedDuration::from_secs(seconds));
    assert_eq!(check(s, &made), [], "{made:#?}");
    made
}

fn cause(plan: &Plan) -> &str {
    plan.status.rejected.as_ref().map_or("", |rejected| &rejected.reason)
}

/// What a step may wait for, the state in which it does, and the words for it.
fn waits() -> [(StepState, Value, &'static str); 3] {
    let template = json!({"analysis": {"templates": [{"templateName": "nowhere"}]}});
    [
        (StepState::StepMetricsAnalysis, template, "nowhere"),
        (StepState::StepPaused, json!({"pause": {}}), "approval"),
        (StepState::StepPaused, json!({"pause": {"duration": "1h"}}), "the pause to end at"),
    ]
}

#[test]
fn whatever_a_step_waits_for_it_waits_no_longer_than_its_timeout() {
    for (state, fields, words) in waits() {
        let s = step(state, OnInconclusive::Rollback, &fields);
        let made = at(&s, 599);
        assert_eq!(made.status.release.as_ref().unwrap().stage, Stage::Stepping, "{words}");
        assert_eq!(made.wake, Some(NOW + SignedDuration::from_secs(600)), "{words}");
        let made = at(&s, 601);
        assert_eq!(made.status.release.as_ref().unwrap().stage, Stage::RollingBack, "{words}");
        let said = "step 1: its timeout of 10m is over, waiting for: ";
        assert!(cause(&made).starts_with(said) && cause(&made).contains(words), "{made:#?}");
    }
}

#[test]
fn a_route_that_is_not_accepted_is_waited_for_no_longer_than_the_timeout() {
    for policy in [OnInconclusive::Rollback, OnInconclusive::Continue] {
        let mut s = step(StepState::StepTrafficRouting, policy, &json!({"traffic": "20%"}));
        let mut spec = serde_json::to_value(&s.rollout.spec).unwrap();
        spec["strategy"]["canary"]["trafficRoutings"] =
            json!([{"service": "web", "gateway": {"httpRouteName": "web"}}]);
        s.rollout.spec = serde_json::from_value(spec).unwrap();
        let made = at(&s, 601);
        let stage = made.status.release.as_ref().unwrap().stage;
        // Nothing goes on without the traffic that the step promises.
        let expected = match policy {
            OnInconclusive::Rollback => Stage::RollingBack,
            _ => Stage::Stepping,
        };
        assert_eq!(stage, expected, "{made:#?}");
        assert_eq!(made.status.release.as_ref().unwrap().step, 0);
    }
}

#[test]
fn on_inconclusive_pause_waits_for_a_person_and_names_the_timeout() {
    for (state, fields, words) in waits() {
        let mut s = step(state, OnInconclusive::Pause, &fields);
        let made = at(&s, 601);
        let said = waiting(&made);
        assert!(said.starts_with("step 1: its timeout of 10m is over, waiting for: "), "{said}");
        assert!(said.contains(words) && said.ends_with("approve, retry or abort"), "{said}");
        assert!(events(&made).ends_with(&["AnalysisInconclusive"]), "{made:#?}");
        follow(&mut s, made);
        assert!(waiting(&at(&s, 700)).starts_with("step 1: its timeout of 10m is over"));

        let mut retried = s.clone();
        ask(&mut retried, RequestVerb::Retry);
        let made = at(&retried, 5_000);
        assert_eq!(made.status.release.as_ref().unwrap().held, None, "{made:#?}");
        follow(&mut retried, made);
        assert_eq!(at(&retried, 5_100).status.release.unwrap().held, None, "its time begins again");

        ask(&mut s, RequestVerb::Approve);
        let made = at(&s, 5_000);
        let release = made.status.release.as_ref().unwrap();
        assert_eq!((release.step, &release.held), (1, &None), "{made:#?}");
    }
}

#[test]
fn on_inconclusive_continue_goes_on_without_what_was_waited_for() {
    for (state, fields, words) in waits() {
        let s = step(state, OnInconclusive::Continue, &fields);
        assert_eq!(at(&s, 599).status.release.unwrap().step, 0, "{words}");
        let made = at(&s, 601);
        assert_eq!(made.status.release.as_ref().unwrap().step, 1, "{words}: {made:#?}");
        assert!(events(&made).contains(&"AnalysisInconclusive"), "{words}");
    }
}

#[test]
fn a_step_that_is_blind_when_a_person_approved_it_has_its_time_once_more() {
    let mut s = step(StepState::StepPaused, OnInconclusive::Rollback, &json!({"pause": {}}));
    let mut spec = serde_json::to_value(&s.rollout.spec).unwrap();
    spec["strategy"]["canary"]["analysis"] = json!({"templates": [{"templateName": "nowhere"}]});
    s.rollout.spec = serde_json::from_value(spec).unwrap();
    ask(&mut s, RequestVerb::Approve);
    let made = at(&s, 590);
    assert!(waiting(&made).contains("nowhere"), "{}", waiting(&made));
    follow(&mut s, made);
    assert_eq!(at(&s, 1_189).status.release.unwrap().stage, Stage::Stepping);
    assert_eq!(at(&s, 1_191).status.release.unwrap().stage, Stage::RollingBack);
}

#[test]
fn pods_that_never_get_ready_have_their_own_deadline() {
    let mut s = step(StepState::StepUpgrade, OnInconclusive::Rollback, &json!({"timeout": "10s"}));
    view_of(&mut s).replica_sets = vec![set("v1", 8, 8), set("v2", 2, 0)];
    release(&mut s).since = Some(Time(NOW));
    let made = at(&s, 300);
    assert_eq!(made.status.release.as_ref().unwrap().stage, Stage::Stepping, "{made:#?}");
    let made = at(&s, 601);
    assert!(cause(&made).starts_with("step 1: 0 new pods are ready after 600s"), "{made:#?}");
}

#[test]
fn what_a_person_paused_is_none_of_the_steps_time() {
    let mut s = step(StepState::StepPaused, OnInconclusive::Rollback, &json!({"pause": {}}));
    s.rollout.spec.strategy.paused = true;
    let made = at(&s, 5_000);
    assert!(waiting(&made).starts_with("the Rollout is paused"), "{}", waiting(&made));
    follow(&mut s, made);
    s.rollout.spec.strategy.paused = false;
    let made = at(&s, 6_000);
    assert_eq!(made.status.release.as_ref().unwrap().stage, Stage::Stepping, "{made:#?}");
    follow(&mut s, made);
    assert_eq!(at(&s, 6_599).status.release.unwrap().stage, Stage::Stepping);
    assert_eq!(at(&s, 6_601).status.release.unwrap().stage, Stage::RollingBack);
}

#[test]
fn a_hook_that_is_still_at_it_is_waited_for_no_longer_than_the_timeout() {
    for (policy, stage, step_) in [
        (OnInconclusive::Rollback, Stage::RollingBack, 0),
        (OnInconclusive::Continue, Stage::Stepping, 1),
    ] {
        let hook = json!({"name": "gate", "at": "AfterStep", "url": "https://gate.example",
            "deadline": "24h"});
        let mut s = step(StepState::StepReady, policy, &json!({"hooks": [hook]}));
        let made = at(&s, 1);
        assert_eq!(made.calls.len(), 1, "{made:#?}");
        follow(&mut s, made);
        let entry = &mut status(&mut s).hooks[0];
        entry.state = crate::api::status::HookState::Processing;
        entry.next_at = Some(Time(NOW + SignedDuration::from_secs(3_600)));
        assert_eq!(at(&s, 599).status.release.unwrap().step, 0);
        let made = at(&s, 601);
        let release = made.status.release.as_ref().unwrap();
        assert_eq!((release.stage, release.step), (stage, step_), "{made:#?}");
    }
}
