//! A run's metrics, checked: arguments filled in, conditions compiled, limits as numbers.
//!
//! Argo's rules and messages, with two differences that keep a mistake from passing: a limit that
//! is not a number is refused (Argo reads it as 0), and conditions are compiled before the run
//! starts. What this engine does not do yet is refused by name, never ignored.

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use regex::Regex;

use super::args::{self, ArgError};
use super::condition::{Condition, ConditionError};
use super::source::{self, Source};
use crate::api::analysis::{MeasurementRetention, NoData, OnError};
use crate::api::{AnalysisRunSpec, DurationSpec, Metric};
use crate::spec;

/// Measurements kept per metric, as Argo.
const RETAINED: usize = 10;

/// Errors in a row that are allowed where a limit applies, as Argo.
const CONSECUTIVE_ERRORS: i64 = 4;

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
    /// Errors in a row that are allowed; `None`: the metric waits for data as long as it takes.
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
    /// What no data is; `None`: the metric waits.
    pub no_data: Option<NoData>,
    /// What a metric that ended in errors is.
    pub on_error: OnError,
    /// It is measured and reported but does not decide.
    pub dry_run: bool,
    /// Measurements kept in the status.
    pub retained: usize,
}

/// Checks the whole spec.
///
/// # Errors
/// The first mistake found, with its path.
pub fn check(spec: &AnalysisRunSpec) -> Result<Vec<CheckedMetric>, SpecError> {
    if spec.kayenta_config.is_some() {
        return Err(SpecError::Unsupported {
            path: "kayentaConfig".to_owned(),
            remedy: "list the metrics under metrics".to_owned(),
        });
    }
    if spec.metrics.is_empty() {
        return Err(SpecError::NoMetrics);
    }
    let values = args::values(&spec.args).map_err(SpecError::Args)?;
    let mut checked: Vec<CheckedMetric> = Vec::new();
    for (index, metric) in spec.metrics.iter().enumerate() {
        let metric = args::complete(metric, &values).map_err(|source| SpecError::Metric {
            index,
            name: metric.name.clone(),
            source,
        })?;
        let path = format!("metrics[{index}]");
        if checked.iter().any(|other| other.name == metric.name) {
            return Err(wrong(path, format!("duplicate name '{}'", metric.name)));
        }
        checked.push(check_metric(&metric, &path)?);
    }
    apply_rules(spec, &mut checked)?;
    Ok(checked)
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
    let (source, query) = source::read(metric.provider.as_ref(), path)?;
    let interval = span(metric.interval.as_ref(), &format!("{path}.interval"), "interval")?;
    let count = match whole(metric.count.as_ref(), &format!("{path}.count"))?.unwrap_or(0) {
        0 => interval.is_none().then_some(1),
        count => Some(count),
    };
    let limit = |value: &Option<IntOrString>, field: &str| {
        whole(value.as_ref(), &format!("{path}.{field}"))
    };
    let failures = limit(&metric.failure_limit, "failureLimit")?.unwrap_or(0);
    let successes = limit(&metric.consecutive_success_limit, "consecutiveSuccessLimit")?;
    let errors = limit(&metric.consecutive_error_limit, "consecutiveErrorLimit")?;
    let error_limit = errors.or(metric.on_error.map(|_| CONSECUTIVE_ERRORS));
    let condition = |text: &Option<String>, field: &str| compile(text, format!("{path}.{field}"));
    let checked = CheckedMetric {
        name: metric.name.clone(),
        initial_delay: span(
            metric.initial_delay.as_ref(),
            &format!("{path}.initialDelay"),
            "startDelay",
        )?,
        interval,
        count,
        failure_limit: (failures != -1).then_some(failures),
        inconclusive_limit: limit(&metric.inconclusive_limit, "inconclusiveLimit")?.unwrap_or(0),
        error_limit,
        success_limit: successes.filter(|limit| *limit != 0),
        success: condition(&metric.success_condition, "successCondition")?,
        failure: condition(&metric.failure_condition, "failureCondition")?,
        source,
        query,
        no_data: metric.no_data.filter(|policy| *policy != NoData::Error),
        on_error: metric.on_error.unwrap_or_default(),
        dry_run: false,
        retained: RETAINED,
    };
    check_limits(&checked, path)?;
    Ok(checked)
}

/// Argo's ValidateMetrics, with its messages.
fn check_limits(metric: &CheckedMetric, path: &str) -> Result<(), SpecError> {
    let refuse = |message: String| Err(wrong(path.to_owned(), message));
    let (count, success) = (metric.count.unwrap_or(0), metric.success_limit.unwrap_or(0));
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
    if count == 0 || metric.interval.is_none() {
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
    if metric.compare.is_some() {
        return unsupported("compare", "write a query with a successCondition or failureCondition");
    }
    if metric.min_events.is_some() {
        return unsupported("minEvents", "it belongs to compare; leave it out");
    }
    if metric.direction.is_some() {
        return unsupported("direction", "it belongs to compare; leave it out");
    }
    if metric.weight.is_some() {
        return unsupported("weight", "it belongs to compare; leave it out");
    }
    Ok(())
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
            let remedy = "write 30s, 10m, 1h30m or a number of seconds";
            wrong(path.to_owned(), format!("invalid {field} string: {spec:?}: {remedy}"))
        }),
    }
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
