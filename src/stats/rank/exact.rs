//! The exact distribution of U for samples without ties.

/// Above this many pairs the counts take too long, and the normal approximation is as good.
pub(super) const MAX_PAIRS: usize = 10_000;

/// P(U >= `u`) for samples of `n` and `m` distinct values; nothing above [`MAX_PAIRS`].
///
/// The number of orders with a given U is the coefficient in the Gaussian binomial of `n + m` over
/// `n`, the product over k of (1 - q^(m+k)) / (1 - q^k). It is kept as a share of all orders so that
/// nothing overflows, one factor after the other: every intermediate product is a distribution.
pub(super) fn upper_tail(n: usize, m: usize, u: f64) -> Option<f64> {
    let pairs = n * m;
    if pairs > MAX_PAIRS {
        return None;
    }
    let mut shares = vec![0.0_f64; pairs + 1];
    shares[0] = 1.0;
    for k in 1..=n {
        let top = k * m;
        for at in (m + k..=top).rev() {
            shares[at] -= shares[at - m - k];
        }
        for at in k..=top {
            shares[at] += shares[at - k];
        }
        let scale = k as f64 / (m + k) as f64;
        shares.iter_mut().for_each(|share| *share *= scale);
    }
    // The distribution is symmetric about half of the pairs; the shorter tail is the exact one.
    let from = libm::ceil(u).clamp(0.0, pairs as f64 + 1.0) as usize;
    let upper: f64 = shares.iter().skip(from).rev().sum();
    if from * 2 > pairs { Some(mirror(&shares, from)) } else { Some(upper) }
}

/// The upper tail summed from the lower one, where the small shares have their precision.
fn mirror(shares: &[f64], from: usize) -> f64 {
    shares.iter().take(shares.len().saturating_sub(from)).sum()
}
