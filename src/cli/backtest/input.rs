//! From files and words to what is read and who judges it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, anyhow, bail};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::args::Backtest;
use super::{flagger, kayenta};
use crate::analysis::arms::Arm;
use crate::analysis::backtest::limits::Checks;
use crate::analysis::backtest::rule::mark;
use crate::analysis::backtest::signal::comparison;
use crate::analysis::backtest::{Asked, Feed, Rule, Signal};
use crate::analysis::judge::kayenta::CanaryConfig;
use crate::analysis::judge::sequential::Kind;
use crate::analysis::metric::{self, Checked, CheckedMetric};
use crate::analysis::{Ask, ReleaseContext, Sample, Source, build_run, flatten};
use crate::api::analysis::{NoData, OnError};
use crate::api::analysis_run::RunRelease;
use crate::api::{AnalysisTemplateSpec, DurationSpec};
use crate::cli::analyze::input::{
    Template, catalog, check, instant, objects, root, secrets, templates, text, values,
};
use crate::cli::files;
use crate::providers::{Catalog, Server};
use crate::spec::{AnalysisStanza, TemplateRef};

/// Between two points where nothing says otherwise: Prometheus' usual scrape interval.
const STEP: SignedDuration = SignedDuration::from_secs(15);

/// What is read and who judges it.
pub(super) struct Input {
    pub(super) name: String,
    pub(super) span: Span,
    pub(super) pod_label: String,
    pub(super) canary: f64,
    pub(super) alpha: f64,
    pub(super) seed: u64,
    pub(super) rate: u32,
    /// Everything that is read.
    pub(super) asked: Vec<Asked>,
    pub(super) signals: Vec<Signal>,
    pub(super) changes: Vec<Change>,
    pub(super) limits: Vec<Limits>,
    pub(super) kayenta: Option<CanaryConfig>,
    pub(super) source: Source,
    pub(super) namespace: String,
    pub(super) catalog: Catalog,
    /// What cannot be replayed, and why.
    pub(super) notes: Vec<String>,
}

/// The history.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) until: Timestamp,
    pub(super) history: SignedDuration,
    pub(super) window: SignedDuration,
    pub(super) step: SignedDuration,
    /// How far before a window rules look, in whole steps.
    pub(super) lead: SignedDuration,
}

/// A regression.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Change {
    pub(super) name: String,
    pub(super) times: f64,
    /// The signals that become worse.
    pub(super) targets: Vec<usize>,
}

/// Limits of a user's own, and the queries that they look at.
pub(super) struct Limits {
    pub(super) name: String,
    pub(super) counted: Counted,
    /// Of each metric.
    pub(super) rules: Vec<Vec<Rule>>,
    /// What each series of all rules reads of the signals: asked, signal, how.
    pub(super) feeds: Vec<(usize, usize, Feed)>,
}

/// Who counts.
pub(super) enum Counted {
    Template(Box<Checked>),
    Flagger(Checks),
}

/// What is gathered on the way.
#[derive(Default)]
struct Gathered {
    asked: Vec<Asked>,
    signals: Vec<Signal>,
    limits: Vec<Limits>,
    notes: Vec<String>,
    sources: BTreeSet<Source>,
    step: Option<SignedDuration>,
    risk: Option<f64>,
    /// The files or words compare something: then that is what a release would compare.
    compares: bool,
}

impl Input {
    /// Reads files and words.
    ///
    /// # Errors
    /// Anything that keeps the history from being read, with what to write.
    pub(super) fn read(args: &Backtest, now: Timestamp) -> anyhow::Result<Self> {
        let objects = objects(&files::read(&args.filename)?)?;
        let mut gathered = Gathered::default();
        let own = own_series(args, &mut gathered)?;
        let templates = templates(&objects)?;
        let (words, flagger) = split_words(&args.args, &templates)?;
        let mut names = Vec::new();
        let mut namespace = "default".to_owned();
        let mut held = Catalog::default();
        let canaries = flagger::canaries(&objects, &flagger)?;
        if !templates.is_empty() || canaries.is_empty() && !own {
            let root = root(&templates, args.template.as_deref())?;
            names.push(root.reference.name.clone());
            namespace = root.namespace.clone().unwrap_or(namespace);
            held = catalog(&objects, &namespace, None);
            template(args, &templates, root, &objects, &words, &mut gathered)?;
        }
        for canary in canaries {
            names.push(canary.name.clone());
            flagger_limits(args, canary, &mut gathered);
        }
        if gathered.signals.is_empty() && gathered.limits.is_empty() {
            bail!(
                "nothing can be replayed: {}; name the counters with --bad and --total",
                gathered.notes.join("; ")
            );
        }
        let step = match args.step {
            Some(step) => SignedDuration::try_from(step)?,
            None => gathered.step.unwrap_or(STEP),
        };
        let span = span(args, now, step, &gathered.limits)?;
        let source = source(args, &gathered.sources)?;
        feeds(&mut gathered);
        let name = if names.is_empty() { "history".to_owned() } else { names.join(", ") };
        Ok(Self {
            name,
            span,
            pod_label: args.pod_label.clone(),
            canary: share("--canary", args.canary)?,
            alpha: share("--alpha", args.alpha.or(gathered.risk).unwrap_or(0.01))?,
            seed: args.seed,
            rate: args.rate,
            changes: changes(&args.inject, &gathered.signals)?,
            asked: gathered.asked,
            signals: gathered.signals,
            limits: gathered.limits,
            kayenta: canary_config(args)?,
            source,
            namespace,
            catalog: held,
            notes: gathered.notes,
        })
    }
}

impl Input {
    /// So many of the pods play the canary.
    pub(super) fn playing(&self, pods: usize) -> usize {
        (pods as f64 * self.canary).round().max(1.0) as usize
    }
}

fn share(name: &str, value: f64) -> anyhow::Result<f64> {
    if value > 0.0 && value < 1.0 {
        return Ok(value);
    }
    bail!("{name} {value}: must be above 0% and below 100%")
}

/// The series of `--bad`, `--total` and `--latency`; whether there are any.
fn own_series(args: &Backtest, gathered: &mut Gathered) -> anyhow::Result<bool> {
    let label = &args.pod_label;
    let all = &mut gathered.asked;
    if let (Some(bad), Some(total)) = (&args.bad, &args.total) {
        let of = comparison("errors", Kind::Ratio);
        let signal = Signal::raw(of, &[bad, total], label, all).context("--bad and --total")?;
        gathered.signals.push(signal);
    }
    if let Some(buckets) = &args.latency {
        let of = comparison("latency", Kind::Histogram);
        gathered.signals.push(Signal::raw(of, &[buckets], label, all).context("--latency")?);
    }
    gathered.compares = !gathered.signals.is_empty();
    Ok(gathered.compares)
}

/// The words for templates, and those for Flagger's queries.
fn split_words(
    words: &[String],
    templates: &[Template],
) -> anyhow::Result<(Vec<String>, BTreeMap<String, String>)> {
    let (mut ours, mut flagger) = (Vec::new(), BTreeMap::new());
    for word in words {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        let declared = templates.iter().flat_map(|t| &t.spec.args).any(|arg| arg.name == name);
        if !declared && flagger::NAMES.contains(&name) {
            flagger.insert(name.to_owned(), value.to_owned());
        } else if templates.is_empty() {
            bail!("--arg {word:?}: Flagger's queries know {}", flagger::NAMES.join(", "));
        } else {
            ours.push(word.clone());
        }
    }
    Ok((ours, flagger))
}

/// The words, and for arguments that name a version the mark of its arm.
fn marked(args: &Backtest, words: &[String]) -> Vec<String> {
    let of = |names: &[String], arm: Arm| -> Vec<String> {
        names.iter().map(|name| format!("{name}={}", mark(arm))).collect()
    };
    let marks = [of(&args.canary_arg, Arm::Canary), of(&args.stable_arg, Arm::Stable)];
    [words.to_vec(), marks.concat()].concat()
}

/// The metrics of a template and of those that it names.
fn template(
    args: &Backtest,
    all: &[Template],
    root: &Template,
    objects: &[Value],
    words: &[String],
    gathered: &mut Gathered,
) -> anyhow::Result<()> {
    let find = |wanted: &TemplateRef| all.iter().find(|t| t.reference == *wanted);
    let flat = flatten(std::slice::from_ref(&root.reference), |r| Some(&find(r)?.spec))
        .map_err(|error| anyhow!("{error}: give its file with -f too"))?;
    check(all.iter().filter(|t| flat.iter().any(|f| std::ptr::eq(f.spec, &raw const t.spec))))?;
    let mut specs: Vec<_> = flat.iter().map(|f| (f.name.clone(), f.spec.clone())).collect();
    for (name, spec) in &mut specs {
        if is_argos(objects, name) {
            as_argo(spec);
        }
    }
    let args_of_run = values(&marked(args, words), &specs).map_err(|error| {
        anyhow!("{error}; or --canary-arg NAME where it names the new version's pods")
    })?;
    let stanza = AnalysisStanza { args: args_of_run, ..AnalysisStanza::default() };
    let named: Vec<_> = specs
        .iter()
        .map(|(name, spec)| crate::analysis::NamedTemplate { name: name.clone(), spec })
        .collect();
    let release = RunRelease {
        canary: Some("canary".to_owned()),
        stable: Some("stable".to_owned()),
        ..RunRelease::default()
    };
    let context =
        ReleaseContext { stable: "", canary: "", rollout: &Value::Null, release: Some(&release) };
    let name = &root.reference.name;
    let run = build_run(name, "default", None, &named, &stanza, &context)?;
    let secrets = secrets(&run, objects)?;
    let checked = metric::check(&run.spec, &secrets)?;
    let filled = crate::analysis::args::values(&run.spec.args, &secrets)?;
    gathered.risk = run.spec.risk.as_deref().and_then(|risk| crate::cli::power::share(risk).ok());
    let mut limits = Vec::new();
    let mut metrics = checked.metrics;
    // A canary config is one more metric, and the last.
    let config = metrics.split_off(run.spec.metrics.len().min(metrics.len()));
    for (metric, written) in metrics.into_iter().zip(&run.spec.metrics) {
        let is_advisory = written.advisory;
        let written = crate::analysis::args::complete(written, &filled)?;
        gathered.sources.insert(metric.source.clone());
        match (&metric.compare, &written.compare) {
            (Some(compare), Some(written)) => {
                let of = compare.comparison.clone();
                let shortest = gathered.step.into_iter().chain(metric.interval).min();
                gathered.step = shortest;
                let signal = Signal::of(of, written, &args.pod_label, &mut gathered.asked);
                let signal = signal.with_context(|| format!("metric {}", metric.name))?;
                let alone = metric.dry_run || is_advisory;
                gathered.signals.push(Signal { alone, ..signal });
                gathered.compares = true;
            }
            _ => limits.push(metric),
        }
    }
    gathered.sources.extend(config.iter().map(|metric| metric.source.clone()));
    limits.extend(config);
    let argos = specs.iter().any(|(name, _)| is_argos(objects, name));
    let named = if argos { format!("{name} (Argo)") } else { name.clone() };
    template_limits(args, named, limits, checked.rule, gathered);
    Ok(())
}

fn is_argos(objects: &[Value], name: &str) -> bool {
    objects.iter().any(|object| {
        text(object, "/apiVersion").starts_with("argoproj.io/")
            && text(object, "/metadata/name") == name
    })
}

/// What Argo makes of no data and of errors: conditions are asked about NaN, the fifth error in a row,
/// ten seconds apart, aborts the release.
fn as_argo(spec: &mut AnalysisTemplateSpec) {
    for metric in &mut spec.metrics {
        metric.no_data.get_or_insert(NoData::Judge);
        metric.on_error.get_or_insert(OnError::Fail);
        metric.error_retry.get_or_insert(DurationSpec::Seconds(10));
    }
}

/// Limits that a template writes; each metric that can be replayed.
fn template_limits(
    args: &Backtest,
    name: String,
    metrics: Vec<CheckedMetric>,
    rule: metric::Rule,
    gathered: &mut Gathered,
) {
    let (mut kept, mut rules) = (Vec::new(), Vec::new());
    for metric in metrics {
        let (label, all) = (&args.pod_label, &mut gathered.asked);
        let about = match (&metric.source.ask, &metric.kayenta) {
            (Ask::Prometheus { .. }, Some(judged)) => {
                kayenta::rules(judged, label, all).map_err(|error| error.to_string())
            }
            (Ask::Prometheus { range: None }, None) => Rule::of(&metric.query, label, all)
                .map(|rule| vec![rule])
                .map_err(|error| error.to_string()),
            (Ask::Prometheus { range: Some(_) }, None) => {
                Err("a rangeQuery is not replayed".to_owned())
            }
            _ => Err("only Prometheus has a history to read".to_owned()),
        };
        match about {
            Ok(found) => {
                if let Some(judged) = &metric.kayenta {
                    for (name, query, small) in kayenta::measured(judged) {
                        find_signal(args, name, query, small, gathered);
                    }
                    let window = SignedDuration::try_from(args.window).unwrap_or_default();
                    gathered.notes.extend(kayenta::too_short(&metric, window));
                } else if let Some(small) = small_is_good(&metric) {
                    find_signal(args, &metric.name, &metric.query, small, gathered);
                }
                rules.push(found);
                kept.push(metric);
            }
            Err(why) => gathered.notes.push(format!("metric {} is left out: {why}", metric.name)),
        }
    }
    if !kept.is_empty() {
        let counted = Counted::Template(Box::new(Checked { metrics: kept, rule }));
        gathered.limits.push(Limits { name, counted, rules, feeds: Vec::new() });
    }
}

/// Which way a metric's conditions go, by what they say of nothing and of very much.
fn small_is_good(metric: &CheckedMetric) -> Option<bool> {
    let good = |value: f64| {
        let sample = Sample::Series(vec![value]);
        let success = metric.success.as_ref().map(|c| c.holds(&sample).unwrap_or(false));
        let failure = metric.failure.as_ref().map(|c| c.holds(&sample).unwrap_or(false));
        success != Some(false) && failure != Some(true)
    };
    match (good(0.0), good(1e9)) {
        (true, false) => Some(true),
        (false, true) => Some(false),
        (true, true) | (false, false) => None,
    }
}

fn find_signal(
    args: &Backtest,
    name: &str,
    query: &str,
    small_is_good: bool,
    gathered: &mut Gathered,
) {
    let all = &mut gathered.asked;
    let found = Signal::found_in(name, query, small_is_good, &args.pod_label, all);
    let Some(mut signal) = found else { return };
    signal.compared = !gathered.compares;
    let new = |known: &Signal| {
        known.parts.last() != signal.parts.last() || known.comparison.kind != signal.comparison.kind
    };
    if gathered.signals.iter().all(new) {
        gathered.signals.push(signal);
    }
}

fn flagger_limits(args: &Backtest, canary: flagger::Canary, gathered: &mut Gathered) {
    let flagger::Canary { name, mut checks, queries } = canary;
    let (mut rules, mut ranges) = (Vec::new(), Vec::new());
    for ((metric, query), range) in queries.iter().zip(&checks.ranges) {
        match Rule::of(query, &args.pod_label, &mut gathered.asked) {
            Ok(rule) => {
                match range {
                    (None, Some(_)) => find_signal(args, metric, query, true, gathered),
                    (Some(_), None) => find_signal(args, metric, query, false, gathered),
                    _ => {}
                }
                rules.push(vec![rule]);
                ranges.push(*range);
            }
            Err(why) => {
                gathered.notes.push(format!("Canary {name}: metric {metric} is left out: {why}"));
            }
        }
    }
    if !rules.is_empty() {
        checks.ranges = ranges;
        let counted = Counted::Flagger(checks);
        let name = format!("{name} (Flagger)");
        gathered.limits.push(Limits { name, counted, rules, feeds: Vec::new() });
    }
}

/// Which series of the rules carry a regression of a signal: those that read the same selector.
fn feeds(gathered: &mut Gathered) {
    let Gathered { asked, signals, limits, .. } = gathered;
    for limits in limits {
        for series in limits.rules.iter().flatten().flat_map(|rule| &rule.series) {
            let Some(read) = asked.get(series.asked).filter(|_| series.arm == Arm::Canary) else {
                continue;
            };
            for (place, signal) in signals.iter().enumerate() {
                let first = signal.parts.first().and_then(|part| asked.get(*part));
                let whole = signal.parts.get(1).and_then(|part| asked.get(*part));
                if first.is_some_and(|first| first.selector == read.selector) {
                    let feed = match signal.comparison.kind {
                        Kind::Ratio if signal.complement => Feed::Good,
                        Kind::Ratio | Kind::Count { .. } => Feed::Bad,
                        Kind::Histogram => Feed::Buckets,
                        Kind::Gauge => Feed::Level,
                    };
                    limits.feeds.push((series.asked, place, feed));
                } else if let Some(whole) = whole.filter(|_| !signal.complement)
                    && is_rest(read, first, whole)
                {
                    limits.feeds.push((series.asked, place, Feed::Good));
                }
            }
        }
    }
}

/// Whether a selector takes what the bad one leaves of the whole: the same with a matcher turned round.
fn is_rest(read: &Asked, bad: Option<&Asked>, whole: &Asked) -> bool {
    let turned = |text: &str| text.replace("=~", "!~");
    bad.is_some_and(|bad| {
        bad.selector != whole.selector
            && read.selector != whole.selector
            && read.selector == turned(&bad.selector)
    })
}

fn span(
    args: &Backtest,
    now: Timestamp,
    step: SignedDuration,
    limits: &[Limits],
) -> anyhow::Result<Span> {
    let until = args.until.as_deref().map(|text| instant(text, now, "--until")).transpose()?;
    let window = SignedDuration::try_from(args.window)?;
    if step < SignedDuration::from_secs(1) || step.subsec_nanos() != 0 {
        bail!("--step {step:#}: must be whole seconds, such as 15s");
    }
    if window < step * 4 {
        bail!("--window {window:#}: must be at least four steps of {step:#}");
    }
    if !(args.days > 0.0 && args.days <= 3_650.0) {
        bail!("--days {}: must be above 0 and at most 3650", args.days);
    }
    let history = SignedDuration::try_from_secs_f64(args.days * 86_400.0)?;
    if history < window {
        bail!("--days {}: the history is shorter than one window of {window:#}", args.days);
    }
    let rules = limits.iter().flat_map(|limits| &limits.rules).flatten();
    let looks_back = rules.map(|rule| rule.lead).max();
    let steps = looks_back.map_or(0, |lead| lead.as_secs().div_euclid(step.as_secs()) + 1);
    let lead = SignedDuration::from_secs(steps * step.as_secs());
    Ok(Span { until: until.unwrap_or(now), history, window, step, lead })
}

/// The one server that is asked.
fn source(args: &Backtest, sources: &BTreeSet<Source>) -> anyhow::Result<Source> {
    if let Some(address) = &args.prometheus {
        Server::at(address).map_err(|error| anyhow!("--prometheus: {error}"))?;
        let template = sources.iter().next().cloned().unwrap_or_default();
        return Ok(Source { named: None, address: Some(address.clone()), ..template });
    }
    let mut sources = sources.iter();
    match (sources.next(), sources.next()) {
        (Some(one), None) if one.named.is_some() || one.address.is_some() => Ok(one.clone()),
        (Some(_), Some(_)) => bail!("the metrics ask several servers: name one with --prometheus"),
        (Some(_) | None, None) | (None, Some(_)) => {
            bail!("nobody says which server to ask: give its address with --prometheus")
        }
    }
}

fn canary_config(args: &Backtest) -> anyhow::Result<Option<CanaryConfig>> {
    let Some(path) = &args.kayenta else { return Ok(None) };
    let text = std::fs::read_to_string(path);
    let text = text.with_context(|| format!("reading {}", path.display()))?;
    let json: Value =
        serde_json::from_str(&text).with_context(|| format!("{} is no JSON", path.display()))?;
    Ok(Some(CanaryConfig::read(&json)?))
}

/// The kinds by the words for them.
fn is_of(word: &str, kind: Kind) -> bool {
    match kind {
        Kind::Ratio | Kind::Count { .. } => word == "errors",
        Kind::Histogram => word == "latency",
        Kind::Gauge => word == "level" || word == "gauge",
    }
}

fn changes(words: &[String], signals: &[Signal]) -> anyhow::Result<Vec<Change>> {
    let usual = ["errors=2", "errors=5", "latency=+25%", "level=+25%"];
    let given: Vec<&str> = words.iter().map(String::as_str).collect();
    let asked = if given.is_empty() { usual.to_vec() } else { given };
    let mut found: Vec<Change> = Vec::new();
    for word in asked {
        let change = change(word, signals)?;
        if !change.targets.is_empty() {
            found.push(change);
        } else if !words.is_empty() {
            let known: Vec<_> = signals.iter().map(|s| s.comparison.name.as_str()).collect();
            if known.is_empty() {
                bail!(
                    "--inject {word}: the files have no comparison, no share of requests and no \
                     quantile that could become worse: leave it out"
                );
            }
            bail!(
                "--inject {word}: nothing of that name is compared; there is {}",
                known.join(", ")
            );
        }
    }
    Ok(found)
}

fn change(word: &str, signals: &[Signal]) -> anyhow::Result<Change> {
    let wrong = || anyhow!("--inject {word:?}: write errors=2, latency=+25% or NAME=x1.5");
    let (name, by) = word.split_once('=').ok_or_else(wrong)?;
    let times = match by.strip_suffix('%') {
        Some(percent) => 1.0 + percent.parse::<f64>().map_err(|_| wrong())? / 100.0,
        None => by.trim_start_matches('x').parse::<f64>().map_err(|_| wrong())?,
    };
    if !(times > 0.0 && times <= 1_000.0) || (times - 1.0).abs() < 1e-9 {
        return Err(wrong());
    }
    let named = |signal: &Signal| signal.comparison.name == name;
    let any = signals.iter().any(named);
    let hit =
        |signal: &Signal| if any { named(signal) } else { is_of(name, signal.comparison.kind) };
    let targets = (0..signals.len()).filter(|at| signals.get(*at).is_some_and(hit)).collect();
    let shown = match by.strip_suffix('%') {
        Some(_) => by.to_owned(),
        None => format!("x{}", by.trim_start_matches('x')),
    };
    Ok(Change { name: format!("{name} {shown}"), times, targets })
}
