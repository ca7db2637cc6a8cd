//! What a release reads of a run: pass, fail, cannot tell, or wait, with the numbers.
//!
//! Never a pass on no data: a run that was ended before a metric had its measurements, or while a
//! metric had no data, is inconclusive here, although its phase is Argo's `Successful`.

use jiff::Timestamp;

use super::assess::{completed, decides, is_waited_for, own_end};
use super::measure::WAITING_SINCE;
use super::metric::{self, Checked, CheckedMetric, Rule};
use super::run::next;
use crate::api::analysis::OnError;
use crate::api::{self, AnalysisPhase, AnalysisRun, AnalysisRunStatus, MetricResult};

/// How the words of a run begin that waits for a Secret of an argument.
pub(super) const NO_SECRET: &str = "waiting for a Secret: ";

/// The answer of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Every deciding metric is good.
    Pass,
    /// A metric is bad.
    Fail {
        /// The numbers: `errors: 0.0731 > 0.01 in 3 of 3 measurements`. The query is with the
        /// measurements of the run: on an Event or a screen it would hide them.
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
    let reason = || status.reason.clone().unwrap_or_default();
    match (status.verdict, &status.reason) {
        (Some(api::Verdict::Pass), _) => Verdict::Pass,
        (Some(api::Verdict::Fail), Some(_)) => Verdict::Fail { reason: reason() },
        (Some(api::Verdict::Inconclusive), Some(_)) => Verdict::Inconclusive { reason: reason() },
        (Some(api::Verdict::Continue), Some(_)) => {
            Verdict::Continue { reason: reason(), since: since(status) }
        }
        // A status without its reason, as another version may have written it.
        (_, None) | (None, Some(_)) => match metric::check_shape(&run.spec) {
            Ok(checked) => of_status(run, &checked, status),
            Err(error) => Verdict::Inconclusive { reason: error.to_string() },
        },
    }
}

/// The same for a status that is about to be written.
pub(super) fn of_status(
    run: &AnalysisRun,
    checked: &Checked,
    status: &AnalysisRunStatus,
) -> Verdict {
    let message = || status.message.clone();
    match status.phase.unwrap_or_default() {
        AnalysisPhase::Pending | AnalysisPhase::Running => waiting(&checked.metrics, status),
        AnalysisPhase::Failed => {
            let rule = message().filter(|_| checked.rule != Rule::All);
            let numbers = failures(&checked.metrics, status);
            let parts: Vec<_> = rule.into_iter().chain(numbers).collect();
            let said = (!parts.is_empty()).then(|| parts.join(": ")).or_else(message);
            Verdict::Fail { reason: said.unwrap_or_else(|| "a metric failed".to_owned()) }
        }
        AnalysisPhase::Error | AnalysisPhase::Inconclusive => Verdict::Inconclusive {
            reason: message().unwrap_or_else(|| "the analysis cannot tell".to_owned()),
        },
        AnalysisPhase::Successful => match cut_off(run, checked, status) {
            None => Verdict::Pass,
            Some(reason) => Verdict::Inconclusive { reason },
        },
    }
}

/// Why a run that watches beside the steps tells nothing at this time. `None`: it sees, or it is over.
///
/// Of the metrics that decide, each is to have answered since it was due: a server that hangs is no
/// better than one that says nothing, and a release without pauses is done before its first answer.
/// `last`: no step comes after, so one that is not due yet (`initialDelay`) is to have answered too.
#[must_use]
pub fn blind(run: &AnalysisRun, last: bool, now: Timestamp) -> Option<String> {
    let begun = run.status.as_ref().filter(|status| status.started_at.is_some());
    let Some(status) = begun else { return Some("it has not begun".to_owned()) };
    if status.phase.is_some_and(completed) {
        return None;
    }
    let checked = metric::check_shape(&run.spec).ok()?;
    let unasked = MetricResult::default();
    let open: Vec<_> = checked
        .metrics
        .iter()
        .filter(|metric| decides(metric))
        .map(|metric| (metric, result_of(status, metric).unwrap_or(&unasked)))
        .filter(|(_, result)| !result.phase.is_some_and(completed))
        .collect();
    let no_data = open.iter().any(|(_, result)| result.consecutive_error > 0);
    let missing = status.missing.clone().filter(|why| no_data || why.starts_with(NO_SECRET));
    missing.or_else(|| {
        open.iter().find_map(|(metric, result)| owed(metric, result, status, last, now))
    })
}

/// The answer that a metric owes. A measurement that is under way (a Job) is one.
fn owed(
    metric: &CheckedMetric,
    result: &MetricResult,
    status: &AnalysisRunStatus,
    last: bool,
    now: Timestamp,
) -> Option<String> {
    let due = next(metric, result, status)?;
    match result.measurements.last() {
        None if last || due <= now => Some(format!("{}: no measurement yet", metric.name)),
        Some(measured) if measured.finished_at.is_some() && due <= now => {
            Some(format!("{}: no answer since {due:.0}", metric.name))
        }
        None | Some(_) => None,
    }
}

/// Since when a run waits: for data, else since its start.
fn since(status: &AnalysisRunStatus) -> Option<Timestamp> {
    let noted = status.metric_results.iter().filter_map(|r| r.metadata.get(WAITING_SINCE));
    let since = noted.filter_map(|text| text.parse::<Timestamp>().ok()).min();
    since.or_else(|| status.started_at.as_ref().map(|at| at.0))
}

/// Whether a run goes on until it is ended: of the metrics that it waits for, only such without a count
/// are open.
#[must_use]
pub fn is_endless(run: &AnalysisRun) -> bool {
    let Ok(Checked { metrics, .. }) = metric::check_shape(&run.spec) else { return false };
    let phase = |metric: &CheckedMetric| result_of(run.status.as_ref()?, metric)?.phase;
    let open = |metric: &&CheckedMetric| {
        is_waited_for(run, &metrics, metric) && !phase(metric).is_some_and(completed)
    };
    metrics.iter().filter(open).all(|metric| metric.count.is_none())
}

/// What to do about a metric that [never ends](never_ends).
pub const ENDLESS_REMEDY: &str = "write a count, or a timeout of the step or of its analysis, or let it watch beside \
     the steps (analysis)";

/// The sentence about a metric that [never ends](never_ends).
#[must_use]
pub fn endless_step(metric: &str) -> String {
    format!("the step would never end: its metric {metric:?} has no count")
}

/// The metric for which a run goes on until somebody ends it, where nobody does: a step waits for its own.
/// Argo refuses such a run too. A rule (`decide`) may be met without it, or may not.
#[must_use]
pub fn never_ends(run: &AnalysisRun) -> Option<String> {
    let Checked { metrics, .. } = metric::check_shape(&run.spec).ok()?;
    let endless = |metric: &&CheckedMetric| {
        let unbounded = metric.count.is_none() && metric.success_limit.is_none();
        unbounded && is_waited_for(run, &metrics, metric)
    };
    let endless = metrics.iter().find(endless).filter(|_| run.spec.timeout.is_none())?;
    Some(endless.name.clone())
}

fn result_of<'a>(
    status: &'a AnalysisRunStatus,
    metric: &CheckedMetric,
) -> Option<&'a MetricResult> {
    status.metric_results.iter().find(|result| result.name == metric.name)
}

fn waiting(metrics: &[CheckedMetric], status: &AnalysisRunStatus) -> Verdict {
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
    Verdict::Continue { reason, since: since(status) }
}

/// `errors: 2 of 5 measurements, last 0.003 <= 0.01`.
fn progress(metric: &CheckedMetric, result: Option<&MetricResult>) -> String {
    let done = result.map_or(0, |result| result.count);
    let of = metric.count.map(|count| format!(" of {count}")).unwrap_or_default();
    let last = result
        .and_then(|result| result.measurements.last()?.explanation.as_ref())
        .map(|text| format!(", last {text}"))
        .unwrap_or_default();
    format!("{}: {done}{of} measurements{last}", metric.name)
}

fn failures(metrics: &[CheckedMetric], status: &AnalysisRunStatus) -> Option<String> {
    let reasons: Vec<_> = metrics
        .iter()
        .filter(|metric| decides(metric))
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
        .and_then(|measurement| measurement.explanation.as_ref().or(measurement.message.as_ref()))
        .or(result.message.as_ref())
        .map_or("failed", String::as_str);
    if metric.compare.is_some() {
        // All ticks are one test.
        return format!("{}: {numbers}", metric.name);
    }
    format!("{}: {numbers} in {} of {} measurements", metric.name, result.failed, result.count)
}

/// Why a run that was ended from outside is no pass. With a rule the end has been decided by it.
fn cut_off(run: &AnalysisRun, checked: &Checked, status: &AnalysisRunStatus) -> Option<String> {
    let metrics = &checked.metrics;
    let mut evidence = !metrics.iter().any(decides);
    let mut gaps = Vec::new();
    for metric in metrics.iter().filter(|metric| decides(metric)) {
        let result = result_of(status, metric);
        let (count, errors) = result.map_or((0, 0), |r| (r.count, r.consecutive_error));
        evidence |= count > 0;
        let own = result.and_then(|result| own_end(metric, result));
        let passed_over = metric.on_error == OnError::Pass && errors > 0 && own.is_some();
        let by_itself = own == Some(AnalysisPhase::Successful);
        if by_itself || passed_over || !run.spec.terminate || checked.rule != Rule::All {
            continue;
        }
        if errors > 0 {
            let why = result.and_then(|r| r.message.as_deref()).unwrap_or("no data");
            gaps.push(format!("{}: ended while it had no data: {why}", metric.name));
        } else if let Some(of) = metric.count {
            gaps.push(format!("{}: ended after {count} of {of} measurements", metric.name));
        } else if count == 0 {
            gaps.push(format!("{}: ended before its first measurement", metric.name));
        }
    }
    match (gaps.is_empty(), evidence) {
        (true, true) => None,
        (true, false) => Some("no metric had any data".to_owned()),
        (false, _) => Some(gaps.join("; ")),
    }
}
