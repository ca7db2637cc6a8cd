//! NaN, outliers and the statistics that are reported: each arm by itself, so that the arms may
//! differ in length afterwards.

use serde::Serialize;

use super::config::{NanStrategy, Settings};
use crate::stats::quantile;
use crate::stats::rank::Sample;

/// The values that are judged.
pub(super) fn transform(values: &[f64], settings: &Settings) -> Vec<f64> {
    let kept = values.iter().copied();
    let values: Vec<f64> = match settings.nan {
        NanStrategy::Remove => kept.filter(|value| !value.is_nan()).collect(),
        NanStrategy::Replace => kept.map(|v| if v.is_nan() { 0.0 } else { v }).collect(),
    };
    match settings.outliers {
        Some(factor) => without_outliers(values, factor),
        None => values,
    }
}

/// The fences are the wider of Tukey's and the 1st and 99th percentile.
fn without_outliers(mut values: Vec<f64>, factor: f64) -> Vec<f64> {
    let Some(sample) = Sample::new(values.clone()) else { return values };
    let (q1, q3) = (sample.percentile(25.0), sample.percentile(75.0));
    let iqr = q3 - q1;
    let lower = sample.percentile(1.0).min(q1 - factor * iqr);
    let upper = sample.percentile(99.0).max(q3 + factor * iqr);
    values.retain(|value| !(*value > upper || *value < lower));
    values
}

/// Statistics of the values that were judged; all 0 when there are none. Shown, never used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Statistics {
    /// The least value.
    pub min: f64,
    /// The greatest value.
    pub max: f64,
    /// The mean.
    pub mean: f64,
    /// The standard deviation with n - 1.
    pub std: f64,
    /// How many values.
    pub count: usize,
}

impl Statistics {
    pub(super) fn of(values: &[f64]) -> Self {
        if values.is_empty() {
            return Self::default();
        }
        Self {
            min: values.iter().copied().fold(f64::INFINITY, f64::min),
            max: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            mean: quantile::mean(values),
            std: quantile::standard_deviation(values),
            count: values.len(),
        }
    }
}
