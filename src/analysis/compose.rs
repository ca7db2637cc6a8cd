//! One AnalysisRun of several templates: nested templates flattened, metrics merged, arguments
//! resolved. Argo's rules; refused besides: cycles, and arguments that nothing could resolve.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::Value;

use super::args;
use super::metric::{self, SpecError};
use crate::api::analysis::{MeasurementRetention, TemplateArg};
use crate::api::analysis_run::RunRelease;
use crate::api::{AnalysisRun, AnalysisRunSpec, AnalysisTemplateSpec, DurationSpec};
use crate::spec::{AnalysisStanza, ArgValue, TemplateRef};

/// Why a run cannot be made. The message names the template, the field and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnalysisError {
    /// A template that is named does not exist.
    #[error("{kind} {name:?} not found: create it, or correct analysis.templates")]
    NoTemplate {
        /// AnalysisTemplate or ClusterAnalysisTemplate.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// No template at all.
    #[error("analysis.templates is empty: name at least one template")]
    NoTemplates,
    /// Two templates define the same thing in different ways.
    #[error("template {template:?}: {path}: {message}")]
    Collision {
        /// The second of the two.
        template: String,
        /// The field.
        path: String,
        /// What collides.
        message: String,
    },
    /// An argument cannot be resolved.
    #[error("analysis.args {name:?}: {message}")]
    Arg {
        /// The argument.
        name: String,
        /// What is wrong and what to write.
        message: String,
    },
    /// The merged spec is wrong.
    #[error("templates {templates}: {source}")]
    Spec {
        /// The templates.
        templates: String,
        /// What is wrong.
        source: Box<SpecError>,
    },
}

/// A template with its name.
#[derive(Debug, Clone)]
pub struct NamedTemplate<'a> {
    /// Its name.
    pub name: String,
    /// Its spec.
    pub spec: &'a AnalysisTemplateSpec,
}

/// What the release gives to its analysis.
#[derive(Debug, Clone, Copy)]
pub struct ReleaseContext<'a> {
    /// Pod template hash of the stable revision.
    pub stable: &'a str,
    /// Pod template hash of the new revision.
    pub canary: &'a str,
    /// The Rollout as JSON, for `fieldRef`.
    pub rollout: &'a Value,
    /// The release, for the run's spec.
    pub release: Option<&'a RunRelease>,
}

/// The templates that `refs` name and those that they name, each once, in order of first mention.
///
/// # Errors
/// When `lookup` does not know one.
pub fn flatten<'a>(
    refs: &[TemplateRef],
    lookup: impl Fn(&TemplateRef) -> Option<&'a AnalysisTemplateSpec>,
) -> Result<Vec<NamedTemplate<'a>>, AnalysisError> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    let mut open: Vec<TemplateRef> = refs.iter().rev().cloned().collect();
    while let Some(reference) = open.pop() {
        if !seen.insert((reference.cluster, reference.name.clone())) {
            continue;
        }
        let Some(spec) = lookup(&reference) else {
            let kind = match reference.cluster {
                true => "ClusterAnalysisTemplate",
                false => "AnalysisTemplate",
            };
            return Err(AnalysisError::NoTemplate { kind, name: reference.name });
        };
        found.push(NamedTemplate { name: reference.name, spec });
        open.extend(spec.templates.iter().rev().map(|nested| TemplateRef {
            name: nested.template_name.clone(),
            cluster: nested.cluster_scope,
        }));
    }
    Ok(found)
}

/// One run of all `templates` (see [`flatten`]) with the arguments of `stanza`.
///
/// # Errors
/// When templates collide, an argument has no value, or the merged spec is wrong.
pub fn build_run(
    name: &str,
    namespace: &str,
    owner: Option<OwnerReference>,
    templates: &[NamedTemplate<'_>],
    stanza: &AnalysisStanza,
    context: &ReleaseContext<'_>,
) -> Result<AnalysisRun, AnalysisError> {
    let mut spec = merge(templates)?;
    let (callers, declared) = (&stanza.args, std::mem::take(&mut spec.args));
    spec.args = declared
        .into_iter()
        .map(|declared| {
            let given = callers.iter().find(|arg| arg.name == declared.name);
            resolve(&declared, given.map(|arg| &arg.value), context)
        })
        .collect::<Result<_, _>>()?;
    let more: Vec<_> =
        stanza.dry_run.iter().filter(|rule| !spec.dry_run.contains(rule)).cloned().collect();
    spec.dry_run.extend(more);
    let own = |rule: &MeasurementRetention| {
        stanza.retention.iter().any(|other| other.metric_name == rule.metric_name)
    };
    spec.measurement_retention.retain(|rule| !own(rule));
    spec.measurement_retention.extend(stanza.retention.iter().cloned());
    spec.timeout = stanza.timeout.map(|timeout| DurationSpec::Seconds(timeout.as_secs()));
    spec.release = context.release.cloned();
    metric::check_shape(&spec).map_err(|source| {
        let names: Vec<_> = templates.iter().map(|template| template.name.as_str()).collect();
        AnalysisError::Spec { templates: names.join(", "), source: Box::new(source) }
    })?;
    let metadata = ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        owner_references: owner.map(|owner| vec![owner]),
        labels: Some(stanza.labels.clone()).filter(|labels| !labels.is_empty()),
        annotations: Some(stanza.annotations.clone()).filter(|notes| !notes.is_empty()),
        ..ObjectMeta::default()
    };
    Ok(AnalysisRun { metadata, spec, status: None })
}

fn merge(templates: &[NamedTemplate<'_>]) -> Result<AnalysisRunSpec, AnalysisError> {
    if templates.is_empty() {
        return Err(AnalysisError::NoTemplates);
    }
    let mut merged = AnalysisRunSpec::default();
    for NamedTemplate { name, spec } in templates {
        let AnalysisTemplateSpec {
            metrics,
            args,
            dry_run,
            measurement_retention,
            templates: _,
            decide,
            risk,
            calibration,
            kayenta_config,
            kayenta,
        } = spec;
        let collision = |path: &str, message: String| AnalysisError::Collision {
            template: name.clone(),
            path: path.to_owned(),
            message,
        };
        for metric in metrics {
            if merged.metrics.iter().any(|other| other.name == metric.name) {
                let message = format!("two metrics have the same name '{}'", metric.name);
                return Err(collision("metrics", message));
            }
            merged.metrics.push(metric.clone());
        }
        for rule in dry_run {
            if merged.dry_run.contains(rule) {
                let message = format!("two rules for the metric name '{}'", rule.metric_name);
                return Err(collision("dryRun", message));
            }
            merged.dry_run.push(rule.clone());
        }
        for rule in measurement_retention {
            let rules = &mut merged.measurement_retention;
            if rules.iter().any(|other| other.metric_name == rule.metric_name) {
                let message = format!("two rules for the metric name '{}'", rule.metric_name);
                return Err(collision("measurementRetention", message));
            }
            rules.push(rule.clone());
        }
        for arg in args {
            merge_arg(&mut merged.args, arg).map_err(|message| collision("args", message))?;
        }
        if let (Some(one), Some(other)) = (&merged.decide, decide)
            && one != other
        {
            let message = "two templates decide in different ways".to_owned();
            return Err(collision("decide", message));
        }
        merged.decide = merged.decide.or_else(|| decide.clone());
        merged.risk = merged.risk.or_else(|| risk.clone());
        merged.calibration = merged.calibration.or_else(|| calibration.clone());
        if merged.kayenta_config.is_some() && kayenta_config.is_some() {
            let message = "two templates have a canary config; merge their metrics".to_owned();
            return Err(collision("kayentaConfig", message));
        }
        merged.kayenta_config = merged.kayenta_config.or_else(|| kayenta_config.clone());
        merged.kayenta = merged.kayenta.or_else(|| kayenta.clone());
    }
    Ok(merged)
}

/// Same name in several templates: one value is used, two different ones collide.
fn merge_arg(args: &mut Vec<TemplateArg>, arg: &TemplateArg) -> Result<(), String> {
    let Some(other) = args.iter_mut().find(|other| other.name == arg.name) else {
        args.push(arg.clone());
        return Ok(());
    };
    let (blank, given) = (|a: &TemplateArg| a.value.is_none() && a.value_from.is_none(), arg);
    if blank(other) {
        *other = given.clone();
    } else if !blank(given) && other != given {
        return Err(format!("two templates give the argument '{}' different values", arg.name));
    }
    Ok(())
}

fn resolve(
    declared: &TemplateArg,
    given: Option<&ArgValue>,
    context: &ReleaseContext<'_>,
) -> Result<TemplateArg, AnalysisError> {
    let name = &declared.name;
    let value = match given {
        Some(ArgValue::Text(value)) => Ok(value.clone()),
        Some(ArgValue::StableHash) => Ok(context.stable.to_owned()),
        Some(ArgValue::LatestHash) => Ok(context.canary.to_owned()),
        Some(ArgValue::Field(path)) => field_value(context.rollout, path),
        // Read when the run asks: a secret is never written into a run.
        None if args::secret_of(declared).is_some() => return Ok(declared.clone()),
        None => declared_value(declared, context),
    };
    let value = value.map_err(|message| AnalysisError::Arg { name: name.clone(), message })?;
    Ok(TemplateArg { name: name.clone(), value: Some(value), value_from: None })
}

fn declared_value(arg: &TemplateArg, context: &ReleaseContext<'_>) -> Result<String, String> {
    if let Some(value) = &arg.value {
        return Ok(value.clone());
    }
    let from = arg.value_from.as_ref();
    if let Some(field) = from.and_then(|from| from.field_ref.as_ref()) {
        return field_value(context.rollout, &field.field_path);
    }
    Err(format!(
        "args.{} was not resolved: give it a value in the Rollout's analysis args, or a default in \
         the template",
        arg.name
    ))
}

/// The value at a path such as `metadata.labels['app']` or `spec.strategy.canary.steps[0].traffic`.
fn field_value(rollout: &Value, path: &str) -> Result<String, String> {
    let mut value = rollout;
    for segment in segments(path)? {
        let next = match value {
            Value::Array(items) => {
                let index: usize =
                    segment.parse().map_err(|_| format!("invalid index '{segment}' in {path}"))?;
                let out = || format!("index {index} out of range in {path}");
                Some(items.get(index).ok_or_else(out)?)
            }
            Value::Object(fields) => fields.get(&segment),
            _ => None,
        };
        value = next.ok_or_else(|| format!("invalid path {path} in rollout: no {segment:?}"))?;
    }
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(_) | Value::Bool(_) => Ok(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => {
            Err(format!("path {path} in rollout must terminate in a primitive value"))
        }
    }
}

/// Splits a path at `.` and brackets. A quoted key may hold dots.
fn segments(path: &str) -> Result<Vec<String>, String> {
    let invalid = || format!("invalid path {path:?} in rollout: write metadata.labels['app']");
    let mut segments = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('[') {
            let split = if let Some(quoted) = inner.strip_prefix('"') {
                quoted.split_once("\"]")
            } else if let Some(quoted) = inner.strip_prefix('\'') {
                quoted.split_once("']")
            } else {
                inner.split_once(']')
            };
            let (segment, tail) = split.ok_or_else(invalid)?;
            segments.push(segment.to_owned());
            rest = tail;
        } else {
            let rest_of = rest.strip_prefix('.').unwrap_or(rest);
            let end = rest_of.find(['.', '[']).unwrap_or(rest_of.len());
            let (segment, tail) = rest_of.split_at(end);
            if segment.is_empty() {
                return Err(invalid());
            }
            segments.push(segment.to_owned());
            rest = tail;
        }
    }
    if segments.is_empty() { Err(invalid()) } else { Ok(segments) }
}
