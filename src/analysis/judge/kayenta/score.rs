//! From labels to groups, to one score, to its label.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::classify::{Label, MetricReport};
use super::config::{Switches, Thresholds};
use super::quirk::{Quirk, QuirkKind};

/// This share of metrics without data makes the score 0.
const NODATA_PERCENT: f64 = 50.0;

/// A group's score.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupScore {
    /// The group.
    pub name: String,
    /// 100 x passed / judged; 0 when none was judged.
    pub score: f64,
    /// No metric was judged.
    pub no_data: bool,
}

/// The label of a score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum ScoreLabel {
    /// At least `pass`.
    Pass,
    /// At least `marginal`.
    Marginal,
    /// Less.
    Fail,
}

/// The score of a judgement.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Score {
    /// 0 to 100, to two decimals.
    pub score: f64,
    /// Its label.
    pub classification: ScoreLabel,
    /// Why it is 0 in spite of the groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// It is 0 for want of data and of nothing else.
    #[serde(skip)]
    pub no_data: bool,
}

pub(super) struct Scored {
    pub score: Score,
    pub groups: Vec<GroupScore>,
    pub quirks: Vec<Quirk>,
}

/// Scores the metrics that are not muted.
pub(super) fn score(
    results: &[MetricReport],
    weights: &BTreeMap<String, f64>,
    thresholds: Thresholds,
    switches: Switches,
) -> Scored {
    let heard: Vec<&MetricReport> = results.iter().filter(|result| !result.muted).collect();
    let groups = groups(&heard, switches);
    let mut quirks = Vec::new();
    let failed = heard.iter().find(|result| result.critical && result.label != Label::Pass);
    let missing = heard.iter().filter(|result| result.label == Label::Nodata).count();
    let mut no_data = false;
    let (score, reason) = if let Some(result) = failed {
        let why = result.reason.as_deref().unwrap_or("no reason");
        no_data = heard
            .iter()
            .filter(|r| r.critical)
            .all(|r| matches!(r.label, Label::Pass | Label::Nodata));
        (0.0, Some(format!("Canary Failed: {why}")))
    } else if missing as f64 / heard.len() as f64 * 100.0 >= NODATA_PERCENT {
        no_data = true;
        let why = format!("{NODATA_PERCENT}% or more metrics returned NODATA");
        (0.0, Some(format!("Canary Failed: {why}")))
    } else {
        quirks = of_metrics(results, missing, switches);
        (summary(&groups, weights, &mut quirks), None)
    };
    let classification = if score >= thresholds.pass {
        ScoreLabel::Pass
    } else if score >= thresholds.marginal {
        ScoreLabel::Marginal
    } else {
        ScoreLabel::Fail
    };
    Scored { score: Score { score, classification, reason, no_data }, groups, quirks }
}

fn groups(heard: &[&MetricReport], switches: Switches) -> Vec<GroupScore> {
    let mut labels: BTreeMap<&str, Vec<Label>> = BTreeMap::new();
    for result in heard {
        for group in &result.groups {
            labels.entry(group).or_default().push(result.label);
        }
    }
    let group = |(name, labels): (&str, Vec<Label>)| {
        let judged = labels.iter().filter(|label| counts(**label, switches)).count();
        let passed = labels.iter().filter(|label| **label == Label::Pass).count();
        let no_data = judged == 0;
        let score = if no_data { 0.0 } else { passed as f64 / judged as f64 * 100.0 };
        GroupScore { name: name.to_owned(), score, no_data }
    };
    labels.into_iter().map(group).collect()
}

fn counts(label: Label, switches: Switches) -> bool {
    match label {
        Label::Pass | Label::High | Label::Low | Label::NodataFailMetric => true,
        Label::Nodata => false,
        Label::Error => switches.fail_closed_errors,
    }
}

/// The sum over the groups; a group without a weight shares what the weights leave of 100.
fn summary(groups: &[GroupScore], weights: &BTreeMap<String, f64>, quirks: &mut Vec<Quirk>) -> f64 {
    let present: BTreeSet<&str> = groups.iter().map(|group| group.name.as_str()).collect();
    let unweighted = present.iter().filter(|name| !weights.contains_key(**name)).count();
    let rest = if unweighted == 0 {
        0.0
    } else {
        (100.0 - weights.values().sum::<f64>()) / unweighted as f64
    };
    let mut sum = 0.0;
    for group in groups {
        let weight = weights.get(&group.name).copied().unwrap_or(rest);
        sum += if group.no_data { 100.0 } else { group.score } * (weight / 100.0);
        if group.no_data && weight != 0.0 {
            let message = format!("no metric of it was judged; it adds its whole {weight}%");
            quirks.push(of_group(QuirkKind::EmptyGroupCounts100, &group.name, message));
        }
    }
    for (name, weight) in weights.iter().filter(|(name, _)| !present.contains(name.as_str())) {
        if *weight != 0.0 && !groups.is_empty() {
            let message = format!("it has no metric; its {weight}% of the score are lost");
            quirks.push(of_group(QuirkKind::AbsentGroupWeightLost, name, message));
        }
    }
    rounded(sum)
}

/// Two decimals, half up, of the number as it is printed: 1.005 is 1.01 although its bits are less.
fn rounded(score: f64) -> f64 {
    let text = score.abs().to_string();
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let digit = |at: usize| fraction.as_bytes().get(at).map_or(0, |d| u64::from(d - b'0'));
    let Ok(whole) = whole.parse::<u64>() else { return score };
    let hundredths = whole * 100 + digit(0) * 10 + digit(1) + u64::from(digit(2) >= 5);
    libm::copysign(hundredths as f64 / 100.0, score)
}

fn of_group(kind: QuirkKind, group: &str, message: String) -> Quirk {
    Quirk { kind, metric: None, group: Some(group.to_owned()), message }
}

/// What the score leaves out although it was measured.
fn of_metrics(results: &[MetricReport], missing: usize, switches: Switches) -> Vec<Quirk> {
    let mut quirks = Vec::new();
    let mut add = |kind, metric: &str, message: &str| {
        let (metric, message) = (Some(metric.to_owned()), message.to_owned());
        quirks.push(Quirk { kind, metric, group: None, message });
    };
    let all_missing = results.iter().filter(|result| result.label == Label::Nodata).count();
    let most_missing = all_missing as f64 / results.len() as f64 * 100.0 >= NODATA_PERCENT;
    for result in results {
        match result.label {
            Label::Nodata if result.muted && most_missing && all_missing > missing => {
                let message = "it has no data, is muted, and so is not counted towards the 50%";
                add(QuirkKind::MutedNotCounted, &result.name, message);
            }
            Label::Nodata if !result.muted => {
                add(QuirkKind::NodataIgnored, &result.name, "it has no data and does not count");
            }
            Label::Error if !result.muted && !switches.fail_closed_errors => {
                let message = "its judgement failed, and it does not count, critical or not";
                add(QuirkKind::ErrorIgnored, &result.name, message);
            }
            Label::Pass
            | Label::High
            | Label::Low
            | Label::Nodata
            | Label::NodataFailMetric
            | Label::Error => {}
        }
    }
    quirks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_rounded_on_their_digits() {
        let cases = [(1.005, 1.01), (33.333_333, 33.33), (66.665, 66.67), (100.0, 100.0)];
        for (score, expected) in cases {
            assert_eq!(rounded(score), expected);
        }
        assert_eq!(rounded(-0.5), -0.5);
        assert_eq!(rounded(0.0), 0.0);
    }
}
