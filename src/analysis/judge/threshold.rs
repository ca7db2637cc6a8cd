//! Success and failure conditions on one answer, with Argo's truth table.
//!
//! Data and its absence: an empty result and NaN are never compared with a number. They are an
//! `Error` of the measurement with a message of their own, unless the metric's policy or its own
//! condition (by `len`, `default`, `isNil`, `== nil`, `??`, `isNaN`) says what they mean. Argo compares
//! NaN, so that `result > x` as failure condition passes on no data.

use std::borrow::Cow;

use super::Judged;
use crate::analysis::condition::Condition;
use crate::analysis::metric::CheckedMetric;
use crate::analysis::sample::{Absence, Outcome, Sample};
use crate::api::AnalysisPhase;
use crate::api::analysis::NoData;

/// Judges one answer.
pub(super) fn judge(metric: &CheckedMetric, outcome: &Outcome) -> Judged {
    let sample = match outcome {
        Outcome::Error(error) => return error_of(error.to_string()),
        Outcome::Running { .. } => return Judged { phase: AnalysisPhase::Running, message: None },
        Outcome::Ended { phase, message, notes: _ } => {
            return Judged { phase: *phase, message: message.clone() };
        }
        Outcome::Answer { sample, warnings: _ } => sample,
    };
    let sample = &*seen(metric, sample);
    if let Some(absence) = sample.absence() {
        let policy = match absence {
            Absence::Empty | Absence::Nil => metric.no_data,
            Absence::Stale(_) => metric.on_stale,
            Absence::NaN => metric.on_nan,
        };
        if !judged_all_the_same(metric, policy, absence) {
            return no_data(policy, absence.to_string());
        }
    }
    match conditions(metric, sample) {
        Ok(phase) => Judged { phase, message: None },
        Err(message) => error_of(message),
    }
}

fn error_of(message: String) -> Judged {
    Judged { phase: AnalysisPhase::Error, message: Some(message) }
}

/// What is judged: of series that have ended their values, where that was asked for.
fn seen<'a>(metric: &CheckedMetric, sample: &'a Sample) -> Cow<'a, Sample> {
    match sample {
        Sample::Stale { values, newest: _ } if metric.on_stale == NoData::Judge => {
            Cow::Owned(Sample::from_series(values.clone()))
        }
        _ => Cow::Borrowed(sample),
    }
}

/// What a measurement without data is, as its policy says; `why` in a few words.
pub(super) fn no_data(policy: NoData, why: String) -> Judged {
    let phase = match policy {
        NoData::Wait | NoData::Judge => AnalysisPhase::Error,
        NoData::Inconclusive => AnalysisPhase::Inconclusive,
        NoData::Pass => AnalysisPhase::Successful,
        NoData::Fail => AnalysisPhase::Failed,
    };
    Judged { phase, message: Some(format!("no data: {why}")) }
}

/// The conditions are asked: with `Judge` always, without a policy when one of them names this
/// absence.
fn judged_all_the_same(metric: &CheckedMetric, policy: NoData, absence: Absence) -> bool {
    match policy {
        NoData::Judge => true,
        NoData::Wait => handled(metric, absence),
        NoData::Inconclusive | NoData::Pass | NoData::Fail => false,
    }
}

/// Some condition names this absence, so that its author has thought of it.
fn handled(metric: &CheckedMetric, absence: Absence) -> bool {
    let conditions = [&metric.success, &metric.failure];
    conditions.into_iter().flatten().any(|condition| condition.handles(absence))
}

/// Argo's table: failure wins, neither is `Inconclusive`, no condition at all is `Successful`.
fn conditions(metric: &CheckedMetric, sample: &Sample) -> Result<AnalysisPhase, String> {
    let success = holds(metric.success.as_ref(), "successCondition", sample)?;
    let failure = holds(metric.failure.as_ref(), "failureCondition", sample)?;
    Ok(match (success, failure) {
        (_, Some(true)) | (Some(false), None) => AnalysisPhase::Failed,
        (Some(false), Some(false)) => AnalysisPhase::Inconclusive,
        (Some(true) | None, Some(false) | None) => AnalysisPhase::Successful,
    })
}

fn holds(
    condition: Option<&Condition>,
    field: &str,
    sample: &Sample,
) -> Result<Option<bool>, String> {
    let Some(condition) = condition else { return Ok(None) };
    condition.holds(sample).map(Some).map_err(|error| {
        let empty = match sample.absence() {
            Some(Absence::Empty | Absence::Nil) => {
                ": metric result is nil or empty: no data returned from the metric provider"
            }
            Some(Absence::NaN | Absence::Stale(_)) | None => "",
        };
        format!("could not evaluate {field} {:?}: {error}{empty}", condition.text())
    })
}

/// The numbers of a measurement: `0.0731 > 0.01`. The failure condition speaks first where it
/// holds.
pub(crate) fn explain(metric: &CheckedMetric, sample: &Sample) -> String {
    let sample = &*seen(metric, sample);
    if let Some(absence) = sample.absence() {
        return absence.to_string();
    }
    let failed = metric.failure.as_ref().filter(|c| c.holds(sample) == Ok(true));
    if let Some(failure) = failed {
        return failure.explain(sample, true);
    }
    let condition = metric.success.as_ref().or(metric.failure.as_ref());
    match condition.map(|c| (c, c.holds(sample))) {
        Some((condition, Ok(holds))) => condition.explain(sample, holds),
        Some((_, Err(_))) | None => sample.to_string(),
    }
}
