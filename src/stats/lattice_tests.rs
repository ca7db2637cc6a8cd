use super::*;

fn even(events: usize, rho: f64) -> [Segment; 1] {
    [Segment { events, rho }]
}

/// The chance of crossing by walking every one of the 2^N orders of events.
fn brute(plan: &[Segment], log_e: f64, slack: f64) -> f64 {
    fn walk(steps: &[f64], at: (&RateProcess, Excess), log_e: f64, slack: f64) -> f64 {
        let Some((rho, rest)) = steps.split_first() else { return 0.0 };
        let split = Split::new(*rho).unwrap();
        [(0.0, 1.0 - rho), (1.0, *rho)]
            .map(|(canary, chance)| {
                let (mut process, mut excess) = (at.0.clone(), at.1);
                process.observe(&split, canary, 1.0);
                excess.observe(&split, canary, 1.0);
                let crossed = process.log_e() >= log_e || excess.events >= slack - 1e-9;
                let below =
                    if crossed { 1.0 } else { walk(rest, (&process, excess), log_e, slack) };
                chance * below
            })
            .iter()
            .sum()
    }
    let steps: Vec<f64> = plan.iter().flat_map(|s| vec![s.rho; s.events]).collect();
    walk(&steps, (&RateProcess::default(), Excess::default()), log_e, slack)
}

#[test]
fn an_excess_in_units_of_its_deviation_is_the_score_of_statsmodels() {
    let oracle = crate::stats::recorded::scipy();
    let cases = oracle["two_rate"].as_array().unwrap();
    for case in cases {
        let number = |name: &str| case[name].as_f64().unwrap();
        let (bad, other) = (number("a"), number("b"));
        let mut excess = Excess::default();
        let split = Split::of(number("n"), number("m"), 1.0).unwrap();
        excess.observe(&split, bad, bad + other);
        let (score, p) = (excess.events / excess.variance.sqrt(), &case["poisson_score_larger"]);
        assert!((score - p[0].as_f64().unwrap()).abs() < 1e-9, "{case}: {score}");
        let chance = crate::stats::special::normal_cdf(-score);
        assert!((chance - p[1].as_f64().unwrap()).abs() < 1e-9, "{case}: {chance}");
    }
    assert_eq!(cases.len(), 4);
}

#[test]
fn the_programme_agrees_with_every_order_of_events() {
    for (events, rho) in [(12, 0.5), (16, 0.1), (18, 0.25), (9, 0.9)] {
        for (log_e, slack) in [(2.0, 3.1), (3.0, f64::INFINITY), (f64::INFINITY, 2.5), (5.3, 4.0)] {
            let plan = even(events, rho);
            let exact = Walk::new(&plan, log_e).crossing(slack);
            let walked = brute(&plan, log_e, slack);
            assert!(
                (exact - walked).abs() < 1e-12,
                "{events} {rho} {log_e} {slack}: {exact} {walked}"
            );
        }
    }
}

#[test]
fn steps_with_other_weights_are_walked_in_their_order() {
    let plan = [
        Segment { events: 6, rho: 0.05 },
        Segment { events: 5, rho: 0.2 },
        Segment { events: 5, rho: 0.5 },
    ];
    let exact = Walk::new(&plan, 2.5).crossing(3.3);
    assert!((exact - brute(&plan, 2.5, 3.3)).abs() < 1e-12, "{exact}");
}

/// The crossing of the mixture at 1/alpha = 100, as computed by an independent programme.
#[test]
fn the_mixture_alone_crosses_as_rarely_as_published() {
    for (events, rho, percent) in [
        (20, 0.5, 0.22),
        (100, 0.5, 0.50),
        (1_000, 0.5, 0.71),
        (20, 0.1, 0.19),
        (100, 0.1, 0.35),
        (1_000, 0.1, 0.55),
    ] {
        let crossing = 100.0 * crossing_of_mixture(&even(events, rho), libm::log(100.0));
        assert!((crossing - percent).abs() < 0.011, "{events} {rho}: {crossing}");
    }
    // Room is left for the slack up to the longest plan.
    assert!(crossing_of_mixture(&even(EXACT_EVENTS, 0.5), libm::log(100.0)) < 0.008_5);
}

#[test]
fn the_boundary_spends_the_level_and_never_more() {
    for (events, rho) in [(40, 0.1), (200, 0.5), (800, 0.1), (2_000, 0.1)] {
        let plan = even(events, rho);
        let hybrid = Hybrid::new(&plan, 0.01, true).unwrap();
        assert!(hybrid.crossing <= 0.009 && hybrid.crossing > 0.007_5, "{events} {rho} {hybrid:?}");
        let spent = Walk::new(&plan, hybrid.log_e).crossing(hybrid.slack);
        assert!((spent - hybrid.crossing).abs() < 1e-15);
        assert!((hybrid.log_e_after - 1_000f64.ln()).abs() < 1e-12);

        let any = Hybrid::new(&plan, 0.01, false).unwrap();
        assert!((any.log_e - 200f64.ln()).abs() < 1e-12 && any.log_e == any.log_e_after);
        assert!(any.crossing <= 0.01 && any.crossing > 0.009, "{events} {rho} {any:?}");
        let spent = Walk::new(&plan, f64::INFINITY).crossing(any.slack);
        assert!((spent + 0.005 - any.crossing).abs() < 1e-15);
    }
}

#[test]
fn the_limit_for_many_events_is_a_little_stricter_than_the_exact_boundary() {
    for rho in [0.5, 0.05] {
        let exact = Hybrid::new(&even(EXACT_EVENTS, rho), 0.01, false).unwrap();
        let limit = Hybrid::new(&even(EXACT_EVENTS + 1, rho), 0.01, false).unwrap();
        let of = |h: &Hybrid| h.slack / h.horizon.sqrt();
        assert!(of(&exact) < of(&limit) && of(&exact) > of(&limit) - 0.04, "{exact:?} {limit:?}");
    }
    let even = Hybrid::new(&even(1_000_000, 0.5), 0.01, false).unwrap();
    assert!((even.slack / even.horizon.sqrt() - 2.807).abs() < 1e-3);
}

#[test]
fn beyond_the_planned_events_only_strong_evidence_counts() {
    let hybrid = Hybrid::new(&even(100, 0.1), 0.01, true).unwrap();
    let split = Split::new(0.1).unwrap();
    let mut excess = Excess::default();
    excess.observe(&split, 30.0, 100.0);
    assert!(hybrid.crossed(0.0, &excess));
    excess.observe(&split, 0.1, 1.0);
    assert!(!hybrid.crossed(hybrid.log_e, &excess));
    assert!(hybrid.crossed(hybrid.log_e_after, &excess));
}

#[test]
fn plans_without_events_or_sense_have_no_boundary() {
    assert_eq!(Hybrid::new(&[], 0.01, true), None);
    assert_eq!(Hybrid::new(&even(0, 0.1), 0.01, true), None);
    assert_eq!(Hybrid::new(&even(10, f64::NAN), 0.01, true), None);
    assert_eq!(Hybrid::new(&even(10, 0.1), 0.0, true), None);
}
