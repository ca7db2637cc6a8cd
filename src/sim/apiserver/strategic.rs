//! Strategic merge patch: lists of built-in kinds are merged by the key that the schema names.

use serde_json::{Map, Value};

use super::{
    fields::{object_mut, text},
    schemas::Schema,
};

/// Merges a patch into an object.
pub fn merge(target: &mut Value, patch: &Value, schema: Schema<'_>) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    match patch.get("$patch").map(text) {
        Some("delete") => {
            *target = Value::Object(Map::new());
            return;
        }
        Some("replace") => *target = Value::Object(Map::new()),
        _ => {}
    }
    let fields = object_mut(target);
    if let Some(keep) = patch.get("$retainKeys").and_then(Value::as_array) {
        fields.retain(|name, _| keep.iter().any(|kept| text(kept) == name));
    }
    for (name, value) in patch.iter().filter(|(name, _)| !name.starts_with('$')) {
        if value.is_null() {
            fields.remove(name);
            continue;
        }
        let schema = schema.field(name);
        let order = patch.get(&format!("$setElementOrder/{name}")).and_then(Value::as_array);
        let live = fields.entry(name.clone()).or_insert(Value::Null);
        match value {
            Value::Object(_) if schema.has_strategy("replace") => *live = value.clone(),
            Value::Object(_) => merge(live, value, schema),
            Value::Array(items) if schema.has_strategy("merge") => {
                let before = live.as_array().cloned().unwrap_or_default();
                let merged = merge_list(before.clone(), items, schema);
                let order = order.unwrap_or(items);
                *live = Value::Array(ordered(merged, order, &before, schema.merge_key()));
            }
            other => *live = other.clone(),
        }
    }
    directives(fields, patch, schema);
}

/// `$deleteFromPrimitiveList/x` and a `$setElementOrder/x` that comes without an `x`.
fn directives(fields: &mut Map<String, Value>, patch: &Map<String, Value>, schema: Schema<'_>) {
    for (directive, value) in patch {
        let values = value.as_array().map(Vec::as_slice).unwrap_or_default();
        if let Some(name) = directive.strip_prefix("$deleteFromPrimitiveList/") {
            if let Some(list) = fields.get_mut(name).and_then(Value::as_array_mut) {
                list.retain(|item| !values.contains(item));
            }
        } else if let Some(name) = directive.strip_prefix("$setElementOrder/") {
            let list = fields.get_mut(name).filter(|_| !patch.contains_key(name));
            if let Some(list) = list.and_then(Value::as_array_mut) {
                let before = list.clone();
                let key = schema.field(name).merge_key();
                *list = ordered(before.clone(), values, &before, key);
            }
        }
    }
}

fn merge_list(mut live: Vec<Value>, patch: &[Value], schema: Schema<'_>) -> Vec<Value> {
    let Some(key) = schema.merge_key() else {
        let new: Vec<Value> = patch.iter().filter(|item| !live.contains(item)).cloned().collect();
        live.extend(new);
        return live;
    };
    if patch.iter().any(|item| item["$patch"] == "replace") {
        live.clear();
    }
    for item in patch {
        let same = |other: &Value| other[key] == item[key];
        match item["$patch"].as_str() {
            Some("delete") => live.retain(|other| !same(other)),
            Some("replace") => {}
            _ => match live.iter_mut().find(|other| same(other)) {
                Some(found) => merge(found, item, schema.items()),
                None => {
                    let mut new = Value::Object(Map::new());
                    merge(&mut new, item, schema.items());
                    live.push(new);
                }
            },
        }
    }
    live
}

/// Brings a merged list into the order that the patch asks for, or has itself. Items that the patch
/// does not name keep their place before those that they stood before; new ones come first.
fn ordered(merged: Vec<Value>, order: &[Value], before: &[Value], key: Option<&str>) -> Vec<Value> {
    let identity = |item: &Value| key.map_or_else(|| item.clone(), |key| item[key].clone());
    let place = |list: &[Value], item: &Value| {
        list.iter().position(|other| identity(other) == identity(item))
    };
    let (mut named, rest): (Vec<Value>, Vec<Value>) =
        merged.into_iter().partition(|item| place(order, item).is_some());
    named.sort_by_key(|item| place(order, item));
    let (mut named, mut rest) = (named.into_iter().peekable(), rest.into_iter().peekable());
    let mut result = Vec::new();
    loop {
        let first = match (named.peek(), rest.peek()) {
            (Some(named), Some(rest)) => {
                let places = place(before, named).zip(place(before, rest));
                places.is_none_or(|(named, rest)| named < rest)
            }
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => return result,
        };
        result.extend(if first { named.next() } else { rest.next() });
    }
}
