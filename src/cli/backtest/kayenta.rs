//! A template's metrics that Kayenta judges, on history: its queries, what they are about, and how many
//! of its judgements a window has room for.

use jiff::SignedDuration;
use serde_json::Value;

use crate::analysis::arms::Arm;
use crate::analysis::backtest::{Asked, Rule, RuleError};
use crate::analysis::kayenta::CheckedKayenta;
use crate::analysis::metric::CheckedMetric;

/// The queries of both arms, ready to be asked.
///
/// # Errors
/// Why one cannot be replayed.
pub(super) fn rules(
    judged: &CheckedKayenta,
    pod_label: &str,
    all: &mut Vec<Asked>,
) -> Result<Vec<Rule>, RuleError> {
    judged.arms().map(|(arm, text, _)| Rule::of_arm(text, arm, pod_label, all)).collect()
}

/// Name and query of each metric of the canary, and whether little of it is good.
pub(super) fn measured(judged: &CheckedKayenta) -> impl Iterator<Item = (&str, &str, bool)> {
    judged.arms().filter(|(arm, ..)| *arm == Arm::Canary).map(|(_, text, metric)| {
        let direction = metric.analysis_configurations.pointer("/canary/direction");
        let falls = direction.and_then(Value::as_str) == Some("decrease");
        (metric.name.as_str(), text, !falls)
    })
}

/// What to write where a window is too short for the last judgement, which alone asks for a pass.
pub(super) fn too_short(metric: &CheckedMetric, window: SignedDuration) -> Option<String> {
    let first = metric.initial_delay.unwrap_or_default();
    let interval = metric.interval.filter(|interval| interval.is_positive())?;
    let count = metric.count.and_then(|count| i32::try_from(count).ok())?;
    let needed = first.saturating_add(interval.saturating_mul(count.saturating_sub(1)));
    (needed > window).then(|| {
        let fit = (window - first).as_secs().div_euclid(interval.as_secs()) + 1;
        format!(
            "{} of the {count} judgements of {} lie within a window: --window {needed:#} has all",
            fit.max(0),
            metric.name
        )
    })
}
