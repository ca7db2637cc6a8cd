//! What a metric lacks for an answer, and what would bring it: minutes, weight or pods.

use std::fmt;

use jiff::Timestamp;

use super::metric::ArmState;
use super::plan::{Direction, Kind};
use super::verdict::{Metric, Rules, rounded};
use crate::stats::planner::Traffic;
use crate::stats::pods::{Reach, reach};
use crate::stats::rates::Arm;

/// Ticks in a row without series or traffic before it is said.
const TICKS: u32 = 4;

/// More than this share of the scrapes may not be missing.
const MISSING: f64 = 0.2;

/// The estimate holds with this probability.
const SURE: f64 = 0.9;

/// Seconds of traffic before it is said that the rest will not do.
const LOOKED: f64 = 120.0;

/// What a metric lacks.
#[derive(Debug, Clone, PartialEq)]
pub struct Lack {
    /// The metric.
    pub metric: String,
    /// What.
    pub what: What,
    /// Minutes until an equal canary is shown to be harmless.
    pub minutes: Option<f64>,
    /// The weight, in percent, with which it would be known in time.
    pub weight: Option<f64>,
    /// Time alone does not bring it.
    pub lasting: bool,
}

/// Kinds of lacks.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// No series of an arm.
    Series {
        /// `canary` or `stable`.
        arm: &'static str,
    },
    /// A gauge that was not calibrated.
    History,
    /// It has just begun.
    Beginning,
    /// Too many scrapes are missing.
    Scrapes {
        /// The share that is missing.
        missing: f64,
    },
    /// No canary pod is old enough to be counted.
    Young,
    /// The canary gets less than half of what was planned.
    Share {
        /// Its share of the requests.
        got: f64,
        /// The planned one.
        planned: f64,
    },
    /// An arm gets no traffic.
    Traffic {
        /// `canary` or `stable`.
        arm: &'static str,
    },
    /// Pods differ more than what is to be caught.
    Pods {
        /// Canary pods that there are.
        have: u32,
        /// That would do; `None`: no number would, with so few stable ones.
        need: Option<u32>,
    },
    /// Fewer events than the template asks for.
    FewEvents {
        /// So many were seen.
        seen: f64,
        /// So many are asked for.
        asked: f64,
    },
    /// Not enough evidence yet.
    Evidence {
        /// The ratio that must be excluded.
        harmful: f64,
    },
    /// All traffic that is left cannot decide it.
    Hopeless {
        /// The ratio that must be excluded.
        harmful: f64,
    },
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.metric)?;
        match &self.what {
            What::Series { arm } => write!(
                f,
                "no series of the {arm} pods; name the label that has the pod's name (podLabel) or one \
                 that tells the versions apart (arms)"
            ),
            What::History => f.write_str(
                "a gauge needs history to know its noise; give the template a calibration",
            ),
            What::Beginning => f.write_str("waiting for the second answer of both arms"),
            What::Scrapes { missing } => {
                write!(f, "{}% of the scrapes are missing", rounded(100.0 * missing))
            }
            What::Young => f.write_str("waiting for canary pods to be warm, see compare.warmUp"),
            What::Share { got, planned } => write!(
                f,
                "the canary gets {}% of the requests where {}% were planned",
                rounded(100.0 * got),
                rounded(100.0 * planned)
            ),
            What::Traffic { arm } => write!(f, "the {arm} pods get no traffic"),
            What::Pods { have, need: Some(need) } => {
                write!(f, "{have} canary pods differ by chance more than this; it takes {need}")
            }
            What::Pods { have, need: None } => write!(
                f,
                "pods differ by chance more than this; {have} canary pods or more do not help with \
                 so few stable ones"
            ),
            What::FewEvents { seen, asked } => {
                write!(f, "{} of {} events", rounded(*seen), rounded(*asked))
            }
            What::Evidence { harmful } => {
                write!(f, "not yet shown to change by less than {} times", rounded(*harmful))
            }
            What::Hopeless { harmful } => write!(
                f,
                "all traffic until the end cannot show whether it changes by {} times",
                rounded(*harmful)
            ),
        }?;
        if let Some(minutes) = self.minutes.filter(|minutes| minutes.is_finite()) {
            write!(f, ", about {} minutes at this traffic", libm::ceil(minutes))?;
        }
        match self.weight {
            Some(weight) => write!(f, ", in time with weight {}%", rounded(weight)),
            None => Ok(()),
        }
    }
}

/// What a metric lacks to pass; nothing when it has passed.
pub(super) fn lack(metric: &Metric<'_>, rules: &Rules, now: Timestamp) -> Option<Lack> {
    let Metric { of, state } = metric;
    let pods = pods(metric);
    let proven = state.log_e_pass(of) >= -libm::log(rules.beta);
    if pods.is_none() && proven {
        return None;
    }
    let (canary, stable) = state.arms();
    let named = [("canary", canary), ("stable", stable)];
    let first = |is: &dyn Fn(&ArmState) -> bool| {
        named.iter().find(|(_, arm)| is(arm)).map(|(name, _)| *name)
    };
    let lasting = |what| (what, true);
    let passing = |what| (what, false);
    let quality = canary.quality.missing().max(stable.quality.missing());
    let (what, lasting) = if let Some(arm) = first(&|arm| arm.silent >= TICKS) {
        passing(What::Series { arm })
    } else if of.kind == Kind::Gauge && of.history.and_then(|h| h.deviation).is_none() {
        lasting(What::History)
    } else if !state.begun() || state.ticks < 2 {
        passing(What::Beginning)
    } else if quality > MISSING && state.ticks >= TICKS {
        passing(What::Scrapes { missing: quality })
    } else if canary.young {
        passing(What::Young)
    } else if let Some(arm) = first(&|arm| arm.idle >= TICKS) {
        passing(What::Traffic { arm })
    } else if let Some((got, planned)) = state.exposure.too_little() {
        lasting(What::Share { got, planned })
    } else if let Some(what) = pods {
        // Until all but the pods is told, a canary that is far worse may still be found.
        (what, proven)
    } else if state.events(of) < of.min_events {
        passing(What::FewEvents { seen: state.events(of), asked: of.min_events })
    } else if let Some(harmful) = hopeless(metric, rules, now) {
        lasting(What::Hopeless { harmful })
    } else {
        passing(What::Evidence { harmful: state.fixed.map_or(1.0, |fixed| fixed.harmful) })
    };
    let estimate = match &what {
        What::Evidence { .. }
        | What::FewEvents { .. }
        | What::Hopeless { .. }
        | What::Share { .. } => estimate(metric, rules, now),
        _ => Estimate::default(),
    };
    let Estimate { minutes, weight } = estimate;
    Some(Lack { metric: of.name.clone(), what, minutes, weight, lasting })
}

/// Whether so few pods can show that there is no harm, whatever the boundary of harm knows of their noise.
fn pods(metric: &Metric<'_>) -> Option<What> {
    let fixed = metric.state.fixed?;
    let tau = fixed.tau?;
    let (canary, stable) = metric.state.arms();
    if canary.pods == 0 || stable.pods == 0 {
        return None;
    }
    let have = canary.counted();
    match reach(fixed.harmful, tau, have, stable.counted()) {
        Reach::Visible => None,
        Reach::Needs(need) => Some(What::Pods { have, need: Some(need) }),
        Reach::Never => Some(What::Pods { have, need: None }),
    }
}

#[derive(Default)]
struct Estimate {
    minutes: Option<f64>,
    weight: Option<f64>,
}

/// In closed form, from the traffic so far: what is left of the way, and the weight with which it
/// would be left in time.
fn estimate(metric: &Metric<'_>, rules: &Rules, now: Timestamp) -> Estimate {
    let Metric { of, state } = metric;
    let Some((canary, stable, seconds)) = state.lately(of, state.rarest_boundary(of)) else {
        return Estimate::default();
    };
    let exposure = canary.exposure + stable.exposure;
    if !(seconds > 0.0 && canary.exposure > 0.0 && stable.exposure > 0.0 && stable.bad > 0.0) {
        return Estimate::default();
    }
    let margin = state.fixed.map_or(1.0, |fixed| fixed.margin());
    let share = canary.exposure / exposure;
    let traffic = Traffic {
        per_second: exposure / seconds,
        canary: share,
        bad: stable.bad / stable.exposure,
    };
    let done = (state.log_e_pass(of) / -libm::log(rules.beta)).clamp(0.0, 1.0);
    let left = |share: f64| {
        let whole = Traffic { canary: share, ..traffic }.minutes_to_pass(margin, rules.beta, SURE);
        whole * (1.0 - done)
    };
    let minutes = left(share);
    let time = rules.ends.map(|ends| ends.duration_since(now).as_secs_f64() / 60.0);
    let weight = time.filter(|time| minutes > *time && *time > 0.0).and_then(|time| {
        let percents = (1..=50).map(f64::from);
        percents.filter(|p| p / 100.0 > share).find(|p| left(p / 100.0) <= time)
    });
    Estimate { minutes: minutes.is_finite().then_some(minutes), weight }
}

/// The ratio that must be excluded, when the traffic until the end could show neither that the canary
/// is harmless, were every bad event the stable version's, nor that it is not, were every one the
/// canary's.
fn hopeless(metric: &Metric<'_>, rules: &Rules, now: Timestamp) -> Option<f64> {
    let Metric { of, state } = metric;
    let (ends, fixed) = (rules.ends?, state.fixed?);
    let left = ends.duration_since(now).as_secs_f64();
    // The evidence at the end, when each bad event above a boundary is one of the first arm. An event is
    // worth the more the larger the alternative: at most -ln of its chance.
    let reached = |log_e: f64, above, chance: &dyn Fn(Arm, Arm) -> f64| {
        let (canary, stable, seconds) = state.lately(of, above)?;
        // Before that the rate of bad events is not known.
        if seconds < LOOKED || canary.exposure <= 0.0 || stable.exposure <= 0.0 {
            return None;
        }
        let events = (canary.bad + stable.bad + 1.0) / seconds * left;
        let fewer = of.direction == Direction::Decrease;
        let chance = if fewer { chance(stable, canary) } else { chance(canary, stable) };
        Some((log_e.max(0.0) - events * libm::log(chance), events))
    };
    let share = |n: f64, others: f64| n / (n + others);
    let (pass, _) = reached(state.log_e_pass(of), state.rarest_boundary(of), &|worse, better| {
        share(better.exposure / fixed.margin(), worse.exposure)
    })?;
    let (fail, events) = reached(state.log_e(of), state.lowest_boundary(), &|worse, better| {
        share(worse.exposure * fixed.bound, better.exposure)
    })?;
    let staked = state.exact.as_ref().is_some_and(|exact| exact.can_win(events));
    let short = !staked
        && pass < -libm::log(rules.beta)
        && fail < rules.at(usize::try_from(state.ticks).unwrap_or(0));
    short.then_some(fixed.harmful)
}
