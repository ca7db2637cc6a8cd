//! The rule as the controller runs it: raw counters of pods, the judge's own state, its warm-up, its margin
//! and its boundary. Three canary pods that were born with the run, 27 stable ones with a day behind them.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use sluice::analysis::judge::sequential::{
    Comparison, Counting, Direction, Height, History, Kind, Metric, MetricState, PodReading,
    Reading, Rules, Tick as Answer, judge,
};
use sluice::api::Verdict;
use sluice::stats::conformal::Pair;
use sluice::stats::rates::Arm;

use super::draw::Draw;
use super::measure::{Measure, play};
use super::ours::ALPHA;
use super::world::{CANARY_PODS, Effect, Nuisance, Scenario, Tick, run};

/// Seconds of the stable pods' lives: a day, and for the rows of young ones five minutes.
const LIFE: f64 = 86_400.0;
const YOUNG: f64 = 300.0;

/// The default of `compare.warmUp`.
pub const WARM_UP: i64 = 15;

/// What the controller knows before the run.
#[derive(Clone)]
pub struct Known<'a> {
    /// The boundary that was learnt; none: uncalibrated.
    pub pair: Option<&'a Pair>,
    /// `compare.warmUp` in seconds.
    pub warm_up: i64,
    /// Seconds of the stable pods' lives.
    pub life: f64,
}

/// A row of the table.
pub struct Row {
    pub name: &'static str,
    pub scenario: Scenario,
    /// `compare.warmUp` in seconds.
    pub warm_up: i64,
    /// Seconds of the stable pods' lives.
    pub life: f64,
}

impl Row {
    /// With all defaults.
    pub fn new(name: &'static str, scenario: Scenario) -> Self {
        Self { name, scenario, warm_up: WARM_UP, life: LIFE }
    }

    /// Whether another row has the same history.
    pub fn learns_as(&self, other: &Self) -> bool {
        let calm = |row: &Self| (row.scenario.unchanged(), row.warm_up, row.life);
        calm(self) == calm(other)
    }
}

fn comparison(calibrated: bool) -> Comparison {
    Comparison {
        name: "errors".to_owned(),
        kind: Kind::Ratio,
        direction: Direction::Increase,
        harmful: None,
        critical: false,
        weight: 1.0,
        min_events: 0.0,
        history: calibrated.then(History::default),
    }
}

/// Counters of the pods: what each has seen since it was born.
struct Pods {
    counters: [Arm; 30],
    draw: Draw,
}

impl Pods {
    /// The stable pods have lived as they do in the run.
    fn new(scenario: &Scenario, life: f64, first: &Tick, mut draw: Draw) -> Self {
        let exposure = scenario.per_second * 0.9 / 27.0 * life;
        let mut counters = [Arm { bad: 0.0, exposure: 0.0 }; 30];
        for (pod, factor) in counters.iter_mut().zip(&first.pods).skip(CANARY_PODS) {
            *pod = Arm { bad: draw.poisson(exposure * scenario.bad * factor), exposure };
        }
        Self { counters, draw }
    }

    /// Gives the requests of a tick to the pods: all have as many, the bad ones fall where they are likely.
    fn take(&mut self, tick: &Tick) {
        let other = Arm {
            bad: tick.stable.bad - tick.equal.bad,
            exposure: tick.stable.exposure - tick.equal.exposure,
        };
        let parts = [(tick.canary, 0..3), (tick.equal, 3..6), (other, 6..30)];
        for (arm, range) in parts {
            let (pods, factors) = (&mut self.counters[range.clone()], &tick.pods[range]);
            let each = arm.exposure / pods.len() as f64;
            pods.iter_mut().for_each(|pod| pod.exposure += each);
            let all: f64 = factors.iter().sum();
            for _ in 0..arm.bad as usize {
                let mut at = all * self.draw.uniform();
                let found = factors.iter().position(|factor| {
                    at -= factor;
                    at < 0.0
                });
                pods[found.unwrap_or(0)].bad += 1.0;
            }
        }
    }

    fn answer(&self, start: Timestamp) -> Answer {
        let arm = |name: &str, pods: &[Arm], created: Option<Timestamp>| {
            let pod = |(i, pod): (usize, &Arm)| {
                let values = vec![pod.bad, pod.exposure];
                (format!("{name}-{i}"), PodReading { created, values })
            };
            let pods: BTreeMap<_, _> = pods.iter().enumerate().map(pod).collect();
            Reading { bounds: Vec::new(), pods }
        };
        let (canary, stable) = self.counters.split_at(CANARY_PODS);
        Answer { canary: arm("c", canary, Some(start)), stable: arm("s", stable, None) }
    }
}

/// Plays the run; `see` is given the state after each tick and says whether it is over.
fn follow(
    ticks: &[Tick],
    scenario: &Scenario,
    known: &Known<'_>,
    mut see: impl FnMut(&Comparison, &MetricState, Timestamp) -> bool,
) -> Option<usize> {
    let start = Timestamp::UNIX_EPOCH;
    let of = comparison(known.pair.is_some());
    let draw = Draw::new(0x11fe, ticks.iter().map(|t| t.stable.exposure).sum::<f64>() as u64);
    let mut pods = Pods::new(scenario, known.life, &ticks[0], draw);
    let mut state = MetricState::default();
    let counting = Counting {
        started: start,
        tick: SignedDuration::from_secs(15),
        warm_up: SignedDuration::from_secs(known.warm_up),
        weight: None,
    };
    state.observe(&of, &pods.answer(start), start, &counting);
    ticks.iter().enumerate().find_map(|(i, tick)| {
        let now = start + SignedDuration::from_secs(15 * (i as i64 + 1));
        pods.take(tick);
        state.observe(&of, &pods.answer(start), now, &counting);
        see(&of, &state, now).then_some(i + 1)
    })
}

/// The tick at which the release is rolled back.
pub fn rolls_back(ticks: &[Tick], scenario: &Scenario, known: &Known<'_>) -> Option<usize> {
    let height = |pair: &Pair| Height::Calibrated { pair: Box::new(pair.clone()), each: 1.0 };
    let rules = Rules { height: known.pair.map_or(Height::Model, height), ..Rules::level(ALPHA) };
    follow(ticks, scenario, known, |of, state, now| {
        judge(&[Metric { of, state }], &rules, now).verdict == Verdict::Fail
    })
}

/// The boundary that so many hours without a change give.
fn learn(row: &Row, windows: usize, draw: &mut Draw) -> Pair {
    let calm = row.scenario.unchanged();
    let placeholder = Pair::of_history(&[&[0.0][..]; 400], ALPHA).expect("400 windows are enough");
    let known = Known { pair: Some(&placeholder), warm_up: row.warm_up, life: row.life };
    let path = |_| {
        let mut path = Vec::new();
        follow(&run(&calm, draw), &calm, &known, |of, state, _| {
            path.push(state.log_e(of));
            false
        });
        path
    };
    let paths: Vec<Vec<f64>> = (0..windows).map(path).collect();
    let views: Vec<&[f64]> = paths.iter().map(Vec::as_slice).collect();
    Pair::of_history(&views, ALPHA).expect("there are enough windows for one per cent")
}

/// The rows of the table.
pub fn rows() -> Vec<Row> {
    use Effect::{From, None as Same, Times};
    let on = |bad, effect, nuisance| Scenario::new(200.0, bad, effect, nuisance);
    let many = Scenario::new(2_000.0, 0.01, Same, Nuisance::Pods(0.05));
    let cold = on(0.01, Same, Nuisance::Cold);
    vec![
        Row::new("A/A, 1 %", on(0.01, Same, Nuisance::None)),
        Row::new("A/A, 0.1 %", on(0.001, Same, Nuisance::None)),
        Row::new("A/A, diurnal", on(0.01, Same, Nuisance::Diurnal)),
        Row::new("A/A, shared bursts", on(0.01, Same, Nuisance::Shared)),
        Row::new("A/A, pods sd 0.05", on(0.01, Same, Nuisance::Pods(0.05))),
        Row::new("A/A, pods sd 0.2", on(0.01, Same, Nuisance::Pods(0.2))),
        Row { warm_up: 300, ..Row::new("A/A, cold start, warmUp 5m", cold) },
        Row { life: YOUNG, ..Row::new("A/A, 2,000 rps, pods sd 0.05, five minutes old", many) },
        Row::new("A/A, bursts of arms, 0.8, sd 0.3", on(0.01, Same, Nuisance::Arms(0.8, 0.3))),
        Row::new("x1.5, 1 %", on(0.01, Times(1.5), Nuisance::None)),
        Row::new("x2, 1 %", on(0.01, Times(2.0), Nuisance::None)),
        Row::new("x5, 1 %", on(0.01, Times(5.0), Nuisance::None)),
        Row::new("x2, 0.1 %", on(0.001, Times(2.0), Nuisance::None)),
        Row::new("x5, 0.1 %", on(0.001, Times(5.0), Nuisance::None)),
        Row::new("x2, 1 %, pods sd 0.2", on(0.01, Times(2.0), Nuisance::Pods(0.2))),
        Row::new("x2 from minute 30, 1 %", on(0.01, From(30, 2.0), Nuisance::None)),
    ]
}

/// Uncalibrated runs of a row.
pub fn uncalibrated(row: &Row, runs: usize, seed: u64) -> Measure {
    let known = Known { pair: None, warm_up: row.warm_up, life: row.life };
    let rule = |ticks: &[Tick]| rolls_back(ticks, &row.scenario, &known);
    play(&row.scenario, runs, seed, &[Box::new(rule)]).remove(0)
}

/// Runs of rows that have the same history, against boundaries from `histories` histories of `windows`
/// hours with the same noise.
pub fn calibrated(
    rows: &[Row],
    (histories, windows): (usize, usize),
    runs: usize,
    seed: u64,
) -> Vec<Measure> {
    let mut measures: Vec<Measure> = rows.iter().map(|_| Measure::default()).collect();
    for history in 0..histories {
        let mut draw = Draw::new(seed ^ 0xca11, history as u64);
        let pair = rows.first().map(|row| learn(row, windows, &mut draw));
        for (row, measure) in rows.iter().zip(&mut measures) {
            let known = Known { pair: pair.as_ref(), warm_up: row.warm_up, life: row.life };
            for i in (history..runs).step_by(histories) {
                let ticks = run(&row.scenario, &mut Draw::new(seed, i as u64));
                measure.add_run(rolls_back(&ticks, &row.scenario, &known), &ticks);
            }
        }
    }
    measures
}
