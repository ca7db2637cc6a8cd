//! Release windows and freezes: what they hold, what they never hold, and who goes on all the same.

use jiff::SignedDuration;

use super::*;
use crate::api::Time;
use crate::api::status::WindowHold;

/// `NOW` is a Thursday, midnight in UTC.
fn office() -> Value {
    json!([{"cron": "0 9 * * 1-5", "timeZone": "Europe/Berlin", "duration": "8h"}])
}

fn outside(mut s: Snapshot) -> Snapshot {
    s.rollout.spec.windows = serde_json::from_value(office()).unwrap();
    s
}

fn frozen(mut s: Snapshot) -> Snapshot {
    let freeze = json!([{"cron": "0 12 31 12 *", "duration": "48h"}]);
    s.rollout.spec.freezes = serde_json::from_value(freeze).unwrap();
    s
}

fn stepping(state: StepState, step: i32, new: i32, old: i32) -> Snapshot {
    let mut s = released(Stage::Stepping, state, new, old);
    release(&mut s).step = step;
    release(&mut s).since = Some(Time(NOW));
    s
}

fn writes(plan: &Plan) -> bool {
    plan.actions.iter().any(|a| matches!(a, Action::Workload { .. }))
}

/// Pods may move by what is written.
fn moves(plan: &Plan) -> bool {
    plan.actions.iter().any(|a| match a {
        Action::Workload { write: Write::Deployment(patch), .. } => patch.paused == Some(false),
        Action::Workload { .. } => true,
        _ => false,
    })
}

fn window(plan: &Plan) -> Option<WindowHold> {
    plan.status.release.as_ref().and_then(|r| r.window)
}

#[test]
fn a_new_version_outside_every_window_is_held_and_it_says_until_when() {
    let s = outside(held());
    let made = plan_of(&s);
    assert!(!moves(&made), "{made:#?}");
    assert_eq!(
        waiting(&made),
        "the release window, which opens Thu 09:00 Europe/Berlin (kubectl sluice approve goes on \
         at once)"
    );
    assert_eq!(made.wake, Some("2026-01-01T08:00:00Z".parse().unwrap()));
    assert_eq!(window(&made), Some(WindowHold::Closed));
    assert!(events(&made).contains(&"OutsideWindow"));
    assert_eq!(made.urgency, Urgency::Now);
}

#[test]
fn a_freeze_holds_inside_a_window_too() {
    let s = frozen(held());
    let made = plan_of(&s);
    assert!(!moves(&made), "{made:#?}");
    assert!(waiting(&made).starts_with("the freeze to end Fri 12:00 UTC"), "{}", waiting(&made));
}

#[test]
fn a_new_version_that_runs_already_is_paused_while_it_waits() {
    let mut s = outside(snapshot(Some(workload("v2", vec![set("v1", 8, 8), set("v2", 2, 0)]))));
    s.proof = Proof::NotHeld { reason: "no policy".into(), tried: None };
    status(&mut s).canary_status = Some(crate::api::status::CanaryStatus {
        stable_revision: Some("v1".into()),
        ..Default::default()
    });
    let made = plan_of(&s);
    let pauses = |a: &Action| match a {
        Action::Workload { write: Write::Deployment(patch), .. } => patch.paused == Some(true),
        _ => false,
    };
    place(&made, pauses);
}

#[test]
fn it_says_so_once_and_goes_on_when_the_window_opens_with_the_steps_time_from_then() {
    let mut s = outside(held());
    let made = plan_of(&s);
    follow(&mut s, made);
    let again = plan_of(&s);
    assert!(!events(&again).contains(&"OutsideWindow"), "{again:#?}");
    let opens: Timestamp = "2026-01-01T08:00:00Z".parse().unwrap();
    let made = plan(&s, opens);
    assert_eq!(check(&s, &made), []);
    assert!(moves(&made), "{made:#?}");
    let release = made.status.release.unwrap();
    assert_eq!((release.window, release.step_since), (None, Some(Time(opens))));
}

#[test]
fn only_the_beginning_of_a_step_and_of_the_end_is_held() {
    for (state, step, new, old, held) in [
        (StepState::BeforeStepUpgrade, 0, 0, 10, true),
        (StepState::StepUpgrade, 0, 0, 10, false),
        (StepState::StepPaused, 0, 2, 8, false),
        (StepState::StepReady, 0, 2, 8, true),
        (StepState::BeforeStepUpgrade, 1, 2, 8, false),
        (StepState::StepUpgrade, 1, 2, 8, false),
        (StepState::StepReady, 1, 5, 5, true),
        // Every pod is new: nothing is left to be held.
        (StepState::StepReady, 2, 10, 0, false),
        (StepState::Completed, 2, 10, 0, false),
    ] {
        for s in [outside(stepping(state, step, new, old)), frozen(stepping(state, step, new, old))]
        {
            let made = plan_of(&s);
            let said = window(&made) == Some(WindowHold::Closed);
            assert_eq!(said, held, "{state:?} {step}: {made:#?}");
            assert!(!(held && made.status.release.as_ref().unwrap().state != state));
        }
    }
}

#[test]
fn a_last_step_that_leaves_pods_waits_with_the_rest() {
    let mut s = outside(stepping(StepState::StepReady, 0, 5, 5));
    let steps = json!([{"replicas": "50%", "pause": {"duration": 1}}]);
    s.rollout.spec.strategy.canary.as_mut().unwrap().steps = serde_json::from_value(steps).unwrap();
    assert_eq!(window(&plan_of(&s)), Some(WindowHold::Closed));
}

#[test]
fn what_goes_back_is_let_go_or_scaled_is_never_held() {
    let waits = || {
        let mut s = outside(frozen(stepping(StepState::StepReady, 0, 2, 8)));
        release(&mut s).window = Some(WindowHold::Closed);
        s
    };
    let stage = |made: &Plan| made.status.release.as_ref().map(|r| r.stage);
    let mut aborted = waits();
    ask(&mut aborted, RequestVerb::Abort);
    let made = plan_of(&aborted);
    assert_eq!(stage(&made), Some(Stage::RollingBack));
    assert!(writes(&made), "{made:#?}");

    let mut undone = waits();
    undone.workload.as_mut().unwrap().template = template("v1");
    undone.workload.as_mut().unwrap().template_hash = template_hash(&template("v1"));
    let made = plan_of(&undone);
    assert_eq!(stage(&made), Some(Stage::RollingBack));
    assert!(writes(&made), "{made:#?}");

    let mut deleted = waits();
    deleted.rollout.metadata.deletion_timestamp = Some(Time(NOW));
    assert_eq!(plan_of(&deleted).status.phase, Some(Phase::Terminating));

    let mut disabled = waits();
    disabled.rollout.spec.disabled = true;
    assert_eq!(plan_of(&disabled).status.phase, Some(Phase::Disabling));

    let mut none = waits();
    none.workload.as_mut().unwrap().replicas = 0;
    assert_eq!(stage(&plan_of(&none)), Some(Stage::Suspended));

    // Scaled from 10 to 20 by somebody who gave all new pods to the stable version.
    let mut scaled = waits();
    let view = scaled.workload.as_mut().unwrap();
    view.replicas = 20;
    view.replica_sets = vec![set("v1", 18, 18), set("v2", 2, 2)];
    let made = plan_of(&scaled);
    assert!(writes(&made), "the step's share is kept: {made:#?}");
}

#[test]
fn a_failed_watch_in_the_background_goes_back_in_a_freeze() {
    let mut s = frozen(stepping(StepState::StepReady, 0, 2, 8));
    let canary = s.rollout.spec.strategy.canary.as_mut().unwrap();
    canary.analysis =
        serde_json::from_value(json!({"templates": [{"templateName": "t"}]})).unwrap();
    let spec = json!({"metrics": [{"name": "errors", "interval": "30s",
        "successCondition": "result[0] < 1", "provider": {"prometheus": {"query": "sum(x)"}}}]});
    s.templates.insert((false, "t".into()), serde_json::from_value(spec).unwrap());
    let made = plan_of(&s);
    let run = made.actions.iter().find_map(|a| match a {
        Action::StartRun(run) => Some(run.as_ref().clone()),
        _ => None,
    });
    let mut run = run.unwrap_or_else(|| panic!("{made:#?}"));
    let failed = json!({"phase": "Failed", "verdict": "Fail", "reason": "errors: 5 > 1"});
    run.status = Some(serde_json::from_value(failed).unwrap());
    s.runs.insert(run.metadata.name.clone().unwrap(), run);
    follow(&mut s, made);
    let made = plan_of(&s);
    assert_eq!(made.status.release.map(|r| r.stage), Some(Stage::RollingBack));
}

#[test]
fn a_person_goes_on_outside_for_one_step() {
    for verb in [RequestVerb::Approve, RequestVerb::Skip] {
        let mut s = outside(stepping(StepState::StepReady, 0, 2, 8));
        release(&mut s).window = Some(WindowHold::Closed);
        ask(&mut s, verb);
        let made = plan_of(&s);
        let release = made.status.release.as_ref().unwrap();
        assert_eq!((release.step, release.window), (1, None), "{verb:?}");
        assert!(writes(&made), "{verb:?}: {made:#?}");
    }
    let mut s = outside(held());
    let made = plan_of(&s);
    follow(&mut s, made);
    ask(&mut s, RequestVerb::Approve);
    let made = plan_of(&s);
    assert!(events(&made).contains(&"Approved"), "{made:#?}");
    assert!(writes(&made), "{made:#?}");
}

#[test]
fn promoting_in_full_jumping_and_retrying_are_wishes_that_no_window_holds() {
    let mut s = outside(stepping(StepState::StepReady, 0, 2, 8));
    ask(&mut s, RequestVerb::PromoteFull);
    assert_eq!(plan_of(&s).status.release.map(|r| r.stage), Some(Stage::Finalising));

    let mut s = outside(stepping(StepState::StepReady, 1, 5, 5));
    status(&mut s).canary_status =
        Some(crate::api::status::CanaryStatus { next_step_index: Some(1), ..Default::default() });
    let made = plan_of(&s);
    assert_eq!(made.status.release.as_ref().map(|r| r.step), Some(0));
    assert!(writes(&made), "{made:#?}");

    let mut s = outside(held());
    status(&mut s).rejected = Some(Rejected {
        template_hash: template_hash(&template("v2")),
        reason: "errors".into(),
        at: None,
    });
    ask(&mut s, RequestVerb::Retry);
    let made = plan_of(&s);
    assert!(writes(&made), "{made:#?}");
    assert_eq!(window(&made), None);
}

#[test]
fn approving_a_step_does_not_open_the_window_after_it() {
    let mut s = outside(stepping(StepState::StepPaused, 0, 2, 8));
    ask(&mut s, RequestVerb::Approve);
    let made = plan_of(&s);
    let release = made.status.release.as_ref().unwrap();
    assert_eq!((release.step, release.window), (0, Some(WindowHold::Closed)));
    // Skipping a step's rest does not either.
    let mut s = outside(stepping(StepState::StepPaused, 0, 2, 8));
    ask(&mut s, RequestVerb::Skip);
    assert_eq!(window(&plan_of(&s)), Some(WindowHold::Closed));
}

#[test]
fn waiting_for_a_window_is_no_time_in_which_pods_are_late() {
    let mut s = outside(held());
    let made = plan_of(&s);
    follow(&mut s, made);
    let opens = NOW + SignedDuration::from_hours(8);
    let made = plan(&s, opens);
    assert_eq!(made.status.release.map(|r| r.stage), Some(Stage::Stepping));
}
