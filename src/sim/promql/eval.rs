//! The evaluator: one expression at one instant, or at every step of a range.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, UNIX_EPOCH};

use promql_parser::parser::{
    self, AtModifier, Call, Expr, MatrixSelector, Offset, SubqueryExpr, UnaryExpr, VectorSelector,
};

use super::labels::Labels;
use super::tsdb::{Point, Tsdb, is_stale};
use super::{aggregate, binary, functions, over_time};

/// Whose arithmetic to follow where the major versions of Prometheus differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dialect {
    /// Prometheus 2.x: a range includes the sample at its left end; `rate` extrapolates to zero
    /// before it looks at the gap.
    V2,
    /// Prometheus 3.x: a range excludes its left end; labels may have any name.
    #[default]
    V3,
}

/// How queries are evaluated.
#[derive(Debug, Clone, Copy)]
pub struct Engine {
    /// Whose rules.
    pub dialect: Dialect,
    /// How far back an instant selector looks for a sample.
    pub lookback_ms: i64,
    /// The step of a subquery that names none.
    pub default_step_ms: i64,
}

impl Default for Engine {
    /// Prometheus' own defaults: 5 minutes of lookback, 1 minute evaluation interval.
    fn default() -> Self {
        Self { dialect: Dialect::default(), lookback_ms: 300_000, default_step_ms: 60_000 }
    }
}

/// One element of an instant vector.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Whose value.
    pub labels: Labels,
    /// The value at the evaluated time.
    pub value: f64,
}

/// One series of a range vector or of a range query.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Whose samples.
    pub labels: Labels,
    /// The samples, oldest first.
    pub points: Vec<Point>,
}

/// What an expression evaluates to.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A number without labels.
    Scalar(f64),
    /// One value per series.
    Vector(Vec<Sample>),
    /// Several values per series.
    Matrix(Vec<Series>),
    /// A string literal.
    String(String),
}

/// Why a query has no answer.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum QueryError {
    /// The text is not PromQL.
    #[error("invalid parameter \"query\": {0}")]
    Parse(String),
    /// Valid PromQL that this evaluator does not know.
    #[error("{0} is not supported by the in-memory Prometheus; use a real one for this query")]
    Unsupported(String),
    /// The query cannot be evaluated on these series.
    #[error("{0}")]
    Execution(String),
}

/// The samples of a range selector, with the range's ends.
pub(super) struct Ranges {
    pub(super) series: Vec<Series>,
    pub(super) start_ms: i64,
    pub(super) end_ms: i64,
}

/// More steps than this in one range query is a mistake; Prometheus has the same limit.
const STEPS_MAX: i64 = 11_000;

impl Engine {
    /// Evaluates `query` at `at_ms` (Unix milliseconds).
    pub fn instant(&self, db: &Tsdb, query: &str, at_ms: i64) -> Result<Value, QueryError> {
        let expr = parser::parse(query).map_err(QueryError::Parse)?;
        Evaluator { engine: self, db, start_ms: at_ms, end_ms: at_ms }.eval(&expr, at_ms)
    }

    /// Evaluates `query` at `start_ms`, `start_ms + step_ms` and so on up to `end_ms`.
    pub fn range(
        &self,
        db: &Tsdb,
        query: &str,
        start_ms: i64,
        end_ms: i64,
        step_ms: i64,
    ) -> Result<Vec<Series>, QueryError> {
        let expr = parser::parse(query).map_err(QueryError::Parse)?;
        if step_ms <= 0 || end_ms < start_ms || (end_ms - start_ms) / step_ms > STEPS_MAX {
            return Err(QueryError::Parse(format!(
                "step of {step_ms} ms from {start_ms} to {end_ms}: the end must not be before the \
                 start, the step must be positive and give at most {STEPS_MAX} points per series"
            )));
        }
        let evaluator = Evaluator { engine: self, db, start_ms, end_ms };
        evaluator.steps(&expr, start_ms, end_ms, step_ms)
    }
}

/// The evaluation of one query.
pub(super) struct Evaluator<'a> {
    pub(super) engine: &'a Engine,
    db: &'a Tsdb,
    start_ms: i64,
    end_ms: i64,
}

impl Evaluator<'_> {
    /// Evaluates `expr` at the instant `at_ms`.
    pub(super) fn eval(&self, expr: &Expr, at_ms: i64) -> Result<Value, QueryError> {
        match expr {
            Expr::NumberLiteral(number) => Ok(Value::Scalar(number.val)),
            Expr::StringLiteral(text) => Ok(Value::String(text.val.clone())),
            Expr::Paren(inner) => self.eval(&inner.expr, at_ms),
            Expr::VectorSelector(selector) => {
                let found = self.newest(selector, at_ms)?;
                let sample =
                    |(labels, point): (Labels, Point)| Sample { labels, value: point.value };
                Ok(Value::Vector(found.into_iter().map(sample).collect()))
            }
            Expr::MatrixSelector(_) | Expr::Subquery(_) => {
                Ok(Value::Matrix(self.ranges(expr, at_ms)?.series))
            }
            Expr::Unary(UnaryExpr { expr }) => self.negate(expr, at_ms),
            Expr::Aggregate(aggregation) => {
                let (vector, param) = self.aggregation_operands(aggregation, at_ms)?;
                aggregate::aggregate(aggregation, vector, param).map(Value::Vector)
            }
            Expr::Binary(binary) => {
                let left = self.eval(&binary.lhs, at_ms)?;
                let right = self.eval(&binary.rhs, at_ms)?;
                binary::combine(binary, left, right)
            }
            Expr::Call(call) => self.call(call, at_ms),
            Expr::Extension(extension) => {
                Err(QueryError::Unsupported(format!("extension {:?}", extension.expr.name())))
            }
        }
    }

    fn call(&self, call: &Call, at_ms: i64) -> Result<Value, QueryError> {
        let value = match over_time::find(call.func.name) {
            Some(function) => over_time::call(self, call, function, at_ms)?,
            None => functions::call(self, call, at_ms)?,
        };
        if let Value::Vector(samples) = &value {
            unique(samples.iter().map(|s| &s.labels))?;
        }
        Ok(value)
    }

    fn negate(&self, expr: &Expr, at_ms: i64) -> Result<Value, QueryError> {
        match self.eval(expr, at_ms)? {
            Value::Scalar(value) => Ok(Value::Scalar(-value)),
            Value::Vector(samples) => {
                let negated: Vec<Sample> = samples
                    .into_iter()
                    .map(|s| Sample { labels: s.labels.without_name(), value: -s.value })
                    .collect();
                unique(negated.iter().map(|s| &s.labels))?;
                Ok(Value::Vector(negated))
            }
            Value::Matrix(_) | Value::String(_) => {
                Err(QueryError::Parse("unary minus needs a scalar or an instant vector".into()))
            }
        }
    }

    fn aggregation_operands(
        &self,
        aggregation: &parser::AggregateExpr,
        at_ms: i64,
    ) -> Result<(Vec<Sample>, Option<Value>), QueryError> {
        let vector = self.vector(&aggregation.expr, at_ms)?;
        let param = match &aggregation.param {
            Some(param) => Some(self.eval(param, at_ms)?),
            None => None,
        };
        Ok((vector, param))
    }

    /// An operand that must be an instant vector.
    pub(super) fn vector(&self, expr: &Expr, at_ms: i64) -> Result<Vec<Sample>, QueryError> {
        match self.eval(expr, at_ms)? {
            Value::Vector(samples) => Ok(samples),
            Value::Scalar(_) | Value::Matrix(_) | Value::String(_) => {
                Err(QueryError::Parse(format!("expected an instant vector, got {expr}")))
            }
        }
    }

    /// An operand that must be a number.
    pub(super) fn scalar(&self, expr: &Expr, at_ms: i64) -> Result<f64, QueryError> {
        match self.eval(expr, at_ms)? {
            Value::Scalar(value) => Ok(value),
            Value::Vector(_) | Value::Matrix(_) | Value::String(_) => {
                Err(QueryError::Parse(format!("expected a scalar, got {expr}")))
            }
        }
    }

    /// The newest sample of each selected series that is neither too old nor stale.
    pub(super) fn newest(
        &self,
        selector: &VectorSelector,
        at_ms: i64,
    ) -> Result<Vec<(Labels, Point)>, QueryError> {
        let end = self.reference(selector.at.as_ref(), selector.offset.as_ref(), at_ms);
        let start = end - self.engine.lookback_ms;
        let matchers = plain_matchers(selector)?;
        let mut found = Vec::new();
        for (labels, points) in self.db.select(selector.name.as_deref(), matchers) {
            let after = points.partition_point(|p| p.at_ms <= end);
            let newest = after.checked_sub(1).and_then(|i| points.get(i));
            if let Some(point) = newest
                && self.after_left_end(point.at_ms, start)
                && !is_stale(point.value)
            {
                found.push((labels.clone(), *point));
            }
        }
        Ok(found)
    }

    /// The samples of a range selector or subquery that is evaluated at `at_ms`.
    pub(super) fn ranges(&self, expr: &Expr, at_ms: i64) -> Result<Ranges, QueryError> {
        match expr {
            Expr::Paren(inner) => self.ranges(&inner.expr, at_ms),
            Expr::MatrixSelector(selector) => self.matrix(selector, at_ms),
            Expr::Subquery(subquery) => self.subquery(subquery, at_ms),
            _ => Err(QueryError::Parse(format!("expected a range vector, got {expr}"))),
        }
    }

    fn matrix(&self, selector: &MatrixSelector, at_ms: i64) -> Result<Ranges, QueryError> {
        let inner = &selector.vs;
        let end_ms = self.reference(inner.at.as_ref(), inner.offset.as_ref(), at_ms);
        let start_ms = end_ms - millis(selector.range);
        let matchers = plain_matchers(inner)?;
        let mut series = Vec::new();
        for (labels, points) in self.db.select(inner.name.as_deref(), matchers) {
            let first = points.partition_point(|p| !self.after_left_end(p.at_ms, start_ms));
            let after = points.partition_point(|p| p.at_ms <= end_ms);
            let points: Vec<Point> = points
                .range(first.min(after)..after)
                .filter(|p| !is_stale(p.value))
                .copied()
                .collect();
            if !points.is_empty() {
                series.push(Series { labels: labels.clone(), points });
            }
        }
        Ok(Ranges { series, start_ms, end_ms })
    }

    fn subquery(&self, subquery: &SubqueryExpr, at_ms: i64) -> Result<Ranges, QueryError> {
        let end_ms = self.reference(subquery.at.as_ref(), subquery.offset.as_ref(), at_ms);
        let start_ms = end_ms - millis(subquery.range);
        let step_ms = subquery.step.map_or(self.engine.default_step_ms, millis).max(1);
        // The steps of a subquery lie on multiples of the step since the epoch, whatever the
        // query's time.
        let mut first = start_ms.div_euclid(step_ms) * step_ms;
        if !self.after_left_end(first, start_ms) {
            first += step_ms;
        }
        let series = self.steps(&subquery.expr, first, end_ms, step_ms)?;
        Ok(Ranges { series, start_ms, end_ms })
    }

    fn steps(
        &self,
        expr: &Expr,
        first_ms: i64,
        last_ms: i64,
        step_ms: i64,
    ) -> Result<Vec<Series>, QueryError> {
        if last_ms.saturating_sub(first_ms) / step_ms > STEPS_MAX {
            return Err(QueryError::Execution(format!(
                "{expr} would be evaluated at more than {STEPS_MAX} steps; take a longer step"
            )));
        }
        let mut series = BTreeMap::<Labels, Vec<Point>>::new();
        let mut at_ms = first_ms;
        while at_ms <= last_ms {
            match self.eval(expr, at_ms)? {
                Value::Scalar(value) => {
                    series.entry(Labels::default()).or_default().push(Point { at_ms, value });
                }
                Value::Vector(samples) => {
                    unique(samples.iter().map(|s| &s.labels))?;
                    for sample in samples {
                        let point = Point { at_ms, value: sample.value };
                        series.entry(sample.labels).or_default().push(point);
                    }
                }
                Value::Matrix(_) | Value::String(_) => {
                    return Err(QueryError::Parse(format!(
                        "invalid expression type of {expr} for a range query, \
                         must be Scalar or instant Vector"
                    )));
                }
            }
            at_ms += step_ms;
        }
        Ok(series.into_iter().map(|(labels, points)| Series { labels, points }).collect())
    }

    fn after_left_end(&self, at_ms: i64, start_ms: i64) -> bool {
        match self.engine.dialect {
            Dialect::V2 => at_ms >= start_ms,
            Dialect::V3 => at_ms > start_ms,
        }
    }

    fn reference(&self, at: Option<&AtModifier>, offset: Option<&Offset>, at_ms: i64) -> i64 {
        let base = match at {
            None => at_ms,
            Some(AtModifier::Start) => self.start_ms,
            Some(AtModifier::End) => self.end_ms,
            Some(AtModifier::At(time)) => match time.duration_since(UNIX_EPOCH) {
                Ok(after) => millis(after),
                Err(before) => -millis(before.duration()),
            },
        };
        match offset {
            None => base,
            Some(Offset::Pos(back)) => base - millis(*back),
            Some(Offset::Neg(ahead)) => base + millis(*ahead),
        }
    }
}

/// A duration in milliseconds, saturated.
pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4)
}

fn plain_matchers(
    selector: &VectorSelector,
) -> Result<&[promql_parser::label::Matcher], QueryError> {
    if selector.matchers.or_matchers.is_empty() {
        Ok(&selector.matchers.matchers)
    } else {
        Err(QueryError::Unsupported(format!("`or` between the matchers of {selector}")))
    }
}

/// Fails when two elements carry the same labels.
pub(super) fn unique<'a>(labels: impl Iterator<Item = &'a Labels>) -> Result<(), QueryError> {
    let mut seen = BTreeSet::new();
    for labels in labels {
        if !seen.insert(labels) {
            return Err(QueryError::Execution(
                "vector cannot contain metrics with the same labelset".into(),
            ));
        }
    }
    Ok(())
}
