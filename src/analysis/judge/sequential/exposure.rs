//! Whether the canary gets the traffic that the release asks for. A route that sends another share is
//! never a failure of the version, but whoever waits for a verdict has to know.

use serde::{Deserialize, Serialize};

use super::verdict::rounded;
use crate::stats::exposure::ShareWatch;

/// A fifth of the weight to each side is as planned.
const BAND: f64 = 0.2;

/// The chance of a false alarm at one weight. Each weight is watched by itself: what one step got says
/// nothing of the route of the next.
const ALPHA: f64 = 0.001;

/// With less than this part of the planned share nothing is known in time.
const LITTLE: f64 = 0.5;

/// Ticks in a row before a small share is said to last: a route takes a while to move. With few requests a
/// tick chance alone makes such rows, so that the requests must prove it too.
const TICKS: u32 = 4;

/// The watch over the canary's share of the requests.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ExposureWatch {
    weight: Option<f64>,
    watch: Option<ShareWatch>,
    canary: f64,
    total: f64,
    /// Ticks in a row with little traffic.
    little: u32,
    /// The requests since the canary's share of them fell below [`LITTLE`] of the planned one.
    low: Option<ShareWatch>,
}

impl ExposureWatch {
    /// Takes the requests of a tick at the planned `weight`; true when it is another than that of the
    /// tick before. At 0 and 1, where all requests go one way, and without a weight nothing is watched.
    pub fn observe(&mut self, weight: Option<f64>, canary: f64, stable: f64) -> bool {
        if self.weight != weight {
            let moved = self.weight.is_some() && weight.is_some();
            *self = Self::of(weight);
            return moved;
        }
        let (Some(weight), Some(watch)) = (weight, &mut self.watch) else { return false };
        if watch.observe(canary, stable) {
            self.canary += canary;
            self.total += canary + stable;
            let little = canary < LITTLE * weight * (canary + stable);
            self.little = if little { self.little + 1 } else { 0 };
            let mut low = self.low.or_else(|| ShareWatch::new(weight, LITTLE));
            low.iter_mut().for_each(|low| _ = low.observe(canary, stable));
            self.low = low.filter(|low| low.share() < LITTLE * weight);
        }
        false
    }

    /// Forgets all but the weight.
    pub fn begin_anew(&mut self) {
        *self = Self::of(self.weight);
    }

    fn of(weight: Option<f64>) -> Self {
        let watch = weight.and_then(|weight| ShareWatch::new(weight, BAND));
        Self { weight, watch, ..Self::default() }
    }

    /// The canary has less than half of the planned share for long: the share that it has since then, and
    /// the planned one.
    #[must_use]
    pub fn too_little(&self) -> Option<(f64, f64)> {
        let proven = |low: &ShareWatch| low.log_e() >= -libm::log(ALPHA);
        let low = self.low.filter(|low| self.little >= TICKS && proven(low))?;
        Some((low.share(), self.weight?))
    }

    /// What is not as planned, in a sentence.
    #[must_use]
    pub fn complaint(&self) -> Option<String> {
        let (watch, weight) = self.watch.zip(self.weight)?;
        if watch.log_e() < -libm::log(ALPHA) || self.total == 0.0 {
            return None;
        }
        let found = rounded(100.0 * self.canary / self.total);
        let planned = rounded(100.0 * weight);
        Some(format!(
            "traffic is not as planned: the canary gets {found}% of the requests where {planned}% were \
             asked for; look at the route, and at clients that hold their connections"
        ))
    }
}
