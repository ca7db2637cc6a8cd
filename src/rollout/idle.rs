//! Between releases: what is stable, and whether there is something new.

use super::snapshot::Proof;
use super::types::{Action, Who};
use super::{Draft, gate, hooks, let_go, machine, status, windows};
use crate::api::KnobFields;
use crate::api::common::Time;
use crate::api::status::{CanaryStatus, Phase, ReleaseStatus, RequestVerb, Stage, StepState};
use crate::workload::{DeploymentView, ReplicaSetView, deployment};

/// What a look at a workload without a release comes to.
pub(crate) enum Look {
    /// A release has just begun.
    Begun,
    /// Nothing is new, or what is new waits.
    Idle,
    /// What a lost release left is given back first, or nobody knows which version is stable: its entry is
    /// not to be written.
    NotYet,
}

/// Looks at a workload without a release.
pub(crate) fn look(d: &mut Draft<'_>, view: &DeploymentView) -> Look {
    let two = view.active().count() > 1;
    let lost = view.under_knob() || (two && d.s.entry().is_some_and(|e| e.release.is_some()));
    if lost && !left_over(d, view, two) {
        return Look::NotYet;
    }
    if !let_go::give_surge_back(d, view) {
        d.wait(Who::Pods, "the user's maxSurge to be given back");
        return Look::Idle;
    }
    let stable = match stable_of(d, view) {
        Some(stable) => stable,
        None if two => {
            in_between(d, view);
            return Look::NotYet;
        }
        None => {
            d.wait(Who::Pods, "the Deployment's first ReplicaSet");
            return Look::Idle;
        }
    };
    if stable.template_hash == view.template_hash {
        settled(d, view, stable);
        return Look::Idle;
    }
    let mut retried = false;
    if let Some(rejected) = d.status.rejected.clone() {
        if rejected.template_hash == view.template_hash {
            if !is_retried(d) {
                held(d, view, stable, &rejected.reason);
                return Look::Idle;
            }
            retried = true;
            d.event("Retried", "the rejected template is tried again");
        }
        d.status.rejected = None;
    }
    start(d, view, &stable.hash);
    if retried {
        windows::overrule(d);
    }
    Look::Begun
}

/// Whether somebody wants the rejected template tried again. There is no release for anything else: an
/// alert's abort that comes late, or somebody's second one, must not let the template in.
fn is_retried(d: &mut Draft<'_>) -> bool {
    let Some(request) = d.status.request.take() else { return false };
    d.consumed = true;
    let last = d.status.last_release.as_ref().map(|release| &release.id);
    let why = if request.release.is_some() && request.release.as_ref() != last {
        "the request was for another release"
    } else if request.verb != RequestVerb::Retry {
        "no release is under way, and the template that failed is let in by retry alone"
    } else {
        return true;
    };
    let by = request.by.as_deref().unwrap_or("somebody");
    d.warn("RequestDropped", format!("{:?} by {by}: {why}", request.verb));
    false
}

/// A knob whose release is gone: the fields are given back from what the Gate remembers.
fn left_over(d: &mut Draft<'_>, view: &DeploymentView, two: bool) -> bool {
    let entry = d.s.entry().cloned().unwrap_or_default();
    let user = entry.originals.unwrap_or_else(|| KnobFields {
        min_ready_seconds: view.active().next().map(|rs| rs.min_ready_seconds),
        progress_deadline_seconds: Some(600),
        ..view.fields.clone()
    });
    let noted = !two || let_go::note(d, view, &user);
    let write = deployment::give_back(view, &user, two, two);
    if noted && write.is_none() {
        return true;
    }
    if let Some(write) = write {
        d.warn("LeftOver", "a knob without a release was found: the fields are given back");
        d.write(view, write);
    }
    d.wait(Who::Pods, "the fields of a lost release to be given back");
    false
}

/// The stable ReplicaSet. Of several that live it is the one that is known to be.
fn stable_of<'v>(d: &Draft<'_>, view: &'v DeploymentView) -> Option<&'v ReplicaSetView> {
    let recorded = d.status.canary_status.as_ref().and_then(|c| c.stable_revision.clone());
    let known = recorded.as_deref().and_then(|hash| view.by_hash(hash));
    let active: Vec<&ReplicaSetView> =
        view.replica_sets.iter().filter(|r| r.replicas > 0).collect();
    match active.as_slice() {
        [] => known.or_else(|| view.current()),
        [only] => Some(*only),
        several => known.filter(|k| several.iter().any(|a| a.hash == k.hash)),
    }
}

/// An update is under way that did not begin here, and which of its versions is stable is not known. Until
/// it has ended it is its user's: an entry would keep a paused one from being resumed.
fn in_between(d: &mut Draft<'_>, view: &DeploymentView) {
    drop_request(d);
    let_go::ungate(d, view);
    if view.fields.paused {
        let text = "an update that is paused between two versions: kubectl rollout resume goes on, \
                    kubectl rollout undo after it goes back";
        d.wait(Who::Person, text);
    } else {
        d.wait(Who::Pods, "an update that was under way before Sluice came to end");
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
    drop_request(d);
    status::set(d, status::PROGRESSING, false, "Completed", "no release is under way");
}

fn drop_request(d: &mut Draft<'_>) {
    if d.status.request.take().is_some() {
        d.consumed = true;
        d.warn("RequestDropped", "there is no release under way");
    }
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
    d.status.verdict = None;
    d.status.verdicts.clear();
    hooks::forget(d);
    d.status.approved_by = None;
    d.status.request = None;
    if let Some(c) = d.status.canary_status.as_mut() {
        // Where the last release came to is nobody's wish for this one.
        (c.next_step_index, c.current_step_state) = (None, None);
    }
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
    d.status.verdict = None;
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
