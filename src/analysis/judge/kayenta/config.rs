//! Kayenta's canary config as it is written, and the settings of one metric with its defaults.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{JUDGE, KayentaError};

/// A canary config. What the judge does not need (id, description, applications...) is not kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CanaryConfig {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// Who judges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge: Option<JudgeConfig>,
    /// What is measured.
    #[serde(default)]
    pub metrics: Vec<KayentaMetric>,
    /// Named pieces of queries.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub templates: BTreeMap<String, String>,
    /// How metrics become a score.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classifier: Option<Classifier>,
}

/// Who judges.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JudgeConfig {
    /// The judge's name.
    #[serde(default)]
    pub name: String,
    /// Settings of the judge. Kayenta's has none; ours are [`Switches`].
    #[serde(default)]
    pub judge_configurations: Value,
}

/// One metric.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KayentaMetric {
    /// Its name.
    pub name: String,
    /// Where the series come from.
    #[serde(default)]
    pub query: Value,
    /// The groups it counts in.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Settings of the judgement, under `canary`.
    #[serde(default)]
    pub analysis_configurations: Value,
    /// Which scope of the canary's request it is asked in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope_name: Option<String>,
}

/// How metrics become a score.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Classifier {
    /// The share of each group, of 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_weights: Option<BTreeMap<String, f64>>,
    /// The scores of a pass and of a doubt, where the config carries them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score_thresholds: Option<Thresholds>,
}

/// The scores of a pass and of a doubt.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Thresholds {
    /// From here on `Pass`.
    pub pass: f64,
    /// From here on `Marginal`.
    pub marginal: f64,
}

/// What may be mended, off for compatibility.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Switches {
    /// The root finder's tolerance is 1e-9 of the searched interval instead of 1e-4 in the unit of
    /// the metric, so that the unit does not decide.
    pub relative_tolerance: bool,
    /// A metric whose judgement failed counts as failed, and as critical where it is critical.
    pub fail_closed_errors: bool,
}

impl CanaryConfig {
    /// Reads a canary config.
    ///
    /// # Errors
    /// When it is not one, for another judge, or for fences that Kayenta's refuses.
    pub fn read(json: &Value) -> Result<Self, KayentaError> {
        let config =
            Self::deserialize(json).map_err(|error| KayentaError::Unreadable(error.to_string()))?;
        config.check_judge()?;
        config.check_fences()?;
        Ok(config)
    }

    fn check_fences(&self) -> Result<(), KayentaError> {
        for metric in &self.metrics {
            let settings = Settings::read(&mut Reader::new(metric.canary()));
            let flat = |factor: &f64| factor.is_nan() || *factor <= 0.0;
            if let Some(factor) = settings.outliers.filter(flat) {
                let (metric, factor) = (metric.name.clone(), factor.to_string());
                return Err(KayentaError::OutlierFactor { metric, factor });
            }
        }
        Ok(())
    }

    fn check_judge(&self) -> Result<(), KayentaError> {
        match &self.judge {
            Some(judge) if judge.name != JUDGE && !judge.name.is_empty() => {
                Err(KayentaError::OtherJudge(judge.name.clone()))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Checks what a judgement would refuse.
    ///
    /// # Errors
    /// For another judge, fences without a width, or thresholds that no score can reach in this order.
    pub fn check(&self, thresholds: Thresholds) -> Result<(), KayentaError> {
        let Thresholds { pass, marginal } = thresholds;
        if marginal > pass {
            let (pass, marginal) = (pass.to_string(), marginal.to_string());
            return Err(KayentaError::Thresholds { pass, marginal });
        }
        self.check_judge()?;
        self.check_fences()
    }

    pub(super) fn metric(&self, name: &str) -> Result<&KayentaMetric, KayentaError> {
        let found = self.metrics.iter().find(|metric| metric.name == name);
        found.ok_or_else(|| KayentaError::UnknownMetric(name.to_owned()))
    }

    pub(super) fn group_weights(&self) -> BTreeMap<String, f64> {
        let weights = self.classifier.as_ref().and_then(|c| c.group_weights.clone());
        weights.unwrap_or_default()
    }

    /// The switches under `judge.judgeConfigurations`.
    #[must_use]
    pub fn switches(&self) -> Switches {
        let settings = self.judge.as_ref().map(|judge| &judge.judge_configurations);
        let on = |name: &str| {
            let value = settings.and_then(|settings| settings.get(name));
            value.and_then(boolean).unwrap_or(false)
        };
        Switches {
            relative_tolerance: on("relativeTolerance"),
            fail_closed_errors: on("failClosedErrors"),
        }
    }
}

impl KayentaMetric {
    /// The settings of the judgement.
    #[must_use]
    pub fn canary(&self) -> Option<&Value> {
        self.analysis_configurations.get("canary")
    }
}

/// Which change fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Increase,
    Decrease,
    Either,
}

/// What NaN is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NanStrategy {
    Remove,
    Replace,
}

/// How the size of an effect is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Measure {
    MeanRatio,
    Cles,
}

/// The settings of one metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Settings {
    pub direction: Direction,
    pub nan: NanStrategy,
    /// The factor of the fences when outliers are removed.
    pub outliers: Option<f64>,
    pub critical: bool,
    pub must_have_data: bool,
    pub muted: bool,
    pub measure: Measure,
    /// Down, up.
    pub allowed: (f64, f64),
    /// Down, up.
    pub critical_effect: (f64, f64),
    /// The share of the estimate that the interval must lie beyond. Kayenta's 0.25.
    pub tolerance: f64,
    /// The critical value of the interval.
    pub z: f64,
}

/// The quantile for Kayenta's 98%, as its library computes it: one unit in the last place above
/// the exact one. The last digits of the interval's ends depend on it.
pub(super) const Z_98: f64 = 2.326_347_874_040_841;

impl Settings {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let direction = reader.word(
            &["direction"],
            Direction::Either,
            &[
                ("either", Direction::Either),
                ("increase", Direction::Increase),
                ("decrease", Direction::Decrease),
            ],
        );
        // Kayenta's own default is the unknown word "none".
        let nan = [
            ("remove", NanStrategy::Remove),
            ("none", NanStrategy::Remove),
            ("replace", NanStrategy::Replace),
        ];
        let nan = reader.word(&["nanStrategy"], NanStrategy::Remove, &nan);
        let remove = [("remove", true), ("keep", false), ("none", false)];
        let remove = reader.word(&["outliers", "strategy"], false, &remove);
        let factor = reader.number(&["outliers", "outlierFactor"], 3.0);
        let measure = [("meanRatio", Measure::MeanRatio), ("cles", Measure::Cles)];
        let measure = reader.word(&["effectSize", "measure"], Measure::MeanRatio, &measure);
        let none = if measure == Measure::Cles { 0.5 } else { 1.0 };
        let mut effect = |name| reader.number(&["effectSize", name], none);
        let allowed = (effect("allowedDecrease"), effect("allowedIncrease"));
        let critical_effect = (effect("criticalDecrease"), effect("criticalIncrease"));
        Self {
            direction,
            nan,
            outliers: remove.then_some(factor),
            critical: reader.boolean(&["critical"]),
            must_have_data: reader.boolean(&["mustHaveData"]),
            muted: reader.boolean(&["muted"]),
            measure,
            allowed,
            critical_effect,
            tolerance: 0.25,
            z: Z_98,
        }
    }
}

/// Reads settings leniently, as Kayenta does, and remembers what it did not understand.
pub(super) struct Reader<'a> {
    canary: Option<&'a Value>,
    pub(super) unknown: Vec<String>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(canary: Option<&'a Value>) -> Self {
        Self { canary, unknown: Vec::new() }
    }

    fn at(&self, path: &[&str]) -> Option<&'a Value> {
        let found = path.iter().try_fold(self.canary?, |value, key| value.get(key))?;
        (!found.is_null()).then_some(found)
    }

    fn not_understood(&mut self, path: &[&str], value: &Value, taken: &str) {
        let path = path.join(".");
        self.unknown.push(format!("canary.{path} is {value}, which Kayenta takes for {taken}"));
    }

    fn word<T: Copy>(&mut self, path: &[&str], default: T, words: &[(&str, T)]) -> T {
        let Some(value) = self.at(path) else { return default };
        match words.iter().find(|(word, _)| value.as_str() == Some(word)) {
            Some((_, meaning)) => *meaning,
            None => {
                let taken = words.first().map_or("its default", |(word, _)| word);
                self.not_understood(path, value, taken);
                default
            }
        }
    }

    fn number(&mut self, path: &[&str], default: f64) -> f64 {
        let Some(value) = self.at(path) else { return default };
        let text = value.as_str().and_then(|text| text.trim().parse().ok());
        value.as_f64().or(text).unwrap_or_else(|| {
            self.not_understood(path, value, &default.to_string());
            default
        })
    }

    fn boolean(&mut self, path: &[&str]) -> bool {
        let Some(value) = self.at(path) else { return false };
        boolean(value).unwrap_or_else(|| {
            self.not_understood(path, value, "false");
            false
        })
    }
}

fn boolean(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(value) => Some(*value),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}
