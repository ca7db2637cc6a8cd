//! Which objects a controller may call its own: adoption and release by selector.

use std::sync::Arc;

use serde_json::Value;

use super::object::{self, Outcome, Write, text};

/// Whether `owner` controls the object.
pub(crate) fn is_owned(object: &Value, owner: &Value) -> bool {
    object::controller_of(object).is_some_and(|own| text(own, &["uid"]) == object::uid(owner))
}

/// The candidates that are the owner's. One without an owner that its selector matches is adopted;
/// an own one that it no longer matches is let go.
pub(super) fn claim<'a>(
    owner: &Value,
    candidates: impl Iterator<Item = &'a Arc<Value>>,
    out: &mut Outcome,
) -> Vec<Arc<Value>> {
    let selector = &owner["spec"]["selector"];
    let may_adopt = !object::is_deleting(owner);
    let mut claimed = Vec::new();
    for found in candidates {
        let is_match = object::selects(selector, &found["metadata"]["labels"]);
        if is_owned(found, owner) {
            if is_match {
                claimed.push(Arc::clone(found));
            } else {
                let changed = with_owners(found, |owners| {
                    owners.retain(|own| text(own, &["uid"]) != object::uid(owner));
                });
                out.writes.push(Write::Update(changed));
            }
        } else if is_match
            && may_adopt
            && object::controller_of(found).is_none()
            && !object::is_deleting(found)
        {
            let changed = with_owners(found, |owners| owners.push(object::controlled_by(owner)));
            out.writes.push(Write::Update(Arc::clone(&changed)));
            claimed.push(changed);
        }
    }
    claimed
}

fn with_owners(object: &Value, change: impl FnOnce(&mut Vec<Value>)) -> Arc<Value> {
    let mut owners = object::items(object, &["metadata", "ownerReferences"]).to_vec();
    change(&mut owners);
    let mut changed = object.clone();
    object::set(&mut changed, &["metadata", "ownerReferences"], owners.into());
    Arc::new(changed)
}
