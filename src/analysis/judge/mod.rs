//! Judges: from one answer to the phase of one measurement. The seam behind which stronger judges
//! (canary against stable) come; each sees a checked metric and an outcome and nothing else.

pub mod kayenta;
pub mod sequential;
pub mod threshold;

use super::metric::CheckedMetric;
use super::sample::Outcome;
use crate::api::AnalysisPhase;

/// What a judge says of one answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// `Successful`, `Failed`, `Inconclusive` or `Error`.
    pub phase: AnalysisPhase,
    /// Why it is no data or an error; nothing for an answer that was judged.
    pub message: Option<String>,
}

/// Judges one answer by the metric's judge.
#[must_use]
pub fn judge(metric: &CheckedMetric, outcome: &Outcome) -> Judged {
    threshold::judge(metric, outcome)
}

/// What a measurement without data is for the metric.
#[must_use]
pub(super) fn no_data(metric: &CheckedMetric, why: String) -> Judged {
    threshold::no_data(metric.no_data, why)
}
