//! The state of one comparison: what a tick does to it, what it says, and how it is kept.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::counters::{Counters, Counting, Increment, Quality, Reading, most};
use super::exact::Exact;
use super::exposure::ExposureWatch;
use super::jumps::{Held, Jumps, seen};
use super::native::{Layout, NativeArm, NativeError};
use super::outlook::Dispersion;
use super::plan::{Comparison, Kind, Present};
use super::process::{Fixed, Process, Seen, arm_of, single};
use super::verdict::rounded;
use crate::analysis::sample;
use crate::api::analysis_run::{ArmEvidence, Bucket, Evidence, QuantileEvidence};
use crate::stats::buckets::{common_bounds, quantile, quantile_interval};
use crate::stats::interval::{Strata, rate_ratio};
use crate::stats::rates::Arm;

/// The layout of a checkpoint. One that is newer is not read.
const SCHEMA: u32 = 1;

/// A fresh copy of the evidence starts this often, for what begins late.
const RESTART: SignedDuration = SignedDuration::from_mins(5);

/// The same for histograms, whose state is large.
const RESTART_LARGE: SignedDuration = SignedDuration::from_mins(15);

/// The raw series of both arms at one tick.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tick {
    /// The new version's.
    pub canary: Reading,
    /// The stable version's.
    pub stable: Reading,
}

impl Tick {
    /// Both arms on the bounds that they share, or that the run has: versions may differ in their
    /// buckets, also while one of them has no series.
    fn aligned(&self, process: Option<&Process>) -> Self {
        let Self { canary, stable } = self.clone();
        if let Some(Process::Histogram(of)) = process {
            let bounds: Vec<f64> = of.bounds().iter().copied().chain([f64::INFINITY]).collect();
            return Self { canary: canary.onto(&bounds), stable: stable.onto(&bounds) };
        }
        if canary.bounds == stable.bounds || canary.pods.is_empty() || stable.pods.is_empty() {
            return Self { canary, stable };
        }
        let bounds = common_bounds(&canary.bounds, &stable.bounds);
        Self { canary: canary.onto(&bounds), stable: stable.onto(&bounds) }
    }
}

/// The state of one comparison.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricState {
    schema: u32,
    /// Ticks with an answer.
    pub(super) ticks: u32,
    /// The first and the last tick.
    pub(super) span: Option<(Timestamp, Timestamp)>,
    restarted: Option<Timestamp>,
    canary: ArmState,
    stable: ArmState,
    process: Option<Process>,
    pub(super) fixed: Option<Fixed>,
    /// Where the run, or the step of the weight, began.
    #[serde(default)]
    mark: Option<Mark>,
    /// Whether the canary gets the traffic that it should.
    #[serde(default)]
    pub(super) exposure: ExposureWatch,
    /// The buckets onto which native histograms are brought.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    layout: Option<Layout>,
    /// How much more than chance the ticks differ.
    #[serde(default)]
    pub(super) dispersion: Dispersion,
    /// What was staked on the exact boundary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) exact: Option<Exact>,
    /// What the ticks show of the ratio, tick by tick: for a histogram above each boundary that is shown.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    strata: BTreeMap<usize, Strata>,
    /// What waits for a missed scrape of the other arm.
    #[serde(default, skip_serializing_if = "Held::is_empty")]
    held: Held,
    /// What is usual for both arms together.
    #[serde(default, skip_serializing_if = "Jumps::is_new")]
    jumps: Jumps,
}

/// The sums of both arms at some time, part by part, with the seconds of their pods.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Mark {
    at: Timestamp,
    canary: (Vec<f64>, f64),
    stable: (Vec<f64>, f64),
}

/// What was seen of one arm.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct ArmState {
    counters: Counters,
    /// Sums since the start, part by part.
    pub sums: Vec<f64>,
    pub pod_seconds: f64,
    /// Pods at the last tick.
    pub pods: u32,
    pub quality: Quality,
    /// Ticks in a row without any series.
    pub silent: u32,
    /// Ticks in a row without traffic.
    pub idle: u32,
    /// All pods of the last tick were too young to be counted.
    #[serde(default)]
    pub young: bool,
}

/// Why a checkpoint is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// It is not one.
    #[error("the checkpoint cannot be read ({0}); the evidence is gathered anew")]
    Unreadable(String),
    /// A newer controller wrote it.
    #[error(
        "the checkpoint has layout {0}, this controller knows {SCHEMA}; the evidence is gathered anew"
    )]
    Newer(u32),
}

impl Default for MetricState {
    fn default() -> Self {
        Self {
            schema: SCHEMA,
            ticks: 0,
            span: None,
            restarted: None,
            canary: ArmState::default(),
            stable: ArmState::default(),
            process: None,
            fixed: None,
            mark: None,
            exposure: ExposureWatch::default(),
            layout: None,
            dispersion: Dispersion::default(),
            exact: None,
            strata: BTreeMap::new(),
            held: Held::default(),
            jumps: Jumps::default(),
        }
    }
}

impl MetricState {
    /// Reads what [`MetricState::checkpoint`] wrote.
    ///
    /// # Errors
    /// When it is none, or one of a newer layout.
    pub fn restore(text: &str) -> Result<Self, CheckpointError> {
        let unreadable = |error: serde_json::Error| CheckpointError::Unreadable(error.to_string());
        let value: serde_json::Value = serde_json::from_str(text).map_err(unreadable)?;
        let schema = value.get("schema").and_then(serde_json::Value::as_u64).unwrap_or(0);
        let schema = u32::try_from(schema).unwrap_or(u32::MAX);
        if schema > SCHEMA {
            return Err(CheckpointError::Newer(schema));
        }
        serde_json::from_value(value).map_err(unreadable)
    }

    /// The state as text, for the run's status.
    ///
    /// # Errors
    /// Never in practice: all of it has a JSON form.
    pub fn checkpoint(&self) -> Result<String, CheckpointError> {
        serde_json::to_string(self).map_err(|e| CheckpointError::Unreadable(e.to_string()))
    }

    /// Takes the answers of one tick. A tick that is not after the last is dropped, so that an answer
    /// may be given twice.
    pub fn observe(&mut self, of: &Comparison, tick: &Tick, at: Timestamp, counting: &Counting) {
        let tick = &tick.aligned(self.process.as_ref());
        if self.span.is_some_and(|(_, last)| at <= last) {
            return;
        }
        self.ticks += 1;
        let first = self.span.map_or(at, |(first, _)| first);
        self.span = Some((first, at));
        let warm = warm(&tick.canary, at, counting);
        let stable_rule = Counting { warm_up: SignedDuration::ZERO, ..*counting };
        let canary = self.canary.counters.advance(of.kind, &tick.canary, at, counting);
        let stable = self.stable.counters.advance(of.kind, &tick.stable, at, &stable_rule);
        if self.exposure.observe(counting.weight, canary.traffic, stable.traffic) {
            // Requests of two weights in one tick: nothing says which of them met which rate.
            return self.step(at);
        }
        let before = self.alike(of, None);
        self.canary.add(&canary, &tick.canary, of.kind);
        self.stable.add(&stable, &tick.stable, of.kind);
        if self.process.is_none() {
            let begun = Process::begin(of, tick, self.ticks);
            if let Some((process, fixed)) = begun {
                (self.process, self.fixed, self.restarted) = (Some(process), Some(fixed), Some(at));
            }
            if of.kind != Kind::Gauge {
                return;
            }
        }
        let Some(process) = &mut self.process else { return };
        // A level is of its own tick: it adds nothing up that could wait.
        let arms = match of.kind {
            Kind::Gauge => Some([canary, stable]),
            _ => self.held.take(canary, stable),
        };
        let shown = |[canary, stable]: &[Increment; 2]| {
            seen(of.kind, (canary, &warm), (stable, &tick.stable))
        };
        let now = arms.as_ref().map_or(Seen::Nothing, shown);
        let (whole, part) = match process.pooled(&now).zip(arms) {
            Some((pooled, arms)) => match self.jumps.take(&pooled, arms) {
                Some((arms, part)) => (shown(&arms), part),
                None => (Seen::Nothing, 1.0),
            },
            None => (now, 1.0),
        };
        let scaled = (part < 1.0).then(|| whole.scaled(part));
        let seen = scaled.as_ref().unwrap_or(&whole);
        if process.observe(seen) {
            for above in process.shown() {
                let strata = self.strata.entry(above).or_default();
                whole.arms(above).into_iter().for_each(|(of, to)| strata.observe(of, to));
            }
        }
        if let Some(fixed) = &mut self.fixed {
            if part >= 1.0
                && let (Some(exact), Seen::Rates { canary, stable }) = (&mut self.exact, seen)
            {
                exact.observe(*canary, *stable, fixed.bound);
            }
            process.allow(of, tick, fixed, self.ticks);
        }
        if let (Some(before), Seen::Rates { canary, stable }) = (before, seen) {
            self.dispersion.observe(before, (*canary, *stable));
        }
        let every = if of.kind == Kind::Histogram { RESTART_LARGE } else { RESTART };
        if self.restarted.is_some_and(|last| at.duration_since(last) >= every) {
            process.restart();
            self.restarted = Some(at);
        }
    }

    /// Native histograms of both arms on the buckets of the run, which the first tick with requests of
    /// the stable version fixes.
    ///
    /// # Errors
    /// When a pod's buckets have become coarser than those.
    pub fn on_buckets(
        &mut self,
        canary: &NativeArm,
        stable: &NativeArm,
        created: &BTreeMap<String, Timestamp>,
    ) -> Result<Tick, NativeError> {
        let Some(layout) = self.layout.or_else(|| Layout::of(stable, canary)) else {
            return Ok(Tick::default());
        };
        self.layout = Some(layout);
        Ok(Tick { canary: layout.read(canary, created)?, stable: layout.read(stable, created)? })
    }

    /// Whether it compares native histograms; `None`: nothing was seen that tells.
    #[must_use]
    pub fn is_native(&self) -> Option<bool> {
        let begun = self.process.is_some();
        self.layout.map(|_| true).or_else(|| begun.then_some(false))
    }

    /// A step of the release has changed the weight: what begins with it is seen sooner.
    fn step(&mut self, at: Timestamp) {
        self.mark(at);
        self.look_anew();
        self.exact.iter_mut().for_each(Exact::close);
        if let Some(process) = &mut self.process {
            process.restart();
            self.restarted = Some(at);
        }
    }

    /// The last tick that was taken.
    #[must_use]
    pub fn last(&self) -> Option<Timestamp> {
        self.span.map(|(_, last)| last)
    }

    fn mark(&mut self, at: Timestamp) {
        let of = |arm: &ArmState| (arm.sums.clone(), arm.pod_seconds);
        self.mark = Some(Mark { at, canary: of(&self.canary), stable: of(&self.stable) });
    }

    /// What was seen before is of another weight, or of another time.
    fn look_anew(&mut self) {
        (self.held, self.jumps) = (Held::default(), Jumps::default());
    }

    /// Makes it the state of the next run of the same release. The evidence of harm goes on; that the
    /// canary is harmless is proven anew, at what the next run's step brings.
    pub fn carry_on(&mut self) {
        if let Some((_, last)) = self.span {
            self.mark(last);
        }
        for arm in [&mut self.canary, &mut self.stable] {
            (arm.silent, arm.idle, arm.quality) = (0, 0, Quality::default());
        }
        self.exposure.begin_anew();
        self.look_anew();
        self.exact.iter_mut().for_each(Exact::close);
        if let Some(process) = &mut self.process {
            process.prove_anew();
        }
    }

    /// ln E against the canary; 0 before there is any evidence, and below the fewest events.
    #[must_use]
    pub fn log_e(&self, of: &Comparison) -> f64 {
        match &self.process {
            Some(process) if self.enough(of) => process.log_e(),
            Some(_) | None => 0.0,
        }
    }

    /// ln E that the canary is harmless.
    #[must_use]
    pub fn log_e_pass(&self, of: &Comparison) -> f64 {
        match &self.process {
            Some(process) if self.enough(of) => process.log_e_pass(),
            Some(_) | None => f64::NEG_INFINITY,
        }
    }

    /// What of the traffic is not as planned, in a sentence.
    #[must_use]
    pub fn complaint(&self) -> Option<String> {
        self.exposure.complaint()
    }

    /// Where the boundary of a calibrated run was not learnt from its like: why, and what is taken for the
    /// noise of pods there.
    #[must_use]
    pub fn beyond(&self, of: &Comparison) -> Option<String> {
        let pods = (self.canary.pods, self.stable.pods);
        let now = Present { ticks: self.ticks, pods };
        let why = of.history?.past?.beyond(now)?;
        if of.kind == Kind::Gauge {
            let more = rounded(of.deviation(now)? / of.history?.deviation?);
            return Some(format!("{why}: its noise is taken for {more} times that of the windows"));
        }
        let allowed = rounded(self.fixed?.bound);
        Some(format!("{why}: up to {allowed} times may be noise and is not failed"))
    }

    /// Whether evidence is being gathered.
    pub(super) fn begun(&self) -> bool {
        self.process.is_some()
    }

    pub(super) fn enough(&self, of: &Comparison) -> bool {
        self.events(of) >= of.min_events
    }

    /// Events of both arms: all requests where they are known.
    pub(super) fn events(&self, of: &Comparison) -> f64 {
        let of_arm = |arm: &ArmState| match of.kind {
            Kind::Ratio => arm.sums.get(1).copied().unwrap_or(0.0),
            Kind::Count { .. } => arm.sums.first().copied().unwrap_or(0.0),
            Kind::Histogram => arm.sums.last().copied().unwrap_or(0.0),
            Kind::Gauge => f64::from(arm.quality.taken),
        };
        of_arm(&self.canary) + of_arm(&self.stable)
    }

    pub(super) fn arms(&self) -> (&ArmState, &ArmState) {
        (&self.canary, &self.stable)
    }

    /// Bad events and exposure of both arms, for a histogram above the boundary `above`.
    pub(super) fn totals(&self, of: &Comparison, above: Option<usize>) -> Option<(Arm, Arm)> {
        let arm = |state: &ArmState| arm_above(of.kind, above, &state.sums, state.pod_seconds);
        Some((arm(&self.canary)?, arm(&self.stable)?))
    }

    /// The same as if the canary's share of the traffic had never changed: what the ratio is read from.
    pub(super) fn alike(&self, of: &Comparison, above: Option<usize>) -> Option<(Arm, Arm)> {
        let strata = self.strata.get(&above.unwrap_or(0)).copied().unwrap_or_default();
        self.totals(of, above).map(|sums| strata.alike(sums))
    }

    /// The same since the run or the step of the weight began, with the seconds that it took.
    pub(super) fn lately(&self, of: &Comparison, above: Option<usize>) -> Option<(Arm, Arm, f64)> {
        let (first, last) = self.span?;
        let mark = self.mark.clone().unwrap_or(Mark { at: first, ..Mark::default() });
        let arm = |state: &ArmState, before: &(Vec<f64>, f64)| {
            let (sums, seconds) = before;
            let grown = |(i, sum): (usize, &f64)| sum - sums.get(i).copied().unwrap_or(0.0);
            let grown: Vec<f64> = state.sums.iter().enumerate().map(grown).collect();
            arm_above(of.kind, above, &grown, state.pod_seconds - seconds)
        };
        let seconds = last.duration_since(mark.at).as_secs_f64();
        Some((arm(&self.canary, &mark.canary)?, arm(&self.stable, &mark.stable)?, seconds))
    }

    /// The numbers for people: sums, ratio with its interval, evidence and boundary.
    #[must_use]
    pub fn evidence(&self, of: &Comparison, log_boundary: f64) -> Evidence {
        let arm = |state: &ArmState| ArmEvidence {
            pods: i32::try_from(state.pods).ok(),
            counters: state.counters(of.kind),
            buckets: Vec::new(),
            gauges: state.gauges(of.kind),
        };
        let arms = self.alike(of, self.rarest_boundary(of));
        let known = arms.filter(|(c, s)| c.exposure > 0.0 && s.exposure > 0.0 && s.bad > 0.0);
        let interval = arms.and_then(|(canary, stable)| rate_ratio(canary, stable, 0.95));
        let finite = |value: f64| value.is_finite().then_some(value);
        let mut evidence = Evidence {
            canary: Some(arm(&self.canary)),
            stable: Some(arm(&self.stable)),
            ratio: known.map(|(c, s)| (c.bad / c.exposure) / (s.bad / s.exposure)),
            ratio_low: interval.map(|(low, _)| low),
            ratio_high: interval.and_then(|(_, high)| finite(high)),
            log_e: Some(self.log_e(of)),
            log_boundary: Some(log_boundary),
            log_e_pass: finite(self.log_e_pass(of)),
            quantiles: self.quantiles(of),
            score: None,
        };
        if let (Kind::Histogram, Some(Process::Histogram(buckets))) = (of.kind, &self.process) {
            let list = |state: &ArmState| listed(buckets.bounds(), &state.sums);
            let sides =
                [(&mut evidence.canary, &self.canary), (&mut evidence.stable, &self.stable)];
            for (side, state) in sides {
                if let Some(side) = side {
                    side.buckets = list(state);
                }
            }
        }
        evidence
    }

    /// What people call latency.
    pub(super) fn quantiles(&self, of: &Comparison) -> Vec<QuantileEvidence> {
        let Some(Process::Histogram(buckets)) = self.process.as_ref() else { return Vec::new() };
        let counts = |arm: &ArmState| single(&arm.sums).filter(|_| of.kind == Kind::Histogram);
        let (Some(canary), Some(stable)) = (counts(&self.canary), counts(&self.stable)) else {
            return Vec::new();
        };
        let bounds = buckets.bounds();
        let of_both = |(name, q): (&str, f64)| {
            let (low, high) = quantile_interval(bounds, &canary, q, 0.05);
            Some(QuantileEvidence {
                quantile: name.to_owned(),
                canary: quantile(bounds, &canary, q)?,
                stable: quantile(bounds, &stable, q)?,
                canary_low: Some(low),
                canary_high: Some(high).filter(|high| high.is_finite()),
            })
        };
        [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)].into_iter().filter_map(of_both).collect()
    }

    /// The boundary of a histogram that decides last: the one with the fewest requests above it; or the
    /// one above which the stable version hardly ever was, where the canary is there.
    pub(super) fn rarest_boundary(&self, of: &Comparison) -> Option<usize> {
        let Some(Process::Histogram(buckets)) = &self.process else { return None };
        let there = |at: &usize| {
            let interval = self
                .alike(of, Some(*at))
                .and_then(|(canary, stable)| rate_ratio(canary, stable, 0.95));
            interval.is_some_and(|(low, _)| low > 2.0)
        };
        buckets.rare().filter(there).or_else(|| buckets.rarest())
    }

    /// The boundary of a histogram with the most requests above it.
    pub(super) fn lowest_boundary(&self) -> Option<usize> {
        let Some(Process::Histogram(buckets)) = &self.process else { return None };
        buckets.lowest()
    }
}

fn arm_above(kind: Kind, above: Option<usize>, sums: &[f64], seconds: f64) -> Option<Arm> {
    match (kind, above) {
        (Kind::Histogram, Some(above)) => {
            let (total, below) = (*sums.last()?, *sums.get(above)?);
            Some(Arm { bad: total - below, exposure: total })
        }
        (Kind::Histogram, None) | (Kind::Gauge, _) => None,
        (Kind::Ratio | Kind::Count { .. }, _) => arm_of(kind, sums, seconds),
    }
}

fn listed(bounds: &[f64], sums: &[f64]) -> Vec<Bucket> {
    let counts = single(sums).unwrap_or_default();
    let bounds = bounds.iter().copied().chain(std::iter::once(f64::INFINITY));
    bounds.zip(counts).map(|(bound, count)| Bucket { le: sample::number(bound), count }).collect()
}

/// The reading without pods that are not warm.
fn warm(reading: &Reading, at: Timestamp, counting: &Counting) -> Reading {
    let mut warm = reading.clone();
    warm.pods.retain(|_, pod| {
        let born = pod.created;
        born.is_none_or(|born| at.duration_since(born) >= counting.warm_up)
    });
    warm
}

impl ArmState {
    fn add(&mut self, increment: &Increment, reading: &Reading, kind: Kind) {
        self.pods = increment.pods;
        self.quality.add(increment.quality);
        self.silent = if reading.pods.is_empty() { self.silent + 1 } else { 0 };
        if kind == Kind::Gauge {
            let levels = reading.pods.values().filter_map(|pod| pod.values.first());
            let (mut sum, mut count) = (0.0, 0.0);
            levels.for_each(|level| (sum, count) = (sum + level, count + 1.0));
            self.sums = if count > 0.0 { vec![sum / count] } else { Vec::new() };
            return;
        }
        self.young = increment.quality.young > 0 && increment.quality.taken == 0;
        let at_work = increment.traffic > 0.0 || !kind.has_traffic();
        self.idle = if at_work { 0 } else { self.idle + 1 };
        self.pod_seconds += increment.pod_seconds;
        if self.sums.len() < increment.parts.len() {
            self.sums = vec![0.0; increment.parts.len()];
        }
        // Buckets that are fewer than the run's are no parts of its sums.
        if self.sums.len() == increment.parts.len() {
            self.sums.iter_mut().zip(&increment.parts).for_each(|(sum, part)| *sum += part);
        }
    }

    /// So many of its pods are counted.
    pub fn counted(&self) -> u32 {
        self.pods.min(u32::try_from(most(self.sums.len())).unwrap_or(u32::MAX))
    }

    fn counters(&self, kind: Kind) -> BTreeMap<String, f64> {
        let names: &[&str] = match kind {
            Kind::Ratio => &["bad", "total"],
            Kind::Count { .. } => &["events", "exposure"],
            Kind::Histogram | Kind::Gauge => &[],
        };
        let mut counters: BTreeMap<String, f64> =
            names.iter().zip(&self.sums).map(|(name, sum)| ((*name).to_owned(), *sum)).collect();
        if kind == (Kind::Count { per: false }) {
            counters.insert("exposure".to_owned(), self.pod_seconds);
        }
        counters
    }

    fn gauges(&self, kind: Kind) -> BTreeMap<String, f64> {
        let level = self.sums.first().filter(|_| kind == Kind::Gauge);
        level.map(|level| ("mean".to_owned(), *level)).into_iter().collect()
    }
}
