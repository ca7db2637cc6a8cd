//! The plan of one AnalysisRun: which queries are due, what an answer does to the status, when to
//! look again, when it may be deleted. Pure: the caller asks the providers and writes the status.
//!
//! Scheduling is Argo's: `interval` from the end of the measurement before, `initialDelay` from the
//! run's start, 10 s after an error, and one ended metric ends its siblings. Different: further
//! errors in a row back off, unless `errorRetry` is given. Start at [`plan`] and [`record_all`].

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::args::{self, ArgError, Secrets};
use super::assess::{self, Assessed, completed};
use super::calibration::{self, Calibrated};
use super::compare;
use super::decide::{self, End, Row};
use super::kayenta;
use super::measure::{Answer, WAITING_SINCE, measure, notes_of};
use super::metric::{self, Checked, CheckedMetric, SpecError};
use super::observed::Observed;
use super::sample::Outcome;
use super::source::{Ask, Source};
use super::verdict;
use crate::api::analysis_run::{RUN_SCHEMA, RunSummary, TtlStrategy};
use crate::api::common::SecretKeyRef;
use crate::api::{AnalysisPhase, AnalysisRun, AnalysisRunStatus, MetricResult, Time};
use crate::spec;

pub use super::measure::RESOLVED_QUERY;

/// Time to the next try after an error, whatever the interval, as Argo.
const ERROR_RETRY: SignedDuration = SignedDuration::from_secs(10);

/// The longest time to the next try after many errors.
const LONGEST_RETRY: SignedDuration = SignedDuration::from_mins(5);

/// Time to the next measurement of a metric without interval.
const DEFAULT_INTERVAL: SignedDuration = SignedDuration::from_secs(10);

/// What is appended to a metric's name for the query that counts the events behind it. No name has
/// a slash.
const EVENTS: &str = "/events";

/// A question that is due.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Query {
    /// The key to give back to [`record_all`]: the metric that asks, with a suffix for its second
    /// question.
    pub metric: String,
    /// The run's namespace, in which a MetricProvider is looked for.
    pub namespace: String,
    /// Whom.
    pub source: Source,
    /// What, in the provider's language.
    pub text: String,
    /// Who asks, for providers that make objects.
    pub asker: Asker,
    /// Series keep their labels: the answer is JSON, a list of `{labels, value}` with the value as
    /// text; over a range it is [`Sample::Lines`](super::Sample::Lines).
    pub labelled: bool,
}

/// The measurement that asks.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asker {
    /// The run's name.
    pub run: String,
    /// The run's uid.
    pub uid: String,
    /// How many measurements were begun before this one.
    pub number: i32,
    /// What [`Outcome::Running`] said of a measurement that is not finished; empty when no answer has
    /// said whether it was begun.
    pub notes: Option<BTreeMap<String, String>>,
}

/// What to do for a run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunPlan {
    /// Ask these and give the answers to [`record_all`].
    pub due: Vec<Query>,
    /// End these, which are not finished, and give [`Outcome::Ended`] to [`record_all`].
    pub cancel: Vec<Query>,
    /// End these, which the run leaves under way or whose begin may have been lost with a write of the
    /// status; no answer is recorded.
    pub sweep: Vec<Query>,
    /// The status now.
    pub status: AnalysisRunStatus,
    /// When something is due next, if nothing else happens.
    pub wake: Option<Timestamp>,
    /// The run is over and its time to live has passed: delete it.
    pub delete: bool,
}

/// The keys of Secrets that the arguments of `run` name, for [`plan_with`].
#[must_use]
pub fn secrets_needed(run: &AnalysisRun) -> Vec<SecretKeyRef> {
    run.spec.args.iter().filter_map(args::secret_of).cloned().collect()
}

/// What is due for `run` at `now`. For runs without secrets; else [`plan_with`].
#[must_use]
pub fn plan(run: &AnalysisRun, now: Timestamp) -> RunPlan {
    plan_with(run, &Secrets::default(), now)
}

/// What is due for `run` at `now`. A Secret that is missing is waited for.
#[must_use]
pub fn plan_with(run: &AnalysisRun, secrets: &Secrets, now: Timestamp) -> RunPlan {
    let still = |status| RunPlan {
        due: Vec::new(),
        cancel: Vec::new(),
        sweep: Vec::new(),
        status,
        wake: None,
        delete: false,
    };
    let Opened { checked, lacking, .. } = match open(run, secrets, now) {
        Ok(opened) => opened,
        Err(status) => return over_plan(run, still(*status), now),
    };
    let status = with_results(started(run, now), &checked.metrics);
    let status = assess_run(run, &checked, status, lacking.as_deref(), now);
    if over(&status) {
        let ends_now = !run.status.as_ref().is_some_and(over);
        let sweep = if ends_now { left_by(run, &checked, &status) } else { Vec::new() };
        return over_plan(run, RunPlan { sweep, ..still(status) }, now);
    }
    let mut planned = still(status);
    planned.wake = deadline(run, &planned.status);
    if lacking.is_some() {
        let again = now.checked_add(ERROR_RETRY).ok();
        planned.wake = planned.wake.into_iter().chain(again).min();
        return planned;
    }
    let ending =
        run.spec.terminate || decide::is_certain(&checked, &rows(&checked, &planned.status));
    for (metric, result) in rows(&checked, &planned.status.clone()) {
        if ending {
            if notes_of(result).is_some() {
                planned.cancel.push(question(run, metric, result));
            } else if is_unwritten((metric, result)) {
                planned.sweep.push(question(run, metric, result));
            }
            continue;
        }
        match next(metric, result, &planned.status) {
            Some(at) if at <= now => {
                let begun = planned.status.started_at.as_ref().map_or(now, |at| at.0);
                planned.due.extend(questions(run, metric, result, begun, now));
            }
            at => planned.wake = planned.wake.into_iter().chain(at).min(),
        }
    }
    planned
}

/// What a run that has just ended has left under way: end it, as its sweep.
#[must_use]
pub fn left_under_way(run: &AnalysisRun, secrets: &Secrets) -> Vec<Query> {
    let ended = run.status.as_ref().filter(|status| over(status));
    let checked = metric::check(&run.spec, secrets).ok();
    ended.zip(checked).map_or_else(Vec::new, |(status, checked)| left_by(run, &checked, status))
}

fn left_by(run: &AnalysisRun, checked: &Checked, status: &AnalysisRunStatus) -> Vec<Query> {
    let left = |row: &Row<'_>| notes_of(row.1).is_some() || is_unwritten(*row);
    let rows = rows(checked, status).into_iter().filter(left);
    rows.map(|(metric, result)| question(run, metric, result)).collect()
}

/// Whether something of ours may run in the cluster that the status does not know.
fn is_unwritten((metric, result): (&CheckedMetric, &MetricResult)) -> bool {
    matches!(metric.source.ask, Ask::Job(_)) && notes_of(result).is_none()
}

/// A run that is over is deleted after its time to live.
fn over_plan(run: &AnalysisRun, planned: RunPlan, now: Timestamp) -> RunPlan {
    let Some(at) = expiry(run, &planned.status) else { return planned };
    if at <= now {
        return RunPlan { delete: true, ..planned };
    }
    RunPlan { wake: Some(at), ..planned }
}

/// When a run that is over may be deleted. Argo's rule: the field of its phase, else the general
/// one, and more than so many seconds.
fn expiry(run: &AnalysisRun, status: &AnalysisRunStatus) -> Option<Timestamp> {
    let TtlStrategy { seconds_after_completion, seconds_after_failure, seconds_after_success } =
        run.spec.ttl_strategy.as_ref()?;
    let own = match status.phase? {
        AnalysisPhase::Successful => *seconds_after_success,
        AnalysisPhase::Failed => *seconds_after_failure,
        _ => None,
    };
    let seconds = own.or(*seconds_after_completion)?;
    let span = SignedDuration::from_secs(i64::from(seconds) + 1);
    status.completed_at.as_ref()?.0.checked_add(span).ok()
}

fn question(run: &AnalysisRun, metric: &CheckedMetric, result: &MetricResult) -> Query {
    let notes = notes_of(result);
    Query {
        metric: metric.name.clone(),
        namespace: run.metadata.namespace.clone().unwrap_or_default(),
        source: metric.source.clone(),
        text: metric.query.clone(),
        asker: Asker {
            run: run.metadata.name.clone().unwrap_or_default(),
            uid: run.metadata.uid.clone().unwrap_or_default(),
            number: result.count + result.error,
            notes,
        },
        labelled: false,
    }
}

fn questions(
    run: &AnalysisRun,
    metric: &CheckedMetric,
    result: &MetricResult,
    begun: Timestamp,
    now: Timestamp,
) -> Vec<Query> {
    let main = question(run, metric, result);
    if let Some(kayenta) = &metric.kayenta {
        let source = Source { ask: kayenta.range(begun, now), ..main.source.clone() };
        let asked = kayenta.questions(&metric.name).map(|(key, text)| Query {
            metric: key,
            text: text.to_owned(),
            source: source.clone(),
            labelled: true,
            ..main.clone()
        });
        return asked.collect();
    }
    if let Some(compare) = &metric.compare {
        let ask = compare::missed(metric, compare, result, begun, now);
        let source = Source { ask, ..main.source.clone() };
        let asked = compare::questions(metric, compare).map(|(key, text)| Query {
            metric: key,
            text: text.to_owned(),
            source: source.clone(),
            labelled: true,
            ..main.clone()
        });
        return asked.collect();
    }
    let events = metric.evidence.as_ref().map(|(_, text)| Query {
        metric: format!("{}{EVENTS}", metric.name),
        source: Source { ask: main.source.ask.counting(text), ..main.source.clone() },
        text: text.clone(),
        ..main.clone()
    });
    std::iter::once(main).chain(events).collect()
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

/// [`record_all_with`] for runs without secrets and release.
#[must_use]
pub fn record_all(
    run: &AnalysisRun,
    answers: Vec<(String, Outcome)>,
    now: Timestamp,
) -> AnalysisRunStatus {
    record_all_with(run, &Secrets::default(), &Observed::default(), answers, now)
}

/// The status after the answers of one tick. An answer for a metric that does not exist or is over
/// is dropped.
#[must_use]
pub fn record_all_with(
    run: &AnalysisRun,
    secrets: &Secrets,
    observed: &Observed,
    answers: Vec<(String, Outcome)>,
    now: Timestamp,
) -> AnalysisRunStatus {
    let Opened { checked, lacking, calibrated } = match open(run, secrets, now) {
        Ok(opened) => opened,
        Err(status) => return *status,
    };
    let mut status = with_results(started(run, now), &checked.metrics);
    if lacking.is_none() {
        let ends = deadline(run, &status);
        let started = status.started_at.as_ref().map_or(now, |at| at.0);
        let about = compare::About { secrets, observed, started };
        for (metric, result) in checked.metrics.iter().zip(&mut status.metric_results) {
            if compare::record(metric, result, &answers, &about, now)
                || kayenta::record(metric, result, &answers, &about, now)
            {
                continue;
            }
            let events = answers
                .iter()
                .find(|(key, _)| key.strip_suffix(EVENTS).is_some_and(|name| name == metric.name));
            for (_, outcome) in answers.iter().filter(|(key, _)| *key == metric.name) {
                if !result.phase.is_some_and(completed) {
                    let answer = Answer { outcome, events: events.map(|(_, outcome)| outcome) };
                    measure(metric, result, &answer, secrets, now);
                }
            }
        }
        let mut rows: Vec<_> = checked.metrics.iter().zip(&mut status.metric_results).collect();
        compare::conclude(&run.spec, &calibrated, &mut rows, ends, now);
    }
    assess_run(run, &checked, status, lacking.as_deref(), now)
}

/// A run that is under way.
struct Opened {
    checked: Checked,
    /// The Secret that is missing.
    lacking: Option<String>,
    /// What was taken from the history of the service.
    calibrated: Calibrated,
}

impl Opened {
    fn of(run: &AnalysisRun, mut checked: Checked, lacking: Option<String>) -> Self {
        let taken = run.status.as_ref().and_then(|status| status.calibration.as_ref());
        let calibrated = calibration::apply(&run.spec, &mut checked, taken);
        Self { checked, lacking, calibrated }
    }
}

/// The checked metrics of a run that is under way, or the final status of one that is not.
fn open(
    run: &AnalysisRun,
    secrets: &Secrets,
    now: Timestamp,
) -> Result<Opened, Box<AnalysisRunStatus>> {
    let status = run.status.clone().unwrap_or_default();
    if over(&status) {
        return Err(Box::new(status));
    }
    let refused = match metric::check(&run.spec, secrets) {
        Ok(checked) => return Ok(Opened::of(run, checked, None)),
        Err(SpecError::Args(missing @ ArgError::NoSecret { .. })) => {
            match metric::check_shape(&run.spec) {
                Ok(checked) => {
                    return Ok(Opened::of(run, checked, Some(missing.to_string())));
                }
                Err(refused) => refused,
            }
        }
        Err(refused) => refused,
    };
    let text = secrets.mask(refused.to_string());
    let mut status = started(run, now);
    status.phase = Some(AnalysisPhase::Error);
    status.message = Some(text.clone());
    status.completed_at = Some(Time(now));
    status.verdict = Some(crate::api::Verdict::Inconclusive);
    status.reason = Some(text);
    Err(Box::new(status))
}

fn over(status: &AnalysisRunStatus) -> bool {
    status.phase.is_some_and(completed)
}

fn rows<'a>(checked: &'a Checked, status: &'a AnalysisRunStatus) -> Vec<Row<'a>> {
    checked.metrics.iter().zip(&status.metric_results).collect()
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

/// When the metric is due; `None`: never again, or when something happens.
pub(super) fn next(
    metric: &CheckedMetric,
    result: &MetricResult,
    status: &AnalysisRunStatus,
) -> Option<Timestamp> {
    let started = status.started_at.as_ref()?.0;
    let Some(last) = result.measurements.last() else {
        return started.checked_add(metric.initial_delay.unwrap_or_default()).ok();
    };
    let counted = metric.count.is_some_and(|count| i64::from(result.count) >= count);
    if result.phase.is_some_and(completed) {
        return None;
    }
    let Some(finished) = &last.finished_at else {
        return Some(last.resume_at.as_ref().map_or(started, |resume| resume.0));
    };
    if counted {
        return None;
    }
    let wait = match last.phase {
        Some(AnalysisPhase::Error) => retry(metric, result.consecutive_error),
        _ => metric.interval.unwrap_or(DEFAULT_INTERVAL),
    };
    let at = finished.0.checked_add(wait).ok()?;
    Some(last.resume_at.as_ref().map_or(at, |resume| resume.0.max(at)))
}

/// Time to the next try after so many errors in a row: 10 s, doubled each time up to the interval.
pub(crate) fn retry(metric: &CheckedMetric, errors: i32) -> SignedDuration {
    if let Some(fixed) = metric.error_retry {
        return fixed;
    }
    let most = metric.interval.unwrap_or(ERROR_RETRY * 6).clamp(ERROR_RETRY, LONGEST_RETRY);
    let doublings = u32::try_from(errors.saturating_sub(1)).unwrap_or(0).min(8);
    (ERROR_RETRY * 2_i32.pow(doublings)).min(most)
}

fn deadline(run: &AnalysisRun, status: &AnalysisRunStatus) -> Option<Timestamp> {
    let timeout = spec::duration(run.spec.timeout.as_ref()?)?;
    status.started_at.as_ref()?.0.checked_add(timeout).ok()
}

/// Phases of all metrics, then of the run. A failure ends its siblings, and the last metric that is
/// waited for those that are not.
fn assess_run(
    run: &AnalysisRun,
    checked: &Checked,
    mut status: AnalysisRunStatus,
    lacking: Option<&str>,
    now: Timestamp,
) -> AnalysisRunStatus {
    let late = deadline(run, &status).is_some_and(|deadline| deadline <= now);
    let metrics = &checked.metrics;
    let terminating = run.spec.terminate || decide::is_certain(checked, &rows(checked, &status));
    for (metric, result) in metrics.iter().zip(&mut status.metric_results) {
        assess_metric(metric, result, terminating);
    }
    let waits = |(metric, result): (&CheckedMetric, &MetricResult)| {
        assess::is_waited_for(run, metrics, metric) && !result.phase.is_some_and(completed)
    };
    let running = metrics.iter().zip(&status.metric_results).any(waits);
    if !running {
        for (metric, result) in metrics.iter().zip(&mut status.metric_results) {
            assess_metric(metric, result, true);
        }
    }
    let ends: Vec<Assessed> =
        rows(checked, &status).into_iter().map(|(m, r)| assess::metric(m, r, false)).collect();
    status.run_summary = Some(summary(metrics, &ends, false));
    status.dry_run_summary =
        metrics.iter().any(|m| m.dry_run).then(|| summary(metrics, &ends, true));
    let open = |result: &&MetricResult| !result.phase.is_some_and(completed) && !result.dry_run;
    let minutes = status.metric_results.iter().filter(open).map(|result| result.estimated_minutes);
    status.estimated_minutes = minutes.flatten().max();
    status.missing = lacking.map(|what| format!("{}{what}", verdict::NO_SECRET));
    status.missing = status.missing.take().or_else(|| missing(metrics, &status));
    let End { phase, message } = match (running, late) {
        (true, false) => End { phase: AnalysisPhase::Running, message: status.missing.clone() },
        (true, true) => {
            End { phase: AnalysisPhase::Inconclusive, message: Some(timed_out(run, &status)) }
        }
        (false, _) => decide::of_all(checked, &rows(checked, &status), &ends, run.spec.terminate),
    };
    status.phase = Some(phase);
    status.message = message;
    if completed(phase) {
        status.completed_at.get_or_insert(Time(now));
    }
    let verdict = verdict::of_status(run, checked, &status);
    status.verdict = Some(verdict.kind());
    status.reason = Some(verdict.reason().to_owned()).filter(|reason| !reason.is_empty());
    status
}

fn assess_metric(metric: &CheckedMetric, result: &mut MetricResult, terminating: bool) {
    if terminating {
        compare::end(metric, result);
        kayenta::end(metric, result);
    }
    let assessed = assess::metric(metric, result, terminating);
    result.phase = Some(assessed.phase);
    result.message = result.measurements.last().and_then(|last| last.message.clone());
    let lacking = result.missing.take().filter(|_| metric.compare.is_some());
    let open = !completed(assessed.phase);
    result.missing = waiting_message(metric, result).or(lacking.filter(|_| open));
    result.verdict = Some(match assessed.phase {
        AnalysisPhase::Pending | AnalysisPhase::Running => crate::api::Verdict::Continue,
        AnalysisPhase::Successful => crate::api::Verdict::Pass,
        AnalysisPhase::Failed => crate::api::Verdict::Fail,
        AnalysisPhase::Error | AnalysisPhase::Inconclusive => crate::api::Verdict::Inconclusive,
    });
}

fn summary(metrics: &[CheckedMetric], ends: &[Assessed], dry_run: bool) -> RunSummary {
    let mut summary = RunSummary::default();
    for (_, end) in metrics.iter().zip(ends).filter(|(metric, _)| metric.dry_run == dry_run) {
        assess::count(&mut summary, end.phase);
    }
    summary
}

/// What the run waits for, when the newest measurement of a metric is no data.
fn missing(metrics: &[CheckedMetric], status: &AnalysisRunStatus) -> Option<String> {
    let parts: Vec<_> = metrics
        .iter()
        .filter(|metric| !metric.advisory)
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
    let limit = assess::errors_allowed(metric, result);
    let limit = limit.map(|limit| format!(", at most {limit} allowed"));
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
