//! What came of all windows: how often, how soon, how many requests it cost.

use serde::Serialize;

use crate::stats::interval::wilson;
use crate::stats::quantile::{mean, percentile};

/// The confidence of all intervals.
const CONFIDENCE: f64 = 0.95;

/// A share of windows with Wilson's 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Share {
    /// Windows in which it happened.
    pub hits: usize,
    /// All windows.
    pub of: usize,
    /// `hits / of`; 0 without windows.
    pub share: f64,
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

impl Share {
    /// `hits` of `of`.
    #[must_use]
    pub fn of(hits: usize, of: usize) -> Self {
        let (low, high) = wilson(hits as f64, of as f64, CONFIDENCE);
        let share = if of == 0 { 0.0 } else { hits as f64 / of as f64 };
        Self { hits, of, share, low, high }
    }
}

/// The windows of one judge, with or without a regression.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tally {
    /// Minutes to the rollback, of the windows that had one.
    minutes: Vec<f64>,
    windows: usize,
    /// Bad requests that there would not have been, up to the rollback or the end.
    excess: Vec<f64>,
}

/// A tally in numbers.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// How often it rolled back.
    pub rollback: Share,
    /// Minutes in half of the rollbacks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub median_minutes: Option<f64>,
    /// Minutes in nine tenths of the rollbacks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p90_minutes: Option<f64>,
    /// Bad requests of the canary that the old version would not have had, on average of all windows, up
    /// to the rollback or the end of the window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub excess_bad_requests: Option<f64>,
}

impl Tally {
    /// Counts a window: minutes to the rollback, and the excess where it is known.
    pub fn count(&mut self, minutes: Option<f64>, excess: Option<f64>) {
        self.windows += 1;
        self.minutes.extend(minutes);
        self.excess.extend(excess);
    }

    /// In numbers.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let mut minutes = self.minutes.clone();
        minutes.sort_by(f64::total_cmp);
        Summary {
            rollback: Share::of(minutes.len(), self.windows),
            median_minutes: percentile(&minutes, 50.0),
            p90_minutes: percentile(&minutes, 90.0),
            excess_bad_requests: (!self.excess.is_empty()).then(|| mean(&self.excess)),
        }
    }
}
