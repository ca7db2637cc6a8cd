//! Regressions put into a history: what the window would have looked like had the canary been worse.
//!
//! Errors times theta: each good request of the canary turns bad with the chance (theta - 1) b/(1 - b),
//! where b is the share of bad ones of all pods within five minutes. Then the canary's share is theta b, and
//! binomial, as if the version had been that bad. Copying bad events would give the same mean with twice
//! the variance at theta = 2. Events without a number of good ones get Poisson many more of their own
//! rate. Fewer errors are a thinning. Latency: every request is slower by the same factor; requests move
//! to higher buckets one by one, spread evenly inside the bucket they were in, as
//! `histogram_quantile` takes them. A gauge is multiplied.
//!
//! Counters stay whole and rise; a reset stays one. The stable arm is as it was.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::chance::Draw;
use crate::analysis::history::Window;
use crate::analysis::judge::sequential::{Grown, Kind, PodReading};
use crate::analysis::sample::Line;

/// The share of bad events is that of so long around.
const AROUND: SignedDuration = SignedDuration::from_mins(5);

/// A window with a worse canary.
#[derive(Debug, Clone)]
pub struct Injected {
    /// The window.
    pub window: Window,
    /// Events that are bad and would not have been, since the start, tick by tick.
    pub extra: Vec<(Timestamp, f64)>,
    /// What was added to each part of each pod's values.
    added: BTreeMap<String, BTreeMap<Timestamp, Vec<f64>>>,
}

/// The increments of pods, by the rule of the sequential judge.
#[derive(Debug, Default)]
struct Steps(BTreeMap<String, Vec<f64>>);

impl Steps {
    fn next(&mut self, kind: Kind, pod: &str, reading: &PodReading) -> Option<Grown> {
        let values = &reading.values;
        let last = self.0.get(pod).filter(|last| last.len() == values.len());
        let step = last.map(|last| Grown::since(kind, last, values));
        if step != Some(None) {
            self.0.insert(pod.to_owned(), values.clone());
        }
        step?
    }
}

/// Makes the canary of `window` worse, `times` as much.
#[must_use]
pub fn inject(window: &Window, kind: Kind, times: f64, draw: &mut Draw) -> Injected {
    let rates = match kind {
        Kind::Ratio | Kind::Count { .. } => rates(window, kind),
        Kind::Histogram | Kind::Gauge => Vec::new(),
    };
    let (mut steps, mut sums) = (Steps::default(), BTreeMap::<String, Vec<f64>>::new());
    let mut injected = Injected {
        window: window.clone(),
        extra: Vec::with_capacity(window.ticks.len()),
        added: BTreeMap::new(),
    };
    let mut extra = 0.0;
    for (at, (when, tick)) in injected.window.ticks.iter_mut().enumerate() {
        let bounds = tick.canary.bounds.clone();
        for (pod, reading) in &mut tick.canary.pods {
            let width = reading.values.len();
            let step = steps.next(kind, pod, reading).unwrap_or_default();
            let more = match kind {
                Kind::Gauge => reading.values.iter().map(|value| value * (times - 1.0)).collect(),
                Kind::Histogram => moved(&bounds, &step.parts, times, draw),
                Kind::Ratio | Kind::Count { .. } => {
                    let rate = rates.get(at).copied().unwrap_or(0.0);
                    let more = worse(kind, &step.parts, rate, times, draw);
                    extra += more;
                    vec![more]
                }
            };
            let sum = sums.entry(pod.clone()).or_default();
            let anew = step.reset && step.parts.first() == reading.values.first();
            if anew || kind == Kind::Gauge {
                sum.clear();
            }
            sum.resize(width, 0.0);
            sum.iter_mut().zip(&more).for_each(|(sum, more)| *sum += more);
            reading.values.iter_mut().zip(&*sum).for_each(|(value, sum)| *value += sum);
            let pod = injected.added.entry(pod.clone()).or_default();
            pod.insert(*when, sum.clone());
        }
        injected.extra.push((*when, extra));
    }
    injected
}

/// How many more events of a pod are bad.
fn worse(kind: Kind, parts: &[f64], rate: f64, times: f64, draw: &mut Draw) -> f64 {
    let Some(bad) = parts.first().copied() else { return 0.0 };
    if times < 1.0 {
        return -draw.binomial(bad, 1.0 - times);
    }
    match (kind, parts) {
        (Kind::Ratio, [bad, total]) => draw.binomial(total - bad, chance_to_turn(rate, times)),
        (_, [_, exposure]) => draw.poisson((times - 1.0) * rate * exposure),
        _ => draw.poisson((times - 1.0) * rate),
    }
}

/// The chance with which a good request turns bad, so that `share` becomes `times` as much.
pub(super) fn chance_to_turn(share: f64, times: f64) -> f64 {
    if share < 1.0 { ((times - 1.0) * share / (1.0 - share)).min(1.0) } else { 0.0 }
}

/// The rate of bad events of all pods around each tick: of requests, or of pods and ticks.
fn rates(window: &Window, kind: Kind) -> Vec<f64> {
    let mut steps = Steps::default();
    let mut seen: Vec<(f64, f64)> = Vec::with_capacity(window.ticks.len());
    for (_, tick) in &window.ticks {
        let mut sum = (0.0, 0.0);
        for (pod, reading) in tick.canary.pods.iter().chain(&tick.stable.pods) {
            let Some(step) = steps.next(kind, pod, reading) else { continue };
            let bad = step.parts.first().copied().unwrap_or(0.0);
            let exposure = match kind {
                Kind::Count { per: false } => 1.0,
                _ => step.parts.get(1).copied().unwrap_or(0.0),
            };
            sum = (sum.0 + bad, sum.1 + exposure);
        }
        seen.push(sum);
    }
    let reach = (AROUND.as_secs_f64() / window.tick.as_secs_f64().max(1.0)).round() as usize;
    (0..seen.len())
        .map(|at| {
            let around = seen.iter().skip(at.saturating_sub(reach)).take(2 * reach + 1);
            let (bad, exposure) = around.fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1));
            if exposure > 0.0 { bad / exposure } else { 0.0 }
        })
        .collect()
}

/// What slower requests add to the cumulative buckets (never above 0 for slower ones).
pub(super) fn moved(bounds: &[f64], cumulative: &[f64], times: f64, draw: &mut Draw) -> Vec<f64> {
    let mut counts = vec![0.0; cumulative.len()];
    let (mut low, mut below) = (0.0, 0.0);
    for (at, (high, sum)) in bounds.iter().zip(cumulative).enumerate() {
        let mut left = (sum - below).max(0.0);
        // Of what is still to be placed, the share that ends up in each bucket.
        let mut start = low * times;
        let end = high * times;
        for (to, bound) in bounds.iter().enumerate() {
            if left <= 0.0 {
                break;
            }
            if *bound <= start && bound.is_finite() {
                continue;
            }
            let here = if end.is_infinite() || *bound >= end {
                // The last bucket has no upper end, so nothing can be said of where it goes.
                if high.is_infinite() && to != at { 0.0 } else { left }
            } else {
                draw.binomial(left, (bound - start) / (end - start))
            };
            if let Some(count) = counts.get_mut(to) {
                *count += here;
            }
            left -= here;
            start = start.max(*bound);
        }
        (low, below) = (*high, *sum);
    }
    let mut sum = 0.0;
    counts
        .iter()
        .zip(cumulative)
        .map(|(count, before)| {
            sum += count;
            sum - before
        })
        .collect()
}

/// What a selector of a rule reads of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feed {
    /// Bad events.
    Bad,
    /// Good events: what turns bad is missing in them.
    Good,
    /// Buckets.
    Buckets,
    /// A level.
    Level,
}

impl Injected {
    /// Events that are bad and would not have been, up to `at`.
    #[must_use]
    pub fn extra_until(&self, at: Timestamp) -> f64 {
        let before = self.extra.iter().take_while(|(when, _)| *when <= at);
        before.last().map_or(0.0, |(_, extra)| *extra)
    }

    /// The raw series of a rule's selector as they would have been. What is added goes to the pod's
    /// series with most in it; a pod without any gets one.
    #[must_use]
    pub fn feed(&self, lines: &[Line], feed: Feed, pod_label: &str) -> Vec<Line> {
        let mut lines = lines.to_vec();
        for (pod, added) in &self.added {
            let of_pod = |line: &Line| line.labels.get(pod_label) == Some(pod);
            match feed {
                Feed::Bad | Feed::Good => {
                    let sign = if feed == Feed::Bad { 1.0 } else { -1.0 };
                    let last = |line: &Line| line.points.last().map_or(0.0, |(_, value)| *value);
                    let of_pod = lines.iter().enumerate().filter(|(_, line)| of_pod(line));
                    let fullest = of_pod.max_by(|a, b| last(a.1).total_cmp(&last(b.1)));
                    let fullest = fullest.map(|(at, _)| at);
                    match fullest.and_then(|at| lines.get_mut(at)) {
                        Some(line) => add(line, added, |parts| parts.first().map(|p| sign * p)),
                        None if feed == Feed::Bad => lines.push(self.fresh(pod, pod_label, added)),
                        None => {}
                    }
                }
                Feed::Level => {
                    for line in lines.iter_mut().filter(|line| of_pod(line)) {
                        add(line, added, |parts| parts.first().copied());
                    }
                }
                Feed::Buckets => {
                    for line in lines.iter_mut().filter(|line| of_pod(line)) {
                        let bound = line.labels.get("le").and_then(|le| le.parse::<f64>().ok());
                        let place = bound.and_then(|bound| self.place(bound));
                        if let Some(place) = place {
                            add(line, added, |parts| parts.get(place).copied());
                        }
                    }
                }
            }
        }
        lines
    }

    fn place(&self, bound: f64) -> Option<usize> {
        let (_, tick) = self.window.ticks.first()?;
        tick.canary.bounds.iter().position(|known| *known == bound)
    }

    fn fresh(&self, pod: &str, label: &str, added: &BTreeMap<Timestamp, Vec<f64>>) -> Line {
        let points = added.iter().filter_map(|(at, parts)| Some((*at, *parts.first()?)));
        let labels = BTreeMap::from([(label.to_owned(), pod.to_owned())]);
        Line { labels, points: points.collect() }
    }
}

/// Adds at the times that are known; from the last of them on what was added stays.
fn add(line: &mut Line, added: &BTreeMap<Timestamp, Vec<f64>>, of: impl Fn(&[f64]) -> Option<f64>) {
    for (at, value) in &mut line.points {
        if let Some(more) = added.get(at).and_then(|parts| of(parts)) {
            *value = (*value + more).max(0.0);
        }
    }
}
