//! From a stored object and a patch to the wanted object. Server-side apply is in `apply`.

use serde_json::{Map, Value};

use super::{ApiStatus, Cause, PatchType, Refusable, fields::meta, kinds::Kind};

/// The object with the patch applied.
pub fn apply(how: PatchType, kind: &Kind, old: &Value, patch: &Value) -> Refusable<Value> {
    match how {
        PatchType::Json => json(kind, old, patch),
        PatchType::Merge | PatchType::Strategic => {
            if !patch.is_object() {
                return Err(ApiStatus::bad_request("the patch is not an object"));
            }
            let mut new = old.clone();
            merge(&mut new, patch);
            Ok(new)
        }
        PatchType::Apply => Err(ApiStatus::bad_request("apply does not patch")),
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
fn json(kind: &Kind, old: &Value, patch: &Value) -> Refusable<Value> {
    let unreadable =
        |error: serde_json::Error| ApiStatus::bad_request(format!("error decoding patch: {error}"));
    let patch: json_patch::Patch = serde_json::from_value(patch.clone()).map_err(unreadable)?;
    let mut new = old.clone();
    json_patch::patch(&mut new, &patch).map_err(|error| {
        let cause = Cause {
            field: "patch".into(),
            message: format!("Invalid value: {error}"),
            reason: "FieldValueInvalid",
        };
        ApiStatus::invalid(&kind.kind, &kind.key.group, meta(old, "name"), &[cause])
    })?;
    Ok(new)
}
