//! The Hodges-Lehmann estimate by selection in the matrix of differences, which is never built.

use super::Sample;
use crate::stats::sort::{key, value};

/// The median of all differences `x - y`.
///
/// The differences of two ascending samples are a matrix with ascending rows and descending
/// columns, so that those up to a value are counted in one pass over both samples. A search by
/// value narrows the median down until so few differences are left that they can be listed:
/// O((n + m) log) with no more memory than the samples. NaN when a value is infinite.
#[must_use]
pub fn hodges_lehmann(x: &Sample, y: &Sample) -> f64 {
    if [x.min(), x.max(), y.min(), y.max()].iter().any(|v| v.is_infinite()) {
        return f64::NAN;
    }
    let matrix = Matrix { x: x.values(), y: y.values() };
    let all = matrix.x.len() as u64 * matrix.y.len() as u64;
    let (low, high) = matrix.select(all.div_ceil(2));
    if all % 2 == 1 { low } else { low + (high - low) / 2.0 }
}

struct Matrix<'a> {
    x: &'a [f64],
    y: &'a [f64],
}

/// How the differences lie about a value.
struct Split {
    /// How many are at most the value.
    count: u64,
    /// The greatest of those.
    below: f64,
    /// The least of the others.
    above: f64,
}

impl Matrix<'_> {
    fn split(&self, at: f64) -> Split {
        let (x, y) = (self.x, self.y);
        let mut split = Split { count: 0, below: f64::NEG_INFINITY, above: f64::INFINITY };
        // Down the stairs between the differences up to the value and those above it. Arithmetic
        // instead of branches, because no processor guesses the stairs.
        let (mut i, mut j) = (0, 0);
        while i < x.len() && j < y.len() {
            let difference = x[i] - y[j];
            let above = difference > at;
            split.below = split.below.max(if above { f64::NEG_INFINITY } else { difference });
            split.above = split.above.min(if above { difference } else { f64::INFINITY });
            let under = usize::from(!above);
            split.count += ((y.len() - j) & under.wrapping_neg()) as u64;
            i += under;
            j += 1 - under;
        }
        split
    }

    /// The differences of ranks `rank` and `rank + 1`, from 1; twice the same at the end.
    fn select(&self, rank: u64) -> (f64, f64) {
        let (Some(x0), Some(y1)) = (self.x.first(), self.y.last()) else { return (0.0, 0.0) };
        let (Some(x1), Some(y0)) = (self.x.last(), self.y.first()) else { return (0.0, 0.0) };
        let few = 2 * (self.x.len() + self.y.len()) as u64;
        // The answer is in low..=high; `under` differences are less than low, `upto` at most high.
        let (mut low, mut high) = (x0 - y1, x1 - y0);
        let (mut under, mut upto) = (0, self.x.len() as u64 * self.y.len() as u64);
        let mut next = high;
        for step in 0.. {
            if low >= high || upto - under <= few {
                break;
            }
            let Split { count, below, above } =
                self.split(probe(step, low, high, rank, under, upto));
            if count >= rank {
                (high, upto, next) = (below, count, above);
            } else {
                (low, under) = (above, count);
            }
        }
        if low >= high {
            return (low, if upto > rank { low } else { next });
        }
        self.listed(low, high, rank - under, next)
    }

    /// Lists the few differences in `low..=high` and picks the `rank`th and the one after it.
    fn listed(&self, low: f64, high: f64, rank: u64, next: f64) -> (f64, f64) {
        let mut list = Vec::new();
        let mut j = 0;
        for x in self.x {
            while self.y.get(j).is_some_and(|y| x - y > high) {
                j += 1;
            }
            let row = self.y.iter().skip(j).map(|y| x - y);
            list.extend(row.take_while(|difference| *difference >= low));
        }
        let at = usize::try_from(rank - 1).unwrap_or(usize::MAX);
        if at >= list.len() {
            return (high, next);
        }
        let (_, low, upper) = list.select_nth_unstable_by(at, f64::total_cmp);
        (*low, upper.iter().copied().fold(next, f64::min))
    }
}

/// Where to look next: by the straight line through the counts, every third time in the middle of
/// the bit patterns, which bounds the number of steps by three for each bit. Always in
/// `low..high`.
fn probe(step: u32, low: f64, high: f64, rank: u64, under: u64, upto: u64) -> f64 {
    let at = if step % 3 == 2 {
        let (low, high) = (key(low), key(high));
        value(low + (high - low) / 2)
    } else {
        low + (high - low) * ((rank - under) as f64 / (upto - under) as f64)
    };
    if at >= low && at < high { at } else { low }
}
