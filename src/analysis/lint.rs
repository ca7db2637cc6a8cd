//! What is wrong with a template before any release uses it, for `sluice lint`.
//!
//! Errors are what `build_run` or the metric server would refuse; warnings are what Argo accepts
//! and no one can want: a metric that cannot fail, a condition that does not depend on the result.

use serde_json::Value;

use super::args::{self, Args};
use super::condition::Condition;
use super::metric::{CheckedMetric, SpecError, check_metric};
use super::promql::{self, PromqlError, Shape};
use super::sample::Sample;
use crate::api::{AnalysisTemplateSpec, Metric};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It works and is likely a mistake.
    Warning,
    /// It cannot work.
    Error,
}

/// Something wrong with a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The field, for example `spec.metrics[0].successCondition`.
    pub path: String,
    /// What is written there.
    pub value: String,
    /// What is wrong.
    pub message: String,
    /// What to write.
    pub remedy: String,
    /// How bad it is.
    pub severity: Severity,
}

/// Values that stand in for arguments without a default: a number, a span, a name.
const STAND_INS: [&str; 3] = ["1", "5m", "sample"];

/// Up to this many open arguments all combinations of stand-ins are tried.
const MAX_COMBINED: usize = 4;

/// Everything found, in the order of the fields.
#[must_use]
pub fn lint_template(spec: &AnalysisTemplateSpec) -> Vec<Finding> {
    let mut findings = Vec::new();
    if spec.metrics.is_empty() && spec.templates.is_empty() {
        let remedy = "list at least one metric, or other templates";
        findings.push(error("spec.metrics", "[]", "no metrics specified", remedy));
    }
    if spec.kayenta_config.is_some() {
        let remedy = "list the metrics under metrics";
        findings.push(error("spec.kayentaConfig", "", "not supported yet", remedy));
    }
    for (index, arg) in spec.args.iter().enumerate() {
        let secret = arg.value_from.as_ref().is_some_and(|from| from.secret_key_ref.is_some());
        if secret {
            let path = format!("spec.args[{index}].valueFrom.secretKeyRef");
            let remedy = "put credentials into a MetricProvider and name it by provider.ref";
            findings.push(error(&path, &arg.name, "not supported yet", remedy));
        }
    }
    for (index, metric) in spec.metrics.iter().enumerate() {
        let path = format!("spec.metrics[{index}]");
        if spec.metrics.iter().take(index).any(|other| other.name == metric.name) {
            let message = "two metrics have the same name";
            let remedy = "give each metric a name of its own";
            findings.push(error(&format!("{path}.name"), &metric.name, message, remedy));
        }
        lint_metric(spec, metric, &path, &mut findings);
    }
    findings
}

fn lint_metric(
    spec: &AnalysisTemplateSpec,
    metric: &Metric,
    path: &str,
    findings: &mut Vec<Finding>,
) {
    let mut mentions = Vec::new();
    if let Ok(value) = serde_json::to_value(metric) {
        texts(&value, path, &mut mentions);
    }
    let mut open = Vec::new();
    let known = findings.len();
    for (path, text) in &mentions {
        for tag in args::mentioned(text) {
            let declared = tag
                .strip_prefix("args.")
                .and_then(|name| spec.args.iter().find(|arg| arg.name == name));
            match declared {
                None => findings.push(error(
                    path,
                    text,
                    &format!("failed to resolve {{{{{tag}}}}}"),
                    "declare it under spec.args, or correct the name",
                )),
                Some(arg) if arg.value.is_none() && !open.contains(&arg.name) => {
                    open.push(arg.name.clone());
                }
                Some(_) => {}
            }
        }
    }
    if findings.len() > known {
        return;
    }
    let mut first = None;
    for values in stand_ins(spec, &open) {
        let Ok(completed) = args::complete(metric, &values) else { continue };
        let found = lint_completed(&completed, path);
        if !found.iter().any(|finding| finding.severity == Severity::Error) {
            findings.extend(found);
            return;
        }
        first.get_or_insert(found);
    }
    findings.extend(first.unwrap_or_default());
}

/// Every text of a value with its path.
fn texts(value: &Value, path: &str, found: &mut Vec<(String, String)>) {
    match value {
        Value::String(text) => found.push((path.to_owned(), text.clone())),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                texts(item, &format!("{path}[{index}]"), found);
            }
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                texts(field, &format!("{path}.{name}"), found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Assignments of stand-ins to the open arguments, the defaults kept.
fn stand_ins(spec: &AnalysisTemplateSpec, open: &[String]) -> Vec<Args> {
    let defaults: Args =
        spec.args.iter().filter_map(|arg| Some((arg.name.clone(), arg.value.clone()?))).collect();
    if open.len() > MAX_COMBINED {
        let same = |value: &str| {
            let open = open.iter().map(|name| (name.clone(), value.to_owned()));
            defaults.clone().into_iter().chain(open).collect()
        };
        return STAND_INS.into_iter().map(same).collect();
    }
    let mut assignments = vec![defaults];
    for name in open {
        assignments = assignments
            .into_iter()
            .flat_map(|values| {
                STAND_INS.map(|value| {
                    let mut values = values.clone();
                    values.insert(name.clone(), value.to_owned());
                    values
                })
            })
            .collect();
    }
    assignments
}

fn lint_completed(metric: &Metric, path: &str) -> Vec<Finding> {
    let checked = match check_metric(metric, path) {
        Ok(checked) => checked,
        Err(refused) => return vec![of_spec_error(refused)],
    };
    let mut findings = Vec::new();
    let query = format!("{path}.provider.prometheus.query");
    match promql::shape(&checked.query) {
        Ok(shape) => lint_conditions(&checked, shape, path, &mut findings),
        Err(wrong) => {
            let remedy = match wrong {
                PromqlError::Parse(_) => "correct the query",
                PromqlError::Range => {
                    "wrap it, for example in sum(rate(...)) or max_over_time(...)"
                }
                PromqlError::Text => "write a query that gives numbers",
            };
            findings.push(error(&query, &checked.query, &wrong.to_string(), remedy));
        }
    }
    lint_limits(&checked, path, &mut findings);
    findings
}

fn lint_conditions(metric: &CheckedMetric, shape: Shape, path: &str, findings: &mut Vec<Finding>) {
    let conditions = [("successCondition", &metric.success), ("failureCondition", &metric.failure)];
    for (field, condition) in conditions {
        if let Some(condition) = condition {
            lint_condition(condition, shape, &format!("{path}.{field}"), findings);
        }
    }
}

fn lint_condition(condition: &Condition, shape: Shape, path: &str, findings: &mut Vec<Finding>) {
    let results: Vec<_> =
        probes(condition.text(), shape).iter().map(|sample| condition.holds(sample)).collect();
    let (trues, falses) = (results.contains(&Ok(true)), results.contains(&Ok(false)));
    if !trues && !falses {
        let why = results.into_iter().find_map(Result::err).map(|e| e.to_string());
        let remedy = match shape {
            Shape::Scalar => "the query gives one number: write result, as in result <= 0.01",
            Shape::OneSeries | Shape::ManySeries => {
                "the query gives a list: write result[0], as in result[0] <= 0.01"
            }
        };
        let message = format!("can never be evaluated: {}", why.unwrap_or_default());
        findings.push(error(path, condition.text(), &message, remedy));
    } else if !(trues && falses) {
        let message = format!("is {trues} for every result");
        let remedy = "compare result with a bound";
        findings.push(warning(path, condition.text(), &message, remedy));
    } else if shape == Shape::ManySeries && condition.bound().is_some() {
        let message = "the query can give several series and only the first one is looked at";
        let remedy = "aggregate the query by sum(...), or write all(result, # <= bound)";
        findings.push(warning(path, condition.text(), message, remedy));
    }
}

/// Results to try a condition on: round numbers, and those around every number it names.
fn probes(text: &str, shape: Shape) -> Vec<Sample> {
    let mut values = vec![-1.0, 0.0, 1e-6, 0.01, 0.5, 0.99, 1.0, 10.0, 1e3, 1e6, 1e12];
    let numbers = text.split(|c: char| !c.is_ascii_digit() && c != '.').filter(|t| !t.is_empty());
    for number in numbers.filter_map(|number| number.parse::<f64>().ok()) {
        values.extend([number, number - 1e-6, number + 1e-6, -number]);
    }
    values
        .into_iter()
        .flat_map(|value| match shape {
            Shape::Scalar => vec![Sample::Value(value)],
            Shape::OneSeries => vec![Sample::Series(vec![value])],
            Shape::ManySeries => {
                vec![Sample::Series(vec![value]), Sample::Series(vec![value, 0.5, 1e6])]
            }
        })
        .collect()
}

fn lint_limits(metric: &CheckedMetric, path: &str, findings: &mut Vec<Finding>) {
    if metric.success.is_none() && metric.failure.is_none() {
        let message = "no condition: every answer is successful, so this metric never fails";
        let remedy = "write a successCondition or a failureCondition";
        findings.push(warning(path, &metric.name, message, remedy));
    }
    if let (Some(count), Some(limit), None) =
        (metric.count, metric.failure_limit, metric.success_limit)
        && limit >= count
    {
        let path = format!("{path}.failureLimit");
        let message = format!("never fails: it needs more than {limit} failures of {count}");
        let remedy = "write a failureLimit below count";
        findings.push(warning(&path, &limit.to_string(), &message, remedy));
    }
}

fn of_spec_error(refused: SpecError) -> Finding {
    match refused {
        SpecError::Field { path, message } => error(&path, "", &message, "correct the field"),
        SpecError::Condition { path, text, source } => {
            error(&path, &text, &source.to_string(), "write an expression over result")
        }
        SpecError::Unsupported { path, remedy } => error(&path, "", "not supported yet", &remedy),
        SpecError::NoMetrics | SpecError::Args(_) | SpecError::Metric { .. } => {
            error("spec", "", &refused.to_string(), "correct the template")
        }
    }
}

fn error(path: &str, value: &str, message: &str, remedy: &str) -> Finding {
    finding(path, value, message, remedy, Severity::Error)
}

fn warning(path: &str, value: &str, message: &str, remedy: &str) -> Finding {
    finding(path, value, message, remedy, Severity::Warning)
}

fn finding(path: &str, value: &str, message: &str, remedy: &str, severity: Severity) -> Finding {
    Finding {
        path: path.to_owned(),
        value: value.to_owned(),
        message: message.to_owned(),
        remedy: remedy.to_owned(),
        severity,
    }
}
