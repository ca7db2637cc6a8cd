//! Chance from a seed, by plain arithmetic: the same seed gives the same backtest on every machine.

/// A stream of draws: SplitMix64 (Steele, Lea and Flood 2014).
#[derive(Debug, Clone)]
pub struct Draw(u64);

impl Draw {
    /// The stream of a seed and of what is drawn, such as the window and the injection: streams do not
    /// depend on the order in which things are drawn.
    #[must_use]
    pub fn of(seed: u64, what: &[u64]) -> Self {
        let mut draw = Self(seed);
        for part in what {
            draw.0 = draw.bits() ^ part.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        draw
    }

    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Between 0 and 1, neither of them.
    pub fn uniform(&mut self) -> f64 {
        ((self.bits() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    /// How many of `n` happen when each does with chance `p`.
    pub fn binomial(&mut self, n: f64, p: f64) -> f64 {
        binomial(self.uniform(), n, p)
    }

    /// How many happen when `mean` are expected.
    pub fn poisson(&mut self, mean: f64) -> f64 {
        poisson(self.uniform(), mean)
    }
}

/// The binomial outcome that belongs to `u` when the outcomes are laid side by side.
fn binomial(u: f64, n: f64, p: f64) -> f64 {
    let n = n.floor();
    if n < 1.0 || p <= 0.0 || p.is_nan() {
        return 0.0;
    }
    if p >= 1.0 {
        return n;
    }
    let mode = ((n + 1.0) * p).floor().min(n);
    let ways = libm::lgamma(n + 1.0) - libm::lgamma(mode + 1.0) - libm::lgamma(n - mode + 1.0);
    let top = libm::exp(ways + mode * libm::log(p) + (n - mode) * libm::log1p(-p));
    let odds = p / (1.0 - p);
    walk(u, mode, top, n, |k| (n - k) / (k + 1.0) * odds)
}

fn poisson(u: f64, mean: f64) -> f64 {
    if !(mean > 0.0 && mean.is_finite()) {
        return 0.0;
    }
    let mode = mean.floor();
    let top = libm::exp(mode * libm::log(mean) - mean - libm::lgamma(mode + 1.0));
    walk(u, mode, top, f64::INFINITY, |k| mean / (k + 1.0))
}

/// Inversion from the mode outwards: as exact as any order of the outcomes, and done after a few standard
/// deviations. `next(k)` is P(k + 1)/P(k).
fn walk(u: f64, mode: f64, top: f64, most: f64, next: impl Fn(f64) -> f64) -> f64 {
    let (mut low, mut high) = ((mode, top), (mode, top));
    let mut left = u - top;
    while left > 0.0 && low.1.max(high.1) > 0.0 {
        if high.0 < most {
            high = (high.0 + 1.0, high.1 * next(high.0));
            left -= high.1;
            if left <= 0.0 {
                return high.0;
            }
        } else {
            high.1 = 0.0;
        }
        if low.0 > 0.0 {
            low = (low.0 - 1.0, low.1 / next(low.0 - 1.0));
            left -= low.1;
            if left <= 0.0 {
                return low.0;
            }
        } else {
            low.1 = 0.0;
        }
    }
    mode
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The share of each outcome over an even grid of uniforms.
    fn shares(outcomes: usize, of: impl Fn(f64) -> f64) -> Vec<f64> {
        let grid = 200_000;
        let mut shares = vec![0.0; outcomes];
        for i in 0..grid {
            let k = of((f64::from(i) + 0.5) / f64::from(grid)) as usize;
            if k < outcomes {
                shares[k] += 1.0 / f64::from(grid);
            }
        }
        shares
    }

    #[test]
    fn draws_have_the_shares_of_the_binomial_and_the_poisson_law() {
        let choose = |n: u32, k: u32| (0..k).map(|i| f64::from(n - i) / f64::from(i + 1)).product();
        for (n, p) in [(1_u32, 0.3_f64), (6, 0.02), (12, 0.5), (12, 0.97)] {
            let found = shares(13, |u| binomial(u, f64::from(n), p));
            for k in 0..=n {
                let ways: f64 = choose(n, k);
                let exact = ways * p.powi(k as i32) * (1.0 - p).powi((n - k) as i32);
                assert!((found[k as usize] - exact).abs() < 2e-5, "{n} {p} {k}: {exact}");
            }
        }
        for mean in [0.01_f64, 0.9, 7.5] {
            let found = shares(40, |u| poisson(u, mean));
            let mut exact = (-mean).exp();
            for (k, share) in found.iter().enumerate() {
                assert!((share - exact).abs() < 2e-5, "{mean} {k}: {share} {exact}");
                exact *= mean / (k as f64 + 1.0);
            }
        }
    }

    #[test]
    fn a_stream_is_its_seed_and_what_is_drawn() {
        assert_ne!(Draw::of(7, &[1]).uniform(), Draw::of(7, &[2]).uniform());
        assert_eq!(Draw::of(7, &[1]).uniform(), Draw::of(7, &[1]).uniform());
        let mut draw = Draw::of(7, &[1]);
        let mean = (0..4_000).map(|_| draw.uniform()).sum::<f64>() / 4_000.0;
        // The deviation of the mean of 4,000 is 0.0046.
        assert!((mean - 0.5).abs() < 0.02, "{mean}");
    }
}
