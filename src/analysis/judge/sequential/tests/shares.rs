//! The canary's share of the traffic: one that is not the planned one, and one that moves.

use super::*;

/// Seeds 60,000 and on: two requests a second, a tenth of them the canary's. Four ticks in a row with less
/// than half of it are chance.
#[test]
fn with_few_requests_a_tick_chance_is_not_taken_for_a_route_that_sends_too_little() {
    let told = |seed: &u64| {
        let (mut draws, mut watch) = (Draws(60_000 + seed), ExposureWatch::default());
        (0..240).any(|_| {
            watch.observe(Some(0.1), draws.poisson(3.0), draws.poisson(27.0));
            watch.too_little().is_some()
        })
    };
    assert_eq!((0..200).filter(told).count(), 0);
}

/// When it is told that the canary gets too little, counted in ticks, with the share that is told.
fn told(watch: &mut ExposureWatch, ticks: u32, canary: f64, stable: f64) -> Option<(u32, f64)> {
    (1..=ticks).find_map(|tick| {
        watch.observe(Some(0.1), canary, stable);
        watch.too_little().map(|(share, _)| (tick, share))
    })
}

#[test]
fn a_route_that_sends_a_third_is_told_as_soon_as_the_requests_prove_it() {
    let mut watch = ExposureWatch::default();
    assert_eq!(told(&mut watch, 240, 300.0, 2_700.0), None);
    let (tick, share) = told(&mut watch, 10, 100.0, 2_900.0).unwrap();
    assert_eq!(tick, 4, "what was right for an hour does not hide it");
    assert!((share - 1.0 / 30.0).abs() < 1e-12, "{share} is of the hour");
    let mut few = ExposureWatch::default();
    let (tick, _) = told(&mut few, 40, 10.0, 290.0).unwrap();
    assert!((8..30).contains(&tick), "{tick}");
}

/// Ticks of 3,000 requests: so many ticks, the canary's share, and the shares of bad ones of both arms.
type Step = (usize, f64, f64, f64);

/// The state after these steps, and what was shown at the first failure.
fn played(steps: &[Step]) -> (MetricState, Option<(String, f64)>) {
    let (of, mut state) = (errors(), MetricState::default());
    let (mut canary, mut stable) = ([0.0, 0.0], [100.0, 10_000.0]);
    let (mut failure, mut now) = (None, 0);
    for (ticks, weight, bad, stable_bad) in steps {
        for _ in 0..*ticks {
            let (few, most) = (3_000.0 * weight, 3_000.0 * (1.0 - weight));
            canary = [canary[0] + few * bad, canary[1] + few];
            stable = [stable[0] + most * stable_bad, stable[1] + most];
            let tick =
                Tick { canary: reading(&[("c", &canary)]), stable: reading(&[("s", &stable)]) };
            now += TICK;
            let counting = Counting { weight: Some(*weight), ..counting() };
            state.observe(&of, &tick, at(now), &counting);
            let judged = judge(&[Metric { of: &of, state: &state }], &Rules::level(0.01), at(now));
            if judged.verdict == Verdict::Fail && failure.is_none() {
                failure = Some((judged.reason, state.evidence(&of, 4.6).ratio.unwrap()));
            }
        }
    }
    (state, failure)
}

/// Sums over both steps show half of the stable version's errors.
#[test]
fn the_ratio_of_a_failure_is_not_turned_round_by_a_weight_that_moved() {
    let (state, failure) = played(&[(21, 0.1, 0.05, 0.05), (21, 0.5, 0.006, 0.002)]);
    let (reason, ratio) = failure.unwrap();
    assert!(ratio > 1.0, "{ratio}: {reason}");
    let evidence = state.evidence(&errors(), 4.6);
    assert!(evidence.ratio_low.unwrap() > 1.0, "{evidence:?}");
}

/// Sums over both steps show twice the stable version's errors.
#[test]
fn equal_arms_have_the_ratio_one_however_the_weight_and_the_errors_moved() {
    let (state, failure) = played(&[(21, 0.1, 0.001, 0.001), (21, 0.5, 0.05, 0.05)]);
    assert_eq!(failure, None);
    let (of, now) = (errors(), at(42 * TICK));
    let metric = Metric { of: &of, state: &state };
    let evidence = state.evidence(&of, 4.6);
    assert!((evidence.ratio.unwrap() - 1.0).abs() < 1e-9, "{evidence:?}");
    assert!(evidence.ratio_low.unwrap() < 1.0 && evidence.ratio_high.unwrap() > 1.0);
    assert!(metric.describe().contains(", 1 times, 95% interval 0."), "{}", metric.describe());
    let outlook = metric.outlook(&Rules::level(0.01), now).unwrap();
    assert!((outlook.design_effect.unwrap() - 1.0).abs() < 1e-9, "{outlook:?}");
}
