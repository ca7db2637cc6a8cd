//! Many metrics, many tries: one decision with one level.

use super::special::ln_sum;

/// How much the weight of a critical metric is raised.
pub const CRITICAL: f64 = 4.0;

/// ln E of a weighted average of e-values read at the same tick: one process again, under any dependence,
/// and never below the best weighted one. Weights are relative; those that are not positive do not count.
/// 0 if none counts.
pub fn average(log_es: &[f64], weights: &[f64]) -> f64 {
    let counted = || log_es.iter().zip(weights).filter(|(l, w)| **w > 0.0 && !l.is_nan());
    let total: f64 = counted().map(|(_, weight)| weight).sum();
    if !(total > 0.0 && total.is_finite()) {
        return 0.0;
    }
    ln_sum(counted().map(|(log_e, weight)| log_e + libm::log(*weight))) - libm::log(total)
}

/// The culprits: e-BH (Wang and Ramdas 2022) names the k metrics of the highest evidence, with the largest
/// k whose k-th has E >= M/(alpha k); the expected share of wrong names is at most alpha. Positions in the
/// order given. The evidence is that of one tick, never the highest of a run.
pub fn culprits(log_es: &[f64], alpha: f64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..log_es.len()).filter(|i| !log_es[*i].is_nan()).collect();
    order.sort_by(|a, b| log_es[*b].total_cmp(&log_es[*a]).then(a.cmp(b)));
    let enough = |k: usize| libm::log(log_es.len() as f64 / (alpha * k as f64)) - 1e-12;
    let named = (1..=order.len()).rev().find(|k| log_es[order[k - 1]] >= enough(*k)).unwrap_or(0);
    order.truncate(named);
    order.sort_unstable();
    order
}

/// The level of the r-th try (counted from 1) of one image after a forced reset: 6 alpha/(pi r)^2. All
/// tries together spend alpha.
pub fn level_of_try(alpha: f64, r: u32) -> f64 {
    let r = f64::from(r.max(1));
    6.0 * alpha / (std::f64::consts::PI * std::f64::consts::PI * r * r)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identical_metrics_are_one_metric() {
        for log_e in [-900.0, -1.0, 0.0, 3.7, 900.0] {
            assert!(
                (average(&[log_e; 7], &[1.0, 4.0, 2.0, 1.0, 1.0, 1.0, 9.0]) - log_e).abs() < 1e-12
            );
        }
    }

    #[test]
    fn the_order_and_the_unit_of_weights_are_nothing() {
        let (a, b) = (average(&[1.0, 5.0, -3.0], &[1.0, 2.0, 4.0]), [10.0, 20.0, 40.0]);
        assert!((a - average(&[-3.0, 1.0, 5.0], &[b[2], b[0], b[1]])).abs() < 1e-12);
        assert!(a >= 5.0 - (7.0f64 / 2.0).ln());
        assert_eq!(average(&[2.0, f64::NAN, 9.0], &[1.0, 1.0, 0.0]), 2.0);
        assert_eq!(average(&[], &[]), 0.0);
    }

    #[test]
    fn culprits_are_named_by_e_bh() {
        let ln = |e: f64| e.ln();
        // M = 4 and alpha = 0.05: 80, 40, 26.7, 20.
        assert_eq!(culprits(&[ln(79.0), 0.0, 0.0, 0.0], 0.05), Vec::<usize>::new());
        assert_eq!(culprits(&[0.0, ln(80.0), 0.0, 0.0], 0.05), [1]);
        assert_eq!(culprits(&[ln(27.0), ln(27.0), 0.0, ln(28.0)], 0.05), [0, 1, 3]);
        assert_eq!(culprits(&[ln(20.0); 4], 0.05), [0, 1, 2, 3]);
        assert_eq!(culprits(&[f64::NAN, ln(50.0)], 0.05), [1]);
        assert_eq!(culprits(&[], 0.05), Vec::<usize>::new());
    }

    #[test]
    fn all_tries_together_spend_the_level() {
        let spent: f64 = (1..100_000).map(|r| level_of_try(0.01, r)).sum();
        assert!(spent < 0.01 && spent > 0.009_99, "{spent}");
        assert_eq!(level_of_try(0.01, 0), level_of_try(0.01, 1));
    }
}
