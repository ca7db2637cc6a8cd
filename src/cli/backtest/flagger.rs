//! Flagger's objects: a Canary with its checks, and the MetricTemplates that it names.
//!
//! In history the traffic is the primary's, so `target` is the primary's workload unless `--arg
//! target=...` says otherwise. Built-in checks are known for Istio and for metrics of the application
//! itself (`kubernetes`, `gatewayapi`); those of other meshes are refused with what to write.

use std::collections::BTreeMap;

use anyhow::{anyhow, bail};
use jiff::SignedDuration;
use regex::Regex;
use serde_json::Value;

use crate::analysis::backtest::limits::Checks;
use crate::cli::analyze::input::text;

/// The names that a query may use.
pub(super) const NAMES: [&str; 6] =
    ["target", "namespace", "service", "ingress", "route", "interval"];

/// Checks and the query of each.
pub(super) struct Canary {
    pub(super) name: String,
    pub(super) checks: Checks,
    /// Name and query.
    pub(super) queries: Vec<(String, String)>,
}

/// Every Canary among `objects`. `given` are values for [`NAMES`].
///
/// # Errors
/// When a check cannot be replayed.
pub(super) fn canaries(
    objects: &[Value],
    given: &BTreeMap<String, String>,
) -> anyhow::Result<Vec<Canary>> {
    let ours = |o: &&Value| {
        text(o, "/kind") == "Canary" && text(o, "/apiVersion").starts_with("flagger.app/")
    };
    objects.iter().filter(ours).map(|object| canary(object, objects, given)).collect()
}

fn canary(
    object: &Value,
    objects: &[Value],
    given: &BTreeMap<String, String>,
) -> anyhow::Result<Canary> {
    let name = text(object, "/metadata/name").to_owned();
    let empty = Value::Null;
    // `canaryAnalysis` is the older name.
    let analysis = object.pointer("/spec/analysis").or(object.pointer("/spec/canaryAnalysis"));
    let analysis = analysis.unwrap_or(&empty);
    let interval = span(text(analysis, "/interval"))
        .unwrap_or(SignedDuration::from_mins(1))
        .max(SignedDuration::from_secs(10));
    let threshold = analysis.get("threshold").and_then(Value::as_u64).unwrap_or(0).max(1);
    let mut known: BTreeMap<String, String> = [
        ("target", format!("{}-primary", text(object, "/spec/targetRef/name"))),
        ("namespace", text(object, "/metadata/namespace").to_owned()),
        ("service", text(object, "/spec/service/name").to_owned()),
        ("ingress", text(object, "/spec/ingressRef/name").to_owned()),
        ("route", text(object, "/spec/routeRef/name").to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    known.extend(given.clone());
    let (mut ranges, mut queries) = (Vec::new(), Vec::new());
    let metrics = analysis.get("metrics").and_then(Value::as_array);
    for metric in metrics.into_iter().flatten() {
        let mut known = known.clone();
        let every = Some(text(metric, "/interval")).filter(|every| !every.is_empty());
        known.entry("interval".to_owned()).or_insert_with(|| every.unwrap_or("1m").to_owned());
        let metric_name = text(metric, "/name");
        let path = format!("Canary {name}: metric {metric_name}");
        let query = query(object, metric, objects).map_err(|why| anyhow!("{path}: {why}"))?;
        let variables = metric.get("templateVariables");
        let filled = fill(&query, &known, variables).map_err(|why| anyhow!("{path}: {why}"))?;
        ranges.push(range(metric));
        queries.push((metric_name.to_owned(), filled));
    }
    if queries.is_empty() {
        bail!("Canary {name}: spec.analysis.metrics is empty: there is nothing to replay");
    }
    let threshold = u32::try_from(threshold).unwrap_or(u32::MAX);
    Ok(Canary { name, checks: Checks { interval, threshold, ranges }, queries })
}

fn span(text: &str) -> Option<SignedDuration> {
    humantime::parse_duration(text).ok().and_then(|span| SignedDuration::try_from(span).ok())
}

/// Flagger's own reading: without a range, `threshold` is a least share for the success rate and the
/// most for all else; without both the most is 0.
fn range(metric: &Value) -> (Option<f64>, Option<f64>) {
    let number = |pointer: &str| metric.pointer(pointer).and_then(Value::as_f64);
    let given = (number("/thresholdRange/min"), number("/thresholdRange/max"));
    if given != (None, None) {
        return given;
    }
    let threshold = Some(number("/threshold").unwrap_or(0.0));
    match text(metric, "/name") {
        "request-success-rate" => (threshold, None),
        _ => (None, threshold),
    }
}

fn query(object: &Value, metric: &Value, objects: &[Value]) -> anyhow::Result<String> {
    let template = text(metric, "/templateRef/name");
    if !template.is_empty() {
        let named = |o: &&Value| {
            text(o, "/kind") == "MetricTemplate" && text(o, "/metadata/name") == template
        };
        let found = objects.iter().find(named);
        let found = found.ok_or_else(|| {
            anyhow!("no MetricTemplate {template:?} in the files: give its file with -f too")
        })?;
        let kind = text(found, "/spec/provider/type");
        if !["prometheus", ""].contains(&kind) {
            bail!("MetricTemplate {template:?} asks {kind}: only Prometheus has a history to read");
        }
        return Ok(text(found, "/spec/query").to_owned());
    }
    let inline = text(metric, "/query");
    if !inline.is_empty() {
        return Ok(inline.to_owned());
    }
    built_in(text(object, "/spec/provider"), text(metric, "/name"))
}

/// The query of a built-in check.
fn built_in(provider: &str, name: &str) -> anyhow::Result<String> {
    let istio = r#"reporter="destination",destination_workload_namespace="{{ namespace }}",destination_workload=~"{{ target }}""#;
    let own = r#"kubernetes_namespace="{{ namespace }}""#;
    let is_own = provider == "kubernetes" || provider.starts_with("gatewayapi");
    if !is_own && !["istio", ""].contains(&provider) {
        bail!(
            "the built-in check of provider {provider} is not known here: write its query as a \
             MetricTemplate"
        );
    }
    let (requests, buckets, matchers, bad, scale) = if is_own {
        (
            "http_request_duration_seconds_count",
            "http_request_duration_seconds_bucket",
            own,
            r#"status!~"5.*""#,
            " * 1000",
        )
    } else {
        (
            "istio_requests_total",
            "istio_request_duration_milliseconds_bucket",
            istio,
            r#"response_code!~"5.*""#,
            "",
        )
    };
    match name {
        "request-success-rate" => Ok(format!(
            "sum(rate({requests}{{{matchers},{bad}}}[{{{{ interval }}}}])) / \
             sum(rate({requests}{{{matchers}}}[{{{{ interval }}}}])) * 100"
        )),
        "request-duration" => Ok(format!(
            "histogram_quantile(0.99, sum(rate({buckets}{{{matchers}}}[{{{{ interval }}}}])) by \
             (le)){scale}"
        )),
        _ => bail!("it has neither a templateRef nor a query, and is no built-in check"),
    }
}

/// `{{ target }}` and `{{ variables.x }}`.
fn fill(
    query: &str,
    known: &BTreeMap<String, String>,
    variables: Option<&Value>,
) -> anyhow::Result<String> {
    let tag = Regex::new(r"\{\{-?\s*(variables\.)?([A-Za-z_][A-Za-z_0-9]*)\s*-?\}\}")?;
    let mut missing = Vec::new();
    let filled = tag.replace_all(query, |found: &regex::Captures<'_>| {
        let name = found.get(2).map_or("", |name| name.as_str());
        let value = match found.get(1) {
            Some(_) => variables.and_then(|v| v.get(name)).and_then(Value::as_str),
            None => known.get(name).map(String::as_str),
        };
        value.map_or_else(
            || {
                missing.push(name.to_owned());
                String::new()
            },
            str::to_owned,
        )
    });
    let filled = filled.into_owned();
    if !missing.is_empty() {
        bail!("nothing is known of {}", missing.join(", "));
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn checks(analysis: &Value, more: &[Value]) -> anyhow::Result<Canary> {
        let mut objects = more.to_vec();
        objects.push(json!({
            "apiVersion": "flagger.app/v1beta1", "kind": "Canary",
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"targetRef": {"name": "web"}, "analysis": analysis},
        }));
        let given = BTreeMap::new();
        Ok(canaries(&objects, &given)?.remove(0))
    }

    #[test]
    fn a_canary_and_its_templates_become_checks() {
        let template = json!({
            "kind": "MetricTemplate", "metadata": {"name": "errors"},
            "spec": {"provider": {"type": "prometheus"}, "query":
                "sum(rate(x{app=\"{{ variables.app }}\",ns=\"{{namespace}}\",w=\"{{ target }}\"}[{{ interval }}]))"},
        });
        let analysis = json!({"interval": "30s", "threshold": 5, "metrics": [
            {"name": "errors", "templateRef": {"name": "errors"}, "interval": "2m",
             "thresholdRange": {"max": 1}, "templateVariables": {"app": "shop"}},
            {"name": "request-success-rate", "thresholdRange": {"min": 99}},
        ]});
        let canary = checks(&analysis, &[template]).unwrap();
        assert_eq!(canary.checks.interval, SignedDuration::from_secs(30));
        assert_eq!(canary.checks.threshold, 5);
        assert_eq!(canary.checks.ranges, [(None, Some(1.0)), (Some(99.0), None)]);
        let (name, query) = &canary.queries[0];
        assert_eq!(name, "errors");
        assert_eq!(query, "sum(rate(x{app=\"shop\",ns=\"shop\",w=\"web-primary\"}[2m]))");
        assert!(canary.queries[1].1.contains("[1m]))"), "{}", canary.queries[1].1);
        assert!(promql_parser::parser::parse(&canary.queries[1].1).is_ok());
    }

    #[test]
    fn what_flagger_leaves_out_is_what_flagger_takes() {
        let analysis = json!({"metrics": [{"name": "a", "query": "sum(x)"}]});
        let canary = checks(&analysis, &[]).unwrap();
        assert_eq!((canary.checks.threshold, canary.checks.ranges[0]), (1, (None, Some(0.0))));
        assert_eq!(canary.checks.interval, SignedDuration::from_mins(1));
    }

    #[test]
    fn what_is_missing_is_named() {
        let said = |analysis: Value| checks(&analysis, &[]).err().unwrap().to_string();
        let metric = |metric: Value| json!({ "metrics": [metric] });
        assert!(said(json!({})).contains("metrics is empty"));
        let missing = metric(json!({"name": "a", "templateRef": {"name": "b"}}));
        assert!(said(missing).contains("give its file with -f too"));
        let unknown = metric(json!({"name": "a", "query": "x{a=\"{{ cluster }}\"}"}));
        assert!(said(unknown).contains("nothing is known of cluster"));
        assert!(said(metric(json!({"name": "a"}))).contains("no built-in check"));
    }
}
