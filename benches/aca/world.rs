//! Releases that never were: requests, errors and latencies of a canary, an equal part of the stable
//! version, and all of the stable version, every 15 seconds for an hour.
//!
//! Requests arrive as a Poisson process, so bad and good ones, and those of each latency bucket, are
//! Poisson on their own: that is how they are drawn.

use std::f64::consts::PI;

use sluice::stats::rates::Arm;
use sluice::stats::special::normal_cdf;

use super::draw::{Draw, Wave};

/// Ticks of a run and of a minute.
pub const TICKS: usize = 240;
pub const PER_MINUTE: usize = 4;

/// The upper bounds of Prometheus' default buckets.
pub const BOUNDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
pub const BUCKETS: usize = 12;

/// What the new version does to the rate of errors.
#[derive(Clone, Copy, PartialEq)]
pub enum Effect {
    None,
    Times(f64),
    /// From once at the start to so many times at the end.
    Leak(f64),
    /// So many times from this minute on.
    From(usize, f64),
}

/// What has nothing to do with the new version.
#[derive(Clone, Copy, PartialEq)]
pub enum Nuisance {
    None,
    /// Traffic +-50 % and errors +-60 % over the hour.
    Diurnal,
    /// Bursts that all pods share: AR(1) 0.9, deviation 0.5 of the log rate, each minute.
    Shared,
    /// Bursts of each arm on its own: autocorrelation and deviation.
    Arms(f64, f64),
    /// Pods differ: deviation of the log rate; 3 canary pods, 27 stable ones.
    Pods(f64),
    /// Both of the last.
    PodsAndArms(f64, f64, f64),
    /// A new pod has three times the errors for five minutes.
    Cold,
}

/// A scenario.
#[derive(Clone, Copy, PartialEq)]
pub struct Scenario {
    pub per_second: f64,
    pub bad: f64,
    pub effect: Effect,
    pub nuisance: Nuisance,
    /// The canary's share in each quarter of the hour.
    pub canary: [f64; 4],
}

impl Scenario {
    pub const fn new(per_second: f64, bad: f64, effect: Effect, nuisance: Nuisance) -> Self {
        Self { per_second, bad, effect, nuisance, canary: [0.1; 4] }
    }

    /// The same without a change.
    pub fn unchanged(self) -> Self {
        Self { effect: Effect::None, ..self }
    }

    fn factor(&self, tick: usize) -> f64 {
        match self.effect {
            Effect::None => 1.0,
            Effect::Times(times) => times,
            Effect::Leak(last) => 1.0 + (last - 1.0) * (tick as f64 + 0.5) / TICKS as f64,
            Effect::From(minute, times) if tick >= minute * PER_MINUTE => times,
            Effect::From(..) => 1.0,
        }
    }

    pub fn canary_at(&self, tick: usize) -> f64 {
        self.canary[tick * 4 / TICKS]
    }
}

/// What happened in a tick.
#[derive(Clone, Copy)]
pub struct Tick {
    pub canary: Arm,
    /// As many stable requests as the canary has, and all of them.
    pub equal: Arm,
    pub stable: Arm,
    /// Failed requests that the old version would have answered, as expected.
    pub harm: f64,
    /// How many times as often as usual a request to each pod is bad: those of the canary, of the equal
    /// part and of the rest.
    pub pods: [f64; 30],
}

/// The pods of the canary, and of the equal part.
pub const CANARY_PODS: usize = 3;

/// A run of the scenario.
pub fn run(scenario: &Scenario, draw: &mut Draw) -> Vec<Tick> {
    let (r, deviation) = match scenario.nuisance {
        Nuisance::Arms(r, sd) | Nuisance::PodsAndArms(_, r, sd) => (r, sd),
        _ => (0.0, 0.0),
    };
    let mut waves = [Wave::new(draw, r, deviation), Wave::new(draw, r, deviation)];
    let mut shared = Wave::new(draw, 0.9, 0.5);
    let spread = match scenario.nuisance {
        Nuisance::Pods(sd) | Nuisance::PodsAndArms(sd, ..) => sd,
        _ => 0.0,
    };
    let pods: [f64; 30] = std::array::from_fn(|_| libm::exp(spread * draw.normal()));
    let mean = |of: &[f64]| of.iter().sum::<f64>() / of.len() as f64;
    let (canary_pods, stable_pods) = pods.split_at(CANARY_PODS);
    let (equal_pods, other_pods) = stable_pods.split_at(CANARY_PODS);
    let (canary_pods, equal_pods, other_pods) =
        (mean(canary_pods), mean(equal_pods), mean(other_pods));
    let phase = 2.0 * PI * draw.uniform();
    let mut noise = [1.0; 2];
    let mut ticks = Vec::with_capacity(TICKS);
    for t in 0..TICKS {
        if t % PER_MINUTE == 0 {
            noise = [0, 1].map(|arm: usize| libm::exp(waves[arm].step(draw)));
            if matches!(scenario.nuisance, Nuisance::Shared) {
                noise = [libm::exp(shared.step(draw)); 2];
            }
        }
        let (mut traffic, mut level) = (scenario.per_second * 15.0, scenario.bad);
        if matches!(scenario.nuisance, Nuisance::Diurnal) {
            let hour = libm::sin(phase + 2.0 * PI * t as f64 / TICKS as f64);
            (traffic, level) = (traffic * (1.0 + 0.5 * hour), level * (1.0 + 0.6 * hour));
        }
        let cold = matches!(scenario.nuisance, Nuisance::Cold) && t < 5 * PER_MINUTE;
        let share = scenario.canary_at(t);
        let old = level * noise[0] * canary_pods * if cold { 3.0 } else { 1.0 };
        let (requests, others) = (traffic * share, traffic * (1.0 - 2.0 * share).max(0.0));
        let equal = requests.min(traffic * (1.0 - share));
        let factor = scenario.factor(t);
        let canary = arm(draw, requests, old * factor);
        let equal = arm(draw, equal, level * noise[1] * equal_pods);
        let other = arm(draw, others, level * noise[1] * other_pods);
        ticks.push(Tick {
            canary,
            equal,
            stable: Arm { bad: equal.bad + other.bad, exposure: equal.exposure + other.exposure },
            harm: requests * old * (factor - 1.0),
            pods,
        });
    }
    ticks
}

fn arm(draw: &mut Draw, requests: f64, ratio: f64) -> Arm {
    let ratio = ratio.min(1.0);
    let bad = draw.poisson(requests * ratio);
    Arm { bad, exposure: bad + draw.poisson(requests * (1.0 - ratio)) }
}

/// What the new version does to latency: this part of the requests takes so many times as long.
#[derive(Clone, Copy)]
pub struct Slower {
    pub part: f64,
    pub times: f64,
}

/// Bucket counts of a tick: the canary, an equal part of the stable version, all of it.
pub type Buckets = [[f64; BUCKETS]; 3];

/// The shares of the buckets for lognormal latencies with median 80 ms and sigma 0.6.
pub fn shares(slower: Slower) -> [f64; BUCKETS] {
    let below = |bound: f64, times: f64| normal_cdf(libm::log(bound / (0.08 * times)) / 0.6);
    let mixed = |bound: f64| {
        (1.0 - slower.part) * below(bound, 1.0) + slower.part * below(bound, slower.times)
    };
    let mut last = 0.0;
    std::array::from_fn(|j| {
        let upto = BOUNDS.get(j).map_or(1.0, |bound| mixed(*bound));
        let share = upto - last;
        last = upto;
        share
    })
}

/// An hour of latencies, canary 10 %.
pub fn latencies(per_second: f64, slower: Slower, draw: &mut Draw) -> Vec<Buckets> {
    let (new, old) = (shares(slower), shares(Slower { part: 0.0, times: 1.0 }));
    let requests = per_second * 15.0;
    (0..TICKS)
        .map(|_| {
            let canary = new.map(|share| draw.poisson(0.1 * requests * share));
            let equal = old.map(|share| draw.poisson(0.1 * requests * share));
            let other = old.map(|share| draw.poisson(0.8 * requests * share));
            [canary, equal, std::array::from_fn(|j| equal[j] + other[j])]
        })
        .collect()
}

/// Minute by minute: a gauge of the canary and of the baseline, 10 % noise with autocorrelation r, the
/// canary's `times` as high.
pub fn gauges(minutes: usize, r: f64, times: f64, draw: &mut Draw) -> Vec<[f64; 2]> {
    let mut waves = [Wave::new(draw, r, 0.1), Wave::new(draw, r, 0.1)];
    (0..minutes)
        .map(|_| {
            let [canary, baseline] = [0, 1].map(|arm: usize| libm::exp(waves[arm].step(draw)));
            [canary * times, baseline]
        })
        .collect()
}
