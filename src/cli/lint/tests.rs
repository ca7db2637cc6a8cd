use std::sync::LazyLock;

use super::*;

static LINTER: LazyLock<Linter> = LazyLock::new(Linter::default);

const GOOD: &str = r#"
apiVersion: sluice.dev/v1beta1
kind: Rollout
metadata: {name: web}
spec:
  workloadRef: {apiVersion: apps/v1, kind: Deployment, name: web}
  strategy: {canary: {steps: [{replicas: 10%}]}}
"#;

fn report(text: &str) -> Report {
    let mut report = Report::default();
    report.add(&LINTER, "web.yaml", text);
    report.finish();
    report
}

#[test]
fn templates_that_name_each_other_in_a_circle_are_named() {
    let template = |name: &str, next: &str| {
        format!(
            "apiVersion: sluice.dev/v1beta1\nkind: AnalysisTemplate\nmetadata: {{name: {name}}}\n\
             spec: {{templates: [{{templateName: {next}}}]}}\n---\n"
        )
    };
    let report = report(&format!("{}{}", template("a", "b"), template("b", "a")));
    assert_eq!(report.outcome(), Outcome::Clean, "it ends all the same");
    let lines = report.to_text();
    for line in
        ["web.yaml:4:35: warning: AnalysisTemplate/a", "web.yaml:9:35: warning: AnalysisTemplate/b"]
    {
        assert!(lines.contains(line), "{line}: {lines}");
    }
    let said = "spec.templates[0].templateName: leads back to this template";
    assert_eq!(lines.matches(said).count(), 2, "{lines}");
}

#[test]
fn a_step_that_waits_for_an_analysis_without_an_end_is_found_between_the_two() {
    let template = |count: &str| {
        format!(
            "\n---\napiVersion: sluice.dev/v1beta1\nkind: AnalysisTemplate\n\
             metadata: {{name: errors}}\n\
             spec: {{metrics: [{{name: errors, interval: 30s, {count}\
             failureCondition: 'result[0] > 1', \
             provider: {{prometheus: {{query: sum(x)}}}}}}]}}\n"
        )
    };
    let asks = "analysis: {templates: [{templateName: errors}]}";
    let with = |step: &str, count: &str| {
        let steps = GOOD.replace("replicas: 10%", &format!("replicas: 10%, {step}"));
        report(&format!("{steps}{}", template(count)))
    };
    let found = with(asks, "");
    assert_eq!(found.outcome(), Outcome::Wrong);
    let at = "spec.strategy.canary.steps[0].analysis.templates[0].templateName";
    let words = format!(
        "error: Rollout/web (document 1): {at}: the step would never end: its metric \"errors\" \
         has no count;"
    );
    assert!(found.to_text().contains(&words), "{}", found.to_text());
    for (step, count) in [
        (asks.to_owned(), "count: 5, "),
        (asks.replace("]}", "], timeout: 1h}"), ""),
        (format!("{asks}, timeout: 1h"), ""),
    ] {
        assert_eq!(
            with(&step, count).outcome(),
            Outcome::Clean,
            "{step}: {}",
            with(&step, count).to_text()
        );
    }
}

#[test]
fn an_endless_metric_is_found_in_a_nested_template_and_under_any_rule_but_not_beside_what_decides()
{
    let template = |name: &str, spec: Value| {
        let object = serde_json::json!({"apiVersion": "sluice.dev/v1beta1",
            "kind": "AnalysisTemplate", "metadata": {"name": name}, "spec": spec});
        format!("\n---\n{object}")
    };
    let metric = |name: &str, count: Option<i32>| {
        let count = count.map_or(Value::Null, Value::from);
        serde_json::json!({"name": name, "interval": "30s", "count": count,
            "failureCondition": "result[0] > 1", "provider": {"prometheus": {"query": "sum(x)"}}})
    };
    let trial = serde_json::json!([{"metricName": "trial"}]);
    let outer = serde_json::json!({"templates": [{"templateName": "inner"}]});
    let with = |outer: &Value, inner: Value, stanza: &str| {
        let asks =
            format!("replicas: 10%, analysis: {{templates: [{{templateName: outer}}]{stanza}}}");
        let rollout = GOOD.replace("replicas: 10%", &asks);
        let found = report(&format!(
            "{rollout}{}{}",
            template("outer", outer.clone()),
            template("inner", inner)
        ));
        found.to_text().matches("the step would never end: its metric \"trial\"").count()
    };
    let both = |count| serde_json::json!([metric("errors", Some(5)), metric("trial", count)]);
    let inner = |metrics: Value, more: Value| {
        let mut spec = serde_json::json!({"metrics": metrics});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    let plain = serde_json::json!({});
    let rule = serde_json::json!({"decide": {"atLeast": 1}});
    let dry = serde_json::json!({"dryRun": trial});
    let by_caller = ", dryRun: [{metricName: trial}]";
    for (metrics, more, stanza, expected) in [
        (both(None), &plain, "", 1),
        (both(Some(5)), &plain, "", 0),
        (both(None), &rule, "", 1),
        (both(None), &dry, "", 0),
        (both(None), &plain, by_caller, 0),
        (serde_json::json!([metric("trial", None)]), &dry, "", 1),
    ] {
        let found = with(&outer, inner(metrics.clone(), more.clone()), stanza);
        assert_eq!(found, expected, "{metrics} {more} {stanza}");
    }
}

#[test]
fn a_good_manifest_is_clean_and_the_exit_code_is_0() {
    let report = report(GOOD);
    assert_eq!(report.outcome(), Outcome::Clean);
    assert_eq!(report.outcome().exit_code(), 0);
    assert_eq!(report.to_text(), "1 objects, 0 errors, 0 warnings; 0 of other kinds\n");
}

#[test]
fn a_mistake_is_a_line_with_source_object_path_words_and_remedy() {
    let report = report(&GOOD.replace("10%", "0%"));
    assert_eq!(report.outcome(), Outcome::Wrong);
    assert_eq!(report.outcome().exit_code(), 1);
    let at = "spec.strategy.canary.steps[0].replicas";
    let line = format!(
        "web.yaml:7:42: error: Rollout/web (document 1): {at}: Invalid value: \"0%\": {at} in body should match \
         '^([1-9][0-9]?|100)%$'; must be above 0; leave the step out to have no pod of the new \
         version; write a number such as 1, or 10%\n"
    );
    assert!(report.to_text().starts_with(&line), "{}", report.to_text());
    let json: Value = serde_json::from_str(&report.to_json()).unwrap();
    let finding = &json["objects"][0]["findings"][0];
    assert_eq!((finding["severity"].as_str(), finding["path"].as_str()), (Some("error"), Some(at)));
    assert_eq!(finding["value"], "\"0%\"");
    assert_eq!((finding["rule"].as_str(), finding["line"].as_u64()), (Some("schema"), Some(7)));
}

#[test]
fn every_document_and_every_item_of_a_list_is_looked_at() {
    let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "sluice.dev/v1beta1", "kind": "Rollout", "metadata": {"name": "b"}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}},
    ]});
    let report = report(&format!("{GOOD}\n---\n{list}\n"));
    let names: Vec<_> = report.objects.iter().map(|o| (o.document, o.name.as_str())).collect();
    assert_eq!(names, [(1, "web"), (2, "b")]);
    assert_eq!(report.others, 1);
    assert_eq!(report.objects[1].findings[0].message, "Required value");
}

#[test]
fn nothing_of_ours_is_an_outcome_of_its_own() {
    let report = report("{apiVersion: v1, kind: Service, metadata: {name: web}}");
    assert_eq!((report.outcome(), report.outcome().exit_code()), (Outcome::Nothing, 2));
}

#[test]
fn a_manifest_of_a_peer_is_told_what_to_change() {
    let report = report(&GOOD.replace("sluice.dev", "rollouts.kruise.io"));
    let finding = &report.objects[0].findings[0];
    assert_eq!(finding.path, "apiVersion");
    assert!(finding.message.ends_with("write sluice.dev/v1beta1"), "{}", finding.message);
}

#[test]
fn an_unknown_kind_or_version_of_ours_is_an_error() {
    for (from, to, path) in
        [("kind: Rollout", "kind: Rolout", "kind"), ("v1beta1", "v1", "apiVersion")]
    {
        let report = report(&GOOD.replace(from, to));
        assert_eq!(report.objects[0].findings[0].path, path);
        assert_eq!(report.outcome(), Outcome::Wrong);
    }
}

#[test]
fn what_is_no_yaml_is_an_error() {
    let report = report("a: [");
    assert_eq!(report.outcome(), Outcome::Wrong);
    assert!(report.objects[0].findings[0].message.starts_with("is no YAML"));
}

#[test]
fn a_warning_alone_is_clean() {
    let report = report(
        r#"
apiVersion: sluice.dev/v1beta1
kind: AnalysisTemplate
metadata: {name: t}
spec:
  metrics:
  - {name: m, provider: {prometheus: {address: "http://p:9090", query: sum(up)}}}
"#,
    );
    assert_eq!(report.objects[0].findings[0].severity, Severity::Warning);
    assert_eq!(report.outcome(), Outcome::Clean);
}

/// Where the first finding of the first object stands, and its path.
fn place(text: &str) -> (String, u64, u64) {
    let report = report(text);
    let finding = &report.objects.iter().find(|o| !o.findings.is_empty()).unwrap().findings[0];
    (finding.path.clone(), finding.place.line, finding.place.column)
}

#[test]
fn a_finding_stands_where_its_field_stands() {
    let template = |metric: &str| {
        format!(
            "# a comment\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: x}}\n---\n\
             apiVersion: sluice.dev/v1beta1\nkind: AnalysisTemplate\nmetadata:\n  name: t\n\
             spec:\n  metrics:\n  - name: m\n{metric}\n"
        )
    };
    let provider = "    provider:\n      prometheus:\n        query: |\n          sum(up\n";
    let metric = "spec.metrics[0]";
    for (text, path, line, column) in [
        (template(provider), format!("{metric}.provider.prometheus.query"), 16, 11),
        (
            template("    colour: red\n    provider: {prometheus: {query: sum(up)}}"),
            format!("{metric}.colour"),
            13,
            13,
        ),
        (
            template("    failureLimit: -2\n    provider: {prometheus: {query: sum(up)}}"),
            format!("{metric}.failureLimit"),
            13,
            19,
        ),
        // What is missing stands at what is around it.
        (template(""), metric.to_owned(), 12, 5),
        // A field with fields in it stands at its name.
        (
            template("    colour: {red: 1}\n    provider: {prometheus: {query: sum(up)}}"),
            format!("{metric}.colour"),
            13,
            5,
        ),
    ] {
        let (found, at_line, at_column) = place(&text);
        assert_eq!((found.as_str(), at_line, at_column), (path.as_str(), line, column), "{text}");
    }
}

#[test]
fn what_is_no_yaml_has_a_place_too() {
    let report = report("a: 1\nb: [1,\nc: {");
    let finding = &report.objects[0].findings[0];
    assert_eq!(finding.rule, Rule::Yaml);
    assert!(finding.place.line >= 2, "{finding:?}");
    assert!(!finding.message.contains('\n'), "{}", finding.message);
}

#[test]
fn sarif_has_what_its_schema_requires() {
    let wrong = format!("{}\n---\na: [", GOOD.replace("10%", "0%"));
    let mut report = report(&wrong);
    report.add(&LINTER, "a b/web.yaml", &GOOD.replace("10%", "0%"));
    report.add(&LINTER, "-", &GOOD.replace("10%", "0%"));
    let log: Value = serde_json::from_str(&report.to_sarif()).unwrap();
    assert_eq!(log["version"], "2.1.0");
    assert!(log["$schema"].as_str().unwrap().ends_with("sarif-schema-2.1.0.json"));
    let run = &log["runs"][0];
    assert_eq!(run["tool"]["driver"]["name"], "sluice");
    assert_eq!(run["columnKind"], "unicodeCodePoints");
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    let results = run["results"].as_array().unwrap();
    assert_eq!(results.len(), report.objects.iter().map(|o| o.findings.len()).sum::<usize>());
    assert!(results.len() >= 3);
    for result in results {
        let rule = result["ruleIndex"].as_u64().and_then(|i| rules.get(i as usize)).unwrap();
        assert_eq!(rule["id"], result["ruleId"]);
        assert!(["none", "note", "warning", "error"].contains(&result["level"].as_str().unwrap()));
        assert!(!result["message"]["text"].as_str().unwrap().is_empty());
        let place = &result["locations"][0]["physicalLocation"];
        assert!(!place["artifactLocation"]["uri"].as_str().unwrap().contains(' '));
        assert!(place["region"]["startLine"].as_u64().unwrap() >= 1);
        assert!(place["region"]["startColumn"].as_u64().unwrap() >= 1);
        assert!(result["properties"]["document"].as_u64().unwrap() >= 1);
    }
    let uris: Vec<_> = results
        .iter()
        .map(|r| r["locations"][0]["physicalLocation"]["artifactLocation"]["uri"].as_str().unwrap())
        .collect();
    assert!(uris.contains(&"a%20b/web.yaml") && uris.contains(&"stdin"), "{uris:?}");
}

#[test]
fn a_template_of_argos_is_looked_at_as_ours_and_the_note_says_what_to_write() {
    let text = |query: &str| {
        format!(
            "apiVersion: argoproj.io/v1alpha1\nkind: AnalysisTemplate\nmetadata: {{name: a}}\n\
             spec:\n  metrics:\n  - name: errors\n    successCondition: result[0] < 1\n    \
             provider: {{prometheus: {{query: \"{query}\"}}}}\n"
        )
    };
    let good = report(&text("sum(x)"));
    assert_eq!(good.outcome(), Outcome::Clean);
    let lines = good.to_text();
    let note = "web.yaml:1:13: warning: AnalysisTemplate/a (document 1): apiVersion: is Argo's, and \
                works here as sluice.dev/v1beta1";
    assert!(lines.contains(note), "{lines}");
    let bad = report(&text("sum(x"));
    assert_eq!(bad.outcome(), Outcome::Wrong);
    assert!(bad.to_text().contains("spec.metrics[0].provider.prometheus.query"), "{bad:?}");
}
