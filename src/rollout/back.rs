//! The way back: traffic leaves the new revision as fast as the stable one can carry it, then the stable
//! template is written and the native controller rolls back with the user's own strategy.

use super::accepted::Way;
use super::types::Who;
use super::{Draft, analyses, bake, finish, hooks, traffic};
use crate::api::common::Time;
use crate::api::rollout::HookPoint;
use crate::api::status::{Phase, Rejected, ReleaseStatus, Stage};
use crate::workload::{DeploymentView, NEVER_READY_SECONDS, Write, deployment};

/// True when the Deployment's template is the stable one.
pub(crate) fn is_stable(view: &DeploymentView, release: &ReleaseStatus) -> bool {
    view.by_hash(&release.stable).is_some_and(|rs| rs.template_hash == view.template_hash)
}

/// Begins the way back. `reject` remembers the template as one that failed.
pub(crate) fn start(d: &mut Draft<'_>, reason: &'static str, text: &str, reject: bool) {
    let now = Time(d.now);
    analyses::end_all(d);
    let release = d.released();
    if reject {
        d.status.rejected = Some(Rejected {
            template_hash: release.template_hash.clone(),
            reason: text.to_owned(),
            at: Some(now.clone()),
        });
    }
    let r = d.release();
    r.stage = Stage::RollingBack;
    r.cause = Some(text.to_owned());
    r.cause_reason = Some(reason.to_owned());
    r.since = Some(now);
    r.held = None;
    r.hook = None;
    d.warn("RollingBack", format!("release {}: {text}", release.id));
    hooks::announce(d, HookPoint::OnRollback);
}

/// Whether somebody could take the new version's traffic: where no stable pod is left, isolating would take
/// nothing away, and is going back instead.
pub(crate) fn can_isolate(d: &Draft<'_>) -> bool {
    let stable = d.s.workload.as_ref().and_then(|view| view.by_hash(&d.released().stable));
    !bake::is_on(d) && stable.is_some_and(|rs| rs.replicas > 0)
}

/// No more traffic to the new version, its pods stay.
pub(crate) fn isolate(d: &mut Draft<'_>, reason: &'static str, text: &str) {
    let now = Time(d.now);
    let release = d.released();
    analyses::end_all(d);
    d.status.phase = Some(Phase::Failed);
    d.status.rejected = Some(Rejected {
        template_hash: release.template_hash.clone(),
        reason: text.to_owned(),
        at: Some(now.clone()),
    });
    let r = d.release();
    r.stage = Stage::Isolated;
    r.cause = Some(text.to_owned());
    r.cause_reason = Some(reason.to_owned());
    r.since = Some(now);
    r.held = None;
    r.hook = None;
    hooks::announce(d, HookPoint::OnRollback);
    d.wake_in(jiff::SignedDuration::ZERO);
}

/// How much of the whole load the stable pods may carry: the user's own `maxUnavailable` says that
/// `n - maxUnavailable` pods carry all of it.
pub(crate) fn carried_percent(view: &DeploymentView, release: &ReleaseStatus, ready: i32) -> i32 {
    let (_, unavailable) = crate::workload::view::budget(&release.originals, view.replicas);
    let enough = (view.replicas - unavailable).max(1);
    (100 * ready / enough).clamp(0, 100)
}

/// Of several old ReplicaSets the native controller takes first, and oldest first, what does not count as
/// available, and means broken pods by that. So none of them may be under our own maximum any more when it
/// is let in. True when each counts its pods as the user's `minReadySeconds` says.
///
/// It also takes as many as are available beyond its least, by what the ReplicaSets' status says: pods that
/// it has just scaled away and that are still counted would cost as many that serve.
pub(crate) fn counted(d: &mut Draft<'_>, view: &DeploymentView, min_ready: i32) -> bool {
    if view.active().any(|rs| rs.status_replicas > rs.replicas) {
        d.wait(Who::Pods, "pods that were scaled away to be counted no more");
        return false;
    }
    let old = || view.active().filter(|rs| rs.template_hash != view.template_hash);
    if old().count() < 2 {
        return true;
    }
    for rs in old() {
        if rs.min_ready_seconds == NEVER_READY_SECONDS {
            let write = Write::MinReady {
                replica_set: rs.name.clone(),
                uid: rs.uid.clone(),
                resource_version: rs.resource_version.clone(),
                seconds: min_ready,
            };
            d.write(view, write);
            d.wait(Who::Pods, "old pods to count as available again");
            return false;
        }
        let (ready, wake) = rs.available_after(min_ready, d.now);
        d.wake_at(wake);
        if rs.available < ready {
            d.wait(Who::Pods, "old pods to count as available again");
            return false;
        }
    }
    true
}

/// Needs no plan: an edit that made the spec invalid does not stop the way back.
pub(crate) fn run(d: &mut Draft<'_>, view: &DeploymentView) {
    let release = d.released();
    let Some(stable) = view.by_hash(&release.stable) else {
        return d.wait(
            Who::Person,
            format!("the stable ReplicaSet {} is gone: push a template that works", release.stable),
        );
    };
    if !is_stable(view, &release) && view.template_hash != release.template_hash {
        // Somebody brought yet another version on the way back.
        super::idle::next_version(d, view);
        return d.wake_in(jiff::SignedDuration::ZERO);
    }
    let min_ready = release.originals.min_ready_seconds.unwrap_or(0);
    let (ready, wake) = stable.available_after(min_ready, d.now);
    d.wake_at(wake);
    let carried = carried_percent(view, &release, ready);
    if !traffic::back(d, view, carried, Way::Back) {
        return;
    }
    if !is_stable(view, &release) {
        let template = stable.template.clone();
        let write = deployment::put_back(view, &template, &release.originals);
        d.write(view, write);
        return d.wait(Who::Pods, "the stable template to be put back");
    }
    let n = view.replicas;
    let others: i32 = view
        .active()
        .filter(|rs| rs.hash != release.stable)
        .map(|rs| rs.replicas.max(rs.status_replicas))
        .sum();
    let home = view.settled() && others == 0 && ready >= n && stable.replicas == n;
    // The user's own pause from before the release comes back when every pod is.
    let paused = home && release.originals.paused;
    let resume = deployment::give_back(view, &release.originals, paused, false);
    if resume.is_some() && !counted(d, view, min_ready) {
        return;
    }
    if let Some(write) = resume {
        d.write(view, write);
        return d.wait(Who::Pods, "the native controller to roll back");
    }
    if !home {
        return d.wait(Who::Pods, format!("{ready} of {n} stable pods are ready again"));
    }
    if !traffic::to_native(d, Way::Back, true) {
        return;
    }
    finish::end(d, view, "RolledBack");
}
