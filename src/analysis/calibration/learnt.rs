//! What was learnt, and how it is kept: a text for people and machines, and packed paths.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::guard::{Guard, SHARE};
use crate::stats::combine::average;
use crate::stats::conformal::{Boundary, unpack};

/// The layout. One that is newer is not read.
const SCHEMA: u32 = 1;

/// What was learnt of a workload's comparisons.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Learnt {
    /// When.
    pub learnt_at: Timestamp,
    /// How long a window is.
    pub length_seconds: i64,
    /// Points of a path.
    pub points: usize,
    /// The starts of the windows, newest first: those of every path.
    pub windows: Vec<Timestamp>,
    /// Pods that played the canary in each window, without those that did in a newer one. Windows of the
    /// same few pods tell nothing of other pods, however many they are.
    #[serde(default)]
    pub pods: Vec<usize>,
    /// Canary pods and the others, where the arms of a window are noisiest: that of the middle window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arms: Option<(u32, u32)>,
    /// Windows that were left out.
    pub left_out: Vec<LeftOut>,
    /// The age from which a pod is like the others; absent: it was not to be seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm_up_seconds: Option<i64>,
    /// The comparisons, by their keys.
    pub metrics: BTreeMap<String, Metric>,
    /// Windows before this are not used: the service was another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// What the guard has seen.
    pub(super) guard: Guard,
    /// What the guard says, when it has just spoken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<String>,
}

/// What was learnt of one comparison.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// Its metric, for people.
    pub name: String,
    /// The long-run deviation of one tick's difference, for a gauge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deviation: Option<f64>,
    /// The usual size of its levels, where they are 0 or less at times and differences plain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<f64>,
    /// How much pods differ: the deviation of the logarithm of their rates beyond chance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tau: Option<f64>,
    /// The highest ln E in each part of each window, packed.
    #[serde(skip)]
    pub(super) paths: Vec<Vec<u16>>,
}

/// Windows that were left out for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// How many.
    pub windows: usize,
    /// The reason of one of them.
    pub why: String,
}

/// `336 windows of 60 min and 120 pods until 2026-03-02T04:03:00Z, warm-up 6 min; left out: 12 because, as of
/// one of them, a release was going on`.
impl fmt::Display for Learnt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (windows, minutes) = (self.windows.len(), self.length_seconds / 60);
        let pods = self.pods.iter().sum::<usize>();
        write!(
            f,
            "{windows} windows of {minutes} min and {pods} pods until {:.0}",
            self.learnt_at
        )?;
        if let Some(seconds) = self.warm_up_seconds {
            write!(f, ", warm-up {} min", seconds / 60)?;
        }
        for left_out in &self.left_out {
            write!(f, "; left out: {left_out}")?;
        }
        self.drift.iter().try_for_each(|drift| write!(f, "; {drift}"))
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} because, as of one of them, {}", self.windows, self.why)
    }
}

/// Why what was kept is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LearntError {
    /// It is none.
    #[error(
        "the stored calibration cannot be read ({0}); delete its ConfigMap, and it is learnt anew"
    )]
    Unreadable(String),
    /// A newer controller wrote it.
    #[error(
        "the stored calibration has layout {0}, this controller knows {SCHEMA}; delete its ConfigMap, \
         and it is learnt anew"
    )]
    Newer(u32),
}

#[derive(Serialize, Deserialize)]
struct Text {
    schema: u32,
    #[serde(flatten)]
    learnt: Learnt,
}

impl Learnt {
    /// As it is kept: a text, and the paths of each comparison.
    ///
    /// # Errors
    /// Never in practice: all of it has a JSON form.
    pub fn write(&self) -> Result<(String, BTreeMap<String, Vec<u8>>), LearntError> {
        let text = serde_json::to_string(&Text { schema: SCHEMA, learnt: self.clone() });
        let text = text.map_err(|error| LearntError::Unreadable(error.to_string()))?;
        let packed = |metric: &Metric| {
            metric.paths.iter().flatten().flat_map(|value| value.to_le_bytes()).collect()
        };
        let paths = self.metrics.iter().map(|(key, metric)| (key.clone(), packed(metric)));
        Ok((text, paths.collect()))
    }

    /// Reads what [`Learnt::write`] made.
    ///
    /// # Errors
    /// When it is none, or one of a newer layout.
    pub fn read(text: &str, paths: &BTreeMap<String, Vec<u8>>) -> Result<Self, LearntError> {
        let unreadable = |error: serde_json::Error| LearntError::Unreadable(error.to_string());
        let value: serde_json::Value = serde_json::from_str(text).map_err(unreadable)?;
        let schema = value.get("schema").and_then(serde_json::Value::as_u64).unwrap_or(0);
        let schema = u32::try_from(schema).unwrap_or(u32::MAX);
        if schema > SCHEMA {
            return Err(LearntError::Newer(schema));
        }
        let Text { schema: _, mut learnt } = serde_json::from_value(value).map_err(unreadable)?;
        let count = learnt.windows.len();
        for (key, metric) in &mut learnt.metrics {
            let bytes = paths.get(key).map(Vec::as_slice).unwrap_or_default();
            let (pairs, _) = bytes.as_chunks::<2>();
            let values: Vec<u16> = pairs.iter().map(|pair| u16::from_le_bytes(*pair)).collect();
            let each = values.len() / count.max(1);
            if each == 0 || each * count != values.len() {
                let why = format!("{} bytes of {key} for {count} windows", bytes.len());
                return Err(LearntError::Unreadable(why));
            }
            metric.paths = values.chunks(each).map(<[u16]>::to_vec).collect();
        }
        Ok(learnt)
    }

    /// The paths of ln E of several comparisons together, of which each has a weight; window by window,
    /// the newest first. `None` when one of them was not learnt.
    pub(super) fn together(&self, of: &[(&str, f64)]) -> Option<Vec<Vec<f64>>> {
        let metrics: Option<Vec<&Metric>> =
            of.iter().map(|(key, _)| self.metrics.get(*key)).collect();
        let metrics = metrics?;
        let weights: Vec<f64> = of.iter().map(|(_, weight)| *weight).collect();
        let path = |window: usize| {
            let paths: Vec<&[u16]> = metrics
                .iter()
                .map(|metric| metric.paths.get(window).map(Vec::as_slice).unwrap_or_default())
                .collect();
            let points = paths.iter().map(|path| path.len()).max().unwrap_or(0);
            let at = |point: usize| {
                // The shorter of two paths goes on as it ended.
                let of = |path: &&[u16]| path.get(point).or(path.last()).copied().unwrap_or(0);
                let log_es: Vec<f64> = paths.iter().map(|path| unpack(of(path))).collect();
                average(&log_es, &weights)
            };
            (0..points).map(at).collect()
        };
        Some((0..self.windows.len()).map(path).collect())
    }

    /// Tests whether windows that `before` had not seen look like those that it had. When they do not,
    /// only what is new is used from now on.
    pub(super) fn guard_against(&mut self, before: &Self) {
        let newest = before.windows.first().copied().unwrap_or(Timestamp::MIN);
        let seen = jiff::SignedDuration::from_secs(before.length_seconds);
        let seen = newest.saturating_add(seen).unwrap_or(newest);
        let known: Vec<(&str, f64)> = self
            .metrics
            .keys()
            .filter(|key| before.metrics.contains_key(*key))
            .map(|key| (key.as_str(), 1.0))
            .collect();
        let (Some(old), Some(new)) = (before.together(&known), self.together(&known)) else {
            return;
        };
        let views: Vec<&[f64]> = old.iter().map(Vec::as_slice).collect();
        let Ok(level) = Boundary::constant(&views, SHARE) else { return };
        let level = level.of_history(0);
        self.guard = before.guard;
        let fresh = self.windows.iter().zip(&new).filter(|(from, _)| **from >= seen);
        for (_, path) in fresh {
            self.guard.observe(path.iter().any(|log_e| *log_e > level));
        }
        if self.guard.has_fired() {
            let Guard { seen, crossed } = self.guard;
            self.drift = Some(format!(
                "{crossed} of {seen} new windows are noisier than all but one in ten were before {newest}: \
                 what is older is not used any more"
            ));
            self.guard = Guard::default();
            self.since = Some(newest);
            self.keep_since(newest);
        }
    }

    fn keep_since(&mut self, since: Timestamp) {
        let kept: Vec<bool> = self.windows.iter().map(|from| *from > since).collect();
        let mut each = kept.iter();
        self.pods.retain(|_| each.next().is_some_and(|kept| *kept));
        let mut each = kept.iter();
        self.windows.retain(|_| each.next().is_some_and(|kept| *kept));
        for metric in self.metrics.values_mut() {
            let mut each = kept.iter();
            metric.paths.retain(|_| each.next().is_some_and(|kept| *kept));
        }
    }
}
