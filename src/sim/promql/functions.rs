//! Functions of instant vectors, scalars and labels.

use promql_parser::label::{MatchOp, Matchers};
use promql_parser::parser::{Call, Expr};
use regex::Regex;

use super::aggregate::order;
use super::eval::{Dialect, Evaluator, QueryError, Sample, Value};
use super::histogram::histogram_quantile;
use super::labels::{Labels, NAME};

/// The arguments of one call and what evaluates them.
struct Arguments<'a> {
    evaluator: &'a Evaluator<'a>,
    call: &'a Call,
    at_ms: i64,
}

impl Arguments<'_> {
    fn count(&self) -> usize {
        self.call.args.args.len()
    }

    fn expr(&self, i: usize) -> Result<&Expr, QueryError> {
        self.call.args.args.get(i).map(AsRef::as_ref).ok_or_else(|| {
            QueryError::Parse(format!("{}() needs argument {}", self.call.func.name, i + 1))
        })
    }

    fn vector(&self, i: usize) -> Result<Vec<Sample>, QueryError> {
        self.evaluator.vector(self.expr(i)?, self.at_ms)
    }

    fn scalar(&self, i: usize) -> Result<f64, QueryError> {
        self.evaluator.scalar(self.expr(i)?, self.at_ms)
    }

    fn string(&self, i: usize) -> Result<String, QueryError> {
        match self.evaluator.eval(self.expr(i)?, self.at_ms)? {
            Value::String(text) => Ok(text),
            Value::Scalar(_) | Value::Vector(_) | Value::Matrix(_) => Err(QueryError::Parse(
                format!("{}() needs a string as argument {}", self.call.func.name, i + 1),
            )),
        }
    }

    /// The elements of argument `i`, each value changed by `change`, without their name.
    fn map(&self, i: usize, change: impl Fn(f64) -> f64) -> Result<Value, QueryError> {
        let changed = self
            .vector(i)?
            .into_iter()
            .map(|s| Sample { labels: s.labels.without_name(), value: change(s.value) });
        Ok(Value::Vector(changed.collect()))
    }
}

/// Evaluates a call of any function that is not one over a range.
pub(super) fn call(
    evaluator: &Evaluator<'_>,
    call: &Call,
    at_ms: i64,
) -> Result<Value, QueryError> {
    let args = Arguments { evaluator, call, at_ms };
    let now = at_ms as f64 / 1000.0;
    match call.func.name {
        "time" => Ok(Value::Scalar(now)),
        "pi" => Ok(Value::Scalar(std::f64::consts::PI)),
        "vector" => {
            Ok(Value::Vector(vec![Sample { labels: Labels::default(), value: args.scalar(0)? }]))
        }
        "scalar" => Ok(Value::Scalar(match args.vector(0)?.as_slice() {
            [only] => only.value,
            _ => f64::NAN,
        })),
        "histogram_quantile" => {
            Ok(Value::Vector(histogram_quantile(args.scalar(0)?, args.vector(1)?)))
        }
        "timestamp" => timestamp(&args),
        "absent" | "absent_over_time" => absent(&args),
        "sort" | "sort_desc" => {
            let mut samples = args.vector(0)?;
            let descending = call.func.name == "sort_desc";
            samples.sort_by(|a, b| order(a.value, b.value, descending));
            Ok(Value::Vector(samples))
        }
        "label_replace" => label_replace(&args),
        "label_join" => label_join(&args),
        "clamp" => {
            let (low, high) = (args.scalar(1)?, args.scalar(2)?);
            if high < low {
                return Ok(Value::Vector(Vec::new()));
            }
            args.map(0, |v| nan_max(low, nan_min(high, v)))
        }
        "clamp_min" => {
            let low = args.scalar(1)?;
            args.map(0, |v| nan_max(low, v))
        }
        "clamp_max" => {
            let high = args.scalar(1)?;
            args.map(0, |v| nan_min(high, v))
        }
        "round" => {
            // Prometheus multiplies by the inverse, so that 0.1 does not leave a tail of digits.
            let inverse = 1.0 / if args.count() > 1 { args.scalar(1)? } else { 1.0 };
            args.map(0, |v| (v * inverse + 0.5).floor() / inverse)
        }
        name => match mathematics(name) {
            Some(change) => args.map(0, change),
            None => calendar(&args, name),
        },
    }
}

fn mathematics(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "abs" => f64::abs,
        "ceil" => f64::ceil,
        "floor" => f64::floor,
        "sqrt" => f64::sqrt,
        "exp" => f64::exp,
        "ln" => f64::ln,
        "log2" => f64::log2,
        "log10" => f64::log10,
        "sgn" => |v| if v == 0.0 || v.is_nan() { v } else { v.signum() },
        "deg" => f64::to_degrees,
        "rad" => f64::to_radians,
        _ => return None,
    })
}

fn nan_min(limit: f64, value: f64) -> f64 {
    if value.is_nan() || limit.is_nan() { f64::NAN } else { limit.min(value) }
}

fn nan_max(limit: f64, value: f64) -> f64 {
    if value.is_nan() || limit.is_nan() { f64::NAN } else { limit.max(value) }
}

/// The sample's own time for a plain selector, else the time of evaluation.
fn timestamp(args: &Arguments<'_>) -> Result<Value, QueryError> {
    let mut inner = args.expr(0)?;
    while let Expr::Paren(paren) = inner {
        inner = &paren.expr;
    }
    let Expr::VectorSelector(selector) = inner else {
        return args.map(0, |_| args.at_ms as f64 / 1000.0);
    };
    let found = args.evaluator.newest(selector, args.at_ms)?;
    let sample = |(labels, point): (Labels, super::Point)| Sample {
        labels: labels.without_name(),
        value: point.at_ms as f64 / 1000.0,
    };
    Ok(Value::Vector(found.into_iter().map(sample).collect()))
}

/// 1 with the labels that the selector pins by `=`, when nothing is selected.
fn absent(args: &Arguments<'_>) -> Result<Value, QueryError> {
    let expr = args.expr(0)?;
    let present = if args.call.func.name == "absent" {
        !args.vector(0)?.is_empty()
    } else {
        !args.evaluator.ranges(expr, args.at_ms)?.series.is_empty()
    };
    if present {
        return Ok(Value::Vector(Vec::new()));
    }
    let labels = match expr {
        Expr::VectorSelector(selector) => pinned(&selector.matchers),
        Expr::MatrixSelector(selector) => pinned(&selector.vs.matchers),
        _ => Labels::default(),
    };
    Ok(Value::Vector(vec![Sample { labels, value: 1.0 }]))
}

fn pinned(matchers: &Matchers) -> Labels {
    let mut labels = Labels::default();
    for matcher in matchers.matchers.iter().filter(|m| m.name != NAME) {
        let first = matchers.find_matchers(&matcher.name).len() == 1;
        if first && matcher.op == MatchOp::Equal {
            labels.set(&matcher.name, &matcher.value);
        }
    }
    labels
}

fn label_replace(args: &Arguments<'_>) -> Result<Value, QueryError> {
    let (target, replacement) = (args.string(1)?, args.string(2)?);
    let (source, pattern) = (args.string(3)?, args.string(4)?);
    let regex = Regex::new(&format!("^(?s:{pattern})$")).map_err(|_| {
        QueryError::Execution(format!("invalid regular expression in label_replace(): {pattern}"))
    })?;
    check_label(args, &target, "label_replace")?;
    let replaced = args.vector(0)?.into_iter().map(|sample| {
        let mut labels = sample.labels;
        if let Some(captures) = regex.captures(labels.get(&source)) {
            let mut value = String::new();
            captures.expand(&replacement, &mut value);
            labels.set(&target, &value);
        }
        Sample { labels, value: sample.value }
    });
    Ok(Value::Vector(replaced.collect()))
}

fn label_join(args: &Arguments<'_>) -> Result<Value, QueryError> {
    let (target, separator) = (args.string(1)?, args.string(2)?);
    check_label(args, &target, "label_join")?;
    let sources = (3..args.count()).map(|i| args.string(i)).collect::<Result<Vec<_>, _>>()?;
    let joined = args.vector(0)?.into_iter().map(|sample| {
        let mut labels = sample.labels;
        let parts: Vec<&str> = sources.iter().map(|source| labels.get(source)).collect();
        let value = parts.join(&separator);
        labels.set(&target, &value);
        Sample { labels, value: sample.value }
    });
    Ok(Value::Vector(joined.collect()))
}

/// Any text may be the name of a label in version 3.
fn check_label(args: &Arguments<'_>, label: &str, function: &str) -> Result<(), QueryError> {
    if args.evaluator.engine.dialect == Dialect::V3 && !label.is_empty() {
        return Ok(());
    }
    let mut chars = label.chars();
    let starts = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    if starts && chars.all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Ok(());
    }
    Err(QueryError::Execution(format!("invalid destination label name in {function}(): {label}")))
}

/// Parts of the UTC date of each value (seconds), or of the evaluation time without an argument.
fn calendar(args: &Arguments<'_>, name: &str) -> Result<Value, QueryError> {
    let part: fn(jiff::civil::DateTime) -> i16 = match name {
        "minute" => |t| i16::from(t.minute()),
        "hour" => |t| i16::from(t.hour()),
        "day_of_week" => |t| i16::from(t.weekday().to_sunday_zero_offset()),
        "day_of_month" => |t| i16::from(t.day()),
        "days_in_month" => |t| i16::from(t.days_in_month()),
        "day_of_year" => |t| t.day_of_year(),
        "month" => |t| i16::from(t.month()),
        "year" => |t| t.year(),
        _ => return Err(QueryError::Unsupported(format!("function {name}()"))),
    };
    let of = |seconds: f64| {
        jiff::Timestamp::from_second(seconds as i64).map_or(f64::NAN, |timestamp| {
            f64::from(part(jiff::tz::Offset::UTC.to_datetime(timestamp)))
        })
    };
    if args.count() == 0 {
        let value = of(args.at_ms as f64 / 1000.0);
        return Ok(Value::Vector(vec![Sample { labels: Labels::default(), value }]));
    }
    args.map(0, of)
}
