//! Mann-Whitney's test: p-values by counting or by the normal approximation.

use super::merge::{AllTied, RankSum, rank_sum, sigma};
use super::{Sample, exact};
use crate::stats::special::normal_cdf;

/// Which difference the test looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alternative {
    /// Either.
    TwoSided,
    /// `x` is greater.
    Greater,
    /// `x` is less.
    Less,
}

/// How a p-value comes from U.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// By counting all orders; for samples without ties.
    Exact,
    /// By the normal approximation, with or without half a rank of continuity correction.
    Asymptotic {
        /// Whether half a rank is taken off.
        continuity: bool,
    },
}

/// Mann-Whitney's test.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Test {
    /// U of `x`.
    pub u: f64,
    /// The probability of a U at least as far out when the two distributions are one.
    pub p: f64,
}

/// Why there is no p-value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TestError {
    /// No rank says anything.
    #[error(transparent)]
    AllTied(#[from] AllTied),
    /// The exact distribution is that of distinct values.
    #[error("the exact test needs values without ties; use the asymptotic one")]
    Ties,
    /// The exact distribution would not fit.
    #[error("the exact test counts at most {0} pairs; use the asymptotic one", exact::MAX_PAIRS)]
    TooMany,
}

/// Mann-Whitney's test of `x` against `y`, as scipy's `mannwhitneyu`.
///
/// # Errors
/// When the method has no answer for these samples.
pub fn mann_whitney(
    x: &Sample,
    y: &Sample,
    alternative: Alternative,
    method: Method,
) -> Result<Test, TestError> {
    let (n, m) = (x.len(), y.len());
    let RankSum { u, ties } = rank_sum(x, y, 0.0);
    let (tail, sides) = match alternative {
        Alternative::Greater => (u, 1.0),
        Alternative::Less => (n * m - u, 1.0),
        Alternative::TwoSided => (u.max(n * m - u), 2.0),
    };
    let p = match method {
        Method::Exact if ties > 0.0 => return Err(TestError::Ties),
        Method::Exact => exact::upper_tail(x.0.len(), y.0.len(), tail).ok_or(TestError::TooMany)?,
        Method::Asymptotic { continuity } => {
            let sigma = sigma(n, m, ties);
            if sigma == 0.0 || sigma.is_nan() {
                return Err(AllTied.into());
            }
            let correction = if continuity { 0.5 } else { 0.0 };
            normal_cdf(-(tail - n * m / 2.0 - correction) / sigma)
        }
    };
    Ok(Test { u, p: (sides * p).min(1.0) })
}
