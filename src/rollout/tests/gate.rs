//! What the Gate says, and when it is asked whether it holds.

use super::*;
use jiff::SignedDuration;

fn proves(s: &Snapshot) -> (bool, Option<Timestamp>) {
    let made = plan_of(s);
    (made.actions.iter().any(|a| matches!(a, Action::Prove { .. })), made.wake)
}

/// Five pods of v1 and five of v2, of which nobody knows which is stable.
fn in_between(paused: bool) -> Snapshot {
    let mut view = workload("v2", vec![set("v1", 5, 5), set("v2", 5, 5)]);
    view.fields.paused = paused;
    view.fields.max_surge = Some(IntOrString::Int(0));
    snapshot(Some(view))
}

fn with_entry(s: &mut Snapshot, entry: GateEntry) {
    let entry = GateEntry { rollout: Some("web".into()), ..entry };
    let spec = GateSpec {
        account: Some("sluice".into()),
        deployments: [("web".to_owned(), entry)].into(),
        ..GateSpec::default()
    };
    s.gate = Some(GateView { spec });
}

#[test]
fn a_dry_run_that_went_through_is_made_again_soon_and_then_more_and_more_seldom() {
    let mut s = snapshot(Some(workload("v1", vec![set("v1", 10, 10)])));
    let made = plan_of(&s);
    follow(&mut s, made);
    let before = |seconds| NOW - SignedDuration::from_secs(seconds);
    let after = |seconds| Some(NOW + SignedDuration::from_secs(seconds));
    for (first, last, asked, wake) in [
        (0, 0, false, after(2)),
        (1, 1, false, after(1)),
        (2, 2, true, None),
        (12, 10, true, None),
        (60, 10, false, after(40)),
        (60, 50, true, None),
        (40_000, 10, false, after(290)),
    ] {
        let tried = Some((before(first), before(last)));
        s.proof = Proof::NotHeld { reason: "a dry run".into(), tried };
        assert_eq!(proves(&s), (asked, wake), "first {first} s ago, last {last} s ago");
    }
    s.proof = Proof::NotHeld { reason: "no policy".into(), tried: None };
    assert_eq!(proves(&s), (false, None), "without a policy there is nothing to ask");
}

#[test]
fn an_update_that_is_paused_between_two_versions_is_its_users_to_resume() {
    for (paused, words) in [(true, "kubectl rollout resume"), (false, "under way before Sluice")] {
        let mut s = in_between(paused);
        ask(&mut s, RequestVerb::Approve);
        let made = plan_of(&s);
        assert!(waiting(&made).contains(words), "{}", waiting(&made));
        assert!(events(&made).contains(&"RequestDropped"), "{made:#?}");
        assert!(!made.actions.iter().any(|a| matches!(a, Action::Gate { .. })), "{made:#?}");
        let stalled = made.status.conditions.iter().find(|c| c.type_ == "Stalled").unwrap();
        assert_eq!(stalled.status == "True", paused, "{stalled:#?}");

        with_entry(&mut s, GateEntry::default());
        let made = plan_of(&s);
        let gone = place(&made, |a| matches!(a, Action::Gate { entry: None, .. }));
        assert!(place(&made, |a| *a == Action::Status) < gone, "{made:#?}");
        follow(&mut s, made);
        let made = plan_of(&s);
        assert!(!made.status.conditions.iter().any(|c| c.type_ == "Released"), "{made:#?}");
    }
}

#[test]
fn a_lost_release_at_its_rest_leaves_the_users_surge_in_the_gate() {
    let mut s = in_between(true);
    let entry =
        GateEntry { release: Some("r1".into()), originals: Some(user()), ..GateEntry::default() };
    with_entry(&mut s, entry);
    let made = plan_of(&s);
    let note = made.actions.iter().find_map(|a| match a {
        Action::LetGo { left, .. } => left.clone(),
        _ => None,
    });
    assert_eq!(note.as_ref().and_then(|note| note.max_surge.clone()), user().max_surge);
    assert!(!made.actions.iter().any(|a| matches!(a, Action::Gate { .. })), "{made:#?}");

    let gate = s.gate.as_mut().unwrap();
    gate.spec.let_go.insert("web".into(), *note.unwrap());
    let made = plan_of(&s);
    place(&made, |a| matches!(a, Action::Gate { entry: None, .. }));
}
