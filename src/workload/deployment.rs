//! A Deployment at rest, put back, and given back to its user. Pure decisions on a view.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use super::knob::{KnobPatch, Write, read_knob};
use super::view::{DeploymentView, normal_template};
use crate::api::KnobFields;

/// What brings the Deployment to its rest, or `None` when it rests already.
///
/// At rest nothing moves whoever dies: paused, the user's own `minReadySeconds` and deadline, no surge.
/// Pods count as available again, and a scale event keeps the share exactly.
#[must_use]
pub fn rest(view: &DeploymentView, user: &KnobFields, paused_is_enough: bool) -> Option<Write> {
    if paused_is_enough && view.fields.paused {
        return None;
    }
    let knob = read_knob(view);
    let mut patch = fields_patch(view, user, "rest: nothing moves whoever dies");
    patch.paused = (!view.fields.paused).then_some(true);
    patch.max_surge = (knob.surge != 0).then_some(IntOrString::Int(0));
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

/// Gives every field back to the user. `paused` is what the Deployment is left with; `surge_zero` keeps
/// `maxSurge` 0, because with two ReplicaSets the native controller would scale up though paused.
#[must_use]
pub fn give_back(
    view: &DeploymentView,
    user: &KnobFields,
    paused: bool,
    surge_zero: bool,
) -> Option<Write> {
    let mut patch = fields_patch(view, user, "give the fields back");
    patch.paused = (view.fields.paused != paused).then_some(paused);
    let surge = if surge_zero { Some(IntOrString::Int(0)) } else { user.max_surge.clone() };
    if surge.is_some() && surge != view.fields.max_surge {
        patch.max_surge = surge;
    }
    let unavailable = if surge_zero && user.max_unavailable == Some(IntOrString::Int(0)) {
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

/// What somebody wanted of a held field, as the hold policy noted it: `key=value` pairs separated by
/// spaces. An unknown key is left out: it cannot be restored, and the annotation stays readable.
#[must_use]
pub fn read_wanted(text: &str, originals: &KnobFields) -> (KnobFields, bool) {
    let mut out = originals.clone();
    let mut paused = false;
    for pair in text.split_whitespace() {
        let Some((key, value)) = pair.split_once('=') else { continue };
        let number = value.parse::<i32>().ok();
        let int_or_string =
            number.map_or_else(|| IntOrString::String(value.to_owned()), IntOrString::Int);
        match key {
            "minReadySeconds" => out.min_ready_seconds = number,
            "progressDeadlineSeconds" => out.progress_deadline_seconds = number,
            "type" => out.type_ = Some(value.to_owned()),
            "maxSurge" => out.max_surge = Some(int_or_string),
            "maxUnavailable" => out.max_unavailable = Some(int_or_string),
            "paused" => paused = value == "true",
            _ => {}
        }
    }
    (out, paused)
}
