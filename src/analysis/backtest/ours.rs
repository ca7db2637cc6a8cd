//! The sequential judge on a window, as a release would have run it.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::signal::Signal;
use crate::analysis::history::Window;
use crate::analysis::judge::sequential::{Comparison, Counting, Metric, MetricState, Rules, judge};
use crate::api::Verdict;

/// What the judge said: the first answer that ends a run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Said {
    /// When it failed the release.
    pub failed: Option<Timestamp>,
    /// When it had shown the release to be harmless.
    pub passed: Option<Timestamp>,
    /// When it said that it could not tell.
    pub inconclusive: Option<Timestamp>,
    /// ln of the combined E, tick by tick.
    pub path: Vec<f64>,
}

/// A comparison that decides, and the window that it sees.
#[derive(Debug, Clone, Copy)]
pub struct Played<'a> {
    /// What a run would have seen.
    pub window: &'a Window,
    /// What is compared.
    pub of: &'a Comparison,
    /// What canary pods do while they are younger is not counted.
    pub warm_up: SignedDuration,
}

impl<'a> Played<'a> {
    /// What decides in a release that compares the signals as `of`, each on its window, and has learnt this
    /// warm-up.
    pub fn deciding(
        signals: impl Iterator<Item = &'a Signal>,
        of: &'a [Comparison],
        windows: &'a [Window],
        learnt: Option<SignedDuration>,
    ) -> Vec<Self> {
        let deciding = signals.zip(of).zip(windows).filter(|((signal, of), _)| signal.decides(of));
        let played = deciding.map(|((signal, of), window)| Self {
            window,
            of,
            warm_up: signal.warm_up(learnt),
        });
        played.collect()
    }

    /// The tick at `now`, if there is one; the canary pods are as if they were born with the window.
    fn observe(&self, state: &mut MetricState, now: Timestamp) {
        let Self { window, of, warm_up } = *self;
        let place = window.ticks.binary_search_by_key(&now, |(at, _)| *at);
        let Some((_, tick)) = place.ok().and_then(|place| window.ticks.get(place)) else { return };
        // A moment before: their counters have counted before the window and do not begin at 0.
        let born = window.from.checked_sub(SignedDuration::from_nanos(1)).ok();
        let mut tick = tick.clone();
        tick.canary.pods.values_mut().for_each(|pod| pod.created = born);
        let counting = Counting { started: window.from, tick: window.tick, warm_up, weight: None };
        state.observe(of, &tick, now, &counting);
    }
}

/// Runs the judge over the windows of all comparisons that decide.
#[must_use]
pub fn replay(played: &[Played<'_>], rules: &Rules) -> Said {
    let mut said = Said::default();
    let times: BTreeSet<Timestamp> =
        played.iter().flat_map(|one| one.window.ticks.iter().map(|(at, _)| *at)).collect();
    let mut states = vec![MetricState::default(); played.len()];
    for now in times {
        for (one, state) in played.iter().zip(&mut states) {
            one.observe(state, now);
        }
        let rules = match (played, states.as_mut_slice()) {
            ([one], [state]) => {
                state.stake(one.of, rules, now);
                state.after_stake(rules.clone())
            }
            _ => rules.clone(),
        };
        let metrics: Vec<Metric<'_>> =
            played.iter().zip(&states).map(|(one, state)| Metric { of: one.of, state }).collect();
        let judged = judge(&metrics, &rules, now);
        said.path.push(judged.log_e);
        match judged.verdict {
            Verdict::Fail => said.failed = Some(now),
            Verdict::Pass => said.passed = Some(now),
            Verdict::Inconclusive => said.inconclusive = Some(now),
            Verdict::Continue => continue,
        }
        return said;
    }
    said
}
