//! Is the canary's rate of bad events higher than that of the baseline? One tick at a time, looked at as
//! often as one likes.
//!
//! Null: at every tick the canary's bad events per exposure are at most `bound` times those of the
//! baseline; both may change together in any way. Given the `e` bad events of a tick, the canary's are
//! then at most Binomial(e, rho), with rho from the exposures that were observed. For each ratio theta
//! of a grid
//!
//! ```text
//! S_k += e_c ln theta_k - e ln(1 - rho + rho theta_k)        E = sum_k w_k exp(S_k)
//! ```
//!
//! Each factor has an expectation of at most one under the null, so E is a test supermartingale and
//! P(ever E >= 1/alpha) <= alpha (Ville 1939; mixtures as in Robbins 1970, counts as in Lindon and
//! Malek 2022). Cost and memory do not depend on the length of the run.
//!
//! Where a share p of the requests is bad, the canary's bad ones vary less than that, by 1 - p: E stays
//! valid and takes 1/(1 - p) times as long as a test of two proportions would. That is a tenth at 10 %; at
//! 30 %, where it is 1.4, half as many errors more are still known within a tick at 200 requests a second.
//! So there is no second test for shares that high.
//!
//! The same process tests one sample: with rho = p0, the bad ones as "canary" and all requests as
//! "total", it is the likelihood ratio of odds theta times those of p0 against "ratio at most p0".

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::lanes;
use super::mixture::{Mixture, Restarts};
use super::special::ln_add;

/// How many alternatives the mixture has.
pub const POINTS: usize = 24;

type Lanes = [f64; POINTS];

/// The smallest and the largest ratio of the grid; between them equal steps of the logarithm.
const LOW: f64 = 1.15;
const HIGH: f64 = 20.0;

/// The grid: ratios, their logarithms, and the logarithms of weights ~ 1/sqrt(k).
#[repr(C, align(64))]
struct Grid {
    /// theta - 1.
    above_one: Lanes,
    ln_theta: Lanes,
    ln_weight: Lanes,
}

static GRID: LazyLock<Grid> = LazyLock::new(|| {
    let (low, high) = (libm::log(LOW), libm::log(HIGH));
    let ln_theta: Lanes =
        std::array::from_fn(|k| low + (high - low) * k as f64 / (POINTS - 1) as f64);
    let total: f64 = (1..=POINTS).map(|k| 1.0 / libm::sqrt(k as f64)).sum();
    Grid {
        above_one: ln_theta.map(|l| libm::exp(l) - 1.0),
        ln_theta,
        ln_weight: std::array::from_fn(|k| -libm::log(libm::sqrt((k + 1) as f64) * total)),
    }
});

/// The chance rho that a bad event belongs to the canary at the edge of the null, with what it costs the
/// alternatives; metrics with equal exposures share one.
#[derive(Clone, Debug, PartialEq)]
#[repr(C, align(64))]
pub struct Split {
    /// ln(1 - rho + rho theta_k).
    ln_mean: Lanes,
    rho: f64,
}

impl Split {
    /// The split with the given rho; none unless 0 < rho < 1.
    #[inline]
    pub fn new(rho: f64) -> Option<Self> {
        if !(rho > 0.0 && rho < 1.0) {
            return None;
        }
        let mut ln_mean = GRID.above_one.map(|above| 1.0 + rho * above);
        lanes::ln_all(&mut ln_mean);
        Some(Self { rho, ln_mean })
    }

    /// rho = n_c bound / (n_c bound + n_b); none if an arm had no exposure or a number makes no sense.
    #[inline]
    pub fn of(canary: f64, baseline: f64, bound: f64) -> Option<Self> {
        let known = [canary, baseline, bound].iter().all(|x| x.is_finite() && *x > 0.0);
        if known { Self::new(canary * bound / (canary * bound + baseline)) } else { None }
    }

    /// The chance rho.
    pub fn rho(&self) -> f64 {
        self.rho
    }

    /// What an event adds to ln E on average, with the alternative that fits best, when this share of the
    /// events is the canary's. Not above 0 where the smallest alternative already says too much.
    pub fn growth(&self, share: f64) -> f64 {
        let means = GRID.ln_theta.iter().zip(&self.ln_mean);
        means.map(|(theta, mean)| share * theta - mean).fold(f64::NEG_INFINITY, f64::max)
    }

    /// The tangent, where `events` were counted, of the least number of the canary's among them for which
    /// ln E of one copy reaches `height`.
    ///
    /// ln E is convex in that number, and one alternative alone needs more than all of them: from the least
    /// that one needs, Newton's steps come down to the root without passing it.
    pub fn tangent(&self, events: f64, height: f64) -> Line {
        let terms = || GRID.ln_theta.iter().zip(&self.ln_mean).zip(&GRID.ln_weight);
        let alone = terms().map(|((l, mean), weight)| (height - weight + events * mean) / l);
        let mut canary = alone.fold(f64::INFINITY, f64::min);
        let mut slope = 0.0;
        for _ in 0..NEWTON_STEPS {
            let score =
                |((l, mean), weight): ((&f64, &f64), &f64)| weight + canary * l - events * mean;
            let (mut sum, mut by_canary, mut by_event) = (0.0, 0.0, 0.0);
            for term in terms() {
                let part = libm::exp(score(term) - height);
                let ((l, mean), _) = term;
                (sum, by_canary, by_event) =
                    (sum + part, by_canary + part * l, by_event + part * mean);
            }
            slope = by_event / by_canary;
            let step = libm::log(sum) * sum / by_canary;
            canary -= step;
            if step <= 1e-6 * canary {
                break;
            }
        }
        Line { slope, start: canary - slope * events }
    }
}

/// A number of the canary's bad events that grows with that of all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    /// The canary's per event.
    pub slope: f64,
    /// At no event.
    pub start: f64,
}

/// The sum is between 1 and the number of alternatives at the start: a handful of steps does. This ends NaN.
const NEWTON_STEPS: usize = 20;

/// The e-process, alone or with [`Restarts`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RateProcess {
    mixture: Mixture<POINTS>,
}

impl Default for RateProcess {
    fn default() -> Self {
        Self::new(Restarts::NONE)
    }
}

impl RateProcess {
    /// A process that has seen nothing.
    pub fn new(restarts: Restarts) -> Self {
        Self { mixture: Mixture::new(restarts) }
    }

    /// Takes a tick with `canary` of `total` bad events. One that makes no sense carries no evidence:
    /// nothing changes and the answer is false.
    pub fn observe(&mut self, split: &Split, canary: f64, total: f64) -> bool {
        if !(canary >= 0.0 && canary <= total && total.is_finite()) {
            return false;
        }
        let terms = GRID.ln_theta.iter().zip(&split.ln_mean);
        for (score, (ln_theta, ln_mean)) in self.mixture.scores_mut().iter_mut().zip(terms) {
            *score += canary * ln_theta - total * ln_mean;
        }
        true
    }

    /// Makes `more` of the events that were counted the canary's.
    pub(crate) fn add_canary(&mut self, more: f64) {
        for (score, ln_theta) in self.mixture.scores_mut().iter_mut().zip(&GRID.ln_theta) {
            *score += more * ln_theta;
        }
    }

    /// Starts the next copy; false if there is none left.
    pub fn restart(&mut self) -> bool {
        self.mixture.restart(&GRID.ln_weight)
    }

    /// ln E.
    pub fn log_e(&self) -> f64 {
        self.mixture.log_e(&GRID.ln_weight)
    }

    /// ln E of the copy that started with the run, without the others.
    pub fn log_e_of_first(&self) -> f64 {
        self.mixture.log_e_of_first(&GRID.ln_weight)
    }

    /// The ratio that the grid now holds most likely (the mean of its logarithm): a hint for people, not
    /// part of a decision.
    pub fn likely_ratio(&self) -> f64 {
        let weights = self.mixture.posterior(&GRID.ln_weight);
        libm::exp(weights.iter().zip(&GRID.ln_theta).map(|(w, l)| w * l).sum())
    }
}

/// Which change is harmful.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    /// More is worse.
    Increase,
    /// Less is worse: the arms change places.
    Decrease,
    /// Both are: the average of the two.
    Either,
}

/// What one arm did in one tick.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Arm {
    /// Bad events.
    pub bad: f64,
    /// Requests, or whatever the events are counted against.
    pub exposure: f64,
}

/// The test of a rate in one direction or in both.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RateTest {
    bound: f64,
    up: Option<RateProcess>,
    down: Option<RateProcess>,
}

impl RateTest {
    /// Tests against "at most `bound` times" (1 + delta) with the given restarts.
    pub fn new(direction: Direction, bound: f64, restarts: Restarts) -> Self {
        let copy = |wanted: bool| wanted.then(|| RateProcess::new(restarts));
        Self {
            bound,
            up: copy(direction != Direction::Decrease),
            down: copy(direction != Direction::Increase),
        }
    }

    /// From the next tick on the null allows this much. What it allowed before stays: each tick's factor
    /// has an expectation of at most one under what was allowed then.
    pub fn allow(&mut self, bound: f64) {
        self.bound = bound;
    }

    /// Takes a tick; false if it carries no evidence.
    pub fn observe(&mut self, canary: Arm, baseline: Arm) -> bool {
        let Self { bound, up, down } = self;
        let side = |process: &mut Option<RateProcess>, of: Arm, against: Arm| {
            process.as_mut().is_none_or(|process| {
                Split::of(of.exposure, against.exposure, *bound)
                    .is_some_and(|split| process.observe(&split, of.bad, of.bad + against.bad))
            })
        };
        let up = side(up, canary, baseline);
        side(down, baseline, canary) && up
    }

    /// Starts the next copy of each side; false if there is none left.
    pub fn restart(&mut self) -> bool {
        let Self { bound: _, up, down } = self;
        let mut all = true;
        for side in [up, down].into_iter().flatten() {
            all &= side.restart();
        }
        all
    }

    /// ln E.
    pub fn log_e(&self) -> f64 {
        match (&self.up, &self.down) {
            (Some(up), Some(down)) => ln_add(up.log_e(), down.log_e()) - std::f64::consts::LN_2,
            (Some(one), None) | (None, Some(one)) => one.log_e(),
            (None, None) => 0.0,
        }
    }
}

/// Shows that the canary is *not* worse than `margin` times the baseline: the test with the arms in each
/// other's place. PASS when ln E reaches ln(1/beta).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Equivalence {
    margin: f64,
    process: RateProcess,
}

impl Equivalence {
    /// Tests against "at least `margin` times".
    pub fn new(margin: f64) -> Self {
        Self { margin, process: RateProcess::default() }
    }

    /// Takes a tick; false if it carries no evidence.
    pub fn observe(&mut self, canary: Arm, baseline: Arm) -> bool {
        Split::of(baseline.exposure, canary.exposure, 1.0 / self.margin)
            .is_some_and(|s| self.process.observe(&s, baseline.bad, canary.bad + baseline.bad))
    }

    /// Forgets what was seen.
    pub fn begin_anew(&mut self) {
        self.process = RateProcess::default();
    }

    /// From the next tick on it is tested against this margin.
    pub fn allow(&mut self, margin: f64) {
        self.margin = margin;
    }

    /// ln E against "at least `margin` times".
    pub fn log_e(&self) -> f64 {
        self.process.log_e()
    }
}

/// A hard limit with respect for sample size: has the ratio of bad events been above `limit`?
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Guard {
    limit: f64,
    process: RateProcess,
}

impl Guard {
    /// Tests against "a ratio of at most `limit`", with 0 < limit < 1.
    pub fn new(limit: f64) -> Self {
        Self { limit, process: RateProcess::default() }
    }

    /// Takes a tick; false if it carries no evidence.
    pub fn observe(&mut self, canary: Arm) -> bool {
        Split::new(self.limit)
            .is_some_and(|split| self.process.observe(&split, canary.bad, canary.exposure))
    }

    /// ln E against "at most the limit".
    pub fn log_e(&self) -> f64 {
        self.process.log_e()
    }
}

#[cfg(test)]
#[path = "rates_tests.rs"]
mod tests;
