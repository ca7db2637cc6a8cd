//! The normal distribution and sums of exponentials, with `libm` underneath.

use std::f64::consts::{FRAC_1_SQRT_2, LN_2, SQRT_2};

/// ln sqrt(2 pi).
pub(super) const LN_SQRT_2PI: f64 = 0.918_938_533_204_672_8;

/// ln(e^a + e^b).
pub fn ln_add(a: f64, b: f64) -> f64 {
    let (high, low) = if a >= b { (a, b) } else { (b, a) };
    // Two infinities of the same sign would give NaN.
    if high == low { high + LN_2 } else { high + libm::log1p(libm::exp(low - high)) }
}

/// ln of the sum of e^x, in the order given; minus infinity for none.
pub fn ln_sum(logs: impl Iterator<Item = f64> + Clone) -> f64 {
    let high = logs.clone().fold(f64::NEG_INFINITY, f64::max);
    if high.is_infinite() {
        return high;
    }
    high + libm::log(logs.map(|x| libm::exp(x - high)).sum())
}

/// P(Z <= x) of the standard normal distribution.
pub fn normal_cdf(x: f64) -> f64 {
    0.5 * libm::erfc(-x * FRAC_1_SQRT_2)
}

/// ln P(Z <= x), also where the probability itself is too small for a float.
pub fn ln_normal_cdf(x: f64) -> f64 {
    if x > -12.0 {
        return libm::log(normal_cdf(x));
    }
    // The asymptotic series of Mills' ratio; beyond 12 its eighth term is below 1e-12.
    let z = 1.0 / (x * x);
    let series = 1.0 - z * (1.0 - 3.0 * z * (1.0 - 5.0 * z * (1.0 - 7.0 * z * (1.0 - 9.0 * z))));
    -0.5 * x * x - libm::log(-x) - LN_SQRT_2PI + libm::log(series)
}

/// The z with P(Z <= z) = p, for p inside (0, 1); infinite at the ends, NaN outside.
pub fn normal_quantile(p: f64) -> f64 {
    if p.is_nan() || !(0.0..=1.0).contains(&p) {
        return f64::NAN;
    }
    if p > 0.5 {
        return -normal_quantile(1.0 - p);
    }
    if p == 0.0 {
        return f64::NEG_INFINITY;
    }
    // Newton on ln cdf, which is concave: from the left of the root it climbs without overshooting.
    let ln_p = libm::log(p);
    let mut z = -SQRT_2 * libm::sqrt(-ln_p) - 0.1;
    for _ in 0..60 {
        let ln_cdf = ln_normal_cdf(z);
        let slope = libm::exp(-0.5 * z * z - LN_SQRT_2PI - ln_cdf);
        let step = (ln_p - ln_cdf) / slope;
        z += step;
        if step.abs() <= 1e-15 * z.abs().max(1e-3) {
            break;
        }
    }
    z
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_exponentials_survive_numbers_that_overflow() {
        assert!((ln_add(800.0, 800.0) - (800.0 + LN_2)).abs() < 1e-12);
        assert_eq!(ln_add(f64::NEG_INFINITY, 3.0), 3.0);
        assert_eq!(ln_add(f64::NEG_INFINITY, f64::NEG_INFINITY), f64::NEG_INFINITY);
        assert!((ln_sum([1.0, 2.0, 3.0].into_iter()) - 3.407_605_964_444_38).abs() < 1e-14);
        assert_eq!(ln_sum(std::iter::empty()), f64::NEG_INFINITY);
    }

    #[test]
    fn quantiles_are_the_published_ones() {
        for (p, z) in [
            (0.975, 1.959_963_984_540_054),
            (0.99, 2.326_347_874_040_841),
            (0.5, 0.0),
            (0.01, -2.326_347_874_040_841),
            (1e-10, -6.361_340_902_404_056),
            (1e-300, -37.047_096_299_361_2),
        ] {
            assert!((normal_quantile(p) - z).abs() < 1e-9, "{p}: {}", normal_quantile(p));
        }
        assert!(normal_quantile(f64::NAN).is_nan() && normal_quantile(1.5).is_nan());
        assert_eq!(normal_quantile(1.0), f64::INFINITY);
    }

    #[test]
    fn the_logarithm_of_the_normal_tail_has_no_seam() {
        let (above, below) = (ln_normal_cdf(-12.0 + 1e-9), ln_normal_cdf(-12.0 - 1e-9));
        assert!((above - below).abs() < 1e-7, "{above} {below}");
        assert!((ln_normal_cdf(-20.0) + 203.917_155_374_109).abs() < 1e-7);
    }
}
