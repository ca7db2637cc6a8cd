//! The operators and functions that an expression can call: the standard library, the string and
//! list extensions and `jsonpatch.escapeKey`. A function that is not here is an error, never a
//! guess.

use std::{
    cmp::Ordering,
    collections::BTreeMap,
    sync::{LazyLock, Mutex, PoisonError},
};

use cel::common::ast::operators;
use jiff::{SignedDuration, Timestamp};
use regex::Regex;
use serde_json::Value;

use super::{eval::EvalError, value::Val};

/// Compiled patterns, for the same reason as parsed expressions.
static PATTERNS: LazyLock<Mutex<BTreeMap<String, Regex>>> = LazyLock::new(Mutex::default);
const PATTERNS_MAX: usize = 1024;

/// Compiles a pattern, or finds it compiled.
pub(crate) fn regex(pattern: &str) -> Result<Regex, EvalError> {
    let mut patterns = PATTERNS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(regex) = patterns.get(pattern) {
        return Ok(regex.clone());
    }
    let regex = Regex::new(pattern).map_err(|error| EvalError::new(error.to_string()))?;
    if patterns.len() >= PATTERNS_MAX {
        patterns.clear();
    }
    patterns.insert(pattern.to_owned(), regex.clone());
    Ok(regex)
}

type Outcome<'a> = Result<Val<'a>, EvalError>;

/// Whether this identifier before a dot names a library and not a value.
pub(crate) fn is_namespace(name: &str) -> bool {
    matches!(name, "jsonpatch" | "optional" | "math")
}

/// The types that an expression can name.
const TYPES: [&str; 9] =
    ["int", "double", "bool", "string", "list", "map", "null_type", "type", "optional_type"];

/// The type of this name.
pub(crate) fn type_named(name: &str) -> Option<&'static str> {
    TYPES.into_iter().find(|known| *known == name)
}

/// Calls a function on its evaluated arguments; a method's receiver is the first of them.
pub(crate) fn call<'a>(
    space: Option<&str>,
    name: &str,
    method: bool,
    mut args: Vec<Val<'a>>,
) -> Outcome<'a> {
    let unknown = || {
        let space = space.map(|space| format!("{space}.")).unwrap_or_default();
        EvalError::new(format!("undeclared reference to '{space}{name}'"))
    };
    let (third, second) = (args.len() == 3, args.len() >= 2);
    let c = if third { args.pop() } else { None };
    let b = if second { args.pop() } else { None };
    let a = args.pop();
    match (space, a, b, c) {
        (Some(space), a, b, None) => library(space, name, a, b).unwrap_or_else(|| Err(unknown())),
        (None, Some(a), None, None) if !method => unary(name, a).unwrap_or_else(|| Err(unknown())),
        (None, Some(a), Some(b), None) if !method => binary(name, a, b).ok_or_else(unknown)?,
        (None, Some(a), b, c) if method => {
            receiver(name, a, b, c).unwrap_or_else(|| Err(unknown()))
        }
        _ => Err(unknown()),
    }
}

fn library<'a>(
    space: &str,
    name: &str,
    a: Option<Val<'a>>,
    b: Option<Val<'a>>,
) -> Option<Outcome<'a>> {
    Some(match (space, name, a, b) {
        ("jsonpatch", "escapeKey", Some(key), None) => match key.as_str() {
            Some(key) => Ok(Val::from(key.replace('~', "~0").replace('/', "~1"))),
            None => Err(EvalError::overload()),
        },
        ("optional", "none", None, None) => Ok(Val::Optional(None)),
        ("optional", "of", Some(value), None) => Ok(Val::Optional(Some(Box::new(value)))),
        ("optional", "ofNonZeroValue", Some(value), None) => {
            Ok(Val::Optional((!is_zero(&value)).then(|| Box::new(value))))
        }
        ("math", "greatest", Some(a), Some(b)) => {
            a.order(&b).map(|order| if order == Ordering::Less { b } else { a })
        }
        ("math", "least", Some(a), Some(b)) => {
            a.order(&b).map(|order| if order == Ordering::Greater { b } else { a })
        }
        _ => return None,
    })
}

fn is_zero(value: &Val<'_>) -> bool {
    match value.as_json() {
        Some(Value::Null) => true,
        Some(Value::Bool(flag)) => !flag,
        Some(Value::Number(number)) => number.as_f64() == Some(0.0),
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Array(list)) => list.is_empty(),
        Some(Value::Object(map)) => map.is_empty(),
        None => matches!(value, Val::Message { fields, .. } if fields.is_empty()),
    }
}

fn unary<'a>(name: &str, a: Val<'a>) -> Option<Outcome<'a>> {
    Some(match name {
        operators::LOGICAL_NOT => {
            a.as_bool().map(|flag| Val::from(!flag)).ok_or_else(EvalError::overload)
        }
        operators::NEGATE => match (a.as_int(), a.as_json().and_then(Value::as_f64)) {
            (Some(number), _) => number.checked_neg().map(Val::from).ok_or_else(overflow),
            (None, Some(number)) => Ok(Val::from(-number)),
            (None, None) => Err(EvalError::overload()),
        },
        "size" => size(&a),
        "string" => a.to_text().map(Val::from),
        "int" => to_int(&a),
        "double" => to_double(&a),
        "bool" => match a.as_str() {
            Some("true" | "True" | "TRUE" | "t" | "1") => Ok(Val::from(true)),
            Some("false" | "False" | "FALSE" | "f" | "0") => Ok(Val::from(false)),
            _ => a.as_bool().map(Val::from).ok_or_else(EvalError::overload),
        },
        "dyn" => Ok(a),
        "type" => type_name(&a).map(Val::Type),
        "duration" => match a.as_str() {
            Some(text) => text
                .parse::<SignedDuration>()
                .map(Val::Duration)
                .map_err(|_| EvalError::new(format!("invalid duration {text:?}"))),
            None => Err(EvalError::overload()),
        },
        "timestamp" => match a.as_str() {
            Some(text) => text
                .parse::<Timestamp>()
                .map(Val::Timestamp)
                .map_err(|_| EvalError::new(format!("invalid timestamp {text:?}"))),
            None => Err(EvalError::overload()),
        },
        _ => return None,
    })
}

fn binary<'a>(name: &str, a: Val<'a>, b: Val<'a>) -> Option<Outcome<'a>> {
    let compare = |accept: fn(Ordering) -> bool| a.order(&b).map(accept).map(Val::from);
    Some(match name {
        operators::EQUALS => Ok(Val::from(a.equals(&b))),
        operators::NOT_EQUALS => Ok(Val::from(!a.equals(&b))),
        operators::LESS => compare(Ordering::is_lt),
        operators::LESS_EQUALS => compare(Ordering::is_le),
        operators::GREATER => compare(Ordering::is_gt),
        operators::GREATER_EQUALS => compare(Ordering::is_ge),
        operators::ADD => add(a, b),
        operators::SUBSTRACT | operators::MULTIPLY | operators::DIVIDE | operators::MODULO => {
            arithmetic(name, &a, &b)
        }
        operators::IN => contains(&a, b),
        operators::INDEX => index(a, &b),
        operators::OPT_INDEX => optional_index(a, &b),
        operators::OPT_SELECT => match b.as_str() {
            Some(field) => a.field(field).map(|found| Val::Optional(found.map(Box::new))),
            None => Err(EvalError::overload()),
        },
        _ => return None,
    })
}

fn overflow() -> EvalError {
    EvalError::new("integer overflow")
}

fn add<'a>(a: Val<'a>, b: Val<'a>) -> Outcome<'a> {
    if let (Some(left), Some(right)) = (a.as_str(), b.as_str()) {
        return Ok(Val::from(format!("{left}{right}")));
    }
    match (&a, &b) {
        (Val::Duration(left), Val::Duration(right)) => {
            return left.checked_add(*right).map(Val::Duration).ok_or_else(overflow);
        }
        (Val::Timestamp(at), Val::Duration(span)) | (Val::Duration(span), Val::Timestamp(at)) => {
            return at.checked_add(*span).map(Val::Timestamp).map_err(|_| overflow());
        }
        _ => {}
    }
    if matches!(a.as_json(), Some(Value::Number(_))) {
        return arithmetic(operators::ADD, &a, &b);
    }
    let is_list =
        |v: &Val<'_>| matches!(v, Val::List(_)) || v.as_json().is_some_and(Value::is_array);
    if is_list(&a) && is_list(&b) {
        let mut elements = a.range()?;
        elements.extend(b.range()?);
        return Ok(Val::list(elements));
    }
    Err(EvalError::overload())
}

/// Integers with integers and doubles with doubles; a mix is no overload, as in the API server.
fn arithmetic<'a>(name: &str, a: &Val<'a>, b: &Val<'a>) -> Outcome<'a> {
    if let (Some(left), Some(right)) = (a.as_int(), b.as_int()) {
        let result = match name {
            operators::ADD => left.checked_add(right),
            operators::SUBSTRACT => left.checked_sub(right),
            operators::MULTIPLY => left.checked_mul(right),
            operators::DIVIDE | operators::MODULO if right == 0 => {
                let what = if name == operators::DIVIDE { "division" } else { "modulus" };
                return Err(EvalError::new(format!("{what} by zero")));
            }
            operators::DIVIDE => left.checked_div(right),
            _ => left.checked_rem(right),
        };
        return result.map(Val::from).ok_or_else(overflow);
    }
    let double = |v: &Val<'_>| match v.as_json() {
        Some(Value::Number(number)) if number.is_f64() => number.as_f64(),
        _ => None,
    };
    match (a, b, name) {
        (Val::Timestamp(left), Val::Timestamp(right), operators::SUBSTRACT) => {
            return Ok(Val::Duration(left.duration_since(*right)));
        }
        (Val::Timestamp(at), Val::Duration(span), operators::SUBSTRACT) => {
            return at.checked_sub(*span).map(Val::Timestamp).map_err(|_| overflow());
        }
        (Val::Duration(left), Val::Duration(right), operators::SUBSTRACT) => {
            return left.checked_sub(*right).map(Val::Duration).ok_or_else(overflow);
        }
        _ => {}
    }
    let (Some(left), Some(right)) = (double(a), double(b)) else {
        return Err(EvalError::overload());
    };
    match name {
        operators::ADD => Ok(Val::from(left + right)),
        operators::SUBSTRACT => Ok(Val::from(left - right)),
        operators::MULTIPLY => Ok(Val::from(left * right)),
        operators::DIVIDE => Ok(Val::from(left / right)),
        _ => Err(EvalError::overload()),
    }
}

fn contains<'a>(needle: &Val<'a>, container: Val<'a>) -> Outcome<'a> {
    if let Some(Value::Object(map)) = container.as_json() {
        return Ok(Val::from(needle.as_str().is_some_and(|key| map.contains_key(key))));
    }
    let elements = container.range()?;
    Ok(Val::from(elements.iter().any(|element| element.equals(needle))))
}

fn index<'a>(container: Val<'a>, key: &Val<'a>) -> Outcome<'a> {
    match (key.as_str(), key.as_int()) {
        (Some(key), _) => container.field(key)?.ok_or_else(|| EvalError::no_key(key)),
        (None, Some(at)) => container.element(at),
        (None, None) => Err(EvalError::overload()),
    }
}

fn optional_index<'a>(container: Val<'a>, key: &Val<'a>) -> Outcome<'a> {
    let found = match (key.as_str(), key.as_int()) {
        (Some(key), _) => container.field(key)?,
        (None, Some(at)) => match container {
            Val::Optional(None) => None,
            Val::Optional(Some(inner)) => inner.element(at).ok(),
            list => list.element(at).ok(),
        },
        (None, None) => return Err(EvalError::overload()),
    };
    Ok(Val::Optional(found.map(Box::new)))
}

fn size<'a>(value: &Val<'a>) -> Outcome<'a> {
    let count = match value {
        Val::List(elements) => elements.len(),
        Val::Json(json) => match json.as_ref() {
            Value::String(text) => text.chars().count(),
            Value::Array(list) => list.len(),
            Value::Object(map) => map.len(),
            _ => return Err(EvalError::overload()),
        },
        _ => return Err(EvalError::overload()),
    };
    i64::try_from(count).map(Val::from).map_err(|_| overflow())
}

fn to_int<'a>(value: &Val<'a>) -> Outcome<'a> {
    if let Some(text) = value.as_str() {
        return text.parse::<i64>().map(Val::from).map_err(|_| {
            EvalError::new(format!("type conversion error from 'string' to 'int': {text:?}"))
        });
    }
    match (value.as_int(), value.as_json().and_then(Value::as_f64), value) {
        (Some(number), _, _) => Ok(Val::from(number)),
        // 2^63 is the first double beyond the integers.
        (None, Some(number), _) if number.abs() < 9_223_372_036_854_775_808.0 => {
            Ok(Val::from(number.trunc() as i64))
        }
        (None, Some(_), _) => Err(overflow()),
        (_, _, Val::Timestamp(at)) => Ok(Val::from(at.as_second())),
        _ => Err(EvalError::overload()),
    }
}

fn to_double<'a>(value: &Val<'a>) -> Outcome<'a> {
    if let Some(text) = value.as_str() {
        return text.parse::<f64>().map(Val::from).map_err(|_| {
            EvalError::new(format!("type conversion error from 'string' to 'double': {text:?}"))
        });
    }
    value.as_json().and_then(Value::as_f64).map(Val::from).ok_or_else(EvalError::overload)
}

fn type_name(value: &Val<'_>) -> Result<&'static str, EvalError> {
    Ok(match value {
        Val::List(_) => "list",
        Val::Duration(_) => "google.protobuf.Duration",
        Val::Timestamp(_) => "google.protobuf.Timestamp",
        Val::Optional(_) => "optional_type",
        Val::Type(_) => "type",
        Val::Message { .. } => return Err(EvalError::new("type() of a message is not supported")),
        Val::Json(json) => match json.as_ref() {
            Value::Null => "null_type",
            Value::Bool(_) => "bool",
            Value::Number(number) if number.is_f64() => "double",
            Value::Number(_) => "int",
            Value::String(_) => "string",
            Value::Array(_) => "list",
            Value::Object(_) => "map",
        },
    })
}

fn receiver<'a>(
    name: &str,
    a: Val<'a>,
    b: Option<Val<'a>>,
    c: Option<Val<'a>>,
) -> Option<Outcome<'a>> {
    if let Val::Optional(inner) = a {
        return Some(match (name, inner, b) {
            ("hasValue", inner, None) => Ok(Val::from(inner.is_some())),
            ("value", Some(value), None) => Ok(*value),
            ("value", None, None) => Err(EvalError::new("optional.none() dereference")),
            ("orValue", inner, Some(other)) => Ok(inner.map_or(other, |value| *value)),
            ("or", inner @ Some(_), Some(_)) => Ok(Val::Optional(inner)),
            ("or", None, Some(other)) => Ok(other),
            _ => return None,
        });
    }
    if name == "size" && b.is_none() {
        return Some(size(&a));
    }
    if let (Val::Duration(span), "getSeconds", None) = (&a, name, &b) {
        return Some(Ok(Val::from(span.as_secs())));
    }
    if let Some(text) = a.as_str() {
        let text = text.to_owned();
        return string_method(&text, name, b, c);
    }
    list_method(a, name, b)
}

fn string_method<'a>(
    text: &str,
    name: &str,
    b: Option<Val<'a>>,
    c: Option<Val<'a>>,
) -> Option<Outcome<'a>> {
    let argument = b.as_ref().and_then(Val::as_str);
    let number = b.as_ref().and_then(Val::as_int).and_then(|n| usize::try_from(n).ok());
    let end = c.as_ref().and_then(Val::as_int).and_then(|n| usize::try_from(n).ok());
    Some(Ok(match (name, argument, c.as_ref().and_then(Val::as_str)) {
        ("startsWith", Some(other), None) => Val::from(text.starts_with(other)),
        ("endsWith", Some(other), None) => Val::from(text.ends_with(other)),
        ("contains", Some(other), None) => Val::from(text.contains(other)),
        ("matches", Some(pattern), None) => match regex(pattern) {
            Ok(regex) => Val::from(regex.is_match(text)),
            Err(error) => return Some(Err(error)),
        },
        ("find" | "findAll", Some(pattern), None) => {
            let regex = match regex(pattern) {
                Ok(regex) => regex,
                Err(error) => return Some(Err(error)),
            };
            if name == "find" {
                Val::from(regex.find(text).map_or("", |found| found.as_str()))
            } else {
                Val::list(regex.find_iter(text).map(|found| Val::from(found.as_str())).collect())
            }
        }
        ("split", Some(separator), None) => {
            Val::list(text.split(separator).map(Val::from).collect())
        }
        ("replace", Some(from), Some(to)) => Val::from(text.replace(from, to)),
        ("indexOf", Some(other), None) => {
            let at = text.find(other).map(|byte| text.get(..byte).unwrap_or("").chars().count());
            Val::from(at.and_then(|at| i64::try_from(at).ok()).unwrap_or(-1))
        }
        ("lowerAscii", None, None) => Val::from(text.to_ascii_lowercase()),
        ("upperAscii", None, None) => Val::from(text.to_ascii_uppercase()),
        ("trim", None, None) => Val::from(text.trim()),
        ("substring", None, None) => {
            let (start, length) = (number?, text.chars().count());
            let end = end.unwrap_or(length);
            if start > end || end > length {
                return Some(Err(EvalError::new(format!("index out of range: {start}"))));
            }
            Val::from(text.chars().skip(start).take(end - start).collect::<String>())
        }
        _ => return None,
    }))
}

fn list_method<'a>(list: Val<'a>, name: &str, b: Option<Val<'a>>) -> Option<Outcome<'a>> {
    let elements = list.range();
    Some(match (name, b) {
        ("join", separator) => elements.and_then(|elements| {
            let texts: Option<Vec<_>> = elements.iter().map(Val::as_str).collect();
            let separator = separator.as_ref().map_or(Some(""), Val::as_str);
            match (texts, separator) {
                (Some(texts), Some(separator)) => Ok(Val::from(texts.join(separator))),
                _ => Err(EvalError::overload()),
            }
        }),
        ("sum", None) => elements.and_then(|elements| {
            let first = Ok(Val::from(0));
            elements.into_iter().fold(first, |sum, element| add(sum?, element))
        }),
        ("indexOf", Some(wanted)) => elements.map(|elements| {
            let at = elements.iter().position(|element| element.equals(&wanted));
            Val::from(at.and_then(|at| i64::try_from(at).ok()).unwrap_or(-1))
        }),
        _ => return None,
    })
}
