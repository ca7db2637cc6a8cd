//! Steps and the templates they wait for: an analysis that never ends holds its step for ever, which neither
//! the Rollout nor the template shows alone.

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::place::{Node, Place};
use crate::analysis::{TemplateKey, lint_endless};
use crate::api::AnalysisTemplateSpec;
use crate::api::analysis::DryRun;
use crate::api::rollout::TemplateRef;

/// An analysis that a step waits for, with nothing but its own end to end it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Waits {
    /// Its templates: the field that names each, and where that stands.
    pub(super) templates: Vec<(TemplateKey, String, Place)>,
    /// Its own rules for dry runs.
    pub(super) dry_run: Vec<DryRun>,
}

/// What the steps of a Rollout wait for.
pub(super) fn waits(rollout: &Value, node: &Node) -> Vec<Waits> {
    let canary = rollout.pointer("/spec/strategy/canary").unwrap_or(&Value::Null);
    let steps = canary.get("steps").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let patient = |stanza: &Value| stanza.get("timeout").is_none();
    let own = steps.iter().enumerate().filter(|(_, step)| patient(step)).filter_map(|(i, step)| {
        let path = format!("spec.strategy.canary.steps[{i}].analysis");
        Some((step.get("analysis")?, path))
    });
    let shared = canary
        .get("stepAnalysis")
        .filter(|_| steps.iter().any(|step| patient(step) && step.get("analysis").is_none()));
    let shared = shared.map(|stanza| (stanza, "spec.strategy.canary.stepAnalysis".to_owned()));
    own.chain(shared)
        .filter(|(stanza, _)| patient(stanza))
        .map(|(stanza, path)| {
            let templates: Vec<TemplateRef> = list(stanza, "templates");
            let templates = templates.into_iter().enumerate().map(|(i, template)| {
                let path = format!("{path}.templates[{i}].templateName");
                let place = node.locate(&path);
                ((template.cluster_scope, template.template_name), path, place)
            });
            Waits { templates: templates.collect(), dry_run: list(stanza, "dryRun") }
        })
        .collect()
}

fn list<T: DeserializeOwned>(stanza: &Value, field: &str) -> Vec<T> {
    let found = stanza.get(field).cloned().unwrap_or_default();
    serde_json::from_value(found).unwrap_or_default()
}

/// The templates of an analysis that keep a step from ever ending: the field, where it stands, the template
/// and its metric.
pub(super) fn endless<'a>(
    waits: &'a Waits,
    lookup: impl Fn(&TemplateKey) -> Option<&'a AnalysisTemplateSpec>,
) -> Vec<(&'a str, Place, &'a str, &'a str)> {
    let all = reached(waits.templates.iter().map(|(key, ..)| key.clone()).collect(), &lookup);
    let endless = lint_endless(&all, &waits.dry_run);
    let found = waits.templates.iter().filter_map(|(key, path, place)| {
        let own = reached(vec![key.clone()], &lookup);
        let mut metrics = own.into_iter().flatten().flat_map(|spec| &spec.metrics);
        let metric = metrics.find(|metric| endless.contains(&metric.name.as_str()))?;
        Some((path.as_str(), *place, key.1.as_str(), metric.name.as_str()))
    });
    found.collect()
}

/// These templates and those that they name; `None`: one that is not known.
fn reached<'a>(
    mut open: Vec<TemplateKey>,
    lookup: impl Fn(&TemplateKey) -> Option<&'a AnalysisTemplateSpec>,
) -> Vec<Option<&'a AnalysisTemplateSpec>> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    while let Some(key) = open.pop() {
        let spec = lookup(&key);
        let named = spec.map_or(&[][..], |spec| &spec.templates);
        if seen.insert(key) {
            open.extend(named.iter().map(|t| (t.cluster_scope, t.template_name.clone())));
            found.push(spec);
        }
    }
    found
}
