//! The good end: all pods new, all traffic with them, everything restored as the user wrote it.

use super::accepted::Way;
use super::types::{Action, Who};
use super::{Draft, analyses, bake, hooks, machine, overdue, status, steps, traffic};
use crate::api::common::Time;
use crate::api::rollout::HookPoint;
use crate::api::status::{CanaryStatus, LastRelease, Phase, Stage, StepState};
use crate::spec::{self, Pause, StepPlan};
use crate::workload::knob::{Aim, move_to};
use crate::workload::{DeploymentView, Motion, deployment};

/// Nothing is looked at, asked or waited for between this step's last pods and the end of the release.
pub(crate) fn follows(d: &Draft<'_>, plan: &spec::Plan, step: &StepPlan) -> bool {
    let release = d.released();
    let last = usize::try_from(release.step).is_ok_and(|i| i + 1 >= plan.steps.len());
    let waits = match step.pause {
        Pause::Absent => false,
        Pause::Approval => true,
        Pause::For(span) => !span.is_zero(),
    };
    let looks = step.analysis.is_some() || !plan.background.is_empty();
    let asks = !plan.hooks.is_empty() || !step.hooks.is_empty();
    last && step.replicas.is_all() && !(waits || looks || asks || release.backward)
}

/// Begins the end of a release that went well.
pub(crate) fn start(d: &mut Draft<'_>) {
    let now = Time(d.now);
    analyses::end_all(d);
    let r = d.release();
    r.stage = Stage::Finalising;
    r.state = StepState::Completed;
    r.since = Some(now);
    r.held = None;
    r.hook = None;
    // In the watch after the last step nothing is left to do but to end it.
    r.skip = r.baking_since.is_some();
}

pub(crate) fn run(d: &mut Draft<'_>, plan: &spec::Plan, view: &DeploymentView) {
    let release = d.released();
    if bake::is_on(d) {
        return bake::run(d, plan, view);
    }
    let n = view.replicas;
    let all_new = view.current().is_some_and(|rs| rs.replicas == n && rs.status_replicas == n)
        && view.total() == n
        && view.active().count() == 1;
    let at_rest = all_new && view.fields.paused && !view.under_knob();
    if at_rest && !view.settled() {
        return d.wait(Who::Pods, "the Deployment controller");
    }
    // At rest too the last pods may be not ready yet: a pause came between.
    if !all_new || view.under_knob() || at_rest {
        if let Some(reason) = steps::paused(d, plan) {
            traffic::keep_carried(d, view, 0);
            machine::rest(d, view);
            d.stop_clock();
            return d.wait(Who::Person, reason);
        }
        d.start_clock();
        if !all_new && !traffic::open_stable(d) {
            return;
        }
        let aim = Aim {
            new_pods: n,
            exact: false,
            user: &release.originals,
            stable: &release.stable,
            tolerated: plan.failure_threshold.of(n),
            ends: true,
        };
        match move_to(view, aim, d.now) {
            Motion::Arrived => {}
            Motion::Act(write) => {
                // The deadline counts to the very end.
                if overdue::asks_anew(d, view, aim.tolerated) || !overdue::late(d, plan, view) {
                    d.write(view, write);
                    d.wait(Who::Pods, "the last pods to become new");
                }
                return;
            }
            Motion::Wait { reason, wake } => {
                d.wake_at(wake);
                if !overdue::late(d, plan, view) {
                    d.wait(Who::Pods, reason);
                }
                return;
            }
        }
    }
    if !traffic::to_native(d, Way::Forward, false) {
        return;
    }
    let user = &release.originals;
    if let Some(write) = deployment::give_back(view, user, user.paused, false) {
        d.write(view, write);
        return d.wait(Who::Pods, "the fields to be given back");
    }
    if !view.settled() {
        return d.wait(Who::Pods, "the Deployment controller");
    }
    if !traffic::to_native(d, Way::Forward, true) {
        return;
    }
    if !bake::watches(d, plan, view) {
        end(d, view, "Promoted");
    }
}

/// Writes the last words: the entry without a release, the status, the finalizer off.
pub(crate) fn end(d: &mut Draft<'_>, view: &DeploymentView, decision: &'static str) {
    let release = d.released();
    let stable = view.current().map(|rs| rs.hash.clone());
    record(d, decision, release.cause.clone());
    let promoted = decision == "Promoted";
    if promoted {
        d.status.rejected = None;
    }
    d.status.phase = Some(if promoted { Phase::Healthy } else { machine::idle_phase(&d.status) });
    // As the first look after the release would write it.
    let c = d.status.canary_status.get_or_insert_with(CanaryStatus::default);
    c.stable_revision.clone_from(&stable);
    c.canary_revision.clone_from(&stable);
    c.pod_template_hash.clone_from(&stable);
    c.current_step_state = Some(StepState::Completed);
    d.status.current_step_state = Some(StepState::Completed);
    status::set(d, status::PROGRESSING, false, "Completed", "no release is under way");
    let text = match &release.cause {
        Some(cause) => format!("release {}: {cause}", release.id),
        None => format!("release {} is in place", release.id),
    };
    status::set(d, status::SUCCEEDED, promoted, decision, &text);
    if promoted {
        d.event("Promoted", text);
    } else {
        d.warn("RolledBack", text);
    }
    hooks::announce(d, HookPoint::AfterRollout);
    d.after.push(Action::Finalizer(false));
}

/// Closes the release in the status. What still measured was stopped with it and has no verdict.
pub(crate) fn record(d: &mut Draft<'_>, decision: &str, reason: Option<String>) {
    let release = d.released();
    d.status.last_release = Some(LastRelease {
        id: release.id,
        decision: decision.to_owned(),
        reason,
        started_at: release.started_at,
        ended_at: Some(Time(d.now)),
    });
    d.status.release = None;
    d.status.traffic = None;
    status::clear(d, status::CONTENDED);
    status::clear(d, status::TRAFFIC);
    for verdict in &mut d.status.verdicts {
        if matches!(verdict.phase.as_str(), "Pending" | "Running") {
            verdict.phase = "Stopped".into();
            verdict.message = Some("measured until the release ended".into());
        }
    }
    if decision == "Promoted" && d.status.verdicts.iter().any(|v| v.phase == "Successful") {
        d.status.verdict = Some("Pass".into());
    } else if d.status.verdict.as_deref() == Some("Continue") {
        d.status.verdict = None;
    }
}
