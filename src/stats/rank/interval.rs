//! The interval of the shift between two samples by inversion of the rank test.

use super::Sample;
use super::merge::{AllTied, standardised};
use crate::stats::zeroin::{Point, Tolerance, zeroin};

/// How far `x` lies above `y`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shift {
    /// The lower end of the interval.
    pub low: f64,
    /// The upper end of the interval.
    pub high: f64,
    /// The shift at which W is 0.
    pub estimate: f64,
}

/// The interval of the shifts that a two-sided test does not reject when `z` is its critical value:
/// 1.96 for 95%, from [`crate::stats::special::normal_quantile`].
///
/// The ends and the estimate are roots of a step function found by [`zeroin`]: with an absolute
/// tolerance and many ties they are an artefact of its last step, as R's and Kayenta's are.
///
/// # Errors
/// When the values are all equal at an end of the search.
pub fn shift(x: &Sample, y: &Sample, z: f64, tolerance: Tolerance) -> Result<Shift, AllTied> {
    let (low, high) = (x.min() - y.max(), x.max() - y.min());
    let (at_low, at_high) = (standardised(x, y, low)?, standardised(x, y, high)?);
    let tolerance = tolerance.on(low, high);
    let root = |z: f64| {
        let low = Point { at: low, value: at_low - z };
        let high = Point { at: high, value: at_high - z };
        zeroin(low, high, tolerance, |mu| Ok(standardised(x, y, mu)? - z))
    };
    let end = |z: f64| {
        if at_low - z <= 0.0 {
            Ok(low)
        } else if at_high - z >= 0.0 {
            Ok(high)
        } else {
            root(z)
        }
    };
    Ok(Shift { low: end(z)?, high: end(-z)?, estimate: root(0.0)? })
}
