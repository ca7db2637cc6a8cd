//! The evidence of one metric: against the canary, and that it is harmless.
//!
//! What has to be fixed before the run (what is harmful, the boundaries and tilts of a histogram) is
//! fixed at the first tick, from the lifetime values of the stable pods' counters: they are history,
//! although no history was asked for. What the null allows for the noise between pods is fixed before
//! each tick, from those values at the tick before: young pods tell more of it every minute, and at a
//! high rate of requests the noise that they could not tell at first would be taken for harm.

use serde::{Deserialize, Serialize};

use super::counters::Reading;
use super::metric::Tick;
use super::plan::{Comparison, Direction, Kind, PodNoise, Present, margin as pass_margin};
use crate::stats::gauge::{GaugeProcess, difference};
use crate::stats::histogram::{Exceedance, NotSlower, TiltProcess, Tilts, boundaries, rare};
use crate::stats::mixture::Restarts;
use crate::stats::pods;
use crate::stats::rates::{Arm, Equivalence, RateTest};
use crate::stats::special::ln_add;

/// Copies that start later, so that what begins late is seen soon: one every five minutes, with equal
/// stakes in the first hour and less and less after it. The first copy stakes three quarters: more makes
/// what begins after half an hour slow, less what is there from the start.
pub(super) const OFTEN: Restarts = Restarts { first: 0.75, later: 12, beyond: 0.04 };

/// The same for processes whose state is large.
const SELDOM: Restarts = Restarts { first: 0.75, later: 3, beyond: 0.04 };

/// Requests in the history of a histogram before its boundaries are fixed.
const ENOUGH: f64 = 200.0;

/// The evidence of one metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Process {
    Rates(Box<Rates>),
    Histogram(Box<Histogram>),
    Gauge(Box<Gauge>),
}

/// What was fixed at the first tick.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Fixed {
    /// The ratio that must be caught.
    pub harmful: f64,
    /// The ratio that the null allows.
    pub bound: f64,
    /// The deviation between pods, when it is known.
    pub tau: Option<f64>,
    /// The share of bad events in the lives of the stable pods, of a ratio.
    #[serde(default)]
    pub share: Option<f64>,
    /// The ratio that a pass excludes in what is seen; `None`: the pods can always hide the harm.
    #[serde(default)]
    margin: Option<f64>,
}

impl Fixed {
    /// The ratio that a pass excludes in what is seen.
    pub(super) fn margin(&self) -> f64 {
        self.margin.unwrap_or(self.harmful)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Rates {
    test: RateTest,
    up: Option<Equivalence>,
    down: Option<Equivalence>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Histogram {
    /// Upper bounds; the last bucket has none.
    bounds: Vec<f64>,
    history: Vec<f64>,
    #[serde(skip)]
    tilts: Made,
    up: Option<Slower>,
    down: Option<Slower>,
}

/// Tilts that were made of the bounds and the history before. A state with them is no other state.
#[derive(Debug, Clone, Default)]
struct Made(Option<Tilts>);

impl PartialEq for Made {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

fn yes() -> bool {
    true
}

/// One direction of a histogram: whether the first arm is slower than the second.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Slower {
    above: Exceedance,
    /// Only where pods are alike, or with calibration: a tilt has no margin.
    tilt: Option<TiltProcess>,
    /// Pods are still alike: while they are not, the tilt takes nothing.
    #[serde(default = "yes")]
    alike: bool,
    not: NotSlower,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Gauge {
    harm: GaugeProcess,
    up: Option<GaugeProcess>,
    down: Option<GaugeProcess>,
    /// The difference that must be caught: ln of the ratio, or plain.
    margin: f64,
    /// Differences are of logarithms.
    logarithmic: bool,
}

/// What one tick adds, by kind.
pub(super) enum Seen {
    Rates { canary: Arm, stable: Arm },
    Buckets { canary: Vec<f64>, stable: Vec<f64> },
    Levels { canary: f64, stable: f64 },
    Nothing,
}

impl Seen {
    /// Bad events and exposure of both arms, for a histogram above the boundary `above`.
    pub(super) fn arms(&self, above: usize) -> Option<(Arm, Arm)> {
        let slow = |counts: &[f64]| {
            let bad = counts.get(above + 1..)?.iter().sum();
            Some(Arm { bad, exposure: counts.iter().sum() })
        };
        match self {
            Self::Rates { canary, stable } => Some((*canary, *stable)),
            Self::Buckets { canary, stable } => slow(canary).zip(slow(stable)),
            Self::Levels { .. } | Self::Nothing => None,
        }
    }
}

fn wants_up(direction: Direction) -> bool {
    direction != Direction::Decrease
}

fn wants_down(direction: Direction) -> bool {
    direction != Direction::Increase
}

/// Cumulative buckets to single ones; nothing when they are not cumulative.
pub(super) fn single(cumulative: &[f64]) -> Option<Vec<f64>> {
    let mut below = 0.0;
    let mut counts = Vec::with_capacity(cumulative.len());
    for count in cumulative {
        counts.push(count - below);
        below = *count;
    }
    counts.iter().all(|count| *count >= 0.0).then_some(counts)
}

/// The bad events and the exposure of increments or lifetime values.
pub(super) fn arm_of(kind: Kind, parts: &[f64], pod_seconds: f64) -> Option<Arm> {
    match (kind, parts) {
        (Kind::Ratio | Kind::Count { per: true }, [bad, exposure]) => {
            Some(Arm { bad: *bad, exposure: *exposure })
        }
        (Kind::Count { per: false }, [events]) => Some(Arm { bad: *events, exposure: pod_seconds }),
        _ => None,
    }
}

impl Process {
    /// The process of a metric, once both arms have been seen; `None`: not yet.
    pub(super) fn begin(
        comparison: &Comparison,
        Tick { canary, stable }: &Tick,
        ticks: u32,
    ) -> Option<(Self, Fixed)> {
        if canary.pods.is_empty() || stable.pods.is_empty() {
            return None;
        }
        let now = Present { ticks, pods: (count(canary), count(stable)) };
        match comparison.kind {
            Kind::Ratio | Kind::Count { .. } => Some(Rates::begin(comparison, stable, now)),
            Kind::Histogram => Histogram::begin(comparison, stable, now),
            Kind::Gauge => Gauge::begin(comparison, now),
        }
    }

    /// Before the next tick: what the null allows, as the stable pods now tell it. Where too few are left
    /// to tell, what they told stays.
    pub(super) fn allow(&mut self, of: &Comparison, tick: &Tick, fixed: &mut Fixed, ticks: u32) {
        if tick.canary.pods.is_empty() || tick.stable.pods.is_empty() {
            return;
        }
        let now = Present { ticks, pods: (count(&tick.canary), count(&tick.stable)) };
        match self {
            Self::Rates(rates) => rates.allow(of, &tick.stable, fixed, now),
            Self::Histogram(buckets) if buckets.history.len() == tick.stable.bounds.len() => {
                let margin = |above| margin(of, fixed.harmful, above, &tick.stable, now);
                for side in [&mut buckets.up, &mut buckets.down].into_iter().flatten() {
                    side.above.allow(margin);
                    side.alike = alike(side.above.bounds());
                }
                let sides = [&buckets.up, &buckets.down].into_iter().flatten();
                let bounds = sides.flat_map(|side| side.above.bounds());
                fixed.bound = bounds.copied().fold(1.0, f64::max);
            }
            Self::Histogram(_) => {}
            Self::Gauge(gauge) => gauge.allow(of, now),
        }
    }

    /// Takes a tick; false if it carries no evidence.
    pub(super) fn observe(&mut self, seen: &Seen) -> bool {
        match (self, seen) {
            (Self::Rates(rates), Seen::Rates { canary, stable }) => rates.observe(*canary, *stable),
            (Self::Histogram(buckets), Seen::Buckets { canary, stable }) => {
                buckets.observe(canary, stable)
            }
            (Self::Gauge(gauge), Seen::Levels { canary, stable }) => {
                gauge.observe(*canary, *stable)
            }
            (Self::Rates(_) | Self::Histogram(_) | Self::Gauge(_), _) => false,
        }
    }

    /// The boundaries above which requests may be shown to people; 0 for what has none.
    pub(super) fn shown(&self) -> Vec<usize> {
        match self {
            Self::Rates(_) => vec![0],
            Self::Histogram(buckets) => {
                buckets.rarest().into_iter().chain(buckets.rare()).collect()
            }
            Self::Gauge(_) => Vec::new(),
        }
    }

    /// Starts the next copy, for what begins now.
    pub(super) fn restart(&mut self) {
        match self {
            Self::Rates(rates) => {
                rates.test.restart();
            }
            Self::Histogram(buckets) => {
                for side in [&mut buckets.up, &mut buckets.down].into_iter().flatten() {
                    side.above.restart();
                    if let Some(tilt) = &mut side.tilt {
                        tilt.restart();
                    }
                }
            }
            Self::Gauge(gauge) => {
                gauge.harm.restart();
            }
        }
    }

    /// Begins the proof of harmlessness anew; the evidence of harm goes on.
    pub(super) fn prove_anew(&mut self) {
        match self {
            Self::Rates(rates) => rates.prove_anew(),
            Self::Histogram(buckets) => {
                let sides = [&mut buckets.up, &mut buckets.down].into_iter().flatten();
                sides.for_each(|side| side.not.begin_anew());
            }
            Self::Gauge(gauge) => {
                let sides = [&mut gauge.up, &mut gauge.down].into_iter().flatten();
                sides.for_each(GaugeProcess::begin_anew);
            }
        }
    }

    /// ln E against "no harmful change".
    pub(super) fn log_e(&self) -> f64 {
        match self {
            Self::Rates(rates) => rates.test.log_e(),
            Self::Histogram(buckets) => match (&buckets.up, &buckets.down) {
                (Some(up), Some(down)) => half(up.log_e(), down.log_e()),
                (Some(one), None) | (None, Some(one)) => one.log_e(),
                (None, None) => 0.0,
            },
            Self::Gauge(gauge) => gauge.harm.log_e(),
        }
    }

    /// ln E against "harmful": where it is high, the metric is shown to be harmless.
    pub(super) fn log_e_pass(&self) -> f64 {
        let least = |a: Option<f64>, b: Option<f64>| {
            let least = a.into_iter().chain(b).fold(f64::INFINITY, f64::min);
            if least == f64::INFINITY { f64::NEG_INFINITY } else { least }
        };
        match self {
            Self::Rates(rates) => {
                let not = |side: &Option<Equivalence>| side.as_ref().map(Equivalence::log_e);
                least(not(&rates.up), not(&rates.down))
            }
            Self::Histogram(buckets) => {
                let not = |side: &Option<Slower>| side.as_ref().map(|side| side.not.log_e());
                least(not(&buckets.up), not(&buckets.down))
            }
            Self::Gauge(gauge) => {
                let not = |side: &Option<GaugeProcess>| side.as_ref().map(GaugeProcess::log_e);
                least(not(&gauge.up), not(&gauge.down))
            }
        }
    }
}

fn half(a: f64, b: f64) -> f64 {
    ln_add(a, b) - std::f64::consts::LN_2
}

/// What the lives of pods tell of how much they differ; `None`: nothing, with so few pods or no events.
fn pod_noise(lives: &[Arm]) -> Option<PodNoise> {
    let tau = pods::deviation(lives)?;
    let bad: f64 = lives.iter().map(|arm| arm.bad).sum();
    let hidden = pods::hidden(lives.len(), bad);
    Some(if tau > hidden { PodNoise::Seen(tau) } else { PodNoise::Hidden(hidden) })
}

/// The bad events and the exposure of each pod's life.
fn lives_of(kind: Kind, reading: &Reading) -> Vec<Arm> {
    reading.pods.values().filter_map(|pod| arm_of(kind, &pod.values, 1.0)).collect()
}

fn noise_of(of: &Comparison, stable: &Reading) -> Option<PodNoise> {
    // The age of pods differs, so that events per lifetime say nothing of pods.
    let comparable = of.kind != Kind::Count { per: false };
    let lived = || comparable.then(|| pod_noise(&lives_of(of.kind, stable))).flatten();
    of.learnt_noise().or_else(lived)
}

/// What the null allows above a boundary, where pods tell it.
fn margin(
    of: &Comparison,
    harmful: f64,
    above: usize,
    stable: &Reading,
    now: Present,
) -> Option<f64> {
    let noise = pod_noise(&lives_above(stable, above));
    let told = noise.is_some() || of.history.is_some();
    told.then(|| of.bound(harmful, noise, now))
}

/// A tilt has no margin but that its smallest is five per cent: it needs pods that are alike where most
/// of the slow requests are, or a calibration.
fn alike(margins: &[f64]) -> bool {
    margins.first().is_some_and(|margin| *margin <= 1.0)
}

fn count(reading: &Reading) -> u32 {
    u32::try_from(reading.counted()).unwrap_or(u32::MAX)
}

impl Rates {
    fn begin(comparison: &Comparison, stable: &Reading, now: Present) -> (Process, Fixed) {
        let lives = lives_of(comparison.kind, stable);
        let bad: f64 = lives.iter().map(|arm| arm.bad).sum();
        let exposure: f64 = lives.iter().map(|arm| arm.exposure).sum();
        let share = if exposure > 0.0 { bad / exposure } else { 0.0 };
        let harmful = comparison.harmful.unwrap_or(comparison.kind.default_harm(share));
        let lived = Some(share).filter(|share| comparison.kind == Kind::Ratio && *share > 0.0);
        let noise = noise_of(comparison, stable);
        let tau = noise.and_then(PodNoise::seen);
        let bound = comparison.bound(harmful, noise, now);
        let margin = pass_margin(harmful, noise, now.pods);
        let fixed = Fixed { harmful, bound, tau, share: lived, margin };
        let direction = comparison.direction;
        let rates = Self {
            test: RateTest::new(direction, bound, OFTEN),
            up: wants_up(direction).then(|| Equivalence::new(fixed.margin())),
            down: wants_down(direction).then(|| Equivalence::new(fixed.margin())),
        };
        (Process::Rates(Box::new(rates)), fixed)
    }

    fn allow(&mut self, of: &Comparison, stable: &Reading, fixed: &mut Fixed, now: Present) {
        let noise = noise_of(of, stable);
        if noise.is_none() && of.history.is_none() {
            return;
        }
        fixed.tau = noise.and_then(PodNoise::seen);
        fixed.bound = of.bound(fixed.harmful, noise, now);
        self.test.allow(fixed.bound);
        let margin = pass_margin(fixed.harmful, noise, now.pods);
        if fixed.margin.is_none() && margin.is_some() {
            // What was shown while pods could hide the harm is no proof now that they cannot.
            self.prove_anew();
        }
        fixed.margin = margin;
        for side in [&mut self.up, &mut self.down].into_iter().flatten() {
            side.allow(fixed.margin());
        }
    }

    fn prove_anew(&mut self) {
        let sides = [&mut self.up, &mut self.down].into_iter().flatten();
        sides.for_each(Equivalence::begin_anew);
    }

    fn observe(&mut self, canary: Arm, stable: Arm) -> bool {
        let Self { test, up, down } = self;
        let known = test.observe(canary, stable);
        if let Some(up) = up {
            up.observe(canary, stable);
        }
        if let Some(down) = down {
            down.observe(stable, canary);
        }
        known
    }
}

impl Histogram {
    fn begin(comparison: &Comparison, stable: &Reading, now: Present) -> Option<(Process, Fixed)> {
        let mut history = vec![0.0; stable.bounds.len()];
        for counts in stable.pods.values().filter_map(|pod| single(&pod.values)) {
            history.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
        if history.iter().sum::<f64>() < ENOUGH {
            return None;
        }
        let harmful = comparison.harmful.unwrap_or(comparison.kind.default_harm(0.0));
        let watched = boundaries(&history);
        let harm = harm(&history);
        let known = |above: &usize| {
            let told = margin(comparison, harmful, *above, stable, now);
            told.unwrap_or_else(|| comparison.bound(harmful, None, now))
        };
        let margins: Vec<f64> = harm.iter().map(known).collect();
        let alike = alike(&margins);
        let tilts = Tilts::new(&finite(&stable.bounds), &history).filter(|_| alike);
        let side = |wanted: bool| {
            wanted.then(|| Slower {
                above: Exceedance::new(&harm, &margins, SELDOM),
                tilt: tilts.as_ref().map(|tilts| TiltProcess::new(tilts, SELDOM)),
                alike,
                not: NotSlower::new(&watched, harmful),
            })
        };
        let bound = margins.iter().copied().fold(1.0, f64::max);
        let (up, down) = (wants_up(comparison.direction), wants_down(comparison.direction));
        let bounds = finite(&stable.bounds);
        let (up, down) = (side(up), side(down));
        let buckets = Self { bounds, history, tilts: Made(tilts), up, down };
        Some((
            Process::Histogram(Box::new(buckets)),
            Fixed { harmful, bound, tau: None, share: None, margin: Some(harmful) },
        ))
    }

    fn observe(&mut self, canary: &[f64], stable: &[f64]) -> bool {
        let Self { bounds, history, tilts: Made(tilts), up, down } = self;
        if canary.len() != history.len() || stable.len() != history.len() {
            return false;
        }
        let tilted = [&*up, &*down].into_iter().flatten().any(|side| side.tilt.is_some());
        if tilted && tilts.is_none() {
            *tilts = Tilts::new(bounds, history);
        }
        let mut known = true;
        if let Some(up) = up {
            known &= up.observe(tilts.as_ref(), canary, stable);
        }
        if let Some(down) = down {
            known &= down.observe(tilts.as_ref(), stable, canary);
        }
        known
    }
}

impl Histogram {
    /// Upper bounds of the buckets; the last one has none.
    pub(super) fn bounds(&self) -> &[f64] {
        &self.bounds
    }

    /// The boundaries above which harm is looked for.
    pub(super) fn watched(&self) -> Vec<usize> {
        harm(&self.history)
    }

    /// The boundary above which the stable version hardly ever was.
    pub(super) fn rare(&self) -> Option<usize> {
        rare(&self.history)
    }

    /// The watched boundary with the fewest requests above it.
    pub(super) fn rarest(&self) -> Option<usize> {
        boundaries(&self.history).into_iter().max()
    }

    /// The watched boundary with the most requests above it.
    pub(super) fn lowest(&self) -> Option<usize> {
        boundaries(&self.history).into_iter().min()
    }
}

fn harm(history: &[f64]) -> Vec<usize> {
    boundaries(history).into_iter().chain(rare(history)).collect()
}

/// Upper bounds without that of the last bucket, which has none.
fn finite(bounds: &[f64]) -> Vec<f64> {
    bounds.iter().copied().filter(|bound| bound.is_finite()).collect()
}

impl Slower {
    fn observe(&mut self, tilts: Option<&Tilts>, of: &[f64], against: &[f64]) -> bool {
        let Self { above, tilt, alike, not } = self;
        let known = above.observe(of, against);
        not.observe(of, against);
        if let (Some(tilt), Some(tilts), true) = (tilt, tilts, *alike) {
            tilt.observe(tilts, of, against);
        }
        known
    }

    fn log_e(&self) -> f64 {
        match &self.tilt {
            Some(tilt) => half(self.above.log_e(), tilt.log_e()),
            None => self.above.log_e(),
        }
    }
}

impl Gauge {
    /// Nothing without history: the deviation of the run itself is not to be trusted.
    fn begin(comparison: &Comparison, now: Present) -> Option<(Process, Fixed)> {
        let history = comparison.history?;
        let deviation = comparison.deviation(now)?;
        let harmful = comparison.harmful.unwrap_or(comparison.kind.default_harm(0.0));
        let direction = comparison.direction;
        let margin = match history.level {
            Some(level) => (harmful - 1.0) * level.abs(),
            None => libm::log(harmful),
        };
        let equal = || GaugeProcess::new(Direction::Increase, deviation, 0.0, Restarts::NONE);
        let gauge = Self {
            harm: GaugeProcess::new(direction, deviation, 0.0, OFTEN)?,
            up: wants_up(direction).then(equal).flatten(),
            down: wants_down(direction).then(equal).flatten(),
            margin,
            logarithmic: history.level.is_none(),
        };
        Some((
            Process::Gauge(Box::new(gauge)),
            Fixed { harmful, bound: 1.0, tau: None, share: None, margin: Some(harmful) },
        ))
    }

    fn allow(&mut self, of: &Comparison, now: Present) {
        let Self { harm, up, down, .. } = self;
        let Some(deviation) = of.deviation(now) else { return };
        let all = [Some(harm), up.as_mut(), down.as_mut()].into_iter().flatten();
        all.for_each(|process| process.allow(deviation));
    }

    fn observe(&mut self, canary: f64, stable: f64) -> bool {
        let Self { harm, up, down, margin, logarithmic } = self;
        let Some(difference) = difference(canary, stable, *logarithmic) else { return false };
        let known = harm.observe(difference);
        if let Some(up) = up {
            up.observe(*margin - difference);
        }
        if let Some(down) = down {
            down.observe(*margin + difference);
        }
        known
    }
}

/// The requests above a boundary, and all, of each pod's life.
fn lives_above(reading: &Reading, above: usize) -> Vec<Arm> {
    let life = |values: &Vec<f64>| {
        let (total, below) = (*values.last()?, *values.get(above)?);
        Some(Arm { bad: total - below, exposure: total })
    };
    reading.pods.values().filter_map(|pod| life(&pod.values)).collect()
}
