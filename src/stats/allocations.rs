//! A tick allocates nothing: what it costs does not depend on the state of the memory. Tests only.

use allocation_counter::measure;

use super::{
    exposure::ShareWatch,
    gauge::GaugeProcess,
    histogram::{Exceedance, NotSlower, TiltProcess, Tilts},
    lattice::{Excess, Hybrid, Segment},
    mixture::Restarts,
    rates::{Arm, Direction, Equivalence, RateProcess, RateTest, Split},
};

const HISTORY: [f64; 4] = [700.0, 200.0, 90.0, 10.0];
const CANARY: [f64; 4] = [70.0, 20.0, 8.0, 2.0];
const BASELINE: [f64; 4] = [640.0, 170.0, 80.0, 10.0];

/// Fails where `tick` allocates, after a first one that may set tables up.
fn allocates_nothing(what: &str, mut tick: impl FnMut() -> f64) {
    let first = tick();
    assert!(!first.is_nan(), "{what}: {first}");
    let seen = measure(|| {
        for _ in 0..100 {
            tick();
        }
    });
    assert_eq!(seen.count_total, 0, "{what}");
}

#[test]
fn allocations_are_counted_here() {
    assert_eq!(measure(|| drop(Box::new(1.0_f64))).count_total, 1);
}

#[test]
fn a_tick_of_a_rate_allocates_nothing() {
    let restarts = Restarts::equal(12);
    let mut process = RateProcess::new(restarts);
    allocates_nothing("a rate", || {
        let split = Split::of(100.0, 900.0, 1.1).unwrap();
        process.observe(&split, 2.0, 11.0);
        process.log_e()
    });
    let (canary, baseline) = (Arm { bad: 2.0, exposure: 100.0 }, Arm { bad: 9.0, exposure: 900.0 });
    let mut test = RateTest::new(Direction::Either, 1.1, restarts);
    allocates_nothing("a rate in both directions", || {
        test.observe(canary, baseline);
        test.log_e()
    });
    let mut pass = Equivalence::new(1.5);
    allocates_nothing("the proof that a rate is no higher", || {
        pass.observe(canary, baseline);
        pass.log_e()
    });
}

#[test]
fn a_tick_of_a_histogram_allocates_nothing() {
    let restarts = Restarts::equal(12);
    let mut above = Exceedance::new(&[1, 2], &[1.0, 1.1], restarts);
    allocates_nothing("requests above a boundary", || {
        above.observe(&CANARY, &BASELINE);
        above.log_e()
    });
    let mut pass = NotSlower::new(&[1, 2], 1.5);
    allocates_nothing("the proof that nothing is slower", || {
        pass.observe(&CANARY, &BASELINE);
        pass.log_e()
    });
    let tilts = Tilts::new(&[0.1, 0.3, 1.0], &HISTORY).unwrap();
    let mut process = TiltProcess::new(&tilts, restarts);
    allocates_nothing("tilts", || {
        process.observe(&tilts, &CANARY, &BASELINE);
        process.log_e()
    });
}

#[test]
fn a_tick_of_a_gauge_and_of_the_traffic_allocates_nothing() {
    let mut gauge = GaugeProcess::new(Direction::Either, 2.0, 0.1, Restarts::equal(12)).unwrap();
    allocates_nothing("a gauge", || {
        gauge.observe(0.3);
        gauge.log_e()
    });
    let mut share = ShareWatch::new(0.1, 0.2).unwrap();
    allocates_nothing("the share of traffic", || {
        share.observe(100.0, 900.0);
        share.log_e()
    });
}

#[test]
fn asking_the_exact_boundary_allocates_nothing() {
    let plan = [Segment { rho: 0.1, events: 200 }];
    let boundary = Hybrid::new(&plan, 0.05, true).unwrap();
    let mut excess = Excess::default();
    let mut process = RateProcess::new(Restarts::NONE);
    allocates_nothing("the exact boundary", || {
        let split = Split::new(0.1).unwrap();
        excess.observe(&split, 1.0, 3.0);
        process.observe(&split, 1.0, 3.0);
        f64::from(boundary.crossed(process.log_e(), &excess))
    });
}
