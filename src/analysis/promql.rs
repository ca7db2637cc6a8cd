//! What a PromQL query is before it is asked: whether it parses, the shape of its answer, and
//! whether the answer is one series.

use promql_parser::parser::{self, Expr, LabelModifier, value::ValueType};

/// The shape of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One number: `result` is a number.
    Scalar,
    /// A list of one number: `result[0]`.
    OneSeries,
    /// A list with a number per series, as many as there are.
    ManySeries,
}

/// Why a query can never be judged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PromqlError {
    /// It does not parse, or a function gets the wrong type.
    #[error("not PromQL: {0}")]
    Parse(String),
    /// A range vector at the top.
    #[error("a range vector is not one number per series")]
    Range,
    /// Text.
    #[error("a string is not a number")]
    Text,
}

/// The shape of the answer to `query`.
///
/// # Errors
/// When the query does not parse or its answer is not made of single numbers.
pub fn shape(query: &str) -> Result<Shape, PromqlError> {
    let expr = parser::parse(query).map_err(PromqlError::Parse)?;
    match expr.value_type() {
        ValueType::Scalar => Ok(Shape::Scalar),
        ValueType::Vector if one_series(&expr) => Ok(Shape::OneSeries),
        ValueType::Vector => Ok(Shape::ManySeries),
        ValueType::Matrix => Err(PromqlError::Range),
        ValueType::String => Err(PromqlError::Text),
    }
}

/// Whether the answer has at most one series whatever the data is.
fn one_series(expr: &Expr) -> bool {
    match expr {
        Expr::Aggregate(aggregate) => {
            let name = aggregate.op.to_string();
            let picks = ["topk", "bottomk", "count_values", "limitk", "limit_ratio"];
            let grouped = match &aggregate.modifier {
                None => false,
                Some(LabelModifier::Include(labels)) => !labels.labels.is_empty(),
                Some(LabelModifier::Exclude(_)) => true,
            };
            !grouped && !picks.contains(&name.as_str())
        }
        Expr::Paren(paren) => one_series(&paren.expr),
        Expr::Unary(unary) => one_series(&unary.expr),
        Expr::Binary(binary) => one_series(&binary.lhs) && one_series(&binary.rhs),
        Expr::NumberLiteral(_) => true,
        Expr::Call(call) => match call.func.name {
            "vector" | "scalar" | "time" | "absent" => true,
            "histogram_quantile" => call.args.args.iter().all(|arg| buckets_of_one(arg)),
            _ => !call.args.args.is_empty() && call.args.args.iter().all(|arg| one_series(arg)),
        },
        _ => false,
    }
}

/// Whether an argument of `histogram_quantile` has the buckets of at most one histogram.
fn buckets_of_one(expr: &Expr) -> bool {
    match expr {
        Expr::Aggregate(aggregate) => match &aggregate.modifier {
            Some(LabelModifier::Include(labels)) => labels.labels.iter().all(|label| label == "le"),
            Some(LabelModifier::Exclude(_)) => false,
            None => true,
        },
        Expr::Paren(paren) => buckets_of_one(&paren.expr),
        _ => one_series(expr),
    }
}

/// The number of events behind a quotient such as `sum(rate(bad[5m])) / sum(rate(all[5m]))`: its
/// divisor with `increase` in place of `rate`. `None` when there is no such divisor.
#[must_use]
pub fn events(query: &str) -> Option<String> {
    let expr = parser::parse(query).ok()?;
    let mut divisor = divisor(&expr)?.clone();
    counts(&mut divisor).then(|| format!("sum({divisor})"))
}

/// The right side of the first division, from the outside in.
fn divisor(expr: &Expr) -> Option<&Expr> {
    match expr {
        Expr::Paren(paren) => divisor(&paren.expr),
        Expr::Unary(unary) => divisor(&unary.expr),
        Expr::Binary(binary) if binary.op.to_string() == "/" => Some(&binary.rhs),
        Expr::Binary(binary) => divisor(&binary.lhs).or_else(|| divisor(&binary.rhs)),
        Expr::Aggregate(aggregate) => divisor(&aggregate.expr),
        _ => None,
    }
}

/// Makes rates counts. True when there was one.
fn counts(expr: &mut Expr) -> bool {
    match expr {
        Expr::Paren(paren) => counts(&mut paren.expr),
        Expr::Aggregate(aggregate) => counts(&mut aggregate.expr),
        Expr::Binary(binary) => {
            let left = counts(&mut binary.lhs);
            counts(&mut binary.rhs) || left
        }
        Expr::Call(call) => match call.func.name {
            "rate" | "irate" => {
                call.func.name = "increase";
                true
            }
            "increase" => true,
            _ => {
                let parts = call.args.args.iter_mut();
                parts.map(|arg| counts(arg)).filter(|found| *found).count() > 0
            }
        },
        _ => false,
    }
}
