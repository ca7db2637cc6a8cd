//! Chance with a seed: the same numbers on every machine and with every version of every library.

use std::f64::consts::PI;

/// A stream of numbers: xoshiro256++ (Blackman and Vigna), filled from the seed by SplitMix64.
pub struct Draw {
    state: [u64; 4],
    spare: Option<f64>,
}

impl Draw {
    /// The stream of a seed and a number, so that run 7 is the same whichever runs came before.
    pub fn new(seed: u64, run: u64) -> Self {
        let mut x = seed ^ run.wrapping_mul(0xd134_2543_de82_ef95);
        let mut next = || {
            x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = x;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        Self { state: [next(), next(), next(), next()], spare: None }
    }

    fn bits(&mut self) -> u64 {
        let [a, b, c, d] = self.state;
        let out = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
        let (c, d) = (c ^ a, d ^ b);
        let (b, a) = (b ^ c, a ^ d);
        self.state = [a, b, c ^ (self.state[1] << 17), d.rotate_left(45)];
        out
    }

    /// Inside (0, 1).
    pub fn uniform(&mut self) -> f64 {
        ((self.bits() >> 11) as f64 + 0.5) / 9_007_199_254_740_992.0
    }

    /// Standard normal, by Box and Muller.
    pub fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let radius = libm::sqrt(-2.0 * libm::log(self.uniform()));
        let angle = 2.0 * PI * self.uniform();
        self.spare = Some(radius * libm::sin(angle));
        radius * libm::cos(angle)
    }

    /// Poisson with the given mean: by products below 10, above by Hörmann's transformed rejection (1993).
    pub fn poisson(&mut self, mean: f64) -> f64 {
        if mean < 10.0 {
            let (least, mut product, mut count) = (libm::exp(-mean), self.uniform(), 0.0);
            while product > least {
                product *= self.uniform();
                count += 1.0;
            }
            return count;
        }
        let b = 0.931 + 2.53 * libm::sqrt(mean);
        let a = -0.059 + 0.02483 * b;
        let inverse = 1.1239 + 1.1328 / (b - 3.4);
        let squeeze = 0.9277 - 3.6224 / (b - 2.0);
        loop {
            let (u, v) = (self.uniform() - 0.5, self.uniform());
            let near = 0.5 - u.abs();
            let count = libm::floor((2.0 * a / near + b) * u + mean + 0.43);
            if near >= 0.07 && v <= squeeze {
                return count;
            }
            if count < 0.0 || near < 0.013 && v > near {
                continue;
            }
            let density = count * libm::log(mean) - mean - libm::lgamma(count + 1.0);
            if libm::log(v * inverse / (a / (near * near) + b)) <= density {
                return count;
            }
        }
    }
}

/// A stationary series of order one with the given deviation.
pub struct Wave {
    r: f64,
    deviation: f64,
    now: f64,
}

impl Wave {
    /// Starts in its stationary distribution.
    pub fn new(draw: &mut Draw, r: f64, deviation: f64) -> Self {
        Self { r, deviation, now: deviation * draw.normal() }
    }

    /// The value of the next step.
    pub fn step(&mut self, draw: &mut Draw) -> f64 {
        let now = self.now;
        let fresh = self.deviation * libm::sqrt(1.0 - self.r * self.r);
        self.now = self.r * now + fresh * draw.normal();
        now
    }
}
