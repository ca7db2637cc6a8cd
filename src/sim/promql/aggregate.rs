//! Aggregation operators: `sum by (..)`, `topk`, `quantile` and the others.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use promql_parser::parser::token::{
    T_AVG, T_BOTTOMK, T_COUNT, T_COUNT_VALUES, T_GROUP, T_MAX, T_MIN, T_QUANTILE, T_STDDEV,
    T_STDVAR, T_SUM, T_TOPK,
};
use promql_parser::parser::{AggregateExpr, LabelModifier};

use super::eval::{QueryError, Sample, Value};
use super::labels::Labels;

/// Aggregates `vector` as `aggregation` says; `param` is its evaluated parameter.
pub(super) fn aggregate(
    aggregation: &AggregateExpr,
    vector: Vec<Sample>,
    param: Option<Value>,
) -> Result<Vec<Sample>, QueryError> {
    let op = aggregation.op.id();
    if op == T_COUNT_VALUES {
        let Some(Value::String(label)) = param else {
            return Err(QueryError::Parse("count_values needs a label name as a string".into()));
        };
        return Ok(count_values(aggregation, vector, &label));
    }
    let number = match param {
        Some(Value::Scalar(number)) => number,
        _ => f64::NAN,
    };
    let mut groups = BTreeMap::<Labels, Vec<Sample>>::new();
    for sample in vector {
        groups.entry(group_of(aggregation, &sample.labels)).or_default().push(sample);
    }
    let mut result = Vec::new();
    for (labels, members) in groups {
        if op == T_TOPK || op == T_BOTTOMK {
            result.extend(extremes(members, number, op == T_TOPK)?);
            continue;
        }
        let values: Vec<f64> = members.iter().map(|s| s.value).collect();
        let value = match op {
            T_SUM => values.iter().sum(),
            T_AVG => average(&values),
            T_COUNT => values.len() as f64,
            T_MIN => values.iter().copied().fold(f64::NAN, f64::min),
            T_MAX => values.iter().copied().fold(f64::NAN, f64::max),
            T_GROUP => 1.0,
            T_STDDEV => variance(&values).sqrt(),
            T_STDVAR => variance(&values),
            T_QUANTILE => quantile(number, values),
            _ => return Err(QueryError::Unsupported(format!("aggregation {}", aggregation.op))),
        };
        result.push(Sample { labels, value });
    }
    Ok(result)
}

fn group_of(aggregation: &AggregateExpr, labels: &Labels) -> Labels {
    match &aggregation.modifier {
        Some(LabelModifier::Include(by)) => labels.only(&by.labels),
        Some(LabelModifier::Exclude(without)) => labels.except(&without.labels),
        None => Labels::default(),
    }
}

fn count_values(aggregation: &AggregateExpr, vector: Vec<Sample>, label: &str) -> Vec<Sample> {
    let mut counts = BTreeMap::<Labels, f64>::new();
    for sample in vector {
        let mut labels = group_of(aggregation, &sample.labels);
        labels.set(label, &super::api::number(sample.value));
        *counts.entry(labels).or_default() += 1.0;
    }
    counts.into_iter().map(|(labels, value)| Sample { labels, value }).collect()
}

/// The `k` largest (or smallest) elements with their own labels, NaN last.
fn extremes(mut members: Vec<Sample>, k: f64, largest: bool) -> Result<Vec<Sample>, QueryError> {
    if k.is_nan() || k >= i64::MAX as f64 {
        return Err(QueryError::Execution(format!("Scalar value {k} overflows int64")));
    }
    members.sort_by(|a, b| order(a.value, b.value, largest));
    members.truncate(if k < 1.0 { 0 } else { k as usize });
    Ok(members)
}

/// Ascending or descending order of values, NaN last in both.
pub(super) fn order(a: f64, b: f64, descending: bool) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        (false, false) if descending => b.total_cmp(&a),
        (false, false) => a.total_cmp(&b),
    }
}

fn average(values: &[f64]) -> f64 {
    let mut mean = 0.0_f64;
    for (i, value) in values.iter().enumerate() {
        let count = (i + 1) as f64;
        if mean.is_infinite() && *value == mean {
            continue;
        }
        mean += value / count - mean / count;
    }
    mean
}

fn variance(values: &[f64]) -> f64 {
    let (mut mean, mut squares) = (0.0, 0.0);
    for (i, value) in values.iter().enumerate() {
        let delta = value - mean;
        mean += delta / (i + 1) as f64;
        squares += delta * (value - mean);
    }
    squares / values.len() as f64
}

/// The `q`-quantile with linear interpolation between ranks; ±Inf outside of [0, 1].
pub(super) fn quantile(q: f64, mut values: Vec<f64>) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    // NaN counts as the smallest value here, as in Prometheus.
    values.sort_by(|a, b| a.is_nan().cmp(&b.is_nan()).reverse().then(a.total_cmp(b)));
    let rank = q * (values.len() - 1) as f64;
    let lower = rank.floor();
    let upper = (lower as usize + 1).min(values.len() - 1);
    let weight = rank - lower;
    let at = |i: usize| values.get(i).copied().unwrap_or(f64::NAN);
    at(lower as usize) * (1.0 - weight) + at(upper) * weight
}
