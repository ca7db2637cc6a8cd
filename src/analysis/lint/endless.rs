//! Metrics without an end, as far as templates tell without their arguments.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use regex::Regex;

use crate::api::analysis::DryRun;
use crate::api::{AnalysisTemplateSpec, Metric};

/// The metrics for which a run of all `templates` (see [`flatten`](crate::analysis::flatten)) goes on
/// until somebody ends it: no step can wait for that. `dry_run`: the rules of its caller. `None`: a
/// template that is not known.
#[must_use]
pub fn lint_endless<'a>(
    templates: &[Option<&'a AnalysisTemplateSpec>],
    dry_run: &[DryRun],
) -> Vec<&'a str> {
    let known = || templates.iter().copied().flatten();
    let rules = known().flat_map(|spec| &spec.dry_run).chain(dry_run);
    let rules: Vec<Regex> = rules.filter_map(|rule| Regex::new(&rule.metric_name).ok()).collect();
    let aside = |metric: &Metric| {
        let dry = rules.iter().any(|rule| rule.is_match(&metric.name));
        metric.advisory || (dry && unbounded(metric))
    };
    let metrics = || known().flat_map(|spec| &spec.metrics);
    let whole = templates.iter().all(Option::is_some);
    let nothing_else =
        whole && known().all(|spec| spec.kayenta_config.is_none()) && metrics().all(aside);
    let endless = |metric: &&Metric| {
        unbounded(metric)
            && !is_given(metric.consecutive_success_limit.as_ref())
            && (nothing_else || !aside(metric))
    };
    metrics().filter(endless).map(|metric| metric.name.as_str()).collect()
}

/// Neither a count nor a comparison ends it.
fn unbounded(metric: &Metric) -> bool {
    let compares = metric.compare.as_ref().is_some_and(|compare| compare.series.is_none());
    metric.interval.is_some() && !is_given(metric.count.as_ref()) && !compares
}

fn is_given(number: Option<&IntOrString>) -> bool {
    match number {
        None | Some(IntOrString::Int(0)) => false,
        Some(IntOrString::Int(_)) => true,
        Some(IntOrString::String(text)) => text != "0",
    }
}
