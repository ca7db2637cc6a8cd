//! Kayenta's judge on a window: points of a minute for each arm, all stable pods as the control, at one
//! look at the end or at one every few minutes with all points so far, as its standalone canary does.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::analysis::history::Window;
use crate::analysis::judge::kayenta::{
    CanaryConfig, KayentaError, KayentaMetric, SeriesPair, Thresholds, judge,
};
use crate::analysis::judge::sequential::{
    Comparison, Counters, Counting, Direction, Increment, Kind, Reading,
};

/// A point of a series.
const POINT: SignedDuration = SignedDuration::from_mins(1);

/// The usual scores of a pass and of a doubt.
const USUAL: Thresholds = Thresholds { pass: 95.0, marginal: 75.0 };

/// The quantile that latency is shown to Kayenta as.
const QUANTILE: f64 = 0.99;

/// How often Kayenta looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looks {
    /// Once, at the end.
    Once,
    /// Every so often, and at the end.
    Each(SignedDuration),
}

/// A canary config for what is compared: the user's, where it has a metric of that name, else
/// Kayenta's defaults with the direction of the comparison.
#[derive(Debug, Clone)]
pub struct Config {
    config: CanaryConfig,
    thresholds: Thresholds,
}

impl Config {
    /// For these comparisons.
    ///
    /// # Errors
    /// When the user's config cannot be used.
    pub fn of(given: Option<&CanaryConfig>, compared: &[Comparison]) -> Result<Self, KayentaError> {
        let mut config = given.cloned().unwrap_or_default();
        let metric = |of: &Comparison| {
            let known = config.metrics.iter().find(|metric| metric.name == of.name).cloned();
            known.unwrap_or_else(|| usual(of))
        };
        config.metrics = compared.iter().map(metric).collect();
        let thresholds = config.classifier.as_ref().and_then(|c| c.score_thresholds);
        let made = Self { config, thresholds: thresholds.unwrap_or(USUAL) };
        // What it refuses, it refuses before a window is read.
        judge(&made.config, made.thresholds, &[])?;
        Ok(made)
    }

    /// When Kayenta would have ended the canary as failed.
    #[must_use]
    pub fn replay(&self, windows: &[Window], of: &[Comparison], looks: Looks) -> Option<Timestamp> {
        let from = windows.first()?.from;
        let until = windows.iter().filter_map(|w| w.ticks.last()).map(|(at, _)| *at).max()?;
        let pairs: Vec<Points> =
            windows.iter().zip(of).map(|(window, of)| Points::of(window, of)).collect();
        let every = match looks {
            Looks::Once => until.duration_since(from),
            Looks::Each(every) => every,
        };
        let mut at = from;
        while at < until && every.is_positive() {
            at = at.saturating_add(every).unwrap_or(until).min(until);
            let minutes = at.duration_since(from).as_mins();
            let minutes = usize::try_from(minutes).unwrap_or(0);
            let seen: Vec<_> = pairs.iter().map(|pair| pair.first(minutes)).collect();
            let score = judge(&self.config, self.thresholds, &seen).ok()?.score.score;
            // It ends the canary at a doubt, and asks for a pass at the last look.
            if score <= self.thresholds.marginal || (at == until && score < self.thresholds.pass) {
                return Some(at);
            }
        }
        None
    }
}

fn usual(of: &Comparison) -> KayentaMetric {
    let direction = match of.direction {
        Direction::Increase => "increase",
        Direction::Decrease => "decrease",
        Direction::Either => "either",
    };
    let canary: Value = json!({ "direction": direction, "critical": of.critical });
    KayentaMetric {
        name: of.name.clone(),
        groups: vec!["all".to_owned()],
        analysis_configurations: json!({ "canary": canary }),
        ..KayentaMetric::default()
    }
}

/// A point each minute of both arms.
#[derive(Debug, Clone, PartialEq)]
struct Points {
    name: String,
    control: Vec<f64>,
    experiment: Vec<f64>,
}

/// What a minute is made of.
#[derive(Debug, Clone, Default)]
struct Minute {
    parts: Vec<f64>,
    pod_seconds: f64,
    level: (f64, f64),
}

impl Minute {
    fn add(&mut self, increment: &Increment, reading: &Reading) {
        self.parts.resize(self.parts.len().max(increment.parts.len()), 0.0);
        self.parts.iter_mut().zip(&increment.parts).for_each(|(sum, part)| *sum += part);
        self.pod_seconds += increment.pod_seconds;
        for level in reading.pods.values().filter_map(|pod| pod.values.first()) {
            self.level = (self.level.0 + level, self.level.1 + 1.0);
        }
    }

    /// NaN where there was nothing.
    fn value(&self, kind: Kind, bounds: &[f64]) -> f64 {
        match (kind, self.parts.as_slice()) {
            (Kind::Ratio | Kind::Count { per: true }, [part, whole]) => part / whole,
            (Kind::Count { per: false }, [events]) => events / self.pod_seconds,
            (Kind::Histogram, cumulative) => quantile(bounds, cumulative),
            (Kind::Gauge, _) => self.level.0 / self.level.1,
            _ => f64::NAN,
        }
    }
}

impl Points {
    fn of(window: &Window, of: &Comparison) -> Self {
        let counting = Counting {
            started: window.from,
            tick: window.tick,
            warm_up: SignedDuration::ZERO,
            weight: None,
        };
        let mut counters = [Counters::default(), Counters::default()];
        let mut minutes: Vec<[Minute; 2]> = Vec::new();
        let mut bounds: &[f64] = &[];
        for (at, tick) in &window.ticks {
            // A minute holds what happened up to its end.
            let since = at.duration_since(window.from).as_millis() - 1;
            let minute = usize::try_from(since / POINT.as_millis()).unwrap_or(0);
            if minutes.len() <= minute {
                minutes.resize(minute + 1, <[Minute; 2]>::default());
            }
            let Some(minute) = minutes.get_mut(minute) else { continue };
            let arms = [&tick.stable, &tick.canary];
            for ((arm, counters), minute) in arms.into_iter().zip(&mut counters).zip(minute) {
                let increment = counters.advance(of.kind, arm, *at, &counting);
                minute.add(&increment, arm);
                if !arm.bounds.is_empty() {
                    bounds = &arm.bounds;
                }
            }
        }
        let values = |pick: fn(&[Minute; 2]) -> &Minute| {
            minutes.iter().map(|minute| pick(minute).value(of.kind, bounds)).collect()
        };
        Self {
            name: of.name.clone(),
            control: values(|[stable, _]| stable),
            experiment: values(|[_, canary]| canary),
        }
    }

    fn first(&self, minutes: usize) -> SeriesPair {
        let cut = |all: &[f64]| all.iter().copied().take(minutes.max(1)).collect();
        SeriesPair {
            metric: self.name.clone(),
            control: cut(&self.control),
            experiment: cut(&self.experiment),
            ..SeriesPair::default()
        }
    }
}

/// `histogram_quantile` of cumulative counts.
fn quantile(bounds: &[f64], cumulative: &[f64]) -> f64 {
    let total = cumulative.last().copied().filter(|total| *total > 0.0).unwrap_or(f64::NAN);
    let rank = QUANTILE * total;
    let (mut low, mut below) = (0.0, 0.0);
    for (high, count) in bounds.iter().zip(cumulative) {
        if *count >= rank {
            let inside = (rank - below) / (count - below);
            return if high.is_finite() { low + (high - low) * inside } else { low };
        }
        (low, below) = (*high, *count);
    }
    f64::NAN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_prometheus_own() {
        let bounds = [0.1, 0.5, f64::INFINITY];
        assert!((quantile(&bounds, &[90.0, 100.0, 100.0]) - 0.46).abs() < 1e-12);
        assert!((quantile(&bounds, &[99.5, 100.0, 100.0]) - 0.099_497).abs() < 1e-6);
        assert_eq!(quantile(&bounds, &[0.0, 10.0, 100.0]), 0.5, "the last bound that there is");
        assert!(quantile(&bounds, &[0.0, 0.0, 0.0]).is_nan());
    }
}
