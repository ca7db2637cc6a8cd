//! What begins a release, and what is held.

use super::*;

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
fn a_new_release_begins_at_the_first_step_whatever_the_last_one_came_to() {
    let mut s = held();
    let left = json!({"nextStepIndex": 3, "currentStepState": "StepReady"});
    status(&mut s).canary_status = Some(serde_json::from_value(left).unwrap());
    let made = plan_of(&s);
    let release = made.status.release.as_ref().unwrap();
    assert_eq!((release.step, release.attempt), (0, 1), "{made:#?}");
    for wish in ["Jumped", "Approved", "NothingToApprove"] {
        assert!(!events(&made).contains(&wish), "nobody asked: {made:#?}");
    }
    assert_eq!(made.status.canary_status.and_then(|c| c.next_step_index), Some(2));
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
fn a_workload_that_is_named_no_more_is_let_go_and_the_new_one_is_gated() {
    let mut s = snapshot(Some(workload("v1", vec![set("v1", 10, 10)])));
    let before = plan_of(&s);
    follow(&mut s, before);
    status(&mut s).rejected = Some(Rejected {
        template_hash: template_hash(&template("v2")),
        reason: "errors".into(),
        at: None,
    });
    s.rollout.spec.workload_ref.name = "api".into();
    s.rollout.metadata.generation = Some(4);
    let mut api = held().workload.unwrap();
    api.name = "api".into();
    s.workload = Some(api.clone());
    let made = plan_of(&s);
    let entry = |of: &str, is: bool| {
        let of = of.to_owned();
        move |a: &Action| match a {
            Action::Gate { workload, entry } => *workload == of && entry.is_some() == is,
            _ => false,
        }
    };
    let gated = place(&made, entry("api", true));
    let told = place(&made, |a| *a == Action::Status);
    assert!(gated < told && told < place(&made, entry("web", false)), "{made:#?}");
    assert!(events(&made).contains(&"ReleaseStarted"), "what failed was another workload's");
    assert!(!made.status.conditions.iter().any(|c| c.type_ == "Released"), "{made:#?}");

    s.rollout.spec.disabled = true;
    let made = plan_of(&s);
    place(&made, entry("web", false));
}

#[test]
fn a_next_version_that_has_too_many_pods_already_goes_back_to_its_step() {
    let mut s = released(Stage::Stepping, StepState::StepPaused, 2, 4);
    let view = view_of(&mut s);
    view.replica_sets = vec![set("v1", 4, 4), set("v3", 4, 4), set("v2", 2, 2)];
    view.template = template("v3");
    view.template_hash = template_hash(&template("v3"));
    let made = plan_of(&s);
    assert!(events(&made).contains(&"NextVersion"), "{made:#?}");
    assert!(made.status.release.unwrap().backward);
}

#[test]
fn a_release_that_nothing_has_judged_yet_has_no_verdict() {
    let mut first = held();
    status(&mut first).verdict = Some("Pass".into());
    assert_eq!(plan_of(&first).status.verdict, None, "that was the release before");
    let mut s = released(Stage::Stepping, StepState::StepPaused, 2, 8);
    status(&mut s).verdict = Some("Pass".into());
    let view = s.workload.as_mut().unwrap();
    view.template = template("v3");
    view.template_hash = template_hash(&template("v3"));
    assert_eq!(plan_of(&s).status.verdict, None, "that was the version before");
}
