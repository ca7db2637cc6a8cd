//! From raw per-pod series to what happened since the tick before.
//!
//! A counter that fell below half was reset: all of its process begins again at 0. One that fell by less
//! has lost a part of what it is the sum of, and waits until it is beyond what it was. A missed scrape is
//! bridged by the next one. A pod that was born inside the run counts from 0, once; of any other the
//! first value is only where counting begins. What is negative or no number is dropped and counted, and
//! so is what a canary pod does before it is warm. A difference is never extrapolated, so counts stay
//! whole.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::plan::Kind;
use crate::stats::buckets::common_bounds;

/// After this long without a value a pod is forgotten: twice as long as Prometheus looks back. A pod
/// that is older is never counted from 0: it may have been counted before.
const FORGOTTEN: SignedDuration = SignedDuration::from_mins(10);

/// A counter that is below this part of what it was began again at 0. What is counted is the sum of a
/// pod's series, and a sum also falls when a series goes away: a path that is not used any more, one of two
/// containers that restarts, one of two servers that scrape. Taken for a reset, that would count the pod's
/// life a second time, and once more when the series comes back; while a reset that is taken for a lost
/// series costs some minutes of one pod, which then was no older than two ticks.
const RESET: f64 = 0.5;

/// Numbers that an arm keeps in the run's status, at about ten bytes each. etcd takes 1.5 MB for an object:
/// with two arms that is 50 kB for a metric and 1 MB for twenty of them, which leaves room for the rest.
const KEPT: usize = 2_500;

/// The name of a pod and its time are as long as so many numbers.
const NAMED: usize = 8;

/// The most pods of an arm that are counted when each has so many parts.
pub(super) fn most(parts: usize) -> usize {
    // Five pods tell how much pods differ.
    (KEPT / (parts + NAMED)).max(5)
}

/// The raw series of one arm at one tick.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reading {
    /// Upper bounds of histogram buckets in rising order, the last infinite; empty for others.
    pub bounds: Vec<f64>,
    /// The pods that have series.
    pub pods: BTreeMap<String, PodReading>,
}

/// The raw series of one pod.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PodReading {
    /// When it was created, where that is known.
    pub created: Option<Timestamp>,
    /// A ratio's bad and total; a count's events and exposure; cumulative buckets; a gauge's level.
    pub values: Vec<f64>,
}

/// What is counted and what is not.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Counting {
    /// When the run started: what was not asked for before is not missing.
    pub started: Timestamp,
    /// Time between two ticks.
    pub tick: SignedDuration,
    /// What pods did while they were younger than this is not counted.
    pub warm_up: SignedDuration,
    /// The canary's planned share of the requests, where there is one.
    pub weight: Option<f64>,
}

/// How good the data was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quality {
    /// Values of pods that were taken.
    pub taken: u32,
    /// Scrapes that were missed and bridged.
    pub missed: u32,
    /// Resets of counters.
    pub resets: u32,
    /// Values that made no sense.
    pub dropped: u32,
    /// Values of pods that were not warm.
    pub young: u32,
}

impl Quality {
    /// The share of scrapes that is missing.
    #[must_use]
    pub fn missing(&self) -> f64 {
        let lost = f64::from(self.missed) + f64::from(self.dropped);
        let all = lost + f64::from(self.taken);
        if all == 0.0 { 0.0 } else { lost / all }
    }

    pub(super) fn add(&mut self, other: Self) {
        let Self { taken, missed, resets, dropped, young } = other;
        self.taken += taken;
        self.missed += missed;
        self.resets += resets;
        self.dropped += dropped;
        self.young += young;
    }
}

/// What happened in one arm since the tick before.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Increment {
    /// The sum over the pods, part by part; empty when nothing was counted.
    pub parts: Vec<f64>,
    /// The sum of the last part with what was not counted: all requests of the arm, where they are known.
    pub traffic: f64,
    /// Seconds that the pods were watched, added up.
    pub pod_seconds: f64,
    /// Pods with a value.
    pub pods: u32,
    /// How good the data was.
    pub quality: Quality,
}

impl Increment {
    /// Nothing of the arm was seen, and its next values bring what it did.
    pub(super) fn is_missed(&self) -> bool {
        let Quality { taken, dropped, young, .. } = self.quality;
        taken == 0 && young == 0 && (self.pods == 0 || dropped > 0)
    }
}

/// The last values of each pod.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Counters {
    pods: BTreeMap<String, Last>,
    /// The finite bounds of the buckets that the values are of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    bounds: Vec<f64>,
    /// When there last were more pods than are counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    crowded: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Last {
    at: Timestamp,
    /// Empty where they were of other buckets.
    values: Vec<f64>,
}

/// What happened in one pod, part by part.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::analysis) struct Grown {
    pub parts: Vec<f64>,
    /// Counters of it began again at 0.
    pub reset: bool,
}

impl Grown {
    /// `None`: a part of what was counted `before` is missing.
    pub(in crate::analysis) fn since(kind: Kind, before: &[f64], values: &[f64]) -> Option<Self> {
        let anew = |before: &f64, value: &f64| *value < RESET * before;
        let pairs = || before.iter().zip(values);
        let part = |(before, value): (&f64, &f64)| match kind {
            // Events and traffic may be told by different processes, of which one may restart.
            Kind::Count { .. } if anew(before, value) => Some(*value),
            Kind::Ratio | Kind::Count { .. } | Kind::Histogram => {
                (value >= before).then_some(value - before)
            }
            Kind::Gauge => Some(0.0),
        };
        let whole = match kind {
            Kind::Ratio | Kind::Histogram => pairs().next_back(),
            Kind::Count { .. } | Kind::Gauge => None,
        };
        if whole.is_some_and(|(before, value)| anew(before, value)) {
            return Some(Self { parts: values.to_vec(), reset: true });
        }
        let parts = pairs().map(part).collect::<Option<Vec<f64>>>()?;
        let fell = pairs().any(|(before, value)| value < before);
        Some(Self { parts, reset: fell && kind != Kind::Gauge })
    }
}

impl Counters {
    /// What happened since the reading before.
    pub fn advance(
        &mut self,
        kind: Kind,
        reading: &Reading,
        at: Timestamp,
        counting: &Counting,
    ) -> Increment {
        self.onto(reading);
        let mut increment = Increment::default();
        for (pod, PodReading { created, values }) in &reading.pods {
            if values.iter().any(|value| !value.is_finite() || *value < 0.0) {
                increment.quality.dropped += 1;
                continue;
            }
            increment.pods += 1;
            let (since, before) = match (self.pods.get(pod), self.born(*created, at, counting)) {
                (Some(last), _) => (last.at, last.values.clone()),
                (None, Some(created)) => (created, vec![0.0; values.len()]),
                (None, None) => (at, Vec::new()),
            };
            let first = before.len() != values.len();
            let grown = Grown::since(kind, &before, values);
            if grown.is_none() && !first {
                increment.quality.dropped += 1;
                continue;
            }
            let known = self.pods.insert(pod.clone(), Last { at, values: values.clone() });
            let Some(Grown { parts, reset }) = grown.filter(|_| !first) else { continue };
            increment.quality.resets += u32::from(reset);
            if known.is_some() {
                increment.quality.missed += gaps(since.max(counting.started), at, counting.tick);
            }
            increment.traffic += parts.last().filter(|_| kind.has_traffic()).unwrap_or(&0.0);
            if created.is_some_and(|created| since < after(created, counting.warm_up)) {
                increment.quality.young += 1;
                continue;
            }
            increment.quality.taken += 1;
            increment.pod_seconds += at.duration_since(since).as_secs_f64().max(0.0);
            increment.parts.resize(values.len(), 0.0);
            increment.parts.iter_mut().zip(&parts).for_each(|(sum, part)| *sum += part);
        }
        if reading.pods.len() > reading.counted() {
            // Requests of all its pods, of which some are counted.
            let counted = increment.quality.taken + increment.quality.young;
            increment.traffic *= f64::from(increment.pods) / f64::from(counted.max(1));
        }
        self.pods.retain(|_, last| after(last.at, FORGOTTEN) > at);
        self.draw(at);
        increment
    }

    /// Keeps no more pods than the status has room for: those that are there before those that are not, and
    /// of them always the same ones, by a lot that has nothing to do with what they count.
    fn draw(&mut self, at: Timestamp) {
        let parts = self.pods.values().map(|last| last.values.len()).max();
        let lot = |pod: &str, last: &Last| (last.at < at, lot(pod));
        let mut lots: Vec<_> = self.pods.iter().map(|(pod, last)| lot(pod, last)).collect();
        lots.sort_unstable();
        if let Some(first_out) = lots.get(most(parts.unwrap_or(0))) {
            self.pods.retain(|pod, last| lot(pod, last) < *first_out);
            self.crowded = Some(at);
        }
    }

    /// When a pod was created that counts from 0: none that may have been counted before.
    fn born(
        &self,
        created: Option<Timestamp>,
        at: Timestamp,
        counting: &Counting,
    ) -> Option<Timestamp> {
        let young = |created: &Timestamp| after(*created, FORGOTTEN) > at;
        let created = created.filter(|created| *created >= counting.started).filter(young);
        created.filter(|created| self.crowded.is_none_or(|crowded| *created > crowded))
    }

    /// Values of other buckets than those of `reading` say nothing but that the pod was counted.
    fn onto(&mut self, reading: &Reading) {
        let bounds = || reading.bounds.iter().filter(|bound| bound.is_finite());
        if !reading.pods.is_empty() && bounds().ne(&self.bounds) {
            self.bounds = bounds().copied().collect();
            self.pods.values_mut().for_each(|last| last.values.clear());
        }
    }
}

/// The lot of a pod, the same in every process.
fn lot(pod: &str) -> u64 {
    Sha256::digest(pod).iter().take(8).fold(0, |lot, byte| (lot << 8) | u64::from(*byte))
}

fn after(at: Timestamp, span: SignedDuration) -> Timestamp {
    at.saturating_add(span).unwrap_or(at)
}

/// Ticks that went by without a value.
fn gaps(since: Timestamp, at: Timestamp, tick: SignedDuration) -> u32 {
    let tick = tick.as_secs_f64();
    let ticks = at.duration_since(since).as_secs_f64() / tick;
    if tick > 0.0 && ticks > 1.5 { (libm::round(ticks) - 1.0).min(1e6) as u32 } else { 0 }
}

/// One labelled value of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

/// Why an answer is no reading.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadingError {
    /// There is no label that tells pods apart.
    #[error("a series has no label {0:?}; name the pod's label under compare.podLabel")]
    NoPod(String),
    /// No bucket has a bound.
    #[error("a series has no label \"le\" with a number; name the buckets, which end in _bucket")]
    NoBound,
}

impl Reading {
    /// So many of its pods are counted.
    pub(super) fn counted(&self) -> usize {
        let parts = self.pods.values().next().map_or(0, |pod| pod.values.len());
        self.pods.len().min(most(parts))
    }

    /// From the answers for each part. A pod that has a value only in a later part has 0 in the
    /// earlier ones: a counter of errors appears with the first error. A pod without the last part
    /// (the traffic) is left out.
    ///
    /// # Errors
    /// When a series has no pod.
    pub fn of_parts(
        parts: &[Vec<Series>],
        pod_label: &str,
        created: &BTreeMap<String, Timestamp>,
    ) -> Result<Self, ReadingError> {
        let mut pods: BTreeMap<String, PodReading> = BTreeMap::new();
        let last = parts.len().saturating_sub(1);
        for (part, series) in parts.iter().enumerate().rev() {
            for one in series {
                let pod = pod_of(one, pod_label)?;
                if part == last {
                    let values = vec![0.0; parts.len()];
                    let fresh = PodReading { created: created.get(pod).copied(), values };
                    pods.entry(pod.to_owned()).or_insert(fresh);
                }
                if let Some(value) = pods.get_mut(pod).and_then(|pod| pod.values.get_mut(part)) {
                    *value += one.value;
                }
            }
        }
        Ok(Self { bounds: Vec::new(), pods })
    }

    /// From the cumulative buckets of a classic histogram, with the bounds that all pods have.
    ///
    /// # Errors
    /// When a series has no pod or no bound.
    pub fn of_buckets(
        series: &[Series],
        pod_label: &str,
        created: &BTreeMap<String, Timestamp>,
    ) -> Result<Self, ReadingError> {
        let mut found: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
        for one in series {
            let bound = one.labels.get("le").and_then(|le| le.parse::<f64>().ok());
            let bound = bound.filter(|bound| !bound.is_nan()).ok_or(ReadingError::NoBound)?;
            found.entry(pod_of(one, pod_label)?).or_default().push((bound, one.value));
        }
        let mut pods = found.into_iter().map(|(pod, buckets)| {
            let (bounds, values) = summed(buckets);
            let reading = PodReading { created: created.get(pod).copied(), values };
            Self { bounds, pods: BTreeMap::from([(pod.to_owned(), reading)]) }
        });
        let Some(mut all) = pods.next() else { return Ok(Self::default()) };
        for pod in pods {
            let bounds = common_bounds(&all.bounds, &pod.bounds);
            all = all.onto(&bounds);
            all.pods.extend(pod.onto(&bounds).pods);
        }
        Ok(all)
    }

    /// The same with fewer bounds, all of which it has. Cumulative buckets need no sums for that.
    #[must_use]
    pub(super) fn onto(mut self, bounds: &[f64]) -> Self {
        if self.bounds == bounds {
            return self;
        }
        let kept: Vec<bool> = self.bounds.iter().map(|bound| bounds.contains(bound)).collect();
        for pod in self.pods.values_mut() {
            let mut kept = kept.iter();
            pod.values.retain(|_| kept.next().is_some_and(|kept| *kept));
        }
        self.bounds.retain(|bound| bounds.contains(bound));
        self
    }
}

/// Bounds in rising order with their values, each bound once: what several processes of a pod count is the
/// pod's. A bound that not all of them have would miss the requests of the others.
fn summed(mut buckets: Vec<(f64, f64)>) -> (Vec<f64>, Vec<f64>) {
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    let alike = || buckets.chunk_by(|a, b| a.0 == b.0);
    let all = alike().map(<[_]>::len).max();
    let sum = |alike: &[(f64, f64)]| {
        let (bound, _) = alike.first().filter(|_| Some(alike.len()) == all)?;
        Some((*bound, alike.iter().map(|(_, value)| value).sum::<f64>()))
    };
    alike().filter_map(sum).unzip()
}

fn pod_of<'a>(series: &'a Series, label: &str) -> Result<&'a str, ReadingError> {
    let pod = series.labels.get(label).filter(|pod| !pod.is_empty());
    pod.map(String::as_str).ok_or_else(|| ReadingError::NoPod(label.to_owned()))
}
