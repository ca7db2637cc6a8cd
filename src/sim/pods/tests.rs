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

#[test]
fn a_pod_begins_cold_differs_from_its_siblings_and_has_a_life_behind_it() {
    let (mut rng, usual) = (SmallRng::seed_from_u64(3), Behaviours::default().of("web:errors-1"));
    let cold = Behaviour { cold: Some(Cold { times: 3.0, seconds: 30.0 }), ..usual.clone() };
    assert_eq!([cold.at_age(29.0).error_rate, cold.at_age(30.0).error_rate], [0.03, 0.01]);
    assert_eq!(usual.of_a_pod(&mut rng), usual, "without a spread all are alike");
    let spread = Behaviour { spread: 0.2, ..usual.clone() };
    let logs: Vec<f64> =
        (0..400).map(|_| (spread.of_a_pod(&mut rng).error_rate / 0.01).ln()).collect();
    let deviation = (logs.iter().map(|log| log * log).sum::<f64>() / 400.0).sqrt();
    // Five standard errors, 0.2/sqrt(800) each.
    assert!((deviation - 0.2).abs() < 0.035, "{deviation}");
    let lived = Behaviour { lived: 100_000, ..usual };
    let mut counters = PodCounters::default();
    counters.live(&lived, &mut rng);
    let (all, failed) = counters.totals();
    assert_eq!(all, 100_000);
    // Five standard deviations of a binomial with n = 100,000 and p = 0.01.
    assert!(failed.abs_diff(1_000) < 158, "{failed}");
    let page = counters.exposition("web", "v1");
    let bucket =
        |le| sample(&page, "http_request_duration_seconds_bucket", &[("code", "200"), ("le", le)]);
    assert_eq!(bucket("+Inf"), (all - failed) as f64);
    assert!(bucket("0.01") > 0.0 && bucket("0.05") < bucket("+Inf"));
}
