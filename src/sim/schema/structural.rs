//! Defaults and pruning by a structural schema.

use serde_json::Value;

use crate::sim::place::Place;

/// The fields of `metadata`: the same for every kind, whatever its schema says.
const METADATA: [&str; 15] = [
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

pub(super) fn flag(schema: &Value, name: &str) -> bool {
    schema.get(name).and_then(Value::as_bool).unwrap_or(false)
}

pub(super) fn property<'s>(schema: &'s Value, name: &str) -> Option<&'s Value> {
    schema.get("properties").and_then(|properties| properties.get(name))
}

fn additional(schema: &Value) -> Option<&Value> {
    schema.get("additionalProperties").filter(|inner| inner.is_object())
}

/// The schema of a field: its property's, or that of every field.
pub(super) fn field<'s>(schema: &'s Value, name: &str) -> Option<&'s Value> {
    property(schema, name).or_else(|| additional(schema))
}

/// `path.name`, or the name alone at the root.
pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// Fills in what the schema defaults; a null that the schema does not allow counts as absent.
pub fn default(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|name, value| !(value.is_null() && forbids_null(schema, name)));
            let properties = schema.get("properties").and_then(Value::as_object);
            for (name, property) in properties.into_iter().flatten() {
                if let Some(default) = property.get("default")
                    && !map.contains_key(name)
                {
                    map.insert(name.clone(), default.clone());
                }
            }
            for (name, value) in map.iter_mut() {
                if let Some(inner) = field(schema, name) {
                    default(inner, value);
                }
            }
        }
        Value::Array(list) => {
            if let Some(items) = schema.get("items") {
                list.iter_mut().for_each(|item| default(items, item));
            }
        }
        _ => {}
    }
}

fn forbids_null(schema: &Value, name: &str) -> bool {
    field(schema, name).is_some_and(|schema| !flag(schema, "nullable"))
}

/// Drops the fields that the schema of an object does not know, and names them.
pub fn prune(schema: &Value, object: &mut Value) -> Vec<String> {
    let mut dropped = Vec::new();
    prune_value(schema, object, Place::Top, true, &mut dropped);
    dropped
}

/// The fields that the schema of an object does not know.
#[must_use]
pub fn unknown_fields(schema: &Value, object: &Value) -> Vec<String> {
    prune(schema, &mut object.clone())
}

fn prune_value(
    schema: &Value,
    value: &mut Value,
    here: Place<'_>,
    resource: bool,
    dropped: &mut Vec<String>,
) {
    let preserve = flag(schema, "x-kubernetes-preserve-unknown-fields");
    match value {
        Value::Object(map) => map.retain(|name, value| {
            let inner = Place::Field(&here, name);
            match field(schema, name) {
                _ if resource && name == "metadata" => prune_metadata(value, inner, dropped),
                _ if resource && (name == "apiVersion" || name == "kind") => {}
                Some(schema) => {
                    let embedded = flag(schema, "x-kubernetes-embedded-resource");
                    prune_value(schema, value, inner, embedded, dropped);
                }
                None if preserve => {}
                None => {
                    dropped.push(inner.to_string());
                    return false;
                }
            }
            true
        }),
        Value::Array(list) => {
            let Some(items) = schema.get("items") else { return };
            for (at, item) in list.iter_mut().enumerate() {
                let embedded = flag(items, "x-kubernetes-embedded-resource");
                prune_value(items, item, Place::Item(&here, at), embedded, dropped);
            }
        }
        Value::Number(number) => {
            // The server writes a whole number as an integer, however it was sent. Beyond 2^53 a
            // double no longer holds every integer.
            let whole = |n: &f64| n.fract() == 0.0 && n.abs() <= 9_007_199_254_740_992.0;
            if let Some(whole) = number.as_f64().filter(|_| number.is_f64()).filter(whole) {
                *value = Value::from(whole as i64);
            }
        }
        _ => {}
    }
}

fn prune_metadata(metadata: &mut Value, here: Place<'_>, dropped: &mut Vec<String>) {
    let Value::Object(map) = metadata else { return };
    map.retain(|name, _| {
        let is_known = METADATA.contains(&name.as_str());
        if !is_known {
            dropped.push(Place::Field(&here, name).to_string());
        }
        is_known
    });
}
