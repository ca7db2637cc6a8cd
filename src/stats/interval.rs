//! Intervals for people to read. No decision uses them.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_those_of_statsmodels() {
        let text = include_str!("../../tests/data/stats/golden_oracle_a.json");
        let oracle: serde_json::Value = serde_json::from_str(text).unwrap();
        let mut seen = 0;
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
            seen += 1;
        }
        assert_eq!(seen, 4);
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
