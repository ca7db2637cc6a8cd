//! What must hold of every snapshot and plan, checked apart from the code that should uphold it.

use super::snapshot::Snapshot;
use super::types::{Action, Plan};
use crate::api::status::{Phase, Stage};
use crate::workload::Write;

/// A violation: the name of the invariant and what was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Name.
    pub name: &'static str,
    /// What was found.
    pub found: String,
}

/// Checks a plan against the snapshot it was made from.
#[must_use]
pub fn check(snapshot: &Snapshot, plan: &Plan) -> Vec<Violation> {
    let mut out = Vec::new();
    let mut say = |name, found: String| out.push(Violation { name, found });
    let under_way = plan.status.release.is_some();
    if under_way && plan.actions.is_empty() && plan.wake.is_none() && plan.waiting.is_none() {
        say("never_silently_stuck", "no action, no wake and no reason for waiting".into());
    }
    let waits = plan.status.waiting_for.is_some();
    if plan.waiting.is_some() != waits {
        say("waiting_is_said", format!("{:?}", plan.status.waiting_for));
    }
    let writes = plan.actions.iter().filter(|a| matches!(a, Action::Workload { .. })).count();
    if writes > 1 {
        say("one_write_to_the_workload", format!("{writes} writes in one plan"));
    }
    if plan.status.phase == Some(Phase::Healthy) && under_way {
        say("healthy_means_over", "phase Healthy with a release under way".into());
    }
    for action in &plan.actions {
        if let Action::Workload { write: Write::Deployment(patch), .. } = action
            && patch.template.is_some()
            && !matches!(
                plan.status.release.as_ref().map(|r| r.stage),
                Some(Stage::RollingBack | Stage::Suspended | Stage::Stepping) | None
            )
        {
            say("templates_change_on_the_way_back_only", patch.why.into());
        }
    }
    let (old, new) = (snapshot.rollout.status.as_ref(), &plan.status);
    let was = old.and_then(|s| s.release.as_ref()).map(|r| &r.id);
    let is = new.release.as_ref().map(|r| &r.id);
    if was.is_some() && is.is_none() && new.last_release.is_none() {
        say("a_release_ends_with_a_word", "no last release".into());
    }
    out
}
