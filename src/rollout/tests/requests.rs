//! What a person asks for.

use super::*;

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
fn the_deadline_counts_to_the_last_pod_and_a_person_may_give_it_more_time() {
    let mut s = released(Stage::Finalising, StepState::Completed, 10, 2);
    s.rollout.spec.on_failure = Some(crate::api::rollout::OnFailure::Pause);
    let view = s.workload.as_mut().unwrap();
    view.replica_sets = vec![set("v1", 2, 2), set("v2", 8, 0)];
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
fn who_approves_a_doubt_from_beside_the_step_goes_on_in_the_step() {
    let states = [StepState::StepUpgrade, StepState::StepMetricsAnalysis];
    for (state, pods) in states.into_iter().zip([2, 5]) {
        let mut s = released(Stage::Stepping, state, pods, 10 - pods);
        super::watch::templates(&mut s);
        let stanza = json!({"templates": [{"templateName": "t"}]});
        let second = json!({"replicas": 5, "timeout": "1h", "analysis": stanza});
        let steps = json!([{"replicas": 2}, second, {"replicas": "100%"}]);
        s.rollout.spec = rollout(&json!({"strategy": {"canary": {"steps": steps}}})).spec;
        let r = release(&mut s);
        r.step = 1;
        r.held = Some("background: no data".into());
        if state == StepState::StepMetricsAnalysis {
            // Its own analysis has begun.
            release(&mut s).held = None;
            let made = plan_of(&s);
            assert!(events(&made).contains(&"AnalysisStarted"), "{made:#?}");
            for action in &made.actions {
                let Action::StartRun(run) = action else { continue };
                s.runs.insert(run.metadata.name.clone().unwrap(), (**run).clone());
            }
            follow(&mut s, made);
            let made = plan_of(&s);
            follow(&mut s, made);
            release(&mut s).held = Some("background: no data".into());
        }
        ask(&mut s, RequestVerb::Approve);
        let made = plan_of(&s);
        let after = made.status.release.as_ref().unwrap();
        assert_eq!((after.step, after.state, after.held.as_ref()), (1, state, None), "{made:#?}");
        assert!(events(&made).contains(&"Approved"), "{made:#?}");
        assert!(!events(&made).contains(&"StepCompleted"), "{made:#?}");
    }
}

/// The stable version is back, and the template that failed is applied still.
fn rejected() -> Snapshot {
    let mut s = held();
    let rejected = Rejected {
        template_hash: template_hash(&template("v2")),
        reason: "too many errors".into(),
        at: None,
    };
    let last = json!({"id": "r1", "decision": "RolledBack"});
    let last = serde_json::from_value(last).unwrap();
    let status = status(&mut s);
    (status.schema, status.phase) = (Some(STATUS_SCHEMA), Some(Phase::Failed));
    (status.rejected, status.last_release) = (Some(rejected), Some(last));
    s
}

#[test]
fn only_a_retry_lets_a_rejected_template_in_again() {
    let verbs = [
        RequestVerb::Approve,
        RequestVerb::PromoteFull,
        RequestVerb::Abort,
        RequestVerb::Skip,
        RequestVerb::Restart,
        RequestVerb::Pause,
        RequestVerb::Isolate,
        RequestVerb::Retry,
    ];
    for verb in verbs {
        for release in [None, Some("r1"), Some("r0")] {
            let mut s = rejected();
            ask(&mut s, verb);
            let request = status(&mut s).request.as_mut().unwrap();
            request.release = release.map(str::to_owned);
            let made = plan_of(&s);
            let goes_on = verb == RequestVerb::Retry && release != Some("r0");
            assert_eq!(made.status.release.is_some(), goes_on, "{verb:?} of {release:?}");
            assert_eq!(made.status.rejected.is_none(), goes_on, "{verb:?} of {release:?}");
            assert_eq!(made.status.request, None, "{verb:?} is taken away");
            assert!(made.actions.contains(&Action::Status), "{verb:?}");
            assert_eq!(events(&made).contains(&"RequestDropped"), !goes_on, "{verb:?}");
        }
    }
}
