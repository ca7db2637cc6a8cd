//! Server-side apply: merging an applied configuration, and taking away what a manager gives up.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Map, Value};

use super::{
    fields::object_mut,
    fieldset::{FieldSet, Path, children, element_of},
    schemas::{List, Schema},
};

/// The live object with the applied configuration merged in.
pub fn merge(live: &mut Value, applied: &Value, schema: Schema<'_>) {
    match applied {
        Value::Object(fields) if !schema.is_atomic() => {
            let live = object_mut(live);
            for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
                let target = live.entry(name.clone()).or_insert(Value::Null);
                merge(target, value, schema.field(name));
            }
        }
        Value::Array(items) => match schema.list() {
            List::Atomic => *live = applied.clone(),
            List::Set => {
                let list = list_mut(live);
                for item in items {
                    if !list.contains(item) {
                        list.push(item.clone());
                    }
                }
            }
            List::Map(keys) => {
                let before = std::mem::take(list_mut(live));
                *live = Value::Array(merge_list(before, items, &keys, schema));
            }
        },
        _ => *live = applied.clone(),
    }
}

#[expect(clippy::expect_used, reason = "the value was just made a list")]
fn list_mut(value: &mut Value) -> &mut Vec<Value> {
    if !value.is_array() {
        *value = Value::Array(Vec::new());
    }
    value.as_array_mut().expect("it was just made a list")
}

/// Items in the applied order; those that only the live list has go before the next item that both
/// have.
fn merge_list(
    live: Vec<Value>,
    applied: &[Value],
    keys: &[&str],
    schema: Schema<'_>,
) -> Vec<Value> {
    let identity = |item: &Value| element_of(item, keys, schema);
    let mut rest: VecDeque<String> = live.iter().map(identity).collect();
    let mut values: BTreeMap<String, Value> = rest.iter().cloned().zip(live).collect();
    let wanted: Vec<String> = applied.iter().map(identity).collect();
    let shared: Vec<String> =
        wanted.iter().filter(|id| values.contains_key(*id)).cloned().collect();
    let mut shared = shared.iter().peekable();
    let mut result = Vec::new();
    for (id, item) in wanted.iter().zip(applied) {
        while let Some(front) = rest.front().filter(|front| Some(*front) != shared.peek().copied())
        {
            if !wanted.contains(front) {
                result.extend(values.remove(front));
            }
            rest.pop_front();
        }
        if shared.next_if(|next| *next == id).is_some() {
            rest.pop_front();
        }
        let mut merged = values.remove(id).unwrap_or_else(|| Value::Object(Map::new()));
        merge(&mut merged, item, schema.items());
        result.push(merged);
    }
    result.extend(rest.iter().filter_map(|id| values.remove(id)));
    result
}

/// Takes the given paths out of an object, unless somebody else owns them or something below. The
/// shorter ones go first: an item that goes as a whole must still be found by its keys.
pub fn give_up(object: &mut Value, mut paths: Vec<Path>, others: &FieldSet, schema: Schema<'_>) {
    paths.sort_by_key(Vec::len);
    for path in paths.iter().filter(|path| !others.touches(path) && !names_a_key(path)) {
        remove(object, path, schema);
    }
}

/// True for the key field of a list's item: the item cannot stay without it.
fn names_a_key(path: &[String]) -> bool {
    let [.., item, field] = path else { return false };
    let keys = item.strip_prefix("k:").and_then(|keys| serde_json::from_str::<Value>(keys).ok());
    let name = field.strip_prefix("f:").unwrap_or_default();
    keys.is_some_and(|keys| keys.get(name).is_some())
}

/// Removes the value at a path, and what is empty without it.
fn remove(value: &mut Value, path: &[String], schema: Schema<'_>) {
    let [element, rest @ ..] = path else { return };
    match value {
        Value::Object(fields) => {
            let name = element.strip_prefix("f:").unwrap_or(element);
            if rest.is_empty() {
                fields.remove(name);
            } else if let Some(child) = fields.get_mut(name) {
                remove(child, rest, schema.field(name));
                if is_empty(child) {
                    fields.remove(name);
                }
            }
        }
        Value::Array(items) => {
            let whole = Value::Array(items.clone());
            let elements = children(&whole, schema).unwrap_or_default();
            let at = elements.iter().position(|(other, _, _)| other == element);
            match at {
                Some(at) if rest.is_empty() => {
                    items.remove(at);
                }
                Some(at) => {
                    if let Some(item) = items.get_mut(at) {
                        remove(item, rest, schema.items());
                    }
                }
                None => {}
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}
