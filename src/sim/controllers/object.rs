//! Reading and writing the few fields of plain JSON objects that the controllers decide on.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// The letters that Kubernetes makes generated names of.
const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// The value at `path`, if every step of it is there and not null.
pub(crate) fn at<'a>(object: &'a Value, path: &[&str]) -> Option<&'a Value> {
    let found = path.iter().try_fold(object, |value, key| value.get(key))?;
    (!found.is_null()).then_some(found)
}

/// The text at `path`; empty when it is missing.
pub(crate) fn text<'a>(object: &'a Value, path: &[&str]) -> &'a str {
    at(object, path).and_then(Value::as_str).unwrap_or_default()
}

/// The integer at `path`.
pub(crate) fn int(object: &Value, path: &[&str]) -> Option<i64> {
    at(object, path).and_then(Value::as_i64)
}

/// The integer at `path`; zero when it is missing, as Go reads it.
pub(crate) fn count(object: &Value, path: &[&str]) -> i64 {
    int(object, path).unwrap_or(0)
}

/// Whether the value at `path` is `true`.
pub(crate) fn flag(object: &Value, path: &[&str]) -> bool {
    at(object, path).and_then(Value::as_bool).unwrap_or(false)
}

/// The items of the list at `path`; none when it is missing.
pub(crate) fn items<'a>(object: &'a Value, path: &[&str]) -> &'a [Value] {
    at(object, path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Sets the value at `path`, making the maps on the way.
pub(crate) fn set(object: &mut Value, path: &[&str], value: Value) {
    let mut here = object;
    for key in path {
        if !here.is_object() {
            *here = Value::Object(Map::new());
        }
        let Some(map) = here.as_object_mut() else { return };
        here = map.entry((*key).to_owned()).or_insert(Value::Null);
    }
    *here = value;
}

/// The object's name.
pub(crate) fn name(object: &Value) -> &str {
    text(object, &["metadata", "name"])
}

/// The object's namespace.
pub(crate) fn namespace(object: &Value) -> &str {
    text(object, &["metadata", "namespace"])
}

/// The object's uid.
pub(crate) fn uid(object: &Value) -> &str {
    text(object, &["metadata", "uid"])
}

/// The object's generation.
pub(crate) fn generation(object: &Value) -> i64 {
    count(object, &["metadata", "generation"])
}

/// Whether the object is being deleted.
pub(crate) fn is_deleting(object: &Value) -> bool {
    at(object, &["metadata", "deletionTimestamp"]).is_some()
}

/// One annotation of the object.
pub(crate) fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    at(object, &["metadata", "annotations", key]).and_then(Value::as_str)
}

/// Sets one annotation; says whether that changed the object.
pub(crate) fn annotate(object: &mut Value, key: &str, value: &str) -> bool {
    if annotation(object, key) == Some(value) {
        return false;
    }
    set(object, &["metadata", "annotations", key], value.into());
    true
}

/// The owner reference that controls the object.
pub(crate) fn controller_of(object: &Value) -> Option<&Value> {
    items(object, &["metadata", "ownerReferences"])
        .iter()
        .find(|owner| flag(owner, &["controller"]))
}

/// The reference with which `owner` controls what it makes.
pub(crate) fn controlled_by(owner: &Value) -> Value {
    json!({
        "apiVersion": text(owner, &["apiVersion"]),
        "kind": text(owner, &["kind"]),
        "name": name(owner),
        "uid": uid(owner),
        "controller": true,
        "blockOwnerDeletion": true,
    })
}

/// What two objects made in the same second are told apart by, after their creation time.
pub(crate) fn age(object: &Value) -> (&str, &str) {
    (text(object, &["metadata", "creationTimestamp"]), name(object))
}

/// A time as Kubernetes writes it: whole seconds, cut off.
pub(crate) fn stamp(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}

/// The time at `path`.
pub(crate) fn time(object: &Value, path: &[&str]) -> Option<Timestamp> {
    at(object, path)?.as_str()?.parse().ok()
}

/// The condition of that type in the object's status.
pub(crate) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    items(object, &["status", "conditions"]).iter().find(|found| text(found, &["type"]) == kind)
}

/// Whether the LabelSelector matches the labels; an empty selector matches nothing here, as no
/// controller may claim everything.
pub(crate) fn selects(selector: &Value, labels: &Value) -> bool {
    let wanted = at(selector, &["matchLabels"]).and_then(Value::as_object);
    let rules = items(selector, &["matchExpressions"]);
    if wanted.is_none_or(Map::is_empty) && rules.is_empty() {
        return false;
    }
    wanted.is_none_or(|wanted| contains(labels, wanted))
        && rules.iter().all(|rule| expression_holds(rule, labels))
}

/// Whether the labels have every one of the wanted pairs.
pub(crate) fn contains(labels: &Value, wanted: &Map<String, Value>) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

fn expression_holds(rule: &Value, labels: &Value) -> bool {
    let found = labels.get(text(rule, &["key"]));
    let listed = found.is_some_and(|value| items(rule, &["values"]).contains(value));
    match text(rule, &["operator"]) {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => found.is_some(),
        "DoesNotExist" => found.is_none(),
        _ => false,
    }
}

/// Whether two values say the same; a field that is null or empty equals one that is missing.
pub(crate) fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Object(left), Value::Object(right)) => {
            let covers = |one: &Map<String, Value>, other: &Map<String, Value>| {
                one.iter().all(|(key, value)| match other.get(key) {
                    Some(found) => same(value, found),
                    None => is_empty(value),
                })
            };
            covers(left, right)
                && right.iter().all(|(key, value)| left.contains_key(key) || is_empty(value))
        }
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(one, other)| same(one, other))
        }
        _ => left == right || (is_empty(left) && is_empty(right)),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

/// FNV-1a over the bytes, 32 bits wide.
pub(crate) fn fnv(parts: &[&[u8]]) -> u32 {
    parts
        .iter()
        .flat_map(|part| part.iter())
        .fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// A number in the letters of a pod-template-hash: its decimal digits, each one letter.
pub(crate) fn hash_letters(number: u32) -> String {
    let letter = |digit: u8| LETTERS.get(usize::from(digit) % LETTERS.len()).copied();
    number.to_string().bytes().filter_map(letter).map(char::from).collect()
}

/// The five letters that end a generated name.
pub(crate) fn suffix(number: u32) -> String {
    let base = 27_u32;
    let digit = |place: u32| (number / base.pow(place)) % base;
    let letter = |index: u32| LETTERS.get(index as usize).copied().map(char::from);
    (0..5).filter_map(|place| letter(digit(place))).collect()
}

/// One decided write. Objects carry the uid and resourceVersion that were read; a later write of
/// the same decision to the same object builds on the earlier one.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// Creates the object.
    Create(Value),
    /// Replaces the object but for its status.
    Update(Arc<Value>),
    /// Replaces the object's status and annotations.
    UpdateStatus(Arc<Value>),
    /// Deletes the object.
    Delete(Arc<Value>),
    /// Tells the world.
    Event {
        /// The object it is about.
        about: Arc<Value>,
        /// Whether it is a warning.
        warning: bool,
        /// One word.
        reason: &'static str,
        /// One sentence.
        message: String,
    },
}

/// What one sync decided.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    /// The writes, in order.
    pub writes: Vec<Write>,
    /// When to look again though nothing changed.
    pub wake: Option<Timestamp>,
    /// The real controller would be refused with a conflict here and start again.
    pub again: bool,
}
