//! Windows: which there are, who plays the canary, what a run would have seen.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use super::lines::Slice;
use crate::analysis::judge::sequential::{Comparison, Counting, MetricState, Reading, Tick};

/// More than this share of the ticks may not be missing, as in a run.
const MISSING: f64 = 0.2;

/// How windows are cut.
#[derive(Debug, Clone, PartialEq)]
pub struct Cut {
    /// How long a window is: the planned length of the comparison.
    pub length: SignedDuration,
    /// Time between two ticks: the step of the range queries.
    pub tick: SignedDuration,
    /// So many pods play the canary from so long after the start, in the order of time.
    pub canary: Vec<(SignedDuration, usize)>,
    /// Decides who they are.
    pub seed: u64,
}

impl Cut {
    /// A canary of so many pods from start to end.
    #[must_use]
    pub fn new(length: SignedDuration, tick: SignedDuration, canary: usize, seed: u64) -> Self {
        Self { length, tick, canary: vec![(SignedDuration::ZERO, canary)], seed }
    }

    /// Ticks of a whole window, its start among them.
    #[must_use]
    pub fn ticks(&self) -> usize {
        self.index(self.length) + 1
    }

    fn index(&self, since: SignedDuration) -> usize {
        let ticks = since.as_secs_f64() / self.tick.as_secs_f64();
        if ticks.is_finite() && ticks > 0.0 { libm::round(ticks) as usize } else { 0 }
    }

    fn canary_at(&self, since: SignedDuration) -> usize {
        let begun = self.canary.iter().take_while(|(from, _)| *from <= since);
        begun.last().map_or(0, |(_, pods)| *pods)
    }

    fn most(&self) -> usize {
        self.canary.iter().map(|(_, pods)| *pods).max().unwrap_or(0)
    }
}

/// A release without a change: what a run would have seen of one comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    /// Its start.
    pub from: Timestamp,
    /// Time between two ticks.
    pub tick: SignedDuration,
    /// The pods that play the canary, in the order in which they come to it.
    pub canary: Vec<String>,
    /// The raw series of both arms.
    pub ticks: Vec<(Timestamp, Tick)>,
}

/// Why a window is left out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Unusable {
    /// Too many ticks have no series.
    #[error("it has series at {seen} of {ticks} ticks")]
    Gaps {
        /// Ticks with series of every comparison.
        seen: usize,
        /// Ticks that it should have.
        ticks: usize,
    },
    /// Two revisions ran at once.
    #[error("a release was going on: there are pods of {one} and of {other}")]
    Release {
        /// A revision.
        one: String,
        /// Another.
        other: String,
    },
    /// There are too few pods for two arms.
    #[error("{pods} pods last through it, a canary of {canary} and one stable pod need {}", canary + 1)]
    Pods {
        /// Pods from start to end.
        pods: usize,
        /// Pods of the canary.
        canary: usize,
    },
}

impl Unusable {
    /// The kind of reason, for counting.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Gaps { .. } => "gaps",
            Self::Release { .. } => "release",
            Self::Pods { .. } => "pods",
        }
    }
}

/// The starts of windows that do not overlap, newest first, evenly spread over `history` before
/// `until`: at most `most` of them. Whole ticks since 1970, so that the same questions give the same
/// answers.
#[must_use]
pub fn starts(until: Timestamp, history: SignedDuration, cut: &Cut, most: usize) -> Vec<Timestamp> {
    let (span, length) = (history.as_secs(), cut.length.as_secs());
    let tick = cut.tick.as_secs().max(1);
    if length <= 0 || most == 0 {
        return Vec::new();
    }
    let room = usize::try_from(span / length).unwrap_or(0);
    let count = room.min(most);
    let every = if count == 0 { 0 } else { span / i64::try_from(count).unwrap_or(i64::MAX) };
    let end = until.as_second().div_euclid(tick) * tick;
    let start = |i: i64| {
        let second = end - length - (i * every).div_euclid(tick) * tick;
        Timestamp::from_second(second).ok()
    };
    (0..).take(count).filter_map(start).collect()
}

/// One window of each comparison, all with the same canary: pods that last from the window's start to
/// its end in every comparison, in an order that only seed, time and names decide.
///
/// # Errors
/// Why the window is left out.
pub fn cut(slices: &[Slice], from: Timestamp, cut: &Cut) -> Result<Vec<Window>, Unusable> {
    let until = from.saturating_add(cut.length).unwrap_or(from);
    let ticks = cut.ticks();
    let seen = slices.iter().map(|slice| slice.readings.range(from..=until).count()).min();
    let seen = seen.unwrap_or(0);
    if (seen as f64) < (1.0 - MISSING) * ticks as f64 {
        return Err(Unusable::Gaps { seen, ticks });
    }
    one_revision(slices)?;
    let lasting = slices.iter().map(|slice| lasting(slice, from, until));
    let lasting = lasting.reduce(|all, pods| &all & &pods).unwrap_or_default();
    let most = cut.most();
    if lasting.len() <= most {
        return Err(Unusable::Pods { pods: lasting.len(), canary: most });
    }
    let mut order: Vec<&str> = lasting.into_iter().collect();
    order.sort_by_cached_key(|pod| lot(cut.seed, from, pod));
    order.truncate(most);
    Ok(slices.iter().map(|slice| window(slice, &order, from, until, cut)).collect())
}

/// A pod's name without its own part: that of its ReplicaSet or StatefulSet.
fn revision(pod: &str) -> &str {
    pod.rsplit_once('-').map_or(pod, |(revision, _)| revision)
}

fn one_revision(slices: &[Slice]) -> Result<(), Unusable> {
    let found: BTreeSet<&str> = slices.iter().flat_map(Slice::pods).map(revision).collect();
    let mut found = found.into_iter();
    match (found.next(), found.next()) {
        (Some(one), Some(other)) => {
            Err(Unusable::Release { one: one.to_owned(), other: other.to_owned() })
        }
        _ => Ok(()),
    }
}

/// Pods with a value at the first and at the last tick. One that was restarted in its place is among
/// them; one that was scaled away is no canary that a run could have had.
fn lasting(slice: &Slice, from: Timestamp, until: Timestamp) -> BTreeSet<&str> {
    let mut ticks = slice.readings.range(from..=until).map(|(_, reading)| reading);
    let Some(first) = ticks.next() else { return BTreeSet::new() };
    let last = ticks.next_back().unwrap_or(first);
    first.pods.keys().filter(|pod| last.pods.contains_key(*pod)).map(String::as_str).collect()
}

fn lot(seed: u64, from: Timestamp, pod: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(seed.to_be_bytes());
    hash.update(from.as_second().to_be_bytes());
    hash.update(pod.as_bytes());
    hash.finalize().into()
}

fn window(slice: &Slice, order: &[&str], from: Timestamp, until: Timestamp, cut: &Cut) -> Window {
    let ticks = slice.readings.range(from..=until).map(|(at, reading)| {
        let playing = order.get(..cut.canary_at(at.duration_since(from))).unwrap_or(order);
        let Reading { bounds, pods } = reading.clone();
        let (canary, stable) =
            pods.into_iter().partition(|(pod, _)| playing.contains(&pod.as_str()));
        let canary = Reading { bounds: bounds.clone(), pods: canary };
        (*at, Tick { canary, stable: Reading { bounds, pods: stable } })
    });
    let canary = order.iter().map(|pod| (*pod).to_owned()).collect();
    Window { from, tick: cut.tick, canary, ticks: ticks.collect() }
}

/// ln E of a run that sees the window, at each of `ticks` ticks from the start: what one that was
/// missed leaves is what was there before.
#[must_use]
pub fn replay(window: &Window, of: &Comparison, ticks: usize) -> Vec<f64> {
    let Window { from, tick, canary: _, ticks: seen } = window;
    let counting =
        Counting { started: *from, tick: *tick, warm_up: SignedDuration::ZERO, weight: None };
    let (mut state, mut path) = (MetricState::default(), Vec::with_capacity(ticks));
    let mut now = 0.0;
    for (at, values) in seen {
        let passed = at.duration_since(*from).as_secs_f64() / tick.as_secs_f64();
        let index = libm::round(passed.max(0.0)) as usize;
        path.resize(path.len().max(index.min(ticks)), now);
        state.observe(of, values, *at, &counting);
        now = state.log_e(of);
    }
    path.resize(ticks, now);
    path
}
