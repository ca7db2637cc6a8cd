//! What a template's author is told.

use serde_json::{Value, json};

use super::super::promql::{PromqlError, Shape, shape};
use super::super::{Finding, Severity, lint_template};
use crate::api::AnalysisTemplateSpec;

fn lint(spec: Value) -> Vec<Finding> {
    let spec: AnalysisTemplateSpec = serde_json::from_value(spec).unwrap();
    lint_template(&spec)
}

fn of_query(query: &str, condition: &str) -> Vec<(Severity, String, String)> {
    let spec = json!({
        "args": [{"name": "service"}, {"name": "window"}, {"name": "bound"}],
        "metrics": [{"name": "m", "interval": "1m", "successCondition": condition,
                     "provider": {"prometheus": {"query": query}}}],
    });
    lint(spec).into_iter().map(|f| (f.severity, f.path, f.message)).collect()
}

#[test]
fn a_good_template_has_no_findings_whatever_its_arguments_stand_for() {
    let query = "sum(rate(http_requests_total{app=\"{{args.service}}\",code=~\"5..\"}\
                 [{{args.window}}])) / sum(rate(http_requests_total{app=\"{{args.service}}\"}\
                 [{{args.window}}]))";
    assert_eq!(of_query(query, "result[0] <= {{args.bound}}"), []);
    let quantile = "histogram_quantile(0.99, sum by (le) (rate(d_bucket[5m])))";
    assert_eq!(of_query(quantile, "result[0] < 0.5"), []);
    assert_eq!(of_query("scalar(sum(up))", "result >= 1"), []);
}

#[test]
fn mistakes_are_found_with_their_path() {
    let (query, success) =
        ("spec.metrics[0].provider.prometheus.query", "spec.metrics[0].successCondition");
    for (text, condition, path, words) in [
        ("sum(rate(x))", "result[0] > 1", query, "not PromQL"),
        ("sum(", "result[0] > 1", query, "not PromQL"),
        ("rate(x[5m])[5m:1m]", "result[0] > 1", query, "range vector"),
        ("x[5m]", "result[0] > 1", query, "range vector"),
        ("\"text\"", "result > 1", query, "a string is not a number"),
        ("sum(x)", "result > 1", success, "can never be evaluated"),
        ("scalar(sum(x))", "result[0] > 1", success, "can never be evaluated"),
        ("sum(x)", "results[0] > 1", success, "can never be evaluated"),
        ("sum(x)", "result[0] >", success, "expected"),
        ("sum(x{a=\"{{args.nope}}\"})", "result[0] > 1", query, "failed to resolve {{args.nope}}"),
    ] {
        let found = of_query(text, condition);
        assert_eq!(found.len(), 1, "{text} {condition}: {found:?}");
        let (severity, at, message) = &found[0];
        assert_eq!((*severity, at.as_str()), (Severity::Error, path), "{text} {condition}");
        assert!(message.contains(words), "{text} {condition}: {message}");
    }
}

#[test]
fn what_argo_accepts_and_nobody_wants_is_a_warning() {
    let warned = |found: Vec<(Severity, String, String)>, words: &str| {
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].0, Severity::Warning);
        assert!(found[0].2.contains(words), "{found:?}");
    };
    warned(of_query("sum(x)", ""), "never fails");
    warned(of_query("sum(x)", "len(result) >= 0"), "is true for every result");
    warned(of_query("sum(x)", "result[0] > 5 && result[0] < 5"), "is false for every result");
    warned(of_query("rate(x[5m])", "result[0] > 5"), "several series");
    warned(of_query("sum by (pod) (x)", "result[0] > 5"), "several series");
    let never = json!({"metrics": [{"name": "m", "interval": "1m", "count": 1, "failureLimit": 1,
        "failureCondition": "result[0] > 1", "provider": {"prometheus": {"query": "sum(x)"}}}]});
    let found = lint(never);
    assert_eq!(found[0].path, "spec.metrics[0].failureLimit");
    assert!(found[0].message.contains("needs more than 1 failures of 1"));
}

#[test]
fn what_is_not_supported_yet_is_an_error_with_a_remedy() {
    for metric in [
        json!({"name": "m", "provider": {"web": {"url": "http://x"}}}),
        json!({"name": "m", "compare": {"gauge": "x"}}),
        json!({"name": "m", "provider": {"prometheus": {"query": "x", "rangeQuery": {}}}}),
    ] {
        let found = lint(json!({"metrics": [metric]}));
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].severity, Severity::Error);
        assert_eq!(found[0].message, "not supported yet");
        assert!(!found[0].remedy.is_empty());
    }
}

#[test]
fn a_template_without_metrics_or_with_two_of_a_name_is_refused() {
    assert_eq!(lint(json!({})).len(), 1);
    let metric = json!({"name": "m", "successCondition": "result[0] > 1",
        "provider": {"prometheus": {"query": "sum(x)"}}});
    let found = lint(json!({"metrics": [metric, metric]}));
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].path, "spec.metrics[1].name");
}

#[test]
fn a_query_has_one_series_when_nothing_can_split_it() {
    for (query, expected) in [
        ("1", Shape::Scalar),
        ("scalar(x)", Shape::Scalar),
        ("sum(x)", Shape::OneSeries),
        ("sum(x) / sum(y) * 100", Shape::OneSeries),
        ("(sum(x) or vector(0)) / sum(y)", Shape::OneSeries),
        ("abs(sum(x))", Shape::OneSeries),
        ("histogram_quantile(0.9, sum(rate(x[5m])) by (le))", Shape::OneSeries),
        ("histogram_quantile(0.9, sum(rate(x[5m])) by (le, pod))", Shape::ManySeries),
        ("topk(3, x)", Shape::ManySeries),
        ("sum without (pod) (x)", Shape::ManySeries),
        ("x", Shape::ManySeries),
    ] {
        assert_eq!(shape(query), Ok(expected), "{query}");
    }
    assert_eq!(shape("x[5m]"), Err(PromqlError::Range));
}
