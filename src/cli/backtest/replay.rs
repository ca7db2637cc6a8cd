//! All judges on one window after another, and what is counted of it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::anyhow;
use jiff::{SignedDuration, Timestamp};

use super::asker::Asker;
use super::input::{Change, Counted, Input, Limits};
use super::learn::Taught;
use crate::analysis::Line;
use crate::analysis::backtest::kayenta::{Config, Looks};
use crate::analysis::backtest::limits::Ended;
use crate::analysis::backtest::ours::{Played, Said, replay};
use crate::analysis::backtest::{Draw, Feed, Injected, Signal, Tally, inject, limits};
use crate::analysis::history::{Cut, Slice, Unusable, Window, cut};
use crate::analysis::judge::sequential::{Comparison, Kind, ReadingError, Rules};

/// How often Kayenta looks, beside once.
const LOOKS: SignedDuration = SignedDuration::from_mins(5);

/// Paths that are kept for the plot.
const SHOWN: usize = 30;

/// Windows of each kind whose evidence is kept.
const KEPT: usize = 2_000;

/// A judge and what came of it.
pub(super) struct Row {
    pub(super) who: Who,
    pub(super) unchanged: Tally,
    /// Good releases that it has shown to be harmless.
    pub(super) passed: Option<Tally>,
    /// Good releases of which it could not tell.
    pub(super) inconclusive: Option<Tally>,
    /// One for each change; none where it does not see the change.
    pub(super) changed: Vec<Option<Tally>>,
}

/// The judges.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Who {
    Ours,
    Calibrated,
    Kayenta(Looks),
    /// By their place among the limits.
    Limits(usize),
}

/// The state of a backtest.
pub(super) struct Bench<'a> {
    input: &'a Input,
    kayenta: Option<Config>,
    compared: Vec<Comparison>,
    rules: Rules,
    pub(super) rows: Vec<Row>,
    pub(super) used: usize,
    pub(super) left_out: BTreeMap<&'static str, usize>,
    pub(super) pods: Option<(usize, usize)>,
    /// The series have no pods, so that limits are judged on all traffic and nothing is compared.
    pub(super) podless: bool,
    pub(super) taught: Option<Taught>,
    pub(super) drawn: Drawn,
    pub(super) volumes: Vec<(f64, f64)>,
    seconds: f64,
}

/// Paths of ln E for the plot.
#[derive(Default)]
pub(super) struct Drawn {
    pub(super) unchanged: Vec<Vec<f64>>,
    /// Of the first change: minutes to the rollback, and the path.
    pub(super) changed: Vec<(f64, Vec<f64>)>,
}

/// A window as one kind of world.
struct World<'w> {
    /// Of each signal.
    windows: Vec<Window>,
    /// Of the signals that are compared.
    compared: Vec<Window>,
    injected: BTreeMap<usize, Injected>,
    lines: &'w [Vec<Line>],
    canary: &'w BTreeSet<&'w str>,
    from: Timestamp,
    until: Timestamp,
}

impl<'a> Bench<'a> {
    /// Ready for the first window.
    ///
    /// # Errors
    /// When Kayenta's config cannot be used.
    pub(super) fn new(input: &'a Input, taught: Option<Taught>) -> anyhow::Result<Self> {
        let compared: Vec<Comparison> =
            compared(input).map(|(_, signal)| signal.comparison.clone()).collect();
        let any = !compared.is_empty();
        let kayenta = any.then(|| Config::of(input.kayenta.as_ref(), &compared)).transpose()?;
        let mut who = Vec::new();
        if any {
            who.push(Who::Ours);
            who.extend(taught.is_some().then_some(Who::Calibrated));
            who.extend([Who::Kayenta(Looks::Once), Who::Kayenta(Looks::Each(LOOKS))]);
        }
        who.extend((0..input.limits.len()).map(Who::Limits));
        let row = |who: Who| Row {
            changed: input
                .changes
                .iter()
                .map(|c| sees(input, &who, c).then(Tally::default))
                .collect(),
            passed: matches!(who, Who::Ours | Who::Calibrated).then(Tally::default),
            inconclusive: can_be_open(input, &who).then(Tally::default),
            unchanged: Tally::default(),
            who,
        };
        Ok(Self {
            kayenta,
            rules: Rules::level(input.alpha),
            rows: who.into_iter().map(row).collect(),
            used: 0,
            left_out: BTreeMap::new(),
            pods: None,
            podless: false,
            drawn: Drawn::default(),
            volumes: vec![(0.0, 0.0); input.signals.len()],
            seconds: 0.0,
            compared,
            taught,
            input,
        })
    }

    /// Requests a second and the share of bad ones of each signal, where it counts them.
    pub(super) fn volume(&self, signal: usize) -> Option<(f64, f64)> {
        let (bad, total) = self.volumes.get(signal)?;
        (*total > 0.0 && self.seconds > 0.0).then(|| (total / self.seconds, bad / total))
    }

    /// Takes the window that starts at `from`; `learning`: it is in the first half.
    ///
    /// # Errors
    /// When the series are not what the template says.
    pub(super) fn window(
        &mut self,
        from: Timestamp,
        lines: &[Vec<Line>],
        learning: bool,
    ) -> anyhow::Result<()> {
        let windows = match self.cut(from, lines)? {
            Ok(windows) => windows,
            Err(why) => {
                *self.left_out.entry(why).or_default() += 1;
                return Ok(());
            }
        };
        self.used += 1;
        let names = windows.first().map(|window| window.canary.clone()).unwrap_or_default();
        let canary: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        let until = from.saturating_add(self.input.span.window).unwrap_or(from);
        let signals = if self.input.signals.is_empty() { Vec::new() } else { windows };
        self.measure(&signals);
        let world = World {
            compared: self.compared_of(&signals),
            windows: signals,
            injected: BTreeMap::new(),
            lines,
            canary: &canary,
            from,
            until,
        };
        self.judge(None, &world, learning);
        let changes = if self.podless { 0 } else { self.input.changes.len() };
        for at in 0..changes {
            let Some(change) = self.input.changes.get(at) else { continue };
            let world = self.worse(at, change, &world);
            self.judge(Some(at), &world, learning);
        }
        Ok(())
    }

    /// One window of each signal with one canary, or why it is left out.
    fn cut(
        &mut self,
        from: Timestamp,
        lines: &[Vec<Line>],
    ) -> anyhow::Result<Result<Vec<Window>, &'static str>> {
        let Input { span, signals, pod_label, .. } = self.input;
        let none = Vec::new();
        let of = |place: &usize| lines.get(*place).unwrap_or(&none).clone();
        let read = |signal: &Signal| {
            let parts: Vec<_> = signal.parts.iter().map(of).collect();
            Slice::read(signal.comparison.kind, &parts, pod_label)
        };
        let slices: Result<Vec<Slice>, ReadingError> = match signals.is_empty() {
            true => Slice::read(Kind::Gauge, &[of(&0)], pod_label).map(|slice| vec![slice]),
            false => signals.iter().map(read).collect(),
        };
        let slices = match slices {
            Ok(slices) => slices,
            // Limits can be asked of all traffic together; there is nobody to compare it with.
            Err(ReadingError::NoPod(_)) if !self.input.limits.is_empty() => {
                self.podless = true;
                return Ok(Ok(Vec::new()));
            }
            Err(error) => {
                return Err(anyhow!("{error}").context("reading the history: try --pod-label"));
            }
        };
        let pods = slices.iter().map(|slice| slice.pods().len()).min().unwrap_or(0);
        if pods == 0 {
            return Ok(Err("no series"));
        }
        let rule = Cut::new(span.window, span.step, self.input.playing(pods), self.input.seed);
        let mut windows = match cut(&slices, from, &rule) {
            Ok(windows) => windows,
            Err(Unusable::Gaps { .. }) => return Ok(Err("gaps in the series")),
            Err(Unusable::Release { .. }) => return Ok(Err("a release was going on")),
            Err(Unusable::Pods { .. }) => return Ok(Err("too few pods for two arms")),
        };
        for (signal, window) in signals.iter().zip(&mut windows) {
            signal.finish(window);
        }
        let (low, high) = self.pods.unwrap_or((pods, pods));
        self.pods = Some((low.min(pods), high.max(pods)));
        Ok(Ok(windows))
    }

    /// Adds up what was asked and what was bad.
    fn measure(&mut self, windows: &[Window]) {
        for (window, volume) in windows.iter().zip(&mut self.volumes) {
            let (Some((_, first)), Some((_, last))) = (window.ticks.first(), window.ticks.last())
            else {
                continue;
            };
            let arms = [(&first.canary, &last.canary), (&first.stable, &last.stable)];
            for (first, last) in arms {
                for (pod, after) in &last.pods {
                    let Some(before) = first.pods.get(pod) else { continue };
                    if let ([bad, total], [bad_then, total_then]) =
                        (after.values.as_slice(), before.values.as_slice())
                        && bad >= bad_then
                        && total >= total_then
                    {
                        *volume = (volume.0 + bad - bad_then, volume.1 + total - total_then);
                    }
                }
            }
        }
        self.seconds += self.input.span.window.as_secs_f64();
    }

    /// The same window with a worse canary.
    fn worse<'w>(&self, at: usize, change: &Change, world: &World<'w>) -> World<'w> {
        let mut worse = World {
            windows: world.windows.clone(),
            compared: Vec::new(),
            injected: BTreeMap::new(),
            ..*world
        };
        for target in &change.targets {
            let (Some(window), Some(signal)) =
                (worse.windows.get_mut(*target), self.input.signals.get(*target))
            else {
                continue;
            };
            let second = world.from.as_second().unsigned_abs();
            // One stream for all signals: where two read the same requests, the same turn bad.
            let mut draw = Draw::of(self.input.seed, &[second, at as u64]);
            let injected = inject(window, signal.comparison.kind, change.times, &mut draw);
            *window = injected.window.clone();
            worse.injected.insert(*target, injected);
        }
        worse.compared = self.compared_of(&worse.windows);
        worse
    }

    fn compared_of(&self, windows: &[Window]) -> Vec<Window> {
        compared(self.input).filter_map(|(at, _)| windows.get(at).cloned()).collect()
    }

    fn judge(&mut self, change: Option<usize>, world: &World<'_>, learning: bool) {
        let mut rows = std::mem::take(&mut self.rows);
        for row in &mut rows {
            let minutes = |at: Timestamp| at.duration_since(world.from).as_secs_f64() / 60.0;
            let Some(said) = self.ask(&row.who, change, world, learning) else { continue };
            let rolled_back = said.failed.map(minutes);
            let end = said.failed.unwrap_or(world.until);
            match change {
                None => {
                    row.unchanged.count(rolled_back, None);
                    if let Some(passed) = &mut row.passed {
                        passed.count(said.passed.map(minutes), None);
                    }
                    if let Some(inconclusive) = &mut row.inconclusive {
                        inconclusive.count(said.inconclusive.map(minutes), None);
                    }
                }
                Some(change) => {
                    if let Some(Some(tally)) = row.changed.get_mut(change) {
                        tally.count(rolled_back, self.excess(world, end));
                    }
                }
            }
        }
        self.rows = rows;
    }

    /// Bad requests that there would not have been, up to `end`; where requests are counted.
    fn excess(&self, world: &World<'_>, end: Timestamp) -> Option<f64> {
        let ratio = |(at, injected): (&usize, &Injected)| {
            let signal = self.input.signals.get(*at)?;
            let counted = signal.compared && signal.comparison.kind == Kind::Ratio;
            counted.then(|| injected.extra_until(end))
        };
        world.injected.iter().filter_map(ratio).reduce(|a, b| a + b)
    }

    /// What a judge says of a world; none when it is not asked.
    fn ask(
        &mut self,
        who: &Who,
        change: Option<usize>,
        world: &World<'_>,
        learning: bool,
    ) -> Option<Said> {
        if self.podless && !matches!(who, Who::Limits(_)) {
            return None;
        }
        match who {
            Who::Ours => Some(self.ours(change, world)),
            Who::Calibrated => (!learning).then(|| self.calibrated(world)).flatten(),
            Who::Kayenta(looks) => {
                let config = self.kayenta.as_ref()?;
                let compared = &self.compared;
                let failed = config.replay(&world.compared, compared, *looks);
                Some(Said { failed, ..Said::default() })
            }
            Who::Limits(at) => {
                let limits = self.input.limits.get(*at)?;
                if change
                    .is_some_and(|c| !self.input.changes.get(c).is_some_and(|c| touched(limits, c)))
                {
                    return None;
                }
                let ended = limited(limits, world, &self.input.pod_label);
                let inconclusive = ended.held.then_some(world.until);
                Some(Said { failed: ended.failed, inconclusive, ..Said::default() })
            }
        }
    }

    fn ours(&mut self, change: Option<usize>, world: &World<'_>) -> Said {
        let compared = &self.compared;
        let rules = Rules { ends: Some(world.until), ..self.rules.clone() };
        let said = replay(&self.played(world, compared, None), &rules);
        match change {
            None if self.drawn.unchanged.len() < SHOWN => {
                self.drawn.unchanged.push(said.path.clone());
            }
            Some(0) if self.drawn.changed.len() < KEPT => {
                let minutes = said
                    .failed
                    .map_or(f64::INFINITY, |at| at.duration_since(world.from).as_secs_f64() / 60.0);
                self.drawn.changed.push((minutes, said.path.clone()));
            }
            None | Some(_) => {}
        }
        said
    }

    fn calibrated(&self, world: &World<'_>) -> Option<Said> {
        let taught = self.taught.as_ref()?;
        let height = taught.height.clone();
        let rules = Rules { ends: Some(world.until), height, ..self.rules.clone() };
        Some(replay(&self.played(world, &taught.comparisons, taught.warm_up), &rules))
    }

    fn played<'w>(
        &'w self,
        world: &'w World<'_>,
        of: &'w [Comparison],
        learnt: Option<SignedDuration>,
    ) -> Vec<Played<'w>> {
        let signals = compared(self.input).map(|(_, signal)| signal);
        Played::deciding(signals, of, &world.compared, learnt)
    }

    /// The height at each tick of the judge without a history.
    pub(super) fn boundary(&self) -> f64 {
        self.rules.at(0)
    }
}

/// The signals that judges compare.
pub(super) fn compared(input: &Input) -> impl Iterator<Item = (usize, &Signal)> {
    input.signals.iter().enumerate().filter(|(_, signal)| signal.compared)
}

/// Whether a judge has a third answer: that it cannot tell, or that it had no data.
fn can_be_open(input: &Input, who: &Who) -> bool {
    match who {
        Who::Ours | Who::Calibrated => true,
        Who::Kayenta(_) => false,
        Who::Limits(at) => {
            let limits = input.limits.get(*at);
            limits.is_some_and(|limits| matches!(limits.counted, Counted::Template(_)))
        }
    }
}

/// Whether a change can be seen by a judge at all.
fn sees(input: &Input, who: &Who, change: &Change) -> bool {
    match who {
        Who::Ours | Who::Calibrated | Who::Kayenta(_) => {
            compared(input).any(|(at, _)| change.targets.contains(&at))
        }
        Who::Limits(at) => input.limits.get(*at).is_some_and(|limits| touched(limits, change)),
    }
}

fn touched(limits: &Limits, change: &Change) -> bool {
    limits.feeds.iter().any(|(_, signal, _)| change.targets.contains(signal))
}

/// What limits would have done to a world.
fn limited(limits: &Limits, world: &World<'_>, pod_label: &str) -> Ended {
    let mut fed: BTreeMap<usize, Vec<Line>> = BTreeMap::new();
    for (asked, signal, feed) in &limits.feeds {
        let feed: &Feed = feed;
        if let (Some(injected), Some(lines)) = (world.injected.get(signal), world.lines.get(*asked))
        {
            fed.insert(*asked, injected.feed(lines, *feed, pod_label));
        }
    }
    let lines = |asked: usize| match fed.get(&asked) {
        Some(lines) => lines.as_slice(),
        None => world.lines.get(asked).map_or(&[] as &[Line], Vec::as_slice),
    };
    let asker = Asker::new(&limits.rules, lines, pod_label, world.canary);
    let (from, until) = (world.from, world.until);
    match &limits.counted {
        Counted::Template(checked) => limits::template(checked, from, until, |question| {
            let rules = limits.rules.get(question.metric);
            match rules.and_then(|rules| rules.get(question.query)) {
                Some(rule) => asker.outcome(rule, question),
                None => crate::analysis::Sample::Empty.into(),
            }
        }),
        // To Flagger no value is one that is out of range.
        Counted::Flagger(checks) => {
            let failed = limits::flagger(checks, from, until, |place, at| {
                let rule = limits.rules.get(place).and_then(|rules| rules.first());
                let answer = rule.map(|rule| asker.sample(rule, at));
                answer.and_then(Result::ok).unwrap_or(crate::analysis::Sample::Empty)
            });
            Ended { failed, held: false }
        }
    }
}
