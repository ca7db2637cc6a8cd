//! A run's metrics, checked: arguments filled in, conditions compiled, limits as numbers.
//!
//! Argo's rules and messages, with two differences that keep a mistake from passing: a limit that
//! is not a number is refused (Argo reads it as 0), and conditions are compiled before the run
//! starts. What this engine does not do yet is refused by name, never ignored.

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use regex::Regex;

use super::args::{self, ArgError, Secrets};
use super::compare::{self, CheckedCompare};
use super::condition::{Condition, ConditionError, Type};
use super::kayenta::{self, CheckedKayenta};
use super::promql::{self, Shape};
use super::source::{self, Ask, Source};
use crate::api::analysis::{Decide, MeasurementRetention, NoData, OnError};
use crate::api::{AnalysisRunSpec, DurationSpec, Metric};
use crate::spec;

/// Measurements kept per metric, as Argo.
const RETAINED: usize = 10;

/// Measurements kept in one run: an object has at most 1.5 MB, a measurement 2 kB.
const RETAINED_IN_ALL: usize = 640;

/// Errors in a row that are allowed where a limit applies, as Argo.
const CONSECUTIVE_ERRORS: i64 = 4;

/// A server that fails is asked at most this often.
const SHORTEST_RETRY: SignedDuration = SignedDuration::from_secs(1);

/// What is wrong with a run's spec, by the path of the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// An argument has no value.
    #[error("Unable to resolve metric arguments: {0}")]
    Args(#[source] ArgError),
    /// A text of a metric cannot be completed.
    #[error("Unable to resolve metric arguments: metrics[{index}] {name:?}: {source}")]
    Metric {
        /// Which metric.
        index: usize,
        /// Its name.
        name: String,
        /// What is wrong.
        source: ArgError,
    },
    /// Nothing is measured.
    #[error("Analysis spec invalid: no metrics specified")]
    NoMetrics,
    /// A field is wrong.
    #[error("Analysis spec invalid: {path}: {message}")]
    Field {
        /// The field, for example `metrics[0].count`.
        path: String,
        /// What is wrong and what to write.
        message: String,
    },
    /// A condition cannot be used.
    #[error("Analysis spec invalid: {path}: {text:?}: {source}")]
    Condition {
        /// The field.
        path: String,
        /// The condition.
        text: String,
        /// What is wrong.
        source: ConditionError,
    },
    /// A field that this version cannot do.
    #[error("Analysis spec invalid: {path} is not supported yet: {remedy}")]
    Unsupported {
        /// The field.
        path: String,
        /// What to write in its place.
        remedy: String,
    },
}

/// Shorthand for a wrong field.
pub(crate) fn wrong(path: String, message: impl Into<String>) -> SpecError {
    SpecError::Field { path, message: message.into() }
}

/// How the answers of the metrics become the run's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Rule {
    /// All must be good.
    #[default]
    All,
    /// So many must be good.
    AtLeast(i64),
    /// Good ones must have this share of all weights, in percent.
    Score(i64),
}

/// A run ready to be measured and judged.
#[derive(Debug, Clone)]
pub struct Checked {
    /// Its metrics.
    pub metrics: Vec<CheckedMetric>,
    /// How they decide.
    pub rule: Rule,
}

/// A metric ready to be measured and judged.
#[derive(Debug, Clone)]
pub struct CheckedMetric {
    /// Its name.
    pub name: String,
    /// Time between two measurements.
    pub interval: Option<SignedDuration>,
    /// Time from the run's start to the first measurement.
    pub initial_delay: Option<SignedDuration>,
    /// Measurements to take; `None`: until the run is ended.
    pub count: Option<i64>,
    /// Failed measurements that are allowed; `None`: any number.
    pub failure_limit: Option<i64>,
    /// Inconclusive measurements that are allowed.
    pub inconclusive_limit: i64,
    /// Errors in a row that are allowed, as it is written; else see `errors_allowed`.
    pub error_limit: Option<i64>,
    /// Successes in a row that end the metric; `None`: off.
    pub success_limit: Option<i64>,
    /// Must be true.
    pub success: Option<Condition>,
    /// Must be false.
    pub failure: Option<Condition>,
    /// Where it is asked.
    pub source: Source,
    /// The query, in the source's language.
    pub query: String,
    /// The query as it may be shown: without secrets.
    pub shown: String,
    /// Fewest events behind an answer, and the query that counts them.
    pub evidence: Option<(f64, String)>,
    /// What no data is.
    pub no_data: NoData,
    /// What NaN is.
    pub on_nan: NoData,
    /// What series that have ended are.
    pub on_stale: NoData,
    /// What a metric with too many errors in a row is.
    pub on_error: OnError,
    /// The same for timeouts.
    pub on_timeout: OnError,
    /// The same for a rate that is limited.
    pub on_rate_limited: OnError,
    /// Time to the next try after an error; `None`: it backs off.
    pub error_retry: Option<SignedDuration>,
    /// It is measured and reported but does not decide.
    pub dry_run: bool,
    /// The same, and it is not waited for.
    pub advisory: bool,
    /// It has to be good whatever the others say.
    pub critical: bool,
    /// Its share.
    pub weight: i64,
    /// The arms are compared; no condition is asked.
    pub compare: Option<CheckedCompare>,
    /// Kayenta judges the series; no condition is asked.
    pub kayenta: Option<Box<CheckedKayenta>>,
    /// Measurements kept in the status.
    pub retained: usize,
}

impl CheckedMetric {
    /// Errors in a row that are allowed before the metric is `then`; `None`: it waits for data as long as it
    /// takes.
    pub(crate) fn errors_allowed(&self, then: OnError) -> Option<i64> {
        self.error_limit.or((then != OnError::Wait).then_some(CONSECUTIVE_ERRORS))
    }
}

/// Checks the whole spec.
///
/// # Errors
/// The first mistake found, with its path.
pub fn check(spec: &AnalysisRunSpec, secrets: &Secrets) -> Result<Checked, SpecError> {
    if spec.metrics.is_empty() && spec.kayenta_config.is_none() {
        return Err(SpecError::NoMetrics);
    }
    let values = args::values(&spec.args, secrets).map_err(SpecError::Args)?;
    let shown = args::shown(&spec.args, secrets).map_err(SpecError::Args)?;
    let mut metrics: Vec<CheckedMetric> = Vec::new();
    for (index, metric) in spec.metrics.iter().enumerate() {
        let unresolved = |source| SpecError::Metric { index, name: metric.name.clone(), source };
        let filled = args::complete(metric, &values).map_err(unresolved)?;
        let path = format!("metrics[{index}]");
        if metrics.iter().any(|other| other.name == filled.name) {
            return Err(wrong(path, format!("duplicate name '{}'", filled.name)));
        }
        let mut checked = check_metric(&filled, &path)?;
        check_types(&checked, &path)?;
        if let (Some(compare), Some(release)) = (&filled.compare, &spec.release) {
            checked = compare::with(checked, &filled, compare, Some(release), &path)?;
        } else if filled.compare.is_some() {
            return Err(wrong(format!("{path}.compare"), "only a release has two arms to compare"));
        }
        if shown != values && filled.compare.is_none() {
            let masked = args::complete(metric, &shown).map_err(unresolved)?;
            checked.shown = source::read(masked.provider.as_ref(), &path)
                .map_or_else(|_| args::MASK.to_owned(), |(_, query)| query);
        }
        metrics.push(checked);
    }
    if spec.kayenta_config.is_some() && spec.release.is_none() {
        let message = "only a release has two arms to compare";
        return Err(wrong("kayentaConfig".to_owned(), message));
    }
    if let Some(checked) = kayenta::of_config(spec, &values, spec.release.as_ref())? {
        if metrics.iter().any(|other| other.name == checked.name) {
            let message = format!("'{}' is the name of the kayentaConfig", checked.name);
            return Err(wrong("metrics".to_owned(), message));
        }
        metrics.push(checked);
    }
    apply_rules(spec, &mut metrics)?;
    let rule = rule(spec.decide.as_ref(), &metrics)?;
    Ok(Checked { metrics, rule })
}

/// Checks a spec whose Secrets are not known: with values that they might have.
///
/// # Errors
/// The first mistake of the first of them, when none fits.
pub fn check_shape(spec: &AnalysisRunSpec) -> Result<Checked, SpecError> {
    let mut first = None;
    for secrets in args::stand_ins(&spec.args) {
        match check(spec, &secrets) {
            Ok(checked) => return Ok(checked),
            Err(error) => {
                first.get_or_insert(error);
            }
        }
    }
    Err(first.unwrap_or(SpecError::NoMetrics))
}

fn rule(decide: Option<&Decide>, metrics: &[CheckedMetric]) -> Result<Rule, SpecError> {
    let Some(Decide { at_least, score }) = decide else { return Ok(Rule::All) };
    match (at_least, score) {
        (None, None) => Ok(Rule::All),
        (Some(_), Some(_)) => {
            Err(wrong("decide".to_owned(), "must have at most one of atLeast and score"))
        }
        (Some(least), None) => {
            let count = metrics.iter().filter(|m| !m.dry_run && !m.advisory).count();
            let least = i64::from(*least);
            if least < 1 || usize::try_from(least).is_ok_and(|least| least > count) {
                let message = format!("{least} is not from 1 to {count}, the metrics that decide");
                return Err(wrong("decide.atLeast".to_owned(), message));
            }
            Ok(Rule::AtLeast(least))
        }
        (None, Some(text)) => {
            let percent = text.strip_suffix('%').and_then(|number| number.parse::<i64>().ok());
            match percent.filter(|percent| (1..=100).contains(percent)) {
                Some(percent) => Ok(Rule::Score(percent)),
                None => {
                    let message = format!("{text:?} is no share: write 1% to 100%");
                    Err(wrong("decide.score".to_owned(), message))
                }
            }
        }
    }
}

/// Checks one metric whose arguments are filled in.
///
/// # Errors
/// The first mistake found, with its path below `path`.
pub fn check_metric(metric: &Metric, path: &str) -> Result<CheckedMetric, SpecError> {
    if metric.name.is_empty() {
        return Err(wrong(format!("{path}.name"), "a metric needs a name"));
    }
    refuse_unsupported(metric, path)?;
    let (source, query) = match &metric.compare {
        Some(compare) => (compare::source(metric, path)?, compare::shown(compare)),
        None => source::read(metric.provider.as_ref(), path)?,
    };
    let time = |value: &Option<DurationSpec>, field: &str, word: &str| {
        span(value.as_ref(), &format!("{path}.{field}"), word)
    };
    let interval = time(&metric.interval, "interval", "interval")?;
    let written = whole(metric.count.as_ref(), &format!("{path}.count"))?.unwrap_or(0);
    let count = match written {
        0 => interval.is_none().then_some(1),
        count => Some(count),
    };
    let limit = |value: &Option<IntOrString>, field: &str| {
        whole(value.as_ref(), &format!("{path}.{field}"))
    };
    let failures = limit(&metric.failure_limit, "failureLimit")?.unwrap_or(0);
    let successes = limit(&metric.consecutive_success_limit, "consecutiveSuccessLimit")?;
    let error_limit = limit(&metric.consecutive_error_limit, "consecutiveErrorLimit")?;
    let no_data = metric.no_data.unwrap_or_default();
    let on_error = metric.on_error.unwrap_or_default();
    let evidence = match metric.compare {
        // The judge counts its own events.
        Some(_) => None,
        None => evidence(metric, &source.ask, &query, path)?,
    };
    let error_retry = time(&metric.error_retry, "errorRetry", "errorRetry")?;
    let condition = |text: &Option<String>, field: &str| compile(text, format!("{path}.{field}"));
    let checked = CheckedMetric {
        name: metric.name.clone(),
        initial_delay: time(&metric.initial_delay, "initialDelay", "startDelay")?,
        interval,
        count,
        failure_limit: (failures != -1).then_some(failures),
        inconclusive_limit: limit(&metric.inconclusive_limit, "inconclusiveLimit")?.unwrap_or(0),
        error_limit,
        success_limit: successes.filter(|limit| *limit != 0),
        success: condition(&metric.success_condition, "successCondition")?,
        failure: condition(&metric.failure_condition, "failureCondition")?,
        source,
        shown: query.clone(),
        query,
        evidence,
        no_data,
        on_nan: metric.on_nan.unwrap_or(no_data),
        on_stale: metric.on_stale.unwrap_or(no_data),
        on_error,
        on_timeout: metric.on_timeout.unwrap_or(on_error),
        on_rate_limited: metric.on_rate_limited.unwrap_or(on_error),
        error_retry,
        dry_run: false,
        advisory: metric.advisory,
        critical: metric.critical,
        weight: metric.weight.map_or(1, i64::from),
        compare: None,
        kayenta: None,
        retained: RETAINED,
    };
    let checked = match &metric.compare {
        Some(compare) => compare::with(checked, metric, compare, None, path)?,
        None => checked,
    };
    check_limits(&checked, written, path)?;
    Ok(checked)
}

/// The conditions, with the type that the answer will have, as far as the query tells.
fn check_types(metric: &CheckedMetric, path: &str) -> Result<(), SpecError> {
    let list = || Type::List(Box::new(Type::Float));
    let result = match &metric.source.ask {
        Ask::Prometheus { range: Some(_) } => list(),
        Ask::Prometheus { range: None } => match promql::shape(&metric.query) {
            Ok(Shape::Scalar) => Type::Float,
            Ok(Shape::OneSeries | Shape::ManySeries) => list(),
            // A dialect, or a mistake that the server names.
            Err(_) => Type::Any,
        },
        _ => Type::Any,
    };
    let both = [("successCondition", &metric.success), ("failureCondition", &metric.failure)];
    for (field, condition) in both {
        if let Some(condition) = condition {
            condition.fits(&result).map_err(|source| SpecError::Condition {
                path: format!("{path}.{field}"),
                text: condition.text().to_owned(),
                source,
            })?;
        }
    }
    Ok(())
}

/// Argo's ValidateMetrics, with its messages. `count` as it is written: 0 where it is not.
fn check_limits(metric: &CheckedMetric, count: i64, path: &str) -> Result<(), SpecError> {
    let refuse = |message: String| Err(wrong(path.to_owned(), message));
    let success = metric.success_limit.unwrap_or(0);
    if metric.failure_limit.is_some_and(|limit| limit < 0) {
        return refuse("failureLimit must be >= 0, or -1 to be disabled".to_owned());
    }
    for (limit, field) in [
        (success, "consecutiveSuccessLimit"),
        (metric.inconclusive_limit, "inconclusiveLimit"),
        (metric.error_limit.unwrap_or(0), "consecutiveErrorLimit"),
        (count, "count"),
    ] {
        if limit < 0 {
            return refuse(format!("{field} must be >= 0"));
        }
    }
    if metric.failure_limit.is_none() && success == 0 {
        return refuse(
            "failureLimit and consecutiveSuccessLimit cannot both be disabled".to_owned(),
        );
    }
    if count > 1 && metric.interval.is_none() {
        return refuse("interval must be specified when count > 1".to_owned());
    }
    if metric.interval.is_some_and(|interval| interval.is_zero()) {
        return refuse("interval must be above 0s: write 10s or more".to_owned());
    }
    if metric.error_retry.is_some_and(|retry| retry < SHORTEST_RETRY) {
        return refuse("errorRetry must be 1s or more: write 10s".to_owned());
    }
    if count == 0 {
        return Ok(());
    }
    match metric.failure_limit {
        Some(failures) if count < failures + success => refuse(format!(
            "count ({count}) must be >= failureLimit + consecutiveSuccessLimit \
             ({failures} + {success}) if both >= 0"
        )),
        None if count < success => {
            refuse(format!("count ({count}) must be >= consecutiveSuccessLimit ({success})"))
        }
        _ if count < metric.inconclusive_limit => {
            refuse("count must be >= inconclusiveLimit".to_owned())
        }
        _ => Ok(()),
    }
}

fn refuse_unsupported(metric: &Metric, path: &str) -> Result<(), SpecError> {
    let unsupported = |field: &str, remedy: &str| {
        Err(SpecError::Unsupported { path: format!("{path}.{field}"), remedy: remedy.to_owned() })
    };
    if metric.direction.is_some() && metric.compare.is_none() {
        return unsupported("direction", "it belongs to compare; leave it out");
    }
    Ok(())
}

/// The fewest events and the query that counts them.
fn evidence(
    metric: &Metric,
    ask: &Ask,
    query: &str,
    path: &str,
) -> Result<Option<(f64, String)>, SpecError> {
    let Some(fewest) = metric.min_events.filter(|fewest| *fewest > 0) else { return Ok(None) };
    let derived = match ask {
        Ask::Prometheus { .. } => promql::events(query),
        Ask::Datadog(_) | Ask::Web(_) => None,
        Ask::CloudWatch { .. } | Ask::Job(_) | Ask::Object(_) | Ask::Plugin { .. } => {
            let message = "this provider counts no events: ask in the condition for enough of them, \
                           and leave minEvents out";
            return Err(wrong(format!("{path}.minEvents"), message));
        }
    };
    let counts = metric.events.clone().or(derived);
    #[expect(clippy::cast_precision_loss, reason = "a bound, not a count")]
    match counts {
        Some(counts) => Ok(Some((fewest as f64, counts))),
        None => {
            let message = "the query is no quotient whose divisor counts events: write under \
                           events the query that does, for example sum(increase(x_total[5m]))";
            Err(wrong(format!("{path}.minEvents"), message))
        }
    }
}

fn compile(text: &Option<String>, path: String) -> Result<Option<Condition>, SpecError> {
    match text.as_deref().map(str::trim).filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => Condition::compile(text).map(Some).map_err(|source| SpecError::Condition {
            path,
            text: text.to_owned(),
            source,
        }),
    }
}

fn span(
    spec: Option<&DurationSpec>,
    path: &str,
    field: &str,
) -> Result<Option<SignedDuration>, SpecError> {
    match spec {
        None => Ok(None),
        Some(DurationSpec::Text(text)) if text.is_empty() => Ok(None),
        Some(spec) => spec::duration(spec).map(Some).ok_or_else(|| {
            let why = match spec {
                DurationSpec::Text(text) => gos_words(text),
                DurationSpec::Seconds(seconds) => format!("{seconds} is too long or negative"),
            };
            let remedy = "write 30s, 10m, 1h30m or a number of seconds";
            wrong(path.to_owned(), format!("invalid {field} string: {why}: {remedy}"))
        }),
    }
}

/// What Go says of a text that is no duration, as Argo's users know it.
fn gos_words(text: &str) -> String {
    let number = |c: char| c.is_ascii_digit() || c == '.';
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    while rest.starts_with(number) {
        rest = rest.trim_start_matches(number);
        let end = rest.find(number).unwrap_or(rest.len());
        let (unit, tail) = rest.split_at_checked(end).unwrap_or((rest, ""));
        if unit.is_empty() {
            return format!("time: missing unit in duration {text:?}");
        }
        if !["ns", "us", "µs", "ms", "s", "m", "h"].contains(&unit) {
            return format!("time: unknown unit {unit:?} in duration {text:?}");
        }
        rest = tail;
    }
    format!("time: invalid duration {text:?}")
}

fn whole(value: Option<&IntOrString>, path: &str) -> Result<Option<i64>, SpecError> {
    match value {
        None => Ok(None),
        Some(IntOrString::Int(number)) => Ok(Some(i64::from(*number))),
        Some(IntOrString::String(text)) => text
            .trim()
            .parse::<i32>()
            .map(|number| Some(i64::from(number)))
            .map_err(|_| wrong(path.to_owned(), format!("{text:?} is not a whole number"))),
    }
}

/// `dryRun` and `measurementRetention`: regular expressions that are looked for anywhere in a name.
fn apply_rules(spec: &AnalysisRunSpec, metrics: &mut [CheckedMetric]) -> Result<(), SpecError> {
    for (index, rule) in spec.dry_run.iter().enumerate() {
        let path = format!("dryRun[{index}]");
        for metric in matching(metrics, &rule.metric_name, path)? {
            metric.dry_run = true;
        }
    }
    for (index, rule) in spec.measurement_retention.iter().enumerate() {
        let MeasurementRetention { metric_name, limit } = rule;
        let path = format!("measurementRetention[{index}]");
        for metric in matching(metrics, metric_name, path)? {
            if let Ok(limit @ 1..) = usize::try_from(*limit) {
                metric.retained = limit;
            }
        }
    }
    let most = RETAINED_IN_ALL.div_ceil(metrics.len().max(1));
    metrics.iter_mut().for_each(|metric| metric.retained = metric.retained.min(most));
    Ok(())
}

fn matching<'a>(
    metrics: &'a mut [CheckedMetric],
    rule: &str,
    path: String,
) -> Result<Vec<&'a mut CheckedMetric>, SpecError> {
    let pattern = Regex::new(rule).map_err(|e| {
        wrong(path.clone(), format!("{rule:?} is not a regular expression (all is `.*`): {e}"))
    })?;
    let found: Vec<_> = metrics.iter_mut().filter(|m| pattern.is_match(&m.name)).collect();
    if found.is_empty() {
        return Err(wrong(path, "Rule didn't match any metric name(s)"));
    }
    Ok(found)
}
