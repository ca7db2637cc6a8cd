//! The questions, in the order in which they bind. Each is answered for good before the next is asked.

use super::accepted::Way;
use super::idle::Look;
use super::types::Who;
use super::{
    Draft, back, bake, finish, gate, hooks, idle, let_go, overdue, requests, status, steps, traffic,
};
use crate::api::status::{Phase, RolloutStatus, STATUS_SCHEMA, Stage};
use crate::spec;
use crate::workload::{self, DeploymentView, deployment};

/// How the hold begins that somebody's `kubectl rollout pause` makes.
pub const PAUSED_BY_HAND: &str = "the Deployment was paused with kubectl rollout pause";

/// Why a release waits that was scaled to nothing.
const EMPTY: &str = "0 replicas: the release goes on when there are replicas again, unless kubectl sluice \
                     abort ends it";

/// Why a release waits that was scaled to one pod.
const ONE_REPLICA: &str = "a single replica cannot be shared between two versions: the release goes on \
                           with more, or with this one after kubectl sluice retry; abort ends it";

/// Why a template that is applied again while the stable version comes back is put aside once more.
const COMING_BACK: &str = "the stable version comes back first, then the release goes on";

pub(crate) fn run(d: &mut Draft<'_>) {
    if d.status.schema.is_some_and(|v| v > STATUS_SCHEMA) {
        return d.wait(Who::Person, "a newer Sluice wrote this status: run that version");
    }
    d.status.schema = Some(STATUS_SCHEMA);
    hooks::tend(d);
    let generation = d.s.rollout.metadata.generation;
    d.status.observed_generation = generation;
    let_go::leave_former(d);
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
            Some(plan)
        }
        Err(errors) => {
            invalid(d, &errors);
            if d.status.release.is_none() {
                return end_hold(d);
            }
            None
        }
    };
    if let Some(rival) = d.s.rival.clone() {
        let text = format!("Rollout {rival} already releases this workload: delete one of the two");
        status::set(d, status::CONFLICT, true, "AnotherRollout", &text);
        // The entry is the other one's: that it is not ours means nothing.
        status::clear(d, status::GATED);
        return d.wait(Who::Person, text);
    }
    status::clear(d, status::CONFLICT);
    let snapshot = d.s;
    let Some(view) = snapshot.workload.as_ref().filter(|v| !v.deleting && !let_go::other(d, v))
    else {
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
        match idle::look(d, view) {
            Look::NotYet => return,
            Look::Idle => return gate::ensure(d, view),
            Look::Begun => gate::ensure(d, view),
        }
    }
    progress(d, plan.as_deref(), view);
    if d.status.release.is_some() {
        gate::ensure(d, view);
    }
}

/// What is wrong is said with path, value and remedy.
fn invalid(d: &mut Draft<'_>, errors: &[spec::SpecError]) {
    let text = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    let stage = d.status.release.as_ref().map(|r| r.stage);
    let meanwhile = match stage {
        None => "",
        Some(Stage::RollingBack | Stage::LettingGo) => {
            "; the release needs no plan on its way back"
        }
        Some(_) => "; the release stays where it is, abort and undo work",
    };
    let said = format!("{text}{meanwhile}");
    if status::set(d, status::INVALID_SPEC, true, "InvalidSpec", &said) {
        d.warn("InvalidSpec", said);
    }
    if stage.is_none() {
        d.wait(Who::Person, fix(&text));
    }
}

/// The entry of a release that is over holds nothing any more, whatever the spec says by now.
fn end_hold(d: &mut Draft<'_>) {
    let snapshot = d.s;
    let ours = |e: &&crate::api::GateEntry| e.rollout.as_deref() == Some(snapshot.name());
    let held = snapshot.entry().filter(ours).is_some_and(|e| e.release.is_some());
    if held && let Some(view) = &snapshot.workload {
        gate::ensure(d, view);
    }
}

fn fix(text: &str) -> String {
    format!("fix the Rollout: {text}")
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

/// One pass over a release under way. Without a valid plan it goes back, or lets go, and nowhere else.
fn progress(d: &mut Draft<'_>, plan: Option<&spec::Plan>, view: &DeploymentView) {
    // The wish was noted: one write at a time.
    if d.writes() {
        return;
    }
    requests::read(d, plan);
    match d.released().stage {
        Stage::RollingBack => back::run(d, view),
        Stage::LettingGo => let_go::run(d, view, false),
        Stage::Suspended => suspended(d, plan, view),
        Stage::Stepping | Stage::Finalising | Stage::Isolated => forward(d, plan, view),
    }
}

fn forward(d: &mut Draft<'_>, plan: Option<&spec::Plan>, view: &DeploymentView) {
    if bake::is_on(d) && d.released().stage == Stage::Finalising {
        return bake::forward(d, plan, view);
    }
    let release = d.released();
    if view.template_hash != release.template_hash {
        if back::is_stable(view, &release) {
            back::start(d, "UserRollback", "the stable template was put back", false);
            return back::run(d, view);
        }
        idle::next_version(d, view);
    }
    if view.replicas == 0 {
        return suspend(d, view);
    }
    match (d.released().stage, plan) {
        (Stage::Isolated, _) => isolated(d, view),
        (_, None) => stay(d, view),
        (Stage::Finalising, Some(plan)) => finish::run(d, plan, view),
        (_, Some(plan)) => steps::run(d, plan, view),
    }
}

/// The spec cannot be read: the release stays where it is.
fn stay(d: &mut Draft<'_>, view: &DeploymentView) {
    d.stop_clock();
    traffic::keep_carried(d, view, 0);
    rest(d, view);
    let errors = d.spec().err().unwrap_or_default();
    let text = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    d.wait(Who::Person, fix(&text));
}

/// At 0 replicas the native controller would start whatever template stands there when replicas return,
/// so the stable one is put back (no pod is touched) and the target is remembered.
fn suspend(d: &mut Draft<'_>, view: &DeploymentView) {
    set_aside(d, view, EMPTY);
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
    if !traffic::to_native(d, Way::Back, false) {
        return;
    }
    let template = view.template.to_string();
    let write = deployment::put_back(view, &stable.template, &release.originals);
    let now = d.now;
    let r = d.release();
    let again = r.stage == Stage::Suspended;
    r.stage = Stage::Suspended;
    r.suspended_template = Some(template);
    r.since = Some(crate::api::Time(now));
    if !again {
        // A GitOps tool applies its manifest every few seconds.
        d.event("Suspended", why);
    }
    d.write(view, write);
    let who = if view.replicas == 0 { Who::Person } else { Who::Pods };
    d.wait(who, why);
}

/// Waits for replicas, lets the stable version come up, then lets the new template in again.
fn suspended(d: &mut Draft<'_>, plan: Option<&spec::Plan>, view: &DeploymentView) {
    let release = d.released();
    let stored = release.suspended_template.as_deref().and_then(|t| serde_json::from_str(t).ok());
    let Some(target) = stored else {
        back::start(d, "Suspended", "the remembered template cannot be read", false);
        return back::run(d, view);
    };
    let min_ready = release.originals.min_ready_seconds.unwrap_or(0);
    let stable = view.by_hash(&release.stable);
    let (ready, wake) = stable.map_or((0, None), |rs| rs.available_after(min_ready, d.now));
    let others = view.active().any(|rs| rs.hash != release.stable);
    if !back::is_stable(view, &release) {
        if view.template_hash != release.template_hash {
            // Somebody brought a third version meanwhile.
            idle::next_version(d, view);
        }
        let alone = view.replicas == 1 && d.released().shared;
        if view.replicas > 0 && (ready < view.replicas || others || alone) {
            // Let in now, the native controller would take the stable pods that are not ready yet first.
            return set_aside(d, view, COMING_BACK);
        }
        let r = d.release();
        r.suspended_template = None;
        r.stage = Stage::Stepping;
        d.enter(crate::api::status::StepState::BeforeStepUpgrade);
        overdue::begin(d);
        if view.replicas > 0 {
            d.event("Resumed", format!("{} replicas are back: the release goes on", view.replicas));
        }
        return forward(d, plan, view);
    }
    if view.replicas == 0 {
        return d.wait(Who::Person, EMPTY);
    }
    d.wake_at(wake);
    if others && let Some(write) = deployment::give_back(view, &release.originals, false, false) {
        if back::counted(d, view, min_ready) {
            d.write(view, write);
        }
        return d.wait(Who::Pods, "the native controller to bring the stable version back");
    }
    if ready < view.replicas || others || !view.settled() {
        return d
            .wait(Who::Pods, format!("{ready} of {} stable pods are ready again", view.replicas));
    }
    if view.replicas == 1 && release.shared {
        return d.wait(Who::Person, ONE_REPLICA);
    }
    // The stage changes when the template is seen: a refused write must not look like a rollback.
    let write = deployment::put_back(view, &target, &release.originals);
    d.write(view, write);
    d.wait(Who::Pods, "the new template is let in again");
}

/// No traffic to the new version; its pods stay to be looked at.
fn isolated(d: &mut Draft<'_>, view: &DeploymentView) {
    if !traffic::to_stable(d, view, Way::Back) {
        return;
    }
    rest(d, view);
    let left = d.status.traffic.as_ref().and_then(|t| t.observed.clone());
    let how = match left.filter(|t| t != "0%") {
        _ if d.spec().is_ok_and(|plan| plan.traffic.is_empty()) => {
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
        // Said once: the status that says so is written with it.
        d.consumed = true;
        d.warn("Isolated", format!("{cause}; {text}"));
    }
    d.wait(Who::Person, text);
}

/// Brings the workload to its rest when that loses nothing. True when it rests.
pub(crate) fn rest(d: &mut Draft<'_>, view: &DeploymentView) -> bool {
    let release = d.released();
    if d.writes() || !deployment::can_rest(view) {
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
