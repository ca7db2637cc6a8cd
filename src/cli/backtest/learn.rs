//! What a release with `calibration` would have learnt from the first half of the history: by the same
//! Learner, from its own windows, one at a time.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::input::Input;
use super::reader::Reader;
use super::replay::compared;
use super::report::percent;
use crate::analysis::Line;
use crate::analysis::backtest::Signal;
use crate::analysis::calibration::{Asked, Learner, Learnt, Policy, Wanted, terms};
use crate::analysis::history::Slice;
use crate::analysis::judge::sequential::{Comparison, Height};
use crate::stats::conformal::reachable;

/// The worst level that a calibration is shown for.
const WORST: f64 = 0.1;

/// A boundary of the service's own, and what is known of each comparison.
pub(super) struct Taught {
    pub(super) height: Height,
    pub(super) comparisons: Vec<Comparison>,
    /// The level that is promised: the wanted one, or the least that so many windows can promise.
    pub(super) level: f64,
    /// Windows that were learnt from.
    pub(super) windows: usize,
    /// The age from which a canary pod is like the others.
    pub(super) warm_up: Option<SignedDuration>,
}

/// Learns from `from` to `until`; the second is why nothing could be learnt.
///
/// # Errors
/// The server does not answer.
pub(super) async fn learn(
    input: &Input,
    reader: &Reader<'_>,
    from: Timestamp,
    until: Timestamp,
    mut progress: impl FnMut(usize, usize),
) -> anyhow::Result<Result<Taught, String>> {
    let signals: Vec<&Signal> = compared(input).map(|(_, signal)| signal).collect();
    let span = &input.span;
    let asked: Vec<Asked> = signals.iter().map(|signal| asked(input, signal)).collect();
    let newest = until.checked_sub(span.window)?;
    let pods = pods(input, reader, &signals, newest).await?;
    let policy = Policy {
        history: until.duration_since(from),
        windows: usize::MAX,
        length: span.window,
        canary: vec![(SignedDuration::ZERO, input.playing(pods))],
        exclude: Vec::new(),
        seed: input.seed,
    };
    let mut learner = Learner::new(asked.clone(), policy, None, until);
    loop {
        let due: Vec<_> =
            learner.due().iter().map(|q| (q.text.to_owned(), q.from, q.until)).collect();
        if due.is_empty() {
            break;
        }
        let mut answers: BTreeMap<String, Vec<Line>> = BTreeMap::new();
        for (text, from, until) in &due {
            answers.insert(text.clone(), reader.series(text, *from, *until).await?);
        }
        for signal in signals.iter().filter(|signal| signal.complement) {
            turn_round(input, signal, &mut answers);
        }
        let lines = |(text, ..): &(String, _, _)| answers.get(text).cloned().unwrap_or_default();
        learner.take(due.iter().map(lines).collect());
        let (done, all) = learner.progress();
        progress(done, all);
    }
    let learnt = match learner.finish(until) {
        Ok(learnt) => learnt,
        Err(why) => return Ok(Err(why)),
    };
    Ok(taught(input, &signals, &asked, &learnt))
}

/// The terms of a release, at the wanted level or at the least that can be promised.
fn taught(
    input: &Input,
    signals: &[&Signal],
    asked: &[Asked],
    learnt: &Learnt,
) -> Result<Taught, String> {
    let wanted = asked.iter().zip(signals).map(|(asked, signal)| Wanted {
        key: &asked.key,
        comparison: &asked.comparison,
        tick: asked.tick,
        alone: signal.alone,
    });
    let wanted: Vec<Wanted<'_>> = wanted.collect();
    let windows = learnt.windows.len();
    let least = reachable(windows);
    let level = input.alpha.max(least * (1.0 + 1e-9));
    if level > WORST {
        return Err(format!(
            "{windows} windows promise a level of {} at best: give more --days or a shorter --window",
            percent(least)
        ));
    }
    let (terms, said) = terms(learnt, &wanted, level);
    let height = terms.height(None);
    if height == Height::Model {
        return Err(said);
    }
    let known = |signal: &&Signal| Comparison {
        history: terms.history(&signal.comparison, signal.alone),
        ..signal.comparison.clone()
    };
    let comparisons = signals.iter().map(known).collect();
    Ok(Taught { height, comparisons, level, windows, warm_up: terms.warm_up() })
}

fn asked(input: &Input, signal: &Signal) -> Asked {
    let query = |part: &usize| input.asked.get(*part).map(|asked| asked.query(&input.pod_label));
    Asked {
        key: signal.comparison.name.clone(),
        comparison: signal.comparison.clone(),
        tick: input.span.step,
        pod_label: input.pod_label.clone(),
        source: input.source.clone(),
        queries: signal.parts.iter().filter_map(query).collect(),
    }
}

/// The pods of the newest window.
async fn pods(
    input: &Input,
    reader: &Reader<'_>,
    signals: &[&Signal],
    from: Timestamp,
) -> anyhow::Result<usize> {
    let lines = reader.window(from).await?;
    let Some(signal) = signals.first() else { return Ok(0) };
    let parts: Vec<_> = signal.parts.iter().filter_map(|part| lines.get(*part).cloned()).collect();
    let slice = Slice::read(signal.comparison.kind, &parts, &input.pod_label);
    Ok(slice.map_or(0, |slice| slice.pods().len()))
}

/// Good events of all to bad events of all.
fn turn_round(input: &Input, signal: &Signal, answers: &mut BTreeMap<String, Vec<Line>>) {
    let texts: Vec<String> = asked(input, signal).queries;
    let [good, all] = texts.as_slice() else { return };
    let Some(totals) = answers.get(all).cloned() else { return };
    let Some(lines) = answers.get_mut(good) else { return };
    for line in lines {
        let Some(total) = totals.iter().find(|total| total.labels == line.labels) else { continue };
        let total: BTreeMap<Timestamp, f64> = total.points.iter().copied().collect();
        for (at, value) in &mut line.points {
            *value = (total.get(at).copied().unwrap_or(*value) - *value).max(0.0);
        }
    }
}
