//! The stake on the exact boundary: alpha holds, little traffic finds more, and who moves traffic loses it.

use super::super::exact::{Exact, STAKE};
use super::*;
use crate::stats::mixture::Restarts;
use crate::stats::rates::{Arm, RateTest};

const RHO: f64 = 0.3;
const ALPHA: f64 = 0.2;

/// The chance under the null of ever failing, by walking all orders of events: four before the stake (if
/// there is one) and as many after it as were planned, and one more.
fn chance(staked: bool) -> f64 {
    fn walk(left: usize, test: &RateTest, bet: Option<&Exact>, staked: bool) -> f64 {
        let height = |part: f64| -(ALPHA * part).ln();
        if test.log_e() >= height(if bet.is_some() { 1.0 - STAKE } else { 1.0 })
            || bet.is_some_and(|bet| bet.won().is_some())
        {
            return 1.0;
        }
        if left == 0 {
            return 0.0;
        }
        let made = (staked && bet.is_none() && left == 12)
            .then(|| Exact::new(6.5, RHO, STAKE * ALPHA * test.log_e().exp()))
            .flatten();
        let bet = made.as_ref().or(bet);
        let step = |canary: f64, chance: f64| {
            let arms = [(canary, RHO), (1.0 - canary, 1.0 - RHO)];
            let [canary, stable] = arms.map(|(bad, exposure)| Arm { bad, exposure });
            let (mut test, mut bet) = (test.clone(), bet.cloned());
            test.observe(canary, stable);
            bet.iter_mut().for_each(|bet| bet.observe(canary, stable, 1.0));
            chance * walk(left - 1, &test, bet.as_ref(), staked)
        };
        step(1.0, RHO) + step(0.0, 1.0 - RHO)
    }
    walk(16, &RateTest::new(Direction::Increase, 1.0, Restarts::NONE), None, staked)
}

#[test]
fn a_stake_spends_what_evidence_leaves_of_alpha_and_no_more() {
    let (alone, both) = (chance(false), chance(true));
    println!("alpha {ALPHA}: evidence alone spends {alone:.4}, with the stake {both:.4}");
    assert!(both <= ALPHA && both > alone, "{alone} {both}");
}

/// In how many of 60 runs of a quarter of an hour, with 20 requests a second of which 1 % are bad, the judge
/// fails the canary; and in how many of them the exact boundary decided.
fn failed(theta: f64, ends: Option<Timestamp>) -> (usize, usize) {
    let of = Comparison { history: None, harmful: Some(2.0), ..errors() };
    let mut failed = (0, 0);
    for seed in 0..60 {
        let (mut world, mut state) = (World::new(50_000 + seed, 3, 27), MetricState::default());
        for tick in 0..=60 {
            let now = at(tick * TICK);
            state.observe(&of, &world.tick(20.0, 0.01, theta), now, &counting());
            let rules = Rules { ends, ..Rules::level(0.01) };
            state.stake(&of, &rules, now);
            state = MetricState::restore(&state.checkpoint().unwrap()).unwrap();
            let rules = state.after_stake(rules);
            let judged = judge(&[Metric { of: &of, state: &state }], &rules, now);
            if judged.verdict == Verdict::Fail {
                failed.0 += 1;
                failed.1 += usize::from(judged.reason.contains("the exact boundary"));
                break;
            }
        }
    }
    failed
}

/// Seeds 50,000 and on.
#[test]
fn with_little_traffic_until_a_known_end_more_harm_is_found() {
    let (open, known) = (failed(2.0, None), failed(2.0, Some(at(900))));
    let good = failed(1.0, Some(at(900)));
    println!("x2: {open:?} without an end, {known:?} with one; good ones {good:?}");
    assert!(known.0 >= open.0 + 3 && known.1 > 0 && open.1 == 0, "{open:?} {known:?}");
    assert!(good.0 <= 1, "{good:?}");
}

#[test]
fn the_bet_is_off_when_traffic_moves_more_comes_than_planned_or_the_run_is_over() {
    let arm = |bad: f64, exposure: f64| Arm { bad, exposure };
    let ahead = || {
        let mut bet = Exact::new(20.0, 0.1, 0.002).unwrap();
        bet.observe(arm(9.0, 100.0), arm(3.0, 900.0), 1.0);
        assert!(bet.won().unwrap().contains("7.8 bad more than expected"), "{:?}", bet.won());
        bet
    };
    let mut moved = ahead();
    moved.observe(arm(5.0, 500.0), arm(5.0, 500.0), 1.0);
    let mut longer = ahead();
    longer.observe(arm(2.0, 100.0), arm(28.0, 900.0), 1.0);
    let mut over = ahead();
    over.close();
    for bet in [moved, longer, over] {
        assert_eq!(bet.won(), None, "{bet:?}");
    }
    assert_eq!(Exact::new(2.0, 0.1, 0.002), None, "too few to show anything");
    assert_eq!(Exact::new(9_000.0, 0.1, 0.002), None, "so many need no help");
}

/// A route that was moved takes the stake with it, and so does the next run of the line.
#[test]
fn what_is_staked_is_lost_with_a_step_of_the_weight_or_with_the_run() {
    let of = Comparison { history: None, harmful: Some(2.0), ..errors() };
    let rules = Rules { ends: Some(at(900)), ..Rules::level(0.01) };
    let staked = |weight: f64| {
        let (mut world, mut state) = (World::new(1, 3, 27), MetricState::default());
        let counting = Counting { weight: Some(weight), ..counting() };
        for tick in 0..5 {
            state.observe(&of, &world.tick(20.0, 0.01, 1.0), at(tick * TICK), &counting);
        }
        assert!(state.stake(&of, &rules, at(60)) && !state.stake(&of, &rules, at(60)));
        (world, state, counting)
    };
    let (mut world, mut state, counting) = staked(0.1);
    assert!(state.exact.as_ref().unwrap().can_win(1e3));
    let other = Counting { weight: Some(0.2), ..counting };
    state.observe(&of, &world.tick(20.0, 0.01, 1.0), at(75), &other);
    assert!(!state.exact.as_ref().unwrap().can_win(1e3));
    let (_, mut state, _) = staked(0.1);
    state.carry_on();
    assert!(!state.exact.as_ref().unwrap().can_win(1e3));
    assert!(state.after_stake(Rules::level(0.01)).alpha < 0.01, "it is not given back");
}
