//! The plan of one AnalysisRun: which queries are due, what an answer does to the status, when to
//! look again. Pure: the caller asks the providers and writes the status.
//!
//! Scheduling is Argo's: `interval` from the end of the measurement before, `initialDelay` from the
//! run's start, 10 s after an error, and one ended metric ends its siblings. Start at [`plan`] and
//! [`record_all`].

use jiff::{SignedDuration, Timestamp};

use super::assess::{self, Assessed, completed};
use super::judge::judge;
use super::metric::{self, CheckedMetric};
use super::sample::{Outcome, Sample};
use super::source::Source;
use super::verdict;
use crate::api::analysis_run::{RUN_SCHEMA, RunSummary, SampleKind};
use crate::api::{AnalysisPhase, AnalysisRun, AnalysisRunStatus, Measurement, MetricResult, Time};
use crate::spec;

/// Time to the next try after an error, whatever the interval, as Argo.
const ERROR_RETRY: SignedDuration = SignedDuration::from_secs(10);

/// A provider that asks to be left alone is obeyed for at most this long.
const MAX_RETRY_AFTER: SignedDuration = SignedDuration::from_mins(5);

/// Time to the next measurement of a metric without interval.
const DEFAULT_INTERVAL: SignedDuration = SignedDuration::from_secs(10);

/// The key under which a metric's result shows the query after substitution, as Argo.
pub const RESOLVED_QUERY: &str = "ResolvedPrometheusQuery";

/// The key under which a metric's result notes since when there is no data.
pub const WAITING_SINCE: &str = "waitingSince";

/// A question that is due.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Query {
    /// The metric that asks.
    pub metric: String,
    /// The run's namespace, in which a MetricProvider is looked for.
    pub namespace: String,
    /// Whom.
    pub source: Source,
    /// What, in the provider's language.
    pub text: String,
}

/// What to do for a run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunPlan {
    /// Ask these and give the answers to [`record_all`].
    pub due: Vec<Query>,
    /// The status now.
    pub status: AnalysisRunStatus,
    /// When something is due next, if nothing else happens.
    pub wake: Option<Timestamp>,
}

/// What is due for `run` at `now`.
#[must_use]
pub fn plan(run: &AnalysisRun, now: Timestamp) -> RunPlan {
    let metrics = match open(run, now) {
        Ok(metrics) => metrics,
        Err(status) => return RunPlan { due: Vec::new(), status: *status, wake: None },
    };
    let status = assess_run(run, &metrics, with_results(started(run, now), &metrics), now);
    if over(&status) {
        return RunPlan { due: Vec::new(), status, wake: None };
    }
    let namespace = run.metadata.namespace.clone().unwrap_or_default();
    let mut due = Vec::new();
    let mut wake = deadline(run, &status);
    for metric in &metrics {
        match next(metric, &status) {
            Some(at) if at <= now => due.push(Query {
                metric: metric.name.clone(),
                namespace: namespace.clone(),
                source: metric.source.clone(),
                text: metric.query.clone(),
            }),
            Some(at) => wake = Some(wake.map_or(at, |wake| wake.min(at))),
            None => {}
        }
    }
    RunPlan { due, status, wake }
}

/// The status after one answer. For several answers of one tick use [`record_all`]: a failure ends
/// the run, and with it what comes after.
#[must_use]
pub fn record(
    run: &AnalysisRun,
    metric: &str,
    outcome: Outcome,
    now: Timestamp,
) -> AnalysisRunStatus {
    record_all(run, vec![(metric.to_owned(), outcome)], now)
}

/// The status after the answers of one tick. An answer for a metric that does not exist or is over
/// is dropped.
#[must_use]
pub fn record_all(
    run: &AnalysisRun,
    answers: Vec<(String, Outcome)>,
    now: Timestamp,
) -> AnalysisRunStatus {
    let metrics = match open(run, now) {
        Ok(metrics) => metrics,
        Err(status) => return *status,
    };
    let mut status = with_results(started(run, now), &metrics);
    for (name, outcome) in answers {
        for (metric, result) in metrics.iter().zip(&mut status.metric_results) {
            if metric.name == name && !result.phase.is_some_and(completed) {
                measure(metric, result, &outcome, now);
            }
        }
    }
    assess_run(run, &metrics, status, now)
}

/// The checked metrics of a run that is under way, or the final status of one that is not.
fn open(run: &AnalysisRun, now: Timestamp) -> Result<Vec<CheckedMetric>, Box<AnalysisRunStatus>> {
    let status = run.status.clone().unwrap_or_default();
    if over(&status) {
        return Err(Box::new(status));
    }
    metric::check(&run.spec).map_err(|error| {
        let mut status = started(run, now);
        status.phase = Some(AnalysisPhase::Error);
        status.message = Some(error.to_string());
        status.completed_at = Some(Time(now));
        status.verdict = Some(crate::api::Verdict::Inconclusive);
        Box::new(status)
    })
}

fn over(status: &AnalysisRunStatus) -> bool {
    status.phase.is_some_and(completed)
}

fn started(run: &AnalysisRun, now: Timestamp) -> AnalysisRunStatus {
    let mut status = run.status.clone().unwrap_or_default();
    status.schema = Some(RUN_SCHEMA);
    status.observed_generation = run.metadata.generation.or(status.observed_generation);
    status.started_at.get_or_insert(Time(now));
    status
}

/// One result per metric, in the order of the metrics.
fn with_results(mut status: AnalysisRunStatus, metrics: &[CheckedMetric]) -> AnalysisRunStatus {
    let known = std::mem::take(&mut status.metric_results);
    status.metric_results = metrics
        .iter()
        .map(|metric| {
            let result = known.iter().find(|result| result.name == metric.name).cloned();
            let name = metric.name.clone();
            let result = result.unwrap_or(MetricResult { name, ..MetricResult::default() });
            MetricResult { dry_run: metric.dry_run, ..result }
        })
        .collect();
    status
}

/// Judges an answer and counts it.
fn measure(metric: &CheckedMetric, result: &mut MetricResult, outcome: &Outcome, now: Timestamp) {
    let judged = judge(metric, outcome);
    let error = judged.phase == AnalysisPhase::Error;
    match judged.phase {
        AnalysisPhase::Successful => result.successful += 1,
        AnalysisPhase::Failed => result.failed += 1,
        AnalysisPhase::Inconclusive => result.inconclusive += 1,
        AnalysisPhase::Error => result.error += 1,
        AnalysisPhase::Pending | AnalysisPhase::Running => {}
    }
    result.count += i32::from(!error);
    result.consecutive_error = if error { result.consecutive_error + 1 } else { 0 };
    result.consecutive_success = match judged.phase {
        AnalysisPhase::Successful => result.consecutive_success + 1,
        _ => 0,
    };
    result.metadata.insert(RESOLVED_QUERY.to_owned(), metric.query.clone());
    if error {
        result.metadata.entry(WAITING_SINCE.to_owned()).or_insert_with(|| now.to_string());
    } else {
        result.metadata.remove(WAITING_SINCE);
    }
    let mut measurement = Measurement {
        phase: Some(judged.phase),
        message: judged.message,
        started_at: Some(Time(now)),
        finished_at: Some(Time(now)),
        ..Measurement::default()
    };
    match outcome {
        Outcome::Answer { sample, warnings } => {
            measurement.value = Some(sample.to_string());
            measurement.sample = Some(stored(sample));
            if !warnings.is_empty() {
                measurement.metadata.insert("warnings".to_owned(), warnings.join("; "));
            }
        }
        Outcome::Error(error) => {
            let pause = error.retry_after.map(|pause| pause.min(MAX_RETRY_AFTER));
            measurement.resume_at = pause.and_then(|p| now.checked_add(p).ok()).map(Time);
        }
    }
    result.measurements.push(measurement);
    let surplus = result.measurements.len().saturating_sub(metric.retained);
    result.measurements.drain(..surplus);
}

/// The sample as the status keeps it.
fn stored(sample: &Sample) -> crate::api::analysis_run::Sample {
    let (kind, values) = match sample {
        Sample::Empty => (SampleKind::Empty, Vec::new()),
        Sample::Value(value) if value.is_nan() => (SampleKind::NaN, vec![*value]),
        Sample::Value(value) => (SampleKind::Value, vec![*value]),
        Sample::Series(values) => (SampleKind::Series, values.clone()),
    };
    let values = values.into_iter().take(super::sample::SHOWN_SERIES);
    let values = values.map(super::sample::number).collect();
    crate::api::analysis_run::Sample { kind, values, message: None }
}

/// When the metric is due; `None`: never again.
fn next(metric: &CheckedMetric, status: &AnalysisRunStatus) -> Option<Timestamp> {
    let started = status.started_at.as_ref()?.0;
    let result = status.metric_results.iter().find(|result| result.name == metric.name);
    let Some(last) = result.and_then(|result| result.measurements.last()) else {
        return started.checked_add(metric.initial_delay.unwrap_or_default()).ok();
    };
    let result = result?;
    let counted = metric.count.is_some_and(|count| i64::from(result.count) >= count);
    if result.phase.is_some_and(completed) || counted {
        return None;
    }
    let Some(finished) = &last.finished_at else { return Some(started) };
    let wait = match last.phase {
        Some(AnalysisPhase::Error) => ERROR_RETRY,
        _ => metric.interval.unwrap_or(DEFAULT_INTERVAL),
    };
    let at = finished.0.checked_add(wait).ok()?;
    Some(last.resume_at.as_ref().map_or(at, |resume| resume.0.max(at)))
}

fn deadline(run: &AnalysisRun, status: &AnalysisRunStatus) -> Option<Timestamp> {
    let timeout = spec::duration(run.spec.timeout.as_ref()?)?;
    status.started_at.as_ref()?.0.checked_add(timeout).ok()
}

/// Phases of all metrics, then of the run. Repeats once when a metric's end ends the others.
fn assess_run(
    run: &AnalysisRun,
    metrics: &[CheckedMetric],
    mut status: AnalysisRunStatus,
    now: Timestamp,
) -> AnalysisRunStatus {
    let late = deadline(run, &status).is_some_and(|deadline| deadline <= now);
    let mut ends = Vec::new();
    for _ in 0..2 {
        let terminating = run.spec.terminate || failed_fast(metrics, &status);
        ends = metrics
            .iter()
            .zip(&mut status.metric_results)
            .map(|(metric, result)| assess_metric(metric, result, terminating))
            .collect();
    }
    let running = ends.iter().any(|end| !completed(end.phase));
    status.run_summary = Some(summary(metrics, &ends, false));
    status.dry_run_summary =
        metrics.iter().any(|m| m.dry_run).then(|| summary(metrics, &ends, true));
    status.missing = missing(metrics, &status);
    let (phase, message) = match (running, late) {
        (true, false) => (AnalysisPhase::Running, status.missing.clone()),
        (true, true) => (AnalysisPhase::Inconclusive, Some(timed_out(run, &status))),
        (false, _) => worst(run, metrics, &ends, &status),
    };
    status.phase = Some(phase);
    status.message = message;
    if completed(phase) {
        status.completed_at.get_or_insert(Time(now));
    }
    let verdict = verdict::of_status(run, metrics, &status);
    status.verdict = Some(verdict.kind());
    status
}

fn assess_metric(metric: &CheckedMetric, result: &mut MetricResult, terminating: bool) -> Assessed {
    let assessed = assess::metric(metric, result, terminating);
    result.phase = Some(assessed.phase);
    result.message = result.measurements.last().and_then(|last| last.message.clone());
    result.missing = waiting_message(metric, result);
    result.verdict = Some(match assessed.phase {
        AnalysisPhase::Pending | AnalysisPhase::Running => crate::api::Verdict::Continue,
        AnalysisPhase::Successful => crate::api::Verdict::Pass,
        AnalysisPhase::Failed => crate::api::Verdict::Fail,
        AnalysisPhase::Error | AnalysisPhase::Inconclusive => crate::api::Verdict::Inconclusive,
    });
    assessed
}

fn failed_fast(metrics: &[CheckedMetric], status: &AnalysisRunStatus) -> bool {
    status.metric_results.iter().any(|result| {
        let metric = metrics.iter().find(|metric| metric.name == result.name);
        result.phase.is_some_and(|phase| {
            assess::gravity(phase) >= assess::gravity(AnalysisPhase::Inconclusive)
                && metric.is_some_and(|metric| assess::decides(metric, phase))
        })
    })
}

fn summary(metrics: &[CheckedMetric], ends: &[Assessed], dry_run: bool) -> RunSummary {
    let mut summary = RunSummary::default();
    for (_, end) in metrics.iter().zip(ends).filter(|(metric, _)| metric.dry_run == dry_run) {
        assess::count(&mut summary, end.phase);
    }
    summary
}

/// The run's end: that of its worst deciding metric, the first of several.
fn worst(
    run: &AnalysisRun,
    metrics: &[CheckedMetric],
    ends: &[Assessed],
    status: &AnalysisRunStatus,
) -> (AnalysisPhase, Option<String>) {
    let mut worst: Option<(&CheckedMetric, &Assessed)> = None;
    for (metric, end) in metrics.iter().zip(ends) {
        let graver =
            worst.is_none_or(|(_, w)| assess::gravity(end.phase) > assess::gravity(w.phase));
        if assess::decides(metric, end.phase) && graver {
            worst = Some((metric, end));
        }
    }
    match worst {
        Some((metric, end)) if end.phase != AnalysisPhase::Successful => {
            let result = status.metric_results.iter().find(|result| result.name == metric.name);
            let message = result.and_then(|result| result.message.as_deref());
            (end.phase, Some(assess::limit_message(Some(&metric.name), end, message)))
        }
        _ => (AnalysisPhase::Successful, run.spec.terminate.then(|| "Run Terminated".to_owned())),
    }
}

/// What the run waits for, when the newest measurement of a metric is no data.
fn missing(metrics: &[CheckedMetric], status: &AnalysisRunStatus) -> Option<String> {
    let parts: Vec<_> = metrics
        .iter()
        .filter_map(|metric| {
            let result = status.metric_results.iter().find(|r| r.name == metric.name)?;
            result.missing.as_ref().map(|text| format!("{}: {text}", metric.name))
        })
        .collect();
    (!parts.is_empty()).then(|| format!("waiting for data: {}", parts.join("; ")))
}

fn waiting_message(metric: &CheckedMetric, result: &MetricResult) -> Option<String> {
    if result.phase.is_some_and(completed) || result.consecutive_error == 0 {
        return None;
    }
    let message = result.message.as_deref().unwrap_or("no data");
    let since = result.metadata.get(WAITING_SINCE).map(|at| format!(" since {at}"));
    let limit = metric.error_limit.map(|limit| format!(", at most {limit} allowed"));
    Some(format!(
        "{message} ({} in a row{}{})",
        result.consecutive_error,
        since.unwrap_or_default(),
        limit.unwrap_or_default()
    ))
}

fn timed_out(run: &AnalysisRun, status: &AnalysisRunStatus) -> String {
    let timeout = run.spec.timeout.as_ref().and_then(spec::duration).unwrap_or_default();
    let missing = status.missing.as_ref().map(|text| format!(": {text}")).unwrap_or_default();
    let timeout = std::time::Duration::try_from(timeout).unwrap_or_default();
    format!("not finished within {}{missing}", humantime::format_duration(timeout))
}
