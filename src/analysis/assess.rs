//! From counters to phases: one metric, then the run. Argo's algorithm, row by row.
//!
//! Precedence: inside a metric Error over Inconclusive over Failed; across metrics Failed over
//! Error over Inconclusive. Differs from Argo: without `consecutiveErrorLimit` and `onError` a
//! metric never ends in errors, it waits for data.

use super::measure::{RATE_LIMITED, TIMEOUTS, noted};
use super::metric::CheckedMetric;
use crate::api::analysis::OnError;
use crate::api::analysis_run::{MetricResult, RunRelease, RunSummary};
use crate::api::{AnalysisPhase, AnalysisRun};

/// The phase of a metric and the limit that led to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Assessed {
    pub(crate) phase: AnalysisPhase,
    pub(crate) limit: Option<String>,
}

/// Whether nothing changes any more.
#[must_use]
pub fn completed(phase: AnalysisPhase) -> bool {
    match phase {
        AnalysisPhase::Pending | AnalysisPhase::Running => false,
        AnalysisPhase::Successful
        | AnalysisPhase::Failed
        | AnalysisPhase::Error
        | AnalysisPhase::Inconclusive => true,
    }
}

/// The phase of one metric from its counters. `terminating`: no further measurement is taken.
pub(crate) fn metric(metric: &CheckedMetric, result: &MetricResult, terminating: bool) -> Assessed {
    let plain = |phase| Assessed { phase, limit: None };
    if let Some(phase) = result.phase.filter(|phase| completed(*phase)) {
        return Assessed { phase, limit: broken_limit(metric, result).map(|(_, limit)| limit) };
    }
    let Some(last) = result.measurements.last() else {
        return plain(match terminating {
            true => AnalysisPhase::Successful,
            false => AnalysisPhase::Pending,
        });
    };
    // The limit of errors ends a measurement that is under way and not seen any more.
    if let Some((phase, limit)) = broken_limit(metric, result) {
        return Assessed { phase, limit: Some(limit) };
    }
    if !last.phase.is_some_and(completed) {
        return plain(AnalysisPhase::Running);
    }
    let successes = metric.success_limit;
    if successes.is_some_and(|limit| i64::from(result.consecutive_success) >= limit) {
        return plain(AnalysisPhase::Successful);
    }
    if metric.count.is_some_and(|count| i64::from(result.count) >= count) {
        return plain(match (metric.failure_limit, successes) {
            (Some(_), Some(_)) => AnalysisPhase::Inconclusive,
            (None, Some(_)) => AnalysisPhase::Failed,
            (_, None) => AnalysisPhase::Successful,
        });
    }
    plain(if terminating { AnalysisPhase::Successful } else { AnalysisPhase::Running })
}

/// The limit that was passed, the gravest last.
fn broken_limit(metric: &CheckedMetric, result: &MetricResult) -> Option<(AnalysisPhase, String)> {
    let over = |count: i32, limit: i64| i64::from(count) > limit;
    let mut broken = None;
    if let Some(limit) = metric.failure_limit.filter(|limit| over(result.failed, *limit)) {
        let text = format!("failed ({}) > failureLimit ({limit})", result.failed);
        broken = Some((AnalysisPhase::Failed, text));
    }
    let limit = metric.inconclusive_limit;
    if over(result.inconclusive, limit) {
        let text = format!("inconclusive ({}) > inconclusiveLimit ({limit})", result.inconclusive);
        broken = Some((AnalysisPhase::Inconclusive, text));
    }
    for (then, phase) in ENDS {
        let errors = errors_in_a_row(metric, result, then);
        if let Some(limit) = metric.errors_allowed(then).filter(|limit| over(errors, *limit)) {
            let text = format!("consecutiveErrors ({errors}) > consecutiveErrorLimit ({limit})");
            broken = Some((phase, text));
        }
    }
    broken
}

/// What becomes of a metric with too many errors in a row.
const ENDS: [(OnError, AnalysisPhase); 4] = [
    (OnError::Pass, AnalysisPhase::Successful),
    (OnError::Fail, AnalysisPhase::Failed),
    (OnError::Inconclusive, AnalysisPhase::Inconclusive),
    (OnError::Wait, AnalysisPhase::Error),
];

/// Errors since the last answer after too many of which the metric is to be `then`.
fn errors_in_a_row(metric: &CheckedMetric, result: &MetricResult, then: OnError) -> i32 {
    let (timeouts, limited) = (noted(result, TIMEOUTS), noted(result, RATE_LIMITED));
    let others = result.consecutive_error - timeouts - limited;
    [(metric.on_timeout, timeouts), (metric.on_rate_limited, limited), (metric.on_error, others)]
        .into_iter()
        .filter_map(|(of, errors)| (of == then).then_some(errors))
        .sum()
}

/// The limit that the errors in a row come up to, where one is said of all of them.
pub(crate) fn errors_allowed(metric: &CheckedMetric, result: &MetricResult) -> Option<i64> {
    let all = |then| errors_in_a_row(metric, result, then) == result.consecutive_error;
    ENDS.into_iter().find(|(then, _)| all(*then)).and_then(|(then, _)| metric.errors_allowed(then))
}

/// Whether a metric's end says anything about the run.
pub(crate) fn decides(metric: &CheckedMetric) -> bool {
    !metric.dry_run && !metric.advisory
}

/// Whether a run waits for the end of a metric of `metrics`. Not for what says nothing about it and might
/// go on for ever: advisory ones, dry runs without a count, and in the background all dry runs, so that
/// the next round begins. Where there is nothing else, for all.
pub(crate) fn is_waited_for(
    run: &AnalysisRun,
    metrics: &[CheckedMetric],
    metric: &CheckedMetric,
) -> bool {
    let background = run.spec.release.as_ref().is_some_and(RunRelease::is_background);
    let aside = |metric: &CheckedMetric| {
        let unbounded = metric.count.is_none() && metric.compare.is_none();
        metric.advisory || (metric.dry_run && (background || unbounded))
    };
    !aside(metric) || metrics.iter().all(aside)
}

/// The phase that a metric has reached by its own counters, whatever its siblings did.
pub(crate) fn own_end(metric: &CheckedMetric, result: &MetricResult) -> Option<AnalysisPhase> {
    match result.phase {
        Some(
            phase @ (AnalysisPhase::Failed | AnalysisPhase::Error | AnalysisPhase::Inconclusive),
        ) => Some(phase),
        _ => {
            let unended = MetricResult { phase: None, ..result.clone() };
            Some(self::metric(metric, &unended, false).phase).filter(|phase| completed(*phase))
        }
    }
}

/// How grave a phase is, for the worst of several.
pub(crate) fn gravity(phase: AnalysisPhase) -> u8 {
    match phase {
        AnalysisPhase::Successful => 0,
        AnalysisPhase::Running => 1,
        AnalysisPhase::Pending => 2,
        AnalysisPhase::Inconclusive => 3,
        AnalysisPhase::Error => 4,
        AnalysisPhase::Failed => 5,
    }
}

/// Argo's words for a metric that ended by a limit.
pub(crate) fn limit_message(
    name: Option<&str>,
    assessed: &Assessed,
    message: Option<&str>,
) -> String {
    let name = name.map(|name| format!("{name:?} ")).unwrap_or_default();
    let mut text = format!("Metric {name}assessed {:?}", assessed.phase);
    if let Some(limit) = &assessed.limit {
        text.push_str(&format!(" due to {limit}"));
    }
    if let Some(message) = message.filter(|message| !message.is_empty()) {
        text.push_str(&format!(": \"Error Message: {message}\""));
    }
    text
}

/// Adds one ended metric to a summary. Every phase is counted as what it is (Argo counts some as
/// successful that are not).
pub(crate) fn count(summary: &mut RunSummary, phase: AnalysisPhase) {
    summary.count += 1;
    match phase {
        AnalysisPhase::Successful => summary.successful += 1,
        AnalysisPhase::Failed => summary.failed += 1,
        AnalysisPhase::Inconclusive => summary.inconclusive += 1,
        AnalysisPhase::Error => summary.error += 1,
        AnalysisPhase::Pending | AnalysisPhase::Running => {}
    }
}
