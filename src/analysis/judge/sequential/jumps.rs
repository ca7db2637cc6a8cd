//! What both versions meet in the same seconds, although their pods are not seen in the same seconds.
//!
//! A server is scraped at a second of its own, so that an incident of all pods begins in one up to a tick
//! before it does in another; and a pod whose scrape was missed brings its part of it a tick later. With few
//! canary pods one arm is then far worse for a tick or two. Two things mend that.
//!
//! [`Held`]: an arm of which nothing was seen brings what it did with its next scrape. What the other one did
//! waits for that, so that both are compared over the same seconds.
//!
//! [`Jumps`]: from a tick on in which the share of both arms *together* jumps, three ticks wait and are
//! compared as one: what the pods met in other seconds of the same incident is then in it for both arms,
//! also where incidents return. Its end may still cut one, so that it counts as a few events and no more.
//! Whether it jumps is told by sums that do not know which pods are the canary's. Given those, and while the
//! canary's share of the requests stays what it is, the canary's part is still at most binomial, so that each
//! factor of the evidence has an expectation of at most one; so has its power with an exponent below one
//! (Jensen), and that is what a sum of fewer events is. The level is then the new one where it has lasted, so
//! that a canary that becomes much worse by itself is failed a few ticks later and not never.

use serde::{Deserialize, Serialize};

use super::counters::{Increment, Reading};
use super::plan::Kind;
use super::process::{Process, Seen, arm_of, single};
use crate::stats::gauge::middle_mean;
use crate::stats::rates::Arm;

/// A smaller change of the share than this is none that one arm can take for harm in two ticks.
const TIMES: f64 = 1.5;

/// The likelihood of two shares over that of one share, by its logarithm, from where on it is a jump: by
/// chance one tick in two hundred.
const SURE: f64 = 4.0;

/// So many events of the ticks that waited count: enough for what is much worse, and too few for a part of
/// one incident that only one arm has met when they end.
const EVENTS: f64 = 20.0;

/// So many ticks wait.
const TICKS: u32 = 3;

/// So much of what was usual before is remembered at each tick.
const KEPT: f64 = 0.875;

/// The usual shares of what is watched, and what waits to be compared.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Jumps {
    /// Bad events and all of both arms.
    usual: Vec<(f64, f64)>,
    /// Ticks that wait.
    ticks: u32,
    #[serde(default, skip_serializing_if = "Waiting::is_empty")]
    waiting: Waiting,
}

/// Ticks in a row of which the first was not as usual.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Waiting {
    arms: Held,
    /// The last of them.
    last: Vec<(f64, f64)>,
    /// Their sum.
    sum: Vec<(f64, f64)>,
    /// Which shares were not as usual in one of them.
    jumped: Vec<bool>,
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.sum.is_empty()
    }
}

impl Jumps {
    pub(super) fn is_new(&self) -> bool {
        self.usual.is_empty()
    }

    /// Takes what both arms did in the same seconds, with the bad events and all of both arms together for
    /// each share that is watched; what is to be compared now, and the part of its events that counts.
    pub(super) fn take(
        &mut self,
        pooled: &[(f64, f64)],
        arms: [Increment; 2],
    ) -> Option<([Increment; 2], f64)> {
        if self.usual.len() != pooled.len() {
            *self = Self { usual: pooled.to_vec(), ..Self::default() };
            return Some((arms, 1.0));
        }
        let jumping: Vec<bool> =
            self.usual.iter().zip(pooled).map(|(usual, now)| jumps(*usual, *now)).collect();
        let jumps_now = jumping.contains(&true);
        if self.ticks == 0 && !jumps_now {
            remember(&mut self.usual, pooled);
            return Some((arms, 1.0));
        }
        self.ticks += 1;
        let lasts = jumps_now && !self.waiting.last.iter().zip(pooled).any(|(a, b)| jumps(*a, *b));
        self.waiting.add(pooled, &jumping);
        let [canary, stable] = arms;
        if self.ticks < TICKS {
            self.waiting.arms.hold(&canary, &stable);
            return None;
        }
        if lasts {
            self.usual = pooled.to_vec();
        }
        let Waiting { mut arms, sum, jumped, .. } = std::mem::take(&mut self.waiting);
        self.ticks = 0;
        let most = sum.iter().zip(jumped).filter(|(_, jumped)| *jumped).map(|((bad, _), _)| *bad);
        let part = EVENTS / most.fold(EVENTS, f64::max);
        arms.hold(&canary, &stable);
        Some((arms.release(), part))
    }
}

fn remember(usual: &mut [(f64, f64)], pooled: &[(f64, f64)]) {
    for ((bad, all), (more, of)) in usual.iter_mut().zip(pooled) {
        (*bad, *all) = (*bad * KEPT + more, *all * KEPT + of);
    }
}

impl Waiting {
    fn add(&mut self, pooled: &[(f64, f64)], jumping: &[bool]) {
        self.last = pooled.to_vec();
        if self.is_empty() {
            (self.sum, self.jumped) = (pooled.to_vec(), jumping.to_vec());
            return;
        }
        for ((bad, all), (more, of)) in self.sum.iter_mut().zip(pooled) {
            (*bad, *all) = (*bad + more, *all + of);
        }
        self.jumped.iter_mut().zip(jumping).for_each(|(jumped, now)| *jumped |= now);
    }
}

/// Whether the share of bad events is another one, by much and beyond chance.
fn jumps((known, of): (f64, f64), (bad, all): (f64, f64)) -> bool {
    if !(of > 0.0 && all > 0.0) {
        return false;
    }
    let (was, is) = (known * all, bad * of);
    let share = (known + bad) / (of + all);
    let part =
        |bad: f64, all: f64| if bad > 0.0 { bad * libm::log(bad / (all * share)) } else { 0.0 };
    (is > TIMES * was || TIMES * is < was) && part(bad, all) + part(known, of) > SURE
}

impl Process {
    /// Bad events and all of both arms together, for each share that is watched; `None`: nothing was seen.
    pub(super) fn pooled(&self, seen: &Seen) -> Option<Vec<(f64, f64)>> {
        match (self, seen) {
            (Self::Rates(_), Seen::Rates { canary, stable }) => {
                Some(vec![(canary.bad + stable.bad, canary.exposure + stable.exposure)])
            }
            (Self::Histogram(buckets), Seen::Buckets { canary, stable }) => {
                let counts = || canary.iter().zip(stable).map(|(a, b)| a + b);
                let above = |at: &usize| (counts().skip(at + 1).sum(), counts().sum());
                Some(buckets.watched().iter().map(above).collect())
            }
            _ => None,
        }
    }
}

impl Seen {
    /// With so much of its events; the shares are the same.
    pub(super) fn scaled(&self, part: f64) -> Self {
        let arm = |arm: &Arm| Arm { bad: arm.bad * part, ..*arm };
        let counts = |counts: &[f64]| counts.iter().map(|count| count * part).collect();
        match self {
            Self::Rates { canary, stable } => {
                Self::Rates { canary: arm(canary), stable: arm(stable) }
            }
            Self::Buckets { canary, stable } => {
                Self::Buckets { canary: counts(canary), stable: counts(stable) }
            }
            Self::Levels { canary, stable } => Self::Levels { canary: *canary, stable: *stable },
            Self::Nothing => Self::Nothing,
        }
    }
}

/// What waits for an arm of which nothing was seen.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Held {
    canary: Parts,
    stable: Parts,
}

/// Sums of an arm, part by part, with the seconds of its pods.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Parts {
    parts: Vec<f64>,
    pod_seconds: f64,
}

impl Held {
    pub(super) fn is_empty(&self) -> bool {
        self.canary.parts.is_empty() && self.stable.parts.is_empty()
    }

    /// Takes a tick: what both arms did in the same seconds, once both were seen.
    pub(super) fn take(&mut self, canary: Increment, stable: Increment) -> Option<[Increment; 2]> {
        let missed = canary.is_missed() || stable.is_missed();
        if !missed && self.is_empty() {
            return Some([canary, stable]);
        }
        self.hold(&canary, &stable);
        (!missed).then(|| self.release())
    }

    fn hold(&mut self, canary: &Increment, stable: &Increment) {
        self.canary.add(canary);
        self.stable.add(stable);
    }

    fn release(&mut self) -> [Increment; 2] {
        let Self { canary, stable } = std::mem::take(self);
        [canary, stable].map(|Parts { parts, pod_seconds }| Increment {
            parts,
            pod_seconds,
            ..Increment::default()
        })
    }
}

impl Parts {
    fn add(&mut self, more: &Increment) {
        if self.parts.len() < more.parts.len() {
            self.parts = vec![0.0; more.parts.len()];
        }
        self.parts.iter_mut().zip(&more.parts).for_each(|(sum, part)| *sum += part);
        self.pod_seconds += more.pod_seconds;
    }
}

/// What a tick shows.
pub(super) fn seen(
    kind: Kind,
    canary: (&Increment, &Reading),
    stable: (&Increment, &Reading),
) -> Seen {
    let arm = |increment: &Increment| arm_of(kind, &increment.parts, increment.pod_seconds);
    match kind {
        Kind::Ratio | Kind::Count { .. } => match (arm(canary.0), arm(stable.0)) {
            (Some(canary), Some(stable)) => Seen::Rates { canary, stable },
            _ => Seen::Nothing,
        },
        Kind::Histogram => match (single(&canary.0.parts), single(&stable.0.parts)) {
            (Some(canary), Some(stable)) if canary.len() == stable.len() => {
                Seen::Buckets { canary, stable }
            }
            _ => Seen::Nothing,
        },
        Kind::Gauge => levels(canary.1, stable.1),
    }
}

fn levels(canary: &Reading, stable: &Reading) -> Seen {
    let middle = |reading: &Reading| {
        let levels = reading.pods.values().filter_map(|pod| pod.values.first());
        middle_mean(&mut levels.copied().filter(|level| level.is_finite()).collect::<Vec<_>>())
    };
    let both = middle(canary).zip(middle(stable));
    both.map_or(Seen::Nothing, |(canary, stable)| Seen::Levels { canary, stable })
}
