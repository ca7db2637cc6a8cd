//! Validation of a value by a structural schema: types, limits, enumerations, patterns, formats,
//! list and map uniqueness. The CEL rules of the schema are in `rules`.
//!
//! A value that an update leaves as it was is not judged again (ratcheting), so that a stricter
//! schema locks nobody out.

use serde_json::Value;

use super::{
    error::{Fault, FieldError},
    rules,
    structural::{field, flag, join},
};
use crate::sim::{cel::regex, place::Place};

/// Everything that is wrong with an object; `old` is what it replaces.
#[must_use]
pub fn validate(schema: &Value, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    check(schema, new, old, "", &mut errors);
    let blocks = |error: &FieldError| {
        matches!(
            error.fault,
            Fault::Required
                | Fault::NotSupported
                | Fault::TooLong
                | Fault::TooMany
                | Fault::TypeInvalid
        )
    };
    if !errors.iter().any(blocks) {
        rules::check(schema, new, old, Place::Top, &mut errors);
    } else if rules::any(schema) {
        errors.push(FieldError::invalid(
            "",
            &Value::Null,
            "some validation rules were not checked because the object was invalid; correct the \
             existing errors to complete validation",
        ));
    }
    errors
}

pub(super) fn check(
    schema: &Value,
    new: &Value,
    old: Option<&Value>,
    path: &str,
    errors: &mut Vec<FieldError>,
) {
    if old == Some(new) || new.is_null() && flag(schema, "nullable") {
        return;
    }
    let sound = check_type(schema, new, path, errors);
    check_enum(schema, new, path, errors);
    if !sound {
        return;
    }
    check_alternatives(schema, new, path, errors);
    match new {
        Value::String(text) => check_string(schema, text, path, errors),
        Value::Number(_) => check_number(schema, new, path, errors),
        Value::Array(list) => check_list(schema, list, old, path, errors),
        Value::Object(_) => check_map(schema, new, old, path, errors),
        Value::Null | Value::Bool(_) => {}
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if !is_whole(number) => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// JSON writes whole numbers in several ways; `3.0` is an integer.
fn is_whole(number: &serde_json::Number) -> bool {
    number.is_i64() || number.is_u64() || number.as_f64().is_some_and(|f| f.fract() == 0.0)
}

fn check_type(schema: &Value, value: &Value, path: &str, errors: &mut Vec<FieldError>) -> bool {
    let found = type_of(value);
    let format = schema.get("format").and_then(Value::as_str);
    let wanted = if flag(schema, "x-kubernetes-int-or-string") {
        "integer,string"
    } else {
        match schema.get("type").and_then(Value::as_str) {
            Some(wanted) => wanted,
            None => return true,
        }
    };
    let fits =
        wanted.split(',').any(|one| one == found) || wanted == "number" && found == "integer";
    let fault = |wanted: &str, found: &str| {
        let detail = format!("{path} in body must be of type {wanted}: {found:?}");
        FieldError::new(Fault::TypeInvalid, path, Some(Value::from(found)), detail)
    };
    if !fits {
        match (wanted, found, format) {
            ("integer", "number", Some(format)) => {
                errors.push(fault(format, "float64"));
                errors.push(not_in_format(path, format));
            }
            _ => errors.push(fault(wanted, found)),
        }
        return false;
    }
    if let (Value::String(text), Some(format)) = (value, format)
        && !fits_format(text, format)
    {
        errors.push(fault(format, text));
        return false;
    }
    true
}

fn not_in_format(path: &str, format: &str) -> FieldError {
    let detail = format!("Checked value must be of type integer with format {format} in {path}");
    FieldError::invalid("", &Value::from(""), detail)
}

/// The formats that the server knows and somebody uses; an unknown format says nothing, as there.
fn fits_format(text: &str, format: &str) -> bool {
    match format {
        "date-time" => text.parse::<jiff::Timestamp>().is_ok(),
        "date" => text.parse::<jiff::civil::Date>().is_ok(),
        "duration" => text.parse::<jiff::SignedDuration>().is_ok(),
        "ipv4" => text.parse::<std::net::Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<std::net::Ipv6Addr>().is_ok(),
        _ => true,
    }
}

fn check_enum(schema: &Value, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let Some(allowed) = schema.get("enum").and_then(Value::as_array) else { return };
    if !allowed.contains(value) {
        let list: Vec<String> = allowed.iter().map(Value::to_string).collect();
        let detail = format!("supported values: {}", list.join(", "));
        errors.push(FieldError::new(Fault::NotSupported, path, Some(value.clone()), detail));
    }
}

/// `allOf`, `anyOf`, `oneOf` and `not`, which say nothing about types in a structural schema.
fn check_alternatives(schema: &Value, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let list = |name: &str| schema.get(name).and_then(Value::as_array);
    let fails = |schema: &Value| {
        let mut inner = Vec::new();
        check(schema, value, None, path, &mut inner);
        inner
    };
    let mut say = |what: &str| {
        let detail = format!("\"{path}\" must {what}");
        errors.push(FieldError::invalid("", &Value::from(""), detail));
    };
    if let Some(any) = list("anyOf")
        && any.iter().all(|schema| !fails(schema).is_empty())
    {
        say("validate at least one schema (anyOf)");
    }
    if let Some(one) = list("oneOf") {
        match one.iter().filter(|schema| fails(schema).is_empty()).count() {
            1 => {}
            0 => {
                say("validate one and only one schema (oneOf). Found none valid");
                errors.extend(one.iter().map(fails).min_by_key(Vec::len).unwrap_or_default());
            }
            many => say(&format!(
                "validate one and only one schema (oneOf). Found {many} valid alternatives"
            )),
        }
    }
    for schema in list("allOf").into_iter().flatten() {
        errors.extend(fails(schema));
    }
    if schema.get("not").is_some_and(|schema| fails(schema).is_empty()) {
        let detail = format!("\"{path}\" must not validate the schema (not)");
        errors.push(FieldError::invalid("", &Value::from(""), detail));
    }
}

fn limit(schema: &Value, name: &str) -> Option<u64> {
    schema.get(name).and_then(Value::as_u64)
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// One fault of a string is enough, as on the server.
fn check_string(schema: &Value, text: &str, path: &str, errors: &mut Vec<FieldError>) {
    let length = count(text.chars().count());
    let value = Value::from(text);
    let pattern = schema.get("pattern").and_then(Value::as_str);
    if let Some(max) = limit(schema, "maxLength").filter(|max| length > *max) {
        let detail = format!("may not be more than {max} bytes");
        errors.push(FieldError::new(Fault::TooLong, path, None, detail));
    } else if let Some(min) = limit(schema, "minLength").filter(|min| length < *min) {
        let detail = format!("{path} in body should be at least {min} chars long");
        errors.push(FieldError::invalid(path, &value, detail));
    } else if let Some(pattern) = pattern
        && !regex(pattern).is_ok_and(|regex| regex.is_match(text))
    {
        let detail = format!("{path} in body should match '{pattern}'");
        errors.push(FieldError::invalid(path, &value, detail));
    }
}

fn check_number(schema: &Value, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let Some(number) = value.as_f64() else { return };
    let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
    let mut say = |what: String| {
        errors.push(FieldError::invalid(path, value, format!("{path} in body should be {what}")));
    };
    if let Some(max) = bound("maximum") {
        match flag(schema, "exclusiveMaximum") {
            true if number >= max => say(format!("less than {max}")),
            false if number > max => say(format!("less than or equal to {max}")),
            _ => {}
        }
    }
    if let Some(min) = bound("minimum") {
        match flag(schema, "exclusiveMinimum") {
            true if number <= min => say(format!("greater than {min}")),
            false if number < min => say(format!("greater than or equal to {min}")),
            _ => {}
        }
    }
    if let Some(step) = bound("multipleOf").filter(|step| (number / step).fract() != 0.0) {
        say(format!("a multiple of {step}"));
    }
    let format = schema.get("format").and_then(Value::as_str);
    let fits = match format {
        Some("int32") => value.as_i64().is_none_or(|n| i32::try_from(n).is_ok()),
        Some("int64") => !value.is_u64() || value.as_i64().is_some(),
        _ => true,
    };
    if !fits {
        errors.push(not_in_format(path, format.unwrap_or_default()));
    }
}

fn check_list(
    schema: &Value,
    list: &[Value],
    old: Option<&Value>,
    path: &str,
    errors: &mut Vec<FieldError>,
) {
    let length = count(list.len());
    if let Some(max) = limit(schema, "maxItems").filter(|max| length > *max) {
        errors.push(too_many(path, length, max));
    }
    if let Some(min) = limit(schema, "minItems").filter(|min| length < *min) {
        let detail = format!("{path} in body should have at least {min} items");
        errors.push(FieldError::invalid(path, &Value::from(length), detail));
    }
    let mut seen: Vec<Value> = Vec::new();
    for (at, item) in list.iter().enumerate() {
        let inner = format!("{path}[{at}]");
        if let Some(items) = schema.get("items") {
            let before = rules::element(schema, item, old);
            check(items, item, before, &inner, errors);
        }
        let Some(identity) = rules::identity(schema, item) else { continue };
        if seen.contains(&identity) {
            errors.push(FieldError::new(Fault::Duplicate, &inner, Some(identity), ""));
        } else {
            seen.push(identity);
        }
    }
}

fn too_many(path: &str, length: u64, max: u64) -> FieldError {
    let detail = format!("must have at most {max} items");
    FieldError::new(Fault::TooMany, path, Some(Value::from(length)), detail)
}

fn check_map(
    schema: &Value,
    value: &Value,
    old: Option<&Value>,
    path: &str,
    errors: &mut Vec<FieldError>,
) {
    let Value::Object(map) = value else { return };
    let length = count(map.len());
    if let Some(max) = limit(schema, "maxProperties").filter(|max| length > *max) {
        errors.push(too_many(path, length, max));
    }
    if let Some(min) = limit(schema, "minProperties").filter(|min| length < *min) {
        let detail = format!("{path} in body should have at least {min} properties");
        errors.push(FieldError::invalid(path, &Value::from(length), detail));
    }
    let embedded = flag(schema, "x-kubernetes-embedded-resource");
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
    let required = required.filter_map(Value::as_str);
    let identity: &[&str] = if embedded { &["apiVersion", "kind"] } else { &[] };
    for name in identity.iter().copied().chain(required) {
        if !map.contains_key(name) {
            errors.push(FieldError::required(&join(path, name)));
        }
    }
    for (name, value) in map {
        if path.is_empty() && name == "metadata" {
            continue;
        }
        if let Some(inner) = field(schema, name) {
            let before = old.and_then(|old| old.get(name));
            check(inner, value, before, &join(path, name), errors);
        }
    }
}
