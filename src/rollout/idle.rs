//! Between releases: what is stable, and whether there is something new.

use super::snapshot::Proof;
use super::types::{Action, Who};
use super::{Draft, gate, hooks, let_go, machine, status, windows};
use crate::api::KnobFields;
use crate::api::common::Time;
use crate::api::status::{CanaryStatus, Phase, ReleaseStatus, Stage, StepState};
use crate::workload::{DeploymentView, ReplicaSetView, deployment};

/// Looks at a workload without a release. True when one has just begun.
pub(crate) fn look(d: &mut Draft<'_>, view: &DeploymentView) -> bool {
    if view.under_knob() && !left_over(d, view) {
        return false;
    }
    if !let_go::give_surge_back(d, view) {
        d.wait(Who::Pods, "the user's maxSurge to be given back");
        return false;
    }
    let Some(stable) = stable_of(d, view) else { return false };
    if stable.template_hash == view.template_hash {
        settled(d, view, stable);
        return false;
    }
    let mut retried = false;
    if let Some(rejected) = d.status.rejected.clone() {
        if rejected.template_hash == view.template_hash && d.status.request.is_none() {
            held(d, view, stable, &rejected.reason);
            return false;
        }
        if rejected.template_hash == view.template_hash {
            d.status.request = None;
            d.consumed = true;
            retried = true;
            d.event("Retried", "the rejected template is tried again");
        }
        d.status.rejected = None;
    }
    start(d, view, &stable.hash);
    if retried {
        windows::overrule(d);
    }
    true
}

/// A knob whose release is gone: the fields are given back from what the Gate remembers.
fn left_over(d: &mut Draft<'_>, view: &DeploymentView) -> bool {
    let entry = d.s.entry().cloned().unwrap_or_default();
    let user = entry.originals.unwrap_or_else(|| KnobFields {
        min_ready_seconds: view.active().next().map(|rs| rs.min_ready_seconds),
        progress_deadline_seconds: Some(600),
        ..view.fields.clone()
    });
    let two = view.active().count() > 1;
    if let Some(write) = deployment::give_back(view, &user, two, two) {
        if two {
            let_go::note(d, view, &user);
        }
        d.warn("LeftOver", "a knob without a release was found: the fields are given back");
        d.write(view, write);
        d.wait(Who::Pods, "the fields of a lost release to be given back");
        return false;
    }
    true
}

/// The stable ReplicaSet, or `None` with the reason for waiting.
fn stable_of<'v>(d: &mut Draft<'_>, view: &'v DeploymentView) -> Option<&'v ReplicaSetView> {
    let recorded = d.status.canary_status.as_ref().and_then(|c| c.stable_revision.clone());
    let known = recorded.as_deref().and_then(|hash| view.by_hash(hash));
    let active: Vec<&ReplicaSetView> =
        view.replica_sets.iter().filter(|r| r.replicas > 0).collect();
    match active.as_slice() {
        [] => {
            let found = known.or_else(|| view.current());
            if found.is_none() {
                d.wait(Who::Pods, "the Deployment's first ReplicaSet");
            }
            found
        }
        [only] => Some(*only),
        several => {
            if let Some(known) = known.filter(|k| several.iter().any(|a| a.hash == k.hash)) {
                return Some(known);
            }
            d.wait(Who::Pods, "an update that was under way before Sluice came to end");
            None
        }
    }
}

/// Nothing is new.
fn settled(d: &mut Draft<'_>, view: &DeploymentView, stable: &ReplicaSetView) {
    let released = d.status.rejected.as_ref().map(|r| r.template_hash == view.template_hash);
    if released == Some(true) {
        d.status.rejected = None;
    }
    // The pause that held a rejected template is ours to lift, not the user's to keep.
    if status::find(d, status::TEMPLATE_HELD).is_some() {
        if view.fields.paused && !gate::noted_pause(d) {
            let user = KnobFields { paused: false, ..view.fields.clone() };
            if let Some(write) = deployment::give_back(view, &user, false, false) {
                d.write(view, write);
            }
            d.wait(Who::Pods, "the held template's pause to be lifted");
        } else {
            status::clear(d, status::TEMPLATE_HELD);
        }
    }
    let phase = machine::idle_phase(&d.status);
    d.status.phase = Some(phase);
    let c = d.status.canary_status.get_or_insert_with(CanaryStatus::default);
    c.stable_revision = Some(stable.hash.clone());
    c.canary_revision = Some(stable.hash.clone());
    c.pod_template_hash = Some(stable.hash.clone());
    c.current_step_state = Some(StepState::Completed);
    d.status.current_step_state = Some(StepState::Completed);
    if d.status.request.take().is_some() {
        d.consumed = true;
        d.warn("RequestDropped", "there is no release under way");
    }
    status::set(d, status::PROGRESSING, false, "Completed", "no release is under way");
}

/// The template failed before: it is held until `retry` or another template.
fn held(d: &mut Draft<'_>, view: &DeploymentView, stable: &ReplicaSetView, reason: &str) {
    d.status.phase = Some(Phase::Failed);
    status::set(d, status::TEMPLATE_HELD, true, "Rejected", reason);
    d.wait(
        Who::Person,
        format!(
            "this template failed before ({reason}): kubectl sluice retry, or another template"
        ),
    );
    if view.replicas == 0 {
        let user = view.fields.clone();
        return d.write(view, deployment::put_back(view, &stable.template, &user));
    }
    if let Some(write) = deployment::hold(view) {
        d.write(view, write);
    }
}

/// A release's identity. A workload that was made again counts its generations from the start, and the
/// runs of an earlier release must not be read as this one's.
fn fresh_id(d: &Draft<'_>, view: &DeploymentView) -> String {
    let known = |id: &str| {
        let mut runs = d.s.runs.values().filter_map(|run| run.spec.release.as_ref());
        runs.any(|release| release.id == id)
    };
    let mut count = view.generation;
    loop {
        let id = format!("{}-{count}", view.template_hash);
        if !known(&id) {
            return id;
        }
        count += 1;
    }
}

/// Starts a release: the entry with the originals, then the status, then the first move.
fn start(d: &mut Draft<'_>, view: &DeploymentView, stable: &str) {
    let left = d.s.left();
    let mut originals =
        left.map_or_else(|| view.fields.clone(), |left| deployment::remembered(view, left));
    originals.paused = gate::noted_pause(d);
    let id = fresh_id(d, view);
    let now = Time(d.now);
    d.status.phase = Some(Phase::Progressing);
    d.status.verdicts.clear();
    hooks::forget(d);
    d.status.approved_by = None;
    d.status.request = None;
    d.status.release = Some(ReleaseStatus {
        id: id.clone(),
        workload: Some(view.uid.clone()),
        template_hash: view.template_hash.clone(),
        stable: stable.to_owned(),
        canary: None,
        started_at: Some(now.clone()),
        stage: Stage::Stepping,
        state: StepState::BeforeStepUpgrade,
        since: Some(now.clone()),
        step_since: Some(now),
        originals,
        attempt: 1,
        // Without a gate in force some pods may have been made already.
        backward: view.current().is_some_and(|rs| rs.replicas > 0),
        ..ReleaseStatus::default()
    });
    status::clear(d, status::TEMPLATE_HELD);
    d.before.push(Action::Finalizer(true));
    status::set(d, status::PROGRESSING, true, "InRolling", "a release is under way");
    d.event("ReleaseStarted", format!("release {id}: a new version of {} is held", view.name));
    if matches!(d.s.proof, Proof::Held { .. }) && !view.fields.paused {
        d.warn("GateEscaped", "the new version was not paused when it was seen: repaired");
    }
}

/// A third version in mid-release: the plan begins again with it, from the same stable version.
pub(crate) fn next_version(d: &mut Draft<'_>, view: &DeploymentView) {
    let id = fresh_id(d, view);
    let now = Time(d.now);
    let was = d.released().id;
    super::analyses::end_all(d);
    d.status.verdicts.clear();
    hooks::forget(d);
    d.status.phase = Some(Phase::Progressing);
    let r = d.release();
    r.id = id.clone();
    r.template_hash = view.template_hash.clone();
    r.canary = None;
    r.stage = Stage::Stepping;
    r.step = 0;
    r.state = StepState::BeforeStepUpgrade;
    r.since = Some(now.clone());
    r.step_since = Some(now);
    r.frozen_step = None;
    r.attempt = 1;
    r.skip = false;
    r.held = None;
    r.window = None;
    r.hook = None;
    r.cause = None;
    r.cause_reason = None;
    r.suspended_template = None;
    r.baking_since = None;
    r.shared = false;
    // An older version may have pods still, and one that went back a pod too many.
    let too_many = r.backward && view.total() > view.replicas;
    r.backward = too_many || view.current().is_some_and(|rs| rs.replicas > 0);
    d.event("NextVersion", format!("release {id} takes the place of {was}, from the first step"));
}
