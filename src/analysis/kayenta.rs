//! Kayenta's judge in a run: which series are asked, when they are judged, what a score means.
//!
//! A `kayentaConfig` is one metric of the run, named `kayenta`, because its metrics have one score; a
//! metric with `compare.series` is a canary config of one metric. The loop around the judgements is
//! Kayenta's: a score up to `marginal` fails at once, and of the others only the last one decides.
//! Different: a last score between `marginal` and `pass` is inconclusive, so that `onInconclusive`
//! says what becomes of the release, and a judgement without data waits for data.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::args::{self, Args, Secrets};
use super::arms::{Arm, Arms};
use super::assess::completed;
use super::compare::{About, arms, under_way};
use super::judge::kayenta::{
    self, CanaryConfig, JUDGE, JudgeConfig, KayentaMetric, Label, MetricReport, Report, Scope,
    SeriesPair, TaggedSeries, Thresholds, mix,
};
use super::judge::no_data;
use super::measure::{Answer, RESOLVED_QUERY, count, measure, shorten, trim};
use super::metric::{self, CheckedMetric, SpecError, wrong};
use super::range::RangeTime;
use super::sample::{ErrorKind, Line, Outcome, QueryError, Sample, number};
use super::source::{Ask, Range};
use crate::api::analysis::NoData;
use crate::api::analysis_run::{Evidence, Measurement, RunRelease, SampleKind};
use crate::api::compare::{Compare, Judge};
use crate::api::kayenta::{KayentaJudge, KayentaRun, KayentaScope};
use crate::api::{self, AnalysisPhase, AnalysisRunSpec, DurationSpec, Metric, MetricResult, Time};

/// The metric that a canary config becomes.
pub const NAME: &str = "kayenta";

/// Kayenta's usual step.
const STEP: SignedDuration = SignedDuration::from_secs(60);

/// Time between two judgements: 30 points at the usual step, below which Kayenta sees little.
const INTERVAL: SignedDuration = SignedDuration::from_mins(30);

/// The scores of Spinnaker's own examples.
const THRESHOLDS: Thresholds = Thresholds { pass: 95.0, marginal: 75.0 };

/// The scores of one metric are 0 and 100.
const ONE: Thresholds = Thresholds { pass: 100.0, marginal: 0.0 };

/// Bytes of an explanation that the status shows.
const SHOWN: usize = 1_024;

/// A canary config ready to be asked and judged.
#[derive(Debug, Clone)]
pub struct CheckedKayenta {
    config: CanaryConfig,
    thresholds: Thresholds,
    queries: Vec<Asked>,
    pub(super) step: SignedDuration,
    lookback: Option<SignedDuration>,
    warm_up: SignedDuration,
}

/// The queries of one metric of the config.
#[derive(Debug, Clone)]
struct Asked {
    metric: String,
    control: String,
    experiment: String,
}

impl CheckedKayenta {
    /// The span of the series at a judgement.
    pub(super) fn window(&self, started: Timestamp, now: Timestamp) -> (Timestamp, Timestamp) {
        let from = |at: Timestamp, span: SignedDuration| at.saturating_add(span).unwrap_or(at);
        let start = from(started, self.warm_up);
        let start = self.lookback.map_or(start, |lookback| start.max(from(now, -lookback)));
        (start.min(now), now)
    }

    /// How they are asked.
    pub(crate) fn range(&self, started: Timestamp, now: Timestamp) -> Ask {
        let (start, end) = self.window(started, now);
        let (start, end) = (RangeTime::fixed(start), RangeTime::fixed(end));
        Ask::Prometheus { range: Some(Range { start, end, step: self.step }) }
    }

    /// The queries of a judgement, whose series each asks for, and the metric of the config with the way
    /// in which it is good.
    pub(crate) fn arms(&self) -> impl Iterator<Item = (Arm, &str, &KayentaMetric)> {
        self.queries.iter().zip(&self.config.metrics).flat_map(|(asked, metric)| {
            [(Arm::Stable, asked.control.as_str()), (Arm::Canary, &asked.experiment)]
                .map(|(arm, text)| (arm, text, metric))
        })
    }

    /// The keys and queries of a judgement, in the order of [`Self::arms`].
    pub(crate) fn questions(&self, name: &str) -> impl Iterator<Item = (String, &str)> {
        self.queries.iter().enumerate().flat_map(move |(i, asked)| {
            let key = |arm: &str| format!("{name}/{i}/{arm}");
            [(key("control"), asked.control.as_str()), (key("experiment"), &asked.experiment)]
        })
    }
}

/// A canary config as one metric.
///
/// # Errors
/// When it cannot be read, or its metrics cannot be asked.
pub(crate) fn of_config(
    spec: &AnalysisRunSpec,
    values: &Args,
    release: Option<&RunRelease>,
) -> Result<Option<CheckedMetric>, SpecError> {
    let Some(json) = &spec.kayenta_config else { return Ok(None) };
    let path = "kayentaConfig".to_owned();
    let refused = |why: String| wrong(path.clone(), why);
    let run = spec.kayenta.clone().unwrap_or_default();
    let filled = args::complete(&run, values);
    let run = filled.map_err(|why| wrong("kayenta".to_owned(), why.to_string()))?;
    let config = CanaryConfig::read(&json.0).map_err(|why| refused(why.to_string()))?;
    if config.metrics.is_empty() {
        return Err(refused("has no metrics; export it from Kayenta as it is".to_owned()));
    }
    let own = config.classifier.as_ref().and_then(|c| c.score_thresholds).unwrap_or(THRESHOLDS);
    let thresholds = Thresholds {
        pass: run.pass.map_or(own.pass, f64::from),
        marginal: run.marginal.map_or(own.marginal, f64::from),
    };
    config.check(thresholds).map_err(|why| refused(why.to_string()))?;
    let scopes = run.control.as_ref().zip(run.experiment.as_ref());
    let arms = arms(run.arms.as_ref(), run.pod_label.as_deref(), release)
        .map_err(|why| wrong("kayenta.arms".to_owned(), why.to_string()));
    let mut queries = Vec::new();
    for (i, metric) in config.metrics.iter().enumerate() {
        let path = format!("kayentaConfig.metrics[{i}]");
        queries.push(asked(&config, metric, scopes, &arms, &path)?);
    }
    let provider = run.provider.clone();
    let checked = metric::check_metric(&plain(&run, provider), "kayenta")?;
    let shown = queries.iter().map(|asked| asked.experiment.as_str()).collect::<Vec<_>>();
    let checked = CheckedMetric { shown: shown.join(" and "), ..checked };
    let timing = (run.step.as_ref(), run.lookback.as_ref());
    Ok(Some(judged_by(checked, config, thresholds, queries, timing, "kayenta")?))
}

/// The metric without its comparison: what decides when it is asked.
fn plain(run: &KayentaRun, provider: Option<crate::api::provider::Provider>) -> Metric {
    let mut provider = provider.unwrap_or_default();
    provider.prometheus.get_or_insert_default().query = Some("vector(1)".to_owned());
    let interval = run.interval.clone().unwrap_or(DurationSpec::Seconds(INTERVAL.as_secs()));
    Metric {
        name: NAME.to_owned(),
        interval: Some(interval),
        count: Some(k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::Int(
            run.count.unwrap_or(1),
        )),
        initial_delay: run.initial_delay.clone(),
        provider: Some(provider),
        no_data: run.no_data,
        ..Metric::default()
    }
}

fn asked(
    config: &CanaryConfig,
    metric: &KayentaMetric,
    scopes: Option<(&KayentaScope, &KayentaScope)>,
    arms: &Result<Arms, SpecError>,
    path: &str,
) -> Result<Asked, SpecError> {
    let of = |scope: Option<&KayentaScope>, arm: Arm| {
        let scope = scope.map(values_of).unwrap_or_default();
        let query = kayenta::query(config, metric, &scope);
        let query = query.map_err(|why| wrong(path.to_owned(), why.to_string()))?;
        if query.scoped {
            return Ok(query.text);
        }
        let arms = arms.as_ref().map_err(Clone::clone)?;
        let text = arms.select(&query.text, arm);
        text.map_err(|why| wrong(format!("{path}.query"), why.to_string()))
    };
    let control = of(scopes.map(|(control, _)| control), Arm::Stable)?;
    let experiment = of(scopes.map(|(_, experiment)| experiment), Arm::Canary)?;
    if control == experiment {
        let message = "control and experiment ask the same; give them different scopes";
        return Err(wrong(format!("{path}.query"), message));
    }
    Ok(Asked { metric: metric.name.clone(), control, experiment })
}

fn values_of(scope: &KayentaScope) -> Scope {
    let KayentaScope { scope, location, extended_scope_params } = scope;
    let mut values = extended_scope_params.clone();
    values.insert("scope".to_owned(), scope.clone());
    values.extend(location.clone().map(|location| ("location".to_owned(), location)));
    Scope { values }
}

/// A metric with `compare.series` as a canary config of one metric.
pub(crate) fn of_metric(
    checked: CheckedMetric,
    metric: &Metric,
    compare: &Compare,
    release: Option<&RunRelease>,
    path: &str,
) -> Result<CheckedMetric, SpecError> {
    let path = format!("{path}.compare");
    let (Some(series), Some(Judge { kayenta: Some(judge) })) = (&compare.series, &compare.judge)
    else {
        let message = "series is for judge: {kayenta: {...}}, and that judge judges series";
        return Err(wrong(path, message));
    };
    for (given, field, remedy) in [
        (compare.harmful.is_some(), "harmful", "write judge.kayenta.canary.effectSize"),
        (metric.direction.is_some(), "direction", "write judge.kayenta.canary.direction"),
        (
            metric.min_events.is_some(),
            "minEvents",
            "Kayenta's judge counts no events; leave it out",
        ),
    ] {
        if given {
            return Err(wrong(path, format!("{field} is for the sequential judge: {remedy}")));
        }
    }
    let KayentaJudge { canary, lookback, step, relative_tolerance, fail_closed_errors } = judge;
    let canary = canary.as_ref().map(|canary| canary.0.clone()).unwrap_or(json!({}));
    if canary.get("muted") == Some(&json!(true)) {
        let message = "it would be judged and never counted; name the metric under dryRun instead";
        return Err(wrong(format!("{path}.judge.kayenta.canary.muted"), message));
    }
    let config = CanaryConfig {
        judge: Some(JudgeConfig {
            name: JUDGE.to_owned(),
            judge_configurations: json!({
                "relativeTolerance": relative_tolerance, "failClosedErrors": fail_closed_errors,
            }),
        }),
        metrics: vec![KayentaMetric {
            name: metric.name.clone(),
            groups: vec![metric.name.clone()],
            analysis_configurations: json!({ "canary": canary }),
            ..KayentaMetric::default()
        }],
        ..CanaryConfig::default()
    };
    let refused = |why: super::arms::ArmsError| wrong(path.clone(), why.to_string());
    let arms = arms(compare.arms.as_ref(), compare.pod_label.as_deref(), release);
    let arms = arms.map_err(refused)?;
    let asked = Asked {
        metric: metric.name.clone(),
        control: arms.select(series, Arm::Stable).map_err(refused)?,
        experiment: arms.select(series, Arm::Canary).map_err(refused)?,
    };
    let timing = (step.as_ref(), lookback.as_ref());
    judged_by(checked, config, ONE, vec![asked], timing, &format!("{path}.judge.kayenta"))
}

fn judged_by(
    checked: CheckedMetric,
    config: CanaryConfig,
    thresholds: Thresholds,
    queries: Vec<Asked>,
    (step, lookback): (Option<&DurationSpec>, Option<&DurationSpec>),
    path: &str,
) -> Result<CheckedMetric, SpecError> {
    let span = |spec: Option<&DurationSpec>, field: &str| {
        let Some(spec) = spec else { return Ok(None) };
        let span = crate::spec::duration(spec).filter(|span| span.is_positive());
        let message = || format!("{spec:?} is no span above 0: write for example 60s");
        span.map(Some).ok_or_else(|| wrong(format!("{path}.{field}"), message()))
    };
    let interval = checked.interval.unwrap_or(INTERVAL);
    // A metric is checked without its release first.
    let known = checked.kayenta.as_ref().map(|known| known.warm_up);
    let warm_up = known.or(checked.initial_delay).unwrap_or_default();
    let kayenta = CheckedKayenta {
        config,
        thresholds,
        queries,
        step: span(step, "step")?.unwrap_or(STEP),
        lookback: span(lookback, "lookback")?,
        warm_up,
    };
    Ok(CheckedMetric {
        interval: Some(interval),
        // The first judgement has one interval of data.
        initial_delay: Some(warm_up.saturating_add(interval)),
        failure_limit: Some(0),
        inconclusive_limit: 0,
        success_limit: None,
        kayenta: Some(Box::new(kayenta)),
        ..checked
    })
}

/// Takes the answers of one judgement; false for a metric of another judge.
pub(crate) fn record(
    metric: &CheckedMetric,
    result: &mut MetricResult,
    answers: &[(String, Outcome)],
    about: &About<'_>,
    now: Timestamp,
) -> bool {
    let About { secrets, started, observed: _ } = *about;
    let Some(kayenta) = metric.kayenta.as_deref() else { return false };
    if result.phase.is_some_and(completed) {
        return true;
    }
    let found: Option<Vec<&Outcome>> = kayenta
        .questions(&metric.name)
        .map(|(key, _)| answers.iter().find(|(name, _)| *name == key).map(|(_, found)| found))
        .collect();
    let Some(found) = found.filter(|found| !found.is_empty()) else { return true };
    match judged(kayenta, &found, started, now) {
        Ok(report) => take(metric, kayenta, result, &report, secrets, now),
        Err(error) => {
            let outcome = Outcome::Error(error);
            let answer = Answer { outcome: &outcome, events: None };
            measure(metric, result, &answer, secrets, now);
        }
    }
    true
}

fn judged(
    kayenta: &CheckedKayenta,
    found: &[&Outcome],
    started: Timestamp,
    now: Timestamp,
) -> Result<Report, QueryError> {
    let (start, end) = kayenta.window(started, now);
    let steps = end.duration_since(start).as_secs_f64() / kayenta.step.as_secs_f64();
    let expected = libm::floor(steps.max(0.0)) as usize;
    let mut pairs: Vec<SeriesPair> = Vec::new();
    for (asked, arms) in kayenta.queries.iter().zip(found.chunks(2)) {
        let [control, experiment] = arms else { continue };
        let (control, experiment) = (series(control)?, series(experiment)?);
        let mixed = mix(&asked.metric, control, experiment, expected);
        pairs.extend(mixed.map_err(|why| malformed(why.to_string()))?);
    }
    kayenta::judge(&kayenta.config, kayenta.thresholds, &pairs)
        .map_err(|why| malformed(why.to_string()))
}

fn malformed(message: String) -> QueryError {
    QueryError { kind: ErrorKind::Malformed, message, retry_after: None }
}

fn series(outcome: &Outcome) -> Result<Vec<TaggedSeries>, QueryError> {
    let sample = match outcome {
        Outcome::Answer { sample, warnings: _ } => sample,
        Outcome::Error(error) => return Err(error.clone()),
        Outcome::Running { .. } | Outcome::Ended { .. } => {
            return Err(malformed("the provider did not answer with series".to_owned()));
        }
    };
    let lines = match sample {
        Sample::Empty => return Ok(Vec::new()),
        Sample::Lines(lines) => lines,
        other => return Err(malformed(format!("the answer is no range: {other}"))),
    };
    let tagged = |Line { labels, points }: &Line| {
        let mut tags = labels.clone();
        tags.remove("__name__");
        TaggedSeries { tags, values: points.iter().map(|(_, value)| *value).collect() }
    };
    Ok(lines.iter().map(tagged).collect())
}

fn take(
    metric: &CheckedMetric,
    kayenta: &CheckedKayenta,
    result: &mut MetricResult,
    report: &Report,
    secrets: &Secrets,
    now: Timestamp,
) {
    let (at, last) = (i64::from(result.count) + 1, metric.count);
    let is_last = last.is_some_and(|last| at >= last);
    let score = report.score.score;
    let Thresholds { pass, marginal } = kayenta.thresholds;
    let text = shorten(secrets.mask(explain(report, kayenta.thresholds, at, last)), SHOWN);
    let (phase, message) = if report.score.no_data && metric.no_data != NoData::Judge {
        let judged = no_data(metric, format!("no data: {text}"));
        (judged.phase, judged.message)
    } else if score <= marginal {
        (AnalysisPhase::Failed, None)
    } else if score >= pass {
        (AnalysisPhase::Successful, None)
    } else if is_last {
        (AnalysisPhase::Inconclusive, Some(text.clone()))
    } else {
        (AnalysisPhase::Running, None)
    };
    count(result, phase, now);
    result.metadata.insert(RESOLVED_QUERY.to_owned(), metric.shown.clone());
    result.evidence = Some(Evidence { score: Some(score), ..Evidence::default() });
    let sample = api::analysis_run::Sample {
        kind: SampleKind::Value,
        values: vec![number(score)],
        message: None,
    };
    result.measurements.push(Measurement {
        phase: Some(phase),
        message: message.map(|text| shorten(text, SHOWN)),
        started_at: Some(Time(now)),
        finished_at: Some(Time(now)),
        value: Some(number(score)),
        explanation: Some(text),
        sample: Some(sample),
        ..Measurement::default()
    });
    trim(metric, result);
}

/// `score 40 of 100 (pass 95, marginal 75), judgement 1 of 4: errors High, ...`.
fn explain(report: &Report, thresholds: Thresholds, at: i64, last: Option<i64>) -> String {
    let Thresholds { pass, marginal } = thresholds;
    let score = report.score.score;
    let of = last.map(|last| format!(" of {last}")).unwrap_or_default();
    let mut text = format!(
        "score {} (pass {}, marginal {}), judgement {at}{of}",
        number(score),
        number(pass),
        number(marginal)
    );
    let passed = report.results.iter().filter(|result| result.label == Label::Pass).count();
    let others = report.results.iter().filter(|result| result.label != Label::Pass);
    let mut parts: Vec<String> = others.map(told).collect();
    parts.push(format!("{passed} of {} pass", report.results.len()));
    text.push_str(&format!(": {}", parts.join("; ")));
    if let Some(reason) = report.score.reason.as_ref().filter(|_| report.score.no_data) {
        text.push_str(&format!("; {reason}"));
    }
    if score == marginal && score < pass {
        text.push_str("; Kayenta's loop fails a score that is no more than marginal");
    }
    let quirks: Vec<String> = report
        .kayenta_quirks
        .iter()
        .map(|quirk| {
            let of = quirk.metric.as_ref().or(quirk.group.as_ref());
            let of = of.map(|of| format!("{of}: ")).unwrap_or_default();
            format!("{of}{} ({:?})", quirk.message, quirk.kind)
        })
        .collect();
    if !quirks.is_empty() {
        text.push_str(&format!(". Kayenta's own ways: {}", quirks.join("; ")));
    }
    text
}

/// `errors High (critical): mean 0.051 against 0.011, 4.64 times`.
fn told(result: &MetricReport) -> String {
    let MetricReport { name, tags, label, critical, control, experiment, muted, .. } = result;
    let tags = match tags.is_empty() {
        true => String::new(),
        false => format!("{tags:?}").replace('"', ""),
    };
    let marks = [(*critical, " (critical)"), (*muted, " (muted)")];
    let marks: String = marks.iter().filter(|(is, _)| *is).map(|(_, mark)| *mark).collect();
    let numbers = match label {
        Label::High | Label::Low => {
            let rounded = super::judge::sequential::rounded;
            let (new, old) = (rounded(experiment.mean), rounded(control.mean));
            let times = match result.deviation.is_nan() {
                true => String::new(),
                false => format!(", {} times", rounded(result.deviation)),
            };
            format!(": mean {new} against {old}{times}")
        }
        Label::Pass | Label::Nodata | Label::NodataFailMetric | Label::Error => {
            result.reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default()
        }
    };
    format!("{name}{tags} {label:?}{marks}{numbers}")
}

/// Nothing more is asked: a score between the thresholds decides nothing.
pub(crate) fn end(metric: &CheckedMetric, result: &mut MetricResult) {
    if metric.kayenta.is_none() {
        return;
    }
    let Some(last) = result.measurements.last_mut().filter(|last| under_way(last)) else { return };
    last.phase = Some(AnalysisPhase::Inconclusive);
    let text = last.explanation.clone().unwrap_or_default();
    last.message = Some(shorten(format!("ended before the last judgement: {text}"), SHOWN));
    result.inconclusive += 1;
}
