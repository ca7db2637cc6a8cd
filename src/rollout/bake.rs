//! The watch after the last step: every pod is new, everything is restored, and what fails now still
//! goes back by itself.
//!
//! The workload is the user's own again: nothing of it is written here. A dead controller leaves a
//! finished release behind. A newer template ends the watch: what was baked is then the stable
//! version.

use super::types::Who;
use super::{Draft, analyses, back, finish, steps};
use crate::analysis::{self, Verdict};
use crate::api::Time;
use crate::api::status::StepState;
use crate::spec;
use crate::workload::DeploymentView;

/// The scope of its run.
const SCOPE: &str = "Bake";

/// Whether the watch has begun.
pub(crate) fn is_on(d: &Draft<'_>) -> bool {
    d.released().baking_since.is_some()
}

/// A pass over the watch: the release ends when it does.
pub(crate) fn run(d: &mut Draft<'_>, plan: &spec::Plan, view: &DeploymentView) {
    if !watches(d, plan, view) {
        analyses::end_all(d);
        finish::end(d, view, "Promoted");
    }
}

/// Begins or goes on with the watch. True while it lasts, or when it has decided otherwise.
pub(crate) fn watches(d: &mut Draft<'_>, plan: &spec::Plan, view: &DeploymentView) -> bool {
    let Some(bake) = &plan.bake else { return false };
    let release = d.released();
    if release.baking_since.is_none() {
        let now = Time(d.now);
        let r = d.release();
        r.baking_since = Some(now);
        r.skip = false;
        d.event("Baking", "every pod is new: the new version is watched");
    }
    if release.skip {
        return false;
    }
    if release.state != StepState::Completed {
        d.enter(StepState::Completed);
    }
    let since = release.baking_since.map_or(d.now, |at| at.0);
    let until = since.saturating_add(bake.duration).unwrap_or(d.now);
    d.wake_at(Some(until).filter(|until| d.now < *until));
    if let Some(stanza) = &bake.analysis
        && looks(d, plan, view, stanza, d.now >= until)
    {
        return true;
    }
    if let Some(reason) = steps::paused(d, plan) {
        d.wait(Who::Person, reason);
        return true;
    }
    if d.now < until {
        d.wait(Who::Time, format!("the new version to be watched until {until:.0}"));
        return true;
    }
    false
}

/// Reads the analysis. True when the release does not end yet.
fn looks(
    d: &mut Draft<'_>,
    plan: &spec::Plan,
    view: &DeploymentView,
    stanza: &spec::AnalysisStanza,
    over: bool,
) -> bool {
    let release = d.released();
    let name = format!("{}-{}-bake-{}", d.s.name(), release.id, release.attempt);
    if release.overruled.contains(&name) {
        return false;
    }
    match analyses::answer(d, &name, SCOPE, stanza, view, false) {
        Some(Verdict::Pass) => false,
        Some(Verdict::Fail { reason }) => {
            let text = format!("after the last step: {reason}");
            steps::on_failure(d, plan, view, "BakeFailed", &text);
            true
        }
        Some(Verdict::Inconclusive { reason }) => {
            analyses::inconclusive(d, plan, view, &format!("after the last step: {reason}"))
        }
        Some(Verdict::Continue { reason, .. }) => {
            let run = d.s.runs.get(&name).filter(|run| over && !run.spec.terminate);
            if let Some(run) = run.filter(|run| analysis::is_endless(run)) {
                d.after.push(analyses::ended(run));
            }
            d.wait(Who::Analysis, format!("the analysis {name}: {reason}"));
            true
        }
        None => true,
    }
}

/// A pass over a release in its watch: the template may have changed meanwhile.
pub(crate) fn forward(d: &mut Draft<'_>, plan: Option<&spec::Plan>, view: &DeploymentView) {
    let release = d.released();
    if view.template_hash == release.template_hash {
        return match plan {
            Some(plan) => finish::run(d, plan, view),
            None => d.wait(Who::Person, "fix the Rollout: its spec cannot be read"),
        };
    }
    if back::is_stable(view, &release) {
        back::start(d, "UserRollback", "the stable template was put back", false);
        return back::run(d, view);
    }
    analyses::end_all(d);
    d.release().cause = Some("the watch was cut short by a newer version".into());
    finish::end(d, view, "Promoted");
    d.wake_in(jiff::SignedDuration::ZERO);
}
