//! U of samples without equal values: four merges at a time.
//!
//! Each step of a merge waits for the comparison of the step before. Four merges of a quarter each wait
//! beside each other: at 60 to 10^6 values a step takes less than half of the time that it takes alone.

/// How many merges go side by side.
const PARTS: usize = 4;

/// The merge of a quarter of the steps.
#[derive(Clone, Copy, Default)]
struct Part {
    /// The values of both samples before it and up to its end.
    begin: usize,
    end: usize,
    /// How many of those up to its end are of `x`.
    x_end: usize,
    /// How many of those up to the present step are of `x`, and the sum of that over the steps.
    i: usize,
    area: u64,
    /// The same `i` if equal values counted as those of `x`: another one when two were equal.
    at_most: usize,
}

/// How many pairs have `x - mu > y`, for ascending samples. None where two values are equal, or `mu` is
/// infinite, so that differences may not be numbers: such pairs are not counted here.
pub(super) fn pairs_above(x: &[f64], y: &[f64], mu: f64) -> Option<u64> {
    if !mu.is_finite() || equal_neighbours(y, 0.0) || equal_neighbours(x, mu) {
        return None;
    }
    let mut parts = cut(x, y, mu)?;
    let mut done = 0;
    loop {
        // So many steps use up neither sample in any part.
        let left = parts.iter().map(|part| {
            let j = part.begin + done - part.i;
            usize::min(part.x_end - part.i, part.end - part.x_end - j)
        });
        let steps = left.min().unwrap_or(0);
        if steps == 0 {
            break;
        }
        for at in done..done + steps {
            for part in &mut parts {
                part.step(x, y, mu, at);
            }
        }
        done += steps;
    }
    let mut area = 0;
    for part in &mut parts {
        area += part.rest(x, y, mu, done)?;
    }
    // Over all steps, i was raised by each x in all steps after its own: the area tells their ranks.
    let (n, m) = (x.len() as u64, y.len() as u64);
    let ranks = n * (n + m - 1) - area;
    Some(ranks - n * (n - 1) / 2)
}

fn equal_neighbours(values: &[f64], mu: f64) -> bool {
    values.windows(2).fold(false, |any, pair| any | (pair[0] - mu == pair[1] - mu))
}

/// The parts; none where a cut lies between equal values.
fn cut(x: &[f64], y: &[f64], mu: f64) -> Option<[Part; PARTS]> {
    let mut parts = [Part::default(); PARTS];
    let (mut begin, mut i) = (0, 0);
    for (number, part) in parts.iter_mut().enumerate() {
        let end = (x.len() + y.len()) * (number + 1) / PARTS;
        let x_end = first(x, y, mu, end);
        let j_end = end - x_end;
        let last_y = j_end.checked_sub(1).and_then(|j| y.get(j));
        if x.get(x_end).zip(last_y).is_some_and(|(x, y)| x - mu == *y) {
            return None;
        }
        *part = Part { begin, end, x_end, i, area: 0, at_most: i };
        (begin, i) = (end, x_end);
    }
    Some(parts)
}

/// How many of the first `end` values of the merge are of `x`; of equal ones those of `y` are first.
fn first(x: &[f64], y: &[f64], mu: f64, end: usize) -> usize {
    let (mut low, mut high) = (end.saturating_sub(y.len()), end.min(x.len()));
    while low < high {
        let i = low + (high - low) / 2;
        if x[i] - mu < y[end - i - 1] { low = i + 1 } else { high = i }
    }
    low
}

impl Part {
    #[inline(always)]
    fn step(&mut self, x: &[f64], y: &[f64], mu: f64, at: usize) {
        let i = self.i;
        let (a, b) = (x[i] - mu, y[self.begin + at - i]);
        self.at_most += usize::from(a <= b);
        self.area += i as u64;
        self.i = i + usize::from(a < b);
    }

    /// The sum over all steps, `done` of which are; none if two values were equal.
    fn rest(&mut self, x: &[f64], y: &[f64], mu: f64, mut done: usize) -> Option<u64> {
        let y_end = self.end - self.x_end;
        while self.i < self.x_end && self.begin + done - self.i < y_end {
            self.step(x, y, mu, done);
            done += 1;
        }
        if self.at_most != self.i {
            return None;
        }
        let (i, left) = (self.i as u64, (self.end - self.begin - done) as u64);
        let climb = if self.i < self.x_end { left * left.saturating_sub(1) / 2 } else { 0 };
        Some(self.area + i * left + climb)
    }
}
