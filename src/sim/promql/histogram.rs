//! `histogram_quantile` over classic buckets.

use std::collections::BTreeMap;

use super::eval::Sample;
use super::labels::Labels;

struct Bucket {
    upper: f64,
    count: f64,
}

/// The `q`-quantile of each histogram in `vector`, which holds its cumulative `le` buckets.
pub(super) fn histogram_quantile(q: f64, vector: Vec<Sample>) -> Vec<Sample> {
    let mut histograms = BTreeMap::<Labels, Vec<Bucket>>::new();
    for sample in vector {
        // A series without a readable `le` is no bucket; Prometheus skips it too.
        let Some(upper) = parse_bound(sample.labels.get("le")) else { continue };
        let rest = sample.labels.except(&["le".to_owned()]);
        histograms.entry(rest).or_default().push(Bucket { upper, count: sample.value });
    }
    histograms
        .into_iter()
        .map(|(labels, buckets)| Sample { labels, value: quantile(q, buckets) })
        .collect()
}

fn parse_bound(text: &str) -> Option<f64> {
    match text {
        "+Inf" | "Inf" => Some(f64::INFINITY),
        other => other.parse().ok(),
    }
}

fn quantile(q: f64, buckets: Vec<Bucket>) -> f64 {
    if q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    let buckets = monotonic(buckets);
    let ([.., below_top, top], [finite @ .., _]) = (&buckets[..], &buckets[..]) else {
        return f64::NAN;
    };
    if top.upper != f64::INFINITY || top.count == 0.0 || top.count.is_nan() {
        return f64::NAN;
    }
    let rank = q * top.count;
    let found = finite.partition_point(|b| b.count < rank);
    let Some(bucket) = finite.get(found) else {
        return below_top.upper;
    };
    let previous = found.checked_sub(1).and_then(|i| finite.get(i));
    match previous {
        None if bucket.upper <= 0.0 => bucket.upper,
        None => bucket.upper * (rank / bucket.count),
        Some(p) => {
            p.upper + (bucket.upper - p.upper) * ((rank - p.count) / (bucket.count - p.count))
        }
    }
}

/// Buckets in order of their bound, equal bounds merged, counts never falling.
fn monotonic(mut buckets: Vec<Bucket>) -> Vec<Bucket> {
    buckets.sort_by(|a, b| a.upper.total_cmp(&b.upper));
    let mut merged: Vec<Bucket> = Vec::with_capacity(buckets.len());
    for bucket in buckets {
        match merged.last_mut() {
            Some(last) if last.upper == bucket.upper => last.count += bucket.count,
            _ => merged.push(bucket),
        }
    }
    let mut highest = f64::NEG_INFINITY;
    for bucket in &mut merged {
        highest = highest.max(bucket.count);
        bucket.count = highest;
    }
    merged
}
