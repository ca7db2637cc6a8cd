//! What is wrong with a template before any release uses it, for `sluice lint`.
//!
//! Errors are what `build_run` or the metric server would refuse; warnings are what Argo accepts
//! and no one can want: a metric that cannot fail, a condition that does not depend on the result,
//! a window shorter than the interval, a metric that gives up within a minute.

mod endless;
mod metric;
mod query;
mod whole;

pub use endless::lint_endless;
pub use whole::look_at_template;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use super::args::{self, ArgError, Args};
use super::judge::sequential;
use super::metric::{SpecError, check_metric};
use crate::api::rollout::TemplateRef;
use crate::api::{AnalysisRunSpec, AnalysisTemplateSpec, Metric};
use crate::stats::planner::Traffic;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
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

/// Said of a template that is named and not there.
const MISSING: &str = "is not among the objects that were linted";

/// A template by its scope (true: cluster) and name.
pub type TemplateKey = (bool, String);

/// Everything found, in the order of the fields.
#[must_use]
pub fn lint_template(spec: &AnalysisTemplateSpec) -> Vec<Finding> {
    let mut findings = Vec::new();
    if spec.metrics.is_empty() && spec.templates.is_empty() && spec.kayenta_config.is_none() {
        let remedy = "list at least one metric, or other templates";
        findings.push(error("spec.metrics", "[]", "no metrics specified", remedy));
    }
    let mut mentioned = BTreeSet::new();
    lint_kayenta(spec, &mut mentioned, &mut findings);
    for (index, metric) in spec.metrics.iter().enumerate() {
        let path = format!("spec.metrics[{index}]");
        if spec.metrics.iter().take(index).any(|other| other.name == metric.name) {
            let message = "two metrics have the same name";
            let remedy = "give each metric a name of its own";
            findings.push(error(&format!("{path}.name"), &metric.name, message, remedy));
        }
        lint_metric(spec, metric, &path, &mut mentioned, &mut findings);
    }
    blind(spec, &mut findings);
    too_fine(spec, &mut findings);
    unused(spec, &mentioned, &mut findings);
    rules(spec, &mut findings);
    findings
}

/// Templates that name each other in a circle, or one that is not among `templates`: what each
/// names.
#[must_use]
pub fn lint_references(
    templates: &BTreeMap<TemplateKey, Vec<TemplateRef>>,
) -> Vec<(TemplateKey, Finding)> {
    let mut findings = Vec::new();
    for (key, references) in templates {
        for (index, reference) in references.iter().enumerate() {
            let path = format!("spec.templates[{index}].templateName");
            let name = &reference.template_name;
            let to = (reference.cluster_scope, name.clone());
            if !templates.contains_key(&to) {
                let remedy = "lint it together with this one, or correct the name";
                findings.push((key.clone(), warning(&path, name, MISSING, remedy)));
            } else if reaches(templates, &to, key) {
                let message = "leads back to this template; each is taken once";
                let remedy = "take one of the references out";
                findings.push((key.clone(), warning(&path, name, message, remedy)));
            }
        }
    }
    findings
}

fn reaches(
    templates: &BTreeMap<TemplateKey, Vec<TemplateRef>>,
    from: &TemplateKey,
    to: &TemplateKey,
) -> bool {
    let mut seen = BTreeSet::new();
    let mut open = vec![from.clone()];
    while let Some(key) = open.pop() {
        if key == *to {
            return true;
        }
        if seen.insert(key.clone())
            && let Some(references) = templates.get(&key)
        {
            let next = references.iter().map(|t| (t.cluster_scope, t.template_name.clone()));
            open.extend(next);
        }
    }
    false
}

/// A canary config, with the values that open arguments might have.
fn lint_kayenta(
    spec: &AnalysisTemplateSpec,
    mentioned: &mut BTreeSet<String>,
    findings: &mut Vec<Finding>,
) {
    let mut texts = Vec::new();
    if let Ok(value) = serde_json::to_value(&spec.kayenta) {
        gather(&value, "spec.kayenta", &mut texts);
    }
    let tags = texts.iter().filter_map(|(_, text)| args::tags(text).ok()).flatten();
    let names: Vec<String> = tags.filter_map(args::name_of).map(str::to_owned).collect();
    let has_value = |name: &String| spec.args.iter().any(|a| a.name == *name && a.value.is_some());
    let open: BTreeSet<String> = names.iter().filter(|name| !has_value(name)).cloned().collect();
    mentioned.extend(names);
    let run = AnalysisRunSpec {
        kayenta_config: spec.kayenta_config.clone(),
        kayenta: spec.kayenta.clone(),
        ..AnalysisRunSpec::default()
    };
    let open: Vec<String> = open.into_iter().collect();
    let mut first = None;
    for values in stand_ins(spec, &open) {
        match super::kayenta::of_config(&run, &values, None) {
            Ok(_) => return,
            Err(refused) => first.get_or_insert(refused),
        };
    }
    findings.extend(first.map(|refused| {
        let mut finding = of_spec_error(refused);
        finding.path = format!("spec.{}", finding.path);
        finding
    }));
}

fn lint_metric(
    spec: &AnalysisTemplateSpec,
    metric: &Metric,
    path: &str,
    mentioned: &mut BTreeSet<String>,
    findings: &mut Vec<Finding>,
) {
    let mut texts = Vec::new();
    if let Ok(value) = serde_json::to_value(metric) {
        gather(&value, path, &mut texts);
    }
    let mut open = Vec::new();
    let mut assumed = false;
    let mut whole = true;
    for (path, text) in &texts {
        let tags = match args::tags(text) {
            Ok(tags) => tags,
            Err(wrong) => {
                let remedy = "close it, or write a literal as {{ \"{{\" }}";
                findings.push(error(path, text, &wrong.to_string(), remedy));
                whole = false;
                continue;
            }
        };
        for tag in tags {
            let name = args::name_of(tag);
            mentioned.extend(name.map(str::to_owned));
            let declared = name.and_then(|name| spec.args.iter().find(|arg| arg.name == name));
            match declared {
                None => {
                    let unknown = ArgError::Unresolved(tag.trim().to_owned()).to_string();
                    let message = unknown.split(':').next().unwrap_or_default();
                    let remedy = "declare it under spec.args, or correct the name; a literal is \
                                  written {{ \"{{\" }}";
                    findings.push(error(path, text, message, remedy));
                    whole &= name.is_some();
                }
                Some(arg) if arg.value.is_some() => continue,
                Some(_) => {}
            }
            assumed |= path.ends_with(".interval") || path.ends_with(".query");
            // An unknown one hides nothing else: it stands for something too.
            open.extend(name.filter(|name| !open.iter().any(|o| o == name)).map(str::to_owned));
        }
    }
    if !whole {
        return;
    }
    all_versions(&texts, metric, path, findings);
    let mut first = None;
    for values in stand_ins(spec, &open) {
        let Ok(completed) = args::complete(metric, &values) else { continue };
        let found = match check_metric(&completed, path) {
            Ok(checked) => metric::lint(&checked, metric, path, assumed),
            Err(refused) => vec![of_spec_error(refused)],
        };
        if !found.iter().any(|finding| finding.severity == Severity::Error) {
            findings.extend(found);
            return;
        }
        first.get_or_insert(found);
    }
    findings.extend(first.unwrap_or_default());
}

/// A query without any argument asks the same of every release, and of both versions at once.
fn all_versions(
    texts: &[(String, String)],
    metric: &Metric,
    path: &str,
    findings: &mut Vec<Finding>,
) {
    let at = format!("{path}.provider.prometheus.query");
    let Some((_, query)) = texts.iter().find(|(path, _)| *path == at) else { return };
    if metric.compare.is_none() && !query.contains("{{") && query.contains('{') {
        let message = "names no argument: it judges both versions at once, and a new version with \
                       10% of the requests is a tenth of the answer";
        let remedy = "declare an argument, select by it, and give it \
                      valueFrom.podTemplateHashValue: Latest in the Rollout";
        findings.push(warning(&at, query, message, remedy));
    }
}

/// Gauges whose noise nothing tells: the judge cannot speak of them.
fn blind(spec: &AnalysisTemplateSpec, findings: &mut Vec<Finding>) {
    if spec.calibration.is_some() {
        return;
    }
    for (index, metric) in spec.metrics.iter().enumerate() {
        let compare = metric.compare.as_ref().filter(|compare| compare.judge.is_none());
        let Some(gauge) = compare.and_then(|compare| compare.gauge.as_ref()) else { continue };
        let path = format!("spec.metrics[{index}].compare.gauge");
        let remedy = "give the template a calibration, from which its noise is learnt";
        findings.push(match metric.critical {
            true => {
                let message = "can neither pass nor fail without history, and is critical: every \
                               release would wait for a person";
                error(&path, gauge, message, remedy)
            }
            false => {
                let message = "can neither pass nor fail without history: it is shown and does not \
                               decide";
                warning(&path, gauge, message, remedy)
            }
        });
    }
}

/// Changes so small that what is allowed for the noise of pods hides them at any traffic.
fn too_fine(spec: &AnalysisTemplateSpec, findings: &mut Vec<Finding>) {
    if spec.calibration.is_some() {
        return;
    }
    // The longest time is finite or not whatever the traffic is.
    let traffic = Traffic { per_second: 1.0, canary: 0.1, bad: 0.01 };
    for (index, metric) in spec.metrics.iter().enumerate() {
        let compare = metric.compare.as_ref().filter(|compare| compare.judge.is_none());
        let compare = compare.filter(|compare| compare.gauge.is_none());
        let Some(text) = compare.and_then(|compare| compare.harmful.as_ref()) else { continue };
        let percent = text.strip_suffix('%').and_then(|percent| percent.parse::<f64>().ok());
        let Some(harmful) = percent.map(|percent| 1.0 + percent / 100.0) else { continue };
        let goal = sequential::goal(0.01, harmful, Some((None, (1, 1))));
        if traffic.minutes_to_find(harmful, goal, 0.5).is_infinite() {
            let path = format!("spec.metrics[{index}].compare.harmful");
            let message = "without history half of it is allowed for the noise of pods, and the rest is \
                           too little to be failed at any traffic";
            let remedy = "give the template a calibration, or write 16% or more";
            findings.push(warning(&path, text, message, remedy));
        }
    }
}

/// Arguments that a caller must give though nothing uses them.
fn unused(spec: &AnalysisTemplateSpec, mentioned: &BTreeSet<String>, findings: &mut Vec<Finding>) {
    for (index, arg) in spec.args.iter().enumerate() {
        let needed = arg.value.is_none() && arg.value_from.is_none();
        if needed && spec.templates.is_empty() && !mentioned.contains(&arg.name) {
            let message = "has to be given by every caller and no metric uses it";
            let path = format!("spec.args[{index}]");
            findings.push(warning(&path, &arg.name, message, "take it out, or use it"));
        }
    }
}

/// The rules over all metrics: dry runs, retention, the decision.
fn rules(spec: &AnalysisTemplateSpec, findings: &mut Vec<Finding>) {
    if findings.iter().any(|finding| finding.severity == Severity::Error) {
        return;
    }
    let weighted = spec.decide.as_ref().is_some_and(|decide| decide.score.is_some());
    for (index, metric) in spec.metrics.iter().enumerate() {
        if let Some(weight) = metric.weight.filter(|_| !weighted && metric.compare.is_none()) {
            let path = format!("spec.metrics[{index}].weight");
            let message = "no effect: metrics are weighed by decide.score";
            let remedy = "write decide: {score: 70%}, or leave it out";
            findings.push(warning(&path, &weight.to_string(), message, remedy));
        }
    }
    if !spec.templates.is_empty() {
        // Rules may match metrics of the templates that are named.
        return;
    }
    let metrics = spec.metrics.iter().map(|metric| Metric {
        name: metric.name.clone(),
        provider: metric.provider.clone().map(|_| plain_provider()),
        advisory: metric.advisory,
        ..Metric::default()
    });
    let bare = AnalysisRunSpec {
        metrics: metrics.filter(|metric| metric.provider.is_some()).collect(),
        dry_run: spec.dry_run.clone(),
        measurement_retention: spec.measurement_retention.clone(),
        decide: spec.decide.clone(),
        ..AnalysisRunSpec::default()
    };
    if bare.metrics.len() == spec.metrics.len()
        && let Err(SpecError::Field { path, message }) = super::metric::check_shape(&bare)
    {
        findings.push(error(&format!("spec.{path}"), "", &message, "correct the rule"));
    }
}

fn plain_provider() -> crate::api::provider::Provider {
    let prometheus =
        crate::api::provider::Prometheus { query: Some("1".to_owned()), ..Default::default() };
    crate::api::provider::Provider { prometheus: Some(prometheus), ..Default::default() }
}

/// Every text of a value with its path.
fn gather(value: &Value, path: &str, found: &mut Vec<(String, String)>) {
    match value {
        Value::String(text) => found.push((path.to_owned(), text.clone())),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                gather(item, &format!("{path}[{index}]"), found);
            }
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                gather(field, &format!("{path}.{name}"), found);
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
