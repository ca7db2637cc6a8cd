//! Whether the history still describes the service: new windows cross the level that one in ten should
//! cross, and no more.

use serde::{Deserialize, Serialize};

use crate::stats::special::ln_sum;

/// The share of windows that may cross the guarded level.
pub(super) const SHARE: f64 = 0.1;

/// Shares that the guard looks for.
const LOOKED_FOR: [f64; 4] = [0.2, 0.35, 0.5, 0.8];

/// The guard speaks falsely with at most this chance, however often it is asked.
const ALPHA: f64 = 0.01;

/// What it has seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Guard {
    /// New windows.
    pub seen: u32,
    /// Those that crossed.
    pub crossed: u32,
}

impl Guard {
    pub(super) fn observe(&mut self, crossed: bool) {
        self.seen = self.seen.saturating_add(1);
        self.crossed = self.crossed.saturating_add(u32::from(crossed));
    }

    /// ln of the average likelihood ratio of the shares looked for: an e-value as long as no more than
    /// one in ten crosses.
    pub(super) fn log_e(&self) -> f64 {
        let (yes, no) = (f64::from(self.crossed), f64::from(self.seen - self.crossed));
        let each = LOOKED_FOR
            .map(|p| yes * libm::log(p / SHARE) + no * libm::log((1.0 - p) / (1.0 - SHARE)));
        ln_sum(each.into_iter()) - libm::log(LOOKED_FOR.len() as f64)
    }

    pub(super) fn has_fired(&self) -> bool {
        self.log_e() >= -libm::log(ALPHA)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(seen: u32, crossed: u32) -> Guard {
        Guard { seen, crossed }
    }

    #[test]
    fn one_in_ten_is_as_promised_and_a_third_is_not() {
        assert!(!guard(0, 0).has_fired() && guard(0, 0).log_e().abs() < 1e-12);
        assert!(!guard(170, 17).has_fired() && !guard(170, 0).has_fired());
        assert!(guard(30, 12).has_fired());
    }

    /// By all ways in which ten windows can cross: the expectation is one.
    #[test]
    fn the_expectation_is_one_when_one_in_ten_crosses() {
        let mut expected = 0.0;
        for ways in 0u32..1_024 {
            let mut guard = Guard::default();
            (0..10).for_each(|i| guard.observe(ways >> i & 1 == 1));
            let yes = i32::try_from(guard.crossed).unwrap();
            expected += SHARE.powi(yes) * (1.0 - SHARE).powi(10 - yes) * guard.log_e().exp();
        }
        assert!((expected - 1.0).abs() < 1e-12, "{expected}");
    }
}
