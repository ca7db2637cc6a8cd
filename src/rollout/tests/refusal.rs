//! What the API server refuses.

use super::*;
use crate::rollout::{Refusal, RefusedWrite, tell_refused};

fn condition(plan: &Plan) -> Option<(&str, &str)> {
    let found = plan.status.conditions.iter().find(|c| c.type_ == "Refused")?;
    Some((&found.reason, &found.message))
}

fn forbidden<'a>() -> RefusedWrite<'a> {
    RefusedWrite {
        reason: "WriteForbidden",
        what: "PATCH /deployments/web: Forbidden",
        text: "PATCH /deployments/web: Forbidden: no; give the permission",
    }
}

#[test]
fn nothing_is_decided_while_something_was_never_read() {
    for stage in [Stage::Stepping, Stage::RollingBack, Stage::LettingGo, Stage::Finalising] {
        // What was not listed looks as if it were deleted.
        for goes in [false, true] {
            let mut s = released(stage, StepState::StepPaused, 2, 8);
            s.workload = None;
            s.refusal = Some(Refusal::Read("may not list deployments".into()));
            if goes {
                deleted(&mut s);
            }
            let before = s.rollout.status.clone().unwrap().release;
            let made = plan_of(&s);
            let only = |a: &Action| matches!(a, Action::Status | Action::Event(_));
            assert!(made.actions.iter().all(only), "{stage:?}: {made:#?}");
            assert_eq!(made.status.release, before, "{stage:?}");
            assert_eq!(condition(&made), Some(("ListRefused", "may not list deployments")));
            assert_eq!(waiting(&made), "may not list deployments");
            assert_eq!(events(&made), ["Refused"]);
            follow(&mut s, made);
            assert_eq!(plan_of(&s).actions, [], "it is said once");
        }
    }
}

#[test]
fn a_release_goes_on_where_it_was_when_everything_is_read() {
    let mut s = released(Stage::Stepping, StepState::StepPaused, 2, 8);
    let undisturbed = plan_of(&s);
    s.refusal = Some(Refusal::Read("may not list pods".into()));
    let made = plan_of(&s);
    follow(&mut s, made);
    s.refusal = None;
    let made = plan_of(&s);
    assert_eq!(condition(&made), None);
    assert_eq!(made.status.release, undisturbed.status.release);
}

#[test]
fn a_refused_write_is_said_once_and_stays_until_it_is_made() {
    let mut s = released(Stage::Stepping, StepState::StepPaused, 2, 8);
    let made = tell_refused(&s.rollout, NOW, forbidden(), true).unwrap();
    assert_eq!(made.status.release, s.rollout.status.as_ref().unwrap().release);
    assert_eq!(condition(&made), Some(("WriteForbidden", forbidden().text)));
    assert_eq!(events(&made), ["Refused"]);
    let stalled = made.status.conditions.iter().find(|c| c.type_ == "Stalled").unwrap();
    assert_eq!((stalled.status.as_str(), stalled.message.as_str()), ("True", forbidden().text));
    follow(&mut s, made);
    assert!(tell_refused(&s.rollout, NOW, forbidden(), true).is_none());
    s.refusal = Some(Refusal::Write);
    let made = plan_of(&s);
    assert_eq!(condition(&made), Some(("WriteForbidden", forbidden().text)));
    assert_eq!(waiting(&made), forbidden().text, "that is what the release waits for");
    s.refusal = None;
    let made = plan_of(&s);
    assert_eq!(condition(&made), None);
    assert!(made.actions.contains(&Action::Status), "{made:#?}");
}

#[test]
fn a_dry_run_that_is_refused_leaves_the_gate_unproven_and_says_by_whom() {
    let mut s = held();
    let made = plan_of(&s);
    follow(&mut s, made);
    s.proof = Proof::Refused { reason: "Forbidden: admission webhook said no".into() };
    let made = plan_of(&s);
    let gate = made.status.gate.as_ref().unwrap();
    assert_eq!(gate.kind, crate::api::status::GateKind::Repair);
    assert!(gate.message.as_ref().unwrap().contains("admission webhook said no"), "{gate:?}");
    assert!(made.actions.iter().any(|a| matches!(a, Action::Prove { .. })), "asked again");
}
