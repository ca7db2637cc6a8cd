//! The questions, in the order in which they bind. Each is answered for good before the next is asked.

use super::types::Who;
use super::{Draft, back, finish, gate, idle, let_go, requests, status, steps, traffic};
use crate::api::status::{Phase, RolloutStatus, STATUS_SCHEMA, Stage};
use crate::spec;
use crate::workload::{self, DeploymentView, deployment};

/// How the hold begins that somebody's `kubectl rollout pause` makes.
pub const PAUSED_BY_HAND: &str = "the Deployment was paused with kubectl rollout pause";

pub(crate) fn run(d: &mut Draft<'_>) {
    if d.status.schema.is_some_and(|v| v > STATUS_SCHEMA) {
        return d.wait(Who::Person, "a newer Sluice wrote this status: run that version");
    }
    d.status.schema = Some(STATUS_SCHEMA);
    let generation = d.s.rollout.metadata.generation;
    d.status.observed_generation = generation;
    let deleting = d.s.rollout.metadata.deletion_timestamp.is_some();
    if deleting || d.s.rollout.spec.disabled {
        return let_go::leave(d, deleting);
    }
    if matches!(d.status.phase, Some(Phase::Disabled | Phase::Disabling | Phase::Terminating)) {
        d.status.phase = Some(Phase::Initial);
    }
    let plan = match d.spec() {
        Ok(plan) => {
            status::clear(d, status::INVALID_SPEC);
            plan
        }
        Err(errors) => return invalid(d, &errors),
    };
    if let Some(rival) = d.s.rival.clone() {
        let text = format!("Rollout {rival} already releases this workload: delete one of the two");
        status::set(d, status::CONFLICT, true, "AnotherRollout", &text);
        return d.wait(Who::Person, text);
    }
    status::clear(d, status::CONFLICT);
    let snapshot = d.s;
    let Some(view) = snapshot.workload.as_ref().filter(|v| !v.deleting) else {
        return let_go::workload_gone(d);
    };
    if view.fields.type_.as_deref() == Some("Recreate") && d.status.release.is_none() {
        let text = "the Deployment's strategy is Recreate, which kills every pod at once: set \
                    spec.strategy.type to RollingUpdate";
        status::set(d, status::UNSUPPORTED, true, "Recreate", text);
        return d.wait(Who::Person, text);
    }
    status::clear(d, status::UNSUPPORTED);
    if let_go::released_by_others(d, view) {
        return;
    }
    take_wanted(d, view);
    if d.status.release.is_none() {
        if !idle::look(d, view) {
            gate::ensure(d, view);
            return;
        }
        gate::ensure(d, view);
    }
    progress(d, &plan, view);
    if d.status.release.is_some() {
        gate::ensure(d, view);
    }
}

/// What is wrong is said with path, value and remedy; a release under way stays where it is.
fn invalid(d: &mut Draft<'_>, errors: &[spec::SpecError]) {
    let text = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    if status::set(d, status::INVALID_SPEC, true, "InvalidSpec", &text) {
        d.warn("InvalidSpec", text.clone());
    }
    let snapshot = d.s;
    if d.status.release.is_some()
        && let Some(view) = &snapshot.workload
    {
        rest(d, view);
    }
    d.wait(Who::Person, format!("fix the Rollout: {text}"));
}

/// What somebody wanted of a held field while the release ran becomes part of what is restored.
fn take_wanted(d: &mut Draft<'_>, view: &DeploymentView) {
    let Some(text) = &view.wanted else { return };
    let Some(release) = d.status.release.as_mut() else { return };
    let (fields, paused) =
        deployment::read_wanted(text, &release.id, &view.fields, &release.originals);
    let changed = fields != release.originals;
    release.originals = fields;
    let pause = paused && release.held.is_none();
    if pause {
        release.held = Some(PAUSED_BY_HAND.into());
    }
    if pause {
        d.event("Paused", "the Deployment was paused by hand: kubectl sluice resume goes on");
    }
    if changed {
        d.event("WantedNoted", format!("will be restored when the release ends: {text}"));
    }
    d.write(
        view,
        workload::Write::Deployment(workload::KnobPatch {
            drop_wanted: true,
            why: "the wish is noted",
            ..Default::default()
        }),
    );
}

/// One pass over a release under way.
fn progress(d: &mut Draft<'_>, plan: &spec::Plan, view: &DeploymentView) {
    // A write to the Deployment is already planned (the wish was noted): one at a time.
    if d.after.iter().any(|a| matches!(a, super::Action::Workload { .. })) {
        return;
    }
    requests::read(d, plan);
    match d.released().stage {
        Stage::RollingBack => back::run(d, plan, view),
        Stage::LettingGo => let_go::run(d, view, false),
        Stage::Suspended => suspended(d, plan, view),
        Stage::Stepping | Stage::Finalising | Stage::Isolated => forward(d, plan, view),
    }
}

fn forward(d: &mut Draft<'_>, plan: &spec::Plan, view: &DeploymentView) {
    let release = d.released();
    if view.template_hash != release.template_hash {
        if back::is_stable(view, &release) {
            back::start(d, "UserRollback", "the stable template was put back", false);
            return back::run(d, plan, view);
        }
        idle::next_version(d, view);
    }
    if view.replicas == 0 {
        return suspend(d, view);
    }
    match d.released().stage {
        Stage::Isolated => isolated(d, plan, view),
        Stage::Finalising => finish::run(d, plan, view),
        _ => steps::run(d, plan, view),
    }
}

/// At 0 replicas the native controller would start whatever template stands there when replicas return,
/// so the stable one is put back (no pod is touched) and the target is remembered.
fn suspend(d: &mut Draft<'_>, view: &DeploymentView) {
    set_aside(d, view, "0 replicas: the release goes on when there are replicas again");
}

/// The stable template is put back and the target remembered until every pod is stable again.
pub(crate) fn set_aside(d: &mut Draft<'_>, view: &DeploymentView, why: &'static str) {
    let release = d.released();
    let Some(stable) = view.by_hash(&release.stable) else {
        let text = format!(
            "the stable ReplicaSet {} is gone: kubectl sluice promote --full, or push \
                            a template that works",
            release.stable
        );
        return d.wait(Who::Person, text);
    };
    if !traffic::to_native(d, false) {
        return;
    }
    let template = view.template.to_string();
    let write = deployment::put_back(view, &stable.template, &release.originals);
    let now = d.now;
    let r = d.release();
    r.stage = Stage::Suspended;
    r.suspended_template = Some(template);
    r.since = Some(crate::api::Time(now));
    d.event("Suspended", why);
    d.write(view, write);
    let who = if view.replicas == 0 { Who::Person } else { Who::Pods };
    d.wait(who, why);
}

/// Waits for replicas, lets the stable version come up, then lets the new template in again.
fn suspended(d: &mut Draft<'_>, plan: &spec::Plan, view: &DeploymentView) {
    let release = d.released();
    let stored = release.suspended_template.as_deref().and_then(|t| serde_json::from_str(t).ok());
    let Some(target) = stored else {
        back::start(d, "Suspended", "the remembered template cannot be read", false);
        return back::run(d, plan, view);
    };
    if !back::is_stable(view, &release) {
        if view.template_hash != release.template_hash {
            // Somebody brought a third version while there were no pods.
            idle::next_version(d, view);
        }
        let r = d.release();
        r.suspended_template = None;
        r.stage = Stage::Stepping;
        d.enter(crate::api::status::StepState::BeforeStepUpgrade);
        if view.replicas > 0 {
            d.event("Resumed", format!("{} replicas are back: the release goes on", view.replicas));
        }
        return forward(d, plan, view);
    }
    if view.replicas == 0 {
        return d
            .wait(Who::Person, "0 replicas: the release goes on when there are replicas again");
    }
    let min_ready = release.originals.min_ready_seconds.unwrap_or(0);
    let (ready, wake) = view.current().map_or((0, None), |rs| rs.available_after(min_ready, d.now));
    d.wake_at(wake);
    let others = view.active().any(|rs| rs.hash != release.stable);
    if others && let Some(write) = deployment::give_back(view, &release.originals, false, false) {
        d.write(view, write);
        return d.wait(Who::Pods, "the native controller to bring the stable version back");
    }
    if ready < view.replicas || others || !view.settled() {
        return d
            .wait(Who::Pods, format!("{ready} of {} stable pods are ready again", view.replicas));
    }
    // The stage changes when the template is seen: a refused write must not look like a rollback.
    let write = deployment::put_back(view, &target, &release.originals);
    d.write(view, write);
    d.wait(Who::Pods, "the new template is let in again");
}

/// No traffic to the new version; its pods stay to be looked at.
fn isolated(d: &mut Draft<'_>, plan: &spec::Plan, view: &DeploymentView) {
    if !traffic::to_stable(d, plan, view) {
        return;
    }
    rest(d, view);
    let left = d.status.traffic.as_ref().and_then(|t| t.observed.clone());
    let how = match left.filter(|t| t != "0%") {
        _ if plan.traffic.is_empty() => {
            "its pods stay and keep their share of the requests: there are no trafficRoutings"
                .into()
        }
        Some(left) => {
            format!("its pods stay and keep {left} of the traffic: the stable pods carry no more")
        }
        None => "its pods stay without traffic".to_owned(),
    };
    let cause = d.released().cause.unwrap_or_default();
    let text = format!("the new version is isolated, {how}: kubectl sluice retry or abort");
    if d.status.waiting_for.as_ref() != Some(&text) {
        d.warn("Isolated", format!("{cause}; {text}"));
    }
    d.wait(Who::Person, text);
}

/// Brings the workload to its rest when that loses nothing. True when it rests.
pub(crate) fn rest(d: &mut Draft<'_>, view: &DeploymentView) -> bool {
    let release = d.released();
    if !deployment::can_rest(view) {
        return false;
    }
    match deployment::rest(view, &release.originals, false) {
        Some(write) => {
            d.write(view, write);
            false
        }
        None => true,
    }
}

/// The phase that a status without a release has.
pub(crate) fn idle_phase(status: &RolloutStatus) -> Phase {
    if status.rejected.is_some() { Phase::Failed } else { Phase::Healthy }
}
