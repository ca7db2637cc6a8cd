//! What is compared in a metric and how strictly.

use serde::{Deserialize, Serialize};

use super::process::OFTEN;
use crate::stats::planner::Goal;
use crate::stats::pods;
pub use crate::stats::rates::Direction;

/// What kind of series a metric has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Bad events of all events.
    Ratio,
    /// Events per unit of traffic, or per second and pod.
    Count {
        /// Whether the traffic is a counter of its own.
        per: bool,
    },
    /// Buckets of a histogram.
    Histogram,
    /// A level per pod.
    Gauge,
}

impl Kind {
    /// The smallest harmful ratio where the template names none, given the baseline's share of bad
    /// events: what is rare may double before it matters.
    pub(super) fn default_harm(self, bad: f64) -> f64 {
        match self {
            Self::Ratio if bad < 0.005 => 2.0,
            Self::Ratio | Self::Count { .. } => 1.5,
            Self::Histogram | Self::Gauge => 1.25,
        }
    }
}

/// What is known of a metric from its own history.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct History {
    /// The long-run deviation of one tick's difference, for a gauge: of the logarithms of the levels,
    /// or of the levels themselves where [`History::level`] is given.
    pub deviation: Option<f64>,
    /// The usual size of a gauge's level, where levels are 0 or less at times: then differences are
    /// plain, in the gauge's unit, and the harmful ratio is one of this size.
    pub level: Option<f64>,
}

/// One comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// The metric.
    pub name: String,
    /// Its kind.
    pub kind: Kind,
    /// Which change is harmful.
    pub direction: Direction,
    /// The ratio that must be caught, above 1; `None`: by the kind.
    pub harmful: Option<f64>,
    /// It has to pass, and it weighs more.
    pub critical: bool,
    /// Its share among the comparisons.
    pub weight: f64,
    /// Fewest events of both arms before it may say anything.
    pub min_events: f64,
    /// What calibration knows; `None`: not calibrated, so that the null is widened.
    pub history: Option<History>,
}

/// What the null allows where nothing is known of pods: a quarter more, or half of what is harmful.
const WIDENED: f64 = 0.25;

impl Comparison {
    /// Whether it can ever say anything: a gauge's noise is known from history only, for the run's own
    /// is not to be trusted.
    #[must_use]
    pub fn can_decide(&self) -> bool {
        self.kind != Kind::Gauge || self.history.is_some_and(|history| history.deviation.is_some())
    }

    /// What the null allows: nothing with calibration; without, the noise of so few pods as far as
    /// their lives tell it, and a margin where they tell nothing.
    pub(super) fn bound(&self, harmful: f64, noise: Option<PodNoise>, pods: (u32, u32)) -> f64 {
        match self.history {
            Some(_) => 1.0,
            None => uncalibrated(harmful, noise, pods),
        }
    }
}

/// How much pods of one version differ, as their lives so far tell.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PodNoise {
    /// By this deviation of the logarithm of their rates.
    Seen(f64),
    /// By no more than chance does, which could hide this deviation.
    Hidden(f64),
}

impl PodNoise {
    /// The deviation, when it was seen.
    pub(super) fn seen(self) -> Option<f64> {
        match self {
            Self::Seen(tau) => Some(tau),
            Self::Hidden(_) => None,
        }
    }
}

/// What the null allows without calibration, for so many canary and stable pods.
fn uncalibrated(harmful: f64, noise: Option<PodNoise>, (canary, stable): (u32, u32)) -> f64 {
    let widened = 1.0 + WIDENED.min((harmful - 1.0) / 2.0);
    match noise {
        None => widened,
        Some(PodNoise::Seen(tau)) => pods::smallest_ratio(tau, canary, stable),
        Some(PodNoise::Hidden(tau)) => pods::hidden_margin(tau, canary, stable).min(widened),
    }
}

/// What the evidence must reach at level `alpha` to fail a canary, for a forecast: with calibration where
/// `noise` is none, else without. Later copies of the process hold a part of the stake.
#[must_use]
pub fn goal(alpha: f64, harmful: f64, noise: Option<(Option<PodNoise>, (u32, u32))>) -> Goal {
    let bound = noise.map_or(1.0, |(noise, pods)| uncalibrated(harmful, noise, pods));
    let Goal { bound, height } = Goal::level(alpha, bound);
    Goal { bound, height: height - libm::log(OFTEN.first) }
}
