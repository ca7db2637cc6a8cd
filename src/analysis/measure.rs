//! One answer: judged, counted, and kept with its numbers.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::args::Secrets;
use super::judge::threshold::explain;
use super::judge::{Judged, judge, no_data};
use super::metric::CheckedMetric;
use super::run::retry;
use super::sample::{self, Absence, ErrorKind, Outcome, QueryError, SHOWN_SERIES, Sample};
use super::source::Ask;
use crate::api::analysis_run::SampleKind;
use crate::api::{AnalysisPhase, Measurement, MetricResult, Time};

/// A provider that asks to be left alone is obeyed for at most this long.
const MAX_RETRY_AFTER: SignedDuration = SignedDuration::from_mins(5);

/// Bytes of an answer that is no number that the status shows.
const SHOWN_TEXT: usize = 256;

/// Bytes of a message that the status shows.
const SHOWN_MESSAGE: usize = 1_024;

/// Bytes of a query that the status shows.
const SHOWN_QUERY: usize = 4_096;

/// The key under which a metric's result shows the query after substitution, as Argo.
pub const RESOLVED_QUERY: &str = "ResolvedPrometheusQuery";

/// The key under which a metric's result notes since when there is no data.
pub const WAITING_SINCE: &str = "waitingSince";

/// The keys under which a metric's result counts, of its errors in a row, those with a policy of their own.
pub(super) const TIMEOUTS: &str = "timeouts";
/// See [`TIMEOUTS`].
pub(super) const RATE_LIMITED: &str = "rateLimited";

/// What came back for one metric at one tick.
pub(crate) struct Answer<'a> {
    pub(crate) outcome: &'a Outcome,
    /// The number of events behind it, when it was asked for.
    pub(crate) events: Option<&'a Outcome>,
}

/// Judges an answer and counts it.
pub(crate) fn measure(
    metric: &CheckedMetric,
    result: &mut MetricResult,
    answer: &Answer<'_>,
    secrets: &Secrets,
    now: Timestamp,
) {
    let shown = shorten(metric.shown.clone(), SHOWN_QUERY);
    result.metadata.insert(RESOLVED_QUERY.to_owned(), shown);
    let under_way = result.measurements.pop_if(|last| last.finished_at.is_none());
    if let Outcome::Error(error) = answer.outcome
        && is_lost(metric, under_way.is_some(), error.kind)
    {
        waits(result, now);
        note_kind(result, answer);
        let pause = now.checked_add(retry(metric, result.consecutive_error)).ok().map(Time);
        let text = judge(metric, answer.outcome).message;
        result.measurements.push(Measurement {
            phase: Some(AnalysisPhase::Running),
            message: text.map(|text| shorten(secrets.mask(text), SHOWN_MESSAGE)),
            resume_at: pause.max(left_alone(error, now)),
            ..under_way.unwrap_or_else(|| begun(now))
        });
        return trim(metric, result);
    }
    let mut measurement = under_way.unwrap_or_else(|| begun(now));
    if let Outcome::Running { resume_at, notes } = answer.outcome {
        if measurement.message.take().is_some() {
            // It is seen again.
            answered(result);
        }
        measurement.phase = Some(AnalysisPhase::Running);
        measurement.resume_at = resume_at.map(Time);
        measurement.metadata.clone_from(notes);
        result.measurements.push(measurement);
        return trim(metric, result);
    }
    let (judged, events) = judged(metric, answer);
    count(result, judged.phase, now);
    if judged.phase == AnalysisPhase::Error {
        note_kind(result, answer);
    }
    measurement.phase = Some(judged.phase);
    measurement.message = judged.message.map(|text| shorten(secrets.mask(text), SHOWN_MESSAGE));
    measurement.finished_at = Some(Time(now));
    measurement.resume_at = None;
    match answer.outcome {
        Outcome::Answer { sample, warnings } => {
            measurement.value = Some(shorten(secrets.mask(sample.to_string()), SHOWN_TEXT));
            measurement.sample = Some(stored(sample, secrets));
            if judged.phase != AnalysisPhase::Error {
                let behind = events.map(|n| format!(" of {} events", sample::number(n)));
                let text = format!("{}{}", explain(metric, sample), behind.unwrap_or_default());
                measurement.explanation = Some(shorten(secrets.mask(text), SHOWN_TEXT));
            }
            if !warnings.is_empty() {
                let text = shorten(secrets.mask(warnings.join("; ")), SHOWN_MESSAGE);
                measurement.metadata.insert("warnings".to_owned(), text);
            }
        }
        Outcome::Error(error) => measurement.resume_at = left_alone(error, now),
        Outcome::Ended { notes, .. } => measurement.metadata.extend(notes.clone()),
        Outcome::Running { .. } => {}
    }
    if let Some(Outcome::Error(error)) = answer.events {
        measurement.resume_at = measurement.resume_at.max(left_alone(error, now));
    }
    result.measurements.push(measurement);
    trim(metric, result);
}

fn begun(now: Timestamp) -> Measurement {
    Measurement { started_at: Some(Time(now)), ..Measurement::default() }
}

/// Whether what was to be measured may go on without us: the question comes again as it was, so that no
/// second measurement is begun beside the first.
fn is_lost(metric: &CheckedMetric, under_way: bool, kind: ErrorKind) -> bool {
    let job = matches!(metric.source.ask, Ask::Job(_));
    match kind {
        ErrorKind::Unreachable
        | ErrorKind::Timeout
        | ErrorKind::Server
        | ErrorKind::RateLimited => {
            under_way || job || matches!(metric.source.ask, Ask::Plugin { .. })
        }
        // Nothing was asked.
        ErrorKind::Misconfigured => under_way,
        // It is the API server that says so, not the Job.
        ErrorKind::Refused | ErrorKind::Malformed => under_way && job,
    }
}

/// The oldest measurements go first.
pub(crate) fn trim(metric: &CheckedMetric, result: &mut MetricResult) {
    let surplus = result.measurements.len().saturating_sub(metric.retained);
    result.measurements.drain(..surplus);
}

fn left_alone(error: &QueryError, now: Timestamp) -> Option<Time> {
    let pause = error.retry_after?.min(MAX_RETRY_AFTER);
    now.checked_add(pause).ok().map(Time)
}

/// The phase, and the number of events when there were enough.
fn judged(metric: &CheckedMetric, answer: &Answer<'_>) -> (Judged, Option<f64>) {
    let (Some((fewest, _)), Outcome::Answer { .. }) = (&metric.evidence, answer.outcome) else {
        return (judge(metric, answer.outcome), None);
    };
    let error = |message: String| Judged { phase: AnalysisPhase::Error, message: Some(message) };
    match answer.events {
        Some(Outcome::Answer { sample, .. }) => match events(sample) {
            Some(events) if events >= *fewest => (judge(metric, answer.outcome), Some(events)),
            Some(found) => {
                let found = sample::number(found.round());
                let text = format!("not enough events: {found} of {}", sample::number(*fewest));
                (no_data(metric, text), None)
            }
            None => (error(format!("events: {sample} is no number of events")), None),
        },
        Some(Outcome::Error(failed)) => (error(format!("events: {failed}")), None),
        Some(Outcome::Running { .. } | Outcome::Ended { .. }) | None => {
            (error("events: the provider did not answer".to_owned()), None)
        }
    }
}

/// How many events an answer tells of, over all its series: none where there is nothing.
fn events(sample: &Sample) -> Option<f64> {
    let all = match sample {
        Sample::Series(values) => values.as_slice(),
        none if matches!(none.absence(), Some(Absence::Empty | Absence::Nil)) => &[],
        other => &[other.single()?],
    };
    Some(all.iter().filter(|events| !events.is_nan()).fold(0.0, |sum, events| sum + events))
}

/// Counts a measurement that ended so.
pub(crate) fn count(result: &mut MetricResult, phase: AnalysisPhase, now: Timestamp) {
    let error = phase == AnalysisPhase::Error;
    match phase {
        AnalysisPhase::Successful => result.successful += 1,
        AnalysisPhase::Failed => result.failed += 1,
        AnalysisPhase::Inconclusive => result.inconclusive += 1,
        AnalysisPhase::Error => result.error += 1,
        AnalysisPhase::Pending | AnalysisPhase::Running => {}
    }
    result.count += i32::from(!error);
    result.consecutive_success = match phase {
        AnalysisPhase::Successful => result.consecutive_success + 1,
        _ => 0,
    };
    if error {
        waits(result, now);
    } else {
        answered(result);
    }
}

/// One error more in a row.
fn waits(result: &mut MetricResult, now: Timestamp) {
    result.consecutive_error += 1;
    result.metadata.entry(WAITING_SINCE.to_owned()).or_insert_with(|| format!("{now:.0}"));
}

/// No error is in a row any more.
pub(crate) fn answered(result: &mut MetricResult) {
    result.consecutive_error = 0;
    for key in [WAITING_SINCE, TIMEOUTS, RATE_LIMITED] {
        result.metadata.remove(key);
    }
}

/// Counts an error of a kind that has a policy of its own.
fn note_kind(result: &mut MetricResult, answer: &Answer<'_>) {
    let errors = [Some(answer.outcome), answer.events].into_iter().flatten();
    let kind = errors.into_iter().find_map(|outcome| match outcome {
        Outcome::Error(error) => Some(error.kind),
        _ => None,
    });
    let key = match kind {
        Some(ErrorKind::Timeout) => TIMEOUTS,
        Some(ErrorKind::RateLimited) => RATE_LIMITED,
        _ => return,
    };
    result.metadata.insert(key.to_owned(), (noted(result, key) + 1).to_string());
}

/// How many of the errors in a row are noted under a key.
pub(super) fn noted(result: &MetricResult, key: &str) -> i32 {
    result.metadata.get(key).and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// The sample as the status keeps it.
fn stored(sample: &Sample, secrets: &Secrets) -> crate::api::analysis_run::Sample {
    let numbers = |values: &[f64]| -> Vec<String> {
        values.iter().take(SHOWN_SERIES).map(|value| sample::number(*value)).collect()
    };
    let text = || vec![shorten(secrets.mask(sample.to_string()), SHOWN_TEXT)];
    let (kind, values) = match sample {
        Sample::Empty | Sample::Hollow(_) => (SampleKind::Empty, Vec::new()),
        Sample::Stale { newest, values: _ } => (SampleKind::Stale, vec![newest.to_string()]),
        Sample::Value(value) if value.is_nan() => (SampleKind::NaN, numbers(&[*value])),
        Sample::Value(value) => (SampleKind::Value, numbers(&[*value])),
        Sample::Series(values) => (SampleKind::Series, numbers(values)),
        Sample::Json(_) | Sample::Text(_) | Sample::Lines(_) => (SampleKind::Json, text()),
    };
    crate::api::analysis_run::Sample { kind, values, message: None }
}

/// The beginning of a long text.
pub(crate) fn shorten(mut text: String, most: usize) -> String {
    if text.len() > most {
        let end = (0..=most).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push_str("...");
    }
    text
}

/// What the provider of a measurement that is not finished needs to find it again; nothing in it when
/// nobody knows whether it was begun.
pub(crate) fn notes_of(result: &MetricResult) -> Option<BTreeMap<String, String>> {
    let last = result.measurements.last().filter(|last| last.finished_at.is_none())?;
    Some(last.metadata.clone())
}
