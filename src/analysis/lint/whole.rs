//! All that is said of one template, for the controller: the findings of `sluice lint` in its words.

use std::collections::BTreeMap;

use super::{Finding, MISSING, Severity, TemplateKey, lint_references, lint_template};
use crate::api::AnalysisTemplateSpec;
use crate::api::rollout::TemplateRef;
use crate::spec::{SpecError, supported};

impl Finding {
    /// Path, words and remedy, as `sluice lint` prints them.
    #[must_use]
    pub fn sentence(&self) -> String {
        let remedy = match self.remedy.as_str() {
            "" => String::new(),
            remedy => format!("; {remedy}"),
        };
        format!("{}: {}{remedy}", self.path, self.message)
    }
}

impl From<SpecError> for Finding {
    fn from(refused: SpecError) -> Self {
        Self {
            path: refused.path().to_owned(),
            value: refused.value().to_owned(),
            message: refused.remedy(),
            remedy: String::new(),
            severity: Severity::Error,
        }
    }
}

/// What is wrong with the template `key`: what is not done yet, what lint finds, and where `named`, what
/// each template of the cluster names, leads back to it. A template that is not there yet is no finding:
/// objects may be applied in any order, and a Rollout that needs it waits and says so.
#[must_use]
pub fn look_at_template(
    key: &TemplateKey,
    spec: &AnalysisTemplateSpec,
    named: &BTreeMap<TemplateKey, Vec<TemplateRef>>,
) -> Vec<Finding> {
    let unsupported = supported::template(spec).into_iter().map(Finding::from);
    let mut findings: Vec<Finding> = unsupported.chain(lint_template(spec)).collect();
    if !spec.templates.is_empty() {
        let between = lint_references(named).into_iter();
        let circles = between.filter(|(of, found)| of == key && found.message != MISSING);
        findings.extend(circles.map(|(_, found)| found));
    }
    findings
}
