//! Several templates become one run.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::{AnalysisError, NamedTemplate, ReleaseContext, args};
use super::*;
use crate::api::AnalysisTemplateSpec;
use crate::spec::{AnalysisStanza, Arg, ArgValue, TemplateRef};

fn template(spec: Value) -> AnalysisTemplateSpec {
    serde_json::from_value(spec).unwrap()
}

fn asks(name: &str, query: &str) -> Value {
    json!({"name": name, "provider": {"prometheus": {"query": query}}})
}

fn build(
    templates: &[(&str, &AnalysisTemplateSpec)],
    args: &[(&str, ArgValue)],
) -> Result<AnalysisRun, AnalysisError> {
    let templates: Vec<_> = templates
        .iter()
        .map(|(name, spec)| NamedTemplate { name: (*name).to_owned(), spec })
        .collect();
    let args =
        args.iter().map(|(name, value)| Arg { name: (*name).to_owned(), value: value.clone() });
    let stanza = AnalysisStanza { args: args.collect(), ..AnalysisStanza::default() };
    let rollout = json!({"metadata": {"name": "web", "labels": {"app.kubernetes.io/name": "shop"}},
        "spec": {"strategy": {"canary": {"steps": [{"traffic": "10%"}]}}, "replicas": 3}});
    let context =
        ReleaseContext { stable: "5d5f", canary: "7c9b", rollout: &rollout, release: None };
    build_run("web-1", "shop", None, &templates, &stanza, &context)
}

fn queries(run: &AnalysisRun) -> Vec<String> {
    plan(run, START).due.into_iter().map(|query| query.text).collect()
}

#[test]
fn arguments_come_from_the_release_the_caller_or_the_default_in_that_order() {
    let spec = template(json!({
        "args": [{"name": "hash"}, {"name": "old"}, {"name": "app"}, {"name": "share"},
                 {"name": "window", "value": "5m"}, {"name": "limit", "value": "1"}],
        "metrics": [asks("m", "{{args.hash}} {{ args.old }} {{args.app}} {{args.share}} \
                          {{args.window}} {{args.limit}}")],
    }));
    let run = build(
        &[("t", &spec)],
        &[
            ("hash", ArgValue::LatestHash),
            ("old", ArgValue::StableHash),
            ("app", ArgValue::Field("metadata.labels['app.kubernetes.io/name']".to_owned())),
            ("share", ArgValue::Field("spec.strategy.canary.steps[0].traffic".to_owned())),
            ("limit", ArgValue::Text("2".to_owned())),
            ("not-declared", ArgValue::Text("x".to_owned())),
        ],
    )
    .unwrap();
    assert_eq!(queries(&run), ["7c9b 5d5f shop 10% 5m 2"]);
    assert_eq!(run.spec.args.len(), 6, "what no template declares is dropped, as in Argo");
    assert_eq!(run.metadata.namespace.as_deref(), Some("shop"));
}

#[test]
fn an_argument_reaches_every_field_as_plain_text_and_is_not_read_again() {
    let values: args::Args =
        BTreeMap::from([("a".to_owned(), "{{args.b}} \"quoted\" \\".to_owned())]);
    assert_eq!(
        args::substitute("x {{args.a}} y", &values).unwrap(),
        "x {{args.b}} \"quoted\" \\ y"
    );
    let spec = template(json!({
        "args": [{"name": "n", "value": "3"}, {"name": "every", "value": "30s"}],
        "metrics": [{"name": "m-{{args.n}}", "interval": "{{args.every}}", "count": "{{args.n}}",
            "successCondition": "result[0] < {{args.n}}",
            "provider": {"prometheus": {"query": "x", "headers": [
                {"key": "X-Scope-OrgID", "value": "{{args.n}}"}]}}}],
    }));
    let run = build(&[("t", &spec)], &[]).unwrap();
    let due = plan(&run, START).due;
    assert_eq!(due[0].metric, "m-3");
    assert_eq!(due[0].source.headers, [("X-Scope-OrgID".to_owned(), "3".to_owned())]);
}

#[test]
fn what_cannot_be_resolved_is_refused_with_its_place_and_a_remedy() {
    let one = |metrics: Value, args: Value| template(json!({"metrics": metrics, "args": args}));
    let open = one(json!([asks("m", "x")]), json!([{"name": "hash"}]));
    let text = build(&[("t", &open)], &[]).unwrap_err().to_string();
    assert!(text.starts_with("analysis.args \"hash\": args.hash was not resolved: give"), "{text}");

    let unknown = one(json!([asks("m", "{{args.nope}}")]), json!([]));
    let text = build(&[("t", &unknown)], &[]).unwrap_err();
    let text = format!("{text}: {}", std::error::Error::source(&text).unwrap());
    assert!(text.contains("t") && text.contains("metrics[0] \"m\""), "{text}");
    assert!(text.contains("failed to resolve {{args.nope}}"), "{text}");

    let endless = one(json!([asks("m", "x {{args.a")]), json!([]));
    assert!(build(&[("t", &endless)], &[]).is_err());

    for (path, words) in [
        ("metadata.labels.nope", "invalid path"),
        ("metadata.labels", "must terminate in a primitive value"),
        ("spec.strategy.canary.steps[7].traffic", "index 7 out of range"),
        ("spec.strategy.canary.steps[-1].traffic", "invalid index '-1'"),
        ("metadata..name", "invalid path"),
        ("", "invalid path"),
    ] {
        let field = ("hash", ArgValue::Field(path.to_owned()));
        let text = build(&[("t", &open)], &[field]).unwrap_err().to_string();
        assert!(text.contains(words), "{path}: {text}");
    }
}

#[test]
fn metrics_of_several_templates_are_merged_and_collisions_refused() {
    let first = template(json!({"metrics": [asks("errors", "a")], "args": [{"name": "x"}]}));
    let second =
        template(json!({"metrics": [asks("latency", "b")], "args": [{"name": "x", "value": "1"}]}));
    let run = build(&[("one", &first), ("two", &second)], &[]).unwrap();
    assert_eq!(queries(&run), ["a", "b"]);

    let text = build(&[("one", &first), ("again", &first)], &[]).unwrap_err().to_string();
    assert_eq!(text, "template \"again\": metrics: two metrics have the same name 'errors'");

    let other =
        template(json!({"metrics": [asks("m", "c")], "args": [{"name": "x", "value": "2"}]}));
    let text = build(&[("two", &second), ("three", &other)], &[]).unwrap_err().to_string();
    assert!(text.contains("two templates give the argument 'x' different values"), "{text}");
    assert_eq!(build(&[], &[]).unwrap_err(), AnalysisError::NoTemplates);
}

#[test]
fn a_literal_brace_is_written_as_a_quoted_text_and_keys_are_filled_in_too() {
    let values: args::Args = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
    for (text, expected) in [
        ("{{ \"{{\" }}", "{{"),
        ("x {{\"{{pod}}\"}} y", "x {{pod}} y"),
        ("{{ '{{args.a}}' }} {{args.a}}", "{{args.a}} 1"),
        ("{{`{{\"q\"}}`}}", "{{\"q\"}}"),
        ("a }} b", "a }} b"),
        ("{{args.a}}{{ args.a }}", "11"),
    ] {
        assert_eq!(args::substitute(text, &values).as_deref(), Ok(expected), "{text}");
    }
    for (text, words) in [
        ("{{pod}}", "failed to resolve {{pod}}"),
        ("{{ \"pod }}", "failed to resolve"),
        ("{{args.b}}", "failed to resolve {{args.b}}"),
        ("{{args.a", "cannot find end tag \"}}\""),
    ] {
        let text = args::substitute(text, &values).unwrap_err().to_string();
        assert!(text.contains(words), "{text}");
    }
    let job = json!({"name": "m", "provider": {"job": {"spec": {"{{args.a}}-key": "{{args.a}}"}}}});
    let metric: Metric = serde_json::from_value(job).unwrap();
    let filled = serde_json::to_value(args::complete(&metric, &values).unwrap()).unwrap();
    assert_eq!(filled.pointer("/provider/job/spec/1-key"), Some(&json!("1")));
}

#[test]
fn rules_of_several_templates_collide_and_those_of_the_stanza_are_added() {
    let with = |field: &str, rule: Value, metric: &str| {
        template(json!({"metrics": [asks(metric, "x")], field: rule}))
    };
    for (field, rule) in [
        ("dryRun", json!([{"metricName": "m.*"}])),
        ("measurementRetention", json!([{"metricName": "m.*", "limit": 3}])),
        ("decide", json!({"atLeast": 1})),
    ] {
        let other = if field == "decide" { json!({"atLeast": 2}) } else { rule.clone() };
        let (one, two) = (with(field, rule, "m1"), with(field, other, "m2"));
        let text = build(&[("one", &one), ("two", &two)], &[]).unwrap_err().to_string();
        assert!(text.starts_with(&format!("template \"two\": {field}: two ")), "{text}");
    }
}

#[test]
fn nested_templates_are_flattened_once_each_and_a_cycle_ends() {
    let spec = |metric: &str, nested: &[(&str, bool)]| {
        let nested: Vec<_> = nested
            .iter()
            .map(|(name, cluster)| json!({"templateName": name, "clusterScope": cluster}))
            .collect();
        template(json!({"metrics": [asks(metric, "x")], "templates": nested}))
    };
    let templates = BTreeMap::from([
        (("a".to_owned(), false), spec("a", &[("b", true), ("c", false)])),
        (("b".to_owned(), true), spec("b", &[("c", false), ("a", false)])),
        (("c".to_owned(), false), spec("c", &[("c", false)])),
    ]);
    let lookup = |r: &TemplateRef| templates.get(&(r.name.clone(), r.cluster));
    let named = |name: &str| TemplateRef { name: name.to_owned(), cluster: false };
    let names: Vec<_> =
        flatten(&[named("a")], lookup).unwrap().into_iter().map(|t| t.name).collect();
    assert_eq!(names, ["a", "b", "c"]);
    let text = flatten(&[named("b")], lookup).unwrap_err().to_string();
    assert_eq!(text, "AnalysisTemplate \"b\" not found: create it, or correct analysis.templates");
}

#[test]
fn a_rule_that_matches_no_metric_is_refused_before_the_run_starts() {
    let rule = |name: &str| {
        template(json!({"metrics": [asks("errors", "x")], "dryRun": [{"metricName": name}]}))
    };
    assert!(build(&[("t", &rule("err"))], &[]).is_ok());
    for bad in ["latency", "*"] {
        assert!(build(&[("t", &rule(bad))], &[]).is_err(), "{bad}");
    }
}
