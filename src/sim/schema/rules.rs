//! The CEL rules of a schema (`x-kubernetes-validations`), evaluated by `sim::cel`.
//!
//! `self` is what JSON says: a string with `format: date-time` is a string here. A rule that cannot
//! be evaluated is a fault of the object, as on the server.

use serde_json::{Map, Value};

use super::{
    error::{Fault, FieldError},
    structural::{field, flag},
};
use crate::sim::cel::{Rule, RuleOutcome};
use crate::sim::place::Place;

const RULES: &str = "x-kubernetes-validations";

/// Whether the schema has a rule anywhere.
pub(super) fn any(schema: &Value) -> bool {
    match schema {
        Value::Object(map) => map.contains_key(RULES) || map.values().any(any),
        Value::Array(list) => list.iter().any(any),
        _ => false,
    }
}

/// Evaluates the rules of this schema and of everything inside.
pub(super) fn check(
    schema: &Value,
    new: &Value,
    old: Option<&Value>,
    here: Place<'_>,
    errors: &mut Vec<FieldError>,
) {
    if new.is_null() {
        return;
    }
    for rule in schema.get(RULES).and_then(Value::as_array).into_iter().flatten() {
        check_rule(rule, schema, new, old, here, errors);
    }
    match new {
        Value::Object(map) => {
            for (name, value) in map {
                if let Some(inner) = field(schema, name) {
                    let before = old.and_then(|old| old.get(name));
                    check(inner, value, before, Place::Field(&here, name), errors);
                }
            }
        }
        Value::Array(list) => {
            let Some(items) = schema.get("items") else { return };
            for (at, item) in list.iter().enumerate() {
                // An unchanged list has unchanged elements, whether or not it has keys.
                let before = match old {
                    Some(old) if old == new => Some(item),
                    _ => element(schema, item, old),
                };
                check(items, item, before, Place::Item(&here, at), errors);
            }
        }
        _ => {}
    }
}

fn check_rule(
    rule: &Value,
    schema: &Value,
    new: &Value,
    old: Option<&Value>,
    here: Place<'_>,
    errors: &mut Vec<FieldError>,
) {
    let text = |name: &str| rule.get(name).and_then(Value::as_str).unwrap_or("");
    let source = text("rule");
    let transition = source.contains("oldSelf");
    let optional = flag(rule, "optionalOldSelf");
    // What an update leaves alone is not judged again, unless the rule is about the change itself.
    if transition && old.is_none() && !optional || !transition && old == Some(new) {
        return;
    }
    let evaluator = Rule { value: new, old, optional_old: optional };
    let detail = match evaluator.holds(source) {
        RuleOutcome::Holds => return,
        RuleOutcome::Broken => message(rule, &evaluator),
        RuleOutcome::Failed(error) => format!("rule evaluation error: {error}: {source}"),
    };
    let structured = matches!(schema.get("type").and_then(Value::as_str), Some("object" | "array"));
    let value = (!structured).then(|| new.clone());
    let at = match text("fieldPath") {
        "" => here.to_string(),
        inner => format!("{here}{inner}").trim_start_matches('.').to_owned(),
    };
    errors.push(match text("reason") {
        "FieldValueForbidden" => FieldError::new(Fault::Forbidden, &at, None, detail),
        "FieldValueRequired" => FieldError::new(Fault::Required, &at, None, detail),
        "FieldValueDuplicate" => FieldError::new(Fault::Duplicate, &at, value, ""),
        _ => FieldError::new(Fault::Invalid, &at, value, detail),
    });
}

fn message(rule: &Value, evaluator: &Rule<'_>) -> String {
    let text = |name: &str| rule.get(name).and_then(Value::as_str);
    text("messageExpression")
        .and_then(|source| evaluator.text(source))
        .filter(|message| !message.trim().is_empty())
        .or_else(|| text("message").map(|message| message.trim().to_owned()))
        .unwrap_or_else(|| format!("failed rule: {}", text("rule").unwrap_or("")))
}

/// What makes an element of a list one of a kind: the element of a set, the keys of a map.
pub(super) fn identity(schema: &Value, item: &Value) -> Option<Value> {
    match schema.get("x-kubernetes-list-type").and_then(Value::as_str) {
        Some("set") => Some(item.clone()),
        Some("map") => {
            let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array)?;
            let keys = keys.iter().filter_map(Value::as_str);
            let of = |key: &str| {
                let default = || field(schema.get("items")?, key)?.get("default");
                Some((key.to_owned(), item.get(key).or_else(default)?.clone()))
            };
            Some(Value::Object(keys.filter_map(of).collect::<Map<_, _>>()))
        }
        _ => None,
    }
}

/// The element of the old list that this one replaces; only lists with keys can tell.
pub(super) fn element<'v>(
    schema: &Value,
    item: &Value,
    old: Option<&'v Value>,
) -> Option<&'v Value> {
    let wanted = identity(schema, item)?;
    let old = old?.as_array()?;
    old.iter().find(|candidate| identity(schema, candidate).as_ref() == Some(&wanted))
}
