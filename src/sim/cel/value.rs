//! The values of an expression: JSON, borrowed from the objects under admission where possible, and
//! the few things that JSON cannot say (messages, optionals, durations, instants).
//!
//! Maps have string keys here; an expression that builds a map with other keys is refused.

use std::{borrow::Cow, cmp::Ordering, collections::BTreeMap};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Number, Value};

use super::eval::EvalError;

/// One value of an expression.
#[derive(Clone, Debug)]
pub(crate) enum Val<'a> {
    /// Null, a boolean, an integer, a double, a string, and lists and maps of these.
    Json(Cow<'a, Value>),
    /// A list with at least one element that is not JSON.
    List(Vec<Val<'a>>),
    /// A constructed message: `Object.spec{...}` or `JSONPatch{...}`.
    Message { type_name: String, fields: BTreeMap<String, Val<'a>> },
    /// `optional.of(x)`, `map[?key]`, `object.?field`.
    Optional(Option<Box<Val<'a>>>),
    /// `duration('5m')`.
    Duration(SignedDuration),
    /// `timestamp('2026-01-01T00:00:00Z')`.
    Timestamp(Timestamp),
    /// `type(x)`, or the name of a type.
    Type(&'static str),
}

impl<'a> Val<'a> {
    pub(crate) fn null() -> Self {
        Val::Json(Cow::Owned(Value::Null))
    }

    pub(crate) fn borrowed(value: &'a Value) -> Self {
        Val::Json(Cow::Borrowed(value))
    }

    /// A list; it stays JSON as long as its elements are.
    pub(crate) fn list(elements: Vec<Val<'a>>) -> Self {
        if elements.iter().all(|element| matches!(element, Val::Json(_))) {
            let values = elements.into_iter().filter_map(|element| match element {
                Val::Json(value) => Some(value.into_owned()),
                _ => None,
            });
            return Val::Json(Cow::Owned(Value::Array(values.collect())));
        }
        Val::List(elements)
    }

    pub(crate) fn as_json(&self) -> Option<&Value> {
        match self {
            Val::Json(value) => Some(value.as_ref()),
            _ => None,
        }
    }

    pub(crate) fn as_str(&self) -> Option<&str> {
        self.as_json().and_then(Value::as_str)
    }

    pub(crate) fn as_int(&self) -> Option<i64> {
        self.as_json().and_then(Value::as_i64)
    }

    pub(crate) fn as_bool(&self) -> Option<bool> {
        self.as_json().and_then(Value::as_bool)
    }

    /// The elements of a list, or the keys of a map: what a macro ranges over.
    pub(crate) fn range(self) -> Result<Vec<Val<'a>>, EvalError> {
        match self {
            Val::List(elements) => Ok(elements),
            Val::Json(Cow::Borrowed(Value::Array(values))) => {
                Ok(values.iter().map(Val::borrowed).collect())
            }
            Val::Json(Cow::Owned(Value::Array(values))) => {
                Ok(values.into_iter().map(Val::from).collect())
            }
            Val::Json(value) => match value.as_ref() {
                Value::Object(map) => Ok(map.keys().map(|key| Val::from(key.as_str())).collect()),
                _ => Err(EvalError::overload()),
            },
            _ => Err(EvalError::overload()),
        }
    }

    /// The field or map entry of this name, if there is one; an error if this is no map.
    pub(crate) fn field(self, name: &str) -> Result<Option<Val<'a>>, EvalError> {
        match self {
            Val::Json(Cow::Borrowed(Value::Object(map))) => Ok(map.get(name).map(Val::borrowed)),
            Val::Json(Cow::Owned(Value::Object(mut map))) => Ok(map.remove(name).map(Val::from)),
            Val::Message { mut fields, .. } => Ok(fields.remove(name)),
            Val::Optional(None) => Ok(None),
            Val::Optional(Some(inner)) => inner.field(name),
            _ => Err(EvalError::overload()),
        }
    }

    /// The element of a list.
    pub(crate) fn element(self, index: i64) -> Result<Val<'a>, EvalError> {
        let elements = self.range()?;
        usize::try_from(index)
            .ok()
            .and_then(|at| elements.into_iter().nth(at))
            .ok_or_else(|| EvalError::new(format!("index out of bounds: {index}")))
    }

    /// As JSON, the way the API server serialises the result of an expression.
    pub(crate) fn into_json(self) -> Result<Value, EvalError> {
        match self {
            Val::Json(value) => Ok(value.into_owned()),
            Val::List(elements) => {
                let values: Result<Vec<_>, _> = elements.into_iter().map(Val::into_json).collect();
                Ok(Value::Array(values?))
            }
            Val::Message { fields, .. } => {
                let mut map = Map::new();
                for (name, value) in fields {
                    // An optional field that is empty is a field that was not written.
                    if matches!(value, Val::Optional(None)) {
                        continue;
                    }
                    map.insert(name, value.into_json()?);
                }
                Ok(Value::Object(map))
            }
            Val::Optional(None) => Ok(Value::Null),
            Val::Optional(Some(value)) => value.into_json(),
            Val::Type(_) => Err(EvalError::overload()),
            Val::Duration(_) | Val::Timestamp(_) => self.to_text().map(Value::String),
        }
    }

    /// What `string(x)` gives.
    pub(crate) fn to_text(&self) -> Result<String, EvalError> {
        match self {
            Val::Json(value) => match value.as_ref() {
                Value::String(text) => Ok(text.clone()),
                Value::Bool(flag) => Ok(flag.to_string()),
                Value::Number(number) => Ok(match number.as_f64() {
                    Some(double) if number.is_f64() => double.to_string(),
                    _ => number.to_string(),
                }),
                _ => Err(EvalError::overload()),
            },
            Val::Duration(duration) => Ok(format!("{}s", duration.as_secs_f64())),
            Val::Timestamp(at) => Ok(at.to_string()),
            Val::Type(name) => Ok((*name).to_owned()),
            _ => Err(EvalError::overload()),
        }
    }

    /// Equality across types is false and never an error; numbers compare by value.
    pub(crate) fn equals(&self, other: &Val<'_>) -> bool {
        match (self, other) {
            (Val::Json(left), Val::Json(right)) => json_equals(left, right),
            (
                Val::Message { type_name: a, fields: b },
                Val::Message { type_name: c, fields: d },
            ) => {
                a == c
                    && b.len() == d.len()
                    && b.iter()
                        .all(|(name, value)| d.get(name).is_some_and(|found| value.equals(found)))
            }
            (Val::List(left), Val::List(right)) => {
                left.len() == right.len() && left.iter().zip(right).all(|(a, b)| a.equals(b))
            }
            (Val::Optional(None), Val::Optional(None)) => true,
            (Val::Optional(Some(left)), Val::Optional(Some(right))) => left.equals(right),
            (Val::Duration(left), Val::Duration(right)) => left == right,
            (Val::Timestamp(left), Val::Timestamp(right)) => left == right,
            (Val::Type(left), Val::Type(right)) => left == right,
            _ => false,
        }
    }

    /// The order of two values of one type.
    pub(crate) fn order(&self, other: &Val<'_>) -> Result<Ordering, EvalError> {
        match (self, other) {
            (Val::Json(left), Val::Json(right)) => match (left.as_ref(), right.as_ref()) {
                (Value::String(a), Value::String(b)) => Ok(a.cmp(b)),
                (Value::Bool(a), Value::Bool(b)) => Ok(a.cmp(b)),
                (Value::Number(a), Value::Number(b)) => {
                    number_order(a, b).ok_or_else(|| EvalError::new("NaN values cannot be ordered"))
                }
                _ => Err(EvalError::overload()),
            },
            (Val::Duration(left), Val::Duration(right)) => Ok(left.cmp(right)),
            (Val::Timestamp(left), Val::Timestamp(right)) => Ok(left.cmp(right)),
            _ => Err(EvalError::overload()),
        }
    }
}

impl From<Value> for Val<'_> {
    fn from(value: Value) -> Self {
        Val::Json(Cow::Owned(value))
    }
}

impl From<&str> for Val<'_> {
    fn from(text: &str) -> Self {
        Val::from(Value::from(text))
    }
}

impl From<String> for Val<'_> {
    fn from(text: String) -> Self {
        Val::from(Value::from(text))
    }
}

impl From<bool> for Val<'_> {
    fn from(flag: bool) -> Self {
        Val::from(Value::from(flag))
    }
}

impl From<i64> for Val<'_> {
    fn from(number: i64) -> Self {
        Val::from(Value::from(number))
    }
}

impl From<f64> for Val<'_> {
    fn from(number: f64) -> Self {
        Val::from(Value::from(number))
    }
}

fn json_equals(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(a), Value::Number(b)) => number_order(a, b) == Some(Ordering::Equal),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(x, y)| json_equals(x, y))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter().all(|(key, x)| b.get(key).is_some_and(|y| json_equals(x, y)))
        }
        _ => left == right,
    }
}

fn number_order(left: &Number, right: &Number) -> Option<Ordering> {
    match (left.as_i64(), right.as_i64()) {
        (Some(a), Some(b)) => Some(a.cmp(&b)),
        _ => left.as_f64()?.partial_cmp(&right.as_f64()?),
    }
}
