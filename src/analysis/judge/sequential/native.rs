//! Native histograms as Prometheus' API writes them, brought onto buckets that both arms have.
//!
//! The API gives each bucket with its bounds and leaves empty ones out; the resolution is read from the
//! bounds, which are powers of 2^(2^-schema). The buckets of a run are fixed at its first tick: at most
//! [`WIDTH`] around what the stable version has served so far, of the coarsest resolution of all pods
//! or less. From then on a native histogram is a classic one. Refused: custom bounds, and a resolution
//! that becomes coarser than the run's buckets.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::counters::{PodReading, Reading};
use crate::stats::buckets::{Native, native_bound};

/// Buckets of a run: one each 9% (schema 3) over four doublings.
const WIDTH: i32 = 32;

/// The coarsest and the finest resolution of a native histogram.
const SCHEMAS: std::ops::RangeInclusive<i32> = -4..=8;

/// The share of the stable version's requests below the first bound.
const FAST: f64 = 0.01;

/// Why a native histogram is no reading.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NativeError {
    /// It has another form than the API's.
    #[error("a native histogram of an unknown form: {0}")]
    Unreadable(String),
    /// The bounds are not powers.
    #[error(
        "a native histogram with bounds of its own ({0}); name its classic buckets, which end in \
         _bucket"
    )]
    Custom(String),
    /// A pod merged its buckets since the run began.
    #[error(
        "pod {pod} has buckets of schema {schema}, the run's are finer ({run}); raise the bucket limit \
         of the scrape, or start the analysis again"
    )]
    Coarser {
        /// The pod.
        pod: String,
        /// Its resolution.
        schema: i32,
        /// The run's.
        run: i32,
    },
}

/// The histogram of one pod: counts by index, cumulative over time.
#[derive(Debug, Clone, PartialEq)]
pub struct NativeHistogram {
    /// 2^schema buckets for each doubling.
    schema: i32,
    /// In the zero bucket and below.
    below: f64,
    /// Above the last bound.
    above: f64,
    /// Index and count, rising.
    buckets: BTreeMap<i32, f64>,
}

#[derive(Deserialize)]
struct Written {
    #[serde(default)]
    buckets: Vec<(u8, String, String, String)>,
}

impl NativeHistogram {
    /// Reads `{"count": ..., "sum": ..., "buckets": [[rule, "from", "to", "count"], ...]}`.
    ///
    /// # Errors
    /// When it is none, or has bounds of its own.
    pub fn read(json: &serde_json::Value) -> Result<Self, NativeError> {
        let unreadable = |why: String| NativeError::Unreadable(why);
        let Written { buckets } =
            Written::deserialize(json).map_err(|why| unreadable(why.to_string()))?;
        let mut read =
            Self { schema: *SCHEMAS.end(), below: 0.0, above: 0.0, buckets: BTreeMap::new() };
        let mut known = None;
        for (_, from, to, count) in &buckets {
            let number = |text: &String| {
                text.parse::<f64>().map_err(|_| unreadable(format!("{text:?} is no number")))
            };
            let (from, to, count) = (number(from)?, number(to)?, number(count)?);
            if from <= 0.0 {
                read.below += count;
            } else if to.is_infinite() {
                read.above += count;
            } else {
                let custom = || NativeError::Custom(format!("{from} to {to}"));
                let schema = schema_of(from, to).ok_or_else(custom)?;
                if *known.get_or_insert(schema) != schema {
                    return Err(custom());
                }
                let at = libm::log2(to) * libm::exp2(f64::from(schema));
                let index = libm::round(at);
                if (at - index).abs() > 1e-6 * at.abs().max(1.0) {
                    return Err(custom());
                }
                *read.buckets.entry(index as i32).or_default() += count;
            }
        }
        read.schema = known.unwrap_or(read.schema);
        Ok(read)
    }

    /// Adds the counts onto buckets of a coarser or equal resolution; false if they are finer.
    fn add_to(&self, schema: i32, first: i32, into: &mut [f64]) -> bool {
        if schema > self.schema {
            return false;
        }
        if let Some(least) = into.first_mut() {
            *least += self.below;
        }
        if let Some(most) = into.last_mut() {
            *most += self.above;
        }
        self.buckets.iter().all(|(index, count)| {
            let one = Native { schema: self.schema, first: *index, counts: &[*count] };
            one.add_to(schema, first, into)
        })
    }
}

/// The resolution of a bucket by its bounds.
fn schema_of(from: f64, to: f64) -> Option<i32> {
    let doublings = libm::log2(to / from);
    let schema = libm::round(-libm::log2(doublings));
    let near = (doublings * libm::exp2(schema) - 1.0).abs() < 1e-6;
    SCHEMAS.into_iter().find(|known| near && f64::from(*known) == schema)
}

/// The histograms of an arm's pods.
pub type NativeArm = BTreeMap<String, NativeHistogram>;

/// The buckets of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    schema: i32,
    /// The index of the first bucket; what is below it counts there.
    first: i32,
    /// Buckets with a bound; one more has none.
    width: i32,
}

impl Layout {
    /// The buckets for what the stable version has served so far; `None`: nothing yet.
    #[must_use]
    pub fn of(stable: &NativeArm, canary: &NativeArm) -> Option<Self> {
        let coarsest = stable.values().chain(canary.values()).map(|one| one.schema).min()?;
        (*SCHEMAS.start()..=coarsest).rev().find_map(|schema| {
            let mut counts: BTreeMap<i32, f64> = BTreeMap::new();
            for (own, index, count) in stable
                .values()
                .flat_map(|one| one.buckets.iter().map(|(index, n)| (one.schema, *index, *n)))
            {
                let merged = (index - 1).div_euclid(1 << (own - schema)) + 1;
                *counts.entry(merged).or_default() += count;
            }
            let total: f64 = counts.values().sum();
            let mut seen = 0.0;
            let fast = counts.iter().find_map(|(index, count)| {
                seen += count;
                (*count > 0.0 && seen >= FAST * total).then_some(*index)
            })?;
            // The bucket before it, so that the fastest requests have a bound below them too.
            let first = fast - 1;
            // A doubling above the slowest request so far.
            let last = *counts.keys().next_back()? + (1 << schema.max(0));
            let width = last - first + 1;
            (width <= WIDTH || schema == *SCHEMAS.start()).then_some(Self {
                schema,
                first,
                width: width.min(WIDTH),
            })
        })
    }

    /// The histograms of an arm as cumulative buckets.
    ///
    /// # Errors
    /// When a pod's buckets are coarser than these.
    pub fn read(
        &self,
        arm: &NativeArm,
        created: &BTreeMap<String, Timestamp>,
    ) -> Result<Reading, NativeError> {
        if arm.is_empty() {
            return Ok(Reading::default());
        }
        let Self { schema, first, width } = *self;
        let mut bounds: Vec<f64> =
            (first..first + width).map(|index| native_bound(schema, index)).collect();
        bounds.push(f64::INFINITY);
        let mut pods = BTreeMap::new();
        for (pod, histogram) in arm {
            let mut values = vec![0.0; bounds.len()];
            if !histogram.add_to(schema, first, &mut values) {
                let (pod, schema, run) = (pod.clone(), histogram.schema, schema);
                return Err(NativeError::Coarser { pod, schema, run });
            }
            let mut sum = 0.0;
            for value in &mut values {
                sum += *value;
                *value = sum;
            }
            let created = created.get(pod).copied();
            pods.insert(pod.clone(), PodReading { created, values });
        }
        Ok(Reading { bounds, pods })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The example of Prometheus' HTTP API documentation.
    fn documented() -> serde_json::Value {
        json!({
            "count": "60",
            "sum": "33.424324",
            "buckets": [
                [0, "0.0009765625", "0.0010641832", "1"],
            ],
        })
    }

    fn histogram(schema: i32, counts: &[(i32, f64)]) -> NativeHistogram {
        let bound = |index: i32| native_bound(schema, index).to_string();
        let bucket = |(index, count): &(i32, f64)| {
            json!([0, bound(index - 1), bound(*index), count.to_string()])
        };
        let buckets: Vec<_> = counts.iter().map(bucket).collect();
        NativeHistogram::read(&json!({"count": "1", "sum": "1", "buckets": buckets})).unwrap()
    }

    #[test]
    fn the_resolution_is_read_from_the_bounds() {
        for schema in SCHEMAS {
            for index in [-37, -1, 0, 1, 12] {
                let read = histogram(schema, &[(index, 3.0), (index + 2, 4.0)]);
                assert_eq!(read.schema, schema);
                assert_eq!(read.buckets, [(index, 3.0), (index + 2, 4.0)].into());
            }
        }
    }

    #[test]
    fn zero_negative_and_boundless_buckets_are_kept() {
        let read = NativeHistogram::read(&json!({
            "count": "10", "sum": "3",
            "buckets": [
                [1, "-1", "-0.5", "1"], [3, "-0.001", "0.001", "2"],
                [0, "0.5", "1", "3"], [0, "8", "+Inf", "4"],
            ],
        }))
        .unwrap();
        assert_eq!((read.below, read.above, read.schema), (3.0, 4.0, 0));
        assert_eq!(read.buckets, [(0, 3.0)].into());
        let mut into = [0.0; 3];
        assert!(read.add_to(0, 0, &mut into));
        assert_eq!(into, [6.0, 0.0, 4.0]);
    }

    #[test]
    fn bounds_of_its_own_and_other_forms_are_refused() {
        let custom = NativeHistogram::read(&documented()).unwrap_err().to_string();
        assert!(custom.contains("0.0009765625 to 0.0010641832"), "{custom}");
        assert!(custom.contains("_bucket"), "{custom}");
        let odd = json!({"buckets": [[0, "1", "2", "many"]]});
        assert!(matches!(NativeHistogram::read(&odd), Err(NativeError::Unreadable(_))));
        assert!(matches!(NativeHistogram::read(&json!([1])), Err(NativeError::Unreadable(_))));
    }

    #[test]
    fn arms_of_different_resolution_meet_on_the_coarser_one_and_lose_nothing() {
        let fine: Vec<_> = (-20..20).map(|i| (i, 5.0)).collect();
        let coarse: Vec<_> = (-6..5).map(|i| (i, 7.0)).collect();
        let stable: NativeArm = [("a".to_owned(), histogram(3, &fine))].into();
        let canary: NativeArm = [("b".to_owned(), histogram(1, &coarse))].into();
        let layout = Layout::of(&stable, &canary).unwrap();
        assert_eq!(layout.schema, 1);
        let (stable, canary) = (
            layout.read(&stable, &BTreeMap::new()).unwrap(),
            layout.read(&canary, &BTreeMap::new()).unwrap(),
        );
        assert_eq!(stable.bounds, canary.bounds);
        assert_eq!(stable.pods["a"].values.last(), Some(&200.0));
        assert_eq!(canary.pods["b"].values.last(), Some(&77.0));
        // What is below a bound is below it in either resolution: here 2^0.
        let at = stable.bounds.iter().position(|bound| *bound == 1.0).unwrap();
        assert_eq!(stable.pods["a"].values[at], 21.0 * 5.0);
        assert_eq!(canary.pods["b"].values[at], 7.0 * 7.0);
    }

    #[test]
    fn a_wide_histogram_gets_few_buckets_and_a_pod_that_becomes_coarser_is_refused() {
        let wide: Vec<_> = (-400..400).step_by(8).map(|i| (i, 1.0)).collect();
        let stable: NativeArm = [("a".to_owned(), histogram(5, &wide))].into();
        let layout = Layout::of(&stable, &NativeArm::new()).unwrap();
        assert!(layout.width <= WIDTH && layout.schema < 5, "{layout:?}");
        assert_eq!(
            Layout::of(&NativeArm::new(), &stable),
            None,
            "the stable version is the measure"
        );
        let merged: NativeArm = [("a".to_owned(), histogram(-1, &[(1, 3.0)]))].into();
        let refused = layout.read(&merged, &BTreeMap::new()).unwrap_err().to_string();
        assert!(refused.starts_with("pod a has buckets of schema -1"), "{refused}");
    }
}
