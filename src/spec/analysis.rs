//! Which analysis runs beside a release, checked.

use std::collections::BTreeMap;

use jiff::SignedDuration;

use super::duration::{self, duration};
use super::error::Errors;
use crate::api::analysis::{DryRun, MeasurementRetention};
use crate::api::rollout::{self as raw, AnalysisArg};

/// A watch over the new version after its release.
#[derive(Debug, Clone, PartialEq)]
pub struct Bake {
    /// How long.
    pub duration: SignedDuration,
    /// What is looked at.
    pub analysis: Option<AnalysisStanza>,
}

/// The templates of one AnalysisRun, their arguments and the longest it may take.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AnalysisStanza {
    /// Its name, when it has one.
    pub name: Option<String>,
    /// The templates, at least one.
    pub templates: Vec<TemplateRef>,
    /// Arguments by name.
    pub args: Vec<Arg>,
    /// How long the analysis may take before `onInconclusive` applies.
    pub timeout: Option<SignedDuration>,
    /// The first step of a background analysis, counted from 0.
    pub starting_step: i32,
    /// Metrics that do not decide, besides those of the templates.
    pub dry_run: Vec<DryRun>,
    /// Measurements kept, before what the templates say.
    pub retention: Vec<MeasurementRetention>,
    /// Labels of the run.
    pub labels: BTreeMap<String, String>,
    /// Annotations of the run.
    pub annotations: BTreeMap<String, String>,
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
            name,
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
        let metadata = analysis_run_metadata.clone().unwrap_or_default();
        Self {
            name: name.clone(),
            templates: templates
                .iter()
                .map(|t| TemplateRef { name: t.template_name.clone(), cluster: t.cluster_scope })
                .collect(),
            args: args_of(args, path, errors),
            timeout: span(timeout.as_ref(), &format!("{path}.timeout"), errors),
            starting_step: starting_step.map_or(0, |step| step.saturating_sub(1)),
            dry_run: dry_run.clone(),
            retention: measurement_retention.clone(),
            labels: metadata.labels,
            annotations: metadata.annotations,
        }
    }

    /// Checks a stanza that no background run is made of.
    pub(crate) fn parse_step(
        stanza: &raw::AnalysisStanza,
        path: &str,
        errors: &mut Errors,
    ) -> Self {
        if let Some(step) = stanza.starting_step {
            let remedy = "only a background analysis has one; leave it out";
            errors.invalid(format!("{path}.startingStep"), &step, remedy);
        }
        Self::parse(stanza, path, errors)
    }

    /// Checks the background analyses, each of which needs a name of its own.
    pub(crate) fn parse_background(canary: &raw::Canary, errors: &mut Errors) -> Vec<Self> {
        let path = "spec.strategy.canary";
        let first = canary.analysis.iter().map(|stanza| (stanza, format!("{path}.analysis")));
        let more = canary.background_analyses.iter().enumerate();
        let more = more.map(|(i, stanza)| (stanza, format!("{path}.backgroundAnalyses[{i}]")));
        let mut parsed: Vec<Self> = Vec::new();
        for (stanza, path) in first.chain(more) {
            let next = Self::parse(stanza, &path, errors);
            if parsed.iter().any(|known| known.name == next.name) {
                let remedy = "each background analysis needs a name of its own; write name: NAME";
                errors.invalid(format!("{path}.name"), &next.name, remedy);
            }
            parsed.push(next);
        }
        parsed
    }
}

impl Bake {
    /// Checks `bake`, which stands at `path`.
    pub(crate) fn parse(bake: &raw::Bake, path: &str, errors: &mut Errors) -> Self {
        let raw::Bake { duration, analysis } = bake;
        let stanza = analysis.as_ref();
        Self {
            duration: span(Some(duration), &format!("{path}.duration"), errors).unwrap_or_default(),
            analysis: stanza
                .map(|s| AnalysisStanza::parse_step(s, &format!("{path}.analysis"), errors)),
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
