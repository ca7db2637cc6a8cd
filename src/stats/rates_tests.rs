use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;

fn arm(bad: f64, exposure: f64) -> Arm {
    Arm { bad, exposure }
}

fn binomial(n: u32, k: u32, p: f64) -> f64 {
    let choose: f64 = (0..k).map(|i| f64::from(n - i) / f64::from(i + 1)).product();
    choose * p.powi(k as i32) * (1.0 - p).powi((n - k) as i32)
}

/// Three ticks with these events and splits: the expectation of E over every outcome.
fn expectation(
    ticks: &[(u32, f64)],
    restarts: Restarts,
    chance: impl Fn(f64) -> f64,
    e: fn(&RateProcess) -> f64,
) -> f64 {
    fn walk(
        ticks: &[(u32, f64)],
        process: &RateProcess,
        chance: &dyn Fn(f64) -> f64,
        e: fn(&RateProcess) -> f64,
    ) -> f64 {
        let Some(((events, rho), rest)) = ticks.split_first() else { return e(process) };
        let split = Split::new(*rho).unwrap();
        (0..=*events)
            .map(|canary| {
                let mut next = process.clone();
                next.observe(&split, f64::from(canary), f64::from(*events));
                next.restart();
                binomial(*events, canary, chance(*rho)) * walk(rest, &next, chance, e)
            })
            .sum()
    }
    walk(ticks, &RateProcess::new(restarts), &chance, e)
}

const TICKS: [(u32, f64); 3] = [(5, 0.1), (3, 0.5), (7, 0.03)];
const TWO: Restarts = Restarts { first: 0.5, later: 2, beyond: 0.0 };

#[test]
fn the_expectation_is_one_at_the_edge_of_the_null() {
    let plain = expectation(&TICKS, TWO, |rho| rho, |p| p.log_e_of_first().exp());
    assert!((plain - 1.0).abs() < 1e-12, "{plain}");
    let restarted = expectation(&TICKS, TWO, |rho| rho, |p| p.log_e().exp());
    assert!((restarted - 1.0).abs() < 1e-12, "{restarted}");
}

/// A copy that is given up for a new one takes its stake with it, and the stakes of all copies that may
/// ever begin are one.
#[test]
fn copies_that_begin_in_the_place_of_the_poorest_one_keep_the_expectation_at_most_one() {
    let ticks = [(4, 0.1), (3, 0.5), (5, 0.03), (4, 0.2)];
    let restarts = Restarts { first: 0.5, later: 2, beyond: 0.2 };
    let replaced = expectation(&ticks, restarts, |rho| rho, |p| p.log_e().exp());
    assert!(replaced <= 1.0 + 1e-12 && replaced > 0.8, "{replaced}");
    let before = expectation(&ticks[..2], restarts, |rho| rho, |p| p.log_e().exp());
    assert!((before - 1.0).abs() < 1e-12, "none was given up yet: {before}");
    let mut endless = RateProcess::new(restarts);
    assert!((0..100).all(|_| endless.restart()));
    let kept = serde_json::to_string(&endless).unwrap();
    assert_eq!(serde_json::from_str::<RateProcess>(&kept).unwrap(), endless);
}

#[test]
fn inside_the_null_the_expectation_is_below_one() {
    let inside = expectation(&TICKS, TWO, |rho| 0.7 * rho, |p| p.log_e().exp());
    assert!(inside < 1.0 && inside > 0.3, "{inside}");
}

#[test]
fn the_guard_has_expectation_one_at_its_limit() {
    let mean: f64 = (0..=20)
        .map(|bad| {
            let mut guard = Guard::new(0.05);
            assert!(guard.observe(arm(f64::from(bad), 20.0)));
            binomial(20, bad, 0.05) * guard.log_e().exp()
        })
        .sum();
    assert!((mean - 1.0).abs() < 1e-12, "{mean}");
}

#[test]
fn two_ticks_with_one_split_are_one() {
    let split = Split::new(0.13).unwrap();
    let (mut apart, mut together) = (RateProcess::default(), RateProcess::default());
    apart.observe(&split, 3.0, 9.0);
    apart.observe(&split, 1.0, 40.0);
    together.observe(&split, 4.0, 49.0);
    assert!((apart.log_e() - together.log_e()).abs() < 1e-12);
}

#[test]
fn one_copy_is_the_process_without_restarts_bit_for_bit() {
    let split = Split::new(0.1).unwrap();
    let (mut plain, mut one) = (RateProcess::default(), RateProcess::new(Restarts::equal(1)));
    for canary in [0.0, 3.0, 1.0, 4.0] {
        plain.observe(&split, canary, 12.0);
        one.observe(&split, canary, 12.0);
        assert!(!one.restart());
    }
    assert_eq!(plain.log_e().to_bits(), one.log_e().to_bits());
}

#[test]
fn copies_not_yet_started_are_held_in_cash() {
    let split = Split::new(0.1).unwrap();
    let mut process = RateProcess::new(Restarts::equal(4));
    assert!(process.log_e().abs() < 1e-15);
    process.observe(&split, 0.0, 5_000.0);
    assert!((process.log_e() - 0.75f64.ln()).abs() < 1e-12, "{}", process.log_e());
    assert!(process.restart() && process.restart() && process.restart() && !process.restart());
    // The late copies see only what is late.
    let (quiet, mut late) = (process.log_e(), RateProcess::default());
    process.observe(&split, 60.0, 200.0);
    late.observe(&split, 60.0, 200.0);
    assert!(quiet < 0.0);
    assert!((process.log_e() - (0.75f64.ln() + late.log_e())).abs() < 1e-9);
}

#[test]
fn arms_in_each_others_place_are_the_other_direction() {
    let once = Restarts::NONE;
    let mut up = RateTest::new(Direction::Increase, 1.1, once);
    let mut down = RateTest::new(Direction::Decrease, 1.1, once);
    let mut either = RateTest::new(Direction::Either, 1.1, once);
    let mut mirrored = either.clone();
    for (a, b) in [(arm(7.0, 300.0), arm(20.0, 2_000.0)), (arm(0.0, 10.0), arm(3.0, 2_700.0))] {
        assert!(up.observe(a, b) && down.observe(b, a));
        assert!(either.observe(a, b) && mirrored.observe(b, a));
    }
    assert_eq!(up.log_e().to_bits(), down.log_e().to_bits());
    assert!((either.log_e() - mirrored.log_e()).abs() < 1e-12);
}

#[test]
fn the_unit_of_exposure_is_nothing_to_the_verdict() {
    let run = |scale: f64| {
        let mut test = RateTest::new(Direction::Increase, 1.25, Restarts::equal(1));
        for bad in [3.0, 0.0, 9.0] {
            assert!(test.observe(arm(bad, 311.0 * scale), arm(20.0, 2_877.0 * scale)));
        }
        test.log_e()
    };
    for power in [-30, -3, 7, 40] {
        assert_eq!(run(1.0).to_bits(), run(2f64.powi(power)).to_bits());
    }
    for decimal in [1e-9, 1e-4, 1e9] {
        assert!((run(1.0) - run(decimal)).abs() < 1e-11);
    }
}

#[test]
fn ticks_without_sense_change_nothing() {
    let fresh = RateTest::new(Direction::Either, 1.0, Restarts::equal(3));
    let mut test = fresh.clone();
    for (canary, baseline) in [
        (arm(0.0, 0.0), arm(1.0, 100.0)),
        (arm(1.0, 100.0), arm(0.0, 0.0)),
        (arm(f64::NAN, 100.0), arm(1.0, 100.0)),
        (arm(1.0, f64::INFINITY), arm(1.0, 100.0)),
        (arm(1.0, 100.0), arm(-1.0, 100.0)),
        (arm(f64::INFINITY, 100.0), arm(1.0, 100.0)),
    ] {
        assert!(!test.observe(canary, baseline), "{canary:?} {baseline:?}");
    }
    assert_eq!(test, fresh);
    // No bad events are no evidence either, but the tick makes sense.
    assert!(test.observe(arm(0.0, 10.0), arm(0.0, 90.0)));
    assert_eq!(test, fresh);
    assert!(!Guard::new(1.5).observe(arm(1.0, 10.0)));
    assert!(!Equivalence::new(f64::NAN).observe(arm(1.0, 10.0), arm(1.0, 10.0)));
}

#[test]
fn a_checkpoint_is_small_and_loses_no_bit() {
    let mut test =
        RateTest::new(Direction::Increase, 1.0, Restarts { first: 0.5, later: 12, beyond: 0.0 });
    for tick in 0..240 {
        if tick % 20 == 19 {
            test.restart();
        }
        test.observe(arm(f64::from(tick % 7), 100.3), arm(13.0, 911.7));
    }
    let text = serde_json::to_string(&test).unwrap();
    assert!(text.len() < 6_000, "{}", text.len());
    let back: RateTest = serde_json::from_str(&text).unwrap();
    assert_eq!(back, test);
    assert_eq!(back.log_e().to_bits(), test.log_e().to_bits());
    let broken = text.replace("\"scores\":\"", "\"scores\":\"x");
    assert!(serde_json::from_str::<RateTest>(&broken).is_err());
}

#[test]
fn a_double_rate_is_seen_and_named() {
    let split = Split::of(20.0, 180.0, 1.0).unwrap();
    let mut process = RateProcess::default();
    process.observe(&split, 400.0, 2_200.0);
    assert!(process.log_e() > libm::log(100.0));
    assert!((process.likely_ratio() - 2.0).abs() < 0.2, "{}", process.likely_ratio());
}

#[test]
fn an_equal_canary_is_proven_within_its_margin_and_a_bad_one_never() {
    let (mut equal, mut bad) = (Equivalence::new(1.5), Equivalence::new(1.5));
    equal.observe(arm(300.0, 30_000.0), arm(2_700.0, 270_000.0));
    bad.observe(arm(450.0, 30_000.0), arm(2_700.0, 270_000.0));
    assert!(equal.log_e() > libm::log(20.0), "{}", equal.log_e());
    assert!(bad.log_e() < 0.0, "{}", bad.log_e());
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        rng_seed: RngSeed::Fixed(3),
        ..ProptestConfig::default()
    })]

    #[test]
    fn more_errors_of_the_canary_never_lower_the_evidence(
        ticks in prop::collection::vec((0u32..20, 0u32..60, 1u32..500, 1u32..5_000), 1..30),
        worse in 0usize..30,
    ) {
        let run = |more: f64| {
            let restarts = Restarts { first: 0.5, later: 5, beyond: 0.0 };
            let mut test = RateTest::new(Direction::Increase, 1.0, restarts);
            for (i, (e_c, e_b, n_c, n_b)) in ticks.iter().enumerate() {
                let add = if i == worse % ticks.len() { more } else { 0.0 };
                test.observe(
                    arm(f64::from(*e_c) + add, f64::from(*n_c)),
                    arm(f64::from(*e_b), f64::from(*n_b)),
                );
                if i % 6 == 5 {
                    test.restart();
                }
            }
            test.log_e()
        };
        prop_assert!(run(1.0) >= run(0.0) - 1e-12);
    }

    #[test]
    fn proof_of_harm_and_of_equivalence_exclude_each_other(
        e_c in 0u32..5_000, e_b in 0u32..5_000, n_c in 1u32..100_000, n_b in 1u32..100_000,
        margin in 1.0f64..3.0,
    ) {
        // Both at once would say "above the margin" and "below the margin" at their levels.
        let (c, b) = (arm(f64::from(e_c), f64::from(n_c)), arm(f64::from(e_b), f64::from(n_b)));
        let mut fail = RateTest::new(Direction::Increase, margin, Restarts::equal(1));
        let mut pass = Equivalence::new(margin);
        fail.observe(c, b);
        pass.observe(c, b);
        prop_assert!(fail.log_e() < libm::log(20.0) || pass.log_e() < libm::log(20.0));
    }
}

#[test]
fn the_tangent_touches_the_evidence_where_it_reaches_its_height() {
    for (rho, height) in [(0.1, 4.6), (0.1, 9.2), (0.82, 3.0), (0.001, 4.6), (0.5, 4.6)] {
        for events in [3.0, 50.0, 4e3, 1e6] {
            let split = Split::new(rho).unwrap();
            let line = split.tangent(events, height);
            let log_e = |at: f64| {
                let mut process = RateProcess::default();
                // No limit of what could be counted: the line goes beyond it where there are few events.
                assert!(process.observe(&split, 0.0, at));
                process.add_canary(line.start + line.slope * at);
                process.log_e()
            };
            let there = log_e(events);
            assert!((there - height).abs() < 1e-5, "{rho} {events}: {there} for {height}");
            // It touches: a step of a thousandth changes by the square of that.
            for near in [0.999, 1.001] {
                let change = (log_e(near * events) - height).abs();
                assert!(change < 0.002, "{rho} {events} {near}: {change}");
            }
        }
    }
}
