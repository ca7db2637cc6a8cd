//! Did the traffic go where it was sent? Requests per arm against the weights.
//!
//! The Dirichlet-multinomial mixture of Lindon and Malek (2022): with prior k theta0,
//!
//! ```text
//! ln E = ln B(k theta0 + c) - ln B(k theta0) - sum_i c_i ln theta0_i
//! ```
//!
//! It flags 9 % instead of 10 % within minutes, so it is judged against a band around the weight: the
//! null's likelihood is taken at the share inside the band that fits best, which makes E smaller than the
//! E against every share in it. The answer is "traffic not as planned", never a failure of the version.

use serde::{Deserialize, Serialize};

/// How sure the prior is of the weight, in requests.
pub const PRIOR: f64 = 100.0;

/// ln E of counts against exactly these shares, with a prior worth `k` requests.
pub fn dirichlet(counts: &[f64], shares: &[f64], k: f64) -> f64 {
    let total: f64 = counts.iter().sum();
    let start = libm::lgamma(k) - libm::lgamma(k + total);
    counts.iter().zip(shares).fold(start, |sum, (count, share)| {
        let prior = k * share;
        sum + libm::lgamma(prior + count) - libm::lgamma(prior) - count * libm::log(*share)
    })
}

/// The watch over the canary's share of the requests.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShareWatch {
    weight: f64,
    /// Half the width of the band, as a part of the weight: 0.2 is 8 % to 12 % around 10 %.
    band: f64,
    canary: f64,
    total: f64,
}

impl ShareWatch {
    /// Watches a weight inside (0, 1); none for another, or for a band outside [0, 1).
    pub fn new(weight: f64, band: f64) -> Option<Self> {
        let sane = weight > 0.0 && weight < 1.0 && (0.0..1.0).contains(&band);
        sane.then_some(Self { weight, band, canary: 0.0, total: 0.0 })
    }

    /// Takes the requests of a tick; false if they make no sense or there are none.
    pub fn observe(&mut self, canary: f64, baseline: f64) -> bool {
        let sane = canary >= 0.0 && baseline >= 0.0 && (canary + baseline).is_finite();
        if !sane || canary + baseline == 0.0 {
            return false;
        }
        self.canary += canary;
        self.total += canary + baseline;
        true
    }

    /// The canary's share so far; NaN without requests.
    pub fn share(&self) -> f64 {
        self.canary / self.total
    }

    /// ln E against "the share is inside the band".
    pub fn log_e(&self) -> f64 {
        if self.total == 0.0 {
            return 0.0;
        }
        let (low, high) = (self.weight * (1.0 - self.band), self.weight * (1.0 + self.band));
        let counts = [self.canary, self.total - self.canary];
        let exact = [self.weight, 1.0 - self.weight];
        let fit = (self.canary / self.total).clamp(low, high.min(1.0));
        let likelihood = |share: f64| {
            let part = |n: f64, p: f64| if n == 0.0 { 0.0 } else { n * libm::log(p) };
            part(counts[0], share) + part(counts[1], 1.0 - share)
        };
        dirichlet(&counts, &exact, PRIOR) + likelihood(self.weight) - likelihood(fit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_those_of_savvi() {
        let oracle = crate::stats::recorded::scipy();
        let numbers = |value: &serde_json::Value| -> Vec<f64> {
            value.as_array().unwrap().iter().map(|n| n.as_f64().unwrap()).collect()
        };
        let mut seen = 0;
        for case in oracle["savvi_multinomial_log_odds"].as_array().unwrap() {
            let (shares, k) = (numbers(&case["theta0"]), case["k"].as_f64().unwrap());
            let mut counts = vec![0.0; shares.len()];
            for step in case["steps"].as_array().unwrap() {
                for (sum, more) in counts.iter_mut().zip(numbers(&step[0])) {
                    *sum += more;
                }
                let (ours, savvi) = (dirichlet(&counts, &shares, k), step[1].as_f64().unwrap());
                assert!((ours - savvi).abs() < 1e-9, "{counts:?}: {ours}, savvi {savvi}");
                seen += 1;
            }
        }
        assert_eq!(seen, 120);
    }

    #[test]
    fn one_arm_against_its_share_is_the_beta_binomial_mixture_of_confseq() {
        let oracle = crate::stats::recorded::confseq();
        let cases = oracle["beta_binomial_mixture_bound"].as_array().unwrap();
        for case in cases {
            let number = |name: &str| case[name].as_f64().unwrap();
            let (v, bound, g, h) = (number("v"), number("b"), number("g"), number("h"));
            // The prior that confseq takes as best at the variance v_opt, one-sided.
            let level = libm::log(1.0 / (2.0 * number("alpha")));
            let rho = number("v_opt") / (2.0 * level + libm::log(1.0 + 2.0 * level));
            let k = (rho - g * h) / (g * h);
            // t trials have the variance g h t; a sum at the bound is so many hits.
            let t = v / (g * h);
            let counts = [g * t + bound, h * t - bound];
            let above = |a: f64, b: f64| 1.0 - statrs::function::beta::beta_reg(a, b, g);
            let half = above(k * g + counts[0], k * h + counts[1]) / above(k * g, k * h);
            let ours = dirichlet(&counts, &[g, h], k) + libm::log(half);
            let wanted = -libm::log(number("alpha"));
            assert!((ours - wanted).abs() < 1e-6, "{v}: {ours}, confseq {wanted}");
        }
        assert_eq!(cases.len(), 5);
    }

    #[test]
    fn the_expectation_is_one_at_the_weight_and_below_inside_the_band() {
        let mean = |band: f64, share: f64| -> f64 {
            (0..=40u32)
                .map(|canary| {
                    let mut watch = ShareWatch::new(0.1, band).unwrap();
                    watch.observe(f64::from(canary), f64::from(40 - canary));
                    let ways: f64 =
                        (0..canary).map(|i| f64::from(40 - i) / f64::from(i + 1)).product();
                    let chance = share.powi(canary as i32) * (1.0 - share).powi(40 - canary as i32);
                    ways * chance * watch.log_e().exp()
                })
                .sum()
        };
        assert!((mean(0.0, 0.1) - 1.0).abs() < 1e-10, "{}", mean(0.0, 0.1));
        for share in [0.08, 0.1, 0.12] {
            assert!(mean(0.2, share) < 1.0);
        }
    }

    #[test]
    fn a_small_deviation_is_no_matter_and_a_large_one_is() {
        let mut watch = ShareWatch::new(0.1, 0.2).unwrap();
        assert!(watch.observe(9_000.0, 91_000.0));
        assert!(watch.log_e() < 0.0, "{}", watch.log_e());
        let mut exact = ShareWatch::new(0.1, 0.0).unwrap();
        assert!(exact.observe(9_000.0, 91_000.0));
        assert!(exact.log_e() > 10.0);
        assert!(watch.observe(0.0, 50_000.0));
        assert!(watch.log_e() > 10.0, "{}", watch.log_e());
    }

    #[test]
    fn what_makes_no_sense_is_not_watched() {
        for (weight, band) in [(0.0, 0.2), (1.0, 0.2), (f64::NAN, 0.2), (0.5, 1.0), (0.5, -0.1)] {
            assert_eq!(ShareWatch::new(weight, band), None);
        }
        let mut watch = ShareWatch::new(0.1, 0.2).unwrap();
        assert!(!watch.observe(0.0, 0.0) && !watch.observe(-1.0, 5.0));
        assert!(!watch.observe(f64::NAN, 5.0) && !watch.observe(f64::INFINITY, 5.0));
        assert_eq!(watch.log_e(), 0.0);
    }
}
