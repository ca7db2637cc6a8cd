//! Rank statistics of two samples: Mann-Whitney's U, its test, the interval of a shift, and the
//! Hodges-Lehmann estimate.
//!
//! Each sample is sorted once ([`Sample`]); then W(mu), the rank sum of `x - mu` among `y`, is one
//! merge of two ascending slices. Hollander and Wolfe, *Nonparametric Statistical Methods*,
//! chapter 4; the interval by inversion of the test is that of R's `wilcox.test(x, y, exact =
//! FALSE, conf.int = TRUE)`. Refuses NaN and empty samples, for which nothing here has a meaning.

mod apart;
mod exact;
mod hodges_lehmann;
mod interval;
mod merge;
mod test;

pub use hodges_lehmann::hodges_lehmann;
pub use interval::{Shift, shift};
pub use merge::{AllTied, RankSum, rank_sum, standardised, superiority};
pub use test::{Alternative, Method, Test, TestError, mann_whitney};

use super::quantile;
use super::sort::sort;

/// A sample in ascending order: not empty, no NaN.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample(Vec<f64>);

impl Sample {
    /// Sorts the values; nothing when there are none or one is NaN.
    #[must_use]
    pub fn new(values: Vec<f64>) -> Option<Self> {
        if values.is_empty() || values.iter().any(|v| v.is_nan()) {
            return None;
        }
        Some(Self(sort(values)))
    }

    /// The values, ascending.
    #[must_use]
    pub fn values(&self) -> &[f64] {
        &self.0
    }

    /// The least value.
    #[must_use]
    pub fn min(&self) -> f64 {
        self.0.first().copied().unwrap_or(f64::NAN)
    }

    /// The greatest value.
    #[must_use]
    pub fn max(&self) -> f64 {
        self.0.last().copied().unwrap_or(f64::NAN)
    }

    /// The percentile of type R-7.
    #[must_use]
    pub fn percentile(&self, p: f64) -> f64 {
        quantile::percentile(&self.0, p).unwrap_or(f64::NAN)
    }

    fn len(&self) -> f64 {
        self.0.len() as f64
    }
}

#[cfg(test)]
mod tests;
