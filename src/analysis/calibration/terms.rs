//! What a run takes from what was learnt: fixed at its start and carried in its status.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use super::learnt::Learnt;
use crate::analysis::judge::sequential::{Comparison, Height, History, Past};
use crate::stats::combine::CRITICAL;
use crate::stats::conformal::{Pair, windows_needed};

/// One comparison of a run.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Its key in what was learnt.
    pub key: &'a str,
    /// What is compared.
    pub comparison: &'a Comparison,
    /// Time between two ticks.
    pub tick: SignedDuration,
    /// It is judged by itself.
    pub alone: bool,
}

/// The terms of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Terms {
    /// The height for the comparisons that are judged together; and for each that is judged by itself,
    /// by its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    together: Option<Stretched>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    alone: BTreeMap<String, Stretched>,
    /// The noise of gauges, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    gauges: BTreeMap<String, Noise>,
    /// What a boundary was learnt from, by the name of the comparison.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    past: BTreeMap<String, Past>,
    /// The age from which canary pods are counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    warm_up_seconds: Option<i64>,
}

/// The noise of a gauge, see [`History`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Noise {
    deviation: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    level: Option<f64>,
}

/// A boundary and how many of its points a tick is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Stretched {
    pair: Pair,
    each: f64,
}

/// Why what a run carries is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the run's calibration cannot be read ({0}); the model alone decides")]
pub struct TermsError(String);

/// The terms on which comparisons are judged with `alpha`, and a sentence about them.
#[must_use]
pub fn terms(learnt: &Learnt, wanted: &[Wanted<'_>], alpha: f64) -> (Terms, String) {
    let mut terms = Terms { warm_up_seconds: learnt.warm_up_seconds, ..Terms::default() };
    let few = few(learnt, alpha);
    for Wanted { key, comparison, tick, .. } in wanted {
        let ticks = learnt.length_seconds as f64 / tick.as_secs_f64();
        let past = learnt.metrics.get(*key).zip(learnt.arms).map(|(metric, pods)| Past {
            // The first tick is that of the start.
            ticks: libm::round(ticks).clamp(0.0, 1e9) as u32 + 1,
            pods,
            tau: metric.tau,
            few,
        });
        terms.past.extend(past.map(|past| (comparison.name.clone(), past)));
        let noise = learnt
            .metrics
            .get(*key)
            .and_then(|metric| Some(Noise { deviation: metric.deviation?, level: metric.level }));
        terms.gauges.extend(noise.map(|noise| (comparison.name.clone(), noise)));
    }
    let group: Vec<&Wanted<'_>> = wanted.iter().filter(|one| !one.alone).collect();
    for one in wanted.iter().filter(|one| one.alone) {
        if let Ok(height) = height(learnt, &[one], alpha) {
            terms.alone.insert(one.comparison.name.clone(), height);
        }
    }
    let said = match height(learnt, &group, alpha) {
        _ if group.is_empty() => "not calibrated: no comparison decides".to_owned(),
        Ok(height) => {
            terms.together = Some(height);
            let (windows, minutes) = (learnt.windows.len(), learnt.length_seconds / 60);
            let percent = crate::analysis::sample::number(alpha * 100.0);
            let cold = match learnt.warm_up_seconds {
                Some(_) => "",
                None => "; too few pods were born in them to know their warm-up",
            };
            let pods: usize = learnt.pods.iter().sum();
            let more =
                if few { ", so few that their differences are allowed for besides" } else { "" };
            format!(
                "calibrated to alpha {percent}% on {windows} windows of {minutes} min and {pods} pods\
                 {more}{cold}"
            )
        }
        Err(why) => format!("not calibrated: {why}"),
    };
    (terms, said)
}

/// Whether fewer pods played the canary than windows would have to: whoever draws the same few again and
/// again knows what these do and not what the pods of a new version may do.
fn few(learnt: &Learnt, alpha: f64) -> bool {
    let pods: usize = learnt.pods.iter().sum();
    let canary = learnt.arms.map_or(1, |(canary, _)| usize::try_from(canary).unwrap_or(usize::MAX));
    pods / canary.max(1) < windows_needed(alpha)
}

fn height(learnt: &Learnt, group: &[&Wanted<'_>], alpha: f64) -> Result<Stretched, String> {
    let weight = |of: &Comparison| of.weight * if of.critical { CRITICAL } else { 1.0 };
    let keys: Vec<(&str, f64)> =
        group.iter().map(|one| (one.key, weight(one.comparison))).collect();
    let unknown = group.iter().find(|one| !learnt.metrics.contains_key(one.key));
    if let Some(unknown) = unknown {
        let name = &unknown.comparison.name;
        return Err(format!("{name} is asked in another way than when the history was learnt"));
    }
    let paths = learnt.together(&keys).unwrap_or_default();
    let views: Vec<&[f64]> = paths.iter().map(Vec::as_slice).collect();
    let pair = Pair::of_history(&views, alpha).map_err(|error| {
        let drift = learnt.drift.as_ref().map(|drift| format!("; {drift}")).unwrap_or_default();
        format!("{error}{drift}")
    })?;
    let tick = group.iter().map(|one| one.tick).min().unwrap_or(SignedDuration::ZERO);
    let each = learnt.points as f64 * tick.as_secs_f64() / learnt.length_seconds as f64;
    Ok(Stretched { pair, each })
}

impl Terms {
    /// Reads what a run carries.
    ///
    /// # Errors
    /// When it is none.
    pub fn read(text: &str) -> Result<Self, TermsError> {
        serde_json::from_str(text).map_err(|error| TermsError(error.to_string()))
    }

    /// As a run carries it.
    ///
    /// # Errors
    /// Never in practice: all of it has a JSON form.
    pub fn write(&self) -> Result<String, TermsError> {
        serde_json::to_string(self).map_err(|error| TermsError(error.to_string()))
    }

    /// How high the evidence must climb: of what is judged together, or of one that is judged by itself.
    #[must_use]
    pub fn height(&self, alone: Option<&str>) -> Height {
        let found = match alone {
            None => self.together.as_ref(),
            Some(name) => self.alone.get(name),
        };
        let calibrated = |Stretched { pair, each }: &Stretched| Height::Calibrated {
            pair: Box::new(pair.clone()),
            each: *each,
        };
        found.map_or(Height::Model, calibrated)
    }

    /// What is known of a comparison, on these terms. A gauge's noise is known even where the windows are
    /// too few for a boundary.
    #[must_use]
    pub fn history(&self, of: &Comparison, alone: bool) -> Option<History> {
        let noise = self.gauges.get(&of.name);
        let height =
            if alone { self.alone.contains_key(&of.name) } else { self.together.is_some() };
        let history = History {
            deviation: noise.map(|noise| noise.deviation),
            level: noise.and_then(|noise| noise.level),
            past: self.past.get(&of.name).copied().filter(|_| height),
        };
        (height || noise.is_some()).then_some(history)
    }

    /// The age from which canary pods are counted, where it was learnt.
    #[must_use]
    pub fn warm_up(&self) -> Option<SignedDuration> {
        self.warm_up_seconds.map(SignedDuration::from_secs)
    }
}
