//! From the answers of range queries to the readings that a run would have had, tick by tick.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::analysis::judge::sequential::{Kind, PodReading, Reading, ReadingError};
use crate::analysis::sample::Line;
use crate::stats::buckets::common_bounds;

/// The raw series of one comparison over a span, at the steps of the range query.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Slice {
    pub(super) readings: BTreeMap<Timestamp, Reading>,
}

/// The cumulative buckets of one pod: bound by bound, the value at each time.
type Buckets<'a> = BTreeMap<Bound, BTreeMap<Timestamp, f64>>;

/// An upper bound, in the order of numbers.
#[derive(Clone, Copy, PartialEq)]
struct Bound(f64);

impl Eq for Bound {}

impl PartialOrd for Bound {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Bound {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl Slice {
    /// From the answers for each part, with the meaning that [`Reading::of_parts`] and
    /// [`Reading::of_buckets`] give to those of one tick. The buckets are those that all pods have.
    ///
    /// # Errors
    /// When a series has no pod, or no bound where it needs one.
    pub fn read(kind: Kind, parts: &[Vec<Line>], pod_label: &str) -> Result<Self, ReadingError> {
        match (kind, parts) {
            (Kind::Histogram, [buckets]) => of_buckets(buckets, pod_label),
            _ => of_parts(parts, pod_label),
        }
    }

    /// The readings, in the order of time.
    pub(in crate::analysis) fn ticks(&self) -> impl Iterator<Item = (Timestamp, &Reading)> {
        self.readings.iter().map(|(at, reading)| (*at, reading))
    }

    /// All pods that were seen.
    #[must_use]
    pub fn pods(&self) -> BTreeSet<&str> {
        self.readings.values().flat_map(|reading| reading.pods.keys().map(String::as_str)).collect()
    }
}

fn pod_of<'a>(line: &'a Line, label: &str) -> Result<&'a str, ReadingError> {
    let pod = line.labels.get(label).filter(|pod| !pod.is_empty());
    pod.map(String::as_str).ok_or_else(|| ReadingError::NoPod(label.to_owned()))
}

fn of_parts(parts: &[Vec<Line>], pod_label: &str) -> Result<Slice, ReadingError> {
    let mut slice = Slice::default();
    let last = parts.len().saturating_sub(1);
    for (part, lines) in parts.iter().enumerate().rev() {
        for line in lines {
            let pod = pod_of(line, pod_label)?;
            for (at, value) in &line.points {
                if part == last {
                    let fresh = PodReading { created: None, values: vec![0.0; parts.len()] };
                    let reading = slice.readings.entry(*at).or_default();
                    reading.pods.entry(pod.to_owned()).or_insert(fresh);
                }
                let reading = slice.readings.get_mut(at).and_then(|r| r.pods.get_mut(pod));
                if let Some(sum) = reading.and_then(|pod| pod.values.get_mut(part)) {
                    *sum += value;
                }
            }
        }
    }
    Ok(slice)
}

fn of_buckets(lines: &[Line], pod_label: &str) -> Result<Slice, ReadingError> {
    let mut pods: BTreeMap<&str, Buckets<'_>> = BTreeMap::new();
    for line in lines {
        let bound = line.labels.get("le").and_then(|le| le.parse::<f64>().ok());
        let bound = bound.filter(|bound| !bound.is_nan()).ok_or(ReadingError::NoBound)?;
        let pod = pods.entry(pod_of(line, pod_label)?).or_default();
        let values = pod.entry(Bound(bound)).or_default();
        for (at, value) in &line.points {
            *values.entry(*at).or_insert(0.0) += value;
        }
    }
    let layout = |pod: &Buckets<'_>| pod.keys().map(|bound| bound.0).collect::<Vec<_>>();
    let bounds = pods.values().map(layout).reduce(|all, pod| common_bounds(&all, &pod));
    let bounds = bounds.unwrap_or_default();
    let mut slice = Slice::default();
    for (pod, buckets) in &pods {
        let columns: Vec<_> = bounds.iter().filter_map(|b| buckets.get(&Bound(*b))).collect();
        let Some(first) = columns.first() else { continue };
        for at in first.keys() {
            // A pod without one of its buckets is one whose scrape was cut off.
            let values: Option<Vec<f64>> =
                columns.iter().map(|values| values.get(at).copied()).collect();
            let Some(values) = values else { continue };
            let reading = slice.readings.entry(*at).or_default();
            reading.bounds.clone_from(&bounds);
            reading.pods.insert((*pod).to_owned(), PodReading { created: None, values });
        }
    }
    Ok(slice)
}
