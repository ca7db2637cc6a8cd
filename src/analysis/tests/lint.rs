//! What a template's author is told.

use serde_json::{Value, json};

use super::super::promql::{PromqlError, Shape, shape};
use super::super::{Finding, Severity, lint_references, lint_template};
use crate::api::AnalysisTemplateSpec;

fn lint(spec: Value) -> Vec<Finding> {
    let spec: AnalysisTemplateSpec = serde_json::from_value(spec).unwrap();
    lint_template(&spec)
}

fn of_query(query: &str, condition: &str) -> Vec<(Severity, String, String)> {
    let used = |arg: &&str| query.contains(arg) || condition.contains(arg);
    let names = ["service", "window", "bound"].into_iter().filter(|arg| used(arg));
    let args: Vec<_> = names.map(|name| json!({"name": name})).collect();
    let spec = json!({
        "args": args,
        "metrics": [{"name": "m", "interval": "1m", "successCondition": condition,
                     "provider": {"prometheus": {"query": query}}}],
    });
    lint(spec).into_iter().map(|f| (f.severity, f.path, f.message)).collect()
}

#[test]
fn a_good_template_has_no_findings_whatever_its_arguments_stand_for() {
    let query = "(sum(rate(http_requests_total{app=\"{{args.service}}\",code=~\"5..\"}\
                 [{{args.window}}])) or 0 * sum(rate(http_requests_total{app=\"{{args.service}}\"}\
                 [{{args.window}}]))) / sum(rate(http_requests_total{app=\"{{args.service}}\"}\
                 [{{args.window}}]))";
    assert_eq!(of_query(query, "result[0] <= {{args.bound}}"), []);
    let quantile = "histogram_quantile(0.99, sum by (le) (rate(d_bucket[5m])))";
    assert_eq!(of_query(quantile, "result[0] < 0.5"), []);
    assert_eq!(of_query("scalar(sum(up))", "result >= 1"), []);
}

#[test]
fn a_share_that_a_healthy_service_has_no_answer_to_is_warned_of() {
    let (bad, all) = ("sum(rate(x{code=~\"5..\"}[1m]))", "sum(rate(x[1m]))");
    let warned = |query: &str, condition: &str| {
        let found = of_query(query, condition);
        found.iter().any(|(severity, _, message)| {
            *severity == Severity::Warning && message.contains("a healthy service has no answer")
        })
    };
    let most = "result[0] <= 0.01";
    assert!(warned(&format!("{bad} / {all}"), most));
    assert!(warned(&format!("100 * ({bad} / {all}) and {all} > 1"), most));
    for (query, condition) in [
        (format!("({bad} or 0 * {all}) / {all}"), most),
        (format!("{bad} / {all} or vector(0)"), most),
        (format!("{bad} / {all}"), "len(result) == 0 || result[0] <= 0.01"),
        // A service that works has its good requests.
        ("sum(rate(x{code=~\"2..\"}[1m])) / sum(rate(x[1m]))".to_owned(), "result[0] >= 0.99"),
        ("sum(rate(errors[1m])) / sum(rate(x[1m]))".to_owned(), most),
    ] {
        assert!(!warned(&query, condition), "{query} {condition}");
    }
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
fn an_unknown_argument_hides_no_other_finding_of_its_metric() {
    let found = of_query("sum(x{a=\"{{args.nope}}\"})", "result > 1");
    let paths: Vec<_> = found.iter().map(|(_, path, _)| path.as_str()).collect();
    let at = "spec.metrics[0]";
    assert_eq!(
        paths,
        [format!("{at}.provider.prometheus.query"), format!("{at}.successCondition")]
    );
    assert!(found[1].2.contains("can never be evaluated"), "{found:?}");
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

fn of_metric(fields: Value) -> Vec<(Severity, String, String)> {
    let mut metric = json!({"name": "m", "interval": "1m", "successCondition": "result[0] > 1",
        "provider": {"prometheus": {"query": "sum(x)"}}});
    for (name, value) in fields.as_object().unwrap() {
        metric[name] = value.clone();
    }
    let found = lint(json!({"metrics": [metric]}));
    found.into_iter().map(|f| (f.severity, f.path, f.message)).collect()
}

#[test]
fn windows_selectors_limits_and_patience_are_looked_at() {
    let query = |text: &str| json!({"provider": {"prometheus": {"query": text}}});
    let metric = "spec.metrics[0]";
    let selects = "spec.metrics[0].provider.prometheus.query";
    for (fields, at, words) in [
        (query("sum(rate(x[30s]))"), selects, "looks at the last 30s every 1m"),
        (query("max_over_time(sum(x)[30s:10s])"), selects, "looks at the last 30s every 1m"),
        (
            json!({"interval": "10s", "provider": {"prometheus": {"query": "sum(rate(x[15s]))"}}}),
            selects,
            "holds one point or none",
        ),
        (query("sum(x{app=\"a\",app=\"b\"})"), selects, "selects nothing"),
        (query("sum(x{code=\"200\",code=~\"5..\"})"), selects, "selects nothing"),
        (query("sum(x{app=\"web\"})"), selects, "names no argument"),
        (json!({"inconclusiveLimit": 2}), "spec.metrics[0].inconclusiveLimit", "no effect"),
        (
            json!({"failureCondition": "result[0] > 1"}),
            "spec.metrics[0].failureCondition",
            "no answer is successful",
        ),
        (json!({"successCondition": "true"}), "spec.metrics[0].successCondition", "look at result"),
        (json!({"consecutiveErrorLimit": 2}), "spec.metrics[0].consecutiveErrorLimit", "ends 30 s"),
        (
            json!({"errorRetry": "10s", "onError": "Fail"}),
            "spec.metrics[0].onError",
            "ends 40 s after its start when there is no data: 4 errors in a row are allowed",
        ),
        (json!({"noData": "Fail"}), "spec.metrics[0].noData", "ends 0 s"),
        (json!({"weight": 2}), "spec.metrics[0].weight", "no effect"),
        (json!({"events": "sum(y)"}), "spec.metrics[0].events", "no effect"),
        (json!({"critical": true, "advisory": true}), "spec.metrics[0].advisory", "critical"),
        (json!({"minEvents": 9}), "spec.metrics[0].minEvents", "no quotient"),
        (json!({"initialDelay": "{{args.x"}), "spec.metrics[0].initialDelay", "end tag"),
    ] {
        let found = of_metric(fields.clone());
        let said = found.iter().any(|(_, path, text)| path == at && text.contains(words));
        assert!(said, "{fields}: {found:?}");
        assert!(found.iter().all(|(_, path, _)| path.starts_with(metric)));
    }
    for clean in [
        json!({}),
        json!({"noData": "Pass"}),
        json!({"consecutiveErrorLimit": 9}),
        json!({"successCondition": "len(result) == 0 || result[0] > 1", "consecutiveErrorLimit": 1}),
        query("sum(rate(x[2m]))"),
        query("sum(x{code!=\"200\",code=~\"2..\"} offset 1h)"),
    ] {
        let found: Vec<_> = of_metric(clean.clone());
        let others = found.into_iter().filter(|f| !f.2.contains("names no argument"));
        assert_eq!(others.collect::<Vec<_>>(), [], "{clean}");
    }
}

#[test]
fn rules_arguments_and_references_of_a_template_are_looked_at() {
    let metric = json!({"name": "m", "successCondition": "result[0] > 1",
        "provider": {"prometheus": {"query": "sum(x)"}}});
    for (field, value, at, words) in [
        ("dryRun", json!([{"metricName": "*"}]), "spec.dryRun[0]", "is not a regular expression"),
        ("dryRun", json!([{"metricName": "n"}]), "spec.dryRun[0]", "Rule didn't match any"),
        ("decide", json!({"atLeast": 2}), "spec.decide.atLeast", "2 is not from 1 to 1"),
        ("args", json!([{"name": "a"}]), "spec.args[0]", "no metric uses it"),
    ] {
        let mut spec = json!({"metrics": [metric]});
        spec[field] = value;
        let found = lint(spec);
        assert_eq!(found.len(), 1, "{field}: {found:?}");
        assert_eq!(found[0].path, at);
        assert!(found[0].message.contains(words), "{found:?}");
    }
    let names = |next: &[&str]| {
        let next: Vec<_> = next.iter().map(|name| json!({"templateName": name})).collect();
        serde_json::from_value::<AnalysisTemplateSpec>(json!({"templates": next}))
            .unwrap()
            .templates
    };
    let key = |name: &str| (false, name.to_owned());
    let templates = std::collections::BTreeMap::from([
        (key("a"), names(&["b"])),
        (key("b"), names(&["c"])),
        (key("c"), names(&["b", "gone"])),
    ]);
    let found: Vec<_> = lint_references(&templates)
        .into_iter()
        .map(|((_, name), f)| (name, f.path, f.message.contains("leads back")))
        .collect();
    let at = |name: &str, i: usize, back| {
        (name.to_owned(), format!("spec.templates[{i}].templateName"), back)
    };
    assert_eq!(found, [at("b", 0, true), at("c", 0, true), at("c", 1, false)]);
}

#[test]
fn what_is_not_supported_yet_is_an_error_with_a_remedy() {
    let metric = json!({"name": "m", "provider": {"newRelic": {"query": "x"}}});
    let found = lint(json!({"metrics": [metric]}));
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].severity, Severity::Error);
    assert_eq!(found[0].message, "not supported yet");
    assert!(!found[0].remedy.is_empty());
}

#[test]
fn a_canary_config_is_read_with_the_values_that_arguments_might_have() {
    let config = |query: &str| {
        let query =
            json!({"type": "prometheus", "customInlineTemplate": format!("PromQL:{query}")});
        json!({
            "args": [{"name": "old"}, {"name": "new"}],
            "kayentaConfig": {"metrics": [{"name": "errors", "groups": ["e"], "query": query}]},
            "kayenta": {"control": {"scope": "{{args.old}}"}, "experiment": {"scope": "{{args.new}}"}},
        })
    };
    assert_eq!(lint(config("sum(errors{app=\"${scope}\"})")), []);
    let found = lint(config("sum(errors{app=\"${scope}\",zone=\"${location}\"})"));
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].path, "spec.kayentaConfig.metrics[0]");
    assert!(found[0].message.contains("${location} has no value"), "{}", found[0].message);
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

#[test]
fn a_gauge_without_history_is_told_to_be_blind_and_refused_where_it_must_pass() {
    let of = |critical: bool, calibration: Value| {
        lint(
            json!({"calibration": calibration, "metrics": [{"name": "memory", "critical": critical,
            "compare": {"gauge": "memory_bytes"}}]}),
        )
    };
    let told = of(false, Value::Null);
    assert_eq!((told.len(), told[0].severity), (1, Severity::Warning), "{told:?}");
    assert_eq!(told[0].path, "spec.metrics[0].compare.gauge");
    assert!(told[0].message.contains("does not decide"), "{told:?}");
    assert!(told[0].remedy.contains("calibration"), "{told:?}");
    assert_eq!(of(true, Value::Null)[0].severity, Severity::Error);
    assert_eq!(of(true, json!({"history": "14d"})), []);
}

#[test]
fn a_harmful_change_that_the_noise_of_pods_hides_at_any_traffic_is_told() {
    let of = |harmful: &str, calibration: Value| {
        let ratio = json!({"bad": "errors_total", "total": "requests_total"});
        let errors = json!({"ratio": ratio, "harmful": harmful});
        lint(
            json!({"calibration": calibration, "metrics": [{"name": "errors", "compare": errors}]}),
        )
    };
    let told = of("10%", Value::Null);
    assert_eq!((told.len(), told[0].severity), (1, Severity::Warning), "{told:?}");
    assert_eq!(told[0].path, "spec.metrics[0].compare.harmful");
    assert!(told[0].remedy.contains("16% or more"), "{told:?}");
    assert_eq!(of("16%", Value::Null), []);
    assert_eq!(of("10%", json!({"history": "14d"})), []);
}
