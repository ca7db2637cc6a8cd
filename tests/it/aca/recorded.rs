//! The benchmark against a second program, written from the same description in another language: what
//! that one measured, with so many runs a row, is within four standard errors of both.
//!
//! Where both have 4,000 runs and differ by more, because the description leaves something open, there is no
//! cell; `docs/benchmark.md` names those.
//!
//! `RUNS=4000 cargo test --profile bench --test it -- aca::recorded` compares with as many runs as it had.

use std::collections::BTreeMap;

use super::measure::{Measure, peers, play};
use super::world::{Effect, Nuisance, Scenario};
use super::{SEED, runs, tables};
use crate::releases::each;

/// The runs of its rows.
const ITS: usize = 4_000;

/// Rollbacks in per cent, `;` and the median minute of those runs in which there was one; `-` is no cell: it
/// was not measured, or in another way.
struct Cell {
    percent: Recorded,
    minutes: Option<Recorded>,
}

/// A number as it is written.
#[derive(Clone, Copy)]
struct Recorded {
    value: f64,
    /// Half a unit of its last digit.
    rounded: f64,
}

impl Recorded {
    fn of(text: &str) -> Self {
        let digits = text.split_once('.').map_or(0, |(_, digits)| digits.len());
        Self { value: text.parse().unwrap(), rounded: 0.5 * 0.1f64.powi(digits as i32) }
    }

    /// Whether a median of minutes is off: by the ranks around it, which do not ask for a distribution, and
    /// by more than the tick at which both look.
    fn off(self, ours: &Measure, its: f64) -> bool {
        let sorted = ours.sorted();
        let n = sorted.len() as f64;
        let ranks = 2.0 * (n * (1.0 + n / its)).sqrt();
        let at = |rank: f64| sorted.get(rank as usize - 1).copied();
        let (low, high) = ((0.5 * n - ranks).floor(), (0.5 * n + ranks).ceil());
        let low = if low < 1.0 { 0.0 } else { at(low).unwrap_or(0.0) };
        let high = if high < 1.0 { 60.0 } else { at(high).unwrap_or(60.0) };
        let slack = self.rounded + 0.25;
        !(low - slack..=high + slack).contains(&self.value)
    }
}

impl Cell {
    fn of(text: &str) -> Option<Self> {
        let (percent, minutes) = text.split_once(';').map_or((text, None), |(p, m)| (p, Some(m)));
        let percent = (percent != "-").then(|| Recorded::of(percent))?;
        Some(Self { percent, minutes: minutes.map(Recorded::of) })
    }

    /// What is more than four standard errors off.
    fn off(&self, ours: &Measure, its: usize) -> Option<String> {
        let (n, m) = (ours.runs as f64, its as f64);
        let (a, b) = (ours.percent() / 100.0, self.percent.value / 100.0);
        let both = (a * n + b * m) / (n + m);
        let error = (both * (1.0 - both) * (1.0 / n + 1.0 / m)).sqrt();
        // In few runs one more or less is no error of a normal distribution.
        let slack = 1.0 / n + self.percent.rounded / 100.0;
        let share = (a - b).abs() > 4.0 * error + slack;
        let minutes = self.minutes.is_some_and(|minutes| minutes.off(ours, m));
        let recorded = format!("{} {:?}", self.percent.value, self.minutes.map(|m| m.value));
        (share || minutes).then(|| format!("{} and not {recorded}", ours.cell()))
    }
}

/// Compares each row's cells with the measures at the same place.
fn compare<'a>(
    rows: impl IntoIterator<Item = (&'a str, &'a str)>,
    its: usize,
    measures: impl Fn(&str) -> Vec<Measure> + Sync,
) {
    let rows: Vec<_> = rows.into_iter().collect();
    let off = each(rows.len(), |row| {
        let (name, cells) = rows[row];
        let ours = measures(name);
        let cells: Vec<_> = cells.split_whitespace().collect();
        assert_eq!(cells.len(), ours.len(), "{name}");
        let of = |(at, (cell, measure)): (usize, (&&str, &Measure))| {
            let off = Cell::of(cell)?.off(measure, its)?;
            Some(format!("{name}, column {at}: {off}"))
        };
        cells.iter().zip(&ours).enumerate().filter_map(of).collect::<Vec<_>>()
    });
    let off = off.concat();
    assert!(off.is_empty(), "{off:#?}");
}

/// Flagger, Argo, 1.5 times, Kayenta once and each five minutes, z peeked, Pocock, O'Brien-Fleming, mSPRT;
/// ours against an equal part and against all of the stable version.
const ERRORS: [(&str, &str); 16] = [
    ("A/A, 1 %", "100 0 16.6 0.13 0.80 10.1 0.88 - 0.35 0.40 0.27"),
    ("A/A, 0.1 %", "0 0 96.8 0.55 1.1 7.4 0.97 - 0.43 0.60 0.35"),
    ("A/A, diurnal", "100 - 41.7 0 0.47 10.2 0.60 - - 0.37 0.22"),
    ("A/A, shared bursts", "98 - - 0 0.05 10.1 0.57 - - 0.37 0.27"),
    ("A/A, 2 rps", "82.6 - 98.5 0 0.05 - 0.32 - - 0.13 0.30"),
    ("A/A, bursts of arms", "100 - 79.6 7.7 19.3 51.7 36.0 - - 30.9 40.8"),
    ("A/A, pods", "100 - 30.2 16.8 19.0 32.2 21.3 - - 15.8 15.6"),
    ("A/A, cold start", "100 - 100 0.8 95.9 100 100 - - 100 100"),
    ("x1.5, 1 %", "100;5 0 100;10 100;60 100;15 100;3.5 100;10 - 100;8.8 100;9.5 100;5.0"),
    ("x2, 1 %", "100;5 0 100;5 100;60 100;10 100;1.3 100;5 - 100;2.8 100;2.8 100;1.5"),
    ("x5, 1 %", "100;5 92;35 100;5 100;60 100;5 100;.25 100;5 - 100;.75 100;.5 100;.25"),
    ("x1.5, 0.1 %", "0 0 100;5 3.2;60 8.8;30 79;21.5 48.5;35 - 34.5;37.5 31;36.5 64.6;33"),
    ("x2, 0.1 %", "0 0 100;5 64;60 73;30 99.8;10 98.8;20 - 96;23.5 95;23.8 99.95;13.3"),
    ("x5, 0.1 %", "0.1 0 100;5 100;60 100;10 100;1.8 100;5 - 100 100;3.0 100;1.5"),
    ("x5, 1 %, 2 rps", "100 - 100;5 70;60 89;35 - 97;25 - - 86;30 99.8;14"),
    ("leak to x3, 1 %", "100;8 0 100;20 100;60 100;25 100;15 100;20 - - 100;21 100;17"),
];

#[test]
fn error_ratios_are_judged_as_a_second_program_found() {
    let scenarios: BTreeMap<_, _> = tables::scenarios().into_iter().collect();
    compare(ERRORS, ITS, |name| {
        let rules: Vec<_> = peers().into_iter().chain(tables::unplanned()).collect();
        let rules: Vec<_> = rules.into_iter().take(11).map(|(_, rule)| rule).collect();
        play(&scenarios[name], runs(40), SEED, &rules)
    });
}

/// The model's boundary, which noise of one arm breaks; what histories mend is another test's.
const NOISE: [(&str, &str); 4] = [
    ("bursts of arms, 0.8, sd 0.3", "41"),
    ("bursts of arms, 0.9, sd 0.5", "56"),
    ("pods sd 0.2", "15.7"),
    ("pods sd 0.2 and bursts 0.8, sd 0.3", "43"),
];

#[test]
fn noise_of_one_arm_breaks_the_model_as_a_second_program_found() {
    let nuisances: BTreeMap<_, Nuisance> = tables::NUISANCES.into_iter().collect();
    compare(NOISE, ITS, |name| {
        let scenario = Scenario::new(200.0, 0.01, Effect::None, nuisances[name]);
        let rules: Vec<_> = tables::unplanned().into_iter().map(|(_, rule)| rule).collect();
        play(&scenario, runs(200), SEED, &rules[1..2])
    });
}

/// Flagger, 1.2 times p99, Kayenta; exceedance, tilt and both against an equal part, then against all.
const LATENCIES: [(&str, &str); 7] = [
    ("A/A, 200 rps", "0 0 0.83 0.07 0.47 - 0.13 0.23 -"),
    ("A/A, 10 rps", "35 72 0.03 0.17 0.33 - 0.07 0.23 -"),
    ("all +10 %", "0 0 100;10 100;2.75 100;1.0 - 100;1.5 100;0.75 -"),
    ("all +25 %", "0 3 100;5 100;0.5 100;0.25 - 100;0.25 100;0.25 -"),
    ("all +50 %", "100;16 99;10 100;5 100;0.25 100;0.25 - 100;0.25 100;0.25 -"),
    ("2 % of requests x4", "5 3 100;5 100;5.0 100;2.75 - 100;2.75 100 -"),
    ("all +25 %, 10 rps", "99.7;24 98;10 99.8;25 100;8.25 100;3.5 - 100;4.5 100;2.0 -"),
];

#[test]
fn latencies_are_judged_as_a_second_program_found() {
    compare(LATENCIES, 3_000, |name| {
        let known = tables::SLOWER.into_iter().find(|(of, ..)| *of == name);
        let (_, per_second, slower) = known.unwrap();
        let others = tables::play_latency_peers(per_second, slower, runs(25), SEED);
        others.into_iter().chain(tables::play_latency(per_second, slower, runs(25), SEED)).collect()
    });
}

/// Autocorrelation and change; Kayenta for either direction and for an increase; ours with the deviation
/// of history, and calibrated.
const GAUGES: [(&str, &str); 9] = [
    ("0 1", "1.9 0.7 0.47 0.30"),
    ("0 1.1", "- - - 98.7"),
    ("0 1.25", "- - - 100;6"),
    ("0.5 1", "26 13 0.37 1.2"),
    ("0.5 1.1", "- - - 66;33"),
    ("0.5 1.25", "- - - 100"),
    ("0.8 1", "71 35 0.35 1.1"),
    ("0.8 1.1", "- - - 24;39"),
    ("0.95 1", "94 51 0.45 0.85"),
];

#[test]
fn gauges_are_judged_as_a_second_program_found() {
    compare(GAUGES, ITS, |name| {
        let (r, times) = name.split_once(' ').unwrap();
        let known = tables::KnownGauge::new(r.parse().unwrap(), 2, SEED);
        tables::play_gauges(&known, times.parse().unwrap(), runs(60), SEED).into()
    });
}

/// Kayenta's one look at the same numbers in four units.
const UNITS: [(&str, &str); 3] =
    [("1", "0.1 0.9 7.0 0"), ("1.1", "96.9 87.7 32.0 0"), ("1.25", "100 100 68.4 0")];

#[test]
fn kayenta_depends_on_the_unit_as_a_second_program_found() {
    compare(UNITS, 800, |times| tables::play_units(times.parse().unwrap(), runs(120), SEED).into());
}
