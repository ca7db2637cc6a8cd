//! Fields of templates, runs and metric servers whose engine does not exist yet, and which nothing
//! else refuses. A Rollout's are refused by [`super::Plan::parse`].

use super::error::{Errors, SpecError};
use crate::api::metric_provider::{MetricProviderSpec, ProviderType};
use crate::api::{AnalysisRunSpec, AnalysisTemplateSpec};

/// What a template asks for that is not done yet.
#[must_use]
pub fn template(spec: &AnalysisTemplateSpec) -> Vec<SpecError> {
    let mut errors = Errors::default();
    if let Some(risk) = &spec.risk {
        let remedy = "there is no comparison that could keep it; leave it out";
        errors.unsupported("spec.risk", risk, remedy);
    }
    if let Some(calibration) = &spec.calibration {
        let remedy = "there is no comparison that could learn from it; leave it out";
        errors.unsupported("spec.calibration", calibration, remedy);
    }
    for (i, arg) in spec.args.iter().enumerate() {
        if let Some(field) = arg.value_from.as_ref().and_then(|from| from.field_ref.as_ref()) {
            let remedy = "give the argument in the Rollout's analysis, which can name a field";
            errors.unsupported(format!("spec.args[{i}].valueFrom.fieldRef"), field, remedy);
        }
    }
    for (i, metric) in spec.metrics.iter().enumerate() {
        if metric.critical {
            let remedy = "every metric that fails fails the run; leave it out";
            errors.unsupported(format!("spec.metrics[{i}].critical"), &true, remedy);
        }
    }
    errors.into_inner()
}

/// What a run asks for that is not done yet.
#[must_use]
pub fn run(spec: &AnalysisRunSpec) -> Vec<SpecError> {
    let mut errors = Errors::default();
    if let Some(ttl) = &spec.ttl_strategy {
        let remedy = "runs are deleted with the Rollout that owns them; leave it out";
        errors.unsupported("spec.ttlStrategy", ttl, remedy);
    }
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
        risk: spec.risk.clone(),
        calibration: spec.calibration.clone(),
        kayenta_config: spec.kayenta_config.clone(),
    }
}

/// What a metric server asks for that is not done yet.
#[must_use]
pub fn provider(spec: &MetricProviderSpec) -> Vec<SpecError> {
    let mut errors = Errors::default();
    if let Some(type_) = spec.type_.filter(|type_| *type_ != ProviderType::Prometheus) {
        let remedy = "only Prometheus and what answers its API is asked; write Prometheus";
        errors.unsupported("spec.type", &type_, remedy);
    }
    if let Some(auth) = &spec.auth {
        let remedy = "use bearer or basic";
        if let Some(oauth2) = &auth.oauth2 {
            errors.unsupported("spec.auth.oauth2", oauth2, remedy);
        }
        if let Some(sigv4) = &auth.sigv4 {
            errors.unsupported("spec.auth.sigv4", sigv4, remedy);
        }
    }
    if let Some(tls) = &spec.tls {
        let remedy = "the machine's own certificate authorities verify the server; leave it out";
        for (field, value) in [("ca", &tls.ca), ("cert", &tls.cert), ("key", &tls.key)] {
            if let Some(value) = value {
                errors.unsupported(format!("spec.tls.{field}"), value, remedy);
            }
        }
        if let Some(name) = &tls.server_name {
            errors.unsupported("spec.tls.serverName", name, remedy);
        }
    }
    if let Some(limits) = &spec.limits {
        let remedy = "the controller's own limits hold for every server; leave it out";
        for (field, value) in [("concurrent", limits.concurrent), ("perSecond", limits.per_second)]
        {
            if let Some(value) = value {
                errors.unsupported(format!("spec.limits.{field}"), &value, remedy);
            }
        }
    }
    errors.into_inner()
}
