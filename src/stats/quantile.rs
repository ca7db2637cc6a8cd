//! Percentiles of type R-7 and moments, with the order of operations of commons-math, whose
//! figures Kayenta reports.

/// The percentile `p` in `0..=100` of ascending values by linear interpolation (Hyndman and Fan
/// type 7: R's default, numpy's `linear`); nothing for an empty slice.
#[must_use]
pub fn percentile(sorted: &[f64], p: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let position = (last as f64) * (p / 100.0).clamp(0.0, 1.0);
    let floor = libm::floor(position);
    let index = floor as usize;
    let lower = *sorted.get(index)?;
    match sorted.get(index + 1) {
        Some(upper) if position > floor => Some(lower + (position - floor) * (upper - lower)),
        Some(_) | None => Some(lower),
    }
}

/// The mean in two passes, the second of which takes out the rounding of the first; NaN when
/// there are no values.
#[must_use]
pub fn mean(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let first = values.iter().sum::<f64>() / n;
    first + values.iter().map(|v| v - first).sum::<f64>() / n
}

/// The standard deviation with `n - 1`; 0 for one value, NaN for none.
#[must_use]
pub fn standard_deviation(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    if values.len() == 1 {
        return 0.0;
    }
    let centre = mean(values);
    let (mut squares, mut rest) = (0.0, 0.0);
    for value in values {
        let distance = value - centre;
        squares += distance * distance;
        rest += distance;
    }
    libm::sqrt((squares - rest * rest / n) / (n - 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_nist_handbook() {
        let mut weights = [
            95.1772, 95.1567, 95.1937, 95.1959, 95.1442, 95.0610, 95.1591, 95.1195, 95.1065,
            95.0925, 95.1990, 95.1682,
        ];
        weights.sort_by(f64::total_cmp);
        assert!((percentile(&weights, 90.0).unwrap() - 95.19568).abs() < 1e-9);
        assert_eq!(percentile(&weights, 0.0), Some(95.0610));
        assert_eq!(percentile(&weights, 100.0), Some(95.1990));
        assert_eq!(percentile(&[], 50.0), None);
        assert_eq!(percentile(&[3.0], 99.0), Some(3.0));
    }

    #[test]
    fn moments_of_few_values() {
        assert_eq!((mean(&[1.0]), standard_deviation(&[1.0])), (1.0, 0.0));
        assert!((standard_deviation(&[10.0, 20.0, 30.0, 40.0, 50.0]) - 15.811_388).abs() < 1e-6);
        assert!(mean(&[]).is_nan() && standard_deviation(&[]).is_nan());
    }

    #[test]
    fn an_infinite_neighbour_that_has_no_weight_changes_nothing() {
        assert_eq!(percentile(&[1.0, 2.0, f64::INFINITY], 50.0), Some(2.0));
    }
}
