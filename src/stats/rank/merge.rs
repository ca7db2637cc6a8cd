//! The one pass in which everything is counted: `x - mu` merged with `y`.

use super::{Sample, apart};

/// What one merge of `x - mu` and `y` says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RankSum {
    /// Pairs with `x - mu > y`, and half of the pairs that are equal.
    pub u: f64,
    /// The sum of `t^3 - t` over the groups of equal values.
    pub ties: f64,
}

/// U of `x - mu` against `y`, exact below 2^52.
#[must_use]
pub fn rank_sum(x: &Sample, y: &Sample, mu: f64) -> RankSum {
    if let Some(pairs) = apart::pairs_above(&x.0, &y.0, mu) {
        return RankSum { u: pairs as f64, ties: 0.0 };
    }
    let mut merge = Merge { x: &x.0, y: &y.0, mu, i: 0, j: 0, twice_u: 0, ties: 0.0 };
    merge.run();
    RankSum { u: merge.twice_u as f64 / 2.0, ties: merge.ties }
}

struct Merge<'a> {
    x: &'a [f64],
    y: &'a [f64],
    mu: f64,
    i: usize,
    j: usize,
    twice_u: u64,
    ties: f64,
}

/// `inf - inf` ranks with the greatest.
fn shifted(value: f64, mu: f64) -> f64 {
    let shifted = value - mu;
    if shifted.is_nan() { f64::INFINITY } else { shifted }
}

impl Merge<'_> {
    fn run(&mut self) {
        let (x, y, mu) = (self.x, self.y, self.mu);
        let (mut i, mut j, mut twice_u) = (0, 0, 0_u64);
        let mut previous = f64::NAN;
        while i < x.len() && j < y.len() {
            let (a, b) = (shifted(x[i], mu), y[j]);
            let least = if a < b { a } else { b };
            if least == previous {
                (self.i, self.j, self.twice_u) = (i, j, twice_u);
                self.group(previous);
                (i, j, twice_u) = (self.i, self.j, self.twice_u);
                continue;
            }
            previous = least;
            // Arithmetic, not a branch: which arm is next is a coin toss that no processor guesses.
            let from_x = usize::from(a < b);
            twice_u += (2 * j as u64) & (from_x as u64).wrapping_neg();
            i += from_x;
            j += 1 - from_x;
        }
        (self.i, self.j, self.twice_u) = (i, j, twice_u);
        self.tail(previous);
    }

    /// One arm is used up.
    fn tail(&mut self, mut previous: f64) {
        let below = 2 * self.y.len() as u64;
        while self.i < self.x.len() || self.j < self.y.len() {
            let x = self.x.get(self.i).map(|x| shifted(*x, self.mu));
            let Some(least) = x.or_else(|| self.y.get(self.j).copied()) else { return };
            if least == previous {
                self.group(previous);
                continue;
            }
            previous = least;
            if x.is_some() {
                self.twice_u += below;
                self.i += 1;
            } else {
                self.j += 1;
            }
        }
    }

    /// The rest of a group of equal values, of which one has been counted as if it were alone.
    #[cold]
    fn group(&mut self, value: f64) {
        let (i, j) = (self.i, self.j);
        let y_first = j > 0 && self.y.get(j - 1) == Some(&value);
        let below = if y_first { j - 1 } else { j };
        while self.x.get(self.i).is_some_and(|x| shifted(*x, self.mu) == value) {
            self.i += 1;
        }
        while self.y.get(self.j) == Some(&value) {
            self.j += 1;
        }
        let (p, q) = ((self.i - i) as u64, (self.j - j) as u64);
        let first_x = u64::from(!y_first);
        let q_all = q + u64::from(y_first);
        self.twice_u += first_x * q + p * (2 * below as u64 + q_all);
        let t = (p + q + 1) as f64;
        self.ties += t * t * t - t;
    }
}

/// All values are equal: ranks say nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("all observations are tied, so that their ranks say nothing")]
pub struct AllTied;

/// The standard deviation of U with ties.
pub(super) fn sigma(n: f64, m: f64, ties: f64) -> f64 {
    let all = n + m;
    libm::sqrt((n * m / 12.0) * ((all + 1.0) - ties / (all * (all - 1.0))))
}

/// W(mu): U of `x - mu` against `y`, standardised, with ties and half a rank of continuity
/// correction towards 0.
///
/// # Errors
/// When `x - mu` and `y` are all one value.
pub fn standardised(x: &Sample, y: &Sample, mu: f64) -> Result<f64, AllTied> {
    let (n, m) = (x.len(), y.len());
    let RankSum { u, ties } = rank_sum(x, y, mu);
    let distance = u - n * m / 2.0;
    let correction = if distance == 0.0 { 0.0 } else { 0.5_f64.copysign(distance) };
    let sigma = sigma(n, m, ties);
    if sigma == 0.0 || sigma.is_nan() { Err(AllTied) } else { Ok((distance - correction) / sigma) }
}

/// The chance that a value of `x` is above one of `y`, ties counted half: U / (n m).
#[must_use]
pub fn superiority(x: &Sample, y: &Sample) -> f64 {
    rank_sum(x, y, 0.0).u / (x.len() * y.len())
}
