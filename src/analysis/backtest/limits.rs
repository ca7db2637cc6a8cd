//! Limits on query results, counted as the tool that they were written for counts them.
//!
//! A template's `successCondition`, `failureCondition` and limits go through the functions that a run
//! uses, and metrics that Kayenta judges through its loop. Flagger's checks are counted by Flagger's:
//! every interval the first metric out of its range ends the tick and adds one to a counter that never
//! forgets; no value is out of range; the rollback comes on the tick after the counter has reached the
//! threshold.

use jiff::{SignedDuration, Timestamp};

use crate::analysis::args::Secrets;
use crate::analysis::assess::{self, completed};
use crate::analysis::compare::About;
use crate::analysis::decide;
use crate::analysis::kayenta;
use crate::analysis::measure::{Answer, measure};
use crate::analysis::metric::{Checked, CheckedMetric};
use crate::analysis::observed::Observed;
use crate::analysis::run::retry;
use crate::analysis::sample::{Outcome, Sample};
use crate::api::{AnalysisPhase, MetricResult};

/// The interval where a metric has none, as in a run.
const INTERVAL: SignedDuration = SignedDuration::from_secs(10);

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Question {
    /// The metric by its place.
    pub metric: usize,
    /// Which of its queries: Kayenta's judge has several.
    pub query: usize,
    /// At what time.
    pub at: Timestamp,
    /// Points since then, so far apart; none: only that at the time.
    pub since: Option<(Timestamp, SignedDuration)>,
}

/// What came of limits in a window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ended {
    /// When the release would have been rolled back.
    pub failed: Option<Timestamp>,
    /// A metric that decides never had data: the release would have waited.
    pub held: bool,
}

/// How a run of these metrics would have gone between `from` and `until`.
pub fn template(
    checked: &Checked,
    from: Timestamp,
    until: Timestamp,
    mut ask: impl FnMut(Question) -> Outcome,
) -> Ended {
    let (secrets, observed) = (Secrets::default(), Observed::default());
    let about = About { secrets: &secrets, observed: &observed, started: from };
    let mut results: Vec<MetricResult> = vec![MetricResult::default(); checked.metrics.len()];
    let first =
        |metric: &CheckedMetric| from.saturating_add(metric.initial_delay.unwrap_or_default()).ok();
    let mut due: Vec<Option<Timestamp>> = checked.metrics.iter().map(first).collect();
    loop {
        let first = due.iter().flatten().min().copied().filter(|now| *now <= until);
        let Some(now) = first else {
            return Ended { failed: None, held: is_blind(checked, &results) };
        };
        let rows = checked.metrics.iter().zip(&mut results).zip(&mut due);
        for (place, ((metric, result), due)) in rows.enumerate() {
            if *due != Some(now) {
                continue;
            }
            let question = Question { metric: place, query: 0, at: now, since: None };
            if let Some(judged) = &metric.kayenta {
                let (start, at) = judged.window(from, now);
                let since = Some((start, judged.step));
                let keys = judged.questions(&metric.name).enumerate();
                let answer = |(query, (key, _)): (usize, (String, &str))| {
                    (key, ask(Question { query, at, since, ..question }))
                };
                let answers: Vec<_> = keys.map(answer).collect();
                kayenta::record(metric, result, &answers, &about, now);
            } else {
                let outcome = ask(question);
                let answer = Answer { outcome: &outcome, events: None };
                measure(metric, result, &answer, &secrets, now);
            }
            result.measurements.drain(..result.measurements.len().saturating_sub(1));
            let phase = assess::metric(metric, result, false).phase;
            *due = if completed(phase) { None } else { next(metric, result, now) };
            if completed(phase) {
                result.phase = Some(phase);
            }
        }
        let rows: Vec<_> = checked.metrics.iter().zip(&results).collect();
        if decide::is_certain(checked, &rows) || due.iter().all(Option::is_none) {
            let ends: Vec<_> =
                rows.iter().map(|(metric, result)| assess::metric(metric, result, false)).collect();
            let end = decide::of_all(checked, &rows, &ends, false);
            let failed = (end.phase == AnalysisPhase::Failed).then_some(now);
            return Ended { failed, held: failed.is_none() && is_blind(checked, &results) };
        }
    }
}

/// Whether a metric that decides has been asked in vain all the time.
fn is_blind(checked: &Checked, results: &[MetricResult]) -> bool {
    let blind = |(metric, result): (&CheckedMetric, &MetricResult)| {
        let open = result.phase.is_none() && result.count == 0;
        assess::decides(metric) && open && result.consecutive_error > 0
    };
    checked.metrics.iter().zip(results).any(blind)
}

fn next(metric: &CheckedMetric, result: &MetricResult, now: Timestamp) -> Option<Timestamp> {
    let counted = metric.count.is_some_and(|count| i64::from(result.count) >= count);
    if counted {
        return None;
    }
    let failed = result.consecutive_error > 0;
    let wait = if failed {
        retry(metric, result.consecutive_error)
    } else {
        metric.interval.unwrap_or(INTERVAL)
    };
    now.checked_add(wait).ok()
}

/// A Flagger analysis.
#[derive(Debug, Clone, PartialEq)]
pub struct Checks {
    /// Between two ticks.
    pub interval: SignedDuration,
    /// Failed checks that roll back.
    pub threshold: u32,
    /// The range of each metric, in the order in which they are asked.
    pub ranges: Vec<(Option<f64>, Option<f64>)>,
}

/// When Flagger would have rolled back. The first tick sets the first weight; metrics are asked from the
/// second on.
pub fn flagger(
    checks: &Checks,
    from: Timestamp,
    until: Timestamp,
    mut ask: impl FnMut(usize, Timestamp) -> Sample,
) -> Option<Timestamp> {
    let Checks { interval, threshold, ranges } = checks;
    let (mut now, mut failed) = (from, 0);
    if !interval.is_positive() {
        return None;
    }
    while now <= until {
        now = now.checked_add(*interval).ok()?;
        if failed >= *threshold {
            return Some(now);
        }
        let out =
            |(place, range): (usize, &(Option<f64>, Option<f64>))| is_out(&ask(place, now), *range);
        if now <= until && ranges.iter().enumerate().any(out) {
            failed += 1;
        }
    }
    None
}

/// Flagger takes the last of several series.
fn is_out(sample: &Sample, (min, max): (Option<f64>, Option<f64>)) -> bool {
    let value = match sample {
        Sample::Series(values) => values.last().copied(),
        other => other.single(),
    };
    let Some(value) = value.filter(|value| !value.is_nan()) else { return true };
    min.is_some_and(|min| value < min) || max.is_some_and(|max| value > max)
}
