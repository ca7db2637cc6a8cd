//! One chance of error for a release, however many runs look at it: what a run may spend, and how it
//! goes on with the evidence of the run before.

use super::super::judge::sequential::MetricState;
use crate::api::{AnalysisRun, AnalysisRunSpec, AnalysisRunStatus, MetricResult};
use crate::stats::combine::level_of_try;

/// The chance that a good release is failed, unless the template says otherwise.
const RISK: f64 = 0.01;

/// The chance with which this run may fail a good release.
///
/// The risk is that of the release: lines of runs that look at it at the same time divide it. A line
/// begins its evidence anew only after it has failed the release, so that the chance of ever failing
/// a good one is that of the first try; the tries after it have less and less.
pub(in crate::analysis) fn level(spec: &AnalysisRunSpec) -> f64 {
    let text = spec.risk.as_deref().and_then(|text| text.strip_suffix('%'));
    let risk = text.and_then(|text| text.parse::<f64>().ok()).map(|percent| percent / 100.0);
    let risk = risk.filter(|risk| *risk > 0.0 && *risk < 1.0).unwrap_or(RISK);
    let number = |of: fn(&crate::api::analysis_run::RunRelease) -> Option<i32>| {
        spec.release.as_ref().and_then(of).and_then(|n| u32::try_from(n).ok()).unwrap_or(1).max(1)
    };
    let shared = risk / f64::from(number(|release| release.lines));
    match number(|release| release.tries) {
        1 => shared,
        tries => level_of_try(shared, tries),
    }
}

/// The status with which `run` begins when it goes on with the evidence of `before`: that of each
/// comparison that both have. Evidence against the canary goes on; that it is harmless every run
/// shows by itself.
#[must_use]
pub fn continued(run: &AnalysisRun, before: &AnalysisRun) -> AnalysisRunStatus {
    let known = before.status.as_ref().map(|status| status.metric_results.as_slice());
    let carried = |metric: &crate::api::Metric| {
        let same = before.spec.metrics.iter().find(|other| other.name == metric.name)?;
        let result = known?.iter().find(|result| result.name == metric.name)?;
        if metric.compare.is_none() || same != metric {
            return None;
        }
        let mut state = MetricState::restore(result.checkpoint.as_deref()?).ok()?;
        state.carry_on();
        let checkpoint = state.checkpoint().ok();
        Some(MetricResult { name: metric.name.clone(), checkpoint, ..MetricResult::default() })
    };
    AnalysisRunStatus {
        metric_results: run.spec.metrics.iter().filter_map(carried).collect(),
        ..AnalysisRunStatus::default()
    }
}
