//! Intervals for people to read. No decision uses them.

use serde::{Deserialize, Serialize};
use statrs::function::beta::inv_beta_reg;

use super::rates::Arm;
use super::special::normal_quantile;

/// Wilson's interval for a share: `hits` of `of` at the given confidence (0.95). The whole of [0, 1]
/// without trials.
pub fn wilson(hits: f64, of: f64, confidence: f64) -> (f64, f64) {
    if !(of > 0.0 && (0.0..=of).contains(&hits)) {
        return (0.0, 1.0);
    }
    let z = normal_quantile(0.5 + 0.5 * confidence);
    let (p, z2) = (hits / of, z * z);
    let middle = (p + z2 / (2.0 * of)) / (1.0 + z2 / of);
    let half = z / (1.0 + z2 / of) * libm::sqrt(p * (1.0 - p) / of + z2 / (4.0 * of * of));
    ((middle - half).max(0.0), (middle + half).min(1.0))
}

/// The interval of Clopper and Pearson for a share: never too short, often too long.
pub fn clopper_pearson(hits: f64, of: f64, confidence: f64) -> (f64, f64) {
    if !(of > 0.0 && (0.0..=of).contains(&hits)) {
        return (0.0, 1.0);
    }
    let tail = 0.5 - 0.5 * confidence;
    let low = if hits == 0.0 { 0.0 } else { inv_beta_reg(hits, of - hits + 1.0, tail) };
    let high = if hits == of { 1.0 } else { inv_beta_reg(hits + 1.0, of - hits, 1.0 - tail) };
    (low, high)
}

/// The interval for the ratio of the canary's rate to the baseline's, at one look: the score interval,
/// which is Wilson's for the canary's share of the bad events. Infinite above when the baseline has none.
/// `None` without events or without exposure.
pub fn rate_ratio(canary: Arm, baseline: Arm, confidence: f64) -> Option<(f64, f64)> {
    let events = canary.bad + baseline.bad;
    let known = canary.exposure > 0.0 && baseline.exposure > 0.0 && events > 0.0;
    if !known || !events.is_finite() {
        return None;
    }
    let (low, high) = wilson(canary.bad, events, confidence);
    let odds = |p: f64| p / (1.0 - p) * baseline.exposure / canary.exposure;
    Some((odds(low), if baseline.bad == 0.0 { f64::INFINITY } else { odds(high) }))
}

/// The ratio of two rates over ticks in which the arms had different shares of the traffic, by the sums of
/// Mantel and Haenszel. Were the ticks poured together, a change of the share would pass for one of the
/// rates (Simpson's paradox). The variance is that of Greenland and Robins (1985) for rates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Strata {
    canary: f64,
    baseline: f64,
    variance: f64,
}

impl Strata {
    /// Takes a tick. One in which an arm had no exposure compares nothing.
    pub fn observe(&mut self, canary: Arm, baseline: Arm) {
        let all = canary.exposure + baseline.exposure;
        let share = canary.exposure / all;
        let sums = (
            canary.bad * (1.0 - share),
            baseline.bad * share,
            (canary.bad + baseline.bad) * share * (1.0 - share),
        );
        if all > 0.0 && sums.2.is_finite() {
            self.canary += sums.0;
            self.baseline += sums.1;
            self.variance += sums.2;
        }
    }

    /// Two arms whose shares never changed and that show the same ratio with the same precision, beside
    /// the plain sums of all ticks; those sums where an arm has no bad events to compare.
    #[must_use]
    pub fn alike(&self, (canary, baseline): (Arm, Arm)) -> (Arm, Arm) {
        let ratio = self.canary / self.baseline;
        let odds = ratio * canary.exposure / baseline.exposure;
        // 1/bad + 1/bad is the variance of the ratio's logarithm.
        let bad = (1.0 + 1.0 / odds) * self.canary * self.baseline / self.variance;
        if !(bad > 0.0 && odds > 0.0 && (bad * odds).is_finite()) {
            return (canary, baseline);
        }
        (Arm { bad: bad * odds, ..canary }, Arm { bad, ..baseline })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_those_of_statsmodels() {
        let oracle = crate::stats::recorded::scipy();
        let (mut seen, mut tested) = (0, 0);
        for case in oracle["two_rate"].as_array().unwrap() {
            let number = |name: &str| case[name].as_f64().unwrap();
            let pair =
                |name: &str| (case[name][0].as_f64().unwrap(), case[name][1].as_f64().unwrap());
            let close = |ours: (f64, f64), theirs: (f64, f64), what: &str| {
                let near = |a: f64, b: f64| (a - b).abs() <= 1e-7 * b.abs().max(1e-6);
                assert!(
                    near(ours.0, theirs.0) && near(ours.1, theirs.1),
                    "{what}: {ours:?} {theirs:?}"
                );
            };
            let (a, n) = (number("a"), number("n"));
            close(wilson(a, n, 0.95), pair("wilson95"), "wilson");
            close(clopper_pearson(a, n, 0.95), pair("cp95"), "clopper-pearson");
            // statsmodels finds no lower end when an arm has no event, and repeats the upper one.
            if a > 0.0 {
                let canary = Arm { bad: a, exposure: n };
                let baseline = Arm { bad: number("b"), exposure: number("m") };
                let ratio = rate_ratio(canary, baseline, 0.95).unwrap();
                close(ratio, pair("poisson_ratio_ci_score"), "rate ratio");
            }
            // The interval begins at the share of the exposure where the exact test has its p.
            for test in ["poisson_exact_cond_larger_p", "binomtest_cond"] {
                let p = number(test);
                if p < 0.5 {
                    let (low, _) = clopper_pearson(a, a + number("b"), 1.0 - 2.0 * p);
                    let share = n / (n + number("m"));
                    assert!((low - share).abs() < 1e-9, "{case}: {low}");
                    tested += 1;
                }
            }
            seen += 1;
        }
        assert_eq!((seen, tested), (4, 6));
    }

    #[test]
    fn the_ratio_is_that_of_the_sums_where_the_share_stays_and_of_the_ticks_else() {
        let arms = |bad: f64, exposure: f64, other: f64, others: f64| {
            (Arm { bad, exposure }, Arm { bad: other, exposure: others })
        };
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-9 * b, "{a} {b}");
        let mut strata = Strata::default();
        strata.observe(Arm { bad: 1.0, exposure: 100.0 }, Arm { bad: 12.0, exposure: 900.0 });
        strata.observe(Arm { bad: 5.0, exposure: 200.0 }, Arm { bad: 15.0, exposure: 1_800.0 });
        let sums = arms(6.0, 300.0, 27.0, 2_700.0);
        let (canary, baseline) = strata.alike(sums);
        close(canary.bad, 6.0);
        close(baseline.bad, 27.0);
        // Equal rates at each tick: 5 % of a tenth, then 1 % of a half.
        let mut strata = Strata::default();
        strata.observe(Arm { bad: 5.0, exposure: 100.0 }, Arm { bad: 45.0, exposure: 900.0 });
        strata.observe(Arm { bad: 5.0, exposure: 500.0 }, Arm { bad: 5.0, exposure: 500.0 });
        let sums = arms(10.0, 600.0, 50.0, 1_400.0);
        let (canary, baseline) = strata.alike(sums);
        close(canary.bad / canary.exposure, baseline.bad / baseline.exposure);
        // 4.5 + 2.5 of each, and 4.5 + 2.5 of variance.
        close(1.0 / canary.bad + 1.0 / baseline.bad, 7.0 / 49.0);
        let nothing = Strata::default();
        assert_eq!(nothing.alike(sums), sums);
        strata.observe(Arm { bad: 5.0, exposure: 0.0 }, Arm { bad: 5.0, exposure: 0.0 });
        assert_eq!(strata.alike(sums), (canary, baseline));
    }

    #[test]
    fn nothing_seen_is_nothing_said() {
        let none = Arm { bad: 0.0, exposure: 10.0 };
        assert_eq!(wilson(0.0, 0.0, 0.95), (0.0, 1.0));
        assert_eq!(clopper_pearson(f64::NAN, 3.0, 0.95), (0.0, 1.0));
        assert_eq!(rate_ratio(none, none, 0.95), None);
        let one = Arm { bad: 1.0, exposure: 10.0 };
        assert_eq!(rate_ratio(one, none, 0.95).unwrap().1, f64::INFINITY);
        assert_eq!(rate_ratio(none, one, 0.95).unwrap().0, 0.0);
    }
}
