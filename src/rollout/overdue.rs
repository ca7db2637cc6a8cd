//! How long pods may take and a step may last, and what comes after that.
//!
//! A step's time begins with its pods, after the hooks before it; again when a person lets it go on, tries it
//! again or takes a pause back, and when a window opens.

use jiff::{SignedDuration, Timestamp};

use super::{Draft, analyses, steps};
use crate::api::common::Time;
use crate::api::rollout::OnInconclusive;
use crate::api::status::{Stage, StepState};
use crate::spec::{self, StepPlan};
use crate::workload::{DeploymentView, ReplicaSetView};

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

/// The pods that were asked for are there and ready: whenever the next ones are asked for, as after a time
/// without a controller, they have their time from now.
pub(crate) fn asks_anew(d: &mut Draft<'_>, view: &DeploymentView, tolerated: i32) -> bool {
    let release = d.released();
    let min_ready = release.originals.min_ready_seconds.unwrap_or(0);
    let anew = moving(view, release.backward)
        .all(|rs| rs.available_after(min_ready, d.now).0 >= rs.replicas - tolerated);
    if anew {
        d.release().since = Some(Time(d.now));
    }
    anew
}

/// The ReplicaSets whose pods are waited for: on the way back to a smaller batch those are old ones too.
fn moving(view: &DeploymentView, back: bool) -> impl Iterator<Item = &ReplicaSetView> {
    view.active().filter(move |rs| back || rs.template_hash == view.template_hash)
}

/// True when the batch has missed its deadline. Counted from the newest pod that got ready, so that a
/// large batch that makes progress is not late.
pub(crate) fn late(d: &mut Draft<'_>, plan: &spec::Plan, view: &DeploymentView) -> bool {
    let moving = moving(view, d.released().backward);
    let newest = moving.flat_map(|rs| &rs.pods).filter_map(|p| p.ready_since).max();
    let min_ready = i64::from(d.released().originals.min_ready_seconds.unwrap_or(0));
    let from: Timestamp = newest.map_or(d.since(), |t| t.max(d.since()));
    let span = plan.progress_deadline + SignedDuration::from_secs(min_ready);
    let Ok(at) = from.saturating_add(span) else { return false };
    if d.now < at {
        d.wake_at(Some(at));
        return false;
    }
    let release = d.released();
    let stable = view.by_hash(&release.stable);
    let unready = |rs: &&ReplicaSetView| rs.ready() < rs.replicas;
    let new = view.current();
    let (which, rs) = match stable.filter(unready).filter(|_| !new.is_some_and(|rs| unready(&rs))) {
        Some(stable) => ("stable", Some(stable)),
        None => ("new", new),
    };
    let ready = rs.map_or(0, ReplicaSetView::ready);
    let problem = rs.and_then(|r| r.problem()).map_or(String::new(), |p| format!(" ({p})"));
    let what = match release.stage {
        Stage::Stepping => format!("step {}", release.step + 1),
        _ => "the last pods".to_owned(),
    };
    let after = plan.progress_deadline.as_secs();
    let reason = format!("{what}: {ready} {which} pods are ready after {after}s{problem}");
    steps::on_failure(d, plan, view, "ProgressDeadlineExceeded", &reason);
    true
}
