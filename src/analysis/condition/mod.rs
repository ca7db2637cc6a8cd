//! Success and failure conditions: Argo's language over the one variable `result`.
//!
//! A condition is read (`syntax`) with the precedence of Argo's engine, bounded in size and cost
//! (`cost`), typed (`types`), and handed to expr-lang with brackets everywhere ([`print`]).
//! Refused before anything runs: texts over 4 kB, deep nesting, ranges, and what could grow without
//! bound, because the evaluator has no budget. Two differences from Argo, both what its users
//! expect: `isNil` and `default` look at their first argument (Argo ignores it and looks at the
//! whole result), and an empty vector counts as nil for them.

mod cost;
mod lexer;
mod print;
mod syntax;
#[cfg(test)]
mod tests;
mod types;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use expr::{Context, Environment, Program, Value};

use self::syntax::Node;
use super::sample::{Absence, MAX_SERIES, Sample, number};

pub(crate) use self::types::Type;

/// The longest condition, in bytes.
pub const MAX_LENGTH: usize = 4_096;

/// Why a condition cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConditionError {
    /// The text is longer than [`MAX_LENGTH`].
    #[error("the condition has {0} bytes; at most {MAX_LENGTH} are allowed")]
    TooLong(usize),
    /// Something that can take unbounded time or memory.
    #[error("{0}")]
    Unbounded(&'static str),
    /// Not an expression.
    #[error("{0}")]
    Syntax(String),
    /// The expression does not fit the type of the value.
    #[error("{0}")]
    Type(String),
    /// The expression does not fit the value.
    #[error("{0}")]
    Evaluation(String),
    /// The expression is not a question.
    #[error("expected bool, but got {0}")]
    NotBool(String),
    /// The answer has too many series or points to be judged.
    #[error(
        "{0} series or points; at most {1} can be judged by this condition: aggregate the query, for \
         example by sum(), or give its range a longer step"
    )]
    TooManySeries(usize, usize),
    /// The JSON is too large to be judged.
    #[error(
        "the answer has more than {0} values or {MAX_TEXT} bytes of text: pick a part of it, by \
         jsonPath"
    )]
    TooManyValues(usize),
}

/// More values than this in one JSON answer are refused, where each is visited once.
const MAX_VALUES: usize = 10_000;

/// More text than this in one answer is refused, in bytes.
const MAX_TEXT: usize = 65_536;

/// A compiled condition. Cloning shares the program.
#[derive(Debug, Clone)]
pub struct Condition {
    text: Arc<str>,
    program: Arc<Program>,
    tree: Arc<Node>,
    facts: Arc<cost::Facts>,
}

/// Conditions compiled lately, by their text: every plan of every run compiles its own, they are
/// few, and compiling is what costs. Emptied when it is full.
static COMPILED: Mutex<BTreeMap<Arc<str>, Condition>> = Mutex::new(BTreeMap::new());

/// Conditions that are kept.
const MOST_COMPILED: usize = 512;

impl Condition {
    /// Compiles `text`.
    ///
    /// # Errors
    /// When the text is too long, can take unbounded time, or does not parse.
    pub fn compile(text: &str) -> Result<Self, ConditionError> {
        let known = COMPILED.lock().unwrap_or_else(PoisonError::into_inner).get(text).cloned();
        if let Some(condition) = known {
            return Ok(condition);
        }
        let condition = Self::compile_anew(text)?;
        let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
        if compiled.len() >= MOST_COMPILED {
            compiled.clear();
        }
        compiled.insert(Arc::clone(&condition.text), condition.clone());
        Ok(condition)
    }

    fn compile_anew(text: &str) -> Result<Self, ConditionError> {
        if text.len() > MAX_LENGTH {
            return Err(ConditionError::TooLong(text.len()));
        }
        let tree = syntax::parse(text)?;
        let facts = cost::bound(&tree)?;
        let clear = print::print(&tree);
        let parsed = catch_unwind(|| expr::compile(&clear))
            .map_err(|_| ConditionError::Syntax("the expression cannot be parsed".to_owned()))?;
        let program = parsed.map_err(|e| ConditionError::Syntax(e.to_string()))?;
        Ok(Self {
            text: text.into(),
            program: Arc::new(program),
            tree: Arc::new(tree),
            facts: Arc::new(facts),
        })
    }

    /// The text as written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the author says what this kind of no data means: `len`, `default` or `isNil` for an
    /// empty result, for nil also `result == nil` and `result ?? 0`, `isNaN` for NaN.
    #[must_use]
    pub fn handles(&self, absence: Absence) -> bool {
        let calls = |names: &[&str]| names.iter().any(|name| self.facts.calls.contains(*name));
        let empty = calls(&["len", "default", "isNil"]);
        match absence {
            Absence::Empty => empty,
            Absence::Nil => empty || self.facts.nil,
            Absence::Stale(_) => false,
            Absence::NaN => calls(&["isNaN"]),
        }
    }

    /// Whether it depends on the answer at all.
    #[must_use]
    pub fn looks_at_result(&self) -> bool {
        self.facts.looks
    }

    /// Whether it can be asked of a `result` of this type.
    ///
    /// # Errors
    /// What does not fit, in the words of Argo's engine.
    pub(crate) fn fits(&self, result: &Type) -> Result<(), ConditionError> {
        match types::check(&self.tree, result)? {
            Type::Bool | Type::Any => Ok(()),
            other => Err(ConditionError::NotBool(other.to_string())),
        }
    }

    /// Evaluates the condition on a sample.
    ///
    /// # Errors
    /// When the expression does not fit the value or does not give true or false.
    pub fn holds(&self, sample: &Sample) -> Result<bool, ConditionError> {
        self.fits(&type_of(sample))?;
        let most = if self.facts.squared { MAX_SERIES } else { MAX_VALUES };
        let result = match sample {
            Sample::Value(value) => Value::Float(*value),
            Sample::Empty | Sample::Stale { .. } | Sample::Lines(_) => Value::Array(Vec::new()),
            Sample::Series(values) if values.len() > most => {
                return Err(ConditionError::TooManySeries(values.len(), most));
            }
            Sample::Series(values) => {
                Value::Array(values.iter().copied().map(Value::Float).collect())
            }
            Sample::Text(text) if text.len() > MAX_TEXT => {
                return Err(ConditionError::TooManyValues(most));
            }
            Sample::Text(text) => Value::String(text.clone()),
            Sample::Json(json) | Sample::Hollow(json) => Budget { values: most, text: MAX_TEXT }
                .spend(json)
                .ok_or(ConditionError::TooManyValues(most))?,
        };
        let mut context = Context::default();
        context.insert("result", result);
        let evaluated = catch_unwind(AssertUnwindSafe(|| ENVIRONMENT.run(&self.program, &context)));
        match evaluated {
            Ok(Ok(Value::Bool(holds))) => Ok(holds),
            Ok(Ok(other)) => Err(ConditionError::NotBool(type_name(&other).to_owned())),
            Ok(Err(e)) => Err(ConditionError::Evaluation(e.to_string())),
            Err(_) => {
                Err(ConditionError::Evaluation("the expression cannot be evaluated".to_owned()))
            }
        }
    }

    /// What the sample shows of this condition, in numbers: `0.0731 > 0.01` for a comparison with a
    /// number, else the value and the condition's text. `holds` is what the condition gave.
    #[must_use]
    pub fn explain(&self, sample: &Sample, holds: bool) -> String {
        match (sample.single(), self.bound()) {
            (Some(value), Some((operator, bound))) => {
                let operator = if holds { operator } else { negated(operator) };
                // Seventeen digits help nobody, unless the rounded number would deny the comparison.
                let short = rounded(value);
                let shown = if short == bound { number(value) } else { short };
                format!("{shown} {operator} {bound}")
            }
            _ => format!("{sample}: {} is {holds}", self.text),
        }
    }

    /// The operator and number of a condition of the form `result <= 0.01` or `result[0] <= 0.01`.
    #[must_use]
    pub fn bound(&self) -> Option<(&'static str, String)> {
        let Node::Binary(operator, left, right) = &*self.tree else { return None };
        let compared = match &**left {
            Node::Name(name) => name == "result",
            Node::Member(of, at, _) => {
                matches!(&**of, Node::Name(name) if name == "result") && **at == Node::Int(0)
            }
            _ => false,
        };
        let value = match &**right {
            Node::Int(value) => value.to_string(),
            Node::Float(value) => number(*value),
            Node::Unary("-", of) => match &**of {
                Node::Int(value) => format!("-{value}"),
                Node::Float(value) => number(-value),
                _ => return None,
            },
            _ => return None,
        };
        let plain = matches!(*operator, "<=" | ">=" | "==" | "!=" | "<" | ">");
        (compared && plain).then_some((*operator, value))
    }

    /// The numbers that it names.
    #[must_use]
    pub fn numbers(&self) -> Vec<f64> {
        let mut found = Vec::new();
        self.tree.numbers(&mut found);
        found
    }
}

/// Four significant digits; whole numbers as they are.
fn rounded(value: f64) -> String {
    let short = format!("{value:.3e}").parse().ok();
    number(short.filter(|_| value.fract() != 0.0).unwrap_or(value))
}

/// The type of an answer, as Argo's engine sees it.
fn type_of(sample: &Sample) -> Type {
    use serde_json::Value as Json;
    match sample {
        Sample::Value(_) => Type::Float,
        Sample::Series(_) => Type::List(Box::new(Type::Float)),
        Sample::Text(_) => Type::Text,
        Sample::Json(json) | Sample::Hollow(json) => match json {
            Json::Null => Type::Any,
            Json::Bool(_) => Type::Bool,
            Json::Number(_) => Type::Float,
            Json::String(_) => Type::Text,
            Json::Array(_) => Type::List(Box::new(Type::Any)),
            Json::Object(_) => Type::Map,
        },
        Sample::Empty | Sample::Stale { .. } | Sample::Lines(_) => Type::Any,
    }
}

/// What may still come of an answer.
struct Budget {
    values: usize,
    text: usize,
}

impl Budget {
    /// JSON as the language sees it: every number is a float, as in Go. `None` when it is too much.
    fn spend(&mut self, json: &serde_json::Value) -> Option<Value> {
        use serde_json::Value as Json;
        self.values = self.values.checked_sub(1)?;
        Some(match json {
            Json::Null => Value::Nil,
            Json::Bool(value) => Value::Bool(*value),
            Json::Number(number) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
            Json::String(text) => {
                self.text = self.text.checked_sub(text.len())?;
                Value::String(text.clone())
            }
            Json::Array(items) => {
                Value::Array(items.iter().map(|item| self.spend(item)).collect::<Option<_>>()?)
            }
            Json::Object(fields) => {
                let field = |(name, field)| {
                    let name = String::clone(name);
                    self.text = self.text.checked_sub(name.len())?;
                    Some((name, self.spend(field)?))
                };
                Value::Map(fields.iter().map(field).collect::<Option<_>>()?)
            }
        })
    }
}

fn negated(operator: &'static str) -> &'static str {
    match operator {
        "<=" => ">",
        ">=" => "<",
        "<" => ">=",
        ">" => "<=",
        "==" => "!=",
        _ => "==",
    }
}

/// Argo's extra functions on top of the language's own, built once.
static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(environment);

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.add_function("isNaN", |call| Ok(float("isNaN", &call.args)?.is_nan().into()));
    environment.add_function("isInf", |call| Ok(float("isInf", &call.args)?.is_infinite().into()));
    environment.add_function("isNil", |call| match call.args.as_slice() {
        [value] => Ok(is_nil(value).into()),
        _ => Err("isNil takes one value".to_owned().into()),
    });
    environment.add_function("default", |call| match call.args.as_slice() {
        [value, default] => Ok(if is_nil(value) { default } else { value }.clone()),
        _ => Err("default takes a value and what stands in for it".to_owned().into()),
    });
    environment.add_function("asFloat", |call| match call.args.as_slice() {
        [Value::String(text)] => match text.trim().parse::<f64>() {
            Ok(value) => Ok(value.into()),
            Err(_) => Err(format!("asFloat: {text:?} is not a number").into()),
        },
        args => Ok(float("asFloat", args)?.into()),
    });
    environment.add_function("asInt", |call| match call.args.as_slice() {
        [Value::String(text)] => match text.trim().parse::<i64>() {
            Ok(value) => Ok(value.into()),
            Err(_) => Err(format!("asInt: {text:?} is not a whole number").into()),
        },
        args => Ok(truncate(float("asInt", args)?)?.into()),
    });
    json_functions(&mut environment);
    environment
}

/// The language's own two, registered here: the crate's feature for them turns on insertion order in
/// every JSON object of the process, which costs memory and time everywhere.
fn json_functions(environment: &mut Environment<'static>) {
    environment.add_function("toJSON", |call| match call.args.as_slice() {
        [value] => match serde_json::to_string_pretty(value) {
            Ok(text) => Ok(text.into()),
            Err(error) => Err(format!("toJSON: {error}").into()),
        },
        _ => Err("toJSON takes one value".to_owned().into()),
    });
    environment.add_function("fromJSON", |call| match call.args.as_slice() {
        [Value::String(text)] => match serde_json::from_str::<Value>(text) {
            Ok(value) => Ok(value),
            Err(error) => Err(format!("fromJSON: {error}").into()),
        },
        _ => Err("fromJSON takes one text".to_owned().into()),
    });
}

fn is_nil(value: &Value) -> bool {
    match value {
        Value::Nil => true,
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

fn float(name: &str, args: &[Value]) -> Result<f64, expr::Error> {
    match args {
        [Value::Float(value)] => Ok(*value),
        #[expect(clippy::cast_precision_loss, reason = "a condition compares, it does not count")]
        [Value::Integer(value)] => Ok(*value as f64),
        [other] => Err(format!("{name} takes a number, not {}", type_name(other)).into()),
        _ => Err(format!("{name} takes one number").into()),
    }
}

fn truncate(value: f64) -> Result<i64, expr::Error> {
    #[expect(clippy::cast_possible_truncation, reason = "cutting off is what asInt is for")]
    if value.is_finite() {
        Ok(value as i64)
    } else {
        Err("asInt: not a finite number".to_owned().into())
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Integer(_) => "int",
        Value::Float(_) => "float64",
        Value::Bool(_) => "bool",
        Value::Nil => "nil",
        Value::String(_) => "string",
        Value::Array(_) => "a list: take one value of it, as in result[0]",
        _ => "a map",
    }
}
