//! Hooks as states of the step machine: what is asked of them, what they said, and what that does.
//!
//! Every decision is one entry of `status.hooks`, and every call of it is counted there *before* it is
//! made. What came back is known to the process that called, which gives it to the next plan
//! ([`HookSeen`]). So a call that the status has and the process does not know was cut off by a
//! crash: it is not made twice, because its receiver may have acted on it. It is made again only where
//! that was allowed before: by `retries`, or by a receiver that answered Processing.
//!
//! `stops` is the gate, `announce` calls without waiting, `tend` takes answers in and asks again.

use jiff::SignedDuration;
use sha2::{Digest, Sha256};

use super::hook_call::{HookAnswer, HookCalled, of_decision, of_event};
use super::types::Who;
use super::{Draft, analyses, machine, steps};
use crate::api::common::Time;
use crate::api::rollout::HookPoint;
use crate::api::status::{HookState, HookStatus, Stage, StepState};
use crate::spec::{self, HookPlan, StepPlan};
use crate::workload::{DeploymentView, deployment};

/// How soon a hook that is processing is asked again when it does not say: Kusion's.
const AGAIN: SignedDuration = SignedDuration::from_secs(10);
/// What a hook may ask for.
const AGAIN_BOUNDS: (SignedDuration, SignedDuration) =
    (SignedDuration::from_secs(1), SignedDuration::from_hours(1));
/// The longest pause before a failed call is made again, in seconds: Flagger's.
const BACKOFF: i64 = 30;
/// Decisions of other steps that the status keeps for people.
const KEPT: usize = 16;

/// The moments at which the release may wait for hooks now.
fn points(d: &Draft<'_>) -> &'static [HookPoint] {
    let Some(release) = &d.status.release else { return &[] };
    if release.skip {
        return &[];
    }
    match release.state {
        StepState::BeforeStepUpgrade if release.step == 0 => {
            &[HookPoint::BeforeRollout, HookPoint::BeforeStep]
        }
        StepState::BeforeStepUpgrade => &[HookPoint::BeforeStep],
        StepState::StepReady => &[HookPoint::AfterStep],
        StepState::Completed => &[HookPoint::BeforePromotion],
        StepState::StepUpgrade
        | StepState::StepTrafficRouting
        | StepState::StepMetricsAnalysis
        | StepState::StepPaused => &[],
    }
}

/// The hooks of the moment, in the order in which they are asked.
fn due<'p>(d: &Draft<'_>, plan: &'p spec::Plan, step: &'p StepPlan) -> Vec<&'p HookPlan> {
    let all = || plan.hooks.iter().chain(&step.hooks);
    points(d).iter().flat_map(|at| all().filter(move |hook| hook.at == *at)).collect()
}

/// Something is left to be asked before the release goes on.
pub(crate) fn pending(d: &Draft<'_>, plan: &spec::Plan, step: &StepPlan) -> bool {
    due(d, plan, step).iter().any(|hook| !entry(d, hook).is_some_and(|e| passed(e.state)))
}

/// Something was asked, or is.
pub(crate) fn asked(d: &Draft<'_>, plan: &spec::Plan, step: &StepPlan) -> bool {
    !due(d, plan, step).is_empty()
}

fn passed(state: HookState) -> bool {
    matches!(state, HookState::Ok | HookState::Ignored | HookState::Overruled)
}

/// Asks the hooks of the moment, one after the other. True while the release does not go on.
pub(crate) fn stops(
    d: &mut Draft<'_>,
    plan: &spec::Plan,
    view: &DeploymentView,
    step: &StepPlan,
) -> bool {
    for hook in due(d, plan, step) {
        let Some(known) = entry(d, hook).cloned() else {
            begin(d, hook);
            still(d, view, hook, "to answer");
            return true;
        };
        let why = said(&known);
        match known.state {
            HookState::Ok | HookState::Ignored | HookState::Overruled => {}
            HookState::Calling => {
                still(d, view, hook, "to answer");
                return true;
            }
            HookState::Processing => {
                still(d, view, hook, &format!("which is still at it{why}"));
                return true;
            }
            HookState::Retrying => {
                still(d, view, hook, &format!("to be asked again{why}"));
                return true;
            }
            HookState::Error => {
                d.release().hook = Some(known.id.clone());
                let text = format!("{}{why}", words(hook, known.step));
                steps::on_failure(d, plan, view, "HookFailed", &text);
                return true;
            }
            HookState::Unknown => {
                d.release().hook = Some(known.id.clone());
                let text = format!("{}{why}", words(hook, known.step));
                if analyses::inconclusive(d, plan, view, &text) {
                    return true;
                }
                change(d, &known.id, HookState::Ignored);
            }
        }
    }
    if let Some(release) = d.status.release.as_mut() {
        release.hook = None;
    }
    false
}

/// The release waits; the workload rests where it is.
fn still(d: &mut Draft<'_>, view: &DeploymentView, hook: &HookPlan, what: &str) {
    let id = id_of(d, hook);
    d.release().hook = Some(id);
    if !view.under_knob()
        && let Some(write) = deployment::hold(view)
    {
        d.write(view, write);
    }
    machine::rest(d, view);
    let step = step_at(d, hook.at);
    d.wait(Who::Hook, format!("{}, {what}", words(hook, step)));
}

/// Calls the hooks of a moment that nothing waits for.
pub(crate) fn announce(d: &mut Draft<'_>, at: HookPoint) {
    let Ok(plan) = d.spec() else { return };
    for hook in plan.hooks.iter().filter(|hook| hook.at == at) {
        if entry(d, hook).is_none() {
            begin(d, hook);
        }
    }
}

/// Tells every event of this plan.
pub(crate) fn tell(d: &mut Draft<'_>) {
    let Ok(plan) = d.spec() else { return };
    for hook in plan.hooks.iter().filter(|hook| hook.at == HookPoint::Event) {
        let told: Vec<_> =
            d.events.iter().enumerate().map(|(i, note)| of_event(d, hook, note, i)).collect();
        d.calls.extend(told);
    }
}

/// A person goes on without what the release waits for. True when it waited for a hook.
pub(crate) fn overrule(d: &mut Draft<'_>) -> bool {
    leave(d, HookState::Overruled)
}

/// The step has lasted too long and goes on without the hook that it waits for.
pub(crate) fn pass_over(d: &mut Draft<'_>) {
    leave(d, HookState::Ignored);
}

fn leave(d: &mut Draft<'_>, state: HookState) -> bool {
    let Some(id) = d.release().hook.take() else { return false };
    change(d, &id, state);
    true
}

/// A new release: what was asked before the last ones is told no more, but their last calls are ended.
pub(crate) fn forget(d: &mut Draft<'_>) {
    let last = |entry: &HookStatus| {
        matches!(entry.at, HookPoint::AfterRollout | HookPoint::OnRollback) && open(entry.state)
    };
    d.status.hooks.retain(last);
}

fn open(state: HookState) -> bool {
    matches!(state, HookState::Calling | HookState::Processing | HookState::Retrying)
}

fn change(d: &mut Draft<'_>, id: &str, state: HookState) {
    if let Some(entry) = d.status.hooks.iter_mut().find(|entry| entry.id == id) {
        entry.state = state;
        entry.next_at = None;
    }
}

fn entry<'d>(d: &'d Draft<'_>, hook: &HookPlan) -> Option<&'d HookStatus> {
    let id = id_of(d, hook);
    d.status.hooks.iter().find(|entry| entry.id == id)
}

/// The release and its attempt that a decision is about: the last one when none is under way.
fn about(d: &Draft<'_>) -> (String, i32) {
    match (&d.status.release, &d.status.last_release) {
        (Some(release), _) => (release.id.clone(), release.attempt),
        (None, Some(last)) => (last.id.clone(), 0),
        (None, None) => (String::new(), 0),
    }
}

fn step_at(d: &Draft<'_>, at: HookPoint) -> Option<i32> {
    let release = d.status.release.as_ref()?;
    let of_a_step = matches!(at, HookPoint::BeforeStep | HookPoint::AfterStep);
    of_a_step.then_some(release.step + 1)
}

/// A decision has one identity in all processes and for ever.
fn id_of(d: &Draft<'_>, hook: &HookPlan) -> String {
    let (release, attempt) = about(d);
    let step = step_at(d, hook.at).unwrap_or(0);
    let uid = d.s.rollout.metadata.uid.as_deref().unwrap_or_default();
    let text = format!("{uid}/{release}/{attempt}/{:?}/{step}/{}", hook.at, hook.name);
    Sha256::digest(text).iter().take(12).map(|byte| format!("{byte:02x}")).collect()
}

/// Notes a decision and its first call.
fn begin(d: &mut Draft<'_>, hook: &HookPlan) {
    let (release, attempt) = about(d);
    let entry = HookStatus {
        name: hook.name.clone(),
        at: hook.at,
        step: step_at(d, hook.at),
        id: id_of(d, hook),
        release,
        attempt,
        state: HookState::Calling,
        calls: 1,
        started_at: Some(Time(d.now)),
        deadline: d.now.saturating_add(hook.deadline).ok().map(Time),
        ..HookStatus::default()
    };
    let call = of_decision(d, hook, &entry);
    d.calls.push(call);
    d.status.hooks.push(entry);
}

/// The name of a hook for people.
fn words(hook: &HookPlan, step: Option<i32>) -> String {
    named(&hook.name, hook.at, step)
}

fn named(name: &str, at: HookPoint, step: Option<i32>) -> String {
    match step {
        Some(step) => format!("step {step}: the hook {name} ({at:?})"),
        None => format!("the hook {name} ({at:?})"),
    }
}

fn said(entry: &HookStatus) -> String {
    entry.message.as_ref().map(|m| format!(": {m}")).unwrap_or_default()
}

/// Takes in what came back and asks again what is due. Done in every pass, whatever the release does.
pub(crate) fn tend(d: &mut Draft<'_>) {
    if d.status.hooks.is_empty() {
        return;
    }
    let hooks = known(d);
    let mut all = std::mem::take(&mut d.status.hooks);
    all.retain(|entry| !overtaken(d, entry));
    for entry in &mut all {
        let hook = hooks.iter().find(|hook| hook.name == entry.name && hook.at == entry.at);
        one(d, entry, hook);
    }
    // The newest are kept; what is open or of this attempt decides something still.
    let (release, attempt) = about(d);
    let step = d.status.release.as_ref().map(|r| r.step + 1);
    let counts = |e: &HookStatus| {
        open(e.state)
            || (e.release == release
                && e.attempt == attempt
                && (e.step.is_none() || e.step == step))
    };
    let mut spare = all.iter().filter(|e| !counts(e)).count().saturating_sub(KEPT);
    all.retain(|e| {
        let goes = spare > 0 && !counts(e);
        spare -= usize::from(goes);
        !goes
    });
    d.status.hooks = all;
}

/// The hooks of the spec, with those of the step under way as it was when it began.
fn known(d: &mut Draft<'_>) -> Vec<HookPlan> {
    let Ok(plan) = d.spec() else { return Vec::new() };
    let frozen = d.status.release.as_ref().and_then(|r| Some((r.step, r.frozen_step.clone()?)));
    let canary = d.s.rollout.spec.strategy.canary.as_ref();
    let frozen = frozen.zip(canary).and_then(|((step, raw), canary)| {
        StepPlan::parse(&raw, usize::try_from(step).unwrap_or(0), canary).ok()
    });
    let steps = frozen.iter().chain(&plan.steps).flat_map(|step| &step.hooks);
    plan.hooks.iter().chain(steps).cloned().collect()
}

/// The release went another way: nobody waits for the answer, and it is asked for no more.
fn overtaken(d: &Draft<'_>, entry: &HookStatus) -> bool {
    let holds =
        !matches!(entry.at, HookPoint::AfterRollout | HookPoint::OnRollback | HookPoint::Event);
    let current = d.status.release.as_ref().is_some_and(|r| {
        r.id == entry.release
            && r.attempt == entry.attempt
            && matches!(r.stage, Stage::Stepping | Stage::Suspended)
    });
    holds && !current && matches!(entry.state, HookState::Processing | HookState::Retrying)
}

fn one(d: &mut Draft<'_>, entry: &mut HookStatus, hook: Option<&HookPlan>) {
    let snapshot = d.s;
    let seen = snapshot.hooks.get(&entry.id).filter(|seen| seen.number == entry.calls);
    match entry.state {
        HookState::Calling => match seen.map(|seen| &seen.state) {
            Some(HookCalled::UnderWay) => {}
            Some(HookCalled::Unsent) => {
                if let Some(hook) = hook {
                    let call = of_decision(d, hook, entry);
                    d.calls.push(call);
                }
            }
            Some(HookCalled::Answered(answer)) => answered(d, entry, hook, answer),
            None => lost(d, entry, hook),
        },
        HookState::Processing | HookState::Retrying => {
            let next = entry.next_at.as_ref().map_or(d.now, |at| at.0);
            // A hook that asks for more time than it has is over at its deadline.
            let next = entry.deadline.as_ref().map_or(next, |deadline| next.min(deadline.0));
            if d.now < next {
                d.wake_at(Some(next));
            } else if let Some(hook) = hook {
                again(d, entry, hook);
            }
        }
        HookState::Ok
        | HookState::Error
        | HookState::Unknown
        | HookState::Ignored
        | HookState::Overruled => {}
    }
}

/// Asks again, unless its time is over.
fn again(d: &mut Draft<'_>, entry: &mut HookStatus, hook: &HookPlan) {
    if entry.deadline.as_ref().is_some_and(|at| d.now >= at.0) {
        let after = format!("{:#}", hook.deadline);
        let message = format!("no OK within {after}{}", said(entry));
        return give_up(d, entry, Some(hook), HookState::Error, message);
    }
    entry.state = HookState::Calling;
    entry.calls += 1;
    entry.next_at = None;
    let call = of_decision(d, hook, entry);
    d.calls.push(call);
}

fn answered(
    d: &mut Draft<'_>,
    entry: &mut HookStatus,
    hook: Option<&HookPlan>,
    answer: &HookAnswer,
) {
    match answer {
        HookAnswer::Ok { message } => {
            entry.state = HookState::Ok;
            entry.message = Some(message.clone()).filter(|m| !m.is_empty());
            let who = named(&entry.name, entry.at, entry.step);
            d.event("HookPassed", format!("{who}: OK{}", said(entry)));
        }
        HookAnswer::Processing { message, again } => {
            let (least, most) = AGAIN_BOUNDS;
            let pause = again.unwrap_or(AGAIN).clamp(least, most);
            entry.state = HookState::Processing;
            entry.processing = true;
            entry.message = Some(message.clone()).filter(|m| !m.is_empty());
            entry.next_at = d.now.saturating_add(pause).ok().map(Time);
            d.wake_at(entry.next_at.as_ref().map(|at| at.0));
            d.wake_at(entry.deadline.as_ref().map(|at| at.0).filter(|at| d.now < *at));
        }
        HookAnswer::Error { message } => failed(d, entry, hook, HookState::Error, message.clone()),
    }
}

/// No process knows what came of the call.
fn lost(d: &mut Draft<'_>, entry: &mut HookStatus, hook: Option<&HookPlan>) {
    let message = "the controller stopped before the answer came".to_owned();
    if entry.processing {
        // The receiver knows this decision and has asked to be asked again.
        entry.state = HookState::Processing;
        entry.next_at = Some(Time(d.now));
        entry.message = Some(message);
        return d.wake_in(SignedDuration::ZERO);
    }
    failed(d, entry, hook, HookState::Unknown, message);
}

/// A call that failed, or whose answer was lost, is made again as often as the user allowed.
fn failed(
    d: &mut Draft<'_>,
    entry: &mut HookStatus,
    hook: Option<&HookPlan>,
    end: HookState,
    message: String,
) {
    let failures = entry.failures.unwrap_or(0) + 1;
    entry.failures = Some(failures);
    if failures > hook.map_or(0, |hook| hook.retries) {
        return give_up(d, entry, hook, end, message);
    }
    let seconds = (1_i64 << u32::try_from(failures - 1).unwrap_or(0).min(5)).min(BACKOFF);
    let pause = SignedDuration::from_secs(seconds);
    entry.state = HookState::Retrying;
    entry.message = Some(message);
    entry.next_at = d.now.saturating_add(pause).ok().map(Time);
    d.wake_in(pause);
}

fn give_up(
    d: &mut Draft<'_>,
    entry: &mut HookStatus,
    hook: Option<&HookPlan>,
    end: HookState,
    message: String,
) {
    let ignored = hook.is_some_and(|hook| hook.ignore || !hook.holds());
    entry.state = if ignored { HookState::Ignored } else { end };
    entry.next_at = None;
    entry.message = Some(message);
    let who = named(&entry.name, entry.at, entry.step);
    let why = said(entry);
    let (reason, after) = match entry.state {
        HookState::Ignored => ("HookIgnored", ", passed over"),
        HookState::Unknown => ("HookUnknown", ""),
        _ => ("HookFailed", ""),
    };
    d.warn(reason, format!("{who}{why}{after}"));
}
