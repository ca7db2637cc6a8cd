//! One stored object, seen in the version that a client asks for. Only Events differ in more
//! than their `apiVersion`.

use std::sync::Arc;

use serde_json::Value;

use super::{
    fields::{object_mut, text},
    kinds::Kind,
};

/// The object in the version of `kind`.
pub fn of(kind: &Kind, stored: &Arc<Value>) -> Arc<Value> {
    if kind.key.is_of(text(&stored["apiVersion"])) {
        return stored.clone();
    }
    let mut object = Value::clone(stored);
    if kind.is("events.k8s.io", "events") {
        rename(&mut object, EVENT_FIELDS, |(core, events)| (core, events));
    }
    object_mut(&mut object).insert("apiVersion".into(), Value::from(kind.key.api_version()));
    Arc::new(object)
}

/// An object in the version of `kind`, as it is stored.
pub fn to_stored(kind: &Kind, mut object: Value) -> Value {
    if kind.is("events.k8s.io", "events") {
        rename(&mut object, EVENT_FIELDS, |(core, events)| (events, core));
    }
    let fields = object_mut(&mut object);
    fields.insert("apiVersion".into(), Value::from(kind.storage_version.clone()));
    fields.insert("kind".into(), Value::from(kind.kind.clone()));
    object
}

/// Names of the same field in `v1` and in `events.k8s.io/v1`.
const EVENT_FIELDS: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("count", "deprecatedCount"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
];

fn rename<'a>(
    object: &mut Value,
    names: &[(&'a str, &'a str)],
    direction: fn((&'a str, &'a str)) -> (&'a str, &'a str),
) {
    let fields = object_mut(object);
    for pair in names {
        let (from, to) = direction(*pair);
        if let Some(value) = fields.remove(from) {
            fields.insert(to.to_owned(), value);
        }
    }
}
