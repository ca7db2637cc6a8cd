//! `sluice lint`: what is wrong with manifests, before any cluster sees them.
//!
//! Two looks at each object: what the API server would refuse, in its own words (the in-memory one's
//! validator says them), and what only we know (fields that are not supported yet,
//! conditions and queries of templates). What needs a cluster is not looked at. Every finding has a
//! place in its text ([`Place`]); [`Report`] prints them for people, as JSON and as SARIF.

mod place;
mod sarif;
mod steps;

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::analysis::{self, TemplateKey, lint_references, lint_template};
use crate::api::metric_provider::MetricProviderSpec;
use crate::api::rollout::TemplateRef;
use crate::api::{AnalysisRunSpec, AnalysisTemplateSpec, GROUP, RolloutSpec, VERSION, crds};
use crate::sim::schema;
use crate::spec::{Plan, SpecError, supported};

pub use crate::analysis::Severity;
use place::Node;
pub use place::Place;
use steps::{Waits, endless, waits};

/// How the finding begins that says no more than a schema's.
const UNREADABLE: &str = "cannot be read";

/// Which kind of thing is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// It cannot be read.
    Yaml,
    /// Group, version or kind is not served here.
    Kind,
    /// A field that does not exist.
    UnknownField,
    /// The API server would refuse it.
    Schema,
    /// Sluice would refuse it, or cannot do it.
    Spec,
    /// A template cannot work, or hardly as it is meant.
    Template,
}

impl Rule {
    /// Every rule.
    pub const ALL: [Self; 6] =
        [Self::Yaml, Self::Kind, Self::UnknownField, Self::Schema, Self::Spec, Self::Template];

    /// Its name for programs.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Self::Yaml => "yaml",
            Self::Kind => "kind",
            Self::UnknownField => "unknown-field",
            Self::Schema => "schema",
            Self::Spec => "spec",
            Self::Template => "template",
        }
    }

    /// What it is about.
    #[must_use]
    pub fn about(self) -> &'static str {
        match self {
            Self::Yaml => "The text can be read.",
            Self::Kind => "Group, version and kind are served.",
            Self::UnknownField => "Every field exists.",
            Self::Schema => "The API server accepts it.",
            Self::Spec => "Sluice accepts it and can do it.",
            Self::Template => "An analysis can work and can tell good from bad.",
        }
    }
}

/// One thing that is wrong. An [`analysis::Finding`] knows no rule, and no place in a text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Which kind of thing.
    pub rule: Rule,
    /// The field, for example `spec.strategy.canary.steps[0].traffic`.
    pub path: String,
    /// What stands there, as JSON; empty for what is missing.
    pub value: String,
    /// What is wrong, in the API server's words where it would refuse the object.
    pub message: String,
    /// What to write, where the message does not say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// Where the field stands, or the closest one around it.
    #[serde(flatten)]
    pub place: Place,
}

impl Finding {
    /// Path, words and remedy.
    #[must_use]
    pub fn sentence(&self) -> String {
        let path = Some(&self.path).filter(|path| !path.is_empty());
        let path = path.map(|path| format!("{path}: ")).unwrap_or_default();
        let remedy = self.remedy.as_ref().map(|remedy| format!("; {remedy}")).unwrap_or_default();
        format!("{path}{}{remedy}", self.message)
    }
}

/// One object and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Linted {
    /// Where it was read: a file's name, or `-`.
    pub source: String,
    /// The document of the source, counted from 1.
    pub document: usize,
    /// Its kind; empty when the source could not be read.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// What is wrong, in the order of the fields.
    pub findings: Vec<Finding>,
}

/// Everything that was looked at.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Report {
    /// Our objects.
    pub objects: Vec<Linted>,
    /// How many objects of other kinds were passed over.
    pub others: usize,
    /// Which templates each template names.
    #[serde(skip)]
    named: BTreeMap<TemplateKey, Named>,
    /// What steps wait for, by the index of their Rollout in the report's objects.
    #[serde(skip)]
    waits: Vec<(usize, Waits)>,
}

/// The templates that a template names.
#[derive(Debug, Clone, PartialEq)]
struct Named {
    /// Its index in the report's objects.
    object: usize,
    refs: Vec<TemplateRef>,
    /// Where each name stands, in the same order.
    places: Vec<Place>,
    /// What it says, where it can be read.
    spec: Option<AnalysisTemplateSpec>,
}

/// What a lint comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is wrong; warnings at most.
    Clean,
    /// Something is wrong.
    Wrong,
    /// There was nothing of ours to look at.
    Nothing,
}

impl Outcome {
    /// The exit code: 0 clean, 1 wrong, 2 nothing to look at.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::Wrong => 1,
            Self::Nothing => 2,
        }
    }
}

impl Report {
    /// Adds what is wrong with the manifests of `text`, YAML or JSON, read from `source`.
    pub fn add(&mut self, linter: &Linter, source: &str, text: &str) {
        let documents: Vec<Node> = match serde_saphyr::from_multiple(text) {
            Ok(documents) => documents,
            Err(error) => {
                let message = format!("is no YAML: {}", error.without_snippet());
                let mut finding = error_at(Rule::Yaml, "", "", message);
                finding.place = error.location().map(Place::from).unwrap_or_default();
                self.push(source, 1, &Value::Null, vec![finding]);
                return;
            }
        };
        for (i, document) in documents.iter().enumerate() {
            for object in document.objects() {
                self.add_object(linter, source, i + 1, object);
            }
        }
    }

    fn add_object(&mut self, linter: &Linter, source: &str, document: usize, node: &Node) {
        let object = node.value();
        match linter.lint(&object) {
            Some(mut findings) => {
                findings.iter_mut().for_each(|f| f.place = node.locate(&f.path));
                self.note(&object, node);
                self.push(source, document, &object, findings);
            }
            None => self.others += usize::from(!object.is_null()),
        }
    }

    fn push(&mut self, source: &str, document: usize, object: &Value, findings: Vec<Finding>) {
        let text = |pointer| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        self.objects.push(Linted {
            source: source.to_owned(),
            document,
            kind: text("/kind").to_owned(),
            name: text("/metadata/name").to_owned(),
            findings,
        });
    }

    /// Remembers which templates a template names.
    fn note(&mut self, object: &Value, node: &Node) {
        let text = |pointer| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let cluster = match text("/kind") {
            "AnalysisTemplate" => false,
            "ClusterAnalysisTemplate" => true,
            "Rollout" => {
                let object_of_it = self.objects.len();
                self.waits.extend(waits(object, node).into_iter().map(|w| (object_of_it, w)));
                return;
            }
            _ => return,
        };
        let spec = object.get("spec").cloned().unwrap_or_default();
        let spec = serde_json::from_value::<AnalysisTemplateSpec>(spec).ok();
        let refs = object.pointer("/spec/templates").cloned().unwrap_or(Value::Array(Vec::new()));
        let refs: Vec<TemplateRef> = serde_json::from_value(refs).unwrap_or_default();
        let name = |i| format!("{}.templateName", reference(i));
        let places = (0..refs.len()).map(|i| node.locate(&name(i))).collect();
        let key = (cluster, text("/metadata/name").to_owned());
        self.named.insert(key, Named { object: self.objects.len(), refs, places, spec });
    }

    /// Adds what is wrong between the objects, once all of them were added.
    pub fn finish(&mut self) {
        let refs = self.named.iter().map(|(key, named)| (key.clone(), named.refs.clone()));
        for (key, finding) in lint_references(&refs.collect()) {
            let Some(named) = self.named.get(&key) else { continue };
            let mut finding = of_finding(finding);
            let at = (0..named.refs.len()).find(|i| finding.path.starts_with(&reference(*i)));
            finding.place = at.and_then(|i| named.places.get(i)).copied().unwrap_or_default();
            if let Some(object) = self.objects.get_mut(named.object) {
                object.findings.push(finding);
            }
        }
        for (object, waits) in std::mem::take(&mut self.waits) {
            let spec = |key: &TemplateKey| self.named.get(key)?.spec.as_ref();
            for (path, place, template, metric) in endless(&waits, spec) {
                let message = analysis::endless_step(metric);
                let mut finding = error_at(Rule::Template, path, &quoted(template), message);
                (finding.remedy, finding.place) =
                    (Some(analysis::ENDLESS_REMEDY.to_owned()), place);
                if let Some(object) = self.objects.get_mut(object) {
                    object.findings.push(finding);
                }
            }
        }
    }

    /// What it comes to.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let mut findings = self.objects.iter().flat_map(|object| &object.findings);
        if self.objects.is_empty() {
            Outcome::Nothing
        } else if findings.any(|finding| finding.severity == Severity::Error) {
            Outcome::Wrong
        } else {
            Outcome::Clean
        }
    }

    /// The report for people: one line per finding, and a last line that counts.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        let (mut errors, mut warnings) = (0, 0);
        for object in &self.objects {
            for finding in &object.findings {
                let severity = match finding.severity {
                    Severity::Error => "error",
                    Severity::Warning => "warning",
                };
                match finding.severity {
                    Severity::Error => errors += 1,
                    Severity::Warning => warnings += 1,
                }
                let Linted { source, document, kind, name, .. } = object;
                let Place { line, column } = finding.place;
                let subject = match kind.is_empty() {
                    true => format!("document {document}"),
                    false => format!("{kind}/{name} (document {document})"),
                };
                out.push_str(&format!(
                    "{source}:{line}:{column}: {severity}: {subject}: {}\n",
                    finding.sentence()
                ));
            }
        }
        let (count, others) = (self.objects.len(), self.others);
        out.push_str(&format!(
            "{count} objects, {errors} errors, {warnings} warnings; {others} of other kinds\n"
        ));
        out
    }

    /// The report as JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// The report as a SARIF 2.1.0 log.
    #[must_use]
    pub fn to_sarif(&self) -> String {
        serde_json::to_string_pretty(&sarif::log(self)).unwrap_or_default()
    }
}

/// The schemas of our kinds, made once.
pub struct Linter {
    kinds: BTreeMap<&'static str, &'static Value>,
}

impl Default for Linter {
    fn default() -> Self {
        let kinds = crds::shipped().iter().filter_map(|crd| {
            let kind = crd["spec"]["names"]["kind"].as_str()?;
            Some((kind, schema::of_version(crd, VERSION)?))
        });
        Self { kinds: kinds.collect() }
    }
}

impl Linter {
    /// What is wrong with `object`; `None` when it is none of ours.
    #[must_use]
    pub fn lint(&self, object: &Value) -> Option<Vec<Finding>> {
        let api_version = object.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
        let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
        let ours = format!("{GROUP}/{VERSION}");
        if is_argos(api_version, kind) {
            let mut renamed = object.clone();
            renamed["apiVersion"] = Value::from(ours.as_str());
            let message = format!("is Argo's, and works here as {ours}");
            let mut note = error_at(Rule::Kind, "apiVersion", &quoted(api_version), message);
            note.severity = Severity::Warning;
            let findings = self.lint(&renamed).into_iter().flatten();
            return Some(std::iter::once(note).chain(findings).collect());
        }
        if api_version != ours {
            return foreign(api_version, kind, &ours);
        }
        let Some(schema) = self.kinds.get(kind) else {
            let known: Vec<_> = self.kinds.keys().copied().collect();
            let message = format!("is no kind of {ours}; write one of {}", known.join(", "));
            return Some(vec![error_at(Rule::Kind, "kind", &quoted(kind), message)]);
        };
        let mut findings = of_server(schema, object);
        let spec = object.get("spec").cloned().unwrap_or_default();
        for finding in of_kind(kind, spec) {
            merge(&mut findings, finding);
        }
        Some(findings)
    }
}

/// Adds what we know to what the server would say; of one field both are one finding.
fn merge(findings: &mut Vec<Finding>, finding: Finding) {
    if finding.message.starts_with(UNREADABLE) && !findings.is_empty() {
        return;
    }
    match findings.iter_mut().find(|known| known.path == finding.path) {
        Some(known) if known.message.contains(&finding.message) => {}
        Some(known) if known.remedy.is_none() => known.remedy = Some(finding.message),
        _ => findings.push(finding),
    }
}

/// A template of Argo's means here what it means there.
fn is_argos(api_version: &str, kind: &str) -> bool {
    let kinds = ["AnalysisTemplate", "ClusterAnalysisTemplate", "AnalysisRun"];
    api_version == "argoproj.io/v1alpha1" && kinds.contains(&kind)
}

/// Manifests of others that work here once their `apiVersion` is ours.
fn foreign(api_version: &str, kind: &str, ours: &str) -> Option<Vec<Finding>> {
    let theirs = (api_version, kind) == ("rollouts.kruise.io/v1beta1", "Rollout");
    let message = format!("is not looked after by this controller; write {ours}");
    match () {
        () if theirs => {
            Some(vec![error_at(Rule::Kind, "apiVersion", &quoted(api_version), message)])
        }
        () if api_version.starts_with(&format!("{GROUP}/")) => Some(vec![error_at(
            Rule::Kind,
            "apiVersion",
            &quoted(api_version),
            format!("is not served; write {ours}"),
        )]),
        () => None,
    }
}

/// What the API server would say: unknown fields, then types, bounds and rules.
fn of_server(schema: &Value, object: &Value) -> Vec<Finding> {
    let unknown = schema::unknown_fields(schema, object).into_iter().map(|path| {
        let message = format!("unknown field \"{path}\"");
        error_at(Rule::UnknownField, &path, "", message)
    });
    let mut findings: Vec<Finding> = unknown.collect();
    let mut defaulted = object.clone();
    schema::default(schema, &mut defaulted);
    let refused = schema::validate(schema, &defaulted, None);
    // Without a path there is only the note that rules were left out, unless a rule of the object.
    let unchecked = |e: &schema::FieldError| e.detail.starts_with("some validation rules were not");
    findings.extend(refused.iter().filter(|e| !unchecked(e)).map(|e| {
        let path = if e.field == "<nil>" { "" } else { &e.field };
        let value = e.value.as_ref().map(Value::to_string).unwrap_or_default();
        error_at(Rule::Schema, path, &value, e.message())
    }));
    findings
}

/// What only we know of an object of this kind.
fn of_kind(kind: &str, spec: Value) -> Vec<Finding> {
    match kind {
        "Rollout" => read::<RolloutSpec>(spec, |spec| {
            Plan::parse(&spec).err().into_iter().flatten().map(of_spec_error).collect()
        }),
        "AnalysisTemplate" | "ClusterAnalysisTemplate" => {
            read::<AnalysisTemplateSpec>(spec, |spec| {
                let unsupported = supported::template(&spec).into_iter().map(of_spec_error);
                unsupported.chain(lint_template(&spec).into_iter().map(of_finding)).collect()
            })
        }
        "AnalysisRun" => read::<AnalysisRunSpec>(spec, |spec| {
            let unsupported = supported::run(&spec).into_iter().map(of_spec_error);
            let template = supported::as_template(&spec);
            unsupported.chain(lint_template(&template).into_iter().map(of_finding)).collect()
        }),
        "MetricProvider" | "ClusterMetricProvider" => read::<MetricProviderSpec>(spec, |spec| {
            supported::provider(&spec).into_iter().map(of_spec_error).collect()
        }),
        _ => Vec::new(),
    }
}

fn read<T: DeserializeOwned>(spec: Value, look: impl FnOnce(T) -> Vec<Finding>) -> Vec<Finding> {
    match serde_json::from_value(spec) {
        Ok(spec) => look(spec),
        Err(error) => vec![error_at(Rule::Spec, "spec", "", format!("{UNREADABLE}: {error}"))],
    }
}

fn of_spec_error(error: SpecError) -> Finding {
    error_at(Rule::Spec, error.path(), error.value(), error.remedy())
}

fn of_finding(finding: analysis::Finding) -> Finding {
    let analysis::Finding { path, value, message, remedy, severity } = finding;
    Finding {
        severity,
        rule: Rule::Template,
        path,
        value,
        message,
        remedy: Some(remedy),
        place: Place::default(),
    }
}

/// The path of a template's i-th reference to another.
fn reference(i: usize) -> String {
    format!("spec.templates[{i}]")
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn error_at(rule: Rule, path: &str, value: &str, message: String) -> Finding {
    Finding {
        severity: Severity::Error,
        rule,
        path: path.to_owned(),
        value: value.to_owned(),
        message,
        remedy: None,
        place: Place::default(),
    }
}

#[cfg(test)]
mod tests;
