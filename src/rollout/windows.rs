//! Release windows and freezes: a release begins, goes on to its next step and ends only while they let
//! it.
//!
//! A step that has begun is brought to its place, looked at and waited for whatever the time is: half a
//! step is no place to stay at. What failed goes back, what a person asks for is done, and nothing but
//! the beginning of a step is ever held here.

use super::types::Who;
use super::{Draft, machine, overdue};
use crate::api::status::{StepState, WindowHold};
use crate::spec::{self, Closed, StepPlan, Traffic};
use crate::units::Percent;
use crate::workload::{DeploymentView, deployment};

/// Why nothing new may begin now, where the release is about to begin something.
pub(crate) fn holds(d: &mut Draft<'_>, plan: &spec::Plan, step: &StepPlan) -> Option<Closed> {
    let release = d.released();
    let begins = match release.state {
        StepState::BeforeStepUpgrade => release.step == 0,
        StepState::StepReady => !nothing_left(d, plan, step),
        StepState::StepUpgrade
        | StepState::StepTrafficRouting
        | StepState::StepMetricsAnalysis
        | StepState::StepPaused
        | StepState::Completed => false,
    };
    if !begins {
        d.release().window = None;
        return None;
    }
    if release.window == Some(WindowHold::Overruled) {
        return None;
    }
    let closed = plan.calendar.closed(d.now);
    if closed.is_none() && release.window.is_some() {
        overdue::begin(d);
        d.release().window = None;
        d.event("WindowOpened", "the release goes on");
    }
    closed
}

/// The end of the release changes neither pods nor traffic.
fn nothing_left(d: &Draft<'_>, plan: &spec::Plan, step: &StepPlan) -> bool {
    let last = usize::try_from(d.released().step).is_ok_and(|i| i + 1 >= plan.steps.len());
    let routed = plan.traffic.is_empty() || step.traffic == Traffic::Weight(Percent::ALL);
    last && step.replicas.is_all() && routed
}

/// Waits for the moment. What the steps before have reached is kept.
pub(crate) fn stand(d: &mut Draft<'_>, view: &DeploymentView, closed: &Closed) {
    let what = if closed.frozen { "the freeze to end" } else { "the release window, which opens" };
    let said = &closed.said;
    let text = format!("{what} {said} (kubectl sluice approve goes on at once)");
    if d.released().window != Some(WindowHold::Closed) {
        d.release().window = Some(WindowHold::Closed);
        let what =
            if closed.frozen { "frozen; until" } else { "outside the release window; opens" };
        d.event("OutsideWindow", format!("{what} {said}"));
    }
    if !view.under_knob()
        && let Some(write) = deployment::hold(view)
    {
        d.write(view, write);
    }
    machine::rest(d, view);
    d.wake_at(closed.opens);
    d.wait(Who::Time, text);
}

/// A person lets the next step begin at once.
pub(crate) fn overrule(d: &mut Draft<'_>) {
    overdue::begin(d);
    d.release().window = Some(WindowHold::Overruled);
}
