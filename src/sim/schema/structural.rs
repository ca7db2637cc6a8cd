//! Defaults and pruning by a structural schema.

use serde_json::{Map, Value};

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
    prune_value(schema, object, "", true, &mut dropped);
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
    path: &str,
    resource: bool,
    dropped: &mut Vec<String>,
) {
    let preserve = flag(schema, "x-kubernetes-preserve-unknown-fields");
    match value {
        Value::Object(map) => {
            let names: Vec<String> = map.keys().cloned().collect();
            for name in names {
                let inner = join(path, &name);
                match (map.get_mut(&name), field(schema, &name)) {
                    (Some(metadata), _) if resource && name == "metadata" => {
                        prune_metadata(metadata, &inner, dropped);
                    }
                    _ if resource && (name == "apiVersion" || name == "kind") => {}
                    (Some(value), Some(schema)) => {
                        let embedded = flag(schema, "x-kubernetes-embedded-resource");
                        prune_value(schema, value, &inner, embedded, dropped);
                    }
                    _ if preserve => {}
                    _ => {
                        map.remove(&name);
                        dropped.push(inner);
                    }
                }
            }
        }
        Value::Array(list) => {
            let Some(items) = schema.get("items") else { return };
            for (at, item) in list.iter_mut().enumerate() {
                let embedded = flag(items, "x-kubernetes-embedded-resource");
                prune_value(items, item, &format!("{path}[{at}]"), embedded, dropped);
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

fn prune_metadata(metadata: &mut Value, path: &str, dropped: &mut Vec<String>) {
    let Value::Object(map) = metadata else { return };
    let unknown = |map: &Map<String, Value>| -> Vec<String> {
        map.keys().filter(|name| !METADATA.contains(&name.as_str())).cloned().collect()
    };
    for name in unknown(map) {
        map.remove(&name);
        dropped.push(join(path, &name));
    }
}
