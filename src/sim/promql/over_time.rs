//! Functions over a range: `rate` and its kin with Prometheus' extrapolation, and `*_over_time`.

use promql_parser::parser::Call;

use super::aggregate::quantile;
use super::eval::{Dialect, Evaluator, QueryError, Ranges, Sample, Value};
use super::tsdb::Point;

/// A function whose range argument becomes one value per series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OverTime {
    Rate,
    Increase,
    Delta,
    Irate,
    Idelta,
    Changes,
    Resets,
    Deriv,
    PredictLinear,
    Avg,
    Min,
    Max,
    Sum,
    Count,
    Last,
    Present,
    Stddev,
    Stdvar,
    Quantile,
}

/// The range function of this name, if it is one.
pub(super) fn find(name: &str) -> Option<OverTime> {
    Some(match name {
        "rate" => OverTime::Rate,
        "increase" => OverTime::Increase,
        "delta" => OverTime::Delta,
        "irate" => OverTime::Irate,
        "idelta" => OverTime::Idelta,
        "changes" => OverTime::Changes,
        "resets" => OverTime::Resets,
        "deriv" => OverTime::Deriv,
        "predict_linear" => OverTime::PredictLinear,
        "avg_over_time" => OverTime::Avg,
        "min_over_time" => OverTime::Min,
        "max_over_time" => OverTime::Max,
        "sum_over_time" => OverTime::Sum,
        "count_over_time" => OverTime::Count,
        "last_over_time" => OverTime::Last,
        "present_over_time" => OverTime::Present,
        "stddev_over_time" => OverTime::Stddev,
        "stdvar_over_time" => OverTime::Stdvar,
        "quantile_over_time" => OverTime::Quantile,
        _ => return None,
    })
}

/// Evaluates a call of a range function.
pub(super) fn call(
    evaluator: &Evaluator<'_>,
    call: &Call,
    function: OverTime,
    at_ms: i64,
) -> Result<Value, QueryError> {
    let arg = |i: usize| {
        call.args.args.get(i).ok_or_else(|| {
            QueryError::Parse(format!("{}() needs argument {}", call.func.name, i + 1))
        })
    };
    let (ranges, param) = match function {
        OverTime::Quantile => {
            (evaluator.ranges(arg(1)?, at_ms)?, evaluator.scalar(arg(0)?, at_ms)?)
        }
        OverTime::PredictLinear => {
            (evaluator.ranges(arg(0)?, at_ms)?, evaluator.scalar(arg(1)?, at_ms)?)
        }
        _ => (evaluator.ranges(arg(0)?, at_ms)?, 0.0),
    };
    let dialect = evaluator.engine.dialect;
    let mut samples = Vec::new();
    for series in &ranges.series {
        if let Some(value) = apply(function, &series.points, &ranges, param, at_ms, dialect) {
            let labels = match function {
                OverTime::Last => series.labels.clone(),
                _ => series.labels.without_name(),
            };
            samples.push(Sample { labels, value });
        }
    }
    Ok(Value::Vector(samples))
}

fn apply(
    function: OverTime,
    points: &[Point],
    ranges: &Ranges,
    param: f64,
    at_ms: i64,
    dialect: Dialect,
) -> Option<f64> {
    let count = points.len() as f64;
    let values = || points.iter().map(|p| p.value);
    Some(match function {
        OverTime::Rate => extrapolated(points, ranges, Counter::Yes, dialect)? / seconds(ranges),
        OverTime::Increase => extrapolated(points, ranges, Counter::Yes, dialect)?,
        OverTime::Delta => extrapolated(points, ranges, Counter::No, dialect)?,
        OverTime::Irate => instant_change(points, Counter::Yes)?,
        OverTime::Idelta => instant_change(points, Counter::No)?,
        OverTime::Changes => pairs(points)
            .filter(|(a, b)| b.value != a.value && !(a.value.is_nan() && b.value.is_nan()))
            .count() as f64,
        OverTime::Resets => pairs(points).filter(|(a, b)| b.value < a.value).count() as f64,
        OverTime::Deriv => {
            let first = points.first().filter(|_| points.len() > 1)?;
            regression(points, first.at_ms).0
        }
        OverTime::PredictLinear => {
            points.get(1)?;
            let (slope, intercept) = regression(points, at_ms);
            slope * param + intercept
        }
        OverTime::Avg => mean(points),
        OverTime::Min => values().fold(f64::NAN, f64::min),
        OverTime::Max => values().fold(f64::NAN, f64::max),
        OverTime::Sum => values().sum(),
        OverTime::Count => count,
        OverTime::Last => points.last()?.value,
        OverTime::Present => 1.0,
        OverTime::Stddev => variance(points).sqrt(),
        OverTime::Stdvar => variance(points),
        OverTime::Quantile => quantile(param, values().collect()),
    })
}

#[derive(Clone, Copy, PartialEq)]
enum Counter {
    Yes,
    No,
}

fn seconds(ranges: &Ranges) -> f64 {
    (ranges.end_ms - ranges.start_ms) as f64 / 1000.0
}

fn pairs(points: &[Point]) -> impl Iterator<Item = (&Point, &Point)> {
    points.iter().zip(points.iter().skip(1))
}

/// The change over the range, extrapolated to its ends as Prometheus does: fully where the first or
/// last sample is close to the end (within 1.1 sample intervals), by half an interval otherwise,
/// and for counters never to before they were zero.
fn extrapolated(
    points: &[Point],
    ranges: &Ranges,
    counter: Counter,
    dialect: Dialect,
) -> Option<f64> {
    let (first, last) = (points.first()?, points.last()?);
    points.get(1)?;
    let mut change = last.value - first.value;
    if counter == Counter::Yes {
        change +=
            pairs(points).filter(|(a, b)| b.value < a.value).map(|(a, _)| a.value).sum::<f64>();
    }
    let mut to_start = (first.at_ms - ranges.start_ms) as f64 / 1000.0;
    let mut to_end = (ranges.end_ms - last.at_ms) as f64 / 1000.0;
    let sampled = (last.at_ms - first.at_ms) as f64 / 1000.0;
    let interval = sampled / (points.len() - 1) as f64;
    let threshold = interval * 1.1;
    let to_zero = if counter == Counter::Yes && change > 0.0 && first.value >= 0.0 {
        sampled * (first.value / change)
    } else {
        f64::INFINITY
    };
    match dialect {
        Dialect::V2 => {
            to_start = to_start.min(to_zero);
            if to_start >= threshold {
                to_start = interval / 2.0;
            }
        }
        Dialect::V3 => {
            if to_start >= threshold {
                to_start = interval / 2.0;
            }
            to_start = to_start.min(to_zero);
        }
    }
    if to_end >= threshold {
        to_end = interval / 2.0;
    }
    Some(change * ((sampled + to_start + to_end) / sampled))
}

/// `irate` (per second, resets understood) and `idelta`, from the last two samples.
fn instant_change(points: &[Point], counter: Counter) -> Option<f64> {
    let (previous, last) = pairs(points).last()?;
    if counter == Counter::No {
        return Some(last.value - previous.value);
    }
    let change = if last.value < previous.value { last.value } else { last.value - previous.value };
    Some(change / ((last.at_ms - previous.at_ms) as f64 / 1000.0))
}

/// The incremental mean, which does not overflow where the sum would.
fn mean(points: &[Point]) -> f64 {
    let mut mean = 0.0_f64;
    for (i, point) in points.iter().enumerate() {
        let count = (i + 1) as f64;
        if mean.is_infinite() && point.value == mean {
            continue;
        }
        mean += point.value / count - mean / count;
    }
    mean
}

/// The population variance (Welford).
fn variance(points: &[Point]) -> f64 {
    let (mut mean, mut squares) = (0.0, 0.0);
    for (i, point) in points.iter().enumerate() {
        let delta = point.value - mean;
        mean += delta / (i + 1) as f64;
        squares += delta * (point.value - mean);
    }
    squares / points.len() as f64
}

/// Slope per second and the value at `origin_ms` of the least-squares line.
fn regression(points: &[Point], origin_ms: i64) -> (f64, f64) {
    let count = points.len() as f64;
    let start = points.first().map_or(0.0, |p| p.value);
    if points.iter().all(|p| p.value == start) {
        return if start.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, start) };
    }
    let (mut sum_x, mut sum_y, mut sum_xy, mut sum_xx) = (0.0, 0.0, 0.0, 0.0);
    for point in points {
        let x = (point.at_ms - origin_ms) as f64 / 1000.0;
        sum_x += x;
        sum_y += point.value;
        sum_xy += x * point.value;
        sum_xx += x * x;
    }
    let covariance = sum_xy - sum_x * sum_y / count;
    let variance = sum_xx - sum_x * sum_x / count;
    let slope = covariance / variance;
    (slope, sum_y / count - slope * sum_x / count)
}
