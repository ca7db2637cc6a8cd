//! Logarithm and exponential of many numbers at once.
//!
//! Only additions, multiplications and divisions in a fixed order: the compiler may do them two or four
//! at a time and the bits stay the same on every processor. `libm` is the second opinion in the tests.

/// Replaces every number by its natural logarithm. The numbers are positive and normal.
pub(crate) fn ln_all(numbers: &mut [f64]) {
    for x in numbers {
        *x = ln(*x);
    }
}

/// Replaces every number by its exponential. Below -708 the answer is that of -708, which is nothing
/// beside the 1 that a shifted sum contains; the numbers are at most 700.
pub(crate) fn exp_all(numbers: &mut [f64]) {
    for x in numbers {
        *x = exp(*x);
    }
}

/// ln x = k ln 2 + 2 atanh((m - 1)/(m + 1)) with x = 2^k m and m between the square roots of 1/2 and 2.
#[inline(always)]
fn ln(x: f64) -> f64 {
    const ONE: u64 = 0x3ff0_0000_0000_0000;
    // The upper half of the bits of the square root of 1/2.
    const LOW: u64 = 0x3fe6_a09e_0000_0000;
    // Adding a whole number below 2^52 to the bits of 2^52 is adding it to the number.
    const WHOLE: f64 = 4_503_599_627_370_496.0;
    let shifted = x.to_bits().wrapping_add(ONE - LOW);
    let k = f64::from_bits(WHOLE.to_bits() | (shifted >> 52)) - (WHOLE + 1023.0);
    let m = f64::from_bits((shifted & 0x000f_ffff_ffff_ffff) + LOW);
    let s = (m - 1.0) / (m + 1.0);
    let z = s * s;
    // (atanh(s)/s - 1)/s^2 = 1/3 + z/5 + z^2/7 + .., as the polynomial through its values at the seven
    // Chebyshev nodes of 0 <= z <= 0.0295: off by 1.4e-16, and that times z of the sum.
    let w = z * z;
    let even = A[0] + w * (A[2] + w * (A[4] + w * A[6]));
    let odd = A[1] + w * (A[3] + w * A[5]);
    let low = even + z * odd;
    k * LN2_HIGH + (2.0 * s + (2.0 * s * (z * low) + k * LN2_LOW))
}

/// exp x = 2^n exp(r) with |r| <= ln(2)/2, by Taylor's series to r^13.
#[inline(always)]
fn exp(x: f64) -> f64 {
    // Adding and taking away 1.5 * 2^52 rounds to the nearest whole number.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    let x = if x < -708.0 { -708.0 } else { x };
    let n = (x * std::f64::consts::LOG2_E + ROUND) - ROUND;
    let r = (x - n * LN2_HIGH) - n * LN2_LOW;
    let z = r * r;
    let far = 1.0 / 40_320.0
        + r / 362_880.0
        + z * (1.0 / 3_628_800.0
            + r / 39_916_800.0
            + z * (1.0 / 479_001_600.0 + r / 6_227_020_800.0));
    let near =
        0.5 + r / 6.0 + z * (1.0 / 24.0 + r / 120.0 + z * (1.0 / 720.0 + r / 5_040.0 + z * far));
    let power = (n + (ROUND + 1023.0)).to_bits() << 52;
    f64::from_bits(power) * (1.0 + (r + z * near))
}

const A: [f64; 7] = [
    0.333_333_333_333_333_5,
    0.199_999_999_999_496,
    0.142_857_143_130_572_6,
    0.111_111_055_560_524_74,
    0.090_914_453_890_130_66,
    0.076_658_333_382_985_88,
    0.073_085_641_999_036_5,
];

/// ln 2 in two parts; the first has 32 bits, so its product with an exponent is exact.
const LN2_HIGH: f64 = f64::from_bits(0x3fe6_2e42_fee0_0000);
const LN2_LOW: f64 = f64::from_bits(0x3dea_39ef_3579_3c76);

#[cfg(test)]
mod tests {
    use super::*;

    fn ulps(a: f64, b: f64) -> u64 {
        a.to_bits().abs_diff(b.to_bits())
    }

    #[test]
    fn logarithms_are_those_of_libm_to_two_units_in_the_last_place() {
        let mut x = 1e-9;
        while x < 1e9 {
            let far_from_one = (x - 1.0f64).abs() > 1e-3;
            assert!(!far_from_one || ulps(ln(x), libm::log(x)) <= 2, "{x}");
            assert!((ln(x) - libm::log(x)).abs() <= 1e-18 + 4e-16 * libm::log(x).abs(), "{x}");
            x *= 1.000_37;
        }
        assert_eq!(ln(1.0), 0.0);
    }

    #[test]
    fn exponentials_are_those_of_libm_to_two_units_in_the_last_place() {
        let mut x = -707.9;
        while x < 700.0 {
            assert!(ulps(exp(x), libm::exp(x)) <= 2, "{x}");
            x += 0.013_7;
        }
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(f64::NEG_INFINITY) < 1e-300);
    }
}
