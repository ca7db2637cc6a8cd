//! Leaving: the Rollout is disabled or deleted, the Gate was taken away, or the workload is gone.
//!
//! The workload stays where it is, held by its own native word. It never runs ahead.

use super::accepted::Way;
use super::types::{Action, Who};
use super::{Draft, analyses, back, finish, status, traffic};
use crate::api::KnobFields;
use crate::api::common::Time;
use crate::api::rollout::OnDelete;
use crate::api::status::{Phase, Stage};
use crate::workload::{DeploymentView, deployment};

/// The Rollout is deleted or disabled.
pub(crate) fn leave(d: &mut Draft<'_>, deleting: bool) {
    let ended = if deleting { Phase::Terminating } else { Phase::Disabled };
    let snapshot = d.s;
    let Some(view) = snapshot.workload.as_ref().filter(|v| !other(d, v)) else {
        workload_gone(d);
        d.status.phase = Some(ended);
        // Routes and Services first: without the Rollout nobody would put them right.
        if d.status.release.is_none() {
            finalizer_off(d);
        }
        return;
    };
    if d.status.release.is_none() {
        give_surge_back(d, view);
        return gone(d, ended);
    }
    d.status.phase = Some(if deleting { Phase::Terminating } else { Phase::Disabling });
    let finish = d.s.rollout.spec.on_delete == Some(OnDelete::Finish);
    let release = d.released();
    if release.stage != Stage::LettingGo {
        let text = if deleting { "the Rollout was deleted" } else { "the Rollout was disabled" };
        if d.s.rollout.spec.on_delete == Some(OnDelete::Rollback) {
            if view.by_hash(&release.stable).is_some() {
                return roll_back_first(d, view);
            }
            // Holding is no end for something that goes: what can be kept is kept.
            let set = &release.stable;
            let note = format!(
                "{text} and onDelete is Rollback, but the stable ReplicaSet {set} is gone: let go \
                 as by Hold"
            );
            d.warn("RollbackImpossible", note);
        }
        begin(d, "LetGo", text);
    }
    run(d, view, finish);
    if d.status.release.is_none() {
        gone(d, ended);
    }
}

/// Nothing is left of ours. Until the spec changes, nothing is gated again.
fn gone(d: &mut Draft<'_>, ended: Phase) {
    remove_entry(d);
    d.status.phase = Some(ended);
    status::clear(d, status::GATED);
    status::set(d, status::RELEASED, true, "LetGo", "the workload is nobody's");
    finalizer_off(d);
}

/// `onDelete: Rollback`: the way back first, then nothing is left to let go.
fn roll_back_first(d: &mut Draft<'_>, view: &DeploymentView) {
    let phase = d.status.phase;
    if d.released().stage != Stage::RollingBack {
        back::start(d, "OnDelete", "the Rollout goes and onDelete is Rollback", false);
    }
    back::run(d, view);
    if d.status.release.is_some() {
        d.status.phase = phase;
        super::gate::ensure(d, view);
    } else {
        remove_entry(d);
    }
}

/// Takes our finalizer away, after the status is written.
pub(crate) fn finalizer_off(d: &mut Draft<'_>) {
    let has = d.s.rollout.metadata.finalizers.as_ref();
    let ours = has.is_some_and(|f| f.iter().any(|f| f == crate::api::FINALIZER));
    let planned = d.after.contains(&Action::Finalizer(false));
    if ours && !planned {
        d.after.push(Action::Finalizer(false));
    }
}

/// Notes the user's own fields of a workload that stays at rest with two versions. True when they are noted
/// already.
pub(crate) fn note(d: &mut Draft<'_>, view: &DeploymentView, user: &KnobFields) -> bool {
    let left = deployment::left_at_rest(view, user, d.s.name());
    if d.s.left() == Some(&left) {
        return true;
    }
    let workload = view.name.clone();
    d.before.insert(0, Action::LetGo { workload, left: Some(Box::new(left)) });
    false
}

/// Nothing has to be remembered of the workload any more.
pub(crate) fn forget(d: &mut Draft<'_>, view: &DeploymentView) {
    let action = Action::LetGo { workload: view.name.clone(), left: None };
    if d.s.left().is_some() && !d.after.contains(&action) {
        d.after.push(action);
    }
}

/// A workload that was let go gets its user's surge back when no second ReplicaSet lives any more. False
/// while that is being written.
pub(crate) fn give_surge_back(d: &mut Draft<'_>, view: &DeploymentView) -> bool {
    let Some(left) = d.s.left() else { return true };
    if view.active().count() > 1 {
        return true;
    }
    let user = deployment::remembered(view, left);
    if let Some(write) = deployment::give_back(view, &user, view.fields.paused, false) {
        d.write(view, write);
        return false;
    }
    forget(d, view);
    true
}

fn remove_entry(d: &mut Draft<'_>) {
    if d.s.entry().is_some_and(|e| e.rollout.as_deref() == Some(d.s.name())) {
        let workload = d.s.rollout.spec.workload_ref.name.clone();
        d.before.push(Action::Gate { workload, entry: None });
    }
}

/// Nothing is gated for now. The entry goes after the status: one that is missing while the status says
/// `Gated` was taken away by somebody.
pub(crate) fn ungate(d: &mut Draft<'_>, view: &DeploymentView) {
    status::clear(d, status::GATED);
    d.status.gate = None;
    if d.s.entry().is_some_and(|e| e.rollout.as_deref() == Some(d.s.name())) {
        d.after.push(Action::Gate { workload: view.name.clone(), entry: None });
    }
}

/// Workloads that the Rollout named before are nobody's any more, and what is known of them says nothing of
/// the one that it names now. No release is under way: its workload cannot be changed.
pub(crate) fn leave_former(d: &mut Draft<'_>) {
    let snapshot = d.s;
    let own = &snapshot.rollout.spec.workload_ref.name;
    let entries = snapshot.gate.iter().flat_map(|gate| &gate.spec.deployments);
    let ours = entries.filter(|(_, entry)| entry.rollout.as_deref() == Some(snapshot.name()));
    for (workload, _) in ours.filter(|(workload, _)| *workload != own) {
        d.warn("Released", format!("Deployment {workload} is let go: workloadRef names {own}"));
        d.after.push(Action::Gate { workload: workload.clone(), entry: None });
        d.status.canary_status = None;
        d.status.rejected = None;
        d.status.gate = None;
        status::clear(d, status::TEMPLATE_HELD);
        status::clear(d, status::GATED);
    }
}

/// Begins to let go: first of all the entry, so that everybody is free at once.
fn begin(d: &mut Draft<'_>, reason: &'static str, text: &str) {
    analyses::end_all(d);
    let now = Time(d.now);
    let r = d.release();
    r.stage = Stage::LettingGo;
    r.cause = Some(text.to_owned());
    r.cause_reason = Some(reason.to_owned());
    r.since = Some(now);
    d.warn("LettingGo", text.to_owned());
}

/// Restores traffic and fields; the Deployment is left paused unless it is to finish.
pub(crate) fn run(d: &mut Draft<'_>, view: &DeploymentView, finish: bool) {
    remove_entry(d);
    if !traffic::to_native(d, Way::Back, true) {
        return;
    }
    let mut release = d.released();
    if let Some(text) = &view.wanted {
        // What somebody wanted and nobody has noted yet is given back too.
        let (fields, _) =
            deployment::read_wanted(text, &release.id, &view.fields, &release.originals);
        d.release().originals.clone_from(&fields);
        release.originals = fields;
    }
    let two = view.active().count() > 1;
    let all = view.replicas > 0 && view.current().is_some_and(|rs| rs.replicas == view.replicas);
    let held = two || !(all || back::is_stable(view, &release));
    let paused = if held { !finish } else { release.originals.paused };
    if two && !finish {
        note(d, view, &release.originals);
    }
    let fields = deployment::give_back(view, &release.originals, paused, two && !finish);
    let min_ready = release.originals.min_ready_seconds.unwrap_or(0);
    if fields.is_some() && !back::counted(d, view, min_ready) {
        return;
    }
    if let Some(write) = fields {
        d.write(view, write);
        return d.wait(Who::Pods, "the fields to be given back");
    }
    let how = if paused && two {
        let left = deployment::left_at_rest(view, &release.originals, d.s.name());
        let surge = left.surge.unwrap_or(0);
        &format!(
            "paused with maxSurge {surge}, which is yours again when one ReplicaSet is left: kubectl \
             rollout resume goes on, kubectl rollout undo after it goes back"
        )
    } else if paused {
        "paused: kubectl rollout resume goes on, kubectl rollout undo after it goes back"
    } else if held {
        "its own controller finishes the update"
    } else {
        "as you wrote it"
    };
    d.warn("Released", format!("Deployment {} is let go, {how}", view.name));
    finish::record(d, "LetGo", release.cause);
    status::clear(d, status::GATED);
    status::set(d, status::PROGRESSING, false, "LetGo", "the workload is let go");
    d.after.push(Action::Finalizer(false));
}

/// Somebody took the entry or the Gate away: that means let go, until the Rollout's spec changes.
/// True when the workload is let go.
pub(crate) fn released_by_others(d: &mut Draft<'_>, view: &DeploymentView) -> bool {
    let generation = d.s.rollout.metadata.generation;
    if let Some(c) = status::find(d, status::RELEASED).filter(|c| c.status == "True") {
        if c.observed_generation == generation {
            if d.status.release.is_some() {
                run(d, view, false);
            } else {
                give_surge_back(d, view);
            }
            d.wait(
                Who::Person,
                "the workload was let go: edit the Rollout's spec to gate it again",
            );
            return true;
        }
        status::clear(d, status::RELEASED);
        return false;
    }
    let was = status::find(d, status::GATED).is_some_and(|c| c.status == "True");
    if !was || d.s.entry().is_some() {
        return false;
    }
    let text = "the Gate or its entry was removed: the workload is let go until the Rollout's spec \
                changes";
    status::set(d, status::RELEASED, true, "GateRemoved", text);
    status::set(d, status::GATED, false, "GateRemoved", text);
    if d.status.release.is_some() {
        begin(d, "GateRemoved", "the Gate or its entry was removed");
        run(d, view, false);
    } else {
        d.warn("Released", text);
    }
    d.wait(Who::Person, "the workload was let go: edit the Rollout's spec to gate it again");
    true
}

/// True for a workload that took the name of the one that is released.
pub(crate) fn other(d: &Draft<'_>, view: &DeploymentView) -> bool {
    let known = d.status.release.as_ref().and_then(|r| r.workload.as_ref());
    known.is_some_and(|uid| *uid != view.uid)
}

/// The workload does not exist: routes and Services are restored, the release is over.
pub(crate) fn workload_gone(d: &mut Draft<'_>) {
    let reference = d.s.rollout.spec.workload_ref.clone();
    let text = format!("{} {} does not exist: create it", reference.kind, reference.name);
    remove_entry(d);
    if d.status.release.is_some() {
        analyses::end_all(d);
        if !traffic::to_native(d, Way::Back, true) {
            return;
        }
        let release = d.released();
        d.warn("WorkloadGone", format!("release {}: {text}", release.id));
        finish::record(d, "LetGo", Some("the workload was deleted".into()));
        d.after.push(Action::Finalizer(false));
    }
    status::clear(d, status::GATED);
    d.status.phase = Some(Phase::Initial);
    d.status.canary_status = None;
    d.status.rejected = None;
    d.status.gate = None;
    d.wait(Who::Cluster, text);
}
