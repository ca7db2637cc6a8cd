//! Kayenta's judge `NetflixACAJudge-v1.0`: the same labels and scores from the same series.
//!
//! Reads Kayenta's canary config JSON unchanged. Two switches, both off, mend what Kayenta gets
//! wrong: `relativeTolerance` and `failClosedErrors` under `judge.judgeConfigurations`, which a
//! Kayenta server does not look at. What of Kayenta's own ways decided a judgement is named in the
//! report as [`Quirk`]s. Refuses other judges, and series without a metric in the config.
//!
//! Read `config`, then [`query`], [`mix`], `transform`, `classify` and `score` in the order of
//! the judgement.

mod classify;
mod config;
mod mix;
mod query;
mod quirk;
mod score;
mod transform;

use std::collections::BTreeMap;

use serde::Serialize;

pub use classify::{Interval, Label, MetricReport};
pub use config::{CanaryConfig, Classifier, JudgeConfig, KayentaMetric, Switches, Thresholds};
pub use mix::{MixError, TaggedSeries, mix};
pub use query::{ArmQuery, QueryConfigError, Scope, query};
pub use quirk::{Quirk, QuirkKind};
pub use score::{GroupScore, Score, ScoreLabel};
pub use transform::Statistics;

use config::{Reader, Settings};

/// The judge that is reproduced.
pub const JUDGE: &str = "NetflixACAJudge-v1.0";

/// What can not be judged at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KayentaError {
    /// The JSON is not a canary config.
    #[error("not a Kayenta canary config: {0}; export it from Kayenta with GET /canaryConfig/ID")]
    Unreadable(String),
    /// Another judge.
    #[error("judge.name is {0:?}; only {JUDGE} is understood")]
    OtherJudge(String),
    /// A series of a metric that is not configured.
    #[error("could not find metric config for {0:?}; add it to metrics of the canary config")]
    UnknownMetric(String),
    /// Fences without a width.
    #[error(
        "metric {metric:?}: canary.outliers.outlierFactor is {factor}; write one above 0, or strategy: keep"
    )]
    OutlierFactor {
        /// Its metric.
        metric: String,
        /// As text, so that errors compare.
        factor: String,
    },
    /// Scores that no judgement can reach in this order.
    #[error("scoreThresholds: marginal {marginal} is above pass {pass}; lower it")]
    Thresholds {
        /// As text, so that errors compare.
        pass: String,
        /// As text, so that errors compare.
        marginal: String,
    },
}

/// The two series of one metric, a value for each time step.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SeriesPair {
    /// The metric's name in the config.
    pub metric: String,
    /// What tells several pairs of one metric apart.
    pub tags: BTreeMap<String, String>,
    /// The baseline; NaN where there is no value.
    pub control: Vec<f64>,
    /// The canary; NaN where there is no value.
    pub experiment: Vec<f64>,
}

/// A judgement.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Always [`JUDGE`].
    pub judge_name: &'static str,
    /// The score and its label.
    pub score: Score,
    /// The groups' scores, by name.
    pub group_scores: Vec<GroupScore>,
    /// Each metric, in the order of the series.
    pub results: Vec<MetricReport>,
    /// Which of Kayenta's own ways decided something.
    pub kayenta_quirks: Vec<Quirk>,
}

/// Judges all series by a canary config.
///
/// # Errors
/// When the config names another judge or a series has no metric in it.
pub fn judge(
    config: &CanaryConfig,
    thresholds: Thresholds,
    pairs: &[SeriesPair],
) -> Result<Report, KayentaError> {
    config.check(thresholds)?;
    let switches = config.switches();
    let mut results = Vec::new();
    let mut kayenta_quirks = Vec::new();
    for pair in pairs {
        let metric = config.metric(&pair.metric)?;
        let groups = metric.groups.clone();
        let report = judge_one(metric.canary(), pair, groups, switches, &mut kayenta_quirks);
        results.push(report);
    }
    let scored = score::score(&results, &config.group_weights(), thresholds, switches);
    kayenta_quirks.extend(scored.quirks);
    Ok(Report {
        judge_name: JUDGE,
        score: scored.score,
        group_scores: scored.groups,
        results,
        kayenta_quirks,
    })
}

/// Judges one metric by the `canary` object of a metric's `analysisConfigurations`.
#[must_use]
pub fn judge_metric(
    canary: Option<&serde_json::Value>,
    pair: &SeriesPair,
    switches: Switches,
) -> (MetricReport, Vec<Quirk>) {
    let mut quirks = Vec::new();
    let report = judge_one(canary, pair, Vec::new(), switches, &mut quirks);
    (report, quirks)
}

fn judge_one(
    canary: Option<&serde_json::Value>,
    pair: &SeriesPair,
    groups: Vec<String>,
    switches: Switches,
    quirks: &mut Vec<Quirk>,
) -> MetricReport {
    let mut reader = Reader::new(canary);
    let settings = Settings::read(&mut reader);
    quirks.extend(reader.unknown.into_iter().map(|message| Quirk {
        kind: QuirkKind::UnknownSetting,
        metric: Some(pair.metric.clone()),
        group: None,
        message,
    }));
    let control = transform::transform(&pair.control, &settings);
    let experiment = transform::transform(&pair.experiment, &settings);
    let judged = classify::classify(&pair.metric, &control, &experiment, &settings, switches);
    quirks.extend(judged.quirks);
    MetricReport {
        name: pair.metric.clone(),
        tags: pair.tags.clone(),
        groups,
        muted: settings.muted,
        control: Statistics::of(&control),
        experiment: Statistics::of(&experiment),
        ..judged.report
    }
}

#[cfg(test)]
mod port;
#[cfg(test)]
mod tests;
