//! What is promised, one line each: measured again whenever somebody asks.

use sluice::stats::interval::wilson;
use sluice::stats::mixture::Restarts;
use sluice::stats::planner::{Goal, Traffic};
use sluice::stats::rates::Arm;

use super::draw::Draw;
use super::measure::{Measure, Rule, play};
use super::ours::{self, ALPHA, Against};
use super::tables::{
    HISTORIES, NUISANCES, PLANS, Planned, SLOWER, planned, play_calibrated, play_latency, ramp,
};
use super::world::{Effect, Nuisance, Scenario, Slower, Tick, run};

/// A line of the report.
pub struct Line {
    pub wanted: String,
    pub measured: String,
    pub answer: Answer,
}

/// What the 95 % intervals of what was measured say of a target; of several, the worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    /// The whole interval keeps to it.
    Met,
    /// A part of the interval does: more runs would tell.
    NotRefuted,
    Refuted,
}

impl Answer {
    fn at_most(limit: f64, (low, high): (f64, f64)) -> Self {
        match () {
            () if high <= limit => Self::Met,
            () if low <= limit => Self::NotRefuted,
            () => Self::Refuted,
        }
    }

    fn at_least(limit: f64, (low, high): (f64, f64)) -> Self {
        Self::at_most(-limit, (-high, -low))
    }

    /// Both have to hold.
    fn and(self, other: Self) -> Self {
        self.max(other)
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Met => "met",
            Self::NotRefuted => "not refuted",
            Self::Refuted => "REFUTED",
        })
    }
}

type Target = fn(usize, u64) -> Line;

/// Every target by name.
pub const ALL: [(&str, Target); 16] = [
    ("false rollback, calibrated, worst of six kinds of noise", false_rollback),
    ("x2 at 1 %, 200 rps", |runs, seed| times(runs, seed, (200.0, 0.01, 2.0), 1.75, 3.5)),
    ("x1.5 at 0.1 %, all stable, exact", |r, s| {
        power(r, s, Against::All, (200.0, 0.001, 1.5), 80.0)
    }),
    ("x1.5 at 0.1 %, equal part, exact", |r, s| {
        power(r, s, Against::Equal, (200.0, 0.001, 1.5), 50.0)
    }),
    ("x5 at 0.1 %", |runs, seed| times(runs, seed, (200.0, 0.001, 5.0), 1.75, f64::INFINITY)),
    ("x5 at 1 %, 2 rps", low_traffic),
    ("latency +10 %, 200 rps", |runs, seed| slow(runs, seed, 2, 1.0)),
    ("latency +25 %, 10 rps", |runs, seed| slow(runs, seed, 6, 2.5)),
    ("2 % of requests x4", |runs, seed| slow(runs, seed, 5, 1.75)),
    ("x2 at 1 % from minute 30", onset),
    ("pods sd 0.2, x2 at 1 %, calibrated", pods),
    ("failed requests, progressive, x2 at 0.1 %", harm),
    ("time to PASS of an equal canary, margin 1.5", time_to_pass),
    ("distance to the information bound", distance),
    ("other units", units),
    ("planner, T50 and T90 of twelve cases", plans),
];

fn scenario((per_second, bad, times): (f64, f64, f64)) -> Scenario {
    Scenario::new(per_second, bad, Effect::Times(times), Nuisance::None)
}

fn one(scenario: &Scenario, runs: usize, seed: u64, rule: Rule) -> Measure {
    play(scenario, runs, seed, &[rule]).remove(0)
}

/// Minutes within which this share of all runs was decided, with their interval.
struct Minutes {
    at: f64,
    low: f64,
    high: f64,
}

impl Minutes {
    fn of(measure: &Measure, p: f64) -> Self {
        let (low, high) = measure.quantile_interval(p);
        Self { at: measure.quantile(p), low, high }
    }

    fn at_most(&self, limit: f64) -> Answer {
        Answer::at_most(limit, (self.low, self.high))
    }

    fn after(self, minute: f64) -> Self {
        Self { at: self.at - minute, low: self.low - minute, high: self.high - minute }
    }
}

impl std::fmt::Display for Minutes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} [{}, {}]", self.at, self.low, self.high)
    }
}

fn plain(scenario: &Scenario, runs: usize, seed: u64) -> Measure {
    let rule: Rule = Box::new(|ticks| ours::ville(ticks, Against::All, Restarts::NONE));
    one(scenario, runs, seed, rule)
}

/// A hundred for the usual 4,000 runs, fewer for fewer.
fn histories(runs: usize) -> usize {
    (runs / 40).clamp(2, HISTORIES)
}

fn false_rollback(runs: usize, seed: u64) -> Line {
    let mut worst = (String::new(), 0.0, 0.0);
    let (mut all, mut wrong) = (0.0, 0.0);
    for (name, nuisance) in NUISANCES {
        let scenario = Scenario::new(200.0, 0.01, Effect::None, nuisance);
        let measures = play_calibrated(&scenario, &[Effect::None], histories(runs), runs, seed);
        let both = &measures[0][3];
        all += both.runs as f64;
        wrong += both.percent() / 100.0 * both.runs as f64;
        if both.percent() >= worst.1 {
            worst = (name.to_owned(), both.percent(), both.interval().1);
        }
    }
    let (name, percent, upper) = worst;
    Line {
        wanted: "1 % by construction; upper bound at most 1.5 %".to_owned(),
        measured: format!("{percent:.2} %, upper bound {upper:.2} % ({name})"),
        // Of all kinds of noise together: the runs of one share their few histories.
        answer: match () {
            () if upper <= 1.5 => Answer::Met,
            () if wilson(wrong, all, 0.95).0 <= 0.01 => Answer::NotRefuted,
            () => Answer::Refuted,
        },
    }
}

fn times(runs: usize, seed: u64, case: (f64, f64, f64), half: f64, nine: f64) -> Line {
    let measure = plain(&scenario(case), runs, seed);
    let (median, p90) = (Minutes::of(&measure, 0.5), Minutes::of(&measure, 0.9));
    let p90_wanted = if nine.is_finite() { format!(", p90 {nine}") } else { String::new() };
    Line {
        wanted: format!("median at most {half} min{p90_wanted}"),
        measured: format!("median {median}, p90 {p90}"),
        answer: median.at_most(half).and(p90.at_most(nine)),
    }
}

fn power(runs: usize, seed: u64, against: Against, case: (f64, f64, f64), wanted: f64) -> Line {
    let scenario = scenario(case);
    let plan = ours::plan(&scenario, against).expect("the scenario has events");
    let rule: Rule = Box::new(|ticks| ours::hybrid(ticks, against, &plan));
    let measure = one(&scenario, runs, seed, rule);
    Line {
        wanted: format!("at least {wanted} % in 60 min"),
        measured: measure.cell(),
        answer: Answer::at_least(wanted, measure.interval()),
    }
}

fn low_traffic(runs: usize, seed: u64) -> Line {
    let scenario = scenario((2.0, 0.01, 5.0));
    let plan = ours::plan(&scenario, Against::All).expect("the scenario has events");
    let rule: Rule = Box::new(|ticks| ours::hybrid(ticks, Against::All, &plan));
    let measure = one(&scenario, runs, seed, rule);
    let median = Minutes::of(&measure, 0.5);
    Line {
        wanted: "at least 99 %, median at most 15 min".to_owned(),
        measured: measure.cell(),
        answer: Answer::at_least(99.0, measure.interval()).and(median.at_most(15.0)),
    }
}

/// Both tests in one, all stable requests; false rollbacks at the same traffic.
fn slow(runs: usize, seed: u64, case: usize, half: f64) -> Line {
    let (_, per_second, slower) = SLOWER[case];
    let median = Minutes::of(&play_latency(per_second, slower, runs, seed)[5], 0.5);
    let none = Slower { part: 0.0, times: 1.0 };
    let wrong = &play_latency(per_second, none, runs, seed)[5];
    Line {
        wanted: format!("median at most {half} min; A/A at most 0.5 %"),
        measured: format!("median {median}; A/A {}", wrong.cell()),
        answer: median.at_most(half).and(Answer::at_most(0.5, wrong.interval())),
    }
}

fn onset(runs: usize, seed: u64) -> Line {
    let effect = Effect::From(30, 2.0);
    let scenario = Scenario::new(200.0, 0.01, effect, Nuisance::None);
    let rule: Rule = Box::new(|ticks| ours::ville(ticks, Against::All, ours::RESTARTS));
    let after = Minutes::of(&one(&scenario, runs, seed, rule), 0.5).after(30.0);
    Line {
        wanted: "median at most 2.5 min after it".to_owned(),
        measured: format!("median {after}"),
        answer: after.at_most(2.5),
    }
}

fn pods(runs: usize, seed: u64) -> Line {
    let scenario = Scenario::new(200.0, 0.01, Effect::None, Nuisance::Pods(0.2));
    let effects = [Effect::None, Effect::Times(2.0)];
    let measures = play_calibrated(&scenario, &effects, histories(runs), runs, seed);
    let (wrong, median) = (&measures[0][2], Minutes::of(&measures[1][2], 0.5));
    Line {
        wanted: "median at most 2.5 min; A/A at most 1 % (shaped boundary)".to_owned(),
        measured: format!("median {median}; A/A {}", wrong.cell()),
        answer: median.at_most(2.5).and(Answer::at_most(1.0, wrong.interval())),
    }
}

fn harm(runs: usize, seed: u64) -> Line {
    let measure = plain(&ramp(0.001, Effect::Times(2.0)), runs, seed);
    let (low, high) = measure.harm_interval();
    Line {
        wanted: "at most 18".to_owned(),
        measured: format!("{:.1} [{low:.1}, {high:.1}]", measure.mean_harm()),
        answer: Answer::at_most(18.0, (low, high)),
    }
}

fn time_to_pass(runs: usize, seed: u64) -> Line {
    let passes = |times: f64| {
        let rule: Rule = Box::new(|ticks| ours::pass(ticks, 1.5));
        one(&scenario((200.0, 0.01, times)), runs, seed, rule)
    };
    let (median, wrong) = (Minutes::of(&passes(1.0), 0.5), passes(1.5));
    Line {
        wanted: "median at most 4 min; false PASS at most 5 %".to_owned(),
        measured: format!("median {median}; false PASS {}", wrong.cell()),
        answer: median.at_most(4.0).and(Answer::at_most(5.0, wrong.interval())),
    }
}

/// The twelve cases of the planner and x2 at 1 %, where a tick of 15 seconds is a fifth of the bound.
fn distance(runs: usize, seed: u64) -> Line {
    let mut times: Vec<Minutes> = std::iter::once((200.0, 0.01, 2.0))
        .chain(PLANS)
        .map(|case| {
            let traffic = Traffic { per_second: case.0, canary: 0.1, bad: case.1 };
            let least = traffic.least_minutes(case.2, Goal::level(ALPHA, 1.0));
            let Minutes { at, low, high } = Minutes::of(&plain(&scenario(case), runs, seed), 0.5);
            Minutes { at: at / least, low: low / least, high: high / least }
        })
        .collect();
    times.sort_by(|a, b| a.at.total_cmp(&b.at));
    let (middle, worst) = (times[times.len() / 2].at, times[times.len() - 1].at);
    Line {
        wanted: "median at most 1.35 times, in each of thirteen cases".to_owned(),
        measured: format!("{middle:.2} times in the middle, {worst:.2} at worst"),
        answer: times.iter().map(|times| times.at_most(1.35)).fold(Answer::Met, Answer::and),
    }
}

/// The same runs with exposures in other units: how many are decided at another tick.
fn units(runs: usize, seed: u64) -> Line {
    let scenario = scenario((200.0, 0.001, 2.0));
    let mut changed = 0;
    for i in 0..runs.div_ceil(20) {
        let ticks = run(&scenario, &mut Draw::new(seed, i as u64));
        let decided = |unit: f64| {
            let scaled = |arm: Arm| Arm { exposure: arm.exposure * unit, ..arm };
            let ticks: Vec<Tick> = ticks
                .iter()
                .map(|t| Tick { canary: scaled(t.canary), stable: scaled(t.stable), ..*t })
                .collect();
            ours::ville(&ticks, Against::All, Restarts::NONE)
        };
        let usual = decided(1.0);
        changed += (-9..=9).filter(|power| decided(10f64.powi(*power)) != usual).count();
    }
    Line {
        wanted: "no decision changes from 1e-9 to 1e9".to_owned(),
        measured: format!("{changed} of {}", runs.div_ceil(20) * 19),
        answer: if changed == 0 { Answer::Met } else { Answer::Refuted },
    }
}

fn plans(runs: usize, seed: u64) -> Line {
    let mut worst: f64 = 0.0;
    let mut answer = Answer::Met;
    for case in PLANS {
        for Planned { formula, simulated, interval: (low, high) } in planned(case, runs, seed) {
            // The simulation sees the end of a tick; on average that is half of one too late.
            let times = |minutes: f64| formula / (minutes - 0.125);
            // Beyond the hour the simulation has no answer.
            if simulated.is_finite() {
                worst = worst.max((times(simulated) - 1.0).abs());
                let off = (times(high), times(low));
                answer = answer.and(Answer::at_most(1.1, off)).and(Answer::at_least(0.9, off));
            }
        }
    }
    Line {
        wanted: "within 10 %".to_owned(),
        measured: format!("at most {:.1} % off", 100.0 * worst),
        answer,
    }
}
