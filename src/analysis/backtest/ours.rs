//! The sequential judge on a window, as a release would have run it.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use crate::analysis::history::Window;
use crate::analysis::judge::sequential::{Comparison, Counting, Metric, MetricState, Rules, judge};
use crate::api::Verdict;

/// What the judge said.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Said {
    /// When it failed the release.
    pub failed: Option<Timestamp>,
    /// When it first had shown the release to be harmless.
    pub passed: Option<Timestamp>,
    /// ln of the combined E, tick by tick.
    pub path: Vec<f64>,
}

/// Whether the judge is asked on after it has failed the release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// No.
    Stop,
    /// Yes: the whole path is wanted.
    GoOn,
}

/// Runs the judge over the windows of all comparisons.
#[must_use]
pub fn replay(windows: &[Window], of: &[Comparison], rules: &Rules, after: After) -> Said {
    let mut said = Said::default();
    let Some(first) = windows.first() else { return said };
    let counting = Counting {
        started: first.from,
        tick: first.tick,
        warm_up: SignedDuration::ZERO,
        weight: None,
    };
    let times: BTreeSet<Timestamp> =
        windows.iter().flat_map(|window| window.ticks.iter().map(|(at, _)| *at)).collect();
    let mut states = vec![MetricState::default(); of.len()];
    let mut next = vec![0_usize; of.len()];
    for now in times {
        for (((window, of), state), next) in windows.iter().zip(of).zip(&mut states).zip(&mut next)
        {
            if let Some((at, tick)) = window.ticks.get(*next).filter(|(at, _)| *at == now) {
                state.observe(of, tick, *at, &counting);
                *next += 1;
            }
        }
        let metrics: Vec<Metric<'_>> =
            of.iter().zip(&states).map(|(of, state)| Metric { of, state }).collect();
        let judged = judge(&metrics, rules, now);
        said.path.push(judged.log_e);
        match judged.verdict {
            Verdict::Fail => {
                said.failed.get_or_insert(now);
                if after == After::Stop {
                    return said;
                }
            }
            Verdict::Pass => {
                said.passed.get_or_insert(now);
            }
            Verdict::Continue | Verdict::Inconclusive => {}
        }
    }
    said
}
