//! Success and failure conditions: expr-lang over the one variable `result`.
//!
//! Argo's language and extra functions. Refused before the parser sees them: texts over 4 kB, deep
//! nesting and ranges, because neither parsing nor evaluation has a step budget. Two differences
//! from Argo, both what its users expect: `isNil` and `default` look at their first argument (Argo
//! ignores it and looks at the whole result), and an empty vector counts as nil for them.

mod guard;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use expr::{Context, Environment, Program, Value};

use super::sample::{Absence, MAX_SERIES, Sample, number};

pub use guard::MAX_LENGTH;

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
    /// The expression does not fit the value.
    #[error("{0}")]
    Evaluation(String),
    /// The expression is not a question.
    #[error("expected bool, but got {0}")]
    NotBool(&'static str),
    /// The value has too many series to be judged.
    #[error(
        "{0} series; at most {MAX_SERIES} can be judged: aggregate the query, for example by sum()"
    )]
    TooManySeries(usize),
}

/// A compiled condition. Cloning shares the program.
#[derive(Debug, Clone)]
pub struct Condition {
    text: Arc<str>,
    program: Arc<Program>,
    handles_empty: bool,
    handles_nan: bool,
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
        let called = guard::check(text)?;
        let parsed = catch_unwind(|| expr::compile(text))
            .map_err(|_| ConditionError::Syntax("the expression cannot be parsed".to_owned()))?;
        let program = parsed.map_err(|e| ConditionError::Syntax(e.to_string()))?;
        let calls = |names: &[&str]| called.iter().any(|name| names.contains(&name.as_str()));
        Ok(Self {
            text: text.into(),
            program: Arc::new(program),
            handles_empty: calls(&["len", "default", "isNil"]),
            handles_nan: calls(&["isNaN"]),
        })
    }

    /// The text as written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the author says what this kind of no data means: `len`, `default` or `isNil` for an
    /// empty result, `isNaN` for NaN.
    #[must_use]
    pub fn handles(&self, absence: Absence) -> bool {
        match absence {
            Absence::Empty => self.handles_empty,
            Absence::NaN => self.handles_nan,
        }
    }

    /// Evaluates the condition on a sample.
    ///
    /// # Errors
    /// When the expression does not fit the value or does not give true or false.
    pub fn holds(&self, sample: &Sample) -> Result<bool, ConditionError> {
        let result = match sample {
            Sample::Value(value) => Value::Float(*value),
            Sample::Empty => Value::Array(Vec::new()),
            Sample::Series(values) if values.len() > MAX_SERIES => {
                return Err(ConditionError::TooManySeries(values.len()));
            }
            Sample::Series(values) => {
                Value::Array(values.iter().copied().map(Value::Float).collect())
            }
        };
        let mut context = Context::default();
        context.insert("result", result);
        let evaluated = catch_unwind(AssertUnwindSafe(|| ENVIRONMENT.run(&self.program, &context)));
        match evaluated {
            Ok(Ok(Value::Bool(holds))) => Ok(holds),
            Ok(Ok(other)) => Err(ConditionError::NotBool(type_name(&other))),
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
                format!("{} {operator} {bound}", number(value))
            }
            _ => format!("{sample}: {} is {holds}", self.text),
        }
    }

    /// The operator and number of a condition of the form `result <= 0.01` or `result[0] <= 0.01`.
    #[must_use]
    pub fn bound(&self) -> Option<(&'static str, &str)> {
        let rest = self.text.trim().strip_prefix("result")?.trim_start();
        let rest = rest.strip_prefix("[0]").unwrap_or(rest).trim_start();
        let operator = OPERATORS.into_iter().find(|o| rest.starts_with(o))?;
        let bound = rest.strip_prefix(operator)?.trim();
        bound.parse::<f64>().ok().map(|_| (operator, bound))
    }
}

/// Longer ones first, so that `<=` is not read as `<`.
const OPERATORS: [&str; 6] = ["<=", ">=", "==", "!=", "<", ">"];

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
    environment
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
