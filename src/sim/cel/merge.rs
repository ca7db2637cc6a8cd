//! What a mutation's result does to the object: an apply configuration is merged into it, a JSON
//! patch is applied to it.
//!
//! The merge follows the server's structured merge: maps merge, scalars are set, the lists of
//! built-in kinds that have keys merge by key, and an atomic list or map in an apply configuration
//! is refused. Which list of a custom kind is not atomic only its schema could say; all are taken
//! as atomic, as is the server's default. A field that the kind does not have is not refused here.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{eval::EvalError, value::Val};

/// The object with `Object{...}` merged into it; `None` where that says nothing.
pub(crate) fn apply_configuration(
    object: &Value,
    patch: Val<'_>,
) -> Result<Option<Value>, EvalError> {
    let Val::Message { type_name, .. } = &patch else {
        return Err(EvalError::new("unsupported return type from ApplyConfiguration expression"));
    };
    check_type_names(&patch, &[type_name])?;
    let patch = patch.into_json()?;
    if patch.as_object().is_some_and(Map::is_empty) {
        return Ok(None);
    }
    let built_in = is_built_in(object);
    let mut atomics = BTreeSet::new();
    find_atomics(&patch, "", built_in, &mut atomics);
    if !atomics.is_empty() {
        let atomics: Vec<_> = atomics.into_iter().collect();
        return Err(EvalError::new(format!(
            "error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, \
             maps or structs: {}",
            atomics.join(", ")
        )));
    }
    let mut merged = object.clone();
    merge(&mut merged, patch, "", built_in);
    Ok(Some(merged))
}

/// The object after a list of `JSONPatch{...}`; `None` where that is empty or a `test` of it fails.
pub(crate) fn json_patch(object: &Value, operations: Val<'_>) -> Result<Option<Value>, EvalError> {
    let not_a_list = "type mismatch: JSONPatchType.expression should evaluate to array";
    let mut list = Vec::new();
    for operation in operations.range().map_err(|_| EvalError::new(not_a_list))? {
        match &operation {
            Val::Message { type_name, fields } if type_name == "JSONPatch" => {
                if let Some(Val::Message { type_name, .. }) = fields.get("value") {
                    check_type_names(fields.get("value").unwrap_or(&Val::null()), &[type_name])?;
                }
            }
            _ => return Err(EvalError::new(format!("{not_a_list} of JSONPatch"))),
        }
        list.push(operation.into_json()?);
    }
    if list.is_empty() {
        return Ok(None);
    }
    let broken = |error: String| EvalError::new(format!("JSON Patch: {error}"));
    let patch: json_patch::Patch =
        serde_json::from_value(Value::Array(list)).map_err(|error| broken(error.to_string()))?;
    let mut patched = object.clone();
    match json_patch::patch(&mut patched, &patch) {
        Ok(()) => Ok(Some(patched)),
        Err(error) if matches!(error.kind, json_patch::PatchErrorKind::TestFailed) => Ok(None),
        Err(error) => Err(broken(error.to_string())),
    }
}

/// A nested message must be named after the fields that lead to it: `Object.spec{template:
/// Object.spec.template{}}`.
fn check_type_names(value: &Val<'_>, path: &[&str]) -> Result<(), EvalError> {
    match value {
        Val::Message { type_name, fields } => {
            let expected = path.join(".");
            if *type_name != expected {
                return Err(EvalError::new(format!(
                    "type mismatch: unexpected type name {type_name:?}, expected {expected:?}, \
                     which matches field name path from root Object type"
                )));
            }
            for (name, field) in fields {
                check_type_names(field, &[path, &[name.as_str()]].concat())?;
            }
            Ok(())
        }
        Val::List(elements) => {
            elements.iter().try_for_each(|element| check_type_names(element, path))
        }
        _ => Ok(()),
    }
}

fn is_built_in(object: &Value) -> bool {
    let group = object.get("apiVersion").and_then(Value::as_str).unwrap_or("");
    let group = group.rsplit_once('/').map_or("", |(group, _)| group);
    !group.contains('.') || group.ends_with(".k8s.io") && group != "gateway.networking.k8s.io"
}

/// How the list in this field merges.
enum Merge {
    /// Elements with equal values of these keys are one element; the default of a missing key.
    Keyed(&'static [(&'static str, Option<&'static str>)]),
    Set,
    Atomic,
}

fn list_merge(field: &str, path: &str, built_in: bool) -> Merge {
    if path == "/metadata" {
        return match field {
            "finalizers" => Merge::Set,
            "ownerReferences" => Merge::Keyed(&[("uid", None)]),
            _ => Merge::Atomic,
        };
    }
    if !built_in {
        return Merge::Atomic;
    }
    match field {
        "containers"
        | "initContainers"
        | "ephemeralContainers"
        | "volumes"
        | "env"
        | "imagePullSecrets" => Merge::Keyed(&[("name", None)]),
        "volumeMounts" => Merge::Keyed(&[("mountPath", None)]),
        "conditions" => Merge::Keyed(&[("type", None)]),
        "ports" if path == "/spec" => Merge::Keyed(&[("port", None), ("protocol", Some("TCP"))]),
        "ports" => Merge::Keyed(&[("containerPort", None), ("protocol", Some("TCP"))]),
        _ => Merge::Atomic,
    }
}

/// Maps that the built-in kinds declare atomic.
fn is_atomic_map(field: &str, built_in: bool) -> bool {
    built_in && matches!(field, "selector" | "nodeSelector" | "labelSelector")
}

fn find_atomics(patch: &Value, path: &str, built_in: bool, found: &mut BTreeSet<String>) {
    let Value::Object(fields) = patch else { return };
    for (field, value) in fields {
        let inner = format!("{path}/{field}");
        match value {
            Value::Object(_) if is_atomic_map(field, built_in) => {
                found.insert(inner.replace('/', "."));
            }
            Value::Object(_) => find_atomics(value, &inner, built_in, found),
            Value::Array(elements) => match list_merge(field, path, built_in) {
                Merge::Atomic => {
                    found.insert(inner.replace('/', "."));
                }
                Merge::Set => {}
                Merge::Keyed(_) => {
                    for (at, element) in elements.iter().enumerate() {
                        find_atomics(element, &format!("{inner}[{at}]"), built_in, found);
                    }
                }
            },
            _ => {}
        }
    }
}

fn merge(base: &mut Value, patch: Value, path: &str, built_in: bool) {
    let (Value::Object(fields), Value::Object(target)) = (patch, &mut *base) else { return };
    for (field, value) in fields {
        merge_field(target, field, value, path, built_in);
    }
}

fn merge_field(
    target: &mut Map<String, Value>,
    field: String,
    value: Value,
    path: &str,
    built_in: bool,
) {
    let inner = format!("{path}/{field}");
    match value {
        Value::Object(_) => {
            let slot = target.entry(field).or_insert_with(|| Value::Object(Map::new()));
            if !slot.is_object() {
                *slot = Value::Object(Map::new());
            }
            merge(slot, value, &inner, built_in);
        }
        Value::Array(elements) => {
            let how = list_merge(&field, path, built_in);
            let slot = target.entry(field).or_insert_with(|| Value::Array(Vec::new()));
            let Value::Array(list) = slot else {
                *slot = Value::Array(elements);
                return;
            };
            for element in elements {
                let found = match how {
                    Merge::Keyed(keys) => list.iter_mut().find(|e| same_keys(e, &element, keys)),
                    Merge::Set => list.iter_mut().find(|e| **e == element),
                    Merge::Atomic => None,
                };
                match found {
                    Some(existing) => merge(existing, element, &inner, built_in),
                    None => list.push(element),
                }
            }
        }
        scalar => {
            target.insert(field, scalar);
        }
    }
}

fn same_keys(left: &Value, right: &Value, keys: &[(&str, Option<&str>)]) -> bool {
    keys.iter().all(|(key, default)| {
        let default = default.map(Value::from);
        let of = |value: &Value| value.get(key).cloned().or_else(|| default.clone());
        of(left) == of(right)
    })
}
