//! From the ends of the metrics to the end of the run.
//!
//! Without `decide` Argo's rule: the worst deciding metric, and a bad one ends its siblings. With
//! it, as soon as enough metrics are good, or as no longer enough can be. A critical metric has to
//! be good in any case.

use super::assess::{self, Assessed, completed, decides, own_end};
use super::metric::{Checked, CheckedMetric, Rule};
use crate::api::{AnalysisPhase, MetricResult};

/// A metric, what was found, and how it stands.
pub(crate) type Row<'a> = (&'a CheckedMetric, &'a MetricResult);

/// The end of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) phase: AnalysisPhase,
    pub(crate) message: Option<String>,
}

/// Whether nothing more has to be measured: a metric has failed, or the rule is decided.
pub(crate) fn is_certain(checked: &Checked, rows: &[Row<'_>]) -> bool {
    let bad = |(metric, result): &Row<'_>| {
        let end = own_end(metric, result);
        decides(metric) && end.is_some_and(|phase| phase != AnalysisPhase::Successful)
    };
    match checked.rule {
        Rule::All => rows.iter().any(bad),
        Rule::AtLeast(_) | Rule::Score(_) => {
            rows.iter().any(|row| row.0.critical && bad(row))
                || by_rule(checked, rows, false).is_some()
        }
    }
}

/// The end by the rule, when it is certain. `ended`: nothing more will be measured, so that endless
/// metrics without a failure are good.
pub(crate) fn by_rule(checked: &Checked, rows: &[Row<'_>], ended: bool) -> Option<End> {
    let share = |metric: &CheckedMetric| match checked.rule {
        Rule::All | Rule::AtLeast(_) => 1,
        Rule::Score(_) => metric.weight,
    };
    let (mut all, mut good, mut bad, mut failed, mut critical_open) = (0, 0, 0, 0, false);
    for (metric, result) in rows.iter().filter(|(metric, _)| decides(metric)) {
        let share = share(metric);
        all += share;
        let endless = ended && metric.count.is_none();
        let end = own_end(metric, result).or_else(|| {
            let held = endless && result.count > 0 && result.consecutive_error == 0;
            held.then_some(AnalysisPhase::Successful)
        });
        match end {
            Some(AnalysisPhase::Successful) => good += share,
            Some(phase) => {
                bad += share;
                failed += if phase == AnalysisPhase::Failed { share } else { 0 };
            }
            None => {}
        }
        critical_open |= metric.critical && end != Some(AnalysisPhase::Successful);
    }
    let needed = match checked.rule {
        Rule::All => return None,
        Rule::AtLeast(least) => least,
        // Rounded up: 50% of 3 are 2.
        Rule::Score(percent) => (all * percent + 99) / 100,
    };
    let said = match checked.rule {
        Rule::Score(percent) => {
            format!("score {good} of {all}, {percent}% ({needed}) needed, {bad} bad")
        }
        Rule::All | Rule::AtLeast(_) => {
            format!("{good} good and {bad} bad of {all}, {needed} needed")
        }
    };
    if good >= needed && !critical_open {
        return Some(End { phase: AnalysisPhase::Successful, message: Some(said) });
    }
    // What has no data might have been good: it never fails a release.
    let phase = if all - failed < needed { AnalysisPhase::Failed } else { worst_but_failed(rows) };
    (all - bad < needed).then_some(End { phase, message: Some(said) })
}

/// The phase of a run whose rule cannot be met any more, and not because metrics failed.
fn worst_but_failed(rows: &[Row<'_>]) -> AnalysisPhase {
    let ends = rows.iter().filter(|(metric, _)| decides(metric));
    ends.filter_map(|(metric, result)| own_end(metric, result))
        .filter(|phase| *phase != AnalysisPhase::Failed)
        .max_by_key(|phase| assess::gravity(*phase))
        .filter(|phase| *phase != AnalysisPhase::Successful)
        .unwrap_or(AnalysisPhase::Inconclusive)
}

/// The end of a run all of whose metrics have ended.
pub(crate) fn of_all(
    checked: &Checked,
    rows: &[Row<'_>],
    ends: &[Assessed],
    terminated: bool,
) -> End {
    let critical = worst(rows, ends, |metric| metric.critical);
    let end = match (checked.rule, critical) {
        (Rule::AtLeast(_) | Rule::Score(_), None) => by_rule(checked, rows, true).or_else(|| {
            let message = "no verdict: too few metrics have ended".to_owned();
            Some(End { phase: AnalysisPhase::Inconclusive, message: Some(message) })
        }),
        (_, Some(end)) => Some(end),
        (Rule::All, None) => worst(rows, ends, |_| true),
    };
    end.unwrap_or_else(|| End {
        phase: AnalysisPhase::Successful,
        message: terminated.then(|| "Run Terminated".to_owned()),
    })
}

/// The end of the worst deciding metric that is not good, the first of several.
fn worst(
    rows: &[Row<'_>],
    ends: &[Assessed],
    which: impl Fn(&CheckedMetric) -> bool,
) -> Option<End> {
    let mut worst: Option<(&Row<'_>, &Assessed)> = None;
    for (row, end) in rows.iter().zip(ends) {
        let graver =
            worst.is_none_or(|(_, w)| assess::gravity(end.phase) > assess::gravity(w.phase));
        let bad = completed(end.phase) && end.phase != AnalysisPhase::Successful;
        if decides(row.0) && which(row.0) && bad && graver {
            worst = Some((row, end));
        }
    }
    worst.map(|((metric, result), end)| End {
        phase: end.phase,
        message: Some(assess::limit_message(Some(&metric.name), end, result.message.as_deref())),
    })
}
