//! The Gate's entry: what the admission policy reads. Its presence gates the workload; a release in it
//! holds the knob.

use jiff::SignedDuration;

use super::snapshot::Proof;
use super::types::{Action, Who};
use super::{Draft, let_go, status};
use crate::api::GateEntry;
use crate::api::common::Time;
use crate::api::status::{GateKind, GateStatus, Stage};
use crate::workload::DeploymentView;

/// Where a Gate stops growing: etcd takes 1.5 MiB, and a patch must stay cheap.
const ENTRIES_MAX: usize = 5_000;

/// How soon a dry run that was refused is asked for again though nothing happens, and the longest until one
/// is made again that went through.
const ASK_AGAIN: SignedDuration = SignedDuration::from_mins(5);

/// How soon a dry run that went through is made again. A new policy or Gate is in force within a second or
/// two; after that the time that has passed since the first try is let pass again.
const ASK_SOON: SignedDuration = SignedDuration::from_secs(2);

/// Makes the entry say what is, and asks for a proof where there is none.
pub(crate) fn ensure(d: &mut Draft<'_>, view: &DeploymentView) {
    let wanted = entry(d, view);
    let account_right =
        d.s.gate.as_ref().is_some_and(|g| g.spec.account.as_ref() == Some(&d.s.account));
    if d.s.entry() != Some(&wanted) || !account_right {
        let full = d.s.gate.as_ref().is_some_and(|g| g.spec.deployments.len() >= ENTRIES_MAX);
        if full && d.s.entry().is_none() {
            let text = format!("the namespace's Gate has {ENTRIES_MAX} entries already");
            status::set(d, status::GATED, false, "GateFull", &text);
            return d.wait(Who::Person, text);
        }
        let action = Action::Gate { workload: view.name.clone(), entry: Some(Box::new(wanted)) };
        // One write, with what the whole pass has come to.
        let own = |a: &Action| matches!(a, Action::Gate { workload, .. } if *workload == view.name);
        d.before.retain(|a| !own(a));
        d.before.insert(0, action);
    } else if asks(d) {
        let held = d.status.release.is_some();
        d.after.retain(|a| !matches!(a, Action::Prove { .. }));
        d.after.push(Action::Prove { workload: view.name.clone(), held });
    }
    let taken_up = d.status.release.as_ref().is_some_and(|r| r.stage != Stage::LettingGo);
    if taken_up {
        // The release has the user's fields now.
        let_go::forget(d, view);
    }
    status::set(d, status::GATED, true, "Gated", "a new version of the workload is held");
    d.status.gate = Some(match &d.s.proof {
        Proof::Held { at } => {
            GateStatus { kind: GateKind::Policy, proven_at: Some(Time(*at)), message: None }
        }
        Proof::NotHeld { reason, .. } => GateStatus {
            kind: GateKind::Repair,
            proven_at: None,
            message: Some(format!("the controller pauses within one watch event: {reason}")),
        },
        Proof::Refused { reason } => GateStatus {
            kind: GateKind::Repair,
            proven_at: None,
            message: Some(format!("not proven: the dry run was refused: {reason}")),
        },
        Proof::Unknown => match d.status.gate.take() {
            Some(known) => known,
            None => GateStatus {
                kind: GateKind::Repair,
                proven_at: None,
                message: Some("not proven yet".into()),
            },
        },
    });
}

/// Whether a dry run is due.
fn asks(d: &mut Draft<'_>) -> bool {
    match &d.s.proof {
        Proof::Unknown => true,
        Proof::Refused { .. } => {
            d.wake_in(ASK_AGAIN);
            true
        }
        Proof::NotHeld { tried: Some((first, last)), .. } => {
            let span = last.duration_since(*first).clamp(ASK_SOON, ASK_AGAIN);
            let due = last.saturating_add(span).unwrap_or(d.now);
            d.wake_at(Some(due).filter(|due| d.now < *due));
            d.now >= due
        }
        Proof::NotHeld { tried: None, .. } | Proof::Held { .. } => false,
    }
}

/// The entry as it should be now.
fn entry(d: &Draft<'_>, view: &DeploymentView) -> GateEntry {
    let rollout = Some(d.s.name().to_owned());
    match &d.status.release {
        Some(release) => GateEntry {
            rollout,
            release: Some(release.id.clone()),
            paused_by_user: None,
            min_ready_seconds: release.originals.min_ready_seconds.filter(|s| *s != 0),
            originals: Some(release.originals.clone()),
        },
        None => {
            let idle = view.current().is_some_and(|rs| rs.replicas == view.replicas);
            let ours = status::find(d, status::TEMPLATE_HELD).is_some();
            let paused = if idle && !ours { view.fields.paused } else { noted_pause(d) };
            GateEntry { rollout, paused_by_user: paused.then_some(true), ..GateEntry::default() }
        }
    }
}

/// The pause that the user made while idle, as the entry has it.
pub(crate) fn noted_pause(d: &Draft<'_>) -> bool {
    d.s.entry().and_then(|e| e.paused_by_user).unwrap_or(false)
}
