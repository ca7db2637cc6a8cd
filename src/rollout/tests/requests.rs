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
