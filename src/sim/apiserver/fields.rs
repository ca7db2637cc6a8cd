//! Small readers and writers of untyped objects.

use serde_json::{Map, Value};

/// The string, or "" where there is none.
#[must_use]
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// `metadata.NAME` as a string, or "".
#[must_use]
pub fn meta<'a>(object: &'a Value, name: &str) -> &'a str {
    text(&object["metadata"][name])
}

/// The fields of an object; a value that is none becomes one.
#[expect(clippy::expect_used, reason = "the value was just made an object")]
pub fn object_mut(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().expect("it was just made an object")
}

/// `metadata`, made if it is not there.
pub fn meta_mut(object: &mut Value) -> &mut Map<String, Value> {
    object_mut(object_mut(object).entry("metadata").or_insert(Value::Null))
}

/// Takes a top-level or metadata field over from another object, its absence included. What is the
/// same is left alone: most writes bring back what they read, and comparing costs less than copying.
pub fn copy_field(from: &Map<String, Value>, to: &mut Map<String, Value>, name: &str) {
    match from.get(name) {
        Some(value) if to.get(name) == Some(value) => {}
        Some(value) => {
            to.insert(name.to_owned(), value.clone());
        }
        None => {
            to.remove(name);
        }
    }
}

/// Takes all fields over from another object, but for some that stay as they are.
pub fn copy_fields(from: &Map<String, Value>, to: &mut Map<String, Value>, but: &[&str]) {
    to.retain(|name, _| but.contains(&name.as_str()) || from.contains_key(name));
    for name in from.keys().filter(|name| !but.contains(&name.as_str())) {
        copy_field(from, to, name);
    }
}

/// The value at a path of field names.
#[must_use]
pub fn at<'a>(value: &'a Value, path: &[String]) -> &'a Value {
    path.iter().fold(value, |value, name| &value[name.as_str()])
}

/// Sets the value at a path of field names, making objects on the way.
pub fn set_at(value: &mut Value, path: &[String], new: Value) {
    let Some((last, parents)) = path.split_last() else { return };
    let mut here = value;
    for name in parents {
        here = object_mut(here).entry(name.as_str()).or_insert(Value::Null);
    }
    object_mut(here).insert(last.clone(), new);
}
