//! A large step is taken in parts, so that the stable pods that are left carry what is still theirs.
//!
//! Pods move first and the weight follows when the new ones are ready: from 10% with 1 of 10 pods new to 80%
//! with 8, two stable pods would have 90% of the requests, for as long as the last new pods take to start. So
//! pods go in parts, and after each the weight rises to what the new pods carry.
//!
//! The user's own `maxUnavailable` says that `n - maxUnavailable` pods carry everything. No stable pod gets
//! more than twice what it would get then, between the new pods of a part and the gateway's word. A part aims
//! at 5/4 while its new pods start and keeps that where they fit into one turn of the knob; one that takes
//! several may leave up to 1.9 times while the last of them start. Kruise moves the pods of every step at
//! once.
//!
//! Exactly what `maxUnavailable` allows, and at that moment too, would take a write of the route or two more
//! in most steps of a fifth: with 5/4 and 2 they are one part with the default budget, but for 3, 7, 8, 9 and
//! 14 of up to 100 pods.

use super::notes::{given_weights, read};
use super::traffic::{ask, is_open, services, split_of};
use super::{Draft, back};
use crate::spec::{self, StepPlan};
use crate::traffic::Split;
use crate::workload::DeploymentView;
use crate::workload::view::budget;

/// What comes before the rest of a step.
pub(crate) struct Part {
    /// New pods.
    pub(crate) pods: i32,
    /// What they get when they are ready: less than the step's own weight, which comes with its last pods.
    pub(crate) split: Split,
}

/// The gateways have accepted the weight of a part: their word comes before its next pods.
pub(crate) fn are_heard(d: &mut Draft<'_>, plan: &spec::Plan, step: &StepPlan) -> bool {
    let split = split_of(step);
    if split.weight.is_none() || d.released().backward {
        return true;
    }
    let notes = read(d);
    let (_, weight) = given_weights(d, &notes);
    let is_part = 0 < weight && Some(weight) < split.weight;
    if !is_part || !notes.routes.values().any(|note| note.is_of(&split)) {
        return true;
    }
    let told = d.events.len();
    let heard = ask(d, plan, &Split { weight: Some(weight), ..split });
    // Without the status it would be told again.
    d.consumed |= d.events.len() > told;
    heard
}

/// The next part of a step of `k` new pods; `None` where the rest of it is taken at once.
pub(crate) fn next(
    d: &mut Draft<'_>,
    view: &DeploymentView,
    step: &StepPlan,
    k: i32,
) -> Option<Part> {
    let release = d.released();
    let split = split_of(step);
    let most = split.weight?.saturating_sub(1);
    if release.backward || k >= view.replicas {
        return None;
    }
    let (given, _) = given_weights(d, &read(d));
    // An open Service sends to every pod alike.
    if given >= most || services(d).is_empty() || is_open(d) {
        return None;
    }
    let (surge, unavailable) = budget(&release.originals, view.replicas);
    let enough = (view.replicas - unavailable).max(1);
    // In hundredths of a pod.
    let theirs = i32::from(100 - given) * enough;
    let needed = ((4 * theirs + 499) / 500).max(1);
    let briefly = ((theirs + 199) / 200).max(1);
    let min_ready = release.originals.min_ready_seconds.unwrap_or(0);
    let new = view.current();
    let count = new.map_or(0, |rs| rs.replicas);
    let ready = new.map_or(0, |rs| rs.available_after(min_ready, d.now).0);
    let pods = (view.replicas - needed + surge).min(view.replicas - briefly).max(count);
    let carried = back::carried_percent(view, &release, ready);
    let weight = u8::try_from(carried).unwrap_or(100).min(most).max(given);
    let stuck = pods <= count && weight <= given;
    (pods < k && !stuck).then_some(Part { pods, split: Split { weight: Some(weight), ..split } })
}
