//! Which analysis runs beside a release, checked.

use jiff::SignedDuration;

use super::duration::{self, duration};
use super::error::Errors;
use crate::api::rollout::{self as raw, AnalysisArg};

/// The templates of one AnalysisRun, their arguments and the longest it may take.
#[derive(Debug, Clone, PartialEq)]
pub struct AnalysisStanza {
    /// The templates, at least one.
    pub templates: Vec<TemplateRef>,
    /// Arguments by name.
    pub args: Vec<Arg>,
    /// How long the analysis may take before `onInconclusive` applies.
    pub timeout: Option<SignedDuration>,
}

/// A template by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateRef {
    /// Its name.
    pub name: String,
    /// True: a ClusterAnalysisTemplate.
    pub cluster: bool,
}

/// An argument for the templates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arg {
    /// Its name.
    pub name: String,
    /// Its value, or where that comes from.
    pub value: ArgValue,
}

/// The value of an argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArgValue {
    /// The value itself.
    Text(String),
    /// The pod template hash of the stable revision.
    StableHash,
    /// The pod template hash of the new revision.
    LatestHash,
    /// The field of the Rollout at this path.
    Field(String),
}

impl AnalysisStanza {
    /// Checks `stanza`, which stands at `path`.
    pub(crate) fn parse(stanza: &raw::AnalysisStanza, path: &str, errors: &mut Errors) -> Self {
        let raw::AnalysisStanza {
            templates,
            args,
            timeout,
            starting_step,
            dry_run,
            measurement_retention,
            analysis_run_metadata,
        } = stanza;
        if templates.is_empty() {
            errors.invalid(
                format!("{path}.templates"),
                templates,
                "must name at least one template; write `- templateName: NAME`",
            );
        }
        if let Some(step) = starting_step {
            let remedy = "a background analysis starts with the first canary request; leave it out";
            errors.unsupported(format!("{path}.startingStep"), step, remedy);
        }
        if !dry_run.is_empty() {
            let remedy =
                "every metric decides; leave it out or take the metric out of the template";
            errors.unsupported(format!("{path}.dryRun"), dry_run, remedy);
        }
        if !measurement_retention.is_empty() {
            let remedy = "10 measurements of each metric are kept; leave it out";
            let path = format!("{path}.measurementRetention");
            errors.unsupported(path, measurement_retention, remedy);
        }
        if let Some(metadata) = analysis_run_metadata {
            let remedy = "runs carry labels of their own; leave it out";
            errors.unsupported(format!("{path}.analysisRunMetadata"), metadata, remedy);
        }
        Self {
            templates: templates
                .iter()
                .map(|t| TemplateRef { name: t.template_name.clone(), cluster: t.cluster_scope })
                .collect(),
            args: args_of(args, path, errors),
            timeout: span(timeout.as_ref(), &format!("{path}.timeout"), errors),
        }
    }
}

fn args_of(args: &[AnalysisArg], path: &str, errors: &mut Errors) -> Vec<Arg> {
    let mut out: Vec<Arg> = Vec::new();
    for (i, arg) in args.iter().enumerate() {
        let path = format!("{path}.args[{i}]");
        if out.iter().any(|known| known.name == arg.name) {
            errors.invalid(
                format!("{path}.name"),
                &arg.name,
                "is given twice; give each argument once",
            );
        }
        if let Some(value) = arg_value(arg) {
            out.push(Arg { name: arg.name.clone(), value });
        } else {
            errors.invalid(
                path,
                arg,
                "must have exactly one of value, valueFrom.podTemplateHashValue (Stable or Latest) \
                 and valueFrom.fieldRef",
            );
        }
    }
    out
}

fn arg_value(arg: &AnalysisArg) -> Option<ArgValue> {
    match (&arg.value, &arg.value_from) {
        (Some(text), None) => Some(ArgValue::Text(text.clone())),
        (None, Some(from)) => match (from.pod_template_hash_value.as_deref(), &from.field_ref) {
            (Some("Stable"), None) => Some(ArgValue::StableHash),
            (Some("Latest"), None) => Some(ArgValue::LatestHash),
            (None, Some(field)) => Some(ArgValue::Field(field.field_path.clone())),
            _ => None,
        },
        _ => None,
    }
}

/// The span at `path`, if one is written there.
pub(crate) fn span(
    spec: Option<&crate::api::DurationSpec>,
    path: &str,
    errors: &mut Errors,
) -> Option<SignedDuration> {
    let spec = spec?;
    let parsed = duration(spec);
    if parsed.is_none() {
        errors.invalid(path, spec, duration::REMEDY);
    }
    parsed
}
