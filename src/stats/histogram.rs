//! Is the canary slower? From raw bucket counts, never from percentiles.
//!
//! Two e-processes whose average is one again. *Exceedance*: for up to eight bucket boundaries the rate of
//! requests above them, each tested as in [`super::rates`]; the average over the boundaries. *Tilt*: a
//! likelihood ratio with bucket weights r_j that do not decrease,
//!
//! ```text
//! S += sum_j h_cj ln r_j - sum_j (h_cj + h_bj) ln(1 - rho + rho r_j)
//! ```
//!
//! With labels given at random this has expectation one for equal distributions and less when the canary
//! is stochastically not slower: with u f_b the canary's distribution, the expectation of a factor is
//! 1 + rho sum_j f_b(j) (u_j - 1) r_j / (1 - rho + rho r_j), and the last quotient increases with r.
//! Here rho is what the tick's totals say. Then the labels are drawn without replacement and a factor is
//! P(B(pi) = n_c) / P(B(rho) = n_c), with B the number of successes and pi_j = rho r_j/(1 - rho + rho r_j),
//! which is above one when history and present differ in the worst way: by sqrt(rho (1 - rho) / mean pi
//! (1 - pi)) for many requests, and by less than exp(1.3/n) more for n of them. The process takes both off,
//! and gathers small ticks until that is next to nothing.
//!
//! Counts are those of single buckets, the last one without an upper bound.

use serde::{Deserialize, Serialize};

use super::lanes;
use super::mixture::{Mixture, Restarts};
use super::rates::Arm;
use super::rates::{Equivalence, RateProcess, Split};
use super::special::{ln_sum, normal_cdf, normal_quantile};

/// At most so many boundaries.
const BOUNDARIES: usize = 8;

/// The share of requests above a boundary for it to be of use.
const TAIL: std::ops::RangeInclusive<f64> = 0.005..=0.6;

/// "All requests slower by this factor", and "this share of them slower by this factor".
const TILTED: [(f64, f64); TILTS] = [
    (1.0, 1.05),
    (1.0, 1.1),
    (1.0, 1.2),
    (1.0, 1.35),
    (1.0, 1.6),
    (1.0, 2.0),
    (1.0, 3.0),
    (0.02, 4.0),
    (0.01, 8.0),
    (0.1, 2.0),
];

/// How many tilts there are.
pub const TILTS: usize = 10;

/// The logarithms of the weights of the tilts.
const EQUAL: [f64; TILTS] = [-std::f64::consts::LN_10; TILTS];

/// No bucket counts for more than this: a bucket that history never saw would decide alone.
const STEEPEST: f64 = 50.0;

/// The boundaries worth watching, from the bucket counts of history: those with a tail between 0.5 % and
/// 60 %, at most eight, evenly chosen. Fixed before the run.
pub fn boundaries(history: &[f64]) -> Vec<usize> {
    let total: f64 = history.iter().sum();
    let mut above = total;
    let mut found = Vec::new();
    for (i, count) in history.iter().enumerate().take(history.len().saturating_sub(1)) {
        above -= count;
        if total > 0.0 && TAIL.contains(&(above / total)) {
            found.push(i);
        }
    }
    let last = found.len().saturating_sub(1);
    match found.len() {
        0..=BOUNDARIES => found,
        _ => (0..BOUNDARIES)
            .filter_map(|k| found.get(k * last / (BOUNDARIES - 1)).copied())
            .collect(),
    }
}

/// The boundary after those worth watching: the first one with less than 0.5 % above it, if there is one.
/// Nothing above it can be shown to be harmless, but where the buckets are coarse it alone sees a canary
/// that is slower than anything the baseline ever was.
pub fn rare(history: &[f64]) -> Option<usize> {
    let total: f64 = history.iter().sum();
    let mut above = total;
    history.iter().take(history.len().saturating_sub(1)).position(|count| {
        above -= count;
        total > 0.0 && above / total < *TAIL.start()
    })
}

/// The counts of a tick, if they make sense for both arms: finite, not negative, as many buckets.
fn totals(canary: &[f64], baseline: &[f64]) -> Option<(f64, f64)> {
    let sane = |h: &[f64]| h.iter().all(|count| count.is_finite() && *count >= 0.0);
    (canary.len() == baseline.len() && sane(canary) && sane(baseline))
        .then(|| (canary.iter().sum(), baseline.iter().sum()))
}

fn above(counts: &[f64], boundary: usize) -> f64 {
    counts.iter().skip(boundary + 1).sum()
}

/// The rates of requests above each boundary.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exceedance {
    /// What the null allows, boundary by boundary.
    bounds: Vec<f64>,
    boundaries: Vec<usize>,
    processes: Vec<RateProcess>,
}

impl Exceedance {
    /// Tests against "at most so many times as many above each boundary"; a boundary without a number
    /// is not watched.
    pub fn new(boundaries: &[usize], bounds: &[f64], restarts: Restarts) -> Self {
        let processes = boundaries.iter().map(|_| RateProcess::new(restarts)).collect();
        Self { bounds: bounds.to_vec(), boundaries: boundaries.to_vec(), processes }
    }

    /// What the null allows, boundary by boundary.
    pub fn bounds(&self) -> &[f64] {
        &self.bounds
    }

    /// From the next tick on the null allows what is said of a boundary; where nothing is, what it did.
    pub fn allow(&mut self, bound: impl Fn(usize) -> Option<f64>) {
        for (boundary, known) in self.boundaries.iter().zip(&mut self.bounds) {
            *known = bound(*boundary).unwrap_or(*known);
        }
    }

    /// Takes the bucket counts of a tick; false if they carry no evidence.
    pub fn observe(&mut self, canary: &[f64], baseline: &[f64]) -> bool {
        let Some((of, against)) = totals(canary, baseline) else { return false };
        let mut last: Option<(f64, Split)> = None;
        let bounds = self.boundaries.iter().zip(&self.bounds);
        for ((boundary, bound), process) in bounds.zip(&mut self.processes) {
            if last.as_ref().is_none_or(|(known, _)| known != bound) {
                last = Split::of(of, against, *bound).map(|split| (*bound, split));
            }
            let Some((_, split)) = &last else { return false };
            let slow = above(canary, *boundary);
            process.observe(split, slow, slow + above(baseline, *boundary));
        }
        true
    }

    /// Starts the next copy of each process; false if there is none left.
    pub fn restart(&mut self) -> bool {
        let mut all = true;
        for process in &mut self.processes {
            all &= process.restart();
        }
        all
    }

    /// ln E; 0 without a boundary.
    pub fn log_e(&self) -> f64 {
        if self.processes.is_empty() {
            return 0.0;
        }
        ln_sum(self.processes.iter().map(RateProcess::log_e))
            - libm::log(self.processes.len() as f64)
    }
}

/// Shows that at *every* boundary the canary has fewer than `margin` times as many slow requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NotSlower {
    boundaries: Vec<usize>,
    processes: Vec<Equivalence>,
}

impl NotSlower {
    /// Tests against "at least `margin` times as many above some boundary".
    pub fn new(boundaries: &[usize], margin: f64) -> Self {
        let processes = boundaries.iter().map(|_| Equivalence::new(margin)).collect();
        Self { boundaries: boundaries.to_vec(), processes }
    }

    /// Takes the bucket counts of a tick; false if they carry no evidence.
    pub fn observe(&mut self, canary: &[f64], baseline: &[f64]) -> bool {
        let Some((of, against)) = totals(canary, baseline) else { return false };
        self.boundaries.iter().zip(&mut self.processes).fold(true, |all, (boundary, process)| {
            let canary = Arm { bad: above(canary, *boundary), exposure: of };
            let baseline = Arm { bad: above(baseline, *boundary), exposure: against };
            process.observe(canary, baseline) && all
        })
    }

    /// Forgets what was seen.
    pub fn begin_anew(&mut self) {
        self.processes.iter_mut().for_each(Equivalence::begin_anew);
    }

    /// The least ln E of the boundaries: all must be shown. Minus infinity without a boundary.
    pub fn log_e(&self) -> f64 {
        let least = self.processes.iter().map(Equivalence::log_e).fold(f64::INFINITY, f64::min);
        if least == f64::INFINITY { f64::NEG_INFINITY } else { least }
    }
}

/// The bucket weights of each tilt, from history. Fixed before the run.
#[derive(Clone, Debug, PartialEq)]
pub struct Tilts {
    /// r_j - 1 and ln r_j, bucket by bucket.
    above_one: Vec<[f64; TILTS]>,
    ln_weight: Vec<[f64; TILTS]>,
}

impl Tilts {
    /// The tilts for buckets with these upper bounds (the last bucket has none) and this history. None
    /// unless there are two positive, rising bounds at least and one count more.
    pub fn new(bounds: &[f64], history: &[f64]) -> Option<Self> {
        let rising = bounds.windows(2).all(|pair| pair[0] < pair[1]);
        let sane = history.iter().all(|count| count.is_finite() && *count >= 0.0);
        let positive = bounds.iter().all(|bound| bound.is_finite() && *bound > 0.0);
        if !rising || !sane || !positive || bounds.len() < 2 || history.len() != bounds.len() + 1 {
            return None;
        }
        // Half a request in each bucket keeps quotients finite.
        let total = history.iter().sum::<f64>() + 0.5 * history.len() as f64;
        let shares: Vec<f64> = history.iter().map(|count| (count + 0.5) / total).collect();
        let knots = knots(bounds, &shares);
        let mut weights = vec![[1.0; TILTS]; shares.len()];
        for (k, (part, factor)) in TILTED.iter().enumerate() {
            let (mut below, mut least) = (0.0, 0.0);
            for (j, share) in shares.iter().enumerate() {
                let upto = bounds.get(j).map_or(1.0, |b| share_below(&knots, b / factor));
                let tilted = (1.0 - part) + part * (upto - below) / share;
                (below, least) = (upto, f64::clamp(tilted, least, STEEPEST));
                weights[j][k] = least.max(1e-6);
            }
        }
        Some(Self {
            above_one: weights.iter().map(|row| row.map(|r| r - 1.0)).collect(),
            ln_weight: weights.iter().map(|row| row.map(libm::log)).collect(),
        })
    }
}

/// The logarithm of each bound, and the normal quantile of the share of requests below it.
fn knots(bounds: &[f64], shares: &[f64]) -> Vec<(f64, f64)> {
    let mut below = 0.0;
    let knot = |(bound, share): (&f64, &f64)| {
        below += share;
        (libm::log(*bound), normal_quantile(below))
    };
    bounds.iter().zip(shares).map(knot).collect()
}

/// The share of requests below `x`. Between two bounds the normal quantile of the share is a straight
/// line over the logarithm of time: exact for a lognormal distribution, and a density that thins out
/// towards the tail for any other, where spreading evenly would promise several times too much.
fn share_below(knots: &[(f64, f64)], x: f64) -> f64 {
    let [left, right, others @ ..] = knots else { return 0.0 };
    let (mut left, mut right, at) = (*left, *right, libm::log(x));
    for knot in others {
        if at > right.0 {
            (left, right) = (right, *knot);
        }
    }
    normal_cdf(left.1 + (right.1 - left.1) * (at - left.0) / (right.0 - left.0))
}

/// Ticks are gathered until they have so many requests.
const GATHERED: f64 = 150.0;

/// The tilt e-process: the average over the tilts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TiltProcess {
    mixture: Mixture<TILTS>,
    /// What was gathered of each arm, bucket by bucket.
    canary: Vec<f64>,
    baseline: Vec<f64>,
}

impl TiltProcess {
    /// A process that has seen nothing, for tilts with so many buckets.
    pub fn new(tilts: &Tilts, restarts: Restarts) -> Self {
        let none = vec![0.0; tilts.ln_weight.len()];
        Self { mixture: Mixture::new(restarts), canary: none.clone(), baseline: none }
    }

    /// Takes the bucket counts of a tick; false if they carry no evidence.
    pub fn observe(&mut self, tilts: &Tilts, canary: &[f64], baseline: &[f64]) -> bool {
        let fits = canary.len() == self.canary.len() && canary.len() == tilts.ln_weight.len();
        if !fits || totals(canary, baseline).is_none_or(|(of, against)| of + against == 0.0) {
            return false;
        }
        for (sum, more) in self.canary.iter_mut().zip(canary) {
            *sum += more;
        }
        for (sum, more) in self.baseline.iter_mut().zip(baseline) {
            *sum += more;
        }
        let (of, against) = (self.canary.iter().sum::<f64>(), self.baseline.iter().sum::<f64>());
        if of + against >= GATHERED {
            if let Some(split) = Split::of(of, against, 1.0) {
                self.weigh(tilts, split.rho(), of + against);
            }
            self.canary.fill(0.0);
            self.baseline.fill(0.0);
        }
        true
    }

    /// Adds the evidence of what was gathered.
    fn weigh(&mut self, tilts: &Tilts, rho: f64, requests: f64) {
        let mut variance = [0.0; TILTS];
        let scores = self.mixture.scores_mut();
        let rows = tilts.above_one.iter().zip(&tilts.ln_weight);
        for ((c, b), (above_one, ln_weight)) in self.canary.iter().zip(&self.baseline).zip(rows) {
            let both = c + b;
            if both == 0.0 {
                continue;
            }
            let mut mean = above_one.map(|above| 1.0 + rho * above);
            for k in 0..TILTS {
                variance[k] += both * (1.0 + above_one[k]) / (mean[k] * mean[k]);
            }
            lanes::ln_all(&mut mean);
            for k in 0..TILTS {
                scores[k] += c * ln_weight[k] - both * mean[k];
            }
        }
        // pi (1 - pi) = rho (1 - rho) r/(1 - rho + rho r)^2, so this is the quotient of the variances.
        for v in &mut variance {
            *v /= requests;
        }
        lanes::ln_all(&mut variance);
        for (score, ln_v) in scores.iter_mut().zip(&variance) {
            *score -= f64::max(0.0, -0.5 * ln_v) + 1.3 / requests;
        }
    }

    /// Starts the next copy; false if there is none left.
    pub fn restart(&mut self) -> bool {
        self.mixture.restart(&EQUAL)
    }

    /// ln E.
    pub fn log_e(&self) -> f64 {
        self.mixture.log_e(&EQUAL)
    }
}

#[cfg(test)]
#[path = "histogram_tests.rs"]
mod tests;
