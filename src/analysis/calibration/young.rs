//! How long pods take to warm up: those that were born in the history, against those that ran beside
//! them, by age.
//!
//! Ages count from a pod's first series. What is learnt is the first minute that, like the next one, is
//! no worse than later minutes are, within what chance does in nine of ten cases or a tenth.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::analysis::history::Slice;
use crate::analysis::judge::sequential::{Kind, PodReading, Reading};

/// Minutes of a pod's life that are looked at. What has not settled by then is no warm-up.
const MINUTES: usize = 15;

/// The last minutes, which show what is usual for these pods.
const USUAL: usize = 5;

/// The 95 % quantile of the normal distribution: 90 % of chance lies inside both ends.
const BAND: f64 = 1.645;

/// A tenth more is no warm-up, however sure it is.
const PRACTICAL: f64 = 0.1;

/// Fewest pods that were born, and expected events in the usual minutes, before anything is learnt.
const ENOUGH: (u32, f64) = (10, 20.0);

/// The share of requests above the bound that stands for a histogram.
const TAIL: f64 = 0.05;

/// From the creation of a pod, from which a run counts, to its first series.
const CREATION: SignedDuration = SignedDuration::from_mins(1);

/// What pods did in each minute of their lives, and what the others would have done.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Young {
    born: u32,
    bad: [f64; MINUTES],
    expected: [f64; MINUTES],
}

/// Bad events and exposure since the tick before.
type Grown = (f64, f64);

impl Young {
    /// Looks at a slice: pods that are there at its first tick are the old ones.
    pub(super) fn see(&mut self, kind: Kind, slice: &Slice) {
        let mut ticks = slice.ticks();
        let Some((mut before, first)) = ticks.next() else { return };
        let Some(bad) = Bad::of(kind, first) else { return };
        let mut last = first;
        let mut born: BTreeMap<&str, Timestamp> = BTreeMap::new();
        for (number, (at, reading)) in ticks.enumerate() {
            let mut old = (0.0, 0.0);
            for (pod, now) in reading.pods.iter().filter(|(pod, _)| first.pods.contains_key(*pod)) {
                if let Some((events, exposure)) = bad.grown(last.pods.get(pod), now, before, at) {
                    old = (old.0 + events, old.1 + exposure);
                }
            }
            for (pod, now) in reading.pods.iter().filter(|(pod, _)| !first.pods.contains_key(*pod))
            {
                let since = *born.entry(pod).or_insert_with(|| {
                    // A pod at the second tick may only have missed the first.
                    self.born += u32::from(number > 0);
                    if number > 0 { at } else { Timestamp::MIN }
                });
                let nothing = PodReading { created: None, values: vec![0.0; now.values.len()] };
                let grown =
                    bad.grown(Some(last.pods.get(pod).unwrap_or(&nothing)), now, before, at);
                let minute = at.duration_since(since).as_secs() / 60;
                let minute = usize::try_from(minute).unwrap_or(MINUTES);
                let places = self.bad.get_mut(minute).zip(self.expected.get_mut(minute));
                if let (Some((bad, expected)), Some((events, exposure))) = (places, grown)
                    && old.1 > 0.0
                {
                    *bad += events;
                    *expected += exposure * old.0 / old.1;
                }
            }
            (before, last) = (at, reading);
        }
    }

    /// The age from which a pod is like the others, from its creation on. `None`: too few pods were
    /// born, or nothing bad happened.
    pub(super) fn warm_up(&self) -> Option<SignedDuration> {
        let usual = MINUTES - USUAL;
        let sum = |values: &[f64; MINUTES]| values.iter().skip(usual).sum::<f64>();
        let (bad, expected) = (sum(&self.bad), sum(&self.expected));
        if self.born < ENOUGH.0 || expected < ENOUGH.1 {
            return None;
        }
        let usual_ratio = (bad + 0.5) / (expected + 0.5);
        let settled: Vec<bool> = self
            .bad
            .iter()
            .zip(&self.expected)
            .map(|(bad, expected)| {
                let mean = expected * usual_ratio + 0.5;
                let above = libm::log((bad + 0.5) / mean);
                above <= (BAND * libm::sqrt(1.0 / mean)).max(libm::log1p(PRACTICAL))
            })
            .collect();
        let first = settled.windows(2).position(|pair| pair.iter().all(|settled| *settled));
        let minutes = i64::try_from(first.unwrap_or(MINUTES)).unwrap_or(0);
        let spans = SignedDuration::from_mins(minutes);
        Some(if minutes == 0 { spans } else { spans + CREATION })
    }
}

/// What is bad of a metric.
#[derive(Clone, Copy)]
enum Bad {
    /// The first part, of the second.
    Parts,
    /// Events by time.
    Events,
    /// Requests above this bucket.
    Above(usize),
}

impl Bad {
    fn of(kind: Kind, first: &Reading) -> Option<Self> {
        match kind {
            Kind::Ratio | Kind::Count { per: true } => Some(Self::Parts),
            Kind::Count { per: false } => Some(Self::Events),
            Kind::Histogram => {
                let mut sums = vec![0.0; first.bounds.len()];
                for pod in first.pods.values() {
                    sums.iter_mut().zip(&pod.values).for_each(|(sum, value)| *sum += value);
                }
                let total = sums.last().copied().filter(|total| *total > 0.0)?;
                let tail = |count: &f64| 1.0 - count / total;
                let near = |count: &f64| (tail(count) - TAIL).abs();
                let best = sums.iter().enumerate().min_by(|a, b| near(a.1).total_cmp(&near(b.1)));
                best.filter(|(_, count)| tail(count) > 0.0).map(|(bound, _)| Self::Above(bound))
            }
            // What a level does while a process warms up may take hours, and is its level afterwards.
            Kind::Gauge => None,
        }
    }

    fn grown(
        self,
        before: Option<&PodReading>,
        now: &PodReading,
        from: Timestamp,
        at: Timestamp,
    ) -> Option<Grown> {
        let before = before?;
        let growth = |i: usize| {
            let growth = now.values.get(i)? - before.values.get(i)?;
            (growth.is_finite() && growth >= 0.0).then_some(growth)
        };
        match self {
            Self::Parts => Some((growth(0)?, growth(1)?)),
            Self::Events => Some((growth(0)?, at.duration_since(from).as_secs_f64())),
            Self::Above(bound) => {
                let all = growth(now.values.len().checked_sub(1)?)?;
                Some((all - growth(bound)?, all))
            }
        }
    }
}
