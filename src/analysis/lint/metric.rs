//! What is wrong with one metric whose arguments are filled in.

use jiff::SignedDuration;

use super::{Finding, error, query, warning};
use crate::analysis::condition::{Condition, Type};
use crate::analysis::judge::judge;
use crate::analysis::metric::CheckedMetric;
use crate::analysis::promql::{self, PromqlError, Shape};
use crate::analysis::run;
use crate::analysis::sample::{Absence, Outcome, Sample};
use crate::analysis::source::Ask;
use crate::api::analysis::{NoData, OnError};
use crate::api::{AnalysisPhase, Metric};

/// A metric that ends on no data sooner than this is not ready for a quiet service.
const PATIENCE: SignedDuration = SignedDuration::from_secs(60);

/// Looks at everything. `assumed`: interval or window are not known, so that they are not compared.
pub(super) fn lint(
    checked: &CheckedMetric,
    raw: &Metric,
    path: &str,
    assumed: bool,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    if checked.compare.is_some() {
        // The judge asks no condition and takes raw series.
        return findings;
    }
    if matches!(checked.source.ask, Ask::Prometheus { .. }) {
        let ranged = matches!(checked.source.ask, Ask::Prometheus { range: Some(_) });
        prometheus(checked, path, ranged, assumed, &mut findings);
    }
    for (field, condition) in conditions(checked) {
        let known = findings.iter().any(|f| f.path.ends_with(field));
        if !known && !condition.looks_at_result() {
            let message = "does not look at result, so that it is the same for every answer";
            let remedy = "compare result with a bound";
            let path = format!("{path}.{field}");
            findings.push(warning(&path, condition.text(), message, remedy));
        }
    }
    limits(checked, raw, path, &mut findings);
    patience(checked, path, &mut findings);
    findings
}

fn conditions(metric: &CheckedMetric) -> Vec<(&'static str, &Condition)> {
    let both = [("successCondition", &metric.success), ("failureCondition", &metric.failure)];
    both.into_iter().filter_map(|(field, c)| Some((field, c.as_ref()?))).collect()
}

fn prometheus(
    metric: &CheckedMetric,
    path: &str,
    ranged: bool,
    assumed: bool,
    findings: &mut Vec<Finding>,
) {
    let at = format!("{path}.provider.prometheus.query");
    match promql::shape(&metric.query) {
        // A list of all points, whose length nobody knows.
        Ok(_) if ranged => typed(metric, Shape::ManySeries, path, findings),
        Ok(shape) => {
            typed(metric, shape, path, findings);
            if findings.is_empty() {
                never(metric, shape, path, findings);
                silence(metric, shape, &at, findings);
            }
        }
        Err(PromqlError::Parse(text)) if metric.source.named.is_some() => {
            let message = format!("not PromQL: {text}");
            let remedy = "correct the query, unless the server speaks a dialect of its own";
            findings.push(warning(&at, &metric.query, &message, remedy));
        }
        Err(wrong) => {
            let remedy = match wrong {
                PromqlError::Parse(_) => "correct the query",
                PromqlError::Range => {
                    "wrap it, for example in sum(rate(...)) or max_over_time(...)"
                }
                PromqlError::Text => "write a query that gives numbers",
            };
            findings.push(error(&at, &metric.query, &wrong.to_string(), remedy));
        }
    }
    if !assumed {
        query::lint(metric, &metric.query, &at, findings);
    }
    if let Some((_, counts)) = &metric.evidence
        && let Err(wrong) = promql::shape(counts)
    {
        let path = format!("{path}.events");
        findings.push(error(
            &path,
            counts,
            &wrong.to_string(),
            "write a query that gives a number",
        ));
    }
}

/// The conditions, with the type that the query's answer has.
fn typed(metric: &CheckedMetric, shape: Shape, path: &str, findings: &mut Vec<Finding>) {
    let (kind, remedy) = match shape {
        Shape::Scalar => {
            (Type::Float, "the query gives one number: write result, as in result <= 0.01")
        }
        Shape::OneSeries | Shape::ManySeries => (
            Type::List(Box::new(Type::Float)),
            "the query gives a list: write result[0], as in result[0] <= 0.01",
        ),
    };
    for (field, condition) in conditions(metric) {
        let path = format!("{path}.{field}");
        if let Err(wrong) = condition.fits(&kind) {
            let message = format!("can never be evaluated: {wrong}");
            findings.push(error(&path, condition.text(), &message, remedy));
        } else if shape == Shape::ManySeries && condition.bound().is_some() {
            let message = "the query can give several series and only the first one is looked at";
            let remedy = "aggregate the query by sum(...), or write all(result, # <= bound)";
            findings.push(warning(&path, condition.text(), message, remedy));
        }
    }
}

/// Whether there are answers that pass and answers that fail.
fn never(metric: &CheckedMetric, shape: Shape, path: &str, findings: &mut Vec<Finding>) {
    for (field, condition) in conditions(metric).into_iter().filter(|(_, c)| c.looks_at_result()) {
        let results: Vec<_> =
            probes(metric, shape).iter().map(|sample| condition.holds(sample)).collect();
        let (trues, falses) = (results.contains(&Ok(true)), results.contains(&Ok(false)));
        if trues != falses {
            let message = format!("is {trues} for every result");
            let path = format!("{path}.{field}");
            let remedy = "compare result with a bound";
            findings.push(warning(&path, condition.text(), &message, remedy));
        }
    }
    if metric.success.is_none() || metric.failure.is_none() || !findings.is_empty() {
        return;
    }
    let phases: Vec<_> = probes(metric, shape)
        .into_iter()
        .map(|sample| judge(metric, &Outcome::from(sample)).phase)
        .collect();
    for (phase, what) in
        [(AnalysisPhase::Successful, "successful"), (AnalysisPhase::Failed, "failed")]
    {
        if !phases.contains(&phase) {
            let message = format!("no answer is {what}: the two conditions exclude it");
            let remedy = "write a failureCondition that is false where successCondition is true";
            let path = format!("{path}.failureCondition");
            let text = metric.failure.as_ref().map(Condition::text).unwrap_or_default();
            findings.push(warning(&path, text, &message, remedy));
        }
    }
}

/// A share that has no answer while nothing is bad, although none would pass.
fn silence(metric: &CheckedMetric, shape: Shape, at: &str, findings: &mut Vec<Finding>) {
    let phase = |sample: Sample| judge(metric, &Outcome::from(sample)).phase;
    let none = if shape == Shape::Scalar { Sample::Value(0.0) } else { Sample::Series(vec![0.0]) };
    let waits = metric.no_data == NoData::Wait && phase(Sample::Empty) == AnalysisPhase::Error;
    if waits && phase(none) == AnalysisPhase::Successful && query::is_silent(&metric.query) {
        let message = "a healthy service has no answer: its series of bad requests may not exist \
                       before the first one, and the release waits for data";
        let remedy = "write (sum(rate(bad)) or 0 * sum(rate(all))) / sum(rate(all))";
        findings.push(warning(at, &metric.query, message, remedy));
    }
}

/// Answers to try: round numbers, and those around every number that a condition names.
fn probes(metric: &CheckedMetric, shape: Shape) -> Vec<Sample> {
    let mut values = vec![-1.0, 0.0, 1e-6, 0.01, 0.5, 0.99, 1.0, 10.0, 1e3, 1e6, 1e12];
    for number in conditions(metric).into_iter().flat_map(|(_, condition)| condition.numbers()) {
        values.extend([number, number - 1e-6, number + 1e-6, -number]);
    }
    values
        .into_iter()
        .flat_map(|value| match shape {
            Shape::Scalar => vec![Sample::Value(value)],
            Shape::OneSeries => vec![Sample::Series(vec![value])],
            Shape::ManySeries => {
                vec![Sample::Series(vec![value]), Sample::Series(vec![value, 0.5, 1e6])]
            }
        })
        .collect()
}

/// Limits that say nothing or that nothing reaches.
fn limits(metric: &CheckedMetric, raw: &Metric, path: &str, findings: &mut Vec<Finding>) {
    let ended_by_itself = matches!(metric.source.ask, Ask::Prometheus { .. });
    if metric.success.is_none() && metric.failure.is_none() && ended_by_itself {
        let message = "no condition: every answer is successful, so this metric never fails";
        let remedy = "write a successCondition or a failureCondition";
        findings.push(warning(path, &metric.name, message, remedy));
    }
    if let (Some(count), Some(limit), None) =
        (metric.count, metric.failure_limit, metric.success_limit)
        && limit >= count
    {
        let path = format!("{path}.failureLimit");
        let message = format!("never fails: it needs more than {limit} failures of {count}");
        let remedy = "write a failureLimit below count";
        findings.push(warning(&path, &limit.to_string(), &message, remedy));
    }
    if let (Some(count), Some(limit)) = (metric.count, metric.success_limit)
        && limit > count
    {
        let path = format!("{path}.consecutiveSuccessLimit");
        let message = format!("never reached: {limit} successes in a row of {count} measurements");
        findings.push(warning(&path, &limit.to_string(), &message, "write at most count"));
    }
    let undecided = (metric.success.is_some() && metric.failure.is_some())
        || [metric.no_data, metric.on_nan, metric.on_stale].contains(&NoData::Inconclusive)
        || !ended_by_itself;
    if metric.inconclusive_limit > 0 && !undecided {
        let path = format!("{path}.inconclusiveLimit");
        let message = "no effect: with one condition no measurement is inconclusive";
        let remedy = "leave it out, or write both conditions";
        findings.push(warning(&path, &metric.inconclusive_limit.to_string(), message, remedy));
    }
    if metric.critical && metric.advisory {
        let message = "an advisory metric does not decide, so that it cannot be critical";
        let path = format!("{path}.advisory");
        findings.push(warning(&path, "true", message, "leave out one of the two"));
    }
    if raw.on_stale.is_some() && !metric.source.ask.is_range() {
        let path = format!("{path}.onStale");
        let message = "no effect: only the series of a rangeQuery can have ended";
        findings.push(warning(&path, "", message, "leave it out, or write a rangeQuery"));
    }
    if metric.evidence.is_none() && raw.events.is_some() {
        let path = format!("{path}.events");
        let message = "no effect: it is asked when minEvents is given";
        findings.push(warning(&path, "", message, "write minEvents, for example 100"));
    }
}

/// A metric that ends within a minute when there is no data.
fn patience(metric: &CheckedMetric, path: &str, findings: &mut Vec<Finding>) {
    let nothing = match metric.source.ask {
        Ask::Prometheus { .. } => Absence::Empty,
        _ => Absence::Nil,
    };
    let thought_of = conditions(metric).iter().any(|(_, c)| c.handles(nothing));
    if thought_of || metric.advisory {
        return;
    }
    let (ends, field, what) = match (metric.no_data, metric.errors_allowed(metric.on_error)) {
        (NoData::Fail | NoData::Inconclusive, _) => {
            let limit = match metric.no_data {
                NoData::Fail => metric.failure_limit,
                _ => Some(metric.inconclusive_limit),
            };
            let Some(limit) = limit else { return };
            if metric.count.is_some_and(|count| count <= limit) {
                return;
            }
            let ticks = i32::try_from(limit).unwrap_or(i32::MAX);
            let every = metric.interval.unwrap_or_default();
            let ends = every.checked_mul(ticks).unwrap_or(SignedDuration::MAX);
            (ends, "noData", format!("{limit} measurements without data are allowed"))
        }
        (NoData::Wait | NoData::Judge, Some(limit)) => {
            let errors = i32::try_from(limit).unwrap_or(i32::MAX).min(100);
            let waits = (1..=errors).map(|n| run::retry(metric, n));
            let ends = waits.fold(SignedDuration::ZERO, SignedDuration::saturating_add);
            let field =
                if metric.on_error == OnError::Wait { "consecutiveErrorLimit" } else { "onError" };
            (ends, field, format!("{limit} errors in a row are allowed"))
        }
        (NoData::Pass, _) | (NoData::Wait | NoData::Judge, None) => return,
    };
    let ends = ends + metric.initial_delay.unwrap_or_default();
    if ends >= PATIENCE {
        return;
    }
    let message =
        format!("ends {} s after its start when there is no data: {what}", ends.as_secs());
    let remedy = "leave it out to wait for data, write a higher limit, or an initialDelay";
    findings.push(warning(&format!("{path}.{field}"), &metric.name, &message, remedy));
}
