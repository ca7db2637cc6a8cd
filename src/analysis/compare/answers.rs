//! From the answers of a provider to one tick of raw series.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;

use super::super::judge::sequential::{
    Kind, NativeArm, NativeHistogram, Reading, ReadingError, Series, Tick,
};
use super::super::metric::CheckedMetric;
use super::super::observed::Observed;
use super::super::sample::{ErrorKind, Line, Outcome, QueryError, Sample};
use super::{CheckedCompare, PART, TARGET};

/// The keys and queries of a metric's comparison.
pub(crate) fn questions<'a>(
    metric: &'a CheckedMetric,
    compare: &'a CheckedCompare,
) -> impl Iterator<Item = (String, &'a str)> {
    let key =
        |(end, text): &'a (String, String)| (format!("{}{PART}{end}", metric.name), text.as_str());
    compare.queries.iter().map(key)
}

/// The answers of one tick.
pub(super) enum Ticked {
    /// Counters, classic buckets or levels.
    Counted(Tick),
    /// Native histograms, whose buckets the state of the comparison fixes.
    Native { canary: NativeArm, stable: NativeArm },
    /// All that was missed, in the order of time.
    Replay(Vec<(Timestamp, Tick)>),
}

/// What the answers of one tick are for a comparison: nothing was asked, an error, or a tick.
pub(super) fn gathered(
    metric: &CheckedMetric,
    compare: &CheckedCompare,
    answers: &[(String, Outcome)],
    observed: &Observed,
) -> Option<Result<Ticked, QueryError>> {
    let mut found = Vec::new();
    for (key, _) in questions(metric, compare) {
        let (_, outcome) = answers.iter().find(|(name, _)| *name == key)?;
        found.push(outcome);
    }
    (!found.is_empty()).then(|| tick(compare, &found, observed))
}

fn tick(
    compare: &CheckedCompare,
    found: &[&Outcome],
    observed: &Observed,
) -> Result<Ticked, QueryError> {
    if found.iter().any(|outcome| lines(outcome).is_some()) {
        return replay(compare, found, observed);
    }
    let mut answers: Vec<Vec<Labelled>> =
        found.iter().map(|outcome| labelled(outcome)).collect::<Result<_, _>>()?;
    if compare.by_version {
        let labels = answers.iter_mut().flatten().map(|one| &mut one.labels);
        labels.for_each(|labels| stand_in(labels, &compare.pod_label));
    }
    if let [canary, stable] = answers.as_slice()
        && answers.iter().flatten().any(|one| one.histogram.is_some())
        && compare.comparison.kind == Kind::Histogram
    {
        let arm = |rows: &[Labelled]| native(rows, &compare.pod_label);
        return Ok(Ticked::Native { canary: arm(canary)?, stable: arm(stable)? });
    }
    let parts: Vec<Vec<Series>> = answers
        .into_iter()
        .map(|rows| rows.into_iter().map(numbered).collect())
        .collect::<Result<_, _>>()?;
    Ok(Ticked::Counted(counted(compare, &parts, observed)?))
}

fn lines(outcome: &Outcome) -> Option<&[Line]> {
    match outcome {
        Outcome::Answer { sample: Sample::Lines(lines), warnings: _ } => Some(lines),
        Outcome::Answer { .. }
        | Outcome::Error(_)
        | Outcome::Running { .. }
        | Outcome::Ended { .. } => None,
    }
}

/// The ticks of a range, each with the points that have its time.
fn replay(
    compare: &CheckedCompare,
    found: &[&Outcome],
    observed: &Observed,
) -> Result<Ticked, QueryError> {
    let mut ticks: BTreeMap<Timestamp, Vec<Vec<Series>>> = BTreeMap::new();
    for (part, outcome) in found.iter().enumerate() {
        if let Outcome::Error(error) = outcome {
            return Err(error.clone());
        }
        for Line { labels, points } in lines(outcome).unwrap_or_default() {
            let mut labels = labels.clone();
            if compare.by_version {
                stand_in(&mut labels, &compare.pod_label);
            }
            for (at, value) in points {
                let parts = ticks.entry(*at).or_insert_with(|| vec![Vec::new(); found.len()]);
                if let Some(part) = parts.get_mut(part) {
                    part.push(Series { labels: labels.clone(), value: *value });
                }
            }
        }
    }
    let tick =
        |(at, parts): (Timestamp, Vec<Vec<Series>>)| Ok((at, counted(compare, &parts, observed)?));
    Ok(Ticked::Replay(ticks.into_iter().map(tick).collect::<Result<_, QueryError>>()?))
}

fn counted(
    compare: &CheckedCompare,
    parts: &[Vec<Series>],
    observed: &Observed,
) -> Result<Tick, QueryError> {
    let (canary, stable) = parts.split_at(parts.len() / 2);
    let reading = |parts: &[Vec<Series>]| {
        let (label, created) = (&compare.pod_label, &observed.created);
        let reading = match (compare.comparison.kind, parts) {
            (Kind::Histogram, [buckets]) => Reading::of_buckets(buckets, label, created),
            _ => Reading::of_parts(parts, label, created),
        };
        reading.map_err(|error| malformed(error.to_string()))
    };
    Ok(Tick { canary: reading(canary)?, stable: reading(stable)? })
}

/// A series without a pod gets its target in the pod's place, so that a target's restart is seen as
/// one; without either the version is one unit.
fn stand_in(labels: &mut BTreeMap<String, String>, pod_label: &str) {
    if labels.get(pod_label).is_none_or(String::is_empty) {
        let target = labels.get(TARGET).filter(|target| !target.is_empty());
        let name = target.cloned().unwrap_or_else(|| "all".to_owned());
        labels.insert(pod_label.to_owned(), name);
    }
}

/// The native histograms of an arm's pods.
fn native(rows: &[Labelled], pod_label: &str) -> Result<NativeArm, QueryError> {
    let mut arm = NativeArm::new();
    for Labelled { labels, value: _, histogram } in rows {
        let Some(histogram) = histogram else {
            let message = "some series are native histograms and some are not; name the classic \
                           buckets, which end in _bucket";
            return Err(malformed(message.to_owned()));
        };
        let pod = labels
            .get(pod_label)
            .filter(|pod| !pod.is_empty())
            .ok_or_else(|| malformed(ReadingError::NoPod(pod_label.to_owned()).to_string()))?;
        let read = NativeHistogram::read(histogram).map_err(|e| malformed(e.to_string()))?;
        // Several targets of one pod are units of their own.
        let name = match arm.contains_key(pod) {
            true => format!("{pod} {}", labels.get(TARGET).map_or("", String::as_str)),
            false => pod.clone(),
        };
        arm.insert(name, read);
    }
    Ok(arm)
}

pub(super) fn malformed(message: String) -> QueryError {
    QueryError { kind: ErrorKind::Malformed, message, retry_after: None }
}

/// One series of an answer that kept its labels, see `Query::labelled`.
#[derive(Deserialize)]
struct Labelled {
    labels: BTreeMap<String, String>,
    value: Option<String>,
    histogram: Option<serde_json::Value>,
}

fn labelled(outcome: &Outcome) -> Result<Vec<Labelled>, QueryError> {
    let sample = match outcome {
        Outcome::Answer { sample, warnings: _ } => sample,
        Outcome::Error(error) => return Err(error.clone()),
        Outcome::Running { .. } | Outcome::Ended { .. } => {
            return Err(malformed("the provider did not answer with series".to_owned()));
        }
    };
    match sample {
        Sample::Empty => Ok(Vec::new()),
        Sample::Json(json) => Vec::deserialize(json).map_err(|e| malformed(e.to_string())),
        other => Err(malformed(format!("the answer has no labels: {other}"))),
    }
}

fn numbered(Labelled { labels, value, histogram: _ }: Labelled) -> Result<Series, QueryError> {
    let Some(text) = value else {
        let message = "a native histogram is no number; write it under compare.histogram";
        return Err(malformed(message.to_owned()));
    };
    let value = text.parse().map_err(|_| malformed(format!("{text:?} is not a number")))?;
    Ok(Series { labels, value })
}
