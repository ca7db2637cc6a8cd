//! What an exact boundary for a run with a known end would add to the rule of the controller: a part of
//! alpha for the evidence, with its restarts, and the rest for the canary's excess of bad requests.

use sluice::stats::lattice::{Excess, Hybrid, Segment};
use sluice::stats::mixture::Restarts;
use sluice::stats::rates::{RateProcess, Split};

use super::measure::{Measure, Rule, play, short};
use super::ours::{ALPHA, BETWEEN};
use super::world::{Effect, Nuisance, PER_MINUTE, Scenario, Tick};

/// The restarts of the controller.
const OFTEN: Restarts = Restarts { first: 0.75, later: 12, beyond: 0.0 };

/// The part of alpha that goes to the excess.
const PARTS: [f64; 4] = [0.0, 0.1, 0.2, 0.5];

/// Requests per second, the ratio of bad ones.
const TRAFFIC: [(f64, f64); 5] =
    [(200.0, 0.01), (200.0, 0.001), (20.0, 0.01), (20.0, 0.001), (2.0, 0.01)];

/// The excess at which a run of so many minutes is rolled back at `level`.
fn boundary(scenario: &Scenario, minutes: usize, level: f64) -> Option<Hybrid> {
    let mean = scenario.per_second * 60.0 * minutes as f64 * scenario.bad;
    let events = (mean + 1.5 * libm::sqrt(mean)).ceil() as usize;
    let rho = scenario.canary[0];
    // Without a mixture each of the two parts has one half of the level.
    Hybrid::new(&[Segment { events, rho }], 2.0 * level, false)
}

fn rule(scenario: &Scenario, minutes: usize, part: f64) -> Rule<'static> {
    let height = -libm::log(ALPHA * (1.0 - part));
    let plan = boundary(scenario, minutes, ALPHA * part).filter(|_| part > 0.0);
    Box::new(move |ticks: &[Tick]| {
        let (mut process, mut excess) = (RateProcess::new(OFTEN), Excess::default());
        let mut crossed = |(t, tick): (usize, &Tick)| {
            if t > 0 && t % BETWEEN == 0 {
                process.restart();
            }
            let split = Split::of(tick.canary.exposure, tick.stable.exposure, 1.0)?;
            let total = tick.canary.bad + tick.stable.bad;
            process.observe(&split, tick.canary.bad, total);
            excess.observe(&split, tick.canary.bad, total);
            let planned = |plan: &Hybrid| excess.variance <= plan.horizon;
            let over = |plan: &&Hybrid| planned(plan) && excess.events >= plan.slack;
            (process.log_e() >= height || plan.as_ref().filter(over).is_some()).then_some(t + 1)
        };
        ticks.iter().take(minutes * PER_MINUTE).enumerate().find_map(&mut crossed)
    })
}

fn cell(measure: &Measure) -> String {
    let median = measure.quantile(0.5);
    let rate = short(measure.percent());
    if median.is_finite() { format!("{rate}; {median:.2} min") } else { rate }
}

/// The table: per cent of runs that are rolled back, and the minute by which half of all are.
pub fn table(runs: usize, seed: u64) {
    let parts = PARTS.map(|part| format!("{:.0} %", 100.0 * part)).join(" | ");
    println!("| traffic, minutes, change | {parts} |\n|{}", " --- |".repeat(PARTS.len() + 1));
    for (per_second, bad) in TRAFFIC {
        for minutes in [15, 30, 60] {
            for times in [1.0, 1.5, 2.0, 3.0, 5.0] {
                let effect = Effect::Times(times);
                let scenario = Scenario::new(per_second, bad, effect, Nuisance::None);
                let rules = PARTS.map(|part| rule(&scenario, minutes, part));
                let cells: Vec<_> = play(&scenario, runs, seed, &rules).iter().map(cell).collect();
                let name = format!("{per_second} rps, {} %, {minutes} min, x{times}", 100.0 * bad);
                println!("| {name} | {} |", cells.join(" | "));
            }
        }
    }
}
