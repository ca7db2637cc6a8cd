//! The numbers behind a promotion: the worst of what its analyses measured.

use std::collections::BTreeMap;

use crate::api::AnalysisRun;

/// `error-share at most 0.003, p95-seconds at most 0.048 in 19 measurements`, of the metrics of all
/// runs of a Rollout's release.
pub fn worst(runs: &[AnalysisRun], rollout: &str) -> String {
    let own = runs
        .iter()
        .filter(|run| run.spec.release.as_ref().is_some_and(|r| r.rollout == rollout))
        .filter_map(|run| run.status.as_ref());
    let mut metrics = BTreeMap::<&str, (f64, usize)>::new();
    for result in own.flat_map(|status| &status.metric_results) {
        let values = result.measurements.iter().filter_map(|m| number(m.value.as_deref()?));
        for value in values {
            let (worst, count) = metrics.entry(&result.name).or_insert((value, 0));
            *worst = worst.max(value);
            *count += 1;
        }
    }
    let count = metrics.values().map(|(_, count)| count).sum::<usize>();
    if count == 0 {
        return "every step passed".to_owned();
    }
    let parts: Vec<String> =
        metrics.iter().map(|(name, (worst, _))| format!("{name} at most {worst:.3}")).collect();
    format!("{} in {count} measurements", parts.join(", "))
}

/// The number in `0.25` or `[0.25]`.
fn number(text: &str) -> Option<f64> {
    text.trim_matches(['[', ']']).parse().ok()
}
