//! A release is looked at by many runs, at several weights, by pods that have just started.

use super::*;

/// How a line of runs goes from one to the next.
#[derive(Clone, Copy)]
enum Next {
    GoesOn,
    Anew,
}

/// In how many of `seeds` good releases a run fails: thirty runs of six ticks, each at another weight, at a
/// risk of 5 %.
fn failed(seeds: u64, next: Next) -> usize {
    let rules = Rules::level(0.05);
    let of = errors();
    let fails = |seed: &u64| {
        let (mut world, mut state) = (World::new(10_000 + seed, 1, 1), MetricState::default());
        let mut tick = 0;
        (0..30).any(|run: i32| {
            match next {
                Next::GoesOn => state.carry_on(),
                Next::Anew => state = MetricState::default(),
            }
            let counting = Counting {
                started: at(tick * TICK),
                weight: Some(0.03 * f64::from(run + 1)),
                ..counting()
            };
            (0..6).any(|_| {
                tick += 1;
                state.observe(&of, &world.tick(200.0, 0.01, 1.0), at(tick * TICK), &counting);
                let metrics = [Metric { of: &of, state: &state }];
                judge(&metrics, &rules, at(tick * TICK)).verdict == Verdict::Fail
            })
        })
    };
    (0..seeds).filter(fails).count()
}

/// Seeds 10,000 and on: with a level of 5 % at most 15 of 300 are expected, whatever the number of runs.
#[test]
fn a_release_risks_its_alpha_once_however_many_runs_look_at_it() {
    let (once, each) = (failed(300, Next::GoesOn), failed(300, Next::Anew));
    println!(
        "300 good releases of thirty runs at 5%: {once} failed, {each} with fresh evidence each"
    );
    assert!(once <= 15, "{once} of 300");
    assert!(each > 15, "{each} of 300: what is tested makes no difference");
}

#[test]
fn harm_of_the_run_before_is_not_forgotten() {
    let of = errors();
    let mut world = World::new(5, 1, 1);
    let (mut state, mut tick) = (MetricState::default(), 0);
    for run in 0..40 {
        let counting = Counting { started: at(tick * TICK), ..counting() };
        for _ in 0..2 {
            tick += 1;
            state.observe(&of, &world.tick(200.0, 0.01, 2.0), at(tick * TICK), &counting);
        }
        let metrics = [Metric { of: &of, state: &state }];
        if judge(&metrics, &Rules::level(0.01), at(tick * TICK)).verdict == Verdict::Fail {
            assert!(run > 1, "half a minute alone shows nothing");
            return;
        }
        state = MetricState::restore(&state.checkpoint().unwrap()).unwrap();
        state.carry_on();
    }
    panic!("twice the errors in {tick} ticks of forty runs, and no failure");
}

#[test]
fn time_between_two_runs_is_no_missing_scrape() {
    let mut counters = Counters::default();
    let later = Counting { started: at(290), ..counting() };
    advance(&mut counters, 0, &[("a", &[0.0, 100.0])]);
    let later_on = reading(&[("a", &[3.0, 400.0])]);
    let bridged = counters.advance(Kind::Ratio, &later_on, at(300), &later);
    assert_eq!((bridged.parts, bridged.quality.missed), (vec![3.0, 300.0], 0));
}

#[test]
fn the_tick_in_which_the_weight_moves_is_no_evidence() {
    let of = errors();
    let mut state = MetricState::default();
    let counting = |weight| Counting { weight: Some(weight), ..counting() };
    let grown = |n: f64, bad: f64| Tick {
        canary: reading(&[("c", &[bad, 300.0 * n])]),
        stable: reading(&[("s", &[27.0 * n, 2_700.0 * n])]),
    };
    state.observe(&of, &grown(1.0, 3.0), at(0), &counting(0.1));
    state.observe(&of, &grown(2.0, 6.0), at(15), &counting(0.1));
    let before = state.log_e(&of);
    state.observe(&of, &grown(3.0, 200.0), at(30), &counting(0.5));
    assert!((state.log_e(&of) - before).abs() < 1e-12);
    state.observe(&of, &grown(4.0, 400.0), at(45), &counting(0.5));
    assert!(state.log_e(&of) > before + 3.0);
}

#[test]
fn a_canary_pod_that_has_just_started_is_waited_for_and_its_errors_are_not_counted() {
    let of = errors();
    let counting = Counting { warm_up: SignedDuration::from_secs(60), ..counting() };
    let mut state = MetricState::default();
    let judged = |state: &MetricState, second| {
        judge(&[Metric { of: &of, state }], &Rules::level(0.01), at(second))
    };
    for tick in 1..8 {
        let n = f64::from(tick);
        // Half of its requests fail until it is a minute old.
        let bad = 150.0 * n.min(4.0) + 3.0 * (n - 4.0).max(0.0);
        let pod = PodReading { created: Some(at(1)), values: vec![bad, 300.0 * n] };
        let canary = Reading { bounds: Vec::new(), pods: BTreeMap::from([("c".to_owned(), pod)]) };
        let stable = reading(&[("s", &[27.0 * n, 2_700.0 * n])]);
        let second = i64::from(tick) * TICK;
        state.observe(&of, &Tick { canary, stable }, at(second), &counting);
        let judgement = judged(&state, second);
        assert_eq!(judgement.verdict, Verdict::Continue, "at {second}: {}", judgement.reason);
        if (2..5).contains(&tick) {
            assert!(judgement.reason.contains("compare.warmUp"), "{}", judgement.reason);
        }
    }
    assert!(state.log_e(&of) < 1.0, "{}", state.log_e(&of));
}

#[test]
fn half_of_the_planned_share_for_a_minute_is_inconclusive_and_never_a_failure() {
    let of = errors();
    let mut state = MetricState::default();
    for tick in 0..7 {
        let n = f64::from(tick);
        let canary = reading(&[("c", &[0.5 * n, 100.0 * n])]);
        let stable = reading(&[("s", &[27.0 * n, 2_900.0 * n])]);
        let counting = Counting { weight: Some(0.1), ..counting() };
        state.observe(&of, &Tick { canary, stable }, at(i64::from(tick) * TICK), &counting);
        let judgement = judge(
            &[Metric { of: &of, state: &state }],
            &Rules::level(0.01),
            at(i64::from(tick) * TICK),
        );
        let wanted = if tick < 4 { Verdict::Continue } else { Verdict::Inconclusive };
        assert_eq!(judgement.verdict, wanted, "tick {tick}: {}", judgement.reason);
        if wanted == Verdict::Inconclusive {
            let told = "gets 3.33% of the requests where 10% were planned, about ";
            assert!(judgement.reason.contains(told), "{}", judgement.reason);
        }
    }
    assert!(state.complaint().unwrap().contains("traffic is not as planned"));
}

#[test]
fn what_the_traffic_until_the_end_cannot_show_is_said_at_once() {
    let answers = |each: f64| -> Vec<Tick> {
        let mut world = World::new(17, 3, 27);
        (0..12).map(|_| world.tick(each, 0.001, 1.0)).collect()
    };
    let rules = Rules { ends: Some(at(5 * 60)), ..Rules::level(0.01) };
    let judgement = lacking(&errors(), &rules, &answers(2.0));
    assert_eq!(judgement.verdict, Verdict::Inconclusive, "{}", judgement.reason);
    let told = "all traffic until the end cannot show whether it changes by 1.5 times";
    assert!(judgement.reason.contains(told), "{}", judgement.reason);
    let judgement = lacking(&errors(), &rules, &answers(200.0));
    assert_eq!(judgement.verdict, Verdict::Continue, "{}", judgement.reason);
}

/// Of 40 releases that are far worse, at so little traffic that ten minutes just do: how many fail when the
/// time is not known, and how many of those are given up before that when it is.
fn given_up(
    of: &Comparison,
    mut answers: impl FnMut(u64) -> Box<dyn FnMut() -> Tick>,
) -> (u32, u32) {
    let (mut failed, mut given_up) = (0, 0);
    for seed in 0..40 {
        let (mut state, mut next) = (MetricState::default(), answers(seed));
        let mut gone = false;
        for tick in 0..=40 {
            let now = at(tick * TICK);
            state.observe(of, &next(), now, &counting());
            let judged = |ends| {
                let rules = Rules { ends, ..Rules::level(0.01) };
                judge(&[Metric { of, state: &state }], &rules, now).verdict
            };
            gone |= tick < 40 && judged(Some(at(600))) == Verdict::Inconclusive;
            if judged(None) == Verdict::Fail {
                (failed, given_up) = (failed + 1, given_up + u32::from(gone));
                break;
            }
        }
    }
    (failed, given_up)
}

/// Seeds 70,000 and on.
#[test]
fn a_run_with_little_traffic_is_not_given_up_while_a_far_worse_canary_may_still_be_found() {
    let latency = Comparison {
        name: "latency".to_owned(),
        kind: Kind::Histogram,
        harmful: Some(1.25),
        ..errors()
    };
    let slow = given_up(&latency, |seed| {
        let (mut draws, mut tick) = (Draws(70_000 + seed), 0);
        let (mut canary, mut stable) = (vec![0.0; 12], vec![0.0; 12]);
        latencies(&mut draws, &mut stable, 2_000, 1.0);
        Box::new(move || {
            tick += 1;
            latencies(&mut draws, &mut canary, 1 + tick % 2, 2.0);
            latencies(&mut draws, &mut stable, 13 + tick % 2, 1.0);
            let arm = |name, values: &[f64]| Reading {
                bounds: BOUNDS.to_vec(),
                ..reading(&[(name, values)])
            };
            Tick { canary: arm("c", &canary), stable: arm("s", &stable) }
        })
    });
    let broken = given_up(&errors(), |seed| {
        let mut world = World::new(71_000 + seed, 1, 9);
        Box::new(move || world.tick(20.0, 0.001, 10.0))
    });
    println!("of 40: twice as slow {slow:?}, ten times the errors {broken:?} (failed, given up)");
    assert!(slow.0 >= 24 && broken.0 >= 24, "{slow:?} {broken:?}");
    // In the last minutes what is to come is only expected: more may.
    assert!(slow.1 == 0 && broken.1 <= 1, "{slow:?} {broken:?}");
}

/// Queues and temperatures may be 0 or less: then the history says how large a level usually is.
#[test]
fn a_gauge_whose_levels_are_0_at_times_is_compared_by_plain_differences() {
    let of = Comparison {
        name: "queue".to_owned(),
        kind: Kind::Gauge,
        harmful: Some(1.5),
        history: Some(History { deviation: Some(4.0), level: Some(10.0), past: None }),
        ..errors()
    };
    let answers = |more: f64| -> Vec<Tick> {
        let level = |i: i32| f64::from(i * 7 % 5) - 4.0;
        let tick = |i| Tick {
            canary: reading(&[("c", &[level(i) + more])]),
            stable: reading(&[("s", &[level(i + 3)])]),
        };
        (0..80).map(tick).collect()
    };
    let rules = Rules::level(0.01);
    assert_eq!(lacking(&of, &rules, &answers(8.0)).verdict, Verdict::Fail);
    assert_eq!(lacking(&of, &rules, &answers(0.0)).verdict, Verdict::Pass);
    let logarithmic =
        Comparison { history: Some(History { deviation: Some(0.4), ..History::default() }), ..of };
    let judgement = lacking(&logarithmic, &rules, &answers(8.0));
    assert_eq!(judgement.verdict, Verdict::Continue, "there is no logarithm of 0 or less");
}
