use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::*;
use crate::sim::promql::parse_exposition;

fn sample(page: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    let found = parse_exposition(page)
        .unwrap()
        .into_iter()
        .find(|s| s.labels.name() == name && labels.iter().all(|(k, v)| s.labels.get(k) == *v));
    found.map_or(f64::NAN, |s| s.value)
}

#[test]
fn an_image_behaves_as_its_tag_says_unless_it_is_set() {
    let mut behaviours = Behaviours::default();
    let bad = behaviours.of("registry.test:5000/shop/web:v2-errors-20-latency-300ms");
    assert_eq!((bad.error_rate, bad.latency.median_seconds), (0.2, 0.3));
    assert_eq!(bad.version, "v2-errors-20-latency-300ms");
    assert_eq!(behaviours.of("web").version, "latest");
    let own = Behaviour { version: "two".into(), error_rate: 0.5, ..bad };
    behaviours.set("web:v2", own.clone());
    assert_eq!(behaviours.of("web:v2"), own);
}

#[test]
fn requests_in_virtual_time_fail_at_the_error_rate_and_land_in_buckets() {
    let behaviour = Behaviours::default().of("web:errors-20-latency-100ms");
    let mut counters = PodCounters::default();
    let failed = advance(&mut counters, 10_000, &behaviour, &mut SmallRng::seed_from_u64(7));
    // Five standard deviations of a binomial with n = 10,000 and p = 0.2 are 200.
    assert!((1_800..2_200).contains(&failed), "{failed}");
    assert_eq!(counters.totals(), (10_000, failed));
    let page = counters.exposition("web", "v2");
    let bucket = |code, le| {
        sample(&page, "http_request_duration_seconds_bucket", &[("code", code), ("le", le)])
    };
    let all = bucket("200", "+Inf") + bucket("500", "+Inf");
    assert_eq!(all, 10_000.0);
    // The median is 100 ms, which is a bound.
    let below = bucket("200", "0.1") + bucket("500", "0.1");
    assert!((4_750.0..5_250.0).contains(&below), "{below}");
    let requests = [("app", "web"), ("code", "500"), ("method", "GET"), ("version", "v2")];
    assert_eq!(sample(&page, "http_requests_total", &requests), failed as f64);
}

#[test]
fn equal_seeds_give_equal_pages() {
    let page = |seed| {
        let mut counters = PodCounters::default();
        let behaviour = Behaviours::default().of("web:v1");
        advance(&mut counters, 500, &behaviour, &mut SmallRng::seed_from_u64(seed));
        counters.exposition("web", "v1")
    };
    assert_eq!(page(1), page(1));
    assert_ne!(page(1), page(2));
}
