//! What both versions meet together is no harm of the new one, though their pods are not seen in the same
//! seconds.

use std::ops::Range;

use super::*;

const NEVER: Range<f64> = 0.0..0.0;

/// Pods that are scraped each at its own second of a tick, one that plays the canary and nine others, with
/// 300 requests a tick each. One in a thousand is bad, in the seconds of an incident half of them.
struct Scraped {
    world: World,
    /// After the tick, from the canary's to the others'.
    seconds: Vec<f64>,
}

impl Scraped {
    fn new(seed: u64) -> Self {
        let mut world = World::new(seed, 1, 9);
        let seconds = (0..10).map(|_| 15.0 * world.draws.uniform()).collect();
        Self { world, seconds }
    }

    fn tick(&mut self, tick: i64, canary: &Range<f64>, stable: &Range<f64>) -> Tick {
        let Self { world: World { draws, canary: new, stable: old }, seconds } = self;
        let incidents = std::iter::once(canary).chain(std::iter::repeat(stable));
        let pods = new.iter_mut().chain(old).zip(seconds).zip(incidents);
        for ((pod, second), incident) in pods {
            let end = (tick * TICK) as f64 + *second;
            let met = end.min(incident.end) - (end - 15.0).max(incident.start);
            pod[1] += 300.0;
            pod[0] += draws.poisson(0.3 + 10.0 * met.clamp(0.0, 15.0));
        }
        self.world.seen()
    }
}

/// The tick at which the canary is failed.
fn failed(seed: u64, canary: &Range<f64>, stable: &Range<f64>, ticks: i64) -> Option<i64> {
    let (of, mut state, mut world) = (errors(), MetricState::default(), Scraped::new(seed));
    (0..ticks).find(|tick| {
        let now = at(tick * TICK);
        state.observe(&of, &world.tick(*tick, canary, stable), now, &counting());
        let metrics = [Metric { of: &of, state: &state }];
        judge(&metrics, &Rules::level(0.01), now).verdict == Verdict::Fail
    })
}

/// Seeds 70,000 and on. A third of them begin at another second of the tick.
#[test]
fn an_incident_of_all_pods_does_not_fail_the_canary_that_is_scraped_later() {
    for (lasts, name) in [(15.0, "a tick"), (1e9, "the rest")] {
        let met = |seed: &u64| {
            let start = 150.0 + 5.0 * (seed % 3) as f64;
            let incident = start..start + lasts;
            failed(*seed, &incident, &incident, 24).is_some()
        };
        let failures = (70_000..70_100).filter(met).count();
        println!("an incident of {name}: {failures} of 100 failed");
        assert!(failures <= 1, "{failures} of 100");
    }
}

/// Seeds 71,000 and on.
#[test]
fn a_canary_that_meets_an_incident_alone_is_failed_a_few_ticks_later() {
    let found: Vec<_> =
        (71_000..71_040).map(|seed| failed(seed, &(150.0..1e9), &NEVER, 40)).collect();
    println!("begins in tick 10 or 11, found at {found:?}");
    assert!(found.iter().all(|tick| tick.is_some_and(|tick| tick <= 15)), "{found:?}");
}

#[test]
fn an_incident_in_a_tick_whose_canary_scrape_failed_does_not_fail_the_canary() {
    let (of, mut state, mut world) = (errors(), MetricState::default(), World::new(7, 1, 9));
    let mut highest = 0.0_f64;
    for tick in 0..24 {
        let bad = if tick == 12 { 0.3 } else { 0.001 };
        let mut seen = world.tick(200.0, bad, 1.0);
        if tick == 12 {
            seen.canary = Reading::default();
        }
        let now = at(tick * TICK);
        state.observe(&of, &seen, now, &counting());
        state = MetricState::restore(&state.checkpoint().unwrap()).unwrap();
        highest = highest.max(state.log_e(&of));
    }
    println!("ln E at most {highest}");
    assert!(highest < 2.0, "{highest}");
}

/// The other arm waits for the seconds that were missed: nothing is left out and nothing counted twice.
#[test]
fn what_was_missed_is_compared_with_the_same_seconds_of_the_other_arm() {
    let of = errors();
    let values = |n: i64| {
        let (a, b) = ([n as f64, 100.0 * n as f64], [9.0 * n as f64, 900.0 * n as f64]);
        (reading(&[("c", &a)]), reading(&[("s", &b)]))
    };
    let evidence = |ticks: &[i64], missed: &[i64]| {
        let mut state = MetricState::default();
        for n in ticks {
            let (canary, stable) = values(*n);
            let canary = if missed.contains(n) { Reading::default() } else { canary };
            state.observe(&of, &Tick { canary, stable }, at(n * TICK), &counting());
        }
        (state.log_e(&of), state.log_e_pass(&of))
    };
    let whole = evidence(&[1, 2, 3, 4, 5, 6], &[]);
    let bridged = evidence(&[1, 2, 3, 4, 5, 6], &[3, 4]);
    assert!((whole.0 - bridged.0).abs() < 1e-9 && (whole.1 - bridged.1).abs() < 1e-9);
}
