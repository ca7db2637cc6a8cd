//! The good end: all pods new, all traffic with them, everything restored as the user wrote it.

use super::types::{Action, Who};
use super::{Draft, analyses, machine, status, traffic};
use crate::api::common::Time;
use crate::api::status::{CanaryStatus, LastRelease, Phase, Stage, StepState};
use crate::spec;
use crate::workload::knob::{Aim, move_to};
use crate::workload::{DeploymentView, Motion, deployment};

/// Begins the end of a release that went well.
pub(crate) fn start(d: &mut Draft<'_>) {
    let now = Time(d.now);
    analyses::end_all(d);
    let r = d.release();
    r.stage = Stage::Finalising;
    r.state = StepState::Completed;
    r.since = Some(now);
    r.held = None;
    r.skip = false;
}

pub(crate) fn run(d: &mut Draft<'_>, plan: &spec::Plan, view: &DeploymentView) {
    let release = d.released();
    let n = view.replicas;
    let all_new = view.current().is_some_and(|rs| rs.replicas == n && rs.status_replicas == n)
        && view.total() == n
        && view.active().count() == 1;
    if !all_new || view.under_knob() {
        if plan.paused {
            machine::rest(d, view);
            return d.wait(Who::Person, "the Rollout is paused: kubectl sluice resume");
        }
        if !all_new && !traffic::open_stable(d, plan) {
            return;
        }
        let aim = Aim {
            new_pods: n,
            exact: false,
            user: &release.originals,
            stable: &release.stable,
            tolerated: 0,
        };
        match move_to(view, aim, d.now) {
            Motion::Arrived => {}
            Motion::Act(write) => {
                d.write(view, write);
                return d.wait(Who::Pods, "the last pods to become new");
            }
            Motion::Wait { reason, wake } => {
                d.wake_at(wake);
                return d.wait(Who::Pods, reason);
            }
        }
    }
    if !traffic::to_native(d, false) {
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
    if !traffic::to_native(d, true) {
        return;
    }
    end(d, view, "Promoted");
}

/// Writes the last words: the entry without a release, the status, the finalizer off.
pub(crate) fn end(d: &mut Draft<'_>, view: &DeploymentView, decision: &'static str) {
    let release = d.released();
    let stable = view.current().map(|rs| rs.hash.clone());
    d.status.last_release = Some(LastRelease {
        id: release.id.clone(),
        decision: decision.to_owned(),
        reason: release.cause.clone(),
        started_at: release.started_at.clone(),
        ended_at: Some(Time(d.now)),
    });
    d.status.release = None;
    let promoted = decision == "Promoted";
    if promoted {
        d.status.rejected = None;
    }
    d.status.phase = Some(if promoted { Phase::Healthy } else { machine::idle_phase(&d.status) });
    let c = d.status.canary_status.get_or_insert_with(CanaryStatus::default);
    c.stable_revision.clone_from(&stable);
    c.current_step_state = Some(StepState::Completed);
    d.status.current_step_state = Some(StepState::Completed);
    d.status.traffic = None;
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
    d.after.push(Action::Finalizer(false));
}
