//! The knob: exactly k of n new pods, moved by the native Deployment controller.
//!
//! Under the knob new pods never count as available (`minReadySeconds` at its maximum), so the native
//! controller keeps `n - maxUnavailable` old pods and makes `maxUnavailable + maxSurge` new ones. Two
//! numbers therefore say exactly how many pods each revision has, and a controller that dies leaves the
//! workload at that point. [`next_knob`] picks the two numbers; [`move_to`] is the whole movement.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use super::deployment::{give_back, rest_with};
use super::view::{DeploymentView, ReplicaSetView, budget};
use super::{NEVER_LATE_SECONDS, NEVER_READY_SECONDS};
use crate::api::KnobFields;

/// One decided write to the workload.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// A patch of the Deployment.
    Deployment(KnobPatch),
    /// The size of a ReplicaSet.
    Scale {
        /// ReplicaSet.
        replica_set: String,
        /// Its uid.
        uid: String,
        /// Its resourceVersion.
        resource_version: String,
        /// The size it has.
        from: i32,
        /// The size it gets.
        to: i32,
        /// The Deployment's replicas, for the annotation by which the native controller tells a scale event:
        /// one that is out of date, as on a ReplicaSet that had no pods when the user scaled, makes it
        /// undo the size at once.
        desired: i32,
        /// The same with the surge.
        max: i32,
    },
    /// A ReplicaSet's own `minReadySeconds`.
    MinReady {
        /// ReplicaSet.
        replica_set: String,
        /// Its uid.
        uid: String,
        /// Its resourceVersion.
        resource_version: String,
        /// The value it gets.
        seconds: i32,
    },
}

/// Fields of a Deployment to write; `None` leaves a field alone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KnobPatch {
    /// `spec.paused`.
    pub paused: Option<bool>,
    /// `spec.minReadySeconds`; `Some(None)` removes it.
    pub min_ready_seconds: Option<Option<i32>>,
    /// `spec.progressDeadlineSeconds`; `Some(None)` removes it.
    pub progress_deadline_seconds: Option<Option<i32>>,
    /// `spec.strategy.rollingUpdate.maxSurge`.
    pub max_surge: Option<IntOrString>,
    /// `spec.strategy.rollingUpdate.maxUnavailable`.
    pub max_unavailable: Option<IntOrString>,
    /// `spec.template`.
    pub template: Option<Value>,
    /// Takes the `sluice.dev/wanted` annotation away.
    pub drop_wanted: bool,
    /// Why, for the log.
    pub why: &'static str,
}

/// How far a movement is.
#[derive(Clone, Debug, PartialEq)]
pub enum Motion {
    /// Pods are where they should be, and ready.
    Arrived,
    /// Something has to be written.
    Act(Write),
    /// Something has to happen by itself: what, and when to look again at the latest.
    Wait {
        /// What is waited for.
        reason: String,
        /// When to look again without an event.
        wake: Option<Timestamp>,
    },
}

/// What a movement aims at.
#[derive(Clone, Copy, Debug)]
pub struct Aim<'a> {
    /// Pods of the new revision.
    pub new_pods: i32,
    /// Too many new pods are taken back. False leaves them, as after a scale event in a percent step.
    pub exact: bool,
    /// The user's own fields.
    pub user: &'a KnobFields,
    /// Pod template hash of the stable revision.
    pub stable: &'a str,
    /// New pods that may be not ready.
    pub tolerated: i32,
    /// Nothing comes after it: once every new pod is available the user's fields are given back, and the last
    /// old pods go by the user's own strategy.
    pub ends: bool,
}

/// The two numbers of the knob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Knob {
    /// `maxUnavailable`, in pods.
    pub unavailable: i32,
    /// `maxSurge`, in pods.
    pub surge: i32,
}

/// What [`next_knob`] looks at.
#[derive(Clone, Copy, Debug)]
pub struct KnobState {
    /// `spec.replicas`.
    pub n: i32,
    /// New pods wanted.
    pub k: i32,
    /// New pods that exist.
    pub new: i32,
    /// New pods that are available by the user's own `minReadySeconds`.
    pub available: i32,
    /// New pods that may be not ready.
    pub tolerated: i32,
    /// The user's `maxSurge`, in pods.
    pub user_surge: i32,
    /// The user's `maxUnavailable`, in pods.
    pub user_unavailable: i32,
    /// The knob that is set, when one is.
    pub set: Option<Knob>,
}

/// The next setting on the way to `k` new pods.
///
/// Surge first where the user's `maxSurge` covers the pods to add: new pods get ready, then the old go,
/// in two writes. Else `maxUnavailable` rises, never beyond the user's own plus the new pods that are
/// available, and only when the new pods that exist are available, so that the writes stay few.
#[must_use]
pub fn next_knob(s: KnobState) -> Knob {
    let last = Knob { unavailable: s.k, surge: 0 };
    if s.new >= s.k && s.available >= s.k - s.tolerated {
        return last;
    }
    if let Some(set) = s.set {
        if set == last {
            return last;
        }
        // A surge that already aims at k is left to finish.
        if set.unavailable + set.surge == s.k && s.user_surge >= set.surge && s.new < s.k {
            return set;
        }
        let all_available = s.available >= s.new - s.tolerated;
        if set.surge + set.unavailable <= s.k && !all_available {
            return set;
        }
    }
    let cap = (s.user_unavailable + s.available).max(0);
    // A pause may have come between: pods that it found not ready would cost stable ones.
    let carried = s.new - s.tolerated <= cap;
    if carried && s.k - s.new <= s.user_surge && s.k > s.new {
        return Knob { unavailable: s.new, surge: s.k - s.new };
    }
    if s.new >= s.k {
        // All are there, some are not available yet: keep what stands.
        return s.set.unwrap_or(Knob {
            unavailable: (s.k - s.user_surge).max(0),
            surge: s.user_surge.min(s.k),
        });
    }
    let surge = s.user_surge.min(s.k);
    if surge == 0 {
        return Knob { unavailable: cap.min(s.k), surge: 0 };
    }
    Knob { unavailable: cap.min(s.k - surge).max(0), surge }
}

/// A number of pods as the field takes it: a whole percentage up to 100 pods, so that a scale event
/// keeps the share with nobody there to adjust it; a number above.
#[must_use]
pub fn knob_value(pods: i32, n: i32) -> IntOrString {
    if n <= 0 || n > 100 || pods == 0 {
        return IntOrString::Int(pods);
    }
    IntOrString::String(format!("{}%", (100 * pods + n - 1) / n))
}

/// The knob that the Deployment's fields stand for.
#[must_use]
pub fn read_knob(view: &DeploymentView) -> Knob {
    let (surge, unavailable) = (&view.fields.max_surge, &view.fields.max_unavailable);
    let read = |v: &Option<IntOrString>, up| {
        v.as_ref().map_or(0, |v| super::view::scaled(v, view.replicas, up))
    };
    Knob { unavailable: read(unavailable, false), surge: read(surge, true) }
}

/// One step of the movement to `aim`.
#[must_use]
pub fn move_to(view: &DeploymentView, aim: Aim<'_>, now: Timestamp) -> Motion {
    let n = view.replicas;
    let k = aim.new_pods.clamp(0, n);
    let new = view.current();
    let count = new.map_or(0, |rs| rs.replicas);
    let (available, wake) = new.map_or((0, None), |rs| rs.available_after(min_ready(aim), now));
    if count > k && aim.exact {
        return go_back(view, aim, k, now);
    }
    if let Some(over) = hand_over(view, aim, available, wake) {
        return over;
    }
    if let Some(there) = arrival(view, k, count, available, aim.tolerated, wake) {
        return there;
    }
    if let Some(leaving) = leave_rest(view) {
        return leaving;
    }
    let (user_surge, user_unavailable) = budget(aim.user, n);
    let set = (view.under_knob() && !view.fields.paused).then(|| read_knob(view));
    let state = KnobState {
        n,
        k,
        new: count,
        available,
        tolerated: aim.tolerated,
        user_surge,
        user_unavailable,
        set,
    };
    let knob = next_knob(state);
    if set != Some(knob) {
        return Motion::Act(Write::Deployment(turn(view, knob, n)));
    }
    Motion::Wait { reason: missing(view, available, k), wake }
}

/// How many new pods are ready, and what keeps one from it.
fn missing(view: &DeploymentView, available: i32, k: i32) -> String {
    match view.current().and_then(ReplicaSetView::problem) {
        Some(p) => format!("{available} of {k} new pods are ready ({p})"),
        None => format!("{available} of {k} new pods are ready"),
    }
}

fn wait(reason: &str, wake: Option<Timestamp>) -> Motion {
    Motion::Wait { reason: reason.to_owned(), wake }
}

/// The end of the last movement, from when every new pod is available: the user's fields, by which the
/// native controller takes the old pods that are left. That is his own update, with new pods that are ready:
/// it keeps his budget whatever comes, and goes on with nobody there.
///
/// New pods that never get ready count for him though they are tolerated: then the knob takes the old ones.
fn hand_over(
    view: &DeploymentView,
    aim: Aim<'_>,
    available: i32,
    wake: Option<Timestamp>,
) -> Option<Motion> {
    let n = view.replicas;
    let count = view.current().map_or(0, |rs| rs.replicas);
    if !aim.ends || aim.user.paused || aim.new_pods < n || count == 0 {
        return None;
    }
    let Some(write) = give_back(view, aim.user, false, false) else {
        let alone = count == n && view.active().count() == 1;
        if available >= n - aim.tolerated && alone && view.settled() {
            return Some(Motion::Arrived);
        }
        let stuck = count >= n && available < n && available >= n - aim.tolerated && !alone;
        let reason =
            if available >= n { "old pods to go".to_owned() } else { missing(view, available, n) };
        return (!stuck).then_some(Motion::Wait { reason, wake });
    };
    (count >= n && available >= n).then_some(Motion::Act(write))
}

/// `Some` when no more pods have to be moved: arrived, or only readiness is missing at rest.
fn arrival(
    view: &DeploymentView,
    k: i32,
    count: i32,
    available: i32,
    tolerated: i32,
    wake: Option<Timestamp>,
) -> Option<Motion> {
    let n = view.replicas;
    let moving = !view.fields.paused;
    if moving && !(view.under_knob() && read_knob(view).surge == 0) {
        return None;
    }
    let in_place = count >= k && view.total() == n && view.settled();
    if !in_place {
        return None;
    }
    let gone: bool = view.active().all(|rs| rs.status_replicas <= rs.replicas);
    if !gone {
        return Some(wait("old pods to go", None));
    }
    if available >= k.min(count) - tolerated {
        return Some(Motion::Arrived);
    }
    Some(Motion::Wait { reason: format!("{available} of {k} new pods are ready"), wake })
}

/// The patch that sets the knob and lets the native controller move.
fn turn(view: &DeploymentView, knob: Knob, n: i32) -> KnobPatch {
    KnobPatch {
        paused: view.fields.paused.then_some(false),
        min_ready_seconds: (!view.under_knob()).then_some(Some(NEVER_READY_SECONDS)),
        progress_deadline_seconds: (view.fields.progress_deadline_seconds
            != Some(NEVER_LATE_SECONDS))
        .then_some(Some(NEVER_LATE_SECONDS)),
        max_surge: Some(IntOrString::Int(knob.surge)),
        max_unavailable: Some(knob_value(knob.unavailable, n)),
        why: "turn the knob",
        ..KnobPatch::default()
    }
}

/// The first of the two writes that leave the rest, and the wait between them: in one write the native
/// controller may still see new pods as available, and overshoots.
fn leave_rest(view: &DeploymentView) -> Option<Motion> {
    let new = view.current().filter(|_| view.fields.paused)?;
    if !view.under_knob() && new.replicas > 0 {
        return Some(Motion::Act(Write::Deployment(KnobPatch {
            min_ready_seconds: Some(Some(NEVER_READY_SECONDS)),
            progress_deadline_seconds: Some(Some(NEVER_LATE_SECONDS)),
            why: "leave the rest: new pods stop counting as available",
            ..KnobPatch::default()
        })));
    }
    // Its status says 0 also before the rest that was just made has reached it.
    let told = view.settled() && new.min_ready_seconds == NEVER_READY_SECONDS;
    let counts = new.available > 0 || (new.replicas > 0 && !told);
    counts.then(|| wait("the new ReplicaSet to stop counting its pods as available", None))
}

/// Fewer new pods: on the ReplicaSets, since the native controller never takes the new one down.
///
/// Under the knob, where it leaves both alone: at rest it keeps the total itself, and takes an added pod
/// back before it is ready. An old pod is added, gets ready, and a new one goes, one by one. The last new
/// pod goes at rest, where the native controller makes up for it, and so does one that is not ready.
fn go_back(view: &DeploymentView, aim: Aim<'_>, k: i32, now: Timestamp) -> Motion {
    let (Some(new), Some(old)) = (view.current(), view.by_hash(aim.stable)) else {
        return wait("the ReplicaSets of both revisions", None);
    };
    let n = view.replicas;
    if n == 1 {
        return wait("a rollback: the only pod cannot go back by itself", None);
    }
    let surplus = view.total() - n;
    let last = k == 0 && new.replicas == 1;
    if last && (surplus <= 0 || old.replicas >= n) {
        if let Some(rest) = rest_with(view, aim.user, surplus.max(0)) {
            return Motion::Act(rest);
        }
        if !view.settled() {
            return wait("the Deployment controller", None);
        }
        return Motion::Act(scale(view, new, 0));
    }
    let kept = k.max(1);
    let (ready, wake) = old.available_after(min_ready(aim), now);
    let next = if surplus <= 0 && old.replicas < n - kept {
        Some((old, old.replicas + 1))
    } else {
        let all_ready = ready >= old.replicas;
        let of_new = || all_ready.then(|| (new, (new.replicas - surplus).max(kept)));
        unready_between(view, aim, surplus, now).or_else(of_new)
    };
    if goes_at_rest(view, aim, next, now) {
        if let Some(rest) = rest_with(view, aim.user, surplus) {
            return Motion::Act(rest);
        }
    } else {
        if let Some(leaving) = leave_rest(view) {
            return leaving;
        }
        let left = surplus + next.map_or(0, |(rs, to)| (to - rs.replicas).min(0));
        let knob = knob_back(view, aim, (kept, left), now);
        if view.fields.paused || !view.under_knob() || read_knob(view) != knob {
            return Motion::Act(Write::Deployment(turn(view, knob, n)));
        }
    }
    if !view.settled() {
        return wait("the Deployment controller", None);
    }
    match next {
        Some((rs, to)) => Motion::Act(scale(view, rs, to)),
        None => {
            let reason = format!("{ready} of {} stable pods are ready again", old.replicas);
            Motion::Wait { reason, wake }
        }
    }
}

/// The next pod goes at rest where the budget needs what is too many: paused with that as the surge, the
/// native controller gives its place to the largest ReplicaSet, the stable one. Under the knob the surge must
/// go before the pod, and who pauses in between takes a pod that serves from the largest.
fn goes_at_rest(
    view: &DeploymentView,
    aim: Aim<'_>,
    next: Option<(&ReplicaSetView, i32)>,
    now: Timestamp,
) -> bool {
    let surplus = view.total() - view.replicas;
    let fewer = next.is_some_and(|(rs, to)| to < rs.replicas);
    let begins = fewer || (next.is_none() && view.fields.paused);
    if surplus <= 0 || spare(view, aim, now) >= surplus || !begins {
        return false;
    }
    let after = |rs: &ReplicaSetView| match next {
        Some((one, to)) if one.hash == rs.hash => to,
        _ => rs.replicas,
    };
    let stable = view.by_hash(aim.stable).map_or(0, |rs| rs.replicas);
    view.active().all(|rs| rs.hash == aim.stable || after(rs) < stable)
}

/// Pods that serve beyond those that the user's budget asks for.
fn spare(view: &DeploymentView, aim: Aim<'_>, now: Timestamp) -> i32 {
    let away = budget(aim.user, view.replicas).1;
    view.active().map(|rs| rs.available_after(min_ready(aim), now).0).sum::<i32>()
        - (view.replicas - away)
}

fn min_ready(aim: Aim<'_>) -> i32 {
    aim.user.min_ready_seconds.unwrap_or(0)
}

/// The knob on the way back, with at least `kept` new pods; `left` pods are too many after the next one has
/// gone, or while nothing can go.
///
/// `maxUnavailable` is never more than the user's own budget and the new pods that serve: the native
/// controller would take stable pods for new ones that are not ready. What is too many is the surge, as far
/// as the budget needs it: a pause, as a third version brings one, takes what is beyond the surge from the
/// largest ReplicaSet.
fn knob_back(
    view: &DeploymentView,
    aim: Aim<'_>,
    (kept, left): (i32, i32),
    now: Timestamp,
) -> Knob {
    let serve = |rs: &ReplicaSetView| rs.available_after(min_ready(aim), now).0;
    let away = budget(aim.user, view.replicas).1;
    let surplus = view.total() - view.replicas;
    let surge = (surplus - spare(view, aim, now)).clamp(0, left.max(0));
    let allowed = kept.min(away + view.current().map_or(0, serve));
    match (allowed, surge) {
        // Both may not be 0. A surge beyond what is left would bring back what is taken: then it is one pod
        // away, which the native controller takes from none that serves while new ones do not.
        (..=0, 0) if left > 0 => Knob { unavailable: 0, surge: 1 },
        (_, 0) => Knob { unavailable: allowed.max(1), surge },
        _ => Knob { unavailable: allowed.max(0), surge },
    }
}

/// Of the pods that are too many, those of a version in between that serve nobody go first: a new pod in
/// their place would be one that serves.
fn unready_between<'v>(
    view: &'v DeploymentView,
    aim: Aim<'_>,
    surplus: i32,
    now: Timestamp,
) -> Option<(&'v ReplicaSetView, i32)> {
    let mut between =
        view.active().filter(|rs| rs.hash != aim.stable && rs.template_hash != view.template_hash);
    between.find_map(|rs| {
        let unready = rs.replicas - rs.available_after(min_ready(aim), now).0;
        (unready > 0 && surplus > 0).then(|| (rs, rs.replicas - unready.min(surplus)))
    })
}

/// A decided size of a ReplicaSet.
#[must_use]
pub fn scale(view: &DeploymentView, rs: &ReplicaSetView, to: i32) -> Write {
    Write::Scale {
        replica_set: rs.name.clone(),
        uid: rs.uid.clone(),
        resource_version: rs.resource_version.clone(),
        from: rs.replicas,
        to,
        desired: view.replicas,
        max: view.replicas + read_knob(view).surge,
    }
}
