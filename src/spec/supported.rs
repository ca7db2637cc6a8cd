//! Fields of templates, runs and metric servers whose engine does not exist yet, and which nothing
//! else refuses. A Rollout's are refused by [`super::Plan::parse`].

use std::net::IpAddr;

use super::calibration;
use super::error::{Errors, SpecError};
use crate::api::metric_provider::{MetricProviderSpec, ProviderType};
use crate::api::{AnalysisRunSpec, AnalysisTemplateSpec};

/// The chance that a good release is failed, unless the template says otherwise.
const RISK: f64 = 0.01;

/// What a template asks for that is not done yet.
#[must_use]
pub fn template(spec: &AnalysisTemplateSpec) -> Vec<SpecError> {
    let mut errors = Errors::default();
    let compared = spec.metrics.iter().any(|metric| metric.compare.is_some());
    if let Some(risk) = spec.risk.as_ref().filter(|_| !compared && spec.templates.is_empty()) {
        let remedy = "there is no comparison that could keep it; leave it out";
        errors.unsupported("spec.risk", risk, remedy);
    }
    if let Some(calibration) = &spec.calibration {
        if compared || !spec.templates.is_empty() {
            errors.extend(calibration::check(calibration, risk(spec), "spec.calibration"));
        } else {
            let remedy = "there is no comparison that could learn from it; leave it out";
            errors.invalid("spec.calibration", calibration, remedy);
        }
    }
    errors.into_inner()
}

/// The chance that a good release is failed; a text that cannot be read is said by the schema.
fn risk(spec: &AnalysisTemplateSpec) -> f64 {
    let text = spec.risk.as_deref().and_then(|text| text.strip_suffix('%'));
    text.and_then(|text| text.parse::<f64>().ok()).map_or(RISK, |percent| percent / 100.0)
}

/// What a run asks for that is not done yet.
#[must_use]
pub fn run(spec: &AnalysisRunSpec) -> Vec<SpecError> {
    let mut errors = Errors::default();
    errors.extend(template(&as_template(spec)));
    errors.into_inner()
}

/// The part of a run that is a template.
#[must_use]
pub fn as_template(spec: &AnalysisRunSpec) -> AnalysisTemplateSpec {
    AnalysisTemplateSpec {
        metrics: spec.metrics.clone(),
        args: spec.args.clone(),
        dry_run: spec.dry_run.clone(),
        measurement_retention: spec.measurement_retention.clone(),
        templates: Vec::new(),
        decide: spec.decide.clone(),
        risk: spec.risk.clone(),
        calibration: spec.calibration.clone(),
        kayenta_config: spec.kayenta_config.clone(),
        kayenta: spec.kayenta.clone(),
    }
}

/// What a metric server asks for that is not done yet, or cannot be.
#[must_use]
pub fn provider(spec: &MetricProviderSpec) -> Vec<SpecError> {
    let mut errors = Errors::default();
    match spec.type_.unwrap_or_default() {
        ProviderType::Prometheus
        | ProviderType::Web
        | ProviderType::Datadog
        | ProviderType::CloudWatch
        | ProviderType::Plugin => {}
        other @ (ProviderType::NewRelic
        | ProviderType::Wavefront
        | ProviderType::Graphite
        | ProviderType::Influxdb
        | ProviderType::Skywalking) => {
            let remedy = "ask it through a plugin or by Web, or export its metrics to Prometheus";
            errors.unsupported("spec.type", &other, remedy);
        }
    }
    if let Some(name) = spec.tls.as_ref().and_then(|tls| tls.server_name.as_ref()) {
        let mut invalid = |remedy| errors.invalid("spec.tls.serverName", name, remedy);
        let odd = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'));
        if name.is_empty() || name.contains(odd) || name.parse::<IpAddr>().is_ok() {
            invalid("write a DNS name of the server's certificate, without a port");
        } else if !spec.address.starts_with("https://") {
            invalid("there is no TLS at such an address: write an https address or leave it out");
        }
    }
    errors.into_inner()
}
