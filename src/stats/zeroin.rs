//! Brent's root finder with the steps and the stopping rule of R's `zeroin`.
//!
//! R. P. Brent, *Algorithms for Minimization Without Derivatives* (1973), chapter 4. The rule to
//! stop is `|c - b| / 2 <= 2 eps |b| + tolerance / 2`; the answer is the best point seen, whether
//! or not the interval ever held a root. It is a port in behaviour, step by step, because the
//! numbers of R's and Kayenta's rank intervals are those of its last step.

/// Steps after which the search gives up and returns where it is.
const MAX_STEPS: usize = 1001;

/// How near a root must be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Tolerance {
    /// In the unit of the values: R's and Kayenta's 1e-4.
    Absolute(f64),
    /// As a share of the interval that is searched, so that the unit does not matter.
    Relative(f64),
}

impl Tolerance {
    /// The tolerance in the unit of the values.
    #[must_use]
    pub fn on(self, low: f64, high: f64) -> f64 {
        match self {
            Self::Absolute(tolerance) => tolerance,
            Self::Relative(share) => share * (high - low),
        }
    }
}

/// One end of the search and the function's value there.
#[derive(Debug, Clone, Copy)]
pub struct Point {
    /// Where.
    pub at: f64,
    /// What the function is there.
    pub value: f64,
}

/// A root of `f` between two points whose values have been computed.
///
/// # Errors
/// The first error of `f`.
pub fn zeroin<E>(
    low: Point,
    high: Point,
    tolerance: f64,
    mut f: impl FnMut(f64) -> Result<f64, E>,
) -> Result<f64, E> {
    let (mut a, mut b, mut c) = (low, high, low);
    if a.value == 0.0 {
        return Ok(a.at);
    }
    if b.value == 0.0 {
        return Ok(b.at);
    }
    for _ in 0..MAX_STEPS {
        let previous = b.at - a.at;
        if c.value.abs() < b.value.abs() {
            (a, b, c) = (b, c, b);
        }
        let near = 2.0 * f64::EPSILON * b.at.abs() + tolerance / 2.0;
        let half = (c.at - b.at) / 2.0;
        if half.abs() <= near || b.value == 0.0 {
            return Ok(b.at);
        }
        let mut step = half;
        if previous.abs() >= near && a.value.abs() > b.value.abs() {
            step = interpolated(a, b, c, previous, near).unwrap_or(half);
        }
        if step.abs() < near {
            step = if step > 0.0 { near } else { -near };
        }
        a = b;
        let at = b.at + step;
        b = Point { at, value: f(at)? };
        if (b.value > 0.0 && c.value > 0.0) || (b.value < 0.0 && c.value < 0.0) {
            c = a;
        }
    }
    Ok(b.at)
}

/// The step by the secant or the inverse quadratic through the last points, if it lands well
/// inside the interval and shrinks fast enough.
fn interpolated(a: Point, b: Point, c: Point, previous: f64, near: f64) -> Option<f64> {
    let width = c.at - b.at;
    let (mut p, mut q);
    if a.at == c.at {
        let t = b.value / a.value;
        p = width * t;
        q = 1.0 - t;
    } else {
        let (r, s, t) = (a.value / c.value, b.value / c.value, b.value / a.value);
        p = t * (width * r * (r - s) - (b.at - a.at) * (s - 1.0));
        q = (r - 1.0) * (s - 1.0) * (t - 1.0);
    }
    if p > 0.0 {
        q = -q;
    } else {
        p = -p;
    }
    let inside = p < 0.75 * width * q - (near * q).abs() / 2.0;
    let shrinks = p < (previous * q / 2.0).abs();
    (inside && shrinks).then(|| p / q)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn root(low: f64, high: f64, tolerance: f64, f: impl Fn(f64) -> f64) -> (f64, usize) {
        let mut calls = 0;
        let at = |x| Point { at: x, value: f(x) };
        let found = zeroin(at(low), at(high), tolerance, |x| {
            calls += 1;
            Ok::<_, Infallible>(f(x))
        });
        (found.unwrap(), calls)
    }

    #[test]
    fn a_smooth_root_is_found_to_the_tolerance_in_few_steps() {
        let (x, calls) = root(0.0, 2.0, 1e-12, |x| x * x * x - 2.0);
        assert!((x - 2.0_f64.cbrt()).abs() < 1e-12);
        assert!(calls <= 12, "{calls}");
    }

    #[test]
    fn a_root_at_an_end_needs_no_step() {
        assert_eq!(root(1.0, 2.0, 1e-4, |x| x - 1.0), (1.0, 0));
        assert_eq!(root(1.0, 2.0, 1e-4, |x| x - 2.0), (2.0, 0));
    }

    #[test]
    fn an_interval_below_the_absolute_tolerance_answers_with_its_better_end() {
        assert_eq!(root(0.0, 1e-5, 1e-4, |x| x - 4e-6), (0.0, 0));
        assert_eq!(root(0.0, 1e-5, 1e-4, |x| x - 6e-6), (1e-5, 0));
        let relative = Tolerance::Relative(1e-9).on(0.0, 1e-5);
        assert!((root(0.0, 1e-5, relative, |x| x - 4e-6).0 - 4e-6).abs() < 1e-13);
    }

    #[test]
    fn a_step_is_found_where_it_jumps() {
        let (x, _) = root(-1.0, 3.0, 1e-4, |x| if x < 0.7 { 1.0 } else { -1.0 });
        assert!((x - 0.7).abs() <= 1e-4, "{x}");
    }

    #[test]
    fn an_error_of_the_function_ends_the_search() {
        let at = |x: f64| Point { at: x, value: x };
        assert_eq!(zeroin(at(-1.0), at(2.0), 1e-9, |_| Err::<f64, _>("tied")), Err("tied"));
    }
}
