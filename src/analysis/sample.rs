//! What a provider answered: values, nothing, or an error. These three are never mixed up.
//!
//! NaN stays inside [`Sample::Value`] and [`Sample::Series`], because a condition may ask for it by
//! its place (`isNaN(result[0])`); [`Sample::absence`] tells data from its absence.

use std::fmt::{self, Write as _};

use jiff::SignedDuration;

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
    /// The query worked and matched nothing.
    Empty,
}

/// Why a sample carries no evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absence {
    /// No series matched.
    Empty,
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
            Self::Empty => None,
        }
    }
}

impl fmt::Display for Absence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the query returned an empty result",
            Self::NaN => "the query returned NaN, as 0/0 does",
        })
    }
}

/// As Argo writes values: `10`, `[10,11]`, `NaN`, `+Inf`; a long series is cut short with its
/// length.
impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(value) => f.write_str(&number(*value)),
            Self::Empty => f.write_str("[]"),
            Self::Series(values) => {
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
