//! What a release reads of a run: pass, fail, cannot tell, or wait, with the numbers.
//!
//! Never a pass on no data: a run that was ended before a metric had its measurements, or while a
//! metric had no data, is inconclusive here, although its phase is Argo's `Successful`.

use jiff::Timestamp;

use super::assess::{self, completed};
use super::judge::threshold::explain;
use super::metric::{self, CheckedMetric};
use super::run::WAITING_SINCE;
use super::sample::Sample;
use crate::api::analysis_run::SampleKind;
use crate::api::{AnalysisPhase, AnalysisRun, AnalysisRunStatus, MetricResult};

/// The answer of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Every deciding metric is good.
    Pass,
    /// A metric is bad.
    Fail {
        /// The numbers: `errors: 0.0731 > 0.01 in 3 of 3 measurements; query ...`.
        reason: String,
    },
    /// It cannot be told; the release holds.
    Inconclusive {
        /// What is missing.
        reason: String,
    },
    /// Not known yet.
    Continue {
        /// What is waited for.
        reason: String,
        /// Since when.
        since: Option<Timestamp>,
    },
}

impl Verdict {
    /// The verdict in one word, as in the API.
    #[must_use]
    pub fn kind(&self) -> crate::api::Verdict {
        match self {
            Self::Pass => crate::api::Verdict::Pass,
            Self::Fail { .. } => crate::api::Verdict::Fail,
            Self::Inconclusive { .. } => crate::api::Verdict::Inconclusive,
            Self::Continue { .. } => crate::api::Verdict::Continue,
        }
    }

    /// The reason; nothing for a pass.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::Pass => "",
            Self::Fail { reason }
            | Self::Inconclusive { reason }
            | Self::Continue { reason, since: _ } => reason,
        }
    }
}

/// What a run says, from its status.
#[must_use]
pub fn verdict(run: &AnalysisRun) -> Verdict {
    let Some(status) = &run.status else {
        return Verdict::Continue {
            reason: "the analysis has not started".to_owned(),
            since: None,
        };
    };
    match metric::check(&run.spec) {
        Ok(metrics) => of_status(run, &metrics, status),
        Err(error) => Verdict::Inconclusive { reason: error.to_string() },
    }
}

/// The same for a status that is about to be written.
pub(super) fn of_status(
    run: &AnalysisRun,
    metrics: &[CheckedMetric],
    status: &AnalysisRunStatus,
) -> Verdict {
    let message = || status.message.clone();
    match status.phase.unwrap_or_default() {
        AnalysisPhase::Pending | AnalysisPhase::Running => waiting(metrics, status),
        AnalysisPhase::Failed => Verdict::Fail {
            reason: failures(metrics, status)
                .or_else(message)
                .unwrap_or_else(|| "a metric failed".to_owned()),
        },
        AnalysisPhase::Error | AnalysisPhase::Inconclusive => Verdict::Inconclusive {
            reason: message().unwrap_or_else(|| "the analysis cannot tell".to_owned()),
        },
        AnalysisPhase::Successful => match cut_off(run, metrics, status) {
            None => Verdict::Pass,
            Some(reason) => Verdict::Inconclusive { reason },
        },
    }
}

fn result_of<'a>(
    status: &'a AnalysisRunStatus,
    metric: &CheckedMetric,
) -> Option<&'a MetricResult> {
    status.metric_results.iter().find(|result| result.name == metric.name)
}

fn waiting(metrics: &[CheckedMetric], status: &AnalysisRunStatus) -> Verdict {
    let since = metrics
        .iter()
        .filter_map(|metric| result_of(status, metric)?.metadata.get(WAITING_SINCE))
        .filter_map(|text| text.parse::<Timestamp>().ok())
        .min();
    let started = status.started_at.as_ref().map(|at| at.0);
    let reason = status.missing.clone().unwrap_or_else(|| {
        let open: Vec<_> = metrics
            .iter()
            .filter_map(|metric| {
                let result = result_of(status, metric);
                let open = !result.and_then(|r| r.phase).is_some_and(completed);
                open.then(|| progress(metric, result))
            })
            .collect();
        format!("measuring: {}", open.join("; "))
    });
    Verdict::Continue { reason, since: since.or(started) }
}

/// `errors: 2 of 5 measurements, last 0.003 <= 0.01`.
fn progress(metric: &CheckedMetric, result: Option<&MetricResult>) -> String {
    let done = result.map_or(0, |result| result.count);
    let of = metric.count.map(|count| format!(" of {count}")).unwrap_or_default();
    let last = result
        .and_then(|result| sample(result.measurements.last()?.sample.as_ref()?))
        .map(|sample| format!(", last {}", explain(metric, &sample)))
        .unwrap_or_default();
    format!("{}: {done}{of} measurements{last}", metric.name)
}

fn failures(metrics: &[CheckedMetric], status: &AnalysisRunStatus) -> Option<String> {
    let reasons: Vec<_> = metrics
        .iter()
        .filter(|metric| assess::decides(metric, AnalysisPhase::Failed))
        .filter_map(|metric| {
            let result = result_of(status, metric)?;
            (result.phase == Some(AnalysisPhase::Failed)).then(|| failure(metric, result))
        })
        .collect();
    (!reasons.is_empty()).then(|| reasons.join("; "))
}

fn failure(metric: &CheckedMetric, result: &MetricResult) -> String {
    let failed = result.measurements.iter().rev().find(|m| m.phase == Some(AnalysisPhase::Failed));
    let numbers = failed
        .and_then(|measurement| sample(measurement.sample.as_ref()?))
        .map_or_else(|| "failed".to_owned(), |sample| explain(metric, &sample));
    format!(
        "{}: {numbers} in {} of {} measurements; query {}",
        metric.name, result.failed, result.count, metric.query
    )
}

/// Why a run that was ended from outside is no pass.
fn cut_off(
    run: &AnalysisRun,
    metrics: &[CheckedMetric],
    status: &AnalysisRunStatus,
) -> Option<String> {
    let mut evidence = metrics.iter().all(|metric| metric.dry_run);
    let mut gaps = Vec::new();
    for metric in metrics.iter().filter(|metric| !metric.dry_run) {
        let result = result_of(status, metric);
        if result.is_some_and(|r| r.phase == Some(AnalysisPhase::Error)) {
            continue;
        }
        let (count, errors) = result.map_or((0, 0), |r| (r.count, r.consecutive_error));
        let by_itself = result.is_some_and(|result| {
            let unended = MetricResult { phase: None, ..result.clone() };
            assess::metric(metric, &unended, false).phase == AnalysisPhase::Successful
        });
        if !by_itself && run.spec.terminate {
            if errors > 0 {
                let why = result.and_then(|r| r.message.as_deref()).unwrap_or("no data");
                gaps.push(format!("{}: ended while it had no data: {why}", metric.name));
            } else if let Some(of) = metric.count {
                gaps.push(format!("{}: ended after {count} of {of} measurements", metric.name));
            } else if count == 0 {
                gaps.push(format!("{}: ended before its first measurement", metric.name));
            }
        }
        evidence |= count > 0;
    }
    match (gaps.is_empty(), evidence) {
        (true, true) => None,
        (true, false) => Some("no metric had any data".to_owned()),
        (false, _) => Some(gaps.join("; ")),
    }
}

/// The sample that the status keeps.
fn sample(stored: &crate::api::analysis_run::Sample) -> Option<Sample> {
    let values: Vec<f64> = stored.values.iter().filter_map(|text| text.parse().ok()).collect();
    Some(match stored.kind {
        SampleKind::Empty => Sample::Empty,
        SampleKind::Value | SampleKind::NaN => Sample::Value(*values.first()?),
        SampleKind::Series => Sample::from_series(values),
        SampleKind::Error => return None,
    })
}
