//! The exact boundary for a run whose length is known: what always-valid tests leave unspent.
//!
//! Given the N bad events so far, S of them the canary's, the null moves S like a walk with steps of
//! chance rho. Reject when E >= 1/alpha, or when S exceeds its expectation by `slack`. E alone crosses with
//! a chance of 0.2 to 0.7 % where 1 % is allowed; the slack is solved so that the chance of either up to
//! the planned number of events is nine tenths of alpha, by a dynamic programme over (N, S) without any
//! normal approximation. The last tenth is for what comes after the plan: there only E >= 10/alpha counts.
//! The walk is followed event by event, and a look after every tick sees no more than that.
//!
//! For an E of another kind, and above [`EXACT_EVENTS`] planned events, E gets one half of alpha by Ville's
//! inequality and the slack the other; above, the slack is the limit of a Brownian motion, 2 (1 - Phi(b)) =
//! alpha/2, corrected for skewness.

use serde::{Deserialize, Serialize};

use super::rates::{RateProcess, Split};
use super::special::normal_quantile;

/// The planned number of events up to which the boundary is exact.
pub const EXACT_EVENTS: usize = 8_000;

/// Probability that is no longer followed below the walk; over 8,000 events this adds up to 1e-14.
const LOST: f64 = 1e-18;

/// A part of the plan with one split of the traffic.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Segment {
    /// Bad events of both arms expected in it.
    pub events: usize,
    /// The chance that one of them is the canary's, see [`Split::rho`].
    pub rho: f64,
}

/// The boundary of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hybrid {
    /// Reject when ln E reaches this within the plan.
    pub log_e: f64,
    /// Reject when ln E reaches this after it.
    pub log_e_after: f64,
    /// Reject when the canary has this many bad events more than expected within the plan.
    pub slack: f64,
    /// The variance of that excess over the planned events: where the plan ends.
    pub horizon: f64,
    /// The chance of crossing under the null within the plan; a bound where E is of another kind.
    pub crossing: f64,
}

/// The part of alpha that is spent within the plan.
const WITHIN: f64 = 0.9;

/// What has been seen against a [`Hybrid`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Excess {
    /// The canary's bad events less their expectation.
    pub events: f64,
    /// The variance of the excess.
    pub variance: f64,
}

impl Excess {
    /// Takes a tick with `canary` of `total` bad events.
    pub fn observe(&mut self, split: &Split, canary: f64, total: f64) {
        if canary >= 0.0 && canary <= total && total.is_finite() {
            let rho = split.rho();
            self.events += canary - total * rho;
            self.variance += total * rho * (1.0 - rho);
        }
    }
}

impl Hybrid {
    /// The boundary for the plan at level `alpha`. With `mixture` the E is that of
    /// [`RateProcess`] without restarts, whose crossings are counted; without, it may be any. None if the
    /// plan has no events or a number makes no sense.
    pub fn new(plan: &[Segment], alpha: f64, mixture: bool) -> Option<Self> {
        let known = plan.iter().all(|s| s.rho > 0.0 && s.rho < 1.0);
        let events: usize = plan.iter().map(|s| s.events).sum();
        if !known || events == 0 || !(alpha > 0.0 && alpha < 1.0) {
            return None;
        }
        let variance = |s: &Segment| s.events as f64 * s.rho * (1.0 - s.rho);
        let horizon: f64 = plan.iter().map(variance).sum();
        let deviation = libm::sqrt(horizon);
        if mixture && events <= EXACT_EVENTS {
            let log_e = -libm::log(alpha);
            let walk = Walk::new(plan, log_e);
            let (slack, crossing) = walk.solve(WITHIN * alpha, deviation);
            let log_e_after = log_e - libm::log(1.0 - WITHIN);
            return Some(Self { log_e, log_e_after, slack, horizon, crossing });
        }
        let half = 0.5 * alpha;
        let log_e = -libm::log(half);
        let (slack, crossing) = if events <= EXACT_EVENTS {
            Walk::new(plan, f64::INFINITY).solve(half, deviation)
        } else {
            let third = |s: &Segment| variance(s) * (1.0 - 2.0 * s.rho);
            let skew = plan.iter().map(third).sum::<f64>() / (horizon * deviation);
            (limit(half, skew) * deviation, half)
        };
        Some(Self { log_e, log_e_after: log_e, slack, horizon, crossing: crossing + half })
    }

    /// Whether the run has crossed.
    pub fn crossed(&self, log_e: f64, excess: &Excess) -> bool {
        if excess.variance > self.horizon * (1.0 + 1e-12) {
            return log_e >= self.log_e_after;
        }
        log_e >= self.log_e || excess.events >= self.slack
    }
}

/// The b with 2 (1 - Phi(b)) exp(skew b^3/6) = level: the limit with the first term of Cramer's series,
/// without which a canary with a small share would cross more often than stated.
fn limit(level: f64, skew: f64) -> f64 {
    (0..20).fold(-normal_quantile(level / 2.0), |b, _| {
        -normal_quantile(0.5 * level * libm::exp(-skew.max(0.0) * b * b * b / 6.0))
    })
}

/// The excess that the canary's bad events reach within the plan with a chance of at most `level` under
/// the null. None if the plan has no events or a number makes no sense.
pub fn slack(plan: &[Segment], level: f64) -> Option<f64> {
    Hybrid::new(plan, 2.0 * level, false).map(|both| both.slack)
}

/// The chance that the grid mixture alone ever reaches `log_e` within the plan.
pub fn crossing_of_mixture(plan: &[Segment], log_e: f64) -> f64 {
    Walk::new(plan, log_e).crossing(f64::INFINITY)
}

/// The walk with the part of the boundary that does not depend on the slack.
struct Walk {
    /// For each event: rho, the expected S after it, and the smallest S with E at its threshold.
    events: Vec<(f64, f64, usize)>,
}

impl Walk {
    fn new(plan: &[Segment], log_e: f64) -> Self {
        let mut events = Vec::with_capacity(plan.iter().map(|s| s.events).sum());
        // ln E at the edge rises by one canary event and falls by one baseline event, so the edge moves
        // by none or one with every event; the process below stands at the edge.
        let (mut at_edge, mut edge, mut expected) = (RateProcess::default(), 0usize, 0.0);
        for segment in plan {
            let Some(split) = Split::new(segment.rho) else { continue };
            for _ in 0..segment.events {
                expected += segment.rho;
                if log_e.is_infinite() {
                    events.push((segment.rho, expected, usize::MAX));
                    continue;
                }
                at_edge.observe(&split, 0.0, 1.0);
                while at_edge.log_e() < log_e {
                    at_edge.add_canary(1.0);
                    edge += 1;
                }
                events.push((segment.rho, expected, edge));
            }
        }
        Self { events }
    }

    /// The chance of S reaching its edge, or its expectation plus `slack`, after any event.
    fn crossing(&self, slack: f64) -> f64 {
        let most = self.events.len() + 2;
        // `now[i]` is the chance that S = low + i - 1 without a crossing; a zero stands on each side.
        let (mut now, mut next) = (vec![0.0; most + 1], vec![0.0; most + 1]);
        let (mut low, mut width, mut crossed, mut lost) = (0usize, 1usize, 0.0, 0.0);
        now[1] = 1.0;
        for &(rho, expected, edge) in &self.events {
            let pairs = now[1..width + 2].iter().zip(&now[..width + 1]);
            for (to, (stay, step)) in next[1..width + 2].iter_mut().zip(pairs) {
                *to = stay * (1.0 - rho) + step * rho;
            }
            width += 1;
            let line = libm::ceil(expected + slack - 1e-9).min(usize::MAX as f64) as usize;
            let bound = edge.min(line);
            while width > 0 && low + width > bound {
                crossed += next[width];
                width -= 1;
            }
            let mut skip = 0;
            while skip < width && next[1 + skip] < LOST {
                lost += next[1 + skip];
                skip += 1;
            }
            if skip > 0 {
                next.copy_within(1 + skip..1 + width, 1);
                low += skip;
                width -= skip;
            }
            next[width + 1] = 0.0;
            std::mem::swap(&mut now, &mut next);
            if width == 0 {
                break;
            }
        }
        crossed + lost
    }

    /// The smallest slack whose crossing is at most `level` (to a thousandth of it), and that crossing.
    fn solve(&self, level: f64, deviation: f64) -> (f64, f64) {
        let (mut low, mut high) = (0.5 * deviation, 8.0 * deviation + 2.0);
        let mut at_high = self.crossing(high);
        // The logarithm of the crossing is close to a parabola in the slack: the next guess is where the
        // chord over squares meets the level, kept inside the bracket.
        let mut at_low = self.crossing(low);
        for round in 0..40 {
            if high - low < 1e-6 * deviation || at_high >= 0.999 * level {
                break;
            }
            let (y_low, y_high) = (libm::log(at_low.max(1e-300)), libm::log(at_high.max(1e-300)));
            let share = (libm::log(level) - y_low) / (y_high - y_low);
            let chord = libm::sqrt(low * low + share * (high * high - low * low));
            let inside = chord > low && chord < high && round % 3 != 2;
            let middle = if inside { chord } else { 0.5 * (low + high) };
            let here = self.crossing(middle);
            if here <= level {
                (high, at_high) = (middle, here);
            } else {
                (low, at_low) = (middle, here);
            }
        }
        (high, at_high)
    }
}

#[cfg(test)]
#[path = "lattice_tests.rs"]
mod tests;
