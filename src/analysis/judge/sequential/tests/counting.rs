//! No event is counted twice: by pods that come back, series that go away, buckets that change.

use super::*;

/// The canary's pods, all born ten seconds into the run.
fn born(pods: &[(&str, &[f64])]) -> Reading {
    let mut reading = reading(pods);
    reading.pods.values_mut().for_each(|pod| pod.created = Some(at(10)));
    reading
}

/// What the counters of a metric of this kind make of one pod's values, tick by tick.
fn parts(kind: Kind, values: &[&[f64]]) -> Vec<Vec<f64>> {
    let mut counters = Counters::default();
    let tick = |(tick, values): (usize, &&[f64])| {
        counters
            .advance(kind, &reading(&[("a", values)]), at(tick as i64 * TICK), &counting())
            .parts
    };
    values.iter().enumerate().map(tick).collect()
}

#[test]
fn a_pod_that_comes_back_after_ten_minutes_is_not_counted_from_0_once_more() {
    let mut counters = Counters::default();
    let mut sum = 0.0;
    for tick in 1..80_i32 {
        let n = f64::from(tick);
        let both: [(&str, &[f64]); 2] = [("a", &[n, 100.0 * n]), ("b", &[n, 100.0 * n])];
        // The scrape of one of two pods fails for eleven minutes.
        let seen = if (20..64).contains(&tick) { &both[..1] } else { &both[..] };
        let now = at(i64::from(tick) * TICK);
        let increment = counters.advance(Kind::Ratio, &born(seen), now, &counting());
        sum += increment.parts.last().copied().unwrap_or(0.0);
    }
    assert_eq!(sum, 100.0 * (79.0 + 19.0 + 15.0));
}

#[test]
fn a_pod_whose_buckets_change_is_not_counted_from_0_once_more() {
    let mut counters = Counters::default();
    let mut tick = |number: i64, bounds: &[f64], values: &[f64]| {
        let reading = Reading { bounds: bounds.to_vec(), ..born(&[("a", values)]) };
        counters.advance(Kind::Histogram, &reading, at(number * TICK), &counting()).parts
    };
    let end = f64::INFINITY;
    assert_eq!(tick(1, &[0.1, end], &[10.0, 20.0]), [10.0, 20.0]);
    assert!(tick(2, &[0.1, 0.5, end], &[12.0, 20.0, 25.0]).is_empty());
    assert_eq!(tick(3, &[0.1, 0.5, end], &[13.0, 22.0, 30.0]), [1.0, 2.0, 5.0]);
    assert!(tick(4, &[0.1, 1.0, end], &[14.0, 40.0, 50.0]).is_empty(), "as many, but others");
    assert_eq!(tick(5, &[0.1, 1.0, end], &[14.0, 41.0, 52.0]), [0.0, 1.0, 2.0]);
}

#[test]
fn a_tick_without_the_other_arm_changes_no_buckets_of_the_run() {
    let of = Comparison { kind: Kind::Histogram, ..errors() };
    let mut state = MetricState::default();
    for tick in 1..6 {
        let n = tick as f64;
        let (fast, all) = (90.0 * n, 100.0 * n);
        let canary = born(&[("c", &[fast, all, all])]);
        let canary = Reading { bounds: vec![0.1, 0.5, f64::INFINITY], ..canary };
        let stable = reading(&[("s", &[900.0 * n, 1_000.0 * n])]);
        let stable = Reading { bounds: vec![0.1, f64::INFINITY], ..stable };
        let stable = if tick == 3 { Reading::default() } else { stable };
        state.observe(&of, &Tick { canary, stable }, at(tick * TICK), &counting());
    }
    assert_eq!(state.arms().0.sums, [450.0, 500.0], "each request once");
    assert_eq!(state.arms().1.sums, [3_600.0, 4_000.0]);
}

#[test]
fn a_series_that_goes_away_is_no_reset() {
    // A path with ten requests is not used any more; then there is an hour of traffic in a tick.
    let gone = [&[900.0, 100_000.0][..], &[900.0, 99_990.0], &[901.0, 100_090.0]];
    assert_eq!(parts(Kind::Ratio, &gone), [vec![], vec![], vec![1.0, 90.0]]);
    // One of two servers that scrape the pod is away for two ticks.
    let half = [&[20.0, 2_000.0][..], &[10.0, 1_010.0], &[10.0, 1_020.0], &[20.0, 2_060.0]];
    assert_eq!(parts(Kind::Ratio, &half), [vec![], vec![], vec![], vec![0.0, 60.0]]);
    // A series of errors alone: the requests are no reset either.
    let errors = [&[50.0, 1_000.0][..], &[3.0, 1_100.0], &[52.0, 1_300.0]];
    assert_eq!(parts(Kind::Ratio, &errors), [vec![], vec![], vec![2.0, 300.0]]);
    let buckets = [&[50.0, 80.0, 1_000.0][..], &[49.0, 90.0, 990.0], &[51.0, 95.0, 1_020.0]];
    assert_eq!(parts(Kind::Histogram, &buckets), [vec![], vec![], vec![1.0, 15.0, 20.0]]);
}

#[test]
fn a_sum_that_stays_lower_is_where_counting_begins_after_ten_minutes() {
    let mut counters = Counters::default();
    let mut sums = Vec::new();
    for tick in 0..50_i32 {
        let lost = if tick < 2 { 0.0 } else { 4_000.0 };
        let values = [10.0, 10_000.0 + 10.0 * f64::from(tick) - lost];
        let now = at(i64::from(tick) * TICK);
        let increment =
            counters.advance(Kind::Ratio, &reading(&[("a", &values)]), now, &counting());
        sums.extend(increment.parts.last().copied());
    }
    assert_eq!(sums, [vec![10.0], vec![10.0; 7]].concat());
}

#[test]
fn a_restart_that_is_counted_by_another_process_is_one_restart() {
    let of = Kind::Count { per: true };
    // The pod has restarted seven times before, and does once more: its requests begin again at 0.
    let restarted = [&[7.0, 5_000.0][..], &[8.0, 40.0], &[8.0, 140.0]];
    assert_eq!(parts(of, &restarted), [vec![], vec![1.0, 40.0], vec![0.0, 100.0]]);
    // The process that counts the events begins again: the requests do not.
    let events = [&[7.0, 5_000.0][..], &[1.0, 5_100.0]];
    assert_eq!(parts(of, &events), [vec![], vec![1.0, 100.0]]);
}

#[test]
fn a_gauge_may_fall() {
    let mut counters = Counters::default();
    for (tick, level) in [50.0, 40.0, 10.0, 30.0].into_iter().enumerate() {
        let now = at(tick as i64 * TICK);
        let seen = counters.advance(Kind::Gauge, &reading(&[("a", &[level])]), now, &counting());
        assert_eq!((seen.quality.resets, seen.quality.dropped, seen.traffic), (0, 0, 0.0));
    }
}

#[test]
fn events_without_a_counter_of_requests_say_nothing_of_the_canarys_share() {
    let of = Comparison { kind: Kind::Count { per: false }, ..errors() };
    let counting = Counting { weight: Some(0.1), ..counting() };
    let mut state = MetricState::default();
    for tick in 0..10 {
        let canary = reading(&[("c", &[0.0])]);
        let stable = reading(&[("s", &[9.0 * f64::from(tick)])]);
        let now = at(i64::from(tick) * TICK);
        state.observe(&of, &Tick { canary, stable }, now, &counting);
        let judgement = judge(&[Metric { of: &of, state: &state }], &Rules::level(0.01), now);
        assert_ne!(judgement.verdict, Verdict::Inconclusive, "{}", judgement.reason);
        assert!(!judgement.reason.contains("traffic"), "{}", judgement.reason);
    }
    assert!(state.log_e_pass(&of) > 3.0, "nine events in each tick against none");
    assert_eq!(state.complaint(), None);
}

#[test]
fn what_two_processes_of_a_pod_count_is_the_pods_above_the_bounds_that_both_have() {
    let bucket = |process: &str, le: &str, value| {
        series(&[("pod", "a"), ("instance", process), ("le", le)], value)
    };
    let both = [
        bucket("1", "0.1", 4.0),
        bucket("1", "0.5", 7.0),
        bucket("1", "+Inf", 9.0),
        bucket("2", "0.1", 40.0),
        bucket("2", "0.25", 60.0),
        bucket("2", "0.5", 70.0),
        bucket("2", "+Inf", 90.0),
    ];
    let found = Reading::of_buckets(&both, "pod", &BTreeMap::new()).unwrap();
    assert_eq!(found.bounds, [0.1, 0.5, f64::INFINITY]);
    assert_eq!(found.pods, reading(&[("a", &[44.0, 77.0, 99.0])]).pods);
}
