//! A weighted mixture of N likelihood ratios, with copies that start later.

use serde::{Deserialize, Serialize};

use super::lanes;
use super::special::ln_add;

/// How many copies of a process there are and what each may stake. A later copy sees what begins late
/// without the burden of what was before; shares of copies that have not started are held in cash, so the
/// sum stays a supermartingale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Restarts {
    /// The share of the copy that starts with the run.
    pub first: f64,
    /// How many later copies have equal shares. So many are followed at a time.
    pub later: usize,
    /// The share of all copies after those: the i-th of them has 1/(i (i + 1)) of it, so that it never
    /// ends. Each takes the place of the poorest one, whose stake is lost. With 0 there are none.
    pub beyond: f64,
}

impl Restarts {
    /// The process alone.
    pub const NONE: Self = Self { first: 1.0, later: 0, beyond: 0.0 };

    /// `copies` copies with equal shares.
    pub fn equal(copies: usize) -> Self {
        let first = 1.0 / copies.max(1) as f64;
        Self { first, later: copies.saturating_sub(1), beyond: 0.0 }
    }

    /// The share of a later copy, counted from 1.
    fn share(&self, number: usize) -> f64 {
        let past = number.saturating_sub(self.later) as f64;
        if past > 0.0 {
            return self.beyond / (past * (past + 1.0));
        }
        (1.0 - self.first - self.beyond) / self.later as f64
    }

    /// The share of all later copies that have not begun, when so many have.
    fn cash(&self, begun: usize) -> f64 {
        let past = begun.saturating_sub(self.later) as f64;
        self.share(1) * self.later.saturating_sub(begun) as f64 + self.beyond / (past + 1.0)
    }
}

/// Where the later copies of a process began, as the sums of the process at that time: a copy is the
/// difference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Copies<const N: usize> {
    #[serde(with = "super::bits::many")]
    marks: Vec<[f64; N]>,
    /// Which copies they are, once one was given up; before that they are the first ones in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    numbers: Vec<usize>,
    first: f64,
    later: usize,
    #[serde(default)]
    beyond: f64,
}

impl<const N: usize> Copies<N> {
    pub(crate) fn new(restarts: Restarts) -> Self {
        let Restarts { first, later, beyond } = restarts;
        let first = if later == 0 { 1.0 } else { first.clamp(0.0, 1.0) };
        let beyond = beyond.clamp(0.0, 1.0 - first);
        Self { marks: Vec::with_capacity(later), numbers: Vec::new(), first, later, beyond }
    }

    fn restarts(&self) -> Restarts {
        Restarts { first: self.first, later: self.later, beyond: self.beyond }
    }

    fn number(&self, at: usize) -> usize {
        self.numbers.get(at).copied().unwrap_or(at + 1)
    }

    fn begun(&self) -> usize {
        self.marks.len().checked_sub(1).map_or(0, |last| self.number(last))
    }

    /// Starts the next copy at the sums `now`; false if there is none left. `log_e` is ln E since a mark.
    pub(crate) fn restart(&mut self, now: [f64; N], log_e: impl Fn(&[f64; N]) -> f64) -> bool {
        if self.marks.len() < self.later {
            self.marks.push(now);
            return true;
        }
        if self.beyond == 0.0 {
            return false;
        }
        let (restarts, next) = (self.restarts(), self.begun() + 1);
        let mut numbers: Vec<usize> = (0..self.marks.len()).map(|at| self.number(at)).collect();
        let worth = self.marks.iter().zip(&numbers);
        let worth = worth.map(|(mark, n)| libm::log(restarts.share(*n)) + log_e(mark));
        // What a copy is worth is never negative: without it the sum is only smaller.
        if let Some((poorest, _)) = worth.enumerate().min_by(|a, b| a.1.total_cmp(&b.1)) {
            self.marks.remove(poorest);
            numbers.remove(poorest);
        }
        self.marks.push(now);
        numbers.push(next);
        self.numbers = numbers;
        true
    }

    /// Forgets all of them.
    pub(crate) fn clear(&mut self) {
        self.marks.clear();
        self.numbers.clear();
    }

    /// ln E of all copies and the cash; `log_e` is ln E since a mark.
    pub(crate) fn ln_mean(&self, log_e: impl Fn(&[f64; N]) -> f64) -> f64 {
        let (restarts, first) = (self.restarts(), log_e(&[0.0; N]));
        if self.later == 0 {
            return first;
        }
        let cash = restarts.cash(self.begun());
        let start = ln_add(libm::log(cash), libm::log(self.first) + first);
        self.marks.iter().enumerate().fold(start, |sum, (at, mark)| {
            ln_add(sum, libm::log(restarts.share(self.number(at))) + log_e(mark))
        })
    }
}

/// The scores S_k of the run so far, and those at which each later copy began.
///
/// Scores begin a cache line, so that no pair of them lies across two.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[repr(C, align(64))]
pub(crate) struct Mixture<const N: usize> {
    #[serde(with = "super::bits")]
    scores: [f64; N],
    #[serde(flatten)]
    copies: Copies<N>,
}

impl<const N: usize> Mixture<N> {
    pub(crate) fn new(restarts: Restarts) -> Self {
        Self { scores: [0.0; N], copies: Copies::new(restarts) }
    }

    /// The scores, for a tick to add to.
    pub(crate) fn scores_mut(&mut self) -> &mut [f64; N] {
        &mut self.scores
    }

    /// Starts the next copy; false if there is none left.
    pub(crate) fn restart(&mut self, ln_weight: &[f64; N]) -> bool {
        let Self { scores, copies } = self;
        copies.restart(*scores, |mark| log_e_since(scores, mark, ln_weight))
    }

    /// ln E with the given logarithms of weights.
    pub(crate) fn log_e(&self, ln_weight: &[f64; N]) -> f64 {
        self.copies.ln_mean(|mark| log_e_since(&self.scores, mark, ln_weight))
    }

    /// ln E of the copy that started with the run.
    pub(crate) fn log_e_of_first(&self, ln_weight: &[f64; N]) -> f64 {
        log_e_since(&self.scores, &[0.0; N], ln_weight)
    }

    /// The weights that the alternatives have now: what they were, times their likelihood.
    pub(crate) fn posterior(&self, ln_weight: &[f64; N]) -> [f64; N] {
        let log_e = self.log_e_of_first(ln_weight);
        std::array::from_fn(|k| libm::exp(ln_weight[k] + self.scores[k] - log_e))
    }
}

fn log_e_since<const N: usize>(scores: &[f64; N], mark: &[f64; N], ln_weight: &[f64; N]) -> f64 {
    let mut terms: [f64; N] = std::array::from_fn(|k| ln_weight[k] + (scores[k] - mark[k]));
    let high = terms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    for term in &mut terms {
        *term -= high;
    }
    lanes::exp_all(&mut terms);
    high + libm::log(terms.iter().sum())
}
