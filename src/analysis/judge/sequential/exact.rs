//! The exact boundary of a run with a known end and little traffic.
//!
//! Evidence that may be looked at for ever leaves much unspent where few events are still to come. Once in
//! its life a part of it is staked on one bet: that within the events planned until the end the canary's bad
//! ones exceed their expectation by a slack, whose chance `p` under the null the dynamic programme of
//! [`crate::stats::lattice`] counts. The bet pays 1/p. With p = STAKE alpha E it reaches 1/alpha by itself,
//! and what is left of E has to reach 1/((1 - STAKE) alpha): both together are one test supermartingale, so
//! alpha holds whatever was seen before the stake.
//!
//! The bet is off, and its stake lost, when the canary's share of the requests moves, when more events come
//! than were planned, and with the end of the run.

use serde::{Deserialize, Serialize};

use super::verdict::rounded;
use crate::stats::lattice::{EXACT_EVENTS, Excess, Segment, slack};
use crate::stats::rates::{Arm, Split};

/// The part of the evidence that is staked. Half of it finds more of what is barely harmful and is one tick
/// in twenty later for all that is worse, in this run and those that go on with its evidence.
pub(super) const STAKE: f64 = 0.2;

/// Fewer events than this show nothing.
const FEWEST: f64 = 10.0;

/// The canary's share of what is bad may differ so much from the planned one, once a tenth of the run
/// shows it.
const BAND: std::ops::Range<f64> = 0.8..1.25;

/// The bet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Exact {
    /// The canary's bad events more than expected that win it.
    slack: f64,
    /// The variance of that excess over the planned events.
    horizon: f64,
    /// The planned chance that a bad event is the canary's.
    rho: f64,
    excess: Excess,
    /// All bad events since the stake, and how many of them are expected to be the canary's.
    events: f64,
    expected: f64,
    /// It can still be won.
    open: bool,
}

impl Exact {
    /// The bet on so many expected events, won under the null with a chance of at most `level`. `None`
    /// where events are too few, or so many that evidence needs no help.
    pub(super) fn new(expected: f64, rho: f64, level: f64) -> Option<Self> {
        let events = libm::ceil(expected + 1.5 * libm::sqrt(expected));
        if !(events >= FEWEST && events <= EXACT_EVENTS as f64) {
            return None;
        }
        let plan = [Segment { events: events as usize, rho }];
        let slack = slack(&plan, level)?;
        let horizon = events * rho * (1.0 - rho);
        let excess = Excess::default();
        Some(Self { slack, horizon, rho, excess, events: 0.0, expected: 0.0, open: true })
    }

    /// Takes a tick; `bound` is what the null allowed in it.
    pub(super) fn observe(&mut self, canary: Arm, stable: Arm, bound: f64) {
        let split = Split::of(canary.exposure, stable.exposure, bound).filter(|_| self.open);
        let Some(split) = split else { return };
        let total = canary.bad + stable.bad;
        self.excess.observe(&split, canary.bad, total);
        self.events += total;
        self.expected += total * split.rho();
        let shows = self.excess.variance > 0.1 * self.horizon;
        let moved = shows && !BAND.contains(&(self.expected / self.events / self.rho));
        self.open = !moved && self.excess.variance <= self.horizon * (1.0 + 1e-12);
    }

    /// The traffic is not that of the plan any more, or the run is over.
    pub(super) fn close(&mut self) {
        self.open = false;
    }

    /// Whether it can be won with so many events more, were each of them the canary's.
    pub(super) fn can_win(&self, events: f64) -> bool {
        self.open && self.excess.events + events * (1.0 - self.rho) >= self.slack
    }

    /// What has won it, in words.
    pub(super) fn won(&self) -> Option<String> {
        let Self { slack, excess, open, .. } = self;
        (*open && excess.events >= *slack).then(|| {
            let (more, enough) = (rounded(excess.events), rounded(*slack));
            format!(
                "{more} bad more than expected, enough from {enough} (the exact boundary of a run with \
                 few events)"
            )
        })
    }
}
