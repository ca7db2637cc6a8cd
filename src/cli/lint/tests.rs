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
    report
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
        "web.yaml#1 Rollout/web: error: {at}: Invalid value: \"0%\": {at} in body should match \
         '^([1-9][0-9]?|100)%$'; must be above 0; leave the step out to have no pod of the new \
         version; write a number such as 1, or 10%\n"
    );
    assert!(report.to_text().starts_with(&line), "{}", report.to_text());
    let json: Value = serde_json::from_str(&report.to_json()).unwrap();
    let finding = &json["objects"][0]["findings"][0];
    assert_eq!((finding["severity"].as_str(), finding["path"].as_str()), (Some("error"), Some(at)));
    assert_eq!(finding["value"], "\"0%\"");
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
