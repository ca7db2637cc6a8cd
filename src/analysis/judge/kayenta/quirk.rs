//! Kayenta's own ways that decided something and that its documentation does not say.

use serde::Serialize;

/// One of Kayenta's ways, where it decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Quirk {
    /// Which.
    pub kind: QuirkKind,
    /// In which metric.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric: Option<String>,
    /// In which group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// What happened, with the numbers.
    pub message: String,
}

/// Kayenta's ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum QuirkKind {
    /// A setting that is not understood is taken for its default without a word.
    UnknownSetting,
    /// The shift is significant, but the interval reaches nearer to 0 than a quarter of it.
    IntervalNearZero,
    /// Another label than with a tolerance that follows the unit.
    AbsoluteTolerance,
    /// A mean is 0, so that the limits of the effect are skipped.
    EffectSkipped,
    /// Both arms are constant: noise was added to them, and it decides.
    NoiseAdded,
    /// One side has no data and `nanStrategy` is `replace`: passed.
    MissingPassed,
    /// The judgement failed and does not count.
    ErrorIgnored,
    /// No data in a metric that is not critical does not count.
    NodataIgnored,
    /// No metric of the group could be judged: it counts as 100.
    EmptyGroupCounts100,
    /// A group with a weight has no metric: its share of the score is lost.
    AbsentGroupWeightLost,
    /// Muted metrics are not counted among those that lack data.
    MutedNotCounted,
}
