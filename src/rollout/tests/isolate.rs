//! Traffic taken away from a new version whose pods stay: what an alert and `onFailure: Isolate` do.

use super::*;

const PAGE: &str = "the alert HighErrors (severity=page)";

fn isolated_by_an_alert(s: &mut Snapshot) -> Plan {
    status(s).request = Some(Request {
        verb: RequestVerb::Isolate,
        by: Some(PAGE.to_owned()),
        release: Some("r1".into()),
        alerts: vec!["isolate:c0ffee@T1".to_owned()],
    });
    plan_of(s)
}

#[test]
fn an_alert_takes_the_traffic_away_and_a_retry_goes_on_without_forgetting_it() {
    let mut s = released(Stage::Stepping, StepState::StepPaused, 2, 8);
    release(&mut s).held = Some("paused by ann".into());
    let made = isolated_by_an_alert(&mut s);
    assert_eq!(made.status.phase, Some(Phase::Failed));
    let reason = format!("isolated by {PAGE}");
    assert_eq!(made.status.rejected.as_ref().unwrap().reason, reason);
    let r = made.status.release.as_ref().unwrap();
    assert_eq!((r.stage, &r.held, r.cause.as_ref()), (Stage::Isolated, &None, Some(&reason)));
    assert_eq!(r.alerts, ["isolate:c0ffee@T1"]);
    assert!(waiting(&made).starts_with("the new version is isolated, "), "{made:#?}");
    assert!(events(&made).contains(&"Isolated"), "{made:#?}");
    follow(&mut s, made);

    ask(&mut s, RequestVerb::Retry);
    let made = plan_of(&s);
    let r = made.status.release.as_ref().unwrap();
    assert_eq!((r.stage, &r.alerts[..]), (Stage::Stepping, &["isolate:c0ffee@T1".into()][..]));
    assert_eq!(made.status.rejected, None);
}

#[test]
fn an_isolated_release_is_only_tried_again_given_up_or_promoted() {
    for verb in [RequestVerb::Approve, RequestVerb::Skip, RequestVerb::Pause, RequestVerb::Isolate]
    {
        let mut s = released(Stage::Isolated, StepState::StepPaused, 2, 8);
        ask(&mut s, verb);
        let made = plan_of(&s);
        let told = made.actions.iter().any(|a| {
            matches!(a, Action::Event(n) if n.reason == "RequestDropped"
                && n.note.ends_with("the new version is isolated: retry or abort"))
        });
        assert!(told, "{verb:?}: {made:#?}");
        let r = made.status.release.as_ref().unwrap();
        assert_eq!((r.stage, r.state, r.skip), (Stage::Isolated, StepState::StepPaused, false));
    }
}

#[test]
fn where_no_stable_pod_is_left_an_alert_that_isolates_goes_back() {
    for (stage, new, old, then) in [
        (Stage::Stepping, 9, 1, Stage::Isolated),
        (Stage::Stepping, 10, 0, Stage::RollingBack),
        (Stage::Finalising, 6, 4, Stage::Isolated),
        (Stage::Finalising, 10, 0, Stage::RollingBack),
    ] {
        let mut s = released(stage, StepState::Completed, new, old);
        let made = isolated_by_an_alert(&mut s);
        let about = format!("{stage:?} with {old} stable pods: {made:#?}");
        assert_eq!(made.status.release.as_ref().unwrap().stage, then, "{about}");
        if then == Stage::RollingBack {
            let reason =
                format!("rolled back by {PAGE}: no stable pod is left that could take the traffic");
            assert_eq!(made.status.rejected.unwrap().reason, reason);
            assert!(made.actions.iter().any(|a| matches!(a, Action::Workload { .. })), "{about}");
        }
    }
}

#[test]
fn during_the_watch_after_the_last_step_an_alert_that_isolates_goes_back() {
    let mut s = released(Stage::Finalising, StepState::Completed, 10, 0);
    s.workload.as_mut().unwrap().fields = user();
    release(&mut s).baking_since = Some(crate::api::Time(NOW));
    let made = isolated_by_an_alert(&mut s);
    assert_eq!(made.status.release.as_ref().unwrap().stage, Stage::RollingBack, "{made:#?}");
}

#[test]
fn a_failure_in_the_last_step_goes_back_where_no_stable_pod_is_left_to_isolate_it_from() {
    for (new, old, then) in [(9, 1, Stage::Isolated), (10, 0, Stage::RollingBack)] {
        let mut s = released(Stage::Finalising, StepState::Completed, new, old);
        s.rollout.spec.on_failure = Some(crate::api::rollout::OnFailure::Isolate);
        // Its deadline is over before a new pod was ready.
        let view = s.workload.as_mut().unwrap();
        view.replica_sets = vec![set("v1", old, old), set("v2", new, 0)];
        release(&mut s).since = Some(crate::api::Time(NOW - jiff::SignedDuration::from_hours(1)));
        let made = plan_of(&s);
        assert_eq!(made.status.release.as_ref().unwrap().stage, then, "{old}: {made:#?}");
    }
}
