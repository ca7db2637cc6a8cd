//! Samples in memory, by metric name and labels, in time order, for a bounded span.

use std::collections::{BTreeMap, VecDeque};

use promql_parser::label::Matcher;

use super::labels::{Labels, NAME};

/// The bit pattern of the NaN that marks a series as gone. Any other NaN is a value.
const STALE_BITS: u64 = 0x7ff0_0000_0000_0002;

/// The sample value that ends a series: an instant selector no longer finds it after this.
#[must_use]
pub fn stale_marker() -> f64 {
    f64::from_bits(STALE_BITS)
}

/// Whether `value` is the marker of [`stale_marker`].
#[must_use]
pub fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE_BITS
}

/// One sample: Unix milliseconds and a value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// When, in Unix milliseconds.
    pub at_ms: i64,
    /// What was measured.
    pub value: f64,
}

/// Why a sample was refused.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum TsdbError {
    /// The series already has a sample at this time or later.
    #[error(
        "sample of {series} at {at_ms} ms is not newer than its last one at {newest_ms} ms; \
         append samples in time order"
    )]
    OutOfOrder {
        /// The series.
        series: Labels,
        /// The refused sample's time.
        at_ms: i64,
        /// The newest time the series holds.
        newest_ms: i64,
    },
    /// The labels carry no metric name.
    #[error("series {series} has no metric name; set the label __name__")]
    NoName {
        /// The series.
        series: Labels,
    },
}

/// An in-memory store of series that forgets what is older than its retention.
#[derive(Debug, Clone)]
pub struct Tsdb {
    series: BTreeMap<String, BTreeMap<Labels, VecDeque<Point>>>,
    retention_ms: i64,
}

impl Tsdb {
    /// An empty store that keeps samples for `retention_ms` milliseconds before the newest one.
    #[must_use]
    pub fn new(retention_ms: i64) -> Self {
        Self { series: BTreeMap::new(), retention_ms }
    }

    /// Adds a sample. Samples of one series must come in time order.
    pub fn append(&mut self, labels: &Labels, at_ms: i64, value: f64) -> Result<(), TsdbError> {
        if labels.name().is_empty() {
            return Err(TsdbError::NoName { series: labels.clone() });
        }
        if !self.series.contains_key(labels.name()) {
            self.series.insert(labels.name().to_owned(), BTreeMap::new());
        }
        let Some(family) = self.series.get_mut(labels.name()) else {
            return Ok(());
        };
        if !family.contains_key(labels) {
            family.insert(labels.clone(), VecDeque::new());
        }
        let Some(points) = family.get_mut(labels) else {
            return Ok(());
        };
        if let Some(newest) = points.back()
            && newest.at_ms >= at_ms
        {
            return Err(TsdbError::OutOfOrder {
                series: labels.clone(),
                at_ms,
                newest_ms: newest.at_ms,
            });
        }
        points.push_back(Point { at_ms, value });
        let oldest = at_ms - self.retention_ms;
        while points.front().is_some_and(|p| p.at_ms < oldest) {
            points.pop_front();
        }
        Ok(())
    }

    /// Forgets everything older than the retention as of `now_ms`, series without samples included.
    pub fn prune(&mut self, now_ms: i64) {
        let oldest = now_ms - self.retention_ms;
        for family in self.series.values_mut() {
            family.retain(|_, points| {
                while points.front().is_some_and(|p| p.at_ms < oldest) {
                    points.pop_front();
                }
                !points.is_empty()
            });
        }
        self.series.retain(|_, family| !family.is_empty());
    }

    /// The number of series held.
    #[must_use]
    pub fn series_count(&self) -> usize {
        self.series.values().map(BTreeMap::len).sum()
    }

    /// Every series with its samples, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (&Labels, &VecDeque<Point>)> {
        self.series.values().flatten()
    }

    /// The series that `matchers` (and `name`, where the selector has one) select.
    pub(super) fn select<'a>(
        &'a self,
        name: Option<&'a str>,
        matchers: &'a [Matcher],
    ) -> impl Iterator<Item = (&'a Labels, &'a VecDeque<Point>)> {
        self.series
            .iter()
            .filter(move |(family, _)| name.is_none_or(|n| n == family.as_str()))
            .filter(move |(family, _)| {
                matchers.iter().filter(|m| m.name == NAME).all(|m| m.is_match(family))
            })
            .flat_map(|(_, family)| family)
            .filter(move |(labels, _)| matchers.iter().all(|m| m.is_match(labels.get(&m.name))))
    }
}
