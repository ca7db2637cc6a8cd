//! The rows of the benchmark.

use sluice::stats::combine::average;
use sluice::stats::conformal::Boundary;
use sluice::stats::mixture::Restarts;
use sluice::stats::planner::{Goal, Traffic};

use super::draw::Draw;
use super::exact;
use super::figures;
use super::measure::{Measure, Rule, peers, play, short};
use super::ours::{self, ALPHA, Against, Latency};
use super::peers;
use super::shipped;
use super::world::{Effect, Nuisance, PER_MINUTE, Scenario, Slower, gauges, latencies, run};

type Table = fn(usize, u64);

/// Every table by name.
pub const ALL: [(&str, Table); 13] = [
    ("errors", errors),
    ("failed requests", failed_requests),
    ("progressive", progressive),
    ("calibrated", calibrated),
    ("latency", latency),
    ("gauges", gauge),
    ("units and many metrics", units),
    ("pass", pass),
    ("planner", planner),
    ("as shipped, uncalibrated", as_shipped),
    ("as shipped, with a history", with_history),
    ("exact in the controller", exact::table),
    ("figures", figures::table),
];

fn head(columns: &[&str]) {
    println!("| {} |", columns.join(" | "));
    println!("|{}", " --- |".repeat(columns.len()));
}

fn line(name: &str, cells: impl Iterator<Item = String>) {
    println!("| {name} | {} |", cells.collect::<Vec<_>>().join(" | "));
}

/// The scenarios of the error table.
pub fn scenarios() -> Vec<(&'static str, Scenario)> {
    use Effect::{From, Leak, None as Same, Times};
    let on = Scenario::new;
    vec![
        ("A/A, 1 %", on(200.0, 0.01, Same, Nuisance::None)),
        ("A/A, 0.1 %", on(200.0, 0.001, Same, Nuisance::None)),
        ("A/A, diurnal", on(200.0, 0.01, Same, Nuisance::Diurnal)),
        ("A/A, shared bursts", on(200.0, 0.01, Same, Nuisance::Shared)),
        ("A/A, 2 rps", on(2.0, 0.01, Same, Nuisance::None)),
        ("A/A, bursts of arms", on(200.0, 0.01, Same, Nuisance::Arms(0.8, 0.3))),
        ("A/A, pods", on(200.0, 0.01, Same, Nuisance::Pods(0.2))),
        ("A/A, cold start", on(200.0, 0.01, Same, Nuisance::Cold)),
        ("x1.5, 1 %", on(200.0, 0.01, Times(1.5), Nuisance::None)),
        ("x2, 1 %", on(200.0, 0.01, Times(2.0), Nuisance::None)),
        ("x5, 1 %", on(200.0, 0.01, Times(5.0), Nuisance::None)),
        ("x1.5, 0.1 %", on(200.0, 0.001, Times(1.5), Nuisance::None)),
        ("x2, 0.1 %", on(200.0, 0.001, Times(2.0), Nuisance::None)),
        ("x5, 0.1 %", on(200.0, 0.001, Times(5.0), Nuisance::None)),
        ("x5, 1 %, 2 rps", on(2.0, 0.01, Times(5.0), Nuisance::None)),
        ("leak to x3, 1 %", on(200.0, 0.01, Leak(3.0), Nuisance::None)),
        ("x2 from minute 30, 1 %", on(200.0, 0.01, From(30, 2.0), Nuisance::None)),
        ("x2 from minute 30, 0.1 %", on(200.0, 0.001, From(30, 2.0), Nuisance::None)),
    ]
}

/// Our rules for error ratios without a history and without a plan, by name.
pub fn unplanned() -> Vec<(&'static str, Rule<'static>)> {
    let ville = |against, restarts| -> Rule<'static> {
        Box::new(move |ticks| ours::ville(ticks, against, restarts))
    };
    vec![
        ("ours, equal part", ville(Against::Equal, Restarts::NONE)),
        ("ours, all stable", ville(Against::All, Restarts::NONE)),
        ("ours, all stable, restarts", ville(Against::All, ours::RESTARTS)),
    ]
}

/// The same, and those with the exact boundary of the plan.
pub fn rules(scenario: &Scenario) -> Vec<(&'static str, Rule<'static>)> {
    let hybrid = |against| -> Rule<'static> {
        let plan = ours::plan(scenario, against).expect("the scenario has events");
        Box::new(move |ticks| ours::hybrid(ticks, against, &plan))
    };
    let planned = [
        ("ours, exact, equal part", hybrid(Against::Equal)),
        ("ours, exact, all stable", hybrid(Against::All)),
    ];
    unplanned().into_iter().chain(planned).collect()
}

/// The rules of the peers and ours.
pub fn everybody(scenario: &Scenario) -> (Vec<&'static str>, Vec<Rule<'static>>) {
    peers().into_iter().chain(rules(scenario)).unzip()
}

fn errors(runs: usize, seed: u64) {
    for (i, (name, scenario)) in scenarios().iter().enumerate() {
        let (names, rules) = everybody(scenario);
        if i == 0 {
            head(&[&["rollbacks, %"], &names[..]].concat());
        }
        line(name, play(scenario, runs, seed, &rules).iter().map(Measure::cell));
    }
}

fn failed_requests(runs: usize, seed: u64) {
    let cases = [("x2, 1 %", 0.01, 2.0), ("x5, 1 %", 0.01, 5.0), ("x2, 0.1 %", 0.001, 2.0)];
    for (i, (name, bad, times)) in cases.into_iter().enumerate() {
        let scenario = Scenario::new(200.0, bad, Effect::Times(times), Nuisance::None);
        let (names, rules) = everybody(&scenario);
        if i == 0 {
            head(&[&["failed requests until decided"], &names[..]].concat());
        }
        let measures = play(&scenario, runs, seed, &rules);
        line(name, measures.iter().map(|m| format!("{:.0}", m.mean_harm())));
    }
}

/// 5, 10, 25 and 50 % for 15 minutes each.
pub fn ramp(bad: f64, effect: Effect) -> Scenario {
    Scenario { canary: [0.05, 0.1, 0.25, 0.5], ..Scenario::new(200.0, bad, effect, Nuisance::None) }
}

fn progressive(runs: usize, seed: u64) {
    head(&[
        "5/10/25/50 %, base 0.1 %",
        "Flagger",
        "Kayenta per step",
        "ours, all stable",
        "ours, exact",
    ]);
    for (name, effect) in [
        ("A/A", Effect::None),
        ("x1.5", Effect::Times(1.5)),
        ("x2", Effect::Times(2.0)),
        ("x5", Effect::Times(5.0)),
    ] {
        let scenario = ramp(0.001, effect);
        let plan = ours::plan(&scenario, Against::All).expect("the scenario has events");
        let per_step: Rule = Box::new(|ticks| {
            ticks.chunks(60).enumerate().find_map(|(step, part)| {
                let series = peers::minutes(part);
                peers::kayenta_at(&series, &[15], "increase").map(|at| step * 60 + at)
            })
        });
        let rules: [Rule; 4] = [
            Box::new(peers::flagger),
            per_step,
            Box::new(|ticks| ours::ville(ticks, Against::All, Restarts::NONE)),
            Box::new(|ticks| ours::hybrid(ticks, Against::All, &plan)),
        ];
        let measures = play(&scenario, runs, seed, &rules);
        let cell = |m: &Measure| format!("{}; {:.0} failed", m.cell(), m.mean_harm());
        line(name, measures.iter().map(cell));
    }
}

/// How many histories the runs of a calibrated row are spread over, and how many windows each has.
pub const HISTORIES: usize = 100;
pub const WINDOWS: usize = 400;

/// The same for the rule as shipped, whose windows are longer to play.
const SHIPPED_HISTORIES: usize = 20;

/// The nuisances of the calibrated table.
pub const NUISANCES: [(&str, Nuisance); 6] = [
    ("clean, 1 %", Nuisance::None),
    ("bursts of arms, 0.8, sd 0.3", Nuisance::Arms(0.8, 0.3)),
    ("bursts of arms, 0.9, sd 0.5", Nuisance::Arms(0.9, 0.5)),
    ("pods sd 0.2", Nuisance::Pods(0.2)),
    ("pods sd 0.2 and bursts 0.8, sd 0.3", Nuisance::PodsAndArms(0.2, 0.8, 0.3)),
    ("cold start", Nuisance::Cold),
];

/// Runs with an effect against boundaries from histories of their own: the model's boundary,
/// the constant one, the shaped one, and both at half the level.
pub fn play_calibrated(
    scenario: &Scenario,
    effects: &[Effect],
    histories: usize,
    runs: usize,
    seed: u64,
) -> Vec<[Measure; 4]> {
    let restarts = Restarts::NONE;
    let mut measures: Vec<[Measure; 4]> = effects.iter().map(|_| Default::default()).collect();
    for history in 0..histories {
        let mut draw = Draw::new(seed ^ 0xca11, history as u64);
        let known = ours::calibrate(scenario, restarts, WINDOWS, &mut draw);
        for (measures, effect) in measures.iter_mut().zip(effects) {
            let scenario = Scenario { effect: *effect, ..*scenario };
            for i in (history..runs).step_by(histories) {
                let ticks = run(&scenario, &mut Draw::new(seed, i as u64));
                let path = ours::path(&ticks, Against::All, restarts);
                let found = [
                    ours::first(&path, -libm::log(ALPHA)),
                    ours::crosses(&path, |t, l| known.constant.crossed(t, l)),
                    ours::crosses(&path, |t, l| known.shaped.crossed(t, l)),
                    ours::crosses(&path, |t, l| known.pair.crossed(t, l)),
                ];
                for (measure, tick) in measures.iter_mut().zip(found) {
                    measure.add_run(tick, &ticks);
                }
            }
        }
    }
    measures
}

fn calibrated(runs: usize, seed: u64) {
    println!("{HISTORIES} histories of {WINDOWS} windows each; all stable requests as baseline.\n");
    head(&["rollbacks, %", "effect", "model", "constant", "shaped", "both at half"]);
    let effects = [Effect::None, Effect::Times(2.0), Effect::Times(3.0)];
    for (name, nuisance) in NUISANCES {
        let scenario = Scenario::new(200.0, 0.01, Effect::None, nuisance);
        let measures = play_calibrated(&scenario, &effects, HISTORIES, runs, seed);
        for (effect, measures) in ["A/A", "x2", "x3"].iter().zip(&measures) {
            let cells = std::iter::once((*effect).to_owned());
            line(name, cells.chain(measures.iter().map(Measure::cell)));
        }
    }
}

/// The cases of the latency table: requests per second and what the new version does.
pub const SLOWER: [(&str, f64, Slower); 7] = [
    ("A/A, 200 rps", 200.0, Slower { part: 0.0, times: 1.0 }),
    ("A/A, 10 rps", 10.0, Slower { part: 0.0, times: 1.0 }),
    ("all +10 %", 200.0, Slower { part: 1.0, times: 1.1 }),
    ("all +25 %", 200.0, Slower { part: 1.0, times: 1.25 }),
    ("all +50 %", 200.0, Slower { part: 1.0, times: 1.5 }),
    ("2 % of requests x4", 200.0, Slower { part: 0.02, times: 4.0 }),
    ("all +25 %, 10 rps", 10.0, Slower { part: 1.0, times: 1.25 }),
];

/// Exceedance, tilt and both against an equal part, then against all of the stable version.
pub fn play_latency(per_second: f64, slower: Slower, runs: usize, seed: u64) -> [Measure; 6] {
    let mut measures: [Measure; 6] = Default::default();
    let known = Latency::new(per_second);
    for i in 0..runs {
        let ticks = latencies(per_second, slower, &mut Draw::new(seed, i as u64));
        for (arm, against) in [Against::Equal, Against::All].into_iter().enumerate() {
            for (kind, path) in known.paths(&ticks, against).iter().enumerate() {
                measures[arm * 3 + kind].add(ours::first(path, -libm::log(ALPHA)));
            }
        }
    }
    measures
}

/// Flagger, the rule on p99, and Kayenta.
pub fn play_latency_peers(per_second: f64, slower: Slower, runs: usize, seed: u64) -> [Measure; 3] {
    let mut measures: [Measure; 3] = Default::default();
    for i in 0..runs {
        let ticks = latencies(per_second, slower, &mut Draw::new(seed, i as u64));
        measures[0].add(peers::flagger_p99(&ticks));
        measures[1].add(peers::p99_rule(&ticks));
        let series = peers::p99(&ticks, PER_MINUTE);
        measures[2].add(peers::kayenta_at(&series, &peers::EACH_FIVE, "increase"));
    }
    measures
}

fn latency(runs: usize, seed: u64) {
    head(&[
        "default buckets, rollbacks, %",
        "Flagger, p99 < 500 ms",
        "1.2 times p99, limit 0",
        "Kayenta, p99, each 5 min",
        "exceedance, equal part",
        "tilt, equal part",
        "both, equal part",
        "exceedance, all stable",
        "tilt, all stable",
        "both, all stable",
    ]);
    for (name, per_second, slower) in SLOWER {
        let others = play_latency_peers(per_second, slower, runs, seed);
        let ours = play_latency(per_second, slower, runs, seed);
        line(name, others.iter().chain(&ours).map(Measure::cell));
    }
}

/// What is known of a gauge before the run: a week tells the deviation, in batches of half an hour and of
/// minutes; 200 hours tell the boundary, once for each history.
pub struct KnownGauge {
    autocorrelation: f64,
    long: f64,
    tick: f64,
    boundaries: Vec<Boundary>,
}

impl KnownGauge {
    pub fn new(r: f64, histories: usize, seed: u64) -> Self {
        let mut draw = Draw::new(seed ^ 0x6a06e, (r * 100.0) as u64);
        let week = gauges(7 * 24 * 60, r, 1.0, &mut draw);
        let [long, tick] = [30, 1].map(|batch| ours::gauge_deviation(&week, batch));
        let boundaries = (0..histories)
            .map(|_| {
                let path = |_| ours::gauge_path(&gauges(60, r, 1.0, &mut draw), tick);
                let history: Vec<Vec<f64>> = (0..200).map(path).collect();
                let views: Vec<&[f64]> = history.iter().map(Vec::as_slice).collect();
                Boundary::constant(&views, ALPHA).expect("200 windows are enough")
            })
            .collect();
        Self { autocorrelation: r, long, tick, boundaries }
    }
}

/// Kayenta for either direction and for an increase, ours with the deviation of history, ours calibrated.
pub fn play_gauges(known: &KnownGauge, times: f64, runs: usize, seed: u64) -> [Measure; 4] {
    let KnownGauge { autocorrelation, long, tick, boundaries } = known;
    let mut measures: [Measure; 4] = Default::default();
    for i in 0..runs {
        let series = gauges(60, *autocorrelation, times, &mut Draw::new(seed, i as u64));
        let [model, known] = [*long, *tick].map(|sd| ours::gauge_path(&series, sd));
        let boundary = &boundaries[i % boundaries.len()];
        let ours = [
            ours::first(&model, -libm::log(ALPHA)),
            ours::crosses(&known, |t, l| boundary.crossed(t, l)),
        ];
        measures[0].add(peers::kayenta_at(&series, &peers::EACH_FIVE, "either"));
        measures[1].add(peers::kayenta_at(&series, &peers::EACH_FIVE, "increase"));
        measures[2].add(ours[0].map(|minute| minute * PER_MINUTE));
        measures[3].add(ours[1].map(|minute| minute * PER_MINUTE));
    }
    measures
}

fn gauge(runs: usize, seed: u64) {
    head(&[
        "minutes, 10 % noise, autocorrelation",
        "change",
        "Kayenta each 5 min, either",
        "Kayenta each 5 min, increase",
        "ours, deviation of history",
        "ours, calibrated",
    ]);
    for r in [0.0, 0.5, 0.8, 0.95] {
        let known = KnownGauge::new(r, HISTORIES, seed);
        for (change, times) in [("A/A", 1.0), ("+10 %", 1.1), ("+25 %", 1.25)] {
            let measures = play_gauges(&known, times, runs, seed);
            let cells = std::iter::once(change.to_owned());
            line(&format!("{r}"), cells.chain(measures.iter().map(Measure::cell)));
        }
    }
}

/// Kayenta's one look at 60 minutes of the same numbers in four units.
pub fn play_units(times: f64, runs: usize, seed: u64) -> [Measure; 4] {
    let mut measures: [Measure; 4] = Default::default();
    for i in 0..runs {
        let series = gauges(60, 0.0, times, &mut Draw::new(seed, i as u64));
        for (measure, unit) in measures.iter_mut().zip([1.0, 1e-3, 1e-4, 1e-5]) {
            let scaled: Vec<[f64; 2]> = series.iter().map(|p| p.map(|x| x * unit)).collect();
            measure.add(peers::kayenta_at(&scaled, &peers::ONCE, "either"));
        }
    }
    measures
}

fn units(runs: usize, seed: u64) {
    println!("Kayenta fails, one look at 60 minutes, the same numbers in another unit:\n");
    head(&["true shift", "1", "1e-3", "1e-4", "1e-5"]);
    for (name, times) in [("A/A", 1.0), ("+10 %", 1.1), ("+25 %", 1.25)] {
        let measures = play_units(times, runs, seed);
        line(name, measures.iter().map(|m| short(m.percent())));
    }
    println!("\nTwenty gauges with autocorrelation 0.5:\n");
    head(&["", "Kayenta, score below 95", "ours, average of e-values"]);
    let mut draw = Draw::new(seed ^ 0x20, 0);
    let deviation = ours::gauge_deviation(&gauges(7 * 24 * 60, 0.5, 1.0, &mut draw), 30);
    for (name, times) in [("nothing wrong", 1.0), ("one +50 %", 1.5)] {
        let (mut kayenta, mut ours) = (Measure::default(), Measure::default());
        for i in 0..runs.div_ceil(10) {
            let mut draw = Draw::new(seed, i as u64);
            let (mut failed, mut paths) = (0, Vec::new());
            for metric in 0..20 {
                let times = if metric == 0 { times } else { 1.0 };
                let series = gauges(60, 0.5, times, &mut draw);
                failed += usize::from(peers::kayenta_at(&series, &peers::ONCE, "either").is_some());
                paths.push(ours::gauge_path(&series, deviation));
            }
            // Nineteen of twenty are 95: Kayenta rolls back from the second failure on.
            kayenta.add((failed > 1).then_some(60 * PER_MINUTE));
            let at = (0..60).find(|t| {
                let now: Vec<f64> = paths.iter().map(|path| path[*t]).collect();
                average(&now, &[1.0; 20]) >= -libm::log(ALPHA)
            });
            ours.add(at.map(|t| (t + 1) * PER_MINUTE));
        }
        line(name, [kayenta, ours].iter().map(Measure::cell));
    }
}

/// Traffic and ratio of bad requests of the rows about passing.
pub const PASSES: [(&str, f64, f64); 4] = [
    ("200 rps, 1 %", 200.0, 0.01),
    ("200 rps, 0.1 %", 200.0, 0.001),
    ("2,000 rps, 0.1 %", 2_000.0, 0.001),
    ("2 rps, 1 %", 2.0, 0.01),
];

fn pass(runs: usize, seed: u64) {
    head(&["an equal canary is passed, %; p90", "margin 1.25", "margin 1.5", "margin 2"]);
    let play_pass = |scenario: &Scenario, margin: f64| {
        let rule: Rule = Box::new(move |ticks| ours::pass(ticks, margin));
        play(scenario, runs, seed, &[rule]).remove(0)
    };
    for (name, per_second, bad) in PASSES {
        let cells = [1.25, 1.5, 2.0].map(|margin| {
            let measure =
                play_pass(&Scenario::new(per_second, bad, Effect::None, Nuisance::None), margin);
            format!("{}; p90 {:.2}", measure.cell(), measure.quantile(0.9))
        });
        line(name, cells.into_iter());
    }
    let cells = [1.25, 1.5, 2.0].map(|margin| {
        let effect = Effect::Times(margin);
        play_pass(&Scenario::new(200.0, 0.01, effect, Nuisance::None), margin).cell()
    });
    line("falsely, at the margin itself, 200 rps, 1 %", cells.into_iter());
}

/// Twelve cases for the planner: requests per second, ratio of bad ones, times.
pub const PLANS: [(f64, f64, f64); 12] = [
    (200.0, 0.01, 1.5),
    (200.0, 0.01, 1.25),
    (200.0, 0.002, 2.0),
    (200.0, 0.001, 2.0),
    (200.0, 0.001, 3.0),
    (200.0, 0.002, 1.5),
    (50.0, 0.01, 2.0),
    (50.0, 0.01, 1.5),
    (50.0, 0.005, 3.0),
    (20.0, 0.01, 2.0),
    (20.0, 0.01, 3.0),
    (1_000.0, 0.001, 1.5),
];

/// Minutes until a share of the runs is decided.
pub struct Planned {
    pub formula: f64,
    pub simulated: f64,
    /// Of what was simulated, at 95 %.
    pub interval: (f64, f64),
}

/// Formula and simulation for half and for nine of ten runs.
pub fn planned(case: (f64, f64, f64), runs: usize, seed: u64) -> [Planned; 2] {
    let (per_second, bad, times) = case;
    let scenario = Scenario::new(per_second, bad, Effect::Times(times), Nuisance::None);
    let rule: Rule = Box::new(|ticks| ours::ville(ticks, Against::All, Restarts::NONE));
    let measure = play(&scenario, runs, seed, &[rule]).remove(0);
    let traffic = Traffic { per_second, canary: 0.1, bad };
    [0.5, 0.9].map(|p| {
        let formula = traffic.minutes_to_find(times, Goal::level(ALPHA, 1.0), p);
        let (simulated, interval) = (measure.quantile(p), measure.quantile_interval(p));
        Planned { formula, simulated, interval }
    })
}

fn planner(runs: usize, seed: u64) {
    head(&["case", "T50, formula", "simulated", "T90, formula", "simulated"]);
    for case in PLANS {
        let name = format!("x{}, {} %, {} rps", case.2, case.1 * 100.0, case.0);
        let cells = planned(case, runs, seed).map(|of| {
            let (low, high) = of.interval;
            format!("{:.2} | {:.2} [{low:.2}, {high:.2}]", of.formula, of.simulated)
        });
        line(&name, cells.into_iter());
    }
}

/// The rows of the rule as shipped with a part of the name that `ROW` asks for.
fn shipped_rows() -> impl Iterator<Item = shipped::Row> {
    let wanted = std::env::var("ROW").unwrap_or_default();
    shipped::rows().into_iter().filter(move |row| row.name.contains(&wanted))
}

/// The rule of the controller; minutes count from the birth of the canary's pods.
fn as_shipped(runs: usize, seed: u64) {
    head(&["rollbacks, %", "uncalibrated"]);
    for row in shipped_rows() {
        let measure = shipped::uncalibrated(&row, runs, seed);
        line(row.name, std::iter::once(with_most(&measure)));
    }
}

/// The same with what 400 hours have taught.
fn with_history(runs: usize, seed: u64) {
    head(&["rollbacks, %", "calibrated on 400 hours"]);
    let mut rows: Vec<shipped::Row> = shipped_rows().collect();
    while !rows.is_empty() {
        let first = rows.remove(0);
        let (mut same, others): (Vec<_>, Vec<_>) =
            rows.into_iter().partition(|row| row.learns_as(&first));
        same.insert(0, first);
        let measures = shipped::calibrated(&same, (SHIPPED_HISTORIES, WINDOWS), runs, seed);
        for (row, measure) in same.iter().zip(&measures) {
            line(row.name, std::iter::once(with_most(measure)));
        }
        rows = others;
    }
}

fn with_most(measure: &Measure) -> String {
    let (low, high) = measure.quantile_interval(0.9);
    format!("{}; p90 {:.2} [{low:.2}, {high:.2}]", measure.cell(), measure.quantile(0.9))
}
