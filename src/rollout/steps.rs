//! The steps: pods first, traffic second, then what is looked at, then what is waited for.
//!
//! One pass goes through as many states as what is observed allows. A step is frozen when it begins, so
//! that an edit of the plan reaches later steps only.

use jiff::SignedDuration;

use super::accepted::Way;
use super::types::Who;
use super::{
    Draft, analyses, back, finish, hooks, machine, overdue, parts, status, traffic, windows,
};
use crate::api::common::Time;
use crate::api::status::{Stage, StepState};
use crate::spec::{self, Pause, StepPlan};
use crate::units::ReplicasTarget;
use crate::workload::knob::{Aim, move_to, scale};
use crate::workload::{DeploymentView, Motion, NEVER_READY_SECONDS, ReplicaSetView, Write};

/// A router may take this long to accept a route, and a metric to answer, before the workload is put to
/// its rest meanwhile: at rest pods count as available, and leaving it costs two writes.
const REST_AFTER: SignedDuration = SignedDuration::from_secs(5);

/// Why the release is set aside when scaling has left no stable pod.
const SHARE_LOST: &str =
    "scaling has left no stable pod: the stable version comes back first, then the step goes on";

/// What one state of a step comes to.
enum Next {
    /// The next state, in the same pass.
    On(StepState),
    /// Something has to happen first.
    Stop,
}

pub(crate) fn run(d: &mut Draft<'_>, plan: &spec::Plan, view: &DeploymentView) {
    if analyses::background(d, plan, view) {
        return unwatched(d, plan, view);
    }
    if let Some(reason) = paused(d, plan) {
        return stand(d, plan, view, reason);
    }
    d.start_clock();
    // Each pass ends: a step has six states and the steps are counted.
    for _ in 0..=(plan.steps.len() + 1) * 7 {
        if d.released().stage != Stage::Stepping {
            return finish::run(d, plan, view);
        }
        let Some(step) = current(d, plan) else { return };
        let state = d.released().state;
        let closed = windows::holds(d, plan, &step);
        let looking = matches!(state, StepState::StepMetricsAnalysis | StepState::StepPaused)
            || (state == StepState::StepReady
                && (closed.is_some()
                    || hooks::pending(d, plan, &step)
                    || analyses::blind(d, plan).is_some()));
        // What fails does not wait for pods or traffic that are being put right.
        let failed =
            state == StepState::StepMetricsAnalysis && analyses::fails(d, plan, view, &step);
        if failed || (looking && !kept(d, plan, view, &step)) {
            if closed.is_none() {
                overdue::leaves(d, plan, view, &step, false);
            }
            return;
        }
        // A step that is done says so at once; what is to begin waits for its time first.
        let asks = state == StepState::StepReady || closed.is_none();
        if asks && hooks::stops(d, plan, view, &step) {
            if closed.is_some() || !overdue::leaves(d, plan, view, &step, true) {
                return;
            }
            hooks::pass_over(d);
            continue;
        }
        if let Some(closed) = closed {
            return windows::stand(d, view, &closed);
        }
        let next = match d.released().state {
            StepState::BeforeStepUpgrade => before(d, plan, view, &step),
            StepState::StepUpgrade => upgrade(d, plan, view, &step),
            StepState::StepTrafficRouting => route(d, plan, view, &step),
            StepState::StepMetricsAnalysis => analyse(d, plan, view, &step),
            StepState::StepPaused => pause(d, plan, view, &step),
            StepState::StepReady => ready(d, plan, view),
            StepState::Completed => {
                finish::start(d);
                continue;
            }
        };
        match next {
            Next::On(state) => d.enter(state),
            Next::Stop => {
                let passable = d.released().state != StepState::StepTrafficRouting;
                if !overdue::leaves(d, plan, view, &step, passable) {
                    return;
                }
                let state = without(d, plan);
                d.enter(state);
            }
        }
    }
}

/// What watches beside the steps has decided, or cannot begin.
fn unwatched(d: &mut Draft<'_>, plan: &spec::Plan, view: &DeploymentView) {
    let stands = d.released().stage != Stage::Stepping || paused(d, plan).is_some();
    if !stands && let Some(step) = current(d, plan) {
        d.start_clock();
        overdue::leaves(d, plan, view, &step, false);
    }
}

/// The state after one that is left though it is not done.
fn without(d: &mut Draft<'_>, plan: &spec::Plan) -> StepState {
    match d.released().state {
        StepState::StepMetricsAnalysis => StepState::StepPaused,
        StepState::StepPaused => StepState::StepReady,
        _ => done(d, plan),
    }
}

/// Nothing goes on. What scaling takes away is made up for all the same: a Service without a ready
/// endpoint, and the stable version's share.
fn stand(d: &mut Draft<'_>, plan: &spec::Plan, view: &DeploymentView, reason: String) {
    let k = current(d, plan).map_or(view.replicas, |step| aim_of(&step, view.replicas));
    if lost(d, view, k) {
        return machine::set_aside(d, view, SHARE_LOST);
    }
    d.stop_clock();
    // Nothing moves, so only what is ready now counts.
    traffic::keep_carried(d, view, 0);
    traffic::keep_served(d, view);
    machine::rest(d, view);
    d.wait(Who::Person, reason);
}

/// Why nothing may go on, when a person said so.
pub(crate) fn paused(d: &Draft<'_>, plan: &spec::Plan) -> Option<String> {
    if plan.paused {
        return Some("the Rollout is paused: kubectl sluice resume".into());
    }
    let held = d.status.release.as_ref()?.held.clone()?;
    Some(format!("{held}: kubectl sluice approve, retry or abort"))
}

/// The step under way, as it was when it began.
fn current(d: &mut Draft<'_>, plan: &spec::Plan) -> Option<StepPlan> {
    let release = d.released();
    let index = usize::try_from(release.step).unwrap_or(0);
    if release.state == StepState::BeforeStepUpgrade || release.frozen_step.is_none() {
        let Some(step) = plan.steps.get(index) else {
            // The plan was cut behind the steps that are done.
            finish::start(d);
            return plan.steps.last().cloned();
        };
        d.release().frozen_step = Some(step.raw.clone());
        return Some(step.clone());
    }
    let frozen = release.frozen_step.unwrap_or_default();
    let canary = d.s.rollout.spec.strategy.canary.as_ref()?;
    match StepPlan::parse(&frozen, index, canary) {
        Ok(step) => Some(step),
        Err(_) => plan.steps.get(index).or(plan.steps.last()).cloned(),
    }
}

/// Services and ReplicaSets are made ready for the step.
fn before(d: &mut Draft<'_>, plan: &spec::Plan, view: &DeploymentView, step: &StepPlan) -> Next {
    note_shared(d, view, aim_of(step, view.replicas));
    // A version in between goes first, and its traffic before its pods.
    let between = traffic::moves(step) && middle_of(d, view).any(|rs| rs.replicas > 0);
    if between {
        let all = aim_of(step, view.replicas) >= view.replicas;
        let off = if all {
            traffic::to_native(d, Way::Forward, false)
        } else {
            traffic::to_stable(d, view, Way::Forward)
        };
        if !off {
            return hold_meanwhile(d, view);
        }
    }
    if !traffic::prepare(d, plan, view, step) {
        return hold_meanwhile(d, view);
    }
    let count = view.current().map_or(0, |rs| rs.replicas);
    if exact(step) && count > aim_of(step, view.replicas) {
        d.release().backward = true;
    }
    if mark_middle(d, view) {
        return Next::Stop;
    }
    // Begun again from here, the traffic that a later state gives would be taken back.
    d.consumed |= between;
    if hooks::asked(d, plan, step) {
        // What was asked before the step is none of its time.
        overdue::begin(d);
    }
    Next::On(StepState::StepUpgrade)
}

/// A gate that is not in force lets a new version run while the step is being prepared: pause it.
fn hold_meanwhile(d: &mut Draft<'_>, view: &DeploymentView) -> Next {
    if !view.under_knob()
        && let Some(write) = crate::workload::deployment::hold(view)
    {
        d.write(view, write);
    }
    Next::Stop
}

/// A revision between the stable and the new one must go first. At rest its pods are available, and the
/// native controller drains the oldest available ReplicaSet first, which is the stable one: so its pods
/// are made to count as not available. An old ReplicaSet is not synced by the Deployment controller.
///
/// Of several such revisions it takes the oldest first, whether its pods are ready or not: so one that
/// never got ready goes at once.
fn mark_middle(d: &mut Draft<'_>, view: &DeploymentView) -> bool {
    let several = middle_of(d, view).filter(|rs| rs.replicas > 0).count() > 1;
    let broken = middle_of(d, view).find(|rs| rs.replicas > 0 && rs.ready() == 0);
    if several && let Some(rs) = broken {
        d.write(view, scale(view, rs, 0));
        d.wait(Who::Pods, "a version in between that never got ready to go");
        return true;
    }
    for rs in middle_of(d, view).filter(|rs| rs.replicas > 0) {
        if rs.min_ready_seconds != NEVER_READY_SECONDS {
            let write = Write::MinReady {
                replica_set: rs.name.clone(),
                uid: rs.uid.clone(),
                resource_version: rs.resource_version.clone(),
                seconds: NEVER_READY_SECONDS,
            };
            d.write(view, write);
            d.wait(Who::Pods, "the version in between to give way");
            return true;
        }
        if rs.available > 0 {
            d.wait(Who::Pods, "the version in between to give way");
            return true;
        }
    }
    false
}

/// ReplicaSets of versions between the stable and the new one.
pub(super) fn middle_of<'v>(
    d: &Draft<'_>,
    view: &'v DeploymentView,
) -> impl Iterator<Item = &'v ReplicaSetView> + use<'v> {
    let stable = d.released().stable;
    view.active().filter(move |rs| rs.hash != stable && rs.template_hash != view.template_hash)
}

/// A number of pods is meant as it stands; a share leaves what scaling has made too many.
fn exact(step: &StepPlan) -> bool {
    matches!(step.replicas, ReplicasTarget::Absolute(_))
}

/// How many new pods the step wants.
pub(crate) fn aim_of(step: &StepPlan, n: i32) -> i32 {
    step.replicas.of(n)
}

/// Nothing is left of the stable version though the step wants some of it. A share that rounds to
/// nothing at rest is lost: 5 of 10 scaled to 1 leaves the new pod, and what comes back with more
/// replicas is all new. So the share is lost with the last stable pod, not only when replicas return: then
/// the native controller has made them before anybody is asked.
fn lost(d: &mut Draft<'_>, view: &DeploymentView, k: i32) -> bool {
    note_shared(d, view, k);
    let release = d.released();
    let left = view.by_hash(&release.stable).map(|rs| rs.replicas);
    let wanted = k < view.replicas || (view.replicas == 1 && release.shared);
    left == Some(0) && !release.backward && wanted
}

/// Both versions have pods in this step, as it wants it.
fn note_shared(d: &mut Draft<'_>, view: &DeploymentView, k: i32) {
    let release = d.released();
    let left = view.by_hash(&release.stable).map_or(0, |rs| rs.replicas);
    if k < view.replicas && left > 0 && !release.shared {
        d.release().shared = true;
    }
}

/// Pods move.
fn upgrade(d: &mut Draft<'_>, plan: &spec::Plan, view: &DeploymentView, step: &StepPlan) -> Next {
    let release = d.released();
    let k = aim_of(step, view.replicas);
    if !traffic::keep_carried(d, view, k) {
        return Next::Stop;
    }
    if lost(d, view, k) {
        machine::set_aside(d, view, SHARE_LOST);
        return Next::Stop;
    }
    if !parts::are_heard(d, plan, step) {
        d.enter(StepState::StepTrafficRouting);
        return Next::Stop;
    }
    let part = parts::next(d, view, step, k);
    let now = part.as_ref().map_or(k, |part| part.pods);
    let tolerated = plan.failure_threshold.of(now);
    // The pods move on meanwhile.
    traffic::keep_served(d, view);
    if release.backward && !traffic::leave(d, view, step) {
        return Next::Stop;
    }
    let aim = Aim {
        new_pods: now,
        exact: release.backward || exact(step),
        user: &release.originals,
        stable: &release.stable,
        tolerated,
        ends: finish::follows(d, plan, step),
    };
    if let Some(rs) = view.current() {
        d.release().canary = Some(rs.hash.clone());
    }
    let goal = match &part {
        Some(_) => format!("{now} of {k} new, the weight follows in parts"),
        None => format!("{k} new"),
    };
    match move_to(view, aim, d.now) {
        Motion::Arrived => match part {
            Some(part) => {
                traffic::give(d, plan, view, part.pods, &part.split);
                d.enter(StepState::StepTrafficRouting);
                // Whoever looks sees each part, however soon the gateway answers.
                d.consumed = true;
                Next::Stop
            }
            None => arrived(d, plan, view, step),
        },
        Motion::Act(write) => {
            // The deadline counts while pods are being moved too.
            if !overdue::asks_anew(d, view, tolerated) && overdue::late(d, plan, view) {
                return Next::Stop;
            }
            d.write(view, write);
            d.wait(Who::Pods, format!("step {}: pods to move to {goal}", release.step + 1));
            Next::Stop
        }
        Motion::Wait { reason, wake } => {
            d.wake_at(wake);
            if !overdue::late(d, plan, view) {
                d.wait(Who::Pods, format!("step {}: {reason}", release.step + 1));
            }
            Next::Stop
        }
    }
}

/// The step's pods are there.
fn arrived(d: &mut Draft<'_>, plan: &spec::Plan, view: &DeploymentView, step: &StepPlan) -> Next {
    if let Some(what) = traffic::lacks_stable(d, view, step) {
        if !overdue::late(d, plan, view) {
            d.wait(Who::Pods, what);
        }
        return Next::Stop;
    }
    let release = d.released();
    d.release().backward = false;
    if release.backward || !traffic::is_on_its_way(d, step) {
        let (k, n) = (aim_of(step, view.replicas), view.replicas);
        let step = release.step + 1;
        d.event("StepPodsReady", format!("step {step}: {k} of {n} pods are new and ready"));
    }
    Next::On(StepState::StepTrafficRouting)
}

/// While a step is looked at or waited for, its pods and its traffic are kept: after a scale event, or
/// after somebody else's write to a route. No deadline counts here.
fn kept(d: &mut Draft<'_>, plan: &spec::Plan, view: &DeploymentView, step: &StepPlan) -> bool {
    let release = d.released();
    let k = aim_of(step, view.replicas);
    let exact = exact(step);
    if !traffic::keep_carried(d, view, k) {
        return false;
    }
    if lost(d, view, k) {
        machine::set_aside(d, view, SHARE_LOST);
        return false;
    }
    traffic::keep_served(d, view);
    let count = view.current().map_or(0, |rs| rs.replicas);
    if count < k || (exact && count > k) {
        let aim = Aim {
            new_pods: k,
            exact,
            user: &release.originals,
            stable: &release.stable,
            tolerated: plan.failure_threshold.of(k),
            ends: false,
        };
        match move_to(view, aim, d.now) {
            Motion::Arrived => {}
            Motion::Act(write) => {
                d.write(view, write);
                d.wait(Who::Pods, format!("step {}: pods to move to {k} new", release.step + 1));
                return false;
            }
            Motion::Wait { reason, wake } => {
                d.wake_at(wake);
                d.wait(Who::Pods, format!("step {}: {reason}", release.step + 1));
                return false;
            }
        }
    }
    traffic::to_step(d, plan, view, step)
}

/// The step's pods are there and ready. After a scale event, or when one has stopped being ready, they
/// come before the traffic that waits for them.
fn in_place(d: &mut Draft<'_>, plan: &spec::Plan, view: &DeploymentView, step: &StepPlan) -> bool {
    let k = aim_of(step, view.replicas);
    let Some(new) = view.current() else { return false };
    let min_ready = d.released().originals.min_ready_seconds.unwrap_or(0);
    let (ready, _) = new.available_after(min_ready, d.now);
    new.replicas >= k
        && ready >= k - plan.failure_threshold.of(k)
        && traffic::lacks_stable(d, view, step).is_none()
}

/// Rest for what is usually over at once.
fn rest_in_time(d: &mut Draft<'_>, view: &DeploymentView) {
    let patience = d.since().saturating_add(REST_AFTER).unwrap_or(d.now);
    if d.now >= patience {
        machine::rest(d, view);
    } else {
        d.wake_at(Some(patience));
    }
}

/// Traffic moves.
fn route(d: &mut Draft<'_>, plan: &spec::Plan, view: &DeploymentView, step: &StepPlan) -> Next {
    if !in_place(d, plan, view, step) {
        // Asked before the state changes, so that what is waited for keeps its time.
        if parts::are_heard(d, plan, step) {
            return Next::On(StepState::StepUpgrade);
        }
        rest_in_time(d, view);
        return Next::Stop;
    }
    if !traffic::to_step(d, plan, view, step) {
        rest_in_time(d, view);
        return Next::Stop;
    }
    let grace = plan.traffic.iter().map(|t| t.grace).max().unwrap_or_default();
    if !grace.is_zero() && traffic::moves(step) {
        let until = d.since().saturating_add(grace).unwrap_or(d.now);
        if d.now < until {
            // The period begins with the status that says so; without it the move is announced again.
            d.consumed |= !d.events.is_empty();
            d.wake_at(Some(until));
            d.wait(Who::Time, "the grace period after a change of traffic");
            return Next::Stop;
        }
    }
    Next::On(StepState::StepMetricsAnalysis)
}

/// The step's analysis.
fn analyse(d: &mut Draft<'_>, plan: &spec::Plan, view: &DeploymentView, step: &StepPlan) -> Next {
    if d.released().skip || step.analysis.is_none() {
        return Next::On(StepState::StepPaused);
    }
    if analyses::step(d, plan, view, step) {
        Next::On(StepState::StepPaused)
    } else {
        if d.released().stage == Stage::Stepping {
            machine::rest(d, view);
        }
        Next::Stop
    }
}

/// The step waits for time or for a person.
fn pause(d: &mut Draft<'_>, plan: &spec::Plan, view: &DeploymentView, step: &StepPlan) -> Next {
    if d.released().skip {
        return Next::On(StepState::StepReady);
    }
    let last = usize::try_from(d.released().step).unwrap_or(0) + 1 >= plan.steps.len();
    let all = aim_of(step, view.replicas) >= view.replicas && step.replicas.is_all();
    match step.pause {
        Pause::Absent if step.analysis.is_some() || (last && all) => Next::On(StepState::StepReady),
        Pause::Absent | Pause::Approval => {
            machine::rest(d, view);
            let n = d.released().step + 1;
            d.wait(Who::Person, format!("step {n}: approval (kubectl sluice approve)"));
            Next::Stop
        }
        Pause::For(span) => {
            let until = d.since().saturating_add(span).unwrap_or(d.now);
            if d.now >= until {
                return Next::On(StepState::StepReady);
            }
            machine::rest(d, view);
            d.wake_at(Some(until));
            let n = d.released().step + 1;
            d.wait(Who::Time, format!("step {n}: the pause to end at {until:.0}"));
            Next::Stop
        }
    }
}

/// The step is done, unless what watches the release beside it tells nothing.
fn ready(d: &mut Draft<'_>, plan: &spec::Plan, view: &DeploymentView) -> Next {
    let index = d.released().step;
    if !d.released().skip
        && let Some(blind) = analyses::blind(d, plan)
    {
        // What was to begin in this very pass begins now.
        if analyses::background(d, plan, view) {
            return Next::Stop;
        }
        rest_in_time(d, view);
        let skip = "(kubectl sluice skip goes on without it)";
        d.wait(Who::Analysis, format!("step {}: {blind} {skip}", index + 1));
        return Next::Stop;
    }
    Next::On(done(d, plan))
}

/// The step is done: the state that comes after it.
fn done(d: &mut Draft<'_>, plan: &spec::Plan) -> StepState {
    let next = d.released().step + 1;
    let of = plan.steps.len();
    d.event("StepCompleted", format!("step {next} of {of} is done"));
    if usize::try_from(next).unwrap_or(usize::MAX) >= of {
        return StepState::Completed;
    }
    analyses::end_step(d);
    go_to(d, next);
    StepState::BeforeStepUpgrade
}

/// Makes another step the current one, from its beginning.
pub(crate) fn go_to(d: &mut Draft<'_>, index: i32) {
    let now = Time(d.now);
    let r = d.release();
    r.step = index;
    r.state = StepState::BeforeStepUpgrade;
    r.since = Some(now.clone());
    r.step_since = Some(now);
    r.frozen_step = None;
    r.skip = false;
    r.held = None;
    r.window = None;
    r.hook = None;
    r.contended = None;
    r.shared = false;
    status::clear(d, status::CONTENDED);
}

/// What a failure does, as the Rollout says.
pub(crate) fn on_failure(
    d: &mut Draft<'_>,
    plan: &spec::Plan,
    view: &DeploymentView,
    reason: &'static str,
    text: &str,
) {
    use crate::api::rollout::OnFailure;
    match plan.on_failure {
        OnFailure::Isolate if back::can_isolate(d) => {
            d.warn(reason, text);
            back::isolate(d, reason, text);
        }
        OnFailure::Rollback | OnFailure::Isolate => {
            back::start(d, reason, text, true);
            back::run(d, view);
        }
        OnFailure::Pause => {
            // Said once: a background run is read in every pass.
            if d.released().held.is_none() {
                d.warn(reason, text);
                d.release().held = Some(text.to_owned());
            }
            d.stop_clock();
            machine::rest(d, view);
            d.wait(Who::Person, format!("{text}: kubectl sluice approve, retry or abort"));
        }
    }
}
