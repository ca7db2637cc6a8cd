//! Versions with thousands of pods: what is kept of them, and what is counted.

use super::*;

/// So many pods of a version, each with these values.
fn pods(prefix: &str, count: usize, bounds: &[f64], values: &[f64]) -> Reading {
    let pod = |n| {
        let pod = PodReading { created: None, values: values.to_vec() };
        (format!("checkout-{prefix}-{n:05}"), pod)
    };
    Reading { bounds: bounds.to_vec(), pods: (0..count).map(pod).collect() }
}

/// The state after some ticks of versions with so many pods, of which each has the same number of requests
/// in each of so many buckets.
fn after(ticks: i64, (canary, stable): (usize, usize), buckets: u32) -> MetricState {
    let of = Comparison { kind: Kind::Histogram, history: None, ..errors() };
    let bounds: Vec<f64> =
        (1..buckets).map(|n| f64::from(n) / 10.0).chain([f64::INFINITY]).collect();
    let mut state = MetricState::default();
    for tick in 0..ticks {
        let each = 100_000.0 + tick as f64;
        let values: Vec<f64> = (1..=buckets).map(|n| f64::from(n) * each).collect();
        let canary = pods("7f9c8d6b54", canary, &bounds, &values);
        let stable = pods("5d4b9c7f88", stable, &bounds, &values);
        state.observe(&of, &Tick { canary, stable }, at(tick * TICK), &counting());
    }
    state
}

/// As the run's status has it: text in an object.
fn size(state: &MetricState) -> usize {
    serde_json::to_string(&state.checkpoint().unwrap()).unwrap().len()
}

#[test]
fn a_checkpoint_stays_small_however_many_pods_there_are() {
    for buckets in [2, 14, 33] {
        let (few, some) = (size(&after(3, (5, 5), buckets)), size(&after(3, (5, 55), buckets)));
        let many = size(&after(3, (5_000, 5_000), buckets));
        println!("{buckets} buckets: {} bytes a pod, {few} to {many}", (some - few) / 50);
        assert!(many - few < 60_000, "{many}");
        assert!(many < 75_000, "{many}: twenty metrics are 1.5 MB, the limit of an object");
    }
}

#[test]
fn a_sample_of_the_pods_is_compared_with_all_of_the_canary_and_said() {
    let of = errors();
    let counting = Counting { weight: Some(0.02), ..counting() };
    let mut state = MetricState::default();
    for tick in 0..8 {
        let n = tick as f64;
        let canary = pods("7f9c8d6b54", 40, &[], &[6.0 * n, 100.0 * n]);
        // Pods come and go: a tenth of them is new in each tick.
        let mut stable = pods("5d4b9c7f88", 2_000, &[], &[2.0 * n, 100.0 * n]);
        let prefix = format!("checkout-5d4b9c7f88-0{tick}");
        stable.pods.retain(|pod, _| !pod.starts_with(&prefix));
        state.observe(&of, &Tick { canary, stable }, at(tick * TICK), &counting);
    }
    let metric = Metric { of: &of, state: &state };
    let text = metric.describe();
    assert!(text.contains(", 3 times, 95% interval "), "{text}");
    assert!(text.ends_with(", 250 of 2000 stable pods counted"), "{text}");
    assert_eq!(judge(&[metric], &Rules::level(0.01), at(8 * TICK)).verdict, Verdict::Fail);
    let (canary, stable) = state.arms();
    assert_eq!(canary.sums[1], 40.0 * 700.0);
    assert!(stable.sums[1] <= 250.0 * 700.0 && stable.sums[1] > 180.0 * 700.0, "{stable:?}");
    assert_eq!(state.complaint(), None, "its share is that of all pods");
}

#[test]
fn a_pod_that_was_left_out_is_not_counted_from_0_when_there_is_room() {
    let mut counters = Counters::default();
    let mut sum = 0.0;
    for tick in 1..9 {
        let n = tick as f64;
        let mut reading = pods("7f9c8d6b54", 400, &[], &[0.0, 100.0 * n]);
        reading.pods.values_mut().for_each(|pod| pod.created = Some(at(1)));
        if tick > 4 {
            let gone = "checkout-7f9c8d6b54-00200".to_owned();
            reading.pods = reading.pods.split_off(&gone);
        }
        let seen = counters.advance(Kind::Ratio, &reading, at(tick * TICK), &counting());
        sum += seen.parts.last().copied().unwrap_or(0.0);
        if tick == 4 || tick == 8 {
            assert_eq!(seen.traffic, 100.0 * reading.pods.len() as f64);
        }
    }
    // All from 0 and 250 of them until there are 200: then those, and who was left out from then on.
    let most = 400.0 + 250.0 * 3.0 + 200.0 * 4.0;
    assert!(sum <= 100.0 * most && sum > 100.0 * (most - 200.0), "{sum}");
}

#[test]
fn tilts_that_are_kept_and_tilts_that_are_made_anew_give_the_same_evidence() {
    let of = Comparison { kind: Kind::Histogram, ..errors() };
    let (mut kept, mut anew) = (MetricState::default(), MetricState::default());
    let bounds = [0.1, 0.2, 0.5, 1.0, f64::INFINITY];
    for tick in 0..20 {
        let n = tick as f64 + 1.0;
        let canary = pods("c", 1, &bounds, &[20.0, 50.0, 80.0, 99.0, 100.0].map(|count| count * n));
        let stable =
            pods("s", 1, &bounds, &[300.0, 600.0, 850.0, 990.0, 1e3].map(|count| count * n));
        let answer = Tick { canary, stable };
        kept.observe(&of, &answer, at(tick * TICK), &counting());
        anew.observe(&of, &answer, at(tick * TICK), &counting());
        anew = MetricState::restore(&anew.checkpoint().unwrap()).unwrap();
        assert_eq!(kept, anew);
        assert_eq!(kept.log_e(&of).to_bits(), anew.log_e(&of).to_bits(), "tick {tick}");
    }
    assert!(kept.log_e(&of) > 1.0);
}
