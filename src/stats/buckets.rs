//! Histograms of different layouts brought onto one: the coarser always wins. And their quantiles, for
//! people to read: no decision uses them.

use super::exposure::dirichlet;

/// The bounds that two classic layouts share; counts of both can be brought onto these.
pub fn common_bounds(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().copied().filter(|bound| b.contains(bound)).collect()
}

/// Adds the counts of single buckets (one more than `bounds`) to those of a coarser layout. False, and
/// nothing is added, unless every bound of the coarser one is a bound of the finer.
pub fn add_classic(bounds: &[f64], counts: &[f64], coarse: &[f64], into: &mut [f64]) -> bool {
    let fits = counts.len() == bounds.len() + 1 && into.len() == coarse.len() + 1;
    if !fits || !coarse.iter().all(|bound| bounds.contains(bound)) {
        return false;
    }
    for (j, count) in counts.iter().enumerate() {
        // The coarse bucket of the first coarse bound that is not below the fine one.
        let to = bounds.get(j).map_or(coarse.len(), |b| coarse.partition_point(|c| c < b));
        into[to] += count;
    }
    true
}

/// The upper bound of a native histogram's bucket: 2^(index 2^-schema).
pub fn native_bound(schema: i32, index: i32) -> f64 {
    libm::exp2(f64::from(index) * libm::exp2(-f64::from(schema)))
}

/// The positive buckets of a native histogram: counts from bucket `first` on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Native<'a> {
    /// The resolution: 2^schema buckets for each doubling.
    pub schema: i32,
    /// The index of the first count.
    pub first: i32,
    /// The counts of single buckets.
    pub counts: &'a [f64],
}

impl Native<'_> {
    /// Adds the counts to a layout of at most this resolution whose first bucket is `first`. What lies
    /// outside goes to its ends, so no request is lost. False if the layout is finer or has no bucket.
    pub fn add_to(&self, schema: i32, first: i32, into: &mut [f64]) -> bool {
        let coarser = self.schema - schema;
        let Some(last) = into.len().checked_sub(1) else { return false };
        if !(0..31).contains(&coarser) {
            return false;
        }
        for (offset, count) in (0i64..).zip(self.counts) {
            // Bucket i covers (2^((i-1)/n), 2^(i/n)], so two neighbours (2k-1, 2k) become k.
            let index = i64::from(self.first) + offset;
            let merged = (index - 1).div_euclid(1 << coarser) + 1;
            let at = (merged - i64::from(first)).clamp(0, last as i64);
            into[at as usize] += count;
        }
        true
    }
}

/// The prior of [`quantile_interval`], in requests: of the order of what a canary gets in a tick.
const PRIOR: f64 = 100.0;

/// The quantile `q` of single bucket counts (one more than `bounds`) by interpolation inside its
/// bucket, as Prometheus' `histogram_quantile` does it: beyond the last bound, that bound.
pub fn quantile(bounds: &[f64], counts: &[f64], q: f64) -> Option<f64> {
    let total: f64 = counts.iter().sum();
    if !(total > 0.0 && total.is_finite()) {
        return None;
    }
    let (rank, mut below, mut lower) = (q * total, 0.0, bounds.first()?.min(0.0));
    for (bound, count) in bounds.iter().zip(counts) {
        if below + count >= rank && *count > 0.0 {
            return Some(lower + (bound - lower) * ((rank - below) / count).clamp(0.0, 1.0));
        }
        (below, lower) = (below + count, *bound);
    }
    bounds.last().copied()
}

/// The bounds between which the quantile `q` lies, with an error of `alpha` however often one looks:
/// those that the beta-binomial mixture (Howard and Ramdas 2022, for a fixed quantile) does not
/// exclude. Only as fine as the buckets; infinite above the last bound.
pub fn quantile_interval(bounds: &[f64], counts: &[f64], q: f64, alpha: f64) -> (f64, f64) {
    let total: f64 = counts.iter().sum();
    let (mut below, mut low, mut high) = (0.0, 0.0, f64::INFINITY);
    for (bound, count) in bounds.iter().zip(counts) {
        below += count;
        let sides = [below, total - below];
        let excluded = dirichlet(&sides, &[q, 1.0 - q], PRIOR) >= -libm::log(alpha);
        match (excluded, below < q * total) {
            (true, true) => low = *bound,
            (true, false) if high == f64::INFINITY => high = *bound,
            _ => {}
        }
    }
    (low, high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classic_layouts_meet_on_their_common_bounds() {
        let (a, b) = ([0.1, 0.25, 0.5, 1.0], [0.1, 0.3, 0.5, 2.0]);
        let common = common_bounds(&a, &b);
        assert_eq!(common, [0.1, 0.5]);
        let mut into = vec![0.0; 3];
        assert!(add_classic(&a, &[1.0, 2.0, 3.0, 4.0, 5.0], &common, &mut into));
        assert_eq!(into, [1.0, 5.0, 9.0]);
        assert!(!add_classic(&a, &[1.0; 5], &[0.3], &mut [0.0; 2]));
    }

    #[test]
    fn a_value_stays_inside_its_bucket_when_native_schemas_merge() {
        for value in [0.003, 0.49, 0.5, 0.51, 1.0, 1.01, 7.9, 8.0, 100.0] {
            for (fine, coarse) in [(3, 3), (3, 2), (5, 1), (2, 0), (1, -1)] {
                let at = |schema: i32| {
                    (-4_000..4_000).find(|i| value <= native_bound(schema, *i)).unwrap()
                };
                let native = Native { schema: fine, first: at(fine), counts: &[1.0] };
                let mut into = vec![0.0; 41];
                assert!(native.add_to(coarse, at(coarse) - 20, &mut into));
                assert_eq!(into[20], 1.0, "{value} {fine} {coarse}");
            }
        }
    }

    #[test]
    fn nothing_is_lost_beyond_the_ends_and_nothing_is_made_finer() {
        let native = Native { schema: 3, first: -50, counts: &[1.0; 100] };
        let mut into = vec![0.0; 4];
        assert!(native.add_to(0, 0, &mut into));
        assert_eq!(into.iter().sum::<f64>(), 100.0);
        assert!(!native.add_to(4, 0, &mut into) && !native.add_to(3, 0, &mut []));
    }

    #[test]
    fn a_quantile_is_interpolated_as_prometheus_does_it() {
        let (bounds, counts) = ([0.1, 0.2, 0.4], [50.0, 40.0, 10.0, 0.0]);
        assert_eq!(quantile(&bounds, &counts, 0.5), Some(0.1));
        assert!((quantile(&bounds, &counts, 0.9).unwrap() - 0.2).abs() < 1e-12);
        assert!((quantile(&bounds, &counts, 0.95).unwrap() - 0.3).abs() < 1e-12);
        assert_eq!(
            quantile(&bounds, &[1.0, 0.0, 0.0, 99.0], 0.9),
            Some(0.4),
            "beyond the last bound"
        );
        assert_eq!(quantile(&bounds, &[0.0; 4], 0.9), None);
        assert_eq!(quantile(&[], &[5.0], 0.9), None);
    }

    #[test]
    fn the_interval_of_a_quantile_shrinks_with_requests_and_holds_at_every_look() {
        // A uniform distribution over 100 buckets: the 90th percentile is the bound 90.
        let bounds: Vec<f64> = (1..100).map(f64::from).collect();
        let at = |requests: f64| quantile_interval(&bounds, &[requests / 100.0; 100], 0.9, 0.05);
        assert_eq!(at(0.0), (0.0, f64::INFINITY));
        let (few, many) = (at(1_000.0), at(100_000.0));
        assert!(few.0 < 90.0 && 90.0 < few.1 && few.1 < 100.0, "{few:?}");
        assert_eq!(many, (89.0, 91.0));
        // SplitMix64, seed 1: 400 runs with a look every 100 requests.
        let mut state = 1_u64;
        let mut uniform = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z ^ (z >> 31)) >> 11
        };
        let mut missed = 0;
        for _ in 0..400 {
            let mut counts = [0.0; 100];
            missed += u32::from((0..30).any(|_| {
                for _ in 0..100 {
                    counts[(uniform() % 100) as usize] += 1.0;
                }
                let (low, high) = quantile_interval(&bounds, &counts, 0.9, 0.05);
                !(low <= 90.0 && 90.0 <= high)
            }));
        }
        assert!(missed <= 20, "{missed} of 400 runs, 20 are 5%");
    }
}
