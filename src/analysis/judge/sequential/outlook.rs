//! What a comparison can see at the traffic that it has: the planner's closed forms on what was counted.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::exact::{Exact, STAKE};
use super::metric::MetricState;
use super::plan::{Comparison, Direction, Kind};
use super::process::OFTEN;
use super::verdict::{Height, Metric, Rules};
use crate::api::analysis_run::Outlook;
use crate::stats::planner::{Goal, Traffic};
use crate::stats::rates::{Arm, Split};

/// The time of a run without an end, in minutes.
const HOUR: f64 = 60.0;

/// Ticks before noise is told from chance.
const TICKS: f64 = 8.0;

/// How much the canary's bad events of a tick differ from what the run so far makes expect: the sum of
/// squares in units of their chance, and the number of ticks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Dispersion {
    squares: f64,
    ticks: f64,
}

impl Dispersion {
    /// Takes a tick, with the sums of the arms before it.
    pub(super) fn observe(&mut self, before: (Arm, Arm), now: (Arm, Arm)) {
        let ((canary, stable), (more, other)) = (before, now);
        let ratio = canary.bad / canary.exposure * stable.exposure / stable.bad;
        let share = more.exposure * ratio / (more.exposure * ratio + other.exposure);
        let events = more.bad + other.bad;
        let variance = events * share * (1.0 - share);
        let square = (more.bad - events * share) * (more.bad - events * share) / variance;
        if square.is_finite() {
            (self.squares, self.ticks) = (self.squares + square, self.ticks + 1.0);
        }
    }

    /// The factor on all times; 1 for noise that is only chance.
    fn effect(self) -> f64 {
        if self.ticks < TICKS { 1.0 } else { (self.squares / self.ticks).max(1.0) }
    }
}

/// Ticks of traffic before it is known how much there is.
const KNOWN: u32 = 4;

impl MetricState {
    /// Stakes a part of the evidence on the exact boundary, once, where the run has an end and so little
    /// traffic until then that the evidence alone would miss one harmful version in ten. False where it
    /// did not: with calibration the boundary is not the model's, and only an increase of a ratio has one.
    pub fn stake(&mut self, of: &Comparison, rules: &Rules, now: Timestamp) -> bool {
        let model = rules.height == Height::Model && of.history.is_none();
        let fits = of.kind == Kind::Ratio && of.direction == Direction::Increase;
        if self.exact.is_some() || !model || !fits || self.ticks < KNOWN || !self.enough(of) {
            return false;
        }
        self.exact = self.bet(of, rules, now);
        self.exact.is_some()
    }

    fn bet(&self, of: &Comparison, rules: &Rules, now: Timestamp) -> Option<Exact> {
        let (fixed, ends) = (self.fixed?, rules.ends?);
        let (canary, stable, seconds) = self.lately(of, None)?;
        let exposure = canary.exposure + stable.exposure;
        let left = ends.duration_since(now).as_secs_f64();
        let split = Split::of(canary.exposure, stable.exposure, fixed.bound)?;
        if !(seconds > 0.0 && left > 0.0) {
            return None;
        }
        let (per_second, bad) = (exposure / seconds, fixed.share?);
        let traffic = Traffic { per_second, canary: canary.exposure / exposure, bad };
        let goal = Goal { bound: fixed.bound, height: rules.at(0) - libm::log(OFTEN.first) };
        if traffic.minutes_to_find(fixed.harmful, goal, 0.9) * 60.0 <= left {
            return None;
        }
        let level = STAKE * rules.alpha * libm::exp(self.log_e(of));
        Exact::new(per_second * bad * left, split.rho(), level.min(0.5))
    }

    /// What the evidence has to reach once a part of it is staked.
    #[must_use]
    pub fn after_stake(&self, rules: Rules) -> Rules {
        match &self.exact {
            Some(_) => Rules { alpha: rules.alpha * (1.0 - STAKE), ..rules },
            None => rules,
        }
    }
}

impl Metric<'_> {
    /// What it can see; `None` without traffic, and for a gauge.
    #[must_use]
    pub fn outlook(&self, rules: &Rules, now: Timestamp) -> Option<Outlook> {
        let Metric { of, state } = self;
        let fixed = state.fixed?;
        let (canary, stable, seconds) = state.lately(of, state.rarest_boundary(of))?;
        let exposure = canary.exposure + stable.exposure;
        if !(seconds > 0.0 && canary.exposure > 0.0 && stable.exposure > 0.0 && stable.bad > 0.0) {
            return None;
        }
        let traffic = Traffic {
            per_second: exposure / seconds,
            canary: canary.exposure / exposure,
            bad: stable.bad / stable.exposure,
        };
        let tick = usize::try_from(state.ticks).unwrap_or(usize::MAX);
        let goal = Goal { bound: fixed.bound, height: rules.at(tick) - libm::log(OFTEN.first) };
        let effect = state.dispersion.effect();
        let minutes = |minutes: f64| Some(minutes * effect).filter(|minutes| *minutes < 1e6);
        let left = rules.ends.map_or(HOUR, |ends| ends.duration_since(now).as_secs_f64() / 60.0);
        Some(Outlook {
            fail_half: minutes(traffic.minutes_to_find(fixed.harmful, goal, 0.5)),
            fail_most: minutes(traffic.minutes_to_find(fixed.harmful, goal, 0.9)),
            pass_half: minutes(traffic.minutes_to_pass(fixed.margin(), rules.beta, 0.5)),
            pass_most: minutes(traffic.minutes_to_pass(fixed.margin(), rules.beta, 0.9)),
            smallest_ratio: traffic.smallest_ratio(left.max(0.0) / effect, goal, 0.9),
            design_effect: Some(effect),
        })
    }
}
