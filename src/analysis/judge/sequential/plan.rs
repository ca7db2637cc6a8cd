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
    /// Whether its last part is the traffic. Events by themselves are no traffic: a canary with few of
    /// them is a good one.
    pub(super) fn has_traffic(self) -> bool {
        match self {
            Self::Ratio | Self::Histogram | Self::Count { per: true } => true,
            Self::Count { per: false } | Self::Gauge => false,
        }
    }

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
    /// What a boundary was learnt from; `None`: it is being learnt, or holds whatever the run is like.
    pub past: Option<Past>,
}

/// What the windows were like from which a boundary was learnt. It promises nothing of a run that is
/// longer or whose pods are fewer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Past {
    /// Ticks of a window.
    pub ticks: u32,
    /// Canary pods of a window where its arms were noisiest, and the stable ones beside them.
    pub pods: (u32, u32),
    /// How much pods differ: the deviation of the logarithm of their rates beyond chance.
    pub tau: Option<f64>,
    /// So few pods played the canary that the boundary cannot promise anything of pods.
    pub few: bool,
}

/// A run at a tick.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Present {
    /// Ticks so far.
    pub ticks: u32,
    /// Pods of the canary and of the stable version.
    pub pods: (u32, u32),
}

impl Past {
    fn knows(&self, now: Present) -> bool {
        !self.few && self.beyond(now).is_none()
    }

    /// How much more a gauge's difference may be than in the windows, where pods differ for good: the fewer
    /// they are, the more. After the last tick of a window what lasts adds up no faster than chance does.
    fn stretch(&self, now: Present) -> f64 {
        let noise = |(canary, stable): (u32, u32)| pods::floor(1.0, canary, stable);
        let fewer = (noise(now.pods) / noise(self.pods)).max(1.0);
        let windows = f64::from(now.ticks) / f64::from(self.ticks.max(1));
        if windows > 1.0 { fewer * 2.0 * libm::sqrt(windows) } else { fewer }
    }

    /// Why it says nothing of a run like this, whatever the number of pods that it was learnt from.
    pub(super) fn beyond(&self, now: Present) -> Option<String> {
        if now.ticks > self.ticks {
            return Some("the run is longer than the windows learnt from".to_owned());
        }
        let noise = |(canary, stable): (u32, u32)| pods::floor(1.0, canary, stable);
        // A hair more, for the same sum in another order.
        (noise(now.pods) > noise(self.pods) * (1.0 + 1e-9)).then(|| {
            let ((canary, stable), (of_canary, of_stable)) = (now.pods, self.pods);
            format!(
                "learnt from {of_canary} canary pods beside {of_stable}, not from {canary} beside {stable}"
            )
        })
    }
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

    /// What the null allows: nothing where the boundary was learnt from the like of this run; else the
    /// noise of so few pods as far as it is known, and a margin where it is not.
    pub(super) fn bound(&self, harmful: f64, noise: Option<PodNoise>, now: Present) -> f64 {
        let knows = |history: History| history.past.is_none_or(|past| past.knows(now));
        if self.history.is_some_and(knows) { 1.0 } else { uncalibrated(harmful, noise, now.pods) }
    }

    /// The long-run deviation of a gauge's difference in a run like this.
    pub(super) fn deviation(&self, now: Present) -> Option<f64> {
        let history = self.history?;
        Some(history.deviation? * history.past.map_or(1.0, |past| past.stretch(now)))
    }

    /// How much pods differ, where history told it.
    pub(super) fn learnt_noise(&self) -> Option<PodNoise> {
        self.history?.past?.tau.map(PodNoise::Seen)
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

/// The ratio that a pass has to exclude in what is seen, so that no canary whose pods are better than most
/// hides a harmful version; `None` where so few pods can always hide it.
pub(super) fn margin(
    harmful: f64,
    noise: Option<PodNoise>,
    (canary, stable): (u32, u32),
) -> Option<f64> {
    let hidden = |tau| pods::smallest_ratio(tau, canary, stable);
    let margin = harmful / noise.and_then(PodNoise::seen).map_or(1.0, hidden);
    (margin > 1.0).then_some(margin)
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
