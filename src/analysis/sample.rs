//! What a provider answered: values, nothing, or an error. These three are never mixed up.
//!
//! NaN stays inside [`Sample::Value`] and [`Sample::Series`], because a condition may ask for it by
//! its place (`isNaN(result[0])`); [`Sample::absence`] tells data from its absence.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::api::AnalysisPhase;

/// More series than this are refused: a condition over them would be slow and unreadable.
pub const MAX_SERIES: usize = 1_000;

/// How many values of a series the status shows.
pub(super) const SHOWN_SERIES: usize = 20;

/// The answer to one query.
#[derive(Debug, Clone, PartialEq)]
pub enum Sample {
    /// A scalar.
    Value(f64),
    /// One value per series, in the order of the answer. Not empty.
    Series(Vec<f64>),
    /// Series with their labels and all their points: the answer to a labelled range query, which no
    /// condition sees. Not empty.
    Lines(Vec<Line>),
    /// JSON, as of a web server.
    Json(Value),
    /// A body that is no JSON.
    Text(String),
    /// The query worked and matched nothing.
    Empty,
    /// The same, where conditions see what came in place of values, as in Argo: `nil` of Datadog, results
    /// without values of CloudWatch.
    Hollow(Value),
    /// The series exist and have ended.
    Stale {
        /// The time of the newest point.
        newest: Timestamp,
        /// Their points. Not empty.
        values: Vec<f64>,
    },
}

/// One series over a range.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its points, in the order of time.
    pub points: Vec<(Timestamp, f64)>,
}

/// Why a sample carries no evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absence {
    /// No series matched.
    Empty,
    /// There is nothing, which is `nil` for a condition.
    Nil,
    /// The newest point is too old.
    Stale(Timestamp),
    /// At least one value is not a number, which is what `0 / 0` gives.
    NaN,
}

impl Sample {
    /// A vector's values, or [`Sample::Empty`] when there are none.
    #[must_use]
    pub fn from_series(values: Vec<f64>) -> Self {
        if values.is_empty() { Self::Empty } else { Self::Series(values) }
    }

    /// Why this is no data, or `None` when it is data.
    #[must_use]
    pub fn absence(&self) -> Option<Absence> {
        match self {
            Self::Empty => Some(Absence::Empty),
            Self::Value(value) => value.is_nan().then_some(Absence::NaN),
            Self::Series(values) if values.is_empty() => Some(Absence::Empty),
            Self::Series(values) => values.iter().any(|v| v.is_nan()).then_some(Absence::NaN),
            Self::Json(Value::Null) | Self::Hollow(Value::Null) => Some(Absence::Nil),
            Self::Hollow(_) => Some(Absence::Empty),
            Self::Json(Value::Array(items)) => items.is_empty().then_some(Absence::Empty),
            Self::Json(_) | Self::Text(_) | Self::Lines(_) => None,
            Self::Stale { newest, values: _ } => Some(Absence::Stale(*newest)),
        }
    }

    /// The one number in it, if it is one number.
    #[must_use]
    pub fn single(&self) -> Option<f64> {
        match self {
            Self::Value(value) => Some(*value),
            Self::Series(values) => match values.as_slice() {
                [value] => Some(*value),
                _ => None,
            },
            Self::Json(value) => value.as_f64(),
            Self::Text(_) | Self::Lines(_) => None,
            Self::Empty | Self::Hollow(_) | Self::Stale { .. } => None,
        }
    }
}

impl From<Value> for Sample {
    fn from(value: Value) -> Self {
        Self::Json(value)
    }
}

impl fmt::Display for Absence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty | Self::Nil => f.write_str("the query returned an empty result"),
            Self::NaN => f.write_str("the query returned NaN, as 0/0 does"),
            Self::Stale(newest) => {
                write!(f, "the series have ended, the newest point is of {newest}")
            }
        }
    }
}

/// As Argo writes values: `10`, `[10,11]`, `NaN`, `+Inf`; a long series is cut short with its
/// length.
impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(value) => f.write_str(&number(*value)),
            Self::Empty | Self::Hollow(_) => f.write_str("[]"),
            Self::Text(text) => f.write_str(text),
            Self::Lines(lines) => write!(f, "{} series over a range", lines.len()),
            Self::Json(value) => json(value, f),
            Self::Series(values) | Self::Stale { values, newest: _ } => {
                f.write_char('[')?;
                for (i, value) in values.iter().take(SHOWN_SERIES).enumerate() {
                    let comma = if i == 0 { "" } else { "," };
                    write!(f, "{comma}{}", number(*value))?;
                }
                if values.len() > SHOWN_SERIES {
                    write!(f, ",... {} in all", values.len())?;
                }
                f.write_char(']')
            }
        }
    }
}

/// JSON as Go writes it: keys sorted, whole numbers without a fraction.
fn json(value: &Value, f: &mut dyn fmt::Write) -> fmt::Result {
    match value {
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() => f.write_str(&self::number(float)),
            _ => write!(f, "{number}"),
        },
        Value::Array(items) => {
            f.write_char('[')?;
            for (i, item) in items.iter().enumerate() {
                f.write_str(if i == 0 { "" } else { "," })?;
                json(item, f)?;
            }
            f.write_char(']')
        }
        Value::Object(fields) => {
            f.write_char('{')?;
            for (i, (name, field)) in fields.iter().enumerate() {
                f.write_str(if i == 0 { "" } else { "," })?;
                write!(f, "{}:", Value::from(name.as_str()))?;
                json(field, f)?;
            }
            f.write_char('}')
        }
        Value::Null | Value::Bool(_) | Value::String(_) => write!(f, "{value}"),
    }
}

/// A float as Go prints it: the shortest text that reads back as the same number.
#[must_use]
pub fn number(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else {
        format!("{value}")
    }
}

/// A provider's answer as it is recorded.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The query worked.
    Answer {
        /// The values.
        sample: Sample,
        /// Warnings of the provider, for the status.
        warnings: Vec<String>,
    },
    /// The query did not work.
    Error(QueryError),
    /// It takes longer, as a Job does: the query is asked again with these notes.
    Running {
        /// When to ask again; absent: as soon as something happens.
        resume_at: Option<Timestamp>,
        /// What the provider needs to find it again.
        notes: BTreeMap<String, String>,
    },
    /// The provider itself says how it ended, as a Job does; no condition is asked.
    Ended {
        /// `Successful`, `Failed`, `Error` or `Inconclusive`.
        phase: AnalysisPhase,
        /// Why.
        message: Option<String>,
        /// For the status.
        notes: BTreeMap<String, String>,
    },
}

impl From<Sample> for Outcome {
    fn from(sample: Sample) -> Self {
        Self::Answer { sample, warnings: Vec::new() }
    }
}

/// Why a query has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind}: {message}")]
pub struct QueryError {
    /// The class of the error.
    pub kind: ErrorKind,
    /// What happened, with the address and the remedy.
    pub message: String,
    /// How long the provider asks to be left alone.
    pub retry_after: Option<SignedDuration>,
}

/// The class of a provider's error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// No connection.
    Unreachable,
    /// No answer in time.
    Timeout,
    /// The provider asks to be left alone for a while.
    RateLimited,
    /// The provider refuses this query (4xx).
    Refused,
    /// The provider failed (5xx).
    Server,
    /// The answer is not what the provider's documentation says.
    Malformed,
    /// The provider's settings are wrong or missing; no query was sent.
    Misconfigured,
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreachable => "provider unreachable",
            Self::Timeout => "provider timed out",
            Self::RateLimited => "provider is limiting the rate",
            Self::Refused => "provider refused the query",
            Self::Server => "provider failed",
            Self::Malformed => "provider answered something unreadable",
            Self::Misconfigured => "provider is not configured",
        })
    }
}
