//! The comparisons of a run: what is asked for each arm, and what the answers make of the run.
//!
//! Every comparison asks its raw series once per tick, for the canary and for the stable pods. The
//! answers go to the sequential judge, whose state is the checkpoint in the metric's result, and one
//! judgement is made over all comparisons that decide. A comparison ends when that judgement does, so
//! that all evidence is read at one tick; a dry or advisory one is judged by itself. One that watches
//! in the background ends with a failure, or with the release. Evidence goes on from run to run of a
//! release, see [`continued`].
//!
//! What was missed is asked as a range and replayed: the ticks of a while without a controller, or the
//! whole run where the checkpoint is lost. The raw counters are the provider's, so nothing is.

mod answers;
mod check;
mod evidence;

use jiff::{SignedDuration, Timestamp};

use super::args::Secrets;
use super::assess::completed;
use super::calibration::Calibrated;
use super::judge::sequential::{
    BETA, Comparison, Counting, Judgement, Metric as Judged, MetricState, Rules, judge,
};
use super::measure::{Answer, RESOLVED_QUERY, answered, measure, shorten, trim};
use super::metric::CheckedMetric;
use super::observed::Observed;
use super::path;
use super::range::RangeTime;
use super::sample::{Outcome, QueryError};
use super::source::{Ask, Range};
use crate::api::analysis_run::{Measurement, RunRelease};
use crate::api::{self, AnalysisPhase, AnalysisRunSpec, MetricResult, Time};

pub(crate) use answers::questions;
use answers::{Ticked, malformed};
pub use check::CheckedCompare;
pub(in crate::analysis) use check::WARM_UP;
pub(in crate::analysis) use check::written;
pub(crate) use check::{arms, shown, source, with};
pub use evidence::continued;
pub(in crate::analysis) use evidence::level;

/// Time between two ticks unless the metric has an interval: Prometheus' usual scrape interval.
const TICK: SignedDuration = SignedDuration::from_secs(15);

/// Sooner no comparison says anything: a canary pod has to be warm, and a tick has to pass.
pub const SOONEST: SignedDuration = SignedDuration::from_secs(TICK.as_secs() + WARM_UP.as_secs());

/// The key of a result's metadata that says that traffic is not as planned.
const EXPOSURE: &str = "exposure";

/// What separates a metric's name from the part that is asked. No name has a slash.
const PART: char = '/';

/// The label of a scraped target, which Prometheus gives to every series.
const TARGET: &str = "instance";

/// So many ticks without an answer are asked for once more, as a range.
const GAP: i32 = 3;

/// Points of a range: Prometheus gives at most 11,000.
const POINTS: f64 = 10_000.0;

/// What is known of a run besides the answers of a tick.
#[derive(Clone, Copy)]
pub(crate) struct About<'a> {
    /// Secrets that no message may show.
    pub secrets: &'a Secrets,
    /// What the controller sees of the release.
    pub observed: &'a Observed,
    /// When the run started.
    pub started: Timestamp,
}

/// Takes the answers of one tick into a comparison's result; false for another metric. The judgement
/// follows in [`conclude`].
pub(crate) fn record(
    metric: &CheckedMetric,
    result: &mut MetricResult,
    answers: &[(String, Outcome)],
    about: &About<'_>,
    now: Timestamp,
) -> bool {
    let Some(compare) = &metric.compare else { return false };
    if result.phase.is_some_and(completed) {
        return true;
    }
    let found = answers::gathered(metric, compare, answers, about.observed);
    match found.map(|found| take(metric, compare, result, found?, about, now)) {
        None | Some(Ok(())) => {}
        Some(Err(error)) => {
            let outcome = Outcome::Error(error);
            let answer = Answer { outcome: &outcome, events: None };
            measure(metric, result, &answer, about.secrets, now);
        }
    }
    true
}

fn take(
    metric: &CheckedMetric,
    compare: &CheckedCompare,
    result: &mut MetricResult,
    ticked: Ticked,
    about: &About<'_>,
    now: Timestamp,
) -> Result<(), QueryError> {
    let mut state = state_of(result);
    let ticks = match ticked {
        Ticked::Counted(tick) => vec![(now, tick)],
        Ticked::Native { canary, stable } => {
            let on_buckets = state.on_buckets(&canary, &stable, &about.observed.created);
            vec![(now, on_buckets.map_err(|error| malformed(error.to_string()))?)]
        }
        Ticked::Replay(ticks) => ticks,
    };
    let every = match missed(metric, compare, result, about.started, now) {
        Ask::Prometheus { range: Some(range) } => range.step,
        _ => metric.interval.unwrap_or(TICK),
    };
    let counting = Counting {
        started: about.started,
        tick: every,
        warm_up: compare.warm_up,
        weight: about.observed.weight,
    };
    for (at, tick) in &ticks {
        state.observe(&compare.comparison, tick, *at, &counting);
    }
    result.checkpoint = state.checkpoint().ok();
    result.metadata.insert(RESOLVED_QUERY.to_owned(), metric.shown.clone());
    result.count += 1;
    answered(result);
    result.measurements.push(Measurement {
        phase: Some(AnalysisPhase::Running),
        started_at: Some(Time(now)),
        finished_at: Some(Time(now)),
        ..Measurement::default()
    });
    trim(metric, result);
    Ok(())
}

/// The state, if there is one that can be read.
fn kept(result: &MetricResult) -> Option<MetricState> {
    MetricState::restore(result.checkpoint.as_deref()?).ok()
}

fn state_of(result: &MetricResult) -> MetricState {
    kept(result).unwrap_or_default()
}

/// How the next tick is asked: at one instant, or over all that was missed. Without a state that can
/// be read that is the whole run, after a while without a controller it is that while. Native
/// histograms have no ranges: their next difference bridges what was missed.
pub(crate) fn missed(
    metric: &CheckedMetric,
    compare: &CheckedCompare,
    result: &MetricResult,
    started: Timestamp,
    now: Timestamp,
) -> Ask {
    let tick = metric.interval.unwrap_or(TICK);
    let state = kept(result);
    let native = state.as_ref().and_then(MetricState::is_native);
    if native.unwrap_or_else(|| compare.may_be_native()) {
        return Ask::default();
    }
    let since = match state {
        Some(state) => state.last(),
        None => Some(started),
    };
    // Before the run's first tick nothing was missed.
    let Some(since) =
        since.filter(|_| result.count > 0).filter(|since| now.duration_since(*since) > tick * GAP)
    else {
        return Ask::default();
    };
    let whole = now.duration_since(since).as_secs_f64();
    let step = SignedDuration::try_from_secs_f64(libm::ceil(whole / POINTS)).unwrap_or(tick);
    let (start, end) = (RangeTime::fixed(since), RangeTime::fixed(now));
    Ask::Prometheus { range: Some(Range { start, end, step: step.max(tick) }) }
}

/// A metric of a run and its result.
pub(crate) type RowMut<'a> = (&'a CheckedMetric, &'a mut MetricResult);

/// Judges all comparisons when one had a tick at `now`, and writes what was found into their results.
pub(crate) fn conclude(
    spec: &AnalysisRunSpec,
    calibrated: &Calibrated,
    rows: &mut [RowMut<'_>],
    ends: Option<Timestamp>,
    now: Timestamp,
) {
    let Calibrated { terms, says } = calibrated;
    let rules = |alone: Option<&str>| Rules {
        ends,
        height: terms.height(alone),
        ..Rules::level(evidence::level(spec))
    };
    let says = says.as_deref();
    let watches = watches(spec, rows);
    let (mut together, mut any) = (Vec::new(), false);
    for at in 0..rows.len() {
        let Some((metric, result)) = rows.get(at) else { continue };
        if metric.compare.is_none() {
            continue;
        }
        let last = result.measurements.last().filter(|last| under_way(last));
        let ticked = last
            .and_then(|last| last.finished_at.as_ref())
            .is_some_and(|finished| finished.0 == now);
        if !(metric.dry_run || metric.advisory) {
            together.push(at);
            any |= ticked;
        } else if ticked {
            let rules = rules(Some(&metric.name));
            conclude_group(rows, &[at], rules, (watches, says), now);
        }
    }
    if any {
        conclude_group(rows, &together, rules(None), (watches, says), now);
    }
}

/// Whether what has passed is looked at on: in the background, until the release ends. Beside other
/// metrics it ends with them, for the whole run to begin again.
fn watches(spec: &AnalysisRunSpec, rows: &[RowMut<'_>]) -> bool {
    let others = || {
        let decides = |metric: &CheckedMetric| !(metric.dry_run || metric.advisory);
        rows.iter().filter(move |(metric, _)| metric.compare.is_none() && decides(metric))
    };
    let background = spec.release.as_ref().is_some_and(RunRelease::is_background);
    let open = others().any(|(_, result)| !result.phase.is_some_and(completed));
    background && (open || others().next().is_none())
}

pub(crate) fn under_way(measurement: &Measurement) -> bool {
    measurement.phase == Some(AnalysisPhase::Running)
}

fn conclude_group(
    rows: &mut [RowMut<'_>],
    group: &[usize],
    rules: Rules,
    (watches, says): (bool, Option<&str>),
    now: Timestamp,
) {
    let mut states: Vec<(usize, Comparison, MetricState)> = group
        .iter()
        .filter_map(|at| {
            let (metric, result) = rows.get(*at)?;
            Some((*at, metric.compare.as_ref()?.comparison.clone(), state_of(result)))
        })
        .collect();
    // Of several metrics the evidence is one, and what is left of it would be hard to tell.
    let rules = match states.as_mut_slice() {
        [(at, of, state)] => {
            if state.stake(of, &rules, now)
                && let Some((_, result)) = rows.get_mut(*at)
            {
                result.checkpoint = state.checkpoint().ok();
            }
            state.after_stake(rules)
        }
        _ => rules,
    };
    let rules = &rules;
    let judged: Vec<Judged<'_>> =
        states.iter().map(|(_, of, state)| Judged { of, state }).collect();
    let judgement = judge(&judged, rules, now);
    for ((at, ..), judged) in states.iter().zip(&judged) {
        if let Some((_, result)) = rows.get_mut(*at) {
            result.outlook = judged.outlook(rules, now);
            let (phase, text) = write(result, judged, &judgement, watches);
            let beyond = judged.state.beyond(judged.of);
            let says = says.map(str::to_owned).into_iter().chain(beyond);
            settle(result, phase, says.fold(text, |text, more| format!("{text}; {more}")));
        }
    }
}

/// Writes what was found; the phase of the measurement and what is said of it.
fn write(
    result: &mut MetricResult,
    judged: &Judged<'_>,
    judgement: &Judgement,
    watches: bool,
) -> (AnalysisPhase, String) {
    let name = &judged.of.name;
    let lack = judgement.lacks.iter().find(|lack| lack.metric == *name);
    let evidence = judged.state.evidence(judged.of, judgement.log_boundary);
    if let Some(last) = result.measurements.last().filter(|last| under_way(last)) {
        let now = last.finished_at.as_ref().map(|at| at.0);
        now.into_iter().for_each(|now| {
            path::extend(&mut result.path, &evidence, result.count, now);
        });
    }
    result.evidence = Some(evidence);
    let complaint = judged.state.complaint();
    let missing: Vec<String> =
        lack.map(ToString::to_string).into_iter().chain(complaint.clone()).collect();
    result.missing = lack.map(|_| missing.join("; "));
    result.metadata.remove(EXPOSURE);
    result.metadata.extend(complaint.map(|text| (EXPOSURE.to_owned(), text)));
    let minutes = lack.and_then(|lack| lack.minutes).filter(|minutes| *minutes < 1e6);
    result.estimated_minutes = minutes.map(|minutes| libm::ceil(minutes) as i32);
    let (phase, text) = match judgement.verdict {
        api::Verdict::Fail if judgement.culprits.contains(name) => {
            (AnalysisPhase::Failed, format!("{}; {}", judged.describe(), judgement.enough))
        }
        api::Verdict::Pass if watches => (AnalysisPhase::Running, judged.describe()),
        api::Verdict::Pass => (AnalysisPhase::Successful, judged.describe()),
        api::Verdict::Inconclusive if lack.is_some() => {
            (AnalysisPhase::Inconclusive, judgement.reason.clone())
        }
        api::Verdict::Inconclusive => (AnalysisPhase::Successful, judged.describe()),
        api::Verdict::Fail | api::Verdict::Continue => (AnalysisPhase::Running, judged.describe()),
    };
    // The result is the metric's own and need not name it again.
    let own = format!("{name}: ");
    (phase, text.strip_prefix(&own).map(str::to_owned).unwrap_or(text))
}

/// Gives the newest measurement its phase, if it has none yet.
fn settle(result: &mut MetricResult, phase: AnalysisPhase, text: String) {
    let Some(last) = result.measurements.last_mut().filter(|last| under_way(last)) else { return };
    last.phase = Some(phase);
    let text = shorten(text, 1_024);
    match phase {
        AnalysisPhase::Successful => {
            result.successful += 1;
            result.consecutive_success += 1;
        }
        AnalysisPhase::Failed => result.failed += 1,
        AnalysisPhase::Inconclusive => {
            result.inconclusive += 1;
            last.message = Some(text.clone());
        }
        AnalysisPhase::Pending | AnalysisPhase::Running | AnalysisPhase::Error => {}
    }
    last.explanation = Some(text);
}

/// Nothing more is asked: a comparison that was shown to be harmless is good, another one has no
/// answer.
pub(crate) fn end(metric: &CheckedMetric, result: &mut MetricResult) {
    if metric.compare.is_none() || !result.measurements.last().is_some_and(under_way) {
        return;
    }
    let proven = result.evidence.as_ref().and_then(|evidence| evidence.log_e_pass);
    if result.missing.is_none() && proven.is_some_and(|log_e| log_e >= -libm::log(BETA)) {
        let last = result.measurements.last();
        let said = last.and_then(|last| last.explanation.clone()).unwrap_or_default();
        return settle(result, AnalysisPhase::Successful, said);
    }
    let missing = result.missing.clone().unwrap_or_else(|| "no answer yet".to_owned());
    settle(result, AnalysisPhase::Inconclusive, format!("ended early: {missing}"));
}
