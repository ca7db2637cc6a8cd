//! How long a step may last, and what comes after that.
//!
//! Its time begins with its pods, after the hooks before it; again when a person lets it go on, tries it
//! again or takes a pause back, and when a window opens.

use super::{Draft, analyses};
use crate::api::common::Time;
use crate::api::rollout::OnInconclusive;
use crate::api::status::{Stage, StepState};
use crate::spec::{self, StepPlan};
use crate::workload::DeploymentView;

/// The step's time begins now.
pub(crate) fn begin(d: &mut Draft<'_>) {
    let now = Time(d.now);
    d.release().step_since = Some(now);
}

/// The step is not done in this pass: once its timeout is over, `onInconclusive` applies. True when the step
/// goes on without what it waits for; pods and traffic (not `passable`) are waited for all the same.
///
/// Pods on their way have a deadline of their own. What a person has decided, and what this pass writes or
/// asks, comes first.
pub(crate) fn leaves(
    d: &mut Draft<'_>,
    plan: &spec::Plan,
    view: &DeploymentView,
    step: &StepPlan,
    passable: bool,
) -> bool {
    let release = d.released();
    let moves = matches!(release.state, StepState::BeforeStepUpgrade | StepState::StepUpgrade);
    let decided = release.stage != Stage::Stepping || release.held.is_some() || release.skip;
    let stays = !passable && plan.on_inconclusive == OnInconclusive::Continue;
    if moves || decided || stays || !timed_out(d, step) {
        return false;
    }
    if !d.after.is_empty() || !d.calls.is_empty() {
        return false;
    }
    let number = release.step + 1;
    let waited = d.waiting.take().map_or_else(String::new, |waiting| waiting.what);
    let waited = waited.strip_prefix(&format!("step {number}: ")).unwrap_or(&waited);
    let span = step.timeout.unwrap_or_default();
    let reason = format!("its timeout of {span:#} is over, waiting for: {waited}");
    analyses::undecided(d, plan, view, number, &reason)
}

/// The step's own timeout has passed.
pub(crate) fn timed_out(d: &mut Draft<'_>, step: &StepPlan) -> bool {
    let Some(span) = step.timeout else { return false };
    let from = d.status.release.as_ref().and_then(|r| r.step_since.as_ref()).map_or(d.now, |t| t.0);
    let Ok(at) = from.saturating_add(span) else { return false };
    if d.now >= at {
        return true;
    }
    d.wake_at(Some(at));
    false
}
