//! The status as people read it: conditions, the step, the counts and the one sentence.

use jiff::Timestamp;

use super::types::{Urgency, WaitingOn, Who};
use super::{Draft, notes, requests, steps};
use crate::api::common::{Condition, Time};
use crate::api::status::{
    CanaryStatus, Phase, RolloutStatus, Stage, StepState, StepStatus, TrafficStatus,
};

/// kstatus: nothing is under way and nothing is wrong.
pub(crate) const READY: &str = "Ready";
/// kstatus: something is under way.
pub(crate) const RECONCILING: &str = "Reconciling";
/// kstatus: a person must act.
pub(crate) const STALLED: &str = "Stalled";
/// Kruise: a release is under way.
pub(crate) const PROGRESSING: &str = "Progressing";
/// Kruise: how the last release ended.
pub(crate) const SUCCEEDED: &str = "Succeeded";
/// A new version is held.
pub(crate) const GATED: &str = "Gated";
/// The workload was let go by somebody who removed the Gate or its entry.
pub(crate) const RELEASED: &str = "Released";
/// The spec is wrong.
pub(crate) const INVALID_SPEC: &str = "InvalidSpec";
/// A template that failed before is held, paused by us.
pub(crate) const TEMPLATE_HELD: &str = "TemplateHeld";
/// Another Rollout has the workload.
pub(crate) const CONFLICT: &str = "Conflict";
/// The workload cannot be released.
pub(crate) const UNSUPPORTED: &str = "Unsupported";
/// A Service or route is missing or cannot be used.
pub(crate) const TRAFFIC: &str = "TrafficBlocked";
/// Somebody else writes the routes.
pub(crate) const CONTENDED: &str = "RouteContended";
/// A template or an argument of an analysis is missing or wrong.
pub(crate) const ANALYSIS: &str = "AnalysisBlocked";
/// The API server refuses what the release needs.
pub(crate) const REFUSED: &str = "Refused";

/// Sets a condition; its transition time changes only with its status. True when status, reason or
/// message changed.
pub(crate) fn set(d: &mut Draft<'_>, type_: &str, on: bool, reason: &str, message: &str) -> bool {
    let at = stamp(d);
    // What was cleared and is set again in one pass has not changed.
    let before = d.s.rollout.status.iter().flat_map(|status| &status.conditions);
    if find(d, type_).is_none() {
        d.status.conditions.extend(before.filter(|c| c.type_ == type_).cloned());
    }
    set_on(&mut d.status, at, type_, on, (reason, message))
}

/// The spec and the time that a condition speaks of.
type Stamp = (Option<i64>, Timestamp);

fn stamp(d: &Draft<'_>) -> Stamp {
    (d.s.rollout.metadata.generation, d.now)
}

fn set_on(
    on_status: &mut RolloutStatus,
    (generation, now): Stamp,
    type_: &str,
    on: bool,
    (reason, message): (&str, &str),
) -> bool {
    let status = if on { "True" } else { "False" };
    let now = Time(now);
    let fresh = Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: generation,
        last_transition_time: now.clone(),
    };
    match on_status.conditions.iter_mut().find(|c| c.type_ == type_) {
        None => {
            on_status.conditions.push(fresh);
            true
        }
        Some(c) => {
            let same = c.status == status && c.reason == reason && c.message == message;
            let at = if c.status == status { c.last_transition_time.clone() } else { now };
            *c = Condition { last_transition_time: at, ..fresh };
            !same
        }
    }
}

/// Takes a condition away that is there only while something is wrong.
pub(crate) fn clear(d: &mut Draft<'_>, type_: &str) {
    d.status.conditions.retain(|c| c.type_ != type_);
}

pub(crate) fn find<'d>(d: &'d Draft<'_>, type_: &str) -> Option<&'d Condition> {
    d.status.conditions.iter().find(|c| c.type_ == type_)
}

/// Fills in everything that follows from the rest.
pub(crate) fn describe(d: &mut Draft<'_>) {
    if let Some(phase) = d.status.phase
        && d.status.release.is_some()
        && !matches!(phase, Phase::Terminating | Phase::Disabling)
    {
        let isolated = d.released().stage == Stage::Isolated;
        d.status.phase = Some(if isolated { Phase::Failed } else { Phase::Progressing });
    }
    // Neither busy nor ready: without a word who must act, kstatus would call it in progress for ever.
    if d.status.phase == Some(Phase::Failed) && d.status.release.is_none() {
        d.wait(
            Who::Person,
            "another template: the newest one failed, the stable version is in place",
        );
    }
    let waiting = d.waiting.clone();
    d.status.waiting_for = waiting.as_ref().map(|w| w.what.clone());
    match d.status.release.clone() {
        Some(_) => under_way(d),
        None => {
            let generation = d.s.workload.as_ref().map(|v| v.generation);
            if let Some(c) = d.status.canary_status.as_mut() {
                c.observed_workload_generation = generation;
            }
            d.status.step = None;
            d.status.ready = d.s.workload.as_ref().map(|v| {
                let ready = v.current().map_or(0, crate::workload::ReplicaSetView::ready);
                format!("{ready}/{}", v.replicas)
            });
        }
    }
    let at = stamp(d);
    tell(&mut d.status, at, waiting.as_ref());
}

/// The one sentence, and what kstatus reads.
fn tell(status: &mut RolloutStatus, at: Stamp, waiting: Option<&WaitingOn>) {
    let phase = status.phase.unwrap_or_default();
    status.phase = Some(phase);
    status.waiting_for = waiting.map(|w| w.what.clone());
    let text = status.waiting_for.clone().unwrap_or_else(|| message_of(phase).to_owned());
    status.message = Some(match (&status.release, &status.waiting_for) {
        (Some(r), Some(w)) => match &r.cause {
            Some(cause) => format!("{cause}; waiting: {w}"),
            None => format!("waiting: {w}"),
        },
        _ => text.clone(),
    });
    let stuck = waiting.is_some_and(|w| matches!(w.who, Who::Person | Who::Cluster));
    let healthy = phase == Phase::Healthy && waiting.is_none();
    let reason = if healthy { "Healthy" } else { reason_of(phase) };
    set_on(status, at, READY, healthy, (reason, &text));
    let busy = status.release.is_some() && !stuck;
    set_on(status, at, RECONCILING, busy, (reason_of(phase), &text));
    set_on(status, at, STALLED, stuck, (reason_of(phase), &text));
}

/// Says that the API server refuses something, and changes nothing else. True when it is new.
pub(crate) fn refuse(status: &mut RolloutStatus, at: Stamp, (reason, text): (&str, &str)) -> bool {
    let news = set_on(status, at, REFUSED, true, (reason, text));
    tell(status, at, Some(&WaitingOn { who: Who::Cluster, what: text.to_owned() }));
    if status.release.is_some()
        && let Some(c) = status.canary_status.as_mut()
    {
        c.message = Some(text.to_owned());
    }
    news
}

fn message_of(phase: Phase) -> &'static str {
    match phase {
        Phase::Initial => "the workload has not been seen yet",
        Phase::Healthy => "the newest version is in place",
        Phase::Progressing => "a release is under way",
        Phase::Disabling | Phase::Terminating => "the workload is being let go",
        Phase::Disabled => "disabled: the workload is nobody's",
        Phase::Failed => "the newest template failed",
    }
}

fn reason_of(phase: Phase) -> &'static str {
    match phase {
        Phase::Initial => "Initial",
        Phase::Healthy => "Healthy",
        Phase::Progressing => "Progressing",
        Phase::Disabling => "Disabling",
        Phase::Terminating => "Terminating",
        Phase::Disabled => "Disabled",
        Phase::Failed => "Failed",
    }
}

/// The step, Kruise's fields and the counts of a release under way.
fn under_way(d: &mut Draft<'_>) {
    let release = d.released();
    let plan = d.spec().ok();
    let of = plan.as_ref().map_or(0, |p| i32::try_from(p.steps.len()).unwrap_or(i32::MAX));
    let index = (release.step + 1).min(of.max(1));
    let name = release.frozen_step.as_ref().and_then(|s| s.name.clone());
    d.status.step = Some(StepStatus {
        index,
        of,
        progress: format!("{index}/{of}"),
        name,
        state: release.state,
        since: release.since.clone(),
    });
    d.status.current_step_index = Some(index);
    d.status.current_step_state = Some(release.state);
    let snapshot = d.s;
    let view = snapshot.workload.as_ref();
    let new = view.and_then(|v| v.current()).filter(|rs| rs.hash != release.stable);
    let (pods, ready) = new.map_or((0, 0), |rs| (rs.replicas, rs.ready()));
    let target = match (&plan, view) {
        (Some(plan), Some(view)) if release.stage == Stage::Stepping => {
            let step = usize::try_from(release.step).ok().and_then(|i| plan.steps.get(i));
            step.map_or(view.replicas, |s| steps::aim_of(s, view.replicas))
        }
        (_, view) => view.map_or(0, |v| v.replicas),
    };
    let n = view.map_or(0, |v| v.replicas);
    d.status.ready = Some(if release.stage == Stage::Stepping {
        format!("{ready}/{target} of {n}")
    } else {
        format!("{ready}/{n}")
    });
    if d.status.traffic.is_none() && plan.as_ref().is_some_and(|p| !p.traffic.is_empty()) {
        d.status.traffic =
            Some(TrafficStatus { desired: Some("0%".into()), observed: Some("0%".into()) });
    }
    let hash = plan.map(|p| p.hash.clone());
    let generation = view.map(|v| v.generation);
    let message = d.status.waiting_for.clone();
    let c = d.status.canary_status.get_or_insert_with(CanaryStatus::default);
    c.observed_workload_generation = generation;
    c.observed_rollout_id = Some(release.id.clone());
    c.rollout_hash = hash;
    c.stable_revision = Some(release.stable.clone());
    c.canary_revision = Some(release.template_hash.clone());
    c.pod_template_hash.clone_from(&release.canary);
    c.current_step_index = Some(index);
    c.next_step_index = Some(requests::next_of(release.step, of));
    c.current_step_state = Some(release.state);
    c.canary_replicas = Some(pods);
    c.canary_ready_replicas = Some(ready);
    c.last_update_time.clone_from(&release.since);
    c.message = message;
}

/// How soon a status has to be written: counts and sentences wait, decisions do not.
pub(crate) fn urgency(old: &RolloutStatus, new: &RolloutStatus) -> Urgency {
    if old == new {
        return Urgency::None;
    }
    if decisive(old) == decisive(new) { Urgency::Soon } else { Urgency::Now }
}

/// The status without counts, sentences and what the routers say.
fn decisive(status: &RolloutStatus) -> RolloutStatus {
    let mut out = status.clone();
    out.message = None;
    out.waiting_for = None;
    out.ready = None;
    out.traffic = None;
    if let Some(gate) = out.gate.as_mut() {
        gate.proven_at = None;
    }
    if let Some(c) = out.canary_status.as_mut() {
        c.canary_replicas = None;
        c.canary_ready_replicas = None;
        c.message = None;
        c.last_update_time = None;
        c.observed_workload_generation = None;
        c.pod_template_hash = None;
    }
    if let Some(r) = out.release.as_mut() {
        r.since = None;
        // Between the states of one step nothing is decided that a restart could not see again.
        if r.state < StepState::StepMetricsAnalysis {
            r.state = StepState::BeforeStepUpgrade;
        }
        r.canary = None;
        // What restores the routes is decided before they are written; the weight is in the routes too.
        if let Some(lasting) = r.traffic_notes.as_deref().and_then(notes::lasting) {
            r.traffic_notes = Some(lasting);
        }
    }
    if let Some(step) = out.step.as_mut() {
        step.since = None;
        if step.state < StepState::StepMetricsAnalysis {
            step.state = StepState::BeforeStepUpgrade;
        }
    }
    out.current_step_state = None;
    if let Some(c) = out.canary_status.as_mut() {
        c.current_step_state = None;
    }
    for v in &mut out.verdicts {
        v.message = None;
    }
    for c in &mut out.conditions {
        c.message = String::new();
    }
    out.conditions.retain(|c| ![READY, RECONCILING, STALLED].contains(&c.type_.as_str()));
    out
}
