//! What a person or an alert asked for by a status write: approve, jump, abort, retry, skip, restart,
//! promote, pause, isolate.

use super::{Draft, back, finish, hooks, overdue, steps, windows};
use crate::analysis::{Verdict, verdict};
use crate::api::status::{Request, RequestVerb, Stage, StepState, VerdictStatus, WindowHold};
use crate::spec;

/// How a hold begins that somebody asked for.
pub const PAUSED_BY: &str = "paused by ";
/// How many alerts that have stopped a release are remembered. Of more, the oldest may stop it again.
const ALERTS: usize = 64;

/// Reads what is asked for and does what can be done at once.
/// Without a valid plan a jump waits for one.
pub(crate) fn read(d: &mut Draft<'_>, plan: Option<&spec::Plan>) {
    approved(d);
    if let Some(plan) = plan {
        jumped(d, plan);
    }
    let Some(request) = d.status.request.take() else { return };
    d.consumed = true;
    if request.release.as_ref().is_some_and(|id| *id != d.released().id) {
        return d.warn("RequestDropped", "the request was for another release");
    }
    act(d, &request);
}

/// Kruise's way to approve: somebody set the sub-status' state to `StepReady`.
fn approved(d: &mut Draft<'_>) {
    let release = d.released();
    let asked = d.status.canary_status.as_ref().and_then(|c| c.current_step_state)
        == Some(StepState::StepReady)
        && release.state != StepState::StepReady;
    if asked && release.stage == Stage::Stepping {
        d.consumed = true;
        approve(d, None);
    }
}

fn approve(d: &mut Draft<'_>, by: Option<&str>) {
    let release = d.released();
    let who = by.or(d.status.approved_by.as_deref()).unwrap_or("somebody").to_owned();
    let paused = |h: &str| h.starts_with(super::PAUSED_BY_HAND) || h.starts_with(PAUSED_BY);
    let by_person = release.held.as_deref().is_some_and(paused);
    // Whoever lets it go on gives the step its time once more.
    if release.hook.is_some() || release.state == StepState::StepPaused {
        overdue::begin(d);
    }
    if !by_person && hooks::overrule(d) {
        d.release().held = None;
        return d.event("Approved", format!("{who} goes on without the hook"));
    }
    if release.held.is_none() && release.window == Some(WindowHold::Closed) {
        windows::overrule(d);
        return d.event("Approved", format!("{who} lets the release go on outside its windows"));
    }
    if release.held.is_none() && release.state != StepState::StepPaused {
        return d.warn(
            "NothingToApprove",
            format!("{who} approved, but the step waits for no approval: skip leaves its rest out"),
        );
    }
    if by_person {
        // A pause is lifted, the step is not approved by that.
        d.release().held = None;
        return d.event("Resumed", format!("{who} lifted the pause"));
    }
    let step = release.step + 1;
    let of_step = release.held.as_ref().is_some_and(|h| h.starts_with(&format!("step {step}: ")));
    if release.held.is_some() {
        let doubted = doubted(d, of_step);
        let r = d.release();
        r.held = None;
        r.overruled = doubted;
    }
    if release.stage == Stage::Finalising {
        return d.event("Approved", format!("{who} lets the last pods go on"));
    }
    let done = match release.state {
        StepState::StepPaused => true,
        StepState::StepMetricsAnalysis => of_step,
        StepState::StepReady => {
            // What its time ran out for is not waited for once more.
            d.release().skip |= of_step;
            of_step
        }
        _ => false,
    };
    if !done {
        return d.event("Approved", format!("step {step}: {who} lets it go on"));
    }
    d.enter(StepState::StepReady);
    d.event("Approved", format!("step {step}: approved by {who}"));
}

/// The analyses that a person overrules: those that say no or cannot tell, and of the step's own the one that
/// has told nothing in its time.
fn doubted(d: &Draft<'_>, of_step: bool) -> Vec<String> {
    let own = (d.released().step + 1).to_string();
    let is = |v: &&VerdictStatus| match d.s.runs.get(&v.run).map(verdict) {
        None => v.phase != "Successful",
        Some(Verdict::Pass) => false,
        Some(Verdict::Continue { .. }) => of_step && v.scope == own,
        Some(Verdict::Fail { .. } | Verdict::Inconclusive { .. }) => true,
    };
    d.status.verdicts.iter().filter(is).map(|v| v.run.clone()).collect()
}

/// Kruise's way to jump: somebody set the sub-status' next step.
fn jumped(d: &mut Draft<'_>, plan: &spec::Plan) {
    let release = d.released();
    if release.stage != Stage::Stepping {
        return;
    }
    let Some(asked) = d.status.canary_status.as_ref().and_then(|c| c.next_step_index) else {
        return;
    };
    let of = i32::try_from(plan.steps.len()).unwrap_or(i32::MAX);
    if asked == next_of(release.step, of) || asked == 0 {
        return;
    }
    // The plan's length may have changed since the status was written: then it is no wish.
    if asked == release.step + 2 || asked == -1 {
        return;
    }
    d.consumed = true;
    if !(1..=of).contains(&asked) {
        return d.warn("JumpRefused", format!("there is no step {asked}: they go from 1 to {of}"));
    }
    let from = release.step + 1;
    super::analyses::end_all(d);
    steps::go_to(d, asked - 1);
    let r = d.release();
    // On the way back a pod may be too many until the step is reached, whichever it is by then.
    r.backward |= asked < from;
    r.attempt += 1;
    windows::overrule(d);
    d.event("Jumped", format!("from step {from} to step {asked}"));
}

/// Kruise's `nextStepIndex`: counted from 1, -1 at the last.
pub(crate) fn next_of(step: i32, of: i32) -> i32 {
    if step + 2 > of { -1 } else { step + 2 }
}

fn act(d: &mut Draft<'_>, request: &Request) {
    let by = request.by.clone().unwrap_or_else(|| "somebody".into());
    let stage = d.released().stage;
    let forward = matches!(stage, Stage::Stepping | Stage::Finalising | Stage::Isolated)
        || (stage == Stage::Suspended
            && matches!(request.verb, RequestVerb::Abort | RequestVerb::Retry));
    if !forward {
        let why = match stage {
            Stage::Suspended => {
                "the release waits for replicas, where only abort and retry are done"
            }
            Stage::LettingGo => "the workload is being let go",
            _ => "the release is on its way back",
        };
        return d.warn("RequestDropped", format!("{:?} by {by}: {why}", request.verb));
    }
    let stops = matches!(request.verb, RequestVerb::Pause | RequestVerb::Isolate);
    let goes_on = matches!(request.verb, RequestVerb::Approve | RequestVerb::Skip);
    if stage == Stage::Isolated && (stops || goes_on) {
        let why = "the new version is isolated: retry or abort";
        return d.warn("RequestDropped", format!("{:?} by {by}: {why}", request.verb));
    }
    match request.verb {
        RequestVerb::Approve => approve(d, Some(&by)),
        RequestVerb::Abort => back::start(d, "Aborted", &format!("aborted by {by}"), true),
        RequestVerb::PromoteFull => {
            d.event("PromotedFully", format!("{by} leaves the remaining steps out"));
            finish::start(d);
        }
        RequestVerb::Skip => {
            d.event("Skipped", format!("{by} leaves out the rest of the step"));
            let r = d.release();
            r.skip = true;
            r.held = None;
            windows::overrule(d);
        }
        RequestVerb::Restart => {
            d.event("Restarted", format!("{by} begins again at the first step"));
            super::analyses::end_all(d);
            steps::go_to(d, 0);
            let r = d.release();
            r.attempt += 1;
            r.backward = true;
            r.baking_since = None;
            r.stage = Stage::Stepping;
            windows::overrule(d);
        }
        RequestVerb::Pause => pause(d, &by, &request.alerts),
        RequestVerb::Isolate => isolate(d, &by, &request.alerts),
        RequestVerb::Retry => retry(d, stage, &by),
    }
}

/// The step once more, from its beginning.
fn retry(d: &mut Draft<'_>, stage: Stage, by: &str) {
    d.event("Retried", format!("{by} tries the step again"));
    super::analyses::end_all(d);
    if stage == Stage::Isolated {
        d.status.rejected = None;
    }
    let now = crate::api::Time(d.now);
    let r = d.release();
    r.attempt += 1;
    r.held = None;
    r.hook = None;
    r.cause = None;
    r.baking_since = None;
    r.since = Some(now);
    r.shared = false;
    r.contended = None;
    if !matches!(stage, Stage::Finalising | Stage::Suspended) {
        r.stage = Stage::Stepping;
        r.state = StepState::BeforeStepUpgrade;
    }
    windows::overrule(d);
    d.status.phase = Some(crate::api::status::Phase::Progressing);
    super::status::clear(d, super::status::CONTENDED);
}

fn pause(d: &mut Draft<'_>, by: &str, alerts: &[String]) {
    d.event("Paused", format!("{PAUSED_BY}{by}"));
    d.release().held = Some(format!("{PAUSED_BY}{by}"));
    remember(d, alerts);
}

/// As `onFailure: Isolate` does.
fn isolate(d: &mut Draft<'_>, by: &str, alerts: &[String]) {
    remember(d, alerts);
    if back::can_isolate(d) {
        return back::isolate(d, "IsolatedByRequest", &format!("isolated by {by}"));
    }
    let why = "no stable pod is left that could take the traffic";
    back::start(d, "Aborted", &format!("rolled back by {by}: {why}"), true);
}

fn remember(d: &mut Draft<'_>, alerts: &[String]) {
    let r = d.release();
    r.alerts.extend(alerts.iter().cloned());
    let old = r.alerts.len().saturating_sub(ALERTS);
    r.alerts.drain(..old);
}
