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
