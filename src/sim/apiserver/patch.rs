//! From a stored object and a patch to the wanted object. Server-side apply is in `managed`.

use serde_json::{Map, Value, json};

use super::{ApiStatus, PatchType, Refusable, kinds::Kind, schemas::Schema, strategic};

/// The object with the patch applied. What is applied to a Scale is merged: it has no lists.
pub fn apply(
    how: PatchType,
    kind: &Kind,
    schema: Schema<'_>,
    old: &Value,
    patch: &Value,
) -> Refusable<Value> {
    match how {
        PatchType::Json => json_patched(old, patch),
        PatchType::Strategic if kind.crd.is_some() => {
            let message = "the body of the request was in an unknown format - accepted media types \
                           include: application/json-patch+json, application/merge-patch+json, \
                           application/apply-patch+yaml";
            Err(ApiStatus::new(415, "UnsupportedMediaType", message))
        }
        PatchType::Merge | PatchType::Strategic | PatchType::Apply if !patch.is_object() => {
            Err(ApiStatus::bad_request("the patch is not an object"))
        }
        PatchType::Strategic => {
            let mut new = old.clone();
            strategic::merge(&mut new, patch, schema);
            Ok(new)
        }
        PatchType::Merge | PatchType::Apply => {
            let mut new = old.clone();
            merge(&mut new, patch);
            Ok(new)
        }
    }
}

/// RFC 7386.
pub fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(fields) = target else { return };
    for (name, value) in patch {
        if value.is_null() {
            fields.remove(name);
        } else {
            merge(fields.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

/// RFC 6902.
fn json_patched(old: &Value, patch: &Value) -> Refusable<Value> {
    let unreadable =
        |error: serde_json::Error| ApiStatus::bad_request(format!("error decoding patch: {error}"));
    let patch: json_patch::Patch = serde_json::from_value(patch.clone()).map_err(unreadable)?;
    let mut new = old.clone();
    json_patch::patch(&mut new, &patch).map_err(|_| {
        let message = "the server rejected our request due to an error in our request";
        Box::new(ApiStatus { details: json!({}), ..*ApiStatus::new(422, "Invalid", message) })
    })?;
    Ok(new)
}
