//! Leaving: the Rollout is disabled or deleted, the Gate was taken away, or the workload is gone.
//!
//! The workload stays where it is, held by its own native word. It never runs ahead.

use super::types::{Action, Who};
use super::{Draft, analyses, back, status, traffic};
use crate::api::common::Time;
use crate::api::rollout::OnDelete;
use crate::api::status::{LastRelease, Phase, Stage};
use crate::spec;
use crate::workload::{DeploymentView, deployment};

/// The Rollout is deleted or disabled.
pub(crate) fn leave(d: &mut Draft<'_>, deleting: bool) {
    let ended = if deleting { Phase::Terminating } else { Phase::Disabled };
    let snapshot = d.s;
    let Some(view) = &snapshot.workload else {
        workload_gone(d);
        d.status.phase = Some(ended);
        // Routes and Services first: without the Rollout nobody would put them right.
        if d.status.release.is_none() {
            finalizer_off(d);
        }
        return;
    };
    if d.status.release.is_none() {
        return gone(d, ended);
    }
    d.status.phase = Some(if deleting { Phase::Terminating } else { Phase::Disabling });
    let finish = d.s.rollout.spec.on_delete == Some(OnDelete::Finish);
    if d.s.rollout.spec.on_delete == Some(OnDelete::Rollback)
        && let Ok(plan) = d.spec()
    {
        return roll_back_first(d, &plan, view);
    }
    if d.released().stage != Stage::LettingGo {
        let text = if deleting { "the Rollout was deleted" } else { "the Rollout was disabled" };
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
fn roll_back_first(d: &mut Draft<'_>, plan: &spec::Plan, view: &DeploymentView) {
    let phase = d.status.phase;
    if d.released().stage != Stage::RollingBack {
        back::start(d, "OnDelete", "the Rollout goes and onDelete is Rollback", false);
    }
    back::run(d, plan, view);
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

fn remove_entry(d: &mut Draft<'_>) {
    if d.s.entry().is_some_and(|e| e.rollout.as_deref() == Some(d.s.name())) {
        let workload = d.s.rollout.spec.workload_ref.name.clone();
        d.before.push(Action::Gate { workload, entry: None });
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
    if !traffic::to_native(d, true) {
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
    let untouched = back::is_stable(view, &release) && !two;
    let paused = if untouched { release.originals.paused } else { !finish };
    if let Some(write) = deployment::give_back(view, &release.originals, paused, two && !finish) {
        d.write(view, write);
        return d.wait(Who::Pods, "the fields to be given back");
    }
    let how = if paused && two {
        "paused with maxSurge 0, the one field that is not yours: kubectl rollout resume goes on, \
         kubectl sluice undo goes back"
    } else if paused {
        "paused: kubectl rollout resume goes on, kubectl sluice undo goes back"
    } else {
        "its own controller finishes the update"
    };
    d.warn("Released", format!("Deployment {} is let go, {how}", view.name));
    d.status.last_release = Some(LastRelease {
        id: release.id.clone(),
        decision: "LetGo".into(),
        reason: release.cause.clone(),
        started_at: release.started_at.clone(),
        ended_at: Some(Time(d.now)),
    });
    d.status.release = None;
    d.status.traffic = None;
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

/// The workload does not exist: routes and Services are restored, the release is over.
pub(crate) fn workload_gone(d: &mut Draft<'_>) {
    let reference = d.s.rollout.spec.workload_ref.clone();
    let text = format!("{} {} does not exist: create it", reference.kind, reference.name);
    remove_entry(d);
    if d.status.release.is_some() {
        analyses::end_all(d);
        if !traffic::to_native(d, true) {
            return;
        }
        let release = d.released();
        d.warn("WorkloadGone", format!("release {}: {text}", release.id));
        d.status.last_release = Some(LastRelease {
            id: release.id,
            decision: "LetGo".into(),
            reason: Some("the workload was deleted".into()),
            started_at: release.started_at,
            ended_at: Some(Time(d.now)),
        });
        d.status.release = None;
        d.after.push(Action::Finalizer(false));
    }
    status::clear(d, status::GATED);
    d.status.phase = Some(Phase::Initial);
    d.status.canary_status = None;
    d.status.rejected = None;
    d.status.gate = None;
    d.wait(Who::Cluster, text);
}
