//! A Deployment at rest, put back, and given back to its user. Pure decisions on a view.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::Deserialize;
use serde_json::Value;

use super::knob::{KnobPatch, Write, read_knob};
use super::view::{DeploymentView, normal_template, scaled};
use crate::api::{KnobFields, LetGo};

/// What brings the Deployment to its rest, or `None` when it rests already.
///
/// At rest nothing moves whoever dies: paused, the user's own `minReadySeconds` and deadline, no surge.
/// Pods count as available again, and a scale event keeps the share exactly. Paused by somebody else in the
/// middle of a move, it keeps the surge for the pods that are too many: without it the native controller
/// would take them from the largest ReplicaSet.
#[must_use]
pub fn rest(view: &DeploymentView, user: &KnobFields, paused_is_enough: bool) -> Option<Write> {
    if paused_is_enough && view.fields.paused {
        return None;
    }
    rest_with(view, user, too_many(view))
}

/// The rest with a surge of so many pods.
pub(super) fn rest_with(view: &DeploymentView, user: &KnobFields, surge: i32) -> Option<Write> {
    let knob = read_knob(view);
    let mut patch = fields_patch(view, user, "rest: nothing moves whoever dies");
    patch.paused = (!view.fields.paused).then_some(true);
    patch.max_surge = (knob.surge != surge).then_some(IntOrString::Int(surge));
    // Both may not be 0.
    patch.max_unavailable = (knob.unavailable == 0).then_some(IntOrString::Int(1));
    changes(&patch).then_some(Write::Deployment(patch))
}

/// True when the Deployment may go to its rest without losing a pod: there is no surplus that the
/// native controller would take from the largest ReplicaSet.
#[must_use]
pub fn can_rest(view: &DeploymentView) -> bool {
    view.fields.paused || view.total() <= view.replicas
}

/// Pauses a Deployment that should be held and is not.
#[must_use]
pub fn hold(view: &DeploymentView) -> Option<Write> {
    (!view.fields.paused).then(|| {
        Write::Deployment(KnobPatch {
            paused: Some(true),
            why: "hold: the template is not let through",
            ..KnobPatch::default()
        })
    })
}

/// Writes `template` back, paused, with the user's own `minReadySeconds`: the ReplicaSet that matches
/// takes that over even while paused, so the knob's value would make every stable pod unavailable.
#[must_use]
pub fn put_back(view: &DeploymentView, template: &Value, user: &KnobFields) -> Write {
    let mut patch = fields_patch(view, user, "put the template back");
    patch.paused = Some(true);
    patch.template = Some(normal_template(template));
    Write::Deployment(patch)
}

/// Gives every field back to the user. `paused` is what the Deployment is left with; `at_rest` keeps the
/// user's `maxSurge` away, because with two ReplicaSets the native controller would scale up though paused.
#[must_use]
pub fn give_back(
    view: &DeploymentView,
    user: &KnobFields,
    paused: bool,
    at_rest: bool,
) -> Option<Write> {
    let mut patch = fields_patch(view, user, "give the fields back");
    patch.paused = (view.fields.paused != paused).then_some(paused);
    let kept = too_many(view);
    let surge = if at_rest { Some(IntOrString::Int(kept)) } else { user.max_surge.clone() };
    if surge.is_some() && surge != view.fields.max_surge {
        patch.max_surge = surge;
    }
    // Both may not be 0.
    let both = at_rest && kept == 0;
    let unavailable = if both && user.max_unavailable.as_ref().is_some_and(is_zero) {
        Some(IntOrString::Int(1))
    } else {
        user.max_unavailable.clone()
    };
    if unavailable.is_some() && unavailable != view.fields.max_unavailable {
        patch.max_unavailable = unavailable;
    }
    patch.drop_wanted = view.wanted.is_some();
    changes(&patch).then_some(Write::Deployment(patch))
}

/// The pods that are too many, as far as the surge allows them. Paused with less, the native controller would
/// take them from the largest ReplicaSet.
fn too_many(view: &DeploymentView) -> i32 {
    read_knob(view).surge.min(view.total() - view.replicas).max(0)
}

/// What is remembered of a Deployment that `give_back` leaves at rest.
#[must_use]
pub fn left_at_rest(view: &DeploymentView, user: &KnobFields, rollout: &str) -> LetGo {
    LetGo {
        rollout: Some(rollout.to_owned()),
        workload: Some(view.uid.clone()),
        max_surge: user.max_surge.clone(),
        max_unavailable: user.max_unavailable.clone(),
        surge: Some(too_many(view)).filter(|kept| *kept > 0),
    }
}

/// What is 0 of any number of pods.
fn is_zero(value: &IntOrString) -> bool {
    scaled(value, 100, true) == 0
}

/// The fields of a Deployment that was let go, with the user's own where they are still as it was left.
#[must_use]
pub fn remembered(view: &DeploymentView, left: &LetGo) -> KnobFields {
    let mut out = view.fields.clone();
    let surge = IntOrString::Int(left.surge.unwrap_or(0));
    if left.workload.as_ref() != Some(&view.uid) || out.max_surge != Some(surge) {
        return out;
    }
    out.max_surge.clone_from(&left.max_surge);
    if left.max_unavailable.as_ref().is_some_and(is_zero)
        && out.max_unavailable == Some(IntOrString::Int(1))
    {
        out.max_unavailable.clone_from(&left.max_unavailable);
    }
    out
}

/// A patch of `minReadySeconds` and the deadline to the user's own, where they differ.
fn fields_patch(view: &DeploymentView, user: &KnobFields, why: &'static str) -> KnobPatch {
    let is = view.fields.min_ready_seconds.unwrap_or(0);
    let want = user.min_ready_seconds.unwrap_or(0);
    KnobPatch {
        min_ready_seconds: (is != want).then_some(user.min_ready_seconds),
        progress_deadline_seconds: (view.fields.progress_deadline_seconds
            != user.progress_deadline_seconds)
            .then_some(user.progress_deadline_seconds),
        why,
        ..KnobPatch::default()
    }
}

fn changes(patch: &KnobPatch) -> bool {
    let KnobPatch {
        paused,
        min_ready_seconds,
        progress_deadline_seconds,
        max_surge,
        max_unavailable,
        template,
        drop_wanted,
        why: _,
    } = patch;
    paused.is_some()
        || min_ready_seconds.is_some()
        || progress_deadline_seconds.is_some()
        || max_surge.is_some()
        || max_unavailable.is_some()
        || template.is_some()
        || *drop_wanted
}

/// The note of the hold policy: a release and what somebody wanted in it.
#[derive(Deserialize)]
struct Wanted {
    release: Option<String>,
    #[serde(flatten)]
    fields: KnobFields,
}

/// What somebody wanted of the held fields, as the hold policy noted it: one JSON object with the keys of
/// [`KnobFields`] and the release in which it was wanted. A value equal to the held one was not touched.
/// The second part says whether they paused the Deployment.
///
/// A note of another release is an old one that came back with an undo; it changes nothing, nor does
/// one that cannot be read.
#[must_use]
pub fn read_wanted(
    text: &str,
    release: &str,
    held: &KnobFields,
    originals: &KnobFields,
) -> (KnobFields, bool) {
    let wanted = serde_json::from_str::<Wanted>(text).ok();
    let ours = wanted.filter(|w| w.release.as_deref() == Some(release) && !release.is_empty());
    let Some(Wanted { fields: wanted, .. }) = ours else { return (originals.clone(), false) };
    let mut out = originals.clone();
    if wanted.min_ready_seconds.unwrap_or(0) != held.min_ready_seconds.unwrap_or(0) {
        out.min_ready_seconds = wanted.min_ready_seconds.filter(|s| *s != 0);
    }
    if wanted.progress_deadline_seconds != held.progress_deadline_seconds {
        out.progress_deadline_seconds = wanted.progress_deadline_seconds;
    }
    if wanted.type_.is_some() && wanted.type_ != held.type_ {
        out.type_ = wanted.type_;
    }
    if wanted.max_surge.is_some() && wanted.max_surge != held.max_surge {
        out.max_surge = wanted.max_surge;
    }
    if wanted.max_unavailable.is_some() && wanted.max_unavailable != held.max_unavailable {
        out.max_unavailable = wanted.max_unavailable;
    }
    (out, wanted.paused)
}
