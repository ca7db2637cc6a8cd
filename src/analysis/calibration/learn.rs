//! From windows of the past to what is learnt, one window at a time.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::guard::Guard;
use super::learnt::{Learnt, LeftOut, Metric};
use super::young::Young;
use crate::analysis::history::{Cut, Slice, Window, cut, replay, starts};
use crate::analysis::judge::sequential::{Comparison, History, Kind, Reading, point};
use crate::analysis::sample::Line;
use crate::analysis::source::Source;
use crate::spec::Recurring;
use crate::stats::conformal::pack;
use crate::stats::gauge::{difference, long_run_deviation, middle_mean};
use crate::stats::pods;
use crate::stats::rates::Arm;

/// Points of a stored path, at most: one a minute for an hour.
const POINTS: usize = 60;

/// Bytes of all stored paths, at most: an object of Kubernetes has 1 MiB, and base64 takes a third.
const BYTES: usize = 600_000;

/// Windows that are looked at for the noise of gauges: 96 batches of half an hour in as many of an hour.
const NOISE: usize = 48;

/// The length of a batch for the long-run deviation: longer than noise remembers.
const BATCH: SignedDuration = SignedDuration::from_mins(30);

/// One comparison of which something is learnt.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Tells it from others whatever its metric is called.
    pub key: String,
    /// What is compared.
    pub comparison: Comparison,
    /// Time between two ticks.
    pub tick: SignedDuration,
    /// The label that tells pods apart.
    pub pod_label: String,
    /// Whom to ask.
    pub source: Source,
    /// The queries of its parts, for all pods of the workload.
    pub queries: Vec<String>,
}

/// What is learnt from.
#[derive(Debug, Clone)]
pub struct Policy {
    /// How far back.
    pub history: SignedDuration,
    /// Windows, at most.
    pub windows: usize,
    /// How long a window is.
    pub length: SignedDuration,
    /// So many pods play the canary from so long after a window's start.
    pub canary: Vec<(SignedDuration, usize)>,
    /// Spans that are left out.
    pub exclude: Vec<Recurring>,
    /// Decides who plays the canary.
    pub seed: u64,
}

/// A range query.
#[derive(Debug, Clone, PartialEq)]
pub struct Question<'a> {
    /// Whom.
    pub source: &'a Source,
    /// What.
    pub text: &'a str,
    /// From when.
    pub from: Timestamp,
    /// To when.
    pub until: Timestamp,
    /// The distance between points.
    pub step: SignedDuration,
}

/// Learns. Ask [`Learner::due`], give the answers to [`Learner::take`], until nothing is due.
#[derive(Debug)]
pub struct Learner {
    asked: Vec<Asked>,
    policy: Policy,
    before: Option<Learnt>,
    starts: Vec<Timestamp>,
    /// Windows that are still looked at for the noise of gauges, before the first path.
    noise: Vec<Timestamp>,
    next: usize,
    gathered: Vec<Gathered>,
    kept: Vec<Timestamp>,
    /// Pods that have played the canary, and how many of a window were new.
    played: BTreeSet<String>,
    pods: Vec<usize>,
    /// The arms of each window where they are noisiest.
    arms: Vec<(u32, u32)>,
    left_out: BTreeMap<String, LeftOut>,
    broken: Option<String>,
}

/// What was gathered of one comparison.
#[derive(Debug, Default)]
struct Gathered {
    paths: Vec<Vec<u16>>,
    young: Young,
    taus: Vec<f64>,
    levels: Vec<Vec<(f64, f64)>>,
}

impl Learner {
    /// Begins. `before` is what was learnt the last time: it is what new windows are guarded against.
    #[must_use]
    pub fn new(asked: Vec<Asked>, policy: Policy, before: Option<Learnt>, now: Timestamp) -> Self {
        let tick = asked.iter().map(|asked| asked.tick).max().unwrap_or(SignedDuration::ZERO);
        let rule = Cut { canary: policy.canary.clone(), ..Cut::new(policy.length, tick, 0, 0) };
        let room = starts(now, policy.history, &rule, usize::MAX);
        let since = before.as_ref().and_then(|before| before.since);
        let end = |from: &Timestamp| from.saturating_add(policy.length).unwrap_or(*from);
        let usable: Vec<Timestamp> = room
            .into_iter()
            .filter(|from| since.is_none_or(|since| *from > since))
            .filter(|from| policy.exclude.iter().all(|span| !span.meets(*from, end(from))))
            .collect();
        let starts = evenly(&usable, policy.windows);
        let gauges = asked.iter().any(|asked| asked.comparison.kind == Kind::Gauge);
        let noise = if gauges { evenly(&starts, NOISE) } else { Vec::new() };
        let gathered = asked.iter().map(|_| Gathered::default()).collect();
        let asked = asked.into_iter().map(calibrated).collect();
        Self {
            asked,
            policy,
            before,
            starts,
            noise,
            next: 0,
            gathered,
            kept: Vec::new(),
            played: BTreeSet::new(),
            pods: Vec::new(),
            arms: Vec::new(),
            left_out: BTreeMap::new(),
            broken: None,
        }
    }

    /// Windows that were looked at, and all.
    #[must_use]
    pub fn progress(&self) -> (usize, usize) {
        (self.next, self.starts.len() + self.noise.len())
    }

    fn window(&self) -> Option<Timestamp> {
        if self.broken.is_some() {
            return None;
        }
        let first = self.next.checked_sub(self.noise.len());
        match first {
            None => self.noise.get(self.next).copied(),
            Some(at) => self.starts.get(at).copied(),
        }
    }

    fn is_noise(&self) -> bool {
        self.next < self.noise.len()
    }

    /// The queries of the next window; none: it is done.
    #[must_use]
    pub fn due(&self) -> Vec<Question<'_>> {
        let Some(from) = self.window() else { return Vec::new() };
        let until = from.saturating_add(self.policy.length).unwrap_or(from);
        let wanted = |asked: &&Asked| !self.is_noise() || asked.comparison.kind == Kind::Gauge;
        let all = self.asked.iter().filter(wanted).flat_map(|asked| {
            let Asked { tick, source, queries, .. } = asked;
            queries.iter().map(move |text| Question { source, text, from, until, step: *tick })
        });
        all.collect()
    }

    /// Takes the answers to [`Learner::due`], in its order.
    pub fn take(&mut self, answers: Vec<Vec<Line>>) {
        let Some(from) = self.window() else { return };
        let noise = self.is_noise();
        self.next += 1;
        let mut answers = answers.into_iter();
        let mut slices = Vec::with_capacity(self.asked.len());
        for asked in &self.asked {
            if noise && asked.comparison.kind != Kind::Gauge {
                slices.push(Slice::default());
                continue;
            }
            let parts: Vec<_> = answers.by_ref().take(asked.queries.len()).collect();
            match Slice::read(asked.comparison.kind, &parts, &asked.pod_label) {
                Ok(slice) => slices.push(slice),
                Err(error) => {
                    self.broken = Some(format!("{}: {error}", asked.comparison.name));
                    return;
                }
            }
        }
        if noise {
            self.take_noise(from, &slices)
        } else {
            self.take_path(from, &slices)
        }
        if self.next == self.noise.len() {
            self.learn_noise();
        }
    }

    fn rule(&self, asked: &Asked) -> Cut {
        let Policy { length, canary, seed, .. } = &self.policy;
        Cut { length: *length, tick: asked.tick, canary: canary.clone(), seed: *seed }
    }

    fn take_noise(&mut self, from: Timestamp, slices: &[Slice]) {
        for (i, slice) in slices.iter().enumerate() {
            let Some(asked) = self.asked.get(i).filter(|a| a.comparison.kind == Kind::Gauge) else {
                continue;
            };
            let cut = cut(std::slice::from_ref(slice), from, &self.rule(asked));
            if let (Ok(windows), Some(gathered)) = (cut, self.gathered.get_mut(i)) {
                gathered.levels.extend(windows.iter().map(levels));
            }
        }
    }

    fn learn_noise(&mut self) {
        for (asked, gathered) in self.asked.iter_mut().zip(&mut self.gathered) {
            if asked.comparison.kind == Kind::Gauge {
                let levels = std::mem::take(&mut gathered.levels);
                asked.comparison.history = Some(noise_of(&levels, asked.tick));
            }
        }
    }

    fn take_path(&mut self, from: Timestamp, slices: &[Slice]) {
        let mut windows = Vec::with_capacity(slices.len());
        for ((asked, slice), gathered) in self.asked.iter().zip(slices).zip(&mut self.gathered) {
            gathered.young.see(asked.comparison.kind, slice);
            let Policy { length, canary, seed, .. } = &self.policy;
            let rule =
                Cut { length: *length, tick: asked.tick, canary: canary.clone(), seed: *seed };
            windows.push(cut(std::slice::from_ref(slice), from, &rule));
        }
        let windows = match windows.into_iter().collect::<Result<Vec<_>, _>>() {
            Ok(windows) => windows.concat(),
            Err(why) => {
                let entry = self.left_out.entry(why.kind().to_owned());
                let entry = entry.or_insert_with(|| LeftOut { windows: 0, why: why.to_string() });
                entry.windows += 1;
                return;
            }
        };
        self.kept.push(from);
        let canary = windows.first().map(|window| window.canary.as_slice()).unwrap_or_default();
        let before = self.played.len();
        self.played.extend(canary.iter().cloned());
        self.pods.push(self.played.len() - before);
        self.arms.extend(windows.first().and_then(noisiest));
        let points = self.points();
        for ((asked, window), gathered) in self.asked.iter().zip(&windows).zip(&mut self.gathered) {
            let length = self.policy.length;
            let ticks = Cut::new(length, asked.tick, 0, 0).ticks();
            let path = replay(window, &asked.comparison, ticks);
            let each = points as f64 * asked.tick.as_secs_f64() / length.as_secs_f64();
            gathered.paths.push(highest(&path, points, each));
            gathered.taus.extend(tau(asked.comparison.kind, window));
        }
    }

    /// Points of each path, so that all of them can be kept.
    fn points(&self) -> usize {
        let paths = self.starts.len().max(1) * self.asked.len().max(1);
        (BYTES / 2 / paths).clamp(1, POINTS)
    }

    /// What was learnt.
    ///
    /// # Errors
    /// Why the history is of no use.
    pub fn finish(self, now: Timestamp) -> Result<Learnt, String> {
        if let Some(broken) = self.broken {
            return Err(broken);
        }
        let points = self.points();
        let length = self.policy.length;
        let Self { asked, starts, gathered, kept, pods, mut arms, left_out, before, .. } = self;
        arms.sort_by(|a, b| noise(*a).total_cmp(&noise(*b)));
        let left_out: Vec<LeftOut> = left_out.into_values().collect();
        if starts.is_empty() {
            return Err("no window of this length fits into the history".to_owned());
        }
        if kept.is_empty() {
            let told: Vec<_> = left_out.iter().map(ToString::to_string).collect();
            let tried = starts.len();
            return Err(format!("none of {tried} windows can be used: {}", told.join("; ")));
        }
        let warm_up = gathered.iter().filter_map(|of| of.young.warm_up()).max();
        let metrics = asked.into_iter().zip(gathered).map(|(asked, gathered)| {
            let History { deviation, level, .. } = asked.comparison.history.unwrap_or_default();
            let metric = Metric {
                name: asked.comparison.name,
                deviation,
                level,
                tau: median(gathered.taus),
                paths: gathered.paths,
            };
            (asked.key, metric)
        });
        let mut learnt = Learnt {
            learnt_at: now,
            length_seconds: length.as_secs(),
            points,
            windows: kept,
            pods,
            arms: arms.get(arms.len() / 2).copied(),
            left_out,
            warm_up_seconds: warm_up.map(|span| span.as_secs()),
            metrics: metrics.collect(),
            since: before.as_ref().and_then(|before| before.since),
            guard: Guard::default(),
            drift: None,
        };
        if let Some(before) = &before {
            learnt.guard_against(before);
        }
        Ok(learnt)
    }
}

/// As it is judged in a calibrated run.
fn calibrated(mut asked: Asked) -> Asked {
    asked.comparison.history.get_or_insert_default();
    asked
}

/// At most `most` of `all`, evenly spread, the first among them.
fn evenly(all: &[Timestamp], most: usize) -> Vec<Timestamp> {
    let count = all.len().min(most);
    (0..count).filter_map(|i| all.get(i * all.len() / count).copied()).collect()
}

/// The highest values of a path in each of `points` equal parts, of which a tick is `each`: a boundary
/// that is constant in each is crossed as by the path. A part without a tick is as the one before.
fn highest(path: &[f64], points: usize, each: f64) -> Vec<u16> {
    let mut parts: Vec<Option<f64>> = vec![None; points];
    for (tick, log_e) in path.iter().enumerate() {
        let part = point(tick, each).min(points.saturating_sub(1));
        if let Some(highest) = parts.get_mut(part) {
            *highest = Some(highest.unwrap_or(0.0).max(*log_e));
        }
    }
    let mut last = 0.0;
    let fill = |part: Option<f64>| {
        last = part.unwrap_or(last);
        pack(last)
    };
    parts.into_iter().map(fill).collect()
}

/// The levels of both arms at each tick that has them.
fn levels(window: &Window) -> Vec<(f64, f64)> {
    let middle = |reading: &Reading| {
        let values = reading.pods.values().filter_map(|pod| pod.values.first().copied());
        middle_mean(&mut values.filter(|level| level.is_finite()).collect::<Vec<_>>())
    };
    let both = window.ticks.iter();
    both.filter_map(|(_, tick)| middle(&tick.canary).zip(middle(&tick.stable))).collect()
}

/// The long-run deviation of the difference of the arms' levels: of their logarithms, or plain where one
/// of them is 0 or less.
fn noise_of(windows: &[Vec<(f64, f64)>], tick: SignedDuration) -> History {
    let batch = BATCH.as_secs_f64() / tick.as_secs_f64().max(1.0);
    let batch = (libm::round(batch) as usize).max(1);
    let positive = |(canary, stable): &(f64, f64)| *canary > 0.0 && *stable > 0.0;
    let logarithmic = windows.iter().flatten().all(positive);
    let flat: Vec<f64> = windows
        .iter()
        .flat_map(|window| window.iter().take(window.len() / batch * batch))
        .filter_map(|(canary, stable)| difference(*canary, *stable, logarithmic))
        .collect();
    let usual = || median(windows.iter().flatten().map(|(_, stable)| stable.abs()).collect());
    History {
        deviation: long_run_deviation(&flat, batch),
        level: if logarithmic { None } else { usual() },
        past: None,
    }
}

/// The noise of arms of so many pods, of which none is the noisiest.
fn noise((canary, stable): (u32, u32)) -> f64 {
    pods::floor(1.0, canary, stable)
}

/// The pods of both arms where their noise is largest.
fn noisiest(window: &Window) -> Option<(u32, u32)> {
    let count = |reading: &Reading| u32::try_from(reading.pods.len()).unwrap_or(u32::MAX);
    let arms = window.ticks.iter().map(|(_, tick)| (count(&tick.canary), count(&tick.stable)));
    let both = arms.filter(|(canary, stable)| *canary > 0 && *stable > 0);
    both.max_by(|a, b| noise(*a).total_cmp(&noise(*b)))
}

/// How much the window's pods differ, from what each did in it.
fn tau(kind: Kind, window: &Window) -> Option<f64> {
    if !matches!(kind, Kind::Ratio | Kind::Count { per: true }) {
        return None;
    }
    let (_, first) = window.ticks.first()?;
    let (_, last) = window.ticks.last()?;
    let arms = [(&first.canary, &last.canary), (&first.stable, &last.stable)];
    let grown = arms.iter().flat_map(|(first, last)| {
        last.pods.iter().filter_map(|(pod, end)| {
            let begin = first.pods.get(pod)?;
            let growth = |i: usize| Some(end.values.get(i)? - begin.values.get(i)?);
            let arm = Arm { bad: growth(0)?, exposure: growth(1)? };
            (arm.bad >= 0.0 && arm.exposure > 0.0).then_some(arm)
        })
    });
    pods::deviation(&grown.collect::<Vec<_>>())
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
