//! Counting what a rule did in many runs, and how it is written.

use sluice::stats::interval::wilson;

use super::draw::Draw;
use super::peers;
use super::world::{PER_MINUTE, Scenario, Tick, run};

/// What one rule did.
#[derive(Default)]
pub struct Measure {
    pub runs: usize,
    /// Minutes until the rule acted, in the runs in which it did.
    minutes: Vec<f64>,
    harm: f64,
    /// The sum of its squares, run by run.
    harm_squared: f64,
}

impl Measure {
    /// Takes a run in which the rule acted after so many ticks, or did not.
    pub fn add(&mut self, tick: Option<usize>) {
        self.runs += 1;
        self.minutes.extend(tick.map(|t| t as f64 / PER_MINUTE as f64));
    }

    /// The same with the failed requests until then.
    pub fn add_run(&mut self, tick: Option<usize>, ticks: &[Tick]) {
        self.add(tick);
        let acted = tick.unwrap_or(ticks.len());
        let harm: f64 = ticks.iter().take(acted).map(|t| t.harm).sum();
        self.harm += harm;
        self.harm_squared += harm * harm;
    }

    /// In how many of a hundred runs it acted.
    pub fn percent(&self) -> f64 {
        100.0 * self.minutes.len() as f64 / self.runs as f64
    }

    /// The 95 % interval of that.
    pub fn interval(&self) -> (f64, f64) {
        let (low, high) = wilson(self.minutes.len() as f64, self.runs as f64, 0.95);
        (100.0 * low, 100.0 * high)
    }

    /// Minutes within which it acted in this share of all runs; infinite if in fewer.
    pub fn quantile(&self, p: f64) -> f64 {
        self.ranked((p * self.runs as f64).ceil() as usize)
    }

    /// The 95 % interval of that: the minutes of two ranks between which the quantile lies so often,
    /// whatever the distribution.
    pub fn quantile_interval(&self, p: f64) -> (f64, f64) {
        let (low, high) = ranks(self.runs, p);
        (if low == 0 { 0.0 } else { self.ranked(low) }, self.ranked(high))
    }

    /// Median of the minutes of those runs in which it acted, with its 95 % interval.
    pub fn median_acted(&self) -> (f64, (f64, f64)) {
        let minutes = self.minutes.clone();
        let acted = Self { runs: minutes.len(), minutes, ..Self::default() };
        (acted.quantile(0.5), acted.quantile_interval(0.5))
    }

    /// The minutes of the runs in which it acted, the least first.
    pub fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.minutes.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    /// The minutes of this rank, from 1.
    fn ranked(&self, rank: usize) -> f64 {
        self.sorted().get(rank.max(1) - 1).copied().unwrap_or(f64::INFINITY)
    }

    /// Failed requests per run until the rule acted.
    pub fn mean_harm(&self) -> f64 {
        self.harm / self.runs as f64
    }

    /// The 95 % interval of that, by the normal distribution.
    pub fn harm_interval(&self) -> (f64, f64) {
        let (mean, runs) = (self.mean_harm(), self.runs as f64);
        let variance = (self.harm_squared / runs - mean * mean).max(0.0);
        let half = 1.96 * libm::sqrt(variance / runs);
        (mean - half, mean + half)
    }

    /// `0.27 [0.15, 0.49]`, with the median minutes and their interval when it acted often enough.
    pub fn cell(&self) -> String {
        let (low, high) = self.interval();
        let rate = format!("{} [{}, {}]", short(self.percent()), short(low), short(high));
        if self.percent() < 5.0 {
            return rate;
        }
        let (median, (low, high)) = self.median_acted();
        format!("{rate}; {median:.2} [{low:.2}, {high:.2}] min")
    }
}

/// The ranks, from 1, between which the quantile `p` lies in 95 of 100 samples of so many: how many values
/// are below it is binomial. Rank 0 and the one after the last say nothing.
pub fn ranks(of: usize, p: f64) -> (usize, usize) {
    let gamma = |k: usize| libm::lgamma(k as f64 + 1.0);
    let chance = |k: usize| {
        let rest = of - k;
        let orders = gamma(of) - gamma(k) - gamma(rest);
        libm::exp(orders + k as f64 * libm::log(p) + rest as f64 * libm::log(1.0 - p))
    };
    let (mut low, mut below) = (0, chance(0));
    while below <= 0.025 && low < of {
        low += 1;
        below += chance(low);
    }
    let (mut high, mut above) = (of + 1, chance(of));
    while above <= 0.025 && high > 1 {
        high -= 1;
        above += chance(high - 1);
    }
    (low, high)
}

/// Two digits below ten, one above.
pub fn short(percent: f64) -> String {
    if percent < 9.95 { format!("{percent:.2}") } else { format!("{percent:.1}") }
}

/// A rule: at which tick it acts.
pub type Rule<'a> = Box<dyn Fn(&[Tick]) -> Option<usize> + 'a>;

/// Plays the scenario so many times and asks every rule.
pub fn play(scenario: &Scenario, runs: usize, seed: u64, rules: &[Rule]) -> Vec<Measure> {
    let mut measures: Vec<Measure> = rules.iter().map(|_| Measure::default()).collect();
    for i in 0..runs {
        let ticks = run(scenario, &mut Draw::new(seed, i as u64));
        for (measure, rule) in measures.iter_mut().zip(rules) {
            measure.add_run(rule(&ticks), &ticks);
        }
    }
    measures
}

/// The rules of the peers, by name.
pub fn peers() -> Vec<(&'static str, Rule<'static>)> {
    let kayenta = |looks: &'static [usize]| -> Rule<'static> {
        Box::new(move |ticks| peers::kayenta_at(&peers::minutes(ticks), looks, "increase"))
    };
    vec![
        ("Flagger, 99 %, 1 min, 5 checks", Box::new(peers::flagger)),
        ("Argo, 95 %, 5 min, limit 3", Box::new(peers::argo)),
        ("1.5 times, 5 min, limit 0", Box::new(peers::one_and_a_half)),
        ("Kayenta once, 60 min", kayenta(&peers::ONCE)),
        ("Kayenta each 5 min", kayenta(&peers::EACH_FIVE)),
        ("z peeked at each 15 s", Box::new(peers::peeked)),
        ("Pocock, 12 looks", Box::new(peers::pocock)),
        ("O'Brien-Fleming, 12 looks", Box::new(peers::obrien_fleming)),
        ("mSPRT", Box::new(peers::msprt)),
    ]
}
