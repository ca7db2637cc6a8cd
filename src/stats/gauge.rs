//! Memory, processor time, queues: differences of a level, tick by tick.
//!
//! D_t is the difference of the arms at tick t, in units of the long-run standard deviation that history
//! shows for it, see [`long_run_deviation`]. The mixture of normal alternatives over a half-normal prior,
//!
//! ```text
//! S = sum D,  q = 1 + t tau^2,  ln E = ln 2 - ln(q)/2 + tau^2 S^2/(2 q) + ln Phi(tau S/sqrt q)
//! ```
//!
//! is the one-sided normal mixture of Howard, Ramdas, McAuliffe and Sekhon (2021). The deviation must come
//! from history: estimated from the run itself it leaves 6 to 24 % of false alarms on autocorrelated
//! series.

use serde::{Deserialize, Serialize};

use super::mixture::{Copies, Restarts};
use super::rates::Direction;
use super::special::{ln_add, ln_normal_cdf};

/// The usual scale of the prior, in long-run deviations per tick.
pub const TAU: f64 = 0.5;

/// ln E of the half-normal mixture with prior variance `tau_squared`, for a sum with the given variance.
pub fn half_normal(sum: f64, variance: f64, tau_squared: f64) -> f64 {
    let q = 1.0 + variance * tau_squared;
    let z = sum * libm::sqrt(tau_squared / q);
    std::f64::consts::LN_2 - 0.5 * libm::log(q) + 0.5 * z * z + ln_normal_cdf(z)
}

/// The e-process of a gauge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GaugeProcess {
    /// Long-run deviation of a tick's difference.
    deviation: f64,
    /// The difference that is still harmless; for logarithms ln(1 + delta).
    margin: f64,
    direction: Direction,
    /// Sum of the differences and number of ticks; the sum in text, so that no bit is lost.
    #[serde(with = "super::bits")]
    now: [f64; 2],
    #[serde(flatten)]
    copies: Copies<2>,
}

impl GaugeProcess {
    /// Tests against "changed by no more than `margin`". None unless the deviation is positive and the
    /// margin is not negative.
    pub fn new(
        direction: Direction,
        deviation: f64,
        margin: f64,
        restarts: Restarts,
    ) -> Option<Self> {
        let sane = deviation.is_finite() && deviation > 0.0 && margin.is_finite() && margin >= 0.0;
        let copies = Copies::new(restarts);
        sane.then_some(Self { deviation, margin, direction, now: [0.0; 2], copies })
    }

    /// From the next tick on a difference is measured by this deviation.
    pub fn allow(&mut self, deviation: f64) {
        self.deviation = deviation;
    }

    /// Takes the difference of a tick; false if it is no number.
    pub fn observe(&mut self, difference: f64) -> bool {
        if !difference.is_finite() {
            return false;
        }
        self.now[0] += difference / self.deviation;
        self.now[1] += 1.0;
        true
    }

    /// Starts the next copy; false if there is none left.
    pub fn restart(&mut self) -> bool {
        let now = self.clone();
        self.copies.restart(now.now, |mark| now.since(mark))
    }

    /// Forgets what was seen.
    pub fn begin_anew(&mut self) {
        self.now = [0.0; 2];
        self.copies.clear();
    }

    /// ln E.
    pub fn log_e(&self) -> f64 {
        self.copies.ln_mean(|mark| self.since(mark))
    }

    fn since(&self, mark: &[f64; 2]) -> f64 {
        let (sum, ticks) = (self.now[0] - mark[0], self.now[1] - mark[1]);
        let margin = ticks * self.margin / self.deviation;
        let up = || half_normal(sum - margin, ticks, TAU * TAU);
        let down = || half_normal(-sum - margin, ticks, TAU * TAU);
        match self.direction {
            Direction::Increase => up(),
            Direction::Decrease => down(),
            Direction::Either => ln_add(up(), down()) - std::f64::consts::LN_2,
        }
    }
}

/// The difference of two levels: of their logarithms if both are positive in every case, otherwise plain.
/// `None` if it is no number.
pub fn difference(canary: f64, baseline: f64, logarithmic: bool) -> Option<f64> {
    let difference = if logarithmic {
        (canary > 0.0 && baseline > 0.0).then(|| libm::log(canary) - libm::log(baseline))?
    } else {
        canary - baseline
    };
    difference.is_finite().then_some(difference)
}

/// The mean of pods without the highest and the lowest quarter, so that one odd pod does not speak for
/// all. Sorts the values; `None` for none, or for one that is no number.
pub fn middle_mean(values: &mut [f64]) -> Option<f64> {
    if values.is_empty() || values.iter().any(|value| !value.is_finite()) {
        return None;
    }
    values.sort_by(f64::total_cmp);
    let cut = values.len() / 4;
    let middle = values.get(cut..values.len() - cut)?;
    Some(middle.iter().sum::<f64>() / middle.len() as f64)
}

/// The long-run standard deviation of one tick's difference, from the means of batches (30 minutes, say):
/// the deviation of a batch mean times the root of its length. `None` with fewer than four batches, or
/// without any variation.
pub fn long_run_deviation(history: &[f64], batch: usize) -> Option<f64> {
    let means: Vec<f64> = history
        .chunks_exact(batch.max(1))
        .map(|part| part.iter().sum::<f64>() / part.len() as f64)
        .collect();
    if means.len() < 4 {
        return None;
    }
    let count = means.len() as f64;
    let mean = means.iter().sum::<f64>() / count;
    let square: f64 = means.iter().map(|m| (m - mean) * (m - mean)).sum();
    let deviation = libm::sqrt(square / (count - 1.0) * batch.max(1) as f64);
    (deviation.is_finite() && deviation > 0.0).then_some(deviation)
}

/// The Theil-Sen slope: the median of the slopes between all pairs of points one tick apart each, deaf to
/// a quarter of outliers. `room` is scratch. `None` with fewer than two points or with one that is no
/// number.
pub fn theil_sen(values: &[f64], room: &mut Vec<f64>) -> Option<f64> {
    if values.iter().any(|value| !value.is_finite()) {
        return None;
    }
    room.clear();
    for (i, early) in values.iter().enumerate() {
        let later = values.iter().enumerate().skip(i + 1);
        room.extend(later.map(|(j, late)| (late - early) / (j - i) as f64));
    }
    room.sort_by(f64::total_cmp);
    let half = room.len() / 2;
    match (room.get(half), room.len() % 2) {
        (Some(middle), 1) => Some(*middle),
        (Some(above), _) => room.get(half - 1).map(|below| 0.5 * (below + above)),
        (None, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// confseq's best_rho: the precision of the prior that is tightest at variance `v`.
    fn precision(v: f64, alpha: f64) -> f64 {
        v / (2.0 * (1.0 / alpha).ln() + (1.0 + 2.0 * (1.0 / alpha).ln()).ln())
    }

    #[test]
    fn mixtures_and_bounds_are_those_of_confseq() {
        let oracle = crate::stats::recorded::confseq();
        let number = |case: &serde_json::Value, name: &str| case[name].as_f64().unwrap();
        let mut seen = 0;
        for case in oracle["normal_log_mixture"].as_array().unwrap() {
            let (s, v) = (number(case, "s"), number(case, "v"));
            let (v_opt, alpha) = (number(case, "v_opt"), number(case, "alpha_opt"));
            let one = half_normal(s, v, 1.0 / precision(v_opt, 2.0 * alpha));
            assert!((one - number(case, "one")).abs() < 1e-9, "{case}: {one}");
            let tau = 1.0 / precision(v_opt, alpha);
            let two = ln_add(half_normal(s, v, tau), half_normal(-s, v, tau)) - 2f64.ln();
            assert!((two - number(case, "two")).abs() < 1e-9, "{case}: {two}");
            seen += 1;
        }
        for case in oracle["normal_mixture_bound"].as_array().unwrap() {
            let (v, v_opt) = (number(case, "v"), number(case, "v_opt"));
            let alpha = number(case, "alpha");
            let tau = 1.0 / precision(v_opt, 2.0 * alpha);
            let at = half_normal(number(case, "one"), v, tau);
            assert!((at - (1.0 / alpha).ln()).abs() < 1e-6, "{case}: {at}");
            let (sum, tau) = (number(case, "two"), 1.0 / precision(v_opt, alpha));
            let at = ln_add(half_normal(sum, v, tau), half_normal(-sum, v, tau)) - 2f64.ln();
            assert!((at - (1.0 / alpha).ln()).abs() < 1e-6, "{case}: {at}");
            seen += 1;
        }
        assert_eq!(seen, 17);
    }

    /// E over normal increments with the trapezoid rule, which is exact here to rounding.
    #[test]
    fn the_expectation_under_no_change_is_one() {
        let (step, mut sum) = (1e-3, 0.0);
        let mut z = -12.0f64;
        while z < 12.0 {
            let density = (-0.5 * z * z).exp() / (2.0 * std::f64::consts::PI).sqrt();
            sum += step * density * half_normal(z * 3.0, 9.0, 0.25).exp();
            z += step;
        }
        assert!((sum - 1.0).abs() < 1e-9, "{sum}");
    }

    #[test]
    fn directions_mirror_each_other_and_margins_count_per_tick() {
        let make = |direction, margin| {
            GaugeProcess::new(
                direction,
                0.2,
                margin,
                Restarts { first: 0.5, later: 3, beyond: 0.0 },
            )
            .unwrap()
        };
        let mut up = make(Direction::Increase, 0.1);
        let mut down = make(Direction::Decrease, 0.1);
        let mut shifted = make(Direction::Increase, 0.0);
        for d in [0.3, 0.25, -0.1, 0.4] {
            assert!(up.observe(d) && down.observe(-d) && shifted.observe(d - 0.1));
            assert_eq!([up.restart(), down.restart()], [shifted.restart(); 2]);
        }
        assert_eq!(up.log_e().to_bits(), down.log_e().to_bits());
        assert!((up.log_e() - shifted.log_e()).abs() < 1e-9);
        let before = up.clone();
        assert!(!up.observe(f64::NAN) && !up.observe(f64::INFINITY));
        assert_eq!(up, before);
        assert_eq!(GaugeProcess::new(Direction::Either, 0.0, 0.0, Restarts::NONE), None);
    }

    #[test]
    fn the_unit_of_the_gauge_is_nothing_to_the_verdict() {
        let run = |unit: f64| {
            let mut process =
                GaugeProcess::new(Direction::Either, 0.2 * unit, 0.0, Restarts::NONE).unwrap();
            for d in [0.3, 0.25, -0.1, 0.4] {
                process.observe(d * unit);
            }
            process.log_e()
        };
        assert_eq!(run(1.0).to_bits(), run(2f64.powi(-40)).to_bits());
        assert!((run(1.0) - run(1e9)).abs() < 1e-12);
    }

    #[test]
    fn levels_and_their_deviation() {
        assert_eq!(middle_mean(&mut [1.0, 900.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(middle_mean(&mut []), None);
        assert_eq!(middle_mean(&mut [1.0, f64::NAN]), None);
        assert_eq!(difference(2.0, 0.0, true), None);
        assert_eq!(difference(2.0, 0.5, false), Some(1.5));
        let independent: Vec<f64> = (0..400).map(|i| [1.0, -1.0][i % 2]).collect();
        assert_eq!(long_run_deviation(&independent, 2), None);
        let blocks: Vec<f64> = (0..400).map(|i| [1.0, -1.0][i / 20 % 2]).collect();
        let deviation = long_run_deviation(&blocks, 20).unwrap();
        assert!((deviation - 20f64.sqrt() * (20.0f64 / 19.0).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn one_outlier_does_not_turn_the_slope() {
        let mut room = Vec::new();
        let line: Vec<f64> = (0..9).map(|i| 5.0 + 2.0 * f64::from(i)).collect();
        assert_eq!(theil_sen(&line, &mut room), Some(2.0));
        let mut bent = line.clone();
        bent[4] = 1e9;
        assert_eq!(theil_sen(&bent, &mut room), Some(2.0));
        assert_eq!(theil_sen(&[1.0, 4.0, 5.0], &mut room), Some(2.0));
        assert_eq!(theil_sen(&[1.0], &mut room), None);
        assert_eq!(theil_sen(&[1.0, f64::NAN, 2.0], &mut room), None);
    }
}
