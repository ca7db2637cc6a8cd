//! From raw per-pod series to what happened since the tick before.
//!
//! A counter that fell was reset: all of its process begins again at 0. A missed scrape is bridged by
//! the next one. A pod that was born inside the run counts from 0; of any other the first value is
//! only where counting begins. What is negative or no number is dropped and counted, and so is what a
//! canary pod does before it is warm. A difference is never extrapolated, so counts stay whole.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::stats::buckets::common_bounds;

/// After this long without a value a pod is forgotten: twice as long as Prometheus looks back.
const FORGOTTEN: SignedDuration = SignedDuration::from_mins(10);

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
    /// The sum of the last part with what was not counted: all requests of the arm.
    pub traffic: f64,
    /// Seconds that the pods were watched, added up.
    pub pod_seconds: f64,
    /// Pods with a value.
    pub pods: u32,
    /// How good the data was.
    pub quality: Quality,
}

/// The last values of each pod.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Counters {
    pods: BTreeMap<String, Last>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Last {
    at: Timestamp,
    values: Vec<f64>,
}

impl Counters {
    /// What happened since the reading before.
    pub fn advance(&mut self, reading: &Reading, at: Timestamp, counting: &Counting) -> Increment {
        let mut increment = Increment::default();
        for (pod, PodReading { created, values }) in &reading.pods {
            if values.iter().any(|value| !value.is_finite() || *value < 0.0) {
                increment.quality.dropped += 1;
                continue;
            }
            increment.pods += 1;
            let last = self.pods.insert(pod.clone(), Last { at, values: values.clone() });
            let last = last.filter(|last| last.values.len() == values.len());
            let born = created.filter(|created| *created >= counting.started);
            let (since, before) = match (&last, born) {
                (Some(last), _) => (last.at, last.values.as_slice()),
                (None, Some(created)) => (created, &[] as &[f64]),
                (None, None) => continue,
            };
            let young = created.is_some_and(|created| since < after(created, counting.warm_up));
            let reset = before.iter().zip(values).any(|(before, value)| value < before);
            increment.quality.resets += u32::from(reset);
            if last.is_some() {
                increment.quality.missed += gaps(since.max(counting.started), at, counting.tick);
            }
            let grown = |i: usize, value: &f64| {
                value - before.get(i).copied().filter(|_| !reset).unwrap_or(0.0)
            };
            increment.traffic += values.last().map_or(0.0, |value| grown(values.len() - 1, value));
            if young {
                increment.quality.young += 1;
                continue;
            }
            increment.quality.taken += 1;
            increment.pod_seconds += at.duration_since(since).as_secs_f64().max(0.0);
            increment.parts.resize(values.len(), 0.0);
            for (i, (sum, value)) in increment.parts.iter_mut().zip(values).enumerate() {
                *sum += grown(i, value);
            }
        }
        self.pods.retain(|_, last| after(last.at, FORGOTTEN) > at);
        increment
    }
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
            let values = buckets.iter().map(|(_, value)| *value).collect();
            let reading = PodReading { created: created.get(pod).copied(), values };
            let bounds = buckets.into_iter().map(|(bound, _)| bound).collect();
            Self { bounds, pods: BTreeMap::from([(pod.to_owned(), reading)]) }.in_order()
        });
        let Some(mut all) = pods.next() else { return Ok(Self::default()) };
        for pod in pods {
            let bounds = common_bounds(&all.bounds, &pod.bounds);
            all = all.onto(&bounds);
            all.pods.extend(pod.onto(&bounds).pods);
        }
        Ok(all)
    }

    fn in_order(mut self) -> Self {
        for pod in self.pods.values_mut() {
            let mut buckets: Vec<_> =
                self.bounds.iter().copied().zip(pod.values.iter().copied()).collect();
            buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
            (self.bounds, pod.values) = buckets.into_iter().unzip();
        }
        self
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

fn pod_of<'a>(series: &'a Series, label: &str) -> Result<&'a str, ReadingError> {
    let pod = series.labels.get(label).filter(|pod| !pod.is_empty());
    pod.map(String::as_str).ok_or_else(|| ReadingError::NoPod(label.to_owned()))
}
